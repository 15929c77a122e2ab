/*
 * linux/nbd/server.h: an NBD server inside this process. No signals, no output: `ashlar serve nbd`
 * (cli/serve_nbd.c) adds those. docs/nbd.md tells what is offered and how it works.
 */
#ifndef NBD_SERVER_H
#define NBD_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <ashlar/blk.h>

#include "linux/nbd/tls.h"

struct nbd_export {
    const char *name;        /* what clients ask for; the first is also the default, "" */
    const char *description; /* for people; NULL: none */
    struct blk *dev;
};

struct nbd_server_config {
    const struct nbd_export *exports; /* the array is copied; names and devices are not */
    unsigned export_count;
    const char *socket_path; /* a unix socket, or: */
    const char *listen;      /* "ADDR:PORT", "[ADDR]:PORT"; port 0: any that is free */
    const struct nbd_tls *tls;
    bool require_tls;
    unsigned threads;         /* 0: one for each processor, at most 4 */
    unsigned max_connections; /* 0: NBD_DEFAULT_CONNECTIONS */
    uint64_t patience;        /* ns; 0: NBD_DEFAULT_PATIENCE. How long one option of a handshake may
                                 take, or, at the end, a client to take its last replies */
};

#define NBD_DEFAULT_CONNECTIONS 64
#define NBD_DEFAULT_PATIENCE    (UINT64_C(10) * 1000000000u)

struct nbd_server;

/*
 * Listen and serve, in threads of the server's own. 0, or a negative errno with a message. What
 * the config points to must stay until nbd_server_wait() returned.
 */
int nbd_server_start(const struct nbd_server_config *config, struct nbd_server **server,
                     struct blk_error *err);

/* The URI that clients connect to: "nbd+unix:///?socket=...", "nbd://...". */
const char *nbd_server_uri(const struct nbd_server *server);

/* Begin to stop: accept nobody, read no more requests, answer those in progress. Any thread, and
 * a signal handler, may call it, also more than once. */
void nbd_server_stop(struct nbd_server *server);

/*
 * Wait until the server has stopped, flush every device, remove the socket, free the server.
 * Returns 0 only if all was flushed; else the error of the first device that was not.
 */
int nbd_server_wait(struct nbd_server *server, struct blk_error *err);

#endif
