/*
** cred_role.c: keys of an instance's or a container's role, from its metadata service
**
** ECS: http://100.100.100.200, with a session token ("hardened mode"), without one where the
** service refuses to give it. EC2: http://169.254.169.254, always with one (IMDSv2). Elastic
** containers: the address that the environment names. No proxy is used, no redirect followed,
** and each request has about a second: off the clouds nobody answers.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cron/calendar.h"
#include "driver/json.h"
#include "oss/cred_source.h"
#include "oss/ini.h"

enum {
  TIMEOUT_MS = 1000,
  URL_SIZE = 1024,
  TOKEN_SIZE = 4096,
  ROLE_SIZE = 256,
  LARGEST = 64 * 1024
};

struct vendor { /* the two services differ in names only */
  const char *base;
  const char *ttl_header, *token_header;
  const char *list_path;           /* role names; the keys lie one level below */
  const char *id, *secret, *token; /* members of the reply */
  const char *switched_off;        /* variable of the environment that says "true" */
};

static const struct vendor vendors[] = {
    [TM_CRED_OSS] = {"http://100.100.100.200", "X-aliyun-ecs-metadata-token-ttl-seconds",
                     "X-aliyun-ecs-metadata-token",
                     "/latest/meta-data/ram/security-credentials/", "AccessKeyId",
                     "AccessKeySecret", "SecurityToken",
                     "ALIBABA_CLOUD_ECS_METADATA_DISABLED"},
    [TM_CRED_S3] = {"http://169.254.169.254", "X-aws-ec2-metadata-token-ttl-seconds",
                    "X-aws-ec2-metadata-token",
                    "/latest/meta-data/iam/security-credentials/", "AccessKeyId",
                    "SecretAccessKey", "Token", "AWS_EC2_METADATA_DISABLED"},
};

struct asking {
  const struct vendor *vendor;
  struct tm_http *http;
  const struct tm_cancel *cancel;
  struct tm_buffer *looked;
  struct tm_error *err;
  char base[URL_SIZE];
  char session[TOKEN_SIZE]; /* of the metadata service; "" none */
};

static bool given(const char *s)
{
  return s != NULL && s[0] != '\0';
}

static bool is_true(const char *variable)
{
  const char *value = getenv(variable);
  return value != NULL && strcmp(value, "true") == 0;
}

/* One request. False: no answer, or none that fits; *err says so, and TM_ECANCELED,
** TM_EMEMORY are final. */
static bool ask(struct asking *a, const char *method, const char *url,
                const struct tm_http_pair *header, struct tm_http_reply *reply)
{
  struct tm_http_request request = {.method = method,
                                    .url = url,
                                    .headers = header,
                                    .header_count = header != NULL ? 1 : 0,
                                    .has_body = strcmp(method, "PUT") == 0,
                                    .stall_timeout_ms = TIMEOUT_MS,
                                    .deadline_ms = tm_clock_mono_ms() + 2 * TIMEOUT_MS,
                                    .cancel = a->cancel,
                                    .body_limit = LARGEST};
  return tm_http_send(a->http, &request, reply, a->err);
}

static void wipe_reply(struct tm_http_reply *reply)
{
  if (reply->body.data != NULL)
    explicit_bzero(reply->body.data, reply->body.cap);
  tm_http_reply_free(reply);
}

/* ABSENT unless the wait was ended or memory ran out. */
static enum tm_cred_answer no_answer(struct asking *a, const char *what)
{
  if (a->err->kind == TM_ECANCELED || a->err->kind == TM_EMEMORY)
    return TM_CRED_FAILED;
  tm_cred_looked(a->looked, "%s (no answer)", what);
  return TM_CRED_ABSENT;
}

/* ---- the keys ---- */

/* Milliseconds since 1970 of "2026-01-02T03:04:05Z"; 0 for no text, -1 for an unknown form. */
static int64_t expiry_of(const char *text)
{
  struct tm_civil civil;
  struct tm_error ignored;
  int32_t nanos, offset;
  if (text == NULL)
    return 0;
  if (!tm_calendar_parse(text, &civil, &nanos, &offset, &ignored))
    return -1;
  return (tm_calendar_local(&civil) - (offset == INT32_MIN ? 0 : offset)) * 1000;
}

static enum tm_cred_answer read_keys(struct asking *a, const struct tm_http_reply *reply,
                                     const char *what, struct tm_cred *out)
{
  struct tm_json *json = tm_json_open(reply->body.data != NULL ? reply->body.data : "",
                                      reply->body.len, what, a->err);
  if (json == NULL)
    return TM_CRED_FAILED;
  const char *code = tm_json_text(json, "Code");
  const char *id = tm_json_text(json, a->vendor->id);
  const char *secret = tm_json_text(json, a->vendor->secret);
  int64_t expires_ms = expiry_of(tm_json_text(json, "Expiration"));
  enum tm_cred_answer answer = TM_CRED_FAILED;
  if (code != NULL && strcmp(code, "Success") != 0)
    tm_error_set(a->err, TM_EAUTH, "%s answers '%.100s' instead of keys", what, code);
  else if (id == NULL || secret == NULL || expires_ms < 0)
    tm_error_set(a->err, TM_EPROTOCOL, "%s answers without keys or with a bad expiration",
                 what);
  else if (tm_cred_copy(out, id, secret, tm_json_text(json, a->vendor->token), a->err))
    answer = TM_CRED_FOUND;
  out->expires_ms = expires_ms;
  tm_json_close(json);
  return answer;
}

/* ---- instances ---- */

/* Gets a->session; false: no use going on, *answer says how it ended. */
static bool open_session(struct asking *a, bool may_go_without, const char *what,
                         enum tm_cred_answer *answer)
{
  char url[URL_SIZE + 32];
  struct tm_http_pair ttl = {a->vendor->ttl_header, "21600"};
  struct tm_http_reply reply = {0};
  snprintf(url, sizeof url, "%s/latest/api/token", a->base);
  bool sent = ask(a, "PUT", url, &ttl, &reply), ok = false;
  int status = reply.status;
  if (!sent) {
    *answer = no_answer(a, what);
  } else if (status == 200 && reply.body.len > 0 && reply.body.len < TOKEN_SIZE &&
             strcspn(reply.body.data, "\r\n") == reply.body.len) {
    memcpy(a->session, reply.body.data, reply.body.len);
    a->session[reply.body.len] = '\0';
    ok = true;
  } else if (may_go_without && (status == 403 || status == 404 || status == 405)) {
    ok = true;
  } else {
    tm_cred_looked(a->looked, "%s (refuses a session token: HTTP status %d)", what,
                   status);
    *answer = TM_CRED_ABSENT;
  }
  wipe_reply(&reply);
  return ok;
}

static enum tm_cred_answer get(struct asking *a, const char *path, const char *what,
                               struct tm_http_reply *reply)
{
  char url[URL_SIZE * 2];
  struct tm_http_pair session = {a->vendor->token_header, a->session};
  snprintf(url, sizeof url, "%s%s", a->base, path);
  if (!ask(a, "GET", url, a->session[0] != '\0' ? &session : NULL, reply))
    return no_answer(a, what);
  if (reply->status == 200)
    return TM_CRED_FOUND;
  if (reply->status == 404)
    tm_cred_looked(a->looked, "%s (the instance has no such role)", what);
  else
    tm_cred_looked(a->looked, "%s (HTTP status %d)", what, reply->status);
  return TM_CRED_ABSENT;
}

/* Whether the first n bytes can be the name of a role. */
static bool is_role_name(const char *text, size_t n)
{
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_+=,.@-";
  return n > 0 && n < ROLE_SIZE && strspn(text, allowed) >= n;
}

/* The first line that the service lists. */
static enum tm_cred_answer first_role(struct asking *a, const char *what,
                                      char role[ROLE_SIZE])
{
  struct tm_http_reply reply = {0};
  enum tm_cred_answer answer = get(a, a->vendor->list_path, what, &reply);
  if (answer == TM_CRED_FOUND) {
    const char *text = reply.body.data != NULL ? reply.body.data : "";
    size_t n = strcspn(text, "\r\n");
    if (is_role_name(text, n)) {
      memcpy(role, text, n);
      role[n] = '\0';
    } else {
      tm_cred_looked(a->looked, "%s (the instance has no role)", what);
      answer = TM_CRED_ABSENT;
    }
  }
  tm_http_reply_free(&reply);
  return answer;
}

static enum tm_cred_answer from_instance(struct asking *a,
                                         const struct tm_cred_opts *opts,
                                         const char *role, struct tm_cred *out)
{
  bool oss = opts->scheme == TM_CRED_OSS;
  char name[ROLE_SIZE], path[512], what[URL_SIZE + 64];
  const char *service = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  enum tm_cred_answer answer = TM_CRED_ABSENT;
  struct tm_http_reply reply = {0};
  if (given(role) && !is_role_name(role, strlen(role))) {
    tm_error_set(a->err, TM_EUSAGE, "'%.100s' cannot be the name of a role", role);
    return TM_CRED_FAILED;
  }
  if (is_true(a->vendor->switched_off)) {
    tm_cred_looked(a->looked, "instance metadata (%s is true)", a->vendor->switched_off);
    return TM_CRED_ABSENT;
  }
  snprintf(a->base, sizeof a->base, "%s",
           given(opts->metadata_url) ? opts->metadata_url
           : !oss && given(service)  ? service
                                     : a->vendor->base);
  size_t n = strlen(a->base);
  if (n > 0 && a->base[n - 1] == '/')
    a->base[n - 1] = '\0';
  snprintf(what, sizeof what, "instance metadata at %.600s", a->base);
  if (!open_session(a, oss && !is_true("ALIBABA_CLOUD_IMDSV1_DISABLED"), what, &answer))
    return answer;
  snprintf(name, sizeof name, "%s", given(role) ? role : "");
  answer = given(role) ? TM_CRED_FOUND : first_role(a, what, name);
  if (answer != TM_CRED_FOUND)
    return answer;
  snprintf(path, sizeof path, "%s%s", a->vendor->list_path, name);
  answer = get(a, path, what, &reply);
  if (answer == TM_CRED_FOUND)
    answer = read_keys(a, &reply, what, out);
  wipe_reply(&reply);
  return answer;
}

/* ---- containers ---- */

/* Plain http only to the host itself and the addresses that the cloud reserves for this. */
static bool is_safe(const char *url)
{
  static const char *const hosts[] = {"http://127.0.0.1",      "http://localhost",
                                      "http://[::1]",          "http://169.254.170.2",
                                      "http://169.254.170.23", "http://[fd00:ec2::23]"};
  if (strncmp(url, "https://", 8) == 0)
    return true;
  for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
    size_t n = strlen(hosts[i]);
    if (strncmp(url, hosts[i], n) == 0 && strchr(":/", url[n]) != NULL)
      return true;
  }
  return false;
}

/* The Authorization header's value: from the environment, or a file that is read anew each
** time, since it is renewed. */
static bool container_token(char *token, struct tm_error *err)
{
  const char *file = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  const char *value = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  char *text = NULL;
  size_t length = 0;
  if (given(file)) {
    text = tm_read_file(file, &length, err);
    if (text == NULL)
      return false;
    value = text;
  }
  size_t n = value != NULL ? strcspn(value, "\r\n") : 0;
  bool ok = n < TOKEN_SIZE;
  if (ok && n > 0)
    memcpy(token, value, n);
  token[ok ? n : 0] = '\0';
  if (text != NULL)
    explicit_bzero(text, length);
  free(text);
  if (!ok)
    tm_error_set(err, TM_EUSAGE, "the container's authorization token is too long");
  return ok;
}

static enum tm_cred_answer from_container(struct asking *a, struct tm_cred *out)
{
  const char *relative = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const char *full = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  char url[URL_SIZE], what[URL_SIZE + 64];
  struct tm_http_reply reply = {0};
  if (!given(relative) && !given(full))
    return TM_CRED_ABSENT;
  snprintf(url, sizeof url, "%s%s", given(relative) ? "http://169.254.170.2" : "",
           given(relative) ? relative : full);
  if (!is_safe(url)) {
    tm_error_set(a->err, TM_EUSAGE,
                 "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on this host");
    return TM_CRED_FAILED;
  }
  if (!container_token(a->session, a->err))
    return TM_CRED_FAILED;
  struct tm_http_pair authorization = {"Authorization", a->session};
  size_t end = strcspn(url, "?");
  snprintf(what, sizeof what, "container credentials at %.*s", (int)end, url);
  enum tm_cred_answer answer = TM_CRED_FOUND;
  if (!ask(a, "GET", url, a->session[0] != '\0' ? &authorization : NULL, &reply)) {
    answer = no_answer(a, what);
  } else if (reply.status != 200) {
    tm_cred_looked(a->looked, "%s (HTTP status %d)", what, reply.status);
    answer = TM_CRED_ABSENT;
  } else {
    answer = read_keys(a, &reply, what, out);
  }
  wipe_reply(&reply);
  explicit_bzero(a->session, sizeof a->session);
  return answer;
}

enum tm_cred_answer tm_cred_from_role(const struct tm_cred_opts *opts, const char *role,
                                      struct tm_http *http, struct tm_cred *out,
                                      struct tm_buffer *looked,
                                      const struct tm_cancel *cancel,
                                      struct tm_error *err)
{
  struct asking a = {.vendor = &vendors[opts->scheme],
                     .http = http,
                     .cancel = cancel,
                     .looked = looked,
                     .err = err};
  enum tm_cred_answer answer = TM_CRED_ABSENT;
  *out = (struct tm_cred){.id = NULL};
  if (opts->scheme == TM_CRED_S3 && !given(role))
    answer = from_container(&a, out);
  if (answer == TM_CRED_ABSENT)
    answer = from_instance(&a, opts, role, out);
  explicit_bzero(a.session, sizeof a.session);
  return answer;
}
