/*
** bucket.c: requests of the service and of buckets
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/digest.h"
#include "driver/xml.h"
#include "ossd/exchange.h"

enum { PAGE = 1000, DELETE_MOST = 1000 };

static bool no_memory(struct tm_ossd_exchange *x)
{
  return tm_ossd_refuse(&x->refusal, 500, "InternalError", "Out of memory.");
}

static const char *text_param(const struct tm_ossd_exchange *x, const char *name)
{
  const char *text = tm_ossd_param(&x->request, name);
  return text == NULL ? "" : text;
}

static bool add_owner(struct tm_ossd_exchange *x)
{
  const char *id = x->who.key == NULL ? "anonymous" : x->who.key->id;
  return tm_ossd_open_element(x, "Owner") && tm_ossd_element(x, "ID", id) &&
         tm_ossd_element(x, "DisplayName", id) && tm_ossd_close_element(x, "Owner");
}

static bool add_location(struct tm_ossd_exchange *x, const char *element)
{
  char text[80];
  snprintf(text, sizeof text, "%s%.64s", x->request.s3 ? "" : "oss-", x->server->region);
  return tm_ossd_element(x, element, text);
}

bool tm_ossd_list_buckets(struct tm_ossd_exchange *x)
{
  char name[64];
  int64_t created;
  bool ok = tm_ossd_open_root(x, "ListAllMyBucketsResult") && add_owner(x) &&
            tm_ossd_open_element(x, "Buckets");
  const char *prefix = text_param(x, "prefix");
  for (size_t i = 0; ok && tm_ossd_bucket_at(x->server->store, i, name, &created); i++) {
    if (strncmp(name, prefix, strlen(prefix)) != 0)
      continue;
    ok = tm_ossd_open_element(x, "Bucket") && tm_ossd_element(x, "Name", name) &&
         tm_ossd_element_time(x, "CreationDate", created) &&
         (x->request.s3 || (add_location(x, "Location") &&
                            tm_ossd_element(x, "Region", x->server->region) &&
                            tm_ossd_element(x, "StorageClass", "Standard"))) &&
         tm_ossd_close_element(x, "Bucket");
  }
  ok = ok && tm_ossd_close_element(x, "Buckets") &&
       tm_ossd_close_element(x, "ListAllMyBucketsResult");
  return tm_ossd_answer_xml(x, 200, ok);
}

bool tm_ossd_put_bucket(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  enum tm_ossd_result result =
      tm_ossd_bucket_create(x->server->store, x->request.bucket, &err);
  if (result == TM_OSSD_EXISTS && x->request.s3)
    return tm_ossd_refuse(
        &x->refusal, 409, "BucketAlreadyOwnedByYou",
        "Your previous request to create the named bucket succeeded and "
        "you already own it.");
  if (result != TM_OSSD_OK && result != TM_OSSD_EXISTS) /* OSS: again is no error */
    return tm_ossd_refuse_result(x, result, &err);
  x->answer.status = 200;
  return tm_ossd_set(x, "Location", "/%s", x->request.bucket) || no_memory(x);
}

static bool find_bucket(struct tm_ossd_exchange *x, int64_t *created)
{
  return tm_ossd_bucket_find(x->server->store, x->request.bucket, created) ||
         tm_ossd_refuse_result(x, TM_OSSD_NO_BUCKET, NULL);
}

bool tm_ossd_head_bucket(struct tm_ossd_exchange *x)
{
  if (!find_bucket(x, NULL))
    return false;
  x->answer.status = 200;
  return tm_ossd_set_vendor(x, "bucket-region", x->server->region) || no_memory(x);
}

bool tm_ossd_delete_bucket(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  enum tm_ossd_result result =
      tm_ossd_bucket_delete(x->server->store, x->request.bucket, &err);
  if (result != TM_OSSD_OK)
    return tm_ossd_refuse_result(x, result, &err);
  x->answer.status = 204;
  return true;
}

bool tm_ossd_bucket_location(struct tm_ossd_exchange *x)
{
  if (!find_bucket(x, NULL))
    return false;
  if (!x->request.s3) {
    return tm_ossd_answer_xml(
        x, 200,
        tm_buffer_adds(&x->answer.body, "<?xml version=\"1.0\"?>\n") &&
            add_location(x, "LocationConstraint"));
  }
  bool home = strcmp(x->server->region, "us-east-1") == 0; /* which has no name here */
  return tm_ossd_answer_xml(
      x, 200,
      tm_ossd_open_root(x, "LocationConstraint") &&
          tm_buffer_adds(&x->answer.body, home ? "" : x->server->region) &&
          tm_ossd_close_element(x, "LocationConstraint"));
}

bool tm_ossd_bucket_info(struct tm_ossd_exchange *x)
{
  int64_t created;
  const char *host = tm_ossd_header(&x->request, "host");
  if (!find_bucket(x, &created))
    return false;
  bool ok = tm_ossd_open_root(x, "BucketInfo") && tm_ossd_open_element(x, "Bucket") &&
            tm_ossd_element_time(x, "CreationDate", created) &&
            tm_ossd_element(x, "ExtranetEndpoint", host == NULL ? "" : host) &&
            tm_ossd_element(x, "IntranetEndpoint", host == NULL ? "" : host) &&
            add_location(x, "Location") &&
            tm_ossd_element(x, "Name", x->request.bucket) &&
            tm_ossd_element(x, "StorageClass", "Standard") && add_owner(x) &&
            tm_ossd_open_element(x, "AccessControlList") &&
            tm_ossd_element(x, "Grant", "private") &&
            tm_ossd_close_element(x, "AccessControlList") &&
            tm_ossd_close_element(x, "Bucket") && tm_ossd_close_element(x, "BucketInfo");
  return tm_ossd_answer_xml(x, 200, ok);
}

bool tm_ossd_bucket_versioning(struct tm_ossd_exchange *x)
{
  return find_bucket(x, NULL) &&
         tm_ossd_answer_xml(x, 200,
                            tm_ossd_open_root(x, "VersioningConfiguration") &&
                                tm_ossd_close_element(x, "VersioningConfiguration"));
}

bool tm_ossd_get_acl(struct tm_ossd_exchange *x)
{
  if (!find_bucket(x, NULL))
    return false;
  bool ok = tm_ossd_open_root(x, "AccessControlPolicy") && add_owner(x) &&
            tm_ossd_open_element(x, "AccessControlList") &&
            (x->request.s3 || tm_ossd_element(x, "Grant", "private")) &&
            tm_ossd_close_element(x, "AccessControlList") &&
            tm_ossd_close_element(x, "AccessControlPolicy");
  return tm_ossd_answer_xml(x, 200, ok);
}

/* -- listing -- */

struct listing {
  const char *prefix, *delimiter, *after;
  unsigned asked, most; /* keys in a page: as wanted, and as given */
  bool encode;
  struct tm_buffer token; /* decoded continuation token */
};

static bool read_max_keys(struct tm_ossd_exchange *x, struct listing *l)
{
  const char *text = tm_ossd_param(&x->request, "max-keys");
  int64_t fault = x->server->faults->setting[TM_FAULT_PAGE];
  l->asked = x->request.s3 ? 1000 : 100;
  if (text != NULL && *text != '\0') {
    size_t n = strspn(text, "0123456789");
    unsigned long value =
        n > 0 && n < 10 && text[n] == '\0' ? strtoul(text, NULL, 10) : 1000000000;
    if (value == 1000000000 || (!x->request.s3 && value > PAGE))
      return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                            "Argument max-keys must be an integer between 0 and %d.",
                            PAGE);
    l->asked = (unsigned)value;
  }
  l->most = l->asked > PAGE ? PAGE : l->asked;
  if (fault > 0 && fault < l->most)
    l->most = (unsigned)fault;
  return true;
}

static bool read_listing(struct tm_ossd_exchange *x, struct listing *l)
{
  const char *encoding = text_param(x, "encoding-type");
  if (*encoding != '\0' && strcmp(encoding, "url") != 0)
    return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                          "Invalid Encoding Method specified in Request.");
  l->encode = *encoding != '\0';
  l->prefix = text_param(x, "prefix");
  l->delimiter = text_param(x, "delimiter");
  return read_max_keys(x, l);
}

static bool add_items(struct tm_ossd_exchange *x, const struct tm_ossd_page *page,
                      bool encode, bool owner)
{
  bool ok = true;
  for (size_t i = 0; ok && i < page->count; i++) {
    const struct tm_ossd_item *item = &page->items[i];
    if (item->is_prefix)
      continue;
    ok = tm_ossd_open_element(x, "Contents") &&
         tm_ossd_element_name(x, "Key", item->name, encode) &&
         tm_ossd_element_time(x, "LastModified", item->mtime) &&
         tm_ossd_element_etag(x, item->etag) &&
         (x->request.s3 ||
          tm_ossd_element(x, "Type", item->is_multipart ? "Multipart" : "Normal")) &&
         tm_ossd_element_number(x, "Size", item->size) &&
         tm_ossd_element(x, "StorageClass", x->request.s3 ? "STANDARD" : "Standard") &&
         (!owner || add_owner(x)) && tm_ossd_close_element(x, "Contents");
  }
  for (size_t i = 0; ok && i < page->count; i++)
    if (page->items[i].is_prefix)
      ok = tm_ossd_open_element(x, "CommonPrefixes") &&
           tm_ossd_element_name(x, "Prefix", page->items[i].name, encode) &&
           tm_ossd_close_element(x, "CommonPrefixes");
  return ok;
}

static bool add_listing(struct tm_ossd_exchange *x, const struct listing *l,
                        const struct tm_ossd_page *page)
{
  return tm_ossd_element(x, "Name", x->request.bucket) &&
         tm_ossd_element_name(x, "Prefix", l->prefix, l->encode) &&
         tm_ossd_element_number(x, "MaxKeys", l->asked > PAGE ? PAGE : l->asked) &&
         (*l->delimiter == '\0' ||
          tm_ossd_element_name(x, "Delimiter", l->delimiter, l->encode)) &&
         (!l->encode || tm_ossd_element(x, "EncodingType", "url")) &&
         tm_ossd_element(x, "IsTruncated", page->truncated ? "true" : "false");
}

static const char *last_name(const struct tm_ossd_page *page)
{
  return page->count == 0 ? "" : page->items[page->count - 1].name;
}

static bool get_page(struct tm_ossd_exchange *x, const struct listing *l,
                     struct tm_ossd_page *page)
{
  struct tm_error err;
  enum tm_ossd_result result =
      tm_ossd_list(x->server->store, x->request.bucket, l->prefix, l->delimiter, l->after,
                   l->most, page, &err);
  return result == TM_OSSD_OK || tm_ossd_refuse_result(x, result, &err);
}

bool tm_ossd_list_objects(struct tm_ossd_exchange *x)
{
  struct listing l = {0};
  struct tm_ossd_page page = {0};
  if (!read_listing(x, &l))
    return false;
  l.after = text_param(x, "marker");
  bool ok = get_page(x, &l, &page);
  if (ok) {
    bool next = page.truncated && (!x->request.s3 || *l.delimiter != '\0');
    ok = tm_ossd_answer_xml(
        x, 200,
        tm_ossd_open_root(x, "ListBucketResult") && add_listing(x, &l, &page) &&
            tm_ossd_element_name(x, "Marker", l.after, l.encode) &&
            (!next ||
             tm_ossd_element_name(x, "NextMarker", last_name(&page), l.encode)) &&
            add_items(x, &page, l.encode, true) &&
            tm_ossd_close_element(x, "ListBucketResult"));
  }
  tm_ossd_page_free(&page);
  return ok;
}

/* The token is the base64 of the last name: opaque, and it has / + = in it. */
static bool read_token(struct tm_ossd_exchange *x, struct listing *l)
{
  const char *token = tm_ossd_param(&x->request, "continuation-token");
  l->after = text_param(x, "start-after");
  if (token == NULL)
    return true;
  if (*token == '\0' || !tm_unbase64(token, strlen(token), &l->token) ||
      memchr(l->token.data, '\0', l->token.len) != NULL ||
      tm_buffer_cstr(&l->token) == NULL)
    return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                          "The continuation token provided is incorrect.");
  l->after = l->token.data;
  return true;
}

static bool add_tokens(struct tm_ossd_exchange *x, const struct tm_ossd_page *page)
{
  struct tm_buffer next = {0};
  const char *token = tm_ossd_param(&x->request, "continuation-token");
  const char *last = last_name(page);
  bool ok = token == NULL || tm_ossd_element(x, "ContinuationToken", token);
  if (ok && page->truncated)
    ok = tm_base64(last, strlen(last), &next) && tm_buffer_cstr(&next) != NULL &&
         tm_ossd_element(x, "NextContinuationToken", next.data);
  tm_buffer_free(&next);
  return ok;
}

bool tm_ossd_list_objects_v2(struct tm_ossd_exchange *x)
{
  struct listing l = {0};
  struct tm_ossd_page page = {0};
  const char *start = text_param(x, "start-after");
  bool owner = strcmp(text_param(x, "fetch-owner"), "true") == 0;
  bool ok = read_listing(x, &l) && read_token(x, &l) && get_page(x, &l, &page);
  if (ok)
    ok = tm_ossd_answer_xml(
        x, 200,
        tm_ossd_open_root(x, "ListBucketResult") && add_listing(x, &l, &page) &&
            tm_ossd_element_number(x, "KeyCount", page.count) && add_tokens(x, &page) &&
            (*start == '\0' || tm_ossd_element_name(x, "StartAfter", start, l.encode)) &&
            add_items(x, &page, l.encode, owner) &&
            tm_ossd_close_element(x, "ListBucketResult"));
  tm_ossd_page_free(&page);
  tm_buffer_free(&l.token);
  return ok;
}

/* -- delete many -- */

static bool has_checksum(const struct tm_ossd_exchange *x)
{
  if (tm_ossd_header(&x->request, "content-md5") != NULL)
    return true;
  for (size_t i = 0; x->request.s3 && i < x->request.header_count; i++)
    if (strncmp(x->request.headers[i].name, "x-amz-checksum-", 15) == 0)
      return true;
  return false;
}

static bool delete_one(struct tm_ossd_exchange *x, const char *key, bool quiet,
                       bool encode)
{
  struct tm_error err;
  bool ok = *key != '\0' && strlen(key) <= TM_OSSD_KEY &&
            tm_ossd_remove(x->server->store, x->request.bucket, key, &err) == TM_OSSD_OK;
  if (ok)
    return quiet || (tm_ossd_open_element(x, "Deleted") &&
                     tm_ossd_element_name(x, "Key", key, encode) &&
                     tm_ossd_close_element(x, "Deleted"));
  if (!x->request.s3) /* OSS tells of deleted keys only */
    return true;
  return tm_ossd_open_element(x, "Error") &&
         tm_ossd_element_name(x, "Key", key, encode) &&
         tm_ossd_element(x, "Code", "InternalError") &&
         tm_ossd_element(x, "Message", "The key could not be deleted.") &&
         tm_ossd_close_element(x, "Error");
}

static size_t count_objects(const struct tm_xml_node *root)
{
  size_t n = 0;
  const struct tm_xml_node *o = tm_xml_child(root, "Object");
  for (; o != NULL; o = tm_xml_same(o))
    n++;
  return n;
}

static bool delete_all(struct tm_ossd_exchange *x, const struct tm_xml_node *root)
{
  const char *quiet_text = tm_xml_text(root, "Quiet");
  bool quiet = quiet_text != NULL && strcmp(quiet_text, "true") == 0;
  bool encode = strcmp(text_param(x, "encoding-type"), "url") == 0;
  size_t count = count_objects(root);
  if (count == 0 || count > DELETE_MOST)
    return tm_ossd_refuse(&x->refusal, 400, "MalformedXML",
                          "A Delete names 1 to %d objects, not %zu.", DELETE_MOST, count);
  bool ok = tm_ossd_open_root(x, "DeleteResult") &&
            (!encode || tm_ossd_element(x, "EncodingType", "url"));
  const struct tm_xml_node *o = tm_xml_child(root, "Object");
  for (; ok && o != NULL; o = tm_xml_same(o)) {
    const char *key = tm_xml_text(o, "Key");
    ok = delete_one(x, key == NULL ? "" : key, quiet, encode);
  }
  ok = ok && tm_ossd_close_element(x, "DeleteResult");
  if (ok && quiet && !x->request.s3) {
    x->answer.body.len = 0;
    x->answer.status = 200;
    return true;
  }
  return tm_ossd_answer_xml(x, 200, ok);
}

bool tm_ossd_delete_many(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  const struct tm_buffer *body = tm_ossd_body_memory(x->body);
  if (!find_bucket(x, NULL))
    return false;
  if (!has_checksum(x))
    return tm_ossd_refuse(&x->refusal, 400,
                          x->request.s3 ? "InvalidRequest" : "MissingArgument",
                          "Missing Some Required Arguments: Content-MD5.");
  struct tm_xml *xml = tm_xml_parse(body->data, body->len, &err);
  if (xml == NULL)
    return tm_ossd_refuse(&x->refusal, 400, "MalformedXML",
                          "The XML you provided was not well-formed: %s.", err.message);
  const struct tm_xml_node *root = tm_xml_root(xml);
  bool ok = strcmp(root->name, "Delete") == 0
                ? delete_all(x, root)
                : tm_ossd_refuse(&x->refusal, 400, "MalformedXML",
                                 "The root element must be Delete.");
  tm_xml_free(xml);
  return ok;
}
