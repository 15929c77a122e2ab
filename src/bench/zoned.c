/* Jobs that write to zoned devices: zone after zone, each in order, and reset before it is written
 * again. */
#include <ashlar/blk_driver.h>
#include <ashlar/zone.h>

#include <errno.h>

#include "base/util.h"
#include "bench/job.h"

static int check_job(const struct run *run, const struct blk_info *i, struct blk_error *err)
{
    const struct bench_job *job = run->job;
    bool writes = job->read_percent < 100 && job->verify != BENCH_VERIFY_CHECK;
    if (writes && (job->pattern == BENCH_RANDOM || job->read_percent))
        return blk_error_set(err, -EINVAL,
                             "a zoned device is written in order: by write or append, not at "
                             "random and not mixed with reads");
    if (job->append && job->verify)
        return blk_error_set(err, -EINVAL,
                             "what is appended cannot be verified: its place is not "
                             "known before");
    if (job->append && job->block > i->max_append)
        return blk_error_set(err, -EINVAL, "appends are at most %u bytes", i->max_append);
    if (job->offset % i->zone_size || job->range % i->zone_size)
        return blk_error_set(err, -EINVAL,
                             "the range must be whole zones of %llu bytes of this device",
                             (unsigned long long)i->zone_size);
    return 0;
}

/* Zones of the range: all must be sequential; blocks of the least of their capacities. */
static int measure(struct run *run, struct blk_queue *q, uint64_t first, uint64_t end, bool reset,
                   struct blk_error *err)
{
    uint64_t capacity = run->zone_size;
    for (uint64_t at = first; at < end; at++) {
        struct blk_zone z;
        int n = blk_zone_report(q, at * run->zone_size, &z, 1);
        if (n == 1 && z.state == BLK_ZONE_NO_WP)
            return blk_error_set(err, -EINVAL,
                                 "zone %llu is conventional: choose sequential zones by offset and "
                                 "size",
                                 (unsigned long long)at);
        if (n == 1 && reset && z.state != BLK_ZONE_EMPTY)
            n = blk_zone_reset(q, at * run->zone_size);
        if (n < 0)
            return blk_error_set(err, n, "zone %llu cannot be reset: %s", (unsigned long long)at,
                                 blk_zone_error_name(n) ? blk_zone_error_name(n) : "an error");
        capacity = min_u64(capacity, z.capacity);
    }
    run->zone_blocks = capacity / run->job->block;
    if (!run->zone_blocks || capacity % run->job->block)
        return blk_error_set(err, -EINVAL, "the request size must divide the zones' capacity %llu",
                             (unsigned long long)capacity);
    return 0;
}

int bench_zoned_prepare(struct run *run, struct blk_error *err)
{
    const struct bench_job *job = run->job;
    const struct blk_info *i = blk_info(run->dev);
    struct blk_queue *q;
    if (job->append && !i->zoned)
        return blk_error_set(err, -EINVAL, "append is for zoned devices");
    if (!i->zoned || (job->read_percent == 100 && !job->verify))
        return 0;
    int error = check_job(run, i, err);
    if (error < 0)
        return error;
    run->zone_size = i->zone_size;
    uint64_t first = job->offset / i->zone_size;
    uint64_t end = job->range ? first + job->range / i->zone_size : i->zone_count;
    error = blk_queue_open(run->dev, 1, &q);
    if (error < 0)
        return blk_error_set(err, error, "no queue");
    error = measure(run, q, first, end, job->verify != BENCH_VERIFY_CHECK, err);
    blk_queue_close(q);
    if (error < 0)
        return error;
    if (end - first < job->threads)
        return blk_error_set(err, -EINVAL, "the range has no zone for every thread");
    run->first_block = first * run->zone_blocks;
    run->blocks = (end - first) * run->zone_blocks;
    return 0;
}
