/* bpf/verify/scalar.c: sets of numbers: how the parts of a scalar tell one another, and sets of
 * sets. */
#include <stdio.h>

#include "base/util.h"
#include "bpf/verify/scalar.h"

static const struct bounds bounds64 = {INT64_MIN, INT64_MAX, 0, UINT64_MAX};
static const struct bounds bounds32 = {INT32_MIN, INT32_MAX, 0, UINT32_MAX};

static int64_t min_s64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_s64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

struct scalar scalar_unknown(void)
{
    return (struct scalar){TNUM_UNKNOWN, bounds64, bounds32};
}

struct scalar scalar_const(uint64_t value)
{
    uint32_t low = (uint32_t)value;
    return (struct scalar){tnum_const(value),
                           {(int64_t)value, (int64_t)value, value, value},
                           {(int32_t)low, (int32_t)low, low, low}};
}

struct scalar scalar_signed(int64_t min, int64_t max)
{
    struct scalar a = scalar_unknown();
    a.all.smin = min;
    a.all.smax = max;
    scalar_sync(&a);
    return a;
}

struct scalar scalar_unsigned(uint64_t min, uint64_t max)
{
    struct scalar a = scalar_unknown();
    a.all.umin = min;
    a.all.umax = max;
    scalar_sync(&a);
    return a;
}

/* ---- the parts tell one another ---------------------------------------------------------- */

static void bounds_from_bits(struct bounds *b, struct tnum bits, unsigned width)
{
    bits = tnum_low(bits, width);
    uint64_t sign = UINT64_C(1) << (width - 1);
    unsigned up = 64 - width;
    uint64_t least = bits.value | (bits.mask & sign);
    uint64_t most = bits.value | (bits.mask & ~sign);
    b->umin = max_u64(b->umin, bits.value);
    b->umax = min_u64(b->umax, bits.value | bits.mask);
    b->smin = max_s64(b->smin, (int64_t)(least << up) >> up);
    b->smax = min_s64(b->smax, (int64_t)(most << up) >> up);
}

/* The low bits that are known: bounds move to the nearest numbers that have them. */
static void bounds_align(struct bounds *b, struct tnum bits)
{
    unsigned known = bits.mask ? (unsigned)__builtin_ctzll(bits.mask) : 63;
    uint64_t step = UINT64_C(1) << (known > 62 ? 62 : known), low = bits.value & (step - 1), n;
    if (!__builtin_add_overflow(b->umin, (low - b->umin) & (step - 1), &n))
        b->umin = n;
    if (!__builtin_sub_overflow(b->umax, (b->umax - low) & (step - 1), &n))
        b->umax = n;
    int64_t s;
    if (!__builtin_add_overflow(b->smin, (low - (uint64_t)b->smin) & (step - 1), &s))
        b->smin = s;
    if (!__builtin_sub_overflow(b->smax, ((uint64_t)b->smax - low) & (step - 1), &s))
        b->smax = s;
}

/* A negative number is a large unsigned one. wrap: 2^width, modulo 2^64. */
static void bounds_signs(struct bounds *b, unsigned width)
{
    uint64_t keep = width == 64 ? UINT64_MAX : UINT32_MAX;
    uint64_t half = UINT64_C(1) << (width - 1);
    unsigned up = 64 - width;
    uint64_t low = (uint64_t)b->smin & keep, high = (uint64_t)b->smax & keep;
    if (b->smin >= 0 || b->smax < 0) {
        b->umin = max_u64(b->umin, low);
        b->umax = min_u64(b->umax, high);
    } else if (b->umin > high) {
        b->umin = max_u64(b->umin, low); /* not in [0, smax], so it is in [smin, -1] */
    } else if (b->umax < low) {
        b->umax = min_u64(b->umax, high);
    }
    if (b->umax < half || b->umin >= half) {
        b->smin = max_s64(b->smin, (int64_t)(b->umin << up) >> up);
        b->smax = min_s64(b->smax, (int64_t)(b->umax << up) >> up);
    }
}

/* What the bounds of the whole tell of the low half: if no multiple of 2^32 lies between. */
static void low_from_all(struct scalar *a)
{
    const struct bounds *b = &a->all;
    uint32_t umin = (uint32_t)b->umin, umax = (uint32_t)b->umax;
    if (b->umax - b->umin <= UINT32_MAX) {
        if (umin <= umax) {
            a->low.umin = max_u64(a->low.umin, umin);
            a->low.umax = min_u64(a->low.umax, umax);
        }
        if ((int32_t)umin <= (int32_t)umax) {
            a->low.smin = max_s64(a->low.smin, (int32_t)umin);
            a->low.smax = min_s64(a->low.smax, (int32_t)umax);
        }
    }
    umin = (uint32_t)b->smin, umax = (uint32_t)b->smax;
    if ((uint64_t)b->smax - (uint64_t)b->smin <= UINT32_MAX) {
        if (umin <= umax) {
            a->low.umin = max_u64(a->low.umin, umin);
            a->low.umax = min_u64(a->low.umax, umax);
        }
        if ((int32_t)umin <= (int32_t)umax) {
            a->low.smin = max_s64(a->low.smin, (int32_t)umin);
            a->low.smax = min_s64(a->low.smax, (int32_t)umax);
        }
    }
}

/* The first number from n on, upwards, whose low half is within bounds; false: there is none
 * below 2^64. */
static bool next_with_low(uint64_t *n, const struct bounds *low, uint64_t last_high)
{
    uint64_t high = *n >> 32;
    uint32_t half = (uint32_t)*n;
    if (half > low->umax) {
        if (high == last_high)
            return false;
        *n = (high + 1) << 32 | low->umin;
    } else if (half < low->umin) {
        *n = high << 32 | low->umin;
    }
    return true;
}

static bool previous_with_low(uint64_t *n, const struct bounds *low, uint64_t first_high)
{
    uint64_t high = *n >> 32;
    uint32_t half = (uint32_t)*n;
    if (half < low->umin) {
        if (high == first_high)
            return false;
        *n = (high - 1) << 32 | low->umax;
    } else if (half > low->umax) {
        *n = high << 32 | low->umax;
    }
    return true;
}

static bool all_from_low(struct scalar *a)
{
    struct bounds *b = &a->all;
    uint64_t smin = (uint64_t)b->smin, smax = (uint64_t)b->smax;
    if (!next_with_low(&b->umin, &a->low, UINT32_MAX) || !previous_with_low(&b->umax, &a->low, 0) ||
        !next_with_low(&smin, &a->low, INT32_MAX) ||
        !previous_with_low(&smax, &a->low, (uint64_t)INT32_MAX + 1))
        return false;
    smin &= UINT64_MAX;
    b->smin = (int64_t)smin;
    b->smax = (int64_t)smax;
    return true;
}

static bool bounds_empty(const struct bounds *b)
{
    return b->smin > b->smax || b->umin > b->umax;
}

static bool bits_from_bounds(struct scalar *a)
{
    struct tnum low = tnum_range(a->low.umin, a->low.umax);
    low.mask |= UINT64_MAX << 32;
    low.value &= ~low.mask;
    return tnum_intersect(a->bits, tnum_range(a->all.umin, a->all.umax), &a->bits) &&
           tnum_intersect(a->bits, low, &a->bits);
}

bool scalar_sync(struct scalar *a)
{
    for (int round = 0; round < 4; round++) {
        struct scalar before = *a;
        bounds_from_bits(&a->all, a->bits, 64);
        bounds_from_bits(&a->low, a->bits, 32);
        bounds_align(&a->all, a->bits);
        bounds_signs(&a->all, 64);
        bounds_signs(&a->low, 32);
        if (bounds_empty(&a->all) || bounds_empty(&a->low))
            return false;
        low_from_all(a);
        if (bounds_empty(&a->low) || !all_from_low(a) || bounds_empty(&a->all))
            return false;
        bounds_signs(&a->all, 64);
        bounds_signs(&a->low, 32);
        if (bounds_empty(&a->all) || bounds_empty(&a->low) || !bits_from_bounds(a))
            return false;
        if (a->bits.mask == before.bits.mask && a->all.umin == before.all.umin &&
            a->all.umax == before.all.umax && a->all.smin == before.all.smin &&
            a->all.smax == before.all.smax && a->low.umin == before.low.umin &&
            a->low.umax == before.low.umax && a->low.smin == before.low.smin &&
            a->low.smax == before.low.smax)
            break;
    }
    return true;
}

/* ---- sets -------------------------------------------------------------------------------- */

static bool bounds_within(const struct bounds *a, const struct bounds *b)
{
    return a->smin >= b->smin && a->smax <= b->smax && a->umin >= b->umin && a->umax <= b->umax;
}

bool scalar_within(const struct scalar *a, const struct scalar *b)
{
    return bounds_within(&a->all, &b->all) && bounds_within(&a->low, &b->low) &&
           tnum_within(a->bits, b->bits);
}

bool scalar_contains(const struct scalar *a, uint64_t value)
{
    struct scalar v = scalar_const(value);
    return scalar_within(&v, a);
}

static void bounds_union(struct bounds *a, const struct bounds *b)
{
    a->smin = min_s64(a->smin, b->smin);
    a->smax = max_s64(a->smax, b->smax);
    a->umin = min_u64(a->umin, b->umin);
    a->umax = max_u64(a->umax, b->umax);
}

struct scalar scalar_union(const struct scalar *a, const struct scalar *b)
{
    struct scalar out = *a;
    bounds_union(&out.all, &b->all);
    bounds_union(&out.low, &b->low);
    out.bits = tnum_union(a->bits, b->bits);
    return out;
}

static void bounds_intersect(struct bounds *a, const struct bounds *b)
{
    a->smin = max_s64(a->smin, b->smin);
    a->smax = min_s64(a->smax, b->smax);
    a->umin = max_u64(a->umin, b->umin);
    a->umax = min_u64(a->umax, b->umax);
}

bool scalar_intersect(struct scalar *a, const struct scalar *b)
{
    bounds_intersect(&a->all, &b->all);
    bounds_intersect(&a->low, &b->low);
    return tnum_intersect(a->bits, b->bits, &a->bits) && scalar_sync(a);
}

/* ---- words ------------------------------------------------------------------------------- */

void scalar_text(const struct scalar *a, char text[SCALAR_TEXT])
{
    int len;
    if (scalar_is_const(a)) {
        snprintf(text, SCALAR_TEXT, "%lld", (long long)a->all.smin);
        return;
    }
    const struct bounds *b = &a->all;
    if (b->smin >= 0 || b->umax - b->umin >= (uint64_t)b->smax - (uint64_t)b->smin) {
        if (b->smin == INT64_MIN && b->smax == INT64_MAX)
            len = snprintf(text, SCALAR_TEXT, "any");
        else
            len = snprintf(text, SCALAR_TEXT, "%lld..%lld", (long long)b->smin, (long long)b->smax);
    } else {
        len = snprintf(text, SCALAR_TEXT, "%llu..%llu", (unsigned long long)b->umin,
                       (unsigned long long)b->umax);
    }
    struct tnum plain = tnum_range(b->umin, b->umax);
    if (a->bits.mask != plain.mask)
        len += snprintf(text + len, SCALAR_TEXT - (size_t)len, " bits %llx/%llx",
                        (unsigned long long)a->bits.value, (unsigned long long)a->bits.mask);
    if (b->umax > UINT32_MAX && (a->low.umin > 0 || a->low.umax < UINT32_MAX))
        snprintf(text + len, SCALAR_TEXT - (size_t)len, " low %llu..%llu",
                 (unsigned long long)a->low.umin, (unsigned long long)a->low.umax);
}
