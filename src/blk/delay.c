/*
 * delay?read=TIME&write=TIME&...,DEVICE - requests wait before they go down to the device.
 *
 * A request with a delay stands in its queue's heap until its time has come; then it is passed
 * on, and its way up is unchanged. Requests of a queue so overtake each other as their delays say.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>

#include "base/platform.h"
#include "base/util.h"

/* Set at open, constant from then on. */
struct delay {
    uint64_t read, write, flush, discard, zone, all, jitter, seed; /* options */
    uint64_t op[BLK_OP_COUNT];                                     /* made of them */
};

/* Belongs to the queue's thread. */
struct delay_queue {
    struct blk_req **heap; /* those that wait; none is due before its parent (i - 1) / 2 */
    unsigned waiting;
    unsigned below; /* passed on, not yet back */
    uint64_t random;
};

struct delay_slot {
    uint64_t due;
};

static int delay_open(struct blk *dev, struct blk_error *err)
{
    struct delay *d = dev->priv;
    static const uint64_t longest = UINT64_C(3600) * 1000000000;
    if (max_u64(max_u64(max_u64(d->read, d->write), max_u64(d->flush, d->discard)),
                max_u64(d->zone, max_u64(d->all, d->jitter))) > longest)
        return blk_error_set(err, -EINVAL, "a delay must be at most 3600s");
    for (unsigned op = 0; op < BLK_OP_COUNT; op++)
        d->op[op] = d->all;
    d->op[BLK_READ] = max_u64(d->read, d->all);
    d->op[BLK_WRITE] = max_u64(d->write, d->all);
    d->op[BLK_WRITE_ZEROES] = d->op[BLK_WRITE];
    d->op[BLK_ZONE_APPEND] = d->op[BLK_WRITE];
    d->op[BLK_FLUSH] = max_u64(d->flush, d->all);
    d->op[BLK_DISCARD] = max_u64(d->discard, d->all);
    for (unsigned op = BLK_ZONE_REPORT; op < BLK_OP_COUNT; op++)
        d->op[op] = max_u64(d->zone, d->all);
    return 0;
}

static int delay_queue_open(struct blk_queue *queue)
{
    const struct delay *d = queue->dev->priv;
    struct delay_queue *q = queue->priv;
    q->random = d->seed;
    q->heap = base_alloc_array(queue->depth, sizeof(*q->heap));
    return q->heap ? 0 : -ENOMEM;
}

static void delay_queue_close(struct blk_queue *queue)
{
    struct delay_queue *q = queue->priv;
    base_free(q->heap);
}

/* ---- the heap -------------------------------------------------------------------------- */

static uint64_t due(struct blk_queue *queue, const struct blk_req *r)
{
    const struct delay_slot *s = blk_slot(queue, r);
    return s->due;
}

static void push(struct blk_queue *queue, struct blk_req *r)
{
    struct delay_queue *q = queue->priv;
    unsigned i = q->waiting++;
    for (; i && due(queue, r) < due(queue, q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = r;
}

static struct blk_req *pop(struct blk_queue *queue)
{
    struct delay_queue *q = queue->priv;
    struct blk_req *first = q->heap[0];
    struct blk_req *last = q->heap[--q->waiting];
    unsigned i = 0;
    for (unsigned child; (child = 2 * i + 1) < q->waiting; i = child) {
        if (child + 1 < q->waiting && due(queue, q->heap[child + 1]) < due(queue, q->heap[child]))
            child++;
        if (due(queue, last) <= due(queue, q->heap[child]))
            break;
        q->heap[i] = q->heap[child];
    }
    q->heap[i] = last;
    return first;
}

/* ---- requests -------------------------------------------------------------------------- */

static void pass_on(struct blk_queue *queue, struct blk_req *r)
{
    struct delay_queue *q = queue->priv;
    q->below++;
    blk_forward(queue, &r, 1);
}

static void delay_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct delay *d = queue->dev->priv;
    struct delay_queue *q = queue->priv;
    uint64_t now = base_now_ns();
    for (unsigned i = 0; i < n; i++) {
        struct delay_slot *s = blk_slot(queue, reqs[i]);
        uint64_t wait = d->op[reqs[i]->op];
        if (d->jitter)
            wait += random_below(&q->random, d->jitter + 1);
        s->due = now + wait;
        if (wait)
            push(queue, reqs[i]);
        else
            pass_on(queue, reqs[i]);
    }
}

static void pass_on_due(struct blk_queue *queue)
{
    struct delay_queue *q = queue->priv;
    if (!q->waiting)
        return;
    uint64_t now = base_now_ns();
    while (q->waiting && due(queue, q->heap[0]) <= now)
        pass_on(queue, pop(queue));
}

static void take_completions(struct blk_queue *queue)
{
    struct delay_queue *q = queue->priv;
    struct blk_req *r;
    while ((r = blk_take(queue->child))) {
        q->below--;
        blk_complete(queue, r, r->result);
    }
}

/* Wait for the device or the next request whose time comes, but not past end (0: no end). */
static void wait(struct blk_queue *queue, uint64_t now, uint64_t end)
{
    const struct delay_queue *q = queue->priv;
    uint64_t until = end;
    if (q->waiting && (!until || due(queue, q->heap[0]) < until))
        until = due(queue, q->heap[0]);
    if (until && until <= now)
        return;
    if (!q->below)
        base_sleep_until_ns(until);
    else
        blk_forward_progress(queue, until ? (int64_t)(until - now) : BLK_FOREVER);
}

static void delay_progress(struct blk_queue *queue, int64_t timeout)
{
    const struct delay_queue *q = queue->priv;
    uint64_t end = timeout > 0 ? base_now_ns() + (uint64_t)timeout : 0;
    for (;;) {
        pass_on_due(queue);
        blk_forward_progress(queue, 0);
        take_completions(queue);
        if (queue->ready || !timeout || (!q->waiting && !q->below))
            return;
        uint64_t now = base_now_ns();
        if (end && now >= end)
            return;
        wait(queue, now, end);
    }
}

static void delay_poll(struct blk_queue *queue, struct blk_poll *poll)
{
    const struct delay_queue *q = queue->priv;
    blk_queue_poll(queue->child, poll);
    if (!q->waiting)
        return;
    uint64_t now = base_now_ns();
    uint64_t first = due(queue, q->heap[0]);
    int64_t own = first > now ? (int64_t)(first - now) : 0;
    if (poll->timeout < 0 || own < poll->timeout)
        poll->timeout = own;
}

static const struct blk_option delay_options[] = {
    {"read", BLK_OPT_TIME, offsetof(struct delay, read), "0", "delay of reads"},
    {"write", BLK_OPT_TIME, offsetof(struct delay, write), "0",
     "delay of writes, write-zeroes and zone appends"},
    {"flush", BLK_OPT_TIME, offsetof(struct delay, flush), "0", "delay of flushes"},
    {"discard", BLK_OPT_TIME, offsetof(struct delay, discard), "0", "delay of discards"},
    {"zone", BLK_OPT_TIME, offsetof(struct delay, zone), "0", "delay of other zone operations"},
    {"all", BLK_OPT_TIME, offsetof(struct delay, all), "0", "least delay of every operation"},
    {"jitter", BLK_OPT_TIME, offsetof(struct delay, jitter), "0",
     "more delay, for each request a random time up to this"},
    {"seed", BLK_OPT_COUNT, offsetof(struct delay, seed), "1", "of the random times"},
    {0},
};

const struct blk_driver blk_delay = {
    .name = "delay",
    .summary = "requests wait before they go on",
    .flags = BLK_DRIVER_FILTER | BLK_DRIVER_NO_DATA,
    .options = delay_options,
    .priv_size = sizeof(struct delay),
    .queue_size = sizeof(struct delay_queue),
    .slot_size = sizeof(struct delay_slot),
    .open = delay_open,
    .queue_open = delay_queue_open,
    .queue_close = delay_queue_close,
    .submit = delay_submit,
    .progress = delay_progress,
    .poll = delay_poll,
};
