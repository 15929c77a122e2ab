/*
 * An address that seldom changes is translated seldom. See x86.h.
 *
 * Three numbers make the place of `array[i]` in the process: the arena, the array, and i; the
 * processor adds only two without an instruction more. Where no operation of a function needs the
 * scratch register T1, it holds the sum of the arena and of one register, computed anew when that
 * changes. Which one: what is saved in loops counts more, and so does what is computed there.
 */
#include "bpf/jit/x86.h"

#include <errno.h>

#include "base/platform.h"

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

struct base {
    int64_t *weights; /* of blocks */
    jit_mask *wanted; /* at the start of blocks: registers whose translation will be used */
    int64_t savings[BPF_REGISTERS];
    uint32_t translations[BPF_REGISTERS];
};

/* ---- choosing ---------------------------------------------------------------------------- */

/* How much an operation in each block counts: ten times as much in a loop, that is between
 * a block and one that jumps back to it. weights has room for one more than there are blocks. */
static void weigh(const struct jit_function *f, int64_t *weights)
{
    for (uint32_t i = 0; i < f->block_count; i++) {
        const struct jit_block *b = &f->blocks[i];
        const struct jit_edge edges[] = {b->next, b->taken};
        const unsigned count = b->end == JIT_END_EXIT ? 0 : b->end == JIT_END_JUMP ? 1 : 2;
        for (unsigned n = 0; n < count; n++)
            if (edges[n].block <= i) {
                weights[edges[n].block]++;
                weights[i + 1]--;
            }
    }
    int64_t depth = 0;
    for (uint32_t i = 0; i < f->block_count; i++) {
        depth += weights[i];
        weights[i] = depth == 0 ? 1 : depth == 1 ? 10 : 100;
    }
}

/* The registers that may be the base of an access. */
static jit_mask bases(const struct jit_op *op)
{
    if (!has_two(op))
        return 0;
    return (jit_mask)(JIT_BIT(op->base) | (op->scale ? 0 : JIT_BIT(op->index)));
}

/* Registers whose translation is needed before an operation, from those after it. */
static jit_mask wanted_before(const struct jit_op *op, jit_mask wanted)
{
    return (jit_mask)((wanted & ~jit_writes(op)) | bases(op));
}

static jit_mask wanted_after(const struct jit_block *b, const jit_mask *wanted)
{
    if (b->end == JIT_END_EXIT)
        return 0;
    return wanted[b->next.block] | (b->end == JIT_END_BRANCH ? wanted[b->taken.block] : 0);
}

/* For the start of each block; false: it would take long. */
static bool find_wanted(const struct jit_function *f, jit_mask *wanted)
{
    for (unsigned round = 0; round < 20; round++) {
        bool changed = false;
        for (uint32_t i = f->block_count; i-- > 0;) {
            const struct jit_block *b = &f->blocks[i];
            jit_mask mask = wanted_after(b, wanted);
            for (const struct jit_op *op = jit_tail(f, b); op; op = jit_op_prev(f, op))
                mask = wanted_before(op, mask);
            changed |= mask != wanted[i];
            wanted[i] = mask;
        }
        if (!changed)
            return true;
    }
    return false;
}

/* What each register would save, and how many translations it takes. */
static void count_savings(const struct jit_function *f, struct base *base)
{
    for (uint32_t i = 0; i < f->block_count; i++) {
        const struct jit_block *b = &f->blocks[i];
        jit_mask mask = wanted_after(b, base->wanted);
        for (const struct jit_op *op = jit_tail(f, b); op; op = jit_op_prev(f, op)) {
            for (unsigned r = 0; r < BPF_REGISTERS; r++) {
                if (bases(op) & JIT_BIT(r))
                    base->savings[r] += base->weights[i];
                if (jit_writes(op) & mask & JIT_BIT(r)) {
                    base->savings[r] -= base->weights[i];
                    base->translations[r]++;
                }
            }
            mask = wanted_before(op, mask);
        }
    }
}

/* And whether there is anything to do. */
static bool is_scratch_free(const struct jit_function *f, bool shiftx)
{
    bool any = false;
    for (uint32_t i = 0; i < f->block_count; i++)
        for (const struct jit_op *op = jit_head(f, &f->blocks[i]); op; op = jit_op_next(f, op)) {
            if (takes_scratch(op, shiftx))
                return false;
            any |= has_two(op);
        }
    return any;
}

/* JIT_NONE: none saves anything. */
static unsigned choose(const struct jit_function *f, const struct base *base)
{
    const uint32_t room = f->op_capacity - f->op_count;
    unsigned best = JIT_NONE;
    int64_t most = 1; /* that is what the first one takes */
    for (unsigned r = 0; r < BPF_REGISTERS; r++)
        if (base->savings[r] > most && base->translations[r] + 1 < room) {
            most = base->savings[r];
            best = r;
        }
    return best;
}

/* ---- doing it ---------------------------------------------------------------------------- */

static void translate_before(struct jit_function *f, struct jit_block *block, struct jit_op *next,
                             unsigned reg)
{
    const struct jit_op op = {.kind = JIT_TRANSLATE,
                              .dst = JIT_T1,
                              .src = (uint8_t)reg,
                              .base = JIT_NONE,
                              .index = JIT_NONE};
    if (next)
        jit_op_add_before(f, block, next, op);
    else
        jit_op_add(f, block, op);
}

static void use_base(struct jit_op *op, unsigned reg)
{
    if (op->base != reg) {
        op->index = op->base;
        op->base = (uint8_t)reg;
    }
    op->based = true;
}

/* At the start, and behind each change of reg if the translation is used before the next one. */
static void translate(struct jit_function *f, const jit_mask *wanted, unsigned reg)
{
    for (uint32_t i = 0; i < f->block_count; i++) {
        struct jit_block *b = &f->blocks[i];
        jit_mask mask = wanted_after(b, wanted);
        for (struct jit_op *op = jit_tail(f, b); op; op = jit_op_prev(f, op)) {
            if (bases(op) & JIT_BIT(reg))
                use_base(op, reg);
            if (jit_writes(op) & mask & JIT_BIT(reg))
                translate_before(f, b, jit_op_next(f, op), reg);
            mask = wanted_before(op, mask);
        }
    }
    translate_before(f, &f->blocks[0], jit_head(f, &f->blocks[0]), reg);
    jit_live(f);
}

int jit_base(struct jit_function *f, bool shiftx)
{
    if (!is_scratch_free(f, shiftx))
        return 0;
    struct base base = {
        .weights = base_alloc_array(f->block_count + 1, sizeof(*base.weights)),
        .wanted = base_alloc_array(f->block_count, sizeof(*base.wanted)),
    };
    const bool memory = base.weights && base.wanted;
    if (memory && find_wanted(f, base.wanted)) {
        weigh(f, base.weights);
        count_savings(f, &base);
        const unsigned reg = choose(f, &base);
        if (reg != JIT_NONE)
            translate(f, base.wanted, reg);
    }
    base_free(base.weights);
    base_free(base.wanted);
    return memory ? 0 : -ENOMEM;
}
