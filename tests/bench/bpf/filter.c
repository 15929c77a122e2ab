/* Filter: how many of the numbers are above a limit. Random numbers, so that half match. */
#include "question.h"

uint64_t question(const uint8_t *data, uint64_t size)
{
    const int32_t *numbers = (const int32_t *)data;
    uint64_t n = 0;
    for (uint64_t i = 0; i < size / sizeof(*numbers); i++)
        if (numbers[i] > 0)
            n++;
    return n;
}
