/*
** ours.c: is the object under a key the one that was sent?
*/
#include "oss/ours.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "driver/digest.h"
#include "oss/store.h"

enum { ETAG_SIZE = 2 * TM_DIGEST_MAX + 32 };

/* S3's ETag of an object put at once: the MD5 of its bytes. */
static bool etag_of_bytes(const struct tm_oss_sent *sent, char out[ETAG_SIZE])
{
  unsigned char md5[TM_DIGEST_MAX];
  if (!tm_digest(TM_MD5, sent->bytes != NULL ? sent->bytes : "", (size_t)sent->size, md5))
    return false;
  tm_hex(md5, tm_digest_size(TM_MD5), out);
  return true;
}

/* S3's ETag of an object made of these parts: md5 of the parts' md5s, "-", count. */
static bool etag_of_parts(const struct tm_oss_sent *sent, char out[ETAG_SIZE])
{
  unsigned char md5[TM_DIGEST_MAX];
  char hex[2 * TM_DIGEST_MAX + 1];
  struct tm_hasher *h = tm_hasher_new(TM_MD5);
  bool ok = h != NULL;
  for (size_t i = 0; ok && i < sent->part_count; i++) {
    const char *etag = sent->parts[i].etag;
    ok = strlen(etag) == 32 && tm_unhex(etag, 32, md5) && tm_hasher_add(h, md5, 16);
  }
  ok = ok && tm_hasher_finish(h, md5);
  tm_hasher_free(h);
  if (ok) {
    tm_hex(md5, 16, hex);
    snprintf(out, ETAG_SIZE, "%s-%zu", hex, sent->part_count);
  }
  return ok;
}

int tm_oss_is_ours(struct tm_oss *store, const char *key, const struct tm_oss_sent *sent,
                   struct tm_oss_info *info, const struct tm_cancel *cancel)
{
  struct tm_error err;
  char etag[ETAG_SIZE];
  if (!store->backend->head(store, key, info, cancel, &err))
    return err.kind == TM_ENOTFOUND ? 0 : -1;
  bool same = info->size == sent->size;
  if (info->has_crc64 && sent->has_crc64)
    same = same && info->crc64 == sent->crc64;
  else
    same =
        same &&
        (sent->parts != NULL ? etag_of_parts(sent, etag) : etag_of_bytes(sent, etag)) &&
        strcasecmp(etag, info->etag) == 0;
  if (!same)
    tm_oss_info_free(info);
  return same ? 1 : 0;
}
