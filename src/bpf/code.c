/* Modules: where an instruction belongs, bare instructions, the log. */
#include "bpf/code.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/platform.h"

void bpf_log_add(struct bpf_log *log, const char *format, ...)
{
    if (!log || !log->text || log->size == 0 || log->length >= log->size)
        return;
    const size_t room = log->size - log->length;
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(log->text + log->length, room, format, args);
    va_end(args);
    if (n > 0)
        log->length += (size_t)n < room ? (size_t)n : room - 1;
}

const struct bpf_function_info *bpf_code_function(const struct bpf_code *code, uint32_t insn)
{
    uint32_t low = 0, high = code->function_count; /* the last that starts at or before insn */
    if (insn >= code->count)
        return NULL;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (code->functions[middle].start <= insn)
            low = middle;
        else
            high = middle;
    }
    return code->function_count ? &code->functions[low] : NULL;
}

const struct bpf_line *bpf_code_line(const struct bpf_code *code, uint32_t insn)
{
    uint32_t low = 0, high = code->line_count; /* before low: at or before insn */
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (code->lines[middle].insn <= insn)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct bpf_line *line = &code->lines[low - 1];
    const struct bpf_function_info *function = bpf_code_function(code, insn);
    return function && line->insn < function->start ? NULL : line;
}

const char *bpf_module_function(const struct bpf_module *module, unsigned number)
{
    const struct bpf_code *code = &module->code;
    return number < code->function_count ? code->functions[number].name : NULL;
}

void bpf_module_close(struct bpf_module *module)
{
    if (!module || __atomic_fetch_sub(&module->programs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    struct bpf_code *code = &module->code;
    base_free(code->insns);
    base_free(code->functions);
    base_free(code->rodata);
    base_free(code->data);
    base_free(code->pointers);
    base_free(code->lines);
    base_free(code->strings);
    base_free(module);
}

/* ---- bare instructions ------------------------------------------------------------------ */

/* The functions of bare instructions are the first one and those that local calls and LDDW name.
 * starts: one for each instruction, and one after the last. */
static uint32_t find_functions(const struct bpf_code *code, uint8_t *starts)
{
    starts[0] = 1;
    for (uint32_t i = 0; i < code->count; i++) {
        const struct bpf_insn *insn = &code->insns[i];
        const bool call = insn->opcode == (BPF_JMP | BPF_CALL) && insn->src == BPF_CALL_LOCAL;
        const bool name = insn->opcode == BPF_LDDW && insn->src == BPF_LDDW_FUNCTION;
        const uint32_t target = bpf_code_target(code, i);
        if ((call || name) && target < code->count)
            starts[target] = 1;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < code->count; i++)
        count += starts[i];
    return count;
}

static int name_functions(struct bpf_code *code, const uint8_t *starts, uint32_t count)
{
    enum { NAME = sizeof("function_4294967295") };
    code->functions = base_alloc_array(count, sizeof(*code->functions));
    code->strings = base_alloc_array(count, NAME);
    if (!code->functions || !code->strings)
        return -ENOMEM;
    for (uint32_t i = 0; i < code->count; i++) {
        if (starts[i]) {
            char *name = code->strings + (size_t)code->function_count * NAME;
            snprintf(name, NAME, i ? "function_%u" : "main", (unsigned)i);
            code->functions[code->function_count++] =
                (struct bpf_function_info){.start = i, .name = name, .global = i == 0};
        }
        code->functions[code->function_count - 1].count++;
    }
    return 0;
}

static int read_insns(struct bpf_code *code, const uint8_t *bytes, uint32_t count)
{
    code->insns = base_alloc_array(count, sizeof(*code->insns));
    uint8_t *starts = base_alloc(count);
    int error = -ENOMEM;
    if (code->insns && starts) {
        code->count = count;
        for (uint32_t i = 0; i < count; i++)
            code->insns[i] = bpf_insn_read(bytes + (size_t)i * BPF_INSN_SIZE);
        error = name_functions(code, starts, find_functions(code, starts));
    }
    base_free(starts);
    return error;
}

int bpf_module_open_insns(const void *insns, size_t size, struct bpf_module **module,
                          struct bpf_log *log)
{
    *module = NULL;
    if (size == 0 || size % BPF_INSN_SIZE || size / BPF_INSN_SIZE > BPF_MAX_INSNS) {
        bpf_log_add(log, "%zu bytes are no program: it is 1 to %u instructions of %d bytes\n", size,
                    BPF_MAX_INSNS, BPF_INSN_SIZE);
        return -EINVAL;
    }
    struct bpf_module *m = base_alloc(sizeof(*m));
    const int error = m ? read_insns(&m->code, insns, (uint32_t)(size / BPF_INSN_SIZE)) : -ENOMEM;
    if (error < 0) {
        bpf_module_close(m);
        bpf_log_add(log, "no memory for a program of %zu bytes\n", size);
        return error;
    }
    *module = m;
    return 0;
}
