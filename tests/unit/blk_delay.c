/* delay: never early, in the order of what is due, and its waits end when they should. */
#include "test.h"

#include "base/platform.h"

enum { MS = 1000000 };

static void never_early(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("delay?read=3ms&write=1ms,mem:1M"), 8);
    char data[2][512] = {{0}};
    struct blk_req r[2], *p[2] = {&r[0], &r[1]}, *done[2];
    blk_req_read(&r[0], 0, data[0], 512);
    blk_req_write(&r[1], 512, data[1], 512);
    uint64_t start = base_now_ns();
    assert_int_equal(blk_submit(q, p, 2), 2);
    assert_int_equal(blk_reap(q, done, 2, BLK_FOREVER), 1); /* the write is due first */
    assert_ptr_equal(done[0], &r[1]);
    assert_true(base_now_ns() - start >= 1 * MS);
    assert_int_equal(blk_reap(q, done, 2, BLK_FOREVER), 1);
    assert_ptr_equal(done[0], &r[0]);
    assert_true(base_now_ns() - start >= 3 * MS);
    assert_int_equal(blk_flush(q), 0); /* without a delay */
    test_close(q);
}

static void timeouts(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("delay?all=50ms,mem:1M"), 8);
    char data[512];
    struct blk_req r, *p = &r, *done;
    struct blk_poll poll;
    blk_queue_poll(q, &poll);
    assert_int_equal(poll.timeout, BLK_FOREVER);
    blk_req_read(&r, 0, data, 512);
    assert_int_equal(blk_submit(q, &p, 1), 1);
    assert_int_equal(blk_queue_close(q), -EBUSY);
    uint64_t start = base_now_ns();
    assert_int_equal(blk_reap(q, &done, 1, 0), 0);
    unsigned n = blk_reap(q, &done, 1, 1 * MS);
    assert_true(n == 0 || base_now_ns() - start >= 50 * MS); /* unless the machine slept */
    blk_queue_poll(q, &poll);
    assert_true(poll.timeout >= 0 && poll.timeout <= 50 * MS);
    if (!n)
        assert_int_equal(blk_reap(q, &done, 1, BLK_FOREVER), 1);
    assert_true(base_now_ns() - start >= 50 * MS);
    test_close(q);
}

static void many_at_once(void **state)
{
    (void)state;
    enum { N = 64 };
    struct blk_queue *q =
        test_queue(test_open("delay?read=1ms,delay?write=2ms&flush=1ms,mem:1M"), N);
    static char data[N][512];
    struct blk_req r[N], *p[N], *done[N];
    int seen[N] = {0};
    for (size_t round = 0; round < 5; round++) {
        for (size_t i = 0; i < N; i++) {
            if (i % 3 == 0)
                blk_req_init(&r[i], BLK_FLUSH, 0, 0);
            else
                blk_req_data(&r[i], i % 3 == 1 ? BLK_READ : BLK_WRITE, i * 512, data[i], 512);
            p[i] = &r[i];
        }
        assert_int_equal(blk_submit(q, p, N), N);
        for (unsigned got = 0; got < N;) {
            unsigned n = blk_reap(q, done, N, BLK_FOREVER);
            assert_true(n > 0);
            for (unsigned i = 0; i < n; i++) {
                assert_int_equal(done[i]->result, 0);
                seen[done[i] - r]++;
            }
            got += n;
        }
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(seen[i], 5);
    test_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_early),
        cmocka_unit_test(timeouts),
        cmocka_unit_test(many_at_once),
    };
    return cmocka_run_group_tests_name("blk_delay", tests, NULL, NULL);
}
