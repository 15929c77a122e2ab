/* linux/nbd/listen.h: the socket that a server listens on. */
#ifndef NBD_LISTEN_H
#define NBD_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>

#include <ashlar/blk.h>

struct nbd_listener {
    int fd; /* non-blocking */
    bool local;
    char path[128]; /* of a unix socket */
    dev_t device;   /* which file the path was, so that no other is removed */
    ino_t inode;
    char uri[640]; /* what clients connect to */
};

/* A unix socket that only this user may connect to. A socket that nobody serves any more is
 * replaced; -EADDRINUSE: somebody does, or the path is another kind of file. */
int nbd_listen_unix(struct nbd_listener *listener, const char *path, struct blk_error *err);

/* TCP: "ADDR:PORT", "[ADDR]:PORT", "NAME:PORT". */
int nbd_listen_tcp(struct nbd_listener *listener, const char *where, struct blk_error *err);

/* A connected socket, tuned and non-blocking; a negative errno. */
int nbd_accept(const struct nbd_listener *listener);

/* Close; remove the path if it is still ours. */
void nbd_listen_close(struct nbd_listener *listener);

#endif
