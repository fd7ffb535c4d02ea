/*
** digest.h: MD5, SHA-1, SHA-256, HMAC, hex and base64 (libcrypto)
**
** Nothing here keeps a secret longer than the call; tm_wipe clears what a caller kept.
*/
#ifndef TM_DRIVER_DIGEST_H
#define TM_DRIVER_DIGEST_H

#include <stdint.h>

#include "base/buffer.h"

enum tm_digest_kind { TM_MD5, TM_SHA1, TM_SHA256 };

#define TM_DIGEST_MAX 32 /* bytes of the longest digest */

/* To be called before anything else uses libcrypto: it then does not tidy up as the
** process ends, when a thread that nobody waits for (a lease, a cancel) may be in it. */
void tm_digest_stay(void);

/* Bytes of a digest of this kind: 16, 20 or 32. */
size_t tm_digest_size(enum tm_digest_kind kind);

/* The digest of `n` bytes into out[tm_digest_size(kind)]. False: libcrypto refused (out
** of memory, or MD5 forbidden by a FIPS policy). */
bool tm_digest(enum tm_digest_kind kind, const void *bytes, size_t n, unsigned char *out)
    TM_MUSTCHECK;

/* HMAC (RFC 2104) of `n` bytes with a key of `key_len` bytes (may be 0). */
bool tm_hmac(enum tm_digest_kind kind, const void *key, size_t key_len, const void *bytes,
             size_t n, unsigned char *out) TM_MUSTCHECK;

/* A digest fed piece by piece. */
struct tm_hasher;
struct tm_hasher *tm_hasher_new(enum tm_digest_kind kind); /* NULL: as tm_digest */
bool tm_hasher_add(struct tm_hasher *h, const void *bytes, size_t n) TM_MUSTCHECK;
/* Writes the digest and starts anew, so one hasher serves many messages. */
bool tm_hasher_finish(struct tm_hasher *h, unsigned char *out) TM_MUSTCHECK;
void tm_hasher_free(struct tm_hasher *h); /* NULL is fine */

/* 2n hex digits, lower case, and a NUL into out[2n + 1]. */
void tm_hex(const unsigned char *bytes, size_t n, char *out);

/* The reverse, either case: exactly 2n digits into out[n]; false on anything else. */
bool tm_unhex(const char *text, size_t text_len, unsigned char *out) TM_MUSTCHECK;

/* Appends base64 (RFC 4648, with padding, no line breaks). False: out of memory. */
bool tm_base64(const void *bytes, size_t n, struct tm_buffer *out) TM_MUSTCHECK;

/* Appends the decoded bytes; false when `text` is not padded base64, or no memory. */
bool tm_unbase64(const char *text, size_t n, struct tm_buffer *out) TM_MUSTCHECK;

/* Equality of two secrets of n bytes, in time that depends on n alone. */
bool tm_same_secret(const void *a, const void *b, size_t n);

/* Clears memory in a way the compiler keeps. */
void tm_wipe(void *bytes, size_t n);

#endif
