/*
 * Operations that the machine can do in one become one. See x86.h.
 *
 * Each block is gone through from its start to its end, a few times with different rules. A rule
 * looks from one operation back at those that made what it needs, not further than WINDOW.
 */
#include "bpf/jit/x86.h"

#include "base/util.h"

enum { WINDOW = 12 };

struct fuse {
    struct jit_function *f;
    struct jit_block *block;
};

static struct jit_op *before(const struct fuse *u, const struct jit_op *op)
{
    return jit_op_prev(u->f, op);
}

static jit_mask bit(unsigned reg)
{
    return (jit_mask)(reg == JIT_NONE ? 0 : 1u << reg);
}

/* The operation that made what op reads in reg, if nothing between looked at it. */
static struct jit_op *maker(const struct fuse *u, const struct jit_op *op, unsigned reg)
{
    struct jit_op *p = before(u, op);
    for (unsigned n = 0; p && n < WINDOW; p = before(u, p), n++) {
        if (jit_writes(p) & bit(reg))
            return p;
        if (jit_reads(p) & bit(reg))
            return NULL;
    }
    return NULL;
}

/* Whether the operations between two change none of these registers. */
static bool unchanged(const struct fuse *u, const struct jit_op *from, const struct jit_op *to,
                      jit_mask registers)
{
    for (const struct jit_op *p = before(u, to); p && p != from; p = before(u, p))
        if (jit_writes(p) & registers)
            return false;
    return true;
}

/* op will now need registers that only an operation before it needed. */
static void needed_until(const struct fuse *u, struct jit_op *from, struct jit_op *op,
                         jit_mask registers)
{
    for (struct jit_op *p = before(u, op); p; p = before(u, p)) {
        p->live |= registers;
        if (p == from)
            return;
    }
}

static void drop(const struct fuse *u, struct jit_op *op)
{
    jit_op_remove(u->f, u->block, op);
}

static bool is_alu(const struct jit_op *op, unsigned alu, bool wide)
{
    return op && op->kind == JIT_ALU && op->alu == alu && op->wide == wide;
}

static bool is_immediate(const struct jit_op *op)
{
    return op->src == JIT_NONE;
}

static bool fits32(int64_t value)
{
    return value == (int32_t)value;
}

/* ---- moves and arithmetic ---------------------------------------------------------------- */

/* r <<= n; r >>= n: zero- or sign-extension. */
static void fuse_shifts(const struct fuse *u, struct jit_op *op)
{
    const bool sign = op->alu == BPF_ARSH;
    if ((op->alu != BPF_RSH && !sign) || !op->wide || !is_immediate(op) ||
        (op->imm != 32 && op->imm != 48 && op->imm != 56))
        return;
    struct jit_op *left = maker(u, op, op->dst);
    if (!is_alu(left, BPF_LSH, true) || !is_immediate(left) || left->imm != op->imm)
        return;
    drop(u, left);
    const int64_t bits = 64 - op->imm;
    if (sign || bits == 32) {
        op->kind = sign ? JIT_EXTEND : JIT_MOV;
        op->src = op->dst;
        op->size = (uint8_t)(bits / 8);
        op->wide = sign;
    } else {
        op->alu = BPF_AND;
        op->imm = (INT64_C(1) << bits) - 1;
    }
}

/* r = s; r = extended r. Also of memory. */
static void fuse_extension(const struct fuse *u, struct jit_op *op)
{
    struct jit_op *m = op->src == op->dst ? maker(u, op, op->dst) : NULL;
    if (!m)
        return;
    if (m->kind == JIT_MOV && m->src != m->dst && (m->wide || (op->kind == JIT_MOV && !op->wide)) &&
        unchanged(u, m, op, bit(m->src))) {
        needed_until(u, m, op, bit(m->src));
        op->src = m->src;
        drop(u, m);
    } else if (m->kind == JIT_LOAD && !m->sign && op->kind == JIT_EXTEND && op->wide &&
               m->size == op->size) {
        m->sign = true;
        drop(u, op);
    }
}

static bool upper_is_zero(const struct jit_op *op)
{
    switch ((enum jit_kind)op->kind) {
    case JIT_IMM:
        return op->imm == (uint32_t)op->imm;
    case JIT_LOAD:
        return !op->sign && op->size <= 4;
    case JIT_MOV:
    case JIT_EXTEND:
    case JIT_LEA:
        return !op->wide;
    case JIT_ALU:
        return !op->wide || (op->alu == BPF_AND && is_immediate(op) && op->imm >= 0);
    default:
        return false;
    }
}

/* r = low half of r, where there is nothing else in it. */
static bool is_needless(const struct fuse *u, const struct jit_op *op)
{
    if (op->kind != JIT_MOV || op->src != op->dst)
        return false;
    const struct jit_op *p = before(u, op);
    for (unsigned n = 0; p && n < WINDOW; p = before(u, p), n++)
        if (jit_writes(p) & bit(op->dst))
            return op->wide || upper_is_zero(p);
    return op->wide;
}

static void make_lea(struct jit_op *op, unsigned base, unsigned index, int64_t disp)
{
    op->kind = JIT_LEA;
    op->base = (uint8_t)base;
    op->index = (uint8_t)index;
    op->scale = 0;
    op->disp = (int32_t)disp;
    op->src = JIT_NONE;
}

/* r = s; r += t or a number. */
static void fuse_sum(const struct fuse *u, struct jit_op *op)
{
    const int64_t imm = op->alu == BPF_SUB ? -op->imm : op->imm;
    if ((op->alu != BPF_ADD && (op->alu != BPF_SUB || !is_immediate(op))) ||
        (is_immediate(op) && !fits32(imm)))
        return;
    struct jit_op *m = maker(u, op, op->dst);
    if (!m || op->src == op->dst)
        return;
    if (m->kind == JIT_MOV && m->src != m->dst && (m->wide || !op->wide) &&
        unchanged(u, m, op, bit(m->src))) {
        needed_until(u, m, op, bit(m->src));
        make_lea(op, m->src, op->src, is_immediate(op) ? imm : 0);
        drop(u, m);
    } else if (m->kind == JIT_IMM && !is_immediate(op) && op->wide && fits32(m->imm)) {
        make_lea(op, op->src, JIT_NONE, m->imm);
        drop(u, m);
    }
}

/* A number in a register that nothing else needs becomes part of the operation. */
static void fuse_number(const struct fuse *u, struct jit_op *op)
{
    const bool takes = op->kind == JIT_STORE || op->kind == JIT_COMPARE || op->kind == JIT_TEST ||
                       (op->kind == JIT_ALU && op->alu != BPF_DIV && op->alu != BPF_MOD);
    if (!takes || is_immediate(op) || op->live & bit(op->src) || op->src == op->dst ||
        op->src == op->base || op->src == op->index)
        return;
    struct jit_op *m = maker(u, op, op->src);
    if (!m || m->kind != JIT_IMM)
        return;
    const bool wide = op->kind == JIT_STORE ? op->size == 8 : op->wide;
    if (wide && !fits32(m->imm))
        return;
    op->src = JIT_NONE;
    op->imm = (int32_t)m->imm;
    drop(u, m);
}

static void fuse_arithmetic(const struct fuse *u, struct jit_op *op)
{
    fuse_number(u, op);
    if (op->kind == JIT_ALU)
        fuse_shifts(u, op);
    if (op->kind == JIT_MOV || op->kind == JIT_EXTEND)
        fuse_extension(u, op);
    if (op->kind == JIT_ALU)
        fuse_sum(u, op);
    if (is_needless(u, op))
        drop(u, op);
}

/* ---- addresses --------------------------------------------------------------------------- */

/* Displacements that the processor can add, also less any bound of the arena. */
static bool is_displacement(int64_t disp)
{
    return disp >= -0x20000000 && disp <= 0x5fffffff;
}

/* index gets a factor, or changes places with base for one. */
static bool scale(struct jit_op *op, unsigned reg, int64_t shift)
{
    if (shift < 0 || shift > 3)
        return false;
    if (reg == op->base) {
        if (op->index != JIT_NONE && op->scale)
            return false;
        op->base = op->index;
        op->index = (uint8_t)reg;
        op->scale = 0;
    }
    if (op->scale + shift > 3)
        return false;
    op->scale = (uint8_t)(op->scale + shift);
    return true;
}

static bool add_displacement(struct jit_op *op, unsigned reg, int64_t value)
{
    const int64_t disp = op->disp + (reg == op->base ? value : value * (1 << op->scale));
    if (!fits32(value) || !is_displacement(disp))
        return false;
    op->disp = (int32_t)disp;
    return true;
}

/* reg = LEA or reg += other: both registers in one address. */
static bool take_address(struct jit_op *op, unsigned reg, const struct jit_op *m)
{
    const bool alone = op->base == JIT_NONE || op->index == JIT_NONE;
    const unsigned factor = reg == op->base ? 0 : op->scale;
    if (!alone || factor)
        return false;
    if (m->kind == JIT_ALU) {
        op->base = (uint8_t)reg;
        op->index = m->src;
        op->scale = 0;
        return true;
    }
    if (!is_displacement((int64_t)op->disp + m->disp))
        return false;
    op->base = m->base;
    op->index = m->index;
    op->scale = m->scale;
    op->disp += m->disp;
    return true;
}

/* What made one register of an address becomes part of the address. */
static bool fold(const struct fuse *u, struct jit_op *op, unsigned reg)
{
    const bool needed = !(jit_writes(op) & bit(reg)) && op->live & bit(reg);
    if (reg == JIT_NONE || needed || op->base == op->index || op->src == reg)
        return false;
    struct jit_op *m = maker(u, op, reg);
    if (!m)
        return false;
    const jit_mask sources = (jit_mask)(jit_reads(m) & ~JIT_BIT(JIT_FLAGS));
    if (!unchanged(u, m, op, sources))
        return false;
    bool done = false;
    if (is_alu(m, BPF_ADD, true) && is_immediate(m))
        done = add_displacement(op, reg, m->imm);
    else if (is_alu(m, BPF_LSH, true) && is_immediate(m))
        done = scale(op, reg, m->imm);
    else if ((is_alu(m, BPF_ADD, true) && m->src != reg) || (m->kind == JIT_LEA && m->wide))
        done = take_address(op, reg, m);
    else if (m->kind == JIT_MOV && m->wide && m->src != m->dst)
        done = true, *(reg == op->base ? &op->base : &op->index) = m->src;
    else if (m->kind == JIT_IMM && (done = add_displacement(op, reg, m->imm)))
        *(reg == op->base ? &op->base : &op->index) = JIT_NONE;
    if (!done)
        return false;
    needed_until(u, m, op, sources);
    drop(u, m);
    return true;
}

static bool has_address(const struct jit_op *op)
{
    return op->kind == JIT_LOAD || op->kind == JIT_STORE || op->kind == JIT_UPDATE ||
           (op->kind == JIT_COMPARE && op->size);
}

static void fuse_address(const struct fuse *u, struct jit_op *op)
{
    if (!has_address(op))
        return;
    while (fold(u, op, op->base) || fold(u, op, op->index))
        ;
    op->safe |= op->base == BPF_FP && op->index == JIT_NONE && op->disp >= -BPF_FRAME_SIZE &&
                op->disp + op->size <= 0;
}

/* The largest number that reg can be when op looks at it; UINT64_MAX: any. */
static uint64_t largest(const struct fuse *u, const struct jit_op *op, unsigned reg)
{
    const struct jit_op *p = before(u, op);
    for (unsigned n = 0; p && n < WINDOW && !(jit_writes(p) & bit(reg)); n++)
        p = before(u, p);
    if (!p || !(jit_writes(p) & bit(reg)))
        return UINT64_MAX;
    if (p->kind == JIT_LOAD && !p->sign && p->size <= 2)
        return p->size == 1 ? UINT8_MAX : UINT16_MAX;
    if (p->kind == JIT_ALU && p->alu == BPF_AND && is_immediate(p) && p->imm >= 0)
        return (uint64_t)p->imm;
    if (p->kind == JIT_ALU && p->alu == BPF_RSH && is_immediate(p))
        return p->wide ? UINT64_MAX >> (p->imm & 63) : UINT32_MAX >> (p->imm & 31);
    return UINT64_MAX;
}

/* A table of the program's, with an index that cannot leave the arena: no check. */
static void prove_table(const struct fuse *u, struct jit_op *op)
{
    const struct bpf_layout *l = &u->f->prog->layout;
    if (!has_address(op) || op->base != JIT_NONE || op->index == JIT_NONE)
        return;
    const bool write = op->kind == JIT_STORE || op->kind == JIT_UPDATE;
    const int64_t start = (int64_t)(write ? l->write_start : BPF_ADDRESS);
    const uint64_t most = largest(u, op, op->index);
    op->safe |= op->disp >= start && most <= UINT32_MAX &&
                (uint64_t)op->disp + (most << op->scale) + op->size <= l->end;
}

/* ---- memory ------------------------------------------------------------------------------ */

/* Whether an operation may be moved past this one, as far as memory and faults go. */
static bool is_quiet(const struct jit_op *op)
{
    return jit_pure(op);
}

/* A load whose result only op uses, and which may be done as late as op. */
static struct jit_op *late_load(const struct fuse *u, const struct jit_op *op, unsigned reg)
{
    struct jit_op *load = maker(u, op, reg);
    if (!load || load->kind != JIT_LOAD || op->live & bit(reg) ||
        !unchanged(u, load, op, bit(load->base) | bit(load->index)))
        return NULL;
    for (const struct jit_op *p = before(u, op); p != load; p = before(u, p))
        if (!is_quiet(p))
            return NULL;
    return load;
}

static void copy_address(struct jit_op *to, const struct jit_op *from)
{
    to->base = from->base;
    to->index = from->index;
    to->scale = from->scale;
    to->disp = from->disp;
    to->size = from->size;
    to->safe = from->safe;
    to->insn = from->insn;
}

/* r = [a]; r op= s; [a] = r. */
static void fuse_update(const struct fuse *u, struct jit_op *op)
{
    const unsigned reg = op->src;
    if (op->kind != JIT_STORE || reg == JIT_NONE || op->live & bit(reg) || reg == op->base)
        return;
    struct jit_op *alu = maker(u, op, reg);
    if (!alu || alu->kind != JIT_ALU || alu->src == reg || !unchanged(u, alu, op, bit(alu->src)) ||
        (alu->alu != BPF_ADD && alu->alu != BPF_SUB && alu->alu != BPF_AND && alu->alu != BPF_OR &&
         alu->alu != BPF_XOR) ||
        (op->size == 8 && !alu->wide))
        return;
    struct jit_op *load = maker(u, alu, reg);
    if (!load || load->kind != JIT_LOAD || load->size != op->size || load->base != op->base ||
        load->disp != op->disp || !unchanged(u, load, op, bit(op->base)))
        return;
    for (const struct jit_op *p = before(u, op); p != load; p = before(u, p))
        if (!is_quiet(p))
            return;
    needed_until(u, load, op, bit(op->base) | bit(alu->src));
    op->kind = JIT_UPDATE;
    op->alu = alu->alu;
    op->src = alu->src;
    op->imm = alu->imm;
    drop(u, load);
    drop(u, alu);
}

/* r = [a]; compare r. T0, which an address may take, must be free. */
static void fuse_compare(const struct fuse *u, struct jit_op *op)
{
    if (op->kind != JIT_COMPARE || op->size || op->src == op->dst || op->live & bit(JIT_T0))
        return;
    struct jit_op *load = late_load(u, op, op->dst);
    if (!load)
        return;
    const bool same = load->size == (op->wide ? 8 : 4) && !load->sign;
    /* Sign-extension keeps the order of numbers, signed or not. */
    const bool extended = load->size == 4 && load->sign && op->wide && is_immediate(op);
    if (!same && !extended)
        return;
    needed_until(u, load, op, bit(load->base) | bit(load->index));
    const uint32_t insn = load->insn;
    copy_address(op, load);
    op->insn = insn;
    op->dst = JIT_NONE;
    op->wide = load->size == 8;
    drop(u, load);
}

/* ---- comparisons ------------------------------------------------------------------------- */

static bool is_unsigned(unsigned cc)
{
    return cc >= CC_B && cc <= CC_A;
}

/* Whether all that look at a comparison's flags take its operands for unsigned. */
static bool used_unsigned(const struct fuse *u, const struct jit_op *op)
{
    for (op = jit_op_next(u->f, op); op; op = jit_op_next(u->f, op)) {
        if (jit_writes(op) & JIT_BIT(JIT_FLAGS))
            return true;
        if (jit_reads(op) & JIT_BIT(JIT_FLAGS) && !is_unsigned(op->cc))
            return false;
    }
    return u->block->end != JIT_END_BRANCH || is_unsigned(u->block->cc);
}

/* r = low half of s; compare r with a number. */
static void fuse_half(const struct fuse *u, struct jit_op *op)
{
    if (op->kind != JIT_COMPARE || op->size || !is_immediate(op) || op->live & bit(op->dst) ||
        (op->wide && op->imm < 0))
        return;
    struct jit_op *m = maker(u, op, op->dst);
    if (!m || m->kind != JIT_MOV || (m->wide && op->wide) || !unchanged(u, m, op, bit(m->src)) ||
        (op->wide && !used_unsigned(u, op)))
        return;
    needed_until(u, m, op, bit(m->src));
    op->dst = m->src;
    op->wide = false;
    drop(u, m);
}

/* r &= 255; compare r with a number. */
static void fuse_low(const struct fuse *u, struct jit_op *op)
{
    if (op->kind != JIT_COMPARE || op->size || op->low || !is_immediate(op) ||
        op->live & bit(op->dst) || op->imm < 0 || op->imm > 255)
        return;
    struct jit_op *m = maker(u, op, op->dst);
    if (!m || m->kind != JIT_ALU || m->alu != BPF_AND || !is_immediate(m) || m->imm != 255 ||
        !used_unsigned(u, op))
        return;
    op->low = true;
    drop(u, m);
}

static void drop_dead(struct jit_function *f, struct jit_block *block)
{
    jit_live_ops(f, block);
    for (struct jit_op *op = jit_tail(f, block), *p; op; op = p) {
        p = jit_op_prev(f, op);
        if (jit_pure(op) && !(jit_writes(op) & op->live))
            jit_op_remove(f, block, op);
    }
}

/* ---- all of them ------------------------------------------------------------------------- */

static void each(const struct fuse *u, void (*rule)(const struct fuse *u, struct jit_op *op))
{
    for (struct jit_op *op = jit_head(u->f, u->block), *next; op; op = next) {
        next = jit_op_next(u->f, op);
        rule(u, op);
    }
}

void jit_fuse(struct jit_function *f)
{
    for (uint32_t i = 0; i < f->block_count; i++) {
        const struct fuse u = {f, &f->blocks[i]};
        drop_dead(f, &f->blocks[i]);
        each(&u, fuse_arithmetic);
        each(&u, fuse_half);
        each(&u, fuse_low);
        each(&u, fuse_update);
        each(&u, fuse_address);
        each(&u, prove_table);
        each(&u, fuse_compare);
    }
}
