/*
** lrate.h: stream.rate and stream.throttle; see stdlib/stream.lua
*/
#ifndef TM_BIND_LRATE_H
#define TM_BIND_LRATE_H

#include <lua.h>

/* rate(bytes_per_second [, burst]) -> rate */
int tm_lua_rate(lua_State *L);

/* throttle{rate = rate or bytes a second, burst =} -> stage */
int tm_lua_throttle(lua_State *L);

#endif
