/*
** lpg.c: the Lua module "pg": connecting, closing, and facts about a connection
**
** A connection is a userdata; what is made from it (iterations, statements, transactions,
** streams) keeps it alive in a user value. Notices call Lua only from within a call that Lua
** made on that connection (lpg_enter, lpg_leave): a pump's thread has no Lua state, so
** notices that come while a stream moves go to the log.
*/
#include "bind/lpg.h"

#include <string.h>

#include "base/log.h"
#include "bind/lpg_impl.h"

enum { MAX_OPTIONS = 60 };

/* ---- checks ---- */

static struct lpg_conn *check_open(lua_State *L, struct lpg_conn *c)
{
  struct tm_error err;
  if (c->pg == NULL)
    tm_error_set(&err, TM_EUSAGE, "connection is closed");
  else if (c->L != NULL)
    tm_error_set(&err, TM_EUSAGE, "connection is busy: called from its notice function");
  else
    return c;
  tm_lua_raise(L, &err);
  return NULL;
}

struct lpg_conn *lpg_checkconn(lua_State *L, int index)
{
  return check_open(L, luaL_checkudata(L, index, LPG_CONN));
}

struct lpg_conn *lpg_ownconn(lua_State *L, int index)
{
  lua_getiuservalue(L, index, 1);
  struct lpg_conn *c = check_open(L, luaL_checkudata(L, -1, LPG_CONN));
  lua_pop(L, 1); /* the userdata at index keeps it */
  return c;
}

int64_t lpg_tomillis(lua_State *L, int index, const char *name)
{
  lua_Number seconds = lua_tonumber(L, index);
  if (!lua_isnumber(L, index) || !(seconds >= 0 && seconds <= 1e9))
    luaL_error(L, "bad option '%s': seconds expected", name);
  return seconds > 0 && seconds < 0.001 ? 1 : (int64_t)(seconds * 1000);
}

void lpg_checkfields(lua_State *L, int index, const char *const *names)
{
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const char *const *n = names;
    while (*n != NULL && strcmp(*n, key) != 0)
      n++;
    if (*n == NULL)
      luaL_argerror(L, index, lua_pushfstring(L, "unknown option '%s'", key));
  }
}

/* ---- notices ---- */

struct heard {
  int function;
  const struct tm_pg_notice *notice;
};

static void set_text(lua_State *L, const char *field, const char *text)
{
  if (*text == '\0')
    return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

static int call_notice(lua_State *L)
{
  const struct heard *h = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, h->function);
  lua_createtable(L, 0, 6);
  set_text(L, "severity", h->notice->severity);
  set_text(L, "code", h->notice->code);
  set_text(L, "message", h->notice->message);
  set_text(L, "detail", h->notice->detail);
  set_text(L, "hint", h->notice->hint);
  set_text(L, "context", h->notice->context);
  lua_call(L, 1, 0);
  return 0;
}

/* Runs under libpq: nothing may jump out of here. */
static void on_notice(void *data, const struct tm_pg_notice *notice)
{
  struct lpg_conn *c = data;
  lua_State *L = c->L;
  if (L == NULL) {
    tm_log(TM_INFO, "%s: %s", notice->severity, notice->message);
    return;
  }
  if (c->notice == LUA_NOREF || !lua_checkstack(L, 4))
    return;
  struct heard heard = {c->notice, notice};
  lua_pushcfunction(L, call_notice);
  lua_pushlightuserdata(L, &heard);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK)
    return;
  struct tm_error err;
  const char *text = lua_tostring(L, -1);
  tm_error_set(&err, TM_EUSAGE, "%s", text == NULL ? "an error value" : text);
  tm_log(TM_WARN, "the notice function failed: %s", err.message);
  lua_pop(L, 1);
}

void lpg_enter(lua_State *L, struct lpg_conn *c)
{
  c->L = L;
}

void lpg_leave(struct lpg_conn *c)
{
  c->L = NULL;
}

/* ---- connect ---- */

struct pairs {
  const char *keywords[MAX_OPTIONS + 1], *values[MAX_OPTIONS + 1];
};

/* Reads {host = ..., port = 5432}; the strings stay in Lua tables at or above `index`. */
static void read_pairs(lua_State *L, int index, struct pairs *p)
{
  int n = 0;
  lua_newtable(L); /* stack: keep */
  int keep = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
      luaL_argerror(L, index, "fields are libpq options: strings and numbers by name");
    luaL_argcheck(L, n < MAX_OPTIONS, index, "too many options");
    lua_pushvalue(L, -1);
    p->keywords[n] = lua_tostring(L, -3);
    p->values[n++] = lua_tostring(L, -1); /* turns our copy of a number into text */
    lua_rawseti(L, keep, n);
  }
  p->keywords[n] = p->values[n] = NULL;
}

static const char *opt_string(lua_State *L, int opts, const char *name)
{
  int type = lua_getfield(L, opts, name); /* stays on the stack, and in the table */
  if (type != LUA_TNIL && type != LUA_TSTRING)
    luaL_error(L, "bad option '%s': a string expected", name);
  return lua_tostring(L, -1);
}

static int64_t opt_millis(lua_State *L, int opts, const char *name)
{
  return lua_getfield(L, opts, name) == LUA_TNIL ? 0 : lpg_tomillis(L, -1, name);
}

static void read_opts(lua_State *L, int index, struct tm_pg_opts *o, struct lpg_conn *c)
{
  static const char *const names[] = {"application_name",  "connect_timeout", "timeout",
                                      "session",           "read_only",       "timezone",
                                      "statement_timeout", "notice",          NULL};
  lpg_checkfields(L, index, names);
  o->application_name = opt_string(L, index, "application_name");
  o->timezone = opt_string(L, index, "timezone");
  o->connect_timeout_ms = opt_millis(L, index, "connect_timeout");
  o->timeout_ms = opt_millis(L, index, "timeout");
  o->statement_timeout_ms = opt_millis(L, index, "statement_timeout");
  const char *session = opt_string(L, index, "session");
  if (session != NULL && strcmp(session, "data") != 0 && strcmp(session, "plain") != 0)
    luaL_error(L, "bad option 'session': 'plain' or 'data' expected");
  o->data = session != NULL && strcmp(session, "data") == 0;
  lua_getfield(L, index, "read_only");
  o->read_only = lua_toboolean(L, -1);
  int type = lua_getfield(L, index, "notice");
  if (type != LUA_TNIL && type != LUA_TFUNCTION)
    luaL_error(L, "bad option 'notice': a function expected");
  if (type == LUA_TFUNCTION)
    c->notice = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* connect([conninfo or table [, opts]]) */
static int pg_connect(lua_State *L)
{
  struct pairs pairs;
  struct tm_pg_opts opts = {0};
  struct tm_error err;
  lua_settop(L, 2);
  struct lpg_conn *c = lua_newuserdatauv(L, sizeof *c, 0); /* stack: 1 2 conn */
  memset(c, 0, sizeof *c);                                 /* closed: __gc is safe */
  c->notice = LUA_NOREF;
  luaL_setmetatable(L, LPG_CONN);
  if (lua_istable(L, 1)) {
    read_pairs(L, 1, &pairs);
    opts.keywords = pairs.keywords;
    opts.values = pairs.values;
  } else {
    opts.conninfo = luaL_optstring(L, 1, NULL);
  }
  if (!lua_isnil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    read_opts(L, 2, &opts, c);
  }
  opts.notice = on_notice;
  opts.notice_data = c;
  lpg_enter(L, c);
  c->pg = tm_pg_open(&opts, &err);
  lpg_leave(c);
  if (c->pg == NULL)
    return tm_lua_raise(L, &err);
  lua_pushvalue(L, 3);
  return 1;
}

/* close, __close and __gc */
static int conn_close(lua_State *L)
{
  struct lpg_conn *c = luaL_checkudata(L, 1, LPG_CONN);
  if (c->L != NULL)
    return luaL_error(L, "connection is busy: closed from its notice function");
  struct tm_pg *pg = c->pg;
  c->pg = NULL;
  tm_pg_close(pg);
  luaL_unref(L, LUA_REGISTRYINDEX, c->notice);
  c->notice = LUA_NOREF;
  return 0;
}

static int conn_tostring(lua_State *L)
{
  const struct lpg_conn *c = luaL_checkudata(L, 1, LPG_CONN);
  if (c->pg == NULL)
    lua_pushliteral(L, "pg.Conn (closed)");
  else
    lua_pushfstring(L, "pg.Conn (%s %d, pid %d)", tm_pg_flavor(c->pg),
                    tm_pg_server_version(c->pg), tm_pg_pid(c->pg));
  return 1;
}

/* ---- facts and settings ---- */

static int conn_pid(lua_State *L)
{
  lua_pushinteger(L, tm_pg_pid(lpg_checkconn(L, 1)->pg));
  return 1;
}

static int conn_backend_start(lua_State *L)
{
  lua_pushstring(L, tm_pg_backend_start(lpg_checkconn(L, 1)->pg));
  return 1;
}

static int conn_server_version(lua_State *L)
{
  struct lpg_conn *c = lpg_checkconn(L, 1);
  lua_pushinteger(L, tm_pg_server_version(c->pg));
  lua_pushstring(L, tm_pg_version_text(c->pg));
  return 2;
}

static int conn_flavor(lua_State *L)
{
  lua_pushstring(L, tm_pg_flavor(lpg_checkconn(L, 1)->pg));
  return 1;
}

static int conn_parameter(lua_State *L)
{
  struct lpg_conn *c = lpg_checkconn(L, 1);
  lua_pushstring(L, tm_pg_parameter(c->pg, luaL_checkstring(L, 2)));
  return 1;
}

static int conn_pooled(lua_State *L)
{
  lua_pushboolean(L, tm_pg_pooled(lpg_checkconn(L, 1)->pg));
  return 1;
}

static int conn_encrypted(lua_State *L)
{
  lua_pushboolean(L, tm_pg_encrypted(lpg_checkconn(L, 1)->pg));
  return 1;
}

static int conn_state(lua_State *L)
{
  static const char *const names[] = {[TM_PG_IDLE] = "idle",
                                      [TM_PG_IN_TX] = "transaction",
                                      [TM_PG_FAILED] = "failed",
                                      [TM_PG_BUSY] = "busy",
                                      [TM_PG_BROKEN] = "broken"};
  const struct lpg_conn *c = luaL_checkudata(L, 1, LPG_CONN);
  lua_pushstring(L, c->pg == NULL ? "closed" : names[tm_pg_state(c->pg)]);
  return 1;
}

/* cancel(): allowed from a notice function too. */
static int conn_cancel(lua_State *L)
{
  struct lpg_conn *c = luaL_checkudata(L, 1, LPG_CONN);
  if (c->pg != NULL)
    tm_pg_cancel(c->pg);
  return 0;
}

static int conn_timeout(lua_State *L)
{
  struct lpg_conn *c = lpg_checkconn(L, 1);
  tm_pg_set_timeout(c->pg, lua_isnoneornil(L, 2) ? 0 : lpg_tomillis(L, 2, "timeout"));
  return 0;
}

static int conn_notices(lua_State *L)
{
  struct lpg_conn *c = lpg_checkconn(L, 1);
  if (!lua_isnoneornil(L, 2))
    luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  luaL_unref(L, LUA_REGISTRYINDEX, c->notice);
  c->notice = LUA_NOREF;
  if (!lua_isnil(L, 2))
    c->notice = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static const luaL_Reg conn_methods[] = {{"close", conn_close},
                                        {"pid", conn_pid},
                                        {"backend_start", conn_backend_start},
                                        {"server_version", conn_server_version},
                                        {"flavor", conn_flavor},
                                        {"parameter", conn_parameter},
                                        {"pooled", conn_pooled},
                                        {"encrypted", conn_encrypted},
                                        {"state", conn_state},
                                        {"cancel", conn_cancel},
                                        {"timeout", conn_timeout},
                                        {"notices", conn_notices},
                                        {NULL, NULL}};

static const luaL_Reg conn_meta[] = {{"__close", conn_close},
                                     {"__gc", conn_close},
                                     {"__tostring", conn_tostring},
                                     {NULL, NULL}};

static const luaL_Reg module[] = {{"connect", pg_connect}, {NULL, NULL}};

int luaopen_pg(lua_State *L)
{
  if (luaL_newmetatable(L, LPG_CONN)) {
    luaL_setfuncs(L, conn_meta, 0);
    luaL_newlib(L, conn_methods);
    luaL_setfuncs(L, lpg_query_methods, 0);
    luaL_setfuncs(L, lpg_tx_methods, 0);
    luaL_setfuncs(L, lpg_stream_methods, 0);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  lpg_addvalues(L);
  return 1;
}
