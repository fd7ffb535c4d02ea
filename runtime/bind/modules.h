/*
** modules.h: every native module, and how Lua finds the embedded Lua files
*/
#ifndef TM_BIND_MODULES_H
#define TM_BIND_MODULES_H

#include <lua.h>

/*
** Prepares package.preload and package.searchers so that `require` finds, in this order:
** native modules (the table in modules.c); stdlib/NAME.lua as "NAME"; lua/A/B.lua as
** "tidemill.A.B". Lua files come from the binary, or from the directory that the environment's
** TIDEMILL_LUA names (it holds lua/ and stdlib/). Files of the current directory are found
** after these, as in plain Lua.
*/
void tm_lua_open_modules(lua_State *L);

/* Native "tidemill.embedded": source(name) -> text or nil ("lua/graph.lua", "stdlib/pg.lua"),
** names() -> array. */
int luaopen_tidemill_embedded(lua_State *L);

#endif
