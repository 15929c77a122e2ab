/* linux/ublk/control.h: commands to the control device, /dev/ublk-control. */
#ifndef UBLK_CONTROL_H
#define UBLK_CONTROL_H

#include <ashlar/blk_driver.h>
#include <ashlar/ublk.h>
#include <liburing.h>
#include <sched.h>
#include <stdbool.h>

#include "linux/ublk/abi.h"

struct ublk_control {
    struct io_uring uring;
    int fd;
    uint64_t features; /* 0: the kernel is too old to say */
    bool unprivileged; /* commands must name the path of the device */
};

/* 0, or a negative errno with a message that says what to do. */
int ublk_control_open(struct ublk_control *c, struct blk_error *err);
void ublk_control_close(struct ublk_control *c);

/* The number of a command, for this kernel: before 6.4 they were not encoded like ioctls. */
uint32_t ublk_command(const struct ublk_control *c, uint32_t command);

/* Each returns 0 or what the kernel says: a negative errno. */
int ublk_control_add(struct ublk_control *c, struct ublksrv_ctrl_dev_info *info);
int ublk_control_get(struct ublk_control *c, int id, struct ublksrv_ctrl_dev_info *info);
int ublk_control_set_params(struct ublk_control *c, int id, struct ublk_params *p);
int ublk_control_get_params(struct ublk_control *c, int id, struct ublk_params *p);
int ublk_control_affinity(struct ublk_control *c, int id, unsigned queue, cpu_set_t *cpus);

/* Those with nothing but a number: START_DEV and END_USER_RECOVERY (our process id), STOP_DEV,
 * DEL_DEV, START_USER_RECOVERY (0), UPDATE_SIZE (sectors). */
int ublk_control_do(struct ublk_control *c, int id, uint32_t command, uint64_t data);

/* Stop the disk; if it is live (its server answers), first write back what the kernel caches. */
int ublk_control_stop(struct ublk_control *c, int id, bool live);

#endif
