#include "blk/log_replay.h"

#include <ashlar/blk_driver.h>

#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/platform.h"
#include "base/util.h"
#include "blk/log_format.h"

/* Where a reader is in a log. */
struct reader {
    struct blk_queue *queue;
    struct blk_error *err;
    uint64_t size; /* of the log's device */
    uint64_t id;
    uint32_t unit;
    uint64_t device_size;
    uint32_t device_block;
    uint64_t next; /* where the next record starts */
    uint64_t sequence;
    char *data; /* of the current record */
    size_t data_size;
    /* The current record. */
    uint8_t op;
    uint8_t flags;
    uint64_t offset;
    uint64_t len;
    uint64_t data_len;
    uint64_t covers;
};

static int read_header(struct reader *r)
{
    char h[LOG_HEADER_USED];
    int error = blk_read_bytes(r->queue, 0, h, sizeof(h));
    if (error < 0)
        return blk_error_set(r->err, error, "the log's header cannot be read");
    uint32_t crc = load_le32(h + LOG_AT_CRC);
    store_le32(h + LOG_AT_CRC, 0);
    if (memcmp(h, LOG_MAGIC, 8) || crc32c(0, h, sizeof(h)) != crc)
        return blk_error_set(r->err, -EINVAL, "there is no log");
    if (load_le32(h + LOG_AT_VERSION) != LOG_VERSION)
        return blk_error_set(r->err, -EINVAL, "the log is of version %u; this reads %u",
                             load_le32(h + LOG_AT_VERSION), LOG_VERSION);
    r->id = load_le64(h + LOG_AT_ID);
    r->device_size = load_le64(h + LOG_AT_DEVICE_SIZE);
    r->device_block = load_le32(h + LOG_AT_DEVICE_BLOCK);
    r->unit = load_le32(h + LOG_AT_UNIT);
    r->next = LOG_HEADER_SIZE;
    if (!is_pow2(r->unit) || r->unit < LOG_RECORD_SIZE || r->unit > LOG_HEADER_SIZE ||
        !is_pow2(r->device_block) || r->device_size > INT64_MAX)
        return blk_error_set(r->err, -EINVAL, "the log's header makes no sense");
    return 0;
}

static int damaged(const struct reader *r, const char *what)
{
    return blk_error_set(r->err, -EILSEQ, "record %llu of the log at %llu: %s",
                         (unsigned long long)r->sequence, (unsigned long long)r->next, what);
}

static int make_room(struct reader *r, uint64_t len)
{
    if (len <= r->data_size)
        return 0;
    base_free(r->data);
    r->data = base_alloc(len);
    r->data_size = r->data ? len : 0;
    return r->data ? 0 : blk_error_set(r->err, -ENOMEM, "out of memory");
}

static bool sensible(const struct reader *r)
{
    bool has_data = r->op == BLK_WRITE || r->op == BLK_ZONE_APPEND;
    if (r->op >= BLK_OP_COUNT || r->data_len != (has_data ? r->len : 0))
        return false;
    if (r->op == BLK_FLUSH)
        return r->covers <= r->sequence;
    return r->op > BLK_ZONE_APPEND || range_ok(r->offset, r->len, r->device_size);
}

/* 1: a record was read; 0: the log ends here; else an error. */
static int read_record(struct reader *r)
{
    char h[LOG_RECORD_SIZE];
    if (!range_ok(r->next, LOG_RECORD_SIZE, r->size))
        return 0;
    int error = blk_read_bytes(r->queue, r->next, h, sizeof(h));
    if (error < 0)
        return damaged(r, "cannot be read");
    if (load_le32(h + LOG_REC_MAGIC) != LOG_RECORD_MAGIC || load_le64(h + LOG_REC_ID) != r->id ||
        load_le64(h + LOG_REC_SEQUENCE) != r->sequence)
        return 0;
    r->op = (uint8_t)h[LOG_REC_OP];
    r->flags = (uint8_t)h[LOG_REC_FLAGS];
    r->offset = load_le64(h + LOG_REC_OFFSET);
    r->len = load_le64(h + LOG_REC_LEN);
    r->data_len = load_le64(h + LOG_REC_DATA);
    r->covers = load_le64(h + LOG_REC_COVERS);
    if (!range_ok(r->next + LOG_RECORD_SIZE, r->data_len, r->size))
        return damaged(r, "reaches past the end");
    error = make_room(r, r->data_len);
    if (error < 0)
        return error;
    if (blk_read_bytes(r->queue, r->next + LOG_RECORD_SIZE, r->data, r->data_len) < 0)
        return damaged(r, "cannot be read");
    uint32_t crc = load_le32(h + LOG_REC_CRC);
    store_le32(h + LOG_REC_CRC, 0);
    if (crc32c(crc32c(0, h, sizeof(h)), r->data, r->data_len) != crc)
        return damaged(r, "wrong checksum");
    if (!sensible(r))
        return damaged(r, "makes no sense");
    r->next += round_up(LOG_RECORD_SIZE + r->data_len, r->unit);
    r->sequence++;
    return 1;
}

static int start_reading(struct reader *r, struct blk *log, struct blk_error *err)
{
    *r = (struct reader){.err = err, .size = blk_info(log)->size};
    int error = blk_queue_open(log, 1, &r->queue);
    if (error < 0)
        return blk_error_set(err, error, "the log has no queue");
    return read_header(r);
}

static void end_reading(struct reader *r)
{
    if (r->queue)
        blk_queue_close(r->queue);
    base_free(r->data);
}

int log_examine(struct blk *log, struct log_info *info, struct blk_error *err)
{
    struct reader r;
    int error = start_reading(&r, log, err);
    while (error == 0 && (error = read_record(&r)) == 1)
        error = 0;
    *info = (struct log_info){r.device_size, r.device_block, r.sequence};
    end_reading(&r);
    return error;
}

/* The number of the first record that no flush before the cut covers. */
static int find_promised(struct blk *log, uint64_t records, uint64_t *promised,
                         struct blk_error *err)
{
    struct reader r;
    *promised = 0;
    int error = start_reading(&r, log, err);
    while (error == 0 && r.sequence < records && (error = read_record(&r)) == 1) {
        error = 0;
        if (r.op == BLK_FLUSH)
            *promised = max_u64(*promised, r.covers);
    }
    end_reading(&r);
    return error;
}

static int apply_whole(struct blk_queue *target, const struct reader *r)
{
    switch (r->op) {
    case BLK_FLUSH:
        return 0;
    case BLK_WRITE:
        return blk_write_bytes(target, r->offset, r->data, r->len, 0);
    case BLK_WRITE_ZEROES:
        return blk_write_zeroes(target, r->offset, r->len, 0);
    case BLK_DISCARD: {
        int error = blk_discard(target, r->offset, r->len);
        return error == -ENOTSUP ? 0 : error;
    }
    default: {
        struct blk_req req;
        blk_req_data(&req, (enum blk_op)r->op, r->offset, r->data, r->data_len);
        req.flags = r->flags;
        req.len = r->len;
        return blk_execute(target, &req);
    }
    }
}

/* Some of its blocks are there, some are not. */
static int apply_torn(struct blk_queue *target, const struct reader *r, uint64_t *random)
{
    int error = 0;
    for (uint64_t at = 0; error == 0 && at < r->len; at += r->device_block)
        if (random_next(random) & 1)
            error = blk_write_bytes(target, r->offset + at, r->data + at,
                                    min_u64(r->device_block, r->len - at), 0);
    return error;
}

static int apply(struct blk_queue *target, const struct reader *r, const struct log_cut *cut,
                 uint64_t promised, uint64_t *random)
{
    uint64_t number = r->sequence - 1;
    uint64_t dice = random_below(random, 3);
    if (number < promised || (r->flags & BLK_FUA) || cut->loss == LOG_LOSE_NOTHING)
        return apply_whole(target, r);
    if (cut->loss == LOG_LOSE_ALL || dice == 0)
        return 0;
    return dice == 1 && r->op == BLK_WRITE ? apply_torn(target, r, random) : apply_whole(target, r);
}

int log_replay(struct blk *log, struct blk *target, const struct log_cut *cut,
               struct blk_error *err)
{
    struct reader r;
    struct blk_queue *q = NULL;
    uint64_t promised, random = cut->seed;
    int error = find_promised(log, cut->records, &promised, err);
    if (error < 0)
        return error;
    error = start_reading(&r, log, err);
    if (error == 0 && blk_info(target)->size < r.device_size)
        error = blk_error_set(err, -EINVAL, "the target is smaller than the logged device");
    if (error == 0 && (error = blk_queue_open(target, 1, &q)) < 0)
        blk_error_set(err, error, "the target has no queue");
    while (error == 0 && r.sequence < cut->records && (error = read_record(&r)) == 1) {
        error = apply(q, &r, cut, promised, &random);
        if (error < 0)
            blk_error_set(err, error, "record %llu cannot be replayed",
                          (unsigned long long)r.sequence - 1);
    }
    if (q)
        blk_queue_close(q);
    end_reading(&r);
    return error;
}
