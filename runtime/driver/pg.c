/*
** pg.c: statements, rows one by one, prepared statements, transactions, notifications
**
** Whatever is sent is read to its end (PQgetResult gives NULL) before the call returns, or is
** stopped, so that between calls the session is always idle. The one exception is a row
** iteration, which marks the session as in use.
*/
#include "driver/pg_impl.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

/* ---- sending ---- */

static bool check_params(const struct tm_pg_params *params, struct tm_error *err)
{
  if (params == NULL || params->count <= UINT16_MAX)
    return true;
  tm_error_set(err, TM_EUSAGE, "%d parameters: the protocol allows %d", params->count,
               UINT16_MAX);
  return false;
}

/* Types are the server's to infer, but bytes are bytea. malloc'd; NULL: none is binary. */
static Oid *types_of(const struct tm_pg_params *params, struct tm_error *err)
{
  enum { BYTEA = 17 };
  Oid *types = calloc((size_t)params->count + 1, sizeof *types);
  if (types == NULL)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  for (int i = 0; types != NULL && params->binary != NULL && i < params->count; i++)
    types[i] = params->binary[i] ? BYTEA : 0;
  return types;
}

static bool send_params(struct tm_pg *pg, const char *sql, const char *prepared,
                        const struct tm_pg_params *params, struct tm_error *err)
{
  static const struct tm_pg_params none;
  const struct tm_pg_params *p = params == NULL ? &none : params;
  int sent;
  if (prepared != NULL) {
    sent = PQsendQueryPrepared(pg->conn, prepared, p->count, p->values, p->lengths,
                               p->binary, 0);
  } else {
    Oid *types = types_of(p, err);
    if (types == NULL)
      return false;
    sent = PQsendQueryParams(pg->conn, sql, p->count, types, p->values, p->lengths,
                             p->binary, 0);
    free(types);
  }
  if (sent == 0)
    pg_error_conn(pg, err);
  return sent != 0;
}

bool pg_send(struct tm_pg *pg, const char *sql, const char *prepared,
             const struct tm_pg_params *params, struct tm_error *err)
{
  if (!check_params(params, err))
    return false;
  pg->in_tx = PQtransactionStatus(pg->conn) != PQTRANS_IDLE;
  if (params != NULL || prepared != NULL)
    return send_params(pg, sql, prepared, params, err);
  if (PQsendQuery(pg->conn, sql) != 0)
    return true;
  pg_error_conn(pg, err);
  return false;
}

/* ---- failing ---- */

/* A statement outside a transaction commits by itself, so a loss leaves it in doubt. */
static void note_loss(struct tm_pg *pg, struct tm_error *err)
{
  if (PQstatus(pg->conn) != CONNECTION_BAD && !atomic_load(&pg->broken))
    return;
  pg_drop(pg);
  if (!pg->in_tx && err->kind == TM_EIO)
    tm_error_hint(err, "the connection was lost while the statement ran outside a "
                       "transaction: whether it took effect is not known");
}

static void set_copy_misused(struct tm_error *err, const char *sql)
{
  tm_error_set(err, TM_EUSAGE, "COPY to or from the client needs a stream");
  tm_error_hint(err,
                "use copy_out for COPY ... TO STDOUT, copy_in for COPY ... FROM STDIN");
  pg_error_sql(err, sql, 0);
}

static bool is_copy(ExecStatusType status)
{
  return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

static bool is_failure(ExecStatusType status)
{
  return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE;
}

/* Whether the text is one COMMIT, whose loss leaves the whole transaction in doubt. */
static bool is_commit(const char *sql)
{
  static const char *const words[] = {"commit", "end", "prepare transaction"};
  sql += strspn(sql, " \t\r\n");
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strncasecmp(sql, words[i], strlen(words[i])) == 0)
      return true;
  return false;
}

static void set_in_doubt(struct tm_error *err)
{
  struct tm_error cause = *err;
  tm_error_set(err, TM_EINDOUBT,
               "the connection broke while COMMIT was on its way: %.500s", cause.message);
  tm_error_hint(err, "look in the database whether the transaction took effect before "
                     "doing it again");
}

/* ---- several statements, one simple query ---- */

struct execution {
  struct tm_pg *pg;
  const char *sql;
  bool keep_rows;
  struct tm_pg_dones *out; /* may be NULL */
  bool failed;             /* *err is set: the first failure wins */
};

/* Takes `res`, which it frees or gives to `out`. */
static bool add_done(struct execution *e, PGresult *res, struct tm_error *err)
{
  struct tm_pg_dones *out = e->out;
  struct tm_pg_done *items = realloc(out->items, (out->count + 1) * sizeof *items);
  struct tm_pg_result *kept = NULL;
  if (items != NULL)
    out->items = items;
  bool keep = e->keep_rows && PQresultStatus(res) == PGRES_TUPLES_OK;
  if (items == NULL || (keep && (kept = calloc(1, sizeof *kept)) == NULL)) {
    PQclear(res);
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  struct tm_pg_done *done = &items[out->count++];
  const char *tuples = PQcmdTuples(res);
  snprintf(done->command, sizeof done->command, "%s", PQcmdStatus(res));
  done->rows = *tuples == '\0' ? -1 : strtoll(tuples, NULL, 10);
  done->result = kept;
  if (keep)
    kept->res = res;
  else
    PQclear(res);
  return true;
}

/* Adds the end of a transaction, which is_commit, where its reply was not kept. */
static bool add_commit(struct execution *e, bool had_failed, struct tm_error *err)
{
  struct tm_pg_dones *out = e->out;
  if (out == NULL || out->count > 0)
    return true;
  bool prepared = strcasestr(e->sql, "prepare") != NULL;
  const char *command = prepared ? "PREPARE TRANSACTION" : "COMMIT";
  out->items = calloc(1, sizeof *out->items);
  if (out->items == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  snprintf(out->items[0].command, sizeof out->items[0].command, "%s",
           had_failed ? "ROLLBACK" : command);
  out->items[0].rows = -1;
  out->count = 1;
  return true;
}

/* One result of the execution; takes `res`. False: stop reading, *err set. */
static bool take_result(struct execution *e, PGresult *res, struct tm_error *err)
{
  ExecStatusType status = PQresultStatus(res);
  if (is_copy(status)) {
    PQclear(res);
    if (!e->failed)
      set_copy_misused(err, e->sql);
    e->failed = true;
    return false;
  }
  if (is_failure(status) && !e->failed) {
    pg_error_result(e->pg, res, e->sql, err);
    note_loss(e->pg, err);
    e->failed = true;
  }
  if (status == PGRES_SINGLE_TUPLE || e->failed || e->out == NULL) {
    PQclear(res);
    return true;
  }
  e->failed = !add_done(e, res, err);
  return !e->failed;
}

static bool execute(struct execution *e, struct tm_error *err)
{
  struct tm_pg *pg = e->pg;
  int64_t deadline = pg_deadline(pg);
  bool commit = is_commit(e->sql);
  bool had_failed = PQtransactionStatus(pg->conn) == PQTRANS_INERROR;
  PGresult *res = NULL;
  int got;
  if (!pg_send(pg, e->sql, NULL, NULL, err))
    return false;
  if (!e->keep_rows)
    PQsetSingleRowMode(pg->conn); /* what is dropped needs no memory */
  while ((got = pg_next(pg, deadline, &res, err)) > 0)
    if (!take_result(e, res, err))
      break;
  if (got != 0) {
    enum pg_ending ending = pg_stop(pg, true);
    if (commit && got < 0 && ending == PG_ENDED_WELL)
      return add_commit(e, had_failed, err); /* it was through before the cancel came */
    if (commit && got < 0 && ending == PG_LOST)
      set_in_doubt(err);
    else if (got < 0)
      pg_error_sql(err, e->sql, 0);
    return false;
  }
  if (e->failed && commit && pg_lost_in_flight(pg, err))
    set_in_doubt(err);
  return !e->failed;
}

bool tm_pg_exec(struct tm_pg *pg, const char *sql, bool keep_rows,
                struct tm_pg_dones *out, struct tm_error *err)
{
  struct tm_pg_dones none = {0};
  if (out != NULL)
    *out = none;
  if (!pg_ready(pg, err))
    return false;
  struct execution e = {.pg = pg, .sql = sql, .keep_rows = keep_rows, .out = out};
  bool ok = execute(&e, err);
  if (!ok && out != NULL)
    tm_pg_dones_free(out);
  return ok;
}

void tm_pg_dones_free(struct tm_pg_dones *dones)
{
  for (size_t i = 0; i < dones->count; i++)
    tm_pg_result_free(dones->items[i].result);
  free(dones->items);
  dones->items = NULL;
  dones->count = 0;
}

/* ---- one statement ---- */

/* Reads to the end and keeps the last result; several can only come from simple text. */
PGresult *pg_collect(struct tm_pg *pg, const char *sql, struct tm_error *err)
{
  int64_t deadline = pg_deadline(pg);
  PGresult *last = NULL, *res = NULL;
  bool failed = false;
  int got;
  while ((got = pg_next(pg, deadline, &res, err)) > 0) {
    ExecStatusType status = PQresultStatus(res);
    if (is_failure(status) && !failed) {
      pg_error_result(pg, res, sql, err);
      note_loss(pg, err);
      failed = true;
    } else if (is_copy(status)) {
      set_copy_misused(err, sql);
      PQclear(res);
      break;
    }
    PQclear(last);
    last = res;
  }
  if (got < 0)
    pg_error_sql(err, sql, 0);
  if (got != 0)
    (void)pg_stop(pg, true);
  if (got == 0 && !failed && last != NULL)
    return last;
  if (got == 0 && !failed)
    tm_error_set(err, TM_EPROTOCOL, "the server gave no result");
  PQclear(last);
  return NULL;
}

static struct tm_pg_result *wrap(PGresult *res, struct tm_error *err)
{
  struct tm_pg_result *r = calloc(1, sizeof *r);
  if (r == NULL) {
    PQclear(res);
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  r->res = res;
  return r;
}

static struct tm_pg_result *query(struct tm_pg *pg, const char *sql, const char *prepared,
                                  const struct tm_pg_params *params, struct tm_error *err)
{
  static const struct tm_pg_params none;
  if (!pg_ready(pg, err) ||
      !pg_send(pg, sql, prepared, params == NULL ? &none : params, err))
    return NULL;
  PGresult *res = pg_collect(pg, sql, err);
  return res == NULL ? NULL : wrap(res, err);
}

struct tm_pg_result *tm_pg_query(struct tm_pg *pg, const char *sql,
                                 const struct tm_pg_params *params, struct tm_error *err)
{
  return query(pg, sql, NULL, params, err);
}

/* ---- prepared statements ---- */

static void name_of(unsigned stmt, char name[32])
{
  snprintf(name, 32, "tidemill_%u", stmt);
}

/* Deallocates what was forgotten; not in a failed transaction, where nothing runs. */
static bool deallocate_forgotten(struct tm_pg *pg, struct tm_error *err)
{
  if (PQtransactionStatus(pg->conn) == PQTRANS_INERROR)
    return true;
  while (pg->forgotten_count > 0) {
    char name[32], sql[64];
    name_of(pg->forgotten[--pg->forgotten_count], name);
    snprintf(sql, sizeof sql, "DEALLOCATE %s", name);
    if (!tm_pg_exec(pg, sql, false, NULL, err))
      return false;
  }
  return true;
}

unsigned tm_pg_prepare(struct tm_pg *pg, const char *sql, struct tm_error *err)
{
  char name[32];
  if (!pg_ready(pg, err) || !deallocate_forgotten(pg, err))
    return 0;
  unsigned stmt = ++pg->prepared; /* not again: after a cancel the server may have it */
  name_of(stmt, name);
  if (PQsendPrepare(pg->conn, name, sql, 0, NULL) == 0) {
    pg_error_conn(pg, err);
    return 0;
  }
  PGresult *res = pg_collect(pg, sql, err);
  if (res == NULL)
    return 0;
  PQclear(res);
  return stmt;
}

struct tm_pg_result *tm_pg_query_prepared(struct tm_pg *pg, unsigned stmt,
                                          const struct tm_pg_params *params,
                                          struct tm_error *err)
{
  char name[32];
  name_of(stmt, name);
  return query(pg, NULL, name, params, err);
}

void tm_pg_forget(struct tm_pg *pg, unsigned stmt)
{
  if (pg->forgotten_count < PG_FORGOTTEN) /* else it stays until the session ends */
    pg->forgotten[pg->forgotten_count++] = stmt;
}

/* ---- rows one by one ---- */

static void rows_done(struct tm_pg *pg)
{
  free(pg->rows_sql);
  pg->rows_sql = NULL;
  atomic_store(&pg->use, PG_FREE);
}

bool tm_pg_rows_start(struct tm_pg *pg, const char *sql,
                      const struct tm_pg_params *params, struct tm_error *err)
{
  static const struct tm_pg_params none;
  if (!pg_ready(pg, err))
    return false;
  char *copy = strdup(sql);
  if (copy == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  if (!pg_send(pg, sql, NULL, params == NULL ? &none : params, err)) {
    free(copy);
    return false;
  }
  PQsetSingleRowMode(pg->conn);
  pg->rows_sql = copy;
  atomic_store(&pg->use, PG_ROWS);
  return true;
}

int tm_pg_rows_next(struct tm_pg *pg, struct tm_pg_result **out, struct tm_error *err)
{
  bool failed = false;
  PGresult *res = NULL;
  int got;
  *out = NULL;
  if (atomic_load(&pg->use) != PG_ROWS)
    return 0;
  while ((got = pg_next(pg, pg_deadline(pg), &res, err)) > 0) {
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_SINGLE_TUPLE && !failed) {
      *out = wrap(res, err);
      if (*out != NULL)
        return 1;
      break;
    }
    if (is_failure(status) && !failed) {
      pg_error_result(pg, res, pg->rows_sql, err);
      note_loss(pg, err);
      failed = true;
    }
    PQclear(res);
    if (is_copy(status)) {
      set_copy_misused(err, pg->rows_sql);
      break;
    }
  }
  if (got != 0)
    (void)pg_stop(pg, true);
  if (got < 0)
    pg_error_sql(err, pg->rows_sql, 0);
  rows_done(pg);
  return got == 0 && !failed ? 0 : -1;
}

void tm_pg_rows_end(struct tm_pg *pg)
{
  enum { PATIENCE_MS = 2000 };
  if (atomic_load(&pg->use) != PG_ROWS || pg->conn == NULL)
    return;
  if (!pg->in_tx || pg_drain(pg, PATIENCE_MS) == PG_LOST)
    (void)pg_stop(pg, true);
  rows_done(pg);
}

/* ---- transactions ---- */

bool tm_pg_begin(struct tm_pg *pg, const char *mode, struct tm_error *err)
{
  char sql[256];
  if (!pg_ready(pg, err))
    return false;
  if (PQtransactionStatus(pg->conn) != PQTRANS_IDLE) {
    tm_error_set(err, TM_EUSAGE, "a transaction is already open on this connection");
    return false;
  }
  if (mode != NULL && (strlen(mode) > 200 || strchr(mode, ';') != NULL)) {
    tm_error_set(err, TM_EUSAGE, "bad transaction mode '%.80s'", mode);
    return false;
  }
  snprintf(sql, sizeof sql, "BEGIN %s", mode == NULL ? "" : mode);
  return tm_pg_exec(pg, sql, false, NULL, err);
}

bool tm_pg_commit(struct tm_pg *pg, struct tm_error *err)
{
  struct tm_pg_dones done = {0};
  if (!tm_pg_exec(pg, "COMMIT", false, &done, err))
    return false;
  bool rolled_back = done.count > 0 && strcmp(done.items[0].command, "ROLLBACK") == 0;
  tm_pg_dones_free(&done);
  if (!rolled_back)
    return true;
  tm_error_set(err, TM_ESQL,
               "an earlier statement failed: the server rolled the "
               "transaction back");
  snprintf(err->code, sizeof err->code, "25P02");
  return false;
}

void tm_pg_rollback(struct tm_pg *pg)
{
  struct tm_error err;
  if (pg->conn == NULL || atomic_load(&pg->broken))
    return;
  if (atomic_load(&pg->use) == PG_ROWS)
    tm_pg_rows_end(pg);
  if (PQtransactionStatus(pg->conn) == PQTRANS_IDLE)
    return;
  if (!tm_pg_exec(pg, "ROLLBACK", false, NULL, &err))
    pg_drop(pg);
}

/* ---- NOTIFY ---- */

/* 1 and *out filled when a notification has arrived, 0 when none, -1 on memory. */
static int take_notify(struct tm_pg *pg, struct tm_pg_notify *out, struct tm_error *err)
{
  PGnotify *n = PQnotifies(pg->conn);
  if (n == NULL)
    return 0;
  snprintf(out->channel, sizeof out->channel, "%s", n->relname);
  out->pid = n->be_pid;
  out->payload = strdup(n->extra == NULL ? "" : n->extra);
  PQfreemem(n);
  if (out->payload != NULL)
    return 1;
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return -1;
}

int tm_pg_wait_notify(struct tm_pg *pg, int64_t timeout_ms, struct tm_pg_notify *out,
                      struct tm_error *err)
{
  int64_t deadline = tm_clock_deadline(timeout_ms);
  if (!pg_ready(pg, err))
    return -1;
  for (;;) {
    int got = take_notify(pg, out, err);
    if (got != 0)
      return got;
    int revents = tm_clock_poll(PQsocket(pg->conn), POLLIN, tm_clock_left(deadline),
                                &pg->cancel, err);
    if (revents < 0)
      pg_uncancel(pg); /* nothing runs at the server: the session stays good */
    if (revents <= 0)
      return revents;
    if (PQconsumeInput(pg->conn) == 0) {
      pg_error_conn(pg, err);
      pg_drop(pg);
      return -1;
    }
  }
}
