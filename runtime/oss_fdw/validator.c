/*
** validator.c: options as they are given: CREATE and ALTER of servers, mappings and tables
**
** Sees the merged options of one object and nothing else, and never asks the network, for it
** also runs when a dump is restored. What needs two objects (a bucket on the server or on the
** table, a mapping beside a server) is checked when a table is used.
*/
#include "postgres.h"

#include "access/reloptions.h"
#include "commands/copy.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "oss/address.h"
#include "oss_fdw/optdef.h"
#include "oss_fdw/options.h"
#include "oss_fdw/server.h"
#include "oss_fdw/wait.h"

PGDLLEXPORT Datum oss_fdw_validator(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(oss_fdw_validator);

static void conflict(const char *message, const char *hint)
{
  ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("%s", message),
                  hint != NULL ? errhint("%s", hint) : 0));
}

static void exclude(List *options, const char *a, const char *b)
{
  (void)fdw_option_either(options, a, b);
}

/* ---- servers and mappings ---- */

/* ApsaraDB RDS keeps id and key encrypted in this shape (reference, "Secrets"). */
static void check_plain(List *options, const char *name)
{
  const char *value = fdw_option(options, name);
  if (value != NULL && strncmp(value, "MD5", 3) == 0 && strlen(value) % 8 == 3)
    conflict(psprintf("the value of option \"%s\" is encrypted", name),
             "It comes from a dump of ApsaraDB RDS, which alone can read it. Give the "
             "plain one.");
}

/* True: id and key are given; false: neither is. */
static bool check_keys(List *options)
{
  bool id = fdw_option(options, "id") != NULL, key = fdw_option(options, "key") != NULL;
  if (id != key)
    conflict(psprintf("option \"%s\" is missing", id ? "key" : "id"),
             "An access key needs both its \"id\" and its \"key\".");
  check_plain(options, "id");
  check_plain(options, "key");
  return id;
}

static void check_privileged(List *options)
{
  const char *name = fdw_option_of_host(options);
  if (name != NULL && !fdw_may_read_files(GetUserId()))
    ereport(ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
             errmsg("permission denied to set option \"%s\"", name),
             errdetail("Only superusers and members of the role \"pg_read_server_files\" "
                       "may use what lies on the server's host.")));
}

static void check_bucket(List *options)
{
  struct tm_oss_opts opts = {.endpoint = "localhost"};
  struct tm_cred_settings none = {0};
  struct tm_address address;
  struct tm_error err;
  const char *bucket = fdw_option(options, "bucket");
  if (bucket != NULL &&
      !tm_address_resolve(TM_OSS_OSS, bucket, &opts, &none, &address, &err))
    conflict(fdw_text(err.message), NULL);
}

/* Whoever writes user:password@ is not shown it again. */
static void bad_endpoint(const char *name, const char *value)
{
  ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                  strchr(value, '@') != NULL
                      ? errmsg("invalid value for option \"%s\"", name)
                      : errmsg("invalid value for option \"%s\": \"%s\"", name, value),
                  errdetail("It takes host[:port] or http(s)://host[:port].")));
}

/* The endpoint and what is told of it, whatever the bucket. */
static void check_address(List *options)
{
  bool rds = fdw_option(options, "host") != NULL;
  const char *host = fdw_option(options, rds ? "host" : "endpoint");
  bool s3 = fdw_server_is_s3(options, host);
  struct tm_oss_opts opts = {.endpoint = host,
                             .region = fdw_option(options, "region"),
                             .addressing = fdw_option_lower(options, "addressing")};
  struct tm_cred_settings none = {0};
  struct tm_address address;
  struct tm_error err;
  if (!tm_address_resolve(s3 ? TM_OSS_S3 : TM_OSS_OSS, "bucket", &opts, &none, &address,
                          &err)) {
    if (strstr(err.message, "bad endpoint") != NULL)
      bad_endpoint(rds ? "host" : "endpoint", host);
    conflict(fdw_text(err.message), strstr(err.message, "cannot carry a bucket") != NULL
                                        ? "Use addressing 'path'."
                                        : NULL);
  }
  const char *signature = fdw_option_lower(options, "signature");
  if (s3 && signature != NULL && strcmp(signature, "v1") == 0)
    conflict("signature 'v1' is for protocol 'oss' only", NULL);
}

static void check_server(List *options)
{
  bool host = fdw_option(options, "host") != NULL;
  if (host == (fdw_option(options, "endpoint") != NULL))
    conflict(host ? "options \"host\" and \"endpoint\" exclude each other"
                  : "a server needs the option \"host\" or \"endpoint\"",
             "\"host\" makes it a server as of ApsaraDB RDS, \"endpoint\" one as of "
             "AnalyticDB for PostgreSQL.");
  exclude(options, "oss_connect_timeout", "connect_timeout");
  exclude(options, "oss_dns_cache_timeout", "dns_cache_timeout");
  exclude(options, "oss_speed_limit", "speed_limit");
  exclude(options, "oss_speed_time", "speed_time");
  exclude(options, "profile", "role_name");
  bool keys = check_keys(options);
  const char *other = keys ? "id" : NULL;
  if (other != NULL) {
    exclude(options, other, "profile");
    exclude(options, other, "role_name");
  }
  if (fdw_option_bool(options, "anonymous", false)) {
    exclude(options, "anonymous", "id");
    exclude(options, "anonymous", "profile");
    exclude(options, "anonymous", "role_name");
  }
  check_bucket(options);
  check_address(options);
  check_privileged(options);
  if (keys)
    ereport(
        WARNING,
        (errmsg("the access key of an oss_fdw server can be read by every user"),
         errhint("Keep \"id\" and \"key\" in a user mapping: CREATE USER MAPPING FOR "
                 "PUBLIC SERVER ... OPTIONS (id ..., key ...); or let the library, in "
                 "session_preload_libraries, put them there.")));
}

static void check_mapping(List *options)
{
  if (!check_keys(options))
    conflict("a user mapping needs the options \"id\" and \"key\"", NULL);
}

/* ---- tables ---- */

static void check_locator(List *options)
{
  static const char *const names[] = {"dir", "prefix", "filepath"};
  const char *found = NULL;
  for (size_t i = 0; i < lengthof(names); i++) {
    if (fdw_option(options, names[i]) == NULL)
      continue;
    if (found != NULL)
      exclude(options, found, names[i]);
    found = names[i];
  }
  if (found == NULL)
    conflict("a foreign table needs one of the options \"dir\", \"prefix\", \"filepath\"",
             NULL);
  const char *value = fdw_option(options, found);
  size_t n = strlen(value);
  if (pg_strncasecmp(value, "oss://", 6) == 0 || pg_strncasecmp(value, "s3://", 5) == 0)
    conflict(psprintf("invalid value for option \"%s\": \"%s\"", found, value),
             "It is what keys begin with; the bucket has an option of its own.");
  if (strcmp(found, "dir") == 0) {
    if (value[n - 1] != '/')
      ereport(ERROR,
              (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
               errmsg("invalid value for option \"dir\": \"%s\"", value),
               errdetail("It must end in '/'."),
               errhint("Use \"%s/\"; for keys that begin so, the option \"prefix\".",
                       value)));
  } else if (strcmp(value, "/") == 0) {
    conflict(psprintf("invalid value for option \"%s\": \"/\"", found),
             "For all objects of the bucket's root use dir '/'.");
  } else if (strcmp(found, "filepath") == 0 && value[n - 1] == '/') {
    conflict(psprintf("invalid value for option \"filepath\": \"%s\"", value),
             "A key that ends in '/' is a folder: use the option \"dir\".");
  }
}

static void check_compression(List *options)
{
  const char *type = fdw_option_lower(options, "compressiontype");
  const char *file = fdw_option_lower(options, "filetype");
  if (file != NULL && strcmp(file, "snappy") == 0)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("filetype 'snappy' is not supported"),
                    errhint("Supported are plain, gzip and zstd.")));
  if (file != NULL && strcmp(file, "plain") == 0)
    file = "none";
  if (type != NULL && file != NULL && strcmp(type, file) != 0)
    conflict("options \"compressiontype\" and \"filetype\" say different things",
             "One of them is enough.");
  exclude(options, "compressionlevel", "gzip_level");
  if (fdw_option(options, "gzip_level") != NULL && strcmp(file != NULL   ? file
                                                          : type != NULL ? type
                                                                         : "none",
                                                          "gzip") != 0)
    conflict("option \"gzip_level\" needs filetype 'gzip'", NULL);
}

static void check_sizes(List *options)
{
  exclude(options, "oss_file_max_size", "fragment_size");
  int block = fdw_option_int(options, "oss_flush_block_size", 0);
  const char *size = fdw_option_either(options, "oss_file_max_size", "fragment_size");
  int most = size == NULL ? INT_MAX : fdw_option_int(options, size, INT_MAX);
  if (block > most)
    conflict(psprintf("option \"oss_flush_block_size\" (%d) is larger than \"%s\" (%d)",
                      block, size, most),
             "Both are in MB.");
}

static void check_tolerance(List *options)
{
  const char *limit = fdw_option(options, "segment_reject_limit");
  int64 n;
  bool percent;
  exclude(options, "parse_errors", "segment_reject_limit");
  if (limit != NULL && !fdw_option_reject(limit, &n, &percent))
    ereport(ERROR,
            (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
             errmsg("invalid value for option \"segment_reject_limit\": \"%s\"", limit),
             errdetail(
                 "It takes a number of rows from 1, or a share from '1%%' to '100%%'.")));
}

static void check_format(List *options)
{
  const char *format = fdw_option_lower(options, "format");
  bool csv = format == NULL || strcmp(format, "csv") == 0;
  if (!csv && strcmp(format, "text") != 0)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("format '%s' is not supported", format),
                    errhint("Supported are csv and text.")));
  if (fdw_option(options, "orc_stripe_size") != NULL)
    conflict("option \"orc_stripe_size\" needs format 'orc', which is not supported",
             NULL);
  if (!csv && fdw_option_bool(options, "force_quote_all", false))
    conflict("option \"force_quote_all\" needs format 'csv'", NULL);
  const char *delimiter = fdw_option(options, "delimiter");
  if (delimiter != NULL && strcmp(delimiter, "\\t") == 0)
    conflict("invalid value for option \"delimiter\": \"\\t\"",
             "Write a tab as E'\\t', which is one character.");
  /* The rest is COPY's to judge. */
  ProcessCopyOptions(NULL, NULL, true, fdw_copy_options(options));
}

/* ---- */

Datum oss_fdw_validator(PG_FUNCTION_ARGS)
{
  List *options = untransformRelOptions(PG_GETARG_DATUM(0));
  enum fdw_place place = fdw_place_of(PG_GETARG_OID(1));
  fdw_options_check(options, place);
  switch (place) {
  case FDW_ON_SERVER:
    check_server(options);
    break;
  case FDW_ON_MAPPING:
    check_mapping(options);
    break;
  case FDW_ON_TABLE:
    check_locator(options);
    check_bucket(options);
    check_compression(options);
    check_sizes(options);
    check_tolerance(options);
    check_format(options);
    break;
  case FDW_ON_WRAPPER:
  case FDW_ON_COLUMN:
    break;
  }
  PG_RETURN_VOID();
}
