/* The audit log: which parts of the device a run has touched, in bounded memory. */
#include "csd/run.h"

#include <string.h>

#include "base/util.h"

static uint64_t end_of(const struct csd_touch *t)
{
    return t->offset + t->len;
}

/* Read and written parts are kept in order of their kind, then of offset, until the run ends. */
static bool before(const struct csd_touch *a, const struct csd_touch *b)
{
    return a->written != b->written ? b->written : a->offset < b->offset;
}

static void remove_at(struct csd_result *r, unsigned i)
{
    r->touched_count--;
    memmove(&r->touched[i], &r->touched[i + 1], (r->touched_count - i) * sizeof(r->touched[0]));
}

/* Make one of entries i and i + 1. */
static void join(struct csd_result *r, unsigned i)
{
    struct csd_touch *t = &r->touched[i];
    t->len = max_u64(end_of(t), end_of(t + 1)) - t->offset;
    remove_at(r, i + 1);
}

static bool reach(const struct csd_touch *a, const struct csd_touch *b)
{
    return a->written == b->written && end_of(a) >= b->offset;
}

/* The two neighbours of a kind with the smallest gap become one. */
static void make_room(struct csd_result *r)
{
    unsigned nearest = 0;
    uint64_t smallest = UINT64_MAX;
    for (unsigned i = 0; i + 1 < r->touched_count; i++) {
        const struct csd_touch *t = &r->touched[i];
        if (t->written == t[1].written && t[1].offset - end_of(t) < smallest) {
            smallest = t[1].offset - end_of(t);
            nearest = i;
        }
    }
    r->coarse = true;
    join(r, nearest);
}

void csd_audit(struct csd_result *r, uint64_t offset, uint64_t len, bool written)
{
    const struct csd_touch touch = {offset, len, written};
    unsigned low = 0, high = r->touched_count;
    while (low < high) { /* the first entry that is not before it */
        unsigned middle = (low + high) / 2;
        if (before(&r->touched[middle], &touch))
            low = middle + 1;
        else
            high = middle;
    }
    if (low && reach(&r->touched[low - 1], &touch)) {
        struct csd_touch *t = &r->touched[--low];
        t->len = max_u64(end_of(t), offset + len) - t->offset;
    } else {
        if (r->touched_count == CSD_MAX_TOUCHED) {
            make_room(r);
            csd_audit(r, offset, len, written);
            return;
        }
        memmove(&r->touched[low + 1], &r->touched[low],
                (r->touched_count - low) * sizeof(r->touched[0]));
        r->touched[low] = touch;
        r->touched_count++;
    }
    while (low + 1 < r->touched_count && reach(&r->touched[low], &r->touched[low + 1]))
        join(r, low);
}
