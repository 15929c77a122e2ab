/* Arithmetic of all widths, 64-bit constants, loads and stores of all sizes, what is signed. */
#include "test.h"

static NOINLINE u64 mix(u64 x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccd;
    x ^= x >> 29;
    x *= 0xc4ceb9fe1a85ec53;
    return x ^ x >> 32;
}

static NOINLINE u32 crc(const u8 *bytes, u64 n)
{
    u32 c = 0xffffffff;
    for (u64 i = 0; i < n; i++) {
        c ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78 : 0);
    }
    return ~c;
}

static NOINLINE s64 signs(const u8 *memory, u64 i)
{
    const s8 a = *(const s8 *)(memory + i);
    const s16 b = *(const s16 *)(memory + (i & ~1ull));
    const s32 c = *(const s32 *)(memory + (i & ~3ull));
    const s64 d = *(const s64 *)(memory + (i & ~7ull));
    s64 sum = a + b + c + (d >> 5) + (c >> 3) + (s8)(a << 1) + (s16)b * 3;
    if (a < b)
        sum -= c;
    if ((s32)d >= c)
        sum += 1000003;
    return d < -5 ? -sum : sum;
}

static NOINLINE u64 unsigned_math(u64 a, u64 b)
{
    u64 sum = a / (b | 1) + a % (b | 1) + (u32)a / ((u32)b | 1) + (u32)a % ((u32)b | 1);
    sum += a << (b & 63) | a >> (64 - (b & 63)) % 64;
    sum += (u32)a << (b & 31);
    return sum + (a > b) + ((u32)a < (u32)b) + !!(a & b & 0x80000000);
}

u64 prog(u8 *memory, u64 size)
{
    u64 sum = crc(memory, size);
    for (u64 i = 0; i < 128 && i < size; i++) {
        const u64 wide = *(u64 *)(memory + (i & ~7ull));
        sum = mix(sum + wide) + (u64)signs(memory, i);
        sum ^= unsigned_math(wide, sum);
        sum += __builtin_bswap16((u16)sum) + __builtin_bswap32((u32)wide) + __builtin_bswap64(wide);
        __sync_fetch_and_add((u64 *)memory + i % 16, sum);
        *(u16 *)(memory + 130) = (u16)sum;
        *(u32 *)(memory + 132) += (u32)sum;
        memory[136] = 0x5a;
        *(u64 *)(memory + 144) = 0xfedcba9876543210;
    }
    return sum;
}
