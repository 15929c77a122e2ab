/* Instructions in words, as the kernel's log writes them. */
#include <inttypes.h>
#include <stdio.h>

#include "base/util.h"
#include "bpf/code.h"

/* "r3", or "w3" where only the low half counts. */
struct reg {
    char text[8];
};

static struct reg reg_text(unsigned number, bool wide)
{
    struct reg r;
    snprintf(r.text, sizeof(r.text), "%c%u", wide ? 'r' : 'w', number);
    return r;
}

/* The register or number on the right-hand side. */
static void source_text(const struct bpf_insn *insn, bool wide, char text[16])
{
    if (BPF_SOURCE(insn->opcode) == BPF_X)
        snprintf(text, 16, "%c%u", wide ? 'r' : 'w', insn->src);
    else
        snprintf(text, 16, "%" PRId32, insn->imm);
}

/* ---- arithmetic ------------------------------------------------------------------------- */

static void end_text(const struct bpf_insn *insn, char *text)
{
    const char *kind = BPF_CLASS(insn->opcode) == BPF_ALU64 ? "bswap"
                       : BPF_SOURCE(insn->opcode) == BPF_X  ? "be"
                                                            : "le";
    snprintf(text, BPF_TEXT_SIZE, "r%u = %s%" PRId32 " r%u", insn->dst, kind, insn->imm, insn->dst);
}

static void alu_text(const struct bpf_insn *insn, char *text)
{
    static const char *const signs[] = {
        "+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "", "%=", "^=", "=", "s>>=", "", "", ""};
    const bool wide = BPF_CLASS(insn->opcode) == BPF_ALU64;
    const unsigned op = BPF_OP(insn->opcode);
    const struct reg dst = reg_text(insn->dst, wide);
    char source[16];
    source_text(insn, wide, source);
    if (op == BPF_END)
        end_text(insn, text);
    else if (op == BPF_NEG)
        snprintf(text, BPF_TEXT_SIZE, "%s = -%s", dst.text, dst.text);
    else if (op == BPF_MOV && insn->offset)
        snprintf(text, BPF_TEXT_SIZE, "%s = (s%d)%s", dst.text, insn->offset, source);
    else
        snprintf(text, BPF_TEXT_SIZE, "%s %s%s %s", dst.text,
                 (op == BPF_DIV || op == BPF_MOD) && insn->offset ? "s" : "", signs[op >> 4],
                 source);
}

/* ---- jumps and calls -------------------------------------------------------------------- */

static const char *function_name(const struct bpf_code *code, uint32_t insn)
{
    const struct bpf_function_info *f = bpf_code_function(code, bpf_code_target(code, insn));
    return f ? f->name : "?";
}

static void call_text(const struct bpf_code *code, uint32_t at, char *text)
{
    const struct bpf_insn *insn = &code->insns[at];
    if (BPF_SOURCE(insn->opcode) == BPF_X)
        snprintf(text, BPF_TEXT_SIZE, "callx r%u", bpf_callx_register(insn));
    else if (insn->src == BPF_CALL_LOCAL)
        snprintf(text, BPF_TEXT_SIZE, "call %s", function_name(code, at));
    else
        snprintf(text, BPF_TEXT_SIZE, "call %" PRId32, insn->imm);
}

static void jump_text(const struct bpf_code *code, uint32_t at, char *text)
{
    static const char *const signs[] = {
        "", "==", ">", ">=", "&", "!=", "s>", "s>=", "", "", "<", "<=", "s<", "s<=", "", ""};
    const struct bpf_insn *insn = &code->insns[at];
    const bool wide = BPF_CLASS(insn->opcode) == BPF_JMP;
    char source[16];
    source_text(insn, wide, source);
    switch (BPF_OP(insn->opcode)) {
    case BPF_JA:
        snprintf(text, BPF_TEXT_SIZE, "goto%s %+" PRId32, wide ? "" : "l",
                 wide ? insn->offset : insn->imm);
        break;
    case BPF_CALL:
        call_text(code, at, text);
        break;
    case BPF_EXIT:
        snprintf(text, BPF_TEXT_SIZE, "exit");
        break;
    default:
        snprintf(text, BPF_TEXT_SIZE, "if %s %s %s goto %+d", reg_text(insn->dst, wide).text,
                 signs[BPF_OP(insn->opcode) >> 4], source, insn->offset);
    }
}

/* ---- loads and stores ------------------------------------------------------------------- */

/* "*(u32 *)(r1 +4)" */
static void memory_text(const struct bpf_insn *insn, unsigned base, char text[40])
{
    snprintf(text, 40, "*(%c%u *)(r%u %+d)", BPF_MODE(insn->opcode) == BPF_MEMSX ? 's' : 'u',
             8 * bpf_access_size(insn->opcode), base, insn->offset);
}

static void atomic_text(const struct bpf_insn *insn, const char *memory, char *text)
{
    static const char *const signs[] = {"+=", "", "", "", "|=", "&=", "", "", "", "", "^="};
    static const char *const names[] = {"add", "", "", "", "or", "and", "", "", "", "", "xor"};
    const bool wide = BPF_SIZE(insn->opcode) == BPF_DW;
    const struct reg src = reg_text(insn->src, wide);
    const unsigned op = ((unsigned)insn->imm & 0xf0) >> 4;
    if (insn->imm == BPF_XCHG)
        snprintf(text, BPF_TEXT_SIZE, "%s = xchg(%s, %s)", src.text, memory, src.text);
    else if (insn->imm == BPF_CMPXCHG)
        snprintf(text, BPF_TEXT_SIZE, "%s = cmpxchg(%s, %s, %s)", reg_text(0, wide).text, memory,
                 reg_text(0, wide).text, src.text);
    else if (op >= ARRAY_SIZE(signs) || !*signs[op])
        snprintf(text, BPF_TEXT_SIZE, "atomic %#" PRIx32 " on %s", (uint32_t)insn->imm, memory);
    else if (insn->imm & BPF_FETCH)
        snprintf(text, BPF_TEXT_SIZE, "%s = atomic_fetch_%s(%s, %s)", src.text, names[op], memory,
                 src.text);
    else
        snprintf(text, BPF_TEXT_SIZE, "lock %s %s %s", memory, signs[op], src.text);
}

static void lddw_text(const struct bpf_code *code, uint32_t at, char *text)
{
    const struct bpf_insn *insn = &code->insns[at];
    const uint32_t high = at + 1 < code->count ? (uint32_t)insn[1].imm : 0;
    if (insn->src == BPF_LDDW_FUNCTION)
        snprintf(text, BPF_TEXT_SIZE, "r%u = %s", insn->dst, function_name(code, at));
    else if (insn->src == BPF_LDDW_GLOBAL)
        snprintf(text, BPF_TEXT_SIZE, "r%u = %s +%" PRIu32, insn->dst,
                 insn->imm == BPF_GLOBAL_DATA ? "data" : "rodata", high);
    else
        snprintf(text, BPF_TEXT_SIZE, "r%u = %#" PRIx64 " ll", insn->dst,
                 (uint64_t)high << 32 | (uint32_t)insn->imm);
}

static void store_text(const struct bpf_insn *insn, char *text)
{
    char memory[40];
    memory_text(insn, insn->dst, memory);
    const bool wide = BPF_SIZE(insn->opcode) == BPF_DW;
    if (BPF_CLASS(insn->opcode) == BPF_ST)
        snprintf(text, BPF_TEXT_SIZE, "%s = %" PRId32, memory, insn->imm);
    else if (BPF_MODE(insn->opcode) == BPF_ATOMIC)
        atomic_text(insn, memory, text);
    else
        snprintf(text, BPF_TEXT_SIZE, "%s = %s", memory, reg_text(insn->src, wide).text);
}

void bpf_insn_text(const struct bpf_code *code, uint32_t at, char text[BPF_TEXT_SIZE])
{
    const struct bpf_insn *insn = &code->insns[at];
    char memory[40];
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
        alu_text(insn, text);
        break;
    case BPF_JMP:
    case BPF_JMP32:
        jump_text(code, at, text);
        break;
    case BPF_LDX:
        memory_text(insn, insn->src, memory);
        snprintf(text, BPF_TEXT_SIZE, "r%u = %s", insn->dst, memory);
        break;
    case BPF_ST:
    case BPF_STX:
        store_text(insn, text);
        break;
    default:
        if (insn->opcode == BPF_LDDW)
            lddw_text(code, at, text);
        else
            snprintf(text, BPF_TEXT_SIZE, "second half of a 64-bit value");
    }
}

/* ---- modules ---------------------------------------------------------------------------- */

struct listing {
    const struct bpf_code *code;
    const struct bpf_line *line; /* printed last */
    void (*print)(void *arg, const char *text);
    void *arg;
};

static void print_source(struct listing *l, uint32_t at)
{
    char text[1024];
    const struct bpf_line *line = bpf_code_line(l->code, at);
    const struct bpf_line *last = l->line;
    l->line = line;
    if (!line || (last && last->line == line->line && last->file == line->file))
        return;
    snprintf(text, sizeof(text), "; %s:%" PRIu32 ": %s", line->file, line->line, line->text);
    l->print(l->arg, text);
}

/* The slot that a jump goes to; false if it is none. */
static bool jump_target(const struct bpf_insn *insn, uint32_t at, uint32_t *target)
{
    const unsigned class = BPF_CLASS(insn->opcode), op = BPF_OP(insn->opcode);
    if ((class != BPF_JMP && class != BPF_JMP32) || op == BPF_CALL || op == BPF_EXIT)
        return false;
    const int32_t offset = class == BPF_JMP32 && op == BPF_JA ? insn->imm : insn->offset;
    *target = at + 1 + (uint32_t)offset;
    return true;
}

static void print_insn(const struct listing *l, uint32_t at)
{
    char words[BPF_TEXT_SIZE], text[BPF_TEXT_SIZE + 64];
    const struct bpf_insn *insn = &l->code->insns[at];
    uint32_t target;
    bpf_insn_text(l->code, at, words);
    int n = snprintf(text, sizeof(text), "%6" PRIu32 ": (%02x) %s", at, insn->opcode, words);
    if (jump_target(insn, at, &target))
        snprintf(text + n, sizeof(text) - (size_t)n, " <%" PRIu32 ">", target);
    l->print(l->arg, text);
}

void bpf_module_disassemble(const struct bpf_module *module,
                            void (*line)(void *arg, const char *text), void *arg)
{
    const struct bpf_code *code = &module->code;
    struct listing l = {.code = code, .print = line, .arg = arg};
    char text[256];
    for (uint32_t f = 0; f < code->function_count; f++) {
        const struct bpf_function_info *function = &code->functions[f];
        snprintf(text, sizeof(text), "%s:", function->name);
        line(arg, text);
        for (uint32_t i = function->start; i < function->start + function->count; i++) {
            print_source(&l, i);
            print_insn(&l, i);
            if (code->insns[i].opcode == BPF_LDDW)
                i++;
        }
    }
}
