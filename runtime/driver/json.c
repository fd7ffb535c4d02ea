/*
** json.c: reading JSON replies and files in C, through jansson
**
** The struct is jansson's own object under our name.
*/
#include "driver/json.h"

#include <jansson.h>

static const json_t *value_of(const struct tm_json *json)
{
  return (const json_t *)json;
}

struct tm_json *tm_json_open(const char *text, size_t length, const char *what,
                             struct tm_error *err)
{
  json_error_t where;
  json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
  if (value == NULL) {
    tm_error_set(err, TM_EPROTOCOL, "%s is not JSON: line %d, column %d", what,
                 where.line, where.column);
    return NULL;
  }
  if (!json_is_object(value)) {
    tm_error_set(err, TM_EPROTOCOL, "%s is not a JSON object", what);
    json_decref(value);
    return NULL;
  }
  return (struct tm_json *)value;
}

void tm_json_close(struct tm_json *json)
{
  json_decref((json_t *)json);
}

static const char *text_of(const json_t *object, const char *name)
{
  const char *text = json_string_value(json_object_get(object, name));
  return text != NULL && text[0] != '\0' ? text : NULL;
}

const char *tm_json_text(const struct tm_json *json, const char *name)
{
  return text_of(value_of(json), name);
}

size_t tm_json_count(const struct tm_json *json, const char *array)
{
  return json_array_size(json_object_get(value_of(json), array));
}

const char *tm_json_element_text(const struct tm_json *json, const char *array,
                                 size_t index, const char *name)
{
  return text_of(json_array_get(json_object_get(value_of(json), array), index), name);
}
