/* An ELF file of any bytes: loaded, listed, and run checked. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <ashlar/bpf.h>

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char log_text[1024];

static void add_length(void *arg, const char *text)
{
    *(size_t *)arg += strlen(text);
}

/* Whatever it does, it stays within its memory, and ends. */
static void run(const struct bpf_module *module)
{
    static const struct bpf_region region = {.name = "memory", .size = 256, .writable = true};
    static const struct bpf_environment environment = {
        .regions = &region,
        .region_count = 1,
        .entry = {BPF_REGION_START(0), BPF_RANGE(256, 256)},
    };
    static const struct bpf_limits limits = {.budget = 10000, .timeout_ns = BPF_UNLIMITED};
    for (unsigned i = 0; i < 3 && bpf_module_function(module, i); i++) {
        const struct bpf_options options = {
            .verify = BPF_VERIFY_CHECKED,
            .engine = BPF_ENGINE_INTERP,
            .function = bpf_module_function(module, i),
        };
        struct bpf_log log = {.text = log_text, .size = sizeof(log_text)};
        struct bpf_prog *prog;
        struct bpf_vm *vm;
        uint64_t r0;
        if (bpf_prog_open(module, &environment, &options, &prog, &log) < 0)
            continue;
        if (bpf_vm_open(prog, NULL, &vm) == 0) {
            bpf_vm_run(vm, &limits, &r0);
            if (bpf_vm_instructions(vm) > limits.budget + BPF_MAX_INSNS)
                abort();
            bpf_vm_close(vm);
        }
        bpf_prog_close(prog);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bpf_log log = {.text = log_text, .size = sizeof(log_text)};
    struct bpf_module *module;
    size_t length = 0;
    const int r = bpf_module_open(data, size, &module, &log);
    if (r < 0 && (module || !log.length))
        abort(); /* it must say why */
    if (r == 0) {
        bpf_module_disassemble(module, add_length, &length);
        if (!length)
            abort();
        run(module);
    }
    bpf_module_close(module);
    return 0;
}
