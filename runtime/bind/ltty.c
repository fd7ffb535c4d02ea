/*
** ltty.c: the internal Lua module "tidemill.tty": is it a terminal, how wide is this text
**
** Widths are those of wcwidth in C.UTF-8, whatever the process's locale; a control character or a
** byte that is not UTF-8 counts as one column and `cut` puts a question mark in its place,
** so that no text can move the cursor.
*/
#include "bind/ltty.h"

#include <lauxlib.h>
#include <locale.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

static int tty_is(lua_State *L)
{
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

static int tty_size(lua_State *L)
{
  struct winsize size;
  if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return 0;
  lua_pushinteger(L, size.ws_col);
  lua_pushinteger(L, size.ws_row);
  return 2;
}

struct piece {
  size_t len; /* bytes */
  int width;
  bool bad;
};

/* The next character; the thread's locale is UTF-8. */
static struct piece next_piece(const char *s, size_t left)
{
  wchar_t c;
  mbstate_t state = {0};
  size_t n = mbrtowc(&c, s, left, &state);
  int width = n > left || n == 0 ? -1 : wcwidth(c);
  if (width < 0)
    return (struct piece){n > left || n == 0 ? 1 : n, 1, true};
  return (struct piece){n, width, false};
}

/* Measures, and when `out` is given copies, what fits into `columns`. */
static int measure(const char *s, size_t len, int columns, luaL_Buffer *out)
{
  locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  locale_t before = utf8 != (locale_t)0 ? uselocale(utf8) : (locale_t)0;
  int width = 0;
  for (size_t i = 0; i < len;) {
    struct piece p = next_piece(s + i, len - i);
    if (width + p.width > columns)
      break;
    width += p.width;
    if (out != NULL) { /* its buffer is large enough: nothing here raises */
      if (p.bad)
        luaL_addchar(out, '?');
      else
        luaL_addlstring(out, s + i, p.len);
    }
    i += p.len;
  }
  if (utf8 != (locale_t)0) {
    uselocale(before);
    freelocale(utf8);
  }
  return width;
}

static int tty_width(lua_State *L)
{
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  lua_pushinteger(L, measure(s, len, INT32_MAX, NULL));
  return 1;
}

static int tty_cut(lua_State *L)
{
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  lua_Integer columns = luaL_checkinteger(L, 2);
  luaL_argcheck(L, columns >= 0 && columns < 100000, 2, "0 to 99999 columns");
  luaL_Buffer out;
  luaL_buffinitsize(L, &out, len + 1);
  int width = measure(s, len, (int)columns, &out);
  luaL_pushresult(&out);
  lua_pushinteger(L, width);
  return 2;
}

static const luaL_Reg module[] = {{"is", tty_is},
                                  {"size", tty_size},
                                  {"width", tty_width},
                                  {"cut", tty_cut},
                                  {NULL, NULL}};

int luaopen_tidemill_tty(lua_State *L)
{
  luaL_newlib(L, module);
  return 1;
}
