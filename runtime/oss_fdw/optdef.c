/*
** optdef.c: the names of options, where each may stand, and what values it takes
*/
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "oss_fdw/optdef.h"

enum type {
  ANY,    /* any text, "" too */
  TEXT,   /* not empty */
  WORD,   /* not empty, no blank at either end */
  SECRET, /* the same, and shown to nobody */
  BOOL,
  INT,
  WORDS,  /* one of a list */
  COLUMNS /* a bool, or names of columns */
};

enum { ONE_DAY = 86400 };

static const struct optdef {
  const char *name;
  int places;
  enum type type;
  int min, max;
  const char *words; /* separated by blanks */
} defs[] = {
    {"host", FDW_ON_SERVER, WORD, 0, 0, NULL},
    {"endpoint", FDW_ON_SERVER, WORD, 0, 0, NULL},
    {"bucket", FDW_ON_SERVER | FDW_ON_TABLE, WORD, 0, 0, NULL},
    {"id", FDW_ON_SERVER | FDW_ON_MAPPING, SECRET, 0, 0, NULL},
    {"key", FDW_ON_SERVER | FDW_ON_MAPPING, SECRET, 0, 0, NULL},
    {"oss_connect_timeout", FDW_ON_SERVER, INT, 1, ONE_DAY, NULL},
    {"oss_dns_cache_timeout", FDW_ON_SERVER, INT, 1, INT_MAX, NULL},
    {"oss_speed_limit", FDW_ON_SERVER, INT, 1, INT_MAX, NULL},
    {"oss_speed_time", FDW_ON_SERVER, INT, 1, ONE_DAY, NULL},
    {"connect_timeout", FDW_ON_SERVER, INT, 1, ONE_DAY, NULL},
    {"dns_cache_timeout", FDW_ON_SERVER, INT, 1, INT_MAX, NULL},
    {"speed_limit", FDW_ON_SERVER, INT, 1, INT_MAX, NULL},
    {"speed_time", FDW_ON_SERVER, INT, 1, ONE_DAY, NULL},
    {"protocol", FDW_ON_SERVER, WORDS, 0, 0, "oss s3"},
    {"region", FDW_ON_SERVER, WORD, 0, 0, NULL},
    {"addressing", FDW_ON_SERVER, WORDS, 0, 0, "auto virtual path cname"},
    {"signature", FDW_ON_SERVER, WORDS, 0, 0, "v4 v1"},
    {"ca_file", FDW_ON_SERVER, WORD, 0, 0, NULL},
    {"proxy", FDW_ON_SERVER, WORD, 0, 0, NULL},
    {"profile", FDW_ON_SERVER, WORD, 0, 0, NULL},
    {"role_name", FDW_ON_SERVER, WORD, 0, 0, NULL},
    {"anonymous", FDW_ON_SERVER, BOOL, 0, 0, NULL},

    {"dir", FDW_ON_TABLE, TEXT, 0, 0, NULL},
    {"prefix", FDW_ON_TABLE, TEXT, 0, 0, NULL},
    {"filepath", FDW_ON_TABLE, TEXT, 0, 0, NULL},
    {"format", FDW_ON_TABLE, WORDS, 0, 0, "csv text json jsonline orc parquet avro"},
    {"encoding", FDW_ON_TABLE, WORD, 0, 0, NULL},
    {"delimiter", FDW_ON_TABLE, TEXT, 0, 0, NULL},
    {"quote", FDW_ON_TABLE, TEXT, 0, 0, NULL},
    {"escape", FDW_ON_TABLE, TEXT, 0, 0, NULL},
    {"null", FDW_ON_TABLE, ANY, 0, 0, NULL},
    {"header", FDW_ON_TABLE, BOOL, 0, 0, NULL},
    {"newline", FDW_ON_TABLE, WORDS, 0, 0, "lf cr crlf"},
    {"force_not_null", FDW_ON_TABLE, COLUMNS, 0, 0, NULL},
    {"force_null", FDW_ON_TABLE, COLUMNS, 0, 0, NULL},
    {"force_not_null", FDW_ON_COLUMN, BOOL, 0, 0, NULL},
    {"force_null", FDW_ON_COLUMN, BOOL, 0, 0, NULL},
    {"force_quote_all", FDW_ON_TABLE, BOOL, 0, 0, NULL},
    {"parse_errors", FDW_ON_TABLE, INT, 0, INT_MAX, NULL},
    {"log_errors", FDW_ON_TABLE, BOOL, 0, 0, NULL},
    {"segment_reject_limit", FDW_ON_TABLE, WORD, 0, 0, NULL},
    {"compressiontype", FDW_ON_TABLE, WORDS, 0, 0, "none gzip zstd"},
    {"compressionlevel", FDW_ON_TABLE, INT, 1, 9, NULL},
    {"filetype", FDW_ON_TABLE, WORDS, 0, 0, "plain gzip zstd snappy"},
    {"gzip_level", FDW_ON_TABLE, INT, 1, 9, NULL},
    {"num_parallel_worker", FDW_ON_TABLE, INT, 1, 8, NULL},
    {"oss_flush_block_size", FDW_ON_TABLE, INT, 1, 128, NULL},
    {"oss_file_max_size", FDW_ON_TABLE, INT, 8, 4000, NULL},
    {"fragment_size", FDW_ON_TABLE, INT, 1, 5 * 1024 * 1024, NULL}, /* 5 TB: S3's limit */
    {"orc_stripe_size", FDW_ON_TABLE, INT, 1, INT_MAX, NULL},
};

enum fdw_place fdw_place_of(Oid catalog)
{
  switch (catalog) {
  case ForeignServerRelationId:
    return FDW_ON_SERVER;
  case UserMappingRelationId:
    return FDW_ON_MAPPING;
  case ForeignTableRelationId:
    return FDW_ON_TABLE;
  case AttributeRelationId:
    return FDW_ON_COLUMN;
  default:
    return FDW_ON_WRAPPER;
  }
}

/* ---- names ---- */

static const struct optdef *find(const char *name, int places)
{
  for (size_t i = 0; i < lengthof(defs); i++)
    if ((defs[i].places & places) != 0 && pg_strcasecmp(defs[i].name, name) == 0)
      return &defs[i];
  return NULL;
}

/* What has the least edits, if that is few for a name of this length: much as PostgreSQL 16 does. */
static const char *closest(const char *name, int places)
{
  const char *best = NULL;
  int len = (int)Min(strlen(name), NAMEDATALEN);
  int least = Min(4, (len + 1) / 2) + 1;
  for (size_t i = 0; i < lengthof(defs); i++) {
    if ((defs[i].places & places) == 0)
      continue;
    int n = varstr_levenshtein_less_equal(
        name, len, defs[i].name, (int)strlen(defs[i].name), 1, 1, 1, least, true);
    if (n < least) {
      least = n;
      best = defs[i].name;
    }
  }
  return best;
}

static const char *owner_of(int places)
{
  return (places & FDW_ON_TABLE) != 0     ? "a foreign table"
         : (places & FDW_ON_MAPPING) != 0 ? "a user mapping"
         : (places & FDW_ON_COLUMN) != 0  ? "a column"
                                          : "a server";
}

static void unknown(const char *name, enum fdw_place place)
{
  StringInfoData hint;
  const struct optdef *elsewhere = find(name, ~0);
  const char *near = closest(name, (int)place), *sep = "";
  initStringInfo(&hint);
  if (elsewhere != NULL)
    appendStringInfo(&hint, "It is an option of %s. ", owner_of(elsewhere->places));
  else if (near != NULL)
    appendStringInfo(&hint, "Perhaps you meant the option \"%s\". ", near);
  appendStringInfoString(&hint, place == FDW_ON_WRAPPER
                                    ? "There are no valid options in this context."
                                    : "Valid options in this context are: ");
  for (size_t i = 0; i < lengthof(defs); i++)
    if ((defs[i].places & (int)place) != 0) {
      appendStringInfo(&hint, "%s%s", sep, defs[i].name);
      sep = ", ";
    }
  ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                  errmsg("invalid option \"%s\"", name), errhint("%s", hint.data)));
}

/* ---- values ---- */

static bool int_of(const char *value, int *out)
{
  char *end;
  errno = 0;
  long n = strtol(value, &end, 10);
  if (end == value || *end != '\0' || errno != 0 || n < INT_MIN || n > INT_MAX ||
      isspace((unsigned char)value[0]))
    return false;
  *out = (int)n;
  return true;
}

static bool is_word_of(const char *words, const char *value)
{
  size_t len = strlen(value);
  for (const char *p = words; *p != '\0';) {
    size_t n = strcspn(p, " ");
    if (n == len && pg_strncasecmp(p, value, n) == 0)
      return true;
    p += n + strspn(p + n, " ");
  }
  return false;
}

static void bad(const struct optdef *d, const char *value, const char *wanted)
{
  ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                  d->type == SECRET
                      ? errmsg("invalid value for option \"%s\"", d->name)
                      : errmsg("invalid value for option \"%s\": \"%s\"", d->name, value),
                  errdetail("%s", wanted)));
}

static void check_columns(const struct optdef *d, const char *value)
{
  List *names;
  if (!SplitIdentifierString(pstrdup(value), ',', &names))
    bad(d, value, "It takes a boolean, or names of columns separated by commas.");
}

static void check_value(const struct optdef *d, const char *value)
{
  size_t n = strlen(value);
  int number;
  bool truth;
  if (n == 0 && d->type != ANY)
    bad(d, value, "It must not be empty.");
  switch (d->type) {
  case ANY:
  case TEXT:
    break;
  case WORD:
  case SECRET:
    if (isspace((unsigned char)value[0]) || isspace((unsigned char)value[n - 1]))
      bad(d, value, "It must not begin or end with a blank.");
    break;
  case BOOL:
    if (!parse_bool(value, &truth))
      bad(d, value, "It takes a boolean.");
    break;
  case INT:
    if (!int_of(value, &number) || number < d->min || number > d->max)
      bad(d, value, psprintf("It takes an integer from %d to %d.", d->min, d->max));
    break;
  case WORDS:
    if (!is_word_of(d->words, value))
      bad(d, value, psprintf("It takes one of: %s.", d->words));
    break;
  case COLUMNS:
    check_columns(d, value);
    break;
  }
}

void fdw_options_check(List *options, enum fdw_place place)
{
  const struct optdef *seen[lengthof(defs)];
  size_t count = 0;
  ListCell *cell;
  foreach (cell, options) {
    DefElem *e = lfirst(cell);
    const struct optdef *d = find(e->defname, (int)place);
    if (d == NULL)
      unknown(e->defname, place);
    for (size_t i = 0; i < count; i++)
      if (seen[i] == d)
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                        errmsg("option \"%s\" provided more than once", d->name)));
    seen[count++] = d;
    check_value(d, defGetString(e));
  }
}

bool fdw_option_is_secret(const char *name)
{
  const struct optdef *d = find(name, ~0);
  return d != NULL && d->type == SECRET;
}

/* ---- reading ---- */

const char *fdw_option(List *options, const char *name)
{
  ListCell *cell;
  foreach (cell, options) {
    DefElem *e = lfirst(cell);
    if (pg_strcasecmp(e->defname, name) == 0)
      return defGetString(e);
  }
  return NULL;
}

char *fdw_option_lower(List *options, const char *name)
{
  const char *value = fdw_option(options, name);
  char *out = value != NULL ? pstrdup(value) : NULL;
  for (char *p = out; p != NULL && *p != '\0'; p++)
    *p = (char)pg_tolower((unsigned char)*p);
  return out;
}

const char *fdw_option_of_host(List *options)
{
  static const char *const names[] = {"ca_file", "proxy", "profile", "role_name"};
  for (size_t i = 0; i < lengthof(names); i++)
    if (fdw_option(options, names[i]) != NULL)
      return names[i];
  return NULL;
}

const char *fdw_server_endpoint(List *options)
{
  const char *host = fdw_option(options, "host");
  return host != NULL ? host : fdw_option(options, "endpoint");
}

bool fdw_server_is_s3(List *options, const char *endpoint)
{
  const char *protocol = fdw_option_lower(options, "protocol");
  if (protocol != NULL)
    return strcmp(protocol, "s3") == 0;
  return strstr(endpoint, "amazonaws.com") != NULL;
}

int fdw_option_int(List *options, const char *name, int otherwise)
{
  const char *value = fdw_option(options, name);
  int n;
  return value != NULL && int_of(value, &n) ? n : otherwise;
}

bool fdw_option_bool(List *options, const char *name, bool otherwise)
{
  const char *value = fdw_option(options, name);
  bool truth;
  return value != NULL && parse_bool(value, &truth) ? truth : otherwise;
}

const char *fdw_option_either(List *options, const char *a, const char *b)
{
  bool has_a = fdw_option(options, a) != NULL, has_b = fdw_option(options, b) != NULL;
  if (has_a && has_b)
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                    errmsg("options \"%s\" and \"%s\" exclude each other", a, b)));
  return has_a ? a : has_b ? b : NULL;
}

enum fdw_force fdw_option_force(List *options, const char *name, List **columns)
{
  const char *value = fdw_option(options, name);
  bool truth;
  List *names;
  ListCell *cell;
  *columns = NIL;
  if (value == NULL)
    return FDW_FORCE_NONE;
  if (is_word_of("true false on off yes no 1 0", value) && parse_bool(value, &truth))
    return truth ? FDW_FORCE_ALL : FDW_FORCE_NONE;
  if (!SplitIdentifierString(pstrdup(value), ',', &names))
    return FDW_FORCE_NONE;
  foreach (cell, names)
    *columns = lappend(*columns, makeString(lfirst(cell)));
  return FDW_FORCE_COLUMNS;
}

bool fdw_option_reject(const char *value, int64 *limit, bool *percent)
{
  char digits[16];
  size_t n = strlen(value);
  int number;
  *percent = n > 0 && value[n - 1] == '%';
  n -= *percent;
  if (n == 0 || n >= sizeof digits)
    return false;
  memcpy(digits, value, n);
  digits[n] = '\0';
  if (!int_of(digits, &number) || number < 1 || (*percent && number > 100))
    return false;
  *limit = number;
  return true;
}

/* A plain option of COPY, when it is given. */
static List *pass(List *copy, List *options, const char *name)
{
  const char *value = fdw_option(options, name);
  if (value == NULL)
    return copy;
  return lappend(copy,
                 makeDefElem(pstrdup(name), (Node *)makeString(pstrdup(value)), -1));
}

static List *pass_force(List *copy, List *options, const char *name)
{
  List *columns;
  enum fdw_force force = fdw_option_force(options, name, &columns);
  if (force == FDW_FORCE_ALL)
    columns = list_make1(makeString(pstrdup("all")));
  if (columns == NIL)
    return copy;
  return lappend(copy, makeDefElem(pstrdup(name), (Node *)columns, -1));
}

List *fdw_copy_options(List *options)
{
  static const char *const names[] = {"delimiter", "quote", "escape", "null", "encoding"};
  const char *format = fdw_option_lower(options, "format");
  List *copy = list_make1(
      makeDefElem(pstrdup("format"),
                  (Node *)makeString(pstrdup(format != NULL ? format : "csv")), -1));
  for (size_t i = 0; i < lengthof(names); i++)
    copy = pass(copy, options, names[i]);
  if (fdw_option_bool(options, "header", false)) /* COPY knows fewer words for it */
    copy = lappend(
        copy, makeDefElem(pstrdup("header"), (Node *)makeString(pstrdup("true")), -1));
  copy = pass_force(copy, options, "force_not_null");
  return pass_force(copy, options, "force_null");
}
