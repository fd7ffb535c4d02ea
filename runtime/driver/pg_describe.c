/*
** pg_describe.c: the result columns of a statement, without running it
**
** The statement is prepared without a name and described; a second query turns type numbers
** into names and looks at the table columns behind the result. Whether a column may be NULL
** is told only when it is certain: "no" needs a NOT NULL column of a table and a statement
** without any word that can add NULLs to it (outer joins, grouping sets).
*/
#include "driver/pg_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void tm_pg_columns_free(struct tm_pg_column *columns, size_t count)
{
  for (size_t i = 0; columns != NULL && i < count; i++) {
    free(columns[i].name);
    free(columns[i].type);
  }
  free(columns);
}

static bool has_word(const char *sql, const char *word)
{
  size_t n = strlen(word);
  for (const char *p = sql; *p != '\0'; p++)
    if ((p == sql || !isalnum((unsigned char)p[-1])) && strncasecmp(p, word, n) == 0 &&
        !isalnum((unsigned char)p[n]))
      return true;
  return false;
}

/* Mistaking a name or a literal for the word only turns "no" into "not known". */
static bool may_add_nulls(const char *sql)
{
  static const char *const words[] = {"left", "right",  "full", "outer",
                                      "cube", "rollup", "sets", NULL};
  for (const char *const *w = words; *w != NULL; w++)
    if (has_word(sql, *w))
      return true;
  return false;
}

/* Prepares and describes; the description, or NULL with *err set. */
static PGresult *describe(struct tm_pg *pg, const char *sql, struct tm_error *err)
{
  if (PQsendPrepare(pg->conn, "", sql, 0, NULL) == 0) {
    pg_error_conn(pg, err);
    return NULL;
  }
  PGresult *res = pg_collect(pg, sql, err);
  if (res == NULL)
    return NULL;
  PQclear(res);
  if (PQsendDescribePrepared(pg->conn, "") == 0) {
    pg_error_conn(pg, err);
    return NULL;
  }
  return pg_collect(pg, sql, err);
}

/* VALUES (0, oid, typmod, table, attnum), ... : one row a column, in order. */
static bool add_question(struct tm_buffer *q, const PGresult *d)
{
  bool ok = tm_buffer_adds(
      q,
      "SELECT pg_catalog.format_type(v.t, v.m), CASE WHEN a.attnotnull AND c.relkind IN "
      "('r', 'p', 'f') THEN 0 WHEN a.attnum IS NOT NULL AND c.relkind IN ('r', 'p', 'f') "
      "THEN 1 ELSE -1 END FROM (VALUES ");
  for (int i = 0; ok && i < PQnfields(d); i++)
    ok = tm_buffer_addf(q, "%s(%d, %u::pg_catalog.oid, %d, %u::pg_catalog.oid, %d)",
                        i > 0 ? ", " : "", i, PQftype(d, i), PQfmod(d, i), PQftable(d, i),
                        PQftablecol(d, i));
  return ok &&
         tm_buffer_adds(q, ") AS v(i, t, m, r, n) LEFT JOIN pg_catalog.pg_attribute a "
                           "ON a.attrelid = v.r AND a.attnum = v.n AND v.n > 0 "
                           "LEFT JOIN pg_catalog.pg_class c ON c.oid = v.r ORDER BY i");
}

static PGresult *ask(struct tm_pg *pg, const PGresult *described, struct tm_error *err)
{
  struct tm_buffer q = {0};
  PGresult *res = NULL;
  const char *text = add_question(&q, described) ? tm_buffer_cstr(&q) : NULL;
  if (text == NULL)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  else if (pg_send(pg, text, NULL, NULL, err))
    res = pg_collect(pg, text, err);
  tm_buffer_free(&q);
  if (res != NULL && PQntuples(res) != PQnfields(described)) {
    PQclear(res);
    tm_error_set(err, TM_EPROTOCOL, "the server did not name every column type");
    return NULL;
  }
  return res;
}

static bool fill(struct tm_pg_column *columns, const PGresult *d, const PGresult *types,
                 bool certain, struct tm_error *err)
{
  for (int i = 0; i < PQnfields(d); i++) {
    int nullable = atoi(PQgetvalue(types, i, 1));
    columns[i].name = strdup(PQfname(d, i));
    columns[i].type = strdup(PQgetvalue(types, i, 0));
    columns[i].oid = PQftype(d, i);
    columns[i].typmod = PQfmod(d, i);
    columns[i].nullable = nullable == 0 && !certain ? -1 : nullable;
    if (columns[i].name == NULL || columns[i].type == NULL) {
      tm_error_set(err, TM_EMEMORY, "out of memory");
      return false;
    }
  }
  return true;
}

bool tm_pg_describe(struct tm_pg *pg, const char *sql, struct tm_pg_column **out,
                    size_t *count, struct tm_error *err)
{
  *out = NULL;
  *count = 0;
  if (!pg_ready(pg, err))
    return false;
  PGresult *described = describe(pg, sql, err);
  if (described == NULL || PQnfields(described) == 0) {
    PQclear(described);
    return described != NULL;
  }
  size_t n = (size_t)PQnfields(described);
  struct tm_pg_column *columns = calloc(n, sizeof *columns);
  PGresult *types = columns == NULL ? NULL : ask(pg, described, err);
  if (columns == NULL)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  bool ok = types != NULL && fill(columns, described, types, !may_add_nulls(sql), err);
  PQclear(types);
  PQclear(described);
  if (!ok) {
    tm_pg_columns_free(columns, n);
    return false;
  }
  *out = columns;
  *count = n;
  return true;
}
