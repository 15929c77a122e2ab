/* linux/nbd/worker.h: a thread that drives connections with one event loop. */
#ifndef NBD_WORKER_H
#define NBD_WORKER_H

#include "base/platform.h"
#include "linux/nbd/conn.h"

/* What the acceptor and the workers of a server share. Atomic. */
struct nbd_shared {
    unsigned connections;
    bool stopping;  /* no more requests are read */
    bool accepting; /* connections may still come */
};

struct nbd_worker {
    struct nbd_shared *shared;
    struct base_thread thread;
    int epoll;
    int wake; /* eventfd: look at the inbox and at `stopping` */

    struct base_mutex lock; /* guards inbox */
    struct list inbox;      /* connections that the acceptor gave */
    unsigned load;          /* connections, also those in the inbox; atomic */

    /* The thread's own. */
    struct list conns;
    uint64_t next_tick;
    /* Spinning: after short sleeps in a row, look for the next event for a while before sleeping;
     * when that is in vain, sleep at once again. */
    bool spinning;
    unsigned hits;   /* short sleeps in a row */
    unsigned misses; /* spins in a row that were in vain */
    uint64_t looked; /* when epoll was asked last */
};

int nbd_worker_start(struct nbd_worker *worker, struct nbd_shared *shared);
void nbd_worker_join(struct nbd_worker *worker);

/* Any thread. */
void nbd_worker_give(struct nbd_worker *worker, struct nbd_conn *conn);
void nbd_worker_wake(struct nbd_worker *worker);

#endif
