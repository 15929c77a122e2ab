/* Smallest, largest and average of the range's int32 values. Returns five int64: smallest, largest,
 * sum, number, and the average, rounded towards zero. */
#include "csd.h"

int main(void)
{
    struct {
        int64_t smallest, largest, sum, number, average;
    } answer = {0x7fffffff, -0x80000000l, 0, 0, 0};
    const void *data;
    int64_t n;
    while ((n = csd_next(&data, CSD_CHUNK)) > 0) {
        const int32_t *values = data;
        uint32_t last = (uint32_t)n / 4;
        csd_opaque(last);
        for (uint32_t i = 0; i < last; i++) {
            const int64_t v = values[i];
            answer.smallest = v < answer.smallest ? v : answer.smallest;
            answer.largest = v > answer.largest ? v : answer.largest;
            answer.sum += v;
        }
        answer.number += last;
    }
    if (answer.number) {
        const uint64_t size = answer.sum < 0 ? -answer.sum : answer.sum;
        const int64_t average = (int64_t)(size / (uint64_t)answer.number);
        answer.average = answer.sum < 0 ? -average : average;
    } else {
        answer.smallest = answer.largest = 0;
    }
    bpf_return_data(&answer, sizeof(answer));
    return (int)n;
}
