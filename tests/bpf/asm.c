/* An assembler for tests (asm.h). */
#include "asm.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "bpf/insn.h"

enum { MAX_LABELS = 256 };

struct assembler {
    const char *p; /* in the line */
    char line[160];
    char *error;
    uint8_t *bytes;
    size_t count, size; /* instructions */
    bool labels_known;  /* the second pass */
    unsigned label_count;
    struct {
        char name[32];
        size_t insn;
    } labels[MAX_LABELS];
};

static bool wrong(struct assembler *a, const char *what)
{
    if (!a->error[0])
        snprintf(a->error, 128, "%s in: %.80s", what, a->line);
    return false;
}

static bool emit(struct assembler *a, unsigned opcode, unsigned dst, unsigned src, int64_t offset,
                 int64_t imm)
{
    if (a->count == a->size)
        return wrong(a, "too many instructions");
    if (offset < INT16_MIN || offset > INT16_MAX)
        return wrong(a, "an offset out of range");
    if (imm < INT32_MIN || imm > UINT32_MAX)
        return wrong(a, "an immediate out of range");
    uint8_t *b = a->bytes + BPF_INSN_SIZE * a->count++;
    b[0] = (uint8_t)opcode;
    b[1] = (uint8_t)(dst | src << 4);
    b[2] = (uint8_t)offset;
    b[3] = (uint8_t)(offset >> 8);
    store_le32(b + 4, (uint32_t)imm);
    return true;
}

/* ---- words ------------------------------------------------------------------------------ */

static void skip(struct assembler *a)
{
    while (isspace((unsigned char)*a->p))
        a->p++;
}

/* Whether this comes next; it is passed over. A word does not end within another. */
static bool eat(struct assembler *a, const char *what)
{
    skip(a);
    const size_t n = strlen(what);
    if (strncmp(a->p, what, n) != 0)
        return false;
    if (isalpha((unsigned char)what[0]) && isalnum((unsigned char)what[n - 1]) &&
        isalnum((unsigned char)a->p[n]))
        return false;
    a->p += n;
    return true;
}

static bool number(struct assembler *a, int64_t *value)
{
    char *end;
    skip(a);
    const char *digits = *a->p == '+' || *a->p == '-' ? a->p + 1 : a->p;
    if (!isdigit((unsigned char)*digits))
        return false;
    *value = *a->p == '-' ? (int64_t)(0 - strtoull(digits, &end, 0))
                          : (int64_t)strtoull(digits, &end, 0);
    a->p = end;
    return true;
}

static bool reg(struct assembler *a, unsigned *r, bool *narrow)
{
    skip(a);
    if ((*a->p != 'r' && *a->p != 'w') || !isdigit((unsigned char)a->p[1]))
        return false;
    *narrow = *a->p == 'w';
    *r = (unsigned)strtoul(a->p + 1, (char **)(uintptr_t)&a->p, 10);
    return *r < 16;
}

static bool name(struct assembler *a, char word[32])
{
    size_t n = 0;
    skip(a);
    if (!isalpha((unsigned char)*a->p) && *a->p != '_')
        return false;
    while ((isalnum((unsigned char)a->p[n]) || a->p[n] == '_') && n < 31) {
        word[n] = a->p[n];
        n++;
    }
    word[n] = '\0';
    a->p += n;
    return true;
}

/* A label, or a number: from the next instruction on. */
static bool target(struct assembler *a, int64_t *distance)
{
    char word[32];
    if (number(a, distance))
        return true;
    if (!name(a, word))
        return wrong(a, "no target");
    *distance = 0;
    for (unsigned i = 0; i < a->label_count; i++)
        if (!strcmp(a->labels[i].name, word)) {
            *distance = (int64_t)a->labels[i].insn - (int64_t)a->count - 1;
            return true;
        }
    return a->labels_known ? wrong(a, "no such label") : true;
}

/* "*(u32 *)(r1 +4)" */
static bool memory(struct assembler *a, unsigned *size, bool *sign, unsigned *base, int64_t *offset)
{
    static const struct {
        const char *name;
        unsigned size;
    } types[] = {{"8", BPF_B}, {"16", BPF_H}, {"32", BPF_W}, {"64", BPF_DW}};
    bool narrow;
    if (!eat(a, "*("))
        return false;
    *sign = *a->p == 's';
    if (*a->p != 's' && *a->p != 'u')
        return wrong(a, "no type");
    a->p++;
    unsigned i = 0;
    while (i < ARRAY_SIZE(types) && !eat(a, types[i].name))
        i++;
    if (i == ARRAY_SIZE(types) || !eat(a, "*") || !eat(a, ")") || !eat(a, "(") ||
        !reg(a, base, &narrow) || !number(a, offset) || !eat(a, ")"))
        return wrong(a, "no memory");
    *size = types[i].size;
    return true;
}

/* ---- instructions ----------------------------------------------------------------------- */

static bool jump_if(struct assembler *a)
{
    static const struct {
        const char *text;
        unsigned op;
    } conditions[] = {{"==", BPF_JEQ},  {"!=", BPF_JNE},  {"s>=", BPF_JSGE}, {"s<=", BPF_JSLE},
                      {"s>", BPF_JSGT}, {"s<", BPF_JSLT}, {">=", BPF_JGE},   {"<=", BPF_JLE},
                      {">", BPF_JGT},   {"<", BPF_JLT},   {"&", BPF_JSET}};
    unsigned dst, src = 0, i = 0;
    bool narrow, x;
    int64_t imm = 0, distance;
    if (!reg(a, &dst, &narrow))
        return wrong(a, "no register");
    while (i < ARRAY_SIZE(conditions) && !eat(a, conditions[i].text))
        i++;
    if (i == ARRAY_SIZE(conditions))
        return wrong(a, "no condition");
    const bool immediate = !reg(a, &src, &x);
    if (immediate && !number(a, &imm))
        return wrong(a, "no operand");
    if (!eat(a, "goto") || !target(a, &distance))
        return wrong(a, "no goto");
    return emit(a, conditions[i].op | (immediate ? BPF_K : BPF_X) | (narrow ? BPF_JMP32 : BPF_JMP),
                dst, src, distance, imm);
}

static bool call(struct assembler *a)
{
    int64_t value;
    skip(a);
    if (isdigit((unsigned char)*a->p) || *a->p == '-')
        return number(a, &value) && emit(a, BPF_JMP | BPF_CALL, 0, BPF_CALL_HELPER, 0, value);
    return target(a, &value) && emit(a, BPF_JMP | BPF_CALL, 0, BPF_CALL_LOCAL, 0, value);
}

static const struct operation {
    const char *text;
    unsigned op;
    int offset;
} operations[] = {{"s>>=", BPF_ARSH, 0}, {"s/=", BPF_DIV, 1}, {"s%=", BPF_MOD, 1},
                  {"+=", BPF_ADD, 0},    {"-=", BPF_SUB, 0},  {"*=", BPF_MUL, 0},
                  {"/=", BPF_DIV, 0},    {"|=", BPF_OR, 0},   {"&=", BPF_AND, 0},
                  {"<<=", BPF_LSH, 0},   {">>=", BPF_RSH, 0}, {"%=", BPF_MOD, 0},
                  {"^=", BPF_XOR, 0}};

static const struct operation *operation(struct assembler *a)
{
    for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
        if (eat(a, operations[i].text))
            return &operations[i];
    return NULL;
}

/* After "lock" or "fetch". */
static bool atomic(struct assembler *a, unsigned fetch)
{
    unsigned size, base, src;
    bool sign, narrow;
    int64_t offset;
    if (!memory(a, &size, &sign, &base, &offset))
        return wrong(a, "no memory");
    const struct operation *o = operation(a);
    if (!o || !reg(a, &src, &narrow))
        return wrong(a, "no operation");
    return emit(a, BPF_STX | BPF_ATOMIC | size, base, src, offset, o->op | fetch);
}

static bool exchange(struct assembler *a, unsigned imm, unsigned src)
{
    unsigned size, base;
    bool sign, narrow;
    int64_t offset;
    if (!memory(a, &size, &sign, &base, &offset))
        return wrong(a, "no memory");
    if (imm == BPF_CMPXCHG && !reg(a, &src, &narrow))
        return wrong(a, "no register");
    return emit(a, BPF_STX | BPF_ATOMIC | size, base, src, offset, imm);
}

static bool store(struct assembler *a)
{
    unsigned size, base, src;
    bool sign, narrow;
    int64_t offset, imm;
    if (!memory(a, &size, &sign, &base, &offset) || !eat(a, "="))
        return wrong(a, "no store");
    if (reg(a, &src, &narrow))
        return emit(a, BPF_STX | BPF_MEM | size, base, src, offset, 0);
    return number(a, &imm) ? emit(a, BPF_ST | BPF_MEM | size, base, 0, offset, imm)
                           : wrong(a, "no value");
}

static bool wide(struct assembler *a, unsigned dst, unsigned src, int64_t low, int64_t high)
{
    return emit(a, BPF_LDDW, dst, src, 0, (uint32_t)low) && emit(a, 0, 0, 0, 0, (uint32_t)high);
}

static bool byte_order(struct assembler *a, unsigned dst, bool *found)
{
    static const struct {
        const char *text;
        unsigned opcode;
        int bits;
    } orders[] = {
        {"le16", BPF_ALU | BPF_END | BPF_K, 16}, {"le32", BPF_ALU | BPF_END | BPF_K, 32},
        {"le64", BPF_ALU | BPF_END | BPF_K, 64}, {"be16", BPF_ALU | BPF_END | BPF_X, 16},
        {"be32", BPF_ALU | BPF_END | BPF_X, 32}, {"be64", BPF_ALU | BPF_END | BPF_X, 64},
        {"bswap16", BPF_ALU64 | BPF_END, 16},    {"bswap32", BPF_ALU64 | BPF_END, 32},
        {"bswap64", BPF_ALU64 | BPF_END, 64},
    };
    unsigned src;
    bool narrow;
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        if (!eat(a, orders[i].text))
            continue;
        *found = true;
        if (!reg(a, &src, &narrow) || src != dst)
            return wrong(a, "another register");
        return emit(a, orders[i].opcode, dst, 0, 0, orders[i].bits);
    }
    *found = false;
    return true;
}

/* "= data 8 ll", "= rodata 8 ll", "= label ll" */
static bool address(struct assembler *a, unsigned dst)
{
    int64_t value;
    const bool rodata = eat(a, "rodata");
    if (rodata || eat(a, "data")) {
        if (!number(a, &value) || !eat(a, "ll"))
            return wrong(a, "no place in globals");
        return wide(a, dst, BPF_LDDW_GLOBAL, rodata ? BPF_GLOBAL_RODATA : BPF_GLOBAL_DATA, value);
    }
    return target(a, &value) && eat(a, "ll") && wide(a, dst, BPF_LDDW_FUNCTION, value, 0);
}

static bool assign(struct assembler *a, unsigned dst, bool narrow)
{
    const unsigned class = narrow ? BPF_ALU : BPF_ALU64;
    unsigned src, size;
    int64_t value, offset;
    bool other, sign;
    if (reg(a, &src, &other))
        return emit(a, class | BPF_MOV | BPF_X, dst, src, 0, 0);
    if (number(a, &value))
        return eat(a, "ll") ? wide(a, dst, 0, value, value >> 32)
                            : emit(a, class | BPF_MOV | BPF_K, dst, 0, 0, value);
    if (eat(a, "-"))
        return reg(a, &src, &other) && src == dst ? emit(a, class | BPF_NEG, dst, 0, 0, 0)
                                                  : wrong(a, "another register");
    skip(a);
    if (!strncmp(a->p, "(s", 2)) {
        a->p += 2;
        if (!number(a, &value) || !eat(a, ")") || !reg(a, &src, &other))
            return wrong(a, "no cast");
        return emit(a, class | BPF_MOV | BPF_X, dst, src, value, 0);
    }
    if (*a->p == '*')
        return memory(a, &size, &sign, &src, &offset) &&
               emit(a, BPF_LDX | (sign ? BPF_MEMSX : BPF_MEM) | size, dst, src, offset, 0);
    if (eat(a, "fetch"))
        return atomic(a, BPF_FETCH);
    if (eat(a, "xchg"))
        return exchange(a, BPF_XCHG, dst);
    if (eat(a, "cmpxchg"))
        return exchange(a, BPF_CMPXCHG, 0);
    bool found;
    if (!byte_order(a, dst, &found) || found)
        return found && !a->error[0];
    return address(a, dst);
}

static bool arithmetic(struct assembler *a)
{
    unsigned dst, src = 0;
    bool narrow, other;
    int64_t imm = 0;
    if (!reg(a, &dst, &narrow))
        return wrong(a, "no instruction");
    const struct operation *o = operation(a);
    if (!o)
        return eat(a, "=") ? assign(a, dst, narrow) : wrong(a, "no operation");
    const bool immediate = !reg(a, &src, &other);
    if (immediate && !number(a, &imm))
        return wrong(a, "no operand");
    return emit(a, o->op | (immediate ? BPF_K : BPF_X) | (narrow ? BPF_ALU : BPF_ALU64), dst, src,
                o->offset, imm);
}

static bool raw(struct assembler *a)
{
    uint8_t b[BPF_INSN_SIZE];
    for (unsigned i = 0; i < sizeof(b); i++) {
        char *end;
        b[i] = (uint8_t)strtoul(a->p, &end, 16);
        if (end == a->p)
            return wrong(a, "no 8 bytes");
        a->p = end;
    }
    return emit(a, b[0], b[1] & 15, b[1] >> 4, (int16_t)(b[2] | b[3] << 8),
                (int32_t)load_le32(b + 4));
}

static bool instruction(struct assembler *a)
{
    unsigned r;
    bool narrow;
    int64_t distance;
    skip(a);
    if (*a->p == '*')
        return store(a);
    if (eat(a, ".raw"))
        return raw(a);
    if (eat(a, "lock"))
        return atomic(a, 0);
    if (eat(a, "if"))
        return jump_if(a);
    if (eat(a, "goto"))
        return target(a, &distance) && emit(a, BPF_JMP | BPF_JA, 0, 0, distance, 0);
    if (eat(a, "gotol"))
        return target(a, &distance) && emit(a, BPF_JMP32 | BPF_JA, 0, 0, 0, distance);
    if (eat(a, "callx"))
        return reg(a, &r, &narrow) && emit(a, BPF_JMP | BPF_CALL | BPF_X, r, 0, 0, 0);
    if (eat(a, "call"))
        return call(a);
    if (eat(a, "exit"))
        return emit(a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    return arithmetic(a);
}

static bool line(struct assembler *a)
{
    char word[32];
    a->p = a->line;
    if (name(a, word) && eat(a, ":")) {
        if (a->labels_known)
            return true;
        if (a->label_count == MAX_LABELS)
            return wrong(a, "too many labels");
        memcpy(a->labels[a->label_count].name, word, sizeof(word));
        a->labels[a->label_count++].insn = a->count;
        return true;
    }
    a->p = a->line;
    skip(a);
    if (!*a->p)
        return true;
    if (!instruction(a))
        return wrong(a, "a mistake");
    skip(a);
    return *a->p ? wrong(a, "more than an instruction") : true;
}

static bool pass(struct assembler *a, const char *text)
{
    a->count = 0;
    while (*text) {
        const size_t all = strcspn(text, "\n"), n = strcspn(text, "\n;#");
        snprintf(a->line, sizeof(a->line), "%.*s", (int)n, text);
        if (!line(a))
            return false;
        text += all + (text[all] != '\0');
    }
    return true;
}

long bpf_assemble(const char *text, uint8_t *bytes, size_t size, char error[128])
{
    struct assembler a = {.error = error, .bytes = bytes, .size = size / BPF_INSN_SIZE};
    error[0] = '\0';
    if (!pass(&a, text))
        return -1;
    a.labels_known = true;
    return pass(&a, text) ? (long)(a.count * BPF_INSN_SIZE) : -1;
}
