/*
** oss.c: opening a store, and its operations: arguments are checked here, the backend does
** the rest
*/
#include "oss/oss.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/log.h"
#include "oss/store.h"

enum {
  ATTEMPTS = 5,
  RETRY_TIME_MS = 180000,
  CLEANUP_MS = 10000,
  KEY_MAX = 1024, /* S3's; OSS allows one less and says so itself */
  GET_LIMIT = 1 << 30,
  DELETE_BATCH = 1000,
};

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* ---- open and close ---- */

static bool open_directory(struct tm_oss *s, const char *path, struct tm_error *err)
{
  if (path[0] != '/') {
    tm_error_set(err, TM_EUSAGE, "'file://%.200s' is not absolute: file:///dir", path);
    return false;
  }
  s->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (s->root >= 0)
    return true;
  tm_error_errno(err, errno == ENOENT ? TM_ENOTFOUND : TM_ESYSTEM, errno,
                 "cannot open the directory '%.400s'", path);
  return false;
}

static bool set_signature(struct tm_oss *s, const struct tm_oss_opts *o,
                          struct tm_error *err)
{
  const char *v = o->signature != NULL ? o->signature : "v4";
  bool v1 = strcmp(v, "v1") == 0;
  if (!v1 && strcmp(v, "v4") != 0) {
    tm_error_set(err, TM_EUSAGE, "signature '%.40s' is neither v4 nor v1", v);
    return false;
  }
  if (v1 && s->scheme == TM_OSS_S3) {
    tm_error_set(err, TM_EUSAGE, "signature v1 is for oss:// only");
    return false;
  }
  if (o->anonymous)
    s->sign = TM_SIGN_NONE;
  else if (s->scheme == TM_OSS_S3)
    s->sign = TM_SIGN_S3_V4;
  else
    s->sign = v1 ? TM_SIGN_OSS_V1 : TM_SIGN_OSS_V4;
  if (s->sign == TM_SIGN_OSS_V4 && s->address.region[0] == '\0') {
    tm_error_set(err, TM_EUSAGE, "the region of endpoint '%.200s' is not known",
                 s->address.host);
    tm_error_hint(err, "give region = \"cn-hangzhou\" or set OSS_REGION");
    return false;
  }
  return true;
}

static struct tm_cred_opts cred_opts(const struct tm_oss *s, const struct tm_oss_opts *o)
{
  return (struct tm_cred_opts){.scheme =
                                   s->scheme == TM_OSS_OSS ? TM_CRED_OSS : TM_CRED_S3,
                               .id = o->access_key_id,
                               .secret = o->access_key_secret,
                               .token = o->security_token,
                               .profile = o->profile,
                               .role_name = o->role_name};
}

/* The address, to which the profile files may add. They count for little unless a profile
** is asked for by name: what is wrong in them then shows when keys are looked for. */
static bool resolve(struct tm_oss *s, const char *bucket, const struct tm_oss_opts *o,
                    struct tm_error *err)
{
  struct tm_cred_opts cred = cred_opts(s, o);
  struct tm_cred_settings profile;
  bool named = o->profile != NULL && o->profile[0] != '\0';
  if (!tm_cred_settings(&cred, bucket, &profile, err) && named)
    return false;
  bool ok = tm_address_resolve(s->scheme, bucket, o, &profile, &s->address, err);
  tm_cred_settings_free(&profile);
  return ok;
}

static bool open_http(struct tm_oss *s, const struct tm_oss_opts *o, struct tm_error *err)
{
  struct tm_http_opts http = {.ca_file = o->ca_file,
                              .proxy = o->proxy,
                              .connect_timeout_ms = o->connect_timeout_ms,
                              .stall_timeout_ms = o->stall_timeout_ms,
                              .low_speed_limit = o->low_speed_limit,
                              .low_speed_time_s = o->low_speed_time_s,
                              .dns_cache_timeout_s = o->dns_cache_timeout_s};
  struct tm_cred_opts cred = cred_opts(s, o);
  if (!set_signature(s, o, err))
    return false;
  if (!o->anonymous && (s->cred = tm_cred_open(&cred, err)) == NULL)
    return false;
  s->http = tm_http_open(&http, err);
  return s->http != NULL;
}

/* "bucket/a/b" -> bucket and prefix "a/b/" */
static bool split_bucket(struct tm_oss *s, const char *rest, char bucket[TM_BUCKET_SIZE],
                         struct tm_error *err)
{
  size_t n = strcspn(rest, "/");
  if (n == 0 || n >= TM_BUCKET_SIZE) {
    tm_error_set(err, TM_EUSAGE,
                 "the store's URL names no bucket: oss://bucket[/prefix]");
    return false;
  }
  memcpy(bucket, rest, n);
  bucket[n] = '\0';
  const char *prefix = rest[n] == '/' ? rest + n + 1 : "";
  size_t len = strlen(prefix);
  const char *slash = len > 0 && prefix[len - 1] != '/' ? "/" : "";
  if (asprintf(&s->prefix, "%s%s", prefix, slash) < 0) {
    s->prefix = NULL;
    return out_of_memory(err);
  }
  return true;
}

static bool fill(struct tm_oss *s, const struct tm_oss_opts *o, struct tm_error *err)
{
  char bucket[TM_BUCKET_SIZE];
  const char *url = o->url != NULL ? o->url : "";
  s->attempts = o->attempts > 0 ? o->attempts : ATTEMPTS;
  s->retry_time_ms = o->retry_time_ms > 0 ? o->retry_time_ms : RETRY_TIME_MS;
  s->cleanup_ms = o->cleanup_timeout_ms > 0 ? o->cleanup_timeout_ms : CLEANUP_MS;
  s->backend = &tm_oss_http_backend;
  if (strncmp(url, "file://", 7) == 0) {
    s->scheme = TM_OSS_FILE;
    s->backend = &tm_oss_file_backend;
    s->prefix = strdup("");
    size_t n = strlen(url);
    if (s->prefix == NULL ||
        asprintf(&s->url, "%s%s", url, url[n - 1] == '/' ? "" : "/") < 0) {
      s->url = NULL;
      return out_of_memory(err);
    }
    return open_directory(s, url + 7, err);
  }
  if (strncmp(url, "oss://", 6) == 0) {
    s->scheme = TM_OSS_OSS;
    url += 6;
  } else if (strncmp(url, "s3://", 5) == 0) {
    s->scheme = TM_OSS_S3;
    url += 5;
  } else {
    tm_error_set(err, TM_EUSAGE, "a store's URL begins with oss://, s3:// or file://");
    return false;
  }
  if (!split_bucket(s, url, bucket, err) || !resolve(s, bucket, o, err))
    return false;
  if (asprintf(&s->url, "%s://%s/%s", s->scheme == TM_OSS_OSS ? "oss" : "s3", bucket,
               s->prefix) < 0) {
    s->url = NULL;
    return out_of_memory(err);
  }
  return open_http(s, o, err);
}

struct tm_oss *tm_oss_open(const struct tm_oss_opts *opts, struct tm_error *err)
{
  struct tm_oss *s = calloc(1, sizeof *s);
  if (s == NULL) {
    out_of_memory(err);
    return NULL;
  }
  s->root = -1;
  pthread_mutex_init(&s->lock, NULL);
  if (fill(s, opts, err))
    return s;
  tm_oss_close(s);
  return NULL;
}

void tm_oss_close(struct tm_oss *s)
{
  if (s == NULL)
    return;
  tm_http_close(s->http);
  tm_cred_close(s->cred);
  if (s->root >= 0)
    close(s->root);
  pthread_mutex_destroy(&s->lock);
  free(s->url);
  free(s->prefix);
  free(s);
}

enum tm_oss_scheme tm_oss_scheme(const struct tm_oss *store)
{
  return store->scheme;
}

const char *tm_oss_url(const struct tm_oss *store)
{
  return store->url;
}

void tm_oss_name(const struct tm_oss *store, const char *key, char out[TM_OSS_NAME_SIZE])
{
  int n = snprintf(out, TM_OSS_NAME_SIZE, "%s%s", store->url, key != NULL ? key : "");
  if (key == NULL && store->prefix[0] == '\0')
    out[strlen(out) - 1] = '\0'; /* the bucket alone, without its slash */
  if (n >= TM_OSS_NAME_SIZE)
    memcpy(out + TM_OSS_NAME_SIZE - 4, "...", 4);
  for (char *p = out; *p != '\0'; p++)
    if ((unsigned char)*p < 32 || *p == 127)
      *p = '?';
}

/* ---- operations ---- */

static bool check_key(const char *key, struct tm_error *err)
{
  size_t n = strlen(key);
  if (n > 0 && n <= KEY_MAX)
    return true;
  if (n == 0)
    tm_error_set(err, TM_EUSAGE, "a key must not be empty");
  else
    tm_error_set(err, TM_EUSAGE, "a key of %zu bytes is too long: '%.60s...'", n, key);
  return false;
}

static bool check_meta(const struct tm_oss_put_opts *opts, struct tm_error *err)
{
  for (size_t i = 0; opts != NULL && i < opts->meta_count; i++) {
    const char *name = opts->meta[i].name;
    for (const char *p = name; *p != '\0' || p == name; p++)
      if (strchr("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                 *p) == NULL ||
          *p == '\0') {
        tm_error_set(err, TM_EUSAGE, "'%.80s' cannot be the name of metadata", name);
        return false;
      }
    for (const char *p = opts->meta[i].value; *p != '\0'; p++)
      if ((unsigned char)*p < 32 || (unsigned char)*p > 126) {
        tm_error_set(err, TM_EUSAGE, "metadata '%.80s': the stores take only plain ASCII",
                     name);
        return false;
      }
  }
  return true;
}

bool tm_oss_put(struct tm_oss *store, const char *key, const void *bytes, size_t n,
                const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_oss_info got = {.size = -1, .modified_ms = -1};
  if (!check_key(key, err) || !check_meta(opts, err))
    return false;
  tm_crash_point("oss.put.before");
  if (!store->backend->put(store, key, bytes, n, opts, &got, cancel, err))
    return false;
  tm_crash_point("oss.put.after");
  if (info != NULL)
    *info = got;
  else
    tm_oss_info_free(&got);
  return true;
}

bool tm_oss_stream(struct tm_oss *store, const char *key,
                   const struct tm_oss_get_opts *opts, tm_oss_take *take, void *data,
                   struct tm_oss_info *info, const struct tm_cancel *cancel,
                   struct tm_error *err)
{
  static const struct tm_oss_get_opts whole;
  struct tm_oss_info got = {.size = -1, .modified_ms = -1};
  if (opts == NULL)
    opts = &whole;
  if (!check_key(key, err))
    return false;
  if (opts->range &&
      (opts->offset < 0 || opts->length < 0 || opts->length > INT64_MAX - opts->offset)) {
    tm_error_set(err, TM_EUSAGE, "a range needs an offset and a length of at least 0");
    return false;
  }
  if (!store->backend->stream(store, key, opts, take, data, &got, cancel, err))
    return false;
  if (info != NULL)
    *info = got;
  else
    tm_oss_info_free(&got);
  return true;
}

struct gather {
  struct tm_buffer *out;
  size_t left;
};

static bool gather(void *data, const char *bytes, size_t n, struct tm_error *err)
{
  struct gather *g = data;
  if (n > g->left) {
    tm_error_set(err, TM_EUSAGE, "the object is larger than the limit");
    tm_error_hint(err, "read it as a stream");
    return false;
  }
  g->left -= n;
  return tm_buffer_add(g->out, bytes, n) || out_of_memory(err);
}

bool tm_oss_get(struct tm_oss *store, const char *key, const struct tm_oss_get_opts *opts,
                size_t limit, struct tm_buffer *out, struct tm_oss_info *info,
                const struct tm_cancel *cancel, struct tm_error *err)
{
  struct gather g = {.out = out, .left = limit > 0 ? limit : GET_LIMIT};
  return tm_oss_stream(store, key, opts, gather, &g, info, cancel, err);
}

bool tm_oss_head(struct tm_oss *store, const char *key, struct tm_oss_info *info,
                 const struct tm_cancel *cancel, struct tm_error *err)
{
  *info = (struct tm_oss_info){.size = -1, .modified_ms = -1};
  return check_key(key, err) && store->backend->head(store, key, info, cancel, err);
}

bool tm_oss_delete(struct tm_oss *store, const char *key, const struct tm_cancel *cancel,
                   struct tm_error *err)
{
  if (!check_key(key, err))
    return false;
  tm_crash_point("oss.delete.before");
  bool ok = store->backend->delete (store, key, false, cancel, err);
  tm_crash_point("oss.delete.after");
  return ok;
}

void tm_oss_remove(struct tm_oss *store, const char *key)
{
  struct tm_error ignored;
  if (!store->backend->delete (store, key, true, NULL, &ignored))
    tm_log(TM_WARN, "%s", ignored.message);
}

/* Moves what is in `from` to the end of `to`. */
static bool join_failures(struct tm_oss_failures *to, struct tm_oss_failures *from)
{
  if (from->count == 0)
    return true;
  size_t cap = to->count + from->count;
  struct tm_oss_failure *items = realloc(to->items, cap * sizeof *items);
  if (items == NULL)
    return false;
  memcpy(items + to->count, from->items, from->count * sizeof *items);
  *to = (struct tm_oss_failures){.items = items, .count = cap, .cap = cap};
  free(from->items);
  *from = (struct tm_oss_failures){0};
  return true;
}

bool tm_oss_delete_many(struct tm_oss *store, const char *const *keys, size_t count,
                        struct tm_oss_failures *failed, const struct tm_cancel *cancel,
                        struct tm_error *err)
{
  *failed = (struct tm_oss_failures){0};
  for (size_t i = 0; i < count; i++)
    if (!check_key(keys[i], err))
      return false;
  for (size_t i = 0; i < count; i += DELETE_BATCH) {
    struct tm_oss_failures some = {0};
    size_t n = count - i < DELETE_BATCH ? count - i : DELETE_BATCH;
    tm_crash_point("oss.delete.before");
    bool ok = store->backend->delete_many(store, keys + i, n, &some, cancel, err);
    tm_crash_point("oss.delete.after");
    if (ok)
      ok = join_failures(failed, &some) || out_of_memory(err);
    tm_oss_failures_free(&some);
    if (!ok) {
      tm_oss_failures_free(failed);
      return false;
    }
  }
  return true;
}

bool tm_oss_copy(struct tm_oss *store, const char *from, const char *to,
                 const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                 const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_oss_info got = {.size = -1, .modified_ms = -1};
  if (!check_key(from, err) || !check_key(to, err) ||
      !store->backend->copy(store, from, to, opts, &got, cancel, err))
    return false;
  if (info != NULL)
    *info = got;
  else
    tm_oss_info_free(&got);
  return true;
}

bool tm_oss_list(struct tm_oss *store, const struct tm_oss_list_opts *opts,
                 const char *token, struct tm_oss_page *page,
                 const struct tm_cancel *cancel, struct tm_error *err)
{
  static const struct tm_oss_list_opts all;
  tm_oss_page_free(page);
  return store->backend->list(store, opts != NULL ? opts : &all, token, page, cancel,
                              err);
}

bool tm_oss_multipart_create(struct tm_oss *store, const char *key,
                             const struct tm_oss_put_opts *opts, char **upload_id,
                             const struct tm_cancel *cancel, struct tm_error *err)
{
  if (!check_key(key, err) || !check_meta(opts, err))
    return false;
  tm_crash_point("oss.upload.before");
  bool ok = store->backend->multipart_create(store, key, opts, upload_id, cancel, err);
  tm_crash_point("oss.upload.after");
  return ok;
}

bool tm_oss_multipart_part(struct tm_oss *store, const char *key, const char *upload_id,
                           int number, const void *bytes, size_t n,
                           struct tm_oss_part *part, const struct tm_cancel *cancel,
                           struct tm_error *err)
{
  if (number < 1 || number > 10000) {
    tm_error_set(err, TM_EUSAGE, "part number %d is not within 1 to 10000", number);
    return false;
  }
  if (!check_key(key, err))
    return false;
  tm_crash_point("oss.part.before");
  bool ok = store->backend->multipart_part(store, key, upload_id, number, bytes, n, part,
                                           cancel, err);
  tm_crash_point("oss.part.after");
  return ok;
}

bool tm_oss_multipart_complete(struct tm_oss *store, const char *key,
                               const char *upload_id, const struct tm_oss_part *parts,
                               size_t count, bool create_only, struct tm_oss_info *info,
                               const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_oss_info got = {.size = -1, .modified_ms = -1};
  if (count == 0) {
    tm_error_set(err, TM_EUSAGE, "an upload needs at least one part");
    return false;
  }
  if (!check_key(key, err))
    return false;
  tm_crash_point("oss.complete.before");
  if (!store->backend->multipart_complete(store, key, upload_id, parts, count,
                                          create_only, &got, cancel, err))
    return false;
  tm_crash_point("oss.complete.after");
  if (info != NULL)
    *info = got;
  else
    tm_oss_info_free(&got);
  return true;
}

bool tm_oss_multipart_abort(struct tm_oss *store, const char *key, const char *upload_id,
                            bool cleanup, struct tm_error *err)
{
  if (!check_key(key, err))
    return false;
  tm_crash_point("oss.abort.before");
  bool ok = store->backend->multipart_abort(store, key, upload_id, cleanup, err);
  tm_crash_point("oss.abort.after");
  return ok;
}

bool tm_oss_multipart_parts(struct tm_oss *store, const char *key, const char *upload_id,
                            struct tm_oss_parts *parts, const struct tm_cancel *cancel,
                            struct tm_error *err)
{
  *parts = (struct tm_oss_parts){0};
  return check_key(key, err) &&
         store->backend->multipart_parts(store, key, upload_id, parts, cancel, err);
}

bool tm_oss_multipart_uploads(struct tm_oss *store, const char *prefix,
                              struct tm_oss_uploads *uploads,
                              const struct tm_cancel *cancel, struct tm_error *err)
{
  *uploads = (struct tm_oss_uploads){0};
  return store->backend->multipart_uploads(store, prefix, uploads, cancel, err);
}
