/*
** profile.c: keys and settings in the environment and in the files of the vendors' tools
**
** OSS: ~/.ossutilconfig in both its versions (OSS_CONFIG_FILE names another), then
** ~/.aliyun/config.json. S3: ~/.aws/credentials and ~/.aws/config. Id, secret and token are
** always taken from one section of one file.
*/
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "driver/json.h"
#include "oss/cred_source.h"
#include "oss/ini.h"

enum { PATH_SIZE = 1024, NAME_SIZE = 200 };

static bool given(const char *s)
{
  return s != NULL && s[0] != '\0';
}

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

void tm_cred_looked(struct tm_buffer *looked, const char *format, ...)
{
  char text[600];
  va_list ap;
  va_start(ap, format);
  vsnprintf(text, sizeof text, format, ap);
  va_end(ap);
  size_t before = looked->len; /* only a message: without memory it is shorter */
  if ((before > 0 && !tm_buffer_adds(looked, "; ")) || !tm_buffer_adds(looked, text))
    looked->len = before;
}

bool tm_cred_copy(struct tm_cred *out, const char *id, const char *secret,
                  const char *token, struct tm_error *err)
{
  *out = (struct tm_cred){.id = strdup(id), .secret = strdup(secret)};
  if (given(token))
    out->token = strdup(token);
  if (out->id != NULL && out->secret != NULL && (!given(token) || out->token != NULL))
    return true;
  tm_cred_free(out);
  return no_memory(err);
}

/* ---- the environment ---- */

static enum tm_cred_answer from_variables(const char *id_name, const char *secret_name,
                                          const char *token_name, struct tm_cred *out,
                                          struct tm_buffer *looked, struct tm_error *err)
{
  const char *id = getenv(id_name), *secret = getenv(secret_name);
  if (!given(id) && !given(secret)) {
    tm_cred_looked(looked, "%s (not set)", id_name);
    return TM_CRED_ABSENT;
  }
  if (!given(id) || !given(secret)) {
    tm_error_set(err, TM_EAUTH, "%s is set in the environment but %s is not",
                 given(id) ? id_name : secret_name, given(id) ? secret_name : id_name);
    tm_error_hint(err, "id, secret and token must come from one place: set both or none");
    return TM_CRED_FAILED;
  }
  return tm_cred_copy(out, id, secret, getenv(token_name), err) ? TM_CRED_FOUND
                                                                : TM_CRED_FAILED;
}

enum tm_cred_answer tm_cred_from_environment(enum tm_cred_scheme scheme,
                                             struct tm_cred *out,
                                             struct tm_buffer *looked,
                                             struct tm_error *err)
{
  if (scheme == TM_CRED_S3)
    return from_variables("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                          "AWS_SESSION_TOKEN", out, looked, err);
  enum tm_cred_answer a = from_variables("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET",
                                         "OSS_SESSION_TOKEN", out, looked, err);
  if (a != TM_CRED_ABSENT)
    return a;
  return from_variables("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                        "ALIBABA_CLOUD_SECURITY_TOKEN", out, looked, err);
}

/* ---- files ---- */

struct reading { /* what the functions below share */
  struct tm_profile *out;
  const char *name;   /* of the profile */
  bool named;         /* asked for by name, so it has to exist */
  const char *bucket; /* or NULL */
  struct tm_buffer *looked;
  struct tm_error *err;
};

/* The file that a variable of the environment names, or the one in the home directory. False:
** there is no home. */
static bool path_of(const char *variable, const char *at_home, char path[PATH_SIZE])
{
  const char *named = variable != NULL ? getenv(variable) : NULL, *home = getenv("HOME");
  if (given(named) && (named[0] != '~' || !given(home)))
    snprintf(path, PATH_SIZE, "%s", named);
  else if (given(home))
    snprintf(path, PATH_SIZE, "%s/%s", home, given(named) ? named + 1 : at_home);
  else
    return false;
  return true;
}

/* Why a file was not used, for the list of places. True: go on with the next place. */
static bool passed_over(struct reading *r, const char *path)
{
  if (r->err->kind == TM_EMEMORY)
    return false;
  if (r->err->kind == TM_ENOTFOUND)
    tm_cred_looked(r->looked, "%s (no such file)", path);
  else
    tm_cred_looked(r->looked, "%s (cannot be read)", path);
  return true;
}

/* Opens one of the files; *ini NULL and true: it is not there. */
static bool open_ini(struct reading *r, const char *variable, const char *at_home,
                     char path[PATH_SIZE], struct tm_ini **ini)
{
  *ini = NULL;
  if (!path_of(variable, at_home, path)) {
    tm_cred_looked(r->looked, "~/%s (HOME is not set)", at_home);
    return true;
  }
  *ini = tm_ini_open(path, r->err);
  return *ini != NULL || passed_over(r, path);
}

/* The first of some spellings of a key, ended by NULL. */
static const char *any_key(const struct tm_ini *ini, const char *section,
                           const char *const *keys)
{
  for (; *keys != NULL; keys++) {
    const char *value = tm_ini_get(ini, section, *keys);
    if (value != NULL)
      return value;
  }
  return NULL;
}

/* Sets a setting that is still unset. */
static bool keep(char **slot, const char *value, struct tm_error *err)
{
  if (*slot != NULL || value == NULL)
    return true;
  *slot = strdup(value);
  return *slot != NULL || no_memory(err);
}

static bool keep_keys(struct reading *r, const char *path, const char *section,
                      const char *id, const char *secret, const char *token)
{
  if (r->out->set.id != NULL || (id == NULL && secret == NULL))
    return true;
  if (id == NULL || secret == NULL) {
    tm_error_set(r->err, TM_EAUTH, "section [%.100s] of '%.400s' has an access key %s",
                 section, path, id == NULL ? "secret but no id" : "id but no secret");
    return false;
  }
  return tm_cred_copy(&r->out->set, id, secret, token, r->err);
}

/* ---- files: AWS ---- */

/* Ways of getting keys that need programs or services of their own. */
static bool aws_unsupported(struct reading *r, const struct tm_ini *ini,
                            const char *section, const char *path)
{
  static const char *const ways[] = {
      "role_arn",      "credential_process",      "sso_session",
      "sso_start_url", "web_identity_token_file", NULL};
  for (int i = 0; ways[i] != NULL; i++) {
    if (r->out->set.id != NULL || tm_ini_get(ini, section, ways[i]) == NULL)
      continue;
    tm_error_set(r->err, TM_EUSAGE,
                 "profile '%.100s' in '%.400s' uses %s, which is not supported", r->name,
                 path, ways[i]);
    tm_error_hint(r->err,
                  "export keys with `aws configure export-credentials --format env`");
    return true;
  }
  return false;
}

static bool aws_keys(struct reading *r, const struct tm_ini *ini, const char *section,
                     const char *path)
{
  return keep_keys(r, path, section, tm_ini_get(ini, section, "aws_access_key_id"),
                   tm_ini_get(ini, section, "aws_secret_access_key"),
                   tm_ini_get(ini, section, "aws_session_token"));
}

static bool aws_settings(struct reading *r, const struct tm_ini *ini, const char *section)
{
  const char *ignore = getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
  const char *services = tm_ini_get(ini, section, "services"), *endpoint = NULL;
  char services_section[NAME_SIZE + 16];
  if (services != NULL) {
    snprintf(services_section, sizeof services_section, "services %.*s", NAME_SIZE,
             services);
    endpoint = tm_ini_get(ini, services_section, "s3.endpoint_url");
  }
  if (endpoint == NULL)
    endpoint = tm_ini_get(ini, section, "s3.endpoint_url");
  if (endpoint == NULL)
    endpoint = tm_ini_get(ini, section, "endpoint_url");
  if (given(ignore) && strcmp(ignore, "true") == 0)
    endpoint = NULL;
  return keep(&r->out->endpoint, endpoint, r->err) &&
         keep(&r->out->region, tm_ini_get(ini, section, "region"), r->err) &&
         keep(&r->out->addressing, tm_ini_get(ini, section, "s3.addressing_style"),
              r->err);
}

/* *found is set when one of the two files has the profile. */
static bool aws_files(struct reading *r, bool *found)
{
  char path[PATH_SIZE], section[NAME_SIZE + 16];
  struct tm_ini *ini;
  if (!open_ini(r, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", path, &ini))
    return false;
  bool ok = true;
  if (ini != NULL && tm_ini_has_section(ini, r->name)) {
    *found = true;
    ok = aws_keys(r, ini, r->name, path);
  } else if (ini != NULL) {
    tm_cred_looked(r->looked, "%s (no section [%s])", path, r->name);
  }
  tm_ini_close(ini);
  if (!ok || !open_ini(r, "AWS_CONFIG_FILE", ".aws/config", path, &ini))
    return false;
  snprintf(section, sizeof section, "profile %.*s", NAME_SIZE, r->name);
  if (ini != NULL && strcmp(r->name, "default") == 0 && !tm_ini_has_section(ini, section))
    snprintf(section, sizeof section, "default");
  if (ini != NULL && tm_ini_has_section(ini, section)) {
    *found = true;
    ok = aws_keys(r, ini, section, path) && !aws_unsupported(r, ini, section, path) &&
         aws_settings(r, ini, section);
    if (ok && r->out->set.id == NULL)
      tm_cred_looked(r->looked, "%s (no keys in [%s])", path, section);
  } else if (ini != NULL) {
    tm_cred_looked(r->looked, "%s (no section [%s])", path, section);
  }
  tm_ini_close(ini);
  return ok;
}

/* ---- files: OSS ---- */

static const char *const id_keys[] = {"accessKeyID", "access_key_id", "access_id",
                                      "accessid", NULL};
static const char *const secret_keys[] = {"accessKeySecret", "access_key_secret",
                                          "access_key", "accesskey", NULL};
static const char *const token_keys[] = {"stsToken", "sts_token", NULL};
static const char *const endpoint_keys[] = {"endpoint", "host", NULL};

/* How a section says that its keys come from the instance's role. */
static bool is_role_mode(const char *mode)
{
  return mode != NULL && strcasecmp(mode, "EcsRamRole") == 0;
}

static bool ossutil_section(struct reading *r, const struct tm_ini *ini,
                            const char *section, const char *path)
{
  const char *role = tm_ini_get(ini, section, "ecsRoleName");
  if (role == NULL && is_role_mode(tm_ini_get(ini, section, "mode")))
    role = "";
  return keep_keys(r, path, section, any_key(ini, section, id_keys),
                   any_key(ini, section, secret_keys),
                   any_key(ini, section, token_keys)) &&
         keep(&r->out->role_name, role, r->err) &&
         keep(&r->out->region, tm_ini_get(ini, section, "region"), r->err) &&
         keep(&r->out->addressing, tm_ini_get(ini, section, "addressing-style"),
              r->err) &&
         keep(&r->out->endpoint, any_key(ini, section, endpoint_keys), r->err);
}

/* The section of a profile: [name] or [profile name]; without a name asked for, version 2's
** [default] or version 1's [Credentials]. NULL: none of them. */
static const char *ossutil_find(const struct tm_ini *ini, const char *name, bool named,
                                char *section, size_t size)
{
  snprintf(section, size, "%.*s", NAME_SIZE, name);
  if (tm_ini_has_section(ini, section))
    return section;
  snprintf(section, size, "profile %.*s", NAME_SIZE, name);
  if (tm_ini_has_section(ini, section))
    return section;
  return !named && tm_ini_has_section(ini, "Credentials") ? "Credentials" : NULL;
}

/* Endpoints that belong to the bucket, before the ones of the profile. */
static bool ossutil_bucket(struct reading *r, const struct tm_ini *ini)
{
  if (r->bucket == NULL)
    return true;
  const char *cname = tm_ini_get(ini, "Bucket-Cname", r->bucket);
  if (cname != NULL)
    return keep(&r->out->endpoint, cname, r->err) &&
           keep(&r->out->addressing, "cname", r->err);
  return keep(&r->out->endpoint, tm_ini_get(ini, "Bucket-Endpoint", r->bucket), r->err);
}

static bool ossutil_profile(struct reading *r, const struct tm_ini *ini, const char *path,
                            bool *found)
{
  char buffer[NAME_SIZE + 16], parent_buffer[NAME_SIZE + 16];
  const char *section = ossutil_find(ini, r->name, r->named, buffer, sizeof buffer);
  if (section == NULL) {
    tm_cred_looked(r->looked, "%s (no section [%s])", path, r->name);
    return true;
  }
  *found = true;
  if (!ossutil_section(r, ini, section, path))
    return false;
  const char *source =
      tm_ini_get(ini, section, "source-profile"); /* one step, as ossutil */
  if (source != NULL)
    section = ossutil_find(ini, source, true, parent_buffer, sizeof parent_buffer);
  if (source != NULL && section != NULL && !ossutil_section(r, ini, section, path))
    return false;
  if (r->out->set.id == NULL && r->out->role_name == NULL)
    tm_cred_looked(r->looked, "%s (no keys in [%s])", path, r->name);
  return true;
}

static bool ossutil_file(struct reading *r, bool *found)
{
  char path[PATH_SIZE];
  struct tm_ini *ini;
  if (!open_ini(r, "OSS_CONFIG_FILE", ".ossutilconfig", path, &ini))
    return false;
  bool ok =
      ini == NULL || (ossutil_bucket(r, ini) && ossutil_profile(r, ini, path, found));
  tm_ini_close(ini);
  return ok;
}

/* A profile of the Aliyun CLI: the named one, or the one the file calls current. */
static bool aliyun_profile(struct reading *r, const struct tm_json *json,
                           const char *path, bool *found)
{
  const char *name = r->named ? r->name : tm_json_text(json, "current");
  for (size_t i = 0; i < tm_json_count(json, "profiles"); i++) {
    const char *its = tm_json_element_text(json, "profiles", i, "name");
    if (its == NULL || strcmp(its, name != NULL ? name : r->name) != 0)
      continue;
    const char *mode = tm_json_element_text(json, "profiles", i, "mode");
    const char *role = tm_json_element_text(json, "profiles", i, "ram_role_name");
    *found = true;
    if (is_role_mode(mode))
      return keep(&r->out->role_name, role != NULL ? role : "", r->err);
    if (mode != NULL && strcmp(mode, "AK") != 0 && strcmp(mode, "StsToken") != 0) {
      tm_cred_looked(r->looked, "%s (profile '%s' has mode %s, which is not supported)",
                     path, its, mode);
      return true;
    }
    return keep_keys(r, path, its,
                     tm_json_element_text(json, "profiles", i, "access_key_id"),
                     tm_json_element_text(json, "profiles", i, "access_key_secret"),
                     tm_json_element_text(json, "profiles", i, "sts_token")) &&
           keep(&r->out->region, tm_json_element_text(json, "profiles", i, "region_id"),
                r->err);
  }
  tm_cred_looked(r->looked, "%s (no profile '%s')", path, name != NULL ? name : r->name);
  return true;
}

static bool aliyun_file(struct reading *r, bool *found)
{
  char path[PATH_SIZE];
  size_t length;
  if (!path_of(NULL, ".aliyun/config.json", path))
    return true;
  char *text = tm_read_file(path, &length, r->err);
  if (text == NULL)
    return passed_over(r, path);
  struct tm_json *json = tm_json_open(text, length, path, r->err);
  explicit_bzero(text, length);
  free(text);
  bool ok = json != NULL && aliyun_profile(r, json, path, found);
  tm_json_close(json);
  return ok;
}

static bool oss_files(struct reading *r, bool *found)
{
  if (!ossutil_file(r, found))
    return false;
  if (r->out->set.id != NULL || r->out->role_name != NULL)
    return true;
  return aliyun_file(r, found);
}

/* ---- both ---- */

void tm_profile_free(struct tm_profile *p)
{
  tm_cred_free(&p->set);
  free(p->role_name);
  free(p->endpoint);
  free(p->region);
  free(p->addressing);
  *p = (struct tm_profile){.role_name = NULL};
}

enum tm_cred_answer tm_profile_load(const struct tm_cred_opts *opts, const char *bucket,
                                    struct tm_profile *out, struct tm_buffer *looked,
                                    struct tm_error *err)
{
  bool oss = opts->scheme == TM_CRED_OSS, found = false;
  const char *from_env = getenv(oss ? "OSS_PROFILE" : "AWS_PROFILE");
  struct reading r = {
      .out = out, .name = "default", .bucket = bucket, .looked = looked, .err = err};
  *out = (struct tm_profile){.role_name = NULL};
  if (given(opts->profile) || given(from_env)) {
    r.name = given(opts->profile) ? opts->profile : from_env;
    r.named = true;
  }
  if (oss ? oss_files(&r, &found) : aws_files(&r, &found)) {
    if (found || !r.named)
      return TM_CRED_FOUND;
    const char *places = tm_buffer_cstr(looked);
    tm_error_set(err, TM_EUSAGE, "there is no profile '%.100s': looked at %.500s", r.name,
                 places != NULL ? places : "");
  }
  tm_profile_free(out);
  return TM_CRED_FAILED;
}
