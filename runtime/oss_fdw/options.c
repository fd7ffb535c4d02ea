/*
** options.c: what a foreign table's options, and those of its server and columns, amount to
*/
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "oss_fdw/optdef.h"
#include "oss_fdw/options.h"

enum {
  MB = 1024 * 1024,
  FILE_MAX_MB = 1024,   /* default of oss_file_max_size, for RDS */
  FRAGMENT_MB = 256,    /* of fragment_size, for AnalyticDB */
  BLOCK_MB = 8,         /* of oss_flush_block_size: what runtime/oss was measured with */
  S3_PART_MIN_MB = 5,   /* Amazon S3, "Multipart upload limits" */
  RDS_GZIP_LEVEL = 6,   /* compressionlevel */
  ADBPG_GZIP_LEVEL = 1, /* gzip_level */
  ZIP_WORKERS = 3,      /* num_parallel_worker */
};

bool fdw_wrapper_is_ours(Oid fdwid)
{
  ForeignDataWrapper *wrapper = GetForeignDataWrapper(fdwid);
  HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(wrapper->fdwhandler));
  if (!HeapTupleIsValid(tuple))
    return false;
  bool isnull;
  Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
  bool ours = !isnull && strcmp(TextDatumGetCString(source), "oss_fdw_handler") == 0;
  ReleaseSysCache(tuple);
  return ours;
}

static bool is_ours(Oid relid)
{
  if (get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE)
    return false;
  ForeignTable *table = GetForeignTable(relid);
  return fdw_wrapper_is_ours(GetForeignServer(table->serverid)->fdwid);
}

const char *fdw_locator_name(enum fdw_locator locator)
{
  switch (locator) {
  case FDW_DIR:
    return "dir";
  case FDW_PREFIX:
    return "prefix";
  case FDW_FILEPATH:
    break;
  }
  return "filepath";
}

/* ---- columns ---- */

static bool has_name(List *names, const char *name)
{
  ListCell *cell;
  foreach (cell, names)
    if (strcmp(strVal(lfirst(cell)), name) == 0)
      return true;
  return false;
}

/* Every name of the list is that of a column that COPY reads. */
static void check_names(Relation rel, const char *option, List *names)
{
  ListCell *cell;
  foreach (cell, names) {
    const char *name = strVal(lfirst(cell));
    TupleDesc desc = RelationGetDescr(rel);
    bool found = false;
    for (int i = 0; i < desc->natts && !found; i++) {
      Form_pg_attribute a = TupleDescAttr(desc, i);
      found = !a->attisdropped && a->attgenerated == '\0' &&
              strcmp(NameStr(a->attname), name) == 0;
    }
    if (!found)
      ereport(ERROR,
              (errcode(ERRCODE_UNDEFINED_COLUMN),
               errmsg("column \"%s\" of option \"%s\" of foreign table \"%s\" does "
                      "not exist",
                      name, option, RelationGetRelationName(rel))));
  }
}

/* The columns an option names for the table, and those that have it themselves. */
static List *forced(Relation rel, List *options, const char *option)
{
  List *named, *out = NIL;
  enum fdw_force force = fdw_option_force(options, option, &named);
  TupleDesc desc = RelationGetDescr(rel);
  check_names(rel, option, named);
  for (int i = 0; i < desc->natts; i++) {
    Form_pg_attribute a = TupleDescAttr(desc, i);
    if (a->attisdropped || a->attgenerated != '\0')
      continue;
    List *own = GetForeignColumnOptions(RelationGetRelid(rel), a->attnum);
    bool otherwise = force == FDW_FORCE_ALL || has_name(named, NameStr(a->attname));
    if (fdw_option_bool(own, option, otherwise))
      out = lappend(out, makeString(pstrdup(NameStr(a->attname))));
  }
  return out;
}

static List *replace(List *copy, const char *name, Node *value)
{
  ListCell *cell;
  foreach (cell, copy) {
    DefElem *e = lfirst(cell);
    if (strcmp(e->defname, name) == 0) {
      copy = list_delete_cell(copy, cell);
      break;
    }
  }
  if (value == NULL)
    return copy;
  return lappend(copy, makeDefElem(pstrdup(name), value, -1));
}

/* ---- the parts of struct fdw_table ---- */

static void read_server(struct fdw_table *t, ForeignServer *server, List *options)
{
  t->dialect = fdw_option(server->options, "host") != NULL ? FDW_RDS : FDW_ADBPG;
  t->endpoint = fdw_server_endpoint(server->options);
  if (t->endpoint == NULL)
    ereport(ERROR,
            (errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
             errmsg("server \"%s\" has neither the option \"host\" nor \"endpoint\"",
                    server->servername)));
  t->s3 = fdw_server_is_s3(server->options, t->endpoint);
  t->bucket = fdw_option(options, "bucket");
  if (t->bucket == NULL)
    t->bucket = fdw_option(server->options, "bucket");
  if (t->bucket == NULL)
    ereport(ERROR, (errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
                    errmsg("no bucket for foreign table \"%s\"", t->relname),
                    errhint("Give the option \"bucket\" to the table or to its server "
                            "\"%s\".",
                            server->servername)));
}

static void read_location(struct fdw_table *t, List *options)
{
  static const enum fdw_locator all[] = {FDW_DIR, FDW_PREFIX, FDW_FILEPATH};
  const char *value = NULL;
  for (size_t i = 0; i < lengthof(all) && value == NULL; i++) {
    t->locator = all[i];
    value = fdw_option(options, fdw_locator_name(all[i]));
  }
  if (value == NULL)
    ereport(ERROR,
            (errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
             errmsg("foreign table \"%s\" has none of the options \"dir\", \"prefix\", "
                    "\"filepath\"",
                    t->relname)));
  value += value[0] == '/';
  t->location = pg_server_to_any(value, (int)strlen(value), PG_UTF8);
}

static void read_compression(struct fdw_table *t, List *options)
{
  const char *kind = fdw_option_lower(options, "compressiontype");
  bool rds = kind != NULL;
  if (kind == NULL)
    kind = fdw_option_lower(options, "filetype");
  t->codec = FDW_PLAIN;
  t->codec_name = "none";
  if (kind != NULL && strcmp(kind, "gzip") == 0) {
    t->codec = FDW_GZIP;
    t->codec_name = "gzip";
    t->level = rds ? RDS_GZIP_LEVEL : ADBPG_GZIP_LEVEL;
  } else if (kind != NULL && strcmp(kind, "zstd") == 0) {
    t->codec = FDW_ZSTD;
    t->codec_name = "zstd";
  }
  t->level = fdw_option_int(options, "compressionlevel", t->level);
  t->level = fdw_option_int(options, "gzip_level", t->level);
  t->zip_workers = fdw_option_int(options, "num_parallel_worker", ZIP_WORKERS);
}

static int encoding_of(const struct fdw_table *t, List *options)
{
  const char *name = fdw_option(options, "encoding");
  int encoding = name != NULL              ? pg_char_to_encoding(name)
                 : t->dialect == FDW_ADBPG ? pg_get_client_encoding()
                                           : GetDatabaseEncoding();
  if (encoding < 0)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("invalid encoding of foreign table \"%s\": \"%s\"", t->relname,
                           name)));
  return encoding;
}

static void read_format(struct fdw_table *t, Relation rel, List *options)
{
  const char *format = fdw_option_lower(options, "format");
  const char *newline = fdw_option_lower(options, "newline");
  const char *delimiter = fdw_option(options, "delimiter");
  const char *quote = fdw_option(options, "quote"),
             *escape = fdw_option(options, "escape");
  const char *null = fdw_option(options, "null");
  bool csv = format == NULL || strcmp(format, "csv") == 0;
  t->format = csv ? FDW_CSV : FDW_TEXT;
  t->delimiter = delimiter != NULL ? delimiter[0] : csv ? ',' : '\t';
  if (csv) {
    t->quote = quote != NULL ? quote[0] : '"';
    t->escape = escape != NULL ? escape[0] : t->quote;
  }
  t->null_print = null != NULL ? null : csv ? "" : "\\N";
  t->header = fdw_option_bool(options, "header", false);
  t->force_quote_all = fdw_option_bool(options, "force_quote_all", false);
  t->newline = newline == NULL || strcmp(newline, "lf") == 0 ? "\n"
               : strcmp(newline, "cr") == 0                  ? "\r"
                                                             : "\r\n";
  t->encoding = encoding_of(t, options);
  List *copy = fdw_copy_options(options);
  copy = replace(copy, "encoding",
                 (Node *)makeString(pstrdup(pg_encoding_to_char(t->encoding))));
  copy = replace(copy, "force_not_null", (Node *)forced(rel, options, "force_not_null"));
  t->copy_options =
      replace(copy, "force_null", (Node *)forced(rel, options, "force_null"));
}

static void read_sizes(struct fdw_table *t, List *options)
{
  const char *size = fdw_option_either(options, "oss_file_max_size", "fragment_size");
  int otherwise = t->dialect == FDW_RDS ? FILE_MAX_MB : FRAGMENT_MB;
  int block = fdw_option_int(options, "oss_flush_block_size", BLOCK_MB);
  t->object_bytes =
      (int64)MB * (size != NULL ? fdw_option_int(options, size, otherwise) : otherwise);
  t->part_bytes = (size_t)MB * (size_t)(t->s3 ? Max(block, S3_PART_MIN_MB) : block);
}

static void read_tolerance(struct fdw_table *t, List *options)
{
  const char *limit = fdw_option(options, "segment_reject_limit");
  t->reject_limit = fdw_option_int(options, "parse_errors", 0);
  t->tolerant = t->reject_limit > 0;
  if (limit != NULL)
    t->tolerant = fdw_option_reject(limit, &t->reject_limit, &t->reject_percent);
  t->log_errors = fdw_option_bool(options, "log_errors", false);
}

struct fdw_table *fdw_table_get(Oid relid, Oid userid)
{
  struct fdw_table *t = palloc0(sizeof *t);
  if (!is_ours(relid)) {
    char *name = get_rel_name(relid);
    ereport(ERROR,
            (errcode(ERRCODE_WRONG_OBJECT_TYPE),
             name != NULL ? errmsg("\"%s\" is not a foreign table of oss_fdw", name)
                          : errmsg("relation with OID %u does not exist", relid)));
  }
  ForeignTable *table = GetForeignTable(relid);
  ForeignServer *server = GetForeignServer(table->serverid);
  Relation rel = relation_open(relid, AccessShareLock);
  t->relid = relid;
  t->serverid = table->serverid;
  t->userid = OidIsValid(userid) ? userid : GetUserId();
  t->relname = pstrdup(RelationGetRelationName(rel));
  t->schemaname = get_namespace_name(RelationGetNamespace(rel));
  read_server(t, server, table->options);
  read_location(t, table->options);
  read_compression(t, table->options);
  read_format(t, rel, table->options);
  read_sizes(t, table->options);
  read_tolerance(t, table->options);
  relation_close(rel, NoLock);
  return t;
}
