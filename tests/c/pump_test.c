/*
** pump_test.c: the pump against a scripted source, stages and sink
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/stream.h"

/* A source of `slabs` slabs of one row each; then an end, an error, or a hang. */
struct script_source {
  struct tm_source base;
  int slabs, sent;
  bool fail, hang;
  struct tm_cancel cancel;
};

static int script_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  struct script_source *s = (struct script_source *)self;
  if (s->sent == s->slabs && s->hang)
    return tm_clock_sleep(60000, &s->cancel, err) ? 0 : -1;
  if (s->sent == s->slabs && s->fail) {
    tm_error_set(err, TM_EIO, "the source broke");
    return -1;
  }
  if (s->sent == s->slabs)
    return 0;
  char line[16];
  int n = snprintf(line, sizeof line, "%d\n", s->sent++);
  *out = tm_slab_new((size_t)n, err);
  if (*out == NULL || !tm_slab_add(*out, line, (size_t)n, err))
    return -1;
  (*out)->rows = 1;
  return 1;
}

static void script_cancel(struct tm_source *self)
{
  tm_cancel_fire(&((struct script_source *)self)->cancel);
}

static void script_close(struct tm_source *self)
{
  tm_cancel_close(&((struct script_source *)self)->cancel);
}

static const struct tm_source_ops script_ops = {.name = "script",
                                                .read = script_read,
                                                .cancel = script_cancel,
                                                .close = script_close};

static void open_source(struct script_source *s, int slabs)
{
  *s = (struct script_source){.base.ops = &script_ops, .slabs = slabs};
  struct tm_error err;
  assert_true(tm_cancel_open(&s->cancel, &err));
}

/* A sink that adds up the numbers of its lines. */
struct sum_sink {
  struct tm_sink base;
  long sum;
  int writes, fail_at; /* fail_at: the write that fails, counted from 1; 0: none */
  bool fail_finish, finished, aborted;
  char why[128];
  int delay_ms;
};

static bool sum_write(struct tm_sink *self, struct tm_slab *slab, struct tm_error *err)
{
  struct sum_sink *s = (struct sum_sink *)self;
  char *end = slab->data + slab->len;
  for (char *p = slab->data; p < end; p = (char *)memchr(p, '\n', (size_t)(end - p)) + 1)
    s->sum += strtol(p, NULL, 10);
  tm_slab_free(slab);
  if (s->delay_ms > 0 && !tm_clock_sleep(s->delay_ms, NULL, err))
    return false;
  if (++s->writes == s->fail_at) {
    tm_error_set(err, TM_ESERVER, "the sink broke");
    return false;
  }
  return true;
}

static bool sum_finish(struct tm_sink *self, struct tm_error *err)
{
  struct sum_sink *s = (struct sum_sink *)self;
  if (s->fail_finish) {
    tm_error_set(err, TM_EINDOUBT, "finish broke");
    return false;
  }
  return s->finished = true;
}

static void sum_abort(struct tm_sink *self, const char *why)
{
  struct sum_sink *s = (struct sum_sink *)self;
  s->aborted = true;
  snprintf(s->why, sizeof s->why, "%s", why);
}

static void sum_close(struct tm_sink *self)
{
  (void)self;
}

static const struct tm_sink_ops sum_ops = {.name = "sum",
                                           .write = sum_write,
                                           .finish = sum_finish,
                                           .abort = sum_abort,
                                           .close = sum_close};

/* A stage that hands on, holding one slab back until the end; or fails at a push. */
struct hold_stage {
  struct tm_stage base;
  struct tm_slab *held;
  int pushes, fail_at;
};

static bool hold_push(struct tm_stage *self, struct tm_slab *in, struct tm_emit *out,
                      struct tm_error *err)
{
  struct hold_stage *h = (struct hold_stage *)self;
  if (++h->pushes == h->fail_at) {
    tm_slab_free(in);
    tm_error_set(err, TM_EDATA, "the stage broke");
    return false;
  }
  struct tm_slab *old = h->held;
  h->held = in;
  return old == NULL || tm_emit(out, old, err);
}

static void hold_close(struct tm_stage *self)
{
  tm_slab_free(((struct hold_stage *)self)->held);
  ((struct hold_stage *)self)->held = NULL;
}

static const struct tm_stage_ops hold_ops = {
    .name = "hold", .push = hold_push, .close = hold_close};
static const struct tm_stage_ops caller_ops = {
    .name = "hold", .on_caller = true, .push = hold_push, .close = hold_close};

enum { N = 2000 };
static const long TOTAL = (long)N * (N - 1) / 2;

/* Pumps through two stages and closes all but the sink. */
static bool pump_two(struct script_source *source, struct hold_stage *a,
                     struct hold_stage *b, struct sum_sink *sink,
                     const struct tm_pump_opts *opts, struct tm_pump_stats *stats,
                     struct tm_error *err)
{
  struct tm_stage *stages[] = {&a->base, &b->base};
  bool ok = tm_pump(&source->base, stages, 2, &sink->base, opts, stats, err);
  tm_stage_close(&a->base);
  tm_stage_close(&b->base);
  tm_source_close(&source->base);
  return ok;
}

static void every_row_arrives_and_is_counted(void **state)
{
  (void)state;
  for (int on_caller = 0; on_caller < 2; on_caller++) {
    struct script_source source;
    open_source(&source, N);
    struct hold_stage a = {.base.ops = &hold_ops};
    struct hold_stage b = {.base.ops = on_caller ? &caller_ops : &hold_ops};
    struct sum_sink sink = {.base.ops = &sum_ops};
    struct tm_pump_stats stats;
    struct tm_error err;
    assert_true(pump_two(&source, &a, &b, &sink, NULL, &stats, &err));
    assert_int_equal(sink.sum, TOTAL);
    assert_true(sink.finished);
    assert_false(sink.aborted);
    assert_int_equal(stats.rows_in, N);
    assert_int_equal(stats.rows_out, N);
    assert_int_equal(stats.bytes_in, stats.bytes_out);
  }
}

static void without_stages_it_is_a_copy(void **state)
{
  (void)state;
  struct script_source source;
  open_source(&source, N);
  struct sum_sink sink = {.base.ops = &sum_ops};
  struct tm_error err;
  assert_true(tm_pump(&source.base, NULL, 0, &sink.base, NULL, NULL, &err));
  assert_int_equal(sink.sum, TOTAL);
  tm_source_close(&source.base);
}

/* Runs a line of which one part is broken; the sink must be aborted, never finished. */
static void broken(struct script_source *source, int stage_fail, bool on_caller,
                   struct sum_sink sink, enum tm_kind kind, const char *message)
{
  struct hold_stage a = {.base.ops = on_caller ? &caller_ops : &hold_ops,
                         .fail_at = stage_fail};
  struct hold_stage b = {.base.ops = &hold_ops};
  struct tm_error err;
  assert_false(pump_two(source, &a, &b, &sink, NULL, NULL, &err));
  assert_int_equal(err.kind, kind);
  assert_string_equal(err.message, message);
  assert_false(sink.finished);
  assert_true(sink.aborted);
  assert_string_equal(sink.why, message);
}

static void a_broken_source_aborts_the_sink(void **state)
{
  (void)state;
  struct script_source source;
  open_source(&source, 50);
  source.fail = true;
  broken(&source, 0, false, (struct sum_sink){.base.ops = &sum_ops}, TM_EIO,
         "the source broke");
}

static void a_broken_stage_aborts_the_sink(void **state)
{
  (void)state;
  for (int on_caller = 0; on_caller < 2; on_caller++)
    for (int at = 1; at <= N + 1; at += 500) { /* N + 1 is the push of the end */
      struct script_source source;
      open_source(&source, N);
      broken(&source, at, on_caller, (struct sum_sink){.base.ops = &sum_ops}, TM_EDATA,
             "the stage broke");
    }
}

static void a_broken_sink_wakes_a_source_that_waits(void **state)
{
  (void)state;
  struct script_source source;
  open_source(&source, 20);
  source.hang = true; /* for a minute, unless cancelled */
  int64_t start = tm_clock_mono_ms();
  broken(&source, 0, false, (struct sum_sink){.base.ops = &sum_ops, .fail_at = 3},
         TM_ESERVER, "the sink broke");
  assert_true(tm_clock_mono_ms() - start < 20000);
}

static void a_failed_finish_is_a_failure(void **state)
{
  (void)state;
  struct script_source source;
  open_source(&source, 5);
  broken(&source, 0, false, (struct sum_sink){.base.ops = &sum_ops, .fail_finish = true},
         TM_EINDOUBT, "finish broke");
}

static bool count_reports(void *data, const struct tm_pump_stats *stats,
                          struct tm_error *err)
{
  int *reports = data;
  if (++*reports < 3)
    return true;
  tm_error_set(err, TM_ECANCELED, "enough after %d", stats->rows_in > 0);
  return false;
}

static void progress_is_reported_and_may_stop_the_stream(void **state)
{
  (void)state;
  struct script_source source;
  open_source(&source, N);
  struct hold_stage a = {.base.ops = &hold_ops}, b = {.base.ops = &hold_ops};
  struct sum_sink sink = {.base.ops = &sum_ops, .delay_ms = 1};
  int reports = 0;
  struct tm_pump_opts opts = {
      .progress = count_reports, .data = &reports, .interval_ms = 1};
  struct tm_error err;
  assert_false(pump_two(&source, &a, &b, &sink, &opts, NULL, &err));
  assert_int_equal(reports, 3);
  assert_string_equal(err.message, "enough after 1");
  assert_true(sink.aborted);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_row_arrives_and_is_counted),
      cmocka_unit_test(without_stages_it_is_a_copy),
      cmocka_unit_test(a_broken_source_aborts_the_sink),
      cmocka_unit_test(a_broken_stage_aborts_the_sink),
      cmocka_unit_test(a_broken_sink_wakes_a_source_that_waits),
      cmocka_unit_test(a_failed_finish_is_a_failure),
      cmocka_unit_test(progress_is_reported_and_may_stop_the_stream),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
