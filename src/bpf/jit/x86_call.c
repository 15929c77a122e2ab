/* Operations to machine code: division, atomics, calls. See x86.h. */
#include "bpf/jit/x86.h"

#include <errno.h>

#include "base/platform.h"
#include "base/util.h"

static unsigned reg(unsigned number)
{
    return jit_x86_register[number];
}

#define VM(field) offsetof(struct bpf_vm, field)

static struct x86_mem at(unsigned base, size_t disp)
{
    return (struct x86_mem){(uint8_t)base, X86_NONE, 0, (int32_t)disp};
}

/* ---- division --------------------------------------------------------------------------- */

/* By a number that is known: true if that is something simpler. */
static bool divide_simply(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    const unsigned dst = reg(op->dst);
    if (op->imm == 0) {
        if (op->alu == BPF_DIV)
            x86_alu(as, false, X86_XOR, dst, dst);
        else if (!op->wide)
            x86_mov(as, false, dst, dst);
        return true;
    }
    if (op->sign && op->imm == -1) {
        if (op->alu == BPF_DIV)
            x86_unary(as, op->wide, X86_NEG, dst);
        else
            x86_alu(as, false, X86_XOR, dst, dst);
        return true;
    }
    if (op->sign || op->imm < 0 || !is_pow2((uint64_t)op->imm))
        return false;
    const unsigned shift = (unsigned)__builtin_ctzll((uint64_t)op->imm);
    if (op->alu == BPF_MOD)
        x86_alu_imm(as, false, X86_AND, dst, (int32_t)(op->imm - 1));
    else if (shift)
        x86_shift_imm(as, op->wide, X86_SHR, dst, shift);
    else if (!op->wide)
        x86_mov(as, false, dst, dst);
    return true;
}

/* dst by r10, which is not 0, nor -1 if signed: through rax and rdx, which are r0 and r2. */
static void divide(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    const unsigned dst = reg(op->dst);
    const bool keep_rax = dst != RAX && op->live & JIT_BIT(0);
    const bool keep_rdx = dst != RDX && op->live & JIT_BIT(2);
    const unsigned result = op->alu == BPF_DIV ? RAX : RDX;
    if (keep_rax)
        x86_mov(as, true, RDI, RAX);
    if (keep_rdx)
        x86_push(as, RDX);
    if (dst != RAX)
        x86_mov(as, true, RAX, dst);
    if (op->sign)
        x86_sign_rax(as, op->wide);
    else
        x86_alu(as, false, X86_XOR, RDX, RDX);
    x86_unary(as, op->wide, op->sign ? X86_IDIV : X86_DIV, R10);
    if (keep_rdx && result == RDX) {
        x86_mov(as, true, R10, RDX);
        x86_pop(as, RDX);
        x86_mov(as, true, dst, R10);
    } else {
        if (keep_rdx)
            x86_pop(as, RDX);
        if (dst != result)
            x86_mov(as, true, dst, result);
    }
    if (keep_rax)
        x86_mov(as, true, RAX, RDI);
}

void jit_emit_divide(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    const unsigned dst = reg(op->dst);
    if (op->src == JIT_NONE) {
        if (divide_simply(code, op))
            return;
        x86_mov_imm(as, R10, op->wide ? (uint64_t)op->imm : (uint32_t)op->imm);
        divide(code, op);
        return;
    }
    x86_mov(as, op->wide, R10, reg(op->src));
    x86_rr(as, op->wide, X86_TEST, R10, R10);
    const size_t by_zero = x86_jump_if_later(as, CC_E, true);
    size_t by_minus = 0, done_minus = 0;
    if (op->sign) { /* the least number by -1 would trap */
        x86_alu_imm(as, op->wide, X86_CMP, R10, -1);
        by_minus = x86_jump_if_later(as, CC_E, true);
    }
    divide(code, op);
    const size_t done = x86_jump_later(as, true);
    if (op->sign) {
        x86_patch(as, by_minus, true, as->size);
        if (op->alu == BPF_DIV)
            x86_unary(as, op->wide, X86_NEG, dst);
        else
            x86_alu(as, false, X86_XOR, dst, dst);
        done_minus = x86_jump_later(as, true);
    }
    x86_patch(as, by_zero, true, as->size);
    if (op->alu == BPF_DIV)
        x86_alu(as, false, X86_XOR, dst, dst);
    else if (!op->wide)
        x86_mov(as, false, dst, dst);
    x86_patch(as, done, true, as->size);
    if (op->sign)
        x86_patch(as, done_minus, true, as->size);
}

/* ---- atomics ---------------------------------------------------------------------------- */

/* And, or, xor that give the old value: try until nobody came between. The old value must be in
 * rax; the new one is made in src, or in rdx if src is rax itself. */
static void fetch_loop(struct jit_code *code, const struct jit_op *op, struct x86_mem mem,
                       enum x86_alu alu)
{
    struct x86_asm *as = &code->as;
    const unsigned src = reg(op->src), made = src == RAX ? RDX : src, kept = src == RAX ? RDX : RAX;
    x86_rm(as, 8, X86_LEA, RDI, mem);
    x86_mov(as, true, R10, src);
    x86_push(as, kept);
    x86_rm(as, op->size, X86_MOV_LOAD, RAX, at(RDI, 0));
    const size_t again = as->size;
    x86_mov(as, true, made, RAX);
    x86_alu(as, op->wide, alu, made, R10);
    x86_lock_rm(as, op->size, X86_CMPXCHG, made, at(RDI, 0));
    x86_jump_if(as, CC_NE, again);
    if (src != RAX)
        x86_mov(as, op->wide, src, RAX);
    x86_pop(as, kept);
}

void jit_emit_atomic(struct jit_code *code, const struct jit_op *op, struct x86_mem mem)
{
    struct x86_asm *as = &code->as;
    const unsigned src = reg(op->src);
    const unsigned alu = (unsigned)op->imm & BPF_OP(0xff);
    switch (op->imm) {
    case BPF_CMPXCHG:
        x86_lock_rm(as, op->size, X86_CMPXCHG, src, mem);
        if (!op->wide) /* eax is not written if they were equal */
            x86_mov(as, false, RAX, RAX);
        return;
    case BPF_XCHG:
        x86_rm(as, op->size, X86_XCHG, src, mem);
        return;
    case BPF_ATOMIC_ADD | BPF_FETCH:
        x86_lock_rm(as, op->size, X86_XADD, src, mem);
        return;
    }
    const enum x86_alu n = alu == BPF_ATOMIC_ADD   ? X86_ADD
                           : alu == BPF_ATOMIC_OR  ? X86_OR
                           : alu == BPF_ATOMIC_AND ? X86_AND
                                                   : X86_XOR;
    if (op->imm & BPF_FETCH)
        fetch_loop(code, op, mem, n);
    else
        x86_lock_rm(as, op->size, 8 * n + 1, src, mem);
}

/* ---- calls ------------------------------------------------------------------------------ */

static const uint8_t kept[] = {RBX, R13, R14, R15}; /* r6 to r9 */

/* Before the call itself: rdi is the vm, r11 is saved. After it: it may have failed; r1 to r5 hold
 * what the host left there. */
static void after_helper(struct jit_code *code, jit_mask live)
{
    struct x86_asm *as = &code->as;
    x86_rm(as, 8, X86_MOV_LOAD, R10, at(RSP, 0));
    x86_rm(as, 8, X86_MOV_LOAD, JIT_TICKS, at(R10, VM(ticks)));
    x86_alu_mem_imm(as, 4, X86_CMP, at(R10, VM(error)), 0);
    x86_jump_if(as, CC_NE, code->unwind);
    for (unsigned r = 1; r <= 5; r++)
        if (live & JIT_BIT(r))
            x86_alu(as, false, X86_XOR, reg(r), reg(r));
}

static void before_helper(struct jit_code *code)
{
    x86_rm(&code->as, 8, X86_MOV_LOAD, RDI, at(RSP, 0));
    x86_rm(&code->as, 8, X86_MOV_STORE, JIT_TICKS, at(RDI, VM(ticks)));
}

static void call_helper(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    const struct bpf_helper *helper = bpf_helper_find(code->prog->environment, (uint64_t)op->imm);
    if (!helper) {
        x86_mov_imm(as, RDI, op->insn);
        x86_jump(as, code->no_function);
        return;
    }
    before_helper(code);
    x86_store_imm(as, 4, at(RDI, VM(fault)), (int32_t)op->insn);
    x86_mov_imm(as, RAX, (uint64_t)(uintptr_t)helper->function);
    x86_call_reg(as, RAX);
    after_helper(code, op->live);
}

static void check_depth(struct jit_code *code, const struct jit_op *op)
{
    const struct bpf_span *stack = &code->prog->layout.spans[BPF_SPAN_STACK];
    const uint64_t deepest = stack->start + stack->size - (BPF_MAX_DEPTH - 1) * BPF_FRAME_SIZE;
    x86_alu_imm(&code->as, true, X86_CMP, JIT_FP, (int32_t)deepest);
    jit_stub_if(code, CC_BE, JIT_STUB_DEEP, op->insn);
}

static void enter(struct jit_code *code)
{
    x86_rm(&code->as, 8, X86_MOV_LOAD, RDI, at(RSP, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        x86_push(&code->as, kept[i]);
    x86_alu_imm(&code->as, true, X86_SUB, JIT_FP, BPF_FRAME_SIZE);
}

static void leave(struct jit_code *code)
{
    x86_alu_imm(&code->as, true, X86_ADD, JIT_FP, BPF_FRAME_SIZE);
    for (unsigned i = ARRAY_SIZE(kept); i-- > 0;)
        x86_pop(&code->as, kept[i]);
}

static void call_local(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    const struct bpf_function_info *functions = code->prog->code.functions;
    const struct bpf_function_info *f = bpf_code_function(&code->prog->code, (uint32_t)op->imm);
    check_depth(code, op);
    x86_alu_imm(as, true, X86_SUB, JIT_TICKS, (int32_t)f->count);
    jit_emit_tick(code, op->insn);
    enter(code);
    const size_t call = x86_call_later(as);
    if (jit_grow(code, (void **)&code->calls, code->call_count, &code->call_capacity,
                 sizeof(*code->calls)))
        code->calls[code->call_count++] = (struct jit_call){call, (uint32_t)(f - functions)};
    leave(code);
}

/* A function's address, or a helper's number: jit_resolve() knows. */
static void call_register(struct jit_code *code, const struct jit_op *op)
{
    struct x86_asm *as = &code->as;
    x86_mov(as, true, R10, reg(op->dst));
    x86_mov_imm(as, RDI, op->insn);
    x86_call(as, code->resolve); /* r10: where; rdi: the number of instructions */
    x86_rr(as, true, X86_TEST, RDI, RDI);
    const size_t helper = x86_jump_if_later(as, CC_E, false);
    check_depth(code, op);
    x86_alu(as, true, X86_SUB, JIT_TICKS, RDI);
    jit_emit_tick(code, op->insn);
    enter(code);
    x86_call_reg(as, R10);
    leave(code);
    const size_t done = x86_jump_later(as, false);
    x86_patch(as, helper, false, as->size);
    before_helper(code);
    x86_call_reg(as, R10);
    after_helper(code, op->live);
    x86_patch(as, done, false, as->size);
}

void jit_emit_call(struct jit_code *code, const struct jit_op *op)
{
    if (op->kind == JIT_HELPER)
        call_helper(code, op);
    else if (op->kind == JIT_LOCAL)
        call_local(code, op);
    else
        call_register(code, op);
}

bool jit_grow(struct jit_code *code, void **array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    const uint32_t more = *capacity ? *capacity * 2 : 64;
    void *grown = base_alloc_array(more, size);
    if (!grown) {
        code->as.failed = true;
        return false;
    }
    if (count)
        __builtin_memcpy(grown, *array, count * size);
    base_free(*array);
    *array = grown;
    *capacity = more;
    return true;
}
