/*
** mask.c: access keys struck out of the text of a statement
**
** The server's own scanner finds the literal after the option's name, so every way to write
** one ('', E'', U&'', $$) is covered.
*/
#include "postgres.h"

#include "common/keywords.h"
#include "nodes/parsenodes.h"
#include "parser/scanner.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 140000
#include "utils/backend_status.h"
#endif

#include "oss_fdw/mask.h"
#include "oss_fdw/optdef.h"

/* Whether the token at `location` is the name of a secret option. */
static bool is_secret(List *options, int location)
{
  ListCell *cell;
  foreach (cell, options) {
    DefElem *e = lfirst(cell);
    if (e->location == location && location >= 0 && fdw_option_is_secret(e->defname))
      return e->arg != NULL;
  }
  return false;
}

static bool has_secret(List *options)
{
  ListCell *cell;
  foreach (cell, options)
    if (is_secret(options, ((DefElem *)lfirst(cell))->location))
      return true;
  return false;
}

const char *fdw_mask(const char *query, List *options)
{
  core_yyscan_t scanner;
  core_yy_extra_type extra;
  core_YYSTYPE value;
  YYLTYPE location;
  if (query == NULL || !has_secret(options))
    return query;
  char *out = pstrdup(query);
  bool secret = false;
  scanner = scanner_init(query, &extra, &ScanKeywords, ScanKeywordTokens);
  extra.escape_string_warning = false;
  while (core_yylex(&value, &location, scanner) != 0) {
    /* The scanner ends the token it has just read with a NUL in its own copy. */
    if (secret)
      memset(out + location, '*', strlen(extra.scanbuf + location));
    secret = is_secret(options, location);
  }
  scanner_finish(scanner);
  return out;
}

void fdw_mask_show(const char *query, const char *masked)
{
  if (masked == query || debug_query_string == NULL || MessageContext == NULL ||
      strcmp(debug_query_string, query) != 0)
    return;
  /* Whoever set the pointer takes it back before this context is reset. */
  debug_query_string = MemoryContextStrdup(MessageContext, masked);
  pgstat_report_activity(STATE_RUNNING, masked);
}
