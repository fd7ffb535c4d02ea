/*
** ljob.h: streams that run beside Lua: stream.start, stream.chain, stream.wait
**
** See stdlib/stream.lua. A job has the stream values it was made of: they are lent until it
** is joined, when they can be asked for their results, or closed, when they are closed too.
*/
#ifndef TM_BIND_LJOB_H
#define TM_BIND_LJOB_H

#include <lua.h>

#include "stream/stream.h"

/* start(source, stage..., sink [, opts]) -> job */
int tm_lua_start(lua_State *L);

/* chain() -> chain */
int tm_lua_chain(lua_State *L);

/* wait(list [, seconds]) -> list of those that are ready */
int tm_lua_wait(lua_State *L);

/* lstream.c: pushes the table of a pump's figures. May raise. */
void tm_lua_pushstats(lua_State *L, const struct tm_pump_stats *stats);

#endif
