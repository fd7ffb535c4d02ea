/*
** zip_test.c: gzip and zstd over memory, cut and damaged at every byte
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver/zip.h"

static const struct tm_zip_opts kinds[] = {
    {.kind = TM_ZIP_GZIP},
    {.kind = TM_ZIP_GZIP, .level = 3},
    {.kind = TM_ZIP_GZIP, .level = 5},
    {.kind = TM_ZIP_GZIP, .level = 9},
    {.kind = TM_ZIP_GZIP, .engine = TM_GZIP_ZLIB},
    {.kind = TM_ZIP_ZSTD},
    {.kind = TM_ZIP_ZSTD, .level = 19},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct tm_buffer sample(size_t n)
{
  struct tm_buffer b = {0};
  for (unsigned i = 0; b.len < n; i++)
    assert_true(tm_buffer_addf(&b, "%u|row %u|%x\n", i, i * 7919, i * 2654435761u));
  b.len = n;
  return b;
}

static void member(const struct tm_zip_opts *o, const struct tm_buffer *in, size_t piece,
                   struct tm_buffer *out)
{
  struct tm_error err;
  struct tm_zipper *z = tm_zipper_new(o, &err);
  assert_non_null(z);
  assert_true(tm_zipper_begin(z, in->len, &err));
  for (size_t i = 0; i < in->len; i += piece) {
    size_t n = in->len - i < piece ? in->len - i : piece;
    assert_true(tm_zipper_add(z, in->data + i, n, out, &err));
  }
  assert_true(tm_zipper_end(z, out, &err));
  tm_zipper_free(z);
}

static bool run(struct tm_unzipper *u, const char *p, size_t n, size_t cap,
                struct tm_buffer *out, struct tm_error *err)
{
  for (;;) {
    assert_true(tm_buffer_reserve(out, cap));
    ptrdiff_t got = tm_unzipper_run(u, &p, &n, out->data + out->len, cap, err);
    if (got < 0)
      return false;
    out->len += (size_t)got;
    if ((size_t)got < cap && n == 0)
      return true;
  }
}

/* Decompresses in[0..cut) and then the rest. */
static bool unzip(const struct tm_zip_opts *o, const struct tm_buffer *in, size_t cut,
                  size_t cap, struct tm_buffer *out, struct tm_error *err)
{
  struct tm_unzipper *u = tm_unzipper_new(o, err);
  assert_non_null(u);
  out->len = 0;
  bool ok = (cut == 0 || run(u, in->data, cut, cap, out, err)) &&
            (cut == in->len || run(u, in->data + cut, in->len - cut, cap, out, err)) &&
            run(u, "", 0, cap, out, err) && tm_unzipper_end(u, err);
  tm_unzipper_free(u);
  return ok;
}

static void assert_same(const struct tm_buffer *a, const struct tm_buffer *b)
{
  assert_int_equal(a->len, b->len);
  assert_true(a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static const struct tm_zip_opts automatic = {.kind = TM_ZIP_AUTO};

static void cut_anywhere_gives_the_same(void **state)
{
  (void)state;
  for (size_t k = 0; k < KINDS; k++) {
    struct tm_buffer in = sample(700), zipped = {0}, out = {0};
    struct tm_error err;
    member(&kinds[k], &in, 100, &zipped);
    for (size_t cut = 0; cut <= zipped.len; cut++) {
      assert_true(unzip(&kinds[k], &zipped, cut, 4096, &out, &err));
      assert_same(&in, &out);
      assert_true(unzip(&automatic, &zipped, cut, 7, &out, &err));
      assert_same(&in, &out);
    }
    tm_buffer_free(&in);
    tm_buffer_free(&zipped);
    tm_buffer_free(&out);
  }
}

static void members_follow_each_other(void **state)
{
  (void)state;
  for (size_t k = 0; k < KINDS; k++) {
    struct tm_buffer in = sample(300), none = {0}, zipped = {0}, out = {0};
    struct tm_error err;
    member(&kinds[k], &in, 300, &zipped);
    member(&kinds[k], &none, 1, &zipped);
    member(&kinds[k], &in, 10, &zipped);
    assert_true(tm_buffer_reserve(&in, in.len));
    assert_true(tm_buffer_add(&in, in.data, in.len)); /* twice the sample */
    for (size_t cut = 0; cut <= zipped.len; cut++) {
      assert_true(unzip(&kinds[k], &zipped, cut, 64, &out, &err));
      assert_same(&in, &out);
    }
    tm_buffer_free(&in);
    tm_buffer_free(&zipped);
    tm_buffer_free(&out);
  }
}

static void cut_short_is_an_error(void **state)
{
  (void)state;
  for (size_t k = 0; k < KINDS; k++) {
    struct tm_buffer in = sample(400), zipped = {0}, out = {0};
    struct tm_error err;
    member(&kinds[k], &in, 400, &zipped);
    size_t full = zipped.len;
    for (zipped.len = 0; zipped.len < full; zipped.len++) {
      assert_false(unzip(&kinds[k], &zipped, 0, 4096, &out, &err));
      assert_int_equal(err.kind, TM_EDATA);
      if (strstr(err.message, zipped.len == 0 ? "empty" : "too early") == NULL)
        fail_msg("%zu of %zu bytes of kind %zu: %s", zipped.len, full, k, err.message);
    }
    tm_buffer_free(&in);
    tm_buffer_free(&zipped);
    tm_buffer_free(&out);
  }
}

static void damage_is_found_or_harmless(void **state)
{
  (void)state;
  for (size_t k = 0; k < KINDS; k++) {
    struct tm_buffer in = sample(400), zipped = {0}, out = {0};
    struct tm_error err;
    size_t found = 0;
    member(&kinds[k], &in, 400, &zipped);
    for (size_t i = 0; i < zipped.len; i++) {
      zipped.data[i] ^= 0x15;
      if (!unzip(&kinds[k], &zipped, 0, 4096, &out, &err))
        found++;
      else
        assert_same(&in, &out); /* the time or the system in a gzip header */
      zipped.data[i] ^= 0x15;
    }
    assert_true(found >= zipped.len - 8);
    tm_buffer_free(&in);
    tm_buffer_free(&zipped);
    tm_buffer_free(&out);
  }
}

static void what_follows_a_member(void **state)
{
  (void)state;
  const struct tm_zip_opts gzip[] = {{.kind = TM_ZIP_GZIP},
                                     {.kind = TM_ZIP_GZIP, .engine = TM_GZIP_ZLIB}};
  for (size_t k = 0; k < 2; k++) {
    struct tm_buffer in = sample(50), zipped = {0}, out = {0};
    struct tm_error err;
    member(&gzip[k], &in, 50, &zipped);
    size_t full = zipped.len;
    assert_true(tm_buffer_add(&zipped, "\0\0\0\0", 4));
    for (size_t cut = 0; cut <= zipped.len; cut++) {
      assert_true(unzip(&gzip[k], &zipped, cut, 4096, &out, &err));
      assert_same(&in, &out);
    }
    assert_true(tm_buffer_adds(&zipped, "x"));
    assert_false(unzip(&gzip[k], &zipped, 0, 4096, &out, &err));
    char expected[200];
    snprintf(expected, sizeof expected,
             "gzip data is corrupt at byte %zu: what follows the last gzip member is not "
             "another one",
             full + 4);
    assert_string_equal(err.message, expected);
    tm_buffer_free(&in);
    tm_buffer_free(&zipped);
    tm_buffer_free(&out);
  }
}

static void plain_input_passes_detection(void **state)
{
  (void)state;
  static const char *const plain[] = {"",       "a",       "\x1f", "\x1fx",     "(",
                                      "(\xb5/", "(\xb5/x", "P*M",  "a,b\n1,2\n"};
  for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
    struct tm_buffer in = {0}, out = {0};
    struct tm_error err;
    assert_true(tm_buffer_adds(&in, plain[i]));
    for (size_t cut = 0; cut <= in.len; cut++) {
      assert_true(unzip(&automatic, &in, cut, 2, &out, &err));
      assert_same(&in, &out);
    }
    tm_buffer_free(&in);
    tm_buffer_free(&out);
  }
}

static void not_compressed_is_refused(void **state)
{
  (void)state;
  for (size_t k = 0; k < KINDS; k++) {
    struct tm_buffer in = sample(100), out = {0};
    struct tm_error err;
    assert_false(unzip(&kinds[k], &in, 0, 4096, &out, &err));
    assert_int_equal(err.kind, TM_EDATA);
    tm_buffer_free(&in);
    tm_buffer_free(&out);
  }
}

static void levels_are_checked(void **state)
{
  (void)state;
  struct tm_error err;
  assert_null(
      tm_zipper_new(&(struct tm_zip_opts){.kind = TM_ZIP_GZIP, .level = 10}, &err));
  assert_string_equal(err.message, "gzip has no level 10");
  assert_null(
      tm_zipper_new(&(struct tm_zip_opts){.kind = TM_ZIP_ZSTD, .level = -1}, &err));
  assert_null(tm_zipper_new(&(struct tm_zip_opts){.kind = TM_ZIP_AUTO}, &err));
}

static void a_large_window_is_refused(void **state)
{
  (void)state;
  struct tm_buffer in = sample(3 << 20), zipped = {0}, out = {0};
  struct tm_zip_opts o = {.kind = TM_ZIP_ZSTD, .window_log_max = 20};
  struct tm_error err;
  member(&(struct tm_zip_opts){.kind = TM_ZIP_ZSTD, .level = 19}, &in, in.len, &zipped);
  assert_false(unzip(&o, &zipped, 0, 1 << 20, &out, &err));
  assert_string_equal(err.message, "zstd data needs a window above the limit of 1 MiB");
  tm_buffer_free(&in);
  tm_buffer_free(&zipped);
  tm_buffer_free(&out);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cut_anywhere_gives_the_same),
      cmocka_unit_test(members_follow_each_other),
      cmocka_unit_test(cut_short_is_an_error),
      cmocka_unit_test(damage_is_found_or_harmless),
      cmocka_unit_test(what_follows_a_member),
      cmocka_unit_test(plain_input_passes_detection),
      cmocka_unit_test(not_compressed_is_refused),
      cmocka_unit_test(levels_are_checked),
      cmocka_unit_test(a_large_window_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
