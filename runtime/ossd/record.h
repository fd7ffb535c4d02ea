/*
** record.h: what ossd keeps about an object, and the names of its files
**
** An object is one file: its bytes, then its record as text, then a footer that tells where
** the record begins. Bytes and record thus appear together in one rename, and a file cut
** short is known by its missing footer. A completed multipart object has no bytes of its
** own: its record lists the parts of an upload, which stay where they were written.
*/
#ifndef TM_OSSD_RECORD_H
#define TM_OSSD_RECORD_H

#include <stdint.h>

#include "base/buffer.h"
#include "oss/sign.h"

enum {
  TM_OSSD_KEY = 1024,    /* longest key in bytes */
  TM_OSSD_ETAG = 48,     /* 32 hex digits, "-10000", NUL */
  TM_OSSD_ID = 33,       /* 32 hex digits and NUL: an upload */
  TM_OSSD_PATH = 256,    /* a file name below the root */
  TM_OSSD_PARTS = 10000, /* parts of one upload */
  TM_OSSD_HEADERS = 128, /* headers kept with an object */
};

struct tm_ossd_segment {
  unsigned part; /* its number */
  uint64_t size;
};

struct tm_ossd_record {
  char key[TM_OSSD_KEY + 1];
  char etag[TM_OSSD_ETAG]; /* lower case, no quotes */
  uint64_t size;
  uint64_t crc; /* of the whole object */
  bool has_crc;
  int64_t mtime;           /* seconds since 1970 UTC */
  struct tm_pair *headers; /* lower-case names; user metadata as "meta-NAME"; owned */
  size_t header_count;
  char upload[TM_OSSD_ID];          /* the upload that holds the parts, or "" */
  struct tm_ossd_segment *segments; /* owned; in order */
  size_t segment_count;
};

void tm_ossd_record_free(struct tm_ossd_record *r);

/* Keeps a copy of a header. False: out of memory, or more than TM_OSSD_HEADERS. */
bool tm_ossd_record_add(struct tm_ossd_record *r, const char *name, const char *value,
                        size_t value_len) TM_MUSTCHECK;

/* The header's value or NULL. */
const char *tm_ossd_record_header(const struct tm_ossd_record *r, const char *name);

/* Appends record and footer, as they follow the object's bytes. False: out of memory. */
bool tm_ossd_record_write(const struct tm_ossd_record *r, struct tm_buffer *out)
    TM_MUSTCHECK;

/* Reads record and footer from `n` bytes, the file's last ones. Zero *r before. False with
** TM_EDATA or TM_EMEMORY; free *r either way. */
bool tm_ossd_record_parse(const char *bytes, size_t n, struct tm_ossd_record *r,
                          struct tm_error *err) TM_MUSTCHECK;

/* Reads the record of an open file and checks it against the file's size. */
bool tm_ossd_record_read(int fd, struct tm_ossd_record *r, struct tm_error *err)
    TM_MUSTCHECK;

/* Where an object lies below the root: "BUCKET/objects/ab/REST", the SHA-256 of the key in
** hex, so that no key can name anything else. False: libcrypto refused. */
bool tm_ossd_object_path(const char *bucket, const char *key, char out[TM_OSSD_PATH])
    TM_MUSTCHECK;

/* "BUCKET/uploads/ID/NNNNN" */
void tm_ossd_part_path(const char *bucket, const char *upload, unsigned part,
                       char out[TM_OSSD_PATH]);

/* Bucket names: 3 to 63 of a-z 0-9 - and . (no "..", alphanumeric at both ends). */
bool tm_ossd_is_bucket_name(const char *name);

/* Exactly 32 lower-case hex digits? */
bool tm_ossd_is_upload_id(const char *text);

#endif
