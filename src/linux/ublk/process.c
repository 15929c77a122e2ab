/* What a process must be so that it can serve a disk of the system that it runs on. */
#include <ashlar/ublk.h>

#include <errno.h>
#include <link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/platform.h"
#include "base/util.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

enum { LARGE_TABLE = 1 << 20 };

static bool own_namespace;

/* Lock what the program and each library consists of, but for large tables (of libicu, which others
 * bring with them), which nothing here looks at. */
static int lock_object(struct dl_phdr_info *object, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        const void *at = (const void *)(object->dlpi_addr + p->p_vaddr);
        bool table = !(p->p_flags & (PF_X | PF_W));
        if (p->p_type == PT_LOAD && !(table && p->p_memsz > LARGE_TABLE))
            mlock(at, p->p_memsz);
    }
    return 0;
}

/* Whether there is a limit to locked memory, so that later mappings would fail. */
static bool locking_is_limited(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return false;
    size_t more = limit.rlim_cur + BASE_PAGE; /* root is not held to it, nor is CAP_IPC_LOCK */
    void *memory = mmap(NULL, more, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_LOCKED, -1, 0);
    if (memory == MAP_FAILED)
        return true;
    munmap(memory, more);
    return false;
}

void ublk_prepare_process(void)
{
    own_namespace =
        unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    if (!own_namespace)
        base_log(BASE_LOG_INFO, "ublk: no mount namespace of its own: %s", strerror(errno));
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
        base_log(BASE_LOG_INFO, "ublk: not an I/O flusher: %s", strerror(errno));
    /* Code and data at once; the rest (a RAM disk may be large) as soon as it is used. */
    errno = EPERM;
    if (locking_is_limited() || mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
        base_log(BASE_LOG_INFO, "ublk: memory is not locked: %s", strerror(errno));
    else
        dl_iterate_phdr(lock_object, NULL);
}

/* Filesystems that the kernel makes, and that sit on no disk. */
static bool is_kernels(const char *type)
{
    static const char *const types[] = {"proc",    "sysfs",   "devtmpfs",   "devpts",  "tmpfs",
                                        "ramfs",   "cgroup",  "cgroup2",    "mqueue",  "hugetlbfs",
                                        "debugfs", "tracefs", "securityfs", "configfs"};
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
        if (!strcmp(type, types[i]))
            return true;
    return false;
}

/* The next mount that is to go, in the order of /proc/self/mountinfo (see proc(5)). */
static bool next_mount(FILE *f, char path[4096])
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, f) > 0) {
        char type[64];
        const char *rest = strstr(line, " - ");
        found = rest && sscanf(rest, " - %63s", type) == 1 && !is_kernels(type) &&
                sscanf(line, "%*s %*s %*s %*s %4095s", path) == 1 && strcmp(path, "/") != 0;
    }
    free(line);
    return found;
}

/* Spaces and the like are written as \040. */
static void unescape(char *path)
{
    char *out = path;
    for (; *path; out++) {
        unsigned c;
        if (path[0] == '\\' && sscanf(path + 1, "%3o", &c) == 1) {
            *out = (char)c;
            path += 4;
        } else {
            *out = *path++;
        }
    }
    *out = '\0';
}

void ublk_forget_mounts(void)
{
    char path[4096];
    FILE *f = own_namespace ? fopen("/proc/self/mountinfo", "re") : NULL;
    while (f && next_mount(f, path)) {
        unescape(path);
        if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL)
            base_log(BASE_LOG_INFO, "ublk: %s stays mounted here: %s", path, strerror(errno));
    }
    if (f)
        fclose(f);
}
