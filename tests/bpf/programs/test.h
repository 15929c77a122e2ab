/*
 * What the programs here start with. Each is compiled for BPF and run by `ashlar bpf run`, and for
 * the machine with native.c; both must give the same answer and leave the same memory.
 */
#ifndef TESTS_BPF_TEST_H
#define TESTS_BPF_TEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;

#define NOINLINE __attribute__((noinline))

#ifdef __bpf__
#define SECTION(name) __attribute__((section(name), used))
static void (*const say)(const char *text) = (void (*)(const char *))9;
#else
#define SECTION(name)
void say(const char *text);
#endif

/* memory: at least 256 bytes, aligned to 8. */
u64 prog(u8 *memory, u64 size);

#endif
