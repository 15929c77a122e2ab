/* A job from words: see option.h. */
#include "bench/option.h"

#include <ashlar/blk_driver.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

static const char *const rw_words[] = {"read", "write",  "randread", "randwrite",
                                       "rw",   "randrw", "append",   NULL};
static const char *const verify_words[] = {"write", "fill", "check", NULL};
static const char *const pin_words[] = {"auto", "on", "off", NULL};

/* How the value of an option is read, and into what; WORD: one of words, copied. */
enum kind { KIND_U32, KIND_U64, KIND_SIZE, KIND_SIZE32, KIND_TIME, KIND_WORD, KIND_PIN };

/* The words of rw and verify, and of pin by its enum bench_pin. */
#define AT(field) offsetof(struct bench_options, field)
static const struct option {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *const *words;
} table[] = {
    {"rw", KIND_WORD, AT(rw), rw_words},
    {"mix", KIND_U32, AT(job.read_percent), NULL},
    {"bs", KIND_SIZE32, AT(job.block), NULL},
    {"depth", KIND_U32, AT(job.depth), NULL},
    {"threads", KIND_U32, AT(job.threads), NULL},
    {"time", KIND_TIME, AT(job.runtime), NULL},
    {"count", KIND_U64, AT(job.count), NULL},
    {"total", KIND_SIZE, AT(total), NULL},
    {"warmup", KIND_TIME, AT(job.warmup), NULL},
    {"offset", KIND_SIZE, AT(job.offset), NULL},
    {"size", KIND_SIZE, AT(job.range), NULL},
    {"rate", KIND_U64, AT(job.rate), NULL},
    {"flush-every", KIND_U64, AT(job.flush_every), NULL},
    {"seed", KIND_U64, AT(job.seed), NULL},
    {"verify", KIND_WORD, AT(verify), verify_words},
    {"generation", KIND_U64, AT(job.generation), NULL},
    {"pin", KIND_PIN, AT(job.pin), pin_words},
};

const char *bench_option_name(unsigned i)
{
    return i < ARRAY_SIZE(table) ? table[i].name : NULL;
}

static int find_word(const char *const *words, const char *value)
{
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], value))
            return i;
    return -EINVAL;
}

static int parse_count(const char *text, uint64_t *value)
{
    const char *p = text;
    *value = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*p - '0'), value))
            return -ERANGE;
    return *p || p == text ? -EINVAL : 0;
}

void bench_options_init(struct bench_options *o)
{
    *o = (struct bench_options){.job = BENCH_JOB_DEFAULT};
    o->job.runtime = 0;
}

static int store(struct bench_options *o, const struct option *t, const char *value)
{
    void *field = (char *)o + t->offset;
    uint64_t number = 0;
    int r;
    if (t->kind == KIND_WORD || t->kind == KIND_PIN) {
        r = find_word(t->words, value);
        if (r >= 0 && t->kind == KIND_WORD)
            memcpy(field, t->words[r], strlen(t->words[r]) + 1);
        else if (r >= 0)
            o->job.pin = (enum bench_pin)r;
        return r < 0 ? r : 0;
    }
    r = t->kind == KIND_TIME                             ? blk_parse_time(value, &number)
        : t->kind == KIND_SIZE || t->kind == KIND_SIZE32 ? blk_parse_size(value, &number)
                                                         : parse_count(value, &number);
    if (r < 0)
        return r;
    if (t->kind == KIND_U32 || t->kind == KIND_SIZE32) {
        const uint32_t small = (uint32_t)number;
        if (number > UINT32_MAX)
            return -ERANGE;
        memcpy(field, &small, sizeof(small));
    } else {
        memcpy(field, &number, sizeof(number));
    }
    return 0;
}

int bench_option_set(struct bench_options *o, const char *name, const char *value,
                     struct blk_error *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        if (strcmp(table[i].name, name) != 0)
            continue;
        const int r = store(o, &table[i], value);
        if (r < 0)
            return blk_error_set(err, r, "--%s %s: %s", name, value,
                                 r == -ERANGE ? "out of range" : "not a value that it can have");
        o->mix_given |= !strcmp(name, "mix");
        o->runtime_given |= !strcmp(name, "time");
        o->warmup_given |= !strcmp(name, "warmup");
        return 0;
    }
    return -ENOENT;
}

int bench_options_finish(struct bench_options *o, uint64_t runtime, struct blk_error *err)
{
    struct bench_job *job = &o->job;
    const bool verify = o->verify[0];
    const bool check = !strcmp(o->verify, "check");
    if (!o->rw[0])
        memcpy(o->rw, verify && !check ? "write" : "read\0", sizeof("write"));
    const bool mixed = !strcmp(o->rw, "rw") || !strcmp(o->rw, "randrw");
    if (o->mix_given && !mixed)
        return blk_error_set(err, -EINVAL, "--mix goes with --rw rw or randrw");
    if (verify && mixed)
        return blk_error_set(err, -EINVAL, "--verify goes with reads or writes, not with a mix");
    job->pattern = !strncmp(o->rw, "rand", 4) ? BENCH_RANDOM : BENCH_SEQUENTIAL;
    job->append = !strcmp(o->rw, "append");
    if (!mixed)
        job->read_percent = strstr(o->rw, "read") ? 100 : 0;
    else if (!o->mix_given)
        job->read_percent = 50;
    if (!job->count && job->block)
        job->count = o->total / job->block;
    if (verify)
        job->verify = check                        ? BENCH_VERIFY_CHECK
                      : !strcmp(o->verify, "fill") ? BENCH_VERIFY_FILL
                                                   : BENCH_VERIFY_WRITE;
    if (!o->runtime_given)
        job->runtime = job->count || verify ? 0 : runtime;
    if (!o->warmup_given)
        job->warmup = job->runtime / 10;
    return 0;
}
