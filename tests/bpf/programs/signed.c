/* What only -mcpu=v4 has: signed division, sign extension, swaps, long jumps. */
#include "test.h"

static NOINLINE s64 divide(s64 a, s64 b)
{
    return b ? a / b * 3 + a % b : a;
}

static NOINLINE s32 divide32(s32 a, s32 b)
{
    return b && b != -1 ? a / b * 3 + a % b : a;
}

u64 prog(u8 *memory, u64 size)
{
    s64 sum = 0;
    for (u64 i = 0; i + 8 < size; i++) {
        const s8 small = (s8)memory[i];
        const s16 medium = *(s16 *)(memory + (i & ~1ull));
        const s32 large = *(s32 *)(memory + (i & ~3ull));
        sum += divide(sum, small) + divide32(large, medium) + divide(-sum - 1, large);
        sum ^= (s8)sum + (s16)sum + (s32)sum;
        *(u16 *)(memory + (i & ~1ull)) = __builtin_bswap16((u16)sum);
    }
    return (u64)sum;
}
