/* The drivers of a Linux process, in the order in which help shows them. */
#include "blk/core.h"

extern const struct blk_driver blk_null, blk_mem, blk_file, blk_psync;
extern const struct blk_driver blk_nbd, blk_nbds, blk_nbd_unix, blk_nbds_unix;
extern const struct blk_driver blk_readonly, blk_slice;
extern const struct blk_driver blk_stats, blk_delay, blk_fault, blk_cache, blk_log;

const struct blk_driver *const blk_drivers[] = {
    &blk_null,     &blk_mem,       &blk_file,     &blk_psync, &blk_nbd,   &blk_nbds,
    &blk_nbd_unix, &blk_nbds_unix, &blk_readonly, &blk_slice, &blk_stats, &blk_delay,
    &blk_fault,    &blk_cache,     &blk_log,      NULL,
};
