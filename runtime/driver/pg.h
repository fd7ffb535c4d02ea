/*
** pg.h: a PostgreSQL session (libpq), without Lua
**
** Speaks to PostgreSQL 9.4 and later and to the Greenplum family. libpq is used without
** blocking: every wait watches the session's cancel token and the process's interrupt, and
** ends at the session's statement timeout. A wait that is cut short cancels the statement at
** the server (PQcancel) and reads what is left for a few seconds; if that does not help, the
** session is dropped and later calls fail with TM_EIO.
**
** A session belongs to one thread at a time. tm_pg_cancel may come from any thread. While a
** COPY stream or a row iteration is open it has the session for itself: other calls fail with
** TM_EUSAGE. Text in and out is UTF-8. Strings given to a function are the caller's still.
*/
#ifndef TM_DRIVER_PG_H
#define TM_DRIVER_PG_H

#include <stdint.h>

#include "base/error.h"
#include "stream/stream.h"

struct tm_pg;
struct tm_pg_result;

enum { TM_PG_CONNECT_TIMEOUT_MS = 10000 };

/* What the server says while it works: a NOTICE, WARNING, INFO ... `severity` is not
** localized from 9.6 on. Strings live for the call. */
struct tm_pg_notice {
  const char *severity, *code, *message, *detail, *hint, *context; /* never NULL */
};

/* Zero-initialised means the defaults. */
struct tm_pg_opts {
  const char *conninfo; /* key=value string, URI, or NULL: PG* environment and defaults */
  const char *const *keywords, *const *values; /* NULL-ended, may be NULL; these win */
  const char *application_name;                /* NULL: the conninfo's, else "tidemill" */
  int64_t
      connect_timeout_ms; /* 0: conninfo's connect_timeout, else 10 s; for each host */
  int64_t timeout_ms;     /* see tm_pg_set_timeout */
  bool data; /* session for moving rows: no server-side timeouts, row_security = off */
  bool read_only;               /* default_transaction_read_only = on */
  const char *timezone;         /* NULL: the server's for this role */
  int64_t statement_timeout_ms; /* the server's own; 0: leave (with `data`: none) */
  bool
      background; /* a thread's own session that must neither hang nor stop with the process:
                      the interrupt does not end its waits, and one that is cut short drops
                      the session at once (the server's statement timeout ends the rest) */
  /* Called in the thread that uses the session, from within its calls; may be NULL. */
  void (*notice)(void *data, const struct tm_pg_notice *notice);
  void *notice_data;
};

/*
** Connects and prepares the session: client_encoding UTF8, DateStyle ISO, IntervalStyle
** postgres, extra_float_digits 3, bytea_output hex, and what `opts` asks. NULL with
** TM_ECONNECT, TM_EAUTH, TM_ENOTFOUND (no such database), TM_EUSAGE (conninfo), TM_ETIMEOUT,
** TM_ECANCELED ...; no error text has the password. (Name resolution is libpq's and blocks.)
*/
struct tm_pg *tm_pg_open(const struct tm_pg_opts *opts, struct tm_error *err)
    TM_MUSTCHECK;

/* Ends the session, also under an open stream, which then fails. NULL is fine. */
void tm_pg_close(struct tm_pg *pg);

/* Makes the call under way (else the next one) fail with TM_ECANCELED and cancels its
** statement at the server. Any thread; the session must not be closed meanwhile. */
void tm_pg_cancel(struct tm_pg *pg);

/* Longest time of one statement, and of one silence in a COPY or a row iteration, as seen
** from here; 0: no limit (a dead peer is still noticed, by TCP keepalive). */
void tm_pg_set_timeout(struct tm_pg *pg, int64_t timeout_ms);

/* ---- about the session; strings live as long as it ---- */

enum tm_pg_state {
  TM_PG_IDLE,   /* no transaction */
  TM_PG_IN_TX,  /* in a transaction */
  TM_PG_FAILED, /* in a transaction that can only roll back */
  TM_PG_BUSY,   /* a stream or an iteration is open */
  TM_PG_BROKEN, /* lost or dropped */
};
enum tm_pg_state tm_pg_state(const struct tm_pg *pg);
int tm_pg_pid(const struct tm_pg *pg);                   /* of the server process */
const char *tm_pg_backend_start(const struct tm_pg *pg); /* timestamptz text, or "" */
int tm_pg_server_version(const struct tm_pg *pg);        /* 90426, 150004 ... */
const char *tm_pg_version_text(const struct tm_pg *pg);  /* select version() */
const char *tm_pg_flavor(const struct tm_pg *pg);        /* "postgresql", "greenplum" */
/* A setting that the server reports (TimeZone, server_encoding ...); NULL: unknown. */
const char *tm_pg_parameter(const struct tm_pg *pg, const char *name);
bool tm_pg_pooled(const struct tm_pg *pg); /* a pooler such as PgBouncer lies between */
bool tm_pg_encrypted(const struct tm_pg *pg); /* TLS */

/* ---- statements ---- */

/* Parameters of $1, $2 ...: text, or bytes when `binary` says so (for bytea only). */
struct tm_pg_params {
  int count;
  const char *const *values; /* NULL entry: SQL NULL; text entries end in NUL */
  const int *lengths;        /* read for binary entries only; NULL: none is binary */
  const int *binary;         /* 1 for bytes; NULL: none */
};

/* What one statement of an exec did. */
struct tm_pg_done {
  char command[64];            /* command tag: "INSERT 0 5"; "" for an empty statement */
  int64_t rows;                /* affected or returned; -1: the tag tells none */
  struct tm_pg_result *result; /* the rows when they were asked for, else NULL */
};
struct tm_pg_dones {
  struct tm_pg_done *items;
  size_t count;
};

/*
** Runs one or several statements as one simple query (so, outside a transaction block, as
** one transaction). `out` may be NULL; else it is filled and the caller frees it with
** tm_pg_dones_free. Rows are dropped as they come unless `keep_rows`. On an error the
** statements after it did not run.
*/
bool tm_pg_exec(struct tm_pg *pg, const char *sql, bool keep_rows,
                struct tm_pg_dones *out, struct tm_error *err) TM_MUSTCHECK;
void tm_pg_dones_free(struct tm_pg_dones *dones);

/* Runs one statement with parameters (NULL: none); all rows in memory. NULL on error; else
** the caller frees it with tm_pg_result_free. */
struct tm_pg_result *tm_pg_query(struct tm_pg *pg, const char *sql,
                                 const struct tm_pg_params *params, struct tm_error *err)
    TM_MUSTCHECK;

/* A prepared statement is a number. tm_pg_forget may be called at any time, never talks to
** the server, and lets a later tm_pg_prepare deallocate it. 0 on error. */
unsigned tm_pg_prepare(struct tm_pg *pg, const char *sql, struct tm_error *err)
    TM_MUSTCHECK;
struct tm_pg_result *tm_pg_query_prepared(struct tm_pg *pg, unsigned stmt,
                                          const struct tm_pg_params *params,
                                          struct tm_error *err) TM_MUSTCHECK;
void tm_pg_forget(struct tm_pg *pg, unsigned stmt);

/* ---- results ---- */

/* How a value's text is to be understood; everything else is exact text. */
enum tm_pg_type { TM_PG_TEXT, TM_PG_INT, TM_PG_FLOAT, TM_PG_BOOL, TM_PG_BYTEA };

int tm_pg_rows(const struct tm_pg_result *r);
int tm_pg_columns(const struct tm_pg_result *r);
const char *tm_pg_column_name(const struct tm_pg_result *r, int column);
enum tm_pg_type tm_pg_column_type(const struct tm_pg_result *r, int column);
const char *tm_pg_command(const struct tm_pg_result *r); /* command tag */
int64_t tm_pg_affected(const struct tm_pg_result *r);    /* -1: the tag tells none */
/* NULL for SQL NULL; lives as long as the result. `len` may be NULL. */
const char *tm_pg_value(const struct tm_pg_result *r, int row, int column, size_t *len);
void tm_pg_result_free(struct tm_pg_result *r); /* NULL is fine */

/* ---- rows one by one ---- */

/* Starts a query whose rows come one at a time in constant memory. */
bool tm_pg_rows_start(struct tm_pg *pg, const char *sql,
                      const struct tm_pg_params *params, struct tm_error *err)
    TM_MUSTCHECK;
/* 1: *out is a result of one row, the caller's. 0: no more, the session is free again.
** -1: *err set, likewise free (or broken). */
int tm_pg_rows_next(struct tm_pg *pg, struct tm_pg_result **out, struct tm_error *err)
    TM_MUSTCHECK;
/* Gives up the rest. In a transaction the rest is read and dropped for a few seconds before
** the statement is cancelled, for cancelling fails the transaction. Harmless when ended. */
void tm_pg_rows_end(struct tm_pg *pg);

/* ---- transactions ---- */

/* `mode` is what stands after BEGIN ("ISOLATION LEVEL REPEATABLE READ, READ ONLY") or NULL.
** TM_EUSAGE when one is open. */
bool tm_pg_begin(struct tm_pg *pg, const char *mode, struct tm_error *err) TM_MUSTCHECK;
/* TM_EINDOUBT when the connection broke while the COMMIT was on its way; TM_ESQL when the
** transaction had failed and the server rolled it back instead. */
bool tm_pg_commit(struct tm_pg *pg, struct tm_error *err) TM_MUSTCHECK;
/* Rolls back what is open; when that fails the session is dropped, which does the same. */
void tm_pg_rollback(struct tm_pg *pg);

/* ---- describe ---- */

struct tm_pg_column {
  char *name, *type; /* type as format_type tells it: "numeric(12,2)" */
  unsigned oid;
  int typmod;
  int nullable; /* 1, 0, or -1: not known */
};
/* The result columns of a statement (which may have $n) without running it; 0 columns when
** it returns no rows. *out is the caller's, freed with tm_pg_columns_free. */
bool tm_pg_describe(struct tm_pg *pg, const char *sql, struct tm_pg_column **out,
                    size_t *count, struct tm_error *err) TM_MUSTCHECK;
void tm_pg_columns_free(struct tm_pg_column *columns, size_t count);

/* ---- quoting, no session needed ---- */

/* Appends "name" (double quotes always) or a literal ('...' or E'...', safe whatever
** standard_conforming_strings is). TM_EUSAGE on a zero byte or text that is not UTF-8. */
struct tm_buffer;
bool tm_pg_quote_ident(struct tm_buffer *out, const char *s, size_t len,
                       struct tm_error *err) TM_MUSTCHECK;
bool tm_pg_quote_literal(struct tm_buffer *out, const char *s, size_t len,
                         struct tm_error *err) TM_MUSTCHECK;

/* ---- NOTIFY ---- */

struct tm_pg_notify {
  char channel[64]; /* NAMEDATALEN */
  int pid;          /* of the notifier */
  char *payload;    /* from malloc: the caller frees it */
};
/* 1: *out is filled. 0: nothing came in time (timeout_ms < 0: no limit). -1: *err set. */
int tm_pg_wait_notify(struct tm_pg *pg, int64_t timeout_ms, struct tm_pg_notify *out,
                      struct tm_error *err) TM_MUSTCHECK;

/* ---- COPY ---- */

/*
** Runs COPY ... TO STDOUT. Slabs hold whole rows and about TM_SLAB_BYTES (a longer row makes
** a longer slab); rows are counted by CopyData messages, so a CSV HEADER line counts as one.
** The end is told only after the server confirmed the command. Closing early cancels it.
** The server says that it began with its first rows: without `wait` the first read waits for
** them, and has the error of a command that is none.
*/
struct tm_source *tm_pg_copy_out(struct tm_pg *pg, const char *sql, bool wait,
                                 struct tm_error *err) TM_MUSTCHECK;

/*
** Runs COPY ... FROM STDIN. A write fails soon after the server refused a row, with the
** server's error and its CONTEXT (line and column). finish is true only when the server
** confirmed; abort makes it discard all. TM_EINDOUBT when the connection breaks in finish
** outside a transaction.
*/
struct tm_sink *tm_pg_copy_in(struct tm_pg *pg, const char *sql, struct tm_error *err)
    TM_MUSTCHECK;

/* Rows of the command tag once the stream ended well, else -1. */
int64_t tm_pg_copied_out(const struct tm_source *source);
int64_t tm_pg_copied_in(const struct tm_sink *sink);

#endif
