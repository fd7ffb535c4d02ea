/*
** cutter.c: an object's bytes as chunks of whole records
**
** Bytes go into the chunk as they are fed; the record under way is what lies behind the last
** complete one. A new chunk is begun only when the one before is whole, so nothing is moved.
*/
#include "stream/cutter.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct tm_cutter {
  struct tm_splitter split;
  size_t bytes, rows, record_max;
  bool csv, header_left;
  const char *window;
  size_t len, pos;
  size_t begun; /* bytes of the record under way that lie in the chunk */
  bool ended;   /* no more bytes will come */
  bool over;    /* \. was seen */
  bool taken;   /* the chunk was given out */
};

/* Whether the second byte of a character may look like ASCII, by PostgreSQL's or iconv's name
** of the encoding. */
static enum tm_split_bytes bytes_of(const char *encoding)
{
  static const char *const trails[] = {"BIG5",   "WIN950",     "Windows950", "GBK",
                                       "WIN936", "Windows936", "GB18030",    "UHC",
                                       "WIN949", "Windows949", "CP949",      "JOHAB"};
  static const char *const sjis[] = {"SJIS",      "Mskanji",       "ShiftJIS",
                                     "Shift_JIS", "WIN932",        "Windows932",
                                     "CP932",     "SHIFT_JIS_2004"};
  for (size_t i = 0; i < sizeof trails / sizeof *trails; i++)
    if (strcasecmp(encoding, trails[i]) == 0)
      return TM_SPLIT_TRAILS;
  for (size_t i = 0; i < sizeof sjis / sizeof *sjis; i++)
    if (strcasecmp(encoding, sjis[i]) == 0)
      return TM_SPLIT_SJIS;
  return TM_SPLIT_SAFE;
}

struct tm_cutter *tm_cutter_new(const struct tm_format *format, size_t bytes, size_t rows,
                                struct tm_error *err)
{
  struct tm_cutter *c = calloc(1, sizeof *c);
  if (c == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  c->csv = format->kind == TM_FORMAT_CSV;
  c->bytes = bytes;
  c->rows = rows;
  c->record_max = format->max_record_bytes;
  c->header_left = format->header;
  tm_split_start(&c->split, c->csv, format->quote, format->escape,
                 bytes_of(format->encoding));
  return c;
}

void tm_cutter_free(struct tm_cutter *c)
{
  free(c);
}

void tm_cutter_feed(struct tm_cutter *c, const char *bytes, size_t len)
{
  c->window = bytes;
  c->len = len;
  c->pos = 0;
}

void tm_cutter_end(struct tm_cutter *c)
{
  c->ended = true;
}

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory for a chunk of records");
  return false;
}

static bool too_long(const struct tm_cutter *c, struct tm_error *err)
{
  tm_error_set(err, TM_EDATA, "line %lld: a record is longer than %zu bytes",
               (long long)c->split.record.line, c->record_max);
  tm_error_hint(err, "perhaps a quote is never closed");
  return false;
}

static bool grow(struct tm_chunk *chunk)
{
  enum { FIRST = 1024 };
  size_t cap = chunk->cap > 0 ? 2 * chunk->cap : FIRST;
  struct tm_chunk_record *records = realloc(chunk->records, cap * sizeof *records);
  if (records == NULL)
    return false;
  chunk->records = records;
  chunk->cap = cap;
  return true;
}

/* Lines that COPY counts in a record of csv: one, and the line ends within quotes, which are
** LFs where lines end in LF, else CRs. */
static void count_lines(const struct tm_cutter *c, struct tm_chunk_record *r)
{
  const struct tm_split_record *s = &c->split.record;
  r->lines = r->lines_first = 1;
  if (!c->csv)
    return;
  bool lf = c->split.eol == TM_EOL_LF, ended = s->newline > 0;
  bool cr_end = ended && !lf && s->fault != TM_SPLIT_STRAY_LF;
  r->lines_first += (int32_t)(s->cr - cr_end);
  r->lines = lf ? (int32_t)(1 + s->lf - ended) : r->lines_first;
}

/* The record at the end of the chunk's bytes is whole. */
static bool add_record(struct tm_cutter *c, struct tm_chunk *chunk)
{
  const struct tm_split_record *s = &c->split.record;
  if (chunk->count == chunk->cap && !grow(chunk))
    return false;
  struct tm_chunk_record *r = &chunk->records[chunk->count++];
  r->offset = chunk->bytes.len - c->begun;
  r->size = c->begun;
  r->text = c->begun - (size_t)s->newline;
  r->line = s->line;
  r->fault = s->fault;
  count_lines(c, r);
  return true;
}

/* A record has ended: it is kept, or it is the header or the end of the data. */
static bool close_record(struct tm_cutter *c, struct tm_chunk *chunk)
{
  bool header = c->header_left;
  c->header_left = false;
  if (c->split.record.marker)
    c->over = true;
  if (!header && !c->over) {
    if (!add_record(c, chunk))
      return false;
  } else {
    chunk->bytes.len -= c->begun;
  }
  c->begun = 0;
  return true;
}

static bool is_full(const struct tm_cutter *c, const struct tm_chunk *chunk)
{
  return chunk->count >= c->rows ||
         (chunk->count > 0 && chunk->bytes.len - c->begun >= c->bytes);
}

/* Takes what is fed, up to the end of a chunk. False: *err. */
static bool fill(struct tm_cutter *c, struct tm_chunk *chunk, struct tm_error *err)
{
  while (!c->over && c->pos < c->len && !is_full(c, chunk)) {
    size_t used;
    bool done = tm_split_next(&c->split, c->window + c->pos, c->len - c->pos, &used);
    if (!tm_buffer_add(&chunk->bytes, c->window + c->pos, used))
      return no_memory(err);
    c->pos += used;
    c->begun += used;
    if (c->begun > c->record_max)
      return too_long(c, err);
    if (done && !close_record(c, chunk))
      return no_memory(err);
  }
  return true;
}

int tm_cutter_next(struct tm_cutter *c, struct tm_chunk *chunk, struct tm_error *err)
{
  if (c->taken)
    chunk->count = chunk->bytes.len = 0;
  c->taken = false;
  if (!fill(c, chunk, err))
    return -1;
  if (c->over)
    c->pos = c->len;
  else if (c->ended && tm_split_end(&c->split) && !close_record(c, chunk))
    return no_memory(err) - 1;
  c->taken = is_full(c, chunk) || ((c->ended || c->over) && chunk->count > 0);
  return c->taken;
}

size_t tm_chunk_find(const struct tm_chunk *chunk, size_t from, int64_t line)
{
  int64_t last = 0;
  for (size_t i = from; i < chunk->count; i++) {
    last += i == from ? chunk->records[i].lines_first : chunk->records[i].lines;
    if (line <= last)
      return i;
  }
  return chunk->count;
}

void tm_chunk_free(struct tm_chunk *chunk)
{
  tm_buffer_free(&chunk->bytes);
  free(chunk->records);
  *chunk = (struct tm_chunk){0};
}
