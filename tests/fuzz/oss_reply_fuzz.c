/*
** oss_reply_fuzz.c: any bytes as the reply of an object store
**
** Input: the first byte picks the parser, the second scheme, prefix and status; the rest is
** the body, or headers (one a line, "name: value") for the parsers of headers.
*/
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oss/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth, const char *what)
{
  if (truth)
    return;
  fprintf(stderr, "does not hold: %s\n", what);
  abort();
}

static void list(enum tm_oss_scheme scheme, const char *prefix, const char *body,
                 size_t n)
{
  struct tm_oss_page page = {0};
  struct tm_error err;
  if (tm_reply_list(scheme, body, n, prefix, &page, &err))
    for (size_t i = 0; i < page.count; i++)
      require(page.entries[i].key != NULL && page.entries[i].size >= 0,
              "entries are whole");
  tm_oss_page_free(&page);
}

static void deleted(enum tm_oss_scheme scheme, const char *body, size_t n)
{
  struct tm_reply_deleted d;
  struct tm_error err;
  if (tm_reply_delete(scheme, body, n, &d, &err))
    tm_oss_failures_free(&d.failed);
}

static void parts(const char *body, size_t n)
{
  struct tm_oss_parts p = {0};
  struct tm_error err;
  int next;
  if (tm_reply_parts(body, n, &p, &next, &err))
    require(next >= 0 && next <= 10000, "the marker is a part number");
  tm_oss_parts_free(&p);
}

static void uploads(enum tm_oss_scheme scheme, const char *prefix, const char *body,
                    size_t n)
{
  struct tm_oss_uploads u = {0};
  struct tm_error err;
  char *key, *id;
  if (tm_reply_uploads(scheme, body, n, prefix, &u, &key, &id, &err))
    require((key == NULL) == (id == NULL), "both markers or none");
  free(key);
  free(id);
  tm_oss_uploads_free(&u);
}

/* Lines as the HTTP driver keeps headers: "name: value" and a NUL. */
static bool add_headers(struct tm_http_reply *reply, const char *text, size_t n)
{
  const char *end = text + n;
  for (const char *eol; text < end; text = eol + 1) {
    eol = memchr(text, '\n', (size_t)(end - text));
    if (eol == NULL)
      eol = end;
    const char *colon = memchr(text, ':', (size_t)(eol - text));
    if (colon == NULL || memchr(text, '\0', (size_t)(eol - text)) != NULL)
      continue;
    if (!tm_buffer_add(&reply->headers, text, (size_t)(colon - text)) ||
        !tm_buffer_adds(&reply->headers, ": ") ||
        !tm_buffer_add(&reply->headers, colon + 1, (size_t)(eol - colon - 1)) ||
        !tm_buffer_addc(&reply->headers, '\0'))
      return false;
  }
  return true;
}

static void refusal(enum tm_oss_scheme scheme, int status, bool as_headers,
                    const char *body, size_t n)
{
  struct tm_http_reply reply = {.status = status};
  struct tm_refusal r;
  struct tm_error err;
  struct tm_oss_info info;
  bool ok =
      as_headers ? add_headers(&reply, body, n) : tm_buffer_add(&reply.body, body, n);
  if (ok && tm_buffer_cstr(&reply.body) != NULL) {
    tm_reply_refusal(scheme, &reply, (n & 1) != 0, &r, &err);
    require(err.kind != TM_OK, "a refusal is an error");
    require(strpbrk(err.message, "\r\n") == NULL, "a message is one line");
    if (tm_reply_info(&reply, &info, &err))
      tm_oss_info_free(&info);
  }
  tm_http_reply_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2 || size > 64 * 1024)
    return 0;
  static const int statuses[] = {200, 301, 400, 403, 404, 409, 412, 416, 429, 500, 503};
  enum tm_oss_scheme scheme = (data[1] & 1) != 0 ? TM_OSS_S3 : TM_OSS_OSS;
  const char *prefix = (data[1] & 2) != 0 ? "a/" : "";
  int status = statuses[(data[1] >> 2) % (sizeof statuses / sizeof statuses[0])];
  const char *body = (const char *)data + 2;
  size_t n = size - 2;
  switch (data[0] % 6) {
  case 0:
    list(scheme, prefix, body, n);
    break;
  case 1:
    deleted(scheme, body, n);
    break;
  case 2:
    parts(body, n);
    break;
  case 3:
    uploads(scheme, prefix, body, n);
    break;
  default:
    refusal(scheme, status, data[0] % 6 == 5, body, n);
    break;
  }
  return 0;
}
