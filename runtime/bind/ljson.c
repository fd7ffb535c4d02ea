/*
** ljson.c: the Lua module "json" (jansson)
**
** jansson rather than lua-cjson: integers keep all 64 bits (lua-cjson writes at most 14
** digits and reads every number as a float), errors tell the line, and an empty array
** stays one. This binding is its own driver: between a tree of values and Lua there is
** nothing for a driver to hide.
**
** While a Lua error may be raised no json_t is owned by C alone: encoding builds the tree
** without calling anything that raises, decoding keeps the tree in a userdata box.
*/
#include "bind/ljson.h"

#include <jansson.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"

#define ARRAY "tidemill.json.array"
#define BOX "tidemill.json.box"

enum { MAX_DEPTH = 200 };

/* ---- encoding ---- */

struct encoder {
  lua_State *L;
  char message[160]; /* why a value cannot be encoded */
};

static json_t *encode_value(struct encoder *e, int index, int depth);

static json_t *refuse(struct encoder *e, json_t *half, const char *why)
{
  json_decref(half);
  if (e->message[0] == '\0')
    snprintf(e->message, sizeof e->message, "cannot encode JSON: %s", why);
  return NULL;
}

/* How many elements an array has: keys 1..n and no other; -1: not an array. */
static lua_Integer array_length(lua_State *L, int index)
{
  lua_Integer count = 0, highest = 0;
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (key < 1) {
      lua_pop(L, 2);
      return -1;
    }
    count++;
    highest = key > highest ? key : highest;
  }
  if (count == 0) { /* empty: an array only when marked as one */
    bool marked = lua_getmetatable(L, index);
    if (marked) {
      luaL_getmetatable(L, ARRAY);
      marked = lua_rawequal(L, -1, -2);
      lua_pop(L, 2);
    }
    return marked ? 0 : -1;
  }
  return count == highest ? count : -1;
}

static json_t *encode_array(struct encoder *e, int index, lua_Integer n, int depth)
{
  json_t *array = json_array();
  for (lua_Integer i = 1; array != NULL && i <= n; i++) {
    lua_rawgeti(e->L, index, i);
    json_t *value = encode_value(e, lua_gettop(e->L), depth);
    lua_pop(e->L, 1);
    if (value == NULL || json_array_append_new(array, value) != 0)
      return refuse(e, array, "out of memory");
  }
  return array;
}

static json_t *encode_object(struct encoder *e, int index, int depth)
{
  lua_State *L = e->L;
  json_t *object = json_object();
  if (object == NULL)
    return refuse(e, NULL, "out of memory");
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    char number[32];
    const char *key = number;
    if (lua_type(L, -2) == LUA_TSTRING)
      key = lua_tostring(L, -2);
    else if (lua_isinteger(L, -2))
      snprintf(number, sizeof number, "%lld", (long long)lua_tointeger(L, -2));
    else
      key = NULL;
    if (key == NULL) {
      lua_pop(L, 2);
      return refuse(e, object, "a key is neither a string nor an integer");
    }
    json_t *value = encode_value(e, lua_gettop(L), depth);
    if (value == NULL || json_object_set_new(object, key, value) != 0) {
      lua_pop(L, 2);
      return refuse(e, object, "a key is not UTF-8");
    }
  }
  return object;
}

static json_t *encode_table(struct encoder *e, int index, int depth)
{
  if (depth >= MAX_DEPTH || !lua_checkstack(e->L, 8))
    return refuse(e, NULL, "nested over 200 deep, or in itself");
  lua_Integer n = array_length(e->L, index);
  return n >= 0 ? encode_array(e, index, n, depth + 1)
                : encode_object(e, index, depth + 1);
}

static json_t *encode_string(struct encoder *e, int index)
{
  size_t len;
  const char *text = lua_tolstring(e->L, index, &len);
  json_t *value = json_stringn(text, len);
  return value != NULL ? value : refuse(e, NULL, "a string is not UTF-8");
}

/* Never raises: the stack has room and no metamethod is called. */
static json_t *encode_value(struct encoder *e, int index, int depth)
{
  lua_State *L = e->L;
  switch (lua_type(L, index)) {
  case LUA_TNIL:
    return json_null();
  case LUA_TLIGHTUSERDATA:
    return lua_touserdata(L, index) == NULL
               ? json_null()
               : refuse(e, NULL, "a pointer has no JSON form");
  case LUA_TBOOLEAN:
    return json_boolean(lua_toboolean(L, index));
  case LUA_TNUMBER: {
    json_t *number = lua_isinteger(L, index) ? json_integer(lua_tointeger(L, index))
                                             : json_real(lua_tonumber(L, index));
    return number != NULL ? number : refuse(e, NULL, "a number is NaN or infinite");
  }
  case LUA_TSTRING:
    return encode_string(e, index);
  case LUA_TTABLE:
    return encode_table(e, index, depth);
  default: {
    char why[64];
    snprintf(why, sizeof why, "a %s has no JSON form", luaL_typename(L, index));
    return refuse(e, NULL, why);
  }
  }
}

static int push_text(lua_State *L)
{
  lua_pushstring(L, lua_touserdata(L, 1));
  return 1;
}

static int json_encode(lua_State *L)
{
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  luaL_getmetatable(L, ARRAY); /* so that array_length need not make it */
  lua_pop(L, 1);
  struct encoder e = {.L = L};
  json_t *root = encode_value(&e, 1, 0);
  size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS;
  char *text = root != NULL ? json_dumps(root, flags) : NULL;
  json_decref(root);
  if (text == NULL) {
    struct tm_error err;
    tm_error_set(&err, TM_EDATA, "%s",
                 e.message[0] != '\0' ? e.message : "cannot encode JSON: out of memory");
    return tm_lua_raise(L, &err);
  }
  lua_settop(L, 0);
  lua_pushcfunction(L, push_text);
  lua_pushlightuserdata(L, text);
  int status = lua_pcall(L, 1, 1, 0);
  free(text);
  return status == LUA_OK ? 1 : lua_error(L);
}

/* ---- decoding ---- */

static int box_gc(lua_State *L)
{
  json_t **box = lua_touserdata(L, 1);
  json_decref(*box);
  *box = NULL;
  return 0;
}

static void push_value(lua_State *L, const json_t *value);

static void push_array(lua_State *L, const json_t *array)
{
  size_t n = json_array_size(array);
  lua_createtable(L, n < INT_MAX ? (int)n : 0, 0);
  for (size_t i = 0; i < n; i++) {
    push_value(L, json_array_get(array, i));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  luaL_setmetatable(L, ARRAY);
}

static void push_object(lua_State *L, const json_t *object)
{
  lua_createtable(L, 0, 4);
  /* jansson's iterators take no const, yet change nothing */
  json_t *o = (json_t *)object;
  for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
    push_value(L, json_object_iter_value(it));
    lua_setfield(L, -2, json_object_iter_key(it));
  }
}

static void push_value(lua_State *L, const json_t *value)
{
  luaL_checkstack(L, 4, "JSON nested too deep");
  switch (json_typeof(value)) {
  case JSON_OBJECT:
    push_object(L, value);
    return;
  case JSON_ARRAY:
    push_array(L, value);
    return;
  case JSON_STRING:
    lua_pushlstring(L, json_string_value(value), json_string_length(value));
    return;
  case JSON_INTEGER:
    lua_pushinteger(L, json_integer_value(value));
    return;
  case JSON_REAL:
    lua_pushnumber(L, json_real_value(value));
    return;
  case JSON_TRUE:
  case JSON_FALSE:
    lua_pushboolean(L, json_is_true(value));
    return;
  case JSON_NULL:
    lua_pushlightuserdata(L, NULL);
  }
}

static int json_decode(lua_State *L)
{
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  json_t **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, BOX);
  json_error_t why;
  *box = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
                    &why);
  if (*box == NULL) {
    struct tm_error err;
    tm_error_set(&err, TM_EDATA, "cannot decode JSON: %s (line %d, column %d)", why.text,
                 why.line, why.column);
    return tm_lua_raise(L, &err);
  }
  push_value(L, *box);
  return 1;
}

/* array([table]) -> the table (default: a new one), encoded as an array even when empty */
static int json_mark_array(lua_State *L)
{
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, ARRAY);
  return 1;
}

static const luaL_Reg module[] = {{"array", json_mark_array},
                                  {"decode", json_decode},
                                  {"encode", json_encode},
                                  {NULL, NULL}};

int luaopen_json(lua_State *L)
{
  if (luaL_newmetatable(L, BOX)) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  luaL_newmetatable(L, ARRAY);
  luaL_newlib(L, module);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
