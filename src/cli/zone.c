/* ashlar zone report|open|close|finish|reset DEVICE */
#include <ashlar/blk_driver.h>
#include <ashlar/zone.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/cli.h"

enum { BATCH = 128 };

/* The zones that a command is about. */
struct range {
    struct blk *dev;
    struct blk_queue *queue;
    uint64_t first; /* numbers of zones */
    uint64_t count;
    bool all; /* neither --offset nor --count was given */
};

/* ---- which zones ------------------------------------------------------------------------- */

/* "128M", or "2z" for the start of zone 2. */
static int parse_offset(const struct cli *cli, const struct blk_info *i, uint64_t *zone)
{
    const char *text = cli_text(cli, "offset", "0");
    char number[32];
    size_t len = strlen(text);
    uint64_t value;
    bool in_zones = len > 1 && len < sizeof(number) && text[len - 1] == 'z';
    if (in_zones) {
        memcpy(number, text, len - 1);
        number[len - 1] = '\0';
    }
    if (blk_parse_size(in_zones ? number : text, &value) < 0)
        return cli_usage(cli, "--offset must be a size such as 128M, or zones such as 2z, not '%s'",
                         text);
    if (!in_zones && value % i->zone_size)
        return cli_usage(cli, "--offset %s is not the start of a zone of %" PRIu64 " bytes", text,
                         i->zone_size);
    *zone = in_zones ? value : value / i->zone_size;
    if (*zone >= i->zone_count)
        return cli_usage(cli, "--offset %s is past the last of %u zones", text, i->zone_count);
    return CLI_OK;
}

static int choose(const struct cli *cli, struct range *r)
{
    const struct blk_info *i = blk_info(r->dev);
    const char *count = cli_text(cli, "count", NULL);
    if (!i->zoned)
        return cli_failed(cli, "%s has no zones", blk_spec(r->dev));
    int code = parse_offset(cli, i, &r->first);
    if (code != CLI_OK)
        return code;
    r->count = cli_number(cli, "count", i->zone_count - r->first);
    r->all = !count && !cli_text(cli, "offset", NULL);
    if (!r->count || r->count > i->zone_count - r->first)
        return cli_usage(cli, "--count %s: from zone %" PRIu64 " on there are %" PRIu64, count,
                         r->first, i->zone_count - r->first);
    return CLI_OK;
}

static int open_range(const struct cli *cli, unsigned flags, struct range *r)
{
    *r = (struct range){0};
    int code = cli_open(cli, cli->operand[0], flags, &r->dev);
    if (code != CLI_OK)
        return code;
    code = choose(cli, r);
    int error = code == CLI_OK ? blk_queue_open(r->dev, 1, &r->queue) : 0;
    return error < 0 ? cli_failed(cli, "%s: no queue can be opened: %s", blk_spec(r->dev),
                                  strerror(-error))
                     : code;
}

static void close_range(struct range *r)
{
    if (r->queue)
        blk_queue_close(r->queue);
    if (r->dev)
        blk_close(r->dev);
}

static int failed(const struct cli *cli, const struct range *r, uint64_t zone, int error)
{
    const char *name = blk_zone_error_name(error);
    if (zone == UINT64_MAX)
        return cli_failed(cli, "%s: %s", blk_spec(r->dev), name ? name : strerror(-error));
    return cli_failed(cli, "%s: zone %" PRIu64 ": %s", blk_spec(r->dev), zone,
                      name ? name : strerror(-error));
}

/* ---- report ------------------------------------------------------------------------------ */

/* Calls show for each zone. */
static int each_zone(const struct cli *cli, const struct range *r,
                     void (*show)(void *arg, uint64_t number, const struct blk_zone *z), void *arg)
{
    struct blk_zone zone[BATCH];
    const uint64_t size = blk_info(r->dev)->zone_size;
    for (uint64_t at = r->first, end = r->first + r->count; at < end;) {
        int n = blk_zone_report(r->queue, at * size, zone, (unsigned)min_u64(end - at, BATCH));
        if (n <= 0)
            return failed(cli, r, at, n ? n : -EIO);
        for (int i = 0; i < n; i++)
            show(arg, at++, &zone[i]);
    }
    return CLI_OK;
}

static uint64_t written(const struct blk_zone *z)
{
    return z->state == BLK_ZONE_FULL ? z->capacity : z->wp - z->start;
}

static const char *state_of(const struct blk_zone *z)
{
    const char *name = blk_zone_state_name(z->state);
    return name ? name : "unknown";
}

static void show_line(void *arg, uint64_t number, const struct blk_zone *z)
{
    char size[16], capacity[16];
    bool pointer = z->state != BLK_ZONE_NO_WP && z->state != BLK_ZONE_OFFLINE;
    (void)arg;
    printf("%8" PRIu64 " %16" PRIu64 " %10s %10s  %s\n", number, z->start,
           pointer ? cli_format_size(written(z), size) : "-",
           cli_format_size(z->capacity, capacity), state_of(z));
}

static void show_json(void *arg, uint64_t number, const struct blk_zone *z)
{
    json_array_append_new(arg,
                          json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "zone", (json_int_t)number,
                                    "start", (json_int_t)z->start, "length", (json_int_t)z->len,
                                    "capacity", (json_int_t)z->capacity, "write_pointer",
                                    (json_int_t)z->wp, "state", state_of(z)));
}

static int report(const struct cli *cli, const struct range *r)
{
    if (!cli_flag(cli, "json")) {
        printf("%8s %16s %10s %10s  %s\n", "zone", "start", "written", "capacity", "state");
        return each_zone(cli, r, show_line, NULL);
    }
    json_t *zones = json_array();
    int code = each_zone(cli, r, show_json, zones);
    if (code == CLI_OK) {
        json_dumpf(zones, stdout, JSON_INDENT(1));
        printf("\n");
    }
    json_decref(zones);
    return code;
}

static int run_report(struct cli *cli)
{
    struct range r;
    int code = open_range(cli, BLK_OPEN_READ_ONLY, &r);
    if (code == CLI_OK)
        code = report(cli, &r);
    close_range(&r);
    return code;
}

/* ---- the others -------------------------------------------------------------------------- */

static int manage(const struct cli *cli, const struct range *r, enum blk_op op)
{
    struct blk_req req;
    const uint64_t size = blk_info(r->dev)->zone_size;
    if (r->all) {
        int error = blk_zone_all(r->queue, op);
        return error < 0 ? failed(cli, r, UINT64_MAX, error) : CLI_OK;
    }
    for (uint64_t zone = r->first; zone < r->first + r->count; zone++) {
        blk_req_init(&req, op, zone * size, 0);
        int error = blk_execute(r->queue, &req);
        if (error < 0)
            return failed(cli, r, zone, error);
    }
    return CLI_OK;
}

static int run(struct cli *cli, enum blk_op op)
{
    struct range r;
    int code = open_range(cli, 0, &r);
    if (code == CLI_OK)
        code = manage(cli, &r, op);
    close_range(&r);
    return code;
}

static int run_open(struct cli *cli)
{
    return run(cli, BLK_ZONE_OPEN);
}

static int run_close(struct cli *cli)
{
    return run(cli, BLK_ZONE_CLOSE);
}

static int run_finish(struct cli *cli)
{
    return run(cli, BLK_ZONE_FINISH);
}

static int run_reset(struct cli *cli)
{
    return run(cli, BLK_ZONE_RESET);
}

/* ---- tables ------------------------------------------------------------------------------ */

#define OFFSET                                                                                     \
    {                                                                                              \
        "offset", CLI_TEXT, "SIZE",                                                                \
            "start of the first zone: bytes such as 128M, or zones such as 2z; 0 by default"       \
    }
#define COUNT                                                                                      \
    {                                                                                              \
        "count", CLI_COUNT, "N", "so many zones; all to the end by default"                        \
    }

static const struct cli_option report_options[] = {
    OFFSET,
    COUNT,
    {"json", CLI_FLAG, NULL, "as JSON, in bytes"},
    {0},
};

static const struct cli_option options[] = {
    OFFSET,
    COUNT,
    {0},
};

static const struct cli_example report_examples[] = {
    {"ashlar zone report 'zns,file:disk.img'", "all zones of a file that was made a zoned device"},
    {"ashlar zone report file:/dev/nvme0n2 --offset 8z --count 4", "four zones of a zoned disk"},
    {0},
};

static const struct cli_example reset_examples[] = {
    {"ashlar zone reset 'zns,file:disk.img'", "all zones: the device is empty"},
    {"ashlar zone reset 'zns,file:disk.img' --offset 3z --count 1", "the zone number 3 alone"},
    {0},
};

static const struct cli_example finish_examples[] = {
    {"ashlar zone finish 'zns,file:disk.img' --offset 128M --count 1",
     "the zone that starts there"},
    {0},
};

static const struct cli_example open_examples[] = {
    {"ashlar zone open 'zns,file:disk.img' --offset 3z --count 2", "two zones"},
    {0},
};

static const struct cli_example close_examples[] = {
    {"ashlar zone close 'zns,file:disk.img'", "all zones that are open"},
    {0},
};

const struct cli_command cli_zone_report = {
    .name = "zone report",
    .operands = "DEVICE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "show the zones of a zoned device",
    .description = "One zone a line: its number, its first byte, how much of it is written, how "
                   "much can be, and its state.",
    .options = report_options,
    .examples = report_examples,
    .run = run_report,
};

const struct cli_command cli_zone_open = {
    .name = "zone open",
    .operands = "DEVICE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "open zones explicitly",
    .description = "The zones stay open until they are closed, full or reset. Without --offset and "
                   "--count: every closed zone.",
    .options = options,
    .examples = open_examples,
    .run = run_open,
};

const struct cli_command cli_zone_close = {
    .name = "zone close",
    .operands = "DEVICE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "close open zones",
    .description = "Without --offset and --count: every open zone.",
    .options = options,
    .examples = close_examples,
    .run = run_close,
};

const struct cli_command cli_zone_finish = {
    .name = "zone finish",
    .operands = "DEVICE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "make zones full",
    .description = "What was not written of them reads as zeroes, and nothing can be written until "
                   "they are reset. Without --offset and --count: every open or closed zone.",
    .options = options,
    .examples = finish_examples,
    .run = run_finish,
};

const struct cli_command cli_zone_reset = {
    .name = "zone reset",
    .operands = "DEVICE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "empty zones: their data is lost",
    .description = "Without --offset and --count: every zone that is not empty.",
    .options = options,
    .examples = reset_examples,
    .run = run_reset,
};
