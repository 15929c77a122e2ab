/* The largest of the range's int32 values (argument: a uint32, how many, 1 to 64; else 10), and
 * where they are. Returns pairs of int64: value and number from the start of the range, largest
 * first; of equal values, the earlier first. */
#include "csd.h"

enum { MAX = 64, EINVAL = 22 };

static struct entry {
    int64_t value, number;
} best[MAX + 1]; /* in order; what falls off the end goes into the last */

static uint32_t used;

/* Into its place: those that are smaller move down. */
static void insert(int64_t value, int64_t number)
{
    struct entry e = {value, number};
    for (uint32_t i = 0; i < MAX; i++) {
        if (i == used) {
            best[i] = e;
            used++;
            return;
        }
        if (e.value > best[i].value) {
            const struct entry moved = best[i];
            best[i] = e;
            e = moved;
        }
    }
}

int main(void)
{
    uint32_t k = 10;
    int64_t number = 0, least = -0x80000001l;
    const void *data;
    int64_t n;
    if (csd_arg(&data) >= sizeof(k))
        k = *(const uint32_t *)data;
    if (k < 1 || k > MAX)
        return -EINVAL;
    while ((n = csd_next(&data, CSD_CHUNK)) > 0) {
        const int32_t *values = data;
        uint32_t last = (uint32_t)n / 4;
        csd_opaque(last);
        for (uint32_t i = 0; i < last; i++)
            if (values[i] > least) {
                insert(values[i], number + i);
                if (used >= k) {
                    used = k;
                    least = best[(k - 1) & (MAX - 1)].value;
                }
            }
        number += last;
    }
    if (used <= MAX)
        bpf_return_data(best, used * sizeof(best[0]));
    return (int)n;
}
