/*
** log.h: lines about what the program does, for people and for collectors
**
** One line a call on standard error: "2026-01-02T03:04:05.678Z level message", or a
** JSON object when asked. The level and form are set once in main. Safe from any
** thread; a line is one write. Secrets are the caller's to keep out.
*/
#ifndef TM_BASE_LOG_H
#define TM_BASE_LOG_H

#include "base/error.h"

enum tm_level { TM_DEBUG, TM_INFO, TM_WARN, TM_ERROR };

struct tm_log_config {
  enum tm_level level; /* lines below it are dropped */
  bool json;
};

void tm_log_configure(struct tm_log_config config);
bool tm_log_enabled(enum tm_level level);
void tm_log(enum tm_level level, const char *format, ...) TM_PRINTF(2, 3);

#endif
