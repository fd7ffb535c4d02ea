/*
** auth.h: is the request signed by someone we know?
*/
#ifndef TM_OSSD_AUTH_H
#define TM_OSSD_AUTH_H

#include "ossd/request.h"

struct tm_ossd_key {
  const char *id, *secret;
  const char *token; /* NULL: a permanent key; else requests must carry this token */
};

struct tm_ossd_policy {
  const struct tm_ossd_key *keys;
  size_t key_count;
  const char *region;  /* V4 scopes must name it; NULL: any */
  int64_t max_skew;    /* seconds */
  bool anonymous_read; /* GET and HEAD without a signature */
};

/* Why a request is refused: the store's error document. Zero it before; free after. */
struct tm_ossd_refusal {
  int status;
  char code[64];
  char message[512];
  struct tm_buffer extra; /* further elements, as XML */
};
/* Fills it; false, to be returned. */
bool tm_ossd_refuse(struct tm_ossd_refusal *r, int status, const char *code,
                    const char *format, ...) TM_PRINTF(4, 5);
/* Adds an element with escaped text; what does not fit in memory is left out. */
void tm_ossd_refusal_add(struct tm_ossd_refusal *r, const char *name, const char *text);
void tm_ossd_refusal_free(struct tm_ossd_refusal *r);

/* What a verified request leaves for the check of signed chunks. */
struct tm_ossd_identity {
  const struct tm_ossd_key *key; /* NULL: anonymous */
  int64_t time;                  /* of the request's signature */
};

/* True when the request may go on. `now` is in seconds since 1970 UTC. */
bool tm_ossd_verify(const struct tm_ossd_request *r, const struct tm_ossd_policy *policy,
                    int64_t now, struct tm_ossd_identity *who,
                    struct tm_ossd_refusal *refusal) TM_MUSTCHECK;

#endif
