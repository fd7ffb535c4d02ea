/*
** split.c: where records end in csv and text, as PostgreSQL's COPY sees it
**
** The state machine is that of COPY (CopyReadLineText, the same in PostgreSQL 13 to 17):
**
**   - the first line end outside quotes decides what line ends are in this object: LF, CR or
**     CRLF;
**   - csv: a quote anywhere turns quoting on and off; an escape that is not the quote takes the
**     meaning from a quote after it, inside quotes only; within quotes line ends are data;
**   - text: a backslash takes the meaning from the byte after it;
**   - "\." alone on a line, with a line end, is the end of the data; without one it is not.
**
** Where COPY gives up, over a line end of another kind, the record is at fault and reading goes
** on: a stray LF ends its record (a file with mixed line ends loses the odd line, not its
** neighbour too), a stray CR does not. An unterminated quote ends with the object: nothing in
** it is taken for records, as a line of a quoted field may look like a row.
**
** A line end must be seen whole, so a CR may have to wait for the byte after it: then the record
** ends with none of the bytes of the next call used.
*/
#include "stream/split.h"

#include <string.h>

static void begin_record(struct tm_splitter *s)
{
  struct tm_split_record *r = &s->record;
  int64_t lines = s->eol == TM_EOL_CR ? s->record.cr : s->record.lf;
  *r = (struct tm_split_record){.line = r->line + lines, .offset = r->offset + r->size};
  s->ended = false;
  s->in_quote = s->after_escape = s->after_backslash = s->after_lead = s->after_cr =
      false;
  s->marker = 0;
}

void tm_split_start(struct tm_splitter *s, bool csv, char quote, char escape,
                    enum tm_split_bytes bytes)
{
  memset(s, 0, sizeof *s);
  s->csv = csv;
  s->bytes = bytes;
  s->stop['\n'] = s->stop['\r'] = true;
  if (csv) {
    s->quote = (unsigned char)quote;
    s->escape = (unsigned char)escape;
    s->stop[s->quote] = s->stop[s->escape] = true;
  } else {
    s->stop['\\'] = true;
  }
  for (int c = 0x80; bytes != TM_SPLIT_SAFE && c < 0x100; c++)
    s->stop[c] = bytes == TM_SPLIT_TRAILS || c < 0xa1 || c > 0xdf;
  s->record.line = 1;
  begin_record(s);
}

static bool end_record(struct tm_splitter *s, int newline)
{
  s->record.newline = newline;
  s->record.marker = s->marker == 2 && newline > 0 && s->record.fault == TM_SPLIT_GOOD;
  s->ended = true;
  return true;
}

/* Inside quotes, the marker aside: COPY knows "\." before it asks for quotes. */
static bool quoted(const struct tm_splitter *s)
{
  return s->csv && s->in_quote && s->marker != 2;
}

static bool is_lead(const struct tm_splitter *s, unsigned char c)
{
  return c >= 0x80 && s->bytes != TM_SPLIT_SAFE && s->stop[c];
}

/* Whether the byte has its meaning taken by the one before it. */
static bool is_taken(struct tm_splitter *s, unsigned char c)
{
  if (s->after_lead) { /* no trail is below 0x30: a broken character takes no line end */
    s->after_lead = false;
    return c >= 0x30;
  }
  if (s->after_backslash) {
    s->after_backslash = false;
    s->after_lead = is_lead(s, c);
    return true;
  }
  return false;
}

static void turn_quote(struct tm_splitter *s, unsigned char c)
{
  bool escaping = s->escape != s->quote;
  if (escaping && s->in_quote && c == s->escape)
    s->after_escape = !s->after_escape;
  if (c == s->quote && !s->after_escape)
    s->in_quote = !s->in_quote;
  if (!escaping || c != s->escape)
    s->after_escape = false;
}

/* A byte of the table; *ended when it ends its record. */
static void see(struct tm_splitter *s, unsigned char c, bool *ended)
{
  if (c == '\n')
    s->record.lf++;
  if (c == '\r')
    s->record.cr++;
  if (is_taken(s, c))
    return;
  if (s->csv)
    turn_quote(s, c);
  if (is_lead(s, c)) {
    s->after_lead = true;
  } else if (c == '\\' && !s->csv) {
    s->after_backslash = true;
  } else if (c == '\n' && !quoted(s)) {
    if (s->eol == TM_EOL_UNKNOWN)
      s->eol = TM_EOL_LF;
    else if (s->eol != TM_EOL_LF)
      s->record.fault = TM_SPLIT_STRAY_LF;
    *ended = end_record(s, 1);
  } else if (c == '\r' && !quoted(s)) {
    if (s->eol == TM_EOL_CR)
      *ended = end_record(s, 1);
    else if (s->eol == TM_EOL_LF)
      s->record.fault = TM_SPLIT_STRAY_CR;
    else
      s->after_cr = true;
  }
}

/* The byte after a CR outside quotes, of which it is not known that it ends its record. True: it
** does; *taken: `c` is the LF of a CRLF. */
static bool see_after_cr(struct tm_splitter *s, unsigned char c, bool *taken)
{
  s->after_cr = false;
  *taken = c == '\n';
  if (*taken) {
    s->record.lf++;
    s->record.size++;
    s->eol = TM_EOL_CRLF;
    return end_record(s, 2);
  }
  if (s->eol == TM_EOL_UNKNOWN) {
    s->eol = TM_EOL_CR;
    return end_record(s, 1);
  }
  s->record.fault = TM_SPLIT_STRAY_CR;
  return false;
}

/* The first bytes of a record, until it is more than "\.". */
static void see_marker(struct tm_splitter *s, unsigned char c)
{
  if (s->marker == 0 && c == '\\')
    s->marker = 1;
  else if (s->marker == 1 && c == '.')
    s->marker = 2;
  else if (s->marker < 2 || (c != '\n' && c != '\r'))
    s->marker = -1;
}

bool tm_split_next(struct tm_splitter *s, const char *p, size_t len, size_t *used)
{
  const unsigned char *from = (const unsigned char *)p, *at = from, *end = from + len;
  bool ended = false;
  if (s->ended && len > 0)
    begin_record(s);
  while (!ended && at < end) {
    if (s->after_cr) {
      bool taken;
      ended = see_after_cr(s, *at, &taken);
      at += taken;
      continue;
    }
    if (s->marker < 0 && !s->after_lead && !s->after_backslash && !s->after_escape) {
      const unsigned char *plain = at;
      while (at < end && !s->stop[*at])
        at++;
      s->record.size += at - plain;
      if (at == end)
        break;
    }
    s->record.size++;
    if (s->marker >= 0)
      see_marker(s, *at);
    see(s, *at++, &ended);
  }
  *used = (size_t)(at - from);
  return ended;
}

bool tm_split_end(struct tm_splitter *s)
{
  if (s->ended || s->record.size == 0)
    return false;
  if (!s->after_cr)
    return end_record(s, 0);
  s->after_cr = false;
  if (s->eol == TM_EOL_UNKNOWN)
    return end_record(s, 1);
  s->record.fault = TM_SPLIT_STRAY_CR;
  return end_record(s, 0);
}
