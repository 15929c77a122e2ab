/* Who may write to a zone, and the thread that does what blocks. */
#include "linux/file_zone.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <ashlar/zone.h>

#include "base/util.h"
#include "linux/zone_abi.h"

enum {
    LOCKS = 16,          /* of zones */
    REPORT_ZONES = 1024, /* asked of the kernel at once */
};

/* A zone. busy and waiting are guarded by the lock of its number. wp and end are too, unless it is
 * busy: then they belong to the request that has it. conventional never changes. */
struct zone {
    uint64_t wp;                   /* where the next write goes; end if none can */
    uint64_t end;                  /* of what can be written */
    bool conventional;             /* it has no write pointer; nothing else counts */
    bool busy;                     /* a request has it: the kernel, or the thread, is at work */
    struct file_zone_list waiting; /* for it */
};

struct file_zones {
    int fd;
    uint64_t size; /* of a zone */
    uint64_t device_size;
    uint32_t count;
    uint32_t max_open; /* 0: no limit */
    file_zone_start *start;
    struct zone *zone;
    struct base_mutex lock[LOCKS];

    struct base_thread thread;
    struct base_mutex work_lock;
    struct base_cond work_changed;
    struct file_zone_list work; /* guarded by work_lock, as is stop */
    bool stop;
    struct linux_zone_report *report; /* the thread's */
};

/* ---- lists ----------------------------------------------------------------------------- */

static void list_reset(struct file_zone_list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

static void list_put(struct file_zone_list *l, struct file_zone_slot *s)
{
    s->next = NULL;
    *l->last = s;
    l->last = &s->next;
}

static struct file_zone_slot *list_take(struct file_zone_list *l)
{
    struct file_zone_slot *s = l->first;
    if (s) {
        l->first = s->next;
        if (!l->first)
            l->last = &l->first;
    }
    return s;
}

/* ---- zones ----------------------------------------------------------------------------- */

static struct zone *zone_of(const struct file_zones *z, const struct blk_req *r)
{
    return &z->zone[r->offset / z->size];
}

static struct base_mutex *lock_of(struct file_zones *z, const struct zone *zone)
{
    return &z->lock[(size_t)(zone - z->zone) % LOCKS];
}

static bool is_write(const struct blk_req *r)
{
    return r->op == BLK_WRITE || r->op == BLK_ZONE_APPEND;
}

/* Of all zones, or of none that changes: it has no zone for itself. */
static bool is_of_device(const struct blk_req *r)
{
    return r->op == BLK_ZONE_REPORT || (r->flags & BLK_ZONE_ALL);
}

/* What the kernel says of a zone, in our words. */
static struct blk_zone translate(const struct linux_zone *k)
{
    uint64_t capacity = k->capacity ? k->capacity : k->len;
    struct blk_zone b = {
        .start = k->start << LINUX_SECTOR_SHIFT,
        .len = k->len << LINUX_SECTOR_SHIFT,
        .capacity = capacity << LINUX_SECTOR_SHIFT,
        .wp = k->wp << LINUX_SECTOR_SHIFT,
        .state = k->cond == LINUX_ZONE_NOT_WP ? BLK_ZONE_NO_WP : k->cond,
    };
    if (k->type == LINUX_ZONE_CONVENTIONAL)
        b.state = BLK_ZONE_NO_WP;
    if (b.state == BLK_ZONE_EMPTY)
        b.wp = b.start;
    /* Where nothing more can be written the kernel may say anything. */
    if (b.state == BLK_ZONE_FULL || b.state == BLK_ZONE_OFFLINE || b.state == BLK_ZONE_NO_WP ||
        b.wp < b.start || b.wp > b.start + b.capacity)
        b.wp = b.start + b.len;
    return b;
}

/* Ask for zones from offset on. Returns how many the kernel told, at least 1, or a negative errno.
 * The answer is in z->report, checked. */
static int report(struct file_zones *z, uint64_t offset, uint64_t max)
{
    struct linux_zone_report *r = z->report;
    uint64_t start = offset - offset % z->size;
    max = min_u64(min_u64(max, REPORT_ZONES), z->count - start / z->size);
    memset(r, 0, sizeof(*r));
    r->sector = start >> LINUX_SECTOR_SHIFT;
    r->nr_zones = (uint32_t)max;
    if (ioctl(z->fd, LINUX_BLKREPORTZONE, r) < 0)
        return -errno;
    if (!r->nr_zones || r->nr_zones > max)
        return -EIO;
    for (uint32_t i = 0; i < r->nr_zones; i++) {
        struct linux_zone *k = &r->zones[i];
        if (!(r->flags & LINUX_REPORT_CAPACITY))
            k->capacity = 0;
        if (k->start << LINUX_SECTOR_SHIFT != start + i * z->size || k->capacity > k->len ||
            !k->len || k->len > z->size >> LINUX_SECTOR_SHIFT)
            return -EIO;
    }
    return (int)r->nr_zones;
}

/* Put what is known of a zone right; of one that a request has, only if that is mine. */
static void learn(struct file_zones *z, const struct blk_zone *b, bool mine)
{
    struct zone *zone = &z->zone[b->start / z->size];
    bool writable =
        b->state != BLK_ZONE_FULL && b->state != BLK_ZONE_READ_ONLY && b->state != BLK_ZONE_OFFLINE;
    base_mutex_lock(lock_of(z, zone));
    if (mine || !zone->busy) {
        zone->end = b->start + b->capacity;
        zone->wp = writable ? min_u64(b->wp, zone->end) : zone->end;
    }
    base_mutex_unlock(lock_of(z, zone));
}

static int learn_all(struct file_zones *z, bool first)
{
    for (uint64_t at = 0; at < z->device_size;) {
        int n = report(z, at, REPORT_ZONES);
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++) {
            struct blk_zone b = translate(&z->report->zones[i]);
            if (first)
                z->zone[b.start / z->size].conventional = b.state == BLK_ZONE_NO_WP;
            learn(z, &b, first);
        }
        at += (uint64_t)n * z->size;
    }
    return 0;
}

/* ---- from thread to thread ------------------------------------------------------------- */

/* Hand a request to the thread of its queue. */
static void hand_over(struct file_zone_slot *s)
{
    struct file_zone_queue *q = s->owner;
    base_mutex_lock(&q->lock);
    bool first = !q->inbox.first;
    list_put(&q->inbox, s);
    base_mutex_unlock(&q->lock);
    if (first)
        eventfd_write(q->event, 1); /* never blocks: it is read before the inbox is emptied */
}

/* A request does not need its zone any more: the next gets it. Returns that, or NULL. */
static struct file_zone_slot *pass_on(struct file_zones *z, struct zone *zone)
{
    base_mutex_lock(lock_of(z, zone));
    struct file_zone_slot *next = list_take(&zone->waiting);
    zone->busy = next != NULL;
    base_mutex_unlock(lock_of(z, zone));
    return next;
}

/* ---- the thread ------------------------------------------------------------------------ */

/* Where a write would go, if the zone has room for it. */
static bool fits(const struct zone *zone, const struct blk_req *r, uint64_t *offset)
{
    *offset = r->op == BLK_WRITE ? r->offset : zone->wp;
    return *offset == zone->wp && r->len <= zone->end - zone->wp;
}

/* What is wrong with a write that the kernel refused, or was not even asked for. The kernel has EIO
 * for most of it. */
static int write_error(const struct blk_zone *b, const struct blk_req *r, int result)
{
    uint64_t end = b->start + b->capacity;
    switch (b->state) {
    case BLK_ZONE_OFFLINE:
        return -BLK_ZONE_IS_OFFLINE;
    case BLK_ZONE_READ_ONLY:
        return -BLK_ZONE_IS_READ_ONLY;
    case BLK_ZONE_FULL:
        return -BLK_ZONE_IS_FULL;
    default:
        break;
    }
    uint64_t offset = r->op == BLK_WRITE ? r->offset : b->wp;
    if (offset > end || r->len > end - offset)
        return -BLK_ZONE_BOUNDARY_ERROR;
    bool half = result < 0 && b->wp > offset && b->wp - offset <= r->len; /* it failed on its way */
    if (offset != b->wp && !half)
        return -BLK_ZONE_INVALID_WRITE;
    return result < 0 ? result : -EIO;
}

/* The same for an operation on a zone. */
static int manage_error(const struct blk_zone *b, unsigned op, int result)
{
    bool open = b->state == BLK_ZONE_IMPLICIT_OPEN || b->state == BLK_ZONE_EXPLICIT_OPEN;
    bool wrong = b->state == BLK_ZONE_OFFLINE || b->state == BLK_ZONE_READ_ONLY ||
                 (op == BLK_ZONE_OPEN && b->state == BLK_ZONE_FULL) ||
                 (op == BLK_ZONE_CLOSE && !open && b->state != BLK_ZONE_CLOSED);
    bool limit = result == -BLK_ZONE_TOO_MANY_OPEN || result == -BLK_ZONE_TOO_MANY_ACTIVE;
    return wrong && !limit ? -BLK_ZONE_INVALID_STATE_TRANSITION : result;
}

/* A write failed, or did not seem to fit. Returns whether it should be tried (again). */
static bool look(struct file_zones *z, struct file_zone_slot *s)
{
    struct blk_req *r = s->req;
    struct zone *zone = zone_of(z, r);
    uint64_t offset, tried = zone->wp; /* the zone is ours: nobody else changes it */
    int n = report(z, r->offset, 1);
    struct blk_zone b = translate(&z->report->zones[0]);
    if (n > 0)
        learn(z, &b, true);
    bool moved = n > 0 && (s->result == 0 || (r->op == BLK_ZONE_APPEND && zone->wp != tried));
    if (moved && !s->checked && fits(zone, r, &offset)) {
        s->checked = true;
        return true;
    }
    s->result = n > 0 ? write_error(&b, r, s->result) : s->result < 0 ? s->result : n;
    return false;
}

static int tell(struct file_zones *z, struct blk_req *r)
{
    struct blk_zone *b = r->iov[0].iov_base;
    size_t max = r->iov[0].iov_len / sizeof(*b);
    uint64_t at = r->offset;
    for (r->count = 0; r->count < max && at < z->device_size;) {
        int n = report(z, at, max - r->count);
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            b[r->count++] = translate(&z->report->zones[i]);
        at = b[r->count - 1].start + z->size;
    }
    return 0;
}

static int ask(const struct file_zones *z, unsigned op, uint64_t offset, uint64_t len)
{
    static const unsigned long requests[BLK_OP_COUNT] = {
        [BLK_ZONE_OPEN] = LINUX_BLKOPENZONE,
        [BLK_ZONE_CLOSE] = LINUX_BLKCLOSEZONE,
        [BLK_ZONE_FINISH] = LINUX_BLKFINISHZONE,
        [BLK_ZONE_RESET] = LINUX_BLKRESETZONE,
    };
    struct linux_zone_range range = {offset >> LINUX_SECTOR_SHIFT, len >> LINUX_SECTOR_SHIFT};
    return ioctl(z->fd, requests[op], &range) < 0 ? -errno : 0;
}

static int manage(struct file_zones *z, const struct blk_req *r)
{
    int error = ask(z, r->op, r->offset, min_u64(z->size, z->device_size - r->offset));
    int n = report(z, r->offset, 1);
    if (n < 0)
        return error < 0 ? error : n;
    struct blk_zone b = translate(&z->report->zones[0]);
    learn(z, &b, true);
    return error < 0 ? manage_error(&b, r->op, error) : 0;
}

/* Closed zones are opened all or none: would all explicitly open ones be too many? */
static int check_open_all(struct file_zones *z)
{
    uint32_t open = 0;
    for (uint64_t at = 0; z->max_open && at < z->device_size;) {
        int n = report(z, at, REPORT_ZONES);
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++) {
            struct blk_zone b = translate(&z->report->zones[i]);
            open += b.state == BLK_ZONE_CLOSED || b.state == BLK_ZONE_EXPLICIT_OPEN;
        }
        at += (uint64_t)n * z->size;
    }
    return z->max_open && open > z->max_open ? -BLK_ZONE_TOO_MANY_OPEN : 0;
}

static int manage_all(struct file_zones *z, unsigned op)
{
    int first_error = 0, error = op == BLK_ZONE_OPEN ? check_open_all(z) : 0;
    if (error < 0)
        return error;
    for (uint64_t at = 0; at < z->device_size;) {
        int n = report(z, at, REPORT_ZONES);
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++) {
            struct blk_zone b = translate(&z->report->zones[i]);
            error = blk_zone_is_meant(op, b.state) ? ask(z, op, b.start, b.len) : 0;
            if (error < 0 && first_error == 0)
                first_error = error;
        }
        at += (uint64_t)n * z->size;
    }
    error = learn_all(z, false);
    return first_error < 0 ? first_error : error;
}

/* Do what blocks. */
static void work(struct file_zones *z, struct file_zone_slot *s)
{
    struct blk_req *r = s->req;
    struct zone *zone = is_of_device(r) ? NULL : zone_of(z, r);
    s->over = true;
    if (is_write(r))
        s->over = !look(z, s);
    else if (r->op == BLK_ZONE_REPORT)
        s->result = tell(z, r);
    else if (r->flags & BLK_ZONE_ALL)
        s->result = manage_all(z, r->op);
    else
        s->result = manage(z, r);
    struct file_zone_slot *next = zone && s->over ? pass_on(z, zone) : NULL;
    if (next)
        hand_over(next);
    hand_over(s); /* from here on it is not ours */
}

static void thread_main(void *arg)
{
    struct file_zones *z = arg;
    for (;;) {
        base_mutex_lock(&z->work_lock);
        while (!z->work.first && !z->stop)
            base_cond_wait(&z->work_changed, &z->work_lock);
        struct file_zone_slot *s = list_take(&z->work);
        base_mutex_unlock(&z->work_lock);
        if (!s)
            return;
        work(z, s);
    }
}

/* ---- the device ------------------------------------------------------------------------ */

static void free_parts(struct file_zones *z)
{
    for (unsigned k = 0; k < LOCKS; k++)
        base_mutex_fini(&z->lock[k]);
    base_mutex_fini(&z->work_lock);
    base_cond_fini(&z->work_changed);
    base_free(z->zone);
    base_free(z->report);
    base_free(z);
}

int file_zones_open(struct blk *dev, int fd, file_zone_start *start, struct file_zones **zones,
                    struct blk_error *err)
{
    const struct blk_info *i = &dev->info;
    size_t room = sizeof(struct linux_zone_report) + REPORT_ZONES * sizeof(struct linux_zone);
    struct file_zones *z = base_alloc(sizeof(*z));
    if (!z)
        return blk_error_set(err, -ENOMEM, "out of memory");
    z->fd = fd;
    z->size = i->zone_size;
    z->device_size = i->size;
    z->count = i->zone_count;
    z->max_open = i->max_open_zones;
    z->start = start;
    for (unsigned k = 0; k < LOCKS; k++)
        base_mutex_init(&z->lock[k]);
    base_mutex_init(&z->work_lock);
    base_cond_init(&z->work_changed);
    list_reset(&z->work);
    z->zone = base_alloc_array(z->count, sizeof(*z->zone));
    z->report = base_alloc(room);
    int error = z->zone && z->report ? 0 : -ENOMEM;
    for (uint32_t k = 0; error == 0 && k < z->count; k++)
        list_reset(&z->zone[k].waiting);
    if (error == 0)
        error = learn_all(z, true);
    if (error == 0)
        error = base_thread_start(&z->thread, thread_main, z, -1);
    if (error < 0) {
        free_parts(z);
        return blk_error_set(err, error, "its zones cannot be read: %s", strerror(-error));
    }
    *zones = z;
    return 0;
}

void file_zones_close(struct file_zones *z)
{
    if (!z)
        return;
    base_mutex_lock(&z->work_lock);
    z->stop = true;
    base_cond_broadcast(&z->work_changed);
    base_mutex_unlock(&z->work_lock);
    base_thread_join(&z->thread);
    free_parts(z);
}

/* ---- the queue's thread ---------------------------------------------------------------- */

/* Let the ring tell when there is something in the inbox. Not while nothing can come: then no
 * entry is left in the ring when the queue is closed. */
static void watch(struct file_zone_queue *q)
{
    if (q->watching || !q->expected)
        return;
    struct io_uring_sqe *sqe = ring_sqe(q->ring);
    io_uring_prep_poll_add(sqe, q->event, POLLIN);
    sqe->user_data = (unsigned)q->user;
    q->watching = true;
}

static void give_to_thread(struct file_zone_slot *s)
{
    struct file_zone_queue *q = s->owner;
    struct file_zones *z = q->zones;
    q->expected++;
    watch(q);
    base_mutex_lock(&z->work_lock);
    list_put(&z->work, s);
    base_cond_broadcast(&z->work_changed);
    base_mutex_unlock(&z->work_lock);
}

/* The zone, if it needs one, is the request's. */
static void begin(struct file_zone_slot *s)
{
    struct file_zones *z = s->owner->zones;
    struct blk_req *r = s->req;
    uint64_t offset;
    if (!is_write(r) || !fits(zone_of(z, r), r, &offset)) {
        s->result = 0;
        give_to_thread(s);
        return;
    }
    r->offset = offset;
    z->start(s->owner->queue, r);
}

static void over(struct file_zone_slot *s)
{
    struct blk_req *r = s->req;
    if (r->op == BLK_ZONE_APPEND && s->result < 0)
        r->offset -= r->offset % s->owner->zones->size; /* as it was */
    blk_complete(s->owner->queue, r, s->result);
}

void file_zone_written(struct file_zone_slot *s, int result)
{
    struct file_zone_queue *q = s->owner;
    struct zone *zone = zone_of(q->zones, s->req);
    s->result = result;
    if (result < 0) {
        give_to_thread(s);
        return;
    }
    zone->wp = s->req->offset + s->req->len;
    struct file_zone_slot *next = pass_on(q->zones, zone);
    over(s);
    if (next && next->owner == q) {
        q->expected--;
        begin(next);
    } else if (next) {
        hand_over(next);
    }
}

void file_zone_event(struct file_zone_queue *q)
{
    eventfd_t count;
    q->watching = false;
    eventfd_read(q->event, &count);
    base_mutex_lock(&q->lock);
    struct file_zone_slot *s = q->inbox.first;
    list_reset(&q->inbox);
    base_mutex_unlock(&q->lock);
    while (s) {
        struct file_zone_slot *next = s->next;
        q->expected--;
        if (s->over)
            over(s);
        else
            begin(s);
        s = next;
    }
    watch(q);
}

bool file_zone_takes(const struct file_zones *z, const struct blk_req *r)
{
    if (r->op >= BLK_ZONE_APPEND)
        return true;
    return r->op == BLK_WRITE && !(zone_of(z, r)->conventional &&
                                   z->zone[(r->offset + r->len - 1) / z->size].conventional);
}

/* What needs no look at the zone's state. */
static int check(const struct file_zones *z, const struct zone *zone, const struct blk_req *r)
{
    if (r->op == BLK_WRITE && r->offset % z->size + r->len > z->size)
        return -BLK_ZONE_BOUNDARY_ERROR;
    if (!zone->conventional)
        return 0;
    return r->op == BLK_ZONE_APPEND ? -BLK_ZONE_INVALID_WRITE : -BLK_ZONE_INVALID_STATE_TRANSITION;
}

void file_zone_submit(struct file_zone_queue *q, struct file_zone_slot *s, struct blk_req *r)
{
    struct file_zones *z = q->zones;
    *s = (struct file_zone_slot){.owner = q, .req = r};
    if (is_of_device(r)) {
        give_to_thread(s);
        return;
    }
    struct zone *zone = zone_of(z, r);
    int error = check(z, zone, r);
    if (error < 0) {
        blk_complete(q->queue, r, error);
        return;
    }
    base_mutex_lock(lock_of(z, zone));
    bool wait = zone->busy;
    if (wait)
        list_put(&zone->waiting, s);
    zone->busy = true;
    base_mutex_unlock(lock_of(z, zone));
    if (wait) {
        q->expected++;
        watch(q);
    } else {
        begin(s);
    }
}

int file_zone_queue_open(struct file_zone_queue *q, struct file_zones *zones,
                         struct blk_queue *queue, struct ring *ring, int user)
{
    q->queue = queue;
    q->zones = zones;
    q->ring = ring;
    q->user = user;
    q->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->event < 0)
        return -errno;
    base_mutex_init(&q->lock);
    list_reset(&q->inbox);
    return 0;
}

/* Nothing is in flight. But the ring may still watch, for a request that came back another way. */
void file_zone_queue_close(struct file_zone_queue *q)
{
    if (q->watching)
        eventfd_write(q->event, 1);
    while (q->watching) {
        ring_wait(q->ring, -1);
        ring_take(q->ring);
    }
    close(q->event);
    base_mutex_fini(&q->lock);
}
