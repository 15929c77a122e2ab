/* Hash: each word multiplied and folded into the hash before. */
#include "question.h"

uint64_t question(const uint8_t *data, uint64_t size)
{
    const uint64_t *words = (const uint64_t *)data;
    uint64_t hash = size;
    for (uint64_t i = 0; i < size / sizeof(*words); i++) {
        uint64_t w = words[i] * UINT64_C(0xbf58476d1ce4e5b9);
        w ^= w >> 29;
        hash = (hash ^ w) * UINT64_C(0x94d049bb133111eb);
        hash ^= hash >> 32;
    }
    return hash;
}
