/* The core: specs, limits, queues, completions. */
#include "test.h"

static void specs_that_open(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        uint64_t size;
    } good[] = {
        {"null:1G", 1 << 30},
        {"mem:64K", 65536},
        {"mem:64KiB", 65536},
        {"mem:65536", 65536},
        {"mem:1M?block=4096", 1 << 20},
        {"mem:1M?block=4%30%396", 1 << 20},
        {"readonly,mem:1M", 1 << 20},
        {"readonly:mem:1M", 1 << 20},
        {"slice?offset=4K&size=8K,mem:1M", 8192},
        {"slice:mem:1M?offset=4K&size=8K", 8192},
        {"slice:mem:1M?block=4096?offset=4K&size=8K", 8192},
        {"slice?offset=512,slice?offset=512&size=4K,mem:1M", 4096 - 512},
        {"null:0", 0},
        {"mem:1M?", 1 << 20},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct blk *dev = test_open(good[i].spec);
        assert_int_equal(blk_info(dev)->size, good[i].size);
        assert_string_equal(blk_spec(dev), good[i].spec);
        assert_int_equal(blk_close(dev), 0);
    }
}

static void specs_that_are_refused(void **state)
{
    (void)state;
    char longest[5000];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    char deep[400] = "";
    for (int i = 0; i < 20; i++)
        strcat(deep, "readonly,");
    strcat(deep, "mem:1M");

    test_refused("", -EINVAL, "is empty");
    test_refused("/tmp/disk.img", -EINVAL, "file:/tmp/disk.img");
    test_refused("disk.img", -EINVAL, "file:disk.img");
    test_refused("nosuch", -EINVAL, "'nosuch'");
    test_refused("nosuch:1G", -EINVAL, "unknown scheme 'nosuch'");
    test_refused(longest, -EINVAL, "over 4096 bytes");
    test_refused(deep, -EINVAL, "more than 16");
    test_refused("mem", -EINVAL, "size must be");
    test_refused("mem:", -EINVAL, "size must be");
    test_refused("mem:x", -EINVAL, "size must be");
    test_refused("mem:1X", -EINVAL, "size must be");
    test_refused("mem:-1", -EINVAL, "size must be");
    test_refused("mem:99999999999999999999", -EINVAL, "size must be");
    test_refused("mem:99999999999G", -EINVAL, "size must be");
    test_refused("mem:0", -EINVAL, "from 1 byte");
    test_refused("mem:1000", -EINVAL, "not a multiple of the block size 512");
    test_refused("mem:1M?block=3000", -EINVAL, "power of two");
    test_refused("mem:1M?block=2M", -EINVAL, "at most");
    test_refused("mem:1M?block", -EINVAL, "name=value");
    test_refused("mem:1M?=1", -EINVAL, "name=value");
    test_refused("mem:1M?block=", -EINVAL, "must be a size");
    test_refused("mem:1M?block=512&block=512", -EINVAL, "given twice");
    test_refused("mem:1M?blocks=512", -EINVAL, "'mem' has: block");
    test_refused("mem:1M?block=%4", -EINVAL, "hexadecimal");
    test_refused("mem:1M?block=%00", -EINVAL, "hexadecimal");
    test_refused("mem:%zz", -EINVAL, "hexadecimal");
    test_refused("mem:1%", -EINVAL, "not '1%'");
    test_refused("null:1G?zeroes=yes", -EINVAL, "on or off");
    test_refused("readonly", -EINVAL, "needs a device");
    test_refused("readonly,", -EINVAL, "needs a device");
    test_refused("readonly:", -EINVAL, "needs a device");
    test_refused("readonly?x=1,mem:1M", -EINVAL, "has no options");
    test_refused("mem,mem:1M", -EINVAL, "not a filter");
    test_refused("slice?offset=2M,mem:1M", -ERANGE, "past the end");
    test_refused("slice?offset=100,mem:1M", -EINVAL, "multiples of 512");
    test_refused("slice?size=2M,mem:1M", -ERANGE, "past the end");
    test_refused("slice?offset=512&size=18446744073709551104,mem:1M", -ERANGE, "past the end");
}

/* Submit one request and expect its result. */
static void expect(struct blk_queue *q, struct blk_req *r, int result)
{
    struct blk_req *done = NULL;
    assert_int_equal(blk_submit(q, &r, 1), 1);
    assert_int_equal(blk_reap(q, &done, 1, BLK_FOREVER), 1);
    assert_ptr_equal(done, r);
    if (r->result != result)
        fail_msg("%s at %llu+%llu: %d, expected %d", blk_op_name(r->op),
                 (unsigned long long)r->offset, (unsigned long long)r->len, r->result, result);
    assert_int_equal(blk_reap(q, &done, 1, 0), 0);
}

static void expect_data(struct blk_queue *q, enum blk_op op, uint64_t offset, size_t len,
                        int result)
{
    static char data[1 << 20];
    struct blk_req r;
    blk_req_data(&r, op, offset, data, len);
    expect(q, &r, result);
}

static void limits(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("mem:1M"), 4);
    struct blk_req r;
    char data[1024];
    for (enum blk_op op = BLK_READ; op <= BLK_WRITE; op++) {
        expect_data(q, op, 0, 512, 0);
        expect_data(q, op, (1 << 20) - 512, 512, 0);
        expect_data(q, op, 0, 1 << 20, 0);
        expect_data(q, op, 1 << 20, 512, -ERANGE);
        expect_data(q, op, (1 << 20) - 512, 1024, -ERANGE);
        expect_data(q, op, UINT64_MAX - 511, 512, -ERANGE);
        expect_data(q, op, UINT64_MAX - 511, 1024, -ERANGE);
        expect_data(q, op, 100, 512, -EINVAL);
        expect_data(q, op, 0, 100, -EINVAL);
        expect_data(q, op, 0, 0, -EINVAL);
    }
    for (enum blk_op op = BLK_DISCARD; op <= BLK_WRITE_ZEROES; op++) {
        blk_req_init(&r, op, 0, 1 << 20);
        expect(q, &r, 0);
        blk_req_init(&r, op, 512, 1 << 20);
        expect(q, &r, -ERANGE);
        blk_req_init(&r, op, 512, UINT64_MAX - 511);
        expect(q, &r, -ERANGE);
        blk_req_init(&r, op, 512, 1);
        expect(q, &r, -EINVAL);
    }
    /* iov that does not add up, or wraps */
    struct iovec iov[2] = {{data, 512}, {data + 512, 512}};
    blk_req_read(&r, 0, NULL, 0);
    r.iov = iov;
    r.niov = 2;
    r.len = 512;
    expect(q, &r, -EINVAL);
    r.len = 1024;
    expect(q, &r, 0);
    iov[0].iov_len = SIZE_MAX - 511;
    expect(q, &r, -EINVAL);
    iov[1].iov_len = 1536;
    expect(q, &r, -EINVAL);
    r.niov = 5000;
    expect(q, &r, -E2BIG);
    /* over the largest transfer */
    blk_req_read(&r, 0, data, 64u << 20);
    expect(q, &r, -ERANGE);
    /* what is no operation, no flag, no zone */
    blk_req_init(&r, BLK_FLUSH, 0, 0);
    expect(q, &r, 0);
    r.op = BLK_OP_COUNT;
    expect(q, &r, -EINVAL);
    blk_req_read(&r, 0, data, 512);
    r.flags = BLK_FUA;
    expect(q, &r, -EINVAL);
    blk_req_write(&r, 0, data, 512);
    r.flags = BLK_FUA;
    expect(q, &r, 0);
    for (enum blk_op op = BLK_ZONE_APPEND; op < BLK_OP_COUNT; op++) {
        blk_req_data(&r, op, 0, data, 512);
        expect(q, &r, -ENOTSUP);
    }
    test_close(q);
}

static void read_only(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("readonly,mem:1M"), 4);
    struct blk_req r;
    char data[512];
    blk_req_read(&r, 0, data, 512);
    expect(q, &r, 0);
    blk_req_init(&r, BLK_FLUSH, 0, 0);
    expect(q, &r, 0);
    for (unsigned op = 0; op < BLK_OP_COUNT; op++)
        if (blk_op_modifies(op)) {
            blk_req_data(&r, op, 0, data, 512);
            expect(q, &r, -EROFS);
        }
    assert_int_equal(blk_write_bytes(q, 1, "x", 1, 0), -EROFS);
    test_close(q);

    struct blk *dev;
    assert_int_equal(blk_open("mem:1M", BLK_OPEN_READ_ONLY, &dev, NULL), 0);
    assert_true(blk_info(dev)->read_only);
    blk_close(dev);
}

/* Batches over the depth are cut; every request comes back once; tags are unique in flight. */
static void once_and_only_once(void **state)
{
    (void)state;
    enum { DEPTH = 8, REQS = 20 };
    struct blk_queue *q = test_queue(test_open("mem:1M"), DEPTH);
    struct blk *dev = blk_queue_device(q);
    static char data[REQS][512];
    struct blk_req reqs[REQS], *p[REQS], *done[REQS];
    int seen[REQS] = {0};
    for (size_t i = 0; i < REQS; i++) {
        blk_req_read(&reqs[i], i % 3 ? i * 512 : 1, data[i], 512); /* a third are bad */
        reqs[i].user = &seen[i];
        p[i] = &reqs[i];
    }
    assert_int_equal(blk_reap(q, done, REQS, BLK_FOREVER), 0);
    assert_int_equal(blk_submit(q, p, REQS), DEPTH);
    assert_int_equal(blk_submit(q, p + DEPTH, 1), 0);
    assert_int_equal(blk_queue_in_flight(q), DEPTH);
    assert_int_equal(blk_queue_close(q), -EBUSY);
    assert_int_equal(blk_close(dev), -EBUSY);
    unsigned tags = 0, sent = DEPTH, got = 0;
    for (int i = 0; i < DEPTH; i++)
        tags |= 1u << reqs[i].tag;
    assert_int_equal(tags, (1u << DEPTH) - 1);
    while (got < REQS) {
        unsigned n = blk_reap(q, done, 3, BLK_FOREVER);
        assert_in_range(n, 1, 3);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(done[i]->result, (done[i] - reqs) % 3 ? 0 : -EINVAL);
            ++*(int *)done[i]->user;
        }
        got += n;
        sent += blk_submit(q, p + sent, REQS - sent);
    }
    for (int i = 0; i < REQS; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(blk_queue_in_flight(q), 0);
    test_close(q);
}

/* A synchronous call in the midst of requests in flight takes only its own completion. */
static void synchronous_among_others(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("mem:1M"), 4);
    static char data[4][512];
    struct blk_req r[3], *p[3] = {&r[0], &r[1], &r[2]}, *done[4];
    for (size_t i = 0; i < 3; i++)
        blk_req_read(&r[i], i * 512, data[i], 512);
    assert_int_equal(blk_submit(q, p, 3), 3);
    assert_int_equal(blk_read(q, 0, data[3], 512), 0);
    assert_int_equal(blk_reap(q, done, 4, 0), 3);
    assert_int_equal(blk_submit(q, p, 3), 3);
    assert_int_equal(blk_read(q, 0, data[3], 512), 0);
    assert_int_equal(blk_submit(q, &p[0], 0), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(blk_reap(q, done, 1, 0), 1);
    test_close(q);
}

static void queue_limits(void **state)
{
    (void)state;
    struct blk *dev = test_open("mem:1M");
    struct blk_queue *q;
    assert_int_equal(blk_queue_open(dev, blk_info(dev)->max_depth + 1, &q), -EINVAL);
    assert_null(q);
    q = test_queue(dev, 0);
    assert_true(blk_queue_depth(q) > 0);
    void *a = blk_buf_alloc(q, 4096), *b = blk_buf_alloc(q, 100);
    assert_non_null(a);
    assert_int_equal((uintptr_t)b % 4096, 0);
    blk_buf_free(q, a); /* b goes with the queue */
    blk_buf_free(q, NULL);
    test_close(q);
}

static void sparse_memory(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("mem:1T"), 4);
    struct blk_extent e[8];
    static char data[64 << 10], zero[64 << 10];
    assert_int_equal(blk_status(q, 0, UINT64_C(1) << 40, e, 8), 1);
    assert_int_equal(e[0].len, UINT64_C(1) << 40);
    assert_int_equal(e[0].flags, BLK_EXTENT_HOLE | BLK_EXTENT_ZERO);
    memset(data, 'x', sizeof(data));
    assert_int_equal(blk_write(q, UINT64_C(1) << 39, data, sizeof(data), 0), 0);
    assert_int_equal(blk_status(q, 0, UINT64_C(1) << 40, e, 8), 3);
    assert_int_equal(e[0].len, UINT64_C(1) << 39);
    assert_int_equal(e[1].len, sizeof(data));
    assert_int_equal(e[1].flags, 0);
    /* Discard from the middle of a page to the middle of a page: exactly that reads as zeroes. */
    assert_int_equal(blk_discard(q, (UINT64_C(1) << 39) + 512, 12288), 0);
    assert_int_equal(blk_read(q, UINT64_C(1) << 39, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], i >= 512 && i < 512 + 12288 ? 0 : 'x');
    assert_int_equal(blk_status(q, UINT64_C(1) << 39, 65536, e, 8), 3);
    assert_int_equal(e[0].len, 4096);
    assert_int_equal(e[1].len, 8192);
    assert_int_equal(blk_write_zeroes(q, UINT64_C(1) << 39, 65536, 0), 0);
    assert_int_equal(blk_read(q, UINT64_C(1) << 39, data, sizeof(data)), 0);
    assert_memory_equal(data, zero, sizeof(data));
    assert_int_equal(blk_status(q, 0, UINT64_C(1) << 40, e, 8), 1);
    test_close(q);
}

static void slices(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("slice?offset=4K&size=8K,mem:1M"), 4);
    struct blk_extent e[4];
    char data[512];
    memset(data, 's', sizeof(data));
    expect_data(q, BLK_WRITE, 8192, 512, -ERANGE);
    assert_int_equal(blk_write(q, 4096, data, 512, 0), 0);
    assert_int_equal(blk_status(q, 0, 8192, e, 4), 2);
    assert_int_equal(e[0].len, 4096);
    assert_int_equal(e[0].flags, BLK_EXTENT_HOLE | BLK_EXTENT_ZERO);
    test_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(specs_that_open),
        cmocka_unit_test(specs_that_are_refused),
        cmocka_unit_test(limits),
        cmocka_unit_test(read_only),
        cmocka_unit_test(once_and_only_once),
        cmocka_unit_test(synchronous_among_others),
        cmocka_unit_test(queue_limits),
        cmocka_unit_test(sparse_memory),
        cmocka_unit_test(slices),
    };
    return cmocka_run_group_tests_name("blk_core", tests, NULL, NULL);
}
