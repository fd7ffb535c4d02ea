/*
** fault.c: failures that tests ask ossd for
*/
#include "ossd/fault.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { WAIT_MS = 3000 };

static const char *const names[TM_FAULT_KINDS] = {
    [TM_FAULT_503] = "503",
    [TM_FAULT_CUT] = "cut",
    [TM_FAULT_CUT_PUT] = "cut-put",
    [TM_FAULT_DROP_PUT] = "drop-put",
    [TM_FAULT_SLOW] = "slow",
    [TM_FAULT_CORRUPT] = "corrupt",
    [TM_FAULT_CRC] = "crc",
    [TM_FAULT_COMPLETE_ERROR] = "complete-error",
    [TM_FAULT_COMPLETE_DROP] = "complete-drop",
    [TM_FAULT_STALL] = "stall",
    [TM_FAULT_LATE] = "late",
    [TM_FAULT_EXPIRED_TOKEN] = "expired-token",
    [TM_FAULT_PAGE] = "page",
    [TM_FAULT_SKEW] = "skew",
};

bool tm_ossd_fault_parse(struct tm_ossd_faults *f, const char *text, struct tm_error *err)
{
  const char *sign = strchr(text, '=');
  for (int kind = 0; sign != NULL && kind < TM_FAULT_KINDS; kind++) {
    size_t n = strlen(names[kind]);
    if (n != (size_t)(sign - text) || strncmp(text, names[kind], n) != 0)
      continue;
    char *end;
    long long value = strtoll(sign + 1, &end, 10);
    if (sign[1] == '\0' || *end != '\0' || value > 1000000000 || value < -1000000000 ||
        (value < 1 && kind != TM_FAULT_SKEW))
      break;
    f->setting[kind] = value;
    return true;
  }
  tm_error_set(err, TM_EUSAGE, "unknown fault '%s'", text);
  tm_error_hint(err, "KIND=N, see tidemill ossd --help");
  return false;
}

bool tm_ossd_fault(struct tm_ossd_faults *f, enum tm_ossd_fault_kind kind)
{
  if (f->setting[kind] <= 0)
    return false;
  unsigned seen = atomic_fetch_add(&f->seen[kind], 1) + 1;
  return seen % (unsigned)f->setting[kind] == 0;
}

void tm_ossd_fault_wait(struct tm_ossd_faults *f, enum tm_ossd_fault_kind kind)
{
  struct tm_error canceled;
  if (tm_ossd_fault(f, kind) && !tm_clock_sleep(WAIT_MS, NULL, &canceled))
    return; /* the server is ending */
}
