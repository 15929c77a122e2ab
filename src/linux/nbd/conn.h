/*
 * linux/nbd/conn.h: one connection, from the greeting to the last reply.
 *
 * A connection never waits: nbd_conn_service() does all that can be done now, and says whether
 * that was anything. Who drives it (worker.c, a test) waits for the socket and for the device.
 *
 * The way of a request: bytes are received into `in`, where one call takes many small requests;
 * a header takes a slot and, if it moves data, a buffer; payload goes into the buffer (its bulk
 * straight from the socket). Requests are submitted to the connection's own queue in batches;
 * completions line up in `replies`, from which one call sends many, header and data without a
 * copy. A slot is free again when its reply is sent. So the slots and buffers bound what a client
 * can make the server hold: when they are used up nothing more is parsed, `in` fills, and the
 * client's own socket makes it wait.
 *
 * Threads: the one that drives it; exports and credentials are shared and read-only.
 */
#ifndef NBD_CONN_H
#define NBD_CONN_H

#include <ashlar/blk.h>

#include "base/list.h"
#include "linux/nbd/arena.h"
#include "linux/nbd/parse.h"
#include "linux/nbd/server.h"
#include "linux/nbd/stream.h"

enum {
    NBD_SLOTS = NBD_ARENA_RUNS,  /* requests of a connection in progress */
    NBD_SMALL = 8 << 10,         /* every slot has a buffer of this size of its own */
    NBD_IN_SIZE = 128 << 10,     /* received and not yet parsed */
    NBD_OPTION_MAX = 64 << 10,   /* data of an option that is looked at */
    NBD_OPTIONS_MAX = 4096,      /* options of one handshake */
    NBD_BATCH_BYTES = 128 << 10, /* submit when so much is gathered */
    NBD_PIECE = 128 << 10,       /* of a large write, submitted before all of it is received */
    NBD_ZEROES = 256 << 10,      /* written at a time where the device cannot write zeroes */
    NBD_ALLOCATION_ID = 1,       /* our metadata context of base:allocation */
    NBD_STATUS_EXTENTS = NBD_SMALL / (int)sizeof(struct blk_extent),
};

/* What all connections of a server share. Read-only while any exists. */
struct nbd_service {
    const struct nbd_export *exports;
    unsigned export_count;
    const struct nbd_tls *tls; /* NULL: none */
    bool require_tls;
    uint64_t patience;  /* ns for an option; and, at the end, for the client to take its replies */
    const char *zeroes; /* NBD_ZEROES bytes, page aligned */
};

/* A request in progress. Exactly one owner: the free list, `filling`, the device's queue, or
 * `replies`. */
struct nbd_slot {
    struct blk_req req;
    struct nbd_slot *next;
    struct nbd_request request;
    char *data;  /* its buffer, NULL if it needs none */
    char *small; /* NBD_SMALL bytes, always this slot's */
    enum nbd_step {
        NBD_STEP_MAIN,   /* the command itself */
        NBD_STEP_ZEROES, /* zeroes written as data */
        NBD_STEP_FLUSH,  /* what makes a trim with FUA durable */
    } step;
    uint64_t at;    /* where the next part starts */
    uint64_t end;   /* of the range in whole blocks */
    bool submitted; /* a part is in the device */
    bool abandoned; /* nobody waits for it any more: no reply */
    enum nbd_error error;
    const char *message; /* a constant; NULL if there is none */
    /* The reply: head, then body. */
    uint8_t head[40];
    uint32_t head_len;
    uint32_t body_len;
    const char *body;
};

enum nbd_phase { NBD_HELLO, NBD_OPTIONS, NBD_TLS, NBD_TRANSMISSION };

struct nbd_watch {
    struct nbd_conn *conn;
    bool device; /* of its queue, not of its socket */
};

struct nbd_conn {
    const struct nbd_service *service;
    struct nbd_stream stream;
    enum nbd_phase phase;
    bool readable; /* the socket may have bytes; cleared when a read came up short */
    bool hangup;   /* the peer has closed: after the last bytes comes the end, without an event */
    bool writable; /* likewise may take bytes */
    bool ending;   /* nothing more is read; what is in progress is finished and answered */
    bool broken;   /* the socket is of no more use; only the device is waited for */
    bool busy;     /* service stopped before there was nothing left to do */
    uint64_t started;
    uint64_t deadline; /* for the handshake, and for the end; 0: none */

    /* Receiving. */
    uint8_t *in;
    size_t in_start;
    size_t in_end;
    uint64_t skip;            /* bytes to come that nobody wants */
    struct nbd_slot *filling; /* its payload is being received */
    size_t filled;

    /* Handshake. One answer at a time: an option is looked at when `out` is sent. */
    uint8_t *out;
    size_t out_size;
    size_t out_len;
    size_t out_sent;
    unsigned options;
    bool fixed;
    bool no_zeroes;
    bool structured;
    const struct nbd_export *allocation; /* base:allocation was selected for this export */

    /* Transmission. */
    const struct nbd_export *export;
    const struct blk_info *info;
    struct nbd_terms terms;
    struct blk_queue *queue;
    struct nbd_slot *slots;
    unsigned slot_count;
    unsigned slots_used;
    struct nbd_slot *free;
    char *small;            /* of blk_buf_alloc(): all slots' own buffers */
    struct nbd_arena arena; /* for what is larger */
    struct blk_req *batch[NBD_SLOTS];
    unsigned batch_count;
    uint64_t batch_bytes;
    struct nbd_slot *replies; /* finished: first in, first out */
    struct nbd_slot **replies_tail;
    size_t reply_sent; /* bytes of the first */

    /* The driver's (worker.c). */
    struct list node;
    bool run;           /* something happened: service it */
    bool watches_write; /* EPOLLOUT is asked for */
    int device_fd;      /* in the epoll set; -1 */
    short device_events;
    int64_t wait; /* reap after this time at the latest */
    struct nbd_watch socket_watch;
    struct nbd_watch device_watch;
};

/* Takes the socket, which is non-blocking, unless NULL is returned: no memory. */
struct nbd_conn *nbd_conn_new(const struct nbd_service *service, int fd);

/* Do all that can be done now; false: there was nothing. */
bool nbd_conn_service(struct nbd_conn *conn);

/* The connection is over and nothing of it is in the device: free it. */
bool nbd_conn_finished(const struct nbd_conn *conn);
void nbd_conn_free(struct nbd_conn *conn);

/* Read no more; finish what is in progress. */
void nbd_conn_end(struct nbd_conn *conn);

/* Called about once a second: deadlines, memory that is no more used. */
void nbd_conn_tick(struct nbd_conn *conn, uint64_t now);

/* ---- parts of a connection ---- */

/* negotiate.c: look at the next of what the client sent; false: it is not all there, or an
 * answer must be sent first. */
void nbd_negotiate_greet(struct nbd_conn *conn);
bool nbd_negotiate(struct nbd_conn *conn);
size_t nbd_negotiate_out_size(const struct nbd_service *service);

/* slot.c: slots, buffers, queue of a transmission phase. 0 or a negative errno. */
int nbd_slots_open(struct nbd_conn *conn, const struct nbd_export *export);
void nbd_slots_close(struct nbd_conn *conn);
struct nbd_slot *nbd_slot_take(struct nbd_conn *conn, size_t buffer);
void nbd_slot_give(struct nbd_conn *conn, struct nbd_slot *slot);

/* request.c: start a request, a write as far as its payload is there (again when there is more);
 * submit what was gathered; take what the device has done. */
void nbd_request_start(struct nbd_conn *conn, struct nbd_slot *slot);
void nbd_request_more(struct nbd_conn *conn, struct nbd_slot *slot);
void nbd_request_abandon(struct nbd_conn *conn, struct nbd_slot *slot);
void nbd_request_submit(struct nbd_conn *conn);
bool nbd_request_reap(struct nbd_conn *conn);

/* reply.c: line the answer up, by slot->error; send. */
void nbd_reply(struct nbd_conn *conn, struct nbd_slot *slot);
bool nbd_reply_send(struct nbd_conn *conn);
void nbd_reply_drop(struct nbd_conn *conn);

#endif
