/*
 * tests/bpf/generate.h: random programs that mostly make sense: they use registers that hold
 * something, stay within objects, loop a few times, call helpers with what they take. Some make a
 * mistake, so that a verifier has something to find.
 */
#ifndef TESTS_BPF_GENERATE_H
#define TESTS_BPF_GENERATE_H

#include <stddef.h>
#include <stdint.h>

#include "bpf/insn.h"

enum { GENERATE_MAX_INSNS = 1024 };

struct generated {
    struct bpf_insn insns[GENERATE_MAX_INSNS];
    uint32_t count;
};

/* Sizes of what the environment of diff.c has. */
enum {
    MEMORY_SIZE = 256,
    CONSTANT_SIZE = 64,
    BUFFER_SIZE = 4096,
    RODATA_SIZE = 64,
    DATA_SIZE = 128
};

/* The same bytes give the same program. */
void bpf_generate(const uint8_t *data, size_t size, struct generated *g);

#endif
