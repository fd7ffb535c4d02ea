/*
** lmap.h: stream.map, a stage that calls a Lua function for each row
*/
#ifndef TM_BIND_LMAP_H
#define TM_BIND_LMAP_H

#include <lua.h>

#include "stream/stream.h"

/* map(fn, opts) -> stage; see stdlib/stream.lua. */
int tm_lua_map(lua_State *L);

/* Called by stream.pump around tm_pump for the stage value at `index`: a map runs its function
** on L, with what it needs pushed there (up to 4 values). Any other stage is left alone. */
void tm_lua_map_enter(lua_State *L, int index);
void tm_lua_map_leave(lua_State *L, int index);

#endif
