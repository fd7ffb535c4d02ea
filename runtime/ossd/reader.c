/*
** reader.c: the bytes of one object, in one file or in parts
*/
#include "ossd/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PINNED = 64 };

static enum tm_ossd_result open_once(struct tm_ossd_reader *r, const char *key,
                                     struct tm_error *err)
{
  enum tm_ossd_result result =
      tm_ossd_open(r->store, r->bucket, key, &r->fd, &r->record, err);
  if (result != TM_OSSD_OK || r->record.segment_count == 0)
    return result;
  r->parts = malloc(r->record.segment_count * sizeof *r->parts);
  if (r->parts == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return TM_OSSD_FAILED;
  }
  for (size_t i = 0; i < r->record.segment_count; i++)
    r->parts[i] = -1;
  return TM_OSSD_OK;
}

static void close_files(struct tm_ossd_reader *r)
{
  if (r->fd >= 0)
    close(r->fd);
  for (size_t i = 0; r->parts != NULL && i < r->record.segment_count; i++)
    if (r->parts[i] >= 0)
      close(r->parts[i]);
  free(r->parts);
  r->parts = NULL;
  r->fd = -1;
  tm_ossd_record_free(&r->record);
}

enum tm_ossd_result tm_ossd_reader_open(struct tm_ossd_store *s, const char *bucket,
                                        const char *key, struct tm_ossd_reader **reader,
                                        struct tm_error *err)
{
  struct tm_ossd_reader *r = calloc(1, sizeof *r);
  *reader = NULL;
  if (r == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return TM_OSSD_FAILED;
  }
  r->fd = -1;
  r->store = s;
  r->cut_at = r->corrupt_at = UINT64_MAX;
  snprintf(r->bucket, sizeof r->bucket, "%.63s", bucket);
  enum tm_ossd_result result = open_once(r, key, err);
  if (result != TM_OSSD_OK) {
    close_files(r);
    free(r);
    return result;
  }
  *reader = r;
  return TM_OSSD_OK;
}

void tm_ossd_reader_close(struct tm_ossd_reader *r)
{
  if (r == NULL)
    return;
  close_files(r);
  free(r);
}

/* The segment that holds `offset`, opened; false when it is gone. *start: its offset. */
static bool find_segment(struct tm_ossd_reader *r, uint64_t offset, size_t *index,
                         uint64_t *start)
{
  size_t i = 0;
  uint64_t at = 0;
  if (offset >= r->last_offset) {
    i = r->last_segment;
    at = r->last_offset;
  }
  while (i < r->record.segment_count && offset - at >= r->record.segments[i].size)
    at += r->record.segments[i++].size;
  if (i == r->record.segment_count)
    return false;
  r->last_segment = *index = i;
  r->last_offset = *start = at;
  if (r->parts[i] < 0)
    r->parts[i] = tm_ossd_part_open(r->store, r->bucket, r->record.upload,
                                    r->record.segments[i].part);
  return r->parts[i] >= 0;
}

bool tm_ossd_reader_pin(struct tm_ossd_reader *r, uint64_t first, uint64_t length)
{
  uint64_t at = first, start;
  size_t index;
  for (int i = 0; r->parts != NULL && i < PINNED && at < first + length; i++) {
    if (!find_segment(r, at, &index, &start))
      return false;
    at = start + r->record.segments[index].size;
  }
  return true;
}

ssize_t tm_ossd_reader_read(struct tm_ossd_reader *r, uint64_t offset, char *bytes,
                            size_t n)
{
  size_t index;
  uint64_t start = 0, end = r->record.size;
  if (offset >= r->record.size || n == 0)
    return 0;
  int fd = r->fd;
  if (r->parts != NULL) {
    if (!find_segment(r, offset, &index, &start))
      return -1;
    fd = r->parts[index];
    end = start + r->record.segments[index].size;
    if (r->parts[index > PINNED ? index - PINNED - 1 : 0] >= 0 && index > PINNED) {
      close(
          r->parts[index - PINNED - 1]); /* readers go forwards: bound the descriptors */
      r->parts[index - PINNED - 1] = -1;
    }
  }
  if (offset >= r->cut_at)
    return -1;
  if (end > r->cut_at)
    end = r->cut_at;
  if (n > end - offset)
    n = (size_t)(end - offset);
  ssize_t got;
  do
    got = pread(fd, bytes, n, (off_t)(offset - start));
  while (got < 0 && errno == EINTR);
  if (got <= 0)
    return -1; /* shorter than its record says */
  if (r->corrupt_at >= offset && r->corrupt_at - offset < (uint64_t)got)
    bytes[r->corrupt_at - offset] ^= 0x20;
  return got;
}

int tm_ossd_reader_file(struct tm_ossd_reader *r, uint64_t first, uint64_t length,
                        uint64_t *offset)
{
  size_t index;
  uint64_t start = 0;
  int fd = r->fd;
  if (r->cut_at != UINT64_MAX || r->corrupt_at != UINT64_MAX || r->slow)
    return -1;
  if (r->parts != NULL) {
    if (length == 0 || !find_segment(r, first, &index, &start) ||
        first + length > start + r->record.segments[index].size)
      return -1;
    fd = r->parts[index];
  }
  *offset = first - start;
  return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}
