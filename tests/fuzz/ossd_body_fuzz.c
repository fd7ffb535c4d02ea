/*
** ossd_body_fuzz.c: aws-chunked bodies, fed in pieces of different sizes
**
** The first byte chooses unsigned or signed, and the size of the pieces; the same input in one
** piece must come to the same end.
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ossd/body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool feed(const struct tm_ossd_request *r, const struct tm_ossd_identity *who,
                 const char *bytes, size_t n, size_t piece, struct tm_ossd_digest *digest)
{
  struct tm_ossd_refusal refusal = {0};
  struct tm_ossd_body_options options = {
      .fd = -1, .most = 1 << 16, .request = r, .who = who};
  struct tm_ossd_body *b = tm_ossd_body_new(&options, &refusal);
  bool ok = b != NULL;
  for (size_t at = 0; ok && at < n; at += piece)
    ok = tm_ossd_body_feed(b, bytes + at, n - at < piece ? n - at : piece, &refusal);
  ok = ok && tm_ossd_body_finish(b, digest, &refusal);
  if (ok && tm_ossd_body_memory(b)->len != digest->size)
    abort();
  tm_ossd_body_free(b);
  tm_ossd_refusal_free(&refusal);
  return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const hashes[] = {"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                                       "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
                                       "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"};
  static const struct tm_ossd_key key = {"ID", "SECRET", NULL};
  if (size < 1)
    return 0;
  struct tm_pair headers[] = {{"x-amz-content-sha256", hashes[data[0] % 3]},
                              {"x-amz-decoded-content-length", "5"}};
  struct tm_ossd_request r = {
      .s3 = true, .method = "PUT", .headers = headers, .header_count = 2};
  r.auth.region = "r";
  r.auth.signature = "0000000000000000000000000000000000000000000000000000000000000000";
  struct tm_ossd_identity who = {&key, 1700000000};
  struct tm_ossd_digest one = {0}, two = {0};
  const char *bytes = (const char *)data + 1;
  bool whole = feed(&r, &who, bytes, size - 1, size, &one);
  bool pieces = feed(&r, &who, bytes, size - 1, 1 + data[0] / 3, &two);
  if (whole != pieces || (whole && (one.crc != two.crc || one.size != two.size)))
    abort();
  return 0;
}
