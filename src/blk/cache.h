/* blk/cache.h: what the files of the cache share. cache.c says how it works; cache_map.c knows the
 * blocks, cache_io.c what goes to the device and comes back, cache_request.c what becomes of each
 * request. */
#ifndef BLK_CACHE_H
#define BLK_CACHE_H

#include <ashlar/blk_driver.h>

#include "base/platform.h"
#include "blk/cache_map.h"

#define CACHE_RUN_MAX   16          /* blocks of one I/O */
#define CACHE_RUN_BYTES (64u << 10) /* but about so many bytes */
#define CACHE_IOS_MAX   32          /* of one queue */

struct cache {
    uint64_t size, block; /* options */
    unsigned run;         /* blocks of one I/O */
    unsigned ios;         /* of a queue */

    struct base_mutex lock; /* guards the following; held for one block, or one run, at a time */
    struct cache_map map;
    struct list ranges; /* of struct cache_slot: write-zeroes and discards that have begun */
    uint64_t hits, misses, written;

    struct base_mutex queues_lock; /* guards queues; taken before a queue's busy */
    struct list queues;            /* of struct cache_queue: the open ones */
};

enum cache_io_kind {
    CACHE_LOAD,  /* read blocks for a request, and into the cache */
    CACHE_STORE, /* write dirty blocks back */
    CACHE_OTHER, /* flush, write-zeroes, discard */
};

/* An I/O on the device. Belongs to its queue. */
struct cache_io {
    struct blk_req req;    /* its user is this */
    struct cache_io *next; /* in the list of free ones */
    struct blk_req *owner; /* the request that it is done for */
    enum cache_io_kind kind;
    uint64_t first; /* number of the first block */
    unsigned count;
    uint64_t stamp[CACHE_RUN_MAX]; /* CACHE_LOAD: see cache_map.h */
    char *buffer;                  /* of run blocks */
};

/* All of it, the slots, and the child queue are guarded by busy: the queue's thread takes it for a
 * call, a thread that helps for a moment if it is free. */
struct cache_queue {
    bool busy;        /* atomic */
    bool stuck;       /* a request in todo waits for another queue */
    struct list node; /* in cache.queues */
    struct blk_queue *queue;
    struct blk_queue *child;
    struct cache_io *io;
    struct cache_io *free;
    char *buffers;
    struct blk_req *todo; /* requests to advance, first in, first out */
    struct blk_req **todo_tail;
};

enum cache_phase {
    CACHE_DATA,   /* read; write: the cache's part */
    CACHE_SYNC,   /* write back: all for a flush, its own blocks for FUA */
    CACHE_ENTER,  /* write-zeroes, discard: wait for others in the same range */
    CACHE_WAIT,   /* then for blocks of it that are being written */
    CACHE_DEVICE, /* the device's part of flush, write-zeroes, discard */
    CACHE_END,
};

struct cache_slot {
    enum cache_phase phase;
    int error;         /* the first; it ends the request when nothing is in flight for it */
    unsigned ios;      /* in flight for it */
    bool queued;       /* in todo */
    bool loaded;       /* the block was just read for this write: not a hit */
    bool needs_flush;  /* FUA: a block was written back by another, without FUA */
    uint64_t done;     /* CACHE_DATA, CACHE_SYNC: bytes of the request that are taken care of */
    uint64_t tick;     /* flush: blocks up to this tick are to be written */
    struct list range; /* in cache.ranges, from CACHE_ENTER to the end of CACHE_DEVICE */
    uint64_t start, end;
};

static inline bool cache_overlaps(const struct cache_slot *s, uint64_t start, uint64_t end)
{
    return start < s->end && s->start < end;
}

static inline void cache_io_give(struct cache_queue *q, struct cache_io *io)
{
    io->next = q->free;
    q->free = io;
}

/* ---- cache_io.c ------------------------------------------------------------------------ */

/* Bytes of count blocks from the first on; the device's last block may be shorter. */
uint64_t cache_block_bytes(const struct blk *dev, uint64_t first, unsigned count);

/* Under the lock: whether a write-zeroes or discard is under way in these bytes; whether a block
 * may be written back now. */
bool cache_in_ranges(const struct cache *c, uint64_t start, uint64_t end);
bool cache_may_store(const struct cache *c, const struct cache_entry *e);

/* An I/O for a request; NULL if all are in flight. It is started, or given back. */
struct cache_io *cache_io_take(struct cache_queue *q, struct blk_req *owner,
                               enum cache_io_kind kind);
void cache_io_start(struct blk_queue *queue, struct cache_io *io);
/* Read its blocks, which are not in the cache. */
void cache_io_load(struct blk_queue *queue, struct cache_io *io);
/* Under the lock: copy a run of dirty blocks, from e on; then write them back. */
void cache_io_take_run(struct cache *c, struct cache_io *io, struct cache_entry *e);
void cache_io_store(struct blk_queue *queue, struct cache_io *io, unsigned flags);

/* Have a request advanced. */
void cache_queue_request(struct cache_queue *q, struct blk_req *r, struct cache_slot *s);

/* Take what the device has completed; busy is held. */
void cache_collect(struct cache_queue *q, int64_t timeout);

/* ---- cache_request.c ------------------------------------------------------------------- */

/* A new request; each request in todo once. */
void cache_begin(struct blk_queue *queue, struct blk_req *r);
void cache_advance_all(struct blk_queue *queue);

#endif
