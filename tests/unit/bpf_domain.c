/* What the verifier computes with sets of numbers, against what the machine computes with numbers:
 * the set of results has every result. */
#include "test.h"

#include "base/util.h"
#include "bpf/insn.h"
#include "bpf/verify/scalar.h"

static uint64_t seed = 1;

static uint64_t rnd(uint64_t below)
{
    return random_below(&seed, below);
}

/* Numbers where things happen. */
static uint64_t edge(void)
{
    static const uint64_t edges[] = {
        0,
        1,
        2,
        3,
        7,
        8,
        31,
        32,
        33,
        63,
        64,
        127,
        128,
        255,
        256,
        65535,
        65536,
        0x7fffffff,
        0x80000000,
        0x80000001,
        0xffffffff,
        0x100000000,
        0x100000001,
        0x7fffffff00000000,
        0x7fffffffffffffff,
        0x8000000000000000,
        0x8000000000000001,
        0xffffffff00000000,
        0xffffffff7fffffff,
        0xffffffff80000000,
        0xfffffffffffffffe,
        0xffffffffffffffff,
    };
    switch (rnd(4)) {
    case 0:
        return random_next(&seed);
    case 1:
        return random_next(&seed) >> rnd(64);
    case 2:
        return edges[rnd(ARRAY_SIZE(edges))] + rnd(5) - 2;
    default:
        return edges[rnd(ARRAY_SIZE(edges))];
    }
}

/* A random set that has x in it, its parts not yet in agreement. */
static struct scalar around(uint64_t x)
{
    struct scalar a = scalar_unknown();
    if (rnd(8) == 0)
        return scalar_const(x);
    if (rnd(2)) {
        uint64_t mask = edge();
        a.bits = (struct tnum){x & ~mask, mask};
    }
    uint32_t low = (uint32_t)x;
    if (rnd(2)) {
        uint64_t y = edge(), z = edge();
        a.all.umin = min_u64(x, y);
        a.all.umax = max_u64(x, z);
    }
    if (rnd(2)) {
        int64_t y = (int64_t)edge(), z = (int64_t)edge();
        a.all.smin = (int64_t)x < y ? (int64_t)x : y;
        a.all.smax = (int64_t)x > z ? (int64_t)x : z;
    }
    if (rnd(3) == 0) {
        uint32_t y = (uint32_t)edge(), z = (uint32_t)edge();
        a.low.umin = low < y ? low : y;
        a.low.umax = low > z ? low : z;
    }
    if (rnd(3) == 0) {
        int32_t y = (int32_t)edge(), z = (int32_t)edge();
        a.low.smin = (int32_t)low < y ? (int32_t)low : y;
        a.low.smax = (int32_t)low > z ? (int32_t)low : z;
    }
    if (!scalar_sync(&a))
        fail_msg("a set with %llx in it is empty", (unsigned long long)x);
    return a;
}

static void check(const char *what, const struct scalar *a, uint64_t x)
{
    struct scalar twice = *a;
    if (!scalar_contains(a, x))
        fail_msg("%s: %llx is missing", what, (unsigned long long)x);
    assert_true(scalar_sync(&twice));
    assert_true(scalar_within(&twice, a));
}

static uint64_t machine(unsigned op, bool is32, bool is_signed, uint64_t x, uint64_t y)
{
    if (is32) {
        uint32_t a = (uint32_t)x, b = (uint32_t)y;
        int32_t s = (int32_t)a, t = (int32_t)b;
        switch (op) {
        case BPF_ADD:
            return a + b;
        case BPF_SUB:
            return a - b;
        case BPF_MUL:
            return a * b;
        case BPF_DIV:
            if (is_signed)
                return t == 0 ? 0 : t == -1 ? (uint32_t)0 - a : (uint32_t)(s / t);
            return b ? a / b : 0;
        case BPF_MOD:
            if (is_signed)
                return t == 0 ? a : t == -1 ? 0 : (uint32_t)(s % t);
            return b ? a % b : a;
        case BPF_OR:
            return a | b;
        case BPF_AND:
            return a & b;
        case BPF_XOR:
            return a ^ b;
        case BPF_LSH:
            return a << (b & 31);
        case BPF_RSH:
            return a >> (b & 31);
        case BPF_ARSH:
            return (uint32_t)(s >> (b & 31));
        default:
            return (uint32_t)0 - a;
        }
    }
    int64_t s = (int64_t)x, t = (int64_t)y;
    switch (op) {
    case BPF_ADD:
        return x + y;
    case BPF_SUB:
        return x - y;
    case BPF_MUL:
        return x * y;
    case BPF_DIV:
        if (is_signed)
            return t == 0 ? 0 : t == -1 ? 0 - x : (uint64_t)(s / t);
        return y ? x / y : 0;
    case BPF_MOD:
        if (is_signed)
            return t == 0 ? x : t == -1 ? 0 : (uint64_t)(s % t);
        return y ? x % y : x;
    case BPF_OR:
        return x | y;
    case BPF_AND:
        return x & y;
    case BPF_XOR:
        return x ^ y;
    case BPF_LSH:
        return x << (y & 63);
    case BPF_RSH:
        return x >> (y & 63);
    case BPF_ARSH:
        return (uint64_t)(s >> (y & 63));
    default:
        return 0 - x;
    }
}

static void test_alu(void **state)
{
    (void)state;
    static const unsigned ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD,  BPF_OR,
                                   BPF_AND, BPF_XOR, BPF_LSH, BPF_RSH, BPF_ARSH, BPF_NEG};
    for (int i = 0; i < test_rounds(400000); i++) {
        uint64_t x = edge(), y = edge();
        struct scalar a = around(x), b = around(y);
        unsigned op = ops[rnd(ARRAY_SIZE(ops))];
        bool is32 = rnd(2), is_signed = rnd(2);
        char what[64];
        snprintf(what, sizeof(what), "op %x%s%s of %llx and %llx", op, is32 ? " 32" : "",
                 is_signed ? " signed" : "", (unsigned long long)x, (unsigned long long)y);
        struct scalar r = scalar_alu(op, is32, is_signed, &a, &b);
        check(what, &r, machine(op, is32, is_signed, x, y));
        if (is32)
            assert_true(r.all.umax <= UINT32_MAX);
    }
}

/* Constants give constants. */
static void test_exact(void **state)
{
    (void)state;
    static const unsigned ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD,  BPF_OR,
                                   BPF_AND, BPF_XOR, BPF_LSH, BPF_RSH, BPF_ARSH, BPF_NEG};
    for (int i = 0; i < test_rounds(50000); i++) {
        uint64_t x = edge(), y = edge();
        struct scalar a = scalar_const(x), b = scalar_const(y);
        unsigned op = ops[rnd(ARRAY_SIZE(ops))];
        bool is32 = rnd(2);
        struct scalar r = scalar_alu(op, is32, false, &a, &b);
        if (!scalar_is_const(&r) || r.all.umin != machine(op, is32, false, x, y))
            fail_msg("op %x %d of %llx and %llx is not known", op, is32, (unsigned long long)x,
                     (unsigned long long)y);
    }
}

static void test_extend(void **state)
{
    (void)state;
    for (int i = 0; i < test_rounds(100000); i++) {
        uint64_t x = edge();
        struct scalar a = around(x);
        unsigned bits = 8u << rnd(3), up = 64 - bits;
        struct scalar r = scalar_zero_extend(&a, bits);
        check("zero extension", &r, x << up >> up);
        r = scalar_sign_extend(&a, bits);
        check("sign extension", &r, (uint64_t)((int64_t)(x << up) >> up));
        bits = 16u << rnd(3);
        r = scalar_swap(&a, bits);
        check("swap", &r, __builtin_bswap64(x << (64 - bits)) & (UINT64_MAX >> (64 - bits)));
    }
}

static bool compares(unsigned op, bool is32, uint64_t x, uint64_t y)
{
    if (is32) {
        x = (uint64_t)(int32_t)x; /* keeps both orders */
        y = (uint64_t)(int32_t)y;
    }
    int64_t s = (int64_t)x, t = (int64_t)y;
    switch (op) {
    case BPF_JEQ:
        return x == y;
    case BPF_JNE:
        return x != y;
    case BPF_JGT:
        return x > y;
    case BPF_JGE:
        return x >= y;
    case BPF_JLT:
        return x < y;
    case BPF_JLE:
        return x <= y;
    case BPF_JSGT:
        return s > t;
    case BPF_JSGE:
        return s >= t;
    case BPF_JSLT:
        return s < t;
    case BPF_JSLE:
        return s <= t;
    default:
        return (is32 ? (uint32_t)(x & y) : x & y) != 0;
    }
}

static void test_branch(void **state)
{
    (void)state;
    static const unsigned ops[] = {BPF_JEQ,  BPF_JNE,  BPF_JGT,  BPF_JGE,  BPF_JLT, BPF_JLE,
                                   BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE, BPF_JSET};
    for (int i = 0; i < test_rounds(400000); i++) {
        uint64_t x = edge(), y = rnd(4) ? edge() : x;
        if (rnd(8) == 0)
            y = (uint32_t)x | edge() << 32;
        struct scalar a = around(x), b = around(y), before = a;
        unsigned op = ops[rnd(ARRAY_SIZE(ops))];
        bool is32 = rnd(2), taken = compares(op, is32, x, y);
        if (!scalar_branch(op, is32, taken, &a, &b))
            fail_msg("op %x %d of %llx and %llx is thought impossible", op, is32,
                     (unsigned long long)x, (unsigned long long)y);
        check("left", &a, x);
        check("right", &b, y);
        assert_true(scalar_within(&a, &before));
    }
}

/* Comparisons of what is known come out one way only. */
static void test_branch_exact(void **state)
{
    (void)state;
    static const unsigned ops[] = {BPF_JEQ,  BPF_JNE,  BPF_JGT,  BPF_JGE,  BPF_JLT, BPF_JLE,
                                   BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE, BPF_JSET};
    for (int i = 0; i < test_rounds(50000); i++) {
        uint64_t x = edge(), y = rnd(4) ? edge() : x;
        unsigned op = ops[rnd(ARRAY_SIZE(ops))];
        bool is32 = rnd(2), taken = compares(op, is32, x, y);
        struct scalar a = scalar_const(x), b = scalar_const(y);
        assert_true(scalar_branch(op, is32, taken, &a, &b));
        a = scalar_const(x), b = scalar_const(y);
        assert_false(scalar_branch(op, is32, !taken, &a, &b));
    }
}

static void test_sets(void **state)
{
    (void)state;
    for (int i = 0; i < test_rounds(100000); i++) {
        uint64_t x = edge(), y = edge();
        struct scalar a = around(x), b = around(y), c = around(x);
        struct scalar u = scalar_union(&a, &b);
        check("union", &u, x);
        check("union", &u, y);
        assert_true(scalar_within(&a, &u) && scalar_within(&b, &u));
        u = a;
        if (!scalar_intersect(&u, &c))
            fail_msg("both have %llx", (unsigned long long)x);
        check("intersection", &u, x);
        assert_true(scalar_within(&u, &a) && scalar_within(&u, &c));
        u = scalar_unsigned(min_u64(x, y), max_u64(x, y));
        check("range", &u, x);
        check("range", &u, y);
        u = (int64_t)x < (int64_t)y ? scalar_signed((int64_t)x, (int64_t)y)
                                    : scalar_signed((int64_t)y, (int64_t)x);
        check("range", &u, x);
        check("range", &u, y);
    }
}

/* Every set of 4 bits with every other: no result is missing. */
static void test_bits(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1u << 16; i++) {
        struct tnum a = {i & 15, i >> 4 & 15}, b = {i >> 8 & 15, i >> 12};
        if ((a.value & a.mask) || (b.value & b.mask))
            continue;
        struct tnum sum = tnum_add(a, b), dif = tnum_sub(a, b), product = tnum_mul(a, b);
        for (uint64_t x = 0; x < 16; x++) {
            if (!tnum_within(tnum_const(x), a))
                continue;
            for (uint64_t y = 0; y < 16; y++) {
                if (!tnum_within(tnum_const(y), b))
                    continue;
                assert_true(tnum_within(tnum_const(x + y), sum));
                assert_true(tnum_within(tnum_const(x - y), dif));
                assert_true(tnum_within(tnum_const(x * y), product));
                assert_true(tnum_within(tnum_const(x & y), tnum_and(a, b)));
                assert_true(tnum_within(tnum_const(x | y), tnum_or(a, b)));
                assert_true(tnum_within(tnum_const(x ^ y), tnum_xor(a, b)));
                assert_true(tnum_within(tnum_const(x), tnum_range(min_u64(x, y), max_u64(x, y))));
            }
        }
    }
}

/* A few results that programs rely on. */
static void test_precise(void **state)
{
    (void)state;
    struct scalar a = scalar_unsigned(0, 255), b = scalar_const(2), any = scalar_unknown();
    struct scalar r = scalar_alu(BPF_LSH, false, false, &a, &b);
    assert_true(r.all.umax == 1020 && r.bits.mask == 0x3fc);
    b = scalar_const(0xff);
    r = scalar_alu(BPF_AND, false, false, &any, &b);
    assert_true(r.all.umax == 255 && r.all.smin == 0);
    b = scalar_const(32); /* (any << 32) >> 32 */
    r = scalar_alu(BPF_LSH, false, false, &any, &b);
    r = scalar_alu(BPF_RSH, false, false, &r, &b);
    assert_true(r.all.umax == UINT32_MAX);
    a = scalar_signed(-1, 5);
    b = scalar_const(5);
    assert_true(scalar_branch(BPF_JGT, false, false, &a, &b)); /* unsigned: -1 is large */
    assert_true(a.all.smin == 0 && a.all.smax == 5);
    a = scalar_unknown();
    b = scalar_const(16);
    assert_true(scalar_branch(BPF_JLT, true, true, &a, &b)); /* only the low half is known */
    assert_true(a.low.umax == 15 && a.all.umax == 0xffffffff0000000f);
    r = scalar_zero_extend(&a, 32);
    assert_true(r.all.umax == 15);
    a = scalar_unknown();
    b = scalar_const(8);
    assert_true(scalar_branch(BPF_JSET, false, true, &a, &b));
    assert_true(a.all.umin == 8 && !scalar_contains(&a, 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alu),          cmocka_unit_test(test_exact),
        cmocka_unit_test(test_extend),       cmocka_unit_test(test_branch),
        cmocka_unit_test(test_branch_exact), cmocka_unit_test(test_sets),
        cmocka_unit_test(test_bits),         cmocka_unit_test(test_precise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
