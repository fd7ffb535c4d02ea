/*
** json.h: reading JSON replies and files in C, through jansson
**
** For documents of a known shape: an object whose members are texts, or arrays of such
** objects. (Lua has its own module, bind/ljson.)
*/
#ifndef TM_DRIVER_JSON_H
#define TM_DRIVER_JSON_H

#include "base/error.h"

struct tm_json;

/* Parses one object; `what` names it in messages, which never quote its content. NULL with
** *err: TM_EPROTOCOL. */
struct tm_json *tm_json_open(const char *text, size_t length, const char *what,
                             struct tm_error *err);
void tm_json_close(struct tm_json *json); /* NULL is fine */

/* The text of a member, or NULL when it is missing, empty or no text. Lives as long as the
** document. */
const char *tm_json_text(const struct tm_json *json, const char *name);

/* The number of elements of an array member; 0 when there is none. */
size_t tm_json_count(const struct tm_json *json, const char *array);

/* A text member of an array's element; NULL as tm_json_text. */
const char *tm_json_element_text(const struct tm_json *json, const char *array,
                                 size_t index, const char *name);

#endif
