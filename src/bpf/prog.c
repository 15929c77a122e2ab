/* Programs: a module made ready for one environment. */
#include "bpf/vm.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"

#define DEFAULT_VERIFY_LIMIT 1000000

/* ---- where it starts -------------------------------------------------------------------- */

static const struct bpf_function_info *find_named(const struct bpf_code *code, const char *name)
{
    for (uint32_t i = 0; i < code->function_count; i++)
        if (!strcmp(code->functions[i].name, name))
            return &code->functions[i];
    return NULL;
}

/* The only one of a kind; NULL if there are none or several. */
static const struct bpf_function_info *find_only(const struct bpf_code *code, bool global)
{
    const struct bpf_function_info *found = NULL;
    for (uint32_t i = 0; i < code->function_count; i++) {
        if (global && !code->functions[i].global)
            continue;
        if (found)
            return NULL;
        found = &code->functions[i];
    }
    return found;
}

static void list_functions(const struct bpf_code *code, struct bpf_log *log)
{
    for (uint32_t i = 0; i < code->function_count; i++)
        bpf_log_add(log, "%s%s", i ? ", " : "", code->functions[i].name);
    bpf_log_add(log, "\n");
}

static int find_entry(struct bpf_prog *p, const char *name, struct bpf_log *log)
{
    const struct bpf_code *code = &p->code;
    const struct bpf_function_info *f = find_named(code, name ? name : "main");
    if (!f && !name)
        f = find_only(code, true);
    if (!f && !name)
        f = find_only(code, false);
    if (!f) {
        if (name)
            bpf_log_add(log, "there is no function %s; there are: ", name);
        else
            bpf_log_add(log, "no function is called main; name the one to start with: ");
        list_functions(code, log);
        return -ENOENT;
    }
    p->entry = f->start;
    return 0;
}

uint64_t bpf_prog_entry_value(const struct bpf_prog *p, unsigned number)
{
    const struct bpf_value *v = &p->environment->entry[number - 1];
    if (v->kind == BPF_VALUE_POINTER)
        return p->layout.spans[BPF_SPAN_REGION + v->region].start;
    return v->kind == BPF_VALUE_SCALAR ? (uint64_t)v->min : 0;
}

/* ---- opening ---------------------------------------------------------------------------- */

static int verify(struct bpf_prog *p, const struct bpf_options *options, struct bpf_log *log)
{
    if (options->verify == BPF_VERIFY_CHECKED)
        return 0;
    const uint64_t limit = options->verify_limit ? options->verify_limit : DEFAULT_VERIFY_LIMIT;
    const int error = bpf_verify(p, limit, log);
    p->verified = error == 0;
    return error == -EACCES && options->verify == BPF_VERIFY_AUTO ? 0 : error;
}

static int prepare_engine(struct bpf_prog *p, const struct bpf_options *options,
                          struct bpf_log *log)
{
    if (options->engine != BPF_ENGINE_INTERP)
        p->jit = bpf_jit_compile(p);
    if (p->jit)
        return 0;
    if (options->engine == BPF_ENGINE_JIT) {
        bpf_log_add(log, "there is no compiler for this machine, or no memory for its code\n");
        return -ENOTSUP;
    }
    p->ops = bpf_decode(p);
    if (!p->ops)
        bpf_log_add(log, "no memory for %u instructions\n", (unsigned)p->code.count);
    return p->ops ? 0 : -ENOMEM;
}

static int prepare(struct bpf_prog *p, const struct bpf_options *options, struct bpf_log *log)
{
    int error = bpf_environment_check(p->environment, log);
    if (error == 0)
        error = bpf_code_check(&p->code, log);
    if (error == 0)
        error = find_entry(p, options->function, log);
    if (error == 0)
        error = bpf_layout_init(&p->layout, &p->code, p->environment, log);
    if (error == 0)
        error = verify(p, options, log);
    return error == 0 ? prepare_engine(p, options, log) : error;
}

int bpf_prog_open(const struct bpf_module *module, const struct bpf_environment *environment,
                  const struct bpf_options *options, struct bpf_prog **prog, struct bpf_log *log)
{
    static const struct bpf_options defaults;
    *prog = NULL;
    struct bpf_prog *p = base_alloc(sizeof(*p));
    if (!p) {
        bpf_log_add(log, "no memory for a program\n");
        return -ENOMEM;
    }
    /* The count of its programs is all that ever changes in a module. */
    p->module = (struct bpf_module *)(uintptr_t)module;
    p->code = module->code;
    p->environment = environment;
    __atomic_fetch_add(&p->module->programs, 1, __ATOMIC_RELAXED);
    const int error = prepare(p, options ? options : &defaults, log);
    if (error < 0)
        bpf_prog_close(p);
    else
        *prog = p;
    return error;
}

void bpf_prog_close(struct bpf_prog *prog)
{
    if (!prog)
        return;
    bpf_jit_free(prog->jit);
    base_free(prog->ops);
    bpf_module_close(prog->module);
    base_free(prog);
}

bool bpf_prog_verified(const struct bpf_prog *prog)
{
    return prog->verified;
}

bool bpf_prog_compiled(const struct bpf_prog *prog)
{
    return prog->jit != NULL;
}
