/* fault: hits exactly those it was told to, and leaves exactly what it was told to. */
#include "test.h"

static char data[8192];

/* The results of n writes of a block, one after the other, as a text of '.' and 'x'. */
static const char *writes(struct blk_queue *q, int n, int error)
{
    static char text[256];
    for (int i = 0; i < n; i++) {
        int got = blk_write(q, (uint64_t)i * 4096, data, 4096, 0);
        if (got != 0)
            assert_int_equal(got, error);
        text[i] = got ? 'x' : '.';
    }
    text[n] = '\0';
    return text;
}

static void who_is_hit(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *hits;
        int error;
    } cases[] = {
        {"fault,mem:1M", "xxxxxxxxxx", -EIO},
        {"fault?op=write,mem:1M", "xxxxxxxxxx", -EIO},
        {"fault?op=read,mem:1M", "..........", -EIO},
        {"fault?op=read+write&nth=1,mem:1M", "x.........", -EIO},
        {"fault?nth=3&errno=ENOSPC,mem:1M", "..x.......", -ENOSPC},
        {"fault?every=3&errno=28,mem:1M", "..x..x..x.", -ENOSPC},
        {"fault?nth=1&every=4,mem:1M", "x..x...x..", -EIO},
        {"fault?offset=8K&size=8K,mem:1M", "..xx......", -EIO},
        {"fault?offset=32K,mem:1M", "........xx", -EIO},
        {"fault?fraction=0%25,mem:1M", "xxxxxxxxxx", -EIO},
        {"fault?fraction=100%,mem:1M", "xxxxxxxxxx", -EIO},
        {"fault?nth=2&cut=on,mem:1M", ".xxxxxxxxx", -EIO},
        {"fault?nth=2&cut=silent,mem:1M", "..........", -EIO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct blk_queue *q = test_queue(test_open(cases[i].spec), 4);
        const char *got = writes(q, 10, cases[i].error);
        if (strcmp(got, cases[i].hits))
            fail_msg("%s: %s, expected %s", cases[i].spec, got, cases[i].hits);
        test_close(q);
    }
}

static void a_random_share(void **state)
{
    (void)state;
    char first[201], other[201];
    struct blk_queue *q = test_queue(test_open("fault?fraction=10%&seed=4,mem:1M"), 4);
    strcpy(first, writes(q, 200, -EIO));
    test_close(q);
    int hits = 0;
    for (int i = 0; i < 200; i++)
        hits += first[i] == 'x';
    assert_in_range(hits, 5, 45); /* 20 expected, 6 sigma */
    q = test_queue(test_open("fault?fraction=0.1&seed=4,mem:1M"), 4);
    assert_string_equal(writes(q, 200, -EIO), first);
    test_close(q);
    q = test_queue(test_open("fault?fraction=0.1&seed=5,mem:1M"), 4);
    strcpy(other, writes(q, 200, -EIO));
    assert_string_not_equal(first, other);
    test_close(q);
}

/* The first bytes are new, the rest is as it was. */
static void expect_torn(struct blk_queue *q, size_t bytes)
{
    static char back[8192];
    assert_int_equal(blk_read(q, 0, back, 8192), 0);
    for (size_t i = 0; i < 8192; i++)
        if (back[i] != (i < bytes ? 'n' : 'o'))
            fail_msg("byte %zu is '%c', torn at %zu", i, back[i], bytes);
}

static void torn(void **state)
{
    (void)state;
    static const size_t cases[] = {1, 511, 512, 513, 4096, 5000, 8191, 8192, 100000};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char spec[128];
        snprintf(spec, sizeof(spec), "fault?op=write&nth=2&torn=%zu,mem:1M", cases[i]);
        struct blk_queue *q = test_queue(test_open(spec), 4);
        memset(data, 'o', 8192);
        assert_int_equal(blk_write(q, 0, data, 8192, 0), 0);
        memset(data, 'n', 8192);
        assert_int_equal(blk_write(q, 0, data, 8192, 0), -EIO);
        expect_torn(q, cases[i] < 8192 ? cases[i] : 8192);
        test_close(q);
    }
}

static void power_cut(void **state)
{
    (void)state;
    struct blk_queue *q =
        test_queue(test_open("fault?op=write&nth=2&torn=700&cut=silent,mem:1M"), 4);
    memset(data, 'o', 8192);
    assert_int_equal(blk_write(q, 0, data, 8192, 0), 0);
    memset(data, 'n', 8192);
    assert_int_equal(blk_write(q, 0, data, 8192, 0), 0);
    assert_int_equal(blk_write(q, 0, data, 8192, BLK_FUA), 0);
    assert_int_equal(blk_write_zeroes(q, 0, 8192, 0), 0);
    assert_int_equal(blk_discard(q, 0, 8192), 0);
    assert_int_equal(blk_flush(q), 0);
    expect_torn(q, 700);
    test_close(q);
    q = test_queue(test_open("fault?op=flush&cut=on,mem:1M"), 4);
    assert_int_equal(blk_write(q, 0, data, 8192, 0), 0);
    assert_int_equal(blk_flush(q), -EIO);
    assert_int_equal(blk_read(q, 0, data, 8192), -EIO);
    assert_int_equal(blk_write(q, 0, data, 8192, 0), -EIO);
    test_close(q);
}

/* Good and bad ones in one batch: each comes back once, with its own result. */
static void in_a_batch(void **state)
{
    (void)state;
    enum { N = 32 };
    struct blk_queue *q = test_queue(test_open("fault?every=3,delay?all=1us,mem:1M"), N);
    struct blk_req r[N], *p[N], *done[N];
    int errors = 0, seen = 0;
    for (size_t i = 0; i < N; i++) {
        blk_req_read(&r[i], i * 512, data, 512);
        p[i] = &r[i];
    }
    assert_int_equal(blk_submit(q, p, N), N);
    while (seen < N) {
        unsigned n = blk_reap(q, done, N, BLK_FOREVER);
        assert_true(n > 0);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(done[i]->result, (done[i] - r) % 3 == 2 ? -EIO : 0);
            errors += done[i]->result < 0;
            seen++;
        }
    }
    assert_int_equal(errors, 10);
    test_close(q);
}

static void bad_options(void **state)
{
    (void)state;
    test_refused("fault?op=frob,mem:1M", -EINVAL, "not 'frob'");
    test_refused("fault?errno=EFOO,mem:1M", -EINVAL, "EFOO");
    test_refused("fault?errno=0,mem:1M", -EINVAL, "errno must be");
    test_refused("fault?cut=maybe,mem:1M", -EINVAL, "on or silent");
    test_refused("fault?fraction=2,mem:1M", -EINVAL, "fraction");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_hit), cmocka_unit_test(a_random_share),
        cmocka_unit_test(torn),       cmocka_unit_test(power_cut),
        cmocka_unit_test(in_a_batch), cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests_name("blk_fault", tests, NULL, NULL);
}
