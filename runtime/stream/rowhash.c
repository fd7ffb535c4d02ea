/*
** rowhash.c: a hash of the rows of a stream that does not depend on their order
**
** A row is written as record_out does (PostgreSQL, rowtypes.c): a value in double quotes if it
** is empty or has a quote, backslash, parenthesis, comma or white space in it, quotes and
** backslashes doubled; NULL is nothing. One buffer serves all rows; nothing is allocated for a
** row but what makes that grow.
*/
#include "stream/rowhash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/digest.h"
#include "stream/codec.h"

struct rowhash {
  struct tm_stage base;
  struct tm_format format;
  char **names;
  enum tm_rowhash_type *types; /* NULL: all text */
  size_t count;
  struct tm_hasher *hasher;
  struct tm_decoder *decoder; /* NULL between two streams */
  struct tm_buffer text;      /* of the row */
  uint64_t rows, unread, sum;
  uint64_t *columns; /* NULL: not by column */
};

/* ---- birth and death ---- */

static void rowhash_close(struct tm_stage *self)
{
  struct rowhash *h = (struct rowhash *)self;
  for (size_t i = 0; h->names != NULL && i < h->count; i++)
    free(h->names[i]);
  free(h->names);
  free(h->types);
  free(h->columns);
  tm_hasher_free(h->hasher);
  tm_decoder_free(h->decoder);
  tm_buffer_free(&h->text);
  free(h);
}

static bool copy_columns(struct rowhash *h, const struct tm_rowhash_opts *opts)
{
  h->count = opts->count;
  h->names = calloc(opts->count, sizeof *h->names);
  if (h->names == NULL)
    return false;
  for (size_t i = 0; i < opts->count; i++)
    if ((h->names[i] = strdup(opts->columns[i])) == NULL)
      return false;
  if (opts->by_column && (h->columns = calloc(opts->count, sizeof *h->columns)) == NULL)
    return false;
  if (opts->types == NULL)
    return true;
  h->types = malloc(opts->count * sizeof *h->types);
  if (h->types != NULL)
    memcpy(h->types, opts->types, opts->count * sizeof *h->types);
  return h->types != NULL;
}

static bool note_unread(void *data, const char *raw, size_t len, struct tm_error *err)
{
  (void)raw;
  (void)len;
  (void)err;
  ((struct rowhash *)data)->unread++;
  return true;
}

static bool begin(struct rowhash *h, struct tm_error *err)
{
  struct tm_decoder_opts opts = {.columns = (const char *const *)h->names,
                                 .column_count = h->count,
                                 .reject = note_unread,
                                 .data = h};
  h->decoder = tm_decoder_new(&h->format, &opts, err);
  return h->decoder != NULL;
}

/* ---- a row's text ---- */

static bool is_space(char c)
{
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool needs_quotes(const char *p, size_t n)
{
  if (n == 0)
    return true;
  for (size_t i = 0; i < n; i++)
    switch (p[i]) {
    case '"':
    case '\\':
    case '(':
    case ')':
    case ',':
      return true;
    default:
      if (is_space(p[i]))
        return true;
    }
  return false;
}

static bool add_value(struct tm_buffer *text, const char *p, size_t n)
{
  if (n > SIZE_MAX / 4 || !tm_buffer_reserve(text, 2 * n + 2))
    return false;
  if (!needs_quotes(p, n))
    return tm_buffer_add(text, p, n);
  char *to = text->data + text->len;
  *to++ = '"';
  for (size_t i = 0; i < n; i++) {
    if (p[i] == '"' || p[i] == '\\')
      *to++ = p[i];
    *to++ = p[i];
  }
  *to++ = '"';
  text->len = (size_t)(to - text->data);
  return true;
}

enum { NUMBER_MAX = 63 };

/* The bits of the number as hex, or "NaN", as the SQL does; the text itself when it is none. */
static bool add_number(struct tm_buffer *text, enum tm_rowhash_type type, const char *p,
                       size_t n)
{
  char number[NUMBER_MAX + 1], *end;
  char hex[20];
  if (n == 0 || n > NUMBER_MAX)
    return add_value(text, p, n);
  memcpy(number, p, n);
  number[n] = '\0';
  if (strcmp(number, "NaN") == 0)
    return tm_buffer_add(text, p, n);
  if (type == TM_ROWHASH_FLOAT4) {
    float value = strtof(number, &end);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    snprintf(hex, sizeof hex, "%08lx", (unsigned long)bits);
  } else {
    double value = strtod(number, &end);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)bits);
  }
  return *end == '\0' ? tm_buffer_adds(text, hex) : add_value(text, p, n);
}

static bool add_field(struct rowhash *h, size_t i, const struct tm_field *f)
{
  if (f->data == NULL)
    return true;
  if (h->types == NULL || h->types[i] == TM_ROWHASH_TEXT)
    return add_value(&h->text, f->data, f->len);
  return add_number(&h->text, h->types[i], f->data, f->len);
}

/* ---- sums ---- */

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory for the hash of a row");
  return false;
}

/* The first 64 bits of the digest of what is in `text`. */
static bool digest(struct rowhash *h, uint64_t *bits, struct tm_error *err)
{
  unsigned char md5[TM_DIGEST_MAX];
  if (!tm_hasher_add(h->hasher, h->text.data, h->text.len) ||
      !tm_hasher_finish(h->hasher, md5))
    return no_memory(err);
  *bits = 0;
  for (int i = 0; i < 8; i++)
    *bits = *bits << 8 | md5[i];
  return true;
}

static bool sum_columns(struct rowhash *h, const struct tm_row *row, struct tm_error *err)
{
  for (size_t i = 0; i < h->count; i++) {
    uint64_t bits;
    h->text.len = 0;
    if (!tm_buffer_addc(&h->text, '(') || !add_field(h, i, &row->fields[i]) ||
        !tm_buffer_addc(&h->text, ')'))
      return no_memory(err);
    if (!digest(h, &bits, err))
      return false;
    h->columns[i] += bits;
  }
  return true;
}

static bool sum_row(struct rowhash *h, const struct tm_row *row, struct tm_error *err)
{
  uint64_t bits;
  h->text.len = 0;
  for (size_t i = 0; i < h->count; i++)
    if (!tm_buffer_addc(&h->text, i == 0 ? '(' : ',') ||
        !add_field(h, i, &row->fields[i]))
      return no_memory(err);
  if (!tm_buffer_addc(&h->text, ')'))
    return no_memory(err);
  if (!digest(h, &bits, err))
    return false;
  h->rows++;
  h->sum += bits;
  return h->columns == NULL || sum_columns(h, row, err);
}

static bool drain(struct rowhash *h, struct tm_error *err)
{
  struct tm_row *row;
  int got;
  while ((got = tm_decoder_next(h->decoder, &row, err)) > 0)
    if (!sum_row(h, row, err))
      return false;
  return got == 0;
}

/* The stream is over: what the decoder still has is its last row. */
static bool end(struct rowhash *h, struct tm_error *err)
{
  if (h->decoder == NULL)
    return true;
  bool ok = tm_decoder_end(h->decoder, err) && drain(h, err);
  tm_decoder_free(h->decoder);
  h->decoder = NULL;
  return ok;
}

static bool rowhash_push(struct tm_stage *self, struct tm_slab *in, struct tm_emit *out,
                         struct tm_error *err)
{
  struct rowhash *h = (struct rowhash *)self;
  if (in == NULL)
    return end(h, err);
  if ((h->decoder != NULL || begin(h, err)) &&
      tm_decoder_feed(h->decoder, in->data, in->len, err) && drain(h, err))
    return tm_emit(out, in, err);
  tm_slab_free(in);
  return false;
}

static const struct tm_stage_ops rowhash_ops = {
    .name = "row hash", .push = rowhash_push, .close = rowhash_close};

struct tm_stage *tm_rowhash_new(const struct tm_rowhash_opts *opts, struct tm_error *err)
{
  struct rowhash *h = calloc(1, sizeof *h);
  if (h == NULL) {
    no_memory(err);
    return NULL;
  }
  h->base.ops = &rowhash_ops;
  h->format = opts->format;
  h->hasher = tm_hasher_new(TM_MD5);
  if (h->hasher == NULL)
    tm_error_set(err, TM_ESYSTEM, "libcrypto gives no MD5 here: rows cannot be hashed");
  else if (!copy_columns(h, opts))
    no_memory(err);
  else if (begin(h, err)) /* now, so that a wrong format is told now */
    return &h->base;
  rowhash_close(&h->base);
  return NULL;
}

void tm_rowhash_sums(const struct tm_stage *stage, struct tm_rowhash_sums *sums)
{
  const struct rowhash *h = (const struct rowhash *)stage;
  *sums = (struct tm_rowhash_sums){.rows = h->rows,
                                   .unread = h->unread,
                                   .sum = h->sum,
                                   .columns = h->columns,
                                   .count = h->count};
}
