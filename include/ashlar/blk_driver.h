/*
 * ashlar/blk_driver.h: what a driver is made of.
 *
 * A driver is one file that ends in one const struct blk_driver. A filter is a driver that stands
 * on another device. docs/driver.md builds one step by step.
 *
 * What the core does for every driver, so that none does it again: parse the spec and the options
 * into the driver's struct, allocate the struct and its per-queue and per-request parts, check
 * each request against info (bounds, alignment, read-only, zoned), hand out tags, keep the number
 * in flight within depth, and collect completions.
 */
#ifndef ASHLAR_BLK_DRIVER_H
#define ASHLAR_BLK_DRIVER_H

#include <ashlar/blk.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BLK_FRACTION_ONE 1000000000u

/* How the text of an option becomes a value in the driver's struct. */
enum blk_option_type {
    BLK_OPT_SIZE,     /* uint64_t bytes: 4096, 64K, 4G */
    BLK_OPT_COUNT,    /* uint64_t: a plain number */
    BLK_OPT_TIME,     /* uint64_t nanoseconds: 10us, 1ms, 2s */
    BLK_OPT_BOOL,     /* bool: on, off */
    BLK_OPT_FRACTION, /* uint32_t, of BLK_FRACTION_ONE: 0.01 or 1% */
    BLK_OPT_STRING,   /* const char *, valid while the device is open */
};

struct blk_option {
    const char *name;
    enum blk_option_type type;
    size_t offset;            /* offsetof(struct of the driver, field) */
    const char *default_text; /* parsed like a given value; NULL leaves the field zero */
    const char *help;
};

enum blk_driver_flag {
    BLK_DRIVER_FILTER = 1, /* stands on another device: `name?options,DEVICE` */
    BLK_DRIVER_URI = 2,    /* dev->argument is the whole spec, undecoded; the driver parses it */
    /* A filter that makes requests of its own opens the queue on dev->child itself, in
     * queue_open, and submits with blk_submit(). (Else the core opens it at the same depth, and
     * requests are passed on with blk_forward(), tag and all.) */
    BLK_DRIVER_OWN_CHILD_QUEUE = 4,
    /* A filter that never reads or writes data: it may also pass on requests whose memory this
     * program cannot touch, but the transport below can (zero copy). */
    BLK_DRIVER_NO_DATA = 8,
};

struct blk_driver {
    const char *name;     /* the scheme: letters, digits, '+', '-', '_' */
    const char *argument; /* what the argument is, for help ("SIZE"); NULL if there is none */
    const char *summary;  /* one line for help */
    unsigned flags;       /* enum blk_driver_flag */

    const struct blk_option *options; /* ends with a zero name; NULL if there are none */
    size_t priv_size;                 /* struct of the driver: dev->priv, zeroed */
    size_t queue_size;                /* struct of a queue: queue->priv, zeroed */
    size_t slot_size;                 /* struct of a request in flight: blk_slot() */

    /* Open: set dev->info (a filter finds a copy of its child's). At least size; what is left 0
     * gets a default. Returns 0, or a negative errno after blk_error_set(); the core adds the
     * name of the device. On an error close is not called. NULL: nothing to do. */
    int (*open)(struct blk *dev, struct blk_error *err);
    void (*close)(struct blk *dev);

    /* Any thread may call these, also at the same time. */
    int (*queue_open)(struct blk_queue *queue);
    void (*queue_close)(struct blk_queue *queue);

    /* Start n checked requests. Must not block or allocate. May call blk_complete() at once.
     * NULL in a filter: pass on. */
    void (*submit)(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n);

    /* Move requests along and blk_complete() those that are done. With a timeout other than 0,
     * return only when at least one was completed or the time has passed. NULL: submit completes
     * everything itself (in a filter: completions of the child are passed on unchanged). */
    void (*progress)(struct blk_queue *queue, int64_t timeout);

    /* A filter's way to see or change a request on its way back; the core then completes it with
     * req->result. For filters whose progress is NULL. */
    void (*done)(struct blk_queue *queue, struct blk_req *req);

    /* See blk_queue_poll(); poll is preset to "no fd, forever". NULL: the child's, or nothing to
     * wait for. */
    void (*poll)(struct blk_queue *queue, struct blk_poll *poll);

    /* Make memory of blk_buf_alloc() known to the transport, and forget it. Best effort: requests
     * work with any memory. NULL: the child's. */
    void (*buf_register)(struct blk_queue *queue, void *memory, size_t size);
    void (*buf_unregister)(struct blk_queue *queue, void *memory);

    /* See blk_report(). */
    void (*report)(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg);
};

/* A device as its driver sees it. */
struct blk {
    const struct blk_driver *driver;
    struct blk *child;    /* of a filter */
    void *priv;           /* driver->priv_size bytes */
    const char *argument; /* decoded; "" if none was given */
    unsigned open_flags;  /* enum blk_open_flag */
    struct blk_info info;
    struct blk_core *core; /* the core's own part */
};

/* A queue as its driver sees it. */
struct blk_queue {
    struct blk *dev;
    struct blk_queue *child; /* of a filter, unless BLK_DRIVER_OWN_CHILD_QUEUE */
    void *priv;              /* driver->queue_size bytes */
    unsigned depth;

    /* The core's own part. */
    unsigned in_flight;
    unsigned free_tags;
    uint32_t *tags; /* stack of free tags */
    char *slots;    /* depth * slot_size bytes */
    size_t slot_size;
    struct blk_req *ready; /* completed, not yet reaped: first in, first out */
    struct blk_req **ready_tail;
    void *bounce;         /* for byte I/O that does not suit the device; made when needed */
    struct blk_buf *bufs; /* of blk_buf_alloc() */
};

/* The driver's struct for this request: slot_size bytes, not cleared between requests. */
static inline void *blk_slot(struct blk_queue *queue, const struct blk_req *req)
{
    return queue->slots + (size_t)req->tag * queue->slot_size;
}

/* A request is done: exactly once for each that submit was given, from the queue's thread. */
static inline void blk_complete(struct blk_queue *queue, struct blk_req *req, int result)
{
    req->result = result;
    req->next = NULL;
    *queue->ready_tail = req;
    queue->ready_tail = &req->next;
}

/* Take the oldest completion from a queue; NULL if none waits. For filters. */
static inline struct blk_req *blk_take(struct blk_queue *queue)
{
    struct blk_req *req = queue->ready;
    if (req) {
        queue->ready = req->next;
        if (!queue->ready)
            queue->ready_tail = &queue->ready;
    }
    return req;
}

/* Pass requests on to the child. They keep their tags, so nothing else may be submitted to this
 * child queue. A filter that changed a request puts it back as it was before blk_complete(). */
ASHLAR_API void blk_forward(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n);

/* Move the child's requests along and wait as progress does; completions are taken with
 * blk_take(queue->child). */
ASHLAR_API void blk_forward_progress(struct blk_queue *queue, int64_t timeout);

/* Copy between a flat buffer and the data of a request. */
ASHLAR_API void blk_copy_to_iov(const struct iovec *iov, unsigned niov, size_t skip,
                                const void *data, size_t len);
ASHLAR_API void blk_copy_from_iov(const struct iovec *iov, unsigned niov, size_t skip, void *data,
                                  size_t len);

/* Answer a BLK_STATUS request with one extent. */
ASHLAR_API void blk_status_one(struct blk_req *req, uint64_t len, unsigned flags);

/* Set the message and return error, which is a negative errno. err may be NULL. */
ASHLAR_API int blk_error_set(struct blk_error *err, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Parse the text forms of options, whole string. 0 or -EINVAL, -ERANGE. */
ASHLAR_API int blk_parse_size(const char *text, uint64_t *value);
ASHLAR_API int blk_parse_time(const char *text, uint64_t *ns);

#ifdef __cplusplus
}
#endif

#endif
