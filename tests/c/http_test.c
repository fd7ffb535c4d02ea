/*
** http_test.c: a request ends when it is told to, whatever it waits for
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "driver/http.h"

enum { RESOLVE_MS = 3000, TOLD_MS = 200 };

static void wait_ms(int64_t ms)
{
  struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  nanosleep(&ts, NULL);
}

/* In place of the C library's, for libcurl too: a name service that does not answer. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
  (void)name;
  (void)service;
  (void)hints;
  *result = NULL;
  wait_ms(RESOLVE_MS);
  return EAI_AGAIN;
}

static int64_t time_of(const struct tm_http_request *request, enum tm_kind kind)
{
  struct tm_error err;
  struct tm_http_reply reply = {0};
  struct tm_http *http = tm_http_open(&(struct tm_http_opts){0}, &err);
  assert_non_null(http);
  int64_t began = tm_clock_mono_ms();
  assert_false(tm_http_send(http, request, &reply, &err));
  int64_t ms = tm_clock_mono_ms() - began;
  assert_int_equal(err.kind, kind);
  tm_http_reply_free(&reply);
  tm_http_close(http);
  return ms;
}

static void *fire(void *cancel)
{
  wait_ms(TOLD_MS);
  tm_cancel_fire(cancel);
  return NULL;
}

static void a_cancel_does_not_wait_for_the_name_service(void **state)
{
  struct tm_error err;
  struct tm_cancel cancel;
  pthread_t thread;
  (void)state;
  assert_true(tm_cancel_open(&cancel, &err));
  assert_int_equal(tm_thread_start(&thread, fire, &cancel), 0);
  struct tm_http_request request = {
      .method = "GET", .url = "http://name.invalid/", .cancel = &cancel};
  assert_in_range(time_of(&request, TM_ECANCELED), 0, RESOLVE_MS - 500);
  pthread_join(thread, NULL);
  tm_cancel_close(&cancel);
}

static void a_deadline_does_not_wait_for_the_name_service(void **state)
{
  (void)state;
  struct tm_http_request request = {.method = "GET",
                                    .url = "http://name.invalid/",
                                    .deadline_ms = tm_clock_mono_ms() + TOLD_MS};
  assert_in_range(time_of(&request, TM_ETIMEOUT), 0, RESOLVE_MS - 500);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_cancel_does_not_wait_for_the_name_service),
      cmocka_unit_test(a_deadline_does_not_wait_for_the_name_service),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
