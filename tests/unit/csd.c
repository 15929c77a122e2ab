/* The computational device: what programs read, are told, return and append. The programs are a few
 * instructions each; programs in C are in tests/integration/csd.sh. */
#include "csd.h"

#include <ashlar/zone.h>

/* ---- reading ------------------------------------------------------------------------------ */

static void chunks(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    static const struct csd_range ranges[] = {
        WHOLE,    {512, 1024},   {4096, 1 << 20},           {SIZE - 512, 512},
        {0, 512}, {SIZE / 2, 0}, {1 << 20, (1 << 20) + 512}};
    static const unsigned sizes[] = {1, 1000, 65536, 1 << 20};
    static const uint64_t ahead[] = {0, 512, 64 << 20};
    for (unsigned a = 0; a < ARRAY_SIZE(ahead); a++) {
        struct csd *csd = open_csd(dev, 1, ahead[a]);
        for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
            for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
                if (sizes[k] == 1 && ranges[i].len > 2000)
                    continue;
                struct csd_program *p = load(csd, CHUNKS, sizes[k], 0u);
                const struct csd_call call = {.read = ranges[i]};
                struct csd_result r;
                csd_run(p, &call, &r);
                assert_int_equal(r.size, ranges[i].len);
                assert_int_equal(r.error, 0);
                assert_memory_equal(r.data ? r.data : image, image + ranges[i].offset, r.size);
                assert_int_equal(r.stats.read, ranges[i].len);
                assert_int_equal(r.stats.returned, ranges[i].len);
                assert_int_equal(r.touched_count, ranges[i].len ? 1 : 0);
                csd_result_free(&r);
                csd_unload(p);
            }
        csd_close(csd);
    }
    assert_int_equal(blk_close(dev), 0);
}

/* csd_keep() across the borders of pieces: each chunk begins with the end of the last. */
static void keep(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    static const struct {
        unsigned max, keep;
    } cases[] = {{1000, 1}, {1000, 999}, {65536, 10}, {1 << 20, 65536}, {100000, 65536}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct csd_program *p = load(csd, CHUNKS, cases[i].max, cases[i].keep);
        const struct csd_call call = {.read = {0, cases[i].keep == 999 ? 8192 : SIZE}};
        struct csd_result r;
        uint64_t at = 0, position = 0, kept = 0;
        assert_int_equal(csd_run(p, &call, &r), 0);
        while (position < call.read.len) {
            /* Pieces are 256 KiB: no chunk reaches over the border of two. */
            const uint64_t border = round_down(position, 256 << 10) + (256 << 10);
            const uint64_t fresh =
                min_u64(cases[i].max - kept, min_u64(border, call.read.len) - position);
            assert_true(at + kept + fresh <= r.size);
            assert_memory_equal((uint8_t *)r.data + at, image + position - kept, kept + fresh);
            at += kept + fresh;
            position += fresh;
            kept = min_u64(cases[i].keep, kept + fresh);
        }
        assert_int_equal(at, r.size);
        csd_result_free(&r);
        csd_unload(p);
    }
    close_all(csd, dev);
}

/* csd_seek(), csd_tell(), csd_range_size(), and wrong arguments. */
static void seek(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const struct csd_call call = {.read = {1 << 20, 1 << 20}};
    struct csd_result r;
    /* Eight bytes from 12345 on, then eight from 5 on; r0 = where it is. */
    struct csd_program *p =
        load(csd, "r1 = 12345\n call 12\n if r0 != 0 goto end\n r1 = r10\n r1 += -8\n r2 = 8\n"
                  "call 10\n if r0 != 8 goto end\n r1 = *(u64 *)(r10 -8)\n r2 = 8\n call 1\n"
                  "r1 = 5\n call 12\n r1 = r10\n r1 += -8\n r2 = 8\n call 10\n"
                  "r1 = *(u64 *)(r10 -8)\n r2 = 8\n call 1\n call 13\n end: exit");
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 13);
    assert_int_equal(r.size, 16);
    assert_memory_equal(r.data, image + (1 << 20) + 12345, 8);
    assert_memory_equal((uint8_t *)r.data + 8, image + (1 << 20) + 5, 8);
    csd_result_free(&r);
    csd_unload(p);
    p = load(csd, "call 14\n exit");
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 1 << 20);
    csd_unload(p);
    static const struct {
        const char *text;
        int64_t value;
    } wrong[] = {
        {"r1 = 1048577\n call 12\n exit", -ERANGE},
        {"r1 = -1\n call 12\n exit", -ERANGE},
        {"r1 = 1048576\n call 12\n exit", 0},
        {"r1 = 1\n call 11\n exit", -EINVAL}, /* nothing there to keep */
        {"r1 = -1\n call 11\n exit", -EINVAL},
        {"r1 = r10\n r1 += -8\n r2 = 0\n call 10\n exit", -EINVAL},
        {"r1 = r10\n r1 += -8\n r2 = 1048577\n call 10\n exit", -EINVAL},
        {"r1 = r10\n r1 += -8\n r2 = -1\n call 10\n exit", -EINVAL},
        /* As many kept as are asked for: there is no room for more. */
        {"r1 = r10\n r1 += -8\n r2 = 8\n call 10\n r1 = 8\n call 11\n r1 = r10\n r1 += -8\n"
         "r2 = 8\n call 10\n exit",
         -EINVAL},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        p = load(csd, "%s", wrong[i].text);
        assert_int_equal(csd_run(p, &call, &r), 0);
        if ((int64_t)r.value != wrong[i].value)
            fail_msg("'%s': %lld, expected %lld", wrong[i].text, (long long)r.value,
                     (long long)wrong[i].value);
        csd_unload(p);
    }
    close_all(csd, dev);
}

static void read_helper(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const uint64_t zone = 1 << 18;
    const struct csd_call call = {.read = {1 << 20, 1 << 20}, .zone_size = zone};
    static const struct {
        uint64_t zone, sector, offset, size;
        int64_t value;
        int error;
    } cases[] = {
        {0, 0, 0, 512, 0, 0},
        {3, 511, 0, 512, 0, 0},
        {1, 3, 17, 4099, 0, 0},
        {0, 0, (1 << 20) - 1, 1, 0, 0},
        {3, 512, 0, 0, 0, 0},
        {0, 0, 0, 65536, 0, 0},
        {3, 511, 1, 512, -ERANGE, 0},
        {4, 0, 0, 1, -ERANGE, 0},
        {0, 2048, 0, 1, -ERANGE, 0},
        {UINT64_MAX, 0, 0, 1, -ERANGE, 0},
        {0, UINT64_MAX, 0, 1, -ERANGE, 0},
        {0, 0, UINT64_MAX, 1, -ERANGE, 0},
        {1, 1, UINT64_MAX, 2, -ERANGE, 0},
        {UINT64_C(1) << 46, 0, 0, 8, -ERANGE, 0}, /* times the zone's size: 2^64 */
        {0, UINT64_C(1) << 55, 0, 8, -ERANGE, 0}, /* times 512: 2^64 */
        {0, 0, 0, UINT64_MAX, -ERANGE, 0},
        {0, 0, 0, UINT64_C(1) << 63, -ERANGE, 0},
        {0, 0, 512, UINT64_MAX - 511, -ERANGE, 0},
        {0, 0, 0, 65537, 0, -EFAULT}, /* the memory has 64 KiB */
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct csd_program *p =
            load(csd, READ_ONCE, cases[i].zone, cases[i].sector, cases[i].offset, cases[i].size);
        struct csd_result r;
        csd_run(p, &call, &r);
        assert_int_equal(r.error, cases[i].error);
        if (!r.error && (int64_t)r.value != cases[i].value)
            fail_msg("case %u: %lld", i, (long long)r.value);
        if (!r.error && !r.value) {
            const uint64_t at = cases[i].zone * zone + cases[i].sector * 512 + cases[i].offset;
            assert_int_equal(r.size, cases[i].size);
            if (r.size)
                assert_memory_equal(r.data, image + (1 << 20) + at, r.size);
        } else {
            assert_int_equal(r.size, 0);
            assert_int_equal(r.stats.read, 0);
        }
        /* Nothing outside of the range was touched. */
        for (unsigned k = 0; k < r.touched_count; k++)
            assert_true(r.touched[k].offset >= 1 << 20 &&
                        r.touched[k].offset + r.touched[k].len <= 2 << 20);
        csd_result_free(&r);
        csd_unload(p);
    }
    close_all(csd, dev);
}

/* A read that failed leaves nothing of what was in memory before, and nothing of the device. */
static void read_failed(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const struct csd_call call = {.read = {0, 65536}};
    struct csd_result r;
    struct csd_program *p = load(
        csd, "r1 = -1\n *(u64 *)(r10 -8) = r1\n r1 = 0\n r2 = 127\n r3 = 508\n r4 = 8\n r5 = r10\n"
             "r5 += -8\n call 2\n if r0 != -34 goto end\n r0 = *(u64 *)(r10 -8)\n end: exit");
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 0);
    csd_unload(p);
    close_all(csd, dev);
}

/* bpf_read() in a row is read in advance; with steps of any size, and jumps between. */
static void read_sequence(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    static const unsigned steps[] = {512, 777, 4096, 65536};
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        /* r6: offset; the last piece is what is left */
        struct csd_program *p = load(
            csd,
            "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r9 = *(u64 *)(r10 -8)\n"
            "call 14\n r8 = r0\n r6 = 0\n"
            "loop: r7 = r8\n r7 -= r6\n if r7 == 0 goto end\n if r7 <= %u goto last\n r7 = %u\n"
            "last: r1 = 0\n r2 = 0\n r3 = r6\n r4 = r7\n r5 = r9\n call 2\n"
            "if r0 != 0 goto fail\n r1 = r9\n r2 = r7\n call 1\n r6 += r7\n goto loop\n"
            "end: r0 = 0\n fail: exit",
            steps[i], steps[i]);
        const struct csd_call call = {.read = {512, SIZE - 1024}};
        struct csd_result r;
        assert_int_equal(csd_run(p, &call, &r), 0);
        assert_int_equal(r.value, 0);
        assert_int_equal(r.size, SIZE - 1024);
        assert_memory_equal(r.data, image + 512, r.size);
        /* A request for each step would be thousands. */
        assert_true(r.stats.requests < 100);
        csd_result_free(&r);
        csd_unload(p);
    }
    close_all(csd, dev);
}

/* What was read in advance is there when bpf_read() asks: nothing is read twice. */
static void prefetch(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const struct csd_call call = {.read = WHOLE};
    struct csd_result r;
    struct csd_program *p = load(
        csd,
        "r1 = 1000\n r2 = 9000\n call 17\n if r0 != 0 goto fail\n"
        "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r5 = *(u64 *)(r10 -8)\n r7 = r5\n"
        "r1 = 0\n r2 = 0\n r3 = 2000\n r4 = 8000\n call 2\n if r0 != 0 goto fail\n"
        "r1 = r7\n r2 = 8000\n call 1\n r1 = 4194304\n r2 = 1\n call 17\n fail: exit");
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, (uint64_t)-ERANGE); /* of the last: past the end */
    assert_int_equal(r.size, 8000);
    assert_memory_equal(r.data, image + 2000, r.size);
    assert_int_equal(r.stats.read, 10240 - 512);
    assert_int_equal(r.touched_count, 1);
    assert_int_equal(r.touched[0].offset, 512);
    assert_int_equal(r.touched[0].len, 10240 - 512);
    csd_result_free(&r);
    csd_unload(p);
    close_all(csd, dev);
}

/* ---- what else a program is told ---------------------------------------------------------- */

static void facts(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M?block=4096");
    struct csd *csd = open_csd(dev, 1, 0);
    static const struct {
        const char *text;
        uint64_t value;
    } cases[] = {
        {"call 4\n exit", 4096},
        {"call 5\n exit", 256},
        {"call 6\n exit", 256},
        {"call 14\n exit", 1 << 20},
        {"r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r0 = *(u64 *)(r10 -16)\n exit",
         65536},
        {"r1 = r10\n r1 += -8\n call 8\n r1 = *(u64 *)(r10 -8)\n r0 = *(u32 *)(r1 +0)\n exit",
         0x67726100},
        {"r1 = r10\n r1 += -8\n call 15\n r1 = *(u64 *)(r10 -8)\n r2 = *(u32 *)(r1 +4)\n r0 += r2\n"
         "exit",
         4},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct csd_call call = {.read = {0, 1 << 20}, .arg = "\0arg", .arg_size = 4};
        struct csd_program *p = load(csd, "%s", cases[i].text);
        struct csd_result r;
        assert_int_equal(csd_run(p, &call, &r), 0);
        if (r.value != cases[i].value)
            fail_msg("'%s': %#llx", cases[i].text, (unsigned long long)r.value);
        csd_unload(p);
    }
    close_all(csd, dev);
}

static void note_text(void *user, const char *text)
{
    snprintf(user, 64, "%s", text);
}

static void debug(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    char heard[64] = "";
    struct csd_call call = {.read = WHOLE, .debug = note_text, .user = heard};
    struct csd_result r;
    struct csd_program *p = load(csd, "r1 = 0x6f6c6c6568 ll\n *(u64 *)(r10 -8) = r1\n r1 = r10\n"
                                      "r1 += -8\n call 9\n r0 = 0\n exit");
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_string_equal(heard, "hello");
    call.debug = NULL;
    assert_int_equal(csd_run(p, &call, &r), 0);
    csd_unload(p);
    /* No NUL up to the end of the stack; no memory at all. */
    static const char *const wrong[] = {
        "r1 = -1\n *(u64 *)(r10 -8) = r1\n r1 = r10\n r1 += -8\n call 9\n r0 = 0\n exit",
        "r1 = 0\n call 9\n r0 = 0\n exit",
        "r1 = -1\n call 9\n r0 = 0\n exit",
    };
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        p = load(csd, "%s", wrong[i]);
        assert_int_equal(csd_run(p, &call, &r), -EFAULT);
        csd_unload(p);
    }
    close_all(csd, dev);
}

/* ---- returning ----------------------------------------------------------------------------- */

static int count_bytes(void *user, const void *data, size_t size)
{
    uint64_t *sum = user;
    for (size_t i = 0; i < size; i++)
        *sum += ((const uint8_t *)data)[i];
    return 0;
}

static int take_one_piece(void *user, const void *data, size_t size)
{
    unsigned *pieces = user;
    (void)data;
    (void)size;
    return (*pieces)++ ? -EPIPE : 0;
}

static void returned(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    uint64_t sum = 0, expected = 0;
    struct csd_call call = {.read = WHOLE, .returned = count_bytes, .user = &sum};
    struct csd_result r;
    struct csd_program *p = load(csd, CHUNKS, 65536u, 0u);
    count_bytes(&expected, image, SIZE);
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(sum, expected);
    assert_null(r.data);
    assert_int_equal(r.stats.returned, SIZE);
    assert_int_equal(r.stats.reduction_ppm, 0);
    /* Nobody takes the second piece. */
    unsigned pieces = 0;
    call.returned = take_one_piece;
    call.user = &pieces;
    assert_int_equal(csd_run(p, &call, &r), -EPIPE);
    assert_int_equal(pieces, 2);
    assert_int_equal(r.stats.returned, 65536);
    /* Too much: what came before stays. */
    call.returned = NULL;
    call.max_return = 3 * 65536 + 1;
    assert_int_equal(csd_run(p, &call, &r), -EFBIG);
    assert_int_equal(r.size, 3 * 65536);
    assert_memory_equal(r.data, image, r.size);
    assert_true(strlen(r.message) > 0);
    csd_result_free(&r);
    csd_unload(p);
    /* Memory that is not the program's, or not so much of it. */
    static const char *const wrong[] = {
        "r1 = 0\n r2 = 8\n call 1\n exit",
        "r1 = r10\n r1 += -8\n r2 = 65536\n call 1\n exit",
        "r1 = r10\n r1 += -8\n r2 = -1\n call 1\n exit",
        "r1 = -8\n r2 = 16\n call 1\n exit",
    };
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        p = load(csd, "%s", wrong[i]);
        assert_int_equal(csd_run(p, &call, &r), -EFAULT);
        assert_int_equal(r.size, 0);
        csd_unload(p);
    }
    close_all(csd, dev);
}

/* ---- appending ------------------------------------------------------------------------------ */

/* bpf_write() of r4 bytes of the memory to zone r1; fails or returns the sector. */
#define WRITE_TWICE                                                                                \
    "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r9 = *(u64 *)(r10 -8)\n"                \
    "r1 = 0x4141414141414141 ll\n *(u64 *)(r9 +0) = r1\n *(u64 *)(r9 +504) = r1\n"                 \
    "r1 = 0x4242424242424242 ll\n *(u64 *)(r9 +512) = r1\n"                                        \
    "r1 = %lu ll\n r2 = r10\n r2 += -24\n r3 = %lu ll\n r4 = %lu ll\n r5 = r9\n call 3\n"          \
    "if r0 != 0 goto end\n"                                                                        \
    "r1 = %lu ll\n r2 = r10\n r2 += -24\n r3 = 0\n r4 = 520\n r5 = r9\n call 3\n"                  \
    "if r0 != 0 goto end\n r0 = *(u64 *)(r10 -24)\n end: exit\n"

static void write_plain(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    struct blk_queue *q = test_queue(dev, 1);
    struct csd_call call = {.read = WHOLE, .append = {1 << 20, 2560}};
    struct csd_result r;
    uint8_t got[4096];
    struct csd_program *p =
        load(csd, WRITE_TWICE, UINT64_C(0), UINT64_C(0), UINT64_C(600), UINT64_C(0));
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 2); /* the second landed behind two sectors */
    assert_int_equal(r.stats.written, 2048);
    assert_int_equal(r.touched_count, 1);
    assert_true(r.touched[0].written);
    assert_int_equal(r.touched[0].offset, 1 << 20);
    assert_int_equal(r.touched[0].len, 2048);
    assert_int_equal(blk_read(q, (1 << 20) - 512, got, 4096), 0);
    assert_memory_equal(got, image + (1 << 20) - 512, 512);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *w = got + 512 + i * 1024;
        assert_int_equal(load_le64(w), UINT64_C(0x4141414141414141));
        assert_int_equal(load_le64(w + 8), 0);
        assert_int_equal(load_le64(w + 512), UINT64_C(0x4242424242424242));
        assert_int_equal(load_le64(w + 1016), 0);
    }
    assert_memory_equal(got + 2560, image + (1 << 20) + 2048, 4096 - 2560);
    /* The range is full; where it ends nothing was touched. */
    call.append.len = 1536;
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal((int64_t)r.value, -ENOSPC);
    assert_int_equal(r.stats.written, 1024);
    call.append.len = 0;
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal((int64_t)r.value, -ERANGE);
    csd_unload(p);
    static const struct {
        uint64_t zone, offset, size;
        int64_t value;
        int error;
    } wrong[] = {
        {1, 0, 512, -ERANGE, 0},        {UINT64_MAX, 0, 512, -ERANGE, 0}, {0, 512, 512, -EINVAL, 0},
        {0, 0, 0, -EINVAL, 0},          {0, 0, 65536, -ENOSPC, 0},        {0, 0, 65537, 0, -EFAULT},
        {0, 0, UINT64_MAX, 0, -EFAULT},
    };
    call.append.len = 2560;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        p = load(csd, WRITE_TWICE, wrong[i].zone, wrong[i].offset, wrong[i].size, UINT64_C(0));
        csd_run(p, &call, &r);
        assert_int_equal(r.error, wrong[i].error);
        if (!r.error)
            assert_int_equal((int64_t)r.value, wrong[i].value);
        assert_int_equal(r.stats.written, 0);
        csd_unload(p);
    }
    assert_int_equal(blk_read(q, (1 << 20) + 2048, got, 4096), 0);
    assert_memory_equal(got, image + (1 << 20) + 2048, 4096);
    assert_int_equal(blk_queue_close(q), 0);
    close_all(csd, dev);
}

static void write_zoned(void **state)
{
    (void)state;
    struct blk *dev = test_open("zns?zone=64K&cap=48K,mem:1M");
    struct csd *csd = open_csd(dev, 1, 0);
    struct blk_queue *q = test_queue(dev, 4);
    struct csd_call call = {.read = {0, 65536}, .append = {2 * 65536, 2 * 65536}};
    struct csd_result r;
    uint8_t got[1024];
    uint64_t place;
    memset(got, 7, sizeof(got));
    /* Zone 3 is the second of the range, and holds something already. */
    assert_int_equal(blk_zone_append(q, 3 * 65536, got, 512, 0, &place), 0);
    struct csd_program *p =
        load(csd, WRITE_TWICE, UINT64_C(0), UINT64_C(0), UINT64_C(512), UINT64_C(1));
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 1);
    assert_int_equal(r.touched_count, 2);
    assert_int_equal(blk_read(q, 3 * 65536 + 512, got, 1024), 0);
    assert_int_equal(load_le64(got), UINT64_C(0x4141414141414141));
    assert_int_equal(load_le64(got + 512), UINT64_C(0x4242424242424242));
    csd_unload(p);
    /* Past the range, and more than one append can hold. */
    p = load(csd, WRITE_TWICE, UINT64_C(2), UINT64_C(0), UINT64_C(512), UINT64_C(0));
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal((int64_t)r.value, -ERANGE);
    csd_unload(p);
    /* A zone that is full answers with its own error. */
    assert_int_equal(blk_zone_finish(q, 2 * 65536), 0);
    p = load(csd, WRITE_TWICE, UINT64_C(0), UINT64_C(0), UINT64_C(512), UINT64_C(0));
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal((int64_t)r.value, -BLK_ZONE_IS_FULL);
    assert_int_equal(r.stats.write_errors, 1);
    assert_int_equal(r.stats.first_error, -BLK_ZONE_IS_FULL);
    csd_unload(p);
    assert_int_equal(blk_queue_close(q), 0);
    close_all(csd, dev);
}

static void append_stream(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:8M");
    struct csd *csd = open_csd(dev, 1, 0);
    struct blk_queue *q = test_queue(dev, 1);
    uint8_t *got = malloc(SIZE);
    struct csd_call call = {.read = {0, SIZE - 512}, .append = {SIZE, SIZE}};
    struct csd_result r;
    struct csd_program *p = load(csd, COPY, 1000u);
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 0);
    assert_int_equal(r.stats.written, SIZE - 512);
    assert_int_equal(blk_read(q, SIZE, got, SIZE - 512), 0);
    assert_memory_equal(got, image, SIZE - 512);
    call.append.len = SIZE - 1024; /* one sector too small */
    assert_int_equal(csd_run(p, &call, &r), -ENOSPC);
    csd_unload(p);
    free(got);
    assert_int_equal(blk_queue_close(q), 0);
    close_all(csd, dev);
}

static void append_zones(void **state)
{
    (void)state;
    struct blk *dev = test_open("zns?zone=256K&cap=200K&append_max=64K,mem:16M");
    struct csd *csd = open_csd(dev, 1, 0);
    struct blk_queue *q = test_queue(dev, 4);
    const uint64_t zone = 256 << 10, cap = 200 << 10;
    uint8_t *got = malloc(2 * cap);
    uint64_t place;
    /* Three zones to read: one full, one part, one empty. */
    for (uint64_t at = 0; at < cap; at += 4096)
        assert_int_equal(blk_zone_append(q, 0, image + at, 4096, 0, &place), 0);
    assert_int_equal(blk_zone_append(q, zone, image + cap, 8192, 0, &place), 0);
    /* To append to: one that is nearly full, one that is full, three that are empty. */
    for (uint64_t at = 0; at < cap - 4096; at += 4096)
        assert_int_equal(blk_zone_append(q, 4 * zone, image + at, 4096, 0, &place), 0);
    assert_int_equal(blk_zone_finish(q, 5 * zone), 0);
    const struct csd_call call = {.read = {0, 3 * zone}, .append = {4 * zone, 5 * zone}};
    struct csd_result r;
    struct csd_program *p = load(csd, COPY, 1000u);
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 0);
    /* Only what is written was read, and all of it arrived, in order. */
    assert_int_equal(r.stats.read, cap + 8192);
    assert_int_equal(r.stats.written, cap + 8192);
    assert_int_equal(blk_read(q, 4 * zone + cap - 4096, got, 4096), 0);
    assert_int_equal(blk_read(q, 6 * zone, got + 4096, cap), 0);
    assert_int_equal(blk_read(q, 7 * zone, got + 4096 + cap, 4096), 0);
    assert_memory_equal(got, image, cap + 8192);
    csd_unload(p);
    free(got);
    assert_int_equal(blk_queue_close(q), 0);
    close_all(csd, dev);
}

static void refused(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M?block=4096");
    struct csd *csd = open_csd(dev, 1, 0);
    struct csd_program *p = load(csd, "r0 = 0\n exit");
    struct csd_result r;
    static const struct csd_call wrong[] = {
        {.read = {1, 4096}},
        {.read = {0, 100}},
        {.read = {4096, SIZE}},
        {.read = {UINT64_MAX - 4095, 8192}},
        {.append = {0, 512}},
        {.append = {SIZE, 4096}},
        {.zone_size = 1000},
        {.arg = "", .arg_size = CSD_MAX_ARG + 1},
        {.arg = "", .arg_size = UINT64_MAX},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(csd_run(p, &wrong[i], &r), -EINVAL);
    csd_unload(p);
    close_all(csd, dev);
    dev = test_open("readonly,mem:4M");
    csd = open_csd(dev, 1, 0);
    p = load(csd, "r0 = 0\n exit");
    const struct csd_call call = {.append = {0, 512}};
    assert_int_equal(csd_run(p, &call, &r), -EROFS);
    csd_unload(p);
    close_all(csd, dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks),        cmocka_unit_test(keep),
        cmocka_unit_test(seek),          cmocka_unit_test(read_helper),
        cmocka_unit_test(read_failed),   cmocka_unit_test(read_sequence),
        cmocka_unit_test(prefetch),      cmocka_unit_test(facts),
        cmocka_unit_test(debug),         cmocka_unit_test(returned),
        cmocka_unit_test(write_plain),   cmocka_unit_test(write_zoned),
        cmocka_unit_test(append_stream), cmocka_unit_test(append_zones),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, make_image, free_image);
}
