#include "base/hist.h"

#include <string.h>

void hist_clear(struct hist *h)
{
    memset(h, 0, sizeof(*h));
}

static uint64_t load(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

void hist_merge(struct hist *into, const struct hist *from)
{
    uint64_t count = load(&from->count), min = load(&from->min), max = load(&from->max);
    if (!count)
        return;
    if (!into->count || min < into->min)
        into->min = min;
    if (max > into->max)
        into->max = max;
    into->count += count;
    into->sum += load(&from->sum);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->bucket[i] += load(&from->bucket[i]);
}

/* The largest value that falls into bucket i. */
static uint64_t bucket_end(unsigned i)
{
    if (i < (2u << HIST_SUB_BITS))
        return i;
    unsigned shift = (i >> HIST_SUB_BITS) - 1;
    uint64_t top = (i & ((1u << HIST_SUB_BITS) - 1)) + (1u << HIST_SUB_BITS);
    return ((top + 1) << shift) - 1;
}

uint64_t hist_percentile(const struct hist *h, uint32_t ppm)
{
    if (!h->count)
        return 0;
    uint64_t rank = (h->count * ppm + 999999) / 1000000;
    if (rank < 1)
        rank = 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank)
            return bucket_end(i) < h->max ? bucket_end(i) : h->max;
    }
    return h->max;
}

uint64_t hist_mean(const struct hist *h)
{
    return h->count ? h->sum / h->count : 0;
}
