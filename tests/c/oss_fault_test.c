/*
** oss_fault_test.c: the object store client against a server that follows a script
**
** The server answers request i with step i of the script, byte for byte, and keeps what it
** was asked. A step may cut the connection before or in the middle of its reply, or never
** answer.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "oss/oss.h"
#include "oss/reader.h"
#include "oss/writer.h"

#define SECRET "s3cr3t-never-shown"
enum { MAX_STEPS = 16, MAX_CONNS = 16, REQUEST_BYTES = 256 * 1024 };

struct step {
  const char *reply; /* NULL: close at once; "": never answer */
  bool cut;          /* close after the reply, which is shorter than it announces */
};

struct conn {
  int fd;
  size_t len;
  char bytes[REQUEST_BYTES];
};

struct server {
  int listener, port, stop[2];
  const struct step *steps;
  int count;
  pthread_t thread;
  pthread_mutex_t lock; /* guards seen and requests */
  int seen;
  char *requests[MAX_STEPS];
  struct conn *conns[MAX_CONNS];
};

/* Bytes of the whole request at the start of the buffer, or 0 while it is incomplete. */
static size_t whole_request(struct conn *c)
{
  c->bytes[c->len] = '\0';
  const char *end = strstr(c->bytes, "\r\n\r\n");
  if (end == NULL)
    return 0;
  const char *length = strcasestr(c->bytes, "\r\ncontent-length:");
  size_t body = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
  size_t all = (size_t)(end - c->bytes) + 4 + body;
  return c->len >= all ? all : 0;
}

/* True: the connection stays. */
static bool answer(struct server *s, struct conn *c)
{
  pthread_mutex_lock(&s->lock);
  int i = s->seen++;
  if (i < MAX_STEPS)
    s->requests[i] = strdup(c->bytes);
  pthread_mutex_unlock(&s->lock);
  static const struct step none = {.reply = NULL};
  const struct step *step = i < s->count ? &s->steps[i] : &none;
  if (step->reply == NULL)
    return false;
  size_t n = strlen(step->reply);
  for (size_t sent = 0; sent < n;) {
    ssize_t w = send(c->fd, step->reply + sent, n - sent, MSG_NOSIGNAL);
    if (w <= 0)
      return false;
    sent += (size_t)w;
  }
  return !step->cut;
}

static void drop(struct server *s, int i)
{
  close(s->conns[i]->fd);
  free(s->conns[i]);
  s->conns[i] = NULL;
}

static void serve_conn(struct server *s, int i)
{
  struct conn *c = s->conns[i];
  ssize_t n = read(c->fd, c->bytes + c->len, sizeof c->bytes - 1 - c->len);
  if (n <= 0) {
    drop(s, i);
    return;
  }
  c->len += (size_t)n;
  size_t all = whole_request(c);
  if (all == 0)
    return;
  c->len = 0; /* nobody pipelines */
  if (!answer(s, c))
    drop(s, i);
}

static void *server_main(void *arg)
{
  struct server *s = arg;
  for (;;) {
    struct pollfd fds[2 + MAX_CONNS] = {{.fd = s->stop[0], .events = POLLIN},
                                        {.fd = s->listener, .events = POLLIN}};
    for (int i = 0; i < MAX_CONNS; i++)
      fds[2 + i] = (struct pollfd){.fd = s->conns[i] != NULL ? s->conns[i]->fd : -1,
                                   .events = POLLIN};
    if (poll(fds, 2 + MAX_CONNS, -1) < 0 || fds[0].revents != 0)
      return NULL;
    for (int i = 0; i < MAX_CONNS; i++)
      if (fds[2 + i].revents != 0)
        serve_conn(s, i);
    if (fds[1].revents == 0)
      continue;
    int fd = accept(s->listener, NULL, NULL);
    for (int i = 0; fd >= 0 && i < MAX_CONNS; i++)
      if (s->conns[i] == NULL) {
        s->conns[i] = calloc(1, sizeof *s->conns[i]);
        s->conns[i]->fd = fd;
        break;
      }
  }
}

static void server_start(struct server *s, const struct step *steps, int count)
{
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  memset(s, 0, sizeof *s);
  s->steps = steps;
  s->count = count;
  pthread_mutex_init(&s->lock, NULL);
  s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(s->listener, 8), 0);
  assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
  s->port = ntohs(a.sin_port);
  assert_int_equal(pipe(s->stop), 0);
  assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_stop(struct server *s)
{
  assert_int_equal(write(s->stop[1], "x", 1), 1);
  pthread_join(s->thread, NULL);
  for (int i = 0; i < MAX_CONNS; i++)
    if (s->conns[i] != NULL)
      drop(s, i);
  for (int i = 0; i < MAX_STEPS; i++)
    free(s->requests[i]);
  close(s->stop[0]);
  close(s->stop[1]);
  close(s->listener);
  pthread_mutex_destroy(&s->lock);
}

/* ---- a store at the server ---- */

struct world {
  struct server server;
  char endpoint[64];
  struct tm_oss *store;
  struct tm_error err;
};

static void open_world(struct world *w, const char *url, const struct step *steps,
                       int count, int attempts)
{
  memset(w, 0, sizeof *w);
  server_start(&w->server, steps, count);
  snprintf(w->endpoint, sizeof w->endpoint, "http://127.0.0.1:%d", w->server.port);
  struct tm_oss_opts o = {.url = url,
                          .endpoint = w->endpoint,
                          .region = "cn-test",
                          .access_key_id = "ID",
                          .access_key_secret = SECRET,
                          .attempts = attempts};
  w->store = tm_oss_open(&o, &w->err);
  assert_non_null(w->store);
}

#define WORLD(w, url, attempts, ...)                                                     \
  static const struct step steps_[] = {__VA_ARGS__};                                     \
  struct world w;                                                                        \
  open_world(&w, url, steps_, (int)(sizeof steps_ / sizeof steps_[0]), attempts)

static void close_world(struct world *w, int requests)
{
  tm_oss_close(w->store);
  server_stop(&w->server);
  assert_int_equal(w->server.seen, requests);
  assert_null(strstr(w->err.message, SECRET));
  assert_null(strstr(w->err.detail, SECRET));
  assert_null(strstr(w->err.hint, SECRET));
}

static bool asked(struct world *w, int i, const char *text)
{
  pthread_mutex_lock(&w->server.lock);
  bool is = i < w->server.seen && strcasestr(w->server.requests[i], text) != NULL;
  pthread_mutex_unlock(&w->server.lock);
  return is;
}

#define EMPTY "Content-Length: 0\r\n\r\n"
#define OK_PUT "HTTP/1.1 200 OK\r\nETag: \"E1\"\r\n" EMPTY
#define HELLO_CRC "x-oss-hash-crc64ecma: 11177612005948864433\r\n" /* of "hello" */
#define STATUS_XML(status, code)                                                         \
  "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n<Error><Code>" code                   \
  "</Code><Message>It is so.</Message><RequestId>RID</RequestId></Error>"
#define REFUSE(status, code)                                                             \
  {                                                                                      \
    .reply = STATUS_XML(status, code), .cut = true                                       \
  }

static bool put(struct world *w, bool create_only, struct tm_oss_info *info)
{
  struct tm_oss_put_opts o = {.create_only = create_only};
  return tm_oss_put(w->store, "k", "hello", 5, &o, info, NULL, &w->err);
}

static bool get(struct world *w, struct tm_buffer *out)
{
  return tm_oss_get(w->store, "k", NULL, 0, out, NULL, NULL, &w->err);
}

/* ---- retries ---- */

static void server_errors_and_resets_are_repeated(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, REFUSE("503 Slow", "ServiceUnavailable"), {.reply = NULL},
        REFUSE("500 Oops", "InternalError"), {.reply = OK_PUT});
  assert_true(put(&w, false, NULL));
  close_world(&w, 4);
}

static void attempts_are_limited(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 3, REFUSE("503 Slow", "ServiceUnavailable"),
        REFUSE("503 Slow", "ServiceUnavailable"),
        REFUSE("503 Slow", "ServiceUnavailable"), {.reply = OK_PUT});
  assert_false(put(&w, false, NULL));
  assert_int_equal(w.err.kind, TM_ESERVER);
  assert_int_equal(w.err.status, 503);
  assert_string_equal(w.err.code, "ServiceUnavailable");
  assert_string_equal(w.err.request_id, "RID");
  assert_string_equal(w.err.message, "cannot put oss://bucket/k: it is so");
  close_world(&w, 3);
}

static void permanent_errors_are_not_repeated(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, REFUSE("403 Forbidden", "SignatureDoesNotMatch"));
  assert_false(put(&w, false, NULL));
  assert_int_equal(w.err.kind, TM_EAUTH);
  assert_non_null(strstr(w.err.hint, "secret"));
  close_world(&w, 1);
}

static void retry_after_is_kept(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, {.reply = "HTTP/1.1 429 Busy\r\nRetry-After: 1\r\n" EMPTY},
        {.reply = OK_PUT});
  int64_t began = tm_clock_mono_ms();
  assert_true(put(&w, false, NULL));
  assert_true(tm_clock_mono_ms() - began >= 1000);
  close_world(&w, 2);
}

static void a_wrong_clock_is_corrected_once(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5,
        {.reply = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<Error><Code>"
                  "RequestTimeTooSkewed</Code><ServerTime>2031-02-03T04:05:06.000Z"
                  "</ServerTime></Error>",
         .cut = true},
        {.reply = OK_PUT}, {.reply = OK_PUT});
  assert_true(put(&w, false, NULL));
  assert_true(put(&w, false, NULL)); /* the offset is kept */
  assert_true(asked(&w, 1, "x-oss-date: 20310203T0405"));
  assert_true(asked(&w, 2, "x-oss-date: 20310203T0405"));
  close_world(&w, 3);
}

static void a_wrong_region_is_corrected_once(void **state)
{
  (void)state;
  WORLD(w, "s3://bucket", 5,
        {.reply = "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n<Error><Code>"
                  "AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>",
         .cut = true},
        {.reply = OK_PUT});
  assert_true(put(&w, false, NULL));
  assert_true(asked(&w, 0, "/cn-test/s3/"));
  assert_true(asked(&w, 1, "/eu-west-3/s3/"));
  close_world(&w, 2);
}

static void an_expired_token_is_refreshed_once(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, REFUSE("403 Forbidden", "SecurityTokenExpired"),
        REFUSE("403 Forbidden", "SecurityTokenExpired"));
  assert_false(put(&w, false, NULL));
  assert_int_equal(w.err.kind, TM_EAUTH);
  close_world(&w, 2);
}

static void an_unreachable_store_is_a_connect_error(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 2, {.reply = OK_PUT});
  struct tm_oss_opts o = {.url = "oss://bucket",
                          .endpoint = "http://127.0.0.1:1",
                          .region = "cn-test",
                          .access_key_id = "ID",
                          .access_key_secret = SECRET,
                          .attempts = 2};
  struct tm_oss *store = tm_oss_open(&o, &w.err);
  assert_non_null(store);
  assert_false(tm_oss_put(store, "k", "x", 1, NULL, NULL, NULL, &w.err));
  assert_int_equal(w.err.kind, TM_ECONNECT);
  assert_non_null(strstr(w.err.hint, "127.0.0.1:1"));
  tm_oss_close(store);
  close_world(&w, 0);
}

struct canceller {
  struct tm_cancel *cancel;
  struct world *world; /* of which a request is waited for */
};

static void *cancel_main(void *arg)
{
  struct canceller *c = arg;
  for (int i = 0; i < 1000 && !asked(c->world, 0, "PUT"); i++)
    usleep(10000);
  tm_cancel_fire(c->cancel);
  return NULL;
}

static void a_cancel_ends_a_wait_at_once(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, {.reply = ""});
  struct tm_cancel cancel;
  assert_true(tm_cancel_open(&cancel, &w.err));
  struct canceller c = {&cancel, &w};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, cancel_main, &c), 0);
  int64_t began = tm_clock_mono_ms();
  assert_false(tm_oss_put(w.store, "k", "x", 1, NULL, NULL, &cancel, &w.err));
  assert_int_equal(w.err.kind, TM_ECANCELED);
  assert_true(tm_clock_mono_ms() - began < 5000);
  pthread_join(thread, NULL);
  tm_cancel_close(&cancel);
  close_world(&w, 1);
}

static void cleaning_up_is_bounded(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, {.reply = ""}, {.reply = ""});
  struct tm_oss_opts o = {.url = "oss://bucket",
                          .endpoint = w.endpoint,
                          .region = "cn-test",
                          .access_key_id = "ID",
                          .access_key_secret = SECRET,
                          .cleanup_timeout_ms = 1500};
  struct tm_oss *store = tm_oss_open(&o, &w.err);
  assert_non_null(store);
  int64_t began = tm_clock_mono_ms();
  assert_false(tm_oss_multipart_abort(store, "k", "U", true, &w.err));
  assert_int_equal(w.err.kind, TM_ETIMEOUT);
  assert_true(tm_clock_mono_ms() - began < 5000);
  tm_oss_close(store);
  close_world(&w, 1);
}

/* ---- uploads ---- */

static void a_wrong_crc_of_an_upload_is_an_integrity_error(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 2,
        {.reply = "HTTP/1.1 200 OK\r\nx-oss-hash-crc64ecma: 1\r\n" EMPTY},
        {.reply = "HTTP/1.1 200 OK\r\nx-oss-hash-crc64ecma: 1\r\n" EMPTY});
  assert_false(put(&w, false, NULL));
  assert_int_equal(w.err.kind, TM_EINTEGRITY);
  close_world(&w, 2);
}

static void a_create_that_succeeded_unseen_is_recognised(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, {.reply = NULL},
        REFUSE("409 Conflict", "FileAlreadyExists"),
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"E9\"\r\n" HELLO_CRC
                  "Content-Length: 5\r\n\r\n"});
  struct tm_oss_info info;
  assert_true(put(&w, true, &info));
  assert_string_equal(info.etag, "E9");
  assert_true(asked(&w, 1, "x-oss-forbid-overwrite: true"));
  close_world(&w, 3);
}

static void a_create_over_a_strangers_object_is_refused(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, {.reply = NULL},
        REFUSE("409 Conflict", "FileAlreadyExists"),
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"E9\"\r\nx-oss-hash-crc64ecma: 7\r\n"
                  "Content-Length: 5\r\n\r\n"});
  assert_false(put(&w, true, NULL));
  assert_int_equal(w.err.kind, TM_EEXISTS);
  close_world(&w, 3);
}

static const struct tm_oss_part one_part = {.number = 1,
                                            .etag = "P1",
                                            .size = 5,
                                            .has_crc64 = true,
                                            .crc64 = 11177612005948864433u};

static bool complete(struct world *w, struct tm_oss_info *info)
{
  return tm_oss_multipart_complete(w->store, "k", "U", &one_part, 1, false, info, NULL,
                                   &w->err);
}

static void an_error_inside_200_is_a_failure(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5,
        {.reply = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\n<?xml version=\"1.0\"?>"
                  "<Error><Code>InternalError</Code></Error>",
         .cut = true},
        {.reply = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
                  "<CompleteMultipartUploadResult><ETag>\"E2\"</ETag>"
                  "</CompleteMultipartUploadResult>",
         .cut = true});
  struct tm_oss_info info;
  assert_true(complete(&w, &info));
  assert_string_equal(info.etag, "E2");
  close_world(&w, 2);
}

static void a_completion_that_succeeded_unseen_is_recognised(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, {.reply = NULL}, REFUSE("404 Gone", "NoSuchUpload"),
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"E3-1\"\r\n" HELLO_CRC
                  "Content-Length: 5\r\n\r\n"});
  struct tm_oss_info info;
  assert_true(complete(&w, &info));
  assert_string_equal(info.etag, "E3-1");
  close_world(&w, 3);
}

/* ---- downloads ---- */

static void a_broken_body_is_resumed_where_it_broke(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5,
        {.reply =
             "HTTP/1.1 200 OK\r\nETag: \"E\"\r\n" HELLO_CRC "Content-Length: 5\r\n\r\nhe",
         .cut = true},
        {.reply = "HTTP/1.1 206 Part\r\nETag: \"E\"\r\nContent-Range: bytes 2-4/5\r\n"
                  "Content-Length: 3\r\n\r\nllo"});
  struct tm_buffer out = {0};
  assert_true(get(&w, &out));
  assert_int_equal(out.len, 5);
  assert_memory_equal(out.data, "hello", 5);
  assert_true(asked(&w, 1, "Range: bytes=2-\r\n"));
  assert_true(asked(&w, 1, "If-Match: \"E\"\r\n"));
  tm_buffer_free(&out);
  close_world(&w, 2);
}

static void an_object_replaced_while_it_is_read_is_a_conflict(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5,
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"E\"\r\nContent-Length: 5\r\n\r\nhe",
         .cut = true},
        REFUSE("412 No", "PreconditionFailed"));
  struct tm_buffer out = {0};
  assert_false(get(&w, &out));
  assert_int_equal(w.err.kind, TM_ECONFLICT);
  tm_buffer_free(&out);
  close_world(&w, 2);
}

static void a_wrong_crc_of_a_download_is_an_integrity_error(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5,
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"E\"\r\n" HELLO_CRC
                  "Content-Length: 5\r\n\r\njello"});
  struct tm_buffer out = {0};
  assert_false(get(&w, &out));
  assert_int_equal(w.err.kind, TM_EINTEGRITY);
  tm_buffer_free(&out);
  close_world(&w, 1);
}

static void a_range_that_is_ignored_is_refused(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5,
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"E\"\r\nContent-Length: 5\r\n\r\nhello"});
  struct tm_buffer out = {0};
  struct tm_oss_get_opts o = {.range = true, .offset = 1, .length = 2};
  assert_false(tm_oss_get(w.store, "k", &o, 0, &out, NULL, NULL, &w.err));
  assert_int_equal(w.err.kind, TM_EPROTOCOL);
  assert_int_equal(out.len, 0);
  assert_true(asked(&w, 0, "x-oss-range-behavior: standard"));
  tm_buffer_free(&out);
  close_world(&w, 1);
}

static void a_reader_refuses_what_is_not_expected(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, REFUSE("412 No", "PreconditionFailed"));
  struct tm_oss_reader_opts o = {.etag = "OLD", .has_size = true, .size = 5};
  struct tm_source *r = tm_oss_reader_open(w.store, "k", &o, &w.err);
  struct tm_slab *slab = NULL;
  assert_non_null(r);
  assert_int_equal(r->ops->read(r, &slab, &w.err), -1);
  assert_int_equal(w.err.kind, TM_EINTEGRITY);
  tm_source_close(r);
  close_world(&w, 1);
}

static void a_reader_checks_the_crc_before_the_end(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5,
        {.reply =
             "HTTP/1.1 200 OK\r\nETag: \"E\"\r\n" HELLO_CRC "Content-Length: 5\r\n\r\n"},
        {.reply = "HTTP/1.1 206 Part\r\nETag: \"E\"\r\nContent-Range: bytes 0-4/5\r\n"
                  "Content-Length: 5\r\n\r\njello"});
  struct tm_source *r = tm_oss_reader_open(w.store, "k", NULL, &w.err);
  struct tm_slab *slab = NULL;
  assert_non_null(r);
  assert_int_equal(r->ops->read(r, &slab, &w.err), 1);
  tm_slab_free(slab);
  assert_int_equal(r->ops->read(r, &slab, &w.err), -1);
  assert_int_equal(w.err.kind, TM_EINTEGRITY);
  tm_source_close(r);
  close_world(&w, 2);
}

static void a_reader_refuses_an_object_that_is_longer_than_it_was_said_to_be(void **state)
{
  (void)state;
  WORLD(w, "s3://bucket", 5,
        {.reply = "HTTP/1.1 206 Part\r\nETag: \"E\"\r\nContent-Range: bytes 0-2/5\r\n"
                  "Content-Length: 3\r\n\r\nhel"});
  struct tm_oss_reader_opts o = {.etag = "E", .has_size = true, .size = 3};
  struct tm_source *r = tm_oss_reader_open(w.store, "k", &o, &w.err);
  struct tm_slab *slab = NULL;
  assert_non_null(r);
  assert_int_equal(r->ops->read(r, &slab, &w.err), -1);
  assert_int_equal(w.err.kind, TM_EINTEGRITY);
  tm_source_close(r);
  close_world(&w, 1);
}

static int seen_after_ms(struct world *w, int ms)
{
  usleep((useconds_t)ms * 1000);
  pthread_mutex_lock(&w->server.lock);
  int seen = w->server.seen;
  pthread_mutex_unlock(&w->server.lock);
  return seen;
}

static void a_reader_opened_ahead_fetches_one_range_until_it_is_read(void **state)
{
  (void)state;
  WORLD(w, "s3://bucket", 5,
        {.reply = "HTTP/1.1 206 Part\r\nETag: \"E\"\r\nContent-Range: bytes 0-1/4\r\n"
                  "Content-Length: 2\r\n\r\nab"},
        {.reply = "HTTP/1.1 206 Part\r\nETag: \"E\"\r\nContent-Range: bytes 2-3/4\r\n"
                  "Content-Length: 2\r\n\r\ncd"});
  struct tm_oss_reader_opts o = {.etag = "E",
                                 .has_size = true,
                                 .size = 4,
                                 .range_bytes = 2,
                                 .parallel = 2,
                                 .ahead = true};
  struct tm_source *r = tm_oss_reader_open(w.store, "k", &o, &w.err);
  assert_non_null(r);
  for (int i = 0; i < 500 && seen_after_ms(&w, 10) == 0; i++)
    ;
  assert_int_equal(seen_after_ms(&w, 100), 1);
  struct tm_slab *slab = NULL;
  for (const char *part = "abcd"; *part != '\0'; part += 2) {
    assert_int_equal(r->ops->read(r, &slab, &w.err), 1);
    assert_memory_equal(slab->data, part, 2);
    tm_slab_free(slab);
  }
  assert_int_equal(r->ops->read(r, &slab, &w.err), 0);
  tm_source_close(r);
  close_world(&w, 2);
}

static void a_head_error_comes_from_its_header(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, /* <Error><Code>NoSuchBucket</Code></Error> */
        {.reply =
             "HTTP/1.1 404 Not\r\nx-oss-err: PEVycm9yPjxDb2RlPk5vU3VjaEJ1Y2tldDwvQ29k"
             "ZT48L0Vycm9yPg==\r\n" EMPTY});
  struct tm_oss_info info;
  assert_false(tm_oss_head(w.store, "k", &info, NULL, &w.err));
  assert_int_equal(w.err.kind, TM_ENOTFOUND);
  assert_string_equal(w.err.code, "NoSuchBucket");
  close_world(&w, 1);
}

/* ---- listings ---- */

#define LIST(body)                                                                       \
  {                                                                                      \
    .reply =                                                                             \
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListBucketResult xmlns=\"urn:x\">" \
        "<EncodingType>url</EncodingType>" body "</ListBucketResult>",                   \
    .cut = true                                                                          \
  }

static void keys_of_s3_listings_are_decoded(void **state)
{
  (void)state;
  WORLD(w, "s3://bucket", 5,
        LIST("<IsTruncated>false</IsTruncated><Contents><Key>a+b%2Bc%01%E4%BD%A0</Key>"
             "<Size>3</Size><ETag>&quot;E&quot;</ETag></Contents>"));
  struct tm_oss_page page = {0};
  assert_true(tm_oss_list(w.store, NULL, NULL, &page, NULL, &w.err));
  assert_int_equal(page.count, 1);
  assert_string_equal(page.entries[0].key, "a b+c\x01\xE4\xBD\xA0");
  assert_string_equal(page.entries[0].etag, "E");
  tm_oss_page_free(&page);
  close_world(&w, 1);
}

static void a_truncated_listing_without_a_token_is_refused(void **state)
{
  (void)state;
  WORLD(w, "s3://bucket", 5, LIST("<IsTruncated>true</IsTruncated>"));
  struct tm_oss_page page = {0};
  assert_false(tm_oss_list(w.store, NULL, NULL, &page, NULL, &w.err));
  assert_int_equal(w.err.kind, TM_EPROTOCOL);
  close_world(&w, 1);
}

static void a_listing_that_does_not_move_on_is_refused(void **state)
{
  (void)state;
  WORLD(w, "s3://bucket", 5,
        LIST("<IsTruncated>true</IsTruncated>"
             "<NextContinuationToken>T</NextContinuationToken>"));
  struct tm_oss_page page = {0};
  assert_false(tm_oss_list(w.store, NULL, "T", &page, NULL, &w.err));
  assert_int_equal(w.err.kind, TM_EPROTOCOL);
  assert_null(page.next);
  close_world(&w, 1);
}

/* ---- writers ---- */

static void write_bytes(struct world *w, struct tm_sink *sink, size_t n)
{
  struct tm_slab *slab = tm_slab_new(n, &w->err);
  assert_non_null(slab);
  memset(slab->data, 'x', n);
  slab->len = n;
  assert_true(sink->ops->write(sink, slab, &w->err));
}

#define INITIATED                                                                        \
  {                                                                                      \
    .reply =                                                                             \
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<InitiateMultipartUploadResult>"    \
        "<UploadId>U</UploadId></InitiateMultipartUploadResult>",                        \
    .cut = true                                                                          \
  }

static void a_refused_part_aborts_the_upload(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, INITIATED, REFUSE("403 Forbidden", "AccessDenied"),
        {.reply = "HTTP/1.1 204 Done\r\n\r\n"});
  struct tm_oss_writer_opts o = {.part_bytes = 100 << 10};
  struct tm_sink *sink = tm_oss_writer_open(w.store, "k", &o, &w.err);
  assert_non_null(sink);
  write_bytes(&w, sink, 100 << 10);
  assert_false(sink->ops->finish(sink, &w.err));
  assert_int_equal(w.err.kind, TM_EAUTH);
  assert_true(asked(&w, 1, "PUT /bucket/k?partNumber=1&uploadId=U"));
  assert_true(asked(&w, 2, "DELETE /bucket/k?uploadId=U"));
  tm_sink_close(sink);
  close_world(&w, 3);
}

static void a_writer_closed_early_aborts_its_upload(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, INITIATED,
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"P\"\r\n" EMPTY},
        {.reply = "HTTP/1.1 204 Done\r\n\r\n"});
  struct tm_oss_writer_opts o = {.part_bytes = 100 << 10};
  struct tm_sink *sink = tm_oss_writer_open(w.store, "k", &o, &w.err);
  assert_non_null(sink);
  write_bytes(&w, sink, 100 << 10);
  for (int i = 0; i < 1000 && !asked(&w, 1, "PUT"); i++)
    usleep(20000);
  usleep(50000);
  tm_sink_close(sink);
  assert_true(asked(&w, 2, "DELETE /bucket/k?uploadId=U"));
  close_world(&w, 3);
}

static void a_writer_sends_nothing_before_its_first_part_is_full(void **state)
{
  (void)state;
  WORLD(w, "oss://bucket", 5, {.reply = NULL});
  struct tm_sink *sink = tm_oss_writer_open(w.store, "k", NULL, &w.err);
  assert_non_null(sink);
  write_bytes(&w, sink, 1000);
  tm_sink_close(sink);
  close_world(&w, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(server_errors_and_resets_are_repeated),
      cmocka_unit_test(attempts_are_limited),
      cmocka_unit_test(permanent_errors_are_not_repeated),
      cmocka_unit_test(retry_after_is_kept),
      cmocka_unit_test(a_wrong_clock_is_corrected_once),
      cmocka_unit_test(a_wrong_region_is_corrected_once),
      cmocka_unit_test(an_expired_token_is_refreshed_once),
      cmocka_unit_test(an_unreachable_store_is_a_connect_error),
      cmocka_unit_test(a_cancel_ends_a_wait_at_once),
      cmocka_unit_test(cleaning_up_is_bounded),
      cmocka_unit_test(a_wrong_crc_of_an_upload_is_an_integrity_error),
      cmocka_unit_test(a_create_that_succeeded_unseen_is_recognised),
      cmocka_unit_test(a_create_over_a_strangers_object_is_refused),
      cmocka_unit_test(an_error_inside_200_is_a_failure),
      cmocka_unit_test(a_completion_that_succeeded_unseen_is_recognised),
      cmocka_unit_test(a_broken_body_is_resumed_where_it_broke),
      cmocka_unit_test(an_object_replaced_while_it_is_read_is_a_conflict),
      cmocka_unit_test(a_wrong_crc_of_a_download_is_an_integrity_error),
      cmocka_unit_test(a_range_that_is_ignored_is_refused),
      cmocka_unit_test(a_reader_refuses_what_is_not_expected),
      cmocka_unit_test(a_reader_checks_the_crc_before_the_end),
      cmocka_unit_test(a_reader_refuses_an_object_that_is_longer_than_it_was_said_to_be),
      cmocka_unit_test(a_reader_opened_ahead_fetches_one_range_until_it_is_read),
      cmocka_unit_test(a_head_error_comes_from_its_header),
      cmocka_unit_test(keys_of_s3_listings_are_decoded),
      cmocka_unit_test(a_truncated_listing_without_a_token_is_refused),
      cmocka_unit_test(a_listing_that_does_not_move_on_is_refused),
      cmocka_unit_test(a_refused_part_aborts_the_upload),
      cmocka_unit_test(a_writer_closed_early_aborts_its_upload),
      cmocka_unit_test(a_writer_sends_nothing_before_its_first_part_is_full),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
