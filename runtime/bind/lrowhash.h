/*
** lrowhash.h: stream.rowhash
*/
#ifndef TM_BIND_LROWHASH_H
#define TM_BIND_LROWHASH_H

#include <lua.h>

/* rowhash{ columns =, types =, by_column =, and a format } -> stage with sums() */
int tm_lua_rowhash(lua_State *L);

#endif
