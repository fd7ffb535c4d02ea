/*
** pg_copy_out.c: COPY TO STDOUT as a source of slabs
**
** PQgetCopyData mallocs one buffer a row; each is copied into the slab and freed at once,
** and nothing else is done for a row. A row that does not fit into what is left of a slab
** waits as `pending` for the next one; a row longer than a whole slab becomes a slab itself,
** without a copy.
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

/* 64 KiB in 2 ms: at half that pace wake-ups cost little. */
enum { BATCH_MS = 2, FAST_MS = 8 /* a slab */ };

struct copy_out {
  struct tm_source base;
  struct pg_copy copy;
  char *pending; /* a row that belongs to the next slab; malloc'd by libpq */
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
    char *row = NULL;
    int n = PQgetCopyData(conn, &row, 1);
    if (n > 0) {
      ask = !(hidden || s->copy.batch);
      if (!take_row(s, slab, row, n))
        return 1;
    } else if (n == 0) {
      if (PQstatus(conn) == CONNECTION_BAD)
        return pg_copy_ended(&s->copy, err) ? 0 : -1;
      if (!receive(&s->copy, ask, err))
        return -1;
      ask = !(hidden || s->copy.batch) || !ask;
    } else {
      return pg_copy_ended(&s->copy, err) ? 0 : -1;
    }
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
