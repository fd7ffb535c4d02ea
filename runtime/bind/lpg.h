/*
** lpg.h: the Lua module "pg" on top of driver/pg.h; documented in stdlib/pg.lua
*/
#ifndef TM_BIND_LPG_H
#define TM_BIND_LPG_H

#include <lua.h>

struct tm_pg;

int luaopen_pg(lua_State *L);

/* The open session behind a pg.Conn at this index; raises when it is something else. It
** belongs to Lua: keep the value at `index` alive while you use it. */
struct tm_pg *tm_lua_checkpg(lua_State *L, int index);

#endif
