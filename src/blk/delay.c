/*
 * delay?read=TIME&...,DEVICE - each request waits before it goes down.
 *
 * The delay of an operation is constant, so waiting requests of one operation come due in the order
 * in which they came: a first-in-first-out list for each is all the bookkeeping.
 */
#include <ashlar/blk_driver.h>

#include <stddef.h>

#include "base/platform.h"
#include "base/util.h"

struct delay {
    uint64_t all;
    uint64_t read;
    uint64_t write;
    uint64_t flush;
    uint64_t discard;
    uint64_t zone;
};

struct fifo {
    struct blk_req *first; /* linked by next */
    struct blk_req *last;
};

struct delay_queue {
    struct fifo waiting[BLK_OP_COUNT];
    unsigned below; /* requests in flight on the child */
};

struct delay_slot {
    uint64_t due;
};

static uint64_t delay_of(const struct delay *d, unsigned op)
{
    uint64_t own = 0;
    if (op == BLK_READ)
        own = d->read;
    else if (op == BLK_WRITE || op == BLK_WRITE_ZEROES)
        own = d->write;
    else if (op == BLK_FLUSH)
        own = d->flush;
    else if (op == BLK_DISCARD)
        own = d->discard;
    else if (op >= BLK_ZONE_APPEND)
        own = op == BLK_ZONE_APPEND ? d->write : d->zone;
    return own ? own : d->all;
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct delay_queue *q = queue->priv;
    uint64_t now = base_now_ns();
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        struct delay_slot *slot = blk_slot(queue, r);
        struct fifo *f = &q->waiting[r->op];
        slot->due = now + delay_of(queue->dev->priv, r->op);
        r->next = NULL;
        if (f->first)
            f->last->next = r;
        else
            f->first = r;
        f->last = r;
    }
}

/* When the next waiting request comes due; UINT64_MAX if none waits. */
static uint64_t next_due(struct blk_queue *queue)
{
    struct delay_queue *q = queue->priv;
    uint64_t due = UINT64_MAX;
    for (unsigned op = 0; op < BLK_OP_COUNT; op++)
        if (q->waiting[op].first) {
            const struct delay_slot *slot = blk_slot(queue, q->waiting[op].first);
            due = min_u64(due, slot->due);
        }
    return due;
}

static void send_due(struct blk_queue *queue, uint64_t now)
{
    struct delay_queue *q = queue->priv;
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        struct fifo *f = &q->waiting[op];
        while (f->first) {
            struct blk_req *r = f->first;
            const struct delay_slot *slot = blk_slot(queue, r);
            if (slot->due > now)
                break;
            f->first = r->next;
            q->below++;
            blk_forward(queue, &r, 1);
        }
    }
}

static void take_completions(struct blk_queue *queue, int64_t timeout)
{
    struct delay_queue *q = queue->priv;
    struct blk_req *r;
    if (!q->below)
        return;
    blk_forward_progress(queue, timeout);
    while ((r = blk_take(queue->child))) {
        q->below--;
        blk_complete(queue, r, r->result);
    }
}

static void progress(struct blk_queue *queue, int64_t timeout)
{
    struct delay_queue *q = queue->priv;
    uint64_t now = base_now_ns();
    uint64_t end = timeout < 0 ? UINT64_MAX : now + (uint64_t)timeout;
    for (;;) {
        send_due(queue, now);
        take_completions(queue, 0);
        uint64_t until = min_u64(next_due(queue), end);
        if (queue->ready || now >= end || (!q->below && until == UINT64_MAX))
            return;
        if (!q->below)
            base_sleep_until_ns(until);
        else
            take_completions(queue, until == UINT64_MAX ? BLK_FOREVER
                                    : until > now       ? (int64_t)(until - now)
                                                        : 0);
        now = base_now_ns();
    }
}

static void poll(struct blk_queue *queue, struct blk_poll *poll)
{
    const struct delay_queue *q = queue->priv;
    uint64_t due = next_due(queue), now = base_now_ns();
    if (q->below)
        blk_queue_poll(queue->child, poll);
    if (due == UINT64_MAX)
        return;
    int64_t wait = due > now ? (int64_t)(due - now) : 0;
    if (poll->timeout < 0 || wait < poll->timeout)
        poll->timeout = wait;
}

static const struct blk_option delay_options[] = {
    {"all", BLK_OPT_TIME, offsetof(struct delay, all), NULL, "every operation without its own"},
    {"read", BLK_OPT_TIME, offsetof(struct delay, read), NULL, "reads"},
    {"write", BLK_OPT_TIME, offsetof(struct delay, write), NULL,
     "writes, write-zeroes and zone appends"},
    {"flush", BLK_OPT_TIME, offsetof(struct delay, flush), NULL, "flushes"},
    {"discard", BLK_OPT_TIME, offsetof(struct delay, discard), NULL, "discards"},
    {"zone", BLK_OPT_TIME, offsetof(struct delay, zone), NULL, "other zone operations"},
    {0},
};

const struct blk_driver blk_delay = {
    .name = "delay",
    .summary = "lets each request wait before it goes down",
    .flags = BLK_DRIVER_FILTER,
    .options = delay_options,
    .priv_size = sizeof(struct delay),
    .queue_size = sizeof(struct delay_queue),
    .slot_size = sizeof(struct delay_slot),
    .submit = submit,
    .progress = progress,
    .poll = poll,
};
