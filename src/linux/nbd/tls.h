/* linux/nbd/tls.h: credentials of a TLS server. Read-only once loaded: any thread may use them. */
#ifndef NBD_TLS_H
#define NBD_TLS_H

#include <ashlar/blk.h>

#include <gnutls/gnutls.h>

struct nbd_tls;

/* Files of a server: either a certificate with its key, or pre-shared keys. */
struct nbd_tls_files {
    const char *cert; /* PEM, with the chain */
    const char *key;
    const char *ca;  /* clients must show a certificate that this one signed; NULL: none is asked */
    const char *psk; /* lines of NAME:KEY, the key in hexadecimal */
};

/* 0, or a negative errno with a message. */
int nbd_tls_load(const struct nbd_tls_files *files, struct nbd_tls **tls, struct blk_error *err);
void nbd_tls_free(struct nbd_tls *tls);

/* A session for one connection on a non-blocking socket: 0 or a negative errno. */
int nbd_tls_session(const struct nbd_tls *tls, int fd, gnutls_session_t *session);

#endif
