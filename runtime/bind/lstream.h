/*
** lstream.h: sources, stages and sinks as Lua values, and the module "stream"
**
** A stream value is a userdata whose first member is the pointer to the source, stage or
** sink (NULL once closed) and whose metatable has the field __tm_source, __tm_stage or
** __tm_sink. tm_lua_new* make the plain kind. A binding that wants further methods makes
** its own type: first member as above, metatable from luaL_newmetatable, filled by
** tm_lua_stream_methods and then its own functions.
*/
#ifndef TM_BIND_LSTREAM_H
#define TM_BIND_LSTREAM_H

#include <lua.h>

#include "stream/stream.h"

/* Push a closed stream value and return its slot, to be filled at once. `keep` is the
** stack index of a value that must live as long (a connection), or 0. May raise. */
struct tm_source **tm_lua_newsource(lua_State *L, int keep);
struct tm_stage **tm_lua_newstage(lua_State *L, int keep);
struct tm_sink **tm_lua_newsink(lua_State *L, int keep);

/* The stream at this index; raises when it is something else or closed. */
struct tm_source *tm_lua_checksource(lua_State *L, int index);
struct tm_stage *tm_lua_checkstage(lua_State *L, int index);
struct tm_sink *tm_lua_checksink(lua_State *L, int index);

/* Adds to the metatable at the top of the stack the mark ("__tm_source", ...), close,
** __close, __gc, and the methods of that kind of stream (source: read; sink: write,
** finish, abort). */
void tm_lua_stream_methods(lua_State *L, const char *mark);

int luaopen_stream(lua_State *L);

#endif
