/*
** answer.c: headers and XML of answers, and the error documents
*/
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "driver/digest.h"
#include "driver/xml.h"
#include "oss/encode.h"
#include "ossd/exchange.h"

bool tm_ossd_set(struct tm_ossd_exchange *x, const char *name, const char *format, ...)
{
  struct tm_buffer *b = &x->answer.headers;
  char value[2048];
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(value, sizeof value, format, ap);
  va_end(ap);
  if (n >= (int)sizeof value) /* metadata of one long value: 8 KB are allowed */
    return false;
  return tm_buffer_add(b, name, strlen(name) + 1) &&
         tm_buffer_add(b, value, strlen(value) + 1);
}

bool tm_ossd_set_vendor(struct tm_ossd_exchange *x, const char *name, const char *value)
{
  struct tm_buffer *b = &x->answer.headers;
  return tm_buffer_adds(b, x->request.s3 ? "x-amz-" : "x-oss-") &&
         tm_buffer_add(b, name, strlen(name) + 1) &&
         tm_buffer_add(b, value, strlen(value) + 1);
}

/* The etag in the vendor's case. */
static void cased(const struct tm_ossd_exchange *x, const char *etag,
                  char out[TM_OSSD_ETAG])
{
  snprintf(out, TM_OSSD_ETAG, "%s", etag);
  for (char *p = out; !x->request.s3 && *p != '\0'; p++)
    if (*p >= 'a' && *p <= 'z')
      *p = (char)(*p - 'a' + 'A');
}

bool tm_ossd_set_etag(struct tm_ossd_exchange *x, const char *etag)
{
  char text[TM_OSSD_ETAG];
  cased(x, etag, text);
  return tm_ossd_set(x, "ETag", "\"%s\"", text);
}

bool tm_ossd_set_crc(struct tm_ossd_exchange *x, uint64_t crc)
{
  if (x->request.s3)
    return true;
  if (tm_ossd_fault(x->server->faults, TM_FAULT_CRC))
    crc ^= 1;
  return tm_ossd_set(x, "x-oss-hash-crc64ecma", "%" PRIu64, crc);
}

bool tm_ossd_open_root(struct tm_ossd_exchange *x, const char *name)
{
  static const char space[] = " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";
  x->answer.body.len = 0;
  return tm_buffer_addf(&x->answer.body,
                        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%s%s>", name,
                        x->request.s3 ? space : "");
}

bool tm_ossd_open_element(struct tm_ossd_exchange *x, const char *name)
{
  return tm_buffer_addf(&x->answer.body, "<%s>", name);
}

bool tm_ossd_close_element(struct tm_ossd_exchange *x, const char *name)
{
  return tm_buffer_addf(&x->answer.body, "</%s>", name);
}

bool tm_ossd_element(struct tm_ossd_exchange *x, const char *name, const char *text)
{
  return tm_ossd_open_element(x, name) &&
         tm_xml_escape(&x->answer.body, text, strlen(text)) &&
         tm_ossd_close_element(x, name);
}

bool tm_ossd_element_number(struct tm_ossd_exchange *x, const char *name, uint64_t n)
{
  return tm_buffer_addf(&x->answer.body, "<%s>%" PRIu64 "</%s>", name, n, name);
}

bool tm_ossd_element_time(struct tm_ossd_exchange *x, const char *name, int64_t time)
{
  char text[TM_DATE_SIZE];
  tm_date_iso(time, text);
  return tm_ossd_element(x, name, text);
}

bool tm_ossd_element_etag(struct tm_ossd_exchange *x, const char *etag)
{
  char text[TM_OSSD_ETAG], quoted[TM_OSSD_ETAG + 2];
  cased(x, etag, text);
  snprintf(quoted, sizeof quoted, "\"%s\"", text);
  return tm_ossd_element(x, "ETag", quoted);
}

bool tm_ossd_element_name(struct tm_ossd_exchange *x, const char *name, const char *text,
                          bool encode)
{
  struct tm_buffer *b = &x->answer.body;
  if (!encode)
    return tm_ossd_element(x, name, text);
  if (!tm_ossd_open_element(x, name))
    return false;
  size_t start = b->len;
  if (!x->request.s3)
    return tm_encode(b, text, strlen(text)) && tm_ossd_close_element(x, name);
  if (!tm_encode_path(b, text, strlen(text)))
    return false;
  size_t to = start; /* S3 writes a space as '+' here */
  for (size_t i = start; i < b->len; i++) {
    if (b->len - i >= 3 && memcmp(b->data + i, "%20", 3) == 0) {
      b->data[to++] = '+';
      i += 2;
    } else {
      b->data[to++] = b->data[i];
    }
  }
  b->len = to;
  return tm_ossd_close_element(x, name);
}

bool tm_ossd_answer_xml(struct tm_ossd_exchange *x, int status, bool ok)
{
  if (!ok || !tm_ossd_set(x, "Content-Type", "application/xml"))
    return tm_ossd_refuse(&x->refusal, 500, "InternalError", "Out of memory.");
  x->answer.status = status;
  return true;
}

bool tm_ossd_refuse_result(struct tm_ossd_exchange *x, enum tm_ossd_result result,
                           const struct tm_error *err)
{
  struct tm_ossd_refusal *r = &x->refusal;
  bool s3 = x->request.s3;
  switch (result) {
  case TM_OSSD_NO_BUCKET:
    tm_ossd_refusal_add(r, "BucketName", x->request.bucket);
    return tm_ossd_refuse(r, 404, "NoSuchBucket", "The specified bucket does not exist.");
  case TM_OSSD_NO_KEY:
    tm_ossd_refusal_add(r, "Key", x->request.key);
    return tm_ossd_refuse(r, 404, "NoSuchKey", "The specified key does not exist.");
  case TM_OSSD_NO_UPLOAD:
    return tm_ossd_refuse(r, 404, "NoSuchUpload", "The specified upload does not exist.");
  case TM_OSSD_EXISTS:
    if (s3)
      return tm_ossd_refuse(
          r, 412, "PreconditionFailed",
          "At least one of the pre-conditions you specified did not hold");
    return tm_ossd_refuse(r, 409, "FileAlreadyExists",
                          "The object you specified already exists and can not be "
                          "overwritten.");
  case TM_OSSD_NOT_EMPTY:
    return tm_ossd_refuse(r, 409, "BucketNotEmpty",
                          "The bucket you tried to delete is not empty.");
  case TM_OSSD_PRECONDITION:
    return tm_ossd_refuse(
        r, 412, "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold");
  case TM_OSSD_BAD_PART:
    return tm_ossd_refuse(r, 400, "InvalidPart",
                          "One or more of the specified parts could not be found or the "
                          "specified entity tag might not have matched the part's entity "
                          "tag.");
  case TM_OSSD_PART_ORDER:
    return tm_ossd_refuse(r, 400, "InvalidPartOrder",
                          "The list of parts was not in ascending order.");
  case TM_OSSD_PART_SIZE:
    return tm_ossd_refuse(
        r, 400, "EntityTooSmall",
        "Your proposed upload is smaller than the minimum allowed size.");
  case TM_OSSD_FULL:
    return tm_ossd_refuse(r, 503, "ServiceUnavailable",
                          "A limit of this development server is reached.");
  case TM_OSSD_OK:
  case TM_OSSD_FAILED:
    break;
  }
  return tm_ossd_refuse(r, 500, "InternalError", "%s", err->message);
}

static bool write_error(struct tm_ossd_exchange *x)
{
  const struct tm_ossd_refusal *r = &x->refusal;
  const char *host = tm_ossd_header(&x->request, "host");
  x->answer.body.len = 0;
  return tm_buffer_adds(&x->answer.body,
                        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>") &&
         tm_ossd_element(x, "Code", r->code) &&
         tm_ossd_element(x, "Message", r->message) &&
         (!x->request.s3 || x->request.path == NULL ||
          tm_ossd_element(x, "Resource", x->request.path)) &&
         tm_ossd_element(x, "RequestId", x->id) &&
         tm_ossd_element(x, "HostId", host == NULL ? "" : host) &&
         tm_buffer_add(&x->answer.body, r->extra.data, r->extra.len) &&
         tm_ossd_close_element(x, "Error");
}

void tm_ossd_answer_refusal(struct tm_ossd_exchange *x)
{
  struct tm_ossd_answer *a = &x->answer;
  struct tm_buffer base64 = {0};
  tm_ossd_reader_close(a->reader);
  a->reader = NULL;
  a->headers.len = 0;
  a->status = x->refusal.status;
  bool head = x->request.method != NULL && strcmp(x->request.method, "HEAD") == 0;
  bool ok = true;
  if (a->status == 304) {
    a->body.len = 0;
  } else if (!write_error(x)) {
    a->body.len = 0;
    a->status = 500;
  } else if (head && !x->request.s3) {
    if (tm_base64(a->body.data, a->body.len, &base64) && tm_buffer_cstr(&base64) != NULL)
      ok = base64.len > 4000 || tm_ossd_set_vendor(x, "err", base64.data);
  } else {
    ok = tm_ossd_set(x, "Content-Type", "application/xml");
  }
  if (head)
    a->body.len = 0;
  if (!ok)
    a->status = 500;
  tm_buffer_free(&base64);
}
