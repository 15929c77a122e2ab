/*
 * ashlar/blk.h: the one block-device interface of Ashlar.
 *
 * Everything that stores blocks is a `struct blk`; everything that uses blocks asks only this.
 *
 * The model: a device is opened from a spec (a line of text that names it). A thread opens a
 * queue on the device, submits batches of requests and reaps completions:
 *
 *     struct blk *dev;
 *     struct blk_queue *q;
 *     struct blk_error err;
 *     if (blk_open("file:disk.img?direct=on", 0, &dev, &err) < 0)
 *         die(err.text);
 *     blk_queue_open(dev, 32, &q);
 *     struct blk_req req, *r = &req;
 *     blk_req_read(&req, 0, buf, 4096);
 *     blk_submit(q, &r, 1);
 *     blk_reap(q, &r, 1, BLK_FOREVER);     // r->result is 0 or a negative errno
 *     blk_queue_close(q);
 *     blk_close(dev);
 *
 * Units: every offset and length is in bytes, every time in nanoseconds.
 * Errors: negative errno values, in a completion or as a return value.
 * Threads: a device may be used by any number of threads; a queue by one thread at a time.
 * Rule: each request that blk_submit() accepted comes back from blk_reap() exactly once.
 */
#ifndef ASHLAR_BLK_H
#define ASHLAR_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __STDC_HOSTED__
#include <sys/uio.h>
#else
struct iovec {
    void *iov_base;
    size_t iov_len;
};
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define ASHLAR_API __attribute__((visibility("default")))

struct blk;
struct blk_queue;
struct blk_driver;

/* ---- requests -------------------------------------------------------------------------- */

enum blk_op {
    BLK_READ,         /* fill iov from [offset, offset+len) */
    BLK_WRITE,        /* store iov at [offset, offset+len) */
    BLK_FLUSH,        /* make every write that completed before this was submitted durable */
    BLK_DISCARD,      /* the range is no longer needed; its contents become undefined */
    BLK_WRITE_ZEROES, /* the range reads as zeroes; space may be freed unless BLK_NO_UNMAP */
    BLK_STATUS,       /* fill iov with struct blk_extent entries that describe the range */
    /* Zoned devices only (others answer -ENOTSUP). Names of the NVMe Zoned Namespace Command
     * Set specification, sections "Zone Append", "Zone Management Send" and "... Receive"; errors
     * and helpers: ashlar/zone.h. offset is the first byte of a zone (else -EINVAL), len does not
     * matter, unless it says otherwise. */
    BLK_ZONE_APPEND, /* write len bytes of iov at the write pointer of the zone that starts at
                        offset; on success offset says where the data landed, on an error it is as
                        it was. -E2BIG: over info.max_append */
    BLK_ZONE_REPORT, /* fill iov (one entry) with struct blk_zone entries, as many as fit whole,
                        from the zone that holds offset on; count says how many there are, at least
                        1 */
    BLK_ZONE_OPEN,   /* to explicitly open; all: every closed zone, or none if there are too many */
    BLK_ZONE_CLOSE,  /* an open zone; all: every open zone */
    BLK_ZONE_FINISH, /* to full; all: every open or closed zone. Durable when it completes */
    BLK_ZONE_RESET,  /* to empty; all: every open, closed or full zone. Durable when it completes */
    BLK_OP_COUNT
};

enum blk_req_flag {
    BLK_FUA = 1,       /* WRITE, WRITE_ZEROES, ZONE_APPEND: durable when it completes */
    BLK_NO_UNMAP = 2,  /* WRITE_ZEROES: keep the space allocated */
    BLK_FAST_ZERO = 4, /* WRITE_ZEROES: -ENOTSUP unless it is faster than writing zeroes */
    BLK_ZONE_ALL = 8,  /* ZONE_OPEN, CLOSE, FINISH, RESET: all zones that it makes sense for; offset
                          is ignored. If some fail: the error of the first, the others are done */
};

/*
 * One request. The caller owns it, and the memory that iov points to, from before blk_submit()
 * until blk_reap() hands it back; in between it must be neither read nor changed nor moved. A
 * request needs no clean-up and may be used again at once. Transfers are whole or failed: there
 * are no short reads or writes.
 */
struct blk_req {
    uint8_t op;              /* enum blk_op */
    uint8_t flags;           /* enum blk_req_flag */
    uint16_t niov;           /* number of entries of iov; 0 for operations without data */
    uint32_t tag;            /* the queue's: unique among its requests in flight, < depth */
    uint64_t offset;         /* multiple of block_size */
    uint64_t len;            /* multiple of block_size, > 0; for READ, WRITE and ZONE_APPEND the
                                sum of the iov lengths */
    const struct iovec *iov; /* data, or the array to fill for STATUS and ZONE_REPORT */
    struct iovec one;        /* storage for the common case of one buffer */
    void *user;              /* the caller's; never touched */
    int32_t result;          /* on completion: 0 or a negative errno */
    uint32_t count;          /* on completion of STATUS and ZONE_REPORT: entries filled */
    struct blk_req *next;    /* the queue's, while in flight */
};

/* A run of bytes with one allocation state. Extents are in order, without gaps, from the
 * request's offset; they may end before the end of the range (ask again), and the last may reach
 * beyond it. Always at least one. */
enum blk_extent_flag {
    BLK_EXTENT_HOLE = 1, /* no space is allocated */
    BLK_EXTENT_ZERO = 2, /* reads as zeroes */
};
struct blk_extent {
    uint64_t len;
    uint32_t flags; /* enum blk_extent_flag; 0 is allocated data */
    uint32_t reserved;
};

/* Zone states of the NVMe Zoned Namespace Command Set, section "Zone State Machine". */
enum blk_zone_state {
    BLK_ZONE_EMPTY = 1,
    BLK_ZONE_IMPLICIT_OPEN = 2,
    BLK_ZONE_EXPLICIT_OPEN = 3,
    BLK_ZONE_CLOSED = 4,
    BLK_ZONE_READ_ONLY = 13,
    BLK_ZONE_FULL = 14,
    BLK_ZONE_OFFLINE = 15,
    BLK_ZONE_NO_WP = 16, /* conventional zone: no write pointer */
};
struct blk_zone {
    uint64_t start;    /* first byte of the zone */
    uint64_t len;      /* zone size */
    uint64_t capacity; /* writable bytes from start; of a conventional zone len */
    uint64_t wp;       /* write pointer: the byte of the device where the next write goes; start +
                          len if FULL, OFFLINE or NO_WP; of READ_ONLY where it stopped */
    uint32_t state;    /* enum blk_zone_state */
    uint32_t reserved;
};

/* Fill a request with one contiguous buffer, or none. The caller may set flags and user after. */
static inline void blk_req_init(struct blk_req *r, enum blk_op op, uint64_t offset, uint64_t len)
{
    r->op = (uint8_t)op;
    r->flags = 0;
    r->niov = 0;
    r->offset = offset;
    r->len = len;
    r->iov = NULL;
    r->count = 0;
}

static inline void blk_req_data(struct blk_req *r, enum blk_op op, uint64_t offset, void *data,
                                size_t len)
{
    blk_req_init(r, op, offset, len);
    r->one.iov_base = data;
    r->one.iov_len = len;
    r->iov = &r->one;
    r->niov = 1;
}

static inline void blk_req_read(struct blk_req *r, uint64_t offset, void *data, size_t len)
{
    blk_req_data(r, BLK_READ, offset, data, len);
}

static inline void blk_req_write(struct blk_req *r, uint64_t offset, const void *data, size_t len)
{
    blk_req_data(r, BLK_WRITE, offset, (void *)(uintptr_t)data, len);
}

/* "read", "write", "flush", "discard", "write-zeroes", ...; NULL if op is none of enum blk_op. */
ASHLAR_API const char *blk_op_name(unsigned op);

/* Whether the operation changes data or zones, so that a read-only device refuses it (-EROFS). */
ASHLAR_API bool blk_op_modifies(unsigned op);

/* ---- devices --------------------------------------------------------------------------- */

/* What a device can do. Constant from blk_open() to blk_close(). */
struct blk_info {
    uint64_t size;                /* multiple of block_size */
    uint32_t block_size;          /* logical block: unit of every request; a power of two, from 1 */
    uint32_t physical_block_size; /* smallest write without read-modify-write inside the device */
    uint32_t optimal_io;          /* preferred transfer size; at least physical_block_size */
    uint32_t max_transfer;        /* largest READ, WRITE, ZONE_APPEND */
    uint32_t max_iov;             /* largest niov */
    uint32_t buf_align;           /* address and length of each iov entry are multiples of this */
    uint32_t max_queues;          /* queues that may be open at the same time */
    uint32_t max_depth;           /* largest depth of a queue */
    uint32_t discard_granularity; /* 0: DISCARD answers -ENOTSUP */
    bool read_only;               /* operations that modify answer -EROFS */
    bool volatile_cache;          /* completed writes may be lost unless flushed or FUA */
    bool write_zeroes;            /* false: WRITE_ZEROES answers -ENOTSUP */
    bool fast_zero;               /* WRITE_ZEROES is faster than writing, with or without unmap */
    bool status;                  /* false: STATUS answers one extent of data */
    bool rotational;
    bool zoned;
    /* If zoned: */
    uint64_t zone_size;
    uint32_t zone_count;
    uint32_t max_open_zones;   /* 0: no limit */
    uint32_t max_active_zones; /* 0: no limit */
    uint32_t max_append;       /* largest ZONE_APPEND */
};

/* One line that names the device and says what is wrong and, where it can, what is right. */
struct blk_error {
    char text[512];
};

enum blk_open_flag {
    BLK_OPEN_READ_ONLY = 1, /* no write will be asked for, and none is possible */
};

/*
 * Open the device that spec names: `scheme:argument?option=value&option=value`, with filters
 * nested from the left: `stats,delay?read=1ms,file:disk.img`. docs/spec.md has the grammar; in an
 * argument or value `%XX` stands for the byte XX.
 *
 * Returns 0, or a negative errno with a message in *err (which may be NULL). The caller owns *dev
 * and ends it with blk_close(). -EINVAL: the spec is malformed; else the driver's error.
 */
ASHLAR_API int blk_open(const char *spec, unsigned flags, struct blk **dev, struct blk_error *err);

/* Close a device; all its queues must be closed: else -EBUSY and nothing happens. Nothing is
 * flushed: what no flush or FUA write made durable may be lost. */
ASHLAR_API int blk_close(struct blk *dev);

ASHLAR_API const struct blk_info *blk_info(const struct blk *dev);

/* The spec it was opened with. Valid until blk_close(). */
ASHLAR_API const char *blk_spec(const struct blk *dev);

/* The scheme of its driver. */
ASHLAR_API const char *blk_scheme(const struct blk *dev);

/* The device below a filter; NULL below the last. Valid until blk_close() of the filter. */
ASHLAR_API struct blk *blk_child(const struct blk *dev);

/* What a device has to tell of itself (the counts of `stats`, the hits of `cache`), line by line,
 * for it and all below it. May be called at any time; counts of queues in use may lag. */
ASHLAR_API void blk_report(const struct blk *dev, void (*line)(void *arg, const char *text),
                           void *arg);

/* ---- queues ---------------------------------------------------------------------------- */

#define BLK_FOREVER INT64_C(-1)

/*
 * Open a queue that holds up to depth requests in flight (1 to info.max_depth; 0 means a sensible
 * depth). All memory that requests will need is allocated here. -EBUSY: max_queues are open.
 */
ASHLAR_API int blk_queue_open(struct blk *dev, unsigned depth, struct blk_queue **queue);

/* Close a queue. -EBUSY if a request that was submitted has not been reaped. Buffers of
 * blk_buf_alloc() that were not freed are freed. */
ASHLAR_API int blk_queue_close(struct blk_queue *queue);

ASHLAR_API struct blk *blk_queue_device(const struct blk_queue *queue);
ASHLAR_API unsigned blk_queue_depth(const struct blk_queue *queue);

/* Requests submitted and not yet reaped. */
ASHLAR_API unsigned blk_queue_in_flight(const struct blk_queue *queue);

/*
 * Submit a batch. Never blocks, never allocates. Returns how many were accepted, from the front:
 * fewer than n only when the queue is full. Accepted requests start at once, in no given order.
 * A request that breaks a rule is accepted and completes with an error: -EINVAL (alignment, length
 * 0, iov), -E2BIG (over max_transfer or max_iov), -ERANGE (reaches past the end of the device),
 * -EROFS, -ENOTSUP.
 */
ASHLAR_API unsigned blk_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n);

/*
 * Reap up to max completions into done. With timeout 0 it only looks; else it waits up to timeout
 * nanoseconds (or BLK_FOREVER) for at least one. Returns how many; 0 if the time passed or nothing
 * is in flight.
 */
ASHLAR_API unsigned blk_reap(struct blk_queue *queue, struct blk_req **done, unsigned max,
                             int64_t timeout);

/* What a thread that waits for other things too must watch before it reaps again. */
struct blk_poll {
    int fd;          /* file descriptor, -1 if there is none */
    short events;    /* poll(2) events to wait for on fd */
    int64_t timeout; /* call blk_reap() after this many nanoseconds at the latest; 0: at once;
                        BLK_FOREVER: only the fd decides */
};
ASHLAR_API void blk_queue_poll(struct blk_queue *queue, struct blk_poll *poll);

/* Buffers that the device can reach best (registered with the kernel, or by DMA), aligned to a
 * page. Any memory may be used in requests; these may be faster. NULL if there is no memory. Free
 * with the queue they came from, while no request uses them. */
ASHLAR_API void *blk_buf_alloc(struct blk_queue *queue, size_t size);
ASHLAR_API void blk_buf_free(struct blk_queue *queue, void *buf);

/* ---- synchronous helpers --------------------------------------------------------------- */

/* Submit one request, wait for it, return its result. Other requests may be in flight on the
 * queue: their completions are kept for blk_reap(). -EAGAIN if the queue is full. */
ASHLAR_API int blk_execute(struct blk_queue *queue, struct blk_req *req);

/* The same for the common operations, aligned; lengths over the device's limits are split.
 * blk_write_zeroes() writes zeroes itself where the device cannot (but not with BLK_FAST_ZERO). */
ASHLAR_API int blk_read(struct blk_queue *queue, uint64_t offset, void *data, size_t len);
ASHLAR_API int blk_write(struct blk_queue *queue, uint64_t offset, const void *data, size_t len,
                         unsigned flags);
ASHLAR_API int blk_flush(struct blk_queue *queue);
ASHLAR_API int blk_discard(struct blk_queue *queue, uint64_t offset, uint64_t len);
ASHLAR_API int blk_write_zeroes(struct blk_queue *queue, uint64_t offset, uint64_t len,
                                unsigned flags);

/* Extents of [offset, offset+len): fills up to max, returns how many or a negative errno. */
ASHLAR_API int blk_status(struct blk_queue *queue, uint64_t offset, uint64_t len,
                          struct blk_extent *extents, unsigned max);

/*
 * Read or write any bytes of the device, at any offset, of any size, from any memory.
 *
 * When offset, size and memory suit the device there is no copy and no allocation. Else only the
 * blocks at the edges are read, changed and written back. Of all blk_write_bytes() calls on a
 * device, from any queue and thread, none loses bytes of another that share a block with it. (A
 * request by blk_submit() or blk_write() to the same block at the same time is not covered.)
 *
 * flags: BLK_FUA. Returns 0 or a negative errno; -ERANGE if offset+len is past the end or wraps.
 */
ASHLAR_API int blk_read_bytes(struct blk_queue *queue, uint64_t offset, void *data, size_t len);
ASHLAR_API int blk_write_bytes(struct blk_queue *queue, uint64_t offset, const void *data,
                               size_t len, unsigned flags);

/* ---- drivers --------------------------------------------------------------------------- */

/* Make a driver of your own known by its scheme, before devices are opened. The table stays the
 * caller's and must live on. -EEXIST: the scheme is taken; -ENOSPC: too many. How to write a
 * driver: ashlar/blk_driver.h and docs/driver.md. */
ASHLAR_API int blk_driver_register(const struct blk_driver *driver);

/* The known drivers, one after the other: NULL gives the first, the last gives NULL. */
ASHLAR_API const struct blk_driver *blk_driver_next(const struct blk_driver *driver);

#ifdef __cplusplus
}
#endif

#endif
