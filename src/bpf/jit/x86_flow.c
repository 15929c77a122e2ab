/* From instructions to operations in basic blocks: see x86.h. */
#include "bpf/jit/x86.h"

#include <errno.h>

#include "base/platform.h"

/* ---- lists of operations ---------------------------------------------------------------- */

struct jit_op *jit_op_add(struct jit_function *f, struct jit_block *block, struct jit_op op)
{
    if (f->op_count == f->op_capacity)
        return NULL;
    const uint32_t number = f->op_count++;
    op.prev = block->tail;
    op.next = 0;
    if (block->tail)
        f->ops[block->tail].next = number;
    else
        block->head = number;
    block->tail = number;
    f->ops[number] = op;
    return &f->ops[number];
}

struct jit_op *jit_op_add_before(struct jit_function *f, struct jit_block *block,
                                 struct jit_op *where, struct jit_op op)
{
    if (f->op_count == f->op_capacity)
        return NULL;
    const uint32_t number = f->op_count++;
    op.prev = where->prev;
    op.next = (uint32_t)(where - f->ops);
    if (where->prev)
        f->ops[where->prev].next = number;
    else
        block->head = number;
    where->prev = number;
    f->ops[number] = op;
    return &f->ops[number];
}

void jit_op_remove(struct jit_function *f, struct jit_block *block, struct jit_op *op)
{
    if (op->prev)
        f->ops[op->prev].next = op->next;
    else
        block->head = op->next;
    if (op->next)
        f->ops[op->next].prev = op->prev;
    else
        block->tail = op->prev;
    op->kind = JIT_NOP;
}

/* ---- what instructions mean ------------------------------------------------------------- */

static const struct jit_op nothing = {
    .dst = JIT_NONE, .src = JIT_NONE, .base = JIT_NONE, .index = JIT_NONE};

static struct jit_op decode_move(const struct bpf_insn *insn, struct jit_op op)
{
    if (BPF_SOURCE(insn->opcode) == BPF_K) {
        op.kind = JIT_IMM;
        op.src = JIT_NONE;
        op.imm = op.wide ? insn->imm : (int64_t)(uint32_t)insn->imm;
    } else {
        op.kind = insn->offset ? JIT_EXTEND : JIT_MOV;
        op.size = (uint8_t)(insn->offset / 8);
    }
    return op;
}

static struct jit_op decode_end(const struct bpf_insn *insn, struct jit_op op)
{
    const bool swap = op.wide || BPF_SOURCE(insn->opcode) == BPF_X;
    op.src = JIT_NONE;
    op.size = (uint8_t)(insn->imm / 8);
    op.wide = op.size == 8;
    if (swap) {
        op.kind = JIT_SWAP;
    } else if (op.size == 2) {
        op.kind = JIT_ALU;
        op.alu = BPF_AND;
        op.imm = 0xffff;
    } else if (op.size == 4) {
        op.kind = JIT_MOV;
        op.src = op.dst;
    }
    return op;
}

static struct jit_op decode_alu(const struct bpf_insn *insn, struct jit_op op)
{
    op.alu = BPF_OP(insn->opcode);
    op.dst = insn->dst;
    op.src = BPF_SOURCE(insn->opcode) == BPF_X ? insn->src : JIT_NONE;
    op.imm = insn->imm;
    op.wide = BPF_CLASS(insn->opcode) == BPF_ALU64;
    if (op.alu == BPF_MOV)
        return decode_move(insn, op);
    if (op.alu == BPF_END)
        return decode_end(insn, op);
    op.kind = JIT_ALU;
    op.sign = (op.alu == BPF_DIV || op.alu == BPF_MOD) && insn->offset;
    return op;
}

static struct jit_op decode_lddw(const struct jit_function *f, uint32_t i, struct jit_op op)
{
    const struct bpf_insn *insn = &f->prog->code.insns[i];
    const struct bpf_span *spans = f->prog->layout.spans;
    const uint64_t high = (uint64_t)(uint32_t)insn[1].imm;
    op.kind = JIT_IMM;
    op.dst = insn->dst;
    if (insn->src == BPF_LDDW_FUNCTION) {
        op.imm = (int64_t)(BPF_CODE_ADDRESS + bpf_code_target(&f->prog->code, i));
    } else if (insn->src == BPF_LDDW_GLOBAL) {
        const bool data = insn->imm == BPF_GLOBAL_DATA;
        op.imm = (int64_t)(spans[data ? BPF_SPAN_DATA : BPF_SPAN_RODATA].start + high);
    } else {
        op.imm = (int64_t)(high << 32 | (uint32_t)insn->imm);
    }
    return op;
}

static struct jit_op decode_memory(const struct bpf_insn *insn, struct jit_op op)
{
    op.size = (uint8_t)bpf_access_size(insn->opcode);
    op.disp = insn->offset;
    if (BPF_CLASS(insn->opcode) == BPF_LDX) {
        op.kind = JIT_LOAD;
        op.dst = insn->dst;
        op.base = insn->src;
        op.sign = BPF_MODE(insn->opcode) == BPF_MEMSX;
        op.wide = true;
    } else {
        const bool atomic =
            BPF_CLASS(insn->opcode) == BPF_STX && BPF_MODE(insn->opcode) == BPF_ATOMIC;
        op.kind = atomic ? JIT_ATOMIC : JIT_STORE;
        op.base = insn->dst;
        op.src = BPF_CLASS(insn->opcode) == BPF_STX ? insn->src : JIT_NONE;
        op.imm = insn->imm;
        op.wide = op.size == 8;
    }
    /* This function's frame is always there. */
    op.safe = op.base == BPF_FP && op.disp >= -BPF_FRAME_SIZE && op.disp + op.size <= 0 &&
              (op.kind != JIT_ATOMIC || op.disp % op.size == 0);
    return op;
}

static struct jit_op decode_call(const struct jit_function *f, uint32_t i, struct jit_op op)
{
    const struct bpf_insn *insn = &f->prog->code.insns[i];
    if (BPF_SOURCE(insn->opcode) == BPF_X) {
        op.kind = JIT_CALLX;
        op.dst = (uint8_t)bpf_callx_register(insn);
    } else if (insn->src == BPF_CALL_LOCAL) {
        op.kind = JIT_LOCAL;
        op.imm = bpf_code_target(&f->prog->code, i);
    } else {
        op.kind = JIT_HELPER;
        op.imm = (uint32_t)insn->imm;
    }
    return op;
}

static const uint8_t conditions[16] = {
    [BPF_JEQ >> 4] = CC_E,  [BPF_JNE >> 4] = CC_NE,  [BPF_JSET >> 4] = CC_NE,
    [BPF_JGT >> 4] = CC_A,  [BPF_JGE >> 4] = CC_AE,  [BPF_JLT >> 4] = CC_B,
    [BPF_JLE >> 4] = CC_BE, [BPF_JSGT >> 4] = CC_G,  [BPF_JSGE >> 4] = CC_GE,
    [BPF_JSLT >> 4] = CC_L, [BPF_JSLE >> 4] = CC_LE,
};

static struct jit_op decode_compare(const struct bpf_insn *insn, struct jit_op op)
{
    op.kind = BPF_OP(insn->opcode) == BPF_JSET ? JIT_TEST : JIT_COMPARE;
    op.dst = insn->dst;
    op.src = BPF_SOURCE(insn->opcode) == BPF_X ? insn->src : JIT_NONE;
    op.imm = insn->imm;
    op.wide = BPF_CLASS(insn->opcode) == BPF_JMP;
    return op;
}

/* ---- jumps ------------------------------------------------------------------------------ */

enum ending { ENDS_NOT, ENDS_EXIT, ENDS_JUMP, ENDS_BRANCH };

static enum ending ending(const struct bpf_insn *insn)
{
    const unsigned class = BPF_CLASS(insn->opcode);
    if (class != BPF_JMP && class != BPF_JMP32)
        return ENDS_NOT;
    switch (BPF_OP(insn->opcode)) {
    case BPF_CALL:
        return ENDS_NOT;
    case BPF_EXIT:
        return ENDS_EXIT;
    case BPF_JA:
        return ENDS_JUMP;
    default:
        return ENDS_BRANCH;
    }
}

static uint32_t jump_target(const struct bpf_insn *insn, uint32_t i)
{
    const bool far = insn->opcode == (BPF_JMP32 | BPF_JA);
    return i + 1 + (uint32_t)(far ? insn->imm : insn->offset);
}

static uint32_t insn_length(const struct bpf_insn *insn)
{
    return insn->opcode == BPF_LDDW ? 2 : 1;
}

/* ---- blocks ----------------------------------------------------------------------------- */

/* For each instruction of the function, and one past them: 1 at the start of a block; then the
 * number of the block that starts there. */
static uint32_t *find_blocks(struct jit_function *f)
{
    const struct bpf_insn *insns = f->prog->code.insns;
    const uint32_t start = f->info->start, count = f->info->count;
    uint32_t *block_at = base_alloc_array(count + 1, sizeof(*block_at));
    if (!block_at)
        return NULL;
    block_at[0] = 1;
    for (uint32_t i = start; i < start + count; i += insn_length(&insns[i])) {
        const enum ending e = ending(&insns[i]);
        if (e == ENDS_NOT)
            continue;
        block_at[i + 1 - start] = 1;
        if (e != ENDS_EXIT)
            block_at[jump_target(&insns[i], i) - start] = 1;
    }
    for (uint32_t i = 0; i < count; i++)
        if (block_at[i])
            block_at[i] = f->block_count++;
    return block_at;
}

static struct jit_edge edge_to(const struct jit_function *f, const uint32_t *block_at,
                               uint32_t from, uint32_t to)
{
    return (struct jit_edge){block_at[to - f->info->start], to <= from ? from - to + 1 : 0};
}

static void end_block(struct jit_function *f, struct jit_block *block, const uint32_t *block_at,
                      uint32_t i)
{
    const struct bpf_insn *insn = &f->prog->code.insns[i];
    struct jit_op op = nothing;
    block->last = i;
    op.insn = i;
    switch (ending(insn)) {
    case ENDS_EXIT:
        block->end = JIT_END_EXIT;
        return;
    case ENDS_JUMP:
        block->end = JIT_END_JUMP;
        block->next = edge_to(f, block_at, i, jump_target(insn, i));
        return;
    case ENDS_BRANCH:
        jit_op_add(f, block, decode_compare(insn, op));
        block->end = JIT_END_BRANCH;
        block->cc = conditions[BPF_OP(insn->opcode) >> 4];
        block->taken = edge_to(f, block_at, i, jump_target(insn, i));
        block->next = (struct jit_edge){block_at[i + 1 - f->info->start], 0};
        return;
    case ENDS_NOT:
        block->end = JIT_END_JUMP;
        block->next = (struct jit_edge){block_at[i + insn_length(insn) - f->info->start], 0};
        return;
    }
}

static void decode(struct jit_function *f, struct jit_block *block, uint32_t i)
{
    const struct bpf_insn *insn = &f->prog->code.insns[i];
    struct jit_op op = nothing;
    op.insn = i;
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
        op = decode_alu(insn, op);
        break;
    case BPF_LD:
        op = decode_lddw(f, i, op);
        break;
    case BPF_JMP:
    case BPF_JMP32:
        op = decode_call(f, i, op);
        break;
    default:
        op = decode_memory(insn, op);
        break;
    }
    if (op.kind != JIT_NOP)
        jit_op_add(f, block, op);
}

static void fill_blocks(struct jit_function *f, const uint32_t *block_at)
{
    const struct bpf_insn *insns = f->prog->code.insns;
    const uint32_t start = f->info->start, end = start + f->info->count;
    uint32_t number = 0;
    for (uint32_t i = start; i < end;) {
        struct jit_block *block = &f->blocks[number++];
        block->insn = i;
        for (;;) {
            const uint32_t following = i + insn_length(&insns[i]);
            const bool ends = ending(&insns[i]) != ENDS_NOT;
            if (!ends)
                decode(f, block, i);
            if (ends || following == end || block_at[following - start]) {
                end_block(f, block, block_at, i);
                i = following;
                break;
            }
            i = following;
        }
    }
}

/* ---- simpler edges ---------------------------------------------------------------------- */

/* Go past blocks that only jump on. Ticks are never added up: each jump back asks for its own. */
static void thread_edge(const struct jit_function *f, struct jit_edge *edge)
{
    for (unsigned n = 0; n < 8; n++) {
        const struct jit_block *b = &f->blocks[edge->block];
        if (b->head || b->end != JIT_END_JUMP || (edge->ticks && b->next.ticks))
            return;
        edge->block = b->next.block;
        edge->ticks += b->next.ticks;
    }
}

static void thread_edges(struct jit_function *f)
{
    for (uint32_t i = 0; i < f->block_count; i++) {
        struct jit_block *b = &f->blocks[i];
        if (b->end == JIT_END_EXIT)
            continue;
        thread_edge(f, &b->next);
        if (b->end == JIT_END_BRANCH)
            thread_edge(f, &b->taken);
    }
}

int jit_flow(struct jit_function *f)
{
    f->exit_live = JIT_BIT(0) | (f->prog->code.function_count > 1 ? JIT_ARGUMENTS : 0);
    uint32_t *block_at = find_blocks(f);
    if (!block_at)
        return -ENOMEM;
    f->op_capacity = 2 * f->info->count + 16;
    f->op_count = 1;
    f->ops = base_alloc_array(f->op_capacity, sizeof(*f->ops));
    f->blocks = base_alloc_array(f->block_count, sizeof(*f->blocks));
    if (f->ops && f->blocks) {
        fill_blocks(f, block_at);
        thread_edges(f);
    }
    base_free(block_at);
    return f->ops && f->blocks ? 0 : -ENOMEM;
}

void jit_function_fini(struct jit_function *f)
{
    base_free(f->ops);
    base_free(f->blocks);
}
