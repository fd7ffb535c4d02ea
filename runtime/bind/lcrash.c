/*
** lcrash.c: the Lua module "tidemill.crash" on top of base/crash
*/
#include "bind/lcrash.h"

#include <lauxlib.h>

#include "base/crash.h"

/* point(name): passes it; nothing happens but in the program of `make crash`. */
static int crash_point(lua_State *L)
{
  tm_crash_point(luaL_checkstring(L, 1));
  return 0;
}

static const luaL_Reg module[] = {{"point", crash_point}, {NULL, NULL}};

int luaopen_tidemill_crash(lua_State *L)
{
  luaL_newlib(L, module);
  return 1;
}
