/*
** ossd_process.h: an ossd of a test's own, which may fail on purpose, and stores at it
**
** For cmocka tests; include it after cmocka.h. The program is $TM_BIN, the data is below
** $TM_TMP, and the process ends with the test.
*/
#ifndef TM_TESTS_OSSD_PROCESS_H
#define TM_TESTS_OSSD_PROCESS_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/proc.h"
#include "oss/oss.h"

enum { OSSD_ARGS = 16 };

struct ossd {
  struct tm_proc *process;
  char dir[256], url[128];
};

/* Starts one with a bucket "bucket"; `faults` ("503=3") end with NULL. */
static void ossd_start(struct ossd *o, const char *const *faults)
{
  const char *bin = getenv("TM_BIN"), *tmp = getenv("TM_TMP");
  struct tm_error err;
  char line[256] = "";
  snprintf(o->dir, sizeof o->dir, "%s/ossd.XXXXXX", tmp != NULL ? tmp : "build");
  assert_non_null(mkdtemp(o->dir));
  const char *argv[OSSD_ARGS] = {bin != NULL ? bin : "build/tidemill",
                                 "ossd",
                                 "--root",
                                 o->dir,
                                 "--listen",
                                 "127.0.0.1:0",
                                 "--no-fsync",
                                 "--bucket",
                                 "bucket"};
  int n = 9;
  for (; *faults != NULL; faults++) {
    assert_true(n + 3 <= OSSD_ARGS);
    argv[n++] = "--fault";
    argv[n++] = *faults;
  }
  assert_int_equal(setenv("OSSD_KEYS", "ID:SECRET", 1), 0);
  struct tm_proc_options options = {
      .argv = argv,
      .use = {TM_PROC_NULL, TM_PROC_READ, TM_PROC_INHERIT},
      .death_signal = SIGTERM,
  };
  o->process = tm_proc_spawn(&options, &err);
  assert_non_null(o->process);
  for (size_t len = 0; strchr(line, '\n') == NULL;) {
    ssize_t got =
        tm_proc_read(o->process, 1, line + len, sizeof line - 1 - len, 30000, &err);
    assert_true(got > 0);
    len += (size_t)got;
    line[len] = '\0';
  }
  assert_int_equal(sscanf(line, "ossd listening on %127s", o->url), 1);
}

static void ossd_stop(struct ossd *o)
{
  char command[300];
  tm_proc_close(o->process);
  snprintf(command, sizeof command, "rm -rf '%s'", o->dir);
  assert_int_equal(system(command), 0);
}

/* A store in the bucket; `over` (or NULL) has what differs from the defaults. */
static struct tm_oss *ossd_store(const struct ossd *o, const struct tm_oss_opts *over)
{
  struct tm_error err;
  struct tm_oss_opts opts = over != NULL ? *over : (struct tm_oss_opts){0};
  if (opts.url == NULL)
    opts.url = "oss://bucket";
  opts.endpoint = o->url;
  opts.region = "cn-test";
  opts.access_key_id = "ID";
  opts.access_key_secret = "SECRET";
  struct tm_oss *store = tm_oss_open(&opts, &err);
  assert_non_null(store);
  return store;
}

/* What the bucket has, below any prefix: objects (no more than a page), unfinished uploads. */
__attribute__((unused)) static size_t count_objects(struct tm_oss *store)
{
  struct tm_oss_list_opts all = {0};
  struct tm_oss_page page = {0};
  struct tm_error err;
  assert_true(tm_oss_list(store, &all, NULL, &page, NULL, &err));
  assert_null(page.next);
  size_t count = page.count;
  tm_oss_page_free(&page);
  return count;
}

__attribute__((unused)) static size_t count_uploads(struct tm_oss *store)
{
  struct tm_oss_uploads uploads;
  struct tm_error err;
  assert_true(tm_oss_multipart_uploads(store, "", &uploads, NULL, &err));
  size_t count = uploads.count;
  tm_oss_uploads_free(&uploads);
  return count;
}

#endif
