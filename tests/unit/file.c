/* The file driver: sizes, O_DIRECT, discard, write-zeroes, registered buffers, short files. */
#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/var/tmp/ashlar-file-XXXXXX";
static char path[64];

static const char *scheme = "file";

static struct blk *open_file(const char *options)
{
    char spec[256];
    snprintf(spec, sizeof(spec), "%s:%s%s", scheme, path, options);
    return test_open(spec);
}

static void refused(const char *options, int error, const char *text)
{
    char spec[256];
    snprintf(spec, sizeof(spec), "file:%s%s", path, options);
    test_refused(spec, error, text);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/disk.img", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static void opening(void **state)
{
    (void)state;
    refused("", -ENOENT, "create=SIZE");
    struct blk *dev = open_file("?create=1M");
    assert_int_equal(blk_info(dev)->size, 1 << 20);
    assert_int_equal(blk_info(dev)->block_size, 512);
    blk_close(dev);
    dev = open_file("?create=1M");
    blk_close(dev);
    refused("?create=2M", -EEXIST, "another size");
    refused("?block=2M", -EINVAL, "at most 1M");
    refused("?block=3000", -EINVAL, "power of two");
    refused("?direct=on&block=256", -EINVAL, "at least");
    dev = open_file("?block=4096");
    assert_int_equal(blk_info(dev)->block_size, 4096);
    blk_close(dev);
    test_refused("file:", -EINVAL, "path is missing");
    test_refused("file:/proc/self/mem/x", -ENOTDIR, "cannot be opened");
    test_refused("file:/dev/zero", -EINVAL, "neither a file nor a block device");
    test_refused("file:/tmp", -EISDIR, "directory");

    /* No byte of an odd size is lost, and direct I/O says that it cannot. */
    assert_int_equal(truncate(path, 1001), 0);
    dev = open_file("");
    assert_int_equal(blk_info(dev)->size, 1001);
    assert_int_equal(blk_info(dev)->block_size, 1);
    blk_close(dev);
    refused("?direct=on", -EINVAL, "not a multiple");
}

/* Fill, read back with another queue and other buffers; the file holds what was written. */
static void round_trip(const char *options)
{
    enum { SIZE = 1 << 20, PART = 32 << 10, PARTS = SIZE / PART };
    struct blk_queue *q = test_queue(open_file(options), PARTS);
    char *data = blk_buf_alloc(q, SIZE), *back = aligned_alloc(4096, SIZE);
    struct blk_req reqs[PARTS], *p[PARTS], *done[PARTS];
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 + (i >> 12));
    for (size_t i = 0; i < PARTS; i++) {
        blk_req_write(&reqs[i], i * PART, data + i * PART, PART);
        reqs[i].flags = i % 2 ? BLK_FUA : 0;
        p[i] = &reqs[i];
    }
    assert_int_equal(blk_submit(q, p, PARTS), PARTS);
    for (unsigned n = 0; n < PARTS;) {
        unsigned got = blk_reap(q, done, PARTS, BLK_FOREVER);
        assert_true(got > 0);
        for (unsigned i = 0; i < got; i++)
            assert_int_equal(done[i]->result, 0);
        n += got;
    }
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_read(q, 0, back, SIZE), 0);
    assert_memory_equal(data, back, SIZE);
    /* scattered */
    struct iovec iov[3] = {{back + 8192, 4096}, {back, 512}, {back + 4096, 3584}};
    blk_req_init(&reqs[0], BLK_READ, 65536, 8192);
    reqs[0].iov = iov;
    reqs[0].niov = 3;
    assert_int_equal(blk_execute(q, &reqs[0]), 0);
    assert_memory_equal(back + 8192, data + 65536, 4096);
    assert_memory_equal(back, data + 69632, 512);
    assert_memory_equal(back + 4096, data + 70144, 3584);
    blk_buf_free(q, data);
    free(back);
    test_close(q);
}

static void data_paths(void **state)
{
    (void)state;
    round_trip("?create=1M");
    round_trip("?direct=on");
    round_trip("?buffers=off&direct=on");
    round_trip("?buffers=off");
    scheme = "psync";
    round_trip("");
    round_trip("?direct=on");
    scheme = "file";
}

static void zeroes_and_holes(bool holes)
{
    struct blk_queue *q = test_queue(open_file("?create=1M"), 4);
    struct blk_extent e[8];
    struct stat before, after;
    static char data[1 << 20];
    memset(data, 'd', sizeof(data));
    assert_int_equal(blk_write(q, 0, data, sizeof(data), 0), 0);
    assert_int_equal(blk_flush(q), 0);
    stat(path, &before);
    assert_int_equal(blk_discard(q, 65536, 65536), 0);
    assert_int_equal(blk_write_zeroes(q, 262144, 131072, 0), 0);
    assert_int_equal(blk_write_zeroes(q, 524288, 65536, BLK_NO_UNMAP | BLK_FUA), 0);
    stat(path, &after);
    assert_true(after.st_blocks < before.st_blocks);
    assert_int_equal(after.st_size, 1 << 20);
    assert_int_equal(blk_read(q, 0, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++) {
        bool zero = (i >= 65536 && i < 131072) || (i >= 262144 && i < 393216) ||
                    (i >= 524288 && i < 589824);
        assert_int_equal(data[i], zero ? 0 : 'd');
    }
    if (!holes) {
        test_close(q);
        return;
    }
    assert_true(blk_status(q, 0, 1 << 20, e, 8) >= 4);
    assert_int_equal(e[0].len, 65536);
    assert_int_equal(e[0].flags, 0);
    assert_int_equal(e[1].len, 65536);
    assert_int_equal(e[1].flags, BLK_EXTENT_HOLE | BLK_EXTENT_ZERO);
    test_close(q);
}

static void zeroes_and_holes_uring(void **state)
{
    (void)state;
    zeroes_and_holes(true);
}

static void zeroes_and_holes_psync(void **state)
{
    (void)state;
    scheme = "psync";
    zeroes_and_holes(false);
    scheme = "file";
}

/* A file that gets shorter behind the device's back: errors, no hang, no short success. */
static void shrunk_file(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(open_file("?create=1M"), 4);
    static char data[8192];
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(blk_read(q, 0, data, 4096), 0);
    assert_int_equal(blk_read(q, 0, data, 8192), -EIO);
    assert_int_equal(blk_read(q, 65536, data, 8192), -EIO);
    assert_int_equal(blk_write(q, 1 << 20, data, 4096, 0), -ERANGE);
    test_close(q);
}

/* A queue opened in one thread may be used in another. */
static void *use_queue(void *arg)
{
    static char data[4096];
    return (void *)(intptr_t)blk_write(arg, 0, data, sizeof(data), BLK_FUA);
}

#include <pthread.h>

static void queue_changes_thread(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(open_file("?create=1M"), 4);
    pthread_t thread;
    void *result;
    char data[512];
    assert_int_equal(blk_read(q, 0, data, 512), 0);
    assert_int_equal(pthread_create(&thread, NULL, use_queue, q), 0);
    pthread_join(thread, &result);
    assert_null(result);
    assert_int_equal(blk_read(q, 0, data, 512), 0);
    test_close(q);
}

static void read_only(void **state)
{
    (void)state;
    blk_close(open_file("?create=1M"));
    assert_int_equal(chmod(path, 0444), 0);
    struct blk *dev;
    char spec[128];
    snprintf(spec, sizeof(spec), "file:%s", path);
    assert_int_equal(blk_open(spec, BLK_OPEN_READ_ONLY, &dev, NULL), 0);
    struct blk_queue *q = test_queue(dev, 1);
    char data[512];
    assert_int_equal(blk_read(q, 0, data, 512), 0);
    assert_int_equal(blk_write(q, 0, data, 512, 0), -EROFS);
    test_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(opening, remove_file),
        cmocka_unit_test_teardown(data_paths, remove_file),
        cmocka_unit_test_teardown(zeroes_and_holes_uring, remove_file),
        cmocka_unit_test_teardown(zeroes_and_holes_psync, remove_file),
        cmocka_unit_test_teardown(shrunk_file, remove_file),
        cmocka_unit_test_teardown(queue_changes_thread, remove_file),
        cmocka_unit_test_teardown(read_only, remove_file),
    };
    return cmocka_run_group_tests_name("file", tests, set_up, tear_down);
}
