/*
** feed.h: the bytes of a list of objects, decompressed, several objects ahead
**
** While one object is read the next ones are on their way, as many as fit into
** oss_fdw.prefetch. All transfers are in threads; a call waits on the latch. Each request
** is pinned to the etag of the listing, so an object that was replaced is an error.
*/
#ifndef FDW_FEED_H
#define FDW_FEED_H

#include "postgres.h"

#include "oss_fdw/match.h"

struct fdw_feed;

/*
** Starts nothing yet. The feed lives in a child of `cxt`, whose end (an error's too) stops
** every transfer. `t`, `store` and `objects` must outlive it.
*/
struct fdw_feed *fdw_feed_open(MemoryContext cxt, const struct fdw_table *t,
                               struct fdw_store *store,
                               const struct fdw_objects *objects);

/* Goes to the next object (the first, at first), leaving what is unread of this one. False:
** there is none. *object is one of the list's. */
bool fdw_feed_next_object(struct fdw_feed *feed, const struct fdw_object **object);

/*
** As COPY's data source: 1 to `max` bytes of this object, 0 at its end, which comes only
** after all of it was found right. `min` is as good as 1. Raises errors of the store
** and of decompression, naming the object, and interrupts.
*/
int fdw_feed_read(struct fdw_feed *feed, void *buf, int min, int max);

/* Bytes of objects, as stored, that came from the store for objects begun so far. */
int64 fdw_feed_bytes(const struct fdw_feed *feed);

/* Stops all transfers and frees the feed; NULL is fine. */
void fdw_feed_close(struct fdw_feed *feed);

#endif
