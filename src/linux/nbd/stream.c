/* Plain and TLS byte streams on a non-blocking socket. */
#include "linux/nbd/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"

enum { RECORD_SIZE = 16384 }; /* largest data of one TLS record (RFC 8446, section 5.1) */

void nbd_stream_init(struct nbd_stream *s, int fd)
{
    memset(s, 0, sizeof(*s));
    s->fd = fd;
}

/* ---- plain ----------------------------------------------------------------------------- */

/* iov of a call that only reads it: the system's struct wants it writable. */
static struct msghdr message(const struct iovec *iov, unsigned n)
{
    return (struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
}

static ssize_t outcome(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EIO;
}

static ssize_t plain_read(int fd, const struct iovec *iov, unsigned n)
{
    if (n == 1)
        return outcome(recv(fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT));
    struct msghdr m = message(iov, n);
    return outcome(recvmsg(fd, &m, MSG_DONTWAIT));
}

static ssize_t plain_write(int fd, const struct iovec *iov, unsigned n)
{
    struct msghdr m = message(iov, n);
    return outcome(sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* ---- TLS ------------------------------------------------------------------------------- */

int nbd_stream_start_tls(struct nbd_stream *s, const struct nbd_tls *tls)
{
    s->record = base_alloc(RECORD_SIZE);
    return s->record ? nbd_tls_session(tls, s->fd, &s->tls) : -ENOMEM;
}

static ssize_t tls_outcome(ssize_t n)
{
    if (n >= 0)
        return n;
    return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -EAGAIN : -EIO;
}

int nbd_stream_handshake(struct nbd_stream *s)
{
    int e;
    do
        e = gnutls_handshake(s->tls);
    while (e == GNUTLS_E_WARNING_ALERT_RECEIVED);
    return (int)tls_outcome(e);
}

bool nbd_stream_wants_write(const struct nbd_stream *s)
{
    return s->tls && gnutls_record_get_direction(s->tls);
}

static ssize_t tls_read(struct nbd_stream *s, const struct iovec *iov, unsigned n)
{
    size_t got = 0;
    for (unsigned i = 0; i < n; i++) {
        size_t at = 0;
        while (at < iov[i].iov_len) {
            ssize_t part = tls_outcome(
                gnutls_record_recv(s->tls, (char *)iov[i].iov_base + at, iov[i].iov_len - at));
            if (part <= 0)
                return got ? (ssize_t)got : part;
            at += (size_t)part;
            got += (size_t)part;
        }
    }
    return (ssize_t)got;
}

int nbd_stream_flush(struct nbd_stream *s)
{
    while (s->record_len) {
        ssize_t n = tls_outcome(gnutls_record_send(s->tls, s->record, s->record_len));
        if (n < 0)
            return (int)n;
        s->record_len -= (size_t)n;
        memmove(s->record, s->record + n, s->record_len);
    }
    return 0;
}

/* Small pieces are gathered, so that a record holds as much as it can. */
static ssize_t tls_write(struct nbd_stream *s, const struct iovec *iov, unsigned n)
{
    size_t taken = 0;
    int error = nbd_stream_flush(s);
    for (unsigned i = 0; error == 0 && i < n; i++) {
        const char *from = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (error == 0 && left) {
            size_t part = min_u64(left, RECORD_SIZE - s->record_len);
            memcpy(s->record + s->record_len, from, part);
            s->record_len += part;
            from += part;
            left -= part;
            taken += part;
            if (s->record_len == RECORD_SIZE)
                error = nbd_stream_flush(s);
        }
    }
    if (error == 0)
        error = nbd_stream_flush(s);
    return taken && error != -EIO ? (ssize_t)taken : error;
}

/* ---- either ---------------------------------------------------------------------------- */

ssize_t nbd_stream_read(struct nbd_stream *s, const struct iovec *iov, unsigned n)
{
    return s->tls ? tls_read(s, iov, n) : plain_read(s->fd, iov, n);
}

ssize_t nbd_stream_write(struct nbd_stream *s, const struct iovec *iov, unsigned n)
{
    return s->tls ? tls_write(s, iov, n) : plain_write(s->fd, iov, n);
}

void nbd_stream_close(struct nbd_stream *s, bool polite)
{
    if (s->tls) {
        if (polite)
            gnutls_bye(s->tls, GNUTLS_SHUT_WR);
        gnutls_deinit(s->tls);
    }
    base_free(s->record);
    close(s->fd);
}
