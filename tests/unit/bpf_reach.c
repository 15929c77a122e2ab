/* What a program can reach, the verifier must think possible. A random program runs, and what it
 * ends with is noted; then the same program gets an end that does something forbidden if all
 * registers hold just that. The verifier must reject it: would it accept, it believed something
 * about numbers that is not so. */
#include "test.h"

#include "base/util.h"
#include "bpf/device.h"
#include "bpf/vm.h"

enum { MOST = 512, FIRST = 3, LAST = 9, INPUT = 64 };

static uint64_t seed;

static unsigned rnd(unsigned below)
{
    return (unsigned)random_below(&seed, below);
}

struct program {
    struct bpf_insn insns[MOST];
    unsigned count;
    unsigned kept; /* registers that count loops */
};

static unsigned emit(struct program *p, unsigned opcode, unsigned dst, unsigned src, int offset,
                     int64_t imm)
{
    assert_true(p->count < MOST);
    p->insns[p->count] = (struct bpf_insn){.opcode = (uint8_t)opcode,
                                           .dst = dst & 15u,
                                           .src = src & 15u,
                                           .offset = (int16_t)offset,
                                           .imm = (int32_t)imm};
    return p->count++;
}

static unsigned any_register(void)
{
    return FIRST + rnd(LAST - FIRST + 1);
}

/* One that loops do not count in. */
static unsigned free_register(const struct program *p)
{
    unsigned reg = any_register();
    while (p->kept >> reg & 1)
        reg = any_register();
    return reg;
}

static int64_t number(void)
{
    static const int32_t edges[] = {0,  1,  2,  3,  4,   7,   8,    10,        15,       16,
                                    31, 32, 63, 64, 100, 127, 255,  256,       1000,     4095,
                                    -1, -2, -3, -8, -16, -64, -100, INT32_MAX, INT32_MIN};
    return rnd(6) ? edges[rnd(ARRAY_SIZE(edges))] : (int32_t)random_next(&seed);
}

static void arithmetic(struct program *p)
{
    static const uint8_t ops[] = {BPF_ADD,  BPF_ADD, BPF_ADD, BPF_SUB, BPF_SUB, BPF_MUL, BPF_DIV,
                                  BPF_MOD,  BPF_AND, BPF_AND, BPF_OR,  BPF_XOR, BPF_LSH, BPF_RSH,
                                  BPF_ARSH, BPF_MOV, BPF_MOV, BPF_MOV, BPF_NEG, BPF_END};
    unsigned op = ops[rnd(ARRAY_SIZE(ops))], dst = free_register(p);
    unsigned class = rnd(3) ? BPF_ALU64 : BPF_ALU;
    bool shift = op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH;
    if (op == BPF_NEG) {
        emit(p, class | op, dst, 0, 0, 0);
    } else if (op == BPF_END) {
        emit(p, class | op, dst, 0, 0, 16 << rnd(3));
    } else if (rnd(2)) {
        int64_t imm = shift ? rnd(5) ? rnd(class == BPF_ALU ? 32 : 64) : 32 : number();
        int offset = (op == BPF_DIV || op == BPF_MOD) && rnd(4) == 0;
        if (shift && class == BPF_ALU)
            imm &= 31;
        emit(p, class | op, dst, 0, offset, imm);
    } else {
        int offset = 0;
        if ((op == BPF_DIV || op == BPF_MOD) && rnd(4) == 0)
            offset = 1;
        if (op == BPF_MOV && rnd(4) == 0)
            offset = 8 << rnd(class == BPF_ALU ? 2 : 3);
        emit(p, class | op | BPF_X, dst, any_register(), offset, 0);
    }
}

static void memory(struct program *p)
{
    int slot = -8 * (1 + (int)rnd(3));
    if (rnd(2))
        emit(p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, any_register(), slot, 0);
    else if (rnd(4))
        emit(p, BPF_LDX | BPF_MEM | BPF_DW, free_register(p), BPF_FP, slot, 0);
    else if (rnd(2))
        emit(p, BPF_LDX | BPF_MEM | BPF_W, free_register(p), BPF_FP, slot + 4 * (int)rnd(2), 0);
    else
        emit(p, BPF_STX | BPF_MEM | BPF_W, BPF_FP, any_register(), slot + 4 * (int)rnd(2), 0);
}

static const uint8_t jumps[] = {BPF_JEQ,  BPF_JNE,  BPF_JGT,  BPF_JGE,  BPF_JLT, BPF_JLE,
                                BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE, BPF_JSET};

static unsigned compare(struct program *p, unsigned reg)
{
    unsigned opcode = jumps[rnd(ARRAY_SIZE(jumps))] | (rnd(4) ? BPF_JMP : BPF_JMP32);
    if (rnd(2))
        return emit(p, opcode, reg, 0, 0, number());
    return emit(p, opcode | BPF_X, reg, any_register(), 0, 0);
}

static void statements(struct program *p, unsigned count, unsigned nest);

static void branch(struct program *p, unsigned nest)
{
    unsigned jump = compare(p, any_register());
    statements(p, 1 + rnd(3), nest + 1);
    if (rnd(3) == 0) { /* else */
        unsigned skip = emit(p, BPF_JMP | BPF_JA, 0, 0, 0, 0);
        p->insns[jump].offset = (int16_t)(p->count - jump - 1);
        statements(p, 1 + rnd(2), nest + 1);
        p->insns[skip].offset = (int16_t)(p->count - skip - 1);
    } else {
        p->insns[jump].offset = (int16_t)(p->count - jump - 1);
    }
}

/* Up or down, to a constant or to a register that is not large. */
static void loop(struct program *p, unsigned nest)
{
    unsigned counter = free_register(p), end = free_register(p), before = p->kept;
    int64_t rounds = 1 + (rnd(4) ? rnd(20) : rnd(2000)), step = 1 + (rnd(3) ? 0 : rnd(3));
    bool down = rnd(3) == 0, by_register = rnd(2) && end != counter;
    unsigned class = rnd(4) ? BPF_ALU64 : BPF_ALU;
    if (nest > 0)
        rounds = 1 + rnd(30);
    if (by_register) {
        emit(p, BPF_ALU64 | BPF_AND, end, 0, 0, 63);
        if (rnd(4))
            emit(p, BPF_ALU64 | BPF_ADD, end, 0, 0, 1);
        p->kept |= 1u << end;
    }
    emit(p, BPF_ALU64 | BPF_MOV | (down && by_register ? BPF_X : 0), counter,
         down && by_register ? end : 0, 0, down && !by_register ? rounds * step : 0);
    p->kept |= 1u << counter;
    unsigned head = p->count;
    statements(p, 1 + rnd(4), nest + 1);
    emit(p, class | (down ? BPF_SUB : BPF_ADD), counter, 0, 0, step);
    static const uint8_t up_ops[] = {BPF_JLT, BPF_JSLT, BPF_JNE, BPF_JLE};
    static const uint8_t down_ops[] = {BPF_JNE, BPF_JSGT, BPF_JGT, BPF_JSGE};
    unsigned op = down ? down_ops[rnd(4)] : up_ops[rnd(4)];
    unsigned jump = down || !by_register
                        ? emit(p, BPF_JMP | op, counter, 0, 0, down ? 0 : rounds * step)
                        : emit(p, BPF_JMP | op | BPF_X, counter, end, 0, 0);
    p->insns[jump].offset = (int16_t)((int)head - (int)jump - 1);
    p->kept = before;
}

static void statements(struct program *p, unsigned count, unsigned nest)
{
    for (unsigned i = 0; i < count && p->count < MOST / 2; i++) {
        unsigned what = rnd(12);
        if (what < 7)
            arithmetic(p);
        else if (what < 8)
            memory(p);
        else if (what < 11 && nest < 3)
            branch(p, nest);
        else if (nest < 2)
            loop(p, nest);
    }
}

/* All registers get something unknown: a byte, a word, all 64 bits. */
static void generate(struct program *p)
{
    static const uint8_t sizes[] = {BPF_B, BPF_B, BPF_H, BPF_W, BPF_DW};
    p->count = p->kept = 0;
    for (unsigned reg = FIRST; reg <= LAST; reg++) {
        emit(p, BPF_LDX | BPF_MEM | sizes[rnd(5)], reg, 1, (int)(8 * (reg - FIRST)), 0);
        if (reg < FIRST + 3)
            emit(p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, reg, -8 * (int)(reg - FIRST + 1), 0);
    }
    emit(p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, 1, -64, 0);
    statements(p, 4 + rnd(20), 0);
}

static char text[4096];

static struct bpf_prog *open_prog(const struct program *p)
{
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    struct bpf_options options = {.engine = BPF_ENGINE_INTERP, .verify_limit = 30000};
    struct bpf_module *module;
    struct bpf_prog *prog;
    assert_int_equal(bpf_module_open_insns(p->insns, p->count * sizeof(p->insns[0]), &module, NULL),
                     0);
    int error = bpf_prog_open(module, &device_environment, &options, &prog, &log);
    bpf_module_close(module);
    assert_true(error == 0 || error == -EACCES);
    return prog;
}

/* Bytes that are often small, equal, or at an edge. */
static void input(uint8_t memory[INPUT])
{
    static const uint8_t bytes[] = {0, 0, 1, 2, 7, 8, 63, 64, 127, 128, 254, 255};
    for (unsigned i = 0; i < INPUT; i++)
        memory[i] = rnd(3) ? bytes[rnd(ARRAY_SIZE(bytes))] : (uint8_t)random_next(&seed);
    for (unsigned i = 0; i < INPUT; i += 8)
        if (rnd(2))
            memset(memory + i + 1, rnd(3) ? 0 : 0xff, 7);
    if (rnd(4) == 0)
        memcpy(memory, memory + 8 * (1 + rnd(6)), 8);
}

/* Run it and note what registers hold. false: it takes too long. */
static bool run(const struct bpf_prog *prog, uint64_t end[LAST + 1])
{
    const struct bpf_limits limits = {.budget = 1000000, .timeout_ns = BPF_UNLIMITED};
    struct bpf_vm *vm;
    uint64_t r0;
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    uint8_t *memory = bpf_vm_region(vm, DEVICE_CONTEXT);
    input(memory);
    int error = bpf_vm_run_checked(vm, &limits, BPF_CHECK_STRICT, &r0);
    assert_true(error == 0 || error == -ETIME);
    for (unsigned reg = FIRST; reg <= LAST; reg++)
        end[reg] = load_le64(memory + 8 * (reg - FIRST));
    bpf_vm_close(vm);
    return error == 0;
}

static unsigned ends, found;

static void check_end(struct program *p, unsigned from, const uint64_t end[LAST + 1],
                      unsigned which)
{
    unsigned leave[LAST + 1] = {0};
    p->count = from;
    for (unsigned reg = FIRST; reg <= LAST; reg++) {
        if (!(which >> reg & 1))
            continue;
        emit(p, BPF_LDDW, 0, 0, 0, (int64_t)(int32_t)end[reg]);
        emit(p, 0, 0, 0, 0, (int64_t)(end[reg] >> 32));
        leave[reg] = emit(p, BPF_JMP | BPF_JNE | BPF_X, reg, 0, 0, 0);
    }
    emit(p, BPF_ALU64 | BPF_MOV, 0, 0, 0, 0);
    emit(p, BPF_LDX | BPF_MEM | BPF_B, 0, 0, 0, 0); /* a load by the number 0 */
    for (unsigned reg = FIRST; reg <= LAST; reg++)
        if (leave[reg])
            p->insns[leave[reg]].offset = (int16_t)(p->count - leave[reg] - 1);
    emit(p, BPF_ALU64 | BPF_MOV, 0, 0, 0, 0);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    struct bpf_prog *prog = open_prog(p);
    ends++;
    found += strstr(text, "it is a number, not a pointer") != NULL;
    if (!prog)
        return;
    bpf_prog_close(prog);
    for (unsigned i = 0; i < p->count; i++)
        print_error("%02x %x %x %d %d\n", p->insns[i].opcode, p->insns[i].dst, p->insns[i].src,
                    p->insns[i].offset, (int)p->insns[i].imm);
    for (unsigned reg = FIRST; reg <= LAST; reg++)
        print_error("r%u = %llx\n", reg, (unsigned long long)end[reg]);
    fail_msg("accepted");
}

static void test_reach(void **state)
{
    (void)state;
    static struct program p;
    unsigned accepted = 0;
    int rounds = test_rounds(300);
    for (int i = 0; i < rounds; i++) {
        seed = (uint64_t)i + (getenv("SEED") ? (uint64_t)atol(getenv("SEED")) : 0);
        generate(&p);
        unsigned from = p.count;
        emit(&p, BPF_LDX | BPF_MEM | BPF_DW, 1, BPF_FP, -64, 0);
        for (unsigned reg = FIRST; reg <= LAST; reg++)
            emit(&p, BPF_STX | BPF_MEM | BPF_DW, 1, reg, (int)(8 * (reg - FIRST)), 0);
        emit(&p, BPF_ALU64 | BPF_MOV, 0, 0, 0, 0);
        emit(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        struct bpf_prog *prog = open_prog(&p);
        if (!prog)
            continue;
        accepted++;
        for (int k = 0; k < 3; k++) {
            uint64_t end[LAST + 1];
            if (!run(prog, end))
                continue;
            check_end(&p, from, end, 0x3f8);
            check_end(&p, from, end, 1u << any_register());
        }
        bpf_prog_close(prog);
    }
    print_message("# %d programs, %u accepted; %u ends, %u found\n", rounds, accepted, ends, found);
    assert_true(accepted > (unsigned)rounds / 4);
    assert_true(found > ends / 10 * 9); /* and not rejected for something else */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reach)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
