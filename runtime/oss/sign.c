/*
** sign.c: canonical forms and the three signatures made of them
**
** Every function appends to buffers and stops at the first that cannot grow; the public
** ones turn that into TM_EMEMORY. Lists are sorted copies of pointers into the request.
*/
#include "oss/sign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "driver/digest.h"
#include "oss/encode.h"

/* Query parameters that OSS V1 signs, sorted (object-storage notes, part 2). */
static const char *const v1_subresources[] = {"acl",
                                              "append",
                                              "asyncFetch",
                                              "bucketInfo",
                                              "callback",
                                              "callback-var",
                                              "cname",
                                              "comp",
                                              "continuation-token",
                                              "cors",
                                              "delete",
                                              "encryption",
                                              "endTime",
                                              "group",
                                              "img",
                                              "inventory",
                                              "inventoryId",
                                              "lifecycle",
                                              "link",
                                              "live",
                                              "location",
                                              "logging",
                                              "metaQuery",
                                              "objectInfo",
                                              "objectMeta",
                                              "partNumber",
                                              "policy",
                                              "position",
                                              "qos",
                                              "qosInfo",
                                              "referer",
                                              "regionList",
                                              "replication",
                                              "replicationLocation",
                                              "replicationProgress",
                                              "requestPayment",
                                              "resourceGroup",
                                              "response-cache-control",
                                              "response-content-disposition",
                                              "response-content-encoding",
                                              "response-content-language",
                                              "response-content-type",
                                              "response-expires",
                                              "restore",
                                              "security-token",
                                              "sequential",
                                              "startTime",
                                              "stat",
                                              "status",
                                              "style",
                                              "styleName",
                                              "symlink",
                                              "tagging",
                                              "transferAcceleration",
                                              "udf",
                                              "uploadId",
                                              "uploads",
                                              "versionId",
                                              "versioning",
                                              "versions",
                                              "vod",
                                              "website",
                                              "worm",
                                              "wormExtend",
                                              "wormId",
                                              "x-oss-ac-forward-allow",
                                              "x-oss-ac-source-ip",
                                              "x-oss-ac-subnet-mask",
                                              "x-oss-ac-vpc-id",
                                              "x-oss-async-process",
                                              "x-oss-process",
                                              "x-oss-request-payer",
                                              "x-oss-traffic-limit"};

/* What differs between the two V4 schemes. */
struct flavour {
  const char *algorithm, *secret_prefix, *service, *terminator, *header_prefix,
      *signature;
};

static const struct flavour oss_flavour = {
    "OSS4-HMAC-SHA256",  "aliyun_v4", "oss",
    "aliyun_v4_request", "x-oss-",    "x-oss-signature"};
static const struct flavour s3_flavour = {
    "AWS4-HMAC-SHA256", "AWS4", "s3", "aws4_request", "x-amz-", "X-Amz-Signature"};

static const struct flavour *flavour_of(enum tm_sign_scheme scheme)
{
  return scheme == TM_SIGN_OSS_V4 ? &oss_flavour : &s3_flavour;
}

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* A query parameter or header on its way into a sorted list. */
struct item {
  char *name;        /* owned: lower-case header, or encoded parameter */
  const char *value; /* the request's */
  char *encoded;     /* owned: encoded query value, or NULL */
  size_t order;      /* place in the request, to keep equals stable */
};

struct list {
  struct item *items;
  size_t count;
};

static void list_free(struct list *list)
{
  for (size_t i = 0; i < list->count; i++) {
    free(list->items[i].name);
    free(list->items[i].encoded);
  }
  free(list->items);
}

static int compare_items(const void *a, const void *b)
{
  const struct item *x = a, *y = b;
  int c = strcmp(x->name, y->name);
  if (c == 0 && x->encoded != NULL && y->encoded != NULL)
    c = strcmp(x->encoded, y->encoded);
  if (c == 0)
    c = x->order < y->order ? -1 : x->order > y->order;
  return c;
}

static bool list_begin(struct list *list, size_t most)
{
  *list = (struct list){0};
  list->items = calloc(most + 1, sizeof *list->items);
  return list->items != NULL;
}

static void list_sort(struct list *list)
{
  qsort(list->items, list->count, sizeof *list->items, compare_items);
}

static char *lower_case(const char *text)
{
  char *copy = strdup(text);
  for (char *p = copy; p != NULL && *p != '\0'; p++)
    if (*p >= 'A' && *p <= 'Z')
      *p = (char)(*p + 'a' - 'A');
  return copy;
}

static char *encoded_copy(const char *text)
{
  struct tm_buffer b = {0};
  if (!tm_encode(&b, text, strlen(text)) || tm_buffer_cstr(&b) == NULL) {
    tm_buffer_free(&b);
    return NULL;
  }
  return b.data;
}

/* Is `name` a member of "a;b;c", whatever its case? */
static bool is_member(const char *names, const char *name)
{
  size_t n = strlen(name);
  while (names != NULL && *names != '\0') {
    size_t len = strcspn(names, ";");
    if (len == n && strncasecmp(names, name, n) == 0)
      return true;
    names += len + (names[len] == ';');
  }
  return false;
}

static bool has_prefix(const char *name, const char *prefix)
{
  return strncasecmp(name, prefix, strlen(prefix)) == 0;
}

/* Headers that a scheme signs without being told. */
static bool is_implied(const struct tm_sign_request *r, const char *name)
{
  if (r->scheme == TM_SIGN_OSS_V1)
    return has_prefix(name, "x-oss-");
  if (r->scheme == TM_SIGN_S3_V4 && strcasecmp(name, "host") == 0)
    return true;
  return has_prefix(name, flavour_of(r->scheme)->header_prefix) ||
         strcasecmp(name, "content-type") == 0 || strcasecmp(name, "content-md5") == 0;
}

static bool is_signed_header(const struct tm_sign_request *r, const char *name)
{
  if (r->scheme == TM_SIGN_S3_V4 && r->signed_headers != NULL)
    return is_member(r->signed_headers, name);
  return is_implied(r, name) ||
         (r->scheme == TM_SIGN_OSS_V4 && is_member(r->additional_headers, name));
}

static bool signed_headers(const struct tm_sign_request *r, struct list *list)
{
  if (!list_begin(list, r->header_count))
    return false;
  for (size_t i = 0; i < r->header_count; i++) {
    if (!is_signed_header(r, r->headers[i].name))
      continue;
    struct item *item = &list->items[list->count];
    *item = (struct item){
        .name = lower_case(r->headers[i].name), .value = r->headers[i].value, .order = i};
    if (item->name == NULL)
      return false;
    list->count++;
  }
  list_sort(list);
  return true;
}

static bool is_blank(char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Appends a header's value trimmed; `collapse` makes one space of each inner run. */
static bool add_value(struct tm_buffer *out, const char *value, bool collapse)
{
  while (is_blank(*value))
    value++;
  size_t n = strlen(value);
  while (n > 0 && is_blank(value[n - 1]))
    n--;
  if (!collapse)
    return tm_buffer_add(out, value, n);
  if (!tm_buffer_reserve(out, n))
    return false;
  for (size_t i = 0; i < n; i++) {
    if (is_blank(value[i]) && is_blank(value[i + 1]))
      continue; /* value[n] is never blank: it was trimmed away, or ends the string */
    out->data[out->len++] = is_blank(value[i]) ? ' ' : value[i];
  }
  return true;
}

/* "name:value\n" lines; several headers of one name share a line, joined by commas. */
static bool add_header_lines(struct tm_buffer *out, const struct list *list,
                             bool collapse)
{
  for (size_t i = 0; i < list->count; i++) {
    const struct item *item = &list->items[i];
    bool again = i > 0 && strcmp(list->items[i - 1].name, item->name) == 0;
    bool more = i + 1 < list->count && strcmp(list->items[i + 1].name, item->name) == 0;
    if (!(again ? tm_buffer_addc(out, ',')
                : tm_buffer_adds(out, item->name) && tm_buffer_addc(out, ':')) ||
        !add_value(out, item->value == NULL ? "" : item->value, collapse) ||
        (!more && !tm_buffer_addc(out, '\n')))
      return false;
  }
  return true;
}

/* "a;b;c" of the list's names; `r` given: only those that are not implied. */
static bool add_header_names(struct tm_buffer *out, const struct list *list,
                             const struct tm_sign_request *r)
{
  const char *last = "";
  for (size_t i = 0; i < list->count; i++) {
    const char *name = list->items[i].name;
    if (strcmp(name, last) == 0 || (r != NULL && is_implied(r, name)))
      continue;
    if ((*last != '\0' && !tm_buffer_addc(out, ';')) || !tm_buffer_adds(out, name))
      return false;
    last = name;
  }
  return true;
}

/* The names as the request declares them: all signed ones (S3) or the additional (OSS). */
static bool add_declared_names(struct tm_buffer *out, const struct tm_sign_request *r,
                               const struct list *headers)
{
  return add_header_names(out, headers, r->scheme == TM_SIGN_S3_V4 ? NULL : r);
}

/* V4: every parameter, encoded, sorted. A bare one gets its '=' on S3 only. */
static bool add_canonical_query(struct tm_buffer *out, const struct tm_sign_request *r)
{
  struct list list;
  bool ok = list_begin(&list, r->query_count);
  for (size_t i = 0; ok && i < r->query_count; i++) {
    const struct tm_pair *p = &r->query[i];
    if (strcmp(p->name, flavour_of(r->scheme)->signature) == 0)
      continue;
    struct item *item = &list.items[list.count++];
    *item = (struct item){.name = encoded_copy(p->name), .value = p->value, .order = i};
    item->encoded = encoded_copy(p->value == NULL ? "" : p->value);
    ok = item->name != NULL && item->encoded != NULL;
  }
  if (ok)
    list_sort(&list);
  for (size_t i = 0; ok && i < list.count; i++) {
    const struct item *item = &list.items[i];
    bool sign = item->value != NULL || r->scheme == TM_SIGN_S3_V4;
    ok = (i == 0 || tm_buffer_addc(out, '&')) && tm_buffer_adds(out, item->name) &&
         (!sign || (tm_buffer_addc(out, '=') && tm_buffer_adds(out, item->encoded)));
  }
  list_free(&list);
  return ok;
}

static bool has_text(const char *s)
{
  return s != NULL && *s != '\0';
}

static bool add_uri(struct tm_buffer *out, const struct tm_sign_request *r)
{
  if (r->scheme == TM_SIGN_S3_V4)
    return tm_buffer_adds(out, has_text(r->path) ? r->path : "/");
  if (!tm_buffer_addc(out, '/'))
    return false;
  if (!has_text(r->bucket))
    return true;
  const char *key = r->key == NULL ? "" : r->key;
  return tm_encode_path(out, r->bucket, strlen(r->bucket)) && tm_buffer_addc(out, '/') &&
         tm_encode_path(out, key, strlen(key));
}

static bool add_scope(struct tm_buffer *out, enum tm_sign_scheme scheme, int64_t time,
                      const char *region)
{
  const struct flavour *f = flavour_of(scheme);
  char date[TM_DATE_SIZE];
  tm_date_iso_basic(time, date);
  return tm_buffer_addf(out, "%.8s/%s/%s/%s", date, region, f->service, f->terminator);
}

static bool canonical_request(const struct tm_sign_request *r, const struct list *headers,
                              struct tm_buffer *out)
{
  const char *payload = "UNSIGNED-PAYLOAD";
  if (r->scheme == TM_SIGN_S3_V4 && r->payload_hash != NULL)
    payload = r->payload_hash;
  return tm_buffer_adds(out, r->method) && tm_buffer_addc(out, '\n') && add_uri(out, r) &&
         tm_buffer_addc(out, '\n') && add_canonical_query(out, r) &&
         tm_buffer_addc(out, '\n') &&
         add_header_lines(out, headers, r->scheme == TM_SIGN_S3_V4) &&
         tm_buffer_addc(out, '\n') && add_declared_names(out, r, headers) &&
         tm_buffer_addc(out, '\n') && tm_buffer_adds(out, payload);
}

static bool sha256_hex(const void *bytes, size_t n, char out[65])
{
  unsigned char digest[TM_DIGEST_MAX];
  if (!tm_digest(TM_SHA256, bytes, n, digest))
    return false;
  tm_hex(digest, 32, out);
  return true;
}

static bool hmac_hex(const struct tm_sign_key *key, const struct tm_buffer *text,
                     char out[65])
{
  unsigned char mac[TM_DIGEST_MAX];
  if (!tm_hmac(TM_SHA256, key->bytes, sizeof key->bytes, text->data, text->len, mac))
    return false;
  tm_hex(mac, 32, out);
  return true;
}

bool tm_sign_derive(enum tm_sign_scheme scheme, const char *secret, int64_t time,
                    const char *region, struct tm_sign_key *key, struct tm_error *err)
{
  const struct flavour *f = flavour_of(scheme);
  struct tm_buffer start = {0};
  char date[TM_DATE_SIZE];
  tm_date_iso_basic(time, date);
  unsigned char *k = key->bytes;
  bool ok = tm_buffer_adds(&start, f->secret_prefix) && tm_buffer_adds(&start, secret) &&
            tm_hmac(TM_SHA256, start.data, start.len, date, 8, k) &&
            tm_hmac(TM_SHA256, k, 32, region, strlen(region), k) &&
            tm_hmac(TM_SHA256, k, 32, f->service, strlen(f->service), k) &&
            tm_hmac(TM_SHA256, k, 32, f->terminator, strlen(f->terminator), k);
  if (start.data != NULL)
    tm_wipe(start.data, start.cap);
  tm_buffer_free(&start);
  return ok || no_memory(err);
}

static bool add_v4_authorization(const struct tm_sign_request *r,
                                 const struct list *headers, struct tm_signature *out)
{
  struct tm_buffer *a = &out->authorization;
  const struct flavour *f = flavour_of(r->scheme);
  if (!tm_buffer_addf(a, "%s Credential=%s/", f->algorithm, r->access_key_id) ||
      !add_scope(a, r->scheme, r->time, r->region))
    return false;
  if (r->scheme == TM_SIGN_S3_V4)
    return tm_buffer_adds(a, ", SignedHeaders=") && add_declared_names(a, r, headers) &&
           tm_buffer_addf(a, ", Signature=%s", out->value.data);
  struct tm_buffer names = {0};
  bool ok = add_declared_names(&names, r, headers) &&
            (names.len == 0 || (tm_buffer_adds(a, ",AdditionalHeaders=") &&
                                tm_buffer_add(a, names.data, names.len))) &&
            tm_buffer_addf(a, ",Signature=%s", out->value.data);
  tm_buffer_free(&names);
  return ok;
}

static bool sign_v4(const struct tm_sign_request *r, struct tm_signature *out,
                    struct tm_error *err)
{
  struct list headers;
  struct tm_sign_key key;
  struct tm_buffer *s = &out->string_to_sign;
  char hex[65], date[TM_DATE_SIZE];
  tm_date_iso_basic(r->time, date);
  bool ok =
      signed_headers(r, &headers) &&
      canonical_request(r, &headers, &out->canonical_request) &&
      sha256_hex(out->canonical_request.data, out->canonical_request.len, hex) &&
      tm_buffer_addf(s, "%s\n%s\n", flavour_of(r->scheme)->algorithm, date) &&
      add_scope(s, r->scheme, r->time, r->region) && tm_buffer_addf(s, "\n%s", hex) &&
      tm_sign_derive(r->scheme, r->access_key_secret, r->time, r->region, &key, err) &&
      hmac_hex(&key, s, hex) && tm_buffer_adds(&out->value, hex) &&
      tm_buffer_cstr(&out->value) != NULL &&
      (r->expires > 0 || add_v4_authorization(r, &headers, out));
  list_free(&headers);
  tm_wipe(&key, sizeof key);
  return ok || no_memory(err);
}

static const char *header_value(const struct tm_sign_request *r, const char *name)
{
  for (size_t i = 0; i < r->header_count; i++)
    if (strcasecmp(r->headers[i].name, name) == 0)
      return r->headers[i].value == NULL ? "" : r->headers[i].value;
  return NULL;
}

static int compare_names(const void *name, const void *member)
{
  return strcmp(name, *(const char *const *)member);
}

static int compare_parameters(const void *a, const void *b)
{
  const struct tm_pair *const *x = a, *const *y = b;
  return strcmp((*x)->name, (*y)->name);
}

/* "?a=v&b" of the parameters on the list, decoded, a value that is empty without '='. */
static bool add_v1_subresources(struct tm_buffer *out, const struct tm_sign_request *r)
{
  const struct tm_pair **chosen = calloc(r->query_count + 1, sizeof *chosen);
  if (chosen == NULL)
    return false;
  size_t count = 0;
  for (size_t i = 0; i < r->query_count; i++)
    if (bsearch(r->query[i].name, v1_subresources,
                sizeof v1_subresources / sizeof *v1_subresources, sizeof *v1_subresources,
                compare_names) != NULL)
      chosen[count++] = &r->query[i];
  qsort(chosen, count, sizeof *chosen, compare_parameters);
  bool ok = true;
  for (size_t i = 0; ok && i < count; i++)
    ok = tm_buffer_addc(out, i == 0 ? '?' : '&') &&
         tm_buffer_adds(out, chosen[i]->name) &&
         (!has_text(chosen[i]->value) ||
          (tm_buffer_addc(out, '=') && tm_buffer_adds(out, chosen[i]->value)));
  free(chosen);
  return ok;
}

static bool add_line(struct tm_buffer *out, const char *value)
{
  return add_value(out, value == NULL ? "" : value, false) && tm_buffer_addc(out, '\n');
}

static bool add_v1_resource(struct tm_buffer *out, const struct tm_sign_request *r)
{
  if (!tm_buffer_addc(out, '/'))
    return false;
  if (has_text(r->bucket) &&
      (!tm_buffer_adds(out, r->bucket) || !tm_buffer_addc(out, '/') ||
       (r->key != NULL && !tm_buffer_adds(out, r->key))))
    return false;
  return add_v1_subresources(out, r);
}

static bool sign_v1(const struct tm_sign_request *r, struct tm_signature *out,
                    struct tm_error *err)
{
  char expires[24];
  snprintf(expires, sizeof expires, "%lld", (long long)(r->time + r->expires));
  const char *date = header_value(r, "x-oss-date");
  if (date == NULL)
    date = header_value(r, "date");
  if (r->expires > 0)
    date = expires;
  struct tm_buffer *s = &out->string_to_sign;
  struct list headers;
  unsigned char mac[TM_DIGEST_MAX];
  bool ok = signed_headers(r, &headers) && add_line(s, r->method) &&
            add_line(s, header_value(r, "content-md5")) &&
            add_line(s, header_value(r, "content-type")) && add_line(s, date) &&
            add_header_lines(s, &headers, false) && add_v1_resource(s, r) &&
            tm_hmac(TM_SHA1, r->access_key_secret, strlen(r->access_key_secret), s->data,
                    s->len, mac) &&
            tm_base64(mac, 20, &out->value) && tm_buffer_cstr(&out->value) != NULL &&
            (r->expires > 0 || tm_buffer_addf(&out->authorization, "OSS %s:%s",
                                              r->access_key_id, out->value.data));
  list_free(&headers);
  return ok || no_memory(err);
}

static bool check(const struct tm_sign_request *r, struct tm_error *err)
{
  if (r->scheme == TM_SIGN_NONE) {
    tm_error_set(err, TM_EUSAGE, "no signature scheme given");
  } else if (r->method == NULL || !has_text(r->access_key_id) ||
             !has_text(r->access_key_secret)) {
    tm_error_set(err, TM_EUSAGE,
                 "a signature needs a method, an access key id and a secret");
  } else if (r->scheme != TM_SIGN_OSS_V1 && !has_text(r->region)) {
    tm_error_set(err, TM_EUSAGE, "a V4 signature needs a region");
  } else {
    return true;
  }
  return false;
}

bool tm_sign(const struct tm_sign_request *r, struct tm_signature *out,
             struct tm_error *err)
{
  out->canonical_request.len = out->string_to_sign.len = 0;
  out->value.len = out->authorization.len = 0;
  if (!check(r, err))
    return false;
  if (!(r->scheme == TM_SIGN_OSS_V1 ? sign_v1 : sign_v4)(r, out, err))
    return false;
  if (tm_buffer_cstr(&out->canonical_request) == NULL ||
      tm_buffer_cstr(&out->string_to_sign) == NULL ||
      tm_buffer_cstr(&out->authorization) == NULL)
    return no_memory(err);
  return true;
}

void tm_signature_free(struct tm_signature *s)
{
  tm_buffer_free(&s->canonical_request);
  tm_buffer_free(&s->string_to_sign);
  tm_buffer_free(&s->value);
  tm_buffer_free(&s->authorization);
}

bool tm_query_string(const struct tm_pair *query, size_t count, struct tm_buffer *out)
{
  for (size_t i = 0; i < count; i++) {
    const struct tm_pair *p = &query[i];
    if ((i > 0 && !tm_buffer_addc(out, '&')) ||
        !tm_encode(out, p->name, strlen(p->name)) ||
        (p->value != NULL &&
         (!tm_buffer_addc(out, '=') || !tm_encode(out, p->value, strlen(p->value)))))
      return false;
  }
  return true;
}

/* The parameters of a presigned URL while they are put together. */
struct presign {
  struct tm_pair *pairs;
  size_t count;
  struct tm_buffer credential, names;
  char date[TM_DATE_SIZE], seconds[24];
};

static void add_pair(struct presign *p, const char *name, const char *value)
{
  if (value != NULL)
    p->pairs[p->count++] = (struct tm_pair){name, value};
}

static bool add_v4_parameters(struct presign *p, const struct tm_sign_request *r)
{
  struct list headers;
  bool ok = signed_headers(r, &headers) && add_declared_names(&p->names, r, &headers) &&
            tm_buffer_addf(&p->credential, "%s/", r->access_key_id) &&
            add_scope(&p->credential, r->scheme, r->time, r->region) &&
            tm_buffer_cstr(&p->names) != NULL && tm_buffer_cstr(&p->credential) != NULL;
  list_free(&headers);
  if (!ok)
    return false;
  tm_date_iso_basic(r->time, p->date);
  snprintf(p->seconds, sizeof p->seconds, "%lld", (long long)r->expires);
  bool s3 = r->scheme == TM_SIGN_S3_V4;
  add_pair(p, s3 ? "X-Amz-Algorithm" : "x-oss-signature-version",
           flavour_of(r->scheme)->algorithm);
  add_pair(p, s3 ? "X-Amz-Credential" : "x-oss-credential", p->credential.data);
  add_pair(p, s3 ? "X-Amz-Date" : "x-oss-date", p->date);
  add_pair(p, s3 ? "X-Amz-Expires" : "x-oss-expires", p->seconds);
  if (s3 || p->names.len > 0)
    add_pair(p, s3 ? "X-Amz-SignedHeaders" : "x-oss-additional-headers", p->names.data);
  add_pair(p, s3 ? "X-Amz-Security-Token" : "x-oss-security-token", r->security_token);
  return true;
}

static void add_v1_parameters(struct presign *p, const struct tm_sign_request *r)
{
  snprintf(p->seconds, sizeof p->seconds, "%lld", (long long)(r->time + r->expires));
  add_pair(p, "OSSAccessKeyId", r->access_key_id);
  add_pair(p, "Expires", p->seconds);
  add_pair(p, "security-token", r->security_token);
}

bool tm_presign(const struct tm_sign_request *r, struct tm_buffer *query_string,
                struct tm_error *err)
{
  bool v1 = r->scheme == TM_SIGN_OSS_V1;
  if (!check(r, err))
    return false;
  if (r->expires < 1 || (!v1 && r->expires > 604800)) {
    tm_error_set(err, TM_EUSAGE, "a presigned URL cannot be valid for %lld seconds",
                 (long long)r->expires);
    tm_error_hint(err, "1 second to 7 days (604800 seconds)");
    return false;
  }
  struct presign p = {.pairs = calloc(r->query_count + 8, sizeof *p.pairs)};
  if (p.pairs == NULL)
    return no_memory(err);
  for (size_t i = 0; i < r->query_count; i++)
    p.pairs[p.count++] = r->query[i];
  bool ok = true;
  if (v1)
    add_v1_parameters(&p, r);
  else
    ok = add_v4_parameters(&p, r) || no_memory(err);
  struct tm_sign_request full = *r;
  full.query = p.pairs;
  full.query_count = p.count;
  struct tm_signature s = {0};
  ok = ok && tm_sign(&full, &s, err);
  if (ok) {
    add_pair(&p, v1 ? "Signature" : flavour_of(r->scheme)->signature, s.value.data);
    ok = tm_query_string(p.pairs, p.count, query_string) || no_memory(err);
  }
  tm_signature_free(&s);
  tm_buffer_free(&p.credential);
  tm_buffer_free(&p.names);
  free(p.pairs);
  return ok;
}

bool tm_sign_chunk(const struct tm_sign_chunk *c, struct tm_buffer *string_to_sign,
                   char signature[65], struct tm_error *err)
{
  struct tm_buffer own = {0};
  struct tm_buffer *s = string_to_sign != NULL ? string_to_sign : &own;
  char date[TM_DATE_SIZE], empty[65];
  tm_date_iso_basic(c->time, date);
  s->len = 0;
  bool ok = sha256_hex("", 0, empty) &&
            tm_buffer_addf(s, "AWS4-HMAC-SHA256-%s\n%s\n",
                           c->trailer ? "TRAILER" : "PAYLOAD", date) &&
            add_scope(s, TM_SIGN_S3_V4, c->time, c->region) &&
            tm_buffer_addf(s, "\n%s\n", c->previous) &&
            (c->trailer || tm_buffer_addf(s, "%s\n", empty)) &&
            tm_buffer_adds(s, c->data_sha256) && hmac_hex(c->key, s, signature);
  tm_buffer_free(&own);
  return ok || no_memory(err);
}
