/* Rings and their users. The number of a user is in the low bits of each entry's user data. */
#include "linux/ring.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static _Thread_local struct ring *offer;

static int open_uring(struct io_uring *uring, unsigned entries, bool single)
{
    /* With deferred work the kernel does what completions need when this thread asks, in one go;
     * without, it interrupts it. TASKRUN_FLAG lets a look at memory tell that there is some. */
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int error = -EINVAL;
    for (unsigned i = single ? 0 : 1; i < ARRAY_SIZE(flags) && error == -EINVAL; i++) {
        struct io_uring_params p = {.flags = flags[i]};
        error = io_uring_queue_init_params(entries, uring, &p);
    }
    return error;
}

int ring_open(struct ring *r, unsigned entries, bool single, unsigned kernel_buffers)
{
    int files[RING_USERS];
    memset(r, 0, sizeof(*r));
    memset(files, -1, sizeof(files)); /* descriptors of -1: free places */
    int error = open_uring(&r->uring, entries, single);
    if (error < 0)
        return error;
    error = io_uring_register_files(&r->uring, files, RING_USERS);
    if (error < 0) {
        io_uring_queue_exit(&r->uring);
        return error;
    }
    r->window_slots = kernel_buffers;
    r->has_table = io_uring_register_buffers_sparse(&r->uring, kernel_buffers + RING_BUFFERS) == 0;
    if (kernel_buffers && !r->has_table) {
        ring_close(r);
        return -EOPNOTSUPP;
    }
    return 0;
}

void ring_close(struct ring *r)
{
    /* The kernel takes a ring apart later; files must be free for others when we are done. */
    io_uring_unregister_files(&r->uring);
    io_uring_queue_exit(&r->uring);
}

void ring_offer(struct ring *ring)
{
    if (ring)
        ring->offered = true;
    offer = ring;
}

struct ring *ring_offered(void)
{
    return offer;
}

int ring_join(struct ring *r, ring_done *done, void *arg, int fd)
{
    for (int i = 0; i < RING_USERS; i++) {
        if (r->user[i].done)
            continue;
        int set = fd < 0 ? 1 : io_uring_register_files_update(&r->uring, (unsigned)i, &fd, 1);
        if (set < 0)
            return set;
        r->user[i].done = done;
        r->user[i].arg = arg;
        r->user[i].file = fd < 0 ? -1 : i;
        return i;
    }
    return -ENOSPC;
}

void ring_leave(struct ring *r, int user)
{
    int none = -1;
    if (r->user[user].file >= 0)
        io_uring_register_files_update(&r->uring, (unsigned)user, &none, 1);
    r->user[user].done = NULL;
}

/* ---- entries --------------------------------------------------------------------------- */

struct io_uring_sqe *ring_sqe(struct ring *r)
{
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&r->uring)))
        io_uring_submit(&r->uring);
    return sqe;
}

void ring_set(struct io_uring_sqe *sqe, const struct ring *r, int user, uint64_t data)
{
    if (r->user[user].file >= 0) {
        sqe->fd = r->user[user].file;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    sqe->user_data = data | (unsigned)user;
}

void ring_submit(struct ring *r)
{
    if (io_uring_sq_ready(&r->uring))
        io_uring_submit(&r->uring);
}

bool ring_take(struct ring *r)
{
    struct io_uring_cqe *cqe;
    bool any = false;
    while (io_uring_peek_cqe(&r->uring, &cqe) == 0) {
        uint64_t data = cqe->user_data;
        int result = cqe->res;
        io_uring_cqe_seen(&r->uring, cqe); /* before done, which may come back here */
        unsigned user = data % RING_USERS;
        if (r->user[user].done)
            r->user[user].done(r->user[user].arg, data - user, result);
        any = true;
    }
    return any;
}

void ring_wait(struct ring *r, int64_t timeout)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec t = {.tv_sec = timeout / 1000000000, .tv_nsec = timeout % 1000000000};
    if (timeout < 0)
        io_uring_submit_and_wait(&r->uring, 1);
    else
        io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, &t, NULL);
}

/* ---- buffers --------------------------------------------------------------------------- */

static void set_entry(struct ring *r, unsigned i, struct iovec v)
{
    __u64 tag = 0;
    r->buffer[i] = v;
    if (io_uring_register_buffers_update_tag(&r->uring, r->window_slots + i, &v, &tag, 1) < 0)
        r->buffer[i].iov_len = 0; /* locked memory is limited; go on without */
}

void ring_buffer_add(struct ring *r, void *memory, size_t size)
{
    for (unsigned i = 0; r->has_table && i < RING_BUFFERS; i++)
        if (!r->buffer[i].iov_len) {
            if (i >= r->buffers)
                r->buffers = i + 1;
            set_entry(r, i, (struct iovec){memory, size});
            return;
        }
}

void ring_buffer_remove(struct ring *r, void *memory)
{
    for (unsigned i = 0; i < r->buffers; i++)
        if (r->buffer[i].iov_len && r->buffer[i].iov_base == memory)
            set_entry(r, i, (struct iovec){0});
}

/* Requests often take buffers in turn, so the search starts at the one found last. */
struct ring_buffer ring_buffer_find(struct ring *r, void *memory, size_t size)
{
    size_t at = (size_t)((char *)memory - r->window);
    if (r->window && at < r->window_slot * r->window_slots)
        return (struct ring_buffer){(int)(at / r->window_slot),
                                    (void *)(uintptr_t)(at % r->window_slot)};
    for (unsigned n = 0, i = r->hint; n < r->buffers; n++, i = i + 1 < r->buffers ? i + 1 : 0) {
        at = (size_t)((char *)memory - (char *)r->buffer[i].iov_base);
        if (at < r->buffer[i].iov_len && size <= r->buffer[i].iov_len - at) {
            r->hint = i;
            return (struct ring_buffer){(int)(r->window_slots + i), memory};
        }
    }
    return (struct ring_buffer){-1, memory};
}
