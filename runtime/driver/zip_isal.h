/*
** zip_isal.h: ISA-L's gzip, kept apart because it exists on x86-64 and 64-bit ARM only
**
** Elsewhere tm_isal_fast is false and the makers return NULL. Used by zip.c and unzip.c alone.
*/
#ifndef TM_DRIVER_ZIP_ISAL_H
#define TM_DRIVER_ZIP_ISAL_H

#include "base/error.h"

/* Input and output of one call; pointers move on and lengths count down. */
struct tm_isal_io {
  const char *in;
  size_t in_len;
  char *out;
  size_t out_len;
  bool finished; /* the member is complete */
};

bool tm_isal_fast(void);

struct tm_isal_deflate;
struct tm_isal_deflate *tm_isal_deflate_new(int level); /* 1 to 3; NULL: no memory */
void tm_isal_deflate_free(struct tm_isal_deflate *d);   /* NULL is fine */
void tm_isal_deflate_begin(struct tm_isal_deflate *d);  /* a new member */
bool tm_isal_deflate_run(struct tm_isal_deflate *d, struct tm_isal_io *io, bool last,
                         struct tm_error *err) TM_MUSTCHECK;

struct tm_isal_inflate;
struct tm_isal_inflate *tm_isal_inflate_new(void);
void tm_isal_inflate_free(struct tm_isal_inflate *i);
void tm_isal_inflate_begin(struct tm_isal_inflate *i);
/* False: corrupt; *what says how. */
bool tm_isal_inflate_run(struct tm_isal_inflate *i, struct tm_isal_io *io,
                         const char **what) TM_MUSTCHECK;

#endif
