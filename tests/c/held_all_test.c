/*
** held_all_test.c: many held objects completed or dropped at once, at an ossd
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "driver/crc64.h"
#include "oss/held_all.h"
#include "ossd_process.h"

enum { MANY = 40, CLEANUP_MS = 10000 };

static struct ossd good;

static int start_server(void **state)
{
  static const char *const none[] = {NULL};
  (void)state;
  ossd_start(&good, none);
  return 0;
}

static int stop_server(void **state)
{
  (void)state;
  ossd_stop(&good);
  return 0;
}

/* Small ones, each in memory, and every other one an upload of a part. */
static void make(struct tm_oss *store, struct tm_oss_held_item *items, size_t count,
                 bool uploads)
{
  struct tm_error err;
  for (size_t i = 0; i < count; i++) {
    struct tm_oss_held *h = calloc(1, sizeof *h);
    assert_non_null(h);
    items[i] = (struct tm_oss_held_item){store, h};
    assert_true(asprintf(&h->key, "k%02zu", i) > 0);
    h->bytes = strdup(h->key);
    assert_non_null(h->bytes);
    h->size = 3;
    h->crc64 = tm_crc64(0, h->bytes, 3);
    if (!uploads || i % 2 == 0)
      continue;
    h->parts = calloc(1, sizeof *h->parts);
    h->part_count = 1;
    assert_true(tm_oss_multipart_create(store, h->key, NULL, &h->upload_id, NULL, &err) &&
                tm_oss_multipart_part(store, h->key, h->upload_id, 1, h->bytes, 3,
                                      h->parts, NULL, &err));
  }
}

static void free_all(struct tm_oss_held_item *items, size_t count)
{
  for (size_t i = 0; i < count; i++)
    tm_oss_held_free(items[i].held);
}

static size_t drop_all(const struct tm_oss_held_item *items, size_t count,
                       struct tm_error *err)
{
  return tm_oss_held_drop_all(items, count, tm_clock_deadline(CLEANUP_MS), err);
}

static void all_appear_and_all_are_dropped(void **state)
{
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_oss_held_item items[MANY];
  struct tm_error err;
  (void)state;
  make(store, items, MANY, true);
  assert_int_equal(count_objects(store), 0);
  assert_true(tm_oss_held_complete_all(items, MANY, NULL, &err));
  assert_int_equal(count_objects(store), MANY);
  assert_int_equal(count_uploads(store), 0);
  assert_int_equal(drop_all(items, MANY, &err), 0);
  assert_int_equal(count_objects(store), 0);
  free_all(items, MANY);
  tm_oss_close(store);
}

static void none_is_nothing_to_do(void **state)
{
  struct tm_error err;
  (void)state;
  assert_true(tm_oss_held_complete_all(NULL, 0, NULL, &err));
  assert_int_equal(drop_all(NULL, 0, &err), 0);
}

static void a_failure_ends_it_and_what_came_before_can_be_dropped(void **state)
{
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_oss_held_item items[MANY];
  struct tm_error err;
  (void)state;
  make(store, items, MANY, true);
  assert_true(tm_oss_put(store, "k06", "stranger", 8, NULL, NULL, NULL, &err));
  assert_false(tm_oss_held_complete_all(items, MANY, NULL, &err));
  assert_int_equal(err.kind, TM_EEXISTS);
  size_t completed = 0;
  for (size_t i = 0; i < MANY; i++)
    completed += items[i].held->state == TM_HELD_COMPLETED;
  assert_int_equal(count_objects(store), completed + 1); /* and the stranger's */
  assert_int_equal(drop_all(items, MANY, &err), 0);
  assert_int_equal(count_uploads(store), 0);
  assert_int_equal(count_objects(store), 1);
  assert_true(tm_oss_delete(store, "k06", NULL, &err));
  free_all(items, MANY);
  tm_oss_close(store);
}

static void a_cancelled_one_completes_nothing_more(void **state)
{
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_oss_held_item items[MANY];
  struct tm_cancel cancel;
  struct tm_error err;
  (void)state;
  make(store, items, MANY, true);
  assert_true(tm_cancel_open(&cancel, &err));
  tm_cancel_fire(&cancel);
  assert_false(tm_oss_held_complete_all(items, MANY, &cancel, &err));
  assert_int_equal(err.kind, TM_ECANCELED);
  tm_cancel_close(&cancel);
  assert_int_equal(drop_all(items, MANY, &err), 0);
  assert_int_equal(count_objects(store) + count_uploads(store), 0);
  free_all(items, MANY);
  tm_oss_close(store);
}

static void a_deadline_that_passed_leaves_all_and_says_how_many(void **state)
{
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_oss_held_item items[4];
  struct tm_error err;
  (void)state;
  make(store, items, 4, true);
  assert_int_equal(tm_oss_held_drop_all(items, 4, tm_clock_deadline(0), &err), 2);
  assert_int_equal(err.kind, TM_ETIMEOUT);
  assert_int_equal(count_uploads(store), 2);
  assert_int_equal(drop_all(items, 4, &err), 0);
  assert_int_equal(count_uploads(store), 0);
  free_all(items, 4);
  tm_oss_close(store);
}

/* The second is dead from the start; the first is not made to suffer for it. */
static void a_store_that_is_gone_is_asked_no_more(void **state)
{
  struct tm_oss_opts quick = {.cleanup_timeout_ms = 1000, .connect_timeout_ms = 500};
  struct tm_oss *store = ossd_store(&good, NULL), *gone;
  struct tm_oss_held_item items[2 * MANY];
  struct ossd nobody = {.url = "http://127.0.0.1:1"};
  struct tm_error err;
  (void)state;
  gone = ossd_store(&nobody, &quick);
  make(store, items, 2 * MANY, true);
  for (size_t i = 0; i < MANY; i++)
    items[i].store = gone;
  int64_t before = tm_clock_mono_ms();
  assert_int_equal(drop_all(items, 2 * MANY, &err), MANY / 2);
  assert_true(tm_clock_mono_ms() - before < 5000);
  assert_true(err.kind == TM_ECONNECT || err.kind == TM_ETIMEOUT);
  assert_int_equal(count_uploads(store), MANY / 2);
  for (size_t i = 0; i < MANY; i++)
    items[i].store = store;
  assert_int_equal(drop_all(items, 2 * MANY, &err), 0);
  assert_int_equal(count_uploads(store), 0);
  free_all(items, 2 * MANY);
  tm_oss_close(gone);
  tm_oss_close(store);
}

static void an_upload_whose_id_got_lost_is_found_by_its_key(void **state)
{
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_oss_held *h = calloc(1, sizeof *h);
  struct tm_error err;
  char *lost, *other;
  (void)state;
  assert_true(tm_oss_multipart_create(store, "k", NULL, &lost, NULL, &err));
  assert_true(tm_oss_multipart_create(store, "k2", NULL, &other, NULL, &err));
  h->key = strdup("k");
  h->stray = true;
  assert_true(tm_oss_held_drop(store, h, tm_clock_deadline(CLEANUP_MS), &err));
  assert_int_equal(count_uploads(store), 1); /* the other key's */
  assert_true(tm_oss_multipart_abort(store, "k2", other, false, &err));
  tm_oss_held_free(h);
  free(lost);
  free(other);
  tm_oss_close(store);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_appear_and_all_are_dropped),
      cmocka_unit_test(none_is_nothing_to_do),
      cmocka_unit_test(a_failure_ends_it_and_what_came_before_can_be_dropped),
      cmocka_unit_test(a_cancelled_one_completes_nothing_more),
      cmocka_unit_test(a_deadline_that_passed_leaves_all_and_says_how_many),
      cmocka_unit_test(a_store_that_is_gone_is_asked_no_more),
      cmocka_unit_test(an_upload_whose_id_got_lost_is_found_by_its_key),
  };
  return cmocka_run_group_tests(tests, start_server, stop_server);
}
