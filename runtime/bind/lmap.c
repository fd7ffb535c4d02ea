/*
** lmap.c: stream.map, a stage that calls a Lua function for each row
**
** One protected call does a whole slab: an error in the function jumps out of it, over
** nothing, because all that the stage owns hangs off struct map. The row is one userdata for
** all rows; it reads the fields of the decoder's current row, or the value that was assigned.
** A row that nobody changed is given on as the bytes it came in, when the formats agree.
**
** Column names are looked up by the address of the key: Lua keeps one copy of each short
** string, the names are kept alive by the table `names`, so equal address is equal name.
** Longer keys take the slower way through that table.
**
** The stage's user value is a table: FN, ROW, NAMES (name -> position), REJECT.
*/
#include "bind/lmap.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lformat.h"
#include "bind/lstream.h"
#include "bind/lvalues.h"
#include "stream/codec.h"

enum { FN = 1, ROW, NAMES, REJECT, KEPT = REJECT };

struct map;

struct rowref { /* the Lua row; both NULL once the stage is closed */
  struct map *map;
};

struct map {
  struct tm_stage base;
  struct tm_format input, output;
  struct tm_decoder *decoder;
  struct tm_encoder *encoder;
  struct rowref *ref;

  /* columns: those of the input, then what only the output has */
  const char **keys; /* addresses of the names, alive in the table `names` */
  size_t key_count;
  size_t in_count;
  size_t *out; /* positions of the output's columns; NULL: those of the input, in order */
  size_t out_count;
  char **out_names; /* as given by output_columns, or NULL */
  size_t out_name_count;
  bool ready;    /* the columns are known, keys is set */
  bool raw_fits; /* an unchanged row's bytes are good as they are */
  bool header_left;

  struct tm_row *row; /* during a call of the function; else NULL */
  struct tm_lua_values values;
  struct tm_field *fields; /* one output row */
  size_t field_cap;

  lua_State *L; /* between enter and leave */
  int base_index;
  struct tm_lua_reject reject;
  struct tm_emit *emit;
  uint64_t rows, bytes; /* in the encoder's output */
  uint64_t number;      /* of the row under way, for errors */
  bool failed;          /* error is set */
  struct tm_error error;
  char where[160];
};

/* ---- the row as Lua sees it ---- */

static size_t column_count(const struct map *m)
{
  return m->key_count > m->row->count ? m->key_count : m->row->count;
}

static struct map *check_row(lua_State *L)
{
  struct rowref *ref = lua_touserdata(L, lua_upvalueindex(1));
  if (lua_touserdata(L, 1) != ref)
    luaL_typeerror(L, 1, "row");
  if (ref->map == NULL || ref->map->row == NULL)
    luaL_error(L, "the row is used after its function returned (row:copy() keeps it)");
  return ref->map;
}

/* The position of the column that the key at 2 names, from 0; -1: none. */
static ptrdiff_t find_column(lua_State *L, const struct map *m)
{
  if (lua_type(L, 2) == LUA_TNUMBER) {
    lua_Integer i = lua_tointeger(L, 2);
    return i >= 1 && (size_t)i <= column_count(m) ? (ptrdiff_t)i - 1 : -1;
  }
  if (lua_type(L, 2) != LUA_TSTRING)
    return -1;
  const char *key = lua_tostring(L, 2);
  for (size_t i = 0; i < m->key_count; i++)
    if (m->keys[i] == key)
      return (ptrdiff_t)i;
  if (lua_rawlen(L, 2) <= 40) /* LUAI_MAXSHORTLEN: it would have been found */
    return -1;
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(2));
  return (ptrdiff_t)lua_tointeger(L, -1) - 1;
}

static struct tm_field field_at(const struct map *m, size_t i)
{
  if (m->values.any && i < m->values.count && m->values.at[i].set)
    return tm_lua_values_field(&m->values, i);
  return i < m->row->count ? m->row->fields[i] : (struct tm_field){NULL, 0};
}

static const char *name_at(const struct map *m, size_t i)
{
  return i < m->key_count ? m->keys[i] : NULL;
}

static int row_copy(lua_State *L)
{
  struct map *m = check_row(L);
  size_t n = column_count(m);
  lua_createtable(L, m->key_count > 0 ? 0 : (int)n, m->key_count > 0 ? (int)n : 0);
  for (size_t i = 0; i < n; i++) {
    struct tm_field field = field_at(m, i);
    tm_lua_pushfield(L, &field);
    if (name_at(m, i) != NULL)
      lua_setfield(L, -2, name_at(m, i));
    else
      lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* upvalues: rowref, names, copy */
static int row_index(lua_State *L)
{
  struct map *m = check_row(L);
  ptrdiff_t i = find_column(L, m);
  if (i >= 0) {
    struct tm_field field = field_at(m, (size_t)i);
    tm_lua_pushfield(L, &field);
    return 1;
  }
  if (lua_type(L, 2) == LUA_TNUMBER) {
    lua_pushnil(L); /* so that ipairs ends */
    return 1;
  }
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "copy") == 0) {
    lua_pushvalue(L, lua_upvalueindex(3));
    return 1;
  }
  return luaL_error(L, "no column '%s'", luaL_tolstring(L, 2, NULL));
}

static int row_newindex(lua_State *L)
{
  struct map *m = check_row(L);
  ptrdiff_t i = find_column(L, m);
  if (i < 0)
    return luaL_error(L, "no column '%s'", luaL_tolstring(L, 2, NULL));
  if (!m->values.any)
    tm_lua_values_reset(L, &m->values, column_count(m));
  tm_lua_values_set(L, &m->values, (size_t)i, 3, !m->output.unchecked,
                    name_at(m, (size_t)i));
  return 0;
}

static int row_len(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)column_count(check_row(L)));
  return 1;
}

/* upvalues: rowref, position */
static int row_next(lua_State *L)
{
  struct map *m = check_row(L);
  size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(2));
  if (i >= column_count(m))
    return 0;
  lua_pushinteger(L, (lua_Integer)i + 1);
  lua_replace(L, lua_upvalueindex(2));
  struct tm_field field = field_at(m, i);
  if (name_at(m, i) != NULL)
    lua_pushstring(L, name_at(m, i));
  else
    lua_pushinteger(L, (lua_Integer)i + 1);
  tm_lua_pushfield(L, &field);
  return 2;
}

static int row_pairs(lua_State *L)
{
  check_row(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, row_next, 2);
  lua_pushvalue(L, 1);
  return 2;
}

/* Pushes the row; `names` is the index of the table of names. */
static struct rowref *push_row(lua_State *L, int names)
{
  static const luaL_Reg meta[] = {{"__newindex", row_newindex},
                                  {"__len", row_len},
                                  {"__pairs", row_pairs},
                                  {NULL, NULL}};
  struct rowref *ref = lua_newuserdatauv(L, sizeof *ref, 0);
  ref->map = NULL;
  lua_createtable(L, 0, 6);
  for (const luaL_Reg *r = meta; r->name != NULL; r++) {
    lua_pushlightuserdata(L, ref);
    lua_pushvalue(L, names);
    lua_pushcclosure(L, r->func, 2);
    lua_setfield(L, -2, r->name);
  }
  lua_pushlightuserdata(L, ref);
  lua_pushvalue(L, names);
  lua_pushlightuserdata(L, ref);
  lua_pushcclosure(L, row_copy, 1);
  lua_pushcclosure(L, row_index, 3);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "row");
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "row"); /* the metatable is nobody's business */
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  return ref;
}

/* ---- the columns, once they are known ---- */

static void *allocate(lua_State *L, size_t count, size_t size)
{
  void *p = calloc(count > 0 ? count : 1, size);
  if (p == NULL)
    luaL_error(L, "out of memory");
  return p;
}

/* Adds `name` to the table of names as position n, keeping its address. */
static void add_key(lua_State *L, struct map *m, int names, const char *name)
{
  lua_pushstring(L, name);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, names) != LUA_TNIL)
    luaL_error(L, "column '%s' stands there twice", name);
  lua_pop(L, 1);
  m->keys[m->key_count++] = lua_tostring(L, -1);
  lua_pushinteger(L, (lua_Integer)m->key_count);
  lua_rawset(L, names);
}

/* The output's columns by name; those that the input lacks become further ones. */
static void place_output(lua_State *L, struct map *m, int names)
{
  bool same = m->out_name_count == m->in_count;
  m->out = allocate(L, m->out_name_count, sizeof *m->out);
  for (size_t i = 0; i < m->out_name_count; i++) {
    lua_pushstring(L, m->out_names[i]);
    if (lua_rawget(L, names) == LUA_TNIL)
      add_key(L, m, names, m->out_names[i]);
    lua_pop(L, 1);
    lua_getfield(L, names, m->out_names[i]);
    m->out[i] = (size_t)lua_tointeger(L, -1) - 1;
    lua_pop(L, 1);
    same = same && m->out[i] == i;
  }
  m->out_count = m->out_name_count;
  if (same) {
    free(m->out);
    m->out = NULL;
  }
}

static void set_columns(lua_State *L, struct map *m, int names)
{
  size_t count;
  const char *const *columns = tm_decoder_columns(m->decoder, &count);
  m->keys = allocate(L, count + m->out_name_count, sizeof *m->keys);
  for (size_t i = 0; i < count; i++)
    add_key(L, m, names, columns[i]);
  m->in_count = count;
  m->out_count = count;
  if (m->out_name_count > 0)
    place_output(L, m, names);
  m->raw_fits = m->out == NULL && tm_format_same_bytes(&m->input, &m->output);
  m->ready = true;
}

/* ---- output ---- */

static void check(lua_State *L, struct map *m, bool ok)
{
  if (ok)
    return;
  m->failed = true;
  lua_error(L); /* whatever is on top: m->error counts */
}

static bool write_header(struct map *m)
{
  size_t count = m->out_name_count;
  const char *const *names = (const char *const *)m->out_names;
  if (count == 0)
    names = tm_decoder_columns(m->decoder, &count);
  m->header_left = false;
  if (count > 0)
    return tm_encoder_header(m->encoder, names, count, &m->error);
  tm_error_set(&m->error, TM_EUSAGE, "map: an output with a header needs column names");
  return false;
}

/* Gives the encoder's bytes to the next station, without a copy. */
static bool flush(struct map *m)
{
  struct tm_buffer *out = tm_encoder_out(m->encoder);
  if (out->len == 0)
    return true;
  struct tm_slab *slab = tm_slab_new(1, &m->error);
  if (slab == NULL)
    return false;
  free(slab->data);
  slab->data = out->data;
  slab->len = slab->raw_bytes = out->len;
  slab->cap = out->cap;
  slab->rows = m->rows;
  *out = (struct tm_buffer){0};
  m->rows = 0;
  return tm_emit(m->emit, slab, &m->error);
}

/* Whether the row's own newline is the one to write (its end may lack one altogether). */
static bool newline_fits(const struct map *m)
{
  const struct tm_row *r = m->row;
  if (r->raw_len == 0 || r->raw[r->raw_len - 1] != '\n')
    return false;
  bool crlf = r->raw_len >= 2 && r->raw[r->raw_len - 2] == '\r';
  return crlf == (m->output.newline == TM_NEWLINE_CRLF);
}

static bool write_row(lua_State *L, struct map *m)
{
  if (m->raw_fits && !m->values.any && newline_fits(m))
    return tm_encoder_raw(m->encoder, m->row->raw, m->row->raw_len, &m->error);
  size_t count = m->out_count > 0 ? m->out_count : m->row->count;
  if (count > m->field_cap) {
    struct tm_field *fields = realloc(m->fields, count * sizeof *fields);
    if (fields == NULL)
      luaL_error(L, "out of memory");
    m->fields = fields;
    m->field_cap = count;
  }
  for (size_t i = 0; i < count; i++)
    m->fields[i] = field_at(m, m->out != NULL ? m->out[i] : i);
  return tm_encoder_row(m->encoder, m->fields, count, &m->error);
}

/* ---- one slab ---- */

/* Takes what the function returned (on top) and pops it. */
static void take_result(lua_State *L, struct map *m)
{
  int type = lua_type(L, -1);
  if (type == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  if (type == LUA_TTABLE) {
    m->values.count = column_count(m);
    tm_lua_values_table(L, &m->values, -1, NAMES + 1, m->out, m->out_count,
                        !m->output.unchecked);
  } else if (lua_touserdata(L, -1) != m->ref) {
    lua_pushfstring(L, "the map's function returned a %s, not its row, a table or nil",
                    luaL_typename(L, -1));
    lua_error(L);
  }
  check(L, m, write_row(L, m));
  lua_pop(L, 1);
  m->rows++;
  if (tm_encoder_out(m->encoder)->len >= TM_SLAB_BYTES)
    check(L, m, flush(m));
}

/* stack: map *, FN, ROW, NAMES, REJECT: every row that the decoder has */
static int run_rows(lua_State *L)
{
  struct map *m = lua_touserdata(L, 1);
  struct tm_row *row;
  int got;
  m->reject.L = L;
  m->reject.index = lua_isnil(L, REJECT + 1) ? 0 : REJECT + 1;
  while ((got = tm_decoder_next(m->decoder, &row, &m->error)) > 0) {
    m->row = row;
    m->number = row->number;
    m->values.any = false;
    if (!m->ready)
      set_columns(L, m, NAMES + 1);
    if (m->header_left)
      check(L, m, write_header(m));
    lua_pushvalue(L, FN + 1);
    lua_pushvalue(L, ROW + 1);
    lua_call(L, 1, 1);
    take_result(L, m);
    m->row = NULL;
  }
  m->number = 0;
  check(L, m, got == 0);
  return 0;
}

/* Notes the nearest place in a Lua file: where the author should look. A fault of what the
** function returned is found after it ended; then its first line is that place. */
static int note_place(lua_State *L)
{
  lua_Debug ar;
  struct map *m = lua_touserdata(L, lua_upvalueindex(1));
  for (int level = 0; !m->failed && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Slf", &ar);
    bool ended = lua_tocfunction(L, -1) == run_rows;
    lua_pop(L, 1);
    if (ended && lua_getlocal(L, &ar, FN + 1) != NULL) {
      lua_getinfo(L, ">S", &ar);
      ar.currentline = ar.linedefined;
    }
    if (ended || ar.currentline > 0) {
      if (ar.currentline > 0)
        snprintf(m->where, sizeof m->where, "%s:%d", ar.short_src, ar.currentline);
      break;
    }
  }
  return 1;
}

static void explain(struct map *m, lua_State *L, struct tm_error *err)
{
  if (m->failed) {
    *err = m->error;
    return;
  }
  bool plain = lua_type(L, -1) == LUA_TSTRING;
  tm_lua_toerror(L, -1, err);
  if (plain)
    err->kind = TM_EDATA;
  if (m->where[0] != '\0' && strstr(err->message, m->where) == NULL)
    tm_error_prefix(err, "%s", m->where);
  if (m->number > 0)
    tm_error_prefix(err, "map: row %llu", (unsigned long long)m->number);
}

/* Runs the function over all rows of what the decoder was fed. */
static bool run(struct map *m, struct tm_error *err)
{
  lua_State *L = m->L;
  if (!lua_checkstack(L, KEPT + 4)) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  int handler = m->base_index + KEPT;
  m->failed = false;
  m->where[0] = '\0';
  lua_pushcfunction(L, run_rows);
  lua_pushlightuserdata(L, m);
  for (int i = 0; i < KEPT; i++)
    lua_pushvalue(L, m->base_index + i);
  bool ok = lua_pcall(L, 1 + KEPT, 0, handler) == LUA_OK;
  if (!ok) {
    explain(m, L, err);
    lua_pop(L, 1);
  }
  m->row = NULL;
  return ok;
}

static bool map_push(struct tm_stage *self, struct tm_slab *in, struct tm_emit *out,
                     struct tm_error *err)
{
  struct map *m = (struct map *)self;
  m->emit = out;
  bool ok = m->L != NULL;
  if (!ok)
    tm_error_set(err, TM_EUSAGE, "a map runs only inside stream.pump");
  ok = ok && (in != NULL ? tm_decoder_feed(m->decoder, in->data, in->len, err)
                         : tm_decoder_end(m->decoder, err));
  ok = ok && run(m, err);
  tm_slab_free(in);
  if (!ok || in != NULL)
    return ok;
  ok = (!m->header_left || write_header(m)) && flush(m);
  if (!ok)
    *err = m->error;
  return ok;
}

static void map_close(struct tm_stage *self)
{
  struct map *m = (struct map *)self;
  if (m->ref != NULL)
    m->ref->map = NULL;
  tm_decoder_free(m->decoder);
  tm_encoder_free(m->encoder);
  tm_lua_values_free(&m->values);
  for (size_t i = 0; i < m->out_name_count; i++)
    free(m->out_names[i]);
  free(m->out_names);
  free(m->keys);
  free(m->out);
  free(m->fields);
  free(m);
}

static const struct tm_stage_ops map_ops = {
    .name = "map", .on_caller = true, .push = map_push, .close = map_close};

/* ---- making one ---- */

/* Copies the array of strings at `index` (checked before) into *names as it goes. */
static void copy_names(lua_State *L, int index, char ***names, size_t *count)
{
  lua_Integer n = luaL_len(L, index);
  *names = allocate(L, (size_t)n, sizeof **names);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_geti(L, index, i);
    char *copy = strdup(lua_tostring(L, -1));
    if (copy == NULL)
      luaL_error(L, "out of memory");
    (*names)[(*count)++] = copy;
    lua_pop(L, 1);
  }
}

/* The names at `index` as the decoder wants them: pointers into strings the table holds. */
static const char **borrow_names(lua_State *L, int index, size_t count)
{
  const char **names = lua_newuserdatauv(L, (count + 1) * sizeof *names, 0);
  for (size_t i = 0; i < count; i++) {
    lua_geti(L, index, (lua_Integer)i + 1);
    names[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  return names;
}

enum { O_COLUMNS = 3, O_INPUT, O_OUTPUT, O_OUT_COLUMNS, O_REJECT };

static void spread_opts(lua_State *L)
{
  static const char *const keys[] = {"columns", "input", "output", "output_columns",
                                     "reject"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    lua_getfield(L, 2, keys[i]);
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    bool known = false;
    lua_pop(L, 1);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
      known = known || (lua_type(L, -1) == LUA_TSTRING &&
                        strcmp(lua_tostring(L, -1), keys[i]) == 0);
    if (!known)
      luaL_error(L, "map: no option '%s'", luaL_tolstring(L, -1, NULL));
  }
}

int tm_lua_map(lua_State *L)
{
  struct tm_format input, output;
  struct tm_error err;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (lua_isnoneornil(L, 2)) {
    lua_settop(L, 1);
    lua_newtable(L);
  }
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  spread_opts(L);
  tm_lua_checkformat(L, O_INPUT, NULL, &input);
  tm_lua_checkformat(L, lua_isnil(L, O_OUTPUT) ? O_INPUT : O_OUTPUT, NULL, &output);
  size_t count = tm_lua_checkcolumns(L, O_COLUMNS, "columns");
  tm_lua_checkcolumns(L, O_OUT_COLUMNS, "output_columns");
  bool rejects = tm_lua_checkreject(L, O_REJECT);
  if (!lua_isnil(L, O_OUT_COLUMNS) && count == 0 && !input.header)
    return luaL_error(L, "map: output_columns needs columns, or an input with a header");
  const char **columns = borrow_names(L, O_COLUMNS, count);
  struct tm_stage **slot = tm_lua_newstage(L, 0);
  int stage = lua_gettop(L);
  lua_createtable(L, KEPT, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, FN);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawseti(L, -3, NAMES);
  struct rowref *ref = push_row(L, lua_gettop(L));
  lua_rawseti(L, -3, ROW);
  lua_pop(L, 1);
  lua_pushvalue(L, O_REJECT);
  lua_rawseti(L, -2, REJECT);
  lua_setiuservalue(L, stage, 1);
  struct map *m = calloc(1, sizeof *m);
  if (m == NULL)
    return luaL_error(L, "out of memory");
  m->base.ops = &map_ops;
  *slot = &m->base; /* from here on the collector closes it */
  m->ref = ref;
  ref->map = m;
  m->input = input;
  m->output = output;
  m->header_left = output.header;
  if (!lua_isnil(L, O_OUT_COLUMNS))
    copy_names(L, O_OUT_COLUMNS, &m->out_names, &m->out_name_count);
  struct tm_decoder_opts opts = {.columns = count > 0 ? columns : NULL,
                                 .column_count = count,
                                 .reject = rejects ? tm_lua_reject : NULL,
                                 .data = &m->reject};
  if ((m->decoder = tm_decoder_new(&input, &opts, &err)) == NULL ||
      (m->encoder = tm_encoder_new(&output, &err)) == NULL)
    return tm_lua_raise(L, &err);
  lua_settop(L, stage);
  return 1;
}

/* ---- around the pump ---- */

static struct map *map_at(lua_State *L, int index)
{
  struct tm_stage **slot = lua_touserdata(L, index);
  bool is = slot != NULL && *slot != NULL && (*slot)->ops == &map_ops;
  return is ? (struct map *)*slot : NULL;
}

void tm_lua_map_enter(lua_State *L, int index)
{
  struct map *m = map_at(L, index);
  if (m == NULL)
    return;
  if (m->L != NULL || m->ready)
    luaL_argerror(L, index, "the map has been used before");
  luaL_checkstack(L, KEPT + 4, NULL);
  m->base_index = lua_gettop(L) + 1;
  lua_getiuservalue(L, index, 1);
  for (int i = FN; i <= KEPT; i++)
    lua_rawgeti(L, m->base_index, i);
  lua_remove(L, m->base_index);
  lua_pushlightuserdata(L, m);
  lua_pushcclosure(L, note_place, 1);
  m->L = L;
}

void tm_lua_map_leave(lua_State *L, int index)
{
  struct map *m = map_at(L, index);
  if (m != NULL)
    m->L = NULL;
}
