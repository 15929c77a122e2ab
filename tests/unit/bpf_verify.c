/* The verifier: programs that it must accept, and others that it must reject for a stated reason
 * (tests/bpf/verify/), in the environment of tests/bpf/device.c. What it accepts is run, with each
 * access held against its object. */
#include "test.h"

#include "base/platform.h"
#include "base/util.h"
#include "bpf/asm.h"
#include "bpf/device.h"
#include "bpf/vm.h"

enum { RODATA = 32, DATA = 32 };

/* A string, a table with small entries and one with a large one. */
static const uint8_t rodata[RODATA] = {'h', 'e', 'l', 'l', 'o', ',', ' ', 'w', 'o',  'r', 'l',
                                       'd', 0,   1,   1,   1,   0,   1,   2,   3,    7,   15,
                                       31,  63,  1,   1,   1,   1,   1,   1,   0xff, 1};

static struct bpf_module *make_module(const char *name, const char *text)
{
    uint8_t bytes[4096];
    char error[128];
    struct bpf_module *module;
    long size = bpf_assemble(text, bytes, sizeof(bytes), error);
    if (size < 0)
        fail_msg("%s: %s", name, error);
    assert_int_equal(bpf_module_open_insns(bytes, (size_t)size, &module, NULL), 0);
    module->code.rodata = base_alloc(RODATA);
    module->code.data = base_alloc(DATA);
    assert_true(module->code.rodata && module->code.data);
    memcpy(module->code.rodata, rodata, RODATA);
    module->code.rodata_size = RODATA;
    module->code.data_size = DATA;
    return module;
}

static char text[1 << 20];

static int verify(const struct bpf_module *module, struct bpf_prog **prog, uint64_t limit,
                  bool verbose)
{
    struct bpf_log log = {.text = text, .size = sizeof(text), .verbose = verbose};
    struct bpf_options options = {.engine = BPF_ENGINE_INTERP, .verify_limit = limit};
    return bpf_prog_open(module, &device_environment, &options, prog, &log);
}

/* What was proven must hold, whatever memory holds. */
static void run(const char *name, const struct bpf_prog *prog)
{
    static uint64_t random = 1;
    const struct bpf_limits limits = {.budget = 10000000, .timeout_ns = BPF_UNLIMITED};
    for (int round = 0; round < 4; round++) {
        struct bpf_vm *vm;
        uint64_t r0, calls = random_next(&random);
        assert_int_equal(bpf_vm_open(prog, &calls, &vm), 0);
        for (unsigned region = 0; region < device_environment.region_count; region++) {
            uint8_t *memory = bpf_vm_region(vm, region);
            for (uint64_t i = 0; i < device_environment.regions[region].size && i < 8192; i++)
                memory[i] = round ? (uint8_t)random_next(&random) : 0;
        }
        int error = bpf_vm_run_checked(vm, &limits, BPF_CHECK_STRICT, &r0);
        if (error != 0 && error != -ETIME)
            fail_msg("%s: accepted, but %s", name, bpf_vm_failure(vm));
        bpf_vm_close(vm);
    }
}

static unsigned programs, wrong;

/* Says what is wrong, and goes on. */
static void check_rejected(const char *name, int error, const char *reason)
{
    const char *last = text + strlen(text);
    if (error == 0) {
        print_error("%s: accepted; expected: %s\n", name, reason);
        wrong++;
        return;
    }
    assert_int_equal(error, -EACCES);
    assert_true(last > text && *--last == '\n');
    while (last > text && last[-1] != '\n')
        last--;
    if (!strstr(last, reason)) {
        print_error("%s: expected: %s\n%s\n", name, reason, text);
        wrong++;
    }
}

/* reason: NULL if it must be accepted. */
static void check(const char *name, const char *program, const char *reason)
{
    struct bpf_module *module = make_module(name, program);
    struct bpf_prog *prog;
    int error = verify(module, &prog, 0, false);
    bpf_module_close(module);
    programs++;
    if (reason) {
        check_rejected(name, error, reason);
    } else if (error != 0) {
        print_error("%s: rejected:\n%s\n", name, text);
        wrong++;
    } else {
        run(name, prog);
    }
    if (error == 0)
        bpf_prog_close(prog);
}

/* ---- the corpus -------------------------------------------------------------------------- */

/* "accept NAME" or "reject NAME: REASON", then a program, indented or a label. */
static void check_file(const char *file)
{
    wrong = 0;
    char path[512], line[256], name[256] = "", program[8192] = "", *reason = NULL;
    snprintf(path, sizeof(path), "%s/%s.txt", BPF_VERIFY, file);
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s: cannot be read", path);
    for (bool more = true; more;) {
        more = fgets(line, sizeof(line), f);
        bool next = !strncmp(line, "accept ", 7) || !strncmp(line, "reject ", 7);
        if (more && !next) {
            if (line[0] != '#')
                strncat(program, line, sizeof(program) - strlen(program) - 1);
            continue;
        }
        if (name[0])
            check(name, program, reason);
        line[strcspn(line, "\n")] = 0;
        program[0] = 0;
        snprintf(name, sizeof(name), "%s", line);
        reason = NULL;
        if (line[0] == 'r') {
            reason = strchr(name, ':');
            assert_non_null(reason);
            reason += 2;
        }
    }
    fclose(f);
    assert_int_equal(wrong, 0);
}

static void test_registers(void **state)
{
    (void)state;
    check_file("registers");
}

static void test_pointers(void **state)
{
    (void)state;
    check_file("pointers");
}

static void test_numbers(void **state)
{
    (void)state;
    check_file("numbers");
}

static void test_loops(void **state)
{
    (void)state;
    check_file("loops");
}

static void test_helpers(void **state)
{
    (void)state;
    check_file("helpers");
}

static void test_calls(void **state)
{
    (void)state;
    check_file("calls");
    assert_true(programs > 250);
}

/* ---- every object, every width, its first and its last byte ------------------------------- */

static const struct object {
    const char *name;
    const char *get; /* its start into r7 */
    unsigned size;
    bool writable;
} objects[] = {
    {"the stack", "r7 = r10\nr7 += -512\n", 512, true},
    {"rodata", "r7 = rodata 0 ll\n", RODATA, false},
    {"data", "r7 = data 0 ll\n", DATA, true},
    {"context", "r7 = r1\n", 64, true},
    {"memory", "r1 = r10\nr1 += -8\nr2 = r10\nr2 += -16\ncall 7\nr7 = *(u64 *)(r10 -8)\n", 1 << 20,
     true},
    {"an object in chunk", "r1 = r10\nr1 += -8\nr2 = 4096\ncall 10\nr7 = *(u64 *)(r10 -8)\n", 4096,
     false},
};

/* One access, at a constant offset or at one that is only bounded. */
static void check_access(const struct object *o, unsigned width, bool store, bool varies,
                         int64_t offset)
{
    char program[1024], name[128], reason[128], index[256];
    bool fits = offset >= 0 && offset + width <= o->size;
    snprintf(name, sizeof(name), "%s %u bytes at %lld of %s%s", store ? "store" : "load", width,
             (long long)offset, o->name, varies ? ", varying" : "");
    snprintf(index, sizeof(index), "r6 = %lld\n", (long long)offset);
    if (varies) /* one of offset - 1 and offset, or of offset and offset + 1: the worse one */
        snprintf(index, sizeof(index),
                 "call 6\nr6 = data 0 ll\nr6 = *(u8 *)(r6 +0)\nr6 &= 1\n"
                 "r6 += %lld\n",
                 (long long)(offset > 0 ? offset - 1 : offset));
    snprintf(program, sizeof(program), "r6 = 0\n%s%sr7 += r6\n%s *(u%u *)(r7 +0)%s\nr0 = 0\nexit\n",
             o->get, index, store ? "" : "r0 =", width * 8, store ? " = 1" : "");
    if (!store && !strcmp(o->name, "the stack")) /* what is read must be written before */
        return;
    snprintf(reason, sizeof(reason), "of %s", o->name);
    if (store && !o->writable)
        snprintf(reason, sizeof(reason), "may only be read");
    check(name, program, fits && (o->writable || !store) ? NULL : reason);
}

static void test_bounds(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
        for (unsigned width = 1; width <= 8; width *= 2)
            for (int how = 0; how < 4; how++) {
                int64_t last = (int64_t)objects[i].size - width;
                check_access(&objects[i], width, how & 1, how & 2, 0);
                check_access(&objects[i], width, how & 1, how & 2, -1);
                check_access(&objects[i], width, how & 1, how & 2, last);
                check_access(&objects[i], width, how & 1, how & 2, last + 1);
            }
    assert_int_equal(wrong, 0);
}

/* ---- logs and limits --------------------------------------------------------------------- */

static void test_limit(void **state)
{
    (void)state;
    struct bpf_module *module =
        make_module("limit", "r0 = 0\nr3 = 0\nloop:\nr3 += 1\nif r3 != 10 goto loop\nexit\n");
    struct bpf_prog *prog;
    assert_int_equal(verify(module, &prog, 5, false), -EACCES);
    assert_non_null(strstr(text, "too complex: 5 instructions were looked at"));
    assert_int_equal(verify(module, &prog, 0, false), 0);
    bpf_prog_close(prog);
    bpf_module_close(module);
}

static void test_log(void **state)
{
    (void)state;
    struct bpf_module *module = make_module("log", "r3 = *(u8 *)(r1 +0)\nr1 += r3\n"
                                                   "r0 = *(u16 *)(r1 +0)\nexit\n");
    struct bpf_prog *prog;
    assert_int_equal(verify(module, &prog, 0, false), -EACCES);
    assert_string_equal(text, "2: r0 = *(u16 *)(r1 +0)\n"
                              "   r1=context+(0..255) r3=0..255\n"
                              "load by r1: 2 bytes at an offset from 0 to 255 of context, which "
                              "has 64\n");
    assert_int_equal(verify(module, &prog, 0, true), -EACCES);
    assert_non_null(strstr(text, "   r1=context\n0: r3 = *(u8 *)(r1 +0)\n"));
    bpf_module_close(module);
}

/* Work is limited, whatever the program: many paths, many loops in one another, many calls. */
static void test_hostile(void **state)
{
    (void)state;
    static char program[1 << 18];
    size_t n = 0;
    n += (size_t)sprintf(program + n, "r0 = 0\n");
    for (int i = 0; i < 1000; i++)
        n += (size_t)sprintf(program + n, "r3 = *(u8 *)(r1 +%d)\nif r3 == 0 goto +1\nr0 += 1\n",
                             i % 64);
    sprintf(program + n, "exit\n");
    uint8_t bytes[1 << 16];
    char error[128];
    struct bpf_module *module;
    struct bpf_prog *prog;
    long size = bpf_assemble(program, bytes, sizeof(bytes), error);
    assert_true(size > 0);
    assert_int_equal(bpf_module_open_insns(bytes, (size_t)size, &module, NULL), 0);
    assert_int_equal(verify(module, &prog, 0, false), 0);
    bpf_prog_close(prog);
    bpf_module_close(module);

    n = (size_t)sprintf(program, "r0 = 0\n"); /* loops in loops */
    for (int i = 0; i < 40; i++)
        n += (size_t)sprintf(program + n, "l%d:\n", i);
    for (int i = 0; i < 40; i++)
        n += (size_t)sprintf(program + n, "r3 = *(u8 *)(r1 +%d)\nif r3 == 0 goto l%d\n", i, 39 - i);
    sprintf(program + n, "exit\n");
    size = bpf_assemble(program, bytes, sizeof(bytes), error);
    assert_true(size > 0);
    assert_int_equal(bpf_module_open_insns(bytes, (size_t)size, &module, NULL), 0);
    assert_int_equal(verify(module, &prog, 100000, false), -EACCES);
    bpf_module_close(module);

    n = (size_t)sprintf(program, "call f0\nexit\n"); /* 2^14 calls */
    for (int i = 0; i < 14; i++)
        n += (size_t)sprintf(program + n, "f%d:\ncall f%d\ncall f%d\nexit\n", i, i + 1, i + 1);
    sprintf(program + n, "f14:\nr0 = 0\nexit\n");
    size = bpf_assemble(program, bytes, sizeof(bytes), error);
    assert_true(size > 0);
    assert_int_equal(bpf_module_open_insns(bytes, (size_t)size, &module, NULL), 0);
    assert_int_equal(verify(module, &prog, 10000, false), -EACCES);
    assert_non_null(strstr(text, "too complex"));
    bpf_module_close(module);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers), cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_numbers),   cmocka_unit_test(test_helpers),
        cmocka_unit_test(test_loops),     cmocka_unit_test(test_calls),
        cmocka_unit_test(test_bounds),    cmocka_unit_test(test_limit),
        cmocka_unit_test(test_log),       cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
