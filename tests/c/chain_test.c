/*
** chain_test.c: one stream out of many sources, given while it runs
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "stream/background.h"
#include "stream/chain.h"

enum { LONG_MS = 30000, RANGES = 500, SLABS = 7 };

static const struct tm_error broken = {.kind = TM_EIO, .message = "it broke"};

static bool is_readable(int fd, int timeout_ms)
{
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, timeout_ms) == 1;
}

/* ---- a source of numbers, which tells the test what became of it ---- */

enum ending { ENDS, FAILS, BLOCKS };

struct seen {
  atomic_int begun, closed; /* sources */
};

struct numbers {
  struct tm_source base;
  struct seen *seen;
  int next, stop;
  enum ending ending;
  bool begun, cancelled;
  pthread_mutex_t lock; /* guards cancelled */
  pthread_cond_t changed;
};

static bool was_cancelled(struct numbers *n, bool wait)
{
  pthread_mutex_lock(&n->lock);
  while (wait && !n->cancelled)
    pthread_cond_wait(&n->changed, &n->lock);
  bool cancelled = n->cancelled;
  pthread_mutex_unlock(&n->lock);
  return cancelled;
}

static int numbers_read(struct tm_source *self, struct tm_slab **out,
                        struct tm_error *err)
{
  struct numbers *n = (struct numbers *)self;
  if (!n->begun)
    atomic_fetch_add(&n->seen->begun, 1);
  n->begun = true;
  if (n->next < n->stop && !was_cancelled(n, false)) {
    struct tm_slab *slab = tm_slab_new(sizeof n->next, err);
    assert_non_null(slab);
    assert_true(tm_slab_add(slab, &n->next, sizeof n->next, err));
    slab->rows = 1;
    n->next++;
    *out = slab;
    return 1;
  }
  if (was_cancelled(n, n->ending == BLOCKS)) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return -1;
  }
  *err = broken;
  return n->ending == FAILS ? -1 : 0;
}

static void numbers_cancel(struct tm_source *self)
{
  struct numbers *n = (struct numbers *)self;
  pthread_mutex_lock(&n->lock);
  n->cancelled = true;
  pthread_cond_broadcast(&n->changed);
  pthread_mutex_unlock(&n->lock);
}

static void numbers_close(struct tm_source *self)
{
  struct numbers *n = (struct numbers *)self;
  atomic_fetch_add(&n->seen->closed, 1);
  pthread_mutex_destroy(&n->lock);
  pthread_cond_destroy(&n->changed);
  free(n);
}

/* The numbers [first, stop), one a slab. */
static struct tm_source *numbers(struct seen *seen, int first, int stop,
                                 enum ending ending)
{
  static const struct tm_source_ops ops = {.name = "numbers",
                                           .read = numbers_read,
                                           .cancel = numbers_cancel,
                                           .close = numbers_close};
  struct numbers *n = calloc(1, sizeof *n);
  assert_non_null(n);
  n->base.ops = &ops;
  n->seen = seen;
  n->next = first;
  n->stop = stop;
  n->ending = ending;
  pthread_mutex_init(&n->lock, NULL);
  pthread_cond_init(&n->changed, NULL);
  return &n->base;
}

/* ---- a sink that wants the numbers in order ---- */

struct counter {
  struct tm_sink base;
  int next, stop_at; /* it fails there; 0: never */
  atomic_bool finished, aborted;
};

static bool counter_write(struct tm_sink *self, struct tm_slab *slab,
                          struct tm_error *err)
{
  struct counter *c = (struct counter *)self;
  int n;
  memcpy(&n, slab->data, sizeof n);
  tm_slab_free(slab);
  if (n != c->next++)
    tm_error_set(err, TM_EDATA, "%d came when %d was due", n, c->next - 1);
  else if (c->next == c->stop_at)
    *err = broken;
  else
    return true;
  return false;
}

static bool counter_finish(struct tm_sink *self, struct tm_error *err)
{
  (void)err;
  atomic_store(&((struct counter *)self)->finished, true);
  return true;
}

static void counter_abort(struct tm_sink *self, const char *why)
{
  (void)why;
  atomic_store(&((struct counter *)self)->aborted, true);
}

static void counter_close(struct tm_sink *self)
{
  (void)self; /* the test's */
}

static const struct tm_sink_ops counter_ops = {.name = "counter",
                                               .write = counter_write,
                                               .finish = counter_finish,
                                               .abort = counter_abort,
                                               .close = counter_close};

/* ---- what every test begins with ---- */

struct work {
  struct seen seen;
  struct counter counter;
  struct tm_chain *chain;
  struct tm_background *job;
};

static struct tm_chain *new_chain(void)
{
  struct tm_error err;
  struct tm_chain *ch = tm_chain_new(&err);
  assert_non_null(ch);
  return ch;
}

static void start(struct work *w)
{
  struct tm_error err;
  w->counter.base.ops = &counter_ops;
  w->chain = new_chain();
  w->job = tm_background_start(tm_chain_source(w->chain), NULL, 0, &w->counter.base, NULL,
                               &err);
  assert_non_null(w->job);
}

static void wait_for_hunger(struct work *w)
{
  assert_true(is_readable(tm_chain_fd(w->chain), LONG_MS)); /* else a wake-up was lost */
  assert_true(tm_chain_hungry(w->chain));
}

static void give(struct work *w, int first, int stop, enum ending ending)
{
  struct tm_error err;
  assert_true(tm_chain_give(w->chain, numbers(&w->seen, first, stop, ending), &err));
}

static void join(struct work *w, enum tm_kind kind)
{
  struct tm_error err = {0};
  assert_true(is_readable(tm_background_done_fd(w->job), LONG_MS));
  assert_int_equal(tm_background_join(w->job, NULL, &err), kind == TM_OK);
  assert_int_equal(err.kind, kind);
  assert_int_equal(atomic_load(&w->counter.finished), kind == TM_OK);
  assert_int_equal(atomic_load(&w->counter.aborted), kind != TM_OK);
  tm_background_free(w->job);
  w->job = NULL;
}

/* The ranges from 0 on, of SLABS numbers each. */
static void give_ranges(struct work *w)
{
  for (int i = 0; i < RANGES; i++)
    give(w, i * SLABS, (i + 1) * SLABS, ENDS);
}

/* So many numbers came, and all is well. */
static void end(struct work *w, int count)
{
  tm_chain_end(w->chain);
  join(w, TM_OK);
  assert_int_equal(w->counter.next, count);
  tm_chain_free(w->chain);
}

/* ---- tests ---- */

static void many_sources_given_at_hunger_are_one_stream(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  for (int i = 0; i < RANGES; i++) {
    wait_for_hunger(&w);
    assert_int_equal(atomic_load(&w.seen.closed), i); /* all before are closed */
    give(&w, i * SLABS, (i + 1) * SLABS, ENDS);
  }
  wait_for_hunger(&w);
  end(&w, RANGES * SLABS);
  assert_int_equal(atomic_load(&w.seen.closed), RANGES);
}

static void sources_given_ahead_are_read_in_order(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  give_ranges(&w);
  end(&w, RANGES * SLABS);
}

static void a_chain_of_nothing_ends(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  end(&w, 0);
}

static void the_descriptor_is_readable_exactly_while_it_is_hungry(void **state)
{
  (void)state;
  struct seen seen = {0};
  struct tm_chain *ch = new_chain();
  struct tm_source *source = tm_chain_source(ch);
  struct tm_slab *slab;
  struct tm_error err;
  assert_true(tm_chain_hungry(ch)); /* at birth */
  assert_true(is_readable(tm_chain_fd(ch), 0));
  assert_true(tm_chain_give(ch, numbers(&seen, 0, 1, ENDS), &err));
  assert_false(tm_chain_hungry(ch));
  assert_false(is_readable(tm_chain_fd(ch), 0));
  assert_int_equal(source->ops->read(source, &slab, &err), 1);
  tm_slab_free(slab);
  assert_false(is_readable(tm_chain_fd(ch), 0));
  tm_chain_end(ch);
  assert_int_equal(source->ops->read(source, &slab, &err), 0);
  assert_int_equal(source->ops->read(source, &slab, &err), 0);
  assert_false(is_readable(tm_chain_fd(ch), 0)); /* ended: it wants nothing */
  tm_source_close(source);
  tm_chain_free(ch);
}

static void the_figures_at_hunger_are_of_what_was_given(void **state)
{
  (void)state;
  enum { GIVEN = 20 };
  struct work w = {0};
  start(&w);
  for (int i = 0; i < GIVEN; i++) {
    struct tm_chain_stats stats;
    wait_for_hunger(&w);
    tm_chain_stats(w.chain, &stats);
    assert_int_equal(stats.sources, i);
    assert_int_equal(stats.rows, i * SLABS);
    assert_int_equal(stats.bytes, i * SLABS * (int)sizeof(int));
    give(&w, i * SLABS, (i + 1) * SLABS, ENDS);
  }
  end(&w, GIVEN * SLABS);
}

static void an_error_of_a_source_is_the_chains(void **state)
{
  (void)state;
  struct work w = {0};
  struct tm_error err;
  start(&w);
  give(&w, 0, 5, ENDS);
  give(&w, 5, 8, FAILS);
  struct tm_source *late = numbers(&w.seen, 8, 9, ENDS);
  if (tm_chain_give(w.chain, late, &err)) /* unless it has failed by now */
    tm_chain_end(w.chain);
  else
    assert_int_equal(err.kind, TM_EIO);
  join(&w, TM_EIO);
  assert_int_equal(atomic_load(&w.seen.begun), 2);
  assert_int_equal(atomic_load(&w.seen.closed), 3);
  assert_false(tm_chain_hungry(w.chain));
  assert_false(is_readable(tm_chain_fd(w.chain), 0));
  assert_false(tm_chain_give(w.chain, numbers(&w.seen, 9, 10, ENDS), &err));
  assert_int_equal(err.kind, TM_EIO);
  assert_string_equal(err.message, "it broke");
  assert_int_equal(atomic_load(&w.seen.closed), 4);
  tm_chain_free(w.chain);
}

static void nothing_is_given_after_the_end(void **state)
{
  (void)state;
  struct work w = {0};
  struct tm_error err;
  start(&w);
  tm_chain_end(w.chain);
  assert_false(tm_chain_give(w.chain, numbers(&w.seen, 0, 1, ENDS), &err));
  assert_int_equal(err.kind, TM_EUSAGE);
  assert_int_equal(atomic_load(&w.seen.closed), 1);
  join(&w, TM_OK);
  tm_chain_free(w.chain);
}

static void cancelling_frees_a_chain_that_is_hungry(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  give(&w, 0, 1, ENDS);
  wait_for_hunger(&w);
  tm_background_cancel(w.job);
  join(&w, TM_ECANCELED);
  tm_chain_free(w.chain);
}

static void cancelling_reaches_the_source_being_read(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  give(&w, 0, 3, BLOCKS);
  give(&w, 3, 4, ENDS);
  while (atomic_load(&w.seen.begun) == 0)
    poll(NULL, 0, 1);
  tm_background_cancel(w.job);
  join(&w, TM_ECANCELED);
  assert_int_equal(atomic_load(&w.seen.closed), 2);
  tm_chain_free(w.chain);
}

static void an_owner_that_goes_is_no_end(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  give(&w, 0, 3, BLOCKS);
  tm_chain_free(w.chain);
  join(&w, TM_ECANCELED);
  assert_int_equal(atomic_load(&w.seen.closed), 1);
}

static void an_owner_may_go_after_the_end(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  give_ranges(&w);
  tm_chain_end(w.chain);
  tm_chain_free(w.chain);
  join(&w, TM_OK);
  assert_int_equal(w.counter.next, RANGES * SLABS);
}

static void the_owner_can_fail_it(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  give(&w, 0, 3, BLOCKS);
  tm_chain_fail(w.chain, &broken);
  join(&w, TM_EIO);
  tm_chain_free(w.chain);
}

static void a_sink_that_fails_closes_all_that_was_given(void **state)
{
  (void)state;
  struct work w = {.counter.stop_at = RANGES};
  struct tm_error err;
  start(&w);
  int given = 0;
  bool ok = true;
  for (; ok && given < RANGES; given++)
    ok = tm_chain_give(w.chain,
                       numbers(&w.seen, given * SLABS, (given + 1) * SLABS, ENDS), &err);
  join(&w, TM_EIO);
  assert_int_equal(atomic_load(&w.seen.closed), given);
  tm_chain_free(w.chain);
}

static void a_chain_that_nobody_reads_is_freed(void **state)
{
  (void)state;
  struct work w = {.chain = new_chain()};
  give(&w, 0, 1, ENDS);
  tm_chain_end(w.chain);
  tm_chain_free(w.chain);
  assert_int_equal(atomic_load(&w.seen.closed), 1);
  w.chain = new_chain();
  give(&w, 0, 1, ENDS);
  tm_source_close(tm_chain_source(w.chain));
  assert_int_equal(atomic_load(&w.seen.closed), 2);
  tm_chain_free(w.chain);
}

static void streams_survive_a_job_that_gives_them_back(void **state)
{
  (void)state;
  struct work w = {0};
  start(&w);
  give(&w, 0, 3, ENDS);
  tm_chain_end(w.chain);
  tm_background_release(w.job);
  assert_true(atomic_load(&w.counter.finished) || atomic_load(&w.counter.aborted));
  struct tm_source *source = tm_chain_source(w.chain);
  tm_source_close(source);
  tm_chain_free(w.chain);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_sources_given_at_hunger_are_one_stream),
      cmocka_unit_test(sources_given_ahead_are_read_in_order),
      cmocka_unit_test(a_chain_of_nothing_ends),
      cmocka_unit_test(the_descriptor_is_readable_exactly_while_it_is_hungry),
      cmocka_unit_test(the_figures_at_hunger_are_of_what_was_given),
      cmocka_unit_test(an_error_of_a_source_is_the_chains),
      cmocka_unit_test(nothing_is_given_after_the_end),
      cmocka_unit_test(cancelling_frees_a_chain_that_is_hungry),
      cmocka_unit_test(cancelling_reaches_the_source_being_read),
      cmocka_unit_test(an_owner_that_goes_is_no_end),
      cmocka_unit_test(an_owner_may_go_after_the_end),
      cmocka_unit_test(the_owner_can_fail_it),
      cmocka_unit_test(a_sink_that_fails_closes_all_that_was_given),
      cmocka_unit_test(a_chain_that_nobody_reads_is_freed),
      cmocka_unit_test(streams_survive_a_job_that_gives_them_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
