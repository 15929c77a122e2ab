/* <linux/stat.h> has the direct I/O alignment in its struct statx; <sys/stat.h> would clash. */
#include "linux/file_open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "linux/zone_abi.h"

#define MAX_APPEND (32u << 20) /* as much as any transfer */

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

/* The first word of a queue attribute of a block device in sysfs; "" if there is none. */
static void queue_text(const struct statx *st, const char *name, char value[32])
{
    static const char *const places[] = {"queue", "../queue"}; /* a disk; a partition */
    char path[128];
    *value = '\0';
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", st->stx_rdev_major,
                 st->stx_rdev_minor, places[i], name);
        FILE *f = fopen(path, "re");
        if (!f)
            continue;
        bool ok = fscanf(f, "%31s", value) == 1;
        fclose(f);
        if (ok)
            return;
    }
    *value = '\0';
}

static uint64_t queue_number(const struct statx *st, const char *name)
{
    char value[32];
    queue_text(st, name, value);
    return strtoull(value, NULL, 10);
}

/* A host-managed zoned device; a host-aware one takes writes anywhere, and is used so. */
static int zone_geometry(int fd, const struct statx *st, struct blk_info *i, struct blk_error *err)
{
    char model[32];
    uint32_t sectors = 0, count = 0;
    queue_text(st, "zoned", model);
    if (strcmp(model, "host-managed") != 0)
        return 0;
    if (ioctl(fd, LINUX_BLKGETZONESZ, &sectors) < 0 || ioctl(fd, LINUX_BLKGETNRZONES, &count) < 0)
        return blk_error_set(err, -errno, "cannot tell its zones: %m");
    i->zone_size = (uint64_t)sectors << LINUX_SECTOR_SHIFT;
    if (!i->zone_size || count != (i->size + i->zone_size - 1) / i->zone_size)
        return blk_error_set(err, -EINVAL, "has %u zones of %u sectors, which its size is not",
                             count, sectors);
    uint64_t append = queue_number(st, "zone_append_max_bytes");
    i->zoned = true;
    i->zone_count = count;
    i->max_open_zones = (uint32_t)min_u64(queue_number(st, "max_open_zones"), UINT32_MAX);
    i->max_active_zones = (uint32_t)min_u64(queue_number(st, "max_active_zones"), UINT32_MAX);
    /* Data of one zone append should be one command of the device. */
    if (!append)
        append = queue_number(st, "max_sectors_kb") << 10;
    if (append < i->block_size)
        append = MAX_APPEND;
    i->max_append =
        (uint32_t)round_down(min_u64(append, min_u64(i->zone_size, MAX_APPEND)), i->block_size);
    i->discard_granularity = 0;
    i->fast_zero = false;
    return 0;
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
    i->discard_granularity = queue_number(st, "discard_max_bytes") ? (uint32_t)i->block_size : 0;
    i->fast_zero = 0 < queue_number(st, "write_zeroes_max_bytes");
    i->rotational = 0 < queue_number(st, "rotational");
    i->read_only |= ioctl(fd, BLKROGET, &logical) == 0 && logical;
    return zone_geometry(fd, st, i, err);
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
    if (error == 0 && i->zoned && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) < 0)
        error = blk_error_set(err, -errno, "has no direct I/O, which zones need: %m");
    if (error == 0 && (how->direct || i->zoned))
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
    i->write_zeroes = !i->zoned; /* what can, would not do it at a write pointer */
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
