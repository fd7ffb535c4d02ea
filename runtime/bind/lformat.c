/*
** lformat.c: format options and rejected records as Lua gives them
*/
#include "bind/lformat.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lstream.h"

static const char *const own_keys[] = {"format",      "delimiter",  "quote",    "escape",
                                       "null",        "newline",    "encoding", "header",
                                       "force_quote", "max_record", NULL};

static bool is_in(const char *const *names, const char *key)
{
  for (; names != NULL && *names != NULL; names++)
    if (strcmp(*names, key) == 0)
      return true;
  return false;
}

static void check_keys(lua_State *L, int index, const char *const *others)
{
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING ||
        (!is_in(own_keys, lua_tostring(L, -1)) && !is_in(others, lua_tostring(L, -1))))
      luaL_error(L, "no option '%s'", luaL_tolstring(L, -1, NULL));
  }
}

/* The string stays valid: the table at `index` holds it. */
static const char *get_string(lua_State *L, int index, const char *key)
{
  const char *s = NULL;
  if (lua_getfield(L, index, key) == LUA_TSTRING) {
    s = lua_tostring(L, -1);
    if (strlen(s) != lua_rawlen(L, -1))
      luaL_error(L, "option '%s' holds a zero byte", key);
  } else if (!lua_isnil(L, -1)) {
    luaL_error(L, "option '%s' must be a string, not a %s", key, luaL_typename(L, -1));
  }
  lua_pop(L, 1);
  return s;
}

static bool get_boolean(lua_State *L, int index, const char *key)
{
  int type = lua_getfield(L, index, key);
  if (type != LUA_TBOOLEAN && type != LUA_TNIL)
    luaL_error(L, "option '%s' must be a boolean, not a %s", key, luaL_typename(L, -1));
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

void tm_lua_checkformat(lua_State *L, int index, const char *const *others,
                        struct tm_format *format)
{
  struct tm_format_opts o = {0};
  struct tm_error err;
  if (!lua_isnoneornil(L, index)) {
    index = lua_absindex(L, index);
    luaL_checktype(L, index, LUA_TTABLE);
    check_keys(L, index, others);
    o.format = get_string(L, index, "format");
    o.delimiter = get_string(L, index, "delimiter");
    o.quote = get_string(L, index, "quote");
    o.escape = get_string(L, index, "escape");
    o.null = get_string(L, index, "null");
    o.newline = get_string(L, index, "newline");
    o.encoding = get_string(L, index, "encoding");
    o.header = get_boolean(L, index, "header");
    o.force_quote = get_boolean(L, index, "force_quote");
    lua_getfield(L, index, "max_record");
    lua_Integer most = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    luaL_argcheck(L, most >= 0, index, "max_record must be positive");
    o.max_record_bytes = (size_t)most;
  }
  if (!tm_format_parse(format, &o, &err))
    tm_lua_raise(L, &err);
}

size_t tm_lua_checkcolumns(lua_State *L, int index, const char *what)
{
  index = lua_absindex(L, index);
  lua_newtable(L);
  if (lua_isnoneornil(L, index))
    return 0;
  if (!lua_istable(L, index) || luaL_len(L, index) == 0)
    luaL_error(L, "%s must be an array of names", what);
  lua_Integer n = luaL_len(L, index);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_geti(L, index, i) != LUA_TSTRING)
      luaL_error(L, "%s: name %I is a %s, not a string", what, (LUAI_UACINT)i,
                 luaL_typename(L, -1));
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) != LUA_TNIL)
      luaL_error(L, "%s: '%s' stands there twice", what, lua_tostring(L, -2));
    lua_pop(L, 1);
    lua_pushinteger(L, i);
    lua_rawset(L, -3);
  }
  return (size_t)n;
}

bool tm_lua_checkreject(lua_State *L, int index)
{
  if (lua_isnoneornil(L, index))
    return false;
  if (!lua_isfunction(L, index))
    tm_lua_checksink(L, index);
  return true;
}

/* stack: function, bytes *, length *, err * */
static int call_function(lua_State *L)
{
  lua_pushlstring(L, lua_touserdata(L, 2), *(size_t *)lua_touserdata(L, 3));
  tm_lua_pusherror(L, lua_touserdata(L, 4));
  lua_replace(L, 3);
  lua_replace(L, 2);
  lua_settop(L, 3);
  lua_call(L, 2, 0);
  return 0;
}

static bool to_sink(struct tm_sink *sink, const char *raw, size_t len,
                    struct tm_error *err)
{
  struct tm_slab *slab = tm_slab_new(len, err);
  if (slab == NULL)
    return false;
  memcpy(slab->data, raw, len);
  slab->len = slab->raw_bytes = len;
  slab->rows = 1;
  return sink->ops->write(sink, slab, err);
}

bool tm_lua_reject(void *reject, const char *raw, size_t len, struct tm_error *err)
{
  struct tm_lua_reject *r = reject;
  lua_State *L = r->L;
  if (r->index == 0)
    return false;
  if (!lua_isfunction(L, r->index)) {
    struct tm_sink **slot = lua_touserdata(L, r->index);
    if (*slot != NULL)
      return to_sink(*slot, raw, len, err);
    tm_error_set(err, TM_EUSAGE, "the sink for rejected records is closed");
    return false;
  }
  lua_pushcfunction(L, call_function);
  lua_pushvalue(L, r->index);
  lua_pushlightuserdata(L, (void *)raw);
  lua_pushlightuserdata(L, &len);
  lua_pushlightuserdata(L, err);
  if (lua_pcall(L, 4, 0, 0) == LUA_OK)
    return true;
  tm_lua_toerror(L, -1, err);
  lua_pop(L, 1);
  return false;
}
