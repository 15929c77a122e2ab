/* The loader: a sound file, and files of which each field lies. */
#include "test.h"

#include <stdlib.h>

#include <ashlar/bpf.h>

#include "base/util.h"
#include "bpf/code.h"

/* ---- allocations that fail (the linker sends calls of NAME to __wrap_NAME) ------------------ */

void *__real_base_alloc(size_t size);
void *__real_base_alloc_array(size_t count, size_t size);

static long countdown = -1; /* allocations until the one that fails; below 0: none does */

static bool fails(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *__wrap_base_alloc(size_t size)
{
    return fails() ? NULL : __real_base_alloc(size);
}

void *__wrap_base_alloc_array(size_t count, size_t size)
{
    return fails() ? NULL : __real_base_alloc_array(count, size);
}

/* ---- a file, by hand ---------------------------------------------------------------------- */

enum { TEXT = 1, OTHER, RODATA, DATA, BSS, REL_TEXT, REL_DATA, SYMTAB, STRTAB, BTF, EXT, SECTIONS };
enum { S_NULL, S_RODATA, S_MAIN, S_SECOND, S_ABSENT, S_COMMON, S_WEAK, S_BSS, SYMBOLS };

/* Where things are in the file, for those that lie about them. */
enum {
    AT_SECTIONS = 64,
    AT_CONTENTS = AT_SECTIONS + SECTIONS * 64,
    FILE_SIZE = 4096,
};
static uint8_t file[FILE_SIZE];
static uint32_t file_size;
static uint32_t at_section[SECTIONS];

static const char strings[] =
    "\0.text\0other\0.rodata\0.data\0.bss\0.rel.text\0.rel.data\0.symtab\0.strtab\0.BTF\0.BTF.ext\0"
    "main\0second\0absent\0common\0weak\0\x1b[31mred";
static const char btf_strings[] = "\0.text\0other\0dir/file.c\0\treturn 1;\0}";

static uint32_t text_offset(const char *table, size_t size, const char *text)
{
    const size_t len = strlen(text) + 1;
    for (size_t i = 0; i + len <= size; i++)
        if (!memcmp(table + i, text, len) && (len == 1 || i == 0 || !table[i - 1]))
            return (uint32_t)i;
    fail_msg("no '%s'", text);
    return 0;
}

static uint32_t name(const char *text)
{
    return text_offset(strings, sizeof(strings), text);
}

static uint32_t btf_name(const char *text)
{
    return text_offset(btf_strings, sizeof(btf_strings), text);
}

static void put16(uint32_t at, uint32_t value)
{
    file[at] = (uint8_t)value;
    file[at + 1] = (uint8_t)(value >> 8);
}

static void put32(uint32_t at, uint32_t value)
{
    store_le32(file + at, value);
}

static void put64(uint32_t at, uint64_t value)
{
    store_le64(file + at, value);
}

static uint32_t header_of(unsigned section)
{
    return AT_SECTIONS + section * 64;
}

static void section(unsigned index, const char *title, uint32_t type, uint64_t flags,
                    const void *data, uint32_t size)
{
    const uint32_t h = header_of(index);
    file_size = (uint32_t)round_up(file_size, 8);
    at_section[index] = file_size;
    put32(h, name(title));
    put32(h + 4, type);
    put64(h + 8, flags);
    put64(h + 24, file_size);
    put64(h + 32, size);
    put64(h + 48, 8);
    if (data) {
        memcpy(file + file_size, data, size);
        file_size += size;
    }
}

static void links(unsigned index, uint32_t link, uint32_t info)
{
    put32(header_of(index) + 40, link);
    put32(header_of(index) + 44, info);
}

static void symbol(unsigned index, const char *title, unsigned type, unsigned bind,
                   uint32_t in_section, uint64_t value, uint64_t size)
{
    const uint32_t at = at_section[SYMTAB] + index * 24;
    put32(at, name(title));
    file[at + 4] = (uint8_t)(bind << 4 | type);
    put16(at + 6, in_section);
    put64(at + 8, value);
    put64(at + 16, size);
}

static void relocation(unsigned in_section, unsigned index, uint64_t offset, uint32_t type,
                       uint32_t of)
{
    const uint32_t at = at_section[in_section] + index * 16;
    put64(at, offset);
    put64(at + 8, (uint64_t)of << 32 | type);
}

static void symbols(void)
{
    static const uint8_t none[SYMBOLS * 24];
    section(SYMTAB, ".symtab", 2, 0, none, sizeof(none));
    links(SYMTAB, STRTAB, S_MAIN);
    symbol(S_RODATA, "", 3, 0, RODATA, 0, 0);
    symbol(S_MAIN, "main", 2, 1, TEXT, 0, 7 * 8);
    symbol(S_SECOND, "second", 2, 0, OTHER, 8, 16);
    symbol(S_ABSENT, "absent", 0, 1, 0, 0, 0);
    symbol(S_COMMON, "common", 1, 1, 0xfff2, 16, 24);
    symbol(S_WEAK, "weak", 0, 2, 0, 0, 0);
    symbol(S_BSS, "", 3, 0, BSS, 0, 0);
}

static void relocations(void)
{
    static const uint8_t none[3 * 16];
    section(REL_TEXT, ".rel.text", 9, 0, none, 3 * 16);
    links(REL_TEXT, SYMTAB, TEXT);
    relocation(REL_TEXT, 0, 0, 1, S_RODATA);
    relocation(REL_TEXT, 1, 2 * 8, 10, S_SECOND);
    relocation(REL_TEXT, 2, 4 * 8, 1, S_COMMON);
    section(REL_DATA, ".rel.data", 9, 0, none, 2 * 16);
    links(REL_DATA, SYMTAB, DATA);
    relocation(REL_DATA, 0, 8, 2, S_SECOND);
    relocation(REL_DATA, 1, 0, 2, S_BSS);
}

static void lines(void)
{
    uint8_t btf[24] = {0x9f, 0xeb, 1, 0, 24}, ext[24 + 4 + 2 * 8 + 3 * 16] = {0x9f, 0xeb, 1, 0, 24};
    store_le32(btf + 20, sizeof(btf_strings));
    section(BTF, ".BTF", 1, 0, btf, sizeof(btf));
    memcpy(file + file_size, btf_strings, sizeof(btf_strings));
    file_size += sizeof(btf_strings);
    put64(header_of(BTF) + 32, sizeof(btf) + sizeof(btf_strings));

    store_le32(ext + 20, sizeof(ext) - 24);
    const uint32_t words[] = {
        16,
        btf_name("other"),
        1,
        8,
        btf_name("dir/file.c"),
        btf_name("}"),
        9 << 10 | 1,
        btf_name(".text"),
        2,
        0,
        btf_name("dir/file.c"),
        btf_name("\treturn 1;"),
        4 << 10 | 5,
        24,
        btf_name("dir/file.c"),
        btf_name("\treturn 1;"),
        5 << 10 | 6,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        store_le32(ext + 24 + 4 * i, words[i]);
    section(EXT, ".BTF.ext", 1, 0, ext, sizeof(ext));
}

static void build(void)
{
    static const uint8_t text[7 * 8] = {
        0x18, 1, 0, 0, 8,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, /* r1 = .rodata + 8 */
        0x85, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,                         /* call second */
        0xb7, 0, 0, 0, 1,    0,    0,    0,                            /* r0 = 1 */
        0x18, 2, 0, 0, 4,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, /* r2 = common + 4 */
        0x95,
    };
    static const uint8_t other[3 * 8] = {0x95, 0, 0, 0, 0, 0, 0, 0,   0xb7,
                                         0,    0, 0, 2, 0, 0, 0, 0x95};
    static const uint8_t data[16] = {3};
    memset(file, 0, sizeof(file));
    file_size = AT_CONTENTS;
    memcpy(file, "\177ELF\2\1\1", 7);
    put16(16, 1);
    put16(18, 247);
    put32(20, 1);
    put64(40, AT_SECTIONS);
    put16(52, 64);
    put16(58, 64);
    put16(60, SECTIONS);
    put16(62, STRTAB);
    section(TEXT, ".text", 1, 6, text, sizeof(text));
    section(OTHER, "other", 1, 6, other, sizeof(other));
    section(RODATA, ".rodata", 1, 2, "0123456789abcdef", 16);
    section(DATA, ".data", 1, 3, data, sizeof(data));
    section(BSS, ".bss", 8, 3, NULL, 20);
    symbols();
    relocations();
    section(STRTAB, ".strtab", 3, 0, strings, sizeof(strings));
    lines();
}

/* ---- what comes of it ----------------------------------------------------------------------- */

static char log_text[4096];

/* What the loader says must be said: an error has a line, and nobody crashes. */
static int load(const uint8_t *bytes, size_t size, struct bpf_module **module)
{
    struct bpf_log log = {.text = log_text, .size = sizeof(log_text)};
    log_text[0] = '\0';
    int r = bpf_module_open(bytes, size, module, &log);
    if (r < 0 && (*module || !log.length || log_text[log.length - 1] != '\n'))
        fail_msg("%d without a reason: '%s'", r, log_text);
    if (r < 0 && r != -EINVAL)
        fail_msg("%d: %s", r, log_text);
    return r;
}

static void count_line(void *arg, const char *text)
{
    (void)text;
    ++*(unsigned *)arg;
}

static void sound(void **state)
{
    (void)state;
    struct bpf_module *m;
    unsigned listed = 0;
    build();
    if (load(file, file_size, &m) < 0)
        fail_msg("%s", log_text);
    assert_string_equal(log_text, "");
    const struct bpf_code *c = &m->code;
    assert_int_equal(c->count, 10);
    assert_string_equal(bpf_module_function(m, 0), "main");
    assert_string_equal(bpf_module_function(m, 1), "other");
    assert_string_equal(bpf_module_function(m, 2), "second");
    assert_null(bpf_module_function(m, 3));
    assert_true(c->functions[0].global);
    assert_int_equal(c->functions[0].count, 7);
    assert_int_equal(c->functions[1].count, 1);
    assert_false(c->functions[2].global);
    assert_int_equal(c->insns[0].src, BPF_LDDW_GLOBAL);
    assert_int_equal(c->insns[0].imm, BPF_GLOBAL_RODATA);
    assert_int_equal(c->insns[1].imm, 8);
    assert_int_equal(c->insns[2].src, BPF_CALL_LOCAL);
    assert_int_equal(bpf_code_target(c, 2), 8);
    /* .data, 20 bytes of .bss from byte 16, then what is common, aligned to 16. */
    assert_int_equal(c->insns[5].imm, 48 + 4);
    assert_int_equal(c->data_size, 48 + 24);
    assert_int_equal(c->rodata_size, 16);
    assert_memory_equal(c->rodata, "0123456789abcdef", 16);
    /* A function in .data, and the address of byte 3 of .bss. */
    assert_int_equal(load_le64(c->data + 8), BPF_CODE_ADDRESS + 8);
    assert_int_equal(c->pointer_count, 1);
    uint8_t data[72];
    memcpy(data, c->data, sizeof(data));
    bpf_code_set_pointers(c, NULL, 0x1000, data, 0x2000);
    assert_int_equal(load_le64(data), 0x2000 + 16 + 3);
    /* Lines are those before an instruction, within its function. */
    assert_int_equal(c->line_count, 3);
    assert_int_equal(bpf_code_line(c, 2)->line, 4);
    assert_int_equal(bpf_code_line(c, 6)->line, 5);
    assert_int_equal(bpf_code_line(c, 6)->column, 6);
    assert_string_equal(bpf_code_line(c, 6)->file, "dir/file.c");
    assert_string_equal(bpf_code_line(c, 6)->text, "return 1;");
    assert_null(bpf_code_line(c, 7));
    assert_int_equal(bpf_code_line(c, 9)->line, 9);
    bpf_module_disassemble(m, count_line, &listed);
    assert_int_equal(listed, 3 + 8 + 3); /* names, instructions, lines */
    bpf_module_close(m);
}

/* ---- lies ----------------------------------------------------------------------------------- */

/* The file with one field changed: what is said, NULL if it is loaded all the same. */
struct lie {
    const char *what;
    uint32_t section; /* at counts from this section's header, or contents; 0: from the start */
    bool contents;
    uint32_t at;
    unsigned width; /* 1, 2, 4, 8 */
    uint64_t value;
    const char *reason;
};

static uint32_t lie_at(const struct lie *lie)
{
    return lie->at + (!lie->section   ? 0
                      : lie->contents ? at_section[lie->section]
                                      : header_of(lie->section));
}

static void tell(const struct lie *lie)
{
    const uint32_t at = lie_at(lie);
    for (unsigned i = 0; i < lie->width; i++)
        file[at + i] = (uint8_t)(lie->value >> (8 * i));
}

static void check_lies(const struct lie *lies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct bpf_module *m;
        build();
        tell(&lies[i]);
        int r = load(file, file_size, &m);
        bpf_module_close(m);
        if (!lies[i].reason && r < 0)
            fail_msg("%s: %s", lies[i].what, log_text);
        if (lies[i].reason && (r == 0 || !strstr(log_text, lies[i].reason)))
            fail_msg("%s: %d, '%s', expected '%s'", lies[i].what, r, log_text, lies[i].reason);
    }
}

static void header_lies(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"magic", 0, false, 0, 1, 0x7e, "not an ELF file"},
        {"32 bits", 0, false, 4, 1, 1, "not a 64-bit ELF file"},
        {"byte order", 0, false, 5, 1, 2, "not a little-endian ELF file"},
        {"executable", 0, false, 16, 2, 2, "type 2, not an object file"},
        {"machine", 0, false, 18, 2, 62, "for machine 62, not for BPF"},
        {"table in the header", 0, false, 40, 8, 32, "are not in the file"},
        {"table far away", 0, false, 40, 8, UINT64_MAX - 63, "are not in the file"},
        {"table past the end", 0, false, 40, 8, FILE_SIZE, "are not in the file"},
        {"size of an entry", 0, false, 58, 2, 63, "section headers of 63 bytes"},
        {"no sections", 0, false, 60, 2, 0, "0 section headers"},
        {"too many sections", 0, false, 60, 2, 0xffff, "are not in the file"},
        {"names nowhere", 0, false, 62, 2, 0, "should be in section 0"},
        {"names past the last", 0, false, 62, 2, SECTIONS, "should be in section 12"},
        {"names in code", 0, false, 62, 2, TEXT, "should be in section 1"},
    };
    check_lies(lies, ARRAY_SIZE(lies));
}

static void section_lies(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"name", TEXT, false, 0, 4, 5000, "section 1: its name is not in the file"},
        {"code that takes no room", TEXT, false, 4, 4, 8, "are no instructions"},
        {"offset", TEXT, false, 24, 8, UINT64_MAX, "section 1: its 56 bytes"},
        {"size", TEXT, false, 32, 8, UINT64_MAX, "are not in the file"},
        {"a part of an instruction", TEXT, false, 32, 8, 55, "are no instructions"},
        {"much overlap", TEXT, false, 32, 8, 640, "overlaps other sections"},
        {"no code", TEXT, false, 8, 8, 2, "no relocation of type 1"},
        {"threads", DATA, false, 8, 8, 0x403, "variables of threads"},
        {"constructors", DATA, false, 4, 4, 14, "type 14 is not supported"},
        {"alignment of 3", DATA, false, 48, 8, 3, "an alignment of 3"},
        {"alignment of 2^63", DATA, false, 48, 8, UINT64_C(1) << 63, "an alignment of"},
        {"huge .bss", BSS, false, 32, 8, UINT64_C(1) << 40, "bytes of globals"},
        {"endless .bss", BSS, false, 32, 8, UINT64_MAX, "bytes of globals"},
        {"two symbol tables", REL_TEXT, false, 4, 4, 2, "both symbol tables"},
        {"half a symbol", SYMTAB, false, 32, 8, 100, "a symbol table of 100 bytes"},
        {"symbols without names", SYMTAB, false, 40, 4, 0, "has no names"},
        {"names of symbols past the last", SYMTAB, false, 40, 4, SECTIONS, "has no names"},
        {"names of symbols in code", SYMTAB, false, 40, 4, TEXT, "names of symbols should be"},
        {"relocations of nothing", REL_TEXT, false, 44, 4, SECTIONS, "there is no section 12"},
        {"relocations of other symbols", REL_TEXT, false, 40, 4, 0, "no sound table"},
        {"half a relocation", REL_TEXT, false, 32, 8, 40, "no sound table"},
        {"relocations with addends", REL_TEXT, false, 4, 4, 4, "type RELA are not supported"},
        {"relocations of names", REL_DATA, false, 44, 4, STRTAB, NULL},
    };
    check_lies(lies, ARRAY_SIZE(lies));
}

static void symbol_lies(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"name", SYMTAB, true, S_MAIN * 24, 4, 5000, "symbol 2: its name is not in the file"},
        {"section", SYMTAB, true, S_MAIN * 24 + 6, 2, 99, "'main': there is no section 99"},
        {"function past the end", SYMTAB, true, S_MAIN * 24 + 8, 8, 56, "function 'main'"},
        {"function far away", SYMTAB, true, S_MAIN * 24 + 8, 8, UINT64_MAX - 7, "function 'main'"},
        {"function within an instruction", SYMTAB, true, S_SECOND * 24 + 8, 8, 4, "'second'"},
        {"function too long", SYMTAB, true, S_SECOND * 24 + 16, 8, 17, "function 'second'"},
        {"huge common", SYMTAB, true, S_COMMON * 24 + 16, 8, UINT64_MAX, "common: "},
        {"aligned common", SYMTAB, true, S_COMMON * 24 + 8, 8, 24, "an alignment of 24"},
        {"absolute", SYMTAB, true, S_COMMON * 24 + 6, 2, 0xfff1, "means nothing here"},
        {"nowhere", SYMTAB, true, S_SECOND * 24 + 6, 2, 0, "'second' is not defined"},
        {"in what is not loaded", SYMTAB, true, S_SECOND * 24 + 6, 2, STRTAB, "is not loaded"},
        {"a call of data", SYMTAB, true, S_SECOND * 24 + 6, 2, DATA, "calls what is no function"},
        {"data past the end", SYMTAB, true, S_RODATA * 24 + 8, 8, 9, "is not in its section"},
        {"data far away", SYMTAB, true, S_RODATA * 24 + 8, 8, INT64_MAX, "is not in its section"},
    };
    check_lies(lies, ARRAY_SIZE(lies));
}

static void relocation_lies(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"offset", REL_TEXT, true, 0, 8, UINT64_MAX - 7, "no relocation of type 1 can be at"},
        {"past the end", REL_TEXT, true, 0, 8, 56, "no relocation of type 1 can be at 56"},
        {"in an instruction", REL_TEXT, true, 0, 8, 4, "no relocation of type 1 can be at 4"},
        {"of another instruction", REL_TEXT, true, 0, 8, 24, "no relocation of type 1 can be"},
        {"a call of an LDDW", REL_TEXT, true, 8, 4, 10, "no relocation of type 10 can be at 0"},
        {"an unknown type", REL_TEXT, true, 8, 4, 77, "no relocation of type 77 can be at 0"},
        {"no type", REL_TEXT, true, 8, 4, 0, NULL},
        {"symbol", REL_TEXT, true, 12, 4, SYMBOLS, "there is no symbol 8"},
        {"the last symbol", REL_TEXT, true, 12, 4, UINT32_MAX, "there is no symbol 4294967295"},
        {"undefined", REL_TEXT, true, 12, 4, S_ABSENT, "'absent' is not defined"},
        {"weak", REL_TEXT, true, 12, 4, S_WEAK, NULL},
        {"a weak call", REL_TEXT, true, 16 + 12, 4, S_WEAK, "calls what is no function"},
        {"past what is common", TEXT, true, 4 * 8 + 4, 4, 25, "'common' and 25 bytes"},
        {"before what is common", TEXT, true, 4 * 8 + 4, 8, UINT64_MAX, "'common' and"},
        {"the middle of a function", REL_TEXT, true, 12, 4, S_SECOND, "runs past its end"},
        {"data: offset", REL_DATA, true, 0, 8, 9, "no relocation of type 2 can be at 9"},
        {"data: 32 bits", REL_DATA, true, 8, 4, 3, "addresses have 64 bits"},
        {"data: addend", DATA, true, 0, 8, 21, "is not in its section"},
        {"call: addend", TEXT, true, 2 * 8 + 4, 4, 1, "'second' and 16 bytes is not"},
        {"half an instruction", SYMTAB, true, S_BSS * 24 + 6, 2, TEXT, "is not in its section"},
        {"call: far", TEXT, true, 2 * 8 + 4, 4, 0x7fffffff, "is not in its section"},
        {"call: before", TEXT, true, 2 * 8 + 4, 4, 0x80000000, "is not in its section"},
    };
    check_lies(lies, ARRAY_SIZE(lies));
}

static void btf_lies(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"magic", EXT, true, 0, 2, 0xeb9e, "not of version 1"},
        {"version", EXT, true, 2, 1, 2, "not of version 1"},
        {"header", EXT, true, 4, 4, 5000, "not of version 1"},
        {"small header", EXT, true, 4, 4, 20, "not of version 1"},
        {"offset", EXT, true, 16, 4, UINT32_MAX, "are not in the section"},
        {"size", EXT, true, 20, 4, UINT32_MAX, "are not in the section"},
        {"size of two", EXT, true, 20, 4, 2, "are not in the section"},
        {"small lines", EXT, true, 24, 4, 12, "lines of an unknown size"},
        {"huge lines", EXT, true, 24, 4, UINT32_MAX, "fewer lines"},
        {"section", EXT, true, 28, 4, 5000, "lines of a section that is no code"},
        {"count", EXT, true, 32, 4, UINT32_MAX, "fewer lines"},
        {"instruction", EXT, true, 36, 4, 24, "a line of no instruction"},
        {"odd instruction", EXT, true, 36, 4, 4, "a line of no instruction"},
        {"file", EXT, true, 40, 4, 5000, "a line of no instruction"},
        {"text", EXT, true, 44, 4, 5000, "a line of no instruction"},
        {"texts", BTF, true, 0, 2, 0, "it has no texts"},
        {"texts nowhere", BTF, true, 16, 4, UINT32_MAX, "it has no texts"},
        {"long texts", BTF, true, 20, 4, UINT32_MAX, "it has no texts"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        struct bpf_module *m;
        build();
        tell(&lies[i]);
        if (load(file, file_size, &m) < 0)
            fail_msg("%s: %s", lies[i].what, log_text);
        if (strncmp(log_text, "warning: no source lines: ", 26) ||
            !strstr(log_text, lies[i].reason) || m->code.line_count)
            fail_msg("%s: '%s', expected '%s'", lies[i].what, log_text, lies[i].reason);
        bpf_module_close(m);
    }
}

/* Names go to terminals. */
static void names_are_plain(void **state)
{
    (void)state;
    struct bpf_module *m;
    build();
    put32(at_section[SYMTAB] + S_MAIN * 24, name("\x1b[31mred"));
    assert_int_equal(load(file, file_size, &m), 0);
    assert_string_equal(bpf_module_function(m, 0), ".[31mred");
    bpf_module_close(m);
}

static void no_memory(void **state)
{
    (void)state;
    int r = -ENOMEM;
    build();
    for (long n = 0; r < 0; n++) {
        struct bpf_log log = {.text = log_text, .size = sizeof(log_text)};
        struct bpf_module *m;
        countdown = n;
        r = bpf_module_open(file, file_size, &m, &log);
        countdown = -1;
        assert_true(n < 50);
        if (r < 0 && (r != -ENOMEM || m || strcmp(log_text, "not enough memory\n")))
            fail_msg("allocation %ld fails: %d, '%s'", n, r, log_text);
        assert_true(n >= 8 || r < 0);
        bpf_module_close(m);
    }
}

/* ---- any lie -----------------------------------------------------------------------------------
 */

static void too_many_sections(void **state)
{
    (void)state;
    struct bpf_module *m;
    const size_t size = 64 + 4097 * 64;
    uint8_t *large = calloc(1, size);
    build();
    put16(60, 4097);
    memcpy(large, file, 64);
    assert_int_equal(load(large, size, &m), -EINVAL);
    assert_string_equal(log_text, "4097 sections; there may be 4096\n");
    free(large);
}

static void cut_anywhere(void **state)
{
    (void)state;
    build();
    for (uint32_t size = 0; size < file_size; size++) {
        struct bpf_module *m;
        uint8_t *copy = malloc(size ? size : 1); /* so that the sanitizer sees its end */
        memcpy(copy, file, size);
        load(copy, size, &m);
        bpf_module_close(m);
        free(copy);
    }
}

static void any_byte(void **state)
{
    (void)state;
    static const uint8_t values[] = {0, 1, 2, 8, 0x7f, 0x80, 0xff};
    build();
    uint8_t *copy = malloc(file_size);
    for (uint32_t at = 0; at < file_size; at++)
        for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
            struct bpf_module *m;
            unsigned listed = 0;
            memcpy(copy, file, file_size);
            copy[at] = values[v];
            if (load(copy, file_size, &m) == 0)
                bpf_module_disassemble(m, count_line, &listed);
            bpf_module_close(m);
        }
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound),           cmocka_unit_test(header_lies),
        cmocka_unit_test(section_lies),    cmocka_unit_test(symbol_lies),
        cmocka_unit_test(relocation_lies), cmocka_unit_test(btf_lies),
        cmocka_unit_test(names_are_plain), cmocka_unit_test(no_memory),
        cmocka_unit_test(cut_anywhere),    cmocka_unit_test(too_many_sections),
        cmocka_unit_test(any_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
