/*
** result.c: presigned URLs, and freeing what operations returned
*/
#include <stdlib.h>
#include <string.h>

#include "oss/call.h"

bool tm_oss_presign(struct tm_oss *store, const char *method, const char *key,
                    int64_t expires_s, const char *content_type, struct tm_buffer *url,
                    const struct tm_cancel *cancel, struct tm_error *err)
{
  if (store->scheme == TM_OSS_FILE) {
    tm_error_set(err, TM_EUSAGE, "a file:// store has no presigned URLs");
    return false;
  }
  if (strcmp(method, "GET") != 0 && strcmp(method, "PUT") != 0) {
    tm_error_set(err, TM_EUSAGE, "only GET and PUT are presigned, not '%.20s'", method);
    return false;
  }
  if (key[0] == '\0' || expires_s < 1 || expires_s > 604800) {
    tm_error_set(err, TM_EUSAGE, "a presigned URL needs a key and 1 to 604800 seconds");
    return false;
  }
  struct tm_call call = {
      .store = store, .what = "presign", .method = method, .key = key, .cancel = cancel};
  if (content_type != NULL)
    tm_call_header(&call, "Content-Type", content_type);
  bool ok = tm_call_presign(&call, expires_s, url, err);
  tm_call_free(&call);
  return ok;
}

void tm_oss_info_free(struct tm_oss_info *info)
{
  for (size_t i = 0; i < info->meta_count; i++) {
    free(info->meta[i].name);
    free(info->meta[i].value);
  }
  free(info->meta);
  info->meta = NULL;
  info->meta_count = 0;
}

void tm_oss_failures_free(struct tm_oss_failures *f)
{
  for (size_t i = 0; i < f->count; i++)
    free(f->items[i].key);
  free(f->items);
  *f = (struct tm_oss_failures){0};
}

void tm_oss_page_free(struct tm_oss_page *page)
{
  for (size_t i = 0; i < page->count; i++)
    free(page->entries[i].key);
  free(page->entries);
  free(page->next);
  *page = (struct tm_oss_page){0};
}

void tm_oss_parts_free(struct tm_oss_parts *parts)
{
  free(parts->items);
  *parts = (struct tm_oss_parts){0};
}

void tm_oss_uploads_free(struct tm_oss_uploads *uploads)
{
  for (size_t i = 0; i < uploads->count; i++) {
    free(uploads->items[i].key);
    free(uploads->items[i].upload_id);
  }
  free(uploads->items);
  *uploads = (struct tm_oss_uploads){0};
}
