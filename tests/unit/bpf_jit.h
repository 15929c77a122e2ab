/* What tests of the compiler share: programs made by hand, run in the interpreter and in the
 * compiler's code, checked and verified, with and without BMI2. */
#ifndef TESTS_UNIT_BPF_JIT_H
#define TESTS_UNIT_BPF_JIT_H

#include "test.h"

#include <ashlar/bpf.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/jit/x86.h"
#include "bpf/vm.h"

enum { MEMORY = 4096, MAX_INSNS = 400 };

/* ---- the environment -------------------------------------------------------------------- */

static inline uint64_t helper_mix(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3,
                                  uint64_t a4, uint64_t a5)
{
    uint64_t h = bpf_vm_instructions(vm);
    const uint64_t all[] = {a1, a2, a3, a4, a5};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        h = (h ^ all[i]) * UINT64_C(0x9e3779b97f4a7c15);
    return h;
}

static inline uint64_t helper_fail(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3,
                                   uint64_t a4, uint64_t a5)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    if (a1 & 1)
        bpf_vm_fail(vm, -EIO);
    return a1;
}

static const struct bpf_helper helpers[] = {
    {.id = 1, .name = "mix", .function = helper_mix, .returns = BPF_ANY_SCALAR},
    {.id = 2, .name = "fail", .function = helper_fail, .returns = BPF_ANY_SCALAR},
};
static const struct bpf_region regions[] = {
    {.name = "memory", .size = MEMORY, .writable = true},
    {.name = "constant", .size = 100},
};
static const struct bpf_environment environment = {
    .regions = regions,
    .region_count = ARRAY_SIZE(regions),
    .helpers = helpers,
    .helper_count = ARRAY_SIZE(helpers),
    .entry = {BPF_REGION_START(0), BPF_RANGE(MEMORY, MEMORY), BPF_REGION_START(1)},
};

/* ---- programs --------------------------------------------------------------------------- */

struct program {
    struct bpf_insn insns[MAX_INSNS];
    unsigned count;
    uint64_t random;
    bool fixed; /* random programs: nothing changes r1, which is the address of the memory */
};

static inline void add(struct program *p, unsigned opcode, unsigned dst, unsigned src, int offset,
                       int64_t imm)
{
    assert_true(p->count < MAX_INSNS);
    p->insns[p->count++] = (struct bpf_insn){.opcode = (uint8_t)opcode,
                                             .dst = dst & 15,
                                             .src = src & 15,
                                             .offset = (int16_t)offset,
                                             .imm = (int32_t)imm};
}

static inline void add_number(struct program *p, unsigned dst, uint64_t value)
{
    add(p, BPF_LDDW, dst, 0, 0, (int32_t)value);
    add(p, 0, 0, 0, 0, (int32_t)(value >> 32));
}

static inline unsigned below(struct program *p, unsigned n)
{
    return (unsigned)random_below(&p->random, n);
}

static inline uint64_t edge_value(struct program *p)
{
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      3,
                                      31,
                                      32,
                                      63,
                                      64,
                                      127,
                                      128,
                                      255,
                                      256,
                                      65535,
                                      65536,
                                      INT32_MAX,
                                      UINT64_C(0x80000000),
                                      UINT32_MAX,
                                      UINT64_C(0x100000000),
                                      INT64_MAX,
                                      UINT64_C(1) << 63,
                                      UINT64_MAX,
                                      UINT64_MAX - 1,
                                      (uint64_t)INT32_MIN,
                                      BPF_ADDRESS};
    if (below(p, 3))
        return values[below(p, ARRAY_SIZE(values))];
    return random_next(&p->random) >> below(p, 64);
}

static inline struct bpf_prog *open_prog(const struct program *p, enum bpf_engine engine)
{
    const struct bpf_options options = {.verify = BPF_VERIFY_CHECKED, .engine = engine};
    uint8_t bytes[MAX_INSNS * 8];
    char text[1024] = "";
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    struct bpf_module *module;
    struct bpf_prog *prog;
    memcpy(bytes, p->insns, p->count * 8);
    if (bpf_module_open_insns(bytes, p->count * 8, &module, &log) < 0 ||
        bpf_prog_open(module, &environment, &options, &prog, &log) < 0)
        fail_msg("not opened: %s", text);
    bpf_module_close(module);
    return prog;
}

/* Compile it again: verified, as if it were proven, which is only for programs that never reach
 * outside; shiftx, with BMI2. */
static inline void compile(struct bpf_prog *prog, bool verified, bool shiftx)
{
    bpf_jit_free(prog->jit);
    prog->verified = verified;
    prog->jit = jit_compile(prog, shiftx);
    assert_non_null(prog->jit);
}

/* ---- both engines ----------------------------------------------------------------------- */

struct outcome {
    int error;
    uint64_t r0, instructions;
    uint8_t memory[MEMORY];
    char failure[64];
};

static inline void run(struct bpf_prog *prog, uint64_t budget, struct outcome *o)
{
    const struct bpf_limits limits = {.budget = budget, .timeout_ns = BPF_UNLIMITED};
    struct bpf_vm *vm;
    memset(o, 0, sizeof(*o));
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    for (unsigned i = 0; i < MEMORY; i++)
        ((uint8_t *)bpf_vm_region(vm, 0))[i] = (uint8_t)(i * 37 + (i >> 8));
    memset(bpf_vm_region(vm, 1), 0x5a, 100);
    o->error = bpf_vm_run(vm, &limits, &o->r0);
    if (o->error < 0)
        o->r0 = 0;
    o->instructions = bpf_vm_instructions(vm);
    memcpy(o->memory, bpf_vm_region(vm, 0), MEMORY);
    snprintf(o->failure, sizeof(o->failure), "%.60s", bpf_vm_failure(vm));
    bpf_vm_close(vm);
}

static inline void print_program(const struct bpf_prog *prog)
{
    char text[BPF_TEXT_SIZE];
    for (uint32_t i = 0; i < prog->code.count; i++) {
        bpf_insn_text(&prog->code, i, text);
        print_message("# %4u: %s\n", i, text);
        i += prog->code.insns[i].opcode == BPF_LDDW;
    }
}

static inline void compare(const struct bpf_prog *prog, const char *mode, uint64_t budget,
                           const struct outcome *want, const struct outcome *got)
{
    if (want->error == got->error && want->r0 == got->r0 &&
        want->instructions == got->instructions && !memcmp(want->memory, got->memory, MEMORY))
        return;
    print_program(prog);
    for (unsigned i = 0; i < MEMORY; i++)
        if (want->memory[i] != got->memory[i]) {
            print_message("# first difference at byte %u: %02x, not %02x\n", i, got->memory[i],
                          want->memory[i]);
            break;
        }
    fail_msg("%s, budget %lld: error %d not %d, r0 %llx not %llx, %llu not %llu instructions; "
             "\"%s\", \"%s\"",
             mode, (long long)budget, got->error, want->error, (unsigned long long)got->r0,
             (unsigned long long)want->r0, (unsigned long long)got->instructions,
             (unsigned long long)want->instructions, got->failure, want->failure);
}

/* How programs ended, so that a test whose programs all end early is seen. */
static unsigned ends[4096];

/* inside: it never reaches outside of its memory. */
static inline void check_program(const struct program *p, bool inside, uint64_t budget)
{
    const bool bmi2 = __builtin_cpu_supports("bmi2");
    struct outcome want, got;
    struct bpf_prog *interp = open_prog(p, BPF_ENGINE_INTERP);
    struct bpf_prog *jit = open_prog(p, BPF_ENGINE_JIT);
    run(interp, budget, &want);
    ends[-want.error]++;
    run(jit, budget, &got);
    compare(interp, "checked", budget, &want, &got);
    compile(jit, false, false);
    run(jit, budget, &got);
    compare(interp, "checked, no BMI2", budget, &want, &got);
    if (inside) {
        compile(jit, true, bmi2);
        run(jit, budget, &got);
        compare(interp, "verified", budget, &want, &got);
    }
    bpf_prog_close(interp);
    bpf_prog_close(jit);
}

static const uint8_t sizes[] = {BPF_B, BPF_H, BPF_W, BPF_DW};

static inline uint64_t memory_address(void)
{
    static uint64_t address;
    struct program p = {.count = 0};
    if (address)
        return address;
    add(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    struct bpf_prog *prog = open_prog(&p, BPF_ENGINE_INTERP);
    address = prog->layout.spans[BPF_SPAN_REGION].start;
    bpf_prog_close(prog);
    return address;
}

/* All registers but one, and that one, into memory. */
static inline void add_full_end(struct program *p)
{
    add(p, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, 9, -8, 0);
    add_number(p, 9, memory_address());
    for (unsigned r = 0; r < 9; r++)
        add(p, BPF_STX | BPF_MEM | BPF_DW, 9, r, (int)r * 8, 0);
    add(p, BPF_LDX | BPF_MEM | BPF_DW, 0, BPF_FP, -8, 0);
    add(p, BPF_STX | BPF_MEM | BPF_DW, 9, 0, 9 * 8, 0);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

#endif
