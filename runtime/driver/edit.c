/*
** edit.c: lines typed at a terminal, with editing, history and completion (libedit)
**
** libedit reads through `next_char`, which waits in ppoll for a key, the process's interrupt
** and, by way of EINTR, for a new window size or the end of a suspension. So Ctrl-C ends the
** line without a handler of libedit's, and no signal is lost between looking and waiting.
**
** libedit works in the characters of the locale: each call of it is made in C.UTF-8, whatever
** the locale of the process.
**
** The history file is plain text, appended to line by line, so that two sessions at once
** do not write over each other; it is cut to HISTORY lines when it has grown to twice that.
*/
#include "driver/edit.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/cancel.h"

enum {
  HISTORY = 1000,         /* lines kept */
  MOST_HISTORY = 4 << 20, /* bytes read of a history file, its end */
};

struct tm_edit {
  EditLine *el;
  History *history;
  locale_t utf8;
  tm_edit_complete *complete;
  void *data;
  char prompt[80];
  char *line; /* the last one that was typed */
  char *path; /* of the history file, or NULL */
  struct winsize size;
  sigset_t
      mask; /* of the caller: SIGWINCH and SIGCONT come in while waiting for a key only */
  bool interrupted;
  bool answered; /* by the completion function */
};

/* ---- reading keys ---- */

static char *prompt_of(EditLine *el)
{
  struct tm_edit *e = NULL;
  el_get(el, EL_CLIENTDATA, &e);
  return e->prompt;
}

static void wake(int number)
{
  (void)number; /* its arrival ends ppoll with EINTR: that is all that is wanted */
}

/* After a suspension the terminal is as the shell left it; after a resize lines are longer
** or shorter. */
static void settle_terminal(struct tm_edit *e)
{
  el_set(e->el, EL_PREP_TERM, 0);
  el_set(e->el, EL_PREP_TERM, 1);
  struct winsize now = e->size;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &now) == 0 &&
      (now.ws_col != e->size.ws_col || now.ws_row != e->size.ws_row))
    el_resize(e->el);
  e->size = now;
  fputs("\r\033[J", stdout); /* libedit draws the line anew from here */
  el_set(e->el, EL_REFRESH);
}

/* Waits for a key: true when there is one to read. */
static bool wait_key(struct tm_edit *e)
{
  struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                          {.fd = tm_cancel_fd(tm_interrupt()), .events = POLLIN}};
  int ready = 0;
  while (!tm_cancel_fired(tm_interrupt()) && ready == 0) {
    ready = ppoll(fds, 2, NULL, &e->mask);
    if (ready < 0 && errno == EINTR) {
      if (!tm_cancel_fired(tm_interrupt()))
        settle_terminal(e);
      ready = 0;
    }
  }
  e->interrupted = tm_cancel_fired(tm_interrupt());
  return ready > 0 && !e->interrupted;
}

static int next_byte(struct tm_edit *e, char *c)
{
  for (;;) {
    if (!wait_key(e)) {
      errno = EINTR;
      return -1;
    }
    ssize_t n = read(STDIN_FILENO, c, 1);
    if (n >= 0)
      return (int)n;
    if (errno == EIO) /* the terminal is gone */
      return 0;
    if (errno != EINTR && errno != EAGAIN)
      return -1;
  }
}

/* One character for libedit: 1, 0 at the end, -1 on an error or an interrupt. */
static int next_char(EditLine *el, wchar_t *out)
{
  struct tm_edit *e = NULL;
  el_get(el, EL_CLIENTDATA, &e);
  mbstate_t state = {0};
  for (int i = 0; i < 6; i++) {
    char c;
    int got = next_byte(e, &c);
    if (got <= 0)
      return got;
    size_t n = mbrtowc(out, &c, 1, &state);
    if (n == (size_t)-2) /* more to come */
      continue;
    if (n == (size_t)-1)
      *out = L'?';
    return 1;
  }
  *out = L'?';
  return 1;
}

/* ---- completion ---- */

void tm_edit_insert(struct tm_edit *e, const char *text)
{
  if (*text != '\0' && el_insertstr(e->el, text) == 0)
    e->answered = true;
}

void tm_edit_show(struct tm_edit *e, const char *text)
{
  fputc('\n', stdout);
  fputs(text, stdout);
  fflush(stdout);
  el_set(e->el, EL_REFRESH);
  e->answered = true;
}

static unsigned char on_tab(EditLine *el, int key)
{
  (void)key;
  struct tm_edit *e = NULL;
  el_get(el, EL_CLIENTDATA, &e);
  const LineInfo *line = el_line(el);
  e->answered = false;
  if (e->complete != NULL)
    e->complete(e->data, e, line->buffer, (size_t)(line->cursor - line->buffer));
  return e->answered ? CC_REFRESH : CC_REFRESH_BEEP;
}

/* ---- open, close, lines ---- */

static bool set_up(struct tm_edit *e)
{
  HistEvent event;
  e->el = el_init_fd("tidemill", stdin, stdout, stderr, STDIN_FILENO, STDOUT_FILENO,
                     STDERR_FILENO);
  e->history = history_init();
  if (e->el == NULL || e->history == NULL)
    return false;
  history(e->history, &event, H_SETSIZE, HISTORY);
  history(e->history, &event, H_SETUNIQUE, 1);
  el_set(e->el, EL_CLIENTDATA, e);
  el_set(e->el, EL_PROMPT, prompt_of);
  el_set(e->el, EL_SIGNAL, 0);
  el_set(e->el, EL_GETCFN, next_char);
  el_set(e->el, EL_EDITOR, "emacs");
  el_set(e->el, EL_HIST, history, e->history);
  el_set(e->el, EL_ADDFN, "tidemill-complete", "Complete the word before the cursor",
         on_tab);
  el_set(e->el, EL_BIND, "^I", "tidemill-complete", NULL);
  el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
  el_set(e->el, EL_BIND, "\\e[3~", "ed-delete-next-char", NULL);
  el_source(e->el, NULL);
  ioctl(STDOUT_FILENO, TIOCGWINSZ, &e->size);
  return true;
}

struct tm_edit *tm_edit_open(tm_edit_complete *complete, void *data, struct tm_error *err)
{
  struct tm_edit *e = calloc(1, sizeof *e);
  if (e == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  e->complete = complete;
  e->data = data;
  e->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  if (e->utf8 == (locale_t)0)
    e->utf8 = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
  if (e->utf8 == (locale_t)0) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    goto fail;
  }
  locale_t before = uselocale(e->utf8);
  bool ok = set_up(e);
  uselocale(before);
  if (ok)
    return e;
  tm_error_set(err, TM_ESYSTEM, "cannot edit lines on this terminal");
fail:
  tm_edit_close(e);
  return NULL;
}

void tm_edit_close(struct tm_edit *e)
{
  if (e == NULL)
    return;
  if (e->el != NULL)
    el_end(e->el);
  if (e->history != NULL)
    history_end(e->history);
  if (e->utf8 != (locale_t)0)
    freelocale(e->utf8);
  free(e->line);
  free(e->path);
  free(e);
}

enum tm_edit_end tm_edit_line(struct tm_edit *e, const char *prompt, const char **line,
                              struct tm_error *err)
{
  int count = 0;
  snprintf(e->prompt, sizeof e->prompt, "%s", prompt);
  e->interrupted = false;
  struct sigaction action = {.sa_handler = wake}, winch, cont;
  sigset_t waking;
  sigemptyset(&action.sa_mask);
  sigemptyset(&waking);
  sigaddset(&waking, SIGWINCH);
  sigaddset(&waking, SIGCONT);
  pthread_sigmask(SIG_BLOCK, &waking, &e->mask);
  sigaction(SIGWINCH, &action, &winch);
  sigaction(SIGCONT, &action, &cont);
  locale_t before = uselocale(e->utf8);
  el_set(e->el, EL_PREP_TERM, 1); /* before the prompt: keys may come at once */
  errno = 0;
  const char *typed = el_gets(e->el, &count);
  int error = errno;
  uselocale(before);
  sigaction(SIGWINCH, &winch, NULL);
  sigaction(SIGCONT, &cont, NULL);
  pthread_sigmask(SIG_SETMASK, &e->mask, NULL);
  if (e->interrupted)
    return TM_EDIT_INTERRUPTED;
  if (typed == NULL && count < 0 && error != 0) {
    tm_error_errno(err, TM_ESYSTEM, error, "cannot read from the terminal");
    return TM_EDIT_FAILED;
  }
  if (typed == NULL || count <= 0)
    return TM_EDIT_EOF;
  free(e->line);
  e->line = strndup(typed, strcspn(typed, "\r\n"));
  if (e->line == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return TM_EDIT_FAILED;
  }
  *line = e->line;
  return TM_EDIT_LINE;
}

/* ---- history ---- */

/* A line that is not UTF-8 is left out: libedit could not go past it. */
static void remember(struct tm_edit *e, const char *line)
{
  HistEvent event;
  locale_t before = uselocale(e->utf8);
  if (mbstowcs(NULL, line, 0) != (size_t)-1)
    history(e->history, &event, H_ENTER, line);
  uselocale(before);
}

static void remember_all(struct tm_edit *e, FILE *file, int *lines)
{
  char *line = NULL;
  size_t size = 0;
  for (*lines = 0; getline(&line, &size, file) > 0; ++*lines) {
    line[strcspn(line, "\r\n")] = '\0';
    if (*line != '\0')
      remember(e, line);
  }
  free(line);
}

/* Writes what libedit remembers, oldest first, in place of the file. */
static bool rewrite(struct tm_edit *e, struct tm_error *err)
{
  char *fresh = NULL;
  if (asprintf(&fresh, "%s.%ld", e->path, (long)getpid()) < 0) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
  bool ok = file != NULL;
  HistEvent event;
  if (ok && history(e->history, &event, H_LAST) == 0) /* the oldest */
    do
      ok = fprintf(file, "%s\n", event.str) > 0;
    while (ok && history(e->history, &event, H_PREV) == 0);
  if (file != NULL)
    ok = fclose(file) == 0 && ok;
  else if (fd >= 0)
    close(fd);
  ok = ok && rename(fresh, e->path) == 0;
  if (!ok) {
    tm_error_errno(err, TM_EIO, errno, "cannot write '%s'", e->path);
    unlink(fresh);
  }
  free(fresh);
  return ok;
}

bool tm_edit_history(struct tm_edit *e, const char *path, struct tm_error *err)
{
  free(e->path);
  e->path = strdup(path);
  if (e->path == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT)
    return true;
  FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
  struct stat st;
  if (file == NULL || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    tm_error_errno(err, TM_EIO, file == NULL ? errno : EINVAL, "cannot read '%s'", path);
    if (file != NULL)
      fclose(file);
    else if (fd >= 0)
      close(fd);
    free(e->path);
    e->path = NULL;
    return false;
  }
  if ((st.st_mode & 077) != 0 && fchmod(fd, 0600) != 0)
    errno = 0; /* not ours: it is read as it is */
  int lines = 0;
  bool cut = st.st_size > MOST_HISTORY && fseek(file, -MOST_HISTORY, SEEK_END) == 0;
  remember_all(e, file, &lines);
  fclose(file);
  if (cut)
    return rewrite(e, err);
  return lines <= 2 * HISTORY || rewrite(e, err);
}

bool tm_edit_add(struct tm_edit *e, const char *line, struct tm_error *err)
{
  remember(e, line);
  if (e->path == NULL)
    return true;
  int fd = open(e->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  bool ok = fd >= 0 && dprintf(fd, "%s\n", line) > 0;
  if (!ok)
    tm_error_errno(err, TM_EIO, errno, "cannot write '%s'", e->path);
  if (fd >= 0)
    close(fd);
  return ok;
}
