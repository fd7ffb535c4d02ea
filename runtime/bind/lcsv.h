/*
** lcsv.h: the Lua module "csv"
*/
#ifndef TM_BIND_LCSV_H
#define TM_BIND_LCSV_H

#include <lua.h>

int luaopen_csv(lua_State *L);

#endif
