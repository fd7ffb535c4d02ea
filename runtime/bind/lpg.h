/*
** lpg.h: the Lua module "pg" on top of driver/pg.h; documented in stdlib/pg.lua
*/
#ifndef TM_BIND_LPG_H
#define TM_BIND_LPG_H

#include <lua.h>

int luaopen_pg(lua_State *L);

#endif
