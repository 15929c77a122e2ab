/*
 * psync:PATH - a file or block device by pread(2) and pwrite(2), one at a time: what a program
 * without a storage engine does. The comparison path of the benchmark; submit blocks.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "linux/file_execute.h"
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
    if (dev->info.zoned) {
        close(p->fd);
        return blk_error_set(err, -ENOTSUP, "is a zoned device; use file:%.200s", dev->argument);
    }
    dev->info.status = false;
    return 0;
}

static void close_device(struct blk *dev)
{
    struct psync *p = dev->priv;
    close(p->fd);
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct psync *p = queue->dev->priv;
    for (unsigned i = 0; i < n; i++)
        blk_complete(queue, reqs[i], file_execute(p->fd, reqs[i]));
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
