/*
** lsign.c: native "tidemill.sign"
**
** Whatever C allocates sits in the scratch userdata at a call's stack top, so an error
** raised anywhere leaves it to the collector.
*/
#include "bind/lsign.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "driver/crc64.h"
#include "driver/digest.h"
#include "oss/encode.h"
#include "oss/sign.h"

#define SCRATCH "tidemill.sign.scratch"

struct scratch {
  struct tm_signature signature;
  struct tm_buffer buffer;
};

static int scratch_gc(lua_State *L)
{
  struct scratch *s = luaL_checkudata(L, 1, SCRATCH);
  tm_signature_free(&s->signature);
  tm_buffer_free(&s->buffer);
  return 0;
}

static struct scratch *new_scratch(lua_State *L)
{
  struct scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  luaL_setmetatable(L, SCRATCH);
  return s;
}

static int no_memory(lua_State *L)
{
  struct tm_error err;
  tm_error_set(&err, TM_EMEMORY, "out of memory");
  return tm_lua_raise(L, &err);
}

/* The field's text; the table keeps it alive. */
static const char *text_field(lua_State *L, int table, const char *name)
{
  lua_getfield(L, table, name);
  if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
    luaL_error(L, "field '%s' must be a string", name);
  const char *text = lua_tostring(L, -1);
  lua_pop(L, 1);
  return text;
}

static int64_t integer_field(lua_State *L, int table, const char *name)
{
  lua_getfield(L, table, name);
  lua_Integer n = luaL_optinteger(L, -1, 0);
  lua_pop(L, 1);
  return n;
}

/* An array of {name, value}; leaves one userdata on the stack that holds the pairs. */
static struct tm_pair *pairs_field(lua_State *L, int table, const char *name,
                                   size_t *count)
{
  lua_getfield(L, table, name);
  *count = lua_istable(L, -1) ? (size_t)luaL_len(L, -1) : 0;
  struct tm_pair *pairs = lua_newuserdatauv(L, (*count + 1) * sizeof *pairs, 0);
  for (size_t i = 0; i < *count; i++) {
    lua_rawgeti(L, -2, (lua_Integer)i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    pairs[i] = (struct tm_pair){luaL_checkstring(L, -2), lua_tostring(L, -1)};
    lua_pop(L, 3);
  }
  lua_remove(L, -2);
  return pairs;
}

static enum tm_sign_scheme scheme_field(lua_State *L, int table)
{
  static const char *const names[] = {"none", "oss-v1", "oss-v4", "s3-v4", NULL};
  lua_getfield(L, table, "scheme");
  int scheme = luaL_checkoption(L, -1, NULL, names);
  lua_pop(L, 1);
  return (enum tm_sign_scheme)scheme;
}

/* Pushes two userdata that the request points into. */
static struct tm_sign_request request_at(lua_State *L, int table)
{
  luaL_checktype(L, table, LUA_TTABLE);
  struct tm_sign_request r = {
      .scheme = scheme_field(L, table),
      .method = text_field(L, table, "method"),
      .bucket = text_field(L, table, "bucket"),
      .key = text_field(L, table, "key"),
      .path = text_field(L, table, "path"),
      .region = text_field(L, table, "region"),
      .additional_headers = text_field(L, table, "additional_headers"),
      .signed_headers = text_field(L, table, "signed_headers"),
      .payload_hash = text_field(L, table, "payload_hash"),
      .time = integer_field(L, table, "time"),
      .expires = integer_field(L, table, "expires"),
      .access_key_id = text_field(L, table, "access_key_id"),
      .access_key_secret = text_field(L, table, "access_key_secret"),
      .security_token = text_field(L, table, "security_token"),
  };
  r.query = pairs_field(L, table, "query", &r.query_count);
  r.headers = pairs_field(L, table, "headers", &r.header_count);
  return r;
}

static void set_buffer(lua_State *L, const char *name, const struct tm_buffer *b)
{
  lua_pushlstring(L, b->data, b->len);
  lua_setfield(L, -2, name);
}

static int sign_sign(lua_State *L)
{
  struct tm_error err;
  struct tm_sign_request r = request_at(L, 1);
  struct scratch *s = new_scratch(L);
  if (!tm_sign(&r, &s->signature, &err))
    return tm_lua_raise(L, &err);
  lua_createtable(L, 0, 4);
  set_buffer(L, "canonical_request", &s->signature.canonical_request);
  set_buffer(L, "string_to_sign", &s->signature.string_to_sign);
  set_buffer(L, "signature", &s->signature.value);
  set_buffer(L, "authorization", &s->signature.authorization);
  return 1;
}

static int push_scratch(lua_State *L, const struct scratch *s, bool ok)
{
  if (!ok)
    return no_memory(L);
  lua_pushlstring(L, s->buffer.data, s->buffer.len);
  return 1;
}

static int sign_presign(lua_State *L)
{
  struct tm_error err;
  struct tm_sign_request r = request_at(L, 1);
  struct scratch *s = new_scratch(L);
  if (!tm_presign(&r, &s->buffer, &err))
    return tm_lua_raise(L, &err);
  return push_scratch(L, s, true);
}

static int sign_chunk(lua_State *L)
{
  struct tm_error err;
  struct tm_sign_key key;
  luaL_checktype(L, 1, LUA_TTABLE);
  struct tm_sign_chunk chunk = {.key = &key,
                                .time = integer_field(L, 1, "time"),
                                .region = text_field(L, 1, "region"),
                                .previous = text_field(L, 1, "previous"),
                                .data_sha256 = text_field(L, 1, "data_sha256")};
  const char *secret = text_field(L, 1, "secret");
  lua_getfield(L, 1, "trailer");
  chunk.trailer = lua_toboolean(L, -1);
  if (secret == NULL || chunk.region == NULL || chunk.previous == NULL ||
      chunk.data_sha256 == NULL)
    return luaL_argerror(L, 1, "secret, region, previous and data_sha256 are needed");
  struct scratch *s = new_scratch(L);
  char signature[65];
  if (!tm_sign_derive(TM_SIGN_S3_V4, secret, chunk.time, chunk.region, &key, &err) ||
      !tm_sign_chunk(&chunk, &s->buffer, signature, &err))
    return tm_lua_raise(L, &err);
  lua_pushstring(L, signature);
  return 1 + push_scratch(L, s, true);
}

static int sign_encode(lua_State *L)
{
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  struct scratch *s = new_scratch(L);
  return push_scratch(L, s, tm_encode(&s->buffer, text, n));
}

static int sign_encode_path(lua_State *L)
{
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  struct scratch *s = new_scratch(L);
  return push_scratch(L, s, tm_encode_path(&s->buffer, text, n));
}

static int sign_decode(lua_State *L)
{
  size_t n;
  struct tm_error err;
  const char *text = luaL_checklstring(L, 1, &n);
  struct scratch *s = new_scratch(L);
  if (!tm_decode(&s->buffer, text, n, &err))
    return tm_lua_raise(L, &err);
  return push_scratch(L, s, true);
}

static int push_date(lua_State *L, void (*write)(int64_t, char *))
{
  char date[TM_DATE_SIZE];
  write(luaL_checkinteger(L, 1), date);
  lua_pushstring(L, date);
  return 1;
}

static int sign_date_rfc1123(lua_State *L)
{
  return push_date(L, tm_date_rfc1123);
}

static int sign_date_iso_basic(lua_State *L)
{
  return push_date(L, tm_date_iso_basic);
}

static int sign_date_iso(lua_State *L)
{
  return push_date(L, tm_date_iso);
}

static int push_time(lua_State *L, bool (*parse)(const char *, int64_t *))
{
  int64_t time;
  if (parse(luaL_checkstring(L, 1), &time))
    lua_pushinteger(L, time);
  else
    lua_pushnil(L);
  return 1;
}

static int sign_parse_rfc1123(lua_State *L)
{
  return push_time(L, tm_date_parse_rfc1123);
}

static int sign_parse_iso_basic(lua_State *L)
{
  return push_time(L, tm_date_parse_iso_basic);
}

static int push_digest(lua_State *L, enum tm_digest_kind kind)
{
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  unsigned char digest[TM_DIGEST_MAX];
  char hex[2 * TM_DIGEST_MAX + 1];
  if (!tm_digest(kind, bytes, n, digest))
    return no_memory(L);
  tm_hex(digest, tm_digest_size(kind), hex);
  lua_pushstring(L, hex);
  return 1;
}

static int sign_sha256(lua_State *L)
{
  return push_digest(L, TM_SHA256);
}

static int sign_md5(lua_State *L)
{
  return push_digest(L, TM_MD5);
}

/* hmac_sha256(key, text) -> 32 bytes */
static int sign_hmac_sha256(lua_State *L)
{
  size_t key_len, n;
  const char *key = luaL_checklstring(L, 1, &key_len);
  const char *bytes = luaL_checklstring(L, 2, &n);
  unsigned char digest[TM_DIGEST_MAX];
  if (!tm_hmac(TM_SHA256, key, key_len, bytes, n, digest))
    return no_memory(L);
  lua_pushlstring(L, (const char *)digest, tm_digest_size(TM_SHA256));
  return 1;
}

static int sign_base64(lua_State *L)
{
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  struct scratch *s = new_scratch(L);
  return push_scratch(L, s, tm_base64(bytes, n, &s->buffer));
}

static int sign_unbase64(lua_State *L)
{
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  struct scratch *s = new_scratch(L);
  luaL_argcheck(L, tm_unbase64(text, n, &s->buffer), 1, "not base64");
  return push_scratch(L, s, true);
}

static uint64_t check_crc(lua_State *L, int arg)
{
  return strtoull(luaL_optstring(L, arg, "0"), NULL, 10);
}

static int push_crc(lua_State *L, uint64_t crc)
{
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, crc);
  lua_pushstring(L, text);
  return 1;
}

static int sign_crc64(lua_State *L)
{
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  return push_crc(L, tm_crc64(check_crc(L, 2), bytes, n));
}

static int sign_crc64_table(lua_State *L)
{
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  return push_crc(L, tm_crc64_table(check_crc(L, 2), bytes, n));
}

static int sign_crc64_combine(lua_State *L)
{
  uint64_t bytes = (uint64_t)luaL_checkinteger(L, 3);
  return push_crc(L, tm_crc64_combine(check_crc(L, 1), check_crc(L, 2), bytes));
}

static const luaL_Reg module[] = {{"sign", sign_sign},
                                  {"presign", sign_presign},
                                  {"chunk", sign_chunk},
                                  {"encode", sign_encode},
                                  {"encode_path", sign_encode_path},
                                  {"decode", sign_decode},
                                  {"date_rfc1123", sign_date_rfc1123},
                                  {"date_iso_basic", sign_date_iso_basic},
                                  {"date_iso", sign_date_iso},
                                  {"parse_rfc1123", sign_parse_rfc1123},
                                  {"parse_iso_basic", sign_parse_iso_basic},
                                  {"sha256", sign_sha256},
                                  {"md5", sign_md5},
                                  {"hmac_sha256", sign_hmac_sha256},
                                  {"base64", sign_base64},
                                  {"unbase64", sign_unbase64},
                                  {"crc64", sign_crc64},
                                  {"crc64_table", sign_crc64_table},
                                  {"crc64_combine", sign_crc64_combine},
                                  {NULL, NULL}};

int luaopen_tidemill_sign(lua_State *L)
{
  luaL_newmetatable(L, SCRATCH);
  lua_pushcfunction(L, scratch_gc);
  lua_setfield(L, -2, "__gc");
  luaL_newlib(L, module);
  return 1;
}
