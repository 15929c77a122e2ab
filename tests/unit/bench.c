/* The workload engine: what it asks of a device, what it counts, what its verification finds. */
#include "test.h"

#include <stdlib.h>

#include <ashlar/bench.h>
#include <ashlar/blk_driver.h>

/* ---- a device that notes what is asked of it --------------------------------------------- */

enum { BLOCKS = 1024, BLOCK = 4096 };

struct notes {
    unsigned hits[BLOCKS]; /* atomic: requests that began at this block */
    unsigned reads, writes, flushes;
    unsigned in_flight_max;
    uint64_t fail_at; /* requests until the one that fails; 0: none does */
};

static struct notes notes;

static int notes_open(struct blk *dev, struct blk_error *err)
{
    (void)err;
    dev->info.size = BLOCKS * BLOCK;
    return 0;
}

static void notes_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    unsigned most = __atomic_load_n(&notes.in_flight_max, __ATOMIC_RELAXED);
    while (n > most && !__atomic_compare_exchange_n(&notes.in_flight_max, &most, n, false,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        unsigned *kind = r->op == BLK_READ    ? &notes.reads
                         : r->op == BLK_WRITE ? &notes.writes
                                              : &notes.flushes;
        __atomic_fetch_add(kind, 1, __ATOMIC_RELAXED);
        if (r->op != BLK_FLUSH)
            __atomic_fetch_add(&notes.hits[r->offset / BLOCK], 1, __ATOMIC_RELAXED);
        blk_complete(queue, r, notes.fail_at && !--notes.fail_at ? -ENOSPC : 0);
    }
}

static const struct blk_driver notes_driver = {
    .name = "notes",
    .summary = "for this test",
    .open = notes_open,
    .submit = notes_submit,
};

static struct bench_result result;
static struct blk_error err;

static int run_on(const char *spec, const struct bench_job *job)
{
    struct blk *dev = test_open(spec);
    memset(&notes.hits, 0, sizeof(notes.hits));
    notes.reads = notes.writes = notes.flushes = notes.in_flight_max = 0;
    err.text[0] = '\0';
    int error = bench_run(dev, job, &result, &err);
    assert_int_equal(blk_close(dev), 0);
    return error;
}

static struct bench_job counted(uint64_t count)
{
    struct bench_job job = BENCH_JOB_DEFAULT;
    job.runtime = 0;
    job.count = count;
    return job;
}

/* ---- what is asked ----------------------------------------------------------------------- */

static void sequential(void **state)
{
    (void)state;
    struct bench_job job = counted(BLOCKS);
    assert_int_equal(run_on("notes", &job), 0);
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(notes.hits[i], 1);
    assert_int_equal(result.read.count, BLOCKS);
    assert_int_equal(result.read.bytes, (uint64_t)BLOCKS * BLOCK);
    assert_int_equal(result.write.count, 0);
    assert_int_equal(notes.in_flight_max, 1);
    /* Two threads: each its half; the odd request belongs to the first. */
    job.threads = 2;
    job.count = BLOCKS + 1;
    job.depth = 8;
    assert_int_equal(run_on("notes", &job), 0);
    assert_int_equal(notes.reads, BLOCKS + 1);
    assert_int_equal(notes.hits[0], 2);
    for (int i = 1; i < BLOCKS; i++)
        assert_int_equal(notes.hits[i], 1);
    assert_int_equal(notes.in_flight_max, 8);
}

static void random_in_range(void **state)
{
    (void)state;
    struct bench_job job = counted(20000);
    job.pattern = BENCH_RANDOM;
    job.offset = 100 * BLOCK;
    job.range = 200 * BLOCK + 512; /* what is no whole request is left out */
    job.depth = 32;
    job.read_percent = 30;
    assert_int_equal(run_on("notes", &job), 0);
    for (int i = 0; i < BLOCKS; i++)
        if (i < 100 || i >= 300)
            assert_int_equal(notes.hits[i], 0);
        else
            assert_in_range(notes.hits[i], 50, 150); /* 100 expected, 5 sigma */
    assert_in_range(notes.reads, 5600, 6400);        /* 6000 expected, 6 sigma */
    assert_int_equal(notes.reads + notes.writes, 20000);
    assert_int_equal(result.read.count, notes.reads);
    assert_int_equal(result.write.count, notes.writes);
    /* The same seed asks the same. */
    unsigned reads = notes.reads, hits = notes.hits[150];
    assert_int_equal(run_on("notes", &job), 0);
    assert_int_equal(notes.reads, reads);
    assert_int_equal(notes.hits[150], hits);
    job.seed = 2;
    assert_int_equal(run_on("notes", &job), 0);
    assert_true(notes.reads != reads || notes.hits[150] != hits);
}

static void flushes(void **state)
{
    (void)state;
    struct bench_job job = counted(100);
    job.read_percent = 0;
    job.flush_every = 10;
    assert_int_equal(run_on("notes", &job), 0);
    assert_int_equal(notes.writes, 100);
    assert_int_equal(notes.flushes, 10);
    assert_int_equal(result.flushes, 10);
}

static void time_and_rate(void **state)
{
    (void)state;
    struct bench_job job = BENCH_JOB_DEFAULT;
    job.runtime = BENCH_SECOND / 10;
    job.warmup = BENCH_SECOND / 50;
    assert_int_equal(run_on("null:1G", &job), 0);
    assert_int_equal(result.elapsed, BENCH_SECOND / 10);
    assert_true(result.read.count > 0);
    /* At 1000 a second, a tenth of a second has room for 100 and no more; a slow machine may do
     * fewer, a busy one none. */
    job.rate = 1000;
    job.warmup = 0;
    job.threads = 2;
    job.depth = 16;
    assert_int_equal(run_on("null:1G", &job), 0);
    assert_true(result.read.count <= 102);
    /* And 50 take their time. */
    job = counted(50);
    job.rate = 1000;
    assert_int_equal(run_on("null:1G", &job), 0);
    assert_int_equal(result.read.count, 50);
    assert_true(result.elapsed >= BENCH_SECOND / 25);
}

static void latencies_are_in_order(void **state)
{
    (void)state;
    struct bench_job job = counted(100000);
    job.depth = 4;
    assert_int_equal(run_on("mem:16M", &job), 0);
    const struct bench_side *s = &result.read;
    assert_true(s->p50 <= s->p95 && s->p95 <= s->p99 && s->p99 <= s->p999 && s->p999 <= s->max);
    for (int i = 1; i < BENCH_CURVE_POINTS; i++)
        assert_true(s->curve[i - 1] <= s->curve[i]);
    assert_int_equal(s->curve[BENCH_CURVE_POINTS - 1], s->max);
    assert_true(s->mean > 0 && s->mean <= s->max);
}

static void errors_are_told(void **state)
{
    (void)state;
    struct bench_job job = counted(1000);
    notes.fail_at = 77;
    assert_int_equal(run_on("notes", &job), -ENOSPC);
    assert_non_null(strstr(err.text, "read at 311296 failed")); /* the 77th block */
    assert_int_equal(result.errors, 1);
    assert_int_equal(result.error, -ENOSPC);
    assert_int_equal(result.error_offset, 76 * BLOCK);
    notes.fail_at = 0;
    job.read_percent = 0;
    assert_int_equal(run_on("readonly,mem:1M", &job), -EROFS);
}

static void jobs_that_do_not_fit(void **state)
{
    (void)state;
    struct bench_job job = counted(10);
#define REFUSED(field, value, error, says)                                                         \
    do {                                                                                           \
        struct bench_job bad = job;                                                                \
        bad.field = value;                                                                         \
        assert_int_equal(run_on("mem:1M", &bad), error);                                           \
        if (!strstr(err.text, says))                                                               \
            fail_msg("%s", err.text);                                                              \
    } while (0)
    REFUSED(block, 0, -EINVAL, "multiples of 512");
    REFUSED(block, 1000, -EINVAL, "multiples of 512");
    REFUSED(block, 64 << 20, -EINVAL, "up to");
    REFUSED(depth, 0, -EINVAL, "depth");
    REFUSED(depth, 1000000, -EINVAL, "depth");
    REFUSED(threads, 0, -EINVAL, "threads");
    REFUSED(threads, 1025, -EINVAL, "threads");
    REFUSED(threads, 257, -EINVAL, "no block for every thread");
    REFUSED(read_percent, 101, -EINVAL, "0 to 100");
    REFUSED(count, 0, -EINVAL, "neither a time nor a count");
    REFUSED(offset, 512, -EINVAL, "offset");
    REFUSED(offset, 1 << 20, -EINVAL, "no block");
    REFUSED(offset, 2 << 20, -ERANGE, "past the end");
    REFUSED(range, 2 << 20, -ERANGE, "past the end");
    REFUSED(range, UINT64_MAX, -ERANGE, "past the end");
}

/* ---- verification ------------------------------------------------------------------------ */

static int verify_on(struct blk *dev, const struct bench_job *job, enum bench_verify what,
                     uint64_t generation)
{
    struct bench_job j = *job;
    j.verify = what;
    j.generation = generation;
    return bench_run(dev, &j, &result, &err);
}

static void verify_is_quiet_when_all_is_well(void **state)
{
    (void)state;
    for (int random = 0; random < 2; random++)
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct blk *dev = test_open("mem:3M");
            struct bench_job job = counted(0);
            job.pattern = random ? BENCH_RANDOM : BENCH_SEQUENTIAL;
            job.threads = threads;
            job.depth = 8;
            assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_WRITE, 1), 0);
            assert_int_equal(result.write.count, 768);
            assert_int_equal(result.checked, 768);
            assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_CHECK, 1), 0);
            assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_FILL, 2), 0);
            assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_CHECK, 1), 0);
            assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_CHECK, 2), 0);
            assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_CHECK, 3), -EILSEQ);
            assert_int_equal(result.damaged, 768);
            assert_int_equal(result.damage[0].kind, BENCH_STALE);
            blk_close(dev);
        }
}

static void expect_damage(struct blk *dev, const struct bench_job *job, uint64_t offset,
                          enum bench_damage_kind kind, uint64_t found)
{
    assert_int_equal(verify_on(dev, job, BENCH_VERIFY_CHECK, 5), -EILSEQ);
    assert_int_equal(result.damaged, 1);
    assert_int_equal(result.damage[0].offset, offset);
    assert_int_equal(result.damage[0].kind, kind);
    if (kind != BENCH_LOST && kind != BENCH_CORRUPT)
        assert_int_equal(result.damage[0].found, found);
    assert_non_null(strstr(err.text, bench_damage_name(kind)));
}

static void verify_finds_every_kind_of_damage(void **state)
{
    (void)state;
    struct blk *dev = test_open("mem:1M"), *old = test_open("mem:1M");
    struct blk_queue *q = test_queue(dev, 1), *oq = test_queue(old, 1);
    struct bench_job job = counted(0);
    static char good[BLOCK], other[BLOCK], bad[BLOCK];
    job.depth = 4;
    assert_int_equal(verify_on(old, &job, BENCH_VERIFY_FILL, 4), 0);
    assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_FILL, 5), 0);
    assert_int_equal(blk_read(q, 40960, good, BLOCK), 0);
    assert_int_equal(blk_read(oq, 40960, other, BLOCK), 0);

    memset(bad, 0, BLOCK);
    assert_int_equal(blk_write(q, 40960, bad, BLOCK, 0), 0);
    expect_damage(dev, &job, 40960, BENCH_LOST, 0);
    assert_int_equal(blk_write(q, 40960, other, BLOCK, 0), 0);
    expect_damage(dev, &job, 40960, BENCH_STALE, 4);
    memcpy(bad, good, BLOCK); /* the second half never arrived */
    memcpy(bad + 2048, other + 2048, 2048);
    assert_int_equal(blk_write(q, 40960, bad, BLOCK, 0), 0);
    expect_damage(dev, &job, 40960, BENCH_TORN, 5);
    memcpy(bad, good, BLOCK);
    bad[1234] ^= 1;
    assert_int_equal(blk_write(q, 40960, bad, BLOCK, 0), 0);
    expect_damage(dev, &job, 40960, BENCH_CORRUPT, 0);
    assert_int_equal(blk_write(q, 40960, good, BLOCK, 0), 0);
    assert_int_equal(blk_write(q, 81920, good, BLOCK, 0), 0);
    expect_damage(dev, &job, 81920, BENCH_MISPLACED, 40960);
    job.seed = 9;
    assert_int_equal(verify_on(dev, &job, BENCH_VERIFY_CHECK, 5), -EILSEQ);
    assert_int_equal(result.damaged, 256);
    assert_int_equal(result.damage[0].kind, BENCH_LOST);
    test_close(q);
    test_close(oq);
}

/* ---- zoned devices ----------------------------------------------------------------------- */

static void zoned(void **state)
{
    (void)state;
    struct bench_job job = counted(2000); /* 300 in a round: zones are written again and again */
    job.read_percent = 0;
    job.depth = 7;
    for (unsigned threads = 1; threads <= 3; threads++)
        for (int append = 0; append < 2; append++) {
            job.threads = threads;
            job.append = append;
            if (run_on("zns?zone=256K&cap=240K,mem:2M", &job) < 0)
                fail_msg("%s", err.text);
            assert_int_equal(result.write.count, 2000);
            assert_int_equal(result.flushes, 0);
        }
    job.flush_every = 10;
    assert_int_equal(run_on("zns?zone=256K&cap=240K&conventional=1&append_max=4K,mem:2M", &job),
                     -EINVAL);
    assert_non_null(strstr(err.text, "zone 0 is conventional"));
    job.offset = 256 << 10;
    job.range = 768 << 10;
    assert_int_equal(run_on("zns?zone=256K&cap=240K&conventional=1&append_max=4K,mem:2M", &job), 0);
    assert_true(result.flushes > 100);
    job = counted(0);
    job.verify = BENCH_VERIFY_WRITE;
    job.read_percent = 0;
    job.threads = 2;
    job.depth = 8;
    assert_int_equal(run_on("zns?zone=256K&cap=240K,mem:2M", &job), 0);
    assert_int_equal(result.checked, 7 * 60);
}

static void zoned_refused(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *text;
        enum bench_pattern pattern;
        unsigned read_percent;
        bool append;
        enum bench_verify verify;
        uint32_t block;
        uint64_t offset, range;
        unsigned threads;
    } cases[] = {
        {"zns?zone=64K,mem:1M", "in order", BENCH_RANDOM, 0, false, 0, 4096, 0, 0, 1},
        {"zns?zone=64K,mem:1M", "in order", BENCH_SEQUENTIAL, 50, false, 0, 4096, 0, 0, 1},
        {"mem:1M", "append is for zoned devices", BENCH_SEQUENTIAL, 0, true, 0, 4096, 0, 0, 1},
        {"zns?zone=64K,mem:1M", "cannot be verified", BENCH_SEQUENTIAL, 0, true, BENCH_VERIFY_WRITE,
         4096, 0, 0, 1},
        {"zns?zone=64K&append_max=4K,mem:1M", "at most 4096", BENCH_SEQUENTIAL, 0, true, 0, 8192, 0,
         0, 1},
        {"zns?zone=64K,mem:1M", "whole zones", BENCH_SEQUENTIAL, 0, false, 0, 4096, 4096, 0, 1},
        {"zns?zone=64K,mem:1M", "whole zones", BENCH_SEQUENTIAL, 0, false, 0, 4096, 0, 4096, 1},
        {"zns?zone=64K&cap=60K,mem:1M", "must divide", BENCH_SEQUENTIAL, 0, false, 0, 8192, 0, 0,
         1},
        {"zns?zone=64K,mem:1M", "no zone for every", BENCH_SEQUENTIAL, 0, false, 0, 4096, 0, 65536,
         2},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench_job job = counted(10);
        job.pattern = cases[i].pattern;
        job.read_percent = cases[i].read_percent;
        job.append = cases[i].append;
        job.verify = cases[i].verify;
        job.block = cases[i].block;
        job.offset = cases[i].offset;
        job.range = cases[i].range;
        job.threads = cases[i].threads;
        int error = run_on(cases[i].spec, &job);
        if (error != -EINVAL || !strstr(err.text, cases[i].text))
            fail_msg("case %u: %d, %s", i, error, err.text);
    }
}

int main(void)
{
    blk_driver_register(&notes_driver);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequential),
        cmocka_unit_test(random_in_range),
        cmocka_unit_test(flushes),
        cmocka_unit_test(time_and_rate),
        cmocka_unit_test(latencies_are_in_order),
        cmocka_unit_test(errors_are_told),
        cmocka_unit_test(jobs_that_do_not_fit),
        cmocka_unit_test(verify_is_quiet_when_all_is_well),
        cmocka_unit_test(verify_finds_every_kind_of_damage),
        cmocka_unit_test(zoned),
        cmocka_unit_test(zoned_refused),
    };
    return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
