/*
** choose.c: which operation a request asks for
*/
#include <string.h>

#include "ossd/exchange.h"

enum level { SERVICE, BUCKET, OBJECT };

struct route {
  const char *method;
  enum level level;
  const char *parameter; /* that must be in the query, or NULL */
  bool copies;           /* a copy-source header must be there */
  struct tm_ossd_operation operation;
};

/* The first that fits is it, so the special ones of a method come first. */
static const struct route routes[] = {
    {"GET", SERVICE, NULL, false, {"ListBuckets", TM_OSSD_DISCARD, tm_ossd_list_buckets}},

    {"GET",
     BUCKET,
     "location",
     false,
     {"GetBucketLocation", TM_OSSD_DISCARD, tm_ossd_bucket_location}},
    {"GET",
     BUCKET,
     "bucketInfo",
     false,
     {"GetBucketInfo", TM_OSSD_DISCARD, tm_ossd_bucket_info}},
    {"GET",
     BUCKET,
     "versioning",
     false,
     {"GetBucketVersioning", TM_OSSD_DISCARD, tm_ossd_bucket_versioning}},
    {"GET", BUCKET, "acl", false, {"GetBucketAcl", TM_OSSD_DISCARD, tm_ossd_get_acl}},
    {"GET",
     BUCKET,
     "uploads",
     false,
     {"ListMultipartUploads", TM_OSSD_DISCARD, tm_ossd_list_uploads}},
    {"GET",
     BUCKET,
     "list-type",
     false,
     {"ListObjectsV2", TM_OSSD_DISCARD, tm_ossd_list_objects_v2}},
    {"GET", BUCKET, NULL, false, {"ListObjects", TM_OSSD_DISCARD, tm_ossd_list_objects}},
    {"HEAD", BUCKET, NULL, false, {"HeadBucket", TM_OSSD_DISCARD, tm_ossd_head_bucket}},
    {"PUT", BUCKET, NULL, false, {"CreateBucket", TM_OSSD_MEMORY, tm_ossd_put_bucket}},
    {"DELETE",
     BUCKET,
     NULL,
     false,
     {"DeleteBucket", TM_OSSD_DISCARD, tm_ossd_delete_bucket}},
    {"POST",
     BUCKET,
     "delete",
     false,
     {"DeleteObjects", TM_OSSD_MEMORY, tm_ossd_delete_many}},

    {"GET",
     OBJECT,
     "uploadId",
     false,
     {"ListParts", TM_OSSD_DISCARD, tm_ossd_list_parts}},
    {"GET", OBJECT, "acl", false, {"GetObjectAcl", TM_OSSD_DISCARD, tm_ossd_get_acl}},
    {"GET", OBJECT, NULL, false, {"GetObject", TM_OSSD_DISCARD, tm_ossd_get_object}},
    {"HEAD", OBJECT, NULL, false, {"HeadObject", TM_OSSD_DISCARD, tm_ossd_get_object}},
    {"PUT",
     OBJECT,
     "uploadId",
     true,
     {"UploadPartCopy", TM_OSSD_DISCARD, tm_ossd_copy_part}},
    {"PUT", OBJECT, "uploadId", false, {"UploadPart", TM_OSSD_FILE, tm_ossd_put_part}},
    {"PUT", OBJECT, NULL, true, {"CopyObject", TM_OSSD_DISCARD, tm_ossd_copy_object}},
    {"PUT", OBJECT, NULL, false, {"PutObject", TM_OSSD_FILE, tm_ossd_put_object}},
    {"POST",
     OBJECT,
     "uploads",
     false,
     {"CreateMultipartUpload", TM_OSSD_DISCARD, tm_ossd_initiate}},
    {"POST",
     OBJECT,
     "uploadId",
     false,
     {"CompleteMultipartUpload", TM_OSSD_MEMORY, tm_ossd_complete}},
    {"DELETE",
     OBJECT,
     "uploadId",
     false,
     {"AbortMultipartUpload", TM_OSSD_DISCARD, tm_ossd_abort}},
    {"DELETE",
     OBJECT,
     NULL,
     false,
     {"DeleteObject", TM_OSSD_DISCARD, tm_ossd_delete_object}},
};

/* Sub-resources that mean another operation than the plain one, and are not here: taken
** for the plain one, `PUT ?tagging` would overwrite the object. */
static const char *const missing[] = {"accelerate",
                                      "append",
                                      "attributes",
                                      "callback",
                                      "cname",
                                      "comp",
                                      "cors",
                                      "encryption",
                                      "inventory",
                                      "legal-hold",
                                      "lifecycle",
                                      "live",
                                      "logging",
                                      "metaQuery",
                                      "notification",
                                      "object-lock",
                                      "ownershipControls",
                                      "policy",
                                      "policyStatus",
                                      "publicAccessBlock",
                                      "qosInfo",
                                      "referer",
                                      "replication",
                                      "requestPayment",
                                      "resourceGroup",
                                      "restore",
                                      "retention",
                                      "select",
                                      "stat",
                                      "style",
                                      "symlink",
                                      "tagging",
                                      "torrent",
                                      "transferAcceleration",
                                      "udf",
                                      "versionId",
                                      "versions",
                                      "vod",
                                      "website",
                                      "worm",
                                      "x-oss-async-process",
                                      "x-oss-process"};

static const struct tm_ossd_operation *not_implemented(struct tm_ossd_exchange *x,
                                                       const char *what)
{
  tm_ossd_refuse(&x->refusal, 501, "NotImplemented",
                 "This development server does not know '%s'.", what);
  return NULL;
}

const struct tm_ossd_operation *tm_ossd_choose(struct tm_ossd_exchange *x)
{
  const struct tm_ossd_request *r = &x->request;
  enum level level = *r->bucket == '\0' ? SERVICE : *r->key == '\0' ? BUCKET : OBJECT;
  for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
    if (tm_ossd_param(r, missing[i]) != NULL)
      return not_implemented(x, missing[i]);
  if (strcmp(r->method, "PUT") == 0 && tm_ossd_param(r, "acl") != NULL)
    return not_implemented(x, "acl");
  if (strcmp(r->method, "PUT") == 0 && tm_ossd_param(r, "versioning") != NULL)
    return not_implemented(x, "versioning");
  bool copies = tm_ossd_vendor_header(r, "copy-source") != NULL;
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    const struct route *route = &routes[i];
    if (route->level == level && strcmp(route->method, r->method) == 0 &&
        (route->parameter == NULL || tm_ossd_param(r, route->parameter) != NULL) &&
        (!route->copies || copies))
      return &route->operation;
  }
  tm_ossd_refuse(&x->refusal, 405, "MethodNotAllowed",
                 "The specified method is not allowed against this resource.");
  return NULL;
}
