/* How many of the range's int32 values lie above a limit (argument: the int32 limit; else half of
 * RAND_MAX)? Returns a uint64. */
#include "csd.h"

int main(void)
{
    int32_t limit = 0x3fffffff;
    uint64_t count = 0;
    const void *data;
    int64_t n;
    if (csd_arg(&data) >= sizeof(limit))
        limit = *(const int32_t *)data;
    while ((n = csd_next(&data, CSD_CHUNK)) > 0) {
        const int32_t *values = data;
        uint32_t last = (uint32_t)n / 4;
        csd_opaque(last);
        for (uint32_t i = 0; i < last; i++)
            count += values[i] > limit;
    }
    bpf_return_data(&count, sizeof(count));
    return (int)n;
}
