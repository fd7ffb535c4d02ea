/*
** server.h: open object stores of this session, by server, user mapping and bucket
**
** A store is opened at first use, kept for the session with its connections, and counted:
** ALTER SERVER or ALTER USER MAPPING makes the next acquire open a new one, while those who
** hold the old one go on with it. Credentials: the mapping of the effective user, else of
** PUBLIC, else id and key of the server, else (only where the server's owner may read files of
** the host) what profile, role_name or the environment say.
*/
#ifndef FDW_SERVER_H
#define FDW_SERVER_H

#include "oss/oss.h"
#include "oss_fdw/options.h"

struct fdw_store;

/*
** A counted reference, released by the reset of `cxt`; talks to nobody. Raises: no credentials,
** an endpoint that oss_fdw.allowed_endpoints does not list, options that only a server of a
** privileged owner may have, what tm_oss_open refuses.
*/
struct fdw_store *fdw_store_acquire_in(MemoryContext cxt, const struct fdw_table *t);

/* The store behind it; may be used from any thread while the reference is held. */
struct tm_oss *fdw_store_oss(struct fdw_store *store);

/* One more reference of the same. Neither raises; NULL is fine for release. Only in the
** backend's own thread. */
void fdw_store_retain(struct fdw_store *store);
void fdw_store_release(struct fdw_store *store);

/* The user mapping of `userid` (InvalidOid: PUBLIC) for a server and its options, palloc'd;
** InvalidOid and NIL: there is none. */
Oid fdw_mapping_of(Oid userid, Oid serverid, List **options);

/* Whether `roleid` may name files, profiles and instance roles of the server's host: a
** superuser or a member of pg_read_server_files. */
bool fdw_may_read_files(Oid roleid);

#endif
