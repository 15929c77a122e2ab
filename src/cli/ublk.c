/* ashlar ublk list|info|del|recover|resize|features|owner */
#include "cli/ublk.h"

#include <ashlar/blk_driver.h>

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEVICES = 4096 };

/* ---- showing --------------------------------------------------------------------------- */

static const char *const state_names[] = {"dead", "live", "quiesced", "fail-io"};

static const char *state_name(enum ublk_state s)
{
    return (unsigned)s < 4 ? state_names[s] : "unknown";
}

/* A device, and what we remember of it if it is ours and the same one. */
struct shown {
    struct ublk_info info;
    struct ublk_record record;
    bool recorded;
};

static int look(int id, struct shown *s, struct blk_error *err)
{
    int error = ublk_get(id, &s->info, err);
    s->recorded = error == 0 && ublk_record_read(id, &s->record) &&
                  (s->info.pid == s->record.pid || s->info.pid < 0);
    return error;
}

static json_t *feature_list(uint64_t features)
{
    json_t *list = json_array();
    for (unsigned bit = 0; bit < 64; bit++) {
        const char *name = ublk_feature_name(bit);
        if (features >> bit & 1)
            json_array_append_new(list, name ? json_string(name) : json_sprintf("bit %u", bit));
    }
    return list;
}

static json_t *to_json(const struct shown *s)
{
    const struct ublk_info *i = &s->info;
    json_t *o =
        json_pack("{s:i, s:o, s:s, s:i, s:i, s:i, s:I, s:s, s:s, s:b, s:i, s:i, s:o}", "id", i->id,
                  "device", json_sprintf("/dev/ublkb%d", i->id), "state", state_name(i->state),
                  "pid", (int)i->pid, "queues", (int)i->queues, "depth", (int)i->depth, "max_io",
                  (json_int_t)i->max_io, "mode", ublk_mode_names[i->mode], "recovery",
                  ublk_recovery_names[i->recovery], "unprivileged", i->unprivileged, "uid",
                  (int)i->uid, "gid", (int)i->gid, "features", feature_list(i->features));
    if (i->has_params) {
        json_t *p = json_pack(
            "{s:I, s:i, s:i, s:i, s:i, s:b, s:b, s:b, s:b}", "size", (json_int_t)i->size,
            "block_size", (int)i->block_size, "physical_block_size", (int)i->physical_block_size,
            "optimal_io", (int)i->optimal_io, "discard_granularity", (int)i->discard_granularity,
            "read_only", i->read_only, "volatile_cache", i->volatile_cache, "write_zeroes",
            i->write_zeroes, "rotational", i->rotational);
        json_object_update(o, p);
        json_decref(p);
        json_object_set_new(o, "zoned", json_boolean(i->zoned));
    }
    if (i->zoned) {
        json_t *z = json_pack("{s:I, s:i, s:i, s:I}", "zone_size", (json_int_t)i->zone_size,
                              "max_open_zones", (int)i->max_open_zones, "max_active_zones",
                              (int)i->max_active_zones, "max_append", (json_int_t)i->max_append);
        json_object_update(o, z);
        json_decref(z);
    }
    if (s->recorded) {
        json_object_set_new(o, "name", json_string(s->record.name));
        json_object_set_new(o, "spec", json_string(s->record.spec));
    }
    return o;
}

static void print_json(json_t *o)
{
    json_dumpf(o, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(o);
}

static void print_features(uint64_t features)
{
    const char *gap = "";
    for (unsigned bit = 0; bit < 64; bit++) {
        const char *name = ublk_feature_name(bit);
        if (!(features >> bit & 1))
            continue;
        if (name)
            printf("%s%s", gap, name);
        else
            printf("%sbit %u", gap, bit);
        gap = " ";
    }
    putchar('\n');
}

static void print_info(const struct shown *s)
{
    const struct ublk_info *i = &s->info;
    char text[16];
    printf("%-20s /dev/ublkb%d\n", "device", i->id);
    if (s->recorded && *s->record.name)
        printf("%-20s %s\n", "name", s->record.name);
    if (s->recorded)
        printf("%-20s %s\n", "spec", s->record.spec);
    printf("%-20s %s\n", "state", state_name(i->state));
    if (i->pid > 0)
        printf("%-20s %d\n", "server", (int)i->pid);
    printf("%-20s %u of depth %u\n", "queues", i->queues, i->depth);
    printf("%-20s %s\n", "largest request", cli_format_size(i->max_io, text));
    printf("%-20s %s\n", "mode", ublk_mode_names[i->mode]);
    printf("%-20s %s\n", "recovery", ublk_recovery_names[i->recovery]);
    if (i->unprivileged)
        printf("%-20s uid %u, gid %u\n", "owner", (unsigned)i->uid, (unsigned)i->gid);
    if (i->has_params) {
        printf("%-20s %" PRIu64 " (%s)\n", "size", i->size, cli_format_size(i->size, text));
        printf("%-20s %u, physical %u\n", "block size", i->block_size, i->physical_block_size);
        printf("%-20s %s\n", "optimal I/O", cli_format_size(i->optimal_io, text));
        printf("%-20s %s\n", "read-only", i->read_only ? "yes" : "no");
        printf("%-20s %s\n", "volatile cache", i->volatile_cache ? "yes" : "no");
        printf("%-20s %u\n", "discard granularity", i->discard_granularity);
        printf("%-20s %s\n", "write-zeroes", i->write_zeroes ? "yes" : "no");
        printf("%-20s %s\n", "rotational", i->rotational ? "yes" : "no");
        printf("%-20s %s\n", "zoned", i->zoned ? "yes" : "no");
    }
    if (i->zoned) {
        printf("%-20s %" PRIu64 " (%s)\n", "zone size", i->zone_size,
               cli_format_size(i->zone_size, text));
        printf("%-20s %u\n", "max open zones", i->max_open_zones);
        printf("%-20s %u\n", "max active zones", i->max_active_zones);
        printf("%-20s %s\n", "max append", cli_format_size(i->max_append, text));
    }
    printf("%-20s ", "features");
    print_features(i->features);
}

/* ---- list ------------------------------------------------------------------------------ */

static void print_row(const struct shown *s)
{
    char size[16] = "-", pid[16] = "-";
    if (s->info.has_params)
        cli_format_size(s->info.size, size);
    if (s->info.pid > 0)
        snprintf(pid, sizeof(pid), "%d", (int)s->info.pid);
    printf("%4d  %-9s %9s  %7s  %-10s %s\n", s->info.id, state_name(s->info.state), size, pid,
           s->recorded && *s->record.name ? s->record.name : "-",
           s->recorded ? s->record.spec : "-");
}

static int run_list(struct cli *cli)
{
    struct shown *s = malloc(sizeof(*s));
    int *ids = calloc(MAX_DEVICES, sizeof(*ids));
    unsigned n = s && ids ? ublk_list(ids, MAX_DEVICES) : 0;
    bool json = cli_flag(cli, "json"), verbose = cli_flag(cli, "verbose");
    json_t *list = json_array();
    struct blk_error err;
    if (n && !json && !verbose)
        printf("%4s  %-9s %9s  %7s  %-10s %s\n", "ID", "STATE", "SIZE", "SERVER", "NAME", "SPEC");
    for (unsigned i = 0, shown = 0; i < n; i++) {
        if (look(ids[i], s, &err) < 0)
            continue; /* gone meanwhile, or another user's */
        if (json)
            json_array_append_new(list, to_json(s));
        else if (!verbose)
            print_row(s);
        else {
            printf("%s", shown++ ? "\n" : "");
            print_info(s);
        }
    }
    if (json)
        print_json(list);
    else
        json_decref(list);
    free(ids);
    free(s);
    return CLI_OK;
}

static const struct cli_option list_options[] = {
    {"verbose", CLI_FLAG, NULL, "all that is known of each", false, NULL, .letter = 'v'},
    {"json", CLI_FLAG, NULL, "the same as JSON", false, NULL},
    {0},
};

const struct cli_command cli_ublk_list = {
    .name = "ublk list",
    .summary = "show the ublk devices of this machine",
    .description = "One line for each device that this user may see, also of other servers. "
                   "States: live; quiesced and fail-io (its server died; 'ashlar ublk recover'); "
                   "dead (not started, or ended and not deleted; 'ashlar ublk del').",
    .options = list_options,
    .run = run_list,
};

/* ---- info ------------------------------------------------------------------------------ */

static int run_info(struct cli *cli)
{
    struct blk_error err;
    int id = ublk_record_find(cli, cli->operand[0]);
    struct shown *s = id < 0 ? NULL : malloc(sizeof(*s));
    if (!s)
        return CLI_FAILED;
    int error = look(id, s, &err);
    if (error == 0 && cli_flag(cli, "json"))
        print_json(to_json(s));
    else if (error == 0)
        print_info(s);
    free(s);
    return error < 0 ? cli_failed(cli, "%s", err.text) : CLI_OK;
}

static const struct cli_option json_options[] = {
    {"json", CLI_FLAG, NULL, "the same as JSON", false, NULL},
    {0},
};

const struct cli_command cli_ublk_info = {
    .name = "ublk info",
    .operands = "N",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "show all that is known of a ublk device",
    .description = "N is the number of /dev/ublkbN, or the name that --name gave.",
    .options = json_options,
    .run = run_info,
};

/* ---- del ------------------------------------------------------------------------------- */

/* One of our servers stops by itself when it is told to; and in a way that can be broken off. */
static void ask_server(int id, struct shown *s)
{
    struct blk_error err;
    const struct timespec pause = {.tv_nsec = 5000000};
    if (look(id, s, &err) < 0 || !s->recorded || s->info.state != UBLK_STATE_LIVE ||
        kill(s->record.pid, SIGTERM) < 0)
        return;
    pid_t server = s->info.pid;
    while (ublk_get(id, &s->info, &err) == 0 && s->info.pid == server &&
           s->info.state == UBLK_STATE_LIVE)
        nanosleep(&pause, NULL);
}

static int delete_one(struct cli *cli, int id)
{
    struct blk_error err;
    struct shown *s = malloc(sizeof(*s));
    if (s)
        ask_server(id, s);
    bool asked = s && s->recorded;
    free(s);
    int error = ublk_delete(id, &err);
    if (error < 0 && !(asked && error == -ENODEV))
        return cli_failed(cli, "%s", err.text);
    ublk_record_remove(id); /* of a server that is dead */
    return CLI_OK;
}

static int run_del(struct cli *cli)
{
    static int ids[MAX_DEVICES];
    int code = CLI_OK;
    bool all = cli_flag(cli, "all");
    if (all == (cli->operand_count > 0))
        return cli_usage(cli, "which device? ashlar ublk del N..., or --all");
    unsigned n = all ? ublk_list(ids, MAX_DEVICES) : cli->operand_count;
    for (unsigned i = 0; i < n; i++) {
        int id = all ? ids[i] : ublk_record_find(cli, cli->operand[i]);
        if (id < 0 || delete_one(cli, id) != CLI_OK)
            code = CLI_FAILED;
    }
    return code;
}

static const struct cli_option del_options[] = {
    {"all", CLI_FLAG, NULL, "all devices", false, NULL},
    {0},
};

const struct cli_command cli_ublk_del = {
    .name = "ublk del",
    .operands = "[N...]",
    .max_operands = CLI_MAX_WORDS,
    .summary = "stop and delete ublk devices",
    .description = "Writes back what the kernel caches of the device, stops it and deletes it, and "
                   "returns when its server has flushed. A device whose server is dead is deleted "
                   "too. N is the number of /dev/ublkbN, or a name. Unmount it before.",
    .options = del_options,
    .run = run_del,
};

/* ---- recover --------------------------------------------------------------------------- */

static int run_recover(struct cli *cli)
{
    int id = ublk_record_find(cli, cli->operand[0]);
    struct ublk_record *r = id < 0 ? NULL : malloc(sizeof(*r));
    if (!r)
        return CLI_FAILED;
    bool known = ublk_record_read(id, r);
    if (!known && cli->operand_count < 2) {
        free(r);
        return cli_failed(cli,
                          "what did device %d serve? There is no record of it: ashlar ublk "
                          "recover %d DEVICE",
                          id, id);
    }
    bool given = cli->operand_count > 1;
    struct ublk_job job = {
        .spec = given ? cli->operand[1] : r->spec,
        .read_only = known && r->read_only,
        .foreground = cli_flag(cli, "foreground"),
        .name = known ? r->name : "",
        .recover = id,
    };
    int code = CLI_OK;
    if (!given && chdir(r->folder) < 0)
        code = cli_failed(cli, "%s, from which it was served, cannot be entered", r->folder);
    if (code == CLI_OK)
        code = ublk_serve_job(cli, &job);
    free(r);
    return code;
}

static const struct cli_option recover_options[] = {
    {"foreground", CLI_FLAG, NULL, "stay in the foreground until the device is stopped", false,
     NULL},
    {0},
};

static const struct cli_example recover_examples[] = {
    {"ashlar ublk recover 0", "serve /dev/ublkb0 again, whose server has died"},
    {0},
};

const struct cli_command cli_ublk_recover = {
    .name = "ublk recover",
    .operands = "N [DEVICE]",
    .min_operands = 1,
    .max_operands = 2,
    .summary = "serve a device again whose server has died",
    .description =
        "For devices that were served with --recover. Requests that wait for the device go on; no "
        "write that was answered is lost, as far as DEVICE kept it (a RAM disk dies with its "
        "server). DEVICE is what was served before, unless it is given.",
    .options = recover_options,
    .examples = recover_examples,
    .run = run_recover,
};

/* ---- resize ---------------------------------------------------------------------------- */

static int run_resize(struct cli *cli)
{
    struct blk_error err;
    uint64_t size;
    int id = ublk_record_find(cli, cli->operand[0]);
    if (id < 0)
        return CLI_FAILED;
    if (blk_parse_size(cli->operand[1], &size) < 0)
        return cli_usage(cli, "'%s' is not a size such as 512M or 2G", cli->operand[1]);
    return ublk_resize(id, size, &err) < 0 ? cli_failed(cli, "%s", err.text) : CLI_OK;
}

const struct cli_command cli_ublk_resize = {
    .name = "ublk resize",
    .operands = "N SIZE",
    .min_operands = 2,
    .max_operands = 2,
    .summary = "change the size of a ublk device that is in use",
    .description = "What Linux sees of the device ends at SIZE; it may grow again up to what its "
                   "server serves: requests beyond that fail. Linux 6.16 or later.",
    .run = run_resize,
};

/* ---- features -------------------------------------------------------------------------- */

static int run_features(struct cli *cli)
{
    struct blk_error err;
    uint64_t features;
    if (ublk_features(&features, &err) < 0)
        return cli_failed(cli, "%s", err.text);
    if (cli_flag(cli, "json")) {
        print_json(json_pack("{s:I, s:o}", "bits", (json_int_t)features, "features",
                             feature_list(features)));
        return CLI_OK;
    }
    printf("0x%" PRIx64 "\n", features);
    for (unsigned bit = 0; bit < 64; bit++)
        if (features >> bit & 1)
            printf("%s\n", ublk_feature_name(bit) ? ublk_feature_name(bit) : "(unknown)");
    return CLI_OK;
}

const struct cli_command cli_ublk_features = {
    .name = "ublk features",
    .summary = "show what the kernel's ublk driver offers",
    .description = "Names are those of the kernel, without UBLK_F_. Before Linux 6.5 the driver "
                   "does not tell.",
    .options = json_options,
    .run = run_features,
};

/* ---- owner ----------------------------------------------------------------------------- */

static int run_owner(struct cli *cli)
{
    struct ublk_info info;
    struct blk_error err;
    int id = ublk_record_find(cli, cli->operand[0]);
    if (id < 0)
        return CLI_FAILED;
    if (ublk_get(id, &info, &err) < 0)
        return cli_failed(cli, "%s", err.text);
    if (info.unprivileged)
        printf("ASHLAR_UBLK_UID=%u\nASHLAR_UBLK_GID=%u\n", (unsigned)info.uid, (unsigned)info.gid);
    return CLI_OK;
}

const struct cli_command cli_ublk_owner = {
    .name = "ublk owner",
    .operands = "N",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "show whose an unprivileged ublk device is, for udev",
    .description = "Prints two lines for the udev rules that come with ashlar, which give the "
                   "nodes of the device to its owner; nothing for a device of root.",
    .run = run_owner,
};
