#include "blk/cache.h"

#include <string.h>

/* ---- blocks and requests --------------------------------------------------------------- */

uint64_t cache_block_bytes(const struct blk *dev, uint64_t first, unsigned count)
{
    const struct cache *c = dev->priv;
    return min_u64(count * c->block, dev->info.size - first * c->block);
}

/* Whether a write-zeroes or discard is under way in these bytes. */
bool cache_in_ranges(const struct cache *c, uint64_t start, uint64_t end)
{
    struct list *node;
    list_for_each(node, &c->ranges)
    {
        if (cache_overlaps(container_of(node, struct cache_slot, range), start, end))
            return true;
    }
    return false;
}

bool cache_may_store(const struct cache *c, const struct cache_entry *e)
{
    return e && e->dirty && !e->writing &&
           (list_empty(&c->ranges) ||
            !cache_in_ranges(c, e->block * c->block, (e->block + 1) * c->block));
}

/* ---- I/Os ------------------------------------------------------------------------------ */

struct cache_io *cache_io_take(struct cache_queue *q, struct blk_req *owner,
                               enum cache_io_kind kind)
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
void cache_io_start(struct blk_queue *queue, struct cache_io *io)
{
    struct cache_queue *q = queue->priv;
    struct cache_slot *s = blk_slot(queue, io->owner);
    struct blk_req *r = &io->req;
    r->user = io;
    s->ios++;
    blk_submit(q->child, &r, 1);
}

/* Read count blocks that are not in the cache. */
void cache_io_load(struct blk_queue *queue, struct cache_io *io)
{
    uint64_t offset = io->first * ((struct cache *)queue->dev->priv)->block;
    blk_req_read(&io->req, offset, io->buffer, cache_block_bytes(queue->dev, io->first, io->count));
    cache_io_start(queue, io);
}

/* Under the lock: copy a run of dirty blocks, from e on, that are to be written. */
void cache_io_take_run(struct cache *c, struct cache_io *io, struct cache_entry *e)
{
    io->first = e->block;
    for (io->count = 0; io->count < c->run && cache_may_store(c, e);) {
        memcpy(io->buffer + io->count * c->block, cache_map_data(&c->map, e), c->block);
        cache_map_begin_write(&c->map, e, io->owner);
        io->count++;
        e = cache_map_find(&c->map, io->first + io->count);
    }
    c->written += io->count;
}

void cache_io_store(struct blk_queue *queue, struct cache_io *io, unsigned flags)
{
    uint64_t offset = io->first * ((struct cache *)queue->dev->priv)->block;
    blk_req_write(&io->req, offset, io->buffer,
                  cache_block_bytes(queue->dev, io->first, io->count));
    io->req.flags = (uint8_t)flags;
    cache_io_start(queue, io);
}

void cache_queue_request(struct cache_queue *q, struct blk_req *r, struct cache_slot *s)
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
    if (io->kind == CACHE_LOAD && io->req.result == 0)
        end_load(queue, io);
    else if (io->kind == CACHE_STORE)
        end_store(queue->dev->priv, io);
    else if (io->kind == CACHE_OTHER && io->req.op != BLK_FLUSH)
        end_range(queue->dev->priv, s, &io->req);
    if (!s->error)
        s->error = io->req.result;
    s->ios--;
    cache_queue_request(q, io->owner, s);
    cache_io_give(q, io);
}

/* Take what the device has completed; busy is held. */
void cache_collect(struct cache_queue *q, int64_t timeout)
{
    struct blk_req *done[CACHE_IOS_MAX];
    unsigned n = blk_reap(q->child, done, CACHE_IOS_MAX, timeout);
    for (unsigned i = 0; i < n; i++)
        end_io(q->queue, done[i]->user);
}
