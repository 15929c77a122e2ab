/* What the tests of the computational device share: a device with known bytes, programs as text. */
#ifndef TESTS_UNIT_CSD_H
#define TESTS_UNIT_CSD_H

#include "test.h"

#include <ashlar/csd.h>

#include "base/util.h"
#include "bpf/asm.h"

#define SIZE (UINT64_C(4) << 20)

static uint8_t *image; /* what is on the device: SIZE bytes */

static inline int make_image(void **state)
{
    (void)state;
    uint64_t seed = 7;
    image = malloc(SIZE);
    assert_non_null(image);
    for (uint64_t i = 0; i < SIZE; i += 8)
        store_le64(image + i, random_next(&seed));
    return 0;
}

static inline int free_image(void **state)
{
    (void)state;
    free(image);
    return 0;
}

/* A device that holds the image. A fault filter in it is not armed. */
static inline struct blk *open_image(const char *spec)
{
    struct blk *dev = test_open(spec);
    struct blk_queue *q = test_queue(dev, 1);
    assert_int_equal(blk_write_bytes(q, 0, image, SIZE, 0), 0);
    assert_int_equal(blk_queue_close(q), 0);
    return dev;
}

static inline struct csd *open_csd(struct blk *dev, unsigned workers, uint64_t read_ahead)
{
    const struct csd_options options = {workers, read_ahead};
    struct blk_error err;
    struct csd *csd;
    if (csd_open(dev, &options, &csd, &err) < 0)
        fail_msg("%s", err.text);
    return csd;
}

__attribute__((format(printf, 2, 3))) static inline struct csd_program *load(struct csd *csd,
                                                                             const char *format,
                                                                             ...)
{
    static uint8_t code[8192];
    char text[4096], error[128], log_text[4096];
    struct bpf_log log = {log_text, sizeof(log_text), 0, false};
    const struct csd_load_options options = {.bpf.verify = BPF_VERIFY_AUTO, .memory = 65536};
    struct bpf_module *module;
    struct csd_program *program;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *label = text; (label = strstr(label, ": ")); label++)
        label[1] = '\n'; /* a label stands on a line of its own */
    const long n = bpf_assemble(text, code, sizeof(code), error);
    if (n < 0)
        fail_msg("%s", error);
    if (bpf_module_open_insns(code, (size_t)n, &module, &log) < 0 ||
        csd_load(csd, module, &options, &program, &log) < 0)
        fail_msg("%s", log_text);
    bpf_module_close(module);
    return program;
}

static inline void close_all(struct csd *csd, struct blk *dev)
{
    csd_close(csd);
    assert_int_equal(blk_close(dev), 0);
}

#define WHOLE                                                                                      \
    {                                                                                              \
        0, SIZE                                                                                    \
    }

/* Return every chunk of at most r2 bytes; keep r1 bytes each time. */
#define CHUNKS                                                                                     \
    "loop: r1 = r10\n r1 += -8\n r2 = %u\n call 10\n if r0 s<= 0 goto end\n r7 = r0\n"             \
    "r1 = *(u64 *)(r10 -8)\n r2 = r0\n call 1\n r1 = %u\n if r1 <= r7 goto keep\n r1 = r7\n"       \
    "keep: call 11\n goto loop\n end: exit\n"

/* bpf_read(r1, r2, r3, r4, memory + r5), return what was read; its result is returned. */
#define READ_ONCE                                                                                  \
    "r1 = r10\n r1 += -8\n r2 = r10\n r2 += -16\n call 7\n r5 = *(u64 *)(r10 -8)\n r7 = r5\n"      \
    "r1 = %lu ll\n r2 = %lu ll\n r3 = %lu ll\n r4 = %lu ll\n r8 = r4\n call 2\n r6 = r0\n"         \
    "if r6 s< 0 goto end\n r1 = r7\n r2 = r8\n call 1\n end: r0 = r6\n exit\n"

/* csd_append() of everything that csd_next() gives: a copy, whatever the sizes and zones. */
#define COPY                                                                                       \
    "loop: r1 = r10\n r1 += -8\n r2 = %u\n call 10\n if r0 s<= 0 goto end\n"                       \
    "r1 = *(u64 *)(r10 -8)\n r2 = r0\n call 16\n if r0 == 0 goto loop\n end: exit\n"

#endif
