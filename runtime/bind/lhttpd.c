/*
** lhttpd.c: the internal Lua module "tidemill.httpd", texts served over HTTP
**
**     local server <close> = httpd.listen { host = "127.0.0.1", port = 0 }
**     server:port()                                       -> the port it has
**     server:set("/healthz", 200, "text/plain", "ok\n")   GET and HEAD of it answer so from now on
**     server:set("/healthz", 200, "text/plain", "ok\n", 30)  for 30 s; after that with 503
**     server:hits("/healthz")                             -> requests answered
**     server:close()
**
** Requests are answered by a thread of the server's own, never by Lua.
*/
#include "bind/lhttpd.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "driver/httpd.h"

#define HTTPD "tidemill.httpd"

struct httpd {
  struct tm_httpd *httpd; /* NULL once closed */
};

static struct tm_httpd *checkhttpd(lua_State *L)
{
  struct httpd *s = luaL_checkudata(L, 1, HTTPD);
  if (s->httpd == NULL)
    luaL_argerror(L, 1, "the server is closed");
  return s->httpd;
}

static int httpd_listen(lua_State *L)
{
  struct tm_error err;
  if (lua_isnoneornil(L, 1))
    lua_newtable(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "host");
  lua_getfield(L, 1, "port");
  const char *host = luaL_optstring(L, 2, "127.0.0.1");
  lua_Integer port = luaL_optinteger(L, 3, 0);
  luaL_argcheck(L, port >= 0 && port <= 65535, 1, "port: 0 to 65535 wanted");
  struct httpd *s = lua_newuserdatauv(L, sizeof *s, 0);
  s->httpd = NULL;
  luaL_setmetatable(L, HTTPD);
  s->httpd = tm_httpd_open(host, (unsigned)port, &err);
  if (s->httpd == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

static int httpd_close(lua_State *L)
{
  struct httpd *s = luaL_checkudata(L, 1, HTTPD);
  struct tm_httpd *httpd = s->httpd;
  s->httpd = NULL;
  tm_httpd_close(httpd);
  return 0;
}

static int httpd_port(lua_State *L)
{
  lua_pushinteger(L, tm_httpd_port(checkhttpd(L)));
  return 1;
}

static const char *check_text(lua_State *L, int index)
{
  size_t len;
  const char *text = luaL_checklstring(L, index, &len);
  luaL_argcheck(L, strlen(text) == len, index, "it holds a zero byte");
  return text;
}

static int httpd_set(lua_State *L)
{
  struct tm_httpd *httpd = checkhttpd(L);
  const char *path = check_text(L, 2);
  lua_Integer status = luaL_checkinteger(L, 3);
  luaL_argcheck(L, status >= 200 && status <= 599, 3, "200 to 599 wanted");
  struct tm_httpd_page page = {.status = (unsigned)status,
                               .content_type = check_text(L, 4)};
  page.body = luaL_checklstring(L, 5, &page.body_len);
  lua_Number fresh_s = luaL_optnumber(L, 6, 0);
  luaL_argcheck(L, fresh_s >= 0 && fresh_s < 1e9, 6, "a time of at least 0 s wanted");
  page.fresh_ms = (int64_t)(fresh_s * 1000);
  struct tm_error err;
  if (!tm_httpd_set(httpd, path, &page, &err))
    return tm_lua_raise(L, &err);
  return 0;
}

static int httpd_hits(lua_State *L)
{
  struct tm_httpd *httpd = checkhttpd(L);
  lua_pushinteger(L, tm_httpd_hits(httpd, check_text(L, 2)));
  return 1;
}

static const luaL_Reg httpd_methods[] = {{"port", httpd_port},
                                         {"set", httpd_set},
                                         {"hits", httpd_hits},
                                         {"close", httpd_close},
                                         {NULL, NULL}};

static const luaL_Reg httpd_meta[] = {
    {"__close", httpd_close}, {"__gc", httpd_close}, {NULL, NULL}};

static const luaL_Reg module[] = {{"listen", httpd_listen}, {NULL, NULL}};

int luaopen_tidemill_httpd(lua_State *L)
{
  if (luaL_newmetatable(L, HTTPD)) {
    luaL_setfuncs(L, httpd_meta, 0);
    luaL_newlib(L, httpd_methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  return 1;
}
