/*
** object.c: put, get, head, delete and copy of objects
*/
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "driver/crc64.h"
#include "driver/digest.h"
#include "oss/encode.h"
#include "ossd/exchange.h"

static const char *const kept_headers[] = {"content-type",     "content-encoding",
                                           "cache-control",    "content-disposition",
                                           "content-language", "expires"};

static bool no_memory(struct tm_ossd_exchange *x)
{
  return tm_ossd_refuse(&x->refusal, 500, "InternalError", "Out of memory.");
}

/* Content-Encoding as it is stored: aws-chunked was only for the way here. */
static bool keep_encoding(struct tm_ossd_record *r, const char *value)
{
  struct tm_buffer b = {0};
  bool ok = true;
  while (ok && *value != '\0') {
    value += strspn(value, " ,\t");
    size_t n = strcspn(value, ",");
    size_t trimmed = n;
    while (trimmed > 0 && value[trimmed - 1] == ' ')
      trimmed--;
    if (trimmed > 0 && !(trimmed == 11 && strncasecmp(value, "aws-chunked", 11) == 0))
      ok = (b.len == 0 || tm_buffer_adds(&b, ", ")) && tm_buffer_add(&b, value, trimmed);
    value += n;
  }
  if (ok && b.len > 0)
    ok = tm_ossd_record_add(r, "content-encoding", b.data, b.len);
  tm_buffer_free(&b);
  return ok;
}

static bool keep_headers(struct tm_ossd_exchange *x, struct tm_ossd_record *r)
{
  size_t meta_bytes = 0, most = x->request.s3 ? 2048 : 8192;
  const char *prefix = x->request.s3 ? "x-amz-meta-" : "x-oss-meta-";
  for (size_t i = 0; i < x->request.header_count; i++) {
    const struct tm_pair *h = &x->request.headers[i];
    bool ok = true;
    if (strcmp(h->name, "content-encoding") == 0) {
      ok = keep_encoding(r, h->value);
    } else if (strncmp(h->name, prefix, 11) == 0) {
      char name[512];
      meta_bytes += strlen(h->name) - 11 + strlen(h->value);
      if (meta_bytes > most || strlen(h->name) > 400)
        return tm_ossd_refuse(&x->refusal, 400,
                              x->request.s3 ? "MetadataTooLarge" : "InvalidArgument",
                              "The user metadata is larger than %zu bytes.", most);
      snprintf(name, sizeof name, "meta-%s", h->name + 11);
      ok = tm_ossd_record_add(r, name, h->value, strlen(h->value));
    } else if (strcmp(h->name, x->request.s3 ? "x-amz-storage-class"
                                             : "x-oss-storage-class") == 0) {
      ok = tm_ossd_record_add(r, "storage-class", h->value, strlen(h->value));
    } else {
      for (size_t k = 0; k < sizeof kept_headers / sizeof *kept_headers; k++)
        if (strcmp(h->name, kept_headers[k]) == 0)
          ok = tm_ossd_record_add(r, h->name, h->value, strlen(h->value));
    }
    if (!ok)
      return no_memory(x);
  }
  return true;
}

bool tm_ossd_record_request(struct tm_ossd_exchange *x, struct tm_ossd_record *r)
{
  snprintf(r->key, sizeof r->key, "%s", x->request.key);
  r->mtime = tm_clock_wall_ms() / 1000;
  return keep_headers(x, r);
}

static void without_quotes(const char *text, char *out, size_t size)
{
  size_t n = strlen(text);
  if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
    text++;
    n -= 2;
  }
  snprintf(out, size, "%.*s", n < size ? (int)n : 0, text);
}

bool tm_ossd_condition(struct tm_ossd_exchange *x, struct tm_ossd_condition *condition)
{
  *condition = (struct tm_ossd_condition){0};
  if (!x->request.s3) {
    const char *forbid = tm_ossd_header(&x->request, "x-oss-forbid-overwrite");
    if (forbid != NULL && strcmp(forbid, "true") != 0 && strcmp(forbid, "false") != 0)
      return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                            "x-oss-forbid-overwrite must be true or false.");
    condition->create_only = forbid != NULL && strcmp(forbid, "true") == 0;
    return true;
  }
  const char *none = tm_ossd_header(&x->request, "if-none-match");
  const char *match = tm_ossd_header(&x->request, "if-match");
  if (none != NULL && strcmp(none, "*") != 0)
    return tm_ossd_refuse(&x->refusal, 501, "NotImplemented",
                          "A header you provided implies functionality that is not "
                          "implemented.");
  condition->create_only = none != NULL;
  if (match != NULL) {
    size_t n = strlen(match);
    char *inner = (char *)match; /* a request's header, whose quotes end here */
    if (n >= 2 && match[0] == '"' && match[n - 1] == '"') {
      inner[n - 1] = '\0';
      inner++;
    }
    condition->if_match = inner;
  }
  return true;
}

static bool commit(struct tm_ossd_exchange *x, struct tm_ossd_record *r)
{
  struct tm_error err;
  struct tm_ossd_condition condition;
  if (!tm_ossd_condition(x, &condition))
    return false;
  memcpy(r->etag, x->digest.etag, sizeof r->etag);
  r->size = x->digest.size;
  r->crc = x->digest.crc;
  r->has_crc = true;
  enum tm_ossd_result result = TM_OSSD_FAILED;
  if (tm_ossd_temp_seal(x->server->store, &x->temp, r, &err))
    result = tm_ossd_commit(x->server->store, x->request.bucket, &x->temp, r, &condition,
                            &err);
  return result == TM_OSSD_OK || tm_ossd_refuse_result(x, result, &err);
}

bool tm_ossd_put_object(struct tm_ossd_exchange *x)
{
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  if (r == NULL)
    return no_memory(x);
  tm_ossd_fault_wait(x->server->faults, TM_FAULT_STALL);
  bool ok = tm_ossd_record_request(x, r) && commit(x, r);
  tm_ossd_record_free(r);
  free(r);
  if (!ok)
    return false;
  tm_ossd_fault_wait(x->server->faults, TM_FAULT_LATE);
  x->answer.status = 200;
  x->answer.drop = tm_ossd_fault(x->server->faults, TM_FAULT_DROP_PUT);
  return (tm_ossd_set_etag(x, x->digest.etag) && tm_ossd_set_crc(x, x->digest.crc)) ||
         no_memory(x);
}

bool tm_ossd_delete_object(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  enum tm_ossd_result result =
      tm_ossd_remove(x->server->store, x->request.bucket, x->request.key, &err);
  if (result != TM_OSSD_OK)
    return tm_ossd_refuse_result(x, result, &err);
  x->answer.status = 204;
  return true;
}

/* -- conditions of reading -- */

/* Does an If-Match or If-None-Match list name the etag? */
static bool names_etag(const char *list, const char *etag)
{
  char one[TM_OSSD_ETAG + 8];
  while (*list != '\0') {
    list += strspn(list, " ,\t");
    size_t n = strcspn(list, ", \t");
    char item[TM_OSSD_ETAG + 8];
    snprintf(item, sizeof item, "%.*s", n < sizeof item ? (int)n : 0, list);
    without_quotes(item, one, sizeof one);
    if (strcmp(one, "*") == 0 || strcasecmp(one, etag) == 0)
      return true;
    list += n;
  }
  return false;
}

/* The value of `PREFIXname`: a condition of a read, or of a copy's source. */
static const char *condition_header(struct tm_ossd_exchange *x, bool copy,
                                    const char *name)
{
  char full[64];
  if (!copy)
    return tm_ossd_header(&x->request, name);
  snprintf(full, sizeof full, "copy-source-%s", name);
  return tm_ossd_vendor_header(&x->request, full);
}

static bool check_read_conditions(struct tm_ossd_exchange *x, bool copy,
                                  const struct tm_ossd_record *r)
{
  int64_t time;
  const char *match = condition_header(x, copy, "if-match");
  const char *none = condition_header(x, copy, "if-none-match");
  const char *since = condition_header(x, copy, "if-modified-since");
  const char *unmodified = condition_header(x, copy, "if-unmodified-since");
  bool failed = match != NULL && !names_etag(match, r->etag);
  if (match == NULL && unmodified != NULL && tm_date_parse_rfc1123(unmodified, &time))
    failed = r->mtime > time;
  if (failed)
    return tm_ossd_refuse_result(x, TM_OSSD_PRECONDITION, NULL);
  bool same = none != NULL && names_etag(none, r->etag);
  if (none == NULL && since != NULL && tm_date_parse_rfc1123(since, &time))
    same = r->mtime <= time;
  if (!same)
    return true;
  if (copy)
    return tm_ossd_refuse_result(x, TM_OSSD_PRECONDITION, NULL);
  return tm_ossd_refuse(&x->refusal, 304, "NotModified", "Not modified.");
}

/* -- get -- */

static bool set_stored_headers(struct tm_ossd_exchange *x, const struct tm_ossd_record *r)
{
  static const char *const written[] = {"Content-Type",     "Content-Encoding",
                                        "Cache-Control",    "Content-Disposition",
                                        "Content-Language", "Expires"};
  const char *type = x->request.s3 ? "binary/octet-stream" : "application/octet-stream";
  for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
    char parameter[64];
    snprintf(parameter, sizeof parameter, "response-%s", kept_headers[i]);
    const char *value = tm_ossd_param(&x->request, parameter);
    if (value == NULL || x->request.auth.scheme == TM_SIGN_NONE)
      value = tm_ossd_record_header(r, kept_headers[i]);
    if (value == NULL && i == 0)
      value = type;
    if (value != NULL && !tm_ossd_set(x, written[i], "%s", value))
      return false;
  }
  for (size_t i = 0; i < r->header_count; i++)
    if (strncmp(r->headers[i].name, "meta-", 5) == 0 &&
        !tm_ossd_set_vendor(x, r->headers[i].name, r->headers[i].value))
      return false;
  const char *class = tm_ossd_record_header(r, "storage-class");
  if (class == NULL && !x->request.s3)
    class = "Standard";
  return class == NULL || tm_ossd_set_vendor(x, "storage-class", class);
}

static bool set_object_headers(struct tm_ossd_exchange *x, const struct tm_ossd_record *r)
{
  char date[TM_DATE_SIZE];
  tm_date_rfc1123(r->mtime, date);
  return set_stored_headers(x, r) && tm_ossd_set_etag(x, r->etag) &&
         tm_ossd_set(x, "Last-Modified", "%s", date) &&
         tm_ossd_set(x, "Accept-Ranges", "bytes") &&
         (!r->has_crc || tm_ossd_set_crc(x, r->crc)) &&
         (x->request.s3 ||
          tm_ossd_set_vendor(x, "object-type",
                             r->segment_count > 0 ? "Multipart" : "Normal"));
}

static void set_faults(struct tm_ossd_exchange *x, struct tm_ossd_reader *reader)
{
  struct tm_ossd_faults *f = x->server->faults;
  if (strcmp(x->request.method, "GET") != 0)
    return;
  if (tm_ossd_fault(f, TM_FAULT_CUT))
    reader->cut_at = x->answer.first + x->answer.length / 2;
  if (tm_ossd_fault(f, TM_FAULT_CORRUPT))
    reader->corrupt_at = x->answer.first + x->answer.length / 2;
  reader->slow = tm_ossd_fault(f, TM_FAULT_SLOW);
}

static bool answer_range(struct tm_ossd_exchange *x, const struct tm_ossd_record *r)
{
  struct tm_ossd_answer *a = &x->answer;
  const char *behaviour = tm_ossd_header(&x->request, "x-oss-range-behavior");
  bool strict =
      x->request.s3 || (behaviour != NULL && strcmp(behaviour, "standard") == 0);
  const char *range = tm_ossd_header(&x->request, "range");
  a->status = 200;
  switch (tm_ossd_range_parse(range, r->size, strict, &a->first, &a->length)) {
  case TM_OSSD_WHOLE:
    return true;
  case TM_OSSD_PARTIAL:
    a->status = 206;
    return tm_ossd_set(x, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                       a->first, a->first + a->length - 1, r->size) ||
           no_memory(x);
  case TM_OSSD_UNSATISFIABLE:
    break;
  }
  char size[24];
  snprintf(size, sizeof size, "%" PRIu64, r->size);
  tm_ossd_refusal_add(&x->refusal, "RangeRequested", range);
  tm_ossd_refusal_add(&x->refusal, "ActualObjectSize", size);
  return tm_ossd_refuse(&x->refusal, 416, "InvalidRange",
                        "The requested range cannot be satisfied.");
}

bool tm_ossd_get_object(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  struct tm_ossd_reader *reader = NULL;
  for (int attempt = 0;; attempt++) {
    enum tm_ossd_result result = tm_ossd_reader_open(x->server->store, x->request.bucket,
                                                     x->request.key, &reader, &err);
    if (result != TM_OSSD_OK)
      return tm_ossd_refuse_result(x, result, &err);
    x->answer.headers.len = 0;
    x->answer.reader = reader; /* the exchange owns it from here */
    if (!check_read_conditions(x, false, &reader->record) ||
        !answer_range(x, &reader->record))
      return false;
    if (tm_ossd_reader_pin(reader, x->answer.first, x->answer.length))
      break;
    tm_ossd_reader_close(reader); /* replaced between record and parts: look again */
    x->answer.reader = NULL;
    if (attempt == 10)
      return tm_ossd_refuse(&x->refusal, 500, "InternalError",
                            "A part of the object is missing.");
  }
  set_faults(x, reader);
  return set_object_headers(x, &reader->record) || no_memory(x);
}

/* -- copy -- */

/* "/bucket/encoded-key[?versionId=...]" or without the first slash. */
static bool split_source(struct tm_ossd_exchange *x, const char *text, char bucket[64],
                         char key[TM_OSSD_KEY + 1])
{
  struct tm_error err;
  struct tm_buffer b = {0};
  text += *text == '/';
  size_t n = strcspn(text, "/");
  bool ok = n < 64 && text[n] == '/';
  if (ok) {
    snprintf(bucket, 64, "%.*s", (int)n, text);
    text += n + 1;
    ok = tm_decode(&b, text, strcspn(text, "?"), &err) && tm_buffer_cstr(&b) != NULL &&
         b.len > 0 && b.len <= TM_OSSD_KEY && memchr(b.data, '\0', b.len) == NULL &&
         tm_ossd_is_bucket_name(bucket);
  }
  if (ok)
    memcpy(key, b.data, b.len + 1);
  tm_buffer_free(&b);
  return ok || tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                              "The copy source must be /bucket/key, percent-encoded.");
}

bool tm_ossd_copy_source(struct tm_ossd_exchange *x, struct tm_ossd_reader **reader)
{
  char bucket[64], key[TM_OSSD_KEY + 1];
  struct tm_error err;
  if (!split_source(x, tm_ossd_vendor_header(&x->request, "copy-source"), bucket, key))
    return false;
  enum tm_ossd_result result =
      tm_ossd_reader_open(x->server->store, bucket, key, reader, &err);
  if (result != TM_OSSD_OK)
    return tm_ossd_refuse_result(x, result, &err);
  if (check_read_conditions(x, true, &(*reader)->record))
    return true;
  tm_ossd_reader_close(*reader);
  *reader = NULL;
  return false;
}

static bool write_at(int fd, const char *bytes, size_t n, uint64_t offset)
{
  for (size_t done = 0; done < n;) {
    ssize_t k = pwrite(fd, bytes + done, n - done, (off_t)(offset + done));
    if (k <= 0)
      return false;
    done += (size_t)k;
  }
  return true;
}

bool tm_ossd_copy_bytes(struct tm_ossd_exchange *x, struct tm_ossd_reader *reader,
                        uint64_t first, uint64_t length)
{
  enum { BLOCK = 1 << 20 };
  struct tm_error err;
  struct tm_ossd_digest *d = &x->digest;
  unsigned char md5[TM_DIGEST_MAX];
  struct tm_hasher *hasher = tm_hasher_new(TM_MD5);
  char *block = malloc(BLOCK);
  bool ok = hasher != NULL && block != NULL;
  *d = (struct tm_ossd_digest){0};
  if (!tm_ossd_temp_open(x->server->store, x->request.bucket, &x->temp, &err))
    ok = false;
  while (ok && d->size < length) {
    uint64_t left = length - d->size;
    ssize_t n = tm_ossd_reader_read(reader, first + d->size, block,
                                    left < BLOCK ? (size_t)left : BLOCK);
    ok = n > 0 && tm_hasher_add(hasher, block, (size_t)n) &&
         write_at(x->temp.fd, block, (size_t)n, d->size);
    if (ok) {
      d->crc = tm_crc64(d->crc, block, (size_t)n);
      d->size += (uint64_t)n;
    }
  }
  ok = ok && tm_hasher_finish(hasher, md5);
  if (ok)
    tm_hex(md5, 16, d->etag);
  tm_hasher_free(hasher);
  free(block);
  return ok || tm_ossd_refuse(&x->refusal, 500, "InternalError", "The copy failed.");
}

static bool copy_headers(struct tm_ossd_exchange *x, const struct tm_ossd_record *from,
                         struct tm_ossd_record *to)
{
  const char *directive = tm_ossd_vendor_header(&x->request, "metadata-directive");
  if (directive != NULL && strcasecmp(directive, "REPLACE") == 0)
    return tm_ossd_record_request(x, to);
  if (directive != NULL && strcasecmp(directive, "COPY") != 0)
    return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                          "The metadata directive must be COPY or REPLACE.");
  snprintf(to->key, sizeof to->key, "%s", x->request.key);
  to->mtime = tm_clock_wall_ms() / 1000;
  for (size_t i = 0; i < from->header_count; i++)
    if (!tm_ossd_record_add(to, from->headers[i].name, from->headers[i].value,
                            strlen(from->headers[i].value)))
      return no_memory(x);
  return true;
}

bool tm_ossd_copy_object(struct tm_ossd_exchange *x)
{
  struct tm_ossd_reader *reader = NULL;
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  if (r == NULL)
    return no_memory(x);
  bool ok = tm_ossd_copy_source(x, &reader) && copy_headers(x, &reader->record, r) &&
            tm_ossd_copy_bytes(x, reader, 0, reader->record.size) && commit(x, r);
  tm_ossd_reader_close(reader);
  int64_t mtime = r->mtime;
  tm_ossd_record_free(r);
  free(r);
  if (!ok)
    return false;
  return tm_ossd_answer_xml(x, 200,
                            tm_ossd_set_crc(x, x->digest.crc) &&
                                tm_ossd_open_root(x, "CopyObjectResult") &&
                                tm_ossd_element_time(x, "LastModified", mtime) &&
                                tm_ossd_element_etag(x, x->digest.etag) &&
                                tm_ossd_close_element(x, "CopyObjectResult"));
}
