/* bpf/elf.h: a module while it is read: what elf.c, elf_link.c and btf.c pass on. */
#ifndef BPF_ELF_H
#define BPF_ELF_H

#include "bpf/code.h"

/* Numbers of the ELF-64 specification and of its BPF supplement that matter here. */
enum {
    ELF_SECTION_PROGBITS = 1,
    ELF_SECTION_SYMTAB = 2,
    ELF_SECTION_STRTAB = 3,
    ELF_SECTION_RELA = 4,
    ELF_SECTION_NOTE = 7,
    ELF_SECTION_NOBITS = 8,
    ELF_SECTION_REL = 9,
};
enum { ELF_WRITE = 1, ELF_ALLOC = 2, ELF_EXECUTE = 4, ELF_TLS = 0x400 };
enum { ELF_INDEX_UNDEFINED = 0, ELF_INDEX_RESERVED = 0xff00, ELF_INDEX_COMMON = 0xfff2 };
enum { ELF_BIND_LOCAL = 0, ELF_BIND_WEAK = 2 };
enum { ELF_TYPE_FUNCTION = 2, ELF_TYPE_SECTION = 3 };

/* Where what a file holds goes to. The numbers of globals are those of BPF_LDDW_GLOBAL. */
enum bpf_place {
    BPF_PLACE_RODATA = BPF_GLOBAL_RODATA,
    BPF_PLACE_DATA = BPF_GLOBAL_DATA,
    BPF_PLACE_CODE,
    BPF_PLACE_NONE, /* not loaded */
};

struct bpf_elf_section {
    const char *name; /* in code->strings, as all names */
    uint32_t type;
    uint64_t flags;
    uint64_t offset, size; /* in the file; within it, unless type is NOBITS */
    uint32_t link, info;
    uint64_t align;
    enum bpf_place place;
    uint64_t base; /* first byte in that place; in code: first byte of the first instruction */
};

struct bpf_symbol {
    const char *name; /* of a section's symbol, that of the section */
    unsigned type, bind;
    uint32_t section; /* index, or one of ELF_INDEX_ */
    uint64_t value, size;
};

struct bpf_loader {
    const uint8_t *file;
    uint64_t size;
    struct bpf_log *log;
    struct bpf_code *code;

    struct bpf_elf_section *sections;
    uint32_t section_count;
    uint32_t symtab; /* section; 0: none */
    uint32_t symbol_count;
    uint64_t *common; /* for each symbol that is COMMON, where it is in data; NULL: none is */

    /* Tables of code->strings, which starts with an empty string. */
    struct bpf_elf_strings {
        uint64_t start, size;
    } section_names, symbol_names, btf_strings;
};

/* The text at an offset of a table; NULL if there is none. */
const char *bpf_elf_text(const struct bpf_loader *l, const struct bpf_elf_strings *table,
                         uint32_t offset);

/* Which loaded section has this name; NULL if none. */
const struct bpf_elf_section *bpf_elf_find(const struct bpf_loader *l, const char *name);

/* index is below symbol_count. 0, or -EINVAL with a message. */
int bpf_elf_symbol(const struct bpf_loader *l, uint32_t index, struct bpf_symbol *symbol);

/* A line for the log; returns -EINVAL. */
int bpf_elf_bad(const struct bpf_loader *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* elf_link.c: find the functions, and give everything the address of what it names. */
int bpf_elf_functions(struct bpf_loader *l);
int bpf_elf_relocate(struct bpf_loader *l);

/* Then: functions that are called but have no symbol, as in assembled code. */
int bpf_elf_local_functions(struct bpf_loader *l);

/*
 * btf.c: the source lines of .BTF.ext. A program runs without them, so what is wrong with them is
 * only said. bpf_btf_strings() finds the texts, which elf.c then copies. 0 or -ENOMEM.
 */
void bpf_btf_strings(const struct bpf_loader *l, const struct bpf_elf_section *btf,
                     uint64_t *offset, uint64_t *size);
int bpf_btf_lines(struct bpf_loader *l);

#endif
