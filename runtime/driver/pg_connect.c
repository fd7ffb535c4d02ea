/*
** pg_connect.c: opening, preparing and closing a PostgreSQL session
**
** Our defaults never outrank what the user wrote, be it in the string, a service file or the
** environment: so keepalives are set on the socket afterwards, where PQconninfo shows that
** nobody chose otherwise. No `options` are sent at start, for PgBouncer refuses them; settings
** go in one simple query instead, which also tells the true pid (a pooler makes up the one
** that libpq knows, and that is how a pooler is noticed).
*/
#include "driver/pg_impl.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

enum { MAX_KEYWORDS = 64 };

/* Dead peers are noticed after KEEP_IDLE + KEEP_COUNT * KEEP_INTERVAL = 60 s. */
enum { KEEP_IDLE_S = 30, KEEP_INTERVAL_S = 10, KEEP_COUNT = 3 };

struct keywords {
  const char *names[MAX_KEYWORDS + 1], *values[MAX_KEYWORDS + 1];
  int count;
};

static void add(struct keywords *k, const char *name, const char *value)
{
  if (value == NULL || k->count == MAX_KEYWORDS)
    return;
  k->names[k->count] = name;
  k->values[k->count++] = value;
}

/* A password with a bare '@' or '/' would end up in the host name, and so in messages. */
static bool check_uri(const char *conninfo, struct tm_error *err)
{
  const char *authority = strstr(conninfo, "://");
  if (authority == NULL || strncmp(conninfo, "postgres", 8) != 0)
    return true;
  authority += 3;
  size_t len = strcspn(authority, "/?");
  const char *first = memchr(authority, '@', len);
  const char *path = authority + len;
  if (first == NULL && memchr(authority, ':', len) != NULL && *path == '/' &&
      memchr(path, '@', strcspn(path, "?")) != NULL) {
    tm_error_set(err, TM_EUSAGE, "bad connection string: an '@' behind the first '/'");
    tm_error_hint(err, "write a '/' in the password as %%2F, and an '@' in the name of a "
                       "database as %%40");
    return false;
  }
  if (first == NULL ||
      memchr(first + 1, '@', len - (size_t)(first + 1 - authority)) == NULL)
    return true;
  tm_error_set(err, TM_EUSAGE,
               "bad connection string: more than one '@' before the path");
  tm_error_hint(err, "write an '@' in the user or the password as %%40");
  return false;
}

/* Parses the string by itself first: only there may libpq quote parts of it. */
static bool check_conninfo(const char *conninfo, struct tm_error *err)
{
  if (conninfo == NULL || *conninfo == '\0')
    return true;
  if (!check_uri(conninfo, err))
    return false;
  char *message = NULL;
  bool single = strchr(conninfo, '=') == NULL && strstr(conninfo, "://") == NULL;
  if (single) { /* libpq would take it for a database name and connect anywhere */
    tm_error_set(err, TM_EUSAGE, "bad connection string: neither a URI nor key=value");
    tm_error_hint(err, "for example postgresql://user@host/db, host=... dbname=..., "
                       "or service=NAME");
    return false;
  }
  PQconninfoOption *parsed = PQconninfoParse(conninfo, &message);
  if (parsed == NULL)
    pg_error_conninfo(message, err);
  else
    PQconninfoFree(parsed);
  PQfreemem(message);
  return parsed != NULL;
}

/* Whether libpq knows the option; an unknown one is the caller's mistake. */
static bool check_keyword(const char *name, struct tm_error *err)
{
  PQconninfoOption *options = PQconndefaults();
  bool known = options == NULL; /* out of memory: let libpq say so */
  for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
    known = known || strcmp(o->keyword, name) == 0;
  if (options != NULL)
    PQconninfoFree(options);
  if (!known)
    tm_error_set(err, TM_EUSAGE, "bad connection option '%.60s'", name);
  return known;
}

/* What libpq refuses before it has opened a socket is a mistake in the options. */
static bool check_start(PGconn *conn, struct tm_error *err)
{
  if (PQstatus(conn) != CONNECTION_BAD)
    return true;
  const char *text = PQerrorMessage(conn);
  if (strncmp(text, "invalid ", 8) == 0 ||
      strncmp(text, "definition of service", 21) == 0 ||
      strncmp(text, "service file", 12) == 0)
    pg_error_conninfo(text, err);
  else
    pg_error_connect(conn, err);
  return false;
}

static PGconn *start(const struct tm_pg_opts *opts, struct tm_error *err)
{
  struct keywords k = {.count = 0};
  if (!check_conninfo(opts->conninfo, err))
    return NULL;
  add(&k, "fallback_application_name", "tidemill");
  add(&k, "dbname", opts->conninfo); /* expanded, as expand_dbname is true */
  for (int i = 0; opts->keywords != NULL && opts->keywords[i] != NULL; i++) {
    if (!check_keyword(opts->keywords[i], err))
      return NULL;
    add(&k, opts->keywords[i], opts->values[i]);
  }
  if (opts->application_name != NULL && *opts->application_name != '\0')
    add(&k, "application_name", opts->application_name);
  add(&k, "client_encoding", "UTF8");
  PGconn *conn = PQconnectStartParams(k.names, k.values, 1);
  if (conn == NULL)
    pg_error_connect(NULL, err);
  return conn;
}

/* The value in force of a connection option; "" when there is none. */
static void effective(PGconn *conn, const char *name, char *out, size_t size)
{
  PQconninfoOption *options = PQconninfo(conn);
  *out = '\0';
  for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
    if (strcmp(o->keyword, name) == 0 && o->val != NULL)
      snprintf(out, size, "%s", o->val);
  if (options != NULL)
    PQconninfoFree(options);
}

static int64_t connect_timeout(PGconn *conn, const struct tm_pg_opts *opts)
{
  char text[32];
  if (opts->connect_timeout_ms > 0)
    return opts->connect_timeout_ms;
  effective(conn, "connect_timeout", text, sizeof text);
  long seconds = strtol(text, NULL, 10);
  return seconds > 0 && seconds < 86400 ? seconds * 1000 : TM_PG_CONNECT_TIMEOUT_MS;
}

static int64_t host_count(PGconn *conn)
{
  char hosts[1024];
  int64_t n = 1;
  effective(conn, "host", hosts, sizeof hosts);
  for (const char *p = hosts; (p = strchr(p, ',')) != NULL; p++)
    n++;
  return n;
}

/* Fails on sockets that are not TCP; that is as well. */
static void set_tcp(PGconn *conn, int option, int value)
{
  if (PQsocket(conn) >= 0)
    (void)setsockopt(PQsocket(conn), IPPROTO_TCP, option, &value, sizeof value);
}

static void set_keepalives(PGconn *conn)
{
  static const struct {
    const char *name;
    int option, value;
  } settings[] = {{"keepalives_idle", TCP_KEEPIDLE, KEEP_IDLE_S},
                  {"keepalives_interval", TCP_KEEPINTVL, KEEP_INTERVAL_S},
                  {"keepalives_count", TCP_KEEPCNT, KEEP_COUNT}};
  char chosen[32];
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
    effective(conn, settings[i].name, chosen, sizeof chosen);
    if (*chosen == '\0')
      set_tcp(conn, settings[i].option, settings[i].value);
  }
}

static void set_late(PGconn *conn, int64_t ms, struct tm_error *err)
{
  tm_error_set(err, TM_ECONNECT, "cannot connect to %s port %s: no answer within %lld s",
               PQhost(conn) != NULL && *PQhost(conn) != '\0' ? PQhost(conn)
                                                             : "the server",
               PQport(conn), (long long)(ms + 999) / 1000);
  tm_error_hint(err, "is the address right, and does a firewall or a security group let "
                     "this machine through?");
}

/*
** Drives PQconnectPoll to its end. libpq goes on to the next host by itself when a socket
** fails, but not when it hangs; TCP_USER_TIMEOUT makes a hanging one fail. It must be off
** again afterwards: it would also end a healthy COPY whose server waits for a lock.
*/
static bool finish(PGconn *conn, int64_t timeout_ms, bool background,
                   struct tm_error *err)
{
  char chosen[32];
  int64_t hosts = host_count(conn);
  int64_t deadline = tm_clock_mono_ms() + timeout_ms * hosts;
  int limited = -1;
  effective(conn, "tcp_user_timeout", chosen, sizeof chosen);
  bool limit = hosts > 1 && *chosen == '\0';
  for (PostgresPollingStatusType s = PGRES_POLLING_WRITING; s != PGRES_POLLING_OK;
       s = PQconnectPoll(conn)) {
    if (s == PGRES_POLLING_FAILED || PQstatus(conn) == CONNECTION_BAD) {
      pg_error_connect(conn, err);
      return false;
    }
    if (limit && PQsocket(conn) != limited)
      set_tcp(conn, TCP_USER_TIMEOUT, (int)timeout_ms);
    limited = PQsocket(conn);
    int64_t left = deadline - tm_clock_mono_ms();
    short events = s == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    left = left < 0 ? 0 : left;
    int revents = background ? tm_clock_poll_on(limited, events, left, NULL, err)
                             : tm_clock_poll(limited, events, left, NULL, err);
    if (revents < 0)
      return false;
    if (revents == 0) {
      set_late(conn, timeout_ms * hosts, err);
      return false;
    }
  }
  if (limit)
    set_tcp(conn, TCP_USER_TIMEOUT, 0);
  return true;
}

/* ---- the session ---- */

static bool add_settings(struct tm_buffer *sql, const struct tm_pg_opts *opts,
                         int version, struct tm_error *err)
{
  bool ok = tm_buffer_adds(sql, "SET DateStyle TO ISO; SET IntervalStyle TO postgres; "
                                "SET extra_float_digits TO 3; SET bytea_output TO hex;");
  int64_t limit = opts->statement_timeout_ms;
  if (opts->data || limit > 0)
    ok = ok && tm_buffer_addf(sql, "SET statement_timeout TO %lld;", (long long)limit);
  if (opts->data && version >= 90600)
    ok = ok && tm_buffer_adds(sql, "SET idle_in_transaction_session_timeout TO 0;");
  if (opts->data && version >= 140000) /* a load waits for its extract between objects */
    ok = ok && tm_buffer_adds(sql, "SET idle_session_timeout TO 0;");
  if (opts->data && version >= 170000)
    ok = ok && tm_buffer_adds(sql, "SET transaction_timeout TO 0;");
  if (opts->data && version >= 90500) /* rather an error than rows that are missing */
    ok = ok && tm_buffer_adds(sql, "SET row_security TO off;");
  if (opts->read_only)
    ok = ok && tm_buffer_adds(sql, "SET default_transaction_read_only TO on;");
  if (opts->timezone != NULL) {
    ok = ok && tm_buffer_adds(sql, "SET TimeZone TO ");
    if (ok && !tm_pg_quote_literal(sql, opts->timezone, strlen(opts->timezone), err))
      return false;
    ok = ok && tm_buffer_addc(sql, ';');
  }
  ok = ok && tm_buffer_adds(
                 sql, "SELECT pg_catalog.pg_backend_pid(), pg_catalog.version(),"
                      " (SELECT backend_start FROM pg_catalog.pg_stat_activity"
                      " WHERE pid = pg_catalog.pg_backend_pid()),"
                      " EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relnamespace = 11"
                      " AND relname = 'gp_segment_configuration')");
  if (!ok)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  return ok;
}

static void keep_facts(struct tm_pg *pg, const PGresult *res)
{
  pg->pid = atoi(PQgetvalue(res, 0, 0));
  pg->pooled = pg->pid != PQbackendPID(pg->conn);
  snprintf(pg->version_text, sizeof pg->version_text, "%s", PQgetvalue(res, 0, 1));
  snprintf(pg->backend_start, sizeof pg->backend_start, "%s", PQgetvalue(res, 0, 2));
  pg->greenplum = strcmp(PQgetvalue(res, 0, 3), "t") == 0 ||
                  strstr(pg->version_text, "Greenplum") != NULL;
}

static bool prepare_session(struct tm_pg *pg, const struct tm_pg_opts *opts,
                            int64_t timeout_ms, struct tm_error *err)
{
  struct tm_buffer sql = {0};
  PGresult *res = NULL;
  atomic_store(&pg->timeout_ms, timeout_ms);
  if (add_settings(&sql, opts, PQserverVersion(pg->conn), err)) {
    const char *text = tm_buffer_cstr(&sql);
    if (text == NULL)
      tm_error_set(err, TM_EMEMORY, "out of memory");
    else if (pg_send(pg, text, NULL, NULL, err))
      res = pg_collect(pg, text, err);
  }
  tm_buffer_free(&sql);
  bool ok = res != NULL && PQntuples(res) == 1 && PQnfields(res) == 4;
  if (ok)
    keep_facts(pg, res);
  else if (res != NULL)
    tm_error_set(err, TM_EPROTOCOL, "the server does not say who it is: not PostgreSQL?");
  PQclear(res);
  atomic_store(&pg->timeout_ms, opts->timeout_ms);
  return ok;
}

static void on_notice(void *arg, const PGresult *res)
{
  static const int codes[] = {PG_DIAG_SEVERITY_NONLOCALIZED, PG_DIAG_SQLSTATE,
                              PG_DIAG_MESSAGE_PRIMARY,       PG_DIAG_MESSAGE_DETAIL,
                              PG_DIAG_MESSAGE_HINT,          PG_DIAG_CONTEXT};
  struct tm_pg *pg = arg;
  const char *text[6];
  if (pg->notice == NULL)
    return;
  for (int i = 0; i < 6; i++)
    text[i] = PQresultErrorField(res, codes[i]);
  if (text[0] == NULL) /* before 9.6 */
    text[0] = PQresultErrorField(res, PG_DIAG_SEVERITY);
  if (text[2] == NULL) /* libpq's own */
    text[2] = PQresultErrorMessage(res);
  for (int i = 0; i < 6; i++)
    text[i] = text[i] == NULL ? "" : text[i];
  struct tm_pg_notice notice = {text[0], text[1], text[2], text[3], text[4], text[5]};
  pg->notice(pg->notice_data, &notice);
}

static bool open_into(struct tm_pg *pg, const struct tm_pg_opts *opts,
                      struct tm_error *err)
{
  if (!tm_cancel_open(&pg->cancel, err))
    return false;
  pg->conn = start(opts, err);
  if (pg->conn == NULL || !check_start(pg->conn, err))
    return false;
  PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE); /* see pg_error.c */
  PQsetNoticeReceiver(pg->conn, on_notice, pg);
  int64_t timeout_ms = connect_timeout(pg->conn, opts);
  if (!finish(pg->conn, timeout_ms, pg->background, err))
    return false;
  PQsetErrorVerbosity(pg->conn, PQERRORS_DEFAULT);
  set_keepalives(pg->conn);
  if (PQsetnonblocking(pg->conn, 1) != 0) {
    pg_error_conn(pg, err);
    return false;
  }
  return prepare_session(pg, opts, timeout_ms, err);
}

struct tm_pg *tm_pg_open(const struct tm_pg_opts *opts, struct tm_error *err)
{
  struct tm_pg *pg = calloc(1, sizeof *pg);
  if (pg == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  pthread_mutex_init(&pg->lock, NULL);
  atomic_init(&pg->refs, 1);
  pg->cancel.fd = -1;
  pg->notice = opts->notice;
  pg->notice_data = opts->notice_data;
  pg->background = opts->background;
  if (open_into(pg, opts, err))
    return pg;
  tm_pg_close(pg);
  return NULL;
}

void pg_unref(struct tm_pg *pg)
{
  if (atomic_fetch_sub(&pg->refs, 1) > 1)
    return;
  tm_cancel_close(&pg->cancel);
  pthread_mutex_destroy(&pg->lock);
  free(pg->rows_sql);
  free(pg);
}

void tm_pg_close(struct tm_pg *pg)
{
  if (pg == NULL)
    return;
  if (atomic_load(&pg->use) == PG_COPY)
    tm_cancel_fire(&pg->cancel); /* the stream's call under way returns soon */
  pthread_mutex_lock(&pg->lock);
  if (pg->conn != NULL && atomic_load(&pg->use) != PG_FREE)
    (void)pg_stop(pg, true);
  PQfinish(pg->conn);
  pg->conn = NULL;
  pg->notice = NULL;
  pthread_mutex_unlock(&pg->lock);
  pg_unref(pg);
}

void tm_pg_cancel(struct tm_pg *pg)
{
  tm_cancel_fire(&pg->cancel);
}

void tm_pg_set_timeout(struct tm_pg *pg, int64_t timeout_ms)
{
  atomic_store(&pg->timeout_ms, timeout_ms);
}

/* ---- facts ---- */

enum tm_pg_state tm_pg_state(const struct tm_pg *pg)
{
  if (atomic_load(&pg->use) != PG_FREE)
    return TM_PG_BUSY;
  if (pg->conn == NULL || atomic_load(&pg->broken))
    return TM_PG_BROKEN;
  switch (PQtransactionStatus(pg->conn)) {
  case PQTRANS_IDLE:
    return TM_PG_IDLE;
  case PQTRANS_INTRANS:
    return TM_PG_IN_TX;
  case PQTRANS_INERROR:
    return TM_PG_FAILED;
  case PQTRANS_ACTIVE:
    return TM_PG_BUSY;
  default:
    return TM_PG_BROKEN;
  }
}

int tm_pg_pid(const struct tm_pg *pg)
{
  return pg->pid;
}

const char *tm_pg_backend_start(const struct tm_pg *pg)
{
  return pg->backend_start;
}

int tm_pg_server_version(const struct tm_pg *pg)
{
  return pg->conn == NULL ? 0 : PQserverVersion(pg->conn);
}

const char *tm_pg_version_text(const struct tm_pg *pg)
{
  return pg->version_text;
}

const char *tm_pg_flavor(const struct tm_pg *pg)
{
  return pg->greenplum ? "greenplum" : "postgresql";
}

const char *tm_pg_parameter(const struct tm_pg *pg, const char *name)
{
  return pg->conn == NULL ? NULL : PQparameterStatus(pg->conn, name);
}

bool tm_pg_pooled(const struct tm_pg *pg)
{
  return pg->pooled;
}

bool tm_pg_encrypted(const struct tm_pg *pg)
{
  return pg->conn != NULL && PQsslInUse(pg->conn);
}
