/*
** lstream.h: sources, stages and sinks as Lua values, and the module "stream"
**
** A stream value is a userdata that holds a struct tm_lua_stream and whose metatable has the
** field __tm_source, __tm_stage or __tm_sink. tm_lua_newsource and its like make the plain
** kind, tm_lua_newstream a type with methods of its own.
** While a job (ljob.h) runs a stream it is lent: nothing can be done with it but what says
** so, and closing it does nothing, until the job is joined or closed.
*/
#ifndef TM_BIND_LSTREAM_H
#define TM_BIND_LSTREAM_H

#include <lauxlib.h>
#include <stdbool.h>

#include "stream/stream.h"

struct tm_lua_stream {
  void *stream; /* the source, stage or sink; NULL once closed */
  bool lent;
};

/* Push a closed stream value and return its slot, to be filled at once. `keep` is the
** stack index of a value that must live as long (a connection), or 0. May raise. */
struct tm_source **tm_lua_newsource(lua_State *L, int keep);
struct tm_stage **tm_lua_newstage(lua_State *L, int keep);
struct tm_sink **tm_lua_newsink(lua_State *L, int keep);

/* The stream at this index; raises when it is something else or closed. */
struct tm_source *tm_lua_checksource(lua_State *L, int index);
struct tm_stage *tm_lua_checkstage(lua_State *L, int index);
struct tm_sink *tm_lua_checksink(lua_State *L, int index);

/* As those, for a stream value of the type `type`, with the mark "__tm_source", "__tm_stage"
** or "__tm_sink": it has the methods of that kind (close; source: read; sink: write, finish,
** abort) and those of `methods`, which ask for it by luaL_checkudata and tm_lua_check*. */
void **tm_lua_newstream(lua_State *L, const char *type, const char *mark,
                        const luaL_Reg *methods, int keep);

/* As tm_lua_checksink, but a sink that is lent will do: for what any thread may ask. */
struct tm_sink *tm_lua_peeksink(lua_State *L, int index);

/* The stream value at this index, which has this mark and is open and not lent; raises
** otherwise. `what` is the word for messages: "source". */
struct tm_lua_stream *tm_lua_checkstream(lua_State *L, int index, const char *mark,
                                         const char *what);

int luaopen_stream(lua_State *L);

#endif
