/*
 * tests/bpf/asm.h: from the text of instructions, as clang and the kernel write them, to their
 * bytes.
 *
 *     label:                      r1 = 5   w1 = r2   r1 = (s8)r2   r1 = -r1   r1 = be16 r1
 *     r1 += r2   w1 s/= 3         r1 = 0x123456789 ll   r1 = label ll   r1 = data 8 ll
 *     r1 = *(u32 *)(r2 +4)        *(u8 *)(r1 -1) = 7   *(u64 *)(r1 +0) = r2
 *     lock *(u64 *)(r1 +0) += r2  r2 = fetch *(u32 *)(r1 +0) += r2
 *     r2 = xchg *(u64 *)(r1 +0)   r0 = cmpxchg *(u64 *)(r1 +0) r2
 *     if r1 s> 5 goto label       goto +2   gotol label   call 7   call label   callx r3   exit
 *     .raw 07 01 00 00 00 00 00 00
 *
 * One a line; what follows ';' or '#' is a comment.
 */
#ifndef TESTS_BPF_ASM_H
#define TESTS_BPF_ASM_H

#include <stddef.h>
#include <stdint.h>

/* The number of bytes, or -1 with the reason in error. */
long bpf_assemble(const char *text, uint8_t *bytes, size_t size, char error[128]);

#endif
