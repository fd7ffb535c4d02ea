/*
** codec.h: bytes to rows and rows to bytes, for every format of base/format.h
**
** A decoder is fed bytes cut anywhere and gives one row at a time, in the memory of one
** record. It follows COPY FROM: the first record decides between LF and CRLF and a different
** one later is an error, \. alone on a line ends the data (PostgreSQL up to 17; data after it
** is an error here, as COPY would drop it without a word), a row has as many fields as there
** are columns. UTF-8 is checked, other encodings are converted to UTF-8; a byte order mark is
** skipped. Errors are TM_EDATA and name line, column, byte and the bytes themselves.
*/
#ifndef TM_STREAM_CODEC_H
#define TM_STREAM_CODEC_H

#include "base/buffer.h"
#include "base/format.h"
#include "base/row.h"

/* ---- reading ---- */

struct tm_decoder;

struct tm_decoder_opts {
  const char *const *columns; /* names, in order; copied. NULL: the header's, or none */
  size_t column_count;
  /* Called for a record that cannot be read, with its bytes (newline included) and the
  ** error; true skips it, false stops with *err as it then is. NULL: every one stops. */
  bool (*reject)(void *data, const char *raw, size_t len, struct tm_error *err);
  void *data;
};

/* NULL with *err: an encoding that iconv lacks, no memory. `opts` may be NULL. */
struct tm_decoder *tm_decoder_new(const struct tm_format *format,
                                  const struct tm_decoder_opts *opts,
                                  struct tm_error *err);
void tm_decoder_free(struct tm_decoder *d); /* NULL is fine */

/* Lends bytes to the decoder: they stay where they are until next has returned 0. */
bool tm_decoder_feed(struct tm_decoder *d, const char *bytes, size_t len,
                     struct tm_error *err) TM_MUSTCHECK;

/* No more bytes will come: what is left is the last record. */
bool tm_decoder_end(struct tm_decoder *d, struct tm_error *err) TM_MUSTCHECK;

/* 1: *row is the next row, valid until the next call. 0: feed more (or, after end, that
** was the last). -1: *err; the decoder is of no more use. */
int tm_decoder_next(struct tm_decoder *d, struct tm_row **row, struct tm_error *err)
    TM_MUSTCHECK;

/* The column names, known from the start or once the header was read; 0 columns: unknown. */
const char *const *tm_decoder_columns(const struct tm_decoder *d, size_t *count);

uint64_t tm_decoder_rejected(const struct tm_decoder *d); /* records skipped so far */

/* ---- writing ---- */

struct tm_encoder;

/* NULL with *err: an encoding that iconv lacks, no memory. */
struct tm_encoder *tm_encoder_new(const struct tm_format *format, struct tm_error *err);
void tm_encoder_free(struct tm_encoder *e); /* NULL is fine */

/* Appends a row to the encoder's output, or (names) the header. False: TM_EMEMORY, or
** TM_EDATA for a character that the encoding lacks. */
bool tm_encoder_row(struct tm_encoder *e, const struct tm_field *fields, size_t count,
                    struct tm_error *err) TM_MUSTCHECK;
bool tm_encoder_header(struct tm_encoder *e, const char *const *names, size_t count,
                       struct tm_error *err) TM_MUSTCHECK;

/* Appends bytes that already are a record of this format, in UTF-8. */
bool tm_encoder_raw(struct tm_encoder *e, const char *bytes, size_t len,
                    struct tm_error *err) TM_MUSTCHECK;

/* What was written and not yet taken; the caller takes it by emptying it. */
struct tm_buffer *tm_encoder_out(struct tm_encoder *e);

#endif
