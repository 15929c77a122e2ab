/* What may be asked of and done with all devices, by whomever they are served. */
#include <ashlar/ublk.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "linux/ublk/control.h"
#include "linux/ublk/params.h"

const char *ublk_feature_name(unsigned bit)
{
    static const char *const names[] = {
        "SUPPORT_ZERO_COPY",
        "URING_CMD_COMP_IN_TASK",
        "NEED_GET_DATA",
        "USER_RECOVERY",
        "USER_RECOVERY_REISSUE",
        "UNPRIVILEGED_DEV",
        "CMD_IOCTL_ENCODE",
        "USER_COPY",
        "ZONED",
        "USER_RECOVERY_FAIL_IO",
        "UPDATE_SIZE",
        "AUTO_BUF_REG",
        "QUIESCE",
        "PER_IO_DAEMON",
        "BUF_REG_OFF_DAEMON",
        "BATCH_IO",
        "INTEGRITY",
        "SAFE_STOP_DEV",
        "NO_AUTO_PART_SCAN",
        "SHMEM_ZC",
    };
    return bit < ARRAY_SIZE(names) ? names[bit] : NULL;
}

int ublk_features(uint64_t *features, struct blk_error *err)
{
    struct ublk_control c;
    int error = ublk_control_open(&c, err);
    if (error < 0)
        return error;
    *features = c.features;
    ublk_control_close(&c);
    return 0;
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

unsigned ublk_list(int *ids, unsigned max)
{
    unsigned n = 0;
    DIR *dir = opendir("/sys/class/ublk-char");
    struct dirent *e;
    while (dir && n < max && (e = readdir(dir)))
        if (sscanf(e->d_name, "ublkc%d", &ids[n]) == 1)
            n++;
    if (dir)
        closedir(dir);
    qsort(ids, n, sizeof(*ids), compare);
    return n;
}

static int device_error(int id, int error, struct blk_error *err)
{
    if (error == -ENODEV)
        return blk_error_set(err, error, "there is no device %d", id);
    if (error == -EPERM || error == -EACCES)
        return blk_error_set(err, error, "device %d is another's (be root)", id);
    return blk_error_set(err, error, "device %d: %s", id, strerror(-error));
}

int ublk_get(int id, struct ublk_info *info, struct blk_error *err)
{
    struct ublk_control c;
    struct ublksrv_ctrl_dev_info d;
    struct ublk_params p;
    int error = ublk_control_open(&c, err);
    if (error < 0)
        return error;
    error = ublk_control_get(&c, id, &d);
    if (error >= 0)
        ublk_info_set(info, &d, ublk_control_get_params(&c, id, &p) >= 0 ? &p : NULL);
    ublk_control_close(&c);
    return error < 0 ? device_error(id, error, err) : 0;
}

static bool is_alive(pid_t pid)
{
    return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

int ublk_delete(int id, struct blk_error *err)
{
    struct ublk_control c;
    struct ublksrv_ctrl_dev_info d;
    int error = ublk_control_open(&c, err);
    if (error < 0)
        return error;
    error = ublk_control_get(&c, id, &d);
    if (error >= 0) {
        ublk_control_stop(&c, id, d.state == UBLK_S_DEV_LIVE && is_alive(d.ublksrv_pid));
        error = ublk_control_do(&c, id, UBLK_U_CMD_DEL_DEV, 0);
        if (error == -ENODEV)
            error = 0; /* its server was faster */
    }
    ublk_control_close(&c);
    return error < 0 ? device_error(id, error, err) : 0;
}

void ublk_delete_unfinished(pid_t pid)
{
    enum { MAX = 4096 };
    struct ublk_control c;
    struct ublksrv_ctrl_dev_info d;
    int *ids = calloc(MAX, sizeof(*ids));
    if (!ids || ublk_control_open(&c, NULL) < 0) {
        free(ids);
        return;
    }
    unsigned n = ublk_list(ids, MAX);
    for (unsigned i = 0; i < n; i++) {
        c.unprivileged = false;
        /* Made by that process: it left its number. Started devices have been alive since. */
        if (ublk_control_get(&c, ids[i], &d) < 0 || d.ublksrv_flags != (uint64_t)pid ||
            d.state != UBLK_S_DEV_DEAD)
            continue;
        ublk_control_do(&c, ids[i], UBLK_U_CMD_STOP_DEV, 0);
        ublk_control_do(&c, ids[i], UBLK_U_CMD_DEL_DEV, 0);
    }
    ublk_control_close(&c);
    free(ids);
}

static int resize(struct ublk_control *c, int id, uint64_t size, struct blk_error *err)
{
    struct ublksrv_ctrl_dev_info d;
    struct ublk_params p;
    int error = ublk_control_get(c, id, &d);
    if (error >= 0 && !(c->features & UBLK_F_UPDATE_SIZE))
        return blk_error_set(err, -EOPNOTSUPP,
                             "this kernel cannot resize ublk devices; it takes Linux 6.16");
    if (error >= 0)
        error = ublk_control_get_params(c, id, &p);
    if (error >= 0 && d.flags & UBLK_F_ZONED)
        return blk_error_set(err, -EINVAL, "device %d is zoned; its size cannot change", id);
    if (error >= 0 && (!size || size % (UINT64_C(1) << (p.basic.logical_bs_shift & 31))))
        return blk_error_set(err, -EINVAL, "the size must be a multiple of the block size");
    if (error >= 0)
        error = ublk_control_do(c, id, UBLK_U_CMD_UPDATE_SIZE, size / 512);
    return error < 0 ? device_error(id, error, err) : 0;
}

int ublk_resize(int id, uint64_t size, struct blk_error *err)
{
    struct ublk_control c;
    int error = ublk_control_open(&c, err);
    if (error < 0)
        return error;
    error = resize(&c, id, size, err);
    ublk_control_close(&c);
    return error;
}
