/* Instructions in words: all kinds, and what is none. */
#include "test.h"

#include <ashlar/bpf.h>

#include "base/util.h"
#include "bpf/code.h"

static uint64_t insn(unsigned opcode, unsigned dst, unsigned src, int offset, int32_t imm)
{
    return opcode | dst << 8 | src << 12 | (uint64_t)(uint16_t)offset << 16 |
           (uint64_t)(uint32_t)imm << 32;
}

static const char *text_of(uint64_t bytes, uint64_t second)
{
    static char text[BPF_TEXT_SIZE];
    static struct bpf_function_info functions[] = {{0, 1, "first", true}, {1, 1, "next", false}};
    uint8_t raw[16];
    store_le64(raw, bytes);
    store_le64(raw + 8, second);
    struct bpf_insn insns[2] = {bpf_insn_read(raw), bpf_insn_read(raw + 8)};
    const struct bpf_code code = {
        .insns = insns, .count = 2, .functions = functions, .function_count = 2};
    memset(text, 'x', sizeof(text));
    bpf_insn_text(&code, 0, text);
    return text;
}

#define READS(bytes, words) assert_string_equal(text_of(bytes, 0), words)

static void arithmetic(void **state)
{
    (void)state;
    READS(insn(0x07, 1, 0, 0, 5), "r1 += 5");
    READS(insn(0x0f, 1, 2, 0, 0), "r1 += r2");
    READS(insn(0x04, 1, 0, 0, -5), "w1 += -5");
    READS(insn(0x1c, 9, 10, 0, 0), "w9 -= w10");
    READS(insn(0x2f, 3, 4, 0, 0), "r3 *= r4");
    READS(insn(0x3f, 3, 4, 0, 0), "r3 /= r4");
    READS(insn(0x3f, 3, 4, 1, 0), "r3 s/= r4");
    READS(insn(0x94, 3, 0, 1, 7), "w3 s%= 7");
    READS(insn(0x97, 3, 0, 0, 7), "r3 %= 7");
    READS(insn(0x4f, 3, 4, 0, 0), "r3 |= r4");
    READS(insn(0x57, 3, 0, 0, 255), "r3 &= 255");
    READS(insn(0xaf, 3, 3, 0, 0), "r3 ^= r3");
    READS(insn(0x67, 3, 0, 0, 32), "r3 <<= 32");
    READS(insn(0x7c, 3, 4, 0, 0), "w3 >>= w4");
    READS(insn(0xc7, 3, 0, 0, 32), "r3 s>>= 32");
    READS(insn(0x87, 3, 0, 0, 0), "r3 = -r3");
    READS(insn(0x84, 3, 0, 0, 0), "w3 = -w3");
    READS(insn(0xb7, 0, 0, 0, INT32_MIN), "r0 = -2147483648");
    READS(insn(0xbc, 0, 1, 0, 0), "w0 = w1");
    READS(insn(0xbf, 0, 1, 8, 0), "r0 = (s8)r1");
    READS(insn(0xbf, 0, 1, 32, 0), "r0 = (s32)r1");
    READS(insn(0xbc, 0, 1, 16, 0), "w0 = (s16)w1");
    READS(insn(0xd4, 2, 0, 0, 16), "r2 = le16 r2");
    READS(insn(0xdc, 2, 0, 0, 64), "r2 = be64 r2");
    READS(insn(0xd7, 2, 0, 0, 32), "r2 = bswap32 r2");
}

static void jumps(void **state)
{
    (void)state;
    READS(insn(0x05, 0, 0, 5, 0), "goto +5");
    READS(insn(0x05, 0, 0, -5, 0), "goto -5");
    READS(insn(0x06, 0, 0, 0, 100000), "gotol +100000");
    READS(insn(0x15, 1, 0, 2, 3), "if r1 == 3 goto +2");
    READS(insn(0x1d, 1, 2, -2, 0), "if r1 == r2 goto -2");
    READS(insn(0x2d, 1, 2, 0, 0), "if r1 > r2 goto +0");
    READS(insn(0x3d, 1, 2, 0, 0), "if r1 >= r2 goto +0");
    READS(insn(0x45, 1, 0, 1, 8), "if r1 & 8 goto +1");
    READS(insn(0x5e, 1, 2, 1, 0), "if w1 != w2 goto +1");
    READS(insn(0x65, 1, 0, 5, 0), "if r1 s> 0 goto +5");
    READS(insn(0x7d, 1, 2, 5, 0), "if r1 s>= r2 goto +5");
    READS(insn(0xad, 1, 2, 5, 0), "if r1 < r2 goto +5");
    READS(insn(0xb6, 1, 0, 5, 9), "if w1 <= 9 goto +5");
    READS(insn(0xc6, 1, 0, 5, -9), "if w1 s< -9 goto +5");
    READS(insn(0xdd, 1, 2, 5, 0), "if r1 s<= r2 goto +5");
    READS(insn(0x85, 0, 0, 0, 7), "call 7");
    READS(insn(0x85, 0, 1, 0, 0), "call next");
    READS(insn(0x85, 0, 1, 0, 5), "call ?");
    READS(insn(0x85, 0, 1, 0, INT32_MIN), "call ?");
    READS(insn(0x8d, 3, 0, 0, 0), "callx r3");
    READS(insn(0x8d, 0, 0, 0, 4), "callx r4");
    READS(insn(0x95, 0, 0, 0, 0), "exit");
}

static void memory(void **state)
{
    (void)state;
    READS(insn(0x61, 1, 2, 4, 0), "r1 = *(u32 *)(r2 +4)");
    READS(insn(0x71, 1, 10, -1, 0), "r1 = *(u8 *)(r10 -1)");
    READS(insn(0x69, 1, 2, 0, 0), "r1 = *(u16 *)(r2 +0)");
    READS(insn(0x79, 1, 2, -32768, 0), "r1 = *(u64 *)(r2 -32768)");
    READS(insn(0x91, 1, 2, 3, 0), "r1 = *(s8 *)(r2 +3)");
    READS(insn(0x81, 1, 2, 3, 0), "r1 = *(s32 *)(r2 +3)");
    READS(insn(0x63, 1, 2, 4, 0), "*(u32 *)(r1 +4) = w2");
    READS(insn(0x7b, 10, 2, -8, 0), "*(u64 *)(r10 -8) = r2");
    READS(insn(0x72, 1, 0, 4, -1), "*(u8 *)(r1 +4) = -1");
    READS(insn(0xdb, 1, 2, 8, 0x00), "lock *(u64 *)(r1 +8) += r2");
    READS(insn(0xc3, 1, 2, 8, 0x50), "lock *(u32 *)(r1 +8) &= w2");
    READS(insn(0xdb, 1, 2, 8, 0x01), "r2 = atomic_fetch_add(*(u64 *)(r1 +8), r2)");
    READS(insn(0xc3, 1, 2, 8, 0x41), "w2 = atomic_fetch_or(*(u32 *)(r1 +8), w2)");
    READS(insn(0xdb, 1, 2, 8, 0xa1), "r2 = atomic_fetch_xor(*(u64 *)(r1 +8), r2)");
    READS(insn(0xdb, 1, 2, 8, 0xe1), "r2 = xchg(*(u64 *)(r1 +8), r2)");
    READS(insn(0xc3, 1, 2, 8, 0xf1), "w0 = cmpxchg(*(u32 *)(r1 +8), w0, w2)");
    READS(insn(0xdb, 1, 2, 8, 0x70), "atomic 0x70 on *(u64 *)(r1 +8)");
}

static void wide_values(void **state)
{
    (void)state;
    assert_string_equal(text_of(insn(0x18, 1, 0, 0, 0x55667788), insn(0, 0, 0, 0, 0x11223344)),
                        "r1 = 0x1122334455667788 ll");
    assert_string_equal(text_of(insn(0x18, 1, 0, 0, -1), 0), "r1 = 0xffffffff ll");
    assert_string_equal(text_of(insn(0x18, 1, 6, 0, 0), insn(0, 0, 0, 0, 8)), "r1 = rodata +8");
    assert_string_equal(text_of(insn(0x18, 1, 6, 0, 1), insn(0, 0, 0, 0, 16)), "r1 = data +16");
    assert_string_equal(text_of(insn(0x18, 1, 4, 0, 0), 0), "r1 = next");
}

/* Any bytes are some words, which end. */
static void anything(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned opcode = 0; opcode < 256; opcode++)
        for (int i = 0; i < 1000; i++) {
            const uint64_t bytes = (random_next(&seed) & ~UINT64_C(0xff)) | opcode;
            const char *text = text_of(bytes, random_next(&seed));
            assert_in_range(strnlen(text, BPF_TEXT_SIZE), 1, BPF_TEXT_SIZE - 1);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic),  cmocka_unit_test(jumps),    cmocka_unit_test(memory),
        cmocka_unit_test(wide_values), cmocka_unit_test(anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
