/*
 * bpf/ops.h: instructions as the interpreter wants them.
 *
 * The encoding of RFC 9669 spreads what an instruction does over opcode, offset and imm. Here one
 * number says it all, operands are in place, and what is known before a program runs (addresses of
 * globals, functions of helpers, where a jump goes) is worked out once.
 */
#ifndef BPF_OPS_H
#define BPF_OPS_H

#include <stdint.h>

/* clang-format off */

/* Operations on two numbers: each in 64 and 32 bits, with an immediate and with a register. */
#define BPF_OPS_BINARY(X) \
    X(ADD) X(SUB) X(MUL) X(DIV) X(SDIV) X(OR) X(AND) X(LSH) X(RSH) X(MOD) X(SMOD) X(XOR) X(MOV) \
    X(ARSH)

/* Comparisons; the same four. */
#define BPF_OPS_COMPARE(X) \
    X(JEQ) X(JGT) X(JGE) X(JSET) X(JNE) X(JSGT) X(JSGE) X(JLT) X(JLE) X(JSLT) X(JSLE)

/* Atomics, in 64 and 32 bits. */
#define BPF_OPS_ATOMIC(X) \
    X(ADD) X(OR) X(AND) X(XOR) X(FETCH_ADD) X(FETCH_OR) X(FETCH_AND) X(FETCH_XOR) X(XCHG) \
    X(CMPXCHG)

/* Sizes of loads and stores. */
#define BPF_OPS_SIZE(X) X(8) X(16) X(32) X(64)

/*
 * The rest. LOADSn: with a sign. SIGNm_n: from m bits to n. ZEROn: all above n bits is 0.
 * CALL_HELPER: imm is its index in the environment; CALL_NOTHING: there is no such helper.
 * CALL_LOCAL: imm is its number of instructions. CALL_REGISTER: callx of src.
 */
#define BPF_OPS_OTHER(X) \
    X(LOADS8) X(LOADS16) X(LOADS32) X(NEG64) X(NEG32) X(SIGN8_64) X(SIGN16_64) X(SIGN32_64) \
    X(SIGN8_32) X(SIGN16_32) X(ZERO16) X(ZERO32) X(SWAP16) X(SWAP32) X(SWAP64) X(NOTHING) \
    X(LDDW) X(JUMP) X(CALL_HELPER) X(CALL_NOTHING) X(CALL_LOCAL) X(CALL_REGISTER) X(EXIT)

enum bpf_op_code {
#define X(name) OP_##name##64_K, OP_##name##64_X, OP_##name##32_K, OP_##name##32_X,
    BPF_OPS_BINARY(X) BPF_OPS_COMPARE(X)
#undef X
#define X(name) OP_ATOMIC_##name##64, OP_ATOMIC_##name##32,
    BPF_OPS_ATOMIC(X)
#undef X
#define X(size) OP_LOAD##size, OP_STORE##size##_K, OP_STORE##size##_X,
    BPF_OPS_SIZE(X)
#undef X
#define X(name) OP_##name,
    BPF_OPS_OTHER(X)
#undef X
};

/* clang-format on */

struct bpf_op {
    uint16_t code;
    uint8_t dst, src;
    int32_t offset; /* of memory; of jumps and calls, from this op to the next */
    uint64_t imm;   /* sign-extended */
};

#endif
