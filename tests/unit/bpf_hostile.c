/* Programs that want out, or want never to end, in checked mode: interpreter and compiler. */
#include "test.h"

#include <ashlar/bpf.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/asm.h"
#include "bpf/vm.h"

enum { REGION = 100 };

/* ---- one program in one engine ---------------------------------------------------------- */

static uint32_t helper_calls; /* atomic */

static uint64_t helper_note(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                            uint64_t a5)
{
    (void)vm, (void)a2, (void)a3, (void)a4, (void)a5;
    __atomic_fetch_add(&helper_calls, 1, __ATOMIC_SEQ_CST);
    return a1;
}

/* Waits until it is told to end. */
static uint64_t helper_wait(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                            uint64_t a5)
{
    helper_note(vm, a1, a2, a3, a4, a5);
    while (!bpf_vm_cancelled(vm) && base_now_ns() < bpf_vm_deadline(vm))
        ;
    if (bpf_vm_cancelled(vm))
        bpf_vm_fail(vm, -ECANCELED);
    return 0;
}

static uint64_t helper_fail(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                            uint64_t a5)
{
    (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    bpf_vm_fail(vm, -EIO);
    return 0;
}

static uint64_t helper_look(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                            uint64_t a5)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    if (!bpf_vm_memory(vm, a1, 8, false))
        bpf_vm_fail(vm, -EFAULT);
    return 0;
}

static const struct bpf_region regions[] = {
    {.name = "memory", .size = REGION, .writable = true},
    {.name = "constant", .size = REGION},
};
static const struct bpf_helper helpers[] = {
    {.id = 1, .name = "note", .function = helper_note, .returns = BPF_ANY_SCALAR},
    {.id = 2, .name = "wait", .function = helper_wait, .returns = BPF_ANY_SCALAR},
    {.id = 3, .name = "fail", .function = helper_fail, .returns = BPF_ANY_SCALAR},
    {.id = 4, .name = "look", .function = helper_look, .returns = BPF_ANY_SCALAR},
};
static const struct bpf_environment environment = {
    .regions = regions,
    .region_count = 2,
    .helpers = helpers,
    .helper_count = ARRAY_SIZE(helpers),
    .entry = {BPF_REGION_START(0), BPF_RANGE(REGION, REGION), BPF_REGION_START(1)},
};

static const enum bpf_engine engines[] = {BPF_ENGINE_INTERP, BPF_ENGINE_JIT};

/* NULL: there is no such engine here. The caller closes prog and vm. */
static struct bpf_vm *open_text(const char *text, enum bpf_engine engine)
{
    uint8_t bytes[4096];
    char why[256] = "";
    struct bpf_log log = {.text = why, .size = sizeof(why)};
    const struct bpf_options options = {.verify = BPF_VERIFY_CHECKED, .engine = engine};
    struct bpf_module *module;
    struct bpf_prog *prog;
    struct bpf_vm *vm;
    const long size = bpf_assemble(text, bytes, sizeof(bytes), why);
    if (size < 0)
        fail_msg("%s", why);
    assert_int_equal(bpf_module_open_insns(bytes, (size_t)size, &module, &log), 0);
    const int error = bpf_prog_open(module, &environment, &options, &prog, &log);
    bpf_module_close(module);
    if (error == -ENOTSUP)
        return NULL;
    if (error < 0)
        fail_msg("%s: %s", text, why);
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    return vm;
}

static void close_vm(struct bpf_vm *vm)
{
    struct bpf_prog *prog = (struct bpf_prog *)(uintptr_t)vm->prog;
    bpf_vm_close(vm);
    bpf_prog_close(prog);
}

static int run_limited(const char *text, enum bpf_engine engine, const struct bpf_limits *limits,
                       uint64_t *instructions)
{
    uint64_t r0;
    struct bpf_vm *vm = open_text(text, engine);
    if (!vm)
        return 1;
    const int error = bpf_vm_run(vm, limits, &r0);
    *instructions = bpf_vm_instructions(vm);
    close_vm(vm);
    return error;
}

static int run_text(const char *text, enum bpf_engine engine)
{
    const struct bpf_limits limits = {.budget = 100000, .timeout_ns = BPF_UNLIMITED};
    uint64_t instructions;
    return run_limited(text, engine, &limits, &instructions);
}

/* In each engine there is. */
static void check_ends(const char *text, int error)
{
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        const int got = run_text(text, engines[i]);
        if (got != error && got != 1)
            fail_msg("engine %u: %d, not %d:\n%s", i, got, error, text);
    }
}

/* ---- time ------------------------------------------------------------------------------- */

static const char *const endless[] = {
    "goto -1",
    "gotol -1",
    "again:\nr0 += 1\nif r0 != 0 goto again\nexit",
    "again:\nif r0 == 0 goto again\nexit",
    "again:\nif w0 == 0 goto again\nexit",
    "again:\nif r0 >= r0 goto again\nexit",
    "r0 = 1\nagain:\n*(u64 *)(r1 +0) = r0\nr2 = *(u64 *)(r1 +0)\nif r2 == 1 goto again\nexit",
    "again:\ncall 1\ngoto again",
    "again:\ncall f\ngoto again\nf:\nr0 = 0\nexit",
    "a:\ngoto b\nb:\ngoto a",
    "again:\nr6 = f ll\ncallx r6\ngoto again\nf:\nr0 = 0\nexit",
    "again:\nr6 = 0\ninner:\nr6 += 1\nif r6 != 100 goto inner\ngoto again",
};

static void test_budget_ends_loops(void **state)
{
    (void)state;
    const struct bpf_limits limits = {.budget = 300000, .timeout_ns = BPF_UNLIMITED};
    for (unsigned i = 0; i < ARRAY_SIZE(endless) * 2; i++) {
        uint64_t n;
        const char *text = endless[i / 2];
        const int error = run_limited(text, engines[i % 2], &limits, &n);
        if (error == 1)
            continue;
        if (error != -ETIME || n <= limits.budget || n > limits.budget + 10)
            fail_msg("%d after %llu: %s", error, (unsigned long long)n, text);
    }
}

static void test_deadline_ends_loops(void **state)
{
    (void)state;
    const struct bpf_limits limits = {.budget = BPF_UNLIMITED, .timeout_ns = 3000000};
    for (unsigned i = 0; i < ARRAY_SIZE(endless) * 2; i++) {
        uint64_t n;
        const uint64_t start = base_now_ns();
        const int error = run_limited(endless[i / 2], engines[i % 2], &limits, &n);
        const uint64_t took = base_now_ns() - start;
        if (error != 1 && (error != -ETIME || took < limits.timeout_ns || took > 5000000000))
            fail_msg("%d after %llu ns: %s", error, (unsigned long long)took, endless[i / 2]);
    }
}

/* What a program may do with so many instructions, and not with one less. */
static void check_exact(const char *text, uint64_t instructions)
{
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        uint64_t n = 0;
        struct bpf_limits limits = {.budget = instructions, .timeout_ns = BPF_UNLIMITED};
        const int error = run_limited(text, engines[i], &limits, &n);
        if (error == 1)
            continue;
        if (error || n != instructions)
            fail_msg("%d, %llu instructions: %s", error, (unsigned long long)n, text);
        limits.budget--;
        assert_int_equal(run_limited(text, engines[i], &limits, &n), -ETIME);
        limits.budget = 0;
        assert_int_equal(run_limited(text, engines[i], &limits, &n), -ETIME);
    }
}

static void test_budget_is_exact(void **state)
{
    (void)state;
    check_exact("r0 = 0\nexit", 2);
    check_exact("r0 = 5 ll\nexit", 3);
    check_exact("r0 = 0\nif r0 == 0 goto +1\nr0 = 1\nexit", 4);
    /* 3 + 100 rounds of 2 */
    check_exact("r0 = 100\nagain:\nr0 -= 1\nif r0 != 0 goto again\nexit", 2 + 100 * 2);
    /* Longer than a slice. */
    check_exact("r0 = 200000\nagain:\nr0 -= 1\nif r0 != 0 goto again\nexit", 2 + 200000 * 2);
    check_exact("call f\ncall f\nexit\nf:\nr0 = 0\nexit", 3 + 2 * 2);
    check_exact("r6 = f ll\ncallx r6\nexit\nf:\nr0 = 0\nexit", 4 + 2);
}

static void test_no_time_at_all(void **state)
{
    (void)state;
    const struct bpf_limits limits = {.budget = BPF_UNLIMITED, .timeout_ns = 0};
    uint64_t n;
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        const int error = run_limited("r0 = 0\nexit", engines[i], &limits, &n);
        assert_true(error == -ETIME || error == 1);
    }
}

static void test_recursion_ends(void **state)
{
    (void)state;
    check_ends("call f\nexit\nf:\ncall f\nexit", -ELOOP);
    check_ends("call f\nexit\nf:\ncall g\nexit\ng:\ncall f\nexit", -ELOOP);
    check_ends("r6 = f ll\ncallx r6\nexit\nf:\nr6 = f ll\ncallx r6\nexit", -ELOOP);
    check_ends("r6 = 0xc0de00000000 ll\ncallx r6\nexit", -ELOOP);
}

/* ---- cancelling ------------------------------------------------------------------------- */

static void cancel_when_it_runs(void *arg)
{
    while (!__atomic_load_n(&helper_calls, __ATOMIC_SEQ_CST))
        base_sleep_until_ns(base_now_ns() + 100000);
    bpf_vm_cancel(arg);
}

static void check_cancel(const char *text, enum bpf_engine engine)
{
    struct bpf_limits limits = {.budget = BPF_UNLIMITED, .timeout_ns = BPF_UNLIMITED};
    struct base_thread thread;
    uint64_t r0;
    struct bpf_vm *vm = open_text(text, engine);
    if (!vm)
        return;
    __atomic_store_n(&helper_calls, 0, __ATOMIC_SEQ_CST);
    assert_int_equal(base_thread_start(&thread, cancel_when_it_runs, vm, -1), 0);
    assert_int_equal(bpf_vm_run(vm, &limits, &r0), -ECANCELED);
    assert_non_null(strstr(bpf_vm_failure(vm), "cancelled"));
    base_thread_join(&thread);
    /* The next run is another. */
    limits.timeout_ns = 1000000;
    const int error = bpf_vm_run(vm, &limits, &r0);
    assert_true(error == 0 || error == -ETIME);
    close_vm(vm);
}

static void test_cancel(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        check_cancel("call 1\nagain:\ngoto again", engines[i]);
        check_cancel("again:\ncall 1\ngoto again", engines[i]);
        check_cancel("call 2\nr0 = 0\nexit", engines[i]);
    }
}

/* Who cancels before a run begins must not have to know. */
static void test_cancel_early(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        uint64_t r0;
        struct bpf_vm *vm = open_text("r0 = 3\nexit", engines[i]);
        if (!vm)
            continue;
        bpf_vm_cancel(vm);
        assert_int_equal(bpf_vm_run(vm, NULL, &r0), -ECANCELED);
        assert_int_equal(bpf_vm_run(vm, NULL, &r0), 0);
        assert_int_equal(r0, 3);
        close_vm(vm);
    }
}

/* Several runs of one program at once. */
static void run_one(void *arg)
{
    const struct bpf_limits limits = {.budget = BPF_UNLIMITED, .timeout_ns = BPF_UNLIMITED};
    const struct bpf_prog *prog = arg;
    struct bpf_vm *vm;
    uint64_t r0 = 0;
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(bpf_vm_run(vm, &limits, &r0), 0);
        assert_int_equal(r0, 30000);
    }
    bpf_vm_close(vm);
}

static void test_runs_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        struct base_thread threads[3];
        struct bpf_vm *vm = open_text("again:\n*(u64 *)(r1 +0) = r0\nr0 = *(u64 *)(r1 +0)\n"
                                      "r0 += 1\nif r0 < 30000 goto again\nexit",
                                      engines[i]);
        if (!vm)
            continue;
        for (unsigned t = 0; t < ARRAY_SIZE(threads); t++)
            assert_int_equal(
                base_thread_start(&threads[t], run_one, (void *)(uintptr_t)vm->prog, -1), 0);
        for (unsigned t = 0; t < ARRAY_SIZE(threads); t++)
            base_thread_join(&threads[t]);
        close_vm(vm);
    }
}

/* ---- memory ----------------------------------------------------------------------------- */

struct access {
    const char *format; /* "%s" is "r4 +offset" */
    unsigned size, align;
    bool write;
};

static const struct access accesses[] = {
    {"r0 = *(u8 *)(%s)", 1, 1, false},
    {"r0 = *(u16 *)(%s)", 2, 1, false},
    {"r0 = *(u32 *)(%s)", 4, 1, false},
    {"r0 = *(u64 *)(%s)", 8, 1, false},
    {"r0 = *(s8 *)(%s)", 1, 1, false},
    {"r0 = *(s16 *)(%s)", 2, 1, false},
    {"r0 = *(s32 *)(%s)", 4, 1, false},
    {"*(u8 *)(%s) = 1", 1, 1, true},
    {"*(u16 *)(%s) = 1", 2, 1, true},
    {"*(u32 *)(%s) = 1", 4, 1, true},
    {"*(u64 *)(%s) = 1", 8, 1, true},
    {"*(u8 *)(%s) = r2", 1, 1, true},
    {"*(u16 *)(%s) = r2", 2, 1, true},
    {"*(u32 *)(%s) = r2", 4, 1, true},
    {"*(u64 *)(%s) = r2", 8, 1, true},
    {"lock *(u32 *)(%s) += r2", 4, 4, true},
    {"lock *(u64 *)(%s) |= r2", 8, 8, true},
    {"lock *(u32 *)(%s) ^= r2", 4, 4, true},
    {"lock *(u64 *)(%s) &= r2", 8, 8, true},
    {"r2 = fetch *(u32 *)(%s) += r2", 4, 4, true},
    {"r2 = fetch *(u64 *)(%s) |= r2", 8, 8, true},
    {"r2 = fetch *(u32 *)(%s) &= r2", 4, 4, true},
    {"r2 = fetch *(u64 *)(%s) ^= r2", 8, 8, true},
    {"r2 = xchg *(u32 *)(%s)", 4, 4, true},
    {"r2 = xchg *(u64 *)(%s)", 8, 8, true},
    {"r0 = cmpxchg *(u32 *)(%s) r2", 4, 4, true},
    {"r0 = cmpxchg *(u64 *)(%s) r2", 8, 8, true},
};

/* What an access at this address must do, without wrapping. */
static int expected(const struct access *a, uint64_t address, const struct bpf_layout *l)
{
    const uint64_t start = a->write ? l->write_start : BPF_ADDRESS;
    const bool inside = address >= start && address <= l->end && l->end - address >= a->size;
    return inside && address % a->align == 0 ? 0 : -EFAULT;
}

static void layout_of(struct bpf_layout *l)
{
    struct bpf_vm *vm = open_text("r0 = 0\nexit", BPF_ENGINE_INTERP);
    *l = vm->prog->layout;
    close_vm(vm);
}

/* One access, by a base register and an offset that make up the address, or by a base that is
 * worked out by adding a register. */
static void check_access(const struct access *a, uint64_t address, int offset,
                         const struct bpf_layout *l)
{
    char place[32], insn[96], text[256];
    const int error = expected(a, address, l);
    snprintf(place, sizeof(place), "r4 %+d", offset);
    snprintf(insn, sizeof(insn), a->format, place);
    snprintf(text, sizeof(text), "r2 = 7\nr0 = 0\nr4 = 0x%llx ll\n%s\nexit",
             (unsigned long long)(address - (uint64_t)(int64_t)offset), insn);
    check_ends(text, error);
    snprintf(
        text, sizeof(text), "r2 = 7\nr0 = 0\nr4 = r1\nr5 = 0x%llx ll\nr4 += r5\n%s\nexit",
        (unsigned long long)(address - (uint64_t)(int64_t)offset - l->spans[BPF_SPAN_REGION].start),
        insn);
    check_ends(text, error);
}

static void test_edges_of_the_arena(void **state)
{
    (void)state;
    struct bpf_layout l;
    layout_of(&l);
    const uint64_t edges[] = {BPF_ADDRESS, l.write_start, l.end};
    static const int offsets[] = {0, 8, -32768, 32767};
    for (unsigned i = 0; i < ARRAY_SIZE(accesses); i++)
        for (unsigned e = 0; e < ARRAY_SIZE(edges); e++)
            for (int by = -8; by <= 1; by++)
                check_access(&accesses[i], edges[e] + (uint64_t)(int64_t)by,
                             offsets[(i + e + (unsigned)(by + 8)) % 4], &l);
}

static void test_far_addresses(void **state)
{
    (void)state;
    static const uint64_t far[] = {0,
                                   1,
                                   0xffff,
                                   UINT64_C(0xffffffff),
                                   UINT64_C(0x100000000) + BPF_ADDRESS,
                                   UINT64_C(0x1000000000000000) | BPF_ADDRESS,
                                   UINT64_C(0x8000000000000000) | BPF_ADDRESS,
                                   UINT64_C(0x7fffffffffffffff),
                                   UINT64_C(0xffffffff00000000) | BPF_ADDRESS,
                                   UINT64_C(0xffff800000000000),
                                   UINT64_MAX - 8,
                                   UINT64_MAX - 7,
                                   UINT64_MAX - 3,
                                   UINT64_MAX};
    struct bpf_layout l;
    layout_of(&l);
    for (unsigned i = 0; i < ARRAY_SIZE(accesses); i++)
        for (unsigned f = 0; f < ARRAY_SIZE(far); f++)
            check_access(&accesses[i], far[f], f % 2 ? 0x7ff8 : -0x7ff8, &l);
}

/* The address of an object of the host does not help. */
static void test_addresses_of_the_host(void **state)
{
    (void)state;
    static uint64_t secret = 42;
    struct bpf_layout l;
    layout_of(&l);
    for (unsigned i = 0; i < ARRAY_SIZE(accesses); i++)
        check_access(&accesses[i], (uint64_t)(uintptr_t)&secret, 0, &l);
    assert_int_equal(secret, 42);
}

/* Each span, to the byte, in the strict interpreter. */
static void test_edges_of_spans(void **state)
{
    (void)state;
    const struct bpf_limits limits = {.budget = 1000, .timeout_ns = BPF_UNLIMITED};
    struct bpf_layout l;
    layout_of(&l);
    for (unsigned i = 0; i < ARRAY_SIZE(accesses) * l.count; i++) {
        const struct access *a = &accesses[i / l.count];
        const struct bpf_span *span = &l.spans[i % l.count];
        if (span->size < a->size || a->align > 1)
            continue;
        const struct {
            uint64_t address;
            bool inside;
        } cases[] = {{span->start, true},
                     {span->start - 1, false},
                     {span->start + span->size - a->size, true},
                     {span->start + span->size - a->size + 1, false}};
        for (unsigned k = 0; k < ARRAY_SIZE(cases); k++) {
            char insn[96], text[256];
            uint64_t r0;
            snprintf(insn, sizeof(insn), a->format, "r4 +0");
            snprintf(text, sizeof(text), "r4 = 0x%llx ll\nr0 = 0\n%s\nexit",
                     (unsigned long long)cases[k].address, insn);
            struct bpf_vm *vm = open_text(text, BPF_ENGINE_INTERP);
            const int want = cases[k].inside && (span->writable || !a->write) ? 0 : -EFAULT;
            const int error = bpf_vm_run_checked(vm, &limits, BPF_CHECK_STRICT, &r0);
            if (error != want)
                fail_msg("%s, case %u: %d: %s", span->name, k, error, text);
            close_vm(vm);
        }
    }
}

static void test_read_only_stays(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        const struct bpf_limits limits = {.budget = 1000, .timeout_ns = BPF_UNLIMITED};
        uint64_t r0;
        struct bpf_vm *vm = open_text("*(u64 *)(r3 +8) = -1\nexit", engines[i]);
        if (!vm)
            continue;
        memset(bpf_vm_region(vm, 1), 0x55, REGION);
        assert_int_equal(bpf_vm_run(vm, &limits, &r0), -EFAULT);
        assert_non_null(strstr(bpf_vm_failure(vm), "instruction 0 of main"));
        for (unsigned k = 0; k < REGION; k++)
            assert_int_equal(((uint8_t *)bpf_vm_region(vm, 1))[k], 0x55);
        close_vm(vm);
    }
}

/* Between two objects there are bytes that a checked program may reach: they hold nothing of an
 * earlier run, and nothing of another vm. */
static void test_gaps_hold_nothing(void **state)
{
    (void)state;
    const struct bpf_limits limits = {.budget = 1000, .timeout_ns = BPF_UNLIMITED};
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        uint64_t r0;
        struct bpf_vm *vm = open_text("r0 = *(u64 *)(r1 +128)\n*(u64 *)(r1 +128) = 77\n"
                                      "r2 = *(u64 *)(r10 -8)\n*(u64 *)(r10 -8) = 88\nr0 |= r2\n"
                                      "r2 = *(u64 *)(r10 +16)\n*(u64 *)(r10 +16) = 99\nr0 |= r2\n"
                                      "exit",
                                      engines[i]);
        for (unsigned k = 0; vm && k < 3; k++) {
            assert_int_equal(bpf_vm_run(vm, &limits, &r0), 0);
            assert_int_equal(r0, 0);
        }
        if (vm)
            close_vm(vm);
    }
}

/* ---- calls ------------------------------------------------------------------------------ */

/* What is said about a run that ends like this. */
static void check_says(const char *text, const char *says)
{
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        const struct bpf_limits limits = {.budget = 1000, .timeout_ns = BPF_UNLIMITED};
        uint64_t r0;
        struct bpf_vm *vm = open_text(text, engines[i]);
        if (!vm)
            continue;
        assert_true(bpf_vm_run(vm, &limits, &r0) < 0);
        if (strcmp(bpf_vm_failure(vm), says) != 0)
            fail_msg("engine %u: \"%s\", not \"%s\"", i, bpf_vm_failure(vm), says);
        close_vm(vm);
    }
}

static void test_reasons(void **state)
{
    (void)state;
    check_says("r0 = 0\nr2 = 0\nr0 = *(u8 *)(r2 +0)\nexit",
               "outside of the program's memory: instruction 2 of main: r0 = *(u8 *)(r2 +0)");
    check_says("*(u8 *)(r3 +0) = 1\nexit", "outside of the memory that the program may write: "
                                           "instruction 0 of main: *(u8 *)(r3 +0) = 1");
    check_says("lock *(u64 *)(r1 +1) += r2\nexit",
               "outside of the memory that the program may write, or not aligned: instruction 0 of "
               "main: lock *(u64 *)(r1 +1) += r2");
    check_says("callx r1\nexit", "no such function: instruction 0 of main: callx r1");
    check_says("call 77\nexit", "no such function: instruction 0 of main: call 77");
    check_says("call f\nexit\nf:\ncall f\nexit",
               "calls are more than 16 deep: instruction 2 of function_2: call function_2");
    check_says("r0 = 1\ngoto -1\nexit",
               "its budget of 1000 instructions is spent: instruction 1 of main: goto -1");
    check_says("call 3\nr0 = 0\nexit",
               "the helper failed (error 5): instruction 0 of main: call 3");
    check_says("r1 = 1\ncall 4\nr0 = 0\nexit",
               "the helper was given an address outside of the program's memory: instruction 1 of "
               "main: call 4");
}

static void test_calls_to_nowhere(void **state)
{
    (void)state;
    static const uint64_t values[] = {0,
                                      5,
                                      99,
                                      BPF_ADDRESS,
                                      UINT32_MAX,
                                      UINT64_C(0x100000001),
                                      UINT64_C(0x8000000000000001),
                                      BPF_CODE_ADDRESS - 1,
                                      BPF_CODE_ADDRESS + 1,
                                      BPF_CODE_ADDRESS + 2,
                                      BPF_CODE_ADDRESS + 4,
                                      BPF_CODE_ADDRESS + 5,
                                      BPF_CODE_ADDRESS + UINT32_MAX,
                                      BPF_CODE_ADDRESS + (UINT64_C(1) << 32),
                                      UINT64_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
        char text[128];
        snprintf(text, sizeof(text), "r6 = 0x%llx ll\ncallx r6\nexit",
                 (unsigned long long)values[i]);
        check_ends(text, -EINVAL);
    }
    char text[128];
    snprintf(text, sizeof(text), "r6 = 0x%llx ll\ncallx r6\nexit",
             (unsigned long long)(uintptr_t)helper_note);
    check_ends(text, -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget_ends_loops),
        cmocka_unit_test(test_deadline_ends_loops),
        cmocka_unit_test(test_budget_is_exact),
        cmocka_unit_test(test_no_time_at_all),
        cmocka_unit_test(test_recursion_ends),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_early),
        cmocka_unit_test(test_runs_at_once),
        cmocka_unit_test(test_edges_of_the_arena),
        cmocka_unit_test(test_far_addresses),
        cmocka_unit_test(test_addresses_of_the_host),
        cmocka_unit_test(test_edges_of_spans),
        cmocka_unit_test(test_read_only_stays),
        cmocka_unit_test(test_gaps_hold_nothing),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_calls_to_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
