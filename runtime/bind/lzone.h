/*
** lzone.h: time zones by name, for the bindings that take one
*/
#ifndef TM_BIND_LZONE_H
#define TM_BIND_LZONE_H

#include <lua.h>

#include "driver/zone.h"

/* The zone named by the string at this index; none or nil is UTC. Opened once a state and
** kept until the state closes. Raises kind "usage" for an unknown name. */
const struct tm_zone *tm_lua_checkzone(lua_State *L, int index);

#endif
