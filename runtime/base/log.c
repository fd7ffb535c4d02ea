/*
** log.c: lines about what the program does; one write(2) a line
*/
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct tm_log_config config = {.level = TM_INFO}; /* set once, before threads */

static const char *const names[] = {"debug", "info", "warn", "error"};

void tm_log_configure(struct tm_log_config c)
{
  config = c;
}

bool tm_log_enabled(enum tm_level level)
{
  return level >= config.level;
}

/* Writes `text` as the inside of a JSON string; stops before `end`. */
static char *json_escape(char *out, const char *end, const char *text)
{
  for (; *text != '\0' && end - out > 8; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') {
      *out++ = '\\';
      *out++ = (char)c;
    } else if (c < 0x20) {
      out += sprintf(out, "\\u%04x", c);
    } else {
      *out++ = (char)c;
    }
  }
  return out;
}

void tm_log(enum tm_level level, const char *format, ...)
{
  if (!tm_log_enabled(level))
    return;
  char message[2048], line[sizeof message * 6 + 128], when[40];
  va_list ap;
  va_start(ap, format);
  vsnprintf(message, sizeof message, format, ap);
  va_end(ap);

  struct timespec ts;
  struct tm tm;
  clock_gettime(CLOCK_REALTIME, &ts);
  gmtime_r(&ts.tv_sec, &tm);
  size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf(when + n, sizeof when - n, ".%03ldZ", ts.tv_nsec / 1000000);

  char *p = line;
  if (config.json) {
    p += sprintf(p, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"", when,
                 names[level]);
    p = json_escape(p, line + sizeof line - 8, message);
    p += sprintf(p, "\"}\n");
  } else {
    p += snprintf(p, sizeof line - 1, "%s %-5s %s", when, names[level], message);
    *p++ = '\n';
  }
  ssize_t written = write(STDERR_FILENO, line, (size_t)(p - line));
  (void)written; /* nowhere to report that the log cannot be written */
}
