/* stats: counts what passes, also while it passes, and keeps what closed queues counted. */
#include "test.h"

#include <pthread.h>

static char lines[4096];

static void line(void *arg, const char *text)
{
    (void)arg;
    strcat(lines, text);
    strcat(lines, "\n");
}

static const char *report(struct blk *dev)
{
    lines[0] = '\0';
    blk_report(dev, line, NULL);
    return lines;
}

static void expect(struct blk *dev, const char *text)
{
    if (!strstr(report(dev), text))
        fail_msg("'%s' is not in:\n%s", text, lines);
}

static void counts(void **state)
{
    (void)state;
    struct blk *dev = test_open("stats,fault?op=write&nth=3,mem:1M");
    struct blk_queue *a = test_queue(dev, 4), *b = test_queue(dev, 4);
    static char data[8192];
    assert_null(strstr(report(dev), "stats:"));
    for (int i = 0; i < 5; i++)
        assert_int_equal(blk_write(a, 0, data, 4096, 0), i == 2 ? -EIO : 0);
    assert_int_equal(blk_read(b, 0, data, 8192), 0);
    assert_int_equal(blk_flush(b), 0);
    expect(dev, "stats: write: 5 requests, 16384 bytes, 1 errors");
    expect(dev, "stats: read: 1 requests, 8192 bytes, 0 errors");
    expect(dev, "stats: flush: 1 requests");
    assert_int_equal(blk_queue_close(a), 0);
    expect(dev, "stats: write: 5 requests, 16384 bytes, 1 errors");
    test_close(b);
}

static void latency(void **state)
{
    (void)state;
    struct blk *dev = test_open("stats,delay?read=2ms,mem:1M");
    struct blk_queue *q = test_queue(dev, 4);
    char data[512];
    unsigned long long mean = 0;
    assert_int_equal(blk_read(q, 0, data, 512), 0);
    assert_int_equal(sscanf(strstr(report(dev), "mean"), "mean %llu", &mean), 1);
    assert_true(mean >= 2000000);
    test_close(q);
}

static void *load(void *arg)
{
    struct blk_queue *q = test_queue(arg, 1);
    char data[512];
    for (int i = 0; i < 5000; i++)
        assert_int_equal(blk_read(q, 0, data, 512), 0);
    blk_queue_close(q);
    return NULL;
}

static void report_while_in_use(void **state)
{
    (void)state;
    struct blk *dev = test_open("stats,mem:1M");
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load, dev), 0);
    for (int i = 0; i < 50; i++)
        report(dev);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    expect(dev, "stats: read: 10000 requests, 5120000 bytes");
    blk_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(latency),
        cmocka_unit_test(report_while_in_use),
    };
    return cmocka_run_group_tests_name("blk_stats", tests, NULL, NULL);
}
