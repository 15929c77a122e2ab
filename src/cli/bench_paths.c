/*
 * The paths that `ashlar bench` compares: one row each. To add a path, write its two functions and
 * its row; table, JSON and report take it from there. A row whose jobs run elsewhere names a
 * struct bench_remote instead of start.
 */
#include "cli/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- helpers of paths ------------------------------------------------------------------ */

bool bench_in_path(const char *program)
{
    char file[512];
    const char *at = getenv("PATH");
    while (at && *at) {
        int len = (int)strcspn(at, ":");
        snprintf(file, sizeof(file), "%.*s/%s", len, at, program);
        if (access(file, X_OK) == 0)
            return true;
        at += len + (at[len] == ':');
    }
    return false;
}

static const char *always(void)
{
    return NULL;
}

static bool answers(const char *socket_path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Run a server and wait until its socket answers. What it prints goes to a file in the folder. */
static int start_server(const struct bench_place *place, const char *name, const char *socket_path,
                        const char *const argv[], pid_t *server, char why[256])
{
    char log[400];
    snprintf(log, sizeof(log), "%s/%s.log", place->dir, name);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* it must not outlive us */
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        int null = open("/dev/null", O_RDONLY);
        if (fd < 0 || null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
            _exit(127);
        setpgid(0, 0); /* a Ctrl-C is for us; we end it */
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int i = 0; pid > 0 && i < 1000; i++) {
        if (answers(socket_path)) {
            *server = pid;
            return 0;
        }
        if (waitpid(pid, NULL, WNOHANG) == pid)
            break;
        nanosleep(&pause, NULL);
        if (i == 999)
            kill(pid, SIGKILL);
    }
    char line[160] = "";
    FILE *f = fopen(log, "re");
    if (f && !fgets(line, sizeof(line), f))
        line[0] = '\0';
    if (f)
        fclose(f);
    line[strcspn(line, "\n")] = '\0';
    snprintf(why, 256, "%s did not start: %s", argv[0], line);
    return -1;
}

/* ---- this process ---------------------------------------------------------------------- */

static int start_scheme(const char *scheme, const struct bench_place *place, char spec[512])
{
    snprintf(spec, 512, "%s:%llu", scheme, (unsigned long long)place->size);
    return 0;
}

static int start_null(const struct bench_place *place, char spec[512], pid_t *server, char why[256])
{
    (void)server;
    (void)why;
    return start_scheme("null", place, spec);
}

static int start_mem(const struct bench_place *place, char spec[512], pid_t *server, char why[256])
{
    (void)server;
    (void)why;
    return start_scheme("mem", place, spec);
}

/* ---- files ----------------------------------------------------------------------------- */

/* A file of the run, shared by the paths that go to it the same way; made by the first. */
static int start_file(const char *scheme, bool direct, const struct bench_place *place,
                      char spec[512])
{
    snprintf(spec, 512, "%s:%s/%s.img?create=%llu&direct=%s", scheme, place->dir,
             direct ? "direct" : "cached", (unsigned long long)place->size, direct ? "on" : "off");
    return 0;
}

static int start_file_cached(const struct bench_place *place, char spec[512], pid_t *server,
                             char why[256])
{
    (void)server;
    (void)why;
    return start_file("file", false, place, spec);
}

static int start_file_direct(const struct bench_place *place, char spec[512], pid_t *server,
                             char why[256])
{
    (void)server;
    (void)why;
    return start_file("file", true, place, spec);
}

static int start_psync_cached(const struct bench_place *place, char spec[512], pid_t *server,
                              char why[256])
{
    (void)server;
    (void)why;
    return start_file("psync", false, place, spec);
}

static int start_psync_direct(const struct bench_place *place, char spec[512], pid_t *server,
                              char why[256])
{
    (void)server;
    (void)why;
    return start_file("psync", true, place, spec);
}

/* ---- NBD ------------------------------------------------------------------------------- */

static void nbd_names(const struct bench_place *place, const char *name, char socket_path[108],
                      char spec[512])
{
    snprintf(socket_path, 108, "%s/%s.sock", place->dir, name);
    snprintf(spec, 512, "nbd+unix:///?socket=%s", socket_path);
}

static int start_nbd(const struct bench_place *place, char spec[512], pid_t *server, char why[256])
{
    char socket_path[108], device[64];
    nbd_names(place, "nbd", socket_path, spec);
    snprintf(device, sizeof(device), "mem:%llu", (unsigned long long)place->size);
    const char *const argv[] = {"/proc/self/exe", "serve",     "nbd", device,
                                "--socket",       socket_path, NULL};
    return start_server(place, "nbd", socket_path, argv, server, why);
}

static const char *no_nbdkit(void)
{
    return bench_in_path("nbdkit") ? NULL : "nbdkit is not installed";
}

static int start_nbdkit(const struct bench_place *place, char spec[512], pid_t *server,
                        char why[256])
{
    char socket_path[108], size[64];
    nbd_names(place, "nbdkit", socket_path, spec);
    snprintf(size, sizeof(size), "size=%llu", (unsigned long long)place->size);
    const char *const argv[] = {"nbdkit", "-f", "-U", socket_path, "memory", size, NULL};
    return start_server(place, "nbdkit", socket_path, argv, server, why);
}

static const char *no_qsd(void)
{
    return bench_in_path("qemu-storage-daemon") ? NULL : "qemu-storage-daemon is not installed";
}

static int start_qsd(const struct bench_place *place, char spec[512], pid_t *server, char why[256])
{
    char socket_path[108], node[128], address[160];
    nbd_names(place, "qsd", socket_path, spec);
    snprintf(node, sizeof(node), "driver=null-co,node-name=n,size=%llu",
             (unsigned long long)place->size);
    snprintf(address, sizeof(address), "addr.type=unix,addr.path=%s", socket_path);
    const char *const argv[] = {"qemu-storage-daemon",
                                "--blockdev",
                                node,
                                "--nbd-server",
                                address,
                                "--export",
                                "type=nbd,id=e,node-name=n,name=,writable=on",
                                NULL};
    return start_server(place, "qsd", socket_path, argv, server, why);
}

/* ---- guests (bench_guest.c) ------------------------------------------------------------- */

#define NULL_DISK  "A guest on QEMU's null disk"
#define FILE_DISK  "A guest on a raw file"
#define GUEST_FILE "Files in a guest"

#define UNIKERNEL(name, title, family, disk, device, fill)                                         \
    {                                                                                              \
        name, title, family, false, bench_no_unikernel, NULL, fill, &bench_unikernel, disk, device \
    }
#define LINUX_GUEST(name, title, family, disk)                                                     \
    {                                                                                              \
        name, title, family, true, bench_no_linux_guest, NULL, false, &bench_linux_guest, disk,    \
            "/dev/vda"                                                                             \
    }

/* ---- block devices of Linux (in a guest, which has the modules; bench_guest.c) ----------- */

#define NULL_BLOCK "Linux disks: null"
#define RAM_BLOCK  "Linux disks: memory"
#define FILE_BLOCK "Linux disks: a file on tmpfs"
#define FILL       " && dd if=/dev/zero of=$d bs=1M oflag=direct 2>/dev/null; echo $d"
#define MAKE_FILE  "head -c $SIZE /dev/zero >/dev/shm/file && "

#define LINUX_DISK(name, title, family, peer, setup)                                               \
    {                                                                                              \
        name, title, family, peer, bench_no_linux_guest, NULL, false, &bench_linux_guest,          \
            BENCH_DISK_NONE, NULL, setup                                                           \
    }

/* ---- programs beside the data (bench_csd.c) ------------------------------------------------ */

#define QUESTION(device, how, title, family, peer, way)                                            \
    {                                                                                              \
        "csd-" device "-" how, title, family, peer, bench_no_programs, NULL, false, &bench_csd,    \
            BENCH_DISK_NONE, device, NULL, way                                                     \
    }
#define QUESTIONS(device, family)                                                                  \
    QUESTION(device, "native", device ": plain C, all data read", family, true, BENCH_CSD_NATIVE), \
        QUESTION(device, "jit", device ": program, compiled", family, false, BENCH_CSD_JIT),       \
        QUESTION(device, "checked", device ": program, checked", family, false,                    \
                 BENCH_CSD_CHECKED),                                                               \
        QUESTION(device, "interp", device ": program, interpreted", family, false,                 \
                 BENCH_CSD_INTERP)

/* ---- the table ------------------------------------------------------------------------- */

const struct bench_path_kind bench_path_kinds[] = {
    {"null", "null: the engine alone", "Null and memory", false, always, start_null, false},
    {"mem", "mem: a disk in memory", "Null and memory", false, always, start_mem, true},
    {"file", "file: io_uring, page cache", "Files through the page cache", false, always,
     start_file_cached, true},
    {"file-direct", "file: io_uring, O_DIRECT", "Files with O_DIRECT", false, always,
     start_file_direct, true},
    {"psync", "pread and pwrite, page cache", "Files through the page cache", true, always,
     start_psync_cached, false},
    {"psync-direct", "pread and pwrite, O_DIRECT", "Files with O_DIRECT", true, always,
     start_psync_direct, false},
    {"nbd", "NBD: ashlar serve nbd, memory", "NBD over a unix socket", false, always, start_nbd,
     true},
    {"nbdkit", "NBD: nbdkit, memory", "NBD over a unix socket", true, no_nbdkit, start_nbdkit,
     true},
    {"qsd", "NBD: qemu-storage-daemon, null", "NBD over a unix socket", true, no_qsd, start_qsd,
     false},
    UNIKERNEL("unikernel-null", "unikernel, polled", NULL_DISK, BENCH_DISK_NULL, "vda?mode=poll",
              false),
    UNIKERNEL("unikernel-null-irq", "unikernel, interrupts", NULL_DISK, BENCH_DISK_NULL,
              "vda?mode=interrupt", false),
    UNIKERNEL("unikernel-vfs", "unikernel, VFS", NULL_DISK, BENCH_DISK_NULL, "vfs:/dev/vda", false),
    UNIKERNEL("unikernel-syscall", "unikernel, system calls", NULL_DISK, BENCH_DISK_NULL,
              "syscall:/dev/vda", false),
    LINUX_GUEST("guest-linux-null", "Linux guest, fio io_uring", NULL_DISK, BENCH_DISK_NULL),
    UNIKERNEL("unikernel-file", "unikernel, raw file, polled", FILE_DISK, BENCH_DISK_FILE,
              "vda?mode=poll", false),
    UNIKERNEL("unikernel-file-irq", "unikernel, raw file, interrupts", FILE_DISK, BENCH_DISK_FILE,
              "vda?mode=interrupt", false),
    LINUX_GUEST("guest-linux-file", "Linux guest, raw file, io_uring", FILE_DISK, BENCH_DISK_FILE),
    {"qemu-img-file", "qemu-img bench (random: strides)", FILE_DISK, true, bench_no_qemu_img, NULL,
     false, &bench_qemu_img, BENCH_DISK_FILE, NULL},
    UNIKERNEL("unikernel-ramfs", "unikernel, ramfs", GUEST_FILE, BENCH_DISK_NONE,
              "vfs:/bench.img?create=", true),
    UNIKERNEL("unikernel-9p", "unikernel, 9P", GUEST_FILE, BENCH_DISK_SHARE,
              "vfs:/share/bench.img?create=", false),
    LINUX_DISK("ublk-null", "ublk: null", NULL_BLOCK, false,
               "modprobe ublk_drv && $ASHLAR serve ublk null:$SIZE"),
    LINUX_DISK("null_blk", "null_blk", NULL_BLOCK, true,
               "modprobe null_blk gb=1 irqmode=0 queue_mode=2 submit_queues=2 hw_queue_depth=128 "
               "&& echo /dev/nullb0"),
    LINUX_DISK("ublk-mem", "ublk: mem", RAM_BLOCK, false,
               "modprobe ublk_drv && d=$($ASHLAR serve ublk mem:$SIZE)" FILL),
    LINUX_DISK("brd", "brd", RAM_BLOCK, true,
               "modprobe brd rd_nr=1 rd_size=$((SIZE / 1024)) && d=/dev/ram0" FILL),
    LINUX_DISK("ublk-file", "ublk: file", FILE_BLOCK, false,
               MAKE_FILE "modprobe ublk_drv && $ASHLAR serve ublk file:/dev/shm/file"),
    LINUX_DISK("loop", "loop, direct I/O", FILE_BLOCK, true,
               MAKE_FILE "modprobe loop && losetup --direct-io=on --show -f /dev/shm/file"),
    QUESTIONS("mem", "Programs beside the data: memory"),
    QUESTIONS("file", "Programs beside the data: a file, O_DIRECT"),
    QUESTIONS("zns", "Programs beside the data: zones in memory"),
    {0},
};
