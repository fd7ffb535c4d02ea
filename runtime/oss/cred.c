/*
** cred.c: where keys come from, and keeping them fresh
**
** The chain holds one set. A set with an expiry is renewed early: five minutes before, or
** halfway when less is left. One thread fetches, without the lock; the others go on with
** the old set while it is valid and wait when it is not. When a renewal fails while the
** old set is valid, the next try is a while later.
*/
#include "oss/cred.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "oss/cred_source.h"

enum {
  EARLY_MS = 5 * 60 * 1000, /* before the expiry */
  AGAIN_MS = 30 * 1000,     /* after a renewal that failed */
  METADATA_MS = 1000,       /* to connect to a metadata service */
  WAKE_MS = 100,            /* how often a waiting thread looks for a cancel */
};

struct tm_cred_chain {
  struct tm_cred_opts opts; /* owned strings */
  struct tm_http *http;     /* opened by the fetching thread, when a role is asked */
  pthread_mutex_t lock;     /* guards what follows */
  pthread_cond_t changed;   /* a fetch has ended */
  struct tm_cred set;       /* id NULL: nothing yet */
  int64_t renew_ms;         /* wall clock; 0: never */
  bool refused;             /* the store did not take the set */
  bool fetching;
};

/* ---- a chain's birth and end ---- */

static bool given(const char *s)
{
  return s != NULL && s[0] != '\0';
}

static void wipe(const char *s)
{
  if (s != NULL)
    explicit_bzero((char *)s, strlen(s));
  free((char *)s);
}

void tm_cred_free(struct tm_cred *cred)
{
  wipe(cred->id);
  wipe(cred->secret);
  wipe(cred->token);
  *cred = (struct tm_cred){.id = NULL};
}

/* Copies a string unless it is empty; clears *ok when memory runs out. */
static const char *copy(const char *s, bool *ok)
{
  char *own = given(s) ? strdup(s) : NULL;
  if (given(s) && own == NULL)
    *ok = false;
  return own;
}

struct tm_cred_chain *tm_cred_open(const struct tm_cred_opts *o, struct tm_error *err)
{
  if (given(o->id) != given(o->secret)) {
    tm_error_set(err, TM_EUSAGE, "an access key needs both its id and its secret");
    return NULL;
  }
  struct tm_cred_chain *c = calloc(1, sizeof *c);
  bool ok = c != NULL;
  if (ok) {
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->opts = (struct tm_cred_opts){.scheme = o->scheme,
                                    .id = copy(o->id, &ok),
                                    .secret = copy(o->secret, &ok),
                                    .token = copy(o->token, &ok),
                                    .profile = copy(o->profile, &ok),
                                    .role_name = copy(o->role_name, &ok),
                                    .metadata_url = copy(o->metadata_url, &ok)};
  }
  if (ok)
    return c;
  tm_cred_close(c);
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return NULL;
}

void tm_cred_close(struct tm_cred_chain *c)
{
  if (c == NULL)
    return;
  tm_http_close(c->http);
  tm_cred_free(&c->set);
  wipe(c->opts.id);
  wipe(c->opts.secret);
  wipe(c->opts.token);
  free((char *)c->opts.profile);
  free((char *)c->opts.role_name);
  free((char *)c->opts.metadata_url);
  pthread_cond_destroy(&c->changed);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

/* ---- asking the places ---- */

static bool ask_role(struct tm_cred_chain *c, const char *role, struct tm_cred *out,
                     struct tm_buffer *looked, const struct tm_cancel *cancel,
                     struct tm_error *err, enum tm_cred_answer *answer)
{
  const struct tm_http_opts opts = {.connect_timeout_ms = METADATA_MS,
                                    .stall_timeout_ms = METADATA_MS};
  if (c->http == NULL && (c->http = tm_http_open(&opts, err)) == NULL)
    *answer = TM_CRED_FAILED;
  else
    *answer = tm_cred_from_role(&c->opts, role, c->http, out, looked, cancel, err);
  return *answer != TM_CRED_ABSENT;
}

/* The profile's keys, or those of the role that it names. */
static bool ask_profile(struct tm_cred_chain *c, struct tm_cred *out,
                        struct tm_buffer *looked, const struct tm_cancel *cancel,
                        struct tm_error *err, enum tm_cred_answer *answer)
{
  struct tm_profile profile;
  *answer = tm_profile_load(&c->opts, NULL, &profile, looked, err);
  if (*answer != TM_CRED_FOUND)
    return *answer == TM_CRED_FAILED;
  *answer = TM_CRED_ABSENT;
  if (profile.set.id != NULL) {
    *out = profile.set;
    profile.set = (struct tm_cred){.id = NULL};
    *answer = TM_CRED_FOUND;
  } else if (profile.role_name != NULL) {
    ask_role(c, profile.role_name, out, looked, cancel, err, answer);
  }
  tm_profile_free(&profile);
  return *answer != TM_CRED_ABSENT;
}

static bool nothing_found(const struct tm_cred_chain *c, struct tm_buffer *looked,
                          struct tm_error *err)
{
  bool oss = c->opts.scheme == TM_CRED_OSS;
  const char *places = tm_buffer_cstr(looked);
  tm_error_set(err, TM_EAUTH, "no credentials for %s: looked at %s", oss ? "oss" : "s3",
               places != NULL ? places : "nothing");
  memcpy(err->code, "no-key", 7);
  tm_error_hint(err, "set %s, or give anonymous = true for a public bucket",
                oss ? "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
                    : "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
  return false;
}

/* Asks in order. A profile or role that the options name goes before the environment. */
static bool fetch(struct tm_cred_chain *c, struct tm_cred *out,
                  const struct tm_cancel *cancel, struct tm_error *err)
{
  const struct tm_cred_opts *o = &c->opts;
  struct tm_buffer looked = {0};
  enum tm_cred_answer answer = TM_CRED_ABSENT;
  *out = (struct tm_cred){.id = NULL};
  if (given(o->id)) {
    answer = tm_cred_copy(out, o->id, o->secret, o->token, err) ? TM_CRED_FOUND
                                                                : TM_CRED_FAILED;
  } else if (given(o->role_name)) {
    ask_role(c, o->role_name, out, &looked, cancel, err, &answer);
  } else if (given(o->profile)) {
    ask_profile(c, out, &looked, cancel, err, &answer);
  } else {
    answer = tm_cred_from_environment(o->scheme, out, &looked, err);
    if (answer == TM_CRED_ABSENT && !ask_profile(c, out, &looked, cancel, err, &answer))
      ask_role(c, o->scheme == TM_CRED_OSS ? getenv("ALIBABA_CLOUD_ECS_METADATA") : NULL,
               out, &looked, cancel, err, &answer);
  }
  if (answer == TM_CRED_ABSENT)
    nothing_found(c, &looked, err);
  tm_buffer_free(&looked);
  return answer == TM_CRED_FOUND;
}

/* ---- keeping a set ---- */

static int64_t renewal_of(const struct tm_cred *set, int64_t now)
{
  if (set->expires_ms == 0)
    return 0;
  int64_t left = set->expires_ms - now;
  return left > 2 * EARLY_MS ? set->expires_ms - EARLY_MS : now + left / 2;
}

static bool is_valid(const struct tm_cred_chain *c, int64_t now)
{
  return c->set.id != NULL && !c->refused &&
         (c->set.expires_ms == 0 || now < c->set.expires_ms);
}

static bool copy_out(const struct tm_cred_chain *c, struct tm_cred *out,
                     struct tm_error *err)
{
  if (!tm_cred_copy(out, c->set.id, c->set.secret, c->set.token, err))
    return false;
  out->expires_ms = c->set.expires_ms;
  return true;
}

/* Fetches; called and left with the lock held, which it gives up meanwhile. */
static bool renew(struct tm_cred_chain *c, const struct tm_cancel *cancel,
                  struct tm_error *err)
{
  struct tm_cred set;
  c->fetching = true;
  pthread_mutex_unlock(&c->lock);
  bool ok = fetch(c, &set, cancel, err);
  pthread_mutex_lock(&c->lock);
  c->fetching = false;
  pthread_cond_broadcast(&c->changed);
  int64_t now = tm_clock_wall_ms();
  if (ok) {
    tm_cred_free(&c->set);
    c->set = set;
    c->refused = false;
    c->renew_ms = renewal_of(&set, now);
    return true;
  }
  tm_cred_free(&set);
  if (!is_valid(c, now) || err->kind == TM_ECANCELED)
    return false;
  tm_log(TM_WARN, "credentials are used on until they expire: %s", err->message);
  c->renew_ms = now + AGAIN_MS;
  return true;
}

/* Waits for the end of another's fetch, with the lock held. */
static bool wait_for_fetch(struct tm_cred_chain *c, const struct tm_cancel *cancel,
                           struct tm_error *err)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += WAKE_MS * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_cond_timedwait(&c->changed, &c->lock, &until);
  if (!tm_cancel_fired(cancel) && !tm_cancel_fired(tm_interrupt()))
    return true;
  tm_error_set(err, TM_ECANCELED, "cancelled");
  return false;
}

bool tm_cred_get(struct tm_cred_chain *c, struct tm_cred *out,
                 const struct tm_cancel *cancel, struct tm_error *err)
{
  bool ok = true, done = false;
  *out = (struct tm_cred){.id = NULL};
  pthread_mutex_lock(&c->lock);
  while (ok && !done) {
    int64_t now = tm_clock_wall_ms();
    bool valid = is_valid(c, now);
    if (valid && (c->fetching || c->renew_ms == 0 || now < c->renew_ms))
      done = true;
    else if (c->fetching)
      ok = wait_for_fetch(c, cancel, err);
    else
      ok = done = renew(c, cancel, err);
  }
  ok = ok && copy_out(c, out, err);
  pthread_mutex_unlock(&c->lock);
  return ok;
}

static bool same(const char *a, const char *b)
{
  return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

void tm_cred_invalidate(struct tm_cred_chain *c, const struct tm_cred *refused)
{
  pthread_mutex_lock(&c->lock);
  if (same(c->set.id, refused->id) && same(c->set.token, refused->token))
    c->refused = true; /* another set may be here already */
  pthread_mutex_unlock(&c->lock);
}

/* ---- settings ---- */

static bool any_set(const char *a, const char *b)
{
  return given(getenv(a)) || given(getenv(b));
}

bool tm_cred_settings(const struct tm_cred_opts *opts, const char *bucket,
                      struct tm_cred_settings *out, struct tm_error *err)
{
  struct tm_buffer looked = {0};
  struct tm_profile profile;
  bool oss = opts->scheme == TM_CRED_OSS;
  *out = (struct tm_cred_settings){.region = NULL};
  enum tm_cred_answer answer = tm_profile_load(opts, bucket, &profile, &looked, err);
  tm_buffer_free(&looked);
  if (answer == TM_CRED_FAILED)
    return false;
  bool env_endpoint = oss ? any_set("OSS_ENDPOINT", "OSS_ENDPOINT")
                          : any_set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  bool env_region = oss ? any_set("OSS_REGION", "OSS_REGION")
                        : any_set("AWS_REGION", "AWS_DEFAULT_REGION");
  if (!env_endpoint) {
    out->endpoint = profile.endpoint;
    out->addressing = profile.addressing;
    profile.endpoint = profile.addressing = NULL;
  } else if (profile.addressing != NULL && strcmp(profile.addressing, "cname") != 0) {
    out->addressing = profile.addressing;
    profile.addressing = NULL;
  }
  if (!env_region) {
    out->region = profile.region;
    profile.region = NULL;
  }
  tm_profile_free(&profile);
  return true;
}

void tm_cred_settings_free(struct tm_cred_settings *s)
{
  free(s->endpoint);
  free(s->region);
  free(s->addressing);
  *s = (struct tm_cred_settings){.region = NULL};
}
