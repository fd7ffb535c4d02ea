/*
** slab.c: a run of bytes with one owner
*/
#include "stream/stream.h"

#include <stdlib.h>
#include <string.h>

struct tm_slab *tm_slab_new(size_t cap, struct tm_error *err)
{
  struct tm_slab *s = calloc(1, sizeof *s);
  if (s != NULL && (s->data = malloc(cap > 0 ? cap : 1)) != NULL) {
    s->cap = cap > 0 ? cap : 1;
    return s;
  }
  free(s);
  tm_error_set(err, TM_EMEMORY, "out of memory for %zu bytes", cap);
  return NULL;
}

bool tm_slab_reserve(struct tm_slab *s, size_t more, struct tm_error *err)
{
  if (s->cap - s->len >= more)
    return true;
  size_t cap = s->cap;
  while (cap - s->len < more && cap < SIZE_MAX / 2)
    cap *= 2;
  char *data = cap - s->len < more ? NULL : realloc(s->data, cap);
  if (data == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory for a row of %zu bytes", more);
    return false;
  }
  s->data = data;
  s->cap = cap;
  return true;
}

bool tm_slab_add(struct tm_slab *s, const void *bytes, size_t n, struct tm_error *err)
{
  if (n == 0)
    return true;
  if (!tm_slab_reserve(s, n, err))
    return false;
  memcpy(s->data + s->len, bytes, n);
  s->len += n;
  return true;
}

void tm_slab_free(struct tm_slab *s)
{
  if (s == NULL)
    return;
  free(s->data);
  free(s);
}

void tm_slab_drop(void *slab)
{
  tm_slab_free(slab);
}

void tm_source_close(struct tm_source *source)
{
  if (source != NULL)
    source->ops->close(source);
}

void tm_stage_close(struct tm_stage *stage)
{
  if (stage != NULL)
    stage->ops->close(stage);
}

void tm_sink_close(struct tm_sink *sink)
{
  if (sink != NULL)
    sink->ops->close(sink);
}
