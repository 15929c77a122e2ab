/* The compiler against the interpreter, one operation after the other: on all registers, for the
 * processor treats some in a special way; comparisons in the forms that are fused; exact bounds. */
#include "bpf_jit.h"

/* ---- every operation on every pair of registers ------------------------------------------- */

static void check_operation(struct bpf_insn insn, uint64_t seed)
{
    struct program p = {.random = seed};
    for (unsigned r = 0; r < 10; r++)
        add_number(&p, r, edge_value(&p));
    p.insns[p.count++] = insn;
    add_full_end(&p);
    check_program(&p, true, BPF_UNLIMITED);
}

static void test_registers(void **state)
{
    (void)state;
    static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,
                                  BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH};
    for (unsigned i = 0; i < ARRAY_SIZE(ops) * 4 * 100; i++) {
        const unsigned op = ops[i / 400];
        struct bpf_insn insn = {
            .opcode = (uint8_t)(op | BPF_X | (i / 100 & 1 ? BPF_ALU64 : BPF_ALU)),
            .dst = i % 10 & 15,
            .src = i / 10 % 10 & 15,
        };
        if (i / 200 & 1 && (op == BPF_DIV || op == BPF_MOD))
            insn.offset = 1;
        if (i / 200 & 1 && op == BPF_MOV)
            insn.offset = 8;
        check_operation(insn, i);
    }
}

static void test_immediates(void **state)
{
    (void)state;
    static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,  BPF_AND,
                                  BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH};
    static const int32_t values[] = {
        0,   1,   -1,   2,      8,  31,   32,    63,      127,       128,       -128,      -129,
        255, 256, 1000, 0xffff, 10, -256, 65536, 1 << 30, INT32_MAX, INT32_MIN, -INT32_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(ops) * 4 * ARRAY_SIZE(values); i++) {
        const unsigned op = ops[i / (4 * ARRAY_SIZE(values))];
        const bool divides = op == BPF_DIV || op == BPF_MOD;
        for (unsigned dst = 0; dst < 10; dst += 3) /* rax, rcx, rbx, r15 */
            check_operation(
                (struct bpf_insn){.opcode = (uint8_t)(op | (i & 1 ? BPF_ALU64 : BPF_ALU)),
                                  .dst = dst & 15,
                                  .offset = divides && i & 2,
                                  .imm = values[i / 4 % ARRAY_SIZE(values)]},
                i * 16 + dst);
    }
}

static void test_atomic_registers(void **state)
{
    (void)state;
    static const uint8_t ops[] = {BPF_ADD,
                                  BPF_OR,
                                  BPF_AND,
                                  BPF_XOR,
                                  BPF_XCHG,
                                  BPF_CMPXCHG,
                                  BPF_ADD | BPF_FETCH,
                                  BPF_OR | BPF_FETCH,
                                  BPF_AND | BPF_FETCH,
                                  BPF_XOR | BPF_FETCH};
    for (unsigned i = 0; i < ARRAY_SIZE(ops) * 400; i++) {
        const unsigned dst = i % 10, src = i / 10 % 10;
        struct program p = {.random = i};
        for (unsigned r = 0; r < 10; r++)
            add_number(&p, r, edge_value(&p));
        add_number(&p, dst, memory_address() + 512);
        if (i & 1 && ops[i / 400] == BPF_CMPXCHG && dst) /* what is there */
            add(&p, BPF_LDX | BPF_MEM | BPF_DW, 0, dst, 0, 0);
        add(&p, BPF_STX | BPF_ATOMIC | (i / 100 & 1 ? BPF_W : BPF_DW), dst, src,
            i / 200 & 1 ? 64 : 0, ops[i / 400]);
        add_full_end(&p);
        check_program(&p, true, BPF_UNLIMITED);
    }
}

/* ---- comparisons of what nothing else needs: of parts of a number, and of memory ----------- */

enum {
    WHOLE,
    HALF,
    SIGNED_HALF,
    BYTE,
    LOADED,
    LOADED_SIGNED = LOADED + 4,
    FORMS = LOADED_SIGNED + 3
};

static void add_operand(struct program *p, unsigned form)
{
    const uint8_t shift[] = {0, BPF_RSH, BPF_ARSH};
    if (form == HALF || form == SIGNED_HALF) {
        add(p, BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0);
        add(p, BPF_ALU64 | BPF_LSH | BPF_K, 3, 0, 0, 32);
        add(p, BPF_ALU64 | shift[form] | BPF_K, 3, 0, 0, 32);
    } else if (form == BYTE) {
        add(p, BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0);
        add(p, BPF_ALU64 | BPF_AND | BPF_K, 3, 0, 0, 255);
    } else if (form == WHOLE) {
        add(p, BPF_ALU | BPF_MOV | BPF_X, 3, 2, 0, 0);
    } else if (form < LOADED_SIGNED) {
        add(p, BPF_LDX | BPF_MEM | sizes[form - LOADED], 3, BPF_FP, -8, 0);
    } else {
        add(p, BPF_LDX | BPF_MEMSX | sizes[form - LOADED_SIGNED], 3, BPF_FP, -8, 0);
    }
}

static void test_comparisons(void **state)
{
    (void)state;
    static const uint8_t ops[] = {BPF_JEQ,  BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT,
                                  BPF_JSGE, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE};
    static const int32_t immediates[] = {0, 1, -1, 127, 255, INT32_MAX, INT32_MIN};
    static const uint64_t values[] = {
        0, 1, 127, 128, 255, UINT64_C(0x80000000), UINT32_MAX, UINT64_C(0x17fffffff), UINT64_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(ops) * ARRAY_SIZE(immediates) * 2 * FORMS; i++) {
        const unsigned op = ops[i % ARRAY_SIZE(ops)], form = i / 11 % FORMS;
        const unsigned class = i / (11 * FORMS) % 2 ? BPF_JMP : BPF_JMP32;
        struct program p = {.count = 0};
        for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
            add(&p, BPF_ALU64 | BPF_LSH | BPF_K, 0, 0, 0, 2);
            add_number(&p, 2, values[v]);
            add(&p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, 2, -8, 0);
            add_operand(&p, form);
            if (v & 1) /* what was loaded is not there any more */
                add(&p, BPF_ST | BPF_MEM | BPF_DW, BPF_FP, 0, -8, 5);
            add(&p, class | op | BPF_K, 3, 0, 1, immediates[i / (22 * FORMS)]);
            add(&p, BPF_ALU64 | (v & 2 ? BPF_OR : BPF_MUL) | BPF_K, 0, 0, 0, 9);
            add(&p, BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 0, 2);
        }
        add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        check_program(&p, true, BPF_UNLIMITED);
    }
}

/* ---- bounds ------------------------------------------------------------------------------ */

static void check_access(unsigned opcode, uint64_t address, int offset, int imm)
{
    struct program p = {.count = 0};
    add_number(&p, 3, address - (uint64_t)(int64_t)offset);
    if (BPF_CLASS(opcode) == BPF_LDX)
        add(&p, opcode, 0, 3, offset, 0);
    else
        add(&p, opcode, 3, 0, offset, imm);
    add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    check_program(&p, false, BPF_UNLIMITED);
}

static void test_bounds(void **state)
{
    (void)state;
    struct program p = {.count = 0};
    add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    struct bpf_prog *prog = open_prog(&p, BPF_ENGINE_INTERP);
    const uint64_t edges[] = {BPF_ADDRESS, prog->layout.write_start, prog->layout.end,
                              0,           UINT64_C(1) << 32,        UINT64_C(1) << 63};
    static const int offsets[] = {0, 1, -1, 8, INT16_MAX, INT16_MIN};
    memset(ends, 0, sizeof(ends));
    for (unsigned e = 0; e < ARRAY_SIZE(edges); e++)
        for (unsigned o = 0; o < ARRAY_SIZE(offsets); o++)
            for (int beyond = -9; beyond <= 9; beyond++)
                for (unsigned s = 0; s < 4; s++) {
                    const uint64_t address = edges[e] + (uint64_t)beyond;
                    check_access(BPF_LDX | BPF_MEM | sizes[s], address, offsets[o], 0);
                    check_access(BPF_ST | BPF_MEM | sizes[s], address, offsets[o], 7);
                    check_access(BPF_STX | BPF_MEM | sizes[s], address, offsets[o], 0);
                    if (sizes[s] == BPF_W || sizes[s] == BPF_DW)
                        check_access(BPF_STX | BPF_ATOMIC | sizes[s], address, offsets[o],
                                     BPF_XCHG);
                }
    assert_true(ends[0] > 1000 && ends[EFAULT] > 1000);
    bpf_prog_close(prog);
}

/* Tables: an index that is bounded, at both ends of the arena and beyond. */
static void test_tables(void **state)
{
    (void)state;
    struct program p = {.count = 0};
    add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    struct bpf_prog *prog = open_prog(&p, BPF_ENGINE_INTERP);
    const uint64_t edges[] = {BPF_ADDRESS, prog->layout.write_start, prog->layout.end};
    memset(ends, 0, sizeof(ends));
    for (unsigned i = 0; i < ARRAY_SIZE(edges) * 4 * 4 * 3 * 40; i++) {
        const unsigned edge = i % 3, size = sizes[i / 3 % 4], scale = i / 12 % 4;
        const unsigned kind = i / 48 % 3;
        const int64_t from = (int64_t)edges[edge] - ((int64_t)(i / 144) * 7 - 140) * (1 << scale) -
                             (i / 144 % 2 ? 255 << scale : 0);
        p = (struct program){.random = i};
        if (kind == 0)
            add(&p, BPF_ST | BPF_MEM | BPF_B, BPF_FP, 0, -1, -(int)(i / 3 % 2));
        add(&p, BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, i / 3 % 2 ? -1 : 0);
        if (kind == 0)
            add(&p, BPF_LDX | BPF_MEM | BPF_B, 4, BPF_FP, -1, 0);
        else if (kind == 1)
            add(&p, BPF_ALU64 | BPF_AND | BPF_K, 4, 0, 0, 255);
        else
            add(&p, BPF_ALU64 | BPF_RSH | BPF_K, 4, 0, 0, 56);
        add(&p, BPF_ALU64 | BPF_LSH | BPF_K, 4, 0, 0, scale);
        add_number(&p, 5, (uint64_t)from);
        add(&p, BPF_ALU64 | BPF_ADD | BPF_X, 5, 4, 0, 0);
        if (i / 144 % 3)
            add(&p, BPF_LDX | BPF_MEM | size, 0, 5, 0, 0);
        else
            add(&p, BPF_ST | BPF_MEM | size, 5, 0, 0, 3);
        add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        check_program(&p, false, BPF_UNLIMITED);
    }
    assert_true(ends[0] > 1000 && ends[EFAULT] > 1000);
    bpf_prog_close(prog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers),        cmocka_unit_test(test_immediates),
        cmocka_unit_test(test_atomic_registers), cmocka_unit_test(test_comparisons),
        cmocka_unit_test(test_bounds),           cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
