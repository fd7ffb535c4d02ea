/*
** lformat.h: format options and rejected records as Lua gives them
*/
#ifndef TM_BIND_LFORMAT_H
#define TM_BIND_LFORMAT_H

#include <lua.h>

#include "base/format.h"

/* Reads the table at `index` (nil or none: all defaults): format, delimiter, quote, escape,
** null, newline, encoding, header, force_quote, max_record. Any other key that is not in
** `others` (NULL-terminated; may be NULL) raises, as does what tm_format_parse refuses. */
void tm_lua_checkformat(lua_State *L, int index, const char *const *others,
                        struct tm_format *format);

/* Reads the array of column names at `index` into a table name -> position, pushed, and
** returns how many; nil gives an empty table and 0. Raises on doubles and non-strings. */
size_t tm_lua_checkcolumns(lua_State *L, int index, const char *what);

/* Where rejected records go: a function or a sink at a stack index of L. */
struct tm_lua_reject {
  lua_State *L;
  int index; /* 0: nowhere, errors stop */
};

/* Whether the value at `index` may receive rejected records; raises if it is neither nil, a
** function nor a sink. */
bool tm_lua_checkreject(lua_State *L, int index);

/* For struct tm_decoder_opts: calls the function with the bytes and the error table, or
** writes the bytes to the sink; an error of either stops. */
bool tm_lua_reject(void *reject, const char *raw, size_t len, struct tm_error *err);

#endif
