/* One program in all engines (diff.h). */
#include "diff.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/vm.h"
#include "generate.h"

enum { BUDGET = 5000 };

/* ---- the environment -------------------------------------------------------------------- */

#define ARGUMENTS struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5
#define UNUSED    (void)vm, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5

static uint64_t hash(uint64_t h, uint64_t n)
{
    h = (h ^ n) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static uint64_t helper_mix(ARGUMENTS)
{
    (void)vm;
    return hash(hash(hash(hash(hash(1, a1), a2), a3), a4), a5);
}

/* The memory of an argument; NULL, and the run fails. */
static uint8_t *memory_of(struct bpf_vm *vm, uint64_t address, uint64_t size, bool write)
{
    uint8_t *p = size <= 64 ? bpf_vm_memory(vm, address, size, write) : NULL;
    if (!p)
        bpf_vm_fail(vm, -EFAULT);
    return p;
}

static uint64_t helper_read(ARGUMENTS)
{
    UNUSED;
    const uint8_t *p = memory_of(vm, a1, a2, false);
    uint64_t h = 0;
    for (uint64_t i = 0; p && i < a2; i++)
        h = hash(h, p[i]);
    return h;
}

static uint64_t helper_write(ARGUMENTS)
{
    UNUSED;
    uint8_t *p = memory_of(vm, a1, a2, true);
    for (uint64_t i = 0; p && i < a2; i++)
        p[i] = (uint8_t)(3 * i + a2);
    return 0;
}

static uint64_t helper_buffer(ARGUMENTS)
{
    UNUSED;
    return a1 & 1 ? 0 : bpf_vm_address(vm, 2);
}

static uint64_t helper_string(ARGUMENTS)
{
    UNUSED;
    for (uint64_t n = 0; n < CONSTANT_SIZE; n++) {
        const char *c = bpf_vm_memory(vm, a1 + n, 1, false);
        if (c && !*c)
            return n;
        if (!c)
            break;
    }
    bpf_vm_fail(vm, -EFAULT);
    return 0;
}

static uint64_t helper_give(ARGUMENTS)
{
    UNUSED;
    uint8_t *p = memory_of(vm, a1, 8, true);
    if (p)
        store_le64(p, bpf_vm_address(vm, 2));
    return 0;
}

static uint64_t helper_fail(ARGUMENTS)
{
    UNUSED;
    if (a1 == 7)
        bpf_vm_fail(vm, -EIO);
    return a1 + 1;
}

static uint64_t helper_small(ARGUMENTS)
{
    UNUSED;
    return bpf_vm_instructions(vm) % 64;
}

static uint64_t helper_piece(ARGUMENTS)
{
    UNUSED;
    return a1 <= BUFFER_SIZE ? bpf_vm_address(vm, 2) : 0;
}

static uint64_t helper_move(ARGUMENTS)
{
    UNUSED;
    uint8_t *buffer = bpf_vm_region(vm, 2);
    buffer[0]++;
    return buffer[0];
}

#define POINTER(...) ((struct bpf_value){.kind = BPF_VALUE_POINTER, .region = 2, __VA_ARGS__})
static const struct bpf_helper helpers[] = {
    {.id = 1,
     .name = "mix",
     .function = helper_mix,
     .args = {{.kind = BPF_ARG_SCALAR},
              {.kind = BPF_ARG_SCALAR},
              {.kind = BPF_ARG_SCALAR},
              {.kind = BPF_ARG_SCALAR},
              {.kind = BPF_ARG_SCALAR}},
     .returns = BPF_ANY_SCALAR},
    {.id = 2,
     .name = "read",
     .function = helper_read,
     .args = {{.kind = BPF_ARG_READ, .size_arg = 2}, {.kind = BPF_ARG_SCALAR, .max = 64}},
     .returns = BPF_ANY_SCALAR},
    {.id = 3,
     .name = "write",
     .function = helper_write,
     .args = {{.kind = BPF_ARG_WRITE, .size_arg = 2}, {.kind = BPF_ARG_SCALAR, .max = 64}},
     .returns = BPF_RANGE(0, 0)},
    {.id = 4,
     .name = "buffer",
     .function = helper_buffer,
     .args = {{.kind = BPF_ARG_SCALAR}},
     .returns = POINTER(.nullable = true)},
    {.id = 5,
     .name = "string",
     .function = helper_string,
     .args = {{.kind = BPF_ARG_STRING}},
     .returns = BPF_RANGE(0, CONSTANT_SIZE - 1)},
    {.id = 6,
     .name = "give",
     .function = helper_give,
     .args = {{.kind = BPF_ARG_WRITE, .size = 8, .stores = POINTER(.arg = 0)}},
     .returns = BPF_RANGE(0, 0)},
    {.id = 7,
     .name = "fail",
     .function = helper_fail,
     .args = {{.kind = BPF_ARG_SCALAR}},
     .returns = BPF_ANY_SCALAR},
    {.id = 8, .name = "small", .function = helper_small, .returns = BPF_RANGE(0, 63)},
    {.id = 9,
     .name = "piece",
     .function = helper_piece,
     .args = {{.kind = BPF_ARG_CONSTANT, .max = BUFFER_SIZE}},
     .returns = POINTER(.arg = 1, .nullable = true)},
    {.id = 10,
     .name = "move",
     .function = helper_move,
     .returns = BPF_RANGE(0, 255),
     .moves = true,
     .moved = 2},
};

static const struct bpf_region regions[] = {
    {.name = "memory", .size = MEMORY_SIZE, .writable = true},
    {.name = "constant", .size = CONSTANT_SIZE},
    {.name = "buffer", .size = BUFFER_SIZE, .writable = true},
};

static const struct bpf_environment environment = {
    .regions = regions,
    .region_count = ARRAY_SIZE(regions),
    .helpers = helpers,
    .helper_count = ARRAY_SIZE(helpers),
    .entry = {BPF_REGION_START(0), BPF_RANGE(MEMORY_SIZE, MEMORY_SIZE), BPF_REGION_START(1),
              BPF_RANGE(-5, 1000)},
};

/* ---- programs --------------------------------------------------------------------------- */

/* Which fields an instruction uses, more or less: what is changed should often still be one. */
static bool uses_registers(const struct bpf_insn *insn, bool source)
{
    const unsigned class = BPF_CLASS(insn->opcode), op = BPF_OP(insn->opcode);
    if (class <= BPF_STX)
        return class != BPF_LD && (!source || class != BPF_ST);
    if ((class == BPF_JMP || class == BPF_JMP32) &&
        (op == BPF_JA || op == BPF_CALL || op == BPF_EXIT))
        return false;
    return !source || (BPF_SOURCE(insn->opcode) == BPF_X && op != BPF_END);
}

static bool uses_offset(const struct bpf_insn *insn)
{
    const unsigned class = BPF_CLASS(insn->opcode), op = BPF_OP(insn->opcode);
    return class == BPF_JMP ? op != BPF_CALL && op != BPF_EXIT
                            : class >= BPF_LDX && class <= BPF_STX;
}

static void change(struct bpf_insn *insn, unsigned how, uint8_t value)
{
    if (how == 0 && insn->opcode && (insn->imm || BPF_SOURCE(insn->opcode) == BPF_K))
        insn->imm = (int32_t)((uint32_t)insn->imm + (uint32_t)(int8_t)value);
    else if (how == 1 && uses_offset(insn))
        insn->offset = (int16_t)(insn->offset + (int8_t)value % 9);
    else if (how == 2 && uses_registers(insn, false))
        insn->dst = (value % 10u) & 15u;
    else if (how == 3 && uses_registers(insn, true))
        insn->src = (value % 11u) & 15u;
    else if (how == 4 && insn->opcode && insn->opcode != BPF_LDDW)
        insn->opcode ^= (uint8_t)(8u << value % 5);
}

/* Change some instructions a little. */
static void mutate(struct generated *g, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 4 <= size && i < 16; i += 4)
        change(&g->insns[(data[i] | data[i + 1] << 8) % g->count], data[i + 2] % 5, data[i + 3]);
}

/* Globals, which bare instructions do not have. */
static bool add_globals(struct bpf_code *code)
{
    code->rodata = base_alloc(RODATA_SIZE);
    code->data = base_alloc(DATA_SIZE);
    if (!code->rodata || !code->data)
        return false;
    code->rodata_size = RODATA_SIZE;
    code->data_size = DATA_SIZE;
    for (unsigned i = 0; i < RODATA_SIZE; i++)
        code->rodata[i] = (uint8_t)(i % 21 == 0 ? 0 : i * 37 + 1);
    for (unsigned i = 0; i < DATA_SIZE / 2; i++)
        code->data[i] = (uint8_t)(i * 11 + 5);
    return true;
}

static struct bpf_module *make_module(const uint8_t *data, size_t size)
{
    static struct generated g;
    struct bpf_module *module = NULL;
    const unsigned how = size ? data[0] % 8 : 1;
    if (how == 0) {
        bpf_module_open_insns(data + 1, size - 1, &module, NULL);
    } else {
        bpf_generate(data + (size > 0), size - (size > 0), &g);
        if (how < 4)
            mutate(&g, data, size);
        bpf_module_open_insns(g.insns, g.count * sizeof(g.insns[0]), &module, NULL);
    }
    if (module && !add_globals(&module->code))
        abort();
    return module;
}

/* ---- runs ------------------------------------------------------------------------------- */

struct outcome {
    const char *name;
    int error;
    uint64_t r0, ticks;
    char failure[256];
    uint8_t memory[MEMORY_SIZE], buffer[BUFFER_SIZE], data[DATA_SIZE];
    uint8_t stack[BPF_FRAME_SIZE * BPF_MAX_DEPTH];
};

/* What memory holds: a pattern, edge values, anything. */
enum { FILLS = 5 };

static uint8_t fill_byte(unsigned fill, unsigned i, uint64_t *random)
{
    switch (fill) {
    case 0:
        return (uint8_t)(i * 7 + 3);
    case 1:
        return 0xff;
    case 2:
        return i % 8 == 7 ? 0x80 : 0;
    case 3:
        return i % 4 == 3 ? 0x7f : 0xff;
    default:
        return (uint8_t)random_next(random);
    }
}

static void prepare(struct bpf_vm *vm, unsigned fill)
{
    uint8_t *memory = bpf_vm_region(vm, 0), *constant = bpf_vm_region(vm, 1);
    uint64_t random = fill;
    for (unsigned i = 0; i < MEMORY_SIZE; i++)
        memory[i] = fill_byte(fill, i, &random);
    for (unsigned i = 0; i < CONSTANT_SIZE - 1; i++)
        constant[i] = (uint8_t)(i * 5 + 1);
    memset(bpf_vm_region(vm, 2), 0, BUFFER_SIZE);
}

/* In the engine of the program, or in the interpreter with this check (>= 0). */
static void run(const struct bpf_prog *prog, int check, unsigned fill, struct outcome *o)
{
    const struct bpf_limits limits = {.budget = BUDGET, .timeout_ns = BPF_UNLIMITED};
    const struct bpf_layout *l = &prog->layout;
    struct bpf_vm *vm;
    if (bpf_vm_open(prog, NULL, &vm) < 0)
        abort();
    prepare(vm, fill);
    o->r0 = 0;
    o->error = check < 0 ? bpf_vm_run(vm, &limits, &o->r0)
                         : bpf_vm_run_checked(vm, &limits, (enum bpf_check)check, &o->r0);
    o->ticks = bpf_vm_instructions(vm);
    snprintf(o->failure, sizeof(o->failure), "%s", bpf_vm_failure(vm));
    memcpy(o->memory, bpf_vm_region(vm, 0), MEMORY_SIZE);
    memcpy(o->buffer, bpf_vm_region(vm, 2), BUFFER_SIZE);
    memcpy(o->data, vm->memory + (l->spans[BPF_SPAN_DATA].start - BPF_ADDRESS), DATA_SIZE);
    memcpy(o->stack, vm->memory + (l->spans[BPF_SPAN_STACK].start - BPF_ADDRESS), sizeof(o->stack));
    bpf_vm_close(vm);
}

static void print_line(void *arg, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static void print_outcome(const struct outcome *o)
{
    fprintf(stderr, "%s: error %d, r0 0x%llx, %llu instructions; %s\n", o->name, o->error,
            (unsigned long long)o->r0, (unsigned long long)o->ticks, o->failure);
}

/* What differs, or NULL. A run that failed may have left off at another place in memory, for the
 * compiler looks at several accesses at once. */
static const char *compare(const struct outcome *a, const struct outcome *b, bool stack)
{
    if (a->error != b->error)
        return "errors differ";
    if (a->error == 0 && a->r0 != b->r0)
        return "results differ";
    if (a->error && a->error != -EIO)
        return NULL;
    if (a->ticks != b->ticks)
        return "counts of instructions differ";
    if (memcmp(a->memory, b->memory, sizeof(a->memory)) != 0)
        return "memory differs";
    if (memcmp(a->buffer, b->buffer, sizeof(a->buffer)) != 0)
        return "the buffer differs";
    if (memcmp(a->data, b->data, sizeof(a->data)) != 0)
        return "globals differ";
    if (stack && memcmp(a->stack, b->stack, sizeof(a->stack)) != 0)
        return "the stack differs";
    return NULL;
}

static bool agree(const struct bpf_module *module, const struct outcome *a, const struct outcome *b,
                  bool stack)
{
    const char *why = compare(a, b, stack);
    if (!why)
        return true;
    bpf_module_disassemble(module, print_line, NULL);
    print_outcome(a);
    print_outcome(b);
    fprintf(stderr, "%s\n", why);
    return false;
}

static int open_prog(const struct bpf_module *module, enum bpf_verify verify,
                     enum bpf_engine engine, struct bpf_prog **prog)
{
    static char text[1 << 16];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    const struct bpf_options options = {.verify = verify, .engine = engine, .verify_limit = 20000};
    text[0] = '\0';
    const int error = bpf_prog_open(module, &environment, &options, prog, &log);
    if (error < 0 && !text[0])
        abort(); /* a call that fails leaves a line */
    return error;
}

/* compiled: NULL if there is no compiler. */
static bool diff_filled(const struct bpf_module *module, const struct bpf_prog *prog,
                        const struct bpf_prog *compiled, unsigned fill, struct diff_count *count)
{
    static struct outcome strict = {.name = "strict"}, noise = {.name = "noise"},
                          unchecked = {.name = "unchecked"}, jit = {.name = "compiled"};
    run(prog, BPF_CHECK_STRICT, fill, &strict);
    if (strict.error == -EFAULT || strict.error == -ELOOP || strict.error == -EINVAL) {
        bpf_module_disassemble(module, print_line, NULL);
        print_outcome(&strict);
        fprintf(stderr, "the verifier accepts what faults\n");
        return false;
    }
    count->ended += strict.error == 0;
    run(prog, BPF_CHECK_NOISE, fill, &noise);
    run(prog, BPF_CHECK_NONE, fill, &unchecked);
    if (!agree(module, &strict, &noise, false) || !agree(module, &strict, &unchecked, true))
        return false;
    if (!compiled)
        return true;
    run(compiled, -1, fill, &jit);
    return agree(module, &strict, &jit, false);
}

static bool diff_verified(const struct bpf_module *module, const struct bpf_prog *prog,
                          struct diff_count *count)
{
    struct bpf_prog *compiled;
    open_prog(module, BPF_VERIFY_REQUIRE, BPF_ENGINE_JIT, &compiled);
    bool same = true;
    for (unsigned fill = 0; fill < FILLS && same; fill++)
        same = diff_filled(module, prog, compiled, fill, count);
    bpf_prog_close(compiled);
    return same;
}

static bool diff_checked(const struct bpf_module *module, struct diff_count *count)
{
    static struct outcome interpreted = {.name = "interpreted"}, jit = {.name = "compiled"};
    struct bpf_prog *prog;
    if (open_prog(module, BPF_VERIFY_CHECKED, BPF_ENGINE_INTERP, &prog) < 0)
        return false;
    run(prog, -1, 0, &interpreted);
    bpf_prog_close(prog);
    count->failed += interpreted.error < 0;
    if (open_prog(module, BPF_VERIFY_CHECKED, BPF_ENGINE_JIT, &prog) < 0)
        return true;
    count->compiled++;
    run(prog, -1, 0, &jit);
    bpf_prog_close(prog);
    return agree(module, &interpreted, &jit, true);
}

bool bpf_diff(const uint8_t *data, size_t size, struct diff_count *count)
{
    struct bpf_prog *prog;
    struct bpf_module *module = make_module(data, size);
    if (!module)
        return true;
    count->programs++;
    bool same = true;
    if (open_prog(module, BPF_VERIFY_AUTO, BPF_ENGINE_INTERP, &prog) < 0) {
        count->refused++;
    } else {
        if (bpf_prog_verified(prog)) {
            count->verified++;
            same = diff_verified(module, prog, count);
        } else {
            count->checked++;
        }
        bpf_prog_close(prog);
        same = same && diff_checked(module, count);
    }
    bpf_module_close(module);
    return same;
}
