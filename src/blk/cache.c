/*
 * cache?size=64M,DEVICE - a write-back cache in bounded memory, shared by all queues of the device.
 *
 * Writes go to the cache (cache_map.h) and complete; reads come from it or are read into it. A
 * flush writes all blocks back that were dirty when it was submitted, then flushes the device. A
 * FUA write is a write that also writes its blocks back with FUA. When too much is dirty, a write
 * first writes the oldest back. A block whose write failed stays dirty, and whoever asked (the
 * flush, or the write that needed room) gets the error; the next flush tries again.
 *
 * Each request is a small state machine in its slot; advance() takes it as far as it goes. What it
 * asks of the device goes out in one of the queue's I/Os, through the I/O's own buffer. What is
 * being written was copied, so that a block can be read and written at any time. A request waits
 * only for these:
 *
 *     an I/O of its own, or one to become free       IN_FLIGHT, NO_IO
 *     another's write of the same block, so that     STUCK
 *     the newer data arrives last
 *     another's write-zeroes or discard of the       STUCK
 *     same range, for the same reason
 *
 * The last two may be in another queue, whose thread may not come back for a long time (it may be
 * the same thread). So a thread that is stuck also moves the I/Os of the other queues along; the
 * requests themselves are completed by the queue's own thread.
 *
 * When the device is closed, dirty blocks are written back, but not flushed: what was written is
 * then where it would be without the cache.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "blk/cache_map.h"

#define RUN_MAX   16          /* blocks of one I/O */
#define RUN_BYTES (64u << 10) /* but about so many bytes */
#define IOS_MAX   32          /* of one queue */
#define RETRY_NS  50000       /* how soon a request that is stuck looks again */
#define POLL_MAX  1000000     /* a helper may take what the file descriptor would have told */

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

enum kind {
    LOAD,  /* read blocks for a request, and into the cache */
    STORE, /* write dirty blocks back */
    OTHER, /* flush, write-zeroes, discard */
};

/* An I/O on the device. Belongs to its queue. */
struct cache_io {
    struct blk_req req;    /* its user is this */
    struct cache_io *next; /* in the list of free ones */
    struct blk_req *owner; /* the request that it is done for */
    enum kind kind;
    uint64_t first; /* number of the first block */
    unsigned count;
    uint64_t stamp[RUN_MAX]; /* LOAD: see cache_map.h */
    char *buffer;            /* of run blocks */
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

enum phase {
    DATA,   /* read; write: the cache's part */
    SYNC,   /* write back: all for a flush, its own blocks for FUA */
    ENTER,  /* write-zeroes, discard: wait for others in the same range */
    WAIT,   /* then for blocks of it that are being written */
    DEVICE, /* the device's part of flush, write-zeroes, discard */
    END,
};

struct cache_slot {
    enum phase phase;
    int error;         /* the first; it ends the request when nothing is in flight for it */
    unsigned ios;      /* in flight for it */
    bool queued;       /* in todo */
    bool loaded;       /* the block was just read for this write: not a hit */
    bool needs_flush;  /* FUA: a block was written back by another, without FUA */
    uint64_t done;     /* DATA, SYNC: bytes of the request that are taken care of */
    uint64_t tick;     /* flush: blocks up to this tick are to be written */
    struct list range; /* in cache.ranges, from ENTER to the end of DEVICE */
    uint64_t start, end;
};

enum state { DONE, IN_FLIGHT, NO_IO, STUCK, AGAIN };

/* ---- blocks and requests --------------------------------------------------------------- */

static uint64_t block_bytes(const struct blk *dev, uint64_t first, unsigned count)
{
    const struct cache *c = dev->priv;
    return min_u64(count * c->block, dev->info.size - first * c->block);
}

/* The part of a request that lies in one block. */
struct part {
    uint64_t block;
    uint64_t into; /* where in the block */
    uint64_t len;
};

static struct part part_at(const struct cache *c, const struct blk_req *r, uint64_t done)
{
    uint64_t at = r->offset + done;
    uint64_t into = at & (c->block - 1);
    return (struct part){at / c->block, into, min_u64(c->block - into, r->len - done)};
}

static bool overlaps(const struct cache_slot *s, uint64_t start, uint64_t end)
{
    return start < s->end && s->start < end;
}

/* Whether a write-zeroes or discard is under way in these bytes. */
static bool in_ranges(const struct cache *c, uint64_t start, uint64_t end)
{
    struct list *node;
    list_for_each(node, &c->ranges)
    {
        if (overlaps(container_of(node, struct cache_slot, range), start, end))
            return true;
    }
    return false;
}

static bool may_store(const struct cache *c, const struct cache_entry *e)
{
    return e && e->dirty && !e->writing &&
           (list_empty(&c->ranges) ||
            !in_ranges(c, e->block * c->block, (e->block + 1) * c->block));
}

/* ---- I/Os ------------------------------------------------------------------------------ */

static struct cache_io *take_io(struct cache_queue *q, struct blk_req *owner, enum kind kind)
{
    struct cache_io *io = q->free;
    if (!io)
        return NULL;
    q->free = io->next;
    io->owner = owner;
    io->kind = kind;
    return io;
}

/* There is always room: the child queue is as deep as there are I/Os. */
static void start_io(struct blk_queue *queue, struct cache_io *io)
{
    struct cache_queue *q = queue->priv;
    struct cache_slot *s = blk_slot(queue, io->owner);
    struct blk_req *r = &io->req;
    r->user = io;
    s->ios++;
    blk_submit(q->child, &r, 1);
}

/* Read count blocks that are not in the cache. */
static void start_load(struct blk_queue *queue, struct cache_io *io)
{
    uint64_t offset = io->first * ((struct cache *)queue->dev->priv)->block;
    blk_req_read(&io->req, offset, io->buffer, block_bytes(queue->dev, io->first, io->count));
    start_io(queue, io);
}

/* Under the lock: copy a run of dirty blocks, from e on, that are to be written. */
static void take_run(struct cache *c, struct cache_io *io, struct cache_entry *e)
{
    io->first = e->block;
    for (io->count = 0; io->count < c->run && may_store(c, e);) {
        memcpy(io->buffer + io->count * c->block, cache_map_data(&c->map, e), c->block);
        cache_map_begin_write(&c->map, e, io->owner);
        io->count++;
        e = cache_map_find(&c->map, io->first + io->count);
    }
    c->written += io->count;
}

static void start_store(struct blk_queue *queue, struct cache_io *io, unsigned flags)
{
    uint64_t offset = io->first * ((struct cache *)queue->dev->priv)->block;
    blk_req_write(&io->req, offset, io->buffer, block_bytes(queue->dev, io->first, io->count));
    io->req.flags = (uint8_t)flags;
    start_io(queue, io);
}

static void queue_request(struct cache_queue *q, struct blk_req *r, struct cache_slot *s)
{
    if (s->queued)
        return;
    s->queued = true;
    r->next = NULL;
    *q->todo_tail = r;
    q->todo_tail = &r->next;
}

/* What was read goes to the request, if it is a read, and into the cache, unless it has changed
 * there or on the device since. */
static void end_load(struct blk_queue *queue, const struct cache_io *io)
{
    struct cache *c = queue->dev->priv;
    const struct blk_req *r = io->owner;
    uint64_t start = max_u64(io->first * c->block, r->offset);
    uint64_t end = min_u64((io->first + io->count) * c->block, r->offset + r->len);
    if (r->op == BLK_READ)
        blk_copy_to_iov(r->iov, r->niov, start - r->offset,
                        io->buffer + (start - io->first * c->block), end - start);
    base_mutex_lock(&c->lock);
    for (unsigned i = 0; i < io->count; i++) {
        uint64_t block = io->first + i;
        if (*cache_map_stamp(&c->map, block) != io->stamp[i] || cache_map_find(&c->map, block))
            continue;
        struct cache_entry *e = cache_map_insert(&c->map, block);
        if (e)
            memcpy(cache_map_data(&c->map, e), io->buffer + i * c->block, c->block);
    }
    base_mutex_unlock(&c->lock);
}

static void end_store(struct cache *c, const struct cache_io *io)
{
    base_mutex_lock(&c->lock);
    for (unsigned i = 0; i < io->count; i++)
        cache_map_end_write(&c->map, cache_map_find(&c->map, io->first + i), io->req.result == 0);
    base_mutex_unlock(&c->lock);
}

/* The device has done its part of a write-zeroes or discard: a cached block follows. If it failed,
 * what the device holds is unknown: clean blocks are read again. */
static void follow(struct cache *c, const struct cache_slot *s, struct cache_entry *e,
                   const struct blk_req *r)
{
    uint64_t first = e->block * c->block;
    uint64_t start = max_u64(first, s->start), end = min_u64(first + c->block, s->end);
    bool whole = end - start == c->block;
    if (start >= end)
        return;
    if (!e->dirty || (whole && r->result == 0))
        cache_map_drop(&c->map, e);
    else if (r->op == BLK_WRITE_ZEROES && r->result == 0)
        memset(cache_map_data(&c->map, e) + (start - first), 0, end - start);
}

static void end_range(struct cache *c, struct cache_slot *s, const struct blk_req *r)
{
    struct cache_map *m = &c->map;
    uint64_t first = s->start / c->block, last = (s->end - 1) / c->block;
    base_mutex_lock(&c->lock);
    if (last - first < m->used) {
        for (uint64_t block = first; block <= last; block++) {
            struct cache_entry *e = cache_map_find(m, block);
            if (e)
                follow(c, s, e, r);
        }
    } else {
        for (uint64_t i = 0; i < m->used; i++)
            if (m->entry[i].block != CACHE_FREE)
                follow(c, s, &m->entry[i], r);
    }
    cache_map_change_all(m);
    list_remove(&s->range);
    base_mutex_unlock(&c->lock);
}

static void end_io(struct blk_queue *queue, struct cache_io *io)
{
    struct cache_queue *q = queue->priv;
    struct cache_slot *s = blk_slot(queue, io->owner);
    if (io->kind == LOAD && io->req.result == 0)
        end_load(queue, io);
    else if (io->kind == STORE)
        end_store(queue->dev->priv, io);
    else if (io->kind == OTHER && io->req.op != BLK_FLUSH)
        end_range(queue->dev->priv, s, &io->req);
    if (!s->error)
        s->error = io->req.result;
    s->ios--;
    queue_request(q, io->owner, s);
    io->next = q->free;
    q->free = io;
}

/* Take what the device has completed; busy is held. */
static void collect(struct cache_queue *q, int64_t timeout)
{
    struct blk_req *done[IOS_MAX];
    unsigned n = blk_reap(q->child, done, IOS_MAX, timeout);
    for (unsigned i = 0; i < n; i++)
        end_io(q->queue, done[i]->user);
}

/* ---- reads ----------------------------------------------------------------------------- */

/* Copy one part out of the cache; false if it is not there. */
static bool read_hit(struct cache *c, const struct blk_req *r, struct cache_slot *s)
{
    struct part p = part_at(c, r, s->done);
    base_mutex_lock(&c->lock);
    struct cache_entry *e = cache_map_find(&c->map, p.block);
    if (e) {
        blk_copy_to_iov(r->iov, r->niov, s->done, cache_map_data(&c->map, e) + p.into, p.len);
        cache_map_touch(&c->map, e);
        c->hits++;
    }
    base_mutex_unlock(&c->lock);
    if (e)
        s->done += p.len;
    return e;
}

/* Read what is missing from here on, up to the next block that is there. */
static bool read_miss(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    struct cache *c = queue->dev->priv;
    struct cache_io *io = take_io(queue->priv, r, LOAD);
    uint64_t end = (r->offset + r->len + c->block - 1) / c->block;
    if (!io)
        return false;
    io->first = (r->offset + s->done) / c->block;
    base_mutex_lock(&c->lock);
    for (io->count = 0; io->count < c->run && io->first + io->count < end; io->count++) {
        if (cache_map_find(&c->map, io->first + io->count))
            break;
        io->stamp[io->count] = *cache_map_stamp(&c->map, io->first + io->count);
    }
    c->misses += io->count;
    base_mutex_unlock(&c->lock);
    if (!io->count) { /* another queue has brought it just now */
        struct cache_queue *q = queue->priv;
        io->next = q->free;
        q->free = io;
        return true;
    }
    s->done = min_u64((io->first + io->count) * c->block - r->offset, r->len);
    start_load(queue, io);
    return true;
}

static enum state read_data(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    while (s->done < r->len)
        if (!read_hit(queue->dev->priv, r, s) && !read_miss(queue, r, s))
            return NO_IO;
    s->phase = END;
    return AGAIN;
}

/* ---- writes ---------------------------------------------------------------------------- */

enum put { PUT, PUT_MISSING, PUT_FULL };

/* Copy one part into the cache. */
static enum put write_part(struct blk_queue *queue, const struct blk_req *r, struct cache_slot *s,
                           struct part p)
{
    struct cache *c = queue->dev->priv;
    struct cache_entry *e = cache_map_find(&c->map, p.block);
    bool whole = p.len == block_bytes(queue->dev, p.block, 1);
    if (!e && !whole)
        return PUT_MISSING;
    if (!cache_map_may_dirty(&c->map, e))
        return PUT_FULL;
    if (!s->loaded)
        ++*(e ? &c->hits : &c->misses);
    s->loaded = false;
    if (!e)
        e = cache_map_insert(&c->map, p.block);
    blk_copy_from_iov(r->iov, r->niov, s->done, cache_map_data(&c->map, e) + p.into, p.len);
    cache_map_dirty(&c->map, e);
    s->done += p.len;
    return PUT;
}

/* A write of a part of a block needs the rest of it. */
static enum state load_one(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s,
                           uint64_t block)
{
    struct cache *c = queue->dev->priv;
    struct cache_io *io = take_io(queue->priv, r, LOAD);
    if (!io)
        return NO_IO;
    base_mutex_lock(&c->lock);
    io->first = block;
    io->count = 1;
    io->stamp[0] = *cache_map_stamp(&c->map, block);
    c->misses += !s->loaded;
    base_mutex_unlock(&c->lock);
    s->loaded = true;
    start_load(queue, io);
    return IN_FLIGHT;
}

/* Too much is dirty: write back the oldest that can be. */
static enum state make_room(struct blk_queue *queue, struct blk_req *r)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    struct cache_entry *e = NULL;
    struct list *node;
    struct cache_io *io = take_io(q, r, STORE);
    if (!io)
        return NO_IO;
    base_mutex_lock(&c->lock);
    list_for_each(node, &c->map.dirty)
    {
        e = container_of(node, struct cache_entry, node);
        if (may_store(c, e))
            break;
        e = NULL;
    }
    if (e)
        take_run(c, io, e);
    base_mutex_unlock(&c->lock);
    if (e) {
        start_store(queue, io, 0);
        return IN_FLIGHT;
    }
    io->next = q->free;
    q->free = io;
    return STUCK;
}

static enum state write_data(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    struct cache *c = queue->dev->priv;
    while (s->done < r->len) {
        struct part p = part_at(c, r, s->done);
        base_mutex_lock(&c->lock);
        enum put put = write_part(queue, r, s, p);
        base_mutex_unlock(&c->lock);
        if (put == PUT_MISSING)
            return load_one(queue, r, s, p.block);
        if (put == PUT_FULL)
            return make_room(queue, r);
    }
    s->phase = r->flags & BLK_FUA ? SYNC : END;
    s->done = 0;
    return AGAIN;
}

/* ---- flush and FUA --------------------------------------------------------------------- */

/* Under the lock: the next block that the flush must write; NULL with STUCK if it must wait for
 * others, with DONE if it need not. */
static struct cache_entry *next_of_flush(const struct cache *c, const struct blk_req *r,
                                         const struct cache_slot *s, enum state *state)
{
    const struct cache_map *m = &c->map;
    struct list *node;
    *state = STUCK;
    if (!list_empty(&m->dirty)) {
        struct cache_entry *e = container_of(m->dirty.next, struct cache_entry, node);
        if (e->tick <= s->tick)
            return may_store(c, e) ? e : NULL;
    }
    list_for_each(node, &m->writing)
    {
        const struct cache_entry *e = container_of(node, struct cache_entry, node);
        if (e->writing_tick <= s->tick && e->writer != r)
            return NULL;
    }
    *state = DONE;
    return NULL;
}

/* The same for the blocks of a FUA write. */
static struct cache_entry *next_of_fua(const struct cache *c, const struct blk_req *r,
                                       struct cache_slot *s, enum state *state)
{
    *state = STUCK;
    while (s->done < r->len) {
        struct part p = part_at(c, r, s->done);
        struct cache_entry *e = cache_map_find(&c->map, p.block);
        bool own = e && e->writing && e->writer == r;
        if (e && e->writing && !own)
            return NULL;
        if (e && e->dirty && !own)
            return may_store(c, e) ? e : NULL;
        s->needs_flush |= !own;
        s->done += p.len;
    }
    *state = DONE;
    return NULL;
}

static enum state sync_data(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    enum state state;
    for (;;) {
        struct cache_io *io = take_io(q, r, STORE);
        if (!io)
            return NO_IO;
        base_mutex_lock(&c->lock);
        struct cache_entry *e =
            r->op == BLK_FLUSH ? next_of_flush(c, r, s, &state) : next_of_fua(c, r, s, &state);
        if (e)
            take_run(c, io, e);
        base_mutex_unlock(&c->lock);
        if (!e) {
            io->next = q->free;
            q->free = io;
            break;
        }
        start_store(queue, io, r->flags & BLK_FUA);
    }
    if (state == STUCK)
        return STUCK;
    if (s->ios)
        return IN_FLIGHT; /* and then look again */
    s->phase = r->op == BLK_FLUSH || s->needs_flush ? DEVICE : END;
    return AGAIN;
}

/* ---- write-zeroes and discard ---------------------------------------------------------- */

/* Keep others from writing blocks of the range back. */
static enum state enter_range(struct cache *c, struct cache_slot *s)
{
    base_mutex_lock(&c->lock);
    bool taken = in_ranges(c, s->start, s->end);
    if (!taken)
        list_push_back(&c->ranges, &s->range);
    base_mutex_unlock(&c->lock);
    if (taken)
        return STUCK;
    s->phase = WAIT;
    return AGAIN;
}

static enum state wait_for_range(struct cache *c, struct cache_slot *s)
{
    struct list *node;
    bool writing = false;
    base_mutex_lock(&c->lock);
    list_for_each(node, &c->map.writing)
    {
        uint64_t start = container_of(node, struct cache_entry, node)->block * c->block;
        writing |= overlaps(s, start, start + c->block);
    }
    base_mutex_unlock(&c->lock);
    if (writing)
        return STUCK;
    s->phase = DEVICE;
    return AGAIN;
}

static enum state device_part(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    struct cache_io *io = take_io(queue->priv, r, OTHER);
    if (!io)
        return NO_IO;
    if (r->op == BLK_WRITE || r->op == BLK_FLUSH) {
        blk_req_init(&io->req, BLK_FLUSH, 0, 0);
    } else {
        blk_req_init(&io->req, r->op, r->offset, r->len);
        io->req.flags = r->flags;
    }
    s->phase = END;
    start_io(queue, io);
    return IN_FLIGHT;
}

/* ---- the state machine ----------------------------------------------------------------- */

static enum state step(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    switch (s->phase) {
    case DATA:
        return r->op == BLK_READ ? read_data(queue, r, s) : write_data(queue, r, s);
    case SYNC:
        return sync_data(queue, r, s);
    case ENTER:
        return enter_range(queue->dev->priv, s);
    case WAIT:
        return wait_for_range(queue->dev->priv, s);
    case DEVICE:
        return device_part(queue, r, s);
    case END:
        break;
    }
    return s->ios ? IN_FLIGHT : DONE;
}

/* Take a request as far as it goes. An error ends it, once nothing is in flight for it. */
static void advance(struct blk_queue *queue, struct blk_req *r)
{
    struct cache_queue *q = queue->priv;
    struct cache_slot *s = blk_slot(queue, r);
    enum state state = AGAIN;
    while (state == AGAIN && !s->error)
        state = step(queue, r, s);
    if (s->error)
        state = s->ios ? IN_FLIGHT : DONE;
    if (state == DONE)
        blk_complete(queue, r, s->error);
    else if (state != IN_FLIGHT)
        queue_request(q, r, s);
    q->stuck |= state == STUCK;
}

static void begin(struct blk_queue *queue, struct blk_req *r)
{
    struct cache *c = queue->dev->priv;
    struct cache_slot *s = blk_slot(queue, r);
    *s = (struct cache_slot){.phase = DATA, .start = r->offset, .end = r->offset + r->len};
    if (r->op == BLK_FLUSH) {
        s->phase = SYNC;
        base_mutex_lock(&c->lock);
        s->tick = c->map.tick++;
        base_mutex_unlock(&c->lock);
    } else if (r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES) {
        s->phase = ENTER;
    }
    advance(queue, r);
}

/* Each request in todo once. */
static void advance_all(struct blk_queue *queue)
{
    struct cache_queue *q = queue->priv;
    struct blk_req *r = q->todo;
    q->todo = NULL;
    q->todo_tail = &q->todo;
    q->stuck = false;
    while (r) {
        struct blk_req *next = r->next;
        struct cache_slot *s = blk_slot(queue, r);
        s->queued = false;
        advance(queue, r);
        r = next;
    }
}

/* ---- the queue ------------------------------------------------------------------------- */

static bool try_enter(struct cache_queue *q)
{
    return !__atomic_exchange_n(&q->busy, true, __ATOMIC_ACQUIRE);
}

/* Whoever else is in is there for a moment: it only helps. */
static void enter(struct cache_queue *q)
{
    while (!try_enter(q))
        base_sleep_until_ns(base_now_ns() + 1000);
}

static void leave(struct cache_queue *q)
{
    __atomic_store_n(&q->busy, false, __ATOMIC_RELEASE);
}

/* Move the I/Os of the other queues along, so that what waits for them can go on. */
static void help(struct cache *c, const struct cache_queue *self)
{
    struct list *node;
    base_mutex_lock(&c->queues_lock);
    list_for_each(node, &c->queues)
    {
        struct cache_queue *q = container_of(node, struct cache_queue, node);
        if (q != self && try_enter(q)) {
            collect(q, 0);
            leave(q);
        }
    }
    base_mutex_unlock(&c->queues_lock);
}

static void cache_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    enter(queue->priv);
    for (unsigned i = 0; i < n; i++)
        begin(queue, reqs[i]);
    leave(queue->priv);
}

/* One round; wait up to timeout for the device, less if a request waits for something else. */
static void move(struct blk_queue *queue, int64_t timeout)
{
    struct cache_queue *q = queue->priv;
    if (q->todo && (timeout < 0 || timeout > RETRY_NS))
        timeout = RETRY_NS;
    if (blk_queue_in_flight(q->child))
        collect(q, timeout);
    else if (timeout)
        base_sleep_until_ns(base_now_ns() + (uint64_t)timeout);
    advance_all(queue);
    if (q->stuck)
        help(queue->dev->priv, q);
}

static void cache_progress(struct blk_queue *queue, int64_t timeout)
{
    struct cache_queue *q = queue->priv;
    uint64_t end = timeout > 0 ? base_now_ns() + (uint64_t)timeout : 0;
    enter(q);
    move(queue, 0);
    while (!queue->ready && timeout && (q->todo || blk_queue_in_flight(q->child))) {
        move(queue, timeout);
        if (timeout > 0) {
            uint64_t now = base_now_ns();
            timeout = now < end ? (int64_t)(end - now) : 0;
        }
    }
    leave(q);
}

static void cache_poll(struct blk_queue *queue, struct blk_poll *poll)
{
    struct cache_queue *q = queue->priv;
    enter(q);
    blk_queue_poll(q->child, poll);
    int64_t most = q->todo ? RETRY_NS : POLL_MAX;
    if (queue->in_flight && (poll->timeout < 0 || poll->timeout > most))
        poll->timeout = most;
    leave(q);
}

static void free_queue(struct cache_queue *q)
{
    base_free(q->buffers);
    base_free(q->io);
}

static int cache_queue_open(struct blk_queue *queue)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    unsigned ios = (unsigned)min_u64(c->ios, queue->depth);
    size_t size = c->run * c->block;
    q->queue = queue;
    q->todo_tail = &q->todo;
    q->io = base_alloc_array(ios, sizeof(*q->io));
    q->buffers = base_alloc_aligned(max_u64(BASE_PAGE, c->block), ios * size);
    int error = q->io && q->buffers ? blk_queue_open(queue->dev->child, ios, &q->child) : -ENOMEM;
    if (error < 0) {
        free_queue(q);
        return error;
    }
    for (unsigned i = 0; i < ios; i++) {
        q->io[i].buffer = q->buffers + i * size;
        q->io[i].next = q->free;
        q->free = &q->io[i];
    }
    base_mutex_lock(&c->queues_lock);
    list_push_back(&c->queues, &q->node);
    base_mutex_unlock(&c->queues_lock);
    return 0;
}

static void cache_queue_close(struct blk_queue *queue)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    base_mutex_lock(&c->queues_lock);
    list_remove(&q->node);
    base_mutex_unlock(&c->queues_lock);
    blk_queue_close(q->child);
    free_queue(q);
}

/* ---- the device ------------------------------------------------------------------------ */

static int cache_open(struct blk *dev, struct blk_error *err)
{
    struct cache *c = dev->priv;
    struct blk_info *i = &dev->info;
    if (i->zoned)
        return blk_error_set(err, -EINVAL, "a zoned device cannot be cached");
    c->block = max_u64(c->block, max_u64(i->block_size, i->buf_align));
    if (!is_pow2(c->block) || c->block > min_u64(1 << 20, i->max_transfer))
        return blk_error_set(err, -EINVAL, "block must be a power of two, at most %llu",
                             (unsigned long long)min_u64(1 << 20, i->max_transfer));
    if (c->size / c->block < 16 || c->size > (uint64_t)1 << 40)
        return blk_error_set(err, -EINVAL, "size must be from 16 blocks (%llu) to 1T",
                             (unsigned long long)c->block * 16);
    c->run = (unsigned)max_u64(1, min_u64(RUN_MAX, min_u64(RUN_BYTES, i->max_transfer) / c->block));
    c->ios = (unsigned)min_u64(IOS_MAX, i->max_depth);
    if (cache_map_init(&c->map, c->size / c->block, c->block) < 0)
        return blk_error_set(err, -ENOMEM, "no memory for the cache");
    base_mutex_init(&c->lock);
    base_mutex_init(&c->queues_lock);
    list_init(&c->ranges);
    list_init(&c->queues);
    i->volatile_cache = true;
    i->status = false; /* the device does not know what is dirty */
    i->buf_align = 1;
    i->max_iov = 1024;
    i->optimal_io = (uint32_t)max_u64(i->optimal_io, c->block);
    return 0;
}

/* Write back what is dirty. Nobody is left to be told of an error but the operator. */
static void write_back(struct blk *dev)
{
    struct cache *c = dev->priv;
    struct blk_queue *q = NULL;
    uint64_t lost = 0;
    int error = list_empty(&c->map.dirty) ? 0 : blk_queue_open(dev->child, 1, &q);
    struct list *node;
    list_for_each(node, &c->map.dirty)
    {
        const struct cache_entry *e = container_of(node, struct cache_entry, node);
        if (q)
            error = blk_write(q, e->block * c->block, cache_map_data(&c->map, e),
                              block_bytes(dev, e->block, 1), 0);
        lost += error < 0;
    }
    if (q)
        blk_queue_close(q);
    if (lost)
        base_log(BASE_LOG_ERROR, "%.200s: %llu dirty blocks of %llu bytes could not be written",
                 blk_spec(dev), (unsigned long long)lost, (unsigned long long)c->block);
}

static void cache_close(struct blk *dev)
{
    struct cache *c = dev->priv;
    write_back(dev);
    base_mutex_fini(&c->lock);
    base_mutex_fini(&c->queues_lock);
    cache_map_fini(&c->map);
}

static void cache_report(const struct blk *dev, void (*line)(void *arg, const char *text),
                         void *arg)
{
    struct cache *c = dev->priv;
    char text[256];
    base_mutex_lock(&c->lock);
    snprintf(text, sizeof(text),
             "cache: %llu hits, %llu misses, %llu of %llu blocks dirty, %llu written back, "
             "%llu evictions",
             (unsigned long long)c->hits, (unsigned long long)c->misses,
             (unsigned long long)c->map.unclean, (unsigned long long)c->map.capacity,
             (unsigned long long)c->written, (unsigned long long)c->map.evictions);
    base_mutex_unlock(&c->lock);
    line(arg, text);
}

static const struct blk_option cache_options[] = {
    {"size", BLK_OPT_SIZE, offsetof(struct cache, size), "64M", "memory for cached blocks"},
    {"block", BLK_OPT_SIZE, offsetof(struct cache, block), "4K",
     "unit of caching; at least the device's block size"},
    {0},
};

const struct blk_driver blk_cache = {
    .name = "cache",
    .summary = "a write-back cache in memory",
    .flags = BLK_DRIVER_FILTER | BLK_DRIVER_OWN_CHILD_QUEUE,
    .options = cache_options,
    .priv_size = sizeof(struct cache),
    .queue_size = sizeof(struct cache_queue),
    .slot_size = sizeof(struct cache_slot),
    .open = cache_open,
    .close = cache_close,
    .queue_open = cache_queue_open,
    .queue_close = cache_queue_close,
    .submit = cache_submit,
    .progress = cache_progress,
    .poll = cache_poll,
    .report = cache_report,
};
