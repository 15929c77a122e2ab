/*
 * Load for tests/bench/csd.sh: csd_load PROGRAM.o DEVICE [READ-AHEAD]
 *
 * Goes through the device in windows: first it runs the program over the same bytes in memory;
 * then, in turn, it reads a window and computes nothing, and runs the program beside the data.
 * Disks of virtual machines are faster for a moment after a rest: so all is read once before, which
 * is not counted, and which of the two comes first changes from window to window. Prints the speed
 * of each in MB/s, and what was returned, in bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ashlar/bench.h>
#include <ashlar/blk_driver.h>
#include <ashlar/csd.h>

#include "base/platform.h"
#include "base/util.h"

#define WINDOW (UINT64_C(128) << 20)

struct side {
    struct blk *dev;
    struct csd *csd;
    struct csd_program *program;
    uint64_t ns;
};

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "csd_load: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static void open_side(struct side *s, const char *spec, const char *elf, size_t size,
                      uint64_t read_ahead)
{
    static char text[4096];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    const struct csd_options options = {.workers = 1, .read_ahead = read_ahead};
    struct bpf_module *module;
    struct blk_error err;
    if (blk_open(spec, 0, &s->dev, &err) < 0 || csd_open(s->dev, &options, &s->csd, &err) < 0)
        die(err.text, EIO);
    if (bpf_module_open(elf, size, &module, &log) < 0 ||
        csd_load(s->csd, module, NULL, &s->program, &log) < 0)
        die(text, EINVAL);
    bpf_module_close(module);
}

static void run(struct side *s, uint64_t offset, uint64_t len, uint64_t *returned)
{
    static struct csd_result result;
    const struct csd_call call = {.read = {offset, len}};
    const uint64_t start = base_now_ns();
    if (csd_run(s->program, &call, &result) < 0)
        die(result.message, result.error);
    s->ns += base_now_ns() - start;
    *returned += result.stats.returned;
    csd_result_free(&result);
}

/* What a program that computes nothing would wait for: the same requests. */
static uint64_t read_alone(struct blk *dev, uint64_t offset, uint64_t len)
{
    struct bench_job job = BENCH_JOB_DEFAULT;
    static struct bench_result result;
    struct blk_error err;
    job.block = 256 << 10;
    job.depth = 16;
    job.runtime = 0;
    job.count = len / job.block;
    job.offset = offset;
    job.range = len;
    if (bench_run(dev, &job, &result, &err) < 0)
        die(err.text, EIO);
    return result.elapsed;
}

static void copy_window(struct blk *from, struct blk *to, uint64_t offset, uint64_t len)
{
    struct blk_queue *in, *out;
    const size_t part = 1 << 20;
    char *data = base_alloc_aligned(BASE_PAGE, part);
    int error = blk_queue_open(from, 1, &in);
    if (error == 0)
        error = blk_queue_open(to, 1, &out);
    for (uint64_t at = 0; at < len && error == 0; at += part) {
        error = blk_read(in, offset + at, data, part);
        if (error == 0)
            error = blk_write(out, at, data, part, 0);
    }
    if (error < 0)
        die("copy", error);
    blk_queue_close(in);
    blk_queue_close(out);
    base_free(data);
}

int main(int argc, char **argv)
{
    static char elf[1 << 20];
    struct side disk = {0}, memory = {0};
    uint64_t read_ahead = 0, reading = 0, returned = 0, ignored = 0, size = 0;
    FILE *f = argc >= 3 ? fopen(argv[1], "rb") : NULL;
    const size_t n = f ? fread(elf, 1, sizeof(elf), f) : 0;
    if (!n || (argc > 3 && blk_parse_size(argv[3], &read_ahead) < 0)) {
        fprintf(stderr, "usage: csd_load PROGRAM.o DEVICE [READ-AHEAD]\n");
        return 2;
    }
    fclose(f);
    open_side(&disk, argv[2], elf, n, read_ahead);
    open_side(&memory, "mem:128M", elf, n, read_ahead);
    for (; size + WINDOW <= blk_info(disk.dev)->size; size += WINDOW) {
        copy_window(disk.dev, memory.dev, size, WINDOW);
        run(&memory, 0, WINDOW, &ignored);
    }
    for (uint64_t at = 0; at < size; at += WINDOW)
        read_alone(disk.dev, at, WINDOW);
    for (uint64_t at = 0; at < size; at += WINDOW) {
        const bool first = at / WINDOW % 2;
        if (first)
            run(&disk, at, WINDOW, &returned);
        reading += read_alone(disk.dev, at, WINDOW);
        if (!first)
            run(&disk, at, WINDOW, &returned);
    }
    const double mb = (double)size * 1e3;
    printf("%.0f %.0f %.0f %llu\n", mb / (double)reading, mb / (double)memory.ns,
           mb / (double)disk.ns, (unsigned long long)returned);
    csd_unload(disk.program);
    csd_unload(memory.program);
    csd_close(disk.csd);
    csd_close(memory.csd);
    blk_close(disk.dev);
    blk_close(memory.dev);
    return 0;
}
