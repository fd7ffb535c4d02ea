/*
** deal.h: a sink that deals slabs over a number of objects, which grow evenly
**
** For readers that take whole objects side by side, so that none has more to do than
** another. All objects are there at finish, those without rows too; every one is written
** from the first slab to the end, so memory is shared by all of them. An abort leaves none.
*/
#ifndef TM_OSS_DEAL_H
#define TM_OSS_DEAL_H

#include "oss/objects.h"

enum { TM_OSS_DEAL_MOST = 256 };

struct tm_oss_deal_opts { /* NULL and zero mean the default */
  const char *prefix;     /* key = prefix + number + suffix; required */
  const char *suffix;     /* "" */
  int digits;             /* 5; numbers count from 1 */
  size_t count;           /* of objects, 1 to TM_OSS_DEAL_MOST */
  const void *preamble;   /* put at the start of each object: a header line */
  size_t preamble_bytes;
  int64_t preamble_raw_bytes; /* what it was before compression; 0: preamble_bytes */
  bool overwrite;             /* default: create only, TM_EEXISTS on an existing key */
  struct tm_oss_writer_opts writer; /* of each object */
};

/* As tm_oss_writer_open. */
struct tm_sink *tm_oss_deal_open(struct tm_oss *store,
                                 const struct tm_oss_deal_opts *opts,
                                 struct tm_error *err);

/*
** One more sink to the same objects, for another stream; made before any of them ends. There
** may be as many as objects. Each is written in a thread of its own; the objects are
** completed by the finish of the last one, and are removed if one of them is aborted or
** closed without its finish: the others' writes then fail with TM_ECANCELED. NULL with *err:
** TM_EMEMORY, TM_EUSAGE.
*/
struct tm_sink *tm_oss_deal_another(struct tm_sink *deal, struct tm_error *err);

/* The object at `index`, from 0, once that sink's finish was the one that completed them;
** false before, when there are no more, and of another kind of sink. The key lives as long as
** the sink. */
bool tm_oss_deal_get(struct tm_sink *deal, size_t index, struct tm_oss_object *object);

/* As tm_oss_objects_remove, of the sink that completed them; nothing for others. */
void tm_oss_deal_remove(struct tm_sink *deal);

#endif
