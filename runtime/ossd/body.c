/*
** body.c: a request's body on its way to a file or into memory
*/
#include "ossd/body.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "driver/crc64.h"
#include "driver/digest.h"

enum { LINE_MOST = 4096, CHUNK_MOST = 1 << 30 };

enum state { PLAIN, CHUNK_LINE, CHUNK_DATA, CHUNK_END, TRAILER, DONE };

struct tm_ossd_body {
  struct tm_ossd_body_options options;
  enum state state;
  struct tm_buffer memory;
  struct tm_hasher *md5, *sha256; /* NULL: not wanted */
  uint64_t size, crc;
  const char *want_sha256; /* hex, or NULL */
  const char *want_md5;    /* base64, or NULL */
  int64_t want_size;       /* decoded bytes promised, or -1 */
  /* aws-chunked: */
  bool is_signed, has_trailer;
  struct tm_sign_key key;
  char previous[65], given[65]; /* signatures: of the last chunk, and the one claimed */
  uint64_t left;                /* of this chunk */
  bool last;                    /* this chunk is the empty one */
  struct tm_buffer line;
  struct tm_buffer trailer; /* "name:value\n" lines as signed */
  char trailer_signature[65];
};

static bool no_memory(struct tm_ossd_refusal *refusal)
{
  return tm_ossd_refuse(refusal, 500, "InternalError", "Out of memory.");
}

static bool read_size(const char *text, int64_t *size)
{
  char *end;
  errno = 0;
  *size = strtoll(text, &end, 10);
  return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* What x-amz-content-sha256 says about the body. */
static bool begin_s3(struct tm_ossd_body *b, const char *hash,
                     struct tm_ossd_refusal *refusal)
{
  unsigned char digest[TM_DIGEST_MAX];
  const struct tm_ossd_request *r = b->options.request;
  const char *length = tm_ossd_header(r, "x-amz-decoded-content-length");
  struct tm_error err;
  if (strcmp(hash, "UNSIGNED-PAYLOAD") == 0)
    return true;
  if (strncmp(hash, "STREAMING-", 10) != 0) {
    b->want_sha256 = hash;
    return (strlen(hash) == 64 && tm_unhex(hash, 64, digest)) ||
           tm_ossd_refuse(refusal, 400, "InvalidArgument",
                          "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- "
                          "value or 64 hex digits.");
  }
  b->state = CHUNK_LINE;
  b->is_signed = strncmp(hash, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 34) == 0;
  b->has_trailer = strlen(hash) > 8 && strcmp(hash + strlen(hash) - 8, "-TRAILER") == 0;
  if (!b->is_signed && strcmp(hash, "STREAMING-UNSIGNED-PAYLOAD-TRAILER") != 0)
    return tm_ossd_refuse(refusal, 400, "InvalidArgument", "Unknown streaming payload.");
  if (length == NULL || !read_size(length, &b->want_size))
    return tm_ossd_refuse(refusal, 411, "MissingContentLength",
                          "You must provide x-amz-decoded-content-length.");
  if (!b->is_signed)
    return true;
  if (b->options.who->key == NULL || r->auth.presigned)
    return tm_ossd_refuse(refusal, 400, "InvalidArgument",
                          "Signed chunks need a signed request.");
  snprintf(b->previous, sizeof b->previous, "%.64s", r->auth.signature);
  b->sha256 = tm_hasher_new(TM_SHA256);
  return (b->sha256 != NULL &&
          tm_sign_derive(TM_SIGN_S3_V4, b->options.who->key->secret, b->options.who->time,
                         r->auth.region, &b->key, &err)) ||
         no_memory(refusal);
}

static bool begin(struct tm_ossd_body *b, struct tm_ossd_refusal *refusal)
{
  const struct tm_ossd_request *r = b->options.request;
  const char *hash = r->s3 ? tm_ossd_header(r, "x-amz-content-sha256") : NULL;
  b->want_size = -1;
  b->want_md5 = tm_ossd_header(r, "content-md5");
  if (b->want_md5 != NULL) {
    struct tm_buffer digest = {0};
    bool ok = tm_unbase64(b->want_md5, strlen(b->want_md5), &digest) && digest.len == 16;
    tm_buffer_free(&digest);
    if (!ok)
      return tm_ossd_refuse(refusal, 400, "InvalidDigest",
                            "The Content-MD5 you specified is not valid.");
  }
  if (hash != NULL && !begin_s3(b, hash, refusal))
    return false;
  if (b->want_md5 != NULL || !b->options.no_md5) {
    b->md5 = tm_hasher_new(TM_MD5);
    if (b->md5 == NULL)
      return no_memory(refusal);
  }
  if (b->want_sha256 != NULL && (b->sha256 = tm_hasher_new(TM_SHA256)) == NULL)
    return no_memory(refusal);
  return true;
}

struct tm_ossd_body *tm_ossd_body_new(const struct tm_ossd_body_options *options,
                                      struct tm_ossd_refusal *refusal)
{
  struct tm_ossd_body *b = calloc(1, sizeof *b);
  if (b == NULL) {
    no_memory(refusal);
    return NULL;
  }
  b->options = *options;
  if (begin(b, refusal))
    return b;
  tm_ossd_body_free(b);
  return NULL;
}

void tm_ossd_body_free(struct tm_ossd_body *b)
{
  if (b == NULL)
    return;
  tm_hasher_free(b->md5);
  tm_hasher_free(b->sha256);
  tm_buffer_free(&b->memory);
  tm_buffer_free(&b->line);
  tm_buffer_free(&b->trailer);
  tm_wipe(&b->key, sizeof b->key);
  free(b);
}

static bool write_all(int fd, const char *bytes, size_t n)
{
  while (n > 0) {
    ssize_t done = write(fd, bytes, n);
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return false;
    bytes += done;
    n -= (size_t)done;
  }
  return true;
}

/* Decoded bytes: digests, then the file or memory. */
static bool take(struct tm_ossd_body *b, const char *bytes, size_t n,
                 struct tm_ossd_refusal *refusal)
{
  if (n > b->options.most - b->size)
    return tm_ossd_refuse(refusal, 400, "EntityTooLarge",
                          "Your proposed upload exceeds the maximum allowed size.");
  if ((b->md5 != NULL && !tm_hasher_add(b->md5, bytes, n)) ||
      (b->sha256 != NULL && !tm_hasher_add(b->sha256, bytes, n)))
    return no_memory(refusal);
  b->crc = tm_crc64(b->crc, bytes, n);
  b->size += n;
  if (b->options.discard)
    return true;
  if (b->options.fd < 0)
    return tm_buffer_add(&b->memory, bytes, n) || no_memory(refusal);
  return write_all(b->options.fd, bytes, n) ||
         tm_ossd_refuse(refusal, 500, "InternalError", "Cannot write: %s.",
                        strerror(errno));
}

static bool bad_chunk(struct tm_ossd_refusal *refusal, const char *why)
{
  return tm_ossd_refuse(refusal, 400, "InvalidRequest", "The aws-chunked body %s.", why);
}

/* Compares the signature claimed with the one over `hash`, and makes it the previous. */
static bool check_link(struct tm_ossd_body *b, const char *hash, const char *given,
                       bool trailer, struct tm_ossd_refusal *refusal)
{
  char made[65];
  struct tm_error err;
  struct tm_buffer text = {0};
  struct tm_sign_chunk chunk = {.key = &b->key,
                                .time = b->options.who->time,
                                .region = b->options.request->auth.region,
                                .previous = b->previous,
                                .data_sha256 = hash,
                                .trailer = trailer};
  bool ok = tm_sign_chunk(&chunk, &text, made, &err) && strlen(given) == 64 &&
            tm_same_secret(made, given, 64);
  if (!ok) {
    if (tm_buffer_cstr(&text) != NULL)
      tm_ossd_refusal_add(refusal, "StringToSign", text.data);
    tm_ossd_refuse(refusal, 403, "SignatureDoesNotMatch",
                   "The signature of a %s does not match.",
                   trailer ? "trailer" : "chunk");
  }
  tm_buffer_free(&text);
  memcpy(b->previous, made, sizeof b->previous);
  return ok;
}

static bool end_chunk(struct tm_ossd_body *b, struct tm_ossd_refusal *refusal)
{
  unsigned char digest[TM_DIGEST_MAX];
  char hex[65];
  if (!b->is_signed)
    return true;
  if (!tm_hasher_finish(b->sha256, digest))
    return no_memory(refusal);
  tm_hex(digest, 32, hex);
  return check_link(b, hex, b->given, false, refusal);
}

static bool begin_chunk(struct tm_ossd_body *b, const char *line,
                        struct tm_ossd_refusal *refusal)
{
  size_t n = strspn(line, "0123456789abcdefABCDEF");
  if (n == 0 || n > 8 || (line[n] != '\0' && line[n] != ';'))
    return bad_chunk(refusal, "has a chunk without a size");
  b->left = strtoull(line, NULL, 16);
  if (b->left > CHUNK_MOST)
    return bad_chunk(refusal, "has a chunk that is too large");
  const char *given = strstr(line + n, ";chunk-signature=");
  if (b->is_signed && given == NULL)
    return bad_chunk(refusal, "has a chunk without a signature");
  b->given[0] = '\0';
  if (given != NULL)
    snprintf(b->given, sizeof b->given, "%.64s", given + 17);
  b->last = b->left == 0;
  b->state = CHUNK_DATA;
  if (!b->last)
    return true;
  b->state = TRAILER; /* ends at an empty line */
  return end_chunk(b, refusal);
}

static bool end_trailer(struct tm_ossd_body *b, struct tm_ossd_refusal *refusal)
{
  unsigned char digest[TM_DIGEST_MAX];
  char hex[65];
  b->state = DONE;
  if (!b->is_signed || !b->has_trailer)
    return true;
  if (!tm_digest(TM_SHA256, b->trailer.data, b->trailer.len, digest))
    return no_memory(refusal);
  tm_hex(digest, 32, hex);
  return check_link(b, hex, b->trailer_signature, true, refusal);
}

static bool trailer_line(struct tm_ossd_body *b, const char *line,
                         struct tm_ossd_refusal *refusal)
{
  static const char signature[] = "x-amz-trailer-signature:";
  if (*line == '\0')
    return end_trailer(b, refusal);
  if (strchr(line, ':') == NULL || b->trailer.len > LINE_MOST)
    return bad_chunk(refusal, "has a malformed trailer");
  if (strncasecmp(line, signature, sizeof signature - 1) == 0) {
    snprintf(b->trailer_signature, sizeof b->trailer_signature, "%.64s",
             line + sizeof signature - 1);
    return true;
  }
  return (tm_buffer_adds(&b->trailer, line) && tm_buffer_addc(&b->trailer, '\n')) ||
         no_memory(refusal);
}

/* Gathers a line; true in *whole once its LF came. Sets *used to the bytes taken. */
static bool gather_line(struct tm_ossd_body *b, const char *bytes, size_t n, size_t *used,
                        bool *whole, struct tm_ossd_refusal *refusal)
{
  const char *end = memchr(bytes, '\n', n);
  *whole = end != NULL;
  *used = end != NULL ? (size_t)(end - bytes) + 1 : n;
  if (b->line.len + *used > LINE_MOST)
    return bad_chunk(refusal, "has a line that is too long");
  if (!tm_buffer_add(&b->line, bytes, *used) || tm_buffer_cstr(&b->line) == NULL)
    return no_memory(refusal);
  if (!*whole)
    return true;
  b->line.len--;
  if (b->line.len > 0 && b->line.data[b->line.len - 1] == '\r')
    b->line.len--;
  if (memchr(b->line.data, '\0', b->line.len) != NULL)
    return bad_chunk(refusal, "has a NUL byte in a line");
  b->line.data[b->line.len] = '\0';
  return true;
}

static bool take_line(struct tm_ossd_body *b, struct tm_ossd_refusal *refusal)
{
  const char *line = b->line.data;
  b->line.len = 0;
  if (b->state == CHUNK_LINE)
    return begin_chunk(b, line, refusal);
  if (b->state == TRAILER)
    return trailer_line(b, line, refusal);
  if (*line != '\0') /* CHUNK_END */
    return bad_chunk(refusal, "has a chunk longer than its size");
  b->state = CHUNK_LINE;
  return end_chunk(b, refusal);
}

bool tm_ossd_body_feed(struct tm_ossd_body *b, const char *bytes, size_t n,
                       struct tm_ossd_refusal *refusal)
{
  if (b->state == PLAIN)
    return take(b, bytes, n, refusal);
  while (n > 0) {
    size_t used;
    bool whole = false;
    if (b->state == DONE)
      return bad_chunk(refusal, "goes on after its end");
    if (b->state == CHUNK_DATA) {
      used = n < b->left ? n : (size_t)b->left;
      if (!take(b, bytes, used, refusal))
        return false;
      b->left -= used;
      if (b->left == 0)
        b->state = CHUNK_END;
    } else if (!gather_line(b, bytes, n, &used, &whole, refusal) ||
               (whole && !take_line(b, refusal))) {
      return false;
    }
    bytes += used;
    n -= used;
  }
  return true;
}

static bool check_md5(struct tm_ossd_body *b, const unsigned char *digest,
                      struct tm_ossd_refusal *refusal)
{
  struct tm_buffer text = {0};
  bool ok = tm_base64(digest, 16, &text) && text.len == strlen(b->want_md5) &&
            memcmp(text.data, b->want_md5, text.len) == 0;
  if (!ok) {
    tm_ossd_refusal_add(refusal, "ExpectedDigest", b->want_md5);
    if (tm_buffer_cstr(&text) != NULL)
      tm_ossd_refusal_add(refusal, "CalculatedDigest", text.data);
    tm_ossd_refuse(refusal, 400, b->options.request->s3 ? "BadDigest" : "InvalidDigest",
                   "The Content-MD5 you specified did not match what we received.");
  }
  tm_buffer_free(&text);
  return ok;
}

static bool check_sha256(struct tm_ossd_body *b, struct tm_ossd_refusal *refusal)
{
  unsigned char digest[TM_DIGEST_MAX];
  char hex[65];
  if (!tm_hasher_finish(b->sha256, digest))
    return no_memory(refusal);
  tm_hex(digest, 32, hex);
  if (strcasecmp(hex, b->want_sha256) == 0)
    return true;
  tm_ossd_refusal_add(refusal, "ClientComputedContentSHA256", b->want_sha256);
  tm_ossd_refusal_add(refusal, "S3ComputedContentSHA256", hex);
  return tm_ossd_refuse(refusal, 400, "XAmzContentSHA256Mismatch",
                        "The provided 'x-amz-content-sha256' header does not match what "
                        "was computed.");
}

bool tm_ossd_body_finish(struct tm_ossd_body *b, struct tm_ossd_digest *digest,
                         struct tm_ossd_refusal *refusal)
{
  unsigned char md5[TM_DIGEST_MAX];
  if (b->state == TRAILER && !b->has_trailer && !end_trailer(b, refusal))
    return false; /* some clients leave out the empty line when there is no trailer */
  if (b->state != PLAIN && b->state != DONE)
    return tm_ossd_refuse(refusal, 400, "IncompleteBody",
                          "The aws-chunked body ended too early.");
  if (b->want_size >= 0 && (uint64_t)b->want_size != b->size)
    return tm_ossd_refuse(refusal, 400, "IncompleteBody",
                          "The body has %" PRIu64 " bytes, not the %" PRId64 " promised.",
                          b->size, b->want_size);
  if (b->want_sha256 != NULL && !check_sha256(b, refusal))
    return false;
  digest->size = b->size;
  digest->crc = b->crc;
  snprintf(digest->etag, sizeof digest->etag, "%016" PRIx64 "%016" PRIx64, b->crc,
           b->size);
  if (b->md5 == NULL)
    return true;
  if (!tm_hasher_finish(b->md5, md5))
    return no_memory(refusal);
  tm_hex(md5, 16, digest->etag);
  return b->want_md5 == NULL || check_md5(b, md5, refusal);
}

const struct tm_buffer *tm_ossd_body_memory(const struct tm_ossd_body *b)
{
  return &b->memory;
}
