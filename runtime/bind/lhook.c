/*
** lhook.c: how a signal reaches Lua code that runs without ever waiting
*/
#include "bind/lhook.h"

#include <lauxlib.h>
#include <stdatomic.h>

#include "bind/lerror.h"

/* For the signal handler only. */
static _Atomic(lua_State *) main_state;
static _Atomic(lua_State *) running_state;

void tm_lua_hook_main(lua_State *L)
{
  atomic_store(&main_state, L);
}

lua_State *tm_lua_hook_running(lua_State *co)
{
  return atomic_exchange(&running_state, co);
}

static void stop_hook(lua_State *L, lua_Debug *ar)
{
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  struct tm_error err;
  tm_error_set(&err, TM_ECANCELED, "cancelled");
  tm_lua_raise(L, &err);
}

/* Stays armed. */
static void insist_hook(lua_State *L, lua_Debug *ar)
{
  (void)ar;
  struct tm_error err;
  tm_error_set(&err, TM_ECANCELED, "cancelled");
  tm_lua_pusherror(L, &err);
  lua_error(L);
}

void tm_lua_hook_arm(bool insist)
{
  lua_Hook hook = insist ? insist_hook : stop_hook;
  lua_State *states[] = {atomic_load(&main_state), atomic_load(&running_state)};
  for (int i = 0; i < 2; i++)
    if (states[i] !=
        NULL) /* counts only: a __close that is C code must still be called */
      lua_sethook(states[i], hook, LUA_MASKCOUNT, 1);
}
