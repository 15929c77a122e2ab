/* The system calls that the device syscall:PATH makes: by the instruction, as a program would. */
#include <sys/syscall.h>

#include "os/app/app.h"
#include "os/thread/thread.h"
#include "os/vfs/blk_vfs.h"

static int64_t call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    int64_t result;
    register uint64_t r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static int64_t open_file(const char *path, unsigned flags)
{
    return call(__NR_open, (uint64_t)(uintptr_t)path, flags, 0644, 0);
}
static void close_file(int64_t file)
{
    call(__NR_close, (uint64_t)file, 0, 0, 0);
}
static int64_t pread_file(int64_t file, void *data, size_t n, uint64_t offset)
{
    return call(__NR_pread64, (uint64_t)file, (uint64_t)(uintptr_t)data, n, offset);
}
static int64_t pwrite_file(int64_t file, const void *data, size_t n, uint64_t offset)
{
    return call(__NR_pwrite64, (uint64_t)file, (uint64_t)(uintptr_t)data, n, offset);
}
static int64_t fsync_file(int64_t file)
{
    return call(__NR_fsync, (uint64_t)file, 0, 0, 0);
}
static int64_t size_of_file(int64_t file)
{
    return call(__NR_lseek, (uint64_t)file, 0, VFS_SEEK_END, 0);
}
static int64_t truncate_file(int64_t file, uint64_t size)
{
    return call(__NR_ftruncate, (uint64_t)file, size, 0, 0);
}

const struct file_calls file_calls_syscall = {
    thread_syscalls_begin, thread_syscalls_end, open_file,    close_file,    pread_file,
    pwrite_file,           fsync_file,          size_of_file, truncate_file,
};
