/*
** digest.c: digests through libcrypto's EVP interface
*/
#include "driver/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

void tm_digest_stay(void)
{
  OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}

static const EVP_MD *method(enum tm_digest_kind kind)
{
  switch (kind) {
  case TM_MD5:
    return EVP_md5();
  case TM_SHA1:
    return EVP_sha1();
  case TM_SHA256:
    break;
  }
  return EVP_sha256();
}

size_t tm_digest_size(enum tm_digest_kind kind)
{
  return kind == TM_MD5 ? 16 : kind == TM_SHA1 ? 20 : 32;
}

bool tm_digest(enum tm_digest_kind kind, const void *bytes, size_t n, unsigned char *out)
{
  return EVP_Digest(n > 0 ? bytes : "", n, out, NULL, method(kind), NULL) == 1;
}

bool tm_hmac(enum tm_digest_kind kind, const void *key, size_t key_len, const void *bytes,
             size_t n, unsigned char *out)
{
  if (key_len > INT32_MAX)
    return false;
  return HMAC(method(kind), key_len > 0 ? key : "", (int)key_len, n > 0 ? bytes : "", n,
              out, NULL) != NULL;
}

struct tm_hasher {
  EVP_MD_CTX *context;
  enum tm_digest_kind kind;
};

struct tm_hasher *tm_hasher_new(enum tm_digest_kind kind)
{
  struct tm_hasher *h = calloc(1, sizeof *h);
  if (h == NULL)
    return NULL;
  h->kind = kind;
  h->context = EVP_MD_CTX_new();
  if (h->context == NULL || EVP_DigestInit_ex(h->context, method(kind), NULL) != 1) {
    tm_hasher_free(h);
    return NULL;
  }
  return h;
}

bool tm_hasher_add(struct tm_hasher *h, const void *bytes, size_t n)
{
  return n == 0 || EVP_DigestUpdate(h->context, bytes, n) == 1;
}

bool tm_hasher_finish(struct tm_hasher *h, unsigned char *out)
{
  return EVP_DigestFinal_ex(h->context, out, NULL) == 1 &&
         EVP_DigestInit_ex(h->context, NULL, NULL) == 1; /* of the same kind */
}

void tm_hasher_free(struct tm_hasher *h)
{
  if (h == NULL)
    return;
  EVP_MD_CTX_free(h->context);
  free(h);
}

void tm_hex(const unsigned char *bytes, size_t n, char *out)
{
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < n; i++) {
    out[2 * i] = digits[bytes[i] >> 4];
    out[2 * i + 1] = digits[bytes[i] & 15];
  }
  out[2 * n] = '\0';
}

static int digit(char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

bool tm_unhex(const char *text, size_t text_len, unsigned char *out)
{
  if (text_len % 2 != 0)
    return false;
  for (size_t i = 0; i < text_len; i += 2) {
    int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0)
      return false;
    out[i / 2] = (unsigned char)(high * 16 + low);
  }
  return true;
}

bool tm_base64(const void *bytes, size_t n, struct tm_buffer *out)
{
  if (n > INT32_MAX / 2 || !tm_buffer_reserve(out, (n + 2) / 3 * 4 + 1))
    return false;
  unsigned char *end = (unsigned char *)out->data + out->len;
  out->len += (size_t)EVP_EncodeBlock(end, bytes, (int)n);
  return true;
}

bool tm_unbase64(const char *text, size_t n, struct tm_buffer *out)
{
  if (n == 0)
    return true;
  size_t pad = 0;
  while (pad < 2 && text[n - 1 - pad] == '=' && pad + 1 < n)
    pad++;
  /* EVP_DecodeBlock skips blanks at either end and stops at others: refuse those first */
  for (size_t i = 0; i < n - pad; i++)
    if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
               text[i]) == NULL ||
        text[i] == '\0')
      return false;
  if (n % 4 != 0 || n > INT32_MAX || !tm_buffer_reserve(out, n / 4 * 3 + 1))
    return false;
  unsigned char *end = (unsigned char *)out->data + out->len;
  int got = EVP_DecodeBlock(end, (const unsigned char *)text, (int)n);
  if (got < (int)pad)
    return false;
  out->len += (size_t)got - pad;
  return true;
}

bool tm_same_secret(const void *a, const void *b, size_t n)
{
  return CRYPTO_memcmp(a, b, n) == 0;
}

void tm_wipe(void *bytes, size_t n)
{
  OPENSSL_cleanse(bytes, n);
}
