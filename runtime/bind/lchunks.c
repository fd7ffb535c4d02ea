/*
** lchunks.c: stream.chunks
**
** A channel carries the bytes from the stream's thread; here they are cut, in Lua's thread. There
** is one chunk, which the next one overwrites, so memory does not wait for the collector.
*/
#include "bind/lchunks.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lformat.h"
#include "bind/ljob.h"
#include "bind/lstream.h"
#include "stream/channel.h"
#include "stream/cutter.h"

#define CHUNKS "tidemill.chunks"

enum { DEFAULT_BYTES = 1 << 20, DEFAULT_ROWS = 10000, QUEUE_SLABS = 4 };

struct chunks {
  struct tm_channel *channel; /* NULL once closed */
  struct tm_cutter *cutter;
  struct tm_slab *slab; /* lent to the cutter */
  struct tm_chunk chunk;
  bool sink_given, ended;
};

static struct chunks *checkchunks(lua_State *L)
{
  struct chunks *c = luaL_checkudata(L, 1, CHUNKS);
  luaL_argcheck(L, c->channel != NULL, 1, "the chunks are closed");
  return c;
}

static int chunks_close(lua_State *L)
{
  struct chunks *c = luaL_checkudata(L, 1, CHUNKS);
  struct chunks was = *c;
  *c = (struct chunks){0};
  tm_channel_free(was.channel);
  tm_cutter_free(was.cutter);
  tm_slab_free(was.slab);
  tm_chunk_free(&was.chunk);
  return 0;
}

/* chunks:sink() -> the sink of a stream, once */
static int chunks_sink(lua_State *L)
{
  struct chunks *c = checkchunks(L);
  luaL_argcheck(L, !c->sink_given, 1, "the chunks have given their sink already");
  struct tm_sink **slot = tm_lua_newsink(L, 1);
  c->sink_given = true;
  *slot = tm_channel_sink(c->channel);
  return 1;
}

enum got { GOT_CHUNK, GOT_WAIT, GOT_END, GOT_ERROR };

/* Lends the cutter what comes next. */
static enum got feed(struct chunks *c, struct tm_error *err)
{
  tm_slab_free(c->slab);
  c->slab = NULL;
  switch (tm_channel_try_get(c->channel, &c->slab, err)) {
  case TM_CHANNEL_OK:
    tm_cutter_feed(c->cutter, c->slab->data, c->slab->len);
    return GOT_CHUNK;
  case TM_CHANNEL_WAIT:
    return GOT_WAIT;
  case TM_CHANNEL_END:
    c->ended = true;
    tm_cutter_end(c->cutter);
    return GOT_CHUNK;
  case TM_CHANNEL_FAILED:
    break;
  }
  return GOT_ERROR;
}

static enum got next(struct chunks *c, struct tm_error *err)
{
  for (;;) {
    int cut = tm_cutter_next(c->cutter, &c->chunk, err);
    if (cut != 0)
      return cut > 0 ? GOT_CHUNK : GOT_ERROR;
    if (c->ended)
      return GOT_END;
    enum got fed = feed(c, err);
    if (fed != GOT_CHUNK)
      return fed;
  }
}

/* chunks:next() -> how many records the next chunk has; nil, "wait" or "end" */
static int chunks_next(lua_State *L)
{
  struct chunks *c = checkchunks(L);
  struct tm_error err;
  switch (next(c, &err)) {
  case GOT_CHUNK:
    lua_pushinteger(L, (lua_Integer)c->chunk.count);
    return 1;
  case GOT_WAIT:
  case GOT_END:
    lua_pushnil(L);
    lua_pushstring(L, c->ended ? "end" : "wait");
    return 2;
  case GOT_ERROR:
    break;
  }
  return tm_lua_raise(L, &err);
}

/* The index, from 0, of the record whose number is at `arg`. */
static size_t checkrecord(lua_State *L, const struct chunks *c, int arg)
{
  lua_Integer i = luaL_checkinteger(L, arg);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= c->chunk.count, arg, "no such record");
  return (size_t)i - 1;
}

/* ---- a source of some records ---- */

struct some_source {
  struct tm_source base;
  struct tm_slab *slab; /* NULL once read */
};

static int some_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  struct some_source *s = (struct some_source *)self;
  (void)err;
  *out = s->slab;
  s->slab = NULL;
  return *out != NULL;
}

static void some_close(struct tm_source *self)
{
  tm_slab_free(((struct some_source *)self)->slab);
  free(self);
}

static const struct tm_source_ops some_ops = {
    .name = "chunk", .read = some_read, .close = some_close};

/* chunks:source(from, to) -> source of these records of the chunk */
static int chunks_source(lua_State *L)
{
  struct chunks *c = checkchunks(L);
  size_t from = checkrecord(L, c, 2), to = checkrecord(L, c, 3);
  struct tm_error err;
  luaL_argcheck(L, from <= to, 3, "records end before they begin");
  const struct tm_chunk_record *a = &c->chunk.records[from], *b = &c->chunk.records[to];
  struct tm_source **slot = tm_lua_newsource(L, 0);
  struct some_source *s = calloc(1, sizeof *s);
  if (s == NULL)
    return luaL_error(L, "out of memory");
  s->base.ops = &some_ops;
  *slot = &s->base;
  size_t len = b->offset + b->size - a->offset;
  s->slab = tm_slab_new(len, &err);
  if (s->slab == NULL ||
      !tm_slab_add(s->slab, c->chunk.bytes.data + a->offset, len, &err))
    return tm_lua_raise(L, &err);
  s->slab->rows = to - from + 1;
  s->slab->raw_bytes = len;
  return 1;
}

/* chunks:record(i) -> bytes without the line end, line of the object, fault or nil */
static int chunks_record(lua_State *L)
{
  static const char *const faults[] = {NULL, "carriage return", "newline"};
  struct chunks *c = checkchunks(L);
  const struct tm_chunk_record *r = &c->chunk.records[checkrecord(L, c, 2)];
  lua_pushlstring(L, c->chunk.bytes.data + r->offset, r->text);
  lua_pushinteger(L, r->line);
  lua_pushstring(L, faults[r->fault]);
  return 3;
}

/* chunks:fault(from) -> the first record from this one on that COPY would not read; or nil */
static int chunks_fault(lua_State *L)
{
  struct chunks *c = checkchunks(L);
  size_t i = checkrecord(L, c, 2);
  while (i < c->chunk.count && c->chunk.records[i].fault == TM_SPLIT_GOOD)
    i++;
  if (i == c->chunk.count)
    lua_pushnil(L);
  else
    lua_pushinteger(L, (lua_Integer)i + 1);
  return 1;
}

/* chunks:find(from, line) -> the record in which a COPY that began with record `from` is on its
** line `line`; nil if there is none */
static int chunks_find(lua_State *L)
{
  struct chunks *c = checkchunks(L);
  size_t from = checkrecord(L, c, 2);
  size_t found = tm_chunk_find(&c->chunk, from, luaL_checkinteger(L, 3));
  if (found == c->chunk.count)
    lua_pushnil(L);
  else
    lua_pushinteger(L, (lua_Integer)found + 1);
  return 1;
}

static int chunks_index(lua_State *L)
{
  struct chunks *c = luaL_checkudata(L, 1, CHUNKS);
  return tm_lua_index_fd(L, c->channel != NULL ? tm_channel_fd(c->channel) : -1);
}

static const luaL_Reg methods[] = {{"sink", chunks_sink},     {"next", chunks_next},
                                   {"source", chunks_source}, {"record", chunks_record},
                                   {"find", chunks_find},     {"fault", chunks_fault},
                                   {"close", chunks_close},   {NULL, NULL}};
static const luaL_Reg meta[] = {
    {"__close", chunks_close}, {"__gc", chunks_close}, {NULL, NULL}};

static size_t opt_size(lua_State *L, const char *key, size_t missing)
{
  lua_getfield(L, 1, key);
  lua_Integer n = luaL_optinteger(L, -1, (lua_Integer)missing);
  luaL_argcheck(L, n >= 1 && n <= 1 << 30, 1, "bytes and rows are 1 to 2^30");
  lua_pop(L, 1);
  return (size_t)n;
}

int tm_lua_chunks(lua_State *L)
{
  static const char *const own[] = {"bytes", "rows", NULL};
  struct tm_format format;
  struct tm_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  tm_lua_checkformat(L, 1, own, &format);
  size_t bytes = opt_size(L, "bytes", DEFAULT_BYTES);
  size_t rows = opt_size(L, "rows", DEFAULT_ROWS);
  struct chunks *c = lua_newuserdatauv(L, sizeof *c, 0);
  *c = (struct chunks){0}; /* closed: __gc is safe from here on */
  tm_lua_waitable(L, CHUNKS, meta, methods, chunks_index);
  c->cutter = tm_cutter_new(&format, bytes, rows, &err);
  if (c->cutter != NULL)
    c->channel = tm_channel_new(QUEUE_SLABS, &err);
  return c->channel != NULL ? 1 : tm_lua_raise(L, &err);
}
