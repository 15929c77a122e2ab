/*
 * An address that never changes is translated once. See jit_x86.h.
 *
 * Three numbers make the place of `array[i]` in the process: the arena, the array, and i; the
 * processor adds only two without an instruction more. Where no operation of a function needs the
 * scratch register T1, it holds the sum of the arena and of one register that the function never
 * changes: an argument, or the frame pointer.
 */
#include "bpf/jit_x86.h"

/* Whether the code of an operation takes T1. */
static bool takes_scratch(const struct jit_op *op, bool shiftx)
{
    if ((jit_reads(op) | jit_writes(op)) & JIT_BIT(JIT_T1))
        return true;
    switch ((enum jit_kind)op->kind) {
    case JIT_ATOMIC:
    case JIT_HELPER:
    case JIT_LOCAL:
    case JIT_CALLX:
        return true;
    case JIT_ALU:
        switch ((enum bpf_alu)op->alu) {
        case BPF_DIV:
        case BPF_MOD:
            return true;
        case BPF_LSH:
        case BPF_RSH:
        case BPF_ARSH:
            return op->src != JIT_NONE && !shiftx;
        default:
            return false;
        }
    default:
        return false;
    }
}

static bool has_two(const struct jit_op *op)
{
    const bool access = op->kind == JIT_LOAD || op->kind == JIT_STORE || op->kind == JIT_UPDATE ||
                        (op->kind == JIT_COMPARE && op->size);
    return access && op->base != JIT_NONE && op->index != JIT_NONE;
}

void jit_base(struct jit_function *f, bool shiftx)
{
    unsigned uses[JIT_REGISTERS] = {0}, most = 0;
    jit_mask written = 0;
    f->base = JIT_NONE;
    for (uint32_t i = 0; i < f->block_count; i++)
        for (const struct jit_op *op = jit_head(f, &f->blocks[i]); op; op = jit_op_next(f, op)) {
            if (takes_scratch(op, shiftx))
                return;
            written |= jit_writes(op);
            if (!has_two(op))
                continue;
            uses[op->base]++;
            uses[op->index] += !op->scale;
        }
    for (unsigned r = 0; r < BPF_REGISTERS; r++)
        if (!(written & JIT_BIT(r)) && uses[r] > most) {
            most = uses[r];
            f->base = (uint8_t)r;
        }
}
