/* bench/job.h: what the threads of a job share, and what each has of its own. */
#ifndef BENCH_JOB_H
#define BENCH_JOB_H

#include <ashlar/bench.h>

#include "base/hist.h"
#include "base/platform.h"

/* What a pass does; a verify job may have two, one after the other. */
enum pass { PASS_MEASURE, PASS_WRITE, PASS_CHECK };

struct worker {
    struct run *run;
    unsigned index;
    struct base_thread thread;
    struct blk_queue *queue;
    int error; /* of the set-up */

    struct blk_req *reqs;  /* depth of them; reqs[i] uses the i-th block of buffer */
    struct blk_req **idle; /* stack of requests that are not in flight */
    struct blk_req **done; /* room for blk_reap() */
    uint64_t *submitted;   /* when reqs[i] went down */
    char *buffer;
    unsigned idle_count;

    uint64_t random; /* generator of offsets and of the mix */
    uint64_t first;  /* its part of the range: blocks [first, first + blocks) */
    uint64_t blocks;
    uint64_t next;   /* sequential: the block that comes next, within its part */
    bool again;      /* zoned: it has been through its part, so zones must be reset */
    bool zone_ready; /* and the next one has been */
    uint64_t walked; /* passes: blocks handed out */
    uint64_t left;   /* requests that it may still start */
    uint64_t writes; /* since the last flush */
    bool flush_due;
    uint64_t due; /* rate: when the next request may start */

    /* Its share of the result. */
    struct hist read;
    struct hist write;
    uint64_t flushes;
    uint64_t last; /* when the last counted request completed */
    uint64_t errors;
    int first_error;
    uint8_t error_op;
    uint64_t error_offset;
    uint64_t checked;
    uint64_t damaged;
    struct bench_damage damage[BENCH_DAMAGE_MAX];
};

struct run {
    struct blk *dev;
    const struct bench_job *job;
    enum pass pass;
    uint64_t first_block; /* of the range, in blocks of the job */
    uint64_t blocks;
    uint64_t zone_size;   /* of a job that writes zones, in bytes */
    uint64_t zone_blocks; /* blocks of the job in a zone; 0: no zones */
    struct worker *workers;
    bool stop; /* atomic: somebody failed */

    struct base_mutex lock; /* guards ready, start */
    struct base_cond changed;
    unsigned ready; /* threads that are set up, or have failed to */
    uint64_t start; /* when all begin; 0: not yet */
    uint64_t measure_from;
    uint64_t end; /* UINT64_MAX: until the count */
};

/* Where a block is: those of a zone stand together at its start. */
static inline uint64_t run_offset(const struct run *run, uint64_t block)
{
    if (!run->zone_blocks)
        return block * run->job->block;
    return block / run->zone_blocks * run->zone_size + block % run->zone_blocks * run->job->block;
}

/* zoned.c: of a job that writes to a zoned device, or appends: check it, divide the range into
 * zones and reset them. Other jobs it leaves alone. */
int bench_zoned_prepare(struct run *run, struct blk_error *err);

/* worker.c: a thread's life, from opening its queue to closing it. */
void worker_main(void *arg);

#endif
