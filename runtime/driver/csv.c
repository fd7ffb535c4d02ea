/*
** csv.c: CSV records, by PostgreSQL's rules, on libcsv
**
** Most records have no quote in them, and then splitting is all there is to do: that is done
** here, without a copy. A record with a quote goes through libcsv in its strict mode, line by
** line. Two things libcsv does not say are learnt on the way:
**
**   - whether a field was quoted (for NULL): it calls the is_space hook with the first byte of
**     each field before it looks for the quote. The hook has no argument for context, hence
**     the thread-local pointer. It always says "no", which also keeps blanks.
**   - an escape that is not the quote: libcsv knows only doubled quotes, so inside quotes
**     an escaped quote is handed to it doubled and an escaped escape as one byte.
**
** libcsv takes CR and LF outside quotes as the end of a row; the caller has cut the newline
** off, so a row that ends before the line does means an unquoted carriage return.
*/
#include "driver/csv.h"

#include <csv.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { GROW_BYTES = 4096 };

struct tm_csv {
  struct tm_format format;
  struct csv_parser parser;
  bool parser_made;
  struct tm_row *row;
  bool first, quoted; /* of the field under way */
  bool done;          /* the row has ended */
  bool no_memory;
  bool in_quote;               /* as `translate` sees it, over the lines of a record */
  struct tm_buffer translated; /* a line for libcsv when escape differs from quote */
};

static _Thread_local struct tm_csv *current; /* set around each csv_parse */

static int see_first_byte(unsigned char c)
{
  if (current->first) {
    current->first = false;
    current->quoted = c == (unsigned char)current->format.quote;
  }
  return 0;
}

struct tm_csv *tm_csv_new(const struct tm_format *format, struct tm_error *err)
{
  struct tm_csv *csv = calloc(1, sizeof *csv);
  if (csv == NULL || csv_init(&csv->parser, CSV_STRICT) != 0) {
    free(csv);
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  csv->format = *format;
  csv_set_delim(&csv->parser, (unsigned char)format->delimiter);
  csv_set_quote(&csv->parser, (unsigned char)format->quote);
  csv_set_space_func(&csv->parser, see_first_byte);
  csv_set_blk_size(&csv->parser, GROW_BYTES);
  return csv;
}

void tm_csv_free(struct tm_csv *csv)
{
  if (csv == NULL)
    return;
  csv_free(&csv->parser);
  tm_buffer_free(&csv->translated);
  free(csv);
}

static bool is_null(const struct tm_format *f, const char *p, size_t n)
{
  return n == f->null_len && memcmp(p, f->null, n) == 0;
}

static void set_full(struct tm_row *row, struct tm_error *err)
{
  if (row->count >= TM_FORMAT_FIELDS_MAX)
    tm_error_set(err, TM_EDATA, "more than %d fields", TM_FORMAT_FIELDS_MAX);
  else
    tm_error_set(err, TM_EMEMORY, "out of memory");
}

/* ---- without a quote ---- */

static enum tm_record split(const struct tm_format *f, const char *p, size_t len,
                            struct tm_row *row, struct tm_error *err)
{
  const char *end = p + len;
  for (;;) {
    const char *stop = memchr(p, f->delimiter, (size_t)(end - p));
    size_t n = (size_t)((stop != NULL ? stop : end) - p);
    if (!tm_row_add(row, is_null(f, p, n) ? NULL : p, n)) {
      set_full(row, err);
      return TM_RECORD_BAD;
    }
    if (stop == NULL)
      return TM_RECORD_DONE;
    p = stop + 1;
  }
}

/* ---- through libcsv ---- */

/* The text may still move: a field's data is its offset until the row is complete. */
static void on_field(void *bytes, size_t len, void *data)
{
  struct tm_csv *csv = data;
  struct tm_row *row = csv->row;
  bool null = !csv->quoted && is_null(&csv->format, bytes, len);
  uintptr_t offset = row->text.len;
  csv->first = true;
  csv->quoted = false;
  if (csv->done || csv->no_memory)
    return;
  if (!tm_buffer_add(&row->text, bytes, len) ||
      !tm_row_add(row, null ? NULL : (const char *)(offset + 1), len))
    csv->no_memory = true;
}

static void on_row(int c, void *data)
{
  (void)c;
  ((struct tm_csv *)data)->done = true;
}

static void place_fields(struct tm_row *row)
{
  for (size_t i = 0; i < row->count; i++) {
    struct tm_field *field = &row->fields[i];
    if (field->data != NULL && field->len == 0)
      field->data = "";
    else if (field->data != NULL)
      field->data = row->text.data + ((uintptr_t)field->data - 1);
  }
}

static void restart(struct tm_csv *csv)
{
  csv_fini(&csv->parser, NULL, NULL, NULL);
  csv->first = true;
  csv->quoted = csv->done = csv->no_memory = csv->in_quote = false;
}

/* Rewrites p[0..len) so that libcsv reads it, up to `limit` bytes of output; *at is where it
** came to. False with *at: a doubled quote, which would be a literal quote to libcsv; or
** *at == len: out of memory. */
static bool translate(struct tm_csv *csv, const char *p, size_t len, size_t limit,
                      size_t *at)
{
  const char quote = csv->format.quote, escape = csv->format.escape;
  struct tm_buffer *out = &csv->translated;
  out->len = 0;
  *at = len;
  if (!tm_buffer_reserve(out, 2 * len + 1))
    return false;
  size_t i = 0;
  for (; i < len && out->len < limit; i++) {
    char next = i + 1 < len ? p[i + 1] : '\0';
    if (csv->in_quote && p[i] == escape && (next == quote || next == escape)) {
      out->data[out->len++] = next;
      if (next == quote)
        out->data[out->len++] = next;
      i++;
    } else {
      if (p[i] == quote) {
        if (csv->in_quote && next == quote) {
          *at = i + 1;
          return false;
        }
        csv->in_quote = !csv->in_quote;
      }
      out->data[out->len++] = p[i];
    }
  }
  *at = i;
  return true;
}

static enum tm_record bad(struct tm_csv *csv, struct tm_error *err, const char *what)
{
  tm_error_set(err, TM_EDATA, "%s", what);
  restart(csv);
  return TM_RECORD_BAD;
}

/* Hands bytes to libcsv. False: *err is set, *at is the offset in p. */
static bool parse(struct tm_csv *csv, const char *p, size_t len, size_t *at,
                  struct tm_error *err)
{
  current = csv;
  *at = csv_parse(&csv->parser, p, len, on_field, on_row, csv);
  current = NULL;
  if (csv->no_memory) {
    set_full(csv->row, err);
    return false;
  }
  if (*at == len)
    return true;
  if (csv_error(&csv->parser) != CSV_EPARSE)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  else if (csv->quoted)
    tm_error_set(err, TM_EDATA, "a quoted field goes on after its closing quote");
  else
    tm_error_set(err, TM_EDATA, "quote inside an unquoted field");
  return false;
}

/* Where in the original the first carriage return outside quotes stands. */
static size_t find_return(const struct tm_format *f, const char *p, size_t len)
{
  bool in_quote = false;
  for (size_t i = 0; i < len; i++) {
    if (in_quote && p[i] == f->escape && f->escape != f->quote && i + 1 < len)
      i++;
    else if (p[i] == f->quote)
      in_quote = !in_quote;
    else if (p[i] == '\r' && !in_quote)
      return i;
  }
  return len;
}

static enum tm_record parse_line(struct tm_csv *csv, const char *bytes, size_t len,
                                 size_t from, const char *end, size_t *at,
                                 struct tm_error *err)
{
  const char *line = bytes + from;
  size_t n = len - from, stop = 0;
  bool was_in_quote = csv->in_quote, translated = csv->format.escape != csv->format.quote;
  if (translated) {
    if (!translate(csv, line, n, SIZE_MAX, &stop)) {
      *at = from + stop;
      return bad(csv, err,
                 stop == n
                     ? "out of memory"
                     : "doubled quote in a field whose escape is another character");
    }
    line = csv->translated.data;
    n = csv->translated.len;
  }
  if (!parse(csv, line, n, &stop, err)) {
    csv->in_quote = was_in_quote;
    if (translated && !translate(csv, bytes + from, len - from, stop, &stop))
      stop = 0; /* cannot be: it went through before */
    *at = from + stop;
    restart(csv);
    return TM_RECORD_BAD;
  }
  if (csv->done) {
    *at = find_return(&csv->format, bytes, len);
    return bad(csv, err, "unquoted carriage return found in data");
  }
  bool last = end[0] == '\0';
  if (!parse(csv, last ? "\n" : end, last ? 1 : strlen(end), &stop, err)) {
    *at = len;
    restart(csv);
    return TM_RECORD_BAD;
  }
  if (csv->done) {
    place_fields(csv->row);
    restart(csv);
    return TM_RECORD_DONE;
  }
  if (!last)
    return TM_RECORD_MORE;
  *at = 0; /* where the record starts: the end of the input tells nothing */
  return bad(csv, err, "unterminated CSV quoted field");
}

enum tm_record tm_csv_line(struct tm_csv *csv, const char *bytes, size_t len, size_t from,
                           const char *end, struct tm_row *row, size_t *at,
                           struct tm_error *err)
{
  if (from == 0) {
    row->count = 0;
    row->text.len = 0;
    *at = 0;
    if (memchr(bytes, csv->format.quote, len) == NULL) {
      const char *cr = memchr(bytes, '\r', len);
      if (cr == NULL)
        return split(&csv->format, bytes, len, row, err);
      *at = (size_t)(cr - bytes);
      tm_error_set(err, TM_EDATA, "unquoted carriage return found in data");
      return TM_RECORD_BAD;
    }
    restart(csv);
    csv->row = row;
  }
  return parse_line(csv, bytes, len, from, end, at, err);
}

/* ---- writing ---- */

static bool needs_quotes(const struct tm_format *f, const struct tm_field *field,
                         size_t count)
{
  const char *p = field->data;
  size_t n = field->len;
  if (f->force_quote || is_null(f, p, n) ||
      (count == 1 && n == 2 && memcmp(p, "\\.", 2) == 0))
    return true;
  for (size_t i = 0; i < n; i++)
    if (p[i] == f->delimiter || p[i] == f->quote || p[i] == '\n' || p[i] == '\r')
      return true;
  return false;
}

static char *write_quoted(const struct tm_format *f, const struct tm_field *field,
                          char *to)
{
  *to++ = f->quote;
  for (size_t i = 0; i < field->len; i++) {
    char c = field->data[i];
    if (c == f->quote || c == f->escape)
      *to++ = f->escape;
    *to++ = c;
  }
  *to++ = f->quote;
  return to;
}

bool tm_csv_write(const struct tm_format *format, const struct tm_field *fields,
                  size_t count, struct tm_buffer *out)
{
  for (size_t i = 0; i < count; i++) {
    const struct tm_field *field = &fields[i];
    if (field->len > SIZE_MAX / 4 || /* quotes, every byte escaped, delimiter, newline */
        !tm_buffer_reserve(out, 2 * field->len + format->null_len + 5))
      return false;
    char *to = out->data + out->len;
    if (i > 0)
      *to++ = format->delimiter;
    if (field->data == NULL) {
      memcpy(to, format->null, format->null_len);
      to += format->null_len;
    } else if (needs_quotes(format, field, count)) {
      to = write_quoted(format, field, to);
    } else {
      memcpy(to, field->data, field->len);
      to += field->len;
    }
    out->len = (size_t)(to - out->data);
  }
  return tm_buffer_adds(out, format->newline == TM_NEWLINE_CRLF ? "\r\n" : "\n");
}
