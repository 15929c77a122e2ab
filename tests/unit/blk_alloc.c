/* On the way of a request nothing is allocated and no lock is taken. This program's own malloc and
 * pthread_mutex_lock count; so it is built without sanitizers, which have theirs. */
#include "test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);

static bool counting;
static unsigned allocations, locks;

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

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    static int (*real)(pthread_mutex_t * mutex);
    if (!real) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_mutex_lock");
        memcpy(&real, &symbol, sizeof(real));
    }
    locks += counting;
    return real(mutex);
}

static void the_counters_count(void **state)
{
    (void)state;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    allocations = locks = 0;
    counting = true;
    void *volatile memory = malloc(100);
    pthread_mutex_lock(&mutex);
    counting = false;
    pthread_mutex_unlock(&mutex);
    free(memory);
    assert_int_equal(allocations, 1);
    assert_int_equal(locks, 1);
}

/* Reads, writes, flushes, batches, errors: between submit and reap. */
static void drive(const char *spec, unsigned rounds)
{
    enum { DEPTH = 16 };
    struct blk_queue *q = test_queue(test_open(spec), DEPTH);
    struct blk_req reqs[DEPTH], *p[DEPTH], *done[DEPTH];
    char *data = blk_buf_alloc(q, DEPTH * 4096);
    unsigned results = 0;
    allocations = locks = 0;
    counting = true;
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < DEPTH; i++) {
            uint64_t offset = (round * DEPTH + i) % 256 * 4096;
            blk_req_data(&reqs[i], i % 2 ? BLK_READ : BLK_WRITE, offset, data + i * 4096, 4096);
            p[i] = &reqs[i];
        }
        if (round % 16 == 0)
            blk_req_init(&reqs[3], BLK_FLUSH, 0, 0);
        reqs[5].offset = round % 8 ? reqs[5].offset : UINT64_MAX;
        blk_submit(q, p, DEPTH);
        while (blk_queue_in_flight(q))
            results += blk_reap(q, done, DEPTH, BLK_FOREVER);
    }
    blk_read_bytes(q, 4096, data, 8192);
    blk_write_zeroes(q, 0, 4096, 0);
    counting = false;
    if (allocations || locks)
        fail_msg("%s: %u allocations, %u locks", spec, allocations, locks);
    assert_int_equal(results, rounds * DEPTH);
    test_close(q);
}

static void requests(void **state)
{
    (void)state;
    char path[] = "/var/tmp/ashlar-alloc-XXXXXX", spec[128];
    drive("null:1M", 1000);
    drive("mem:1M", 1000);
    drive("slice?size=1M,stats,mem:2M", 1000);
    close(mkstemp(path));
    assert_int_equal(truncate(path, 1 << 20), 0);
    snprintf(spec, sizeof(spec), "file:%s", path);
    drive(spec, 200);
    snprintf(spec, sizeof(spec), "stats,file:%s?direct=on", path);
    drive(spec, 20);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counters_count),
        cmocka_unit_test(requests),
    };
    return cmocka_run_group_tests_name("blk_alloc", tests, NULL, NULL);
}
