/*
 * The interpreter. One function, compiled three times: without checks for verified programs, with
 * one comparison for each access for checked ones, and strict for tests.
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
    unsigned depth; /* calls that have not come back */
    struct frame frames[BPF_MAX_DEPTH];
};

/* Where an access of the program goes in the process; 0 if it may not. */
static inline __attribute__((always_inline)) uintptr_t reach(struct bpf_vm *vm,
                                                             enum bpf_check check, uint64_t address,
                                                             unsigned size, bool write)
{
    const struct bpf_layout *l = &vm->prog->layout;
    const uint64_t start = write ? l->write_start : BPF_ADDRESS;
    if (check == BPF_CHECK_STRICT)
        return (uintptr_t)bpf_vm_memory(vm, address, size, write);
    if (check == BPF_CHECK_ARENA && address - start > l->end - start - size)
        return 0;
    return (uintptr_t)vm->memory + (address - BPF_ADDRESS);
}

/* ---- calls ------------------------------------------------------------------------------ */

static void call_helper(struct bpf_vm *vm, uint64_t *r, const struct bpf_helper *helper)
{
    r[0] = helper->function(vm, r[1], r[2], r[3], r[4], r[5]);
    memset(&r[1], 0, 5 * sizeof(r[0]));
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
    return first - 1;
}

static const struct bpf_op *leave(struct machine *m)
{
    const struct frame *f = &m->frames[--m->depth];
    memcpy(&m->r[6], f->saved, sizeof(f->saved));
    m->r[BPF_FP] += BPF_FRAME_SIZE;
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
    call_helper(vm, m->r, helper);
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

#define DST r[op->dst]
#define SRC r[op->src]
#define FAIL(code)                                                                                 \
    do {                                                                                           \
        error = (code);                                                                            \
        goto fail;                                                                                 \
    } while (0)

/* The four forms of an operation: a and b are the operands, in 64 or 32 bits; sa and sb the same
 * with a sign. */
#define FORM(name, bits, b_value, ...)                                                             \
    case OP_##name: {                                                                              \
        const uint##bits##_t a = (uint##bits##_t)DST, b = (uint##bits##_t)(b_value);               \
        const int##bits##_t sa = (int##bits##_t)a, sb = (int##bits##_t)b;                          \
        (void)a, (void)b, (void)sa, (void)sb;                                                      \
        __VA_ARGS__;                                                                               \
        break;                                                                                     \
    }
#define FORMS(name, expression64, expression32)                                                    \
    FORM(name##64_K, 64, op->imm, DST = (uint64_t)(expression64))                                  \
    FORM(name##64_X, 64, SRC, DST = (uint64_t)(expression64))                                      \
    FORM(name##32_K, 32, op->imm, DST = (uint32_t)(expression32))                                  \
    FORM(name##32_X, 32, SRC, DST = (uint32_t)(expression32))
#define BINARY(name, expression) FORMS(name, expression, expression)
#define COMPARE(name, expression)                                                                  \
    FORM(name##64_K, 64, op->imm, if (expression) goto jump)                                       \
    FORM(name##64_X, 64, SRC, if (expression) goto jump)                                           \
    FORM(name##32_K, 32, op->imm, if (expression) goto jump)                                       \
    FORM(name##32_X, 32, SRC, if (expression) goto jump)

#define REACH(reg, size, write)                                                                    \
    const uintptr_t p = reach(vm, check, (reg) + (uint64_t)(int64_t)op->offset, size, write);      \
    if (check != BPF_CHECK_NONE && __builtin_expect(!p, 0))                                        \
    FAIL(-EFAULT)
#define LOAD(name, type, wide)                                                                     \
    case OP_##name: {                                                                              \
        type value;                                                                                \
        REACH(SRC, sizeof(value), false);                                                          \
        memcpy(&value, (const void *)p, sizeof(value));                                            \
        DST = (uint64_t)(wide)value;                                                               \
        break;                                                                                     \
    }
#define STORE(name, type, from)                                                                    \
    case OP_##name: {                                                                              \
        const type value = (type)(from);                                                           \
        REACH(DST, sizeof(value), true);                                                           \
        memcpy((void *)p, &value, sizeof(value));                                                  \
        break;                                                                                     \
    }
#define MEMORY(bits)                                                                               \
    LOAD(LOAD##bits, uint##bits##_t, uint64_t)                                                     \
    STORE(STORE##bits##_K, uint##bits##_t, op->imm)                                                \
    STORE(STORE##bits##_X, uint##bits##_t, SRC)

#define ATOMIC_FORM(name, bits, ...)                                                               \
    case OP_ATOMIC_##name##bits: {                                                                 \
        REACH(DST, bits / 8, true);                                                                \
        uint##bits##_t *word = (uint##bits##_t *)p;                                                \
        const uint##bits##_t value = (uint##bits##_t)SRC;                                          \
        if (check != BPF_CHECK_NONE && p % (bits / 8) != 0)                                        \
            FAIL(-EFAULT);                                                                         \
        __VA_ARGS__;                                                                               \
        break;                                                                                     \
    }
#define ATOMIC(name, ...) ATOMIC_FORM(name, 64, __VA_ARGS__) ATOMIC_FORM(name, 32, __VA_ARGS__)
#define ATOMIC_SWAP(bits)                                                                          \
    ATOMIC_FORM(                                                                                   \
        CMPXCHG, bits, uint##bits##_t old = (uint##bits##_t)r[0];                                  \
        __atomic_compare_exchange_n(word, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        r[0] = old)

static inline __attribute__((always_inline)) int run(struct bpf_vm *vm, enum bpf_check check,
                                                     uint64_t *r0)
{
    const struct bpf_prog *prog = vm->prog;
    const struct bpf_span *stack = &prog->layout.spans[BPF_SPAN_STACK];
    const struct bpf_op *op = prog->ops + prog->entry, *next;
    struct machine m;
    uint64_t *r = m.r;
    int error = 0;

    memset(r, 0, sizeof(m.r));
    m.depth = 0;
    for (unsigned i = 1; i <= 5; i++)
        r[i] = bpf_prog_entry_value(prog, i);
    r[BPF_FP] = stack->start + stack->size;

    for (;; op++) {
        switch ((enum bpf_op_code)op->code) {
            BINARY(ADD, a + b)
            BINARY(SUB, a - b)
            BINARY(MUL, a * b)
            BINARY(DIV, b ? a / b : 0)
            FORMS(SDIV, sdiv64(a, b), sdiv32(a, b))
            BINARY(OR, a | b)
            BINARY(AND, a & b)
            FORMS(LSH, a << (b & 63), a << (b & 31))
            FORMS(RSH, a >> (b & 63), a >> (b & 31))
            BINARY(MOD, b ? a % b : a)
            FORMS(SMOD, smod64(a, b), smod32(a, b))
            BINARY(XOR, a ^ b)
            BINARY(MOV, b)
            FORMS(ARSH, sa >> (b & 63), sa >> (b & 31))

            COMPARE(JEQ, a == b)
            COMPARE(JGT, a > b)
            COMPARE(JGE, a >= b)
            COMPARE(JSET, (a & b) != 0)
            COMPARE(JNE, a != b)
            COMPARE(JSGT, sa > sb)
            COMPARE(JSGE, sa >= sb)
            COMPARE(JLT, a < b)
            COMPARE(JLE, a <= b)
            COMPARE(JSLT, sa < sb)
            COMPARE(JSLE, sa <= sb)

            MEMORY(8)
            MEMORY(16)
            MEMORY(32)
            MEMORY(64)
            LOAD(LOADS8, int8_t, int64_t)
            LOAD(LOADS16, int16_t, int64_t)
            LOAD(LOADS32, int32_t, int64_t)

            ATOMIC(ADD, __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(OR, __atomic_fetch_or(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(AND, __atomic_fetch_and(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(XOR, __atomic_fetch_xor(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(FETCH_ADD, SRC = __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(FETCH_OR, SRC = __atomic_fetch_or(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(FETCH_AND, SRC = __atomic_fetch_and(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(FETCH_XOR, SRC = __atomic_fetch_xor(word, value, __ATOMIC_SEQ_CST))
            ATOMIC(XCHG, SRC = __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST))
            ATOMIC_SWAP(64)
            ATOMIC_SWAP(32)

        case OP_NEG64:
            DST = -DST;
            break;
        case OP_NEG32:
            DST = -(uint32_t)DST;
            break;
        case OP_SIGN8_64:
            DST = (uint64_t)(int8_t)SRC;
            break;
        case OP_SIGN16_64:
            DST = (uint64_t)(int16_t)SRC;
            break;
        case OP_SIGN32_64:
            DST = (uint64_t)(int32_t)SRC;
            break;
        case OP_SIGN8_32:
            DST = (uint32_t)(int8_t)SRC;
            break;
        case OP_SIGN16_32:
            DST = (uint32_t)(int16_t)SRC;
            break;
        case OP_ZERO16:
            DST = (uint16_t)DST;
            break;
        case OP_ZERO32:
            DST = (uint32_t)DST;
            break;
        case OP_SWAP16:
            DST = __builtin_bswap16((uint16_t)DST);
            break;
        case OP_SWAP32:
            DST = __builtin_bswap32((uint32_t)DST);
            break;
        case OP_SWAP64:
            DST = __builtin_bswap64(DST);
            break;
        case OP_NOTHING:
            break;
        case OP_LDDW:
            DST = op->imm;
            op++;
            break;

        case OP_CALL_HELPER:
            call_helper(vm, r, &prog->environment->helpers[op->imm]);
            if (vm->error < 0)
                FAIL(vm->error);
            break;
        case OP_CALL_NOTHING:
            FAIL(-EINVAL);
        case OP_CALL_LOCAL:
            next = enter(vm, &m, op, op + op->offset, op->imm, &error);
            if (!next)
                goto fail;
            op = next;
            break;
        case OP_CALL_REGISTER:
            next = call_register(vm, &m, op, &error);
            if (!next)
                goto fail;
            op = next;
            break;
        case OP_EXIT:
            if (m.depth == 0) {
                *r0 = r[0];
                return 0;
            }
            op = leave(&m);
            break;
        case OP_JUMP:
            goto jump;
        }
        continue;

    jump:
        if (op->offset <= 0) {
            vm->ticks += op->offset - 1;
            if (__builtin_expect(vm->ticks < 0, 0) && (error = bpf_vm_tick(vm)) < 0)
                goto fail;
        }
        op += op->offset - 1;
    }

fail:
    vm->fault = (uint32_t)(op - prog->ops);
    return error;
}

int bpf_interpret(struct bpf_vm *vm, enum bpf_check check, uint64_t *r0)
{
    switch (check) {
    case BPF_CHECK_NONE:
        return run(vm, BPF_CHECK_NONE, r0);
    case BPF_CHECK_ARENA:
        return run(vm, BPF_CHECK_ARENA, r0);
    default:
        return run(vm, BPF_CHECK_STRICT, r0);
    }
}
