/* The computational device when memory runs out: each allocation fails once; nothing is lost, and
 * the next try works. */
#include "test.h"

#include <ashlar/csd.h>

#include "base/platform.h"
#include "bpf/asm.h"

static int64_t left; /* atomic: allocations until one fails; below 0: none fails */

static bool fails(void)
{
    return __atomic_fetch_sub(&left, 1, __ATOMIC_RELAXED) == 0;
}

void *__real_base_alloc(size_t size);
void *__wrap_base_alloc(size_t size)
{
    return fails() ? NULL : __real_base_alloc(size);
}

void *__real_base_alloc_array(size_t count, size_t size);
void *__wrap_base_alloc_array(size_t count, size_t size)
{
    return fails() ? NULL : __real_base_alloc_array(count, size);
}

void *__real_base_alloc_aligned(size_t align, size_t size);
void *__wrap_base_alloc_aligned(size_t align, size_t size)
{
    return fails() ? NULL : __real_base_alloc_aligned(align, size);
}

void *__real_base_reserve(uint64_t size);
void *__wrap_base_reserve(uint64_t size)
{
    return fails() ? NULL : __real_base_reserve(size);
}

/* Reads, reads in a row, appends and returns; -12 (ENOMEM) from a helper is passed on. */
static const char program_text[] =
    "r1 = r10\nr1 += -8\nr2 = r10\nr2 += -16\ncall 7\nr9 = *(u64 *)(r10 -8)\n"
    "r1 = r10\nr1 += -24\nr2 = 4096\ncall 10\nif r0 s< 0 goto end\n"
    "r1 = 0\nr2 = 0\nr3 = 0\nr4 = 1024\nr5 = r9\ncall 2\nif r0 != 0 goto end\n"
    "r1 = 0\nr2 = 2\nr3 = 0\nr4 = 1024\nr5 = r9\ncall 2\nif r0 != 0 goto end\n"
    "r1 = r9\nr2 = 1024\ncall 16\nif r0 != 0 goto end\n"
    "r1 = r9\nr2 = 10000\ncall 1\nr0 = 0\nend:\nexit\n";

static struct bpf_module *module;

static int use(struct blk *dev)
{
    char text[1024];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    const struct csd_load_options how = {.bpf.verify = BPF_VERIFY_AUTO};
    const struct csd_call call = {
        .read = {0, 1 << 20}, .append = {1 << 20, 4096}, .arg = "x", .arg_size = 1};
    const struct csd_options options = {.workers = 1};
    struct csd_program *program;
    static struct csd_result r;
    struct blk_error err;
    struct csd *csd;
    int error = csd_open(dev, &options, &csd, &err);
    if (error < 0) {
        assert_null(csd);
        return error;
    }
    error = csd_load(csd, module, &how, &program, &log);
    if (error == 0) {
        error = csd_run(program, &call, &r);
        if (error == 0)
            error = (int)(int64_t)r.value;
        if (error == 0)
            assert_int_equal(r.size, 10000);
        csd_result_free(&r);
        csd_unload(program);
    }
    csd_close(csd);
    return error;
}

static void each_fails(void **state)
{
    (void)state;
    struct blk *dev = test_open("mem:2M");
    int64_t n = 0;
    for (;; n++) {
        assert_true(n < 500);
        __atomic_store_n(&left, n, __ATOMIC_RELAXED);
        const int error = use(dev);
        const bool failed = __atomic_load_n(&left, __ATOMIC_RELAXED) < 0;
        __atomic_store_n(&left, -1, __ATOMIC_RELAXED);
        if (!failed) {
            assert_int_equal(error, 0);
            break;
        }
        /* Without memory for machine code it is interpreted; without any to read in advance, it is
         * read at once. */
        assert_true(error == -ENOMEM || error == 0);
        assert_int_equal(use(dev), 0);
    }
    assert_true(n > 10);
    assert_int_equal(blk_close(dev), 0);
}

int main(void)
{
    uint8_t code[2048];
    char error[128];
    left = -1;
    const long n = bpf_assemble(program_text, code, sizeof(code), error);
    if (n < 0 || bpf_module_open_insns(code, (size_t)n, &module, NULL) < 0)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_fails)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    bpf_module_close(module);
    return failed;
}
