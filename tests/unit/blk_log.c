/* The log filter and its replayer: what is recorded, every cut, and logs that are broken. */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "blk/log_replay.h"

#define SIZE   (64u << 10)
#define BLOCKS (SIZE / 512)

static struct blk_log *open_log(struct blk *dev)
{
    struct blk_log *log;
    struct blk_error err;
    if (blk_log_open(dev, &log, &err) < 0)
        fail_msg("%s", err.text);
    return log;
}

static void next_is(struct blk_log *log, enum blk_op op, uint64_t offset, uint64_t len,
                    struct blk_log_record *r)
{
    int got = blk_log_next(log, r);
    if (got != 1 || r->op != op || r->offset != offset || r->len != len)
        fail_msg("%d: %s %llu+%llu, expected %s %llu+%llu", got, blk_op_name(r->op),
                 (unsigned long long)r->offset, (unsigned long long)r->len, blk_op_name(op),
                 (unsigned long long)offset, (unsigned long long)len);
}

static void refused(void **state)
{
    (void)state;
    test_refused("log,mem:1M", -EINVAL, "to must name");
    test_refused("log?to=nosuch:1M,mem:1M", -EINVAL, "unknown scheme 'nosuch'");
    test_refused("log?to=mem:512,mem:1M", -ENOSPC, "no log can be started");
    test_refused("log?to=readonly%2Cmem:1M,mem:1M", -EROFS, "no log can be started");
    test_refused("log?to=fault%2Cmem:1M,mem:1M", -EIO, "no log can be started");
}

static void what_is_recorded(void **state)
{
    (void)state;
    static char data[8192], got[8192];
    struct blk *dev = test_open("log?to=slice%3Foffset=4K%2Cmem:1M,fault?op=discard&nth=2,mem:64K");
    struct blk_queue *q = test_queue(dev, 4);
    struct blk_log_record r;
    struct iovec iov[3] = {{data + 512, 512}, {data, 512}, {data + 1024, 7168}};
    struct blk_req req;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i / 7);
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_write(q, 512, data, 1024, 0), 0);
    blk_req_init(&req, BLK_WRITE, 8192, 8192);
    req.flags = BLK_FUA;
    req.iov = iov;
    req.niov = 3;
    assert_int_equal(blk_execute(q, &req), 0);
    assert_int_equal(blk_read(q, 0, got, 512), 0);
    assert_int_equal(blk_log_recorded(dev), 3);
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_discard(q, 4096, 4096), 0);
    assert_int_equal(blk_discard(q, 0, 4096), -EIO);
    assert_int_equal(blk_write_zeroes(q, 1024, 512, BLK_NO_UNMAP | BLK_FUA), 0);
    assert_int_equal(blk_write(q, 100, data, 512, 0), -EINVAL); /* never got there */
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_log_recorded(dev), 8);

    struct blk_log *log = open_log(blk_log_device(dev));
    assert_int_equal(blk_log_info(log)->device_size, SIZE);
    assert_int_equal(blk_log_info(log)->block_size, 512);
    for (int run = 0; run < 2; run++) {
        next_is(log, BLK_FLUSH, 0, 0, &r);
        assert_int_equal(r.covered, 0);
        assert_int_equal(r.sequence, 1);
        next_is(log, BLK_WRITE, 512, 1024, &r);
        assert_int_equal(r.flags, 0);
        assert_int_equal(blk_log_data(log, &r, 0, got, 1024), 0);
        assert_memory_equal(got, data, 1024);
        assert_int_equal(blk_log_data(log, &r, 1000, got, 25), -ERANGE);
        next_is(log, BLK_WRITE, 8192, 8192, &r);
        assert_int_equal(r.flags, BLK_FUA);
        assert_int_equal(blk_log_data(log, &r, 0, got, 8192), 0);
        assert_memory_equal(got, data + 512, 512);
        assert_memory_equal(got + 512, data, 512);
        assert_memory_equal(got + 1024, data + 1024, 7168);
        next_is(log, BLK_FLUSH, 0, 0, &r);
        assert_int_equal(r.covered, 3);
        next_is(log, BLK_DISCARD, 4096, 4096, &r);
        assert_false(r.failed);
        next_is(log, BLK_DISCARD, 0, 4096, &r);
        assert_true(r.failed);
        next_is(log, BLK_WRITE_ZEROES, 1024, 512, &r);
        assert_int_equal(r.flags, BLK_FUA | BLK_NO_UNMAP);
        next_is(log, BLK_FLUSH, 0, 0, &r);
        assert_int_equal(r.covered, 7);
        assert_int_equal(blk_log_next(log, &r), 0);
        assert_int_equal(blk_log_next(log, &r), 0);
        blk_log_rewind(log);
    }
    blk_log_close(log);
    test_close(q);
}

/* Writes in flight while a flush is: only what had completed before it is covered. */
static void flush_in_flight(void **state)
{
    (void)state;
    static char data[512];
    struct blk *dev = test_open("log?to=mem:1M,delay?write=20ms&flush=1ms,mem:64K");
    struct blk_queue *q = test_queue(dev, 4);
    struct blk_req write, flush, *r[] = {&write, &flush}, *done[2];
    struct blk_log_record rec;
    assert_int_equal(blk_write(q, 0, data, 512, 0), 0);
    blk_req_write(&write, 512, data, 512);
    blk_req_init(&flush, BLK_FLUSH, 0, 0);
    assert_int_equal(blk_submit(q, r, 2), 2);
    for (unsigned n = 0; n < 2;)
        n += blk_reap(q, done, 2, BLK_FOREVER);
    struct blk_log *log = open_log(blk_log_device(dev));
    while (blk_log_next(log, &rec) == 1 && rec.op != BLK_FLUSH)
        ;
    assert_int_equal(rec.op, BLK_FLUSH);
    assert_int_equal(rec.covered, 1);
    blk_log_close(log);
    test_close(q);
}

/* ---- cuts -------------------------------------------------------------------------------- */

/* Block by block what the device holds: after each record, and what was promised at that time.
 * A block's contents are the number of the record that wrote it. */
enum { RECORDS = 120 };

struct history {
    uint32_t at[RECORDS + 1][BLOCKS];       /* after so many records */
    uint32_t promised[RECORDS + 1][BLOCKS]; /* the least that must be there */
};

static void run_workload(struct blk *dev, struct history *h)
{
    static uint32_t data[16 * 128];
    struct blk_queue *q = test_queue(dev, 4);
    uint64_t random = 11;
    memset(h, 0, sizeof(*h));
    for (uint32_t n = 1; n <= RECORDS; n++) {
        uint64_t len = 1 + random_below(&random, 16);
        uint64_t block = random_below(&random, BLOCKS - len + 1);
        bool fua = !random_below(&random, 5);
        memcpy(h->at[n], h->at[n - 1], sizeof(h->at[n]));
        memcpy(h->promised[n], h->promised[n - 1], sizeof(h->promised[n]));
        if (!random_below(&random, 6)) {
            assert_int_equal(blk_flush(q), 0);
            memcpy(h->promised[n], h->at[n], sizeof(h->at[n]));
        } else {
            for (uint64_t i = 0; i < len * 128; i++)
                data[i] = n;
            assert_int_equal(blk_write(q, block * 512, data, len * 512, fua ? BLK_FUA : 0), 0);
            for (uint64_t i = block; i < block + len; i++) {
                h->at[n][i] = n;
                if (fua)
                    h->promised[n][i] = n;
            }
        }
        assert_int_equal(blk_log_recorded(dev), n);
    }
    blk_queue_close(q);
}

static bool nothing_arrives(void *arg, const struct blk_log_record *r, uint64_t block)
{
    (void)arg;
    (void)r;
    (void)block;
    return false;
}

/* Of the last record only every second block. */
static bool last_is_torn(void *arg, const struct blk_log_record *r, uint64_t block)
{
    return r->sequence != *(uint64_t *)arg || block % 2 == 0;
}

/* Each word of the target is one that this block has had, not older than promised, not newer than
 * the cut. */
static void check_state(struct blk_queue *target, const struct history *h, uint32_t n)
{
    static uint32_t got[BLOCKS][128];
    assert_int_equal(blk_read(target, 0, got, SIZE), 0);
    for (unsigned b = 0; b < BLOCKS; b++)
        for (int i = 0; i < 128; i++) {
            uint32_t v = got[b][i];
            if (v > n || v < h->promised[n][b] || (v && h->at[v][b] != v))
                fail_msg("cut after %u: block %u has %u, promised %u, written %u", n, b, v,
                         h->promised[n][b], h->at[n][b]);
        }
}

static void every_cut(void **state)
{
    (void)state;
    static struct history h;
    static uint32_t got[BLOCKS][128];
    struct blk *dev = test_open("log?to=mem:4M,mem:64K");
    unsigned torn = 0, lost = 0;
    run_workload(dev, &h);
    struct blk_log *log = open_log(blk_log_device(dev));
    for (uint32_t n = 0; n <= RECORDS; n++)
        for (uint64_t way = 0; way < 8; way++) {
            struct blk_queue *target = test_queue(test_open("mem:64K"), 1);
            uint64_t seed = way, last = n;
            struct blk_log_cut cut = {.records = n};
            if (way == 1)
                cut.arrives = nothing_arrives;
            else if (way == 2)
                cut.arrives = last_is_torn;
            else if (way > 2)
                cut.arrives = blk_log_arrives_by_chance;
            cut.arg = way == 2 ? (void *)&last : (void *)&seed;
            assert_int_equal(blk_log_apply(log, target, &cut), 0);
            check_state(target, &h, n);
            assert_int_equal(blk_read(target, 0, got, SIZE), 0);
            for (unsigned b = 0; b < BLOCKS; b++) {
                if (way == 0)
                    assert_int_equal(got[b][127], h.at[n][b]);
                lost += way == 1 && got[b][0] != h.at[n][b];
                torn += way == 2 && got[b][0] != h.at[n][b];
            }
            test_close(target);
        }
    assert_true(lost > 100 && torn > 10);
    blk_log_close(log);
    blk_close(dev);
}

/* Replaying all of any workload gives the same device. */
static void whole(void **state)
{
    (void)state;
    static char data[16384], a[SIZE], b[SIZE];
    struct blk *dev = test_open("log?to=mem:16M,fault?fraction=5%&op=discard+flush,mem:64K");
    struct blk_queue *q = test_queue(dev, 1);
    struct blk_queue *target = test_queue(test_open("mem:128K?block=1"), 1);
    uint64_t random = 4;
    for (int i = 0; i < 500; i++) {
        uint64_t len = (1 + random_below(&random, 32)) * 512;
        uint64_t at = random_below(&random, (SIZE - len) / 512 + 1) * 512;
        uint64_t op = random_below(&random, 8);
        memset(data, i, sizeof(data));
        if (op == 0)
            blk_discard(q, at, len);
        else if (op == 1)
            blk_write_zeroes(q, at, len, i % 2 ? BLK_NO_UNMAP : 0);
        else if (op == 2)
            blk_flush(q);
        else
            assert_int_equal(blk_write(q, at, data, len, 0), 0);
    }
    struct blk_log *log = open_log(blk_log_device(dev));
    assert_int_equal(blk_log_apply(log, target, &(struct blk_log_cut){.records = UINT64_MAX}), 0);
    assert_int_equal(blk_read(q, 0, a, SIZE), 0);
    assert_int_equal(blk_read(target, 0, b, SIZE), 0);
    assert_memory_equal(a, b, SIZE);
    struct blk_queue *small = test_queue(test_open("mem:32K"), 1);
    assert_int_equal(blk_log_apply(log, small, &(struct blk_log_cut){0}), -ERANGE);
    struct blk_queue *coarse = test_queue(test_open("mem:64K?block=4096"), 1);
    assert_int_equal(blk_log_apply(log, coarse, &(struct blk_log_cut){0}), -EINVAL);
    test_close(coarse);
    test_close(small);
    blk_log_close(log);
    test_close(target);
    test_close(q);
}

/* A write that the device failed may have happened in part, or not. */
static void failed_writes(void **state)
{
    (void)state;
    static char data[4096], got[4096];
    struct blk *dev = test_open("log?to=mem:1M,fault?op=write&nth=1&torn=600,mem:64K");
    struct blk_queue *q = test_queue(dev, 1);
    uint64_t one = 1;
    memset(data, 'f', sizeof(data));
    assert_int_equal(blk_write(q, 0, data, 4096, BLK_FUA), -EIO);
    assert_int_equal(blk_flush(q), 0);
    struct blk_log *log = open_log(blk_log_device(dev));
    struct blk_queue *target = test_queue(test_open("mem:64K"), 1);
    struct blk_log_cut cut = {.records = UINT64_MAX, .arg = &one};
    assert_int_equal(blk_log_apply(log, target, &cut), 0);
    assert_int_equal(blk_read(target, 0, got, 4096), 0);
    assert_int_equal(got[0], 0);
    cut.arrives = last_is_torn;
    assert_int_equal(blk_log_apply(log, target, &cut), 0);
    assert_int_equal(blk_read(target, 0, got, 4096), 0);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(got[i], i / 512 % 2 ? 0 : 'f');
    test_close(target);
    blk_log_close(log);
    test_close(q);
}

/* ---- logs that end, or are broken -------------------------------------------------------- */

static unsigned count_records(struct blk *dev, int wanted)
{
    struct blk_log *log = open_log(dev);
    struct blk_log_record r;
    unsigned n = 0;
    int got;
    while ((got = blk_log_next(log, &r)) == 1)
        n++;
    if (got != wanted)
        fail_msg("after %u records: %d, expected %d", n, got, wanted);
    blk_log_close(log);
    return n;
}

/* Nothing is reported done that is not in the log; what is in it can be read. */
static void full(void **state)
{
    (void)state;
    static char data[4096];
    for (unsigned size = 2; size < 64; size++) {
        char spec[64];
        snprintf(spec, sizeof(spec), "log?to=mem:%u,mem:64K", size * 512);
        struct blk *dev = test_open(spec);
        struct blk_queue *q = test_queue(dev, 1);
        unsigned done = 0;
        while (blk_write(q, 0, data, 4096, 0) == 0)
            done++;
        assert_int_equal(done, (size - 1) / 9);
        assert_int_equal(blk_write(q, 0, data, 512, 0), -ENOSPC);
        assert_int_equal(blk_flush(q), -ENOSPC);
        assert_int_equal(blk_read(q, 0, data, 512), 0);
        assert_int_equal(count_records(blk_log_device(dev), 0), done);
        test_close(q);
    }
}

/* The log's device fails at some write, torn: what was acknowledged can be read. */
static void log_device_dies(void **state)
{
    (void)state;
    static char data[200 << 10];
    for (unsigned nth = 3; nth < 30; nth++) {
        char spec[128];
        snprintf(spec, sizeof(spec),
                 "log?to=fault%%3Fop=write%%26nth=%u%%26cut=on%%26torn=%u%%2Cmem:4M,mem:256K", nth,
                 nth * 37);
        struct blk *dev = test_open(spec);
        struct blk_queue *q = test_queue(dev, 1);
        unsigned done = 0;
        while (blk_write(q, 0, data, done % 2 ? sizeof(data) : 512, 0) == 0)
            done++;
        struct blk_log *log = open_log(blk_child(blk_log_device(dev)));
        struct blk_log_record r;
        for (unsigned i = 0; i < done; i++)
            assert_int_equal(blk_log_next(log, &r), 1);
        int end = blk_log_next(log, &r);
        assert_true(end == 0 || end == -EBADMSG || end == 1);
        blk_log_close(log);
        test_close(q);
    }
}

/* A shorter log over a longer one ends where it ends. */
static void over_an_old_log(void **state)
{
    (void)state;
    static char data[4096];
    char path[] = "/var/tmp/ashlar-log-XXXXXX", spec[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    snprintf(spec, sizeof(spec), "log?to=psync:%s,mem:64K", path);
    for (unsigned n = 20; n > 0; n -= 5) {
        struct blk_queue *q = test_queue(test_open(spec), 1);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(blk_write(q, 0, data, 512 * (1 + i % 3), 0), 0);
        assert_int_equal(count_records(blk_log_device(blk_queue_device(q)), 0), n);
        test_close(q);
    }
    close(fd);
    unlink(path);
}

static struct blk_queue *memory_of(const char *bytes, size_t size)
{
    char spec[64];
    snprintf(spec, sizeof(spec), "mem:%zu?block=1", size);
    struct blk_queue *q = test_queue(test_open(spec), 1);
    assert_int_equal(blk_write(q, 0, bytes, size, 0), 0);
    return q;
}

/* Of a small log every byte in turn is wrong, and it is cut at every length. */
static void broken(void **state)
{
    (void)state;
    enum { LOG = 16384 };
    static char data[2048], log_bytes[LOG];
    struct blk *dev = test_open("log?to=mem:16K,mem:64K");
    struct blk_queue *q = test_queue(dev, 1), *copy;
    struct blk_error err;
    struct blk_log *log;
    memset(data, 'b', sizeof(data));
    assert_int_equal(blk_write(q, 0, data, 2048, 0), 0); /* at 512, 5 units */
    assert_int_equal(blk_discard(q, 0, 4096), 0);        /* at 3072 */
    assert_int_equal(blk_write(q, 512, data, 448, 0), -EINVAL);
    assert_int_equal(blk_write(q, 512, data, 512, 0), 0); /* at 3584, 2 units */
    assert_int_equal(blk_flush(q), 0);                    /* at 4608 */
    struct blk_queue *lq = test_queue(blk_log_device(dev), 1);
    assert_int_equal(blk_read(lq, 0, log_bytes, LOG), 0);
    blk_queue_close(lq);
    test_close(q);

    for (size_t at = 0; at < 5632; at++) {
        bool header = at < 64 || (at >= 512 && at < 576 + 2048) || (at >= 3072 && at < 3136) ||
                      (at >= 3584 && at < 3648 + 512) || (at >= 4608 && at < 4672) ||
                      (at >= 5120 && at < 5184);
        log_bytes[at] ^= 0x40;
        copy = memory_of(log_bytes, LOG);
        int result = blk_log_open(blk_queue_device(copy), &log, &err);
        unsigned n = 0;
        struct blk_log_record r;
        if (result == 0) {
            while ((result = blk_log_next(log, &r)) == 1)
                n++;
            blk_log_close(log);
        }
        if (header ? result >= 0 || n > 4 : result != 0 || n != 4)
            fail_msg("byte %zu: %d after %u records", at, result, n);
        test_close(copy);
        log_bytes[at] ^= 0x40;
    }
    for (size_t size = 1; size < 6000; size += size % 512 < 70 ? 1 : 37) {
        copy = memory_of(log_bytes, size);
        int result = blk_log_open(blk_queue_device(copy), &log, &err);
        assert_int_equal(result, size < 64 ? -EILSEQ : 0);
        if (result == 0) {
            struct blk_log_record r;
            while ((result = blk_log_next(log, &r)) == 1)
                ;
            blk_log_close(log);
            bool within = (size >= 576 && size < 576 + 2048) || (size >= 3648 && size < 4160);
            assert_int_equal(result, within ? -ENODATA : 0);
        }
        test_close(copy);
    }
    log_bytes[8] = 2;
    copy = memory_of(log_bytes, LOG);
    assert_int_equal(blk_log_open(blk_queue_device(copy), &log, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "version 2"));
    test_close(copy);
}

/* ---- threads ----------------------------------------------------------------------------- */

enum { THREADS = 4, WRITES = 200 };

struct worker {
    struct blk *dev;
    uint64_t number;
    bool ok;
};

static void work(void *arg)
{
    struct worker *w = arg;
    struct blk_queue *q;
    uint64_t data[64];
    if (blk_queue_open(w->dev, 4, &q) < 0)
        return;
    w->ok = true;
    for (uint64_t i = 0; i < WRITES; i++) {
        for (int k = 0; k < 64; k++)
            data[k] = w->number << 32 | i;
        w->ok &= blk_write(q, (i % 8 * THREADS + w->number) * 512, data, 512, 0) == 0;
        if (i % 16 == 0)
            w->ok &= blk_flush(q) == 0;
    }
    blk_queue_close(q);
}

/* Records of several queues are whole, numbered without gaps, and in each queue's order. */
static void threads(void **state)
{
    (void)state;
    struct blk *dev = test_open("log?to=mem:4M,mem:64K");
    struct base_thread thread[THREADS];
    struct worker w[THREADS];
    uint64_t next[THREADS] = {0}, data[64];
    struct blk_log_record r;
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.dev = dev, .number = i};
        assert_int_equal(base_thread_start(&thread[i], work, &w[i], -1), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        base_thread_join(&thread[i]);
    struct blk_log *log = open_log(blk_log_device(dev));
    while (blk_log_next(log, &r) == 1) {
        if (r.op != BLK_WRITE)
            continue;
        assert_int_equal(blk_log_data(log, &r, 0, data, 512), 0);
        uint64_t who = data[0] >> 32;
        assert_true(who < THREADS);
        assert_int_equal(data[0] & 0xffffffff, next[who]++);
        assert_int_equal(data[63], data[0]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_true(w[i].ok);
        assert_int_equal(next[i], WRITES);
    }
    blk_log_close(log);
    blk_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(what_is_recorded),
        cmocka_unit_test(flush_in_flight),
        cmocka_unit_test(every_cut),
        cmocka_unit_test(whole),
        cmocka_unit_test(failed_writes),
        cmocka_unit_test(full),
        cmocka_unit_test(log_device_dies),
        cmocka_unit_test(over_an_old_log),
        cmocka_unit_test(broken),
        cmocka_unit_test(threads),
    };
    base_log_set_level(BASE_LOG_ERROR); /* not that a log has ended */
    return cmocka_run_group_tests_name("blk_log", tests, NULL, NULL);
}
