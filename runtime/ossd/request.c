/*
** request.c: an HTTP request as ossd understands it
*/
#include "ossd/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "oss/encode.h"

struct tm_ossd_text {
  struct tm_ossd_text *next;
  char bytes[];
};

static bool refuse(struct tm_error *err, const char *code, const char *message)
{
  tm_error_set(err, TM_EDATA, "%s", message);
  snprintf(err->code, sizeof err->code, "%s", code);
  return false;
}

/* A copy that lives as long as the request; NULL when out of memory. */
static char *keep(struct tm_ossd_request *r, const char *bytes, size_t n)
{
  struct tm_ossd_text *t = malloc(sizeof *t + n + 1);
  if (t == NULL)
    return NULL;
  t->next = r->texts;
  r->texts = t;
  memcpy(t->bytes, bytes, n);
  t->bytes[n] = '\0';
  return t->bytes;
}

/* A decoded copy. A NUL byte is refused: nothing here may carry one. */
static char *keep_decoded(struct tm_ossd_request *r, const char *text, size_t n,
                          struct tm_error *err)
{
  struct tm_buffer b = {0};
  char *copy = NULL;
  if (!tm_decode(&b, text, n, err))
    refuse(err, "InvalidURI", "the URI has a percent sign without two hex digits");
  else if (b.len > 0 && memchr(b.data, '\0', b.len) != NULL)
    refuse(err, "InvalidURI", "the URI has a NUL byte");
  else if ((copy = keep(r, b.len > 0 ? b.data : "", b.len)) == NULL)
    refuse(err, "InternalError", "out of memory");
  tm_buffer_free(&b);
  return copy;
}

void tm_ossd_request_free(struct tm_ossd_request *r)
{
  while (r->texts != NULL) {
    struct tm_ossd_text *next = r->texts->next;
    free(r->texts);
    r->texts = next;
  }
  free(r->query);
  free(r->headers);
  memset(r, 0, sizeof *r);
}

const char *tm_ossd_header(const struct tm_ossd_request *r, const char *name)
{
  for (size_t i = 0; i < r->header_count; i++)
    if (strcmp(r->headers[i].name, name) == 0)
      return r->headers[i].value;
  return NULL;
}

const char *tm_ossd_vendor_header(const struct tm_ossd_request *r, const char *name)
{
  char full[64];
  snprintf(full, sizeof full, "%s%s", r->s3 ? "x-amz-" : "x-oss-", name);
  return tm_ossd_header(r, full);
}

const char *tm_ossd_param(const struct tm_ossd_request *r, const char *name)
{
  for (size_t i = 0; i < r->query_count; i++)
    if (strcmp(r->query[i].name, name) == 0)
      return r->query[i].value == NULL ? "" : r->query[i].value;
  return NULL;
}

static const char *param_or_empty(const struct tm_ossd_request *r, const char *name)
{
  const char *value = tm_ossd_param(r, name);
  return value == NULL ? "" : value;
}

static bool copy_headers(struct tm_ossd_request *r, const struct tm_pair *headers,
                         size_t count, struct tm_error *err)
{
  if (count > TM_OSSD_REQUEST_HEADERS)
    return refuse(err, "InvalidArgument", "the request has too many headers");
  r->headers = calloc(count + 1, sizeof *r->headers);
  for (size_t i = 0; i < count && r->headers != NULL; i++) {
    const char *value = headers[i].value == NULL ? "" : headers[i].value;
    char *name = keep(r, headers[i].name, strlen(headers[i].name));
    char *copy = keep(r, value, strlen(value));
    if (name == NULL || copy == NULL)
      return refuse(err, "InternalError", "out of memory");
    for (char *p = name; *p != '\0'; p++)
      if (*p >= 'A' && *p <= 'Z')
        *p = (char)(*p + 'a' - 'A');
    r->headers[r->header_count++] = (struct tm_pair){name, copy};
  }
  return r->headers != NULL || refuse(err, "InternalError", "out of memory");
}

static bool parse_query(struct tm_ossd_request *r, const char *text, struct tm_error *err)
{
  r->query = calloc(TM_OSSD_QUERY, sizeof *r->query);
  if (r->query == NULL)
    return refuse(err, "InternalError", "out of memory");
  while (*text != '\0') {
    size_t n = strcspn(text, "&");
    const char *sign = memchr(text, '=', n);
    size_t name_len = sign == NULL ? n : (size_t)(sign - text);
    if (n > 0) {
      if (r->query_count == TM_OSSD_QUERY)
        return refuse(err, "InvalidArgument", "the query has too many parameters");
      struct tm_pair *p = &r->query[r->query_count++];
      p->name = keep_decoded(r, text, name_len, err);
      p->value = sign == NULL ? NULL : keep_decoded(r, sign + 1, n - name_len - 1, err);
      if (p->name == NULL || (sign != NULL && p->value == NULL)) {
        r->query_count--;
        return false;
      }
    }
    text += n + (text[n] == '&');
  }
  return true;
}

/* The bucket's part of "BUCKET.oss-REGION.aliyuncs.com", "BUCKET.s3.REGION.amazonaws.com":
** clients send these names even when they connect to an address. */
static size_t bucket_in_vendor_host(const char *host, size_t n)
{
  static const struct {
    const char *middle, *end;
  } shapes[] = {
      {".oss-", ".aliyuncs.com"}, {".s3.", ".amazonaws.com"}, {".s3-", ".amazonaws.com"}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    size_t m = strlen(shapes[i].end), k = strlen(shapes[i].middle);
    if (n <= m + k || strncasecmp(host + n - m, shapes[i].end, m) != 0)
      continue;
    for (size_t at = n - m - k; at > 0; at--) /* the last: a bucket may look like that */
      if (strncasecmp(host + at, shapes[i].middle, k) == 0)
        return i == 0 && at > 3 && strncasecmp(host + at - 3, ".s3", 3) == 0 ? at - 3
                                                                             : at;
  }
  return 0;
}

/* The length of the bucket's part in "bucket.suffix[:port]", 0 when there is none. */
static size_t bucket_in_host(const char *host, const char *const *suffixes)
{
  size_t n = strcspn(host, ":");
  for (; suffixes != NULL && *suffixes != NULL; suffixes++) {
    size_t m = strlen(*suffixes);
    if (n > m + 1 && host[n - m - 1] == '.' &&
        strncasecmp(host + n - m, *suffixes, m) == 0)
      return n - m - 1;
  }
  return bucket_in_vendor_host(host, n);
}

static bool parse_target(struct tm_ossd_request *r, const char *uri,
                         const char *const *suffixes, struct tm_error *err)
{
  if (strlen(uri) > TM_OSSD_URI)
    return refuse(err, "InvalidURI", "the URI is too long");
  if (strncasecmp(uri, "http://", 7) == 0) { /* as a proxy gets it */
    uri += 7 + strcspn(uri + 7, "/?");
  }
  size_t n = strcspn(uri, "?");
  if (n > 0 && uri[0] != '/')
    return refuse(err, "InvalidURI", "the path does not begin with a slash");
  r->path = n == 0 ? keep(r, "/", 1) : keep(r, uri, n);
  if (r->path == NULL)
    return refuse(err, "InternalError", "out of memory");
  if (!parse_query(r, uri[n] == '?' ? uri + n + 1 : uri + n, err))
    return false;
  const char *host = tm_ossd_header(r, "host"), *rest = r->path + 1;
  size_t in_host = host == NULL ? 0 : bucket_in_host(host, suffixes);
  if (in_host > 0) {
    r->virtual_host = true;
    r->bucket = keep(r, host, in_host);
  } else {
    size_t m = strcspn(rest, "/");
    r->bucket = keep_decoded(r, rest, m, err);
    rest += m + (rest[m] == '/');
  }
  if (r->bucket == NULL)
    return false;
  r->key = keep_decoded(r, rest, strlen(rest), err);
  return r->key != NULL;
}

/* Splits "ID/DAY/REGION/service/terminator" from the right: an id may hold slashes. */
static bool split_credential(struct tm_ossd_request *r, const char *text, size_t n,
                             const char *tail, struct tm_error *err)
{
  char *copy = keep(r, text, n);
  if (copy == NULL)
    return refuse(err, "InternalError", "out of memory");
  size_t m = strlen(tail);
  const char *code = r->s3 ? "AuthorizationHeaderMalformed" : "InvalidArgument";
  if (n <= m || strcmp(copy + n - m, tail) != 0)
    return refuse(err, code, "the credential's scope is malformed");
  copy[n - m] = '\0';
  char *region = strrchr(copy, '/');
  if (region == NULL)
    return refuse(err, code, "the credential's scope is malformed");
  *region++ = '\0';
  char *day = strrchr(copy, '/');
  if (day == NULL || strlen(day + 1) != 8 || *region == '\0' || day == copy)
    return refuse(err, code, "the credential's scope is malformed");
  *day++ = '\0';
  r->auth.id = copy;
  r->auth.day = day;
  r->auth.region = region;
  return true;
}

static const char *tail_of(const struct tm_ossd_request *r)
{
  return r->s3 ? "/s3/aws4_request" : "/oss/aliyun_v4_request";
}

/* "Credential=..., SignedHeaders=..., Signature=...", blanks after commas or none. */
static bool parse_v4_header(struct tm_ossd_request *r, const char *text,
                            struct tm_error *err)
{
  const char *names = r->s3 ? "SignedHeaders=" : "AdditionalHeaders=";
  while (*text != '\0') {
    text += strspn(text, " ,\t");
    size_t n = strcspn(text, ",");
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
      n--;
    if (strncmp(text, "Credential=", 11) == 0) {
      if (!split_credential(r, text + 11, n - 11, tail_of(r), err))
        return false;
    } else if (strncmp(text, names, strlen(names)) == 0) {
      r->auth.names = keep(r, text + strlen(names), n - strlen(names));
      r->auth.has_names = true;
    } else if (strncmp(text, "Signature=", 10) == 0) {
      r->auth.signature = keep(r, text + 10, n - 10);
    }
    text += strcspn(text, ",");
  }
  if (r->auth.names == NULL || r->auth.signature == NULL)
    return refuse(err, "InternalError", "out of memory");
  if (r->auth.id[0] == '\0' || r->auth.signature[0] == '\0' ||
      (r->s3 && r->auth.names[0] == '\0') ||
      (!r->s3 && r->auth.has_names && r->auth.names[0] == '\0'))
    return refuse(err, r->s3 ? "AuthorizationHeaderMalformed" : "InvalidArgument",
                  "the Authorization header is malformed");
  return true;
}

static bool parse_authorization(struct tm_ossd_request *r, const char *text,
                                struct tm_error *err)
{
  if (strncmp(text, "OSS4-HMAC-SHA256 ", 17) == 0) {
    r->auth.scheme = TM_SIGN_OSS_V4;
    return parse_v4_header(r, text + 17, err);
  }
  if (strncmp(text, "AWS4-HMAC-SHA256 ", 17) == 0) {
    r->auth.scheme = TM_SIGN_S3_V4;
    r->s3 = true;
    return parse_v4_header(r, text + 17, err);
  }
  if (strncmp(text, "OSS ", 4) != 0)
    return refuse(err, "InvalidArgument", "the authorization scheme is not supported");
  const char *colon = strrchr(text, ':');
  if (colon == NULL || colon == text + 4)
    return refuse(err, "InvalidArgument", "the Authorization header is malformed");
  r->auth.scheme = TM_SIGN_OSS_V1;
  r->auth.id = keep(r, text + 4, (size_t)(colon - text - 4));
  r->auth.signature = keep(r, colon + 1, strlen(colon + 1));
  if (r->auth.id == NULL || r->auth.signature == NULL)
    return refuse(err, "InternalError", "out of memory");
  return true;
}

static bool parse_presigned_v4(struct tm_ossd_request *r, struct tm_error *err)
{
  bool s3 = r->s3;
  r->auth.presigned = true;
  r->auth.scheme = s3 ? TM_SIGN_S3_V4 : TM_SIGN_OSS_V4;
  r->auth.date = param_or_empty(r, s3 ? "X-Amz-Date" : "x-oss-date");
  r->auth.expires = param_or_empty(r, s3 ? "X-Amz-Expires" : "x-oss-expires");
  r->auth.token = param_or_empty(r, s3 ? "X-Amz-Security-Token" : "x-oss-security-token");
  r->auth.signature = param_or_empty(r, s3 ? "X-Amz-Signature" : "x-oss-signature");
  r->auth.names =
      param_or_empty(r, s3 ? "X-Amz-SignedHeaders" : "x-oss-additional-headers");
  r->auth.has_names = r->auth.names[0] != '\0';
  const char *credential =
      param_or_empty(r, s3 ? "X-Amz-Credential" : "x-oss-credential");
  const char *algorithm =
      param_or_empty(r, s3 ? "X-Amz-Algorithm" : "x-oss-signature-version");
  const char *code = s3 ? "AuthorizationQueryParametersError" : "InvalidArgument";
  if (strcmp(algorithm, s3 ? "AWS4-HMAC-SHA256" : "OSS4-HMAC-SHA256") != 0)
    return refuse(err, code, "the signature version in the query is not supported");
  if (r->auth.date[0] == '\0' || r->auth.expires[0] == '\0' || (s3 && !r->auth.has_names))
    return refuse(err, code, "the query lacks a parameter of the signature");
  return split_credential(r, credential, strlen(credential), tail_of(r), err);
}

static bool parse_auth(struct tm_ossd_request *r, struct tm_error *err)
{
  r->auth = (struct tm_ossd_auth){.id = "",
                                  .signature = "",
                                  .day = "",
                                  .region = "",
                                  .names = "",
                                  .date = "",
                                  .expires = "",
                                  .token = ""};
  const char *authorization = tm_ossd_header(r, "authorization");
  bool v1 =
      tm_ossd_param(r, "OSSAccessKeyId") != NULL && tm_ossd_param(r, "Signature") != NULL;
  bool oss = tm_ossd_param(r, "x-oss-signature") != NULL;
  bool s3 = tm_ossd_param(r, "X-Amz-Signature") != NULL;
  if ((authorization != NULL) + v1 + oss + s3 > 1)
    return refuse(err, "InvalidArgument", "only one way of signing a request is allowed");
  r->s3 = s3;
  if (oss || s3)
    return parse_presigned_v4(r, err);
  if (v1) {
    r->auth.presigned = true;
    r->auth.scheme = TM_SIGN_OSS_V1;
    r->auth.id = param_or_empty(r, "OSSAccessKeyId");
    r->auth.signature = param_or_empty(r, "Signature");
    r->auth.expires = param_or_empty(r, "Expires");
    r->auth.token = param_or_empty(r, "security-token");
    return true;
  }
  if (authorization != NULL) {
    if (!parse_authorization(r, authorization, err))
      return false;
    const char *token = tm_ossd_vendor_header(r, "security-token");
    r->auth.token = token == NULL ? "" : token;
    return true;
  }
  /* anonymous: S3 when anything in it speaks S3 */
  for (size_t i = 0; i < r->header_count; i++)
    r->s3 = r->s3 || strncmp(r->headers[i].name, "x-amz-", 6) == 0;
  return true;
}

static bool check_key(const struct tm_ossd_request *r, struct tm_error *err)
{
  size_t n = strlen(r->key);
  if (r->s3 && n > 1024)
    return refuse(err, "KeyTooLongError", "the key is longer than 1024 bytes");
  if (!r->s3 && (n > 1023 || r->key[0] == '/' || r->key[0] == '\\'))
    return refuse(err, "InvalidObjectName",
                  "the key is longer than 1023 bytes or begins with a slash");
  if (r->bucket[0] != '\0' && !tm_ossd_is_bucket_name(r->bucket))
    return refuse(err, "InvalidBucketName", "the bucket name is not valid");
  return true;
}

bool tm_ossd_request_parse(const char *method, const char *uri,
                           const struct tm_pair *headers, size_t header_count,
                           const char *const *suffixes, struct tm_ossd_request *out,
                           struct tm_error *err)
{
  out->method = keep(out, method, strlen(method));
  out->bucket = out->key = "";
  if (out->method == NULL)
    return refuse(err, "InternalError", "out of memory");
  return copy_headers(out, headers, header_count, err) &&
         parse_target(out, uri, suffixes, err) && parse_auth(out, err) &&
         check_key(out, err);
}

static bool read_position(const char **p, uint64_t *value)
{
  if (**p < '0' || **p > '9')
    return false;
  char *end;
  errno = 0;
  *value = strtoull(*p, &end, 10);
  *p = end;
  return errno == 0;
}

enum tm_ossd_range tm_ossd_range_parse(const char *text, uint64_t size, bool strict,
                                       uint64_t *first, uint64_t *length)
{
  uint64_t a = 0, b = UINT64_MAX;
  *first = 0;
  *length = size;
  if (text == NULL || strncasecmp(text, "bytes=", 6) != 0)
    return TM_OSSD_WHOLE;
  const char *p = text + 6;
  bool suffix = *p == '-';
  if (suffix) {
    p++;
    if (!read_position(&p, &b) || *p != '\0')
      return TM_OSSD_WHOLE;
  } else {
    if (!read_position(&p, &a) || *p++ != '-' || (*p != '\0' && !read_position(&p, &b)) ||
        *p != '\0' || b < a)
      return TM_OSSD_WHOLE;
  }
  bool open = !suffix && b == UINT64_MAX;
  if (suffix ? b == 0 || size == 0 : a >= size)
    return strict ? TM_OSSD_UNSATISFIABLE : TM_OSSD_WHOLE;
  if (!strict && !open && (suffix ? b > size : b >= size))
    return TM_OSSD_WHOLE;
  if (suffix)
    *first = b > size ? 0 : size - b;
  else
    *first = a;
  *length = suffix || b >= size ? size - *first : b - a + 1;
  return TM_OSSD_PARTIAL;
}
