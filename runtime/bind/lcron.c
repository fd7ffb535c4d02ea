/*
** lcron.c: the Lua module "cron" on top of cron/cron
*/
#include "bind/lcron.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lzone.h"
#include "cron/cron.h"

#define SCHEDULE "tidemill.cron.schedule"

enum { MOST_TIMES = 1000000 }; /* of one next() call */

struct schedule {
  struct tm_cron *cron;
  const struct tm_zone *zone; /* lives as long as the state */
  enum tm_cron_dst dst;
};

static const char *const dst_names[] = {"once", "quartz", "each", NULL};

static struct schedule *checkschedule(lua_State *L)
{
  return luaL_checkudata(L, 1, SCHEDULE);
}

/* An instant: a number of seconds; `up` rounds a fraction up instead of down. */
static int64_t checkinstant(lua_State *L, int index, bool up)
{
  if (lua_isinteger(L, index))
    return lua_tointeger(L, index);
  lua_Number n = luaL_checknumber(L, index);
  luaL_argcheck(L, n >= -1e17 && n <= 1e17, index, "a time in seconds is wanted");
  return (int64_t)(up ? ceil(n) : floor(n));
}

/* ---- schedules ---- */

static int schedule_next(lua_State *L)
{
  struct schedule *s = checkschedule(L);
  int64_t at = checkinstant(L, 2, false);
  bool one = lua_isnoneornil(L, 3);
  lua_Integer n = luaL_optinteger(L, 3, 1);
  luaL_argcheck(L, n >= 1 && n <= MOST_TIMES, 3, "a count from 1 to 1000000 is wanted");
  if (one) {
    if (tm_cron_next(s->cron, s->zone, s->dst, at, &at))
      lua_pushinteger(L, at);
    else
      lua_pushnil(L);
    return 1;
  }
  lua_createtable(L, n > 64 ? 64 : (int)n, 0);
  for (lua_Integer i = 1; i <= n && tm_cron_next(s->cron, s->zone, s->dst, at, &at);
       i++) {
    lua_pushinteger(L, at);
    lua_rawseti(L, -2, i);
  }
  return 1;
}

static int schedule_previous(lua_State *L)
{
  struct schedule *s = checkschedule(L);
  int64_t at = checkinstant(L, 2, true);
  if (tm_cron_previous(s->cron, s->zone, s->dst, at, &at))
    lua_pushinteger(L, at);
  else
    lua_pushnil(L);
  return 1;
}

static int push_buffer(lua_State *L)
{
  const struct tm_buffer *text = lua_touserdata(L, 1);
  lua_pushlstring(L, text->data, text->len);
  return 1;
}

static int schedule_describe(lua_State *L)
{
  struct schedule *s = checkschedule(L);
  struct tm_buffer text = {0};
  struct tm_error err;
  if (!tm_cron_describe(s->cron, &text)) {
    tm_buffer_free(&text);
    tm_error_set(&err, TM_EMEMORY, "out of memory");
    return tm_lua_raise(L, &err);
  }
  lua_pushcfunction(L, push_buffer); /* may run out of memory while we own the text */
  lua_pushlightuserdata(L, &text);
  int status = lua_pcall(L, 1, 1, 0);
  tm_buffer_free(&text);
  return status == LUA_OK ? 1 : lua_error(L);
}

static int schedule_expression(lua_State *L)
{
  lua_pushstring(L, tm_cron_text(checkschedule(L)->cron));
  return 1;
}

static int schedule_timezone(lua_State *L)
{
  lua_pushstring(L, tm_zone_name(checkschedule(L)->zone));
  return 1;
}

static int schedule_dst(lua_State *L)
{
  lua_pushstring(L, dst_names[checkschedule(L)->dst]);
  return 1;
}

static int schedule_tostring(lua_State *L)
{
  struct schedule *s = checkschedule(L);
  lua_pushfstring(L, "cron '%s' in %s, dst %s", tm_cron_text(s->cron),
                  tm_zone_name(s->zone), dst_names[s->dst]);
  return 1;
}

static int schedule_gc(lua_State *L)
{
  struct schedule *s = checkschedule(L);
  struct tm_cron *cron = s->cron;
  s->cron = NULL;
  tm_cron_free(cron);
  return 0;
}

/* ---- the module ---- */

/* Raises for a field that is not an option: a misspelt one would be a silent default. */
static void check_options(lua_State *L, int index)
{
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1); /* stack: key */
    const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    if (strcmp(key, "timezone") != 0 && strcmp(key, "dst") != 0)
      luaL_argerror(L, index,
                    lua_pushfstring(L, "unknown option '%s' (timezone, dst)", key));
  }
}

static int cron_parse(lua_State *L)
{
  const char *text = luaL_checkstring(L, 1);
  struct tm_error err;
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushnil(L);
    lua_pushnil(L);
  } else {
    luaL_checktype(L, 2, LUA_TTABLE);
    check_options(L, 2);
    lua_getfield(L, 2, "timezone");
    lua_getfield(L, 2, "dst");
  }
  const char *dst = luaL_optstring(L, 4, "once");
  struct schedule *s = lua_newuserdatauv(L, sizeof *s, 0);
  *s = (struct schedule){.cron = NULL};
  luaL_setmetatable(L, SCHEDULE);
  if (!tm_cron_dst_by_name(dst, &s->dst)) {
    tm_error_set(&err, TM_EUSAGE, "unknown dst rule '%.40s'", dst);
    tm_error_hint(&err, "rules are once, quartz and each");
    return tm_lua_raise(L, &err);
  }
  s->zone = tm_lua_checkzone(L, 3);
  s->cron = tm_cron_parse(text, &err);
  if (s->cron == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

static const luaL_Reg methods[] = {{"next", schedule_next},
                                   {"previous", schedule_previous},
                                   {"describe", schedule_describe},
                                   {"expression", schedule_expression},
                                   {"timezone", schedule_timezone},
                                   {"dst", schedule_dst},
                                   {NULL, NULL}};

/* No close: a schedule holds nothing but memory. */
static const luaL_Reg meta[] = {
    {"__tostring", schedule_tostring}, {"__gc", schedule_gc}, {NULL, NULL}};

static const luaL_Reg module[] = {{"parse", cron_parse}, {NULL, NULL}};

int luaopen_cron(lua_State *L)
{
  luaL_newmetatable(L, SCHEDULE);
  luaL_setfuncs(L, meta, 0);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  luaL_newlib(L, module);
  return 1;
}
