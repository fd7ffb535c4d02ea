/*
** lzip.h: the Lua module "zip"
*/
#ifndef TM_BIND_LZIP_H
#define TM_BIND_LZIP_H

#include <lua.h>

int luaopen_zip(lua_State *L);

#endif
