/*
** lvalues.h: a row's values that come from Lua, as bytes
**
** nil and null (pg.null, json.null: a light userdata of NULL) are SQL NULL; booleans are t
** and f; integers and floats are written so that reading them gives the same number back;
** strings are taken as they are.
*/
#ifndef TM_BIND_LVALUES_H
#define TM_BIND_LVALUES_H

#include <lua.h>

#include "base/row.h"

struct tm_lua_value {
  bool set, null;
  size_t offset, len; /* in text */
};

struct tm_lua_values {
  struct tm_lua_value *at;
  size_t count, cap;
  bool any; /* is one set? */
  struct tm_buffer text;
};

/* Makes `count` unset values. Raises when out of memory. */
void tm_lua_values_reset(lua_State *L, struct tm_lua_values *v, size_t count);
void tm_lua_values_free(struct tm_lua_values *v); /* harmless twice */

/* Sets value i from the Lua value at `index`; `checked`: strings must be UTF-8. Raises on
** other types, with `name` (may be NULL) or the position in the message. */
void tm_lua_values_set(lua_State *L, struct tm_lua_values *v, size_t i, int index,
                       bool checked, const char *name);

/* Sets values from the table at `index`, by position or by a name that the table at `names`
** (name -> position) has; every other one becomes NULL. Raises on any other key. Position i
** of an array is value order[i - 1] of `order_count`; order NULL: as counted. */
void tm_lua_values_table(lua_State *L, struct tm_lua_values *v, int index, int names,
                         const size_t *order, size_t order_count, bool checked);

/* Value i as a field; valid until the next set. */
struct tm_field tm_lua_values_field(const struct tm_lua_values *v, size_t i);

/* Pushes a field: a string or null. */
void tm_lua_pushfield(lua_State *L, const struct tm_field *field);

#endif
