/* Variables of all kinds, and what becomes of them. */
#include "test.h"

const u64 constant = 0x1122334455667788;
static const u32 primes[] = {2, 3, 5, 7, 11, 13, 17, 19, 23};
u64 initialised = 41;
static u16 local_data[3] = {100, 200, 300};
u64 zero;
static u8 local_zero[100];
u32 shared; /* COMMON with -fcommon */
struct pair {
    u8 small;
    u64 large;
} pair = {.small = 3, .large = 1000000007};
volatile const u8 *where;

u64 prog(u8 *memory, u64 size)
{
    u64 sum = constant ^ initialised++;
    for (u64 i = 0; i < size; i++) {
        local_zero[i % sizeof(local_zero)] += memory[i];
        sum += primes[memory[i] % 9] * local_data[i % 3];
        local_data[i % 3] += memory[i];
    }
    for (u32 i = 0; i < sizeof(local_zero); i++)
        sum = sum * 31 + local_zero[i];
    zero += sum;
    shared = (u32)size + pair.small;
    pair.large += pair.small++;
    where = &local_zero[7];
    return zero + initialised + shared + pair.large + *where + local_data[1];
}
