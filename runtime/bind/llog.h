/*
** llog.h: the Lua module "log" on top of base/log
*/
#ifndef TM_BIND_LLOG_H
#define TM_BIND_LLOG_H

#include <lua.h>

int luaopen_log(lua_State *L);

#endif
