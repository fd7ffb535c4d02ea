/*
** format.h: how rows are written as bytes: COPY's csv and text formats, and their options
**
** The words, defaults, limits and messages are PostgreSQL's (COPY, option list), so that
** what COPY accepts is accepted here and the other way round. A struct tm_format is a
** plain value that tm_format_parse made and found sound; nothing in it is allocated.
*/
#ifndef TM_BASE_FORMAT_H
#define TM_BASE_FORMAT_H

#include <stdint.h>

#include "base/error.h"

enum tm_format_kind { TM_FORMAT_CSV, TM_FORMAT_TEXT };

/* How a record ends. TM_NEWLINE_AUTO: reading, as the first record does; writing, LF. */
enum tm_newline { TM_NEWLINE_AUTO, TM_NEWLINE_LF, TM_NEWLINE_CRLF };

enum {
  TM_FORMAT_NULL_MAX = 63,
  TM_FORMAT_ENCODING_MAX = 31,
  TM_FORMAT_RECORD_BYTES = 32 * 1024 * 1024, /* default of max_record_bytes */
  TM_FORMAT_FIELDS_MAX = 10000               /* PostgreSQL's own limit is 1,600 */
};

struct tm_format {
  enum tm_format_kind kind;
  char delimiter;
  char quote, escape; /* csv only */
  char null[TM_FORMAT_NULL_MAX + 1];
  size_t null_len;
  bool header;      /* the first record holds the column names */
  bool force_quote; /* csv, writing: quote every value that is not NULL */
  enum tm_newline newline;
  char encoding[TM_FORMAT_ENCODING_MAX + 1]; /* iconv's name; "": UTF-8, checked */
  bool unchecked;                            /* SQL_ASCII: bytes, as they come */
  size_t max_record_bytes;                   /* a longer record is refused */
};

/* The options as a user gives them; a NULL or zero member is not given. */
struct tm_format_opts {
  const char *format;    /* "csv" (default) or "text" */
  const char *delimiter; /* csv ",", text a tab */
  const char *quote;     /* csv only: "\"" */
  const char *escape;    /* csv only: as quote */
  const char *null;      /* csv "" (an unquoted empty field), text "\\N" */
  const char *newline;   /* "lf", "crlf", "auto" (default) */
  const char *encoding;  /* PostgreSQL's or iconv's name; "utf8" (default) */
  bool header, force_quote;
  size_t max_record_bytes;
};

/* Fills *format. False with TM_EUSAGE and PostgreSQL's message when the options do not go
** together ("COPY delimiter must be a single one-byte character"). */
bool tm_format_parse(struct tm_format *format, const struct tm_format_opts *opts,
                     struct tm_error *err) TM_MUSTCHECK;

/* The letter that stands for a control character after a backslash in the text format, or 0
** when it has none. */
char tm_format_escape(char c);

/* Whether a record written in one is the same bytes in the other (headers aside). */
bool tm_format_same_bytes(const struct tm_format *a, const struct tm_format *b);

#endif
