/* The core's queues: every request passes through here on its way down and on its way up. */
#include "blk/core.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

/* A buffer of blk_buf_alloc(); the queue owns it. */
struct blk_buf {
    struct blk_buf *next;
    void *memory;
};

static void close_parts(struct blk_queue *q)
{
    base_free(q->bounce);
    base_free(q->tags);
    base_free(q->slots);
    base_free(q->priv);
    base_free(q);
}

/* Take one of the device's max_queues places. */
static int count_queue(struct blk *dev)
{
    if (__atomic_fetch_add(&dev->core->queues, 1, __ATOMIC_ACQ_REL) < dev->info.max_queues)
        return 0;
    __atomic_fetch_sub(&dev->core->queues, 1, __ATOMIC_ACQ_REL);
    return -EBUSY;
}

static int open_parts(struct blk_queue *q)
{
    const struct blk_driver *d = q->dev->driver;
    q->slot_size = round_up(d->slot_size, 16);
    q->priv = base_alloc(d->queue_size + 1);
    q->slots = base_alloc_array(q->depth, q->slot_size + 1);
    q->tags = base_alloc_array(q->depth, sizeof(*q->tags));
    if (!q->priv || !q->slots || !q->tags)
        return -ENOMEM;
    for (unsigned i = 0; i < q->depth; i++)
        q->tags[i] = q->depth - 1 - i;
    q->free_tags = q->depth;
    q->ready_tail = &q->ready;
    if ((d->flags & BLK_DRIVER_FILTER) && !(d->flags & BLK_DRIVER_OWN_CHILD_QUEUE)) {
        int error = blk_queue_open(q->dev->child, q->depth, &q->child);
        if (error < 0)
            return error;
    }
    int error = d->queue_open ? d->queue_open(q) : 0;
    if (error < 0 && q->child)
        blk_queue_close(q->child);
    return error;
}

int blk_queue_open(struct blk *dev, unsigned depth, struct blk_queue **queue)
{
    *queue = NULL;
    if (depth > dev->info.max_depth)
        return -EINVAL;
    int error = count_queue(dev);
    if (error < 0)
        return error;
    struct blk_queue *q = base_alloc(sizeof(*q));
    if (q) {
        q->dev = dev;
        q->depth = depth ? depth : (unsigned)min_u64(BLK_DEFAULT_DEPTH, dev->info.max_depth);
        error = open_parts(q);
    }
    if (!q || error < 0) {
        if (q)
            close_parts(q);
        __atomic_fetch_sub(&dev->core->queues, 1, __ATOMIC_ACQ_REL);
        return q ? error : -ENOMEM;
    }
    *queue = q;
    return 0;
}

int blk_queue_close(struct blk_queue *q)
{
    struct blk *dev = q->dev;
    if (q->in_flight)
        return -EBUSY;
    while (q->bufs)
        blk_buf_free(q, q->bufs->memory);
    if (dev->driver->queue_close)
        dev->driver->queue_close(q);
    if (q->child)
        blk_queue_close(q->child);
    close_parts(q);
    __atomic_fetch_sub(&dev->core->queues, 1, __ATOMIC_ACQ_REL);
    return 0;
}

struct blk *blk_queue_device(const struct blk_queue *queue)
{
    return queue->dev;
}

unsigned blk_queue_depth(const struct blk_queue *queue)
{
    return queue->depth;
}

unsigned blk_queue_in_flight(const struct blk_queue *queue)
{
    return queue->in_flight;
}

/* ---- the way down ---------------------------------------------------------------------- */

static int check_data(const struct blk_info *i, const struct blk_req *r, uint32_t max)
{
    uint64_t sum = 0;
    if (r->len > max || r->niov > i->max_iov)
        return -E2BIG;
    for (unsigned k = 0; k < r->niov; k++) {
        uintptr_t bits = (uintptr_t)r->iov[k].iov_base | r->iov[k].iov_len;
        if ((bits & (i->buf_align - 1)) || __builtin_add_overflow(sum, r->iov[k].iov_len, &sum))
            return -EINVAL;
    }
    return sum == r->len ? 0 : -EINVAL;
}

static int check_range(const struct blk_info *i, const struct blk_req *r)
{
    if (!r->len || ((r->offset | r->len) & (i->block_size - 1)))
        return -EINVAL;
    return range_ok(r->offset, r->len, i->size) ? 0 : -ERANGE;
}

static int check_array(const struct blk_req *r, size_t entry)
{
    return r->niov == 1 && r->iov[0].iov_len >= entry ? 0 : -EINVAL;
}

static int check_zone(const struct blk_info *i, const struct blk_req *r)
{
    if (!i->zoned)
        return -ENOTSUP;
    if ((r->flags & BLK_ZONE_ALL) && r->op > BLK_ZONE_REPORT)
        return 0;
    if (r->offset >= i->size)
        return -ERANGE;
    if (r->offset % i->zone_size && r->op != BLK_ZONE_REPORT)
        return -EINVAL;
    if (r->op == BLK_ZONE_REPORT)
        return check_array(r, sizeof(struct blk_zone));
    if (r->op != BLK_ZONE_APPEND)
        return 0;
    if (!r->len || r->len & (i->block_size - 1))
        return -EINVAL;
    return check_data(i, r, i->max_append);
}

static int check_flags(const struct blk_req *r)
{
    static const uint8_t allowed[BLK_OP_COUNT] = {
        [BLK_WRITE] = BLK_FUA,
        [BLK_WRITE_ZEROES] = BLK_FUA | BLK_NO_UNMAP | BLK_FAST_ZERO,
        [BLK_ZONE_APPEND] = BLK_FUA,
        [BLK_ZONE_OPEN] = BLK_ZONE_ALL,
        [BLK_ZONE_CLOSE] = BLK_ZONE_ALL,
        [BLK_ZONE_FINISH] = BLK_ZONE_ALL,
        [BLK_ZONE_RESET] = BLK_ZONE_ALL,
    };
    return r->flags & ~allowed[r->op] ? -EINVAL : 0;
}

/* The rules that hold for every device, checked once, at the top of the stack. */
static int check(const struct blk_info *i, const struct blk_req *r)
{
    if (r->op >= BLK_OP_COUNT || check_flags(r) < 0)
        return -EINVAL;
    if (i->read_only && blk_op_modifies(r->op))
        return -EROFS;
    if (r->op >= BLK_ZONE_APPEND)
        return check_zone(i, r);
    if (r->op == BLK_FLUSH)
        return 0;
    if (r->op == BLK_DISCARD && !i->discard_granularity)
        return -ENOTSUP;
    if (r->op == BLK_WRITE_ZEROES &&
        (!i->write_zeroes || ((r->flags & BLK_FAST_ZERO) && !i->fast_zero)))
        return -ENOTSUP;
    int error = check_range(i, r);
    if (error < 0)
        return error;
    if (r->op == BLK_READ || r->op == BLK_WRITE)
        return check_data(i, r, i->max_transfer);
    if (r->op == BLK_STATUS)
        return check_array(r, sizeof(struct blk_extent));
    return 0;
}

static void pass_down(struct blk_queue *q, struct blk_req *const *reqs, unsigned n)
{
    if (!n)
        return;
    if (q->dev->driver->submit)
        q->dev->driver->submit(q, reqs, n);
    else if (q->child)
        blk_forward(q, reqs, n);
    else
        for (unsigned i = 0; i < n; i++)
            blk_complete(q, reqs[i], -ENOTSUP);
}

void blk_forward(struct blk_queue *q, struct blk_req *const *reqs, unsigned n)
{
    pass_down(q->child, reqs, n);
}

unsigned blk_submit(struct blk_queue *q, struct blk_req *const *reqs, unsigned n)
{
    const struct blk_info *info = &q->dev->info;
    if (n > q->free_tags)
        n = q->free_tags;
    /* Runs of good requests go down together; a bad one, or one that the core answers, ends a
     * run. */
    unsigned run = 0;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        r->tag = q->tags[--q->free_tags];
        int error = check(info, r);
        bool answered = error < 0 || (r->op == BLK_STATUS && !info->status);
        if (!answered)
            continue;
        if (error == 0)
            blk_status_one(r, r->len, 0);
        blk_complete(q, r, error);
        pass_down(q, reqs + run, i - run);
        run = i + 1;
    }
    q->in_flight += n;
    pass_down(q, reqs + run, n - run);
    return n;
}

/* ---- the way up ------------------------------------------------------------------------ */

void blk_queue_progress(struct blk_queue *q, int64_t timeout)
{
    const struct blk_driver *d = q->dev->driver;
    if (q->ready)
        return;
    if (d->progress) {
        d->progress(q, timeout);
        return;
    }
    if (!q->child)
        return;
    blk_queue_progress(q->child, timeout);
    struct blk_req *r;
    while ((r = blk_take(q->child))) {
        if (d->done)
            d->done(q, r);
        blk_complete(q, r, r->result);
    }
}

void blk_forward_progress(struct blk_queue *q, int64_t timeout)
{
    blk_queue_progress(q->child, timeout);
}

static void release(struct blk_queue *q, const struct blk_req *r)
{
    q->tags[q->free_tags++] = r->tag;
    q->in_flight--;
}

unsigned blk_reap(struct blk_queue *q, struct blk_req **done, unsigned max, int64_t timeout)
{
    if (!q->in_flight || !max)
        return 0;
    blk_queue_progress(q, timeout);
    unsigned n = 0;
    struct blk_req *r;
    while (n < max && (r = blk_take(q))) {
        release(q, r);
        done[n++] = r;
    }
    return n;
}

void blk_queue_poll(struct blk_queue *q, struct blk_poll *poll)
{
    poll->fd = -1;
    poll->events = 0;
    poll->timeout = BLK_FOREVER;
    if (q->ready) {
        poll->timeout = 0;
        return;
    }
    if (q->dev->driver->poll)
        q->dev->driver->poll(q, poll);
    else if (q->child)
        blk_queue_poll(q->child, poll);
}

/* Take this request's completion out of the ready list, wherever it stands. */
static bool take_one(struct blk_queue *q, struct blk_req *wanted)
{
    for (struct blk_req **p = &q->ready; *p; p = &(*p)->next)
        if (*p == wanted) {
            *p = wanted->next;
            if (q->ready_tail == &wanted->next)
                q->ready_tail = p;
            return true;
        }
    return false;
}

int blk_execute(struct blk_queue *q, struct blk_req *req)
{
    if (!blk_submit(q, &req, 1))
        return -EAGAIN;
    while (!take_one(q, req)) {
        /* Completions of others are put aside, so that progress waits for a new one. */
        struct blk_req *others = q->ready;
        struct blk_req **others_tail = q->ready_tail;
        q->ready = NULL;
        q->ready_tail = &q->ready;
        blk_queue_progress(q, BLK_FOREVER);
        if (others) {
            *others_tail = q->ready;
            if (!q->ready)
                q->ready_tail = others_tail;
            q->ready = others;
        }
    }
    release(q, req);
    return req->result;
}

/* ---- buffers --------------------------------------------------------------------------- */

/* The queue in the stack whose driver wants to know of buffers; NULL if none does. */
static struct blk_queue *buf_queue(struct blk_queue *q)
{
    while (q && !q->dev->driver->buf_register)
        q = q->child;
    return q;
}

void *blk_buf_alloc(struct blk_queue *queue, size_t size)
{
    struct blk_queue *q = buf_queue(queue);
    size_t align = size >= BASE_HUGE_PAGE ? BASE_HUGE_PAGE : BASE_PAGE;
    struct blk_buf *b = base_alloc(sizeof(*b));
    void *memory = b ? base_alloc_aligned(align, size) : NULL;
    if (!memory) {
        base_free(b);
        return NULL;
    }
    b->memory = memory;
    b->next = queue->bufs;
    queue->bufs = b;
    if (q)
        q->dev->driver->buf_register(q, memory, size);
    return memory;
}

void blk_buf_free(struct blk_queue *queue, void *buf)
{
    struct blk_queue *q = buf_queue(queue);
    for (struct blk_buf **p = &queue->bufs; *p; p = &(*p)->next)
        if ((*p)->memory == buf) {
            struct blk_buf *b = *p;
            *p = b->next;
            if (q)
                q->dev->driver->buf_unregister(q, buf);
            base_free(b->memory);
            base_free(b);
            return;
        }
}
