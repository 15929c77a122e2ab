/*
 * Functions to machine code: the order of blocks, jumps between them, and the rare things behind.
 * See x86.h.
 *
 * A loop is written so that one jump closes it:
 *
 *              jmp 2f            entered from before
 *     1:       sub ticks, n      "head tick": the jump back took n instructions
 *              js  stub
 *     2:       ...
 *              jcc 1b
 *
 * Each function is written twice: the second time it is known which jumps are short.
 */
#include "bpf/jit/x86.h"

#include "base/platform.h"
#include "base/util.h"

enum { LINE = 64, LOOP_ALIGN = 32 };

/* ---- the order -------------------------------------------------------------------------- */

/* Put blocks that follow one another behind the last one, as long as they have no place yet; where
 * a branch is taken to waits. How many wait; behind them is the last one now. */
static uint32_t follow(struct jit_function *f, uint32_t n, uint32_t last, uint32_t *waiting,
                       uint32_t count)
{
    const uint32_t origin = f->blocks[n].origin;
    const uint32_t trace = last == JIT_NO_BLOCK ? 0 : f->blocks[last].number + 1;
    while (n != JIT_NO_BLOCK && !f->blocks[n].placed) {
        struct jit_block *b = &f->blocks[n];
        b->placed = true;
        b->follower = JIT_NO_BLOCK;
        b->origin = origin;
        b->trace = trace;
        b->number = last == JIT_NO_BLOCK ? 0 : f->blocks[last].number + 1;
        if (last != JIT_NO_BLOCK)
            f->blocks[last].follower = n;
        last = n;
        n = b->end == JIT_END_EXIT ? JIT_NO_BLOCK : b->next.block;
        if (b->end != JIT_END_BRANCH || f->blocks[b->taken.block].placed)
            continue;
        if (f->blocks[n].placed) {
            n = b->taken.block;
        } else {
            f->blocks[b->taken.block].origin = b->number;
            waiting[count++] = b->taken.block;
        }
    }
    waiting[count] = last;
    return count;
}

/* The order of the code: each block is followed by the one that it goes on to. The last block's
 * follower is JIT_NO_BLOCK. waiting has room for all blocks, and one. */
static void order(struct jit_function *f, uint32_t *waiting)
{
    uint32_t count = 1, last = JIT_NO_BLOCK;
    waiting[0] = 0;
    while (count) {
        const uint32_t n = waiting[--count];
        if (f->blocks[n].placed)
            continue;
        count = follow(f, n, last, waiting, count);
        last = waiting[count];
    }
}

/* Block b, which comes later or is the same, jumps back to head. There is no head tick if the way
 * to b does not lead through head: then others fall into it, more often than not. */
static void jumps_back(struct jit_function *f, uint32_t head, uint32_t b, uint32_t ticks)
{
    f->blocks[head].loop = true;
    f->blocks[head].loop_last = b;
    if (ticks && (f->blocks[head].number >= f->blocks[b].trace ||
                  f->blocks[head].number <= f->blocks[b].origin))
        f->blocks[head].head_ticks = ticks;
}

/* Which blocks are jumped back to, and which of them have a head tick: that of the last branch that
 * does. (What jumps without a condition counts its own ticks.) */
static void find_loops(struct jit_function *f)
{
    for (uint32_t i = 0; i != JIT_NO_BLOCK; i = f->blocks[i].follower) {
        const struct jit_block *b = &f->blocks[i];
        const bool branches = b->end == JIT_END_BRANCH;
        const bool taken_back = branches && f->blocks[b->taken.block].number <= b->number;
        if (taken_back)
            jumps_back(f, b->taken.block, i, b->taken.ticks);
        if (b->end != JIT_END_EXIT && f->blocks[b->next.block].number <= b->number)
            jumps_back(f, b->next.block, i, branches && !taken_back ? b->next.ticks : 0);
    }
}

/* ---- jumps ------------------------------------------------------------------------------ */

static bool to_head_tick(const struct jit_function *f, struct jit_edge edge)
{
    return edge.ticks && f->blocks[edge.block].head_ticks == edge.ticks;
}

static size_t destination(const struct jit_function *f, uint32_t block, bool tick)
{
    const struct jit_block *b = &f->blocks[block];
    return tick ? b->tick_position : b->position;
}

/* Whether a jump from here will be short, by what the pass before has found. */
static bool is_near(const struct jit_code *code, uint32_t block, bool tick)
{
    const int64_t d = (int64_t)destination(code->function, block, tick) - (int64_t)code->as.size;
    return code->guess && d > -100 && d < 100;
}

static void jump_added(struct jit_code *code, size_t at, uint32_t block, bool is_short, bool tick)
{
    if (jit_grow(code, (void **)&code->jumps, code->jump_count, &code->jump_capacity,
                 sizeof(*code->jumps)))
        code->jumps[code->jump_count++] = (struct jit_jump){at, block, is_short, tick};
}

static void jump_to_if(struct jit_code *code, unsigned cc, uint32_t block, bool tick)
{
    const bool is_short = is_near(code, block, tick);
    jump_added(code, x86_jump_if_later(&code->as, cc, is_short), block, is_short, tick);
}

static void jump_to(struct jit_code *code, uint32_t block, bool tick)
{
    const bool is_short = is_near(code, block, tick);
    jump_added(code, x86_jump_later(&code->as, is_short), block, is_short, tick);
}

static void stub_added(struct jit_code *code, struct jit_stub stub)
{
    if (jit_grow(code, (void **)&code->stubs, code->stub_count, &code->stub_capacity,
                 sizeof(*code->stubs)))
        code->stubs[code->stub_count++] = stub;
}

void jit_stub_if(struct jit_code *code, enum x86_cc cc, enum jit_stub_kind kind, uint32_t insn)
{
    struct jit_stub stub = {.kind = (uint8_t)kind, .insn = insn};
    stub.at = x86_jump_if_later(&code->as, cc, false);
    stub.back = code->as.size;
    stub_added(code, stub);
}

void jit_emit_tick(struct jit_code *code, uint32_t insn)
{
    jit_stub_if(code, CC_S, JIT_STUB_TICK, insn);
}

static void lower_ticks(struct jit_code *code, uint32_t ticks, uint32_t insn)
{
    x86_alu_imm(&code->as, true, X86_SUB, JIT_TICKS, (int32_t)ticks);
    jit_emit_tick(code, insn);
}

/* Lower the ticks and jump, which is one jump if they are enough. */
static void lower_and_jump(struct jit_code *code, struct jit_edge edge, uint32_t insn)
{
    struct x86_asm *as = &code->as;
    x86_alu_imm(as, true, X86_SUB, JIT_TICKS, (int32_t)edge.ticks);
    jump_to_if(code, CC_NS, edge.block, false);
    x86_mov_imm(as, RDI, insn);
    x86_call(as, code->tick);
    jump_to(code, edge.block, false);
}

/* Go along an edge; the block `follower` is written next. */
static void go(struct jit_code *code, struct jit_edge edge, uint32_t follower, uint32_t insn)
{
    const struct jit_function *f = code->function;
    const bool tick = to_head_tick(f, edge);
    const bool falls = edge.block == follower;
    if (edge.ticks && !tick && (!falls || f->blocks[edge.block].head_ticks)) {
        lower_and_jump(code, edge, insn);
        return;
    }
    if (edge.ticks && !tick)
        lower_ticks(code, edge.ticks, insn);
    /* The head tick of the follower stands in between. */
    const bool fits = tick || !f->blocks[edge.block].head_ticks;
    if (!falls || !fits)
        jump_to(code, edge.block, tick);
}

static void go_if(struct jit_code *code, unsigned cc, struct jit_edge edge, uint32_t insn)
{
    const bool tick = to_head_tick(code->function, edge);
    if (edge.ticks && !tick) {
        struct jit_stub stub = {.kind = JIT_STUB_EDGE, .insn = insn, .edge = edge};
        stub.at = x86_jump_if_later(&code->as, cc, false);
        stub_added(code, stub);
        return;
    }
    jump_to_if(code, cc, edge.block, tick);
}

static void emit_exit(struct jit_code *code)
{
    x86_alu_imm(&code->as, true, X86_ADD, RSP, 8);
    x86_ret(&code->as);
}

static void emit_end(struct jit_code *code, const struct jit_block *b)
{
    switch ((enum jit_end)b->end) {
    case JIT_END_EXIT:
        emit_exit(code);
        return;
    case JIT_END_JUMP:
        go(code, b->next, b->follower, b->last);
        return;
    case JIT_END_BRANCH:
        if (b->taken.block == b->follower && !b->taken.ticks) {
            go_if(code, b->cc ^ 1, b->next, b->last);
            go(code, b->taken, b->follower, b->last);
        } else {
            go_if(code, b->cc, b->taken, b->last);
            go(code, b->next, b->follower, b->last);
        }
        return;
    }
}

/* ---- blocks ----------------------------------------------------------------------------- */

/* A loop within one line of the cache takes the processor a cycle less for each round. */
static void align(struct jit_code *code, const struct jit_block *b)
{
    const struct jit_function *f = code->function;
    const size_t size = f->blocks[b->loop_last].end_position - b->tick_position;
    const size_t in_line = code->as.size % LINE;
    if (code->guess && size <= LINE && in_line + size > LINE)
        x86_nops(&code->as, (unsigned)(LINE - in_line));
    else if (size > LINE && code->as.size % LOOP_ALIGN)
        x86_nops(&code->as, LOOP_ALIGN - (unsigned)(code->as.size % LOOP_ALIGN));
}

static void emit_block(struct jit_code *code, struct jit_function *f, struct jit_block *b)
{
    if (b->loop)
        align(code, b);
    b->tick_position = code->as.size;
    if (b->head_ticks)
        lower_ticks(code, b->head_ticks, b->insn);
    b->position = code->as.size;
    jit_live_ops(f, b);
    for (const struct jit_op *op = jit_head(f, b); op; op = jit_op_next(f, op))
        jit_emit_op(code, op);
    emit_end(code, b);
    b->end_position = code->as.size;
}

static void emit_stubs(struct jit_code *code)
{
    struct x86_asm *as = &code->as;
    for (uint32_t i = 0; i < code->stub_count; i++) {
        const struct jit_stub stub = code->stubs[i];
        x86_patch(as, stub.at, false, as->size);
        if (stub.kind == JIT_STUB_EDGE) {
            lower_and_jump(code, stub.edge, stub.insn);
            continue;
        }
        x86_mov_imm(as, RDI, stub.insn);
        if (stub.kind == JIT_STUB_TICK) {
            x86_call(as, code->tick);
            x86_jump(as, stub.back);
        } else {
            x86_jump(as, stub.kind == JIT_STUB_DEEP ? code->deep : code->fault);
        }
    }
}

static void fill_jumps(struct jit_code *code)
{
    for (uint32_t i = 0; i < code->jump_count; i++) {
        const struct jit_jump *j = &code->jumps[i];
        if (!x86_patch(&code->as, j->at, j->is_short,
                       destination(code->function, j->block, j->tick)))
            code->missed = true;
    }
}

static void emit_blocks(struct jit_code *code, struct jit_function *f)
{
    code->stub_count = code->jump_count = 0;
    code->missed = false;
    x86_push(&code->as, RDI); /* the vm */
    if (f->blocks[0].head_ticks)
        jump_to(code, 0, false);
    for (uint32_t i = 0; i != JIT_NO_BLOCK && !code->as.failed; i = f->blocks[i].follower)
        emit_block(code, f, &f->blocks[i]);
    emit_stubs(code);
    fill_jumps(code);
}

void jit_emit_function(struct jit_code *code, struct jit_function *f)
{
    uint32_t *waiting = base_alloc_array(f->block_count + 1, sizeof(*waiting));
    if (!waiting) {
        code->as.failed = true;
        return;
    }
    order(f, waiting);
    base_free(waiting);
    find_loops(f);
    code->function = f;
    const size_t start = code->as.size;
    const uint32_t calls = code->call_count;
    for (unsigned pass = 0; pass < 3; pass++) {
        code->guess = pass == 1;
        code->as.size = start;
        code->call_count = calls;
        emit_blocks(code, f);
        if (code->as.failed || (pass == 1 && !code->missed))
            return;
    }
}
