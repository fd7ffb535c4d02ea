/*
** oss_speed_test.c: a store that is slower than asked for
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "ossd_process.h"

enum { SIZE = 1 << 20 }; /* 3.2 seconds, at 16 KiB each 50 ms */

static struct ossd slow;

static int start(void **state)
{
  static const char *const faults[] = {"slow=1", NULL};
  static char bytes[SIZE];
  struct tm_error err;
  (void)state;
  ossd_start(&slow, faults);
  struct tm_oss *store = ossd_store(&slow, NULL);
  assert_true(tm_oss_put(store, "k", bytes, SIZE, NULL, NULL, NULL, &err));
  tm_oss_close(store);
  return 0;
}

static int stop(void **state)
{
  (void)state;
  ossd_stop(&slow);
  return 0;
}

static bool get(const struct tm_oss_opts *opts, struct tm_error *err)
{
  struct tm_oss *store = ossd_store(&slow, opts);
  struct tm_buffer out = {0};
  bool ok = tm_oss_get(store, "k", NULL, 0, &out, NULL, NULL, err);
  assert_true(!ok || out.len == SIZE);
  tm_buffer_free(&out);
  tm_oss_close(store);
  return ok;
}

static void a_rate_below_the_limit_is_a_timeout(void **state)
{
  (void)state;
  struct tm_error err;
  struct tm_oss_opts o = {
      .attempts = 1, .low_speed_limit = 1 << 20, .low_speed_time_s = 1};
  assert_false(get(&o, &err));
  assert_int_equal(err.kind, TM_ETIMEOUT);
}

static void a_rate_above_the_limit_is_fine(void **state)
{
  (void)state;
  struct tm_error err;
  struct tm_oss_opts o = {.attempts = 1,
                          .low_speed_limit = 64 << 10,
                          .low_speed_time_s = 2,
                          .dns_cache_timeout_s = 1};
  assert_true(get(&o, &err));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_rate_below_the_limit_is_a_timeout),
      cmocka_unit_test(a_rate_above_the_limit_is_fine),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
