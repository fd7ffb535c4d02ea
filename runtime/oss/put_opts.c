/*
** put_opts.c: put options that outlive their caller's
*/
#include "oss/put_opts.h"

#include <stdlib.h>
#include <string.h>

static bool copy_meta(struct tm_oss_put_opts *to, const struct tm_oss_put_opts *from)
{
  struct tm_oss_meta *meta = calloc(from->meta_count, sizeof *meta);
  to->meta = meta;
  for (size_t i = 0; meta != NULL && i < from->meta_count; i++) {
    meta[i].name = strdup(from->meta[i].name);
    meta[i].value = strdup(from->meta[i].value);
    to->meta_count = i + 1;
    if (meta[i].name == NULL || meta[i].value == NULL)
      return false;
  }
  return meta != NULL;
}

bool tm_oss_put_opts_copy(struct tm_oss_put_opts *to, const struct tm_oss_put_opts *from,
                          struct tm_error *err)
{
  bool ok = true;
  *to = (struct tm_oss_put_opts){.create_only = from->create_only};
  if (from->content_type != NULL)
    ok = (to->content_type = strdup(from->content_type)) != NULL;
  if (ok && from->meta_count > 0)
    ok = copy_meta(to, from);
  if (!ok)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  return ok;
}

void tm_oss_put_opts_free(struct tm_oss_put_opts *opts)
{
  for (size_t i = 0; i < opts->meta_count; i++) {
    free(opts->meta[i].name);
    free(opts->meta[i].value);
  }
  free((struct tm_oss_meta *)opts->meta);
  free((char *)opts->content_type);
  *opts = (struct tm_oss_put_opts){0};
}
