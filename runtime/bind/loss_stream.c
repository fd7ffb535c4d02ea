/*
** loss_stream.c: readers and writers of objects as stream values
*/
#include <lauxlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/loss_impl.h"
#include "bind/lstream.h"
#include "oss/deal.h"
#include "oss/objects.h"
#include "oss/reader.h"
#include "oss/writer.h"

#define READER "tidemill.oss.reader"
#define WRITER "tidemill.oss.writer"
#define OBJECTS "tidemill.oss.objects"

/* Pushes a closed stream of this type that keeps the store at index 1. */
static void **new_stream(lua_State *L, const char *type, const char *mark,
                         const luaL_Reg *methods)
{
  ((struct tm_lua_store *)lua_touserdata(L, 1))->lent = true;
  return tm_lua_newstream(L, type, mark, methods, 1);
}

/* ---- reader ---- */

static int reader_size(lua_State *L)
{
  struct tm_oss_info info;
  luaL_checkudata(L, 1, READER);
  if (tm_oss_reader_info(tm_lua_checksource(L, 1), &info))
    lua_pushinteger(L, info.size);
  else
    lua_pushnil(L);
  return 1;
}

static const luaL_Reg reader_methods[] = {{"size", reader_size}, {NULL, NULL}};

int tm_lua_store_reader(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2);
  struct tm_oss_reader_opts o = {
      .range_bytes = (size_t)tm_lua_opt_count(L, 3, "range_bytes"),
      .parallel = (int)tm_lua_opt_count(L, 3, "parallel"),
      .offset = tm_lua_opt_count(L, 3, "offset"),
      .length = tm_lua_opt_count(L, 3, "length"),
      .etag = tm_lua_opt_text(L, 3, "etag"),
      .size = tm_lua_opt_count(L, 3, "size"),
      .ahead = tm_lua_opt_flag(L, 3, "ahead"),
  };
  o.has_crc64 = tm_lua_opt_u64(L, 3, "crc64", &o.crc64);
  if (lua_istable(L, 3)) {
    o.has_size = lua_getfield(L, 3, "size") != LUA_TNIL;
    lua_pop(L, 1);
  }
  struct tm_error err;
  void **slot = new_stream(L, READER, "__tm_source", reader_methods);
  *slot = tm_oss_reader_open(oss, key, &o, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}

/* ---- writer ---- */

static void read_writer_opts(lua_State *L, int table, struct tm_oss_writer_opts *o)
{
  *o = (struct tm_oss_writer_opts){
      .part_bytes = (size_t)tm_lua_opt_count(L, table, "part_bytes"),
      .parallel = (int)tm_lua_opt_count(L, table, "parallel"),
      .budget_bytes = (size_t)tm_lua_opt_count(L, table, "budget_bytes"),
  };
  tm_lua_put_opts(L, table, &o->put);
}

static int writer_result(lua_State *L)
{
  struct tm_oss_written w;
  luaL_checkudata(L, 1, WRITER);
  if (!tm_oss_writer_result(tm_lua_checksink(L, 1), &w)) {
    lua_pushnil(L);
    return 1;
  }
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, w.size);
  lua_setfield(L, -2, "size");
  lua_pushstring(L, w.etag);
  lua_setfield(L, -2, "etag");
  lua_pushinteger(L, w.parts);
  lua_setfield(L, -2, "parts");
  tm_lua_pushu64(L, w.crc64);
  lua_setfield(L, -2, "crc64");
  return 1;
}

static const luaL_Reg writer_methods[] = {{"result", writer_result}, {NULL, NULL}};

int tm_lua_store_writer(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  const char *key = tm_lua_checkkey(L, 2);
  struct tm_oss_writer_opts o;
  struct tm_error err;
  lua_settop(L, 3);
  read_writer_opts(L, 3, &o);
  void **slot = new_stream(L, WRITER, "__tm_sink", writer_methods);
  *slot = tm_oss_writer_open(oss, key, &o, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}

/* ---- objects ---- */

static void set_count(lua_State *L, const char *field, uint64_t v)
{
  lua_pushinteger(L, (lua_Integer)v);
  lua_setfield(L, -2, field);
}

static void push_object(lua_State *L, const struct tm_oss_object *object)
{
  lua_createtable(L, 0, 6);
  lua_pushstring(L, object->key);
  lua_setfield(L, -2, "key");
  set_count(L, "rows", object->rows);
  set_count(L, "bytes", object->bytes);
  set_count(L, "raw_bytes", object->raw_bytes);
  tm_lua_pushu64(L, object->crc64);
  lua_setfield(L, -2, "crc64");
  lua_pushstring(L, object->etag);
  lua_setfield(L, -2, "etag");
}

/* Of either kind. */
static bool get_object(struct tm_sink *sink, size_t index, struct tm_oss_object *object)
{
  return tm_oss_objects_get(sink, index, object) || tm_oss_deal_get(sink, index, object);
}

/* objects([after]): those completed, without the first `after`; also while a job writes. */
static int objects_list(lua_State *L)
{
  struct tm_oss_object object;
  luaL_checkudata(L, 1, OBJECTS);
  struct tm_sink *sink = tm_lua_peeksink(L, 1);
  lua_Integer after = luaL_optinteger(L, 2, 0);
  luaL_argcheck(L, after >= 0, 2, "a count wanted");
  lua_newtable(L);
  for (lua_Integer i = 0; get_object(sink, (size_t)(after + i), &object); i++) {
    push_object(L, &object);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* fd(): can be read while there is one that objects() did not give; nil: never. */
static int objects_fd(lua_State *L)
{
  luaL_checkudata(L, 1, OBJECTS);
  int fd = tm_oss_objects_fd(tm_lua_peeksink(L, 1));
  if (fd < 0)
    return 0;
  lua_pushinteger(L, fd);
  return 1;
}

/* remove(): deletes them again; after finish. */
static int objects_remove(lua_State *L)
{
  luaL_checkudata(L, 1, OBJECTS);
  struct tm_sink *sink = tm_lua_checksink(L, 1);
  tm_oss_objects_remove(sink);
  tm_oss_deal_remove(sink);
  return 0;
}

static int objects_another(lua_State *L);

static const luaL_Reg objects_methods[] = {{"objects", objects_list},
                                           {"another", objects_another},
                                           {"fd", objects_fd},
                                           {"remove", objects_remove},
                                           {NULL, NULL}};

/* another(): a sink for one more stream to the same objects. */
static int objects_another(lua_State *L)
{
  struct tm_error err;
  luaL_checkudata(L, 1, OBJECTS);
  struct tm_sink *sink = tm_lua_peeksink(L, 1);
  lua_settop(L, 1); /* the new one keeps this one, and so the store */
  void **slot = tm_lua_newstream(L, OBJECTS, "__tm_sink", objects_methods, 1);
  *slot = tm_oss_deal_another(sink, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}

/* So many objects at once, with the other options alike. */
static struct tm_sink *open_deal(struct tm_oss *oss, const struct tm_oss_objects_opts *o,
                                 size_t count, struct tm_error *err)
{
  struct tm_oss_deal_opts d = {
      .prefix = o->prefix,
      .suffix = o->suffix,
      .digits = o->digits,
      .count = count,
      .preamble = o->preamble,
      .preamble_bytes = o->preamble_bytes,
      .preamble_raw_bytes = o->preamble_raw_bytes,
      .overwrite = o->overwrite,
      .writer = o->writer,
  };
  return tm_oss_deal_open(oss, &d, err);
}

int tm_lua_store_objects(lua_State *L)
{
  struct tm_oss *oss = tm_lua_checkstore(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  struct tm_oss_objects_opts o = {
      .prefix = tm_lua_opt_text(L, 2, "prefix"),
      .suffix = tm_lua_opt_text(L, 2, "suffix"),
      .digits = (int)tm_lua_opt_count(L, 2, "digits"),
      .object_bytes = tm_lua_opt_count(L, 2, "object_bytes"),
      .first_bytes = tm_lua_opt_count(L, 2, "first_bytes"),
      .preamble_raw_bytes = tm_lua_opt_count(L, 2, "preamble_raw_bytes"),
      .overwrite = tm_lua_opt_flag(L, 2, "overwrite"),
      .empty_object = tm_lua_opt_flag(L, 2, "empty_object"),
  };
  struct tm_error err;
  if (lua_getfield(L, 2, "preamble") != LUA_TNIL) {
    luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2, "preamble must be a string");
    o.preamble = lua_tolstring(L, -1, &o.preamble_bytes);
  }
  read_writer_opts(L, 2, &o.writer);
  lua_Integer count = tm_lua_opt_count(L, 2, "count");
  void **slot = new_stream(L, OBJECTS, "__tm_sink", objects_methods);
  *slot = count > 0 ? open_deal(oss, &o, (size_t)count, &err)
                    : tm_oss_objects_open(oss, &o, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}
