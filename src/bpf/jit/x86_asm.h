/*
 * bpf/jit/x86_asm.h: x86-64 machine code, one instruction a call.
 *
 * Only what the compiler needs, on general registers. Code is written to a growing buffer; a
 * position is a number of bytes from its start. When there is no memory, `failed` is set and
 * nothing more is written: the caller looks once, at the end. (Intel SDM, volume 2, chapter 2.)
 */
#ifndef BPF_JIT_X86_ASM_H
#define BPF_JIT_X86_ASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum x86_reg {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    X86_NONE,
};

/* Conditions; the opposite of c is c ^ 1. */
enum x86_cc {
    CC_B = 2,
    CC_AE = 3,
    CC_E = 4,
    CC_NE = 5,
    CC_BE = 6,
    CC_A = 7,
    CC_S = 8,
    CC_NS = 9,
    CC_L = 12,
    CC_GE = 13,
    CC_LE = 14,
    CC_G = 15,
};

/* [base + (index << scale) + disp]; either may be X86_NONE, not both. */
struct x86_mem {
    uint8_t base, index, scale;
    int32_t disp;
};

struct x86_asm {
    uint8_t *code;
    size_t size, capacity;
    bool failed;
};

/* Opcodes, as x86_rr() and x86_rm() take them: with 0x0f before if above 0xff. */
enum {
    X86_MOV_STORE = 0x89,
    X86_MOV_LOAD = 0x8b,
    X86_LEA = 0x8d,
    X86_TEST = 0x85,
    X86_XCHG = 0x87,
    X86_MOVSXD = 0x63,
    X86_IMUL = 0x0faf,
    X86_CMOV = 0x0f40, /* + condition */
    X86_MOVZX8 = 0x0fb6,
    X86_MOVZX16 = 0x0fb7,
    X86_MOVSX8 = 0x0fbe,
    X86_MOVSX16 = 0x0fbf,
    X86_XADD = 0x0fc1,
    X86_CMPXCHG = 0x0fb1,
};

/* The eight operations that share encodings: `op r/m, r` is 8 * n + 1, `op r, r/m` 8 * n + 3. */
enum x86_alu {
    X86_ADD,
    X86_OR,
    X86_ADC,
    X86_SBB,
    X86_AND,
    X86_SUB,
    X86_XOR,
    X86_CMP,
};
enum x86_shift { X86_ROL = 0, X86_SHL = 4, X86_SHR = 5, X86_SAR = 7 };
enum x86_unary { X86_NOT = 2, X86_NEG = 3, X86_DIV = 6, X86_IDIV = 7 }; /* 0xf7 */

void x86_byte(struct x86_asm *as, unsigned byte);
void x86_le32(struct x86_asm *as, uint32_t value);
void x86_le64(struct x86_asm *as, uint64_t value);

/* reg: what the opcode names first in its ModRM byte; wide: 64 bits, else 32. */
void x86_rr(struct x86_asm *as, bool wide, unsigned opcode, unsigned reg, unsigned rm);
/* The same for movzx and movsx from the low byte of rm. */
void x86_rr8(struct x86_asm *as, bool wide, unsigned opcode, unsigned reg, unsigned rm);
/* The same with memory. width: 1, 2, 4 or 8 bytes are those of reg. */
void x86_rm(struct x86_asm *as, unsigned width, unsigned opcode, unsigned reg, struct x86_mem mem);
/* The same, locked. */
void x86_lock_rm(struct x86_asm *as, unsigned width, unsigned opcode, unsigned reg,
                 struct x86_mem mem);

void x86_mov(struct x86_asm *as, bool wide, unsigned dst, unsigned src);
void x86_mov_imm(struct x86_asm *as, unsigned dst, uint64_t value); /* leaves flags alone */
void x86_alu(struct x86_asm *as, bool wide, enum x86_alu op, unsigned dst, unsigned src);
void x86_alu_imm(struct x86_asm *as, bool wide, enum x86_alu op, unsigned dst, int32_t imm);
/* op reg, [mem] */
void x86_alu_load(struct x86_asm *as, bool wide, enum x86_alu op, unsigned reg, struct x86_mem mem);
/* op [mem], reg; or imm */
void x86_alu_mem(struct x86_asm *as, unsigned width, enum x86_alu op, struct x86_mem mem,
                 unsigned reg);
void x86_alu_mem_imm(struct x86_asm *as, unsigned width, enum x86_alu op, struct x86_mem mem,
                     int32_t imm);
void x86_store_imm(struct x86_asm *as, unsigned width, struct x86_mem mem, int32_t imm);
void x86_test_imm(struct x86_asm *as, bool wide, unsigned reg, int32_t imm);
void x86_cmp8_imm(struct x86_asm *as, unsigned reg, unsigned imm); /* the low byte */
void x86_imul_imm(struct x86_asm *as, bool wide, unsigned dst, unsigned src, int32_t imm);
void x86_shift_imm(struct x86_asm *as, bool wide, enum x86_shift op, unsigned dst, unsigned count);
void x86_shift_cl(struct x86_asm *as, bool wide, enum x86_shift op, unsigned dst);
/* BMI2: dst = src shifted by count, flags left alone. */
void x86_shiftx(struct x86_asm *as, bool wide, enum x86_shift op, unsigned dst, unsigned src,
                unsigned count);
void x86_rol16(struct x86_asm *as, unsigned reg, unsigned count); /* 16-bit register */
void x86_unary(struct x86_asm *as, bool wide, enum x86_unary op, unsigned reg);
void x86_bswap(struct x86_asm *as, bool wide, unsigned reg);
void x86_sign_rax(struct x86_asm *as, bool wide); /* into rdx: cdq, cqo */
void x86_setcc(struct x86_asm *as, unsigned cc, unsigned reg);
void x86_push(struct x86_asm *as, unsigned reg);
void x86_pop(struct x86_asm *as, unsigned reg);
void x86_call_reg(struct x86_asm *as, unsigned reg);
void x86_jump_reg(struct x86_asm *as, unsigned reg);
void x86_ret(struct x86_asm *as);
void x86_nops(struct x86_asm *as, unsigned bytes);

/* Jumps and calls to a position that is known. Jumps are short where they can be. */
void x86_jump(struct x86_asm *as, size_t target);
void x86_jump_if(struct x86_asm *as, unsigned cc, size_t target);
void x86_call(struct x86_asm *as, size_t target);

/* To one that is not: they return where x86_patch() will put it. A short one reaches 127 bytes. */
size_t x86_jump_later(struct x86_asm *as, bool is_short);
size_t x86_jump_if_later(struct x86_asm *as, unsigned cc, bool is_short);
size_t x86_call_later(struct x86_asm *as);
/* false: it is too far for a short one. */
bool x86_patch(struct x86_asm *as, size_t at, bool is_short, size_t target);

#endif
