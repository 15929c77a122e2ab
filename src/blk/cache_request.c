#include "blk/cache.h"

#include <string.h>

/* How far a request got: see cache.c. */
enum state { DONE, IN_FLIGHT, NO_IO, STUCK, AGAIN };

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
    struct cache_io *io = cache_io_take(queue->priv, r, CACHE_LOAD);
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
        cache_io_give(q, io);
        return true;
    }
    s->done = min_u64((io->first + io->count) * c->block - r->offset, r->len);
    cache_io_load(queue, io);
    return true;
}

static enum state read_data(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    while (s->done < r->len)
        if (!read_hit(queue->dev->priv, r, s) && !read_miss(queue, r, s))
            return NO_IO;
    s->phase = CACHE_END;
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
    bool whole = p.len == cache_block_bytes(queue->dev, p.block, 1);
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
    struct cache_io *io = cache_io_take(queue->priv, r, CACHE_LOAD);
    if (!io)
        return NO_IO;
    base_mutex_lock(&c->lock);
    io->first = block;
    io->count = 1;
    io->stamp[0] = *cache_map_stamp(&c->map, block);
    c->misses += !s->loaded;
    base_mutex_unlock(&c->lock);
    s->loaded = true;
    cache_io_load(queue, io);
    return IN_FLIGHT;
}

/* Too much is dirty: write back the oldest that can be. */
static enum state make_room(struct blk_queue *queue, struct blk_req *r)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    struct cache_entry *e = NULL;
    struct list *node;
    struct cache_io *io = cache_io_take(q, r, CACHE_STORE);
    if (!io)
        return NO_IO;
    base_mutex_lock(&c->lock);
    list_for_each(node, &c->map.dirty)
    {
        e = container_of(node, struct cache_entry, node);
        if (cache_may_store(c, e))
            break;
        e = NULL;
    }
    if (e)
        cache_io_take_run(c, io, e);
    base_mutex_unlock(&c->lock);
    if (e) {
        cache_io_store(queue, io, 0);
        return IN_FLIGHT;
    }
    cache_io_give(q, io);
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
    s->phase = r->flags & BLK_FUA ? CACHE_SYNC : CACHE_END;
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
            return cache_may_store(c, e) ? e : NULL;
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
            return cache_may_store(c, e) ? e : NULL;
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
        struct cache_io *io = cache_io_take(q, r, CACHE_STORE);
        if (!io)
            return NO_IO;
        base_mutex_lock(&c->lock);
        struct cache_entry *e =
            r->op == BLK_FLUSH ? next_of_flush(c, r, s, &state) : next_of_fua(c, r, s, &state);
        if (e)
            cache_io_take_run(c, io, e);
        base_mutex_unlock(&c->lock);
        if (!e) {
            cache_io_give(q, io);
            break;
        }
        cache_io_store(queue, io, r->flags & BLK_FUA);
    }
    if (state == STUCK)
        return STUCK;
    if (s->ios)
        return IN_FLIGHT; /* and then look again */
    s->phase = r->op == BLK_FLUSH || s->needs_flush ? CACHE_DEVICE : CACHE_END;
    return AGAIN;
}

/* ---- write-zeroes and discard ---------------------------------------------------------- */

/* Keep others from writing blocks of the range back. */
static enum state enter_range(struct cache *c, struct cache_slot *s)
{
    base_mutex_lock(&c->lock);
    bool taken = cache_in_ranges(c, s->start, s->end);
    if (!taken)
        list_push_back(&c->ranges, &s->range);
    base_mutex_unlock(&c->lock);
    if (taken)
        return STUCK;
    s->phase = CACHE_WAIT;
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
        writing |= cache_overlaps(s, start, start + c->block);
    }
    base_mutex_unlock(&c->lock);
    if (writing)
        return STUCK;
    s->phase = CACHE_DEVICE;
    return AGAIN;
}

static enum state device_part(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    struct cache_io *io = cache_io_take(queue->priv, r, CACHE_OTHER);
    if (!io)
        return NO_IO;
    if (r->op == BLK_WRITE || r->op == BLK_FLUSH) {
        blk_req_init(&io->req, BLK_FLUSH, 0, 0);
    } else {
        blk_req_init(&io->req, r->op, r->offset, r->len);
        io->req.flags = r->flags;
    }
    s->phase = CACHE_END;
    cache_io_start(queue, io);
    return IN_FLIGHT;
}

/* ---- the state machine ----------------------------------------------------------------- */

static enum state step(struct blk_queue *queue, struct blk_req *r, struct cache_slot *s)
{
    switch (s->phase) {
    case CACHE_DATA:
        return r->op == BLK_READ ? read_data(queue, r, s) : write_data(queue, r, s);
    case CACHE_SYNC:
        return sync_data(queue, r, s);
    case CACHE_ENTER:
        return enter_range(queue->dev->priv, s);
    case CACHE_WAIT:
        return wait_for_range(queue->dev->priv, s);
    case CACHE_DEVICE:
        return device_part(queue, r, s);
    case CACHE_END:
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
        cache_queue_request(q, r, s);
    q->stuck |= state == STUCK;
}

void cache_begin(struct blk_queue *queue, struct blk_req *r)
{
    struct cache *c = queue->dev->priv;
    struct cache_slot *s = blk_slot(queue, r);
    *s = (struct cache_slot){.phase = CACHE_DATA, .start = r->offset, .end = r->offset + r->len};
    if (r->op == BLK_FLUSH) {
        s->phase = CACHE_SYNC;
        base_mutex_lock(&c->lock);
        s->tick = c->map.tick++;
        base_mutex_unlock(&c->lock);
    } else if (r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES) {
        s->phase = CACHE_ENTER;
    }
    advance(queue, r);
}

/* Each request in todo once. */
void cache_advance_all(struct blk_queue *queue)
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
