/*
 * The same C, compiled for this machine and for the virtual one, over the same memory.
 *
 *     bpf_load DIRECTORY [ROUNDS [MIB]]
 *
 * DIRECTORY holds filter.o, histogram.o, mix.o and csv.o, made by `clang -target bpf`. Each round
 * runs every engine once; the table has medians of the processor's time, and ratios of them to
 * native.
 */
#include <ashlar/bpf.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/vm.h"

uint64_t native_filter(const uint8_t *data, uint64_t size);
uint64_t native_histogram(const uint8_t *data, uint64_t size);
uint64_t native_mix(const uint8_t *data, uint64_t size);
uint64_t native_csv(const uint8_t *data, uint64_t size);

static void fill_random(uint8_t *data, uint64_t size)
{
    uint64_t random = 1;
    for (uint64_t i = 0; i + 8 <= size; i += 8)
        store_le64(data + i, random_next(&random));
}

/* Lines of three numbers below 1000000, 1000 and 100000. */
static void fill_csv(uint8_t *data, uint64_t size)
{
    uint64_t random = 1, at = 0;
    char line[64];
    memset(data, '\n', size);
    for (;;) {
        const int n = snprintf(
            line, sizeof(line), "%u,%u,%u\n", (unsigned)random_below(&random, 1000000),
            (unsigned)random_below(&random, 1000), (unsigned)random_below(&random, 100000));
        if (at + (uint64_t)n > size)
            return;
        memcpy(data + at, line, (size_t)n);
        at += (uint64_t)n;
    }
}

static const struct question {
    const char *name;
    uint64_t (*native)(const uint8_t *data, uint64_t size);
    void (*fill)(uint8_t *data, uint64_t size);
} questions[] = {
    {"filter", native_filter, fill_random},
    {"histogram", native_histogram, fill_random},
    {"mix", native_mix, fill_random},
    {"csv", native_csv, fill_csv},
};

enum engine { NATIVE, VERIFIED, CHECKED, INTERP, ENGINES };
static const char *const engine_names[] = {"native", "verified", "checked", "interp"};
enum { MAX_ROUNDS = 99 };

struct bench {
    const struct question *question;
    uint64_t size;
    struct bpf_region region;
    struct bpf_environment environment;
    struct bpf_prog *progs[ENGINES];
    struct bpf_vm *vms[ENGINES];
    uint64_t times[ENGINES][MAX_ROUNDS];
};

static void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*size + 1);
    if (!bytes || fread(bytes, 1, *size, file) != *size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return bytes;
}

static void open_engine(struct bench *b, const struct bpf_module *module, enum engine engine)
{
    static char text[65536];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    const struct bpf_options options = {
        .verify = engine == VERIFIED ? BPF_VERIFY_REQUIRE : BPF_VERIFY_CHECKED,
        .engine = engine == INTERP ? BPF_ENGINE_INTERP : BPF_ENGINE_JIT,
        .function = "question",
    };
    struct bpf_prog *prog;
    if (bpf_prog_open(module, &b->environment, &options, &prog, &log) < 0) {
        fprintf(stderr, "%s: %s", b->question->name, text);
        exit(1);
    }
    b->progs[engine] = prog;
    if (bpf_vm_open(prog, NULL, &b->vms[engine]) < 0)
        exit(1);
    b->question->fill(bpf_vm_region(b->vms[engine], 0), b->size);
}

/* Time that this thread had a processor for. */
static uint64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t run_once(const struct bench *b, enum engine engine, uint64_t *answer)
{
    const uint64_t before = thread_ns();
    if (engine == NATIVE) {
        *answer = b->question->native(bpf_vm_region(b->vms[VERIFIED], 0), b->size);
    } else if (bpf_vm_run(b->vms[engine], NULL, answer) < 0) {
        fprintf(stderr, "%s: %s\n", b->question->name, bpf_vm_failure(b->vms[engine]));
        exit(1);
    }
    return thread_ns() - before;
}

static int compare_times(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void measure(struct bench *b, unsigned rounds, double ratios[ENGINES])
{
    uint64_t answers[ENGINES];
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned e = 0; e < ENGINES; e++) {
            b->times[e][round] = run_once(b, e, &answers[e]);
            if (answers[e] != answers[NATIVE]) {
                fprintf(stderr, "%s: %s: %llu, not %llu\n", b->question->name, engine_names[e],
                        (unsigned long long)answers[e], (unsigned long long)answers[NATIVE]);
                exit(1);
            }
        }
    for (unsigned e = 0; e < ENGINES; e++)
        qsort(b->times[e], rounds, sizeof(b->times[e][0]), compare_times);
    printf("%-10s", b->question->name);
    for (unsigned e = 0; e < ENGINES; e++) {
        ratios[e] = (double)b->times[NATIVE][rounds / 2] / (double)b->times[e][rounds / 2];
        printf("  %8.0f", (double)b->size * 1e3 / (double)b->times[e][rounds / 2]);
    }
    for (unsigned e = VERIFIED; e < ENGINES; e++)
        printf("  %8.3f", ratios[e]);
    printf("\n");
}

static void run_question(const struct question *question, const char *directory, unsigned rounds,
                         uint64_t size, double ratios[ENGINES])
{
    struct bench *b = base_alloc(sizeof(*b));
    struct bpf_module *module;
    char path[4096], text[4096] = "";
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    size_t elf_size;
    snprintf(path, sizeof(path), "%s/%s.o", directory, question->name);
    void *elf = read_file(path, &elf_size);
    if (!b || bpf_module_open(elf, elf_size, &module, &log) < 0) {
        fprintf(stderr, "%s: %s", path, text);
        exit(1);
    }
    b->question = question;
    b->size = size;
    b->region = (struct bpf_region){.name = "data", .size = size};
    b->environment = (struct bpf_environment){
        .regions = &b->region,
        .region_count = 1,
        .entry = {BPF_REGION_START(0), BPF_RANGE((int64_t)size, (int64_t)size)},
    };
    for (unsigned e = VERIFIED; e < ENGINES; e++)
        open_engine(b, module, e);
    measure(b, rounds, ratios);
    for (unsigned e = VERIFIED; e < ENGINES; e++) {
        bpf_vm_close(b->vms[e]);
        bpf_prog_close(b->progs[e]);
    }
    bpf_module_close(module);
    free(elf);
    base_free(b);
}

/* The cube of it, and so on, by halving: no mathematical library is needed for a fourth root. */
static double fourth_root(double product)
{
    double low = 0, high = product > 1 ? product : 1;
    for (unsigned i = 0; i < 100; i++) {
        const double middle = (low + high) / 2;
        if (middle * middle * middle * middle < product)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int main(int argc, char **argv)
{
    double products[ENGINES] = {1, 1, 1, 1};
    if (argc < 2)
        return 2;
    const unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 5;
    const uint64_t size = (argc > 3 ? (uint64_t)atoi(argv[3]) : 4) << 20;
    if (!rounds || rounds > MAX_ROUNDS || !size)
        return 2;
    printf("%-10s  %8s  %8s  %8s  %8s  %s\n", "MB/s", "native", "verified", "checked", "interp",
           "of native: verified, checked, interp");
    for (unsigned i = 0; i < ARRAY_SIZE(questions); i++) {
        double ratios[ENGINES];
        run_question(&questions[i], argv[1], rounds, size, ratios);
        for (unsigned e = 0; e < ENGINES; e++)
            products[e] *= ratios[e];
    }
    printf("%-10s  %8s  %8s  %8s  %8s", "geomean", "", "", "", "");
    for (unsigned e = VERIFIED; e < ENGINES; e++)
        printf("  %8.3f", fourth_root(products[e]));
    printf("\n");
    return 0;
}
