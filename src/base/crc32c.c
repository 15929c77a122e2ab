#include "base/crc32c.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define POLYNOMIAL 0x82f63b78u /* 0x1edc6f41, reflected */

/* table[k][b]: the remainder of byte b followed by k zero bytes ("slicing by 8"). */
static uint32_t table[8][256];
static bool table_ready; /* written last; a second thread at worst fills in the same values */

static void make_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t r = b;
        for (int bit = 0; bit < 8; bit++)
            r = r & 1 ? r >> 1 ^ POLYNOMIAL : r >> 1;
        __atomic_store_n(&table[0][b], r, __ATOMIC_RELAXED);
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t r = table[k - 1][b];
            __atomic_store_n(&table[k][b], r >> 8 ^ table[0][r & 0xff], __ATOMIC_RELAXED);
        }
    __atomic_store_n(&table_ready, true, __ATOMIC_RELEASE);
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    if (!__atomic_load_n(&table_ready, __ATOMIC_ACQUIRE))
        make_table();
    const uint8_t *p = data;
    crc = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint32_t lo =
            crc ^ (p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^
              table[4][lo >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^
              table[0][p[7]];
    }
    for (; len; len--)
        crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)

static bool have_instruction(void)
{
    static int known; /* 0 unknown, 1 no, 2 yes */
    int k = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!k) {
        unsigned a, b, c, d;
        k = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2) ? 2 : 1;
        __atomic_store_n(&known, k, __ATOMIC_RELAXED);
    }
    return k == 2;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p,
                                                               size_t len)
{
    uint64_t c = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
    }
    uint32_t r = (uint32_t)c;
    for (; len; len--)
        r = __builtin_ia32_crc32qi(r, *p++);
    return ~r;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return have_instruction() ? crc32c_sse42(crc, data, len) : crc32c_portable(crc, data, len);
}

#else

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return crc32c_portable(crc, data, len);
}

#endif
