/*
** lpg_impl.h: what the files of the Lua module "pg" share; nobody else includes it
*/
#ifndef TM_BIND_LPG_IMPL_H
#define TM_BIND_LPG_IMPL_H

#include <lauxlib.h>
#include <lua.h>

#include "bind/lerror.h"
#include "bind/lpg.h"
#include "driver/pg.h"

#define LPG_CONN "tidemill.pg.conn"
#define LPG_BYTEA "tidemill.pg.bytea"

struct lpg_conn {
  struct tm_pg *pg; /* NULL once closed */
  lua_State *L; /* set while a call of the driver runs in Lua's thread: only then may a
                       notice call Lua */
  int notice;   /* reference of the notice function, or LUA_NOREF */
  int depth;    /* open transactions and savepoints */
};

/* ---- lpg.c ---- */

/* The open connection at this index; raises. */
struct lpg_conn *lpg_checkconn(lua_State *L, int index);

/* The connection in user value 1 of the userdata at `index`; raises when it is closed. */
struct lpg_conn *lpg_ownconn(lua_State *L, int index);

/* Around each call of the driver that may bring notices. */
void lpg_enter(lua_State *L, struct lpg_conn *c);
void lpg_leave(struct lpg_conn *c);

/* A number of seconds, as ms; `name` is for the message. */
int64_t lpg_tomillis(lua_State *L, int index, const char *name);

/* Checks that the table at `index` has only these fields. */
void lpg_checkfields(lua_State *L, int index, const char *const *names);

/* ---- lpg_value.c ---- */

/* A userdata that frees what C owns, should Lua raise; `drop` gets p and n. */
struct lpg_box {
  void *p;
  size_t n;
  void (*drop)(void *p, size_t n);
};
struct lpg_box *lpg_newbox(lua_State *L, void (*drop)(void *p, size_t n));
void lpg_emptybox(struct lpg_box *box); /* frees now */
void lpg_dropresult(void *result, size_t n);

/* Lua values from `first` to `last` as parameters; pushes one value that keeps them alive. */
struct tm_pg_params lpg_toparams(lua_State *L, int first, int last);

/* Pushes an array of the column names. */
void lpg_pushcolumns(lua_State *L, const struct tm_pg_result *r);
/* Pushes one row as a table; `names` is the index of that array. */
void lpg_pushrow(lua_State *L, const struct tm_pg_result *r, int row, int names);
/* Pushes one value. */
void lpg_pushvalue(lua_State *L, const struct tm_pg_result *r, int row, int column);
/* Pushes an array of rows, with `columns`, `command` and `affected`. */
void lpg_pushresult(lua_State *L, const struct tm_pg_result *r);

/* Adds pg.bytea, pg.null, quote_ident, quote_literal to the table at the top. */
void lpg_addvalues(lua_State *L);

/* ---- lpg_query.c, lpg_tx.c, lpg_stream.c: methods of a connection ---- */

extern const luaL_Reg lpg_query_methods[];
extern const luaL_Reg lpg_tx_methods[];
extern const luaL_Reg lpg_stream_methods[];

#endif
