/*
** csv.h: CSV records, by PostgreSQL's rules, on libcsv
**
** A record is read line by line, since only the parser knows whether a newline ends it. A
** field that is not quoted and equals the null string is NULL; a quoted one never is.
** Blanks belong to their field. Quoting is read strictly: a quote inside an unquoted field,
** or anything but the delimiter or the end of the line after a closing quote, is an error
** (COPY would glue the pieces together).
*/
#ifndef TM_DRIVER_CSV_H
#define TM_DRIVER_CSV_H

#include "base/buffer.h"
#include "base/format.h"
#include "base/row.h"

struct tm_csv;

/* NULL: out of memory. The format is copied. */
struct tm_csv *tm_csv_new(const struct tm_format *format, struct tm_error *err);
void tm_csv_free(struct tm_csv *csv); /* NULL is fine */

enum tm_record { TM_RECORD_DONE, TM_RECORD_MORE, TM_RECORD_BAD };

/*
** Reads the line at bytes[from..len), without its newline; bytes[0..from) is what came before
** of the same record. `end` is the newline that was cut off ("\n", "\r\n"), or "" when the
** input ended. DONE: *row holds the fields, which point into bytes or row->text. MORE: the
** newline is inside quotes, go on with the next line. BAD: *err says what (TM_EDATA, or
** TM_EMEMORY) and *at is the offset in bytes; the next call starts a new record.
*/
enum tm_record tm_csv_line(struct tm_csv *csv, const char *bytes, size_t len, size_t from,
                           const char *end, struct tm_row *row, size_t *at,
                           struct tm_error *err);

/*
** Appends a record and its newline as COPY TO would write it: a value is quoted only if it
** equals the null string, holds the delimiter, the quote, CR or LF, or is \. in a one-column
** row (or the format says force_quote). False: out of memory, and out may hold a part.
*/
bool tm_csv_write(const struct tm_format *format, const struct tm_field *fields,
                  size_t count, struct tm_buffer *out) TM_MUSTCHECK;

#endif
