/*
** rowhash_test.c: rows of COPY data have the sums that PostgreSQL makes of them
**
** The sums were made by PostgreSQL 15 with the query of rowhash.h over the same rows.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "pieces.h"
#include "stream/rowhash.h"

static const char csv[] = "plain,1e+20,0.1,x y\n"
                          ",,,\n"
                          "\"\",NaN,-Infinity,\"(,)\"\n"
                          "\"say \"\"hi\"\"\",-0,1e-40,back\\slash\n"
                          "\"two\nlines\",0.1,1.6777216e+07,\t\n"
                          "žluť 漢 😀,1e-320,3.4e+38,\"\"\"\"\n";
static const char text[] = "žluť 漢 😀\t1e-320\t3.4e+38\t\"\n"
                           "two\\nlines\t0.1\t1.6777216e+07\t\\t\n"
                           "\\N\t\\N\t\\N\t\\N\n"
                           "plain\t1e+20\t0.1\tx y\n"
                           "\tNaN\t-Infinity\t(,)\n"
                           "say \"hi\"\t-0\t1e-40\tback\\\\slash\n";

static void run(struct tm_stage *stage, const char *bytes, size_t len, size_t piece)
{
  struct tm_error err;
  assert_true(pump_pieces(stage, bytes, len, piece, &err));
}

/* ---- stages ---- */

static struct tm_stage *new_stage(const char *format, bool header, bool by_column)
{
  static const char *const columns[] = {"a", "b", "c", "d"};
  static const enum tm_rowhash_type types[] = {TM_ROWHASH_TEXT, TM_ROWHASH_FLOAT8,
                                               TM_ROWHASH_FLOAT4, TM_ROWHASH_TEXT};
  struct tm_rowhash_opts opts = {
      .columns = columns, .types = types, .count = 4, .by_column = by_column};
  struct tm_format_opts f = {.format = format, .header = header};
  struct tm_error err;
  assert_true(tm_format_parse(&opts.format, &f, &err));
  struct tm_stage *stage = tm_rowhash_new(&opts, &err);
  assert_non_null(stage);
  return stage;
}

static struct tm_rowhash_sums sums_of(const struct tm_stage *stage)
{
  struct tm_rowhash_sums sums;
  tm_rowhash_sums(stage, &sums);
  return sums;
}

#define SUM UINT64_C(17642717865054542862)

static void check_sum(const char *format, const char *bytes, size_t piece)
{
  struct tm_stage *stage = new_stage(format, false, false);
  run(stage, bytes, strlen(bytes), piece);
  assert_int_equal(sums_of(stage).rows, 6);
  assert_int_equal(sums_of(stage).unread, 0);
  assert_int_equal(sums_of(stage).sum, SUM);
  tm_stage_close(stage);
}

static void sums_are_those_of_postgresql_whatever_format_order_and_pieces(void **state)
{
  (void)state;
  for (size_t piece = 1; piece < 40; piece++) {
    check_sum("csv", csv, piece);
    check_sum("text", text, piece);
  }
}

static void each_column_has_a_sum_of_its_own(void **state)
{
  (void)state;
  struct tm_stage *stage = new_stage("csv", false, true);
  run(stage, csv, strlen(csv), 1000);
  struct tm_rowhash_sums sums = sums_of(stage);
  assert_int_equal(sums.sum, SUM);
  assert_int_equal(sums.count, 4);
  assert_int_equal(sums.columns[0], UINT64_C(6932023627032548964));
  assert_int_equal(sums.columns[3], UINT64_C(15759913526595015945));
  tm_stage_close(stage);
}

static void one_stage_serves_several_streams_each_with_its_header(void **state)
{
  (void)state;
  struct tm_stage *stage = new_stage("csv", true, false);
  const char *first = "a,b,c,d\nplain,1e+20,0.1,x y\n,,,";
  struct tm_rowhash_sums one, two;
  run(stage, first, strlen(first), 7);
  one = sums_of(stage);
  assert_int_equal(one.rows, 2);
  run(stage, first, strlen(first), 3);
  two = sums_of(stage);
  assert_int_equal(two.rows, 4);
  assert_int_equal(two.sum, 2 * one.sum);
  tm_stage_close(stage);
}

static void rows_that_cannot_be_read_are_counted_and_left_out(void **state)
{
  (void)state;
  struct tm_stage *stage = new_stage("csv", false, false), *good;
  const char *bytes = "plain,1e+20,0.1,x y\n1,2\n1,2,3,4,5\na,b,c,\xff\n", *row = bytes;
  run(stage, bytes, strlen(bytes), 9);
  assert_int_equal(sums_of(stage).rows, 1);
  assert_int_equal(sums_of(stage).unread, 3);
  good = new_stage("csv", false, false);
  run(good, row, strcspn(row, "\n") + 1, 9);
  assert_int_equal(sums_of(stage).sum, sums_of(good).sum);
  tm_stage_close(stage);
  tm_stage_close(good);
}

static void what_is_no_number_is_hashed_as_it_stands(void **state)
{
  (void)state;
  struct tm_stage *a = new_stage("csv", false, false),
                  *b = new_stage("csv", false, false);
  run(a, "x,1.0,2,y\n", 10, 100);
  run(b, "x,1.00,2,y\n", 11, 100); /* the same number */
  assert_int_equal(sums_of(a).sum, sums_of(b).sum);
  run(a, "x,1_0,2,y\n", 10, 100);
  run(b, "x,1_00,2,y\n", 11, 100);
  assert_int_not_equal(sums_of(a).sum, sums_of(b).sum);
  tm_stage_close(a);
  tm_stage_close(b);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sums_are_those_of_postgresql_whatever_format_order_and_pieces),
      cmocka_unit_test(each_column_has_a_sum_of_its_own),
      cmocka_unit_test(one_stage_serves_several_streams_each_with_its_header),
      cmocka_unit_test(rows_that_cannot_be_read_are_counted_and_left_out),
      cmocka_unit_test(what_is_no_number_is_hashed_as_it_stands),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
