/*
 * bpf-conformance: what public conformance runners for eBPF drive as their plug-in.
 *
 * The program comes in hex on the standard input (instructions or, with --elf, an ELF file), the
 * memory in hex as the argument; r1 is its address and r2 its size. r0 goes in hex to the standard
 * output, or the reason to the standard error with exit code 1.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ashlar/bpf.h>

enum { MAX_HEX = 16 << 20 };

struct arguments {
    const char *program, *memory;
    bool elf, debug;
    struct bpf_options options;
};

struct bytes {
    uint8_t *data;
    size_t size;
};

static const char usage[] =
    "usage: bpf-conformance [--program HEX] [MEMORY] [--elf] [--jit | --interp]\n"
    "                       [--verify=require|auto|checked] [--debug]\n";

/* ---- arguments -------------------------------------------------------------------------- */

static bool parse_verify(const char *text, struct bpf_options *options)
{
    static const char *const names[] = {"require", "auto", "checked"};
    for (unsigned i = 0; i < 3; i++)
        if (!strcmp(text, names[i])) {
            options->verify = (enum bpf_verify)i;
            return true;
        }
    return false;
}

static bool parse_flag(struct arguments *a, const char *flag)
{
    if (!strcmp(flag, "--elf"))
        a->elf = true;
    else if (!strcmp(flag, "--debug"))
        a->debug = true;
    else if (!strcmp(flag, "--jit"))
        a->options.engine = BPF_ENGINE_JIT;
    else if (!strcmp(flag, "--interp"))
        a->options.engine = BPF_ENGINE_INTERP;
    else if (!strncmp(flag, "--verify=", 9))
        return parse_verify(flag + 9, &a->options);
    else
        return false;
    return true;
}

static bool parse(struct arguments *a, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--program") && i + 1 < argc)
            a->program = argv[++i];
        else if (!strncmp(argv[i], "--", 2) ? !parse_flag(a, argv[i]) : a->memory != NULL)
            return false;
        else if (strncmp(argv[i], "--", 2) != 0)
            a->memory = argv[i];
    }
    return true;
}

/* ---- hex -------------------------------------------------------------------------------- */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Pairs of digits, with or without space between them. */
static bool from_hex(const char *text, struct bytes *bytes)
{
    bytes->size = 0;
    bytes->data = malloc(strlen(text) / 2 + 1);
    while (bytes->data) {
        text += strspn(text, " \t\r\n");
        if (!*text)
            return true;
        const int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
        if (low < 0)
            return false;
        bytes->data[bytes->size++] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    return false;
}

static char *read_input(void)
{
    char *text = malloc(MAX_HEX);
    if (text)
        text[fread(text, 1, MAX_HEX - 1, stdin)] = '\0';
    return text;
}

/* ---- running ---------------------------------------------------------------------------- */

/* Helper 5 of the runners' programs looks at its argument and goes on. */
static uint64_t helper_unwind(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                              uint64_t a5)
{
    (void)vm, (void)a2, (void)a3, (void)a4, (void)a5;
    return a1;
}

static const struct bpf_helper helpers[] = {{.id = 5,
                                             .name = "unwind",
                                             .function = helper_unwind,
                                             .args = {{.kind = BPF_ARG_SCALAR}},
                                             .returns = BPF_ANY_SCALAR}};

static int run(const struct bpf_prog *prog, const struct bytes *memory, struct bpf_log *log)
{
    const struct bpf_limits limits = {.budget = UINT64_C(1) << 28, .timeout_ns = 10000000000};
    struct bpf_vm *vm;
    uint64_t r0;
    int error = bpf_vm_open(prog, NULL, &vm);
    if (error < 0)
        return error;
    if (memory->size)
        memcpy(bpf_vm_region(vm, 0), memory->data, memory->size);
    error = bpf_vm_run(vm, &limits, &r0);
    if (error < 0)
        snprintf(log->text, log->size, "%s\n", bpf_vm_failure(vm));
    else
        printf("%llx\n", (unsigned long long)r0);
    bpf_vm_close(vm);
    return error;
}

static int load_and_run(const struct arguments *a, const struct bytes *program,
                        const struct bytes *memory, struct bpf_log *log)
{
    const struct bpf_region region = {.name = "memory", .size = memory->size, .writable = true};
    const int64_t size = (int64_t)memory->size;
    const struct bpf_environment environment = {
        .regions = &region,
        .region_count = 1,
        .helpers = helpers,
        .helper_count = 1,
        .entry = {memory->size ? BPF_REGION_START(0) : BPF_RANGE(0, 0), BPF_RANGE(size, size)},
    };
    struct bpf_module *module;
    struct bpf_prog *prog;
    int error = a->elf ? bpf_module_open(program->data, program->size, &module, log)
                       : bpf_module_open_insns(program->data, program->size, &module, log);
    if (error < 0)
        return error;
    error = bpf_prog_open(module, &environment, &a->options, &prog, log);
    bpf_module_close(module);
    if (error < 0)
        return error;
    if (a->debug)
        fprintf(stderr, "%s, %s\n", bpf_prog_verified(prog) ? "verified" : "checked",
                bpf_prog_compiled(prog) ? "compiled" : "interpreted");
    error = run(prog, memory, log);
    bpf_prog_close(prog);
    return error;
}

int main(int argc, char **argv)
{
    struct arguments a = {.options.verify = BPF_VERIFY_AUTO};
    struct bytes program = {0}, memory = {0};
    static char text[4096];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    if (!parse(&a, argc, argv)) {
        fputs(usage, stderr);
        return 1;
    }
    char *input = a.program ? NULL : read_input();
    int error = -EINVAL;
    if ((!input && !a.program) || !from_hex(input ? input : a.program, &program) ||
        !from_hex(a.memory ? a.memory : "", &memory))
        fprintf(stderr, "the program or the memory is not in hex\n");
    else if ((error = load_and_run(&a, &program, &memory, &log)) < 0)
        fprintf(stderr, "%s", text[0] ? text : strerror(-error));
    free(input);
    free(program.data);
    free(memory.data);
    return error < 0;
}
