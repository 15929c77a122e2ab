/*
 * ashlar/bench.h: run a workload against any device and measure it.
 *
 *     struct bench_job job = BENCH_JOB_DEFAULT;
 *     job.pattern = BENCH_RANDOM;
 *     job.depth = 32;
 *     job.runtime = 2 * BENCH_SECOND;
 *     struct bench_result result;
 *     struct blk_error err;
 *     if (bench_run(dev, &job, &result, &err) < 0)
 *         die(err.text);
 *
 * Each thread has a queue of its own; several are pinned to processors. Within the measured loop
 * nothing is allocated or locked. Times are nanoseconds.
 *
 * Zoned devices are written zone after zone, each thread its own, after a reset; a job that writes
 * at random or mixes reads and writes is refused there. The time of resets does not count as
 * latency.
 *
 * How it is measured: the clock is read once before each batch is submitted and once after each
 * batch is reaped; a request's latency is the difference. Requests that complete within the
 * measured time (after the warm-up, before the end) count.
 */
#ifndef ASHLAR_BENCH_H
#define ASHLAR_BENCH_H

#include <ashlar/blk.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_SECOND UINT64_C(1000000000)

enum bench_pattern {
    BENCH_SEQUENTIAL, /* each thread goes through its part of the range, again and again */
    BENCH_RANDOM,     /* each request anywhere in the range */
};

/*
 * Verification. A verified block holds its offset, the seed and generation of the pass that wrote
 * it, and a CRC-32C of all of it; its bytes follow from those. A write pass writes every block of
 * the range exactly once, in order or in a random permutation.
 */
enum bench_verify {
    BENCH_VERIFY_OFF,
    BENCH_VERIFY_WRITE, /* a write pass of job.generation, a flush, then a check pass */
    BENCH_VERIFY_FILL,  /* the write pass and the flush alone: a later run checks */
    /* A check pass: every block of the range must be what a pass of job.seed with at least
     * job.generation wrote at this place. Proves that no block of that pass was lost (an older
     * generation, another seed or nothing is there), moved (another offset is in it) or torn
     * (head and tail of different passes, or a wrong checksum). A newer generation passes: a later
     * pass may have been cut short. */
    BENCH_VERIFY_CHECK,
};

/* Threads on processors of their own, in turn. A lone thread is better left to the scheduler, which
 * takes it to the processor that its device interrupts; several it would push around. */
enum bench_pin {
    BENCH_PIN_AUTO, /* if there are several threads */
    BENCH_PIN_ON,
    BENCH_PIN_OFF,
};

struct bench_job {
    enum bench_pattern pattern;
    unsigned read_percent; /* 100: reads only; 0: writes only; else a random mix */
    uint32_t block;        /* bytes of a request */
    unsigned depth;        /* requests in flight on each queue */
    unsigned threads;
    uint64_t offset;      /* start of the range */
    uint64_t range;       /* its length; 0: to the end of the device */
    uint64_t runtime;     /* measured time; 0: until count */
    uint64_t warmup;      /* before it */
    uint64_t count;       /* requests of all threads; 0: until runtime */
    uint64_t rate;        /* requests a second of all threads; 0: as fast as it goes */
    uint64_t flush_every; /* a flush after so many writes of a thread; 0: none */
    uint64_t seed;
    enum bench_verify verify; /* a pass replaces runtime and count */
    uint64_t generation;      /* from 1 */
    enum bench_pin pin;
    bool append;      /* writes are zone appends; for zoned devices */
    const bool *stop; /* if not NULL and it becomes true (atomic), the job ends early */
};

#define BENCH_JOB_DEFAULT                                                                          \
    {                                                                                              \
        .read_percent = 100, .block = 4096, .depth = 1, .threads = 1, .runtime = BENCH_SECOND,     \
        .seed = 1, .generation = 1                                                                 \
    }

/* Points of the latency curve, as shares of a million: 0, 10 %, ... 50 %, ... 99.99 %, 100 %. */
#define BENCH_CURVE_POINTS 20
ASHLAR_API extern const uint32_t bench_curve_ppm[BENCH_CURVE_POINTS];

/* One direction of a result. Percentiles are at most 3.2 % above the true value. */
struct bench_side {
    uint64_t count;
    uint64_t bytes;
    uint64_t mean;
    uint64_t p50;
    uint64_t p95;
    uint64_t p99;
    uint64_t p999;
    uint64_t max;
    uint64_t curve[BENCH_CURVE_POINTS];
};

enum bench_damage_kind {
    BENCH_LOST,      /* nothing that a verified pass wrote, or another seed's */
    BENCH_STALE,     /* an older generation than asked for */
    BENCH_MISPLACED, /* a sound block of another offset */
    BENCH_TORN,      /* head and tail are of different passes */
    BENCH_CORRUPT,   /* the checksum is wrong */
};

struct bench_damage {
    uint64_t offset;
    enum bench_damage_kind kind;
    uint64_t found; /* STALE, TORN: the generation; MISPLACED: the offset that is in the block */
};

#define BENCH_DAMAGE_MAX 8

struct bench_result {
    uint64_t elapsed; /* measured time */
    struct bench_side read;
    struct bench_side write;
    uint64_t flushes;
    uint64_t errors; /* requests that failed; the job stops at the first */
    int error;       /* of the first: a negative errno, with */
    uint8_t error_op;
    uint64_t error_offset;
    uint64_t checked;                             /* verify: blocks looked at */
    uint64_t damaged;                             /* of those not as they must be, and */
    struct bench_damage damage[BENCH_DAMAGE_MAX]; /* the first of them, by offset in a thread */
};

/* Run a job. 0, or a negative errno with a message: -EINVAL (the job does not fit the device),
 * -ENOMEM, -EBUSY (more threads than the device has queues), the error of the first request that
 * failed, -EILSEQ (damage was found; *result tells). */
ASHLAR_API int bench_run(struct blk *dev, const struct bench_job *job, struct bench_result *result,
                         struct blk_error *err);

/* "lost", "stale", "misplaced", "torn", "corrupt". */
ASHLAR_API const char *bench_damage_name(enum bench_damage_kind kind);

#ifdef __cplusplus
}
#endif

#endif
