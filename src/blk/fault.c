/*
 * fault?op=write&nth=3&errno=EIO,DEVICE - operations fail on purpose: once, now and then, torn, or
 * all from one moment on as at a power cut.
 *
 * With zone_state it is zones that fail: from then on they answer as zones in that state do, and
 * reports show them so.
 *
 * A queue has a queue of its own on the device. A request goes there as a copy in its slot, which
 * a torn write uses for the several requests that it takes.
 */
#include <ashlar/blk_driver.h>
#include <ashlar/zone.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "blk/fault.h"

#define TEAR_BUFFER (64u << 10)

struct fault {
    /* Options. */
    const char *op_text, *errno_text, *drop_text, *cut_text, *zone_state_text;
    uint64_t nth, every, count, seed, torn, offset, size, zone, zones;
    uint32_t fraction;
    bool flip, armed;
    /* Made of them at open, constant from then on. */
    uint32_t ops; /* a bit for each enum blk_op that is meant */
    int error;
    bool cut;
    bool silent;
    uint64_t unit; /* smallest transfer that suits the device: block size and buffer alignment */
    enum blk_zone_state zone_state; /* 0: no zones fail */
    uint64_t zone_start, zone_end;  /* the bytes of those that do */
    bool zones_at_once;             /* no operation has to come first */
    /* State; atomic, shared by all queues. */
    bool on;
    bool is_cut;
    bool zones_failed;
    uint64_t matched; /* operations that matched */
    uint64_t tries;   /* of them, those that were due; over count they are let go */
    uint64_t fired;   /* of them, those that failed */
};

/* Belongs to the queue's thread. */
struct fault_queue {
    struct blk_queue *child;
    char *buffer;         /* of the torn write that is carried out; TEAR_BUFFER or one unit */
    size_t buffer_size;   /* multiple of unit */
    struct blk_req *torn; /* torn writes: the first is carried out, the others wait */
    struct blk_req **torn_tail;
};

/* What becomes of a request. */
enum fate { PASS, FAIL, TEAR, FLIP, DROP };

struct fault_slot {
    struct blk_req sub; /* what goes to the device; its user is the request */
    enum fate fate;
    int error;       /* FAIL: what with */
    uint64_t number; /* among the matching ones: chooses the bit to flip */
    uint64_t done;   /* of a torn write: bytes that are on the device */
};

/* ---- options --------------------------------------------------------------------------- */

#define OPS_ANY (((1u << BLK_OP_COUNT) - 1) & ~(1u << BLK_STATUS))

static int parse_op(const char *name, size_t len, uint32_t *ops)
{
    for (unsigned op = 0; op < BLK_OP_COUNT; op++)
        if (strlen(blk_op_name(op)) == len && !memcmp(blk_op_name(op), name, len)) {
            *ops |= 1u << op;
            return 0;
        }
    if (len != 3 || memcmp(name, "any", 3))
        return -EINVAL;
    *ops |= OPS_ANY;
    return 0;
}

/* A list such as "write+flush". */
static int parse_ops(struct fault *f, struct blk_error *err)
{
    const char *text = f->op_text;
    if (!text)
        text = f->torn ? "write" : f->flip ? "read" : "any";
    for (size_t len;; text += len + 1) {
        len = strcspn(text, "+");
        if (parse_op(text, len, &f->ops) < 0)
            return blk_error_set(err, -EINVAL,
                                 "op must be operations such as write or read+flush, or any, not "
                                 "'%.64s'",
                                 f->op_text);
        if (!text[len])
            return 0;
    }
}

#define NAMED(value)                                                                               \
    {                                                                                              \
        .name = #value, .number = value                                                            \
    }

static const struct {
    const char *name;
    int number;
} errors[] = {
    NAMED(EIO),    NAMED(ENOSPC),    NAMED(ETIMEDOUT),    NAMED(EROFS),     NAMED(ENOMEM),
    NAMED(EINVAL), NAMED(ENOTSUP),   NAMED(EOPNOTSUPP),   NAMED(EAGAIN),    NAMED(EBUSY),
    NAMED(EPERM),  NAMED(EACCES),    NAMED(ENODEV),       NAMED(ENXIO),     NAMED(EFBIG),
    NAMED(EILSEQ), NAMED(EPIPE),     NAMED(EBADMSG),      NAMED(ENODATA),   NAMED(EINTR),
    NAMED(ERANGE), NAMED(EDQUOT),    NAMED(ENOLINK),      NAMED(EREMOTEIO), NAMED(EXDEV),
    NAMED(ESPIPE), NAMED(EOVERFLOW), NAMED(ETOOMANYREFS), NAMED(EBADFD),
};

static int parse_errno(struct fault *f, struct blk_error *err)
{
    uint64_t number;
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++)
        if (!strcmp(f->errno_text, errors[i].name)) {
            f->error = -errors[i].number;
            return 0;
        }
    if (blk_parse_size(f->errno_text, &number) < 0 || !number || number > 4095)
        return blk_error_set(err, -EINVAL,
                             "errno must be a name such as EIO or ENOSPC, or a number from 1 to "
                             "4095, not '%.64s'",
                             f->errno_text);
    f->error = -(int)number;
    return 0;
}

static int parse_modes(struct fault *f, struct blk_error *err)
{
    bool drop = !strcmp(f->drop_text, "silent"), cut = !strcmp(f->cut_text, "silent");
    if (!drop && strcmp(f->drop_text, "fail"))
        return blk_error_set(err, -EINVAL, "drop must be fail or silent, not '%.64s'",
                             f->drop_text);
    if (!cut && strcmp(f->cut_text, "off") && strcmp(f->cut_text, "on"))
        return blk_error_set(err, -EINVAL, "cut must be off, on or silent, not '%.64s'",
                             f->cut_text);
    f->cut = strcmp(f->cut_text, "off") != 0;
    f->silent = drop || cut;
    return 0;
}

/* Options that contradict each other. */
static int check_options(const struct fault *f, struct blk_error *err)
{
    if ((f->nth != 0) + (f->every != 0) + (f->fraction < BLK_FRACTION_ONE) > 1)
        return blk_error_set(err, -EINVAL, "only one of nth, every and fraction can be given");
    if (f->silent && (f->torn || f->flip))
        return blk_error_set(err, -EINVAL,
                             "what is dropped silently goes with neither torn nor flip");
    if (f->flip && (f->torn || f->cut))
        return blk_error_set(err, -EINVAL, "flip goes with neither torn nor cut");
    if (f->torn && !(f->ops & 1u << BLK_WRITE))
        return blk_error_set(err, -EINVAL, "torn needs op=write");
    if (f->flip && f->ops != 1u << BLK_READ)
        return blk_error_set(err, -EINVAL, "flip is for op=read alone");
    return 0;
}

static int parse_zones(const struct blk_info *i, struct fault *f, struct blk_error *err)
{
    if (!f->zone_state_text)
        return 0;
    if (!strcmp(f->zone_state_text, "offline"))
        f->zone_state = BLK_ZONE_OFFLINE;
    else if (!strcmp(f->zone_state_text, "read-only"))
        f->zone_state = BLK_ZONE_READ_ONLY;
    else
        return blk_error_set(err, -EINVAL, "zone_state must be read-only or offline, not '%.64s'",
                             f->zone_state_text);
    if (!i->zoned)
        return blk_error_set(err, -EINVAL, "zone_state is for zoned devices");
    if (!range_ok(f->zone, f->zones, i->zone_count) || !f->zones)
        return blk_error_set(err, -ERANGE, "zone %llu is past the last of %u zones",
                             (unsigned long long)f->zone, i->zone_count);
    if (f->torn || f->flip || f->cut || f->silent)
        return blk_error_set(err, -EINVAL, "zone_state goes with none of torn, flip, cut and drop");
    f->zone_start = f->zone * i->zone_size;
    f->zone_end = f->zone_start + f->zones * i->zone_size;
    f->zones_at_once = !f->nth && !f->every && f->fraction == BLK_FRACTION_ONE;
    f->zones_failed = f->zones_at_once;
    if (!f->offset && !f->size) {
        f->offset = f->zone_start;
        f->size = f->zone_end - f->zone_start;
    }
    return 0;
}

static int fault_open(struct blk *dev, struct blk_error *err)
{
    struct fault *f = dev->priv;
    int error = parse_ops(f, err);
    if (error == 0)
        error = parse_errno(f, err);
    if (error < 0)
        return error;
    error = parse_modes(f, err);
    if (error == 0)
        error = parse_zones(&dev->info, f, err);
    if (error < 0)
        return error;
    f->unit = max_u64(dev->info.block_size, dev->info.buf_align);
    f->on = f->armed;
    return check_options(f, err);
}

static int fault_queue_open(struct blk_queue *queue)
{
    const struct fault *f = queue->dev->priv;
    struct fault_queue *q = queue->priv;
    q->torn_tail = &q->torn;
    if (f->torn) {
        size_t most = round_down(min_u64(TEAR_BUFFER, queue->dev->info.max_transfer), f->unit);
        q->buffer_size = max_u64(most, f->unit);
        q->buffer = base_alloc_aligned(max_u64(BASE_PAGE, f->unit), q->buffer_size);
        if (!q->buffer)
            return -ENOMEM;
    }
    int error = blk_queue_open(queue->dev->child, queue->depth, &q->child);
    if (error < 0)
        base_free(q->buffer);
    return error;
}

static void fault_queue_close(struct blk_queue *queue)
{
    struct fault_queue *q = queue->priv;
    blk_queue_close(q->child);
    base_free(q->buffer);
}

/* ---- which requests -------------------------------------------------------------------- */

static bool has_range(const struct blk_req *r)
{
    return r->op != BLK_FLUSH && !(r->flags & BLK_ZONE_ALL);
}

/* A zone operation is taken to be at its zone's first byte. */
static bool in_range(const struct fault *f, const struct blk_req *r)
{
    if (!f->offset && !f->size)
        return true;
    if (!has_range(r))
        return false;
    uint64_t len = r->op < BLK_ZONE_APPEND ? r->len : 1;
    uint64_t end = f->size ? f->offset + min_u64(f->size, UINT64_MAX - f->offset) : UINT64_MAX;
    return r->offset < end && r->offset + len > f->offset;
}

/* Whether the number-th match is one that fails. The same seed chooses the same numbers. */
static bool is_due(const struct fault *f, uint64_t number)
{
    if (f->nth)
        return number >= f->nth && number - f->nth < max_u64(f->count, 1);
    if (f->every)
        return number % f->every == 0;
    uint64_t state = f->seed + number * UINT64_C(0x9e3779b97f4a7c15);
    return random_below(&state, BLK_FRACTION_ONE) < f->fraction;
}

/* Count a matching request; whether this one fails. */
static bool fires(struct fault *f, const struct blk_req *r, uint64_t *number)
{
    if (!(f->ops >> r->op & 1) || !in_range(f, r))
        return false;
    *number = __atomic_add_fetch(&f->matched, 1, __ATOMIC_RELAXED);
    if (!is_due(f, *number))
        return false;
    uint64_t most = f->count && !f->nth ? f->count : UINT64_MAX;
    if (__atomic_fetch_add(&f->tries, 1, __ATOMIC_RELAXED) >= most)
        return false;
    __atomic_fetch_add(&f->fired, 1, __ATOMIC_RELAXED);
    return true;
}

/* After the cut, or in its place where a single operation is dropped. A read cannot succeed
 * without its data, nor an append without a place. */
static enum fate drop(const struct fault *f, const struct blk_req *r)
{
    if (!f->silent || r->op == BLK_ZONE_APPEND)
        return FAIL;
    return blk_op_modifies(r->op) || r->op == BLK_FLUSH ? DROP : PASS;
}

/* What zones that have failed answer; 0: the device answers. */
static int zone_error(const struct fault *f, const struct blk_req *r)
{
    bool offline = f->zone_state == BLK_ZONE_OFFLINE;
    uint64_t len = r->op < BLK_ZONE_APPEND ? r->len : 1;
    if (!has_range(r) || r->op == BLK_STATUS || r->op == BLK_ZONE_REPORT ||
        r->offset >= f->zone_end || r->offset + len <= f->zone_start)
        return 0;
    if (r->op > BLK_ZONE_REPORT)
        return -BLK_ZONE_INVALID_STATE_TRANSITION;
    if (r->op == BLK_READ && !offline)
        return 0;
    return offline ? -BLK_ZONE_IS_OFFLINE : -BLK_ZONE_IS_READ_ONLY;
}

/* Zones that fail do so before the operation that makes them. */
static enum fate choose_zone(struct fault *f, const struct blk_req *r, struct fault_slot *s)
{
    if (!__atomic_load_n(&f->zones_failed, __ATOMIC_ACQUIRE)) {
        if (!fires(f, r, &s->number))
            return PASS;
        __atomic_store_n(&f->zones_failed, true, __ATOMIC_RELEASE);
    }
    s->error = zone_error(f, r);
    return s->error < 0 ? FAIL : PASS;
}

static enum fate choose(struct fault *f, const struct blk_req *r, struct fault_slot *s)
{
    uint64_t *number = &s->number;
    s->error = f->error;
    if (!__atomic_load_n(&f->on, __ATOMIC_ACQUIRE))
        return PASS;
    if (f->zone_state)
        return choose_zone(f, r, s);
    if (__atomic_load_n(&f->is_cut, __ATOMIC_ACQUIRE))
        return drop(f, r);
    if (!fires(f, r, number))
        return PASS;
    if (f->cut)
        __atomic_store_n(&f->is_cut, true, __ATOMIC_RELEASE);
    if (f->torn && r->op == BLK_WRITE)
        return TEAR;
    return f->flip ? FLIP : drop(f, r);
}

/* ---- the way down ---------------------------------------------------------------------- */

/* There is always room: each request has at most one of its own below. */
static void send(struct blk_queue *queue, struct fault_slot *s)
{
    struct fault_queue *q = queue->priv;
    struct blk_req *sub = &s->sub;
    blk_submit(q->child, &sub, 1);
}

/* The next step of the first torn write: whole units of what shall arrive are written; of a unit
 * that shall arrive in part the old contents are read, changed and written. */
static void tear_step(struct blk_queue *queue)
{
    const struct fault *f = queue->dev->priv;
    struct fault_queue *q = queue->priv;
    for (struct blk_req *r; (r = q->torn);) {
        struct fault_slot *s = blk_slot(queue, r);
        uint64_t left = min_u64(f->torn, r->len) - s->done;
        size_t whole = round_down(min_u64(left, q->buffer_size), f->unit);
        if (left) {
            enum blk_op op = whole ? BLK_WRITE : BLK_READ;
            if (whole)
                blk_copy_from_iov(r->iov, r->niov, s->done, q->buffer, whole);
            blk_req_data(&s->sub, op, r->offset + s->done, q->buffer, whole ? whole : f->unit);
            send(queue, s);
            return;
        }
        q->torn = r->next;
        if (!q->torn)
            q->torn_tail = &q->torn;
        blk_complete(queue, r, f->error);
    }
}

/* One of the requests of the first torn write is back. */
static void tear_done(struct blk_queue *queue, struct blk_req *r)
{
    const struct fault *f = queue->dev->priv;
    struct fault_queue *q = queue->priv;
    struct fault_slot *s = blk_slot(queue, r);
    uint64_t left = min_u64(f->torn, r->len) - s->done;
    if (s->sub.result < 0) {
        s->done += left; /* the device fails by itself; the write does so anyway */
    } else if (s->sub.op == BLK_READ) {
        blk_copy_from_iov(r->iov, r->niov, s->done, q->buffer, left);
        blk_req_write(&s->sub, r->offset + s->done, q->buffer, f->unit);
        send(queue, s);
        return;
    } else {
        s->done += min_u64(left, s->sub.len);
    }
    tear_step(queue);
}

static void tear(struct blk_queue *queue, struct blk_req *r)
{
    struct fault_queue *q = queue->priv;
    struct fault_slot *s = blk_slot(queue, r);
    bool first = !q->torn;
    s->done = 0;
    s->sub.user = r;
    r->next = NULL;
    *q->torn_tail = r;
    q->torn_tail = &r->next;
    if (first)
        tear_step(queue);
}

static void pass(struct blk_queue *queue, struct blk_req *r)
{
    struct fault_slot *s = blk_slot(queue, r);
    s->sub = *r;
    s->sub.user = r;
    send(queue, s);
}

static void fault_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct fault *f = queue->dev->priv;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        struct fault_slot *s = blk_slot(queue, r);
        s->fate = choose(f, r, s);
        if (s->fate == FAIL || s->fate == DROP)
            blk_complete(queue, r, s->fate == FAIL ? s->error : 0);
        else if (s->fate == TEAR)
            tear(queue, r);
        else
            pass(queue, r);
    }
}

/* ---- the way up ------------------------------------------------------------------------ */

/* Change one bit of what was read, chosen by the seed. */
static void flip_bit(const struct fault *f, const struct blk_req *r, uint64_t number)
{
    uint64_t state = f->seed ^ number << 32;
    uint64_t at = random_below(&state, r->len);
    uint8_t byte;
    blk_copy_from_iov(r->iov, r->niov, at, &byte, 1);
    byte ^= (uint8_t)(1u << random_below(&state, 8));
    blk_copy_to_iov(r->iov, r->niov, at, &byte, 1);
}

static void fix_report(const struct fault *f, const struct blk_req *r)
{
    struct blk_zone *z = r->iov[0].iov_base;
    if (!f->zone_state || !__atomic_load_n(&f->on, __ATOMIC_ACQUIRE) ||
        !__atomic_load_n(&f->zones_failed, __ATOMIC_ACQUIRE))
        return;
    for (uint32_t i = 0; i < r->count; i++)
        if (z[i].start >= f->zone_start && z[i].start < f->zone_end) {
            z[i].state = f->zone_state;
            if (f->zone_state == BLK_ZONE_OFFLINE)
                z[i].wp = z[i].start + z[i].len;
        }
}

static void come_back(struct blk_queue *queue, struct blk_req *r)
{
    struct fault_slot *s = blk_slot(queue, r);
    if (s->fate == TEAR) {
        tear_done(queue, r);
        return;
    }
    r->offset = s->sub.offset;
    r->count = s->sub.count;
    if (s->fate == FLIP && s->sub.result == 0)
        flip_bit(queue->dev->priv, r, s->number);
    if (r->op == BLK_ZONE_REPORT && s->sub.result == 0)
        fix_report(queue->dev->priv, r);
    blk_complete(queue, r, s->sub.result);
}

static void fault_progress(struct blk_queue *queue, int64_t timeout)
{
    struct fault_queue *q = queue->priv;
    uint64_t end = timeout > 0 ? base_now_ns() + (uint64_t)timeout : 0;
    struct blk_req *done[16];
    unsigned n;
    do {
        n = blk_reap(q->child, done, ARRAY_SIZE(done), queue->ready ? 0 : timeout);
        for (unsigned i = 0; i < n; i++)
            come_back(queue, done[i]->user);
        if (timeout > 0) {
            uint64_t now = base_now_ns();
            timeout = now < end ? (int64_t)(end - now) : 0;
        }
    } while (n == ARRAY_SIZE(done) || (!queue->ready && timeout && blk_queue_in_flight(q->child)));
}

static void fault_poll(struct blk_queue *queue, struct blk_poll *poll)
{
    const struct fault_queue *q = queue->priv;
    blk_queue_poll(q->child, poll);
}

/* ---- for tests, and the report --------------------------------------------------------- */

static struct fault *find(const struct blk *dev)
{
    while (dev && dev->driver->submit != fault_submit)
        dev = dev->child;
    return dev ? dev->priv : NULL;
}

void blk_fault_arm(struct blk *dev, bool on)
{
    struct fault *f = find(dev);
    if (!f)
        return;
    __atomic_store_n(&f->on, false, __ATOMIC_RELEASE);
    __atomic_store_n(&f->is_cut, false, __ATOMIC_RELAXED);
    __atomic_store_n(&f->zones_failed, f->zones_at_once, __ATOMIC_RELAXED);
    __atomic_store_n(&f->matched, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&f->tries, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&f->fired, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&f->on, on, __ATOMIC_RELEASE);
}

uint64_t blk_fault_matched(const struct blk *dev)
{
    const struct fault *f = find(dev);
    return f ? __atomic_load_n(&f->matched, __ATOMIC_RELAXED) : 0;
}

uint64_t blk_fault_fired(const struct blk *dev)
{
    const struct fault *f = find(dev);
    return f ? __atomic_load_n(&f->fired, __ATOMIC_RELAXED) : 0;
}

bool blk_fault_is_cut(const struct blk *dev)
{
    const struct fault *f = find(dev);
    return f && __atomic_load_n(&f->is_cut, __ATOMIC_ACQUIRE);
}

static void fault_report(const struct blk *dev, void (*line)(void *arg, const char *text),
                         void *arg)
{
    char text[128];
    snprintf(text, sizeof(text), "fault: %llu operations matched, %llu failed%s",
             (unsigned long long)blk_fault_matched(dev), (unsigned long long)blk_fault_fired(dev),
             blk_fault_is_cut(dev) ? ", power cut" : "");
    line(arg, text);
}

static const struct blk_option fault_options[] = {
    {"op", BLK_OPT_STRING, offsetof(struct fault, op_text), NULL,
     "operations that fail, such as write or read+flush, or any; default: any, with torn write, "
     "with flip read"},
    {"nth", BLK_OPT_COUNT, offsetof(struct fault, nth), NULL, "fail the nth of them, from 1"},
    {"every", BLK_OPT_COUNT, offsetof(struct fault, every), NULL, "fail each nth of them"},
    {"fraction", BLK_OPT_FRACTION, offsetof(struct fault, fraction), "1",
     "fail this part of them, by chance"},
    {"count", BLK_OPT_COUNT, offsetof(struct fault, count), NULL,
     "fail at most so many; with nth that many in a row (default 1)"},
    {"seed", BLK_OPT_COUNT, offsetof(struct fault, seed), "1", "of chance: same seed, same faults"},
    {"errno", BLK_OPT_STRING, offsetof(struct fault, errno_text), "EIO",
     "error to fail with, by name or number"},
    {"offset", BLK_OPT_SIZE, offsetof(struct fault, offset), NULL,
     "only operations that touch bytes from here on"},
    {"size", BLK_OPT_SIZE, offsetof(struct fault, size), NULL,
     "and only so many bytes; default: to the end"},
    {"torn", BLK_OPT_SIZE, offsetof(struct fault, torn), NULL,
     "of a failing write so many bytes reach the device"},
    {"cut", BLK_OPT_STRING, offsetof(struct fault, cut_text), "off",
     "on: from the first failure on all fails, as at a power cut; silent: writes and flushes "
     "report "
     "success and are forgotten"},
    {"drop", BLK_OPT_STRING, offsetof(struct fault, drop_text), "fail",
     "fail, or silent: report success for what never arrives"},
    {"flip", BLK_OPT_BOOL, offsetof(struct fault, flip), "off",
     "reads do not fail but have one wrong bit"},
    {"zone", BLK_OPT_COUNT, offsetof(struct fault, zone), "0",
     "with zone_state: the number of the zone"},
    {"zones", BLK_OPT_COUNT, offsetof(struct fault, zones), "1", "and how many from there on"},
    {"zone_state", BLK_OPT_STRING, offsetof(struct fault, zone_state_text), NULL,
     "read-only or offline: not operations fail, but zones, from then on"},
    {"armed", BLK_OPT_BOOL, offsetof(struct fault, armed), "on",
     "off: do nothing until a test arms it"},
    {0},
};

const struct blk_driver blk_fault = {
    .name = "fault",
    .summary = "fails operations on purpose",
    .flags = BLK_DRIVER_FILTER | BLK_DRIVER_OWN_CHILD_QUEUE,
    .options = fault_options,
    .priv_size = sizeof(struct fault),
    .queue_size = sizeof(struct fault_queue),
    .slot_size = sizeof(struct fault_slot),
    .open = fault_open,
    .queue_open = fault_queue_open,
    .queue_close = fault_queue_close,
    .submit = fault_submit,
    .progress = fault_progress,
    .poll = fault_poll,
    .report = fault_report,
};
