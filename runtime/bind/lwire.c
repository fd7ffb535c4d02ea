/*
** lwire.c: the internal Lua module "tidemill.wire"
**
** The bytes read so far belong to the userdata, so that an error loses none: after a timeout
** the next call goes on where this one stopped.
*/
#include "bind/lwire.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "bind/lerror.h"

#define WIRE "tidemill.wire"

enum { CHUNK = 16 << 10, MAX_LINE = 64 << 20 };

struct wire {
  int fd; /* -1 once closed */
  struct tm_buffer pending;
  size_t looked; /* bytes of `pending` that hold no line end */
};

static struct wire *checkwire(lua_State *L)
{
  struct wire *w = luaL_checkudata(L, 1, WIRE);
  luaL_argcheck(L, w->fd >= 0, 1, "the wire is closed");
  return w;
}

static int wire_close(lua_State *L)
{
  struct wire *w = luaL_checkudata(L, 1, WIRE);
  if (w->fd >= 0)
    close(w->fd);
  w->fd = -1;
  tm_buffer_free(&w->pending);
  return 0;
}

static int wire_open(lua_State *L)
{
  lua_Integer fd = luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd < 1 << 20, 1, "a descriptor wanted");
  struct wire *w = lua_newuserdatauv(L, sizeof *w, 0);
  *w = (struct wire){.fd = -1};
  luaL_setmetatable(L, WIRE);
  w->fd = (int)fd;
  return 1;
}

/* Takes in what there is. 1: something came, 0: the end of the file, -1: *err set. */
static int take_in(struct wire *w, int64_t deadline, struct tm_error *err)
{
  int ready = tm_clock_poll(w->fd, POLLIN, tm_clock_left(deadline), NULL, err);
  if (ready == 0)
    tm_error_set(err, TM_ETIMEOUT, "no line came in time");
  if (ready <= 0)
    return -1;
  if (!tm_buffer_reserve(&w->pending, CHUNK)) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return -1;
  }
  ssize_t n = read(w->fd, w->pending.data + w->pending.len, CHUNK);
  if (n < 0 && errno == EINTR)
    return 1;
  if (n < 0)
    tm_error_errno(err, TM_EIO, errno, "cannot read from descriptor %d", w->fd);
  else
    w->pending.len += (size_t)n;
  return n > 0 ? 1 : (int)n;
}

static int wire_line(lua_State *L)
{
  struct wire *w = checkwire(L);
  int64_t timeout_ms = -1;
  if (!lua_isnoneornil(L, 2)) {
    lua_Number seconds = luaL_checknumber(L, 2);
    luaL_argcheck(L, seconds >= 0 && seconds < 1e9, 2, "seconds of at least 0 wanted");
    timeout_ms = (int64_t)ceil(seconds * 1000);
  }
  int64_t deadline = tm_clock_deadline(timeout_ms);
  struct tm_error err;
  for (;;) {
    char *from = w->pending.data;
    char *end = w->pending.len == w->looked
                    ? NULL
                    : memchr(from + w->looked, '\n', w->pending.len - w->looked);
    if (end != NULL) {
      size_t len = (size_t)(end - from);
      lua_pushlstring(L, from, len);
      tm_buffer_consume(&w->pending, len + 1);
      w->looked = 0;
      return 1;
    }
    w->looked = w->pending.len;
    if (w->looked > MAX_LINE) {
      tm_error_set(&err, TM_EDATA, "a line of more than %d bytes", MAX_LINE);
      return tm_lua_raise(L, &err);
    }
    int more = take_in(w, deadline, &err);
    if (more < 0)
      return tm_lua_raise(L, &err);
    if (more == 0)
      return 0;
  }
}

static int wire_rest(lua_State *L)
{
  struct wire *w = checkwire(L);
  lua_pushlstring(L, w->pending.len > 0 ? w->pending.data : "", w->pending.len);
  tm_buffer_consume(&w->pending, w->pending.len);
  w->looked = 0;
  return 1;
}

static const luaL_Reg wire_methods[] = {
    {"line", wire_line}, {"rest", wire_rest}, {"close", wire_close}, {NULL, NULL}};

static const luaL_Reg wire_meta[] = {
    {"__close", wire_close}, {"__gc", wire_close}, {NULL, NULL}};

static const luaL_Reg module[] = {{"open", wire_open}, {NULL, NULL}};

int luaopen_tidemill_wire(lua_State *L)
{
  if (luaL_newmetatable(L, WIRE)) {
    luaL_setfuncs(L, wire_meta, 0);
    luaL_newlib(L, wire_methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  return 1;
}
