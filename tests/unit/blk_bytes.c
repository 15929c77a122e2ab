/* Byte I/O: against a plain array, on every kind of block, from several threads at once. */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>

#include <ashlar/blk_driver.h>

#include "base/util.h"

/* A device that insists on aligned memory, as O_DIRECT does, and notes what it is asked. */
struct strict {
    char *data;
};
static unsigned strict_requests;

enum { SIZE = 1 << 20 };

static int strict_open(struct blk *dev, struct blk_error *err)
{
    struct strict *s = dev->priv;
    (void)err;
    s->data = calloc(1, SIZE);
    dev->info.size = SIZE;
    dev->info.block_size = 4096;
    dev->info.buf_align = 512;
    dev->info.max_transfer = 64 << 10;
    return 0;
}

static void strict_close(struct blk *dev)
{
    struct strict *s = dev->priv;
    free(s->data);
}

static void strict_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct strict *s = queue->dev->priv;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        strict_requests++;
        assert_int_equal((uintptr_t)r->iov[0].iov_base % 512, 0);
        assert_int_equal((r->offset | r->len) % 4096, 0);
        if (r->op == BLK_READ)
            blk_copy_to_iov(r->iov, r->niov, 0, s->data + r->offset, r->len);
        else
            blk_copy_from_iov(r->iov, r->niov, 0, s->data + r->offset, r->len);
        blk_complete(queue, r, 0);
    }
}

static const struct blk_driver strict_driver = {
    .name = "strict",
    .summary = "for this test",
    .priv_size = sizeof(struct strict),
    .open = strict_open,
    .close = strict_close,
    .submit = strict_submit,
};

/* ---- one thread against an array ----------------------------------------------------------- */

static size_t random_len(uint64_t *random)
{
    static const size_t most[] = {16, 600, 5000, 300000};
    return random_below(random, most[random_below(random, 4)]);
}

static void against_an_array(const char *spec, int rounds)
{
    struct blk_queue *q = test_queue(test_open(spec), 4);
    char *model = calloc(1, SIZE), *data = malloc(SIZE + 64);
    uint64_t random = 11;
    for (int i = 0; i < test_rounds(rounds); i++) {
        size_t len = random_len(&random), offset = random_below(&random, SIZE - len + 1);
        char *buf = data + random_below(&random, 64);
        if (random_next(&random) & 1) {
            for (size_t k = 0; k < len; k++)
                buf[k] = (char)random_next(&random);
            assert_int_equal(blk_write_bytes(q, offset, buf, len, i % 7 ? 0 : BLK_FUA), 0);
            memcpy(model + offset, buf, len);
        } else {
            assert_int_equal(blk_read_bytes(q, offset, buf, len), 0);
            assert_memory_equal(buf, model + offset, len);
        }
    }
    assert_int_equal(blk_read_bytes(q, 0, data, SIZE), 0);
    assert_memory_equal(data, model, SIZE);
    free(model);
    free(data);
    test_close(q);
}

static void every_kind_of_block(void **state)
{
    (void)state;
    against_an_array("mem:1M?block=1", 2000);
    against_an_array("mem:1M?block=512", 2000);
    against_an_array("mem:1M?block=4096", 2000);
    against_an_array("mem:1M?block=256K", 300);
    against_an_array("strict", 2000);
    against_an_array("delay?all=1us,mem:1M?block=512", 300);
    against_an_array("cache?size=64K,mem:1M", 1000);
    against_an_array("stats,slice?offset=1M&size=1M,mem:3M?block=4096", 1000);
}

static void bounds(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("mem:1M"), 4);
    char c[8];
    assert_int_equal(blk_read_bytes(q, SIZE - 1, c, 1), 0);
    assert_int_equal(blk_read_bytes(q, SIZE - 1, c, 2), -ERANGE);
    assert_int_equal(blk_read_bytes(q, UINT64_MAX, c, 2), -ERANGE);
    assert_int_equal(blk_write_bytes(q, SIZE, c, 1, 0), -ERANGE);
    assert_int_equal(blk_write_bytes(q, UINT64_MAX - 3, c, 8, 0), -ERANGE);
    assert_int_equal(blk_write_bytes(q, SIZE, c, 0, 0), 0);
    assert_int_equal(blk_read_bytes(q, 5, c, 0), 0);
    test_close(q);
}

/* Aligned to everything: one request of the whole, nothing read first. */
static void aligned_is_direct(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("strict"), 4);
    char *data = aligned_alloc(4096, 65536);
    memset(data, 1, 65536);
    strict_requests = 0;
    assert_int_equal(blk_write_bytes(q, 4096, data, 65536, 0), 0);
    assert_int_equal(strict_requests, 1);
    assert_int_equal(blk_read_bytes(q, 4096, data, 65536), 0);
    assert_int_equal(strict_requests, 2);
    /* One byte at either edge: the edges are read and written, the middle goes straight. */
    strict_requests = 0;
    assert_int_equal(blk_write_bytes(q, 4095, data + 4095, 8194, 0), 0);
    assert_int_equal(strict_requests, 5);
    free(data);
    test_close(q);
}

static void an_edge_that_cannot_be_read(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("fault?op=read,mem:1M"), 4);
    assert_int_equal(blk_write_bytes(q, 100, "x", 1, 0), -EIO);
    char block[512] = "whole";
    assert_int_equal(blk_write_bytes(q, 512, block, 512, 0), 0);
    test_close(q);
}

/* ---- several threads in the same blocks ----------------------------------------------------- */

enum { THREADS = 4, PASSES = 20, STRIPE = 37, AREA = 64 << 10 };

struct writer {
    struct blk *dev;
    unsigned index;
};

/* Thread t owns the stripes t, t + THREADS, ...; every block holds stripes of all. */
static void *write_stripes(void *arg)
{
    const struct writer *w = arg;
    struct blk_queue *q = test_queue(w->dev, 4);
    char data[STRIPE];
    for (unsigned pass = 1; pass <= PASSES; pass++)
        for (unsigned at = w->index * STRIPE; at + STRIPE <= AREA; at += THREADS * STRIPE) {
            memset(data, (int)(pass * THREADS + w->index), STRIPE);
            assert_int_equal(blk_write_bytes(q, at, data, STRIPE, 0), 0);
        }
    blk_queue_close(q);
    return NULL;
}

static void neighbours_are_kept(const char *spec)
{
    struct blk *dev = test_open(spec);
    pthread_t threads[THREADS];
    struct writer writers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){dev, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_stripes, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct blk_queue *q = test_queue(dev, 4);
    static unsigned char data[AREA];
    assert_int_equal(blk_read_bytes(q, 0, data, AREA), 0);
    for (unsigned at = 0; at + STRIPE <= AREA; at++)
        if (at / STRIPE * STRIPE + STRIPE <= AREA)
            assert_int_equal(data[at], (unsigned char)(PASSES * THREADS + at / STRIPE % THREADS));
    test_close(q);
}

static void threads_share_blocks(void **state)
{
    (void)state;
    neighbours_are_kept("mem:1M");
    neighbours_are_kept("mem:1M?block=4096");
    neighbours_are_kept("cache?size=64K,mem:1M");
}

int main(void)
{
    blk_driver_register(&strict_driver);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_block),  cmocka_unit_test(bounds),
        cmocka_unit_test(aligned_is_direct),    cmocka_unit_test(an_edge_that_cannot_be_read),
        cmocka_unit_test(threads_share_blocks),
    };
    return cmocka_run_group_tests_name("blk_bytes", tests, NULL, NULL);
}
