/*
** loss_multipart.c: multipart uploads by hand, for scripts that need them
*/
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/loss_impl.h"

#define UPLOADS "tidemill.oss.uploads"

struct lists { /* freed by the collector */
  struct tm_oss_parts parts;
  struct tm_oss_uploads uploads;
  char *id;
};

static int lists_gc(lua_State *L)
{
  struct lists *l = lua_touserdata(L, 1);
  tm_oss_parts_free(&l->parts);
  tm_oss_uploads_free(&l->uploads);
  free(l->id);
  l->id = NULL;
  return 0;
}

static struct lists *new_lists(lua_State *L)
{
  struct lists *l = lua_newuserdatauv(L, sizeof *l, 0);
  memset(l, 0, sizeof *l);
  if (luaL_newmetatable(L, UPLOADS)) {
    lua_pushcfunction(L, lists_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return l;
}

/* create_multipart(key [, opts]) -> upload id */
int tm_lua_store_multipart_create(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2);
  struct tm_oss_put_opts opts;
  struct tm_error err;
  lua_settop(L, 3);
  tm_lua_put_opts(L, 3, &opts);
  struct lists *l = new_lists(L);
  if (!tm_oss_multipart_create(oss, key, &opts, &l->id, NULL, &err))
    return tm_lua_raise(L, &err);
  lua_pushstring(L, l->id);
  return 1;
}

static void push_part(lua_State *L, const struct tm_oss_part *p)
{
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, p->number);
  lua_setfield(L, -2, "number");
  lua_pushstring(L, p->etag);
  lua_setfield(L, -2, "etag");
  lua_pushinteger(L, p->size);
  lua_setfield(L, -2, "size");
  if (p->has_crc64) {
    tm_lua_pushu64(L, p->crc64);
    lua_setfield(L, -2, "crc64");
  }
}

/* upload_part(key, upload_id, number, bytes) -> part */
int tm_lua_store_multipart_part(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2), *id = luaL_checkstring(L, 3);
  lua_Integer number = luaL_checkinteger(L, 4);
  size_t n;
  const char *bytes = luaL_checklstring(L, 5, &n);
  struct tm_oss_part part = {0};
  struct tm_error err;
  luaL_argcheck(L, number >= 1 && number <= 10000, 4, "part numbers are 1 to 10000");
  if (!tm_oss_multipart_part(oss, key, id, (int)number, bytes, n, &part, NULL, &err))
    return tm_lua_raise(L, &err);
  push_part(L, &part);
  return 1;
}

/* Reads the array of parts at `index` into a userdata that it pushes. */
static struct tm_oss_part *read_parts(lua_State *L, int index, size_t *count)
{
  luaL_checktype(L, index, LUA_TTABLE);
  size_t n = lua_rawlen(L, index);
  luaL_argcheck(L, n >= 1 && n <= 10000, index, "1 to 10000 parts are needed");
  struct tm_oss_part *parts = lua_newuserdatauv(L, n * sizeof *parts, 0);
  memset(parts, 0, n * sizeof *parts);
  for (size_t i = 0; i < n; i++) {
    if (lua_rawgeti(L, index, (lua_Integer)i + 1) != LUA_TTABLE)
      luaL_argerror(L, index, "a part is a table, as upload_part returned it");
    int part = lua_gettop(L);
    const char *etag = tm_lua_opt_text(L, part, "etag");
    lua_Integer number = tm_lua_opt_count(L, part, "number");
    if (etag == NULL || number < 1 || number > 10000)
      luaL_argerror(L, index, "a part needs its number and etag");
    parts[i].number = (int)number;
    strncpy(parts[i].etag, etag, sizeof parts[i].etag - 1);
    parts[i].size = tm_lua_opt_count(L, part, "size");
    parts[i].has_crc64 = tm_lua_opt_u64(L, part, "crc64", &parts[i].crc64);
    lua_pop(L, 1);
  }
  *count = n;
  return parts;
}

/* complete_multipart(key, upload_id, parts [, opts]) -> {size, etag, crc64} */
int tm_lua_store_multipart_complete(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2), *id = luaL_checkstring(L, 3);
  bool create_only = tm_lua_opt_flag(L, 5, "create_only");
  size_t count;
  struct tm_oss_part *parts = read_parts(L, 4, &count);
  struct tm_oss_info info;
  struct tm_error err;
  if (!tm_oss_multipart_complete(oss, key, id, parts, count, create_only, &info, NULL,
                                 &err))
    return tm_lua_raise(L, &err);
  tm_oss_info_free(&info); /* no metadata comes with it */
  lua_createtable(L, 0, 4);
  lua_pushstring(L, key);
  lua_setfield(L, -2, "key");
  lua_pushinteger(L, info.size);
  lua_setfield(L, -2, "size");
  lua_pushstring(L, info.etag);
  lua_setfield(L, -2, "etag");
  if (info.has_crc64) {
    tm_lua_pushu64(L, info.crc64);
    lua_setfield(L, -2, "crc64");
  }
  return 1;
}

int tm_lua_store_multipart_abort(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  struct tm_error err;
  if (!tm_oss_multipart_abort(oss, tm_lua_checkkey(L, 2), luaL_checkstring(L, 3), false,
                              &err))
    return tm_lua_raise(L, &err);
  return 0;
}

int tm_lua_store_multipart_parts(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2), *id = luaL_checkstring(L, 3);
  struct tm_error err;
  struct lists *l = new_lists(L);
  if (!tm_oss_multipart_parts(oss, key, id, &l->parts, NULL, &err))
    return tm_lua_raise(L, &err);
  lua_createtable(L, (int)l->parts.count, 0);
  for (size_t i = 0; i < l->parts.count; i++) {
    push_part(L, &l->parts.items[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

int tm_lua_store_multipart_uploads(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *prefix = luaL_optstring(L, 2, NULL);
  struct tm_error err;
  struct lists *l = new_lists(L);
  if (!tm_oss_multipart_uploads(oss, prefix, &l->uploads, NULL, &err))
    return tm_lua_raise(L, &err);
  lua_createtable(L, (int)l->uploads.count, 0);
  for (size_t i = 0; i < l->uploads.count; i++) {
    const struct tm_oss_upload *u = &l->uploads.items[i];
    lua_createtable(L, 0, 3);
    lua_pushstring(L, u->key);
    lua_setfield(L, -2, "key");
    lua_pushstring(L, u->upload_id);
    lua_setfield(L, -2, "upload_id");
    lua_pushinteger(L, u->started_ms);
    lua_setfield(L, -2, "started_ms");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}
