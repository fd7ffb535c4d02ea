/*
** llease.c: the internal Lua module "tidemill.lease", a runner's lease kept by a thread
**
**     local held <close> = lease.start { kind = "sqlite", where = path, runner = id,
**                                        lease_ms = 15000, every_ms = 3000, age_ms = 0 }
**     held:held()   -> true, or false and an error (kind "conflict": taken over, for ever;
**                      "timeout": no renewal in time)
**     held:age()    -> milliseconds since the last good renewal
**     held:close()
**
** The row of `runners` is there already, written age_ms ago. Nothing here waits for the
** database. kind = "postgres" wants a conninfo or URI.
*/
#include "bind/llease.h"

#include <lauxlib.h>

#include "bind/lerror.h"
#include "lease/lease.h"

#define LEASE "tidemill.lease"

struct lease {
  struct tm_lease *lease; /* NULL once closed */
};

static struct tm_lease *checklease(lua_State *L)
{
  struct lease *l = luaL_checkudata(L, 1, LEASE);
  if (l->lease == NULL)
    luaL_argerror(L, 1, "the lease is closed");
  return l->lease;
}

/* The field's text stays alive in the table at index 1. */
static const char *text_field(lua_State *L, const char *name)
{
  if (lua_getfield(L, 1, name) != LUA_TSTRING)
    luaL_error(L, "%s: a string wanted, got %s", name, luaL_typename(L, -1));
  const char *text = lua_tostring(L, -1);
  lua_pop(L, 1);
  return text;
}

static int64_t ms_field(lua_State *L, const char *name, int64_t fallback)
{
  int is_integer = 1;
  lua_Integer n = lua_getfield(L, 1, name) == LUA_TNIL
                      ? fallback
                      : lua_tointegerx(L, -1, &is_integer);
  if (!is_integer)
    luaL_error(L, "%s: an integer wanted, got %s", name, luaL_typename(L, -1));
  lua_pop(L, 1);
  return n;
}

static int lease_start(lua_State *L)
{
  static const char *const kinds[] = {"sqlite", "postgres", NULL};
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "kind");
  struct tm_lease_opts opts = {
      .store =
          luaL_checkoption(L, 2, NULL, kinds) == 0 ? TM_LEASE_SQLITE : TM_LEASE_POSTGRES,
      .where = text_field(L, "where"),
      .runner = text_field(L, "runner"),
      .lease_ms = ms_field(L, "lease_ms", 15000),
      .every_ms = ms_field(L, "every_ms", 3000),
      .age_ms = ms_field(L, "age_ms", 0),
  };
  struct tm_error err;
  struct lease *l = lua_newuserdatauv(L, sizeof *l, 0);
  l->lease = NULL;
  luaL_setmetatable(L, LEASE);
  l->lease = tm_lease_start(&opts, &err);
  if (l->lease == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

static int lease_close(lua_State *L)
{
  struct lease *l = luaL_checkudata(L, 1, LEASE);
  struct tm_lease *lease = l->lease;
  l->lease = NULL;
  tm_lease_close(lease);
  return 0;
}

static int lease_held(lua_State *L)
{
  struct tm_error why;
  bool held = tm_lease_held(checklease(L), &why);
  lua_pushboolean(L, held);
  if (held)
    return 1;
  tm_lua_pusherror(L, &why);
  return 2;
}

static int lease_age(lua_State *L)
{
  lua_pushinteger(L, tm_lease_age_ms(checklease(L)));
  return 1;
}

static const luaL_Reg lease_methods[] = {
    {"held", lease_held}, {"age", lease_age}, {"close", lease_close}, {NULL, NULL}};

static const luaL_Reg lease_meta[] = {
    {"__close", lease_close}, {"__gc", lease_close}, {NULL, NULL}};

static const luaL_Reg module[] = {{"start", lease_start}, {NULL, NULL}};

int luaopen_tidemill_lease(lua_State *L)
{
  if (luaL_newmetatable(L, LEASE)) {
    luaL_setfuncs(L, lease_meta, 0);
    luaL_newlib(L, lease_methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  return 1;
}
