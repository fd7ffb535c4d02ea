/*
** loss.c: the Lua module "oss": stores and their plain operations
**
** What an operation returns is owned by a "result" userdata at the stack until it was
** turned into Lua values, so an error raised meanwhile leaks nothing. A stream keeps its
** store alive; a store closed by hand ends when its last stream is collected.
*/
#include "bind/loss.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/loss_impl.h"

#define STORE "tidemill.oss.store"
#define RESULT "tidemill.oss.result"

/* ---- arguments ---- */

struct tm_oss *tm_lua_checkstore(lua_State *L, int index)
{
  struct tm_lua_store *s = luaL_checkudata(L, index, STORE);
  if (s->oss == NULL || s->closed)
    luaL_argerror(L, index, "the store is closed");
  return s->oss;
}

const char *tm_lua_checkkey(lua_State *L, int index)
{
  size_t n;
  const char *key = luaL_checklstring(L, index, &n);
  luaL_argcheck(L, strlen(key) == n, index, "a key cannot hold a zero byte");
  return key;
}

static int bad_field(lua_State *L, const char *field, const char *wanted)
{
  struct tm_error err;
  tm_error_set(&err, TM_EUSAGE, "option '%s' must be %s, not %s", field, wanted,
               luaL_typename(L, -1));
  return tm_lua_raise(L, &err);
}

/* Pushes the field, or nil when there is no table. */
static int push_field(lua_State *L, int table, const char *field)
{
  if (table != 0 && lua_istable(L, table))
    return lua_getfield(L, table, field);
  lua_pushnil(L);
  return LUA_TNIL;
}

const char *tm_lua_opt_text(lua_State *L, int table, const char *field)
{
  int type = push_field(L, table, field);
  if (type != LUA_TNIL && type != LUA_TSTRING)
    bad_field(L, field, "text");
  const char *text = lua_tostring(L, -1);
  if (text != NULL && strlen(text) != lua_rawlen(L, -1))
    bad_field(L, field, "text without zero bytes");
  lua_pop(L, 1); /* the table keeps it */
  return text;
}

lua_Integer tm_lua_opt_count(lua_State *L, int table, const char *field)
{
  int ok = 1;
  lua_Integer n =
      push_field(L, table, field) == LUA_TNIL ? 0 : lua_tointegerx(L, -1, &ok);
  if (!ok || n < 0)
    bad_field(L, field, "a whole number of at least 0");
  lua_pop(L, 1);
  return n;
}

/* Seconds, fractions allowed, as milliseconds. */
static int opt_seconds(lua_State *L, int table, const char *field)
{
  int ok = 1;
  lua_Number n = push_field(L, table, field) == LUA_TNIL ? 0 : lua_tonumberx(L, -1, &ok);
  if (!ok || !(n >= 0 && n <= 1e6))
    bad_field(L, field, "a number of seconds");
  lua_pop(L, 1);
  return (int)(n * 1000);
}

bool tm_lua_opt_flag(lua_State *L, int table, const char *field)
{
  push_field(L, table, field);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

bool tm_lua_opt_u64(lua_State *L, int table, const char *field, uint64_t *out)
{
  int type = push_field(L, table, field);
  char *end = NULL;
  if (type == LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  const char *text = type == LUA_TSTRING ? lua_tostring(L, -1) : "";
  bool digits = text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
  if (digits && strlen(text) <= 20)
    *out = strtoull(text, &end, 10);
  if (end == NULL)
    bad_field(L, field, "a decimal number written as text");
  lua_pop(L, 1);
  return true;
}

/* Pushes a userdata that holds the metadata of the table at the stack's top. */
static void read_meta(lua_State *L, struct tm_oss_put_opts *out)
{
  size_t n = 0;
  int table = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
      bad_field(L, "metadata", "a table of names and text");
    n++;
  }
  struct tm_oss_meta *meta = lua_newuserdatauv(L, (n + 1) * sizeof *meta, 1);
  lua_pushvalue(L, table); /* keeps the strings */
  lua_setiuservalue(L, -2, 1);
  size_t i = 0;
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    meta[i].name = (char *)lua_tostring(L, -2);
    meta[i++].value = (char *)lua_tostring(L, -1);
  }
  out->meta = meta;
  out->meta_count = n;
}

void tm_lua_put_opts(lua_State *L, int table, struct tm_oss_put_opts *out)
{
  *out = (struct tm_oss_put_opts){0};
  out->content_type = tm_lua_opt_text(L, table, "content_type");
  out->create_only = tm_lua_opt_flag(L, table, "create_only");
  int type = push_field(L, table, "metadata");
  if (type == LUA_TNIL)
    return;
  if (type != LUA_TTABLE)
    bad_field(L, "metadata", "a table");
  read_meta(L, out);
  lua_remove(L, -2);
}

/* ---- results ---- */

struct result {
  struct tm_oss_info info;
  struct tm_oss_page page;
  struct tm_oss_failures failures;
  struct tm_buffer bytes;
};

static int result_gc(lua_State *L)
{
  struct result *r = luaL_checkudata(L, 1, RESULT);
  tm_oss_info_free(&r->info);
  tm_oss_page_free(&r->page);
  tm_oss_failures_free(&r->failures);
  tm_buffer_free(&r->bytes);
  return 0;
}

static struct result *new_result(lua_State *L)
{
  struct result *r = lua_newuserdatauv(L, sizeof *r, 0);
  memset(r, 0, sizeof *r);
  luaL_setmetatable(L, RESULT);
  return r;
}

static void set_text(lua_State *L, const char *field, const char *text)
{
  if (text[0] == '\0')
    return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

static void set_integer(lua_State *L, const char *field, int64_t v)
{
  lua_pushinteger(L, v);
  lua_setfield(L, -2, field);
}

void tm_lua_pushu64(lua_State *L, uint64_t v)
{
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, v);
  lua_pushstring(L, text);
}

static void push_info(lua_State *L, const char *key, const struct tm_oss_info *info)
{
  lua_createtable(L, 0, 8);
  set_text(L, "key", key);
  if (info->size >= 0)
    set_integer(L, "size", info->size);
  if (info->modified_ms >= 0)
    set_integer(L, "modified_ms", info->modified_ms);
  set_text(L, "etag", info->etag);
  set_text(L, "content_type", info->content_type);
  set_text(L, "storage_class", info->storage_class);
  set_text(L, "version_id", info->version_id);
  if (info->has_crc64) {
    tm_lua_pushu64(L, info->crc64);
    lua_setfield(L, -2, "crc64");
  }
  lua_newtable(L);
  for (size_t i = 0; i < info->meta_count; i++) {
    lua_pushstring(L, info->meta[i].value);
    lua_setfield(L, -2, info->meta[i].name);
  }
  lua_setfield(L, -2, "metadata");
}

/* ---- opening and closing ---- */

static void read_store_opts(lua_State *L, int table, struct tm_oss_opts *o)
{
  o->endpoint = tm_lua_opt_text(L, table, "endpoint");
  o->region = tm_lua_opt_text(L, table, "region");
  o->addressing = tm_lua_opt_text(L, table, "addressing");
  o->signature = tm_lua_opt_text(L, table, "signature");
  o->anonymous = tm_lua_opt_flag(L, table, "anonymous");
  o->access_key_id = tm_lua_opt_text(L, table, "access_key_id");
  o->access_key_secret = tm_lua_opt_text(L, table, "access_key_secret");
  o->security_token = tm_lua_opt_text(L, table, "security_token");
  o->profile = tm_lua_opt_text(L, table, "profile");
  o->role_name = tm_lua_opt_text(L, table, "role_name");
  o->ca_file = tm_lua_opt_text(L, table, "ca_file");
  o->proxy = tm_lua_opt_text(L, table, "proxy");
  o->connect_timeout_ms = opt_seconds(L, table, "connect_timeout");
  o->stall_timeout_ms = opt_seconds(L, table, "stall_timeout");
  o->retry_time_ms = opt_seconds(L, table, "retry_time");
  lua_Integer attempts = tm_lua_opt_count(L, table, "attempts");
  o->attempts = attempts > 100 ? 100 : (int)attempts;
}

/* A misspelt option must not pass unseen. */
static void check_names(lua_State *L, int table)
{
  static const char *const names[] = {
      "url",           "endpoint",          "region",
      "addressing",    "signature",         "anonymous",
      "access_key_id", "access_key_secret", "security_token",
      "profile",       "role_name",         "ca_file",
      "proxy",         "connect_timeout",   "stall_timeout",
      "retry_time",    "attempts",          NULL};
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    int i = 0;
    while (names[i] != NULL && strcmp(names[i], name) != 0)
      i++;
    if (names[i] == NULL) {
      struct tm_error err;
      tm_error_set(&err, TM_EUSAGE, "a store has no option '%.60s'", name);
      tm_lua_raise(L, &err);
    }
  }
}

/* open(url [, opts]) or open(opts) -> store */
static int oss_open(lua_State *L)
{
  struct tm_oss_opts o = {0};
  struct tm_error err;
  lua_settop(L, 2);
  int table = lua_istable(L, 1) ? 1 : 2;
  if (table == 2)
    o.url = luaL_checkstring(L, 1);
  if (!lua_isnoneornil(L, table)) {
    luaL_checktype(L, table, LUA_TTABLE);
    check_names(L, table);
    read_store_opts(L, table, &o);
    if (o.url == NULL)
      o.url = tm_lua_opt_text(L, table, "url");
  }
  struct tm_lua_store *s = lua_newuserdatauv(L, sizeof *s, 0);
  *s = (struct tm_lua_store){0};
  luaL_setmetatable(L, STORE);
  s->oss = tm_oss_open(&o, &err);
  if (s->oss == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

static int store_gc(lua_State *L)
{
  struct tm_lua_store *s = luaL_checkudata(L, 1, STORE);
  struct tm_oss *oss = s->oss;
  s->oss = NULL;
  tm_oss_close(oss);
  return 0;
}

static int store_close(lua_State *L)
{
  struct tm_lua_store *s = luaL_checkudata(L, 1, STORE);
  s->closed = true;
  return s->lent ? 0 : store_gc(L);
}

static int store_tostring(lua_State *L)
{
  struct tm_lua_store *s = luaL_checkudata(L, 1, STORE);
  if (s->oss == NULL || s->closed)
    lua_pushliteral(L, "oss.Store (closed)");
  else
    lua_pushfstring(L, "oss.Store (%s)", tm_oss_url(s->oss));
  return 1;
}

static int store_url(lua_State *L)
{
  lua_pushstring(L, tm_oss_url(tm_lua_checkstore(L, 1)));
  return 1;
}

static int store_create_bucket(lua_State *L)
{
  struct tm_error err;
  if (!tm_oss_bucket_create(tm_lua_checkstore(L, 1), NULL, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

static int store_delete_bucket(lua_State *L)
{
  struct tm_error err;
  if (!tm_oss_bucket_delete(tm_lua_checkstore(L, 1), NULL, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

/* ---- objects ---- */

static int store_put(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2);
  size_t n;
  const char *bytes = luaL_checklstring(L, 3, &n);
  struct tm_oss_put_opts opts;
  struct tm_error err;
  lua_settop(L, 4);
  tm_lua_put_opts(L, 4, &opts);
  struct result *r = new_result(L);
  if (!tm_oss_put(oss, key, bytes, n, &opts, &r->info, NULL, &err))
    return tm_lua_raise(L, &err);
  push_info(L, key, &r->info);
  return 1;
}

static int store_get(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2);
  struct tm_oss_get_opts get = {.offset = tm_lua_opt_count(L, 3, "offset"),
                                .length = tm_lua_opt_count(L, 3, "length"),
                                .if_match = tm_lua_opt_text(L, 3, "if_match")};
  get.range = push_field(L, 3, "offset") != LUA_TNIL || get.length > 0;
  size_t limit = (size_t)tm_lua_opt_count(L, 3, "limit");
  struct tm_error err;
  struct result *r = new_result(L);
  if (!tm_oss_get(oss, key, &get, limit, &r->bytes, &r->info, NULL, &err))
    return tm_lua_raise(L, &err);
  lua_pushlstring(L, r->bytes.data != NULL ? r->bytes.data : "", r->bytes.len);
  tm_buffer_free(&r->bytes);
  push_info(L, key, &r->info);
  return 2;
}

/* nil when there is no such object */
static int store_head(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2);
  struct tm_error err;
  struct result *r = new_result(L);
  if (tm_oss_head(oss, key, &r->info, NULL, &err)) {
    push_info(L, key, &r->info);
    return 1;
  }
  if (err.kind != TM_ENOTFOUND || strcmp(err.code, "NoSuchBucket") == 0)
    return tm_lua_raise(L, &err);
  lua_pushnil(L);
  return 1;
}

static int store_delete(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  struct tm_error err;
  if (!tm_oss_delete(oss, tm_lua_checkkey(L, 2), NULL, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

static void push_failures(lua_State *L, const struct tm_oss_failures *f)
{
  lua_createtable(L, (int)f->count, 0);
  for (size_t i = 0; i < f->count; i++) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, f->items[i].key);
    lua_setfield(L, -2, "key");
    set_text(L, "code", f->items[i].code);
    set_text(L, "message", f->items[i].message);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* delete_many(keys) -> array of {key, code, message} that could not be deleted */
static int store_delete_many(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  struct tm_error err;
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t n = lua_rawlen(L, 2);
  const char **keys = lua_newuserdatauv(L, (n + 1) * sizeof *keys, 0);
  for (size_t i = 0; i < n; i++) {
    if (lua_rawgeti(L, 2, (lua_Integer)i + 1) != LUA_TSTRING)
      return luaL_argerror(L, 2, "keys must be strings");
    keys[i] = lua_tostring(L, -1); /* the table keeps it */
    if (strlen(keys[i]) != lua_rawlen(L, -1))
      return luaL_argerror(L, 2, "a key cannot hold a zero byte");
    lua_pop(L, 1);
  }
  struct result *r = new_result(L);
  if (!tm_oss_delete_many(oss, keys, n, &r->failures, NULL, &err))
    return tm_lua_raise(L, &err);
  push_failures(L, &r->failures);
  return 1;
}

static int store_copy(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *from = tm_lua_checkkey(L, 2), *to = tm_lua_checkkey(L, 3);
  struct tm_oss_put_opts opts = {.create_only = tm_lua_opt_flag(L, 4, "create_only")};
  struct tm_error err;
  struct result *r = new_result(L);
  if (!tm_oss_copy(oss, from, to, &opts, &r->info, NULL, &err))
    return tm_lua_raise(L, &err);
  push_info(L, to, &r->info);
  return 1;
}

static int store_presign(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *method = luaL_checkstring(L, 2), *key = tm_lua_checkkey(L, 3);
  lua_Integer expires = tm_lua_opt_count(L, 4, "expires");
  const char *type = tm_lua_opt_text(L, 4, "content_type");
  struct tm_error err;
  struct result *r = new_result(L);
  if (!tm_oss_presign(oss, method, key, expires > 0 ? expires : 3600, type, &r->bytes,
                      NULL, &err))
    return tm_lua_raise(L, &err);
  lua_pushlstring(L, r->bytes.data, r->bytes.len);
  return 1;
}

/* ---- listing ---- */

static void push_entry(lua_State *L, const struct tm_oss_entry *e)
{
  lua_createtable(L, 0, 5);
  lua_pushstring(L, e->key);
  lua_setfield(L, -2, "key");
  if (e->is_prefix) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "prefix");
    return;
  }
  set_integer(L, "size", e->size);
  if (e->modified_ms >= 0)
    set_integer(L, "modified_ms", e->modified_ms);
  set_text(L, "etag", e->etag);
  set_text(L, "storage_class", e->storage_class);
}

/* upvalues: store, options, result (the page), index of the next entry, "begun" */
static int list_next(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, lua_upvalueindex(1));
  int table = lua_upvalueindex(2);
  struct result *r = lua_touserdata(L, lua_upvalueindex(3));
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(4));
  bool begun = lua_toboolean(L, lua_upvalueindex(5));
  struct tm_oss_list_opts opts = {
      .prefix = tm_lua_opt_text(L, table, "prefix"),
      .delimiter = tm_lua_opt_text(L, table, "delimiter"),
      .start_after = tm_lua_opt_text(L, table, "start_after"),
      .page_size = (int)tm_lua_opt_count(L, table, "page_size"),
  };
  while (!begun || ((size_t)i == r->page.count && r->page.next != NULL)) {
    struct tm_error err;
    char *token = r->page.next;
    r->page.next = NULL;
    bool ok = tm_oss_list(oss, &opts, token, &r->page, NULL, &err);
    free(token);
    if (!ok)
      return tm_lua_raise(L, &err);
    begun = true;
    i = 0;
  }
  lua_pushboolean(L, 1);
  lua_replace(L, lua_upvalueindex(5));
  if ((size_t)i == r->page.count) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, i + 1);
  lua_replace(L, lua_upvalueindex(4));
  push_entry(L, &r->page.entries[i]);
  return 1;
}

/* list([prefix or opts]) -> iterator of entries */
static int store_list(lua_State *L)
{
  tm_lua_checkstore(L, 1);
  lua_settop(L, 2);
  if (lua_isstring(L, 2)) {
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "prefix");
    lua_replace(L, 2);
  } else if (!lua_isnil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
  }
  new_result(L);
  lua_pushinteger(L, 0);
  lua_pushboolean(L, 0);
  lua_pushcclosure(L, list_next, 5);
  return 1;
}

static const luaL_Reg store_methods[] = {
    {"put", store_put},
    {"get", store_get},
    {"head", store_head},
    {"list", store_list},
    {"delete", store_delete},
    {"delete_many", store_delete_many},
    {"copy", store_copy},
    {"presign", store_presign},
    {"create_multipart", tm_lua_store_multipart_create},
    {"upload_part", tm_lua_store_multipart_part},
    {"complete_multipart", tm_lua_store_multipart_complete},
    {"abort_multipart", tm_lua_store_multipart_abort},
    {"list_parts", tm_lua_store_multipart_parts},
    {"list_multiparts", tm_lua_store_multipart_uploads},
    {"reader", tm_lua_store_reader},
    {"writer", tm_lua_store_writer},
    {"objects", tm_lua_store_objects},
    {"create_bucket", store_create_bucket},
    {"delete_bucket", store_delete_bucket},
    {"url", store_url},
    {"close", store_close},
    {NULL, NULL}};

static const luaL_Reg store_meta[] = {{"__gc", store_gc},
                                      {"__close", store_close},
                                      {"__tostring", store_tostring},
                                      {NULL, NULL}};

static const luaL_Reg module[] = {{"open", oss_open}, {NULL, NULL}};

int luaopen_oss(lua_State *L)
{
  if (luaL_newmetatable(L, RESULT)) {
    lua_pushcfunction(L, result_gc);
    lua_setfield(L, -2, "__gc");
  }
  if (luaL_newmetatable(L, STORE)) {
    luaL_setfuncs(L, store_meta, 0);
    luaL_newlib(L, store_methods);
    lua_setfield(L, -2, "__index");
  }
  luaL_newlib(L, module);
  return 1;
}
