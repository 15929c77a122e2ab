/* The compiler for x86-64: see x86.h. */
#include "bpf/jit/x86.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

/* A compiled program. */
struct bpf_jit {
    uint8_t *code; /* sealed; its first instruction is the entry */
    size_t size;
    size_t starts[]; /* of functions, in code */
};

#ifdef __x86_64__

/* BMI2: Intel SDM volume 2, CPUID leaf 7. */
static bool has_bmi2(void)
{
    uint32_t a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    if (a < 7)
        return false;
    a = 7;
    c = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b & 1 << 8;
}

static void compile_function(struct jit_code *code, uint32_t number)
{
    struct jit_function f = {.prog = code->prog, .info = &code->prog->code.functions[number]};
    while (code->as.size % 16)
        x86_byte(&code->as, 0xcc);
    code->starts[number] = code->as.size;
    int error = jit_flow(&f);
    if (error == 0) {
        jit_live(&f);
        jit_moves(&f);
        jit_live(&f);
        jit_fuse(&f);
        error = jit_base(&f, code->shiftx);
    }
    if (error == 0)
        jit_emit_function(code, &f);
    else
        code->as.failed = true;
    jit_function_fini(&f);
}

/* Copy the code to where it will run. NULL: no memory. */
static struct bpf_jit *finish(const struct jit_code *code)
{
    const uint32_t count = code->prog->code.function_count;
    struct bpf_jit *jit = base_alloc(sizeof(*jit) + count * sizeof(jit->starts[0]));
    if (!jit)
        return NULL;
    jit->size = round_up(code->as.size, BASE_PAGE);
    memcpy(jit->starts, code->starts, count * sizeof(jit->starts[0]));
    jit->code = base_code_alloc(jit->size);
    if (jit->code) {
        memset(jit->code, 0xcc, jit->size); /* int3 */
        memcpy(jit->code, code->as.code, code->as.size);
        if (base_code_seal(jit->code, jit->size) == 0)
            return jit;
    }
    bpf_jit_free(jit);
    return NULL;
}

struct bpf_jit *jit_compile(const struct bpf_prog *prog, bool shiftx)
{
    struct jit_code code = {.prog = prog, .shiftx = shiftx};
    struct bpf_jit *jit = NULL;
    code.starts = base_alloc_array(prog->code.function_count, sizeof(*code.starts));
    if (!code.starts)
        return NULL;
    jit_emit_common(&code);
    for (uint32_t i = 0; i < prog->code.function_count && !code.as.failed; i++)
        compile_function(&code, i);
    for (uint32_t i = 0; i < code.call_count; i++)
        x86_patch(&code.as, code.calls[i].at, false, code.starts[code.calls[i].function]);
    if (!code.as.failed)
        jit = finish(&code);
    base_free(code.as.code);
    base_free(code.starts);
    base_free(code.calls);
    base_free(code.stubs);
    base_free(code.jumps);
    return jit;
}

struct bpf_jit *bpf_jit_compile(const struct bpf_prog *prog)
{
    return jit_compile(prog, has_bmi2());
}

#else

struct bpf_jit *bpf_jit_compile(const struct bpf_prog *prog)
{
    (void)prog;
    return NULL;
}

#endif

void bpf_jit_free(struct bpf_jit *jit)
{
    if (!jit)
        return;
    base_code_free(jit->code, jit->size);
    base_free(jit);
}

int bpf_jit_run(struct bpf_vm *vm, uint64_t *r0)
{
    int (*const entry)(struct bpf_vm *, uint64_t *) =
        (int (*)(struct bpf_vm *, uint64_t *))(uintptr_t)vm->prog->jit->code;
    return entry(vm, r0);
}

uint64_t jit_resolve(struct bpf_vm *vm, uint64_t value, uint64_t *count)
{
    const struct bpf_prog *prog = vm->prog;
    const uint64_t insn = value - BPF_CODE_ADDRESS;
    *count = 0;
    if (insn < prog->code.count) {
        const struct bpf_function_info *f = bpf_code_function(&prog->code, (uint32_t)insn);
        if (f->start == insn) {
            *count = f->count;
            return (uint64_t)(uintptr_t)prog->jit->code +
                   prog->jit->starts[f - prog->code.functions];
        }
    }
    const struct bpf_helper *helper = bpf_helper_find(prog->environment, value);
    return helper ? (uint64_t)(uintptr_t)helper->function : 0;
}
