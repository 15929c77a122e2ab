/*
 * The interpreter. One loop (interp_loop.h), compiled three times: without checks for verified
 * programs, with one comparison for each access for checked ones, and strict for tests.
 */
#include "bpf/ops.h"

#include <errno.h>
#include <string.h>

#include "bpf/vm.h"

/* What a local call keeps. */
struct frame {
    const struct bpf_op *back; /* the call */
    uint64_t saved[4];         /* r6 to r9 */
};

struct machine {
    uint64_t r[BPF_REGISTERS];
    uint64_t empty; /* what a register holds that has nothing to hold: 0 or NOISE */
    unsigned depth; /* calls that have not come back */
    struct frame frames[BPF_MAX_DEPTH];
};

/* What accesses are held against, at hand. */
struct bounds {
    uintptr_t base; /* where address 0 would be */
    uint64_t write_start;
    uint64_t readable, writable; /* bytes from BPF_ADDRESS, and from write_start */
};

static struct bounds bounds_of(const struct bpf_vm *vm)
{
    const struct bpf_layout *l = &vm->prog->layout;
    return (struct bounds){.base = (uintptr_t)vm->memory - (uintptr_t)BPF_ADDRESS,
                           .write_start = l->write_start,
                           .readable = l->end - BPF_ADDRESS,
                           .writable = l->end - l->write_start};
}

/* Where an access of the program goes in the process; 0 if it may not. */
static inline __attribute__((always_inline)) uintptr_t reach(struct bpf_vm *vm,
                                                             const struct bounds *b,
                                                             enum bpf_check check, uint64_t address,
                                                             unsigned size, bool write)
{
    const uint64_t start = write ? b->write_start : BPF_ADDRESS;
    const uint64_t room = write ? b->writable : b->readable;
    if (check == BPF_CHECK_STRICT)
        return (uintptr_t)bpf_vm_memory(vm, address, size, write);
    if (check == BPF_CHECK_ARENA && address - start > room - size)
        return 0;
    return b->base + (uintptr_t)address;
}

/* ---- calls ------------------------------------------------------------------------------ */

static void empty_registers(struct machine *m, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        m->r[i] = m->empty;
}

/* A stack frame that a function finds: as it is, or noise. */
static void empty_frame(struct bpf_vm *vm, const struct machine *m)
{
    if (m->empty)
        memset(vm->memory + (m->r[BPF_FP] - BPF_FRAME_SIZE - BPF_ADDRESS), (uint8_t)m->empty,
               BPF_FRAME_SIZE);
}

static void call_helper(struct bpf_vm *vm, struct machine *m, const struct bpf_helper *helper)
{
    uint64_t *r = m->r;
    r[0] = helper->function(vm, r[1], r[2], r[3], r[4], r[5]);
    empty_registers(m, 1, 5);
}

/* Begin a function: the op before its first, for the loop steps on; NULL with *error. */
static const struct bpf_op *enter(struct bpf_vm *vm, struct machine *m, const struct bpf_op *call,
                                  const struct bpf_op *first, uint64_t count, int *error)
{
    if (m->depth + 1 == BPF_MAX_DEPTH) {
        *error = -ELOOP;
        return NULL;
    }
    vm->ticks -= (int64_t)count;
    if (vm->ticks < 0 && (*error = bpf_vm_tick(vm)) < 0)
        return NULL;
    struct frame *f = &m->frames[m->depth++];
    f->back = call;
    memcpy(f->saved, &m->r[6], sizeof(f->saved));
    m->r[BPF_FP] -= BPF_FRAME_SIZE;
    empty_frame(vm, m);
    if (m->empty)
        empty_registers(m, 6, 9);
    return first - 1;
}

static const struct bpf_op *leave(struct machine *m)
{
    const struct frame *f = &m->frames[--m->depth];
    memcpy(&m->r[6], f->saved, sizeof(f->saved));
    m->r[BPF_FP] += BPF_FRAME_SIZE;
    if (m->empty)
        empty_registers(m, 1, 5);
    return f->back;
}

/* callx. */
static const struct bpf_op *call_register(struct bpf_vm *vm, struct machine *m,
                                          const struct bpf_op *op, int *error)
{
    const struct bpf_prog *prog = vm->prog;
    const uint64_t value = m->r[op->src], insn = value - BPF_CODE_ADDRESS;
    if (insn < prog->code.count) {
        const struct bpf_function_info *f = bpf_code_function(&prog->code, (uint32_t)insn);
        if (f->start == insn)
            return enter(vm, m, op, prog->ops + insn, f->count, error);
    }
    const struct bpf_helper *helper = bpf_helper_find(prog->environment, value);
    if (!helper) {
        *error = -EINVAL;
        return NULL;
    }
    call_helper(vm, m, helper);
    *error = vm->error;
    return *error < 0 ? NULL : op;
}

/* ---- signed division, as RFC 9669 has it: by zero like unsigned; the least number by -1 is
 * itself, with nothing left ------------------------------------------------------------------ */

static inline uint64_t sdiv64(uint64_t a, uint64_t b)
{
    if (b == 0 || b == UINT64_MAX)
        return b == 0 ? 0 : -a;
    return (uint64_t)((int64_t)a / (int64_t)b);
}

static inline uint64_t smod64(uint64_t a, uint64_t b)
{
    if (b == 0 || b == UINT64_MAX)
        return b == 0 ? a : 0;
    return (uint64_t)((int64_t)a % (int64_t)b);
}

static inline uint32_t sdiv32(uint32_t a, uint32_t b)
{
    if (b == 0 || b == UINT32_MAX)
        return b == 0 ? 0 : -a;
    return (uint32_t)((int32_t)a / (int32_t)b);
}

static inline uint32_t smod32(uint32_t a, uint32_t b)
{
    if (b == 0 || b == UINT32_MAX)
        return b == 0 ? a : 0;
    return (uint32_t)((int32_t)a % (int32_t)b);
}

/* ---- the loop --------------------------------------------------------------------------- */

#define NOISE UINT64_C(0xa5a5a5a5a5a5a5a5)

static void machine_init(struct machine *m, struct bpf_vm *vm, enum bpf_check check)
{
    const struct bpf_prog *prog = vm->prog;
    const struct bpf_span *stack = &prog->layout.spans[BPF_SPAN_STACK];
    m->depth = 0;
    m->empty = check == BPF_CHECK_NOISE ? NOISE : 0;
    empty_registers(m, 0, 9);
    for (unsigned i = 1; i <= 5; i++)
        if (prog->environment->entry[i - 1].kind != BPF_VALUE_NONE)
            m->r[i] = bpf_prog_entry_value(prog, i);
    m->r[BPF_FP] = stack->start + stack->size;
    empty_frame(vm, m);
}

#define DST r[op->dst]
#define SRC r[op->src]
#define FAIL(code)                                                                                 \
    do {                                                                                           \
        error = (code);                                                                            \
        goto fail;                                                                                 \
    } while (0)

#define OP(name, ...)                                                                              \
    op_##name:                                                                                     \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
        op++;                                                                                      \
        goto *labels[op->code];                                                                    \
    }

/* After a call: next is the op before the one to go on with, or NULL with error set. */
#define GO_ON(next)                                                                                \
    const struct bpf_op *before = (next);                                                          \
    if (!before)                                                                                   \
        goto fail;                                                                                 \
    op = before

#define JUMP                                                                                       \
    do {                                                                                           \
        const int64_t distance = op->offset;                                                       \
        if (distance <= 0 && (vm->ticks += distance - 1) < 0 && (error = bpf_vm_tick(vm)) < 0)     \
            goto fail;                                                                             \
        op += distance;                                                                            \
        goto *labels[op->code];                                                                    \
    } while (0)

/* The four forms of an operation: a and b are the operands, in 64 or 32 bits; sa and sb the same
 * with a sign. */
#define FORM(name, bits, b_value, ...)                                                             \
    OP(name, const uint##bits##_t a = (uint##bits##_t)DST;                                         \
       const uint##bits##_t b = (uint##bits##_t)(b_value);                                         \
       const int##bits##_t sa = (int##bits##_t)a; const int##bits##_t sb = (int##bits##_t)b;       \
       (void)a; (void)b; (void)sa; (void)sb; __VA_ARGS__)
#define FORMS(name, expression64, expression32)                                                    \
    FORM(name##64_K, 64, op->imm, DST = (uint64_t)(expression64))                                  \
    FORM(name##64_X, 64, SRC, DST = (uint64_t)(expression64))                                      \
    FORM(name##32_K, 32, op->imm, DST = (uint32_t)(expression32))                                  \
    FORM(name##32_X, 32, SRC, DST = (uint32_t)(expression32))
#define BINARY(name, expression) FORMS(name, expression, expression)
#define COMPARE(name, expression)                                                                  \
    FORM(name##64_K, 64, op->imm, if (expression) JUMP)                                            \
    FORM(name##64_X, 64, SRC, if (expression) JUMP)                                                \
    FORM(name##32_K, 32, op->imm, if (expression) JUMP)                                            \
    FORM(name##32_X, 32, SRC, if (expression) JUMP)

#define REACH(reg, size, write)                                                                    \
    const uintptr_t p =                                                                            \
        reach(vm, &bounds, CHECK, (reg) + (uint64_t)(int64_t)op->offset, size, write);             \
    if (CHECK != BPF_CHECK_NONE && __builtin_expect(!p, 0))                                        \
    FAIL(-EFAULT)
#define LOAD(name, type, wide)                                                                     \
    OP(name, type value; REACH(SRC, sizeof(value), false);                                         \
       memcpy(&value, (const void *)p, sizeof(value)); DST = (uint64_t)(wide)value)
#define STORE(name, type, from)                                                                    \
    OP(name, const type value = (type)(from); REACH(DST, sizeof(value), true);                     \
       memcpy((void *)p, &value, sizeof(value)))
#define MEMORY(bits)                                                                               \
    LOAD(LOAD##bits, uint##bits##_t, uint64_t)                                                     \
    STORE(STORE##bits##_K, uint##bits##_t, op->imm)                                                \
    STORE(STORE##bits##_X, uint##bits##_t, SRC)

#define ATOMIC_FORM(name, bits, ...)                                                               \
    OP(ATOMIC_##name##bits, REACH(DST, bits / 8, true);                                            \
       uint##bits##_t *word = (uint##bits##_t *)p;                                                 \
       const uint##bits##_t value = (uint##bits##_t)SRC;                                           \
       if (CHECK != BPF_CHECK_NONE && p % (bits / 8) != 0) FAIL(-EFAULT); __VA_ARGS__)
#define ATOMIC(name, ...) ATOMIC_FORM(name, 64, __VA_ARGS__) ATOMIC_FORM(name, 32, __VA_ARGS__)
#define ATOMIC_SWAP(bits)                                                                          \
    ATOMIC_FORM(                                                                                   \
        CMPXCHG, bits, uint##bits##_t old = (uint##bits##_t)r[0];                                  \
        __atomic_compare_exchange_n(word, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        r[0] = old)

#define LOOP  run_unchecked
#define CHECK BPF_CHECK_NONE
#include "bpf/interp_loop.h"
#undef LOOP
#undef CHECK

#define LOOP  run_checked
#define CHECK BPF_CHECK_ARENA
#include "bpf/interp_loop.h"
#undef LOOP
#undef CHECK

#define LOOP  run_strict
#define CHECK BPF_CHECK_STRICT
#include "bpf/interp_loop.h"
#undef LOOP
#undef CHECK

int bpf_interpret(struct bpf_vm *vm, enum bpf_check check, uint64_t *r0)
{
    switch (check) {
    case BPF_CHECK_NONE:
        return run_unchecked(vm, check, r0);
    case BPF_CHECK_ARENA:
        return run_checked(vm, check, r0);
    default:
        return run_strict(vm, check, r0);
    }
}
