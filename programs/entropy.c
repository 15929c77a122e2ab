/* How often does each byte value occur, and how many bits of information does a byte hold? Returns
 * 256 counts (uint64) and the Shannon entropy, a uint64 in 65536ths of a bit for each byte. */
#include "csd.h"

static uint64_t bins[256];

static void count_word(uint64_t w)
{
    bins[w & 255]++;
    bins[w >> 8 & 255]++;
    bins[w >> 16 & 255]++;
    bins[w >> 24 & 255]++;
    bins[w >> 32 & 255]++;
    bins[w >> 40 & 255]++;
    bins[w >> 48 & 255]++;
    bins[w >> 56]++;
}

/* The logarithm to base 2 in 65536ths; x is not 0. */
static uint64_t log2_of(uint64_t x)
{
    uint64_t whole = 0;
#pragma clang loop unroll(disable) /* fewer paths for the verifier */
    for (uint32_t step = 32; step; step >>= 1)
        if (x >> step) {
            x >>= step;
            whole += step;
        }
    return whole;
}

/* The fraction: x, scaled to [2^31, 2^32), is squared again and again. */
static uint64_t log2_fixed(uint64_t x)
{
    const uint64_t whole = log2_of(x);
    uint64_t fraction = 0;
    x = whole > 31 ? x >> ((whole - 31) & 63) : x << ((31 - whole) & 63);
#pragma clang loop unroll(disable)
    for (uint32_t bit = 0; bit < 16; bit++) {
        x = x * x >> 31;
        const uint64_t one = x >> 32;
        x >>= one;
        fraction = fraction << 1 | one;
    }
    return (whole << 16) + fraction;
}

int main(void)
{
    uint64_t total = 0, sum = 0, entropy = 0;
    const void *data;
    int64_t n;
    while ((n = csd_next(&data, CSD_CHUNK)) > 0) {
        const uint64_t *words = data;
        uint32_t whole = (uint32_t)n / 8;
        csd_opaque(whole);
        for (uint32_t i = 0; i < whole; i++)
            count_word(words[i]);
        uint32_t rest = whole * 8;
        csd_opaque(rest);
        for (uint32_t i = rest; i < (uint32_t)n; i++)
            bins[((const uint8_t *)data)[i]]++;
        total += (uint64_t)n;
    }
    for (uint32_t i = 0; i < 256; i++)
        if (bins[i])
            sum += bins[i] * log2_fixed(bins[i]);
    if (total)
        entropy = log2_fixed(total) - sum / total;
    bpf_return_data(bins, sizeof(bins));
    bpf_return_data(&entropy, sizeof(entropy));
    return (int)n;
}
