/*
 * fault?op=write&nth=3&errno=EIO,DEVICE - a device that fails as told.
 *
 * Requests that match `op` and lie in the range are counted, over all queues of the device; those
 * that nth, every and fraction choose are hit. A request that is hit fails with the errno, and
 *
 *     nothing of it reaches the device, or
 *     torn=BYTES   only its first bytes do;
 *     cut=on       and the power is gone: from then on everything fails, or
 *     cut=silent   everything that modifies reports success and is forgotten, the hit one too.
 *
 * A torn write is carried out at once on a queue of its own: submit waits for it.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

enum power { POWER_ON, POWER_OFF, POWER_SILENT };

struct fault {
    const char *op;
    uint64_t nth;
    uint64_t every;
    double fraction;
    const char *error_name;
    uint64_t torn;
    const char *cut;
    uint64_t seed;
    uint64_t offset;
    uint64_t size;

    uint32_t ops; /* bit 1 << op */
    int error;    /* negative errno */
    enum power after;
    uint64_t count;   /* matching requests so far; atomic */
    uint64_t hits;    /* atomic */
    enum power power; /* atomic */
};

struct fault_queue {
    struct blk_queue *own; /* for torn writes; NULL unless torn was given */
};

/* ---- options --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int error;
} errors[] = {
    {"EIO", EIO},       {"ENOSPC", ENOSPC},   {"ETIMEDOUT", ETIMEDOUT}, {"EROFS", EROFS},
    {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN},   {"EINVAL", EINVAL},       {"EPERM", EPERM},
    {"EBUSY", EBUSY},   {"ENOTSUP", ENOTSUP}, {"ENODEV", ENODEV},       {"EILSEQ", EILSEQ},
};

static int parse_error(const char *name)
{
    uint64_t number;
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++)
        if (!strcmp(errors[i].name, name))
            return -errors[i].error;
    return blk_parse_size(name, &number) == 0 && number > 0 && number < 4096 ? -(int)number : 0;
}

/* "read+write", "any". 0 if a word is none of the operations. */
static uint32_t parse_ops(const char *list)
{
    uint32_t ops = 0;
    if (!strcmp(list, "any"))
        return (1u << BLK_OP_COUNT) - 1;
    while (*list) {
        size_t len = strcspn(list, "+");
        unsigned op = 0;
        while (op < BLK_OP_COUNT &&
               (strlen(blk_op_name(op)) != len || memcmp(blk_op_name(op), list, len)))
            op++;
        if (op == BLK_OP_COUNT)
            return 0;
        ops |= 1u << op;
        list += len + (list[len] == '+');
    }
    return ops;
}

static int open_device(struct blk *dev, struct blk_error *err)
{
    struct fault *f = dev->priv;
    f->ops = parse_ops(f->op);
    if (!f->ops)
        return blk_error_set(err, -EINVAL,
                             "op must be any, or of read, write, flush, discard, write-zeroes, "
                             "..., joined by '+', not '%.64s'",
                             f->op);
    f->error = parse_error(f->error_name);
    if (!f->error)
        return blk_error_set(err, -EINVAL, "errno must be like EIO, ENOSPC or 5, not '%.64s'",
                             f->error_name);
    if (!strcmp(f->cut, "on"))
        f->after = POWER_OFF;
    else if (!strcmp(f->cut, "silent"))
        f->after = POWER_SILENT;
    else if (strcmp(f->cut, "off"))
        return blk_error_set(err, -EINVAL, "cut must be off, on or silent, not '%.64s'", f->cut);
    return 0;
}

static int open_queue(struct blk_queue *queue)
{
    const struct fault *f = queue->dev->priv;
    struct fault_queue *q = queue->priv;
    return f->torn ? blk_queue_open(queue->dev->child, 1, &q->own) : 0;
}

static void close_queue(struct blk_queue *queue)
{
    struct fault_queue *q = queue->priv;
    if (q->own)
        blk_queue_close(q->own);
}

/* ---- who is hit ------------------------------------------------------------------------ */

static bool matches(const struct fault *f, const struct blk_req *r)
{
    if (!(f->ops >> r->op & 1))
        return false;
    uint64_t end = f->size && f->size < UINT64_MAX - f->offset ? f->offset + f->size : UINT64_MAX;
    return r->op == BLK_FLUSH || (r->offset < end && r->offset + r->len > f->offset);
}

/* The same seed hits the same requests, counted in order, whatever thread they come from. */
static bool chosen(const struct fault *f, uint64_t number)
{
    uint64_t state = f->seed + number * UINT64_C(0x9e3779b97f4a7c15);
    if (!f->nth && !f->every && f->fraction <= 0)
        return true;
    if (f->nth && number == f->nth)
        return true;
    if (f->every && number % f->every == 0)
        return true;
    return f->fraction > 0 && (double)(random_next(&state) >> 11) < f->fraction * 0x1p53;
}

/* ---- what happens ---------------------------------------------------------------------- */

/* The first bytes of a write reach the device, the last block of them only in part. */
static void tear(struct blk_queue *queue, const struct blk_req *r)
{
    const struct fault *f = queue->dev->priv;
    struct fault_queue *q = queue->priv;
    uint64_t block = queue->dev->info.block_size;
    uint64_t bytes = min_u64(f->torn, r->len);
    uint64_t whole = round_up(bytes, block);
    if (!bytes || (r->op != BLK_WRITE && r->op != BLK_WRITE_ZEROES))
        return;
    char *data = base_alloc_aligned(BASE_PAGE, whole);
    if (!data)
        return;
    if (bytes == whole ||
        blk_read(q->own, r->offset + whole - block, data + whole - block, block) == 0) {
        memset(data, 0, bytes);
        if (r->op == BLK_WRITE)
            blk_copy_from_iov(r->iov, r->niov, 0, data, bytes);
        blk_write(q->own, r->offset, data, whole, 0);
    }
    base_free(data);
}

static void hit(struct blk_queue *queue, struct blk_req *r)
{
    struct fault *f = queue->dev->priv;
    __atomic_fetch_add(&f->hits, 1, __ATOMIC_RELAXED);
    if (f->torn)
        tear(queue, r);
    if (f->after != POWER_ON)
        __atomic_store_n(&f->power, f->after, __ATOMIC_RELEASE);
    blk_complete(queue, r, f->after == POWER_SILENT && blk_op_modifies(r->op) ? 0 : f->error);
}

/* True if the request has been answered here. */
static bool answered(struct blk_queue *queue, struct blk_req *r)
{
    struct fault *f = queue->dev->priv;
    enum power power = __atomic_load_n(&f->power, __ATOMIC_ACQUIRE);
    if (power == POWER_OFF) {
        blk_complete(queue, r, -EIO);
        return true;
    }
    if (power == POWER_SILENT) {
        if (!blk_op_modifies(r->op) && r->op != BLK_FLUSH)
            return false;
        blk_complete(queue, r, 0);
        return true;
    }
    if (!matches(f, r) || !chosen(f, __atomic_add_fetch(&f->count, 1, __ATOMIC_RELAXED)))
        return false;
    hit(queue, r);
    return true;
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!answered(queue, reqs[i]))
            blk_forward(queue, &reqs[i], 1);
}

static void report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    const struct fault *f = dev->priv;
    char text[128];
    snprintf(text, sizeof(text), "fault: %llu of %llu matching requests were hit%s",
             (unsigned long long)__atomic_load_n(&f->hits, __ATOMIC_RELAXED),
             (unsigned long long)__atomic_load_n(&f->count, __ATOMIC_RELAXED),
             __atomic_load_n(&f->power, __ATOMIC_RELAXED) == POWER_ON ? "" : "; the power is cut");
    line(arg, text);
}

static const struct blk_option fault_options[] = {
    {"op", BLK_OPT_STRING, offsetof(struct fault, op), "any",
     "operations that can be hit: any, or read, write, flush, discard, write-zeroes, ... joined by "
     "'+'"},
    {"nth", BLK_OPT_COUNT, offsetof(struct fault, nth), NULL, "hit the n-th, from 1"},
    {"every", BLK_OPT_COUNT, offsetof(struct fault, every), NULL, "hit every n-th"},
    {"fraction", BLK_OPT_FRACTION, offsetof(struct fault, fraction), NULL,
     "hit a random share; without nth, every and fraction all are hit"},
    {"seed", BLK_OPT_COUNT, offsetof(struct fault, seed), "1", "of the random share"},
    {"errno", BLK_OPT_STRING, offsetof(struct fault, error_name), "EIO",
     "what a hit request fails with: a name such as ENOSPC, or a number"},
    {"torn", BLK_OPT_SIZE, offsetof(struct fault, torn), NULL,
     "bytes of a hit write that reach the device all the same; none by default"},
    {"cut", BLK_OPT_STRING, offsetof(struct fault, cut), "off",
     "on: from the first hit on everything fails, as at a power cut; silent: it is forgotten but "
     "reported as done"},
    {"offset", BLK_OPT_SIZE, offsetof(struct fault, offset), "0",
     "only requests that touch the range from here on"},
    {"size", BLK_OPT_SIZE, offsetof(struct fault, size), NULL,
     "length of that range; to the end by default"},
    {0},
};

const struct blk_driver blk_fault = {
    .name = "fault",
    .summary = "fails, tears or drops chosen requests: for tests",
    .flags = BLK_DRIVER_FILTER,
    .options = fault_options,
    .priv_size = sizeof(struct fault),
    .queue_size = sizeof(struct fault_queue),
    .open = open_device,
    .queue_open = open_queue,
    .queue_close = close_queue,
    .submit = submit,
    .report = report,
};
