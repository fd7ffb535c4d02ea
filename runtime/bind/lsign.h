/*
** lsign.h: native "tidemill.sign", the signing and checksum functions for tests and tools
**
**   sign(request)    -> {canonical_request, string_to_sign, signature, authorization}
**   presign(request) -> the query string of the URL
**   chunk{secret, time, region, previous, data_sha256, trailer} -> signature, string_to_sign
**   encode(s), encode_path(s), decode(s) -> string
**   date_rfc1123(t), date_iso_basic(t), date_iso(t) -> string, t in seconds since 1970 UTC
**   parse_rfc1123(s), parse_iso_basic(s) -> integer, or nil
**   sha256(s), md5(s) -> lower-case hex; base64(s), unbase64(s) -> string
**   crc64(s [, crc]), crc64_table(s [, crc]), crc64_combine(a, b, b_bytes)
**                    -> unsigned decimal text, the form OSS sends
**
** `request` has scheme ("oss-v1", "oss-v4", "s3-v4"), method, bucket, key, path, region,
** query and headers as arrays of {name, value} (value absent: no '='), additional_headers,
** signed_headers, payload_hash, time, expires, access_key_id, access_key_secret,
** security_token.
*/
#ifndef TM_BIND_LSIGN_H
#define TM_BIND_LSIGN_H

#include <lua.h>

int luaopen_tidemill_sign(lua_State *L);

#endif
