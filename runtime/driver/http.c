/*
** http.c: HTTP requests through libcurl
**
** A connection is an easy handle with a multi handle of its own: the multi keeps the
** socket alive between requests, and its poll also watches the cancel tokens, so that a
** transfer ends at once. Idle connections wait in a list for the next request.
*/
#include "driver/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
  CONNECT_TIMEOUT_MS = 10000, /* as the vendors' clients have it */
  STALL_TIMEOUT_MS = 30000,
  DNS_CACHE_TIMEOUT_S = 60,
  BODY_LIMIT = 16 << 20,
  ERROR_BODY_LIMIT = 1 << 20,
  HEADERS_LIMIT = 256 * 1024,
  MAX_IDLE = 16,
  CURL_BUFFER = 256 * 1024,
};

struct conn {
  bool used; /* a connection may be kept from before */
  CURL *easy;
  CURLM *multi;
  struct conn *next;
};

struct tm_http {
  char *ca_file, *proxy;
  int connect_timeout_ms, stall_timeout_ms;
  int low_speed_limit, low_speed_time_s, dns_cache_timeout_s;
  pthread_mutex_t lock; /* guards idle and idle_count */
  struct conn *idle;
  int idle_count;
};

/* What the callbacks of one transfer share. */
struct transfer {
  const struct tm_http_request *request;
  struct tm_http_reply *reply;
  CURL *easy;
  struct tm_error *err;
  bool failed; /* a callback set *err */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
  curl_global_init(CURL_GLOBAL_DEFAULT);
}

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static bool copy(char **to, const char *from)
{
  return from == NULL || (*to = strdup(from)) != NULL;
}

struct tm_http *tm_http_open(const struct tm_http_opts *opts, struct tm_error *err)
{
  pthread_once(&once, start_curl);
  struct tm_http *h = calloc(1, sizeof *h);
  if (h == NULL || !copy(&h->ca_file, opts->ca_file) || !copy(&h->proxy, opts->proxy)) {
    if (h != NULL)
      free(h->ca_file);
    free(h);
    out_of_memory(err);
    return NULL;
  }
  h->connect_timeout_ms =
      opts->connect_timeout_ms > 0 ? opts->connect_timeout_ms : CONNECT_TIMEOUT_MS;
  h->stall_timeout_ms =
      opts->stall_timeout_ms > 0 ? opts->stall_timeout_ms : STALL_TIMEOUT_MS;
  h->low_speed_limit = opts->low_speed_limit > 0 ? opts->low_speed_limit : 1;
  h->low_speed_time_s = opts->low_speed_time_s > 0 ? opts->low_speed_time_s
                                                   : (h->stall_timeout_ms + 999) / 1000;
  h->dns_cache_timeout_s =
      opts->dns_cache_timeout_s > 0 ? opts->dns_cache_timeout_s : DNS_CACHE_TIMEOUT_S;
  pthread_mutex_init(&h->lock, NULL);
  return h;
}

static void conn_free(struct conn *c)
{
  if (c == NULL)
    return;
  if (c->easy != NULL)
    curl_easy_cleanup(c->easy);
  if (c->multi != NULL)
    curl_multi_cleanup(c->multi);
  free(c);
}

void tm_http_close(struct tm_http *http)
{
  if (http == NULL)
    return;
  for (struct conn *c = http->idle, *next; c != NULL; c = next) {
    next = c->next;
    conn_free(c);
  }
  pthread_mutex_destroy(&http->lock);
  free(http->ca_file);
  free(http->proxy);
  free(http);
}

static struct conn *conn_take(struct tm_http *http, bool fresh)
{
  struct conn *c = NULL;
  pthread_mutex_lock(&http->lock);
  if (!fresh && http->idle != NULL) {
    c = http->idle;
    http->idle = c->next;
    http->idle_count--;
  }
  pthread_mutex_unlock(&http->lock);
  if (c != NULL)
    return c;
  c = calloc(1, sizeof *c);
  if (c != NULL) {
    c->easy = curl_easy_init();
    c->multi = curl_multi_init();
    if (c->easy != NULL && c->multi != NULL)
      return c;
  }
  conn_free(c);
  return NULL;
}

static void conn_give(struct tm_http *http, struct conn *c)
{
  curl_easy_reset(c->easy);
  pthread_mutex_lock(&http->lock);
  bool keep = http->idle_count < MAX_IDLE;
  if (keep) {
    c->next = http->idle;
    http->idle = c;
    http->idle_count++;
  }
  pthread_mutex_unlock(&http->lock);
  if (!keep)
    conn_free(c);
}

/* ---- callbacks ---- */

static size_t fail_memory(struct transfer *t)
{
  out_of_memory(t->err);
  t->failed = true;
  return 0;
}

/* One header line a call; a status line begins a new reply (after 100 Continue). */
static size_t on_header(char *line, size_t size, size_t count, void *data)
{
  struct transfer *t = data;
  struct tm_buffer *out = &t->reply->headers;
  size_t n = size * count, len = n;
  while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
    len--;
  if (len >= 5 && strncmp(line, "HTTP/", 5) == 0) {
    out->len = 0;
    return n;
  }
  char *colon = memchr(line, ':', len);
  if (colon == NULL || memchr(line, '\0', len) != NULL)
    return n;
  if (out->len + len > HEADERS_LIMIT) {
    tm_error_set(t->err, TM_EPROTOCOL, "the reply has more than %d bytes of headers",
                 HEADERS_LIMIT);
    t->failed = true;
    return 0;
  }
  for (char *p = line; p < colon; p++)
    if (*p >= 'A' && *p <= 'Z')
      *p = (char)(*p + ('a' - 'A'));
  const char *value = colon + 1, *end = line + len;
  while (value < end && (*value == ' ' || *value == '\t'))
    value++;
  if (!tm_buffer_add(out, line, (size_t)(colon - line)) || !tm_buffer_adds(out, ": ") ||
      !tm_buffer_add(out, value, (size_t)(end - value)) || !tm_buffer_addc(out, '\0'))
    return fail_memory(t);
  return n;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *data)
{
  struct transfer *t = data;
  size_t n = size * count;
  long status = 0;
  curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
  t->reply->status = (int)status;
  bool good = status >= 200 && status < 300;
  if (good && t->request->on_body != NULL) {
    if (t->request->on_body(t->request->data, t->reply, bytes, n, t->err))
      return n;
    t->failed = true;
    return 0;
  }
  size_t limit = t->request->body_limit > 0 ? t->request->body_limit : BODY_LIMIT;
  if (!good) { /* only read to say what went wrong: the rest is dropped */
    size_t room = ERROR_BODY_LIMIT - t->reply->body.len;
    if (!tm_buffer_add(&t->reply->body, bytes, n < room ? n : room))
      return fail_memory(t);
    return n;
  }
  if (n > limit - t->reply->body.len) {
    tm_error_set(t->err, TM_EPROTOCOL, "the reply is longer than %zu bytes", limit);
    t->failed = true;
    return 0;
  }
  return tm_buffer_add(&t->reply->body, bytes, n) ? n : fail_memory(t);
}

/* ---- one transfer ---- */

static struct curl_slist *add_line(struct curl_slist *list, const char *line, bool *ok)
{
  struct curl_slist *longer = *ok ? curl_slist_append(list, line) : NULL;
  if (longer == NULL) {
    *ok = false;
    return list;
  }
  return longer;
}

/* libcurl's own Expect, Accept, Content-Type and User-Agent are kept out. */
static bool build_headers(const struct tm_http_request *r, struct curl_slist **list)
{
  static const char *const ours[] = {"Expect:", "Accept:"};
  bool ok = true, has_type = false;
  struct tm_buffer line = {0};
  for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
    *list = add_line(*list, ours[i], &ok);
  for (size_t i = 0; ok && i < r->header_count; i++) {
    const struct tm_http_pair *h = &r->headers[i];
    has_type = has_type || strcasecmp(h->name, "content-type") == 0;
    line.len = 0;
    ok = h->value[0] == '\0' ? tm_buffer_addf(&line, "%s;", h->name)
                             : tm_buffer_addf(&line, "%s: %s", h->name, h->value);
    const char *text = ok ? tm_buffer_cstr(&line) : NULL;
    ok = text != NULL;
    if (ok)
      *list = add_line(*list, text, &ok);
  }
  if (!has_type)
    *list = add_line(*list, "Content-Type:", &ok);
  if (line.data != NULL)
    explicit_bzero(line.data, line.cap); /* held tokens */
  tm_buffer_free(&line);
  return ok;
}

/* No value may smuggle in a header of its own. */
static bool headers_are_clean(const struct tm_http_request *r, struct tm_error *err)
{
  for (size_t i = 0; i < r->header_count; i++)
    if (strpbrk(r->headers[i].value, "\r\n") != NULL ||
        strpbrk(r->headers[i].name, "\r\n: \t") != NULL) {
      tm_error_set(err, TM_EUSAGE, "header '%s' holds a line break", r->headers[i].name);
      return false;
    }
  return true;
}

static void set_options(struct tm_http *http, struct transfer *t, struct curl_slist *list,
                        char *why)
{
  const struct tm_http_request *r = t->request;
  CURL *e = t->easy;
  bool patient = r->stall_timeout_ms > 0; /* the answer may be long in coming */
  curl_easy_setopt(e, CURLOPT_URL, r->url);
  curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500 /* 7.85 */
  curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  curl_easy_setopt(e, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(e, CURLOPT_PROXY, http->proxy != NULL ? http->proxy : "");
  curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
  if (http->ca_file != NULL) {
    curl_easy_setopt(e, CURLOPT_CAINFO, http->ca_file);
    curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
  }
  curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700 /* 7.87: a name being looked up is not waited for */
  curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
#endif
  curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)CURL_BUFFER);
  curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)CURL_BUFFER);
  curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)http->connect_timeout_ms);
  curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT,
                   patient ? 1L : (long)http->low_speed_limit);
  curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME,
                   patient ? (long)(r->stall_timeout_ms + 999) / 1000
                           : (long)http->low_speed_time_s);
  curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, (long)http->dns_cache_timeout_s);
  curl_easy_setopt(e, CURLOPT_ERRORBUFFER, why);
  curl_easy_setopt(e, CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
  curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
  if (r->fresh)
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
  if (r->has_body || r->body_len > 0) {
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, r->body != NULL ? r->body : "");
  }
  if (strcmp(r->method, "HEAD") == 0)
    curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
  else
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
}

static bool cancelled(const struct tm_http_request *r)
{
  return !r->uninterruptible &&
         (tm_cancel_fired(r->cancel) || tm_cancel_fired(tm_interrupt()));
}

/* Of a request that was just cancelled: until when it may go on. */
static int64_t grace(CURL *easy, const struct tm_http_request *r)
{
  curl_off_t connected_us = 0;
  curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
  return tm_clock_mono_ms() + (connected_us > 0 ? r->grace_ms : 0);
}

/* `last`: until when a request that is cancelled may go on, 0: it is not cancelled. */
static bool stopped(const struct tm_http_request *r, int64_t last, struct tm_error *err)
{
  if (last != 0 && tm_clock_mono_ms() >= last) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return true;
  }
  if (r->deadline_ms > 0 && tm_clock_mono_ms() >= r->deadline_ms) {
    tm_error_set(err, TM_ETIMEOUT, "the deadline passed");
    return true;
  }
  return false;
}

/* Runs the transfer to its end. False: *err set. *code is libcurl's verdict. */
static bool drive(CURLM *multi, CURL *easy, const struct tm_http_request *r,
                  CURLcode *code, struct tm_error *err)
{
  int64_t last = 0;
  struct curl_waitfd wake[2] = {
      {.fd = tm_cancel_fd(tm_interrupt()), .events = CURL_WAIT_POLLIN},
      {.fd = tm_cancel_fd(r->cancel), .events = CURL_WAIT_POLLIN},
  };
  struct curl_waitfd fds[2];
  unsigned n = 0;
  for (int i = 0; i < 2 && !r->uninterruptible; i++)
    if (wake[i].fd >= 0)
      fds[n++] = wake[i];
  for (;;) {
    int running = 0, left;
    if (curl_multi_perform(multi, &running) != CURLM_OK) {
      tm_error_set(err, TM_EMEMORY, "libcurl cannot go on");
      return false;
    }
    for (CURLMsg *m; (m = curl_multi_info_read(multi, &left)) != NULL;)
      if (m->msg == CURLMSG_DONE) {
        *code = m->data.result;
        return true;
      }
    if (last == 0 && cancelled(r)) {
      last = grace(easy, r);
      n = 0; /* what has fired need not be watched any more */
    }
    if (stopped(r, last, err))
      return false;
    int64_t wait = 1000;
    if (r->deadline_ms > 0 && r->deadline_ms - tm_clock_mono_ms() < wait)
      wait = r->deadline_ms - tm_clock_mono_ms();
    if (last > 0 && last - tm_clock_mono_ms() < wait)
      wait = last - tm_clock_mono_ms();
    curl_multi_poll(multi, fds, n, wait > 0 ? (int)wait : 0, NULL);
  }
}

/* In the words of OpenSSL, of later ones and of GnuTLS: the answer was not TLS. Or, in curl's, there
** was none: who takes a greeting for a bad request may hang up before its answer is read. */
static bool is_no_tls(const char *text)
{
  return strstr(text, "wrong version number") != NULL ||
         strstr(text, "SSL_connect: SSL_ERROR_SYSCALL") != NULL ||
         strstr(text, "SSL_connect: Connection reset") != NULL ||
         strstr(text, "packet length too long") != NULL ||
         strstr(text, "unexpected TLS packet") != NULL;
}

static void set_curl_error(CURLcode code, const char *why, struct tm_error *err)
{
  const char *text = why[0] != '\0' ? why : curl_easy_strerror(code);
  switch (code) {
  case CURLE_COULDNT_RESOLVE_HOST:
  case CURLE_COULDNT_RESOLVE_PROXY:
  case CURLE_COULDNT_CONNECT:
  case CURLE_SSL_CONNECT_ERROR:
    tm_error_set(err, TM_ECONNECT, "%s", text);
    if (is_no_tls(text))
      memcpy(err->code, "not-tls", 8);
    break;
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
    tm_error_set(err, TM_ECONNECT, "%s", text);
    memcpy(err->code, "tls", 4);
    break;
  case CURLE_OPERATION_TIMEDOUT:
    tm_error_set(err, TM_ETIMEOUT, "%s", text);
    break;
  case CURLE_URL_MALFORMAT:
  case CURLE_UNSUPPORTED_PROTOCOL:
    tm_error_set(err, TM_EUSAGE, "bad URL: %s", text);
    break;
  case CURLE_OUT_OF_MEMORY:
    out_of_memory(err);
    break;
  case CURLE_WEIRD_SERVER_REPLY:
    tm_error_set(err, TM_EPROTOCOL, "%s", text);
    break;
  default: /* sent, received, cut short: the connection broke */
    tm_error_set(err, TM_EIO, "%s", text);
    break;
  }
}

static bool run(struct conn *c, struct transfer *t, const char *why)
{
  CURLcode code = CURLE_OK;
  curl_multi_add_handle(c->multi, c->easy);
  bool ok = drive(c->multi, c->easy, t->request, &code, t->err);
  curl_multi_remove_handle(c->multi, c->easy);
  long status = 0;
  curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
  t->reply->status = (int)status;
  long connects = 0; /* libcurl repeats by itself when a kept connection gave no answer */
  curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
  t->reply->resent = c->used && connects > 0;
  c->used = true;
  if (!ok || t->failed)
    return false;
  if (code != CURLE_OK) {
    set_curl_error(code, why, t->err);
    return false;
  }
  return true;
}

bool tm_http_send(struct tm_http *http, const struct tm_http_request *request,
                  struct tm_http_reply *reply, struct tm_error *err)
{
  reply->status = 0;
  reply->resent = false;
  reply->headers.len = reply->body.len = 0;
  if (!headers_are_clean(request, err) ||
      stopped(request, cancelled(request) ? 1 : 0, err))
    return false;
  struct conn *c = conn_take(http, request->fresh);
  struct curl_slist *list = NULL;
  if (c == NULL || !build_headers(request, &list)) {
    curl_slist_free_all(list);
    conn_free(c);
    return out_of_memory(err);
  }
  char why[CURL_ERROR_SIZE] = "";
  struct transfer t = {.request = request, .reply = reply, .easy = c->easy, .err = err};
  set_options(http, &t, list, why);
  bool ok = run(c, &t, why);
  curl_slist_free_all(list);
  if (ok)
    conn_give(http, c);
  else
    conn_free(c); /* in an unknown state: never used again */
  if (tm_buffer_cstr(&reply->body) == NULL)
    return ok ? out_of_memory(err) : false;
  return ok;
}

const char *tm_http_next_header(const struct tm_http_reply *reply, size_t *at)
{
  if (*at >= reply->headers.len)
    return NULL;
  const char *line = reply->headers.data + *at;
  *at += strlen(line) + 1;
  return line;
}

const char *tm_http_header(const struct tm_http_reply *reply, const char *name)
{
  size_t n = strlen(name), at = 0;
  for (const char *line; (line = tm_http_next_header(reply, &at)) != NULL;)
    if (strncmp(line, name, n) == 0 && line[n] == ':')
      return line + n + 2;
  return NULL;
}

int64_t tm_http_date_ms(const char *text)
{
  time_t t = curl_getdate(text, NULL);
  return t < 0 || t > 253402300799 ? -1 : (int64_t)t * 1000; /* up to year 9999 */
}

void tm_http_reply_free(struct tm_http_reply *reply)
{
  tm_buffer_free(&reply->headers);
  tm_buffer_free(&reply->body);
}
