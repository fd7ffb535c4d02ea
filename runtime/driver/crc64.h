/*
** crc64.h: CRC-64/XZ, the x-oss-hash-crc64ecma of Alibaba Cloud OSS
**
** Polynomial 0x42F0E1EBA9EA3693, reflected, initial value and final xor all ones; of
** "123456789" it is 0x995dc9bbdf1939fa, of nothing 0. Vectors: tests/vectors/crc64.json.
*/
#ifndef TM_DRIVER_CRC64_H
#define TM_DRIVER_CRC64_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc` (0 at the start) over n further bytes. */
uint64_t tm_crc64(uint64_t crc, const void *bytes, size_t n);

/* The same by tables alone; what tm_crc64 is on machines without fast code. */
uint64_t tm_crc64_table(uint64_t crc, const void *bytes, size_t n);

/* The CRC of A followed by B, from the CRC of each and the length of B; O(log length). */
uint64_t tm_crc64_combine(uint64_t a, uint64_t b, uint64_t b_bytes);

#endif
