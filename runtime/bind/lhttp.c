/*
** lhttp.c: the internal Lua module "tidemill.http", one HTTP request
**
**     local reply = http.post { url = "https://...", body = text, headers = { ["X-Name"] = "v" },
**                               timeout = 30, ca_file = path, proxy = url }
**     reply.status, reply.body   -- at most the first 64 KiB of it
**
** timeout is seconds for all of it (default 30). Any status is a reply; what raises is a request
** that got none: kinds connect (code "tls": the certificate), io, timeout, protocol, usage,
** canceled. Nothing is followed, certificates are verified, the environment's proxy is not used.
*/
#include "bind/lhttp.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "driver/http.h"

#define CALL "tidemill.http.call"

enum { KEPT = 64 << 10, HEADERS = 64 };

struct call { /* a userdata: whatever raises, all is freed */
  struct tm_http *http;
  struct tm_http_reply reply;
  struct tm_buffer body; /* of a good reply */
  struct tm_http_pair headers[HEADERS];
};

static int call_gc(lua_State *L)
{
  struct call *c = luaL_checkudata(L, 1, CALL);
  tm_http_reply_free(&c->reply);
  tm_buffer_free(&c->body);
  tm_http_close(c->http);
  c->http = NULL;
  return 0;
}

static struct call *new_call(lua_State *L)
{
  struct call *c = lua_newuserdatauv(L, sizeof *c, 0);
  memset(c, 0, sizeof *c);
  luaL_setmetatable(L, CALL);
  return c;
}

/* Keeps the beginning and reads on: the sender need not care how much is said. */
static bool keep_some(void *data, const struct tm_http_reply *reply, const char *bytes,
                      size_t n, struct tm_error *err)
{
  struct tm_buffer *body = data;
  (void)reply;
  size_t room = body->len < KEPT ? KEPT - body->len : 0;
  if (tm_buffer_add(body, bytes, n < room ? n : room))
    return true;
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* A field of the table at index 1, which keeps it alive; NULL when absent. */
static const char *text_field(lua_State *L, const char *name, size_t *len)
{
  size_t n = 0;
  const char *text = NULL;
  if (lua_getfield(L, 1, name) == LUA_TSTRING)
    text = lua_tolstring(L, -1, &n);
  else if (!lua_isnil(L, -1))
    luaL_error(L, "%s: a string wanted, got %s", name, luaL_typename(L, -1));
  lua_pop(L, 1);
  if (len != NULL)
    *len = n;
  else if (text != NULL && strlen(text) != n)
    luaL_error(L, "%s holds a zero byte", name);
  return text;
}

static size_t read_headers(lua_State *L, struct tm_http_pair *headers)
{
  size_t n = 0;
  if (lua_getfield(L, 1, "headers") == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  luaL_argexpected(L, lua_istable(L, -1), 1, "table of headers");
  for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
    if (n == HEADERS || lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "headers: at most %d names and values, all text", HEADERS);
    headers[n++] = (struct tm_http_pair){lua_tostring(L, -2), lua_tostring(L, -1)};
  }
  lua_pop(L, 1);
  return n;
}

static int http_post(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "timeout");
  lua_Number timeout = luaL_optnumber(L, 2, 30);
  luaL_argcheck(L, timeout > 0 && timeout < 1e6, 1, "timeout: seconds wanted");
  struct call *c = new_call(L);
  struct tm_http_opts opts = {.ca_file = text_field(L, "ca_file", NULL),
                              .proxy = text_field(L, "proxy", NULL),
                              .connect_timeout_ms = (int)(timeout * 1000) + 1,
                              .stall_timeout_ms = (int)(timeout * 1000) + 1};
  struct tm_http_request request = {.method = "POST",
                                    .url = text_field(L, "url", NULL),
                                    .headers = c->headers,
                                    .header_count = read_headers(L, c->headers),
                                    .has_body = true,
                                    .on_body = keep_some,
                                    .data = &c->body};
  request.body = text_field(L, "body", &request.body_len);
  luaL_argcheck(L, request.url != NULL, 1, "url: text wanted");
  struct tm_error err;
  c->http = tm_http_open(&opts, &err);
  request.deadline_ms = tm_clock_mono_ms() + (int64_t)(timeout * 1000) + 1;
  if (c->http == NULL || !tm_http_send(c->http, &request, &c->reply, &err))
    return tm_lua_raise(L, &err);
  const struct tm_buffer *body = c->body.len > 0 ? &c->body : &c->reply.body;
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, c->reply.status);
  lua_setfield(L, -2, "status");
  lua_pushlstring(L, body->data != NULL ? body->data : "",
                  body->len < KEPT ? body->len : KEPT);
  lua_setfield(L, -2, "body");
  return 1;
}

static const luaL_Reg module[] = {{"post", http_post}, {NULL, NULL}};

int luaopen_tidemill_http(lua_State *L)
{
  luaL_newmetatable(L, CALL);
  lua_pushcfunction(L, call_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newlib(L, module);
  return 1;
}
