/*
** lpg_stream.c: COPY of a pg.Conn as stream values
*/
#include "bind/lpg_impl.h"
#include "bind/lstream.h"

#define SOURCE "tidemill.pg.source"
#define SINK "tidemill.pg.sink"

static int push_rows(lua_State *L, int64_t rows)
{
  if (rows >= 0)
    lua_pushinteger(L, rows);
  else
    lua_pushnil(L);
  return 1;
}

static int source_rows(lua_State *L)
{
  luaL_checkudata(L, 1, SOURCE);
  return push_rows(L, tm_pg_copied_out(tm_lua_checksource(L, 1)));
}

static int sink_rows(lua_State *L)
{
  luaL_checkudata(L, 1, SINK);
  return push_rows(L, tm_pg_copied_in(tm_lua_checksink(L, 1)));
}

static const luaL_Reg source_methods[] = {{"rows", source_rows}, {NULL, NULL}};
static const luaL_Reg sink_methods[] = {{"rows", sink_rows}, {NULL, NULL}};

static int conn_copy_out(lua_State *L)
{
  struct tm_error err;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  const char *sql = luaL_checkstring(L, 2);
  bool wait = true;
  if (!lua_isnoneornil(L, 3)) {
    static const char *const known[] = {"wait", NULL};
    luaL_checktype(L, 3, LUA_TTABLE);
    lpg_checkfields(L, 3, known);
    wait = lua_getfield(L, 3, "wait") == LUA_TNIL || lua_toboolean(L, -1);
  }
  void **slot = tm_lua_newstream(L, SOURCE, "__tm_source", source_methods, 1);
  *slot = tm_pg_copy_out(c->pg, sql, wait, &err);
  if (*slot == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

static int conn_copy_in(lua_State *L)
{
  struct tm_error err;
  struct lpg_conn *c = lpg_checkconn(L, 1);
  const char *sql = luaL_checkstring(L, 2);
  void **slot = tm_lua_newstream(L, SINK, "__tm_sink", sink_methods, 1);
  *slot = tm_pg_copy_in(c->pg, sql, &err);
  if (*slot == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

const luaL_Reg lpg_stream_methods[] = {
    {"copy_out", conn_copy_out}, {"copy_in", conn_copy_in}, {NULL, NULL}};
