/* The table on standard output. */
#include "cli/bench.h"

#include <inttypes.h>
#include <string.h>

char *bench_format_time(uint64_t ns, char out[16])
{
    if (!ns)
        snprintf(out, 16, "-"); /* not told */
    else if (ns < 10000)
        snprintf(out, 16, "%.2f us", (double)ns / 1e3);
    else if (ns < 1000000)
        snprintf(out, 16, "%.0f us", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(out, 16, "%.1f ms", (double)ns / 1e6);
    else
        snprintf(out, 16, "%.1f s", (double)ns / 1e9);
    return out;
}

/* Three digits: 812, 9.41k, 12.3M. */
static void three_digits(double value, char *out, size_t size)
{
    static const char *const units[] = {"", "k", "M", "G"};
    unsigned unit = 0;
    for (; value >= 999.5 && unit < 3; unit++)
        value /= 1000;
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(out, size, "%.*f%s", decimals, value, units[unit]);
}

char *bench_format_figure(double value, bool bandwidth, char out[32])
{
    static const char *const units[] = {"MB/s", "GB/s", "TB/s"};
    unsigned unit = 0;
    char digits[16];
    if (!bandwidth) {
        three_digits(value, digits, sizeof(digits));
        snprintf(out, 32, "%s IOPS", digits);
        return out;
    }
    for (; value >= 999.5 && unit < 2; unit++)
        value /= 1000;
    three_digits(value, digits, sizeof(digits));
    snprintf(out, 32, "%s %s", digits, units[unit]);
    return out;
}

static void print_row(const struct bench_matrix *m, unsigned path, unsigned job)
{
    const struct bench_cell *c = bench_cell(m, path, job);
    const struct bench_spread *s = bench_figure(m, path, job);
    bool bandwidth = m->job[job].bandwidth;
    char median[32], min[32], max[32], p50[16], p99[16];
    if (!c->rounds) {
        printf("  %-32.32s %s\n", m->path[path].title,
               c->error[0] ? "failed" : "no figure (see below)");
        return;
    }
    bench_format_figure(s->median, bandwidth, median);
    bench_format_figure(s->min, bandwidth, min);
    bench_format_figure(s->max, bandwidth, max);
    if (!bandwidth)
        min[strcspn(min, " ")] = max[strcspn(max, " ")] = '\0';
    printf("  %-32.32s %10s   %9s - %-9s", m->path[path].title, median, min, max);
    if (m->job[job].question)
        printf("  %8" PRIu64 " bytes\n", c->returned);
    else
        printf("  %8s %8s\n", bench_format_time(c->typical.p50, p50),
               bench_format_time(c->typical.p99, p99));
}

void bench_print_table(const struct bench_matrix *m)
{
    const struct bench_job *first = &m->job[0].job;
    char time[16];
    if (first->runtime)
        printf("%u round%s of %s each", m->rounds, m->rounds == 1 ? "" : "s",
               bench_format_time(first->runtime, time));
    else
        printf("%u round%s", m->rounds, m->rounds == 1 ? "" : "s");
    printf("; median, lowest and highest round; latency p50 and p99, or what reached the caller\n");
    for (unsigned j = 0; j < m->job_count; j++) {
        unsigned told = 0;
        for (unsigned p = 0; p < m->path_count; p++) {
            if (m->path[p].unavailable[0] || !bench_applies(m, p, j))
                continue;
            if (!told++)
                printf("\n%s\n", m->job[j].title);
            print_row(m, p, j);
        }
    }
    for (unsigned p = 0; p < m->path_count; p++)
        if (m->path[p].unavailable[0])
            printf("\nnot measured: %s: %s\n", m->path[p].name, m->path[p].unavailable);
    fflush(stdout);
}
