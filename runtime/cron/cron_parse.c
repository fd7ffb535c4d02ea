/*
** cron_parse.c: the text of a cron expression to its sets
**
** A field is a list of items; an item is a base (`*`, a value, a range, or one of the day
** fields' specials) with an optional step. What each field allows is a row of a table.
** Whatever is not understood in full is refused, with the field, the item and the range.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cron/cron.h"
#include "cron/cron_fields.h"

enum { LONGEST = 1000, MOST_FIELDS = 7 };

enum which { SECOND, MINUTE, HOUR, DOM, MONTH, DOW, YEAR };

struct rule {
  const char *name;
  int min, max;
  int most_step;
  const char *const *names; /* NULL-ended, or NULL */
  int first_name;           /* value of names[0] */
};

static const char *const month_names[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL",
                                          "AUG", "SEP", "OCT", "NOV", "DEC", NULL};
static const char *const day_names[] = {"SUN", "MON", "TUE", "WED",
                                        "THU", "FRI", "SAT", NULL};

static const struct rule quartz_rules[] = {
    [SECOND] = {"second", 0, 59, 59, NULL, 0},
    [MINUTE] = {"minute", 0, 59, 59, NULL, 0},
    [HOUR] = {"hour", 0, 23, 23, NULL, 0},
    [DOM] = {"day-of-month", 1, 31, 31, NULL, 0},
    [MONTH] = {"month", 1, 12, 12, month_names, 1},
    [DOW] = {"day-of-week", 1, 7, 7, day_names, 1},
    [YEAR] = {"year", TM_CRON_YEAR_MIN, TM_CRON_YEAR_MAX, 129, NULL, 0},
};
static const struct rule crontab_dow = {"day-of-week", 0, 7, 7, day_names, 0};

struct parser {
  struct tm_cron *cron;
  bool crontab;
  const char *whole; /* the expression, for messages */
  const struct rule *rule;
  enum which which;
  const char *item; /* the item being read, for messages; not NUL-ended */
  int item_length;
  struct tm_error *err;
};

/* ---- refusing ---- */

/* "cron expression '0 0 24 * * ?': hour '24' is not within 0-23" */
static bool refuse(struct parser *p, const char *what)
{
  tm_error_set(p->err, TM_EUSAGE, "cron expression '%.100s': %s '%.*s' %s", p->whole,
               p->rule->name, p->item_length > 60 ? 60 : p->item_length, p->item, what);
  return false;
}

static bool refuse_value(struct parser *p)
{
  char what[96];
  snprintf(what, sizeof what, "is not within %d-%d%s", p->rule->min, p->rule->max,
           p->which == MONTH ? " or JAN-DEC"
           : p->which == DOW ? " or SUN-SAT"
                             : "");
  refuse(p, what);
  if (p->which == DOW && !p->crontab)
    tm_error_hint(p->err, "in a Quartz expression 1 is Sunday and 7 is Saturday");
  return false;
}

static bool refuse_step(struct parser *p)
{
  char what[64];
  snprintf(what, sizeof what, "has a step that is not within 1-%d", p->rule->most_step);
  return refuse(p, what);
}

/* A character that no value begins with: perhaps a special of another field. */
static bool refuse_text(struct parser *p, char at)
{
  bool day_field = p->which == DOM || p->which == DOW;
  if (p->crontab && (at == '?' || at == '#' || at == 'L' || at == 'W')) {
    refuse(p, "is not for an expression of five fields");
    tm_error_hint(p->err, "? L W # are Quartz: write six fields, seconds first");
  } else if (at == 'W' && p->which != DOM) {
    refuse(p, "holds W, which belongs to day-of-month");
    tm_error_hint(p->err, "the day-of-month is the fourth field of six");
  } else if (at == '#' && p->which != DOW) {
    refuse(p, "holds #, which belongs to day-of-week");
    tm_error_hint(p->err, "the day-of-week is the sixth field: 6#3 is the third Friday");
  } else if ((at == 'L' || at == '?') && !day_field) {
    refuse(p, at == 'L' ? "holds L, which belongs to the day fields"
                        : "holds ?, which belongs to the day fields");
    tm_error_hint(p->err,
                  "day-of-month is the fourth field of six, day-of-week the sixth");
  } else {
    char what[96];
    snprintf(what, sizeof what, "cannot be read; values are %d-%d%s", p->rule->min,
             p->rule->max,
             p->which == MONTH ? " or JAN-DEC"
             : p->which == DOW ? " or SUN-SAT"
                               : "");
    refuse(p, what);
  }
  return false;
}

/* ---- values ---- */

static bool is_digit(char c)
{
  return c >= '0' && c <= '9';
}

static char upper(char c)
{
  return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static bool is_letter(char c)
{
  return upper(c) >= 'A' && upper(c) <= 'Z';
}

/* Digits at *s, at most `end`; false: none. What is too large reads as 99999. */
static bool number(const char **s, const char *end, int *out)
{
  if (*s == end || !is_digit(**s))
    return false;
  int n = 0;
  for (; *s < end && is_digit(**s); (*s)++)
    n = n > 9999 ? 99999 : n * 10 + (**s - '0');
  *out = n;
  return true;
}

static bool named(struct parser *p, const char **s, const char *end, int *out)
{
  const struct rule *rule = p->rule;
  for (int i = 0; rule->names != NULL && rule->names[i] != NULL && end - *s >= 3; i++) {
    if (strncasecmp(*s, rule->names[i], 3) != 0)
      continue;
    *s += 3;
    *out = rule->first_name + i;
    return true;
  }
  return false;
}

static bool value(struct parser *p, const char **s, const char *end, int *out)
{
  if (number(s, end, out))
    return (*out >= p->rule->min && *out <= p->rule->max) || refuse_value(p);
  const char *start = *s;
  if (named(p, s, end, out)) {
    if (*s == end || !is_letter(**s) || (p->which == DOW && upper(**s) == 'L'))
      return true;
    refuse_text(p, 0);
    tm_error_hint(p->err, "names have three letters: %.3s", start);
    return false;
  }
  return refuse_text(p, start < end ? upper(*start) : 0);
}

/* The number of the bit that stands for a value, which may have run over the field's end. */
static int bit_of(const struct parser *p, int v)
{
  switch (p->which) {
  case DOW:
    return (v - p->rule->first_name) % 7;
  case DOM:
    return (v - 1) % 31 + 1;
  case MONTH:
    return (v - 1) % 12 + 1;
  default:
    return v % (p->rule->max + 1);
  }
}

static void set_year(struct tm_cron *c, int year)
{
  int n = year - TM_CRON_YEAR_MIN;
  c->years[n / 64] |= UINT64_C(1) << (n % 64);
}

static void set_value(struct parser *p, int v)
{
  struct tm_cron *c = p->cron;
  if (p->which == YEAR) {
    set_year(c, v);
    return;
  }
  uint64_t bit = UINT64_C(1) << bit_of(p, v);
  switch (p->which) {
  case SECOND:
    c->seconds |= bit;
    break;
  case MINUTE:
    c->minutes |= bit;
    break;
  case HOUR:
    c->hours |= (uint32_t)bit;
    break;
  case DOM:
    c->dom |= (uint32_t)bit;
    break;
  case MONTH:
    c->months |= (uint32_t)bit;
    break;
  default:
    c->dow |= (uint8_t)bit;
    break;
  }
}

/* ---- specials of the day fields ---- */

/* "L", "L-3", "LW", "L-3W" */
static bool last_day(struct parser *p, const char *s, const char *end)
{
  int before = 0;
  bool near = false;
  if (s < end && *s == '-') {
    s++;
    if (!number(&s, end, &before) || before > 30)
      return refuse(p, "needs an offset within 0-30 after L-");
  }
  if (s < end && upper(*s) == 'W') {
    near = true;
    s++;
  }
  if (s != end)
    return refuse(p, "cannot be read; L forms are L, L-3, LW and L-3W");
  if (near)
    p->cron->dom_last_near |= UINT32_C(1) << before;
  else
    p->cron->dom_last |= UINT32_C(1) << before;
  return true;
}

/* "15W": `day` is read already, s stands behind the W. */
static bool near_day(struct parser *p, int day, const char *s, const char *end)
{
  if (s != end)
    return refuse(p, "cannot be read; W follows one day, as in 15W, and ends the item");
  p->cron->dom_near |= UINT32_C(1) << day;
  return true;
}

/* "6L" and "6#3": `day` is read already, s stands at the L or #. */
static bool special_weekday(struct parser *p, int day, const char *s, const char *end)
{
  uint8_t bit = (uint8_t)(1 << bit_of(p, day));
  if (upper(*s) == 'L') {
    if (s + 1 != end)
      return refuse(p,
                    "cannot be read; L follows one weekday, as in 6L, and ends the item");
    p->cron->dow_last |= bit;
    return true;
  }
  int nth;
  s++;
  if (!number(&s, end, &nth) || s != end || nth < 1 || nth > 5)
    return refuse(p, "needs a number within 1-5 after #");
  p->cron->dow_nth[nth - 1] |= bit;
  return true;
}

/* ---- items ---- */

static bool step_of(struct parser *p, const char **s, const char *end, int *step)
{
  *step = 1;
  if (*s == end || **s != '/')
    return true;
  (*s)++;
  if (!number(s, end, step) || *step < 1 || *step > p->rule->most_step)
    return refuse_step(p);
  return true;
}

/* From `first` to `last`, which may lie before it: then over the field's end. */
static bool set_range(struct parser *p, int first, int last, int step)
{
  if (p->which == DOW && p->crontab) { /* Sunday is 0 here; 5-7 stays as it is */
    if (first == 7) {
      first = 0;
      last %= 7;
    } else if (last == 0 && first > 0) {
      last = 7;
    }
  }
  if (last < first) {
    if (p->which == YEAR)
      return refuse(p, "ends before it begins");
    last += p->which == DOW ? 7 : p->rule->max - p->rule->min + 1;
  }
  for (int v = first; v <= last; v += step)
    set_value(p, v);
  return true;
}

static bool item(struct parser *p, const char *s, const char *end)
{
  int first, last, step;
  bool from_star = false, is_range = true;
  if (s == end)
    return refuse(p, "is empty: a comma with nothing beside it");
  if (p->which == DOM && !p->crontab && upper(*s) == 'L')
    return last_day(p, s + 1, end);
  if (p->which == DOW && !p->crontab && end - s == 1 && upper(*s) == 'L') {
    p->cron->dow |= 1 << 6; /* Saturday, the week's last day */
    return true;
  }
  if (*s == '*' || (*s == '/' && !p->crontab)) {
    from_star = true;
    first = p->rule->min;
    last = p->which == DOW ? first + 6 : p->rule->max;
    s += *s == '*';
  } else {
    if (!value(p, &s, end, &first))
      return false;
    if (s < end && !p->crontab && p->which == DOM && upper(*s) == 'W')
      return near_day(p, first, s + 1, end);
    if (s < end && !p->crontab && p->which == DOW && (upper(*s) == 'L' || *s == '#'))
      return special_weekday(p, first, s, end);
    last = first;
    is_range = s < end && *s == '-';
    if (is_range) {
      s++;
      if (!value(p, &s, end, &last))
        return false;
    }
  }
  bool stepped = s < end && *s == '/';
  if (!step_of(p, &s, end, &step))
    return false;
  if (s != end)
    return refuse_text(p, upper(*s));
  if (stepped && !is_range) {
    if (p->crontab) {
      refuse(p, "has a step but no range, which crons read in different ways");
      tm_error_hint(p->err, "write %d-%d/%d for every %d from %d on", first, p->rule->max,
                    step, step, first);
      return false;
    }
    last = p->which == DOW ? 7 : p->rule->max;
  }
  if (p->which <= HOUR && (from_star || stepped))
    p->cron->fixed = false;
  return set_range(p, first, last, step);
}

static bool field(struct parser *p, const char *text)
{
  bool list = strchr(text, ',') != NULL;
  for (const char *s = text;;) {
    const char *end = s + strcspn(s, ",");
    p->item = s;
    p->item_length = (int)(end - s);
    if (list && p->which == DOW && end - s == 1 && upper(*s) == 'L') {
      p->item = text;
      p->item_length = (int)strlen(text);
      refuse(p, "holds L in a list");
      tm_error_hint(p->err, "L alone is Saturday: write 7, or 6L for the last Friday");
      return false;
    }
    if (!item(p, s, end))
      return false;
    if (*end == '\0')
      return true;
    s = end + 1;
  }
}

/* ---- expressions ---- */

static bool fail_whole(struct parser *p, const char *what, const char *hint)
{
  tm_error_set(p->err, TM_EUSAGE, "cron expression '%.100s' %s", p->whole, what);
  tm_error_hint(p->err, "%s", hint);
  return false;
}

static bool parse_field(struct parser *p, enum which which, const char *text)
{
  p->which = which;
  p->rule = p->crontab && which == DOW ? &crontab_dow : &quartz_rules[which];
  return field(p, text);
}

static bool unrestricted(const char *text)
{
  return strcmp(text, "*") == 0;
}

/* Both `*`, or one restricted: `?` must stand in exactly one of the day fields. */
static bool quartz_days(struct parser *p, const char *dom, const char *dow)
{
  bool no_dom = strcmp(dom, "?") == 0, no_dow = strcmp(dow, "?") == 0;
  p->cron->any_dom = no_dom || unrestricted(dom);
  p->cron->any_dow = no_dow || unrestricted(dow);
  if ((!no_dom && !parse_field(p, DOM, dom)) || (!no_dow && !parse_field(p, DOW, dow)))
    return false;
  if (no_dom && no_dow)
    return fail_whole(p, "has ? in both day fields",
                      "write * or the days in one of them, ? in the other");
  if (!no_dom && !no_dow)
    return fail_whole(p, "gives both day-of-month and day-of-week",
                      "use ? in one of the day fields (the fourth and the sixth)");
  return true;
}

static bool quartz(struct parser *p, const char *const *fields, int count)
{
  struct tm_cron *c = p->cron;
  c->any_year = count == 6 || unrestricted(fields[6]);
  return parse_field(p, SECOND, fields[0]) && parse_field(p, MINUTE, fields[1]) &&
         parse_field(p, HOUR, fields[2]) && parse_field(p, MONTH, fields[4]) &&
         (c->any_year || parse_field(p, YEAR, fields[6])) &&
         quartz_days(p, fields[3], fields[5]);
}

/* As in Vixie cron, a day field that begins with `*` leaves the choice to the other; of two
** that do not, either is enough. */
static bool crontab(struct parser *p, const char *const *fields)
{
  struct tm_cron *c = p->cron;
  p->crontab = true;
  c->seconds = 1;
  c->any_year = true;
  c->any_dom = unrestricted(fields[2]);
  c->any_dow = unrestricted(fields[4]);
  c->either = fields[2][0] != '*' && fields[4][0] != '*';
  return parse_field(p, MINUTE, fields[0]) && parse_field(p, HOUR, fields[1]) &&
         parse_field(p, DOM, fields[2]) && parse_field(p, MONTH, fields[3]) &&
         parse_field(p, DOW, fields[4]);
}

static bool nickname(struct parser *p, const char *name)
{
  static const char *const table[][6] = {
      {"@yearly", "0", "0", "1", "1", "*"},  {"@annually", "0", "0", "1", "1", "*"},
      {"@monthly", "0", "0", "1", "*", "*"}, {"@weekly", "0", "0", "*", "*", "0"},
      {"@daily", "0", "0", "*", "*", "*"},   {"@midnight", "0", "0", "*", "*", "*"},
      {"@hourly", "0", "*", "*", "*", "*"},
  };
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    if (strcasecmp(name, table[i][0]) == 0)
      return crontab(p, table[i] + 1);
  return fail_whole(
      p, "is not a known nickname",
      "known are @hourly @daily @midnight @weekly @monthly @yearly @annually");
}

/* Splits at blanks in place; returns the count, which may pass MOST_FIELDS. */
static int split(char *text, const char **fields)
{
  int count = 0;
  char *save = NULL;
  for (char *f = strtok_r(text, " \t", &save); f != NULL;
       f = strtok_r(NULL, " \t", &save)) {
    if (count < MOST_FIELDS)
      fields[count] = f;
    count++;
  }
  return count;
}

static bool parse(struct parser *p, char *copy)
{
  const char *fields[MOST_FIELDS];
  int count = split(copy, fields);
  if (count == 0)
    return fail_whole(p, "is empty",
                      "write six fields, seconds first: 0 30 2 * * ? is 02:30 every day");
  if (count == 1 && fields[0][0] == '@')
    return nickname(p, fields[0]);
  if (count == 5)
    return crontab(p, fields);
  if (count == 6 || count == 7)
    return quartz(p, fields, count);
  char what[64];
  snprintf(what, sizeof what, "has %d field%s", count, count == 1 ? "" : "s");
  return fail_whole(
      p, what,
      "6 or 7 are wanted (second minute hour day-of-month month day-of-week "
      "[year]), or 5 as in crontab");
}

struct tm_cron *tm_cron_parse(const char *expression, struct tm_error *err)
{
  if (strlen(expression) > LONGEST) {
    tm_error_set(err, TM_EUSAGE, "cron expression '%.60s...' has more than %d characters",
                 expression, LONGEST);
    return NULL;
  }
  struct tm_cron *cron = calloc(1, sizeof *cron);
  char *copy = strdup(expression);
  if (cron != NULL)
    cron->text = strdup(expression);
  if (cron == NULL || copy == NULL || cron->text == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    goto fail;
  }
  cron->fixed = true;
  struct parser p = {.cron = cron, .whole = expression, .err = err};
  if (!parse(&p, copy))
    goto fail;
  free(copy);
  return cron;

fail:
  free(copy);
  tm_cron_free(cron);
  return NULL;
}
