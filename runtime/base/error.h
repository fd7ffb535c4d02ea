/*
** error.h: what went wrong, as a plain value
**
** A function that can fail takes a struct tm_error of its caller's and returns
** false, NULL or -1 after filling it. Reporting never allocates. A layer that
** returns an error does not also log it. No secret ever goes into one.
*/
#ifndef TM_BASE_ERROR_H
#define TM_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define TM_MUSTCHECK __attribute__((warn_unused_result))
#define TM_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* What a flow may branch on. The table in error.c gives each its name, whether
** a repeat may help, and the exit code of the process. */
enum tm_kind {
  TM_OK = 0,
  TM_EMEMORY,    /* out of memory */
  TM_EUSAGE,     /* the caller's options or flow are wrong */
  TM_ECONNECT,   /* no connection: host, port, TLS, DNS */
  TM_EAUTH,      /* refused: wrong password, key or permission */
  TM_ENOTFOUND,  /* no such object, bucket, table, file */
  TM_EEXISTS,    /* a create-only write met an existing object */
  TM_ECONFLICT,  /* a precondition failed: somebody else changed it */
  TM_EIO,        /* a connection or disk broke in the middle */
  TM_ETHROTTLED, /* the far side asks us to slow down */
  TM_ESERVER,    /* the far side failed: 5xx, admin shutdown */
  TM_EPROTOCOL,  /* a reply that makes no sense */
  TM_EDATA,      /* a record that cannot be read or does not fit */
  TM_EINTEGRITY, /* size, CRC or etag differ from what was promised */
  TM_ESQL,       /* any other error of a database; see the SQLSTATE */
  TM_ETIMEOUT,   /* a deadline passed */
  TM_ECANCELED,  /* cancelled by the user or by another part of the stream */
  TM_EINDOUBT,   /* the connection broke while a COMMIT was on its way */
  TM_ESYSTEM,    /* the operating system refused: errno is in the message */
};

struct tm_error {
  enum tm_kind kind;
  int status;          /* HTTP status, or 0 */
  char code[48];       /* SQLSTATE or the store's error code, or "" */
  char request_id[64]; /* the store's request id, or "" */
  char message[768];   /* one line, no newline, lower case, no full stop */
  char detail[2048];   /* further lines: DETAIL, CONTEXT, SQL ...; or "" */
  char hint[512];      /* what to do about it, or "" */
};

/* Sets kind and message (printf) and clears every other field. */
void tm_error_set(struct tm_error *err, enum tm_kind kind, const char *format, ...)
    TM_PRINTF(3, 4);

/* As tm_error_set, with ": strerror(errnum)" added. */
void tm_error_errno(struct tm_error *err, enum tm_kind kind, int errnum,
                    const char *format, ...) TM_PRINTF(4, 5);

/* Replaces the hint. */
void tm_error_hint(struct tm_error *err, const char *format, ...) TM_PRINTF(2, 3);

/* Adds one line to the detail; what does not fit is cut. */
void tm_error_detail(struct tm_error *err, const char *format, ...) TM_PRINTF(2, 3);

/* Puts "prefix: " before the message: the place, known only further out. */
void tm_error_prefix(struct tm_error *err, const char *format, ...) TM_PRINTF(2, 3);

/* The short word of a kind ("connect", "not_found", ...), never NULL. */
const char *tm_kind_name(enum tm_kind kind);

/* Whether doing the same again, later, may succeed. */
bool tm_kind_retryable(enum tm_kind kind);

/* Exit code of a process that ends because of such an error. */
int tm_kind_exit_code(enum tm_kind kind);

/* The kind with this name, or TM_OK. */
enum tm_kind tm_kind_by_name(const char *name);

#endif
