/*
** llog.c: the Lua module "log" on top of base/log
*/
#include "bind/llog.h"

#include <lauxlib.h>

#include "base/log.h"

/* Formats like string.format when there are further arguments. */
static int log_at(lua_State *L, enum tm_level level)
{
  luaL_checkany(L, 1);
  if (!tm_log_enabled(level))
    return 0;
  int n = lua_gettop(L);
  if (n > 1) {
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "format");
    lua_insert(L, 1);
    lua_pop(L, 1);
    lua_call(L, n, 1);
  }
  tm_log(level, "%s", luaL_tolstring(L, 1, NULL));
  return 0;
}

static int log_debug(lua_State *L)
{
  return log_at(L, TM_DEBUG);
}

static int log_info(lua_State *L)
{
  return log_at(L, TM_INFO);
}

static int log_warn(lua_State *L)
{
  return log_at(L, TM_WARN);
}

static int log_error(lua_State *L)
{
  return log_at(L, TM_ERROR);
}

/* configure{level=, json=}: for the process, once, before anything else logs. */
static int log_configure(lua_State *L)
{
  static const char *const names[] = {"debug", "info", "warn", "error", NULL};
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "level");
  lua_getfield(L, 1, "json");
  struct tm_log_config config = {
      .level = (enum tm_level)luaL_checkoption(L, 2, "info", names),
      .json = lua_toboolean(L, 3),
  };
  tm_log_configure(config);
  return 0;
}

static const luaL_Reg module[] = {{"debug", log_debug},         {"info", log_info},
                                  {"warn", log_warn},           {"error", log_error},
                                  {"configure", log_configure}, {NULL, NULL}};

int luaopen_log(lua_State *L)
{
  luaL_newlib(L, module);
  return 1;
}
