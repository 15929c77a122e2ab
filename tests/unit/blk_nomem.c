/* Every allocation fails once, in turn: opening says -ENOMEM, leaks nothing, and the next works. */
#include "test.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/platform.h"

/* The linker sends calls of NAME to __wrap_NAME (see meson.build). */
void *__real_base_alloc(size_t size);
void *__real_base_alloc_array(size_t count, size_t size);
void *__real_base_alloc_aligned(size_t align, size_t size);
void *__real_base_reserve(uint64_t size);

static long countdown = -1; /* allocations until the one that fails; below 0: none does */

static bool fails(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *__wrap_base_alloc(size_t size)
{
    return fails() ? NULL : __real_base_alloc(size);
}

void *__wrap_base_alloc_array(size_t count, size_t size)
{
    return fails() ? NULL : __real_base_alloc_array(count, size);
}

void *__wrap_base_alloc_aligned(size_t align, size_t size)
{
    return fails() ? NULL : __real_base_alloc_aligned(align, size);
}

void *__wrap_base_reserve(uint64_t size)
{
    return fails() ? NULL : __real_base_reserve(size);
}

/* Open, use and close; the first error, 0 if all went well. */
static int use(const char *spec)
{
    struct blk *dev;
    struct blk_queue *q = NULL;
    struct blk_error err;
    char data[1024];
    int error = blk_open(spec, 0, &dev, &err);
    if (error < 0) {
        assert_null(dev);
        assert_non_null(strstr(err.text, spec));
        return error;
    }
    error = blk_queue_open(dev, 4, &q);
    if (error == 0 && !blk_buf_alloc(q, 8192))
        error = -ENOMEM;
    if (error == 0)
        error = blk_write_bytes(q, 3, "unaligned", 9, 0);
    if (error == 0)
        error = blk_read_bytes(q, 1, data, sizeof(data));
    if (error == 0)
        error = blk_write_zeroes(q, 0, 4096, 0);
    if (q)
        assert_int_equal(blk_queue_close(q), 0);
    assert_int_equal(blk_close(dev), 0);
    return error;
}

static void every_allocation(void **state)
{
    (void)state;
    static const char *const specs[] = {
        "null:1M",
        "mem:1M",
        "readonly,mem:1M",
        "slice?size=64K,mem:1M",
        "file:@?create=1M",
        "slice?size=64K,slice?size=128K,mem:1M",
        "stats,mem:1M",
        "delay?read=1us,mem:1M",
        "fault?torn=100&armed=off,mem:1M",
        "cache?size=64K,mem:1M",
        "log?to=mem:1M,mem:1M",
        "zns?zone=64K&conventional=2,mem:1M",
    };
    char path[] = "/var/tmp/ashlar-nomem-XXXXXX";
    close(mkstemp(path));
    unlink(path);
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        char spec[256];
        const char *at = strchr(specs[i], '@');
        if (at)
            snprintf(spec, sizeof(spec), "file:%s%s", path, at + 1);
        else
            snprintf(spec, sizeof(spec), "%s", specs[i]);
        int wanted = strstr(spec, "readonly") ? -EROFS : 0;
        int error = -ENOMEM;
        long n = 0;
        for (; error == -ENOMEM && n < 1000; n++) {
            countdown = n;
            error = use(spec);
        }
        countdown = -1;
        if (error != wanted)
            fail_msg("%s: allocation %ld: %d", spec, n, error);
        assert_in_range(n, 5, 999);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
    return cmocka_run_group_tests_name("blk_nomem", tests, NULL, NULL);
}
