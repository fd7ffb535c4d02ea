/*
** lpg_query.c: statements of a pg.Conn: exec, query, rows, prepare, describe, NOTIFY
**
** What the driver hands over is put into a box (lpg_value.c) before anything is pushed, so
** that running out of memory in Lua leaks nothing.
*/
#include <stdlib.h>
#include <string.h>

#include "bind/lpg_impl.h"

#define ROWS "tidemill.pg.rows"
#define STMT "tidemill.pg.stmt"

/* ---- exec ---- */

static void drop_dones(void *p, size_t n)
{
  (void)n;
  tm_pg_dones_free(p);
  free(p);
}

static void push_done(lua_State *L, const struct tm_pg_done *done)
{
  lua_createtable(L, 0, 3);
  lua_pushstring(L, done->command);
  lua_setfield(L, -2, "command");
  if (done->rows >= 0) {
    lua_pushinteger(L, done->rows);
    lua_setfield(L, -2, "rows");
  }
  if (done->result != NULL) {
    lpg_pushresult(L, done->result);
    lua_setfield(L, -2, "result");
  }
}

static void push_dones(lua_State *L, const struct tm_pg_dones *dones)
{
  static const char *const copied[] = {"command", "rows", "result", NULL};
  lua_createtable(L, (int)dones->count, 3);
  for (size_t i = 0; i < dones->count; i++) {
    push_done(L, &dones->items[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  if (dones->count == 0)
    return;
  lua_rawgeti(L, -1, (lua_Integer)dones->count);
  for (const char *const *name = copied; *name != NULL; name++) {
    lua_getfield(L, -1, *name);
    lua_setfield(L, -3, *name);
  }
  lua_pop(L, 1);
}

/* exec(sql [, {results = bool}]) */
static int conn_exec(lua_State *L)
{
  static const char *const names[] = {"results", NULL};
  struct tm_error err;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  const char *sql = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  if (!lua_isnil(L, 3)) {
    luaL_checktype(L, 3, LUA_TTABLE);
    lpg_checkfields(L, 3, names);
    lua_getfield(L, 3, "results");
  }
  bool keep = lua_toboolean(L, 4);
  struct lpg_box *box = lpg_newbox(L, drop_dones);
  struct tm_pg_dones *dones = calloc(1, sizeof *dones);
  if (dones == NULL)
    return luaL_error(L, "out of memory");
  box->p = dones;
  bool free_ = tm_pg_state(c->pg) != TM_PG_BUSY; /* else the call only says so */
  if (free_)
    lpg_enter(L, c);
  bool ok = tm_pg_exec(c->pg, sql, keep, dones, &err);
  if (free_)
    lpg_leave(c);
  if (!ok)
    return tm_lua_raise(L, &err);
  push_dones(L, dones);
  lpg_emptybox(box);
  return 1;
}

/* ---- query, one, value ---- */

/* Runs a statement with parameters from stack index `first`; its box is on the stack. */
static const struct tm_pg_result *run(lua_State *L, struct lpg_conn *c, const char *sql,
                                      unsigned stmt, int first)
{
  struct tm_error err;
  struct tm_pg_params params = lpg_toparams(L, first, lua_gettop(L));
  struct lpg_box *box = lpg_newbox(L, lpg_dropresult);
  bool free_ = tm_pg_state(c->pg) != TM_PG_BUSY;
  if (free_)
    lpg_enter(L, c);
  struct tm_pg_result *r = stmt == 0 ? tm_pg_query(c->pg, sql, &params, &err)
                                     : tm_pg_query_prepared(c->pg, stmt, &params, &err);
  if (free_)
    lpg_leave(c);
  if (r == NULL)
    tm_lua_raise(L, &err);
  box->p = r;
  return r;
}

/* Frees the result at once, and not when the collector gets to it. stack: box value */
static int done_with(lua_State *L, int box)
{
  lpg_emptybox(lua_touserdata(L, box));
  return 1;
}

static int push_all(lua_State *L, const struct tm_pg_result *r)
{
  int box = lua_gettop(L);
  lpg_pushresult(L, r);
  return done_with(L, box);
}

static int push_one(lua_State *L, const struct tm_pg_result *r)
{
  int box = lua_gettop(L);
  if (tm_pg_rows(r) == 0) {
    lua_pushnil(L);
  } else {
    lpg_pushcolumns(L, r);
    lpg_pushrow(L, r, 0, box + 1);
    lua_rotate(L, box + 1, 1); /* the row, then the columns */
  }
  return done_with(L, box) + (lua_gettop(L) > box + 1);
}

static int push_first(lua_State *L, const struct tm_pg_result *r)
{
  int box = lua_gettop(L);
  if (tm_pg_rows(r) == 0 || tm_pg_columns(r) == 0)
    lua_pushnil(L);
  else
    lpg_pushvalue(L, r, 0, 0);
  return done_with(L, box);
}

static int conn_query(lua_State *L)
{
  struct lpg_conn *c = lpg_checkconn(L, 1);
  return push_all(L, run(L, c, luaL_checkstring(L, 2), 0, 3));
}

static int conn_one(lua_State *L)
{
  struct lpg_conn *c = lpg_checkconn(L, 1);
  return push_one(L, run(L, c, luaL_checkstring(L, 2), 0, 3));
}

static int conn_value(lua_State *L)
{
  struct lpg_conn *c = lpg_checkconn(L, 1);
  return push_first(L, run(L, c, luaL_checkstring(L, 2), 0, 3));
}

/* ---- rows: user value 1 is the connection, 2 the array of column names ---- */

struct rows {
  struct tm_pg_result *row; /* the one being pushed */
  bool open;
};

static int rows_next(lua_State *L)
{
  struct tm_error err;
  struct rows *r = luaL_checkudata(L, 1, ROWS);
  lua_settop(L, 1);
  if (!r->open) {
    lua_pushnil(L);
    return 1;
  }
  struct lpg_conn *c = lpg_ownconn(L, 1);
  lpg_enter(L, c);
  int got = tm_pg_rows_next(c->pg, &r->row, &err);
  lpg_leave(c);
  r->open = got > 0;
  if (got < 0)
    return tm_lua_raise(L, &err);
  if (got == 0) {
    lua_pushnil(L);
    return 1;
  }
  if (lua_getiuservalue(L, 1, 2) == LUA_TNIL) {
    lua_pop(L, 1);
    lpg_pushcolumns(L, r->row);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, 2);
  }
  lpg_pushrow(L, r->row, 0, 2); /* may raise: __gc frees the row */
  tm_pg_result_free(r->row);
  r->row = NULL;
  return 1;
}

/* close, __close and __gc */
static int rows_close(lua_State *L)
{
  struct rows *r = luaL_checkudata(L, 1, ROWS);
  tm_pg_result_free(r->row);
  r->row = NULL;
  if (!r->open)
    return 0;
  r->open = false;
  lua_getiuservalue(L, 1, 1);
  struct lpg_conn *c = luaL_testudata(L, -1, LPG_CONN);
  if (c != NULL && c->pg != NULL && c->L == NULL)
    tm_pg_rows_end(c->pg);
  return 0;
}

static const luaL_Reg rows_meta[] = {
    {"__call", rows_next}, {"__close", rows_close}, {"__gc", rows_close}, {NULL, NULL}};
static const luaL_Reg rows_methods[] = {{"close", rows_close}, {NULL, NULL}};

static void new_type(lua_State *L, const char *name, const luaL_Reg *meta,
                     const luaL_Reg *methods)
{
  if (luaL_newmetatable(L, name)) {
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
}

/* rows(sql, ...) -> next, rows, nil, rows */
static int conn_rows(lua_State *L)
{
  struct tm_error err;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  const char *sql = luaL_checkstring(L, 2);
  struct tm_pg_params params = lpg_toparams(L, 3, lua_gettop(L));
  struct rows *r = lua_newuserdatauv(L, sizeof *r, 2);
  memset(r, 0, sizeof *r);
  new_type(L, ROWS, rows_meta, rows_methods);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  lua_pushcfunction(L, rows_next);
  lua_insert(L, -2);
  lua_pushnil(L);
  lua_pushvalue(L, -2); /* stack: ... next rows nil rows */
  if (!tm_pg_rows_start(c->pg, sql, &params, &err))
    return tm_lua_raise(L, &err);
  r->open = true;
  return 4;
}

/* ---- prepared statements: user value 1 is the connection ---- */

struct stmt {
  unsigned number; /* 0 once closed */
};

static int conn_prepare(lua_State *L);

/* The connection of an open statement. */
static struct lpg_conn *check_stmt(lua_State *L, unsigned *number)
{
  const struct stmt *s = luaL_checkudata(L, 1, STMT);
  luaL_argcheck(L, s->number != 0, 1, "the statement is closed");
  *number = s->number;
  return lpg_ownconn(L, 1);
}

static int stmt_query(lua_State *L)
{
  unsigned number;
  struct lpg_conn *c = check_stmt(L, &number);
  return push_all(L, run(L, c, NULL, number, 2));
}

static int stmt_one(lua_State *L)
{
  unsigned number;
  struct lpg_conn *c = check_stmt(L, &number);
  return push_one(L, run(L, c, NULL, number, 2));
}

static int stmt_value(lua_State *L)
{
  unsigned number;
  struct lpg_conn *c = check_stmt(L, &number);
  return push_first(L, run(L, c, NULL, number, 2));
}

/* exec(...) -> rows affected or returned, nil when the command tells none */
static int stmt_exec(lua_State *L)
{
  unsigned number;
  struct lpg_conn *c = check_stmt(L, &number);
  const struct tm_pg_result *r = run(L, c, NULL, number, 2);
  int box = lua_gettop(L);
  if (tm_pg_affected(r) >= 0)
    lua_pushinteger(L, tm_pg_affected(r));
  else
    lua_pushnil(L);
  return done_with(L, box);
}

/* close, __close and __gc: never talks to the server, see tm_pg_forget */
static int stmt_close(lua_State *L)
{
  struct stmt *s = luaL_checkudata(L, 1, STMT);
  unsigned number = s->number;
  s->number = 0;
  lua_getiuservalue(L, 1, 1);
  struct lpg_conn *c = luaL_testudata(L, -1, LPG_CONN);
  if (number != 0 && c != NULL && c->pg != NULL)
    tm_pg_forget(c->pg, number);
  return 0;
}

static const luaL_Reg stmt_meta[] = {
    {"__close", stmt_close}, {"__gc", stmt_close}, {NULL, NULL}};
static const luaL_Reg stmt_methods[] = {{"query", stmt_query}, {"one", stmt_one},
                                        {"value", stmt_value}, {"exec", stmt_exec},
                                        {"close", stmt_close}, {NULL, NULL}};

static int conn_prepare(lua_State *L)
{
  struct tm_error err;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  const char *sql = luaL_checkstring(L, 2);
  struct stmt *s = lua_newuserdatauv(L, sizeof *s, 1);
  s->number = 0;
  new_type(L, STMT, stmt_meta, stmt_methods);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  s->number = tm_pg_prepare(c->pg, sql, &err);
  if (s->number == 0)
    return tm_lua_raise(L, &err);
  return 1;
}

/* ---- describe ---- */

static void drop_columns(void *p, size_t n)
{
  tm_pg_columns_free(p, n);
}

static int conn_describe(lua_State *L)
{
  struct tm_error err;
  struct tm_pg_column *columns = NULL;
  size_t n = 0;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  const char *sql = luaL_checkstring(L, 2);
  struct lpg_box *box = lpg_newbox(L, drop_columns);
  if (!tm_pg_describe(c->pg, sql, &columns, &n, &err))
    return tm_lua_raise(L, &err);
  box->p = columns;
  box->n = n;
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lua_createtable(L, 0, 5);
    lua_pushstring(L, columns[i].name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, columns[i].type);
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, columns[i].oid);
    lua_setfield(L, -2, "oid");
    lua_pushinteger(L, columns[i].typmod);
    lua_setfield(L, -2, "typmod");
    if (columns[i].nullable >= 0) {
      lua_pushboolean(L, columns[i].nullable);
      lua_setfield(L, -2, "nullable");
    }
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lpg_emptybox(box);
  return 1;
}

/* ---- NOTIFY ---- */

/* LISTEN and UNLISTEN take a name that cannot be a parameter. */
static int listen_command(lua_State *L, const char *command)
{
  struct tm_error err;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  luaL_checkstring(L, 2);
  lua_settop(L, 2);
  luaL_requiref(L, "pg", luaopen_pg, 0);
  lua_getfield(L, -1, "quote_ident");
  lua_pushvalue(L, 2);
  lua_call(L, 1, 1);
  const char *sql = lua_pushfstring(L, "%s %s", command, lua_tostring(L, -1));
  if (!tm_pg_exec(c->pg, sql, false, NULL, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

static int conn_listen(lua_State *L)
{
  return listen_command(L, "LISTEN");
}

static int conn_unlisten(lua_State *L)
{
  return listen_command(L, "UNLISTEN");
}

static void drop_payload(void *p, size_t n)
{
  (void)n;
  free(p);
}

/* wait_notify([seconds]) -> {channel=, payload=, pid=}, or nil when none came in time */
static int conn_wait_notify(lua_State *L)
{
  struct tm_error err;
  struct tm_pg_notify notify;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  int64_t ms = lua_isnoneornil(L, 2) ? -1 : lpg_tomillis(L, 2, "seconds");
  struct lpg_box *box = lpg_newbox(L, drop_payload);
  int got = tm_pg_wait_notify(c->pg, ms, &notify, &err);
  if (got < 0)
    return tm_lua_raise(L, &err);
  if (got == 0) {
    lua_pushnil(L);
    return 1;
  }
  box->p = notify.payload;
  lua_createtable(L, 0, 3);
  lua_pushstring(L, notify.channel);
  lua_setfield(L, -2, "channel");
  lua_pushstring(L, notify.payload);
  lua_setfield(L, -2, "payload");
  lua_pushinteger(L, notify.pid);
  lua_setfield(L, -2, "pid");
  lpg_emptybox(box);
  return 1;
}

const luaL_Reg lpg_query_methods[] = {{"exec", conn_exec},
                                      {"query", conn_query},
                                      {"one", conn_one},
                                      {"value", conn_value},
                                      {"rows", conn_rows},
                                      {"prepare", conn_prepare},
                                      {"describe", conn_describe},
                                      {"listen", conn_listen},
                                      {"unlisten", conn_unlisten},
                                      {"wait_notify", conn_wait_notify},
                                      {NULL, NULL}};
