/* The write-back cache: coherence, flush and FUA, errors, power cuts, many requests and threads. */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "blk/fault.h"

#define SIZE (256u << 10)

static void first_line(void *arg, const char *text)
{
    if (!*(char *)arg)
        strcpy(arg, text);
}

static void assert_report(const struct blk *dev, const char *wanted)
{
    char text[512] = "";
    blk_report(dev, first_line, text);
    if (!strstr(text, wanted))
        fail_msg("no '%s' in '%s'", wanted, text);
}

/* The whole device below the cache is as the model. */
static void assert_below(struct blk *dev, const uint8_t *model, const char *what)
{
    static uint8_t got[SIZE];
    while (blk_child(dev))
        dev = blk_child(dev);
    struct blk_queue *q = test_queue(dev, 1);
    assert_int_equal(blk_read(q, 0, got, SIZE), 0);
    for (size_t at = 0; at < SIZE; at++)
        if (got[at] != model[at])
            fail_msg("%s: byte %zu below is %u, expected %u", what, at, got[at], model[at]);
    blk_queue_close(q);
}

static void options(void **state)
{
    (void)state;
    test_refused("cache?size=32K,mem:1M", -EINVAL, "from 16 blocks");
    test_refused("cache?size=2T,mem:1M", -EINVAL, "to 1T");
    test_refused("cache?block=3000,mem:1M", -EINVAL, "power of two");
    test_refused("cache?block=2M,mem:1M", -EINVAL, "power of two");
    test_refused("cache?size=x,mem:1M", -EINVAL, "must be a size");
    struct blk *dev = test_open("cache?size=256K,mem:1M?block=8192");
    assert_true(blk_info(dev)->volatile_cache);
    assert_int_equal(blk_info(dev)->block_size, 8192);
    assert_int_equal(blk_info(dev)->size, 1 << 20);
    assert_report(dev, "cache: 0 hits, 0 misses, 0 of 32 blocks dirty, 0 written back");
    blk_close(dev);
}

static void writes_stay_until_flushed(void **state)
{
    (void)state;
    static uint8_t model[SIZE], none[SIZE], got[SIZE];
    struct blk *dev = test_open("cache?size=64K,mem:256K");
    struct blk_queue *q = test_queue(dev, 8);
    memset(model + 4096, 'a', 8192);
    assert_int_equal(blk_write(q, 4096, model + 4096, 8192, 0), 0);
    assert_below(dev, none, "before the flush");
    assert_report(dev, "0 hits, 2 misses, 2 of 16 blocks dirty, 0 written back");
    assert_int_equal(blk_read(q, 0, got, 16384), 0);
    assert_memory_equal(got, model, 16384);
    assert_int_equal(blk_flush(q), 0);
    assert_below(dev, model, "after the flush");
    assert_report(dev, "0 of 16 blocks dirty, 2 written back");
    assert_int_equal(blk_flush(q), 0);
    assert_report(dev, "2 written back");
    /* A part of a block keeps the rest of it. */
    memset(model + 4096 + 512, 'b', 512);
    assert_int_equal(blk_write(q, 4096 + 512, model + 4096 + 512, 512, BLK_FUA), 0);
    memset(model + 200 * 1024, 'c', 512);
    assert_int_equal(blk_write(q, 200 * 1024, model + 200 * 1024, 512, BLK_FUA), 0);
    assert_below(dev, model, "after FUA");
    /* Write-zeroes and discard, with what is dirty in and around them. */
    memset(model, 'd', 32768);
    assert_int_equal(blk_write(q, 0, model, 32768, 0), 0);
    memset(model + 512, 0, 12288);
    assert_int_equal(blk_write_zeroes(q, 512, 12288, 0), 0);
    assert_int_equal(blk_read(q, 0, got, SIZE), 0);
    assert_memory_equal(got, model, SIZE);
    memset(model + 16384, 0, 8192);
    assert_int_equal(blk_discard(q, 16384, 8192), 0);
    assert_int_equal(blk_read(q, 0, got, SIZE), 0);
    assert_memory_equal(got, model, SIZE);
    assert_int_equal(blk_flush(q), 0);
    assert_below(dev, model, "after write-zeroes, discard and flush");
    test_close(q);
}

/* A child that closes is not enough to look at: the file of data lives on. */
static void written_back_at_close(void **state)
{
    (void)state;
    char path[] = "/var/tmp/ashlar-cache-XXXXXX", spec[128], got[8192], data[8192];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    memset(data, 'x', sizeof(data));
    snprintf(spec, sizeof(spec), "cache?size=64K,psync:%s", path);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    struct blk_queue *q = test_queue(test_open(spec), 4);
    assert_int_equal(blk_write(q, 4096, data, sizeof(data), 0), 0);
    assert_int_equal(pread(fd, got, sizeof(got), 4096), sizeof(got));
    assert_int_equal(got[0], 0);
    test_close(q);
    assert_int_equal(pread(fd, got, sizeof(got), 4096), sizeof(got));
    assert_memory_equal(got, data, sizeof(got));
    close(fd);
    unlink(path);
}

/* ---- many requests against a plain array ------------------------------------------------ */

enum { DEPTH = 24 };

/* Requests in flight do not overlap, so that each result is certain. */
struct flight {
    struct blk_req req;
    bool busy;
    uint64_t start, end; /* 0, 0: none */
    uint8_t data[32768];
};

static bool is_free(const struct flight *f, uint64_t start, uint64_t end)
{
    for (int i = 0; i < DEPTH; i++)
        if (f[i].busy && start < f[i].end && f[i].start < end)
            return false;
    return true;
}

static void make_request(struct flight *f, struct flight *all, uint8_t *model, uint32_t block,
                         uint64_t *random)
{
    static const enum blk_op ops[] = {BLK_READ,  BLK_READ,  BLK_READ,    BLK_READ,
                                      BLK_READ,  BLK_WRITE, BLK_WRITE,   BLK_WRITE,
                                      BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES};
    enum blk_op op = ops[random_below(random, ARRAY_SIZE(ops))];
    uint64_t most = random_below(random, 4) ? 8192 : sizeof(f->data);
    uint64_t len = (1 + random_below(random, most / block)) * block;
    uint64_t start = random_below(random, (SIZE - len) / block + 1) * block;
    if (op == BLK_FLUSH || !is_free(all, start, start + len)) {
        blk_req_init(&f->req, BLK_FLUSH, 0, 0);
        f->start = f->end = 0;
        return;
    }
    f->start = start;
    f->end = start + len;
    if (op == BLK_DISCARD || op == BLK_WRITE_ZEROES) {
        blk_req_init(&f->req, op, start, len);
        memset(model + start, 0, len);
    } else {
        blk_req_data(&f->req, op, start, f->data, len);
    }
    if (op == BLK_WRITE) {
        for (uint64_t at = 0; at < len; at++)
            model[start + at] = f->data[at] = (uint8_t)random_next(random);
        f->req.flags = random_below(random, 4) ? 0 : BLK_FUA;
    }
}

static void against_model(const char *spec, unsigned total, uint64_t seed)
{
    static struct flight f[DEPTH];
    static uint8_t model[SIZE];
    struct blk *dev = test_open(spec);
    struct blk_queue *q = test_queue(dev, DEPTH);
    uint32_t block = blk_info(dev)->block_size;
    struct blk_req *done[DEPTH];
    unsigned sent = 0, got = 0;
    memset(model, 0, sizeof(model));
    memset(f, 0, sizeof(f));
    while (got < total) {
        for (int i = 0; i < DEPTH && sent < total; i++) {
            if (f[i].busy)
                continue;
            make_request(&f[i], f, model, block, &seed);
            f[i].busy = true;
            f[i].req.user = &f[i];
            struct blk_req *r = &f[i].req;
            assert_int_equal(blk_submit(q, &r, 1), 1);
            sent++;
        }
        unsigned n = blk_reap(q, done, DEPTH, random_below(&seed, 4) ? BLK_FOREVER : 0);
        for (unsigned i = 0; i < n; i++) {
            struct flight *d = done[i]->user;
            assert_true(d->busy);
            assert_int_equal(done[i]->result, 0);
            /* A discarded range reads as anything; here the device gives zeroes, and the cache
             * may still have the old part of a block that is partly discarded and dirty. */
            if (done[i]->op == BLK_READ && memcmp(d->data, model + d->start, done[i]->len))
                fail_msg("%s: read of %llu+%llu is wrong", spec, (unsigned long long)d->start,
                         (unsigned long long)done[i]->len);
            d->busy = false;
        }
        got += n;
    }
    assert_int_equal(blk_queue_in_flight(q), 0);
    assert_int_equal(blk_flush(q), 0);
    assert_below(dev, model, spec);
    test_close(q);
}

static void property(void **state)
{
    (void)state;
    /* Where a discard may leave a part of a block as it was, the model cannot know; so the cache's
     * block is the device's wherever discards are compared. */
    against_model("cache?size=64K&block=4K,mem:256K?block=4096", 6000, 1);
    against_model("cache?size=16K&block=512,mem:256K", 6000, 2);
    against_model("cache?size=8K&block=512,delay?jitter=30us,mem:256K", 4000, 3);
    against_model("cache?size=64K&block=4K,delay?jitter=50us,mem:256K?block=4096", 4000, 4);
    against_model("cache?size=1M&block=512,mem:256K", 4000, 5);
    against_model("stats,cache?size=64K,delay?write=20us,stats,mem:256K?block=4096", 3000, 6);
    against_model("cache?size=64K,cache?size=128K,delay?jitter=20us,mem:256K?block=4096", 3000, 7);
}

/* The same without discards, over parts of cached blocks. */
static void property_of_parts(void **state)
{
    (void)state;
    static uint8_t model[SIZE], got[8192];
    static const char *const specs[] = {
        "cache?size=64K&block=4K,mem:256K",
        "cache?size=1M&block=64K,mem:256K?block=1",
        "cache?size=64K&block=4K,delay?jitter=20us,mem:256K",
    };
    for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
        uint64_t random = s;
        struct blk_queue *q = test_queue(test_open(specs[s]), 4);
        uint64_t block = blk_info(blk_queue_device(q))->block_size;
        memset(model, 0, sizeof(model));
        for (int i = 0; i < test_rounds(3000); i++) {
            uint64_t len = (1 + random_below(&random, sizeof(got) / block)) * block;
            uint64_t at = random_below(&random, (SIZE - len) / block + 1) * block;
            uint64_t op = random_below(&random, 8);
            if (op < 4) {
                memset(model + at, i, len);
                assert_int_equal(blk_write(q, at, model + at, len, op ? 0 : BLK_FUA), 0);
            } else if (op == 4) {
                memset(model + at, 0, len);
                assert_int_equal(blk_write_zeroes(q, at, len, 0), 0);
            } else {
                assert_int_equal(blk_read(q, at, got, len), 0);
                assert_memory_equal(got, model + at, len);
            }
        }
        assert_int_equal(blk_flush(q), 0);
        assert_below(blk_queue_device(q), model, specs[s]);
        test_close(q);
    }
}

/* ---- errors ----------------------------------------------------------------------------- */

static void flush_reports_errors_and_tries_again(void **state)
{
    (void)state;
    static uint8_t model[SIZE], got[SIZE];
    struct blk *dev = test_open("cache?size=64K,fault?op=write&errno=ENOSPC,mem:256K");
    struct blk_queue *q = test_queue(dev, 8);
    memset(model, 'a', 20480);
    assert_int_equal(blk_write(q, 0, model, 20480, 0), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(blk_flush(q), -ENOSPC);
    assert_report(dev, "5 of 16 blocks dirty");
    assert_int_equal(blk_read(q, 0, got, 20480), 0);
    assert_memory_equal(got, model, 20480);
    assert_int_equal(blk_write(q, 0, model, 4096, BLK_FUA), -ENOSPC);
    blk_fault_arm(dev, false);
    assert_int_equal(blk_flush(q), 0);
    assert_below(dev, model, "after the second try");
    test_close(q);
}

/* With no room left for dirty data a write says why; nothing that was accepted is lost. */
static void no_room(void **state)
{
    (void)state;
    static uint8_t model[SIZE], got[SIZE];
    struct blk *dev = test_open("cache?size=64K,fault?op=write,mem:256K?block=4096");
    struct blk_queue *q = test_queue(dev, 8);
    unsigned accepted = 0;
    for (uint64_t at = 0; at < SIZE; at += 4096) {
        memset(got, (int)(at / 4096) + 1, 4096);
        int result = blk_write(q, at, got, 4096, 0);
        assert_true(result == 0 || result == -EIO);
        if (result == 0) {
            memcpy(model + at, got, 4096);
            accepted++;
        }
    }
    assert_int_equal(accepted, 12); /* three quarters of 16 */
    assert_int_equal(blk_read(q, 0, got, SIZE), 0);
    assert_memory_equal(got, model, SIZE);
    blk_fault_arm(dev, false);
    assert_int_equal(blk_flush(q), 0);
    assert_below(dev, model, "after the device works again");
    test_close(q);
}

static void other_errors(void **state)
{
    (void)state;
    static uint8_t data[16384], got[16384];
    struct blk *dev = test_open("cache?size=64K,fault?op=read+write-zeroes+discard+flush,mem:256K");
    struct blk_queue *q = test_queue(dev, 8);
    memset(data, 'e', sizeof(data));
    assert_int_equal(blk_read(q, 0, got, 8192), -EIO);
    assert_int_equal(blk_write(q, 512, data, 512, 0), -EIO); /* needs the rest of the block */
    assert_int_equal(blk_write(q, 0, data, 16384, 0), 0);
    assert_int_equal(blk_write_zeroes(q, 512, 8192, 0), -EIO);
    assert_int_equal(blk_discard(q, 512, 8192), -EIO);
    assert_int_equal(blk_read(q, 0, got, 16384), 0);
    assert_memory_equal(got, data, 16384);
    assert_int_equal(blk_flush(q), -EIO); /* of the device itself */
    blk_fault_arm(dev, false);
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_write(q, 100 * 1024, data, 512, 0), 0);
    test_close(q);
}

/* Random failures of everything: requests come back once, and what was accepted is read back. */
static void storm_of_errors(void **state)
{
    (void)state;
    static uint8_t model[SIZE], got[4096];
    struct blk *dev = test_open(
        "stats,cache?size=64K,fault?fraction=20%&seed=3,delay?jitter=10us,mem:256K?block=4096");
    struct blk_queue *q = test_queue(dev, 8);
    uint64_t random = 5;
    unsigned errors = 0;
    for (int i = 0; i < test_rounds(4000); i++) {
        uint64_t at = random_below(&random, SIZE / 4096) * 4096;
        uint64_t op = random_below(&random, 10);
        int result;
        memset(got, i, 4096);
        if (op < 5) {
            result = blk_write(q, at, got, 4096, 0);
            if (result == 0)
                memcpy(model + at, got, 4096);
        } else if (op < 9) {
            result = blk_read(q, at, got, 4096);
            if (result == 0)
                assert_memory_equal(got, model + at, 4096);
        } else {
            result = blk_flush(q);
        }
        assert_true(result == 0 || result == -EIO);
        errors += result != 0;
    }
    assert_true(errors > 100);
    blk_fault_arm(dev, false);
    assert_int_equal(blk_flush(q), 0);
    assert_below(dev, model, "after the storm");
    test_close(q);
}

/* Power fails at each write that reaches the device: what a flush or FUA promised is there. */
static void power_cuts(void **state)
{
    (void)state;
    static uint8_t now[SIZE], promised[SIZE], got[SIZE], data[4096];
    unsigned cuts = 0;
    for (unsigned nth = 1;; nth++) {
        char spec[128];
        snprintf(spec, sizeof(spec),
                 "cache?size=64K,fault?op=write&nth=%u&cut=on&torn=1000,mem:256K", nth);
        struct blk *dev = test_open(spec);
        struct blk_queue *q = test_queue(dev, 4);
        uint64_t random = 9;
        uint8_t stable[SIZE / 4096]; /* not written since the last promise */
        memset(now, 0, SIZE);
        memset(promised, 0, SIZE);
        memset(stable, 1, sizeof(stable));
        for (int i = 1; i <= 120 && !blk_fault_is_cut(dev); i++) {
            uint64_t n = random_below(&random, SIZE / 4096);
            bool fua = !random_below(&random, 8);
            memset(data, i, sizeof(data));
            stable[n] = 0;
            memcpy(now + n * 4096, data, 4096);
            if (blk_write(q, n * 4096, data, 4096, fua ? BLK_FUA : 0) == 0 && fua) {
                memcpy(promised + n * 4096, data, 4096);
                stable[n] = 1;
            }
            if (i % 10 == 0 && blk_flush(q) == 0) {
                memcpy(promised, now, SIZE);
                memset(stable, 1, sizeof(stable));
            }
        }
        bool cut = blk_fault_is_cut(dev);
        struct blk_queue *below = test_queue(blk_child(blk_child(dev)), 1);
        assert_int_equal(blk_read(below, 0, got, SIZE), 0);
        for (size_t n = 0; n < sizeof(stable); n++)
            if (stable[n] && memcmp(got + n * 4096, promised + n * 4096, 4096))
                fail_msg("cut at write %u: block %zu is not what was promised", nth, n);
        blk_queue_close(below);
        blk_fault_arm(dev, false); /* so that closing can write the rest back */
        test_close(q);
        if (!cut)
            break;
        cuts++;
    }
    assert_in_range(cuts, 20, 500);
}

/* ---- one after the other, with the device as slow as it must be ------------------------- */

static void start(struct blk_queue *q, struct blk_req *r)
{
    assert_int_equal(blk_submit(q, &r, 1), 1);
}

static void finish(struct blk_queue *q, struct blk_req *r, int result)
{
    struct blk_req *done;
    assert_int_equal(blk_reap(q, &done, 1, BLK_FOREVER), 1);
    assert_ptr_equal(done, r);
    assert_int_equal(r->result, result);
}

static uint8_t byte_below(struct blk *dev, uint64_t at)
{
    static uint8_t data[4096];
    while (blk_child(dev))
        dev = blk_child(dev);
    struct blk_queue *q = test_queue(dev, 1);
    assert_int_equal(blk_read(q, round_down(at, 4096), data, 4096), 0);
    blk_queue_close(q);
    return data[at % 4096];
}

/* A read that was on its way while the block changed on the device brings old data; it must not
 * stay in the cache. (Memory reads at once, but nobody looks at queue a until later.) */
static void late_read(void **state)
{
    (void)state;
    static uint8_t data[SIZE], old[4096], got[4096];
    for (int zeroes = 0; zeroes < 2; zeroes++) {
        struct blk *dev = test_open("cache?size=64K,mem:256K?block=4096");
        struct blk_queue *a = test_queue(dev, 8), *b = test_queue(dev, 8);
        struct blk_req read;
        memset(data, 'o', sizeof(data));
        assert_int_equal(blk_write(b, 0, data, SIZE, 0), 0);
        assert_int_equal(blk_flush(b), 0);
        blk_req_read(&read, 0, old, 4096); /* block 0 is evicted by now */
        start(a, &read);
        memset(data, 'n', sizeof(data));
        if (zeroes) {
            assert_int_equal(blk_write_zeroes(b, 0, 4096, 0), 0);
        } else {
            assert_int_equal(blk_write(b, 0, data, SIZE, 0), 0);
            assert_int_equal(blk_flush(b), 0);
        }
        finish(a, &read, 0);
        assert_int_equal(old[0], 'o'); /* both happened at once: either would be right */
        assert_int_equal(blk_read(b, 0, got, 4096), 0);
        assert_int_equal(got[0], zeroes ? 0 : 'n');
        blk_queue_close(a);
        test_close(b);
    }
}

/* A block that another request is writing back already: the flush waits for it. */
static void flush_waits_for_others(void **state)
{
    (void)state;
    static uint8_t data[4096];
    struct blk *dev = test_open("cache?size=64K,delay?write=10ms,mem:256K");
    struct blk_queue *a = test_queue(dev, 4), *b = test_queue(dev, 4);
    struct blk_req fua;
    memset(data, 'w', sizeof(data));
    assert_int_equal(blk_write(a, 0, data, 4096, 0), 0);
    blk_req_write(&fua, 512, data, 512);
    fua.flags = BLK_FUA;
    start(a, &fua);
    assert_int_equal(blk_flush(b), 0);
    assert_int_equal(byte_below(dev, 0), 'w');
    finish(a, &fua, 0);
    blk_queue_close(a);
    test_close(b);
}

/* Half of a FUA write's blocks are written back by another queue's flush: the FUA write waits for
 * them and flushes the device itself. */
static void fua_waits_for_others(void **state)
{
    (void)state;
    static uint8_t data[128 << 10];
    struct blk *dev =
        test_open("cache?size=1M,fault?op=flush&fraction=0,delay?write=5ms,mem:256K?block=4096");
    struct blk_queue *a = test_queue(dev, 1), *b = test_queue(dev, 4);
    struct blk_req fua, flush;
    memset(data, 'f', sizeof(data));
    blk_req_write(&fua, 0, data, sizeof(data));
    fua.flags = BLK_FUA;
    blk_req_init(&flush, BLK_FLUSH, 0, 0);
    start(a, &fua); /* with a depth of 1 only the first 16 blocks are on their way */
    start(b, &flush);
    finish(a, &fua, 0);
    assert_int_equal(blk_fault_matched(dev), 1);
    assert_int_equal(byte_below(dev, 0), 'f');
    assert_int_equal(byte_below(dev, sizeof(data) - 1), 'f');
    finish(b, &flush, 0);
    assert_int_equal(blk_fault_matched(dev), 2);
    blk_queue_close(a);
    test_close(b);
}

/* A block is written while an older copy of it is on its way, and that fails: the flush that
 * covers the older data must write it, though the block has become dirty again after it. */
static void older_data_of_a_newer_block(void **state)
{
    (void)state;
    static uint8_t data[4096];
    struct blk *dev = test_open("cache?size=64K,delay?write=5ms,fault?op=write&nth=1,mem:256K");
    struct blk_queue *a = test_queue(dev, 4), *b = test_queue(dev, 4);
    struct blk_req fua, flush;
    memset(data, '1', sizeof(data));
    assert_int_equal(blk_write(a, 0, data, 4096, 0), 0);
    blk_req_write(&fua, 512, data, 512);
    fua.flags = BLK_FUA;
    blk_req_init(&flush, BLK_FLUSH, 0, 0);
    start(a, &fua);
    start(b, &flush);
    memset(data, '2', sizeof(data));
    assert_int_equal(blk_write(b, 1024, data, 512, 0), 0);
    finish(b, &flush, 0);
    assert_int_equal(byte_below(dev, 0), '1');
    finish(a, &fua, -EIO);
    blk_queue_close(a);
    test_close(b);
}

/* ---- several queues ---------------------------------------------------------------------- */

/* One thread with two queues: what waits for the other queue must not wait forever. */
static void two_queues_of_one_thread(void **state)
{
    (void)state;
    static uint8_t data[2][65536];
    struct blk *dev = test_open("cache?size=256K,delay?all=200us,mem:256K?block=4096");
    struct blk_queue *a = test_queue(dev, 8), *b = test_queue(dev, 8);
    struct blk_req write, zero, flush, *r[] = {&write, &zero, &flush}, *done[3];
    for (int i = 0; i < 20; i++) {
        memset(data[0], 2 * i, sizeof(data[0]));
        memset(data[1], 2 * i + 1, sizeof(data[1]));
        blk_req_write(&write, 0, data[0], 65536);
        write.flags = BLK_FUA;
        blk_req_init(&zero, BLK_WRITE_ZEROES, 128 << 10, 65536);
        blk_req_init(&flush, BLK_FLUSH, 0, 0);
        assert_int_equal(blk_submit(a, r, 3), 3);
        /* The blocks are on their way by queue a, which nobody moves but who waits on b. */
        assert_int_equal(blk_write(b, 0, data[1], 65536, BLK_FUA), 0);
        assert_int_equal(blk_discard(b, 160 << 10, 65536), 0);
        assert_int_equal(blk_flush(b), 0);
        for (unsigned n = 0; n < 3;)
            n += blk_reap(a, done, 3, BLK_FOREVER);
        assert_int_equal(write.result, 0);
        assert_int_equal(zero.result, 0);
        assert_int_equal(flush.result, 0);
        assert_int_equal(blk_flush(a), 0);
        static uint8_t got[65536], below[65536];
        assert_int_equal(blk_read(a, 0, got, 65536), 0);
        assert_memory_equal(got, data[1], 65536);
        struct blk_queue *q = test_queue(blk_child(dev), 1);
        assert_int_equal(blk_read(q, 0, below, 65536), 0);
        assert_memory_equal(below, data[1], 65536);
        blk_queue_close(q);
    }
    blk_queue_close(a);
    test_close(b);
}

enum { THREADS = 4, OPS = 1500 };

struct worker {
    struct blk *dev;
    unsigned number;
    uint8_t *model; /* shared; each thread writes its own sectors */
    const char *error;
};

/* Each thread has each fourth sector for itself; the blocks of the cache are shared by all. */
static void share_blocks(void *arg)
{
    struct worker *w = arg;
    uint64_t random = w->number;
    uint8_t data[512], got[512];
    struct blk_queue *q;
    if (blk_queue_open(w->dev, 4, &q) < 0)
        return;
    for (int i = 0; i < OPS && !w->error; i++) {
        uint64_t sector = random_below(&random, SIZE / 512 / THREADS) * THREADS + w->number;
        uint64_t op = random_below(&random, 20);
        if (op < 10) {
            memset(data, (int)random_next(&random), 512);
            memcpy(w->model + sector * 512, data, 512);
            if (blk_write(q, sector * 512, data, 512, op ? 0 : BLK_FUA) < 0)
                w->error = "write";
        } else if (op < 11) {
            memset(w->model + sector * 512, 0, 512);
            if (blk_write_zeroes(q, sector * 512, 512, 0) < 0)
                w->error = "write zeroes";
        } else if (op < 12) {
            if (blk_flush(q) < 0)
                w->error = "flush";
        } else if (blk_read(q, sector * 512, got, 512) < 0 ||
                   memcmp(got, w->model + sector * 512, 512)) {
            w->error = "read";
        }
    }
    blk_queue_close(q);
}

static void threads_share_blocks(void **state)
{
    (void)state;
    static uint8_t model[SIZE];
    static const char *const specs[] = {
        "cache?size=64K,mem:256K",
        "cache?size=1M,mem:256K",
        "cache?size=64K,delay?jitter=20us,mem:256K",
    };
    for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
        struct blk *dev = test_open(specs[s]);
        struct base_thread thread[THREADS];
        struct worker w[THREADS];
        memset(model, 0, SIZE);
        for (unsigned i = 0; i < THREADS; i++) {
            w[i] = (struct worker){.dev = dev, .number = i, .model = model};
            assert_int_equal(base_thread_start(&thread[i], share_blocks, &w[i], -1), 0);
        }
        for (unsigned i = 0; i < THREADS; i++)
            base_thread_join(&thread[i]);
        for (unsigned i = 0; i < THREADS; i++)
            if (w[i].error)
                fail_msg("%s: thread %u: %s", specs[s], i, w[i].error);
        struct blk_queue *q = test_queue(dev, 1);
        assert_int_equal(blk_flush(q), 0);
        assert_below(dev, model, specs[s]);
        test_close(q);
    }
}

/* Writers count a block up; a reader never sees an older count than was published. */
enum { COUNTERS = 64 };

struct counters {
    struct blk *dev;
    uint32_t published[COUNTERS]; /* atomic */
    bool stop;                    /* atomic */
    const char *error;            /* atomic */
};

static void count_up(void *arg)
{
    struct counters *c = arg;
    uint64_t random = 1;
    uint32_t data[1024] = {0};
    struct blk_queue *q;
    if (blk_queue_open(c->dev, 4, &q) < 0)
        return;
    for (int i = 0; i < 6000; i++) {
        uint64_t n = random_below(&random, COUNTERS);
        uint32_t next = c->published[n] + 1;
        for (int k = 0; k < 1024; k++)
            data[k] = next;
        if (blk_write(q, n * 4096, data, 4096, i % 50 ? 0 : BLK_FUA) < 0)
            __atomic_store_n(&c->error, "write", __ATOMIC_RELAXED);
        __atomic_store_n(&c->published[n], next, __ATOMIC_RELEASE);
    }
    blk_queue_close(q);
    __atomic_store_n(&c->stop, true, __ATOMIC_RELEASE);
}

static void watch(void *arg)
{
    struct counters *c = arg;
    uint64_t random = 2;
    uint32_t data[1024];
    struct blk_queue *q;
    if (blk_queue_open(c->dev, 4, &q) < 0)
        return;
    for (int i = 0; !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE); i++) {
        uint64_t n = random_below(&random, COUNTERS);
        uint32_t least = __atomic_load_n(&c->published[n], __ATOMIC_ACQUIRE);
        if (i % 64 == 0)
            blk_flush(q);
        if (blk_read(q, n * 4096, data, 4096) < 0 || data[0] < least)
            __atomic_store_n(&c->error, "stale read", __ATOMIC_RELAXED);
    }
    blk_queue_close(q);
}

static void threads_see_the_newest(void **state)
{
    (void)state;
    static const char *const specs[] = {"cache?size=64K,mem:256K?block=4096",
                                        "cache?size=64K,delay?jitter=15us,mem:256K?block=4096"};
    for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
        struct counters c = {.dev = test_open(specs[s])};
        struct base_thread writer, reader[2];
        assert_int_equal(base_thread_start(&writer, count_up, &c, -1), 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(base_thread_start(&reader[i], watch, &c, -1), 0);
        base_thread_join(&writer);
        for (int i = 0; i < 2; i++)
            base_thread_join(&reader[i]);
        if (c.error)
            fail_msg("%s: %s", specs[s], c.error);
        blk_close(c.dev);
    }
}

/* Who sleeps by poll(2) is told when to come back. */
static void poll_says_when(void **state)
{
    (void)state;
    static uint8_t data[4096];
    struct blk_queue *q = test_queue(test_open("cache?size=64K,delay?read=2ms,mem:256K"), 4);
    struct blk_req read, *r = &read, *done[1];
    struct blk_poll poll;
    blk_queue_poll(q, &poll);
    assert_true(poll.timeout == BLK_FOREVER);
    blk_req_read(&read, 0, data, 4096);
    assert_int_equal(blk_submit(q, &r, 1), 1);
    unsigned n = 0;
    while (!n) {
        blk_queue_poll(q, &poll);
        assert_true(poll.timeout >= 0);
        base_sleep_until_ns(base_now_ns() + (uint64_t)poll.timeout);
        n = blk_reap(q, done, 1, 0);
    }
    assert_int_equal(read.result, 0);
    test_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options),
        cmocka_unit_test(writes_stay_until_flushed),
        cmocka_unit_test(written_back_at_close),
        cmocka_unit_test(property),
        cmocka_unit_test(property_of_parts),
        cmocka_unit_test(flush_reports_errors_and_tries_again),
        cmocka_unit_test(no_room),
        cmocka_unit_test(other_errors),
        cmocka_unit_test(storm_of_errors),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(late_read),
        cmocka_unit_test(flush_waits_for_others),
        cmocka_unit_test(fua_waits_for_others),
        cmocka_unit_test(older_data_of_a_newer_block),
        cmocka_unit_test(two_queues_of_one_thread),
        cmocka_unit_test(threads_share_blocks),
        cmocka_unit_test(threads_see_the_newest),
        cmocka_unit_test(poll_says_when),
    };
    return cmocka_run_group_tests_name("blk_cache", tests, NULL, NULL);
}
