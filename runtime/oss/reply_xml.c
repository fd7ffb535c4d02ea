/*
** reply_xml.c: the XML bodies of successful replies
**
** With encoding-type=url keys come percent-encoded; S3 writes a space as '+' there, OSS as
** %20. Keys that do not begin with the store's prefix are not ours and refused.
*/
#include "oss/reply.h"

#include <stdlib.h>
#include <string.h>

#include "driver/xml.h"
#include "oss/encode.h"
#include "oss/store.h"

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* Parses and checks the root's name; `what` is for the message. */
static struct tm_xml *parse(const char *body, size_t n, const char *root,
                            struct tm_error *err)
{
  struct tm_xml *xml = tm_xml_parse(body, n, err);
  if (xml == NULL || root == NULL || strcmp(tm_xml_root(xml)->name, root) == 0)
    return xml;
  tm_error_set(err, TM_EPROTOCOL, "the reply is a <%.60s>, not a <%s>",
               tm_xml_root(xml)->name, root);
  tm_xml_free(xml);
  return NULL;
}

static bool is_url_encoded(const struct tm_xml_node *root)
{
  const char *type = tm_xml_text(root, "EncodingType");
  return type != NULL && strcmp(type, "url") == 0;
}

/* The key as bytes; malloc'd. */
static char *decode_key(enum tm_oss_scheme scheme, const char *text, bool encoded,
                        struct tm_error *err)
{
  struct tm_buffer out = {0};
  if (!encoded) {
    char *copy = strdup(text);
    if (copy == NULL)
      out_of_memory(err);
    return copy;
  }
  bool ok = tm_decode(&out, text, strlen(text), err);
  if (ok && scheme == TM_OSS_S3) { /* '+' of the text is a space, %2B is a plus */
    out.len = 0;
    char *spaced = strdup(text);
    for (char *p = spaced; p != NULL && *p != '\0'; p++)
      if (*p == '+')
        *p = ' ';
    ok = spaced != NULL ? tm_decode(&out, spaced, strlen(spaced), err)
                        : out_of_memory(err);
    free(spaced);
  }
  if (ok && memchr(out.data != NULL ? out.data : "", '\0', out.len) != NULL) {
    tm_error_set(err, TM_EPROTOCOL, "a listed key holds a zero byte");
    ok = false;
  }
  if (ok && tm_buffer_cstr(&out) == NULL)
    ok = out_of_memory(err);
  if (ok)
    return out.data;
  tm_buffer_free(&out);
  return NULL;
}

/* decode_key without the store's prefix. */
static char *own_key(enum tm_oss_scheme scheme, const char *text, bool encoded,
                     const char *prefix, struct tm_error *err)
{
  char *key = decode_key(scheme, text, encoded, err);
  size_t n = strlen(prefix);
  if (key == NULL || n == 0)
    return key;
  if (strncmp(key, prefix, n) != 0) {
    tm_error_set(err, TM_EPROTOCOL, "the store lists a key outside '%.200s'", prefix);
    free(key);
    return NULL;
  }
  memmove(key, key + n, strlen(key + n) + 1);
  return key;
}

static bool grow(void **items, size_t *cap, size_t count, size_t size)
{
  if (count < *cap)
    return true;
  size_t more = *cap == 0 ? 64 : *cap * 2;
  void *p = realloc(*items, more * size);
  if (p == NULL)
    return false;
  *items = p;
  *cap = more;
  return true;
}

static struct tm_oss_entry *add_entry(struct tm_oss_page *page, char *key)
{
  void *items = page->entries;
  if (key == NULL || !grow(&items, &page->cap, page->count, sizeof *page->entries)) {
    free(key);
    return NULL;
  }
  page->entries = items;
  struct tm_oss_entry *e = &page->entries[page->count++];
  *e = (struct tm_oss_entry){.key = key, .modified_ms = -1};
  return e;
}

static bool read_contents(enum tm_oss_scheme scheme, const struct tm_xml_node *node,
                          bool encoded, const char *prefix, struct tm_oss_page *page,
                          struct tm_error *err)
{
  const char *key = tm_xml_text(node, "Key"), *size = tm_xml_text(node, "Size");
  uint64_t bytes;
  if (key == NULL || size == NULL || !tm_parse_u64(size, &bytes) || bytes > INT64_MAX) {
    tm_error_set(err, TM_EPROTOCOL, "a listed object has no key or no size");
    return false;
  }
  char *own = own_key(scheme, key, encoded, prefix, err);
  if (own == NULL)
    return false;
  struct tm_oss_entry *e = add_entry(page, own);
  if (e == NULL)
    return out_of_memory(err);
  e->size = (int64_t)bytes;
  const char *v = tm_xml_text(node, "LastModified");
  if (v != NULL)
    e->modified_ms = tm_parse_iso_ms(v);
  if ((v = tm_xml_text(node, "ETag")) != NULL)
    tm_oss_etag(v, e->etag);
  if ((v = tm_xml_text(node, "StorageClass")) != NULL)
    strncpy(e->storage_class, v, sizeof e->storage_class - 1);
  return true;
}

static int by_key(const void *a, const void *b)
{
  return strcmp(((const struct tm_oss_entry *)a)->key,
                ((const struct tm_oss_entry *)b)->key);
}

static bool read_list(enum tm_oss_scheme scheme, const struct tm_xml_node *root,
                      const char *prefix, struct tm_oss_page *page, struct tm_error *err)
{
  bool encoded = is_url_encoded(root);
  for (const struct tm_xml_node *n = tm_xml_child(root, "Contents"); n != NULL;
       n = tm_xml_same(n))
    if (!read_contents(scheme, n, encoded, prefix, page, err))
      return false;
  size_t objects = page->count;
  for (const struct tm_xml_node *n = tm_xml_child(root, "CommonPrefixes"); n != NULL;
       n = tm_xml_same(n)) {
    const char *text = tm_xml_text(n, "Prefix");
    char *key = text == NULL ? NULL : own_key(scheme, text, encoded, prefix, err);
    if (text == NULL)
      tm_error_set(err, TM_EPROTOCOL, "a common prefix has no name");
    if (key == NULL)
      return false;
    struct tm_oss_entry *e = add_entry(page, key);
    if (e == NULL)
      return out_of_memory(err);
    e->is_prefix = true;
  }
  if (objects > 0 && objects < page->count)
    qsort(page->entries, page->count, sizeof *page->entries, by_key);
  const char *truncated = tm_xml_text(root, "IsTruncated");
  if (truncated == NULL || strcmp(truncated, "true") != 0)
    return true;
  const char *token = tm_xml_text(root, "NextContinuationToken");
  if (token == NULL || token[0] == '\0') {
    tm_error_set(err, TM_EPROTOCOL, "the listing is truncated but has no token");
    return false;
  }
  page->next = strdup(token);
  return page->next != NULL || out_of_memory(err);
}

bool tm_reply_list(enum tm_oss_scheme scheme, const char *body, size_t n,
                   const char *prefix, struct tm_oss_page *page, struct tm_error *err)
{
  struct tm_xml *xml = parse(body, n, "ListBucketResult", err);
  if (xml == NULL)
    return false;
  bool ok = read_list(scheme, tm_xml_root(xml), prefix, page, err);
  tm_xml_free(xml);
  return ok;
}

char *tm_reply_field(const char *body, size_t n, const char *name, struct tm_error *err)
{
  struct tm_xml *xml = parse(body, n, NULL, err);
  if (xml == NULL)
    return NULL;
  const char *text = tm_xml_text(tm_xml_root(xml), name);
  char *copy = NULL;
  if (text == NULL || text[0] == '\0')
    tm_error_set(err, TM_EPROTOCOL, "the reply has no <%s>", name);
  else if ((copy = strdup(text)) == NULL)
    out_of_memory(err);
  tm_xml_free(xml);
  return copy;
}

static bool read_delete(enum tm_oss_scheme scheme, const struct tm_xml_node *root,
                        struct tm_reply_deleted *out, struct tm_error *err)
{
  bool encoded = is_url_encoded(root);
  for (const struct tm_xml_node *n = root->child; n != NULL; n = n->next) {
    if (strcmp(n->name, "Deleted") == 0)
      out->deleted++;
    if (strcmp(n->name, "Error") != 0)
      continue;
    const char *text = tm_xml_text(n, "Key"), *code = tm_xml_text(n, "Code");
    char *key = decode_key(scheme, text != NULL ? text : "", encoded, err);
    if (key == NULL)
      return false;
    struct tm_oss_failures *f = &out->failed;
    void *items = f->items;
    if (!grow(&items, &f->cap, f->count, sizeof *f->items)) {
      free(key);
      return out_of_memory(err);
    }
    f->items = items;
    struct tm_oss_failure *x = &f->items[f->count++];
    *x = (struct tm_oss_failure){.key = key};
    strncpy(x->code, code != NULL ? code : "", sizeof x->code - 1);
    const char *message = tm_xml_text(n, "Message");
    strncpy(x->message, message != NULL ? message : "", sizeof x->message - 1);
  }
  return true;
}

bool tm_reply_delete(enum tm_oss_scheme scheme, const char *body, size_t n,
                     struct tm_reply_deleted *out, struct tm_error *err)
{
  *out = (struct tm_reply_deleted){0};
  if (n == 0) /* quiet mode of OSS */
    return true;
  struct tm_xml *xml = parse(body, n, "DeleteResult", err);
  if (xml == NULL)
    return false;
  bool ok = read_delete(scheme, tm_xml_root(xml), out, err);
  tm_xml_free(xml);
  if (!ok)
    tm_oss_failures_free(&out->failed);
  return ok;
}

static bool read_parts(const struct tm_xml_node *root, struct tm_oss_parts *parts,
                       int *next, struct tm_error *err)
{
  for (const struct tm_xml_node *n = tm_xml_child(root, "Part"); n != NULL;
       n = tm_xml_same(n)) {
    const char *number = tm_xml_text(n, "PartNumber"), *size = tm_xml_text(n, "Size");
    const char *etag = tm_xml_text(n, "ETag"), *crc = tm_xml_text(n, "HashCrc64ecma");
    uint64_t num, bytes;
    if (number == NULL || size == NULL || etag == NULL || !tm_parse_u64(number, &num) ||
        !tm_parse_u64(size, &bytes) || num < 1 || num > 10000 || bytes > INT64_MAX) {
      tm_error_set(err, TM_EPROTOCOL, "a listed part has no number, size or etag");
      return false;
    }
    void *items = parts->items;
    if (!grow(&items, &parts->cap, parts->count, sizeof *parts->items))
      return out_of_memory(err);
    parts->items = items;
    struct tm_oss_part *p = &parts->items[parts->count++];
    *p = (struct tm_oss_part){.number = (int)num, .size = (int64_t)bytes};
    tm_oss_etag(etag, p->etag);
    p->has_crc64 = crc != NULL && tm_parse_u64(crc, &p->crc64);
  }
  const char *truncated = tm_xml_text(root, "IsTruncated");
  const char *marker = tm_xml_text(root, "NextPartNumberMarker");
  uint64_t m;
  *next = 0;
  if (truncated != NULL && strcmp(truncated, "true") == 0) {
    if (marker == NULL || !tm_parse_u64(marker, &m) || m < 1 || m > 10000) {
      tm_error_set(err, TM_EPROTOCOL, "the list of parts is truncated but has no marker");
      return false;
    }
    *next = (int)m;
  }
  return true;
}

bool tm_reply_parts(const char *body, size_t n, struct tm_oss_parts *parts, int *next,
                    struct tm_error *err)
{
  struct tm_xml *xml = parse(body, n, "ListPartsResult", err);
  if (xml == NULL)
    return false;
  bool ok = read_parts(tm_xml_root(xml), parts, next, err);
  tm_xml_free(xml);
  return ok;
}

/* radosgw 16 encodes the keys of uploads as asked, but does not say so. */
static bool looks_encoded(const char *text)
{
  return strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                      "-_.~*/%") == strlen(text);
}

static bool read_uploads(enum tm_oss_scheme scheme, const struct tm_xml_node *root,
                         const char *prefix, struct tm_oss_uploads *uploads,
                         char **next_key, char **next_id, struct tm_error *err)
{
  bool encoded = is_url_encoded(root);
  for (const struct tm_xml_node *n = tm_xml_child(root, "Upload"); n != NULL;
       n = tm_xml_same(n)) {
    const char *key = tm_xml_text(n, "Key"), *id = tm_xml_text(n, "UploadId");
    if (key == NULL || id == NULL) {
      tm_error_set(err, TM_EPROTOCOL, "a listed upload has no key or no id");
      return false;
    }
    void *items = uploads->items;
    if (!grow(&items, &uploads->cap, uploads->count, sizeof *uploads->items))
      return out_of_memory(err);
    uploads->items = items;
    struct tm_oss_upload u = {
        .key = own_key(scheme, key, encoded || looks_encoded(key), prefix, err),
        .upload_id = strdup(id),
        .started_ms = -1};
    if (u.key == NULL || u.upload_id == NULL) {
      bool oom = u.key != NULL;
      free(u.key);
      free(u.upload_id);
      return oom ? out_of_memory(err) : false;
    }
    const char *t = tm_xml_text(n, "Initiated");
    if (t != NULL)
      u.started_ms = tm_parse_iso_ms(t);
    uploads->items[uploads->count++] = u;
  }
  const char *truncated = tm_xml_text(root, "IsTruncated");
  const char *key = tm_xml_text(root, "NextKeyMarker");
  const char *id = tm_xml_text(root, "NextUploadIdMarker");
  if (truncated == NULL || strcmp(truncated, "true") != 0)
    return true;
  if (key == NULL || id == NULL) {
    tm_error_set(err, TM_EPROTOCOL, "the list of uploads is truncated but has no marker");
    return false;
  }
  *next_key = decode_key(scheme, key, encoded || looks_encoded(key), err);
  *next_id = strdup(id);
  if (*next_key == NULL)
    return false;
  return *next_id != NULL || out_of_memory(err);
}

bool tm_reply_uploads(enum tm_oss_scheme scheme, const char *body, size_t n,
                      const char *prefix, struct tm_oss_uploads *uploads, char **next_key,
                      char **next_id, struct tm_error *err)
{
  *next_key = *next_id = NULL;
  struct tm_xml *xml = parse(body, n, "ListMultipartUploadsResult", err);
  if (xml == NULL)
    return false;
  bool ok =
      read_uploads(scheme, tm_xml_root(xml), prefix, uploads, next_key, next_id, err);
  tm_xml_free(xml);
  return ok;
}
