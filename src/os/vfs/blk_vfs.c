/*
 * vfs:PATH is a file of the VFS as a block device; syscall:PATH the same by the system calls that a
 * Linux program would make. For measuring: between vda, vfs:/dev/vda and syscall:/dev/vda lie the
 * costs of the VFS and of a system call. Requests are done one after the other.
 */
#include <errno.h>
#include <string.h>

#include <ashlar/blk_driver.h>

#include "os/vfs/blk_vfs.h"
#include "os/vfs/vfs.h"

struct file_device {
    const struct file_calls *calls;
    uint64_t create;
    int64_t file; /* of the device: for its size */
};

struct file_queue {
    int64_t file;
};

/* ---- the calls of the VFS --------------------------------------------------------------- */

static struct vfs_file *file_of(int64_t handle)
{
    return (struct vfs_file *)(uintptr_t)handle;
}

static int64_t direct_open(const char *path, unsigned flags)
{
    struct vfs_file *file;
    const int r = vfs_open(NULL, path, flags, 0644, &file);
    return r < 0 ? r : (int64_t)(uintptr_t)file;
}
static void direct_close(int64_t file)
{
    vfs_close(file_of(file));
}
static int64_t direct_pread(int64_t file, void *data, size_t n, uint64_t offset)
{
    return vfs_pread(file_of(file), data, n, offset);
}
static int64_t direct_pwrite(int64_t file, const void *data, size_t n, uint64_t offset)
{
    return vfs_pwrite(file_of(file), data, n, offset);
}
static int64_t direct_fsync(int64_t file)
{
    return vfs_fsync(file_of(file));
}
static int64_t direct_size(int64_t file)
{
    return vfs_lseek(file_of(file), 0, VFS_SEEK_END);
}
static int64_t direct_truncate(int64_t file, uint64_t size)
{
    return vfs_truncate(file_of(file), size);
}
static int direct_begin(void)
{
    return 0;
}
static void direct_end(void)
{
}

/* Addresses of the kernel are negative numbers too, but no errno values: those end at -4095. */
static bool is_error(int64_t handle)
{
    return handle < 0 && handle >= -4095;
}

static const struct file_calls direct = {
    direct_begin,  direct_end,   direct_open, direct_close,    direct_pread,
    direct_pwrite, direct_fsync, direct_size, direct_truncate,
};

/* ---- the driver ------------------------------------------------------------------------- */

static int64_t open_file(const struct blk *dev)
{
    const struct file_device *d = dev->priv;
    if (dev->open_flags & BLK_OPEN_READ_ONLY)
        return d->calls->open(dev->argument, VFS_O_RDONLY);
    return d->calls->open(dev->argument, VFS_O_RDWR | (d->create ? VFS_O_CREAT : 0));
}

static int fill_info(struct blk *dev, const struct file_device *d, struct blk_error *err)
{
    int64_t size = d->calls->size(d->file);
    if (size >= 0 && (uint64_t)size < d->create) {
        const int64_t r = d->calls->truncate(d->file, d->create);
        size = r < 0 ? r : d->calls->size(d->file);
    }
    if (size < 0)
        return blk_error_set(err, (int)size, "its size cannot be found or set");
    dev->info.block_size = 512;
    dev->info.size = (uint64_t)size & ~UINT64_C(511);
    dev->info.volatile_cache = true;
    return 0;
}

static int open_calls(struct blk *dev, const struct file_calls *calls, struct blk_error *err)
{
    struct file_device *d = dev->priv;
    d->calls = calls;
    int r = calls->begin();
    if (r < 0)
        return blk_error_set(err, r, "out of memory");
    d->file = open_file(dev);
    if (is_error(d->file))
        r = blk_error_set(err, (int)d->file, "it cannot be opened (error %d)", (int)-d->file);
    else
        r = fill_info(dev, d, err);
    if (r < 0 && !is_error(d->file))
        calls->close(d->file);
    calls->end();
    return r;
}

static int open_vfs(struct blk *dev, struct blk_error *err)
{
    return open_calls(dev, &direct, err);
}

static int open_syscall(struct blk *dev, struct blk_error *err)
{
    return open_calls(dev, &file_calls_syscall, err);
}

static void close_device(struct blk *dev)
{
    const struct file_device *d = dev->priv;
    if (d->calls->begin() == 0) {
        d->calls->close(d->file);
        d->calls->end();
    }
}

static int queue_open(struct blk_queue *queue)
{
    const struct file_device *d = queue->dev->priv;
    struct file_queue *q = queue->priv;
    const int r = d->calls->begin();
    if (r < 0)
        return r;
    q->file = open_file(queue->dev);
    if (!is_error(q->file))
        return 0;
    d->calls->end();
    return (int)q->file;
}

static void queue_close(struct blk_queue *queue)
{
    const struct file_device *d = queue->dev->priv;
    const struct file_queue *q = queue->priv;
    d->calls->close(q->file);
    d->calls->end();
}

static int execute(const struct file_calls *calls, int64_t file, const struct blk_req *r)
{
    uint64_t offset = r->offset;
    for (unsigned i = 0; i < r->niov; i++) {
        const size_t n = r->iov[i].iov_len;
        const int64_t done = r->op == BLK_READ ? calls->pread(file, r->iov[i].iov_base, n, offset)
                                               : calls->pwrite(file, r->iov[i].iov_base, n, offset);
        if (done < 0)
            return (int)done;
        if ((size_t)done != n)
            return -EIO;
        offset += n;
    }
    if (r->op == BLK_FLUSH || r->flags & BLK_FUA)
        return (int)calls->fsync(file);
    return 0;
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct file_device *d = queue->dev->priv;
    const struct file_queue *q = queue->priv;
    for (unsigned i = 0; i < n; i++)
        blk_complete(queue, reqs[i], execute(d->calls, q->file, reqs[i]));
}

static const struct blk_option options[] = {
    {"create", BLK_OPT_SIZE, offsetof(struct file_device, create), NULL,
     "make the file, of at least this size"},
    {0},
};

const struct blk_driver blk_vfs = {
    .name = "vfs",
    .argument = "PATH",
    .summary = "a file of the VFS, by its functions",
    .options = options,
    .priv_size = sizeof(struct file_device),
    .queue_size = sizeof(struct file_queue),
    .open = open_vfs,
    .close = close_device,
    .queue_open = queue_open,
    .queue_close = queue_close,
    .submit = submit,
};

const struct blk_driver blk_syscall = {
    .name = "syscall",
    .argument = "PATH",
    .summary = "a file of the VFS, by system calls",
    .options = options,
    .priv_size = sizeof(struct file_device),
    .queue_size = sizeof(struct file_queue),
    .open = open_syscall,
    .close = close_device,
    .queue_open = queue_open,
    .queue_close = queue_close,
    .submit = submit,
};
