/*
 * blk/log_replay.h: from the log of the `log` filter to what a device may hold after a power cut.
 *
 * The power is cut after the first `records` records. What a completed flush covered, and every FUA
 * write, is on the device. Each other write may be there, may be missing, or may be torn: some of
 * its blocks are there and some are not.
 */
#ifndef BLK_LOG_REPLAY_H
#define BLK_LOG_REPLAY_H

#include <ashlar/blk.h>

struct log_info {
    uint64_t device_size;
    uint32_t device_block;
    uint64_t records; /* whole records in the log */
};

enum log_loss {
    LOG_LOSE_NOTHING, /* everything before the cut is there */
    LOG_LOSE_ALL,     /* only what was promised */
    LOG_LOSE_SOME,    /* each unpromised write whole, missing or torn, by the seed */
};

struct log_cut {
    uint64_t records; /* power is cut after so many; UINT64_MAX: after the last */
    enum log_loss loss;
    uint64_t seed;
};

/* Read through a log. -EINVAL: no log; -EILSEQ: a damaged record. */
int log_examine(struct blk *log, struct log_info *info, struct blk_error *err);

/* Bring target, which holds what the logged device held at the start, to a state after the cut. */
int log_replay(struct blk *log, struct blk *target, const struct log_cut *cut,
               struct blk_error *err);

#endif
