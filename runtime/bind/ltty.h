/*
** ltty.h: the internal Lua module "tidemill.tty": is it a terminal, how wide is this text
*/
#ifndef TM_BIND_LTTY_H
#define TM_BIND_LTTY_H

#include <lua.h>

/*
** is(fd) -> boolean
** size(fd) -> columns, rows; nil when it is no terminal or does not tell
** width(text) -> columns it takes on a UTF-8 terminal
** cut(text, columns) -> the part that fits, its width
*/
int luaopen_tidemill_tty(lua_State *L);

#endif
