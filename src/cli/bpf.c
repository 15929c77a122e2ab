/* ashlar bpf verify|disasm|run FILE */
#include <ashlar/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "cli/cli.h"
#include "cli/program.h"

#define BUDGET  UINT64_C(1000000000)
#define TIMEOUT UINT64_C(10000000000)

/* ---- files ------------------------------------------------------------------------------ */

static int write_file(const struct cli *cli, const char *path, const void *data, uint64_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return cli_failed(cli, "%s: %s", path, strerror(errno));
    const bool ok = !size || fwrite(data, size, 1, f) == 1;
    if (fclose(f) || !ok)
        return cli_failed(cli, "%s: %s", path, strerror(errno));
    return CLI_OK;
}

/* Digits of instructions, with any blanks between; in place. */
static int decode_hex(const struct cli *cli, uint8_t *data, size_t *size)
{
    size_t digits = 0;
    for (size_t i = 0; i < *size; i++) {
        const char c = (char)data[i];
        const char *hex = "0123456789abcdef0123456789ABCDEF", *at = c ? strchr(hex, c) : NULL;
        if (strchr(" \t\r\n", c) && c)
            continue;
        if (!at)
            return cli_failed(cli, "%s: byte %zu is no hex digit", cli->operand[0], i);
        const uint8_t value = (uint8_t)((at - hex) & 15);
        data[digits / 2] = (uint8_t)(digits % 2 ? data[digits / 2] | value : value << 4);
        digits++;
    }
    *size = digits / 2;
    return digits % 2 ? cli_failed(cli, "%s: half a byte at its end", cli->operand[0]) : CLI_OK;
}

/* ---- what the subcommands share ----------------------------------------------------------- */

/* One program, in the environment of `run`: r1 is the address of the memory, r2 its size. */
struct job {
    struct cli *cli;
    struct bpf_log log;
    struct bpf_module *module;
    uint8_t *memory; /* what it holds before the run; NULL: zeroes */
    size_t memory_size;
    struct bpf_region region;
    struct bpf_environment environment;
    struct bpf_prog *prog;
    struct bpf_vm *vm;
};

/* The program speaks to who runs it, on standard error. */
static uint64_t debug(struct bpf_vm *vm, uint64_t string, uint64_t a2, uint64_t a3, uint64_t a4,
                      uint64_t a5)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    for (;; string++) {
        const char *c = bpf_vm_memory(vm, string, 1, false);
        if (!c) {
            bpf_vm_fail(vm, -EFAULT);
            break;
        }
        if (!*c)
            break;
        fputc((unsigned char)*c < ' ' || *c == 127 ? '.' : *c, stderr);
    }
    fputc('\n', stderr);
    return 0;
}

static const struct bpf_helper helpers[] = {
    {.id = 9, .name = "bpf_debug", .function = debug, .args[0].kind = BPF_ARG_STRING},
};

static void print_log(const struct job *job)
{
    if (job->log.length)
        fputs(job->log.text, stderr);
}

static int open_module(struct job *job)
{
    struct cli *cli = job->cli;
    const char *format = cli_text(cli, "format", "elf");
    enum { LOG_SIZE = 64 << 20 }; /* memory as it fills */
    uint8_t *data;
    size_t size;
    job->log = (struct bpf_log){.text = calloc(1, LOG_SIZE), .size = LOG_SIZE};
    if (!job->log.text)
        return cli_failed(cli, "not enough memory");
    int code = cli_read_file(cli, cli->operand[0], PROGRAM_MAX, &data, &size);
    if (code != CLI_OK)
        return code;
    if (!strcmp(format, "hex"))
        code = decode_hex(cli, data, &size);
    if (code == CLI_OK) {
        int r = !strcmp(format, "elf") ? bpf_module_open(data, size, &job->module, &job->log)
                                       : bpf_module_open_insns(data, size, &job->module, &job->log);
        print_log(job);
        job->log.length = 0;
        if (r < 0)
            code = cli_failed(cli, "%s: not a program that can be loaded", cli->operand[0]);
    }
    free(data);
    return code;
}

/* --mem FILE, --mem-size SIZE, or both: the file, then zeroes. */
static int make_memory(struct job *job)
{
    struct cli *cli = job->cli;
    const char *path = cli_text(cli, "mem", NULL);
    const uint64_t size = cli_number(cli, "mem-size", 0);
    if (size > BPF_MAX_ARENA)
        return cli_usage(cli, "--mem-size must be at most 1G");
    if (path) {
        int code =
            cli_read_file(cli, path, size ? size : BPF_MAX_ARENA, &job->memory, &job->memory_size);
        if (code != CLI_OK)
            return code;
    }
    job->region = (struct bpf_region){
        .name = "memory",
        .size = size ? size : job->memory_size,
        .writable = true,
    };
    return CLI_OK;
}

static int open_prog(struct job *job, enum bpf_verify verify)
{
    struct cli *cli = job->cli;
    const int64_t size = (int64_t)job->region.size;
    job->environment = (struct bpf_environment){
        .regions = &job->region,
        .region_count = 1,
        .helpers = helpers,
        .helper_count = 1,
        .entry = {BPF_REGION_START(0), BPF_RANGE(size, size)},
    };
    struct bpf_options options = program_options(cli, BPF_VERIFY_REQUIRE);
    options.verify = verify;
    job->log.verbose = cli_flag(cli, "verbose");
    int r = bpf_prog_open(job->module, &job->environment, &options, &job->prog, &job->log);
    if (r == 0)
        return CLI_OK;
    print_log(job);
    return r == -EACCES ? cli_failed(cli, "%s: rejected", cli->operand[0])
                        : cli_failed(cli, "%s: %s", cli->operand[0], strerror(-r));
}

static void close_job(struct job *job)
{
    bpf_vm_close(job->vm);
    bpf_prog_close(job->prog);
    bpf_module_close(job->module);
    free(job->memory);
    free(job->log.text);
}

/* ---- disasm ----------------------------------------------------------------------------- */

static void print_line(void *arg, const char *text)
{
    (void)arg;
    puts(text);
}

static int run_disasm(struct cli *cli)
{
    struct job job = {.cli = cli};
    int code = open_module(&job);
    if (code == CLI_OK)
        bpf_module_disassemble(job.module, print_line, NULL);
    close_job(&job);
    return code;
}

/* ---- verify ----------------------------------------------------------------------------- */

static int run_verify(struct cli *cli)
{
    struct job job = {.cli = cli};
    int code = open_module(&job);
    if (code == CLI_OK)
        code = make_memory(&job);
    if (code == CLI_OK)
        code = open_prog(&job, BPF_VERIFY_REQUIRE);
    if (code == CLI_OK) {
        print_log(&job);
        printf("%s: verified\n", cli->operand[0]);
    }
    close_job(&job);
    return code;
}

/* ---- run -------------------------------------------------------------------------------- */

static void print_stats(const struct job *job, uint64_t ns)
{
    const uint64_t instructions = bpf_vm_instructions(job->vm);
    fprintf(stderr, "%-13s %s\n", "mode", bpf_prog_verified(job->prog) ? "verified" : "checked");
    fprintf(stderr, "%-13s %s\n", "engine",
            bpf_prog_compiled(job->prog) ? "compiler" : "interpreter");
    fprintf(stderr, "%-13s %" PRIu64 "\n", "instructions", instructions);
    fprintf(stderr, "%-13s %.3f ms\n", "time", (double)ns / 1e6);
}

static void print_r0(uint64_t r0)
{
    printf("r0 = %#" PRIx64 " (%" PRIu64, r0, r0);
    if (r0 >> 63)
        printf(", %" PRId64, (int64_t)r0);
    printf(")\n");
}

static int run_prog(struct job *job)
{
    struct cli *cli = job->cli;
    const struct bpf_limits limits = {
        .budget = cli_number(cli, "budget", BUDGET),
        .timeout_ns = cli_number(cli, "timeout", TIMEOUT),
    };
    uint64_t r0;
    if (bpf_vm_open(job->prog, NULL, &job->vm) < 0)
        return cli_failed(cli, "not enough memory");
    if (job->memory_size)
        memcpy(bpf_vm_region(job->vm, 0), job->memory, job->memory_size);
    const uint64_t start = base_now_ns();
    int r = bpf_vm_run(job->vm, &limits, &r0);
    const uint64_t ns = base_now_ns() - start;
    if (cli_flag(cli, "stats"))
        print_stats(job, ns);
    if (r < 0)
        return cli_failed(cli, "%s: %s", cli->operand[0], bpf_vm_failure(job->vm));
    print_r0(r0);
    const char *out = cli_text(cli, "out", NULL);
    return out ? write_file(cli, out, bpf_vm_region(job->vm, 0), job->region.size) : CLI_OK;
}

static int run_run(struct cli *cli)
{
    struct job job = {.cli = cli};
    if (cli_flag(cli, "jit") && cli_flag(cli, "interp"))
        return cli_usage(cli, "--jit and --interp exclude one another");
    int code = open_module(&job);
    if (code == CLI_OK)
        code = make_memory(&job);
    if (code == CLI_OK)
        code = open_prog(&job, program_verify(cli, BPF_VERIFY_REQUIRE));
    if (code == CLI_OK && program_verify(cli, BPF_VERIFY_REQUIRE) == BPF_VERIFY_AUTO &&
        !bpf_prog_verified(job.prog)) {
        print_log(&job);
        fprintf(stderr, "%s: not proven safe, runs checked\n", cli->operand[0]);
    }
    if (code == CLI_OK)
        code = run_prog(&job);
    close_job(&job);
    return code;
}

/* ---- tables ----------------------------------------------------------------------------- */

static const char *const formats[] = {"elf", "raw", "hex", NULL};

#define FORMAT                                                                                     \
    {                                                                                              \
        "format", CLI_TEXT, "FORMAT",                                                              \
            "elf: what clang made (the default); raw: bare instructions; hex: these as hex "       \
            "digits",                                                                              \
            .choices = formats                                                                     \
    }
#define MEM                                                                                        \
    {                                                                                              \
        "mem", CLI_TEXT, "FILE", "what the program's memory holds at the start"                    \
    }
#define MEM_SIZE                                                                                   \
    {                                                                                              \
        "mem-size", CLI_SIZE, "SIZE",                                                              \
            "size of its memory, at most 1G; zeroes follow the file. By default that of the file"  \
    }
#define VERBOSE                                                                                    \
    {                                                                                              \
        "verbose", CLI_FLAG, NULL, "the verifier tells of each instruction that it looks at",      \
            .letter = 'v'                                                                          \
    }

static const struct cli_option disasm_options[] = {
    FORMAT,
    {0},
};

static const struct cli_option verify_options[] = {
    PROGRAM_FUNCTION, MEM, MEM_SIZE, VERBOSE, FORMAT, {0},
};

static const struct cli_option run_options[] = {
    PROGRAM_FUNCTION,
    MEM,
    MEM_SIZE,
    {"out", CLI_TEXT, "FILE", "write its memory there after the run"},
    {"verify", CLI_TEXT, "HOW",
     "require: run only what is proven safe (the default); auto: what cannot be proven runs with "
     "checks; checked: prove nothing, check everything",
     .choices = program_verify_choices},
    {"jit", CLI_FLAG, NULL, "compile it, or fail"},
    {"interp", CLI_FLAG, NULL, "interpret it; by default it is compiled where that is possible"},
    {"budget", CLI_COUNT, "N", "instructions after which it is ended; 1000000000 by default"},
    {"timeout", CLI_TIME, "TIME", "time after which it is ended; 10s by default"},
    {"stats", CLI_FLAG, NULL, "how it ran, how many instructions, how long; on standard error"},
    VERBOSE,
    FORMAT,
    {0},
};

static const struct cli_example disasm_examples[] = {
    {"ashlar bpf disasm count.o", "its functions and instructions, with lines of the source"},
    {0},
};

static const struct cli_example verify_examples[] = {
    {"ashlar bpf verify count.o --mem-size 64K", "is it safe, for any 64 KiB of memory?"},
    {0},
};

static const struct cli_example run_examples[] = {
    {"ashlar bpf run count.o --mem data.bin", "run it over the bytes of a file"},
    {"ashlar bpf run count.o --mem data.bin --verify auto --stats",
     "also if it cannot be proven safe; tell what it took"},
    {"echo b70000002a000000 9500000000000000 | ashlar bpf run /dev/stdin --format hex",
     "two instructions"},
    {0},
};

const struct cli_command cli_bpf_disasm = {
    .name = "bpf disasm",
    .operands = "FILE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "show the instructions of an eBPF program",
    .description =
        "FILE is what `clang -target bpf -c` made. Lines of the source stand between, if "
        "it was compiled with -g. Numbers are those of messages: through all functions.",
    .options = disasm_options,
    .examples = disasm_examples,
    .run = run_disasm,
};

const struct cli_command cli_bpf_verify = {
    .name = "bpf verify",
    .operands = "FILE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "prove that an eBPF program is safe",
    .description =
        "FILE is what `clang -target bpf -c` made. The environment is that of `ashlar bpf run`: r1 "
        "is the address of a memory of the given size, r2 that size. A program that is not proven "
        "safe ends with 1 and the reason: the instruction, its source, what the registers hold.",
    .options = verify_options,
    .examples = verify_examples,
    .run = run_verify,
};

const struct cli_command cli_bpf_run = {
    .name = "bpf run",
    .operands = "FILE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "run an eBPF program, safely",
    .description =
        "FILE is what `clang -target bpf -c` made. The program starts as a function of C would: "
        "the first argument (r1) is the address of its memory, the second (r2) the size of that "
        "in bytes. What it returns (r0) is printed. Helper 9, `void bpf_debug(const char *text)`, "
        "prints on standard error; there are no others.",
    .options = run_options,
    .examples = run_examples,
    .run = run_run,
};
