/*
** ltime.h: the Lua module "time" on top of cron/calendar, cron/format and base/clock
*/
#ifndef TM_BIND_LTIME_H
#define TM_BIND_LTIME_H

#include <lua.h>

int luaopen_time(lua_State *L);

#endif
