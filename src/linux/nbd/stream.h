/*
 * linux/nbd/stream.h: the bytes of a connection, plain or through TLS. Nothing here blocks.
 */
#ifndef NBD_STREAM_H
#define NBD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <gnutls/gnutls.h>

#include "linux/nbd/tls.h"

struct nbd_stream {
    int fd; /* owned; non-blocking */
    gnutls_session_t tls;
    /* TLS only: data that was taken by nbd_stream_write() and is not yet sent. */
    char *record;
    size_t record_len;
};

void nbd_stream_init(struct nbd_stream *stream, int fd);

/* From here on all goes through TLS. Then nbd_stream_handshake() until it is 0. */
int nbd_stream_start_tls(struct nbd_stream *stream, const struct nbd_tls *tls);

/* 0: done; -EAGAIN: when the socket is readable or, if nbd_stream_wants_write(), writable; else
 * the connection is of no more use. */
int nbd_stream_handshake(struct nbd_stream *stream);
bool nbd_stream_wants_write(const struct nbd_stream *stream);

/* Bytes read into iov; 0 at the end; -EAGAIN; -EIO: the connection is of no more use. */
ssize_t nbd_stream_read(struct nbd_stream *stream, const struct iovec *iov, unsigned n);

/* Bytes taken from iov, perhaps not all; -EAGAIN, -EIO. */
ssize_t nbd_stream_write(struct nbd_stream *stream, const struct iovec *iov, unsigned n);

/* Send what nbd_stream_write() took: 0 if nothing is left; -EAGAIN, -EIO. */
int nbd_stream_flush(struct nbd_stream *stream);

/* polite: say goodbye in TLS first. */
void nbd_stream_close(struct nbd_stream *stream, bool polite);

#endif
