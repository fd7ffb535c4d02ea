/*
** lproc.h: the Lua module "proc", and the internal "tidemill.signal"
*/
#ifndef TM_BIND_LPROC_H
#define TM_BIND_LPROC_H

#include <lua.h>

int luaopen_proc(lua_State *L);

/*
** For a runner that ends its children before itself, and for those children:
** defer(on): from now on a signal only fires the interrupt: no error is raised in Lua,
**   and a second one does not end the process.
** take() -> how many signals came since the start; the interrupt is unfired.
** deadline(seconds): once a signal came, the process has so long to end by itself.
** guard(fn, ...): pcall, after which signals are deferred and no hook raises in the caller.
** pid(), mono() and wall() in milliseconds, random(n): n hexadecimal digits.
*/
int luaopen_tidemill_signal(lua_State *L);

#endif
