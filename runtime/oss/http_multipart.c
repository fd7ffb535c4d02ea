/*
** http_multipart.c: multipart uploads of oss:// and s3://
*/
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver/crc64.h"
#include "driver/xml.h"
#include "oss/http_store.h"
#include "oss/ours.h"

enum { LONG_STALL_MS = 300000 }; /* the store may join parts for long before it answers */

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

bool tm_http_multipart_create(struct tm_oss *store, const char *key,
                              const struct tm_oss_put_opts *opts, char **upload_id,
                              const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_call call = {.store = store,
                         .what = "begin an upload to",
                         .method = "POST",
                         .key = key,
                         .has_body = true,
                         .error_in_200 = true,
                         .settles = true, /* an upload nobody knows is never aborted */
                         .cancel = cancel};
  tm_call_query(&call, "uploads", NULL);
  tm_call_put_opts(&call, opts);
  if (store->scheme == TM_OSS_S3)
    tm_call_no_header(&call, "If-None-Match"); /* S3 takes it at Complete */
  *upload_id = NULL;
  if (tm_call_send(&call, err))
    *upload_id =
        tm_reply_field(call.reply.body.data, call.reply.body.len, "UploadId", err);
  tm_call_free(&call);
  return *upload_id != NULL;
}

static bool check_part(void *data, struct tm_call *call, struct tm_error *err)
{
  struct tm_oss_part *p = data;
  const char *etag = tm_http_header(&call->reply, "etag");
  const char *crc = tm_http_header(&call->reply, "x-oss-hash-crc64ecma");
  uint64_t theirs;
  if (etag == NULL || etag[0] == '\0') {
    tm_error_set(err, TM_EPROTOCOL, "the store took part %d without an ETag", p->number);
    return false;
  }
  tm_oss_etag(etag, p->etag);
  if (crc == NULL || !tm_parse_u64(crc, &theirs) || theirs == p->crc64)
    return true;
  tm_error_set(err, TM_EINTEGRITY,
               "part %d: the store has CRC64 %" PRIu64 ", sent was %" PRIu64, p->number,
               theirs, p->crc64);
  return false;
}

bool tm_http_multipart_part(struct tm_oss *store, const char *key, const char *upload_id,
                            int number, const void *bytes, size_t n,
                            struct tm_oss_part *part, const struct tm_cancel *cancel,
                            struct tm_error *err)
{
  char text[16];
  *part = (struct tm_oss_part){.number = number,
                               .size = (int64_t)n,
                               .has_crc64 = true,
                               .crc64 =
                                   part->has_crc64 ? part->crc64 : tm_crc64(0, bytes, n)};
  struct tm_call call = {.store = store,
                         .what = "upload a part of",
                         .method = "PUT",
                         .key = key,
                         .body = bytes,
                         .body_len = n,
                         .has_body = true,
                         .cancel = cancel,
                         .check = check_part,
                         .data = part};
  snprintf(text, sizeof text, "%d", number);
  tm_call_query(&call, "partNumber", text);
  tm_call_query(&call, "uploadId", upload_id);
  bool ok = tm_call_send(&call, err);
  tm_call_free(&call);
  return ok;
}

/* ---- complete ---- */

struct complete {
  const struct tm_oss_part *parts;
  size_t count;
  bool has_crc64;
  uint64_t crc64;
  int64_t size;
};

static bool complete_body(const struct complete *c, struct tm_buffer *body)
{
  bool ok = tm_buffer_adds(body, "<CompleteMultipartUpload>");
  for (size_t i = 0; ok && i < c->count; i++)
    ok = tm_buffer_addf(body, "<Part><PartNumber>%d</PartNumber><ETag>&quot;",
                        c->parts[i].number) &&
         tm_xml_escape(body, c->parts[i].etag, strlen(c->parts[i].etag)) &&
         tm_buffer_adds(body, "&quot;</ETag></Part>");
  return ok && tm_buffer_adds(body, "</CompleteMultipartUpload>");
}

static void combine(struct complete *c)
{
  c->has_crc64 = true;
  for (size_t i = 0; i < c->count; i++) {
    const struct tm_oss_part *p = &c->parts[i];
    c->crc64 = tm_crc64_combine(c->crc64, p->crc64, (uint64_t)p->size);
    c->size += p->size;
    c->has_crc64 = c->has_crc64 && p->has_crc64;
  }
}

/* An earlier try may have completed the upload unseen: is the object there ours? */
static bool is_ours(struct tm_oss *store, const char *key, const struct complete *c,
                    struct tm_oss_info *info, const struct tm_cancel *cancel)
{
  struct tm_oss_sent sent = {.size = c->size,
                             .has_crc64 = c->has_crc64,
                             .crc64 = c->crc64,
                             .parts = c->parts,
                             .part_count = c->count};
  return tm_oss_is_ours(store, key, &sent, info, cancel) > 0;
}

static bool check_complete(void *data, struct tm_call *call, struct tm_error *err)
{
  const struct complete *c = data;
  const char *crc = tm_http_header(&call->reply, "x-oss-hash-crc64ecma");
  uint64_t theirs;
  if (crc == NULL || !c->has_crc64 || !tm_parse_u64(crc, &theirs) || theirs == c->crc64)
    return true;
  tm_error_set(err, TM_EINTEGRITY,
               "the store has CRC64 %" PRIu64 ", the parts sent have %" PRIu64, theirs,
               c->crc64);
  call->progressed = false;
  return false;
}

/* The reply has the ETag in its XML. Some stores (radosgw 16) leave it empty. */
static bool read_complete(struct tm_call *call, struct tm_oss_info *info,
                          struct tm_error *err)
{
  char *etag = tm_reply_field(call->reply.body.data, call->reply.body.len, "ETag", err);
  if (etag == NULL) {
    tm_error_prefix(err, "the upload of '%.120s' was completed without an ETag",
                    call->key);
    return false;
  }
  tm_oss_etag(etag, info->etag);
  free(etag);
  return true;
}

bool tm_http_multipart_complete(struct tm_oss *store, const char *key,
                                const char *upload_id, const struct tm_oss_part *parts,
                                size_t count, bool create_only, struct tm_oss_info *info,
                                const struct tm_cancel *cancel, struct tm_error *err)
{
  struct complete c = {.parts = parts, .count = count};
  struct tm_buffer body = {0};
  combine(&c);
  if (!complete_body(&c, &body)) {
    tm_buffer_free(&body);
    return out_of_memory(err);
  }
  struct tm_call call = {.store = store,
                         .what = "complete the upload to",
                         .method = "POST",
                         .key = key,
                         .body = body.data,
                         .body_len = body.len,
                         .has_body = true,
                         .cancel = cancel,
                         .error_in_200 = true,
                         .stall_timeout_ms = LONG_STALL_MS,
                         .check = check_complete,
                         .data = &c};
  tm_call_query(&call, "uploadId", upload_id);
  tm_call_header(&call, "Content-Type", "application/xml");
  if (create_only)
    tm_call_create_only(&call);
  bool ok = tm_call_send(&call, err);
  if (ok) {
    ok = read_complete(&call, info, err) || is_ours(store, key, &c, info, cancel);
  } else if (call.maybe_done &&
             (err->kind == TM_EEXISTS || strcmp(err->code, "NoSuchUpload") == 0)) {
    ok = is_ours(store, key, &c, info, cancel);
  }
  if (ok) {
    info->size = c.size;
    info->has_crc64 = c.has_crc64;
    info->crc64 = c.crc64;
  }
  tm_call_free(&call);
  tm_buffer_free(&body);
  return ok;
}

/* ---- abort and listings ---- */

bool tm_http_multipart_abort(struct tm_oss *store, const char *key, const char *upload_id,
                             bool cleanup, struct tm_error *err)
{
  struct tm_call call = {.store = store,
                         .what = "abort the upload to",
                         .method = "DELETE",
                         .key = key,
                         .cleanup = cleanup};
  tm_call_query(&call, "uploadId", upload_id);
  bool ok = tm_call_send(&call, err) || strcmp(err->code, "NoSuchUpload") == 0;
  tm_call_free(&call);
  return ok;
}

bool tm_http_multipart_parts(struct tm_oss *store, const char *key, const char *upload_id,
                             struct tm_oss_parts *parts, const struct tm_cancel *cancel,
                             struct tm_error *err)
{
  int next = 0;
  do {
    struct tm_call call = {.store = store,
                           .what = "list the parts of",
                           .method = "GET",
                           .key = key,
                           .error_in_200 = true,
                           .cancel = cancel};
    char marker[16];
    int before = next;
    snprintf(marker, sizeof marker, "%d", next);
    tm_call_query(&call, "uploadId", upload_id);
    tm_call_query(&call, "max-parts", "1000");
    if (next > 0)
      tm_call_query(&call, "part-number-marker", marker);
    bool ok =
        tm_call_send(&call, err) &&
        tm_reply_parts(call.reply.body.data, call.reply.body.len, parts, &next, err);
    tm_call_free(&call);
    if (ok && next != 0 && next <= before) {
      tm_error_set(err, TM_EPROTOCOL, "the list of parts does not advance");
      ok = false;
    }
    if (!ok) {
      tm_oss_parts_free(parts);
      return false;
    }
  } while (next != 0);
  return true;
}

static bool uploads_page(struct tm_oss *store, const char *prefix,
                         struct tm_oss_uploads *uploads, char **key, char **id,
                         bool cleanup, const struct tm_cancel *cancel,
                         struct tm_error *err)
{
  struct tm_call call = {.store = store,
                         .what = "list the uploads of",
                         .method = "GET",
                         .under = prefix,
                         .error_in_200 = true,
                         .cleanup = cleanup,
                         .cancel = cancel};
  struct tm_buffer full = {0};
  char *next_key = NULL, *next_id = NULL;
  tm_call_query(&call, "uploads", NULL);
  tm_call_query(&call, "encoding-type", "url");
  tm_call_query(&call, "max-uploads", "1000");
  if (!tm_buffer_adds(&full, store->prefix) ||
      !tm_buffer_adds(&full, prefix != NULL ? prefix : "") ||
      tm_buffer_cstr(&full) == NULL)
    call.out_of_memory = true;
  else if (full.len > 0)
    tm_call_query(&call, "prefix", full.data);
  if (*key != NULL) {
    tm_call_query(&call, "key-marker", *key);
    tm_call_query(&call, "upload-id-marker", *id);
  }
  bool ok = tm_call_send(&call, err) &&
            tm_reply_uploads(store->scheme, call.reply.body.data, call.reply.body.len,
                             store->prefix, uploads, &next_key, &next_id, err);
  if (ok && *key != NULL && next_key != NULL && strcmp(*key, next_key) == 0 &&
      strcmp(*id, next_id) == 0) {
    tm_error_set(err, TM_EPROTOCOL, "the store's listing does not come to an end");
    ok = false;
  }
  tm_call_free(&call);
  tm_buffer_free(&full);
  free(*key);
  free(*id);
  *key = next_key;
  *id = next_id;
  return ok;
}

bool tm_http_multipart_uploads(struct tm_oss *store, const char *prefix,
                               struct tm_oss_uploads *uploads,
                               const struct tm_cancel *cancel, struct tm_error *err)
{
  char *key = NULL, *id = NULL;
  bool ok;
  do
    ok = uploads_page(store, prefix, uploads, &key, &id, false, cancel, err);
  while (ok && key != NULL);
  free(key);
  free(id);
  if (!ok)
    tm_oss_uploads_free(uploads);
  return ok;
}

/* Aborts what there is now; *count says how many. The first page has them all: the key itself
** comes before all that it is the beginning of. */
static bool forget_present(struct tm_oss *store, const char *key, size_t *count,
                           struct tm_error *err)
{
  struct tm_oss_uploads uploads = {0};
  char *next_key = NULL, *next_id = NULL;
  bool ok = uploads_page(store, key, &uploads, &next_key, &next_id, true, NULL, err);
  for (size_t i = 0; ok && i < uploads.count; i++)
    if (strcmp(uploads.items[i].key, key) == 0) {
      ok = tm_http_multipart_abort(store, key, uploads.items[i].upload_id, true, err);
      ++*count;
    }
  tm_oss_uploads_free(&uploads);
  free(next_key);
  free(next_id);
  return ok;
}

/* A request that was given up a moment ago may reach the store after the first question. */
bool tm_http_multipart_forget(struct tm_oss *store, const char *key, struct tm_error *err)
{
  size_t count = 0;
  bool ok = forget_present(store, key, &count, err);
  for (int ms = 50; ok && count == 0 && ms <= 200; ms *= 2) {
    struct timespec ts = {.tv_nsec = ms * 1000000};
    nanosleep(&ts, NULL);
    ok = forget_present(store, key, &count, err);
  }
  return ok;
}
