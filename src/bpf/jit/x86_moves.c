/*
 * Short branches become conditional moves. See x86.h.
 *
 *              if cc goto T                     operations of B, on scratch registers
 *         B:   few simple operations     ->     compare
 *              goto T                           if not cc, move their results
 *         T:                                    goto T
 *
 * Programs that look at data have branches that go either way, and a processor that guesses wrong
 * loses more than a handful of operations take. Compilers have left as branches, for this machine,
 * what has no other form in it.
 *
 * The two ways to T may differ in ticks (jumps back): the difference is added under the condition.
 */
#include "bpf/jit/x86.h"

enum { MAX_OPS = 4, MAX_RESULTS = 2, WINDOW = 12 };

/* One branch, and what becomes of it. */
struct move {
    struct jit_function *f;
    struct jit_block *block; /* that ends with the branch */
    const struct jit_block *side;
    uint32_t side_number;
    struct jit_edge away, join; /* from block to T, and from side to T */
    unsigned cc;                /* under which the operations of side count */
    jit_mask results;           /* registers that side changes and T needs */
    jit_mask written;           /* all that side changes */
};

static bool is_cheap(const struct jit_op *op)
{
    switch ((enum jit_kind)op->kind) {
    case JIT_MOV:
    case JIT_IMM:
    case JIT_EXTEND:
        return true;
    case JIT_ALU:
        switch ((enum bpf_alu)op->alu) {
        case BPF_MUL:
        case BPF_DIV:
        case BPF_MOD:
            return false;
        case BPF_LSH:
        case BPF_RSH:
        case BPF_ARSH:
            return op->src == JIT_NONE; /* a count in a register may need scratch registers */
        default:
            return true;
        }
    default:
        return false;
    }
}

/* Whether side can be done before the branch: sets results and written. */
static bool examine(struct move *m)
{
    const struct jit_function *f = m->f;
    const jit_mask needed = f->blocks[m->join.block].live_in;
    unsigned ops = 0, results = 0;
    m->results = m->written = 0;
    for (const struct jit_op *op = jit_head(f, m->side); op; op = jit_op_next(f, op)) {
        if (++ops > MAX_OPS || !is_cheap(op))
            return false;
        m->written |= jit_writes(op);
    }
    const struct jit_op *compare = jit_tail(f, m->block);
    m->results = m->written & needed;
    /* What the comparison reads must be as it was. */
    m->results |= m->written & jit_reads(compare);
    for (unsigned r = 0; r < JIT_REGISTERS; r++)
        results += m->results >> r & 1;
    return results <= MAX_RESULTS && f->op_count + 2 * ops + 8 <= f->op_capacity;
}

static struct jit_op simple(unsigned kind, unsigned dst, unsigned src, uint32_t insn)
{
    return (struct jit_op){.kind = (uint8_t)kind,
                           .dst = (uint8_t)dst,
                           .src = (uint8_t)src,
                           .base = JIT_NONE,
                           .index = JIT_NONE,
                           .wide = true,
                           .insn = insn};
}

/* ---- one number or another --------------------------------------------------------------- */

/* side is `r = 1` or 0, and block has set r to the other: r is the condition. */
static bool make_condition(struct move *m)
{
    struct jit_function *f = m->f;
    const struct jit_op *op = jit_head(f, m->side);
    if (!op || op->next || op->kind != JIT_IMM || (op->imm != 0 && op->imm != 1))
        return false;
    struct jit_op *compare = jit_tail(f, m->block);
    struct jit_op *before = jit_op_prev(f, compare);
    const jit_mask bit = JIT_BIT(op->dst);
    for (unsigned n = 0; before && n < WINDOW && !((jit_writes(before) | jit_reads(before)) & bit);
         n++)
        before = jit_op_prev(f, before);
    if (!before || before->kind != JIT_IMM || before->dst != op->dst || before->imm != !op->imm ||
        jit_reads(compare) & bit)
        return false;
    jit_op_remove(f, m->block, before);
    struct jit_op set = simple(JIT_SET8, op->dst, JIT_NONE, compare->insn);
    set.cc = (uint8_t)(op->imm ? m->cc : m->cc ^ 1);
    jit_op_add_before(f, m->block, compare, simple(JIT_IMM, op->dst, JIT_NONE, compare->insn));
    jit_op_add(f, m->block, set);
    return true;
}

/* ---- the general case -------------------------------------------------------------------- */

/* Do side's operations before the comparison; results go to scratch registers. */
static void do_early(struct move *m, uint8_t names[JIT_REGISTERS])
{
    struct jit_function *f = m->f;
    struct jit_op *compare = jit_tail(f, m->block);
    uint8_t next = JIT_T0;
    for (uint8_t r = 0; r < JIT_REGISTERS; r++)
        names[r] = r;
    for (const struct jit_op *op = jit_head(f, m->side); op; op = jit_op_next(f, op)) {
        struct jit_op copy = *op;
        if (op->src != JIT_NONE)
            copy.src = names[op->src];
        if (m->results & JIT_BIT(op->dst) && names[op->dst] == op->dst) {
            names[op->dst] = next++;
            if (op->kind == JIT_ALU) /* it also reads dst */
                jit_op_add_before(f, m->block, compare,
                                  simple(JIT_MOV, names[op->dst], op->dst, op->insn));
        }
        copy.dst = names[op->dst];
        jit_op_add_before(f, m->block, compare, copy);
    }
}

/* side is `r = another register`, only that: nothing to do early. */
static bool move_register(struct move *m)
{
    const struct jit_op *op = jit_head(m->f, m->side);
    if (!op || op->next || op->kind != JIT_MOV || !op->wide)
        return false;
    struct jit_op move = simple(JIT_CMOV, op->dst, op->src, op->insn);
    move.cc = (uint8_t)m->cc;
    jit_op_add(m->f, m->block, move);
    return true;
}

static void move_results(struct move *m, const uint8_t names[JIT_REGISTERS])
{
    const uint32_t insn = jit_tail(m->f, m->block)->insn;
    for (unsigned r = 0; r < JIT_REGISTERS; r++) {
        if (!(m->results & JIT_BIT(r)))
            continue;
        struct jit_op move = simple(JIT_CMOV, r, names[r], insn);
        move.cc = (uint8_t)m->cc;
        jit_op_add(m->f, m->block, move);
    }
}

/* ---- ticks ------------------------------------------------------------------------------- */

static void even_ticks(struct move *m)
{
    const struct jit_op *last = jit_tail(m->f, m->block);
    const int64_t saved = (int64_t)m->join.ticks - (int64_t)m->away.ticks;
    if (!saved)
        return;
    struct jit_op op = simple(JIT_TICKS_IF, JIT_NONE, JIT_NONE, last->insn);
    op.cc = (uint8_t)(m->cc ^ 1);
    op.imm = saved;
    /* The condition is there as a number, and the factor one that an address can have. */
    if (last->kind == JIT_SET8 && last->cc == op.cc && saved > 0 && saved <= 8 &&
        !(saved & (saved - 1))) {
        op.kind = JIT_TICKS_BY;
        op.src = last->dst;
        op.scale = (uint8_t)__builtin_ctzll((uint64_t)saved);
    }
    jit_op_add(m->f, m->block, op);
}

/* ---- finding them ------------------------------------------------------------------------ */

/* The branch has become straight. */
static void finish(struct move *m)
{
    struct jit_function *f = m->f;
    even_ticks(m);
    m->block->end = JIT_END_JUMP;
    m->block->next = m->join;
    f->blocks[m->side_number].from = 0;
    f->blocks[m->join.block].from--; /* two ways have become one */
}

static bool try(struct jit_function *f, struct jit_block *block, struct jit_edge to_side,
                struct jit_edge away, unsigned cc)
{
    const struct jit_block *side = &f->blocks[to_side.block];
    struct move m = {.f = f,
                     .block = block,
                     .side = side,
                     .side_number = to_side.block,
                     .away = away,
                     .join = side->next,
                     .cc = cc};
    if (to_side.ticks || side->from != 1 || side->end != JIT_END_JUMP ||
        side->next.block != away.block || side == block || !examine(&m))
        return false;
    if (!make_condition(&m) && !move_register(&m)) {
        uint8_t names[JIT_REGISTERS];
        do_early(&m, names);
        move_results(&m, names);
    }
    finish(&m);
    return true;
}

/* A block that only one other goes on to becomes its end. */
static bool merge(struct jit_function *f, uint32_t number)
{
    struct jit_block *block = &f->blocks[number], *next = &f->blocks[block->next.block];
    if (block->end != JIT_END_JUMP || block->next.ticks || next->from != 1 || next == block ||
        block->next.block == 0)
        return false;
    if (next->head) {
        f->ops[next->head].prev = block->tail;
        if (block->tail)
            f->ops[block->tail].next = next->head;
        else
            block->head = next->head;
        block->tail = next->tail;
    }
    next->head = next->tail = 0;
    next->from = 0;
    block->end = next->end;
    block->cc = next->cc;
    block->last = next->last;
    block->taken = next->taken;
    block->next = next->next;
    block->live_out = next->live_out;
    return true;
}

/* A block that nobody goes to goes nowhere; perhaps those that come next are the same. */
static void forget(struct jit_function *f, uint32_t number)
{
    struct jit_block *b = &f->blocks[number];
    if (b->from || b->end == JIT_END_EXIT)
        return;
    if (b->end == JIT_END_BRANCH)
        f->blocks[b->taken.block].from--;
    f->blocks[b->next.block].from--;
    b->end = JIT_END_EXIT;
}

static void count_edges(struct jit_function *f)
{
    for (uint32_t i = 0; i < f->block_count; i++)
        f->blocks[i].from = 0;
    f->blocks[0].from = 1;
    for (uint32_t i = 0; i < f->block_count; i++) {
        const struct jit_block *b = &f->blocks[i];
        if (b->end != JIT_END_EXIT)
            f->blocks[b->next.block].from++;
        if (b->end == JIT_END_BRANCH)
            f->blocks[b->taken.block].from++;
    }
    for (uint32_t i = 0; i < f->block_count; i++)
        forget(f, i);
}

/* From the last block to the first, for inner ones are behind outer ones: what they have become
 * may be a side itself. */
void jit_moves(struct jit_function *f)
{
    count_edges(f);
    for (uint32_t i = f->block_count; i-- > 0;) {
        struct jit_block *b = &f->blocks[i];
        bool changed = b->from;
        while (changed) {
            changed = merge(f, i);
            if (b->end == JIT_END_BRANCH)
                changed |=
                    try(f, b, b->next, b->taken, b->cc ^ 1) || try(f, b, b->taken, b->next, b->cc);
        }
    }
}
