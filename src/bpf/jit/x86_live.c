/* Which registers are needed: see x86.h. */
#include "bpf/jit/x86.h"

static jit_mask bit_of(unsigned reg)
{
    return (jit_mask)(reg == JIT_NONE ? 0 : 1u << reg);
}

static jit_mask address_reads(const struct jit_op *op)
{
    return bit_of(op->base) | bit_of(op->index) | (op->based ? JIT_BIT(JIT_T1) : 0);
}

jit_mask jit_reads(const struct jit_op *op)
{
    switch ((enum jit_kind)op->kind) {
    case JIT_NOP:
    case JIT_IMM:
        return 0;
    case JIT_MOV:
    case JIT_EXTEND:
    case JIT_TRANSLATE:
        return bit_of(op->src);
    case JIT_ALU:
        return bit_of(op->dst) | bit_of(op->src);
    case JIT_SWAP:
        return bit_of(op->dst);
    case JIT_LEA:
    case JIT_LOAD:
        return address_reads(op);
    case JIT_STORE:
    case JIT_UPDATE:
        return address_reads(op) | bit_of(op->src);
    case JIT_ATOMIC:
        return address_reads(op) | bit_of(op->src) | (op->imm == BPF_CMPXCHG ? JIT_BIT(0) : 0);
    case JIT_HELPER:
        return JIT_ARGUMENTS;
    case JIT_LOCAL:
    case JIT_CALLX:
        return JIT_PROGRAM; /* a function can look at all that its caller has */
    case JIT_COMPARE:
    case JIT_TEST:
        return address_reads(op) | bit_of(op->dst) | bit_of(op->src);
    case JIT_SET:
        return JIT_BIT(JIT_FLAGS);
    case JIT_SET8:
        return JIT_BIT(JIT_FLAGS) | bit_of(op->dst);
    case JIT_CMOV:
        return JIT_BIT(JIT_FLAGS) | bit_of(op->dst) | bit_of(op->src);
    case JIT_TICKS_IF:
        return JIT_BIT(JIT_FLAGS);
    case JIT_TICKS_BY:
        return bit_of(op->src);
    }
    return JIT_PROGRAM;
}

jit_mask jit_writes(const struct jit_op *op)
{
    switch ((enum jit_kind)op->kind) {
    case JIT_NOP:
    case JIT_TICKS_BY:
        return 0;
    case JIT_MOV:
    case JIT_IMM:
    case JIT_LEA:
    case JIT_TRANSLATE:
    case JIT_LOAD:
    case JIT_SET:
    case JIT_SET8:
    case JIT_CMOV:
    case JIT_EXTEND:
    case JIT_ALU:
    case JIT_SWAP:
        return bit_of(op->dst);
    case JIT_STORE:
    case JIT_UPDATE:
        return 0;
    case JIT_COMPARE:
    case JIT_TEST:
        return JIT_BIT(JIT_FLAGS);
    case JIT_ATOMIC:
        if (op->imm == BPF_CMPXCHG)
            return JIT_BIT(0);
        return op->imm & BPF_FETCH ? bit_of(op->src) : 0;
    case JIT_HELPER:
    case JIT_LOCAL:
    case JIT_CALLX:
        return JIT_BIT(0) | JIT_ARGUMENTS;
    case JIT_TICKS_IF:
        return JIT_BIT(JIT_T0) | JIT_BIT(JIT_T1);
    }
    return JIT_PROGRAM;
}

bool jit_pure(const struct jit_op *op)
{
    switch ((enum jit_kind)op->kind) {
    case JIT_MOV:
    case JIT_IMM:
    case JIT_EXTEND:
    case JIT_ALU:
    case JIT_SWAP:
    case JIT_LEA:
    case JIT_TRANSLATE:
    case JIT_SET:
    case JIT_SET8:
    case JIT_CMOV:
        return true;
    default:
        return false;
    }
}

/* A computation whose result nobody needs, needs nothing. */
static jit_mask before_op(const struct jit_op *op, jit_mask live)
{
    if (jit_pure(op) && !(jit_writes(op) & live))
        return live;
    return (jit_mask)((live & ~jit_writes(op)) | jit_reads(op));
}

/* What is needed before a block, from what is needed after it. */
static jit_mask before(const struct jit_function *f, const struct jit_block *block, jit_mask live)
{
    for (const struct jit_op *op = jit_tail(f, block); op; op = jit_op_prev(f, op))
        live = before_op(op, live);
    return live & (JIT_PROGRAM | JIT_BIT(JIT_T1));
}

static jit_mask after(const struct jit_function *f, const struct jit_block *block)
{
    if (block->end == JIT_END_EXIT)
        return f->exit_live;
    jit_mask live = f->blocks[block->next.block].live_in;
    if (block->end == JIT_END_BRANCH)
        live |= f->blocks[block->taken.block].live_in;
    return live;
}

/* Backwards until nothing changes; masks only grow. Code that would take many rounds is rare: for
 * it, everything is needed everywhere. */
void jit_live(struct jit_function *f)
{
    for (uint32_t i = 0; i < f->block_count; i++)
        f->blocks[i].live_in = 0;
    bool changed = true;
    for (unsigned round = 0; changed && round < 20; round++) {
        changed = false;
        for (uint32_t i = f->block_count; i-- > 0;) {
            struct jit_block *block = &f->blocks[i];
            block->live_out = after(f, block);
            const jit_mask live = before(f, block, block->live_out);
            changed |= live != block->live_in;
            block->live_in = live;
        }
    }
    for (uint32_t i = 0; changed && i < f->block_count; i++)
        f->blocks[i].live_in = f->blocks[i].live_out = JIT_PROGRAM | JIT_BIT(JIT_T1);
}

void jit_live_ops(struct jit_function *f, struct jit_block *block)
{
    jit_mask live = block->live_out;
    if (block->end == JIT_END_BRANCH)
        live |= JIT_BIT(JIT_FLAGS);
    for (struct jit_op *op = jit_tail(f, block); op; op = jit_op_prev(f, op)) {
        op->live = live;
        live = before_op(op, live);
    }
}
