/*
** rowtext.h: records of COPY's text format (PostgreSQL manual, COPY, "Text Format")
**
** Reads every escape that COPY FROM reads (\b \f \n \r \t \v, octal, \x, a backslash before
** any other character), writes exactly what COPY TO writes.
*/
#ifndef TM_STREAM_ROWTEXT_H
#define TM_STREAM_ROWTEXT_H

#include "base/buffer.h"
#include "base/format.h"
#include "base/row.h"

/* Whether a line (without its newline) goes on after it: it ends in a backslash that is
** not itself escaped, so the newline belongs to the value. */
bool tm_rowtext_continues(const char *line, size_t len);

/* Splits and unescapes the record bytes[0..len), its newline cut off. The fields point into
** bytes or row->text. False: out of memory, too many fields (TM_EDATA). */
bool tm_rowtext_read(const struct tm_format *format, const char *bytes, size_t len,
                     struct tm_row *row, struct tm_error *err) TM_MUSTCHECK;

/* Appends a record and its newline. False: out of memory, and out may hold a part. */
bool tm_rowtext_write(const struct tm_format *format, const struct tm_field *fields,
                      size_t count, struct tm_buffer *out) TM_MUSTCHECK;

#endif
