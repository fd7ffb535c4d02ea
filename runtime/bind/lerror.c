/*
** lerror.c: struct tm_error as a Lua error table, and back
*/
#include "bind/lerror.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"

#define ERROR "tidemill.error"

static int error_tostring(lua_State *L)
{
  lua_settop(L, 1);
  lua_getfield(L, 1, "message");
  if (!lua_isstring(L, -1))
    lua_pushliteral(L, "unknown error");
  lua_getfield(L, 1, "code");
  if (lua_isstring(L, -1) && lua_rawlen(L, -1) > 0)
    lua_pushfstring(L, "%s (%s)", lua_tostring(L, -2), lua_tostring(L, -1));
  else
    lua_pushvalue(L, -2);
  return 1;
}

/* Pushes the metatable, made on first use. */
static void push_metatable(lua_State *L)
{
  if (luaL_newmetatable(L, ERROR)) {
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
  }
}

static void set_text(lua_State *L, const char *field, const char *text)
{
  if (text[0] == '\0')
    return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

void tm_lua_pusherror(lua_State *L, const struct tm_error *err)
{
  lua_createtable(L, 0, 7);
  set_text(L, "kind", tm_kind_name(err->kind));
  set_text(L, "message", err->message);
  set_text(L, "code", err->code);
  set_text(L, "request_id", err->request_id);
  set_text(L, "detail", err->detail);
  set_text(L, "hint", err->hint);
  if (err->status != 0) {
    lua_pushinteger(L, err->status);
    lua_setfield(L, -2, "status");
  }
  push_metatable(L);
  lua_setmetatable(L, -2);
}

/* The signal has been told: the hook that main armed shall not tell it a second time, in
** whatever handles the first. */
static void disarm(lua_State *L)
{
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_sethook(lua_tothread(L, -1), NULL, 0, 0);
  lua_pop(L, 1);
}

int tm_lua_raise(lua_State *L, const struct tm_error *err)
{
  if (err->kind == TM_ECANCELED && tm_cancel_fired(tm_interrupt()))
    disarm(L);
  tm_lua_pusherror(L, err);
  return lua_error(L);
}

static void get_text(lua_State *L, int index, const char *field, char *out, size_t size)
{
  if (lua_getfield(L, index, field) == LUA_TSTRING)
    snprintf(out, size, "%s", lua_tostring(L, -1));
  lua_pop(L, 1);
}

void tm_lua_toerror(lua_State *L, int index, struct tm_error *err)
{
  index = lua_absindex(L, index);
  if (!lua_istable(L, index)) {
    const char *text = lua_tostring(L, index);
    tm_error_set(err, TM_EUSAGE, "%s", text != NULL ? text : "error without a message");
    return;
  }
  char kind[32] = "", message[sizeof err->message] = "";
  get_text(L, index, "kind", kind, sizeof kind);
  get_text(L, index, "message", message, sizeof message);
  enum tm_kind k = tm_kind_by_name(kind);
  tm_error_set(err, k == TM_OK ? TM_EUSAGE : k, "%s", message);
  get_text(L, index, "code", err->code, sizeof err->code);
  get_text(L, index, "request_id", err->request_id, sizeof err->request_id);
  get_text(L, index, "detail", err->detail, sizeof err->detail);
  get_text(L, index, "hint", err->hint, sizeof err->hint);
  if (lua_getfield(L, index, "status") == LUA_TNUMBER)
    err->status = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
}

static int error_new(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  push_metatable(L);
  lua_setmetatable(L, 1);
  return 1;
}

static int error_is(lua_State *L)
{
  bool is = false;
  if (lua_getmetatable(L, 1)) {
    push_metatable(L);
    is = lua_rawequal(L, -1, -2);
  }
  lua_pushboolean(L, is);
  return 1;
}

/* exit_code(kind) -> integer, retryable(kind) -> boolean: the table of kinds. */
static int error_exit_code(lua_State *L)
{
  enum tm_kind kind = tm_kind_by_name(luaL_optstring(L, 1, ""));
  lua_pushinteger(L, kind == TM_OK ? 1 : tm_kind_exit_code(kind));
  return 1;
}

static int error_retryable(lua_State *L)
{
  lua_pushboolean(L, tm_kind_retryable(tm_kind_by_name(luaL_optstring(L, 1, ""))));
  return 1;
}

static const luaL_Reg module[] = {{"new", error_new},
                                  {"is", error_is},
                                  {"exit_code", error_exit_code},
                                  {"retryable", error_retryable},
                                  {NULL, NULL}};

int luaopen_tidemill_error(lua_State *L)
{
  luaL_newlib(L, module);
  return 1;
}
