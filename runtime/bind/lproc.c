/*
** lproc.c: the Lua module "proc", and the internal "tidemill.signal"
**
** The strings of a command and its environment stay anchored in Lua tables on the stack while
** the arrays of pointers to them, which are userdata, are in use.
*/
#include "bind/lproc.h"

#include <lauxlib.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "bind/lerror.h"
#include "driver/proc.h"

#define PROC "tidemill.proc"

struct proc {
  struct tm_proc *proc; /* NULL once closed */
};

static struct tm_proc *checkproc(lua_State *L, int index)
{
  struct proc *p = luaL_checkudata(L, index, PROC);
  if (p->proc == NULL)
    luaL_argerror(L, index, "the process is closed");
  return p->proc;
}

/* Seconds to milliseconds, rounded up; none: -1, no limit. */
static int64_t opt_timeout(lua_State *L, int index)
{
  if (lua_isnoneornil(L, index))
    return -1;
  lua_Number s = luaL_checknumber(L, index);
  luaL_argcheck(L, s >= 0 && s < 1e12, index, "a time of at least 0 seconds wanted");
  return (int64_t)ceil(s * 1000);
}

/* ---- options ---- */

static const char *check_text(lua_State *L, int index, const char *what)
{
  size_t len;
  if (lua_type(L, index) != LUA_TSTRING)
    luaL_error(L, "%s: a string wanted, got %s", what, luaL_typename(L, index));
  const char *text = lua_tolstring(L, index, &len);
  if (strlen(text) != len)
    luaL_error(L, "%s holds a zero byte", what);
  return text;
}

/* Pushes what anchors the array, and returns it, ended by NULL. */
static const char **read_cmd(lua_State *L, int options)
{
  const char **argv;
  int type = lua_getfield(L, options, "cmd"); /* stack: ... cmd */
  if (type == LUA_TSTRING) {
    argv = lua_newuserdatauv(L, 4 * sizeof *argv, 0);
    argv[0] = "/bin/sh";
    argv[1] = "-c";
    argv[2] = check_text(L, -2, "cmd");
    argv[3] = NULL;
    return argv;
  }
  lua_Integer n = type == LUA_TTABLE ? luaL_len(L, -1) : 0;
  if (n < 1 || n > 100000)
    luaL_error(L, "cmd: a list of words or a shell command wanted");
  argv = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *argv, 0);
  for (lua_Integer i = 0; i < n; i++) {
    lua_rawgeti(L, -2, i + 1);
    argv[i] = check_text(L, -1, "cmd");
    lua_pop(L, 1); /* the table keeps it */
  }
  argv[n] = NULL;
  return argv;
}

extern char **environ;

/* Our environment changed by the table `env` (false takes a name away): pushes a list of
** "NAME=value" and the array of its strings. NULL, with two nils pushed: as ours. */
static const char **read_env(lua_State *L, int options)
{
  if (lua_getfield(L, options, "env") == LUA_TNIL) {
    lua_pushnil(L);
    return NULL;
  }
  luaL_argexpected(L, lua_istable(L, -1), options, "table of environment variables");
  int env = lua_gettop(L);
  lua_newtable(L); /* stack: ... env list */
  lua_Integer n = 0;
  for (char **e = environ; *e != NULL; e++) {
    lua_pushlstring(L, *e, strcspn(*e, "="));
    bool kept = lua_gettable(L, env) == LUA_TNIL;
    lua_pop(L, 1);
    if (!kept)
      continue;
    lua_pushstring(L, *e);
    lua_rawseti(L, -2, ++n);
  }
  for (lua_pushnil(L); lua_next(L, env) != 0; lua_pop(L, 1)) {
    const char *name = check_text(L, -2, "env: a name");
    if (lua_isboolean(L, -1) && !lua_toboolean(L, -1))
      continue;
    lua_pushfstring(L, "%s=%s", name, check_text(L, -1, name)); /* ... list name v text */
    lua_rawseti(L, env + 1, ++n);
  }
  const char **envp = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *envp, 0);
  for (lua_Integer i = 0; i < n; i++) {
    lua_rawgeti(L, env + 1, i + 1);
    envp[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  envp[n] = NULL;
  lua_remove(L, env); /* stack: ... list array */
  return envp;
}

static enum tm_proc_use read_use(lua_State *L, int index, const char *what,
                                 enum tm_proc_use fallback, enum tm_proc_use pipe)
{
  if (lua_isnil(L, index))
    return fallback;
  const char *word = check_text(L, index, what);
  if (strcmp(word, "pipe") == 0)
    return pipe;
  if (strcmp(word, "inherit") == 0)
    return TM_PROC_INHERIT;
  if (strcmp(word, "null") == 0)
    return TM_PROC_NULL;
  luaL_error(L, "%s: 'pipe', 'inherit' or 'null' wanted, got '%s'", what, word);
  return fallback;
}

static void read_descriptors(lua_State *L, int options, enum tm_proc_use outputs,
                             struct tm_proc_options *o)
{
  static const char *const names[] = {"stdin", "stdout", "stderr"};
  for (int fd = 0; fd < 3; fd++) {
    lua_getfield(L, options, names[fd]);
    o->use[fd] = read_use(L, -1, names[fd], fd == 0 ? TM_PROC_NULL : outputs,
                          fd == 0 ? TM_PROC_WRITE : TM_PROC_READ);
    lua_pop(L, 1);
  }
  if (lua_getfield(L, options, "input") != LUA_TNIL) {
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "input: a string wanted, got %s", luaL_typename(L, -1));
    o->input = lua_tolstring(L, -1, &o->input_len); /* the options keep it */
    o->use[0] = TM_PROC_BYTES;
  }
  lua_pop(L, 1);
  if (lua_getfield(L, options, "fds") != LUA_TNIL) {
    luaL_argexpected(L, lua_istable(L, -1), options, "table of descriptors");
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
      lua_Integer fd = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : -1;
      if (fd < 3 || fd >= TM_PROC_FDS)
        luaL_error(L, "fds: descriptors 3 to %d can be given", TM_PROC_FDS - 1);
      bool feed =
          lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "feed") == 0;
      o->use[fd] =
          feed ? TM_PROC_WRITE : read_use(L, -1, "fds", TM_PROC_CLOSED, TM_PROC_READ);
    }
  }
  lua_pop(L, 1);
}

static const struct {
  const char *name;
  int number;
} signals[] = {{"SIGTERM", SIGTERM}, {"SIGKILL", SIGKILL}, {"SIGINT", SIGINT},
               {"SIGHUP", SIGHUP},   {"SIGQUIT", SIGQUIT}, {"SIGUSR1", SIGUSR1},
               {"SIGUSR2", SIGUSR2}, {"SIGSTOP", SIGSTOP}, {"SIGCONT", SIGCONT}};

/* "TERM", "SIGTERM" or a number; -1 when it is none. */
static int to_signal(lua_State *L, int index)
{
  if (lua_isinteger(L, index)) {
    lua_Integer n = lua_tointeger(L, index);
    return n > 0 && n < NSIG ? (int)n : -1;
  }
  const char *word = lua_tostring(L, index);
  for (size_t i = 0; word != NULL && i < sizeof signals / sizeof signals[0]; i++)
    if (strcmp(word, signals[i].name) == 0 || strcmp(word, signals[i].name + 3) == 0)
      return signals[i].number;
  return -1;
}

static bool read_flag(lua_State *L, int options, const char *name, bool fallback)
{
  bool is = lua_getfield(L, options, name) == LUA_TNIL ? fallback : lua_toboolean(L, -1);
  lua_pop(L, 1);
  return is;
}

/* Starts what the options table at `options` describes; pushes the handle. */
static struct tm_proc *spawn(lua_State *L, int options, enum tm_proc_use outputs)
{
  luaL_checktype(L, options, LUA_TTABLE);
  struct tm_proc_options o = {.death_signal = SIGKILL};
  o.group = read_flag(L, options, "group", true);
  read_descriptors(L, options, outputs, &o);
  if (lua_getfield(L, options, "death_signal") != LUA_TNIL) {
    o.death_signal = lua_toboolean(L, -1) ? to_signal(L, -1) : 0;
    if (o.death_signal < 0)
      luaL_error(L, "death_signal: a signal wanted, or false");
  }
  if (lua_getfield(L, options, "cwd") != LUA_TNIL)
    o.cwd = check_text(L, -1, "cwd");
  o.argv = read_cmd(L, options);
  o.envp = read_env(L, options);
  struct tm_error err;
  struct proc *p = lua_newuserdatauv(L, sizeof *p, 0);
  p->proc = NULL;
  luaL_setmetatable(L, PROC);
  p->proc = tm_proc_spawn(&o, &err);
  if (p->proc == NULL)
    tm_lua_raise(L, &err);
  return p->proc;
}

/* ---- one process ---- */

static int proc_spawn(lua_State *L)
{
  spawn(L, 1, TM_PROC_INHERIT);
  return 1;
}

static int proc_close(lua_State *L)
{
  struct proc *p = luaL_checkudata(L, 1, PROC);
  struct tm_proc *proc = p->proc;
  p->proc = NULL;
  tm_proc_close(proc);
  return 0;
}

static int proc_pid(lua_State *L)
{
  lua_pushinteger(L, tm_proc_pid(checkproc(L, 1)));
  return 1;
}

static int proc_read(lua_State *L)
{
  struct tm_proc *p = checkproc(L, 1);
  int fd = (int)luaL_optinteger(L, 2, 1);
  int64_t timeout_ms = opt_timeout(L, 3);
  struct tm_error err;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  char *bytes = luaL_prepbuffsize(&b, 65536);
  ssize_t n = tm_proc_read(p, fd, bytes, 65536, timeout_ms, &err);
  if (n == -1)
    return tm_lua_raise(L, &err);
  if (n == 0) {
    lua_pushnil(L);
    return 1;
  }
  luaL_pushresultsize(&b, n > 0 ? (size_t)n : 0);
  return 1;
}

static int proc_write(lua_State *L)
{
  struct tm_proc *p = checkproc(L, 1);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  struct tm_error err;
  int fd = (int)luaL_optinteger(L, 4, 0);
  if (!tm_proc_write(p, fd, bytes, len, opt_timeout(L, 3), &err))
    return tm_lua_raise(L, &err);
  return 0;
}

static int proc_close_stdin(lua_State *L)
{
  tm_proc_close_fd(checkproc(L, 1), 0);
  return 0;
}

static int proc_close_fd(lua_State *L)
{
  tm_proc_close_fd(checkproc(L, 1), (int)luaL_checkinteger(L, 2));
  return 0;
}

static void push_signal(lua_State *L, int number)
{
  const char *name = sigabbrev_np(number);
  if (name != NULL)
    lua_pushfstring(L, "SIG%s", name);
  else
    lua_pushfstring(L, "signal %d", number);
}

/* Sets the fields of a status in the table on the top. */
static void set_status(lua_State *L, const struct tm_proc_status *s)
{
  if (s->signal != 0) {
    push_signal(L, s->signal);
    lua_setfield(L, -2, "signal");
  } else {
    lua_pushinteger(L, s->code);
    lua_setfield(L, -2, "code");
  }
  lua_pushnumber(L, s->user_s);
  lua_setfield(L, -2, "utime");
  lua_pushnumber(L, s->system_s);
  lua_setfield(L, -2, "stime");
  lua_pushinteger(L, s->max_rss_bytes);
  lua_setfield(L, -2, "maxrss_bytes");
}

static int proc_wait(lua_State *L)
{
  struct tm_proc *p = checkproc(L, 1);
  struct tm_proc_status status;
  struct tm_error err;
  int ended = tm_proc_wait(p, opt_timeout(L, 2), &status, &err);
  if (ended < 0)
    return tm_lua_raise(L, &err);
  if (ended == 0) {
    lua_pushnil(L);
    return 1;
  }
  lua_createtable(L, 0, 4);
  set_status(L, &status);
  return 1;
}

static int proc_kill(lua_State *L)
{
  struct tm_proc *p = checkproc(L, 1);
  int signal = lua_isnoneornil(L, 2) ? SIGTERM : to_signal(L, 2);
  luaL_argcheck(L, signal > 0, 2, "a signal wanted, such as 'TERM' or 9");
  struct tm_error err;
  if (!tm_proc_kill(p, signal, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

/* ---- run to the end ---- */

struct collected { /* a userdata: what run has gathered is freed whatever raises */
  struct tm_buffer out[2];
};

static int collected_free(lua_State *L)
{
  struct collected *c = lua_touserdata(L, 1);
  tm_buffer_free(&c->out[0]);
  tm_buffer_free(&c->out[1]);
  return 0;
}

static struct collected *new_collected(lua_State *L)
{
  struct collected *c = lua_newuserdatauv(L, sizeof *c, 0);
  memset(c, 0, sizeof *c);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, collected_free);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return c;
}

static void set_bytes(lua_State *L, const struct tm_buffer *b, const char *name)
{
  lua_pushlstring(L, b->data != NULL ? b->data : "", b->len);
  lua_setfield(L, -2, name);
}

/* check = true: an exit code other than 0 raises */
static void raise_failure(lua_State *L, const char *name, const struct tm_proc_status *s,
                          struct tm_buffer *errors)
{
  struct tm_error err;
  if (s->signal != 0)
    tm_error_set(&err, TM_ESYSTEM, "'%s' was ended by SIG%s", name,
                 sigabbrev_np(s->signal) != NULL ? sigabbrev_np(s->signal) : "?");
  else
    tm_error_set(&err, TM_ESYSTEM, "'%s' failed with exit code %d", name, s->code);
  size_t skip = errors->len > 1500 ? errors->len - 1500 : 0; /* the end tells most */
  if (errors->len > 0)
    tm_error_detail(&err, "%.*s", (int)(errors->len - skip), errors->data + skip);
  tm_lua_raise(L, &err);
}

static int proc_run(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "timeout");
  int64_t timeout_ms = opt_timeout(L, 2);
  lua_getfield(L, 1, "max_output");
  lua_Integer limit = luaL_optinteger(L, 3, 16 * 1024 * 1024);
  luaL_argcheck(L, limit >= 0, 1, "max_output: at least 0 wanted");
  bool check = read_flag(L, 1, "check", false);
  struct collected *c = new_collected(L);
  struct tm_proc *p = spawn(L, 1, TM_PROC_READ);
  lua_toclose(L, -1); /* a raise kills it */
  struct tm_proc_status status;
  struct tm_error err;
  tm_proc_close_fd(p, 0); /* nobody will write to it */
  if (!tm_proc_collect(p, c->out, (size_t)limit, timeout_ms, &status, &err))
    return tm_lua_raise(L, &err);
  if (check && status.code != 0) {
    lua_getfield(L, 1, "cmd");
    if (lua_istable(L, -1))
      lua_rawgeti(L, -1, 1);
    raise_failure(L, lua_tostring(L, -1), &status, &c->out[1]);
  }
  lua_createtable(L, 0, 6);
  set_status(L, &status);
  set_bytes(L, &c->out[0], "stdout");
  set_bytes(L, &c->out[1], "stderr");
  return 1;
}

/* ---- many ---- */

static int proc_poll(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  int64_t timeout_ms = opt_timeout(L, 2);
  lua_settop(L, 2);
  lua_Integer n = luaL_len(L, 1);
  luaL_argcheck(L, n >= 0 && n <= 65536, 1, "too many processes");
  struct tm_proc **procs = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *procs, 0);
  for (lua_Integer i = 0; i < n; i++) {
    lua_rawgeti(L, 1, i + 1);
    struct proc *p = luaL_testudata(L, -1, PROC);
    luaL_argexpected(L, p != NULL, 1, "list of processes");
    procs[i] = p->proc;
    lua_pop(L, 1);
  }
  struct tm_proc_event events[64];
  struct tm_error err;
  int found = tm_proc_poll(procs, (size_t)n, timeout_ms, events, 64, &err);
  if (found < 0)
    return tm_lua_raise(L, &err);
  lua_createtable(L, found, 0);
  for (int i = 0; i < found; i++) {
    lua_createtable(L, 0, 2);
    lua_rawgeti(L, 1, (lua_Integer)events[i].index + 1);
    lua_setfield(L, -2, "handle");
    if (events[i].fd >= 0)
      lua_pushinteger(L, events[i].fd);
    else
      lua_pushboolean(L, true);
    lua_setfield(L, -2, events[i].fd >= 0 ? "fd" : "ended");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static const luaL_Reg proc_methods[] = {{"pid", proc_pid},
                                        {"read", proc_read},
                                        {"write", proc_write},
                                        {"close_stdin", proc_close_stdin},
                                        {"close_fd", proc_close_fd},
                                        {"wait", proc_wait},
                                        {"kill", proc_kill},
                                        {"close", proc_close},
                                        {NULL, NULL}};

static const luaL_Reg proc_meta[] = {
    {"__close", proc_close}, {"__gc", proc_close}, {NULL, NULL}};

static const luaL_Reg module[] = {
    {"spawn", proc_spawn}, {"run", proc_run}, {"poll", proc_poll}, {NULL, NULL}};

int luaopen_proc(lua_State *L)
{
  if (luaL_newmetatable(L, PROC)) {
    luaL_setfuncs(L, proc_meta, 0);
    luaL_newlib(L, proc_methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  return 1;
}

/* ---- signals, for the runner and its children ---- */

static int signal_defer(lua_State *L)
{
  tm_interrupt_defer(lua_toboolean(L, 1));
  return 0;
}

static int signal_deferred(lua_State *L)
{
  lua_pushboolean(L, tm_interrupt_deferred());
  return 1;
}

static int signal_take(lua_State *L)
{
  tm_interrupt_reset(); /* one that comes in between is counted, and fires again */
  lua_pushinteger(L, tm_interrupt_count());
  return 1;
}

static int signal_deadline(lua_State *L)
{
  lua_Integer seconds = luaL_checkinteger(L, 1);
  luaL_argcheck(L, seconds >= 0 && seconds < 86400, 1, "0 to 86400 seconds wanted");
  tm_interrupt_deadline((unsigned)seconds);
  return 0;
}

/* guard(fn, ...) is pcall, after which signals are deferred and no hook is left to raise in
** the caller: it can report in peace. */
static int signal_guard(lua_State *L)
{
  luaL_checkany(L, 1);
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  tm_interrupt_defer(true);
  lua_sethook(L, NULL, 0, 0);
  lua_pushboolean(L, status == LUA_OK);
  lua_insert(L, 1);
  return lua_gettop(L);
}

static int signal_pid(lua_State *L)
{
  lua_pushinteger(L, getpid());
  return 1;
}

/* random(n) -> n hexadecimal digits, from the kernel */
static int signal_random(lua_State *L)
{
  unsigned char bytes[32];
  char text[2 * sizeof bytes + 1];
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n > 0 && n <= (lua_Integer)(2 * sizeof bytes), 1, "1 to 64 wanted");
  if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
    return luaL_error(L, "getrandom failed");
  for (size_t i = 0; i < sizeof bytes; i++)
    snprintf(text + 2 * i, 3, "%02x", bytes[i]);
  lua_pushlstring(L, text, (size_t)n);
  return 1;
}

/* mono() -> milliseconds of a clock that never jumps; wall() -> since 1970 UTC */
static int signal_mono(lua_State *L)
{
  lua_pushinteger(L, tm_clock_mono_ms());
  return 1;
}

static int signal_wall(lua_State *L)
{
  lua_pushinteger(L, tm_clock_wall_ms());
  return 1;
}

static const luaL_Reg signal_module[] = {
    {"defer", signal_defer},   {"deferred", signal_deferred},
    {"take", signal_take},     {"deadline", signal_deadline},
    {"guard", signal_guard},   {"pid", signal_pid},
    {"mono", signal_mono},     {"wall", signal_wall},
    {"random", signal_random}, {NULL, NULL}};

int luaopen_tidemill_signal(lua_State *L)
{
  luaL_newlib(L, signal_module);
  return 1;
}
