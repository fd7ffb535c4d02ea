/*
** records.c: the records of an object, one after the other
**
** The object comes in chunks of 64 KiB. A record that lies in one is not copied; the parts of
** one that does not are gathered, up to 128 MiB (the most that the dialects allow a row): of
** a longer one only the start is kept, and the rest is passed over to where it ends.
*/
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "oss_fdw/records.h"

enum {
  CHUNK_BYTES = 64 * 1024,
  KEEP_BYTES = 1024 * 1024, /* a larger buffer is given back after its record */
};

static enum tm_split_bytes bytes_of(int encoding)
{
  switch (encoding) {
  case PG_SJIS:
  case PG_SHIFT_JIS_2004:
    return TM_SPLIT_SJIS;
  case PG_BIG5:
  case PG_GBK:
  case PG_GB18030:
  case PG_UHC:
  case PG_JOHAB:
    return TM_SPLIT_TRAILS;
  default:
    return TM_SPLIT_SAFE;
  }
}

static void make_buffer(struct fdw_records *r)
{
  MemoryContext old = MemoryContextSwitchTo(r->context);
  initStringInfo(&r->begun);
  MemoryContextSwitchTo(old);
}

void fdw_records_init(struct fdw_records *r, MemoryContext cxt)
{
  memset(r, 0, sizeof *r);
  r->context = cxt;
  r->chunk = MemoryContextAlloc(cxt, CHUNK_BYTES);
  make_buffer(r);
}

void fdw_records_start(struct fdw_records *r, const struct fdw_table *t,
                       struct fdw_feed *feed)
{
  r->feed = feed;
  r->ended = r->too_long = r->taken = false;
  r->chunk_at = r->chunk_len = 0;
  resetStringInfo(&r->begun);
  tm_split_start(&r->split, t->format == FDW_CSV, t->quote, t->escape,
                 bytes_of(t->encoding));
}

/* Keeps what the chunk has of a record that does not lie in it alone. */
static void keep(struct fdw_records *r, const char *p, size_t n)
{
  if (r->too_long)
    return;
  if ((size_t)r->begun.len + n > FDW_RECORD_BYTES_MAX) {
    r->too_long = true;
    r->begun.len = Min(r->begun.len, FDW_RECORD_START);
    r->begun.data = repalloc(r->begun.data, FDW_RECORD_START + 1);
    r->begun.maxlen = FDW_RECORD_START + 1;
    return;
  }
  appendBinaryStringInfo(&r->begun, p, (int)n);
}

/* The record has ended with the n bytes at p. */
static void take(struct fdw_records *r, const char *p, size_t n)
{
  bool whole = r->begun.len == 0;
  if (!whole)
    keep(r, p, n);
  r->bytes = whole ? p : r->begun.data;
  r->len = whole ? n : (size_t)r->begun.len;
  if (!r->too_long)
    r->len -= (size_t)r->split.record.newline;
  r->taken = true;
}

/* The record at hand is done with; one that is only begun stays. */
static void forget(struct fdw_records *r)
{
  if (!r->taken)
    return;
  r->taken = r->too_long = false;
  resetStringInfo(&r->begun);
  if (r->begun.maxlen > KEEP_BYTES) {
    pfree(r->begun.data);
    make_buffer(r);
  }
}

bool fdw_records_next_here(struct fdw_records *r)
{
  const char *p = r->chunk + r->chunk_at;
  size_t used, len = r->chunk_len - r->chunk_at;
  forget(r);
  if (len == 0)
    return false;
  bool ended = tm_split_next(&r->split, p, len, &used);
  r->chunk_at += used;
  if (ended)
    take(r, p, used);
  else
    keep(r, p, used);
  return ended;
}

bool fdw_records_next(struct fdw_records *r)
{
  forget(r);
  while (!r->ended) {
    if (fdw_records_next_here(r))
      return true;
    CHECK_FOR_INTERRUPTS();
    r->chunk_at = 0;
    r->chunk_len = (size_t)fdw_feed_read(r->feed, r->chunk, 1, CHUNK_BYTES);
    r->ended = r->chunk_len == 0;
  }
  if (!tm_split_end(&r->split))
    return false;
  take(r, "", 0);
  return true;
}

void fdw_records_stop(struct fdw_records *r)
{
  r->ended = true;
  r->chunk_at = r->chunk_len = 0;
}
