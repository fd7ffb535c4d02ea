/*
** lzone.c: time zones by name, for the bindings that take one
**
** The registry's table CACHE holds them: name to a userdata that owns the zone. Opening one
** costs milliseconds, and a scheduler names the same few thousands of times.
*/
#include "bind/lzone.h"

#include <lauxlib.h>

#include "bind/lerror.h"

#define ZONE "tidemill.zone"
#define CACHE "tidemill.zones"

static int zone_gc(lua_State *L)
{
  struct tm_zone **slot = lua_touserdata(L, 1);
  struct tm_zone *zone = *slot;
  *slot = NULL;
  tm_zone_close(zone);
  return 0;
}

const struct tm_zone *tm_lua_checkzone(lua_State *L, int index)
{
  const char *name = luaL_optstring(L, index, "UTC");
  luaL_getsubtable(L, LUA_REGISTRYINDEX, CACHE);
  lua_getfield(L, -1, name); /* stack: cache zone|nil */
  struct tm_zone **slot = lua_touserdata(L, -1);
  if (slot == NULL) {
    lua_pop(L, 1);
    slot = lua_newuserdatauv(L, sizeof(struct tm_zone *), 0);
    *slot = NULL;
    if (luaL_newmetatable(L, ZONE)) {
      lua_pushcfunction(L, zone_gc);
      lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    struct tm_error err;
    *slot = tm_zone_open(name, &err);
    if (*slot == NULL)
      tm_lua_raise(L, &err);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, name); /* stack: cache zone */
  }
  lua_pop(L, 2);
  return *slot;
}
