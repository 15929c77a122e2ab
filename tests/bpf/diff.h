/* tests/bpf/diff.h: one program in all engines, which must agree. */
#ifndef TESTS_BPF_DIFF_H
#define TESTS_BPF_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct diff_count {
    unsigned programs, refused, verified, checked, compiled, ended, failed;
};

/*
 * Make a program of these bytes and run it. The first byte says how: a generated program, the same
 * with some instructions changed, or the bytes as instructions. What the verifier accepts must not
 * fault in the strict interpreter, nor depend on what it did not write; the compiler's code must
 * give the same result, memory and count of instructions. What it rejects must end in the same way
 * in both engines. False, with the program printed, if something is wrong.
 */
bool bpf_diff(const uint8_t *data, size_t size, struct diff_count *count);

#endif
