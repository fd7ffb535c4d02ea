/*
** tls.c: a look at what has arrived on a TLS connection of OpenSSL that another library owns
*/
#include "driver/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

int tm_tls_peek(void *ssl, char *bytes, int size)
{
  ERR_clear_error(); /* SSL_get_error looks at the thread's queue */
  int n = SSL_peek(ssl, bytes, size);
  int reason = n > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, n);
  ERR_clear_error();
  if (n > 0)
    return n;
  return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? -1 : 0;
}
