/*
 * bpf/jit/x86.h: what the passes of the compiler for x86-64 hand to one another.
 *
 * One function of the program at a time:
 *
 *   flow  (x86_flow.c)   instructions become operations in basic blocks; jumps become edges
 *   live  (x86_live.c)   which registers are still needed at the end of each block
 *   moves (x86_moves.c)  short branches become conditional moves
 *   fuse  (x86_fuse.c)   operations that the machine can do in one become one
 *   base  (x86_base.c)   an address that seldom changes is translated seldom
 *   emit  (x86_emit.c, x86_op.c)  blocks in a good order, operations to machine code
 *
 * All memory of a function is in struct jit_function, freed when its code is written.
 */
#ifndef BPF_JIT_X86_H
#define BPF_JIT_X86_H

#include "bpf/jit/x86_asm.h"
#include "bpf/vm.h"

/* ---- registers -------------------------------------------------------------------------- */

/* Numbers of registers in operations: r0 to r10 are the program's. */
enum {
    JIT_T0 = 11, /* scratch; only conditional moves have them live from one operation to another */
    JIT_T1 = 12,
    JIT_REGISTERS = 13,
    JIT_FLAGS = 13, /* in masks: the processor's flags */
    JIT_NONE = 15,
};

/* Sets of registers, a bit each. */
typedef uint16_t jit_mask;
#define JIT_BIT(reg)  ((jit_mask)(1u << (reg)))
#define JIT_ARGUMENTS ((jit_mask)0x3e)  /* r1 to r5 */
#define JIT_PROGRAM   ((jit_mask)0x7ff) /* r0 to r10 */

/* ---- operations ------------------------------------------------------------------------- */

enum jit_kind {
    JIT_NOP,
    JIT_MOV,       /* dst = src; narrow: its low 32 bits */
    JIT_IMM,       /* dst = imm, all 64 bits */
    JIT_EXTEND,    /* dst = low `size` bytes of src, sign-extended; narrow: to 32 bits */
    JIT_ALU,       /* dst = dst alu src or imm */
    JIT_SWAP,      /* dst = the low `size` bytes of dst, swapped */
    JIT_LEA,       /* dst = address: base + (index << scale) + disp */
    JIT_TRANSLATE, /* dst = src as an address of the process */
    JIT_LOAD,      /* dst = [address]; sign: sign-extended */
    JIT_STORE,     /* [address] = src or imm */
    JIT_UPDATE,    /* [address] = [address] alu src or imm */
    JIT_ATOMIC,    /* imm says which */
    JIT_HELPER,    /* imm */
    JIT_LOCAL,     /* imm: first instruction of the function */
    JIT_CALLX,     /* dst */
    /* With flags. Nothing between COMPARE and the last that looks at its flags changes them; no
     * flags live from block to block. */
    JIT_COMPARE,  /* dst, or [address] if size, with src or imm */
    JIT_TEST,     /* dst & src or imm */
    JIT_SET,      /* dst = cc ? 1 : 0 */
    JIT_SET8,     /* the same, where dst is 0 already */
    JIT_CMOV,     /* if (cc) dst = src */
    JIT_TICKS_IF, /* if (cc) ticks += imm, a small number; T0 and T1 are free */
    JIT_TICKS_BY, /* ticks += src << scale */
};

struct jit_op {
    uint32_t prev, next; /* in its block; 0: none */
    uint32_t insn;       /* that it comes from, for faults */
    uint8_t kind;        /* enum jit_kind */
    uint8_t alu;         /* enum bpf_alu */
    uint8_t dst, src;    /* src JIT_NONE: imm */
    uint8_t base, index, scale;
    uint8_t size;  /* of memory, in bytes */
    uint8_t cc;    /* enum x86_cc */
    bool wide;     /* 64 bits */
    bool sign;     /* signed division, sign-extended load */
    bool safe;     /* the address needs no check */
    bool low;      /* COMPARE: only the low byte of dst */
    bool based;    /* T1 is base, translated */
    jit_mask live; /* needed after it, by jit_live_ops() */
    int32_t disp;
    int64_t imm;
};

/* ---- blocks ----------------------------------------------------------------------------- */

enum jit_end {
    JIT_END_EXIT,
    JIT_END_JUMP,   /* to next */
    JIT_END_BRANCH, /* to taken if cc, else to next; the last operation is COMPARE or TEST */
};

struct jit_edge {
    uint32_t block;
    uint32_t ticks; /* 0: a forward jump */
};

struct jit_block {
    uint32_t head, tail; /* operations; 0: none */
    uint32_t insn;       /* the first */
    uint32_t last;       /* the instruction that ends it */
    uint8_t end;         /* enum jit_end */
    uint8_t cc;          /* enum x86_cc */
    struct jit_edge taken, next;
    uint32_t from;    /* how many edges come here */
    jit_mask live_in; /* registers */
    jit_mask live_out;

    /* emit */
    bool placed;
    bool loop;           /* something behind it jumps back to it; */
    uint32_t loop_last;  /* the last block that does */
    uint32_t number;     /* in the order of the code */
    uint32_t trace;      /* number of the first block of those that follow one another to it, */
    uint32_t origin;     /* and of the one whose branch leads there */
    uint32_t follower;   /* in the order of the code; JIT_NO_BLOCK: the last */
    uint32_t head_ticks; /* 0, or: a tick of as many stands before its code, for jumps back */
    size_t position, tick_position, end_position;
};
#define JIT_NO_BLOCK UINT32_MAX

struct jit_function {
    const struct bpf_prog *prog;
    const struct bpf_function_info *info;
    struct jit_op *ops; /* [0] is not used */
    uint32_t op_count, op_capacity;
    struct jit_block *blocks; /* [0] is the entry */
    uint32_t block_count;
    jit_mask exit_live; /* what may be looked at after exit */
};

int jit_flow(struct jit_function *f); /* 0 or -ENOMEM; jit_function_fini() in any case */
void jit_function_fini(struct jit_function *f);
void jit_live(struct jit_function *f); /* live_in and live_out of all blocks */
void jit_live_ops(struct jit_function *f, struct jit_block *block); /* live of its operations */
void jit_moves(struct jit_function *f);
void jit_fuse(struct jit_function *f);
int jit_base(struct jit_function *f, bool shiftx); /* 0 or -ENOMEM */

/* What an operation reads and writes. */
jit_mask jit_reads(const struct jit_op *op);
jit_mask jit_writes(const struct jit_op *op);
/* Whether it only computes a register: it may go if nobody looks, and be done too early. */
bool jit_pure(const struct jit_op *op);

/* A new operation, at the end of a block or before another. NULL: no room (never, in practice:
 * there is room for twice the instructions); then nothing has changed. */
struct jit_op *jit_op_add(struct jit_function *f, struct jit_block *block, struct jit_op op);
struct jit_op *jit_op_add_before(struct jit_function *f, struct jit_block *block,
                                 struct jit_op *where, struct jit_op op);
void jit_op_remove(struct jit_function *f, struct jit_block *block, struct jit_op *op);
static inline struct jit_op *jit_op_next(const struct jit_function *f, const struct jit_op *op)
{
    return op->next ? &f->ops[op->next] : NULL;
}
static inline struct jit_op *jit_op_prev(const struct jit_function *f, const struct jit_op *op)
{
    return op->prev ? &f->ops[op->prev] : NULL;
}
static inline struct jit_op *jit_head(const struct jit_function *f, const struct jit_block *block)
{
    return block->head ? &f->ops[block->head] : NULL;
}
static inline struct jit_op *jit_tail(const struct jit_function *f, const struct jit_block *block)
{
    return block->tail ? &f->ops[block->tail] : NULL;
}

/* ---- code ------------------------------------------------------------------------------- */

enum jit_stub_kind {
    JIT_STUB_TICK,  /* ticks is below 0: ask, and go back */
    JIT_STUB_FAULT, /* outside of the arena */
    JIT_STUB_DEEP,  /* too many calls */
    JIT_STUB_EDGE,  /* a branch whose jump takes ticks */
};

/* What is seldom done is written behind the function. */
struct jit_stub {
    uint8_t kind;  /* enum jit_stub_kind */
    bool is_short; /* the jump to it */
    size_t at;
    size_t back; /* TICK */
    uint32_t insn;
    struct jit_edge edge; /* EDGE */
};

/* A jump to a block, filled in at the end of the function. */
struct jit_jump {
    size_t at;
    uint32_t block;
    bool is_short;
    bool tick; /* to the tick before the block */
};

/* A call of another function, filled in at the end of all. */
struct jit_call {
    size_t at;
    uint32_t function;
};

struct jit_code {
    const struct bpf_prog *prog;
    struct x86_asm as;
    bool shiftx;    /* the processor has BMI2 */
    size_t *starts; /* of functions */
    struct jit_call *calls;
    uint32_t call_count, call_capacity;
    /* Positions of the common routines. */
    size_t tick, fault, deep, no_function, unwind, resolve;

    /* Of the function that is written now. */
    const struct jit_function *function;
    struct jit_stub *stubs;
    uint32_t stub_count, stub_capacity;
    struct jit_jump *jumps;
    uint32_t jump_count, jump_capacity;
    bool guess;  /* positions of blocks are known from a pass before */
    bool missed; /* a jump that was guessed to be short is not */
};

/* The processor's register of one in an operation. */
extern const uint8_t jit_x86_register[JIT_REGISTERS];
#define JIT_BASE  R12 /* of the arena, less BPF_ADDRESS */
#define JIT_TICKS R11
#define JIT_FP    RBP

/* Bytes that a local call takes of the processor's stack: r6 to r9, where to return, the vm. */
#define JIT_FRAME 48

/* Routines that all functions share (x86_common.c). In a function, [rsp] is the vm, and rsp is
 * a multiple of 16. */
void jit_emit_common(struct jit_code *code);

void jit_emit_function(struct jit_code *code, struct jit_function *f); /* x86_emit.c */

/* One operation (x86_op.c, x86_call.c). */
void jit_emit_op(struct jit_code *code, const struct jit_op *op);
void jit_emit_divide(struct jit_code *code, const struct jit_op *op);
void jit_emit_atomic(struct jit_code *code, const struct jit_op *op, struct x86_mem mem);
void jit_emit_call(struct jit_code *code, const struct jit_op *op);

/* Make sure that ticks is not below 0, after it was lowered. */
void jit_emit_tick(struct jit_code *code, uint32_t insn);
/* Under a condition, do what is rare. */
void jit_stub_if(struct jit_code *code, enum x86_cc cc, enum jit_stub_kind kind, uint32_t insn);

/* Room for one more in an array; false, and as.failed: no memory. */
bool jit_grow(struct jit_code *code, void **array, uint32_t count, uint32_t *capacity, size_t size);

/* bpf_jit_compile(); shiftx: use BMI2, which this processor must have. */
struct bpf_jit *jit_compile(const struct bpf_prog *prog, bool shiftx);

/* Where compiled code goes for callx: the address of a function or a helper; 0: there is none.
 * *count: the function's instructions; 0: a helper. */
uint64_t jit_resolve(struct bpf_vm *vm, uint64_t value, uint64_t *count);

#endif
