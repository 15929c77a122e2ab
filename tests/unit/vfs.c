/* The VFS of the unikernel on the host: paths, ramfs, mounts, /dev over block devices, cpio, fstab.
 */
#include "os/vfs/vfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "test.h"

static int set_up(void **state)
{
    (void)state;
    ramfs_register();
    devfs_register();
    base_log_set_level(BASE_LOG_NONE);
    return vfs_mount("none", "/", "ramfs", "");
}

static int tear_down(void **state)
{
    (void)state;
    vfs_fini();
    return vfs_mount_at(0) ? -1 : 0;
}

static struct vfs_file *open_file(const char *path, unsigned flags)
{
    struct vfs_file *f = NULL;
    assert_int_equal(vfs_open(NULL, path, flags, 0644, &f), 0);
    return f;
}

static int open_error(const char *path, unsigned flags)
{
    struct vfs_file *f;
    const int r = vfs_open(NULL, path, flags, 0644, &f);
    if (r == 0)
        vfs_close(f);
    return r;
}

static void put_file(const char *path, const char *text)
{
    struct vfs_file *f = open_file(path, VFS_O_WRONLY | VFS_O_CREAT | VFS_O_TRUNC);
    assert_int_equal(vfs_write(f, text, strlen(text)), (int64_t)strlen(text));
    vfs_close(f);
}

static void check_file(const char *path, const char *text)
{
    char b[256] = "";
    struct vfs_file *f = open_file(path, VFS_O_RDONLY);
    const int64_t n = vfs_read(f, b, sizeof(b) - 1);
    vfs_close(f);
    assert_int_equal(n, (int64_t)strlen(text));
    assert_string_equal(b, text);
}

static void paths(void **state)
{
    char real[VFS_PATH_MAX];
    (void)state;
    assert_int_equal(vfs_mkdir(NULL, "/a", 0755), 0);
    assert_int_equal(vfs_mkdir("/a", "b", 0755), 0);
    assert_int_equal(vfs_mkdir(NULL, "/a/b", 0755), -EEXIST);
    assert_int_equal(vfs_mkdir(NULL, "/none/b", 0755), -ENOENT);
    assert_int_equal(vfs_mkdir(NULL, "/", 0755), -EEXIST);
    put_file("/a/b/f", "text");
    check_file("//a/./b/../b//f", "text");
    check_file("a/b/f", "text");
    assert_int_equal(open_error("/a/b/f/", 0), -ENOTDIR);
    assert_int_equal(open_error("/a/b/f/x", 0), -ENOTDIR);
    assert_int_equal(open_error("", 0), -ENOENT);
    assert_int_equal(open_error("/a", VFS_O_WRONLY), -EISDIR);
    assert_int_equal(open_error("/a/b/f", VFS_O_DIRECTORY), -ENOTDIR);
    assert_int_equal(open_error("/a/b/f", VFS_O_CREAT | VFS_O_EXCL), -EEXIST);
    assert_int_equal(vfs_symlink("b/f", NULL, "/a/l"), 0);
    assert_int_equal(vfs_symlink("/a", NULL, "/a/b/up"), 0);
    check_file("/a/l", "text");
    check_file("/a/b/up/b/up/l", "text");
    assert_int_equal(open_error("/a/l", VFS_O_NOFOLLOW), -ELOOP);
    assert_int_equal(vfs_realpath("/a/b", "up/../a/l", real, sizeof(real)), 0);
    assert_string_equal(real, "/a/b/f");
    assert_int_equal(vfs_symlink("loop", NULL, "/loop"), 0);
    assert_int_equal(open_error("/loop", 0), -ELOOP);
    assert_int_equal(open_error("/loop/x", 0), -ELOOP);
    assert_int_equal(vfs_readlink(NULL, "/a/l", real, sizeof(real)), 3);
    assert_int_equal(vfs_readlink(NULL, "/a/b/f", real, sizeof(real)), -EINVAL);
    char name[300];
    memset(name, 'n', sizeof(name));
    name[0] = '/';
    name[299] = '\0';
    assert_int_equal(open_error(name, VFS_O_CREAT), -ENAMETOOLONG);
    char deep[VFS_PATH_MAX + 10];
    memset(deep, '/', sizeof(deep));
    deep[sizeof(deep) - 1] = '\0';
    assert_int_equal(open_error(deep, 0), -ENAMETOOLONG);
    int r = 0;
    char path[VFS_PATH_MAX] = "";
    for (int i = 0; r == 0; i++) {
        strcat(path, "/d");
        r = vfs_mkdir(NULL, path, 0755);
        assert_true(i < 200);
    }
    assert_int_equal(r, -ENAMETOOLONG);
}

static void names(void **state)
{
    struct vfs_stat s;
    (void)state;
    put_file("/x", "x");
    put_file("/y", "yy");
    assert_int_equal(vfs_rename(NULL, "/x", NULL, "/y"), 0);
    check_file("/y", "x");
    assert_int_equal(open_error("/x", 0), -ENOENT);
    assert_int_equal(vfs_rename(NULL, "/y", NULL, "/y"), 0);
    assert_int_equal(vfs_mkdir(NULL, "/d", 0700), 0);
    assert_int_equal(vfs_mkdir(NULL, "/d/e", 0700), 0);
    assert_int_equal(vfs_rename(NULL, "/d", NULL, "/d/e/f"), -EINVAL);
    assert_int_equal(vfs_rename(NULL, "/y", NULL, "/d"), -EISDIR);
    assert_int_equal(vfs_rename(NULL, "/d", NULL, "/y"), -ENOTDIR);
    assert_int_equal(vfs_rename(NULL, "/d/e", NULL, "/e"), 0);
    assert_int_equal(vfs_rename(NULL, "/none", NULL, "/e"), -ENOENT);
    assert_int_equal(vfs_link(NULL, "/y", NULL, "/d/z"), 0);
    assert_int_equal(vfs_stat(NULL, "/d/z", true, &s), 0);
    assert_int_equal(s.nlink, 2);
    assert_int_equal(vfs_unlink(NULL, "/y", false), 0);
    check_file("/d/z", "x");
    assert_int_equal(vfs_link(NULL, "/d", NULL, "/d2"), -EPERM);
    assert_int_equal(vfs_unlink(NULL, "/d", true), -ENOTEMPTY);
    assert_int_equal(vfs_unlink(NULL, "/d", false), -EISDIR);
    assert_int_equal(vfs_unlink(NULL, "/d/z", true), -ENOTDIR);
    assert_int_equal(vfs_unlink(NULL, "/d/.", true), -EINVAL);
    /* A file that is open goes when it is closed. */
    struct vfs_file *f = open_file("/d/z", VFS_O_RDWR);
    assert_int_equal(vfs_unlink(NULL, "/d/z", false), 0);
    assert_int_equal(vfs_pwrite(f, "still", 5, 0), 5);
    vfs_close(f);
    assert_int_equal(vfs_unlink(NULL, "/d", true), 0);
    assert_int_equal(vfs_unlink(NULL, "/d", true), -ENOENT);
}

/* Against an array: writes, holes, truncation at random places. */
static void contents(void **state)
{
    enum { SIZE = 40000 };
    static char model[SIZE], b[SIZE];
    uint64_t random = 5, size = 0;
    (void)state;
    memset(model, 0, SIZE);
    struct vfs_file *f = open_file("/f", VFS_O_RDWR | VFS_O_CREAT);
    for (int i = 0; i < 2000 * (int)test_rounds(1); i++) {
        const uint64_t at = random_below(&random, SIZE);
        const size_t n = random_below(&random, min_u64(SIZE - at, 6000) + 1);
        if (i % 7 == 0) {
            assert_int_equal(vfs_truncate(f, at), 0);
            if (at < size)
                memset(model + at, 0, size - at);
            size = at;
        } else if (i % 2) {
            for (size_t j = 0; j < n; j++)
                b[j] = (char)random_next(&random);
            assert_int_equal(vfs_pwrite(f, b, n, at), n);
            memcpy(model + at, b, n);
            size = n ? max_u64(size, at + n) : size;
        } else {
            const int64_t got = vfs_pread(f, b, n, at);
            assert_int_equal(got, at < size ? min_u64(n, size - at) : 0);
            assert_memory_equal(b, model + at, (size_t)got);
        }
    }
    assert_int_equal(vfs_pwrite(f, "e", 1, UINT64_C(1) << 40), -EFBIG);
    assert_int_equal(vfs_pread(f, b, 1, UINT64_MAX), -EINVAL);
    vfs_close(f);
    f = open_file("/f", VFS_O_WRONLY | VFS_O_APPEND);
    assert_int_equal(vfs_pread(f, b, 1, 0), -EBADF);
    assert_int_equal(vfs_write(f, "end", 3), 3);
    assert_int_equal(vfs_lseek(f, 0, VFS_SEEK_CUR), size + 3);
    assert_int_equal(vfs_lseek(f, -5, VFS_SEEK_SET), -EINVAL);
    assert_int_equal(vfs_lseek(f, 0, 9), -EINVAL);
    vfs_close(f);
}

static void directories(void **state)
{
    struct vfs_entry e;
    char name[VFS_NAME_MAX + 8];
    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "/n%d", i);
        put_file(name, "");
    }
    struct vfs_file *d = open_file("/", VFS_O_RDONLY | VFS_O_DIRECTORY);
    int seen = 0;
    while (vfs_readdir(d, &e) > 0) {
        snprintf(name, sizeof(name), "/%s", e.name);
        assert_int_equal(vfs_unlink(NULL, name, false), 0); /* while it is read */
        seen++;
    }
    assert_int_equal(seen, 100);
    vfs_close(d);
    put_file("/f", "");
    d = open_file("/f", VFS_O_RDONLY);
    assert_int_equal(vfs_readdir(d, &e), -ENOTDIR);
    vfs_close(d);
}

static void mounts(void **state)
{
    (void)state;
    assert_int_equal(vfs_fstab("[none:/m:ramfs:rw none:/r:ramfs:ro bad none:/q:nofs]"), 2);
    put_file("/m/f", "below");
    check_file("/m/../m/f", "below");
    assert_int_equal(open_error("/r/f", VFS_O_CREAT | VFS_O_WRONLY), -EROFS);
    assert_int_equal(vfs_mkdir(NULL, "/r/d", 0755), -EROFS);
    assert_int_equal(vfs_rename(NULL, "/m/f", NULL, "/f"), -EXDEV);
    assert_int_equal(vfs_link(NULL, "/m/f", NULL, "/f"), -EXDEV);
    assert_int_equal(vfs_unlink(NULL, "/m", true), -EBUSY);
    assert_int_equal(vfs_rename(NULL, "/m", NULL, "/k"), -EBUSY);
    assert_int_equal(vfs_mount("none", "/m", "ramfs", ""), -EBUSY);
    assert_int_equal(vfs_mount("none", "/m/f", "ramfs", ""), -ENOTDIR);
    assert_int_equal(vfs_fstab("none:/p/q:ramfs"), 1); /* one directory is made, not two */
    assert_int_equal(vfs_mkdir(NULL, "/p", 0755), 0);
    assert_int_equal(vfs_fstab("none:/p/q:ramfs"), 0);
    assert_int_equal(vfs_mount("none", "/p", "ramfs", ""), -EBUSY);
    assert_int_equal(vfs_unmount("/p/q"), 0);
    assert_int_equal(vfs_mount("none", "/none", "ramfs", ""), -ENOENT);
    assert_int_equal(vfs_mount("none", "/", "ramfs", "quick"), -EINVAL);
    struct vfs_file *f = open_file("/m/f", VFS_O_RDONLY);
    assert_int_equal(vfs_unmount("/m"), -EBUSY);
    assert_int_equal(vfs_unmount("/"), -EBUSY);
    vfs_close(f);
    assert_int_equal(vfs_unmount("/m"), 0);
    assert_int_equal(vfs_unmount("/m"), -EINVAL);
    assert_int_equal(open_error("/m/f", 0), -ENOENT);
}

static void devices(void **state)
{
    char b[6000];
    uint64_t size = 0;
    (void)state;
    static bool added;
    if (!added)
        assert_int_equal(devfs_add_block("disk", "mem:64K?block=512"), 0);
    added = true;
    assert_int_equal(vfs_mkdir(NULL, "/dev", 0755), 0);
    assert_int_equal(vfs_mount("none", "/dev", "devfs", ""), 0);
    struct vfs_file *f = open_file("/dev/disk", VFS_O_RDWR),
                    *g = open_file("/dev/disk", VFS_O_RDWR);
    memset(b, 'a', sizeof(b));
    assert_int_equal(vfs_pwrite(f, b, 5000, 700), 5000);
    memset(b, 0, sizeof(b));
    assert_int_equal(vfs_pread(g, b, 6000, 600), 6000);
    assert_true(b[99] == 0 && b[100] == 'a' && b[5099] == 'a' && b[5100] == 0);
    assert_int_equal(vfs_lseek(f, 0, VFS_SEEK_END), 65536);
    assert_int_equal(vfs_read(f, b, 1), 0);
    assert_int_equal(vfs_write(f, b, 1), -ENOSPC);
    assert_int_equal(vfs_pwrite(f, b, 1024, 65024), 512);
    assert_int_equal(vfs_ioctl(f, 0x80081272, &size), 0);
    assert_int_equal(size, 65536);
    assert_int_equal(vfs_ioctl(f, 1, &size), -ENOTTY);
    assert_int_equal(vfs_fsync(f), 0);
    assert_int_equal(vfs_unmount("/dev"), -EBUSY);
    vfs_close(f);
    vfs_close(g);
    f = open_file("/dev/zero", VFS_O_RDWR);
    assert_int_equal(vfs_read(f, b, 10), 10);
    vfs_close(f);
    f = open_file("/dev/full", VFS_O_RDWR);
    assert_int_equal(vfs_write(f, b, 10), -ENOSPC);
    vfs_close(f);
    assert_int_equal(open_error("/dev/none", 0), -ENOENT);
    assert_int_equal(open_error("/dev/new", VFS_O_CREAT), -EPERM);
}

/* ---- cpio ------------------------------------------------------------------------------- */

struct archive {
    char data[8192];
    size_t size;
};

static void add(struct archive *a, const char *name, unsigned mode, const char *data)
{
    static unsigned ino;
    const unsigned n = (unsigned)strlen(data);
    a->size += (size_t)sprintf(a->data + a->size,
                               "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ++ino,
                               mode, 0, 0, 1, 0, n, 0, 0, 0, 0, (unsigned)strlen(name) + 1, 0);
    memcpy(a->data + a->size, name, strlen(name) + 1);
    a->size = (a->size + strlen(name) + 1 + 3) & ~(size_t)3;
    memcpy(a->data + a->size, data, n);
    a->size = (a->size + n + 3) & ~(size_t)3;
}

static void archives(void **state)
{
    struct archive a = {.size = 0};
    (void)state;
    add(&a, ".", 0040755, "");
    add(&a, "bin/deep/f", 0100755, "in a directory that is not listed");
    add(&a, "l", 0120777, "bin/deep/f");
    add(&a, "TRAILER!!!", 0, "");
    a.size += 100; /* zeroes in between */
    add(&a, "./second", 0100644, "archive");
    add(&a, "../../etc", 0100644, "stays below the root");
    add(&a, "TRAILER!!!", 0, "");
    assert_int_equal(cpio_unpack(a.data, a.size), 0);
    check_file("/l", "in a directory that is not listed");
    check_file("/second", "archive");
    check_file("/etc", "stays below the root");
    /* Cut anywhere: an error or nothing, never more than there is (ASan looks on). */
    for (size_t n = 0; n < a.size; n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, a.data, n);
        cpio_unpack(copy, n);
        free(copy);
    }
    /* Any byte of the first header changed. */
    for (size_t i = 0; i < 120; i++) {
        struct archive b = a;
        b.data[i] ^= 0x55;
        cpio_unpack(b.data, b.size);
    }
    assert_int_equal(cpio_unpack("\x1f\x8b....", 6), -EINVAL);
    assert_int_equal(cpio_unpack("nonsense", 8), -EINVAL);
    assert_int_equal(cpio_unpack("", 0), 0);
}

/* ---- threads ---------------------------------------------------------------------------- */

static void work(void *arg)
{
    const unsigned self = (unsigned)(uintptr_t)arg;
    char path[64], other[64], b[64];
    for (unsigned i = 0; i < 300; i++) {
        struct vfs_file *f;
        snprintf(path, sizeof(path), "/t/%u", (self + i) % 6);
        snprintf(other, sizeof(other), "/t/%u", i % 6);
        if (vfs_open(NULL, path, VFS_O_RDWR | VFS_O_CREAT, 0644, &f) == 0) {
            vfs_write(f, path, strlen(path));
            vfs_pread(f, b, sizeof(b), 0);
            vfs_close(f);
        }
        if (i % 3 == 0)
            vfs_rename(NULL, path, NULL, other);
        if (i % 5 == 0)
            vfs_unlink(NULL, other, false);
        if (i % 11 == 0 && vfs_mount("none", "/m", "ramfs", "") == 0)
            vfs_unmount("/m");
    }
}

static void threads(void **state)
{
    struct base_thread t[4];
    (void)state;
    assert_int_equal(vfs_mkdir(NULL, "/t", 0755), 0);
    assert_int_equal(vfs_mkdir(NULL, "/m", 0755), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
        assert_int_equal(base_thread_start(&t[i], work, (void *)(uintptr_t)i, -1), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
        base_thread_join(&t[i]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(paths),  TEST(names),   TEST(contents), TEST(directories),
        TEST(mounts), TEST(devices), TEST(archives), TEST(threads),
    };
    return cmocka_run_group_tests_name("vfs", tests, NULL, NULL);
}
