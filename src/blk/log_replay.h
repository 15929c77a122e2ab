/*
 * blk/log_replay.h: read what the `log` filter wrote, and make any state that a power cut may
 * leave behind.
 *
 * Records are in the order in which operations completed. Cut after n of them: what a flush among
 * the first n covers, and what was written with FUA, is on the device. Of each of the others any
 * part may be: blk_log_apply() asks, for each such record, how much of it arrives.
 *
 * Everything that is read from a log is checked. A log belongs to one thread.
 * Errors: -EILSEQ: not a log, or not a record where one should be; -EBADMSG: a checksum is wrong;
 * -ENODATA: it ends within a record; -ENOTSUP: another version; -EINVAL: a record or header that
 * contradicts itself; else those of the device.
 */
#ifndef BLK_LOG_REPLAY_H
#define BLK_LOG_REPLAY_H

#include <ashlar/blk.h>

struct blk_log;

/* Of the device that was recorded. */
struct blk_log_info {
    uint64_t id; /* tells this log's records from those of an older log on the same device */
    uint64_t device_size;
    uint64_t zone_size;  /* 0: not zoned */
    uint32_t block_size; /* logical */
    uint32_t unit;       /* records start at multiples of this */
};

struct blk_log_record {
    uint64_t sequence; /* 1, 2, ... */
    uint8_t op;        /* enum blk_op */
    uint8_t flags;     /* enum blk_req_flag */
    bool failed;       /* the device returned an error; any part of it may have happened */
    uint64_t offset;   /* of a zone append: where the data landed */
    uint64_t len;
    uint64_t data_len; /* len for WRITE and ZONE_APPEND, else 0 */
    uint64_t covered;  /* FLUSH: records up to this one had completed when it was submitted */
    uint64_t position; /* of the record in the log, in bytes */
};

/* Open the log on a device, which stays the caller's. -ENOMEM, or an error as above, with a message
 * in *err (which may be NULL). */
int blk_log_open(struct blk *dev, struct blk_log **log, struct blk_error *err);
void blk_log_close(struct blk_log *log);
const struct blk_log_info *blk_log_info(const struct blk_log *log);

/* Read the next record and check it and its data. 1, 0 at the end, or a negative errno (which the
 * next call returns again). */
int blk_log_next(struct blk_log *log, struct blk_log_record *record);
void blk_log_rewind(struct blk_log *log);

/* Read a part of a record's data. -ERANGE: it has not so much. */
int blk_log_data(struct blk_log *log, const struct blk_log_record *record, uint64_t skip,
                 void *data, size_t len);

/* Where the power is cut, and what arrives. */
struct blk_log_cut {
    uint64_t records; /* the first so many records; UINT64_MAX: all */
    /* Whether a block of a record that is not durable at the cut reaches the device; block counts
     * from 0 within the record, in units of info.block_size. None arrives: it is lost; some: it is
     * torn. Asked in order for each block of writes and zone appends, and once, with block 0, for
     * write-zeroes and discards, which happen whole or not at all. NULL: all arrives of what did
     * not fail. */
    bool (*arrives)(void *arg, const struct blk_log_record *record, uint64_t block);
    void *arg;
};

/* Carry the records out on the queue of another device, at least as large as the recorded one and
 * with blocks no larger. Zone appends become writes where the data landed; discards that the target
 * cannot do are left out. Nothing is flushed. 0 or a negative errno. */
int blk_log_apply(struct blk_log *log, struct blk_queue *target, const struct blk_log_cut *cut);

/* For blk_log_cut.arrives with arg a uint64_t, the seed: each record by chance lost, whole, cut
 * short, or with any of its blocks; the same for the same seed. */
bool blk_log_arrives_by_chance(void *seed, const struct blk_log_record *record, uint64_t block);

/* While it is being written, of the first `log` filter in a stack: the sequence of the last record
 * (what completed before has a record up to this one); any thread may ask. The device that the log
 * is written to, for reading when nothing is in flight; it stays the filter's. */
uint64_t blk_log_recorded(const struct blk *dev);
struct blk *blk_log_device(const struct blk *dev);

#endif
