/*
** httpd.c: a small HTTP server for texts that the program keeps (libmicrohttpd)
**
** Pages are a list under one lock, which is held to find and copy one, never while anything
** is sent. A page that its owner no longer refreshes is answered with 503, so a stuck process
** does not look well.
*/
#include "driver/httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

enum {
  CONNECTIONS = 64,
  POOL = 16 << 10, /* bytes a connection may use: bounds the head of a request */
  IDLE = 10,       /* seconds */
  PATH_BYTES = 1024
};

struct page {
  char *path, *content_type, *body;
  size_t body_len;
  unsigned status;
  int64_t fresh_until; /* tm_clock_mono_ms(); 0: for ever */
  int64_t hits;
  struct page *next;
};

struct tm_httpd {
  struct MHD_Daemon *daemon;
  unsigned port;
  pthread_mutex_t lock; /* guards pages */
  struct page *pages;
};

static struct page *find(struct tm_httpd *s, const char *path)
{
  struct page *p = s->pages;
  while (p != NULL && strcmp(p->path, path) != 0)
    p = p->next;
  return p;
}

/* ---- answering ---- */

static struct MHD_Response *response_of(const char *body, size_t len, const char *type)
{
  struct MHD_Response *r = MHD_create_response_from_buffer(len, (void *)(uintptr_t)body,
                                                           MHD_RESPMEM_MUST_COPY);
  if (r == NULL)
    return NULL;
  MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
  return r;
}

static struct MHD_Response *plain(const char *text)
{
  return response_of(text, strlen(text), "text/plain; charset=utf-8");
}

static struct MHD_Response *page_response(struct tm_httpd *s, const char *path,
                                          unsigned *status)
{
  struct MHD_Response *r;
  pthread_mutex_lock(&s->lock);
  struct page *p = find(s, path);
  if (p == NULL) {
    *status = MHD_HTTP_NOT_FOUND;
    r = plain("not found\n");
  } else if (p->hits++, p->fresh_until > 0 && tm_clock_mono_ms() > p->fresh_until) {
    *status = MHD_HTTP_SERVICE_UNAVAILABLE;
    r = plain("stale: the process does not get round to it\n");
  } else {
    *status = p->status;
    r = response_of(p->body, p->body_len, p->content_type);
  }
  pthread_mutex_unlock(&s->lock);
  return r;
}

/* A body is never read: such a request is answered at its head, and cut off. */
static bool has_body(struct MHD_Connection *connection)
{
  const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                   MHD_HTTP_HEADER_CONTENT_LENGTH);
  return (length != NULL && strcmp(length, "0") != 0) ||
         MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                     MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection,
                              const char *path, const char *method, const char *version,
                              const char *bytes, size_t *n, void **slot)
{
  struct MHD_Response *r;
  unsigned status;
  (void)version;
  (void)bytes;
  (void)n;
  if (*slot == NULL &&
      !has_body(connection)) { /* answered now, the connection would end */
    *slot = connection;
    return MHD_YES;
  }
  if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
    r = page_response(context, path, &status);
  } else {
    status = MHD_HTTP_METHOD_NOT_ALLOWED;
    r = plain("GET and HEAD only\n");
    if (r != NULL)
      MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  }
  if (r == NULL)
    return MHD_NO;
  enum MHD_Result result = MHD_queue_response(connection, status, r);
  MHD_destroy_response(r);
  return result;
}

static size_t leave_escaped(void *context, struct MHD_Connection *connection, char *text)
{
  (void)context;
  (void)connection;
  return strlen(text);
}

/* ---- start and stop ---- */

static struct MHD_Daemon *start(struct tm_httpd *s, const struct sockaddr *where,
                                unsigned flags)
{
  sigset_t all, before; /* signals are for the main thread */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  struct MHD_Daemon *d = MHD_start_daemon(
      MHD_USE_POLL_INTERNAL_THREAD | flags, 0, NULL, NULL, handle, s,
      MHD_OPTION_SOCK_ADDR, where, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,
      MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL, MHD_OPTION_CONNECTION_TIMEOUT,
      (unsigned)IDLE, MHD_OPTION_END);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return d;
}

struct tm_httpd *tm_httpd_open(const char *address, unsigned port, struct tm_error *err)
{
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
  if (port > 65535 || (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)) {
    tm_error_set(err, TM_EUSAGE, "cannot listen on '%s', port %u", address, port);
    tm_error_hint(err, "write an address in digits, such as 127.0.0.1, and a port");
    return NULL;
  }
  struct tm_httpd *s = calloc(1, sizeof *s);
  if (s == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  pthread_mutex_init(&s->lock, NULL);
  errno = 0;
  s->daemon = is_v4 ? start(s, (struct sockaddr *)&v4, 0)
                    : start(s, (struct sockaddr *)&v6, MHD_USE_IPv6);
  if (s->daemon == NULL) {
    tm_error_errno(err, TM_ECONNECT, errno, "cannot listen on %s, port %u", address,
                   port);
    tm_httpd_close(s);
    return NULL;
  }
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
  s->port = info == NULL ? port : info->port;
  return s;
}

static void page_free(struct page *p)
{
  if (p == NULL)
    return;
  free(p->path);
  free(p->content_type);
  free(p->body);
  free(p);
}

void tm_httpd_close(struct tm_httpd *s)
{
  if (s == NULL)
    return;
  if (s->daemon != NULL)
    MHD_stop_daemon(s->daemon);
  for (struct page *p = s->pages, *next; p != NULL; p = next) {
    next = p->next;
    page_free(p);
  }
  pthread_mutex_destroy(&s->lock);
  free(s);
}

unsigned tm_httpd_port(const struct tm_httpd *s)
{
  return s->port;
}

/* ---- pages ---- */

static bool is_sound(const char *path, const struct tm_httpd_page *page,
                     struct tm_error *err)
{
  if (path[0] != '/' || strlen(path) > PATH_BYTES || strpbrk(path, "?# \r\n") != NULL) {
    tm_error_set(err, TM_EUSAGE, "httpd: '%s' is no path", path);
    return false;
  }
  bool clean = page->content_type[0] != '\0';
  for (const char *p = page->content_type; *p != '\0'; p++)
    clean = clean && *p >= ' ' && *p < 0x7f;
  if (!clean || page->status < 200 || page->status > 599) {
    tm_error_set(err, TM_EUSAGE, "httpd: %s: status %u, content type '%s'", path,
                 page->status, clean ? page->content_type : "?");
    return false;
  }
  return true;
}

static struct page *page_new(const char *path, const struct tm_httpd_page *page)
{
  struct page *p = calloc(1, sizeof *p);
  if (p == NULL)
    return NULL;
  p->path = strdup(path);
  p->content_type = strdup(page->content_type);
  p->body = malloc(page->body_len + 1);
  if (p->path == NULL || p->content_type == NULL || p->body == NULL) {
    page_free(p);
    return NULL;
  }
  memcpy(p->body, page->body, page->body_len);
  p->body_len = page->body_len;
  p->status = page->status;
  p->fresh_until = page->fresh_ms > 0 ? tm_clock_mono_ms() + page->fresh_ms : 0;
  return p;
}

bool tm_httpd_set(struct tm_httpd *s, const char *path, const struct tm_httpd_page *page,
                  struct tm_error *err)
{
  if (!is_sound(path, page, err))
    return false;
  struct page *p = page_new(path, page);
  if (p == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  pthread_mutex_lock(&s->lock);
  struct page **at = &s->pages, *old = find(s, path);
  while (old != NULL && *at != old)
    at = &(*at)->next;
  p->hits = old != NULL ? old->hits : 0;
  p->next = old != NULL ? old->next : s->pages;
  *at = p;
  pthread_mutex_unlock(&s->lock);
  page_free(old);
  return true;
}

int64_t tm_httpd_hits(struct tm_httpd *s, const char *path)
{
  pthread_mutex_lock(&s->lock);
  struct page *p = find(s, path);
  int64_t hits = p != NULL ? p->hits : 0;
  pthread_mutex_unlock(&s->lock);
  return hits;
}
