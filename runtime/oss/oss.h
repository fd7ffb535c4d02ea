/*
** oss.h: object stores: oss:// (Alibaba Cloud), s3:// (Amazon and compatible), file://
**
** One interface over all three. A store may be used from many threads. Keys are raw bytes
** (UTF-8 by custom), relative to the prefix of the store's URL; nothing is normalised.
** Every operation retries what may succeed on repetition (network, 5xx, throttling, expired
** token, clock skew, wrong region), signs each attempt anew, and fails at once with what
** cannot. Errors name the bucket and key, and carry the store's code, HTTP status and
** request id. `cancel` (may be NULL) and tm_interrupt() end any wait.
*/
#ifndef TM_OSS_OSS_H
#define TM_OSS_OSS_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/cancel.h"

struct tm_oss;

enum tm_oss_scheme { TM_OSS_OSS, TM_OSS_S3, TM_OSS_FILE };

struct tm_oss_opts { /* NULL and zero mean the default */
  const char *url;   /* "oss://bucket[/prefix]", "s3://bucket[/prefix]", "file:///dir" */
  const char *endpoint;   /* "host[:port]" (https) or "http(s)://host[:port]" */
  const char *region;     /* default: from the endpoint; s3 without both: us-east-1 */
  const char *addressing; /* "auto", "virtual", "path", "cname" */
  const char *signature;  /* "v4", "v1" (OSS only) */
  bool anonymous;         /* do not sign */
  const char *access_key_id, *access_key_secret, *security_token;
  const char *profile, *role_name; /* see cred.h */
  const char *ca_file, *proxy;
  int connect_timeout_ms;  /* 10,000 */
  int stall_timeout_ms;    /* 30,000: no byte for so long is a failure */
  int low_speed_limit;     /* 1 byte/s: slower than that for ... */
  int low_speed_time_s;    /* ... so long is a failure; default: the stall timeout */
  int dns_cache_timeout_s; /* 60: how long an address is remembered */
  int cleanup_timeout_ms; /* 10,000: removing what failed work left takes so long at most */
  int attempts;           /* 5: tries of one request; at least 1 */
  int retry_time_ms;      /* 180,000: no new try after so long, but two are always made */
};

/* Copies the options; talks to nobody. NULL with *err: TM_EUSAGE, TM_EMEMORY. */
struct tm_oss *tm_oss_open(const struct tm_oss_opts *opts, struct tm_error *err);

/* No operation, reader or writer may use it any more. NULL is fine. */
void tm_oss_close(struct tm_oss *store);

enum tm_oss_scheme tm_oss_scheme(const struct tm_oss *store);

/* "oss://bucket/prefix/": for people; never a secret. Lives as long as the store. */
const char *tm_oss_url(const struct tm_oss *store);

/* ---- the bucket ---- */

/* Makes the bucket; one that is the caller's already is fine where the store tells. A
** file:// store has its directory. */
bool tm_oss_bucket_create(struct tm_oss *store, const struct tm_cancel *cancel,
                          struct tm_error *err) TM_MUSTCHECK;

/* Deletes the bucket, which must be empty (code BucketNotEmpty). */
bool tm_oss_bucket_delete(struct tm_oss *store, const struct tm_cancel *cancel,
                          struct tm_error *err) TM_MUSTCHECK;

/* ---- objects ---- */

struct tm_oss_meta { /* one entry of user metadata; names without the vendor's prefix */
  char *name, *value;
};

/* What a store says of an object. Owned strings: free with tm_oss_info_free. */
struct tm_oss_info {
  int64_t size;
  int64_t modified_ms; /* since 1970, or -1 */
  char etag[128];      /* without quotes; "" unknown */
  bool has_crc64;
  uint64_t crc64;         /* CRC-64/XZ of the whole object (OSS, and own uploads) */
  char content_type[128]; /* "" unknown */
  char storage_class[32]; /* "" unknown */
  char version_id[128];   /* "" none */
  struct tm_oss_meta *meta;
  size_t meta_count;
};
void tm_oss_info_free(struct tm_oss_info *info); /* its strings; twice is fine */

struct tm_oss_put_opts {
  const char *content_type; /* default application/octet-stream */
  const struct tm_oss_meta *meta;
  size_t meta_count;
  bool create_only; /* TM_EEXISTS when the key is there; a retried try of ours that had
                    ** succeeded is recognised and is not an error */
};

/* Uploads `n` bytes as one object. `opts` and `info` may be NULL; info gets size, etag and
** crc64 (computed here, and compared with the store's where it reports one). */
bool tm_oss_put(struct tm_oss *store, const char *key, const void *bytes, size_t n,
                const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

struct tm_oss_get_opts {
  int64_t offset;       /* first byte */
  int64_t length;       /* bytes wanted; 0: to the end. Past the end it is clipped */
  bool range;           /* offset and length count; else the whole object */
  const char *if_match; /* etag without quotes: TM_ECONFLICT when it is another one now */
};

/* Appends the bytes to `out`, at most `limit` of them (0: 1 GiB), else TM_EUSAGE. A body
** that breaks is resumed where it broke. Whole objects of OSS are checked by CRC64
** (TM_EINTEGRITY). A range beyond the end: TM_EUSAGE, code "InvalidRange". `info` may be
** NULL; its size is that of the whole object. */
bool tm_oss_get(struct tm_oss *store, const char *key, const struct tm_oss_get_opts *opts,
                size_t limit, struct tm_buffer *out, struct tm_oss_info *info,
                const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/*
** The same, piece by piece in order: `take` gets each run of bytes as it arrives, must not
** block, and stops everything by returning false with *err set. Bytes already taken are
** never given twice. The CRC64 of whole objects is compared after the last piece.
*/
typedef bool tm_oss_take(void *data, const char *bytes, size_t n, struct tm_error *err);
bool tm_oss_stream(struct tm_oss *store, const char *key,
                   const struct tm_oss_get_opts *opts, tm_oss_take *take, void *data,
                   struct tm_oss_info *info, const struct tm_cancel *cancel,
                   struct tm_error *err) TM_MUSTCHECK;

/* TM_ENOTFOUND when there is no such object (code "NoSuchBucket" when it is the bucket
** that is missing, where the store tells). */
bool tm_oss_head(struct tm_oss *store, const char *key, struct tm_oss_info *info,
                 const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/* Deleting what is not there succeeds. */
bool tm_oss_delete(struct tm_oss *store, const char *key, const struct tm_cancel *cancel,
                   struct tm_error *err) TM_MUSTCHECK;

struct tm_oss_failure { /* a key that could not be deleted */
  char *key;
  char code[48], message[160];
};
struct tm_oss_failures {
  struct tm_oss_failure *items;
  size_t count, cap;
};
void tm_oss_failures_free(struct tm_oss_failures *f);

/* Deletes any number of keys, 1000 a request. True: each request was answered; keys that
** the store refused are in *failed. */
bool tm_oss_delete_many(struct tm_oss *store, const char *const *keys, size_t count,
                        struct tm_oss_failures *failed, const struct tm_cancel *cancel,
                        struct tm_error *err) TM_MUSTCHECK;

/* Server-side copy within the bucket, at most 5 GB (1 GB on OSS is the vendor's advice);
** metadata goes along. `opts` may be NULL; only create_only counts. */
bool tm_oss_copy(struct tm_oss *store, const char *from, const char *to,
                 const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                 const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/* ---- listing ---- */

struct tm_oss_entry {
  char *key;      /* relative to the store's prefix */
  bool is_prefix; /* a common prefix: only the key counts */
  int64_t size, modified_ms;
  char etag[128], storage_class[32];
};

struct tm_oss_list_opts {
  const char *prefix;      /* or NULL */
  const char *delimiter;   /* or NULL: every key below */
  const char *start_after; /* keys after this one only; or NULL */
  int page_size;           /* 1..1000; 0: 1000 */
};

struct tm_oss_page { /* entries in ascending byte order of the key */
  struct tm_oss_entry *entries;
  size_t count, cap;
  char *next; /* token of the next page; NULL: this is the last one */
};
void tm_oss_page_free(struct tm_oss_page *page);

/* One page; `token` NULL for the first, then page->next of the one before. `page` (zeroed
** or used before) is emptied first. A page may be short, even empty, and not the last. */
bool tm_oss_list(struct tm_oss *store, const struct tm_oss_list_opts *opts,
                 const char *token, struct tm_oss_page *page,
                 const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/* ---- multipart uploads ---- */

struct tm_oss_part {
  int number; /* 1..10000 */
  char etag[128];
  int64_t size;
  bool has_crc64;
  uint64_t crc64;
};

/* *upload_id is the caller's to free. May succeed in spite of a cancel, up to
** cleanup_timeout_ms after it: so no upload is begun that nobody knows of. */
bool tm_oss_multipart_create(struct tm_oss *store, const char *key,
                             const struct tm_oss_put_opts *opts, char **upload_id,
                             const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;

/* Uploads (or replaces) one part and fills *part. Where part->has_crc64 is set already,
** part->crc64 is that of the bytes and is not computed again. */
bool tm_oss_multipart_part(struct tm_oss *store, const char *key, const char *upload_id,
                           int number, const void *bytes, size_t n,
                           struct tm_oss_part *part, const struct tm_cancel *cancel,
                           struct tm_error *err) TM_MUSTCHECK;

/* `parts` in ascending order. Where every part has its crc64 the combined value is compared
** with the store's and goes into *info. */
bool tm_oss_multipart_complete(struct tm_oss *store, const char *key,
                               const char *upload_id, const struct tm_oss_part *parts,
                               size_t count, bool create_only, struct tm_oss_info *info,
                               const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;

/* Drops the upload and its parts; one that is gone already is fine. With `cleanup` it is
** bounded by cleanup_timeout_ms and is not stopped by an interrupt. */
bool tm_oss_multipart_abort(struct tm_oss *store, const char *key, const char *upload_id,
                            bool cleanup, struct tm_error *err) TM_MUSTCHECK;

struct tm_oss_parts {
  struct tm_oss_part *items;
  size_t count, cap;
};
bool tm_oss_multipart_parts(struct tm_oss *store, const char *key, const char *upload_id,
                            struct tm_oss_parts *parts, const struct tm_cancel *cancel,
                            struct tm_error *err) TM_MUSTCHECK;
void tm_oss_parts_free(struct tm_oss_parts *parts);

struct tm_oss_upload {
  char *key, *upload_id;
  int64_t started_ms;
};
struct tm_oss_uploads {
  struct tm_oss_upload *items;
  size_t count, cap;
};
/* Every unfinished upload whose key begins with `prefix`. */
bool tm_oss_multipart_uploads(struct tm_oss *store, const char *prefix,
                              struct tm_oss_uploads *uploads,
                              const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;
void tm_oss_uploads_free(struct tm_oss_uploads *uploads);

/* ---- presigned URLs ---- */

/* A URL that lets its holder GET or PUT the key for `expires_s` seconds (1..604800); *url
** is appended to. `content_type` (PUT, may be NULL) is then what the uploader must send.
** file:// has none: TM_EUSAGE. */
bool tm_oss_presign(struct tm_oss *store, const char *method, const char *key,
                    int64_t expires_s, const char *content_type, struct tm_buffer *url,
                    const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

#endif
