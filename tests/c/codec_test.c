/*
** codec_test.c: csv and text records, read in pieces cut at every byte, and written
**
** A decoded input is shown as one line a row: [a][b][], ~ for NULL; an error as !message.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/charset.h"
#include "stream/codec.h"

struct show {
  struct tm_buffer out;
  bool stopped;
};

static void drain(struct tm_decoder *d, struct show *s)
{
  struct tm_row *row;
  struct tm_error err;
  int got;
  while (!s->stopped && (got = tm_decoder_next(d, &row, &err)) != 0) {
    if (got < 0) {
      s->stopped = true;
      assert_true(tm_buffer_addf(&s->out, "!%s", err.message));
      return;
    }
    for (size_t i = 0; i < row->count; i++) {
      const struct tm_field *f = &row->fields[i];
      if (f->data == NULL)
        assert_true(tm_buffer_adds(&s->out, "~"));
      else
        assert_true(tm_buffer_addc(&s->out, '[') &&
                    tm_buffer_add(&s->out, f->data, f->len) &&
                    tm_buffer_addc(&s->out, ']'));
    }
    assert_true(tm_buffer_addc(&s->out, '\n'));
  }
}

static void feed(struct tm_decoder *d, const char *p, size_t n, struct show *s)
{
  struct tm_error err;
  char *copy = malloc(n + 1); /* so that a read past the end is seen */
  memcpy(copy, p, n);
  if (!s->stopped && !tm_decoder_feed(d, copy, n, &err)) {
    s->stopped = true;
    assert_true(tm_buffer_addf(&s->out, "!%s", err.message));
  }
  drain(d, s);
  free(copy);
}

static bool keep_rejects(void *data, const char *raw, size_t len, struct tm_error *err)
{
  struct show *s = data;
  (void)err;
  return tm_buffer_adds(&s->out, "reject:") && tm_buffer_add(&s->out, raw, len);
}

struct setup {
  struct tm_format_opts format;
  size_t columns;
  bool reject;
};

/* Decodes, cut before `cut` (and in single bytes when cut is SIZE_MAX). */
static char *decode(const struct setup *setup, const char *in, size_t len, size_t cut)
{
  static const char *const names[] = {"a", "b", "c", "d"};
  struct tm_format format;
  struct tm_error err;
  struct show s = {0};
  assert_true(tm_format_parse(&format, &setup->format, &err));
  struct tm_decoder_opts opts = {.columns = setup->columns > 0 ? names : NULL,
                                 .column_count = setup->columns,
                                 .reject = setup->reject ? keep_rejects : NULL,
                                 .data = &s};
  struct tm_decoder *d = tm_decoder_new(&format, &opts, &err);
  assert_non_null(d);
  if (cut == SIZE_MAX) {
    for (size_t i = 0; i < len; i++)
      feed(d, in + i, 1, &s);
  } else {
    feed(d, in, cut, &s);
    feed(d, in + cut, len - cut, &s);
  }
  if (!s.stopped && !tm_decoder_end(d, &err)) {
    s.stopped = true;
    assert_true(tm_buffer_addf(&s.out, "!%s", err.message));
  }
  drain(d, &s);
  tm_decoder_free(d);
  assert_non_null(tm_buffer_cstr(&s.out));
  return s.out.data;
}

static void check_bytes(const struct setup *setup, const char *in, size_t len,
                        const char *expected)
{
  for (size_t cut = 0; cut <= len + 1; cut++) {
    char *got = decode(setup, in, len, cut > len ? SIZE_MAX : cut);
    assert_string_equal(got, expected);
    free(got);
  }
}

static void check(const struct setup *setup, const char *in, const char *expected)
{
  check_bytes(setup, in, strlen(in), expected);
}

static const struct setup csv = {.format = {.format = "csv"}};
static const struct setup text = {.format = {.format = "text"}};

static void csv_fields_are_split(void **state)
{
  (void)state;
  check(&csv, "a,b,c\n1,2,3\n", "[a][b][c]\n[1][2][3]\n");
  check(&csv, "a,b", "[a][b]\n");
  check(&csv, "", "");
  check(&csv, " a , b \n", "[ a ][ b ]\n");
  check(&csv, "\"a,b\",\"c\"\"d\"\n", "[a,b][c\"d]\n");
  check(&csv, "\"a\nb\",c\n\"x\r\ny\",z\n", "[a\nb][c]\n[x\r\ny][z]\n");
  check(&csv, "\"\n\n\n\",\"\n\"\n,\n", "[\n\n\n][\n]\n~~\n");
  check(&csv, "\" a\",\tb\n", "[ a][\tb]\n");
  check(&csv, "\"a\"", "[a]\n");
}

static void csv_null_is_unquoted(void **state)
{
  (void)state;
  check(&csv, ",\"\",x\n", "~[][x]\n");
  check(&csv, "\n\"\"\n", "~\n[]\n");
  struct setup s = {.format = {.null = "NULL", .delimiter = "|"}};
  check(&s, "NULL|\"NULL\"|NULLS||\"NULL\"\"\"\n", "~[NULL][NULLS][][NULL\"]\n");
  check(&s, "\"x\"|NULL|\" NULL\"\n", "[x]~[ NULL]\n");
}

static void csv_escape_other_than_quote(void **state)
{
  (void)state;
  struct setup s = {.format = {.escape = "\\"}};
  check(&s, "\"a\\\"b\",\"c\\\\\",\"d\\n\",e\\\"\n",
        "!line 1, column 4, byte 22: quote inside an unquoted field: "
        "\"\"a\\x5c\"b\",\"c\\x5c\\x5c\",\"d\\x5cn\",e\\x5c\"\"");
  check(&s, "\"a\\\"b\",\"c\\\\\",\"d\\n\",e\\\n", "[a\"b][c\\][d\\n][e\\]\n");
  check(&s, "\"a\\\"\nb\\\\\"\n", "[a\"\nb\\]\n");
  check(&s, "\"\",\n", "[]~\n");
  check(&s, "\"a\"\"b\"\n",
        "!line 1, column 1, byte 4: doubled quote in a field whose escape is another "
        "character: \"\"a\"\"b\"\"");
}

static void csv_newlines(void **state)
{
  (void)state;
  check(&csv, "a,b\r\n\"c\",d\r\n", "[a][b]\n[c][d]\n");
  check(&csv, "\"a\nb\",c\r\nd,\"e\"\r\n", "[a\nb][c]\n[d][e]\n");
  check(&csv, "a\nb\r\n",
        "[a]\n!line 2, column 1, byte 2: unquoted carriage return found in data: "
        "\"b\\x0d\"");
  check(&csv, "a\n\"b\"\r\n",
        "[a]\n!line 2, column 2, byte 4: unquoted carriage return found in data: "
        "\"\"b\"\\x0d\"");
  check(&csv, "a\r\nb\n",
        "[a]\n!line 2, column 1, byte 2: unquoted newline found in data: "
        "\"b\"");
}

static void csv_end_marker(void **state)
{
  (void)state;
  check(&csv, "a\n\\.\n", "[a]\n");
  check(&csv, "a\n\\.", "[a]\n");
  check(&csv, "a\n\"\\.\"\n\\.x\n", "[a]\n[\\.]\n[\\.x]\n");
  check(&csv, "a\n\\.\nb\n", "[a]\n!line 3: data after the end-of-data marker \\.");
}

static void csv_bad_quoting(void **state)
{
  (void)state;
  check(&csv, "a\nb,c\"d\n",
        "[a]\n!line 2, column 2, byte 4: quote inside an unquoted field: \"b,c\"d\"");
  check(&csv, "\"a\"b,c\n",
        "!line 1, column 1, byte 4: a quoted field goes on after its closing quote: "
        "\"\"a\"b,c\"");
  check(&csv, "\"a\" ,c\n",
        "!line 1, column 1, byte 4: a quoted field goes on after its closing quote: "
        "\"\"a\" ,c\"");
  check(&csv, "x\n\"a\nb\n",
        "[x]\n!line 2, column 1, byte 1: unterminated CSV quoted field: "
        "\"\"a\\x0ab\\x0a\"");
}

static void csv_rejects_go_on_at_the_next_line(void **state)
{
  (void)state;
  struct setup s = {.columns = 2, .reject = true};
  check(&s, "1,2\nx\"y,3\n4,5\n6\n7,8,9\n\"a\nb\"c\n,\n",
        "[1][2]\nreject:x\"y,3\n[4][5]\nreject:6\nreject:7,8,9\nreject:\"a\nb\"c\n~~\n");
  check(&s, "1,\xff\n2,3\n\"4\",\"\xe4\"\n",
        "reject:1,\xff\n[2][3]\nreject:\"4\",\"\xe4\"\n");
}

static void columns_are_counted(void **state)
{
  (void)state;
  struct setup s = {.columns = 2};
  check(&s, "1\n", "!line 1, column 2 (b), byte 2: missing data for column \"b\": \"1\"");
  check(&s, "1,2\n1,2,3\n",
        "[1][2]\n!line 2, column 3, byte 6: extra data after last expected column: "
        "\"1,2,3\"");
}

static void headers(void **state)
{
  (void)state;
  struct setup s = {.format = {.header = true}};
  check(&s, "x,\"y z\"\n1,2\n", "[1][2]\n");
  check(&s, "x,y\n1\n",
        "!line 2, column 2 (y), byte 2: missing data for column \"y\": \"1\"");
  check(&s, "", "");
  s.columns = 2;
  check(&s, "a,b\n1,2\n", "[1][2]\n");
  check(&s, "a,x\n1,2\n", "!column 2 of the header is \"x\", \"b\" is expected");
  check(&s, "a\n1\n", "!the header has 1 columns, 2 are expected");
}

static void encodings(void **state)
{
  (void)state;
  check(&csv,
        "\xef\xbb\xbf"
        "a,b\n",
        "[a][b]\n");
  check(&csv, "\xef\xbb\n",
        "!line 1, column 1, byte 1: invalid byte sequence for encoding \"UTF8\": 0xef: "
        "\"\\xef\\xbb\"");
  check(&csv,
        "12345678\xc3\xa9"
        "12345678,\xf0\x9f\x8c\x99\n",
        "[12345678\xc3\xa9"
        "12345678][\xf0\x9f\x8c\x99]\n");
  check(&csv, "ab,12345678\xc0\x80\n",
        "!line 1, column 2, byte 12: invalid byte sequence for encoding \"UTF8\": 0xc0: "
        "\"ab,12345678\\xc0\\x80\"");
  check_bytes(&csv, "a,1234567\0\n", 11,
              "!line 1, column 2, byte 10: invalid byte sequence for encoding \"UTF8\": "
              "0x00: \"a,1234567\\x00\"");
  struct setup gbk = {.format = {.encoding = "gbk"}};
  check(&gbk, "\xd6\xd0,\"\xce\xc4\"\n", "[\xe4\xb8\xad][\xe6\x96\x87]\n");
  check(&gbk, "a\xff\xff\n",
        "!invalid or unconvertible character for encoding gbk at byte 1: 0xff ...");
}

static void text_escapes(void **state)
{
  (void)state;
  check(&text, "a\tb\n\\N\t\n", "[a][b]\n~[]\n");
  check(&text, "\\b\\f\\n\\r\\t\\v\\\\\t\\x41\\x4\\101\\0601\\q\\N\n",
        "[\b\f\n\r\t\v\\][A\004A01qN]\n");
  check(&text, "a\\\tb\tc\n", "[a\tb][c]\n");
  check(&text, "a\\\nb\tc\n", "[a\nb][c]\n");
  check(&text, "\\\\N\t\\Nx\n", "[\\N][Nx]\n");
  check(&text, "x\\\\\ny\n", "[x\\]\n[y]\n");
  check(&text, "a\n\\.\n", "[a]\n");
  check(&text, "a\r\n\\N\r\n", "[a]\n~\n");
  check(&text, "a\nb\rc\n",
        "[a]\n!line 2, column 1, byte 2: literal carriage return found in data: "
        "\"b\\x0dc\"");
  check(&text, "a\t\\xff\n",
        "!line 1, column 2, byte 1: escapes make an invalid byte sequence for encoding "
        "\"UTF8\": \"a\\x09\\x5cxff\"");
  struct setup s = {.format = {.format = "text", .delimiter = "|", .null = ""}};
  check(&s, "a|\\||\n", "[a][|]~\n");
}

static void long_records_are_refused(void **state)
{
  (void)state;
  struct setup s = {.format = {.max_record_bytes = 8}};
  check(&s, "1234567\n", "[1234567]\n");
  check(&s, "12345678\n", "!line 1: a record is longer than 8 bytes");
  check(&s, "a\n\"2\n4\n67\"\n", "[a]\n!line 2: a record is longer than 8 bytes");
}

/* ---- writing ---- */

static void check_write(const struct tm_format_opts *o, const char *const *values,
                        size_t count, const char *expected)
{
  struct tm_format format;
  struct tm_error err;
  struct tm_field fields[8];
  assert_true(tm_format_parse(&format, o, &err));
  struct tm_encoder *e = tm_encoder_new(&format, &err);
  assert_non_null(e);
  for (size_t i = 0; i < count; i++)
    fields[i] = (struct tm_field){values[i], values[i] != NULL ? strlen(values[i]) : 0};
  assert_true(tm_encoder_row(e, fields, count, &err));
  struct tm_buffer *out = tm_encoder_out(e);
  assert_non_null(tm_buffer_cstr(out));
  assert_string_equal(out->data, expected);
  tm_encoder_free(e);
}

#define WRITE(o, expected, ...)                                                          \
  check_write(&(struct tm_format_opts)o, (const char *const[]){__VA_ARGS__},             \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), expected)
#define O(...)                                                                           \
  {                                                                                      \
    __VA_ARGS__                                                                          \
  }

static void csv_is_written_as_copy_does(void **state)
{
  (void)state;
  WRITE(O(.format = "csv"), "a,,\"\",\"b,c\",\"d\"\"e\", f ,\"g\nh\",\\.\n", "a", NULL,
        "", "b,c", "d\"e", " f ", "g\nh", "\\.");
  WRITE(O(.format = "csv"), "\"\\.\"\n", "\\.");
  WRITE(O(.null = "NULL", .delimiter = "|"), "NULL|\"NULL\"||a,b\n", NULL, "NULL", "",
        "a,b");
  WRITE(O(.force_quote = true), "\"a\",,\"\"\n", "a", NULL, "");
  WRITE(O(.escape = "\\"), "\"a\\\"b\\\\\",c\\d\n", "a\"b\\", "c\\d");
  WRITE(O(.newline = "crlf"), "a,\"\r\"\r\n", "a", "\r");
  WRITE(O(.encoding = "gbk"), "\xd6\xd0\n", "\xe4\xb8\xad");
}

static void text_is_written_as_copy_does(void **state)
{
  (void)state;
  WRITE(O(.format = "text"), "a\t\\N\t\t\\\\N\t\\b\\f\\n\\r\\t\\v\\\\\t\001\n", "a", NULL,
        "", "\\N", "\b\f\n\r\t\v\\", "\001");
  WRITE(O(.format = "text", .delimiter = "|", .null = "-"), "a\\|b|-|\\t\n", "a|b", NULL,
        "\t");
}

/* ---- options ---- */

static void refuse(const struct tm_format_opts *o, const char *message)
{
  struct tm_format f;
  struct tm_error err;
  assert_false(tm_format_parse(&f, o, &err));
  assert_int_equal(err.kind, TM_EUSAGE);
  assert_string_equal(err.message, message);
}
#define REFUSE(message, ...) refuse(&(struct tm_format_opts){__VA_ARGS__}, message)

static void options_are_checked_as_copy_does(void **state)
{
  (void)state;
  REFUSE("COPY format \"xml\" not recognized", .format = "xml");
  REFUSE("COPY delimiter must be a single one-byte character", .delimiter = "||");
  REFUSE("COPY delimiter must be a single one-byte character", .delimiter = "");
  REFUSE("COPY delimiter must be a single one-byte character", .delimiter = "\xa7");
  REFUSE("COPY delimiter cannot be newline or carriage return", .delimiter = "\n");
  REFUSE("COPY delimiter cannot be \"a\"", .format = "text", .delimiter = "a");
  REFUSE("COPY quote available only in CSV mode", .format = "text", .quote = "'");
  REFUSE("COPY escape available only in CSV mode", .format = "text", .escape = "'");
  REFUSE("COPY delimiter and quote must be different", .delimiter = "\"");
  REFUSE("COPY quote must be a single one-byte character", .quote = "");
  REFUSE("COPY escape must be a single one-byte character", .escape = "ab");
  REFUSE("COPY null representation cannot use newline or carriage return", .null = "\n");
  REFUSE("COPY delimiter must not appear in the NULL specification", .null = "a,b");
  REFUSE("CSV quote character must not appear in the NULL specification", .null = "\"");
  REFUSE("newline must be lf, crlf or auto, not \"cr\"", .newline = "cr");
  REFUSE("argument to option \"encoding\" must be a valid encoding name", .encoding = "");
}

static void an_unknown_encoding_is_refused(void **state)
{
  (void)state;
  struct tm_error err;
  assert_null(tm_charset_open("klingon", "UTF-8", &err));
  assert_string_equal(err.message, "cannot convert from encoding klingon to UTF-8");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(csv_fields_are_split),
      cmocka_unit_test(csv_null_is_unquoted),
      cmocka_unit_test(csv_escape_other_than_quote),
      cmocka_unit_test(csv_newlines),
      cmocka_unit_test(csv_end_marker),
      cmocka_unit_test(csv_bad_quoting),
      cmocka_unit_test(csv_rejects_go_on_at_the_next_line),
      cmocka_unit_test(columns_are_counted),
      cmocka_unit_test(headers),
      cmocka_unit_test(encodings),
      cmocka_unit_test(text_escapes),
      cmocka_unit_test(long_records_are_refused),
      cmocka_unit_test(csv_is_written_as_copy_does),
      cmocka_unit_test(text_is_written_as_copy_does),
      cmocka_unit_test(options_are_checked_as_copy_does),
      cmocka_unit_test(an_unknown_encoding_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
