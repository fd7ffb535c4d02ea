/*
** codec.c: bytes to rows
**
** Lines are cut from the window, the bytes lent by feed. A record that is one whole line in
** the window is read where it stands. Whatever crosses the window's end, or has newlines
** inside, is gathered in `carry` first, each byte copied once and looked at once, however
** small the pieces are. `from` is where in the record the line under way begins.
*/
#include "stream/codec.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/charset.h"
#include "driver/csv.h"
#include "stream/rowtext.h"

static const unsigned char BOM[3] = {0xef, 0xbb, 0xbf};
enum { BOM_OVER = 4 };

struct tm_decoder {
  struct tm_format format;
  struct tm_decoder_opts opts;
  struct tm_csv *csv;         /* NULL: text */
  struct tm_charset *charset; /* NULL: the input is UTF-8 */
  struct tm_buffer converted;
  char **names;
  size_t name_count;
  bool header_left;

  const char *window;
  size_t window_len, pos;
  struct tm_buffer carry; /* the start of the record under way, when `keep` */
  bool keep;
  bool pending; /* the record has complete lines already, and goes on */
  size_t from;
  const char *record; /* the record under way, from its start to the end of this line */
  size_t record_len;
  size_t content_len; /* without the newline */
  const char *end;    /* the newline: "\n", "\r\n" or "" */

  int bom;            /* bytes of a byte order mark seen; BOM_OVER: past the start */
  bool ended, marker; /* no more input; \. seen */
  enum tm_newline newline;
  uint64_t lines, rejected; /* lines: those of finished records */
  struct tm_row row;
};

/* ---- birth and death ---- */

static bool copy_names(struct tm_decoder *d, const char *const *names, size_t count)
{
  d->names = calloc(count, sizeof *d->names);
  if (d->names == NULL)
    return false;
  for (; d->name_count < count; d->name_count++)
    if ((d->names[d->name_count] = strdup(names[d->name_count])) == NULL)
      return false;
  return true;
}

struct tm_decoder *tm_decoder_new(const struct tm_format *format,
                                  const struct tm_decoder_opts *opts,
                                  struct tm_error *err)
{
  struct tm_decoder *d = calloc(1, sizeof *d);
  if (d == NULL)
    goto no_memory;
  d->format = *format;
  d->newline = format->newline;
  d->header_left = format->header;
  if (opts != NULL)
    d->opts = *opts;
  if (d->opts.columns != NULL && d->opts.column_count > 0 &&
      !copy_names(d, d->opts.columns, d->opts.column_count))
    goto no_memory;
  if (format->encoding[0] != '\0' &&
      (d->charset = tm_charset_open(format->encoding, "UTF-8", err)) == NULL)
    goto fail;
  if (format->kind == TM_FORMAT_CSV && (d->csv = tm_csv_new(format, err)) == NULL)
    goto fail;
  return d;

no_memory:
  tm_error_set(err, TM_EMEMORY, "out of memory");
fail:
  tm_decoder_free(d);
  return NULL;
}

static void free_names(struct tm_decoder *d)
{
  for (size_t i = 0; i < d->name_count; i++)
    free(d->names[i]);
  free(d->names);
  d->names = NULL;
  d->name_count = 0;
}

void tm_decoder_free(struct tm_decoder *d)
{
  if (d == NULL)
    return;
  tm_csv_free(d->csv);
  tm_charset_close(d->charset);
  tm_buffer_free(&d->converted);
  tm_buffer_free(&d->carry);
  tm_row_free(&d->row);
  free_names(d);
  free(d);
}

const char *const *tm_decoder_columns(const struct tm_decoder *d, size_t *count)
{
  *count = d->name_count;
  return (const char *const *)d->names;
}

uint64_t tm_decoder_rejected(const struct tm_decoder *d)
{
  return d->rejected;
}

/* ---- input ---- */

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* Drops a byte order mark, of which a part may have come before. */
static bool skip_bom(struct tm_decoder *d)
{
  while (d->bom < 3 && d->pos < d->window_len &&
         (unsigned char)d->window[d->pos] == BOM[d->bom]) {
    d->pos++;
    d->bom++;
  }
  if (d->bom == 3) {
    d->bom = BOM_OVER;
  } else if (d->pos < d->window_len || d->ended) { /* it was something else */
    d->keep = d->bom > 0;
    if (!tm_buffer_add(&d->carry, BOM, (size_t)d->bom))
      return false;
    d->bom = BOM_OVER;
  }
  return true;
}

static bool set_window(struct tm_decoder *d, const char *bytes, size_t len)
{
  d->window = bytes;
  d->window_len = len;
  d->pos = 0;
  return d->bom == BOM_OVER || skip_bom(d);
}

bool tm_decoder_feed(struct tm_decoder *d, const char *bytes, size_t len,
                     struct tm_error *err)
{
  assert(d->pos == d->window_len && !d->ended);
  if (d->charset != NULL) {
    d->converted.len = 0;
    if (!tm_charset_convert(d->charset, bytes, len, &d->converted, err))
      return false;
    bytes = d->converted.data;
    len = d->converted.len;
  }
  return set_window(d, bytes, len) || no_memory(err);
}

bool tm_decoder_end(struct tm_decoder *d, struct tm_error *err)
{
  assert(d->pos == d->window_len);
  d->ended = true;
  d->converted.len = 0;
  if (d->charset != NULL && !tm_charset_end(d->charset, &d->converted, err))
    return false;
  return set_window(d, d->converted.data, d->converted.len) || no_memory(err);
}

/* ---- lines ---- */

static void cut_newline(struct tm_decoder *d)
{
  const char *r = d->record;
  size_t n = d->record_len;
  d->end = "";
  if (n > d->from && r[n - 1] == '\n') {
    n--;
    d->end = "\n";
    if (d->newline != TM_NEWLINE_LF && n > d->from && r[n - 1] == '\r') {
      n--;
      d->end = "\r\n";
    }
  }
  d->content_len = n;
}

static int too_long(struct tm_decoder *d, struct tm_error *err)
{
  tm_error_set(err, TM_EDATA, "line %llu: a record is longer than %zu bytes",
               (unsigned long long)d->lines + 1, d->format.max_record_bytes);
  tm_error_hint(err, "perhaps a quote is never closed; otherwise raise max_record");
  return -1;
}

/* 1: record, record_len, content_len and end are set, up to the end of one more line.
** 0: there is no complete line. -1: *err. */
static int take_line(struct tm_decoder *d, struct tm_error *err)
{
  if (!d->keep) {
    d->carry.len = 0;
    d->from = 0;
  }
  size_t left = d->window_len - d->pos;
  const char *p = left > 0 ? d->window + d->pos : "";
  const char *nl = memchr(p, '\n', left);
  size_t n = nl != NULL ? (size_t)(nl - p) + 1 : left;
  d->pos += n;
  if (n > d->format.max_record_bytes ||
      (d->keep && d->carry.len + n > d->format.max_record_bytes))
    return too_long(d, err);
  if (nl != NULL && !d->keep) {
    d->record = p;
    d->record_len = n;
  } else {
    if (!tm_buffer_add(&d->carry, p, n))
      return no_memory(err) - 1;
    d->keep = d->keep || n > 0;
    if (nl == NULL && (!d->ended || (d->carry.len == d->from && !d->pending)))
      return 0;
    d->record = d->carry.data;
    d->record_len = d->carry.len;
  }
  cut_newline(d);
  return 1;
}

/* The newline belongs to the record: keep what there is and go on. */
static bool go_on(struct tm_decoder *d, struct tm_error *err)
{
  if (d->record != d->carry.data) {
    d->carry.len = 0;
    if (!tm_buffer_add(&d->carry, d->record, d->record_len))
      return no_memory(err);
  }
  d->keep = d->pending = true;
  d->from = d->record_len;
  return true;
}

/* ---- records ---- */

static uint64_t count_lines(const char *p, size_t len)
{
  uint64_t n = 0;
  for (const char *end = p + len; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
    n++;
  return n;
}

/* Adds the place to the message: line, column, byte of the line, and the bytes around. */
static void place_error(struct tm_decoder *d, size_t at, size_t column,
                        struct tm_error *err)
{
  const char *r = d->record;
  size_t start = at; /* of the line in which `at` is */
  while (start > 0 && r[start - 1] != '\n')
    start--;
  size_t show_from = at - start > 30 ? at - 30 : start;
  char shown[100], name[100], place[300];
  tm_row_show(shown, sizeof shown, r + show_from, d->content_len - show_from);
  name[0] = '\0';
  if (column > 0 && column <= d->name_count)
    snprintf(name, sizeof name, " (%.80s)", d->names[column - 1]);
  snprintf(place, sizeof place, "line %llu, column %zu%s, byte %zu",
           (unsigned long long)(d->lines + 1 + count_lines(r, at)), column, name,
           at - start + 1);
  char message[sizeof err->message];
  memcpy(message, err->message, sizeof message);
  tm_error_set(err, err->kind, "%s: %.300s: \"%s\"", place, message, shown);
}

enum outcome { ROW, NEXT_LINE, WRONG, FATAL };

/* A record that cannot be read; *err has the message. */
static enum outcome wrong(struct tm_decoder *d, size_t at, size_t column,
                          struct tm_error *err)
{
  if (err->kind != TM_EDATA)
    return FATAL;
  place_error(d, at < d->content_len ? at : d->content_len, column, err);
  return WRONG;
}

static enum outcome wrong_data(struct tm_decoder *d, size_t at, size_t column,
                               struct tm_error *err, const char *what)
{
  tm_error_set(err, TM_EDATA, "%s", what);
  return wrong(d, at, column, err);
}

/* A carriage return that is not behind a backslash; content_len when there is none. */
static size_t find_bare_return(const struct tm_decoder *d)
{
  const char *r = d->record, *p = r, *end = r + d->content_len;
  for (; (p = memchr(p, '\r', (size_t)(end - p))) != NULL; p++)
    if (!tm_rowtext_continues(r, (size_t)(p - r)))
      return (size_t)(p - r);
  return d->content_len;
}

static enum outcome read_text(struct tm_decoder *d, struct tm_error *err)
{
  if (d->end[0] != '\0' &&
      tm_rowtext_continues(d->record + d->from, d->content_len - d->from))
    return go_on(d, err) ? NEXT_LINE : FATAL;
  size_t cr = find_bare_return(d);
  if (cr < d->content_len)
    return wrong_data(d, cr, 1, err, "literal carriage return found in data");
  if (!tm_rowtext_read(&d->format, d->record, d->content_len, &d->row, err))
    return wrong(d, d->content_len, d->row.count, err);
  return ROW;
}

static enum outcome read_csv(struct tm_decoder *d, struct tm_error *err)
{
  size_t at = 0;
  switch (tm_csv_line(d->csv, d->record, d->content_len, d->from, d->end, &d->row, &at,
                      err)) {
  case TM_RECORD_DONE:
    return ROW;
  case TM_RECORD_MORE:
    return go_on(d, err) ? NEXT_LINE : FATAL;
  default:
    return wrong(d, at, d->row.count + 1, err);
  }
}

/* The first record decides how records end; later ones must agree. */
static bool newline_agrees(struct tm_decoder *d)
{
  if (d->end[0] == '\0')
    return true;
  enum tm_newline n = d->end[0] == '\r' ? TM_NEWLINE_CRLF : TM_NEWLINE_LF;
  if (d->newline == TM_NEWLINE_AUTO)
    d->newline = n;
  return d->newline == n;
}

static enum outcome bad_bytes(struct tm_decoder *d, size_t at, size_t column,
                              struct tm_error *err)
{
  char what[80];
  unsigned char c = at < d->content_len ? (unsigned char)d->record[at] : 0;
  snprintf(what, sizeof what, "invalid byte sequence for encoding \"UTF8\": 0x%02x", c);
  return wrong_data(d, at, column, err, what);
}

static size_t bad_column(const struct tm_row *row)
{
  for (size_t i = 0; i < row->count; i++) {
    const struct tm_field *f = &row->fields[i];
    if (f->data != NULL && tm_utf8_check(f->data, f->len) < f->len)
      return i + 1;
  }
  return 0;
}

static enum outcome check_encoding(struct tm_decoder *d, struct tm_error *err)
{
  size_t at = tm_utf8_check(d->record, d->content_len);
  if (at < d->content_len)
    return bad_bytes(d, at, bad_column(&d->row), err);
  if (d->row.text.len == 0 || d->csv != NULL)
    return ROW;
  size_t column = bad_column(&d->row); /* \x and octal escapes can make anything */
  if (column == 0)
    return ROW;
  return wrong_data(d, 0, column, err,
                    "escapes make an invalid byte sequence for encoding \"UTF8\"");
}

static enum outcome check_count(struct tm_decoder *d, struct tm_error *err)
{
  size_t n = d->row.count;
  if (d->name_count == 0 || n == d->name_count)
    return ROW;
  if (n > d->name_count)
    return wrong_data(d, d->content_len, n, err, "extra data after last expected column");
  char what[200];
  snprintf(what, sizeof what, "missing data for column \"%.120s\"", d->names[n]);
  return wrong_data(d, d->content_len, n + 1, err, what);
}

static enum outcome read_record(struct tm_decoder *d, struct tm_error *err)
{
  enum outcome o = d->csv != NULL ? read_csv(d, err) : read_text(d, err);
  if (o != ROW)
    return o;
  if (!newline_agrees(d))
    return wrong_data(d, d->content_len, d->row.count, err,
                      d->csv != NULL ? "unquoted newline found in data"
                                     : "literal newline found in data");
  if (!d->format.unchecked && (o = check_encoding(d, err)) != ROW)
    return o;
  return d->header_left ? ROW : check_count(d, err);
}

/* ---- the header ---- */

static char *copy_name(const struct tm_field *f)
{
  char *name = malloc(f->len + 1);
  if (name == NULL)
    return NULL;
  size_t n = f->data != NULL ? f->len : 0;
  if (n > 0)
    memcpy(name, f->data, n);
  name[n] = '\0';
  return name;
}

static bool adopt_names(struct tm_decoder *d, struct tm_error *err)
{
  const struct tm_row *row = &d->row;
  d->names = calloc(row->count, sizeof *d->names);
  if (d->names == NULL)
    return no_memory(err);
  for (; d->name_count < row->count; d->name_count++)
    if ((d->names[d->name_count] = copy_name(&row->fields[d->name_count])) == NULL)
      return no_memory(err);
  return true;
}

/* Takes the names, or compares them with those the caller gave. */
static bool read_header(struct tm_decoder *d, struct tm_error *err)
{
  const struct tm_row *row = &d->row;
  d->header_left = false;
  if (d->name_count == 0)
    return adopt_names(d, err);
  if (row->count != d->name_count) {
    tm_error_set(err, TM_EDATA, "the header has %zu columns, %zu are expected",
                 row->count, d->name_count);
    return false;
  }
  for (size_t i = 0; i < row->count; i++) {
    const struct tm_field *f = &row->fields[i];
    size_t n = strlen(d->names[i]);
    if (f->data == NULL || f->len != n || memcmp(f->data, d->names[i], n) != 0) {
      char shown[100];
      tm_row_show(shown, sizeof shown, f->data, f->data != NULL ? f->len : 0);
      tm_error_set(err, TM_EDATA,
                   "column %zu of the header is \"%s\", \"%.100s\" is expected", i + 1,
                   shown, d->names[i]);
      return false;
    }
  }
  return true;
}

/* ---- one row at a time ---- */

static int after_marker(struct tm_decoder *d, struct tm_error *err)
{
  d->keep = d->pending = false;
  if (d->pos == d->window_len)
    return 0;
  tm_error_set(err, TM_EDATA, "line %llu: data after the end-of-data marker \\.",
               (unsigned long long)d->lines + 1);
  return -1;
}

/* The record is over, read or not. */
static void close_record(struct tm_decoder *d)
{
  d->lines += d->from == 0 ? 1 : count_lines(d->record, d->content_len) + 1;
  d->keep = d->pending = false;
}

int tm_decoder_next(struct tm_decoder *d, struct tm_row **row, struct tm_error *err)
{
  for (;;) {
    if (d->marker)
      return after_marker(d, err);
    int got = take_line(d, err);
    if (got <= 0)
      return got;
    if (d->from == 0 && d->content_len == 2 && memcmp(d->record, "\\.", 2) == 0) {
      d->marker = true;
      close_record(d);
      continue;
    }
    enum outcome o = read_record(d, err);
    if (o == NEXT_LINE)
      continue;
    bool header = d->header_left;
    d->row.line = d->lines + 1;
    d->row.number += !header;
    close_record(d);
    if (o == ROW && !header) {
      d->row.raw = d->record;
      d->row.raw_len = d->record_len;
      *row = &d->row;
      return 1;
    }
    if (o == ROW && !read_header(d, err))
      return -1;
    if (o == FATAL ||
        (o == WRONG && (header || d->opts.reject == NULL ||
                        !d->opts.reject(d->opts.data, d->record, d->record_len, err))))
      return -1;
    d->rejected += o == WRONG;
  }
}
