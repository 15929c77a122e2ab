/*
 * The data plane. A tag is either the kernel's (a FETCH or COMMIT command of it is in the ring) or
 * ours: then its request waits, is with the device, or has just been answered. One turn of the loop
 * takes all that has arrived, gives it to the device as one batch, and commits all that is done; a
 * single system call hands commits, and the I/O of a `file` device, to the kernel and waits.
 */
#include "linux/ublk/queue.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "linux/ublk/zone.h"
#include <ashlar/blk_driver.h>

enum {
    SECTOR_SHIFT = 9,
    BATCH = 64,
    STACK_SIZE = 256 << 10, /* locked memory */
};

/* What an entry in the ring is for; with the tag in its user data. */
enum kind { KIND_IO, KIND_POLL, KIND_OTHER };

struct ublk_slot {
    struct blk_req req;
    char *data;
    bool registered; /* by hand: to be unregistered */
    unsigned epoch;
};

/* ---- commands -------------------------------------------------------------------------- */

static uint64_t make_data(enum kind kind, unsigned tag)
{
    return ((uint64_t)tag << 2 | kind) << 3; /* a multiple of 8, as the ring wants it */
}

static struct ublksrv_io_cmd *put_command(struct ublk_queue *q, uint32_t command, enum kind kind,
                                          unsigned tag)
{
    struct io_uring_sqe *sqe = ring_sqe(&q->ring);
    struct ublksrv_io_cmd *cmd = (struct ublksrv_io_cmd *)(void *)sqe->cmd;
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, 0, NULL, 0, 0);
    sqe->cmd_op = q->shared->legacy ? _IOC_NR(command) : command;
    if (q->shared->auto_register && kind == KIND_IO)
        sqe->addr = tag | UBLK_AUTO_BUF_REG_FALLBACK;
    *cmd = (struct ublksrv_io_cmd){.q_id = (uint16_t)q->id, .tag = (uint16_t)tag};
    ring_set(sqe, &q->ring, q->user, make_data(kind, tag));
    return cmd;
}

/* Give a tag to the kernel. */
static struct ublksrv_io_cmd *put_io(struct ublk_queue *q, uint32_t command, unsigned tag,
                                     int result)
{
    enum ublk_mode mode = q->shared->mode;
    struct ublksrv_io_cmd *cmd = put_command(q, command, KIND_IO, tag);
    cmd->result = result;
    if (mode == UBLK_MODE_COPY || mode == UBLK_MODE_GET_DATA)
        cmd->addr = (uintptr_t)q->slots[tag].data;
    q->commands++;
    return cmd;
}

static void put_register(struct ublk_queue *q, uint32_t command, unsigned tag)
{
    put_command(q, command, KIND_OTHER, tag)->addr = tag; /* index in the ring's table */
}

/* An entry in the ring is done. It may come while the device makes progress: only note it. */
static void command_done(void *arg, uint64_t data, int result)
{
    struct ublk_queue *q = arg;
    unsigned tag = (unsigned)(data >> 5);
    enum kind kind = data >> 3 & 3;
    if (kind == KIND_POLL && (uint16_t)tag == q->poll_number)
        q->poll_fd = -1;
    if (kind != KIND_IO)
        return;
    q->commands--;
    if (result == UBLK_IO_RES_NEED_GET_DATA) {
        put_io(q, UBLK_U_IO_NEED_GET_DATA, tag, 0);
    } else if (result == UBLK_IO_RES_OK) {
        unsigned at = q->waiting_at + q->waiting_count++;
        q->waiting[at % q->shared->depth] = (uint16_t)tag;
    } else if (result != -ENODEV && !q->error) {
        q->error = result;
    }
}

/* ---- from the kernel to the device ----------------------------------------------------- */

/* The place of a request's data in the character device. */
static off_t data_offset(const struct ublk_queue *q, unsigned tag)
{
    return (off_t)(UBLKSRV_IO_BUF_OFFSET + ((uint64_t)q->id << (UBLK_IO_BUF_BITS + UBLK_TAG_BITS)) +
                   ((uint64_t)tag << UBLK_IO_BUF_BITS));
}

static int copy_data(const struct ublk_queue *q, unsigned tag, size_t len)
{
    const struct ublk_slot *s = &q->slots[tag];
    /* What the application writes we read. */
    bool write = s->req.op == BLK_WRITE || s->req.op == BLK_ZONE_APPEND;
    for (size_t done = 0; done < len;) {
        off_t at = data_offset(q, tag) + (off_t)done;
        ssize_t n = write ? pread(q->shared->char_fd, s->data + done, len - done, at)
                          : pwrite(q->shared->char_fd, s->data + done, len - done, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

static int to_op(unsigned op)
{
    switch (op) {
    case UBLK_IO_OP_READ:
        return BLK_READ;
    case UBLK_IO_OP_WRITE:
        return BLK_WRITE;
    case UBLK_IO_OP_FLUSH:
        return BLK_FLUSH;
    case UBLK_IO_OP_DISCARD:
        return BLK_DISCARD;
    case UBLK_IO_OP_WRITE_ZEROES:
        return BLK_WRITE_ZEROES;
    default:
        return ublk_zone_op(op);
    }
}

/* Requests that have data of the length of their range. */
static bool has_data(int op)
{
    return op == BLK_READ || op == BLK_WRITE || op == BLK_ZONE_APPEND;
}

/* The thread that stops the device looks at the counts. */
static void count_pending(struct ublk_queue *q, unsigned epoch, int change)
{
    unsigned n = q->pending[epoch] + (unsigned)change;
    __atomic_store_n(&q->pending[epoch], n, __ATOMIC_RELAXED);
}

/* Make the request that the kernel describes. 0, or the error to answer it with. */
static int make_request(struct ublk_queue *q, unsigned tag)
{
    struct ublk_slot *s = &q->slots[tag];
    const struct ublksrv_io_desc *d = &q->desc[tag];
    uint32_t flags = d->op_flags;
    uint64_t len = (uint64_t)d->nr_sectors << SECTOR_SHIFT;
    int op = to_op(flags & 0xff);
    s->registered = false;
    s->req.op = BLK_FLUSH; /* until it is known: no data */
    if (op < 0)
        return op;
    bool data = has_data(op);
    if (data && len > q->shared->max_io)
        return -EINVAL;
    if (op == BLK_FLUSH)
        blk_req_init(&s->req, BLK_FLUSH, 0, 0);
    else if (data)
        blk_req_data(&s->req, (enum blk_op)op, d->start_sector << SECTOR_SHIFT, s->data, len);
    else if (op == BLK_ZONE_REPORT)
        return ublk_zone_ask(&s->req, d, s->data, q->shared->max_io);
    else
        blk_req_init(&s->req, (enum blk_op)op, d->start_sector << SECTOR_SHIFT, len);
    if ((flags & 0xff) == UBLK_IO_OP_ZONE_RESET_ALL)
        s->req.flags |= BLK_ZONE_ALL;
    if (flags & UBLK_IO_F_FUA &&
        (op == BLK_WRITE || op == BLK_WRITE_ZEROES || op == BLK_ZONE_APPEND))
        s->req.flags |= BLK_FUA;
    if (flags & UBLK_IO_F_NOUNMAP && op == BLK_WRITE_ZEROES)
        s->req.flags |= BLK_NO_UNMAP;
    if (data && op != BLK_READ && q->shared->mode == UBLK_MODE_USER_COPY)
        return copy_data(q, tag, len);
    if (data && q->shared->mode == UBLK_MODE_ZERO_COPY &&
        (!q->shared->auto_register || flags & UBLK_IO_F_NEED_REG_BUF)) {
        put_register(q, UBLK_U_IO_REGISTER_IO_BUF, tag);
        s->registered = true; /* if it fails, so does the I/O, which comes behind it in the ring */
    }
    return 0;
}

/* Answer the kernel. */
static void commit(struct ublk_queue *q, struct ublk_slot *s, int result)
{
    unsigned tag = (unsigned)(s - q->slots);
    int value = has_data(s->req.op) ? (int)s->req.len : 0;
    if (result == 0 && s->req.op == BLK_READ && q->shared->mode == UBLK_MODE_USER_COPY)
        result = copy_data(q, tag, s->req.len);
    if (result == 0 && s->req.op == BLK_ZONE_REPORT) {
        result = copy_data(q, tag, ublk_zone_answer(&s->req));
        value = (int)q->shared->max_io; /* all of it, which is less; else the kernel asks again */
    }
    if (result == -EAGAIN)
        result = -EIO; /* to the kernel it means that waiting was not allowed */
    if (s->registered)
        put_register(q, UBLK_U_IO_UNREGISTER_IO_BUF, tag);
    count_pending(q, s->epoch, -1);
    struct ublksrv_io_cmd *cmd =
        put_io(q, UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, result == 0 ? value : result);
    if (s->req.op == BLK_ZONE_APPEND && result == 0)
        cmd->addr = s->req.offset >> SECTOR_SHIFT;
}

/* Give what arrived to the device, as far as its queue has room. */
static void begin_requests(struct ublk_queue *q)
{
    struct blk_req *batch[BATCH];
    unsigned room = blk_queue_depth(q->queue) - blk_queue_in_flight(q->queue);
    while (q->waiting_count && room) {
        unsigned n = 0;
        for (; n < BATCH && n < room && q->waiting_count; q->waiting_count--) {
            unsigned tag = q->waiting[q->waiting_at];
            q->waiting_at = (q->waiting_at + 1) % q->shared->depth;
            q->slots[tag].epoch = __atomic_load_n(&q->shared->epoch, __ATOMIC_RELAXED);
            count_pending(q, q->slots[tag].epoch, 1);
            int error = make_request(q, tag);
            if (error < 0)
                commit(q, &q->slots[tag], error);
            else
                batch[n++] = &q->slots[tag].req;
        }
        room -= blk_submit(q->queue, batch, n);
    }
}

/* Answer what the device has done. Returns whether there was anything. */
static bool finish_requests(struct ublk_queue *q)
{
    struct blk_req *done[BATCH];
    bool any = false;
    unsigned n;
    while ((n = blk_reap(q->queue, done, BATCH, 0))) {
        for (unsigned i = 0; i < n; i++)
            commit(q, container_of(done[i], struct ublk_slot, req), done[i]->result);
        any = true;
    }
    return any;
}

/* ---- waiting --------------------------------------------------------------------------- */

/* Let the ring watch what the device waits for. */
static void watch(struct ublk_queue *q, const struct blk_poll *p)
{
    struct io_uring_sqe *sqe;
    if (p->fd == q->poll_fd && p->events == q->poll_events)
        return;
    if (q->poll_fd >= 0) {
        sqe = ring_sqe(&q->ring);
        io_uring_prep_rw(IORING_OP_POLL_REMOVE, sqe, -1, NULL, 0, 0);
        sqe->addr = make_data(KIND_POLL, q->poll_number) | (unsigned)q->user;
        sqe->user_data = make_data(KIND_OTHER, 0) | (unsigned)q->user;
    }
    q->poll_fd = p->fd;
    q->poll_events = p->events;
    if (p->fd < 0)
        return;
    sqe = ring_sqe(&q->ring);
    io_uring_prep_poll_add(sqe, p->fd, (unsigned short)p->events);
    sqe->user_data = make_data(KIND_POLL, ++q->poll_number) | (unsigned)q->user;
}

/* Hand all entries to the kernel and wait: for requests, and for the device. */
static void wait_for_work(struct ublk_queue *q)
{
    struct blk_poll p = {.fd = -1, .timeout = BLK_FOREVER};
    if (blk_queue_in_flight(q->queue)) {
        blk_queue_poll(q->queue, &p);
        watch(q, &p);
    }
    if (p.timeout == 0)
        ring_submit(&q->ring);
    else
        ring_wait(&q->ring, p.timeout);
}

static void serve(struct ublk_queue *q)
{
    while (q->commands || q->waiting_count || blk_queue_in_flight(q->queue)) {
        begin_requests(q);
        if (finish_requests(q) && q->waiting_count)
            continue;
        wait_for_work(q);
        ring_take(&q->ring);
    }
}

/* ---- start and end --------------------------------------------------------------------- */

/* Does the device use our ring? We were its first user. */
static bool has_joined(const struct ring *ring)
{
    return ring->user[1].done;
}

static size_t desc_size(unsigned depth)
{
    return round_up(depth * sizeof(struct ublksrv_io_desc), (size_t)sysconf(_SC_PAGESIZE));
}

static int map_descriptions(struct ublk_queue *q)
{
    off_t at = (off_t)(q->id * desc_size(UBLK_MAX_QUEUE_DEPTH));
    void *desc = mmap(NULL, desc_size(q->shared->depth), PROT_READ, MAP_SHARED | MAP_POPULATE,
                      q->shared->char_fd, at);
    if (desc == MAP_FAILED)
        return -errno;
    q->desc = desc;
    return 0;
}

/* Memory for the data of all tags, there from the start. With zero copy, only addresses. */
static int get_memory(struct ublk_queue *q)
{
    const struct ublk_shared *s = q->shared;
    size_t size = (size_t)s->depth * s->max_io;
    bool window = s->mode == UBLK_MODE_ZERO_COPY;
    void *memory = mmap(NULL, size, window ? PROT_NONE : PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    q->memory = memory;
    if (window) {
        q->ring.window = memory;
        q->ring.window_slot = s->max_io;
        return 0;
    }
    base_reserve_large(memory, size);
    if (madvise(memory, size, MADV_POPULATE_WRITE) < 0 && errno == EINVAL)
        memset(memory, 0, size); /* before Linux 5.14 */
    if (has_joined(&q->ring))
        ring_buffer_add(&q->ring, memory, size);
    return 0;
}

static void free_memory(struct ublk_queue *q)
{
    if (!q->memory)
        return;
    ring_buffer_remove(&q->ring, q->memory);
    munmap(q->memory, (size_t)q->shared->depth * q->shared->max_io);
}

/* A ring with room for a command and an I/O of each tag, offered to the device's queue. */
static int open_queue(struct ublk_queue *q)
{
    struct ublk_shared *s = q->shared;
    unsigned depth = (unsigned)min_u64(s->depth, blk_info(s->dev)->max_depth);
    int error =
        ring_open(&q->ring, 2 * s->depth, true, s->mode == UBLK_MODE_ZERO_COPY ? s->depth : 0);
    if (error < 0)
        return error;
    q->user = ring_join(&q->ring, command_done, q, s->char_fd);
    ring_offer(&q->ring);
    error = q->user < 0 ? q->user : blk_queue_open(s->dev, depth, &q->queue);
    ring_offer(NULL);
    if (error < 0)
        ring_close(&q->ring);
    return error;
}

static void close_queue(struct ublk_queue *q)
{
    free_memory(q);
    if (q->desc)
        munmap((void *)(uintptr_t)q->desc, desc_size(q->shared->depth));
    blk_queue_close(q->queue);
    ring_close(&q->ring);
    free(q->slots);
    free(q->waiting);
}

/* All tags go to the kernel: with the last it knows that this thread is the one to serve them. */
static int fetch_all(struct ublk_queue *q)
{
    for (unsigned tag = 0; tag < q->shared->depth; tag++) {
        q->slots[tag].data = q->memory + (size_t)tag * q->shared->max_io;
        put_io(q, UBLK_U_IO_FETCH_REQ, tag, 0);
    }
    ring_submit(&q->ring);
    ring_take(&q->ring);
    return q->error;
}

static int prepare(struct ublk_queue *q)
{
    unsigned depth = q->shared->depth;
    q->poll_fd = -1;
    /* A single processor would be the very one on which the application submits: both would take
     * turns there, while another has nothing to do. */
    if (CPU_COUNT(&q->cpus) > 1)
        sched_setaffinity(0, sizeof(q->cpus), &q->cpus); /* or where it is */
    int error = open_queue(q);
    if (error < 0)
        return error;
    q->slots = calloc(depth, sizeof(*q->slots));
    q->waiting = calloc(depth, sizeof(*q->waiting));
    error = q->slots && q->waiting ? map_descriptions(q) : -ENOMEM;
    if (error == 0)
        error = get_memory(q);
    if (error < 0)
        close_queue(q);
    return error;
}

static void *thread_main(void *arg)
{
    struct ublk_queue *q = arg;
    int error = prepare(q);
    bool open = error == 0;
    if (open)
        error = fetch_all(q);
    q->ready_error = error;
    sem_post(&q->ready);
    if (open) {
        serve(q);
        close_queue(q);
    }
    if (__atomic_sub_fetch(&q->shared->running, 1, __ATOMIC_ACQ_REL) == 0)
        eventfd_write(q->shared->done_fd, 1);
    return NULL;
}

int ublk_queue_start(struct ublk_queue *q)
{
    pthread_attr_t attr;
    sigset_t all, before;
    sem_init(&q->ready, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all); /* signals are for other threads */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    __atomic_add_fetch(&q->shared->running, 1, __ATOMIC_ACQ_REL);
    int error = -pthread_create(&q->thread, &attr, thread_main, q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    q->started = error == 0;
    if (error < 0)
        __atomic_sub_fetch(&q->shared->running, 1, __ATOMIC_ACQ_REL);
    return error;
}

int ublk_queue_wait_ready(struct ublk_queue *q)
{
    while (sem_wait(&q->ready) < 0)
        ;
    return q->ready_error;
}

void ublk_queue_join(struct ublk_queue *q)
{
    if (!q->started)
        return;
    pthread_join(q->thread, NULL);
    sem_destroy(&q->ready);
    q->started = false;
}

/* Nothing of ours comes through the ring that only tries. */
static void ignore(void *arg, uint64_t data, int result)
{
    (void)arg;
    (void)data;
    (void)result;
}

bool ublk_queue_zero_copy(struct blk *dev)
{
    struct ring ring;
    struct blk_queue *queue;
    for (const struct blk *d = dev; d; d = blk_child(d))
        if ((d->driver->flags & BLK_DRIVER_FILTER) && !(d->driver->flags & BLK_DRIVER_NO_DATA))
            return false;
    if (ring_open(&ring, 4, true, 1) < 0)
        return false;
    ring_join(&ring, ignore, NULL, -1);
    ring_offer(&ring);
    bool yes = blk_queue_open(dev, 1, &queue) == 0;
    ring_offer(NULL);
    if (yes) {
        yes = has_joined(&ring);
        blk_queue_close(queue);
    }
    ring_close(&ring);
    return yes;
}
