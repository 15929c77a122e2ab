/* The delay filter: requests wait, overtake each other, come back once, and timeouts hold. */
#include "test.h"

#include "base/platform.h"
#include "base/util.h"

#define MS UINT64_C(1000000)

static void options(void **state)
{
    (void)state;
    test_refused("delay?read=1,mem:1M", -EINVAL, "must be a time");
    test_refused("delay?read=2h,mem:1M", -EINVAL, "must be a time");
    test_refused("delay?all=3601s,mem:1M", -EINVAL, "at most 3600s");
    test_refused("delay?jitter=3601s,mem:1M", -EINVAL, "at most 3600s");
    test_refused("delay?reed=1ms,mem:1M", -EINVAL, "unknown option");
}

/* Lower bounds only: how late a machine is must not decide. */
static void each_operation_waits_its_time(void **state)
{
    (void)state;
    char data[512] = "";
    struct blk_queue *q =
        test_queue(test_open("delay?read=2ms&write=4ms&flush=6ms&discard=8ms&all=1ms,mem:1M"), 4);
    struct blk_extent e;
    for (int i = 0; i < 6; i++) {
        static const uint64_t least[] = {2 * MS, 4 * MS, 6 * MS, 8 * MS, 4 * MS, 1 * MS};
        uint64_t start = base_now_ns();
        int result = i == 0   ? blk_read(q, 0, data, 512)
                     : i == 1 ? blk_write(q, 0, data, 512, 0)
                     : i == 2 ? blk_flush(q)
                     : i == 3 ? blk_discard(q, 0, 4096)
                     : i == 4 ? blk_write_zeroes(q, 0, 4096, 0)
                              : blk_status(q, 0, 4096, &e, 1) - 1;
        assert_int_equal(result, 0);
        assert_true(base_now_ns() - start >= least[i]);
    }
    test_close(q);
}

/* A short delay overtakes a long one; without a delay a request passes at once. */
static void order(void **state)
{
    (void)state;
    static char data[3][512];
    struct blk_queue *q = test_queue(test_open("delay?read=60ms&write=20ms,mem:1M"), 4);
    struct blk_req read, write, flush, *r[] = {&read, &write, &flush}, *done[4];
    blk_req_read(&read, 0, data[0], 512);
    blk_req_write(&write, 4096, data[1], 512);
    blk_req_init(&flush, BLK_FLUSH, 0, 0);
    assert_int_equal(blk_submit(q, r, 3), 3);
    assert_int_equal(blk_reap(q, done, 1, 0), 1);
    assert_ptr_equal(done[0], &flush);
    assert_int_equal(blk_reap(q, done, 1, BLK_FOREVER), 1);
    assert_ptr_equal(done[0], &write);
    assert_int_equal(blk_reap(q, done, 1, BLK_FOREVER), 1);
    assert_ptr_equal(done[0], &read);
    test_close(q);
}

static void timeouts(void **state)
{
    (void)state;
    char data[512];
    struct blk_queue *q = test_queue(test_open("delay?read=100ms,mem:1M"), 4);
    struct blk_req read, *r = &read, *done[4];
    struct blk_poll poll;
    blk_queue_poll(q, &poll);
    assert_true(poll.timeout == BLK_FOREVER);
    blk_req_read(&read, 0, data, 512);
    uint64_t start = base_now_ns();
    assert_int_equal(blk_submit(q, &r, 1), 1);
    blk_queue_poll(q, &poll);
    assert_true(poll.timeout >= 0 && poll.timeout <= (int64_t)(100 * MS));
    /* On a machine that stood still for 100 ms it may be there; else not before its time, and not
     * before the time that the caller gave. */
    unsigned n = blk_reap(q, done, 4, 0);
    if (!n) {
        uint64_t before = base_now_ns();
        n = blk_reap(q, done, 4, 2 * MS);
        assert_true(n || base_now_ns() - before >= 2 * MS);
    }
    assert_true(!n || base_now_ns() - start >= 100 * MS);
    while (!n) {
        blk_queue_poll(q, &poll);
        assert_true(poll.timeout >= 0);
        base_sleep_until_ns(base_now_ns() + (uint64_t)poll.timeout);
        n = blk_reap(q, done, 4, 0);
    }
    assert_true(base_now_ns() - start >= 100 * MS);
    test_close(q);
}

/* A hundred delays at once over several layers: each comes back once, with its data. */
static void storm(void **state)
{
    (void)state;
    enum { DEPTH = 64, TOTAL = 3000 };
    static const char *const specs[] = {
        "delay?jitter=300us,mem:1M",
        "delay?jitter=300us,delay?read=20us&jitter=100us&seed=2,mem:1M",
        "stats,delay?all=50us,slice?size=512K,delay?jitter=200us,mem:1M",
    };
    for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
        struct blk_queue *q = test_queue(test_open(specs[s]), DEPTH);
        static char data[DEPTH][512];
        struct blk_req reqs[DEPTH], *done[DEPTH], *r;
        int in_flight[DEPTH] = {0};
        uint64_t random = s;
        unsigned sent = 0, got = 0;
        for (uint32_t block = 0; block < 1024; block++) {
            memset(data[0], (int)block & 0xff, 512);
            memcpy(data[0], &block, sizeof(block));
            assert_int_equal(blk_write(q, block * 512, data[0], 512, 0), 0);
        }
        while (got < TOTAL) {
            for (unsigned i = 0; i < DEPTH && sent < TOTAL; i++) {
                if (in_flight[i])
                    continue;
                r = &reqs[i];
                blk_req_read(r, random_below(&random, 1024) * 512, data[i], 512);
                assert_int_equal(blk_submit(q, &r, 1), 1);
                in_flight[i] = 1;
                sent++;
            }
            unsigned n = blk_reap(q, done, DEPTH, random_below(&random, 2) ? BLK_FOREVER : 0);
            for (unsigned i = 0; i < n; i++) {
                size_t at = (size_t)(done[i] - reqs);
                uint32_t block;
                assert_int_equal(done[i]->result, 0);
                assert_int_equal(in_flight[at]--, 1);
                memcpy(&block, data[at], sizeof(block));
                assert_int_equal(block, done[i]->offset / 512);
            }
            got += n;
        }
        assert_int_equal(blk_queue_in_flight(q), 0);
        test_close(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options), cmocka_unit_test(each_operation_waits_its_time),
        cmocka_unit_test(order),   cmocka_unit_test(timeouts),
        cmocka_unit_test(storm),
    };
    return cmocka_run_group_tests_name("blk_delay", tests, NULL, NULL);
}
