/* Whether code is code: every field of every instruction (RFC 9669, sections 3 to 5). */
#include "bpf/code.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct check {
    const struct bpf_code *code;
    struct bpf_log *log;
    const struct bpf_function_info *function; /* the one being looked at */
};

static int refuse(const struct check *c, uint32_t i, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(const struct check *c, uint32_t i, const char *format, ...)
{
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    const struct bpf_line *line = bpf_code_line(c->code, i);
    if (line)
        bpf_log_add(c->log, "%s:%u: %s\n", line->file, (unsigned)line->line, line->text);
    bpf_log_add(c->log, "instruction %u (opcode 0x%02x) of %s: %s\n", (unsigned)i,
                c->code->insns[i].opcode, c->function->name, why);
    return -EINVAL;
}

/* The fields that this instruction does not use. */
enum { FREE_DST = 1, FREE_SRC = 2, FREE_OFFSET = 4, FREE_IMM = 8 };

static int check_free(const struct check *c, uint32_t i, unsigned fields)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    if ((fields & FREE_DST) && insn->dst)
        return refuse(c, i, "it has no destination register, but the field is %d", insn->dst);
    if ((fields & FREE_SRC) && insn->src)
        return refuse(c, i, "it has no source register, but the field is %d", insn->src);
    if ((fields & FREE_OFFSET) && insn->offset)
        return refuse(c, i, "it has no offset, but the field is %d", insn->offset);
    if ((fields & FREE_IMM) && insn->imm)
        return refuse(c, i, "it has no immediate value, but the field is %d", (int)insn->imm);
    return 0;
}

static int unknown(const struct check *c, uint32_t i)
{
    return refuse(c, i, "no such instruction");
}

/* A register that is written. */
static int check_target(const struct check *c, uint32_t i, unsigned reg)
{
    if (reg == BPF_FP)
        return refuse(c, i, "r10 may not be written");
    return 0;
}

/* ---- arithmetic ------------------------------------------------------------------------- */

static int check_alu_offset(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    const unsigned op = BPF_OP(insn->opcode), offset = (uint16_t)insn->offset;
    if ((op == BPF_DIV || op == BPF_MOD) && offset > 1)
        return refuse(c, i, "the offset of a division is 0 or, if signed, 1, not %d", insn->offset);
    if (op != BPF_MOV || offset == 0)
        return 0;
    const bool wide = BPF_CLASS(insn->opcode) == BPF_ALU64;
    if (BPF_SOURCE(insn->opcode) == BPF_K)
        return refuse(c, i, "only a register can be sign-extended");
    if (offset != 8 && offset != 16 && !(wide && offset == 32))
        return refuse(c, i, "a number cannot be sign-extended from %d bits", insn->offset);
    return 0;
}

static int check_end(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    if (BPF_CLASS(insn->opcode) == BPF_ALU64 && BPF_SOURCE(insn->opcode) != BPF_K)
        return unknown(c, i);
    if (insn->imm != 16 && insn->imm != 32 && insn->imm != 64)
        return refuse(c, i, "the bytes of 16, 32 or 64 bits can be swapped, not of %d",
                      (int)insn->imm);
    return check_free(c, i, FREE_SRC | FREE_OFFSET);
}

static int check_alu(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    const bool immediate = BPF_SOURCE(insn->opcode) == BPF_K;
    const int error = check_target(c, i, insn->dst);
    if (error < 0)
        return error;
    switch (BPF_OP(insn->opcode)) {
    case BPF_END:
        return check_end(c, i);
    case BPF_NEG:
        return immediate ? check_free(c, i, FREE_SRC | FREE_OFFSET | FREE_IMM) : unknown(c, i);
    case BPF_DIV:
    case BPF_MOD:
    case BPF_MOV:
        if (check_alu_offset(c, i) < 0)
            return -EINVAL;
        return check_free(c, i, immediate ? FREE_SRC : FREE_IMM);
    case 0xe0:
    case 0xf0:
        return unknown(c, i);
    default:
        return check_free(c, i, FREE_OFFSET | (immediate ? FREE_SRC : FREE_IMM));
    }
}

/* ---- jumps and calls -------------------------------------------------------------------- */

static int check_jump_target(const struct check *c, uint32_t i, int32_t offset)
{
    const int64_t target = (int64_t)i + 1 + offset, start = c->function->start;
    if (target < start || target >= start + c->function->count)
        return refuse(c, i, "it jumps to %lld, out of the function (%u to %u)", (long long)target,
                      (unsigned)start, (unsigned)(start + c->function->count - 1));
    if (c->code->insns[target].opcode == 0)
        return refuse(c, i, "it jumps into the middle of an instruction, to %lld",
                      (long long)target);
    return 0;
}

/* A local call, or a LDDW that names a function. */
static int check_function_target(const struct check *c, uint32_t i)
{
    const int64_t target = (int64_t)i + 1 + c->code->insns[i].imm;
    if (target < 0 || target >= c->code->count)
        return refuse(c, i, "it names a function at %lld, outside of the program",
                      (long long)target);
    if (bpf_code_function(c->code, (uint32_t)target)->start != target)
        return refuse(c, i, "no function starts at %lld", (long long)target);
    return 0;
}

static int check_call(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    if (BPF_CLASS(insn->opcode) != BPF_JMP)
        return unknown(c, i);
    if (BPF_SOURCE(insn->opcode) == BPF_X) {
        if (insn->imm && insn->dst)
            return refuse(c, i, "it names two registers, r%d and %d", insn->dst, (int)insn->imm);
        if (insn->imm < 0 || insn->imm >= BPF_REGISTERS || insn->dst >= BPF_REGISTERS)
            return refuse(c, i, "no such register: %d", insn->imm ? (int)insn->imm : insn->dst);
        return check_free(c, i, FREE_SRC | FREE_OFFSET);
    }
    const int error = check_free(c, i, FREE_DST | FREE_OFFSET);
    if (error < 0)
        return error;
    if (insn->src == BPF_CALL_HELPER)
        return 0;
    if (insn->src == BPF_CALL_LOCAL)
        return check_function_target(c, i);
    return refuse(c, i, "calls of kind %d are not supported", insn->src);
}

static int check_jump(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    const bool immediate = BPF_SOURCE(insn->opcode) == BPF_K;
    const bool wide = BPF_CLASS(insn->opcode) == BPF_JMP;
    switch (BPF_OP(insn->opcode)) {
    case BPF_JA:
        if (!immediate)
            return unknown(c, i);
        if (check_free(c, i, FREE_DST | FREE_SRC | (wide ? FREE_IMM : FREE_OFFSET)) < 0)
            return -EINVAL;
        return check_jump_target(c, i, wide ? insn->offset : insn->imm);
    case BPF_CALL:
        return check_call(c, i);
    case BPF_EXIT:
        if (!immediate || !wide)
            return unknown(c, i);
        return check_free(c, i, FREE_DST | FREE_SRC | FREE_OFFSET | FREE_IMM);
    case 0xe0:
    case 0xf0:
        return unknown(c, i);
    default:
        if (check_free(c, i, immediate ? FREE_SRC : FREE_IMM) < 0)
            return -EINVAL;
        return check_jump_target(c, i, insn->offset);
    }
}

/* ---- loads and stores ------------------------------------------------------------------- */

static uint64_t section_size(const struct bpf_code *code, unsigned section)
{
    return section == BPF_GLOBAL_DATA ? code->data_size : code->rodata_size;
}

static int check_lddw(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i], *second = insn + 1;
    if (i + 1 == c->function->start + c->function->count || second->opcode || second->dst ||
        second->src || second->offset)
        return refuse(c, i, "the second half of the instruction is missing");
    if (check_target(c, i, insn->dst) < 0 || check_free(c, i, FREE_OFFSET) < 0)
        return -EINVAL;
    switch (insn->src) {
    case BPF_LDDW_NUMBER:
        return 0;
    case BPF_LDDW_FUNCTION:
        if (second->imm)
            return refuse(c, i, "the second half of the address of a function is %d, not 0",
                          (int)second->imm);
        return check_function_target(c, i);
    case BPF_LDDW_GLOBAL:
        break;
    default:
        return refuse(c, i, "64-bit values of kind %d (maps and the like) are not supported",
                      insn->src);
    }
    if (insn->imm != BPF_GLOBAL_RODATA && insn->imm != BPF_GLOBAL_DATA)
        return refuse(c, i, "there is no section %d of globals", (int)insn->imm);
    const uint64_t size = insn->imm == BPF_GLOBAL_DATA ? c->code->data_size : c->code->rodata_size;
    if ((uint32_t)second->imm > size)
        return refuse(c, i, "byte %u is past the end of the globals (%llu bytes)",
                      (unsigned)second->imm, (unsigned long long)size);
    return 0;
}

static int check_atomic(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    const unsigned size = BPF_SIZE(insn->opcode);
    if (size != BPF_W && size != BPF_DW)
        return refuse(c, i, "atomic operations are of 4 or 8 bytes");
    switch (insn->imm) {
    case BPF_ATOMIC_ADD:
    case BPF_ATOMIC_OR:
    case BPF_ATOMIC_AND:
    case BPF_ATOMIC_XOR:
    case BPF_CMPXCHG:
        return 0;
    case BPF_ATOMIC_ADD | BPF_FETCH:
    case BPF_ATOMIC_OR | BPF_FETCH:
    case BPF_ATOMIC_AND | BPF_FETCH:
    case BPF_ATOMIC_XOR | BPF_FETCH:
    case BPF_XCHG:
        return check_target(c, i, insn->src);
    default:
        return refuse(c, i, "no such atomic operation: 0x%x", (unsigned)insn->imm);
    }
}

static int check_load(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    const unsigned mode = BPF_MODE(insn->opcode);
    if (mode != BPF_MEM && !(mode == BPF_MEMSX && BPF_SIZE(insn->opcode) != BPF_DW))
        return unknown(c, i);
    const int error = check_target(c, i, insn->dst);
    return error < 0 ? error : check_free(c, i, FREE_IMM);
}

static int check_memory(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    const unsigned mode = BPF_MODE(insn->opcode);
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_LD:
        if (insn->opcode == BPF_LDDW)
            return check_lddw(c, i);
        if (mode == 0x20 || mode == 0x40)
            return refuse(c, i, "packet access is not supported");
        return unknown(c, i);
    case BPF_LDX:
        return check_load(c, i);
    case BPF_ST:
        return mode == BPF_MEM ? check_free(c, i, FREE_SRC) : unknown(c, i);
    default:
        if (mode == BPF_ATOMIC)
            return check_atomic(c, i);
        return mode == BPF_MEM ? check_free(c, i, FREE_IMM) : unknown(c, i);
    }
}

/* ---- functions -------------------------------------------------------------------------- */

static int check_insn(const struct check *c, uint32_t i)
{
    const struct bpf_insn *insn = &c->code->insns[i];
    if (insn->dst >= BPF_REGISTERS || insn->src >= BPF_REGISTERS)
        return refuse(c, i, "no such register: r%d",
                      insn->dst >= BPF_REGISTERS ? insn->dst : insn->src);
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
        return check_alu(c, i);
    case BPF_JMP:
    case BPF_JMP32:
        return check_jump(c, i);
    default:
        return check_memory(c, i);
    }
}

static int check_function(const struct check *c)
{
    const struct bpf_insn *insns = c->code->insns;
    const uint32_t end = c->function->start + c->function->count;
    uint32_t last = end;
    for (uint32_t i = c->function->start; i < end; i++) {
        const int error = check_insn(c, i);
        if (error < 0)
            return error;
        last = i;
        if (insns[i].opcode == BPF_LDDW)
            i++;
    }
    const uint8_t opcode = insns[last].opcode;
    if (opcode != (BPF_JMP | BPF_EXIT) && opcode != (BPF_JMP | BPF_JA) &&
        opcode != (BPF_JMP32 | BPF_JA))
        return refuse(c, last, "the function runs past its end");
    return 0;
}

/* The functions follow one another and cover all the code. */
static int check_functions(const struct bpf_code *code, struct bpf_log *log)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < code->function_count; i++) {
        const struct bpf_function_info *f = &code->functions[i];
        if (f->start != next || f->count == 0 || f->count > code->count - next) {
            bpf_log_add(log, "function %s (%u instructions from %u) is out of place\n", f->name,
                        (unsigned)f->count, (unsigned)f->start);
            return -EINVAL;
        }
        next += f->count;
    }
    if (next != code->count || next == 0 || next > BPF_MAX_INSNS) {
        bpf_log_add(log, "%u instructions, of which %u are in functions, are no program\n",
                    (unsigned)code->count, (unsigned)next);
        return -EINVAL;
    }
    return 0;
}

static int check_pointers(const struct bpf_code *code, struct bpf_log *log)
{
    for (uint32_t i = 0; i < code->pointer_count; i++) {
        const struct bpf_pointer *p = &code->pointers[i];
        if (p->section > BPF_GLOBAL_DATA || p->target > BPF_GLOBAL_DATA ||
            !range_ok(p->offset, 8, section_size(code, p->section)) ||
            p->value > section_size(code, p->target)) {
            bpf_log_add(log, "the address at byte %llu of globals is out of place\n",
                        (unsigned long long)p->offset);
            return -EINVAL;
        }
    }
    return 0;
}

int bpf_code_check(const struct bpf_code *code, struct bpf_log *log)
{
    struct check c = {.code = code, .log = log};
    int error = check_functions(code, log);
    if (error == 0)
        error = check_pointers(code, log);
    for (uint32_t i = 0; i < code->function_count && error == 0; i++) {
        c.function = &code->functions[i];
        error = check_function(&c);
    }
    return error;
}
