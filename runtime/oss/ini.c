/*
** ini.c: the profile files of the vendors' tools
**
** The text is kept and cut into strings in place; `entries` point into it.
*/
#include "oss/ini.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGEST = 1024 * 1024 };

struct entry { /* one key; key NULL: only says that the section exists */
  const char *section, *parent, *key, *value;
};

struct tm_ini {
  char *text;
  size_t length;
  struct entry *entries;
  size_t count, cap;
};

static char *trim(char *s, char *end)
{
  while (s < end && (*s == ' ' || *s == '\t'))
    s++;
  while (end > s && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
    end--;
  *end = '\0';
  return s;
}

static bool add(struct tm_ini *ini, struct entry e)
{
  if (ini->count == ini->cap) {
    size_t cap = ini->cap == 0 ? 32 : ini->cap * 2;
    struct entry *more = realloc(ini->entries, cap * sizeof *more);
    if (more == NULL)
      return false;
    ini->entries = more;
    ini->cap = cap;
  }
  ini->entries[ini->count++] = e;
  return true;
}

/* "[profile "a b"]" -> profile a b: the tools quote names with blanks. */
static char *section_name(char *line, char *end)
{
  char *close = memchr(line, ']', (size_t)(end - line));
  char *name = trim(line + 1, close != NULL ? close : end), *to = name;
  for (char *from = name; *from != '\0'; from++)
    if (*from != '"')
      *to++ = *from;
  *to = '\0';
  return name;
}

/* Ends a value before " #" or " ;". */
static char *value_end(char *value, char *end)
{
  for (char *p = value; p + 1 < end; p++)
    if ((*p == ' ' || *p == '\t') && (p[1] == '#' || p[1] == ';'))
      return p;
  return end;
}

static bool read_lines(struct tm_ini *ini)
{
  const char *section = "", *parent = NULL;
  char *line = ini->text, *last = ini->text + ini->length;
  while (line < last) {
    char *end = memchr(line, '\n', (size_t)(last - line));
    char *next = end != NULL ? end + 1 : last;
    if (end == NULL)
      end = last;
    bool indented = *line == ' ' || *line == '\t';
    char *equals = memchr(line, '=', (size_t)(end - line));
    char first = line[strspn(line, " \t")];
    if (first == '[' && !indented) {
      section = section_name(line, end);
      parent = NULL;
      if (!add(ini, (struct entry){.section = section}))
        return false;
    } else if (first != '#' && first != ';' && equals != NULL) {
      struct entry e = {.section = section,
                        .parent = indented ? parent : NULL,
                        .key = trim(line, equals),
                        .value = trim(equals + 1, value_end(equals, end))};
      if (!add(ini, e))
        return false;
      if (!indented)
        parent = e.value[0] == '\0' ? e.key : NULL;
    }
    line = next;
  }
  return true;
}

struct tm_ini *tm_ini_read(const char *text, size_t length, struct tm_error *err)
{
  struct tm_ini *ini = calloc(1, sizeof *ini);
  if (ini != NULL)
    ini->text = malloc(length + 1);
  if (ini != NULL && ini->text != NULL) {
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
      text += 3;
      length -= 3;
    }
    memcpy(ini->text, text, length);
    ini->text[length] = '\0';
    ini->length = strlen(ini->text); /* what follows a NUL is no text */
    if (read_lines(ini))
      return ini;
  }
  tm_ini_close(ini);
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return NULL;
}

char *tm_read_file(const char *path, size_t *length, struct tm_error *err)
{
  struct stat st;
  char *text = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not block us */
  if (fd < 0 || fstat(fd, &st) != 0) {
    tm_error_errno(err, errno == ENOENT ? TM_ENOTFOUND : TM_ESYSTEM, errno,
                   "cannot read '%.400s'", path);
    goto fail;
  }
  if (!S_ISREG(st.st_mode) || st.st_size > LARGEST) {
    tm_error_set(err, TM_ESYSTEM, "cannot read '%.400s': not a file of at most 1 MiB",
                 path);
    goto fail;
  }
  text = malloc((size_t)st.st_size + 1);
  if (text == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    goto fail;
  }
  size_t have = 0;
  while (have < (size_t)st.st_size) {
    ssize_t n = read(fd, text + have, (size_t)st.st_size - have);
    if (n == 0)
      break;
    if (n < 0 && errno != EINTR) {
      tm_error_errno(err, TM_ESYSTEM, errno, "cannot read '%.400s'", path);
      goto fail;
    }
    have += n > 0 ? (size_t)n : 0;
  }
  close(fd);
  text[have] = '\0';
  *length = have;
  return text;

fail:
  free(text);
  if (fd >= 0)
    close(fd);
  return NULL;
}

struct tm_ini *tm_ini_open(const char *path, struct tm_error *err)
{
  size_t length;
  char *text = tm_read_file(path, &length, err);
  if (text == NULL)
    return NULL;
  struct tm_ini *ini = tm_ini_read(text, length, err);
  explicit_bzero(text, length);
  free(text);
  return ini;
}

void tm_ini_close(struct tm_ini *ini)
{
  if (ini == NULL)
    return;
  if (ini->text != NULL)
    explicit_bzero(ini->text, ini->length);
  free(ini->text);
  free(ini->entries);
  free(ini);
}

bool tm_ini_has_section(const struct tm_ini *ini, const char *section)
{
  for (size_t i = 0; i < ini->count; i++)
    if (strcmp(ini->entries[i].section, section) == 0)
      return true;
  return false;
}

/* "s3.addressing_style" names a nested key; keys themselves hold no dot. */
static bool is_key(const struct entry *e, const char *key)
{
  if (e->key == NULL)
    return false;
  if (e->parent == NULL)
    return strcasecmp(e->key, key) == 0;
  size_t n = strlen(e->parent);
  return strncasecmp(key, e->parent, n) == 0 && key[n] == '.' &&
         strcasecmp(key + n + 1, e->key) == 0;
}

const char *tm_ini_get(const struct tm_ini *ini, const char *section, const char *key)
{
  const char *value = NULL;
  for (size_t i = 0; i < ini->count; i++)
    if (strcmp(ini->entries[i].section, section) == 0 && is_key(&ini->entries[i], key))
      value = ini->entries[i].value;
  return value != NULL && value[0] != '\0' ? value : NULL;
}
