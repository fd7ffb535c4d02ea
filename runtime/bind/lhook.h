/*
** lhook.h: how a signal reaches Lua code that runs without ever waiting
**
** The handler arms a hook in the Lua states that may be running; at its next instruction each
** raises kind canceled. lua_sethook may be called from a signal handler.
*/
#ifndef TM_BIND_LHOOK_H
#define TM_BIND_LHOOK_H

#include <lua.h>
#include <stdbool.h>

/* The state of the main program, NULL before and after; called by main. */
void tm_lua_hook_main(lua_State *L);

/* The coroutine that runs now, or NULL for none known; returns the one before. */
lua_State *tm_lua_hook_running(lua_State *co);

/* Arms the hook. `insist`: it raises at every instruction from now on, so that no pcall in
** between can go on; else once. For the signal handler. */
void tm_lua_hook_arm(bool insist);

#endif
