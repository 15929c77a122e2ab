/* What subcommands share: opening devices, serving, sizes, the progress bar. */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cli_open(const struct cli *cli, const char *spec, unsigned flags, struct blk **dev)
{
    struct blk_error err;
    int error = blk_open(spec, flags, dev, &err);
    if (error == 0)
        return CLI_OK;
    return error == -EINVAL ? cli_usage(cli, "%s", err.text) : cli_failed(cli, "%s", err.text);
}

int cli_open_path(const struct cli *cli, const char *name, unsigned flags, struct blk **dev)
{
    char spec[2048] = "file:";
    struct stat st;
    if (stat(name, &st) < 0 || strlen(name) * 3 + 6 > sizeof(spec))
        return cli_open(cli, name, flags, dev);
    char *to = spec + 5;
    for (; *name; name++)
        to += strchr("%?&,", *name) ? sprintf(to, "%%%02X", *name) : sprintf(to, "%c", *name);
    return cli_open(cli, spec, flags, dev);
}

void cli_block_signals(void)
{
    sigset_t signals;
    struct sigaction hangup;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) /* nohup */
        sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void report_line(void *arg, const char *text)
{
    fprintf(stderr, "%s: %s\n", (const char *)arg, text);
}

void cli_report_stats(const struct blk *dev, const char *name)
{
    for (const struct blk *d = dev; d; d = blk_child(d))
        if (!strcmp(blk_scheme(d), "stats")) {
            blk_report(dev, report_line, (void *)(uintptr_t)name);
            return;
        }
}

char *cli_format_size(uint64_t bytes, char out[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    for (; value >= 1024 && unit < 6; unit++)
        value /= 1024;
    bool whole = value >= 100 || value == (double)(uint64_t)value;
    snprintf(out, 16, whole ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

void cli_progress(const char *what, uint64_t done, uint64_t total)
{
    enum { WIDTH = 40 };
    static int shown = -1;
    if (!isatty(STDERR_FILENO))
        return;
    int percent = total ? (int)((double)done / (double)total * 100) : 100;
    if (percent == shown && done && done < total)
        return;
    shown = percent;
    int filled = percent * WIDTH / 100;
    fprintf(stderr, "\r\033[K%s [", what);
    for (int i = 0; i < WIDTH; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %d%%", percent);
    fflush(stderr);
}

void cli_progress_end(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}
