/* ELF files as clang emits them for BPF: what they hold, and where it goes. */
#include "bpf/elf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

enum { HEADER_SIZE = 64, SECTION_SIZE = 64, SYMBOL_SIZE = 24 };
enum { TYPE_RELOCATABLE = 1, MACHINE_BPF = 247 };
enum { MAX_SECTIONS = 4096, MAX_NAME = 1000, MAX_ALIGN = 4096 };

/* Of .rodata and of .data with .bss, each. Who needs more has regions. */
#define MAX_GLOBALS (UINT64_C(64) << 20)

static uint32_t load_le16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

int bpf_elf_bad(const struct bpf_loader *l, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    bpf_log_add(l->log, "%s\n", text);
    return -EINVAL;
}

/* ---- header and sections ----------------------------------------------------------------- */

static int check_header(const struct bpf_loader *l)
{
    const uint8_t *h = l->file;
    if (l->size < HEADER_SIZE || memcmp(h, "\177ELF", 4) != 0)
        return bpf_elf_bad(l, "not an ELF file");
    if (h[4] != 2)
        return bpf_elf_bad(l, "not a 64-bit ELF file");
    if (h[5] != 1)
        return bpf_elf_bad(l, "not a little-endian ELF file; compile with -target bpfel");
    if (load_le16(h + 18) != MACHINE_BPF)
        return bpf_elf_bad(l, "an ELF file for machine %u, not for BPF (%d)", load_le16(h + 18),
                           MACHINE_BPF);
    if (load_le16(h + 16) != TYPE_RELOCATABLE)
        return bpf_elf_bad(l, "an ELF file of type %u, not an object file (%d)", load_le16(h + 16),
                           TYPE_RELOCATABLE);
    return 0;
}

static void read_section(struct bpf_elf_section *s, const uint8_t *h)
{
    s->type = load_le32(h + 4);
    s->flags = load_le64(h + 8);
    s->offset = load_le64(h + 24);
    s->size = load_le64(h + 32);
    s->link = load_le32(h + 40);
    s->info = load_le32(h + 44);
    s->align = max_u64(load_le64(h + 48), 1);
    s->place = BPF_PLACE_NONE;
}

/* Sections that overlap would make work and memory grow faster than the file. */
static int read_sections(struct bpf_loader *l)
{
    const uint64_t offset = load_le64(l->file + 40);
    const uint32_t count = load_le16(l->file + 60);
    if (load_le16(l->file + 58) != SECTION_SIZE)
        return bpf_elf_bad(l, "section headers of %u bytes, not %d", load_le16(l->file + 58),
                           SECTION_SIZE);
    const uint64_t table = (uint64_t)count * SECTION_SIZE;
    if (!count || offset < HEADER_SIZE || !range_ok(offset, table, l->size))
        return bpf_elf_bad(l, "%u section headers at %llu are not in the file", count,
                           (unsigned long long)offset);
    if (count > MAX_SECTIONS)
        return bpf_elf_bad(l, "%u sections; there may be %d", count, MAX_SECTIONS);
    l->sections = base_alloc_array(count, sizeof(*l->sections));
    if (!l->sections)
        return -ENOMEM;
    l->section_count = count;
    uint64_t room = l->size - HEADER_SIZE - table;
    for (uint32_t i = 0; i < count; i++) {
        struct bpf_elf_section *s = &l->sections[i];
        read_section(s, l->file + offset + (uint64_t)i * SECTION_SIZE);
        if (i == 0 || !s->type) { /* number 0 is none */
            *s = (struct bpf_elf_section){.place = BPF_PLACE_NONE};
            continue;
        }
        if (s->type == ELF_SECTION_NOBITS)
            continue;
        if (!range_ok(s->offset, s->size, l->size))
            return bpf_elf_bad(l, "section %u: its %llu bytes at %llu are not in the file", i,
                               (unsigned long long)s->size, (unsigned long long)s->offset);
        if (s->size > room)
            return bpf_elf_bad(l, "section %u: overlaps other sections", i);
        room -= s->size;
    }
    return 0;
}

static int find_symtab(struct bpf_loader *l)
{
    for (uint32_t i = 0; i < l->section_count; i++) {
        const struct bpf_elf_section *s = &l->sections[i];
        if (s->type != ELF_SECTION_SYMTAB)
            continue;
        if (l->symtab)
            return bpf_elf_bad(l, "sections %u and %u are both symbol tables", l->symtab, i);
        if (s->size % SYMBOL_SIZE || s->size / SYMBOL_SIZE > UINT32_MAX)
            return bpf_elf_bad(l, "a symbol table of %llu bytes", (unsigned long long)s->size);
        if (!s->link || s->link >= l->section_count)
            return bpf_elf_bad(l, "the symbol table has no names (section %u)", s->link);
        l->symtab = i;
        l->symbol_count = (uint32_t)(s->size / SYMBOL_SIZE);
    }
    return 0;
}

/* ---- names ------------------------------------------------------------------------------ */

/* Names go to messages and to terminals. Long ones are cut off: comparing them takes time. */
static void copy_text(char *to, const uint8_t *from, uint64_t size)
{
    uint32_t length = 0;
    for (uint64_t i = 0; i < size; i++) {
        const uint8_t c = from[i];
        length = c && length < MAX_NAME ? length + 1 : 0;
        to[i] = !length ? '\0' : c == '\t' ? ' ' : c < ' ' || c == 127 ? '.' : (char)c;
    }
}

static void add_strings(struct bpf_loader *l, struct bpf_elf_strings *table, uint64_t offset,
                        uint64_t size, uint64_t *at)
{
    table->start = *at;
    table->size = size;
    copy_text(l->code->strings + *at, l->file + offset, size);
    *at += size + 1;
}

/* Before there are names: which section has this one; 0: none. */
static uint32_t find_unread(const struct bpf_loader *l, const struct bpf_elf_section *names,
                            const char *name)
{
    const uint8_t *header = l->file + load_le64(l->file + 40);
    const uint64_t size = strlen(name) + 1;
    for (uint32_t i = 1; i < l->section_count; i++) {
        const uint32_t at = load_le32(header + (uint64_t)i * SECTION_SIZE);
        if (range_ok(at, size, names->size) && !memcmp(l->file + names->offset + at, name, size))
            return i;
    }
    return 0;
}

/* Tables of names lie one after the other, each followed by a NUL, behind an empty string. */
static int read_names(struct bpf_loader *l)
{
    const uint32_t index = load_le16(l->file + 62);
    if (!index || index >= l->section_count || l->sections[index].type != ELF_SECTION_STRTAB)
        return bpf_elf_bad(l, "the names of sections should be in section %u", index);
    const struct bpf_elf_section *names = &l->sections[index];
    const struct bpf_elf_section *symbols = &l->sections[l->sections[l->symtab].link];
    if (l->symtab && symbols->type != ELF_SECTION_STRTAB)
        return bpf_elf_bad(l, "the names of symbols should be in section %u",
                           l->sections[l->symtab].link);
    const bool same = symbols == names;
    uint64_t btf_offset = 0, btf_size = 0;
    const uint32_t btf = find_unread(l, names, ".BTF");
    if (btf)
        bpf_btf_strings(l, &l->sections[btf], &btf_offset, &btf_size);

    uint64_t at = 1;
    l->code->strings = base_alloc(4 + names->size + (same ? 0 : symbols->size) + btf_size);
    if (!l->code->strings)
        return -ENOMEM;
    add_strings(l, &l->section_names, names->offset, names->size, &at);
    if (same)
        l->symbol_names = l->section_names;
    else
        add_strings(l, &l->symbol_names, symbols->offset, symbols->size, &at);
    add_strings(l, &l->btf_strings, btf_offset, btf_size, &at);
    return 0;
}

const char *bpf_elf_text(const struct bpf_loader *l, const struct bpf_elf_strings *table,
                         uint32_t offset)
{
    return offset < table->size ? l->code->strings + table->start + offset : NULL;
}

static int name_sections(struct bpf_loader *l)
{
    const uint8_t *header = l->file + load_le64(l->file + 40);
    for (uint32_t i = 0; i < l->section_count; i++) {
        const uint32_t at = load_le32(header + (uint64_t)i * SECTION_SIZE);
        l->sections[i].name = i ? bpf_elf_text(l, &l->section_names, at) : "";
        if (!l->sections[i].name)
            return bpf_elf_bad(l, "section %u: its name is not in the file", i);
    }
    return 0;
}

const struct bpf_elf_section *bpf_elf_find(const struct bpf_loader *l, const char *name)
{
    for (uint32_t i = 1; i < l->section_count; i++)
        if (!strcmp(l->sections[i].name, name))
            return &l->sections[i];
    return NULL;
}

int bpf_elf_symbol(const struct bpf_loader *l, uint32_t index, struct bpf_symbol *symbol)
{
    const uint8_t *s = l->file + l->sections[l->symtab].offset + (uint64_t)index * SYMBOL_SIZE;
    *symbol = (struct bpf_symbol){
        .name = bpf_elf_text(l, &l->symbol_names, load_le32(s)),
        .type = s[4] & 15u,
        .bind = s[4] >> 4,
        .section = load_le16(s + 6),
        .value = load_le64(s + 8),
        .size = load_le64(s + 16),
    };
    if (!symbol->name)
        return bpf_elf_bad(l, "symbol %u: its name is not in the file", index);
    if (symbol->section >= l->section_count && symbol->section < ELF_INDEX_RESERVED)
        return bpf_elf_bad(l, "symbol %u '%s': there is no section %u", index, symbol->name,
                           symbol->section);
    if (symbol->type == ELF_TYPE_SECTION && symbol->section < l->section_count)
        symbol->name = l->sections[symbol->section].name;
    return 0;
}

/* ---- where it goes ------------------------------------------------------------------------ */

/* What Linux wants to know, and what is nothing to a running program. */
static bool is_ignored(const char *name)
{
    static const char *const names[] = {"license", "version", ".maps", "maps", ".eh_frame"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

/* Take size bytes of a place, aligned. */
static int take(const struct bpf_loader *l, const char *name, uint64_t align, uint64_t size,
                uint64_t *total, uint64_t *base)
{
    if (!is_pow2(align) || align > MAX_ALIGN)
        return bpf_elf_bad(l, "%s: an alignment of %llu", name, (unsigned long long)align);
    *base = round_up(*total, align);
    if (!range_ok(*base, size, MAX_GLOBALS))
        return bpf_elf_bad(l, "%s: %llu bytes of globals; there may be %llu", name,
                           (unsigned long long)size, (unsigned long long)MAX_GLOBALS);
    *total = *base + size;
    return 0;
}

static int place_code(struct bpf_loader *l, struct bpf_elf_section *s)
{
    if (s->type != ELF_SECTION_PROGBITS || s->size % sizeof(struct bpf_insn))
        return bpf_elf_bad(l, "section %s: %llu bytes of type %u are no instructions", s->name,
                           (unsigned long long)s->size, s->type);
    const uint64_t count = s->size / sizeof(struct bpf_insn);
    if (count > BPF_MAX_INSNS - l->code->count)
        return bpf_elf_bad(l, "section %s: more than %u instructions", s->name, BPF_MAX_INSNS);
    s->place = BPF_PLACE_CODE;
    s->base = l->code->count * sizeof(struct bpf_insn);
    l->code->count += (uint32_t)count;
    return 0;
}

static int place_section(struct bpf_loader *l, struct bpf_elf_section *s)
{
    if (s->flags & ELF_TLS)
        return bpf_elf_bad(l, "section %s: variables of threads are not supported", s->name);
    if (s->flags & ELF_EXECUTE)
        return place_code(l, s);
    if (s->type != ELF_SECTION_PROGBITS && s->type != ELF_SECTION_NOBITS)
        return bpf_elf_bad(l, "section %s: type %u is not supported", s->name, s->type);
    const bool writable = s->flags & ELF_WRITE;
    s->place = writable ? BPF_PLACE_DATA : BPF_PLACE_RODATA;
    return take(l, s->name, s->align, s->size,
                writable ? &l->code->data_size : &l->code->rodata_size, &s->base);
}

/* Of these, with contents or without. */
static int place_sections(struct bpf_loader *l, bool contents)
{
    for (uint32_t i = 1; i < l->section_count; i++) {
        struct bpf_elf_section *s = &l->sections[i];
        if (!(s->flags & ELF_ALLOC) || s->type == ELF_SECTION_NOTE || is_ignored(s->name) ||
            (s->type != ELF_SECTION_NOBITS) != contents)
            continue;
        int r = place_section(l, s);
        if (r < 0)
            return r;
    }
    return 0;
}

/* COMMON symbols have their alignment as value. */
static int place_common(struct bpf_loader *l)
{
    for (uint32_t i = 0; i < l->symbol_count; i++) {
        struct bpf_symbol symbol;
        int r = bpf_elf_symbol(l, i, &symbol);
        if (r < 0)
            return r;
        if (symbol.section != ELF_INDEX_COMMON)
            continue;
        if (!l->common)
            l->common = base_alloc_array(l->symbol_count, sizeof(*l->common));
        if (!l->common)
            return -ENOMEM;
        r = take(l, symbol.name, max_u64(symbol.value, 1), symbol.size, &l->code->data_size,
                 &l->common[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int copy_contents(struct bpf_loader *l)
{
    struct bpf_code *c = l->code;
    c->insns = base_alloc_array(c->count, sizeof(*c->insns));
    c->rodata = c->rodata_size ? base_alloc(c->rodata_size) : NULL;
    c->data = c->data_size ? base_alloc(c->data_size) : NULL;
    if (!c->insns || (c->rodata_size && !c->rodata) || (c->data_size && !c->data))
        return -ENOMEM;
    uint8_t *const to[] = {c->rodata, c->data, (uint8_t *)c->insns};
    for (uint32_t i = 0; i < l->section_count; i++) {
        const struct bpf_elf_section *s = &l->sections[i];
        if (s->place != BPF_PLACE_NONE && s->type != ELF_SECTION_NOBITS && s->size)
            memcpy(to[s->place] + s->base, l->file + s->offset, s->size);
    }
    return 0;
}

/* ---- all of it -------------------------------------------------------------------------- */

static int read_file(struct bpf_loader *l)
{
    int r = check_header(l);
    if (r == 0)
        r = read_sections(l);
    if (r == 0)
        r = find_symtab(l);
    if (r == 0)
        r = read_names(l);
    if (r == 0)
        r = name_sections(l);
    if (r == 0)
        r = place_sections(l, true);
    if (r == 0)
        r = place_sections(l, false);
    if (r == 0)
        r = place_common(l);
    if (r == 0 && !l->code->count)
        r = bpf_elf_bad(l, "no section with code");
    return r;
}

static int link_module(struct bpf_loader *l)
{
    int r = copy_contents(l);
    if (r == 0)
        r = bpf_elf_functions(l);
    if (r == 0)
        r = bpf_elf_relocate(l);
    if (r == 0)
        r = bpf_elf_local_functions(l);
    if (r == 0)
        r = bpf_btf_lines(l);
    if (r == 0)
        r = bpf_code_check(l->code, l->log);
    return r;
}

int bpf_module_open(const void *elf, size_t size, struct bpf_module **module, struct bpf_log *log)
{
    struct bpf_loader l = {.file = elf, .size = size, .log = log};
    *module = base_alloc(sizeof(**module));
    int r = *module ? 0 : -ENOMEM;
    if (r == 0) {
        l.code = &(*module)->code;
        r = read_file(&l);
    }
    if (r == 0)
        r = link_module(&l);
    base_free(l.sections);
    base_free(l.common);
    if (r == -ENOMEM)
        bpf_log_add(log, "not enough memory\n");
    if (r < 0) {
        bpf_module_close(*module);
        *module = NULL;
    }
    return r;
}
