/*
** lpg_tx.c: transactions of a pg.Conn
**
** The outermost is BEGIN ... COMMIT, those inside are savepoints. Each knows its depth; the
** connection counts how many are open. Ending an outer one ends those inside, which notice it
** by their depth.
*/
#include <stdio.h>

#include "bind/lpg_impl.h"

#define TX "tidemill.pg.tx"

struct tx {  /* user value 1 is the connection */
  int depth; /* 1: the outermost; 0: ended */
};

static bool command(lua_State *L, struct lpg_conn *c, const char *sql,
                    struct tm_error *err)
{
  bool free_ = tm_pg_state(c->pg) != TM_PG_BUSY; /* else the call only says so */
  if (free_)
    lpg_enter(L, c);
  bool ok = tm_pg_exec(c->pg, sql, false, NULL, err);
  if (free_)
    lpg_leave(c);
  return ok;
}

static struct lpg_conn *check_tx(lua_State *L, struct tx **tx)
{
  struct tm_error err;
  *tx = luaL_checkudata(L, 1, TX);
  struct lpg_conn *c = lpg_ownconn(L, 1);
  if ((*tx)->depth != 0 && (*tx)->depth <= c->depth)
    return c;
  tm_error_set(&err, TM_EUSAGE, "the transaction has ended");
  tm_lua_raise(L, &err);
  return NULL;
}

static int tx_commit(lua_State *L)
{
  struct tx *tx;
  struct tm_error err;
  struct lpg_conn *c = check_tx(L, &tx);
  if (tx->depth < c->depth) {
    tm_error_set(&err, TM_EUSAGE, "cannot commit: a transaction inside it is still open");
    return tm_lua_raise(L, &err);
  }
  if (tm_pg_state(c->pg) == TM_PG_BUSY) {
    tm_error_set(&err, TM_EUSAGE,
                 "cannot commit: a stream or an iteration is open on the connection");
    return tm_lua_raise(L, &err);
  }
  int depth = tx->depth;
  bool ok;
  if (depth == 1) {
    lpg_enter(L, c);
    ok = tm_pg_commit(c->pg, &err);
    lpg_leave(c);
  } else {
    ok = command(L, c, lua_pushfstring(L, "RELEASE SAVEPOINT tidemill_%d", depth), &err);
  }
  if (ok || depth == 1) { /* a failed COMMIT has ended it too */
    tx->depth = 0;
    c->depth = depth - 1;
  }
  if (!ok && depth == 1)
    tm_pg_rollback(c->pg); /* nothing when all went as it should */
  if (!ok)
    return tm_lua_raise(L, &err);
  return 0;
}

/* rollback, __close and __gc; nothing when the transaction has ended. */
static int tx_rollback(lua_State *L)
{
  struct tm_error err;
  struct tx *tx = luaL_checkudata(L, 1, TX);
  int depth = tx->depth;
  tx->depth = 0;
  lua_getiuservalue(L, 1, 1);
  struct lpg_conn *c = luaL_testudata(L, -1, LPG_CONN);
  if (depth == 0 || c == NULL || c->pg == NULL || c->L != NULL || depth > c->depth)
    return 0;
  c->depth = depth - 1;
  if (depth > 1) {
    char sql[96];
    snprintf(sql, sizeof sql,
             "ROLLBACK TO SAVEPOINT tidemill_%d; "
             "RELEASE SAVEPOINT tidemill_%d",
             depth, depth);
    tm_pg_rows_end(c->pg);
    if (command(L, c, sql, &err))
      return 0;
    c->depth = 0; /* then nothing of it can be saved */
  }
  tm_pg_rollback(c->pg);
  return 0;
}

static int tx_conn(lua_State *L)
{
  luaL_checkudata(L, 1, TX);
  lua_getiuservalue(L, 1, 1);
  return 1;
}

static const luaL_Reg tx_methods[] = {
    {"commit", tx_commit}, {"rollback", tx_rollback}, {"conn", tx_conn}, {NULL, NULL}};

static struct tx *new_tx(lua_State *L)
{
  struct tx *tx = lua_newuserdatauv(L, sizeof *tx, 1);
  tx->depth = 0; /* ended: __gc is safe from here on */
  if (luaL_newmetatable(L, TX)) {
    lua_pushcfunction(L, tx_rollback);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, tx_rollback);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, tx_methods);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  return tx;
}

/* Pushes what stands after BEGIN. */
static const char *push_mode(lua_State *L, int opts)
{
  static const char *const names[] = {"isolation", "read_only", "deferrable", NULL};
  static const char *const levels[] = {"read uncommitted", "read committed",
                                       "repeatable read", "serializable", NULL};
  if (lua_isnil(L, opts)) {
    lua_pushliteral(L, "");
    return "";
  }
  luaL_checktype(L, opts, LUA_TTABLE);
  lpg_checkfields(L, opts, names);
  lua_getfield(L, opts, "isolation");
  const char *level = "";
  if (!lua_isnil(L, -1))
    level = levels[luaL_checkoption(L, -1, NULL, levels)];
  lua_getfield(L, opts, "read_only");
  lua_getfield(L, opts, "deferrable");
  return lua_pushfstring(L, "%s%s%s%s", *level != '\0' ? "ISOLATION LEVEL " : "", level,
                         lua_toboolean(L, -2) ? " READ ONLY" : "",
                         lua_toboolean(L, -1) ? " DEFERRABLE" : "");
}

/* transaction([opts]) -> tx; inside another one it is a savepoint */
static int conn_transaction(lua_State *L)
{
  struct tm_error err;
  bool ok;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  lua_settop(L, 2);
  const char *mode = push_mode(L, 2);
  enum tm_pg_state state = tm_pg_state(c->pg);
  if (state == TM_PG_IDLE || state == TM_PG_BROKEN)
    c->depth = 0; /* what was open has ended by other means */
  int depth = c->depth + 1;
  luaL_argcheck(L, depth == 1 || *mode == '\0', 2, "a transaction is open: no mode");
  struct tx *tx = new_tx(L);
  if (depth == 1 && state == TM_PG_IN_TX) {
    tm_error_set(&err, TM_EUSAGE, "a transaction was opened by SQL on this connection");
    ok = false;
  } else if (depth == 1) {
    ok = tm_pg_begin(c->pg, mode, &err);
  } else {
    ok = command(L, c, lua_pushfstring(L, "SAVEPOINT tidemill_%d", depth), &err);
    lua_pop(L, 1);
  }
  if (!ok)
    return tm_lua_raise(L, &err);
  tx->depth = c->depth = depth;
  return 1;
}

const luaL_Reg lpg_tx_methods[] = {{"transaction", conn_transaction}, {NULL, NULL}};
