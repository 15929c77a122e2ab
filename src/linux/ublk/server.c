/* The life of a device: made, started, recovered, stopped. The data plane is in queue.c. */
#include <ashlar/ublk.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/platform.h"
#include "base/util.h"
#include "linux/ublk/control.h"
#include "linux/ublk/params.h"
#include "linux/ublk/queue.h"

#define MS UINT64_C(1000000)

enum {
    NODE_MS = 5000,     /* until udev has made a node ours */
    RECOVER_MS = 20000, /* until the kernel is done with a dead server */
    DYING_MS = 5000,    /* until it takes note that it is dead */
    PAUSE_MS = 5,
};

struct ublk {
    struct ublk_control control;
    struct ublk_shared shared;
    int id;
    char path[32];
    bool made;    /* the kernel has the device */
    bool recover; /* it had it before, and keeps it if we fail */
    unsigned queue_count;
    struct ublk_queue *queues;
};

/* ---- making it ------------------------------------------------------------------------- */

/* Memory for data, of all queues. More than half of what there is would end badly. */
static int check_memory(const struct ublk_config *c, struct blk_error *err)
{
    uint64_t need = (uint64_t)c->queues * c->depth * c->max_io;
    uint64_t there = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (c->mode == UBLK_MODE_ZERO_COPY || need <= there / 2)
        return 0;
    return blk_error_set(err, -EINVAL,
                         "%u queues of depth %u with requests of %u bytes take %llu MiB of memory",
                         c->queues, c->depth, c->max_io, (unsigned long long)(need >> 20));
}

static int choose_mode(struct ublk *u, struct blk *dev, struct ublk_config *c,
                       struct blk_error *err)
{
    uint64_t offered = u->control.features;
    bool unprivileged = c->unprivileged;
    bool possible = offered & UBLK_F_SUPPORT_ZERO_COPY && !unprivileged;
    if (blk_info(dev)->zoned && !(offered & UBLK_F_ZONED))
        return blk_error_set(err, -EOPNOTSUPP,
                             "is zoned; this kernel has no zoned ublk devices (Linux 6.6)");
    if (blk_info(dev)->zoned)
        c->mode = UBLK_MODE_USER_COPY; /* all that the kernel takes */
    if (c->mode == UBLK_MODE_AUTO)
        c->mode = possible && offered & UBLK_F_AUTO_BUF_REG && ublk_queue_zero_copy(dev)
                      ? UBLK_MODE_ZERO_COPY
                      : UBLK_MODE_COPY;
    if ((c->mode == UBLK_MODE_USER_COPY || c->mode == UBLK_MODE_ZERO_COPY) && unprivileged)
        return blk_error_set(err, -EINVAL, "unprivileged devices have neither user nor zero copy");
    if (c->mode == UBLK_MODE_USER_COPY && !(offered & UBLK_F_USER_COPY))
        return blk_error_set(err, -EOPNOTSUPP, "this kernel has no user copy (Linux 6.5)");
    if (c->mode == UBLK_MODE_ZERO_COPY && !possible)
        return blk_error_set(err, -EOPNOTSUPP, "this kernel has no zero copy (Linux 6.15)");
    if (c->mode == UBLK_MODE_ZERO_COPY && !ublk_queue_zero_copy(dev))
        return blk_error_set(err, -EINVAL,
                             "zero copy is only for file (not on tmpfs), alone or below filters "
                             "that do not look at data");
    return 0;
}

static int add_error(const struct ublk_config *c, int error, struct blk_error *err)
{
    if (error == -EEXIST)
        return blk_error_set(err, error, "/dev/ublkb%d is there already", c->id);
    if (error == -EPERM && !c->unprivileged)
        return blk_error_set(err, error,
                             "ublk devices are made by root (CAP_SYS_ADMIN), or with "
                             "--unprivileged");
    if (error == -EACCES && c->unprivileged)
        return blk_error_set(err, error,
                             "there are too many unprivileged devices (parameter "
                             "ublks_max of the module ublk_drv)");
    return blk_error_set(err, error, "the kernel does not make the device: %s", strerror(-error));
}

static int add_device(struct ublk *u, const struct blk *dev, const struct ublk_config *c,
                      struct blk_error *err)
{
    uint64_t wanted =
        ublk_mode_flags(c->mode, u->control.features) | ublk_recovery_flags(c->recovery) |
        (c->unprivileged ? UBLK_F_UNPRIVILEGED_DEV : 0) | (blk_info(dev)->zoned ? UBLK_F_ZONED : 0);
    struct ublksrv_ctrl_dev_info info = {
        .dev_id = (uint32_t)c->id,
        .nr_hw_queues = (uint16_t)c->queues,
        .queue_depth = (uint16_t)c->depth,
        .max_io_buf_bytes = c->max_io,
        .flags = wanted | UBLK_F_CMD_IOCTL_ENCODE,
        .ublksrv_pid = getpid(),
        .ublksrv_flags = (uint64_t)getpid(), /* see ublk_delete_unfinished() */
    };
    int error = ublk_control_add(&u->control, &info);
    if (error < 0)
        return add_error(c, error, err);
    u->made = true;
    u->id = (int)info.dev_id;
    u->queue_count = info.nr_hw_queues;
    u->shared.depth = info.queue_depth;
    u->shared.max_io = info.max_io_buf_bytes;
    u->control.unprivileged = info.flags & UBLK_F_UNPRIVILEGED_DEV;
    if (c->unprivileged && !u->control.unprivileged)
        return blk_error_set(err, -EINVAL,
                             "an unprivileged device is one of a user without "
                             "CAP_SYS_ADMIN; this one has it");
    if ((info.flags & wanted) != wanted)
        return blk_error_set(err, -EOPNOTSUPP,
                             "this kernel (or an unprivileged device) has not: "
                             "%s",
                             ublk_feature_name((unsigned)__builtin_ctzll(wanted & ~info.flags)));
    return 0;
}

static void set_shared(struct ublk *u, struct blk *dev, enum ublk_mode mode, uint64_t flags)
{
    u->shared.dev = dev;
    u->shared.mode = mode;
    u->shared.auto_register = mode == UBLK_MODE_ZERO_COPY && flags & UBLK_F_AUTO_BUF_REG;
    u->shared.legacy = !(u->control.features & UBLK_F_CMD_IOCTL_ENCODE);
}

/* Open a node that udev may still have to make, or to make ours; -1 with errno. */
static int open_node(const char *path, int flags)
{
    uint64_t end = base_now_ns() + NODE_MS * MS;
    for (;;) {
        int fd = open(path, flags | O_CLOEXEC);
        bool later = errno == ENOENT || errno == EACCES || errno == EBUSY || errno == ENXIO;
        if (fd >= 0 || !later || base_now_ns() > end)
            return fd;
        base_sleep_until_ns(base_now_ns() + PAUSE_MS * MS);
    }
}

static int open_char(struct ublk *u, struct blk_error *err)
{
    char path[32];
    snprintf(path, sizeof(path), "/dev/ublkc%d", u->id);
    u->shared.char_fd = open_node(path, O_RDWR);
    if (u->shared.char_fd >= 0)
        return 0;
    return blk_error_set(err, -errno, "%s: %s%s", path, strerror(errno),
                         errno == EACCES ? " (udev rules make it its owner's: docs/ublk.md)" : "");
}

static int start_queues(struct ublk *u, struct blk_error *err)
{
    u->queues = calloc(u->queue_count, sizeof(*u->queues));
    u->shared.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!u->queues || u->shared.done_fd < 0)
        return blk_error_set(err, -ENOMEM, "out of memory");
    int error = 0;
    unsigned started = 0, failed = 0;
    for (unsigned i = 0; error == 0 && i < u->queue_count; i++) {
        struct ublk_queue *q = &u->queues[i];
        q->shared = &u->shared;
        q->id = i;
        if (ublk_control_affinity(&u->control, u->id, i, &q->cpus) < 0)
            CPU_ZERO(&q->cpus);
        error = ublk_queue_start(q);
        started += error == 0;
        failed = i;
    }
    /* Wait for all, also after an error: commands that come after a stop would never end. */
    for (unsigned i = 0; i < started; i++) {
        int how = ublk_queue_wait_ready(&u->queues[i]);
        if (how < 0 && error == 0) {
            error = how;
            failed = i;
        }
    }
    return error < 0 ? blk_error_set(err, error, "queue %u cannot be started: %s", failed,
                                     strerror(-error))
                     : 0;
}

/* ---- ending it ------------------------------------------------------------------------- */

static void free_parts(struct ublk *u)
{
    for (unsigned i = 0; u->queues && i < u->queue_count; i++)
        ublk_queue_join(&u->queues[i]);
    free(u->queues);
    if (u->shared.done_fd >= 0)
        close(u->shared.done_fd);
    if (u->shared.char_fd >= 0)
        close(u->shared.char_fd);
    u->queues = NULL;
    u->shared.done_fd = u->shared.char_fd = -1;
}

/* A user may delete the device as soon as udev has made its node his. */
static void delete_device(struct ublk *u)
{
    uint64_t end = base_now_ns() + NODE_MS * MS;
    for (;;) {
        int error = ublk_control_do(&u->control, u->id, UBLK_U_CMD_DEL_DEV, 0);
        if ((error != -EACCES && error != -EPERM) || base_now_ns() > end)
            return;
        base_sleep_until_ns(base_now_ns() + PAUSE_MS * MS);
    }
}

/* Nothing of it remains; a device that was to be recovered waits again. */
static void undo(struct ublk *u)
{
    /* Threads of a recovery that failed hold commands that only the end of the process takes back
     * from the kernel: they must not be waited for. */
    if (u->recover && u->queues)
        return;
    if (u->made && u->queues && !u->recover)
        ublk_control_stop(&u->control, u->id, false);
    free_parts(u);
    if (u->made && !u->recover)
        delete_device(u);
    ublk_control_close(&u->control);
    free(u);
}

static int flush_device(struct blk *dev)
{
    struct blk_queue *queue;
    if (blk_info(dev)->read_only)
        return 0;
    int error = blk_queue_open(dev, 1, &queue);
    if (error < 0)
        return error;
    error = blk_flush(queue);
    blk_queue_close(queue);
    return error;
}

static bool has_ended(const struct ublk *u)
{
    struct pollfd p = {.fd = u->shared.done_fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0;
}

/*
 * Wait until the requests that have arrived by now are answered. The kernel's stop waits for them
 * too, but in a way that nothing can end any more, not even the death of this process: if the
 * device never answers, it is here that we must be found.
 */
static void drain(struct ublk *u)
{
    __atomic_store_n(&u->shared.epoch, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < u->queue_count; i++)
        while (__atomic_load_n(&u->queues[i].pending[0], __ATOMIC_RELAXED) && !has_ended(u))
            base_sleep_until_ns(base_now_ns() + MS);
}

int ublk_stop(struct ublk *u, struct blk_error *err)
{
    struct blk *dev = u->shared.dev;
    bool live = !has_ended(u);
    drain(u);
    ublk_control_stop(&u->control, u->id, live);
    for (unsigned i = 0; i < u->queue_count; i++)
        ublk_queue_join(&u->queues[i]);
    /* Before the character device is closed: who deletes the device waits for that. */
    int error = flush_device(dev);
    free_parts(u);
    delete_device(u);
    ublk_control_close(&u->control);
    free(u);
    if (error < 0)
        blk_error_set(err, error, "%s: cannot be flushed: %s", blk_spec(dev), strerror(-error));
    return error;
}

/* ---- the public part ------------------------------------------------------------------- */

static int open_ublk(struct ublk **out, struct blk_error *err)
{
    struct ublk *u = calloc(1, sizeof(*u));
    *out = NULL;
    if (!u)
        return blk_error_set(err, -ENOMEM, "out of memory");
    u->shared.char_fd = u->shared.done_fd = -1;
    int error = ublk_control_open(&u->control, err);
    if (error < 0)
        free(u);
    else
        *out = u;
    return error;
}

/* Put the name of the device in front of a message about it. */
static int about(const struct blk *dev, struct blk_error *err, int error)
{
    if (error < 0 && err) {
        char text[sizeof(err->text)];
        memcpy(text, err->text, sizeof(text));
        snprintf(err->text, sizeof(err->text), "%.200s: %.300s", blk_spec(dev), text);
    }
    return error;
}

/* It is there. Its node may have to become its owner's still. */
static void finish_start(struct ublk *u)
{
    snprintf(u->path, sizeof(u->path), "/dev/ublkb%d", u->id);
    if (u->control.unprivileged) {
        int fd = open_node(u->path, O_RDONLY); /* when udev is done, others may open it too */
        if (fd >= 0)
            close(fd);
    }
}

static int start(struct ublk *u, struct blk *dev, struct ublk_config *c, struct blk_error *err)
{
    struct ublk_params params;
    int error = ublk_config_resolve(dev, c, err);
    if (error == 0)
        error = choose_mode(u, dev, c, err);
    if (error == 0)
        error = check_memory(c, err);
    if (error == 0)
        error = add_device(u, dev, c, err);
    if (error < 0)
        return error;
    set_shared(u, dev, c->mode, u->control.features);
    ublk_params_set(dev, c, &params);
    error = open_char(u, err);
    if (error < 0)
        return error;
    error = ublk_control_set_params(&u->control, u->id, &params);
    if (error < 0)
        return blk_error_set(err, error, "the kernel does not take its parameters: %s",
                             strerror(-error));
    error = start_queues(u, err);
    if (error < 0)
        return error;
    error = ublk_control_do(&u->control, u->id, UBLK_U_CMD_START_DEV, (uint64_t)getpid());
    if (error < 0)
        return blk_error_set(err, error, "the kernel does not start the device: %s",
                             strerror(-error));
    finish_start(u);
    return 0;
}

int ublk_start(struct blk *dev, const struct ublk_config *config, struct ublk **out,
               struct blk_error *err)
{
    struct ublk_config c = *config;
    int error = open_ublk(out, err);
    if (error < 0)
        return error;
    error = start(*out, dev, &c, err);
    if (error < 0) {
        undo(*out);
        *out = NULL;
    }
    return about(dev, err, error);
}

/* Tell the kernel that we take over. It is busy until the last of the dead server is gone. */
static int begin_recovery(struct ublk *u, struct ublksrv_ctrl_dev_info *info, struct blk_error *err)
{
    const uint64_t begin = base_now_ns();
    for (;;) {
        int error = ublk_control_get(&u->control, u->id, info);
        if (error < 0)
            return blk_error_set(err, error, "device %d: %s", u->id, strerror(-error));
        if (!(info->flags & UBLK_F_USER_RECOVERY) || info->state == UBLK_S_DEV_DEAD)
            return blk_error_set(err, -EINVAL,
                                 "device %d cannot be recovered: it was started "
                                 "without, or has ended",
                                 u->id);
        error = ublk_control_do(&u->control, u->id, UBLK_U_CMD_START_USER_RECOVERY, 0);
        if (error == -EINVAL)
            return blk_error_set(err, error,
                                 "device %d cannot be recovered: an earlier recovery failed "
                                 "half-way; delete it",
                                 u->id);
        if (error != -EBUSY)
            return error < 0 ? blk_error_set(err, error, "device %d cannot be recovered: %s", u->id,
                                             strerror(-error))
                             : 0;
        uint64_t waited = base_now_ns() - begin;
        /* One that was just killed takes a moment to die. */
        if (info->state == UBLK_S_DEV_LIVE && waited > DYING_MS * MS)
            return blk_error_set(err, -EBUSY, "device %d is served, by process %d", u->id,
                                 info->ublksrv_pid);
        if (waited > RECOVER_MS * MS)
            return blk_error_set(err, -EBUSY, "device %d is still busy with its last server",
                                 u->id);
        base_sleep_until_ns(base_now_ns() + PAUSE_MS * MS);
    }
}

static int recover(struct ublk *u, struct blk *dev, struct blk_error *err)
{
    struct ublksrv_ctrl_dev_info info;
    struct ublk_params params;
    struct ublk_info shown;
    int error = ublk_control_get(&u->control, u->id, &info);
    if (error == 0)
        error = ublk_control_get_params(&u->control, u->id, &params);
    if (error < 0)
        return blk_error_set(err, error, "device %d: %s", u->id, strerror(-error));
    ublk_info_set(&shown, &info, NULL);
    error = ublk_params_match(dev, &params, err);
    if (error == 0 && shown.mode == UBLK_MODE_ZERO_COPY && !ublk_queue_zero_copy(dev))
        error = blk_error_set(err, -EINVAL, "cannot do zero copy, with which it was started");
    /* What can be told before must be: the kernel does not forget a recovery that began. */
    if (error == 0)
        error = begin_recovery(u, &info, err);
    if (error < 0)
        return error;
    u->queue_count = shown.queues;
    u->shared.depth = shown.depth;
    u->shared.max_io = shown.max_io;
    u->made = true;
    set_shared(u, dev, shown.mode, info.flags);
    error = open_char(u, err);
    if (error == 0)
        error = start_queues(u, err);
    if (error < 0)
        return error;
    error = ublk_control_do(&u->control, u->id, UBLK_U_CMD_END_USER_RECOVERY, (uint64_t)getpid());
    if (error < 0)
        return blk_error_set(err, error, "the kernel does not end the recovery: %s",
                             strerror(-error));
    finish_start(u);
    return 0;
}

int ublk_recover(struct blk *dev, int id, struct ublk **out, struct blk_error *err)
{
    int error = open_ublk(out, err);
    if (error < 0)
        return error;
    (*out)->id = id;
    (*out)->recover = true;
    error = recover(*out, dev, err);
    if (error < 0) {
        undo(*out);
        *out = NULL;
    }
    return about(dev, err, error);
}

const char *ublk_path(const struct ublk *u)
{
    return u->path;
}

int ublk_id(const struct ublk *u)
{
    return u->id;
}

int ublk_event_fd(const struct ublk *u)
{
    return u->shared.done_fd;
}

int ublk_serve(struct ublk *u, struct blk_error *err)
{
    sigset_t signals;
    struct sigaction hangup;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) /* nohup */
        sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    struct pollfd p[] = {
        {.fd = u->shared.done_fd, .events = POLLIN},
        {.fd = signalfd(-1, &signals, SFD_CLOEXEC), .events = POLLIN},
    };
    while (poll(p, 2, -1) < 0 && errno == EINTR)
        ;
    if (p[1].revents) {
        struct signalfd_siginfo taken;
        if (read(p[1].fd, &taken, sizeof(taken)) < 0)
            taken.ssi_signo = 0;
    }
    if (p[1].fd >= 0)
        close(p[1].fd);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    return ublk_stop(u, err);
}
