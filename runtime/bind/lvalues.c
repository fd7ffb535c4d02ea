/*
** lvalues.c: a row's values that come from Lua, as bytes
*/
#include "bind/lvalues.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tm_lua_values_reset(lua_State *L, struct tm_lua_values *v, size_t count)
{
  if (count > v->cap) {
    struct tm_lua_value *at = realloc(v->at, count * sizeof *at);
    if (at == NULL)
      luaL_error(L, "out of memory");
    v->at = at;
    v->cap = count;
  }
  memset(v->at, 0, count * sizeof *v->at);
  v->count = count;
  v->any = false;
  v->text.len = 0;
}

void tm_lua_values_free(struct tm_lua_values *v)
{
  free(v->at);
  tm_buffer_free(&v->text);
  *v = (struct tm_lua_values){0};
}

/* The fewest digits that read back as the same number. */
static const char *float_text(double d, char *out, size_t size)
{
  if (isnan(d))
    return "NaN";
  if (isinf(d))
    return d > 0 ? "Infinity" : "-Infinity";
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(out, size, "%.*g", digits, d);
    if (strtod(out, NULL) == d)
      break;
  }
  return out;
}

static void blame(lua_State *L, size_t i, const char *name, const char *what)
{
  if (name != NULL)
    luaL_error(L, "column '%s': %s", name, what);
  luaL_error(L, "column %I: %s", (LUAI_UACINT)(i + 1), what);
}

void tm_lua_values_set(lua_State *L, struct tm_lua_values *v, size_t i, int index,
                       bool checked, const char *name)
{
  char number[40];
  const char *bytes = number;
  size_t len = 0;
  bool null = false;
  switch (lua_type(L, index)) {
  case LUA_TSTRING:
    bytes = lua_tolstring(L, index, &len);
    if (checked && tm_utf8_check(bytes, len) < len)
      blame(L, i, name, "the value is not valid UTF-8");
    break;
  case LUA_TNUMBER:
    if (lua_isinteger(L, index))
      snprintf(number, sizeof number, LUA_INTEGER_FMT, lua_tointeger(L, index));
    else
      bytes = float_text(lua_tonumber(L, index), number, sizeof number);
    len = strlen(bytes);
    break;
  case LUA_TBOOLEAN:
    bytes = lua_toboolean(L, index) ? "t" : "f";
    len = 1;
    break;
  case LUA_TNIL:
    null = true;
    break;
  default:
    null = lua_islightuserdata(L, index) && lua_touserdata(L, index) == NULL;
    if (!null)
      blame(L, i, name,
            lua_pushfstring(L, "a value is a string, number, boolean or null, not a %s",
                            luaL_typename(L, index)));
  }
  struct tm_lua_value *value = &v->at[i];
  *value =
      (struct tm_lua_value){.set = true, .null = null, .offset = v->text.len, .len = len};
  v->any = true;
  if (!tm_buffer_add(&v->text, bytes, len))
    luaL_error(L, "out of memory");
}

/* The position that the key at -2 means, from 0. */
static size_t position(lua_State *L, const struct tm_lua_values *v, int names,
                       const size_t *order, size_t order_count)
{
  if (lua_isinteger(L, -2)) {
    lua_Integer n = lua_tointeger(L, -2);
    size_t count = order != NULL ? order_count : v->count;
    if (n < 1 || (size_t)n > count)
      luaL_error(L, "a row of %I columns has no position %I", (LUAI_UACINT)count,
                 (LUAI_UACINT)n);
    return order != NULL ? order[n - 1] : (size_t)n - 1;
  }
  lua_pushvalue(L, -2);
  lua_rawget(L, names);
  lua_Integer n = lua_tointeger(L, -1);
  lua_pop(L, 1);
  if (n < 1 || (size_t)n > v->count)
    luaL_error(L, "no column '%s'", luaL_tolstring(L, -2, NULL));
  return (size_t)n - 1;
}

void tm_lua_values_table(lua_State *L, struct tm_lua_values *v, int index, int names,
                         const size_t *order, size_t order_count, bool checked)
{
  index = lua_absindex(L, index);
  names = lua_absindex(L, names);
  tm_lua_values_reset(L, v, v->count);
  for (size_t i = 0; i < v->count; i++)
    v->at[i].set = v->at[i].null = true;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    size_t i = position(L, v, names, order, order_count);
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    tm_lua_values_set(L, v, i, -1, checked, name);
    lua_pop(L, 1);
  }
}

struct tm_field tm_lua_values_field(const struct tm_lua_values *v, size_t i)
{
  const struct tm_lua_value *value = &v->at[i];
  if (value->null)
    return (struct tm_field){NULL, 0};
  if (value->len == 0)
    return (struct tm_field){"", 0};
  return (struct tm_field){v->text.data + value->offset, value->len};
}

void tm_lua_pushfield(lua_State *L, const struct tm_field *field)
{
  if (field->data == NULL)
    lua_pushlightuserdata(L, NULL);
  else
    lua_pushlstring(L, field->data, field->len);
}
