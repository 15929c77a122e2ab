/*
 * `qemu-img bench` on the raw file of the guests: what QEMU's block layer reaches with nothing in
 * front of it. It counts requests instead of time, goes in steps instead of at random, and tells no
 * latencies.
 */
#include "cli/bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/util.h"
#include "cli/bench_child.h"

enum { SPEEDS_MAX = 32, TRIAL = 256, LIMIT_SECONDS = 60 };

/* How fast a job was the last time: so many of its requests take the time that it has. */
struct speed {
    uint32_t block;
    unsigned depth;
    unsigned read_percent;
    enum bench_pattern pattern;
    double per_second;
};

struct qemu_img {
    char file[300];
    char log[400];
    uint64_t size;
    const bool *stop;
    unsigned count;
    struct speed speed[SPEEDS_MAX];
};

const char *bench_no_qemu_img(void)
{
    return bench_in_path("qemu-img") ? NULL : "qemu-img is not installed";
}

static void *start(const struct bench_path_kind *kind, const struct bench_place *place,
                   char spec[512], char why[256])
{
    struct qemu_img *q = calloc(1, sizeof(*q));
    snprintf(why, 256, "out of memory");
    if (!q || bench_guest_file(place, q->file, why) < 0) {
        free(q);
        return NULL;
    }
    q->size = place->size;
    q->stop = place->stop;
    snprintf(q->log, sizeof(q->log), "%s/%s.log", place->dir, kind->name);
    snprintf(spec, 512, "%s", q->file);
    return q;
}

static struct speed *find_speed(struct qemu_img *q, const struct bench_job *job)
{
    for (unsigned i = 0; i < q->count; i++) {
        struct speed *s = &q->speed[i];
        if (s->block == job->block && s->depth == job->depth && s->pattern == job->pattern &&
            s->read_percent == job->read_percent)
            return s;
    }
    struct speed *s = &q->speed[q->count < SPEEDS_MAX - 1 ? q->count++ : SPEEDS_MAX - 1];
    *s = (struct speed){job->block, job->depth, job->read_percent, job->pattern, 0};
    return s;
}

/* Far from the last one, and so that all places are visited before one is again: an odd number of
 * blocks near the golden part of them. */
static uint64_t step(const struct qemu_img *q, const struct bench_job *job)
{
    uint64_t blocks = q->size / job->block;
    return job->pattern == BENCH_RANDOM ? ((blocks * 618 / 1000) | 1) * job->block : job->block;
}

/* "Run completed in 0.123 seconds." */
static bool read_seconds(const char *text, double *seconds)
{
    static const char key[] = "Run completed in ";
    const char *at = text ? strstr(text, key) : NULL;
    *seconds = at ? strtod(at + sizeof(key) - 1, NULL) : 0;
    return at && *seconds >= 0;
}

/* Run so many requests; the time they took. */
static int run_count(const struct qemu_img *q, const struct bench_job *job, uint64_t count,
                     double *seconds, char why[256])
{
    char n[24], depth[24], block[24], stride[24], offset[24];
    struct bench_child c;
    snprintf(n, sizeof(n), "%" PRIu64, count);
    snprintf(depth, sizeof(depth), "%u", job->depth);
    snprintf(block, sizeof(block), "%u", job->block);
    snprintf(stride, sizeof(stride), "%" PRIu64, step(q, job));
    snprintf(offset, sizeof(offset), "%" PRIu64, job->offset);
    const char *argv[] = {"qemu-img", "bench", "-f", "raw",  "-t",    "none", "-i",
                          "io_uring", "-c",    n,    "-d",   depth,   "-s",   block,
                          "-S",       stride,  "-o", offset, q->file, NULL,   NULL};
    if (!job->read_percent)
        argv[19] = "-w";
    uint64_t deadline = bench_deadline(job->runtime + LIMIT_SECONDS * BENCH_SECOND);
    if (bench_child_start(&c, argv, q->log, job->stop, why) < 0) {
        bench_child_stop(&c);
        return -1;
    }
    int got;
    while ((got = bench_child_read(&c, deadline, why)) > 0)
        ;
    bool ok = got == 0 && read_seconds(c.text, seconds);
    if (got == 0 && !ok)
        bench_child_epitaph(&c, "qemu-img bench", why);
    int status = bench_child_wait(&c, bench_deadline(BENCH_SECOND));
    return ok && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* Can it do this job at all? */
static bool can(const struct qemu_img *q, const struct bench_job *job, char why[256])
{
    if (job->read_percent % 100 == 0 && job->threads == 1 && !job->verify && !job->rate &&
        !job->flush_every && !job->range && job->block <= q->size)
        return true;
    snprintf(why, 256, "qemu-img bench knows no such job");
    return false;
}

static int run(void *remote, const struct bench_job *job, struct bench_result *result,
               char why[256])
{
    struct qemu_img *q = remote;
    struct speed *s = find_speed(q, job);
    uint64_t count = job->count;
    double seconds = 0;
    if (!can(q, job, why))
        return -1;
    /* How many? As many as a trial says; a trial that was too short says little, so again. */
    for (uint64_t trial = TRIAL; !count && s->per_second <= 0; trial *= 4) {
        if (run_count(q, job, trial, &seconds, why) < 0)
            return -1;
        if (seconds > 0 && seconds * 1e9 * 4 >= (double)min_u64(job->runtime, BENCH_SECOND / 5))
            s->per_second = (double)trial / seconds;
    }
    if (!count)
        count = max_u64((uint64_t)(s->per_second * (double)job->runtime / 1e9), 1);
    if (run_count(q, job, count, &seconds, why) < 0)
        return -1;
    seconds = seconds > 0.0005 ? seconds : 0.0005; /* it rounds to a thousandth */
    s->per_second = (double)count / seconds;
    struct bench_side side = {
        .count = count,
        .bytes = count * job->block,
        .mean = (uint64_t)(seconds * 1e9 / (double)count * job->depth),
    };
    *result = (struct bench_result){.elapsed = (uint64_t)(seconds * 1e9)};
    *(job->read_percent ? &result->read : &result->write) = side;
    return 0;
}

static void stop(void *remote)
{
    free(remote);
}

const struct bench_remote bench_qemu_img = {start, run, stop};
