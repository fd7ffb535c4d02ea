/*
** mask.c: access keys struck out of the text of a statement
**
** The server's own parser finds the option's name and its scanner the literal after it, so every
** way to write one ('', E'', U&'', $$) is covered.
*/
#include "postgres.h"

#include "common/keywords.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "parser/scanner.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 140000
#include "utils/backend_status.h"
#endif

#include "oss_fdw/mask.h"
#include "oss_fdw/optdef.h"

static List *options_of(Node *node)
{
  if (IsA(node, CreateForeignServerStmt))
    return ((CreateForeignServerStmt *)node)->options;
  if (IsA(node, AlterForeignServerStmt))
    return ((AlterForeignServerStmt *)node)->options;
  if (IsA(node, CreateUserMappingStmt))
    return ((CreateUserMappingStmt *)node)->options;
  if (IsA(node, AlterUserMappingStmt))
    return ((AlterUserMappingStmt *)node)->options;
  return NIL;
}

/* Where the names of secret options stand, of every statement in the text. */
static List *secrets_of(const char *query)
{
#if PG_VERSION_NUM >= 140000
  List *statements = raw_parser(query, RAW_PARSE_DEFAULT), *out = NIL;
#else
  List *statements = raw_parser(query), *out = NIL;
#endif
  ListCell *i, *j;
  foreach (i, statements) {
    foreach (j, options_of(lfirst_node(RawStmt, i)->stmt)) {
      DefElem *e = lfirst(j);
      if (e->arg != NULL && fdw_option_is_secret(e->defname))
        out = lappend_int(out, e->location);
    }
  }
  return out;
}

/* Whether the options come from this text: a statement that a program made has another text,
** or none, or one that was masked already. */
static bool is_source(const char *query, List *options)
{
  ListCell *i;
  foreach (i, options) {
    DefElem *e = lfirst(i);
    if (!fdw_option_is_secret(e->defname) || e->location < 0 ||
        (size_t)e->location >= strlen(query))
      continue;
    const char *at = query + e->location;
    return at[0] == '"' || pg_strncasecmp(at, "U&\"", 3) == 0 ||
           pg_strncasecmp(at, e->defname, strlen(e->defname)) == 0;
  }
  return false;
}

const char *fdw_mask(const char *query, List *options)
{
  core_yyscan_t scanner;
  core_yy_extra_type extra;
  core_YYSTYPE value;
  YYLTYPE location;
  List *secrets = query != NULL && is_source(query, options) ? secrets_of(query) : NIL;
  if (secrets == NIL)
    return query;
  char *out = pstrdup(query);
  bool secret = false;
  scanner = scanner_init(query, &extra, &ScanKeywords, ScanKeywordTokens);
  extra.escape_string_warning = false;
  while (core_yylex(&value, &location, scanner) != 0) {
    /* The scanner ends the token it has just read with a NUL in its own copy. */
    if (secret)
      memset(out + location, '*', strlen(extra.scanbuf + location));
    secret = list_member_int(secrets, location);
  }
  scanner_finish(scanner);
  return out;
}

/* Whether `shown` is `query`, what was struck out of it before aside. */
static bool is_shown(const char *shown, const char *query)
{
  while (*query != '\0' && (*shown == *query || *shown == '*')) {
    shown++;
    query++;
  }
  return *shown == '\0' && *query == '\0';
}

void fdw_mask_show(const char *query, const char *masked)
{
  if (masked == query || debug_query_string == NULL || MessageContext == NULL ||
      !is_shown(debug_query_string, query))
    return;
  /* Whoever set the pointer takes it back before this context is reset. */
  char *text = MemoryContextStrdup(MessageContext, masked);
  for (size_t i = 0; text[i] != '\0'; i++)
    if (debug_query_string[i] == '*') /* of another statement of the same text */
      text[i] = '*';
  debug_query_string = text;
  pgstat_report_activity(STATE_RUNNING, text);
}
