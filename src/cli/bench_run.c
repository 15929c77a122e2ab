/* Running the matrix: paths are opened once, then round after round every job on every path. */
#include "cli/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the machine ----------------------------------------------------------------------- */

/* The value of the first line of a file that starts with key. */
static void read_key(const char *file, const char *key, char *out, size_t size)
{
    char line[256];
    FILE *f = fopen(file, "re");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, key, strlen(key))) {
            char *value = line + strcspn(line, ":");
            value += strspn(value, ": \t");
            value[strcspn(value, "\n")] = '\0';
            snprintf(out, size, "%s", value);
            break;
        }
    if (f)
        fclose(f);
}

void bench_machine_get(struct bench_machine *machine)
{
    struct utsname u;
    time_t now = time(NULL);
    struct tm tm;
    memset(machine, 0, sizeof(*machine));
    if (uname(&u) == 0)
        snprintf(machine->kernel, sizeof(machine->kernel), "%.20s %.80s %.20s", u.sysname,
                 u.release, u.machine);
    snprintf(machine->cpu, sizeof(machine->cpu), "unknown");
    read_key("/proc/cpuinfo", "model name", machine->cpu, sizeof(machine->cpu));
    machine->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    machine->memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    gmtime_r(&now, &tm);
    strftime(machine->date, sizeof(machine->date), "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* ---- paths ----------------------------------------------------------------------------- */

static void stop_server(struct bench_path *p)
{
    if (p->server <= 0)
        return;
    kill(p->server, SIGTERM);
    waitpid(p->server, NULL, 0);
    p->server = 0;
}

/* Write all of a device once, so that reads find data and no block is allocated while measuring. */
static int fill(struct bench_matrix *m, struct bench_path *p, uint64_t size)
{
    struct bench_job job = BENCH_JOB_DEFAULT;
    struct bench_result result;
    struct blk_error err;
    int error = 0;
    job.read_percent = 0;
    job.block = 1 << 20;
    job.depth = 4;
    job.runtime = 0;
    job.count = size / job.block;
    job.stop = &m->stopped;
    if (p->remote)
        error = p->kind->remote->run(p->remote, &job, &result, err.text);
    else if (job.count)
        error = bench_run(p->dev, &job, &result, &err);
    if (error < 0)
        snprintf(p->unavailable, sizeof(p->unavailable), "cannot be filled: %.200s", err.text);
    return error;
}

static void open_remote(struct bench_matrix *m, struct bench_path *p,
                        const struct bench_place *place)
{
    p->remote = p->kind->remote->start(p->kind, place, p->spec, p->unavailable);
    if (!p->remote)
        return;
    p->unavailable[0] = '\0';
    if (p->fill && fill(m, p, place->size) < 0) {
        p->kind->remote->stop(p->remote);
        p->remote = NULL;
    }
}

static bool has_job(const struct bench_matrix *m, unsigned path)
{
    for (unsigned j = 0; j < m->job_count; j++)
        if (bench_applies(m, path, j))
            return true;
    return false;
}

static void open_path(struct bench_matrix *m, struct bench_path *p, const struct bench_place *place)
{
    struct blk_error err;
    const char *why = p->kind ? p->kind->unavailable() : NULL;
    if (why)
        snprintf(p->unavailable, sizeof(p->unavailable), "%s", why);
    if (!why && p->kind && p->kind->remote) {
        open_remote(m, p, place);
        return;
    }
    if (why || (p->kind && p->kind->start(place, p->spec, &p->server, p->unavailable) < 0))
        return;
    bool writes = false;
    for (unsigned j = 0; j < m->job_count; j++)
        writes |= m->job[j].job.read_percent < 100 || m->job[j].job.verify == BENCH_VERIFY_WRITE ||
                  m->job[j].job.verify == BENCH_VERIFY_FILL;
    unsigned flags = writes || p->fill ? 0 : BLK_OPEN_READ_ONLY;
    if (blk_open(p->spec, flags, &p->dev, &err) < 0) {
        snprintf(p->unavailable, sizeof(p->unavailable), "%.250s", err.text);
        p->dev = NULL;
        return;
    }
    if (p->fill && fill(m, p, blk_info(p->dev)->size) < 0) {
        blk_close(p->dev);
        p->dev = NULL;
    }
}

static void report_line(void *arg, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static void close_path(struct bench_path *p)
{
    if (p->dev && !p->kind)
        blk_report(p->dev, report_line, NULL);
    if (p->dev)
        blk_close(p->dev);
    p->dev = NULL;
    if (p->remote)
        p->kind->remote->stop(p->remote);
    p->remote = NULL;
    stop_server(p);
}

/* ---- figures --------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct bench_spread spread(const double *values, unsigned n)
{
    double sorted[BENCH_MAX_ROUNDS];
    memcpy(sorted, values, n * sizeof(*values));
    qsort(sorted, n, sizeof(*sorted), by_value);
    return (struct bench_spread){(sorted[(n - 1) / 2] + sorted[n / 2]) / 2, sorted[0],
                                 sorted[n - 1]};
}

static void add_round(struct bench_cell *c, const struct bench_result *r)
{
    double seconds = (double)r->elapsed / 1e9;
    uint64_t count = r->read.count + r->write.count, bytes = r->read.bytes + r->write.bytes;
    c->iops[c->rounds] = seconds > 0 ? (double)count / seconds : 0;
    c->mbps[c->rounds] = seconds > 0 ? (double)bytes / seconds / 1e6 : 0;
    c->side[c->rounds] = r->read.count >= r->write.count ? r->read : r->write;
    c->last = *r;
    c->rounds++;
}

static void sum_up(struct bench_cell *c)
{
    double distance = -1;
    if (!c->rounds)
        return;
    c->iops_spread = spread(c->iops, c->rounds);
    c->mbps_spread = spread(c->mbps, c->rounds);
    for (unsigned i = 0; i < c->rounds; i++) {
        double d = c->iops[i] - c->iops_spread.median;
        d = d < 0 ? -d : d;
        if (distance < 0 || d < distance) {
            distance = d;
            c->typical = c->side[i];
        }
    }
}

/* ---- the rounds ------------------------------------------------------------------------ */

static struct bench_matrix *running; /* for the signal handler alone */

static void on_signal(int number)
{
    (void)number;
    if (running)
        __atomic_store_n(&running->stopped, true, __ATOMIC_RELAXED);
}

static bool stopped(const struct bench_matrix *m)
{
    return __atomic_load_n(&m->stopped, __ATOMIC_RELAXED);
}

static void run_cell(struct bench_matrix *m, unsigned path, unsigned job)
{
    struct bench_cell *c = bench_cell(m, path, job);
    struct bench_result r = {0};
    struct blk_error err;
    const struct bench_path *p = &m->path[path];
    int error;
    if ((!p->dev && !p->remote) || c->error[0] || !bench_applies(m, path, job))
        return;
    m->job[job].job.stop = &m->stopped;
    if (p->remote)
        error = p->kind->remote->run(p->remote, &m->job[job].job, &r, err.text);
    else
        error = bench_run(p->dev, &m->job[job].job, &r, &err);
    if (stopped(m))
        return;
    if (error == 0)
        add_round(c, &r);
    else
        snprintf(c->error, sizeof(c->error), "%.250s", err.text);
    c->last = r;
    if (p->remote && p->kind->remote->returned)
        c->returned = p->kind->remote->returned(p->remote);
}

static void run_rounds(struct bench_matrix *m)
{
    uint64_t total = (uint64_t)m->rounds * m->job_count * m->path_count, done = 0;
    for (unsigned round = 0; round < m->rounds; round++)
        for (unsigned job = 0; job < m->job_count; job++)
            for (unsigned path = 0; path < m->path_count && !stopped(m); path++) {
                cli_progress("measure", done++, total);
                run_cell(m, path, job);
            }
    cli_progress_end();
    for (unsigned i = 0; i < m->path_count * m->job_count; i++)
        sum_up(&m->cell[i]);
}

int bench_matrix_run(struct bench_matrix *m, const struct bench_place *place)
{
    struct sigaction action = {.sa_handler = on_signal}, old_int, old_term;
    m->cell = calloc((size_t)m->path_count * m->job_count, sizeof(*m->cell));
    if (!m->cell)
        return cli_failed(m->cli, "out of memory");
    running = m;
    sigaction(SIGINT, &action, &old_int);
    sigaction(SIGTERM, &action, &old_term);
    for (unsigned i = 0; i < m->path_count && !stopped(m); i++) {
        cli_progress("prepare", i, m->path_count);
        if (has_job(m, i))
            open_path(m, &m->path[i], place);
    }
    cli_progress_end();
    if (!stopped(m))
        run_rounds(m);
    for (unsigned i = 0; i < m->path_count; i++)
        close_path(&m->path[i]);
    running = NULL;
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    return stopped(m) ? cli_failed(m->cli, "stopped by a signal") : CLI_OK;
}
