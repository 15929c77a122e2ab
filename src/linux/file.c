/*
 * file:PATH - a file or block device through io_uring.
 *
 * A queue has a ring, its own or the one that its thread offers. Each request in flight has at most
 * one entry in the ring, which carries the request's address; a request that needs several steps
 * (the rest of a short transfer, writing zeroes by hand, the sync of a FUA write-zeroes) sends the
 * next one when the last is done. The file and the buffers of blk_buf_alloc() are registered with
 * the ring.
 *
 * A zoned device goes its own ways for writes and what zones need: file_zone.h.
 *
 * A file on tmpfs is memory. io_uring would hand each of its requests to another thread, which
 * costs more than it wins; they are done at once instead.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "linux/file_execute.h"
#include "linux/file_open.h"
#include "linux/file_zone.h"
#include "linux/ring.h"

#define ZERO_SIZE    (256u << 10)
/* Entries handed to the kernel at once: in one go, a device would start a large batch late, finish
 * it all together, and idle until the next. */
#define SUBMIT_CHUNK 4

struct file {
    struct file_open how;
    bool buffers; /* option: register buffers */
    int fd;
    bool in_memory;           /* on tmpfs */
    bool no_punch;            /* the filesystem said so; a hint, shared by all queues */
    bool no_zero_range;       /* likewise */
    char *zeroes;             /* ZERO_SIZE bytes, for filesystems that cannot zero */
    struct file_zones *zones; /* of a zoned device; else NULL */
};

struct file_queue {
    struct ring *ring; /* the offered one, or own; NULL for files on tmpfs */
    struct ring own;
    int user; /* of the ring */
    struct file_zone_queue zone;
};

enum step { STEP_TRANSFER, STEP_PUNCH, STEP_ZERO_RANGE, STEP_ZERO_WRITE, STEP_SYNC };

struct file_slot {
    uint64_t done;  /* bytes transferred or zeroed */
    enum step step; /* what the entry in the ring does */
    struct file_zone_slot zone;
};

/* ---- device ---------------------------------------------------------------------------- */

static file_zone_start start;

/* A node of a device is on tmpfs too, but its data is not. */
static bool is_on_tmpfs(int fd)
{
    struct statfs fs;
    struct stat st;
    return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC && fstat(fd, &st) == 0 &&
           S_ISREG(st.st_mode);
}

static int open_device(struct blk *dev, struct blk_error *err)
{
    struct file *f = dev->priv;
    int error = 0;
    f->fd = file_open(dev, &f->how, err);
    if (f->fd < 0)
        return f->fd;
    f->zeroes = base_alloc_aligned(BASE_PAGE, ZERO_SIZE);
    if (!f->zeroes)
        error = blk_error_set(err, -ENOMEM, "out of memory");
    if (error == 0 && dev->info.zoned)
        error = file_zones_open(dev, f->fd, start, &f->zones, err);
    if (error < 0) {
        base_free(f->zeroes);
        close(f->fd);
        return error;
    }
    f->in_memory = is_on_tmpfs(f->fd);
    dev->info.max_iov = 1024;
    return 0;
}

static void close_device(struct blk *dev)
{
    struct file *f = dev->priv;
    file_zones_close(f->zones);
    close(f->fd);
    base_free(f->zeroes);
}

static void entry_done(void *arg, uint64_t data, int result);

/* Use the ring that is offered, or one of our own. */
static int join_ring(struct blk_queue *queue)
{
    const struct file *f = queue->dev->priv;
    struct file_queue *q = queue->priv;
    struct ring *offered = ring_offered();
    if (offered && (q->user = ring_join(offered, entry_done, queue, f->fd)) >= 0) {
        q->ring = offered;
        return 0;
    }
    q->ring = &q->own;
    int error = ring_open(q->ring, queue->depth, false, 0);
    if (error < 0)
        return error;
    q->user = ring_join(q->ring, entry_done, queue, f->fd);
    if (q->user < 0)
        ring_close(q->ring);
    return q->user < 0 ? q->user : 0;
}

static void leave_ring(struct file_queue *q)
{
    ring_leave(q->ring, q->user);
    if (q->ring == &q->own)
        ring_close(q->ring);
}

static int open_queue(struct blk_queue *queue)
{
    const struct file *f = queue->dev->priv;
    struct file_queue *q = queue->priv;
    int error = f->in_memory ? 0 : join_ring(queue);
    if (error < 0 || !f->zones)
        return error;
    error = file_zone_queue_open(&q->zone, f->zones, queue, q->ring, q->user);
    if (error < 0)
        leave_ring(q);
    return error;
}

static void close_queue(struct blk_queue *queue)
{
    const struct file *f = queue->dev->priv;
    struct file_queue *q = queue->priv;
    if (f->zones)
        file_zone_queue_close(&q->zone);
    if (q->ring)
        leave_ring(q);
}

/* ---- the way down ---------------------------------------------------------------------- */

static void prep_one(struct file_queue *q, struct io_uring_sqe *sqe, const struct blk_req *r,
                     const struct iovec *v, uint64_t offset)
{
    struct ring_buffer b = ring_buffer_find(q->ring, v->iov_base, v->iov_len);
    unsigned len = (unsigned)v->iov_len;
    if (r->op == BLK_READ && b.index >= 0)
        io_uring_prep_read_fixed(sqe, 0, b.address, len, offset, b.index);
    else if (r->op == BLK_READ)
        io_uring_prep_read(sqe, 0, b.address, len, offset);
    else if (b.index >= 0)
        io_uring_prep_write_fixed(sqe, 0, b.address, len, offset, b.index);
    else
        io_uring_prep_write(sqe, 0, b.address, len, offset);
}

/* All of the request's data at first; after a short transfer, what is left of one iov entry. */
static void prep_transfer(struct file_queue *q, struct io_uring_sqe *sqe, const struct blk_req *r,
                          uint64_t done)
{
    if (!done && r->niov > 1) {
        if (r->op == BLK_READ)
            io_uring_prep_readv(sqe, 0, r->iov, r->niov, r->offset);
        else
            io_uring_prep_writev(sqe, 0, r->iov, r->niov, r->offset);
    } else {
        const struct iovec *v = r->iov;
        uint64_t skip = done;
        for (; skip >= v->iov_len; v++)
            skip -= v->iov_len;
        struct iovec rest = {(char *)v->iov_base + skip, v->iov_len - skip};
        prep_one(q, sqe, r, &rest, r->offset + done);
    }
    if (r->op != BLK_READ && (r->flags & BLK_FUA))
        sqe->rw_flags = RWF_DSYNC;
}

static void prep(struct blk_queue *queue, struct blk_req *r)
{
    const struct file *f = queue->dev->priv;
    struct file_queue *q = queue->priv;
    const struct file_slot *s = blk_slot(queue, r);
    struct io_uring_sqe *sqe = ring_sqe(q->ring);
    switch (s->step) {
    case STEP_TRANSFER:
        prep_transfer(q, sqe, r, s->done);
        break;
    case STEP_PUNCH:
        io_uring_prep_fallocate(sqe, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)r->offset, (off_t)r->len);
        break;
    case STEP_ZERO_RANGE:
        io_uring_prep_fallocate(sqe, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                (off_t)r->offset, (off_t)r->len);
        break;
    case STEP_ZERO_WRITE:
        io_uring_prep_write(sqe, 0, f->zeroes, (unsigned)min_u64(r->len - s->done, ZERO_SIZE),
                            r->offset + s->done);
        break;
    case STEP_SYNC:
        io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
        break;
    }
    ring_set(sqe, q->ring, q->user, (uintptr_t)r);
}

static enum step first_step(const struct file *f, const struct blk_req *r)
{
    if (r->op == BLK_FLUSH)
        return STEP_SYNC;
    if (r->op == BLK_DISCARD)
        return STEP_PUNCH;
    if (r->op != BLK_WRITE_ZEROES)
        return STEP_TRANSFER;
    if (!(r->flags & BLK_NO_UNMAP) && !__atomic_load_n(&f->no_punch, __ATOMIC_RELAXED))
        return STEP_PUNCH;
    return __atomic_load_n(&f->no_zero_range, __ATOMIC_RELAXED) ? STEP_ZERO_WRITE : STEP_ZERO_RANGE;
}

static void start(struct blk_queue *queue, struct blk_req *r)
{
    struct file_slot *s = blk_slot(queue, r);
    s->done = 0;
    s->step = first_step(queue->dev->priv, r);
    prep(queue, r);
}

/* Walk the file's data and holes. A filesystem that keeps no holes says "data" for all. */
static int status(const struct file *f, struct blk_req *r)
{
    struct blk_extent *e = r->iov[0].iov_base;
    size_t max = r->iov[0].iov_len / sizeof(*e);
    uint64_t at = r->offset, end = r->offset + r->len;
    for (r->count = 0; r->count < max && at < end;) {
        off_t data = lseek(f->fd, (off_t)at, SEEK_DATA);
        uint64_t next = data < 0 ? end : min_u64((uint64_t)data, end);
        if (data < 0 && errno != ENXIO)
            return -errno;
        uint32_t flags = BLK_EXTENT_HOLE | BLK_EXTENT_ZERO;
        if (next == at) {
            off_t hole = lseek(f->fd, (off_t)at, SEEK_HOLE);
            if (hole < 0)
                return -errno;
            next = min_u64((uint64_t)hole, end);
            flags = 0;
        }
        if (next <= at)
            return -EIO; /* the file has shrunk */
        e[r->count++] = (struct blk_extent){.len = next - at, .flags = flags};
        at = next;
    }
    return 0;
}

/* Who offered the ring submits what is in it, together with what it puts there itself. */
static void submit_entries(struct file_queue *q)
{
    if (q->ring && !q->ring->offered)
        ring_submit(q->ring);
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct file *f = queue->dev->priv;
    struct file_queue *q = queue->priv;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        struct file_slot *s = blk_slot(queue, r);
        if (r->op == BLK_STATUS || f->in_memory) {
            blk_complete(queue, r, r->op == BLK_STATUS ? status(f, r) : file_execute(f->fd, r));
            continue;
        }
        if (f->zones && file_zone_takes(f->zones, r))
            file_zone_submit(&q->zone, &s->zone, r);
        else
            start(queue, r);
        if (i % SUBMIT_CHUNK == SUBMIT_CHUNK - 1)
            submit_entries(q);
    }
    submit_entries(q);
}

/* ---- the way up ------------------------------------------------------------------------ */

/* The next way to zero when one is not supported; false: there is none. */
static bool other_way_to_zero(struct file *f, const struct blk_req *r, struct file_slot *s)
{
    if (s->step == STEP_PUNCH)
        __atomic_store_n(&f->no_punch, true, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&f->no_zero_range, true, __ATOMIC_RELAXED);
    s->step = s->step == STEP_PUNCH ? STEP_ZERO_RANGE : STEP_ZERO_WRITE;
    return s->step != STEP_ZERO_WRITE || !(r->flags & BLK_FAST_ZERO);
}

static void finish(struct blk_queue *queue, struct blk_req *r, int result)
{
    const struct file *f = queue->dev->priv;
    struct file_slot *s = blk_slot(queue, r);
    if (f->zones && file_zone_takes(f->zones, r))
        file_zone_written(&s->zone, result);
    else
        blk_complete(queue, r, result);
}

/* An entry of this request is done with this result; true: prep() its next step. */
static bool next_step(struct blk_queue *queue, struct blk_req *r, int result)
{
    struct file_slot *s = blk_slot(queue, r);
    bool transfer = s->step == STEP_TRANSFER || s->step == STEP_ZERO_WRITE;
    if (result == -EAGAIN || result == -EINTR)
        return true;
    if (result == -EOPNOTSUPP && r->op == BLK_WRITE_ZEROES &&
        (s->step == STEP_PUNCH || s->step == STEP_ZERO_RANGE) &&
        other_way_to_zero(queue->dev->priv, r, s))
        return true;
    if (result == -EOPNOTSUPP && r->op == BLK_DISCARD)
        result = 0; /* a hint that cannot be taken */
    if (result == 0 && transfer)
        result = -EIO; /* the file has shrunk, or the disk is full and will not say so */
    if (result < 0) {
        finish(queue, r, result);
        return false;
    }
    if (transfer)
        s->done += (unsigned)result;
    if (transfer && s->done < r->len)
        return true;
    if (r->op == BLK_WRITE_ZEROES && (r->flags & BLK_FUA) && s->step != STEP_SYNC) {
        s->step = STEP_SYNC;
        return true;
    }
    finish(queue, r, 0);
    return false;
}

static void entry_done(void *arg, uint64_t data, int result)
{
    struct blk_queue *queue = arg;
    struct file_queue *q = queue->priv;
    if (!data) {
        file_zone_event(&q->zone);
        return;
    }
    struct blk_req *r = (struct blk_req *)(uintptr_t)data;
    if (next_step(queue, r, result))
        prep(queue, r);
}

static void progress(struct blk_queue *queue, int64_t timeout)
{
    struct file_queue *q = queue->priv;
    uint64_t end = timeout > 0 ? base_now_ns() + (uint64_t)timeout : 0;
    if (!q->ring)
        return;
    submit_entries(q);
    ring_take(q->ring);
    submit_entries(q);
    while (!queue->ready && timeout) {
        ring_wait(q->ring, timeout);
        ring_take(q->ring);
        submit_entries(q);
        if (timeout > 0) {
            uint64_t now = base_now_ns();
            timeout = now < end ? (int64_t)(end - now) : 0;
        }
    }
}

static void poll_ring(struct blk_queue *queue, struct blk_poll *poll)
{
    const struct file_queue *q = queue->priv;
    if (!q->ring || q->ring->offered)
        return; /* nothing to wait for, or its owner waits for the ring anyway */
    poll->fd = q->ring->uring.ring_fd;
    poll->events = POLLIN;
    if (io_uring_sq_ready(&q->ring->uring) || io_uring_cq_ready(&q->ring->uring))
        poll->timeout = 0;
}

/* ---- buffers --------------------------------------------------------------------------- */

static void buf_register(struct blk_queue *queue, void *memory, size_t size)
{
    const struct file *f = queue->dev->priv;
    struct file_queue *q = queue->priv;
    if (q->ring && f->buffers)
        ring_buffer_add(q->ring, memory, size);
}

static void buf_unregister(struct blk_queue *queue, void *memory)
{
    struct file_queue *q = queue->priv;
    if (q->ring)
        ring_buffer_remove(q->ring, memory);
}

static const struct blk_option file_options[] = {
    {"direct", BLK_OPT_BOOL, offsetof(struct file, how.direct), "off",
     "bypass the page cache (O_DIRECT); zoned disks: always"},
    {"create", BLK_OPT_SIZE, offsetof(struct file, how.create), NULL,
     "make the file, of this size, if there is none"},
    {"block", BLK_OPT_SIZE, offsetof(struct file, how.block), NULL,
     "logical block size; default: 512, or what the device or direct I/O asks"},
    {"buffers", BLK_OPT_BOOL, offsetof(struct file, buffers), "on",
     "register buffers with the kernel"},
    {0},
};

const struct blk_driver blk_file = {
    .name = "file",
    .argument = "PATH",
    .summary = "a file or block device, by io_uring",
    .options = file_options,
    .priv_size = sizeof(struct file),
    .queue_size = sizeof(struct file_queue),
    .slot_size = sizeof(struct file_slot),
    .open = open_device,
    .close = close_device,
    .queue_open = open_queue,
    .queue_close = close_queue,
    .submit = submit,
    .progress = progress,
    .poll = poll_ring,
    .buf_register = buf_register,
    .buf_unregister = buf_unregister,
};
