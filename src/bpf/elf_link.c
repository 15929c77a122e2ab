/* The functions of a module, and the relocations that tie code and globals together. */
#include "bpf/elf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

enum { RELOCATION_SIZE = 16 };

/* Relocations of BPF, by what they change. */
enum {
    R_NONE = 0,
    R_64_64 = 1,    /* both halves of an LDDW */
    R_64_ABS64 = 2, /* 8 bytes of data */
    R_64_ABS32 = 3,
    R_64_NODYLD32 = 4,
    R_64_32 = 10, /* imm of a call */
};

/* ---- functions -------------------------------------------------------------------------- */

/* Of several names for one place, the best: `count` is the rank until they are counted. */
enum { RANK_GLOBAL, RANK_LOCAL, RANK_SECTION };

static int compare_functions(const void *a, const void *b)
{
    const struct bpf_function_info *x = a, *y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    if (x->count != y->count)
        return x->count < y->count ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int add_function(struct bpf_loader *l, uint32_t index)
{
    struct bpf_symbol symbol;
    int r = bpf_elf_symbol(l, index, &symbol);
    if (r < 0 || symbol.type != ELF_TYPE_FUNCTION || symbol.section >= l->section_count)
        return r;
    const struct bpf_elf_section *s = &l->sections[symbol.section];
    if (s->place != BPF_PLACE_CODE)
        return 0;
    if (symbol.value % sizeof(struct bpf_insn) || symbol.value >= s->size ||
        !range_ok(symbol.value, symbol.size, s->size))
        return bpf_elf_bad(l, "function '%s': %llu bytes at %llu are not in section %s",
                           symbol.name, (unsigned long long)symbol.size,
                           (unsigned long long)symbol.value, s->name);
    const bool global = symbol.bind != ELF_BIND_LOCAL;
    l->code->functions[l->code->function_count++] = (struct bpf_function_info){
        .start = (uint32_t)((s->base + symbol.value) / sizeof(struct bpf_insn)),
        .count = global ? RANK_GLOBAL : RANK_LOCAL,
        .name = symbol.name,
        .global = global,
    };
    return 0;
}

/* Code before the first function of a section, as assemblers make it. */
static void add_section_start(struct bpf_loader *l, const struct bpf_elf_section *s)
{
    if (s->place == BPF_PLACE_CODE && s->size)
        l->code->functions[l->code->function_count++] = (struct bpf_function_info){
            .start = (uint32_t)(s->base / sizeof(struct bpf_insn)),
            .count = RANK_SECTION,
            .name = s->name,
            .global = true,
        };
}

int bpf_elf_functions(struct bpf_loader *l)
{
    struct bpf_code *c = l->code;
    c->functions =
        base_alloc_array((size_t)l->symbol_count + l->section_count, sizeof(*c->functions));
    if (!c->functions)
        return -ENOMEM;
    for (uint32_t i = 0; i < l->symbol_count; i++) {
        int r = add_function(l, i);
        if (r < 0)
            return r;
    }
    for (uint32_t i = 0; i < l->section_count; i++)
        add_section_start(l, &l->sections[i]);
    qsort(c->functions, c->function_count, sizeof(*c->functions), compare_functions);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->function_count; i++)
        if (!kept || c->functions[kept - 1].start != c->functions[i].start)
            c->functions[kept++] = c->functions[i];
    c->function_count = kept;
    for (uint32_t i = 0; i < kept; i++) {
        const uint32_t end = i + 1 < kept ? c->functions[i + 1].start : c->count;
        c->functions[i].count = end - c->functions[i].start;
    }
    return 0;
}

/* Whether this is a local call, or names a function. */
static bool names_function(const struct bpf_insn *insn)
{
    return (insn->opcode == (BPF_JMP | BPF_CALL) && insn->src == BPF_CALL_LOCAL) ||
           (insn->opcode == BPF_LDDW && insn->src == BPF_LDDW_FUNCTION);
}

/* starts: one for each instruction, 1 where a function starts. */
static int split_functions(struct bpf_code *c, const uint8_t *starts, uint32_t count)
{
    struct bpf_function_info *functions = base_alloc_array(count, sizeof(*functions));
    if (!functions)
        return -ENOMEM;
    uint32_t n = 0, old = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (old < c->function_count && c->functions[old].start == i)
            functions[n++] = c->functions[old++];
        else if (starts[i])
            functions[n++] = (struct bpf_function_info){.start = i, .name = "local"};
    }
    for (uint32_t i = 0; i < n; i++)
        functions[i].count = (i + 1 < n ? functions[i + 1].start : c->count) - functions[i].start;
    base_free(c->functions);
    c->functions = functions;
    c->function_count = n;
    return 0;
}

int bpf_elf_local_functions(struct bpf_loader *l)
{
    struct bpf_code *c = l->code;
    uint8_t *starts = base_alloc(c->count);
    uint32_t more = 0;
    if (!starts)
        return -ENOMEM;
    for (uint32_t i = 0; i < c->function_count; i++)
        starts[c->functions[i].start] = 1;
    for (uint32_t i = 0; i < c->count; i++) {
        const uint32_t target = bpf_code_target(c, i);
        if (names_function(&c->insns[i]) && target < c->count && !starts[target]) {
            starts[target] = 1;
            more++;
        }
    }
    int r = more ? split_functions(c, starts, c->function_count + more) : 0;
    base_free(starts);
    return r;
}

/* ---- what a symbol stands for ------------------------------------------------------------- */

struct target {
    enum bpf_place place; /* NONE: nothing, address 0 */
    uint64_t value;       /* byte in that place */
};

static int outside(const struct bpf_loader *l, const struct bpf_symbol *symbol, uint64_t addend)
{
    return bpf_elf_bad(l, "'%s' and %lld bytes is not in its section", symbol->name,
                       (long long)addend);
}

static int resolve_common(const struct bpf_loader *l, uint32_t index,
                          const struct bpf_symbol *symbol, uint64_t addend, struct target *target)
{
    if (addend > symbol->size)
        return outside(l, symbol, addend);
    *target = (struct target){BPF_PLACE_DATA, l->common[index] + addend};
    return 0;
}

/* Compilers make calls of these out of loops and assignments. */
static bool is_library(const char *name)
{
    static const char *const names[] = {"memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

static int undefined(const struct bpf_loader *l, const char *name)
{
    if (is_library(name))
        return bpf_elf_bad(l, "'%s' is not defined; define it, or compile with -fno-builtin", name);
    return bpf_elf_bad(l, "'%s' is not defined (helpers are called by their number)", name);
}

static int resolve(const struct bpf_loader *l, uint32_t index, uint64_t addend,
                   struct target *target)
{
    struct bpf_symbol symbol;
    int r = bpf_elf_symbol(l, index, &symbol);
    if (r < 0)
        return r;
    if (symbol.section == ELF_INDEX_COMMON)
        return resolve_common(l, index, &symbol, addend, target);
    if (symbol.section == ELF_INDEX_UNDEFINED) {
        *target = (struct target){BPF_PLACE_NONE, 0};
        if (symbol.bind == ELF_BIND_WEAK)
            return 0;
        return undefined(l, symbol.name);
    }
    if (symbol.section >= l->section_count)
        return bpf_elf_bad(l, "'%s' is in section %#x, which means nothing here", symbol.name,
                           symbol.section);
    const struct bpf_elf_section *s = &l->sections[symbol.section];
    if (s->place == BPF_PLACE_NONE)
        return bpf_elf_bad(l, "'%s' is in section %s, which is not loaded%s", symbol.name, s->name,
                           strstr(s->name, "maps")           ? ": there are no maps"
                           : !strcmp(s->name, ".jumptables") ? ": compile with -fno-jump-tables"
                                                             : "");
    const uint64_t value = symbol.value + addend;
    const bool code = s->place == BPF_PLACE_CODE;
    if (value > s->size || (code && (value == s->size || value % sizeof(struct bpf_insn))))
        return outside(l, &symbol, addend);
    *target = (struct target){s->place, s->base + value};
    return 0;
}

/* ---- relocations ------------------------------------------------------------------------ */

/* The distance from the slot behind `insn`. */
static int32_t distance(uint64_t target, uint64_t insn)
{
    return (int32_t)((int64_t)(target / sizeof(struct bpf_insn)) - (int64_t)insn - 1);
}

static int relocate_call(struct bpf_loader *l, uint64_t at, uint32_t symbol)
{
    struct bpf_insn *insn = &l->code->insns[at];
    const uint64_t addend = ((uint64_t)(int64_t)insn->imm + 1) * sizeof(struct bpf_insn);
    struct target target;
    int r = resolve(l, symbol, addend, &target);
    if (r < 0)
        return r;
    if (target.place != BPF_PLACE_CODE)
        return bpf_elf_bad(l, "instruction %llu: calls what is no function",
                           (unsigned long long)at);
    insn->src = BPF_CALL_LOCAL;
    insn->imm = distance(target.value, at);
    return 0;
}

static int relocate_lddw(struct bpf_loader *l, uint64_t at, uint32_t symbol)
{
    struct bpf_insn *insn = &l->code->insns[at];
    const uint64_t addend = (uint32_t)insn[0].imm | (uint64_t)(uint32_t)insn[1].imm << 32;
    struct target target;
    int r = resolve(l, symbol, addend, &target);
    if (r < 0)
        return r;
    insn[0].src = BPF_LDDW_GLOBAL;
    insn[0].imm = (int32_t)target.place;
    insn[1].imm = (int32_t)target.value;
    if (target.place == BPF_PLACE_CODE) {
        insn[0].src = BPF_LDDW_FUNCTION;
        insn[0].imm = distance(target.value, at);
        insn[1].imm = 0;
    } else if (target.place == BPF_PLACE_NONE) {
        insn[0].src = BPF_LDDW_NUMBER;
        insn[0].imm = insn[1].imm = 0;
    }
    return 0;
}

static int relocate_code(struct bpf_loader *l, const struct bpf_elf_section *s, uint64_t offset,
                         uint32_t type, uint32_t symbol)
{
    const uint64_t size = sizeof(struct bpf_insn);
    const uint64_t at = (s->base + offset) / size;
    if (offset % size == 0 && range_ok(offset, size, s->size)) {
        const uint8_t opcode = l->code->insns[at].opcode;
        if (type == R_64_32 && opcode == (BPF_JMP | BPF_CALL))
            return relocate_call(l, at, symbol);
        if (type == R_64_64 && opcode == BPF_LDDW && range_ok(offset, 2 * size, s->size))
            return relocate_lddw(l, at, symbol);
    }
    return bpf_elf_bad(l, "section %s: no relocation of type %u can be at %llu", s->name, type,
                       (unsigned long long)offset);
}

static int relocate_data(struct bpf_loader *l, const struct bpf_elf_section *s, uint64_t offset,
                         uint32_t type, uint32_t symbol)
{
    struct bpf_code *c = l->code;
    struct target target;
    if (type != R_64_ABS64 || s->type == ELF_SECTION_NOBITS || !range_ok(offset, 8, s->size))
        return bpf_elf_bad(l, "section %s: no relocation of type %u can be at %llu%s", s->name,
                           type, (unsigned long long)offset,
                           type == R_64_ABS32 || type == R_64_NODYLD32 ? ": addresses have 64 bits"
                                                                       : "");
    uint8_t *to = (s->place == BPF_PLACE_DATA ? c->data : c->rodata) + s->base + offset;
    int r = resolve(l, symbol, load_le64(to), &target);
    if (r < 0)
        return r;
    store_le64(to, 0);
    if (target.place == BPF_PLACE_CODE)
        store_le64(to, BPF_CODE_ADDRESS + target.value / sizeof(struct bpf_insn));
    else if (target.place != BPF_PLACE_NONE)
        c->pointers[c->pointer_count++] = (struct bpf_pointer){
            .offset = s->base + offset,
            .value = target.value,
            .section = (uint8_t)s->place,
            .target = (uint8_t)target.place,
        };
    return 0;
}

static int relocate_section(struct bpf_loader *l, const struct bpf_elf_section *relocations)
{
    const struct bpf_elf_section *s = &l->sections[relocations->info];
    for (uint64_t i = 0; i < relocations->size / RELOCATION_SIZE; i++) {
        const uint8_t *entry = l->file + relocations->offset + i * RELOCATION_SIZE;
        const uint64_t offset = load_le64(entry);
        const uint32_t type = load_le32(entry + 8), symbol = load_le32(entry + 12);
        if (type == R_NONE)
            continue;
        if (symbol >= l->symbol_count)
            return bpf_elf_bad(l, "section %s: there is no symbol %u", relocations->name, symbol);
        int r = s->place == BPF_PLACE_CODE ? relocate_code(l, s, offset, type, symbol)
                                           : relocate_data(l, s, offset, type, symbol);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Whether a section holds relocations of what is loaded: 1, 0, or -EINVAL if they are not sound. */
static int has_relocations(const struct bpf_loader *l, const struct bpf_elf_section *r)
{
    if (r->type != ELF_SECTION_REL && r->type != ELF_SECTION_RELA)
        return 0;
    if (r->info >= l->section_count)
        return bpf_elf_bad(l, "section %s: there is no section %u", r->name, r->info);
    if (l->sections[r->info].place == BPF_PLACE_NONE)
        return 0;
    if (r->type == ELF_SECTION_RELA)
        return bpf_elf_bad(l, "section %s: relocations of type RELA are not supported", r->name);
    if (r->size % RELOCATION_SIZE || r->link != l->symtab || !l->symtab)
        return bpf_elf_bad(l, "section %s: no sound table of relocations", r->name);
    return 1;
}

static int compare_pointers(const void *a, const void *b)
{
    const struct bpf_pointer *x = a, *y = b;
    if (x->section != y->section)
        return x->section < y->section ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

int bpf_elf_relocate(struct bpf_loader *l)
{
    struct bpf_code *c = l->code;
    uint64_t most = 0;
    for (uint32_t i = 0; i < l->section_count; i++) {
        int r = has_relocations(l, &l->sections[i]);
        if (r < 0)
            return r;
        if (r && l->sections[l->sections[i].info].place != BPF_PLACE_CODE)
            most += l->sections[i].size / RELOCATION_SIZE;
    }
    c->pointers = most ? base_alloc_array(most, sizeof(*c->pointers)) : NULL;
    if (most && !c->pointers)
        return -ENOMEM;
    for (uint32_t i = 0; i < l->section_count; i++) {
        int r = has_relocations(l, &l->sections[i]) ? relocate_section(l, &l->sections[i]) : 0;
        if (r < 0)
            return r;
    }
    if (c->pointer_count)
        qsort(c->pointers, c->pointer_count, sizeof(*c->pointers), compare_pointers);
    return 0;
}

void bpf_code_set_pointers(const struct bpf_code *code, uint8_t *rodata, uint64_t rodata_address,
                           uint8_t *data, uint64_t data_address)
{
    for (uint32_t i = 0; i < code->pointer_count; i++) {
        const struct bpf_pointer *p = &code->pointers[i];
        uint8_t *to = p->section == BPF_GLOBAL_DATA ? data : rodata;
        const uint64_t start = p->target == BPF_GLOBAL_DATA ? data_address : rodata_address;
        store_le64(to + p->offset, start + p->value);
    }
}
