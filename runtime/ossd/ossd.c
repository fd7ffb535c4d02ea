/*
** ossd.c: the command `tidemill ossd`: options, start, stop
*/
#include "ossd/ossd.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "ossd/server.h"

static const char help[] =
    "usage: tidemill ossd --root DIR [OPTION...]\n"
    "\n"
    "a local object store that speaks OSS and S3, for development and demos only\n"
    "\n"
    "It is not for production: no TLS, no users, no replication.\n"
    "Signatures OSS V1, OSS V4 and AWS V4 are verified. The first line printed is\n"
    "\"ossd listening on http://ADDRESS:PORT\".\n"
    "\n"
    "  --root DIR           where buckets are kept; made when it is not there\n"
    "  --listen ADDR:PORT   IPv4 address (default 127.0.0.1:9100); port 0 takes a free "
    "one\n"
    "  --key ID:SECRET[:TOKEN]  who may sign; with TOKEN, a temporary key that must "
    "send\n"
    "                       it; may be repeated. Default: the keys in OSSD_KEYS (the "
    "same\n"
    "                       form, separated by blanks), else one that is printed at "
    "start.\n"
    "                       Keys on the command line show in the process list\n"
    "  --bucket NAME        make this bucket at start; may be repeated\n"
    "  --region NAME        V4 signatures must name it, as in cn-hangzhou (default: "
    "any)\n"
    "  --host-suffix NAME   hosts BUCKET.NAME name a bucket; may be repeated (default\n"
    "                       localhost), as do the vendors' own BUCKET.oss-REGION.\n"
    "                       aliyuncs.com and BUCKET.s3.REGION.amazonaws.com\n"
    "  --anonymous-read     GET and HEAD need no signature\n"
    "  --max-skew SECONDS   clocks may be so far apart (default 900)\n"
    "  --min-part BYTES     smallest part but the last (default 102400 OSS, 5242880 S3)\n"
    "  --connections N      at most (default 512)\n"
    "  --no-fsync           answer before data is safe on disk; for benchmarks\n"
    "  --fast-etag          etags from CRC-64 instead of MD5; for benchmarks\n"
    "  --verbose            a line for each request on standard error\n"
    "  --fault KIND=N       fail on purpose, may be repeated; on every N-th occasion:\n"
    "      503              answer 503\n"
    "      cut, slow, corrupt   a GET's body ends half-way, trickles, has a wrong byte\n"
    "      cut-put          the connection ends while an upload is read\n"
    "      drop-put         an upload is stored but not answered\n"
    "      crc              x-oss-hash-crc64ecma is wrong\n"
    "      complete-error   CompleteMultipartUpload answers 200 with an <Error>\n"
    "      complete-drop    CompleteMultipartUpload is done but not answered\n"
    "      stall, late      an object's put or CompleteMultipartUpload is begun, or\n"
    "                       answered, three seconds late\n"
    "      expired-token    the security token has expired\n"
    "    and without counting:\n"
    "      page=N           lists have at most N entries a page\n"
    "      skew=SECONDS     the server's clock is ahead by this\n";

enum { LIST_MOST = 64 };

struct list {
  const char *items[LIST_MOST + 1]; /* NULL-ended */
  size_t count;
};

struct options {
  const char *root, *region;
  char address[64];
  unsigned port, connections;
  struct list keys, buckets, suffixes;
  int64_t max_skew, min_part;
  bool anonymous_read, no_fsync, fast_etag, verbose;
  struct tm_ossd_faults faults;
};

enum {
  ROOT = 256,
  LISTEN,
  KEY,
  BUCKET,
  REGION,
  SUFFIX,
  ANONYMOUS,
  SKEW,
  MIN_PART,
  CONNECTIONS,
  NO_FSYNC,
  FAST_ETAG,
  FAULT,
  VERBOSE,
  HELP
};

static const struct option long_options[] = {
    {"root", required_argument, NULL, ROOT},
    {"listen", required_argument, NULL, LISTEN},
    {"key", required_argument, NULL, KEY},
    {"bucket", required_argument, NULL, BUCKET},
    {"region", required_argument, NULL, REGION},
    {"host-suffix", required_argument, NULL, SUFFIX},
    {"anonymous-read", no_argument, NULL, ANONYMOUS},
    {"max-skew", required_argument, NULL, SKEW},
    {"min-part", required_argument, NULL, MIN_PART},
    {"connections", required_argument, NULL, CONNECTIONS},
    {"no-fsync", no_argument, NULL, NO_FSYNC},
    {"fast-etag", no_argument, NULL, FAST_ETAG},
    {"fault", required_argument, NULL, FAULT},
    {"verbose", no_argument, NULL, VERBOSE},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0}};

static bool add(struct list *list, const char *item, struct tm_error *err)
{
  if (list->count == LIST_MOST) {
    tm_error_set(err, TM_EUSAGE, "an option is repeated more than %d times", LIST_MOST);
    return false;
  }
  list->items[list->count++] = item;
  return true;
}

static bool read_number(const char *option, int64_t least, int64_t most, int64_t *value,
                        struct tm_error *err)
{
  char *end;
  *value = strtoll(optarg, &end, 10);
  if (*optarg != '\0' && *end == '\0' && *value >= least && *value <= most)
    return true;
  tm_error_set(err, TM_EUSAGE, "%s must be a number from %lld to %lld, not '%s'", option,
               (long long)least, (long long)most, optarg);
  return false;
}

static bool read_listen(struct options *o, struct tm_error *err)
{
  const char *colon = strrchr(optarg, ':');
  char *end = NULL;
  unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, &end, 10);
  if (colon == NULL || colon[1] < '0' || colon[1] > '9' || *end != '\0' || port > 65535 ||
      (size_t)(colon - optarg) >= sizeof o->address) {
    tm_error_set(err, TM_EUSAGE, "--listen must be ADDRESS:PORT, not '%s'", optarg);
    return false;
  }
  snprintf(o->address, sizeof o->address, "%.*s", (int)(colon - optarg), optarg);
  o->port = (unsigned)port;
  return true;
}

static bool read_option(int option, struct options *o, struct tm_error *err)
{
  int64_t number;
  switch (option) {
  case ROOT:
    o->root = optarg;
    return true;
  case LISTEN:
    return read_listen(o, err);
  case KEY:
    return add(&o->keys, optarg, err);
  case BUCKET:
    if (!tm_ossd_is_bucket_name(optarg)) {
      tm_error_set(err, TM_EUSAGE, "not a bucket name: '%s'", optarg);
      return false;
    }
    return add(&o->buckets, optarg, err);
  case REGION:
    o->region = strncmp(optarg, "oss-", 4) == 0 ? optarg + 4 : optarg;
    return true;
  case SUFFIX:
    return add(&o->suffixes, optarg, err);
  case ANONYMOUS:
    return o->anonymous_read = true;
  case SKEW:
    return read_number("--max-skew", 0, 1000000000, &o->max_skew, err);
  case MIN_PART:
    return read_number("--min-part", 0, INT64_C(5) << 30, &o->min_part, err);
  case CONNECTIONS:
    if (!read_number("--connections", 1, 10000, &number, err))
      return false;
    o->connections = (unsigned)number;
    return true;
  case NO_FSYNC:
    return o->no_fsync = true;
  case FAST_ETAG:
    return o->fast_etag = true;
  case FAULT:
    return tm_ossd_fault_parse(&o->faults, optarg, err);
  case VERBOSE:
    return o->verbose = true;
  default:
    tm_error_set(err, TM_EUSAGE, "unknown or incomplete option");
    tm_error_hint(err, "tidemill ossd --help");
    return false;
  }
}

/* False also for --help, with err->kind TM_OK. */
static bool read_options(int argc, char **argv, struct options *o, struct tm_error *err)
{
  optind = 1;
  opterr = 0;
  for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
    if (option == HELP) {
      err->kind = TM_OK;
      return false;
    }
    if (!read_option(option, o, err))
      return false;
  }
  if (optind < argc) {
    tm_error_set(err, TM_EUSAGE, "unknown argument '%s'", argv[optind]);
    return false;
  }
  if (o->root == NULL) {
    tm_error_set(err, TM_EUSAGE, "--root is missing");
    tm_error_hint(err, "tidemill ossd --root DIR");
    return false;
  }
  return true;
}

/* The keys of the environment, whose value is cut up in `copy`. */
static bool environment_keys(struct options *o, char **copy, struct tm_error *err)
{
  const char *text = getenv("OSSD_KEYS");
  if (text == NULL || o->keys.count > 0)
    return true;
  *copy = strdup(text);
  char *rest = NULL;
  for (char *item = *copy == NULL ? NULL : strtok_r(*copy, " \t\n,", &rest); item != NULL;
       item = strtok_r(NULL, " \t\n,", &rest))
    if (!add(&o->keys, item, err))
      return false;
  return true;
}

/* Splits "ID:SECRET[:TOKEN]" into copies. */
static bool split_key(const char *text, struct tm_ossd_key *key, struct tm_error *err)
{
  char *copy = strdup(text);
  char *secret = copy == NULL ? NULL : strchr(copy, ':');
  if (secret == NULL || secret == copy || secret[1] == '\0') {
    free(copy);
    tm_error_set(err, TM_EUSAGE, "a key must be ID:SECRET or ID:SECRET:TOKEN");
    return false;
  }
  *secret++ = '\0';
  char *token = strchr(secret, ':');
  if (token != NULL)
    *token++ = '\0';
  *key = (struct tm_ossd_key){copy, secret, token};
  return true;
}

static bool make_buckets(struct tm_ossd_store *store, const struct options *o,
                         struct tm_error *err)
{
  for (size_t i = 0; i < o->buckets.count; i++) {
    enum tm_ossd_result result = tm_ossd_bucket_create(store, o->buckets.items[i], err);
    if (result == TM_OSSD_FULL)
      tm_error_set(err, TM_EUSAGE, "too many buckets");
    if (result != TM_OSSD_OK && result != TM_OSSD_EXISTS)
      return false;
  }
  return true;
}

/* Each connection may hold some dozens of parts open. */
static void allow_many_files(void)
{
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
}

static bool serve(struct options *o, struct tm_ossd *ossd, bool invented,
                  struct tm_error *err)
{
  ossd->store = tm_ossd_store_open(o->root, !o->no_fsync, err);
  if (ossd->store == NULL || !make_buckets(ossd->store, o, err))
    return false;
  struct tm_ossd_server *server =
      tm_ossd_server_start(ossd, o->address, o->port, o->connections, err);
  if (server == NULL)
    return false;
  printf("ossd listening on http://%s:%u\n", o->address, tm_ossd_server_port(server));
  if (invented)
    printf("access key id %s, secret %s\n", ossd->policy.keys[0].id,
           ossd->policy.keys[0].secret);
  fflush(stdout);
  while (tm_clock_sleep(3600000, NULL, err)) {
  }
  tm_ossd_server_stop(server);
  return true;
}

static bool run(struct options *o, struct tm_ossd_key *keys, struct tm_error *err)
{
  bool invented = o->keys.count == 0;
  if (invented && !add(&o->keys, "tidemill-dev:tidemill-dev-secret", err))
    return false;
  if (o->suffixes.count == 0 && !add(&o->suffixes, "localhost", err))
    return false;
  size_t key_count = 0;
  for (; key_count < o->keys.count; key_count++)
    if (!split_key(o->keys.items[key_count], &keys[key_count], err))
      return false;
  struct tm_ossd ossd = {.policy = {.keys = keys,
                                    .key_count = key_count,
                                    .region = o->region,
                                    .max_skew = o->max_skew,
                                    .anonymous_read = o->anonymous_read},
                         .faults = &o->faults,
                         .suffixes = o->suffixes.items,
                         .region = o->region == NULL ? "us-east-1" : o->region,
                         .least_part = o->min_part,
                         .fast_etag = o->fast_etag,
                         .verbose = o->verbose};
  bool ok = serve(o, &ossd, invented, err);
  tm_ossd_store_close(ossd.store);
  return ok;
}

int tm_ossd_main(int argc, char **argv)
{
  struct tm_error err = {.kind = TM_OK};
  char *environment = NULL;
  struct options *o = calloc(1, sizeof *o);
  struct tm_ossd_key *keys = calloc(LIST_MOST, sizeof *keys);
  bool ok = o != NULL && keys != NULL;
  if (ok) {
    snprintf(o->address, sizeof o->address, "127.0.0.1");
    o->port = 9100;
    o->connections = 512;
    o->max_skew = 900;
    o->min_part = -1;
    allow_many_files();
    ok = read_options(argc, argv, o, &err) && environment_keys(o, &environment, &err) &&
         run(o, keys, &err);
  } else {
    tm_error_set(&err, TM_EMEMORY, "out of memory");
  }
  for (size_t i = 0; keys != NULL && i < LIST_MOST; i++)
    free((char *)keys[i].id); /* secret and token are in the same copy */
  free(keys);
  free(o);
  free(environment);
  if (ok)
    return 0;
  if (err.kind == TM_OK) {
    fputs(help, stdout);
    return 0;
  }
  fprintf(stderr, "tidemill ossd: %s\n", err.message);
  if (err.hint[0] != '\0')
    fprintf(stderr, "hint: %s\n", err.hint);
  return tm_kind_exit_code(err.kind);
}
