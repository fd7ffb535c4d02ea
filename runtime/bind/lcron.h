/*
** lcron.h: the Lua module "cron" on top of cron/cron
*/
#ifndef TM_BIND_LCRON_H
#define TM_BIND_LCRON_H

#include <lua.h>

int luaopen_cron(lua_State *L);

#endif
