/*
** modules.c: every native module, and how Lua finds the embedded Lua files
*/
#include "bind/modules.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/laccess.h"
#include "bind/lcrash.h"
#include "bind/lcron.h"
#include "bind/lcsv.h"
#include "bind/ledit.h"
#include "bind/lerror.h"
#include "bind/lhttp.h"
#include "bind/lhttpd.h"
#include "bind/ljson.h"
#include "bind/llease.h"
#include "bind/llog.h"
#include "bind/loss.h"
#include "bind/lpg.h"
#include "bind/lproc.h"
#include "bind/lsign.h"
#include "bind/lsqlite.h"
#include "bind/lstream.h"
#include "bind/ltime.h"
#include "bind/ltty.h"
#include "bind/lwire.h"
#include "bind/lzip.h"

#ifndef TM_VERSION
#define TM_VERSION "unknown"
#endif

struct embedded { /* generated: build/embedded.c */
  const char *name;
  const unsigned char *text;
  unsigned size;
};
extern const struct embedded tm_embedded[];

/* One line a module, sorted by name. */
static const luaL_Reg natives[] = {
    {"cron", luaopen_cron},
    {"csv", luaopen_csv},
    {"json", luaopen_json},
    {"log", luaopen_log},
    {"oss", luaopen_oss},
    {"pg", luaopen_pg},
    {"proc", luaopen_proc},
    {"stream", luaopen_stream},
    {"tidemill.access", luaopen_tidemill_access},
    {"tidemill.crash", luaopen_tidemill_crash},
    {"tidemill.edit", luaopen_tidemill_edit},
    {"tidemill.embedded", luaopen_tidemill_embedded},
    {"tidemill.error", luaopen_tidemill_error},
    {"tidemill.http", luaopen_tidemill_http},
    {"tidemill.httpd", luaopen_tidemill_httpd},
    {"tidemill.lease", luaopen_tidemill_lease},
    {"tidemill.sign", luaopen_tidemill_sign},
    {"tidemill.signal", luaopen_tidemill_signal},
    {"tidemill.sqlite", luaopen_tidemill_sqlite},
    {"time", luaopen_time},
    {"tidemill.tty", luaopen_tidemill_tty},
    {"tidemill.wire", luaopen_tidemill_wire},
    {"zip", luaopen_zip},
    {NULL, NULL},
};

static const struct embedded *find_embedded(const char *name)
{
  for (const struct embedded *e = tm_embedded; e->name != NULL; e++)
    if (strcmp(e->name, name) == 0)
      return e;
  return NULL;
}

/* "tidemill.cli.run" -> "lua/cli/run.lua", "pg" -> "stdlib/pg.lua" */
static void file_of_module(const char *module, char *out, size_t size)
{
  if (strncmp(module, "tidemill.", 9) == 0)
    snprintf(out, size, "lua/%s", module + 9);
  else
    snprintf(out, size, "stdlib/%s", module);
  for (char *p = strchr(out, '/') + 1; *p != '\0'; p++)
    if (*p == '.')
      *p = '/';
  size_t n = strlen(out);
  snprintf(out + n, size - n, ".lua");
}

static int searcher(lua_State *L)
{
  char file[256], path[4096];
  file_of_module(luaL_checkstring(L, 1), file, sizeof file);
  const char *dir = getenv("TIDEMILL_LUA");
  int status;
  if (dir != NULL) {
    snprintf(path, sizeof path, "%s/%s", dir, file);
    status = luaL_loadfilex(L, path, "t");
    if (status == LUA_ERRFILE) {
      lua_pushfstring(L, "no file '%s'", path);
      return 1;
    }
  } else {
    const struct embedded *e = find_embedded(file);
    if (e == NULL) {
      lua_pushfstring(L, "no embedded file '%s'", file);
      return 1;
    }
    snprintf(path, sizeof path, "@%s", file);
    status = luaL_loadbufferx(L, (const char *)e->text, e->size, path, "bt");
  }
  if (status != LUA_OK)
    return lua_error(L);
  lua_pushstring(L, file);
  return 2;
}

void tm_lua_open_modules(lua_State *L)
{
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  luaL_setfuncs(L, natives, 0);
  lua_pop(L, 1);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "searchers");
  for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) { /* make room at 2 */
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushcfunction(L, searcher);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}

static int embedded_source(lua_State *L)
{
  const struct embedded *e = find_embedded(luaL_checkstring(L, 1));
  if (e == NULL)
    lua_pushnil(L);
  else
    lua_pushlstring(L, (const char *)e->text, e->size);
  return 1;
}

static int embedded_names(lua_State *L)
{
  lua_newtable(L);
  for (int i = 0; tm_embedded[i].name != NULL; i++) {
    lua_pushstring(L, tm_embedded[i].name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static const luaL_Reg embedded_module[] = {
    {"source", embedded_source}, {"names", embedded_names}, {NULL, NULL}};

int luaopen_tidemill_embedded(lua_State *L)
{
  luaL_newlib(L, embedded_module);
  lua_pushliteral(L, TM_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}
