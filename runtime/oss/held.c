/*
** held.c: an object that is uploaded but not visible yet
**
** What matters is knowing whether an object may be there. A completion that failed in a way
** that may have taken effect leaves the state IN_DOUBT: the next one then takes a refusal as
** the question whether the object is ours, and dropping deletes it as well.
*/
#include "oss/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "oss/ours.h"
#include "oss/put_opts.h"
#include "oss/store.h"

static bool upload_is_gone(const struct tm_error *err)
{
  return strcmp(err->code, "NoSuchUpload") == 0;
}

/* Whether a completion that failed so may have made the object all the same. */
static bool may_exist(const struct tm_error *err)
{
  switch (err->kind) {
  case TM_EEXISTS:
  case TM_EAUTH:
  case TM_EUSAGE:
  case TM_ENOTFOUND: /* no bucket, no upload: tries before this one were looked into */
    return false;
  default:
    return true;
  }
}

static bool send(struct tm_oss *store, const struct tm_oss_held *h, bool create_only,
                 struct tm_oss_info *info, const struct tm_cancel *cancel,
                 struct tm_error *err)
{
  if (h->upload_id != NULL)
    return tm_oss_multipart_complete(store, h->key, h->upload_id, h->parts, h->part_count,
                                     create_only, info, cancel, err);
  struct tm_oss_put_opts put = h->put;
  put.create_only = create_only;
  return tm_oss_put(store, h->key, h->bytes, (size_t)h->size, &put, info, cancel, err);
}

/* After a refusal: did an earlier completion make the object? As tm_oss_is_ours. */
static int look(struct tm_oss *store, const struct tm_oss_held *h,
                struct tm_oss_info *info, const struct tm_cancel *cancel)
{
  struct tm_oss_sent sent = {.size = h->size,
                             .has_crc64 = true,
                             .crc64 = h->crc64,
                             .bytes = h->bytes,
                             .parts = h->parts,
                             .part_count = h->part_count};
  return tm_oss_is_ours(store, h->key, &sent, info, cancel);
}

bool tm_oss_held_complete(struct tm_oss *store, struct tm_oss_held *held,
                          bool create_only, const struct tm_cancel *cancel,
                          struct tm_error *err)
{
  struct tm_oss_info info = {.size = -1, .modified_ms = -1};
  if (held->state == TM_HELD_COMPLETED)
    return true;
  if (held->state == TM_HELD_DROPPED) {
    tm_error_set(err, TM_EUSAGE, "'%.200s' was dropped", held->key);
    return false;
  }
  bool ok = send(store, held, create_only, &info, cancel, err);
  if (!ok && held->state == TM_HELD_IN_DOUBT) {
    if (err->kind == TM_EEXISTS || upload_is_gone(err)) {
      int ours = look(store, held, &info, cancel);
      ok = ours > 0;
      if (ours == 0)
        held->state = TM_HELD_PENDING; /* no doubt any more */
    }
  } else if (!ok && may_exist(err)) {
    held->state = TM_HELD_IN_DOUBT;
  }
  if (ok) {
    held->state = TM_HELD_COMPLETED;
    memcpy(held->etag, info.etag, sizeof held->etag);
    tm_oss_info_free(&info);
  }
  return ok;
}

static bool time_is_left(const struct tm_oss_held *h, int64_t deadline,
                         struct tm_error *err)
{
  if (tm_clock_left(deadline) != 0)
    return true;
  tm_error_set(err, TM_ETIMEOUT, "no time was left to remove '%.200s'", h->key);
  return false;
}

bool tm_oss_held_drop(struct tm_oss *store, struct tm_oss_held *held, int64_t deadline,
                      struct tm_error *err)
{
  struct tm_error second;
  bool ok = true;
  if (held->state == TM_HELD_DROPPED)
    return true;
  if (held->stray)
    ok = time_is_left(held, deadline, err) &&
         store->backend->multipart_forget(store, held->key, err);
  if (held->upload_id != NULL && held->state != TM_HELD_COMPLETED)
    ok = time_is_left(held, deadline, err) &&
         tm_oss_multipart_abort(store, held->key, held->upload_id, true, err);
  if (held->state !=
      TM_HELD_PENDING) { /* after the abort: a completion is through by then */
    struct tm_error *why = ok ? err : &second;
    ok = time_is_left(held, deadline, why) &&
         store->backend->delete (store, held->key, true, NULL, why) && ok;
  }
  if (ok)
    held->state = TM_HELD_DROPPED;
  return ok;
}

void tm_oss_held_free(struct tm_oss_held *held)
{
  if (held == NULL)
    return;
  tm_oss_put_opts_free(&held->put);
  free(held->key);
  free(held->upload_id);
  free(held->parts);
  free(held->bytes);
  free(held);
}
