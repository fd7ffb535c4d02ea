/*
** httpd.h: a small HTTP server for texts that the program keeps (libmicrohttpd)
**
** It answers GET and HEAD of the paths that were set, 404 for others, 405 for other methods,
** in one thread of its own. Connections, their memory and their idle time are bounded. Every
** function may be called from any thread.
*/
#ifndef TM_DRIVER_HTTPD_H
#define TM_DRIVER_HTTPD_H

#include <stdint.h>

#include "base/error.h"

struct tm_httpd;

/* Listens on a literal IPv4 or IPv6 address; port 0 takes a free one. NULL: TM_EUSAGE (not an
** address), TM_ECONNECT (cannot listen there), TM_EMEMORY. */
struct tm_httpd *tm_httpd_open(const char *address, unsigned port, struct tm_error *err)
    TM_MUSTCHECK;

/* Cuts off what is being sent. NULL is fine. */
void tm_httpd_close(struct tm_httpd *httpd);

unsigned tm_httpd_port(const struct tm_httpd *httpd);

struct tm_httpd_page {
  unsigned status;          /* 200 to 599 */
  const char *content_type; /* no control characters */
  const char *body;
  size_t body_len;
  int64_t
      fresh_ms; /* so long after it was set; then it is answered with 503; 0: for ever */
};

/* Sets what a path ("/metrics"; compared as it is written in the request, without the query)
** answers with; copies all. False: TM_EMEMORY, TM_EUSAGE. */
bool tm_httpd_set(struct tm_httpd *httpd, const char *path,
                  const struct tm_httpd_page *page, struct tm_error *err) TM_MUSTCHECK;

/* How many requests a path has answered; 0 for one that was never set. */
int64_t tm_httpd_hits(struct tm_httpd *httpd, const char *path);

#endif
