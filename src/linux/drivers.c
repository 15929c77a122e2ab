/* The drivers of a Linux process, in the order in which help shows them. */
#include "blk/core.h"

extern const struct blk_driver blk_null, blk_mem, blk_file, blk_psync;
extern const struct blk_driver blk_nbd, blk_nbds, blk_nbd_unix, blk_nbds_unix;
extern const struct blk_driver blk_stats, blk_cache, blk_readonly, blk_slice;
extern const struct blk_driver blk_delay, blk_fault, blk_log, blk_zns;

const struct blk_driver *const blk_drivers[] = {
    /* devices */
    &blk_null,
    &blk_mem,
    &blk_file,
    &blk_psync,
    &blk_nbd,
    &blk_nbds,
    &blk_nbd_unix,
    &blk_nbds_unix,
    /* filters */
    &blk_stats,
    &blk_cache,
    &blk_readonly,
    &blk_slice,
    &blk_delay,
    &blk_fault,
    &blk_log,
    &blk_zns,
    NULL,
};
