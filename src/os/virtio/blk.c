/*
 * virtio-blk (5.2): disks vda, vdb, ... as drivers of the block core, so that a spec names them:
 * `vda?mode=poll`.
 *
 * A disk has one or more lanes: a virtqueue, a lock, and its requests. A queue of the core stands
 * on one lane; where there are more of them than lanes, they share. A request becomes one or more
 * chains (header, data, status): more if its data is in so many pieces that one chain cannot
 * describe it, or longer than the device takes at once. What finds no room waits in the lane.
 *
 * Waiting for completions: `poll` looks again and again, `interrupt` sleeps, `auto` looks for a
 * short while and then sleeps.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ashlar/blk_driver.h"
#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/thread/thread.h"
#include "os/virtio/disk.h"
#include "os/virtio/virtio.h"

enum {
    F_SIZE_MAX = 1,
    F_SEG_MAX = 2,
    F_RO = 5,
    F_BLK_SIZE = 6,
    F_FLUSH = 9,
    F_TOPOLOGY = 10,
    F_MQ = 12,
    F_DISCARD = 13,
    F_WRITE_ZEROES = 14,
};
enum {
    CONFIG_CAPACITY = 0,
    CONFIG_SIZE_MAX = 8,
    CONFIG_SEG_MAX = 12,
    CONFIG_BLK_SIZE = 20,
    CONFIG_PHYSICAL_EXPONENT = 24,
    CONFIG_OPTIMAL_IO = 28,
    CONFIG_NUM_QUEUES = 34,
    CONFIG_MAX_DISCARD = 36,
    CONFIG_DISCARD_ALIGNMENT = 44,
    CONFIG_MAX_ZEROES = 48,
    CONFIG_ZEROES_MAY_UNMAP = 56,
};
enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4, TYPE_DISCARD = 11, TYPE_WRITE_ZEROES = 13 };
enum { STATUS_OK = 0, STATUS_UNSUPPORTED = 2, STATUS_UNSET = 0xff };

enum {
    SECTOR = 512,
    DISKS_MAX = 26,
    LANES_MAX = VIRTIO_QUEUES_MAX,
    RING_SIZE = 256,
    QUEUES_MAX = 64, /* of the core, on one disk */
    FEW = 6,         /* segments of a chain without a table of its own */
    TABLES = 16,     /* chains of a lane that may have one */
    TABLE_SEGMENTS = 254,
    SPIN_NS = 100000, /* auto: look for so long before sleeping */
};

enum mode { MODE_AUTO, MODE_POLL, MODE_INTERRUPT };

struct header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};
struct range {
    uint64_t sector;
    uint32_t sectors;
    uint32_t flags; /* 1: may unmap */
};

/* What goes to the device at once. Within a page, so that one address leads to it. */
struct chain {
    struct header header;
    struct range range;
    uint8_t status;
    bool has_table;
    uint16_t table;
    struct slot *slot;
    struct chain *next;  /* free */
    struct chain *older; /* in flight, by time of submission */
    struct chain *younger;
    uint64_t sent_ns;
    struct virtq_desc few[FEW + 2];
} __attribute__((aligned(256)));

struct lane {
    struct disk *disk;
    struct virtqueue *vq;
    struct spinlock lock; /* guards what follows */
    unsigned users;
    struct chain *chains;
    struct chain *free;
    struct chain *oldest, *youngest; /* in flight */
    struct virtq_desc *tables;       /* TABLES * (TABLE_SEGMENTS + 2) */
    uint16_t free_tables[TABLES];
    unsigned free_table_count;
    struct slot *waiting, **waiting_last; /* requests that found no room */
    struct wait_queue sleepers;
};

struct disk {
    struct blk_driver driver; /* a copy of its own: the name is the disk's */
    char name[8];
    struct virtio *virtio;
    uint64_t sectors;
    uint32_t block_size;
    uint32_t physical_block_size;
    uint32_t optimal_io;
    uint32_t size_max;                                   /* of a segment */
    uint32_t seg_max;                                    /* of a chain */
    uint32_t discard_max, discard_alignment, zeroes_max; /* sectors */
    bool zeroes_may_unmap;
    bool read_only, flush, failed;
    unsigned lanes;
    struct lane lane[LANES_MAX];
    struct base_mutex lock; /* guards the choice of lanes */
    uint64_t reads, writes; /* atomic: requests that completed */
};

/* A request on its way: the core's slot. */
struct slot {
    struct blk_req *req;
    struct lane_queue *owner;
    struct slot *next; /* waiting, or done */
    uint64_t sent;     /* bytes that chains were made for */
    unsigned iov;      /* the next piece of data: entry and offset in it */
    size_t iov_at;
    unsigned chains; /* in flight */
    bool waiting;    /* in lane->waiting: more chains are to come */
    int error;
    bool flushing; /* the flush of a FUA write is what is left */
};

/* A queue of the core. */
struct lane_queue {
    struct lane *lane;
    enum mode mode;
    struct slot *done, **done_last; /* guarded by lane->lock */
};

/* Options of an open device. */
struct handle {
    struct disk *disk;
    const char *mode_text;
    enum mode mode;
    uint64_t timeout;
};

static struct disk *disks[DISKS_MAX];
static unsigned disk_count;

/* ---- chains: with lane->lock held ------------------------------------------------------- */

static void flight_add(struct lane *lane, struct chain *c)
{
    c->younger = NULL;
    c->older = lane->youngest;
    if (lane->youngest)
        lane->youngest->younger = c;
    else
        lane->oldest = c;
    lane->youngest = c;
}

static void flight_remove(struct lane *lane, struct chain *c)
{
    if (c->older)
        c->older->younger = c->younger;
    else
        lane->oldest = c->younger;
    if (c->younger)
        c->younger->older = c->older;
    else
        lane->youngest = c->older;
}

static void chain_free(struct lane *lane, struct chain *c)
{
    if (c->has_table)
        lane->free_tables[lane->free_table_count++] = c->table;
    c->has_table = false;
    c->next = lane->free;
    lane->free = c;
}

/* The physical address of a request's data. A page of base_reserve() has none before it is touched.
 */
static uint64_t phys_of(const char *data)
{
    const uint64_t phys = virt_to_phys(data);
    if (phys != UINT64_MAX)
        return phys;
    (void)*(const volatile char *)data;
    return virt_to_phys(data);
}

/* The next run of bytes of a request that is one run of physical memory, at most max long. */
static struct virtio_segment next_segment(struct slot *s, uint32_t max, bool device_writes)
{
    const struct blk_req *r = s->req;
    while (s->iov_at == r->iov[s->iov].iov_len) {
        s->iov++;
        s->iov_at = 0;
    }
    const char *data = (const char *)r->iov[s->iov].iov_base + s->iov_at;
    const size_t left = r->iov[s->iov].iov_len - s->iov_at;
    const uint64_t phys = phys_of(data);
    const uint64_t address = (uint64_t)(uintptr_t)data;
    uint64_t len = min_u64(left, max);
    if (address < DIRECT_BASE || (address >= REGION_BASE && address < KERNEL_BASE)) {
        /* Pages that are neighbours only by chance. */
        uint64_t run = min_u64(len, PAGE_SIZE - address % PAGE_SIZE);
        while (run < len && phys_of(data + run) == phys + run)
            run = min_u64(len, run + PAGE_SIZE);
        len = run;
    }
    s->iov_at += len;
    return (struct virtio_segment){phys, (uint32_t)len, device_writes};
}

/* Fill segments with data; how many bytes they hold, in whole blocks. */
static uint64_t take_data(struct lane *lane, struct slot *s, struct virtio_segment *segments,
                          unsigned max, unsigned *count, bool device_writes)
{
    const struct slot start = *s;
    uint64_t bytes = 0;
    unsigned n = 0;
    while (s->sent + bytes < s->req->len && n < max) {
        const uint64_t room = (UINT64_C(1) << 30) - bytes;
        if (!room)
            break;
        segments[n] = next_segment(s, (uint32_t)min_u64(lane->disk->size_max, room), device_writes);
        bytes += segments[n++].len;
    }
    const uint64_t extra = bytes % lane->disk->block_size;
    if (extra) { /* pieces that do not end with a block: take up to the last that does */
        const uint64_t whole = bytes - extra;
        s->iov = start.iov;
        s->iov_at = start.iov_at;
        bytes = 0;
        for (n = 0; bytes < whole; n++) {
            segments[n] = next_segment(s, (uint32_t)min_u64(lane->disk->size_max, whole - bytes),
                                       device_writes);
            bytes += segments[n].len;
        }
    }
    *count = n;
    return bytes;
}

static uint32_t type_of(const struct slot *s)
{
    if (s->flushing)
        return TYPE_FLUSH;
    switch (s->req->op) {
    case BLK_READ:
        return TYPE_IN;
    case BLK_WRITE:
        return TYPE_OUT;
    case BLK_DISCARD:
        return TYPE_DISCARD;
    case BLK_WRITE_ZEROES:
        return TYPE_WRITE_ZEROES;
    default:
        return TYPE_FLUSH;
    }
}

/* Discard and write zeroes: what is left, as far as the device takes it at once. */
static uint64_t take_range(const struct disk *d, const struct slot *s, struct chain *c)
{
    const bool zeroes = s->req->op == BLK_WRITE_ZEROES;
    const uint64_t max = (uint64_t)(zeroes ? d->zeroes_max : d->discard_max) * SECTOR;
    const uint64_t bytes = min_u64(s->req->len - s->sent, max);
    c->range.sector = (s->req->offset + s->sent) / SECTOR;
    c->range.sectors = (uint32_t)(bytes / SECTOR);
    c->range.flags = zeroes && d->zeroes_may_unmap && !(s->req->flags & BLK_NO_UNMAP);
    return bytes;
}

static void send(struct lane *lane, struct chain *c, const struct virtio_segment *segments,
                 unsigned n)
{
    if (lane->vq->indirect) {
        struct virtq_desc *table =
            c->has_table ? lane->tables + (size_t)c->table * (TABLE_SEGMENTS + 2) : c->few;
        virtqueue_fill(table, segments, n);
        virtqueue_add_indirect(lane->vq, table, n, c);
    } else {
        virtqueue_add(lane->vq, segments, n, c);
    }
    flight_add(lane, c);
}

/* How many data segments a chain may have now; 0: none can be made. */
static unsigned chain_room(const struct lane *lane)
{
    if (!lane->free || lane->vq->broken)
        return 0;
    const unsigned room = virtqueue_room(lane->vq);
    if (!lane->vq->indirect)
        return room > 2 ? (unsigned)min_u64(room - 2, min_u64(lane->disk->seg_max, FEW)) : 0;
    return room ? (unsigned)min_u64(lane->disk->seg_max,
                                    lane->free_table_count ? TABLE_SEGMENTS : FEW)
                : 0;
}

/* Make the next chain of a request; false if there is no room. */
static bool start_chain(struct lane *lane, struct slot *s, uint64_t now)
{
    struct virtio_segment segments[TABLE_SEGMENTS + 2];
    const unsigned room = chain_room(lane);
    if (!room)
        return false;
    struct chain *c = lane->free;
    const uint32_t type = type_of(s);
    unsigned data = 0;
    uint64_t bytes = 0;
    c->header = (struct header){type, 0, 0};
    if (type == TYPE_IN || type == TYPE_OUT) {
        c->header.sector = (s->req->offset + s->sent) / SECTOR;
        bytes = take_data(lane, s, segments + 1, room, &data, type == TYPE_IN);
        if (!bytes) { /* not even a block fits: a piece must end in the middle of too many */
            s->error = -EINVAL;
            return true;
        }
    } else if (type != TYPE_FLUSH) {
        bytes = take_range(lane->disk, s, c);
        segments[1] = (struct virtio_segment){virt_to_phys(&c->range), sizeof(c->range), false};
        data = 1;
    }
    lane->free = c->next;
    if (data > FEW) {
        c->has_table = true;
        c->table = lane->free_tables[--lane->free_table_count];
    }
    c->slot = s;
    c->status = STATUS_UNSET;
    c->sent_ns = now;
    segments[0] = (struct virtio_segment){virt_to_phys(&c->header), sizeof(c->header), false};
    segments[data + 1] = (struct virtio_segment){virt_to_phys(&c->status), 1, true};
    send(lane, c, segments, data + 2);
    s->sent += bytes;
    s->chains++;
    return true;
}

/* ---- requests: with lane->lock held ----------------------------------------------------- */

static bool all_sent(const struct slot *s)
{
    if (s->error)
        return true; /* no more of it is tried */
    return s->flushing || s->req->op == BLK_FLUSH ? s->chains > 0 : s->sent == s->req->len;
}

static void wait_last(struct lane *lane, struct slot *s)
{
    s->next = NULL;
    s->waiting = true;
    *lane->waiting_last = s;
    lane->waiting_last = &s->next;
}

static void finish(struct lane *lane, struct slot *s)
{
    const struct blk_req *r = s->req;
    const bool fua = r->flags & BLK_FUA && (r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES);
    if (fua && lane->disk->flush && !s->error && !s->flushing) {
        s->flushing = true;
        wait_last(lane, s);
        return;
    }
    s->next = NULL;
    *s->owner->done_last = s;
    s->owner->done_last = &s->next;
}

/* Make chains for those that wait, in order, while there is room; tell the device once. */
static void start_waiting(struct lane *lane)
{
    if (!lane->waiting)
        return;
    const uint64_t now = base_now_ns();
    while (lane->waiting) {
        struct slot *s = lane->waiting;
        while (!all_sent(s))
            if (lane->disk->failed)
                s->error = -EIO;
            else if (!start_chain(lane, s, now))
                goto out;
        lane->waiting = s->next;
        s->waiting = false;
        if (!lane->waiting)
            lane->waiting_last = &lane->waiting;
        if (!s->chains)
            finish(lane, s);
    }
out:
    virtqueue_kick(lane->vq);
}

static void chain_done(struct lane *lane, struct chain *c)
{
    struct slot *s = c->slot;
    flight_remove(lane, c);
    if (c->status != STATUS_OK && !s->error)
        s->error = c->status == STATUS_UNSUPPORTED ? -ENOTSUP : -EIO;
    chain_free(lane, c);
    if (--s->chains == 0 && !s->waiting)
        finish(lane, s);
}

static bool collect(struct lane *lane)
{
    struct chain *c;
    bool any = false;
    while ((c = virtqueue_take(lane->vq, NULL))) {
        chain_done(lane, c);
        any = true;
    }
    if (any)
        start_waiting(lane);
    return any;
}

/* ---- a device that does not answer ------------------------------------------------------ */

static uint64_t features_wanted(void);

/* Reset it; everything in flight fails. All lanes are locked. */
static void restart_locked(struct disk *d)
{
    virtio_reset(d->virtio);
    d->failed = virtio_start(d->virtio, features_wanted()) < 0;
    for (unsigned i = 0; i < d->lanes; i++)
        if (!virtqueue_restart(d->lane[i].vq))
            d->failed = true;
    if (d->failed)
        virtio_fail(d->virtio);
    else
        virtio_run(d->virtio);
    for (unsigned i = 0; i < d->lanes; i++) {
        struct lane *lane = &d->lane[i];
        while (lane->oldest) {
            lane->oldest->status = STATUS_UNSET;
            chain_done(lane, lane->oldest);
        }
        start_waiting(lane);
    }
}

static bool is_late(struct lane *lane, uint64_t timeout)
{
    bool irq = spin_lock_irq(&lane->lock);
    const uint64_t now = base_now_ns();
    const bool late = lane->vq->broken || (lane->oldest && now > lane->oldest->sent_ns &&
                                           now - lane->oldest->sent_ns > timeout);
    spin_unlock_irq(&lane->lock, irq);
    return late;
}

static void check_late(struct lane *lane, uint64_t timeout)
{
    struct disk *d = lane->disk;
    if (!is_late(lane, timeout))
        return;
    base_mutex_lock(&d->lock);
    if (is_late(lane, timeout)) {
        base_log(BASE_LOG_ERROR, "%s: no answer for %lu ms; the device is reset", d->name,
                 timeout / 1000000);
        bool irq = irq_save();
        for (unsigned i = 0; i < d->lanes; i++)
            spin_lock(&d->lane[i].lock);
        restart_locked(d);
        for (unsigned i = d->lanes; i--;)
            spin_unlock(&d->lane[i].lock);
        irq_restore(irq);
        for (unsigned i = 0; i < d->lanes; i++)
            wait_wake(&d->lane[i].sleepers, UINT32_MAX);
    }
    base_mutex_unlock(&d->lock);
}

/* ---- the driver's table ----------------------------------------------------------------- */

static void lane_interrupt(void *arg)
{
    struct lane *lane = arg;
    wait_wake(&lane->sleepers, UINT32_MAX);
}

static struct handle *handle_of(struct blk_queue *queue)
{
    return queue->dev->priv;
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct lane_queue *lq = queue->priv;
    struct lane *lane = lq->lane;
    bool irq = spin_lock_irq(&lane->lock);
    for (unsigned i = 0; i < n; i++) {
        struct slot *s = blk_slot(queue, reqs[i]);
        *s = (struct slot){.req = reqs[i], .owner = lq};
        if (reqs[i]->op == BLK_FLUSH && !lane->disk->flush)
            finish(lane, s); /* nothing is ever held back */
        else
            wait_last(lane, s);
    }
    start_waiting(lane);
    spin_unlock_irq(&lane->lock, irq);
}

/* Take what is done; how many. Others on the lane are told of theirs. */
static unsigned take_done(struct blk_queue *queue)
{
    struct lane_queue *lq = queue->priv;
    struct lane *lane = lq->lane;
    if (!virtqueue_pending(lane->vq) && !__atomic_load_n(&lq->done, __ATOMIC_RELAXED))
        return 0;
    bool irq = spin_lock_irq(&lane->lock);
    const bool any = collect(lane);
    struct slot *s = lq->done;
    lq->done = NULL;
    lq->done_last = &lq->done;
    const bool shared = any && lane->users > 1;
    spin_unlock_irq(&lane->lock, irq);
    if (shared)
        wait_wake(&lane->sleepers, UINT32_MAX);
    unsigned n = 0;
    struct disk *d = lane->disk;
    while (s) {
        struct slot *next = s->next;
        __atomic_fetch_add(s->req->op == BLK_READ ? &d->reads : &d->writes, 1, __ATOMIC_RELAXED);
        blk_complete(queue, s->req, s->error);
        s = next;
        n++;
    }
    return n;
}

/* Sleep until an interrupt, but not long: a lane without one is looked at often, and one whose
 * interrupt was lost (QEMU loses those of microvm's first transport) now and then. */
static void sleep_on(struct lane *lane, struct lane_queue *lq, uint64_t until)
{
    bool irq = spin_lock_irq(&lane->sleepers.lock);
    spin_lock(&lane->lock);
    const bool ready = lq->done || !virtqueue_arm(lane->vq);
    spin_unlock(&lane->lock);
    if (ready) {
        spin_unlock_irq(&lane->sleepers.lock, irq);
        return;
    }
    const uint64_t look = base_now_ns() + (lane->vq->vector ? 10000000 : 100000);
    wait_sleep(&lane->sleepers, min_u64(until, look), irq);
}

static void progress(struct blk_queue *queue, int64_t timeout)
{
    struct lane_queue *lq = queue->priv;
    struct lane *lane = lq->lane;
    const uint64_t limit = handle_of(queue)->timeout;
    if (take_done(queue) || timeout == 0)
        return;
    const uint64_t start = base_now_ns();
    const uint64_t end = timeout < 0 ? UINT64_MAX : start + (uint64_t)timeout;
    for (;;) {
        if (take_done(queue))
            return;
        const uint64_t now = base_now_ns();
        if (now >= end)
            return;
        if (now - start > limit)
            check_late(lane, limit);
        if (lq->mode == MODE_INTERRUPT || (lq->mode == MODE_AUTO && now - start > SPIN_NS))
            sleep_on(lane, lq, min_u64(end, now + limit + 1000000));
        else if (thread_others_wait())
            thread_yield();
        else
            cpu_pause();
    }
}

static int queue_open(struct blk_queue *queue)
{
    struct handle *h = handle_of(queue);
    struct lane_queue *lq = queue->priv;
    struct disk *d = h->disk;
    base_mutex_lock(&d->lock);
    struct lane *best = &d->lane[0];
    for (unsigned i = 1; i < d->lanes; i++)
        if (d->lane[i].users < best->users)
            best = &d->lane[i];
    bool irq = spin_lock_irq(&best->lock);
    best->users++;
    lq->lane = best;
    lq->mode = h->mode;
    lq->done_last = &lq->done;
    virtqueue_disarm(best->vq);
    spin_unlock_irq(&best->lock, irq);
    base_mutex_unlock(&d->lock);
    return 0;
}

static void queue_close(struct blk_queue *queue)
{
    struct lane_queue *lq = queue->priv;
    bool irq = spin_lock_irq(&lq->lane->lock);
    lq->lane->users--;
    spin_unlock_irq(&lq->lane->lock, irq);
}

static int open_device(struct blk *dev, struct blk_error *err)
{
    static const char *const modes[] = {"auto", "poll", "interrupt"};
    struct disk *d = container_of(dev->driver, struct disk, driver);
    struct handle *h = dev->priv;
    unsigned mode = 0;
    while (mode < ARRAY_SIZE(modes) && strcmp(h->mode_text, modes[mode]))
        mode++;
    if (mode == ARRAY_SIZE(modes))
        return blk_error_set(err, -EINVAL, "mode is auto, poll or interrupt, not '%s'",
                             h->mode_text);
    h->disk = d;
    h->mode = (enum mode)mode;
    struct blk_info *i = &dev->info;
    i->size = round_down(d->sectors * SECTOR, d->block_size);
    i->block_size = d->block_size;
    i->physical_block_size = d->physical_block_size;
    i->optimal_io = d->optimal_io;
    i->max_transfer = 1u << 30;
    i->max_iov = 1024;
    i->max_queues = QUEUES_MAX;
    i->read_only = d->read_only;
    i->volatile_cache = d->flush;
    i->discard_granularity =
        d->discard_max ? (uint32_t)max_u64(d->discard_alignment * SECTOR, d->block_size) : 0;
    i->write_zeroes = i->fast_zero = d->zeroes_max > 0;
    return 0;
}

static void report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    const struct disk *d = container_of(dev->driver, struct disk, driver);
    char text[96];
    snprintf(text, sizeof(text), "%s: %lu reads, %lu writes", d->name, d->reads, d->writes);
    line(arg, text);
}

static const struct blk_option options[] = {
    {"mode", BLK_OPT_STRING, offsetof(struct handle, mode_text), "auto",
     "how to wait: poll, interrupt, or auto (first one, then the other)"},
    {"timeout", BLK_OPT_TIME, offsetof(struct handle, timeout), "30s",
     "a device that is silent for so long is reset"},
    {0},
};

static const struct blk_driver table = {
    .summary = "a virtio disk",
    .options = options,
    .priv_size = sizeof(struct handle),
    .queue_size = sizeof(struct lane_queue),
    .slot_size = sizeof(struct slot),
    .open = open_device,
    .queue_open = queue_open,
    .queue_close = queue_close,
    .submit = submit,
    .progress = progress,
    .report = report,
};

/* ---- start ------------------------------------------------------------------------------ */

static uint64_t features_wanted(void)
{
    return UINT64_C(1) << F_SIZE_MAX | UINT64_C(1) << F_SEG_MAX | UINT64_C(1) << F_RO |
           UINT64_C(1) << F_BLK_SIZE | UINT64_C(1) << F_FLUSH | UINT64_C(1) << F_TOPOLOGY |
           UINT64_C(1) << F_MQ | UINT64_C(1) << F_DISCARD | UINT64_C(1) << F_WRITE_ZEROES;
}

static uint32_t config32(struct virtio *v, unsigned offset)
{
    return (uint32_t)virtio_config(v, offset, 4);
}

static void read_limits(struct disk *d)
{
    struct virtio *v = d->virtio;
    d->sectors = virtio_config(v, CONFIG_CAPACITY, 8);
    d->block_size = virtio_has(v, F_BLK_SIZE) ? config32(v, CONFIG_BLK_SIZE) : SECTOR;
    if (!is_pow2(d->block_size) || d->block_size < SECTOR || d->block_size > 65536)
        d->block_size = SECTOR;
    d->physical_block_size = d->block_size;
    if (virtio_has(v, F_TOPOLOGY)) {
        const unsigned exponent = (unsigned)virtio_config(v, CONFIG_PHYSICAL_EXPONENT, 1);
        if (exponent < 8)
            d->physical_block_size = d->block_size << exponent;
        const uint64_t optimal = (uint64_t)config32(v, CONFIG_OPTIMAL_IO) * d->block_size;
        if (optimal <= 1 << 24)
            d->optimal_io = (uint32_t)optimal;
    }
    d->size_max = virtio_has(v, F_SIZE_MAX) ? config32(v, CONFIG_SIZE_MAX) : 1u << 30;
    d->size_max = (uint32_t)round_down(min_u64(max_u64(d->size_max, 4096), 1u << 30), 512);
    d->seg_max = virtio_has(v, F_SEG_MAX) ? config32(v, CONFIG_SEG_MAX) : 1;
    d->seg_max = (uint32_t)min_u64(max_u64(d->seg_max, 1), TABLE_SEGMENTS);
    d->read_only = virtio_has(v, F_RO);
    d->flush = virtio_has(v, F_FLUSH);
    if (virtio_has(v, F_DISCARD)) {
        d->discard_max = config32(v, CONFIG_MAX_DISCARD);
        d->discard_alignment = (uint32_t)min_u64(config32(v, CONFIG_DISCARD_ALIGNMENT), 1u << 20);
    }
    if (virtio_has(v, F_WRITE_ZEROES)) {
        d->zeroes_max = config32(v, CONFIG_MAX_ZEROES);
        d->zeroes_may_unmap = virtio_config(v, CONFIG_ZEROES_MAY_UNMAP, 1) & 1;
    }
}

static void set_up_lane(struct lane *lane)
{
    lane->waiting_last = &lane->waiting;
    for (unsigned i = 0; i < RING_SIZE; i++) {
        lane->chains[i].next = lane->free;
        lane->free = &lane->chains[i];
    }
    for (unsigned i = 0; i < TABLES; i++)
        lane->free_tables[i] = (uint16_t)i;
    lane->free_table_count = TABLES;
}

static int make_lane(struct disk *d, unsigned index)
{
    struct lane *lane = &d->lane[index];
    unsigned cpu = index % cpu_count;
    while (!cpus[cpu])
        cpu = (cpu + 1) % CPU_MAX;
    lane->disk = d;
    lane->chains = base_alloc_aligned(256, RING_SIZE * sizeof(struct chain));
    lane->tables = base_alloc_array(TABLES * (TABLE_SEGMENTS + 2), sizeof(struct virtq_desc));
    if (!lane->chains || !lane->tables)
        return -ENOMEM;
    lane->vq =
        virtqueue_make(d->virtio, index, RING_SIZE, lane_interrupt, lane, cpus[cpu]->apic_id);
    if (!lane->vq)
        return -ENOMEM;
    set_up_lane(lane);
    return 0;
}

static void print_found(const struct disk *d, uint64_t offered)
{
    char at[64];
    snprintf(at, sizeof(at), "%s", d->virtio->where);
    print("VirtIO block device at %s\n", at);
    print("  Capacity: %lu sectors (%lu MB)\n", d->sectors, d->sectors * SECTOR >> 20);
    print("  Sector size: %u bytes\n", d->block_size);
    print("  Features: 0x%lx\n", offered);
    print("Registered block device: %s (%lu MB, %lu sectors)\n", d->name, d->sectors * SECTOR >> 20,
          d->sectors);
}

bool virtio_blk_start(struct virtio *v)
{
    if (disk_count == DISKS_MAX)
        return false;
    struct disk *d = base_alloc(sizeof(*d));
    int error = d ? virtio_start(v, features_wanted()) : -ENOMEM;
    if (!error) {
        d->virtio = v;
        base_mutex_init(&d->lock);
        read_limits(d);
        const unsigned offered =
            virtio_has(v, F_MQ) ? (unsigned)virtio_config(v, CONFIG_NUM_QUEUES, 2) : 1;
        const unsigned wanted = (unsigned)min_u64(min_u64(offered, cpu_count), LANES_MAX);
        while (d->lanes < wanted && !error) {
            error = make_lane(d, d->lanes);
            d->lanes += !error;
        }
        error = d->lanes ? 0 : error;
    }
    if (error) {
        base_log(BASE_LOG_ERROR, "virtio disk at %s: it does not start: %d", v->where, error);
        virtio_fail(v);
        return false; /* what a failed device got stays: it may still write there */
    }
    virtio_run(v);
    snprintf(d->name, sizeof(d->name), "vd%c", 'a' + disk_count);
    d->driver = table;
    d->driver.name = d->name;
    blk_driver_register(&d->driver);
    disks[disk_count++] = d;
    print_found(d, v->features);
    return true;
}

/* ---- for the shell ---------------------------------------------------------------------- */

bool disk_get(unsigned index, struct disk_facts *facts)
{
    if (index >= disk_count)
        return false;
    const struct disk *d = disks[index];
    *facts = (struct disk_facts){.name = d->name,
                                 .sectors = d->sectors,
                                 .sector_size = d->block_size,
                                 .read_only = d->read_only,
                                 .reads = d->reads,
                                 .writes = d->writes,
                                 .queues = d->lanes,
                                 .where = d->virtio->where};
    return true;
}
