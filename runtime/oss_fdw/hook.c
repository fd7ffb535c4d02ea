/*
** hook.c: keys given to a server are moved out of the catalogue that everybody may read
**
** pg_foreign_server is readable by all, pg_user_mapping is not. So with the library in
** shared_preload_libraries or session_preload_libraries, CREATE SERVER and ALTER SERVER with
** `id` and `key` (the form of ApsaraDB RDS) become the same statement without them and one
** that makes, changes or drops the user mapping for PUBLIC, which DROP SERVER then drops, too. When the library was loaded
** otherwise nothing is changed: what a statement does must not depend on what the session
** happened to do before.
**
** The same hook strikes keys out of the text of these statements and of those about user
** mappings, for hooks after this one (pg_stat_statements, when the library is named after it)
** and for what the session shows as its current query.
*/
#include "postgres.h"

#include "access/xact.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "oss_fdw/hook.h"
#include "oss_fdw/mask.h"
#include "oss_fdw/optdef.h"
#include "oss_fdw/options.h"
#include "oss_fdw/server.h"

static ProcessUtility_hook_type next_hook;

struct statement { /* the arguments of the hook */
  PlannedStmt *planned;
  const char *query; /* masked */
  bool read_only;
  ProcessUtilityContext context;
  ParamListInfo params;
  QueryEnvironment *env;
  DestReceiver *dest;
  QueryCompletion *completion;
};

static void go_on(const struct statement *s)
{
  ProcessUtility_hook_type go = next_hook != NULL ? next_hook : standard_ProcessUtility;
#if PG_VERSION_NUM >= 140000
  go(s->planned, s->query, s->read_only, s->context, s->params, s->env, s->dest,
     s->completion);
#else
  go(s->planned, s->query, s->context, s->params, s->env, s->dest, s->completion);
#endif
}

/* Runs a statement of ours beside the user's, as a whole one. */
static void run_also(const struct statement *s, Node *node)
{
  PlannedStmt *planned = makeNode(PlannedStmt);
  planned->commandType = CMD_UTILITY;
  planned->canSetTag = false;
  planned->utilityStmt = node;
  planned->stmt_location = s->planned->stmt_location;
  planned->stmt_len = s->planned->stmt_len;
  CommandCounterIncrement();
#if PG_VERSION_NUM >= 140000
  ProcessUtility(planned, s->query, false, PROCESS_UTILITY_QUERY, s->params, s->env,
                 None_Receiver, NULL);
#else
  ProcessUtility(planned, s->query, PROCESS_UTILITY_QUERY, s->params, s->env,
                 None_Receiver, NULL);
#endif
}

/* ---- lists of options ---- */

static DefElem *element(List *options, const char *name)
{
  ListCell *cell;
  foreach (cell, options) {
    DefElem *e = lfirst(cell);
    if (pg_strcasecmp(e->defname, name) == 0)
      return e;
  }
  return NULL;
}

static List *without_secrets(List *options)
{
  List *out = NIL;
  ListCell *cell;
  foreach (cell, options)
    if (!fdw_option_is_secret(((DefElem *)lfirst(cell))->defname))
      out = lappend(out, lfirst(cell));
  return out;
}

/* `name` as the list spells it: options keep the case they were given in. */
static List *add(List *options, const char *name, const char *value, DefElemAction action)
{
  Node *arg = value != NULL ? (Node *)makeString(pstrdup(value)) : NULL;
  return lappend(options, makeDefElemExtended(NULL, pstrdup(name), arg, action, -1));
}

static const char *spelt(List *options, const char *name)
{
  DefElem *e = element(options, name);
  return e != NULL ? e->defname : name;
}

/* ---- the mapping of PUBLIC ---- */

static RoleSpec *everybody(void)
{
  RoleSpec *role = makeNode(RoleSpec);
  role->roletype = ROLESPEC_PUBLIC;
  role->location = -1;
  return role;
}

static void create_mapping(const struct statement *s, char *server, List *options)
{
  CreateUserMappingStmt *stmt = makeNode(CreateUserMappingStmt);
  stmt->user = everybody();
  stmt->servername = server;
  stmt->options = options;
  run_also(s, (Node *)stmt);
}

static void alter_mapping(const struct statement *s, char *server, List *options)
{
  AlterUserMappingStmt *stmt = makeNode(AlterUserMappingStmt);
  stmt->user = everybody();
  stmt->servername = server;
  stmt->options = options;
  run_also(s, (Node *)stmt);
}

static void drop_mapping(const struct statement *s, char *server)
{
  DropUserMappingStmt *stmt = makeNode(DropUserMappingStmt);
  stmt->user = everybody();
  stmt->servername = server;
  run_also(s, (Node *)stmt);
}

static void tell(const char *server)
{
  ereport(
      NOTICE,
      (errmsg("the access key of server \"%s\" was put into its user mapping for PUBLIC",
              server),
       errdetail("Options of a server can be read by every user, those of a user "
                 "mapping cannot.")));
}

/* ---- the statements ---- */

static void create_server(struct statement *s, CreateForeignServerStmt *stmt)
{
  bool there = OidIsValid(get_foreign_server_oid(stmt->servername, true));
  List *keys = NIL;
  ListCell *cell;
  foreach (cell, stmt->options) {
    DefElem *e = lfirst(cell);
    if (fdw_option_is_secret(e->defname))
      keys = add(keys, e->defname, defGetString(e), DEFELEM_UNSPEC);
  }
  stmt->options = without_secrets(stmt->options);
  go_on(s);
  if (there || keys == NIL) /* IF NOT EXISTS, else it has raised */
    return;
  create_mapping(s, stmt->servername, keys);
  tell(stmt->servername);
}

struct moved {   /* what becomes of id and key */
  List *server;  /* elements for ALTER SERVER */
  List *mapping; /* for the mapping: all that it gets, or ADD, SET and DROP */
  bool given;    /* some value is new */
  int left;      /* options that the mapping then has */
};

/* One of id and key. A value goes to the mapping, and leaves the server that had it. */
static void move(struct moved *m, const char *name, List *stated, List *server,
                 List *mapping)
{
  DefElem *e = element(stated, name);
  const char *value = e != NULL && e->arg != NULL ? defGetString(e) : NULL;
  bool dropped = e != NULL && e->defaction == DEFELEM_DROP;
  const char *own = fdw_option(server, name);
  bool has = fdw_option(mapping, name) != NULL;
  if (dropped) {
    if (own != NULL || !has) /* else it is not the server's: core complains as ever */
      m->server = lappend(m->server, e);
    else
      m->mapping = add(m->mapping, spelt(mapping, name), NULL, DEFELEM_DROP);
    m->left += has && own != NULL;
    return;
  }
  if (value == NULL && m->given)
    value = own;
  if (value == NULL) {
    m->left += has;
    return;
  }
  if (own != NULL)
    m->server = add(m->server, spelt(server, name), NULL, DEFELEM_DROP);
  m->mapping =
      add(m->mapping, spelt(mapping, name), value, has ? DEFELEM_SET : DEFELEM_ADD);
  m->left++;
}

static void alter_server(struct statement *s, AlterForeignServerStmt *stmt,
                         ForeignServer *server)
{
  struct moved m = {0};
  List *mapping;
  ListCell *cell;
  bool there = OidIsValid(fdw_mapping_of(InvalidOid, server->serverid, &mapping));
  foreach (cell, stmt->options) {
    DefElem *e = lfirst(cell);
    m.given |= fdw_option_is_secret(e->defname) && e->defaction != DEFELEM_DROP;
  }
  move(&m, "id", stmt->options, server->options, mapping);
  move(&m, "key", stmt->options, server->options, mapping);
  stmt->options = list_concat(without_secrets(stmt->options), m.server);
  go_on(s);
  if (m.mapping == NIL)
    return;
  if (!there)
    create_mapping(s, stmt->servername, m.mapping);
  else if (m.left == 0)
    drop_mapping(s, stmt->servername);
  else
    alter_mapping(s, stmt->servername, m.mapping);
  if (m.given)
    tell(stmt->servername);
}

/* DROP SERVER without CASCADE works as on RDS, where no mapping is in the way: that of PUBLIC is
** the server's own keys. */
static void drop_servers(const struct statement *s, DropStmt *stmt)
{
  ListCell *cell;
  if (stmt->removeType != OBJECT_FOREIGN_SERVER || stmt->behavior != DROP_RESTRICT)
    return;
  foreach (cell, stmt->objects) {
    List *options;
    char *name = strVal(lfirst(cell));
    ForeignServer *server = GetForeignServerByName(name, true);
    if (server != NULL && fdw_wrapper_is_ours(server->fdwid) &&
        fdw_option(server->options, "host") != NULL &&
        OidIsValid(fdw_mapping_of(InvalidOid, server->serverid, &options)))
      drop_mapping(s, name);
  }
}

/* ---- the hook ---- */

static bool is_ours(const char *servername, ForeignServer **server)
{
  *server = servername != NULL ? GetForeignServerByName(servername, true) : NULL;
  return *server != NULL && fdw_wrapper_is_ours((*server)->fdwid);
}

/* The options of a statement that may hold keys of ours, else NIL. */
static List *options_of(Node *node, ForeignServer **server)
{
  if (IsA(node, CreateForeignServerStmt)) {
    CreateForeignServerStmt *stmt = (CreateForeignServerStmt *)node;
    Oid wrapper = get_foreign_data_wrapper_oid(stmt->fdwname, true);
    return OidIsValid(wrapper) && fdw_wrapper_is_ours(wrapper) ? stmt->options : NIL;
  }
  if (IsA(node, AlterForeignServerStmt)) {
    AlterForeignServerStmt *stmt = (AlterForeignServerStmt *)node;
    return is_ours(stmt->servername, server) ? stmt->options : NIL;
  }
  if (IsA(node, CreateUserMappingStmt)) {
    CreateUserMappingStmt *stmt = (CreateUserMappingStmt *)node;
    return is_ours(stmt->servername, server) ? stmt->options : NIL;
  }
  if (IsA(node, AlterUserMappingStmt)) {
    AlterUserMappingStmt *stmt = (AlterUserMappingStmt *)node;
    return is_ours(stmt->servername, server) ? stmt->options : NIL;
  }
  return NIL;
}

static void handle(struct statement *s)
{
  ForeignServer *server = NULL;
  if (IsA(s->planned->utilityStmt, DropStmt))
    drop_servers(s, (DropStmt *)s->planned->utilityStmt);
  List *options = options_of(s->planned->utilityStmt, &server);
  if (options == NIL ||
      (element(options, "id") == NULL && element(options, "key") == NULL)) {
    go_on(s);
    return;
  }
  const char *masked = fdw_mask(s->query, options);
  fdw_mask_show(s->query, masked);
  s->query = masked;
  s->planned = copyObject(s->planned); /* of a cached plan, perhaps */
  s->read_only = false;
  Node *node = s->planned->utilityStmt;
  if (IsA(node, CreateForeignServerStmt))
    create_server(s, (CreateForeignServerStmt *)node);
  else if (IsA(node, AlterForeignServerStmt))
    alter_server(s, (AlterForeignServerStmt *)node, server);
  else
    go_on(s);
}

#if PG_VERSION_NUM >= 140000
static void hook(PlannedStmt *planned, const char *query, bool read_only,
                 ProcessUtilityContext context, ParamListInfo params,
                 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *completion)
{
  struct statement s = {planned, query, read_only, context,
                        params,  env,   dest,      completion};
  handle(&s);
}
#else
static void hook(PlannedStmt *planned, const char *query, ProcessUtilityContext context,
                 ParamListInfo params, QueryEnvironment *env, DestReceiver *dest,
                 QueryCompletion *completion)
{
  struct statement s = {planned, query, false, context, params, env, dest, completion};
  handle(&s);
}
#endif

/* Whether a list of libraries has ours, by its name or with a path. */
static bool listed(const char *libraries)
{
  List *names;
  ListCell *cell;
  if (libraries == NULL || !SplitDirectoriesString(pstrdup(libraries), ',', &names))
    return false;
  foreach (cell, names) {
    const char *name = lfirst(cell), *slash = strrchr(name, '/');
    name = slash != NULL ? slash + 1 : name;
    if (strcmp(name, "oss_fdw") == 0 || strcmp(name, "oss_fdw.so") == 0)
      return true;
  }
  return false;
}

void fdw_hook_init(void)
{
  if (!process_shared_preload_libraries_in_progress &&
      !listed(session_preload_libraries_string) &&
      !listed(local_preload_libraries_string))
    return;
  next_hook = ProcessUtility_hook;
  ProcessUtility_hook = hook;
}
