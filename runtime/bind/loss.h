/*
** loss.h: the Lua module "oss" on top of runtime/oss
*/
#ifndef TM_BIND_LOSS_H
#define TM_BIND_LOSS_H

#include <lua.h>

int luaopen_oss(lua_State *L);

#endif
