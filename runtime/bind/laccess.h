/*
** laccess.h: native "tidemill.access", how a database is told to reach a store itself
**
**   of(store) -> { protocol = "oss"|"s3", bucket, prefix, endpoint = "https://host[:port]",
**                  region (absent: unknown), addressing = "virtual"|"path"|"cname",
**                  signature = "v4"|"v1"|"none", id, secret, token (absent: not signed, no token) }
**
** `secret` and `token` must reach no log, error or state. Raises what finding keys raises, and
** kind "usage" for a directory.
*/
#ifndef TM_BIND_LACCESS_H
#define TM_BIND_LACCESS_H

#include <lua.h>

int luaopen_tidemill_access(lua_State *L);

#endif
