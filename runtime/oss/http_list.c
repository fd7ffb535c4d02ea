/*
** http_list.c: listing, and deleting by the thousand, of oss:// and s3://
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/row.h"
#include "driver/digest.h"
#include "driver/xml.h"
#include "oss/http_store.h"

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* A query parameter that carries the store's prefix before its value. */
static void prefixed(struct tm_call *call, const char *name, const char *value)
{
  struct tm_buffer full = {0};
  const char *prefix = call->store->prefix;
  if (value == NULL && prefix[0] == '\0')
    return;
  if (tm_buffer_adds(&full, prefix) &&
      tm_buffer_adds(&full, value != NULL ? value : "") &&
      tm_buffer_cstr(&full) != NULL) {
    if (full.len > 0) /* "prefix=" is canonicalised differently by servers: not sent */
      tm_call_query(call, name, full.data);
  } else {
    call->out_of_memory = true;
  }
  tm_buffer_free(&full);
}

struct list {
  struct tm_oss_page *page;
};

/* A reply that is cut or garbled fails this try, like a broken connection. */
static bool check_list(void *data, struct tm_call *call, struct tm_error *err)
{
  struct list *l = data;
  tm_oss_page_free(l->page);
  return tm_reply_list(call->store->scheme, call->reply.body.data, call->reply.body.len,
                       call->store->prefix, l->page, err);
}

bool tm_http_list(struct tm_oss *store, const struct tm_oss_list_opts *opts,
                  const char *token, struct tm_oss_page *page,
                  const struct tm_cancel *cancel, struct tm_error *err)
{
  struct list l = {.page = page};
  char size[16];
  int wanted = opts->page_size > 0 && opts->page_size <= 1000 ? opts->page_size : 1000;
  struct tm_call call = {.store = store,
                         .what = "list",
                         .method = "GET",
                         .under = opts->prefix,
                         .cancel = cancel,
                         .error_in_200 = true,
                         .check = check_list,
                         .data = &l};
  snprintf(size, sizeof size, "%d", wanted);
  tm_call_query(&call, "list-type", "2");
  tm_call_query(&call, "encoding-type", "url");
  tm_call_query(&call, "max-keys", size);
  prefixed(&call, "prefix", opts->prefix);
  if (opts->delimiter != NULL && opts->delimiter[0] != '\0')
    tm_call_query(&call, "delimiter", opts->delimiter);
  if (token != NULL)
    tm_call_query(&call, "continuation-token", token);
  else if (opts->start_after != NULL && opts->start_after[0] != '\0')
    prefixed(&call, "start-after", opts->start_after);
  bool ok = tm_call_send(&call, err);
  if (ok && token != NULL && page->next != NULL && strcmp(token, page->next) == 0) {
    tm_error_set(err, TM_EPROTOCOL, "the store's listing does not come to an end");
    ok = false;
  }
  if (!ok)
    tm_oss_page_free(page);
  tm_call_free(&call);
  return ok;
}

/* ---- delete many ---- */

/* Whether XML 1.0 can carry the key: UTF-8 without control characters. */
static bool xml_can_carry(const char *key)
{
  size_t n = strlen(key);
  if (tm_utf8_check(key, n) != n)
    return false;
  for (const unsigned char *p = (const unsigned char *)key; *p != '\0'; p++)
    if ((*p < 32 && *p != '\t' && *p != '\n' && *p != '\r') ||
        (p[0] == 0xEF && p[1] == 0xBF && p[2] >= 0xBE)) /* U+FFFE, U+FFFF */
      return false;
  return true;
}

/* *listed: how many keys the body names. */
static bool delete_body(struct tm_oss *store, const char *const *keys, size_t count,
                        struct tm_buffer *body, size_t *listed)
{
  bool ok = tm_buffer_adds(body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
                                 "<Delete><Quiet>false</Quiet>");
  *listed = 0;
  for (size_t i = 0; ok && i < count; i++) {
    if (!xml_can_carry(keys[i]))
      continue;
    ++*listed;
    ok = tm_buffer_adds(body, "<Object><Key>") &&
         tm_xml_escape(body, store->prefix, strlen(store->prefix)) &&
         tm_xml_escape(body, keys[i], strlen(keys[i])) &&
         tm_buffer_adds(body, "</Key></Object>");
  }
  return ok && tm_buffer_adds(body, "</Delete>");
}

static bool md5_header(struct tm_call *call, struct tm_error *err)
{
  unsigned char md5[TM_DIGEST_MAX];
  struct tm_buffer text = {0};
  bool ok = tm_digest(TM_MD5, call->body, call->body_len, md5) &&
            tm_base64(md5, tm_digest_size(TM_MD5), &text) &&
            tm_buffer_cstr(&text) != NULL;
  if (ok)
    tm_call_header(call, "Content-MD5", text.data);
  tm_buffer_free(&text);
  return ok || out_of_memory(err);
}

static bool check_delete(void *data, struct tm_call *call, struct tm_error *err)
{
  struct tm_reply_deleted *d = data;
  tm_oss_failures_free(&d->failed);
  return tm_reply_delete(call->store->scheme, call->reply.body.data, call->reply.body.len,
                         d, err);
}

/* The keys of failures lose the store's prefix. */
static void strip(struct tm_oss_failures *f, const char *prefix)
{
  size_t n = strlen(prefix);
  for (size_t i = 0; n > 0 && i < f->count; i++) {
    char *key = f->items[i].key;
    if (strncmp(key, prefix, n) == 0)
      memmove(key, key + n, strlen(key + n) + 1);
  }
}

static bool delete_listed(struct tm_oss *store, const struct tm_buffer *body,
                          size_t listed, struct tm_oss_failures *failed,
                          const struct tm_cancel *cancel, struct tm_error *err)
{
  struct tm_reply_deleted deleted = {0};
  struct tm_call call = {.store = store,
                         .what = "delete keys of",
                         .method = "POST",
                         .body = body->data,
                         .body_len = body->len,
                         .has_body = true,
                         .cancel = cancel,
                         .error_in_200 = true,
                         .check = check_delete,
                         .data = &deleted};
  tm_call_query(&call, "delete", NULL);
  tm_call_header(&call, "Content-Type", "application/xml");
  bool ok = md5_header(&call, err) && tm_call_send(&call, err);
  if (ok && deleted.failed.count == 0 && deleted.deleted < listed) {
    tm_error_set(err, TM_EPROTOCOL,
                 "the store deleted %zu of %zu keys without saying why", deleted.deleted,
                 listed);
    ok = false;
  }
  tm_call_free(&call);
  strip(&deleted.failed, store->prefix);
  if (ok)
    *failed = deleted.failed;
  else
    tm_oss_failures_free(&deleted.failed);
  return ok;
}

/* Keys that XML cannot carry go one by one. */
bool tm_http_delete_many(struct tm_oss *store, const char *const *keys, size_t count,
                         struct tm_oss_failures *failed, const struct tm_cancel *cancel,
                         struct tm_error *err)
{
  struct tm_buffer body = {0};
  size_t listed;
  bool ok = delete_body(store, keys, count, &body, &listed) || out_of_memory(err);
  for (size_t i = 0; ok && i < count && listed < count; i++)
    ok = xml_can_carry(keys[i]) || tm_oss_delete(store, keys[i], cancel, err);
  ok = ok && (listed == 0 || delete_listed(store, &body, listed, failed, cancel, err));
  tm_buffer_free(&body);
  return ok;
}
