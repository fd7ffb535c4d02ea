/*
** sweep.c: removing what transactions left that did not commit
**
** Two steps, each in a thread: list, keeping the names of this cluster alone; then, after the
** backend has asked what became of each one's transaction, remove. What has ended stays ended,
** so nothing can change in between; and an upload whose transaction has ended, either way, is
** of no use to anybody.
**
** Objects that a crash left behind are looked for among those of the last days, by the time in
** their names. Where a week makes more of them than one sweep may list, the next one goes on
** where it stopped.
*/
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/name.h"
#include "oss_fdw/options.h"
#include "oss_fdw/result.h"
#include "oss_fdw/server.h"
#include "oss_fdw/sweep.h"
#include "oss_fdw/wait.h"

PGDLLEXPORT Datum oss_fdw_sweep(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(oss_fdw_sweep);

enum {
  INTERVAL_MS = 60000,
  TIME_MS = 10000, /* of one sweep before a write */
  PAGES = 4,       /* of objects, of 1000 each */
  WINDOW_DAYS = 7,
  ZONE_HOURS = 27, /* two sessions' local times may differ by so much */
  PLACES = 256,
};

/* ---- one sweep ---- */

struct thing { /* an object or upload that may be removed */
  char *key;
  char *upload_id;    /* NULL: an object */
  int64_t started_ms; /* of an upload */
  bool remove, removed;
};

struct sweep { /* hung into a memory context; what it points to is malloc'd */
  struct tm_oss *oss;
  const char *location;         /* uploads below it are listed */
  bool strangers;               /* uploads of others are of interest too */
  bool children;                /* only those directly below the location */
  struct tm_oss_list_opts opts; /* of objects; prefix NULL: none is listed */
  int pages;                    /* at most; 0: all */
  char *last;                   /* the last key seen, if that was not all; else NULL */

  struct thing *things;
  size_t count, cap;
  bool uploads_failed, objects_failed;
  struct tm_error uploads_error, objects_error;
};

static void release(void *arg)
{
  struct sweep *s = arg;
  for (size_t i = 0; i < s->count; i++) {
    free(s->things[i].key);
    free(s->things[i].upload_id);
  }
  free(s->things);
  free(s->last);
}

/* Lives until `cxt` is reset. */
static struct sweep *sweep_new(MemoryContext cxt, const struct fdw_table *t,
                               struct fdw_store *store)
{
  struct sweep *s = MemoryContextAllocZero(cxt, sizeof *s);
  s->oss = fdw_store_oss(store);
  s->location = t->location;
  fdw_own(cxt, release, s);
  return s;
}

/* Takes over *key and *upload_id (may be NULL). Any thread. */
static bool add(struct sweep *s, char **key, char **upload_id, int64_t started_ms,
                struct tm_error *err)
{
  if (s->count == s->cap) {
    size_t cap = s->cap == 0 ? 16 : s->cap * 2;
    struct thing *grown = realloc(s->things, cap * sizeof *grown);
    if (grown == NULL) {
      tm_error_set(err, TM_EMEMORY, "out of memory");
      return false;
    }
    s->things = grown;
    s->cap = cap;
  }
  s->things[s->count++] =
      (struct thing){.key = *key,
                     .upload_id = upload_id == NULL ? NULL : *upload_id,
                     .started_ms = started_ms};
  *key = NULL;
  if (upload_id != NULL)
    *upload_id = NULL;
  return true;
}

/* ---- listing, in a thread ---- */

/* Whether the name is written as ours are; whose it is the backend says. */
static bool is_named(const char *key)
{
  struct tm_oss_name name;
  return tm_oss_name_parse(key, &name);
}

static bool list_uploads(struct sweep *s, const struct tm_cancel *cancel,
                         struct tm_error *err)
{
  struct tm_oss_uploads uploads = {0};
  size_t skip = strlen(s->location);
  bool ok = tm_oss_multipart_uploads(s->oss, s->location, &uploads, cancel, err);
  for (size_t i = 0; ok && i < uploads.count; i++) {
    struct tm_oss_upload *u = &uploads.items[i];
    if (strncmp(u->key, s->location, skip) != 0 ||
        (s->children && strchr(u->key + skip, '/') != NULL))
      continue;
    if (s->strangers || is_named(u->key))
      ok = add(s, &u->key, &u->upload_id, u->started_ms, err);
  }
  tm_oss_uploads_free(&uploads);
  return ok;
}

static bool take_page(struct sweep *s, struct tm_oss_page *page, bool is_last,
                      struct tm_error *err)
{
  bool ok = true;
  if (is_last && page->next != NULL && page->count > 0) {
    s->last = strdup(page->entries[page->count - 1].key);
    ok = s->last != NULL;
    if (!ok)
      tm_error_set(err, TM_EMEMORY, "out of memory");
  }
  for (size_t i = 0; ok && i < page->count; i++)
    if (!page->entries[i].is_prefix && is_named(page->entries[i].key))
      ok = add(s, &page->entries[i].key, NULL, 0, err);
  return ok;
}

static bool list_objects(struct sweep *s, const struct tm_cancel *cancel,
                         struct tm_error *err)
{
  struct tm_oss_page page = {0};
  char *token = NULL;
  bool ok = true;
  for (int n = 1; ok && (s->pages == 0 || n <= s->pages); n++) {
    ok = tm_oss_list(s->oss, &s->opts, token, &page, cancel, err) &&
         take_page(s, &page, n == s->pages, err);
    free(token);
    token = page.next;
    page.next = NULL;
    if (token == NULL)
      break;
  }
  free(token);
  tm_oss_page_free(&page);
  return ok;
}

static bool list(void *data, const struct tm_cancel *cancel, struct tm_error *err)
{
  struct sweep *s = data;
  s->uploads_failed = !list_uploads(s, cancel, &s->uploads_error);
  if (s->opts.prefix != NULL)
    s->objects_failed = !list_objects(s, cancel, &s->objects_error);
  if (tm_cancel_fired(cancel)) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return false;
  }
  return true;
}

/* ---- judging, in the backend ---- */

/* `older_ms`: uploads of strangers begun before it go too; 0: none. True: there is work. */
static bool judge(struct sweep *s, int64_t older_ms)
{
  bool any = false;
  for (size_t i = 0; i < s->count; i++) {
    struct thing *t = &s->things[i];
    enum fdw_writer writer = fdw_name_writer(t->key);
    if (writer == FDW_STRANGER)
      t->remove = t->upload_id != NULL && t->started_ms > 0 && t->started_ms < older_ms;
    else if (t->upload_id != NULL)
      t->remove = writer == FDW_ABORTED || writer == FDW_COMMITTED;
    else
      t->remove = writer == FDW_ABORTED;
    any = any || t->remove;
    if (i % 1000 == 999)
      CHECK_FOR_INTERRUPTS();
  }
  return any;
}

/* ---- removing, in a thread ---- */

static bool remove_all(void *data, const struct tm_cancel *cancel, struct tm_error *err)
{
  struct sweep *s = data;
  for (size_t i = 0; i < s->count; i++) {
    struct thing *t = &s->things[i];
    if (!t->remove)
      continue;
    if (tm_cancel_fired(cancel)) {
      tm_error_set(err, TM_ECANCELED, "cancelled");
      return false;
    }
    t->removed = t->upload_id != NULL
                     ? tm_oss_multipart_abort(s->oss, t->key, t->upload_id, true, err)
                     : tm_oss_delete(s->oss, t->key, cancel, err);
    if (!t->removed)
      return false;
  }
  return true;
}

/* ---- when it was last done ---- */

struct place {
  char *name;       /* NULL: unused */
  TimestampTz last; /* 0: never, or not since something was left behind */
  bool refused;     /* said so once */
  char *resume; /* list objects after this key; NULL: from the beginning of the window */
};

static struct place places[PLACES];

void fdw_sweep_soon(void)
{
  for (int i = 0; i < PLACES; i++)
    places[i].last = 0;
}

/* The place of that name; a new one takes that of the one longest unused. */
static struct place *find_place(const char *name)
{
  struct place *oldest = &places[0];
  for (int i = 0; i < PLACES; i++) {
    if (places[i].name != NULL && strcmp(places[i].name, name) == 0)
      return &places[i];
    if (places[i].name == NULL || (oldest->name != NULL && places[i].last < oldest->last))
      oldest = &places[i];
  }
  char *copy = MemoryContextStrdup(TopMemoryContext, name);
  if (oldest->name != NULL)
    pfree(oldest->name);
  free(oldest->resume);
  *oldest = (struct place){.name = copy};
  return oldest;
}

/* Whether a sweep is due; if so it counts as done now, whatever comes of it. */
static bool is_due(struct place *p)
{
  TimestampTz now = GetCurrentTimestamp();
  if (p->last != DT_NOBEGIN && /* which would overflow */
      (p->last >= GetCurrentTransactionStartTimestamp() ||
       !TimestampDifferenceExceeds(p->last, now, INTERVAL_MS)))
    return false;
  p->last = now;
  return true;
}

/* ---- before a write ---- */

/* What listing objects begins after: the oldest name of interest. Of two names of a table the
** one with the earlier time comes first, unless the times have not equally many digits. */
static const char *window(const struct fdw_table *t, const char *prefix,
                          const struct place *p)
{
  TimestampTz now = GetCurrentTimestamp();
  TimestampTz from = now - WINDOW_DAYS * USECS_PER_DAY - ZONE_HOURS * USECS_PER_HOUR;
  char *first = fdw_name_time(t, from);
  char *start = strlen(first) == strlen(fdw_name_time(t, now))
                    ? psprintf("%s%s", prefix, first)
                    : pstrdup(prefix);
  return p->resume != NULL && strcmp(p->resume, start) > 0 ? p->resume : start;
}

/* A refusal is told once; the write itself may well be allowed. */
static void warn(struct place *p, const struct tm_error *err, const char *what)
{
  struct tm_error copy = *err;
  if (strcmp(err->code, "NoSuchBucket") == 0 || strcmp(err->code, "no-key") == 0)
    return; /* as the write itself is about to say */
  if (err->kind == TM_EAUTH) {
    if (p->refused)
      return;
    p->refused = true;
    if (strcmp(err->code, "InvalidAccessKeyId") != 0 &&
        strcmp(err->code, "SignatureDoesNotMatch") != 0)
      tm_error_hint(&copy, "these keys may not list or remove there; SET oss_fdw.sweep = "
                           "'off' (or 'uploads') to do without");
  }
  fdw_warn(&copy, what);
}

static void warn_of_listings(struct place *p, const struct sweep *s)
{
  static const char *const what = "could not look for what aborted transactions left";
  if (s->uploads_failed)
    warn(p, &s->uploads_error, what);
  else if (s->objects_failed)
    warn(p, &s->objects_error, what);
}

static void run_before_write(struct sweep *s, struct place *p)
{
  struct tm_error err;
  int64_t deadline = tm_clock_deadline(TIME_MS);
  if (!fdw_run_for(list, s, TIME_MS, &err)) {
    fdw_warn(&err, "could not look for what aborted transactions left");
    return;
  }
  warn_of_listings(p, s);
  if (!s->objects_failed) {
    free(p->resume);
    p->resume = s->last;
    s->last = NULL;
  }
  if (judge(s, 0) && !fdw_run_for(remove_all, s, (int)tm_clock_left(deadline), &err))
    warn(p, &err, "could not remove what aborted transactions left");
}

void fdw_sweep_before_write(const struct fdw_table *t, struct fdw_store *store)
{
  if (fdw_sweep == FDW_SWEEP_OFF)
    return;
  MemoryContext cxt =
      AllocSetContextCreate(CurrentMemoryContext, "oss_fdw sweep", ALLOCSET_SMALL_SIZES);
  MemoryContext before = MemoryContextSwitchTo(cxt);
  char *prefix = psprintf("%s_", fdw_name_head(t));
  struct place *p =
      find_place(psprintf("%u %s %s %s", t->serverid, t->endpoint, t->bucket, prefix));
  if (is_due(p)) {
    struct sweep *s = sweep_new(cxt, t, store);
    if (fdw_sweep == FDW_SWEEP_ALL)
      s->opts = (struct tm_oss_list_opts){.prefix = prefix,
                                          .start_after = window(t, prefix, p)};
    s->pages = PAGES;
    run_before_write(s, p);
  }
  MemoryContextSwitchTo(before);
  MemoryContextDelete(cxt);
}

/* ---- oss_fdw_sweep(regclass, interval) ---- */

static void check_owner(Oid relid, const struct fdw_table *t)
{
#if PG_VERSION_NUM >= 160000
  bool owner = object_ownercheck(RelationRelationId, relid, GetUserId());
#else
  bool owner = pg_class_ownercheck(relid, GetUserId());
#endif
  if (!owner)
    aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_TABLE, t->relname);
}

static void put_row(const struct fdw_result *result, const struct thing *t)
{
  bool is_upload = t->upload_id != NULL;
  Datum values[] = {CStringGetTextDatum(is_upload ? "upload" : "object"),
                    fdw_result_text(t->key), fdw_result_time(t->started_ms)};
  bool nulls[] = {false, false, !is_upload || t->started_ms <= 0};
  fdw_result_put(result, values, nulls);
}

static int64_t unix_ms(TimestampTz when)
{
  return when / 1000 +
         (int64_t)(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;
}

Datum oss_fdw_sweep(PG_FUNCTION_ARGS)
{
  Oid relid = PG_GETARG_OID(0);
  struct tm_error err;
  struct fdw_result result = fdw_result_begin(fcinfo);
  struct fdw_table *t = fdw_table_get(relid, InvalidOid);
  check_owner(relid, t);
  PreventCommandDuringRecovery("oss_fdw_sweep()");
  (void)fdw_name_head(t); /* a table that can be written to */
  TimestampTz older = DatumGetTimestampTz(DirectFunctionCall2(
      timestamptz_mi_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
      PG_GETARG_DATUM(1)));
  struct sweep *s =
      sweep_new(CurrentMemoryContext, t, fdw_store_acquire_in(CurrentMemoryContext, t));
  s->strangers = true;
  s->children = t->locator == FDW_DIR;
  s->opts = (struct tm_oss_list_opts){.prefix = t->location,
                                      .delimiter = s->children ? "/" : NULL};
  if (!fdw_run(list, s, &err))
    fdw_raise(&err);
  if (s->uploads_failed || s->objects_failed)
    fdw_raise(s->uploads_failed ? &s->uploads_error : &s->objects_error);
  if (judge(s, unix_ms(older)) && !fdw_run(remove_all, s, &err))
    fdw_raise(&err);
  for (size_t i = 0; i < s->count; i++)
    if (s->things[i].removed)
      put_row(&result, &s->things[i]);
  return (Datum)0;
}
