/*
** record.c: an object's record as text, and the names of files
**
** Each line is "name value" with the value percent-encoded. The footer is the record's
** length and CRC in hex and a magic word, of fixed size, so it is found from the end.
*/
#include "ossd/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/crc64.h"
#include "driver/digest.h"
#include "oss/encode.h"

#define MAGIC "tidemill-ossd-1\n"

enum {
  FOOTER = 16 + 16 + sizeof MAGIC - 1, /* length and CRC in hex, magic */
  RECORD_MOST = 1 << 20                /* 10,000 segments take 200 KB */
};

void tm_ossd_record_free(struct tm_ossd_record *r)
{
  for (size_t i = 0; i < r->header_count; i++) {
    free((char *)r->headers[i].name);
    free((char *)r->headers[i].value);
  }
  free(r->headers);
  free(r->segments);
  r->headers = NULL;
  r->segments = NULL;
  r->header_count = r->segment_count = 0;
}

/* n bytes as a string; they need not end in a NUL, as strndup may want. */
static char *copy_bytes(const char *bytes, size_t n)
{
  char *copy = malloc(n + 1);
  if (copy == NULL)
    return NULL;
  if (n > 0)
    memcpy(copy, bytes, n);
  copy[n] = '\0';
  return copy;
}

bool tm_ossd_record_add(struct tm_ossd_record *r, const char *name, const char *value,
                        size_t value_len)
{
  if (r->headers == NULL)
    r->headers = calloc(TM_OSSD_HEADERS, sizeof *r->headers);
  if (r->headers == NULL || r->header_count == TM_OSSD_HEADERS)
    return false;
  char *n = strdup(name), *v = copy_bytes(value, value_len);
  if (n == NULL || v == NULL) {
    free(n);
    free(v);
    return false;
  }
  r->headers[r->header_count++] = (struct tm_pair){n, v};
  return true;
}

const char *tm_ossd_record_header(const struct tm_ossd_record *r, const char *name)
{
  for (size_t i = 0; i < r->header_count; i++)
    if (strcmp(r->headers[i].name, name) == 0)
      return r->headers[i].value;
  return NULL;
}

static bool add_line(struct tm_buffer *out, const char *name, const char *value)
{
  return tm_buffer_adds(out, name) && tm_buffer_addc(out, ' ') &&
         tm_encode(out, value, strlen(value)) && tm_buffer_addc(out, '\n');
}

bool tm_ossd_record_write(const struct tm_ossd_record *r, struct tm_buffer *out)
{
  size_t start = out->len;
  if (!add_line(out, "key", r->key) || !add_line(out, "etag", r->etag) ||
      !tm_buffer_addf(out, "size %" PRIu64 "\nmtime %" PRId64 "\n", r->size, r->mtime) ||
      (r->has_crc && !tm_buffer_addf(out, "crc %" PRIu64 "\n", r->crc)) ||
      (r->upload[0] != '\0' && !add_line(out, "upload", r->upload)))
    return false;
  for (size_t i = 0; i < r->segment_count; i++)
    if (!tm_buffer_addf(out, "segment %u:%" PRIu64 "\n", r->segments[i].part,
                        r->segments[i].size))
      return false;
  for (size_t i = 0; i < r->header_count; i++)
    if (!tm_buffer_adds(out, "header.") ||
        !tm_encode(out, r->headers[i].name, strlen(r->headers[i].name)) ||
        !add_line(out, "", r->headers[i].value))
      return false;
  size_t n = out->len - start;
  uint64_t crc = n > 0 ? tm_crc64(0, out->data + start, n) : 0;
  return tm_buffer_addf(out, "%016zx%016" PRIx64 MAGIC, n, crc);
}

static bool broken(struct tm_error *err, const char *what)
{
  tm_error_set(err, TM_EDATA, "not an object file: %s", what);
  return false;
}

static bool read_hex(const char *text, uint64_t *value)
{
  unsigned char bytes[8];
  if (!tm_unhex(text, 16, bytes))
    return false;
  *value = 0;
  for (int i = 0; i < 8; i++)
    *value = *value << 8 | bytes[i];
  return true;
}

static bool read_number(const char *text, uint64_t *value)
{
  char *end;
  if (text[0] < '0' || text[0] > '9')
    return false;
  errno = 0;
  *value = strtoull(text, &end, 10);
  return *end == '\0' && errno == 0;
}

static bool set_text(char *out, size_t size, const char *value)
{
  return snprintf(out, size, "%s", value) < (int)size;
}

static bool read_segment(const char *value, struct tm_ossd_record *r)
{
  if (r->segments == NULL)
    r->segments = calloc(TM_OSSD_PARTS, sizeof *r->segments);
  if (r->segments == NULL || r->segment_count == TM_OSSD_PARTS)
    return false;
  unsigned part;
  uint64_t size;
  char extra;
  if (sscanf(value, "%5u:%19" SCNu64 "%c", &part, &size, &extra) != 2)
    return false;
  if (part < 1 || part > TM_OSSD_PARTS || size > UINT64_MAX / TM_OSSD_PARTS)
    return false;
  r->segments[r->segment_count++] = (struct tm_ossd_segment){part, size};
  return true;
}

static bool read_line(char *name, char *value, struct tm_ossd_record *r)
{
  uint64_t number;
  struct tm_error err;
  struct tm_buffer text = {0};
  bool ok = false;
  if (!tm_decode(&text, value, strlen(value), &err) || tm_buffer_cstr(&text) == NULL)
    goto done;
  if (memchr(text.data, '\0', text.len) != NULL)
    goto done;
  if (strcmp(name, "key") == 0) {
    ok = set_text(r->key, sizeof r->key, text.data);
  } else if (strcmp(name, "etag") == 0) {
    ok = set_text(r->etag, sizeof r->etag, text.data);
  } else if (strcmp(name, "size") == 0) {
    ok = read_number(text.data, &r->size);
  } else if (strcmp(name, "mtime") == 0) {
    ok = read_number(text.data, &number) && number <= INT64_MAX;
    r->mtime = (int64_t)number;
  } else if (strcmp(name, "crc") == 0) {
    ok = r->has_crc = read_number(text.data, &r->crc);
  } else if (strcmp(name, "upload") == 0) {
    ok = tm_ossd_is_upload_id(text.data) &&
         set_text(r->upload, sizeof r->upload, text.data);
  } else if (strcmp(name, "segment") == 0) {
    ok = read_segment(text.data, r);
  } else if (strncmp(name, "header.", 7) == 0) {
    struct tm_buffer header = {0};
    ok = tm_decode(&header, name + 7, strlen(name + 7), &err) &&
         tm_buffer_cstr(&header) != NULL &&
         tm_ossd_record_add(r, header.data, text.data, text.len);
    tm_buffer_free(&header);
  }
done:
  tm_buffer_free(&text);
  return ok;
}

static bool read_lines(char *text, struct tm_ossd_record *r, struct tm_error *err)
{
  while (*text != '\0') {
    char *end = strchr(text, '\n'), *space = strchr(text, ' ');
    if (end == NULL || space == NULL || space > end)
      return broken(err, "its record is damaged");
    *end = *space = '\0';
    if (!read_line(text, space + 1, r))
      return broken(err, "its record has a line that makes no sense");
    text = end + 1;
  }
  uint64_t sum = 0;
  for (size_t i = 0; i < r->segment_count; i++)
    sum += r->segments[i].size;
  if ((r->upload[0] != '\0') != (r->segment_count > 0) ||
      (r->segment_count > 0 && sum != r->size))
    return broken(err, "its segments do not add up");
  return true;
}

/* The record's length, when the footer at the end of `bytes` is sound; else 0. */
static uint64_t footer_length(const char *bytes, size_t n)
{
  uint64_t length = 0;
  if (n < FOOTER ||
      memcmp(bytes + n - (sizeof MAGIC - 1), MAGIC, sizeof MAGIC - 1) != 0 ||
      !read_hex(bytes + n - FOOTER, &length) || length > RECORD_MOST)
    return 0;
  return length;
}

bool tm_ossd_record_parse(const char *bytes, size_t n, struct tm_ossd_record *r,
                          struct tm_error *err)
{
  uint64_t length = footer_length(bytes, n), crc;
  if (length == 0 || length > n - FOOTER)
    return broken(err, "it does not end in a footer");
  const char *start = bytes + n - FOOTER - length;
  if (!read_hex(bytes + n - FOOTER + 16, &crc) || crc != tm_crc64(0, start, length))
    return broken(err, "the checksum of its record is wrong");
  char *copy = copy_bytes(start, (size_t)length);
  if (copy == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  bool ok = read_lines(copy, r, err);
  free(copy);
  return ok;
}

static bool read_tail(int fd, uint64_t file_size, size_t n, struct tm_buffer *out,
                      struct tm_error *err)
{
  out->len = 0;
  if (!tm_buffer_reserve(out, n)) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  while (out->len < n) {
    ssize_t got =
        pread(fd, out->data + out->len, n - out->len, (off_t)(file_size - n + out->len));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0) {
      tm_error_errno(err, TM_EIO, errno, "cannot read an object file");
      return false;
    }
    if (got == 0)
      return broken(err, "it is shorter than it says");
    out->len += (size_t)got;
  }
  return true;
}

bool tm_ossd_record_read(int fd, struct tm_ossd_record *r, struct tm_error *err)
{
  struct stat st;
  if (fstat(fd, &st) != 0) {
    tm_error_errno(err, TM_EIO, errno, "cannot read an object file");
    return false;
  }
  uint64_t size = (uint64_t)st.st_size;
  size_t tail = size < 2048 ? (size_t)size : 2048; /* most records are that short */
  struct tm_buffer b = {0};
  bool ok = read_tail(fd, size, tail, &b, err);
  uint64_t length = ok ? footer_length(b.data, b.len) : 0;
  if (ok && length > tail - (tail < FOOTER ? tail : FOOTER) && length + FOOTER <= size)
    ok = read_tail(fd, size, (size_t)length + FOOTER, &b, err);
  ok = ok && tm_ossd_record_parse(b.data, b.len, r, err);
  tm_buffer_free(&b);
  if (ok && size != (r->upload[0] != '\0' ? 0 : r->size) + length + FOOTER)
    return broken(err, "its size is not what its record says");
  return ok;
}

bool tm_ossd_object_path(const char *bucket, const char *key, char out[TM_OSSD_PATH])
{
  unsigned char digest[TM_DIGEST_MAX];
  char hex[2 * TM_DIGEST_MAX + 1];
  if (!tm_digest(TM_SHA256, key, strlen(key), digest))
    return false;
  tm_hex(digest, 32, hex);
  snprintf(out, TM_OSSD_PATH, "%.63s/objects/%.2s/%.62s", bucket, hex, hex + 2);
  return true;
}

void tm_ossd_part_path(const char *bucket, const char *upload, unsigned part,
                       char out[TM_OSSD_PATH])
{
  snprintf(out, TM_OSSD_PATH, "%.63s/uploads/%.32s/%05u", bucket, upload, part);
}

static bool is_alphanumeric(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool tm_ossd_is_bucket_name(const char *name)
{
  size_t n = strlen(name);
  if (n < 3 || n > 63 || !is_alphanumeric(name[0]) || !is_alphanumeric(name[n - 1]))
    return false;
  for (size_t i = 0; i < n; i++)
    if (!is_alphanumeric(name[i]) && name[i] != '-' &&
        !(name[i] == '.' && name[i + 1] != '.'))
      return false;
  return true;
}

bool tm_ossd_is_upload_id(const char *text)
{
  return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}
