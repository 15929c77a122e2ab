/* ashlar bench: the standard set over every path of this machine, or one job on given devices. */
#include "cli/bench.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/util.h"
#include "bench/option.h"

/* The whole standard set takes about this long on the paths there are, and so much longer if there
 * are guests among them. */
#define BUDGET       (110 * BENCH_SECOND)
#define BUDGET_GUEST (40 * BENCH_SECOND)

/* ---- jobs ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    const char *title;
    bool bandwidth;
    enum bench_pattern pattern;
    unsigned read_percent;
    uint32_t block;
    unsigned depth;
} standard[] = {
    {"randread-4k-qd1", "4 KiB random read, depth 1", false, BENCH_RANDOM, 100, 4096, 1},
    {"randread-4k-qd32", "4 KiB random read, depth 32", false, BENCH_RANDOM, 100, 4096, 32},
    {"randwrite-4k-qd1", "4 KiB random write, depth 1", false, BENCH_RANDOM, 0, 4096, 1},
    {"randwrite-4k-qd32", "4 KiB random write, depth 32", false, BENCH_RANDOM, 0, 4096, 32},
    {"read-64k-qd4", "64 KiB sequential read, depth 4", true, BENCH_SEQUENTIAL, 100, 65536, 4},
    {"write-64k-qd4", "64 KiB sequential write, depth 4", true, BENCH_SEQUENTIAL, 0, 65536, 4},
    {"read-1m-qd4", "1 MiB sequential read, depth 4", true, BENCH_SEQUENTIAL, 100, 1 << 20, 4},
    {"write-1m-qd4", "1 MiB sequential write, depth 4", true, BENCH_SEQUENTIAL, 0, 1 << 20, 4},
};

/* Is word in the comma-separated list? An empty list holds all. */
static bool listed(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == len && !memcmp(at, word, len))
            return true;
    return !list;
}

/* The job that the options describe. */
static int read_options(const struct cli *cli, uint64_t runtime, struct bench_options *options)
{
    struct blk_error err;
    bench_options_init(options);
    for (unsigned i = 0; bench_option_name(i); i++) {
        const char *name = bench_option_name(i);
        const char *value = cli_text(cli, name, NULL);
        if (value && bench_option_set(options, name, value, &err) < 0)
            return cli_usage(cli, "%s", err.text);
    }
    return bench_options_finish(options, runtime, &err) < 0 ? cli_usage(cli, "%s", err.text)
                                                            : CLI_OK;
}

static void standard_jobs(struct bench_matrix *m, bool writes, const struct bench_options *o)
{
    const struct cli *cli = m->cli;
    for (unsigned i = 0; i < ARRAY_SIZE(standard); i++) {
        struct bench_named_job *j = &m->job[m->job_count];
        if (!listed(cli_text(cli, "jobs", NULL), standard[i].name) ||
            (!writes && standard[i].read_percent < 100))
            continue;
        *j = (struct bench_named_job){standard[i].name, standard[i].title, standard[i].bandwidth,
                                      o->job};
        j->job.pattern = standard[i].pattern;
        j->job.read_percent = standard[i].read_percent;
        j->job.block = standard[i].block;
        j->job.depth = standard[i].depth;
        m->job_count++;
    }
}

static void own_job(struct bench_matrix *m, const struct bench_options *o)
{
    static char title[128];
    char size[16];
    snprintf(title, sizeof(title), "%s %s, depth %u, %u thread%s%s",
             cli_format_size(o->job.block, size), o->rw, o->job.depth, o->job.threads,
             o->job.threads == 1 ? "" : "s", o->verify[0] ? ", verified" : "");
    m->job[m->job_count++] = (struct bench_named_job){"job", title, o->job.block >= 65536, o->job};
}

/* ---- paths ----------------------------------------------------------------------------- */

static void standard_paths(struct bench_matrix *m)
{
    const char *list = cli_text(m->cli, "paths", NULL);
    for (const struct bench_path_kind *k = bench_path_kinds; k->name; k++) {
        if (!listed(list, k->name) || m->path_count == BENCH_MAX_PATHS)
            continue;
        m->path[m->path_count++] = (struct bench_path){
            .kind = k,
            .name = k->name,
            .title = k->title,
            .family = k->family,
            .peer = k->peer,
            .fill = k->fill,
        };
    }
}

/* How long a job may take, so that all together stay within the budget. */
static uint64_t standard_runtime(const struct bench_matrix *m)
{
    uint64_t paths = 0, budget = BUDGET;
    for (unsigned p = 0; p < m->path_count; p++) {
        const struct bench_path_kind *k = m->path[p].kind;
        if (k && k->unavailable())
            continue;
        paths++;
        if (k && k->remote)
            budget = BUDGET + BUDGET_GUEST;
    }
    uint64_t cells = m->rounds * max_u64(paths, 1) * max_u64(m->job_count, 1);
    return min_u64(budget / cells, 2 * BENCH_SECOND);
}

static int given_paths(struct bench_matrix *m)
{
    for (unsigned i = 0; i < m->cli->operand_count; i++) {
        const char *spec = m->cli->operand[i];
        struct bench_path *p = &m->path[m->path_count++];
        *p = (struct bench_path){.name = spec, .title = spec, .family = "Devices"};
        if ((size_t)snprintf(p->spec, sizeof(p->spec), "%s", spec) >= sizeof(p->spec))
            return cli_usage(m->cli, "a device has over %zu bytes", sizeof(p->spec) - 1);
    }
    return CLI_OK;
}

static int check_names(const struct cli *cli, const char *option, bool (*known)(const char *name))
{
    const char *list = cli_text(cli, option, NULL);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',') {
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, ","), at);
        if (!known(name))
            return cli_usage(cli, "--%s: there is no '%s' (--list shows all)", option, name);
    }
    return CLI_OK;
}

static bool known_path(const char *name)
{
    for (const struct bench_path_kind *k = bench_path_kinds; k->name; k++)
        if (!strcmp(k->name, name))
            return true;
    return false;
}

static bool known_job(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(standard); i++)
        if (!strcmp(standard[i].name, name))
            return true;
    return false;
}

static int list_all(void)
{
    printf("paths:\n");
    for (const struct bench_path_kind *k = bench_path_kinds; k->name; k++) {
        const char *why = k->unavailable();
        printf("  %-18s %s%s%s%s\n", k->name, k->title, why ? " (not here: " : "", why ? why : "",
               why ? ")" : "");
    }
    printf("jobs:\n");
    for (unsigned i = 0; i < ARRAY_SIZE(standard); i++)
        printf("  %-18s %s\n", standard[i].name, standard[i].title);
    return CLI_OK;
}

/* ---- the folder ------------------------------------------------------------------------ */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Three files, at most three quarters of what is free. */
static int make_place(const struct bench_matrix *m, struct bench_place *place, char dir[256])
{
    const struct cli *cli = m->cli;
    struct statvfs fs;
    const char *parent = cli_text(cli, "dir", getenv("TMPDIR"));
    snprintf(dir, 256, "%.200s/ashlar-bench-XXXXXX", parent ? parent : "/var/tmp");
    if (!mkdtemp(dir))
        return cli_failed(cli, "%s: no folder can be made: %s", dir, strerror(errno));
    place->dir = dir;
    place->stop = &m->stopped;
    place->size = round_down(cli_number(cli, "size", 512 << 20), 1 << 20);
    if (place->size < 1 << 20)
        return cli_usage(cli, "--size must be at least 1M");
    if (statvfs(dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize / 4 < place->size)
        return cli_failed(cli, "%s: too little is free; use --size or --dir", dir);
    return CLI_OK;
}

/* ---- results --------------------------------------------------------------------------- */

static int print_verified(const struct bench_matrix *m)
{
    int code = CLI_OK;
    for (unsigned p = 0; p < m->path_count; p++) {
        const struct bench_cell *c = bench_cell(m, p, 0);
        const struct bench_result *r = &c->last;
        if (c->error[0] && !r->damaged)
            continue; /* the table told */
        printf("%s: ", m->path[p].name);
        if (r->checked)
            printf("%" PRIu64 " blocks checked, %" PRIu64 " damaged\n", r->checked, r->damaged);
        else
            printf("%" PRIu64 " blocks written\n", r->write.count);
        for (uint64_t i = 0; i < min_u64(r->damaged, BENCH_DAMAGE_MAX); i++)
            printf("  %s at %" PRIu64 " (found %" PRIu64 ")\n",
                   bench_damage_name(r->damage[i].kind), r->damage[i].offset, r->damage[i].found);
        if (r->damaged)
            code = CLI_FAILED;
    }
    return code;
}

/* A path of this machine that is missing is told; a device that the user named must work. */
static int judge(const struct bench_matrix *m)
{
    int code = CLI_OK;
    for (unsigned p = 0; p < m->path_count; p++) {
        if (m->path[p].unavailable[0] && !m->path[p].kind)
            code = cli_failed(m->cli, "%s", m->path[p].unavailable);
        for (unsigned j = 0; j < m->job_count; j++)
            if (bench_cell(m, p, j)->error[0])
                code = cli_failed(m->cli, "%s: %s: %s", m->path[p].name, m->job[j].title,
                                  bench_cell(m, p, j)->error);
    }
    return code;
}

static int output(const struct bench_matrix *m)
{
    const char *json = cli_text(m->cli, "json", NULL);
    const char *report = cli_text(m->cli, "report", NULL);
    const char *old = cli_text(m->cli, "compare", NULL);
    bench_print_table(m);
    int code = judge(m);
    if (m->job[0].job.verify && print_verified(m) != CLI_OK)
        code = CLI_FAILED;
    if (json && bench_write_json(m, json) != CLI_OK)
        code = CLI_FAILED;
    if (report && bench_write_report(m, report) != CLI_OK)
        code = CLI_FAILED;
    if (old && bench_compare(m, old) != CLI_OK)
        code = CLI_FAILED;
    return code;
}

static int run_standard(struct bench_matrix *m)
{
    struct bench_place place = {0};
    char dir[256] = "";
    int code = make_place(m, &place, dir);
    if (code == CLI_OK) {
        m->size = place.size;
        code = bench_matrix_run(m, &place);
    }
    if (*dir)
        nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return code;
}

static bool has_own_job(const struct cli *cli)
{
    static const char *const names[] = {"rw",          "bs",     "depth",     "threads",
                                        "count",       "total",  "rate",      "mix",
                                        "flush-every", "verify", "generation"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (cli_text(cli, names[i], NULL))
            return true;
    return false;
}

/* The standard set, on all its paths, has a time that it should take. */
static void set_runtime(struct bench_matrix *m, const struct bench_options *options)
{
    const uint64_t runtime = cli_flag(m->cli, "quick") ? BENCH_SECOND / 20 : standard_runtime(m);
    for (unsigned i = 0; i < m->job_count; i++) {
        m->job[i].job.runtime = runtime;
        if (!options->warmup_given)
            m->job[i].job.warmup = runtime / 10;
    }
}

static int set_up(struct bench_matrix *m)
{
    const struct cli *cli = m->cli;
    bool own = has_own_job(cli);
    int code = check_names(cli, "paths", known_path);
    if (code == CLI_OK)
        code = check_names(cli, "jobs", known_job);
    if (code != CLI_OK)
        return code;
    m->rounds = (unsigned)min_u64(cli_number(cli, "rounds",
                                             own                      ? 1
                                             : cli_flag(cli, "quick") ? 1
                                                                      : 3),
                                  BENCH_MAX_ROUNDS);
    if (!m->rounds)
        return cli_usage(cli, "--rounds must be at least 1");
    if (cli->operand_count && cli_text(cli, "paths", NULL))
        return cli_usage(cli, "--paths chooses among this machine's own; DEVICEs are given");
    if (cli->operand_count)
        code = given_paths(m);
    else
        standard_paths(m);
    struct bench_options options;
    if (code == CLI_OK)
        code = read_options(cli, cli_flag(cli, "quick") ? BENCH_SECOND / 20 : 3 * BENCH_SECOND,
                            &options);
    if (code != CLI_OK)
        return code;
    if (!cli->operand_count)
        options.job.range = 0; /* --size is that of the devices that are made */
    if (own)
        own_job(m, &options);
    else
        standard_jobs(m, !cli->operand_count || cli_flag(cli, "writes"), &options);
    if (!m->job_count)
        return cli_usage(cli, "no job is left (jobs that write need --writes)");
    if (!own && !options.runtime_given)
        set_runtime(m, &options);
    return CLI_OK;
}

static int run(struct cli *cli)
{
    struct bench_matrix *m = calloc(1, sizeof(*m));
    if (!m)
        return cli_failed(cli, "out of memory");
    m->cli = cli;
    int code;
    if (cli_flag(cli, "list")) {
        code = list_all();
    } else {
        code = set_up(m);
        if (code == CLI_OK)
            code = cli->operand_count ? bench_matrix_run(m, NULL) : run_standard(m);
        if (code == CLI_OK)
            code = output(m);
    }
    free(m->cell);
    free(m);
    return code;
}

static const char *const rw_choices[] = {"read", "write",  "randread", "randwrite",
                                         "rw",   "randrw", "append",   NULL};
static const char *const pin_choices[] = {"auto", "on", "off", NULL};
static const char *const verify_choices[] = {"write", "fill", "check", NULL};

static const struct cli_option options[] = {
    {"rw", CLI_TEXT, "PATTERN",
     "read, write, randread, randwrite, rw or randrw (mixes), append (zone append); read by "
     "default",
     false, rw_choices},
    {"mix", CLI_COUNT, "PERCENT", "share of reads in a mix; 50 by default"},
    {"bs", CLI_SIZE, "SIZE", "bytes of a request; 4K by default"},
    {"depth", CLI_COUNT, "N", "requests in flight on each queue; 1 by default"},
    {"threads", CLI_COUNT, "N", "threads, each with its own queue; 1 by default"},
    {"time", CLI_TIME, "TIME",
     "measured time of a job; 3s by default, less in the standard set, so that it ends in about "
     "six minutes"},
    {"count", CLI_COUNT, "N", "stop after so many requests instead"},
    {"total", CLI_SIZE, "SIZE", "stop after so many bytes instead"},
    {"warmup", CLI_TIME, "TIME", "time before the measured time; a tenth of it by default"},
    {"offset", CLI_SIZE, "SIZE", "start of the range that is used; 0 by default"},
    {"size", CLI_SIZE, "SIZE",
     "length of the range; without DEVICEs, the size of the devices that are made (512M by "
     "default)"},
    {"rate", CLI_COUNT, "N", "at most so many requests a second; no limit by default"},
    {"flush-every", CLI_COUNT, "N", "a flush after every N writes of a thread"},
    {"seed", CLI_COUNT, "N", "seed of the random numbers; 1 by default"},
    {"verify", CLI_TEXT, "WHAT",
     "write: write every block of the range once and check it; fill: write only; check: prove that "
     "nothing of an earlier pass was lost, moved or torn. Both runs need the same --bs, --seed, "
     "--offset and --size",
     false, verify_choices},
    {"generation", CLI_COUNT, "N",
     "number of the verified pass; when checking, older blocks are stale; 1 by default"},
    {"pin", CLI_TEXT, "WHEN",
     "pin each thread to a processor: on, off, or auto (the default): if there are several", false,
     pin_choices},
    {"rounds", CLI_COUNT, "N", "rounds of the whole set; 3 by default, 1 for a job of your own"},
    {"writes", CLI_FLAG, NULL,
     "with DEVICEs: also run the standard jobs that write, which destroys what is on them"},
    {"paths", CLI_TEXT, "LIST", "only these paths, separated by commas"},
    {"jobs", CLI_TEXT, "LIST", "only these jobs of the standard set, separated by commas"},
    {"list", CLI_FLAG, NULL, "list the paths and jobs and end"},
    {"quick", CLI_FLAG, NULL, "one short round: does everything work?"},
    {"dir", CLI_TEXT, "PATH", "folder for files; TMPDIR or /var/tmp by default; not a tmpfs"},
    {"json", CLI_TEXT, "FILE", "write all figures of all rounds"},
    {"report", CLI_TEXT, "FILE", "write a page with charts"},
    {"compare", CLI_TEXT, "FILE", "say what is faster or slower than in an earlier --json file"},
    {0},
};

static const struct cli_example examples[] = {
    {"ashlar bench --report report.html", "every path of this machine, and a page about it"},
    {"ashlar bench file:/dev/nvme0n1?direct=on --rw randread --depth 32 --threads 2",
     "one job on one device"},
    {"ashlar bench mem:1G 'stats,delay?read=50us,mem:1G' --rw randread", "what a filter costs"},
    {"ashlar bench file:disk.img --verify fill --seed 7; ashlar bench file:disk.img --verify check "
     "--seed 7",
     "write now, prove later"},
    {0},
};

const struct cli_command cli_bench = {
    .name = "bench",
    .operands = "[DEVICE...]",
    .max_operands = BENCH_MAX_PATHS,
    .summary = "measure what each path to storage costs",
    .description =
        "Without DEVICEs it runs the standard set of jobs over every path that this machine "
        "offers, ours and those of other projects, through the same client. Rounds are "
        "interleaved (every path, then every path again), and the table shows medians with their "
        "spread, because machines are noisy.\n\n"
        "With DEVICEs it runs the jobs on those: the standard ones that only read, or one job that "
        "you describe with --rw, --bs, --depth and so on. A job that writes destroys what is on "
        "the device.\n\n"
        "Latency is from just before a batch is submitted to just after it is reaped. The figures "
        "of a rate-limited job count from the actual, not the intended start.",
    .options = options,
    .examples = examples,
    .run = run,
};
