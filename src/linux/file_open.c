/* <linux/stat.h> has the direct I/O alignment in its struct statx; <sys/stat.h> would clash. */
#include "linux/file_open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

static int get_stat(int fd, struct statx *st)
{
    memset(st, 0, sizeof(*st));
    return syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_DIOALIGN, st) < 0
               ? -errno
               : 0;
}

/* Make the file of the size asked; one that is there is left as it is. */
static int create(const char *path, uint64_t size, struct blk_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno == EEXIST ? 0 : blk_error_set(err, -errno, "cannot be created: %m");
    int error = 0;
    if (ftruncate(fd, (off_t)size) < 0) {
        error = blk_error_set(err, -errno, "cannot be made %llu bytes long: %m",
                              (unsigned long long)size);
        unlink(path);
    }
    close(fd);
    return error;
}

/* Whether a queue attribute of a block device in sysfs is a number above zero. */
static bool queue_attribute(const struct statx *st, const char *name)
{
    static const char *const places[] = {"queue", "../queue"}; /* a disk; a partition */
    char path[128];
    unsigned long long value = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", st->stx_rdev_major,
                 st->stx_rdev_minor, places[i], name);
        FILE *f = fopen(path, "re");
        if (!f)
            continue;
        bool ok = fscanf(f, "%llu", &value) == 1;
        fclose(f);
        if (ok)
            return value > 0;
    }
    return false;
}

static int device_geometry(int fd, const struct statx *st, struct blk_info *i,
                           struct blk_error *err)
{
    int logical;
    unsigned physical, optimal = 0;
    if (ioctl(fd, BLKGETSIZE64, &i->size) < 0 || ioctl(fd, BLKSSZGET, &logical) < 0 ||
        ioctl(fd, BLKPBSZGET, &physical) < 0)
        return blk_error_set(err, -errno, "cannot tell its size: %m");
    if (ioctl(fd, BLKIOOPT, &optimal) == 0 && optimal)
        i->optimal_io = optimal;
    i->block_size = (uint32_t)logical;
    i->physical_block_size = physical;
    i->discard_granularity = queue_attribute(st, "discard_max_bytes") ? (uint32_t)i->block_size : 0;
    i->fast_zero = queue_attribute(st, "write_zeroes_max_bytes");
    i->rotational = queue_attribute(st, "rotational");
    i->read_only |= ioctl(fd, BLKROGET, &logical) == 0 && logical;
    return 0;
}

static void file_geometry(const struct statx *st, struct blk_info *i)
{
    i->size = st->stx_size;
    /* A size that is no multiple of 512 makes the blocks smaller, so that no byte is lost. */
    i->block_size = 512;
    while (i->size & (i->block_size - 1))
        i->block_size /= 2;
    i->physical_block_size = st->stx_blksize >= 512 ? st->stx_blksize : 4096;
    i->discard_granularity = i->physical_block_size;
    i->fast_zero = true;
    i->status = true;
}

/* What O_DIRECT asks of offsets and memory. */
static int direct_geometry(const struct statx *st, struct blk_info *i, struct blk_error *err)
{
    uint32_t offset = st->stx_dio_offset_align, memory = st->stx_dio_mem_align;
    bool known = st->stx_mask & STATX_DIOALIGN;
    if (known && !offset)
        return blk_error_set(err, -EINVAL, "its filesystem has no direct I/O; use direct=off");
    if (!known)
        offset = memory = (uint32_t)max_u64(i->block_size, 512);
    i->block_size = (uint32_t)max_u64(i->block_size, offset);
    i->buf_align = (uint32_t)max_u64(memory, 1);
    return 0;
}

static int geometry(int fd, const struct file_open *how, struct blk_info *i, struct blk_error *err)
{
    struct statx st;
    int error = get_stat(fd, &st);
    if (error < 0)
        return blk_error_set(err, error, "cannot be examined: %s", strerror(-error));
    unsigned type = st.stx_mode & 0170000u;
    if (type != 0100000u && type != 0060000u)
        return blk_error_set(err, -EINVAL, "is neither a file nor a block device");
    if (type == 0060000u)
        error = device_geometry(fd, &st, i, err);
    else
        file_geometry(&st, i);
    if (error == 0 && how->direct)
        error = direct_geometry(&st, i, err);
    if (error < 0)
        return error;
    if (how->block && how->block > 1 << 20)
        return blk_error_set(err, -EINVAL, "block must be at most 1M");
    if (how->block && how->block < i->block_size && (how->direct || type == 0060000u))
        return blk_error_set(err, -EINVAL, "block must be at least %u here", i->block_size);
    if (how->block)
        i->block_size = (uint32_t)how->block;
    i->physical_block_size = (uint32_t)max_u64(i->physical_block_size, i->block_size);
    i->volatile_cache = true;
    i->write_zeroes = true;
    return 0;
}

int file_open(struct blk *dev, const struct file_open *how, struct blk_error *err)
{
    bool read_only = dev->open_flags & BLK_OPEN_READ_ONLY;
    if (!*dev->argument)
        return blk_error_set(err, -EINVAL, "the path is missing: %s:PATH", dev->driver->name);
    if (how->create && !read_only) {
        int error = create(dev->argument, how->create, err);
        if (error < 0)
            return error;
    }
    /* O_EXCL keeps us off a block device that is mounted; for files it means nothing here. */
    int flags = O_CLOEXEC | (read_only ? O_RDONLY : O_RDWR | O_EXCL) | (how->direct ? O_DIRECT : 0);
    int fd = open(dev->argument, flags);
    if (fd < 0 && errno == EINVAL && how->direct)
        return blk_error_set(err, -EINVAL, "its filesystem has no direct I/O; use direct=off");
    if (fd < 0 && errno == ENOENT)
        return blk_error_set(err, -ENOENT, "no such file (create=SIZE makes one)");
    if (fd < 0 && errno == EBUSY)
        return blk_error_set(err, -EBUSY, "is in use (mounted, or opened by another)");
    if (fd < 0)
        return blk_error_set(err, -errno, "cannot be opened: %m");
    int error = geometry(fd, how, &dev->info, err);
    if (error == 0 && how->create && dev->info.size != how->create)
        error = blk_error_set(err, -EEXIST, "is there already, with another size than create says");
    if (error < 0) {
        close(fd);
        return error;
    }
    return fd;
}
