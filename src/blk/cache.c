/*
 * cache?size=SIZE,DEVICE - a write-back cache of bounded memory.
 *
 * All queues of the device share the lines. A request is a task that goes on step by step; each
 * step is taken under the cache's lock and ends in one of three ways: done, waiting for I/O that it
 * started, or blocked by a line or range that another task has in its hands (tried again later).
 * A task that waits or is blocked holds no line but those whose I/O it waits for, so there is no
 * deadlock.
 *
 * - Small reads and writes go line by line through the cache.
 * - Large ones, FUA writes, discards and write-zeroes go past it. Each holds its range meanwhile: a
 *   reading one so that no line of it is changed, a writing one so that none is loaded either,
 * after it cleared the lines out of it.
 * - A flush writes back what was dirty when it came, then flushes the device below.
 *
 * A line whose write fails stays dirty; the flush that wanted it reports the error, and so does
 * every later one until it succeeds. Closing the device writes back what is dirty.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "base/platform.h"
#include "base/util.h"
#include "blk/cache_lines.h"

#define WRITEBACKS   32    /* of lines, in flight for the flushes of a queue */
#define RETRY_NS     50000 /* a blocked task looks again after this long at the latest */
#define VICTIM_TRIES 8     /* failed writes of victims before a request gives up */

struct cache {
    uint64_t size;
    uint64_t block;
    uint64_t bypass;

    struct base_mutex lock; /* guards all below, also between queues */
    struct lines lines;
    uint64_t writes;    /* counts modifications of lines */
    struct list ranges; /* of struct task.range: held by writers that go past the cache */
    uint64_t hits, misses, writebacks, write_errors, bypassed;
};

enum io_kind { IO_LOAD, IO_WRITEBACK, IO_PAST, IO_FLUSH };

/* A request to the device below. */
struct io {
    struct blk_req req;
    struct task *task;
    struct io *next; /* in the queue's stack of unused ones */
    enum io_kind kind;
    uint32_t line;
};

/* A request on its way through the cache; lives in the request's slot. */
struct task {
    struct blk_req *req;
    struct task *next; /* in the queue's list of blocked ones */
    uint64_t at;       /* bytes of it that are done */
    uint64_t limit;    /* flush: lines dirtied until then */
    uint32_t scan;     /* flush: lines before it are dealt with */
    unsigned pending;  /* I/O in flight for it */
    unsigned tries;    /* victims that could not be written */
    int error;
    bool missed;    /* counted as a miss already */
    bool ranged;    /* holds [first, last] of lines */
    bool no_bypass; /* a large read that found newer data in the cache */
    bool last_step; /* its final I/O was started */
    struct list range;
    uint64_t first, last;
};

struct cache_queue {
    struct blk_queue *below;
    struct io *ios; /* one for each task, and max_writebacks more */
    struct io *unused;
    unsigned writebacks;
    unsigned max_writebacks;
    struct task *blocked;
    struct task **blocked_tail;
    struct blk_req **out;  /* started in this step, submitted after it */
    struct blk_req **back; /* room for blk_reap() */
    unsigned out_count;
};

enum outcome { DONE, WAITING, BLOCKED };

/* ---- I/O ------------------------------------------------------------------------------- */

static struct io *start_io(struct cache_queue *q, struct task *t, enum io_kind kind, uint32_t line)
{
    struct io *io = q->unused;
    q->unused = io->next;
    io->task = t;
    io->kind = kind;
    io->line = line;
    t->pending++;
    q->out[q->out_count++] = &io->req;
    return io;
}

static void send_out(struct cache_queue *q)
{
    blk_submit(q->below, q->out, q->out_count); /* never more than the queue below holds */
    q->out_count = 0;
}

/* Bytes of a line; the last of the device may be short. */
static size_t line_len(const struct blk *dev, uint64_t number)
{
    const struct cache *c = dev->priv;
    return min_u64(c->block, dev->info.size - number * c->block);
}

static void start_line_io(struct blk_queue *queue, struct task *t, enum io_kind kind, uint32_t at)
{
    struct cache *c = queue->dev->priv;
    struct line *line = &c->lines.line[at];
    struct io *io = start_io(queue->priv, t, kind, at);
    line->busy = true;
    blk_req_data(&io->req, kind == IO_LOAD ? BLK_READ : BLK_WRITE, line->number * c->block,
                 lines_data(&c->lines, at), line_len(queue->dev, line->number));
}

/* ---- lines, one after the other -------------------------------------------------------- */

/* Does somebody hold one of these lines? Those who read the device hold them against writers only.
 */
static bool in_range(const struct cache *c, uint64_t first, uint64_t last, bool reads)
{
    struct list *node;
    list_for_each(node, &c->ranges)
    {
        const struct task *t = container_of(node, struct task, range);
        if (t->first <= last && first <= t->last && !(reads && t->req->op == BLK_READ))
            return true;
    }
    return false;
}

static void take_range(struct cache *c, struct task *t)
{
    list_push_back(&c->ranges, &t->range);
    t->ranged = true;
}

/* Make room for a line that is not here. */
static enum outcome take_line(struct blk_queue *queue, struct task *t, uint64_t number, bool load)
{
    struct cache *c = queue->dev->priv;
    uint32_t at = lines_victim(&c->lines);
    if (at == LINE_NONE)
        return BLOCKED;
    if (c->lines.line[at].state == LINE_DIRTY) {
        if (t->tries == VICTIM_TRIES) {
            t->error = -EIO;
            return DONE;
        }
        start_line_io(queue, t, IO_WRITEBACK, at);
        return WAITING;
    }
    lines_assign(&c->lines, at, number);
    c->misses++;
    t->missed = true;
    if (!load)
        return DONE;
    start_line_io(queue, t, IO_LOAD, at);
    return WAITING;
}

/* Move the task's bytes of one line. */
static enum outcome step_line(struct blk_queue *queue, struct task *t)
{
    struct cache *c = queue->dev->priv;
    struct blk_req *r = t->req;
    uint64_t offset = r->offset + t->at, number = offset / c->block;
    size_t within = (size_t)(offset % c->block), len = line_len(queue->dev, number);
    size_t part = min_u64(len - within, r->len - t->at);
    if (in_range(c, number, number, r->op == BLK_READ))
        return BLOCKED;
    uint32_t at = lines_find(&c->lines, number);
    if (at == LINE_NONE) {
        enum outcome o = take_line(queue, t, number, r->op == BLK_READ || part < len);
        at = o == DONE ? lines_find(&c->lines, number) : LINE_NONE;
        if (o != DONE || at == LINE_NONE)
            return o;
    } else if (c->lines.line[at].busy) {
        return BLOCKED;
    }
    c->hits += !t->missed;
    struct line *line = &c->lines.line[at];
    char *data = lines_data(&c->lines, at) + within;
    line->hot = true;
    if (r->op == BLK_READ) {
        blk_copy_to_iov(r->iov, r->niov, t->at, data, part);
    } else {
        blk_copy_from_iov(r->iov, r->niov, t->at, data, part);
        c->writes++;
        if (line->state != LINE_DIRTY)
            line->dirtied = c->writes;
        line->state = LINE_DIRTY;
    }
    t->at += part;
    t->tries = 0;
    t->missed = false;
    return DONE;
}

static enum outcome step_lines(struct blk_queue *queue, struct task *t)
{
    while (t->at < t->req->len) {
        uint64_t before = t->at;
        enum outcome o = step_line(queue, t);
        if (o != DONE || t->at == before)
            return o;
    }
    return DONE;
}

/* ---- past the cache -------------------------------------------------------------------- */

static void start_past(struct blk_queue *queue, struct task *t)
{
    struct cache *c = queue->dev->priv;
    const struct blk_req *r = t->req;
    struct io *io = start_io(queue->priv, t, IO_PAST, LINE_NONE);
    blk_req_init(&io->req, (enum blk_op)r->op, r->offset, r->len);
    io->req.flags = r->flags;
    io->req.iov = r->iov;
    io->req.niov = r->niov;
    t->last_step = true;
    c->bypassed++;
}

/* The line at index i of those in the task's range, in the order that is shorter: by number, or
 * through the whole table. LINE_NONE: not here. */
static uint32_t range_line(const struct cache *c, const struct task *t, uint64_t i)
{
    if (t->last - t->first < c->lines.count)
        return lines_find(&c->lines, t->first + i);
    const struct line *line = &c->lines.line[i];
    bool within = line->number >= t->first && line->number <= t->last;
    return line->state != LINE_FREE && within ? (uint32_t)i : LINE_NONE;
}

static uint64_t range_steps(const struct cache *c, const struct task *t)
{
    return min_u64(t->last - t->first + 1, c->lines.count);
}

static enum outcome step_read_past(struct blk_queue *queue, struct task *t)
{
    struct cache *c = queue->dev->priv;
    if (in_range(c, t->first, t->last, true))
        return BLOCKED;
    for (uint64_t i = 0; i < range_steps(c, t); i++) {
        uint32_t at = range_line(c, t, i);
        if (at != LINE_NONE && (c->lines.line[at].state == LINE_DIRTY || c->lines.line[at].busy)) {
            t->no_bypass = true; /* what is here is newer: line by line */
            return step_lines(queue, t);
        }
    }
    take_range(c, t); /* so that no line of it is dirtied and written back meanwhile */
    start_past(queue, t);
    return WAITING;
}

/* Will the request replace all of this line, so that its dirty data need not be kept? */
static bool replaces(const struct blk_queue *queue, const struct blk_req *r, uint64_t number)
{
    const struct cache *c = queue->dev->priv;
    uint64_t start = number * c->block, end = start + line_len(queue->dev, number);
    return (r->op == BLK_WRITE || r->op == BLK_DISCARD) && r->offset <= start &&
           r->offset + r->len >= end;
}

static enum outcome step_write_past(struct blk_queue *queue, struct task *t)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    if (!t->ranged && in_range(c, t->first, t->last, false))
        return BLOCKED;
    if (!t->ranged)
        take_range(c, t);
    if (t->error)
        return DONE; /* an edge could not be kept */
    bool busy = false;
    for (uint64_t i = 0; i < range_steps(c, t); i++) {
        uint32_t at = range_line(c, t, i);
        if (at == LINE_NONE)
            continue;
        struct line *line = &c->lines.line[at];
        bool keep = line->state == LINE_DIRTY && !replaces(queue, t->req, line->number);
        if (!line->busy && !keep)
            lines_drop(&c->lines, at);
        else if (!line->busy && q->writebacks < q->max_writebacks) {
            q->writebacks++;
            start_line_io(queue, t, IO_WRITEBACK, at);
        } else
            busy = true;
    }
    if (t->pending)
        return WAITING;
    if (busy)
        return BLOCKED;
    start_past(queue, t);
    return WAITING;
}

/* ---- flush ----------------------------------------------------------------------------- */

static enum outcome step_flush(struct blk_queue *queue, struct task *t)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    for (; t->scan < c->lines.count; t->scan++) {
        const struct line *line = &c->lines.line[t->scan];
        if (line->state != LINE_DIRTY || line->dirtied > t->limit)
            continue;
        if (line->busy || q->writebacks == q->max_writebacks)
            return t->pending ? WAITING : BLOCKED;
        q->writebacks++;
        start_line_io(queue, t, IO_WRITEBACK, t->scan);
    }
    if (t->pending)
        return WAITING;
    if (t->error)
        return DONE;
    struct io *io = start_io(q, t, IO_FLUSH, LINE_NONE);
    blk_req_init(&io->req, BLK_FLUSH, 0, 0);
    t->last_step = true;
    return WAITING;
}

/* ---- tasks ----------------------------------------------------------------------------- */

static bool goes_past(const struct cache *c, const struct blk_req *r)
{
    return r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES || (r->flags & BLK_FUA) ||
           r->len >= c->bypass;
}

static enum outcome step(struct blk_queue *queue, struct task *t)
{
    const struct cache *c = queue->dev->priv;
    if (t->last_step)
        return DONE;
    if (t->req->op == BLK_FLUSH)
        return step_flush(queue, t);
    if (t->error && !t->ranged)
        return DONE; /* a load or the last step failed */
    if (!goes_past(c, t->req) || t->no_bypass)
        return step_lines(queue, t);
    return t->req->op == BLK_READ ? step_read_past(queue, t) : step_write_past(queue, t);
}

/* Go on with a task as far as it gets. */
static void run(struct blk_queue *queue, struct task *t)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    base_mutex_lock(&c->lock);
    enum outcome o = step(queue, t);
    if (o == DONE && t->ranged) {
        list_remove(&t->range);
        t->ranged = false;
    }
    base_mutex_unlock(&c->lock);
    send_out(q);
    if (o == DONE)
        blk_complete(queue, t->req, t->error);
    if (o != BLOCKED)
        return;
    t->next = NULL;
    *q->blocked_tail = t;
    q->blocked_tail = &t->next;
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct cache *c = queue->dev->priv;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        struct task *t = blk_slot(queue, r);
        *t = (struct task){.req = r};
        if (r->op == BLK_FLUSH) {
            base_mutex_lock(&c->lock);
            t->limit = c->writes;
            base_mutex_unlock(&c->lock);
        } else {
            t->first = r->offset / c->block;
            t->last = (r->offset + r->len - 1) / c->block;
        }
        run(queue, t);
    }
}

/* ---- the way up ------------------------------------------------------------------------ */

static void line_io_done(struct cache *c, const struct io *io)
{
    struct line *line = &c->lines.line[io->line];
    line->busy = false;
    if (io->kind == IO_LOAD && io->req.result < 0)
        lines_drop(&c->lines, io->line);
    if (io->kind != IO_WRITEBACK)
        return;
    c->writebacks++;
    if (io->req.result == 0)
        line->state = LINE_CLEAN;
    else
        c->write_errors++;
}

static void io_done(struct blk_queue *queue, struct io *io)
{
    struct cache *c = queue->dev->priv;
    struct cache_queue *q = queue->priv;
    struct task *t = io->task;
    bool victim = io->kind == IO_WRITEBACK && t->req->op != BLK_FLUSH && !t->ranged;
    if (io->kind == IO_LOAD || io->kind == IO_WRITEBACK) {
        base_mutex_lock(&c->lock);
        line_io_done(c, io);
        base_mutex_unlock(&c->lock);
    }
    if (io->kind == IO_WRITEBACK && !victim)
        q->writebacks--;
    if (io->req.result < 0 && victim)
        t->tries++; /* another one will do */
    else if (io->req.result < 0 && !t->error)
        t->error = io->req.result;
    io->next = q->unused;
    q->unused = io;
    if (--t->pending == 0 || t->req->op == BLK_FLUSH)
        run(queue, t);
}

static void reap_below(struct blk_queue *queue, int64_t timeout)
{
    struct cache_queue *q = queue->priv;
    unsigned n = blk_reap(q->below, q->back, queue->depth, timeout);
    for (unsigned i = 0; i < n; i++)
        io_done(queue, container_of(q->back[i], struct io, req));
}

static void retry_blocked(struct blk_queue *queue)
{
    struct cache_queue *q = queue->priv;
    struct task *t = q->blocked;
    q->blocked = NULL;
    q->blocked_tail = &q->blocked;
    while (t) {
        struct task *next = t->next;
        run(queue, t);
        t = next;
    }
}

static void progress(struct blk_queue *queue, int64_t timeout)
{
    struct cache_queue *q = queue->priv;
    uint64_t now = base_now_ns();
    uint64_t end = timeout < 0 ? UINT64_MAX : now + (uint64_t)timeout;
    reap_below(queue, 0);
    retry_blocked(queue);
    while (!queue->ready && now < end) {
        int64_t wait = end == UINT64_MAX ? BLK_FOREVER : (int64_t)(end - now);
        /* What blocks may be in the hands of another queue, which does not wake this one. */
        if (q->blocked && (wait < 0 || wait > RETRY_NS))
            wait = RETRY_NS;
        if (blk_queue_in_flight(q->below))
            reap_below(queue, wait);
        else if (wait > 0)
            base_sleep_until_ns(now + (uint64_t)wait);
        else
            return; /* nothing is in flight */
        retry_blocked(queue);
        now = base_now_ns();
    }
}

static void poll(struct blk_queue *queue, struct blk_poll *poll)
{
    const struct cache_queue *q = queue->priv;
    blk_queue_poll(q->below, poll);
    if (q->blocked && (poll->timeout < 0 || poll->timeout > RETRY_NS))
        poll->timeout = RETRY_NS;
}

/* ---- device and queues ----------------------------------------------------------------- */

static int open_device(struct blk *dev, struct blk_error *err)
{
    struct cache *c = dev->priv;
    struct blk_info *i = &dev->info;
    if (i->zoned)
        return blk_error_set(err, -ENOTSUP, "a zoned device cannot be cached");
    if (i->max_depth < 2)
        return blk_error_set(err, -ENOTSUP, "a device with one request in flight cannot be cached");
    if (!is_pow2(c->block) || c->block < i->block_size || c->block > i->max_transfer ||
        c->block > 1 << 20)
        return blk_error_set(err, -EINVAL, "block must be a power of two from %u to 1M",
                             i->block_size);
    if (c->size / c->block < 8 || c->size / c->block > UINT32_MAX / 2)
        return blk_error_set(err, -EINVAL, "size must hold at least 8 blocks of %llu bytes",
                             (unsigned long long)c->block);
    int error = lines_init(&c->lines, (uint32_t)(c->size / c->block), (uint32_t)c->block);
    if (error < 0)
        return blk_error_set(err, error, "no memory for %llu bytes", (unsigned long long)c->size);
    base_mutex_init(&c->lock);
    list_init(&c->ranges);
    i->volatile_cache = true;
    i->status = false; /* the device below does not know what is dirty here */
    i->max_depth = (uint32_t)max_u64(i->max_depth / 2, 1);
    i->physical_block_size = (uint32_t)max_u64(i->physical_block_size, c->block);
    return 0;
}

/* No queue is open any more: a queue of our own writes back what is dirty. */
static void close_device(struct blk *dev)
{
    struct cache *c = dev->priv;
    struct blk_queue *q = NULL;
    uint32_t lost = 0;
    for (uint32_t at = 0; at < c->lines.count; at++) {
        const struct line *line = &c->lines.line[at];
        if (line->state != LINE_DIRTY)
            continue;
        if (!q && blk_queue_open(dev->child, 1, &q) < 0)
            q = NULL;
        if (!q || blk_write(q, line->number * c->block, lines_data(&c->lines, at),
                            line_len(dev, line->number), 0) < 0)
            lost++;
    }
    if (lost)
        base_log(BASE_LOG_ERROR, "cache: %u dirty blocks could not be written back", lost);
    if (q)
        blk_queue_close(q);
    lines_fini(&c->lines);
    base_mutex_fini(&c->lock);
}

static void close_queue(struct blk_queue *queue)
{
    struct cache_queue *q = queue->priv;
    if (q->below)
        blk_queue_close(q->below);
    base_free(q->ios);
    base_free(q->out);
    base_free(q->back);
}

static int open_queue(struct blk_queue *queue)
{
    struct cache_queue *q = queue->priv;
    uint32_t most = queue->dev->child->info.max_depth;
    unsigned ios = (unsigned)min_u64(queue->depth + WRITEBACKS, most);
    q->max_writebacks = ios - queue->depth;
    int error = blk_queue_open(queue->dev->child, ios, &q->below);
    if (error < 0)
        return error;
    q->ios = base_alloc_array(ios, sizeof(*q->ios));
    q->out = base_alloc_array(ios, sizeof(struct blk_req *));
    q->back = base_alloc_array(queue->depth, sizeof(struct blk_req *));
    if (!q->ios || !q->out || !q->back) {
        close_queue(queue);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < ios; i++) {
        q->ios[i].next = q->unused;
        q->unused = &q->ios[i];
    }
    q->blocked_tail = &q->blocked;
    return 0;
}

static void report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    struct cache *c = dev->priv;
    char text[256];
    uint32_t dirty = 0;
    base_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->lines.count; i++)
        dirty += c->lines.line[i].state == LINE_DIRTY;
    snprintf(text, sizeof(text),
             "cache: %llu hits, %llu misses, %llu past it, %llu written back (%llu failed), %u of "
             "%u blocks dirty",
             (unsigned long long)c->hits, (unsigned long long)c->misses,
             (unsigned long long)c->bypassed, (unsigned long long)c->writebacks,
             (unsigned long long)c->write_errors, dirty, c->lines.count);
    base_mutex_unlock(&c->lock);
    line(arg, text);
}

static const struct blk_option cache_options[] = {
    {"size", BLK_OPT_SIZE, offsetof(struct cache, size), "64M", "memory for data"},
    {"block", BLK_OPT_SIZE, offsetof(struct cache, block), "4K", "unit of caching"},
    {"bypass", BLK_OPT_SIZE, offsetof(struct cache, bypass), "128K",
     "requests from this size on go past the cache"},
    {0},
};

const struct blk_driver blk_cache = {
    .name = "cache",
    .summary = "a write-back cache in memory",
    .flags = BLK_DRIVER_FILTER | BLK_DRIVER_OWN_CHILD_QUEUE,
    .options = cache_options,
    .priv_size = sizeof(struct cache),
    .queue_size = sizeof(struct cache_queue),
    .slot_size = sizeof(struct task),
    .open = open_device,
    .close = close_device,
    .queue_open = open_queue,
    .queue_close = close_queue,
    .submit = submit,
    .progress = progress,
    .poll = poll,
    .report = report,
};
