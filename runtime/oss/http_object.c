/*
** http_object.c: put, head, delete and copy of oss:// and s3://
**
** The CRC64 of what is uploaded is computed here and compared with the store's answer; a
** difference is a failed try. S3 bodies are covered by the signature (SHA-256).
*/
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "driver/crc64.h"
#include "oss/encode.h"
#include "oss/http_store.h"
#include "oss/ours.h"

enum { LONG_STALL_MS = 300000 }; /* a copy answers when it is done */

struct put {
  uint64_t crc64;
};

/* The store's CRC64, where it names one, must be ours. */
static bool check_put(void *data, struct tm_call *call, struct tm_error *err)
{
  const struct put *p = data;
  const char *v = tm_http_header(&call->reply, "x-oss-hash-crc64ecma");
  uint64_t theirs;
  if (v == NULL || !tm_parse_u64(v, &theirs) || theirs == p->crc64)
    return true;
  tm_error_set(err, TM_EINTEGRITY, "the store has CRC64 %" PRIu64 ", sent was %" PRIu64,
               theirs, p->crc64);
  return false;
}

static bool http_put(struct tm_oss *store, const char *key, const void *bytes, size_t n,
                     const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                     const struct tm_cancel *cancel, struct tm_error *err)
{
  struct put p = {.crc64 = tm_crc64(0, bytes, n)};
  struct tm_call call = {.store = store,
                         .what = "put",
                         .method = "PUT",
                         .key = key,
                         .body = bytes,
                         .body_len = n,
                         .has_body = true,
                         .cancel = cancel,
                         .check = check_put,
                         .data = &p};
  tm_call_put_opts(&call, opts);
  bool ok = tm_call_send(&call, err);
  if (ok) {
    ok = tm_reply_info(&call.reply, info, err);
  } else if (err->kind == TM_EEXISTS && call.maybe_done) {
    struct tm_oss_sent sent = {
        .size = (int64_t)n, .has_crc64 = true, .crc64 = p.crc64, .bytes = bytes};
    ok = tm_oss_is_ours(store, key, &sent, info, cancel) > 0; /* an earlier try made it */
  }
  if (ok) {
    info->size = (int64_t)n;
    info->has_crc64 = true;
    info->crc64 = p.crc64;
  }
  tm_call_free(&call);
  return ok;
}

static bool http_head(struct tm_oss *store, const char *key, struct tm_oss_info *info,
                      const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_call call = {
      .store = store, .what = "look at", .method = "HEAD", .key = key, .cancel = cancel};
  bool ok = tm_call_send(&call, err) && tm_reply_info(&call.reply, info, err);
  tm_call_free(&call);
  return ok;
}

static bool http_delete(struct tm_oss *store, const char *key, bool cleanup,
                        const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_call call = {.store = store,
                         .what = "delete",
                         .method = "DELETE",
                         .key = key,
                         .cleanup = cleanup,
                         .cancel = cancel};
  bool ok = tm_call_send(&call, err);
  if (!ok && err->kind == TM_ENOTFOUND && strcmp(err->code, "NoSuchBucket") != 0)
    ok = true; /* some stores say so instead of 204 */
  tm_call_free(&call);
  return ok;
}

/* Without a body both vendors make the bucket in the region of the endpoint; S3 wants any
** region but its first one spelt out. */
bool tm_oss_bucket_create(struct tm_oss *store, const struct tm_cancel *cancel,
                          struct tm_error *err)
{
  struct tm_buffer body = {0};
  struct tm_call call = {.store = store,
                         .what = "create the bucket of",
                         .method = "PUT",
                         .has_body = true,
                         .cancel = cancel};
  if (store->scheme == TM_OSS_FILE)
    return true;
  if (store->scheme == TM_OSS_S3 && strcmp(store->address.region, "us-east-1") != 0 &&
      !tm_buffer_addf(&body,
                      "<CreateBucketConfiguration><LocationConstraint>%s"
                      "</LocationConstraint></CreateBucketConfiguration>",
                      store->address.region))
    call.out_of_memory = true;
  call.body = body.data;
  call.body_len = body.len;
  tm_call_header(&call, "Content-Type", "application/xml");
  bool ok = tm_call_send(&call, err) || strcmp(err->code, "BucketAlreadyOwnedByYou") == 0;
  tm_call_free(&call);
  tm_buffer_free(&body);
  return ok;
}

bool tm_oss_bucket_delete(struct tm_oss *store, const struct tm_cancel *cancel,
                          struct tm_error *err)
{
  struct tm_call call = {.store = store,
                         .what = "delete the bucket of",
                         .method = "DELETE",
                         .cancel = cancel};
  if (store->scheme == TM_OSS_FILE)
    return true;
  bool ok = tm_call_send(&call, err);
  tm_call_free(&call);
  return ok;
}

static bool add_copy_source(struct tm_call *call, const char *from)
{
  struct tm_buffer source = {0};
  struct tm_oss *s = call->store;
  bool ok = tm_buffer_addc(&source, '/') && tm_buffer_adds(&source, s->address.bucket) &&
            tm_buffer_addc(&source, '/') &&
            tm_encode_path(&source, s->prefix, strlen(s->prefix)) &&
            tm_encode_path(&source, from, strlen(from)) &&
            tm_buffer_cstr(&source) != NULL;
  if (ok)
    tm_call_vendor(call, "copy-source", source.data);
  tm_buffer_free(&source);
  return ok;
}

static bool http_copy(struct tm_oss *store, const char *from, const char *to,
                      const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                      const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_call call = {.store = store,
                         .what = "copy to",
                         .method = "PUT",
                         .key = to,
                         .has_body = true,
                         .cancel = cancel,
                         .error_in_200 = true,
                         .stall_timeout_ms = LONG_STALL_MS};
  struct tm_oss_put_opts kept = {.create_only = opts != NULL && opts->create_only};
  tm_call_put_opts(&call, &kept);
  tm_call_no_header(&call, "Content-Type"); /* metadata goes along with the copy */
  if (!add_copy_source(&call, from))
    call.out_of_memory = true;
  bool ok = tm_call_send(&call, err) && tm_reply_info(&call.reply, info, err);
  char *etag = NULL;
  if (ok &&
      (etag = tm_reply_field(call.reply.body.data, call.reply.body.len, "ETag", err)))
    tm_oss_etag(etag, info->etag);
  ok = ok && etag != NULL;
  info->size = -1; /* the reply's length is that of its XML */
  info->content_type[0] = '\0';
  free(etag);
  tm_call_free(&call);
  return ok;
}

const struct tm_oss_backend tm_oss_http_backend = {
    .put = http_put,
    .stream = tm_http_stream,
    .head = http_head,
    .delete = http_delete,
    .delete_many = tm_http_delete_many,
    .copy = http_copy,
    .list = tm_http_list,
    .multipart_create = tm_http_multipart_create,
    .multipart_part = tm_http_multipart_part,
    .multipart_complete = tm_http_multipart_complete,
    .multipart_abort = tm_http_multipart_abort,
    .multipart_parts = tm_http_multipart_parts,
    .multipart_uploads = tm_http_multipart_uploads,
    .multipart_forget = tm_http_multipart_forget,
};
