/*
 * stats,DEVICE - counts and times every operation on its way to the device and back.
 *
 * Each queue counts for itself, so that nothing is shared on the way of a request; a report adds
 * up the queues as they are at that moment, and those that were closed.
 */
#include <ashlar/blk_driver.h>

#include <stdio.h>
#include <string.h>

#include "base/hist.h"
#include "base/list.h"
#include "base/platform.h"
#include "base/util.h"

/* One operation. In a queue: written by its thread alone, read by any, so with relaxed atomic
 * loads and stores. In the device: guarded by its lock. */
struct op_stats {
    uint64_t bytes;      /* of those that succeeded */
    uint64_t errors;     /* completions with an error */
    struct hist latency; /* of all; its count is the number of operations */
};

struct stats {
    struct base_mutex lock; /* guards the rest */
    struct list queues;     /* of struct stats_queue: the open ones */
    struct op_stats closed[BLK_OP_COUNT];
    struct op_stats sum; /* where a report adds up */
};

struct stats_queue {
    struct list node;
    struct op_stats op[BLK_OP_COUNT];
};

struct stats_slot {
    uint64_t start; /* when the request was submitted */
};

static int stats_open(struct blk *dev, struct blk_error *err)
{
    struct stats *s = dev->priv;
    (void)err;
    base_mutex_init(&s->lock);
    list_init(&s->queues);
    return 0;
}

static void stats_close(struct blk *dev)
{
    struct stats *s = dev->priv;
    base_mutex_fini(&s->lock);
}

static int stats_queue_open(struct blk_queue *queue)
{
    struct stats *s = queue->dev->priv;
    struct stats_queue *q = queue->priv;
    base_mutex_lock(&s->lock);
    list_push_back(&s->queues, &q->node);
    base_mutex_unlock(&s->lock);
    return 0;
}

static void merge(struct op_stats *into, const struct op_stats *from)
{
    into->bytes += __atomic_load_n(&from->bytes, __ATOMIC_RELAXED);
    into->errors += __atomic_load_n(&from->errors, __ATOMIC_RELAXED);
    hist_merge(&into->latency, &from->latency);
}

static void stats_queue_close(struct blk_queue *queue)
{
    struct stats *s = queue->dev->priv;
    struct stats_queue *q = queue->priv;
    base_mutex_lock(&s->lock);
    list_remove(&q->node);
    for (unsigned op = 0; op < BLK_OP_COUNT; op++)
        merge(&s->closed[op], &q->op[op]);
    base_mutex_unlock(&s->lock);
}

static void stats_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    uint64_t now = base_now_ns();
    for (unsigned i = 0; i < n; i++) {
        struct stats_slot *slot = blk_slot(queue, reqs[i]);
        slot->start = now;
    }
    blk_forward(queue, reqs, n);
}

/* Only these say with len how much they moved or covered. */
static bool has_length(const struct blk_req *r)
{
    return r->op == BLK_READ || r->op == BLK_WRITE || r->op == BLK_DISCARD ||
           r->op == BLK_WRITE_ZEROES || r->op == BLK_ZONE_APPEND;
}

static void stats_done(struct blk_queue *queue, struct blk_req *r)
{
    struct stats_queue *q = queue->priv;
    const struct stats_slot *slot = blk_slot(queue, r);
    struct op_stats *op = &q->op[r->op];
    if (r->result < 0)
        hist_bump(&op->errors, 1);
    else if (has_length(r))
        hist_bump(&op->bytes, r->len);
    hist_add(&op->latency, base_now_ns() - slot->start);
}

/* ---- report ---------------------------------------------------------------------------- */

/* n in the largest unit that leaves at least 1, with one digit after the point from the second
 * unit on. */
static const char *text_in_units(char *text, size_t size, uint64_t n, unsigned step,
                                 const char *const *units)
{
    uint64_t unit = 1;
    while (units[1] && n / unit >= step) {
        unit *= step;
        units++;
    }
    if (unit == 1)
        snprintf(text, size, "%llu %s", (unsigned long long)n, *units);
    else
        snprintf(text, size, "%llu.%llu %s", (unsigned long long)(n / unit),
                 (unsigned long long)(n % unit * 10 / unit), *units);
    return text;
}

static const char *text_time(char *text, size_t size, uint64_t ns)
{
    static const char *const units[] = {"ns", "us", "ms", "s", NULL};
    return text_in_units(text, size, ns, 1000, units);
}

static const char *text_size(char *text, size_t size, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", NULL};
    return text_in_units(text, size, bytes, 1024, units);
}

static void report_op(const struct op_stats *s, const char *name,
                      void (*line)(void *arg, const char *text), void *arg)
{
    const struct hist *h = &s->latency;
    char text[512], bytes[64], t[4][64];
    snprintf(text, sizeof(text),
             "stats: %s: %llu operations, %s, %llu errors; latency mean %s, p50 %s, p99 %s, max %s",
             name, (unsigned long long)h->count, text_size(bytes, sizeof(bytes), s->bytes),
             (unsigned long long)s->errors, text_time(t[0], sizeof(t[0]), hist_mean(h)),
             text_time(t[1], sizeof(t[1]), hist_percentile(h, 500000)),
             text_time(t[2], sizeof(t[2]), hist_percentile(h, 990000)),
             text_time(t[3], sizeof(t[3]), h->max));
    line(arg, text);
}

static void stats_report(const struct blk *dev, void (*line)(void *arg, const char *text),
                         void *arg)
{
    struct stats *s = dev->priv;
    bool any = false;
    base_mutex_lock(&s->lock);
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        struct list *node;
        s->sum = s->closed[op];
        list_for_each(node, &s->queues)
        {
            merge(&s->sum, &container_of(node, struct stats_queue, node)->op[op]);
        }
        if (s->sum.latency.count)
            report_op(&s->sum, blk_op_name(op), line, arg);
        any |= s->sum.latency.count != 0;
    }
    base_mutex_unlock(&s->lock);
    if (!any)
        line(arg, "stats: no operations");
}

const struct blk_driver blk_stats = {
    .name = "stats",
    .summary = "counts and times every operation",
    .flags = BLK_DRIVER_FILTER | BLK_DRIVER_NO_DATA,
    .priv_size = sizeof(struct stats),
    .queue_size = sizeof(struct stats_queue),
    .slot_size = sizeof(struct stats_slot),
    .open = stats_open,
    .close = stats_close,
    .queue_open = stats_queue_open,
    .queue_close = stats_queue_close,
    .submit = stats_submit,
    .done = stats_done,
    .report = stats_report,
};
