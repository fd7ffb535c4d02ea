/*
** guc.c: the settings oss_fdw.*
*/
#include "postgres.h"

#include <ctype.h>

#include "utils/guc.h"
#include "utils/varlena.h"

#include "oss_fdw/guc.h"

char *fdw_read_one_file;
char *fdw_allowed_endpoints;
int fdw_sweep = FDW_SWEEP_ALL;
int fdw_prefetch_mb = 24;
int fdw_write_buffer_mb = 24;
int fdw_analyze_size_mb = 256;
int fdw_error_log_size_mb = 16;

static const struct config_enum_entry sweeps[] = {{"all", FDW_SWEEP_ALL, false},
                                                  {"uploads", FDW_SWEEP_UPLOADS, false},
                                                  {"off", FDW_SWEEP_OFF, false},
                                                  {NULL, 0, false}};

/* ---- allowed_endpoints ---- */

static bool check_endpoints(char **value, void **extra, GucSource source)
{
  List *entries;
  (void)extra;
  (void)source;
  char *copy = pstrdup(*value);
  bool ok = SplitGUCList(copy, ',', &entries);
  ListCell *cell;
  if (!ok)
    GUC_check_errdetail("List syntax is invalid.");
  foreach (cell, entries) {
    const char *entry = lfirst(cell);
    if (strstr(entry, "://") == NULL && strchr(entry, '/') == NULL)
      continue;
    GUC_check_errdetail("\"%s\" is not of the form host[:port] or *.domain[:port].",
                        entry);
    ok = false;
    break;
  }
  list_free(entries);
  pfree(copy);
  return ok;
}

/* Cuts ":port" off; 0: there is none. Brackets of IPv6 stay. */
static int split_port(char *host)
{
  char *colon = strrchr(host, ':');
  if (colon == NULL || strchr(colon, ']') != NULL)
    return 0;
  *colon = '\0';
  return atoi(colon + 1);
}

static bool matches(const char *pattern, const char *host, int port, int usual)
{
  char *p = pstrdup(pattern);
  int wanted = split_port(p);
  size_t n = strlen(host), m = strlen(p);
  if ((wanted != 0 ? wanted : usual) != port)
    return false;
  if (p[0] != '*')
    return pg_strcasecmp(p, host) == 0;
  return n >= m && pg_strcasecmp(p + 1, host + n - (m - 1)) == 0;
}

bool fdw_endpoint_allowed(const char *endpoint)
{
  List *entries;
  ListCell *cell;
  int usual = 443;
  if (fdw_allowed_endpoints == NULL || fdw_allowed_endpoints[0] == '\0')
    return true;
  if (pg_strncasecmp(endpoint, "http://", 7) == 0) {
    endpoint += 7;
    usual = 80;
  } else if (pg_strncasecmp(endpoint, "https://", 8) == 0) {
    endpoint += 8;
  }
  char *host = pnstrdup(endpoint, strcspn(endpoint, "/"));
  for (const char *p = host; *p != '\0';
       p++) /* what a URL's parser might read otherwise */
    if (!isalnum((unsigned char)*p) && strchr(".-_:[]", *p) == NULL)
      return false;
  int port = split_port(host);
  if (!SplitGUCList(pstrdup(fdw_allowed_endpoints), ',', &entries))
    return false;
  foreach (cell, entries)
    if (matches(lfirst(cell), host, port != 0 ? port : usual, usual))
      return true;
  return false;
}

/* ---- */

static void define_size(const char *name, const char *what, int *variable, int otherwise,
                        int most, GucContext context)
{
  DefineCustomIntVariable(name, what, NULL, variable, otherwise, 1, most, context,
                          GUC_UNIT_MB, NULL, NULL, NULL);
}

void fdw_guc_init(void)
{
  DefineCustomStringVariable("oss_fdw.rds_read_one_file",
                             "The one object that foreign tables match while it is set.",
                             NULL, &fdw_read_one_file, "", PGC_USERSET, 0, NULL, NULL,
                             NULL);
  DefineCustomStringVariable(
      "oss_fdw.allowed_endpoints", "Endpoints that servers may name; empty: any.",
      "Entries are host[:port] or *.domain[:port].", &fdw_allowed_endpoints, "",
      PGC_SUSET, GUC_LIST_INPUT, check_endpoints, NULL, NULL);
  DefineCustomEnumVariable(
      "oss_fdw.sweep", "What an INSERT removes of transactions that did not commit.",
      NULL, &fdw_sweep, FDW_SWEEP_ALL, sweeps, PGC_USERSET, 0, NULL, NULL, NULL);
  define_size("oss_fdw.prefetch", "What one scan reads ahead.", &fdw_prefetch_mb, 24,
              1024, PGC_USERSET);
  define_size("oss_fdw.write_buffer", "Parts in flight of one statement that writes.",
              &fdw_write_buffer_mb, 24, 1024, PGC_USERSET);
  define_size("oss_fdw.analyze_size", "What ANALYZE reads of one table at most.",
              &fdw_analyze_size_mb, 256, 1024 * 1024, PGC_USERSET);
  /* Of others' rows too, and of the data directory: whoever may read must not decide it. */
  define_size("oss_fdw.error_log_size", "Rejected rows that are kept of one table.",
              &fdw_error_log_size_mb, 16, 1024, PGC_SUSET);
#if PG_VERSION_NUM >= 150000
  MarkGUCPrefixReserved("oss_fdw");
#else
  EmitWarningsOnPlaceholders("oss_fdw");
#endif
}
