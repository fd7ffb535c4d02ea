/*
** auth.c: verifies signatures by making them again from the request received
*/
#include "ossd/auth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/digest.h"
#include "driver/xml.h"
#include "oss/encode.h"

bool tm_ossd_refuse(struct tm_ossd_refusal *r, int status, const char *code,
                    const char *format, ...)
{
  va_list ap;
  r->status = status;
  snprintf(r->code, sizeof r->code, "%s", code);
  va_start(ap, format);
  vsnprintf(r->message, sizeof r->message, format, ap);
  va_end(ap);
  return false;
}

void tm_ossd_refusal_add(struct tm_ossd_refusal *r, const char *name, const char *text)
{
  size_t len = r->extra.len;
  if (!tm_buffer_addf(&r->extra, "<%s>", name) ||
      !tm_xml_escape(&r->extra, text, strlen(text)) ||
      !tm_buffer_addf(&r->extra, "</%s>", name))
    r->extra.len = len;
}

void tm_ossd_refusal_free(struct tm_ossd_refusal *r)
{
  tm_buffer_free(&r->extra);
}

static const struct tm_ossd_key *find_key(const struct tm_ossd_policy *policy,
                                          const char *id)
{
  for (size_t i = 0; i < policy->key_count; i++)
    if (strcmp(policy->keys[i].id, id) == 0)
      return &policy->keys[i];
  return NULL;
}

static bool check_skew(const struct tm_ossd_policy *policy, int64_t time, int64_t now,
                       struct tm_ossd_refusal *refusal)
{
  int64_t apart = time > now ? time - now : now - time;
  if (apart <= policy->max_skew)
    return true;
  char text[TM_DATE_SIZE];
  tm_date_iso(time, text);
  tm_ossd_refusal_add(refusal, "RequestTime", text);
  tm_date_iso(now, text);
  tm_ossd_refusal_add(refusal, "ServerTime", text);
  snprintf(text, sizeof text, "%lld", (long long)policy->max_skew * 1000);
  tm_ossd_refusal_add(refusal, "MaxAllowedSkewMilliseconds", text);
  return tm_ossd_refuse(refusal, 403, "RequestTimeTooSkewed",
                        "The difference between the request time and the current time "
                        "is too large.");
}

static bool expired(struct tm_ossd_refusal *refusal, int64_t expires, int64_t now)
{
  char text[TM_DATE_SIZE];
  tm_date_iso(expires, text);
  tm_ossd_refusal_add(refusal, "Expires", text);
  tm_date_iso(now, text);
  tm_ossd_refusal_add(refusal, "ServerTime", text);
  return tm_ossd_refuse(refusal, 403, "AccessDenied", "Request has expired.");
}

static bool read_integer(const char *text, int64_t *value)
{
  char *end;
  if (text[0] < '0' || text[0] > '9')
    return false;
  errno = 0;
  *value = strtoll(text, &end, 10);
  return *end == '\0' && errno == 0;
}

/* The V4 date of header or query; it must lie on the day of the scope. */
static bool v4_time(const struct tm_ossd_request *r, int64_t *time,
                    struct tm_ossd_refusal *refusal)
{
  const char *date = r->auth.presigned ? r->auth.date : tm_ossd_vendor_header(r, "date");
  if (date == NULL)
    date = tm_ossd_header(r, "date");
  if (date == NULL ||
      (!tm_date_parse_iso_basic(date, time) && !tm_date_parse_rfc1123(date, time)))
    return tm_ossd_refuse(refusal, 403, "AccessDenied",
                          "The request needs a valid date header.");
  char iso[TM_DATE_SIZE];
  tm_date_iso_basic(*time, iso);
  if (strncmp(iso, r->auth.day, 8) == 0)
    return true;
  if (r->s3)
    return tm_ossd_refuse(refusal, 400, "AuthorizationHeaderMalformed",
                          "The date of the credential is not the date of the request.");
  return tm_ossd_refuse(refusal, 400, "InvalidArgument",
                        "The date of the credential is not the date of the request.");
}

static bool check_times(const struct tm_ossd_request *r,
                        const struct tm_ossd_policy *policy, int64_t now,
                        struct tm_sign_request *s, struct tm_ossd_refusal *refusal)
{
  bool v1 = s->scheme == TM_SIGN_OSS_V1;
  if (v1 && r->auth.presigned) {
    if (!read_integer(r->auth.expires, &s->expires) || s->expires == 0)
      return tm_ossd_refuse(refusal, 403, "AccessDenied", "Invalid Expires parameter.");
    s->time = 0;
    return now <= s->expires || expired(refusal, s->expires, now);
  }
  if (v1) {
    const char *date = tm_ossd_header(r, "x-oss-date");
    if (date == NULL)
      date = tm_ossd_header(r, "date");
    if (date == NULL || !tm_date_parse_rfc1123(date, &s->time))
      return tm_ossd_refuse(refusal, 403, "AccessDenied",
                            "OSS authentication requires a valid Date.");
    return check_skew(policy, s->time, now, refusal);
  }
  if (!v4_time(r, &s->time, refusal))
    return false;
  if (!r->auth.presigned)
    return check_skew(policy, s->time, now, refusal);
  if (!read_integer(r->auth.expires, &s->expires) || s->expires < 1 ||
      s->expires > 604800)
    return tm_ossd_refuse(refusal, 400,
                          r->s3 ? "AuthorizationQueryParametersError" : "InvalidArgument",
                          "The validity must be 1 to 604800 seconds.");
  if (s->time > now + policy->max_skew)
    return tm_ossd_refuse(refusal, 403, "AccessDenied", "Request is not valid yet.");
  return now <= s->time + s->expires || expired(refusal, s->time + s->expires, now);
}

static bool is_member(const char *names, const char *name)
{
  size_t n = strlen(name);
  while (*names != '\0') {
    size_t len = strcspn(names, ";");
    if (len == n && strncmp(names, name, n) == 0)
      return true;
    names += len + (names[len] == ';');
  }
  return false;
}

static bool check_region(const struct tm_ossd_request *r,
                         const struct tm_ossd_policy *policy,
                         struct tm_ossd_refusal *refusal)
{
  if (policy->region == NULL || strcmp(policy->region, r->auth.region) == 0)
    return true;
  tm_ossd_refusal_add(refusal, "Region", policy->region);
  return tm_ossd_refuse(
      refusal, 400, r->s3 ? "AuthorizationHeaderMalformed" : "InvalidArgument",
      "The region '%s' is wrong; expecting '%s'.", r->auth.region, policy->region);
}

static bool check_s3_headers(const struct tm_ossd_request *r,
                             struct tm_ossd_refusal *refusal)
{
  const char *hash = tm_ossd_header(r, "x-amz-content-sha256");
  if (!r->auth.presigned && hash == NULL)
    return tm_ossd_refuse(refusal, 400, "MissingSecurityHeader",
                          "The header x-amz-content-sha256 is missing.");
  for (size_t i = 0; i < r->header_count; i++) {
    const char *name = r->headers[i].name;
    bool must = strcmp(name, "host") == 0 || strncmp(name, "x-amz-", 6) == 0;
    if (!must || is_member(r->auth.names, name))
      continue;
    tm_ossd_refusal_add(refusal, "HeadersNotSigned", name);
    return tm_ossd_refuse(
        refusal, 403, "AccessDenied",
        "There were headers present in the request which were not signed");
  }
  return true;
}

/* Every header that is said to be signed must be there. */
static bool check_names(const struct tm_ossd_request *r, struct tm_ossd_refusal *refusal)
{
  char name[128];
  for (const char *p = r->auth.names; *p != '\0';) {
    size_t n = strcspn(p, ";");
    snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : 0, p);
    if (!r->s3 &&
        (n == 0 || p[n + (p[n] == ';')] == ';' || (p[n] == ';' && p[n + 1] == '\0')))
      return tm_ossd_refuse(refusal, 400, "InvalidArgument",
                            "AdditionalHeaders has an empty member.");
    if (tm_ossd_header(r, name) == NULL && !r->s3)
      return tm_ossd_refuse(refusal, 400, "InvalidArgument",
                            "The additional header '%s' is not in the request.", name);
    p += n + (p[n] == ';');
  }
  return true;
}

static bool check_headers(const struct tm_ossd_request *r,
                          const struct tm_ossd_policy *policy,
                          struct tm_ossd_refusal *refusal)
{
  if (r->auth.scheme == TM_SIGN_OSS_V1)
    return true;
  if (!check_region(r, policy, refusal) || !check_names(r, refusal))
    return false;
  if (r->s3)
    return check_s3_headers(r, refusal);
  const char *hash = tm_ossd_header(r, "x-oss-content-sha256");
  if (!r->auth.presigned && (hash == NULL || strcmp(hash, "UNSIGNED-PAYLOAD") != 0))
    return tm_ossd_refuse(refusal, 400, "InvalidArgument",
                          "x-oss-content-sha256 must be UNSIGNED-PAYLOAD.");
  return true;
}

static bool check_token(const struct tm_ossd_request *r, const struct tm_ossd_key *key,
                        struct tm_ossd_refusal *refusal)
{
  const char *want = key->token == NULL ? "" : key->token;
  if (strlen(want) == strlen(r->auth.token) &&
      tm_same_secret(want, r->auth.token, strlen(want)))
    return true;
  if (r->s3)
    return tm_ossd_refuse(refusal, 400, "InvalidToken",
                          "The provided token is malformed or otherwise invalid.");
  return tm_ossd_refuse(refusal, 403, "InvalidSecurityToken",
                        "The security token you provided is invalid.");
}

static bool same_text(const struct tm_buffer *value, const char *given)
{
  size_t n = strlen(given);
  return n == value->len && tm_same_secret(value->data, given, n);
}

/* "k=" with nothing after it: clients sign it as "k" or as "k="; either is accepted. */
static bool bare_empty_values(struct tm_pair *query, size_t count)
{
  bool any = false;
  for (size_t i = 0; i < count; i++) {
    if (query[i].value != NULL && query[i].value[0] == '\0') {
      query[i].value = NULL;
      any = true;
    }
  }
  return any;
}

static void add_expected(struct tm_ossd_refusal *refusal, const struct tm_ossd_request *r,
                         const struct tm_signature *s)
{
  struct tm_buffer hex = {0};
  for (size_t i = 0; i < s->string_to_sign.len; i++)
    if (!tm_buffer_addf(&hex, i == 0 ? "%02X" : " %02X",
                        (unsigned)(unsigned char)s->string_to_sign.data[i]))
      break;
  tm_ossd_refusal_add(refusal, r->s3 ? "AWSAccessKeyId" : "OSSAccessKeyId", r->auth.id);
  tm_ossd_refusal_add(refusal, "SignatureProvided", r->auth.signature);
  tm_ossd_refusal_add(refusal, "StringToSign", s->string_to_sign.data);
  if (tm_buffer_cstr(&hex) != NULL)
    tm_ossd_refusal_add(refusal, "StringToSignBytes", hex.data);
  if (s->canonical_request.len > 0)
    tm_ossd_refusal_add(refusal, "CanonicalRequest", s->canonical_request.data);
  tm_buffer_free(&hex);
}

static bool compare_signature(const struct tm_ossd_request *r, struct tm_sign_request *s,
                              struct tm_pair *query, struct tm_ossd_refusal *refusal)
{
  struct tm_error err;
  struct tm_signature made = {0};
  bool same = tm_sign(s, &made, &err) && same_text(&made.value, r->auth.signature);
  if (!same && s->scheme == TM_SIGN_OSS_V4 && bare_empty_values(query, s->query_count))
    same = tm_sign(s, &made, &err) && same_text(&made.value, r->auth.signature);
  if (!same) {
    if (made.string_to_sign.data != NULL)
      add_expected(refusal, r, &made);
    tm_ossd_refuse(refusal, 403, "SignatureDoesNotMatch",
                   "The request signature we calculated does not match the signature you "
                   "provided. Check your key and signing method.");
  }
  tm_signature_free(&made);
  return same;
}

static bool check_signature(const struct tm_ossd_request *r,
                            const struct tm_ossd_policy *policy, int64_t now,
                            const struct tm_ossd_key *key, struct tm_ossd_identity *who,
                            struct tm_ossd_refusal *refusal)
{
  const char *hash = tm_ossd_header(r, "x-amz-content-sha256");
  if (hash == NULL)
    hash = tm_ossd_param(r, "X-Amz-Content-Sha256");
  struct tm_pair *query = calloc(r->query_count + 1, sizeof *query);
  if (query == NULL)
    return tm_ossd_refuse(refusal, 500, "InternalError", "Out of memory.");
  memcpy(query, r->query, r->query_count * sizeof *query);
  struct tm_sign_request s = {
      .scheme = r->auth.scheme,
      .method = r->method,
      .bucket = r->bucket,
      .key = r->key,
      .path = r->path,
      .region = r->auth.region,
      .query = query,
      .query_count = r->query_count,
      .headers = r->headers,
      .header_count = r->header_count,
      .additional_headers = r->s3 ? NULL : r->auth.names,
      .signed_headers = r->s3 ? r->auth.names : NULL,
      .payload_hash = hash,
      .access_key_id = key->id,
      .access_key_secret = key->secret,
  };
  bool ok = check_times(r, policy, now, &s, refusal) &&
            check_headers(r, policy, refusal) &&
            compare_signature(r, &s, query, refusal) && check_token(r, key, refusal);
  free(query);
  who->key = key;
  who->time = s.time;
  return ok;
}

bool tm_ossd_verify(const struct tm_ossd_request *r, const struct tm_ossd_policy *policy,
                    int64_t now, struct tm_ossd_identity *who,
                    struct tm_ossd_refusal *refusal)
{
  *who = (struct tm_ossd_identity){0};
  if (r->auth.scheme == TM_SIGN_NONE) {
    bool reads = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    if (policy->anonymous_read && reads && r->bucket[0] != '\0')
      return true;
    return tm_ossd_refuse(
        refusal, 403, "AccessDenied",
        "You have no right to access this object because of bucket acl.");
  }
  const struct tm_ossd_key *key = find_key(policy, r->auth.id);
  if (key == NULL) {
    tm_ossd_refusal_add(refusal, r->s3 ? "AWSAccessKeyId" : "OSSAccessKeyId", r->auth.id);
    return tm_ossd_refuse(
        refusal, 403, "InvalidAccessKeyId",
        "The access key id you provided does not exist in our records.");
  }
  return check_signature(r, policy, now, key, who, refusal);
}
