/*
** encode.h: percent encoding and the dates of object storage
**
** One encoder serves every signer and every URL: A-Z a-z 0-9 - _ . ~ stay, all else is
** %XX in upper case, a space is %20; in a path '/' stays too.
*/
#ifndef TM_OSS_ENCODE_H
#define TM_OSS_ENCODE_H

#include <stdint.h>

#include "base/buffer.h"

/* Appends n bytes encoded. False: out of memory. */
bool tm_encode(struct tm_buffer *out, const char *bytes, size_t n) TM_MUSTCHECK;
bool tm_encode_path(struct tm_buffer *out, const char *bytes, size_t n) TM_MUSTCHECK;

/* Appends n bytes with each %XX undone once; '+' stays. False with TM_EDATA (a '%' without
** two hex digits) or TM_EMEMORY; `out` may then hold a part. */
bool tm_decode(struct tm_buffer *out, const char *text, size_t n, struct tm_error *err)
    TM_MUSTCHECK;

/* Seconds since 1970 UTC as text with its NUL; years 0 to 9999, else clamped there. */
#define TM_DATE_SIZE 32
void tm_date_rfc1123(int64_t time,
                     char out[TM_DATE_SIZE]); /* Sun, 02 Jun 2024 08:09:10 GMT */
void tm_date_iso_basic(int64_t time, char out[TM_DATE_SIZE]); /* 20240602T080910Z */
void tm_date_iso(int64_t time, char out[TM_DATE_SIZE]); /* 2024-06-02T08:09:10.000Z */

/* The reverse, strict in form and range; false on anything else. */
bool tm_date_parse_rfc1123(const char *text, int64_t *time) TM_MUSTCHECK;
bool tm_date_parse_iso_basic(const char *text, int64_t *time) TM_MUSTCHECK;

#endif
