/* From instructions to what the interpreter runs. The code has passed bpf_code_check(). */
#include "bpf/ops.h"

#include "base/platform.h"
#include "bpf/vm.h"

/* The first of the four forms of an operation; then come 64_X, 32_K and 32_X. */
static unsigned form(unsigned first, bool narrow, uint8_t opcode)
{
    return first + (narrow ? 2u : 0u) + (BPF_SOURCE(opcode) == BPF_X ? 1u : 0u);
}

static unsigned decode_end(const struct bpf_insn *insn)
{
    const bool little = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
    const bool to_big = BPF_SOURCE(insn->opcode) == BPF_X;
    if (BPF_CLASS(insn->opcode) == BPF_ALU64 || to_big == little)
        return insn->imm == 16 ? OP_SWAP16 : insn->imm == 32 ? OP_SWAP32 : OP_SWAP64;
    return insn->imm == 16 ? OP_ZERO16 : insn->imm == 32 ? OP_ZERO32 : OP_NOTHING;
}

static unsigned decode_sign(const struct bpf_insn *insn)
{
    if (BPF_CLASS(insn->opcode) == BPF_ALU)
        return insn->offset == 8 ? OP_SIGN8_32 : OP_SIGN16_32;
    return insn->offset == 8 ? OP_SIGN8_64 : insn->offset == 16 ? OP_SIGN16_64 : OP_SIGN32_64;
}

static unsigned decode_alu(const struct bpf_insn *insn)
{
    static const uint16_t plain[16] = {
        [BPF_ADD >> 4] = OP_ADD64_K, [BPF_SUB >> 4] = OP_SUB64_K, [BPF_MUL >> 4] = OP_MUL64_K,
        [BPF_DIV >> 4] = OP_DIV64_K, [BPF_OR >> 4] = OP_OR64_K,   [BPF_AND >> 4] = OP_AND64_K,
        [BPF_LSH >> 4] = OP_LSH64_K, [BPF_RSH >> 4] = OP_RSH64_K, [BPF_MOD >> 4] = OP_MOD64_K,
        [BPF_XOR >> 4] = OP_XOR64_K, [BPF_MOV >> 4] = OP_MOV64_K, [BPF_ARSH >> 4] = OP_ARSH64_K,
    };
    const bool narrow = BPF_CLASS(insn->opcode) == BPF_ALU;
    const unsigned op = BPF_OP(insn->opcode);
    if (op == BPF_END)
        return decode_end(insn);
    if (op == BPF_NEG)
        return narrow ? OP_NEG32 : OP_NEG64;
    if (op == BPF_MOV && insn->offset)
        return decode_sign(insn);
    unsigned first = plain[op >> 4];
    if (insn->offset && op == BPF_DIV)
        first = OP_SDIV64_K;
    if (insn->offset && op == BPF_MOD)
        first = OP_SMOD64_K;
    return form(first, narrow, insn->opcode);
}

/* ---- jumps and calls -------------------------------------------------------------------- */

static void decode_call(const struct bpf_prog *prog, uint32_t i, struct bpf_op *op)
{
    const struct bpf_insn *insn = &prog->code.insns[i];
    if (BPF_SOURCE(insn->opcode) == BPF_X) {
        op->code = OP_CALL_REGISTER;
        op->src = (uint8_t)bpf_callx_register(insn);
    } else if (insn->src == BPF_CALL_LOCAL) {
        const uint32_t target = bpf_code_target(&prog->code, i);
        op->code = OP_CALL_LOCAL;
        op->offset = (int32_t)(target - i);
        op->imm = bpf_code_function(&prog->code, target)->count;
    } else {
        const struct bpf_helper *helper =
            bpf_helper_find(prog->environment, (uint64_t)(int64_t)insn->imm);
        op->code = helper ? OP_CALL_HELPER : OP_CALL_NOTHING;
        op->imm = helper ? (uint64_t)(helper - prog->environment->helpers) : 0;
    }
}

static void decode_jump(const struct bpf_prog *prog, uint32_t i, struct bpf_op *op)
{
    static const uint16_t compare[16] = {
        [BPF_JEQ >> 4] = OP_JEQ64_K,   [BPF_JGT >> 4] = OP_JGT64_K,   [BPF_JGE >> 4] = OP_JGE64_K,
        [BPF_JSET >> 4] = OP_JSET64_K, [BPF_JNE >> 4] = OP_JNE64_K,   [BPF_JSGT >> 4] = OP_JSGT64_K,
        [BPF_JSGE >> 4] = OP_JSGE64_K, [BPF_JLT >> 4] = OP_JLT64_K,   [BPF_JLE >> 4] = OP_JLE64_K,
        [BPF_JSLT >> 4] = OP_JSLT64_K, [BPF_JSLE >> 4] = OP_JSLE64_K,
    };
    const struct bpf_insn *insn = &prog->code.insns[i];
    const bool narrow = BPF_CLASS(insn->opcode) == BPF_JMP32;
    switch (BPF_OP(insn->opcode)) {
    case BPF_CALL:
        decode_call(prog, i, op);
        return;
    case BPF_EXIT:
        op->code = OP_EXIT;
        return;
    case BPF_JA:
        op->code = OP_JUMP;
        op->offset = 1 + (narrow ? insn->imm : insn->offset);
        return;
    default:
        op->code = (uint16_t)form(compare[BPF_OP(insn->opcode) >> 4], narrow, insn->opcode);
        op->offset = 1 + insn->offset;
    }
}

/* ---- memory ----------------------------------------------------------------------------- */

static uint64_t lddw_value(const struct bpf_prog *prog, uint32_t i)
{
    const struct bpf_insn *insn = &prog->code.insns[i];
    const uint32_t second = (uint32_t)insn[1].imm;
    if (insn->src == BPF_LDDW_FUNCTION)
        return BPF_CODE_ADDRESS + bpf_code_target(&prog->code, i);
    if (insn->src == BPF_LDDW_NUMBER)
        return (uint32_t)insn->imm | (uint64_t)second << 32;
    const unsigned span = insn->imm == BPF_GLOBAL_DATA ? BPF_SPAN_DATA : BPF_SPAN_RODATA;
    return prog->layout.spans[span].start + second;
}

static unsigned decode_atomic(const struct bpf_insn *insn)
{
    static const struct {
        uint8_t imm;
        uint16_t code;
    } atomics[] = {
        {BPF_ATOMIC_ADD, OP_ATOMIC_ADD64},
        {BPF_ATOMIC_OR, OP_ATOMIC_OR64},
        {BPF_ATOMIC_AND, OP_ATOMIC_AND64},
        {BPF_ATOMIC_XOR, OP_ATOMIC_XOR64},
        {BPF_ATOMIC_ADD | BPF_FETCH, OP_ATOMIC_FETCH_ADD64},
        {BPF_ATOMIC_OR | BPF_FETCH, OP_ATOMIC_FETCH_OR64},
        {BPF_ATOMIC_AND | BPF_FETCH, OP_ATOMIC_FETCH_AND64},
        {BPF_ATOMIC_XOR | BPF_FETCH, OP_ATOMIC_FETCH_XOR64},
        {BPF_XCHG, OP_ATOMIC_XCHG64},
        {BPF_CMPXCHG, OP_ATOMIC_CMPXCHG64},
    };
    unsigned i = 0;
    while (atomics[i].imm != insn->imm)
        i++;
    return atomics[i].code + (BPF_SIZE(insn->opcode) == BPF_W ? 1u : 0u);
}

static unsigned decode_memory(const struct bpf_insn *insn)
{
    /* By size: 4, 2, 1 and 8 bytes. */
    static const uint16_t load[] = {OP_LOAD32, OP_LOAD16, OP_LOAD8, OP_LOAD64};
    static const uint16_t sign[] = {OP_LOADS32, OP_LOADS16, OP_LOADS8};
    static const uint16_t store[] = {OP_STORE32_K, OP_STORE16_K, OP_STORE8_K, OP_STORE64_K};
    const unsigned size = BPF_SIZE(insn->opcode) >> 3;
    if (BPF_MODE(insn->opcode) == BPF_ATOMIC)
        return decode_atomic(insn);
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_LDX:
        return BPF_MODE(insn->opcode) == BPF_MEMSX ? sign[size] : load[size];
    case BPF_ST:
        return store[size];
    default:
        return store[size] + 1u;
    }
}

static void decode(const struct bpf_prog *prog, uint32_t i, struct bpf_op *op)
{
    const struct bpf_insn *insn = &prog->code.insns[i];
    *op = (struct bpf_op){.dst = insn->dst,
                          .src = insn->src,
                          .offset = insn->offset,
                          .imm = (uint64_t)(int64_t)insn->imm};
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
        op->code = (uint16_t)decode_alu(insn);
        return;
    case BPF_JMP:
    case BPF_JMP32:
        decode_jump(prog, i, op);
        return;
    case BPF_LD:
        /* Over its second half, in one step. */
        op->code = OP_LDDW;
        op->imm = lddw_value(prog, i);
        return;
    default:
        op->code = (uint16_t)decode_memory(insn);
    }
}

struct bpf_op *bpf_decode(const struct bpf_prog *prog)
{
    struct bpf_op *ops = base_alloc_array(prog->code.count, sizeof(*ops));
    for (uint32_t i = 0; ops && i < prog->code.count; i++) {
        decode(prog, i, &ops[i]);
        if (prog->code.insns[i].opcode == BPF_LDDW)
            i++;
    }
    return ops;
}
