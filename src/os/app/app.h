/*
 * app/app.h: one static Linux program at a time, run as it is: its memory, files, threads, and the
 * system calls that it makes.
 *
 *   elf.c       its image into memory
 *   program.c   start and end, threads, faults
 *   syscall.c   which call is which
 *   sys_file.c, sys_memory.c, sys_thread.c, sys_info.c   the calls
 */
#ifndef OS_APP_H
#define OS_APP_H

#include <stdbool.h>
#include <stdint.h>

#include "os/thread/thread.h"
#include "os/vfs/vfs.h"

enum { FILES_MAX = 256, ARGUMENTS_MAX = 64 };

/* A thread of the program: thread->program. */
struct program_thread {
    uint32_t tid;
    uint64_t clear_tid; /* address that becomes 0, and is woken, when it ends; 0: none */
    uint64_t signal_mask;
};

struct program {
    struct base_mutex lock; /* guards files, cwd, brk */
    struct vfs_file *files[FILES_MAX];
    bool close_on_exec[FILES_MAX];
    char cwd[VFS_PATH_MAX];
    uint32_t umask;
    uint64_t brk_start, brk, brk_end;
    char name[VFS_PATH_MAX];
    struct {
        uint64_t handler, flags, restorer, mask;
    } signals[65];

    struct spinlock end_lock; /* guards what follows */
    unsigned threads;
    uint32_t next_tid;
    bool ending; /* atomic: all threads must leave */
    int status;
    struct wait_queue ended; /* woken when threads is 0 */
};
extern struct program program;

/* Run a program and wait for its end. Its status (128 + signal if it was killed), or 127 with a
 * message if it cannot be started. */
int app_run(unsigned argc, char **argv);
/* End all of it. Any thread, also in an interrupt. */
void app_end(int status);
/* The calling thread of the program ends. */
__attribute__((noreturn)) void app_thread_exit(void);
bool app_running(void);
/* A thread that will return from a system call with this frame; its vector registers are not set
 * yet. thread_start() it. NULL: no memory. */
struct thread *app_thread_make(const struct syscall_frame *frame);
static inline bool app_ending(void)
{
    return __atomic_load_n(&program.ending, __ATOMIC_RELAXED);
}

/* elf.c: 0, or a negative errno with a message. */
struct elf_image {
    uint64_t entry, headers, header_count, header_size, end;
};
int elf_load(const char *path, struct elf_image *image);

/* ---- calls ------------------------------------------------------------------------------ */

typedef int64_t syscall_function(const uint64_t args[6], struct syscall_frame *frame);

/* The file of a descriptor, held; NULL: there is none. */
struct vfs_file *app_file(uint64_t fd);
/* Sleep until a time, or the end of the program. */
void app_sleep(uint64_t until);
/* Wait until the value at an address is changed and its waiters are woken. */
int64_t futex_wait(uint64_t address, uint32_t expected, uint32_t bits, uint64_t until);
int64_t futex_wake(uint64_t address, uint32_t count, uint32_t bits);
void futex_wake_all(void); /* the program ends */

syscall_function sys_read, sys_write, sys_open, sys_close, sys_stat, sys_fstat, sys_lstat, sys_poll,
    sys_lseek, sys_ioctl, sys_pread64, sys_pwrite64, sys_readv, sys_writev, sys_access, sys_dup,
    sys_dup2, sys_fcntl, sys_fsync, sys_truncate, sys_ftruncate, sys_getcwd, sys_chdir, sys_fchdir,
    sys_rename, sys_mkdir, sys_rmdir, sys_creat, sys_link, sys_unlink, sys_symlink, sys_readlink,
    sys_chmod, sys_fchmod, sys_umask, sys_statfs, sys_fstatfs, sys_getdents64, sys_openat,
    sys_mkdirat, sys_newfstatat, sys_unlinkat, sys_renameat, sys_linkat, sys_symlinkat,
    sys_readlinkat, sys_fchmodat, sys_faccessat, sys_utimensat, sys_fallocate, sys_dup3, sys_preadv,
    sys_pwritev, sys_sendfile, sys_sync;
syscall_function sys_mmap, sys_mprotect, sys_munmap, sys_brk, sys_mremap, sys_madvise;
syscall_function sys_rt_sigaction, sys_rt_sigprocmask, sys_clone, sys_exit, sys_exit_group,
    sys_arch_prctl, sys_gettid, sys_getpid, sys_futex, sys_set_tid_address, sys_kill, sys_tgkill,
    sys_tkill, sys_sched_yield, sys_sched_getaffinity, sys_getcpu;
syscall_function sys_nanosleep, sys_clock_gettime, sys_clock_getres, sys_clock_nanosleep,
    sys_gettimeofday, sys_time, sys_uname, sys_sysinfo, sys_getrandom, sys_getrlimit, sys_prlimit64,
    sys_getrusage, sys_zero;

#endif
