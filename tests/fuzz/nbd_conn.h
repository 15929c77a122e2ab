/* A connection of the NBD server over a socket pair, fed with any bytes. */
#ifndef FUZZ_NBD_CONN_H
#define FUZZ_NBD_CONN_H

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux/nbd/conn.h"

/* Made once; lives as long as the process. */
static const struct nbd_service *fuzz_service(const char *first)
{
    static struct nbd_export exports[2];
    static struct nbd_service service;
    static _Alignas(4096) char zeroes[NBD_ZEROES];
    if (service.exports)
        return &service;
    exports[0] = (struct nbd_export){.name = "a", .description = "first"};
    exports[1] = (struct nbd_export){.name = "b"};
    if (blk_open(first, 0, &exports[0].dev, NULL) < 0 ||
        blk_open("readonly,mem:1M?block=4096", 0, &exports[1].dev, NULL) < 0)
        abort();
    service = (struct nbd_service){
        .exports = exports, .export_count = 2, .patience = UINT64_C(1) << 40, .zeroes = zeroes};
    return &service;
}

/* Take what the server says, and throw it away. */
static void fuzz_drain(int fd)
{
    static char sink[1 << 16];
    while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
        ;
}

/* Feed all bytes, then the end of the stream, and serve until the connection is over: which it
 * must be, with nothing left behind. */
static void fuzz_feed(struct nbd_conn *c, int fd, const uint8_t *data, size_t size)
{
    bool ended = false;
    for (unsigned idle = 0; !nbd_conn_finished(c); idle++) {
        assert(idle < 1000000);
        ssize_t sent = size ? send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        if (sent > 0) {
            data += sent;
            size -= (size_t)sent;
        }
        if (!size && !ended) {
            shutdown(fd, SHUT_WR);
            ended = true;
        }
        c->readable = c->writable = true;
        nbd_conn_service(c);
        fuzz_drain(fd);
    }
    assert(!c->slots_used && !c->batch_count);
    nbd_conn_free(c);
    close(fd);
}

static struct nbd_conn *fuzz_conn(const struct nbd_service *service, int *client)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
        abort();
    struct nbd_conn *c = nbd_conn_new(service, pair[0]);
    if (!c)
        abort();
    *client = pair[1];
    return c;
}

#endif
