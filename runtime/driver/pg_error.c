/*
** pg_error.c: what PostgreSQL says went wrong, as struct tm_error
**
** A statement's error keeps SQLSTATE, message, detail, hint, context and the place in the
** SQL. Any of them may be missing: poolers and old servers send errors without SQLSTATE, and
** a lost connection gives a result without any field. A connect error has only text; libpq is
** asked for verbose text while it connects (pg_connect.c) and the SQLSTATE is taken from there,
** so that the kind does not hang on the server's language.
*/
#include "driver/pg_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- kinds ---- */

struct rule {
  const char *prefix; /* of the SQLSTATE; the first that fits wins */
  enum tm_kind kind;
};

/* PostgreSQL's errcodes appendix. Class 53 (resources) and 57P0x (shutdown, starting up)
** pass by themselves; so do lost races (40001, 40P01) and locks (55P03). */
static const struct rule rules[] = {
    {"08P01", TM_EPROTOCOL}, {"08", TM_EIO},          {"22", TM_EDATA},
    {"23", TM_EDATA},        {"25P03", TM_ESERVER},   {"25P04", TM_ESERVER},
    {"28", TM_EAUTH},        {"3D000", TM_ENOTFOUND}, {"3F000", TM_ENOTFOUND},
    {"40003", TM_EINDOUBT},  {"40", TM_ESERVER},      {"42P01", TM_ENOTFOUND},
    {"42P04", TM_EEXISTS},   {"42P06", TM_EEXISTS},   {"42P07", TM_EEXISTS},
    {"42710", TM_EEXISTS},   {"44", TM_EDATA},        {"53", TM_ESERVER},
    {"55P03", TM_ESERVER},   {"57014", TM_ECANCELED}, {"57P04", TM_ENOTFOUND},
    {"57P", TM_ESERVER},     {"58", TM_ESERVER},
};

/* 57014 is one code for three things; only the words tell them apart. */
static enum tm_kind kind_of_cancel(const char *message)
{
  if (strstr(message, "timeout") != NULL)
    return TM_ETIMEOUT;
  if (strstr(message, "recovery") != NULL)
    return TM_ESERVER; /* a standby's conflict: the same may succeed later */
  return TM_ECANCELED;
}

static enum tm_kind kind_of(const char *code, const char *message)
{
  for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
    if (strncmp(code, rules[i].prefix, strlen(rules[i].prefix)) == 0)
      return rules[i].kind == TM_ECANCELED ? kind_of_cancel(message) : rules[i].kind;
  return TM_ESQL;
}

/* ---- SQL in errors, without its secrets ---- */

static bool is_secret_word(const char *word, size_t len)
{
  static const char *const words[] = {"password", "passwd", "pwd",       "secret",
                                      "token",    "key",    "credential"};
  for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
    size_t n = strlen(words[w]);
    for (size_t i = 0; i + n <= len; i++)
      if (strncasecmp(word + i, words[w], n) == 0)
        return true;
  }
  return false;
}

static bool is_word(char c)
{
  return isalnum((unsigned char)c) || c == '_' || (c & 0x80) != 0;
}

/* The end of the quoted text that starts at `p` ('...' or "..."), past its closing quote. */
static const char *skip_quoted(const char *p)
{
  char quote = *p++;
  for (; *p != '\0'; p++)
    if (*p == quote && *++p != quote)
      return p;
  return p;
}

/* The end of $tag$...$tag$ at `p`, or NULL when it is no such thing. */
static const char *skip_dollar(const char *p)
{
  const char *q = p + 1;
  while (is_word(*q))
    q++;
  if (*q != '$')
    return NULL;
  size_t tag = (size_t)(q + 1 - p);
  for (q++; *q != '\0'; q++)
    if (strncmp(q, p, tag) == 0)
      return q + tag;
  return q;
}

struct shown {
  char text[400];
  size_t len;
  const char *from, *to; /* the part of the SQL that is shown */
  const char *mark;      /* the place of the error, or NULL */
  size_t column;         /* of the mark in text, in characters */
};

static void show(struct shown *s, const char *at, const char *bytes, size_t n)
{
  if (s->mark != NULL && at <= s->mark) {
    s->column = 0;
    for (size_t i = 0; i < s->len; i++)
      s->column += (s->text[i] & 0xC0) != 0x80;
  }
  if (at < s->from || at >= s->to)
    return;
  if (n > sizeof s->text - 1 - s->len)
    n = sizeof s->text - 1 - s->len;
  for (size_t i = 0; i < n; i++)
    s->text[s->len + i] = (unsigned char)bytes[i] < ' ' ? ' ' : bytes[i];
  s->len += n;
}

/* A literal that is not itself a secret may hold one: a URI, a conninfo for dblink, or SQL
** for EXECUTE. */
static bool holds_secret(const char *p, const char *end)
{
  for (const char *q = p + 1; q + 1 < end; q++) {
    if (strncmp(q, "://", 3) == 0 && memchr(q, '@', (size_t)(end - q)) != NULL)
      return true;
    const char *word = q;
    while ((*q == '=' || *q == '\'') && word > p &&
           (is_word(word[-1]) || word[-1] == ' '))
      word--;
    if (is_secret_word(word, (size_t)(q - word)))
      return true;
  }
  return false;
}

/* Copies the part of `sql` that is to be shown, masking literals that are secrets. */
static void redact(struct shown *s, const char *sql)
{
  bool secret = false; /* the last word asks for a mask on the next literal */
  const char *p = sql;
  while (*p != '\0' && p < s->to) {
    const char *end = NULL;
    if (*p == '\'' || *p == '"')
      end = skip_quoted(p);
    else if (*p == '$' && secret) /* else it is code, to be read like the rest */
      end = skip_dollar(p);
    if (end != NULL && *p != '"' && (secret || holds_secret(p, end))) {
      show(s, p > s->from ? p : s->from < end ? s->from : p, "'***'", 5);
      p = end;
      secret = false;
      continue;
    }
    if (end == NULL && is_word(*p)) {
      for (end = p; is_word(*end);)
        end++;
      /* E'...' and U&'...': the letter belongs to the literal */
      if (!(end == p + 1 && (*end == '\'' || *end == '&')))
        secret = is_secret_word(p, (size_t)(end - p));
    } else if (end != NULL && *p == '"') {
      secret = is_secret_word(p, (size_t)(end - p));
    } else if (end == NULL) {
      end = p + 1;
      if (strchr(" \t\r\n=,:>(&", *p) == NULL)
        secret = false;
    }
    for (; p < end; p++)
      show(s, p, p, 1);
  }
}

void pg_error_sql(struct tm_error *err, const char *sql, size_t position)
{
  enum { BEFORE = 120, AROUND = 200 };
  if (sql == NULL || *sql == '\0')
    return;
  struct shown s = {.from = sql, .to = sql + strnlen(sql, 300)};
  if (position == 0) {
    redact(&s, sql);
    tm_error_detail(err, "SQL: %s%s", s.text, *s.to != '\0' ? " ..." : "");
    return;
  }
  const char *mark = sql;
  int line = 1;
  for (size_t n = 1; *mark != '\0' && n < position; n++) {
    line += *mark == '\n';
    for (mark++; (*mark & 0xC0) == 0x80;)
      mark++;
  }
  s.from = s.to = s.mark = mark;
  while (s.from > sql && s.from[-1] != '\n' && mark - s.from < BEFORE)
    s.from--;
  while ((*s.from & 0xC0) == 0x80 && s.from < mark)
    s.from++;
  while (*s.to != '\0' && *s.to != '\n' && s.to - s.from < AROUND)
    s.to++;
  s.to += s.to == mark && *mark == '\0'; /* an error at the end still moves the mark */
  redact(&s, sql);
  if (*mark == '\0')
    show(&s, mark, "", 0);
  char head[32];
  int width = snprintf(head, sizeof head, "LINE %d: ", line);
  tm_error_detail(err, "%s%s", head, s.text);
  tm_error_detail(err, "%*s^", width + (int)s.column, "");
}

/* Masks in place what follows "password=" and the like, up to a blank or a quote. */
static void mask_words(char *text)
{
  for (char *p = text; *p != '\0'; p++) {
    const char *word = p;
    while (word > text && is_word(word[-1]))
      word--;
    if (*p != '=' || !is_secret_word(word, (size_t)(p - word)))
      continue;
    for (char *q = p + 1; *q != '\0' && !isspace((unsigned char)*q) && *q != '"'; q++)
      *q = '*';
  }
}

/* ---- errors of statements ---- */

static const char *field(const PGresult *res, int code)
{
  const char *text = res == NULL ? NULL : PQresultErrorField(res, code);
  return text == NULL ? "" : text;
}

static size_t number(const char *text)
{
  return (size_t)strtoul(text, NULL, 10);
}

static void add_sql(const PGresult *res, const char *sql, struct tm_error *err)
{
  const char *inner = field(res, PG_DIAG_INTERNAL_QUERY);
  if (*inner != '\0')
    pg_error_sql(err, inner, number(field(res, PG_DIAG_INTERNAL_POSITION)));
  pg_error_sql(err, sql, number(field(res, PG_DIAG_STATEMENT_POSITION)));
}

/* CONTEXT may quote a whole statement: it goes through the same mask as the SQL. */
static void add_context(const char *context, struct tm_error *err)
{
  if (*context == '\0')
    return;
  struct shown s = {.from = context, .to = context + strlen(context)};
  if (strncmp(context, "COPY ", 5) == 0) { /* names a line and column: no SQL in it */
    tm_error_detail(err, "CONTEXT: %.500s", context);
    return;
  }
  redact(&s, context);
  tm_error_detail(err, "CONTEXT: %s", s.text);
}

void pg_error_result(struct tm_pg *pg, const PGresult *res, const char *sql,
                     struct tm_error *err)
{
  const char *code = field(res, PG_DIAG_SQLSTATE);
  const char *message = field(res, PG_DIAG_MESSAGE_PRIMARY);
  if (*message == '\0' && *code == '\0') { /* libpq's own words: the connection is gone */
    pg_error_conn(pg, err);
    pg_error_sql(err, sql, 0);
    return;
  }
  if (*message == '\0')
    message = "the server gave an error without a message";
  tm_error_set(err, kind_of(code, message), "%s", message);
  snprintf(err->code, sizeof err->code, "%s", code);
  if (*field(res, PG_DIAG_MESSAGE_DETAIL) != '\0')
    tm_error_detail(err, "DETAIL: %.500s", field(res, PG_DIAG_MESSAGE_DETAIL));
  add_context(field(res, PG_DIAG_CONTEXT), err);
  add_sql(res, sql, err);
  tm_error_hint(err, "%s", field(res, PG_DIAG_MESSAGE_HINT));
}

void pg_error_conn(struct tm_pg *pg, struct tm_error *err)
{
  bool lost = pg->conn == NULL || PQstatus(pg->conn) == CONNECTION_BAD;
  const char *text = pg->conn == NULL ? "connection is closed" : PQerrorMessage(pg->conn);
  if (*text == '\0')
    text = lost ? "the connection to the server was lost" : "libpq gave no reason";
  char line[512];
  snprintf(line, sizeof line, "%.*s", (int)strcspn(text, "\n"), text);
  tm_error_set(err, lost ? TM_EIO : TM_EPROTOCOL, "%s", line);
  if (lost)
    tm_error_hint(err, "the server process ended or the network broke; "
                       "the server's log knows more");
}

/* ---- errors of connecting ---- */

/* Takes "08006: " out of "FATAL:  08006: text" in place; the first code goes to `code`. */
static void take_sqlstate(char *text, char code[6])
{
  for (char *p = text; (p = strstr(p, ":  ")) != NULL; p += 3) {
    char *q = p + 3;
    if (strspn(q, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 || q[5] != ':' ||
        q[6] != ' ')
      continue;
    if (code[0] == '\0')
      memcpy(code, q, 5);
    memmove(p + 2, q + 7, strlen(q + 7) + 1);
  }
}

/* Verbose text has lines we asked for only to get at the SQLSTATE. */
static void drop_location(char *text)
{
  char *p = strstr(text, "\nLOCATION:");
  while (p != NULL) {
    size_t n = strcspn(p + 1, "\n") + 1;
    memmove(p, p + n, strlen(p + n) + 1);
    p = strstr(text, "\nLOCATION:");
  }
}

/* Replaces each occurrence of `secret` in `text` by stars. */
static void scrub(char *text, const char *secret)
{
  size_t n = secret == NULL ? 0 : strlen(secret);
  if (n < 3) /* shorter ones would blank ordinary words and tell more than they hide */
    return;
  for (char *p = text; (p = strstr(p, secret)) != NULL; p += n)
    memset(p, '*', n);
}

static enum tm_kind kind_of_connect(const char *code)
{
  if (code[0] == '\0' || strncmp(code, "08", 2) == 0)
    return TM_ECONNECT;
  enum tm_kind kind = kind_of(code, "");
  return kind == TM_ESQL || kind == TM_EDATA ? TM_ECONNECT : kind;
}

static void hint_connect(const char *text, struct tm_error *err)
{
  if (strstr(text, "unsupported startup parameter") != NULL)
    tm_error_hint(err,
                  "this is PgBouncer: take `options` (PGOPTIONS) out of the "
                  "connection, or name the parameter in its ignore_startup_parameters");
  else if (strstr(text, "no password supplied") != NULL)
    tm_error_hint(err,
                  "give a password in ~/.pgpass, PGPASSWORD or the connection string");
  else if (strcmp(err->code, "28P01") == 0)
    tm_error_hint(err, "check the user and the password (~/.pgpass, PGPASSWORD or the "
                       "connection string)");
  else if (strcmp(err->code, "53300") == 0)
    tm_error_hint(err, "the server has no connection slot left for this role");
  else if (strstr(text, "certificate") != NULL)
    tm_error_hint(err, "sslrootcert names the file of the CA that signed the server's "
                       "certificate; see sslmode in the manual of libpq");
  else if (strstr(text, "Connection refused") != NULL)
    tm_error_hint(err, "is the server running there and listening on TCP/IP?");
}

void pg_error_connect(PGconn *conn, struct tm_error *err)
{
  char text[2048], code[6] = "";
  const char *said = conn == NULL ? "out of memory" : PQerrorMessage(conn);
  snprintf(text, sizeof text, "%s", *said == '\0' ? "cannot connect" : said);
  take_sqlstate(text, code);
  drop_location(text);
  if (conn != NULL)
    scrub(text, PQpass(conn));
  if (strstr(text, "no password supplied") != NULL && code[0] == '\0')
    memcpy(code, "28P01", 6); /* libpq's own words for what the server would say */
  char *question = strstr(text, "\n\t"); /* libpq's "Is the server running ...?" */
  if (question != NULL)
    *question = '\0';
  tm_error_set(err, conn == NULL ? TM_EMEMORY : kind_of_connect(code), "%s", text);
  snprintf(err->code, sizeof err->code, "%s", code);
  hint_connect(text, err);
}

/* A name that may be shown: one of libpq's options, or what stands before an equals sign. */
static bool is_harmless(const char *message, const char *word, size_t len)
{
  static const char *const keys[] = {"invalid connection option",
                                     "invalid URI query parameter"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    if (strncmp(message, keys[i], strlen(keys[i])) == 0)
      return true;
  bool known = len == 1 && *word == '=';
  PQconninfoOption *options = PQconndefaults();
  for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
    known = known || (strlen(o->keyword) == len && strncmp(o->keyword, word, len) == 0);
  if (options != NULL)
    PQconninfoFree(options);
  return known;
}

void pg_error_conninfo(const char *message, struct tm_error *err)
{
  static const char service[] = "definition of service";
  char text[512];
  size_t n = 0;
  if (message != NULL && strncmp(message, service, sizeof service - 1) == 0) {
    tm_error_set(err, TM_EUSAGE, "%s", message); /* quotes the service's name, no more */
    return;
  }
  const char *p = message == NULL ? "out of memory" : message;
  while (*p != '\0' && n + 8 < sizeof text) {
    const char *close = *p == '"' ? strchr(p + 1, '"') : NULL;
    if (close == NULL) {
      text[n++] = *p++;
      continue;
    }
    size_t len = (size_t)(close - p - 1);
    if (!is_harmless(message, p + 1, len) || len + 8 > sizeof text - n) {
      memcpy(text + n, "\"***\"", 5);
      n += 5;
    } else {
      memcpy(text + n, p, len + 2);
      n += len + 2;
    }
    p = close + 1;
  }
  text[n] = '\0';
  mask_words(text);
  tm_error_set(err, TM_EUSAGE, "bad connection string: %s", text);
  tm_error_hint(err, "quote values that hold blanks ('...'), and percent-encode special "
                     "characters of a URI");
}
