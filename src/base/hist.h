/*
 * base/hist.h: a latency histogram of constant size and constant relative error.
 *
 * Log-linear buckets: each power of two is cut into 32 equal parts, so that a percentile is at
 * most 3.2% above the true value, from 1 ns to 2^40 ns (18 minutes; longer counts as that).
 *
 * One thread adds; another may merge at the same time and sees counts that lag a little.
 */
#ifndef BASE_HIST_H
#define BASE_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 5
#define HIST_MAX_BITS 40
#define HIST_BUCKETS  ((HIST_MAX_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
    uint64_t count;
    uint64_t sum;
    uint64_t min; /* valid if count > 0 */
    uint64_t max;
    uint64_t bucket[HIST_BUCKETS];
};

static inline unsigned hist_index(uint64_t value)
{
    if (value < (1u << HIST_SUB_BITS))
        return (unsigned)value;
    if (value >> HIST_MAX_BITS)
        return HIST_BUCKETS - 1;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HIST_SUB_BITS;
    return (shift << HIST_SUB_BITS) + (unsigned)(value >> shift);
}

/* Only the adding thread writes, so a plain sum is enough; the store is whole for readers. */
static inline void hist_bump(uint64_t *field, uint64_t by)
{
    __atomic_store_n(field, *field + by, __ATOMIC_RELAXED);
}

static inline void hist_add(struct hist *h, uint64_t value)
{
    if (!h->count || value < h->min)
        __atomic_store_n(&h->min, value, __ATOMIC_RELAXED);
    if (value > h->max)
        __atomic_store_n(&h->max, value, __ATOMIC_RELAXED);
    hist_bump(&h->count, 1);
    hist_bump(&h->sum, value);
    hist_bump(&h->bucket[hist_index(value)], 1);
}

void hist_clear(struct hist *h);
void hist_merge(struct hist *into, const struct hist *from);

/* The value that a share of all samples, in parts of a million, does not exceed, rounded up to the
 * end of its bucket but never over max; 0 if there are none. */
uint64_t hist_percentile(const struct hist *h, uint32_t ppm);
uint64_t hist_mean(const struct hist *h);

#endif
