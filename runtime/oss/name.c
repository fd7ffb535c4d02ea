/*
** name.c: names of objects from which one can tell who wrote them, and in which transaction
**
** A key is read from its end towards its start, for the head may hold anything, underscores,
** digits and whole names of ours included.
*/
#include "oss/name.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/digest.h"

enum { CLUSTER_DIGITS = 15, STATEMENT_DIGITS = 3, TIME_DIGITS = 14, FIRST_XID = 3 };

static const char segment[] = "_seg-1_";

/* ---- reading ---- */

static bool is_digit(char c)
{
  return c >= '0' && c <= '9';
}

/* The digits that end at `end` of the key, back to `start` at most: their first. */
static size_t digits_before(const char *key, size_t start, size_t end)
{
  while (end > start && is_digit(key[end - 1]))
    end--;
  return end;
}

/* `n` digits, within 64 bits. */
static bool read_fixed(const char *text, size_t n, uint64_t *value)
{
  *value = 0;
  for (size_t i = 0; i < n; i++) {
    uint64_t digit = (uint64_t)(text[i] - '0');
    if (*value > (UINT64_MAX - digit) / 10)
      return false;
    *value = *value * 10 + digit;
  }
  return n > 0;
}

/* The same, and written as a number is: no leading zero. */
static bool read_number(const char *text, size_t n, uint64_t *value)
{
  return (n == 1 || (n > 1 && text[0] != '0')) && read_fixed(text, n, value);
}

/* Takes `ending` off the end of key[0..*n). */
static bool take(const char *key, size_t *n, const char *ending)
{
  size_t len = strlen(ending);
  if (*n < len || memcmp(key + *n - len, ending, len) != 0)
    return false;
  *n -= len;
  return true;
}

/* What is common to both: key[0..end) is the head, "_", a time, "_", the number. */
static bool read_stem(const char *key, size_t end, struct tm_oss_name *name)
{
  enum { FIXED = CLUSTER_DIGITS + STATEMENT_DIGITS };
  size_t at = digits_before(key, 0, end);
  uint64_t statement, time;
  if (end - at <= FIXED || !read_fixed(key + at, CLUSTER_DIGITS, &name->cluster) ||
      !read_fixed(key + at + CLUSTER_DIGITS, STATEMENT_DIGITS, &statement) ||
      !read_number(key + at + FIXED, end - at - FIXED, &name->xid) ||
      name->xid < FIRST_XID || !take(key, &at, "_"))
    return false;
  name->statement = (unsigned)statement;
  end = at;
  at = digits_before(key, 0, end);
  if (name->rds ? !read_number(key + at, end - at, &time) || time > INT64_MAX
                : end - at != TIME_DIGITS)
    return false;
  if (!take(key, &at, "_"))
    return false;
  name->head = at;
  return true;
}

static bool read_adbpg(const char *key, size_t end, struct tm_oss_name *name)
{
  if (!take(key, &end, ".gz"))
    (void)take(key, &end, ".zst");
  if (!take(key, &end, ".csv") && !take(key, &end, ".txt"))
    return false;
  size_t at = digits_before(key, 0, end);
  if (!read_number(key + at, end - at, &name->file) || !take(key, &at, segment))
    return false;
  name->rds = false;
  return read_stem(key, at, name);
}

static bool read_rds(const char *key, size_t end, struct tm_oss_name *name)
{
  size_t at = digits_before(key, 0, end);
  name->rds = true;
  name->file = 0;
  if (at > 0 && key[at - 1] == '.') {
    if (!read_number(key + at, end - at, &name->file) || name->file == 0)
      return false;
    end = at - 1;
  }
  return read_stem(key, end, name);
}

bool tm_oss_name_parse(const char *key, struct tm_oss_name *name)
{
  size_t n = strlen(key);
  return read_adbpg(key, n, name) || read_rds(key, n, name);
}

/* ---- writing ---- */

void tm_oss_name_number(uint64_t cluster, unsigned statement, uint64_t xid,
                        char out[TM_OSS_NAME_NUMBER])
{
  snprintf(out, TM_OSS_NAME_NUMBER, "%0*" PRIu64 "%0*u%" PRIu64, CLUSTER_DIGITS,
           cluster % TM_OSS_NAME_CLUSTERS, STATEMENT_DIGITS,
           statement % TM_OSS_NAME_STATEMENTS, xid);
}

char *tm_oss_name_object(const struct tm_oss_name_base *base, size_t file)
{
  char *key;
  int n;
  if (!base->rds)
    n = asprintf(&key, "%s%s%zu%s", base->stem, segment, file, base->ending);
  else if (file == 0)
    n = asprintf(&key, "%s", base->stem);
  else
    n = asprintf(&key, "%s.%zu", base->stem, file);
  return n < 0 ? NULL : key;
}

bool tm_oss_name_cluster(uint64_t system_identifier, uint32_t timeline, const char *host,
                         const char *directory, uint64_t *cluster)
{
  struct tm_buffer text = {0};
  unsigned char digest[TM_DIGEST_MAX];
  bool ok = tm_buffer_addf(&text, "%" PRIu64 " %" PRIu32 " %zu %s %s", system_identifier,
                           timeline, strlen(host), host, directory) &&
            tm_digest(TM_SHA256, text.data, text.len, digest);
  tm_buffer_free(&text);
  *cluster = 0;
  for (size_t i = 0; ok && i < sizeof *cluster; i++)
    *cluster = *cluster << 8 | digest[i];
  *cluster %= TM_OSS_NAME_CLUSTERS;
  return ok;
}
