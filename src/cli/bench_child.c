/* A child process with limits of time (bench_child.h). */
#include "cli/bench_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

enum { TEXT_MAX = 4 << 20, GRACE_SECONDS = 5, TICK_MS = 100 };

uint64_t bench_deadline(uint64_t from_now)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec + from_now;
}

static bool stopped(const struct bench_child *c)
{
    return c->stop && __atomic_load_n(c->stop, __ATOMIC_RELAXED);
}

/* After fork. */
static void become(const char *const argv[], pid_t parent, int in, int out, int err)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* it must not outlive us */
    if (getppid() != parent || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(err, STDERR_FILENO) < 0)
        _exit(127);
    setpgid(0, 0); /* a Ctrl-C is for us; we end it */
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

int bench_child_start(struct bench_child *c, const char *const argv[], const char *log,
                      const bool *stop, char why[256])
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    *c = (struct bench_child){.in = -1, .out = -1, .stop = stop};
    snprintf(c->log, sizeof(c->log), "%s", log);
    int err = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    pid_t parent = getpid();
    if (err >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) == 0 &&
        pipe2(out, O_CLOEXEC) == 0)
        c->pid = fork();
    else
        c->pid = -1;
    if (c->pid == 0)
        become(argv, parent, in[1], out[1], err);
    int error = errno;
    const int ends[] = {in[1], out[1], err};
    for (unsigned i = 0; i < 3; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    c->in = in[0];
    c->out = out[0];
    if (c->pid > 0)
        return 0;
    c->pid = 0;
    snprintf(why, 256, "%.100s did not start: %s", argv[0], strerror(error));
    return -1;
}

int bench_child_send(struct bench_child *c, const char *text, char why[256])
{
    size_t left = strlen(text);
    while (left) {
        ssize_t n = send(c->in, text, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR && !stopped(c))
            continue;
        if (n < 0) {
            snprintf(why, 256, "nothing can be sent to it: %s", strerror(errno));
            return -1;
        }
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static bool grow(struct bench_child *c)
{
    size_t capacity = c->capacity ? c->capacity * 2 : 1 << 16;
    char *text = capacity <= TEXT_MAX ? realloc(c->text, capacity) : NULL;
    if (!text)
        return false;
    c->text = text;
    c->capacity = capacity;
    return true;
}

int bench_child_read(struct bench_child *c, uint64_t deadline, char why[256])
{
    if (c->capacity - c->length < 2 && !grow(c)) {
        snprintf(why, 256, "it says too much");
        return -1;
    }
    for (;;) {
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        if (stopped(c)) {
            snprintf(why, 256, "stopped");
            return -1;
        }
        if (bench_deadline(0) >= deadline) {
            snprintf(why, 256, "no answer in time");
            return -1;
        }
        if (poll(&p, 1, TICK_MS) <= 0)
            continue;
        ssize_t n = read(c->out, c->text + c->length, c->capacity - c->length - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        /* A zero byte would hide what follows. */
        for (ssize_t i = 0; i < n; i++)
            if (!c->text[c->length + (size_t)i])
                c->text[c->length + (size_t)i] = ' ';
        c->length += (size_t)n;
        c->text[c->length] = '\0';
        return 1;
    }
}

void bench_child_forget(struct bench_child *c)
{
    c->length = 0;
    if (c->text)
        c->text[0] = '\0';
}

void bench_child_epitaph(const struct bench_child *c, const char *name, char why[256])
{
    char line[200], last[200] = "";
    FILE *f = fopen(c->log, "re");
    while (f && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (*line)
            memcpy(last, line, sizeof(last));
    }
    if (f)
        fclose(f);
    snprintf(why, 256, "%.32s ended%s%.200s", name, *last ? ": " : "", last);
}

static void release(struct bench_child *c)
{
    if (c->in >= 0)
        close(c->in);
    if (c->out >= 0)
        close(c->out);
    free(c->text);
    *c = (struct bench_child){.in = -1, .out = -1};
}

/* Reap it if it ends in time. */
static bool reap(pid_t pid, uint64_t deadline, int *status)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    for (;;) {
        pid_t got = waitpid(pid, status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return true;
        if (bench_deadline(0) >= deadline)
            return false;
        nanosleep(&pause, NULL);
    }
}

int bench_child_stop(struct bench_child *c)
{
    int status = -1;
    if (c->pid > 0) {
        kill(c->pid, SIGTERM);
        if (!reap(c->pid, bench_deadline(GRACE_SECONDS * SECOND), &status)) {
            kill(c->pid, SIGKILL);
            waitpid(c->pid, &status, 0);
        }
    }
    release(c);
    return status;
}

int bench_child_wait(struct bench_child *c, uint64_t deadline)
{
    int status = -1;
    if (c->pid > 0 && reap(c->pid, deadline, &status))
        c->pid = 0;
    int late = bench_child_stop(c);
    return status >= 0 ? status : late;
}
