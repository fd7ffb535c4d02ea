/*
** lhttpd.h: the internal Lua module "tidemill.httpd", texts served over HTTP
*/
#ifndef TM_BIND_LHTTPD_H
#define TM_BIND_LHTTPD_H

#include <lua.h>

int luaopen_tidemill_httpd(lua_State *L);

#endif
