/* Operations to machine code: arithmetic, memory, conditions. See x86.h. */
#include "bpf/jit/x86.h"

#include "base/util.h"

/* A helper finds its arguments where the C compiler expects them: only the vm goes to rdi. What a
 * call must keep is in registers that it does keep. */
const uint8_t jit_x86_register[JIT_REGISTERS] = {RAX, RSI, RDX, RCX, R8,  R9, RBX,
                                                 R13, R14, R15, RBP, RDI, R10};

static uint8_t reg(unsigned number)
{
    return jit_x86_register[number];
}

/* ---- addresses -------------------------------------------------------------------------- */

static struct x86_mem operand(const struct jit_op *op)
{
    return (struct x86_mem){op->base == JIT_NONE ? X86_NONE : reg(op->base),
                            op->index == JIT_NONE ? X86_NONE : reg(op->index), op->scale, op->disp};
}

/* Load the address, plus a number, into T0. */
static void load_address(struct jit_code *code, const struct jit_op *op, int32_t plus)
{
    struct x86_mem mem = operand(op);
    mem.disp += plus;
    if (mem.base == X86_NONE && mem.index == X86_NONE)
        x86_mov_imm(&code->as, RDI, (uint64_t)(int64_t)mem.disp);
    else
        x86_rm(&code->as, 8, X86_LEA, RDI, mem);
}

/* In a checked program: one comparison, with the lower bound taken off before. */
static void check(struct jit_code *code, const struct jit_op *op, bool write)
{
    const struct bpf_layout *layout = &code->prog->layout;
    const uint64_t start = write ? layout->write_start : BPF_ADDRESS;
    load_address(code, op, -(int32_t)start);
    x86_alu_imm(&code->as, true, X86_CMP, RDI, (int32_t)(layout->end - start - op->size));
    jit_stub_if(code, CC_A, JIT_STUB_FAULT, op->insn);
    if (op->kind == JIT_ATOMIC) { /* start is that of a page */
        x86_test_imm(&code->as, false, RDI, op->size - 1);
        jit_stub_if(code, CC_NE, JIT_STUB_FAULT, op->insn);
    }
}

/* The place of an access in the process, checked if need be. May use T0. */
static struct x86_mem reach(struct jit_code *code, const struct jit_op *op, bool write)
{
    const bool checked = !code->prog->verified && !op->safe;
    if (checked)
        check(code, op, write);
    if (op->base == JIT_NONE && op->index == JIT_NONE)
        return (struct x86_mem){JIT_BASE, X86_NONE, 0, op->disp};
    if (op->index == JIT_NONE)
        return (struct x86_mem){JIT_BASE, reg(op->base), 0, op->disp};
    if (op->base == JIT_NONE)
        return (struct x86_mem){JIT_BASE, reg(op->index), op->scale, op->disp};
    if (op->based)
        return (struct x86_mem){R10, reg(op->index), op->scale, op->disp};
    if (checked)
        return (struct x86_mem){JIT_BASE, RDI, 0,
                                (int32_t)(write ? code->prog->layout.write_start : BPF_ADDRESS)};
    load_address(code, op, 0);
    return (struct x86_mem){JIT_BASE, RDI, 0, 0};
}

/* ---- arithmetic ------------------------------------------------------------------------- */

static void zero(struct jit_code *code, unsigned r, bool keep_flags)
{
    if (keep_flags)
        x86_mov_imm(&code->as, r, 0);
    else
        x86_alu(&code->as, false, X86_XOR, r, r);
}

static void emit_multiply(struct jit_code *code, const struct jit_op *op)
{
    const unsigned dst = reg(op->dst);
    if (op->src != JIT_NONE)
        x86_rr(&code->as, op->wide, X86_IMUL, dst, reg(op->src));
    else if (op->imm > 0 && is_pow2((uint64_t)op->imm))
        x86_shift_imm(&code->as, op->wide, X86_SHL, dst,
                      (unsigned)__builtin_ctzll((uint64_t)op->imm));
    else
        x86_imul_imm(&code->as, op->wide, dst, dst, (int32_t)op->imm);
}

/* The count must be in cl, which is r3's. */
static void shift_by_cl(struct jit_code *code, const struct jit_op *op, enum x86_shift shift)
{
    struct x86_asm *as = &code->as;
    const unsigned dst = reg(op->dst), count = reg(op->src);
    if (count == RCX && dst != RCX) {
        x86_shift_cl(as, op->wide, shift, dst);
        return;
    }
    x86_mov(as, true, R10, RCX);
    if (count != RCX)
        x86_mov(as, true, RCX, count);
    x86_shift_cl(as, op->wide, shift, dst == RCX ? R10 : dst);
    x86_mov(as, true, RCX, R10);
}

static void emit_shift(struct jit_code *code, const struct jit_op *op, enum x86_shift shift)
{
    const unsigned dst = reg(op->dst);
    const unsigned count = (unsigned)op->imm & (op->wide ? 63 : 31);
    if (op->src == JIT_NONE && count)
        x86_shift_imm(&code->as, op->wide, shift, dst, count);
    else if (op->src == JIT_NONE && !op->wide)
        x86_mov(&code->as, false, dst, dst);
    else if (op->src == JIT_NONE)
        ;
    else if (code->shiftx)
        x86_shiftx(&code->as, op->wide, shift, dst, dst, reg(op->src));
    else
        shift_by_cl(code, op, shift);
}

static void emit_and(struct jit_code *code, const struct jit_op *op)
{
    const unsigned dst = reg(op->dst);
    if (op->src != JIT_NONE)
        x86_alu(&code->as, op->wide, X86_AND, dst, reg(op->src));
    else if (op->imm == 0xff)
        x86_rr8(&code->as, false, X86_MOVZX8, dst, dst);
    else if (op->imm == 0xffff)
        x86_rr(&code->as, false, X86_MOVZX16, dst, dst);
    else
        x86_alu_imm(&code->as, op->wide && op->imm < 0, X86_AND, dst, (int32_t)op->imm);
}

static void emit_plain(struct jit_code *code, const struct jit_op *op, enum x86_alu alu)
{
    const unsigned dst = reg(op->dst);
    if (op->src != JIT_NONE)
        x86_alu(&code->as, op->wide, alu, dst, reg(op->src));
    else if (op->imm || !op->wide) /* 0 does nothing in 64 bits */
        x86_alu_imm(&code->as, op->wide, alu, dst, (int32_t)op->imm);
}

static void emit_alu(struct jit_code *code, const struct jit_op *op)
{
    switch ((enum bpf_alu)op->alu) {
    case BPF_ADD:
        emit_plain(code, op, X86_ADD);
        return;
    case BPF_SUB:
        emit_plain(code, op, X86_SUB);
        return;
    case BPF_OR:
        emit_plain(code, op, X86_OR);
        return;
    case BPF_XOR:
        emit_plain(code, op, X86_XOR);
        return;
    case BPF_AND:
        emit_and(code, op);
        return;
    case BPF_MUL:
        emit_multiply(code, op);
        return;
    case BPF_DIV:
    case BPF_MOD:
        jit_emit_divide(code, op);
        return;
    case BPF_LSH:
        emit_shift(code, op, X86_SHL);
        return;
    case BPF_RSH:
        emit_shift(code, op, X86_SHR);
        return;
    case BPF_ARSH:
        emit_shift(code, op, X86_SAR);
        return;
    case BPF_NEG:
        x86_unary(&code->as, op->wide, X86_NEG, reg(op->dst));
        return;
    case BPF_MOV:
    case BPF_END:
        return; /* never: they have their own kinds */
    }
}

static void emit_swap(struct jit_code *code, const struct jit_op *op)
{
    const unsigned dst = reg(op->dst);
    if (op->size != 2) {
        x86_bswap(&code->as, op->size == 8, dst);
        return;
    }
    x86_rol16(&code->as, dst, 8);
    x86_rr(&code->as, false, X86_MOVZX16, dst, dst);
}

static void emit_extend(struct jit_code *code, const struct jit_op *op)
{
    const unsigned dst = reg(op->dst), src = reg(op->src);
    if (op->size == 1)
        x86_rr8(&code->as, op->wide, X86_MOVSX8, dst, src);
    else
        x86_rr(&code->as, op->wide, op->size == 2 ? X86_MOVSX16 : X86_MOVSXD, dst, src);
}

static void emit_lea(struct jit_code *code, const struct jit_op *op)
{
    x86_rm(&code->as, op->wide ? 8 : 4, X86_LEA, reg(op->dst), operand(op));
}

/* ---- memory ----------------------------------------------------------------------------- */

static void emit_load(struct jit_code *code, const struct jit_op *op)
{
    const unsigned opcode = op->size == 1   ? (op->sign ? X86_MOVSX8 : X86_MOVZX8)
                            : op->size == 2 ? (op->sign ? X86_MOVSX16 : X86_MOVZX16)
                            : op->sign      ? X86_MOVSXD
                                            : X86_MOV_LOAD;
    const struct x86_mem mem = reach(code, op, false);
    x86_rm(&code->as, op->sign || op->size == 8 ? 8 : 4, opcode, reg(op->dst), mem);
}

static void emit_store(struct jit_code *code, const struct jit_op *op)
{
    const struct x86_mem mem = reach(code, op, true);
    if (op->src == JIT_NONE)
        x86_store_imm(&code->as, op->size, mem, (int32_t)op->imm);
    else
        x86_rm(&code->as, op->size, X86_MOV_STORE - (op->size == 1), reg(op->src), mem);
}

static enum x86_alu plain_alu(unsigned alu)
{
    switch (alu) {
    case BPF_ADD:
        return X86_ADD;
    case BPF_SUB:
        return X86_SUB;
    case BPF_OR:
        return X86_OR;
    case BPF_AND:
        return X86_AND;
    default:
        return X86_XOR;
    }
}

static void emit_update(struct jit_code *code, const struct jit_op *op)
{
    const struct x86_mem mem = reach(code, op, true);
    if (op->src == JIT_NONE)
        x86_alu_mem_imm(&code->as, op->size, plain_alu(op->alu), mem, (int32_t)op->imm);
    else
        x86_alu_mem(&code->as, op->size, plain_alu(op->alu), mem, reg(op->src));
}

/* ---- conditions ------------------------------------------------------------------------- */

static void emit_compare(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    if (op->size) {
        const struct x86_mem mem = reach(code, op, false);
        if (op->src == JIT_NONE)
            x86_alu_mem_imm(as, op->size, X86_CMP, mem, (int32_t)op->imm);
        else
            x86_alu_mem(as, op->size, X86_CMP, mem, reg(op->src));
    } else if (op->low) {
        x86_cmp8_imm(as, reg(op->dst), (unsigned)op->imm);
    } else if (op->src != JIT_NONE) {
        x86_alu(as, op->wide, X86_CMP, reg(op->dst), reg(op->src));
    } else if (op->imm) {
        x86_alu_imm(as, op->wide, X86_CMP, reg(op->dst), (int32_t)op->imm);
    } else {
        x86_rr(as, op->wide, X86_TEST, reg(op->dst), reg(op->dst));
    }
}

static void emit_test(struct jit_code *code, const struct jit_op *op)
{
    if (op->src == JIT_NONE)
        x86_test_imm(&code->as, op->wide, reg(op->dst), (int32_t)op->imm);
    else
        x86_rr(&code->as, op->wide, X86_TEST, reg(op->src), reg(op->dst));
}

/* Flags stay: moves and lea leave them alone. */
static void emit_ticks(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    x86_mov_imm(as, R10, (uint64_t)op->imm);
    x86_mov_imm(as, RDI, 0);
    x86_rr(as, true, X86_CMOV + op->cc, RDI, R10);
    x86_rm(as, 8, X86_LEA, JIT_TICKS, (struct x86_mem){JIT_TICKS, RDI, 0, 0});
}

void jit_emit_op(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    switch ((enum jit_kind)op->kind) {
    case JIT_NOP:
        return;
    case JIT_MOV:
        if (op->dst != op->src || !op->wide)
            x86_mov(as, op->wide, reg(op->dst), reg(op->src));
        return;
    case JIT_IMM:
        if (op->imm)
            x86_mov_imm(as, reg(op->dst), (uint64_t)op->imm);
        else
            zero(code, reg(op->dst), op->live & JIT_BIT(JIT_FLAGS));
        return;
    case JIT_EXTEND:
        emit_extend(code, op);
        return;
    case JIT_ALU:
        emit_alu(code, op);
        return;
    case JIT_SWAP:
        emit_swap(code, op);
        return;
    case JIT_LEA:
        emit_lea(code, op);
        return;
    case JIT_TRANSLATE:
        x86_rm(as, 8, X86_LEA, reg(op->dst), (struct x86_mem){JIT_BASE, reg(op->src), 0, 0});
        return;
    case JIT_LOAD:
        emit_load(code, op);
        return;
    case JIT_STORE:
        emit_store(code, op);
        return;
    case JIT_UPDATE:
        emit_update(code, op);
        return;
    case JIT_ATOMIC:
        jit_emit_atomic(code, op, reach(code, op, true));
        return;
    case JIT_HELPER:
    case JIT_LOCAL:
    case JIT_CALLX:
        jit_emit_call(code, op);
        return;
    case JIT_COMPARE:
        emit_compare(code, op);
        return;
    case JIT_TEST:
        emit_test(code, op);
        return;
    case JIT_SET:
        x86_setcc(as, op->cc, reg(op->dst));
        x86_rr8(as, false, X86_MOVZX8, reg(op->dst), reg(op->dst));
        return;
    case JIT_SET8:
        x86_setcc(as, op->cc, reg(op->dst));
        return;
    case JIT_CMOV:
        x86_rr(as, true, X86_CMOV + op->cc, reg(op->dst), reg(op->src));
        return;
    case JIT_TICKS_IF:
        emit_ticks(code, op);
        return;
    case JIT_TICKS_BY:
        x86_rm(as, 8, X86_LEA, JIT_TICKS, (struct x86_mem){JIT_TICKS, reg(op->src), op->scale, 0});
        return;
    }
}
