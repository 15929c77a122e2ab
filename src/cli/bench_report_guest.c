/*
 * The section of the report that answers what the layers between a storage engine and its disk cost
 * in the unikernel, and how it stands beside a Linux guest: sentences made from the figures. A
 * sentence is there only if both of its paths have figures.
 */
#include "cli/bench.h"

#include <string.h>

/* `path` against `base`: a layer above it, or another system. */
struct question {
    const char *path;
    const char *base;
    const char *subject;
    const char *other; /* what to call the other system; NULL: base is the same without the layer */
};

static const struct question questions[] = {
    {"unikernel-null-irq", "unikernel-null", "Waiting for interrupts instead of polling", NULL},
    {"unikernel-vfs", "unikernel-null", "Going through the VFS (/dev/vda)", NULL},
    {"unikernel-syscall", "unikernel-null", "Going through system calls (on /dev/vda)", NULL},
    {"unikernel-file-irq", "unikernel-file",
     "Waiting for interrupts instead of polling, with a raw file below", NULL},
    {"unikernel-9p", "unikernel-file",
     "A file over 9P (through the host's page cache) instead of a disk made of the same file",
     NULL},
    {"unikernel-null", "guest-linux-null", "The unikernel, polling, on QEMU's null disk",
     "a Linux guest"},
    {"unikernel-null-irq", "guest-linux-null", "The unikernel with interrupts on the null disk",
     "a Linux guest"},
    {"unikernel-syscall", "guest-linux-null", "The unikernel by system calls on the null disk",
     "a Linux guest"},
    {"unikernel-file", "guest-linux-file", "The unikernel, polling, on a raw file",
     "a Linux guest"},
    {"unikernel-file-irq", "guest-linux-file", "The unikernel with interrupts on a raw file",
     "a Linux guest"},
    {"unikernel-file", "qemu-img-file", "The unikernel, polling, on a raw file", "qemu-img bench"},
    {"unikernel-file-irq", "qemu-img-file", "The unikernel with interrupts on a raw file",
     "qemu-img bench"},
    {"guest-linux-file", "qemu-img-file", "A Linux guest on a raw file", "qemu-img bench"},
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

/* "16.8k IOPS, raw 22.7k IOPS: <strong>15 us a request more</strong> (74 % of raw)" */
static void say_layer(FILE *f, bool bandwidth, double with, double raw)
{
    char a[32], b[32], time[16];
    fprintf(f, "%s, raw %s: ", bench_format_figure(with, bandwidth, a),
            bench_format_figure(raw, bandwidth, b));
    if (bandwidth) {
        fprintf(f, "<strong>%.0f %% of raw</strong>", with / raw * 100);
        return;
    }
    double ns = 1e9 / with - 1e9 / raw;
    fprintf(f, "<strong>%s a request %s</strong> (%.0f %% of raw)",
            bench_format_time((uint64_t)((ns < 0 ? -ns : ns) + 0.5), time),
            ns < 0 ? "less" : "more", with / raw * 100);
}

/* "<strong>4.48 times</strong> a Linux guest (22.7k IOPS against 5.08k IOPS)" */
static void say_other(FILE *f, bool bandwidth, double own, double base, const char *other)
{
    char a[32], b[32];
    fprintf(f, "<strong>%.2f times</strong> %s (%s against %s)", own / base, other,
            bench_format_figure(own, bandwidth, a), bench_format_figure(base, bandwidth, b));
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
        if (q->other)
            say_other(f, m->job[j].bandwidth, x, y, q->other);
        else
            say_layer(f, m->job[j].bandwidth, x, y);
    }
    if (!first)
        fprintf(f, ".</li>\n");
}

/* Is there an answer: about layers, or about others? */
static bool any(const struct bench_matrix *m, bool layer)
{
    for (unsigned i = 0; i < QUESTIONS; i++)
        for (unsigned j = 0; j < m->job_count; j++)
            if (!questions[i].other == layer && has_answer(m, &questions[i], j))
                return true;
    return false;
}

static void answers(FILE *f, const struct bench_matrix *m, bool layer, const char *title)
{
    if (!any(m, layer))
        return;
    fprintf(f, "<p>%s</p>\n<ul class=\"say\">\n", title);
    for (unsigned i = 0; i < QUESTIONS; i++)
        if (!questions[i].other == layer)
            answer(f, m, &questions[i]);
    fprintf(f, "</ul>\n");
}

void bench_report_guests(FILE *f, const struct bench_matrix *m)
{
    if (!any(m, true) && !any(m, false))
        return;
    fprintf(f, "<h2>What the layers in the unikernel cost</h2>\n");
    answers(
        f, m, true,
        "Against raw virtio-blk with polling, in the same machine on the same disk. What a "
        "request takes more is the difference of the times between two; where the VFS takes one "
        "request at a time, the requests that are not in flight together are part of it.");
    answers(f, m, false,
            "Against others, with one processor in the same machine of QEMU on the same disk; "
            "qemu-img bench is without a guest, the limit:");
}
