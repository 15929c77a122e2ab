/* bpf/verify/tnum.c: numbers of which some bits are known. */
#include "bpf/verify/scalar.h"

struct tnum tnum_range(uint64_t min, uint64_t max)
{
    uint64_t differ = min ^ max;
    if (!differ)
        return tnum_const(min);
    unsigned top = 63u - (unsigned)__builtin_clzll(differ);
    uint64_t mask = top == 63 ? UINT64_MAX : (UINT64_C(2) << top) - 1;
    return (struct tnum){min & ~mask, mask};
}

/* Where a carry may or may not arrive, the sums of the smallest and the largest differ. */
struct tnum tnum_add(struct tnum a, struct tnum b)
{
    uint64_t least = a.value + b.value;
    uint64_t most = least + a.mask + b.mask;
    uint64_t mask = (least ^ most) | a.mask | b.mask;
    return (struct tnum){least & ~mask, mask};
}

struct tnum tnum_sub(struct tnum a, struct tnum b)
{
    uint64_t middle = a.value - b.value;
    uint64_t mask = ((middle + a.mask) ^ (middle - b.mask)) | a.mask | b.mask;
    return (struct tnum){middle & ~mask, mask};
}

/* One partial product for each bit of a. */
struct tnum tnum_mul(struct tnum a, struct tnum b)
{
    struct tnum sum = tnum_const(a.value * b.value);
    struct tnum unknown = tnum_const(0);
    for (; a.value || a.mask; a = tnum_rsh(a, 1), b = tnum_lsh(b, 1)) {
        if (a.value & 1) /* what is known of b is in the product of the values */
            unknown = tnum_add(unknown, (struct tnum){0, b.mask});
        else if (a.mask & 1)
            unknown = tnum_add(unknown, (struct tnum){0, b.value | b.mask});
    }
    return tnum_add(sum, unknown);
}

struct tnum tnum_and(struct tnum a, struct tnum b)
{
    uint64_t ones = a.value & b.value;
    uint64_t maybe = (a.value | a.mask) & (b.value | b.mask);
    return (struct tnum){ones, maybe & ~ones};
}

struct tnum tnum_or(struct tnum a, struct tnum b)
{
    uint64_t ones = a.value | b.value;
    return (struct tnum){ones, (a.mask | b.mask) & ~ones};
}

struct tnum tnum_xor(struct tnum a, struct tnum b)
{
    uint64_t mask = a.mask | b.mask;
    return (struct tnum){(a.value ^ b.value) & ~mask, mask};
}

struct tnum tnum_lsh(struct tnum a, unsigned shift)
{
    return (struct tnum){a.value << shift, a.mask << shift};
}

struct tnum tnum_rsh(struct tnum a, unsigned shift)
{
    return (struct tnum){a.value >> shift, a.mask >> shift};
}

struct tnum tnum_arsh(struct tnum a, unsigned shift)
{
    return (struct tnum){(uint64_t)((int64_t)a.value >> shift),
                         (uint64_t)((int64_t)a.mask >> shift)};
}

struct tnum tnum_low(struct tnum a, unsigned bits)
{
    uint64_t keep = bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    return (struct tnum){a.value & keep, a.mask & keep};
}

struct tnum tnum_union(struct tnum a, struct tnum b)
{
    uint64_t mask = a.mask | b.mask | (a.value ^ b.value);
    return (struct tnum){a.value & ~mask, mask};
}

bool tnum_intersect(struct tnum a, struct tnum b, struct tnum *out)
{
    if ((a.value ^ b.value) & ~a.mask & ~b.mask)
        return false;
    uint64_t mask = a.mask & b.mask;
    *out = (struct tnum){(a.value | b.value) & ~mask, mask};
    return true;
}

bool tnum_within(struct tnum a, struct tnum b)
{
    return !(a.mask & ~b.mask) && !((a.value ^ b.value) & ~b.mask);
}
