/*
** lcsv.c: the Lua module "csv": rows as tables, read from and written to strings and streams
**
** A reader's user value is a table: INPUT (the string or the source), NAMES (array, once
** known), REJECT. A writer's holds INPUT (the sink) and NAMES (name -> position).
*/
#include "bind/lcsv.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lformat.h"
#include "bind/lstream.h"
#include "bind/lvalues.h"
#include "stream/codec.h"

#define READER "tidemill.csv.reader"
#define WRITER "tidemill.csv.writer"

enum { INPUT = 1, NAMES, REJECT };

static const char *const further_opts[] = {"columns", "reject", NULL};

/* ---- reading ---- */

struct reader {
  struct tm_decoder *decoder; /* NULL: closed */
  struct tm_slab *slab;       /* what the decoder was lent */
  struct tm_lua_reject reject;
  bool fed, ended, named;
};

static int reader_close(lua_State *L)
{
  struct reader *r = luaL_checkudata(L, 1, READER);
  struct tm_decoder *decoder = r->decoder;
  struct tm_slab *slab = r->slab;
  r->decoder = NULL;
  r->slab = NULL;
  tm_decoder_free(decoder);
  tm_slab_free(slab);
  return 0;
}

static struct reader *check_reader(lua_State *L)
{
  struct reader *r = luaL_checkudata(L, 1, READER);
  if (r->decoder == NULL)
    luaL_error(L, "the reader is closed");
  return r;
}

/* Lends the decoder the next bytes, or tells it the end. `input` is the index of INPUT. */
static bool feed(lua_State *L, struct reader *r, int input, struct tm_error *err)
{
  if (lua_type(L, input) == LUA_TSTRING && !r->fed) {
    size_t len;
    const char *bytes = lua_tolstring(L, input, &len);
    r->fed = true;
    return tm_decoder_feed(r->decoder, bytes, len, err);
  }
  if (lua_type(L, input) != LUA_TSTRING) {
    struct tm_source *source = tm_lua_checksource(L, input);
    tm_slab_free(r->slab);
    r->slab = NULL;
    int got = source->ops->read(source, &r->slab, err);
    if (got < 0)
      return false;
    if (got > 0)
      return tm_decoder_feed(r->decoder, r->slab->data, r->slab->len, err);
  }
  r->ended = true;
  return tm_decoder_end(r->decoder, err);
}

/* Pushes the array of column names, or nil. */
static void push_names(lua_State *L, const struct tm_decoder *decoder)
{
  size_t count;
  const char *const *names = tm_decoder_columns(decoder, &count);
  if (count == 0) {
    lua_pushnil(L);
    return;
  }
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    lua_pushstring(L, names[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* Pushes the row; `names` is the index of the array of names, or of nil. */
static int push_row(lua_State *L, const struct tm_row *row, int names)
{
  bool named = lua_istable(L, names);
  lua_createtable(L, named ? 0 : (int)row->count, named ? (int)row->count : 0);
  for (size_t i = 0; i < row->count; i++) {
    if (named)
      lua_rawgeti(L, names, (lua_Integer)i + 1);
    tm_lua_pushfield(L, &row->fields[i]);
    if (named)
      lua_rawset(L, -3);
    else
      lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* reader() -> row, or nil at the end */
static int reader_next(lua_State *L)
{
  struct reader *r = check_reader(L);
  struct tm_error err;
  struct tm_row *row = NULL;
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  for (int i = INPUT; i <= REJECT; i++)
    lua_rawgeti(L, 2, i); /* stack: reader uservalue input names reject */
  r->reject.L = L;
  r->reject.index = lua_isnil(L, 2 + REJECT) ? 0 : 2 + REJECT;
  for (;;) {
    int got = tm_decoder_next(r->decoder, &row, &err);
    if (got < 0)
      return tm_lua_raise(L, &err);
    if (got > 0)
      break;
    if (r->ended) {
      lua_pushnil(L);
      return 1;
    }
    if (!feed(L, r, 2 + INPUT, &err))
      return tm_lua_raise(L, &err);
  }
  if (!r->named) {
    push_names(L, r->decoder);
    tm_lua_checkcolumns(L, -1, "header"); /* a name that comes twice would lose a field */
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_replace(L, 2 + NAMES);
    lua_rawseti(L, 2, NAMES);
    r->named = true;
  }
  return push_row(L, row, 2 + NAMES);
}

static int reader_columns(lua_State *L)
{
  push_names(L, check_reader(L)->decoder);
  return 1;
}

static int reader_rejected(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)tm_decoder_rejected(check_reader(L)->decoder));
  return 1;
}

/* Pushes opts[key] (nil without opts) and returns its index. */
static int get_opt(lua_State *L, int opts, const char *key)
{
  if (lua_istable(L, opts))
    lua_getfield(L, opts, key);
  else
    lua_pushnil(L);
  return lua_gettop(L);
}

/* parse(string | source [, opts]) -> reader, nil, nil, reader: made for a generic for */
static int csv_parse(lua_State *L)
{
  struct tm_format format;
  struct tm_error err;
  lua_settop(L, 2);
  if (lua_type(L, 1) != LUA_TSTRING)
    tm_lua_checksource(L, 1);
  tm_lua_checkformat(L, 2, further_opts, &format);
  int columns = get_opt(L, 2, "columns"), reject = get_opt(L, 2, "reject");
  size_t count = tm_lua_checkcolumns(L, columns, "columns");
  bool rejects = tm_lua_checkreject(L, reject);
  const char **names = lua_newuserdatauv(L, (count + 1) * sizeof *names, 0);
  for (size_t i = 0; i < count; i++) {
    lua_geti(L, columns, (lua_Integer)i + 1);
    names[i] = lua_tostring(L, -1); /* the table of columns holds it */
    lua_pop(L, 1);
  }
  struct reader *r = lua_newuserdatauv(L, sizeof *r, 1);
  *r = (struct reader){0};
  luaL_setmetatable(L, READER);
  lua_createtable(L, REJECT, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, INPUT);
  lua_pushvalue(L, reject);
  lua_rawseti(L, -2, REJECT);
  lua_setiuservalue(L, -2, 1);
  struct tm_decoder_opts opts = {.columns = count > 0 ? names : NULL,
                                 .column_count = count,
                                 .reject = rejects ? tm_lua_reject : NULL,
                                 .data = &r->reject};
  r->decoder = tm_decoder_new(&format, &opts, &err);
  if (r->decoder == NULL)
    return tm_lua_raise(L, &err);
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, -3);
  return 4;
}

/* ---- writing ---- */

struct writer {
  struct tm_encoder *encoder; /* NULL: closed */
  struct tm_lua_values values;
  struct tm_field *fields;
  size_t field_cap, columns; /* columns: 0 unless named */
  bool checked;
  uint64_t rows; /* in the encoder's output */
};

static int writer_close(lua_State *L)
{
  struct writer *w = luaL_checkudata(L, 1, WRITER);
  struct tm_encoder *encoder = w->encoder;
  w->encoder = NULL;
  tm_encoder_free(encoder);
  tm_lua_values_free(&w->values);
  free(w->fields);
  w->fields = NULL;
  return 0;
}

static struct writer *check_writer(lua_State *L)
{
  struct writer *w = luaL_checkudata(L, 1, WRITER);
  if (w->encoder == NULL)
    luaL_error(L, "the writer is closed");
  return w;
}

/* Encodes the row (a table) at `row`; `names` is the index of name -> position. */
static void write_row(lua_State *L, struct writer *w, int row, int names)
{
  struct tm_error err;
  luaL_checktype(L, row, LUA_TTABLE);
  size_t count = w->columns > 0 ? w->columns : (size_t)luaL_len(L, row);
  luaL_argcheck(L, count > 0, row, "an empty row; give the columns' names");
  luaL_argcheck(L, count <= TM_FORMAT_FIELDS_MAX, row, "too many columns");
  if (count > w->field_cap) {
    struct tm_field *fields = realloc(w->fields, count * sizeof *fields);
    if (fields == NULL)
      luaL_error(L, "out of memory");
    w->fields = fields;
    w->field_cap = count;
  }
  tm_lua_values_reset(L, &w->values, count);
  tm_lua_values_table(L, &w->values, row, names, NULL, 0, w->checked);
  for (size_t i = 0; i < count; i++)
    w->fields[i] = tm_lua_values_field(&w->values, i);
  if (!tm_encoder_row(w->encoder, w->fields, count, &err))
    tm_lua_raise(L, &err);
  w->rows++;
}

/* Makes a writer from opts; leaves it and then the table name -> position on the stack. */
static struct writer *new_writer(lua_State *L, int opts)
{
  static const char *const others[] = {"columns", NULL};
  struct tm_format format;
  struct tm_error err;
  tm_lua_checkformat(L, opts, others, &format);
  int columns = get_opt(L, opts, "columns");
  struct writer *w = lua_newuserdatauv(L, sizeof *w, 1);
  *w = (struct writer){0};
  luaL_setmetatable(L, WRITER);
  w->checked = !format.unchecked;
  w->columns = tm_lua_checkcolumns(L, columns, "columns");
  w->encoder = tm_encoder_new(&format, &err);
  if (w->encoder == NULL)
    tm_lua_raise(L, &err);
  if (format.header && w->columns == 0)
    luaL_argerror(L, opts, "a header needs the columns' names");
  if (format.header) {
    const char **names = lua_newuserdatauv(L, w->columns * sizeof *names, 0);
    for (size_t i = 0; i < w->columns; i++) {
      lua_geti(L, columns, (lua_Integer)i + 1);
      names[i] = lua_tostring(L, -1);
      lua_pop(L, 1);
    }
    if (!tm_encoder_header(w->encoder, names, w->columns, &err))
      tm_lua_raise(L, &err);
    lua_pop(L, 1);
  }
  return w;
}

/* format(rows [, opts]) -> string; rows: an array of tables, or a function that gives one a
** call and nil at the end */
static int csv_format(lua_State *L)
{
  lua_settop(L, 2);
  bool calls = lua_isfunction(L, 1) || luaL_getmetafield(L, 1, "__call") != LUA_TNIL;
  lua_settop(L, 2);
  if (!calls)
    luaL_checktype(L, 1, LUA_TTABLE);
  struct writer *w = new_writer(L, 2);
  int names = lua_gettop(L);
  for (lua_Integer i = 1;; i++) {
    if (calls) {
      lua_pushvalue(L, 1);
      lua_call(L, 0, 1);
    } else {
      lua_geti(L, 1, i);
    }
    if (lua_isnil(L, -1))
      break;
    write_row(L, w, names + 1, names);
    lua_settop(L, names);
  }
  struct tm_buffer *out = tm_encoder_out(w->encoder);
  lua_pushlstring(L, out->data != NULL ? out->data : "", out->len);
  return 1;
}

/* writer(sink [, opts]) -> writer */
static int csv_writer(lua_State *L)
{
  lua_settop(L, 2);
  tm_lua_checksink(L, 1);
  new_writer(L, 2);
  lua_createtable(L, NAMES, 0); /* stack: ... writer names uservalue */
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, INPUT);
  lua_insert(L, -2);
  lua_rawseti(L, -2, NAMES);
  lua_setiuservalue(L, -2, 1);
  return 1;
}

/* Gives what was encoded to the sink. `sink` is the index of the sink. */
static void flush(lua_State *L, struct writer *w, int sink_index)
{
  struct tm_error err;
  struct tm_sink *sink = tm_lua_checksink(L, sink_index);
  struct tm_buffer *out = tm_encoder_out(w->encoder);
  if (out->len == 0)
    return;
  struct tm_slab *slab = tm_slab_new(1, &err);
  if (slab == NULL)
    tm_lua_raise(L, &err);
  free(slab->data);
  slab->data = out->data;
  slab->cap = out->cap;
  slab->len = slab->raw_bytes = out->len;
  slab->rows = w->rows;
  *out = (struct tm_buffer){0};
  w->rows = 0;
  if (!sink->ops->write(sink, slab, &err))
    tm_lua_raise(L, &err);
}

/* stack: writer row -> writer row uservalue sink names */
static int writer_write(lua_State *L)
{
  struct writer *w = check_writer(L);
  lua_settop(L, 2);
  lua_getiuservalue(L, 1, 1);
  lua_rawgeti(L, 3, INPUT);
  lua_rawgeti(L, 3, NAMES);
  write_row(L, w, 2, 5);
  if (tm_encoder_out(w->encoder)->len >= TM_SLAB_BYTES)
    flush(L, w, 4);
  lua_settop(L, 1);
  return 1;
}

/* Writes what is left and finishes the sink. */
static int writer_finish(lua_State *L)
{
  struct writer *w = check_writer(L);
  struct tm_error err;
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  lua_rawgeti(L, 2, INPUT);
  flush(L, w, 3);
  struct tm_sink *sink = tm_lua_checksink(L, 3);
  if (!sink->ops->finish(sink, &err))
    return tm_lua_raise(L, &err);
  lua_settop(L, 1);
  return writer_close(L);
}

/* ---- the module ---- */

static const luaL_Reg reader_methods[] = {{"columns", reader_columns},
                                          {"rejected", reader_rejected},
                                          {"close", reader_close},
                                          {NULL, NULL}};
static const luaL_Reg reader_meta[] = {{"__call", reader_next},
                                       {"__close", reader_close},
                                       {"__gc", reader_close},
                                       {NULL, NULL}};
static const luaL_Reg writer_methods[] = {{"write", writer_write},
                                          {"finish", writer_finish},
                                          {"close", writer_close},
                                          {NULL, NULL}};
static const luaL_Reg writer_meta[] = {
    {"__close", writer_close}, {"__gc", writer_close}, {NULL, NULL}};
static const luaL_Reg module[] = {
    {"format", csv_format}, {"parse", csv_parse}, {"writer", csv_writer}, {NULL, NULL}};

static void new_type(lua_State *L, const char *name, const luaL_Reg *meta,
                     const luaL_Reg *methods)
{
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, meta, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

int luaopen_csv(lua_State *L)
{
  new_type(L, READER, reader_meta, reader_methods);
  new_type(L, WRITER, writer_meta, writer_methods);
  luaL_newlib(L, module);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
