/*
 * Compress the range, and append what comes out. Returns two uint64: bytes before and after.
 *
 * What is appended is a series of blocks, each for up to 64 KiB: two uint32, little-endian, say how
 * many bytes it stands for and how many follow; if both are the same, it is those bytes
 * themselves. A block for 0 bytes is the end. Else, one after the other:
 *
 *     0 to 127, n      n + 1 bytes as they are follow
 *     128 to 255, n    a copy of n - 124 bytes (4 to 131) from d + 1 bytes back in the block's
 *                      output; d is the uint16, little-endian, that follows
 */
#include "csd.h"

enum {
    HASH_BITS = 12,
    SHORTEST = 4,
    LONGEST = 131,
    RUN = 128,
    OUT_MASK = 0x1ffff,
    IN_MASK = 0xffff,
};

static uint64_t
    seen[1 << HASH_BITS]; /* by hash of 4 bytes: where they were last in the range, plus 1 */
static uint64_t base;     /* where the block starts */
static struct {
    uint32_t before, after;
} header;
static uint8_t out[OUT_MASK + 1]; /* of a block; the largest is 64 KiB and one byte for each 128 */
static uint32_t used;             /* of out */
static uint32_t run, control;     /* bytes of the run that is open, and where its first byte is */

static uint32_t four_bytes(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put(uint8_t byte)
{
    out[used & OUT_MASK] = byte;
    used++;
}

static void put_literal(uint8_t byte)
{
    if (run == 0 || run == RUN) {
        control = used;
        run = 0;
        put(0);
    }
    put(byte);
    out[control & OUT_MASK] = (uint8_t)run;
    run++;
}

/* How many bytes from `at` on are the same as from `from` on. */
static uint32_t common(const uint8_t *in, uint32_t from, uint32_t at, uint32_t size)
{
    uint32_t len = 0;
    for (; len < LONGEST; len++)
        if (at + len >= size || in[(from + len) & IN_MASK] != in[(at + len) & IN_MASK])
            break;
    return len;
}

/* The length of a copy that begins at `at`, and how far back it is from; 0: there is none. */
static uint32_t find(const uint8_t *in, uint32_t at, uint32_t size, uint32_t *distance)
{
    if (at + SHORTEST > size || at > IN_MASK + 1 - SHORTEST)
        return 0;
    const uint32_t hash = four_bytes(in + at) * 2654435761u >> (32 - HASH_BITS);
    const uint64_t last = seen[hash];
    seen[hash] = base + at + 1;
    if (last <= base)
        return 0;
    const uint32_t from = (uint32_t)(last - base - 1);
    const uint32_t len = common(in, from, at, size);
    *distance = at - from - 1;
    return len >= SHORTEST ? len : 0;
}

static void compress(const uint8_t *in, uint32_t size)
{
    uint32_t covered = 0; /* up to here by copies */
    used = run = 0;
    for (uint32_t at = 0; at < size; at++) {
        uint32_t distance = 0;
        if (at < covered)
            continue;
        const uint32_t len = find(in, at, size, &distance);
        if (len) {
            covered = at + len;
            run = 0;
            put((uint8_t)(len + 124));
            put((uint8_t)distance);
            put((uint8_t)(distance >> 8));
        } else {
            put_literal(in[at & IN_MASK]);
        }
    }
}

static int append_block(const uint8_t *in, uint32_t size)
{
    compress(in, size);
    const uint32_t stored = used >= size;
    header.before = size;
    header.after = stored ? size : used;
    const int error = csd_append(&header, sizeof(header));
    if (error)
        return error;
    return stored ? csd_append(in, size) : csd_append(out, used & OUT_MASK);
}

int main(void)
{
    uint64_t answer[2] = {0, 0};
    const void *data;
    int64_t n;
    int error = 0;
    while ((n = csd_next(&data, CSD_CHUNK)) > 0) {
        error = append_block(data, (uint32_t)n);
        if (error)
            return error;
        base += (uint64_t)n;
        answer[0] += (uint64_t)n;
        answer[1] += sizeof(header) + header.after;
    }
    header.before = header.after = 0;
    if (n == 0)
        error = csd_append(&header, sizeof(header));
    answer[1] += sizeof(header);
    bpf_return_data(answer, sizeof(answer));
    return n < 0 ? (int)n : error;
}
