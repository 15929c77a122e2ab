/*
 * stats,DEVICE - counts what passes: requests, bytes, errors and latency of each operation.
 *
 * Each queue counts for itself, without atomics that cost or locks; a report merges the queues that
 * are open with what closed ones left behind.
 */
#include <ashlar/blk_driver.h>

#include <stdio.h>
#include <string.h>

#include "base/hist.h"
#include "base/list.h"
#include "base/platform.h"
#include "base/util.h"

/* Written by one thread, read by any (hist_bump). */
struct op_stats {
    uint64_t bytes;
    uint64_t errors;
    struct hist latency; /* of all requests, failed ones too; its count is the number */
};

struct stats {
    struct base_mutex lock;               /* guards queues and closed */
    struct list queues;                   /* of struct stats_queue.node */
    struct op_stats closed[BLK_OP_COUNT]; /* sum of the queues that were closed */
};

struct stats_queue {
    struct list node;
    struct op_stats op[BLK_OP_COUNT];
};

struct stats_slot {
    uint64_t start;
};

static int open_device(struct blk *dev, struct blk_error *err)
{
    struct stats *s = dev->priv;
    (void)err;
    base_mutex_init(&s->lock);
    list_init(&s->queues);
    return 0;
}

static void close_device(struct blk *dev)
{
    struct stats *s = dev->priv;
    base_mutex_fini(&s->lock);
}

static int open_queue(struct blk_queue *queue)
{
    struct stats *s = queue->dev->priv;
    struct stats_queue *q = queue->priv;
    base_mutex_lock(&s->lock);
    list_push_back(&s->queues, &q->node);
    base_mutex_unlock(&s->lock);
    return 0;
}

static void add(struct op_stats *into, const struct op_stats *from)
{
    into->bytes += __atomic_load_n(&from->bytes, __ATOMIC_RELAXED);
    into->errors += __atomic_load_n(&from->errors, __ATOMIC_RELAXED);
    hist_merge(&into->latency, &from->latency);
}

static void close_queue(struct blk_queue *queue)
{
    struct stats *s = queue->dev->priv;
    struct stats_queue *q = queue->priv;
    base_mutex_lock(&s->lock);
    list_remove(&q->node);
    for (unsigned op = 0; op < BLK_OP_COUNT; op++)
        add(&s->closed[op], &q->op[op]);
    base_mutex_unlock(&s->lock);
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    uint64_t now = base_now_ns();
    for (unsigned i = 0; i < n; i++) {
        struct stats_slot *slot = blk_slot(queue, reqs[i]);
        slot->start = now;
    }
    blk_forward(queue, reqs, n);
}

static void done(struct blk_queue *queue, struct blk_req *r)
{
    struct stats_queue *q = queue->priv;
    const struct stats_slot *slot = blk_slot(queue, r);
    struct op_stats *s = &q->op[r->op];
    hist_add(&s->latency, base_now_ns() - slot->start);
    if (r->result < 0)
        hist_bump(&s->errors, 1);
    else
        hist_bump(&s->bytes, r->len);
}

static void report_op(const struct op_stats *s, unsigned op,
                      void (*line)(void *arg, const char *text), void *arg)
{
    const struct hist *h = &s->latency;
    char text[256];
    snprintf(text, sizeof(text),
             "stats: %s: %llu requests, %llu bytes, %llu errors; latency ns: mean %llu, p50 %llu, "
             "p99 %llu, max %llu",
             blk_op_name(op), (unsigned long long)h->count, (unsigned long long)s->bytes,
             (unsigned long long)s->errors, (unsigned long long)hist_mean(h),
             (unsigned long long)hist_percentile(h, 0.5),
             (unsigned long long)hist_percentile(h, 0.99), (unsigned long long)h->max);
    line(arg, text);
}

static void report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    struct stats *s = dev->priv;
    struct op_stats *sum = base_alloc(sizeof(*sum));
    if (!sum)
        return;
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        struct list *node;
        memset(sum, 0, sizeof(*sum));
        base_mutex_lock(&s->lock);
        add(sum, &s->closed[op]);
        list_for_each(node, &s->queues)
            add(sum, &container_of(node, struct stats_queue, node)->op[op]);
        base_mutex_unlock(&s->lock);
        if (sum->latency.count)
            report_op(sum, op, line, arg);
    }
    base_free(sum);
}

const struct blk_driver blk_stats = {
    .name = "stats",
    .summary = "counts requests, bytes, errors and latency of each operation",
    .flags = BLK_DRIVER_FILTER,
    .priv_size = sizeof(struct stats),
    .queue_size = sizeof(struct stats_queue),
    .slot_size = sizeof(struct stats_slot),
    .open = open_device,
    .close = close_device,
    .queue_open = open_queue,
    .queue_close = close_queue,
    .submit = submit,
    .done = done,
    .report = report,
};
