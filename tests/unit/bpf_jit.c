/* The compiler against the interpreter: random programs made to meet what the compiler does with
 * them (short branches, addresses, loops, calls), long ones, time, calls; and that code is never
 * writable and executable at once. */
#include "bpf_jit.h"

/* The linker sends calls of NAME to __wrap_NAME (see meson.build). */
void *__real_base_alloc(size_t size);
void *__real_base_alloc_array(size_t count, size_t size);
void *__real_base_code_alloc(size_t size);
int __real_base_code_seal(void *code, size_t size);

static long countdown = -1; /* allocations until the one that fails; below 0: none does */

static bool fails(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *__wrap_base_alloc(size_t size)
{
    return fails() ? NULL : __real_base_alloc(size);
}

void *__wrap_base_alloc_array(size_t count, size_t size)
{
    return fails() ? NULL : __real_base_alloc_array(count, size);
}

void *__wrap_base_code_alloc(size_t size)
{
    return fails() ? NULL : __real_base_code_alloc(size);
}

int __wrap_base_code_seal(void *code, size_t size)
{
    return fails() ? -EACCES : __real_base_code_seal(code, size);
}

/* ---- random programs -------------------------------------------------------------------- */

/* Registers: r9 counts rounds; r8, or r1, is the address of the memory; the others are free. */
static unsigned any_register(struct program *p)
{
    const unsigned r = below(p, 8);
    return r == 1 && p->fixed ? 8 : r;
}

static unsigned memory_register(const struct program *p)
{
    return p->fixed ? 1 : 8;
}

static void add_alu(struct program *p)
{
    static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL,  BPF_DIV, BPF_OR,  BPF_AND,
                                  BPF_LSH, BPF_RSH, BPF_NEG,  BPF_MOD, BPF_XOR, BPF_MOV,
                                  BPF_MOV, BPF_ADD, BPF_ARSH, BPF_END};
    static const uint8_t extend[] = {0, 0, 8, 16, 32};
    const unsigned op = ops[below(p, ARRAY_SIZE(ops))], class = below(p, 2) ? BPF_ALU64 : BPF_ALU;
    const unsigned dst = any_register(p), src = any_register(p);
    unsigned source = below(p, 2) ? BPF_X : BPF_K, offset = 0;
    int64_t imm = (int32_t)edge_value(p);
    if (p->fixed && (op == BPF_DIV || op == BPF_MOD)) /* it would keep T1 from other use */
        return;
    if (op == BPF_NEG)
        source = BPF_K, imm = 0;
    if (op == BPF_END) {
        source = class == BPF_ALU && below(p, 2) ? BPF_X : BPF_K;
        add(p, class | source | op, dst, 0, 0, 16 << below(p, 3));
        return;
    }
    if (op == BPF_DIV || op == BPF_MOD)
        offset = below(p, 2);
    if (op == BPF_MOV && source == BPF_X)
        offset = extend[below(p, class == BPF_ALU64 ? 5 : 4)];
    if ((op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH) && below(p, 2))
        imm = 32;
    add(p, class | source | op, dst, source == BPF_X ? src : 0, (int)offset,
        source == BPF_X ? 0 : imm);
}

static void add_alu_except(struct program *p, unsigned reg)
{
    const unsigned count = p->count;
    add_alu(p);
    if (p->count > count && p->insns[count].dst == reg)
        p->count = count;
}

/* Moves and extensions that follow one another, as compilers write them for small numbers. */
static void add_extensions(struct program *p)
{
    static const uint8_t extend[] = {0, 8, 16, 32}, shifts[] = {32, 32, 48, 56, 16};
    const unsigned dst = any_register(p), shift = shifts[below(p, ARRAY_SIZE(shifts))];
    if (below(p, 2))
        add(p, (below(p, 2) ? BPF_ALU64 : BPF_ALU) | BPF_MOV | BPF_X, dst, any_register(p),
            extend[below(p, 3)], 0);
    else if (below(p, 2))
        add(p, BPF_LDX | BPF_MEMSX | BPF_W, dst, BPF_FP, -8, 0);
    if (below(p, 4) == 0)
        add_alu_except(p, dst);
    if (below(p, 2)) {
        const bool wide = below(p, 2);
        add(p, (wide ? BPF_ALU64 : BPF_ALU) | BPF_MOV | BPF_X, dst, dst,
            extend[below(p, wide ? 4 : 3)], 0);
        return;
    }
    add(p, BPF_ALU64 | BPF_LSH | BPF_K, dst, 0, 0, shift);
    add(p, BPF_ALU64 | (below(p, 2) ? BPF_RSH : BPF_ARSH) | BPF_K, dst, 0, 0,
        below(p, 8) ? shift : 32);
}

/* last: base is not needed any more. */
static void add_access(struct program *p, unsigned base, int offset, bool last)
{
    const unsigned size = sizes[below(p, 4)];
    unsigned reg = any_register(p);
    if (reg == base && !last)
        reg = reg == 0 ? 2 : 0;
    static const uint8_t atomics[] = {BPF_ADD,
                                      BPF_OR,
                                      BPF_AND,
                                      BPF_XOR,
                                      BPF_ADD | BPF_FETCH,
                                      BPF_OR | BPF_FETCH,
                                      BPF_AND | BPF_FETCH,
                                      BPF_XOR | BPF_FETCH,
                                      BPF_XCHG,
                                      BPF_CMPXCHG};
    int imm;
    switch (below(p, 6)) {
    case 0:
        add(p, BPF_ST | BPF_MEM | size, base, 0, offset, (int32_t)edge_value(p));
        return;
    case 1:
        add(p, BPF_STX | BPF_MEM | size, base, reg, offset, 0);
        return;
    case 2:
        if (p->fixed)
            return;
        imm = atomics[below(p, ARRAY_SIZE(atomics))];
        if (imm == BPF_CMPXCHG && base == 0 && !last)
            imm = BPF_XCHG;
        add(p, BPF_STX | BPF_ATOMIC | (below(p, 2) ? BPF_W : BPF_DW), base, reg, offset, imm);
        return;
    case 3: { /* change what is there */
        const unsigned alu = (unsigned)below(p, 6) << 4;
        add(p, BPF_LDX | BPF_MEM | size, reg, base, offset, 0);
        if (reg == base)
            return;
        if (below(p, 2))
            add(p, (below(p, 2) ? BPF_ALU64 : BPF_ALU) | alu | BPF_K, reg, 0, 0,
                (int32_t)edge_value(p));
        else
            add(p, BPF_ALU64 | BPF_ADD | BPF_X, reg, any_register(p), 0, 0);
        add(p, BPF_STX | BPF_MEM | size, base, reg, offset, 0);
        return;
    }
    case 4:
        add(p, BPF_LDX | BPF_MEMSX | sizes[below(p, 3)], reg, base, offset, 0);
        return;
    default:
        add(p, BPF_LDX | BPF_MEM | size, reg, base, offset, 0);
        return;
    }
}

/* An address computed in one of the ways that compilers do; within memory if it is not for r8's
 * sake. */
static void add_memory(struct program *p)
{
    const unsigned reg = any_register(p), other = any_register(p);
    const int offset = (int)below(p, 8) * 8;
    if (below(p, 3) == 0) {
        add_access(p, BPF_FP, -8 - (int)below(p, 32) * 8, true);
        return;
    }
    if (below(p, 3) == 0 && reg != other) { /* an index of its own, which may change at once */
        add(p, BPF_ALU64 | BPF_AND | BPF_K, other, 0, 0, 0x1f8);
        add(p, BPF_ALU64 | BPF_MOV | BPF_X, reg, memory_register(p), 0, 0);
        add(p, BPF_ALU64 | BPF_ADD | BPF_X, reg, other, 0, 0);
        if (below(p, 2))
            add(p, BPF_ALU64 | BPF_ADD | BPF_K, other, 0, 0, 8);
    } else if (below(p, 2)) { /* + (other & mask) << n */
        const unsigned scale = below(p, 4);
        add(p, BPF_ALU64 | BPF_MOV | BPF_X, reg, other, 0, 0);
        add(p, BPF_ALU64 | BPF_AND | BPF_K, reg, 0, 0, 0x1f8 >> scale);
        if (scale)
            add(p, BPF_ALU64 | BPF_LSH | BPF_K, reg, 0, 0, scale);
        if (scale && below(p, 2))
            add(p, BPF_ALU64 | BPF_AND | BPF_K, reg, 0, 0, 0x1f8);
        add(p, BPF_ALU64 | BPF_ADD | BPF_X, reg, memory_register(p), 0, 0);
        if (below(p, 2))
            add(p, BPF_ALU64 | BPF_ADD | BPF_K, reg, 0, 0, (int)below(p, 16) * 8);
    } else {
        add(p, BPF_ALU64 | BPF_MOV | BPF_X, reg, memory_register(p), 0, 0);
        add(p, BPF_ALU64 | BPF_ADD | BPF_K, reg, 0, 0, (int)below(p, 64) * 8);
    }
    if (below(p, 2))
        add_alu_except(p, reg);
    for (unsigned n = below(p, 3); n; n--)
        add_access(p, reg, offset, false);
    add_access(p, reg, offset, true);
}

static void add_branch(struct program *p, int offset)
{
    static const uint8_t ops[] = {BPF_JEQ,  BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT,
                                  BPF_JSGE, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE};
    const unsigned op = ops[below(p, ARRAY_SIZE(ops))];
    const unsigned class = below(p, 2) ? BPF_JMP : BPF_JMP32;
    const unsigned dst = any_register(p);
    if (below(p, 2))
        add(p, class | op | BPF_X, dst, any_register(p), offset, 0);
    else
        add(p, class | op | BPF_K, dst, 0, offset, (int32_t)edge_value(p));
}

/* Jumps go to an instruction of the list `starts`, which are those that begin a step. */
struct steps {
    unsigned starts[128], count;
};

/* A branch to be set when all steps are known. */
struct hole {
    unsigned at, step;
};

static void add_step(struct program *p)
{
    switch (below(p, 8)) {
    case 0:
        add_extensions(p);
        return;
    case 1:
    case 2:
        add_memory(p);
        return;
    case 3:
        add(p, BPF_ALU64 | BPF_MOV | BPF_K, any_register(p), 0, 0, below(p, 3));
        return;
    case 4: {
        const unsigned a = any_register(p), b = any_register(p);
        add(p, BPF_ALU64 | BPF_MOV | BPF_X, a, b, 0, 0);
        add(p, BPF_ALU64 | (below(p, 2) ? BPF_ADD : BPF_AND) | BPF_X, a, any_register(p), 0, 0);
        return;
    }
    default:
        add_alu(p);
        return;
    }
}

/* The registers, one by one, into memory: nothing that differs goes unseen. */
static void add_end(struct program *p)
{
    for (unsigned r = 0; r < 9; r++)
        add(p, BPF_STX | BPF_MEM | BPF_DW, memory_register(p), r, 2048 + (int)r * 8, 0);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void start_program(struct program *p, unsigned rounds)
{
    add(p, BPF_ALU64 | BPF_MOV | BPF_X, 8, 1, 0, 0);
    add(p, BPF_ALU64 | BPF_MOV | BPF_K, 9, 0, 0, rounds);
    for (unsigned r = 0; r < 8; r++)
        if (r != 1 || !p->fixed)
            add_number(p, r, edge_value(p));
    add(p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, 0, -8, 0);
}

/* Steps with branches between them, most of them short and forward; every jump back goes to where
 * the rounds are counted. */
static void random_program(struct program *p, unsigned steps, bool calls)
{
    struct steps s = {.count = 0};
    struct hole holes[128];
    unsigned hole_count = 0;
    start_program(p, 1 + below(p, 6));
    const unsigned head = p->count;
    add(p, BPF_JMP | BPF_JNE | BPF_K, 9, 0, 1, 0);
    const unsigned out = p->count;
    add(p, BPF_JMP | BPF_JA, 0, 0, 0, 0);
    add(p, BPF_ALU64 | BPF_SUB | BPF_K, 9, 0, 0, 1);
    for (unsigned i = 0; i < steps; i++) {
        s.starts[s.count++] = p->count;
        const unsigned what = below(p, 12);
        if (what < 4) {
            holes[hole_count++] = (struct hole){p->count, i + 1 + below(p, 3)};
            if (what == 0 && below(p, 2))
                add(p, BPF_JMP | BPF_JA, 0, 0, 0, 0);
            else
                add_branch(p, 0);
        } else if (what == 4 && below(p, 2)) {
            if (below(p, 2))
                add_branch(p, (int)head - (int)p->count - 1);
            else
                add(p, BPF_JMP | BPF_JA, 0, 0, (int)head - (int)p->count - 1, 0);
        } else if (what == 5 && calls) {
            add(p, BPF_JMP | BPF_CALL, 0, below(p, 2) ? BPF_CALL_LOCAL : BPF_CALL_HELPER, 0,
                1 + (int)below(p, 2));
            if (p->insns[p->count - 1].src == BPF_CALL_LOCAL)
                p->insns[p->count - 1].imm = -1; /* set when it is known */
        } else {
            add_step(p);
        }
    }
    s.starts[s.count++] = p->count;
    if (below(p, 2))
        add_branch(p, (int)head - (int)p->count - 1);
    else
        add(p, BPF_JMP | BPF_JA, 0, 0, (int)head - (int)p->count - 1, 0);
    const unsigned end = p->count;
    p->insns[out].offset = (int16_t)(end - out - 1);
    add_end(p);
    for (unsigned i = 0; i < hole_count; i++) {
        const unsigned step = holes[i].step < s.count ? holes[i].step : s.count - 1;
        p->insns[holes[i].at].offset = (int16_t)(s.starts[step] - holes[i].at - 1);
    }
    const unsigned function = p->count;
    bool called = false;
    for (unsigned i = 0; i < function; i++)
        if (p->insns[i].opcode == (BPF_JMP | BPF_CALL) && p->insns[i].src == BPF_CALL_LOCAL) {
            p->insns[i].imm = (int32_t)(function - i - 1);
            called = true;
        }
    if (!called)
        return;
    for (unsigned i = 0; i < 6; i++)
        add_alu(p);
    add(p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, 6, -8, 0);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void test_random(void **state)
{
    (void)state;
    const unsigned programs = (unsigned)test_rounds(3000);
    memset(ends, 0, sizeof(ends));
    for (unsigned i = 0; i < programs; i++) {
        struct program p = {.random = i, .fixed = i % 3 && i % 4 == 0};
        random_program(&p, 3 + i % 30, i % 3 == 0);
        check_program(&p, i % 3 != 0, i % 2 ? 100000 : 50 + i % 500);
    }
    print_message("# %u programs: %u to their end, %u out of time, %u outside, %u failed\n",
                  programs, ends[0], ends[ETIME], ends[EFAULT], ends[EIO]);
    assert_true(ends[0] > programs / 2 && ends[ETIME] > programs / 50);
}

/* ---- time -------------------------------------------------------------------------------- */

/* Every budget up to one that is enough: the same end after the same instructions. */
static void test_budgets(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        struct program p = {.random = 1000 + i};
        random_program(&p, 10, i & 1);
        for (uint64_t budget = p.count; budget < p.count + 120; budget++)
            check_program(&p, !(i & 1), budget);
    }
}

static void test_first_instruction(void **state)
{
    (void)state;
    for (unsigned form = 0; form < 4; form++) { /* jumps to the first, of each kind */
        struct program p = {.count = 0};
        add(&p, BPF_ALU64 | BPF_SUB | BPF_K, 2, 0, 0, 1);
        add(&p, BPF_ALU64 | BPF_ADD | BPF_X, 0, 2, 0, 0);
        if (form & 1)
            add(&p, BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1, 5);
        if (form < 2)
            add(&p, BPF_JMP | BPF_JNE | BPF_K, 2, 0, -(int)p.count - 1, 0);
        else
            add(&p, form & 1 ? BPF_JMP | BPF_JA : BPF_JMP32 | BPF_JA, 0, 0,
                form & 1 ? -(int)p.count - 1 : 0, form & 1 ? 0 : -(int)p.count - 1);
        add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        check_program(&p, true, 1000000);
        check_program(&p, true, 1000);
    }
}

/* A jump back to a jump back: each counts, and either may be the end. */
static void test_jump_chains(void **state)
{
    (void)state;
    struct program p = {.count = 0};
    add(&p, BPF_JMP | BPF_JA, 0, 0, 2, 0);
    add(&p, BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 0, 1);
    add(&p, BPF_JMP | BPF_JA, 0, 0, 1, 0);
    add(&p, BPF_JMP | BPF_JA, 0, 0, -3, 0);
    add(&p, BPF_ALU64 | BPF_SUB | BPF_K, 2, 0, 0, 1);
    add(&p, BPF_JMP | BPF_JNE | BPF_K, 2, 0, -3, 0);
    add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (uint64_t budget = 0; budget < 200; budget++)
        check_program(&p, true, budget);
    check_program(&p, true, BPF_UNLIMITED);
}

/* ---- calls ------------------------------------------------------------------------------- */

/* main calls f; f counts r1 down and calls itself until it is 0. */
static void recursive(struct program *p, int depth, bool by_register)
{
    add(p, BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, depth);
    for (unsigned r = 6; r < 10; r++)
        add(p, BPF_ALU64 | BPF_MOV | BPF_K, r, 0, 0, 100 + r);
    add(p, BPF_JMP | BPF_CALL, 0, BPF_CALL_LOCAL, 0, 5);
    for (unsigned r = 6; r < 10; r++)
        add(p, BPF_ALU64 | BPF_ADD | BPF_X, 0, r, 0, 0);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    const unsigned function = p->count;
    add(p, BPF_JMP | BPF_JNE | BPF_K, 1, 0, 2, 0);
    add(p, BPF_ALU64 | BPF_MOV | BPF_X, 0, BPF_FP, 0, 0);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    add(p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, 1, -512, 0);
    add(p, BPF_ALU64 | BPF_MOV | BPF_X, 7, 1, 0, 0);
    add(p, BPF_ALU64 | BPF_MUL | BPF_K, 6, 0, 0, 3);
    add(p, BPF_ALU64 | BPF_SUB | BPF_K, 1, 0, 0, 1);
    if (by_register) {
        add(p, BPF_LDDW, 8, BPF_LDDW_FUNCTION, 0, (int)function - (int)p->count - 1);
        add(p, 0, 0, 0, 0, 0);
        add(p, BPF_JMP | BPF_CALL | BPF_X, 8, 0, 0, 0);
    } else {
        add(p, BPF_JMP | BPF_CALL, 0, BPF_CALL_LOCAL, 0, (int)function - (int)p->count - 1);
    }
    add(p, BPF_LDX | BPF_MEM | BPF_DW, 2, BPF_FP, -512, 0);
    add(p, BPF_ALU64 | BPF_ADD | BPF_X, 0, 2, 0, 0);
    add(p, BPF_ALU64 | BPF_ADD | BPF_X, 0, 6, 0, 0);
    add(p, BPF_ALU64 | BPF_ADD | BPF_X, 0, 7, 0, 0);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void test_depth(void **state)
{
    (void)state;
    memset(ends, 0, sizeof(ends));
    for (int depth = 0; depth < 20; depth++) {
        struct program p = {.count = 0};
        recursive(&p, depth, false);
        check_program(&p, true, BPF_UNLIMITED);
        check_program(&p, true, 100);
        p.count = 0;
        recursive(&p, depth, true);
        check_program(&p, true, BPF_UNLIMITED);
        check_program(&p, true, 100);
    }
    assert_int_equal(ends[ELOOP], 2 * 5); /* of 15 to 19 more calls, by BPF_MAX_DEPTH */
}

/* callx with a helper's number, and with what is nothing. */
static void test_call_register(void **state)
{
    (void)state;
    static const uint64_t values[] = {
        1, 2, 3, 0, UINT64_MAX, BPF_CODE_ADDRESS + 1, BPF_CODE_ADDRESS + 500};
    memset(ends, 0, sizeof(ends));
    for (unsigned i = 0; i < ARRAY_SIZE(values) * 10; i++) {
        struct program p = {.random = i};
        for (unsigned r = 0; r < 10; r++)
            add_number(&p, r, r);
        add_number(&p, i % 10, values[i / 10]);
        add(&p, BPF_JMP | BPF_CALL | BPF_X, i % 10, 0, 0, 0);
        add_full_end(&p);
        check_program(&p, true, 1000);
    }
    assert_int_equal(ends[EINVAL], 5 * 10);
}

/* ---- size -------------------------------------------------------------------------------- */

/* As long as a module may be, with jumps from end to end. */
static void test_long(void **state)
{
    (void)state;
    const uint32_t count = BPF_MAX_INSNS;
    struct bpf_insn *insns = calloc(count, sizeof(*insns));
    uint64_t random = 1, results[2], instructions[2];
    for (uint32_t i = 0; i < count; i++) {
        const unsigned kind = (unsigned)random_below(&random, 8);
        insns[i] = (struct bpf_insn){.opcode = BPF_ALU64 | BPF_ADD | BPF_K, .imm = (int32_t)i};
        if (kind == 0 && i + 30000 < count) /* a branch, of any length */
            insns[i] =
                (struct bpf_insn){.opcode = BPF_JMP | BPF_JSET | BPF_K,
                                  .offset = (int16_t)random_below(&random, i % 9 ? 4 : 30000),
                                  .imm = 1 << random_below(&random, 20)};
        else if (kind == 1)
            insns[i] = (struct bpf_insn){
                .opcode = BPF_STX | BPF_MEM | BPF_DW, .dst = BPF_FP, .src = 0, .offset = -8};
    }
    insns[0] = (struct bpf_insn){.opcode = BPF_JMP32 | BPF_JA, .imm = (int32_t)count - 5};
    insns[count - 4] = (struct bpf_insn){.opcode = BPF_ALU64 | BPF_ADD | BPF_K, .dst = 9, .imm = 1};
    insns[count - 3] =
        (struct bpf_insn){.opcode = BPF_JMP | BPF_JGT | BPF_K, .dst = 9, .offset = 1, .imm = 2};
    insns[count - 2] = (struct bpf_insn){.opcode = BPF_JMP32 | BPF_JA, .imm = -(int32_t)count + 2};
    insns[count - 1] = (struct bpf_insn){.opcode = BPF_JMP | BPF_EXIT};
    struct bpf_module *module;
    assert_int_equal(bpf_module_open_insns(insns, count * 8, &module, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct bpf_prog *prog;
        struct bpf_vm *vm;
        const struct bpf_options options = {.verify = BPF_VERIFY_CHECKED,
                                            .engine = i ? BPF_ENGINE_JIT : BPF_ENGINE_INTERP};
        assert_int_equal(bpf_prog_open(module, &environment, &options, &prog, NULL), 0);
        assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
        assert_int_equal(bpf_vm_run(vm, NULL, &results[i]), 0);
        instructions[i] = bpf_vm_instructions(vm);
        bpf_vm_close(vm);
        bpf_prog_close(prog);
    }
    assert_int_equal(results[0], results[1]);
    assert_int_equal(instructions[0], instructions[1]);
    assert_true(instructions[0] > count);
    bpf_module_close(module);
    free(insns);
}

/* ---- memory ------------------------------------------------------------------------------ */

static void test_memory_rights(void **state)
{
    (void)state;
    struct program p = {.count = 0};
    add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    struct bpf_prog *prog = open_prog(&p, BPF_ENGINE_JIT);
    const uintptr_t code = *(uintptr_t *)(void *)prog->jit; /* its first member */
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], rights[8];
    unsigned long start, end;
    bool found = false;
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        assert_int_equal(sscanf(line, "%lx-%lx %7s", &start, &end, rights), 3);
        if (rights[1] == 'w' && rights[2] == 'x')
            fail_msg("writable and executable: %s", line);
        if (code < start || code >= end)
            continue;
        found = true;
        assert_string_equal(rights, "r-xp");
    }
    fclose(maps);
    assert_true(found);
    bpf_prog_close(prog);
}

/* The sum of the first bytes: each of the compiler's passes has something to do. */
static void sum_program(struct program *p)
{
    add(p, BPF_ALU64 | BPF_MOV | BPF_X, 3, 1, 0, 0);
    add(p, BPF_ALU64 | BPF_ADD | BPF_X, 3, 4, 0, 0);
    add(p, BPF_LDX | BPF_MEM | BPF_B, 3, 3, 0, 0);
    add(p, BPF_JMP | BPF_JGT | BPF_K, 3, 0, 1, 100);
    add(p, BPF_ALU64 | BPF_ADD | BPF_X, 0, 3, 0, 0);
    add(p, BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, 1);
    add(p, BPF_JMP | BPF_JLT | BPF_K, 4, 0, -7, 1000);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Each allocation fails in turn: no code, nothing lost, and the interpreter does it. */
static void test_no_memory(void **state)
{
    (void)state;
    struct program p = {.count = 0};
    struct outcome o;
    sum_program(&p);
    struct bpf_prog *prog = open_prog(&p, BPF_ENGINE_INTERP);
    long n = 0;
    for (struct bpf_jit *jit = NULL; !jit; n++) {
        countdown = n;
        jit = bpf_jit_compile(prog);
        const bool all = countdown >= 0;
        countdown = -1;
        assert_int_equal(jit != NULL, all);
        bpf_jit_free(jit);
    }
    print_message("# %ld allocations\n", n - 1);
    assert_true(n > 10);
    check_program(&p, true, BPF_UNLIMITED);
    bpf_prog_close(prog);
    run(prog = open_prog(&p, BPF_ENGINE_JIT), BPF_UNLIMITED, &o);
    assert_int_equal(o.error, 0);
    bpf_prog_close(prog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_first_instruction),
        cmocka_unit_test(test_jump_chains),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_call_register),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_memory_rights),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
