/* ashlar serve nbd DEVICE... */
#include "cli/cli.h"

#include <ashlar/blk_driver.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linux/nbd/server.h"

#define DEFAULT_SOCKET "ashlar.sock"

enum { NAME_MAX_LEN = 255 };

/* What is served: opened devices and the names they go by. */
struct serving {
    unsigned count;
    struct nbd_export exports[CLI_MAX_WORDS];
    char names[CLI_MAX_WORDS][NAME_MAX_LEN + 1];
    char descriptions[CLI_MAX_WORDS][NAME_MAX_LEN + 1];
};

/* ---- exports --------------------------------------------------------------------------- */

static bool is_taken(const struct serving *s, const char *name)
{
    for (unsigned i = 0; i < s->count; i++)
        if (!strcmp(s->names[i], name))
            return true;
    return false;
}

/* disk.img for file:/data/disk.img; else the scheme of the last device: "mem". */
static void put_plain_name(const struct blk *dev, char *out, size_t size)
{
    while (blk_child(dev))
        dev = blk_child(dev);
    const char *slash = strrchr(dev->argument, '/');
    const char *name = slash ? slash + 1 : dev->argument;
    bool file = !strcmp(blk_scheme(dev), "file") || !strcmp(blk_scheme(dev), "psync");
    snprintf(out, size, "%.200s", file && *name ? name : blk_scheme(dev));
}

static void put_name(struct serving *s, const struct blk *dev)
{
    char plain[NAME_MAX_LEN + 1];
    char name[NAME_MAX_LEN + 1];
    put_plain_name(dev, plain, sizeof(plain));
    snprintf(name, sizeof(name), "%s", plain);
    for (unsigned n = 2; is_taken(s, name); n++)
        snprintf(name, sizeof(name), "%.200s-%u", plain, n);
    memcpy(s->names[s->count], name, sizeof(name));
}

/* The schemes, "stats,file": a client need not know more of where the data is. */
static void put_description(struct serving *s, const struct blk *dev)
{
    char *out = s->descriptions[s->count];
    for (size_t used = 0; dev && used < NAME_MAX_LEN; dev = blk_child(dev)) {
        snprintf(out + used, NAME_MAX_LEN + 1 - used, "%s%s", used ? "," : "", blk_scheme(dev));
        used = strlen(out);
    }
}

static int add(struct cli *cli, struct serving *s, const char *spec, const char *name)
{
    struct blk *dev;
    if (name && is_taken(s, name))
        return cli_usage(cli, "two exports have the name '%s'", name);
    int code = cli_open(cli, spec, cli_flag(cli, "read-only") ? BLK_OPEN_READ_ONLY : 0, &dev);
    if (code != CLI_OK)
        return code;
    if (name)
        snprintf(s->names[s->count], sizeof(s->names[0]), "%s", name);
    else
        put_name(s, dev);
    put_description(s, dev);
    s->exports[s->count] = (struct nbd_export){
        .name = s->names[s->count], .description = s->descriptions[s->count], .dev = dev};
    s->count++;
    return CLI_OK;
}

/* NAME=DEVICE */
static int add_named(struct cli *cli, struct serving *s, const char *value)
{
    char name[NAME_MAX_LEN + 1];
    size_t len = strcspn(value, "=");
    if (!value[len] || !len || !value[len + 1])
        return cli_usage(cli, "--export must be NAME=DEVICE, not '%s'", value);
    if (len > NAME_MAX_LEN)
        return cli_usage(cli, "the name of an export has at most %d bytes", NAME_MAX_LEN);
    snprintf(name, sizeof(name), "%.*s", (int)len, value);
    return add(cli, s, value + len + 1, name);
}

static int add_all(struct cli *cli, struct serving *s)
{
    const char *value;
    int code = CLI_OK;
    for (unsigned i = 0; code == CLI_OK && i < cli->operand_count; i++)
        code = add(cli, s, cli->operand[i], NULL);
    for (unsigned at = 0; code == CLI_OK && (value = cli_next(cli, "export", &at));)
        code = add_named(cli, s, value);
    if (code == CLI_OK && !s->count)
        return cli_usage(cli, "missing operand: ashlar serve nbd DEVICE..., or --export");
    return code;
}

static void close_all(struct serving *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        cli_report_stats(s->exports[i].dev, s->names[i]);
        blk_close(s->exports[i].dev);
    }
}

/* ---- the rest -------------------------------------------------------------------------- */

static int load_tls(struct cli *cli, struct nbd_tls **tls)
{
    struct blk_error err;
    struct nbd_tls_files files = {
        .cert = cli_text(cli, "tls-cert", NULL),
        .key = cli_text(cli, "tls-key", NULL),
        .ca = cli_text(cli, "tls-ca", NULL),
        .psk = cli_text(cli, "tls-psk", NULL),
    };
    *tls = NULL;
    bool certificate = files.cert || files.key || files.ca;
    if (files.psk && certificate)
        return cli_usage(cli, "TLS has either certificates or --tls-psk, not both");
    if (certificate && !(files.cert && files.key))
        return cli_usage(cli, "TLS with certificates needs both --tls-cert and --tls-key");
    if (cli_flag(cli, "require-tls") && !certificate && !files.psk)
        return cli_usage(cli, "--require-tls needs --tls-cert and --tls-key, or --tls-psk");
    if (!certificate && !files.psk)
        return CLI_OK;
    return nbd_tls_load(&files, tls, &err) < 0 ? cli_failed(cli, "%s", err.text) : CLI_OK;
}

static int check_limits(struct cli *cli)
{
    if (cli_text(cli, "socket", NULL) && cli_text(cli, "listen", NULL))
        return cli_usage(cli, "either --socket or --listen, not both");
    uint64_t threads = cli_number(cli, "threads", 1);
    if (threads < 1 || threads > 256)
        return cli_usage(cli, "--threads must be from 1 to 256");
    uint64_t connections = cli_number(cli, "max-connections", 1);
    if (connections < 1 || connections > 65536)
        return cli_usage(cli, "--max-connections must be from 1 to 65536");
    return CLI_OK;
}

/* Serve until a signal. The signals are blocked in all threads and taken here. */
static int serve(struct cli *cli, const struct serving *s, const struct nbd_tls *tls)
{
    struct blk_error err;
    struct nbd_server *server;
    sigset_t signals;
    int taken;
    const struct nbd_server_config config = {
        .exports = s->exports,
        .export_count = s->count,
        .socket_path = cli_text(cli, "socket", DEFAULT_SOCKET),
        .listen = cli_text(cli, "listen", NULL),
        .tls = tls,
        .require_tls = cli_flag(cli, "require-tls"),
        .threads = (unsigned)cli_number(cli, "threads", 0),
        .max_connections = (unsigned)cli_number(cli, "max-connections", 0),
        .patience = cli_number(cli, "patience", 0),
    };
    int error = nbd_server_start(&config, &server, &err);
    if (error < 0)
        return cli_failed(cli, "%s", err.text);
    printf("listening on %s\n", nbd_server_uri(server));
    fflush(stdout);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigwait(&signals, &taken);
    nbd_server_stop(server);
    return nbd_server_wait(server, &err) < 0 ? cli_failed(cli, "%s", err.text) : CLI_OK;
}

static int run(struct cli *cli)
{
    struct nbd_tls *tls = NULL;
    int code = check_limits(cli);
    if (code == CLI_OK)
        code = load_tls(cli, &tls);
    struct serving *s = calloc(1, sizeof(*s));
    if (!s)
        code = cli_failed(cli, "out of memory");
    cli_block_signals(); /* before drivers and the server start threads */
    if (code == CLI_OK)
        code = add_all(cli, s);
    if (code == CLI_OK)
        code = serve(cli, s, tls);
    if (s)
        close_all(s);
    free(s);
    nbd_tls_free(tls);
    return code;
}

static const struct cli_option options[] = {
    {"socket", CLI_TEXT, "PATH",
     "listen on a unix socket that only this user may connect to (default: " DEFAULT_SOCKET
     " in the current folder)",
     false, NULL},
    {"listen", CLI_TEXT, "ADDR:PORT",
     "listen on TCP instead, such as 127.0.0.1:10809 or [::1]:10809; port 0 takes any that is free",
     false, NULL},
    {"export", CLI_TEXT, "NAME=DEVICE", "serve DEVICE under this name", true, NULL},
    {"read-only", CLI_FLAG, NULL, "refuse everything that writes", false, NULL},
    {"tls-cert", CLI_TEXT, "FILE", "offer TLS with this certificate (PEM)", false, NULL},
    {"tls-key", CLI_TEXT, "FILE", "the certificate's private key (PEM)", false, NULL},
    {"tls-ca", CLI_TEXT, "FILE",
     "ask clients for a certificate that this authority signed (default: none is asked)", false,
     NULL},
    {"tls-psk", CLI_TEXT, "FILE", "offer TLS with pre-shared keys; lines of NAME:HEXKEY", false,
     NULL},
    {"require-tls", CLI_FLAG, NULL, "refuse clients that do not use TLS (default: it is offered)",
     false, NULL},
    {"max-connections", CLI_COUNT, "N", "turn away further clients (default: 64)", false, NULL},
    {"threads", CLI_COUNT, "N", "worker threads (default: one a processor, at most 4)", false,
     NULL},
    {"patience", CLI_TIME, "TIME",
     "disconnect a client that takes longer for one step of the handshake, or for its last replies "
     "when the server stops (default: 10s)",
     false, NULL},
    {0},
};

static const struct cli_example examples[] = {
    {"ashlar serve nbd file:disk.img", "serve an image on the unix socket ./ashlar.sock"},
    {"ashlar serve nbd mem:1G --listen 127.0.0.1:10809", "serve a RAM disk on TCP"},
    {"ashlar serve nbd --export a=file:a.img --export b=file:b.img --socket /run/nbd.sock",
     "serve two images by name"},
    {0},
};

const struct cli_command cli_serve_nbd = {
    .name = "serve nbd",
    .operands = "[DEVICE...]",
    .min_operands = 0,
    .max_operands = CLI_MAX_WORDS,
    .summary = "serve devices to NBD clients (nbdcopy, qemu, nbd-client, fio)",
    .description =
        "Serves each DEVICE as an NBD export until SIGTERM, SIGINT or SIGHUP, then answers the "
        "requests in progress, flushes the devices and removes the socket. The exit code is 0 only "
        "if all was flushed. One line is printed when clients may connect: the URI for them.\n\n"
        "An export is named like its file without the folder (disk.img), or like the scheme of its "
        "device (mem) where there is no file; a second of the same name gets '-2'. --export gives "
        "a name of your own. The first DEVICE is also the default export, for clients that ask "
        "for none by name. With the stats filter, what it counted is printed at the end.",
    .options = options,
    .examples = examples,
    .run = run,
};
