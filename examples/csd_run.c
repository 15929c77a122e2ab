/*
 * Run a program beside the data of a device, from a program of one's own: how many 64-bit numbers
 * come back, and the first of them.
 *
 *     cc -o csd_run csd_run.c $(pkg-config --cflags --libs ashlar)
 *     ./csd_run filter.o file:disk.img
 */
#include <ashlar/csd.h>
#include <stdio.h>

static char elf[1 << 20], reason[65536];

/* What libashlar prints of errors is one line that says all. */
static int fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 1;
}

static int run(struct csd_program *program, struct blk *dev)
{
    const struct csd_call call = {.read = {0, blk_info(dev)->size}};
    static struct csd_result result;
    if (csd_run(program, &call, &result) < 0)
        return fail(result.message);
    const uint64_t *numbers = result.data;
    if (result.size >= 8)
        printf("%llu numbers, the first is %llu; %llu bytes were read\n",
               (unsigned long long)result.size / 8, (unsigned long long)numbers[0],
               (unsigned long long)result.stats.read);
    csd_result_free(&result);
    return 0;
}

int main(int argc, char **argv)
{
    struct bpf_log log = {.text = reason, .size = sizeof(reason)};
    struct bpf_module *module;
    struct csd_program *program;
    struct blk_error err;
    struct csd *csd;
    struct blk *dev;
    FILE *f = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (!f)
        return fail("usage: csd_run PROGRAM.o DEVICE");
    const size_t size = fread(elf, 1, sizeof(elf), f);
    fclose(f);
    if (bpf_module_open(elf, size, &module, &log) < 0)
        return fail(reason);
    if (blk_open(argv[2], BLK_OPEN_READ_ONLY, &dev, &err) < 0 ||
        csd_open(dev, NULL, &csd, &err) < 0)
        return fail(err.text);
    if (csd_load(csd, module, NULL, &program, &log) < 0)
        return fail(reason);
    const int code = run(program, dev);
    csd_unload(program);
    csd_close(csd);
    bpf_module_close(module);
    blk_close(dev);
    return code;
}
