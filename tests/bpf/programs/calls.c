/* Functions that call one another: forward, backward, across sections, deep, by themselves. */
#include "test.h"

static NOINLINE u64 add3(u64 a, u64 b, u64 c)
{
    return a + 2 * b + 3 * c;
}

NOINLINE u64 later(u64 n); /* behind */

SECTION("first") NOINLINE u64 in_first(u64 n)
{
    return later(n) ^ add3(n, 1, 2);
}

SECTION("second") NOINLINE static u64 in_second(const u8 *bytes, u64 n)
{
    u64 sum = 0;
    for (u64 i = 0; i < n; i++)
        sum += in_first(bytes[i]);
    return sum;
}

static NOINLINE u64 factorial(u64 n)
{
    u8 padding[40];
    volatile u8 *p = padding;
    p[n] = (u8)n;
    return n < 2 ? 1 : p[n] * factorial(n - 1);
}

static NOINLINE void swap(u64 *a, u64 *b)
{
    u64 c = *a;
    *a = *b;
    *b = c;
}

static NOINLINE u64 five(u64 a, u64 b, u64 c, u64 d, u64 e)
{
    swap(&a, &e);
    return ((((a * 3 + b) * 3 + c) * 3 + d) * 3) + e;
}

__attribute__((weak)) NOINLINE u64 replaceable(u64 n)
{
    return n * 7;
}

u64 prog(u8 *memory, u64 size)
{
    u64 x = in_second(memory, size < 64 ? size : 64), y = factorial(9);
    swap(&x, &y);
    return x + 3 * y + five(x, y, 5, memory[3], size) + replaceable(memory[9]);
}

NOINLINE u64 later(u64 n)
{
    return n * n + 1;
}
