/*
** lsqlite.c: the internal Lua module "tidemill.sqlite", one face of the state store
**
**     local db <close> = sqlite.open(path)
**     db:exec("UPDATE t SET a = ? WHERE b = ?", 1, "x")   -> rows changed
**     db:query("SELECT a, b FROM t WHERE a > ?", 1)       -> {{a=, b=}, ...}; NULL is absent
**     db:row(sql, ...)                                    -> the first row, or nil
**     db:script("several; statements")
**     db:transaction(function() ... end)                  -> what the function returns
**
** This is all the state store asks of a database, so a PostgreSQL face fits beside it: `?` stands
** for a parameter, values are nil, booleans (0 and 1), integers, floats and strings. A
** statement always runs to its end before Lua sees a row, so no cursor stays open.
*/
#include "bind/lsqlite.h"

#include <lauxlib.h>

#include "bind/lerror.h"
#include "driver/sqlite.h"

#define DB "tidemill.sqlite.db"

struct db {
  struct tm_sqlite *sqlite; /* NULL once closed */
};

static struct tm_sqlite *checkdb(lua_State *L)
{
  struct db *db = luaL_checkudata(L, 1, DB);
  if (db->sqlite == NULL)
    luaL_argerror(L, 1, "the database is closed");
  return db->sqlite;
}

static int sqlite_open(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  int busy_ms = (int)luaL_optinteger(L, 2, 10000);
  struct tm_error err;
  struct db *db = lua_newuserdatauv(L, sizeof *db, 0);
  db->sqlite = NULL;
  luaL_setmetatable(L, DB);
  db->sqlite = tm_sqlite_open(path, busy_ms, &err);
  if (db->sqlite == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

static int db_close(lua_State *L)
{
  struct db *db = luaL_checkudata(L, 1, DB);
  struct tm_sqlite *sqlite = db->sqlite;
  db->sqlite = NULL;
  tm_sqlite_close(sqlite);
  return 0;
}

static bool bind_value(lua_State *L, int index, struct tm_sqlite_stmt *st, int i,
                       struct tm_error *err)
{
  size_t len;
  const char *text;
  switch (lua_type(L, index)) {
  case LUA_TNONE:
  case LUA_TNIL:
    return tm_sqlite_bind_null(st, i, err);
  case LUA_TBOOLEAN:
    return tm_sqlite_bind_int(st, i, lua_toboolean(L, index), err);
  case LUA_TNUMBER:
    return lua_isinteger(L, index)
               ? tm_sqlite_bind_int(st, i, lua_tointeger(L, index), err)
               : tm_sqlite_bind_double(st, i, lua_tonumber(L, index), err);
  case LUA_TSTRING:
    text = lua_tolstring(L, index, &len);
    return tm_sqlite_bind_text(st, i, text, len, err);
  default:
    tm_error_set(err, TM_EUSAGE, "sqlite: parameter %d is a %s", i + 1,
                 luaL_typename(L, index));
    return false;
  }
}

/* The statement at index 2 with its parameters from index 3 on. */
static struct tm_sqlite_stmt *prepare(lua_State *L)
{
  struct tm_sqlite *db = checkdb(L);
  size_t len;
  const char *sql = luaL_checklstring(L, 2, &len);
  struct tm_error err;
  struct tm_sqlite_stmt *st = tm_sqlite_prepare(db, sql, len, &err);
  if (st == NULL)
    tm_lua_raise(L, &err);
  int given = lua_gettop(L) - 2, wanted = tm_sqlite_params(st);
  while (given > wanted && lua_isnil(L, given + 2)) /* trailing nils may be too many */
    given--;
  if (given > wanted) /* or missing */
    luaL_error(L, "sqlite: %d parameters given, %d wanted", given, wanted);
  for (int i = 0; i < wanted; i++)
    if (!bind_value(L, i + 3, st, i, &err))
      tm_lua_raise(L, &err);
  return st;
}

static void push_value(lua_State *L, struct tm_sqlite_stmt *st, int i)
{
  size_t len;
  switch (tm_sqlite_type(st, i)) {
  case TM_SQLITE_NULL:
    lua_pushnil(L);
    break;
  case TM_SQLITE_INT:
    lua_pushinteger(L, tm_sqlite_int(st, i));
    break;
  case TM_SQLITE_DOUBLE:
    lua_pushnumber(L, tm_sqlite_double(st, i));
    break;
  case TM_SQLITE_TEXT: {
    const char *text = tm_sqlite_text(st, i, &len);
    lua_pushlstring(L, text, len);
    break;
  }
  }
}

/* Runs the statement, at most `limit` rows; pushes the array of rows. If memory runs out on the
** way the statement stays unfinished in the cache, and its next use resets it. */
static int push_rows(lua_State *L, struct tm_sqlite_stmt *st, lua_Integer limit)
{
  struct tm_error err;
  int columns = tm_sqlite_columns(st), result = 0;
  lua_newtable(L);
  for (lua_Integer n = 1; n <= limit && (result = tm_sqlite_step(st, &err)) == 1; n++) {
    lua_createtable(L, 0, columns);
    for (int i = 0; i < columns; i++) {
      push_value(L, st, i);
      lua_setfield(L, -2, tm_sqlite_name(st, i));
    }
    lua_rawseti(L, -2, n);
  }
  tm_sqlite_reset(st);
  return result < 0 ? tm_lua_raise(L, &err) : 1;
}

static int db_query(lua_State *L)
{
  return push_rows(L, prepare(L), LUA_MAXINTEGER);
}

static int db_row(lua_State *L)
{
  push_rows(L, prepare(L), 1);
  lua_rawgeti(L, -1, 1);
  return 1;
}

static int db_exec(lua_State *L)
{
  struct tm_sqlite_stmt *st = prepare(L);
  struct tm_error err;
  int result;
  while ((result = tm_sqlite_step(st, &err)) == 1)
    continue;
  tm_sqlite_reset(st);
  if (result < 0)
    return tm_lua_raise(L, &err);
  lua_pushinteger(L, tm_sqlite_changes(checkdb(L)));
  return 1;
}

static int db_script(lua_State *L)
{
  struct tm_sqlite *db = checkdb(L);
  struct tm_error err;
  if (!tm_sqlite_exec(db, luaL_checkstring(L, 2), &err))
    return tm_lua_raise(L, &err);
  return 0;
}

/* transaction(fn): BEGIN IMMEDIATE, fn(), COMMIT; a raise rolls back and goes on. Inside another
** transaction the function just runs as part of it. */
static int db_transaction(lua_State *L)
{
  struct tm_sqlite *db = checkdb(L);
  struct tm_error err;
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  if (tm_sqlite_in_transaction(db)) {
    lua_call(L, 0, LUA_MULTRET);
    return lua_gettop(L) - 1;
  }
  if (!tm_sqlite_exec(db, "BEGIN IMMEDIATE", &err))
    return tm_lua_raise(L, &err);
  int status = lua_pcall(L, 0, LUA_MULTRET, 0);
  db = checkdb(L); /* fn may have closed it */
  if (status == LUA_OK && tm_sqlite_exec(db, "COMMIT", &err))
    return lua_gettop(L) - 1;
  struct tm_error ignored; /* the first error is the one that matters */
  if (tm_sqlite_in_transaction(db) && !tm_sqlite_exec(db, "ROLLBACK", &ignored))
    tm_error_detail(&err, "%s", ignored.message);
  return status == LUA_OK ? tm_lua_raise(L, &err) : lua_error(L);
}

static const luaL_Reg db_methods[] = {{"exec", db_exec},
                                      {"query", db_query},
                                      {"row", db_row},
                                      {"script", db_script},
                                      {"transaction", db_transaction},
                                      {"close", db_close},
                                      {NULL, NULL}};

static const luaL_Reg db_meta[] = {
    {"__close", db_close}, {"__gc", db_close}, {NULL, NULL}};

static const luaL_Reg module[] = {{"open", sqlite_open}, {NULL, NULL}};

int luaopen_tidemill_sqlite(lua_State *L)
{
  if (luaL_newmetatable(L, DB)) {
    luaL_setfuncs(L, db_meta, 0);
    luaL_newlib(L, db_methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  return 1;
}
