/* Every instruction, as tests/bpf/vectors says it works (tests/bpf/README.md), in the interpreter
 * with each kind of check and in the compiler's code, verified or checked. */
#include "test.h"

#include <ashlar/bpf.h>

#include "base/util.h"
#include "bpf/asm.h"
#include "bpf/vm.h"

enum { MAX_MEMORY = 256, MAX_CODE = 4096 };

struct vector {
    char name[700];
    char text[2048];
    uint8_t before[MAX_MEMORY], after[MAX_MEMORY];
    size_t size;
    bool has_after, has_result;
    uint64_t result;
    int error, strict_error;
    char refused[256];
};

/* How many runs there were, so that a test that runs nothing is seen. */
static struct {
    unsigned vectors, interpreted, compiled, verified;
} count;

/* ---- the environment -------------------------------------------------------------------- */

static uint64_t helper_sum(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                           uint64_t a5)
{
    (void)vm;
    return a1 + a2 + a3 + a4 + a5;
}

static uint64_t helper_fail(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                            uint64_t a5)
{
    (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    bpf_vm_fail(vm, -EIO);
    return 0;
}

static uint64_t helper_first(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                             uint64_t a5)
{
    (void)vm, (void)a2, (void)a3, (void)a4, (void)a5;
    return a1;
}

#define SCALARS                                                                                    \
    {                                                                                              \
        {.kind = BPF_ARG_SCALAR}, {.kind = BPF_ARG_SCALAR}, {.kind = BPF_ARG_SCALAR},              \
            {.kind = BPF_ARG_SCALAR}, {.kind = BPF_ARG_SCALAR},                                    \
    }
static const struct bpf_helper helpers[] = {
    {.id = 1, .name = "sum", .function = helper_sum, .args = SCALARS, .returns = BPF_ANY_SCALAR},
    {.id = 2, .name = "fail", .function = helper_fail, .returns = BPF_ANY_SCALAR},
    {.id = 3,
     .name = "first",
     .function = helper_first,
     .args = {{.kind = BPF_ARG_SCALAR}},
     .returns = BPF_ANY_SCALAR},
};

static const uint8_t constant[4] = {1, 2, 3, 4};

struct place {
    struct bpf_region regions[2];
    struct bpf_environment environment;
};

static void place_init(struct place *p, size_t size)
{
    *p = (struct place){
        .regions = {{.name = "memory", .size = size, .writable = true},
                    {.name = "constant", .size = sizeof(constant)}},
        .environment = {.region_count = 2,
                        .helpers = helpers,
                        .helper_count = ARRAY_SIZE(helpers),
                        .entry = {BPF_REGION_START(0), BPF_RANGE(size, size), BPF_REGION_START(1)}},
    };
    p->environment.regions = p->regions;
}

/* ---- running one vector ----------------------------------------------------------------- */

enum mode { STRICT, ARENA, UNCHECKED, JIT_CHECKED, INTERP_VERIFIED, JIT_VERIFIED };
static const char *const mode_names[] = {
    "strict",           "checked interpreter",  "unchecked",
    "checked compiler", "verified interpreter", "verified compiler"};

static void check_run(const struct vector *v, enum mode mode, struct bpf_vm *vm)
{
    const struct bpf_limits limits = {.budget = 1000000, .timeout_ns = BPF_UNLIMITED};
    const int expected = mode == STRICT && v->strict_error ? v->strict_error : v->error;
    uint64_t r0 = 0;
    memcpy(bpf_vm_region(vm, 0), v->before, v->size);
    memcpy(bpf_vm_region(vm, 1), constant, sizeof(constant));
    const int error = mode <= UNCHECKED ? bpf_vm_run_checked(vm, &limits,
                                                             mode == STRICT  ? BPF_CHECK_STRICT
                                                             : mode == ARENA ? BPF_CHECK_ARENA
                                                                             : BPF_CHECK_NONE,
                                                             &r0)
                                        : bpf_vm_run(vm, &limits, &r0);
    if (error != expected)
        fail_msg("%s: %s: ended with %d (%s), not %d", v->name, mode_names[mode], error,
                 bpf_vm_failure(vm), expected);
    if (error == 0 && v->has_result && r0 != v->result)
        fail_msg("%s: %s: r0 is 0x%llx, not 0x%llx", v->name, mode_names[mode],
                 (unsigned long long)r0, (unsigned long long)v->result);
    if (v->has_after && memcmp(bpf_vm_region(vm, 0), v->after, v->size) != 0)
        fail_msg("%s: %s: other bytes in memory", v->name, mode_names[mode]);
    if ((error == 0) != (bpf_vm_failure(vm)[0] == '\0'))
        fail_msg("%s: %s: failure is \"%s\"", v->name, mode_names[mode], bpf_vm_failure(vm));
}

/* Twice, for a run must leave nothing to the next. */
static void run_mode(const struct vector *v, enum mode mode, const struct bpf_prog *prog)
{
    struct bpf_vm *vm;
    assert_int_equal(bpf_vm_open(prog, NULL, &vm), 0);
    check_run(v, mode, vm);
    check_run(v, mode, vm);
    bpf_vm_close(vm);
}

static struct bpf_prog *open_prog(const struct vector *v, const struct bpf_module *module,
                                  const struct place *place, struct bpf_options options)
{
    char text[1024];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    struct bpf_prog *prog;
    const int error = bpf_prog_open(module, &place->environment, &options, &prog, &log);
    if (error == -ENOTSUP && options.engine == BPF_ENGINE_JIT)
        return NULL;
    if (error < 0)
        fail_msg("%s: not opened: %d: %s", v->name, error, text);
    return prog;
}

static void run_interpreter(const struct vector *v, const struct bpf_module *module,
                            const struct place *place)
{
    struct bpf_prog *prog =
        open_prog(v, module, place,
                  (struct bpf_options){.verify = BPF_VERIFY_CHECKED, .engine = BPF_ENGINE_INTERP});
    assert_false(bpf_prog_verified(prog) || bpf_prog_compiled(prog));
    run_mode(v, STRICT, prog);
    run_mode(v, ARENA, prog);
    if (v->error != -EFAULT)
        run_mode(v, UNCHECKED, prog);
    bpf_prog_close(prog);
    count.interpreted++;
}

static void run_compiler(const struct vector *v, const struct bpf_module *module,
                         const struct place *place)
{
    struct bpf_prog *prog =
        open_prog(v, module, place,
                  (struct bpf_options){.verify = BPF_VERIFY_CHECKED, .engine = BPF_ENGINE_JIT});
    if (!prog)
        return;
    assert_true(bpf_prog_compiled(prog));
    run_mode(v, JIT_CHECKED, prog);
    bpf_prog_close(prog);
    count.compiled++;
}

/* What the verifier accepts never reaches outside. */
static void run_verified(const struct vector *v, const struct bpf_module *module,
                         const struct place *place, enum bpf_engine engine)
{
    struct bpf_prog *prog = open_prog(
        v, module, place, (struct bpf_options){.verify = BPF_VERIFY_AUTO, .engine = engine});
    if (prog && bpf_prog_verified(prog)) {
        if (v->error == -EFAULT || v->strict_error)
            fail_msg("%s: the verifier accepts what reaches outside", v->name);
        run_mode(v, engine == BPF_ENGINE_JIT ? JIT_VERIFIED : INTERP_VERIFIED, prog);
        count.verified++;
    }
    bpf_prog_close(prog);
}

static void check_refused(const struct vector *v, const struct bpf_module *module,
                          const struct place *place)
{
    char text[1024] = "";
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    struct bpf_prog *prog;
    const struct bpf_options options = {.verify = BPF_VERIFY_CHECKED, .engine = BPF_ENGINE_INTERP};
    const int error = bpf_prog_open(module, &place->environment, &options, &prog, &log);
    if (error != -EINVAL || prog || !strstr(text, v->refused))
        fail_msg("%s: %d: \"%s\", not \"%s\"", v->name, error, text, v->refused);
}

static void run_vector(const struct vector *v)
{
    uint8_t bytes[MAX_CODE];
    char error[128];
    struct bpf_module *module;
    struct place place;
    const long size = bpf_assemble(v->text, bytes, sizeof(bytes), error);
    if (size < 0)
        fail_msg("%s: %s", v->name, error);
    place_init(&place, v->size);
    assert_int_equal(bpf_module_open_insns(bytes, (size_t)size, &module, NULL), 0);
    if (v->refused[0]) {
        check_refused(v, module, &place);
    } else {
        run_interpreter(v, module, &place);
        run_compiler(v, module, &place);
        run_verified(v, module, &place, BPF_ENGINE_INTERP);
        run_verified(v, module, &place, BPF_ENGINE_JIT);
    }
    bpf_module_close(module);
    count.vectors++;
}

/* ---- reading the files ------------------------------------------------------------------ */

static size_t parse_bytes(const char *p, uint8_t bytes[MAX_MEMORY])
{
    size_t n = 0;
    for (char *end; n < MAX_MEMORY; n++, p = end) {
        const unsigned long byte = strtoul(p, &end, 16);
        if (end == p)
            break;
        bytes[n] = (uint8_t)byte;
    }
    return n;
}

static int error_number(const char *name)
{
    static const struct {
        const char *name;
        int error;
    } errors[] = {{"EFAULT", -EFAULT}, {"EIO", -EIO}, {"EINVAL", -EINVAL}, {"ELOOP", -ELOOP}};
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++)
        if (!strcmp(name, errors[i].name))
            return errors[i].error;
    fail_msg("no such error: %s", name);
    return 0;
}

/* The value of a line that begins with this key, or NULL. */
static const char *value_of(const char *line, const char *key)
{
    const size_t n = strlen(key);
    return !strncmp(line, key, n) && line[n] == ' ' ? line + n + 1 : NULL;
}

struct reader {
    FILE *file;
    char line[256];
    bool more;
};

static void next_line(struct reader *r)
{
    do {
        r->more = fgets(r->line, sizeof(r->line), r->file) != NULL;
        r->line[strcspn(r->line, "\n")] = '\0';
    } while (r->more && (r->line[0] == '#' || r->line[0] == '\0'));
}

static void read_outcome(struct vector *v, const char *line)
{
    const char *value;
    if ((value = value_of(line, "memory"))) {
        v->size = parse_bytes(value, v->before);
    } else if ((value = value_of(line, "after"))) {
        v->has_after = true;
        assert_int_equal(parse_bytes(value, v->after), v->size);
    } else if ((value = value_of(line, "result"))) {
        v->has_result = true;
        v->result = strtoull(value, NULL, 0);
    } else if ((value = value_of(line, "error"))) {
        v->error = error_number(value);
    } else if ((value = value_of(line, "strict"))) {
        v->strict_error = error_number(value);
    } else if ((value = value_of(line, "refused"))) {
        snprintf(v->refused, sizeof(v->refused), "%s", value);
    } else {
        fail_msg("what is this: %s", line);
    }
}

static bool is_code(const char *line)
{
    return line[0] == ' ' || line[strlen(line) - 1] == ':';
}

static void run_program(struct reader *r, const char *file)
{
    struct vector v = {.size = 8};
    snprintf(v.name, sizeof(v.name), "%s: %s", file, value_of(r->line, "run"));
    for (next_line(r); r->more && !value_of(r->line, "run"); next_line(r)) {
        const size_t n = strlen(v.text);
        if (is_code(r->line))
            snprintf(v.text + n, sizeof(v.text) - n, "%s\n", r->line);
        else
            read_outcome(&v, r->line);
    }
    if (!v.has_result && !v.error && !v.strict_error && !v.refused[0])
        fail_msg("%s: it expects nothing", v.name);
    run_vector(&v);
}

/* The instruction of a table, with its K replaced. */
static void put_immediate(char text[320], const char *instruction, const char *value)
{
    const char *k = strchr(instruction, 'K');
    if (k)
        snprintf(text, 320, "%.*s%s", (int)(k - instruction), instruction, value);
    else
        snprintf(text, 320, "%s", instruction);
}

static void run_row(const char *file, bool jump, const char *instruction, const char *row)
{
    char a[32], b[32], result[32], text[320];
    struct vector v = {.size = 8, .has_result = true};
    assert_int_equal(sscanf(row, " %31s %31s = %31s", a, b, result), 3);
    put_immediate(text, instruction, b);
    snprintf(v.name, sizeof(v.name), "%s: %s: %s", file, instruction, row);
    v.result = strtoull(result, NULL, 0);
    if (jump)
        snprintf(v.text, sizeof(v.text),
                 "r0 = %s ll\nr1 = %s ll\nif %s goto +2\nr0 = 0\nexit\nr0 = 1\nexit\n", a, b, text);
    else
        snprintf(v.text, sizeof(v.text), "r0 = %s ll\nr1 = %s ll\n%s\nexit\n", a, b, text);
    run_vector(&v);
}

static void run_table(struct reader *r, const char *file)
{
    char instruction[256];
    const bool jump = value_of(r->line, "jump");
    snprintf(instruction, sizeof(instruction), "%s", value_of(r->line, jump ? "jump" : "alu"));
    for (next_line(r); r->more && r->line[0] == ' '; next_line(r))
        run_row(file, jump, instruction, r->line);
}

static void run_file(const char *name, unsigned at_least)
{
    char path[512];
    struct reader r = {0};
    snprintf(path, sizeof(path), "%s/%s", BPF_VECTORS, name);
    r.file = fopen(path, "r");
    if (!r.file)
        fail_msg("cannot open %s", path);
    memset(&count, 0, sizeof(count));
    next_line(&r);
    while (r.more) {
        if (value_of(r.line, "run"))
            run_program(&r, name);
        else if (value_of(r.line, "alu") || value_of(r.line, "jump"))
            run_table(&r, name);
        else
            fail_msg("%s: what is this: %s", name, r.line);
    }
    fclose(r.file);
    print_message("# %s: %u vectors: interpreted %u, compiled %u, verified %u\n", name,
                  count.vectors, count.interpreted, count.compiled, count.verified);
    assert_true(count.vectors >= at_least);
}

static void test_alu(void **state)
{
    (void)state;
    run_file("alu.txt", 1500);
}

static void test_jump(void **state)
{
    (void)state;
    run_file("jump.txt", 1000);
}

static void test_memory(void **state)
{
    (void)state;
    run_file("memory.txt", 40);
}

static void test_atomic(void **state)
{
    (void)state;
    run_file("atomic.txt", 70);
}

static void test_control(void **state)
{
    (void)state;
    run_file("control.txt", 50);
}

static void test_refused_programs(void **state)
{
    (void)state;
    run_file("refused.txt", 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alu),     cmocka_unit_test(test_jump),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_atomic),
        cmocka_unit_test(test_control), cmocka_unit_test(test_refused_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
