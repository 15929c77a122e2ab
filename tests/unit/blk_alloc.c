/* Between submit and reap nothing is allocated and no lock is taken: the C library's functions are
 * replaced by ones that count. Not under sanitizers, which have replaced them already. */
#include "test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include <ashlar/zone.h>

#include "base/util.h"

static bool counting;
static unsigned allocations, locks;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *memory);

void *malloc(size_t size)
{
    allocations += counting;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations += counting;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    allocations += counting;
    return __libc_realloc(memory, size);
}

int posix_memalign(void **memory, size_t align, size_t size)
{
    allocations += counting;
    *memory = __libc_memalign(align, size);
    return *memory ? 0 : ENOMEM;
}

void *aligned_alloc(size_t align, size_t size)
{
    allocations += counting;
    return __libc_memalign(align, size);
}

void free(void *memory)
{
    allocations += counting;
    __libc_free(memory);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    static int (*real)(pthread_mutex_t * mutex);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_lock");
    locks += counting;
    return real(mutex);
}

/* The counters count: else all that follows shows nothing. */
static void counters(void **state)
{
    (void)state;
    struct blk *dev = test_open("mem:1M");
    counting = true;
    struct blk_queue *q = test_queue(dev, 4);
    counting = false;
    assert_true(allocations >= 4);
    allocations = locks = 0;
    char data[8] = "bytes";
    counting = true;
    assert_int_equal(blk_write_bytes(q, 3, data, 5, 0), 0);
    counting = false;
    assert_true(locks > 0);
    test_close(q);
}

enum { DEPTH = 32, REQUESTS = 10000 };

static void make_request(struct blk_req *r, char *data, uint64_t *random)
{
    enum blk_op op = !random_below(random, 100) ? BLK_FLUSH
                     : random_below(random, 2)  ? BLK_READ
                                                : BLK_WRITE;
    if (op == BLK_FLUSH)
        blk_req_init(r, op, 0, 0);
    else
        blk_req_data(r, op, random_below(random, 255) * 4096, data, 4096);
}

/* REQUESTS requests, DEPTH at a time. */
static void run(struct blk_queue *q, unsigned requests)
{
    static _Alignas(4096) char data[DEPTH][4096];
    static struct blk_req reqs[DEPTH];
    struct blk_req *idle[DEPTH], *done[DEPTH];
    unsigned free_count = DEPTH, sent = 0, got = 0;
    uint64_t random = 1;
    for (unsigned i = 0; i < DEPTH; i++)
        idle[i] = &reqs[i];
    while (got < requests) {
        unsigned n = 0;
        for (; n < free_count && sent + n < requests; n++)
            make_request(idle[n], data[idle[n] - reqs], &random);
        unsigned accepted = blk_submit(q, idle, n);
        assert_int_equal(accepted, n);
        sent += n;
        free_count = blk_reap(q, done, DEPTH, BLK_FOREVER);
        assert_true(free_count > 0);
        for (unsigned i = 0; i < free_count; i++)
            assert_int_equal(done[i]->result, 0);
        memcpy(idle, done, free_count * sizeof(*idle));
        got += free_count;
    }
}

static void nothing(const char *spec)
{
    struct blk_queue *q = test_queue(test_open(spec), DEPTH);
    run(q, 200); /* what is resolved or mapped the first time */
    allocations = locks = 0;
    counting = true;
    run(q, REQUESTS);
    counting = false;
    if (allocations || locks)
        fail_msg("%s: %u allocations and %u locks in %d requests", spec, allocations, locks,
                 REQUESTS);
    test_close(q);
}

static void memory_devices(void **state)
{
    (void)state;
    nothing("null:1M");
    nothing("mem:1M");
    nothing("slice?offset=4K,slice?size=1M,null:2M");
}

static void filters(void **state)
{
    (void)state;
    nothing("stats,mem:1M");
    nothing("delay?write=1us,mem:1M");
    nothing("fault?fraction=0,mem:1M");
    nothing("fault?torn=100&nth=1&op=write&offset=1020K,mem:1M");
    nothing("stats,delay?jitter=1us,fault?fraction=0,slice?offset=0,mem:1M");
}

static void files(void **state)
{
    (void)state;
    static const char *const schemes[] = {"file", "psync"};
    char path[] = "/var/tmp/ashlar-alloc-XXXXXX", spec[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    close(fd);
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        snprintf(spec, sizeof(spec), "%s:%s", schemes[i], path);
        nothing(spec);
    }
    unlink(path);
}

/* Appends to open zones take their zone's lock, at the beginning and at the end; reads take none.
 */
static void zones(void **state)
{
    (void)state;
    enum { APPENDS = 2000 };
    static _Alignas(4096) char data[DEPTH][4096];
    static struct blk_req reqs[DEPTH];
    struct blk_req *r[DEPTH];
    struct blk_queue *q = test_queue(test_open("zns?zone=16M,mem:64M"), DEPTH);
    uint64_t place;
    for (unsigned zone = 0; zone < 3; zone++)
        assert_int_equal(blk_zone_append(q, (uint64_t)zone << 24, data[0], 4096, 0, &place), 0);
    for (int reads = 0; reads < 2; reads++) {
        unsigned sent = 0, got = 0, n = 0;
        allocations = locks = 0;
        counting = true;
        for (; got < APPENDS; got += n) {
            for (n = 0; n < DEPTH && sent < APPENDS; n++, sent++) {
                r[n] = &reqs[n];
                blk_req_data(r[n], reads ? BLK_READ : BLK_ZONE_APPEND, (uint64_t)(sent % 3) << 24,
                             data[n], 4096);
            }
            assert_int_equal(blk_submit(q, r, n), n);
            assert_int_equal(blk_reap(q, r, DEPTH, BLK_FOREVER), n);
            for (unsigned i = 0; i < n; i++)
                assert_int_equal(r[i]->result, 0);
        }
        counting = false;
        assert_int_equal(allocations, 0);
        assert_int_equal(locks, reads ? 0 : 2 * APPENDS);
    }
    test_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters), cmocka_unit_test(memory_devices), cmocka_unit_test(filters),
        cmocka_unit_test(files),    cmocka_unit_test(zones),
    };
    return cmocka_run_group_tests_name("blk_alloc", tests, NULL, NULL);
}
