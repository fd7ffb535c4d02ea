/*
** name_fuzz.c: any key as the name of an object; what is read, written again, is the key
*/
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oss/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *ending_of(const char *key)
{
  static const char *const endings[] = {".csv.gz",  ".txt.gz", ".csv.zst",
                                        ".txt.zst", ".csv",    ".txt"};
  size_t n = strlen(key);
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
    if (n > strlen(endings[i]) && strcmp(key + n - strlen(endings[i]), endings[i]) == 0)
      return endings[i];
  return "";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct tm_oss_name name;
  char number[TM_OSS_NAME_NUMBER];
  char *key = malloc(size + 1), *stem = NULL;
  if (key == NULL)
    return 0;
  memcpy(key, data, size);
  key[size] = '\0';
  if (tm_oss_name_parse(key, &name)) {
    size_t time = strcspn(key + name.head + 1, "_");
    tm_oss_name_number(name.cluster, name.statement, name.xid, number);
    if (asprintf(&stem, "%.*s_%s", (int)(name.head + 1 + time), key, number) < 0)
      abort();
    struct tm_oss_name_base base = {name.rds, stem, ending_of(key)};
    char *again = tm_oss_name_object(&base, name.file);
    if (again == NULL || strcmp(again, key) != 0)
      abort();
    free(again);
    free(stem);
  }
  free(key);
  return 0;
}
