/*
 * nbd://HOST/EXPORT and its relatives - an NBD export, by libnbd's asynchronous calls.
 *
 * The spec is an NBD URI, as libnbd and nbdkit write it. Every queue is a connection of its own;
 * if the server does not promise that its connections see each other's writes (multi-conn), there
 * is one queue only. libnbd takes one buffer a command, so a request with several iov entries
 * becomes several commands; the request completes with the last.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

#define MAX_COMMAND (32u << 20) /* what servers take at the least, and most at the most */

struct nbd {
    /* The connection that asked for the limits; the first queue takes it over. Atomic. */
    struct nbd_handle *first;
    bool fua; /* the server has the flag; else a FUA write is a write and a flush */
};

struct nbd_queue {
    struct nbd_handle *handle;
};

struct nbd_slot {
    struct blk_queue *queue;
    struct blk_req *req;
    unsigned commands; /* in flight for this request */
    int result;        /* the first error of any of them */
    bool sync;         /* a flush must follow */
    uint64_t at;       /* STATUS: bytes described so far */
    size_t extents;
};

/* ---- device ---------------------------------------------------------------------------- */

static int library_error(struct blk_error *err)
{
    int error = nbd_get_errno();
    const char *why = nbd_get_error();
    return blk_error_set(err, error ? -error : -EIO, "%s", why ? why : "libnbd failed");
}

static struct nbd_handle *connect_uri(const char *uri)
{
    struct nbd_handle *h = nbd_create();
    if (!h)
        return NULL;
    if (nbd_set_uri_allow_local_file(h, true) < 0 ||
        nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
        nbd_set_strict_mode(h, 0) < 0 || nbd_set_pread_initialize(h, false) < 0 ||
        nbd_connect_uri(h, uri) < 0) {
        nbd_close(h);
        return NULL;
    }
    return h;
}

static uint32_t block_size(struct nbd_handle *h, int which, uint32_t otherwise)
{
    int64_t size = nbd_get_block_size(h, which);
    return size > 0 && size <= MAX_COMMAND && is_pow2((uint64_t)size) ? (uint32_t)size : otherwise;
}

static int read_info(struct nbd_handle *h, struct blk_info *i)
{
    int64_t size = nbd_get_size(h);
    if (size < 0)
        return -1;
    i->size = (uint64_t)size;
    i->block_size = block_size(h, LIBNBD_SIZE_MINIMUM, 1);
    /* Without a word from the server 512 is what every one takes; but no byte may be lost. */
    while (i->block_size < 512 && i->size % (i->block_size * 2) == 0 && i->size)
        i->block_size *= 2;
    i->physical_block_size =
        (uint32_t)max_u64(block_size(h, LIBNBD_SIZE_PREFERRED, 4096), i->block_size);
    i->max_transfer = block_size(h, LIBNBD_SIZE_MAXIMUM, MAX_COMMAND);
    i->read_only = nbd_is_read_only(h) == 1;
    i->volatile_cache = nbd_can_flush(h) == 1;
    i->rotational = nbd_is_rotational(h) == 1;
    i->discard_granularity = nbd_can_trim(h) == 1 ? i->block_size : 0;
    i->write_zeroes = nbd_can_zero(h) == 1;
    i->fast_zero = nbd_can_fast_zero(h) == 1;
    i->status = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
    i->max_queues = nbd_can_multi_conn(h) == 1 ? 64 : 1;
    i->max_depth = 1024;
    return 0;
}

static int open_device(struct blk *dev, struct blk_error *err)
{
    struct nbd *n = dev->priv;
    n->first = connect_uri(dev->argument);
    if (!n->first)
        return library_error(err);
    if (read_info(n->first, &dev->info) < 0) {
        int error = library_error(err);
        nbd_close(n->first);
        return error;
    }
    n->fua = nbd_can_fua(n->first) == 1;
    return 0;
}

static void disconnect(struct nbd_handle *h)
{
    if (h && nbd_aio_is_ready(h) == 1)
        nbd_shutdown(h, 0);
    nbd_close(h);
}

static void close_device(struct blk *dev)
{
    struct nbd *n = dev->priv;
    disconnect(n->first);
}

static int open_queue(struct blk_queue *queue)
{
    struct nbd *n = queue->dev->priv;
    struct nbd_queue *q = queue->priv;
    q->handle = __atomic_exchange_n(&n->first, NULL, __ATOMIC_ACQ_REL);
    if (!q->handle)
        q->handle = connect_uri(queue->dev->argument);
    return q->handle ? 0 : library_error(NULL);
}

static void close_queue(struct blk_queue *queue)
{
    struct nbd *n = queue->dev->priv;
    struct nbd_queue *q = queue->priv;
    struct nbd_handle *none = NULL;
    /* Kept for the next queue, if there is none in reserve. */
    if (nbd_aio_is_ready(q->handle) == 1 &&
        __atomic_compare_exchange_n(&n->first, &none, q->handle, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return;
    disconnect(q->handle);
}

/* ---- requests -------------------------------------------------------------------------- */

static void start_flush(struct nbd_slot *s);

/* One command of the request is done, with 0 or a negative errno. */
static void command_done(struct nbd_slot *s, int result)
{
    if (result < 0 && s->result == 0)
        s->result = result;
    if (--s->commands)
        return;
    if (s->sync && s->result == 0) {
        s->sync = false;
        start_flush(s);
        return;
    }
    blk_complete(s->queue, s->req, s->result);
}

static int on_completion(void *user_data, int *error)
{
    command_done(user_data, -*error);
    return 1; /* libnbd forgets the command */
}

/* A command that libnbd would not take: the connection is gone, or it has its own reasons. */
static void started(struct nbd_slot *s, int64_t cookie)
{
    if (cookie < 0) {
        int error = nbd_get_errno();
        command_done(s, error ? -error : -EIO);
    }
}

static nbd_completion_callback completion(struct nbd_slot *s)
{
    s->commands++;
    return (nbd_completion_callback){.callback = on_completion, .user_data = s};
}

static void start_flush(struct nbd_slot *s)
{
    struct nbd_queue *q = s->queue->priv;
    started(s, nbd_aio_flush(q->handle, completion(s), 0));
}

static void start_data(struct nbd_slot *s, uint32_t flags)
{
    struct nbd_queue *q = s->queue->priv;
    struct blk_req *r = s->req;
    uint64_t offset = r->offset;
    s->commands++; /* so that an early failure does not complete it before the last is started */
    for (unsigned i = 0; i < r->niov; i++) {
        void *data = r->iov[i].iov_base;
        size_t len = r->iov[i].iov_len;
        if (!len)
            continue;
        nbd_completion_callback done = completion(s);
        started(s, r->op == BLK_READ ? nbd_aio_pread(q->handle, data, len, offset, done, 0)
                                     : nbd_aio_pwrite(q->handle, data, len, offset, done, flags));
        offset += len;
    }
    command_done(s, 0);
}

/* Ranges may be larger than a command's 32-bit length. */
static void start_range(struct nbd_slot *s, uint32_t flags)
{
    const uint64_t most = round_down(UINT32_MAX, 1u << 20);
    struct nbd_queue *q = s->queue->priv;
    struct blk_req *r = s->req;
    s->commands++;
    for (uint64_t done = 0; done < r->len; done += min_u64(most, r->len - done)) {
        uint64_t offset = r->offset + done, len = min_u64(most, r->len - done);
        nbd_completion_callback cb = completion(s);
        started(s, r->op == BLK_DISCARD ? nbd_aio_trim(q->handle, len, offset, cb, flags)
                                        : nbd_aio_zero(q->handle, len, offset, cb, flags));
    }
    command_done(s, 0);
}

static int on_extents(void *user_data, const char *context, uint64_t offset, uint32_t *entries,
                      size_t count, int *error)
{
    struct nbd_slot *s = user_data;
    struct blk_req *r = s->req;
    struct blk_extent *e = r->iov[0].iov_base;
    size_t max = r->iov[0].iov_len / sizeof(*e);
    (void)offset;
    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION))
        return 0;
    /* A server's numbers: at most what was asked for, no empty extent. */
    for (size_t i = 0; i + 1 < count && s->extents < max && s->at < r->len; i += 2) {
        uint64_t len = min_u64(entries[i], r->len - s->at);
        uint32_t flags = (entries[i + 1] & LIBNBD_STATE_HOLE ? BLK_EXTENT_HOLE : 0) |
                         (entries[i + 1] & LIBNBD_STATE_ZERO ? BLK_EXTENT_ZERO : 0);
        if (!len)
            break;
        e[s->extents++] = (struct blk_extent){.len = len, .flags = flags};
        s->at += len;
    }
    r->count = (uint32_t)s->extents;
    return 0;
}

static int on_status_completion(void *user_data, int *error)
{
    struct nbd_slot *s = user_data;
    command_done(s, *error ? -*error : s->req->count ? 0 : -EIO);
    return 1;
}

static void start_status(struct nbd_slot *s)
{
    struct nbd_queue *q = s->queue->priv;
    struct blk_req *r = s->req;
    nbd_extent_callback extents = {.callback = on_extents, .user_data = s};
    nbd_completion_callback done = {.callback = on_status_completion, .user_data = s};
    s->commands++;
    r->count = 0;
    s->at = 0;
    s->extents = 0;
    uint64_t len = min_u64(r->len, round_down(UINT32_MAX, 1u << 20));
    started(s, nbd_aio_block_status(q->handle, len, r->offset, extents, done, 0));
}

static void start(struct blk_queue *queue, struct blk_req *r)
{
    const struct nbd *n = queue->dev->priv;
    struct nbd_slot *s = blk_slot(queue, r);
    uint32_t fua = (r->flags & BLK_FUA) && n->fua ? LIBNBD_CMD_FLAG_FUA : 0;
    uint32_t zero = (r->flags & BLK_NO_UNMAP ? LIBNBD_CMD_FLAG_NO_HOLE : 0) |
                    (r->flags & BLK_FAST_ZERO ? LIBNBD_CMD_FLAG_FAST_ZERO : 0);
    *s = (struct nbd_slot){.queue = queue, .req = r, .sync = (r->flags & BLK_FUA) && !n->fua};
    if (s->sync && !queue->dev->info.volatile_cache)
        s->sync = false;
    if (r->op == BLK_FLUSH && queue->dev->info.volatile_cache)
        start_flush(s);
    else if (r->op == BLK_FLUSH)
        blk_complete(queue, r, 0);
    else if (r->op == BLK_READ || r->op == BLK_WRITE)
        start_data(s, fua);
    else if (r->op == BLK_STATUS)
        start_status(s);
    else
        start_range(s, r->op == BLK_DISCARD ? 0 : fua | zero);
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        start(queue, reqs[i]);
}

/* poll(2) and let libnbd move; on a dead connection it fails every command by itself. */
static void progress(struct blk_queue *queue, int64_t timeout)
{
    struct nbd_queue *q = queue->priv;
    uint64_t end = timeout > 0 ? base_now_ns() + (uint64_t)timeout : 0;
    do {
        int ms = timeout < 0 ? -1 : (int)min_u64(((uint64_t)timeout + 999999) / 1000000, INT32_MAX);
        if (nbd_poll(q->handle, ms) < 0 || nbd_aio_is_dead(q->handle) == 1 ||
            nbd_aio_is_closed(q->handle) == 1)
            return;
        if (timeout > 0) {
            uint64_t now = base_now_ns();
            timeout = now < end ? (int64_t)(end - now) : 0;
        }
    } while (!queue->ready && timeout);
}

static void poll_handle(struct blk_queue *queue, struct blk_poll *poll)
{
    struct nbd_queue *q = queue->priv;
    unsigned direction = nbd_aio_get_direction(q->handle);
    poll->fd = nbd_aio_get_fd(q->handle);
    poll->events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                           (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

#define NBD_DRIVER(symbol, scheme, about)                                                          \
    const struct blk_driver symbol = {                                                             \
        .name = scheme,                                                                            \
        .argument = about,                                                                         \
        .summary = "an NBD export, by libnbd",                                                     \
        .flags = BLK_DRIVER_URI,                                                                   \
        .priv_size = sizeof(struct nbd),                                                           \
        .queue_size = sizeof(struct nbd_queue),                                                    \
        .slot_size = sizeof(struct nbd_slot),                                                      \
        .open = open_device,                                                                       \
        .close = close_device,                                                                     \
        .queue_open = open_queue,                                                                  \
        .queue_close = close_queue,                                                                \
        .submit = submit,                                                                          \
        .progress = progress,                                                                      \
        .poll = poll_handle,                                                                       \
    }

NBD_DRIVER(blk_nbd, "nbd", "nbd://HOST[:PORT][/EXPORT]");
NBD_DRIVER(blk_nbds, "nbds", "nbds://HOST[:PORT][/EXPORT]");
NBD_DRIVER(blk_nbd_unix, "nbd+unix", "nbd+unix:///[EXPORT]?socket=PATH");
NBD_DRIVER(blk_nbds_unix, "nbds+unix", "nbds+unix:///[EXPORT]?socket=PATH");
