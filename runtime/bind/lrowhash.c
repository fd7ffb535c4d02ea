/*
** lrowhash.c: stream.rowhash
**
** Names and types are read into arrays of the Lua stack's own memory, so nothing is owned while
** an argument may still raise.
*/
#include "bind/lrowhash.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lformat.h"
#include "bind/lstream.h"
#include "stream/rowhash.h"

#define ROWHASH "tidemill.rowhash"

/* The names in the table at the top of the stack. They stay valid while it lives. */
static const char **names_of(lua_State *L, size_t *count)
{
  luaL_argexpected(L, lua_istable(L, -1), 1, "table with a list of columns");
  lua_Unsigned n = lua_rawlen(L, -1);
  luaL_argcheck(L, n >= 1 && n <= TM_FORMAT_FIELDS_MAX, 1, "bad number of columns");
  const char **names = lua_newuserdatauv(L, n * sizeof *names, 0);
  for (lua_Unsigned i = 0; i < n; i++) {
    luaL_argexpected(L, lua_rawgeti(L, -2, (lua_Integer)i + 1) == LUA_TSTRING, 1,
                     "list of names as columns");
    names[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  *count = n;
  return names;
}

static enum tm_rowhash_type type_of(lua_State *L, const char *name)
{
  if (strcmp(name, "text") == 0)
    return TM_ROWHASH_TEXT;
  if (strcmp(name, "float4") == 0)
    return TM_ROWHASH_FLOAT4;
  if (strcmp(name, "float8") != 0)
    luaL_error(L, "rowhash: no type '%s'", name);
  return TM_ROWHASH_FLOAT8;
}

static enum tm_rowhash_type *types_of(lua_State *L, size_t count)
{
  if (lua_isnil(L, -1))
    return NULL;
  luaL_argcheck(L, lua_istable(L, -1) && lua_rawlen(L, -1) == count, 1,
                "a type for each column wanted");
  enum tm_rowhash_type *types = lua_newuserdatauv(L, count * sizeof *types, 0);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, -2, (lua_Integer)i + 1);
    types[i] = type_of(L, luaL_checkstring(L, -1));
    lua_pop(L, 1);
  }
  return types;
}

static int rowhash_sums(lua_State *L)
{
  luaL_checkudata(L, 1, ROWHASH);
  struct tm_rowhash_sums s;
  tm_rowhash_sums(tm_lua_checkstage(L, 1), &s);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)s.rows);
  lua_setfield(L, -2, "rows");
  lua_pushinteger(L, (lua_Integer)s.unread);
  lua_setfield(L, -2, "unread");
  lua_pushinteger(L, (lua_Integer)s.sum);
  lua_setfield(L, -2, "sum");
  if (s.columns == NULL)
    return 1;
  lua_createtable(L, (int)s.count, 0);
  for (size_t i = 0; i < s.count; i++) {
    lua_pushinteger(L, (lua_Integer)s.columns[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "columns");
  return 1;
}

int tm_lua_rowhash(lua_State *L)
{
  static const char *const own[] = {"columns", "types", "by_column", NULL};
  static const luaL_Reg methods[] = {{"sums", rowhash_sums}, {NULL, NULL}};
  struct tm_rowhash_opts opts = {0};
  struct tm_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  tm_lua_checkformat(L, 1, own, &opts.format);
  lua_getfield(L, 1, "columns");
  opts.columns = names_of(L, &opts.count);
  lua_getfield(L, 1, "types");
  opts.types = types_of(L, opts.count);
  lua_getfield(L, 1, "by_column");
  opts.by_column = lua_toboolean(L, -1);
  void **slot = tm_lua_newstream(L, ROWHASH, "__tm_stage", methods, 0);
  *slot = tm_rowhash_new(&opts, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}
