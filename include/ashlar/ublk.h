/*
 * ashlar/ublk.h: any block device of ours as a block device of Linux, /dev/ublkbN.
 *
 * The kernel's ublk driver (module ublk_drv, Linux 6.0 and later) hands the requests of a device to
 * a process, which serves them from a `struct blk`. docs/ublk.md tells how it works. A program
 * that serves a device, its own driver's for example:
 *
 *     struct ublk_config config = UBLK_CONFIG_DEFAULT;
 *     struct blk *dev;
 *     struct ublk *u;
 *     struct blk_error err;
 *     if (blk_open("mem:1G", 0, &dev, &err) < 0 || ublk_start(dev, &config, &u, &err) < 0)
 *         die(err.text);
 *     puts(ublk_path(u));
 *     int error = ublk_serve(u, &err);    // until a signal, or the device is deleted
 *     blk_close(dev);
 *
 * Units: sizes in bytes. Errors: negative errno values, with a message in *err (which may be NULL).
 * Threads: a `struct ublk` belongs to one thread at a time; the rest may be called from any.
 * Rights: CAP_SYS_ADMIN, unless the device is an unprivileged one.
 */
#ifndef ASHLAR_UBLK_H
#define ASHLAR_UBLK_H

#include <sys/types.h>

#include <ashlar/blk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- serving --------------------------------------------------------------------------- */

/* How data comes from the application's memory to the device's and back. */
enum ublk_mode {
    UBLK_MODE_AUTO,      /* zero copy if kernel and device can; else copy */
    UBLK_MODE_COPY,      /* the kernel copies to and from a buffer of the request */
    UBLK_MODE_GET_DATA,  /* the same, but data of writes only when it is asked for */
    UBLK_MODE_USER_COPY, /* the server copies, with pread() and pwrite() */
    UBLK_MODE_ZERO_COPY, /* the device's I/O goes to the application's pages: only `file`, alone or
                            below filters that do not look at data; Linux 6.15 */
};

/* What becomes of the device when its server dies without having stopped it. */
enum ublk_recovery {
    UBLK_RECOVERY_NONE,    /* it ends: requests fail, the disk goes away */
    UBLK_RECOVERY_REISSUE, /* it waits for ublk_recover(); requests in flight are issued again */
    UBLK_RECOVERY_QUEUE,   /* it waits; requests in flight fail, later ones wait */
    UBLK_RECOVERY_FAIL,    /* it waits; all requests fail until then; Linux 6.13 */
};

#define UBLK_ANY_ID     (-1)
#define UBLK_MAX_IO     (32u << 20)
#define UBLK_MAX_DEPTH  4096u
#define UBLK_MAX_QUEUES 4096u

struct ublk_config {
    int id;              /* the N of /dev/ublkbN; UBLK_ANY_ID: the first that is free */
    unsigned queues;     /* 0: one for each processor, at most 4 and as many as the device has */
    unsigned depth;      /* requests in flight in a queue; 0: 128 */
    uint32_t block_size; /* logical, 512 to 4096; 0: the device's, at least 512 */
    uint32_t max_io;     /* largest request; 0: 256 KiB; not more than the device takes */
    enum ublk_mode mode;
    enum ublk_recovery recovery;
    bool unprivileged; /* for users without CAP_SYS_ADMIN; needs the rules of docs/ublk.md */
};
#define UBLK_CONFIG_DEFAULT                                                                        \
    {                                                                                              \
        .id = UBLK_ANY_ID                                                                          \
    }

struct ublk;

/*
 * Make the device: when this returns 0, /dev/ublkbN is there and answers. One thread a queue is
 * started, with a queue of dev each. dev stays the caller's and must stay open until ublk_stop().
 * Nothing is left behind on an error: -ENOENT and -ENOSYS: no ublk here; -EPERM, -EACCES: no right;
 * -EEXIST: the id is taken; -EINVAL: the configuration; -EOPNOTSUPP: the kernel cannot do that.
 * A zoned device becomes a zoned disk (Linux 6.6): its mode is user copy, and a recovery cannot be
 * UBLK_RECOVERY_REISSUE.
 */
ASHLAR_API int ublk_start(struct blk *dev, const struct ublk_config *config, struct ublk **u,
                          struct blk_error *err);

/* The same for the device id, whose server has died, and which was started with a recovery. All
 * but dev is as it was. Waits some seconds for the kernel to be done with the dead server. On
 * an error the process should end: only then the device surely waits for another recovery. */
ASHLAR_API int ublk_recover(struct blk *dev, int id, struct ublk **u, struct blk_error *err);

/* "/dev/ublkb0", 0. */
ASHLAR_API const char *ublk_path(const struct ublk *u);
ASHLAR_API int ublk_id(const struct ublk *u);

/* A file descriptor that becomes readable when the device has stopped, by whomever: for poll(). */
ASHLAR_API int ublk_event_fd(const struct ublk *u);

/*
 * Stop: write back what the kernel caches of the device, answer the requests in flight, remove the
 * disk, flush dev, end the threads, delete the device, free u. Also right if the device has
 * stopped already. Returns 0, or the error of the flush.
 */
ASHLAR_API int ublk_stop(struct ublk *u, struct blk_error *err);

/* Wait for SIGTERM, SIGINT, SIGHUP or the end of the device; then ublk_stop(). Another signal while
 * it stops ends the process. Block these signals before you start threads of your own. */
ASHLAR_API int ublk_serve(struct ublk *u, struct blk_error *err);

/*
 * Before any thread is started: make this a process that can serve a disk of the very system it
 * runs on. Its memory is locked and the kernel frees no memory by writing to disks on its behalf
 * (PR_SET_IO_FLUSHER), else, when memory is short, it would wait for itself. It gets a mount
 * namespace of its own, in which disks that are mounted later do not appear, else its exit could
 * unmount its own disk. What there is no right to do is left out.
 */
ASHLAR_API void ublk_prepare_process(void);

/* After dev was opened: forget the mounted disks in the process's own mount namespace, so that they
 * can be unmounted by others. Does nothing without ublk_prepare_process(). */
ASHLAR_API void ublk_forget_mounts(void);

/* ---- all devices ----------------------------------------------------------------------- */

enum ublk_state {
    UBLK_STATE_DEAD = 0,     /* not started yet, or ended and not deleted */
    UBLK_STATE_LIVE = 1,     /* */
    UBLK_STATE_QUIESCED = 2, /* its server died: requests wait for recovery */
    UBLK_STATE_FAIL_IO = 3,  /* its server died: requests fail until recovery */
};

struct ublk_info {
    int id;
    enum ublk_state state;
    pid_t pid; /* of the server, the last if it has died; -1: none */
    uid_t uid; /* of the owner of an unprivileged device */
    gid_t gid;
    unsigned queues;
    unsigned depth;
    uint32_t max_io;
    enum ublk_mode mode;
    enum ublk_recovery recovery;
    bool unprivileged;
    uint64_t features; /* bits, see ublk_feature_name() */
    bool has_params;   /* what follows is known */
    uint64_t size;
    uint32_t block_size;
    uint32_t physical_block_size;
    uint32_t optimal_io;
    uint32_t discard_granularity; /* 0: no discard */
    bool read_only;
    bool volatile_cache;
    bool write_zeroes;
    bool rotational;
    bool zoned;
    /* If zoned: */
    uint64_t zone_size;
    uint32_t max_open_zones;   /* 0: no limit */
    uint32_t max_active_zones; /* 0: no limit */
    uint32_t max_append;
};

/* What the kernel's driver offers: bits. 0 if it is too old to say (before Linux 6.5). */
ASHLAR_API int ublk_features(uint64_t *features, struct blk_error *err);

/* "USER_COPY"; NULL if this library knows no such bit (0 to 63). */
ASHLAR_API const char *ublk_feature_name(unsigned bit);

/* The ids of all devices, in order: fills up to max, returns how many. */
ASHLAR_API unsigned ublk_list(int *ids, unsigned max);

ASHLAR_API int ublk_get(int id, struct ublk_info *info, struct blk_error *err);

/* Write back what the kernel caches of the device, stop it and delete it, whatever its state; waits
 * until its server has flushed and closed it. */
ASHLAR_API int ublk_delete(int id, struct blk_error *err);

/* Delete the devices that a start in process pid made and did not bring to life. */
ASHLAR_API void ublk_delete_unfinished(pid_t pid);

/* Change the size that Linux sees, while the device is live; not beyond what its server serves.
 * -EOPNOTSUPP: before Linux 6.16. */
ASHLAR_API int ublk_resize(int id, uint64_t size, struct blk_error *err);

#ifdef __cplusplus
}
#endif

#endif
