/* ashlar csd run PROGRAM.o DEVICE, ashlar csd verify PROGRAM.o */
#include <ashlar/csd.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/program.h"
#include "csd/option.h"

#define LOG_SIZE (1u << 20)

struct job {
    struct cli *cli;
    struct bpf_log log;
    struct bpf_module *module;
    struct blk *dev;
    struct csd *csd;
    struct csd_program *program;
    struct csd_call call;
    uint8_t arg[CSD_MAX_ARG + 1];
    FILE *out;
    int out_error;
};

/* ---- the program ------------------------------------------------------------------------- */

static int read_module(struct job *job, const char *path)
{
    struct cli *cli = job->cli;
    uint8_t *data;
    size_t size;
    int code = cli_read_file(cli, path, PROGRAM_MAX, &data, &size);
    if (code == CLI_OK && bpf_module_open(data, size, &job->module, &job->log) < 0)
        code = cli_failed(cli, "%s: not a program that can be loaded: %s", path, job->log.text);
    free(data);
    return code;
}

static int refused(const struct job *job, int error)
{
    const char *name = job->cli->operand[0];
    fputs(job->log.text, stderr);
    return error == -EACCES ? cli_failed(job->cli, "%s: rejected", name)
                            : cli_failed(job->cli, "%s: %s", name, strerror(-error));
}

static int load(struct job *job)
{
    const struct cli *cli = job->cli;
    const struct csd_load_options options = {
        .bpf = program_options(cli, BPF_VERIFY_AUTO),
        .memory = cli_number(cli, "mem", 0),
    };
    const int error = csd_load(job->csd, job->module, &options, &job->program, &job->log);
    return error < 0 ? refused(job, error) : CLI_OK;
}

/* ---- arguments ---------------------------------------------------------------------------- */

static int read_ranges(struct job *job)
{
    const struct cli *cli = job->cli;
    const struct {
        const char *range, *zones;
        struct csd_range *to;
    } both[] = {{"range", "zones", &job->call.read}, {"append", "append-zones", &job->call.append}};
    job->call.read = (struct csd_range){0, blk_info(job->dev)->size};
    for (unsigned i = 0; i < ARRAY_SIZE(both); i++) {
        const bool range = cli_text(cli, both[i].range, NULL);
        const bool zones = cli_text(cli, both[i].zones, NULL);
        struct blk_error err;
        int error = 0;
        if (range && zones)
            return cli_usage(cli, "--%s and --%s exclude one another", both[i].range,
                             both[i].zones);
        if (range)
            error =
                csd_option_range(job->dev, cli_text(cli, both[i].range, NULL), both[i].to, &err);
        if (zones)
            error = csd_option_zones(job->dev, cli_number(cli, "zone-size", 0),
                                     cli_text(cli, both[i].zones, NULL), both[i].to, &err);
        if (error == -EINVAL)
            return cli_usage(cli, "--%s: %s", range ? both[i].range : both[i].zones, err.text);
        if (error < 0)
            return cli_failed(cli, "--%s %s", range ? both[i].range : both[i].zones, err.text);
    }
    return CLI_OK;
}

static int read_call(struct job *job)
{
    const struct cli *cli = job->cli;
    const char *text;
    unsigned at = 0;
    int code = read_ranges(job);
    while (code == CLI_OK && (text = cli_next(cli, "arg", &at))) {
        struct blk_error err;
        if (csd_option_arg(text, job->arg, &job->call.arg_size, &err) < 0)
            code = cli_usage(cli, "--arg: %s", err.text);
    }
    job->call.arg = job->arg;
    job->call.budget = cli_number(cli, "budget", 0);
    job->call.timeout_ns = cli_number(cli, "timeout", 0);
    job->call.zone_size = cli_number(cli, "zone-size", 0);
    job->call.max_return = cli_number(cli, "max-return", 0);
    return code;
}

/* ---- results ------------------------------------------------------------------------------ */

/* On a callback: what the program returns goes out as it comes. */
static int write_out(void *user, const void *data, size_t size)
{
    struct job *job = user;
    if (fwrite(data, size, 1, job->out) == 1)
        return 0;
    job->out_error = errno ? errno : EIO;
    return -job->out_error; /* nobody takes it: the run is to end */
}

static void print_debug(void *user, const char *text)
{
    (void)user;
    fputs("program: ", stderr);
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || *text == 127 ? '.' : *text, stderr);
    fputc('\n', stderr);
}

static void number_line(const char *name, uint64_t value)
{
    fprintf(stderr, "%-13s %" PRIu64 "\n", name, value);
}

static void size_line(const char *name, uint64_t bytes)
{
    char text[16];
    fprintf(stderr, "%-13s %" PRIu64 " (%s)\n", name, bytes, cli_format_size(bytes, text));
}

static void time_line(const char *name, uint64_t ns)
{
    fprintf(stderr, "%-13s %.3f ms\n", name, (double)ns / 1e6);
}

static void print_stats(const struct job *job, const struct csd_result *r)
{
    const struct csd_stats *s = &r->stats;
    const struct bpf_prog *prog = csd_prog(job->program);
    fprintf(stderr, "%-13s %s, %s\n", "mode", bpf_prog_verified(prog) ? "verified" : "checked",
            bpf_prog_compiled(prog) ? "compiled" : "interpreted");
    size_line("read", s->read);
    size_line("appended", s->written);
    size_line("returned", s->returned);
    fprintf(stderr, "%-13s %.4f %%\n", "reduction", (double)s->reduction_ppm / 1e4);
    number_line("requests", s->requests);
    number_line("read errors", s->read_errors);
    number_line("write errors", s->write_errors);
    number_line("instructions", s->instructions);
    time_line("time", s->time_ns);
    time_line("computing", s->compute_ns);
    time_line("waiting", s->wait_ns);
    if (s->time_ns)
        fprintf(stderr, "%-13s %.0f MB/s\n", "speed", (double)s->read / (double)s->time_ns * 1e3);
}

static void print_audit(const struct csd_result *r)
{
    for (unsigned i = 0; i < r->touched_count; i++)
        fprintf(stderr, "%-13s %" PRIu64 ":%" PRIu64 "\n", r->touched[i].written ? "wrote" : "read",
                r->touched[i].offset, r->touched[i].len);
    if (r->coarse)
        fprintf(stderr, "(more places than the log has room for: some entries are joined)\n");
}

static int judge(const struct job *job, const struct csd_result *r)
{
    const struct cli *cli = job->cli;
    const struct csd_stats *s = &r->stats;
    if (s->first_error)
        fprintf(stderr, "%s: byte %" PRIu64 ": %s (%" PRIu64 " of %" PRIu64 " requests failed)\n",
                blk_spec(job->dev), s->error_offset, strerror(-s->first_error),
                s->read_errors + s->write_errors, s->requests);
    if (job->out_error)
        return CLI_FAILED; /* close_out() tells why */
    if (r->error < 0)
        return cli_failed(cli, "%s: %s%s%s", cli->operand[0], strerror(-r->error),
                          *r->message ? ": " : "", r->message);
    const int32_t value = (int32_t)r->value;
    if (value < 0 && value > -134)
        return cli_failed(cli, "%s: the program returned %" PRId32 " (%s)", cli->operand[0], value,
                          strerror(-value));
    return value ? cli_failed(cli, "%s: the program returned %" PRId32, cli->operand[0], value)
                 : CLI_OK;
}

/* Data in other forms than it came. */
static int print_numbers(const struct job *job, const struct csd_result *r, const char *format)
{
    const uint8_t *data = r->data;
    const uint64_t unit = !strcmp(format, "hex") ? 16 : !strcmp(format + 1, "32") ? 4 : 8;
    for (uint64_t at = 0; at < r->size; at += unit) {
        const uint64_t n = min_u64(unit, r->size - at);
        if (*format == 'h') {
            for (uint64_t i = 0; i < n; i++)
                fprintf(job->out, "%02x%s", data[at + i], i + 1 < n ? " " : "\n");
            continue;
        }
        if (n < unit)
            return cli_failed(job->cli, "--format %s: %" PRIu64 " bytes are left over", format, n);
        const uint64_t v = unit == 4 ? load_le32(data + at) : load_le64(data + at);
        if (*format == 'i')
            fprintf(job->out, "%" PRId64 "\n", unit == 4 ? (int32_t)v : (int64_t)v);
        else
            fprintf(job->out, "%" PRIu64 "\n", v);
    }
    return CLI_OK;
}

static int open_out(struct job *job)
{
    const char *path = cli_text(job->cli, "out", NULL);
    job->out = path ? fopen(path, "wbe") : stdout;
    return job->out ? CLI_OK : cli_failed(job->cli, "--out %s: %s", path, strerror(errno));
}

static int close_out(struct job *job)
{
    const char *path = cli_text(job->cli, "out", NULL);
    if (!job->out)
        return CLI_OK;
    if ((path ? fclose(job->out) : fflush(job->out)) && !job->out_error)
        job->out_error = errno;
    return job->out_error ? cli_failed(job->cli, "%s: %s", path ? path : "standard output",
                                       strerror(job->out_error))
                          : CLI_OK;
}

/* ---- run ---------------------------------------------------------------------------------- */

/* A signal ends the run, which is then told of like any other. */
struct watch {
    struct base_thread thread;
    struct csd_run *run;
};
enum { ENOUGH = SIGUSR1 };

static void wait_for_signal(void *arg)
{
    struct watch *w = arg;
    sigset_t signals;
    int number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, ENOUGH);
    if (sigwait(&signals, &number) == 0 && number != ENOUGH)
        csd_cancel(w->run);
}

static int run_program(struct job *job, struct csd_result *result)
{
    struct watch w;
    int error = csd_submit(job->program, &job->call, &w.run);
    if (error < 0)
        return error;
    const bool watched = base_thread_start(&w.thread, wait_for_signal, &w, -1) == 0;
    csd_wait(w.run, result);
    if (watched) {
        kill(getpid(), ENOUGH);
        base_thread_join(&w.thread);
    }
    return 0;
}

static int execute(struct job *job)
{
    struct cli *cli = job->cli;
    const char *format = cli_text(cli, "format", "raw");
    struct csd_result *r = calloc(1, sizeof(*r));
    if (!r)
        return cli_failed(cli, "not enough memory");
    if (!strcmp(format, "raw"))
        job->call.returned = write_out;
    job->call.debug = print_debug;
    job->call.user = job;
    const int error = run_program(job, r);
    int code;
    if (error < 0) {
        code = cli_failed(cli, "%s: the ranges must be of whole %s of %s: %s", cli->operand[0],
                          blk_info(job->dev)->zoned ? "zones" : "blocks", blk_spec(job->dev),
                          strerror(-error));
    } else {
        if (cli_flag(cli, "stats"))
            print_stats(job, r);
        if (cli_flag(cli, "audit"))
            print_audit(r);
        code = judge(job, r);
        if (!job->call.returned && print_numbers(job, r, format) != CLI_OK)
            code = CLI_FAILED;
    }
    csd_result_free(r);
    free(r);
    return code;
}

static int open_device(struct job *job)
{
    struct cli *cli = job->cli;
    struct blk_error err;
    const bool appends = cli_text(cli, "append", NULL) || cli_text(cli, "append-zones", NULL);
    const struct csd_options options = {.workers = 1,
                                        .read_ahead = cli_number(cli, "read-ahead", 0)};
    int code = cli_open_path(cli, cli->operand[1], appends ? 0 : BLK_OPEN_READ_ONLY, &job->dev);
    if (code == CLI_OK && csd_open(job->dev, &options, &job->csd, &err) < 0)
        code = cli_failed(cli, "%s", err.text);
    return code;
}

static int new_job(struct cli *cli, struct job **job)
{
    *job = calloc(1, sizeof(**job));
    char *text = calloc(1, LOG_SIZE);
    if (!*job || !text) {
        free(*job);
        free(text);
        return cli_failed(cli, "not enough memory");
    }
    (*job)->cli = cli;
    (*job)->log = (struct bpf_log){.text = text, .size = LOG_SIZE};
    return CLI_OK;
}

static int end_job(struct job *job, int code)
{
    csd_unload(job->program);
    csd_close(job->csd);
    bpf_module_close(job->module);
    if (close_out(job) != CLI_OK)
        code = CLI_FAILED;
    if (job->dev) {
        cli_report_stats(job->dev, job->cli->operand[1]);
        blk_close(job->dev);
    }
    free(job->log.text);
    free(job);
    return code;
}

static int run_run(struct cli *cli)
{
    struct job *job;
    if (cli_flag(cli, "jit") && cli_flag(cli, "interp"))
        return cli_usage(cli, "--jit and --interp exclude one another");
    int code = new_job(cli, &job);
    if (code != CLI_OK)
        return code;
    sigset_t enough;
    sigemptyset(&enough);
    sigaddset(&enough, ENOUGH);
    sigprocmask(SIG_BLOCK, &enough, NULL);
    cli_block_signals();
    code = read_module(job, cli->operand[0]);
    if (code == CLI_OK)
        code = open_device(job);
    if (code == CLI_OK)
        code = read_call(job);
    if (code == CLI_OK)
        code = load(job);
    if (code == CLI_OK && program_verify(cli, BPF_VERIFY_AUTO) == BPF_VERIFY_AUTO &&
        !bpf_prog_verified(csd_prog(job->program)))
        fprintf(stderr, "%s%s: not proven safe, runs checked\n", job->log.text, cli->operand[0]);
    if (code == CLI_OK)
        code = open_out(job);
    if (code == CLI_OK)
        code = execute(job);
    return end_job(job, code);
}

/* ---- verify ------------------------------------------------------------------------------- */

static int run_verify(struct cli *cli)
{
    struct job *job;
    struct bpf_prog *prog = NULL;
    struct bpf_region regions[CSD_REGIONS];
    struct bpf_helper helpers[CSD_HELPERS];
    struct bpf_environment environment;
    int code = new_job(cli, &job);
    if (code == CLI_OK)
        code = read_module(job, cli->operand[0]);
    if (code == CLI_OK) {
        const struct bpf_options options = {.verify = BPF_VERIFY_REQUIRE,
                                            .engine = BPF_ENGINE_INTERP,
                                            .function = cli_text(cli, "function", NULL)};
        csd_environment(cli_number(cli, "mem", 0), regions, helpers, &environment);
        job->log.verbose = cli_flag(cli, "verbose");
        const int error = bpf_prog_open(job->module, &environment, &options, &prog, &job->log);
        if (error < 0) {
            code = refused(job, error);
        } else {
            fputs(job->log.text, stderr);
            printf("%s: verified\n", cli->operand[0]);
        }
    }
    bpf_prog_close(prog);
    return job ? end_job(job, code) : code;
}

/* ---- tables ------------------------------------------------------------------------------- */

static const char *const formats[] = {"raw", "u64", "i64", "u32", "i32", "hex", NULL};

#define MEM                                                                                        \
    {                                                                                              \
        "mem", CLI_SIZE, "SIZE", "memory that it may ask for; 1M by default"                       \
    }

static const struct cli_option verify_options[] = {
    PROGRAM_FUNCTION,
    MEM,
    {"verbose", CLI_FLAG, NULL, "tell of each instruction that is looked at", .letter = 'v'},
    {0},
};

static const struct cli_option run_options[] = {
    {"range", CLI_TEXT, "OFF:LEN", "bytes that it may read; all of the device by default"},
    {"zones", CLI_TEXT, "A-B", "zones that it may read"},
    {"append", CLI_TEXT, "OFF:LEN", "bytes that it may append to; nothing by default"},
    {"append-zones", CLI_TEXT, "A-B", "zones that it may append to"},
    {"zone-size", CLI_SIZE, "SIZE",
     "on a device without zones: how large it is told that zones are; by default what it may read "
     "is one zone"},
    {"arg", CLI_TEXT, "VALUE",
     "bytes for the program: text, or a number with u8:, u16:, u32:, u64:, i32: or i64: before it; "
     "one after the other. text: before it makes anything a text",
     .repeatable = true},
    MEM,
    {"out", CLI_TEXT, "FILE", "where what it returns goes; standard output by default"},
    {"format", CLI_TEXT, "FORMAT",
     "raw: as it is (the default); numbers, one a line: u64, i64, u32, i32; hex",
     .choices = formats},
    {"stats", CLI_FLAG, NULL, "what it took, on standard error"},
    {"audit", CLI_FLAG, NULL, "where it has been, on standard error: bytes as OFF:LEN"},
    {"verify", CLI_TEXT, "HOW",
     "require: run only what is proven safe; auto: what cannot be proven runs with checks (the "
     "default); checked: prove nothing, check everything",
     .choices = program_verify_choices},
    {"jit", CLI_FLAG, NULL, "compile it, or fail"},
    {"interp", CLI_FLAG, NULL, "interpret it; by default it is compiled where that is possible"},
    PROGRAM_FUNCTION,
    {"budget", CLI_COUNT, "N",
     "instructions after which it is ended; 2^32, and 256 for each byte that it may read, by "
     "default"},
    {"timeout", CLI_TIME, "TIME", "time after which it is ended; an hour by default"},
    {"max-return", CLI_SIZE, "SIZE", "returned bytes after which it is ended; 1G by default"},
    {"read-ahead", CLI_SIZE, "SIZE", "bytes that are read in advance; 4M by default"},
    {0},
};

static const struct cli_example run_examples[] = {
    {"ashlar csd run entropy.o file:disk.img --out bins --stats",
     "256 counts and the entropy of all of a device"},
    {"ashlar csd run grep.o app.log --arg ERROR --format u64", "lines that hold a text"},
    {"ashlar csd run filter.o 'zns:mem:4G?zone=64M' --zones 0-3 --arg i32:1000 --format u64",
     "a count over four zones"},
    {"ashlar csd run lz.o file:disk.img --range 0:64M --append 64M:64M --format u64",
     "compress the first 64 MiB into the next"},
    {0},
};

static const struct cli_example verify_examples[] = {
    {"ashlar csd verify count.o", "is it safe on any device?"},
    {0},
};

const struct cli_command cli_csd_run = {
    .name = "csd run",
    .operands = "PROGRAM.o DEVICE",
    .min_operands = 2,
    .max_operands = 2,
    .summary = "run an eBPF program beside the data of a device",
    .description =
        "PROGRAM.o is C compiled by `clang -target bpf -O2 -c`; DEVICE may also be the name of a "
        "file. "
        "It is verified, compiled, and run "
        "on the device; what it returns goes to standard output. It sees what it may read, what it "
        "may append to, and the bytes of --arg; nothing else exists for it, so a program may come "
        "from anyone.\n\n"
        "The exit code is 0 if the program's function returned 0. SIGINT and SIGTERM end the run; "
        "what was returned until then is kept. docs/csd.md tells how programs are written.",
    .options = run_options,
    .examples = run_examples,
    .run = run_run,
};

const struct cli_command cli_csd_verify = {
    .name = "csd verify",
    .operands = "PROGRAM.o",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "prove that a program for `csd run` is safe",
    .description = "Nothing is run. If it cannot be proven, the log tells the instruction, the "
                   "line of the source, what is known at that place, and why.",
    .options = verify_options,
    .examples = verify_examples,
    .run = run_verify,
};
