/*
** multipart.c: the requests of multipart uploads
*/
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "driver/xml.h"
#include "ossd/exchange.h"

enum { PAGE = 1000 };

static bool no_memory(struct tm_ossd_exchange *x)
{
  return tm_ossd_refuse(&x->refusal, 500, "InternalError", "Out of memory.");
}

static const char *upload_id(const struct tm_ossd_exchange *x)
{
  return tm_ossd_param(&x->request, "uploadId");
}

/* A number in a parameter, `missing` when it is not there; refused outside 0..most. */
static bool number_param(struct tm_ossd_exchange *x, const char *name, unsigned missing,
                         unsigned most, unsigned *value)
{
  const char *text = tm_ossd_param(&x->request, name);
  *value = missing;
  if (text == NULL || *text == '\0')
    return true;
  size_t n = strspn(text, "0123456789");
  if (n == 0 || n > 9 || text[n] != '\0' || strtoul(text, NULL, 10) > most) {
    tm_ossd_refusal_add(&x->refusal, "ArgumentName", name);
    tm_ossd_refusal_add(&x->refusal, "ArgumentValue", text);
    return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                          "Argument %s must be a number from 0 to %u.", name, most);
  }
  *value = (unsigned)strtoul(text, NULL, 10);
  return true;
}

bool tm_ossd_initiate(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  char id[TM_OSSD_ID];
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  if (r == NULL)
    return no_memory(x);
  bool ok = tm_ossd_record_request(x, r);
  enum tm_ossd_result result = TM_OSSD_OK;
  if (ok)
    result = tm_ossd_upload_begin(x->server->store, x->request.bucket, r, id, &err);
  tm_ossd_record_free(r);
  free(r);
  if (!ok)
    return false;
  if (result != TM_OSSD_OK)
    return tm_ossd_refuse_result(x, result, &err);
  const char *encoding = tm_ossd_param(&x->request, "encoding-type");
  bool encode = encoding != NULL && strcmp(encoding, "url") == 0;
  return tm_ossd_answer_xml(
      x, 200,
      tm_ossd_open_root(x, "InitiateMultipartUploadResult") &&
          (!encode || tm_ossd_element(x, "EncodingType", "url")) &&
          tm_ossd_element(x, "Bucket", x->request.bucket) &&
          tm_ossd_element_name(x, "Key", x->request.key, encode) &&
          tm_ossd_element(x, "UploadId", id) &&
          tm_ossd_close_element(x, "InitiateMultipartUploadResult"));
}

/* Seals x->temp, whose digest is known, and makes it a part. */
static bool commit_part(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  unsigned number;
  if (!number_param(x, "partNumber", 0, TM_OSSD_PARTS, &number))
    return false;
  if (number == 0)
    return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                          "Part number must be an integer between 1 and 10000.");
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  if (r == NULL)
    return no_memory(x);
  enum tm_ossd_result result = tm_ossd_upload_find(x->server->store, x->request.bucket,
                                                   upload_id(x), x->request.key, r, &err);
  tm_ossd_record_free(r); /* that of the upload; now the part's */
  *r = (struct tm_ossd_record){.size = x->digest.size,
                               .crc = x->digest.crc,
                               .has_crc = true,
                               .mtime = tm_clock_wall_ms() / 1000};
  memcpy(r->etag, x->digest.etag, sizeof r->etag);
  if (result == TM_OSSD_OK && !tm_ossd_temp_seal(x->server->store, &x->temp, r, &err))
    result = TM_OSSD_FAILED;
  if (result == TM_OSSD_OK)
    result = tm_ossd_part_commit(x->server->store, x->request.bucket, upload_id(x),
                                 number, &x->temp, &err);
  free(r);
  return result == TM_OSSD_OK || tm_ossd_refuse_result(x, result, &err);
}

bool tm_ossd_put_part(struct tm_ossd_exchange *x)
{
  if (!commit_part(x))
    return false;
  x->answer.status = 200;
  x->answer.drop = tm_ossd_fault(x->server->faults, TM_FAULT_DROP_PUT);
  return (tm_ossd_set_etag(x, x->digest.etag) && tm_ossd_set_crc(x, x->digest.crc)) ||
         no_memory(x);
}

bool tm_ossd_copy_part(struct tm_ossd_exchange *x)
{
  struct tm_ossd_reader *reader = NULL;
  if (!tm_ossd_copy_source(x, &reader))
    return false;
  uint64_t first = 0, length = reader->record.size;
  const char *range = tm_ossd_vendor_header(&x->request, "copy-source-range");
  bool ok = true;
  if (range != NULL &&
      tm_ossd_range_parse(range, reader->record.size, false, &first, &length) !=
          TM_OSSD_PARTIAL) /* here nothing is clipped */
    ok = tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                        "The range of the copy source is not valid.");
  ok = ok && tm_ossd_copy_bytes(x, reader, first, length) && commit_part(x);
  tm_ossd_reader_close(reader);
  if (!ok)
    return false;
  return tm_ossd_answer_xml(
      x, 200,
      tm_ossd_open_root(x, "CopyPartResult") &&
          tm_ossd_element_time(x, "LastModified", tm_clock_wall_ms() / 1000) &&
          tm_ossd_element_etag(x, x->digest.etag) &&
          tm_ossd_close_element(x, "CopyPartResult"));
}

/* -- complete -- */

static bool malformed(struct tm_ossd_exchange *x, const char *why)
{
  return tm_ossd_refuse(
      &x->refusal, 400, "MalformedXML",
      "The XML you provided was not well-formed or did not validate: %s.", why);
}

static bool read_part(struct tm_ossd_exchange *x, const struct tm_xml_node *node,
                      struct tm_ossd_part *part)
{
  const char *number = tm_xml_text(node, "PartNumber"), *etag = tm_xml_text(node, "ETag");
  if (number == NULL || etag == NULL)
    return malformed(x, "a Part needs PartNumber and ETag");
  number += strspn(number, " \r\n\t");
  part->number = (unsigned)strtoul(number, NULL, 10);
  if (part->number < 1 || part->number > TM_OSSD_PARTS)
    return malformed(x, "a PartNumber is not between 1 and 10000");
  etag += strspn(etag, " \r\n\t\"");
  size_t n = strcspn(etag, "\" \r\n\t");
  snprintf(part->etag, sizeof part->etag, "%.*s", n < sizeof part->etag ? (int)n : 0,
           etag);
  return true;
}

/* The parts that the body names, an array of at most TM_OSSD_PARTS; or NULL. */
static struct tm_ossd_part *wanted_parts(struct tm_ossd_exchange *x, size_t *count)
{
  struct tm_error err;
  const struct tm_buffer *body = tm_ossd_body_memory(x->body);
  struct tm_xml *xml = tm_xml_parse(body->data, body->len, &err);
  struct tm_ossd_part *parts = calloc(TM_OSSD_PARTS, sizeof *parts);
  bool ok = parts != NULL && xml != NULL;
  *count = 0;
  if (xml == NULL)
    malformed(x, err.message);
  else if (!ok)
    no_memory(x);
  const struct tm_xml_node *node =
      xml == NULL ? NULL : tm_xml_child(tm_xml_root(xml), "Part");
  for (; ok && node != NULL; node = tm_xml_same(node)) {
    ok = *count < TM_OSSD_PARTS ? read_part(x, node, &parts[*count])
                                : malformed(x, "more than 10000 parts");
    ++*count;
  }
  if (ok && *count == 0)
    ok = malformed(x, "no part is named");
  tm_xml_free(xml);
  if (ok)
    return parts;
  free(parts);
  return NULL;
}

static bool answer_complete(struct tm_ossd_exchange *x, const struct tm_ossd_record *r)
{
  const char *host = tm_ossd_header(&x->request, "host");
  struct tm_buffer location = {0};
  const char *encoding = tm_ossd_param(&x->request, "encoding-type");
  bool encode = encoding != NULL && strcmp(encoding, "url") == 0;
  bool ok = tm_buffer_addf(&location, "http://%s%s", host == NULL ? "" : host,
                           x->request.path) &&
            tm_buffer_cstr(&location) != NULL &&
            (!r->has_crc || tm_ossd_set_crc(x, r->crc)) &&
            tm_ossd_open_root(x, "CompleteMultipartUploadResult") &&
            (!encode || tm_ossd_element(x, "EncodingType", "url")) &&
            tm_ossd_element(x, "Location", location.data) &&
            tm_ossd_element(x, "Bucket", x->request.bucket) &&
            tm_ossd_element_name(x, "Key", x->request.key, encode) &&
            tm_ossd_element_etag(x, r->etag) &&
            tm_ossd_close_element(x, "CompleteMultipartUploadResult");
  tm_buffer_free(&location);
  return tm_ossd_answer_xml(x, 200, ok);
}

static bool complete(struct tm_ossd_exchange *x, const struct tm_ossd_part *parts,
                     size_t count, struct tm_ossd_record *r)
{
  struct tm_error err;
  struct tm_ossd_condition condition;
  uint64_t least = x->request.s3 ? 5 << 20 : 100 << 10; /* the vendors' minimum */
  if (x->server->least_part >= 0)
    least = (uint64_t)x->server->least_part;
  if (!tm_ossd_condition(x, &condition))
    return false;
  enum tm_ossd_result result =
      tm_ossd_upload_complete(x->server->store, x->request.bucket, upload_id(x),
                              x->request.key, parts, count, least, &condition, r, &err);
  return result == TM_OSSD_OK ? answer_complete(x, r)
                              : tm_ossd_refuse_result(x, result, &err);
}

bool tm_ossd_complete(struct tm_ossd_exchange *x)
{
  const char *all = tm_ossd_header(&x->request, "x-oss-complete-all");
  bool take_all = !x->request.s3 && all != NULL && strcmp(all, "yes") == 0;
  if (tm_ossd_fault(x->server->faults, TM_FAULT_COMPLETE_ERROR))
    return tm_ossd_refuse(&x->refusal, 200, "InternalError",
                          "We encountered an internal error. Please try again.");
  if (take_all && tm_ossd_body_memory(x->body)->len > 0)
    return tm_ossd_refuse(&x->refusal, 400, "InvalidArgument",
                          "x-oss-complete-all goes with an empty body.");
  size_t count = 0;
  struct tm_ossd_part *parts = take_all ? NULL : wanted_parts(x, &count);
  if (!take_all && parts == NULL)
    return false;
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  tm_ossd_fault_wait(x->server->faults, TM_FAULT_STALL);
  bool ok = r == NULL ? no_memory(x) : complete(x, parts, count, r);
  if (r != NULL)
    tm_ossd_record_free(r);
  free(r);
  free(parts);
  if (ok)
    tm_ossd_fault_wait(x->server->faults, TM_FAULT_LATE);
  x->answer.drop = ok && tm_ossd_fault(x->server->faults, TM_FAULT_COMPLETE_DROP);
  return ok;
}

bool tm_ossd_abort(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  enum tm_ossd_result result = tm_ossd_upload_abort(x->server->store, x->request.bucket,
                                                    upload_id(x), x->request.key, &err);
  if (result != TM_OSSD_OK)
    return tm_ossd_refuse_result(x, result, &err);
  x->answer.status = 204;
  return true;
}

/* -- lists -- */

static unsigned page_size(const struct tm_ossd_exchange *x, unsigned asked)
{
  int64_t fault = x->server->faults->setting[TM_FAULT_PAGE];
  if (asked > PAGE)
    asked = PAGE;
  return fault > 0 && fault < asked ? (unsigned)fault : asked;
}

static bool write_parts(struct tm_ossd_exchange *x, const struct tm_ossd_part *parts,
                        size_t count, unsigned marker, unsigned asked)
{
  unsigned most = page_size(x, asked);
  size_t first = 0, n;
  while (first < count && parts[first].number <= marker)
    first++;
  n = count - first < most ? count - first : most;
  unsigned next = n > 0 ? parts[first + n - 1].number : 0;
  bool ok = tm_ossd_open_root(x, "ListPartsResult") &&
            tm_ossd_element(x, "Bucket", x->request.bucket) &&
            tm_ossd_element(x, "Key", x->request.key) &&
            tm_ossd_element(x, "UploadId", upload_id(x)) &&
            tm_ossd_element(x, "StorageClass", x->request.s3 ? "STANDARD" : "Standard") &&
            tm_ossd_element_number(x, "PartNumberMarker", marker) &&
            tm_ossd_element_number(x, "NextPartNumberMarker", next) &&
            tm_ossd_element_number(x, "MaxParts", asked) &&
            tm_ossd_element(x, "IsTruncated", first + n < count ? "true" : "false");
  for (size_t i = first; ok && i < first + n; i++)
    ok = tm_ossd_open_element(x, "Part") &&
         tm_ossd_element_number(x, "PartNumber", parts[i].number) &&
         tm_ossd_element_time(x, "LastModified", parts[i].mtime) &&
         tm_ossd_element_etag(x, parts[i].etag) &&
         (x->request.s3 || !parts[i].has_crc ||
          tm_ossd_element_number(x, "HashCrc64ecma", parts[i].crc)) &&
         tm_ossd_element_number(x, "Size", parts[i].size) &&
         tm_ossd_close_element(x, "Part");
  return tm_ossd_answer_xml(x, 200, ok && tm_ossd_close_element(x, "ListPartsResult"));
}

bool tm_ossd_list_parts(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  struct tm_ossd_part *parts;
  size_t count;
  unsigned marker, most;
  if (!number_param(x, "part-number-marker", 0, TM_OSSD_PARTS, &marker) ||
      !number_param(x, "max-parts", PAGE, INT32_MAX, &most))
    return false;
  enum tm_ossd_result result =
      tm_ossd_parts(x->server->store, x->request.bucket, upload_id(x), x->request.key,
                    &parts, &count, &err);
  bool ok = result == TM_OSSD_OK ? write_parts(x, parts, count, marker, most)
                                 : tm_ossd_refuse_result(x, result, &err);
  free(parts);
  return ok;
}

static const char *text_param(const struct tm_ossd_exchange *x, const char *name)
{
  const char *text = tm_ossd_param(&x->request, name);
  return text == NULL ? "" : text;
}

/* Does the upload come after both markers? */
static bool is_after(const struct tm_ossd_upload *u, const char *key, const char *id)
{
  int c = strcmp(u->key, key);
  return *key == '\0' || c > 0 || (c == 0 && *id != '\0' && strcmp(u->id, id) > 0);
}

static bool write_uploads(struct tm_ossd_exchange *x,
                          const struct tm_ossd_upload *uploads, size_t count,
                          unsigned asked)
{
  const char *prefix = text_param(x, "prefix"), *key = text_param(x, "key-marker"),
             *id = text_param(x, "upload-id-marker");
  bool encode = strcmp(text_param(x, "encoding-type"), "url") == 0;
  unsigned most = page_size(x, asked), written = 0;
  const struct tm_ossd_upload *last = NULL;
  bool truncated = false;
  bool ok = tm_ossd_open_root(x, "ListMultipartUploadsResult") &&
            tm_ossd_element(x, "Bucket", x->request.bucket) &&
            tm_ossd_element_name(x, "KeyMarker", key, encode) &&
            tm_ossd_element(x, "UploadIdMarker", id) &&
            tm_ossd_element_name(x, "Prefix", prefix, encode) &&
            (!encode || tm_ossd_element(x, "EncodingType", "url")) &&
            tm_ossd_element_number(x, "MaxUploads", asked);
  for (size_t i = 0; ok && i < count; i++) {
    const struct tm_ossd_upload *u = &uploads[i];
    if (strncmp(u->key, prefix, strlen(prefix)) != 0 || !is_after(u, key, id))
      continue;
    truncated = written == most;
    if (truncated)
      break;
    ok = tm_ossd_open_element(x, "Upload") &&
         tm_ossd_element_name(x, "Key", u->key, encode) &&
         tm_ossd_element(x, "UploadId", u->id) &&
         tm_ossd_element(x, "StorageClass", x->request.s3 ? "STANDARD" : "Standard") &&
         tm_ossd_element_time(x, "Initiated", u->begun) &&
         tm_ossd_close_element(x, "Upload");
    last = u;
    written++;
  }
  ok = ok &&
       tm_ossd_element_name(x, "NextKeyMarker", last == NULL ? "" : last->key, encode) &&
       tm_ossd_element(x, "NextUploadIdMarker", last == NULL ? "" : last->id) &&
       tm_ossd_element(x, "IsTruncated", truncated ? "true" : "false") &&
       tm_ossd_close_element(x, "ListMultipartUploadsResult");
  return tm_ossd_answer_xml(x, 200, ok);
}

bool tm_ossd_list_uploads(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  struct tm_ossd_upload *uploads;
  size_t count;
  unsigned most;
  if (!number_param(x, "max-uploads", PAGE, INT32_MAX, &most))
    return false;
  enum tm_ossd_result result =
      tm_ossd_uploads(x->server->store, x->request.bucket, &uploads, &count, &err);
  bool ok = result == TM_OSSD_OK ? write_uploads(x, uploads, count, most)
                                 : tm_ossd_refuse_result(x, result, &err);
  tm_ossd_uploads_free(uploads, count);
  return ok;
}
