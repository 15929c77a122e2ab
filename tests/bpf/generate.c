/* Random programs (generate.h). */
#include "generate.h"

#include <stdbool.h>
#include <string.h>

#include "base/util.h"

/* What a register holds, as far as the generator knows. */
enum kind {
    NOTHING,
    NUMBER,
    SMALL, /* below 64 */
    MEMORY,
    CONSTANT,
    BUFFER, /* at least 64 bytes of it */
    KINDS,
};

enum { SLOTS = 16, MAX_NEST = 3, MAX_FUNCTIONS = 3 };

struct generator {
    const uint8_t *data;
    size_t size, at;
    uint64_t random;
    struct generated *g;
    uint8_t kind[10];
    uint16_t slots; /* 8-byte slots of the stack that hold numbers */
    uint16_t kept;  /* registers that loops count in */
    unsigned function;
    uint32_t calls[MAX_FUNCTIONS][8]; /* local calls to each function, to be filled in */
    unsigned call_count[MAX_FUNCTIONS];
};

/* A number below n: the next byte, and random ones when there are no more. */
static unsigned choose(struct generator *r, unsigned n)
{
    const uint8_t byte = r->at < r->size ? r->data[r->at++] : (uint8_t)random_next(&r->random);
    return (unsigned)((byte ^ (n > 256 ? (unsigned)random_next(&r->random) << 8 : 0)) % n);
}

static bool one_in(struct generator *r, unsigned n)
{
    return choose(r, n) == 0;
}

static uint32_t emit(struct generator *r, unsigned opcode, unsigned dst, unsigned src, int offset,
                     int64_t imm)
{
    struct generated *g = r->g;
    if (g->count < GENERATE_MAX_INSNS)
        g->insns[g->count++] = (struct bpf_insn){.opcode = (uint8_t)opcode,
                                                 .dst = dst & 15,
                                                 .src = src & 15,
                                                 .offset = (int16_t)offset,
                                                 .imm = (int32_t)imm};
    return g->count - 1;
}

static bool room(const struct generator *r)
{
    return r->g->count < GENERATE_MAX_INSNS - 200;
}

static void jump_here(struct generator *r, uint32_t from)
{
    r->g->insns[from].offset = (int16_t)(r->g->count - from - 1);
}

/* ---- choices ---------------------------------------------------------------------------- */

static int64_t any_number(struct generator *r)
{
    static const int32_t edges[] = {0,  1,  -1, 2,   7,   8,         31,
                                    32, 63, 64, 255, 256, INT32_MAX, INT32_MIN};
    switch (choose(r, 3)) {
    case 0:
        return edges[choose(r, ARRAY_SIZE(edges))];
    case 1:
        return (int8_t)choose(r, 256);
    default:
        return (int32_t)random_next(&r->random);
    }
}

/* A register of one of these kinds (bits); -1 if there is none. */
static int pick(struct generator *r, unsigned kinds)
{
    const unsigned first = choose(r, 10);
    for (unsigned i = 0; i < 10; i++) {
        const unsigned reg = (first + i) % 10;
        if (kinds & 1u << r->kind[reg])
            return (int)reg;
    }
    return -1;
}

enum { NUMBERS = 1 << NUMBER | 1 << SMALL, POINTERS = 1 << MEMORY | 1 << CONSTANT | 1 << BUFFER };

/* A register to write: not a counter, seldom a pointer. */
static unsigned target(struct generator *r)
{
    for (;;) {
        const unsigned reg = choose(r, 10);
        if (r->kept & 1u << reg)
            continue;
        if (!((unsigned)POINTERS & 1u << r->kind[reg]) || one_in(r, 8))
            return reg;
    }
}

static unsigned object_size(unsigned kind)
{
    return kind == MEMORY ? MEMORY_SIZE : kind == CONSTANT ? CONSTANT_SIZE : 64;
}

/* ---- statements ------------------------------------------------------------------------- */

static void set_number(struct generator *r)
{
    const unsigned dst = target(r);
    if (one_in(r, 4)) {
        const uint64_t value = random_next(&r->random) >> choose(r, 64);
        emit(r, BPF_LDDW, dst, 0, 0, (int64_t)value);
        emit(r, 0, 0, 0, 0, (int64_t)(value >> 32));
    } else {
        emit(r, (one_in(r, 2) ? BPF_ALU : BPF_ALU64) | BPF_MOV, dst, 0, 0, any_number(r));
    }
    r->kind[dst] = NUMBER;
}

static void move(struct generator *r)
{
    static const int signs[] = {0, 8, 16, 32};
    const int src = pick(r, NUMBERS | POINTERS);
    const unsigned dst = target(r);
    if (src < 0)
        return;
    const bool narrow = NUMBERS & 1u << r->kind[src] && one_in(r, 3);
    const int sign =
        NUMBERS & 1u << r->kind[src] && one_in(r, 3) ? signs[choose(r, narrow ? 3 : 4)] : 0;
    emit(r, (narrow ? BPF_ALU : BPF_ALU64) | BPF_MOV | BPF_X, dst, (unsigned)src, sign, 0);
    r->kind[dst] = r->kind[src];
}

static void arithmetic(struct generator *r)
{
    static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,   BPF_AND, BPF_LSH,
                                  BPF_RSH, BPF_NEG, BPF_MOD, BPF_XOR, BPF_ARSH, BPF_END};
    const int dst = pick(r, NUMBERS), src = pick(r, NUMBERS);
    if (dst < 0 || r->kept & 1u << dst)
        return;
    const unsigned op = ops[choose(r, ARRAY_SIZE(ops))], class = one_in(r, 2) ? BPF_ALU : BPF_ALU64;
    const int sign = (op == BPF_DIV || op == BPF_MOD) && one_in(r, 2);
    if (op == BPF_END)
        emit(r, class | op | (class == BPF_ALU && one_in(r, 2) ? BPF_X : BPF_K), (unsigned)dst, 0,
             0, 16 << choose(r, 3));
    else if (op == BPF_NEG)
        emit(r, class | op, (unsigned)dst, 0, 0, 0);
    else if (one_in(r, 2))
        emit(r, class | op | BPF_X, (unsigned)dst, (unsigned)src, sign, 0);
    else
        emit(r, class | op | BPF_K, (unsigned)dst, 0, sign, any_number(r));
    r->kind[dst] = NUMBER;
}

static void make_small(struct generator *r)
{
    const int dst = pick(r, NUMBERS);
    if (dst < 0 || r->kept & 1u << dst)
        return;
    switch (choose(r, 3)) {
    case 0:
        emit(r, (one_in(r, 2) ? BPF_ALU : BPF_ALU64) | BPF_AND, (unsigned)dst, 0, 0, choose(r, 64));
        break;
    case 1:
        emit(r, BPF_ALU64 | BPF_RSH, (unsigned)dst, 0, 0, 58 + choose(r, 6));
        break;
    default:
        emit(r, BPF_ALU64 | BPF_MOD, (unsigned)dst, 0, 0, 1 + choose(r, 63));
    }
    r->kind[dst] = SMALL;
}

static int round_down_pow2(int n)
{
    int power = 1;
    while (power * 2 <= n)
        power *= 2;
    return power;
}

static const uint8_t sizes[] = {BPF_B, BPF_H, BPF_W, BPF_DW};

/* A load, a store or an atomic at an offset where all of it lies within [0, size); sometimes just
 * past it. */
static void access_object(struct generator *r, unsigned base, int start, unsigned size,
                          bool writable, bool aligned)
{
    const unsigned log = choose(r, 4), bytes = 1u << log, dst = target(r);
    int offset = start + (int)choose(r, size - bytes + 1);
    if (one_in(r, 200))
        offset = start + (one_in(r, 2) ? -1 : (int)(size - bytes) + 1);
    const int src = pick(r, NUMBERS);
    const unsigned what = choose(r, !writable || src < 0 ? 1 : aligned ? 4 : 3);
    if (what == 0) {
        const bool sign = log < 3 && one_in(r, 3);
        emit(r, BPF_LDX | (sign ? BPF_MEMSX : BPF_MEM) | sizes[log], dst, base, offset, 0);
        r->kind[dst] = NUMBER;
    } else if (what == 1) {
        emit(r, BPF_STX | BPF_MEM | sizes[log], base, (unsigned)src, offset, 0);
    } else if (what == 2) {
        emit(r, BPF_ST | BPF_MEM | sizes[log], base, 0, offset, any_number(r));
    } else {
        static const uint8_t atomics[] = {BPF_ADD,
                                          BPF_OR,
                                          BPF_AND,
                                          BPF_XOR,
                                          BPF_ADD | BPF_FETCH,
                                          BPF_OR | BPF_FETCH,
                                          BPF_AND | BPF_FETCH,
                                          BPF_XOR | BPF_FETCH,
                                          BPF_XCHG,
                                          BPF_CMPXCHG};
        const unsigned op = atomics[choose(r, ARRAY_SIZE(atomics))];
        if ((op == BPF_CMPXCHG && !((unsigned)NUMBERS & 1u << r->kind[0])) ||
            (op != BPF_CMPXCHG && op & BPF_FETCH && r->kept & 1u << src) ||
            (op == BPF_CMPXCHG && r->kept & 1u))
            return;
        const bool wide = one_in(r, 2);
        offset = start + (int)round_down((unsigned)(offset - start), wide ? 8 : 4);
        if (offset < start || offset + (wide ? 8 : 4) > start + (int)size)
            offset = start;
        if (one_in(r, 200))
            offset++;
        emit(r, BPF_STX | BPF_ATOMIC | (wide ? BPF_DW : BPF_W), base, (unsigned)src, offset,
             (int32_t)op);
        if (op == BPF_CMPXCHG)
            r->kind[0] = NUMBER;
        else if (op & BPF_FETCH)
            r->kind[src] = NUMBER;
    }
}

static void access(struct generator *r)
{
    const int base = pick(r, POINTERS);
    if (base >= 0)
        access_object(r, (unsigned)base, 0, object_size(r->kind[base]),
                      r->kind[base] != CONSTANT || one_in(r, 200), true);
}

/* pointer + small number, and what that reaches. */
static void access_variable(struct generator *r)
{
    const int base = pick(r, POINTERS), index = pick(r, 1 << SMALL);
    const unsigned pointer = target(r);
    if (base < 0 || index < 0 || (unsigned)index == pointer)
        return;
    const unsigned kind = r->kind[base], size = object_size(kind);
    emit(r, BPF_ALU64 | BPF_MOV | BPF_X, pointer, (unsigned)base, 0, 0);
    emit(r, BPF_ALU64 | BPF_ADD | BPF_X, pointer, (unsigned)index, 0, 0);
    r->kind[pointer] = NOTHING;
    if (size > 64)
        access_object(r, pointer, 0, size - 63, kind != CONSTANT, false);
    else
        emit(r, BPF_LDX | BPF_MEM | BPF_B, pointer, pointer, 0, 0);
    if (size <= 64)
        r->kind[pointer] = NUMBER;
}

static void access_stack(struct generator *r)
{
    const unsigned slot = choose(r, SLOTS), dst = target(r);
    const int src = pick(r, NUMBERS), start = -8 * (int)(slot + 1);
    if (!(r->slots & 1u << slot) && !one_in(r, 60)) {
        if (src >= 0)
            emit(r, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, (unsigned)src, start, 0);
        else
            emit(r, BPF_ST | BPF_MEM | BPF_DW, BPF_FP, 0, start, any_number(r));
        r->slots |= (uint16_t)(1u << slot);
    } else if (one_in(r, 2)) {
        access_object(r, BPF_FP, start, 8, true, true);
    } else {
        emit(r, BPF_LDX | BPF_MEM | BPF_DW, dst, BPF_FP, start, 0);
        r->kind[dst] = NUMBER;
    }
}

/* Change a number of which bounds are known, in a way that keeps it small if all goes well: a
 * verifier has to follow. */
static void bend(struct generator *r, unsigned reg)
{
    static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV,  BPF_OR,  BPF_AND, BPF_LSH,
                                  BPF_RSH, BPF_MOD, BPF_XOR, BPF_ARSH, BPF_NEG, BPF_END, BPF_MOV};
    const unsigned n = choose(r, 4);
    for (unsigned i = 0; i < n; i++) {
        const unsigned op = ops[choose(r, ARRAY_SIZE(ops))];
        const unsigned class = one_in(r, 3) ? BPF_ALU : BPF_ALU64;
        const int by = (int)choose(r, op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH ? 5 : 33);
        if (op == BPF_NEG)
            emit(r, class | op, reg, 0, 0, 0);
        else if (op == BPF_END)
            emit(r, class | op | (class == BPF_ALU && one_in(r, 2) ? BPF_X : BPF_K), reg, 0, 0,
                 16 << choose(r, 3));
        else if (op == BPF_MOV)
            emit(r, class | op | BPF_X, reg, reg, one_in(r, 2) ? 8 : 16, 0);
        else
            emit(r, class | op, reg, 0, (op == BPF_DIV || op == BPF_MOD) && one_in(r, 2),
                 one_in(r, 6) ? -by : by);
    }
}

/* Jump away (to be filled in) if a number is not what it should be: below `most`, or about that.
 * 32-bit comparisons say nothing of the upper half, signed ones nothing of below 0. */
static unsigned guard(struct generator *r, unsigned reg, int most, uint32_t jumps[2])
{
    const int by = one_in(r, 12) ? (int)choose(r, 3) - 1 : 0;
    switch (choose(r, 6)) {
    case 0:
        jumps[0] = emit(r, BPF_JMP | BPF_JGT, reg, 0, 0, most + by);
        return 1;
    case 1:
        jumps[0] = emit(r, BPF_JMP | BPF_JGE, reg, 0, 0, most + 1 + by);
        return 1;
    case 2:
        jumps[0] = emit(r, BPF_JMP | BPF_JSLT, reg, 0, 0, one_in(r, 12) ? -1 : 0);
        jumps[1] = emit(r, BPF_JMP | (one_in(r, 2) ? BPF_JSGT : BPF_JGT), reg, 0, 0, most + by);
        return 2;
    case 3:
        if (!one_in(r, 12))
            emit(r, BPF_ALU | BPF_MOV | BPF_X, reg, reg, 0, 0);
        jumps[0] = emit(r, BPF_JMP32 | BPF_JGT, reg, 0, 0, most + by);
        return 1;
    case 4:
        jumps[0] = emit(r, BPF_JMP | BPF_JSET, reg, 0, 0, ~(int)(round_down_pow2(most) - 1));
        return 1;
    default:
        jumps[0] = emit(r, BPF_JMP32 | BPF_JSLT, reg, 0, 0, 0);
        jumps[1] = emit(r, BPF_JMP | BPF_JGT, reg, 0, 0, most + by);
        return 2;
    }
}

/* A number that branches have bounded, as an index. */
static void access_guarded(struct generator *r)
{
    const int base = pick(r, POINTERS), index = pick(r, NUMBERS);
    const unsigned pointer = 1 + choose(r, 5);
    if (base < 0 || index < 0 || (unsigned)base == pointer || (unsigned)index == pointer ||
        r->kept & (1u << index | 1u << pointer) || (POINTERS & 1u << r->kind[pointer]))
        return;
    uint32_t jumps[2];
    const unsigned kind = r->kind[base], log = choose(r, 4);
    const int most = (int)object_size(kind) - (1 << log);
    if (one_in(r, 2))
        bend(r, (unsigned)index);
    r->kind[index] = NUMBER;
    const unsigned n = guard(r, (unsigned)index, most, jumps);
    emit(r, BPF_ALU64 | BPF_MOV | BPF_X, pointer, (unsigned)base, 0, 0);
    emit(r, BPF_ALU64 | BPF_ADD | BPF_X, pointer, (unsigned)index, 0, 0);
    if (kind != CONSTANT && one_in(r, 2))
        emit(r, BPF_STX | BPF_MEM | sizes[log], pointer, (unsigned)index, 0, 0);
    else
        emit(r, BPF_LDX | BPF_MEM | sizes[log], pointer, pointer, 0, 0);
    for (unsigned i = 0; i < n; i++)
        jump_here(r, jumps[i]);
    r->kind[pointer] = NOTHING;
}

/* A way that is never gone, if a verifier knows the bounds of a number: it may be accepted only if
 * that is true. */
static void dead_end(struct generator *r)
{
    static const int bounds[] = {63, 64, 127, 255, 256, 1023, 4095, 65535, 1 << 20, INT32_MAX};
    static const uint8_t ops[] = {BPF_JGT,  BPF_JSGT, BPF_JSLT, BPF_JGE,
                                  BPF_JSGE, BPF_JEQ,  BPF_JSET};
    const int number = pick(r, 1 << SMALL);
    if (number < 0 || r->kept & 1u << number)
        return;
    bend(r, (unsigned)number);
    r->kind[number] = NUMBER;
    const unsigned op = ops[choose(r, ARRAY_SIZE(ops))];
    int bound = bounds[choose(r, ARRAY_SIZE(bounds))];
    if (op == BPF_JSLT)
        bound = one_in(r, 2) ? 0 : -bound;
    if (op == BPF_JSET)
        bound = ~bound;
    const unsigned class = one_in(r, 3) ? BPF_JMP32 : BPF_JMP;
    const uint32_t in = emit(r, class | op, (unsigned)number, 0, 0, bound);
    const uint32_t around = emit(r, BPF_JMP | BPF_JA, 0, 0, 0, 0);
    jump_here(r, in);
    emit(r, BPF_ALU64 | BPF_MOV, 0, 0, 0, 0);
    emit(r, BPF_LDX | BPF_MEM | BPF_B, 0, 0, 0, 0);
    emit(r, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    jump_here(r, around);
}

/* A pointer on the stack and back; seldom with a byte of it overwritten. */
static void spill(struct generator *r)
{
    const int src = pick(r, POINTERS), at = -144 - 8 * (int)choose(r, 4);
    const unsigned dst = target(r);
    if (src < 0)
        return;
    emit(r, BPF_STX | BPF_MEM | BPF_DW, BPF_FP, (unsigned)src, at, 0);
    if (one_in(r, 40))
        emit(r, BPF_ST | BPF_MEM | BPF_B, BPF_FP, 0, at + (int)choose(r, 8), 1);
    emit(r, BPF_LDX | BPF_MEM | BPF_DW, dst, BPF_FP, at, 0);
    r->kind[dst] = r->kind[src];
}

/* Bytes of the program's globals. */
static void access_globals(struct generator *r)
{
    const unsigned pointer = target(r);
    const bool data = one_in(r, 2);
    const unsigned size = data ? DATA_SIZE : RODATA_SIZE, at = 8 * choose(r, size / 8 - 1);
    emit(r, BPF_LDDW, pointer, BPF_LDDW_GLOBAL, 0, data ? BPF_GLOBAL_DATA : BPF_GLOBAL_RODATA);
    emit(r, 0, 0, 0, 0, at);
    r->kind[pointer] = NOTHING;
    access_object(r, pointer, 0, size - at, data, true);
}

/* ---- calls ------------------------------------------------------------------------------ */

static void after_call(struct generator *r, unsigned result)
{
    for (unsigned i = 1; i <= 5; i++)
        r->kind[i] = NOTHING;
    r->kind[0] = (uint8_t)result;
}

/* Put something of these kinds into an argument register; false if there is nothing. */
static bool put(struct generator *r, unsigned arg, unsigned kinds)
{
    const int src = pick(r, kinds);
    if (src < 0)
        return false;
    if ((unsigned)src != arg)
        emit(r, BPF_ALU64 | BPF_MOV | BPF_X, arg, (unsigned)src, 0, 0);
    r->kind[arg] = r->kind[src];
    return true;
}

static void put_number(struct generator *r, unsigned arg, int64_t n)
{
    emit(r, BPF_ALU64 | BPF_MOV, arg, 0, 0, n);
    r->kind[arg] = NUMBER;
}

static void call(struct generator *r, int32_t id)
{
    const unsigned class = BPF_JMP | BPF_CALL;
    if (one_in(r, 10) && id <= 10) {
        put_number(r, 0, id);
        emit(r, class | BPF_X, 0, 0, 0, 0);
    } else {
        emit(r, class, 0, BPF_CALL_HELPER, 0, id);
    }
}

/* What helper 4 and 9 give may be 0. */
static void take_nullable(struct generator *r)
{
    const unsigned keep = 6 + choose(r, 4);
    if (r->kept & 1u << keep || one_in(r, 20)) {
        r->kind[0] = one_in(r, 10) ? BUFFER : NOTHING;
        return;
    }
    emit(r, BPF_ALU64 | BPF_MOV | BPF_X, keep, 0, 0, 0);
    const uint32_t check = emit(r, BPF_JMP | BPF_JNE, keep, 0, 0, 0);
    emit(r, BPF_ALU64 | BPF_MOV, 0, 0, 0, 3);
    emit(r, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    jump_here(r, check);
    r->kind[keep] = BUFFER;
    r->kind[0] = NOTHING;
}

static void call_helper(struct generator *r)
{
    const unsigned kept = r->kept & 0x3f; /* r1 to r5 do not live */
    if (kept)
        return;
    const int32_t id = 1 + (int32_t)choose(r, 10);
    unsigned result = NUMBER;
    switch (id) {
    case 1:
        for (unsigned i = 1; i <= 5; i++)
            if (!put(r, i, NUMBERS))
                put_number(r, i, any_number(r));
        break;
    case 2:
    case 3:
        if (!put(r, 1, id == 2 ? POINTERS : 1 << MEMORY | 1 << BUFFER))
            return;
        if (!one_in(r, 3) || !put(r, 2, 1 << SMALL))
            put_number(r, 2, choose(r, one_in(r, 100) ? 200 : 65));
        break;
    case 4:
        if (!put(r, 1, NUMBERS))
            put_number(r, 1, 0);
        break;
    case 5:
        emit(r, BPF_LDDW, 1, BPF_LDDW_GLOBAL, 0, BPF_GLOBAL_RODATA);
        emit(r, 0, 0, 0, 0, choose(r, one_in(r, 100) ? RODATA_SIZE + 1 : RODATA_SIZE));
        break;
    case 6:
        emit(r, BPF_ALU64 | BPF_MOV | BPF_X, 1, BPF_FP, 0, 0);
        emit(r, BPF_ALU64 | BPF_ADD, 1, 0, 0, -136);
        break;
    case 7:
        put_number(r, 1, choose(r, 8));
        break;
    case 9:
        put_number(r, 1, 64);
        break;
    default:
        break;
    }
    call(r, id);
    if (id == 10)
        for (unsigned i = 0; i < 10; i++)
            if (r->kind[i] == BUFFER)
                r->kind[i] = NOTHING;
    if (id == 8)
        result = SMALL;
    after_call(r, id == 4 || id == 9 ? NOTHING : result);
    if (id == 4 || id == 9) {
        take_nullable(r);
    } else if (id == 6 && !(r->kept & 1u << 9)) {
        emit(r, BPF_LDX | BPF_MEM | BPF_DW, 9, BPF_FP, -136, 0);
        r->kind[9] = BUFFER;
    }
}

/* Functions call those after them, seldom themselves. */
static void call_local(struct generator *r)
{
    const unsigned self = r->function > 0 && one_in(r, 30) ? r->function : r->function + 1;
    if (self > MAX_FUNCTIONS || r->kept & 0x3f)
        return;
    const unsigned which = self - 1 + choose(r, MAX_FUNCTIONS - self + 1);
    if (r->call_count[which] == ARRAY_SIZE(r->calls[0]) || !put(r, 1, 1 << MEMORY))
        return;
    if (!put(r, 2, NUMBERS))
        put_number(r, 2, any_number(r));
    uint32_t *at = &r->calls[which][r->call_count[which]++];
    if (one_in(r, 6)) {
        *at = emit(r, BPF_LDDW, 3, BPF_LDDW_FUNCTION, 0, 0);
        emit(r, 0, 0, 0, 0, 0);
        emit(r, BPF_JMP | BPF_CALL | BPF_X, 3, 0, 0, 0);
    } else {
        *at = emit(r, BPF_JMP | BPF_CALL, 0, BPF_CALL_LOCAL, 0, 0);
    }
    after_call(r, NUMBER);
}

/* ---- blocks ----------------------------------------------------------------------------- */

static void block(struct generator *r, unsigned nest);

static uint32_t branch(struct generator *r, int reg)
{
    static const uint8_t ops[] = {BPF_JEQ,  BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT,
                                  BPF_JSGE, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE};
    const unsigned op = ops[choose(r, ARRAY_SIZE(ops))], class = one_in(r, 2) ? BPF_JMP : BPF_JMP32;
    const int other = pick(r, NUMBERS);
    if (one_in(r, 2) && other >= 0)
        return emit(r, class | op | BPF_X, (unsigned)reg, (unsigned)other, 0, 0);
    return emit(r, class | op | BPF_K, (unsigned)reg, 0, 0, any_number(r));
}

/* After two ways meet, a register holds what it holds on both. */
static void meet(struct generator *r, const uint8_t kind[10], uint16_t slots)
{
    for (unsigned i = 0; i < 10; i++) {
        const unsigned a = r->kind[i], b = kind[i];
        const bool numbers = NUMBERS & 1u << a && NUMBERS & 1u << b;
        r->kind[i] = a == b ? (uint8_t)a : numbers ? NUMBER : NOTHING;
    }
    r->slots &= slots;
}

static void choice(struct generator *r, unsigned nest)
{
    uint8_t kind[10];
    const int reg = pick(r, NUMBERS);
    if (reg < 0)
        return;
    const uint32_t from = branch(r, reg);
    uint16_t slots = r->slots;
    memcpy(kind, r->kind, sizeof(kind));
    block(r, nest + 1);
    if (one_in(r, 2)) {
        const uint32_t out = emit(r, BPF_JMP | BPF_JA, 0, 0, 0, 0);
        uint8_t after[10];
        const uint16_t after_slots = r->slots;
        jump_here(r, from);
        memcpy(after, r->kind, sizeof(after));
        memcpy(r->kind, kind, sizeof(kind));
        r->slots = slots;
        block(r, nest + 1);
        jump_here(r, out);
        memcpy(kind, after, sizeof(kind));
        slots = after_slots;
    } else {
        jump_here(r, from);
    }
    meet(r, kind, slots);
}

/* A loop of a few rounds, counted in a register of its own. What its body finds must hold in each
 * round, so registers that change their kind in it are given up before. */
static void loop(struct generator *r, unsigned nest)
{
    const unsigned counter = 6 + choose(r, 3);
    if (r->kept & 1u << counter || POINTERS & 1u << r->kind[counter])
        return;
    const int rounds = 1 + (int)choose(r, 12);
    const bool down = one_in(r, 2);
    for (unsigned i = 0; i <= 5; i++)
        r->kind[i] = NOTHING;
    for (unsigned i = 6; i < 10; i++)
        if (r->kind[i] == SMALL)
            r->kind[i] = NUMBER;
    emit(r, BPF_ALU64 | BPF_MOV, counter, 0, 0, down ? rounds : 0);
    r->kind[counter] = NUMBER;
    r->kept |= (uint16_t)(1u << counter);
    const uint32_t start = r->g->count;
    put_number(r, 0, any_number(r));
    uint8_t kind[10];
    memcpy(kind, r->kind, sizeof(kind));
    const uint16_t slots = r->slots;
    block(r, nest + 1);
    emit(r, BPF_ALU64 | BPF_ADD, counter, 0, 0, down ? -1 : 1);
    const int back = (int)start - (int)r->g->count - 1;
    if (down)
        emit(r, BPF_JMP | (one_in(r, 2) ? BPF_JNE : BPF_JSGT), counter, 0, back, 0);
    else
        emit(r, (one_in(r, 3) ? BPF_JMP32 : BPF_JMP) | BPF_JLT, counter, 0, back, rounds);
    r->kept &= (uint16_t) ~(1u << counter);
    meet(r, kind, slots);
}

/* Any instruction at all. */
static void nonsense(struct generator *r)
{
    static const uint8_t opcodes[] = {0x07, 0x0f, 0xbf, 0xb7, 0x61, 0x79, 0x63, 0x7b, 0x15, 0x2d,
                                      0x05, 0x85, 0x8d, 0xdb, 0x95, 0x1f, 0x72, 0x71, 0x57, 0x67};
    const unsigned opcode = opcodes[choose(r, ARRAY_SIZE(opcodes))];
    const bool uses_imm = !(opcode & BPF_X) || (opcode & 7) == BPF_ST;
    emit(r, opcode, choose(r, 11), uses_imm ? 0 : choose(r, 11),
         (opcode & 7) == BPF_JMP || (opcode & 7) <= BPF_STX ? (int)choose(r, 32) - 8 : 0,
         uses_imm ? any_number(r) : 0);
}

static void statement(struct generator *r, unsigned nest)
{
    switch (choose(r, 30)) {
    case 0:
    case 1:
        set_number(r);
        return;
    case 2:
    case 3:
        move(r);
        return;
    case 4:
    case 5:
        make_small(r);
        return;
    case 6:
    case 7:
        access(r);
        return;
    case 8:
    case 9:
        access_variable(r);
        return;
    case 10:
    case 11:
        access_stack(r);
        return;
    case 12:
        access_globals(r);
        return;
    case 13:
    case 14:
        call_helper(r);
        return;
    case 15:
        call_local(r);
        return;
    case 16:
    case 17:
        if (nest < MAX_NEST)
            choice(r, nest);
        return;
    case 18:
        if (nest < MAX_NEST)
            loop(r, nest);
        return;
    case 20:
    case 21:
    case 22:
        access_guarded(r);
        return;
    case 23:
        if (one_in(r, 3))
            dead_end(r);
        return;
    case 24:
        spill(r);
        return;
    case 19:
        if (one_in(r, 60))
            nonsense(r);
        return;
    default:
        arithmetic(r);
    }
}

static void block(struct generator *r, unsigned nest)
{
    const unsigned n = 1 + choose(r, nest == 0 ? 40 : 8);
    for (unsigned i = 0; i < n && room(r); i++)
        statement(r, nest);
}

/* Function 0 is where the program starts. */
static void function(struct generator *r, unsigned number)
{
    memset(r->kind, NOTHING, sizeof(r->kind));
    r->slots = r->kept = 0;
    r->function = number;
    r->kind[1] = MEMORY;
    r->kind[2] = NUMBER;
    emit(r, BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0);
    r->kind[6] = MEMORY;
    if (number == 0) {
        emit(r, BPF_ALU64 | BPF_MOV | BPF_X, 7, 3, 0, 0);
        r->kind[3] = r->kind[7] = CONSTANT;
        r->kind[4] = NUMBER;
    }
    put_number(r, 0, any_number(r));
    block(r, 0);
    if (!((unsigned)NUMBERS & 1u << r->kind[0]))
        put_number(r, 0, 1);
    emit(r, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

void bpf_generate(const uint8_t *data, size_t size, struct generated *g)
{
    struct generator r = {.data = data, .size = size, .g = g, .random = size};
    for (size_t i = 0; i < size; i++)
        r.random = (r.random ^ data[i]) * UINT64_C(0x100000001b3);
    g->count = 0;
    function(&r, 0);
    for (unsigned f = 0; f < MAX_FUNCTIONS; f++) {
        if (!r.call_count[f])
            continue;
        const uint32_t start = g->count;
        function(&r, f + 1);
        for (unsigned i = 0; i < r.call_count[f]; i++)
            g->insns[r.calls[f][i]].imm = (int32_t)(start - r.calls[f][i] - 1);
    }
}
