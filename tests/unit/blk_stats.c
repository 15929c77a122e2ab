/* The stats filter: counts, bytes, errors and latencies, of open and closed queues. */
#include "test.h"

#include "base/platform.h"

/* All lines of a report in one text. */
struct report {
    char text[8192];
};

static void add_line(void *arg, const char *text)
{
    struct report *r = arg;
    size_t used = strlen(r->text);
    snprintf(r->text + used, sizeof(r->text) - used, "%s\n", text);
}

static struct report report_of(const struct blk *dev)
{
    struct report r = {""};
    blk_report(dev, add_line, &r);
    return r;
}

static void assert_report(const struct blk *dev, const char *wanted)
{
    struct report r = report_of(dev);
    if (!strstr(r.text, wanted))
        fail_msg("no '%s' in:\n%s", wanted, r.text);
}

static void nothing_yet(void **state)
{
    (void)state;
    struct blk *dev = test_open("stats,mem:1M");
    assert_report(dev, "stats: no operations\n");
    blk_close(dev);
}

static void counts_of_each_operation(void **state)
{
    (void)state;
    static char data[8192];
    struct blk *dev = test_open("stats,fault?op=discard,mem:1M");
    struct blk_queue *q = test_queue(dev, 8);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(blk_write(q, i * 8192, data, 8192, 0), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(blk_read(q, 0, data, 512), 0);
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_discard(q, 0, 4096), -EIO);
    assert_int_equal(blk_write_zeroes(q, 0, 1 << 20, 0), 0);

    /* While the queue is open, and the same after it was closed. */
    for (int closed = 0; closed < 2; closed++) {
        assert_report(dev, "stats: write: 10 operations, 80.0 KiB, 0 errors; latency mean ");
        assert_report(dev, "stats: read: 3 operations, 1.5 KiB, 0 errors; ");
        assert_report(dev, "stats: flush: 1 operations, 0 B, 0 errors; ");
        assert_report(dev, "stats: discard: 1 operations, 0 B, 1 errors; ");
        assert_report(dev, "stats: write-zeroes: 1 operations, 1.0 MiB, 0 errors; ");
        assert_null(strstr(report_of(dev).text, "zone"));
        if (!closed)
            blk_queue_close(q);
    }
    blk_close(dev);
}

static uint64_t nanoseconds(const char *text)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = {{" ns", 1}, {" us", 1000}, {" ms", 1000000}, {" s", 1000000000}};
    unsigned long long whole = 0;
    int used = 0;
    assert_int_equal(sscanf(text, "%llu%n", &whole, &used), 1);
    text += used;
    if (*text == '.')
        text += 2;
    for (size_t i = 0; i < 4; i++)
        if (!strncmp(text, units[i].unit, strlen(units[i].unit)))
            return whole * units[i].ns;
    fail_msg("no unit in '%s'", text);
    return 0;
}

/* A delay below is a lower bound of every latency, a maximum the upper bound of the others. */
static void latency(void **state)
{
    (void)state;
    char data[512];
    struct blk *dev = test_open("stats,delay?read=3ms,mem:1M");
    struct blk_queue *q = test_queue(dev, 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(blk_read(q, 0, data, 512), 0);
    struct report r = report_of(dev);
    uint64_t mean = nanoseconds(strstr(r.text, "mean ") + 5);
    uint64_t p50 = nanoseconds(strstr(r.text, "p50 ") + 4);
    uint64_t p99 = nanoseconds(strstr(r.text, "p99 ") + 4);
    uint64_t max = nanoseconds(strstr(r.text, "max ") + 4);
    assert_true(mean >= 3000000 && p50 >= 3000000);
    assert_true(p50 <= p99 && p99 <= max && mean <= max);
    test_close(q);
}

enum { THREADS = 4, OPS = 5000 };

static void work(void *arg)
{
    struct blk_queue *q;
    char data[512];
    if (blk_queue_open(arg, 4, &q) < 0)
        return;
    for (int i = 0; i < OPS; i++)
        blk_read(q, 0, data, sizeof(data));
    blk_queue_close(q);
}

/* A report may be asked for at any time; in the end nothing is missing. */
static void threads(void **state)
{
    (void)state;
    struct blk *dev = test_open("stats,null:1M");
    struct base_thread thread[THREADS];
    unsigned long long count = 0, before = 0;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(base_thread_start(&thread[i], work, dev, -1), 0);
    while (count < OPS) {
        struct report r = report_of(dev);
        sscanf(r.text, "stats: read: %llu", &count);
        assert_true(count >= before && count <= (unsigned long long)THREADS * OPS);
        before = count;
    }
    for (int i = 0; i < THREADS; i++)
        base_thread_join(&thread[i]);
    assert_report(dev, "stats: read: 20000 operations, 9.7 MiB, 0 errors");
    blk_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_yet),
        cmocka_unit_test(counts_of_each_operation),
        cmocka_unit_test(latency),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests_name("blk_stats", tests, NULL, NULL);
}
