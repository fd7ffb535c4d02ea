/*
** server.c: ossd's HTTP side, on libmicrohttpd
**
** libmicrohttpd calls `handle` once when the head is read, then for each piece of the body,
** then once more when the body is over. A refusal known from the head is sent at once only
** when the client waits for it (Expect) or would send very much: cutting off a client that
** is still sending loses the answer. Otherwise the body is read and thrown away first.
*/
#include "ossd/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "oss/encode.h"
#include "ossd/store_private.h"

enum {
  POOL = 512 << 10,  /* bytes a connection may use for its head and read buffer */
  BLOCK = 512 << 10, /* bytes read of an object at once, when sendfile cannot */
  IDLE = 60,         /* seconds */
  DRAIN = 64 << 20,  /* a refused body up to this size is read to its end */
  STACK = 1 << 20
};

#define LARGEST_PUT (UINT64_C(5) << 30) /* bytes; both vendors */

struct tm_ossd_server {
  struct MHD_Daemon *daemon;
  struct tm_ossd *ossd;
  unsigned port;
};

/* One request on its way, from the request line to its end. */
struct call {
  struct tm_ossd_exchange x;
  char *uri;
  bool begun, answered;
  int64_t started; /* ms */
};

struct header_list {
  struct tm_pair pairs[TM_OSSD_REQUEST_HEADERS + 1];
  size_t count;
};

static enum MHD_Result collect_header(void *context, enum MHD_ValueKind kind,
                                      const char *name, const char *value)
{
  struct header_list *list = context;
  (void)kind;
  if (list->count <= TM_OSSD_REQUEST_HEADERS)
    list->pairs[list->count++] = (struct tm_pair){name, value};
  return MHD_YES;
}

/* Called with the request target as it came, before anything else. */
static void *begin_call(void *context, const char *uri, struct MHD_Connection *connection)
{
  struct tm_ossd_server *s = context;
  struct call *call = calloc(1, sizeof *call);
  (void)connection;
  if (call == NULL)
    return NULL;
  call->uri = strdup(uri);
  call->x.server = s->ossd;
  call->x.temp.fd = -1;
  call->started = tm_clock_mono_ms();
  return call;
}

static void end_call(void *context, struct MHD_Connection *connection, void **slot,
                     enum MHD_RequestTerminationCode code)
{
  struct call *call = *slot;
  (void)context;
  (void)connection;
  *slot = NULL;
  if (call == NULL)
    return;
  struct tm_ossd_exchange *x = &call->x;
  if (x->server->verbose && x->request.method != NULL)
    tm_log(TM_INFO, "ossd: %s %s %s %d %s %s%lld ms", x->id, x->request.method,
           x->request.path == NULL ? "" : x->request.path, x->answer.status,
           x->refused             ? x->refusal.code
           : x->operation != NULL ? x->operation->name
                                  : "",
           code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : "cut off ",
           (long long)(tm_clock_mono_ms() - call->started));
  tm_ossd_body_free(x->body);
  tm_ossd_temp_drop(x->server->store, &x->temp);
  tm_ossd_reader_close(x->answer.reader);
  tm_buffer_free(&x->answer.headers);
  tm_buffer_free(&x->answer.body);
  tm_ossd_refusal_free(&x->refusal);
  tm_ossd_request_free(&x->request);
  free(call->uri);
  free(call);
}

/* Seconds since 1970 UTC on the server's clock, its skew fault included. */
static int64_t now_of(const struct tm_ossd *server)
{
  return tm_clock_wall_ms() / 1000 + server->faults->setting[TM_FAULT_SKEW];
}

/* -- the head -- */

static bool new_request_id(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  char id[TM_OSSD_ID];
  if (!tm_ossd_random_id(id, &err))
    return tm_ossd_refuse(&x->refusal, 500, "InternalError", "%s", err.message);
  for (size_t i = 0; i < 24; i++)
    x->id[i] = id[i] >= 'a' ? (char)(id[i] - 'a' + 'A') : id[i];
  return true;
}

static bool parse(struct call *call, struct MHD_Connection *connection,
                  const char *method)
{
  struct tm_ossd_exchange *x = &call->x;
  struct tm_error err;
  struct header_list *list = calloc(1, sizeof *list);
  if (list == NULL || call->uri == NULL) {
    free(list);
    return tm_ossd_refuse(&x->refusal, 500, "InternalError", "Out of memory.");
  }
  MHD_get_connection_values(connection, MHD_HEADER_KIND, collect_header, list);
  bool ok = tm_ossd_request_parse(method, call->uri, list->pairs, list->count,
                                  x->server->suffixes, &x->request, &err);
  free(list);
  return ok || tm_ossd_refuse(&x->refusal, 400, err.code, "%s", err.message);
}

/* Faults that answer in place of the operation. */
static bool pass_faults(struct tm_ossd_exchange *x)
{
  struct tm_ossd_faults *f = x->server->faults;
  if (tm_ossd_fault(f, TM_FAULT_503))
    return tm_ossd_refuse(&x->refusal, 503,
                          x->request.s3 ? "SlowDown" : "ServiceUnavailable",
                          "Please reduce your request rate.");
  if (x->request.auth.scheme != TM_SIGN_NONE && tm_ossd_fault(f, TM_FAULT_EXPIRED_TOKEN))
    return x->request.s3 ? tm_ossd_refuse(&x->refusal, 400, "ExpiredToken",
                                          "The provided token has expired.")
                         : tm_ossd_refuse(&x->refusal, 403, "SecurityTokenExpired",
                                          "The security token you provided has expired.");
  return true;
}

static bool begin_body(struct tm_ossd_exchange *x)
{
  struct tm_error err;
  enum tm_ossd_intake intake = x->operation->intake;
  const char *length = tm_ossd_header(&x->request, "content-length");
  if (intake == TM_OSSD_FILE && x->request.s3 && length == NULL &&
      tm_ossd_header(&x->request, "x-amz-decoded-content-length") == NULL)
    return tm_ossd_refuse(&x->refusal, 411, "MissingContentLength",
                          "You must provide the Content-Length HTTP header.");
  struct tm_ossd_body_options options = {.fd = -1,
                                         .discard = intake == TM_OSSD_DISCARD,
                                         .no_md5 = x->server->fast_etag,
                                         .most = TM_OSSD_MEMORY_BODY,
                                         .request = &x->request,
                                         .who = &x->who};
  if (intake == TM_OSSD_FILE)
    options.most = LARGEST_PUT;
  if (length != NULL && strtoull(length, NULL, 10) > options.most + (options.most >> 4))
    return tm_ossd_refuse(&x->refusal, 400, "EntityTooLarge",
                          "Your proposed upload exceeds the maximum allowed size.");
  if (intake == TM_OSSD_FILE) {
    if (!tm_ossd_bucket_find(x->server->store, x->request.bucket, NULL))
      return tm_ossd_refuse_result(x, TM_OSSD_NO_BUCKET, NULL);
    if (!tm_ossd_temp_open(x->server->store, x->request.bucket, &x->temp, &err))
      return tm_ossd_refuse_result(x, TM_OSSD_FAILED, &err);
    options.fd = x->temp.fd;
  }
  x->body = tm_ossd_body_new(&options, &x->refusal);
  return x->body != NULL;
}

static void begin_exchange(struct call *call, struct MHD_Connection *connection,
                           const char *method)
{
  struct tm_ossd_exchange *x = &call->x;
  bool ok = new_request_id(x) && parse(call, connection, method) && pass_faults(x) &&
            tm_ossd_verify(&x->request, &x->server->policy, now_of(x->server), &x->who,
                           &x->refusal);
  if (ok) {
    x->operation = tm_ossd_choose(x);
    ok = x->operation != NULL && begin_body(x);
  }
  x->refused = !ok;
}

/* -- the answer -- */

static ssize_t read_block(void *context, uint64_t position, char *bytes, size_t n)
{
  struct tm_ossd_exchange *x = context;
  struct tm_error err;
  struct tm_ossd_reader *reader = x->answer.reader;
  if (position >= x->answer.length)
    return MHD_CONTENT_READER_END_OF_STREAM;
  if (n > x->answer.length - position)
    n = (size_t)(x->answer.length - position);
  if (reader->slow) {
    n = n > 16384 ? 16384 : n;
    if (!tm_clock_sleep(50, NULL, &err))
      return MHD_CONTENT_READER_END_WITH_ERROR;
  }
  ssize_t got = tm_ossd_reader_read(reader, x->answer.first + position, bytes, n);
  return got > 0 ? got : MHD_CONTENT_READER_END_WITH_ERROR;
}

static struct MHD_Response *new_response(struct tm_ossd_exchange *x)
{
  struct tm_ossd_answer *a = &x->answer;
  if (a->reader == NULL)
    return MHD_create_response_from_buffer(a->body.len, a->body.data,
                                           MHD_RESPMEM_PERSISTENT);
  uint64_t offset;
  bool get = strcmp(x->request.method, "GET") == 0;
  int fd = get && a->length > 0
               ? tm_ossd_reader_file(a->reader, a->first, a->length, &offset)
               : -1;
  if (fd < 0)
    return MHD_create_response_from_callback(a->length, BLOCK, read_block, x, NULL);
  struct MHD_Response *r = MHD_create_response_from_fd_at_offset64(a->length, fd, offset);
  if (r == NULL)
    close(fd);
  return r;
}

static void add_headers(struct MHD_Response *response, const struct tm_ossd_exchange *x)
{
  char date[TM_DATE_SIZE], ms[24];
  int64_t now = now_of(x->server);
  tm_date_rfc1123(now, date);
  MHD_add_response_header(response, "Date", date);
  MHD_add_response_header(response, "Server", x->request.s3 ? "AmazonS3" : "AliyunOSS");
  MHD_add_response_header(response,
                          x->request.s3 ? "x-amz-request-id" : "x-oss-request-id", x->id);
  if (!x->request.s3) {
    snprintf(ms, sizeof ms, "%lld", (long long)(tm_clock_mono_ms() & 0xffff));
    MHD_add_response_header(response, "x-oss-server-time", ms);
  }
  const struct tm_buffer *h = &x->answer.headers;
  for (size_t i = 0; i < h->len;) {
    const char *name = h->data + i, *value = name + strlen(name) + 1;
    MHD_add_response_header(response, name, value);
    i = (size_t)(value - h->data) + strlen(value) + 1;
  }
}

static enum MHD_Result answer(struct call *call, struct MHD_Connection *connection)
{
  struct tm_ossd_exchange *x = &call->x;
  call->answered = true;
  if (x->refused)
    tm_ossd_answer_refusal(x);
  else if (x->answer.drop)
    return MHD_NO;
  struct MHD_Response *response = new_response(x);
  if (response == NULL)
    return MHD_NO;
  add_headers(response, x);
  enum MHD_Result result =
      MHD_queue_response(connection, (unsigned)x->answer.status, response);
  MHD_destroy_response(response);
  return result;
}

static bool answers_early(const struct tm_ossd_exchange *x)
{
  const char *expect = tm_ossd_header(&x->request, "expect");
  const char *length = tm_ossd_header(&x->request, "content-length");
  return (expect != NULL && strcasecmp(expect, "100-continue") == 0) ||
         (length != NULL && strtoull(length, NULL, 10) > DRAIN);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection,
                              const char *url, const char *method, const char *version,
                              const char *bytes, size_t *n, void **slot)
{
  struct call *call = *slot;
  (void)context;
  (void)url;
  (void)version;
  if (call == NULL)
    return MHD_NO;
  struct tm_ossd_exchange *x = &call->x;
  if (!call->begun) {
    call->begun = true;
    begin_exchange(call, connection, method);
    return x->refused && answers_early(x) ? answer(call, connection) : MHD_YES;
  }
  if (*n > 0) {
    bool is_file = x->operation != NULL && x->operation->intake == TM_OSSD_FILE;
    if (is_file && !x->refused && tm_ossd_fault(x->server->faults, TM_FAULT_CUT_PUT))
      return MHD_NO;
    if (!x->refused && !tm_ossd_body_feed(x->body, bytes, *n, &x->refusal))
      x->refused = true;
    *n = 0;
    return MHD_YES;
  }
  if (call->answered)
    return MHD_YES;
  if (!x->refused)
    x->refused =
        !tm_ossd_body_finish(x->body, &x->digest, &x->refusal) || !x->operation->run(x);
  return answer(call, connection);
}

/* -- start and stop -- */

/* A key may hold anything, and libmicrohttpd's own decoding is never looked at. */
static size_t leave_escaped(void *context, struct MHD_Connection *connection, char *text)
{
  (void)context;
  (void)connection;
  return strlen(text);
}

struct tm_ossd_server *tm_ossd_server_start(struct tm_ossd *ossd, const char *address,
                                            unsigned port, unsigned connections,
                                            struct tm_error *err)
{
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  struct tm_ossd_server *s = calloc(1, sizeof *s);
  if (s == NULL || inet_pton(AF_INET, address, &where.sin_addr) != 1) {
    tm_error_set(err, TM_EUSAGE, "not an IPv4 address: '%s'", address);
    free(s);
    return NULL;
  }
  s->ossd = ossd;
  s->daemon = MHD_start_daemon(
      MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL_INTERNAL_THREAD |
          MHD_USE_SUPPRESS_DATE_NO_CLOCK,
      (uint16_t)port, NULL, NULL, handle, NULL, MHD_OPTION_SOCK_ADDR,
      (struct sockaddr *)&where, MHD_OPTION_URI_LOG_CALLBACK, begin_call, s,
      MHD_OPTION_NOTIFY_COMPLETED, end_call, NULL, MHD_OPTION_UNESCAPE_CALLBACK,
      leave_escaped, NULL, MHD_OPTION_CONNECTION_LIMIT, connections,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL,
      MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)POOL / 2,
      MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE, MHD_OPTION_THREAD_STACK_SIZE,
      (size_t)STACK, MHD_OPTION_END); /* no REUSE: it would share the port with another */
  if (s->daemon == NULL) {
    tm_error_errno(err, TM_ECONNECT, errno, "cannot listen on %s:%u", address, port);
    free(s);
    return NULL;
  }
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
  s->port = info == NULL ? port : info->port;
  return s;
}

unsigned tm_ossd_server_port(const struct tm_ossd_server *s)
{
  return s->port;
}

void tm_ossd_server_stop(struct tm_ossd_server *s)
{
  if (s == NULL)
    return;
  MHD_stop_daemon(s->daemon);
  free(s);
}
