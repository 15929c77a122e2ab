/* A job: its threads are started together, and their shares become one result. */
#include <ashlar/blk_driver.h>
#include <ashlar/zone.h>

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "bench/job.h"
#include "bench/verify.h"

const uint32_t bench_curve_ppm[BENCH_CURVE_POINTS] = {
    0,      100000, 200000, 300000, 400000, 500000, 600000, 700000, 800000, 900000,
    950000, 970000, 990000, 995000, 998000, 999000, 999500, 999900, 999990, 1000000,
};

static int fits(const struct blk *dev, const struct bench_job *job, struct run *run,
                struct blk_error *err)
{
    const struct blk_info *i = blk_info(dev);
    bool verify = job->verify != BENCH_VERIFY_OFF;
    if (!job->block || job->block % i->block_size || job->block > i->max_transfer)
        return blk_error_set(err, -EINVAL, "requests must be multiples of %u up to %u bytes",
                             i->block_size, i->max_transfer);
    if (verify && job->block < VERIFY_MIN_BLOCK)
        return blk_error_set(err, -EINVAL, "verified blocks have at least %d bytes",
                             VERIFY_MIN_BLOCK);
    if (!job->depth || job->depth > i->max_depth)
        return blk_error_set(err, -EINVAL, "the depth must be from 1 to %u", i->max_depth);
    if (!job->threads || job->threads > i->max_queues)
        return blk_error_set(err, -EINVAL, "the threads must be from 1 to %u", i->max_queues);
    if (job->read_percent > 100)
        return blk_error_set(err, -EINVAL, "the share of reads must be from 0 to 100");
    if (!verify && !job->runtime && !job->count)
        return blk_error_set(err, -EINVAL, "neither a time nor a count is given");
    if (job->offset % job->block)
        return blk_error_set(err, -EINVAL, "the offset must be a multiple of the request size");
    uint64_t range = job->range ? job->range : i->size - min_u64(job->offset, i->size);
    if (!range_ok(job->offset, range, i->size))
        return blk_error_set(err, -ERANGE, "the range reaches past the end at %llu",
                             (unsigned long long)i->size);
    run->first_block = job->offset / job->block;
    run->blocks = range / job->block;
    int error = bench_zoned_prepare(run, err);
    if (error < 0)
        return error;
    if (run->blocks < job->threads)
        return blk_error_set(err, -EINVAL, "the range has no block for every thread");
    return 0;
}

/* Set the start and the end once all threads stand ready. */
static void give_start(struct run *run)
{
    const struct bench_job *job = run->job;
    base_mutex_lock(&run->lock);
    while (run->ready < job->threads)
        base_cond_wait(&run->changed, &run->lock);
    run->start = base_now_ns();
    run->measure_from = run->start;
    run->end = UINT64_MAX;
    if (run->pass == PASS_MEASURE) {
        run->measure_from += job->warmup;
        if (job->runtime)
            run->end = run->measure_from + job->runtime;
    }
    for (unsigned i = 0; i < job->threads; i++)
        run->workers[i].due = run->start;
    base_cond_broadcast(&run->changed);
    base_mutex_unlock(&run->lock);
}

static void give_part(struct run *run, unsigned index)
{
    const struct bench_job *job = run->job;
    struct worker *w = &run->workers[index];
    uint64_t unit = run->zone_blocks ? run->zone_blocks : 1; /* a zone has one writer */
    uint64_t first = run->blocks / unit * index / job->threads * unit;
    uint64_t next = run->blocks / unit * (index + 1) / job->threads * unit;
    w->run = run;
    w->index = index;
    w->first = run->first_block + first;
    w->blocks = next - first;
    w->random = job->seed + index * UINT64_C(0x9e3779b97f4a7c15);
    w->left = UINT64_MAX - 1;
    if (run->pass != PASS_MEASURE)
        w->left = w->blocks;
    else if (job->count)
        w->left = job->count / job->threads + (index < job->count % job->threads);
}

static void add_side(struct bench_side *side, const struct hist *h, uint32_t block)
{
    side->count = h->count;
    side->bytes = h->count * block;
    side->mean = hist_mean(h);
    side->p50 = hist_percentile(h, 500000);
    side->p95 = hist_percentile(h, 950000);
    side->p99 = hist_percentile(h, 990000);
    side->p999 = hist_percentile(h, 999000);
    side->max = h->max;
    for (unsigned i = 0; i < BENCH_CURVE_POINTS; i++)
        side->curve[i] = hist_percentile(h, bench_curve_ppm[i]);
}

static void add_damage(struct bench_result *result, const struct worker *w)
{
    for (uint64_t i = 0; i < w->damaged && i < BENCH_DAMAGE_MAX; i++)
        if (result->damaged + i < BENCH_DAMAGE_MAX)
            result->damage[result->damaged + i] = w->damage[i];
    result->damaged += w->damaged;
    result->checked += w->checked;
}

/* Join the threads' shares; a side that this pass did not touch keeps what it had. */
static void collect(struct run *run, struct bench_result *result)
{
    struct hist *read = &run->workers[0].read, *write = &run->workers[0].write;
    uint64_t last = run->measure_from;
    for (unsigned i = 0; i < run->job->threads; i++) {
        const struct worker *w = &run->workers[i];
        if (i) {
            hist_merge(read, &w->read);
            hist_merge(write, &w->write);
        }
        last = max_u64(last, w->last);
        result->flushes += w->flushes;
        add_damage(result, w);
        if (w->errors && !result->errors) {
            result->error = w->first_error;
            result->error_op = w->error_op;
            result->error_offset = w->error_offset;
        }
        result->errors += w->errors;
    }
    if (read->count)
        add_side(&result->read, read, run->job->block);
    if (write->count)
        add_side(&result->write, write, run->job->block);
    result->elapsed = (run->end == UINT64_MAX ? last : run->end) - run->measure_from;
}

static int outcome(const struct run *run, const struct bench_result *result, struct blk_error *err)
{
    for (unsigned i = 0; i < run->job->threads; i++)
        if (run->workers[i].error < 0)
            return blk_error_set(err, run->workers[i].error, "thread %u cannot start: %s", i,
                                 run->workers[i].error == -ENOMEM ? "out of memory" : "no queue");
    const char *name = blk_info(run->dev)->zoned ? blk_zone_error_name(result->error) : NULL;
    if (result->errors && name)
        return blk_error_set(err, result->error, "%s at %llu failed: %s",
                             blk_op_name(result->error_op),
                             (unsigned long long)result->error_offset, name);
    if (result->errors)
        return blk_error_set(err, result->error, "%s at %llu failed: errno %d",
                             blk_op_name(result->error_op),
                             (unsigned long long)result->error_offset, -result->error);
    return 0;
}

static bool pinned(const struct bench_job *job)
{
    return job->pin == BENCH_PIN_ON || (job->pin == BENCH_PIN_AUTO && job->threads > 1);
}

static int run_pass(struct run *run, enum pass pass, struct bench_result *result,
                    struct blk_error *err)
{
    const struct bench_job *job = run->job;
    run->pass = pass;
    run->ready = 0;
    run->start = 0;
    run->stop = false;
    run->workers = base_alloc_array(job->threads, sizeof(*run->workers));
    if (!run->workers)
        return blk_error_set(err, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < job->threads; i++) {
        struct worker *w = &run->workers[i];
        int cpu = pinned(job) ? (int)(i % base_cpu_count()) : -1;
        give_part(run, i);
        int error = base_thread_start(&w->thread, worker_main, w, cpu);
        if (error < 0) { /* the place is filled by one that failed */
            w->error = error;
            w->run = NULL;
            base_mutex_lock(&run->lock);
            run->ready++;
            run->stop = true;
            base_mutex_unlock(&run->lock);
        }
    }
    give_start(run);
    for (unsigned i = 0; i < job->threads; i++)
        if (run->workers[i].run)
            base_thread_join(&run->workers[i].thread);
    collect(run, result);
    int error = outcome(run, result, err);
    base_free(run->workers);
    return error;
}

static int flush_device(struct blk *dev, struct blk_error *err)
{
    struct blk_queue *q;
    int error = blk_queue_open(dev, 1, &q);
    if (error == 0) {
        error = blk_flush(q);
        blk_queue_close(q);
    }
    return error < 0 ? blk_error_set(err, error, "flush failed: errno %d", -error) : 0;
}

static int run_passes(struct run *run, struct bench_result *result, struct blk_error *err)
{
    enum bench_verify verify = run->job->verify;
    int error = 0;
    if (verify == BENCH_VERIFY_OFF)
        return run_pass(run, PASS_MEASURE, result, err);
    if (verify != BENCH_VERIFY_CHECK)
        error = run_pass(run, PASS_WRITE, result, err);
    if (error == 0 && verify != BENCH_VERIFY_CHECK)
        error = flush_device(run->dev, err);
    if (error == 0 && verify != BENCH_VERIFY_FILL)
        error = run_pass(run, PASS_CHECK, result, err);
    if (error < 0 || !result->damaged)
        return error;
    return blk_error_set(err, -EILSEQ, "%llu of %llu blocks are damaged; the first: %s at %llu",
                         (unsigned long long)result->damaged, (unsigned long long)result->checked,
                         bench_damage_name(result->damage[0].kind),
                         (unsigned long long)result->damage[0].offset);
}

int bench_run(struct blk *dev, const struct bench_job *job, struct bench_result *result,
              struct blk_error *err)
{
    struct run run = {.dev = dev, .job = job};
    memset(result, 0, sizeof(*result));
    int error = fits(dev, job, &run, err);
    if (error < 0)
        return error;
    base_mutex_init(&run.lock);
    base_cond_init(&run.changed);
    error = run_passes(&run, result, err);
    base_cond_fini(&run.changed);
    base_mutex_fini(&run.lock);
    return error;
}
