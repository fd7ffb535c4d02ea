/*
** lsqlite.h: the internal Lua module "tidemill.sqlite", one face of the state store
*/
#ifndef TM_BIND_LSQLITE_H
#define TM_BIND_LSQLITE_H

#include <lua.h>

int luaopen_tidemill_sqlite(lua_State *L);

#endif
