/*
** pg_copy_in.c: COPY FROM STDIN as a sink of slabs
**
** Slabs go out as they are, one CopyData message each, for the server puts messages together
** again. While libpq is in a COPY it does not look at an error that the server has sent, so we
** look at what has arrived ourselves (absorb); otherwise a load that failed at its first row
** would be sent to its end.
*/
#include "driver/pg_copy.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "driver/tls.h"

struct copy_in {
  struct tm_sink base;
  struct pg_copy copy;
  bool refused; /* the server has ended the COPY: its error waits to be read */
};

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
  struct pg_copy *c = &s->copy;
  while (PQflush(c->pg->conn) > 0) { /* < 0: lost, which the result tells */
    int revents = pg_poll(c->pg, POLLIN | POLLOUT, pg_deadline(c->pg), err);
    if (revents < 0)
      return pg_copy_stop(c);
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
  struct pg_copy *c = &s->copy;
  s->refused = true;
  while (PQputCopyEnd(c->pg->conn, "refused by the server") == 0)
    if (!flush(s, err))
      return false;
  if (pg_copy_confirm(c, err))
    tm_error_set(err, TM_EPROTOCOL, "the server ended the COPY early");
  else if (c->state == PG_COPY_OPEN)
    return pg_copy_stop(c);
  pg_copy_detach(c, PG_COPY_FAILED);
  return false;
}

static bool write_slab(struct copy_in *s, const struct tm_slab *slab,
                       struct tm_error *err)
{
  if (!pg_copy_check(&s->copy, err))
    return false;
  if (s->copy.state == PG_COPY_ENDED) {
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
  struct pg_copy *c = &s->copy;
  if (!pg_copy_check(c, err))
    return false;
  if (c->state == PG_COPY_ENDED)
    return true;
  int sent;
  while ((sent = PQputCopyEnd(c->pg->conn, NULL)) == 0)
    if (!flush(s, err))
      return false;
  if (sent < 0)
    return end_early(s, err);
  if (pg_copy_confirm(c, err))
    return true;
  if (c->state == PG_COPY_OPEN) { /* the wait was cut short */
    enum pg_ending ending = pg_stop(c->pg, true);
    pg_copy_detach(c, ending == PG_ENDED_WELL ? PG_COPY_ENDED : PG_COPY_FAILED);
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
  struct pg_copy *c = &((struct copy_in *)self)->copy;
  pthread_mutex_lock(&c->pg->lock);
  bool ok = finish((struct copy_in *)self, err);
  pthread_mutex_unlock(&c->pg->lock);
  return ok;
}

/* Tells the server to discard all; if it does not answer soon, drops the session. */
static void abort_copy(struct pg_copy *c, const char *why)
{
  enum { PATIENCE_MS = 3000 };
  if (c->state != PG_COPY_OPEN || c->pg->conn == NULL)
    return;
  if (PQputCopyEnd(c->pg->conn, why) <= 0 || pg_drain(c->pg, PATIENCE_MS) == PG_LOST)
    (void)pg_stop(c->pg, true);
  pg_copy_detach(c, PG_COPY_FAILED);
}

static void in_abort(struct tm_sink *self, const char *why)
{
  struct pg_copy *c = &((struct copy_in *)self)->copy;
  pthread_mutex_lock(&c->pg->lock);
  abort_copy(c, why == NULL ? "aborted" : why);
  pthread_mutex_unlock(&c->pg->lock);
}

static void in_cancel(struct tm_sink *self)
{
  pg_copy_cancel(&((struct copy_in *)self)->copy);
}

static void in_close(struct tm_sink *self)
{
  struct copy_in *s = (struct copy_in *)self;
  if (s->copy.pg != NULL)
    in_abort(self, "closed before its end");
  pg_copy_release(&s->copy);
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
  if (pg_copy_start(&s->copy, pg, sql, err) &&
      pg_copy_begin(&s->copy, PGRES_COPY_IN, err))
    return &s->base;
  in_close(&s->base);
  return NULL;
}

int64_t tm_pg_copied_in(const struct tm_sink *sink)
{
  return ((const struct copy_in *)sink)->copy.rows;
}
