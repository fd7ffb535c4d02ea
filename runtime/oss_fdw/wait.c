/*
** wait.c: how the backend waits for threads, and how their errors become PostgreSQL's
**
** A task's thread tells its end through an eventfd that the backend waits for together with
** its latch. Whatever is raised meanwhile, FATAL included (which no PG_CATCH sees), first
** cancels the task and joins the thread: hence PG_ENSURE_ERROR_CLEANUP around the wait.
*/
#include "postgres.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#endif

#include "base/clock.h"
#include "base/thread.h"
#include "oss_fdw/wait.h"

enum { TASK_FDS = 2 }; /* the two eventfds of a run */

/* ---- errors ---- */

static const int sqlstates[] = {
    [TM_OK] = ERRCODE_INTERNAL_ERROR,
    [TM_EMEMORY] = ERRCODE_OUT_OF_MEMORY,
    [TM_EUSAGE] = ERRCODE_FDW_ERROR,
    [TM_ECONNECT] = ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION,
    [TM_EAUTH] = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
    [TM_ENOTFOUND] = ERRCODE_UNDEFINED_FILE,
    [TM_EEXISTS] = ERRCODE_DUPLICATE_FILE,
    [TM_ECONFLICT] = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
    [TM_EIO] = ERRCODE_CONNECTION_FAILURE,
    [TM_ETHROTTLED] = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
    [TM_ESERVER] = ERRCODE_SYSTEM_ERROR,
    [TM_EPROTOCOL] = ERRCODE_PROTOCOL_VIOLATION,
    [TM_EDATA] = ERRCODE_BAD_COPY_FILE_FORMAT,
    [TM_EINTEGRITY] = ERRCODE_DATA_CORRUPTED,
    [TM_ESQL] = ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
    [TM_ETIMEOUT] = ERRCODE_CONNECTION_FAILURE,
    [TM_ECANCELED] = ERRCODE_QUERY_CANCELED,
    [TM_EINDOUBT] = ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN,
    [TM_ESYSTEM] = ERRCODE_IO_ERROR,
};

int fdw_sqlstate(const struct tm_error *err)
{
  return (size_t)err->kind < lengthof(sqlstates) ? sqlstates[err->kind]
                                                 : ERRCODE_INTERNAL_ERROR;
}

/* In the database's encoding, or NULL: it has no such characters, or this is no time to ask. */
static char *converted(const char *text)
{
#if PG_VERSION_NUM >= 140000
  if (IsTransactionState()) {
    int n = (int)strlen(text), size = n * MAX_CONVERSION_GROWTH + 1;
    Oid proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
    unsigned char *out = palloc(size);
    if (OidIsValid(proc) &&
        pg_do_encoding_conversion_buf(proc, PG_UTF8, GetDatabaseEncoding(),
                                      (unsigned char *)unconstify(char *, text), n, out,
                                      size, true) == n)
      return (char *)out;
  }
#endif
  (void)text;
  return NULL;
}

char *fdw_text(const char *text)
{
  bool utf8 = GetDatabaseEncoding() == PG_UTF8;
  if (GetDatabaseEncoding() == PG_SQL_ASCII)
    return pstrdup(text);
  char *out = utf8 ? NULL : converted(text);
  if (out != NULL)
    return out;
  out = pstrdup(text);
  size_t left = strlen(out);
  for (unsigned char *p = (unsigned char *)out; left > 0;) {
    size_t n = *p < 0x80 || !utf8 ? 1 : (size_t)pg_utf_mblen(p);
    if (*p >= 0x80 && (!utf8 || n > left || !pg_utf8_islegal(p, (int)n))) {
      *p = '?';
      n = 1;
    }
    p += n;
    left -= n;
  }
  return out;
}

/* A hint or detail of the library ("check the region") as PostgreSQL writes them. */
static char *sentence(const char *text)
{
  char *out = psprintf("%s%s", fdw_text(text),
                       strchr(".?!", text[strlen(text) - 1]) != NULL ? "" : ".");
  out[0] = (char)pg_toupper((unsigned char)out[0]);
  return out;
}

/* What the store said: the library's message without "cannot put oss://bucket/key: ". */
static const char *words_of(const char *message)
{
  const char *name = strstr(message, "://"), *end = NULL;
  if (name != NULL)
    end = strstr(name, ": ");
  return end != NULL ? end + 2 : message;
}

/* The answer of the store as the vendor's extension words it, and the library's own detail;
** NULL: there is neither. */
static char *detail_of(const struct tm_error *err)
{
  char *own = err->detail[0] != '\0' ? sentence(err->detail) : NULL;
  if (err->status == 0)
    return own;
  return psprintf("oss server returned error: StatusCode=%d, ErrorCode=%s, "
                  "ErrorMessage=\"%s\", RequestId=%s%s%s",
                  err->status, fdw_text(err->code), fdw_text(words_of(err->message)),
                  fdw_text(err->request_id), own != NULL ? "\n" : "",
                  own != NULL ? own : "");
}

/* NULL: there is none. The library tells of its own options where SQL has others. */
static const char *hint_of(const struct tm_error *err)
{
  if (strcmp(err->code, "no-key") == 0)
    return "CREATE USER MAPPING FOR ... SERVER ... OPTIONS (id ..., key ...), or give "
           "the "
           "server profile, role_name or anonymous.";
  return err->hint[0] != '\0' ? sentence(err->hint) : NULL;
}

void fdw_raise(const struct tm_error *err)
{
  if (err->kind == TM_ECANCELED)
    CHECK_FOR_INTERRUPTS();
  char *message = fdw_text(err->message);
  char *detail = detail_of(err);
  const char *hint = hint_of(err);
  ereport(ERROR, (errcode(fdw_sqlstate(err)), errmsg("%s", message),
                  detail != NULL ? errdetail("%s", detail) : 0,
                  hint != NULL ? errhint("%s", hint) : 0));
  pg_unreachable();
}

void fdw_warn(const struct tm_error *err, const char *what)
{
  char *message = fdw_text(err->message);
  char *detail = detail_of(err);
  const char *hint = hint_of(err);
  ereport(WARNING,
          (errcode(fdw_sqlstate(err)),
           what != NULL ? errmsg("%s: %s", what, message) : errmsg("%s", message),
           detail != NULL ? errdetail("%s", detail) : 0,
           hint != NULL ? errhint("%s", hint) : 0));
}

/* ---- waiting ---- */

static uint32 wait_event(void)
{
#if PG_VERSION_NUM >= 170000
  static uint32 event = 0; /* the same for the life of the server */
  if (event == 0)
    event = WaitEventExtensionNew("OssFdwTransfer");
  return event;
#else
  return PG_WAIT_EXTENSION;
#endif
}

/* True: fd is readable. False: the latch was set (and is reset), or the time is over. */
static bool wait_once(int fd, int timeout_ms)
{
  int events = WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH |
               (timeout_ms >= 0 ? WL_TIMEOUT : 0);
  int got = WaitLatchOrSocket(MyLatch, events, fd, timeout_ms, wait_event());
  if (got & WL_LATCH_SET)
    ResetLatch(MyLatch);
  return (got & WL_SOCKET_READABLE) != 0;
}

void fdw_wait(int fd)
{
  wait_once(fd, -1);
  CHECK_FOR_INTERRUPTS();
}

/* ---- tasks ---- */

struct run {
  fdw_task *task;
  void *data;
  int64_t deadline;
  struct tm_cancel cancel;
  int done; /* eventfd; written once, by the thread, as the last thing it does */
  pthread_t thread;
  bool running; /* to be joined */
  bool late;    /* cancelled by the deadline */
  bool ok;
  struct tm_error err;
};

static void *run_main(void *arg)
{
  struct run *r = arg;
  r->ok = r->task(r->data, &r->cancel, &r->err);
  uint64_t one = 1;
  if (write(r->done, &one, sizeof one) < 0)
    abort(); /* an eventfd that holds 0 takes a 1 */
  return NULL;
}

/* Joins, and closes the descriptors; twice is fine. */
static void run_end(struct run *r)
{
  if (r->running)
    pthread_join(r->thread, NULL);
  r->running = false;
  if (r->done < 0)
    return;
  close(r->done);
  r->done = -1;
  tm_cancel_close(&r->cancel);
  for (int i = 0; i < TASK_FDS; i++)
    ReleaseExternalFD();
}

static void run_break(int code, Datum arg)
{
  struct run *r = (struct run *)DatumGetPointer(arg);
  (void)code;
  tm_cancel_fire(&r->cancel);
  run_end(r);
}

static bool run_start(struct run *r, struct tm_error *err)
{
  r->done = -1;
  if (!tm_cancel_open(&r->cancel, err))
    return false;
  r->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int code = errno;
  if (r->done < 0) {
    tm_cancel_close(&r->cancel);
    tm_error_errno(err, TM_ESYSTEM, code, "cannot make an eventfd");
    return false;
  }
  for (int i = 0; i < TASK_FDS; i++)
    ReserveExternalFD();
  code = tm_thread_start(&r->thread, run_main, r);
  if (code != 0) {
    run_end(r);
    tm_error_errno(err, TM_ESYSTEM, code, "cannot start a thread");
    return false;
  }
  r->running = true;
  return true;
}

static void run_wait(struct run *r)
{
  PG_ENSURE_ERROR_CLEANUP(run_break, PointerGetDatum(r));
  {
    CHECK_FOR_INTERRUPTS(); /* one whose latch somebody else has reset */
    while (!wait_once(r->done, r->late ? -1 : (int)tm_clock_left(r->deadline))) {
      CHECK_FOR_INTERRUPTS();
      if (!r->late && tm_clock_left(r->deadline) == 0) {
        r->late = true;
        tm_cancel_fire(&r->cancel);
      }
    }
  }
  PG_END_ENSURE_ERROR_CLEANUP(run_break, PointerGetDatum(r));
}

bool fdw_run_for(fdw_task *task, void *data, int timeout_ms, struct tm_error *err)
{
  struct run r = {.task = task, .data = data, .deadline = tm_clock_deadline(timeout_ms)};
  if (!run_start(&r, err))
    return false;
  run_wait(&r);
  run_end(&r);
  if (r.ok)
    return true;
  *err = r.err;
  if (r.late && err->kind == TM_ECANCELED) {
    tm_error_set(err, TM_ETIMEOUT, "given up after %d s", timeout_ms / 1000);
  }
  return false;
}

bool fdw_run(fdw_task *task, void *data, struct tm_error *err)
{
  return fdw_run_for(task, data, -1, err);
}

/* ---- owning ---- */

void fdw_own(MemoryContext cxt, void (*release)(void *), void *arg)
{
  MemoryContextCallback *callback = MemoryContextAllocExtended(
      cxt, sizeof *callback, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
  if (callback == NULL) {
    release(arg);
    ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
  }
  callback->func = release;
  callback->arg = arg;
  MemoryContextRegisterResetCallback(cxt, callback);
}
