/*
** tls.h: a look at what has arrived on a TLS connection of OpenSSL that another library owns
*/
#ifndef TM_DRIVER_TLS_H
#define TM_DRIVER_TLS_H

/* Copies up to `size` decrypted bytes that `ssl` (an SSL *) holds or can read at once, without
** taking them. > 0: how many; 0: the peer has closed; -1: nothing yet. Never waits on a socket
** that does not block. What was peeked no longer shows in poll: have the owner read before
** you wait again. */
int tm_tls_peek(void *ssl, char *bytes, int size);

#endif
