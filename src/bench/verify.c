/*
 * A verified block, little-endian:
 *
 *     0  magic "ashlarvb"     8  offset    16  seed     24  generation
 *    32  length (u32)        36  CRC-32C of the whole block with this field zero
 *    40  words of a generator started from offset, seed and generation
 *    -8  generation again, in the last 8 bytes: tells a torn block from a corrupt one
 */
#include "bench/verify.h"

#include <string.h>

#include "base/crc32c.h"
#include "base/util.h"

enum { AT_OFFSET = 8, AT_SEED = 16, AT_GENERATION = 24, AT_LEN = 32, AT_CRC = 36, AT_DATA = 40 };

static const char magic[8] = "ashlarvb";

static uint32_t block_crc(const uint8_t *b, uint32_t len)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c(0, b, AT_CRC);
    crc = crc32c(crc, zero, sizeof(zero));
    return crc32c(crc, b + AT_DATA, len - AT_DATA);
}

void verify_fill(void *block, uint32_t len, const struct verify_stamp *stamp)
{
    uint8_t *b = block;
    uint64_t state = stamp->offset ^ stamp->seed << 20 ^ stamp->generation << 40;
    memcpy(b, magic, sizeof(magic));
    store_le64(b + AT_OFFSET, stamp->offset);
    store_le64(b + AT_SEED, stamp->seed);
    store_le64(b + AT_GENERATION, stamp->generation);
    store_le32(b + AT_LEN, len);
    for (uint32_t at = AT_DATA; at + 8 <= len; at += 8)
        store_le64(b + at, random_next(&state));
    store_le64(b + len - 8, stamp->generation);
    store_le32(b + AT_CRC, block_crc(b, len));
}

bool verify_check(const void *block, uint32_t len, const struct verify_stamp *stamp,
                  struct bench_damage *damage)
{
    const uint8_t *b = block;
    uint64_t generation = load_le64(b + AT_GENERATION), tail = load_le64(b + len - 8);
    uint64_t offset = load_le64(b + AT_OFFSET);
    damage->offset = stamp->offset;
    damage->found = generation;
    if (memcmp(b, magic, sizeof(magic)) || load_le32(b + AT_LEN) != len)
        damage->kind = BENCH_LOST;
    else if (block_crc(b, len) != load_le32(b + AT_CRC))
        damage->kind = generation != tail ? BENCH_TORN : BENCH_CORRUPT;
    else if (load_le64(b + AT_SEED) != stamp->seed)
        damage->kind = BENCH_LOST;
    else if (offset != stamp->offset)
        damage->kind = BENCH_MISPLACED, damage->found = offset;
    else if (generation < stamp->generation)
        damage->kind = BENCH_STALE;
    else
        return true;
    return false;
}

const char *bench_damage_name(enum bench_damage_kind kind)
{
    static const char *const names[] = {"lost", "stale", "misplaced", "torn", "corrupt"};
    return (unsigned)kind < ARRAY_SIZE(names) ? names[kind] : "unknown";
}
