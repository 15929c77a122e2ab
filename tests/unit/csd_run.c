/* Runs of the computational device: errors of the device, limits, cancelling, the audit log, many
 * at once, and queues without room. */
#include "csd.h"

#include <ashlar/blk_driver.h>

#include "base/platform.h"
#include "blk/fault.h"
#include "csd/option.h"

/* ---- errors, limits, cancelling -------------------------------------------------------------- */

/* Count the bytes that come, and the errors: r0 = errors << 32 | bytes. */
#define COUNT                                                                                      \
    "r6 = 0\n r7 = 0\n loop: r1 = r10\n r1 += -8\n r2 = 65536\n call 10\n if r0 == 0 goto end\n"   \
    "if r0 s< 0 goto error\n r6 += r0\n goto loop\n error: r7 += 1\n goto loop\n"                  \
    "end: r7 <<= 32\n r0 = r7\n r0 |= r6\n exit\n"

static void read_errors(void **state)
{
    (void)state;
    struct blk *dev = open_image("fault?op=read&offset=1M&size=512&armed=off,mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const struct csd_call call = {.read = WHOLE};
    struct csd_result r;
    blk_fault_arm(dev, true);
    struct csd_program *p = load(csd, COUNT);
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value >> 32, 1);
    assert_int_equal((uint32_t)r.value, SIZE - (256 << 10)); /* all but the piece that failed */
    assert_int_equal(r.stats.read_errors, 1);
    assert_int_equal(r.stats.first_error, -EIO);
    assert_int_equal(r.stats.error_offset, 1 << 20);
    csd_unload(p);
    /* bpf_read() fails for that sector alone, also when it is read in advance. */
    p = load(csd,
             "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r9 = *(u64 *)(r10 -8)\n"
             "r6 = 0\n r8 = 0\n loop: r1 = 0\n r2 = r6\n r3 = 0\n r4 = 512\n r5 = r9\n call 2\n"
             "if r0 == 0 goto good\n r8 += 1\n if r0 == -5 goto good\n r8 += 1000\n"
             "good: r6 += 1\n if r6 < 8192 goto loop\n r0 = r8\n exit");
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 1);
    csd_unload(p);
    close_all(csd, dev);
}

static void write_errors(void **state)
{
    (void)state;
    struct blk *dev = open_image("fault?op=write&errno=ENOSPC&armed=off,mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const struct csd_call call = {.read = {0, 65536}, .append = {1 << 20, 1 << 20}};
    struct csd_result r;
    blk_fault_arm(dev, true);
    struct csd_program *p = load(csd, COPY, 1000u); /* written at the end of the run */
    assert_int_equal(csd_run(p, &call, &r), -ENOSPC);
    assert_int_equal(r.stats.write_errors, 1);
    csd_unload(p);
    close_all(csd, dev);
    dev = open_image("fault?op=flush&armed=off,mem:4M");
    csd = open_csd(dev, 1, 0);
    blk_fault_arm(dev, true);
    p = load(csd, COPY, 1000u);
    assert_int_equal(csd_run(p, &call, &r), -EIO);
    assert_int_equal(r.stats.write_errors, 1);
    csd_unload(p);
    close_all(csd, dev);
}

#define FOREVER "loop: r1 = 1\n goto loop\n exit\n"

static void limits(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    struct csd_call call = {.read = WHOLE, .budget = 1000000};
    struct csd_result r;
    struct csd_program *p = load(csd, FOREVER);
    assert_int_equal(csd_run(p, &call, &r), -ETIME);
    assert_true(r.stats.instructions >= 1000000 && r.stats.instructions < 1001000);
    assert_non_null(strstr(r.message, "budget"));
    call.budget = 0;
    call.timeout_ns = 20000000;
    assert_int_equal(csd_run(p, &call, &r), -ETIME);
    assert_true(r.stats.time_ns >= 20000000);
    csd_unload(p);
    /* Helpers that give nothing take time all the same. */
    p = load(csd, "loop: call 14\n r1 = 0\n call 12\n goto loop\n exit");
    assert_int_equal(csd_run(p, &call, &r), -ETIME);
    csd_unload(p);
    p = load(csd, "loop: r1 = 0\n call 12\n if r0 == 0 goto loop\n exit");
    call.timeout_ns = 0;
    call.read.len = 0;
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal((int64_t)r.value, -EDQUOT);
    csd_unload(p);
    close_all(csd, dev);
    /* So does a slow device that is asked again and again, at any place. */
    dev = test_open("delay?read=20ms,mem:4M");
    csd = open_csd(dev, 1, 0);
    p = load(csd,
             "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r9 = *(u64 *)(r10 -8)\n"
             "loop: r1 = 0\n r2 = 7\n r3 = 0\n r4 = 512\n r5 = r9\n call 2\n goto loop\n exit");
    call = (struct csd_call){.read = WHOLE, .timeout_ns = 50000000};
    assert_int_equal(csd_run(p, &call, &r), -ETIME);
    assert_true(r.stats.requests < 10);
    csd_unload(p);
    close_all(csd, dev);
    /* The deadline passes while the device works. */
    dev = test_open("delay?read=300ms,mem:4M");
    csd = open_csd(dev, 1, 0);
    p = load(csd, COUNT);
    call = (struct csd_call){.read = WHOLE, .timeout_ns = 10000000};
    assert_int_equal(csd_run(p, &call, &r), -ETIME);
    csd_unload(p);
    close_all(csd, dev);
}

static void cancel(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 2, 0);
    const struct csd_call call = {.read = WHOLE};
    struct csd_program *p = load(csd, FOREVER);
    static struct csd_result r;
    /* Some run, some wait for a worker; each ends when it is told to, and no other. */
    for (int round = 0; round < test_rounds(20); round++) {
        struct csd_run *run[5];
        for (unsigned i = 0; i < ARRAY_SIZE(run); i++)
            assert_int_equal(csd_submit(p, &call, &run[i]), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(run); i++) {
            const unsigned which = (i + (unsigned)round) % ARRAY_SIZE(run);
            csd_cancel(run[which]);
            assert_int_equal(csd_wait(run[which], &r), -ECANCELED);
        }
    }
    csd_unload(p);
    close_all(csd, dev);
    /* While it waits for the device. */
    dev = test_open("delay?read=200ms,mem:4M");
    csd = open_csd(dev, 1, 0);
    p = load(csd, COUNT);
    struct csd_run *run;
    assert_int_equal(csd_submit(p, &call, &run), 0);
    csd_cancel(run);
    assert_int_equal(csd_wait(run, &r), -ECANCELED);
    csd_unload(p);
    close_all(csd, dev);
}

/* ---- the audit log --------------------------------------------------------------------------- */

static void audit(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const struct csd_call call = {.read = WHOLE};
    struct csd_result r;
    /* Every STEP sectors one, backwards: r7 sectors in all. */
#define STRIDES                                                                                    \
    "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r9 = *(u64 *)(r10 -8)\n r6 = %u\n"      \
    "loop: r1 = 0\n r2 = r6\n r3 = 0\n r4 = 512\n r5 = r9\n call 2\n if r0 != 0 goto end\n"        \
    "r6 -= %u\n if r6 s>= 0 goto loop\n end: exit\n"
    struct csd_program *p = load(csd, STRIDES, 1000u, 10u);
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 0);
    assert_int_equal(r.touched_count, 101);
    assert_false(r.coarse);
    for (unsigned i = 0; i < r.touched_count; i++) {
        assert_int_equal(r.touched[i].offset, i * 5120);
        assert_int_equal(r.touched[i].len, 512);
    }
    csd_unload(p);
    p = load(csd, STRIDES, 1000u, 1u); /* neighbours are one */
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.touched_count, 1);
    assert_int_equal(r.touched[0].len, 1001 * 512);
    csd_unload(p);
    p = load(csd, STRIDES, 8000u, 2u); /* far too many */
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_true(r.coarse);
    assert_true(r.touched_count <= CSD_MAX_TOUCHED && r.touched_count > 2);
    for (unsigned k = 0, i = 0; k <= 8000; k += 2) { /* each is in one of the entries */
        while (i < r.touched_count && r.touched[i].offset + r.touched[i].len <= k * 512u)
            i++;
        assert_true(i < r.touched_count && r.touched[i].offset <= k * 512u);
    }
    csd_unload(p);
    close_all(csd, dev);
}

/* ---- many at once ------------------------------------------------------------------------------
 */

struct io {
    struct blk *dev;
    bool stop; /* atomic */
    bool failed;
};

/* Ordinary requests beside the programs, in the last quarter of the device. */
static void ordinary_io(void *arg)
{
    struct io *io = arg;
    struct blk_queue *q;
    uint8_t out[4096], in[4096];
    uint64_t seed = 3;
    if (blk_queue_open(io->dev, 4, &q) < 0) {
        io->failed = true;
        return;
    }
    while (!__atomic_load_n(&io->stop, __ATOMIC_RELAXED)) {
        const uint64_t at = SIZE * 3 / 4 + random_below(&seed, 256) * 4096;
        memset(out, (int)random_below(&seed, 256), sizeof(out));
        if (blk_write(q, at, out, sizeof(out), 0) < 0 || blk_read(q, at, in, sizeof(in)) < 0 ||
            memcmp(out, in, sizeof(in)))
            io->failed = true;
    }
    blk_queue_close(q);
}

static void together(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:4M");
    struct csd *csd = open_csd(dev, 4, 256 << 10);
    struct csd_program *p = load(csd, CHUNKS, 4096u, 0u);
    struct io io = {.dev = dev};
    struct base_thread thread;
    assert_int_equal(base_thread_start(&thread, ordinary_io, &io, -1), 0);
    static struct csd_result r;
    for (int round = 0; round < test_rounds(5); round++) {
        struct csd_run *run[24];
        struct csd_call call[24];
        for (unsigned i = 0; i < ARRAY_SIZE(run); i++) {
            call[i] = (struct csd_call){.read = {i * 65536, 65536 * (i + 1)}};
            assert_int_equal(csd_submit(p, &call[i], &run[i]), 0);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(run); i++) {
            assert_int_equal(csd_wait(run[i], &r), 0);
            assert_int_equal(r.size, call[i].read.len);
            assert_memory_equal(r.data, image + call[i].read.offset, r.size);
            csd_result_free(&r);
        }
    }
    __atomic_store_n(&io.stop, true, __ATOMIC_RELAXED);
    base_thread_join(&thread);
    assert_false(io.failed);
    csd_unload(p);
    close_all(csd, dev);
}

/* Runs that append: side by side, but not into the same range at once. */
static void append_together(void **state)
{
    (void)state;
    struct blk *dev = open_image("mem:8M");
    struct csd *csd = open_csd(dev, 3, 0);
    struct csd_program *p = load(csd, COPY, 4096u), *forever = load(csd, FOREVER);
    struct csd_run *run[3], *refused_run;
    static struct csd_result r;
    uint8_t *got = malloc(1 << 20);
    for (unsigned i = 0; i < 3; i++) {
        const struct csd_call call = {.read = {i << 20, 1 << 20},
                                      .append = {SIZE + (i << 20), 1 << 20}};
        assert_int_equal(csd_submit(p, &call, &run[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(csd_wait(run[i], &r), 0);
    struct blk_queue *q = test_queue(dev, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(blk_read(q, SIZE + (i << 20), got, 1 << 20), 0);
        assert_memory_equal(got, image + (i << 20), 1 << 20);
    }
    const struct csd_call call = {.append = {SIZE, 1 << 20}},
                          other = {.append = {SIZE + 4096, 512}};
    assert_int_equal(csd_submit(forever, &call, &run[0]), 0);
    assert_int_equal(csd_submit(forever, &other, &refused_run), -EBUSY);
    csd_cancel(run[0]);
    assert_int_equal(csd_wait(run[0], &r), -ECANCELED);
    assert_int_equal(csd_submit(forever, &other, &run[0]), 0);
    csd_cancel(run[0]);
    csd_wait(run[0], &r);
    free(got);
    csd_unload(p);
    csd_unload(forever);
    assert_int_equal(blk_queue_close(q), 0);
    close_all(csd, dev);
}

/* A filter below which only one request may be in flight. */
static int narrow_open(struct blk *dev, struct blk_error *err)
{
    (void)err;
    dev->info.max_depth = 1;
    return 0;
}

static const struct blk_driver narrow_driver = {
    .name = "narrow",
    .summary = "one request at a time",
    .flags = BLK_DRIVER_FILTER,
    .open = narrow_open,
};

/* Both kinds of reading ahead, and single reads, share a queue for one request. */
static void narrow(void **state)
{
    (void)state;
    assert_int_equal(blk_driver_register(&narrow_driver), 0);
    struct blk *dev = open_image("narrow,delay?read=100us,mem:4M");
    struct csd *csd = open_csd(dev, 1, 0);
    const struct csd_call call = {.read = {0, 1 << 20}, .append = {2 << 20, 1 << 20}};
    struct csd_result r;
    /* Each round a chunk, two sectors in a row and one from elsewhere, and a sector is appended. */
    struct csd_program *p = load(
        csd,
        "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r9 = *(u64 *)(r10 -8)\n r6 = 0\n"
        "r7 = 0\n"
        "loop: r1 = r10\n r1 += -8\n r2 = 32768\n call 10\n if r0 s<= 0 goto end\n r7 += r0\n"
        "r1 = 0\n r2 = r6\n r3 = 0\n r4 = 1024\n r5 = r9\n call 2\n if r0 != 0 goto end\n"
        "r6 += 2\n r1 = 0\n r2 = 7\n r3 = 0\n r4 = 512\n r5 = r9\n call 2\n"
        "if r0 != 0 goto end\n r1 = 0\n r2 = r10\n r2 += -24\n r3 = 0\n r4 = 512\n r5 = r9\n"
        "call 3\n if r0 == 0 goto loop\n end: if r0 != 0 goto out\n r0 = r7\n out: exit");
    assert_int_equal(csd_run(p, &call, &r), 0);
    assert_int_equal(r.value, 1 << 20);
    assert_int_equal(r.stats.written, 32 * 512);
    csd_unload(p);
    close_all(csd, dev);
}

/* ---- options as text ------------------------------------------------------------------------- */

static void ranges(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int error;
        uint64_t offset, len;
    } cases[] = {
        {"0:4M", 0, 0, 4 << 20},
        {"1K:", 0, 1024, (4 << 20) - 1024},
        {"4M:", 0, 4 << 20, 0},
        {"512:0", 0, 512, 0},
        {"", -EINVAL, 0, 0},
        {":", -EINVAL, 0, 0},
        {":5", -EINVAL, 0, 0},
        {"5", -EINVAL, 0, 0},
        {"x:5", -EINVAL, 0, 0},
        {"5:x", -EINVAL, 0, 0},
        {"-1:5", -EINVAL, 0, 0},
        {"1:2:3", -EINVAL, 0, 0},
        {"00000000000000000000000000000000000000:1", -EINVAL, 0, 0},
        {"99999999999999999999:1", -EINVAL, 0, 0},
        {"0:4194305", -ERANGE, 0, 0},
        {"4194305:", -ERANGE, 0, 0},
        {"18446744073709551615:1", -ERANGE, 0, 0},
        {"512:18446744073709551615", -ERANGE, 0, 0},
    };
    struct blk *dev = test_open("mem:4M");
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct csd_range r = {1, 1};
        struct blk_error err;
        const int error = csd_option_range(dev, cases[i].text, &r, &err);
        if (error != cases[i].error)
            fail_msg("'%s': %d", cases[i].text, error);
        assert_int_equal(r.offset, error ? 1 : cases[i].offset);
        assert_int_equal(r.len, error ? 1 : cases[i].len);
    }
    assert_int_equal(blk_close(dev), 0);
}

static void zones(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *text;
        uint64_t zone_size;
        int error;
        uint64_t offset, len;
    } cases[] = {
        {"zns?zone=64K,mem:1M", "0", 0, 0, 0, 65536},
        {"zns?zone=64K,mem:1M", "3-5", 4096, 0, 3 * 65536, 3 * 65536},
        {"zns?zone=64K,mem:1M", "5-3", 0, -EINVAL, 0, 0},
        {"zns?zone=64K,mem:1M", "3-", 0, -EINVAL, 0, 0},
        {"zns?zone=64K,mem:1M", "-3", 0, -EINVAL, 0, 0},
        {"zns?zone=64K,mem:1M", "", 0, -EINVAL, 0, 0},
        {"zns?zone=64K,mem:1M", "0-99", 0, -ERANGE, 0, 0},
        {"zns?zone=64K,mem:1M", "18446744073709551615", 0, -ERANGE, 0, 0},
        {"mem:1M", "1-2", 4096, 0, 4096, 8192},
        {"mem:1M", "256", 4096, -ERANGE, 0, 0},
        {"mem:1M", "0", 0, -EINVAL, 0, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct blk *dev = test_open(cases[i].spec);
        struct csd_range r = {1, 1};
        struct blk_error err;
        const int error = csd_option_zones(dev, cases[i].zone_size, cases[i].text, &r, &err);
        if (error != cases[i].error)
            fail_msg("'%s': %d", cases[i].text, error);
        assert_int_equal(r.offset, error ? 1 : cases[i].offset);
        assert_int_equal(r.len, error ? 1 : cases[i].len);
        assert_int_equal(blk_close(dev), 0);
    }
}

static void arguments(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bytes;
        int len; /* below 0: refused */
    } cases[] = {
        {"text", "text", 4},
        {"", "", 0},
        {"text:u8:1", "u8:1", 4},
        {"u8:255", "\xff", 1},
        {"u8:256", "", -1},
        {"u16:258", "\2\1", 2},
        {"u32:4294967295", "\xff\xff\xff\xff", 4},
        {"u32:4294967296", "", -1},
        {"u32:-1", "", -1},
        {"u32:", "", -1},
        {"u32:1x", "", -1},
        {"i32:-1", "\xff\xff\xff\xff", 4},
        {"i32:2147483647", "\xff\xff\xff\x7f", 4},
        {"i32:2147483648", "", -1},
        {"i32:-2147483648", "\0\0\0\x80", 4},
        {"i32:-2147483649", "", -1},
        {"i64:-2", "\xfe\xff\xff\xff\xff\xff\xff\xff", 8},
        {"i64:9223372036854775808", "", -1},
        {"i64:-9223372036854775808", "\0\0\0\0\0\0\0\x80", 8},
        {"u64:18446744073709551615", "\xff\xff\xff\xff\xff\xff\xff\xff", 8},
    };
    static uint8_t arg[CSD_MAX_ARG];
    struct blk_error err;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t size = 0;
        const int error = csd_option_arg(cases[i].text, arg, &size, &err);
        if ((error < 0) != (cases[i].len < 0))
            fail_msg("'%s': %d", cases[i].text, error);
        assert_int_equal(size, cases[i].len < 0 ? 0 : cases[i].len);
        assert_memory_equal(arg, cases[i].bytes, size);
    }
    uint64_t size = CSD_MAX_ARG - 3;
    assert_int_equal(csd_option_arg("u32:1", arg, &size, &err), -EINVAL);
    assert_int_equal(csd_option_arg("abc", arg, &size, &err), 0);
    assert_int_equal(size, CSD_MAX_ARG);
    assert_int_equal(csd_option_arg("d", arg, &size, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_errors),     cmocka_unit_test(write_errors),
        cmocka_unit_test(limits),          cmocka_unit_test(cancel),
        cmocka_unit_test(audit),           cmocka_unit_test(together),
        cmocka_unit_test(append_together), cmocka_unit_test(narrow),
        cmocka_unit_test(ranges),          cmocka_unit_test(zones),
        cmocka_unit_test(arguments),
    };
    return cmocka_run_group_tests(tests, make_image, free_image);
}
