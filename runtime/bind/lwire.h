/*
** lwire.h: the internal Lua module "tidemill.wire": lines from a descriptor, with a deadline
**
** How a node attempt hears its runner: its job, then what the runner acknowledges. Also how the
** repl reads a script, so that Ctrl-C ends the wait for its next line.
*/
#ifndef TM_BIND_LWIRE_H
#define TM_BIND_LWIRE_H

#include <lua.h>

/*
** open(fd) -> wire, which owns the descriptor from then on.
** wire:line(seconds) -> the next line without its end; nil at the end of file, where a last
**   line without an end is dropped. Without `seconds` there is no limit. Raises timeout,
**   canceled, io, and data for a line of more than 64 MiB.
** wire:rest() -> takes what came behind the last line end, "" for nothing.
** wire:close(): twice is harmless.
*/
int luaopen_tidemill_wire(lua_State *L);

#endif
