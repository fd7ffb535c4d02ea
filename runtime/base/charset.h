/*
** charset.h: converting bytes between character sets, in pieces (iconv of the C library)
*/
#ifndef TM_BASE_CHARSET_H
#define TM_BASE_CHARSET_H

#include <stdint.h>

#include "base/buffer.h"

struct tm_charset;

/* NULL with TM_EUSAGE: this host cannot convert between the two; or no memory. */
struct tm_charset *tm_charset_open(const char *from, const char *to,
                                   struct tm_error *err);
void tm_charset_close(struct tm_charset *c); /* NULL is fine */

/* Appends the converted bytes to out; a character cut at the end is kept for the next call.
** False: TM_EDATA with the offset in all bytes so far, for one that has no counterpart or is
** malformed; TM_EMEMORY. */
bool tm_charset_convert(struct tm_charset *c, const char *bytes, size_t len,
                        struct tm_buffer *out, struct tm_error *err) TM_MUSTCHECK;

/* No more bytes: false with TM_EDATA when a character was cut. */
bool tm_charset_end(struct tm_charset *c, struct tm_buffer *out, struct tm_error *err)
    TM_MUSTCHECK;

#endif
