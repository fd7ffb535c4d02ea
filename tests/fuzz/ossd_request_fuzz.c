/*
** ossd_request_fuzz.c: target, host and Authorization of strangers
**
** Input: lines "METHOD", "URI", then "name: value" headers. What parses must also bear being
** verified and having its ranges read.
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ossd/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t split(char *text, char *lines[], size_t most)
{
  size_t n = 0;
  for (char *rest = text; rest != NULL && n < most;) {
    lines[n++] = rest;
    rest = strchr(rest, '\n');
    if (rest != NULL)
      *rest++ = '\0';
  }
  return n;
}

static void check_range(const char *text)
{
  for (uint64_t size = 0; size < 4; size++) {
    for (int strict = 0; strict < 2; strict++) {
      uint64_t first, length;
      enum tm_ossd_range r = tm_ossd_range_parse(text, size, strict, &first, &length);
      if (r != TM_OSSD_UNSATISFIABLE && (first > size || length > size - first))
        abort();
      if (r == TM_OSSD_PARTIAL && length == 0)
        abort();
    }
  }
}

static void check_names(const struct tm_ossd_request *r)
{
  char path[TM_OSSD_PATH];
  if (*r->bucket == '\0')
    return;
  if (!tm_ossd_object_path(r->bucket, r->key, path) || strstr(path, "..") != NULL ||
      path[0] == '/' || strncmp(path, r->bucket, strlen(r->bucket)) != 0)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const suffixes[] = {"localhost", NULL};
  static const struct tm_ossd_key keys[] = {{"ID", "SECRET", NULL}, {"T", "S", "TOKEN"}};
  struct tm_ossd_policy policy = {
      .keys = keys, .key_count = 2, .max_skew = 900, .region = "r"};
  struct tm_pair headers[32];
  char *lines[34];
  char *text = malloc(size + 1);
  if (text == NULL)
    return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  size_t n = split(text, lines, 34), count = 0;
  for (size_t i = 2; i < n; i++) {
    char *colon = strstr(lines[i], ": ");
    if (colon == NULL)
      continue;
    *colon = '\0';
    headers[count++] = (struct tm_pair){lines[i], colon + 2};
  }
  struct tm_ossd_request r = {0};
  struct tm_error err;
  if (tm_ossd_request_parse(lines[0], n > 1 ? lines[1] : "/", headers, count, suffixes,
                            &r, &err)) {
    struct tm_ossd_refusal refusal = {0};
    struct tm_ossd_identity who;
    if (tm_ossd_verify(&r, &policy, 1700000000, &who, &refusal) &&
        r.auth.scheme == TM_SIGN_NONE)
      abort(); /* nothing here may be read without a signature */
    tm_ossd_refusal_free(&refusal);
    check_names(&r);
    check_range(tm_ossd_header(&r, "range"));
  }
  tm_ossd_request_free(&r);
  free(text);
  return 0;
}
