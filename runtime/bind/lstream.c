/*
** lstream.c: sources, stages and sinks as Lua values, and the module "stream"
*/
#include "bind/lstream.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "bind/lerror.h"
#include "bind/lchunks.h"
#include "bind/ljob.h"
#include "bind/lmap.h"
#include "bind/lrate.h"
#include "bind/lrowhash.h"

#define SOURCE "tidemill.source"
#define STAGE "tidemill.stage"
#define SINK "tidemill.sink"

/* ---- any stream value ---- */

static struct tm_lua_stream *peek(lua_State *L, int index, const char *mark,
                                  const char *what)
{
  struct tm_lua_stream *s = lua_touserdata(L, index);
  bool is = s != NULL && luaL_getmetafield(L, index, mark) != LUA_TNIL;
  if (!is)
    luaL_typeerror(L, index, what);
  lua_pop(L, 1);
  luaL_argcheck(L, s->stream != NULL, index, "the stream is closed");
  return s;
}

struct tm_lua_stream *tm_lua_checkstream(lua_State *L, int index, const char *mark,
                                         const char *what)
{
  struct tm_lua_stream *s = peek(L, index, mark, what);
  luaL_argcheck(L, !s->lent, index, "a job has the stream: join it first");
  return s;
}

struct tm_source *tm_lua_checksource(lua_State *L, int index)
{
  return tm_lua_checkstream(L, index, "__tm_source", "source")->stream;
}

struct tm_stage *tm_lua_checkstage(lua_State *L, int index)
{
  return tm_lua_checkstream(L, index, "__tm_stage", "stage")->stream;
}

struct tm_sink *tm_lua_checksink(lua_State *L, int index)
{
  return tm_lua_checkstream(L, index, "__tm_sink", "sink")->stream;
}

struct tm_sink *tm_lua_peeksink(lua_State *L, int index)
{
  return peek(L, index, "__tm_sink", "sink")->stream;
}

static bool has_mark(lua_State *L, int index, const char *mark)
{
  if (!lua_isuserdata(L, index) || luaL_getmetafield(L, index, mark) == LUA_TNIL)
    return false;
  lua_pop(L, 1);
  return true;
}

/* What there is to close, once; a job closes what it has. */
static void *take(lua_State *L)
{
  struct tm_lua_stream *s = lua_touserdata(L, 1);
  void *stream = s->lent ? NULL : s->stream;
  if (!s->lent)
    s->stream = NULL;
  return stream;
}

static int source_close(lua_State *L)
{
  tm_source_close(take(L));
  return 0;
}

static int stage_close(lua_State *L)
{
  tm_stage_close(take(L));
  return 0;
}

static int sink_close(lua_State *L)
{
  tm_sink_close(take(L));
  return 0;
}

/* ---- reading and writing by hand ---- */

static int push_bytes(lua_State *L)
{
  const struct tm_slab *slab = lua_touserdata(L, 1);
  lua_pushlstring(L, slab->data, slab->len);
  return 1;
}

/* source:read() -> string of whole rows, rows; nil at the end. Raises on failure. */
static int source_read(lua_State *L)
{
  struct tm_source *source = tm_lua_checksource(L, 1);
  struct tm_slab *slab = NULL;
  struct tm_error err;
  int got = source->ops->read(source, &slab, &err);
  if (got < 0)
    return tm_lua_raise(L, &err);
  if (got == 0) {
    lua_pushnil(L);
    return 1;
  }
  lua_Integer rows = (lua_Integer)slab->rows;
  lua_pushcfunction(L, push_bytes); /* may run out of memory while we own the slab */
  lua_pushlightuserdata(L, slab);
  int status = lua_pcall(L, 1, 1, 0);
  tm_slab_free(slab);
  if (status != LUA_OK)
    return lua_error(L);
  lua_pushinteger(L, rows);
  return 2;
}

static struct tm_slab *slab_of(lua_State *L, int index, struct tm_error *err)
{
  size_t len;
  const char *bytes = luaL_checklstring(L, index, &len);
  struct tm_slab *slab = tm_slab_new(len, err);
  if (slab == NULL)
    return NULL;
  memcpy(slab->data, bytes, len);
  slab->len = slab->raw_bytes = len;
  return slab;
}

/* sink:write(bytes [, rows]): `rows` is how many rows end in `bytes` (default 0). */
static int sink_write(lua_State *L)
{
  struct tm_sink *sink = tm_lua_checksink(L, 1);
  lua_Integer rows = luaL_optinteger(L, 3, 0);
  struct tm_error err;
  struct tm_slab *slab = slab_of(L, 2, &err);
  if (slab == NULL)
    return tm_lua_raise(L, &err);
  slab->rows = (uint64_t)rows;
  if (!sink->ops->write(sink, slab, &err))
    return tm_lua_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

static int sink_finish(lua_State *L)
{
  struct tm_sink *sink = tm_lua_checksink(L, 1);
  struct tm_error err;
  if (!sink->ops->finish(sink, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

static int sink_abort(lua_State *L)
{
  struct tm_sink *sink = tm_lua_checksink(L, 1);
  sink->ops->abort(sink, luaL_optstring(L, 2, "aborted"));
  return 0;
}

static const luaL_Reg source_methods[] = {
    {"read", source_read}, {"close", source_close}, {NULL, NULL}};
static const luaL_Reg stage_methods[] = {{"close", stage_close}, {NULL, NULL}};
static const luaL_Reg sink_methods[] = {{"write", sink_write},
                                        {"finish", sink_finish},
                                        {"abort", sink_abort},
                                        {"close", sink_close},
                                        {NULL, NULL}};

/* Fills the metatable at the top of the stack. */
static void add_methods(lua_State *L, const char *mark, const luaL_Reg *more)
{
  const luaL_Reg *methods = stage_methods;
  lua_CFunction close = stage_close;
  if (strcmp(mark, "__tm_source") == 0) {
    methods = source_methods;
    close = source_close;
  } else if (strcmp(mark, "__tm_sink") == 0) {
    methods = sink_methods;
    close = sink_close;
  }
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, mark);
  lua_pushcfunction(L, close);
  lua_setfield(L, -2, "__close");
  lua_pushcfunction(L, close);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  if (more != NULL)
    luaL_setfuncs(L, more, 0);
  lua_setfield(L, -2, "__index");
}

void **tm_lua_newstream(lua_State *L, const char *type, const char *mark,
                        const luaL_Reg *methods, int keep)
{
  keep = keep == 0 ? 0 : lua_absindex(L, keep);
  struct tm_lua_stream *s = lua_newuserdatauv(L, sizeof *s, 1);
  *s = (struct tm_lua_stream){0}; /* closed: __gc is safe from here on */
  if (luaL_newmetatable(L, type))
    add_methods(L, mark, methods);
  lua_setmetatable(L, -2);
  if (keep != 0) {
    lua_pushvalue(L, keep);
    lua_setiuservalue(L, -2, 1);
  }
  return &s->stream;
}

struct tm_source **tm_lua_newsource(lua_State *L, int keep)
{
  return (struct tm_source **)tm_lua_newstream(L, SOURCE, "__tm_source", NULL, keep);
}

struct tm_stage **tm_lua_newstage(lua_State *L, int keep)
{
  return (struct tm_stage **)tm_lua_newstream(L, STAGE, "__tm_stage", NULL, keep);
}

struct tm_sink **tm_lua_newsink(lua_State *L, int keep)
{
  return (struct tm_sink **)tm_lua_newstream(L, SINK, "__tm_sink", NULL, keep);
}

/* ---- the pump ---- */

struct reporter {
  lua_State *L;
  int function; /* stack index */
};

void tm_lua_pushstats(lua_State *L, const struct tm_pump_stats *s)
{
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)s->rows_in);
  lua_setfield(L, -2, "rows_in");
  lua_pushinteger(L, (lua_Integer)s->bytes_in);
  lua_setfield(L, -2, "bytes_in");
  lua_pushinteger(L, (lua_Integer)s->rows_out);
  lua_setfield(L, -2, "rows_out");
  lua_pushinteger(L, (lua_Integer)s->bytes_out);
  lua_setfield(L, -2, "bytes_out");
}

static int call_progress(lua_State *L)
{
  tm_lua_pushstats(L, lua_touserdata(L, 2));
  lua_remove(L, 2);
  lua_call(L, 1, 0);
  return 0;
}

static bool report(void *data, const struct tm_pump_stats *stats, struct tm_error *err)
{
  struct reporter *r = data;
  lua_State *L = r->L;
  lua_pushcfunction(L, call_progress);
  lua_pushvalue(L, r->function);
  lua_pushlightuserdata(L, (void *)stats);
  if (lua_pcall(L, 2, 0, 0) == LUA_OK)
    return true;
  tm_lua_toerror(L, -1, err);
  lua_pop(L, 1);
  return false;
}

enum { MAX_STAGES = 16 };

/*
** pump(source, stage..., sink [, opts]) -> stats
** opts: progress (function of stats), interval (ms, default 250), queue (slabs, default 4).
*/
static int stream_pump(lua_State *L)
{
  struct tm_stage *stages[MAX_STAGES];
  struct tm_pump_opts opts = {0};
  struct reporter reporter = {.L = L};
  struct tm_source *source = tm_lua_checksource(L, 1);
  int last = lua_gettop(L);
  if (lua_istable(L, last)) {
    if (lua_getfield(L, last, "progress") == LUA_TFUNCTION) {
      reporter.function = lua_gettop(L);
      opts.progress = report;
      opts.data = &reporter;
    }
    lua_getfield(L, last, "interval");
    opts.interval_ms = (int)luaL_optinteger(L, -1, 0);
    lua_getfield(L, last, "queue");
    opts.queue_slabs = (size_t)luaL_optinteger(L, -1, 0);
    last--;
  }
  luaL_argcheck(L, last >= 2, 2, "a sink is missing");
  luaL_argcheck(L, last - 2 <= MAX_STAGES, 2, "too many stages");
  struct tm_sink *sink = tm_lua_checksink(L, last);
  size_t count = 0;
  for (int i = 2; i < last; i++)
    stages[count++] = tm_lua_checkstage(L, i);
  for (int i = 2; i < last; i++)
    tm_lua_map_enter(L, i);
  struct tm_pump_stats stats;
  struct tm_error err;
  bool ok = tm_pump(source, stages, count, sink, &opts, &stats, &err);
  for (int i = 2; i < last; i++)
    tm_lua_map_leave(L, i);
  if (!ok)
    return tm_lua_raise(L, &err);
  tm_lua_pushstats(L, &stats);
  return 1;
}

/* ---- small streams that need no outside library ---- */

struct bytes_source {
  struct tm_source base;
  struct tm_slab *slab; /* NULL once read */
};

static int bytes_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  (void)err;
  struct bytes_source *s = (struct bytes_source *)self;
  *out = s->slab;
  s->slab = NULL;
  return *out != NULL;
}

static void bytes_close(struct tm_source *self)
{
  tm_slab_free(((struct bytes_source *)self)->slab);
  free(self);
}

static const struct tm_source_ops bytes_ops = {
    .name = "bytes", .read = bytes_read, .close = bytes_close};

/* bytes(string [, rows]) -> source of exactly these bytes, in one slab */
static int stream_bytes(lua_State *L)
{
  luaL_checkstring(L, 1);
  lua_Integer rows = luaL_optinteger(L, 2, 0);
  struct tm_source **slot = tm_lua_newsource(L, 0);
  struct tm_error err;
  struct bytes_source *s = calloc(1, sizeof *s);
  if (s == NULL)
    return luaL_error(L, "out of memory");
  s->base.ops = &bytes_ops;
  *slot = &s->base;
  s->slab = slab_of(L, 1, &err);
  if (s->slab == NULL)
    return tm_lua_raise(L, &err);
  s->slab->rows = (uint64_t)rows;
  return 1;
}

struct collect_sink {
  struct tm_sink base;
  bool keep; /* false: count and drop */
  struct tm_buffer bytes;
};

static bool collect_write(struct tm_sink *self, struct tm_slab *slab,
                          struct tm_error *err)
{
  struct collect_sink *c = (struct collect_sink *)self;
  bool ok = !c->keep || tm_buffer_add(&c->bytes, slab->data, slab->len);
  tm_slab_free(slab);
  if (!ok)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  return ok;
}

static bool collect_finish(struct tm_sink *self, struct tm_error *err)
{
  (void)self;
  (void)err;
  return true;
}

static void collect_abort(struct tm_sink *self, const char *why)
{
  (void)why;
  tm_buffer_free(&((struct collect_sink *)self)->bytes);
}

static void collect_close(struct tm_sink *self)
{
  tm_buffer_free(&((struct collect_sink *)self)->bytes);
  free(self);
}

static const struct tm_sink_ops collect_ops = {.name = "collect",
                                               .write = collect_write,
                                               .finish = collect_finish,
                                               .abort = collect_abort,
                                               .close = collect_close};

static int new_collector(lua_State *L, bool keep)
{
  struct tm_sink **slot = tm_lua_newsink(L, 0);
  struct collect_sink *c = calloc(1, sizeof *c);
  if (c == NULL)
    return luaL_error(L, "out of memory");
  c->base.ops = &collect_ops;
  c->keep = keep;
  *slot = &c->base;
  return 1;
}

/* collect() -> sink that keeps all bytes in memory; stream.collected(sink) gives them */
static int stream_collect(lua_State *L)
{
  return new_collector(L, true);
}

/* discard() -> sink that drops what it is given */
static int stream_discard(lua_State *L)
{
  return new_collector(L, false);
}

static int stream_collected(lua_State *L)
{
  struct tm_sink *sink = tm_lua_checksink(L, 1);
  luaL_argcheck(L, sink->ops == &collect_ops, 1, "not a sink made by collect");
  struct collect_sink *c = (struct collect_sink *)sink;
  lua_pushlstring(L, c->bytes.data != NULL ? c->bytes.data : "", c->bytes.len);
  return 1;
}

/* kind(value) -> "source", "stage", "sink" or nil */
static int stream_kind(lua_State *L)
{
  luaL_checkany(L, 1);
  const char *kind = has_mark(L, 1, "__tm_source")  ? "source"
                     : has_mark(L, 1, "__tm_stage") ? "stage"
                     : has_mark(L, 1, "__tm_sink")  ? "sink"
                                                    : NULL;
  lua_pushstring(L, kind);
  return 1;
}

static const luaL_Reg module[] = {{"pump", stream_pump},
                                  {"bytes", stream_bytes},
                                  {"collect", stream_collect},
                                  {"collected", stream_collected},
                                  {"discard", stream_discard},
                                  {"kind", stream_kind},
                                  {"map", tm_lua_map},
                                  {"start", tm_lua_start},
                                  {"wait", tm_lua_wait},
                                  {"chain", tm_lua_chain},
                                  {"chunks", tm_lua_chunks},
                                  {"throttle", tm_lua_throttle},
                                  {"rate", tm_lua_rate},
                                  {"rowhash", tm_lua_rowhash},
                                  {NULL, NULL}};

int luaopen_stream(lua_State *L)
{
  luaL_newlib(L, module);
  return 1;
}
