/*
** ltime.c: the Lua module "time" on top of cron/calendar, cron/format and base/clock
**
** An instant in Lua is a number of seconds since 1970 UTC: an integer, or a float where
** it has a fraction.
*/
#include "bind/ltime.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "bind/lerror.h"
#include "bind/lzone.h"
#include "cron/format.h"

static const char *const locales[] = {"en", "zh", NULL};

static int64_t checkinstant(lua_State *L, int index, int32_t *nanos)
{
  *nanos = 0;
  if (lua_isinteger(L, index))
    return lua_tointeger(L, index);
  lua_Number n = luaL_checknumber(L, index);
  luaL_argcheck(L, n >= -1e17 && n <= 1e17, index, "a time in seconds is wanted");
  lua_Number whole = floor(n);
  /* microseconds: more than these a float of today's times does not hold */
  int32_t micros = (int32_t)((n - whole) * 1e6 + 0.5);
  if (micros >= 1000000) {
    micros = 0;
    whole += 1;
  }
  *nanos = micros * 1000;
  return (int64_t)whole;
}

static int pushinstant(lua_State *L, int64_t instant, int32_t nanos)
{
  if (nanos == 0)
    lua_pushinteger(L, instant);
  else
    lua_pushnumber(L, (lua_Number)instant + nanos / 1e9);
  return 1;
}

/* ---- pushing text that C owns ---- */

static int push_buffer(lua_State *L)
{
  const struct tm_buffer *text = lua_touserdata(L, 1);
  lua_pushlstring(L, text->data, text->len);
  return 1;
}

/* Pushes the text if `ok`, else raises *err; frees the text either way. */
static int result(lua_State *L, struct tm_buffer *text, bool ok,
                  const struct tm_error *err)
{
  int status = LUA_OK;
  if (ok) {
    lua_pushcfunction(L, push_buffer);
    lua_pushlightuserdata(L, text);
    status = lua_pcall(L, 1, 1, 0);
  }
  tm_buffer_free(text);
  if (!ok)
    return tm_lua_raise(L, err);
  return status == LUA_OK ? 1 : lua_error(L);
}

/* ---- clocks ---- */

static int time_now(lua_State *L)
{
  lua_pushnumber(L, (lua_Number)tm_clock_wall_ms() / 1000);
  return 1;
}

static int time_mono(lua_State *L)
{
  lua_pushnumber(L, (lua_Number)tm_clock_mono_ms() / 1000);
  return 1;
}

static int time_sleep(lua_State *L)
{
  lua_Number seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, 1, "0 to 1e9 seconds are wanted");
  struct tm_error err;
  if (!tm_clock_sleep((int64_t)ceil(seconds * 1000), NULL, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

/* ---- reading and writing ---- */

static int time_parse(lua_State *L)
{
  const char *text = luaL_checkstring(L, 1);
  const struct tm_zone *zone = tm_lua_checkzone(L, 2);
  struct tm_civil civil;
  struct tm_error err;
  int32_t nanos, offset;
  if (!tm_calendar_parse(text, &civil, &nanos, &offset, &err))
    return tm_lua_raise(L, &err);
  int64_t local = tm_calendar_local(&civil);
  return pushinstant(
      L, offset == INT32_MIN ? tm_zone_resolve(zone, local, offset) : local - offset,
      nanos);
}

static int time_format(lua_State *L)
{
  size_t length;
  int32_t nanos;
  int64_t instant = checkinstant(L, 1, &nanos);
  const char *format = luaL_checklstring(L, 2, &length);
  const struct tm_zone *zone = tm_lua_checkzone(L, 3);
  int locale = luaL_checkoption(L, 4, "en", locales);
  struct tm_buffer out = {0};
  struct tm_error err;
  bool ok = tm_time_format_instant(&out, format, length, instant, nanos, zone,
                                   (enum tm_time_locale)locale, &err);
  return result(L, &out, ok, &err);
}

static int time_iso(lua_State *L)
{
  int32_t nanos;
  int64_t instant = checkinstant(L, 1, &nanos);
  const struct tm_zone *zone = tm_lua_checkzone(L, 2);
  const char *format = nanos == 0 ? "yyyy-MM-dd'T'HH:mm:ss" : "yyyy-MM-dd'T'HH:mm:ss.SSS";
  int32_t offset = tm_zone_offset(zone, instant), size = offset < 0 ? -offset : offset;
  struct tm_buffer out = {0};
  struct tm_error err;
  bool ok = tm_time_format_instant(&out, format, strlen(format), instant, nanos, zone,
                                   TM_LOCALE_EN, &err);
  if (ok) {
    tm_error_set(&err, TM_EMEMORY, "out of memory");
    ok = offset == 0 ? tm_buffer_addc(&out, 'Z')
                     : tm_buffer_addf(&out, "%c%02d:%02d", offset < 0 ? '-' : '+',
                                      (int)(size / 3600), (int)(size / 60 % 60));
    if (ok && size % 60 != 0) /* local mean time, before about 1900 */
      ok = tm_buffer_addf(&out, ":%02d", (int)(size % 60));
  }
  return result(L, &out, ok, &err);
}

/* ---- calendar ---- */

static void set_number(lua_State *L, const char *field, lua_Integer value)
{
  lua_pushinteger(L, value);
  lua_setfield(L, -2, field);
}

static int time_civil(lua_State *L)
{
  int32_t nanos;
  int64_t instant = checkinstant(L, 1, &nanos);
  const struct tm_zone *zone = tm_lua_checkzone(L, 2);
  struct tm_zone_span span;
  struct tm_civil c = {.year = 0};
  tm_zone_span_at(zone, instant, &span);
  if (instant >= TM_TIME_MIN && instant <= TM_TIME_MAX)
    tm_calendar_civil(instant + span.offset, &c);
  luaL_argcheck(L, tm_calendar_valid(&c), 1,
                "a time within the years 1 to 9999 is wanted");
  lua_createtable(L, 0, 10);
  set_number(L, "year", c.year);
  set_number(L, "month", c.month);
  set_number(L, "day", c.day);
  set_number(L, "hour", c.hour);
  set_number(L, "min", c.min);
  set_number(L, "sec", c.sec);
  set_number(L, "weekday", tm_calendar_weekday(tm_calendar_days(c.year, c.month, c.day)));
  set_number(L, "yearday", tm_calendar_day_of_year(c.year, c.month, c.day));
  set_number(L, "offset", span.offset);
  lua_pushstring(L, span.abbrev);
  lua_setfield(L, -2, "zone");
  return 1;
}

/* Adds to *sum the offsets at this index: a string, or an array of strings. */
static void checkoffsets(lua_State *L, int index, struct tm_time_offset *sum)
{
  struct tm_error err;
  size_t length;
  if (lua_type(L, index) == LUA_TSTRING) {
    const char *text = lua_tolstring(L, index, &length);
    if (!tm_time_offset_parse(text, length, sum, &err))
      tm_lua_raise(L, &err);
    return;
  }
  luaL_argexpected(L, lua_istable(L, index), index, "string or array of strings");
  for (lua_Integer i = 1; lua_geti(L, index, i) != LUA_TNIL; i++) {
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_argerror(L, index, "an array of strings such as \"+1d\" is wanted");
    checkoffsets(L, lua_absindex(L, -1), sum);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static int64_t moved(lua_State *L, int64_t instant, const struct tm_time_offset *offset,
                     const struct tm_zone *zone)
{
  struct tm_error err;
  if (!tm_time_add(instant, offset, zone, &instant, &err))
    tm_lua_raise(L, &err);
  return instant;
}

static int time_add(lua_State *L)
{
  int32_t nanos;
  int64_t instant = checkinstant(L, 1, &nanos);
  struct tm_time_offset offset = {0};
  checkoffsets(L, 2, &offset);
  return pushinstant(L, moved(L, instant, &offset, tm_lua_checkzone(L, 3)), nanos);
}

static int time_business(lua_State *L)
{
  int32_t nanos;
  int64_t instant = checkinstant(L, 1, &nanos);
  const struct tm_time_offset day_before = {.days = -1};
  return pushinstant(L, moved(L, instant, &day_before, tm_lua_checkzone(L, 2)), nanos);
}

static int time_variable(lua_State *L)
{
  size_t length;
  int32_t nanos;
  int64_t instant = checkinstant(L, 1, &nanos);
  const char *format = luaL_checklstring(L, 2, &length);
  struct tm_time_offset offset = {0};
  struct tm_error err;
  if (lua_isnoneornil(L, 3)) {
    long split = tm_time_variable_split(format, length, &offset, &err);
    if (split < 0)
      return tm_lua_raise(L, &err);
    length = (size_t)split;
  } else {
    checkoffsets(L, 3, &offset);
  }
  const struct tm_zone *zone = tm_lua_checkzone(L, 4);
  int locale = luaL_checkoption(L, 5, "en", locales);
  instant = moved(L, instant, &offset, zone);
  struct tm_buffer out = {0};
  bool ok = tm_time_format_instant(&out, format, length, instant, nanos, zone,
                                   (enum tm_time_locale)locale, &err);
  return result(L, &out, ok, &err);
}

/* zone(name) -> its canonical name; raises for an unknown one. */
static int time_zone(lua_State *L)
{
  luaL_checkstring(L, 1);
  lua_pushstring(L, tm_zone_name(tm_lua_checkzone(L, 1)));
  return 1;
}

static const luaL_Reg module[] = {
    {"now", time_now},           {"mono", time_mono},     {"sleep", time_sleep},
    {"parse", time_parse},       {"format", time_format}, {"iso", time_iso},
    {"civil", time_civil},       {"add", time_add},       {"business", time_business},
    {"variable", time_variable}, {"zone", time_zone},     {NULL, NULL}};

int luaopen_time(lua_State *L)
{
  luaL_newlib(L, module);
  return 1;
}
