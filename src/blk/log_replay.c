#include "blk/log_replay.h"

#include <errno.h>

#include <ashlar/blk_driver.h>

#include "base/platform.h"
#include "blk/log_format.h"

#define CHUNK (64u << 10)

struct blk_log {
    struct blk_queue *queue;
    uint64_t size; /* of the device that holds the log */
    struct blk_log_info info;
    uint64_t position; /* of the next record */
    uint64_t sequence; /* that it must have */
    char buffer[CHUNK];
};

/* ---- header ---------------------------------------------------------------------------- */

static bool info_ok(const struct blk_log_info *i)
{
    return is_pow2(i->block_size) && is_pow2(i->unit) && i->unit >= LOG_MIN_UNIT &&
           i->unit <= LOG_MAX_UNIT && i->device_size <= INT64_MAX &&
           !(i->device_size & (i->block_size - 1)) &&
           (!i->zone_size || !(i->zone_size & (i->block_size - 1)));
}

static int read_info(struct blk_log *log, struct blk_error *err)
{
    uint8_t h[LOG_HEADER];
    if (log->size < LOG_HEADER)
        return blk_error_set(err, -EILSEQ, "too small to be a log");
    int error = blk_read_bytes(log->queue, 0, h, LOG_HEADER);
    if (error < 0)
        return blk_error_set(err, error, "cannot read the log's header: error %d", -error);
    if (memcmp(h, LOG_MAGIC, 8))
        return blk_error_set(err, -EILSEQ, "not a log: it does not begin with '%s'", LOG_MAGIC);
    if (load_le32(h + 8) != LOG_VERSION)
        return blk_error_set(err, -ENOTSUP, "a log of version %u; this program reads version %d",
                             load_le32(h + 8), LOG_VERSION);
    if (load_le32(h + LOG_CRC_AT) != log_header_crc(h, LOG_CRC_AT))
        return blk_error_set(err, -EBADMSG, "the checksum of the log's header is wrong");
    log->info = (struct blk_log_info){
        .id = load_le64(h + 16),
        .device_size = load_le64(h + 24),
        .block_size = load_le32(h + 32),
        .unit = load_le32(h + 36),
        .zone_size = load_le64(h + 40),
    };
    if (!info_ok(&log->info))
        return blk_error_set(err, -EINVAL, "the log's header contradicts itself");
    return 0;
}

int blk_log_open(struct blk *dev, struct blk_log **out, struct blk_error *err)
{
    *out = NULL;
    struct blk_log *log = base_alloc(sizeof(*log));
    if (!log)
        return blk_error_set(err, -ENOMEM, "out of memory");
    log->size = dev->info.size;
    int error = blk_queue_open(dev, 1, &log->queue);
    if (error < 0)
        blk_error_set(err, error, "cannot open a queue: error %d", -error);
    else
        error = read_info(log, err);
    if (error < 0) {
        blk_log_close(log);
        return error;
    }
    blk_log_rewind(log);
    *out = log;
    return 0;
}

void blk_log_close(struct blk_log *log)
{
    if (log->queue)
        blk_queue_close(log->queue);
    base_free(log);
}

const struct blk_log_info *blk_log_info(const struct blk_log *log)
{
    return &log->info;
}

void blk_log_rewind(struct blk_log *log)
{
    log->position = log->info.unit;
    log->sequence = 1;
}

/* ---- records --------------------------------------------------------------------------- */

static bool blocks_ok(const struct blk_log_info *i, const struct blk_log_record *r)
{
    return r->len && !((r->offset | r->len) & (i->block_size - 1)) &&
           range_ok(r->offset, r->len, i->device_size);
}

static bool flags_ok(const struct blk_log_record *r)
{
    unsigned allowed = r->op > BLK_ZONE_APPEND ? BLK_ZONE_ALL : log_has_data(r->op) ? BLK_FUA : 0;
    if (r->op == BLK_WRITE_ZEROES)
        allowed = BLK_FUA | BLK_NO_UNMAP | BLK_FAST_ZERO;
    return !(r->flags & ~allowed);
}

/* Whether a record says what the filter could have written. */
static bool record_ok(const struct blk_log_info *i, const struct blk_log_record *r)
{
    if (r->op >= BLK_OP_COUNT || !log_records(r->op) || !flags_ok(r))
        return false;
    if (r->data_len != (log_has_data(r->op) ? r->len : 0))
        return false;
    if (r->op == BLK_FLUSH)
        return r->covered < r->sequence && !r->offset && !r->len;
    if (r->covered || (r->op >= BLK_ZONE_APPEND && !i->zone_size))
        return false;
    if (r->op <= BLK_ZONE_APPEND)
        return blocks_ok(i, r);
    return !r->len && r->offset < i->device_size;
}

static int check_data(struct blk_log *log, const struct blk_log_record *r, uint32_t wanted)
{
    uint32_t crc = 0;
    for (uint64_t at = 0; at < r->data_len;) {
        size_t part = min_u64(r->data_len - at, CHUNK);
        int error = blk_log_data(log, r, at, log->buffer, part);
        if (error < 0)
            return error;
        crc = crc32c(crc, log->buffer, part);
        at += part;
    }
    return crc == wanted ? 0 : -EBADMSG;
}

static bool is_zero(const uint8_t h[LOG_HEADER])
{
    uint8_t any = 0;
    for (int i = 0; i < LOG_HEADER; i++)
        any |= h[i];
    return !any;
}

static void decode(const uint8_t h[LOG_HEADER], struct blk_log_record *r)
{
    *r = (struct blk_log_record){
        .sequence = load_le64(h + 16),
        .op = h[24],
        .flags = h[25],
        .failed = h[26] & LOG_FAILED,
        .offset = load_le64(h + 32),
        .len = load_le64(h + 40),
        .data_len = load_le64(h + 48),
        .covered = load_le64(h + 56),
    };
}

int blk_log_next(struct blk_log *log, struct blk_log_record *r)
{
    uint8_t h[LOG_HEADER];
    if (!range_ok(log->position, LOG_HEADER, log->size))
        return 0;
    int error = blk_read_bytes(log->queue, log->position, h, LOG_HEADER);
    if (error < 0)
        return error;
    if (is_zero(h))
        return 0;
    if (load_le32(h) != LOG_RECORD_MAGIC)
        return -EILSEQ;
    if (load_le32(h + LOG_RECORD_CRC_AT) != log_header_crc(h, LOG_RECORD_CRC_AT))
        return -EBADMSG;
    decode(h, r);
    if (load_le64(h + 8) != log->info.id || r->sequence != log->sequence)
        return -EILSEQ;
    if (!record_ok(&log->info, r) || h[26] > LOG_FAILED || h[27])
        return -EINVAL;
    if (!range_ok(log->position + LOG_HEADER, r->data_len, log->size))
        return -ENODATA;
    r->position = log->position;
    error = check_data(log, r, load_le32(h + 28));
    if (error < 0)
        return error;
    log->position += round_up(LOG_HEADER + r->data_len, log->info.unit);
    log->sequence++;
    return 1;
}

int blk_log_data(struct blk_log *log, const struct blk_log_record *r, uint64_t skip, void *data,
                 size_t len)
{
    if (!range_ok(skip, len, r->data_len))
        return -ERANGE;
    return blk_read_bytes(log->queue, r->position + LOG_HEADER + skip, data, len);
}

/* ---- carrying them out ----------------------------------------------------------------- */

/* The record up to which all is durable after the first n, and an error if one is broken. */
static int covered_after(struct blk_log *log, uint64_t n, uint64_t *covered)
{
    struct blk_log_record r;
    int got = 1;
    *covered = 0;
    blk_log_rewind(log);
    for (uint64_t i = 0; i < n && (got = blk_log_next(log, &r)) > 0; i++)
        if (r.op == BLK_FLUSH && !r.failed)
            *covered = max_u64(*covered, r.covered);
    return got < 0 ? got : 0;
}

/* What of a record arrives. */
struct fate {
    const struct blk_log_cut *cut;
    bool durable; /* all of it, without asking */
};

static bool arrives(const struct fate *f, const struct blk_log_record *r, uint64_t block)
{
    if (f->durable)
        return true;
    return f->cut->arrives ? f->cut->arrives(f->cut->arg, r, block) : !r->failed;
}

static int copy_data(struct blk_log *log, struct blk_queue *target, const struct blk_log_record *r,
                     uint64_t at, uint64_t end)
{
    while (at < end) {
        size_t part = min_u64(end - at, CHUNK);
        int error = blk_log_data(log, r, at, log->buffer, part);
        if (error == 0)
            error = blk_write_bytes(target, r->offset + at, log->buffer, part, 0);
        if (error < 0)
            return error;
        at += part;
    }
    return 0;
}

/* Runs of blocks that arrive. */
static int apply_data(struct blk_log *log, struct blk_queue *target, const struct blk_log_record *r,
                      const struct fate *f)
{
    uint64_t block = log->info.block_size, start = 0, end = 0;
    int error = 0;
    for (; end < r->data_len && error == 0; end += block) {
        if (arrives(f, r, end / block))
            continue;
        error = copy_data(log, target, r, start, end);
        start = end + block;
    }
    return error < 0 ? error : copy_data(log, target, r, start, end);
}

static int apply_zone(struct blk_queue *target, const struct blk_log_record *r)
{
    struct blk_req req;
    blk_req_init(&req, r->op, r->offset, 0);
    req.flags = r->flags;
    return r->failed ? 0 : blk_execute(target, &req);
}

static int apply(struct blk_log *log, struct blk_queue *target, const struct blk_log_record *r,
                 const struct fate *f)
{
    int error = 0;
    if (r->op == BLK_FLUSH)
        return 0;
    if (r->op > BLK_ZONE_APPEND)
        return apply_zone(target, r);
    if (r->op == BLK_ZONE_APPEND && r->failed)
        return 0; /* where its data landed is not known */
    if (log_has_data(r->op))
        return apply_data(log, target, r, f);
    if (!arrives(f, r, 0))
        return 0;
    if (r->op == BLK_WRITE_ZEROES)
        return blk_write_zeroes(target, r->offset, r->len, r->flags & BLK_NO_UNMAP);
    error = blk_discard(target, r->offset, r->len);
    return error == -ENOTSUP ? 0 : error;
}

int blk_log_apply(struct blk_log *log, struct blk_queue *target, const struct blk_log_cut *cut)
{
    const struct blk_info *info = blk_info(blk_queue_device(target));
    struct blk_log_record r;
    uint64_t covered;
    int got = 1;
    if (info->size < log->info.device_size)
        return -ERANGE;
    if (info->block_size > log->info.block_size)
        return -EINVAL;
    int error = covered_after(log, cut->records, &covered);
    if (error < 0)
        return error;
    blk_log_rewind(log);
    for (uint64_t i = 0; i < cut->records && (got = blk_log_next(log, &r)) > 0; i++) {
        bool durable = !r.failed && (r.sequence <= covered || (r.flags & BLK_FUA));
        error = apply(log, target, &r, &(struct fate){cut, durable});
        if (error < 0)
            return error;
    }
    return got < 0 ? got : 0;
}

bool blk_log_arrives_by_chance(void *seed, const struct blk_log_record *r, uint64_t block)
{
    uint64_t state = *(const uint64_t *)seed ^ r->sequence << 32;
    uint64_t way = random_below(&state, 4);
    uint64_t some = random_next(&state);
    if (way < 2)
        return way == 1;
    if (way == 2) /* the first part */
        return block < some % max_u64(r->data_len / 512, 1);
    state += block;
    return random_next(&state) & 1;
}
