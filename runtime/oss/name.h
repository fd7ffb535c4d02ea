/*
** name.h: names of objects from which one can tell who wrote them, and in which transaction
**
** An object of a PostgreSQL transaction is named as Alibaba Cloud's two dialects name theirs,
** and the number that is arbitrary there says here: 15 digits for the database cluster, 3 for
** the statement in its transaction, then the transaction's 64-bit id. Nothing here knows
** PostgreSQL; what becomes of a transaction is asked elsewhere.
**
**   ADBPG  <head>_<YYYYMMDDHH24MISS>_<number>_seg-1_<file>.<csv|txt>[.gz|.zst]
**   RDS    <head>_<microseconds since 2000>_<number>[.<file>]           (no ending for file 0)
*/
#ifndef TM_OSS_NAME_H
#define TM_OSS_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define TM_OSS_NAME_CLUSTERS UINT64_C(1000000000000000) /* 10^15 */
#define TM_OSS_NAME_STATEMENTS 1000u

struct tm_oss_name {
  bool rds;
  uint64_t cluster;   /* below TM_OSS_NAME_CLUSTERS */
  unsigned statement; /* below TM_OSS_NAME_STATEMENTS */
  uint64_t xid;       /* 64 bits, with the epoch; at least 3 */
  uint64_t file;      /* number of the object in its statement, from 0 */
  size_t head;        /* bytes of the key before "_<time>" */
};

/*
** Reads a key. False, *name undefined, unless the key ends exactly in one of the two forms:
** every number within its type and without leading zeros, but for those of fixed width. The
** head may be anything, even empty. Any bytes may come; nothing is allocated.
*/
bool tm_oss_name_parse(const char *key, struct tm_oss_name *name) TM_MUSTCHECK;

/* The number in the middle, and a NUL, into out: at most 39 characters. */
#define TM_OSS_NAME_NUMBER 40
void tm_oss_name_number(uint64_t cluster, unsigned statement, uint64_t xid,
                        char out[TM_OSS_NAME_NUMBER]);

/* What all objects of one statement share. Made by the caller; both strings outlive it. */
struct tm_oss_name_base {
  bool rds;
  const char *stem;   /* all up to and with the number */
  const char *ending; /* ADBPG: ".csv", ".txt.gz", ...; RDS: ignored */
};

/* The key of the statement's object `file`, the caller's to free; NULL: out of memory. */
char *tm_oss_name_object(const struct tm_oss_name_base *base, size_t file);

/* A number below TM_OSS_NAME_CLUSTERS for what is given: equal for equal arguments, and for
** others almost surely not. False: as tm_digest. */
bool tm_oss_name_cluster(uint64_t system_identifier, uint32_t timeline, const char *host,
                         const char *directory, uint64_t *cluster) TM_MUSTCHECK;

#endif
