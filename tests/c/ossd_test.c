/*
** ossd_test.c: requests, ranges, names and records of the development object store
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ossd/request.h"

static const char *const suffixes[] = {"localhost", NULL};

/* Parses with one Host header; the refusal's code, or "" when it was taken. */
static const char *parse(const char *uri, const char *host, struct tm_ossd_request *r,
                         struct tm_error *err)
{
  struct tm_pair headers[] = {{"Host", host}};
  *r = (struct tm_ossd_request){0};
  return tm_ossd_request_parse("GET", uri, headers, 1, suffixes, r, err) ? "" : err->code;
}

static void bucket_and_key_come_from_path_or_host(void **state)
{
  static const struct {
    const char *uri, *host, *bucket, *key;
  } cases[] = {
      {"/", "127.0.0.1:9", "", ""},
      {"/buck", "127.0.0.1:9", "buck", ""},
      {"/buck/", "127.0.0.1", "buck", ""},
      {"/buck/a%20b+c//d/", "x", "buck", "a b+c//d/"},
      {"/buck/../x?y", "x", "buck", "../x"},
      {"/k/%2e%2e", "buck.localhost:1", "buck", "k/.."},
      {"/", "buck.LOCALHOST", "buck", ""},
      {"/buck/k", "localhost", "buck", "k"},
      {"/k", "b.c.s3.us-east-1.amazonaws.com", "b.c", "k"},
      {"/buck/k", "s3.us-east-1.amazonaws.com", "buck", "k"},
      {"/k", "buck.oss-cn-x-internal.aliyuncs.com", "buck", "k"},
      {"/k", "buck.s3.oss-cn-x.aliyuncs.com", "buck", "k"},
      {"http://h/buck/k", "h", "buck", "k"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct tm_ossd_request r;
    struct tm_error err;
    assert_string_equal(parse(cases[i].uri, cases[i].host, &r, &err), "");
    assert_string_equal(r.bucket, cases[i].bucket);
    assert_string_equal(r.key, cases[i].key);
    tm_ossd_request_free(&r);
  }
}

static void malformed_targets_are_refused(void **state)
{
  static const char *const cases[][2] = {
      {"/buck/%", "InvalidURI"},
      {"/buck/%0", "InvalidURI"},
      {"/buck/a%00b", "InvalidURI"},
      {"buck/k", "InvalidURI"},
      {"/buck?%zz=1", "InvalidURI"},
      {"/BUCK/k", "InvalidBucketName"},
      {"/../k", "InvalidBucketName"},
      {"/a%2fb/k", "InvalidBucketName"},
      {"/buck//k", "InvalidObjectName"},
      {"/ab/k", "InvalidBucketName"},
      {"/buck?Signature=1&OSSAccessKeyId=2&X-Amz-Signature=3", "InvalidArgument"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct tm_ossd_request r;
    struct tm_error err;
    assert_string_equal(parse(cases[i][0], "h", &r, &err), cases[i][1]);
    tm_ossd_request_free(&r);
  }
}

static void query_parameters_are_decoded_once(void **state)
{
  struct tm_ossd_request r;
  struct tm_error err;
  (void)state;
  assert_string_equal(parse("/buck?a=%2541+b&uploads&c=&&d=1=2", "h", &r, &err), "");
  assert_int_equal(r.query_count, 4);
  assert_string_equal(tm_ossd_param(&r, "a"), "%41+b");
  assert_string_equal(tm_ossd_param(&r, "uploads"), "");
  assert_null(r.query[1].value);
  assert_string_equal(r.query[2].value, "");
  assert_string_equal(tm_ossd_param(&r, "d"), "1=2");
  assert_null(tm_ossd_param(&r, "e"));
  tm_ossd_request_free(&r);
}

static void a_range_is_read_as_each_vendor_does(void **state)
{
  static const struct {
    const char *text;
    uint64_t size;
    bool strict;
    enum tm_ossd_range range;
    uint64_t first, length;
  } cases[] = {
      {"bytes=0-0", 10, true, TM_OSSD_PARTIAL, 0, 1},
      {"bytes=3-", 10, false, TM_OSSD_PARTIAL, 3, 7},
      {"bytes=-4", 10, false, TM_OSSD_PARTIAL, 6, 4},
      {"bytes=-99", 10, true, TM_OSSD_PARTIAL, 0, 10},
      {"bytes=-99", 10, false, TM_OSSD_WHOLE, 0, 10},
      {"bytes=5-99", 10, true, TM_OSSD_PARTIAL, 5, 5},
      {"bytes=5-99", 10, false, TM_OSSD_WHOLE, 0, 10},
      {"bytes=10-", 10, true, TM_OSSD_UNSATISFIABLE, 0, 10},
      {"bytes=10-", 10, false, TM_OSSD_WHOLE, 0, 10},
      {"bytes=-0", 10, true, TM_OSSD_UNSATISFIABLE, 0, 10},
      {"bytes=0-0", 0, true, TM_OSSD_UNSATISFIABLE, 0, 0},
      {"bytes=5-4", 10, true, TM_OSSD_WHOLE, 0, 10},
      {"bytes=0-1,3-4", 10, true, TM_OSSD_WHOLE, 0, 10},
      {"bytes=99999999999999999999-", 10, true, TM_OSSD_WHOLE, 0, 10},
      {"items=0-1", 10, true, TM_OSSD_WHOLE, 0, 10},
      {NULL, 10, true, TM_OSSD_WHOLE, 0, 10},
  };
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint64_t first, length;
    assert_int_equal(tm_ossd_range_parse(cases[i].text, cases[i].size, cases[i].strict,
                                         &first, &length),
                     cases[i].range);
    if (cases[i].range == TM_OSSD_UNSATISFIABLE)
      continue;
    assert_int_equal(first, cases[i].first);
    assert_int_equal(length, cases[i].length);
  }
}

static void names_of_files_never_hold_the_key(void **state)
{
  static const char *const keys[] = {"..", "/etc/passwd", "a", "A", "\x01\xff"};
  char path[TM_OSSD_PATH], last[TM_OSSD_PATH] = "";
  (void)state;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    assert_true(tm_ossd_object_path("buck", keys[i], path));
    assert_int_equal(strlen(path), strlen("buck/objects/00/") + 62);
    assert_int_equal(strspn(path + 13, "0123456789abcdef/"), 65);
    assert_string_not_equal(path, last);
    memcpy(last, path, sizeof last);
  }
}

static void a_record_is_read_as_it_was_written(void **state)
{
  struct tm_ossd_record *r = calloc(2, sizeof *r), *again = r + 1;
  struct tm_buffer b = {0};
  struct tm_error err;
  (void)state;
  snprintf(r->key, sizeof r->key, "k\n %%\xff");
  snprintf(r->etag, sizeof r->etag, "00ff-2");
  r->size = 7;
  r->crc = UINT64_MAX;
  r->has_crc = true;
  r->mtime = 1700000000;
  snprintf(r->upload, sizeof r->upload, "%032d", 1);
  assert_true(tm_ossd_record_add(r, "meta-x y", "a\nb", 3));
  r->segments = calloc(2, sizeof *r->segments);
  r->segments[0] = (struct tm_ossd_segment){1, 3};
  r->segments[1] = (struct tm_ossd_segment){10000, 4};
  r->segment_count = 2;
  assert_true(tm_buffer_adds(&b, "bytes before"));
  assert_true(tm_ossd_record_write(r, &b));
  assert_true(tm_ossd_record_parse(b.data, b.len, again, &err));
  assert_string_equal(again->key, r->key);
  assert_int_equal(again->crc, r->crc);
  assert_string_equal(again->upload, r->upload);
  assert_string_equal(tm_ossd_record_header(again, "meta-x y"), "a\nb");
  assert_int_equal(again->segments[1].size, 4);
  tm_ossd_record_free(again);
  for (size_t i = 12; i < b.len; i++) { /* any damaged byte is noticed */
    b.data[i] ^= 1;
    *again = (struct tm_ossd_record){0};
    assert_false(tm_ossd_record_parse(b.data, b.len, again, &err));
    tm_ossd_record_free(again);
    b.data[i] ^= 1;
  }
  for (size_t n = 0; n < b.len; n++) { /* and any cut */
    *again = (struct tm_ossd_record){0};
    assert_false(tm_ossd_record_parse(b.data, n, again, &err));
    tm_ossd_record_free(again);
  }
  tm_ossd_record_free(r);
  tm_buffer_free(&b);
  free(r);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bucket_and_key_come_from_path_or_host),
      cmocka_unit_test(malformed_targets_are_refused),
      cmocka_unit_test(query_parameters_are_decoded_once),
      cmocka_unit_test(a_range_is_read_as_each_vendor_does),
      cmocka_unit_test(names_of_files_never_hold_the_key),
      cmocka_unit_test(a_record_is_read_as_it_was_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
