/*
** held_test.c: objects that are uploaded but not visible until they are completed, at an ossd
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>

#include "base/clock.h"
#include "oss/objects.h"
#include "ossd_process.h"

enum { PART = 100 << 10, OBJECT = 250 << 10, SLAB = 40 << 10, CLEANUP_MS = 10000 };

/* Of the other two, one stores an upload and one completes it, and neither answers. */
static struct ossd good, mute_put, mute_complete;

static int start_servers(void **state)
{
  static const char *const none[] = {NULL};
  static const char *const put[] = {"drop-put=1", NULL};
  static const char *const done[] = {"complete-drop=1", NULL};
  (void)state;
  ossd_start(&good, none);
  ossd_start(&mute_put, put);
  ossd_start(&mute_complete, done);
  return 0;
}

static int stop_servers(void **state)
{
  (void)state;
  ossd_stop(&good);
  ossd_stop(&mute_put);
  ossd_stop(&mute_complete);
  return 0;
}

/* ---- what the bucket has ---- */

static void assert_empty(struct tm_oss *store)
{
  assert_int_equal(count_objects(store), 0);
  assert_int_equal(count_uploads(store), 0);
}

static bool complete(struct tm_oss *store, struct tm_oss_held *h, struct tm_error *err)
{
  return tm_oss_held_complete(store, h, true, NULL, err);
}

static void drop(struct tm_oss *store, struct tm_oss_held *h)
{
  struct tm_error err;
  assert_true(tm_oss_held_drop(store, h, tm_clock_deadline(CLEANUP_MS), &err));
}

/* ---- writing ---- */

static char byte_at(size_t i)
{
  return (char)('a' + i * 7 % 26 + i / 1000 % 2);
}

/* Writes bytes from .. from + n, in slabs that count as one row each. */
static void write_bytes(struct tm_sink *sink, size_t from, size_t n)
{
  struct tm_error err;
  for (size_t at = from; at < from + n;) {
    size_t some = from + n - at < SLAB ? from + n - at : SLAB;
    struct tm_slab *slab = tm_slab_new(some, &err);
    assert_non_null(slab);
    for (size_t i = 0; i < some; i++)
      slab->data[i] = byte_at(at + i);
    slab->len = slab->raw_bytes = some;
    slab->rows = 1;
    assert_true(sink->ops->write(sink, slab, &err));
    at += some;
  }
}

static char *name_it(void *data, size_t index)
{
  char *key = NULL;
  return asprintf(&key, "%s%zu.csv", (const char *)data, index) < 0 ? NULL : key;
}

static char dir_name[] = "dir/t_";

static struct tm_sink *open_objects(struct tm_oss *store, int64_t object_bytes)
{
  struct tm_error err;
  struct tm_oss_objects_opts o = {.name = name_it,
                                  .name_data = dir_name,
                                  .hold = true,
                                  .object_bytes = object_bytes,
                                  .writer.part_bytes = PART};
  struct tm_sink *sink = tm_oss_objects_open(store, &o, &err);
  assert_non_null(sink);
  return sink;
}

struct held_list {
  struct tm_oss_held **items;
  size_t count;
};

static struct held_list finish(struct tm_sink *sink)
{
  struct tm_error err;
  struct held_list l;
  assert_true(sink->ops->finish(sink, &err));
  assert_true(tm_oss_objects_held(sink, &l.items, &l.count));
  return l;
}

static void free_list(struct held_list *l)
{
  for (size_t i = 0; i < l->count; i++)
    tm_oss_held_free(l->items[i]);
  free(l->items);
}

/* One held object of `n` bytes: small ones are kept, others uploaded. */
static struct tm_oss_held *hold_one(struct tm_oss *store, const char *key, size_t n)
{
  struct tm_error err;
  struct tm_oss_held *h;
  struct tm_oss_meta meta[] = {{(char *)(uintptr_t) "flow", (char *)(uintptr_t) "f1"}};
  struct tm_oss_writer_opts o = {
      .hold = true,
      .part_bytes = PART,
      .put = {.content_type = "text/csv", .meta = meta, .meta_count = 1}};
  struct tm_sink *writer = tm_oss_writer_open(store, key, &o, &err);
  assert_non_null(writer);
  write_bytes(writer, 0, n);
  assert_true(writer->ops->finish(writer, &err));
  assert_true(tm_oss_writer_held(writer, &h));
  assert_int_equal(h->upload_id != NULL, n > PART);
  tm_sink_close(writer);
  return h;
}

static void assert_bytes(struct tm_oss *store, const char *key, size_t from, size_t n)
{
  struct tm_buffer out = {0};
  struct tm_error err;
  assert_true(tm_oss_get(store, key, NULL, 0, &out, NULL, NULL, &err));
  assert_int_equal(out.len, n);
  for (size_t i = 0; i < n; i++)
    assert_int_equal(out.data[i], byte_at(from + i));
  tm_buffer_free(&out);
}

/* ---- the life of what is held ---- */

static void nothing_is_listed_before_it_is_completed(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  struct tm_sink *sink = open_objects(store, OBJECT);
  write_bytes(sink, 0, 3 * OBJECT);
  struct held_list l = finish(sink);
  tm_sink_close(sink);
  assert_true(l.count >= 2);
  assert_int_equal(count_objects(store), 0);
  size_t at = 0;
  for (size_t i = 0; i < l.count; i++) {
    struct tm_oss_held *h = l.items[i];
    char *key = name_it(dir_name, i);
    assert_string_equal(h->key, key);
    assert_int_equal(h->rows, (h->size + SLAB - 1) / SLAB);
    assert_int_equal(h->raw_bytes, h->size);
    assert_true(complete(store, h, &err));
    assert_int_equal(h->state, TM_HELD_COMPLETED);
    assert_int_equal(count_objects(store), i + 1);
    assert_bytes(store, key, at, (size_t)h->size);
    at += (size_t)h->size;
    free(key);
  }
  assert_int_equal(at, 3 * OBJECT);
  assert_int_equal(count_uploads(store), 0);
  for (size_t i = 0; i < l.count; i++)
    drop(store, l.items[i]);
  assert_empty(store);
  free_list(&l);
  tm_oss_close(store);
}

static void completing_twice_is_success(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  for (size_t n = 10; n <= 3 * PART; n += 3 * PART - 10) {
    struct tm_oss_held *h = hold_one(store, "twice", n);
    assert_true(complete(store, h, &err));
    assert_true(complete(store, h, &err));
    assert_bytes(store, "twice", 0, n);
    drop(store, h);
    drop(store, h);
    assert_false(complete(store, h, &err));
    assert_int_equal(err.kind, TM_EUSAGE);
    assert_empty(store);
    tm_oss_held_free(h);
  }
  tm_oss_close(store);
}

static void dropping_leaves_neither_object_nor_upload(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_sink *sink = open_objects(store, OBJECT);
  write_bytes(sink, 0, 3 * OBJECT);
  struct held_list l = finish(sink);
  tm_sink_close(sink);
  assert_true(count_uploads(store) >= 2);
  for (size_t i = 0; i < l.count; i++)
    drop(store, l.items[i]);
  assert_empty(store);
  free_list(&l);
  tm_oss_close(store);
}

static void a_drop_after_its_deadline_tells_what_is_left(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  struct tm_oss_held *h = hold_one(store, "late", 2 * PART);
  assert_false(tm_oss_held_drop(store, h, tm_clock_deadline(0), &err));
  assert_int_equal(err.kind, TM_ETIMEOUT);
  assert_non_null(strstr(err.message, "'late'"));
  assert_int_equal(count_uploads(store), 1);
  drop(store, h);
  assert_empty(store);
  tm_oss_held_free(h);
  tm_oss_close(store);
}

static void a_small_object_keeps_type_and_metadata(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  struct tm_oss_info info;
  struct tm_oss_held *h = hold_one(store, "typed", 10);
  assert_true(complete(store, h, &err));
  assert_true(tm_oss_head(store, "typed", &info, NULL, &err));
  assert_string_equal(info.content_type, "text/csv");
  assert_int_equal(info.meta_count, 1);
  assert_string_equal(info.meta[0].value, "f1");
  assert_string_equal(info.etag, h->etag);
  assert_int_equal(info.crc64, h->crc64);
  tm_oss_info_free(&info);
  drop(store, h);
  tm_oss_held_free(h);
  tm_oss_close(store);
}

static void a_strangers_object_is_neither_replaced_nor_removed(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  assert_true(tm_oss_put(store, "theirs", "hello", 5, NULL, NULL, NULL, &err));
  for (size_t n = 10; n <= 3 * PART; n += 3 * PART - 10) {
    struct tm_oss_held *h = hold_one(store, "theirs", n);
    for (int i = 0; i < 2; i++) {
      assert_false(complete(store, h, &err));
      assert_int_equal(err.kind, TM_EEXISTS);
    }
    drop(store, h);
    assert_int_equal(count_uploads(store), 0);
    assert_int_equal(count_objects(store), 1);
    tm_oss_held_free(h);
  }
  assert_true(tm_oss_delete(store, "theirs", NULL, &err));
  tm_oss_close(store);
}

static void a_cancelled_completion_can_be_dropped(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  struct tm_cancel cancel;
  assert_true(tm_cancel_open(&cancel, &err));
  tm_cancel_fire(&cancel);
  struct tm_oss_held *h = hold_one(store, "cancelled", 2 * PART);
  assert_false(tm_oss_held_complete(store, h, true, &cancel, &err));
  assert_int_equal(err.kind, TM_ECANCELED);
  drop(store, h);
  assert_empty(store);
  tm_oss_held_free(h);
  tm_cancel_close(&cancel);
  tm_oss_close(store);
}

/* ---- lost replies ---- */

/* An object held at a server that will lose the reply, and a store there that asks once, over
** a new connection (one that was kept is tried again by libcurl itself). */
struct loss {
  struct tm_oss *store;
  struct tm_oss_held *held;
  size_t n;
};

static void begin_loss(struct loss *l, size_t n, int attempts)
{
  struct tm_oss_opts o = {.attempts = attempts};
  const struct ossd *server = n > PART ? &mute_complete : &mute_put;
  struct tm_oss *writing = ossd_store(server, NULL);
  *l = (struct loss){ossd_store(server, &o), hold_one(writing, "lost", n), n};
  tm_oss_close(writing);
}

static void end_loss(struct loss *l)
{
  drop(l->store, l->held);
  assert_empty(l->store);
  tm_oss_held_free(l->held);
  tm_oss_close(l->store);
}

static void a_reply_lost_within_a_completion_is_made_up_for(void **state)
{
  (void)state;
  struct tm_error err;
  for (size_t n = 10; n <= 3 * PART; n += 3 * PART - 10) {
    struct loss l;
    begin_loss(&l, n, 3);
    assert_true(complete(l.store, l.held, &err));
    assert_bytes(l.store, "lost", 0, n);
    end_loss(&l);
  }
}

static void a_completion_retried_after_a_lost_reply_is_success(void **state)
{
  (void)state;
  struct tm_error err;
  for (size_t n = 10; n <= 3 * PART; n += 3 * PART - 10) {
    struct loss l;
    begin_loss(&l, n, 1);
    assert_false(complete(l.store, l.held, &err));
    assert_int_equal(l.held->state, TM_HELD_IN_DOUBT);
    assert_true(complete(l.store, l.held, &err));
    assert_int_equal(l.held->state, TM_HELD_COMPLETED);
    assert_bytes(l.store, "lost", 0, n);
    end_loss(&l);
  }
}

static void what_a_lost_reply_had_made_is_dropped(void **state)
{
  (void)state;
  struct tm_error err;
  for (size_t n = 10; n <= 3 * PART; n += 3 * PART - 10) {
    struct loss l;
    begin_loss(&l, n, 1);
    assert_false(complete(l.store, l.held, &err));
    assert_int_equal(count_objects(l.store), 1);
    end_loss(&l);
  }
}

static void a_stranger_found_after_a_lost_reply_is_left_alone(void **state)
{
  (void)state;
  struct tm_error err;
  struct loss l;
  begin_loss(&l, 10, 1);
  assert_false(complete(l.store, l.held, &err));
  struct tm_oss_opts once = {.attempts = 1};
  struct tm_oss *other = ossd_store(&mute_put, &once); /* replaces it, unanswered too */
  assert_false(tm_oss_put(other, "lost", "hello", 5, NULL, NULL, NULL, &err));
  assert_int_equal(err.kind, TM_EIO);
  assert_false(complete(l.store, l.held, &err));
  assert_int_equal(err.kind, TM_EEXISTS);
  drop(l.store, l.held);
  assert_int_equal(count_objects(other), 1);
  assert_true(tm_oss_delete(other, "lost", NULL, &err));
  tm_oss_close(other);
  end_loss(&l);
}

/* ---- the objects sink ---- */

static void small_objects_beyond_the_limit_are_uploads_of_one_part(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  struct tm_oss_objects_opts o = {.name = name_it,
                                  .name_data = dir_name,
                                  .hold = true,
                                  .hold_bytes = 2 * SLAB + 1,
                                  .object_bytes = SLAB,
                                  .writer.part_bytes = PART};
  struct tm_sink *sink = tm_oss_objects_open(store, &o, &err);
  assert_non_null(sink);
  write_bytes(sink, 0, 10 * SLAB);
  struct held_list l = finish(sink);
  tm_sink_close(sink);
  assert_int_equal(l.count, 10);
  for (size_t i = 0; i < l.count; i++) {
    assert_int_equal(l.items[i]->upload_id == NULL, i < 2);
    assert_int_equal(l.items[i]->part_count, i < 2 ? 0 : 1);
  }
  assert_int_equal(count_uploads(store), 8);
  for (size_t i = 0; i < l.count; i++) {
    assert_true(complete(store, l.items[i], &err));
    assert_bytes(store, l.items[i]->key, i * SLAB, SLAB);
    drop(store, l.items[i]);
  }
  assert_empty(store);
  free_list(&l);
  tm_oss_close(store);
}

static void no_rows_make_no_object(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_sink *sink = open_objects(store, OBJECT);
  struct held_list l = finish(sink);
  assert_int_equal(l.count, 0);
  tm_sink_close(sink);
  free_list(&l);
  tm_oss_close(store);
}

static void an_abort_in_the_middle_leaves_nothing(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  for (size_t n = SLAB; n < 4 * OBJECT; n += 3 * SLAB) {
    struct tm_sink *sink = open_objects(store, OBJECT);
    write_bytes(sink, 0, n);
    sink->ops->abort(sink, "test");
    assert_empty(store);
    tm_sink_close(sink);
  }
  tm_oss_close(store);
}

static void abort_uploads(struct tm_oss *store)
{
  struct tm_oss_uploads uploads;
  struct tm_error err;
  assert_true(tm_oss_multipart_uploads(store, "", &uploads, NULL, &err));
  for (size_t i = 0; i < uploads.count; i++)
    assert_true(tm_oss_multipart_abort(store, uploads.items[i].key,
                                       uploads.items[i].upload_id, true, &err));
  tm_oss_uploads_free(&uploads);
}

static void an_abort_waits_once_for_a_store_that_stalls(void **state)
{
  (void)state;
  struct tm_oss_opts o = {.cleanup_timeout_ms = 700};
  struct tm_oss *store = ossd_store(&good, &o);
  struct tm_sink *sink = open_objects(store, OBJECT);
  write_bytes(sink, 0, 12 * OBJECT + 2 * PART); /* the last one has an upload too */
  kill(tm_proc_pid(good.process), SIGSTOP);
  int64_t began = tm_clock_mono_ms();
  sink->ops->abort(sink, "test");
  int64_t spent = tm_clock_mono_ms() - began;
  kill(tm_proc_pid(good.process), SIGCONT);
  assert_in_range(spent, 0, 4 * 700);
  tm_sink_close(sink);
  abort_uploads(store);
  assert_empty(store);
  tm_oss_close(store);
}

static void what_nobody_took_is_dropped_at_close(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  struct tm_sink *sink = open_objects(store, OBJECT);
  write_bytes(sink, 0, 2 * OBJECT);
  assert_true(sink->ops->finish(sink, &err));
  assert_true(count_uploads(store) >= 1);
  tm_sink_close(sink);
  assert_empty(store);
  tm_oss_close(store);
}

static void objects_need_a_prefix_or_a_name(void **state)
{
  (void)state;
  struct tm_oss *store = ossd_store(&good, NULL);
  struct tm_error err;
  struct tm_oss_objects_opts neither = {.hold = true};
  assert_null(tm_oss_objects_open(store, &neither, &err));
  assert_int_equal(err.kind, TM_EUSAGE);
  tm_oss_close(store);
}

static void a_directory_holds_too(void **state)
{
  (void)state;
  char url[300], *root = realpath(good.dir, NULL);
  struct tm_error err;
  snprintf(url, sizeof url, "file://%s/directory", root);
  free(root);
  assert_int_equal(mkdir(url + strlen("file://"), 0777), 0);
  struct tm_oss_opts o = {.url = url};
  struct tm_oss *store = tm_oss_open(&o, &err);
  assert_non_null(store);
  struct tm_oss_held *h = hold_one(store, "k", 3 * PART);
  assert_int_equal(count_objects(store), 0);
  assert_true(complete(store, h, &err));
  assert_bytes(store, "k", 0, 3 * PART);
  drop(store, h);
  assert_empty(store);
  tm_oss_held_free(h);
  tm_oss_close(store);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_is_listed_before_it_is_completed),
      cmocka_unit_test(completing_twice_is_success),
      cmocka_unit_test(dropping_leaves_neither_object_nor_upload),
      cmocka_unit_test(a_drop_after_its_deadline_tells_what_is_left),
      cmocka_unit_test(a_small_object_keeps_type_and_metadata),
      cmocka_unit_test(a_strangers_object_is_neither_replaced_nor_removed),
      cmocka_unit_test(a_cancelled_completion_can_be_dropped),
      cmocka_unit_test(a_reply_lost_within_a_completion_is_made_up_for),
      cmocka_unit_test(a_completion_retried_after_a_lost_reply_is_success),
      cmocka_unit_test(what_a_lost_reply_had_made_is_dropped),
      cmocka_unit_test(a_stranger_found_after_a_lost_reply_is_left_alone),
      cmocka_unit_test(small_objects_beyond_the_limit_are_uploads_of_one_part),
      cmocka_unit_test(no_rows_make_no_object),
      cmocka_unit_test(an_abort_in_the_middle_leaves_nothing),
      cmocka_unit_test(an_abort_waits_once_for_a_store_that_stalls),
      cmocka_unit_test(what_nobody_took_is_dropped_at_close),
      cmocka_unit_test(objects_need_a_prefix_or_a_name),
      cmocka_unit_test(a_directory_holds_too),
  };
  return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
