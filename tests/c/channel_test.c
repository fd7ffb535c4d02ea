/*
** channel_test.c: slabs between a stream's threads and a caller that polls; pumps in threads
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
#include "base/thread.h"
#include "oss/objects.h"
#include "oss/reader.h"
#include "stream/background.h"
#include "stream/channel.h"

enum { MANY = 10000, LONG_MS = 30000 };

static struct tm_slab *number_slab(int n)
{
  struct tm_error err;
  struct tm_slab *slab = tm_slab_new(sizeof n, &err);
  assert_non_null(slab);
  assert_true(tm_slab_add(slab, &n, sizeof n, &err));
  slab->rows = 1;
  return slab;
}

static int slab_number(struct tm_slab *slab)
{
  int n;
  assert_int_equal(slab->len, sizeof n);
  memcpy(&n, slab->data, sizeof n);
  tm_slab_free(slab);
  return n;
}

static bool is_readable(int fd, int timeout_ms)
{
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, timeout_ms) == 1;
}

static struct tm_channel *new_channel(size_t slabs)
{
  struct tm_error err;
  struct tm_channel *ch = tm_channel_new(slabs, &err);
  assert_non_null(ch);
  return ch;
}

static const struct tm_error broken = {.kind = TM_EIO, .message = "it broke"};

/* Gets the next slab, waiting for the descriptor as a backend does. */
static enum tm_channel_result get_one(struct tm_channel *ch, struct tm_slab **slab,
                                      struct tm_error *err)
{
  for (;;) {
    enum tm_channel_result r = tm_channel_try_get(ch, slab, err);
    if (r != TM_CHANNEL_WAIT)
      return r;
    assert_true(is_readable(tm_channel_fd(ch), LONG_MS)); /* else a wake-up was lost */
  }
}

static enum tm_channel_result put_one(struct tm_channel *ch, struct tm_slab *slab,
                                      struct tm_error *err)
{
  for (;;) {
    enum tm_channel_result r = tm_channel_try_put(ch, slab, err);
    if (r != TM_CHANNEL_WAIT)
      return r;
    assert_true(is_readable(tm_channel_fd(ch), LONG_MS));
  }
}

/* ---- the thread side, by hand ---- */

struct side {
  struct tm_sink *sink;
  struct tm_source *source;
  int count, stop_at; /* stop_at: writes after which it aborts; 0: never */
  bool ok;
  struct tm_error err;
};

static void *write_main(void *arg)
{
  struct side *s = arg;
  s->ok = true;
  for (int i = 0; s->ok && i < s->count; i++) {
    if (s->stop_at > 0 && i == s->stop_at) {
      s->sink->ops->abort(s->sink, "enough");
      break;
    }
    s->ok = s->sink->ops->write(s->sink, number_slab(i), &s->err);
  }
  s->ok = s->ok && s->sink->ops->finish(s->sink, &s->err);
  tm_sink_close(s->sink);
  return NULL;
}

/* Reads to the end, or as many as `stop_at`; counts them. */
static void *read_main(void *arg)
{
  struct side *s = arg;
  int got = 1;
  s->ok = true;
  while (s->ok && (s->stop_at == 0 || s->count < s->stop_at)) {
    struct tm_slab *slab = NULL;
    got = s->source->ops->read(s->source, &slab, &s->err);
    if (got <= 0)
      break;
    s->ok = slab_number(slab) == s->count++;
  }
  s->ok = s->ok && got >= 0;
  tm_source_close(s->source);
  return NULL;
}

static pthread_t start(void *(*main)(void *), struct side *s)
{
  pthread_t thread;
  assert_int_equal(tm_thread_start(&thread, main, s), 0);
  return thread;
}

static void what_a_thread_writes_is_got_in_order(void **state)
{
  (void)state;
  for (size_t slabs = 1; slabs <= 8; slabs += 7) {
    struct tm_channel *ch = new_channel(slabs);
    struct side s = {.sink = tm_channel_sink(ch), .count = MANY};
    pthread_t thread = start(write_main, &s);
    struct tm_slab *slab;
    struct tm_error err;
    for (int i = 0; i < MANY; i++) {
      assert_int_equal(get_one(ch, &slab, &err), TM_CHANNEL_OK);
      assert_int_equal(slab_number(slab), i);
    }
    assert_int_equal(get_one(ch, &slab, &err), TM_CHANNEL_END);
    assert_int_equal(get_one(ch, &slab, &err), TM_CHANNEL_END);
    pthread_join(thread, NULL);
    assert_true(s.ok);
    tm_channel_free(ch);
  }
}

static void what_is_put_is_read_in_order(void **state)
{
  (void)state;
  for (size_t slabs = 1; slabs <= 8; slabs += 7) {
    struct tm_channel *ch = new_channel(slabs);
    struct side s = {.source = tm_channel_source(ch)};
    pthread_t thread = start(read_main, &s);
    struct tm_error err;
    for (int i = 0; i < MANY; i++)
      assert_int_equal(put_one(ch, number_slab(i), &err), TM_CHANNEL_OK);
    tm_channel_end(ch);
    pthread_join(thread, NULL);
    assert_true(s.ok);
    assert_int_equal(s.count, MANY);
    tm_channel_free(ch);
  }
}

/* ---- the descriptor ---- */

static void the_descriptor_is_readable_unless_a_try_must_wait(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct tm_sink *sink = tm_channel_sink(ch);
  struct tm_slab *slab;
  struct tm_error err;
  int fd = tm_channel_fd(ch);
  assert_true(is_readable(fd, 0));
  for (int round = 0; round < 3; round++) {
    assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_WAIT);
    assert_false(is_readable(fd, 0));
    assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_WAIT);
    assert_true(sink->ops->write(sink, number_slab(1), &err));
    assert_true(is_readable(fd, 0));
    assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_OK);
    tm_slab_free(slab);
    assert_true(is_readable(fd, 0)); /* nobody has been told to wait */
  }
  assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_WAIT);
  assert_true(sink->ops->finish(sink, &err));
  assert_true(is_readable(fd, 0));
  assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_END);
  assert_true(is_readable(fd, 0));
  tm_sink_close(sink);
  tm_channel_free(ch);
}

static void who_puts_is_woken_when_half_is_free(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(4);
  struct tm_source *source = tm_channel_source(ch);
  struct tm_error err;
  for (int i = 0; i < 4; i++)
    assert_int_equal(tm_channel_try_put(ch, number_slab(i), &err), TM_CHANNEL_OK);
  struct tm_slab *fifth = number_slab(4), *slab;
  assert_int_equal(tm_channel_try_put(ch, fifth, &err), TM_CHANNEL_WAIT);
  for (int i = 0; i < 2; i++) {
    assert_false(is_readable(tm_channel_fd(ch), 0));
    assert_int_equal(source->ops->read(source, &slab, &err), 1);
    assert_int_equal(slab_number(slab), i);
  }
  assert_true(is_readable(tm_channel_fd(ch), 0));
  assert_int_equal(tm_channel_try_put(ch, fifth, &err), TM_CHANNEL_OK);
  tm_source_close(source);
  tm_channel_free(ch);
}

static void nothing_is_put_after_the_end(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(4);
  struct tm_source *source = tm_channel_source(ch);
  struct tm_error err;
  tm_channel_end(ch);
  struct tm_slab *slab = number_slab(1);
  assert_int_equal(tm_channel_try_put(ch, slab, &err), TM_CHANNEL_END);
  tm_slab_free(slab);
  tm_source_close(source);
  tm_channel_free(ch);
}

/* ---- failures ---- */

static void a_failure_of_the_caller_frees_a_writer_that_waits(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct side s = {.sink = tm_channel_sink(ch), .count = MANY};
  pthread_t thread = start(write_main, &s);
  usleep(20000); /* so that it waits; it must end either way */
  tm_channel_fail(ch, &broken);
  pthread_join(thread, NULL);
  assert_false(s.ok);
  assert_int_equal(s.err.kind, TM_EIO);
  assert_string_equal(s.err.message, "it broke");
  tm_channel_free(ch);
}

static void a_failure_of_the_caller_frees_a_reader_that_waits(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct side s = {.source = tm_channel_source(ch)};
  pthread_t thread = start(read_main, &s);
  usleep(20000);
  tm_channel_fail(ch, &broken);
  pthread_join(thread, NULL);
  assert_false(s.ok);
  assert_int_equal(s.err.kind, TM_EIO);
  tm_channel_free(ch);
}

static void a_caller_that_goes_frees_a_writer_that_waits(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct side s = {.sink = tm_channel_sink(ch), .count = MANY};
  pthread_t thread = start(write_main, &s);
  usleep(20000);
  tm_channel_free(ch);
  pthread_join(thread, NULL);
  assert_false(s.ok);
  assert_int_equal(s.err.kind, TM_ECANCELED);
}

static void an_abort_is_never_taken_for_an_end(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(3);
  struct side s = {.sink = tm_channel_sink(ch), .count = MANY, .stop_at = MANY / 2};
  pthread_t thread = start(write_main, &s);
  struct tm_slab *slab;
  struct tm_error err;
  enum tm_channel_result r;
  int count = 0;
  while ((r = get_one(ch, &slab, &err)) == TM_CHANNEL_OK) {
    assert_int_equal(slab_number(slab), count);
    count++;
  }
  assert_int_equal(r, TM_CHANNEL_FAILED);
  assert_int_equal(err.kind, TM_ECANCELED);
  assert_string_equal(err.message, "enough");
  assert_true(count <= MANY / 2);
  pthread_join(thread, NULL);
  tm_channel_free(ch);
}

static void a_source_closed_early_fails_who_puts(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct side s = {.source = tm_channel_source(ch), .stop_at = 100};
  pthread_t thread = start(read_main, &s);
  struct tm_error err;
  enum tm_channel_result r = TM_CHANNEL_OK;
  for (int i = 0; r == TM_CHANNEL_OK && i < MANY; i++) {
    struct tm_slab *slab = number_slab(i);
    r = put_one(ch, slab, &err);
    if (r != TM_CHANNEL_OK)
      tm_slab_free(slab);
  }
  assert_int_equal(r, TM_CHANNEL_FAILED);
  assert_int_equal(err.kind, TM_ECANCELED);
  pthread_join(thread, NULL);
  tm_channel_free(ch);
}

static void the_first_error_is_kept(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct tm_sink *sink = tm_channel_sink(ch);
  struct tm_slab *slab;
  struct tm_error err;
  assert_true(sink->ops->write(sink, number_slab(1), &err));
  tm_channel_fail(ch, &broken);
  sink->ops->abort(sink, "later");
  assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_FAILED);
  assert_string_equal(err.message, "it broke");
  assert_false(sink->ops->finish(sink, &err));
  tm_sink_close(sink);
  tm_channel_free(ch);
}

static void what_was_finished_outlives_its_sink(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct tm_sink *sink = tm_channel_sink(ch);
  struct tm_slab *slab;
  struct tm_error err;
  assert_true(sink->ops->write(sink, number_slab(7), &err));
  assert_true(sink->ops->finish(sink, &err));
  sink->ops->cancel(sink);
  tm_sink_close(sink);
  assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_OK);
  assert_int_equal(slab_number(slab), 7);
  assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_END);
  tm_channel_free(ch);
}

/* ---- pumps in threads ---- */

/* A source of `count` numbers, then the end, or an error. */
struct numbers {
  struct tm_source base;
  int count, sent;
  bool fail;
};

static int numbers_read(struct tm_source *self, struct tm_slab **out,
                        struct tm_error *err)
{
  struct numbers *n = (struct numbers *)self;
  if (n->sent == n->count && n->fail) {
    *err = broken;
    return -1;
  }
  if (n->sent == n->count)
    return 0;
  *out = number_slab(n->sent++);
  return 1;
}

static void numbers_close(struct tm_source *self)
{
  free(self);
}

static struct tm_source *new_numbers(int count, bool fail)
{
  static const struct tm_source_ops ops = {
      .name = "numbers", .read = numbers_read, .close = numbers_close};
  struct numbers *n = calloc(1, sizeof *n);
  assert_non_null(n);
  *n = (struct numbers){.base.ops = &ops, .count = count, .fail = fail};
  return &n->base;
}

static struct tm_background *run_numbers(struct tm_channel *ch, int count, bool fail)
{
  struct tm_error err;
  struct tm_background *b = tm_background_start(new_numbers(count, fail), NULL, 0,
                                                tm_channel_sink(ch), NULL, &err);
  assert_non_null(b);
  return b;
}

static void a_background_delivers_and_tells_that_it_ended(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct tm_background *b = run_numbers(ch, 100, false);
  struct tm_slab *slab;
  struct tm_error err;
  assert_false(is_readable(tm_background_done_fd(b), 0)); /* 100 do not fit */
  for (int i = 0; i < 100; i++) {
    assert_int_equal(get_one(ch, &slab, &err), TM_CHANNEL_OK);
    assert_int_equal(slab_number(slab), i);
  }
  assert_int_equal(get_one(ch, &slab, &err), TM_CHANNEL_END);
  assert_true(is_readable(tm_background_done_fd(b), LONG_MS));
  struct tm_pump_stats stats;
  assert_true(tm_background_join(b, &stats, &err));
  assert_true(tm_background_join(b, NULL, &err));
  assert_int_equal(stats.rows_out, 100);
  tm_background_free(b);
  tm_channel_free(ch);
}

static void the_join_tells_the_whole_error(void **state)
{
  (void)state;
  struct tm_channel *ch = new_channel(2);
  struct tm_background *b = run_numbers(ch, 100, true);
  struct tm_slab *slab;
  struct tm_error err;
  enum tm_channel_result r;
  while ((r = get_one(ch, &slab, &err)) == TM_CHANNEL_OK)
    tm_slab_free(slab);
  assert_int_equal(r, TM_CHANNEL_FAILED);
  assert_true(is_readable(tm_background_done_fd(b), LONG_MS));
  assert_false(tm_background_join(b, NULL, &err));
  assert_int_equal(err.kind, TM_EIO);
  assert_string_equal(err.message, "it broke");
  tm_background_free(b);
  tm_channel_free(ch);
}

static void a_background_is_freed_at_any_time(void **state)
{
  (void)state;
  for (int taken = 0; taken < 40; taken += 3) {
    struct tm_channel *ch = new_channel(2);
    struct tm_background *b = run_numbers(ch, 30, false);
    struct tm_slab *slab;
    struct tm_error err;
    for (int i = 0; i < taken && get_one(ch, &slab, &err) == TM_CHANNEL_OK; i++)
      tm_slab_free(slab);
    if (taken % 2 == 0) {
      tm_background_free(b);
      tm_channel_free(ch);
    } else {
      tm_channel_free(ch);
      tm_background_free(b);
    }
  }
}

/* A store that takes connections and never answers. */
struct stalled {
  int listener;
  struct tm_oss *store;
};

static void stall(struct stalled *s)
{
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  char endpoint[64];
  struct tm_error err;
  s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(s->listener, 8), 0);
  assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", ntohs(a.sin_port));
  struct tm_oss_opts o = {.url = "oss://bucket",
                          .endpoint = endpoint,
                          .region = "cn-test",
                          .access_key_id = "ID",
                          .access_key_secret = "SECRET",
                          .cleanup_timeout_ms = 500};
  s->store = tm_oss_open(&o, &err);
  assert_non_null(s->store);
}

static void unstall(struct stalled *s)
{
  tm_oss_close(s->store);
  close(s->listener);
}

/* Cancels a stream that waits for the store, and sees that it ends soon. */
static void cancel_and_join(struct tm_background *b)
{
  struct tm_error err;
  assert_false(is_readable(tm_background_done_fd(b), 200));
  int64_t began = tm_clock_mono_ms();
  tm_background_cancel(b);
  assert_true(is_readable(tm_background_done_fd(b), LONG_MS));
  assert_false(tm_background_join(b, NULL, &err));
  assert_int_equal(err.kind, TM_ECANCELED);
  assert_true(tm_clock_mono_ms() - began < 5000);
  tm_background_free(b);
}

static void a_cancel_ends_a_read_from_a_store_that_stalls(void **state)
{
  (void)state;
  struct stalled s;
  struct tm_error err;
  stall(&s);
  struct tm_channel *ch = new_channel(4);
  struct tm_source *reader = tm_oss_reader_open(s.store, "k", NULL, &err);
  assert_non_null(reader);
  struct tm_background *b =
      tm_background_start(reader, NULL, 0, tm_channel_sink(ch), NULL, &err);
  assert_non_null(b);
  cancel_and_join(b);
  tm_channel_free(ch);
  unstall(&s);
}

static void a_cancel_ends_a_write_to_a_store_that_stalls(void **state)
{
  (void)state;
  struct stalled s;
  struct tm_error err;
  stall(&s);
  struct tm_channel *ch = new_channel(4);
  struct tm_oss_objects_opts o = {
      .prefix = "p", .hold = true, .writer.part_bytes = 128 << 10};
  struct tm_sink *objects = tm_oss_objects_open(s.store, &o, &err);
  assert_non_null(objects);
  struct tm_background *b =
      tm_background_start(tm_channel_source(ch), NULL, 0, objects, NULL, &err);
  assert_non_null(b);
  struct tm_slab *slab = tm_slab_new(1 << 20, &err);
  assert_non_null(slab);
  memset(slab->data, 'x', slab->cap);
  slab->len = slab->cap;
  assert_int_equal(tm_channel_try_put(ch, slab, &err), TM_CHANNEL_OK);
  cancel_and_join(b);
  assert_int_equal(tm_channel_try_get(ch, &slab, &err), TM_CHANNEL_FAILED);
  tm_channel_free(ch);
  unstall(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_a_thread_writes_is_got_in_order),
      cmocka_unit_test(what_is_put_is_read_in_order),
      cmocka_unit_test(the_descriptor_is_readable_unless_a_try_must_wait),
      cmocka_unit_test(who_puts_is_woken_when_half_is_free),
      cmocka_unit_test(nothing_is_put_after_the_end),
      cmocka_unit_test(a_failure_of_the_caller_frees_a_writer_that_waits),
      cmocka_unit_test(a_failure_of_the_caller_frees_a_reader_that_waits),
      cmocka_unit_test(a_caller_that_goes_frees_a_writer_that_waits),
      cmocka_unit_test(an_abort_is_never_taken_for_an_end),
      cmocka_unit_test(a_source_closed_early_fails_who_puts),
      cmocka_unit_test(the_first_error_is_kept),
      cmocka_unit_test(what_was_finished_outlives_its_sink),
      cmocka_unit_test(a_background_delivers_and_tells_that_it_ended),
      cmocka_unit_test(the_join_tells_the_whole_error),
      cmocka_unit_test(a_background_is_freed_at_any_time),
      cmocka_unit_test(a_cancel_ends_a_read_from_a_store_that_stalls),
      cmocka_unit_test(a_cancel_ends_a_write_to_a_store_that_stalls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
