/*
** cutter_test.c: chunks hold whole records, and the lines that COPY counts lead to them
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "stream/cutter.h"

static struct tm_cutter *new_cutter(const struct tm_format_opts *opts, size_t bytes,
                                    size_t rows)
{
  struct tm_format format;
  struct tm_error err;
  assert_true(tm_format_parse(&format, opts, &err));
  struct tm_cutter *c = tm_cutter_new(&format, bytes, rows, &err);
  assert_non_null(c);
  return c;
}

/* Appends "[a|b][c]": chunks of records, without their line ends, a stray line end as "!". */
static void add(char *out, size_t size, const struct tm_chunk *chunk)
{
  size_t n = strlen(out);
  for (size_t i = 0; i < chunk->count; i++) {
    const struct tm_chunk_record *r = &chunk->records[i];
    n += (size_t)snprintf(out + n, size - n, "%s%lld:%.*s%s", i == 0 ? "[" : "|",
                          (long long)r->line, (int)r->text, chunk->bytes.data + r->offset,
                          r->fault == TM_SPLIT_GOOD ? "" : "!");
  }
  snprintf(out + n, size - n, "]");
}

static void describe(const struct tm_format_opts *opts, const char *in, size_t piece,
                     size_t bytes, size_t rows, char *out, size_t size)
{
  struct tm_cutter *c = new_cutter(opts, bytes, rows);
  struct tm_chunk chunk = {0};
  struct tm_error err;
  size_t len = strlen(in);
  out[0] = '\0';
  for (size_t at = 0; at < len; at += piece) {
    tm_cutter_feed(c, in + at, len - at < piece ? len - at : piece);
    while (tm_cutter_next(c, &chunk, &err) == 1)
      add(out, size, &chunk);
  }
  tm_cutter_end(c);
  while (tm_cutter_next(c, &chunk, &err) == 1)
    add(out, size, &chunk);
  assert_int_equal(tm_cutter_next(c, &chunk, &err), 0);
  tm_chunk_free(&chunk);
  tm_cutter_free(c);
}

static void check(const struct tm_format_opts *opts, const char *in, size_t bytes,
                  size_t rows, const char *want)
{
  char got[400];
  for (size_t piece = 1; piece < 20; piece++) {
    describe(opts, in, piece, bytes, rows, got, sizeof got);
    assert_string_equal(got, want);
  }
}

static const struct tm_format_opts csv = {.format = "csv"};
static const struct tm_format_opts header = {.format = "csv", .header = true};
static const struct tm_format_opts text = {.format = "text"};

static void a_chunk_ends_with_the_record_that_fills_it(void **state)
{
  (void)state;
  check(&csv, "a\nbb\nccc\nd", 5, 100, "[1:a|2:bb][3:ccc|4:d]");
  check(&csv, "a\nbbbbbbbb\nccc\nd", 4, 100, "[1:a|2:bbbbbbbb][3:ccc][4:d]");
  check(&csv, "a\nbb\nccc\nd\n", 1000, 3, "[1:a|2:bb|3:ccc][4:d]");
  check(&csv, "a\nb\n", 1000, 2, "[1:a|2:b]");
  check(&csv, "", 5, 5, "");
}

static void a_header_is_passed_over_and_counts_as_a_line(void **state)
{
  (void)state;
  check(&header, "\"h\n1\",h2\na\nb\n", 100, 100, "[3:a|4:b]");
  check(&header, "h\n", 100, 100, "");
}

static void line_ends_within_values_are_theirs(void **state)
{
  (void)state;
  check(&csv, "\"a\nb\"\nc\r\n", 100, 100, "[1:\"a\nb\"|3:c\r!]");
  check(&text, "a\\\nb\nc\\n\n", 100, 100, "[1:a\\\nb|3:c\\n]");
  check(&text, "a\r\nb\\\r\nc\r\n", 100, 100, "[1:a|2:b\\\r!|3:c]");
}

static void nothing_comes_behind_the_end_of_data(void **state)
{
  (void)state;
  check(&text, "a\n\\.\nb\n", 100, 100, "[1:a]");
  check(&csv, "\\.\nb\n", 100, 100, "");
}

static size_t find(const char *in, size_t from, int64_t line)
{
  struct tm_cutter *c = new_cutter(&csv, 1000, 1000);
  struct tm_chunk chunk = {0};
  struct tm_error err;
  tm_cutter_feed(c, in, strlen(in));
  assert_int_equal(tm_cutter_next(c, &chunk, &err), 0);
  tm_cutter_end(c);
  assert_int_equal(tm_cutter_next(c, &chunk, &err), 1);
  size_t found = tm_chunk_find(&chunk, from, line);
  tm_chunk_free(&chunk);
  tm_cutter_free(c);
  return found;
}

/* As PostgreSQL counts: the first record of a COPY has one line, whatever is in its quotes. */
static void lines_that_copy_counts_lead_to_records(void **state)
{
  (void)state;
  const char *in = "\"a\n\n\"\nb\n\"c\nd\"\ne\n";
  const size_t whole[] = {0, 1, 2, 2, 3, 4}, rest[] = {1, 2, 2, 3};
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
    assert_int_equal(find(in, 0, (int64_t)i + 1), whole[i]);
  for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
    assert_int_equal(find(in, 1, (int64_t)i + 1), rest[i]);
}

static void a_record_longer_than_allowed_is_an_error(void **state)
{
  (void)state;
  struct tm_format_opts opts = {.format = "csv", .max_record_bytes = 10};
  struct tm_cutter *c = new_cutter(&opts, 1000, 1000);
  struct tm_chunk chunk = {0};
  struct tm_error err;
  tm_cutter_feed(c, "a\n\"bbbbbbbbbbbbbbbbbbb", 22);
  assert_int_equal(tm_cutter_next(c, &chunk, &err), -1);
  assert_int_equal(err.kind, TM_EDATA);
  assert_string_equal(err.message, "line 2: a record is longer than 10 bytes");
  tm_chunk_free(&chunk);
  tm_cutter_free(c);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_chunk_ends_with_the_record_that_fills_it),
      cmocka_unit_test(a_header_is_passed_over_and_counts_as_a_line),
      cmocka_unit_test(line_ends_within_values_are_theirs),
      cmocka_unit_test(nothing_comes_behind_the_end_of_data),
      cmocka_unit_test(lines_that_copy_counts_lead_to_records),
      cmocka_unit_test(a_record_longer_than_allowed_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
