/* bpf/code.h: what a module is made of, and what the rooms of bpf/ pass to one another. */
#ifndef BPF_CODE_H
#define BPF_CODE_H

#include <ashlar/bpf.h>

#include "bpf/insn.h"

/* All of a module's code, one function after the other, and its globals. Made by the loader
 * (elf.c), checked by bpf_code_check(), and never changed after that. */
struct bpf_code {
    struct bpf_insn *insns; /* LDDW takes two */
    uint32_t count;

    struct bpf_function_info *functions; /* in the order of start; they cover all insns */
    uint32_t function_count;

    uint8_t *rodata;
    uint64_t rodata_size;
    uint8_t *data; /* .data and, as zeroes at its end, .bss */
    uint64_t data_size;
    struct bpf_pointer *pointers; /* in globals */
    uint32_t pointer_count;

    struct bpf_line *lines; /* in the order of insn; may be none */
    uint32_t line_count;
    char *strings; /* behind names, files and texts */
};

struct bpf_function_info {
    uint32_t start, count; /* instructions */
    const char *name;      /* never NULL */
    bool global;           /* binding */
};

/* 8 bytes of a global that hold the address of a global, as a table of strings does. They are 0
 * here, for where globals are depends on the environment. (Addresses of functions are known, and
 * stand where they belong.) */
struct bpf_pointer {
    uint64_t offset; /* of the 8 bytes, in their section */
    uint64_t value;  /* offset in the section that they point to */
    uint8_t section; /* BPF_GLOBAL_RODATA, BPF_GLOBAL_DATA */
    uint8_t target;  /* the same */
};

/* From this instruction on, until the next line. */
struct bpf_line {
    uint32_t insn;
    uint32_t line, column;
    const char *file;
    const char *text; /* "" if unknown */
};

/* Programs share the code of their module: it goes with the last of them. */
struct bpf_module {
    struct bpf_code code;
    uint32_t programs; /* atomic */
};

/* Where a local call at `insn` goes, or which function a LDDW there names; as in the kernel, both
 * are relative to the next slot. */
static inline uint32_t bpf_code_target(const struct bpf_code *code, uint32_t insn)
{
    return insn + 1 + (uint32_t)code->insns[insn].imm;
}

/* The register of a callx: clang before 19 had it in imm. */
static inline unsigned bpf_callx_register(const struct bpf_insn *insn)
{
    return insn->imm ? (unsigned)insn->imm : insn->dst;
}

/* Write the pointers of globals into a copy of them that programs see at these addresses. */
void bpf_code_set_pointers(const struct bpf_code *code, uint8_t *rodata, uint64_t rodata_address,
                           uint8_t *data, uint64_t data_address);

/* Which function an instruction is in; NULL if it is past the end. */
const struct bpf_function_info *bpf_code_function(const struct bpf_code *code, uint32_t insn);

/* The source line of an instruction; NULL if there is none. */
const struct bpf_line *bpf_code_line(const struct bpf_code *code, uint32_t insn);

/*
 * Whether every instruction is one of RFC 9669 with its unused fields zero (the packet group is
 * refused), jumps and local calls stay within their function and go to the start of an
 * instruction (of a function), no function runs past its end, r10 is not written, LDDW is
 * complete, and globals are within their section. What passes can be interpreted and compiled
 * without looking again. Which helpers exist is not looked at. 0, or -EINVAL with the reason.
 */
int bpf_code_check(const struct bpf_code *code, struct bpf_log *log);

/* One instruction in words, as the kernel's log writes them: "r1 += r2",
 * "if r1 s> 0 goto +5", "*(u32 *)(r1 +4) = w2", "call 7". */
#define BPF_TEXT_SIZE 96
void bpf_insn_text(const struct bpf_code *code, uint32_t insn, char text[BPF_TEXT_SIZE]);

/* Append to a log, which may be NULL. The format ends with a newline where the line ends. */
void bpf_log_add(struct bpf_log *log, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
