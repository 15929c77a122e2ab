/*
 * bpf/interp_loop.h: the loop of the interpreter, a function named LOOP with the checks of CHECK;
 * interp.c includes it once for each kind.
 *
 * Each operation ends with its own jump to the next: the processor then learns which operation
 * follows which, where a single jump for all would be guessed wrong most of the time.
 *
 * UBSan's checks of every register would make a function that compilers work on for minutes; what
 * it looks for cannot be here, for all operands are unsigned and all shifts masked.
 */

__attribute__((no_sanitize("undefined"))) static int LOOP(struct bpf_vm *vm, enum bpf_check check,
                                                          uint64_t *r0)
{
    /* In the order of enum bpf_op_code. */
    /* clang-format off */
    static const void *const labels[] = {
#define X(name) &&op_##name##64_K, &&op_##name##64_X, &&op_##name##32_K, &&op_##name##32_X,
        BPF_OPS_BINARY(X) BPF_OPS_COMPARE(X)
#undef X
#define X(name) &&op_ATOMIC_##name##64, &&op_ATOMIC_##name##32,
        BPF_OPS_ATOMIC(X)
#undef X
#define X(size) &&op_LOAD##size, &&op_STORE##size##_K, &&op_STORE##size##_X,
        BPF_OPS_SIZE(X)
#undef X
#define X(name) &&op_##name,
        BPF_OPS_OTHER(X)
#undef X
    };
    /* clang-format on */
    const struct bpf_prog *prog = vm->prog;
    const struct bpf_op *op = prog->ops + prog->entry;
    const struct bounds bounds = bounds_of(vm);
    struct machine m;
    uint64_t *const r = m.r;
    int error = 0;

    machine_init(&m, vm, check);
    goto *labels[op->code];

    BINARY(ADD, a + b)
    BINARY(SUB, a - b)
    BINARY(MUL, a * b)
    BINARY(DIV, b ? a / b : 0)
    FORMS(SDIV, sdiv64(a, b), sdiv32(a, b))
    BINARY(OR, a | b)
    BINARY(AND, a & b)
    FORMS(LSH, a << (b & 63), a << (b & 31))
    FORMS(RSH, a >> (b & 63), a >> (b & 31))
    BINARY(MOD, b ? a % b : a)
    FORMS(SMOD, smod64(a, b), smod32(a, b))
    BINARY(XOR, a ^ b)
    BINARY(MOV, b)
    FORMS(ARSH, sa >> (b & 63), sa >> (b & 31))

    COMPARE(JEQ, a == b)
    COMPARE(JGT, a > b)
    COMPARE(JGE, a >= b)
    COMPARE(JSET, (a & b) != 0)
    COMPARE(JNE, a != b)
    COMPARE(JSGT, sa > sb)
    COMPARE(JSGE, sa >= sb)
    COMPARE(JLT, a < b)
    COMPARE(JLE, a <= b)
    COMPARE(JSLT, sa < sb)
    COMPARE(JSLE, sa <= sb)

    MEMORY(8)
    MEMORY(16)
    MEMORY(32)
    MEMORY(64)
    LOAD(LOADS8, int8_t, int64_t)
    LOAD(LOADS16, int16_t, int64_t)
    LOAD(LOADS32, int32_t, int64_t)

    ATOMIC(ADD, __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(OR, __atomic_fetch_or(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(AND, __atomic_fetch_and(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(XOR, __atomic_fetch_xor(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(FETCH_ADD, SRC = __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(FETCH_OR, SRC = __atomic_fetch_or(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(FETCH_AND, SRC = __atomic_fetch_and(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(FETCH_XOR, SRC = __atomic_fetch_xor(word, value, __ATOMIC_SEQ_CST))
    ATOMIC(XCHG, SRC = __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST))
    ATOMIC_SWAP(64)
    ATOMIC_SWAP(32)

    OP(NEG64, DST = -DST)
    OP(NEG32, DST = (uint32_t)(0 - (uint32_t)DST))
    OP(SIGN8_64, DST = (uint64_t)(int8_t)SRC)
    OP(SIGN16_64, DST = (uint64_t)(int16_t)SRC)
    OP(SIGN32_64, DST = (uint64_t)(int32_t)SRC)
    OP(SIGN8_32, DST = (uint32_t)(int8_t)SRC)
    OP(SIGN16_32, DST = (uint32_t)(int16_t)SRC)
    OP(ZERO16, DST = (uint16_t)DST)
    OP(ZERO32, DST = (uint32_t)DST)
    OP(SWAP16, DST = __builtin_bswap16((uint16_t)DST))
    OP(SWAP32, DST = __builtin_bswap32((uint32_t)DST))
    OP(SWAP64, DST = __builtin_bswap64(DST))
    OP(NOTHING, (void)0)
    OP(LDDW, DST = op->imm; op++)

    OP(JUMP, JUMP)
    OP(CALL_HELPER, call_helper(vm, &m, &prog->environment->helpers[op->imm]);
       if (vm->error < 0) FAIL(vm->error))
    OP(CALL_NOTHING, FAIL(-EINVAL))
    OP(CALL_LOCAL, GO_ON(enter(vm, &m, op, op + op->offset, op->imm, &error)))
    OP(CALL_REGISTER, GO_ON(call_register(vm, &m, op, &error)))
    OP(EXIT, if (m.depth == 0) goto done; op = leave(&m))

done:
    *r0 = r[0];
    return 0;

fail:
    vm->fault = (uint32_t)(op - prog->ops);
    return error;
}
