/*
** buffer.h: a growable run of bytes
**
** Zero-initialised is empty and valid: struct tm_buffer b = {0}. The bytes are
** not a C string unless tm_buffer_cstr made them one. Freeing twice is harmless.
*/
#ifndef TM_BASE_BUFFER_H
#define TM_BASE_BUFFER_H

#include "base/error.h"

struct tm_buffer {
  char *data;
  size_t len, cap;
};

/* Makes room for `more` bytes after len. False: out of memory, unchanged. */
bool tm_buffer_reserve(struct tm_buffer *b, size_t more) TM_MUSTCHECK;

/* Appends. False: out of memory, unchanged. */
bool tm_buffer_add(struct tm_buffer *b, const void *bytes, size_t n) TM_MUSTCHECK;
bool tm_buffer_adds(struct tm_buffer *b, const char *cstring) TM_MUSTCHECK;
bool tm_buffer_addc(struct tm_buffer *b, char c) TM_MUSTCHECK;
bool tm_buffer_addf(struct tm_buffer *b, const char *format, ...) TM_PRINTF(2, 3)
    TM_MUSTCHECK;

/* The bytes ended by a NUL that len does not count; NULL when out of memory. */
const char *tm_buffer_cstr(struct tm_buffer *b);

/* Drops the first n bytes. */
void tm_buffer_consume(struct tm_buffer *b, size_t n);

void tm_buffer_free(struct tm_buffer *b);

#endif
