/*
** chain.c: a source made of sources, given one after another while the stream runs
**
** A list under one mutex. `current` is set and cleared by the reading thread under the lock,
** read by it without, and cancelled by any thread under the lock: so it is never cancelled
** after it was closed. It is closed, and its end counted, before the lock is taken to look for
** the next: whoever sees hunger sees it closed. Nothing is closed while the lock is held.
*/
#include "stream/chain.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct link {
  struct link *next;
  struct tm_source *source;
};

struct tm_chain {
  struct tm_source source; /* the thread side */
  int fd;
  struct tm_source *current; /* being read */

  pthread_mutex_t lock; /* guards what follows, and current as said above */
  pthread_cond_t changed;
  struct link *first, **last; /* given, not begun */
  struct tm_chain_stats stats;
  bool hungry;      /* the eventfd is full exactly when this is true */
  bool ended;       /* no more will be given */
  bool drained;     /* the end was read */
  bool failed;      /* `error` is why */
  bool owner_open;  /* tm_chain_free has not been called */
  bool thread_open; /* the source was handed out and is not closed */
  struct tm_error error;
};

struct tm_chain *tm_chain_new(struct tm_error *err)
{
  struct tm_chain *ch = calloc(1, sizeof *ch);
  if (ch == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory for a chain of sources");
    return NULL;
  }
  ch->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
  if (ch->fd < 0) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot make an eventfd");
    free(ch);
    return NULL;
  }
  ch->last = &ch->first;
  ch->hungry = ch->owner_open = true;
  pthread_mutex_init(&ch->lock, NULL);
  pthread_cond_init(&ch->changed, NULL);
  return ch;
}

/* ---- with the lock held ---- */

static void set_hungry(struct tm_chain *ch, bool hungry)
{
  eventfd_t value;
  if (ch->hungry == hungry)
    return;
  ch->hungry = hungry;
  if (hungry)
    eventfd_write(ch->fd, 1);
  else
    eventfd_read(ch->fd, &value);
}

/* What was given and not begun; the caller closes it without the lock. */
static struct link *take_all(struct tm_chain *ch)
{
  struct link *list = ch->first;
  ch->first = NULL;
  ch->last = &ch->first;
  return list;
}

static struct link *set_failed(struct tm_chain *ch, const struct tm_error *why)
{
  if (ch->failed || ch->drained)
    return NULL;
  ch->failed = true;
  ch->error = *why;
  set_hungry(ch, false);
  if (ch->current != NULL && ch->current->ops->cancel != NULL)
    ch->current->ops->cancel(ch->current);
  pthread_cond_broadcast(&ch->changed);
  return take_all(ch);
}

/* ---- both sides ---- */

static void close_list(struct link *list)
{
  while (list != NULL) {
    struct link *next = list->next;
    tm_source_close(list->source);
    free(list);
    list = next;
  }
}

void tm_chain_fail(struct tm_chain *ch, const struct tm_error *why)
{
  pthread_mutex_lock(&ch->lock);
  struct link *list = set_failed(ch, why);
  pthread_mutex_unlock(&ch->lock);
  close_list(list);
}

/* Frees the chain once neither side uses it any more; unlocks. */
static void unref(struct tm_chain *ch)
{
  bool last = !ch->owner_open && !ch->thread_open;
  struct link *list = last ? take_all(ch) : NULL;
  pthread_mutex_unlock(&ch->lock);
  if (!last)
    return;
  close_list(list);
  close(ch->fd);
  pthread_mutex_destroy(&ch->lock);
  pthread_cond_destroy(&ch->changed);
  free(ch);
}

void tm_chain_free(struct tm_chain *ch)
{
  struct tm_error err;
  if (ch == NULL)
    return;
  tm_error_set(&err, TM_ECANCELED, "nobody gives the chain its sources any more");
  pthread_mutex_lock(&ch->lock);
  struct link *list = ch->ended ? NULL : set_failed(ch, &err);
  ch->owner_open = false;
  unref(ch);
  close_list(list);
}

/* ---- the thread side ---- */

static struct tm_chain *of_source(struct tm_source *self)
{
  return (struct tm_chain *)self; /* its first member */
}

/* Waits until there is something to read: 1: current is set; 0: the end; -1: *err set. */
static int begin(struct tm_chain *ch, struct tm_error *err)
{
  int got = 0;
  pthread_mutex_lock(&ch->lock);
  while (!ch->failed && !ch->ended && ch->first == NULL) {
    set_hungry(ch, true);
    pthread_cond_wait(&ch->changed, &ch->lock);
  }
  struct link *link = ch->failed ? NULL : ch->first;
  if (ch->failed) {
    *err = ch->error;
    got = -1;
  } else if (link != NULL) {
    ch->first = link->next;
    if (ch->first == NULL)
      ch->last = &ch->first;
    ch->current = link->source;
    got = 1;
  } else {
    ch->drained = true;
  }
  pthread_mutex_unlock(&ch->lock);
  free(link);
  return got;
}

/* Closes current, of which `sources` (0 or 1) are counted as read to the end. */
static void end_current(struct tm_chain *ch, unsigned sources)
{
  pthread_mutex_lock(&ch->lock);
  struct tm_source *source = ch->current;
  ch->current = NULL;
  ch->stats.sources += sources;
  pthread_mutex_unlock(&ch->lock);
  tm_source_close(source);
}

/* What a read gave, counted; or the chain's failure, whichever of them came first. */
static int settle(struct tm_chain *ch, int got, struct tm_slab **slab,
                  struct tm_error *err)
{
  struct link *list = NULL;
  pthread_mutex_lock(&ch->lock);
  if (got < 0)
    list = set_failed(ch, err);
  bool failed = ch->failed;
  if (failed) {
    *err = ch->error;
  } else if (got > 0) {
    ch->stats.rows += (*slab)->rows;
    ch->stats.bytes += (*slab)->len;
  }
  pthread_mutex_unlock(&ch->lock);
  close_list(list);
  if (!failed)
    return got;
  if (got > 0)
    tm_slab_free(*slab);
  *slab = NULL;
  return -1;
}

static int chain_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  struct tm_chain *ch = of_source(self);
  for (;;) {
    if (ch->current == NULL) {
      int begun = begin(ch, err);
      if (begun <= 0)
        return begun;
    }
    int got = settle(ch, ch->current->ops->read(ch->current, out, err), out, err);
    if (got > 0)
      return got;
    end_current(ch, got == 0);
    if (got < 0)
      return got;
  }
}

static void chain_cancel(struct tm_source *self)
{
  struct tm_error err;
  tm_error_set(&err, TM_ECANCELED, "cancelled");
  tm_chain_fail(of_source(self), &err);
}

static void chain_close(struct tm_source *self)
{
  struct tm_chain *ch = of_source(self);
  struct tm_error err;
  tm_error_set(&err, TM_ECANCELED, "closed before the end");
  tm_chain_fail(ch, &err);
  if (ch->current != NULL)
    end_current(ch, 0);
  pthread_mutex_lock(&ch->lock);
  ch->thread_open = false;
  unref(ch);
}

struct tm_source *tm_chain_source(struct tm_chain *ch)
{
  static const struct tm_source_ops ops = {
      .name = "chain", .read = chain_read, .cancel = chain_cancel, .close = chain_close};
  ch->source.ops = &ops;
  ch->thread_open = true;
  return &ch->source;
}

/* ---- the owner's side ---- */

int tm_chain_fd(const struct tm_chain *ch)
{
  return ch->fd;
}

bool tm_chain_hungry(struct tm_chain *ch)
{
  pthread_mutex_lock(&ch->lock);
  bool hungry = ch->hungry;
  pthread_mutex_unlock(&ch->lock);
  return hungry;
}

/* Takes the link, or says in *err why not. The lock is held. */
static bool append(struct tm_chain *ch, struct link *link, struct tm_error *err)
{
  if (ch->failed) {
    *err = ch->error;
    return false;
  }
  if (ch->ended) {
    tm_error_set(err, TM_EUSAGE, "the chain has been ended: it takes no more sources");
    return false;
  }
  *ch->last = link;
  ch->last = &link->next;
  set_hungry(ch, false);
  pthread_cond_signal(&ch->changed);
  return true;
}

bool tm_chain_give(struct tm_chain *ch, struct tm_source *source, struct tm_error *err)
{
  struct link *link = calloc(1, sizeof *link);
  if (link == NULL) {
    tm_source_close(source);
    tm_error_set(err, TM_EMEMORY, "out of memory for one more source of a chain");
    return false;
  }
  link->source = source;
  pthread_mutex_lock(&ch->lock);
  bool ok = append(ch, link, err);
  pthread_mutex_unlock(&ch->lock);
  if (!ok)
    close_list(link);
  return ok;
}

void tm_chain_end(struct tm_chain *ch)
{
  pthread_mutex_lock(&ch->lock);
  ch->ended = true;
  set_hungry(ch, false);
  pthread_cond_broadcast(&ch->changed);
  pthread_mutex_unlock(&ch->lock);
}

void tm_chain_stats(struct tm_chain *ch, struct tm_chain_stats *stats)
{
  pthread_mutex_lock(&ch->lock);
  *stats = ch->stats;
  pthread_mutex_unlock(&ch->lock);
}
