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
#include "blk/cache.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#define RETRY_NS 50000   /* how soon a request that is stuck looks again */
#define POLL_MAX 1000000 /* a helper may take what the file descriptor would have told */

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
            cache_collect(q, 0);
            leave(q);
        }
    }
    base_mutex_unlock(&c->queues_lock);
}

static void cache_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    enter(queue->priv);
    for (unsigned i = 0; i < n; i++)
        cache_begin(queue, reqs[i]);
    leave(queue->priv);
}

/* One round; wait up to timeout for the device, less if a request waits for something else. */
static void move(struct blk_queue *queue, int64_t timeout)
{
    struct cache_queue *q = queue->priv;
    if (q->todo && (timeout < 0 || timeout > RETRY_NS))
        timeout = RETRY_NS;
    if (blk_queue_in_flight(q->child))
        cache_collect(q, timeout);
    else if (timeout)
        base_sleep_until_ns(base_now_ns() + (uint64_t)timeout);
    cache_advance_all(queue);
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
    c->run = (unsigned)max_u64(
        1, min_u64(CACHE_RUN_MAX, min_u64(CACHE_RUN_BYTES, i->max_transfer) / c->block));
    c->ios = (unsigned)min_u64(CACHE_IOS_MAX, i->max_depth);
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
                              cache_block_bytes(dev, e->block, 1), 0);
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
