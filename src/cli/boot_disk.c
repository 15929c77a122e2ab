/* ashlar boot --device: what QEMU can open itself becomes a block node of its own, anything else an
 * export of an NBD server in this process. */
#include "cli/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "blk/core.h"

/* One disk on its way from the spec to QEMU's words. */
struct disk {
    const char *format; /* QEMU's driver: "raw", "qcow2" */
    const char *path;
    bool block_device;
    bool read_only;
    bool direct;
    uint64_t block; /* logical block size; 0: QEMU's choice */
    uint64_t physical_block;
};

/* ---- QEMU's words ---------------------------------------------------------------------- */

/* -blockdev and -device; takes the reference to node. */
static int add_words(struct boot *b, json_t *node, const struct disk *d)
{
    char name[16];
    char device[256];
    snprintf(name, sizeof(name), "disk%u", b->disks);
    json_object_set_new(node, "node-name", json_string(name));
    char *text = json_dumps(node, JSON_COMPACT);
    json_decref(node);
    if (!text)
        return cli_failed(b->cli, "out of memory");
    boot_word(b, "-blockdev");
    boot_word(b, "%s", text);
    free(text);

    boot_device_name(b, "virtio-blk", device, sizeof(device));
    size_t len = strlen(device);
    len += (size_t)snprintf(device + len, sizeof(device) - len, ",drive=%s", name);
    if (!b->microvm)
        len += (size_t)snprintf(device + len, sizeof(device) - len, ",num-queues=%u", b->cpus);
    if (d->block)
        len += (size_t)snprintf(device + len, sizeof(device) - len,
                                ",logical_block_size=%" PRIu64 ",physical_block_size=%" PRIu64,
                                d->block, max_u64(d->block, d->physical_block));
    boot_word(b, "-device");
    boot_word(b, "%s", device);
    b->disks++;
    return CLI_OK;
}

static bool has_io_uring(void)
{
    struct io_uring ring;
    if (io_uring_queue_init(2, &ring, 0) < 0)
        return false;
    io_uring_queue_exit(&ring);
    return true;
}

static int add_image(struct boot *b, const struct disk *d)
{
    const char *aio = !d->direct ? "threads" : has_io_uring() ? "io_uring" : "native";
    json_t *node =
        json_pack("{s:s, s:b, s:s, s:{s:b}, s:{s:s, s:s, s:s, s:{s:b}}}", "driver", d->format,
                  "read-only", d->read_only, "discard", "unmap", "cache", "direct", d->direct,
                  "file", "driver", d->block_device ? "host_device" : "file", "filename", d->path,
                  "aio", aio, "cache", "direct", d->direct);
    if (!node)
        return cli_failed(b->cli, "--device: QEMU can only open a file whose name is UTF-8: %s",
                          d->path);
    return add_words(b, node, d);
}

/* ---- files ----------------------------------------------------------------------------- */

/* The file must be there, and open to us as it is to be used. */
static int check_file(struct boot *b, struct disk *d)
{
    struct stat st;
    if (stat(d->path, &st) < 0)
        return cli_failed(b->cli, "--device %s: %s", d->path,
                          errno == ENOENT ? "no such file" : strerror(errno));
    d->block_device = S_ISBLK(st.st_mode);
    if (!d->block_device && !S_ISREG(st.st_mode))
        return cli_failed(b->cli, "--device %s: neither a file nor a block device", d->path);
    if (access(d->path, R_OK) < 0)
        return cli_failed(b->cli, "--device %s: %s", d->path, strerror(errno));
    if (!d->read_only && access(d->path, W_OK) < 0)
        return cli_failed(b->cli, "--device %s: may not be written; 'readonly,' before it helps",
                          d->path);
    return CLI_OK;
}

static bool has_qcow2_magic(const char *path)
{
    static const char magic[4] = {'Q', 'F', 'I', '\xfb'};
    char start[sizeof(magic)];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool yes = fd >= 0 && pread(fd, start, sizeof(start), 0) == sizeof(start) &&
               !memcmp(start, magic, sizeof(magic));
    if (fd >= 0)
        close(fd);
    return yes;
}

/* A file named without a scheme; the name is taken as it is. */
static int add_path(struct boot *b, const char *path, bool read_only)
{
    struct disk d = {.format = "raw", .path = path, .read_only = read_only};
    int code = check_file(b, &d);
    if (code != CLI_OK)
        return code;
    if (has_qcow2_magic(path))
        d.format = "qcow2";
    return add_image(b, &d);
}

/* create=SIZE of the file driver. */
static int create_file(struct boot *b, const char *spec, const char *path)
{
    struct blk *dev;
    if (b->print || access(path, F_OK) == 0)
        return CLI_OK;
    int code = cli_open(b->cli, spec, 0, &dev);
    if (code == CLI_OK)
        blk_close(dev);
    return code;
}

static int read_switch(struct boot *b, const char *name, const char *value, bool *on)
{
    *on = !strcmp(value, "on");
    if (!*on && strcmp(value, "off"))
        return cli_usage(b->cli, "--device: option '%s' must be on or off, not '%.64s'", name,
                         value);
    return CLI_OK;
}

static int read_block(struct boot *b, const char *value, uint64_t *block)
{
    if (blk_parse_size(value, block) < 0 || !is_pow2(*block) || *block < 512 || *block > 32768)
        return cli_usage(b->cli, "--device: block must be 512, 1K, ... 32K for QEMU, not '%.64s'",
                         value);
    return CLI_OK;
}

/* file:PATH?options with Ashlar's options; qcow2: has the same but for create. */
static int add_file_spec(struct boot *b, const char *text, const struct blk_spec *spec, bool qcow2,
                         bool read_only)
{
    struct disk d = {
        .format = qcow2 ? "qcow2" : "raw", .path = spec->argument, .read_only = read_only};
    int code = CLI_OK;
    for (unsigned i = 0; code == CLI_OK && i < spec->option_count; i++) {
        const char *name = spec->option[i].name;
        const char *value = spec->option[i].value;
        if (!strcmp(name, "direct"))
            code = read_switch(b, name, value, &d.direct);
        else if (!strcmp(name, "block"))
            code = read_block(b, value, &d.block);
        else if (!qcow2 && !strcmp(name, "create"))
            code = create_file(b, text, d.path);
        else if (qcow2 || strcmp(name, "buffers"))
            code = cli_usage(b->cli, "--device %s: unknown option '%s'; there are: block, %sdirect",
                             text, name, qcow2 ? "" : "create, ");
    }
    if (code == CLI_OK)
        code = check_file(b, &d);
    return code == CLI_OK ? add_image(b, &d) : code;
}

/* ---- the other kinds ------------------------------------------------------------------- */

static int add_null(struct boot *b, const struct blk_spec *spec, bool read_only)
{
    struct disk d = {0};
    uint64_t size = 0;
    bool zeroes = false;
    int code = CLI_OK;
    if (blk_parse_size(spec->argument, &size) < 0 || !size || size > INT64_MAX)
        return cli_usage(b->cli, "--device null: the size must be like 512M or 1G, not '%.64s'",
                         spec->argument);
    for (unsigned i = 0; code == CLI_OK && i < spec->option_count; i++) {
        const char *name = spec->option[i].name;
        if (!strcmp(name, "zeroes"))
            code = read_switch(b, name, spec->option[i].value, &zeroes);
        else if (!strcmp(name, "block"))
            code = read_block(b, spec->option[i].value, &d.block);
        else
            code = cli_usage(b->cli, "--device null: unknown option '%s'; there are: block, zeroes",
                             name);
    }
    if (code != CLI_OK)
        return code;
    json_t *node = json_pack("{s:s, s:I, s:b, s:b}", "driver", "null-co", "size", (json_int_t)size,
                             "read-zeroes", zeroes, "read-only", read_only);
    return node ? add_words(b, node, &d) : cli_failed(b->cli, "out of memory");
}

/* Any other device: opened here, and served. With --print, only named. */
static int add_served(struct boot *b, const char *text)
{
    struct disk d = {0};
    char *name = b->names[b->served];
    snprintf(name, sizeof(b->names[0]), "disk%u", b->disks);
    int code = boot_make_folder(b);
    if (code != CLI_OK)
        return code;
    if (b->print) {
        printf("# ashlar serve nbd --socket %s/nbd.sock --export '%s=%s'\n", b->folder, name, text);
    } else {
        struct blk *dev;
        code = cli_open(b->cli, text, 0, &dev);
        if (code != CLI_OK)
            return code;
        b->exports[b->served].name = name;
        b->exports[b->served].dev = dev;
        d.read_only = blk_info(dev)->read_only;
        d.block = blk_info(dev)->block_size;
        d.physical_block = blk_info(dev)->physical_block_size;
    }
    b->served++;
    if (d.block > 32768)
        return cli_failed(b->cli, "--device %s: QEMU takes blocks of at most 32K", text);
    d.physical_block = min_u64(d.physical_block, 32768);
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/nbd.sock", b->folder);
    json_t *node = json_pack("{s:s, s:s, s:b, s:{s:s, s:s}}", "driver", "nbd", "export", name,
                             "read-only", d.read_only, "server", "type", "unix", "path", path);
    return node ? add_words(b, node, &d) : cli_failed(b->cli, "out of memory");
}

/* ---- choosing -------------------------------------------------------------------------- */

/* The length of the scheme that a spec begins with; 0: it is a plain file name. */
static size_t scheme_length(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-_");
    if (!len || !text[len] || !strchr(":?,", text[len]))
        return 0;
    bool known = (len == 5 && !memcmp(text, "qcow2", len)) || blk_driver_find(text, len);
    return known ? len : 0;
}

static bool is_scheme(const char *text, size_t len, const char *name)
{
    return strlen(name) == len && !memcmp(text, name, len);
}

/* A spec whose first level QEMU can do itself. */
static int add_native(struct boot *b, const char *text, size_t scheme, bool read_only)
{
    struct blk_spec spec;
    struct blk_error err;
    bool qcow2 = is_scheme(text, scheme, "qcow2");
    /* The parser knows no "qcow2", whose form is that of "file". */
    char *as_file = NULL;
    if (qcow2 && asprintf(&as_file, "file%s", text + scheme) < 0)
        return cli_failed(b->cli, "out of memory");
    int code = CLI_OK;
    if (blk_spec_parse(qcow2 ? as_file : text, &spec, &err) < 0)
        code = cli_usage(b->cli, "--device %s: %s", text, err.text);
    else if (is_scheme(text, scheme, "null"))
        code = add_null(b, &spec, read_only);
    else
        code = add_file_spec(b, text, &spec, qcow2, read_only);
    base_free(spec.text);
    free(as_file);
    return code;
}

int boot_add_disk(struct boot *b, const char *text)
{
    const char *rest = text;
    while (!strncmp(rest, "readonly,", 9))
        rest += 9;
    size_t scheme = scheme_length(rest);
    if (b->disks + b->shares == BOOT_MAX_DEVICES)
        return cli_usage(b->cli, "more than %d devices and shares", BOOT_MAX_DEVICES);
    if (!*rest)
        return cli_usage(b->cli, "--device is empty; give a file, or a device such as mem:1G");
    if (!scheme)
        return add_path(b, rest, rest != text);
    if (is_scheme(rest, scheme, "file") || is_scheme(rest, scheme, "qcow2") ||
        is_scheme(rest, scheme, "null"))
        return add_native(b, rest, scheme, rest != text);
    return add_served(b, text);
}

/* ---- the server ------------------------------------------------------------------------ */

int boot_start_server(struct boot *b)
{
    struct blk_error err;
    char path[PATH_MAX + 16];
    if (!b->served || b->print)
        return CLI_OK;
    snprintf(path, sizeof(path), "%s/nbd.sock", b->folder);
    const struct nbd_server_config config = {
        .exports = b->exports, .export_count = b->served, .socket_path = path};
    if (nbd_server_start(&config, &b->server, &err) < 0)
        return cli_failed(b->cli, "%s", err.text);
    return CLI_OK;
}

static void report_line(void *arg, const char *text)
{
    fprintf(stderr, "%s: %s\n", (const char *)arg, text);
}

static bool has_stats(const struct blk *dev)
{
    for (; dev; dev = blk_child(dev))
        if (!strcmp(blk_scheme(dev), "stats"))
            return true;
    return false;
}

int boot_stop_server(struct boot *b)
{
    struct blk_error err;
    int code = CLI_OK;
    if (b->server) {
        nbd_server_stop(b->server);
        if (nbd_server_wait(b->server, &err) < 0)
            code = cli_failed(b->cli, "%s", err.text);
        b->server = NULL;
    }
    for (unsigned i = 0; i < b->served; i++) {
        struct blk *dev = b->exports[i].dev;
        if (dev && has_stats(dev))
            blk_report(dev, report_line, b->names[i]);
        if (dev && blk_close(dev) < 0 && code == CLI_OK)
            code = cli_failed(b->cli, "%s: not all was written", b->names[i]);
        b->exports[i].dev = NULL;
    }
    return code;
}
