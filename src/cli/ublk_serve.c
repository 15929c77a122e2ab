/*
 * Two processes take part in a start: the server, and one that watches until the device is ready.
 * Without --foreground the watcher is the process that was called, which then ends; with it, the
 * watcher is a child. If the server dies half-way, the watcher deletes what it left in the kernel.
 */
#include "cli/ublk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const ublk_mode_names[] = {"auto", "copy", "get-data", "user-copy", "zero-copy", NULL};
const char *const ublk_recovery_names[] = {"none", "reissue", "queue", "fail", NULL};

/* ---- the watcher ----------------------------------------------------------------------- */

/* Read what the server says when it is ready: the device's path. False: it ended before. */
static bool wait_ready(int fd, char text[64])
{
    size_t n = 0;
    ssize_t got;
    while (n < 63 && ((got = read(fd, text + n, 63 - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    text[n] = '\0';
    return n > 0;
}

/* In the background: print the path and leave the server to itself. */
static int watch_child(const struct cli *cli, int fd, pid_t server)
{
    char text[64];
    int status;
    if (wait_ready(fd, text)) {
        fputs(text, stdout);
        return CLI_OK;
    }
    while (waitpid(server, &status, 0) < 0 && errno == EINTR)
        ;
    ublk_delete_unfinished(server);
    if (WIFEXITED(status))
        return WEXITSTATUS(status); /* it has said why */
    return cli_failed(cli, "the server was ended by signal %d before the device was ready",
                      WTERMSIG(status));
}

/* In the foreground: the server is our parent. */
static void watch_parent(int fd, pid_t server)
{
    char text[64];
    signal(SIGINT, SIG_IGN); /* a Ctrl-C is for the server */
    if (!wait_ready(fd, text))
        ublk_delete_unfinished(server);
    _exit(0);
}

/* ---- the server ------------------------------------------------------------------------ */

/* From now on nobody listens, and nobody must wait for our end of a pipe to be closed. */
static void leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
}

static int fill_record(const struct ublk_job *job, struct ublk_record *r)
{
    memset(r, 0, sizeof(*r));
    r->pid = getpid();
    r->read_only = job->read_only;
    snprintf(r->name, sizeof(r->name), "%s", job->name);
    return getcwd(r->folder, sizeof(r->folder)) &&
                   snprintf(r->spec, sizeof(r->spec), "%s", job->spec) < (int)sizeof(r->spec)
               ? 0
               : -1;
}

/* The device is ready: remember it and say so. -1: who waited for it in the terminal has gone. */
static int announce(const struct cli *cli, const struct ublk_job *job, struct ublk *u,
                    struct ublk_record *r, int ready_fd)
{
    char why[256], line[64];
    r->id = ublk_id(u);
    if (ublk_record_write(r, why) < 0)
        fprintf(stderr, "ashlar %s: it cannot be recovered: %s\n", cli->command->name, why);
    int n = snprintf(line, sizeof(line), "%s\n", ublk_path(u));
    if (job->foreground) {
        fputs(line, stdout);
        fflush(stdout);
    } else {
        leave_terminal();
    }
    bool told = write(ready_fd, line, (size_t)n) == n;
    close(ready_fd);
    if (job->foreground)
        wait(NULL); /* the watcher */
    return told || job->foreground ? 0 : -1;
}

static int serve_device(const struct cli *cli, const struct ublk_job *job, struct blk *dev,
                        struct ublk_record *r, int ready_fd)
{
    struct blk_error err;
    struct ublk *u;
    int error = job->recover >= 0 ? ublk_recover(dev, job->recover, &u, &err)
                                  : ublk_start(dev, &job->config, &u, &err);
    if (error < 0)
        return error == -EINVAL && job->recover < 0 ? cli_usage(cli, "%s", err.text)
                                                    : cli_failed(cli, "%s", err.text);
    int id = ublk_id(u);
    bool wanted = announce(cli, job, u, r, ready_fd) == 0;
    error = wanted ? ublk_serve(u, &err) : ublk_stop(u, &err);
    struct ublk_record now;
    if (ublk_record_read(id, &now) && now.pid == getpid())
        ublk_record_remove(id);
    if (error < 0)
        return cli_failed(cli, "%s", err.text);
    cli_report_stats(dev, blk_scheme(dev));
    return CLI_OK;
}

static int serve(const struct cli *cli, const struct ublk_job *job, int ready_fd)
{
    struct blk *dev;
    struct ublk_record *r = malloc(sizeof(*r));
    if (!r || fill_record(job, r) < 0) {
        free(r);
        return cli_failed(cli, "the spec or the current folder is too long");
    }
    ublk_prepare_process(); /* before drivers start threads */
    int code = cli_open(cli, job->spec, job->read_only ? BLK_OPEN_READ_ONLY : 0, &dev);
    if (code == CLI_OK) {
        ublk_forget_mounts();
        if (chdir("/") == 0) /* so that no other folder is in use */
            code = serve_device(cli, job, dev, r, ready_fd);
        blk_close(dev);
    }
    free(r);
    return code;
}

static int serve_foreground(struct cli *cli, const struct ublk_job *job, int pipe_fds[2])
{
    pid_t server = getpid(), watcher = fork();
    if (watcher < 0)
        return cli_failed(cli, "no process can be started: %s", strerror(errno));
    if (watcher == 0) {
        close(pipe_fds[1]);
        watch_parent(pipe_fds[0], server);
    }
    close(pipe_fds[0]);
    cli_block_signals();
    return serve(cli, job, pipe_fds[1]);
}

static int serve_background(struct cli *cli, const struct ublk_job *job, int pipe_fds[2])
{
    pid_t server = fork();
    if (server < 0)
        return cli_failed(cli, "no process can be started: %s", strerror(errno));
    if (server == 0) {
        close(pipe_fds[0]);
        setsid();
        cli_block_signals();
        exit(serve(cli, job, pipe_fds[1]));
    }
    close(pipe_fds[1]);
    return watch_child(cli, pipe_fds[0], server);
}

int ublk_serve_job(struct cli *cli, const struct ublk_job *job)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return cli_failed(cli, "out of file descriptors");
    return job->foreground ? serve_foreground(cli, job, pipe_fds)
                           : serve_background(cli, job, pipe_fds);
}

/* ---- ashlar serve ublk ------------------------------------------------------------------ */

static int choice(const char *text, const char *const *names)
{
    int i = 0;
    while (names[i] && strcmp(names[i], text) != 0)
        i++;
    return i;
}

static int limit(struct cli *cli, const char *name, uint64_t max, uint64_t *value)
{
    *value = cli_number(cli, name, 0);
    if (cli_text(cli, name, NULL) && (*value < 1 || *value > max))
        return cli_usage(cli, "--%s must be from 1 to %llu", name, (unsigned long long)max);
    return CLI_OK;
}

static int read_config(struct cli *cli, struct ublk_config *c)
{
    uint64_t queues, depth, block_size, max_io;
    if (limit(cli, "queues", UBLK_MAX_QUEUES, &queues) != CLI_OK ||
        limit(cli, "depth", UBLK_MAX_DEPTH, &depth) != CLI_OK ||
        limit(cli, "block-size", 4096, &block_size) != CLI_OK ||
        limit(cli, "max-io", UBLK_MAX_IO, &max_io) != CLI_OK)
        return CLI_USAGE;
    uint64_t id = cli_number(cli, "id", 0);
    if (id > 1 << 20)
        return cli_usage(cli, "--id must be at most %d", 1 << 20);
    *c = (struct ublk_config)UBLK_CONFIG_DEFAULT;
    if (cli_text(cli, "id", NULL))
        c->id = (int)id;
    c->queues = (unsigned)queues;
    c->depth = (unsigned)depth;
    c->block_size = (uint32_t)block_size;
    c->max_io = (uint32_t)max_io;
    c->mode = (enum ublk_mode)choice(cli_text(cli, "mode", "auto"), ublk_mode_names);
    c->recovery = (enum ublk_recovery)choice(cli_text(cli, "recover", "none"), ublk_recovery_names);
    c->unprivileged = cli_flag(cli, "unprivileged");
    return CLI_OK;
}

static int run(struct cli *cli)
{
    struct ublk_job job = {
        .spec = cli->operand[0],
        .read_only = cli_flag(cli, "read-only"),
        .foreground = cli_flag(cli, "foreground"),
        .name = cli_text(cli, "name", ""),
        .recover = -1,
    };
    int code = read_config(cli, &job.config);
    if (code != CLI_OK)
        return code;
    if (cli_text(cli, "name", NULL) &&
        (!*job.name || strlen(job.name) > UBLK_NAME_MAX || strspn(job.name, "0123456789") ||
         strpbrk(job.name, "/ \t\n")))
        return cli_usage(cli,
                         "a name has 1 to %d characters, no space or '/', and starts with no "
                         "digit",
                         UBLK_NAME_MAX);
    if (*job.name && ublk_record_taken(job.name))
        return cli_failed(cli, "a device has the name '%s' already", job.name);
    return ublk_serve_job(cli, &job);
}

static const struct cli_option options[] = {
    {"id", CLI_COUNT, "N", "make /dev/ublkbN (default: the first number that is free)", false,
     NULL},
    {"queues", CLI_COUNT, "N", "queues, with a thread each (default: one a processor, at most 4)",
     false, NULL},
    {"depth", CLI_COUNT, "N", "requests in flight in each queue (default: 128)", false, NULL},
    {"block-size", CLI_SIZE, "SIZE",
     "logical block size, 512 to 4096 (default: the device's, at least 512)", false, NULL},
    {"max-io", CLI_SIZE, "SIZE", "largest request, up to 32M (default: 256K)", false, NULL},
    {"mode", CLI_TEXT, "MODE",
     "how data comes to the device: auto (zero-copy where kernel and device can, else copy), copy, "
     "get-data, user-copy or zero-copy",
     false, ublk_mode_names},
    {"recover", CLI_TEXT, "HOW",
     "what becomes of the device if the server dies: none (it goes away), reissue (it waits for "
     "'ashlar ublk recover'; requests in flight are issued again), queue (they fail, later ones "
     "wait) or fail (all fail until then). Default: none",
     false, ublk_recovery_names},
    {"read-only", CLI_FLAG, NULL, "refuse everything that writes", false, NULL},
    {"unprivileged", CLI_FLAG, NULL,
     "make a device of this user, who is not root (needs the udev rules of docs/ublk.md)", false,
     NULL},
    {"foreground", CLI_FLAG, NULL, "stay in the foreground until the device is stopped", false,
     NULL},
    {"name", CLI_TEXT, "NAME", "a name by which 'ashlar ublk' knows the device too", false, NULL},
    {0},
};

static const struct cli_example examples[] = {
    {"ashlar serve ublk file:disk.img", "an image as a disk; prints /dev/ublkb0"},
    {"ashlar serve ublk mem:4G --name scratch", "a RAM disk; 'ashlar ublk del scratch' ends it"},
    {"ashlar serve ublk stats,file:disk.img?direct=on --foreground",
     "in this terminal until Ctrl-C, which prints what was counted"},
    {"ashlar serve ublk 'zns?zone=64M&max_open=14,file:disk.img?block=4096'",
     "an image as a zoned disk, as SSDs with zoned namespaces are"},
    {"ashlar serve ublk file:disk.img --recover reissue",
     "a disk that outlives a crash of its server"},
    {0},
};

const struct cli_command cli_serve_ublk = {
    .name = "serve ublk",
    .operands = "DEVICE",
    .min_operands = 1,
    .max_operands = 1,
    .summary = "make a device a disk of Linux, /dev/ublkbN",
    .description =
        "Makes DEVICE a block device of Linux by the kernel's ublk driver (module ublk_drv, Linux "
        "6.0 or later), prints its path when it is ready, and serves it in the background. "
        "SIGTERM, SIGINT or SIGHUP to the server, or 'ashlar ublk del', end it: what the kernel "
        "caches is written "
        "back, requests in flight are answered, DEVICE is flushed, and the disk is gone. Unmount "
        "it before.\n\n"
        "A zoned device becomes a zoned disk (Linux 6.6), for btrfs, f2fs, zonefs and fio.\n\n"
        "The server locks its memory, never waits for the kernel to free memory by writing, and "
        "has a mount namespace of its own, so that it can serve a disk of the system that it runs "
        "on.",
    .options = options,
    .examples = examples,
    .run = run,
};
