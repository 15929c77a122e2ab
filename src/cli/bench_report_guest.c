/*
 * The section of the report that answers what the layers between a storage engine and its disk cost
 * in the unikernel, and how it stands beside a Linux guest: sentences made from the figures. A
 * sentence is there only if both of its paths have figures.
 */
#include "cli/bench.h"

#include <string.h>

/* `path` against `base`, the same requests with less in between, or another system. */
struct question {
    const char *path;
    const char *base;
    const char *subject;
    bool layer; /* a layer above base: its cost is what it takes longer */
};

static const struct question questions[] = {
    {"unikernel-null-irq", "unikernel-null", "Waiting for interrupts instead of polling", true},
    {"unikernel-vfs", "unikernel-null", "Going through the VFS (/dev/vda)", true},
    {"unikernel-syscall", "unikernel-null", "Going through system calls (on /dev/vda)", true},
    {"unikernel-file-irq", "unikernel-file", "Waiting for interrupts, with a raw file below", true},
    {"unikernel-9p", "unikernel-file",
     "A file over 9P (through the host's page cache) instead of a disk made of the same file",
     true},
    {"unikernel-null", "guest-linux-null", "The unikernel, polled, on QEMU's null disk", false},
    {"unikernel-null-irq", "guest-linux-null", "The unikernel with interrupts on the null disk",
     false},
    {"unikernel-syscall", "guest-linux-null", "The unikernel by system calls on the null disk",
     false},
    {"unikernel-file", "guest-linux-file", "The unikernel, polled, on a raw file", false},
    {"unikernel-file", "qemu-img-file", "The unikernel, polled, on a raw file", false},
    {"guest-linux-file", "qemu-img-file", "The Linux guest on a raw file", false},
};

enum { QUESTIONS = sizeof(questions) / sizeof(questions[0]) };

static int find_path(const struct bench_matrix *m, const char *name)
{
    for (unsigned p = 0; p < m->path_count; p++)
        if (!strcmp(m->path[p].name, name))
            return (int)p;
    return -1;
}

/* Of the standard set those that say most; of other sets all. */
static bool tells(const struct bench_named_job *job)
{
    static const char *const names[] = {"randread-4k-qd1", "randread-4k-qd32", "read-1m-qd4",
                                        "job"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(job->name, names[i]))
            return true;
    return false;
}

static double median(const struct bench_matrix *m, int path, unsigned job)
{
    if (path < 0 || !bench_cell(m, (unsigned)path, job)->rounds)
        return 0;
    return bench_figure(m, (unsigned)path, job)->median;
}

static bool has_answer(const struct bench_matrix *m, const struct question *q, unsigned job)
{
    return tells(&m->job[job]) && median(m, find_path(m, q->path), job) > 0 &&
           median(m, find_path(m, q->base), job) > 0;
}

/* "costs 3.10 us a request: 96.2k IOPS are 61 % of 158k IOPS" */
static void say_layer(FILE *f, const struct bench_matrix *m, unsigned job, double with,
                      double without, const char *base)
{
    bool bandwidth = m->job[job].bandwidth;
    char a[32], b[32], time[16];
    /* IOPS are of requests in flight together: what each takes of the processor. */
    double ns = bandwidth ? 0 : 1e9 / with - 1e9 / without;
    fprintf(f, "%s, ", bench_format_figure(with, bandwidth, a));
    if (ns > 0)
        fprintf(f, "<strong>%s a request more</strong> than ",
                bench_format_time((uint64_t)(ns + 0.5), time));
    else
        fprintf(f, "against ");
    bench_report_text(f, base);
    fprintf(f, " (%s; %.0f %% of it)", bench_format_figure(without, bandwidth, b),
            with / without * 100);
}

/* "<strong>4.10 times</strong> the Linux guest (158k against 38.5k IOPS)" */
static void say_peer(FILE *f, const struct bench_matrix *m, unsigned job, double own, double other,
                     const char *base)
{
    bool bandwidth = m->job[job].bandwidth;
    char a[32], b[32];
    fprintf(f, "<strong>%.2f times</strong> ", own / other);
    bench_report_text(f, base);
    fprintf(f, " (%s against %s)", bench_format_figure(own, bandwidth, a),
            bench_format_figure(other, bandwidth, b));
}

static void answer(FILE *f, const struct bench_matrix *m, const struct question *q)
{
    int path = find_path(m, q->path), base = find_path(m, q->base);
    bool first = true;
    for (unsigned j = 0; j < m->job_count; j++) {
        if (!has_answer(m, q, j))
            continue;
        fprintf(f, first ? "<li>" : "; ");
        if (first)
            bench_report_text(f, q->subject);
        fprintf(f, first ? ": " : "");
        first = false;
        bench_report_text(f, m->job[j].title);
        fprintf(f, ": ");
        double x = median(m, path, j), y = median(m, base, j);
        if (q->layer)
            say_layer(f, m, j, x, y, m->path[base].title);
        else
            say_peer(f, m, j, x, y, m->path[base].title);
    }
    if (!first)
        fprintf(f, ".</li>\n");
}

/* The first answer to one kind of question? */
static bool any(const struct bench_matrix *m, bool layer)
{
    for (unsigned i = 0; i < QUESTIONS; i++)
        for (unsigned j = 0; j < m->job_count; j++)
            if (questions[i].layer == layer && has_answer(m, &questions[i], j))
                return true;
    return false;
}

static void answers(FILE *f, const struct bench_matrix *m, bool layer, const char *title)
{
    if (!any(m, layer))
        return;
    fprintf(f, "<p>%s</p>\n<ul class=\"say\">\n", title);
    for (unsigned i = 0; i < QUESTIONS; i++)
        if (questions[i].layer == layer)
            answer(f, m, &questions[i]);
    fprintf(f, "</ul>\n");
}

void bench_report_guests(FILE *f, const struct bench_matrix *m)
{
    if (!any(m, true) && !any(m, false))
        return;
    fprintf(f, "<h2>What the layers in the unikernel cost</h2>\n");
    answers(f, m, true, "Against raw virtio-blk with polling, in the same guest on the same disk:");
    answers(f, m, false,
            "Against others, with one processor in the same machine of QEMU on the same disk; "
            "qemu-img bench is without a guest, the limit:");
}
