/*
** format.c: COPY's format options: defaults and checks
**
** The order and the text of the checks follow ProcessCopyOptions of PostgreSQL 15. Two things
** are stricter: a quote or escape that is a newline, and any byte above 127 (half of a
** character in UTF-8), are refused.
*/
#include "base/format.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* PostgreSQL's encoding names that iconv spells otherwise (manual, "Character Set
** Support"). Others are passed on: LATIN1, GBK, BIG5, UHC, SHIFT_JIS_2004 ... */
static const struct {
  const char *pg, *iconv;
} encodings[] = {
    {"euc_cn", "EUC-CN"},
    {"euc_jp", "EUC-JP"},
    {"euc_kr", "EUC-KR"},
    {"euc_tw", "EUC-TW"},
    {"sjis", "CP932"},
    {"latin7", "ISO-8859-13"},
    {"latin8", "ISO-8859-14"},
    {"latin9", "ISO-8859-15"},
    {"latin10", "ISO-8859-16"},
    {"win866", "CP866"},
    {"win874", "CP874"},
    {"win1250", "CP1250"},
    {"win1251", "CP1251"},
    {"win", "CP1251"},
    {"win1252", "CP1252"},
    {"win1253", "CP1253"},
    {"win1254", "CP1254"},
    {"win1255", "CP1255"},
    {"win1256", "CP1256"},
    {"win1257", "CP1257"},
    {"win1258", "CP1258"},
    {"win936", "CP936"},
    {"win949", "CP949"},
    {"win950", "CP950"},
    {"koi8", "KOI8-R"},
    {"koi8r", "KOI8-R"},
    {"koi8u", "KOI8-U"},
    {"iso_8859_5", "ISO-8859-5"},
    {"iso_8859_6", "ISO-8859-6"},
    {"iso_8859_7", "ISO-8859-7"},
    {"iso_8859_8", "ISO-8859-8"},
};

static bool set_encoding(struct tm_format *f, const char *name, struct tm_error *err)
{
  static const char *const utf8[] = {"utf8", "utf-8", "utf_8", "unicode"};
  if (name == NULL)
    return true;
  for (size_t i = 0; i < sizeof utf8 / sizeof utf8[0]; i++)
    if (strcasecmp(name, utf8[i]) == 0)
      return true;
  if (strcasecmp(name, "sql_ascii") == 0) {
    f->unchecked = true;
    return true;
  }
  for (size_t i = 0; i < sizeof encodings / sizeof encodings[0]; i++)
    if (strcasecmp(name, encodings[i].pg) == 0)
      name = encodings[i].iconv;
  size_t n = strlen(name);
  if (n == 0 || n > TM_FORMAT_ENCODING_MAX || strchr(name, '/') != NULL) {
    tm_error_set(err, TM_EUSAGE,
                 "argument to option \"encoding\" must be a valid encoding name");
    return false;
  }
  memcpy(f->encoding, name, n + 1);
  return true;
}

static bool set_newline(struct tm_format *f, const char *value, struct tm_error *err)
{
  if (value == NULL || strcasecmp(value, "auto") == 0)
    f->newline = TM_NEWLINE_AUTO;
  else if (strcasecmp(value, "lf") == 0)
    f->newline = TM_NEWLINE_LF;
  else if (strcasecmp(value, "crlf") == 0)
    f->newline = TM_NEWLINE_CRLF;
  else {
    tm_error_set(err, TM_EUSAGE, "newline must be lf, crlf or auto, not \"%s\"", value);
    return false;
  }
  return true;
}

static bool set_kind(struct tm_format *f, const char *value, struct tm_error *err)
{
  if (value == NULL || strcasecmp(value, "csv") == 0)
    f->kind = TM_FORMAT_CSV;
  else if (strcasecmp(value, "text") == 0)
    f->kind = TM_FORMAT_TEXT;
  else {
    tm_error_set(err, TM_EUSAGE, "COPY format \"%s\" not recognized", value);
    tm_error_hint(err, "formats are csv and text");
    return false;
  }
  return true;
}

/* One byte that is a character of its own in UTF-8. */
static bool set_byte(char *out, const char *what, const char *value, const char *dflt,
                     struct tm_error *err)
{
  if (value == NULL)
    value = dflt;
  if (strlen(value) != 1 || (value[0] & 0x80) != 0) {
    tm_error_set(err, TM_EUSAGE, "COPY %s must be a single one-byte character", what);
    return false;
  }
  if (value[0] == '\n' || value[0] == '\r') {
    tm_error_set(err, TM_EUSAGE, "COPY %s cannot be newline or carriage return", what);
    return false;
  }
  *out = value[0];
  return true;
}

static bool set_null(struct tm_format *f, const char *value, struct tm_error *err)
{
  if (value == NULL)
    value = f->kind == TM_FORMAT_CSV ? "" : "\\N";
  if (strpbrk(value, "\r\n") != NULL) {
    tm_error_set(err, TM_EUSAGE,
                 "COPY null representation cannot use newline or carriage return");
    return false;
  }
  f->null_len = strlen(value);
  if (f->null_len > TM_FORMAT_NULL_MAX) {
    tm_error_set(err, TM_EUSAGE, "COPY null representation is longer than %d bytes",
                 TM_FORMAT_NULL_MAX);
    return false;
  }
  memcpy(f->null, value, f->null_len + 1);
  if (strchr(value, f->delimiter) != NULL) {
    tm_error_set(err, TM_EUSAGE,
                 "COPY delimiter must not appear in the NULL specification");
    return false;
  }
  if (f->kind == TM_FORMAT_CSV && strchr(value, f->quote) != NULL) {
    tm_error_set(err, TM_EUSAGE,
                 "CSV quote character must not appear in the NULL specification");
    return false;
  }
  return true;
}

static bool csv_only(const char *what, bool given, struct tm_error *err)
{
  if (given)
    tm_error_set(err, TM_EUSAGE, "COPY %s available only in CSV mode", what);
  return !given;
}

static bool set_csv(struct tm_format *f, const struct tm_format_opts *o,
                    struct tm_error *err)
{
  if (!set_byte(&f->quote, "quote", o->quote, "\"", err))
    return false;
  if (f->delimiter == f->quote) {
    tm_error_set(err, TM_EUSAGE, "COPY delimiter and quote must be different");
    return false;
  }
  char quote[2] = {f->quote, '\0'};
  return set_byte(&f->escape, "escape", o->escape, quote, err);
}

static bool set_text(struct tm_format *f, const struct tm_format_opts *o,
                     struct tm_error *err)
{
  if (!csv_only("quote", o->quote != NULL, err) ||
      !csv_only("escape", o->escape != NULL, err) ||
      !csv_only("force quote", o->force_quote, err))
    return false;
  if (strchr("\\.abcdefghijklmnopqrstuvwxyz0123456789", f->delimiter) == NULL)
    return true;
  tm_error_set(err, TM_EUSAGE, "COPY delimiter cannot be \"%c\"", f->delimiter);
  return false;
}

bool tm_format_parse(struct tm_format *format, const struct tm_format_opts *opts,
                     struct tm_error *err)
{
  struct tm_format f = {.header = opts->header,
                        .force_quote = opts->force_quote,
                        .max_record_bytes = opts->max_record_bytes > 0
                                                ? opts->max_record_bytes
                                                : TM_FORMAT_RECORD_BYTES};
  if (!set_kind(&f, opts->format, err))
    return false;
  bool csv = f.kind == TM_FORMAT_CSV;
  if (!set_byte(&f.delimiter, "delimiter", opts->delimiter, csv ? "," : "\t", err) ||
      !(csv ? set_csv(&f, opts, err) : set_text(&f, opts, err)) ||
      !set_null(&f, opts->null, err) || !set_newline(&f, opts->newline, err) ||
      !set_encoding(&f, opts->encoding, err))
    return false;
  *format = f;
  return true;
}

static enum tm_newline written(enum tm_newline n)
{
  return n == TM_NEWLINE_AUTO ? TM_NEWLINE_LF : n;
}

bool tm_format_same_bytes(const struct tm_format *a, const struct tm_format *b)
{
  return a->kind == b->kind && a->delimiter == b->delimiter && a->quote == b->quote &&
         a->escape == b->escape && strcmp(a->null, b->null) == 0 &&
         a->force_quote == b->force_quote && written(a->newline) == written(b->newline) &&
         strcmp(a->encoding, b->encoding) == 0 && a->unchecked == b->unchecked;
}

char tm_format_escape(char c)
{
  switch (c) {
  case '\b':
    return 'b';
  case '\f':
    return 'f';
  case '\n':
    return 'n';
  case '\r':
    return 'r';
  case '\t':
    return 't';
  case '\v':
    return 'v';
  default:
    return 0;
  }
}
