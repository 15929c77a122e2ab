/* Compiled code: how a run enters and leaves, and what all functions share. See x86.h. */
#include "bpf/jit/x86.h"

#include <errno.h>

#include "base/util.h"

#define VM(field) offsetof(struct bpf_vm, field)

static struct x86_mem at(unsigned base, size_t disp)
{
    return (struct x86_mem){(uint8_t)base, X86_NONE, 0, (int32_t)disp};
}

/* What the C compiler wants kept. */
static const uint8_t host[] = {RBP, RBX, R12, R13, R14, R15};

static uint64_t stack_end(const struct jit_code *code)
{
    const struct bpf_span *stack = &code->prog->layout.spans[BPF_SPAN_STACK];
    return stack->start + stack->size;
}

/* Below the host's registers: where r0 goes, twice, and the vm. */
enum { ENTRY_PLACES = 3 * 8, ENTRY_SAVED = 4 * 8 /* as a local call has r6 to r9 there */ };

static void emit_leave(struct jit_code *code)
{
    for (unsigned i = ARRAY_SIZE(host); i-- > 0;)
        x86_pop(&code->as, host[i]);
    x86_ret(&code->as);
}

/* int entry(struct bpf_vm *vm, uint64_t *r0) */
static void emit_entry(struct jit_code *code)
{
    struct x86_asm *as = &code->as;
    for (unsigned i = 0; i < ARRAY_SIZE(host); i++)
        x86_push(as, host[i]);
    x86_push(as, RSI);
    x86_push(as, RSI);
    x86_push(as, RDI);
    x86_rm(as, 8, X86_MOV_LOAD, JIT_BASE, at(RDI, VM(memory)));
    x86_alu_imm(as, true, X86_SUB, JIT_BASE, (int32_t)BPF_ADDRESS);
    x86_rm(as, 8, X86_MOV_LOAD, JIT_TICKS, at(RDI, VM(ticks)));
    for (unsigned r = 0; r < BPF_FP; r++)
        x86_mov_imm(as, jit_x86_register[r],
                    r >= 1 && r <= 5 ? bpf_prog_entry_value(code->prog, r) : 0);
    x86_mov_imm(as, JIT_FP, stack_end(code));
    x86_alu_imm(as, true, X86_SUB, RSP, ENTRY_SAVED);
    const struct bpf_code *c = &code->prog->code;
    const size_t call = x86_call_later(as);
    if (jit_grow(code, (void **)&code->calls, code->call_count, &code->call_capacity,
                 sizeof(*code->calls)))
        code->calls[code->call_count++] = (struct jit_call){
            call, (uint32_t)(bpf_code_function(c, code->prog->entry) - c->functions)};
    x86_alu_imm(as, true, X86_ADD, RSP, ENTRY_SAVED);
    x86_pop(as, RDI);
    x86_rm(as, 8, X86_MOV_STORE, JIT_TICKS, at(RDI, VM(ticks)));
    x86_pop(as, RSI);
    x86_pop(as, RSI);
    x86_rm(as, 8, X86_MOV_STORE, RAX, at(RSI, 0));
    x86_alu(as, false, X86_XOR, RAX, RAX);
    emit_leave(code);
}

/* The run has failed, in a function that may be called by others: r10 tells how many. */
static void emit_unwind(struct jit_code *code)
{
    struct x86_asm *as = &code->as;
    code->unwind = as->size;
    x86_mov_imm(as, RAX, stack_end(code));
    x86_alu(as, true, X86_SUB, RAX, JIT_FP);
    _Static_assert(BPF_FRAME_SIZE * 3 >> 5 == JIT_FRAME, "3 / 32 of one stack is the other");
    x86_rm(as, 8, X86_LEA, RAX, (struct x86_mem){RAX, RAX, 1, 0});
    x86_shift_imm(as, true, X86_SHR, RAX, 5);
    x86_alu(as, true, X86_ADD, RSP, RAX);
    x86_pop(as, RDI);
    x86_rm(as, 8, X86_MOV_STORE, JIT_TICKS, at(RDI, VM(ticks)));
    x86_rm(as, 4, X86_MOV_LOAD, RAX, at(RDI, VM(error)));
    x86_alu_imm(as, true, X86_ADD, RSP, 8 + ENTRY_SAVED + ENTRY_PLACES);
    emit_leave(code);
}

/* edi: the instruction. Its position. */
static size_t emit_failure(struct jit_code *code, int error)
{
    struct x86_asm *as = &code->as;
    const size_t position = as->size;
    x86_rm(as, 8, X86_MOV_LOAD, R10, at(RSP, 0));
    x86_rm(as, 4, X86_MOV_STORE, RDI, at(R10, VM(fault)));
    x86_store_imm(as, 4, at(R10, VM(error)), error);
    x86_jump(as, code->unwind);
    return position;
}

/* What a C function may change and the program may need. With what was pushed before, and the
 * place where to return, they keep the stack a multiple of 16. */
static const uint8_t caller[] = {RAX, RSI, RDX, RCX, R8, R9};

static void push_caller(struct jit_code *code)
{
    for (unsigned i = 0; i < ARRAY_SIZE(caller); i++)
        x86_push(&code->as, caller[i]);
}

static void pop_caller(struct jit_code *code)
{
    for (unsigned i = ARRAY_SIZE(caller); i-- > 0;)
        x86_pop(&code->as, caller[i]);
}

static void call_c(struct jit_code *code, uintptr_t function)
{
    x86_mov_imm(&code->as, RAX, function);
    x86_call_reg(&code->as, RAX);
}

/* r11 is below 0; edi: the instruction. Keeps all but edi. */
static void emit_tick(struct jit_code *code)
{
    struct x86_asm *as = &code->as;
    code->tick = as->size;
    x86_push(as, R10);
    x86_rm(as, 8, X86_MOV_LOAD, R10, at(RSP, 16));
    x86_rm(as, 4, X86_MOV_STORE, RDI, at(R10, VM(fault)));
    x86_rm(as, 8, X86_MOV_STORE, JIT_TICKS, at(R10, VM(ticks)));
    push_caller(code);
    x86_mov(as, true, RDI, R10);
    call_c(code, (uintptr_t)bpf_vm_tick);
    x86_mov(as, false, RDI, RAX);
    pop_caller(code);
    x86_rm(as, 8, X86_MOV_LOAD, R10, at(RSP, 16));
    x86_rm(as, 8, X86_MOV_LOAD, JIT_TICKS, at(R10, VM(ticks)));
    x86_pop(as, R10);
    x86_rr(as, false, X86_TEST, RDI, RDI);
    const size_t fails = x86_jump_if_later(as, CC_NE, true);
    x86_ret(as);
    x86_patch(as, fails, true, as->size);
    x86_alu_imm(as, true, X86_ADD, RSP, 8);
    x86_jump(as, code->unwind);
}

/* callx: r10 is the value, edi the instruction; gives r10 and rdi as jit_resolve() does. */
static void emit_resolve(struct jit_code *code)
{
    struct x86_asm *as = &code->as;
    code->resolve = as->size;
    x86_push(as, R11);
    push_caller(code);
    x86_mov(as, false, RCX, RDI);
    x86_rm(as, 8, X86_MOV_LOAD, RDI, at(RSP, 8 + 8 + sizeof(caller) * 8));
    x86_rm(as, 4, X86_MOV_STORE, RCX, at(RDI, VM(fault)));
    x86_mov(as, true, RSI, R10);
    x86_alu_imm(as, true, X86_SUB, RSP, 16);
    x86_mov(as, true, RDX, RSP);
    call_c(code, (uintptr_t)jit_resolve);
    x86_mov(as, true, R10, RAX);
    x86_pop(as, RDI);
    x86_alu_imm(as, true, X86_ADD, RSP, 8);
    pop_caller(code);
    x86_pop(as, R11);
    x86_rr(as, true, X86_TEST, R10, R10);
    const size_t fails = x86_jump_if_later(as, CC_E, true);
    x86_ret(as);
    x86_patch(as, fails, true, as->size);
    x86_alu_imm(as, true, X86_ADD, RSP, 8);
    x86_rm(as, 8, X86_MOV_LOAD, R10, at(RSP, 0));
    x86_store_imm(as, 4, at(R10, VM(error)), -EINVAL);
    x86_jump(as, code->unwind);
}

void jit_emit_common(struct jit_code *code)
{
    emit_entry(code);
    emit_unwind(code);
    code->fault = emit_failure(code, -EFAULT);
    code->deep = emit_failure(code, -ELOOP);
    code->no_function = emit_failure(code, -EINVAL);
    emit_tick(code);
    emit_resolve(code);
}
