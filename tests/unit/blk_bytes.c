/* Byte I/O at any offset, size and memory against a plain array; then by several threads whose
 * bytes share blocks. */
#include "test.h"

#include <ashlar/blk_driver.h>

#include "base/platform.h"
#include "base/util.h"

#define SIZE (96u << 10)

/* A device that takes only memory aligned to 512 bytes, as direct I/O does; the core refuses all
 * else with -EINVAL. */
static int strict_open(struct blk *dev, struct blk_error *err)
{
    (void)err;
    dev->info.buf_align = 512;
    dev->info.max_transfer = 16384;
    return 0;
}

static const struct blk_driver strict = {
    .name = "strict",
    .summary = "memory must be aligned",
    .flags = BLK_DRIVER_FILTER,
    .open = strict_open,
};

static const char *const specs[] = {
    "mem:96K?block=1",
    "mem:96K?block=512",
    "mem:96K?block=4096",
    "strict,mem:96K?block=512",
    "strict,mem:96K?block=4096",
    "delay?jitter=20us,mem:96K?block=1",
    "delay?jitter=20us,mem:96K?block=512",
    "delay?jitter=20us,mem:96K?block=4096",
    "strict,delay?jitter=20us,mem:96K?block=512",
    "cache?size=64K,strict,delay?jitter=10us,mem:96K?block=512",
};

/* Mostly small, sometimes large; now and then exactly at blocks. */
static void random_range(uint64_t *random, uint64_t *offset, size_t *len)
{
    static const uint64_t most[] = {16, 600, 5000, 40000, SIZE};
    *len = random_below(random, most[random_below(random, ARRAY_SIZE(most))] + 1);
    *offset = random_below(random, SIZE - *len + 1);
    if (!random_below(random, 4)) {
        *offset = round_down(*offset, 4096);
        *len = round_down(min_u64(*len, SIZE - *offset), random_below(random, 2) ? 512 : 4096);
    }
}

static void against_array(const char *spec, int rounds, uint64_t seed)
{
    static char model[SIZE];
    static _Alignas(4096) char memory[SIZE + 4096], around[SIZE + 4096];
    struct blk_queue *q = test_queue(test_open(spec), 4);
    memset(model, 0, sizeof(model));
    for (int i = 0; i < test_rounds(rounds); i++) {
        uint64_t offset;
        size_t len;
        random_range(&seed, &offset, &len);
        char *data = memory + (random_below(&seed, 2) ? random_below(&seed, 4096) : 0);
        for (size_t k = 0; k < sizeof(memory); k++)
            memory[k] = (char)(random_next(&seed) >> 56);
        if (random_below(&seed, 2)) {
            memcpy(model + offset, data, len);
            unsigned flags = random_below(&seed, 4) ? 0 : BLK_FUA;
            assert_int_equal(blk_write_bytes(q, offset, data, len, flags), 0);
            continue;
        }
        memcpy(around, memory, sizeof(memory));
        memcpy(around + (data - memory), model + offset, len);
        assert_int_equal(blk_read_bytes(q, offset, data, len), 0);
        if (memcmp(memory, around, sizeof(memory)))
            fail_msg("%s: read of %llu+%zu at memory %zu is wrong, or went beside", spec,
                     (unsigned long long)offset, len, (size_t)(data - memory));
    }
    assert_int_equal(blk_read_bytes(q, 0, memory, SIZE), 0);
    assert_memory_equal(memory, model, SIZE);
    test_close(q);
}

static void property(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
        against_array(specs[i], 250, i + 1);
}

static void limits(void **state)
{
    (void)state;
    char data[16] = "";
    struct blk_queue *q = test_queue(test_open("mem:96K"), 1);
    assert_int_equal(blk_read_bytes(q, SIZE, data, 0), 0);
    assert_int_equal(blk_write_bytes(q, 0, data, 0, 0), 0);
    assert_int_equal(blk_read_bytes(q, SIZE - 15, data, 16), -ERANGE);
    assert_int_equal(blk_write_bytes(q, SIZE - 15, data, 16, 0), -ERANGE);
    assert_int_equal(blk_read_bytes(q, UINT64_MAX, data, 16), -ERANGE);
    assert_int_equal(blk_write_bytes(q, UINT64_MAX - 3, data, 16, 0), -ERANGE);
    assert_int_equal(blk_read_bytes(q, SIZE + 1, data, 0), -ERANGE);
    assert_int_equal(blk_write_bytes(q, SIZE - 16, data, 16, 0), 0);
    test_close(q);
}

/* An error of any of the requests is the result; the queue and the range are free afterwards. */
static void errors(void **state)
{
    (void)state;
    static char data[20000];
    static const char *const faulty[] = {"fault?op=read,mem:96K", "fault?op=write,mem:96K",
                                         "fault?nth=2,mem:96K", "fault?nth=3,mem:96K"};
    for (size_t i = 0; i < ARRAY_SIZE(faulty); i++) {
        struct blk_queue *q = test_queue(test_open(faulty[i]), 1);
        assert_int_equal(blk_write_bytes(q, 100, data, sizeof(data), 0), -EIO);
        assert_int_equal(blk_queue_in_flight(q), 0);
        int again = blk_write_bytes(q, 100, data, sizeof(data), 0);
        assert_int_equal(again, i < 2 ? -EIO : 0);
        test_close(q);
    }
}

/* ---- threads ------------------------------------------------------------------------------ */

enum { THREADS = 4, SHARED = 8192 };

struct worker {
    struct blk *dev;
    unsigned number;
    unsigned piece; /* bytes in a row that are a thread's */
    int rounds;
    bool failed;
    char model[SHARED]; /* what it wrote, elsewhere 0 */
};

/* Bytes [k * piece, (k+1) * piece) are those of thread k mod THREADS; each writes and reads back
 * only its own, in random order. */
static void work(void *arg)
{
    struct worker *w = arg;
    uint64_t random = w->number + 1;
    char data[512];
    struct blk_queue *q;
    w->failed = blk_queue_open(w->dev, 2, &q) < 0;
    for (int i = 0; i < w->rounds && !w->failed; i++) {
        uint64_t turns = SHARED / (THREADS * w->piece);
        uint64_t at = (random_below(&random, turns) * THREADS + w->number) * w->piece;
        size_t skip = random_below(&random, w->piece);
        size_t len = 1 + random_below(&random, w->piece - skip);
        if (random_below(&random, 3)) {
            memset(data, (int)(1 + random_below(&random, 255)), len);
            memcpy(w->model + at + skip, data, len);
            w->failed = blk_write_bytes(q, at + skip, data, len, 0) < 0;
        } else {
            w->failed = blk_read_bytes(q, at + skip, data, len) < 0 ||
                        memcmp(data, w->model + at + skip, len);
        }
    }
    if (!w->failed)
        w->failed = blk_queue_close(q) < 0;
}

static void threads_share_blocks(void **state)
{
    (void)state;
    static struct worker w[THREADS];
    static const unsigned pieces[] = {1, 7, 100, 512};
    static const struct {
        const char *spec;
        int rounds;
    } cases[] = {
        {"mem:96K?block=512", 4000},
        {"mem:96K?block=4096", 4000},
        {"strict,mem:96K?block=512", 2000},
        {"delay?jitter=10us,mem:96K?block=4096", 150},
        {"cache?size=64K,delay?jitter=10us,mem:96K?block=512", 400},
    };
    for (size_t c = 0; c < ARRAY_SIZE(cases); c++)
        for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
            struct blk *dev = test_open(cases[c].spec);
            struct base_thread thread[THREADS];
            char got[SHARED];
            for (unsigned i = 0; i < THREADS; i++) {
                w[i] = (struct worker){dev, i, pieces[p], cases[c].rounds, false, {0}};
                assert_int_equal(base_thread_start(&thread[i], work, &w[i], -1), 0);
            }
            for (unsigned i = 0; i < THREADS; i++)
                base_thread_join(&thread[i]);
            struct blk_queue *q = test_queue(dev, 1);
            assert_int_equal(blk_read_bytes(q, 0, got, SHARED), 0);
            for (unsigned i = 0; i < THREADS; i++)
                if (w[i].failed)
                    fail_msg("%s, pieces of %u: thread %u failed", cases[c].spec, pieces[p], i);
            for (unsigned at = 0; at < SHARED; at++) {
                char wanted = w[at / pieces[p] % THREADS].model[at];
                if (got[at] != wanted)
                    fail_msg("%s, pieces of %u: byte %u is lost", cases[c].spec, pieces[p], at);
            }
            test_close(q);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(property),
        cmocka_unit_test(limits),
        cmocka_unit_test(errors),
        cmocka_unit_test(threads_share_blocks),
    };
    blk_driver_register(&strict);
    return cmocka_run_group_tests_name("blk_bytes", tests, NULL, NULL);
}
