/*
** server.c: open object stores of this session, by server, user mapping and bucket
**
** A change of a catalogue row only marks the stores made of it (an invalidation may come at
** any moment); they are closed by the last release, or by the next acquire. Rights are asked
** anew at each acquire: a store that is open says nothing about them.
*/
#include "postgres.h"

#include <strings.h>

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "oss/address.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/optdef.h"
#include "oss_fdw/server.h"
#include "oss_fdw/wait.h"

enum {
  IDLE_MAX = 16,  /* stores nobody holds, kept for their connections */
  STORE_FDS = 8,  /* what one may have open: connections, curl's own */
  CONNECT_S = 10, /* the vendor's defaults (reference, "Server options") */
  DNS_CACHE_S = 60,
  SPEED_LIMIT = 1024, /* bytes a second */
  RDS_SPEED_S = 15,
  ADBPG_SPEED_S = 90,
  CLEANUP_MS =
      3000, /* a statement that was cancelled waits no longer to leave nothing behind */
};

struct fdw_store {
  dlist_node node;
  Oid serverid, mapping; /* mapping: of whoever's keys are used, or InvalidOid */
  uint32 server_hash, mapping_hash;
  char *bucket;
  int refs;
  bool stale; /* not to be acquired again */
  struct tm_oss *oss;
};

/* Of this session; the most recently acquired first. */
static dlist_head stores = DLIST_STATIC_INIT(stores);
static int idle_count;
static bool watching;
static uint32 changes; /* of servers and mappings, as far as this session has heard */

/* ---- rights ---- */

bool fdw_may_read_files(Oid roleid)
{
#if PG_VERSION_NUM >= 140000
  return superuser_arg(roleid) || has_privs_of_role(roleid, ROLE_PG_READ_SERVER_FILES);
#else
  return superuser_arg(roleid) ||
         has_privs_of_role(roleid, DEFAULT_ROLE_READ_SERVER_FILES);
#endif
}

/* ---- keys ---- */

struct keys {
  Oid mapping;
  List *options; /* of the mapping; NIL: there is none */
  const char *id, *key;
};

static void overwrite(List *options, const char *name)
{
  const char *value = fdw_option(options, name);
  if (value != NULL)
    explicit_bzero(unconstify(char *, value), strlen(value));
}

Oid fdw_mapping_of(Oid userid, Oid serverid, List **options)
{
  HeapTuple tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(userid),
                                    ObjectIdGetDatum(serverid));
  bool isnull;
  *options = NIL;
  if (!HeapTupleIsValid(tuple))
    return InvalidOid;
  Oid mapping = ((Form_pg_user_mapping)GETSTRUCT(tuple))->oid;
  Datum datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
                                Anum_pg_user_mapping_umoptions, &isnull);
  if (!isnull)
    *options = untransformRelOptions(datum);
  ReleaseSysCache(tuple);
  return mapping;
}

/* The mapping of the user, else of PUBLIC, else the server's own. */
static void find_keys(const struct fdw_table *t, ForeignServer *server, struct keys *out)
{
  *out = (struct keys){0};
  out->mapping = fdw_mapping_of(t->userid, t->serverid, &out->options);
  if (!OidIsValid(out->mapping))
    out->mapping = fdw_mapping_of(InvalidOid, t->serverid, &out->options);
  List *from = OidIsValid(out->mapping) ? out->options : server->options;
  out->id = fdw_option(from, "id");
  out->key = fdw_option(from, "key");
}

static void forget_keys(ForeignServer *server, const struct keys *keys)
{
  overwrite(keys->options, "key");
  overwrite(server->options, "key");
}

/* ---- what may be used ---- */

static void check_owner(ForeignServer *server, const char *what)
{
  if (!fdw_may_read_files(server->owner))
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("server \"%s\" may not use %s", server->servername, what),
                    errdetail("Its owner is neither a superuser nor a member of the role "
                              "\"pg_read_server_files\".")));
}

static void check_rights(const struct fdw_table *t, ForeignServer *server,
                         const struct keys *keys)
{
  const char *endpoint = fdw_server_endpoint(server->options);
  const char *of_host = fdw_option_of_host(server->options);
  if (of_host != NULL)
    check_owner(server, psprintf("the option \"%s\"", of_host));
  if (!fdw_endpoint_allowed(endpoint))
    ereport(
        ERROR,
        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
         errmsg("endpoint \"%s\" is not allowed", endpoint),
         errhint("A superuser may add it to the setting oss_fdw.allowed_endpoints.")));
  bool other = fdw_option(server->options, "profile") != NULL ||
               fdw_option(server->options, "role_name") != NULL ||
               fdw_option_bool(server->options, "anonymous", false);
  if (keys->id == NULL && !other && !fdw_may_read_files(server->owner))
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
             errmsg("no access key for server \"%s\"", server->servername),
             errdetail("There is no user mapping for \"%s\", nor for PUBLIC.",
                       GetUserNameFromId(t->userid, false)),
             errhint("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (id ..., key ...)",
                     quote_identifier(GetUserNameFromId(t->userid, false)),
                     quote_identifier(server->servername))));
}

/* ---- opening ---- */

static int number(List *options, const char *a, const char *b, int otherwise)
{
  const char *name = fdw_option(options, a) != NULL ? a : b;
  return fdw_option_int(options, name, otherwise);
}

/* Signature V4 of OSS signs the region; where it can be known from nowhere, V1 does without. */
static const char *signature_of(const struct tm_oss_opts *opts, const char *bucket)
{
  struct tm_cred_settings none = {0};
  struct tm_address address;
  struct tm_error ignored;
  if (!tm_address_resolve(TM_OSS_OSS, bucket, opts, &none, &address, &ignored))
    return NULL;
  return address.region[0] == '\0' ? "v1" : NULL;
}

static struct tm_oss *open_store(const struct fdw_table *t, ForeignServer *server,
                                 const struct keys *keys, struct tm_error *err)
{
  List *o = server->options; /* not the table's copy, which may be older */
  const char *endpoint = fdw_server_endpoint(o);
  bool own = keys->id != NULL, s3 = fdw_server_is_s3(o, endpoint);
  struct tm_oss_opts opts = {
      .url = psprintf("%s://%s", s3 ? "s3" : "oss", t->bucket),
      .endpoint = endpoint,
      .region = fdw_option(o, "region"),
      .addressing = fdw_option_lower(o, "addressing"),
      .signature = fdw_option_lower(o, "signature"),
      .anonymous = !own && fdw_option_bool(o, "anonymous", false),
      .access_key_id = keys->id,
      .access_key_secret = keys->key,
      .profile = own ? NULL : fdw_option(o, "profile"),
      .role_name = own ? NULL : fdw_option(o, "role_name"),
      .ca_file = fdw_option(o, "ca_file"),
      .proxy = fdw_option(o, "proxy"),
      .connect_timeout_ms =
          1000 * number(o, "oss_connect_timeout", "connect_timeout", CONNECT_S),
      .low_speed_limit = number(o, "oss_speed_limit", "speed_limit", SPEED_LIMIT),
      .low_speed_time_s = number(o, "oss_speed_time", "speed_time",
                                 t->dialect == FDW_RDS ? RDS_SPEED_S : ADBPG_SPEED_S),
      .dns_cache_timeout_s =
          number(o, "oss_dns_cache_timeout", "dns_cache_timeout", DNS_CACHE_S),
      .cleanup_timeout_ms = CLEANUP_MS,
  };
  if (!s3 && opts.signature == NULL && !opts.anonymous)
    opts.signature = signature_of(&opts, t->bucket);
  return tm_oss_open(&opts, err);
}

static void destroy(struct fdw_store *s)
{
  dlist_delete(&s->node);
  if (s->oss != NULL) {
    tm_oss_close(s->oss);
    for (int i = 0; i < STORE_FDS; i++)
      ReleaseExternalFD();
  }
  pfree(s);
}

static struct fdw_store *make(const struct fdw_table *t, ForeignServer *server,
                              const struct keys *keys)
{
  struct tm_error err;
  size_t bytes = strlen(t->bucket) + 1;
  struct fdw_store *s = MemoryContextAllocZero(TopMemoryContext, sizeof *s + bytes);
  s->bucket = memcpy(s + 1, t->bucket, bytes);
  s->serverid = t->serverid;
  s->mapping = keys->mapping;
  s->server_hash = GetSysCacheHashValue1(FOREIGNSERVEROID, ObjectIdGetDatum(t->serverid));
  s->mapping_hash =
      GetSysCacheHashValue1(USERMAPPINGOID, ObjectIdGetDatum(keys->mapping));
  s->oss = open_store(t, server, keys, &err);
  if (s->oss == NULL) {
    pfree(s);
    tm_error_prefix(&err, "server \"%.63s\"", server->servername);
    forget_keys(server, keys);
    fdw_raise(&err);
  }
  for (int i = 0; i < STORE_FDS; i++)
    ReserveExternalFD();
  dlist_push_head(&stores, &s->node);
  idle_count++;
  return s;
}

/* ---- the cache ---- */

static void invalidate(Datum arg, int cache, uint32 hash)
{
  dlist_iter i;
  (void)arg;
  changes++;
  dlist_foreach(i, &stores)
  {
    struct fdw_store *s = dlist_container(struct fdw_store, node, i.cur);
    if (hash == 0 ||
        hash == (cache == FOREIGNSERVEROID ? s->server_hash : s->mapping_hash))
      s->stale = true;
  }
}

static void watch(void)
{
  if (watching)
    return;
  CacheRegisterSyscacheCallback(FOREIGNSERVEROID, invalidate, (Datum)0);
  CacheRegisterSyscacheCallback(USERMAPPINGOID, invalidate, (Datum)0);
  watching = true;
}

/* Closes what nobody holds and is stale, or is one too many (the oldest first). */
static void trim(void)
{
  struct fdw_store *s;
  for (dlist_node *n = stores.head.prev, *before; n != &stores.head; n = before) {
    before = n->prev;
    s = dlist_container(struct fdw_store, node, n);
    if (s->refs == 0 && (s->stale || idle_count > IDLE_MAX)) {
      destroy(s);
      idle_count--;
    }
  }
}

static struct fdw_store *find(const struct fdw_table *t, Oid mapping)
{
  dlist_iter i;
  dlist_foreach(i, &stores)
  {
    struct fdw_store *s = dlist_container(struct fdw_store, node, i.cur);
    if (!s->stale && s->serverid == t->serverid && s->mapping == mapping &&
        strcmp(s->bucket, t->bucket) == 0)
      return s;
  }
  return NULL;
}

struct tm_oss *fdw_store_oss(struct fdw_store *store)
{
  return store->oss;
}

void fdw_store_retain(struct fdw_store *store)
{
  if (store->refs++ == 0)
    idle_count--;
}

void fdw_store_release(struct fdw_store *store)
{
  if (store == NULL || --store->refs > 0)
    return;
  idle_count++;
  if (store->stale) {
    destroy(store);
    idle_count--;
  }
}

static struct fdw_store *acquire(const struct fdw_table *t)
{
  struct keys keys;
  watch();
  uint32 before = changes;
  ForeignServer *server = GetForeignServer(t->serverid);
  find_keys(t, server, &keys);
  check_rights(t, server, &keys);
  struct fdw_store *s = find(t, keys.mapping);
  if (s == NULL) {
    s = make(t, server, &keys);
    s->stale = changes != before; /* it may be made of what is past */
  }
  forget_keys(server, &keys);
  fdw_store_retain(s);
  dlist_move_head(&stores, &s->node);
  trim();
  return s;
}

static void release_cb(void *store)
{
  fdw_store_release(store);
}

struct fdw_store *fdw_store_acquire_in(MemoryContext cxt, const struct fdw_table *t)
{
  struct fdw_store *s = acquire(t);
  fdw_own(cxt, release_cb, s);
  return s;
}
