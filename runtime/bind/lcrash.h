/*
** lcrash.h: the Lua module "tidemill.crash" on top of base/crash
*/
#ifndef TM_BIND_LCRASH_H
#define TM_BIND_LCRASH_H

#include <lua.h>

int luaopen_tidemill_crash(lua_State *L);

#endif
