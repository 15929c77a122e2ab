/* Programs and runs from the host's side: environments, logs, where a program starts, memory that
 * helpers ask for, what stays between runs. */
#include "test.h"

#include <ashlar/bpf.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/asm.h"
#include "bpf/vm.h"

static uint64_t helper_none(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                            uint64_t a5)
{
    (void)vm, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    return 0;
}

static struct bpf_module *assemble(const char *text)
{
    uint8_t bytes[4096];
    char why[128];
    struct bpf_module *module;
    const long size = bpf_assemble(text, bytes, sizeof(bytes), why);
    if (size < 0)
        fail_msg("%s", why);
    assert_int_equal(bpf_module_open_insns(bytes, (size_t)size, &module, NULL), 0);
    return module;
}

static const struct bpf_options checked = {.verify = BPF_VERIFY_CHECKED};

static struct bpf_prog *open_in(const char *text, const struct bpf_environment *environment,
                                const struct bpf_options *options)
{
    char why[512] = "";
    struct bpf_log log = {.text = why, .size = sizeof(why)};
    struct bpf_module *module = assemble(text);
    struct bpf_prog *prog;
    if (bpf_prog_open(module, environment, options, &prog, &log) < 0)
        fail_msg("%s: %s", text, why);
    bpf_module_close(module);
    return prog;
}

static uint64_t result_of(struct bpf_vm *vm)
{
    uint64_t r0;
    if (bpf_vm_run(vm, NULL, &r0) < 0)
        fail_msg("%s", bpf_vm_failure(vm));
    return r0;
}

/* ---- environments ----------------------------------------------------------------------- */

static void check_environment(const struct bpf_environment *environment, int error,
                              const char *reason)
{
    char why[512] = "";
    struct bpf_log log = {.text = why, .size = sizeof(why)};
    struct bpf_module *module = assemble("r0 = 0\nexit");
    struct bpf_prog *prog;
    const int got = bpf_prog_open(module, environment, &checked, &prog, &log);
    bpf_module_close(module);
    if (got != error || prog || !strstr(why, reason))
        fail_msg("%d \"%s\", not %d \"%s\"", got, why, error, reason);
}

static void check_helper(struct bpf_helper helper, const char *reason)
{
    static const struct bpf_region region = {.name = "memory", .size = 64};
    const struct bpf_helper helpers[] = {
        {.id = 7, .name = "first", .function = helper_none},
        helper,
    };
    const struct bpf_environment environment = {
        .regions = &region, .region_count = 1, .helpers = helpers, .helper_count = 2};
    check_environment(&environment, -EINVAL, reason);
}

#define HELPER(...)                                                                                \
    ((struct bpf_helper){.id = 1, .name = "h", .function = helper_none, __VA_ARGS__})

static void test_wrong_helpers(void **state)
{
    (void)state;
    check_helper((struct bpf_helper){.name = "h", .function = helper_none}, "an id");
    check_helper((struct bpf_helper){.id = UINT32_MAX, .name = "h", .function = helper_none},
                 "an id");
    check_helper((struct bpf_helper){.id = 1, .function = helper_none}, "a name");
    check_helper((struct bpf_helper){.id = 1, .name = "h"}, "a function");
    check_helper((struct bpf_helper){.id = 7, .name = "h", .function = helper_none},
                 "taken by first");
    check_helper(HELPER(.args = {{.kind = 99}}), "argument 1: no such kind");
    check_helper(HELPER(.args = {{.kind = BPF_ARG_SCALAR, .size_arg = 2}}), "is no memory");
    check_helper(HELPER(.args = {{.kind = BPF_ARG_READ, .size_arg = 2}}),
                 "argument 2, is no number");
    check_helper(HELPER(.args = {{.kind = BPF_ARG_READ, .size_arg = 1}}),
                 "argument 1, is no number");
    check_helper(HELPER(.args = {{.kind = BPF_ARG_READ, .size_arg = 6}}),
                 "argument 6, is no number");
    check_helper(HELPER(.args = {{.kind = BPF_ARG_READ, .size = 8, .stores = BPF_ANY_SCALAR}}),
                 "8 writable bytes");
    check_helper(HELPER(.args = {{.kind = BPF_ARG_WRITE, .size = 4, .stores = BPF_ANY_SCALAR}}),
                 "8 writable bytes");
    check_helper(
        HELPER(.args = {{.kind = BPF_ARG_WRITE, .size = 8, .stores = BPF_REGION_START(1)}}),
        "no region 1");
    check_helper(HELPER(.returns = BPF_REGION_START(1)), "no region 1");
    check_helper(HELPER(.returns = {.kind = 9}), "no such kind");
    check_helper(HELPER(.returns = BPF_RANGE(1, 0)), "above the largest");
    check_helper(HELPER(.returns = {.kind = BPF_VALUE_POINTER, .arg = 1}), "is no constant");
    check_helper(HELPER(.args = {{.kind = BPF_ARG_SCALAR}},
                        .returns = {.kind = BPF_VALUE_POINTER, .arg = 1}),
                 "is no constant");
    check_helper(HELPER(.returns = {.kind = BPF_VALUE_SCALAR, .arg = 2}), "is no number");
    check_helper(HELPER(.moves = true, .moved = 1), "moves region 1");
}

static void test_wrong_environments(void **state)
{
    (void)state;
    static const struct bpf_region many[BPF_MAX_REGIONS + 1];
    struct bpf_region region = {.name = "memory", .size = 64};
    struct bpf_environment e = {.regions = many, .region_count = BPF_MAX_REGIONS + 1};
    check_environment(&e, -EINVAL, "9 regions, at most 8");
    e.region_count = 1;
    check_environment(&e, -EINVAL, "no name");
    e.regions = &region;
    e.entry[2] = BPF_REGION_START(1);
    check_environment(&e, -EINVAL, "no region 1");
    e.entry[2] = (struct bpf_value){.kind = BPF_VALUE_SCALAR, .arg = 1};
    check_environment(&e, -EINVAL, "no number");
    e.entry[2] = BPF_NOTHING;
    region.size = BPF_MAX_ARENA;
    check_environment(&e, -E2BIG, "1024 MiB");
    region.size = UINT64_MAX;
    check_environment(&e, -E2BIG, "1024 MiB");
    struct bpf_region two[2] = {{.name = "a", .size = BPF_MAX_ARENA / 2},
                                {.name = "b", .size = BPF_MAX_ARENA / 2}};
    e.regions = two;
    e.region_count = 2;
    check_environment(&e, -E2BIG, "1024 MiB");
}

/* The largest there can be: addresses of all of it work. */
static void test_large_region(void **state)
{
    (void)state;
    const struct bpf_region region = {
        .name = "memory", .size = BPF_MAX_ARENA - (64 << 10), .writable = true};
    const struct bpf_environment e = {
        .regions = &region,
        .region_count = 1,
        .entry = {BPF_REGION_START(0), BPF_RANGE((int64_t)region.size, (int64_t)region.size)}};
    struct bpf_prog *prog =
        open_in("r1 += r2\n*(u64 *)(r1 -8) = 5\nr0 = *(u64 *)(r1 -8)\nexit", &e, &checked);
    struct bpf_vm *vm;
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    assert_int_equal(result_of(vm), 5);
    assert_int_equal(((uint8_t *)bpf_vm_region(vm, 0))[region.size - 8], 5);
    bpf_vm_close(vm);
    bpf_prog_close(prog);
}

static void test_empty_region(void **state)
{
    (void)state;
    const struct bpf_region region = {.name = "memory", .size = 0, .writable = true};
    const struct bpf_environment e = {
        .regions = &region, .region_count = 1, .entry = {BPF_REGION_START(0)}};
    struct bpf_prog *prog = open_in("r0 = r1\nexit", &e, &checked);
    struct bpf_vm *vm;
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    assert_int_equal(result_of(vm), bpf_vm_address(vm, 0));
    assert_null(bpf_vm_memory(vm, bpf_vm_address(vm, 0), 1, false));
    bpf_vm_close(vm);
    bpf_prog_close(prog);
}

/* ---- where it starts -------------------------------------------------------------------- */

static int open_function(struct bpf_module *module, const char *name, char why[512])
{
    static const struct bpf_environment e;
    struct bpf_log log = {.text = why, .size = 512};
    struct bpf_options options = checked;
    struct bpf_prog *prog;
    options.function = name;
    const int error = bpf_prog_open(module, &e, &options, &prog, &log);
    bpf_prog_close(prog);
    return error;
}

static void test_entry(void **state)
{
    (void)state;
    char why[512];
    struct bpf_module *module = assemble("call f\nexit\nf:\nr0 = 0\nexit");
    assert_string_equal(bpf_module_function(module, 0), "main");
    assert_string_equal(bpf_module_function(module, 1), "function_2");
    assert_null(bpf_module_function(module, 2));
    assert_int_equal(open_function(module, NULL, why), 0);
    assert_int_equal(open_function(module, "function_2", why), 0);
    assert_int_equal(open_function(module, "nothing", why), -ENOENT);
    assert_non_null(strstr(why, "no function nothing; there are: main, function_2\n"));
    /* Without a main, the only global one is meant, or the only one. */
    module->code.functions[0].name = "other";
    assert_int_equal(open_function(module, NULL, why), 0);
    module->code.functions[1].global = true;
    assert_int_equal(open_function(module, NULL, why), -ENOENT);
    assert_non_null(strstr(why, "name the one to start with: other, function_2\n"));
    module->code.functions[0].global = module->code.functions[1].global = false;
    assert_int_equal(open_function(module, NULL, why), -ENOENT);
    bpf_module_close(module);
}

static void test_modules(void **state)
{
    (void)state;
    static const uint8_t bytes[16] = {0xb7, 0, 0, 0, 5, 0, 0, 0, 0x95};
    struct bpf_module *module;
    char why[256] = "";
    struct bpf_log log = {.text = why, .size = sizeof(why)};
    bpf_module_close(NULL);
    bpf_prog_close(NULL);
    bpf_vm_close(NULL);
    for (size_t size = 0; size <= sizeof(bytes); size++) {
        log.length = 0;
        const int error = bpf_module_open_insns(bytes, size, &module, &log);
        assert_int_equal(error, size && size % 8 == 0 ? 0 : -EINVAL);
        assert_true(error == 0 || (!module && strstr(why, "no program")));
        bpf_module_close(module);
    }
    assert_int_equal(bpf_module_open_insns(bytes, (BPF_MAX_INSNS + UINT64_C(1)) * 8, &module, &log),
                     -EINVAL);
    assert_null(module);
}

/* As many instructions as there may be, in both engines. */
static void test_long_program(void **state)
{
    (void)state;
    static const struct bpf_environment e;
    uint8_t *bytes = calloc(BPF_MAX_INSNS, 8);
    assert_non_null(bytes);
    for (uint32_t i = 0; i < BPF_MAX_INSNS; i++)
        bytes[8 * i] = 0x07, bytes[8 * i + 4] = 1; /* r0 += 1 */
    memset(bytes + 8 * (BPF_MAX_INSNS - 1), 0, 8);
    bytes[8 * (BPF_MAX_INSNS - 1)] = 0x95;
    struct bpf_module *module;
    assert_int_equal(bpf_module_open_insns(bytes, BPF_MAX_INSNS * 8ul, &module, NULL), 0);
    for (unsigned engine = BPF_ENGINE_AUTO; engine <= BPF_ENGINE_INTERP; engine += 2) {
        const struct bpf_options options = {.verify = BPF_VERIFY_CHECKED,
                                            .engine = (enum bpf_engine)engine};
        struct bpf_prog *prog;
        struct bpf_vm *vm;
        assert_int_equal(bpf_prog_open(module, &e, &options, &prog, NULL), 0);
        assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
        assert_int_equal(result_of(vm), BPF_MAX_INSNS - 1);
        assert_int_equal(bpf_vm_instructions(vm), BPF_MAX_INSNS);
        bpf_vm_close(vm);
        bpf_prog_close(prog);
    }
    bpf_module_close(module);
    free(bytes);
}

/* ---- memory ----------------------------------------------------------------------------- */

static void test_memory_for_helpers(void **state)
{
    (void)state;
    const struct bpf_region regions[] = {{.name = "a", .size = 100, .writable = true},
                                         {.name = "b", .size = 4096}};
    const struct bpf_environment e = {.regions = regions, .region_count = 2};
    struct bpf_prog *prog = open_in("r0 = 0\nexit", &e, &checked);
    struct bpf_vm *vm;
    assert_int_equal(bpf_vm_open(prog, &vm, &vm), 0);
    assert_ptr_equal(bpf_vm_user(vm), &vm);
    const uint64_t a = bpf_vm_address(vm, 0), b = bpf_vm_address(vm, 1);
    uint8_t *pa = bpf_vm_region(vm, 0), *pb = bpf_vm_region(vm, 1);
    assert_int_equal((uintptr_t)pa % BASE_PAGE, 0);
    assert_int_equal((uintptr_t)pb % BASE_PAGE, 0);
    assert_ptr_equal(bpf_vm_memory(vm, a, 100, true), pa);
    assert_ptr_equal(bpf_vm_memory(vm, a + 99, 1, true), pa + 99);
    assert_null(bpf_vm_memory(vm, a, 101, false));
    assert_null(bpf_vm_memory(vm, a + 100, 1, false));
    assert_null(bpf_vm_memory(vm, a - 1, 1, false));
    assert_null(bpf_vm_memory(vm, a - 1, 2, false));
    assert_null(bpf_vm_memory(vm, a, UINT64_MAX, false));
    assert_null(bpf_vm_memory(vm, a + 1, UINT64_MAX, false));
    assert_null(bpf_vm_memory(vm, UINT64_MAX, 1, false));
    assert_null(bpf_vm_memory(vm, UINT64_MAX, 2, false));
    assert_null(bpf_vm_memory(vm, 0, 1, false));
    assert_ptr_equal(bpf_vm_memory(vm, b, 4096, false), pb);
    assert_null(bpf_vm_memory(vm, b, 4096, true));
    assert_null(bpf_vm_memory(vm, b, 4097, false));
    assert_non_null(bpf_vm_memory(vm, 0, 0, true));
    bpf_vm_close(vm);
    bpf_prog_close(prog);
}

/* Spans do not touch, and are in the order that the header says. */
static void test_layout(void **state)
{
    (void)state;
    for (uint64_t size = 0; size < 3 * BASE_PAGE; size += 31) {
        const struct bpf_region regions[] = {{.name = "a", .size = size, .writable = true},
                                             {.name = "b", .size = size + 1},
                                             {.name = "c", .size = 2 * size, .writable = true}};
        const struct bpf_environment e = {.regions = regions, .region_count = 3};
        const struct bpf_code code = {.rodata_size = size + 7, .data_size = size / 2};
        struct bpf_layout l;
        assert_int_equal(bpf_layout_init(&l, &code, &e, NULL), 0);
        assert_int_equal(l.count, BPF_SPAN_REGION + 3);
        static const unsigned order[] = {BPF_SPAN_RODATA,     BPF_SPAN_REGION + 1, BPF_SPAN_DATA,
                                         BPF_SPAN_REGION + 0, BPF_SPAN_REGION + 2, BPF_SPAN_STACK};
        uint64_t next = BPF_ADDRESS;
        for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
            const struct bpf_span *span = &l.spans[order[i]];
            assert_int_equal(span->start, next);
            assert_int_equal(span->start % BASE_PAGE, 0);
            assert_int_equal(span->writable, span->start >= l.write_start);
            next = bpf_layout_gap_end(span);
            assert_true(next >= span->start + span->size + BPF_GAP);
        }
        assert_int_equal(l.end, next);
        assert_int_equal(l.write_start, l.spans[BPF_SPAN_DATA].start);
    }
}

/* Globals are new in each run, regions stay. */
static void test_what_stays(void **state)
{
    (void)state;
    static const char text[] = "r3 = data 0 ll\nr0 = *(u64 *)(r3 +0)\nr4 = *(u64 *)(r1 +0)\n"
                               "r4 += 1\n*(u64 *)(r1 +0) = r4\n*(u64 *)(r3 +0) = r4\nr0 += r4\n"
                               "r5 = rodata 1 ll\nr5 = *(u8 *)(r5 +0)\nr0 += r5\nexit";
    const struct bpf_region region = {.name = "memory", .size = 8, .writable = true};
    const struct bpf_environment e = {
        .regions = &region, .region_count = 1, .entry = {BPF_REGION_START(0)}};
    struct bpf_module *module = assemble(text);
    module->code.data = base_alloc(8);
    module->code.data_size = 8;
    module->code.rodata = base_alloc(2);
    module->code.rodata_size = 2;
    assert_true(module->code.data && module->code.rodata);
    store_le64(module->code.data, 1000);
    module->code.rodata[1] = 100;
    for (unsigned engine = BPF_ENGINE_AUTO; engine <= BPF_ENGINE_INTERP; engine += 2) {
        const struct bpf_options options = {.verify = BPF_VERIFY_AUTO,
                                            .engine = (enum bpf_engine)engine};
        struct bpf_prog *prog;
        struct bpf_vm *vm, *other;
        assert_int_equal(bpf_prog_open(module, &e, &options, &prog, NULL), 0);
        assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
        assert_int_equal(bpf_vm_open(prog, NULL, &other), 0);
        for (uint64_t i = 1; i < 4; i++)
            assert_int_equal(result_of(vm), 1100 + i);
        assert_int_equal(result_of(other), 1101);
        bpf_vm_close(other);
        bpf_vm_close(vm);
        bpf_prog_close(prog);
    }
    bpf_module_close(module);
}

/* ---- messages --------------------------------------------------------------------------- */

static void test_log(void **state)
{
    (void)state;
    char text[16];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    bpf_log_add(NULL, "nothing");
    bpf_log_add(&log, "%d", 12345);
    assert_string_equal(text, "12345");
    assert_int_equal(log.length, 5);
    bpf_log_add(&log, "%s", "0123456789abcdef");
    assert_string_equal(text, "123450123456789");
    assert_int_equal(log.length, 15);
    bpf_log_add(&log, "more");
    assert_string_equal(text, "123450123456789");
    log = (struct bpf_log){.text = text, .size = 1};
    bpf_log_add(&log, "x");
    assert_string_equal(text, "");
    assert_int_equal(log.length, 0);
}

static void test_failure_names_the_source(void **state)
{
    (void)state;
    static const struct bpf_environment e;
    struct bpf_module *module = assemble("r1 = 0\nr0 = 0\nr0 = *(u8 *)(r1 +5)\nexit");
    struct bpf_prog *prog;
    struct bpf_vm *vm;
    uint64_t r0;
    module->code.lines = base_alloc_array(2, sizeof(*module->code.lines));
    assert_non_null(module->code.lines);
    module->code.lines[0] =
        (struct bpf_line){.insn = 0, .line = 7, .file = "a.c", .text = "int x;"};
    module->code.lines[1] =
        (struct bpf_line){.insn = 2, .line = 8, .file = "a.c", .text = "x = *p;"};
    module->code.line_count = 2;
    assert_int_equal(bpf_code_line(&module->code, 1)->line, 7);
    assert_int_equal(bpf_code_line(&module->code, 3)->line, 8);
    assert_int_equal(bpf_prog_open(module, &e, &checked, &prog, NULL), 0);
    bpf_module_close(module);
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    assert_int_equal(bpf_vm_run(vm, NULL, &r0), -EFAULT);
    assert_string_equal(bpf_vm_failure(vm), "outside of the program's memory: instruction 2 of "
                                            "main: r0 = *(u8 *)(r1 +5) (a.c:8: x = *p;)");
    bpf_vm_close(vm);
    bpf_prog_close(prog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_helpers), cmocka_unit_test(test_wrong_environments),
        cmocka_unit_test(test_large_region),  cmocka_unit_test(test_empty_region),
        cmocka_unit_test(test_entry),         cmocka_unit_test(test_modules),
        cmocka_unit_test(test_long_program),  cmocka_unit_test(test_memory_for_helpers),
        cmocka_unit_test(test_layout),        cmocka_unit_test(test_what_stays),
        cmocka_unit_test(test_log),           cmocka_unit_test(test_failure_names_the_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
