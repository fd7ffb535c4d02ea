/*
** rowtext.c: rows of an executor as csv or text, byte for byte what COPY TO writes
**
** The rules are those of CopyAttributeOutText and CopyAttributeOutCSV (copyto.c; copy.c before
** PostgreSQL 14), which are static there and write to COPY's own destinations only. The rows
** go straight into the slab.
**
** Some types are written without their output function, where its text is known not to need
** it: it does not depend on a setting once that is pinned, and, for numbers and times, holds
** nothing that this table's delimiter and quotes would make special. Everything else goes
** through its output function, with the settings pinned while it runs: the variables
** themselves are set and put back, which costs nothing where they are right already and, unlike
** a set_config for each row, next to nothing where they are not.
*/
#include "oss_fdw/rowtext.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/format.h"
#include "oss_fdw/wait.h"

#if PG_VERSION_NUM < 140000 /* before, they returned nothing */
#define pg_ltoa(value, to) (pg_ltoa(value, to), strlen(to))
#define pg_lltoa(value, to) (pg_lltoa(value, to), strlen(to))
#endif

enum {
  VALUE_BYTES = MAXDATELEN + 1, /* the longest text of a number or a time: 128 in all */
  LARGE_BYTES = 8 * 1024, /* from here on the escapes are counted before room is made */
};

enum kind {
  OUTPUT,
  STRING,
  INT2,
  INT4,
  INT8,
  FLOAT4,
  FLOAT8,
  DATE,
  TIMESTAMP,
  TIMESTAMPTZ
};

enum byte_class {
  ORDINARY,
  SPECIAL,
  LEAD /* of a character whose other bytes may be ASCII */
};

struct column {
  int index; /* in the slot */
  enum kind kind;
  FmgrInfo output;
};

struct fdw_rowtext {
  const struct fdw_table *table;
  TupleDesc desc;
  MemoryContext row_cxt; /* reset after each row */
  struct column *columns;
  int count;
  bool csv, force_quote;
  bool transcode, embeds_ascii;
  bool pins; /* some column's output function may look at the settings */
  size_t null_print_len;
  const char *null_out; /* in the encoding of the objects */
  size_t null_out_len;
  size_t newline_len;
  uint8 special[256]; /* text: to be escaped; csv: makes the field quoted */
  uint8 inner[256];   /* csv: to be escaped within quotes */
};

/* ---- room in the slab ---- */

/* Where `more` bytes may be written, after the row's bytes so far. */
static char *room(struct tm_slab *slab, size_t more)
{
  struct tm_error err;
  if (likely(slab->cap - slab->len >= more))
    return slab->data + slab->len;
  if (!tm_slab_reserve(slab, more, &err))
    fdw_raise(&err);
  return slab->data + slab->len;
}

static void add_bytes(struct tm_slab *slab, const char *bytes, size_t n)
{
  memcpy(room(slab, n), bytes, n);
  slab->len += n;
}

static void add_byte(struct tm_slab *slab, char c)
{
  *room(slab, 1) = c;
  slab->len++;
}

/* A row that PostgreSQL could not read again is refused; so is a larger one on the way. */
static void check_room(const struct fdw_rowtext *r, const struct tm_slab *slab,
                       size_t start, size_t more)
{
  if (unlikely(slab->len - start + more >= MaxAllocSize))
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("row for foreign table \"%s\" is too long", r->table->relname),
                    errdetail("A row of an object cannot be longer than 1 GB.")));
}

/* ---- strings ---- */

static bool is_ascii(const char *s, size_t n)
{
  size_t i = 0;
  for (uint64 word; n - i >= sizeof word; i += sizeof word) {
    memcpy(&word, s + i, sizeof word);
    if ((word & UINT64CONST(0x8080808080808080)) != 0)
      return false;
  }
  for (; i < n; i++)
    if (IS_HIGHBIT_SET(s[i]))
      return false;
  return true;
}

/* The string in the encoding of the objects. ASCII is the same in all of them. */
static const char *encode(const struct fdw_rowtext *r, const char *s, size_t *n)
{
  if (!r->transcode || is_ascii(s, *n))
    return s;
  const char *out = pg_server_to_any(s, (int)*n, r->table->encoding);
  if (out != s)
    *n = strlen(out);
  return out;
}

/* The first byte from p on that is not ordinary, or end. */
static const char *find(const struct fdw_rowtext *r, const uint8 *classes, const char *p,
                        const char *end)
{
  for (;;) {
    while (p < end && classes[(unsigned char)*p] == ORDINARY)
      p++;
    if (p >= end)
      return end;
    if (classes[(unsigned char)*p] == SPECIAL)
      return p;
    p += pg_encoding_mblen(r->table->encoding, p);
  }
}

static size_t count_special(const struct fdw_rowtext *r, const uint8 *classes,
                            const char *p, const char *end)
{
  size_t n = 0;
  while ((p = find(r, classes, p, end)) < end) {
    n++;
    p++;
  }
  return n;
}

/* Room for a string of which every byte may grow to two; exactly as much for a large one. */
static char *room_escaped(const struct fdw_rowtext *r, const uint8 *classes,
                          const char *p, size_t n, struct tm_slab *slab, size_t start)
{
  size_t more = n < LARGE_BYTES ? 2 * n : n + count_special(r, classes, p, p + n);
  check_room(r, slab, start, more);
  return room(slab, more + 2);
}

/* Copies the string with an `escape` before each byte of the class; `letters`: control
** characters then become letters. Returns where it ends. */
static char *copy_escaped(const struct fdw_rowtext *r, const uint8 *classes,
                          const char *s, const char *end, char escape, bool letters,
                          char *to)
{
  for (;;) {
    const char *stop = find(r, classes, s, end);
    memcpy(to, s, (size_t)(stop - s));
    to += stop - s;
    if (stop == end)
      return to;
    char letter = letters ? tm_format_escape(*stop) : 0;
    *to++ = escape;
    *to++ = letter != 0 ? letter : *stop;
    s = stop + 1;
  }
}

static void add_text(const struct fdw_rowtext *r, const char *s, size_t n,
                     struct tm_slab *slab, size_t start)
{
  s = encode(r, s, &n);
  char *to = room_escaped(r, r->special, s, n, slab, start);
  to = copy_escaped(r, r->special, s, s + n, '\\', true, to);
  slab->len = (size_t)(to - slab->data);
}

static void add_quoted(const struct fdw_rowtext *r, const char *s, size_t n,
                       struct tm_slab *slab, size_t start)
{
  char *to = room_escaped(r, r->inner, s, n, slab, start);
  *to++ = r->table->quote;
  to = copy_escaped(r, r->inner, s, s + n, r->table->escape, false, to);
  *to++ = r->table->quote;
  slab->len = (size_t)(to - slab->data);
}

static void add_csv(const struct fdw_rowtext *r, const char *s, size_t n, bool quote,
                    struct tm_slab *slab, size_t start)
{
  /* What looks like NULL is quoted; COPY compares before it converts. */
  quote = quote || (n == r->null_print_len && memcmp(s, r->table->null_print, n) == 0);
  s = encode(r, s, &n);
  if (!quote) /* alone on a line, \. would end the data */
    quote = (r->count == 1 && n == 2 && s[0] == '\\' && s[1] == '.') ||
            find(r, r->special, s, s + n) != s + n;
  if (quote) {
    add_quoted(r, s, n, slab, start);
    return;
  }
  check_room(r, slab, start, n);
  add_bytes(slab, s, n);
}

static void add_string(const struct fdw_rowtext *r, const char *s, size_t n,
                       struct tm_slab *slab, size_t start)
{
  if (r->csv)
    add_csv(r, s, n, r->force_quote, slab, start);
  else
    add_text(r, s, n, slab, start);
}

/* ---- numbers and times, which need no quotes unless all are forced ---- */

static size_t print_date(DateADT date, char *to)
{
  struct pg_tm tm;
  if (DATE_NOT_FINITE(date)) {
    EncodeSpecialDate(date, to);
  } else {
    j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
    EncodeDateOnly(&tm, USE_ISO_DATES, to);
  }
  return strlen(to);
}

static size_t print_timestamp(Timestamp at, bool zoned, char *to)
{
  struct pg_tm tm;
  fsec_t fsec;
  int zone = 0;
  const char *zone_name = NULL;
  if (TIMESTAMP_NOT_FINITE(at)) {
    EncodeSpecialTimestamp(at, to);
    return strlen(to);
  }
  if (timestamp2tm(at, zoned ? &zone : NULL, &tm, &fsec, zoned ? &zone_name : NULL,
                   NULL) != 0)
    ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                    errmsg("timestamp out of range")));
  EncodeDateTime(&tm, fsec, zoned, zone, zone_name, USE_ISO_DATES, to);
  return strlen(to);
}

/* The text of a value of these kinds; `to` has VALUE_BYTES. */
static size_t print_value(enum kind kind, Datum value, char *to)
{
  switch (kind) {
  case INT2:
    return (size_t)pg_ltoa(DatumGetInt16(value), to);
  case INT4:
    return (size_t)pg_ltoa(DatumGetInt32(value), to);
  case INT8:
    return (size_t)pg_lltoa(DatumGetInt64(value), to);
  case FLOAT4:
    return (size_t)float_to_shortest_decimal_buf(DatumGetFloat4(value), to);
  case FLOAT8:
    return (size_t)double_to_shortest_decimal_buf(DatumGetFloat8(value), to);
  case DATE:
    return print_date(DatumGetDateADT(value), to);
  case TIMESTAMP:
    return print_timestamp(DatumGetTimestamp(value), false, to);
  default:
    Assert(kind == TIMESTAMPTZ);
    return print_timestamp(DatumGetTimestampTz(value), true, to);
  }
}

static void add_value(const struct fdw_rowtext *r, enum kind kind, Datum value,
                      struct tm_slab *slab)
{
  char *to = room(slab, VALUE_BYTES + 2);
  if (r->force_quote)
    *to++ = r->table->quote;
  to += print_value(kind, value, to);
  if (r->force_quote)
    *to++ = r->table->quote;
  slab->len = (size_t)(to - slab->data);
}

/* ---- rows ---- */

static void add_column(struct fdw_rowtext *r, struct column *c, Datum value,
                       struct tm_slab *slab, size_t start)
{
  if (c->kind == STRING) {
    struct varlena *v = PG_DETOAST_DATUM_PACKED(value);
    add_string(r, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v), slab, start);
  } else if (c->kind == OUTPUT) {
    const char *s = OutputFunctionCall(&c->output, value);
    add_string(r, s, strlen(s), slab, start);
  } else {
    add_value(r, c->kind, value, slab);
  }
}

static void add_row(struct fdw_rowtext *r, const TupleTableSlot *slot,
                    struct tm_slab *slab)
{
  size_t start = slab->len;
  for (int i = 0; i < r->count; i++) {
    struct column *c = &r->columns[i];
    if (i > 0)
      add_byte(slab, r->table->delimiter);
    if (slot->tts_isnull[c->index])
      add_bytes(slab, r->null_out, r->null_out_len);
    else
      add_column(r, c, slot->tts_values[c->index], slab, start);
  }
  add_bytes(slab, r->table->newline, r->newline_len);
  check_room(r, slab, start, 0);
}

/* With the settings that output functions look at as the objects need them. */
static void add_row_pinned(struct fdw_rowtext *r, const TupleTableSlot *slot,
                           struct tm_slab *slab)
{
  int date_style = DateStyle, interval_style = IntervalStyle;
  int float_digits = extra_float_digits, bytea_style = bytea_output;
  DateStyle = USE_ISO_DATES;
  IntervalStyle = INTSTYLE_POSTGRES;
  extra_float_digits = 3;
  bytea_output = BYTEA_OUTPUT_HEX;
  PG_TRY();
  {
    add_row(r, slot, slab);
  }
  PG_FINALLY();
  {
    DateStyle = date_style;
    IntervalStyle = interval_style;
    extra_float_digits = float_digits;
    bytea_output = bytea_style;
  }
  PG_END_TRY();
}

/* From 1 on, which is the default, floats are exact and 3 makes no difference. */
static bool settings_are_right(void)
{
  return DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES &&
         extra_float_digits >= 1 && bytea_output == BYTEA_OUTPUT_HEX;
}

void fdw_rowtext_add(struct fdw_rowtext *r, TupleTableSlot *slot, struct tm_slab *slab)
{
  MemoryContext before = MemoryContextSwitchTo(r->row_cxt);
  slot_getallattrs(slot);
  if (!r->pins || likely(settings_are_right()))
    add_row(r, slot, slab);
  else
    add_row_pinned(r, slot, slab);
  MemoryContextSwitchTo(before);
  MemoryContextReset(r->row_cxt);
  slab->rows++;
}

void fdw_rowtext_header(struct fdw_rowtext *r, struct tm_slab *slab)
{
  MemoryContext before = MemoryContextSwitchTo(r->row_cxt);
  size_t start = slab->len;
  for (int i = 0; i < r->count; i++) {
    const char *name = NameStr(TupleDescAttr(r->desc, r->columns[i].index)->attname);
    if (i > 0)
      add_byte(slab, r->table->delimiter);
    if (r->csv) /* names are not quoted for force_quote's sake */
      add_csv(r, name, strlen(name), false, slab, start);
    else
      add_text(r, name, strlen(name), slab, start);
  }
  add_bytes(slab, r->table->newline, r->newline_len);
  MemoryContextSwitchTo(before);
  MemoryContextReset(r->row_cxt);
}

/* ---- making one ---- */

/* Whether the byte can be in the text of a number, a date or a time. */
static bool in_value(char c)
{
  return c != '\0' && (isalnum((unsigned char)c) || strchr("+-:. ", c) != NULL);
}

/* Whether numbers and times need neither quotes nor escapes, whatever they are. */
static bool values_are_plain(const struct fdw_table *t)
{
  const char *null = t->null_print;
  if (in_value(t->delimiter) || in_value(t->quote) || in_value(t->escape))
    return false;
  if (t->format == FDW_TEXT)
    return true;
  return !isdigit((unsigned char)null[0]) && null[0] != '-' && strcmp(null, "NaN") != 0 &&
         pg_strcasecmp(null, "infinity") != 0;
}

static enum kind kind_of(Oid output, bool plain)
{
  switch (output) {
  case F_TEXTOUT:
  case F_VARCHAROUT:
  case F_BPCHAROUT:
  case F_JSON_OUT:
    return STRING;
  case F_INT2OUT:
    return plain ? INT2 : OUTPUT;
  case F_INT4OUT:
    return plain ? INT4 : OUTPUT;
  case F_INT8OUT:
    return plain ? INT8 : OUTPUT;
  case F_FLOAT4OUT:
    return plain ? FLOAT4 : OUTPUT;
  case F_FLOAT8OUT:
    return plain ? FLOAT8 : OUTPUT;
  case F_DATE_OUT:
    return plain ? DATE : OUTPUT;
  case F_TIMESTAMP_OUT:
    return plain ? TIMESTAMP : OUTPUT;
  case F_TIMESTAMPTZ_OUT:
    return plain ? TIMESTAMPTZ : OUTPUT;
  default:
    return OUTPUT;
  }
}

static void set_columns(struct fdw_rowtext *r)
{
  bool plain = values_are_plain(r->table);
  r->columns = palloc0(sizeof *r->columns * (size_t)Max(r->desc->natts, 1));
  for (int i = 0; i < r->desc->natts; i++) {
    Form_pg_attribute attribute = TupleDescAttr(r->desc, i);
    Oid output;
    bool is_varlena;
    if (attribute->attisdropped || attribute->attgenerated != '\0')
      continue;
    struct column *c = &r->columns[r->count++];
    getTypeOutputInfo(attribute->atttypid, &output, &is_varlena);
    fmgr_info(output, &c->output);
    c->index = i;
    c->kind = kind_of(output, plain);
    r->pins = r->pins || c->kind == OUTPUT;
  }
}

static void set_classes(struct fdw_rowtext *r)
{
  const struct fdw_table *t = r->table;
  for (int c = 0x80; c < 0x100 && r->embeds_ascii; c++)
    r->special[c] = r->inner[c] = LEAD;
  r->special[(unsigned char)t->delimiter] = SPECIAL;
  r->special['\n'] = r->special['\r'] = SPECIAL;
  if (r->csv) {
    r->special[(unsigned char)t->quote] = SPECIAL;
    r->inner[(unsigned char)t->quote] = r->inner[(unsigned char)t->escape] = SPECIAL;
  } else {
    for (const char *c = "\b\f\t\v\\"; *c != '\0'; c++)
      r->special[(unsigned char)*c] = SPECIAL;
  }
}

struct fdw_rowtext *fdw_rowtext_new(const struct fdw_table *t, TupleDesc desc)
{
  struct fdw_rowtext *r = palloc0(sizeof *r);
  int encoding = t->encoding;
  r->table = t;
  r->desc = desc;
  r->row_cxt = AllocSetContextCreate(CurrentMemoryContext, "oss_fdw row to write",
                                     ALLOCSET_DEFAULT_SIZES);
  r->csv = t->format == FDW_CSV;
  r->force_quote = r->csv && t->force_quote_all;
  r->transcode = encoding != GetDatabaseEncoding() && encoding != PG_SQL_ASCII;
  r->embeds_ascii = PG_ENCODING_IS_CLIENT_ONLY(encoding);
  r->null_print_len = strlen(t->null_print);
  r->null_out_len = r->null_print_len;
  r->null_out = encode(r, t->null_print, &r->null_out_len);
  r->newline_len = strlen(t->newline);
  set_columns(r);
  set_classes(r);
  return r;
}
