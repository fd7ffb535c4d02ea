/*
** lerror.h: struct tm_error as a Lua error table, and back
**
** An error table has kind (tm_kind_name), message and, where they apply, code, status,
** request_id, detail, hint, and what the engine adds (node, attempt, source, cause). Its
** metatable "tidemill.error" makes one line of it.
*/
#ifndef TM_BIND_LERROR_H
#define TM_BIND_LERROR_H

#include <lua.h>

#include "base/error.h"

/* Raises; never returns. Own nothing that is not in a userdata when you call it. */
int tm_lua_raise(lua_State *L, const struct tm_error *err);

/* Pushes the table. May raise (memory). */
void tm_lua_pusherror(lua_State *L, const struct tm_error *err);

/* Fills err from whatever was raised: an error table, or any other value as a message. */
void tm_lua_toerror(lua_State *L, int index, struct tm_error *err);

/* native "tidemill.error": new(table) sets the metatable, is(value). */
int luaopen_tidemill_error(lua_State *L);

#endif
