/*
** errfile_test.c: logs of rejected rows stay bounded and readable, whoever dies in the middle
*/
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oss_fdw/errfile.h"

enum { LIMIT = 1000 };

static int make_dir(void **state)
{
  umask(077);
  char *dir = strdup("/tmp/errfile-XXXXXX");
  *state = dir;
  return dir == NULL || mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
  int result = system(command);
  free(*state);
  return result;
}

static char *path_of(const char *dir, const char *name)
{
  static char path[256];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static char *content(const char *dir, const char *name)
{
  static char text[1 << 17];
  FILE *f = fopen(path_of(dir, name), "r");
  if (f == NULL)
    return NULL;
  text[fread(text, 1, sizeof text - 1, f)] = '\0';
  fclose(f);
  return text;
}

static void add(const char *dir, const char *line)
{
  struct tm_error err;
  assert_true(fdw_errfile_append(dir, "1_2", line, strlen(line), LIMIT, &err));
}

static void test_lines_are_appended(void **state)
{
  add(*state, "a\n");
  add(*state, "b\nc\n");
  assert_string_equal(content(*state, "1_2"), "a\nb\nc\n");
  struct stat st;
  assert_int_equal(stat(path_of(*state, "1_2"), &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_a_missing_directory_is_made(void **state)
{
  char *inner = strdup(path_of(*state, "log"));
  add(inner, "a\n");
  assert_string_equal(content(inner, "1_2"), "a\n");
  free(inner);
}

static void test_the_oldest_lines_go(void **state)
{
  char line[101];
  for (int i = 0; i < 26; i++) {
    memset(line, 'a' + i, 99);
    strcpy(line + 99, "\n");
    add(*state, line);
  }
  assert_int_equal(strlen(content(*state, "1_2")), 100);
  assert_int_equal(content(*state, "1_2")[0], 'z');
  assert_int_equal(strlen(content(*state, "1_2.1")), 500);
  assert_int_equal(content(*state, "1_2.1")[0], 'u');
}

static void test_a_torn_line_is_ended(void **state)
{
  int fd = open(path_of(*state, "1_2"), O_WRONLY | O_CREAT, 0600);
  assert_int_equal(write(fd, "a\nto", 4), 4);
  close(fd);
  add(*state, "b\n");
  assert_string_equal(content(*state, "1_2"), "a\nto\nb\n");
}

static void test_a_line_longer_than_the_limit_is_kept_alone(void **state)
{
  char line[2 * LIMIT];
  memset(line, 'x', sizeof line);
  strcpy(line + sizeof line - 2, "\n");
  add(*state, "a\n");
  add(*state, line);
  assert_string_equal(content(*state, "1_2.1"), "a\n");
  assert_int_equal(strlen(content(*state, "1_2")), sizeof line - 1);
}

static void test_removing_says_whether_there_was_a_log(void **state)
{
  struct tm_error err;
  bool was = true;
  assert_true(fdw_errfile_remove("/tmp/errfile-nowhere", "1_2", &was, &err));
  assert_false(was);
  assert_true(fdw_errfile_remove(*state, "1_2", &was, &err));
  assert_false(was);
  add(*state, "a\n");
  assert_true(fdw_errfile_remove(*state, "1_2", &was, &err));
  assert_true(was);
  assert_null(content(*state, "1_2"));
}

static void test_a_directory_that_cannot_be_is_an_error(void **state)
{
  struct tm_error err;
  (void)state;
  assert_false(fdw_errfile_append("/dev/null/x", "1_2", "a\n", 2, LIMIT, &err));
  assert_int_equal(err.kind, TM_ESYSTEM);
}

static void test_writers_do_not_mix_and_locks_die_with_them(void **state)
{
  enum { WRITERS = 4, LINES = 300 };
  pid_t pids[WRITERS];
  struct tm_error err;
  for (int w = 0; w < WRITERS; w++) {
    pids[w] = fork();
    if (pids[w] != 0)
      continue;
    char line[101];
    memset(line, 'a' + w, 99);
    strcpy(line + 99, "\n");
    for (int i = 0; i < LINES; i++)
      if (!fdw_errfile_append(*state, "1_2", line, 100, INT64_C(1) << 20, &err))
        _exit(1);
    if (w == 0) { /* dies with the lock held */
      fdw_errfile_lock(*state, false, &err);
      kill(getpid(), SIGKILL);
    }
    _exit(0);
  }
  for (int w = 0; w < WRITERS; w++) {
    int status;
    assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
    assert_true(w == 0 ? WIFSIGNALED(status) : WIFEXITED(status) && status == 0);
  }
  const char *text = content(*state, "1_2");
  assert_int_equal(strlen(text), WRITERS * LINES * 100);
  for (int i = 0; i < WRITERS * LINES; i++)
    for (int k = 1; k < 99; k++)
      assert_int_equal(text[i * 100 + k], text[i * 100]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
  const struct CMUnitTest tests[] = {
      TEST(test_lines_are_appended),
      TEST(test_a_missing_directory_is_made),
      TEST(test_the_oldest_lines_go),
      TEST(test_a_torn_line_is_ended),
      TEST(test_a_line_longer_than_the_limit_is_kept_alone),
      TEST(test_removing_says_whether_there_was_a_log),
      TEST(test_a_directory_that_cannot_be_is_an_error),
      TEST(test_writers_do_not_mix_and_locks_die_with_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
