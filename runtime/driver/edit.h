/*
** edit.h: lines typed at a terminal, with editing, history and completion (libedit)
**
** One editor at a time, on standard input and output, which are a terminal. Text is UTF-8.
*/
#ifndef TM_DRIVER_EDIT_H
#define TM_DRIVER_EDIT_H

#include <stddef.h>

#include "base/error.h"

struct tm_edit;

/* Called when the user presses Tab: `line` holds the `len` bytes before the cursor. It may
** call tm_edit_insert or tm_edit_show; when it calls neither the terminal beeps. */
typedef void tm_edit_complete(void *data, struct tm_edit *e, const char *line,
                              size_t len);

/* Opens the editor; the user's ~/.editrc is read for key bindings. `complete` may be NULL.
** NULL with *err set when memory ran out or libedit refuses the terminal. */
struct tm_edit *tm_edit_open(tm_edit_complete *complete, void *data, struct tm_error *err)
    TM_MUSTCHECK;

/* Gives the terminal back as it was. NULL is fine. */
void tm_edit_close(struct tm_edit *e);

enum tm_edit_end {
  TM_EDIT_LINE,        /* *line is what was typed, without the line end */
  TM_EDIT_EOF,         /* Ctrl-D on an empty line, or the terminal is gone */
  TM_EDIT_INTERRUPTED, /* the process's interrupt fired (Ctrl-C); it is left fired */
  TM_EDIT_FAILED       /* *err says why */
};

/* Reads one line behind `prompt` (at most 79 bytes of it). *line belongs to the editor and is valid until its next call. */
enum tm_edit_end tm_edit_line(struct tm_edit *e, const char *prompt, const char **line,
                              struct tm_error *err) TM_MUSTCHECK;

/* For the completion function: puts text at the cursor; shows text (whole lines) below what is
** being typed, which then stands again under it. */
void tm_edit_insert(struct tm_edit *e, const char *text);
void tm_edit_show(struct tm_edit *e, const char *text);

/* Names the file that keeps the history from one session to the next, one line each, and
** takes in what it holds; only its owner can read it (mode 0600, also if it was not). A file
** that does not exist is made by the first tm_edit_add. False: it cannot be read. */
bool tm_edit_history(struct tm_edit *e, const char *path, struct tm_error *err)
    TM_MUSTCHECK;

/* Adds a line to the history and its file. False: the file cannot be written; the line is in
** this session's history all the same. */
bool tm_edit_add(struct tm_edit *e, const char *line, struct tm_error *err) TM_MUSTCHECK;

#endif
