/*
** zip_stage.h: compression and decompression as stages of a stream
*/
#ifndef TM_STREAM_ZIP_STAGE_H
#define TM_STREAM_ZIP_STAGE_H

#include "driver/zip.h"
#include "stream/stream.h"

struct tm_zip_stage_opts {
  struct tm_zip_opts zip;
  int workers; /* compressing: threads; 0: 2, or the number of cores if that is 1 */
  size_t chunk_bytes; /* compressing: input bytes of one member; 0: 1 MiB */
};

/*
** Compresses whole slabs, gathered to chunks, in threads of its own, in order. Each slab it
** emits is one complete member with rows and raw_bytes of what went in, so a sink may start
** a new object between any two. Input without a byte gives one empty member. Memory:
** (2 * workers + 1) chunks in and out. NULL with *err: no such level, no memory.
*/
struct tm_stage *tm_zip_stage_new(const struct tm_zip_stage_opts *opts,
                                  struct tm_error *err);

/*
** Decompresses. Emits slabs of up to TM_SLAB_BYTES that begin and end anywhere (rows is 0),
** so memory does not depend on what the input expands to.
*/
struct tm_stage *tm_unzip_stage_new(const struct tm_zip_opts *opts, struct tm_error *err);

#endif
