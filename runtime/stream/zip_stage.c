/*
** zip_stage.c: compression and decompression as stages of a stream
**
** The compressing stage keeps a ring of jobs. Its own thread fills the job at `tail` with
** whole slabs, hands it to the workers, and emits jobs from `head` on, in order, as soon as
** they are done; when the ring is full it waits for the one at head. A job belongs to the
** stage while FILLING, to one worker while READY to DONE, and then to the stage again.
*/
#include "stream/zip_stage.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"

enum {
  CHUNK_BYTES = 1024 * 1024,
  WORKERS = 2,
  WORKERS_MAX = 64,
};

enum job_state { FILLING, READY, WORKING, DONE };

struct job {
  enum job_state state; /* guarded by the stage's lock */
  struct tm_slab **slabs;
  size_t count, cap;
  uint64_t bytes, rows;
  struct tm_slab *out; /* once DONE, unless failed */
  struct tm_error error;
};

struct zip_stage {
  struct tm_stage base;
  struct tm_zip_stage_opts opts;
  struct job *ring;
  size_t size, head, tail,
      next; /* head: oldest; next: first that no worker has; tail: filling.
                                    all count up, modulo size */
  bool emitted;

  pthread_mutex_t lock; /* guards the states, next, tail, stop, cancelled */
  pthread_cond_t work, done;
  bool stop, cancelled;
  pthread_t threads[WORKERS_MAX];
  size_t thread_count;
};

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static struct job *job_at(struct zip_stage *z, size_t i)
{
  return &z->ring[i % z->size];
}

static void drop_input(struct job *job)
{
  for (size_t i = 0; i < job->count; i++)
    tm_slab_free(job->slabs[i]);
  job->count = 0;
}

/* ---- in a worker ---- */

/* One member of all the job's slabs, as a slab. */
static struct tm_slab *compress(struct tm_zipper *zipper, struct job *job)
{
  struct tm_buffer out = {0};
  struct tm_slab *slab = tm_slab_new(1, &job->error);
  bool ok = slab != NULL && tm_zipper_begin(zipper, job->bytes, &job->error);
  for (size_t i = 0; ok && i < job->count; i++) {
    ok =
        tm_zipper_add(zipper, job->slabs[i]->data, job->slabs[i]->len, &out, &job->error);
    tm_slab_free(job->slabs[i]);
    job->slabs[i] = NULL;
  }
  if (!ok || !tm_zipper_end(zipper, &out, &job->error)) {
    tm_buffer_free(&out);
    tm_slab_free(slab);
    return NULL;
  }
  free(slab->data);
  slab->data = out.data;
  slab->len = out.len;
  slab->cap = out.cap;
  slab->rows = job->rows;
  slab->raw_bytes = job->bytes;
  return slab;
}

/* The next job, or NULL when the stage stops. */
static struct job *take_job(struct zip_stage *z)
{
  struct job *job = NULL;
  pthread_mutex_lock(&z->lock);
  while (!z->stop && z->next == z->tail)
    pthread_cond_wait(&z->work, &z->lock);
  if (!z->stop) {
    job = job_at(z, z->next++);
    job->state = WORKING;
  }
  pthread_mutex_unlock(&z->lock);
  return job;
}

static void *work(void *arg)
{
  struct zip_stage *z = arg;
  struct tm_error error = {0};
  struct tm_zipper *zipper = tm_zipper_new(&z->opts.zip, &error);
  struct job *job;
  while ((job = take_job(z)) != NULL) {
    job->error = error;
    job->out = zipper != NULL ? compress(zipper, job) : NULL;
    drop_input(job);
    pthread_mutex_lock(&z->lock);
    job->state = DONE;
    pthread_cond_signal(&z->done);
    pthread_mutex_unlock(&z->lock);
  }
  tm_zipper_free(zipper);
  return NULL;
}

/* ---- in the stage's thread ---- */

/* Starts one more worker while jobs wait for one and there may be more. */
static bool start_worker(struct zip_stage *z, struct tm_error *err)
{
  if (z->thread_count == (size_t)z->opts.workers)
    return true;
  int rc = tm_thread_start(&z->threads[z->thread_count], work, z);
  if (rc == 0)
    z->thread_count++;
  else if (z->thread_count == 0)
    tm_error_errno(err, TM_ESYSTEM, rc, "cannot start a thread");
  return z->thread_count > 0;
}

/* Emits the job at head; with `wait` false only if it is done. 1 emitted, 0 not, -1 error. */
static int emit_head(struct zip_stage *z, bool wait, struct tm_emit *out,
                     struct tm_error *err)
{
  struct job *job = job_at(z, z->head);
  pthread_mutex_lock(&z->lock);
  while (wait && !z->cancelled && job->state != DONE)
    pthread_cond_wait(&z->done, &z->lock);
  bool cancelled = z->cancelled, done = job->state == DONE;
  pthread_mutex_unlock(&z->lock);
  if (cancelled) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return -1;
  }
  if (!done)
    return 0;
  struct tm_slab *slab = job->out;
  job->out = NULL;
  job->state = FILLING;
  z->head++;
  if (slab == NULL) {
    *err = job->error;
    return -1;
  }
  z->emitted = true;
  return tm_emit(out, slab, err) ? 1 : -1;
}

/* Hands the job at tail to the workers and emits what is ready. */
static bool submit(struct zip_stage *z, struct tm_emit *out, struct tm_error *err)
{
  pthread_mutex_lock(&z->lock);
  job_at(z, z->tail)->state = READY;
  z->tail++;
  pthread_cond_signal(&z->work);
  pthread_mutex_unlock(&z->lock);
  if (!start_worker(z, err))
    return false;
  int got = 1;
  while (got > 0 && z->head < z->tail) /* the job at tail must be free: wait for it */
    got = emit_head(z, z->tail - z->head == z->size, out, err);
  if (got < 0)
    return false;
  struct job *job = job_at(z, z->tail);
  job->bytes = job->rows = 0;
  return true;
}

static bool add_slab(struct job *job, struct tm_slab *slab, struct tm_error *err)
{
  if (job->count == job->cap) {
    size_t cap = job->cap == 0 ? 16 : job->cap * 2;
    struct tm_slab **slabs = realloc(job->slabs, cap * sizeof *slabs);
    if (slabs == NULL) {
      tm_slab_free(slab);
      return no_memory(err);
    }
    job->slabs = slabs;
    job->cap = cap;
  }
  job->slabs[job->count++] = slab;
  job->bytes += slab->len;
  job->rows += slab->rows;
  return true;
}

static bool finish(struct zip_stage *z, struct tm_emit *out, struct tm_error *err)
{
  bool anything = z->emitted || z->head < z->tail;
  if ((job_at(z, z->tail)->count > 0 || !anything) && !submit(z, out, err))
    return false;
  while (z->head < z->tail)
    if (emit_head(z, true, out, err) < 0)
      return false;
  return true;
}

static bool zip_push(struct tm_stage *self, struct tm_slab *in, struct tm_emit *out,
                     struct tm_error *err)
{
  struct zip_stage *z = (struct zip_stage *)self;
  if (in == NULL)
    return finish(z, out, err);
  struct job *job = job_at(z, z->tail);
  if (!add_slab(job, in, err))
    return false;
  return job->bytes < z->opts.chunk_bytes || submit(z, out, err);
}

static void zip_cancel(struct tm_stage *self)
{
  struct zip_stage *z = (struct zip_stage *)self;
  pthread_mutex_lock(&z->lock);
  z->cancelled = true;
  pthread_cond_broadcast(&z->done);
  pthread_mutex_unlock(&z->lock);
}

static void zip_close(struct tm_stage *self)
{
  struct zip_stage *z = (struct zip_stage *)self;
  pthread_mutex_lock(&z->lock);
  z->stop = true;
  pthread_cond_broadcast(&z->work);
  pthread_mutex_unlock(&z->lock);
  for (size_t i = 0; i < z->thread_count; i++)
    pthread_join(z->threads[i], NULL);
  for (size_t i = 0; i < z->size; i++) {
    drop_input(&z->ring[i]);
    free(z->ring[i].slabs);
    tm_slab_free(z->ring[i].out);
  }
  free(z->ring);
  pthread_mutex_destroy(&z->lock);
  pthread_cond_destroy(&z->work);
  pthread_cond_destroy(&z->done);
  free(z);
}

static const struct tm_stage_ops zip_ops = {
    .name = "compress", .push = zip_push, .cancel = zip_cancel, .close = zip_close};

static int worker_count(int asked)
{
  if (asked > 0)
    return asked < WORKERS_MAX ? asked : WORKERS_MAX;
  return sysconf(_SC_NPROCESSORS_ONLN) == 1 ? 1 : WORKERS;
}

struct tm_stage *tm_zip_stage_new(const struct tm_zip_stage_opts *opts,
                                  struct tm_error *err)
{
  struct tm_zipper *probe = tm_zipper_new(&opts->zip, err); /* are the options sound? */
  if (probe == NULL)
    return NULL;
  tm_zipper_free(probe);
  struct zip_stage *z = calloc(1, sizeof *z);
  if (z == NULL) {
    no_memory(err);
    return NULL;
  }
  z->base.ops = &zip_ops;
  z->opts = *opts;
  z->opts.workers = worker_count(opts->workers);
  if (z->opts.chunk_bytes == 0)
    z->opts.chunk_bytes = CHUNK_BYTES;
  pthread_mutex_init(&z->lock, NULL);
  pthread_cond_init(&z->work, NULL);
  pthread_cond_init(&z->done, NULL);
  size_t size = 2 * (size_t)z->opts.workers + 1;
  z->ring = calloc(size, sizeof *z->ring);
  if (z->ring == NULL) {
    no_memory(err);
    zip_close(&z->base);
    return NULL;
  }
  z->size = size;
  return &z->base;
}

/* ---- decompressing ---- */

struct unzip_stage {
  struct tm_stage base;
  struct tm_unzipper *unzipper;
};

/* Reads all of `in` and emits what it expands to, in slabs of TM_SLAB_BYTES at most. */
static bool expand(struct unzip_stage *u, const char *in, size_t len, struct tm_emit *out,
                   struct tm_error *err)
{
  for (;;) {
    struct tm_slab *slab = tm_slab_new(TM_SLAB_BYTES, err);
    if (slab == NULL)
      return false;
    ptrdiff_t n = tm_unzipper_run(u->unzipper, &in, &len, slab->data, slab->cap, err);
    if (n <= 0) {
      tm_slab_free(slab);
      return n == 0;
    }
    bool full = (size_t)n == slab->cap;
    slab->len = slab->raw_bytes = (size_t)n;
    if (!tm_emit(out, slab, err))
      return false;
    if (!full && len == 0)
      return true;
  }
}

static bool unzip_push(struct tm_stage *self, struct tm_slab *in, struct tm_emit *out,
                       struct tm_error *err)
{
  struct unzip_stage *u = (struct unzip_stage *)self;
  if (in == NULL)
    return expand(u, "", 0, out, err) && tm_unzipper_end(u->unzipper, err);
  bool ok = in->len == 0 || expand(u, in->data, in->len, out, err);
  tm_slab_free(in);
  return ok;
}

static void unzip_close(struct tm_stage *self)
{
  tm_unzipper_free(((struct unzip_stage *)self)->unzipper);
  free(self);
}

static const struct tm_stage_ops unzip_ops = {
    .name = "decompress", .push = unzip_push, .close = unzip_close};

struct tm_stage *tm_unzip_stage_new(const struct tm_zip_opts *opts, struct tm_error *err)
{
  struct unzip_stage *u = calloc(1, sizeof *u);
  if (u == NULL) {
    no_memory(err);
    return NULL;
  }
  u->base.ops = &unzip_ops;
  u->unzipper = tm_unzipper_new(opts, err);
  if (u->unzipper == NULL) {
    free(u);
    return NULL;
  }
  return &u->base;
}
