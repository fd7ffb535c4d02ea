/*
** cred_test.c: every place where keys may be, the order of them, and renewal
**
** HOME is a scratch directory; the metadata services are one small server on a loopback port
** that answers from a table and counts.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "oss/address.h"
#include "oss/cred.h"
#include "oss/ini.h"

/* ---- the scratch home ---- */

static char home[64];

static void put_file(const char *name, const char *text)
{
  char path[256];
  snprintf(path, sizeof path, "%s/%s", home, name);
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
  fclose(f);
}

/* An empty home, no variable of either vendor, no metadata service. */
static int fresh(void **state)
{
  (void)state;
  static const char *const variables[] = {"OSS_ACCESS_KEY_ID",
                                          "OSS_ACCESS_KEY_SECRET",
                                          "OSS_SESSION_TOKEN",
                                          "OSS_PROFILE",
                                          "OSS_CONFIG_FILE",
                                          "OSS_ENDPOINT",
                                          "OSS_REGION",
                                          "ALIBABA_CLOUD_ACCESS_KEY_ID",
                                          "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                                          "ALIBABA_CLOUD_SECURITY_TOKEN",
                                          "ALIBABA_CLOUD_ECS_METADATA",
                                          "ALIBABA_CLOUD_IMDSV1_DISABLED",
                                          "AWS_ACCESS_KEY_ID",
                                          "AWS_SECRET_ACCESS_KEY",
                                          "AWS_SESSION_TOKEN",
                                          "AWS_PROFILE",
                                          "AWS_CONFIG_FILE",
                                          "AWS_SHARED_CREDENTIALS_FILE",
                                          "AWS_ENDPOINT_URL",
                                          "AWS_ENDPOINT_URL_S3",
                                          "AWS_REGION",
                                          "AWS_DEFAULT_REGION",
                                          "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
                                          "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                                          "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                          "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                          "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                          "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"};
  for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
    unsetenv(variables[i]);
  setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
  setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true", 1);
  strcpy(home, "/tmp/tm-cred-XXXXXX");
  assert_non_null(mkdtemp(home));
  setenv("HOME", home, 1);
  char path[128];
  snprintf(path, sizeof path, "%s/.aws", home);
  mkdir(path, 0700);
  snprintf(path, sizeof path, "%s/.aliyun", home);
  mkdir(path, 0700);
  return 0;
}

static int remove_home(void **state)
{
  (void)state;
  static const char *const names[] = {".aws/credentials",
                                      ".aws/config",
                                      ".ossutilconfig",
                                      ".aliyun/config.json",
                                      "token",
                                      "other",
                                      ".aws",
                                      ".aliyun",
                                      ""};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", home, names[i]);
    remove(path);
  }
  return 0;
}

/* ---- asking once ---- */

static struct tm_cred_opts oss(void)
{
  return (struct tm_cred_opts){.scheme = TM_CRED_OSS};
}

static struct tm_cred_opts s3(void)
{
  return (struct tm_cred_opts){.scheme = TM_CRED_S3};
}

static bool ask(struct tm_cred_opts opts, struct tm_cred *out, struct tm_error *err)
{
  struct tm_cred_chain *chain = tm_cred_open(&opts, err);
  *out = (struct tm_cred){.id = NULL};
  bool ok = chain != NULL && tm_cred_get(chain, out, NULL, err);
  tm_cred_close(chain);
  return ok;
}

static void expect(struct tm_cred_opts opts, const char *id, const char *secret,
                   const char *token)
{
  struct tm_cred cred;
  struct tm_error err = {.message = ""};
  bool ok = ask(opts, &cred, &err);
  if (!ok)
    print_error("%s\n", err.message);
  assert_true(ok);
  assert_string_equal(cred.id, id);
  assert_string_equal(cred.secret, secret);
  if (token == NULL)
    assert_null(cred.token);
  else
    assert_string_equal(cred.token, token);
  tm_cred_free(&cred);
}

static void refuse(struct tm_cred_opts opts, enum tm_kind kind, const char *part)
{
  struct tm_cred cred;
  struct tm_error err;
  assert_false(ask(opts, &cred, &err));
  if (strstr(err.message, part) == NULL)
    print_error("'%s' is not in: %s\n", part, err.message);
  assert_non_null(strstr(err.message, part));
  assert_int_equal(err.kind, kind);
  assert_null(strstr(err.message, "hush"));
}

static void settings(struct tm_cred_opts opts, const char *bucket, const char *endpoint,
                     const char *region, const char *addressing)
{
  struct tm_cred_settings s;
  struct tm_error err;
  assert_true(tm_cred_settings(&opts, bucket, &s, &err));
  const char *pairs[][2] = {
      {s.endpoint, endpoint}, {s.region, region}, {s.addressing, addressing}};
  for (int i = 0; i < 3; i++) {
    if (pairs[i][1] == NULL)
      assert_null(pairs[i][0]);
    else
      assert_string_equal(pairs[i][0] != NULL ? pairs[i][0] : "(none)", pairs[i][1]);
  }
  tm_cred_settings_free(&s);
}

/* ---- options and environment ---- */

static void options_come_first(void **state)
{
  (void)state;
  setenv("OSS_ACCESS_KEY_ID", "env", 1);
  setenv("OSS_ACCESS_KEY_SECRET", "hushenv", 1);
  struct tm_cred_opts o = oss();
  o.id = "own";
  o.secret = "hushown";
  expect(o, "own", "hushown", NULL);
  o.token = "t";
  expect(o, "own", "hushown", "t");
  o.secret = NULL;
  refuse(o, TM_EUSAGE, "both its id and its secret");
}

static void the_environment_has_names_for_each_vendor(void **state)
{
  (void)state;
  setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "ali", 1);
  setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hushali", 1);
  setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "tali", 1);
  setenv("AWS_ACCESS_KEY_ID", "aws", 1);
  setenv("AWS_SECRET_ACCESS_KEY", "hushaws", 1);
  expect(oss(), "ali", "hushali", "tali");
  expect(s3(), "aws", "hushaws", NULL);
  setenv("OSS_ACCESS_KEY_ID", "oss", 1);
  setenv("OSS_ACCESS_KEY_SECRET", "husho", 1);
  setenv("AWS_SESSION_TOKEN", "taws", 1);
  expect(oss(), "oss", "husho", NULL); /* no token of another source */
  expect(s3(), "aws", "hushaws", "taws");
}

static void half_a_key_in_the_environment_is_an_error(void **state)
{
  (void)state;
  put_file(".aws/credentials",
           "[default]\naws_access_key_id=f\naws_secret_access_key=hushf\n");
  setenv("AWS_ACCESS_KEY_ID", "aws", 1);
  refuse(s3(), TM_EAUTH,
         "AWS_ACCESS_KEY_ID is set in the environment but "
         "AWS_SECRET_ACCESS_KEY is not");
  unsetenv("AWS_ACCESS_KEY_ID");
  expect(s3(), "f", "hushf", NULL);
  setenv("OSS_ACCESS_KEY_SECRET", "hushx", 1);
  refuse(oss(), TM_EAUTH,
         "OSS_ACCESS_KEY_SECRET is set in the environment but "
         "OSS_ACCESS_KEY_ID is not");
}

static void nothing_found_says_where_was_looked(void **state)
{
  (void)state;
  refuse(oss(), TM_EAUTH,
         "no credentials for oss: looked at OSS_ACCESS_KEY_ID (not set); "
         "ALIBABA_CLOUD_ACCESS_KEY_ID (not set); ");
  refuse(oss(), TM_EAUTH, "/.ossutilconfig (no such file); ");
  refuse(oss(), TM_EAUTH, "/.aliyun/config.json (no such file); ");
  refuse(oss(), TM_EAUTH, "(ALIBABA_CLOUD_ECS_METADATA_DISABLED is true)");
  refuse(s3(), TM_EAUTH, "/.aws/credentials (no such file); ");
  put_file(".aws/config", "[default]\nregion = r\n");
  refuse(s3(), TM_EAUTH, "/.aws/config (no keys in [default])");
  unsetenv("HOME");
  refuse(s3(), TM_EAUTH, "~/.aws/credentials (HOME is not set)");
  struct tm_cred cred;
  struct tm_error err;
  assert_false(ask(s3(), &cred, &err));
  assert_non_null(strstr(err.hint, "anonymous = true"));
}

/* ---- files ---- */

static void ini_files_as_the_tools_write_them(void **state)
{
  (void)state;
  static const char text[] =
      "\xef\xbb\xbf; comment\r\n# comment\n[default]\r\n key = a b \r\n"
      "K2=x#y ; comment\ns3 =\n  addressing_style = path\n"
      "\tmax = 1\nafter = z\n[profile \"two words\"]\nkey = 2\n"
      "no equals sign\n= nothing\n[default]\nkey = last\nempty =\n[open\nx=1";
  struct tm_error err;
  struct tm_ini *ini = tm_ini_read(text, sizeof text - 1, &err);
  assert_non_null(ini);
  assert_string_equal(tm_ini_get(ini, "default", "KEY"), "last");
  assert_string_equal(tm_ini_get(ini, "default", "k2"), "x#y");
  assert_string_equal(tm_ini_get(ini, "default", "s3.addressing_style"), "path");
  assert_string_equal(tm_ini_get(ini, "default", "s3.max"), "1");
  assert_string_equal(tm_ini_get(ini, "default", "after"), "z");
  assert_string_equal(tm_ini_get(ini, "profile two words", "key"), "2");
  assert_string_equal(tm_ini_get(ini, "open", "x"), "1");
  assert_null(tm_ini_get(ini, "default", "empty"));
  assert_null(tm_ini_get(ini, "default", "addressing_style"));
  assert_null(tm_ini_get(ini, "", "key"));
  assert_true(tm_ini_has_section(ini, "default"));
  assert_false(tm_ini_has_section(ini, "Default"));
  tm_ini_close(ini);
}

static void aws_profiles(void **state)
{
  (void)state;
  put_file(".aws/credentials", "[default]\naws_access_key_id = d\n"
                               "aws_secret_access_key = hushd\n[ work ]\n"
                               "aws_access_key_id=w\naws_secret_access_key=hushw\n"
                               "aws_session_token=tw\n[half]\naws_access_key_id=h\n");
  put_file(".aws/config",
           "[default]\nregion = eu-west-1\n[profile work]\nregion=us-west-2\n"
           "endpoint_url = https://general\nservices = mine\ns3 =\n"
           "    addressing_style = virtual\n[services mine]\ns3 =\n"
           "  endpoint_url = https://special\nsqs =\n  endpoint_url = https://no\n"
           "[profile conf]\naws_access_key_id=c\naws_secret_access_key=hushc\n"
           "[profile assume]\nrole_arn = arn:x\nsource_profile = default\n");
  expect(s3(), "d", "hushd", NULL);
  settings(s3(), "b", NULL, "eu-west-1", NULL);
  struct tm_cred_opts o = s3();
  o.profile = "work";
  setenv("AWS_ACCESS_KEY_ID", "env", 1);
  setenv("AWS_SECRET_ACCESS_KEY", "hushenv", 1);
  expect(s3(), "env", "hushenv", NULL);
  expect(o, "w", "hushw", "tw"); /* named in the options: before the environment */
  settings(o, "b", "https://special", "us-west-2", "virtual");
  setenv("AWS_REGION", "env-1", 1);
  settings(o, "b", "https://special", NULL, "virtual");
  setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
  settings(o, "b", NULL, NULL, "virtual");
}

static void aws_profiles_by_variable_and_bad_ones(void **state)
{
  (void)state;
  put_file("other", "[default]\naws_access_key_id=o\naws_secret_access_key=husho\n");
  put_file(".aws/credentials", "[half]\naws_access_key_id=h\n");
  put_file(".aws/config",
           "[profile conf]\naws_access_key_id=c\naws_secret_access_key=hushc\n"
           "[profile assume]\nrole_arn = arn:x\n");
  setenv("AWS_PROFILE", "conf", 1);
  expect(s3(), "c", "hushc", NULL);
  setenv("AWS_PROFILE", "half", 1);
  refuse(s3(), TM_EAUTH, "section [half] of ");
  refuse(s3(), TM_EAUTH, "has an access key id but no secret");
  setenv("AWS_PROFILE", "assume", 1);
  refuse(s3(), TM_EUSAGE, "uses role_arn, which is not supported");
  setenv("AWS_PROFILE", "absent", 1);
  refuse(s3(), TM_EUSAGE, "there is no profile 'absent': looked at ");
  unsetenv("AWS_PROFILE");
  setenv("AWS_SHARED_CREDENTIALS_FILE", "~/other", 1);
  expect(s3(), "o", "husho", NULL);
}

static void ossutil_version_1_and_its_spellings(void **state)
{
  (void)state;
  put_file(
      ".ossutilconfig",
      "[Credentials]\nlanguage=EN\nendpoint = oss-cn-a.aliyuncs.com\naccessKeyID = i\n"
      "accessKeySecret = hushi\nstsToken=t\n[Bucket-Endpoint]\n"
      "near = oss-cn-a-internal.aliyuncs.com\n[Bucket-Cname]\nnamed = img.example.com\n");
  expect(oss(), "i", "hushi", "t");
  settings(oss(), "b", "oss-cn-a.aliyuncs.com", NULL, NULL);
  settings(oss(), "near", "oss-cn-a-internal.aliyuncs.com", NULL, NULL);
  settings(oss(), "named", "img.example.com", NULL, "cname");
  setenv("OSS_ENDPOINT", "x", 1);
  settings(oss(), "named", NULL, NULL, NULL);
  unsetenv("OSS_ENDPOINT");
  static const char *const files[] = {
      "[Credentials]\naccess_key_id=i\naccess_key_secret=hushi\nsts_token=t\nhost=e\n",
      "[Credentials]\naccess_id=i\naccess_key=hushi\nststoken=t\nhost=e\n",
      "[Credentials]\naccessid=i\naccesskey=hushi\nststoken=t\nendpoint=e\n",
      "[Credentials]\nAccessKeyID=i\naccessKeySecret=hushi\nstsToken=t\nendpoint=e\n"};
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    put_file(".ossutilconfig", files[i]);
    expect(oss(), "i", "hushi", "t");
    settings(oss(), NULL, "e", NULL, NULL);
  }
}

static void ossutil_version_2(void **state)
{
  (void)state;
  put_file("other", "[default]\naccessKeyID=d\naccessKeySecret=hushd\nregion=cn-a\n"
                    "[prod]\naccessKeyID=p\naccessKeySecret=hushp\nregion=cn-b\n"
                    "endpoint=e\n[profile dev]\nregion=cn-c\nsource-profile=prod\n");
  setenv("OSS_CONFIG_FILE", "~/other", 1);
  expect(oss(), "d", "hushd", NULL);
  settings(oss(), "b", NULL, "cn-a", NULL);
  setenv("OSS_PROFILE", "prod", 1);
  expect(oss(), "p", "hushp", NULL);
  struct tm_cred_opts o = oss();
  o.profile = "dev";
  expect(o, "p", "hushp", NULL);
  settings(o, "b", "e", "cn-c", NULL);
  o.profile = "gone";
  refuse(o, TM_EUSAGE, "there is no profile 'gone'");
}

static void the_aliyun_command_line_file(void **state)
{
  (void)state;
  put_file(
      ".aliyun/config.json",
      "{\"current\":\"two\",\"profiles\":[{\"name\":\"one\",\"mode\":\"AK\","
      "\"access_key_id\":\"1\",\"access_key_secret\":\"hush1\",\"region_id\":\"cn-1\"},"
      "{\"name\":\"two\",\"mode\":\"StsToken\",\"access_key_id\":\"2\","
      "\"access_key_secret\":\"hush2\",\"sts_token\":\"t2\"},"
      "{\"name\":\"three\",\"mode\":\"CloudSSO\"}]}");
  expect(oss(), "2", "hush2", "t2");
  setenv("OSS_PROFILE", "one", 1);
  expect(oss(), "1", "hush1", NULL);
  settings(oss(), "b", NULL, "cn-1", NULL);
  setenv("OSS_PROFILE", "three", 1);
  refuse(oss(), TM_EAUTH, "has mode CloudSSO, which is not supported");
  put_file(".aliyun/config.json", "{\"current\":\"hush");
  refuse(oss(), TM_EPROTOCOL, "is not JSON: line 1");
}

static void a_store_takes_its_address_from_the_profile(void **state)
{
  (void)state;
  struct tm_cred_settings s;
  struct tm_cred_opts c = oss();
  struct tm_oss_opts o = {.url = "oss://named"};
  struct tm_address at;
  struct tm_error err;
  put_file(".ossutilconfig", "[default]\nregion=cn-a\nendpoint=oss-cn-a.aliyuncs.com\n"
                             "[Bucket-Cname]\nnamed = img.example.com\n");
  assert_true(tm_cred_settings(&c, "named", &s, &err));
  assert_true(tm_address_resolve(TM_OSS_OSS, "named", &o, &s, &at, &err));
  assert_string_equal(at.host, "img.example.com");
  assert_string_equal(at.region, "cn-a");
  assert_int_equal(at.style, TM_ADDR_CNAME);
  o.endpoint = "oss-cn-b.aliyuncs.com"; /* the options' own: name and region are its */
  assert_true(tm_address_resolve(TM_OSS_OSS, "named", &o, &s, &at, &err));
  assert_string_equal(at.host, "oss-cn-b.aliyuncs.com");
  assert_string_equal(at.region, "cn-b");
  assert_int_equal(at.style, TM_ADDR_VIRTUAL);
  tm_cred_settings_free(&s);
}

/* ---- metadata services ---- */

enum { LOGGED = 4096 };

struct service {
  struct MHD_Daemon *daemon;
  char url[64];
  pthread_mutex_t lock;    /* guards log */
  char log[LOGGED];        /* "METHOD path [header];" of each request */
  atomic_int keys;         /* how often keys were given */
  atomic_int refuse_token; /* HTTP status for PUT, or 0 */
  atomic_int fail;         /* HTTP status for keys, or 0 */
  atomic_int lifetime;     /* seconds */
  atomic_int slow_ms;
};

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *body)
{
  struct MHD_Response *r = MHD_create_response_from_buffer(
      strlen(body), (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
  enum MHD_Result result = MHD_queue_response(c, status, r);
  MHD_destroy_response(r);
  return result;
}

static void note(struct service *s, struct MHD_Connection *c, const char *method,
                 const char *path)
{
  static const char *const names[] = {"X-aliyun-ecs-metadata-token",
                                      "X-aws-ec2-metadata-token", "Authorization"};
  pthread_mutex_lock(&s->lock);
  size_t n = strlen(s->log);
  n += (size_t)snprintf(s->log + n, LOGGED - n, "%s %s", method, path);
  for (int i = 0; i < 3 && n < LOGGED; i++) {
    const char *v = MHD_lookup_connection_value(c, MHD_HEADER_KIND, names[i]);
    if (v != NULL)
      n += (size_t)snprintf(s->log + n, LOGGED - n, " %s", v);
  }
  if (n + 1 < LOGGED)
    strcpy(s->log + n, ";");
  pthread_mutex_unlock(&s->lock);
}

static enum MHD_Result give_keys(struct service *s, struct MHD_Connection *c, bool aws)
{
  char body[400], expires[40];
  if (s->slow_ms > 0)
    usleep((useconds_t)s->slow_ms * 1000);
  if (s->fail != 0)
    return reply(c, (unsigned)s->fail, "no");
  time_t at = time(NULL) + s->lifetime;
  struct tm tm;
  strftime(expires, sizeof expires, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
  int n = ++s->keys;
  snprintf(body, sizeof body,
           "{\"AccessKeyId\":\"role%d\",\"%s\":\"hushr\",\"%s\":\"tr\",\"Expiration\":"
           "\"%s\","
           "\"Code\":\"Success\"}",
           n, aws ? "SecretAccessKey" : "AccessKeySecret",
           aws ? "Token" : "SecurityToken", expires);
  return reply(c, 200, body);
}

static enum MHD_Result answer(void *data, struct MHD_Connection *c, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **seen)
{
  (void)version, (void)upload;
  struct service *s = data;
  if (*seen == NULL) { /* the body, which is empty, comes with the second call */
    *seen = s;
    return MHD_YES;
  }
  *upload_size = 0;
  note(s, c, method, path);
  if (strcmp(method, "PUT") == 0)
    return s->refuse_token != 0 ? reply(c, (unsigned)s->refuse_token, "no")
                                : reply(c, 200, "session");
  if (strcmp(path, "/latest/meta-data/ram/security-credentials/") == 0)
    return reply(c, 200, "ram-role\n");
  if (strcmp(path, "/latest/meta-data/iam/security-credentials/") == 0)
    return reply(c, 200, "iam-role");
  if (strcmp(path, "/latest/meta-data/ram/security-credentials/ram-role") == 0)
    return give_keys(s, c, false);
  if (strcmp(path, "/latest/meta-data/iam/security-credentials/iam-role") == 0 ||
      strcmp(path, "/container") == 0)
    return give_keys(s, c, true);
  return reply(c, 404, "not found");
}

static void serve(struct service *s)
{
  struct sockaddr_in at = {.sin_family = AF_INET,
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  *s = (struct service){.lifetime = 3600};
  pthread_mutex_init(&s->lock, NULL);
  s->daemon =
      MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0,
                       NULL, NULL, answer, s, MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_END);
  assert_non_null(s->daemon);
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
  snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", (unsigned)info->port);
  unsetenv("AWS_EC2_METADATA_DISABLED");
  unsetenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED");
  setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", s->url, 1);
}

static void stop(struct service *s)
{
  MHD_stop_daemon(s->daemon);
  pthread_mutex_destroy(&s->lock);
}

static struct tm_cred_opts oss_at(const struct service *s)
{
  return (struct tm_cred_opts){.scheme = TM_CRED_OSS, .metadata_url = s->url};
}

static void an_ecs_role_in_hardened_mode(void **state)
{
  (void)state;
  struct service s;
  serve(&s);
  expect(oss_at(&s), "role1", "hushr", "tr");
  assert_string_equal(s.log,
                      "PUT /latest/api/token;"
                      "GET /latest/meta-data/ram/security-credentials/ session;"
                      "GET /latest/meta-data/ram/security-credentials/ram-role session;");
  s.log[0] = '\0';
  setenv("ALIBABA_CLOUD_ECS_METADATA", "ram-role", 1);
  expect(oss_at(&s), "role2", "hushr", "tr");
  assert_string_equal(s.log,
                      "PUT /latest/api/token;"
                      "GET /latest/meta-data/ram/security-credentials/ram-role session;");
  struct tm_cred_opts o = oss_at(&s);
  o.role_name = "other";
  refuse(o, TM_EAUTH, "(the instance has no such role)");
  o.role_name = "../../secrets";
  refuse(o, TM_EUSAGE, "cannot be the name of a role");
  stop(&s);
}

static void an_ecs_without_session_tokens(void **state)
{
  (void)state;
  static const int refusals[] = {403, 404, 405};
  struct service s;
  serve(&s);
  for (int i = 0; i < 3; i++) {
    s.refuse_token = refusals[i];
    struct tm_cred cred;
    struct tm_error err;
    assert_true(ask(oss_at(&s), &cred, &err));
    tm_cred_free(&cred);
  }
  assert_null(strstr(s.log, "session;"));
  setenv("ALIBABA_CLOUD_IMDSV1_DISABLED", "true", 1);
  refuse(oss_at(&s), TM_EAUTH, "(refuses a session token: HTTP status 405)");
  stop(&s);
}

static void an_ec2_role_needs_a_session(void **state)
{
  (void)state;
  struct service s;
  serve(&s);
  expect(s3(), "role1", "hushr", "tr");
  assert_string_equal(s.log,
                      "PUT /latest/api/token;"
                      "GET /latest/meta-data/iam/security-credentials/ session;"
                      "GET /latest/meta-data/iam/security-credentials/iam-role session;");
  s.refuse_token = 403;
  refuse(s3(), TM_EAUTH, "(refuses a session token: HTTP status 403)");
  stop(&s);
}

static void a_profile_may_name_the_role(void **state)
{
  (void)state;
  struct service s;
  serve(&s);
  put_file(".ossutilconfig",
           "[default]\nmode=EcsRamRole\necsRoleName=ram-role\nregion=cn-a\n");
  expect(oss_at(&s), "role1", "hushr", "tr");
  assert_null(strstr(s.log, "credentials/ session"));
  put_file(".ossutilconfig", "");
  put_file(".aliyun/config.json",
           "{\"current\":\"x\",\"profiles\":[{\"name\":\"x\",\"mode\":\"EcsRamRole\"}]}");
  expect(oss_at(&s), "role2", "hushr", "tr");
  stop(&s);
}

static void a_container_has_its_own_address(void **state)
{
  (void)state;
  struct service s;
  char url[100], token[100];
  serve(&s);
  snprintf(url, sizeof url, "%s/container", s.url);
  setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
  setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic one", 1);
  expect(s3(), "role1", "hushr", "tr");
  put_file("token", "Basic two\n");
  snprintf(token, sizeof token, "%s/token", home);
  setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token, 1);
  expect(s3(), "role2", "hushr", "tr");
  assert_string_equal(s.log, "GET /container Basic one;GET /container Basic two;");
  setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1.example.com/x", 1);
  refuse(s3(), TM_EUSAGE, "neither https nor on this host");
  stop(&s);
}

static void a_service_that_does_not_answer_is_passed_over(void **state)
{
  (void)state;
  struct service s;
  serve(&s);
  stop(&s); /* the port is closed now */
  int64_t start = tm_clock_mono_ms();
  refuse(oss_at(&s), TM_EAUTH, "(no answer)");
  refuse(s3(), TM_EAUTH, "(no answer)");
  assert_true(tm_clock_mono_ms() - start < 5000);
}

static void replies_that_make_no_sense(void **state)
{
  (void)state;
  struct service s;
  serve(&s);
  s.fail = 200; /* a body that is no JSON */
  refuse(oss_at(&s), TM_EPROTOCOL, "is not JSON");
  s.fail = 500;
  refuse(oss_at(&s), TM_EAUTH, "(HTTP status 500)");
  stop(&s);
}

/* ---- renewal ---- */

static char *id_of(struct tm_cred_chain *chain, char id[32])
{
  struct tm_cred cred;
  struct tm_error err;
  assert_true(tm_cred_get(chain, &cred, NULL, &err));
  snprintf(id, 32, "%s", cred.id);
  tm_cred_free(&cred);
  return id;
}

static void a_set_is_kept_until_it_nears_its_end(void **state)
{
  (void)state;
  struct service s;
  struct tm_error err;
  char id[32];
  serve(&s);
  struct tm_cred_opts o = oss_at(&s);
  struct tm_cred_chain *chain = tm_cred_open(&o, &err);
  for (int i = 0; i < 5; i++)
    assert_string_equal(id_of(chain, id), "role1");
  struct tm_cred refused = {.id = (char *)(uintptr_t) "role1",
                            .token = (char *)(uintptr_t) "tr"};
  tm_cred_invalidate(chain, &refused);
  assert_string_equal(id_of(chain, id), "role2");
  tm_cred_invalidate(chain, &refused); /* that set is gone: nothing happens */
  assert_string_equal(id_of(chain, id), "role2");
  tm_cred_close(chain);
  s.lifetime = 2;
  chain = tm_cred_open(&o, &err);
  assert_string_equal(id_of(chain, id), "role3");
  usleep(1300 * 1000); /* half of what was left */
  assert_string_equal(id_of(chain, id), "role4");
  tm_cred_close(chain);
  stop(&s);
}

static void an_old_set_is_used_while_renewal_fails(void **state)
{
  (void)state;
  struct service s;
  struct tm_error err;
  struct tm_cred cred;
  char id[32];
  serve(&s);
  s.lifetime = 5;
  struct tm_cred_opts o = oss_at(&s);
  struct tm_cred_chain *chain = tm_cred_open(&o, &err);
  assert_string_equal(id_of(chain, id), "role1");
  s.fail = 500;
  usleep(2600 * 1000); /* half of it */
  assert_string_equal(id_of(chain, id), "role1");
  usleep(2600 * 1000); /* past its end */
  assert_false(tm_cred_get(chain, &cred, NULL, &err));
  assert_int_equal(err.kind, TM_EAUTH);
  tm_cred_close(chain);
  stop(&s);
}

static void *get_once(void *chain)
{
  char id[32];
  assert_string_equal(id_of(chain, id), "role1");
  return NULL;
}

static void many_threads_fetch_once(void **state)
{
  (void)state;
  struct service s;
  struct tm_error err;
  pthread_t threads[8];
  serve(&s);
  s.slow_ms = 200;
  struct tm_cred_opts o = oss_at(&s);
  struct tm_cred_chain *chain = tm_cred_open(&o, &err);
  for (int i = 0; i < 8; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, get_once, chain), 0);
  for (int i = 0; i < 8; i++)
    pthread_join(threads[i], NULL);
  assert_int_equal(s.keys, 1);
  tm_cred_close(chain);
  stop(&s);
}

static void a_cancel_ends_the_wait(void **state)
{
  (void)state;
  struct service s;
  struct tm_error err;
  struct tm_cred cred;
  struct tm_cancel cancel;
  serve(&s);
  struct tm_cred_opts o = oss_at(&s);
  assert_true(tm_cancel_open(&cancel, &err));
  tm_cancel_fire(&cancel);
  struct tm_cred_chain *chain = tm_cred_open(&o, &err);
  assert_false(tm_cred_get(chain, &cred, &cancel, &err));
  assert_int_equal(err.kind, TM_ECANCELED);
  tm_cred_close(chain);
  tm_cancel_close(&cancel);
  stop(&s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, remove_home)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(options_come_first),
      TEST(the_environment_has_names_for_each_vendor),
      TEST(half_a_key_in_the_environment_is_an_error),
      TEST(nothing_found_says_where_was_looked),
      TEST(ini_files_as_the_tools_write_them),
      TEST(aws_profiles),
      TEST(aws_profiles_by_variable_and_bad_ones),
      TEST(ossutil_version_1_and_its_spellings),
      TEST(ossutil_version_2),
      TEST(the_aliyun_command_line_file),
      TEST(a_store_takes_its_address_from_the_profile),
      TEST(an_ecs_role_in_hardened_mode),
      TEST(an_ecs_without_session_tokens),
      TEST(an_ec2_role_needs_a_session),
      TEST(a_profile_may_name_the_role),
      TEST(a_container_has_its_own_address),
      TEST(a_service_that_does_not_answer_is_passed_over),
      TEST(replies_that_make_no_sense),
      TEST(a_set_is_kept_until_it_nears_its_end),
      TEST(an_old_set_is_used_while_renewal_fails),
      TEST(many_threads_fetch_once),
      TEST(a_cancel_ends_the_wait),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
