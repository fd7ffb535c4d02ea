/*
** split_test.c: records of csv and text objects end where COPY says, whatever the pieces
*/
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "stream/split.h"

struct look { /* how a case reads its input */
  bool csv;
  char quote, escape;
  enum tm_split_bytes bytes;
};

static const struct look csv = {true, '"', '"', TM_SPLIT_SAFE};
static const struct look backslash = {true, '"', '\\', TM_SPLIT_SAFE};
static const struct look text = {false, '"', '"', TM_SPLIT_SAFE};

static void add(char *out, size_t size, const struct tm_split_record *r)
{
  size_t n = strlen(out);
  static const char *const faults[] = {"", " cr", " lf"};
  snprintf(out + n, size - n, "%s%lld@%lld+%lld-%d%s%s", n > 0 ? "; " : "",
           (long long)r->line, (long long)r->offset, (long long)r->size, r->newline,
           r->marker ? " end" : "", faults[r->fault]);
}

/* Each record as LINE@OFFSET+SIZE-NEWLINE. */
static void describe(const struct look *look, const char *in, size_t len, size_t piece,
                     char *out, size_t size)
{
  struct tm_splitter s;
  tm_split_start(&s, look->csv, look->quote, look->escape, look->bytes);
  out[0] = '\0';
  for (size_t at = 0; at < len;) {
    size_t n = len - at < piece ? len - at : piece, used;
    if (tm_split_next(&s, in + at, n, &used))
      add(out, size, &s.record);
    else
      assert_int_equal(used, n);
    at += used;
  }
  if (tm_split_end(&s))
    add(out, size, &s.record);
  assert_false(tm_split_end(&s));
}

static void check_bytes(const struct look *look, const char *in, size_t len,
                        const char *want)
{
  char got[512];
  for (size_t piece = 1; piece <= len + 1; piece++) {
    describe(look, in, len, piece, got, sizeof got);
    assert_string_equal(got, want);
  }
}

static void check(const struct look *look, const char *in, const char *want)
{
  check_bytes(look, in, strlen(in), want);
}

static void test_lines_are_records(void **state)
{
  (void)state;
  check(&csv, "", "");
  check(&csv, "\n", "1@0+1-1");
  check(&csv, "a,b\n", "1@0+4-1");
  check(&csv, "a\n\nb", "1@0+2-1; 2@2+1-1; 3@3+1-0");
  check(&text, "a\tb\nc\n", "1@0+4-1; 2@4+2-1");
}

static void test_the_first_line_end_counts(void **state)
{
  (void)state;
  check(&csv, "a\r\nb\r\n", "1@0+3-2; 2@3+3-2");
  check(&csv, "a\rb\rc", "1@0+2-1; 2@2+2-1; 3@4+1-0");
  check(&csv, "a\r", "1@0+2-1");
  check(&csv, "\r\r\n", "1@0+1-1; 2@1+1-1; 3@2+1-1 lf");
  check(&text, "a\r\nb", "1@0+3-2; 2@3+1-0");
}

static void test_a_stray_newline_ends_its_record_a_stray_return_does_not(void **state)
{
  (void)state;
  check(&csv, "a\nb\r\nc\n", "1@0+2-1; 2@2+3-1 cr; 3@5+2-1");
  check(&csv, "a\r\nb\nc\r\n", "1@0+3-2; 2@3+2-1 lf; 3@5+3-2");
  check(&csv, "a\r\nb\rc\r\nd\r\n", "1@0+3-2; 2@3+5-2 cr; 3@8+3-2");
  check(&csv, "a\r\nb\r", "1@0+3-2; 2@3+2-0 cr");
  check(&csv, "a\rb\nc\r", "1@0+2-1; 2@2+2-1 lf; 2@4+2-1");
}

static void test_quotes_keep_line_ends(void **state)
{
  (void)state;
  check(&csv, "\"a\nb\",c\nd\n", "1@0+8-1; 3@8+2-1");
  check(&csv, "\"a\r\nb\"\r\nc\r\n", "1@0+8-2; 3@8+3-2");
  check(&csv, "\"a\rb\"\rc\r", "1@0+6-1; 3@6+2-1");
  check(&csv, "\"a\"\"\n\"\"b\"\nc\n", "1@0+10-1; 3@10+2-1");
  check(&csv, "a\"b\nc\"d\ne\n", "1@0+8-1; 3@8+2-1");
}

static void test_an_escape_takes_the_quote(void **state)
{
  (void)state;
  check(&backslash, "\"a\\\"\nb\"\nc\n", "1@0+8-1; 3@8+2-1");
  check(&backslash, "\"a\\\\\"\nb\n", "1@0+6-1; 2@6+2-1");
  check(&backslash, "a\\\nb\n", "1@0+3-1; 2@3+2-1");
}

static void test_an_unterminated_quote_takes_the_rest(void **state)
{
  (void)state;
  check(&csv, "a\nb,\"c\nd\ne\n", "1@0+2-1; 2@2+9-0");
  struct tm_splitter s;
  size_t used;
  tm_split_start(&s, true, '"', '"', TM_SPLIT_SAFE);
  assert_false(tm_split_next(&s, "\"a\n", 3, &used));
  assert_true(tm_split_next(&s, "\"\n", 2, &used));
}

static void test_a_backslash_of_text_takes_what_follows(void **state)
{
  (void)state;
  check(&text, "a\\\nb\nc\n", "1@0+5-1; 3@5+2-1");
  check(&text, "a\\\\\nb\n", "1@0+4-1; 2@4+2-1");
  check(&text, "\"a\nb\n", "1@0+3-1; 2@3+2-1");
}

static void test_the_marker_is_alone_on_its_line(void **state)
{
  (void)state;
  check(&csv, "a\n\\.\nb\n", "1@0+2-1; 2@2+3-1 end; 3@5+2-1");
  check(&csv, "\\.\r\n", "1@0+4-2 end");
  check(&csv, "\\.\r", "1@0+3-1 end");
  check(&csv, "\\.,a\n", "1@0+5-1");
  check(&csv, "\\.", "1@0+2-0");
  check(&csv, "\"\\.\"\n", "1@0+5-1");
  check(&csv, "a\r\n\\.\n", "1@0+3-2; 2@3+3-1 lf");
  check(&text, "a\n\\.\n", "1@0+2-1; 2@2+3-1 end");
  check(&text, "a\\.\nb\n", "1@0+4-1; 2@4+2-1");
  check(&text, "\\\\.\n", "1@0+4-1");
}

static void test_a_trail_that_looks_like_ascii_means_nothing(void **state)
{
  (void)state;
  struct look gbk = {false, '"', '"', TM_SPLIT_TRAILS};
  struct look sjis = {false, '"', '"', TM_SPLIT_SJIS};
  check(&gbk, "\x81\\\nb\n", "1@0+3-1; 2@3+2-1");
  check(&gbk, "\\\x81\\\nb\n", "1@0+4-1; 2@4+2-1");
  check(&text, "\x81\\\nb\n", "1@0+5-1");
  check(&sjis, "\xb1\\\nb\n", "1@0+5-1"); /* a katakana of one byte, then a backslash */
  check(&sjis, "\x83\\\nb\n", "1@0+3-1; 2@3+2-1");
  check(&gbk, "\x81\nb\n",
        "1@0+2-1; 2@2+2-1"); /* a broken character: the line still ends */
}

static void test_zero_bytes_are_data(void **state)
{
  (void)state;
  check_bytes(&csv, "a\0\nb\n", 5, "1@0+3-1; 2@3+2-1");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lines_are_records),
      cmocka_unit_test(test_the_first_line_end_counts),
      cmocka_unit_test(test_a_stray_newline_ends_its_record_a_stray_return_does_not),
      cmocka_unit_test(test_quotes_keep_line_ends),
      cmocka_unit_test(test_an_escape_takes_the_quote),
      cmocka_unit_test(test_an_unterminated_quote_takes_the_rest),
      cmocka_unit_test(test_a_backslash_of_text_takes_what_follows),
      cmocka_unit_test(test_the_marker_is_alone_on_its_line),
      cmocka_unit_test(test_a_trail_that_looks_like_ascii_means_nothing),
      cmocka_unit_test(test_zero_bytes_are_data),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
