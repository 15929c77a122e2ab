/* bench/verify.h: blocks that tell where they belong and when they were written. */
#ifndef BENCH_VERIFY_H
#define BENCH_VERIFY_H

#include <ashlar/bench.h>

/* The smallest block that can be verified. */
#define VERIFY_MIN_BLOCK 64

struct verify_stamp {
    uint64_t offset;
    uint64_t seed;
    uint64_t generation;
};

void verify_fill(void *block, uint32_t len, const struct verify_stamp *stamp);

/* Is the block what a pass of stamp->seed with at least stamp->generation wrote at stamp->offset?
 * If not, *damage tells. */
bool verify_check(const void *block, uint32_t len, const struct verify_stamp *stamp,
                  struct bench_damage *damage);

#endif
