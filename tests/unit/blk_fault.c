/* The fault filter: which operations fail, how, and what reaches the device. */
#include "test.h"

#include "base/platform.h"
#include "base/util.h"
#include "blk/fault.h"

static void options(void **state)
{
    (void)state;
    static const char *const good[] = {
        "fault,mem:1M",
        "fault?op=any,mem:1M",
        "fault?op=write+write-zeroes+discard+flush+zone-reset&every=2,mem:1M",
        "fault?errno=ENOSPC,mem:1M",
        "fault?errno=5,mem:1M",
        "fault?fraction=1%&seed=7,mem:1M",
        "fault?fraction=0,mem:1M",
        "fault?torn=100,mem:1M",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        blk_close(test_open(good[i]));
    test_refused("fault?op=wrote,mem:1M", -EINVAL, "not 'wrote'");
    test_refused("fault?op=write+,mem:1M", -EINVAL, "op must be");
    test_refused("fault?op=,mem:1M", -EINVAL, "op");
    test_refused("fault?op=writ,mem:1M", -EINVAL, "op must be");
    test_refused("fault?errno=EWHAT,mem:1M", -EINVAL, "not 'EWHAT'");
    test_refused("fault?errno=0,mem:1M", -EINVAL, "errno must be");
    test_refused("fault?errno=4096,mem:1M", -EINVAL, "errno must be");
    test_refused("fault?nth=1&every=2,mem:1M", -EINVAL, "only one of");
    test_refused("fault?nth=1&fraction=0.5,mem:1M", -EINVAL, "only one of");
    test_refused("fault?drop=loud,mem:1M", -EINVAL, "drop must be");
    test_refused("fault?cut=loud,mem:1M", -EINVAL, "cut must be");
    test_refused("fault?drop=silent&torn=1,mem:1M", -EINVAL, "neither torn nor flip");
    test_refused("fault?torn=1&op=read,mem:1M", -EINVAL, "op=write");
    test_refused("fault?flip=on&op=write,mem:1M", -EINVAL, "op=read");
    test_refused("fault?flip=on&cut=on,mem:1M", -EINVAL, "neither torn nor cut");
    test_refused("fault?fraction=2,mem:1M", -EINVAL, "fraction");
}

/* Write block after block; the results as a text of '.' and 'x'. */
static const char *pattern(struct blk_queue *q, int n, int error)
{
    static char text[512];
    char data[512] = "";
    for (int i = 0; i < n; i++) {
        int result = blk_write(q, (uint64_t)i * 512, data, 512, 0);
        assert_true(result == 0 || result == error);
        text[i] = result ? 'x' : '.';
    }
    text[n] = '\0';
    return text;
}

static void which_fail(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *wanted;
        int error;
    } cases[] = {
        {"fault?op=write,mem:1M", "xxxxxxxxxx", -EIO},
        {"fault?op=read,mem:1M", "..........", 0},
        {"fault?op=write&nth=3,mem:1M", "..x.......", -EIO},
        {"fault?op=write&nth=1,mem:1M", "x.........", -EIO},
        {"fault?op=write&nth=3&count=4,mem:1M", "..xxxx....", -EIO},
        {"fault?every=4,mem:1M", "...x...x..", -EIO},
        {"fault?every=2&count=3,mem:1M", ".x.x.x....", -EIO},
        {"fault?count=2,mem:1M", "xx........", -EIO},
        {"fault?fraction=0,mem:1M", "..........", 0},
        {"fault?nth=2&errno=ENOSPC,mem:1M", ".x........", -ENOSPC},
        {"fault?nth=2&errno=ETIMEDOUT,mem:1M", ".x........", -ETIMEDOUT},
        {"fault?nth=2&errno=74,mem:1M", ".x........", -74},
        {"fault?op=write&offset=1K&size=1K,mem:1M", "..xx......", -EIO},
        {"fault?op=write&offset=1025&size=1,mem:1M", "..x.......", -EIO},
        {"fault?offset=4K,mem:1M", "........xx", -EIO},
        {"fault?size=512,mem:1M", "x.........", -EIO},
        {"fault?offset=1K&size=18446744073709551615,mem:1M", "..xxxxxxxx", -EIO},
        {"fault?nth=4&cut=on&errno=EROFS,mem:1M", "...xxxxxxx", -EROFS},
        {"fault?nth=4&cut=silent,mem:1M", "..........", 0},
        {"fault?armed=off,mem:1M", "..........", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct blk_queue *q = test_queue(test_open(cases[i].spec), 1);
        const char *got = pattern(q, 10, cases[i].error);
        if (strcmp(got, cases[i].wanted))
            fail_msg("%s: %s, expected %s", cases[i].spec, got, cases[i].wanted);
        test_close(q);
    }
}

static void operations(void **state)
{
    (void)state;
    char data[512] = "";
    struct blk_queue *q = test_queue(test_open("fault?op=flush+discard,mem:1M"), 1);
    struct blk_extent e;
    assert_int_equal(blk_write(q, 0, data, 512, BLK_FUA), 0);
    assert_int_equal(blk_flush(q), -EIO);
    assert_int_equal(blk_discard(q, 0, 4096), -EIO);
    assert_int_equal(blk_write_zeroes(q, 0, 4096, 0), 0);
    assert_int_equal(blk_fault_matched(blk_queue_device(q)), 2);
    assert_int_equal(blk_fault_fired(blk_queue_device(q)), 2);
    test_close(q);
    q = test_queue(test_open("fault,mem:1M"), 1);
    assert_int_equal(blk_read(q, 0, data, 512), -EIO);
    assert_int_equal(blk_flush(q), -EIO);
    assert_int_equal(blk_status(q, 0, 4096, &e, 1), 1);
    assert_int_equal(e.flags, BLK_EXTENT_HOLE | BLK_EXTENT_ZERO);
    test_close(q);
    /* What the rules refuse is not counted. */
    q = test_queue(test_open("fault?op=read&nth=1,mem:1M"), 1);
    assert_int_equal(blk_read(q, 0, data, 100), -EINVAL);
    assert_int_equal(blk_read(q, 0, data, 512), -EIO);
    test_close(q);
}

/* A fraction is about that fraction, the same for the same seed and another for another. */
static void chance(void **state)
{
    (void)state;
    char first[512];
    for (int run = 0; run < 3; run++) {
        struct blk_queue *q = test_queue(
            test_open(run < 2 ? "fault?fraction=20%&seed=7,mem:1M" : "fault?fraction=20%,mem:1M"),
            1);
        const char *got = pattern(q, 500, -EIO);
        int fails = 0;
        for (const char *p = got; *p; p++)
            fails += *p == 'x';
        assert_in_range(fails, 60, 140);
        if (run == 0)
            strcpy(first, got);
        else if (run == 1)
            assert_string_equal(got, first);
        else
            assert_string_not_equal(got, first);
        test_close(q);
    }
}

/* Every length of the torn part, on devices of several block sizes and buffer alignments: exactly
 * the first bytes are new. */
static void torn(void **state)
{
    (void)state;
    static const char *const devices[] = {"mem:256K?block=1", "mem:256K", "mem:256K?block=4096",
                                          "delay?jitter=20us,mem:256K"};
    static const uint32_t lengths[] = {1,    2,    100,   511,    512,    513,    1000,  4095,
                                       4096, 4097, 70000, 131071, 131072, 131073, 200000};
    enum { LEN = 128 << 10, AT = 4096 };
    static char old[256 << 10], new[LEN], got[256 << 10];
    memset(old, 'o', sizeof(old));
    memset(new, 'n', sizeof(new));
    for (size_t d = 0; d < ARRAY_SIZE(devices); d++)
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
            char spec[128];
            snprintf(spec, sizeof(spec), "fault?torn=%u&nth=2,%s", lengths[i], devices[d]);
            struct blk_queue *q = test_queue(test_open(spec), 4);
            assert_int_equal(blk_write(q, 0, old, sizeof(old), 0), 0);
            struct iovec iov[3] = {{new, 4096}, {new + 4096, 8192}, {new + 12288, LEN - 12288}};
            struct blk_req r;
            blk_req_init(&r, BLK_WRITE, AT, LEN);
            r.iov = iov;
            r.niov = 3;
            assert_int_equal(blk_execute(q, &r), -EIO);
            assert_int_equal(blk_read(q, 0, got, sizeof(got)), 0);
            size_t n = min_u64(lengths[i], LEN);
            for (size_t at = 0; at < sizeof(got); at++)
                if (got[at] != (at >= AT && at < AT + n ? 'n' : 'o'))
                    fail_msg("%s: byte %zu is '%c'", spec, at, got[at]);
            test_close(q);
        }
}

/* Many torn and whole writes at once on one queue. */
static void torn_among_others(void **state)
{
    (void)state;
    enum { DEPTH = 32 };
    struct blk_queue *q =
        test_queue(test_open("fault?torn=1000&every=2,delay?jitter=100us,mem:1M"), DEPTH);
    static char data[DEPTH][4096], got[4096];
    struct blk_req reqs[DEPTH], *p[DEPTH], *done[DEPTH];
    unsigned failed = 0;
    for (size_t i = 0; i < DEPTH; i++) {
        memset(data[i], (int)i + 1, 4096);
        blk_req_write(&reqs[i], i * 4096, data[i], 4096);
        p[i] = &reqs[i];
    }
    assert_int_equal(blk_submit(q, p, DEPTH), DEPTH);
    for (unsigned n = 0; n < DEPTH;)
        n += blk_reap(q, done, DEPTH, BLK_FOREVER);
    for (size_t i = 0; i < DEPTH; i++) {
        size_t whole = reqs[i].result == 0 ? 4096 : 1000;
        assert_true(reqs[i].result == 0 || reqs[i].result == -EIO);
        failed += reqs[i].result != 0;
        assert_int_equal(blk_read(q, i * 4096, got, 4096), 0);
        for (size_t at = 0; at < 4096; at++)
            assert_int_equal(got[at], at < whole ? i + 1 : 0);
    }
    assert_int_equal(failed, DEPTH / 2);
    test_close(q);
}

/* After the cut nothing reaches the device, which still has what came before; power comes back. */
static void power_cut(void **state)
{
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        struct blk *dev = test_open(silent ? "fault?op=write&nth=2&cut=silent,mem:1M"
                                           : "fault?op=write&nth=2&cut=on,mem:1M");
        struct blk_queue *q = test_queue(dev, 2);
        struct blk_queue *below = test_queue(blk_child(dev), 2);
        char a[512], got[512];
        int wanted = silent ? 0 : -EIO;
        memset(a, 'a', sizeof(a));
        assert_int_equal(blk_write(q, 0, a, 512, 0), 0);
        assert_false(blk_fault_is_cut(dev));
        assert_int_equal(blk_write(q, 512, a, 512, 0), wanted);
        assert_true(blk_fault_is_cut(dev));
        assert_int_equal(blk_write(q, 1024, a, 512, BLK_FUA), wanted);
        assert_int_equal(blk_flush(q), wanted);
        assert_int_equal(blk_discard(q, 0, 4096), wanted);
        assert_int_equal(blk_write_zeroes(q, 0, 4096, 0), wanted);
        assert_int_equal(blk_read(q, 0, got, 512), wanted);
        if (silent)
            assert_memory_equal(got, a, 512);
        assert_int_equal(blk_read(below, 0, got, 512), 0);
        assert_memory_equal(got, a, 512);
        for (uint64_t at = 512; at < 2048; at += 512) {
            assert_int_equal(blk_read(below, at, got, 512), 0);
            assert_int_equal(got[0], 0);
        }
        assert_int_equal(blk_fault_fired(dev), 1);
        blk_fault_arm(dev, false);
        for (int i = 0; i < 5; i++)
            assert_int_equal(blk_write(q, 512, a, 512, 0), 0);
        assert_int_equal(blk_fault_matched(dev), 0);
        blk_fault_arm(dev, true);
        assert_string_equal(pattern(q, 3, wanted), silent ? "..." : ".xx");
        blk_queue_close(below);
        test_close(q);
    }
}

/* The torn write is the last thing that happens. */
static void torn_cut(void **state)
{
    (void)state;
    struct blk *dev = test_open("fault?nth=2&cut=on&torn=700,mem:1M");
    struct blk_queue *q = test_queue(dev, 2);
    struct blk_queue *below = test_queue(blk_child(dev), 2);
    static char a[4096], b[4096], got[4096];
    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    assert_int_equal(blk_write(q, 0, a, 4096, 0), 0);
    assert_int_equal(blk_write(q, 0, b, 4096, 0), -EIO);
    assert_int_equal(blk_write(q, 0, b, 4096, 0), -EIO);
    assert_int_equal(blk_read(below, 0, got, 4096), 0);
    assert_memory_equal(got, b, 700);
    assert_memory_equal(got + 700, a + 700, 4096 - 700);
    blk_queue_close(below);
    test_close(q);
}

static void silent_loss(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("fault?nth=2&op=write&drop=silent,mem:1M"), 2);
    char a[512], got[512];
    memset(a, 'a', sizeof(a));
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(blk_write(q, i * 512, a, 512, 0), 0);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(blk_read(q, i * 512, got, 512), 0);
        assert_int_equal(got[7], i == 1 ? 0 : 'a');
    }
    test_close(q);
}

static void flipped_bits(void **state)
{
    (void)state;
    static char data[8192], got[8192];
    struct blk_queue *q = test_queue(test_open("fault?flip=on&every=2,mem:1M"), 2);
    memset(data, 0x5a, sizeof(data));
    assert_int_equal(blk_write(q, 0, data, sizeof(data), 0), 0);
    for (int i = 1; i <= 20; i++) {
        int bits = 0;
        assert_int_equal(blk_read(q, 0, got, sizeof(got)), 0);
        for (size_t at = 0; at < sizeof(got); at++)
            bits += __builtin_popcount((uint8_t)(got[at] ^ data[at]));
        assert_int_equal(bits, i % 2 ? 0 : 1);
    }
    test_close(q);
}

enum { THREADS = 4, OPS = 4000 };

struct worker {
    struct blk *dev;
    unsigned failed;
};

static void work(void *arg)
{
    struct worker *w = arg;
    struct blk_queue *q;
    if (blk_queue_open(w->dev, 4, &q) < 0)
        return;
    for (int i = 0; i < OPS; i++)
        w->failed += blk_flush(q) == -EIO;
    blk_queue_close(q);
}

/* One count for all queues: of 16000 operations each fifth fails, whoever does it. */
static void threads(void **state)
{
    (void)state;
    struct blk *dev = test_open("fault?op=flush+write&every=5,null:1M");
    struct base_thread thread[THREADS];
    struct worker w[THREADS];
    unsigned failed = 0;
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.dev = dev};
        assert_int_equal(base_thread_start(&thread[i], work, &w[i], -1), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        base_thread_join(&thread[i]);
        failed += w[i].failed;
    }
    assert_int_equal(failed, THREADS * OPS / 5);
    assert_int_equal(blk_fault_matched(dev), THREADS * OPS);
    assert_int_equal(blk_fault_fired(dev), THREADS * OPS / 5);
    blk_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options),     cmocka_unit_test(which_fail),
        cmocka_unit_test(operations),  cmocka_unit_test(chance),
        cmocka_unit_test(torn),        cmocka_unit_test(torn_among_others),
        cmocka_unit_test(power_cut),   cmocka_unit_test(torn_cut),
        cmocka_unit_test(silent_loss), cmocka_unit_test(flipped_bits),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests_name("blk_fault", tests, NULL, NULL);
}
