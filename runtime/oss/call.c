/*
** call.c: one operation on a store over HTTP: built, signed, sent, judged, tried again
**
** Each try is signed anew: date, credentials, region and clock offset may have changed.
** Clock, token and region are each corrected once a call; what may pass is tried again
** after a jittered pause, at least twice however long the first tries took.
*/
#include "oss/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "driver/digest.h"
#include "oss/encode.h"

enum {
  BACKOFF_MS = 200, /* first pause is up to this, as in the vendors' clients */
  BACKOFF_CAP_MS = 20000,
  THROTTLED_MS = 1000, /* first pause when asked to slow down */
  RETRY_AFTER_CAP_MS = 60000,
  MIN_RETRIES = 2, /* whatever the clock says */
};

/* ---- building ---- */

static struct tm_pair *pair_find(struct tm_pairs *p, const char *name)
{
  for (size_t i = 0; i < p->count; i++)
    if (strcasecmp(p->items[i].name, name) == 0)
      return &p->items[i];
  return NULL;
}

static bool pair_set(struct tm_pairs *p, const char *name, const char *value)
{
  char *copy = value == NULL ? NULL : strdup(value);
  if (value != NULL && copy == NULL)
    return false;
  struct tm_pair *old = pair_find(p, name);
  if (old != NULL) {
    free((char *)old->value);
    old->value = copy;
    return true;
  }
  if (p->count == p->cap) {
    size_t cap = p->cap == 0 ? 16 : p->cap * 2;
    struct tm_pair *items = realloc(p->items, cap * sizeof *items);
    if (items == NULL) {
      free(copy);
      return false;
    }
    p->items = items;
    p->cap = cap;
  }
  char *name_copy = strdup(name);
  if (name_copy == NULL) {
    free(copy);
    return false;
  }
  p->items[p->count++] = (struct tm_pair){.name = name_copy, .value = copy};
  return true;
}

static void pairs_free(struct tm_pairs *p)
{
  for (size_t i = 0; i < p->count; i++) {
    free((char *)p->items[i].name);
    free((char *)p->items[i].value);
  }
  free(p->items);
  *p = (struct tm_pairs){0};
}

void tm_call_query(struct tm_call *call, const char *name, const char *value)
{
  if (!pair_set(&call->query, name, value))
    call->out_of_memory = true;
}

void tm_call_header(struct tm_call *call, const char *name, const char *value)
{
  if (!pair_set(&call->headers, name, value))
    call->out_of_memory = true;
}

void tm_call_no_header(struct tm_call *call, const char *name)
{
  struct tm_pair *p = pair_find(&call->headers, name);
  if (p == NULL)
    return;
  free((char *)p->name);
  free((char *)p->value);
  *p = call->headers.items[--call->headers.count];
}

void tm_call_vendor(struct tm_call *call, const char *name, const char *value)
{
  struct tm_buffer full = {0};
  bool oss = call->store->scheme == TM_OSS_OSS;
  if (tm_buffer_addf(&full, "x-%s-%s", oss ? "oss" : "amz", name) &&
      tm_buffer_cstr(&full) != NULL)
    tm_call_header(call, full.data, value);
  else
    call->out_of_memory = true;
  tm_buffer_free(&full);
}

void tm_call_create_only(struct tm_call *call)
{
  call->create_only = true;
  if (call->store->scheme == TM_OSS_OSS)
    tm_call_header(call, "x-oss-forbid-overwrite", "true");
  else
    tm_call_header(call, "If-None-Match", "*");
}

void tm_call_put_opts(struct tm_call *call, const struct tm_oss_put_opts *opts)
{
  static const struct tm_oss_put_opts defaults;
  if (opts == NULL)
    opts = &defaults;
  const char *type = opts->content_type;
  tm_call_header(call, "Content-Type", type != NULL ? type : "application/octet-stream");
  for (size_t i = 0; i < opts->meta_count; i++) {
    struct tm_buffer name = {0};
    if (tm_buffer_addf(&name, "meta-%s", opts->meta[i].name) &&
        tm_buffer_cstr(&name) != NULL)
      tm_call_vendor(call, name.data, opts->meta[i].value);
    else
      call->out_of_memory = true;
    tm_buffer_free(&name);
  }
  if (opts->create_only)
    tm_call_create_only(call);
}

void tm_call_free(struct tm_call *call)
{
  pairs_free(&call->query);
  pairs_free(&call->headers);
  tm_http_reply_free(&call->reply);
}

/* ---- one try ---- */

struct
try {
  struct tm_address address;
  int64_t skew_ms;
  struct tm_cred cred;
  char host[TM_HOST_SIZE * 2];
  char date[TM_DATE_SIZE];
  struct tm_buffer key, path, url;
  struct tm_signature signature;
  struct tm_pair *headers; /* all that go out, Host included, which libcurl sends */
  size_t header_count;
  struct tm_http_pair *sent;
  struct tm_http_request request;
};

static void try_free(struct try *t)
{
  tm_cred_free(&t->cred);
  tm_buffer_free(&t->key);
  tm_buffer_free(&t->path);
  tm_buffer_free(&t->url);
  tm_signature_free(&t->signature);
  free(t->headers);
  free(t->sent);
}

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static void add(struct try *t, const char *name, const char *value)
{
  t->headers[t->header_count++] = (struct tm_pair){.name = name, .value = value};
}

static bool hash_payload(struct tm_call *call, struct tm_error *err)
{
  unsigned char digest[TM_DIGEST_MAX];
  if (call->payload_hash[0] != '\0')
    return true;
  if (!tm_digest(TM_SHA256, call->body != NULL ? call->body : "", call->body_len, digest))
    return out_of_memory(err);
  tm_hex(digest, tm_digest_size(TM_SHA256), call->payload_hash);
  return true;
}

static bool add_dates(struct tm_call *call, struct try *t, int64_t now,
                      struct tm_error *err)
{
  const char *token = t->cred.token;
  switch (call->store->sign) {
  case TM_SIGN_OSS_V1:
    tm_date_rfc1123(now, t->date);
    add(t, "Date", t->date);
    break;
  case TM_SIGN_OSS_V4:
    tm_date_iso_basic(now, t->date);
    add(t, "x-oss-date", t->date);
    add(t, "x-oss-content-sha256", "UNSIGNED-PAYLOAD");
    break;
  case TM_SIGN_S3_V4:
    if (!hash_payload(call, err))
      return false;
    tm_date_iso_basic(now, t->date);
    add(t, "x-amz-date", t->date);
    add(t, "x-amz-content-sha256", call->payload_hash);
    break;
  case TM_SIGN_NONE:
    break;
  }
  if (token != NULL)
    add(t,
        call->store->scheme == TM_OSS_OSS ? "x-oss-security-token"
                                          : "x-amz-security-token",
        token);
  return true;
}

/* Address, credentials and URL; what signing needs. */
static bool prepare(struct tm_call *call, struct try *t, struct tm_error *err)
{
  struct tm_oss *s = call->store;
  pthread_mutex_lock(&s->lock);
  t->address = s->address;
  t->skew_ms = s->skew_ms;
  pthread_mutex_unlock(&s->lock);
  if (s->cred != NULL && !tm_cred_get(s->cred, &t->cred, call->cancel, err))
    return false;
  if (call->key != NULL &&
      !(tm_buffer_adds(&t->key, s->prefix) && tm_buffer_adds(&t->key, call->key)))
    return out_of_memory(err);
  if (tm_buffer_cstr(&t->key) == NULL ||
      !tm_address_of(&t->address, call->key != NULL ? t->key.data : NULL, t->host,
                     &t->path) ||
      tm_buffer_cstr(&t->path) == NULL ||
      !tm_buffer_addf(&t->url, "%s://%s%s", t->address.tls ? "https" : "http", t->host,
                      t->path.data))
    return out_of_memory(err);
  return true;
}

static struct tm_sign_request sign_request(struct tm_call *call, struct try *t)
{
  struct tm_oss *s = call->store;
  return (struct tm_sign_request){
      .scheme = s->sign,
      .method = call->method,
      .bucket = t->address.bucket,
      .key = t->key.data,
      .path = t->path.data,
      .region = t->address.region,
      .query = call->query.items,
      .query_count = call->query.count,
      .headers = t->headers,
      .header_count = t->header_count,
      .time = (tm_clock_wall_ms() + t->skew_ms) / 1000,
      .access_key_id = t->cred.id,
      .access_key_secret = t->cred.secret,
      .security_token = t->cred.token,
  };
}

static bool build(struct tm_call *call, struct try *t, struct tm_error *err)
{
  struct tm_oss *s = call->store;
  enum { OURS = 8 };
  if (!prepare(call, t, err))
    return false;
  t->headers = calloc(call->headers.count + OURS, sizeof *t->headers);
  t->sent = calloc(call->headers.count + OURS, sizeof *t->sent);
  if (t->headers == NULL || t->sent == NULL)
    return out_of_memory(err);
  for (size_t i = 0; i < call->headers.count; i++)
    t->headers[t->header_count++] = call->headers.items[i];
  int64_t now = (tm_clock_wall_ms() + t->skew_ms) / 1000;
  if (!add_dates(call, t, now, err))
    return false;
  size_t sent = t->header_count;
  add(t, "Host", t->host);
  if (s->sign != TM_SIGN_NONE) {
    struct tm_sign_request r = sign_request(call, t);
    r.time = now; /* the very second of the date header */
    r.payload_hash = call->payload_hash;
    if (!tm_sign(&r, &t->signature, err))
      return false;
  }
  if (call->query.count > 0 &&
      !(tm_buffer_addc(&t->url, '?') &&
        tm_query_string(call->query.items, call->query.count, &t->url)))
    return out_of_memory(err);
  if (tm_buffer_cstr(&t->url) == NULL)
    return out_of_memory(err);
  for (size_t i = 0; i < sent; i++)
    t->sent[i] = (struct tm_http_pair){t->headers[i].name, t->headers[i].value};
  if (s->sign != TM_SIGN_NONE)
    t->sent[sent++] =
        (struct tm_http_pair){"Authorization", t->signature.authorization.data};
  t->request = (struct tm_http_request){
      .method = call->method,
      .url = t->url.data,
      .headers = t->sent,
      .header_count = sent,
      .body = call->body,
      .body_len = call->body_len,
      .has_body = call->has_body,
      .stall_timeout_ms = call->stall_timeout_ms,
      .cancel = call->cancel,
      .on_body = call->on_body,
      .data = call->data,
  };
  return true;
}

/* ---- judging ---- */

static void hint(struct tm_call *call, const struct try *t, const struct tm_refusal *r,
                 struct tm_error *err)
{
  const struct tm_address *a = &t->address;
  const char *code = err->code;
  const char *where = a->host;
  if (err->hint[0] != '\0') /* whoever failed knows better */
    return;
  if (strcmp(code, "tls") == 0)
    tm_error_hint(err,
                  "the certificate of '%s' is not trusted: give ca_file when it has "
                  "an authority of its own",
                  where);
  else if (strcmp(code, "not-tls") == 0)
    tm_error_hint(err, "'%s' seems not to speak https: if it is right, say http://%s",
                  where, where);
  else if (err->kind == TM_ECONNECT || (err->kind == TM_ETIMEOUT && err->status == 0))
    tm_error_hint(err, "is the endpoint '%s' right, and reachable from here?%s", where,
                  strstr(where, "-internal.") != NULL
                      ? " an -internal one is reachable only inside its region"
                      : "");
  else if (r->endpoint[0] != '\0')
    tm_error_hint(err, "the bucket must be addressed at endpoint '%s'", r->endpoint);
  else if (r->verdict == TM_FIX_REGION)
    tm_error_hint(err, "check the region ('%s') and the endpoint ('%s')%s%s", a->region,
                  where, r->region[0] != '\0' ? "; the store names region " : "",
                  r->region);
  else if (strcmp(code, "NoSuchBucket") == 0)
    tm_error_hint(err,
                  "there is no bucket '%s' at '%s': check its name, the region and "
                  "the endpoint",
                  a->bucket, where);
  else if (strcmp(code, "SignatureDoesNotMatch") == 0 && a->region[0] == '\0')
    tm_error_hint(err, "check the access key secret");
  else if (strcmp(code, "SignatureDoesNotMatch") == 0)
    tm_error_hint(err, "check the access key secret, and the region ('%s')", a->region);
  else if (strcmp(code, "InvalidAccessKeyId") == 0)
    tm_error_hint(err, "the store at '%s' does not know this access key id", where);
  else if (strcmp(code, "SecondLevelDomainForbidden") == 0)
    tm_error_hint(err, "use addressing = \"virtual\", or \"cname\" with a custom domain");
  else if (strcmp(code, "RequestTimeTooSkewed") == 0)
    tm_error_hint(err, "this machine's clock and the store's differ");
  else if (strcmp(code, "InvalidObjectState") == 0)
    tm_error_hint(err, "the object is archived: restore it first");
  else if (err->kind == TM_EAUTH && call->store->cred == NULL)
    tm_error_hint(err, "the store is used without credentials (anonymous)");
  else if (err->kind == TM_EAUTH)
    tm_error_hint(err,
                  "does this access key have the permission? are region ('%s') and "
                  "endpoint ('%s') right?",
                  a->region, where);
}

/* A reply or its absence, as an error and a verdict. */
static void judge(struct tm_call *call, bool arrived, struct tm_refusal *r,
                  struct tm_error *err)
{
  if (arrived) {
    tm_reply_refusal(call->store->scheme, &call->reply, call->create_only, r, err);
    return;
  }
  *r = (struct tm_refusal){.server_ms = -1, .retry_after_ms = -1};
  bool again = tm_kind_retryable(err->kind) || err->kind == TM_EINTEGRITY;
  if (again && strcmp(err->code, "tls") != 0)
    r->verdict = err->kind == TM_ETHROTTLED ? TM_TRY_SLOWER : TM_TRY_AGAIN;
}

struct retries {
  int64_t began;
  int count; /* pauses taken; begins anew when bytes came */
  bool clock_fixed, token_fixed, region_fixed, fresh;
};

static bool fix(struct tm_call *call, const struct try *t, const struct tm_refusal *r,
                struct retries *n)
{
  struct tm_oss *s = call->store;
  bool fixed = false;
  pthread_mutex_lock(&s->lock);
  if (r->verdict == TM_FIX_CLOCK && !n->clock_fixed && r->server_ms >= 0) {
    n->clock_fixed = fixed = true;
    s->skew_ms = r->server_ms - tm_clock_wall_ms();
  } else if (r->verdict == TM_FIX_REGION && !n->region_fixed && r->region[0] != '\0') {
    n->region_fixed = true;
    /* false and yet fine: another thread was faster */
    fixed = tm_address_set_region(&s->address, r->region) ||
            strcmp(s->address.region, t->address.region) != 0;
  }
  pthread_mutex_unlock(&s->lock);
  if (r->verdict == TM_FIX_TOKEN && !n->token_fixed && s->cred != NULL) {
    n->token_fixed = fixed = true;
    tm_cred_invalidate(s->cred, &t->cred);
  }
  return fixed;
}

/* Pauses before the next try; false when there will be none (err kept or replaced). */
static bool pause_for(struct tm_call *call, const struct tm_refusal *r, struct retries *n,
                      struct tm_error *err)
{
  struct tm_oss *s = call->store;
  if (r->verdict != TM_TRY_AGAIN && r->verdict != TM_TRY_SLOWER)
    return false;
  if (call->progressed)
    n->count = 0;
  int tries_left = s->attempts - 1 - n->count;
  int64_t spent = tm_clock_mono_ms() - n->began;
  if (tries_left <= 0 || (n->count >= MIN_RETRIES && spent > s->retry_time_ms) ||
      (call->cleanup && spent > s->cleanup_ms))
    return false;
  int64_t base = r->verdict == TM_TRY_SLOWER ? THROTTLED_MS : BACKOFF_MS;
  int64_t ms = tm_clock_backoff_ms(n->count, base, BACKOFF_CAP_MS);
  if (r->retry_after_ms > ms)
    ms = r->retry_after_ms < RETRY_AFTER_CAP_MS ? r->retry_after_ms : RETRY_AFTER_CAP_MS;
  n->count++;
  if (call->cleanup) { /* no token may cut it short */
    struct timespec ts = {.tv_sec = 0, .tv_nsec = (ms < 500 ? ms : 500) * 1000000};
    nanosleep(&ts, NULL);
    return true;
  }
  struct tm_error stop;
  if (tm_clock_sleep(ms, call->cancel, &stop))
    return true;
  *err = stop;
  return false;
}

static void name_failure(struct tm_call *call, struct tm_error *err)
{
  char name[TM_OSS_NAME_SIZE];
  if (err->kind == TM_ECANCELED || err->kind == TM_EMEMORY)
    return;
  const char *under = call->under != NULL && call->under[0] != '\0' ? call->under : NULL;
  tm_oss_name(call->store, call->key != NULL ? call->key : under, name);
  struct tm_error inner = *err;
  snprintf(err->message, sizeof err->message, "cannot %s %s: %.380s", call->what, name,
           inner.message);
  if (call->tries > 1)
    tm_error_detail(err, "after %d tries", call->tries);
}

/* One try, from building to judging. True: it succeeded. */
static bool attempt(struct tm_call *call, struct retries *n, struct tm_refusal *r,
                    struct try *t, struct tm_error *err)
{
  *r = (struct tm_refusal){.verdict = TM_GIVE_UP, .server_ms = -1, .retry_after_ms = -1};
  call->progressed = false;
  if (call->prepare != NULL)
    call->prepare(call->data, call);
  if (call->out_of_memory)
    return out_of_memory(err);
  if (!build(call, t, err))
    return false;
  t->request.fresh = n->fresh;
  if (call->cleanup) {
    t->request.uninterruptible = true;
    t->request.deadline_ms = n->began + call->store->cleanup_ms;
  }
  if (call->settles)
    t->request.grace_ms = call->store->cleanup_ms;
  call->tries++;
  bool arrived = tm_http_send(call->store->http, &t->request, &call->reply, err);
  if (arrived && call->reply.status >= 200 && call->reply.status < 300 &&
      !(call->error_in_200 && tm_reply_is_error(&call->reply))) {
    if (call->check == NULL || call->check(call->data, call, err))
      return true;
    arrived = false;
  }
  int status = call->reply.status;
  judge(call, arrived, r, err);
  n->fresh = !arrived; /* a connection that broke is not trusted again */
  if (!arrived || status >= 500 || status < 300 || call->reply.resent)
    call->maybe_done = true;
  return false;
}

bool tm_call_send(struct tm_call *call, struct tm_error *err)
{
  struct retries n = {.began = tm_clock_mono_ms()};
  for (;;) {
    struct try t = {0};
    struct tm_refusal r;
    bool ok = attempt(call, &n, &r, &t, err);
    bool again = !ok && (fix(call, &t, &r, &n) || pause_for(call, &r, &n, err));
    if (again && tm_log_enabled(TM_DEBUG))
      tm_log(TM_DEBUG, "%s %s: try %d failed: %s", call->method, t.url.data, call->tries,
             err->message);
    if (!ok && !again)
      hint(call, &t, &r, err);
    try_free(&t);
    if (ok)
      return true;
    if (!again) {
      name_failure(call, err);
      return false;
    }
  }
}

bool tm_call_presign(struct tm_call *call, int64_t expires_s, struct tm_buffer *url,
                     struct tm_error *err)
{
  struct try t = {0};
  bool ok = !call->out_of_memory || out_of_memory(err);
  ok = ok && prepare(call, &t, err);
  if (ok && call->store->sign == TM_SIGN_NONE) {
    tm_error_set(err, TM_EUSAGE, "an anonymous store cannot sign a URL");
    ok = false;
  }
  if (ok) {
    t.headers = calloc(call->headers.count + 1, sizeof *t.headers);
    ok = t.headers != NULL || out_of_memory(err);
  }
  if (ok) {
    for (size_t i = 0; i < call->headers.count; i++)
      t.headers[t.header_count++] = call->headers.items[i];
    add(&t, "Host", t.host);
    struct tm_sign_request r = sign_request(call, &t);
    r.expires = expires_s;
    ok = (tm_buffer_addc(&t.url, '?') || out_of_memory(err)) &&
         tm_presign(&r, &t.url, err) &&
         (tm_buffer_add(url, t.url.data, t.url.len) || out_of_memory(err));
  }
  try_free(&t);
  return ok;
}
