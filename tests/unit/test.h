/* What every unit test includes first: cmocka and its requirements. */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include <ashlar/blk.h>

/* How often to repeat something random: n times, and many more in `make soak`. */
static inline int test_rounds(int n)
{
    return getenv("SOAK") ? n * 20 : n;
}

/* Open a device that must open. */
static inline struct blk *test_open(const char *spec)
{
    struct blk *dev;
    struct blk_error err;
    if (blk_open(spec, 0, &dev, &err) < 0)
        fail_msg("%s", err.text);
    return dev;
}

static inline struct blk_queue *test_queue(struct blk *dev, unsigned depth)
{
    struct blk_queue *q;
    assert_int_equal(blk_queue_open(dev, depth, &q), 0);
    return q;
}

static inline void test_close(struct blk_queue *q)
{
    struct blk *dev = blk_queue_device(q);
    assert_int_equal(blk_queue_close(q), 0);
    assert_int_equal(blk_close(dev), 0);
}

/* Open a spec that must be refused; the message must contain text. */
static inline void test_refused(const char *spec, int error, const char *text)
{
    struct blk *dev;
    struct blk_error err;
    int got = blk_open(spec, 0, &dev, &err);
    if (got == 0)
        fail_msg("'%s' was opened", spec);
    if (got != error || !strstr(err.text, text))
        fail_msg("'%s': %d '%s', expected %d '%s'", spec, got, err.text, error, text);
    assert_null(dev);
}

#endif
