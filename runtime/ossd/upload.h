/*
** upload.h: multipart uploads
**
** An upload is a directory: `meta`, a record of key and headers without bytes, and a file
** for each part, with its own record. Complete makes an object file that lists the parts and
** removes `meta`: the bytes stay where they are. A part is thus written once, and whatever
** the moment of a crash, either the upload is still open or the object is there.
*/
#ifndef TM_OSSD_UPLOAD_H
#define TM_OSSD_UPLOAD_H

#include "ossd/store.h"

/* Begins an upload of r->key with r->headers; fills `id`. */
enum tm_ossd_result tm_ossd_upload_begin(struct tm_ossd_store *s, const char *bucket,
                                         const struct tm_ossd_record *r,
                                         char id[TM_OSSD_ID], struct tm_error *err);

/* Reads the meta record of an open upload; NO_UPLOAD when it is not open or of another key
** (`key` NULL: any). Zero *r before; free it. */
enum tm_ossd_result tm_ossd_upload_find(struct tm_ossd_store *s, const char *bucket,
                                        const char *id, const char *key,
                                        struct tm_ossd_record *r, struct tm_error *err);

/* Moves a sealed file into place as a part, in place of one of the same number. */
enum tm_ossd_result tm_ossd_part_commit(struct tm_ossd_store *s, const char *bucket,
                                        const char *id, unsigned part,
                                        struct tm_ossd_temp *temp, struct tm_error *err);

struct tm_ossd_part {
  unsigned number;
  char etag[TM_OSSD_ETAG];
  uint64_t size, crc;
  bool has_crc;
  int64_t mtime;
};

/* The parts of an open upload in order of number; *parts is the caller's to free. */
enum tm_ossd_result tm_ossd_parts(struct tm_ossd_store *s, const char *bucket,
                                  const char *id, const char *key,
                                  struct tm_ossd_part **parts, size_t *count,
                                  struct tm_error *err);

/*
** Makes the object out of the parts that `wanted` names (number and etag, ascending); NULL
** takes all. `least` is the smallest size of a part that is not the last. Fills *r with the
** object's record (zero it before, free it): etag, size, and the CRC if every part has one.
** Also NO_UPLOAD, BAD_PART, PART_ORDER, PART_SIZE, and what tm_ossd_commit answers.
*/
enum tm_ossd_result tm_ossd_upload_complete(struct tm_ossd_store *s, const char *bucket,
                                            const char *id, const char *key,
                                            const struct tm_ossd_part *wanted,
                                            size_t count, uint64_t least,
                                            const struct tm_ossd_condition *condition,
                                            struct tm_ossd_record *r,
                                            struct tm_error *err);

enum tm_ossd_result tm_ossd_upload_abort(struct tm_ossd_store *s, const char *bucket,
                                         const char *id, const char *key,
                                         struct tm_error *err);

struct tm_ossd_upload {
  char id[TM_OSSD_ID];
  char *key;
  int64_t begun;
};

/* Every open upload, sorted by key, then id; free with tm_ossd_uploads_free. */
enum tm_ossd_result tm_ossd_uploads(struct tm_ossd_store *s, const char *bucket,
                                    struct tm_ossd_upload **uploads, size_t *count,
                                    struct tm_error *err);
void tm_ossd_uploads_free(struct tm_ossd_upload *uploads, size_t count);

#endif
