/*
** ledit.h: the internal Lua module "tidemill.edit": lines typed at a terminal
*/
#ifndef TM_BIND_LEDIT_H
#define TM_BIND_LEDIT_H

#include <lua.h>

/*
** open(complete) -> editor, on standard input and output, which must be a terminal.
**   complete(text before the cursor) -> what to insert there or nil, lines to show or nil;
**   an error in it only makes the terminal beep.
** editor:line(prompt) -> the line typed; nil at the end of input (Ctrl-D); false when the
**   process's interrupt fired (Ctrl-C), which stays fired: tidemill.signal take() unfires it.
** editor:history(path) -> true; nil and an error when the file cannot be read.
** editor:add(line) -> true; nil and an error when the history file cannot be written.
** editor:close(): gives the terminal back; twice is harmless.
**
** prompt(on): whether SIGINT leaves the process alive, however often it comes.
** tracked(resume) -> a coroutine.resume whose coroutine Ctrl-C ends too.
** ending() -> the number of a signal that wants the process to end, or nil.
*/
int luaopen_tidemill_edit(lua_State *L);

#endif
