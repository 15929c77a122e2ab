/* One thread of a job: it keeps its queue full and notes what comes back. */
#include "bench/job.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "bench/verify.h"

/* ---- what to ask next ------------------------------------------------------------------ */

/* A permutation of the numbers below n, one step: a full-period generator over the next power of
 * two, with the numbers from n on left out. */
static uint64_t permute_next(uint64_t x, uint64_t n)
{
    uint64_t mask = n > 1 ? (UINT64_C(1) << (64 - __builtin_clzll(n - 1))) - 1 : 0;
    do {
        x = (x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407)) & mask;
    } while (x >= n);
    return x;
}

static uint64_t next_block(struct worker *w)
{
    const struct run *run = w->run;
    if (run->pass == PASS_MEASURE && run->job->pattern == BENCH_RANDOM)
        return run->first_block + random_below(&w->random, run->blocks);
    uint64_t block = w->first + w->next;
    if (run->job->pattern == BENCH_RANDOM)
        w->next = permute_next(w->next, w->blocks);
    else
        w->next = w->next + 1 < w->blocks ? w->next + 1 : 0;
    w->again |= !w->next;
    w->zone_ready = false;
    return block;
}

static bool is_read(struct worker *w)
{
    unsigned percent = w->run->job->read_percent;
    if (w->run->pass != PASS_MEASURE)
        return w->run->pass == PASS_CHECK;
    return percent == 100 || (percent && random_below(&w->random, 100) < percent);
}

static char *buffer_of(const struct worker *w, const struct blk_req *r)
{
    return w->buffer + (size_t)(r - w->reqs) * w->run->job->block;
}

static struct verify_stamp stamp_of(const struct worker *w, const struct blk_req *r)
{
    const struct bench_job *job = w->run->job;
    return (struct verify_stamp){r->offset, job->seed, job->generation};
}

/* Whether the next write is the first to a zone that is full of an earlier round. */
static bool reset_due(const struct worker *w)
{
    const struct run *run = w->run;
    return run->zone_blocks && run->pass == PASS_MEASURE && w->again && !w->zone_ready &&
           w->next % run->zone_blocks == 0;
}

static void prepare_write(const struct worker *w, struct blk_req *r, uint64_t offset, char *buffer)
{
    const struct run *run = w->run;
    blk_req_write(r, offset, buffer, run->job->block);
    if (run->job->append) {
        r->op = BLK_ZONE_APPEND;
        r->offset -= offset % run->zone_size;
    }
}

static void prepare(struct worker *w, struct blk_req *r)
{
    const struct bench_job *job = w->run->job;
    if (reset_due(w)) {
        blk_req_init(r, BLK_ZONE_RESET, run_offset(w->run, w->first + w->next), 0);
        return;
    }
    if (w->flush_due) {
        w->flush_due = false;
        blk_req_init(r, BLK_FLUSH, 0, 0);
        return;
    }
    uint64_t offset = run_offset(w->run, next_block(w));
    char *buffer = buffer_of(w, r);
    w->left--;
    if (is_read(w)) {
        blk_req_read(r, offset, buffer, job->block);
        return;
    }
    prepare_write(w, r, offset, buffer);
    if (w->run->pass == PASS_WRITE) {
        struct verify_stamp stamp = stamp_of(w, r);
        verify_fill(buffer, job->block, &stamp);
    }
    if (job->flush_every && ++w->writes == job->flush_every) {
        w->writes = 0;
        w->flush_due = true;
    }
}

/* How many requests may start now; when the rate holds them back, *wait says how long. */
static unsigned allowed(struct worker *w, uint64_t now, int64_t *wait)
{
    const struct bench_job *job = w->run->job;
    unsigned n = (unsigned)min_u64(w->idle_count, w->left + w->flush_due);
    *wait = BLK_FOREVER;
    if (now >= w->run->end || __atomic_load_n(&w->run->stop, __ATOMIC_RELAXED) ||
        (job->stop && __atomic_load_n(job->stop, __ATOMIC_RELAXED)))
        return 0;
    if (n && reset_due(w)) /* alone: nothing else is in flight */
        return w->idle_count == job->depth;
    if (w->run->zone_blocks) /* not into the next zone, which may need a reset first */
        n = (unsigned)min_u64(n, w->run->zone_blocks - w->next % w->run->zone_blocks);
    if (!job->rate || !n)
        return n;
    uint64_t interval = BENCH_SECOND * job->threads / job->rate;
    unsigned m = 0;
    for (; m < n && w->due <= now; m++)
        w->due += interval;
    if (!m)
        *wait = (int64_t)min_u64(w->due - now, w->run->end - now);
    return m;
}

/* ---- what came back -------------------------------------------------------------------- */

static void note_error(struct worker *w, const struct blk_req *r)
{
    if (!w->errors++) {
        w->first_error = r->result;
        w->error_op = r->op;
        w->error_offset = r->offset;
    }
    __atomic_store_n(&w->run->stop, true, __ATOMIC_RELAXED);
}

static void check(struct worker *w, const struct blk_req *r)
{
    struct verify_stamp stamp = stamp_of(w, r);
    struct bench_damage damage;
    w->checked++;
    if (verify_check(buffer_of(w, r), w->run->job->block, &stamp, &damage))
        return;
    if (w->damaged < BENCH_DAMAGE_MAX)
        w->damage[w->damaged] = damage;
    w->damaged++;
}

static void account(struct worker *w, struct blk_req *r, uint64_t now)
{
    const struct run *run = w->run;
    w->idle[w->idle_count++] = r;
    if (r->result < 0) {
        note_error(w, r);
        return;
    }
    if (r->op == BLK_ZONE_RESET) {
        w->zone_ready = true;
        return;
    }
    if (run->pass == PASS_CHECK)
        check(w, r);
    if (now < run->measure_from || now > run->end)
        return;
    uint64_t latency = now - w->submitted[r - w->reqs];
    w->last = now;
    if (r->op == BLK_READ)
        hist_add(&w->read, latency);
    else if (r->op == BLK_WRITE || r->op == BLK_ZONE_APPEND)
        hist_add(&w->write, latency);
    else
        w->flushes++;
}

/* ---- the loop -------------------------------------------------------------------------- */

static void start_requests(struct worker *w, unsigned n)
{
    struct blk_req **batch = w->idle + w->idle_count - n;
    for (unsigned i = 0; i < n; i++)
        prepare(w, batch[i]);
    uint64_t now = base_now_ns();
    for (unsigned i = 0; i < n; i++)
        w->submitted[batch[i] - w->reqs] = now;
    w->idle_count -= blk_submit(w->queue, batch, n); /* all: there are no more than depth */
}

static void loop(struct worker *w)
{
    unsigned depth = w->run->job->depth;
    uint64_t now = w->run->start;
    for (;;) {
        int64_t wait;
        unsigned n = allowed(w, now, &wait);
        if (n)
            start_requests(w, n);
        unsigned in_flight = depth - w->idle_count;
        if (!in_flight && wait == BLK_FOREVER)
            return;
        if (!in_flight)
            base_sleep_until_ns(now + (uint64_t)wait);
        unsigned got = blk_reap(w->queue, w->done, depth, wait);
        now = base_now_ns();
        for (unsigned i = 0; i < got; i++)
            account(w, w->done[i], now);
    }
}

/* ---- set-up ---------------------------------------------------------------------------- */

static int allocate(struct worker *w)
{
    const struct bench_job *job = w->run->job;
    size_t size = (size_t)job->depth * job->block;
    w->reqs = base_alloc_array(job->depth, sizeof(*w->reqs));
    w->idle = base_alloc_array(job->depth, sizeof(struct blk_req *));
    w->done = base_alloc_array(job->depth, sizeof(struct blk_req *));
    w->submitted = base_alloc_array(job->depth, sizeof(*w->submitted));
    w->buffer = blk_buf_alloc(w->queue, size);
    if (!w->reqs || !w->idle || !w->done || !w->submitted || !w->buffer)
        return -ENOMEM;
    for (unsigned i = 0; i < job->depth; i++)
        w->idle[w->idle_count++] = &w->reqs[i];
    /* Contents that no layer can compress or take for zeroes. */
    uint64_t state = job->seed + w->index;
    for (size_t at = 0; at + 8 <= size; at += 8)
        store_le64(w->buffer + at, random_next(&state));
    return 0;
}

static void release(struct worker *w)
{
    if (w->queue)
        blk_queue_close(w->queue);
    base_free(w->reqs);
    base_free(w->idle);
    base_free(w->done);
    base_free(w->submitted);
}

/* Say that this thread is ready and wait for the start. False: somebody is not. */
static bool wait_for_start(struct worker *w)
{
    struct run *run = w->run;
    base_mutex_lock(&run->lock);
    run->ready++;
    base_cond_broadcast(&run->changed);
    while (!run->start)
        base_cond_wait(&run->changed, &run->lock);
    base_mutex_unlock(&run->lock);
    return !__atomic_load_n(&run->stop, __ATOMIC_RELAXED);
}

void worker_main(void *arg)
{
    struct worker *w = arg;
    w->error = blk_queue_open(w->run->dev, w->run->job->depth, &w->queue);
    if (w->error == 0)
        w->error = allocate(w);
    if (w->error < 0)
        __atomic_store_n(&w->run->stop, true, __ATOMIC_RELAXED);
    if (wait_for_start(w))
        loop(w);
    release(w);
}
