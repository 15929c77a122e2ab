/* bpf/insn.h: the instructions of RFC 9669, sections 3 to 5, as numbers. */
#ifndef BPF_INSN_H
#define BPF_INSN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

struct bpf_insn {
    uint8_t opcode;
    uint8_t dst : 4; /* little-endian layout: the low half of the second byte */
    uint8_t src : 4;
    int16_t offset;
    int32_t imm;
};

#define BPF_INSN_SIZE 8

/* From the bytes of a file, little-endian. */
static inline struct bpf_insn bpf_insn_read(const uint8_t *p)
{
    return (struct bpf_insn){.opcode = p[0],
                             .dst = p[1] & 15u,
                             .src = (p[1] >> 4) & 15u,
                             .offset = (int16_t)(p[2] | p[3] << 8),
                             .imm = (int32_t)load_le32(p + 4)};
}

#define BPF_REGISTERS 11 /* r0 to r10 */
#define BPF_FP        10 /* r10, the frame pointer: the end of this function's stack */

/* opcode: bits 0 to 2 are the class. */
enum bpf_class {
    BPF_LD = 0,  /* 64-bit immediates only */
    BPF_LDX = 1, /* load from memory */
    BPF_ST = 2,  /* store an immediate */
    BPF_STX = 3, /* store a register, and atomics */
    BPF_ALU = 4, /* 32 bit */
    BPF_JMP = 5, /* 64-bit comparisons, call, exit */
    BPF_JMP32 = 6,
    BPF_ALU64 = 7,
};
#define BPF_CLASS(opcode) ((opcode)&7u)

/* Arithmetic and jumps: bit 3 is the source, bits 4 to 7 the operation. */
#define BPF_K              0u
#define BPF_X              8u
#define BPF_SOURCE(opcode) ((opcode)&8u)
#define BPF_OP(opcode)     ((opcode)&0xf0u)

enum bpf_alu {
    BPF_ADD = 0x00,
    BPF_SUB = 0x10,
    BPF_MUL = 0x20,
    BPF_DIV = 0x30, /* offset 1: signed */
    BPF_OR = 0x40,
    BPF_AND = 0x50,
    BPF_LSH = 0x60,
    BPF_RSH = 0x70,
    BPF_NEG = 0x80,
    BPF_MOD = 0x90, /* offset 1: signed */
    BPF_XOR = 0xa0,
    BPF_MOV = 0xb0, /* offset 8, 16, 32: sign-extended from that many bits */
    BPF_ARSH = 0xc0,
    BPF_END = 0xd0, /* ALU: K to little-endian, X to big-endian; ALU64: swap; imm is the width */
};

enum bpf_jump {
    BPF_JA = 0x00, /* JMP: by offset; JMP32: by imm */
    BPF_JEQ = 0x10,
    BPF_JGT = 0x20,
    BPF_JGE = 0x30,
    BPF_JSET = 0x40,
    BPF_JNE = 0x50,
    BPF_JSGT = 0x60,
    BPF_JSGE = 0x70,
    BPF_CALL = 0x80, /* src 0: helper imm; src 1: local function, bpf_code_target(); X: callx */
    BPF_EXIT = 0x90,
    BPF_JLT = 0xa0,
    BPF_JLE = 0xb0,
    BPF_JSLT = 0xc0,
    BPF_JSLE = 0xd0,
};
enum { BPF_CALL_HELPER = 0, BPF_CALL_LOCAL = 1 };

/* Loads and stores: bits 3 and 4 are the size, bits 5 to 7 the mode. */
#define BPF_SIZE(opcode) ((opcode)&0x18u)
#define BPF_MODE(opcode) ((opcode)&0xe0u)
enum { BPF_W = 0x00, BPF_H = 0x08, BPF_B = 0x10, BPF_DW = 0x18 };
enum { BPF_IMM = 0x00, BPF_MEM = 0x60, BPF_MEMSX = 0x80, BPF_ATOMIC = 0xc0 };

/* Atomics (STX with BPF_ATOMIC, sizes W and DW): imm. */
enum bpf_atomic {
    BPF_ATOMIC_ADD = BPF_ADD,
    BPF_ATOMIC_OR = BPF_OR,
    BPF_ATOMIC_AND = BPF_AND,
    BPF_ATOMIC_XOR = BPF_XOR,
    BPF_FETCH = 0x01, /* the old value goes to src */
    BPF_XCHG = 0xe1,
    BPF_CMPXCHG = 0xf1, /* compares with r0; the old value goes to r0 */
};

#define BPF_LDDW (BPF_LD | BPF_IMM | BPF_DW) /* two slots; the second has opcode 0 */

/* src of LDDW (RFC 9669, section 5.4, table 12). The loader leaves only these. */
enum {
    BPF_LDDW_NUMBER = 0,
    BPF_LDDW_FUNCTION = 4, /* the function at bpf_code_target(), for callx. (The value is
                              BPF_CODE_ADDRESS + its first instruction.) */
    BPF_LDDW_GLOBAL = 6,   /* byte `imm of the second slot` of global section imm */
};
enum { BPF_GLOBAL_RODATA = 0, BPF_GLOBAL_DATA = 1 };

#define BPF_CODE_ADDRESS UINT64_C(0xc0de00000000)

static inline unsigned bpf_access_size(uint8_t opcode)
{
    static const uint8_t size[] = {4, 2, 1, 8};
    return size[BPF_SIZE(opcode) >> 3];
}

#endif
