/* Histogram: how often each byte occurs; the answer mixes all the counts. */
#include "question.h"

static uint64_t bins[256];

uint64_t question(const uint8_t *data, uint64_t size)
{
    for (unsigned i = 0; i < 256; i++)
        bins[i] = 0;
    for (uint64_t i = 0; i < size; i++)
        bins[data[i]]++;
    uint64_t sum = 0;
    for (unsigned i = 0; i < 256; i++)
        sum = sum * 31 + bins[i];
    return sum;
}
