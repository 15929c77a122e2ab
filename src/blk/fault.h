/*
 * blk/fault.h: how a test in the same process steers a fault filter while it is open.
 *
 * Each takes any device of a stack and means the first `fault` in it, from the top. Any thread may
 * call them at any time; requests that are in flight then may still go by the old state.
 */
#ifndef BLK_FAULT_H
#define BLK_FAULT_H

#include <ashlar/blk.h>

/* On: count from 0 again and fail what matches. Off: pass everything on; a power cut is over. */
void blk_fault_arm(struct blk *dev, bool on);

/* Operations that matched op and range since it was armed. Run a workload once to learn how many
 * there are, then once with nth=1, 2, ... to fail each of them. */
uint64_t blk_fault_matched(const struct blk *dev);

/* How many of them failed. */
uint64_t blk_fault_fired(const struct blk *dev);

/* Whether the power cut of cut=on has come. */
bool blk_fault_is_cut(const struct blk *dev);

#endif
