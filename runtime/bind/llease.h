/*
** llease.h: the internal Lua module "tidemill.lease", a runner's lease kept by a thread
*/
#ifndef TM_BIND_LLEASE_H
#define TM_BIND_LLEASE_H

#include <lua.h>

int luaopen_tidemill_lease(lua_State *L);

#endif
