/*
** file_list.c: listing a file:// store in byte order of the keys
**
** The entries of a directory are sorted with '/' after the name of each subdirectory; a
** walk in that order then meets the keys in byte order. A page goes on from the last entry
** of the one before: its token is "k" or "p" (common prefix) and that entry.
*/
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oss/file_store.h"

enum { MAX_DEPTH = 100 }; /* a descriptor is open on each level */

struct walk {
  const char *prefix, *delimiter; /* never NULL */
  const char *after;              /* keys up to here are passed over */
  bool after_prefix;              /* and those below it */
  size_t limit;
  struct tm_oss_page *page;
  struct tm_buffer path; /* of the current directory, ends in '/' unless empty */
  bool full;             /* one more entry than fits was met */
  bool probe;            /* only asks whether there is any file */
  bool found;
  struct tm_error *err;
};

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count)
{
  for (size_t i = 0; i < count; i++)
    free(names[i]);
  free(names);
}

/* Names in `dir`, sorted; directories end in '/'. Consumes the descriptor. */
static bool read_names(int fd, char ***names, size_t *count, struct tm_error *err)
{
  DIR *dir = fdopendir(fd);
  size_t cap = 0;
  bool ok = dir != NULL;
  *names = NULL;
  *count = 0;
  if (!ok) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot read a directory");
    close(fd);
  }
  for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
    struct stat st;
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
        strncmp(e->d_name, TM_FILE_OURS, strlen(TM_FILE_OURS)) == 0 ||
        fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
      continue;
    if (*count == cap) {
      size_t more = cap == 0 ? 64 : cap * 2;
      char **grown = realloc(*names, more * sizeof *grown);
      ok = grown != NULL;
      if (!ok)
        break;
      *names = grown;
      cap = more;
    }
    char *name = NULL;
    ok = asprintf(&name, "%s%s", e->d_name, S_ISDIR(st.st_mode) ? "/" : "") >= 0;
    if (ok)
      (*names)[(*count)++] = name;
  }
  if (dir != NULL && !ok)
    out_of_memory(err);
  if (dir != NULL)
    closedir(dir);
  if (ok && *count > 0)
    qsort(*names, *count, sizeof **names, by_name);
  return ok;
}

static bool starts_with(const char *s, const char *start)
{
  return strncmp(s, start, strlen(start)) == 0;
}

/* Whether `key` (or all below it) lies before the place where this page begins. */
static bool is_past(const struct walk *w, const char *key, bool directory)
{
  if (w->after[0] == '\0')
    return false;
  if (w->after_prefix && starts_with(key, w->after))
    return true;
  if (directory)
    return strncmp(key, w->after, strlen(key)) < 0;
  return strcmp(key, w->after) <= 0;
}

static bool add(struct walk *w, const char *key, size_t n, bool is_prefix,
                const struct stat *st)
{
  struct tm_oss_page *p = w->page;
  if (p->count == w->limit) {
    w->full = true;
    return true;
  }
  if (p->count == p->cap) {
    size_t cap = p->cap == 0 ? 64 : p->cap * 2;
    struct tm_oss_entry *grown = realloc(p->entries, cap * sizeof *grown);
    if (grown == NULL)
      return out_of_memory(w->err);
    p->entries = grown;
    p->cap = cap;
  }
  struct tm_oss_entry e = {.is_prefix = is_prefix, .modified_ms = -1};
  e.key = strndup(key, n);
  if (e.key == NULL)
    return out_of_memory(w->err);
  if (st != NULL) {
    e.size = st->st_size;
    e.modified_ms = tm_file_mtime_ms(st);
    tm_file_etag(st, e.etag);
  }
  p->entries[p->count++] = e;
  return true;
}

/* Bytes of the common prefix that `key` falls into, or 0. */
static size_t common(const struct walk *w, const char *key)
{
  if (w->delimiter[0] == '\0' || !starts_with(key, w->prefix))
    return 0;
  const char *d = strstr(key + strlen(w->prefix), w->delimiter);
  return d == NULL ? 0 : (size_t)(d - key) + strlen(w->delimiter);
}

static bool add_common(struct walk *w, const char *key, size_t n)
{
  const struct tm_oss_page *p = w->page;
  const struct tm_oss_entry *last = p->count > 0 ? &p->entries[p->count - 1] : NULL;
  if (last != NULL && last->is_prefix && strlen(last->key) == n &&
      strncmp(last->key, key, n) == 0)
    return true;
  return add(w, key, n, true, NULL);
}

static bool walk(struct walk *w, int fd, int depth);

/* Whether any file lies below the directory `name` of `fd`. */
static bool has_file(struct walk *w, int fd, const char *name)
{
  struct walk probe = {
      .prefix = "", .delimiter = "", .after = "", .probe = true, .err = w->err};
  int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  bool ok = below >= 0 && walk(&probe, below, 1);
  tm_buffer_free(&probe.path);
  return ok && probe.found;
}

static bool visit_directory(struct walk *w, int fd, const char *name, const char *key,
                            int depth)
{
  size_t n = strlen(key);
  if (is_past(w, key, true) ||
      strncmp(key, w->prefix, n < strlen(w->prefix) ? n : strlen(w->prefix)) != 0)
    return true;
  size_t c = common(w, key);
  if (c > 0)
    return !has_file(w, fd, name) || add_common(w, key, c);
  if (depth == MAX_DEPTH) {
    tm_error_set(w->err, TM_ESYSTEM, "directories nested deeper than %d", MAX_DEPTH);
    return false;
  }
  int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (below < 0) /* gone meanwhile */
    return errno == ENOENT || errno == ENOTDIR ||
           (tm_error_errno(w->err, TM_ESYSTEM, errno, "cannot open '%.300s'", key),
            false);
  return walk(w, below, depth + 1);
}

static bool visit_file(struct walk *w, int fd, const char *name, const char *key)
{
  struct stat st;
  if (is_past(w, key, false) || !starts_with(key, w->prefix) ||
      fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    return true;
  size_t c = common(w, key);
  if (c == 0)
    return add(w, key, strlen(key), false, &st);
  return add_common(w, key, c);
}

/* Consumes `fd`. True also when the page is full. */
static bool walk(struct walk *w, int fd, int depth)
{
  char **names;
  size_t count, base = w->path.len;
  int keep = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* closedir takes the other one */
  bool ok = read_names(fd, &names, &count, w->err);
  for (size_t i = 0; ok && !w->full && !w->found && i < count; i++) {
    char *name = names[i];
    size_t n = strlen(name);
    bool directory = name[n - 1] == '/';
    w->path.len = base;
    if (!tm_buffer_adds(&w->path, name) || tm_buffer_cstr(&w->path) == NULL) {
      ok = out_of_memory(w->err);
      break;
    }
    char *key = strdup(w->path.data); /* path grows below */
    if (key == NULL) {
      ok = out_of_memory(w->err);
      break;
    }
    if (directory)
      name[n - 1] = '\0';
    if (directory)
      ok = visit_directory(w, keep, name, key, depth);
    else if (w->probe)
      w->found = true;
    else
      ok = visit_file(w, keep, name, key);
    free(key);
  }
  w->path.len = base;
  free_names(names, count);
  if (keep >= 0)
    close(keep);
  return ok;
}

bool tm_file_list(struct tm_oss *store, const struct tm_oss_list_opts *opts,
                  const char *token, struct tm_oss_page *page,
                  const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)cancel;
  struct walk w = {.prefix = opts->prefix != NULL ? opts->prefix : "",
                   .delimiter = opts->delimiter != NULL ? opts->delimiter : "",
                   .after = opts->start_after != NULL ? opts->start_after : "",
                   .limit = 1000,
                   .page = page,
                   .err = err};
  if (opts->page_size > 0 && opts->page_size < 1000)
    w.limit = (size_t)opts->page_size;
  if (token != NULL) {
    w.after_prefix = token[0] == 'p';
    w.after = token[0] != '\0' ? token + 1 : "";
  }
  int fd = openat(store->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool ok = fd >= 0;
  if (!ok)
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot list %.300s", store->url);
  ok = ok && walk(&w, fd, 1);
  tm_buffer_free(&w.path);
  if (ok && w.full) {
    const struct tm_oss_entry *last = &page->entries[page->count - 1];
    ok = asprintf(&page->next, "%c%s", last->is_prefix ? 'p' : 'k', last->key) >= 0;
    if (!ok) {
      page->next = NULL;
      out_of_memory(err);
    }
  }
  if (!ok)
    tm_oss_page_free(page);
  return ok;
}
