/*
** lrate.c: stream.rate and stream.throttle
*/
#include "bind/lrate.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lstream.h"
#include "stream/rate.h"

#define RATE "tidemill.rate"

static int rate_free(lua_State *L)
{
  struct tm_rate **slot = luaL_checkudata(L, 1, RATE);
  struct tm_rate *rate = *slot;
  *slot = NULL;
  tm_rate_free(rate);
  return 0;
}

/* The bytes at `index`; `what` is the word for messages. Absent: 0. */
static uint64_t check_bytes(lua_State *L, int index, const char *what)
{
  if (lua_isnoneornil(L, index))
    return 0;
  lua_Number n = lua_tonumber(L, index);
  if (lua_type(L, index) != LUA_TNUMBER || !(n >= 1 && n <= 1e15))
    luaL_error(L, "%s: a number of bytes from 1 on wanted", what);
  return (uint64_t)n;
}

/* Pushes a rate. It is closed by the collector alone, after the stages that keep it. */
static struct tm_rate *push_rate(lua_State *L, uint64_t bytes, uint64_t burst)
{
  static const luaL_Reg meta[] = {{"__gc", rate_free}, {NULL, NULL}};
  struct tm_rate **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  struct tm_error err;
  *slot = NULL;
  if (luaL_newmetatable(L, RATE))
    luaL_setfuncs(L, meta, 0);
  lua_setmetatable(L, -2);
  *slot = tm_rate_new(bytes, burst, &err);
  if (*slot == NULL)
    tm_lua_raise(L, &err);
  return *slot;
}

int tm_lua_rate(lua_State *L)
{
  luaL_checknumber(L, 1);
  push_rate(L, check_bytes(L, 1, "rate"), check_bytes(L, 2, "burst"));
  return 1;
}

/* The rate of the options at 1, pushed. */
static struct tm_rate *rate_of(lua_State *L)
{
  uint64_t burst = 0;
  if (lua_getfield(L, 1, "burst") != LUA_TNIL)
    burst = check_bytes(L, -1, "burst");
  lua_pop(L, 1);
  lua_getfield(L, 1, "rate");
  struct tm_rate **shared = luaL_testudata(L, -1, RATE);
  if (shared != NULL && burst > 0)
    luaL_error(L, "burst: the rate has one already");
  if (shared != NULL)
    return *shared;
  luaL_argexpected(L, lua_type(L, -1) == LUA_TNUMBER, 1, "table with a rate");
  return push_rate(L, check_bytes(L, -1, "rate"), burst);
}

int tm_lua_throttle(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    if (strcmp(key, "rate") != 0 && strcmp(key, "burst") != 0)
      return luaL_error(L, "throttle: no option '%s'", key);
  }
  struct tm_rate *rate = rate_of(L);
  struct tm_error err;
  struct tm_stage **slot = tm_lua_newstage(L, lua_gettop(L));
  *slot = tm_rate_stage(rate, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}
