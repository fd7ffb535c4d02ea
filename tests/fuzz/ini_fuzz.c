/*
** ini_fuzz.c: any text as a profile file, and any key of it
**
** Input: up to the first NUL the key that is asked for, then the file.
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oss/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const uint8_t *end = memchr(data, 0, size);
  if (size == 0 || end == NULL)
    return 0;
  const char *key = (const char *)data, *text = (const char *)end + 1;
  struct tm_error err;
  struct tm_ini *ini = tm_ini_read(text, size - (size_t)(end - data) - 1, &err);
  if (ini == NULL)
    abort(); /* every text is a file of some kind */
  const char *value = tm_ini_get(ini, "default", key);
  if (value != NULL && (value[0] == '\0' || strchr(value, '\n') != NULL))
    abort();
  if (value != NULL && !tm_ini_has_section(ini, "default"))
    abort();
  tm_ini_close(ini);
  return 0;
}
