/*
** ljson.h: the Lua module "json" (jansson)
*/
#ifndef TM_BIND_LJSON_H
#define TM_BIND_LJSON_H

#include <lua.h>

int luaopen_json(lua_State *L);

#endif
