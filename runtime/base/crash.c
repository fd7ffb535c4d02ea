/*
** crash.c: named moments at which a test kills the program
*/
#include "base/crash.h"

#ifdef TM_CRASH_POINTS

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One line in one write: processes share the file. */
static void note(const char *file, const char *name)
{
  char line[128];
  int n = snprintf(line, sizeof line, "%s\n", name);
  int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, line, (size_t)n) != n)
    abort();
  close(fd);
}

static bool is_first(const char *file)
{
  int fd = file == NULL ? 0 : open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  return fd >= 0; /* kept open: the process ends */
}

void tm_crash_point(const char *name)
{
  static atomic_long passed; /* this process has one point to die at */
  const char *wanted = getenv("TIDEMILL_CRASH");
  size_t n = strlen(name);
  if (wanted == NULL)
    return;
  if (strncmp(wanted, "list:", 5) == 0) {
    note(wanted + 5, name);
  } else if (strncmp(wanted, name, n) == 0 && (wanted[n] == '\0' || wanted[n] == ':')) {
    long at = wanted[n] == ':' ? atol(wanted + n + 1) : 1;
    if (atomic_fetch_add(&passed, 1) + 1 == at && is_first(getenv("TIDEMILL_CRASH_ONCE")))
      kill(getpid(), SIGKILL);
  }
}

#else

void tm_crash_point(const char *name)
{
  (void)name;
}

#endif
