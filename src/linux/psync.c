/*
 * psync:PATH - a file or block device by pread(2) and pwrite(2), one at a time: what a program
 * without a storage engine does. The comparison path of the benchmark; submit blocks.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

#include "linux/file_open.h"

struct psync {
    struct file_open how;
    int fd;
};

static int open_device(struct blk *dev, struct blk_error *err)
{
    struct psync *p = dev->priv;
    p->fd = file_open(dev, &p->how, err);
    if (p->fd < 0)
        return p->fd;
    dev->info.status = false;
    return 0;
}

static void close_device(struct blk *dev)
{
    struct psync *p = dev->priv;
    close(p->fd);
}

/* All bytes of one buffer, however many calls it takes. */
static int transfer(int fd, const struct blk_req *r, char *data, size_t len, uint64_t offset)
{
    int flags = r->flags & BLK_FUA ? RWF_DSYNC : 0;
    while (len) {
        struct iovec v = {data, len};
        ssize_t n = r->op == BLK_READ ? pread(fd, data, len, (off_t)offset)
                                      : pwritev2(fd, &v, 1, (off_t)offset, flags);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* 0: the file has shrunk */
        data += n;
        len -= (size_t)n;
        offset += (size_t)n;
    }
    return 0;
}

static int zero(int fd, const struct blk_req *r)
{
    int mode = FALLOC_FL_KEEP_SIZE |
               (r->flags & BLK_NO_UNMAP ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
    if (fallocate(fd, mode, (off_t)r->offset, (off_t)r->len) < 0)
        return -errno;
    return r->flags & BLK_FUA && fdatasync(fd) < 0 ? -errno : 0;
}

static int execute(int fd, const struct blk_req *r)
{
    uint64_t offset = r->offset;
    int error = 0;
    if (r->op == BLK_FLUSH)
        return fdatasync(fd) < 0 ? -errno : 0;
    if (r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES) {
        error = zero(fd, r);
        return error == -EOPNOTSUPP && r->op == BLK_DISCARD ? 0 : error;
    }
    for (unsigned i = 0; error == 0 && i < r->niov; i++) {
        error = transfer(fd, r, r->iov[i].iov_base, r->iov[i].iov_len, offset);
        offset += r->iov[i].iov_len;
    }
    return error;
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct psync *p = queue->dev->priv;
    for (unsigned i = 0; i < n; i++)
        blk_complete(queue, reqs[i], execute(p->fd, reqs[i]));
}

static const struct blk_option psync_options[] = {
    {"direct", BLK_OPT_BOOL, offsetof(struct psync, how.direct), "off",
     "bypass the page cache (O_DIRECT)"},
    {"create", BLK_OPT_SIZE, offsetof(struct psync, how.create), NULL,
     "make the file, of this size, if there is none"},
    {"block", BLK_OPT_SIZE, offsetof(struct psync, how.block), NULL,
     "logical block size; default: 512, or what the device or direct I/O asks"},
    {0},
};

const struct blk_driver blk_psync = {
    .name = "psync",
    .argument = "PATH",
    .summary = "a file by pread and pwrite, one request at a time: for comparison",
    .options = psync_options,
    .priv_size = sizeof(struct psync),
    .open = open_device,
    .close = close_device,
    .submit = submit,
};
