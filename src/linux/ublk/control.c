/*
 * Commands go through a ring with entries of 128 bytes, one at a time. For a device of an
 * unprivileged user the kernel wants the path of its character device in front of each command's
 * buffer, and looks whether this process may open that.
 */
#include "linux/ublk/control.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/util.h"

#define CONTROL_DEVICE "/dev/ublk-control"
#define NO_QUEUE       0xffff

enum { PATH_ROOM = 32, BUFFER_ROOM = 256 };

static int run(struct ublk_control *c, uint32_t command, const struct ublksrv_ctrl_cmd *cmd)
{
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&c->uring);
    if (!sqe)
        return -EBUSY;
    memset(sqe, 0, 2 * sizeof(*sqe));
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = c->fd;
    sqe->cmd_op = ublk_command(c, command);
    memcpy(sqe->cmd, cmd, sizeof(*cmd));
    int error = io_uring_submit(&c->uring);
    if (error < 0)
        return error;
    do
        error = io_uring_wait_cqe(&c->uring, &cqe);
    while (error == -EINTR);
    if (error < 0)
        return error;
    error = cqe->res;
    io_uring_cqe_seen(&c->uring, cqe);
    return error;
}

/* A command to a device, with a buffer that goes there and back. */
static int command(struct ublk_control *c, int id, uint32_t op, void *buffer, size_t len,
                   uint64_t data)
{
    char room[PATH_ROOM + BUFFER_ROOM] __attribute__((aligned(8))) = {0};
    bool path = c->unprivileged || op == UBLK_U_CMD_GET_DEV_INFO2;
    size_t skip = path ? PATH_ROOM : 0;
    if (len > BUFFER_ROOM)
        return -EINVAL;
    if (path)
        snprintf(room, PATH_ROOM, "/dev/ublkc%d", id);
    if (len)
        memcpy(room + skip, buffer, len);
    struct ublksrv_ctrl_cmd cmd = {
        .dev_id = (uint32_t)id,
        .queue_id = NO_QUEUE,
        .addr = skip + len ? (uintptr_t)room : 0,
        .len = (uint16_t)(skip + len),
        .data = {data},
        .dev_path_len = (uint16_t)skip,
    };
    int error = run(c, op, &cmd);
    if (error >= 0 && len)
        memcpy(buffer, room + skip, len);
    return path && error == -ENOENT ? -ENODEV : error; /* its node is gone already */
}

/* ---- opening --------------------------------------------------------------------------- */

static int no_device(struct blk_error *err)
{
    struct utsname u;
    unsigned major = 0;
    if (uname(&u) == 0)
        sscanf(u.release, "%u", &major);
    if (major && major < 6)
        return blk_error_set(err, -ENOSYS, "Linux %s has no ublk; it takes 6.0 or later",
                             u.release);
    return blk_error_set(err, -ENOENT,
                         CONTROL_DEVICE " is not there: load the module with 'modprobe ublk_drv' "
                                        "(as root; Linux 6.0 or later, CONFIG_BLK_DEV_UBLK)");
}

static int open_device(struct ublk_control *c, struct blk_error *err)
{
    c->fd = open(CONTROL_DEVICE, O_RDWR | O_CLOEXEC);
    if (c->fd >= 0)
        return 0;
    if (errno == ENOENT || errno == ENXIO || errno == ENODEV)
        return no_device(err);
    if (errno == EACCES || errno == EPERM)
        return blk_error_set(err, -errno,
                             CONTROL_DEVICE " may not be opened: be root (CAP_SYS_ADMIN), or let "
                                            "users in with the udev rules of docs/ublk.md");
    return blk_error_set(err, -errno, CONTROL_DEVICE ": %s", strerror(errno));
}

int ublk_control_open(struct ublk_control *c, struct blk_error *err)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SQE128};
    memset(c, 0, sizeof(*c));
    int error = open_device(c, err);
    if (error < 0)
        return error;
    error = io_uring_queue_init_params(4, &c->uring, &p);
    if (error < 0) {
        close(c->fd);
        return blk_error_set(err, error, "io_uring, which ublk needs, cannot be used: %s%s",
                             strerror(-error),
                             error == -EPERM ? " (see the sysctl kernel.io_uring_disabled)" : "");
    }
    uint64_t features;
    struct ublksrv_ctrl_cmd cmd = {.dev_id = UINT32_MAX,
                                   .queue_id = NO_QUEUE,
                                   .addr = (uintptr_t)&features,
                                   .len = sizeof(features)};
    c->features = UBLK_F_CMD_IOCTL_ENCODE;
    c->features = run(c, UBLK_U_CMD_GET_FEATURES, &cmd) >= 0 ? features : 0;
    if (getenv("ASHLAR_UBLK_NO_AUTO")) /* for tests: zero copy as Linux 6.15 has it */
        c->features &= ~UBLK_F_AUTO_BUF_REG;
    return 0;
}

void ublk_control_close(struct ublk_control *c)
{
    io_uring_queue_exit(&c->uring);
    close(c->fd);
}

uint32_t ublk_command(const struct ublk_control *c, uint32_t command)
{
    return c->features & UBLK_F_CMD_IOCTL_ENCODE ? command : _IOC_NR(command);
}

/* ---- commands -------------------------------------------------------------------------- */

int ublk_control_add(struct ublk_control *c, struct ublksrv_ctrl_dev_info *info)
{
    struct ublksrv_ctrl_cmd cmd = {.dev_id = info->dev_id,
                                   .queue_id = NO_QUEUE,
                                   .addr = (uintptr_t)info,
                                   .len = sizeof(*info)};
    return run(c, UBLK_U_CMD_ADD_DEV, &cmd);
}

int ublk_control_get(struct ublk_control *c, int id, struct ublksrv_ctrl_dev_info *info)
{
    memset(info, 0, sizeof(*info));
    /* The second form, of Linux 6.3, also works for who is not told yet whose the device is. */
    int error = command(c, id, UBLK_U_CMD_GET_DEV_INFO2, info, sizeof(*info), 0);
    if (error < 0 && !c->features && error != -ENODEV)
        error = command(c, id, UBLK_U_CMD_GET_DEV_INFO, info, sizeof(*info), 0);
    if (error >= 0)
        c->unprivileged = info->flags & UBLK_F_UNPRIVILEGED_DEV;
    return error;
}

int ublk_control_set_params(struct ublk_control *c, int id, struct ublk_params *p)
{
    p->len = sizeof(*p);
    return command(c, id, UBLK_U_CMD_SET_PARAMS, p, sizeof(*p), 0);
}

int ublk_control_get_params(struct ublk_control *c, int id, struct ublk_params *p)
{
    memset(p, 0, sizeof(*p));
    p->len = sizeof(*p);
    return command(c, id, UBLK_U_CMD_GET_PARAMS, p, sizeof(*p), 0);
}

int ublk_control_affinity(struct ublk_control *c, int id, unsigned queue, cpu_set_t *cpus)
{
    CPU_ZERO(cpus);
    return command(c, id, UBLK_U_CMD_GET_QUEUE_AFFINITY, cpus, sizeof(*cpus), queue);
}

int ublk_control_do(struct ublk_control *c, int id, uint32_t op, uint64_t data)
{
    return command(c, id, op, NULL, 0, data);
}

int ublk_control_stop(struct ublk_control *c, int id, bool live)
{
    char path[32];
    snprintf(path, sizeof(path), "/dev/ublkb%d", id);
    /* A device that can be recovered fails what is written back while it is stopped. */
    int fd = live ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0) {
        fsync(fd);
        ioctl(fd, BLKFLSBUF, 0); /* also what a mounted filesystem keeps */
        close(fd);
    }
    return ublk_control_do(c, id, UBLK_U_CMD_STOP_DEV, 0);
}
