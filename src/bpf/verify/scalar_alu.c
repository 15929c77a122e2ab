/* bpf/verify/scalar_alu.c: arithmetic on scalars, for the whole (64 bits) or the low half (32). */
#include "base/util.h"
#include "bpf/insn.h"
#include "bpf/verify/scalar.h"

/* An operand or a result as a number of `width` bits. */
struct part {
    struct tnum bits; /* zero above the width */
    struct bounds b;
};

static uint64_t keep(unsigned width)
{
    return width == 64 ? UINT64_MAX : UINT32_MAX;
}

static int64_t smallest(unsigned width)
{
    return width == 64 ? INT64_MIN : INT32_MIN;
}

static int64_t largest(unsigned width)
{
    return width == 64 ? INT64_MAX : INT32_MAX;
}

static struct part part_of(const struct scalar *a, unsigned width)
{
    return (struct part){tnum_low(a->bits, width), width == 64 ? a->all : a->low};
}

static struct part part_unknown(unsigned width)
{
    return (struct part){{0, keep(width)}, {smallest(width), largest(width), 0, keep(width)}};
}

static bool part_const(const struct part *a)
{
    return a->b.umin == a->b.umax;
}

static void set_signed(struct part *out, int64_t min, int64_t max)
{
    out->b.smin = min;
    out->b.smax = max;
}

static void set_unsigned(struct part *out, uint64_t min, uint64_t max)
{
    out->b.umin = min;
    out->b.umax = max;
}

/* Signed bounds, if they are within the width. */
static void try_signed(struct part *out, unsigned width, bool overflow, int64_t min, int64_t max)
{
    if (!overflow && min >= smallest(width) && max <= largest(width))
        set_signed(out, min, max);
}

static struct part add(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    int64_t smin, smax;
    uint64_t umin, umax;
    bool over = __builtin_add_overflow(a->b.smin, b->b.smin, &smin);
    over |= __builtin_add_overflow(a->b.smax, b->b.smax, &smax);
    try_signed(&out, width, over, smin, smax);
    bool wrap_min = __builtin_add_overflow(a->b.umin, b->b.umin, &umin) || umin > keep(width);
    bool wrap_max = __builtin_add_overflow(a->b.umax, b->b.umax, &umax) || umax > keep(width);
    if (wrap_min == wrap_max) /* all of it wraps, or none */
        set_unsigned(&out, umin & keep(width), umax & keep(width));
    out.bits = tnum_low(tnum_add(a->bits, b->bits), width);
    return out;
}

static struct part sub(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    int64_t smin, smax;
    bool over = __builtin_sub_overflow(a->b.smin, b->b.smax, &smin);
    over |= __builtin_sub_overflow(a->b.smax, b->b.smin, &smax);
    try_signed(&out, width, over, smin, smax);
    bool wrap_min = a->b.umin < b->b.umax, wrap_max = a->b.umax < b->b.umin;
    if (wrap_min == wrap_max)
        set_unsigned(&out, (a->b.umin - b->b.umax) & keep(width),
                     (a->b.umax - b->b.umin) & keep(width));
    out.bits = tnum_low(tnum_sub(a->bits, b->bits), width);
    return out;
}

static struct part mul(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    int64_t from[2] = {a->b.smin, a->b.smax}, with[2] = {b->b.smin, b->b.smax};
    int64_t smin = INT64_MAX, smax = INT64_MIN;
    bool over = false;
    for (int i = 0; i < 4; i++) {
        int64_t product;
        over |= __builtin_mul_overflow(from[i & 1], with[i >> 1], &product);
        smin = product < smin ? product : smin;
        smax = product > smax ? product : smax;
    }
    try_signed(&out, width, over, smin, smax);
    uint64_t umax;
    if (!__builtin_mul_overflow(a->b.umax, b->b.umax, &umax) && umax <= keep(width))
        set_unsigned(&out, a->b.umin * b->b.umin, umax);
    out.bits = tnum_low(tnum_mul(a->bits, b->bits), width);
    return out;
}

/* x / 0 is 0. */
static struct part divide(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    if (!b->b.umax)
        set_unsigned(&out, 0, 0);
    else
        set_unsigned(&out, b->b.umin ? a->b.umin / b->b.umax : 0,
                     a->b.umax / (b->b.umin ? b->b.umin : 1));
    return out;
}

/* x % 0 is x. */
static struct part modulo(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    uint64_t max = a->b.umax;
    if (b->b.umin)
        max = min_u64(max, b->b.umax - 1);
    if (b->b.umin > a->b.umax || !b->b.umax) /* it is smaller than what divides it */
        return *a;
    set_unsigned(&out, 0, max);
    if (part_const(a) && part_const(b))
        set_unsigned(&out, a->b.umin % b->b.umin, a->b.umin % b->b.umin);
    if (part_const(b) && is_pow2(b->b.umin))
        out.bits = tnum_and(a->bits, tnum_const(b->b.umin - 1));
    return out;
}

/* x / 0 is 0; the smallest / -1 is the smallest. */
static struct part divide_signed(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    int64_t by = b->b.smin;
    if (part_const(b) && by != 0 && by != -1) {
        int64_t x = a->b.smin / by, y = a->b.smax / by;
        set_signed(&out, x < y ? x : y, x < y ? y : x);
    } else if (b->b.smin >= 0 && a->b.smin >= 0) {
        return divide(a, b, width);
    } else if (a->b.smin > smallest(width)) {
        int64_t most = a->b.smax > -a->b.smin ? a->b.smax : -a->b.smin;
        set_signed(&out, -most, most);
    }
    return out;
}

/* It has the sign of a, and is not farther from 0 than a; x % 0 is x. */
static struct part modulo_signed(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    int64_t min = a->b.smin < 0 ? a->b.smin : 0, max = a->b.smax > 0 ? a->b.smax : 0;
    int64_t by = b->b.smin;
    if (part_const(b) && by != 0) {
        int64_t most = by < 0 ? -(by + 1) : by - 1; /* |by| - 1, without wrapping */
        min = min < -most ? -most : min;
        max = max > most ? most : max;
    }
    set_signed(&out, min, max);
    return out;
}

/* All bits up to the highest of n. */
static uint64_t fill(uint64_t n)
{
    return n ? UINT64_MAX >> __builtin_clzll(n) : 0;
}

static struct part bitwise(unsigned op, const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    if (op == BPF_AND) {
        out.bits = tnum_and(a->bits, b->bits);
        set_unsigned(&out, 0, min_u64(a->b.umax, b->b.umax));
    } else if (op == BPF_OR) {
        out.bits = tnum_or(a->bits, b->bits);
        set_unsigned(&out, max_u64(a->b.umin, b->b.umin), fill(a->b.umax | b->b.umax));
    } else {
        out.bits = tnum_xor(a->bits, b->bits);
        set_unsigned(&out, 0, fill(a->b.umax | b->b.umax));
    }
    return out;
}

/* Shift counts are taken modulo the width. */
static void shift_count(const struct part *b, unsigned width, unsigned *min, unsigned *max)
{
    *min = 0;
    *max = width - 1;
    if (part_const(b)) {
        *min = *max = (unsigned)(b->b.umin & (width - 1));
    } else if (b->b.umax < width) {
        *min = (unsigned)b->b.umin;
        *max = (unsigned)b->b.umax;
    }
}

static struct part shift_left(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    unsigned min, max;
    shift_count(b, width, &min, &max);
    if (a->b.umax <= keep(width) >> max)
        set_unsigned(&out, a->b.umin << min, a->b.umax << max);
    if (min == max) {
        out.bits = tnum_low(tnum_lsh(a->bits, min), width);
        if (a->b.smin >= smallest(width) >> min && a->b.smax <= largest(width) >> min)
            set_signed(&out, (int64_t)((uint64_t)a->b.smin << min),
                       (int64_t)((uint64_t)a->b.smax << min));
    } else {
        uint64_t maybe = a->bits.value | a->bits.mask;
        unsigned zeroes = maybe ? (unsigned)__builtin_ctzll(maybe) : 63;
        zeroes += min;
        out.bits.mask = zeroes > 63 ? 0 : (keep(width) >> zeroes) << zeroes;
    }
    return out;
}

static struct part shift_right(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    unsigned min, max;
    shift_count(b, width, &min, &max);
    set_unsigned(&out, a->b.umin >> max, a->b.umax >> min);
    if (min == max)
        out.bits = tnum_rsh(a->bits, min);
    return out;
}

static struct part shift_right_signed(const struct part *a, const struct part *b, unsigned width)
{
    struct part out = part_unknown(width);
    unsigned min, max, up = 64 - width;
    shift_count(b, width, &min, &max);
    set_signed(&out, a->b.smin >> (a->b.smin < 0 ? min : max),
               a->b.smax >> (a->b.smax < 0 ? max : min));
    if (min == max)
        out.bits = tnum_low(tnum_arsh(tnum_arsh(tnum_lsh(a->bits, up), up), min), width);
    return out;
}

static struct part compute(unsigned op, bool is_signed, const struct part *a, const struct part *b,
                           unsigned width)
{
    struct part zero = {tnum_const(0), {0}};
    switch (op) {
    case BPF_ADD:
        return add(a, b, width);
    case BPF_SUB:
        return sub(a, b, width);
    case BPF_NEG:
        return sub(&zero, a, width);
    case BPF_MUL:
        return mul(a, b, width);
    case BPF_DIV:
        return is_signed ? divide_signed(a, b, width) : divide(a, b, width);
    case BPF_MOD:
        return is_signed ? modulo_signed(a, b, width) : modulo(a, b, width);
    case BPF_AND:
    case BPF_OR:
    case BPF_XOR:
        return bitwise(op, a, b, width);
    case BPF_LSH:
        return shift_left(a, b, width);
    case BPF_RSH:
        return shift_right(a, b, width);
    case BPF_ARSH:
        return shift_right_signed(a, b, width);
    default:
        return part_unknown(width);
    }
}

/* Whether the low half of the result depends on nothing but the low halves of the operands. */
static bool low_is_alone(unsigned op, const struct part *b)
{
    switch (op) {
    case BPF_ADD:
    case BPF_SUB:
    case BPF_NEG:
    case BPF_MUL:
    case BPF_AND:
    case BPF_OR:
    case BPF_XOR:
        return true;
    case BPF_LSH:
        return b->b.umax < 32;
    default:
        return false;
    }
}

struct scalar scalar_alu(unsigned op, bool is32, bool is_signed, const struct scalar *a,
                         const struct scalar *b)
{
    struct scalar out = scalar_unknown();
    struct part b64 = part_of(b, 64), b32 = part_of(b, 32);
    if (is32) {
        struct part a32 = part_of(a, 32);
        struct part low = compute(op, is_signed, &a32, &b32, 32);
        out.bits = low.bits; /* zeroes above */
        out.low = low.b;
    } else {
        struct part a64 = part_of(a, 64);
        struct part all = compute(op, is_signed, &a64, &b64, 64);
        out.bits = all.bits;
        out.all = all.b;
        if (op == BPF_NEG || low_is_alone(op, &b64)) {
            struct part a32 = part_of(a, 32);
            out.low = compute(op, is_signed, &a32, &b32, 32).b;
        }
        if (op == BPF_LSH && part_const(&b64) && (b64.b.umin & 63) == 32) {
            out.all.umin = a->low.umin << 32; /* the low half goes up */
            out.all.umax = a->low.umax << 32;
            out.all.smin = (int64_t)((uint64_t)a->low.smin << 32);
            out.all.smax = (int64_t)((uint64_t)a->low.smax << 32);
        }
    }
    scalar_sync(&out);
    return out;
}

struct scalar scalar_zero_extend(const struct scalar *a, unsigned bits)
{
    struct scalar out = scalar_unknown();
    out.bits = tnum_low(a->bits, bits);
    if (bits == 64)
        return *a;
    if (bits == 32)
        out.low = a->low;
    uint64_t max = (UINT64_C(1) << bits) - 1;
    if (a->all.umax <= max)
        out = *a;
    else if (bits < 32 && a->low.umax <= max) {
        out.all.umin = a->low.umin;
        out.all.umax = a->low.umax;
    }
    scalar_sync(&out);
    return out;
}

struct scalar scalar_sign_extend(const struct scalar *a, unsigned bits)
{
    struct scalar out = scalar_unknown();
    unsigned up = 64 - bits;
    int64_t max = (int64_t)(UINT64_MAX >> (up + 1)), min = -max - 1;
    out.bits = tnum_arsh(tnum_lsh(a->bits, up), up);
    out.all.smin = min;
    out.all.smax = max;
    if (a->all.smin >= min && a->all.smax <= max)
        out = *a;
    else if (a->low.smin >= min && a->low.smax <= max) {
        out.all.smin = a->low.smin;
        out.all.smax = a->low.smax;
    }
    scalar_sync(&out);
    return out;
}

struct scalar scalar_swap(const struct scalar *a, unsigned bits)
{
    struct scalar out = scalar_unknown();
    struct tnum low = tnum_low(a->bits, bits);
    out.bits.value = __builtin_bswap64(low.value) >> (64 - bits);
    out.bits.mask = __builtin_bswap64(low.mask) >> (64 - bits);
    scalar_sync(&out);
    return out;
}

/* ---- comparisons ------------------------------------------------------------------------- */

static unsigned opposite(unsigned op)
{
    switch (op) {
    case BPF_JEQ:
        return BPF_JNE;
    case BPF_JNE:
        return BPF_JEQ;
    case BPF_JGT:
        return BPF_JLE;
    case BPF_JLE:
        return BPF_JGT;
    case BPF_JGE:
        return BPF_JLT;
    case BPF_JLT:
        return BPF_JGE;
    case BPF_JSGT:
        return BPF_JSLE;
    case BPF_JSLE:
        return BPF_JSGT;
    case BPF_JSGE:
        return BPF_JSLT;
    default:
        return BPF_JSGE; /* of JSLT */
    }
}

static bool below(struct bounds *a, struct bounds *b, bool equal)
{
    if (!equal && (!b->umax || a->umin == UINT64_MAX))
        return false;
    a->umax = min_u64(a->umax, b->umax - !equal);
    b->umin = max_u64(b->umin, a->umin + !equal);
    return true;
}

static bool below_signed(struct bounds *a, struct bounds *b, bool equal)
{
    if (!equal && (b->smax == INT64_MIN || a->smin == INT64_MAX))
        return false;
    int64_t most = b->smax - !equal, least = a->smin + !equal;
    a->smax = a->smax < most ? a->smax : most;
    b->smin = b->smin > least ? b->smin : least;
    return true;
}

/* a is not this number: take it off the ends. */
static bool trim(struct bounds *a, const struct bounds *number)
{
    if (a->umin == a->umax && a->umin == number->umin)
        return false;
    a->umin += a->umin == number->umin;
    a->umax -= a->umax == number->umin;
    a->smin += a->smin == number->smin;
    a->smax -= a->smax == number->smin;
    return true;
}

static bool not_equal(struct bounds *a, struct bounds *b)
{
    if (b->umin == b->umax)
        return trim(a, b);
    return a->umin != a->umax || trim(b, a);
}

static bool bit_test(struct scalar *a, const struct scalar *b, unsigned width, bool set)
{
    struct tnum x = tnum_low(a->bits, width), y = tnum_low(b->bits, width);
    uint64_t maybe = (x.value | x.mask) & (y.value | y.mask);
    if (set) {
        if (!maybe)
            return false;
        if (!y.mask && is_pow2(y.value)) {
            a->bits.value |= y.value;
            a->bits.mask &= ~y.value;
        }
        return true;
    }
    if (x.value & y.value)
        return false;
    a->bits.mask &= ~y.value; /* where b has a one, a has a zero */
    return true;
}

bool scalar_branch(unsigned op, bool is32, bool taken, struct scalar *a, struct scalar *b)
{
    struct bounds *x = is32 ? &a->low : &a->all, *y = is32 ? &b->low : &b->all;
    unsigned width = is32 ? 32 : 64;
    bool possible = true;
    if (op == BPF_JSET) {
        possible = bit_test(a, b, width, taken) && bit_test(b, a, width, taken);
        return possible && scalar_sync(a) && scalar_sync(b);
    }
    switch (taken ? op : opposite(op)) {
    case BPF_JEQ:
        if (!is32)
            return scalar_intersect(a, b) && scalar_intersect(b, a);
        struct scalar low = scalar_unknown();
        low.low = b->low;
        low.bits = (struct tnum){(uint32_t)b->bits.value, b->bits.mask | UINT64_MAX << 32};
        if (!scalar_intersect(a, &low))
            return false;
        low.low = a->low;
        low.bits = (struct tnum){(uint32_t)a->bits.value, a->bits.mask | UINT64_MAX << 32};
        return scalar_intersect(b, &low);
    case BPF_JNE:
        possible = not_equal(x, y);
        break;
    case BPF_JGT:
        possible = below(y, x, false);
        break;
    case BPF_JGE:
        possible = below(y, x, true);
        break;
    case BPF_JLT:
        possible = below(x, y, false);
        break;
    case BPF_JLE:
        possible = below(x, y, true);
        break;
    case BPF_JSGT:
        possible = below_signed(y, x, false);
        break;
    case BPF_JSGE:
        possible = below_signed(y, x, true);
        break;
    case BPF_JSLT:
        possible = below_signed(x, y, false);
        break;
    case BPF_JSLE:
        possible = below_signed(x, y, true);
        break;
    default:
        break;
    }
    return possible && scalar_sync(a) && scalar_sync(b);
}
