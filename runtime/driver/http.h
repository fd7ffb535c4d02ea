/*
** http.h: HTTP requests through libcurl
**
** A struct tm_http is a pool of kept-alive connections that any thread may use; each
** request in flight has one connection of its own. URLs go out as given (no re-encoding,
** no squashing of dots), nothing is followed, no proxy but the one named in the options is
** used, and certificates are always verified.
*/
#ifndef TM_DRIVER_HTTP_H
#define TM_DRIVER_HTTP_H

#include "base/buffer.h"
#include "base/cancel.h"
#include "base/clock.h"

struct tm_http;

struct tm_http_opts {      /* zero and NULL mean the default */
  const char *ca_file;     /* PEM file that replaces the system's authorities */
  const char *proxy;       /* proxy URL; default none, the environment is not read */
  int connect_timeout_ms;  /* default 10,000 */
  int stall_timeout_ms;    /* no byte either way for so long fails; default 30,000 */
  int low_speed_limit;     /* bytes/s: slower for low_speed_time_s fails; default 1 */
  int low_speed_time_s;    /* default: the stall timeout */
  int dns_cache_timeout_s; /* how long an address is remembered; default 60 */
};

/* Copies the options. NULL with *err: TM_EMEMORY, TM_ESYSTEM. */
struct tm_http *tm_http_open(const struct tm_http_opts *opts, struct tm_error *err);

/* No request may be in flight. NULL is fine. */
void tm_http_close(struct tm_http *http);

struct tm_http_pair {
  const char *name, *value; /* an empty value sends "Name:" with nothing after it */
};

struct tm_http_reply {
  int status;
  bool resent; /* a kept connection had died: the request may have gone out twice */
  struct tm_buffer
      headers;           /* "name: value" strings, each ended by NUL, names lower case */
  struct tm_buffer body; /* NUL-terminated beyond len; empty when it went to on_body */
};

struct tm_http_request {
  const char *method; /* upper case; HEAD expects no body */
  const char *url;    /* finished: scheme, host, encoded path and query */
  const struct tm_http_pair *headers;
  size_t header_count;
  const void *body; /* memory that outlives the call; sent with its length */
  size_t body_len;
  bool has_body;                  /* send a Content-Length even for 0 bytes */
  bool fresh;                     /* on a new connection, after a reset */
  int stall_timeout_ms;           /* 0: that of the pool */
  int64_t deadline_ms;            /* tm_clock_mono_ms() at which it fails; 0: none */
  const struct tm_cancel *cancel; /* or NULL */
  int grace_ms; /* once sent it may go on for so long after a cancel, and succeed: where the
                ** reply names what has to be undone */
  bool uninterruptible; /* neither cancel nor tm_interrupt() end it: for cleaning up, so
                        ** deadline_ms must be set */
  /*
  ** Takes the body of a 2xx reply piece by piece, after `reply` got status and headers;
  ** must not block. False with *err set ends the request with that error. NULL: the body
  ** is gathered in reply->body, at most body_limit bytes (0: 16 MiB), as the body of any
  ** other reply is (of which at most 1 MiB is kept).
  */
  bool (*on_body)(void *data, const struct tm_http_reply *reply, const char *bytes,
                  size_t n, struct tm_error *err);
  void *data;
  size_t body_limit;
};

/*
** Sends and waits. True when a whole reply came, whatever its status; `reply` (zeroed by
** the caller, or used before) is filled and stays the caller's to free, also on failure,
** when it holds what had come. Errors: TM_ECONNECT (code "tls" when the certificate was
** refused), TM_EIO (broken in the middle), TM_ETIMEOUT, TM_EPROTOCOL (body too long),
** TM_ECANCELED, TM_EMEMORY, TM_EUSAGE (bad URL), or what on_body set.
*/
bool tm_http_send(struct tm_http *http, const struct tm_http_request *request,
                  struct tm_http_reply *reply, struct tm_error *err) TM_MUSTCHECK;

/* The value of the first header of this lower-case name, or NULL; valid as long as the
** reply. */
const char *tm_http_header(const struct tm_http_reply *reply, const char *name);

/* Steps through all headers: `at` starts at 0. NULL at the end, else "name: value". */
const char *tm_http_next_header(const struct tm_http_reply *reply, size_t *at);

/* Milliseconds since 1970 of an RFC 1123 date ("Sun, 02 Jun 2024 08:09:10 GMT"), or -1. */
int64_t tm_http_date_ms(const char *text);

void tm_http_reply_free(struct tm_http_reply *reply);

#endif
