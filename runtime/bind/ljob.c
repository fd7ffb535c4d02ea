/*
** ljob.c: streams that run beside Lua: stream.start, stream.chain, stream.wait
**
** A job's user value is the array of its stream values; they were made before it, so the
** collector finalises it first. While it runs their slots stay filled and are marked lent.
** The thread reports its figures into the userdata, whose address does not change.
** A chain's user value is the set of what the sources given to it kept alive, for the sources
** are closed values from then on. Its source keeps the chain.
*/
#include "bind/ljob.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "bind/lerror.h"
#include "bind/lstream.h"
#include "stream/background.h"
#include "stream/chain.h"

#define JOB "tidemill.job"
#define CHAIN "tidemill.chain"

enum { MAX_STAGES = 16, INTERVAL_MS = 100, MAX_WAITED = 4096 };

/* ---- what can be waited for ---- */

int tm_lua_index_fd(lua_State *L, int fd)
{
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "fd") == 0) {
    if (fd < 0)
      return 0;
    lua_pushinteger(L, fd);
    return 1;
  }
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  return 1;
}

void tm_lua_waitable(lua_State *L, const char *type, const luaL_Reg *meta,
                     const luaL_Reg *methods, lua_CFunction index)
{
  if (luaL_newmetatable(L, type)) {
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushcclosure(L, index, 1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
}

/* ---- jobs ---- */

struct job {
  struct tm_background *run; /* NULL once closed */
  bool joined;               /* its streams are no more lent */
  pthread_mutex_t lock;      /* guards stats */
  struct tm_pump_stats stats;
};

static struct job *checkjob(lua_State *L)
{
  struct job *job = luaL_checkudata(L, 1, JOB);
  luaL_argcheck(L, job->run != NULL, 1, "the job is closed");
  return job;
}

/* Runs in the thread of the stream. */
static bool note_stats(void *data, const struct tm_pump_stats *stats,
                       struct tm_error *err)
{
  struct job *job = data;
  (void)err;
  pthread_mutex_lock(&job->lock);
  job->stats = *stats;
  pthread_mutex_unlock(&job->lock);
  return true;
}

/* Lends the streams of the job at `index`, or takes them back; `closed`: as closed ones. */
static void lend(lua_State *L, int index, bool lent, bool closed)
{
  if (lua_getiuservalue(L, index, 1) == LUA_TTABLE) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= n; i++) {
      lua_rawgeti(L, -1, i);
      struct tm_lua_stream *s = lua_touserdata(L, -1);
      s->lent = lent;
      if (closed)
        s->stream = NULL;
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

/* Cancels, waits for the end and closes the streams, unless they were given back: close,
** __close and __gc. */
static int job_close(lua_State *L)
{
  struct job *job = luaL_checkudata(L, 1, JOB);
  struct tm_background *run = job->run;
  if (run == NULL)
    return 0;
  job->run = NULL;
  if (job->joined) {
    tm_background_release(run);
  } else {
    tm_background_free(run);
    lend(L, 1, false, true);
  }
  pthread_mutex_destroy(&job->lock);
  return 0;
}

/* Waits for the end; a signal makes it come soon. */
static bool join(lua_State *L, struct job *job, struct tm_error *err)
{
  int fd = tm_background_done_fd(job->run);
  if (!job->joined && tm_clock_poll(fd, POLLIN, -1, NULL, err) < 0)
    tm_background_cancel(job->run);
  bool ok = tm_background_join(job->run, &job->stats, err);
  if (!job->joined)
    lend(L, 1, false, false);
  job->joined = true;
  return ok;
}

static int job_join(lua_State *L)
{
  struct tm_error err;
  struct job *job = checkjob(L);
  if (!join(L, job, &err))
    return tm_lua_raise(L, &err);
  tm_lua_pushstats(L, &job->stats);
  return 1;
}

static bool is_readable(int fd)
{
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, 0) > 0;
}

static int job_done(lua_State *L)
{
  struct job *job = checkjob(L);
  lua_pushboolean(L, job->joined || is_readable(tm_background_done_fd(job->run)));
  return 1;
}

static int job_cancel(lua_State *L)
{
  tm_background_cancel(checkjob(L)->run);
  return 0;
}

static int job_stats(lua_State *L)
{
  struct job *job = checkjob(L);
  pthread_mutex_lock(&job->lock);
  struct tm_pump_stats stats = job->stats;
  pthread_mutex_unlock(&job->lock);
  tm_lua_pushstats(L, &stats);
  return 1;
}

static int job_index(lua_State *L)
{
  struct job *job = luaL_checkudata(L, 1, JOB);
  return tm_lua_index_fd(L, job->run != NULL ? tm_background_done_fd(job->run) : -1);
}

static const luaL_Reg job_methods[] = {{"join", job_join},     {"done", job_done},
                                       {"cancel", job_cancel}, {"stats", job_stats},
                                       {"close", job_close},   {NULL, NULL}};
static const luaL_Reg job_meta[] = {
    {"__close", job_close}, {"__gc", job_close}, {NULL, NULL}};

/* The options at `index`: {queue =, interval =}. */
static void read_opts(lua_State *L, int index, struct tm_pump_opts *opts)
{
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    bool queue = strcmp(key, "queue") == 0;
    if (!queue && strcmp(key, "interval") != 0)
      luaL_error(L, "start: no option '%s'", key);
    if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 1 ||
        lua_tointeger(L, -1) > 1000000)
      luaL_error(L, "start: %s: a whole number from 1 on wanted", key);
    if (queue)
      opts->queue_slabs = (size_t)lua_tointeger(L, -1);
    else
      opts->interval_ms = (int)lua_tointeger(L, -1);
  }
}

static struct tm_stage *check_stage(lua_State *L, int index)
{
  struct tm_stage *stage = tm_lua_checkstage(L, index);
  luaL_argcheck(L, !stage->ops->on_caller, index,
                "a map runs Lua and so only in stream.pump");
  for (int i = 2; i < index; i++)
    luaL_argcheck(L, !lua_rawequal(L, i, index), index, "the stage is there twice");
  return stage;
}

int tm_lua_start(lua_State *L)
{
  struct tm_stage *stages[MAX_STAGES];
  struct tm_pump_opts opts = {.progress = note_stats, .interval_ms = INTERVAL_MS};
  struct tm_source *source = tm_lua_checksource(L, 1);
  if (lua_isnil(L, -1)) /* options that were not given */
    lua_pop(L, 1);
  if (lua_istable(L, lua_gettop(L))) {
    read_opts(L, lua_gettop(L), &opts);
    lua_pop(L, 1);
  }
  int last = lua_gettop(L);
  luaL_argcheck(L, last >= 2, 2, "a sink is missing");
  luaL_argcheck(L, last - 2 <= MAX_STAGES, 2, "too many stages");
  struct tm_sink *sink = tm_lua_checksink(L, last);
  for (int i = 2; i < last; i++)
    stages[i - 2] = check_stage(L, i);

  struct job *job = lua_newuserdatauv(L, sizeof *job, 1);
  *job = (struct job){0}; /* closed: __gc is safe from here on */
  tm_lua_waitable(L, JOB, job_meta, job_methods, job_index);
  lua_createtable(L, last, 0);
  for (int i = 1; i <= last; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, i);
  }
  lua_setiuservalue(L, -2, 1);
  lua_insert(L, 1); /* where lend and close look for it */

  struct tm_error err;
  pthread_mutex_init(&job->lock, NULL);
  opts.data = job;
  job->run = tm_background_start(source, stages, (size_t)(last - 2), sink, &opts, &err);
  lend(L, 1, job->run != NULL, job->run == NULL);
  if (job->run == NULL) {
    pthread_mutex_destroy(&job->lock);
    return tm_lua_raise(L, &err);
  }
  lua_settop(L, 1);
  return 1;
}

/* ---- chains ---- */

struct chain {
  struct tm_chain *chain; /* NULL once closed */
  bool lent;              /* its source was made */
  bool finished;
};

static struct chain *checkchain(lua_State *L)
{
  struct chain *c = luaL_checkudata(L, 1, CHAIN);
  luaL_argcheck(L, c->chain != NULL, 1, "the chain is closed");
  return c;
}

static int chain_close(lua_State *L)
{
  struct chain *c = luaL_checkudata(L, 1, CHAIN);
  struct tm_chain *chain = c->chain;
  c->chain = NULL;
  tm_chain_free(chain);
  return 0;
}

static int chain_source(lua_State *L)
{
  struct chain *c = checkchain(L);
  luaL_argcheck(L, !c->lent, 1, "the chain has given its source already");
  struct tm_source **slot = tm_lua_newsource(L, 1);
  c->lent = true;
  *slot = tm_chain_source(c->chain);
  return 1;
}

/* Makes the chain keep what the source at 2 keeps. */
static void keep(lua_State *L)
{
  lua_getiuservalue(L, 1, 1);
  if (lua_getiuservalue(L, 2, 1) > LUA_TNIL) {
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  } else {
    lua_pop(L, 2);
  }
}

static int chain_give(lua_State *L)
{
  struct chain *c = checkchain(L);
  struct tm_lua_stream *s = tm_lua_checkstream(L, 2, "__tm_source", "source");
  luaL_argcheck(L, !c->finished, 1, "the chain is finished");
  lua_getiuservalue(L, 2, 1);
  luaL_argcheck(L, !lua_rawequal(L, -1, 1), 2, "the source is the chain's own");
  lua_pop(L, 1);
  keep(L);
  struct tm_source *source = s->stream;
  struct tm_error err;
  s->stream = NULL;
  bool taken = tm_chain_give(c->chain, source, &err);
  if (!taken && err.kind == TM_EMEMORY)
    return tm_lua_raise(L, &err);
  lua_pushboolean(L, taken);
  return 1;
}

static int chain_finish(lua_State *L)
{
  struct chain *c = checkchain(L);
  c->finished = true;
  tm_chain_end(c->chain);
  return 0;
}

static int chain_hungry(lua_State *L)
{
  lua_pushboolean(L, tm_chain_hungry(checkchain(L)->chain));
  return 1;
}

static int chain_stats(lua_State *L)
{
  struct tm_chain_stats stats;
  tm_chain_stats(checkchain(L)->chain, &stats);
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, (lua_Integer)stats.sources);
  lua_setfield(L, -2, "sources");
  lua_pushinteger(L, (lua_Integer)stats.rows);
  lua_setfield(L, -2, "rows");
  lua_pushinteger(L, (lua_Integer)stats.bytes);
  lua_setfield(L, -2, "bytes");
  return 1;
}

static int chain_index(lua_State *L)
{
  struct chain *c = luaL_checkudata(L, 1, CHAIN);
  return tm_lua_index_fd(L, c->chain != NULL ? tm_chain_fd(c->chain) : -1);
}

static const luaL_Reg chain_methods[] = {{"source", chain_source},
                                         {"give", chain_give},
                                         {"finish", chain_finish},
                                         {"hungry", chain_hungry},
                                         {"stats", chain_stats},
                                         {"close", chain_close},
                                         {NULL, NULL}};
static const luaL_Reg chain_meta[] = {
    {"__close", chain_close}, {"__gc", chain_close}, {NULL, NULL}};

int tm_lua_chain(lua_State *L)
{
  struct tm_error err;
  struct chain *c = lua_newuserdatauv(L, sizeof *c, 1);
  *c = (struct chain){0};
  tm_lua_waitable(L, CHAIN, chain_meta, chain_methods, chain_index);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
  c->chain = tm_chain_new(&err);
  return c->chain != NULL ? 1 : tm_lua_raise(L, &err);
}

/* ---- waiting ---- */

/* What to poll for the value at the top of the stack. */
static int fd_of(lua_State *L)
{
  struct job *job = luaL_testudata(L, -1, JOB);
  struct chain *c = luaL_testudata(L, -1, CHAIN);
  if (job != NULL && job->run != NULL)
    return tm_background_done_fd(job->run);
  if (c != NULL && c->chain != NULL)
    return tm_chain_fd(c->chain);
  luaL_argcheck(L, job == NULL && c == NULL, 1, "a job or chain in the list is closed");
  luaL_argexpected(L, lua_isinteger(L, -1), 1, "list of jobs, chains and descriptors");
  lua_Integer fd = lua_tointeger(L, -1);
  luaL_argcheck(L, fd >= 0 && fd < 1 << 20, 1, "a descriptor in the list is none");
  return (int)fd;
}

/* Milliseconds, -1 for no limit. */
static int64_t opt_timeout(lua_State *L, int index)
{
  if (lua_isnoneornil(L, index))
    return -1;
  lua_Number seconds = luaL_checknumber(L, index);
  luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, index, "seconds wanted");
  return (int64_t)ceil(seconds * 1000);
}

/* How many of the descriptors are ready; the last one is the interrupt's. */
static int poll_all(struct pollfd *fds, size_t count, int64_t timeout_ms,
                    struct tm_error *err)
{
  int64_t deadline = tm_clock_deadline(timeout_ms);
  fds[count] = (struct pollfd){.fd = tm_cancel_fd(tm_interrupt()), .events = POLLIN};
  for (;;) {
    int64_t left = tm_clock_left(deadline);
    int n = poll(fds, count + 1, left > INT32_MAX ? INT32_MAX : (int)left);
    if (tm_cancel_fired(tm_interrupt())) {
      tm_error_set(err, TM_ECANCELED, "cancelled");
      return -1;
    }
    if (n < 0 && errno != EINTR) {
      tm_error_errno(err, TM_ESYSTEM, errno, "poll");
      return -1;
    }
    if (n > 0 || (n == 0 && deadline >= 0 && tm_clock_left(deadline) == 0))
      return n;
  }
}

int tm_lua_wait(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  int64_t timeout_ms = opt_timeout(L, 2);
  lua_settop(L, 1);
  lua_Unsigned count = lua_rawlen(L, 1);
  luaL_argcheck(L, count <= MAX_WAITED, 1, "too many to wait for");
  struct pollfd *fds = lua_newuserdatauv(L, (count + 1) * sizeof *fds, 0);
  for (lua_Unsigned i = 0; i < count; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    fds[i] = (struct pollfd){.fd = fd_of(L), .events = POLLIN};
    lua_pop(L, 1);
  }
  struct tm_error err;
  int ready = poll_all(fds, count, timeout_ms, &err);
  if (ready < 0)
    return tm_lua_raise(L, &err);
  lua_createtable(L, ready, 0);
  lua_Integer n = 0;
  for (lua_Unsigned i = 0; i < count; i++)
    if (fds[i].revents != 0) {
      lua_rawgeti(L, 1, (lua_Integer)i + 1);
      lua_rawseti(L, -2, ++n);
    }
  return 1;
}
