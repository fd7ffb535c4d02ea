/*
** address.c: which host and path a bucket and key have
**
** Host names that carry a region (both vendors' public ones) give it away; any other needs
** the region from the options, or the default of S3.
*/
#include "oss/address.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oss/encode.h"

static bool given(const char *s)
{
  return s != NULL && s[0] != '\0';
}

static const char *first_env(const char *a, const char *b)
{
  const char *v = getenv(a);
  return given(v) || b == NULL ? v : getenv(b);
}

static bool ends_with(const char *s, const char *end)
{
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcmp(s + n - m, end) == 0;
}

/* The host name alone, without the port. */
static void name_of(const char *host, char *out, size_t size)
{
  const char *end = host[0] == '[' ? strchr(host, ']') : NULL;
  size_t n = end != NULL ? (size_t)(end - host) + 1 : strcspn(host, ":");
  snprintf(out, size, "%.*s", (int)n, host);
}

static bool is_address(const char *name) /* IPv4, [IPv6], localhost */
{
  return name[0] == '[' || strcmp(name, "localhost") == 0 ||
         strspn(name, "0123456789.") == strlen(name);
}

static void copy_region(char *out, const char *from, size_t n)
{
  if (n < TM_REGION_SIZE) {
    memcpy(out, from, n);
    out[n] = '\0';
  }
}

/* "oss-cn-x[-internal].aliyuncs.com", "s3.oss-cn-x...", "cn-x.oss.aliyuncs.com" */
static void region_of_oss(const char *name, char *out)
{
  if (!ends_with(name, ".aliyuncs.com"))
    return;
  if (strncmp(name, "s3.", 3) == 0)
    name += 3;
  size_t n = strcspn(name, ".");
  if (strncmp(name, "oss-", 4) == 0) {
    name += 4;
    n -= 4;
    if (n > 9 && strncmp(name + n - 9, "-internal", 9) == 0)
      n -= 9;
    if (strncmp(name, "accelerate", 10) != 0)
      copy_region(out, name, n);
  } else if (strncmp(name + n, ".oss.", 5) == 0) {
    copy_region(out, name, n);
  }
}

/* "s3.REGION.amazonaws.com[.cn]", "s3-REGION...", "s3.dualstack.REGION...". */
static void region_of_s3(const char *name, char *out)
{
  if (!ends_with(name, ".amazonaws.com") && !ends_with(name, ".amazonaws.com.cn"))
    return;
  if (strncmp(name, "s3.dualstack.", 13) == 0)
    name += 13;
  else if (strncmp(name, "s3.", 3) == 0 || strncmp(name, "s3-", 3) == 0)
    name += 3;
  else
    return;
  size_t n = strcspn(name, ".");
  if (strncmp(name, "amazonaws", 9) == 0)
    copy_region(out, "us-east-1", 9);
  else if (strncmp(name, "accelerate", 10) != 0)
    copy_region(out, name, n);
}

static bool set_endpoint(struct tm_address *a, const char *endpoint, struct tm_error *err)
{
  const char *p = endpoint;
  a->tls = true;
  if (strncmp(p, "https://", 8) == 0) {
    p += 8;
  } else if (strncmp(p, "http://", 7) == 0) {
    p += 7;
    a->tls = false;
  }
  size_t n = strcspn(p, "/");
  if (n == 0 || n >= TM_HOST_SIZE || strspn(p + n, "/") != strlen(p + n) ||
      strcspn(p, "@?# \t\r\n") < n || strstr(p, "://") != NULL) {
    tm_error_set(err, TM_EUSAGE,
                 "bad endpoint: give host[:port] or http(s)://host[:port]");
    return false;
  }
  for (size_t i = 0; i < n; i++)
    a->host[i] = (char)tolower((unsigned char)p[i]);
  a->host[n] = '\0';
  const char *port = a->tls ? ":443" : ":80";
  if (ends_with(a->host, port))
    a->host[n - strlen(port)] = '\0';
  size_t b = strlen(a->bucket); /* people paste "bucket.oss-cn-x.aliyuncs.com" */
  if (strncmp(a->host, a->bucket, b) == 0 && a->host[b] == '.' &&
      strncmp(a->host + b, ".oss-", 5) == 0 && ends_with(a->host, ".aliyuncs.com"))
    memmove(a->host, a->host + b + 1, strlen(a->host + b + 1) + 1);
  return true;
}

static void derive_host(struct tm_address *a)
{
  a->tls = true;
  if (a->scheme == TM_OSS_OSS)
    snprintf(a->host, sizeof a->host, "oss-%s.aliyuncs.com", a->region);
  else
    snprintf(a->host, sizeof a->host, "s3.%s.amazonaws.com%s", a->region,
             strncmp(a->region, "cn-", 3) == 0 ? ".cn" : "");
  a->derived = true;
}

static bool set_style(struct tm_address *a, const char *addressing, struct tm_error *err)
{
  char name[TM_HOST_SIZE];
  name_of(a->host, name, sizeof name);
  if (!given(addressing) || strcmp(addressing, "auto") == 0) {
    bool aws = strstr(name, ".amazonaws.com") != NULL;
    bool ali = ends_with(name, ".aliyuncs.com");
    bool dots = strchr(a->bucket, '.') != NULL;
    a->style = TM_ADDR_VIRTUAL;
    if (is_address(name) ||
        (a->scheme == TM_OSS_S3 && !ali && (!aws || (dots && a->tls))))
      a->style = TM_ADDR_PATH;
  } else if (strcmp(addressing, "virtual") == 0) {
    a->style = TM_ADDR_VIRTUAL;
  } else if (strcmp(addressing, "path") == 0) {
    a->style = TM_ADDR_PATH;
  } else if (strcmp(addressing, "cname") == 0) {
    a->style = TM_ADDR_CNAME;
  } else {
    tm_error_set(err, TM_EUSAGE,
                 "addressing '%.40s' is none of auto, virtual, path, cname", addressing);
    return false;
  }
  if (a->style == TM_ADDR_VIRTUAL && is_address(name)) {
    tm_error_set(err, TM_EUSAGE, "endpoint '%.200s' cannot carry a bucket in its name",
                 a->host);
    tm_error_hint(err, "use addressing = \"path\"");
    return false;
  }
  return true;
}

static bool check_bucket(const char *bucket, struct tm_error *err)
{
  size_t n = strlen(bucket);
  bool ok = n >= 3 && n <= 63;
  for (size_t i = 0; ok && i < n; i++)
    ok = isalnum((unsigned char)bucket[i]) || strchr("-._", bucket[i]) != NULL;
  if (!ok)
    tm_error_set(err, TM_EUSAGE, "'%.80s' is not a bucket name (3 to 63 of a-z 0-9 - .)",
                 bucket);
  return ok;
}

bool tm_address_set_region(struct tm_address *a, const char *region)
{
  if (strncmp(region, "oss-", 4) == 0)
    region += 4;
  size_t n = strlen(region);
  if (n == 0 || n >= TM_REGION_SIZE || strcmp(a->region, region) == 0 ||
      strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != n)
    return false;
  memcpy(a->region, region, n + 1);
  if (a->derived)
    derive_host(a);
  return true;
}

bool tm_address_resolve(enum tm_oss_scheme scheme, const char *bucket,
                        const struct tm_oss_opts *opts,
                        const struct tm_cred_settings *profile, struct tm_address *out,
                        struct tm_error *err)
{
  bool oss = scheme == TM_OSS_OSS;
  *out = (struct tm_address){.scheme = scheme};
  if (!check_bucket(bucket, err))
    return false;
  snprintf(out->bucket, sizeof out->bucket, "%s", bucket);
  const char *endpoint = opts->endpoint, *region = opts->region;
  const char *addressing =
      given(opts->addressing) ? opts->addressing : profile->addressing;
  if (!given(endpoint))
    endpoint = oss ? first_env("OSS_ENDPOINT", NULL)
                   : first_env("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  if (!given(endpoint))
    endpoint = profile->endpoint;
  else if (!given(opts->addressing) && given(addressing) &&
           strcmp(addressing, "cname") == 0)
    addressing = NULL; /* it belongs to the profile's endpoint */
  if (!given(region))
    region = oss ? first_env("OSS_REGION", NULL)
                 : first_env("AWS_REGION", "AWS_DEFAULT_REGION");
  if (!given(region))
    region = profile->region;
  if (given(endpoint)) {
    char name[TM_HOST_SIZE];
    if (!set_endpoint(out, endpoint, err))
      return false;
    name_of(out->host, name, sizeof name);
    region_of_oss(name, out->region);
    region_of_s3(name, out->region);
    char standard[TM_HOST_SIZE];
    snprintf(standard, sizeof standard, "s3.%s.amazonaws.com", out->region);
    out->derived = !oss && out->tls && strcmp(standard, out->host) == 0;
  }
  if (given(opts->region) || out->region[0] == '\0') {
    out->derived = out->derived && !given(opts->region);
    if (given(region) && !tm_address_set_region(out, region) && out->region[0] == '\0') {
      tm_error_set(err, TM_EUSAGE, "bad region '%.80s'", region);
      return false;
    }
  }
  if (out->region[0] == '\0' && !oss)
    snprintf(out->region, sizeof out->region, "us-east-1");
  if (!given(endpoint)) {
    if (out->region[0] == '\0') {
      tm_error_set(err, TM_EUSAGE, "no endpoint for bucket '%s'", bucket);
      tm_error_hint(err,
                    "give endpoint = \"oss-cn-hangzhou.aliyuncs.com\", or a region, or "
                    "set OSS_ENDPOINT or OSS_REGION");
      return false;
    }
    derive_host(out);
  }
  return set_style(out, addressing, err);
}

bool tm_address_of(const struct tm_address *a, const char *key,
                   char host[TM_HOST_SIZE * 2], struct tm_buffer *path)
{
  if (a->style == TM_ADDR_VIRTUAL)
    snprintf(host, TM_HOST_SIZE * 2, "%s.%s", a->bucket, a->host);
  else
    snprintf(host, TM_HOST_SIZE * 2, "%s", a->host);
  if (!tm_buffer_addc(path, '/'))
    return false;
  bool slash = key != NULL || a->scheme == TM_OSS_OSS; /* as OSS signs it */
  if (a->style == TM_ADDR_PATH &&
      !(tm_buffer_adds(path, a->bucket) && (!slash || tm_buffer_addc(path, '/'))))
    return false;
  return key == NULL || tm_encode_path(path, key, strlen(key));
}
