/*
** lchunks.h: stream.chunks
*/
#ifndef TM_BIND_LCHUNKS_H
#define TM_BIND_LCHUNKS_H

#include <lua.h>

/* chunks{ bytes =, rows =, and a format } -> what a stream writes to, and Lua reads in chunks of
** whole records */
int tm_lua_chunks(lua_State *L);

#endif
