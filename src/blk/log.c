/*
 * log?to=SPEC,DEVICE - records every operation that changes the device, for crash tests.
 *
 * Operations go to the device as they are. When one that changes something, or a flush, has
 * completed, a record of it is written to the log, and only then its completion is passed up: so
 * what a caller knows to be done is in the log. A flush's record says up to which record operations
 * had completed when it was submitted. docs/format-log.md has the format, blk/log_replay.h reads
 * it.
 *
 * Records of all queues are written one at a time, while the completing thread waits. If that
 * fails, the operation fails with the log's error, and so do all later ones: nothing is reported
 * done that is not in the log.
 */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "blk/log_format.h"

#define CHUNK (64u << 10)

struct log {
    const char *to_spec; /* option */
    struct blk *to;
    struct blk_log_info info;
    struct base_mutex lock;  /* guards the rest */
    struct blk_queue *queue; /* on to */
    char *buffer;            /* CHUNK bytes, or one unit */
    size_t buffer_size;
    uint64_t position; /* of the next record */
    uint64_t sequence; /* of the last; written under the lock, atomic */
    int error;         /* the first of the log; it ends it */
};

struct log_slot {
    uint64_t covered; /* of a flush: the last record when it was submitted */
};

/* A record as bytes: its header, its data, zeroes to the end of the unit, and a unit of zeroes
 * where the next record will be, as far as there is room for it. */
struct stream {
    uint8_t header[LOG_HEADER];
    const struct iovec *iov;
    unsigned niov;
    uint64_t data_len;
    uint64_t len;
};

/* ---- writing --------------------------------------------------------------------------- */

static void fill(const struct stream *s, char *to, uint64_t at, size_t len)
{
    uint64_t end = LOG_HEADER + s->data_len;
    memset(to, 0, len);
    if (at < LOG_HEADER) { /* chunks are larger than the header */
        memcpy(to, s->header, LOG_HEADER);
        to += LOG_HEADER;
        at += LOG_HEADER;
        len -= LOG_HEADER;
    }
    if (at < end)
        blk_copy_from_iov(s->iov, s->niov, at - LOG_HEADER, to, min_u64(len, end - at));
}

/* From the last chunk to the first: the header, which makes it a record, is written last. */
static int write_stream(struct log *l, const struct stream *s)
{
    uint64_t at = (s->len - 1) / l->buffer_size * l->buffer_size;
    for (uint64_t end = s->len;; end = at, at -= l->buffer_size) {
        fill(s, l->buffer, at, end - at);
        int error = blk_write(l->queue, l->position + at, l->buffer, end - at, 0);
        if (error < 0 || !at)
            return error;
    }
}

/* Under the lock. */
static int append(struct log *l, struct blk_log_record *r, const struct iovec *iov, unsigned niov)
{
    struct stream s = {.iov = iov, .niov = niov, .data_len = r->data_len};
    uint64_t room = l->to->info.size - l->position;
    uint64_t len = round_up(LOG_HEADER + r->data_len, l->info.unit);
    uint32_t crc = 0;
    if (len > room)
        return -ENOSPC;
    for (unsigned i = 0; i < niov && r->data_len; i++)
        crc = crc32c(crc, iov[i].iov_base, iov[i].iov_len);
    r->sequence = l->sequence + 1;
    log_record_encode(s.header, l->info.id, r, crc);
    s.len = min_u64(len + l->info.unit, room);
    int error = write_stream(l, &s);
    if (error < 0)
        return error;
    l->position += len;
    __atomic_store_n(&l->sequence, r->sequence, __ATOMIC_RELEASE);
    return 0;
}

static int record(struct blk_queue *queue, const struct blk_req *r)
{
    struct log *l = queue->dev->priv;
    const struct log_slot *slot = blk_slot(queue, r);
    bool ranged = r->op != BLK_FLUSH && !(r->flags & BLK_ZONE_ALL);
    struct blk_log_record rec = {
        .op = r->op,
        .flags = r->flags,
        .failed = r->result < 0,
        .offset = ranged ? r->offset : 0,
        .len = ranged && r->op <= BLK_ZONE_APPEND ? r->len : 0,
        .data_len = log_has_data(r->op) ? r->len : 0,
        .covered = r->op == BLK_FLUSH ? slot->covered : 0,
    };
    base_mutex_lock(&l->lock);
    if (!l->error) {
        l->error = append(l, &rec, r->iov, r->niov);
        if (l->error < 0)
            base_log(BASE_LOG_WARNING, "%.200s: the log ends after record %llu: error %d",
                     blk_spec(queue->dev), (unsigned long long)l->sequence, -l->error);
    }
    int error = l->error;
    base_mutex_unlock(&l->lock);
    return error;
}

static void log_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct log *l = queue->dev->priv;
    for (unsigned i = 0; i < n; i++)
        if (reqs[i]->op == BLK_FLUSH) {
            struct log_slot *slot = blk_slot(queue, reqs[i]);
            slot->covered = __atomic_load_n(&l->sequence, __ATOMIC_ACQUIRE);
        }
    blk_forward(queue, reqs, n);
}

static void log_done(struct blk_queue *queue, struct blk_req *r)
{
    if (!log_records(r->op))
        return;
    int error = record(queue, r);
    if (r->result == 0)
        r->result = error;
}

/* ---- opening --------------------------------------------------------------------------- */

/* Header, and zeroes where the first record will be. */
static int start_log(const struct blk *dev, struct log *l)
{
    const struct blk_info *i = &l->to->info;
    l->info = (struct blk_log_info){
        .id = base_now_ns(),
        .device_size = dev->info.size,
        .block_size = dev->info.block_size,
        .zone_size = dev->info.zoned ? dev->info.zone_size : 0,
        .unit = (uint32_t)max_u64(LOG_MIN_UNIT, max_u64(i->block_size, i->buf_align)),
    };
    if (l->info.unit > LOG_MAX_UNIT || i->zoned)
        return -EINVAL;
    if (i->size < 2 * (uint64_t)l->info.unit)
        return -ENOSPC;
    l->buffer_size = max_u64(CHUNK, l->info.unit);
    l->buffer = base_alloc_aligned(max_u64(BASE_PAGE, l->info.unit), l->buffer_size);
    if (!l->buffer)
        return -ENOMEM;
    int error = blk_queue_open(l->to, 1, &l->queue);
    if (error < 0)
        return error;
    l->position = l->info.unit;
    error = blk_write(l->queue, l->position, l->buffer, l->info.unit, 0);
    if (error < 0)
        return error;
    log_header_encode((uint8_t *)l->buffer, &l->info);
    return blk_write(l->queue, 0, l->buffer, l->info.unit, 0);
}

static void log_close(struct blk *dev)
{
    struct log *l = dev->priv;
    if (l->queue)
        blk_queue_close(l->queue);
    if (l->to)
        blk_close(l->to);
    base_free(l->buffer);
    base_mutex_fini(&l->lock);
}

static int log_open(struct blk *dev, struct blk_error *err)
{
    struct log *l = dev->priv;
    struct blk_error why;
    if (!l->to_spec)
        return blk_error_set(err, -EINVAL,
                             "to must name the device for the log, such as "
                             "to=file:log.img");
    int error = blk_open(l->to_spec, 0, &l->to, &why);
    if (error < 0)
        return blk_error_set(err, error, "to: %.400s", why.text);
    base_mutex_init(&l->lock);
    error = start_log(dev, l);
    if (error < 0) {
        blk_error_set(err, error, "to=%.200s: no log can be started there: error %d", l->to_spec,
                      -error);
        log_close(dev);
    }
    return error;
}

/* ---- for tests, and the report --------------------------------------------------------- */

static struct log *find(const struct blk *dev)
{
    while (dev && dev->driver->submit != log_submit)
        dev = dev->child;
    return dev ? dev->priv : NULL;
}

uint64_t blk_log_recorded(const struct blk *dev)
{
    const struct log *l = find(dev);
    return l ? __atomic_load_n(&l->sequence, __ATOMIC_ACQUIRE) : 0;
}

struct blk *blk_log_device(const struct blk *dev)
{
    const struct log *l = find(dev);
    return l ? l->to : NULL;
}

static void log_report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    struct log *l = dev->priv;
    char text[128];
    base_mutex_lock(&l->lock);
    snprintf(text, sizeof(text), "log: %llu records, %llu of %llu KiB%s",
             (unsigned long long)l->sequence, (unsigned long long)(l->position >> 10),
             (unsigned long long)(l->to->info.size >> 10), l->error ? ", ended by an error" : "");
    base_mutex_unlock(&l->lock);
    line(arg, text);
}

static const struct blk_option log_options[] = {
    {"to", BLK_OPT_STRING, offsetof(struct log, to_spec), NULL,
     "device to write the log to; in its spec '?' is %3F, '&' %26, ',' %2C, '%' %25"},
    {0},
};

const struct blk_driver blk_log = {
    .name = "log",
    .summary = "records every change in a log, for crash tests",
    .flags = BLK_DRIVER_FILTER,
    .options = log_options,
    .priv_size = sizeof(struct log),
    .slot_size = sizeof(struct log_slot),
    .open = log_open,
    .close = log_close,
    .submit = log_submit,
    .done = log_done,
    .report = log_report,
};
