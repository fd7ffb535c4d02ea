/*
** lzip.c: the Lua module "zip": gzip and zstd as stages and on strings
*/
#include "bind/lzip.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/lerror.h"
#include "bind/lstream.h"
#include "stream/zip_stage.h"

static lua_Integer opt_integer(lua_State *L, int index, const char *name, lua_Integer low,
                               lua_Integer high)
{
  lua_Integer value = 0;
  if (!lua_istable(L, index))
    return 0;
  if (lua_getfield(L, index, name) != LUA_TNIL) {
    int is = 0;
    value = lua_tointegerx(L, -1, &is);
    if (!is || value < low || value > high) {
      lua_pushfstring(L, "%s must be an integer from %I to %I", name, (LUAI_UACINT)low,
                      (LUAI_UACINT)high);
      luaL_argerror(L, index, lua_tostring(L, -1));
    }
  }
  lua_pop(L, 1);
  return value;
}

static void check_opts(lua_State *L, int index)
{
  if (!lua_isnoneornil(L, index))
    luaL_checktype(L, index, LUA_TTABLE);
}

/* "isal" and "zlib" are for tests and for comparing them */
static enum tm_gzip_engine opt_engine(lua_State *L, int index)
{
  static const char *const names[] = {"any", "isal", "zlib", NULL};
  if (!lua_istable(L, index))
    return TM_GZIP_ANY;
  lua_getfield(L, index, "engine");
  int engine = luaL_checkoption(L, -1, "any", names);
  lua_pop(L, 1);
  return (enum tm_gzip_engine)engine;
}

static struct tm_zip_opts read_opts(lua_State *L, int index, enum tm_zip_kind kind)
{
  check_opts(L, index);
  return (struct tm_zip_opts){
      .kind = kind,
      .level = (int)opt_integer(L, index, "level", 1, kind == TM_ZIP_GZIP ? 9 : 19),
      .engine = opt_engine(L, index),
      .window_log_max = (int)opt_integer(L, index, "window_log", 10, 30)};
}

static int compressor(lua_State *L, enum tm_zip_kind kind)
{
  struct tm_zip_stage_opts opts = {
      .zip = read_opts(L, 1, kind),
      .workers = (int)opt_integer(L, 1, "workers", 1, 64),
      .chunk_bytes = (size_t)opt_integer(L, 1, "chunk", 1024, 64 * 1024 * 1024)};
  struct tm_stage **slot = tm_lua_newstage(L, 0);
  struct tm_error err;
  *slot = tm_zip_stage_new(&opts, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}

static int decompressor(lua_State *L, enum tm_zip_kind kind)
{
  struct tm_zip_opts opts = read_opts(L, 1, kind);
  struct tm_stage **slot = tm_lua_newstage(L, 0);
  struct tm_error err;
  *slot = tm_unzip_stage_new(&opts, &err);
  return *slot != NULL ? 1 : tm_lua_raise(L, &err);
}

static int zip_gzip(lua_State *L)
{
  return compressor(L, TM_ZIP_GZIP);
}

static int zip_zstd(lua_State *L)
{
  return compressor(L, TM_ZIP_ZSTD);
}

static int zip_gunzip(lua_State *L)
{
  return decompressor(L, TM_ZIP_GZIP);
}

static int zip_unzstd(lua_State *L)
{
  return decompressor(L, TM_ZIP_ZSTD);
}

static int zip_auto(lua_State *L)
{
  return decompressor(L, TM_ZIP_AUTO);
}

/* ---- on strings: what C owns meanwhile lives in a userdata ---- */

struct work {
  struct tm_zipper *zipper;
  struct tm_unzipper *unzipper;
  struct tm_buffer out;
};

static int work_close(lua_State *L)
{
  struct work *w = lua_touserdata(L, 1);
  tm_zipper_free(w->zipper);
  tm_unzipper_free(w->unzipper);
  tm_buffer_free(&w->out);
  *w = (struct work){0};
  return 0;
}

static struct work *new_work(lua_State *L)
{
  struct work *w = lua_newuserdatauv(L, sizeof *w, 0);
  *w = (struct work){0};
  if (luaL_newmetatable(L, "tidemill.zip.work")) {
    lua_pushcfunction(L, work_close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, work_close);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  lua_toclose(L, -1);
  return w;
}

static enum tm_zip_kind check_kind(lua_State *L, int index, const char *dflt)
{
  const char *name = luaL_optstring(L, index, dflt);
  enum tm_zip_kind kind = TM_ZIP_AUTO;
  if (!tm_zip_kind_parse(name, &kind))
    luaL_argerror(L, index, lua_pushfstring(L, "no codec '%s' (gzip, zstd, auto)", name));
  return kind;
}

/* compress(string, codec [, opts]) -> string */
static int zip_compress(lua_State *L)
{
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  enum tm_zip_kind kind = check_kind(L, 2, "gzip");
  struct tm_zip_opts opts = read_opts(L, 3, kind);
  struct work *w = new_work(L);
  struct tm_error err;
  w->zipper = tm_zipper_new(&opts, &err);
  if (w->zipper == NULL || !tm_zipper_begin(w->zipper, len, &err) ||
      !tm_zipper_add(w->zipper, bytes, len, &w->out, &err) ||
      !tm_zipper_end(w->zipper, &w->out, &err))
    return tm_lua_raise(L, &err);
  lua_pushlstring(L, w->out.data, w->out.len);
  return 1;
}

enum { OUT_BYTES = 64 * 1024 };

static bool expand(struct work *w, const char *in, size_t len, size_t limit,
                   struct tm_error *err)
{
  for (;;) {
    if (!tm_buffer_reserve(&w->out, OUT_BYTES)) {
      tm_error_set(err, TM_EMEMORY, "out of memory");
      return false;
    }
    ptrdiff_t n =
        tm_unzipper_run(w->unzipper, &in, &len, w->out.data + w->out.len, OUT_BYTES, err);
    if (n < 0)
      return false;
    w->out.len += (size_t)n;
    if (w->out.len > limit) {
      tm_error_set(err, TM_EDATA, "the data expands to more than %zu bytes", limit);
      return false;
    }
    if (n < OUT_BYTES && len == 0)
      return true;
  }
}

/* decompress(string [, codec [, opts]]) -> string; opts.limit: most bytes of the result */
static int zip_decompress(lua_State *L)
{
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  enum tm_zip_kind kind = check_kind(L, 2, "auto");
  struct tm_zip_opts opts = read_opts(L, 3, kind);
  lua_Integer limit = opt_integer(L, 3, "limit", 1, (lua_Integer)1 << 40);
  struct work *w = new_work(L);
  struct tm_error err;
  w->unzipper = tm_unzipper_new(&opts, &err);
  size_t most = limit > 0 ? (size_t)limit : (size_t)64 * 1024 * 1024;
  if (w->unzipper == NULL || (len > 0 && !expand(w, bytes, len, most, &err)) ||
      !expand(w, "", 0, most, &err) || !tm_unzipper_end(w->unzipper, &err))
    return tm_lua_raise(L, &err);
  lua_pushlstring(L, w->out.data, w->out.len);
  return 1;
}

static const luaL_Reg module[] = {{"auto", zip_auto},
                                  {"compress", zip_compress},
                                  {"decompress", zip_decompress},
                                  {"gunzip", zip_gunzip},
                                  {"gzip", zip_gzip},
                                  {"unzstd", zip_unzstd},
                                  {"zstd", zip_zstd},
                                  {NULL, NULL}};

int luaopen_zip(lua_State *L)
{
  luaL_newlib(L, module);
  return 1;
}
