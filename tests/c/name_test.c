/*
** name_test.c: names of objects that tell the transaction which wrote them
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oss/name.h"

/* A key of ours in each dialect: cluster 123456789012345, statement 7, xid 4294968063. */
#define NUMBER "1234567890123450074294968063"
static const char adbpg[] = "d/t_20261123010203_" NUMBER "_seg-1_0.csv";
static const char rds[] = "d/t_848712345678901_" NUMBER;

static void both_forms_are_read_back(void **state)
{
  struct tm_oss_name n;
  (void)state;
  assert_true(tm_oss_name_parse(adbpg, &n));
  assert_false(n.rds);
  assert_true(n.cluster == UINT64_C(123456789012345));
  assert_int_equal(n.statement, 7);
  assert_true(n.xid == UINT64_C(4294968063));
  assert_int_equal(n.file, 0);
  assert_int_equal(n.head, 3);
  assert_true(tm_oss_name_parse(rds, &n));
  assert_true(n.rds && n.file == 0 && n.head == 3 && n.statement == 7);
  assert_true(tm_oss_name_parse("d/t_848712345678901_" NUMBER ".12", &n));
  assert_int_equal(n.file, 12);
}

static void what_is_written_is_read(void **state)
{
  static const uint64_t xids[] = {3, 999, UINT64_C(1) << 32, UINT64_MAX};
  static const char *const endings[] = {".csv", ".txt", ".csv.gz", ".txt.zst"};
  (void)state;
  for (size_t i = 0; i < sizeof xids / sizeof *xids; i++)
    for (int is_rds = 0; is_rds < 2; is_rds++)
      for (size_t file = 0; file < 3; file++) {
        char number[TM_OSS_NAME_NUMBER], stem[128];
        struct tm_oss_name n;
        tm_oss_name_number(i == 0 ? 0 : TM_OSS_NAME_CLUSTERS - i,
                           (unsigned)(999 * (i % 2)), xids[i], number);
        snprintf(stem, sizeof stem, "dir/%s_%s_%s", "a_b.c",
                 is_rds ? "1" : "20000101000000", number);
        struct tm_oss_name_base base = {is_rds, stem, endings[i]};
        char *key = tm_oss_name_object(&base, file);
        assert_non_null(key);
        assert_true(tm_oss_name_parse(key, &n));
        assert_int_equal(n.rds, is_rds);
        assert_true(n.xid == xids[i] && n.file == file && n.head == strlen("dir/a_b.c"));
        assert_true(n.cluster == (i == 0 ? 0 : TM_OSS_NAME_CLUSTERS - i));
        assert_int_equal(n.statement, 999 * (i % 2));
        free(key);
      }
}

static void the_longest_number_fits(void **state)
{
  char number[TM_OSS_NAME_NUMBER];
  (void)state;
  tm_oss_name_number(TM_OSS_NAME_CLUSTERS - 1, 999, UINT64_MAX, number);
  assert_string_equal(number, "99999999999999999918446744073709551615");
}

static void names_that_nearly_match_are_strangers(void **state)
{
  static const char *const keys[] = {
      "",
      "_",
      ".",
      ".csv",
      "_seg-1_0.csv",
      "d/orders.csv",
      "d/t_20261123010203_1718599661_seg-1_0.csv",           /* the vendor's own */
      "d/t_20261123010203_123456789012345007_seg-1_0.csv",   /* no xid */
      "d/t_20261123010203_1234567890123450070_seg-1_0.csv",  /* xid 0 */
      "d/t_20261123010203_1234567890123450072_seg-1_0.csv",  /* the frozen xid */
      "d/t_20261123010203_12345678901234500707_seg-1_0.csv", /* a leading zero */
      "d/t_2026112301020_" NUMBER "_seg-1_0.csv",            /* 13 digits */
      "d/t_202611230102033_" NUMBER "_seg-1_0.csv",          /* 15 digits */
      "d/t20261123010203_" NUMBER "_seg-1_0.csv",            /* no underscore */
      "d/t_20261123010203_" NUMBER "_seg0_0.csv",            /* another segment */
      "d/t_20261123010203_" NUMBER "_seg-1_00.csv",          /* a leading zero */
      "d/t_20261123010203_" NUMBER "_seg-1_.csv",            /* no file number */
      "d/t_20261123010203_" NUMBER "_seg-1_0.orc",           /* never written here */
      "d/t_20261123010203_" NUMBER "_seg-1_0.csv.gz.gz",
      "d/t_20261123010203_" NUMBER "_seg-1_0.csv.part",
      "d/t_20261123010203_" NUMBER "_seg-1_0.CSV",
      "d/t_20261123010203_" NUMBER "_seg-1_0.csv ",
      "d/t_20261123010203_ " NUMBER "_seg-1_0.csv",
      "d/t_20261123010203_-" NUMBER "_seg-1_0.csv",
      "d/t_20261123010203_" NUMBER "_seg-1_18446744073709551616.csv",
      "d/t_20261123010203_12345678901234500718446744073709551616_seg-1_0.csv",
      "d/t_20261123010203_123456789012345007999999999999999999999999999999_seg-1_0.csv",
      "d/t_848712345678901_" NUMBER ".0", /* file 0 has no ending */
      "d/t_848712345678901_" NUMBER ".01",
      "d/t_848712345678901_" NUMBER ".",
      "d/t_848712345678901_" NUMBER ".1.1",
      "d/t_848712345678901_" NUMBER ".csv",
      "d/t_848712345678901_" NUMBER "_",
      "d/t_048712345678901_" NUMBER,
      "d/t_9223372036854775808_" NUMBER, /* beyond int64 */
      "d/t__" NUMBER,
      "t" NUMBER,
      NUMBER,
  };
  (void)state;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    struct tm_oss_name n;
    if (tm_oss_name_parse(keys[i], &n))
      fail_msg("'%s' was taken for a name of ours", keys[i]);
  }
}

/* But for a digit in place of a digit, which makes another name of ours. */
static void a_key_with_one_byte_changed_is_never_misread(void **state)
{
  char key[sizeof adbpg];
  (void)state;
  for (size_t at = 0; at < strlen(adbpg); at++)
    for (int c = 1; c < 256; c++) {
      struct tm_oss_name n;
      memcpy(key, adbpg, sizeof key);
      if (c == (unsigned char)key[at])
        continue;
      key[at] = (char)c;
      bool is_digit = c >= '0' && c <= '9' && adbpg[at] >= '0' && adbpg[at] <= '9';
      if (tm_oss_name_parse(key, &n) && !is_digit)
        assert_true(at < n.head && n.xid == UINT64_C(4294968063)); /* in the head alone */
    }
}

static void heads_may_hold_names_of_ours(void **state)
{
  char key[256];
  struct tm_oss_name n;
  (void)state;
  snprintf(key, sizeof key, "%s%s", adbpg, strchr(adbpg, '_'));
  assert_true(tm_oss_name_parse(key, &n));
  assert_int_equal(n.head, strlen(adbpg));
  snprintf(key, sizeof key, "_20261123010203_%s_seg-1_4.txt", NUMBER);
  assert_true(tm_oss_name_parse(key, &n) && n.head == 0 && n.file == 4);
}

static void clusters_differ_in_each_of_their_parts(void **state)
{
  uint64_t id[6];
  (void)state;
  assert_true(tm_oss_name_cluster(7, 1, "host", "/data", &id[0]));
  assert_true(tm_oss_name_cluster(8, 1, "host", "/data", &id[1]));
  assert_true(tm_oss_name_cluster(7, 2, "host", "/data", &id[2]));
  assert_true(tm_oss_name_cluster(7, 1, "hose", "/data", &id[3]));
  assert_true(tm_oss_name_cluster(7, 1, "host", "/date", &id[4]));
  for (int i = 1; i < 5; i++)
    assert_true(id[i] != id[0] && id[i] < TM_OSS_NAME_CLUSTERS);
  assert_true(tm_oss_name_cluster(7, 1, "host", "/data", &id[5]));
  assert_true(id[5] == id[0]);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_forms_are_read_back),
      cmocka_unit_test(what_is_written_is_read),
      cmocka_unit_test(the_longest_number_fits),
      cmocka_unit_test(names_that_nearly_match_are_strangers),
      cmocka_unit_test(a_key_with_one_byte_changed_is_never_misread),
      cmocka_unit_test(heads_may_hold_names_of_ours),
      cmocka_unit_test(clusters_differ_in_each_of_their_parts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
