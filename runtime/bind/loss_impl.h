/*
** loss_impl.h: what the files of the module "oss" share
*/
#ifndef TM_BIND_LOSS_IMPL_H
#define TM_BIND_LOSS_IMPL_H

#include <lua.h>

#include "oss/oss.h"

struct tm_lua_store {
  struct tm_oss *oss; /* NULL: never opened */
  bool closed;        /* by hand; streams may still use `oss` until they are collected */
  bool lent;          /* a stream was made from it */
};

/* The open store at this index; raises when it is something else or closed. */
struct tm_oss *tm_lua_checkstore(lua_State *L, int index);

/* A key: a string without zero bytes. */
const char *tm_lua_checkkey(lua_State *L, int index);

/*
** Fields of the options table at `table` (0 or nil: none). Strings stay valid while the
** table does. Raise on a wrong type, naming the field.
*/
const char *tm_lua_opt_text(lua_State *L, int table, const char *field);
lua_Integer tm_lua_opt_count(lua_State *L, int table, const char *field);
bool tm_lua_opt_flag(lua_State *L, int table, const char *field);
bool tm_lua_opt_u64(lua_State *L, int table, const char *field, uint64_t *out);

/* content_type, metadata, create_only. Pushes one value that must stay on the stack as long
** as `out` is used. */
void tm_lua_put_opts(lua_State *L, int table, struct tm_oss_put_opts *out);

/* Pushes an unsigned number as decimal digits. */
void tm_lua_pushu64(lua_State *L, uint64_t v);

/* loss_stream.c: reader, writer, objects; to be added to the store's methods. */
int tm_lua_store_reader(lua_State *L);
int tm_lua_store_writer(lua_State *L);
int tm_lua_store_objects(lua_State *L);

/* loss_multipart.c */
int tm_lua_store_multipart_create(lua_State *L);
int tm_lua_store_multipart_part(lua_State *L);
int tm_lua_store_multipart_complete(lua_State *L);
int tm_lua_store_multipart_abort(lua_State *L);
int tm_lua_store_multipart_parts(lua_State *L);
int tm_lua_store_multipart_uploads(lua_State *L);

#endif
