/*
** zip.h: gzip and zstd over memory
**
** gzip is ISA-L's where that is fast (x86-64, 64-bit ARM) and zlib's elsewhere and for levels
** that ISA-L has not; both write and read RFC 1952. A compressor writes complete members
** (gzip) or frames (zstd), each readable alone and all of them one after the other. A
** decompressor reads any number of them and needs a constant amount of memory, whatever
** the input claims.
*/
#ifndef TM_DRIVER_ZIP_H
#define TM_DRIVER_ZIP_H

#include <stdint.h>

#include "base/buffer.h"

enum tm_zip_kind {
  TM_ZIP_AUTO, /* reading only: by the first bytes; neither gzip nor zstd: as it is */
  TM_ZIP_GZIP,
  TM_ZIP_ZSTD,
};

/* Which library does gzip; TM_GZIP_ANY chooses. */
enum tm_gzip_engine { TM_GZIP_ANY, TM_GZIP_ISAL, TM_GZIP_ZLIB };

/* Window of a zstd frame that we agree to read: 64 MiB. `zstd --long=27` needs more. */
enum { TM_ZSTD_WINDOW_LOG_MAX = 26 };

struct tm_zip_opts {
  enum tm_zip_kind kind;
  int level; /* 0: the default. gzip 1 (default) to 9: 1-5 ISA-L, 6-9 zlib; zstd 1 to 19, 2 */
  enum tm_gzip_engine engine;
  int window_log_max; /* reading zstd; 0: TM_ZSTD_WINDOW_LOG_MAX */
};

/* "gzip", "zstd", "auto" (also "gz", "zst") to a kind; false: no such codec. */
bool tm_zip_kind_parse(const char *name, enum tm_zip_kind *kind);

/* ---- compressing ---- */

struct tm_zipper;

/* NULL: TM_EUSAGE for a level that does not exist, or no memory. */
struct tm_zipper *tm_zipper_new(const struct tm_zip_opts *opts, struct tm_error *err);
void tm_zipper_free(struct tm_zipper *z); /* NULL is fine */

/* One member: begin, add any number of times, end; each appends to `out` what is ready.
** `size` is how many bytes will be added in all. After a failure begin again. */
bool tm_zipper_begin(struct tm_zipper *z, uint64_t size, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_zipper_add(struct tm_zipper *z, const void *bytes, size_t n,
                   struct tm_buffer *out, struct tm_error *err) TM_MUSTCHECK;
bool tm_zipper_end(struct tm_zipper *z, struct tm_buffer *out, struct tm_error *err)
    TM_MUSTCHECK;

/* ---- decompressing ---- */

struct tm_unzipper;

struct tm_unzipper *tm_unzipper_new(const struct tm_zip_opts *opts, struct tm_error *err);
void tm_unzipper_free(struct tm_unzipper *u); /* NULL is fine */

/*
** Reads from *in (moved on, *in_len counted down) and writes at most `cap` bytes to `out`.
** Returns how many it wrote (call again while it writes `cap`, or input is left), or -1
** with TM_EDATA, the offset in the compressed input in the message. After a gzip member,
** zero bytes are padding and ignored (as gzip -d does); anything else that is not another
** member is an error, where gzip -d only warns.
*/
ptrdiff_t tm_unzipper_run(struct tm_unzipper *u, const char **in, size_t *in_len,
                          char *out, size_t cap, struct tm_error *err) TM_MUSTCHECK;

/* No more input: false with TM_EDATA when it ended inside a member, or (unless the kind is
** TM_ZIP_AUTO) had none at all. Call run before with no input until it writes nothing. */
bool tm_unzipper_end(struct tm_unzipper *u, struct tm_error *err) TM_MUSTCHECK;

#endif
