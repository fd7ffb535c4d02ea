/*
** buffer.c: a growable run of bytes, doubling
*/
#include "base/buffer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tm_buffer_reserve(struct tm_buffer *b, size_t more)
{
  if (more > SIZE_MAX / 2 - b->len)
    return false;
  size_t need = b->len + more;
  if (need <= b->cap)
    return true;
  size_t cap = b->cap < 64 ? 64 : b->cap;
  while (cap < need)
    cap *= 2;
  char *data = realloc(b->data, cap);
  if (data == NULL)
    return false;
  b->data = data;
  b->cap = cap;
  return true;
}

bool tm_buffer_add(struct tm_buffer *b, const void *bytes, size_t n)
{
  if (n == 0)
    return true;
  if (!tm_buffer_reserve(b, n))
    return false;
  memcpy(b->data + b->len, bytes, n);
  b->len += n;
  return true;
}

bool tm_buffer_adds(struct tm_buffer *b, const char *cstring)
{
  return tm_buffer_add(b, cstring, strlen(cstring));
}

bool tm_buffer_addc(struct tm_buffer *b, char c)
{
  return tm_buffer_add(b, &c, 1);
}

bool tm_buffer_addf(struct tm_buffer *b, const char *format, ...)
{
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(NULL, 0, format, ap);
  va_end(ap);
  if (n < 0 || !tm_buffer_reserve(b, (size_t)n + 1))
    return false;
  va_start(ap, format);
  vsnprintf(b->data + b->len, (size_t)n + 1, format, ap);
  va_end(ap);
  b->len += (size_t)n;
  return true;
}

const char *tm_buffer_cstr(struct tm_buffer *b)
{
  if (!tm_buffer_reserve(b, 1))
    return NULL;
  b->data[b->len] = '\0';
  return b->data;
}

void tm_buffer_consume(struct tm_buffer *b, size_t n)
{
  if (n > b->len)
    n = b->len;
  if (n > 0)
    memmove(b->data, b->data + n, b->len - n);
  b->len -= n;
}

void tm_buffer_free(struct tm_buffer *b)
{
  free(b->data);
  *b = (struct tm_buffer){0};
}
