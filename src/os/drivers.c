/* The drivers of the unikernel that are always there; disks join when they are found. */
#include "blk/core.h"

extern const struct blk_driver blk_null, blk_mem, blk_vfs, blk_syscall;
extern const struct blk_driver blk_stats, blk_cache, blk_readonly, blk_slice;
extern const struct blk_driver blk_delay, blk_fault, blk_log, blk_zns;

const struct blk_driver *const blk_drivers[] = {
    &blk_null,  &blk_mem,   &blk_vfs,   &blk_syscall, &blk_stats, &blk_cache, &blk_readonly,
    &blk_slice, &blk_delay, &blk_fault, &blk_log,     &blk_zns,   NULL,
};
