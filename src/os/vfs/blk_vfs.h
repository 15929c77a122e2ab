/* vfs/blk_vfs.h: the ways in which blk_vfs.c reaches a file. */
#ifndef OS_BLK_VFS_H
#define OS_BLK_VFS_H

#include <stddef.h>
#include <stdint.h>

/* Results are negative errno values on errors. A handle is what open returns. */
struct file_calls {
    int (*begin)(void); /* before the thread's first call */
    void (*end)(void);  /* after its last */
    int64_t (*open)(const char *path, unsigned flags);
    void (*close)(int64_t file);
    int64_t (*pread)(int64_t file, void *data, size_t n, uint64_t offset);
    int64_t (*pwrite)(int64_t file, const void *data, size_t n, uint64_t offset);
    int64_t (*fsync)(int64_t file);
    int64_t (*size)(int64_t file);
    int64_t (*truncate)(int64_t file, uint64_t size);
};

extern const struct file_calls file_calls_syscall; /* app/calls.c */

#endif
