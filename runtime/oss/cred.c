/*
** cred.c: where keys come from
**
** Explicit options, else the environment; a set read from the environment never expires.
*/
#include "oss/cred.h"

#include <stdlib.h>
#include <string.h>

struct tm_cred_chain {
  enum tm_cred_scheme scheme;
  struct tm_cred explicit_set; /* id NULL: none was given */
};

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static bool copy_set(struct tm_cred *out, const char *id, const char *secret,
                     const char *token)
{
  *out = (struct tm_cred){.id = strdup(id), .secret = strdup(secret)};
  if (token != NULL && token[0] != '\0')
    out->token = strdup(token);
  if (out->id != NULL && out->secret != NULL &&
      (token == NULL || token[0] == '\0' || out->token != NULL))
    return true;
  tm_cred_free(out);
  return false;
}

static bool given(const char *s)
{
  return s != NULL && s[0] != '\0';
}

struct tm_cred_chain *tm_cred_open(const struct tm_cred_opts *opts, struct tm_error *err)
{
  if (given(opts->id) != given(opts->secret)) {
    tm_error_set(err, TM_EUSAGE, "an access key needs both its id and its secret");
    return NULL;
  }
  struct tm_cred_chain *c = calloc(1, sizeof *c);
  if (c != NULL)
    c->scheme = opts->scheme;
  if (c == NULL || (given(opts->id) &&
                    !copy_set(&c->explicit_set, opts->id, opts->secret, opts->token))) {
    free(c);
    out_of_memory(err);
    return NULL;
  }
  return c;
}

void tm_cred_close(struct tm_cred_chain *chain)
{
  if (chain == NULL)
    return;
  tm_cred_free(&chain->explicit_set);
  free(chain);
}

static const struct names {
  const char *id, *secret, *token;
} environment[2][2] = {
    [TM_CRED_OSS] = {{"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"},
                     {"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                      "ALIBABA_CLOUD_SECURITY_TOKEN"}},
    [TM_CRED_S3] = {{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
                    {NULL, NULL, NULL}},
};

bool tm_cred_get(struct tm_cred_chain *chain, struct tm_cred *out,
                 const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)cancel;
  const struct tm_cred *set = &chain->explicit_set;
  if (set->id != NULL)
    return copy_set(out, set->id, set->secret, set->token) || out_of_memory(err);
  for (int i = 0; i < 2 && environment[chain->scheme][i].id != NULL; i++) {
    const struct names *n = &environment[chain->scheme][i];
    const char *id = getenv(n->id), *secret = getenv(n->secret);
    if (!given(id))
      continue;
    if (!given(secret)) {
      tm_error_set(err, TM_EAUTH, "%s is set but %s is not", n->id, n->secret);
      return false;
    }
    return copy_set(out, id, secret, getenv(n->token)) || out_of_memory(err);
  }
  tm_error_set(err, TM_EAUTH, "no access key: neither options nor environment have one");
  tm_error_hint(err, "set %s and %s", environment[chain->scheme][0].id,
                environment[chain->scheme][0].secret);
  return false;
}

void tm_cred_invalidate(struct tm_cred_chain *chain, const struct tm_cred *refused)
{
  (void)chain; /* neither source can give a newer set by itself */
  (void)refused;
}

static void wipe(char *s)
{
  if (s != NULL)
    explicit_bzero(s, strlen(s));
  free(s);
}

void tm_cred_free(struct tm_cred *cred)
{
  wipe(cred->id);
  wipe(cred->secret);
  wipe(cred->token);
  *cred = (struct tm_cred){0};
}
