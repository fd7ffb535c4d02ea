/*
** main.c: the process: signals, the Lua state, and the way into lua/main.lua
**
** SIGINT, SIGTERM and SIGHUP fire the process-wide interrupt, which every wait watches, and hook
** the Lua state so that a loop in Lua ends too. A second signal ends the process at once.
** A runner that ends its children before itself defers both (tm_interrupt_defer); at a prompt
** only Lua ends, however often SIGINT comes (tm_interrupt_prompt).
*/
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cancel.h"
#include "bind/lerror.h"
#include "bind/lhook.h"
#include "bind/modules.h"
#include "driver/digest.h"
#include "ossd/ossd.h"

#ifndef TM_VERSION
#define TM_VERSION "unknown"
#endif

static void on_signal(int signal)
{
  bool again = tm_cancel_fired(tm_interrupt());
  tm_interrupt_signal(signal);
  if (tm_interrupt_deferred())
    return;
  if (again && !(signal == SIGINT && tm_interrupt_at_prompt()))
    _exit(128 + signal);
  tm_lua_hook_arm(again);
}

static bool catch_signals(struct tm_error *err)
{
  if (!tm_interrupt_start(err))
    return false;
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  struct sigaction before;
  if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) /* nohup */
    sigaction(SIGHUP, &action, NULL);
  action.sa_handler = SIG_IGN; /* a broken pipe is an error of write, not a death */
  sigaction(SIGPIPE, &action, NULL);
  return true;
}

/* Connection strings and keys live in memory: no core file may hold them. */
static void forbid_core_dumps(void)
{
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

/* Whoever starts us with a standard descriptor closed gets /dev/null there, not the first file or
** socket that we open. */
static void open_standard(void)
{
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
      _exit(1);
}

/* At the end of the process: what was written to standard output has arrived, unless its
** reader has gone. */
static void check_output(void)
{
  bool failed = ferror(stdout) != 0;
  errno = 0;
  if (fflush(stdout) == 0 && !failed)
    return;
  int reason = errno;
  struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
  if (poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0)
    return;
  fprintf(stderr, "tidemill: error: cannot write to standard output%s%s\n",
          reason != 0 ? ": " : "", reason != 0 ? strerror(reason) : "");
  fflush(NULL); /* what a script has open and did not close */
  _exit(1);
}

static int traceback(lua_State *L)
{
  if (lua_type(L, 1) == LUA_TSTRING && getenv("TIDEMILL_TRACEBACK") != NULL)
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

/* Runs lua/main.lua with the arguments; it returns the exit code. */
static int run(lua_State *L)
{
  int argc = (int)lua_tointeger(L, 1);
  char **argv = lua_touserdata(L, 2);
  luaL_openlibs(L);
  tm_lua_open_modules(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "tidemill.main");
  lua_call(L, 1, 1);
  lua_createtable(L, argc, 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_call(L, 1, 1);
  return 1;
}

/* What moves rows frees and takes the same few sizes all the time: memory goes back to the
** kernel when the process ends, not to be touched anew for each part of an object. Peak memory
** is the same. One arena: threads use what others have freed. */
static void keep_freed_memory(void)
{
  mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that glibc takes */
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
  mallopt(M_ARENA_MAX, 1);
}

int main(int argc, char **argv)
{
  open_standard();
  atexit(check_output);
  if (argc == 2 && strcmp(argv[1], "--version") == 0) {
    puts("tidemill " TM_VERSION);
    return 0;
  }
  struct tm_error err;
  forbid_core_dumps();
  tm_digest_stay();
  if (!catch_signals(&err)) {
    fprintf(stderr, "tidemill: %s\n", err.message);
    return 1;
  }
  if (argc > 1 && (strcmp(argv[1], "node") == 0 || strcmp(argv[1], "exec") == 0))
    keep_freed_memory();
  if (argc > 1 && strcmp(argv[1], "ossd") == 0)
    return tm_ossd_main(argc - 1, argv + 1);
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    fputs("tidemill: out of memory\n", stderr);
    return 1;
  }
  tm_lua_hook_main(L);
  lua_pushcfunction(L, traceback);
  lua_pushcfunction(L, run);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  int code = 1;
  if (lua_pcall(L, 2, 1, 1) == LUA_OK) {
    code = (int)lua_tointeger(L, -1);
  } else {
    tm_lua_toerror(L, -1, &err);
    fprintf(stderr, "tidemill: %s\n", err.message);
    code = tm_kind_exit_code(err.kind);
  }
  tm_lua_hook_main(NULL);
  lua_close(L);
  return code;
}
