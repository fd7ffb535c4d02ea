/*
** reply.c: what the stores' refusals and headers mean
**
** Codes decide where a store gives one; else the status does. The XML of listings is read
** in reply_xml.c.
*/
#include "oss/reply.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver/digest.h"
#include "driver/xml.h"
#include "oss/store.h"

static const struct {
  const char *code;
  enum tm_kind kind;
  enum tm_verdict verdict;
} codes[] = {
    {"InternalError", TM_ESERVER, TM_TRY_AGAIN},
    {"ServiceUnavailable", TM_ESERVER, TM_TRY_AGAIN},
    {"SlowDown", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"DownloadTrafficRateLimitExceeded", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"UploadTrafficRateLimitExceeded", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"MetaOperationQpsLimitExceeded", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"TotalQpsLimitExceeded", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"ActiveRequestLimitExceeded", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"CpuLimitExceeded", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"QpsLimitExceeded", TM_ETHROTTLED, TM_TRY_SLOWER},
    {"RequestTimeout", TM_ETIMEOUT, TM_TRY_AGAIN},
    {"RequestTimeTooSkewed", TM_EAUTH, TM_FIX_CLOCK},
    {"BadDigest", TM_EINTEGRITY, TM_TRY_AGAIN},
    {"InvalidDigest", TM_EINTEGRITY, TM_TRY_AGAIN},
    {"XAmzContentSHA256Mismatch", TM_EINTEGRITY, TM_TRY_AGAIN},
    {"IncompleteBody", TM_EIO, TM_TRY_AGAIN},
    {"OperationAborted", TM_ECONFLICT, TM_TRY_AGAIN},
    {"ConditionalRequestConflict", TM_ECONFLICT, TM_TRY_AGAIN},
    {"ExpiredToken", TM_EAUTH, TM_FIX_TOKEN},
    {"SecurityTokenExpired", TM_EAUTH, TM_FIX_TOKEN},
    {"InvalidSecurityToken", TM_EAUTH, TM_FIX_TOKEN},
    {"InvalidToken", TM_EAUTH, TM_FIX_TOKEN},
    {"PermanentRedirect", TM_EUSAGE, TM_FIX_REGION},
    {"TemporaryRedirect", TM_EUSAGE, TM_FIX_REGION},
    {"AuthorizationHeaderMalformed", TM_EAUTH, TM_FIX_REGION},
    {"IllegalLocationConstraintException", TM_EUSAGE, TM_FIX_REGION},
    {"NoSuchBucket", TM_ENOTFOUND, TM_GIVE_UP},
    {"NoSuchKey", TM_ENOTFOUND, TM_GIVE_UP},
    {"NoSuchUpload", TM_ENOTFOUND, TM_GIVE_UP},
    {"FileAlreadyExists", TM_EEXISTS, TM_GIVE_UP},
    {"PreconditionFailed", TM_ECONFLICT, TM_GIVE_UP},
    {"InvalidObjectState", TM_EUSAGE, TM_GIVE_UP},
};

/* Where the code is unknown or missing. */
static void by_status(int status, struct tm_refusal *out, struct tm_error *err)
{
  out->verdict = TM_GIVE_UP;
  if (status == 401 || status == 403) {
    err->kind = TM_EAUTH;
  } else if (status == 404) {
    err->kind = TM_ENOTFOUND;
  } else if (status == 409 || status == 412) {
    err->kind = TM_ECONFLICT;
  } else if (status == 408) {
    err->kind = TM_ETIMEOUT;
    out->verdict = TM_TRY_AGAIN;
  } else if (status == 429) {
    err->kind = TM_ETHROTTLED;
    out->verdict = TM_TRY_SLOWER;
  } else if (status == 301 || status == 307) {
    err->kind = TM_EUSAGE;
    out->verdict = TM_FIX_REGION;
  } else if (status == 501 || status == 505 || (status >= 400 && status < 500)) {
    err->kind = TM_EUSAGE;
  } else if (status >= 500) {
    err->kind = TM_ESERVER;
    out->verdict = TM_TRY_AGAIN;
  } else {
    err->kind = TM_EPROTOCOL;
  }
}

static void copy_text(char *out, size_t size, const char *text)
{
  if (text != NULL)
    snprintf(out, size, "%.*s", (int)size - 1, text);
}

/* Our form: first letter small unless a name follows, no full stop at the end. */
static void tidy(const char *text, char *out, size_t size)
{
  snprintf(out, size, "%.*s", (int)size - 1, text);
  size_t n = strlen(out);
  while (n > 0 && (out[n - 1] == '.' || isspace((unsigned char)out[n - 1])))
    out[--n] = '\0';
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)out[i] < 32)
      out[i] = ' ';
  if (isupper((unsigned char)out[0]) && islower((unsigned char)out[1]))
    out[0] = (char)tolower((unsigned char)out[0]);
}

static void read_error_xml(const struct tm_xml_node *root, char *message, size_t size,
                           struct tm_refusal *out, struct tm_error *err)
{
  copy_text(err->code, sizeof err->code, tm_xml_text(root, "Code"));
  copy_text(err->request_id, sizeof err->request_id, tm_xml_text(root, "RequestId"));
  copy_text(out->region, sizeof out->region, tm_xml_text(root, "Region"));
  copy_text(out->endpoint, sizeof out->endpoint, tm_xml_text(root, "Endpoint"));
  const char *text = tm_xml_text(root, "Message");
  if (text != NULL)
    tidy(text, message, size);
  const char *time = tm_xml_text(root, "ServerTime");
  if (time != NULL && (out->server_ms = tm_parse_iso_ms(time)) < 0)
    out->server_ms = tm_http_date_ms(time);
  const char *ec = tm_xml_text(root, "EC");
  if (ec != NULL && ec[0] != '\0')
    tm_error_detail(err, "OSS error cause %.40s", ec);
}

static void read_headers(const struct tm_http_reply *reply, struct tm_refusal *out,
                         struct tm_error *err)
{
  const char *id = tm_http_header(reply, "x-oss-request-id");
  if (id == NULL)
    id = tm_http_header(reply, "x-amz-request-id");
  if (id != NULL)
    copy_text(err->request_id, sizeof err->request_id, id);
  const char *region = tm_http_header(reply, "x-amz-bucket-region");
  if (region != NULL)
    copy_text(out->region, sizeof out->region, region);
  const char *date = tm_http_header(reply, "date");
  if (date != NULL && out->server_ms < 0)
    out->server_ms = tm_http_date_ms(date);
  const char *after = tm_http_header(reply, "retry-after");
  uint64_t seconds;
  if (after != NULL && tm_parse_u64(after, &seconds))
    out->retry_after_ms = seconds > 3600 ? 3600000 : (int64_t)seconds * 1000;
}

static const char *status_text(int status)
{
  switch (status) {
  case 301:
  case 307:
    return "the bucket is in another region";
  case 403:
    return "access denied";
  case 404:
    return "no such object";
  case 412:
    return "a precondition failed";
  case 416:
    return "the range lies beyond the end of the object";
  default:
    return "the store refused";
  }
}

void tm_reply_refusal(enum tm_oss_scheme scheme, const struct tm_http_reply *reply,
                      bool create_only, struct tm_refusal *out, struct tm_error *err)
{
  char message[400] = "";
  struct tm_error ignored;
  *out = (struct tm_refusal){.server_ms = -1, .retry_after_ms = -1};
  tm_error_set(err, TM_EPROTOCOL, "%s", "");
  const char *coded = tm_http_header(reply, "x-oss-err");
  struct tm_buffer decoded = {0}; /* HEAD has no body: OSS puts the XML into a header */
  const struct tm_buffer *body = &reply->body;
  if (body->len == 0 && coded != NULL && tm_unbase64(coded, strlen(coded), &decoded))
    body = &decoded;
  struct tm_xml *xml =
      body->len > 0 ? tm_xml_parse(body->data, body->len, &ignored) : NULL;
  if (xml != NULL && strcmp(tm_xml_root(xml)->name, "Error") == 0)
    read_error_xml(tm_xml_root(xml), message, sizeof message, out, err);
  tm_xml_free(xml);
  tm_buffer_free(&decoded);
  read_headers(reply, out, err);
  by_status(reply->status < 300 ? 500 : reply->status, out, err);
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
    if (strcmp(err->code, codes[i].code) == 0) {
      err->kind = codes[i].kind;
      out->verdict = codes[i].verdict;
    }
  err->status = reply->status;
  if (create_only &&
      (reply->status == 412 || strcmp(err->code, "FileAlreadyExists") == 0))
    err->kind = TM_EEXISTS;
  if (err->code[0] == '\0' && reply->status == 403 && out->server_ms >= 0) {
    int64_t off = out->server_ms - tm_clock_wall_ms(); /* HEAD of S3 says no more */
    if (off > 300000 || off < -300000)
      out->verdict = TM_FIX_CLOCK;
  }
  if (scheme == TM_OSS_OSS && out->verdict == TM_FIX_REGION && out->region[0] == '\0')
    out->verdict = TM_GIVE_UP;
  if (err->kind == TM_EEXISTS)
    snprintf(message, sizeof message, "the object exists already");
  snprintf(err->message, sizeof err->message, "%s",
           message[0] != '\0'     ? message
           : err->code[0] != '\0' ? err->code
                                  : status_text(reply->status));
  if (message[0] == '\0' && err->code[0] == '\0' && strlen(err->message) < 100)
    snprintf(err->message + strlen(err->message), 32, " (HTTP status %d)", reply->status);
}

bool tm_reply_is_error(const struct tm_http_reply *reply)
{
  if (reply->body.len == 0 ||
      memmem(reply->body.data, reply->body.len, "<Error", 6) == NULL)
    return false;
  struct tm_error ignored;
  struct tm_xml *xml = tm_xml_parse(reply->body.data, reply->body.len, &ignored);
  bool is = xml != NULL && strcmp(tm_xml_root(xml)->name, "Error") == 0;
  tm_xml_free(xml);
  return is;
}

bool tm_parse_u64(const char *text, uint64_t *out)
{
  if (!isdigit((unsigned char)text[0]))
    return false;
  char *end;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0')
    return false;
  *out = v;
  return true;
}

int64_t tm_parse_iso_ms(const char *text)
{
  struct tm t = {0};
  const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
  if (rest == NULL || t.tm_year > 8099 || t.tm_year < 70)
    return -1;
  int ms = 0;
  if (*rest == '.') {
    int scale = 100;
    for (rest++; isdigit((unsigned char)*rest); rest++, scale /= 10)
      ms += (*rest - '0') * scale;
  }
  return strcmp(rest, "Z") == 0 ? (int64_t)timegm(&t) * 1000 + ms : -1;
}

bool tm_reply_content_range(const struct tm_http_reply *reply, int64_t *first,
                            int64_t *last, int64_t *total)
{
  const char *v = tm_http_header(reply, "content-range");
  long long a, b, n;
  int used = 0;
  if (v == NULL || sscanf(v, "bytes %lld-%lld/%lld%n", &a, &b, &n, &used) != 3 ||
      v[used] != '\0' || a < 0 || b < a || n <= b)
    return false;
  *first = a;
  *last = b;
  *total = n;
  return true;
}

static bool add_meta(struct tm_oss_info *out, const char *name, size_t name_len,
                     const char *value)
{
  struct tm_oss_meta *more =
      realloc(out->meta, (out->meta_count + 1) * sizeof *out->meta);
  if (more == NULL)
    return false;
  out->meta = more;
  struct tm_oss_meta *m = &more[out->meta_count];
  m->name = strndup(name, name_len);
  m->value = strdup(value);
  if (m->name != NULL && m->value != NULL) {
    out->meta_count++;
    return true;
  }
  free(m->name);
  free(m->value);
  return false;
}

bool tm_reply_info(const struct tm_http_reply *reply, struct tm_oss_info *out,
                   struct tm_error *err)
{
  *out = (struct tm_oss_info){.size = -1, .modified_ms = -1};
  int64_t first, last;
  const char *v = tm_http_header(reply, "content-length");
  uint64_t n;
  if (!tm_reply_content_range(reply, &first, &last, &out->size) && v != NULL &&
      tm_parse_u64(v, &n) && n <= INT64_MAX)
    out->size = (int64_t)n;
  if ((v = tm_http_header(reply, "etag")) != NULL)
    tm_oss_etag(v, out->etag);
  if ((v = tm_http_header(reply, "last-modified")) != NULL)
    out->modified_ms = tm_http_date_ms(v);
  if ((v = tm_http_header(reply, "x-oss-hash-crc64ecma")) != NULL)
    out->has_crc64 = tm_parse_u64(v, &out->crc64);
  copy_text(out->content_type, sizeof out->content_type,
            tm_http_header(reply, "content-type"));
  if ((v = tm_http_header(reply, "x-oss-storage-class")) == NULL)
    v = tm_http_header(reply, "x-amz-storage-class");
  copy_text(out->storage_class, sizeof out->storage_class, v);
  if ((v = tm_http_header(reply, "x-oss-version-id")) == NULL)
    v = tm_http_header(reply, "x-amz-version-id");
  copy_text(out->version_id, sizeof out->version_id, v);
  size_t at = 0;
  for (const char *line; (line = tm_http_next_header(reply, &at)) != NULL;) {
    if (strncmp(line, "x-oss-meta-", 11) != 0 && strncmp(line, "x-amz-meta-", 11) != 0)
      continue;
    const char *colon = strchr(line, ':');
    if (!add_meta(out, line + 11, (size_t)(colon - line) - 11, colon + 2)) {
      tm_oss_info_free(out);
      tm_error_set(err, TM_EMEMORY, "out of memory");
      return false;
    }
  }
  return true;
}

void tm_oss_etag(const char *value, char out[128])
{
  if (strncmp(value, "W/", 2) == 0)
    value += 2;
  size_t n = strlen(value);
  if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
    value++;
    n -= 2;
  }
  if (n > 127)
    n = 127;
  memcpy(out, value, n);
  out[n] = '\0';
}
