/*
 * base/hist.h: a latency histogram of constant size and constant relative error.
 *
 * Log-linear buckets: each power of two is cut into 32 equal parts, so that a percentile is at
 * most 3.2% above the true value, from 1 ns to 2^40 ns (18 minutes; longer counts as that).
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

static inline void hist_add(struct hist *h, uint64_t value)
{
    if (!h->count || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->count++;
    h->sum += value;
    h->bucket[hist_index(value)]++;
}

/* hist_add() for a histogram that other threads may hist_merge() from at the same time. One thread
 * adds, so nothing is contended. */
static inline void hist_add_shared(struct hist *h, uint64_t value)
{
    uint64_t *bucket = &h->bucket[hist_index(value)];
    if (!h->count || value < h->min)
        __atomic_store_n(&h->min, value, __ATOMIC_RELAXED);
    if (value > h->max)
        __atomic_store_n(&h->max, value, __ATOMIC_RELAXED);
    __atomic_store_n(&h->sum, h->sum + value, __ATOMIC_RELAXED);
    __atomic_store_n(bucket, *bucket + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&h->count, h->count + 1, __ATOMIC_RELEASE);
}

void hist_clear(struct hist *h);
/* from may be in use by hist_add_shared(): then samples that are just being added may be missed. */
void hist_merge(struct hist *into, const struct hist *from);

/* The value that the fraction (0 to 1) of all samples does not exceed, rounded up to the end of
 * its bucket but never over max; 0 if there are none. */
uint64_t hist_percentile(const struct hist *h, double fraction);
uint64_t hist_mean(const struct hist *h);

#endif
