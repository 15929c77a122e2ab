/* Switches: dense, with tables of values; sparse; with code behind each case. */
#include "test.h"

static NOINLINE u32 dense(u32 n)
{
    switch (n) {
    case 0:
        return 1009;
    case 1:
        return 7;
    case 2:
        return 555;
    case 3:
        return 3;
    case 4:
        return 90210;
    case 5:
        return 11;
    case 6:
        return 0xffffffff;
    case 7:
        return 4;
    default:
        return 2;
    }
}

static NOINLINE s64 sparse(s64 n)
{
    switch (n) {
    case -1000000:
        return 5;
    case 12:
    case 13:
    case 14:
        return n * n;
    case 100 ... 120:
        return -n;
    case 0x123456789:
        return 77;
    }
    return n >> 1;
}

static NOINLINE void act(u8 *memory, u64 at)
{
    switch (memory[at] & 15) {
    case 0:
        memory[at] += 3;
        break;
    case 1:
        memory[at] ^= memory[at + 1];
        /* fall through */
    case 2:
        memory[at + 1]++;
        break;
    case 3:
        memory[at] = memory[at + 1] * 5;
        break;
    case 4:
        memory[at + 1] -= 7;
        break;
    case 5:
        memory[at] = 0;
        break;
    case 9:
        memory[at] = (u8)~memory[at];
        break;
    case 15:
        memory[at] = memory[at] << 1 | memory[at] >> 7;
        break;
    default:
        memory[at] -= memory[at + 1] / 2;
    }
}

u64 prog(u8 *memory, u64 size)
{
    u64 sum = 0;
    for (u64 i = 0; i + 1 < size; i++) {
        act(memory, i);
        sum = sum * 5 + dense(memory[i] & 15) + (u64)sparse(memory[i]);
    }
    return sum + (u64)sparse(0x123456789) + (u64)sparse(-1000000);
}
