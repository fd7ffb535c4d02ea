/*
** lpg_value.c: values of PostgreSQL as values of Lua, and back
**
** Integers, floats, booleans and bytea get Lua's types; everything else is the server's exact
** text. SQL NULL is pg.null, a light userdata of NULL, the same value as json.null. What goes
** the other way is text, but pg.bytea(s) goes as bytes.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "bind/lpg_impl.h"

#define BOX "tidemill.pg.box"

/* ---- boxes ---- */

static int box_gc(lua_State *L)
{
  lpg_emptybox(luaL_checkudata(L, 1, BOX));
  return 0;
}

struct lpg_box *lpg_newbox(lua_State *L, void (*drop)(void *p, size_t n))
{
  struct lpg_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->p = NULL;
  box->n = 0;
  box->drop = drop;
  if (luaL_newmetatable(L, BOX)) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}

void lpg_emptybox(struct lpg_box *box)
{
  void *p = box->p;
  box->p = NULL;
  if (p != NULL)
    box->drop(p, box->n);
}

void lpg_dropresult(void *result, size_t n)
{
  (void)n;
  tm_pg_result_free(result);
}

/* ---- from Lua ---- */

static bool is_null(lua_State *L, int index)
{
  return lua_isnoneornil(L, index) ||
         (lua_islightuserdata(L, index) && lua_touserdata(L, index) == NULL);
}

static int raise_param(lua_State *L, int number, const char *message)
{
  struct tm_error err;
  tm_error_set(&err, TM_EUSAGE, "parameter $%d: %s", number, message);
  return tm_lua_raise(L, &err);
}

static void push_float(lua_State *L, lua_Number x)
{
  char text[64];
  if (x != x)
    lua_pushliteral(L, "NaN");
  else if (x - x != 0)
    lua_pushstring(L, x > 0 ? "Infinity" : "-Infinity");
  else {
    snprintf(text, sizeof text, "%.17g", x);
    lua_pushstring(L, text);
  }
}

static void push_array(lua_State *L, int index, int number, int depth);

/* Pushes the text of a scalar, "" for none of the kinds below. */
static bool push_scalar(lua_State *L, int index, int number)
{
  switch (lua_type(L, index)) {
  case LUA_TBOOLEAN:
    lua_pushstring(L, lua_toboolean(L, index) ? "t" : "f");
    return true;
  case LUA_TNUMBER:
    if (lua_isinteger(L, index))
      lua_pushfstring(L, "%I", (LUAI_UACINT)lua_tointeger(L, index));
    else
      push_float(L, lua_tonumber(L, index));
    return true;
  case LUA_TSTRING: {
    size_t len;
    const char *s = lua_tolstring(L, index, &len);
    if (memchr(s, '\0', len) != NULL)
      raise_param(L, number,
                  "text cannot hold a zero byte (wrap binary data in pg.bytea)");
    lua_pushvalue(L, index);
    return true;
  }
  default:
    return false;
  }
}

/* Pushes "\x6869" for an element of an array. */
static void push_hex(lua_State *L, const char *bytes, size_t len)
{
  static const char digits[] = "0123456789abcdef";
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, 2 * len + 2);
  *out++ = '\\';
  *out++ = 'x';
  for (size_t i = 0; i < len; i++) {
    *out++ = digits[(unsigned char)bytes[i] >> 4];
    *out++ = digits[bytes[i] & 15];
  }
  luaL_pushresultsize(&b, 2 * len + 2);
}

/* Pushes the element at the top of the stack as an array element, quoted. */
static void push_element(lua_State *L, int number, int depth)
{
  int index = lua_gettop(L);
  if (is_null(L, index)) {
    lua_pushliteral(L, "NULL");
    return;
  }
  if (lua_istable(L, index)) {
    push_array(L, index, number, depth + 1);
    return;
  }
  if (luaL_testudata(L, index, LPG_BYTEA) != NULL) {
    lua_getiuservalue(L, index, 1);
    size_t n;
    const char *bytes = lua_tolstring(L, -1, &n);
    push_hex(L, bytes, n);
  } else if (!push_scalar(L, index, number)) {
    raise_param(L, number, "an array holds null, booleans, numbers, strings or arrays");
  }
  size_t len;
  const char *s = lua_tolstring(L, -1, &len);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addchar(&b, '"');
  for (size_t i = 0; i < len; i++) {
    if (s[i] == '"' || s[i] == '\\')
      luaL_addchar(&b, '\\');
    luaL_addchar(&b, s[i]);
  }
  luaL_addchar(&b, '"');
  luaL_pushresult(&b);
}

/* Pushes {1,2} as '{"1","2"}'. */
static void push_array(lua_State *L, int index, int number, int depth)
{
  enum { MAX_DIMENSIONS = 6 }; /* PostgreSQL's MAXDIM */
  if (depth > MAX_DIMENSIONS)
    raise_param(L, number, "an array has at most 6 dimensions");
  luaL_checkstack(L, 16, "array");
  lua_Integer n = (lua_Integer)lua_rawlen(L, index);
  lua_Integer fields = 0;
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1))
    fields++;
  if (fields != n)
    raise_param(L, number,
                "a table must be an array without holes (use pg.null for NULL; "
                "json.encode for an object)");
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addchar(&b, '{');
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1)
      luaL_addchar(&b, ',');
    lua_rawgeti(L, index, i);
    int top = lua_gettop(L);
    push_element(L, number, depth);
    lua_replace(L, top);
    lua_settop(L, top);
    luaL_addvalue(&b);
  }
  luaL_addchar(&b, '}');
  luaL_pushresult(&b);
}

/* Pushes the value at `index` as a string; true when it is bytes. Not for null. */
static bool push_param(lua_State *L, int index, int number)
{
  if (luaL_testudata(L, index, LPG_BYTEA) != NULL) {
    lua_getiuservalue(L, index, 1);
    return true;
  }
  if (lua_istable(L, index))
    push_array(L, index, number, 1);
  else if (!push_scalar(L, index, number))
    raise_param(L, number,
                "not null, a boolean, a number, a string, an array or pg.bytea");
  return false;
}

struct tm_pg_params lpg_toparams(lua_State *L, int first, int last)
{
  struct tm_pg_params params = {.count = last >= first ? last - first + 1 : 0};
  size_t n = (size_t)params.count;
  lua_createtable(L, params.count + 1, 0); /* stack: keep */
  int keep = lua_gettop(L);
  if (n == 0)
    return params;
  /* three arrays in one block of Lua's memory */
  char *block = lua_newuserdatauv(L, n * (sizeof(char *) + 2 * sizeof(int)), 0);
  lua_rawseti(L, keep, 1);
  const char **values = (const char **)(void *)block;
  int *lengths = (int *)(void *)(block + n * sizeof(char *)), *binary = lengths + n;
  for (int i = 0; i < params.count; i++) {
    values[i] = NULL;
    lengths[i] = binary[i] = 0;
    if (is_null(L, first + i))
      continue;
    size_t len;
    binary[i] = push_param(L, first + i, i + 1);
    values[i] = lua_tolstring(L, -1, &len);
    if (len > INT32_MAX)
      raise_param(L, i + 1, "longer than 2 GB");
    lengths[i] = (int)len;
    lua_rawseti(L, keep, i + 2);
  }
  params.values = values;
  params.lengths = lengths;
  params.binary = binary;
  return params;
}

/* ---- to Lua ---- */

static int digit(char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 0;
}

/* Both of the server's forms: hex ("\x6869") and the older escape ("hi\000"). */
static void push_bytea(lua_State *L, const char *s, size_t len)
{
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, len + 1);
  size_t n = 0;
  bool hex = len >= 2 && s[0] == '\\' && s[1] == 'x';
  for (size_t i = 2; hex && i + 1 < len; i += 2)
    out[n++] = (char)(digit(s[i]) << 4 | digit(s[i + 1]));
  for (size_t i = 0; !hex && i < len; i++) {
    if (s[i] != '\\') {
      out[n++] = s[i];
    } else if (i + 3 < len && s[i + 1] != '\\') {
      out[n++] = (char)((s[i + 1] - '0') << 6 | (s[i + 2] - '0') << 3 | (s[i + 3] - '0'));
      i += 3;
    } else {
      out[n++] = '\\';
      i++;
    }
  }
  luaL_pushresultsize(&b, n);
}

void lpg_pushvalue(lua_State *L, const struct tm_pg_result *r, int row, int column)
{
  size_t len;
  const char *s = tm_pg_value(r, row, column, &len);
  if (s == NULL) {
    lua_pushlightuserdata(L, NULL);
    return;
  }
  switch (tm_pg_column_type(r, column)) {
  case TM_PG_INT:
    lua_pushinteger(L, strtoll(s, NULL, 10));
    return;
  case TM_PG_FLOAT:
    lua_pushnumber(L, strtod(s, NULL));
    return;
  case TM_PG_BOOL:
    lua_pushboolean(L, s[0] == 't');
    return;
  case TM_PG_BYTEA:
    push_bytea(L, s, len);
    return;
  default:
    lua_pushlstring(L, s, len);
  }
}

void lpg_pushcolumns(lua_State *L, const struct tm_pg_result *r)
{
  int n = tm_pg_columns(r);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushstring(L, tm_pg_column_name(r, i));
    lua_rawseti(L, -2, i + 1);
  }
}

void lpg_pushrow(lua_State *L, const struct tm_pg_result *r, int row, int names)
{
  int n = tm_pg_columns(r);
  lua_createtable(L, 0, n);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, names, i + 1);
    lpg_pushvalue(L, r, row, i);
    lua_rawset(L, -3);
  }
}

void lpg_pushresult(lua_State *L, const struct tm_pg_result *r)
{
  int n = tm_pg_rows(r);
  lua_createtable(L, n, 3);
  lpg_pushcolumns(L, r); /* stack: array names */
  int names = lua_gettop(L);
  for (int i = 0; i < n; i++) {
    lpg_pushrow(L, r, i, names);
    lua_rawseti(L, names - 1, i + 1);
  }
  lua_setfield(L, names - 1, "columns");
  lua_pushstring(L, tm_pg_command(r));
  lua_setfield(L, -2, "command");
  if (tm_pg_affected(r) >= 0) {
    lua_pushinteger(L, tm_pg_affected(r));
    lua_setfield(L, -2, "affected");
  }
}

/* ---- functions of the module ---- */

static int pg_bytea(lua_State *L)
{
  luaL_checkstring(L, 1);
  lua_newuserdatauv(L, 1, 1);
  luaL_newmetatable(L, LPG_BYTEA);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 1);
  lua_tostring(L, -1); /* a number becomes its text */
  lua_setiuservalue(L, -2, 1);
  return 1;
}

static int push_buffer(lua_State *L)
{
  const struct tm_buffer *b = lua_touserdata(L, 1);
  lua_pushlstring(L, b->data, b->len);
  return 1;
}

static int quote(lua_State *L,
                 bool (*how)(struct tm_buffer *, const char *, size_t, struct tm_error *))
{
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  struct tm_buffer out = {0};
  struct tm_error err;
  bool ok = how(&out, s, len, &err);
  lua_pushcfunction(L, push_buffer); /* may run out of memory while we own the buffer */
  lua_pushlightuserdata(L, &out);
  int status = ok ? lua_pcall(L, 1, 1, 0) : LUA_OK;
  tm_buffer_free(&out);
  if (status != LUA_OK)
    return lua_error(L);
  return ok ? 1 : tm_lua_raise(L, &err);
}

static int pg_quote_ident(lua_State *L)
{
  return quote(L, tm_pg_quote_ident);
}

static int pg_quote_literal(lua_State *L)
{
  if (is_null(L, 1)) {
    lua_pushliteral(L, "NULL");
    return 1;
  }
  return quote(L, tm_pg_quote_literal);
}

static const luaL_Reg functions[] = {{"bytea", pg_bytea},
                                     {"quote_ident", pg_quote_ident},
                                     {"quote_literal", pg_quote_literal},
                                     {NULL, NULL}};

void lpg_addvalues(lua_State *L)
{
  luaL_setfuncs(L, functions, 0);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
}
