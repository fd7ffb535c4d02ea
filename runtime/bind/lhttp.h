/*
** lhttp.h: the internal Lua module "tidemill.http", one HTTP request
*/
#ifndef TM_BIND_LHTTP_H
#define TM_BIND_LHTTP_H

#include <lua.h>

int luaopen_tidemill_http(lua_State *L);

#endif
