/* bench/option.h: a job from the words that people write: the same on Linux and in the unikernel.
 */
#ifndef BENCH_OPTION_H
#define BENCH_OPTION_H

#include <ashlar/bench.h>

struct bench_options {
    struct bench_job job;
    char rw[12]; /* "" if it was not given */
    char verify[8];
    bool mix_given, runtime_given, warmup_given;
    uint64_t total;
};

/* The name of the i-th option that bench_option_set() knows; NULL behind the last. */
const char *bench_option_name(unsigned i);

void bench_options_init(struct bench_options *options);
/* rw, mix, bs, depth, threads, time, count, total, warmup, offset, size, rate, flush-every, seed,
 * verify, generation, pin. 0, or -ENOENT (another name), -EINVAL, -ERANGE with a message. */
int bench_option_set(struct bench_options *options, const char *name, const char *value,
                     struct blk_error *err);
/* All are set: make job whole. runtime: if none was given. */
int bench_options_finish(struct bench_options *options, uint64_t runtime, struct blk_error *err);

#endif
