/*
** http_get.c: reading an object or a range of it, resuming where a body broke
**
** Every try after the first asks for what is missing only, pinned by If-Match to the etag
** of the first reply. No byte is handed on before status, Content-Range and etag of its
** reply were found right.
*/
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "driver/crc64.h"
#include "oss/http_store.h"

struct download {
  const struct tm_oss_get_opts *opts;
  tm_oss_take *take;
  void *data;
  struct tm_call *call;
  struct tm_oss_info *info; /* of the first reply */
  bool has_info;
  bool ranged;         /* this try asked for a range */
  bool verified;       /* this try's reply was looked at */
  int64_t first, last; /* bytes of the object that this try brings; last -1: unknown */
  int64_t got;         /* bytes handed on so far, over all tries */
  uint64_t crc64;
};

enum { PROGRESS_BYTES = 64 * 1024 }; /* what a try must bring to count as a new start */

static int64_t start_of(const struct download *d)
{
  return (d->opts->range ? d->opts->offset : 0) + d->got;
}

static void set_range(void *data, struct tm_call *call)
{
  struct download *d = data;
  char text[64], match[136];
  d->verified = false;
  d->ranged = d->opts->range || d->got > 0;
  if (d->ranged) {
    if (d->opts->range && d->opts->length > 0)
      snprintf(text, sizeof text, "bytes=%" PRId64 "-%" PRId64, start_of(d),
               d->opts->offset + d->opts->length - 1);
    else
      snprintf(text, sizeof text, "bytes=%" PRId64 "-", start_of(d));
    tm_call_header(call, "Range", text);
    if (call->store->scheme == TM_OSS_OSS)
      tm_call_header(call, "x-oss-range-behavior", "standard");
  }
  const char *etag = d->opts->if_match != NULL ? d->opts->if_match
                     : d->has_info             ? d->info->etag
                                               : "";
  if (etag[0] != '\0') {
    snprintf(match, sizeof match, "\"%.127s\"", etag);
    tm_call_header(call, "If-Match", match);
  }
}

static bool verify_range(struct download *d, const struct tm_http_reply *reply,
                         struct tm_error *err)
{
  int64_t total;
  if (reply->status != 206 ||
      !tm_reply_content_range(reply, &d->first, &d->last, &total)) {
    tm_error_set(err, TM_EPROTOCOL,
                 "asked for a range, the store answered %d without one", reply->status);
    return false;
  }
  int64_t want = start_of(d);
  int64_t end = d->opts->range && d->opts->length > 0
                    ? d->opts->offset + d->opts->length - 1
                    : total - 1;
  if (end > total - 1)
    end = total - 1;
  if (d->first == want && d->last == end)
    return true;
  tm_error_set(err, TM_EPROTOCOL,
               "asked for bytes %" PRId64 "-%" PRId64 ", the store sends %" PRId64
               "-%" PRId64,
               want, end, d->first, d->last);
  return false;
}

/* Looks at status and headers of a 2xx reply, once a try. */
static bool verify(struct download *d, const struct tm_http_reply *reply,
                   struct tm_error *err)
{
  if (d->verified)
    return true;
  struct tm_oss_info now;
  if (!tm_reply_info(reply, &now, err))
    return false;
  if (d->ranged) {
    if (!verify_range(d, reply, err)) {
      tm_oss_info_free(&now);
      return false;
    }
  } else {
    d->first = 0;
    d->last = now.size >= 0 ? now.size - 1 : -1;
  }
  d->verified = true;
  const char *must = d->opts->if_match != NULL ? d->opts->if_match
                     : d->has_info             ? d->info->etag
                                               : now.etag;
  bool same = strcasecmp(now.etag, must) == 0;
  if (!d->has_info) {
    *d->info = now;
    d->has_info = true;
  } else {
    tm_oss_info_free(&now);
  }
  if (!same)
    tm_error_set(err, TM_ECONFLICT, "the object was replaced while it was read");
  return same;
}

static bool on_body(void *data, const struct tm_http_reply *reply, const char *bytes,
                    size_t n, struct tm_error *err)
{
  struct download *d = data;
  if (!verify(d, reply, err))
    return false;
  if (d->last >= 0 && start_of(d) + (int64_t)n > d->last + 1) {
    tm_error_set(err, TM_EPROTOCOL, "the store sends more than it announced");
    return false;
  }
  if (!d->opts->range)
    d->crc64 = tm_crc64(d->crc64, bytes, n);
  d->got += (int64_t)n;
  if (start_of(d) - d->first >= PROGRESS_BYTES)
    d->call->progressed = true;
  return d->take(d->data, bytes, n, err);
}

/* After a whole reply: did it bring everything? An empty object has no body. */
static bool check(void *data, struct tm_call *call, struct tm_error *err)
{
  struct download *d = data;
  if (!verify(d, &call->reply, err))
    return false;
  if (d->last < 0 || start_of(d) == d->last + 1)
    return true;
  tm_error_set(err, TM_EIO, "the body ended at byte %" PRId64 " of %" PRId64, start_of(d),
               d->last + 1);
  return false;
}

/* A whole object has a CRC64 to be compared with; a part of it has not. */
static bool check_crc(const struct download *d, struct tm_oss *store, const char *key,
                      struct tm_error *err)
{
  if (d->opts->range || !d->info->has_crc64 || d->info->crc64 == d->crc64)
    return true;
  char name[TM_OSS_NAME_SIZE];
  tm_oss_name(store, key, name);
  tm_error_set(err, TM_EINTEGRITY,
               "cannot get %s: CRC64 is %" PRIu64 ", the store says %" PRIu64, name,
               d->crc64, d->info->crc64);
  return false;
}

bool tm_http_stream(struct tm_oss *store, const char *key,
                    const struct tm_oss_get_opts *opts, tm_oss_take *take, void *data,
                    struct tm_oss_info *info, const struct tm_cancel *cancel,
                    struct tm_error *err)
{
  struct download d = {.opts = opts, .take = take, .data = data, .info = info};
  struct tm_call call = {.store = store,
                         .what = "get",
                         .method = "GET",
                         .key = key,
                         .cancel = cancel,
                         .prepare = set_range,
                         .on_body = on_body,
                         .check = check,
                         .data = &d};
  d.call = &call;
  bool ok = tm_call_send(&call, err);
  if (ok && info->size < 0)
    info->size = d.got;
  ok = ok && check_crc(&d, store, key, err);
  if (!ok && err->kind == TM_ECONFLICT && err->status == 412)
    tm_error_hint(err, "the object is no longer the one that was looked at: it was "
                       "replaced");
  if (!ok && err->status == 416)
    memcpy(err->code, "InvalidRange", 13);
  if (!ok)
    tm_oss_info_free(info);
  tm_call_free(&call);
  return ok;
}
