/*
** tls.h: a look at what has arrived on a TLS connection of OpenSSL that another library owns
*/
#ifndef TM_DRIVER_TLS_H
#define TM_DRIVER_TLS_H

/* Copies the next decrypted byte of `ssl` (an SSL *) without taking it. 1: *byte is it; 0:
** the peer has closed; -1: nothing there yet. Never waits on a socket that does not block.
** What was peeked no longer shows in poll: have the owner read before you wait again. */
int tm_tls_peek(void *ssl, char *byte);

#endif
