/* ashlar info DEVICE */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

static void line(void *arg, const char *text)
{
    (void)arg;
    printf("%s\n", text);
}

static void size_line(const char *name, uint64_t bytes)
{
    char text[16];
    printf("%-20s %" PRIu64 " (%s)\n", name, bytes, cli_format_size(bytes, text));
}

static void yes_line(const char *name, bool yes)
{
    printf("%-20s %s\n", name, yes ? "yes" : "no");
}

static void limit_line(const char *name, uint32_t limit)
{
    if (limit)
        printf("%-20s %u\n", name, limit);
    else
        printf("%-20s no limit\n", name);
}

static void zones(const struct blk_info *i)
{
    size_line("zone size", i->zone_size);
    printf("%-20s %u\n", "zones", i->zone_count);
    limit_line("max open zones", i->max_open_zones);
    limit_line("max active zones", i->max_active_zones);
    size_line("max append", i->max_append);
}

static int run(struct cli *cli)
{
    struct blk *dev;
    int code = cli_open(cli, cli->operand[0], 0, &dev);
    if (code != CLI_OK)
        return code;
    const struct blk_info *i = blk_info(dev);
    printf("%-20s %s\n", "device", blk_spec(dev));
    printf("%-20s %s", "drivers", blk_scheme(dev));
    for (struct blk *d = blk_child(dev); d; d = blk_child(d))
        printf(" > %s", blk_scheme(d));
    printf("\n");
    size_line("size", i->size);
    printf("%-20s %u\n", "block size", i->block_size);
    printf("%-20s %u\n", "physical block size", i->physical_block_size);
    size_line("optimal I/O", i->optimal_io);
    size_line("max transfer", i->max_transfer);
    printf("%-20s %u\n", "buffer alignment", i->buf_align);
    printf("%-20s %u\n", "max queues", i->max_queues);
    printf("%-20s %u\n", "max queue depth", i->max_depth);
    yes_line("read-only", i->read_only);
    yes_line("volatile cache", i->volatile_cache);
    printf("%-20s %u\n", "discard granularity", i->discard_granularity);
    yes_line("write-zeroes", i->write_zeroes);
    yes_line("fast zero", i->fast_zero);
    yes_line("allocation status", i->status);
    yes_line("zoned", i->zoned);
    if (i->zoned)
        zones(i);
    blk_report(dev, line, NULL);
    blk_close(dev);
    return CLI_OK;
}

static const struct cli_example examples[] = {
    {"ashlar info file:disk.img?direct=on", "what an image offers with O_DIRECT"},
    {"ashlar info 'nbd+unix:///?socket=nbd.sock'", "what an NBD server offers"},
    {0},
};

const struct cli_command cli_info = {
    .name = "info",
    .operands = "DEVICE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "show the size and limits of a device",
    .description = "Opens the device and prints what it can do, one fact a line.",
    .examples = examples,
    .run = run,
};
