/*
** server.h: ossd's HTTP side, on libmicrohttpd
**
** One thread a connection; at most `connections` of them, each with bounded memory for its
** head, an idle limit, and bodies that pass through to disk.
*/
#ifndef TM_OSSD_SERVER_H
#define TM_OSSD_SERVER_H

#include "ossd/exchange.h"

struct tm_ossd_server;

/* Starts to answer on an IPv4 address; port 0 takes a free one. NULL: TM_ECONNECT. */
struct tm_ossd_server *tm_ossd_server_start(struct tm_ossd *ossd, const char *address,
                                            unsigned port, unsigned connections,
                                            struct tm_error *err);
unsigned tm_ossd_server_port(const struct tm_ossd_server *s);

/* Ends every connection; NULL is fine. */
void tm_ossd_server_stop(struct tm_ossd_server *s);

#endif
