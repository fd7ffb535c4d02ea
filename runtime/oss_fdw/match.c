/*
** match.c: which objects a foreign table is made of
**
** A listing is read page by page in a thread, each page taken over into the backend's memory
** before the next. Listings of the statement stand in a list, each in a memory context of its
** own with its entry: the planner's hangs below the transaction's context and has no owner;
** the first executor state that wants it takes it over (the context moves below
** es_query_cxt), so a second execution in the same statement lists anew. Where a context dies
** its entry leaves the list.
*/
#include "oss_fdw/match.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/name.h"
#include "oss_fdw/wait.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- gathering ---- */

struct gathering {
  struct fdw_objects *objects;
  int room;     /* in objects->items */
  char *string; /* the rest of a block for keys and etags: they are many and short */
  size_t left;
};

enum { STRING_BLOCK = 8000 };

static struct gathering *gathering_new(void)
{
  struct gathering *g = palloc0(sizeof *g);
  g->objects = palloc0(sizeof *g->objects);
  return g;
}

static char *keep(struct gathering *g, const char *text)
{
  size_t n = strlen(text) + 1;
  if (n > g->left) {
    g->left = Max(n, STRING_BLOCK);
    g->string = palloc(g->left);
  }
  char *copy = memcpy(g->string, text, n);
  g->string += n;
  g->left -= n;
  return copy;
}

static void make_room(struct gathering *g)
{
  struct fdw_objects *o = g->objects;
  if (o->count < g->room)
    return;
  g->room = g->room == 0 ? 8 : g->room * 2;
  Size size = sizeof *o->items * (Size)g->room;
  o->items = o->items == NULL ? palloc(size) : repalloc_huge(o->items, size);
}

static void gather(struct gathering *g, const char *key, int64 size, int64 modified_ms,
                   const char *etag)
{
  struct fdw_objects *o = g->objects;
  size_t length = strlen(key);
  if (length > 0 && key[length - 1] == '/')
    return; /* the marker that consoles make for a folder */
  if (size == 0) {
    o->empty++;
    return;
  }
  if (!fdw_name_visible(key)) {
    o->hidden++;
    return;
  }
  make_room(g);
  o->items[o->count++] = (struct fdw_object){.key = keep(g, key),
                                             .size = size,
                                             .modified_ms = modified_ms,
                                             .etag = keep(g, etag)};
  o->bytes = size < PG_INT64_MAX - o->bytes ? o->bytes + size : PG_INT64_MAX;
}

/* ---- dir and prefix: a listing ---- */

struct lister {
  struct tm_oss *oss;
  struct tm_oss_list_opts opts;
  char *token; /* of the page to get; malloc'd */
  struct tm_oss_page page;
};

static void lister_release(void *arg)
{
  struct lister *l = arg;
  tm_oss_page_free(&l->page);
  free(l->token);
  l->token = NULL;
}

static bool list_page(void *data, const struct tm_cancel *cancel, struct tm_error *err)
{
  struct lister *l = data;
  return tm_oss_list(l->oss, &l->opts, l->token, &l->page, cancel, err);
}

/* What a store lists beside what it was asked for is not ours to read. */
static bool list_all(struct lister *l, struct gathering *g, struct tm_error *err)
{
  size_t within = strlen(l->opts.prefix);
  do {
    if (!fdw_run(list_page, l, err))
      return false;
    for (size_t i = 0; i < l->page.count; i++) {
      const struct tm_oss_entry *e = &l->page.entries[i];
      if (!e->is_prefix && strncmp(e->key, l->opts.prefix, within) == 0)
        gather(g, e->key, e->size, e->modified_ms, e->etag);
    }
    free(l->token);
    l->token = l->page.next;
    l->page.next = NULL;
  } while (l->token != NULL);
  return true;
}

static int by_key(const void *a, const void *b)
{
  const struct fdw_object *x = a, *y = b;
  return strcmp(x->key, y->key);
}

/* Stores list in the byte order of keys, but for some of the smaller ones. */
static void sort(struct fdw_objects *o)
{
  for (int i = 1; i < o->count; i++)
    if (by_key(&o->items[i - 1], &o->items[i]) > 0) {
      qsort(o->items, (size_t)o->count, sizeof *o->items, by_key);
      return;
    }
}

/* `work` dies with its results when this fails or raises. */
static bool list_prefix(const struct fdw_table *t, struct tm_oss *oss, MemoryContext work,
                        struct gathering *g, struct tm_error *err)
{
  struct lister *l = MemoryContextAllocZero(work, sizeof *l);
  l->oss = oss;
  l->opts.prefix = t->location;
  l->opts.delimiter = t->locator == FDW_DIR ? "/" : NULL;
  fdw_own(work, lister_release, l);
  if (!list_all(l, g, err)) {
    /* Some stores know folders, and answer 404 for one that is not there. */
    return err->kind == TM_ENOTFOUND && strcmp(err->code, "NoSuchKey") == 0;
  }
  sort(g->objects);
  return true;
}

/* ---- filepath: one look a name ---- */

struct looker {
  struct tm_oss *oss;
  const char *key;
  struct tm_oss_info info;
  bool found;
};

static void looker_release(void *arg)
{
  tm_oss_info_free(&((struct looker *)arg)->info);
}

static bool look(void *data, const struct tm_cancel *cancel, struct tm_error *err)
{
  struct looker *l = data;
  tm_oss_info_free(&l->info);
  l->found = tm_oss_head(l->oss, l->key, &l->info, cancel, err);
  return l->found ||
         (err->kind == TM_ENOTFOUND && strcmp(err->code, "NoSuchBucket") != 0);
}

/* A HEAD has no body, so it may not tell a missing bucket from a missing object. */
static bool bucket_is_there(void *data, const struct tm_cancel *cancel,
                            struct tm_error *err)
{
  struct looker *l = data;
  struct tm_oss_list_opts opts = {.prefix = l->key, .page_size = 1};
  struct tm_oss_page page = {0};
  bool ok = tm_oss_list(l->oss, &opts, NULL, &page, cancel, err);
  tm_oss_page_free(&page);
  return ok || err->kind != TM_ENOTFOUND || strcmp(err->code, "NoSuchBucket") != 0;
}

static bool look_at(struct looker *l, const char *key, struct gathering *g,
                    struct tm_error *err)
{
  l->key = key;
  if (!fdw_run(look, l, err))
    return false;
  if (l->found && l->info.size < 0) {
    tm_error_set(err, TM_EPROTOCOL, "the store does not tell the size of '%.200s'", key);
    return false;
  }
  if (l->found)
    gather(g, key, l->info.size, l->info.modified_ms, l->info.etag);
  return true;
}

/* The name itself and, `numbered`, its .1, .2 and so on up to the first gap. The name may be
** missing where .1 is not. */
static bool look_all(struct looker *l, const char *key, bool numbered,
                     struct gathering *g, struct tm_error *err)
{
  if (!look_at(l, key, g, err))
    return false;
  bool any = l->found;
  for (int i = 1; numbered && (i == 1 || l->found); i++) {
    if (!look_at(l, psprintf("%s.%d", key, i), g, err))
      return false;
    any = any || l->found;
  }
  return any || fdw_run(bucket_is_there, l, err);
}

static bool look_for(const char *key, bool numbered, struct tm_oss *oss,
                     MemoryContext work, struct gathering *g, struct tm_error *err)
{
  struct looker *l = MemoryContextAllocZero(work, sizeof *l);
  l->oss = oss;
  fdw_own(work, looker_release, l);
  return look_all(l, key, numbered, g, err);
}

/* ---- either ---- */

/* The one key that oss_fdw.rds_read_one_file names, or NULL. */
static const char *one_file(const struct fdw_table *t)
{
  if (t->dialect != FDW_RDS || fdw_read_one_file == NULL || fdw_read_one_file[0] == '\0')
    return NULL;
  const char *key = fdw_read_one_file + (fdw_read_one_file[0] == '/');
  return pg_server_to_any(key, (int)strlen(key), PG_UTF8);
}

/* The setting chooses among the table's objects: anybody can set it, and must not read with the
** owner's key what the table does not give. */
static bool within(const struct fdw_table *t, const char *key)
{
  size_t n = strlen(t->location);
  const char *rest = key + n;
  if (strncmp(key, t->location, n) != 0)
    return false;
  switch (t->locator) {
  case FDW_DIR:
    return strchr(rest, '/') == NULL;
  case FDW_PREFIX:
    return true;
  case FDW_FILEPATH:
    break;
  }
  return rest[0] == '\0' || (rest[0] == '.' && rest[1] != '\0' &&
                             strspn(rest + 1, "0123456789") == strlen(rest + 1));
}

/* NULL with *err. In CurrentMemoryContext. */
static struct fdw_objects *find(const struct fdw_table *t, struct fdw_store *store,
                                struct tm_error *err)
{
  struct tm_oss *oss = fdw_store_oss(store);
  MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "oss_fdw listing",
                                             ALLOCSET_SMALL_SIZES);
  struct gathering *g = gathering_new();
  const char *one = one_file(t);
  bool ok;
  if (one != NULL)
    ok = !within(t, one) || look_for(one, false, oss, work, g, err);
  else if (t->locator == FDW_FILEPATH)
    ok = look_for(t->location, t->dialect == FDW_RDS, oss, work, g, err);
  else
    ok = list_prefix(t, oss, work, g, err);
  MemoryContextDelete(work);
  return ok ? g->objects : NULL;
}

struct fdw_objects *fdw_match(const struct fdw_table *t, struct fdw_store *store)
{
  struct tm_error err;
  struct fdw_objects *o = find(t, store, &err);
  if (o == NULL)
    fdw_raise(&err);
  return o;
}

/* ---- once a statement ---- */

struct listing { /* lies in its context */
  struct listing *next;
  MemoryContext context;
  MemoryContext owner;   /* es_query_cxt of who reads it; NULL: the planner's */
  TimestampTz statement; /* that it was made in */
  const char *what;      /* everything that decides what is listed */
  struct fdw_objects *objects;
  struct tm_error error; /* why there are none */
};

static struct listing *listings;

static void forget(void *arg)
{
  for (struct listing **at = &listings; *at != NULL; at = &(*at)->next)
    if (*at == arg) {
      *at = (*at)->next;
      return;
    }
}

static char *what_is_listed(const struct fdw_table *t, struct fdw_store *store)
{
  const char *one = one_file(t);
  return psprintf("%p %s\n%d\n%s\n%s", (void *)fdw_store_oss(store), t->bucket,
                  one != NULL ? -1 : (int)t->locator, t->location,
                  one != NULL ? one : "");
}

static struct listing *find_listing(const char *what, MemoryContext owner)
{
  TimestampTz now = GetCurrentStatementStartTimestamp();
  for (struct listing *l = listings; l != NULL; l = l->next)
    if (l->owner == owner && (owner != NULL || l->statement == now) &&
        strcmp(l->what, what) == 0)
      return l;
  return NULL;
}

/* Plans of earlier statements of this transaction that were never executed. */
static void drop_stale(void)
{
  TimestampTz now = GetCurrentStatementStartTimestamp();
  for (struct listing *l = listings, *next; l != NULL; l = next) {
    next = l->next;
    if (l->owner == NULL && l->statement != now)
      MemoryContextDelete(l->context);
  }
}

/* Until it is whole it hangs below the current context, so an error leaves nothing. */
static struct listing *make_listing(const struct fdw_table *t, struct fdw_store *store,
                                    MemoryContext owner, const char *what)
{
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "oss_fdw objects",
                                                ALLOCSET_START_SMALL_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  struct listing *l = palloc0(sizeof *l);
  l->context = context;
  l->owner = owner;
  l->statement = GetCurrentStatementStartTimestamp();
  l->what = pstrdup(what);
  l->objects = find(t, store, &l->error);
  fdw_own(context, forget, l);
  MemoryContextSwitchTo(old);
  MemoryContextSetParent(context, owner != NULL ? owner : TopTransactionContext);
  l->next = listings;
  listings = l;
  return l;
}

static struct fdw_objects *result(const struct listing *l, struct tm_error *err)
{
  if (l->objects == NULL)
    *err = l->error;
  return l->objects;
}

const struct fdw_objects *fdw_match_plan(const struct fdw_table *t,
                                         struct fdw_store *store, struct tm_error *err)
{
  char *what = what_is_listed(t, store);
  struct listing *l = find_listing(what, NULL);
  if (l == NULL) {
    drop_stale();
    l = make_listing(t, store, NULL, what);
  }
  return result(l, err);
}

struct fdw_objects *fdw_match_take(const struct fdw_table *t, struct fdw_store *store,
                                   MemoryContext owner, struct tm_error *err)
{
  char *what = what_is_listed(t, store);
  struct listing *l = find_listing(what, owner);
  if (l == NULL && (l = find_listing(what, NULL)) != NULL) {
    l->owner = owner;
    MemoryContextSetParent(l->context, owner);
  }
  if (l == NULL)
    l = make_listing(t, store, owner, what);
  return result(l, err);
}

/* ---- for people ---- */

char *fdw_match_where(const struct fdw_table *t)
{
  const char *one = one_file(t);
  if (one != NULL)
    return psprintf("\"%s\", as oss_fdw.rds_read_one_file says, in %s \"%s\" of bucket "
                    "\"%s\"",
                    fdw_text(one), fdw_locator_name(t->locator), fdw_text(t->location),
                    t->bucket);
  return psprintf("%s \"%s\" of bucket \"%s\"", fdw_locator_name(t->locator),
                  fdw_text(t->location), t->bucket);
}

void fdw_match_warn(const struct fdw_table *t, struct fdw_objects *o)
{
  if (o->count > 0 || o->warned)
    return;
  o->warned = true;
  StringInfoData detail;
  initStringInfo(&detail);
  appendStringInfo(&detail, "There is none with %s", fdw_match_where(t));
  if (o->empty > 0)
    appendStringInfo(&detail, ", but for %d empty", o->empty);
  if (o->hidden > 0)
    appendStringInfo(&detail, "%s %d of transactions that are not committed",
                     o->empty > 0 ? " and" : ", but for", o->hidden);
  ereport(WARNING, (errmsg("no object matches foreign table \"%s\"", t->relname),
                    errdetail("%s.", detail.data),
                    strpbrk(t->location, "*?") != NULL
                        ? errhint("\"*\" and \"?\" stand for themselves.")
                        : 0));
}
