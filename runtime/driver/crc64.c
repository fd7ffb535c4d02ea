/*
** crc64.c: CRC-64/XZ, by ISA-L where it has fast code, else by slicing-by-8 tables
**
** The tables are constants. The CRC is linear over xor, so the entry of a byte is the xor
** of the entries of its bits; the eight bits of each of the eight slices are all that is
** written down, and the compiler makes the 2,048 entries of them.
*/
#include "driver/crc64.h"

#if defined(__x86_64__) || defined(__aarch64__)
#include <isa-l/crc64.h>
#endif

#define POLY UINT64_C(0xC96C5795D7870F42) /* 0x42F0E1EBA9EA3693, bits reversed */

#define BIT(i, b, v) ((i) >> (b)&1 ? UINT64_C(v) : 0)
#define XOR8(i, a, b, c, d, e, f, g, h)                                                  \
  (BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d) ^ BIT(i, 4, e) ^            \
   BIT(i, 5, f) ^ BIT(i, 6, g) ^ BIT(i, 7, h))

#define S0(i)                                                                            \
  XOR8(i, 0xB32E4CBE03A75F6F, 0xF4843657A840A05B, 0x7BD0C384FF8F5E33,                    \
       0xF7A18709FF1EBC66, 0x7D9BA13851336649, 0xFB374270A266CC92, 0x64B62BCAEBC387A1,   \
       0xC96C5795D7870F42)
#define S1(i)                                                                            \
  XOR8(i, 0x54E979925CD0F10D, 0xA9D2F324B9A1E21A, 0xC17D4962DC4DDAB1,                    \
       0x10223DEE1795ABE7, 0x20447BDC2F2B57CE, 0x4088F7B85E56AF9C, 0x8111EF70BCAD5F38,   \
       0x90FB71CAD654A0F5)
#define S2(i)                                                                            \
  XOR8(i, 0x3F0BE14A916A6DCB, 0x7E17C29522D4DB96, 0xFC2F852A45A9B72C,                    \
       0x6A87A57F245D70DD, 0xD50F4AFE48BAE1BA, 0x38C63AD73E7BDDF1, 0x718C75AE7CF7BBE2,   \
       0xE318EB5CF9EF77C4)
#define S3(i)                                                                            \
  XOR8(i, 0x1DEE8A5E222CA1DC, 0x3BDD14BC445943B8, 0x77BA297888B28770,                    \
       0xEF7452F111650EE0, 0x4C300AC98DC40345, 0x986015931B88068A, 0xA218840D981E1391,   \
       0xD6E9A7309F3239A7)
#define S4(i)                                                                            \
  XOR8(i, 0x5C2D776033C4205E, 0xB85AEEC0678840BC, 0xE26D72AB601E9FFD,                    \
       0x56024A7D6F33217F, 0xAC0494FADE6642FE, 0xCAD186DE13C29B79, 0x077BA297888B2877,   \
       0x0EF7452F111650EE)
#define S5(i)                                                                            \
  XOR8(i, 0x6184D55F721267C6, 0xC309AABEE424CF8C, 0x14CBFA566747819D,                    \
       0x2997F4ACCE8F033A, 0x532FE9599D1E0674, 0xA65FD2B33A3C0CE8, 0xDE670A4DDB760755,   \
       0x2E16BBB019E2102F)
#define S6(i)                                                                            \
  XOR8(i, 0x22EF0D5934F964EC, 0x45DE1AB269F2C9D8, 0x8BBC3564D3E593B0,                    \
       0x85A0C5E208C539E5, 0x999924EFBE846D4F, 0xA1EAE6F4D206C41B, 0xD10D62C20B0396B3,   \
       0x30C26AAFB90933E3)
#define S7(i)                                                                            \
  XOR8(i, 0xDABE95AFC7875F40, 0x27A584742000A005, 0x4F4B08E84001400A,                    \
       0x9E9611D080028014, 0xAFF48C8AAF0B1EAD, 0xCD31B63EF11823DF, 0x08BBC3564D3E593B,   \
       0x117786AC9A7CB276)

#define ROW4(s, i) s(i), s((i) + 1), s((i) + 2), s((i) + 3)
#define ROW16(s, i) ROW4(s, i), ROW4(s, (i) + 4), ROW4(s, (i) + 8), ROW4(s, (i) + 12)
#define ROW64(s, i)                                                                      \
  ROW16(s, i), ROW16(s, (i) + 16), ROW16(s, (i) + 32), ROW16(s, (i) + 48)
#define TABLE(s)                                                                         \
  {                                                                                      \
    ROW64(s, 0), ROW64(s, 64), ROW64(s, 128), ROW64(s, 192)                              \
  }

static const uint64_t table[8][256] = {TABLE(S0), TABLE(S1), TABLE(S2), TABLE(S3),
                                       TABLE(S4), TABLE(S5), TABLE(S6), TABLE(S7)};

static uint64_t little_endian(const unsigned char *p)
{
  uint64_t v = 0;
  for (int i = 7; i >= 0; i--)
    v = v << 8 | p[i];
  return v;
}

uint64_t tm_crc64_table(uint64_t crc, const void *bytes, size_t n)
{
  const unsigned char *p = bytes;
  crc = ~crc;
  for (; n >= 8; p += 8, n -= 8) {
    crc ^= little_endian(p);
    uint64_t next = 0;
    for (int i = 0; i < 8; i++)
      next ^= table[7 - i][crc >> (8 * i) & 255];
    crc = next;
  }
  for (; n > 0; n--)
    crc = crc >> 8 ^ table[0][(crc ^ *p++) & 255];
  return ~crc;
}

uint64_t tm_crc64(uint64_t crc, const void *bytes, size_t n)
{
#if defined(__x86_64__) || defined(__aarch64__)
  return crc64_ecma_refl(crc, bytes, n);
#else
  return tm_crc64_table(crc, bytes, n);
#endif
}

/* The product of two polynomials modulo POLY; bit 63 is x^0, as in the CRC itself. */
static uint64_t multiply(uint64_t a, uint64_t b)
{
  uint64_t product = 0;
  for (; a != 0; a <<= 1) {
    if (a >> 63 != 0)
      product ^= b;
    b = b >> 1 ^ (b & 1 ? POLY : 0);
  }
  return product;
}

/*
** Appending n bytes multiplies the first CRC by x^(8n). The initial value and the final
** xor, both all ones, cancel out, so nothing else remains.
*/
uint64_t tm_crc64_combine(uint64_t a, uint64_t b, uint64_t b_bytes)
{
  uint64_t shift = UINT64_C(1) << 63;  /* x^0 */
  uint64_t square = UINT64_C(1) << 55; /* x^8, then x^16, x^32 ... */
  for (; b_bytes != 0; b_bytes >>= 1) {
    if (b_bytes & 1)
      shift = multiply(shift, square);
    square = multiply(square, square);
  }
  return multiply(shift, a) ^ b;
}
