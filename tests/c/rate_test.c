/*
** rate_test.c: a pace in bytes a second that several streams share
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/clock.h"
#include "base/thread.h"
#include "pieces.h"
#include "stream/rate.h"

enum { SECOND = 1000000, KIB = 1024, T0 = 5 * SECOND };

static struct tm_rate *new_rate(uint64_t bytes_per_second, uint64_t burst)
{
  struct tm_error err;
  struct tm_rate *r = tm_rate_new(bytes_per_second, burst, &err);
  assert_non_null(r);
  return r;
}

static void a_burst_passes_and_then_bytes_wait_for_their_time(void **state)
{
  (void)state;
  struct tm_rate *r = new_rate(1000, 500);
  assert_int_equal(tm_rate_take(r, 500, T0), 0);
  assert_int_equal(tm_rate_take(r, 1000, T0), SECOND);
  assert_int_equal(tm_rate_take(r, 1000, T0), 2 * SECOND); /* behind the one before */
  assert_int_equal(tm_rate_take(r, 1000, T0 + 2 * SECOND), SECOND);
  tm_rate_free(r);
}

static void a_pause_earns_no_more_than_the_burst(void **state)
{
  (void)state;
  struct tm_rate *r = new_rate(1000, 500);
  assert_int_equal(tm_rate_take(r, 500, T0), 0);
  assert_int_equal(tm_rate_take(r, 750, T0 + 3600LL * SECOND), SECOND / 4);
  tm_rate_free(r);
}

static void the_burst_is_a_quarter_of_a_second_unless_told(void **state)
{
  (void)state;
  struct tm_rate *r = new_rate(4000, 0);
  assert_int_equal(tm_rate_take(r, 1000, T0), 0);
  assert_int_equal(tm_rate_take(r, 4000, T0), SECOND);
  tm_rate_free(r);
}

static void bytes_larger_than_the_burst_pass_too(void **state)
{
  (void)state;
  struct tm_rate *r = new_rate(1000, 10);
  assert_int_equal(tm_rate_take(r, 100010, T0), 100LL * SECOND);
  tm_rate_free(r);
}

static void small_takes_lose_nothing_to_rounding(void **state)
{
  (void)state;
  enum { RATE = 7000003, TAKES = 700000 };
  struct tm_rate *r = new_rate(RATE, 1);
  uint64_t wait = 0;
  for (int i = 0; i < TAKES; i++)
    wait = tm_rate_take(r, 10, T0);
  double exact = (double)TAKES * 10 / RATE * SECOND;
  assert_true((double)wait > exact - 2 && (double)wait < exact + 2);
  tm_rate_free(r);
}

static void a_clock_that_starts_anywhere_gives_the_same(void **state)
{
  (void)state;
  struct tm_rate *r = new_rate(1000, 500);
  assert_int_equal(tm_rate_take(r, 600, 0), SECOND / 10);
  tm_rate_free(r);
  r = new_rate(1000, 500);
  assert_int_equal(tm_rate_take(r, 600, INT64_C(1) << 60), SECOND / 10);
  tm_rate_free(r);
}

static void no_rate_is_refused(void **state)
{
  (void)state;
  struct tm_error err;
  assert_null(tm_rate_new(0, 0, &err));
  assert_int_equal(err.kind, TM_EUSAGE);
  assert_null(tm_rate_new(UINT64_MAX, 0, &err));
  assert_int_equal(err.kind, TM_EUSAGE);
  struct tm_rate *r = new_rate(1, UINT64_MAX); /* no overflow */
  assert_int_equal(tm_rate_take(r, 1000, T0), 0);
  tm_rate_free(r);
}

/* ---- with the clock of the machine ---- */

struct feed {
  struct tm_source base;
  int left;
};

static int feed_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  struct feed *f = (struct feed *)self;
  if (f->left-- <= 0)
    return 0;
  *out = tm_slab_new(KIB, err);
  assert_non_null(*out);
  (*out)->len = (*out)->raw_bytes = KIB;
  for (size_t i = 0; i < KIB; i++)
    (*out)->data[i] = 'x';
  return 1;
}

struct mover {
  struct tm_rate *rate;
  struct tm_stage *stage;
  int slabs;
  bool ok;
  struct tm_error err;
};

static void *move(void *arg)
{
  static const struct tm_source_ops source_ops = {.name = "feed", .read = feed_read};
  struct mover *m = arg;
  struct feed feed = {.base.ops = &source_ops, .left = m->slabs};
  struct tm_sink sink = {&drop_ops};
  m->ok = tm_pump(&feed.base, &m->stage, 1, &sink, NULL, NULL, &m->err);
  return NULL;
}

static void begin(struct mover *m, pthread_t *thread)
{
  struct tm_error err;
  m->stage = tm_rate_stage(m->rate, &err);
  assert_non_null(m->stage);
  assert_int_equal(tm_thread_start(thread, move, m), 0);
}

static void streams_that_share_a_rate_keep_it_together(void **state)
{
  (void)state;
  enum { STREAMS = 3, SLABS = 40 };
  struct tm_rate *rate = new_rate(STREAMS * SLABS * KIB * 4, KIB); /* 0.25 s in all */
  struct mover movers[STREAMS];
  pthread_t threads[STREAMS];
  int64_t begun = tm_clock_mono_ms();
  for (int i = 0; i < STREAMS; i++) {
    movers[i] = (struct mover){.rate = rate, .slabs = SLABS};
    begin(&movers[i], &threads[i]);
  }
  for (int i = 0; i < STREAMS; i++) {
    pthread_join(threads[i], NULL);
    assert_true(movers[i].ok);
    tm_stage_close(movers[i].stage);
  }
  assert_in_range(tm_clock_mono_ms() - begun, 240, 5000); /* at most: a busy machine */
  tm_rate_free(rate);
}

static void cancelling_ends_a_long_wait(void **state)
{
  (void)state;
  struct mover m = {.rate = new_rate(1, 1), .slabs = 2}; /* 17 minutes a slab */
  pthread_t thread;
  int64_t begun = tm_clock_mono_ms();
  begin(&m, &thread);
  m.stage->ops->cancel(m.stage);
  pthread_join(thread, NULL);
  assert_false(m.ok);
  assert_int_equal(m.err.kind, TM_ECANCELED);
  assert_true(tm_clock_mono_ms() - begun < 5000);
  tm_stage_close(m.stage);
  tm_rate_free(m.rate);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_burst_passes_and_then_bytes_wait_for_their_time),
      cmocka_unit_test(a_pause_earns_no_more_than_the_burst),
      cmocka_unit_test(the_burst_is_a_quarter_of_a_second_unless_told),
      cmocka_unit_test(bytes_larger_than_the_burst_pass_too),
      cmocka_unit_test(small_takes_lose_nothing_to_rounding),
      cmocka_unit_test(a_clock_that_starts_anywhere_gives_the_same),
      cmocka_unit_test(no_rate_is_refused),
      cmocka_unit_test(streams_that_share_a_rate_keep_it_together),
      cmocka_unit_test(cancelling_ends_a_long_wait),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
