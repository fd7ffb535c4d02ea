/*
** laccess.c: native "tidemill.access"
**
** The keys sit in a userdata until they were pushed, so an error raised meanwhile leaves them to
** the collector, which overwrites them.
*/
#include "bind/laccess.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/loss_impl.h"
#include "oss/access.h"

#define ACCESS "tidemill.access.held"

static int held_gc(lua_State *L)
{
  tm_oss_access_free(luaL_checkudata(L, 1, ACCESS));
  return 0;
}

/* Sets a field of the table at the stack's top, unless there is no text. */
static void set_text(lua_State *L, const char *field, const char *text)
{
  if (text == NULL || text[0] == '\0')
    return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

static const char *style_of(enum tm_addressing style)
{
  switch (style) {
  case TM_ADDR_PATH:
    return "path";
  case TM_ADDR_CNAME:
    return "cname";
  default:
    return "virtual";
  }
}

static void push_access(lua_State *L, const struct tm_oss_access *a)
{
  lua_createtable(L, 0, 10);
  set_text(L, "protocol", a->address.scheme == TM_OSS_S3 ? "s3" : "oss");
  set_text(L, "bucket", a->address.bucket);
  lua_pushstring(L, a->prefix);
  lua_setfield(L, -2, "prefix");
  lua_pushfstring(L, "%s://%s", a->address.tls ? "https" : "http", a->address.host);
  lua_setfield(L, -2, "endpoint");
  set_text(L, "region", a->address.region);
  set_text(L, "addressing", style_of(a->address.style));
  set_text(L, "signature", a->signature);
  set_text(L, "id", a->cred.id);
  set_text(L, "secret", a->cred.secret);
  set_text(L, "token", a->cred.token);
}

/* of(store) -> table */
static int access_of(lua_State *L)
{
  struct tm_error err;
  struct tm_oss *store = tm_lua_checkstore(L, 1);
  struct tm_oss_access *held = lua_newuserdatauv(L, sizeof *held, 0);
  memset(held, 0, sizeof *held);
  luaL_setmetatable(L, ACCESS);
  if (!tm_oss_access(store, held, NULL, &err))
    return tm_lua_raise(L, &err);
  push_access(L, held);
  tm_oss_access_free(held);
  return 1;
}

static const luaL_Reg module[] = {{"of", access_of}, {NULL, NULL}};

int luaopen_tidemill_access(lua_State *L)
{
  if (luaL_newmetatable(L, ACCESS)) {
    lua_pushcfunction(L, held_gc);
    lua_setfield(L, -2, "__gc");
  }
  luaL_newlib(L, module);
  return 1;
}
