/*
 * log?to=SPEC,DEVICE - writes down, on another device, all that changes this one.
 *
 * A record is appended when the operation has completed below and before it completes above, so the
 * order in the log is the order of completion, and what a user was promised is in it. One operation
 * after the other is logged, and its thread waits for that: this is a tool for crash tests
 * (blk/log_replay.h), not for speed. When the log is full, operations fail with -ENOSPC.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/platform.h"
#include "base/util.h"
#include "blk/log_format.h"

struct log {
    const char *to;
    struct blk *log;
    uint32_t unit;

    struct base_mutex lock;  /* guards all below */
    struct blk_queue *queue; /* on the log */
    uint64_t id;
    uint64_t end;      /* where the next record goes */
    uint64_t sequence; /* of the next record; atomic, so that a flush may look */
    char *buffer;      /* one record */
    size_t buffer_size;
};

struct log_slot {
    uint64_t covers; /* flush: records that had been written when it began */
};

/* ---- device ---------------------------------------------------------------------------- */

static int write_header(struct blk *dev)
{
    struct log *l = dev->priv;
    char *h = l->buffer;
    memset(h, 0, LOG_HEADER_SIZE);
    memcpy(h + LOG_AT_MAGIC, LOG_MAGIC, 8);
    store_le32(h + LOG_AT_VERSION, LOG_VERSION);
    store_le64(h + LOG_AT_ID, l->id);
    store_le64(h + LOG_AT_DEVICE_SIZE, dev->info.size);
    store_le32(h + LOG_AT_DEVICE_BLOCK, dev->info.block_size);
    store_le32(h + LOG_AT_UNIT, l->unit);
    store_le32(h + LOG_AT_CRC, crc32c(0, h, LOG_HEADER_USED));
    l->end = LOG_HEADER_SIZE;
    return blk_write(l->queue, 0, h, LOG_HEADER_SIZE, 0);
}

static void release(struct log *l)
{
    if (l->queue)
        blk_queue_close(l->queue);
    if (l->log)
        blk_close(l->log);
    base_free(l->buffer);
}

static int open_log(struct blk *dev, struct blk_error *err)
{
    struct log *l = dev->priv;
    const struct blk_info *i;
    int error = blk_open(l->to, 0, &l->log, err);
    if (error < 0)
        return error;
    i = blk_info(l->log);
    if (i->block_size > LOG_HEADER_SIZE || i->size < LOG_HEADER_SIZE)
        return blk_error_set(err, -EINVAL, "the log needs blocks of up to 4096 bytes");
    l->unit = (uint32_t)max_u64(i->block_size, LOG_RECORD_SIZE);
    l->buffer_size =
        round_up((uint64_t)dev->info.max_transfer + LOG_RECORD_SIZE + LOG_HEADER_SIZE, BASE_PAGE);
    l->buffer = base_alloc_aligned(BASE_PAGE, l->buffer_size);
    l->id = base_now_ns() | 1;
    error = l->buffer ? blk_queue_open(l->log, 1, &l->queue) : -ENOMEM;
    if (error == 0)
        error = write_header(dev);
    return error < 0 ? blk_error_set(err, error, "the log '%.100s' cannot be started", l->to) : 0;
}

static int open_device(struct blk *dev, struct blk_error *err)
{
    struct log *l = dev->priv;
    if (!l->to)
        return blk_error_set(err, -EINVAL, "to=DEVICE is missing: where the log goes");
    int error = open_log(dev, err);
    if (error < 0) {
        release(l);
        return error;
    }
    base_mutex_init(&l->lock);
    return 0;
}

static void close_device(struct blk *dev)
{
    struct log *l = dev->priv;
    if (blk_flush(l->queue) < 0)
        base_log(BASE_LOG_ERROR, "log: '%s' cannot be flushed", l->to);
    base_mutex_fini(&l->lock);
    release(l);
}

/* ---- records --------------------------------------------------------------------------- */

static int append(struct log *l, const struct blk_req *r, uint64_t covers)
{
    char *h = l->buffer;
    uint64_t data = r->op == BLK_WRITE || r->op == BLK_ZONE_APPEND ? r->len : 0;
    uint64_t whole = round_up(LOG_RECORD_SIZE + data, l->unit);
    if (!range_ok(l->end, whole, blk_info(l->log)->size))
        return -ENOSPC;
    memset(h, 0, LOG_RECORD_SIZE);
    store_le32(h + LOG_REC_MAGIC, LOG_RECORD_MAGIC);
    store_le64(h + LOG_REC_ID, l->id);
    store_le64(h + LOG_REC_SEQUENCE, l->sequence);
    h[LOG_REC_OP] = (char)r->op;
    h[LOG_REC_FLAGS] = (char)r->flags;
    store_le64(h + LOG_REC_OFFSET, r->offset);
    store_le64(h + LOG_REC_LEN, r->len);
    store_le64(h + LOG_REC_DATA, data);
    store_le64(h + LOG_REC_COVERS, covers);
    if (data)
        blk_copy_from_iov(r->iov, r->niov, 0, h + LOG_RECORD_SIZE, data);
    memset(h + LOG_RECORD_SIZE + data, 0, whole - LOG_RECORD_SIZE - data);
    store_le32(h + LOG_REC_CRC, crc32c(0, h, LOG_RECORD_SIZE + data));
    int error = blk_write(l->queue, l->end, h, whole, 0);
    if (error < 0)
        return error;
    l->end += whole;
    __atomic_store_n(&l->sequence, l->sequence + 1, __ATOMIC_RELEASE);
    return 0;
}

static void submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct log *l = queue->dev->priv;
    for (unsigned i = 0; i < n; i++) {
        struct log_slot *slot = blk_slot(queue, reqs[i]);
        slot->covers = __atomic_load_n(&l->sequence, __ATOMIC_ACQUIRE);
    }
    blk_forward(queue, reqs, n);
}

static void done(struct blk_queue *queue, struct blk_req *r)
{
    struct log *l = queue->dev->priv;
    const struct log_slot *slot = blk_slot(queue, r);
    if (r->result < 0 || (!blk_op_modifies(r->op) && r->op != BLK_FLUSH))
        return;
    base_mutex_lock(&l->lock);
    r->result = append(l, r, r->op == BLK_FLUSH ? slot->covers : 0);
    base_mutex_unlock(&l->lock);
}

static void report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    const struct log *l = dev->priv;
    char text[80];
    snprintf(text, sizeof(text), "log: %llu records",
             (unsigned long long)__atomic_load_n(&l->sequence, __ATOMIC_ACQUIRE));
    line(arg, text);
}

static const struct blk_option log_options[] = {
    {"to", BLK_OPT_STRING, offsetof(struct log, to), NULL,
     "device that gets the log; its '?', '&' and ',' are written %3F, %26 and %2C"},
    {0},
};

const struct blk_driver blk_log = {
    .name = "log",
    .summary = "records every write and flush on another device: for crash tests",
    .flags = BLK_DRIVER_FILTER,
    .options = log_options,
    .priv_size = sizeof(struct log),
    .slot_size = sizeof(struct log_slot),
    .open = open_device,
    .close = close_device,
    .submit = submit,
    .done = done,
    .report = report,
};
