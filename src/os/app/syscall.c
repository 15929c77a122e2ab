/* Which system call is which. Numbers are those of Linux on x86-64, from the C library's header. */
#include <sys/syscall.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/os.h"

enum { CALLS_MAX = 512 };

/* Names by number, made at build time; NULL: there is no such call. */
extern const char *const syscall_names[CALLS_MAX];

static syscall_function *const calls[CALLS_MAX] = {
    [__NR_access] = sys_access,
    [__NR_arch_prctl] = sys_arch_prctl,
    [__NR_brk] = sys_brk,
    [__NR_chdir] = sys_chdir,
    [__NR_chmod] = sys_chmod,
    [__NR_chown] = sys_zero,
    [__NR_clock_getres] = sys_clock_getres,
    [__NR_clock_gettime] = sys_clock_gettime,
    [__NR_clock_nanosleep] = sys_clock_nanosleep,
    [__NR_clone] = sys_clone,
    [__NR_close] = sys_close,
    [__NR_creat] = sys_creat,
    [__NR_dup] = sys_dup,
    [__NR_dup2] = sys_dup2,
    [__NR_dup3] = sys_dup3,
    [__NR_exit] = sys_exit,
    [__NR_exit_group] = sys_exit_group,
    [__NR_faccessat] = sys_faccessat,
    [__NR_fadvise64] = sys_zero,
    [__NR_fallocate] = sys_fallocate,
    [__NR_fchdir] = sys_fchdir,
    [__NR_fchmod] = sys_fchmod,
    [__NR_fchmodat] = sys_fchmodat,
    [__NR_fchown] = sys_zero,
    [__NR_fchownat] = sys_zero,
    [__NR_fcntl] = sys_fcntl,
    [__NR_fdatasync] = sys_fsync,
    [__NR_flock] = sys_zero,
    [__NR_fstat] = sys_fstat,
    [__NR_fstatfs] = sys_fstatfs,
    [__NR_fsync] = sys_fsync,
    [__NR_ftruncate] = sys_ftruncate,
    [__NR_futex] = sys_futex,
    [__NR_getcpu] = sys_getcpu,
    [__NR_getcwd] = sys_getcwd,
    [__NR_getdents64] = sys_getdents64,
    [__NR_getegid] = sys_zero,
    [__NR_geteuid] = sys_zero,
    [__NR_getgid] = sys_zero,
    [__NR_getpid] = sys_getpid,
    [__NR_getppid] = sys_zero,
    [__NR_getrandom] = sys_getrandom,
    [__NR_getrlimit] = sys_getrlimit,
    [__NR_getrusage] = sys_getrusage,
    [__NR_gettid] = sys_gettid,
    [__NR_gettimeofday] = sys_gettimeofday,
    [__NR_getuid] = sys_zero,
    [__NR_ioctl] = sys_ioctl,
    [__NR_kill] = sys_kill,
    [__NR_lchown] = sys_zero,
    [__NR_link] = sys_link,
    [__NR_linkat] = sys_linkat,
    [__NR_lseek] = sys_lseek,
    [__NR_lstat] = sys_lstat,
    [__NR_madvise] = sys_madvise,
    [__NR_mkdir] = sys_mkdir,
    [__NR_mkdirat] = sys_mkdirat,
    [__NR_mmap] = sys_mmap,
    [__NR_mprotect] = sys_mprotect,
    [__NR_mremap] = sys_mremap,
    [__NR_munmap] = sys_munmap,
    [__NR_nanosleep] = sys_nanosleep,
    [__NR_newfstatat] = sys_newfstatat,
    [__NR_open] = sys_open,
    [__NR_openat] = sys_openat,
    [__NR_poll] = sys_poll,
    [__NR_prctl] = sys_zero,
    [__NR_pread64] = sys_pread64,
    [__NR_preadv] = sys_preadv,
    [__NR_prlimit64] = sys_prlimit64,
    [__NR_pwrite64] = sys_pwrite64,
    [__NR_pwritev] = sys_pwritev,
    [__NR_read] = sys_read,
    [__NR_readlink] = sys_readlink,
    [__NR_readlinkat] = sys_readlinkat,
    [__NR_readv] = sys_readv,
    [__NR_rename] = sys_rename,
    [__NR_renameat] = sys_renameat,
    [__NR_renameat2] = sys_renameat,
    [__NR_rmdir] = sys_rmdir,
    [__NR_rt_sigaction] = sys_rt_sigaction,
    [__NR_rt_sigprocmask] = sys_rt_sigprocmask,
    [__NR_sched_getaffinity] = sys_sched_getaffinity,
    [__NR_sched_setaffinity] = sys_zero,
    [__NR_sched_yield] = sys_sched_yield,
    [__NR_sendfile] = sys_sendfile,
    [__NR_set_robust_list] = sys_zero,
    [__NR_set_tid_address] = sys_set_tid_address,
    [__NR_setgid] = sys_zero,
    [__NR_setpgid] = sys_zero,
    [__NR_setsid] = sys_zero,
    [__NR_setuid] = sys_zero,
    [__NR_sigaltstack] = sys_zero,
    [__NR_stat] = sys_stat,
    [__NR_statfs] = sys_statfs,
    [__NR_symlink] = sys_symlink,
    [__NR_symlinkat] = sys_symlinkat,
    [__NR_sync] = sys_sync,
    [__NR_sysinfo] = sys_sysinfo,
    [__NR_tgkill] = sys_tgkill,
    [__NR_time] = sys_time,
    [__NR_tkill] = sys_tkill,
    [__NR_truncate] = sys_truncate,
    [__NR_umask] = sys_umask,
    [__NR_uname] = sys_uname,
    [__NR_unlink] = sys_unlink,
    [__NR_unlinkat] = sys_unlinkat,
    [__NR_utimensat] = sys_utimensat,
    [__NR_write] = sys_write,
    [__NR_writev] = sys_writev,
};

/* Calls that libraries try first and do without. */
static const uint16_t expected[] = {__NR_clone3, __NR_rseq, __NR_statx, __NR_faccessat2};

static void tell_once(uint64_t number)
{
    static uint64_t told[CALLS_MAX / 64]; /* atomic */
    if (number >= CALLS_MAX) {
        base_log(BASE_LOG_WARNING, "%s: there is no system call %lu", program.name, number);
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
        if (expected[i] == number)
            return;
    const uint64_t bit = UINT64_C(1) << number % 64;
    if (__atomic_fetch_or(&told[number / 64], bit, __ATOMIC_RELAXED) & bit)
        return;
    base_log(BASE_LOG_WARNING, "%s: system call %s (%lu) is not there", program.name,
             syscall_names[number] ? syscall_names[number] : "unknown", number);
}

void app_syscall(struct syscall_frame *f)
{
    const uint64_t args[6] = {f->rdi, f->rsi, f->rdx, f->r10, f->r8, f->r9};
    const uint64_t number = f->rax;
    syscall_function *call = number < CALLS_MAX ? calls[number] : NULL;
    if (call) {
        f->rax = (uint64_t)call(args, f);
    } else {
        tell_once(number);
        f->rax = (uint64_t)-ENOSYS;
    }
    if (app_ending() && thread_current()->program)
        app_thread_exit();
}
