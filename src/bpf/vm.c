/* Runs: the arena, its reset, time, and what helpers ask. */
#include "bpf/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

/* Ticks between two looks at the clock: some ten microseconds of compiled code. */
#define SLICE (UINT64_C(1) << 16)

/* ---- memory ----------------------------------------------------------------------------- */

static uint8_t *at(struct bpf_vm *vm, uint64_t address)
{
    return vm->memory + (address - BPF_ADDRESS);
}

static void load_globals(struct bpf_vm *vm)
{
    const struct bpf_code *code = &vm->prog->code;
    const uint64_t rodata = vm->prog->layout.spans[BPF_SPAN_RODATA].start;
    const uint64_t data = vm->prog->layout.spans[BPF_SPAN_DATA].start;
    if (code->rodata_size)
        memcpy(at(vm, rodata), code->rodata, code->rodata_size);
    if (code->data_size)
        memcpy(at(vm, data), code->data, code->data_size);
    bpf_code_set_pointers(code, at(vm, rodata), rodata, at(vm, data), data);
}

int bpf_vm_open(const struct bpf_prog *prog, void *user, struct bpf_vm **vm)
{
    *vm = NULL;
    struct bpf_vm *v = base_alloc(sizeof(*v));
    if (!v)
        return -ENOMEM;
    v->memory = base_reserve(prog->layout.end - BPF_ADDRESS);
    if (!v->memory) {
        base_free(v);
        return -ENOMEM;
    }
    v->prog = prog;
    v->user = user;
    *vm = v;
    return 0;
}

void bpf_vm_close(struct bpf_vm *vm)
{
    if (!vm)
        return;
    base_unreserve(vm->memory, vm->prog->layout.end - BPF_ADDRESS);
    base_free(vm);
}

void *bpf_vm_user(const struct bpf_vm *vm)
{
    return vm->user;
}

uint64_t bpf_vm_address(const struct bpf_vm *vm, unsigned region)
{
    return vm->prog->layout.spans[BPF_SPAN_REGION + region].start;
}

void *bpf_vm_region(struct bpf_vm *vm, unsigned region)
{
    return at(vm, bpf_vm_address(vm, region));
}

void *bpf_vm_memory(struct bpf_vm *vm, uint64_t address, uint64_t len, bool write)
{
    const struct bpf_layout *l = &vm->prog->layout;
    if (len == 0)
        return vm->memory;
    for (unsigned i = 0; i < l->count; i++) {
        const struct bpf_span *span = &l->spans[i];
        if (range_ok(address - span->start, len, span->size))
            return write && !span->writable ? NULL : at(vm, address);
    }
    return NULL;
}

/* Globals and stack as at the start of every run; also the gaps, into which a checked program may
 * have written. */
static void reset_memory(struct bpf_vm *vm)
{
    const struct bpf_layout *l = &vm->prog->layout;
    const struct bpf_span *stack = &l->spans[BPF_SPAN_STACK];
    load_globals(vm);
    memset(at(vm, stack->start), 0, stack->size);
    for (unsigned i = 0; i < l->count && !vm->prog->verified; i++) {
        const uint64_t end = l->spans[i].start + l->spans[i].size;
        if (l->spans[i].writable)
            memset(at(vm, end), 0, bpf_layout_gap_end(&l->spans[i]) - end);
    }
}

/* ---- time ------------------------------------------------------------------------------- */

uint64_t bpf_vm_instructions(const struct bpf_vm *vm)
{
    return vm->spent + (vm->slice - (uint64_t)vm->ticks);
}

int bpf_vm_tick(struct bpf_vm *vm)
{
    const uint64_t spent = bpf_vm_instructions(vm);
    if (spent > vm->budget)
        vm->error = -ETIME;
    else if (bpf_vm_cancelled(vm))
        vm->error = -ECANCELED;
    else if (vm->deadline != BPF_UNLIMITED && base_now_ns() >= vm->deadline)
        vm->error = -ETIME;
    if (vm->error)
        return vm->error;
    vm->spent = spent;
    vm->slice = min_u64(SLICE, vm->budget - spent);
    vm->ticks = (int64_t)vm->slice;
    return 0;
}

void bpf_vm_cancel(struct bpf_vm *vm)
{
    __atomic_store_n(&vm->cancel, 1, __ATOMIC_RELAXED);
}

bool bpf_vm_cancelled(const struct bpf_vm *vm)
{
    return __atomic_load_n(&vm->cancel, __ATOMIC_RELAXED);
}

void bpf_vm_fail(struct bpf_vm *vm, int error)
{
    vm->error = error < 0 ? error : -EINVAL;
    vm->failed = true;
}

uint64_t bpf_vm_deadline(const struct bpf_vm *vm)
{
    return vm->deadline;
}

/* ---- running ---------------------------------------------------------------------------- */

/* -EFAULT, by what the instruction does. */
static const char *describe_fault(const struct bpf_insn *insn)
{
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_LDX:
        return "outside of the program's memory";
    case BPF_STX:
        if (BPF_MODE(insn->opcode) == BPF_ATOMIC)
            return "outside of the memory that the program may write, or not aligned";
        return "outside of the memory that the program may write";
    case BPF_ST:
        return "outside of the memory that the program may write";
    default:
        return "the helper was given an address outside of the program's memory";
    }
}

/* Why a run ended, in words. */
static void describe(const struct bpf_vm *vm, int error, char text[96])
{
    const struct bpf_insn *insn = &vm->prog->code.insns[vm->fault];
    if (error == -ETIME && bpf_vm_instructions(vm) > vm->budget)
        snprintf(text, 96, "its budget of %llu instructions is spent",
                 (unsigned long long)vm->budget);
    else if (error == -ETIME)
        snprintf(text, 96, "its time is over");
    else if (error == -ECANCELED)
        snprintf(text, 96, "cancelled");
    else if (error == -EFAULT)
        snprintf(text, 96, "%s", describe_fault(insn));
    else if (error == -ELOOP)
        snprintf(text, 96, "calls are more than %d deep", BPF_MAX_DEPTH);
    else if (error == -EINVAL && !vm->failed)
        snprintf(text, 96, "no such function");
    else
        snprintf(text, 96, "the helper failed (error %d)", -error);
}

static void note_failure(struct bpf_vm *vm, int error)
{
    const struct bpf_code *code = &vm->prog->code;
    const struct bpf_line *line = bpf_code_line(code, vm->fault);
    char why[96], insn[BPF_TEXT_SIZE];
    describe(vm, error, why);
    bpf_insn_text(code, vm->fault, insn);
    int n = snprintf(vm->failure, sizeof(vm->failure), "%s: instruction %u of %s: %s", why,
                     (unsigned)vm->fault, bpf_code_function(code, vm->fault)->name, insn);
    if (line && n > 0 && (size_t)n < sizeof(vm->failure))
        snprintf(vm->failure + n, sizeof(vm->failure) - (size_t)n, " (%s:%u: %s)", line->file,
                 (unsigned)line->line, line->text);
}

static int start(struct bpf_vm *vm, const struct bpf_limits *limits)
{
    const struct bpf_prog *p = vm->prog;
    vm->failure[0] = '\0';
    vm->error = 0;
    vm->failed = false;
    vm->fault = p->entry;
    vm->budget = limits ? limits->budget : BPF_UNLIMITED;
    vm->deadline = BPF_UNLIMITED;
    if (limits && limits->timeout_ns != BPF_UNLIMITED &&
        __builtin_add_overflow(base_now_ns(), limits->timeout_ns, &vm->deadline))
        vm->deadline = BPF_UNLIMITED;
    reset_memory(vm);
    vm->spent = vm->slice = 0;
    vm->ticks = -(int64_t)bpf_code_function(&p->code, p->entry)->count;
    return bpf_vm_tick(vm);
}

static int finish(struct bpf_vm *vm, int error)
{
    __atomic_store_n(&vm->cancel, 0, __ATOMIC_RELAXED);
    if (error < 0)
        note_failure(vm, error);
    return error;
}

int bpf_vm_run_checked(struct bpf_vm *vm, const struct bpf_limits *limits, enum bpf_check check,
                       uint64_t *r0)
{
    const int error = start(vm, limits);
    return finish(vm, error ? error : bpf_interpret(vm, check, r0));
}

int bpf_vm_run(struct bpf_vm *vm, const struct bpf_limits *limits, uint64_t *r0)
{
    if (!vm->prog->jit)
        return bpf_vm_run_checked(vm, limits, vm->prog->verified ? BPF_CHECK_NONE : BPF_CHECK_ARENA,
                                  r0);
    const int error = start(vm, limits);
    return finish(vm, error ? error : bpf_jit_run(vm, r0));
}

const char *bpf_vm_failure(const struct bpf_vm *vm)
{
    return vm->failure;
}
