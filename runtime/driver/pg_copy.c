/*
** pg_copy.c: COPY as a source and as a sink of slabs
**
** Out: PQgetCopyData mallocs one buffer a row; each is copied into the slab and freed at once,
** and nothing else is done for a row. A row that does not fit into what is left of a slab
** waits as `pending` for the next one; a row longer than a whole slab becomes a slab itself,
** without a copy.
** The server sends 8 KiB at a time, and to be woken for each costs more than all else that is
** done with them. So while rows come fast the socket wakes us for BATCH_BYTES at once
** (SO_RCVLOWAT); when so much does not come within BATCH_MS we take what there is, and each of
** its messages again. It is so too before anything but rows is waited for.
**
** In: slabs go out as they are, one CopyData message each, for the server puts messages
** together again. While libpq is in a COPY it does not look at an error that the server has
** sent, so we look at what has arrived ourselves (absorb); otherwise a load that failed at
** its first row would be sent to its end.
**
** Each call holds the session's lock, so that the session may be closed from the thread that
** owns it while a pump's thread is in here. A stream keeps the struct alive (pg_unref).
*/
#include "driver/pg_impl.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "driver/tls.h"

/* 64 KiB in 2 ms: at half that pace wake-ups cost little. */
enum { BATCH_BYTES = 64 * 1024, BATCH_MS = 2, FAST_MS = 8 /* a slab */ };

enum state { OPEN, ENDED, FAILED };

/* What both directions have. */
struct copy {
  struct tm_pg *pg;
  char *sql;
  enum state state;
  bool begun;            /* the server has said that the COPY began */
  bool batch;            /* out: the socket wakes for BATCH_BYTES */
  bool in_tx;            /* else the COPY commits by itself */
  int64_t rows;          /* of the command tag; -1 until it came */
  atomic_bool cancelled; /* set by any thread */
  pthread_mutex_t
      gate; /* guards state in cancel and detach: once the stream has let go of
                            the session, a late cancel must not hit what comes next */
};

struct copy_out {
  struct tm_source base;
  struct copy copy;
  char *pending; /* a row that belongs to the next slab; malloc'd by libpq */
  int pending_len;
};

struct copy_in {
  struct tm_sink base;
  struct copy copy;
  bool refused; /* the server has ended the COPY: its error waits to be read */
};

/* ---- both directions ---- */

/* Sends the command; from then on the stream has the session. */
static bool start(struct copy *c, struct tm_pg *pg, const char *sql, struct tm_error *err)
{
  if (!pg_ready(pg, err))
    return false;
  c->sql = strdup(sql);
  if (c->sql == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  if (!pg_send(pg, sql, NULL, NULL, err))
    return false;
  c->pg = pg;
  c->in_tx = pg->in_tx;
  c->rows = -1;
  atomic_init(&c->cancelled, false);
  atomic_fetch_add(&pg->refs, 1);
  atomic_store(&pg->use, PG_COPY);
  return true;
}

static void set_batch(struct copy *c, bool on)
{
  int bytes = on ? BATCH_BYTES : 1;
  if (c->batch == on || c->pg->conn == NULL)
    return;
  c->batch = setsockopt(PQsocket(c->pg->conn), SOL_SOCKET, SO_RCVLOWAT, &bytes,
                        sizeof bytes) == 0 &&
             on;
}

/* The stream no longer has the session. */
static void detach(struct copy *c, enum state state)
{
  set_batch(c, false);
  pthread_mutex_lock(&c->gate);
  if (c->state == OPEN && atomic_load(&c->cancelled))
    pg_uncancel(c->pg);
  if (c->state == OPEN)
    atomic_store(&c->pg->use, PG_FREE);
  c->state = state;
  pthread_mutex_unlock(&c->gate);
}

/* Ends a stream that went wrong; *err is what went wrong. False, for `return`. */
static bool stop(struct copy *c)
{
  set_batch(c, false);
  (void)pg_stop(c->pg, true);
  detach(c, FAILED);
  return false;
}

/* Waits until the server says that the COPY began: for the first rows of a COPY out, which
** come with it. */
static bool begin(struct copy *c, ExecStatusType want, struct tm_error *err)
{
  PGresult *res = NULL;
  int got = pg_next(c->pg, pg_deadline(c->pg), &res, err);
  ExecStatusType status = got > 0 ? PQresultStatus(res) : PGRES_EMPTY_QUERY;
  c->begun = got > 0 && status == want;
  if (got > 0 && status == PGRES_FATAL_ERROR)
    pg_error_result(c->pg, res, c->sql, err);
  else if (got >= 0 && !c->begun)
    tm_error_set(err, TM_EUSAGE, "not a COPY %s: %.60s",
                 want == PGRES_COPY_OUT ? "... TO STDOUT" : "... FROM STDIN", c->sql);
  else if (got < 0)
    pg_error_sql(err, c->sql, 0);
  PQclear(res);
  if (c->begun)
    return true;
  (void)pg_stop(c->pg, got < 0 || status != PGRES_FATAL_ERROR);
  detach(c, FAILED);
  return false;
}

/* False with *err set when the stream cannot go on. */
static bool check(struct copy *c, struct tm_error *err)
{
  if (c->state == OPEN && c->pg->conn == NULL) {
    detach(c, FAILED);
    tm_error_set(err, TM_EIO, "connection is closed");
    return false;
  }
  if (atomic_load(&c->cancelled) ||
      (c->state == OPEN &&
       (tm_cancel_fired(&c->pg->cancel) || tm_cancel_fired(tm_interrupt())))) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return c->state == OPEN ? stop(c) : false;
  }
  if (c->state == FAILED)
    tm_error_set(err, TM_EIO, "the COPY failed before");
  return c->state != FAILED;
}

/* Reads the results after the data. True: the server confirmed the command. */
static bool confirm(struct copy *c, struct tm_error *err)
{
  bool confirmed = false, failed = false;
  PGresult *res = NULL;
  int got;
  set_batch(c, false);
  while ((got = pg_next(c->pg, pg_deadline(c->pg), &res, err)) > 0) {
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_COMMAND_OK) {
      confirmed = true;
      c->rows = strtoll(PQcmdTuples(res), NULL, 10);
    } else if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT) {
      PQclear(res);
      tm_error_set(err, TM_EUSAGE,
                   "a second COPY follows the first: give them one by one");
      return false;
    } else if (!failed) {
      pg_error_result(c->pg, res, c->sql, err);
      failed = true;
    }
    PQclear(res);
  }
  if (got < 0)
    return false;
  if (PQstatus(c->pg->conn) == CONNECTION_BAD)
    pg_drop(c->pg);
  if (!failed && !confirmed)
    tm_error_set(err, TM_EPROTOCOL, "the server did not confirm the COPY");
  detach(c, confirmed && !failed ? ENDED : FAILED);
  return c->state == ENDED;
}

/* As confirm, but a wait cut short stops the stream. */
static bool ended(struct copy *c, struct tm_error *err)
{
  return confirm(c, err) || (c->state == OPEN && stop(c));
}

static void cancel(struct copy *c)
{
  pthread_mutex_lock(&c->gate);
  atomic_store(&c->cancelled, true);
  if (c->state == OPEN)
    tm_cancel_fire(&c->pg->cancel);
  pthread_mutex_unlock(&c->gate);
}

static void release(struct copy *c)
{
  if (c->pg != NULL)
    pg_unref(c->pg);
  pthread_mutex_destroy(&c->gate);
  free(c->sql);
}

/* ---- out ---- */

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
static bool receive(struct copy *c, bool ask_poll, struct tm_error *err)
{
  int revents = 1;
  if (ask_poll && c->batch)
    revents = pg_poll_ms(c->pg, POLLIN, BATCH_MS, err);
  else if (ask_poll)
    revents = pg_poll(c->pg, POLLIN, pg_deadline(c->pg), err);
  if (revents < 0)
    return stop(c);
  if (revents == 0)
    set_batch(c, false);
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
        return ended(&s->copy, err) ? 0 : -1;
      if (!receive(&s->copy, ask, err))
        return -1;
      ask = !(hidden || s->copy.batch) || !ask;
    } else {
      return ended(&s->copy, err) ? 0 : -1;
    }
  }
}

static int read_slab(struct copy_out *s, struct tm_slab **out, struct tm_error *err)
{
  if (!check(&s->copy, err))
    return -1;
  if (!s->copy.begun && !begin(&s->copy, PGRES_COPY_OUT, err))
    return -1;
  char *row = s->pending;
  s->pending = NULL;
  if (row != NULL && s->pending_len > TM_SLAB_BYTES) {
    *out = slab_of_row(row, (size_t)s->pending_len, err);
    return *out == NULL ? -1 : 1;
  }
  if (row == NULL && s->copy.state == ENDED)
    return 0;
  struct tm_slab *slab = tm_slab_new(TM_SLAB_BYTES, err);
  if (slab == NULL) {
    PQfreemem(row);
    return -1;
  }
  if (row != NULL)
    (void)take_row(s, slab, row, s->pending_len); /* it fits an empty slab */
  int64_t begun = tm_clock_mono_ms();
  int got = s->copy.state == ENDED ? 0 : fill(s, slab, err);
  if (got == 1 && tm_clock_mono_ms() - begun <= FAST_MS)
    set_batch(&s->copy, true);
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
  cancel(&((struct copy_out *)self)->copy);
}

static void out_close(struct tm_source *self)
{
  struct copy_out *s = (struct copy_out *)self;
  if (s->copy.pg != NULL) {
    pthread_mutex_lock(&s->copy.pg->lock);
    if (s->copy.state == OPEN && s->copy.pg->conn != NULL)
      (void)stop(&s->copy);
    pthread_mutex_unlock(&s->copy.pg->lock);
  }
  PQfreemem(s->pending);
  release(&s->copy);
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
  if (start(&s->copy, pg, sql, err) && (!wait || begin(&s->copy, PGRES_COPY_OUT, err)))
    return &s->base;
  out_close(&s->base);
  return NULL;
}

int64_t tm_pg_copied_out(const struct tm_source *source)
{
  return ((const struct copy_out *)source)->copy.rows;
}

/* ---- in ---- */

/* Copies what libpq has not read yet: > 0: so many bytes, 0: closed, -1: nothing yet. */
static int peek(PGconn *conn, char *bytes, size_t size)
{
  void *ssl = PQsslInUse(conn) ? PQsslStruct(conn, "OpenSSL") : NULL;
  if (ssl != NULL)
    return tm_tls_peek(ssl, bytes, (int)size);
  if (PQsslInUse(conn)) /* libpq has another TLS library: the error comes with finish */
    return -1;
  return (int)recv(PQsocket(conn), bytes, size, MSG_PEEK | MSG_DONTWAIT);
}

/*
** Whether an ErrorResponse starts within the bytes: 'E', a length below 64 KiB, 'S' for the
** severity. It need not stand at their start. Nothing else looks so: a text field of a notice
** has no zero byte, and where one that ends in 'E' ends its message, the byte in the place of
** the 'S' is the second one of the next message's length, which is 0.
*/
static bool has_error(const char *p, size_t n)
{
  for (const char *end = p + n; (p = memchr(p, 'E', (size_t)(end - p))) != NULL; p++)
    if (end - p < 6)
      return false;
    else if (p[1] == 0 && p[2] == 0 && p[5] == 'S')
      return true;
  return false;
}

/* Takes in what the server has said during the COPY: notices and notifications, or an error,
** which ends it. */
static void absorb(struct copy_in *s)
{
  enum { ROUNDS = 16 };
  PGconn *conn = s->copy.pg->conn;
  for (int i = 0; i < ROUNDS && !s->refused; i++) {
    char bytes[16384]; /* libpq reads no more at once while its buffer is small */
    int n = peek(conn, bytes, sizeof bytes);
    if (n < 0)
      return;
    s->refused = n == 0 || has_error(bytes, (size_t)n);
    if (PQconsumeInput(conn) == 0)
      s->refused = true;
    (void)PQisBusy(conn); /* lets libpq handle notices */
  }
}

/* Sends all that libpq holds; meanwhile takes in what the server says. */
static bool flush(struct copy_in *s, struct tm_error *err)
{
  struct copy *c = &s->copy;
  while (PQflush(c->pg->conn) > 0) { /* < 0: lost, which the result tells */
    int revents = pg_poll(c->pg, POLLIN | POLLOUT, pg_deadline(c->pg), err);
    if (revents < 0)
      return stop(c);
    if ((revents & ~POLLOUT) != 0)
      absorb(s);
    if (PQstatus(c->pg->conn) == CONNECTION_BAD)
      return true;
  }
  return true;
}

static bool end_early(struct copy_in *s, struct tm_error *err);

/* Hands bytes to libpq. PQputCopyData gives 0 when it has no room, -1 when all is lost. */
static bool put(struct copy_in *s, const char *bytes, size_t len, struct tm_error *err)
{
  enum { PIECE = 1 << 20 }; /* libpq copies each piece into its own buffer */
  while (len > 0) {
    size_t n = len < PIECE ? len : PIECE;
    int sent = s->refused ? -1 : PQputCopyData(s->copy.pg->conn, bytes, (int)n);
    if (sent < 0)
      return end_early(s, err);
    if (sent > 0) {
      bytes += n;
      len -= n;
    }
    if (!flush(s, err))
      return false;
  }
  return true;
}

/* Ends a COPY that the server has refused, to get at its error. Always false. */
static bool end_early(struct copy_in *s, struct tm_error *err)
{
  struct copy *c = &s->copy;
  s->refused = true;
  while (PQputCopyEnd(c->pg->conn, "refused by the server") == 0)
    if (!flush(s, err))
      return false;
  if (confirm(c, err))
    tm_error_set(err, TM_EPROTOCOL, "the server ended the COPY early");
  else if (c->state == OPEN)
    return stop(c);
  detach(c, FAILED);
  return false;
}

static bool write_slab(struct copy_in *s, const struct tm_slab *slab,
                       struct tm_error *err)
{
  if (!check(&s->copy, err))
    return false;
  if (s->copy.state == ENDED) {
    tm_error_set(err, TM_EUSAGE, "the COPY has ended already");
    return false;
  }
  absorb(s);
  return s->refused ? end_early(s, err) : put(s, slab->data, slab->len, err);
}

static bool in_write(struct tm_sink *self, struct tm_slab *slab, struct tm_error *err)
{
  struct copy_in *s = (struct copy_in *)self;
  pthread_mutex_lock(&s->copy.pg->lock);
  bool ok = write_slab(s, slab, err);
  pthread_mutex_unlock(&s->copy.pg->lock);
  tm_slab_free(slab);
  return ok;
}

static void set_in_doubt(struct tm_error *err)
{
  struct tm_error cause = *err;
  tm_error_set(err, TM_EINDOUBT,
               "the connection broke while the COPY was being finished: "
               "%.500s",
               cause.message);
  tm_error_hint(err,
                "look in the database whether the rows are there before loading again");
}

static bool finish(struct copy_in *s, struct tm_error *err)
{
  struct copy *c = &s->copy;
  if (!check(c, err))
    return false;
  if (c->state == ENDED)
    return true;
  int sent;
  while ((sent = PQputCopyEnd(c->pg->conn, NULL)) == 0)
    if (!flush(s, err))
      return false;
  if (sent < 0)
    return end_early(s, err);
  if (confirm(c, err))
    return true;
  if (c->state == OPEN) { /* the wait was cut short */
    enum pg_ending ending = pg_stop(c->pg, true);
    detach(c, ending == PG_ENDED_WELL ? ENDED : FAILED);
    if (ending == PG_ENDED_WELL)
      return true; /* it was through before the cancel came */
    if (ending == PG_LOST && !c->in_tx)
      set_in_doubt(err);
  } else if (pg_lost_in_flight(c->pg, err) && !c->in_tx) {
    set_in_doubt(err);
  }
  return false;
}

static bool in_finish(struct tm_sink *self, struct tm_error *err)
{
  struct copy *c = &((struct copy_in *)self)->copy;
  pthread_mutex_lock(&c->pg->lock);
  bool ok = finish((struct copy_in *)self, err);
  pthread_mutex_unlock(&c->pg->lock);
  return ok;
}

/* Tells the server to discard all; if it does not answer soon, drops the session. */
static void abort_copy(struct copy *c, const char *why)
{
  enum { PATIENCE_MS = 3000 };
  if (c->state != OPEN || c->pg->conn == NULL)
    return;
  if (PQputCopyEnd(c->pg->conn, why) <= 0 || pg_drain(c->pg, PATIENCE_MS) == PG_LOST)
    (void)pg_stop(c->pg, true);
  detach(c, FAILED);
}

static void in_abort(struct tm_sink *self, const char *why)
{
  struct copy *c = &((struct copy_in *)self)->copy;
  pthread_mutex_lock(&c->pg->lock);
  abort_copy(c, why == NULL ? "aborted" : why);
  pthread_mutex_unlock(&c->pg->lock);
}

static void in_cancel(struct tm_sink *self)
{
  cancel(&((struct copy_in *)self)->copy);
}

static void in_close(struct tm_sink *self)
{
  struct copy_in *s = (struct copy_in *)self;
  if (s->copy.pg != NULL)
    in_abort(self, "closed before its end");
  release(&s->copy);
  free(s);
}

static const struct tm_sink_ops in_ops = {.name = "pg copy in",
                                          .write = in_write,
                                          .finish = in_finish,
                                          .abort = in_abort,
                                          .cancel = in_cancel,
                                          .close = in_close};

struct tm_sink *tm_pg_copy_in(struct tm_pg *pg, const char *sql, struct tm_error *err)
{
  struct copy_in *s = calloc(1, sizeof *s);
  if (s == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  s->base.ops = &in_ops;
  pthread_mutex_init(&s->copy.gate, NULL);
  if (start(&s->copy, pg, sql, err) && begin(&s->copy, PGRES_COPY_IN, err))
    return &s->base;
  in_close(&s->base);
  return NULL;
}

int64_t tm_pg_copied_in(const struct tm_sink *sink)
{
  return ((const struct copy_in *)sink)->copy.rows;
}
