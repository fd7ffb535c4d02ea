/*
** ledit.c: the internal Lua module "tidemill.edit": lines typed at a terminal
**
** The completion function runs while libedit is on the C stack, so only inside a protected
** call: user value 1 of the editor is that function.
*/
#include "bind/ledit.h"

#include <lauxlib.h>

#include "base/cancel.h"
#include "bind/lerror.h"
#include "bind/lhook.h"
#include "driver/edit.h"

#define EDIT "tidemill.edit"

struct ledit {
  struct tm_edit *edit; /* NULL once closed */
  lua_State *L;         /* while a line is being read; its stack top is the function */
};

static struct ledit *check(lua_State *L)
{
  struct ledit *e = luaL_checkudata(L, 1, EDIT);
  luaL_argcheck(L, e->edit != NULL, 1, "the editor is closed");
  luaL_argcheck(L, e->L == NULL, 1, "the editor is reading a line");
  return e;
}

/* ---- completion ---- */

struct asked {
  struct tm_edit *edit;
  const char *line;
  size_t len;
};

/* stack: the function, struct asked * */
static int call_complete(lua_State *L)
{
  const struct asked *asked = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_pushlstring(L, asked->line, asked->len);
  lua_call(L, 1, 2);
  if (lua_isstring(L, 1))
    tm_edit_insert(asked->edit, lua_tostring(L, 1));
  if (lua_isstring(L, 2))
    tm_edit_show(asked->edit, lua_tostring(L, 2));
  return 0;
}

/* Runs under libedit: nothing may jump out of here. */
static void on_complete(void *data, struct tm_edit *edit, const char *line, size_t len)
{
  struct ledit *e = data;
  lua_State *L = e->L;
  struct asked asked = {edit, line, len};
  if (L == NULL || !lua_checkstack(L, 4))
    return;
  int top = lua_gettop(L);
  lua_pushcfunction(L, call_complete);
  lua_pushvalue(L, top);
  lua_pushlightuserdata(L, &asked);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK)
    lua_settop(L, top);
}

/* ---- the editor ---- */

static int edit_open(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TFUNCTION);
  struct ledit *e = lua_newuserdatauv(L, sizeof *e, 1);
  *e = (struct ledit){0};
  luaL_setmetatable(L, EDIT);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  struct tm_error err;
  e->edit = tm_edit_open(on_complete, e, &err);
  if (e->edit == NULL)
    return tm_lua_raise(L, &err);
  return 1;
}

/* close, __close and __gc */
static int edit_close(lua_State *L)
{
  struct ledit *e = luaL_checkudata(L, 1, EDIT);
  struct tm_edit *edit = e->edit;
  e->edit = NULL;
  tm_edit_close(edit);
  return 0;
}

static int edit_line(lua_State *L)
{
  struct ledit *e = check(L);
  const char *prompt = luaL_checkstring(L, 2), *line = NULL;
  struct tm_error err;
  lua_settop(L, 2);
  lua_getiuservalue(L, 1, 1);
  e->L = L;
  enum tm_edit_end end = tm_edit_line(e->edit, prompt, &line, &err);
  e->L = NULL;
  switch (end) {
  case TM_EDIT_LINE:
    lua_pushstring(L, line);
    break;
  case TM_EDIT_EOF:
    lua_pushnil(L);
    break;
  case TM_EDIT_INTERRUPTED:
    lua_pushboolean(L, false);
    break;
  case TM_EDIT_FAILED:
    return tm_lua_raise(L, &err);
  }
  return 1;
}

static int answer(lua_State *L, bool ok, const struct tm_error *err)
{
  if (ok) {
    lua_pushboolean(L, true);
    return 1;
  }
  lua_pushnil(L);
  tm_lua_pusherror(L, err);
  return 2;
}

static int edit_history(lua_State *L)
{
  struct ledit *e = check(L);
  struct tm_error err;
  return answer(L, tm_edit_history(e->edit, luaL_checkstring(L, 2), &err), &err);
}

static int edit_add(lua_State *L)
{
  struct ledit *e = check(L);
  struct tm_error err;
  return answer(L, tm_edit_add(e->edit, luaL_checkstring(L, 2), &err), &err);
}

/* ---- signals at a prompt ---- */

static int edit_prompt(lua_State *L)
{
  tm_interrupt_prompt(lua_toboolean(L, 1));
  return 0;
}

static int edit_ending(lua_State *L)
{
  if (tm_interrupt_ending() == 0)
    lua_pushnil(L);
  else
    lua_pushinteger(L, tm_interrupt_ending());
  return 1;
}

/* resume(co, ...), as coroutine.resume (upvalue 1), which does not raise once `co` is known to be a
** coroutine; a signal that comes meanwhile ends that coroutine too. */
static int tracked_resume(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTHREAD);
  lua_State *before = tm_lua_hook_running(lua_tothread(L, 1));
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  tm_lua_hook_running(before);
  return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

static int edit_tracked(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_pushcclosure(L, tracked_resume, 1);
  return 1;
}

static const luaL_Reg methods[] = {{"line", edit_line},
                                   {"history", edit_history},
                                   {"add", edit_add},
                                   {"close", edit_close},
                                   {NULL, NULL}};

static const luaL_Reg meta[] = {
    {"__close", edit_close}, {"__gc", edit_close}, {NULL, NULL}};

static const luaL_Reg module[] = {{"open", edit_open},
                                  {"prompt", edit_prompt},
                                  {"ending", edit_ending},
                                  {"tracked", edit_tracked},
                                  {NULL, NULL}};

int luaopen_tidemill_edit(lua_State *L)
{
  if (luaL_newmetatable(L, EDIT)) {
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  luaL_newlib(L, module);
  return 1;
}
