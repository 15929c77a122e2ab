/* Names that may be missing, and functions that are not called. */
#include "test.h"

extern u64 missing __attribute__((weak));
extern u64 missing_function(u64 n) __attribute__((weak));
static u64 *const maybe[] = {&missing};

u64 unused(u64 n)
{
    return n + 5;
}

u64 prog(u8 *memory, u64 size)
{
    return size + memory[0] + (&missing == 0) * 1000 + (missing_function == 0) * 10000 +
           (maybe[memory[1] & 0] == 0) * 100000;
}
