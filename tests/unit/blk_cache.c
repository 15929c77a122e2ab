/* cache: never other data than the device would have, in any order, from several threads; nothing
 * that a flush promised is only in memory; errors are told. */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/util.h"

enum { SIZE = 1 << 20 };

/* ---- many in flight against a model --------------------------------------------------------- */

/* Requests in flight at the same time never overlap, so that their order does not matter. */
struct slot {
    struct blk_req req;
    uint64_t offset, len;
    bool busy;
    unsigned char fill;
    unsigned char *data;
};

enum { DEPTH = 16, MOST = 160 << 10 };

static bool overlaps(const struct slot *slots, uint64_t offset, uint64_t len)
{
    for (int i = 0; i < DEPTH; i++)
        if (slots[i].busy && slots[i].offset < offset + len &&
            offset < slots[i].offset + slots[i].len)
            return true;
    return false;
}

static void prepare(struct slot *s, uint64_t *random, unsigned char fill)
{
    unsigned what = (unsigned)random_below(random, 20);
    s->fill = fill;
    if (what < 8) {
        blk_req_read(&s->req, s->offset, s->data, s->len);
    } else if (what < 17) {
        memset(s->data, fill, s->len);
        blk_req_write(&s->req, s->offset, s->data, s->len);
        s->req.flags = what == 16 ? BLK_FUA : 0;
    } else if (what == 17) {
        blk_req_init(&s->req, BLK_WRITE_ZEROES, s->offset, s->len);
    } else if (what == 18) {
        blk_req_init(&s->req, BLK_DISCARD, s->offset, s->len); /* mem: zeroes */
    } else {
        blk_req_init(&s->req, BLK_FLUSH, 0, 0);
    }
    s->req.user = s;
}

static void settle(struct slot *s, unsigned char *model)
{
    assert_int_equal(s->req.result, 0);
    if (s->req.op == BLK_READ)
        assert_memory_equal(s->data, model + s->offset, s->len);
    else if (s->req.op == BLK_WRITE)
        memset(model + s->offset, s->fill, s->len);
    else if (s->req.op != BLK_FLUSH)
        memset(model + s->offset, 0, s->len);
    s->busy = false;
}

/* Random requests in [start, start+size) of the device; the model holds the whole. */
static void random_load(struct blk_queue *q, unsigned char *model, uint64_t start, uint64_t size,
                        uint64_t seed, int requests)
{
    static const uint64_t most[] = {8, 20, 100, 300};
    struct slot *slots = calloc(DEPTH, sizeof(*slots));
    struct blk_req *done[DEPTH];
    uint64_t random = seed;
    for (int i = 0; i < DEPTH; i++)
        slots[i].data = malloc(MOST);
    for (int sent = 0; sent < requests || blk_queue_in_flight(q);) {
        struct slot *s = NULL;
        for (int i = 0; i < DEPTH && sent < requests; i++)
            if (!slots[i].busy)
                s = &slots[i];
        if (s) {
            s->len = 512 * (1 + random_below(&random, most[random_below(&random, 4)]));
            s->len = min_u64(s->len, size);
            s->offset = start + 512 * random_below(&random, (size - s->len) / 512 + 1);
            if (!overlaps(slots, s->offset, s->len)) {
                struct blk_req *r = &s->req;
                prepare(s, &random, (unsigned char)++sent);
                s->busy = true;
                assert_int_equal(blk_submit(q, &r, 1), 1);
            }
        }
        bool wait = !s || random_below(&random, 3) == 0;
        unsigned n = blk_reap(q, done, DEPTH, wait && blk_queue_in_flight(q) ? BLK_FOREVER : 0);
        for (unsigned i = 0; i < n; i++)
            settle(done[i]->user, model);
    }
    for (int i = 0; i < DEPTH; i++)
        free(slots[i].data);
    free(slots);
}

static void against_a_model(void **state)
{
    (void)state;
    static const char *const specs[] = {
        "cache?size=32K,mem:1M",
        "cache?size=128K&block=16K,mem:1M",
        "cache?size=256K&block=512,delay?all=1us,mem:1M",
        "cache?size=8M,mem:1M",
        "cache?size=64K&bypass=1M,stats,mem:1M",
        "cache?size=64K,cache?size=128K&block=8K,mem:1M",
    };
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        struct blk *dev = test_open(specs[i]);
        struct blk_queue *q = test_queue(dev, DEPTH);
        unsigned char *model = calloc(1, SIZE), *data = malloc(SIZE);
        random_load(q, model, 0, SIZE, i + 1, test_rounds(3000));
        assert_int_equal(blk_read(q, 0, data, SIZE), 0);
        assert_memory_equal(data, model, SIZE);
        /* After a flush the device below has it all. */
        assert_int_equal(blk_flush(q), 0);
        struct blk_queue *below = test_queue(blk_child(dev), 4);
        assert_int_equal(blk_read(below, 0, data, SIZE), 0);
        if (!strstr(specs[i], "cache?size=64K,cache"))
            assert_memory_equal(data, model, SIZE);
        blk_queue_close(below);
        free(model);
        free(data);
        test_close(q);
    }
}

/* ---- threads ------------------------------------------------------------------------------ */

struct loader {
    struct blk *dev;
    unsigned char *model;
    uint64_t start, size, seed;
};

static void *load_part(void *arg)
{
    const struct loader *l = arg;
    struct blk_queue *q = test_queue(l->dev, DEPTH);
    random_load(q, l->model, l->start, l->size, l->seed, test_rounds(1500));
    blk_queue_close(q);
    return NULL;
}

/* Parts that meet in the middle of cache blocks, so that threads fight for them. */
static void threads_share_lines(void **state)
{
    (void)state;
    enum { N = 3 };
    struct blk *dev = test_open("cache?size=128K&block=16K,mem:1M");
    unsigned char *model = calloc(1, SIZE), *data = malloc(SIZE);
    struct loader loaders[N];
    pthread_t threads[N];
    for (uint64_t i = 0; i < N; i++) {
        uint64_t start = i * 200 * 1024 + 5 * 512 * i;
        loaders[i] = (struct loader){dev, model, start, 200 * 1024 + 5 * 512, i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, load_part, &loaders[i]), 0);
    }
    for (int i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    struct blk_queue *q = test_queue(dev, 4);
    assert_int_equal(blk_read(q, 0, data, SIZE), 0);
    assert_memory_equal(data, model, SIZE);
    free(model);
    free(data);
    test_close(q);
}

/* ---- promises and errors ------------------------------------------------------------------- */

static void flush_and_fua(void **state)
{
    (void)state;
    struct blk *dev = test_open("cache?size=64K,mem:1M");
    struct blk_queue *q = test_queue(dev, 4), *below = test_queue(blk_child(dev), 4);
    char data[4096], back[4096];
    assert_true(blk_info(dev)->volatile_cache);
    memset(data, 'c', sizeof(data));
    assert_int_equal(blk_write(q, 0, data, 4096, 0), 0);
    assert_int_equal(blk_read(below, 0, back, 4096), 0);
    assert_int_equal(back[0], 0);                         /* only in the cache */
    assert_int_equal(blk_write(q, 512, data, 512, 0), 0); /* dirty for longer than that */
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_read(below, 0, back, 4096), 0);
    assert_memory_equal(back, data, 4096);
    memset(data, 'f', sizeof(data));
    assert_int_equal(blk_write(q, 0, data, 512, BLK_FUA), 0);
    assert_int_equal(blk_read(below, 0, back, 4096), 0);
    assert_true(back[0] == 'f' && back[511] == 'f' && back[512] == 'c');
    assert_int_equal(blk_read(q, 0, back, 4096), 0);
    assert_true(back[0] == 'f' && back[512] == 'c');
    blk_queue_close(below);
    test_close(q);
}

static void errors_are_told(void **state)
{
    (void)state;
    char data[4096];
    memset(data, 'e', sizeof(data));
    /* The write below fails twice: two flushes say so, the data is kept, the third succeeds. */
    struct blk *dev = test_open("cache?size=64K,fault?op=write&nth=1,fault?op=write&nth=1,mem:1M");
    struct blk_queue *q = test_queue(dev, 4);
    assert_int_equal(blk_write(q, 0, data, 4096, 0), 0);
    assert_int_equal(blk_flush(q), -EIO);
    assert_int_equal(blk_flush(q), -EIO);
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_read(q, 0, data, 4096), 0);
    assert_int_equal(data[0], 'e');
    test_close(q);
    /* The flush below fails. */
    q = test_queue(test_open("cache?size=64K,fault?op=flush&nth=1,mem:1M"), 4);
    assert_int_equal(blk_flush(q), -EIO);
    assert_int_equal(blk_flush(q), 0);
    test_close(q);
    /* A load fails: that request fails, the next loads again. */
    q = test_queue(test_open("cache?size=64K,fault?op=read&nth=1&errno=ENOMEM,mem:1M"), 4);
    assert_int_equal(blk_read(q, 0, data, 4096), -ENOMEM);
    assert_int_equal(blk_read(q, 0, data, 4096), 0);
    test_close(q);
    /* Nothing can be written any more: no hang, and what is in memory is still read. */
    q = test_queue(test_open("cache?size=64K,fault?op=write+write-zeroes,mem:1M"), 4);
    int error = 0;
    for (uint64_t i = 0; error == 0 && i < 100; i++)
        error = blk_write(q, i * 4096, data, 4096, 0);
    assert_int_equal(error, -EIO);
    assert_int_equal(blk_read(q, 0, data, 4096), 0);
    assert_int_equal(blk_flush(q), -EIO);
    assert_int_equal(blk_write_zeroes(q, 0, 512, 0), -EIO);
    test_close(q);
}

static void closing_writes_back(void **state)
{
    (void)state;
    char path[] = "/var/tmp/ashlar-cache-XXXXXX", spec[128], data[4096];
    close(mkstemp(path));
    memset(data, 'k', sizeof(data));
    assert_int_equal(truncate(path, SIZE), 0);
    snprintf(spec, sizeof(spec), "cache,file:%s", path);
    struct blk_queue *q = test_queue(test_open(spec), 4);
    assert_int_equal(blk_write(q, 8192, data, 4096, 0), 0);
    test_close(q);
    q = test_queue(test_open(spec + 6), 4);
    assert_int_equal(blk_read(q, 8192, data, 4096), 0);
    assert_int_equal(data[0], 'k');
    test_close(q);
    unlink(path);
}

static void bad_options(void **state)
{
    (void)state;
    test_refused("cache?block=3000,mem:1M", -EINVAL, "power of two");
    test_refused("cache?block=256,mem:1M", -EINVAL, "from 512");
    test_refused("cache?block=2M,mem:1M", -EINVAL, "to 1M");
    test_refused("cache?size=4K,mem:1M", -EINVAL, "at least 8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_a_model),     cmocka_unit_test(threads_share_lines),
        cmocka_unit_test(flush_and_fua),       cmocka_unit_test(errors_are_told),
        cmocka_unit_test(closing_writes_back), cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests_name("blk_cache", tests, NULL, NULL);
}
