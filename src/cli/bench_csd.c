/*
 * Paths that answer questions: the same answer by plain C, which has all data read to it, and by a
 * program beside the data, of which only the answer comes back.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ashlar/csd.h>
#include <ashlar/zone.h>

#include "base/platform.h"
#include "base/util.h"
#include "cli/bench.h"

enum { QUESTIONS = 2, PIECE = 256 << 10, DEPTH = 8, LIMIT = 0x3fffffff };
#define SIZE (UINT64_C(32) << 20)
#define ZONE (UINT64_C(4) << 20)

/* ---- questions --------------------------------------------------------------------------- */

struct answer {
    uint64_t number[257];
};

/* Plain C over a piece of the data. */
static void count_bytes(struct answer *a, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        a->number[data[i]]++;
}

static void count_values(struct answer *a, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 4 <= size; i += 4)
        a->number[0] += (int32_t)load_le32(data + i) > LIMIT;
}

static const struct {
    const char *job;     /* the name of the job in bench.c */
    const char *program; /* in programs/ */
    void (*native)(struct answer *a, const uint8_t *data, size_t size);
    unsigned numbers; /* of the answer that are compared */
} questions[QUESTIONS] = {
    {"csd-entropy", "entropy", count_bytes, 256},
    {"csd-filter", "filter", count_values, 1},
};

/* ---- a path ------------------------------------------------------------------------------- */

struct path {
    enum bench_csd_way way;
    uint64_t size; /* of the data, from the start of the device on */
    struct blk *dev;
    struct blk_queue *queue; /* NATIVE */
    uint8_t *buffer;         /* NATIVE: DEPTH pieces */
    struct csd *csd;
    struct csd_program *program[QUESTIONS];
    struct answer expected[QUESTIONS];
    uint64_t returned; /* bytes that reached the caller in the last pass */
};

/* Where programs are: beside the command, or installed. */
static bool find_program(const char *name, char file[PATH_MAX])
{
    static const char *const places[] = {"programs", "../lib/ashlar/programs"};
    char self[PATH_MAX - 64];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        snprintf(file, PATH_MAX, "%s/%s/%.16s.o", self, places[i], name);
        if (access(file, R_OK) == 0)
            return true;
    }
    return false;
}

const char *bench_no_programs(void)
{
    char file[PATH_MAX];
    for (unsigned i = 0; i < QUESTIONS; i++)
        if (!find_program(questions[i].program, file))
            return "the device programs are not there (clang builds them)";
    return NULL;
}

static int load(struct path *p, unsigned question, char why[256])
{
    static const struct csd_load_options how[] = {
        [BENCH_CSD_JIT] = {.bpf = {.verify = BPF_VERIFY_REQUIRE, .engine = BPF_ENGINE_JIT}},
        [BENCH_CSD_CHECKED] = {.bpf = {.verify = BPF_VERIFY_CHECKED, .engine = BPF_ENGINE_JIT}},
        [BENCH_CSD_INTERP] = {.bpf = {.verify = BPF_VERIFY_AUTO, .engine = BPF_ENGINE_INTERP}},
    };
    static uint8_t elf[1 << 20];
    char file[PATH_MAX], text[4096];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    struct bpf_module *module;
    FILE *f = find_program(questions[question].program, file) ? fopen(file, "rbe") : NULL;
    const size_t n = f ? fread(elf, 1, sizeof(elf), f) : 0;
    if (f)
        fclose(f);
    int error = bpf_module_open(elf, n, &module, &log);
    if (error == 0) {
        error = csd_load(p->csd, module, &how[p->way], &p->program[question], &log);
        bpf_module_close(module);
    }
    /* The last line is the reason. */
    while (log.length && text[log.length - 1] == '\n')
        text[--log.length] = '\0';
    const char *last = log.length ? strrchr(text, '\n') : NULL;
    if (error < 0)
        snprintf(why, 256, "%s: %.200s", questions[question].program,
                 last         ? last + 1
                 : log.length ? text
                              : strerror(-error));
    return error;
}

/* Random numbers: about a half of the values lie above the limit, if it is a quarter from the top
 * of the range of those that are not negative. */
static void make_data(uint8_t *data, uint64_t size)
{
    uint64_t seed = 1;
    for (uint64_t i = 0; i < size; i += 8)
        store_le64(data + i, random_next(&seed) & UINT64_C(0x7fffffff7fffffff));
}

static int write_data(struct path *p, const uint8_t *data)
{
    const struct blk_info *i = blk_info(p->dev);
    int error = 0;
    for (uint64_t at = 0; at < p->size && error == 0; at += PIECE) {
        uint64_t place;
        error = i->zoned
                    ? blk_zone_append(p->queue, round_down(at, ZONE), data + at, PIECE, 0, &place)
                    : blk_write(p->queue, at, data + at, PIECE, 0);
    }
    return error == 0 ? blk_flush(p->queue) : error;
}

static int prepare(struct path *p, char why[256])
{
    uint8_t *data = base_alloc_aligned(BASE_PAGE, p->size);
    struct blk_error err;
    int error = data ? blk_queue_open(p->dev, DEPTH, &p->queue) : -ENOMEM;
    if (error == 0) {
        make_data(data, p->size);
        error = write_data(p, data);
    }
    for (unsigned q = 0; q < QUESTIONS && error == 0; q++)
        questions[q].native(&p->expected[q], data, p->size);
    base_free(data);
    if (error < 0) {
        snprintf(why, 256, "the data cannot be written: %s", strerror(-error));
        return error;
    }
    if (p->way == BENCH_CSD_NATIVE) {
        p->buffer = blk_buf_alloc(p->queue, DEPTH * PIECE);
        snprintf(why, 256, "not enough memory");
        return p->buffer ? 0 : -ENOMEM;
    }
    const struct csd_options options = {.workers = 1};
    error = csd_open(p->dev, &options, &p->csd, &err);
    if (error < 0)
        snprintf(why, 256, "%.250s", err.text);
    for (unsigned q = 0; q < QUESTIONS && error == 0; q++)
        error = load(p, q, why);
    return error;
}

static void stop(void *remote)
{
    struct path *p = remote;
    for (unsigned q = 0; q < QUESTIONS; q++)
        csd_unload(p->program[q]);
    csd_close(p->csd);
    if (p->queue)
        blk_queue_close(p->queue);
    if (p->dev)
        blk_close(p->dev);
    free(p);
}

static void *start(const struct bench_path_kind *kind, const struct bench_place *place,
                   char spec[512], char why[256])
{
    struct path *p = calloc(1, sizeof(*p));
    struct blk_error err;
    if (!p)
        return NULL;
    p->way = kind->way;
    p->size = max_u64(round_down(min_u64(place->size / 4, SIZE), ZONE), ZONE);
    if (!strcmp(kind->device, "file"))
        snprintf(spec, 512, "file:%.300s/%s?direct=on&create=%llu", place->dir, kind->name,
                 (unsigned long long)p->size);
    else if (!strcmp(kind->device, "zns"))
        snprintf(spec, 512, "zns:mem:%llu?zone=4M", (unsigned long long)(p->size + 4 * ZONE));
    else
        snprintf(spec, 512, "mem:%llu", (unsigned long long)p->size);
    int error = blk_open(spec, 0, &p->dev, &err);
    if (error < 0)
        snprintf(why, 256, "%.250s", err.text);
    else
        error = prepare(p, why);
    if (error == 0)
        return p;
    stop(p);
    return NULL;
}

/* ---- answering ----------------------------------------------------------------------------- */

/* All data is read here, several pieces in advance. */
static int ask_native(struct path *p, unsigned question, struct answer *a)
{
    struct blk_req req[DEPTH];
    uint64_t ahead = 0;
    bool done[DEPTH] = {false};
    int error = 0;
    for (uint64_t at = 0; at < p->size && error == 0; at += PIECE) {
        const unsigned slot = (unsigned)(at / PIECE % DEPTH);
        for (; ahead < p->size && ahead < at + DEPTH * PIECE; ahead += PIECE) {
            const unsigned s = (unsigned)(ahead / PIECE % DEPTH);
            struct blk_req *r = &req[s];
            blk_req_read(r, ahead, p->buffer + s * PIECE, PIECE);
            blk_submit(p->queue, &r, 1);
        }
        while (!done[slot]) {
            struct blk_req *r;
            if (blk_reap(p->queue, &r, 1, BLK_FOREVER) == 1) {
                done[r - req] = true;
                error = r->result < 0 ? r->result : error;
            }
        }
        done[slot] = false;
        questions[question].native(a, p->buffer + slot * PIECE, PIECE);
    }
    struct blk_req *rest;
    while (blk_queue_in_flight(p->queue))
        blk_reap(p->queue, &rest, 1, BLK_FOREVER);
    p->returned = p->size;
    return error;
}

static int ask_program(struct path *p, unsigned question, struct answer *a, char why[256])
{
    static struct csd_result result;
    const struct csd_call call = {.read = {0, p->size}};
    const int error = csd_run(p->program[question], &call, &result);
    if (error < 0)
        snprintf(why, 256, "%.250s", result.message);
    if (result.size)
        memcpy(a, result.data, min_u64(result.size, sizeof(*a)));
    p->returned = result.stats.returned;
    csd_result_free(&result);
    return error;
}

static unsigned question_of(const struct bench_job *job)
{
    /* Jobs of these paths are those of a matrix. */
    const struct bench_named_job *named = container_of(job, struct bench_named_job, job);
    unsigned q = 0;
    while (q + 1 < QUESTIONS && strcmp(named->name, questions[q].job))
        q++;
    return q;
}

/* Ask again and again until the time is over; at least once. */
static int run(void *remote, const struct bench_job *job, struct bench_result *result,
               char why[256])
{
    struct path *p = remote;
    const unsigned q = question_of(job);
    const uint64_t begin = base_now_ns();
    do {
        struct answer a = {0};
        snprintf(why, 256, "the device cannot be read");
        const int error =
            p->way == BENCH_CSD_NATIVE ? ask_native(p, q, &a) : ask_program(p, q, &a, why);
        if (error < 0)
            return -1;
        if (memcmp(&a, &p->expected[q], questions[q].numbers * sizeof(a.number[0]))) {
            snprintf(why, 256, "the answer is wrong");
            return -1;
        }
        result->read.count++;
        result->read.bytes += p->size;
        result->elapsed = base_now_ns() - begin;
    } while (result->elapsed < job->runtime && !__atomic_load_n(job->stop, __ATOMIC_RELAXED));
    return 0;
}

static uint64_t returned(const void *remote)
{
    return ((const struct path *)remote)->returned;
}

const struct bench_remote bench_csd = {start, run, stop, returned};
