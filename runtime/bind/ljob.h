/*
** ljob.h: streams that run beside Lua: stream.start, stream.chain, stream.wait
**
** See stdlib/stream.lua. A job has the stream values it was made of: they are lent until it
** is joined, when they can be asked for their results, or closed, when they are closed too.
*/
#ifndef TM_BIND_LJOB_H
#define TM_BIND_LJOB_H

#include <lauxlib.h>

#include "stream/stream.h"

/* start(source, stage..., sink [, opts]) -> job */
int tm_lua_start(lua_State *L);

/* chain() -> chain */
int tm_lua_chain(lua_State *L);

/* wait(list [, seconds]) -> list of those that are ready */
int tm_lua_wait(lua_State *L);

/* Gives the userdata at the top the metatable of `type`, made of these when it is new. `index`
** gets the methods as its upvalue and ends with tm_lua_index_fd. */
void tm_lua_waitable(lua_State *L, const char *type, const luaL_Reg *meta,
                     const luaL_Reg *methods, lua_CFunction index);

/* __index of a value that can be waited for: the field `fd`, nil for -1, or a method. */
int tm_lua_index_fd(lua_State *L, int fd);

/* lstream.c: pushes the table of a pump's figures. May raise. */
void tm_lua_pushstats(lua_State *L, const struct tm_pump_stats *stats);

#endif
