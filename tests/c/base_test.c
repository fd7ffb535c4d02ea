/*
** base_test.c: errors, buffers, queues, threads, cancel tokens and waiting
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/queue.h"
#include "base/thread.h"

/* ---- error ---- */

static void a_message_is_one_line(void **state)
{
  (void)state;
  struct tm_error err;
  tm_error_set(&err, TM_ESQL, "first\nsecond\t%s\n", "third");
  assert_string_equal(err.message, "first second third");
  tm_error_set(&err, TM_ESQL, "again: %s", err.message); /* may quote itself */
  assert_string_equal(err.message, "again: first second third");
}

static void a_detail_gathers_lines_and_never_overflows(void **state)
{
  (void)state;
  struct tm_error err;
  tm_error_set(&err, TM_EDATA, "x");
  tm_error_detail(&err, "one");
  tm_error_detail(&err, "two");
  assert_string_equal(err.detail, "one\ntwo");
  for (int i = 0; i < 200; i++)
    tm_error_detail(&err, "a line of some forty characters, number %d", i);
  assert_true(strlen(err.detail) < sizeof err.detail);
}

static void a_prefix_tells_the_place(void **state)
{
  (void)state;
  struct tm_error err;
  tm_error_set(&err, TM_EIO, "cut");
  tm_error_hint(&err, "try again");
  tm_error_prefix(&err, "object '%s'", "a/b");
  assert_string_equal(err.message, "object 'a/b': cut");
  assert_string_equal(err.hint, "try again");
}

static void every_kind_has_a_name_that_leads_back(void **state)
{
  (void)state;
  for (int k = TM_EMEMORY; k <= TM_ESYSTEM; k++) {
    assert_int_equal(tm_kind_by_name(tm_kind_name(k)), k);
    assert_int_not_equal(tm_kind_exit_code(k), 0);
  }
  assert_int_equal(tm_kind_by_name("no such kind"), TM_OK);
}

/* ---- buffer ---- */

static void a_buffer_grows_and_shrinks(void **state)
{
  (void)state;
  struct tm_buffer b = {0};
  for (int i = 0; i < 1000; i++)
    assert_true(tm_buffer_addf(&b, "%d,", i));
  assert_memory_equal(b.data, "0,1,2,3,", 8);
  tm_buffer_consume(&b, 8);
  assert_memory_equal(b.data, "4,5,", 4);
  tm_buffer_consume(&b, SIZE_MAX);
  assert_int_equal(b.len, 0);
  assert_string_equal(tm_buffer_cstr(&b), "");
  assert_false(tm_buffer_reserve(&b, SIZE_MAX - 1));
  tm_buffer_free(&b);
  tm_buffer_free(&b);
}

/* ---- queue ---- */

static int dropped;

static void count_drop(void *item)
{
  (void)item;
  dropped++;
}

static void a_full_queue_turns_the_sender_away_in_time(void **state)
{
  (void)state;
  struct tm_queue *q = tm_queue_new(2, count_drop);
  int x;
  assert_int_equal(tm_queue_send(q, &x, 0), TM_QUEUE_OK);
  assert_int_equal(tm_queue_send(q, &x, 0), TM_QUEUE_OK);
  assert_int_equal(tm_queue_send(q, &x, 20), TM_QUEUE_TIMEOUT);
  dropped = 0;
  tm_queue_free(q);
  assert_int_equal(dropped, 2);
}

static void an_ended_queue_is_drained_first(void **state)
{
  (void)state;
  struct tm_queue *q = tm_queue_new(4, count_drop);
  int x;
  void *item = NULL;
  assert_int_equal(tm_queue_send(q, &x, -1), TM_QUEUE_OK);
  tm_queue_end(q);
  assert_int_equal(tm_queue_send(q, &x, -1), TM_QUEUE_ABORTED);
  assert_int_equal(tm_queue_receive(q, &item, -1), TM_QUEUE_OK);
  assert_ptr_equal(item, &x);
  assert_int_equal(tm_queue_receive(q, &item, -1), TM_QUEUE_END);
  tm_queue_free(q);
}

static void an_abort_is_never_an_end(void **state)
{
  (void)state;
  struct tm_queue *q = tm_queue_new(4, count_drop);
  int x;
  void *item = NULL;
  dropped = 0;
  assert_int_equal(tm_queue_send(q, &x, -1), TM_QUEUE_OK);
  tm_queue_end(q);
  tm_queue_abort(q);
  assert_int_equal(dropped, 1);
  assert_int_equal(tm_queue_receive(q, &item, -1), TM_QUEUE_ABORTED);
  tm_queue_free(q);
}

static void *sum_items(void *arg)
{
  struct tm_queue *q = arg;
  uintptr_t sum = 0;
  void *item;
  while (tm_queue_receive(q, &item, -1) == TM_QUEUE_OK)
    sum += (uintptr_t)item;
  return (void *)sum;
}

static void every_item_arrives_once(void **state)
{
  (void)state;
  struct tm_queue *q = tm_queue_new(3, count_drop);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, sum_items, q), 0);
  uintptr_t sent = 0;
  for (uintptr_t i = 1; i <= 10000; i++) {
    sent += i;
    assert_int_equal(tm_queue_send(q, (void *)i, -1), TM_QUEUE_OK);
  }
  tm_queue_end(q);
  uintptr_t received = 0;
  for (int i = 0; i < 2; i++) {
    void *sum;
    pthread_join(threads[i], &sum);
    received += (uintptr_t)sum;
  }
  assert_int_equal(received, sent);
  tm_queue_free(q);
}

/* ---- threads ---- */

static void *ask_mask(void *arg)
{
  pthread_sigmask(SIG_SETMASK, NULL, arg);
  return NULL;
}

static void no_signal_is_delivered_to_a_thread(void **state)
{
  (void)state;
  sigset_t mask, before, after;
  pthread_t thread;
  ask_mask(&before);
  assert_int_equal(tm_thread_start(&thread, ask_mask, &mask), 0);
  pthread_join(thread, NULL);
  ask_mask(&after);
  static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGCHLD, SIGQUIT};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    assert_int_equal(sigismember(&mask, numbers[i]), 1);
    assert_int_equal(sigismember(&after, numbers[i]), sigismember(&before, numbers[i]));
  }
}

/* ---- cancel and clock ---- */

static void *fire_soon(void *arg)
{
  usleep(20000);
  tm_cancel_fire(arg);
  return NULL;
}

static void firing_wakes_a_sleeper(void **state)
{
  (void)state;
  struct tm_cancel c;
  struct tm_error err;
  pthread_t thread;
  assert_true(tm_cancel_open(&c, &err));
  assert_int_equal(pthread_create(&thread, NULL, fire_soon, &c), 0);
  int64_t start = tm_clock_mono_ms();
  assert_false(tm_clock_sleep(30000, &c, &err));
  assert_int_equal(err.kind, TM_ECANCELED);
  assert_true(tm_clock_mono_ms() - start < 10000);
  pthread_join(thread, NULL);
  assert_false(tm_clock_sleep(0, &c, &err)); /* a token stays fired */
  tm_cancel_close(&c);
  tm_cancel_close(&c);
}

static void poll_tells_readiness_from_timeout(void **state)
{
  (void)state;
  int fds[2];
  struct tm_error err;
  assert_int_equal(pipe(fds), 0);
  assert_int_equal(tm_clock_poll(fds[0], POLLIN, 10, NULL, &err), 0);
  assert_int_equal(write(fds[1], "x", 1), 1);
  assert_int_equal(tm_clock_poll(fds[0], POLLIN, -1, NULL, &err), POLLIN);
  close(fds[0]);
  close(fds[1]);
}

static void a_deadline_is_never_negative_unless_there_is_none(void **state)
{
  (void)state;
  assert_int_equal(tm_clock_deadline(-1), -1);
  assert_int_equal(tm_clock_left(-1), -1);
  assert_int_equal(tm_clock_left(tm_clock_mono_ms() - 50), 0);
  assert_in_range(tm_clock_left(tm_clock_deadline(60000)), 1, 60000);
}

static void backoff_stays_under_its_cap(void **state)
{
  (void)state;
  for (int i = 0; i < 200; i++) {
    int64_t ms = tm_clock_backoff_ms(i, 200, 20000);
    assert_in_range(ms, 0, 20000);
    assert_in_range(tm_clock_backoff_ms(0, 200, 20000), 0, 200);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_message_is_one_line),
      cmocka_unit_test(a_detail_gathers_lines_and_never_overflows),
      cmocka_unit_test(a_prefix_tells_the_place),
      cmocka_unit_test(every_kind_has_a_name_that_leads_back),
      cmocka_unit_test(a_buffer_grows_and_shrinks),
      cmocka_unit_test(a_full_queue_turns_the_sender_away_in_time),
      cmocka_unit_test(an_ended_queue_is_drained_first),
      cmocka_unit_test(an_abort_is_never_an_end),
      cmocka_unit_test(every_item_arrives_once),
      cmocka_unit_test(firing_wakes_a_sleeper),
      cmocka_unit_test(no_signal_is_delivered_to_a_thread),
      cmocka_unit_test(poll_tells_readiness_from_timeout),
      cmocka_unit_test(a_deadline_is_never_negative_unless_there_is_none),
      cmocka_unit_test(backoff_stays_under_its_cap),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
