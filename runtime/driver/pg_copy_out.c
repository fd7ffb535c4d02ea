/*
** pg_copy_out.c: COPY TO STDOUT as a source of slabs
**
** PQgetlineAsync puts each row where the slab goes on: one copy a row, no memory of its own, and
** nothing else is done for a row. It gives a part of a row that does not fit, without saying so
** (in CSV a part may end in a line end too). So a slab with less than ROW_ROOM left is full, and
** where a row has filled the room to its last byte PQgetCopyData decides, which always gives
** the whole of a row: is it one that begins with these bytes, the row was cut, for no row of a
** format is the beginning of another; else it was whole. Where rows are that long they come
** through PQgetCopyData from then on, each in a buffer of its own, and one that is longer than a
** slab becomes a slab itself, without a copy.
** The server sends 8 KiB at a time, and to be woken for each costs more than all else that is
** done with them. So while rows come fast the socket wakes us for many at once
** (pg_copy_batch); when so much does not come within BATCH_MS we take what there is, and each
** of its messages again. It is so too before anything but rows is waited for.
*/
#include "driver/pg_copy.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* 256 KiB in 8 ms: at half that pace wake-ups cost little. */
enum { BATCH_MS = 8, FAST_MS = 16 /* a slab */, ROW_ROOM = 8 * 1024 };

struct copy_out {
  struct tm_source base;
  struct pg_copy copy;
  bool long_rows; /* they come one by one from now on */
  char *pending;  /* a row that belongs to the next slab; malloc'd by libpq */
  int pending_len;
};

/* A row that is a slab by itself; takes `row`, which libpq got from malloc. */
static struct tm_slab *slab_of_row(char *row, size_t len, struct tm_error *err)
{
  struct tm_slab *slab = tm_slab_new(1, err);
  if (slab == NULL) {
    PQfreemem(row);
    return NULL;
  }
  free(slab->data);
  slab->data = row;
  slab->len = slab->cap = slab->raw_bytes = len;
  slab->rows = 1;
  return slab;
}

/* Adds the row and frees it; false when it does not fit and is kept as pending. */
static bool take_row(struct copy_out *s, struct tm_slab *slab, char *row, int len)
{
  if (slab->cap - slab->len < (size_t)len) {
    s->pending = row;
    s->pending_len = len;
    return false;
  }
  memcpy(slab->data + slab->len, row, (size_t)len);
  slab->len += (size_t)len;
  slab->rows++;
  PQfreemem(row);
  return true;
}

/* Takes in more input, once poll says that there is some. */
static bool receive(struct pg_copy *c, bool ask_poll, struct tm_error *err)
{
  int revents = 1;
  if (ask_poll && c->batch)
    revents = pg_poll_ms(c->pg, POLLIN, BATCH_MS, err);
  else if (ask_poll)
    revents = pg_poll(c->pg, POLLIN, pg_deadline(c->pg), err);
  if (revents < 0)
    return pg_copy_stop(c);
  if (revents == 0)
    pg_copy_batch(c, false);
  (void)PQconsumeInput(
      c->pg->conn); /* a failure is told by PQgetCopyData or the result */
  return true;
}

/* A row has filled the room of the slab: as for next_row, once it is clear whether it was cut. */
static int settle_row(struct copy_out *s, struct tm_slab *slab, int len)
{
  char *row = NULL;
  int n = PQgetCopyData(s->copy.pg->conn, &row, 1);
  s->long_rows = true;
  s->pending = row;
  s->pending_len = n;
  if (n <= len || memcmp(row, slab->data + slab->len, (size_t)len) != 0) {
    slab->len += (size_t)len;
    slab->rows++;
  }
  return n < 0 ? -1 : 2;
}

/* Puts the next row into the slab: 1, 0 when none has come yet, -1 at the end or on an error,
** 2 when the slab is full. */
static int next_row(struct copy_out *s, struct tm_slab *slab)
{
  PGconn *conn = s->copy.pg->conn;
  if (s->long_rows) {
    char *row = NULL;
    int n = PQgetCopyData(conn, &row, 1);
    return n <= 0 ? n : (take_row(s, slab, row, n) ? 1 : 2);
  }
  size_t room = slab->cap - slab->len;
  if (room < ROW_ROOM)
    return 2;
  int n = PQgetlineAsync(conn, slab->data + slab->len, (int)room);
  if (n == (int)room)
    return settle_row(s, slab, n);
  if (n <= 0)
    return n;
  slab->len += (size_t)n;
  slab->rows++;
  return 1;
}

/*
** Fills the slab: 1 when it is full, 0 when the data ended, -1 with *err set.
**
** The server sends some KiB at a time and we are faster, so a read before poll would mostly
** be for nothing. Only under encryption bytes may wait where poll does not see them, and of a
** batch libpq takes a part at a time.
*/
static int fill(struct copy_out *s, struct tm_slab *slab, struct tm_error *err)
{
  PGconn *conn = s->copy.pg->conn;
  const bool hidden = PQsslInUse(conn) || PQgssEncInUse(conn);
  bool ask = !(hidden || s->copy.batch);
  for (;;) {
    int n = next_row(s, slab);
    if (n == 2)
      return 1;
    if (n < 0 || (n == 0 && PQstatus(conn) == CONNECTION_BAD))
      return pg_copy_ended(&s->copy, err) ? 0 : -1;
    if (n == 0 && !receive(&s->copy, ask, err))
      return -1;
    ask = !(hidden || s->copy.batch) || (n == 0 && !ask);
  }
}

static int read_slab(struct copy_out *s, struct tm_slab **out, struct tm_error *err)
{
  if (!pg_copy_check(&s->copy, err))
    return -1;
  if (!s->copy.begun && !pg_copy_begin(&s->copy, PGRES_COPY_OUT, err))
    return -1;
  char *row = s->pending;
  s->pending = NULL;
  if (row != NULL && s->pending_len > TM_SLAB_BYTES) {
    *out = slab_of_row(row, (size_t)s->pending_len, err);
    return *out == NULL ? -1 : 1;
  }
  if (row == NULL && s->copy.state == PG_COPY_ENDED)
    return 0;
  struct tm_slab *slab = tm_slab_new(TM_SLAB_BYTES, err);
  if (slab == NULL) {
    PQfreemem(row);
    return -1;
  }
  if (row != NULL)
    (void)take_row(s, slab, row, s->pending_len); /* it fits an empty slab */
  int64_t begun = tm_clock_mono_ms();
  int got = s->copy.state == PG_COPY_ENDED ? 0 : fill(s, slab, err);
  if (got == 1 && tm_clock_mono_ms() - begun <= FAST_MS)
    pg_copy_batch(&s->copy, true);
  slab->raw_bytes = slab->len;
  if (got >= 0 && slab->len > 0) {
    *out = slab;
    return 1;
  }
  tm_slab_free(slab);
  return got > 0 ? read_slab(s, out, err) : got; /* the first row is a long one */
}

static int out_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  struct copy_out *s = (struct copy_out *)self;
  pthread_mutex_lock(&s->copy.pg->lock);
  int got = read_slab(s, out, err);
  pthread_mutex_unlock(&s->copy.pg->lock);
  return got;
}

static void out_cancel(struct tm_source *self)
{
  pg_copy_cancel(&((struct copy_out *)self)->copy);
}

static void out_close(struct tm_source *self)
{
  struct copy_out *s = (struct copy_out *)self;
  if (s->copy.pg != NULL) {
    pthread_mutex_lock(&s->copy.pg->lock);
    if (s->copy.state == PG_COPY_OPEN && s->copy.pg->conn != NULL)
      (void)pg_copy_stop(&s->copy);
    pthread_mutex_unlock(&s->copy.pg->lock);
  }
  PQfreemem(s->pending);
  pg_copy_release(&s->copy);
  free(s);
}

static const struct tm_source_ops out_ops = {
    .name = "pg copy out", .read = out_read, .cancel = out_cancel, .close = out_close};

struct tm_source *tm_pg_copy_out(struct tm_pg *pg, const char *sql, bool wait,
                                 struct tm_error *err)
{
  struct copy_out *s = calloc(1, sizeof *s);
  if (s == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  s->base.ops = &out_ops;
  pthread_mutex_init(&s->copy.gate, NULL);
  if (pg_copy_start(&s->copy, pg, sql, err) &&
      (!wait || pg_copy_begin(&s->copy, PGRES_COPY_OUT, err)))
    return &s->base;
  out_close(&s->base);
  return NULL;
}

int64_t tm_pg_copied_out(const struct tm_source *source)
{
  return ((const struct copy_out *)source)->copy.rows;
}
