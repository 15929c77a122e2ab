/*
 * vfs/vfs.h: files by name: one tree of mounted file systems.
 *
 * A file system makes nodes (struct vfs_node is the head of its own struct) and answers the calls
 * of a struct vfs_ops. Everybody else uses the functions on paths and on struct vfs_file.
 *
 * Paths: absolute, or relative to `base`, an absolute path (NULL: the root). Constants, modes and
 * flags are those of Linux on x86-64. Results are negative errno values on errors. Any thread may
 * call; a struct vfs_file may be shared.
 *
 * Nothing here touches hardware or Linux: the tests run it on the host.
 */
#ifndef OS_VFS_H
#define OS_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"

enum { VFS_PATH_MAX = 1024, VFS_NAME_MAX = 255 };

enum {
    VFS_O_RDONLY = 0,
    VFS_O_WRONLY = 1,
    VFS_O_RDWR = 2,
    VFS_O_ACCMODE = 3,
    VFS_O_CREAT = 0100,
    VFS_O_EXCL = 0200,
    VFS_O_TRUNC = 01000,
    VFS_O_APPEND = 02000,
    VFS_O_NONBLOCK = 04000,
    VFS_O_DIRECTORY = 0200000,
    VFS_O_NOFOLLOW = 0400000,
};
enum {
    VFS_S_IFMT = 0170000,
    VFS_S_IFLNK = 0120000,
    VFS_S_IFREG = 0100000,
    VFS_S_IFBLK = 0060000,
    VFS_S_IFDIR = 0040000,
    VFS_S_IFCHR = 0020000,
};
enum { VFS_SEEK_SET, VFS_SEEK_CUR, VFS_SEEK_END };

struct vfs_stat {
    uint64_t ino, size, blocks; /* blocks of 512 bytes */
    uint64_t atime_ns, mtime_ns, ctime_ns;
    uint64_t dev, rdev;
    uint32_t mode, nlink, uid, gid, blksize;
};

struct vfs_statfs {
    uint64_t blocks, bfree, files, ffree;
    uint32_t type, bsize, namelen;
};

struct vfs_entry {
    uint64_t ino;
    uint64_t next; /* cookie: go on behind this entry */
    uint32_t mode; /* the type of VFS_S_IFMT alone */
    char name[VFS_NAME_MAX + 1];
};

enum { /* what vfs_setattr() sets */
       VFS_SET_MODE = 1,
       VFS_SET_SIZE = 8,
       VFS_SET_ATIME = 16,
       VFS_SET_MTIME = 32,
};

/* ---- what a file system is made of ------------------------------------------------------ */

struct vfs_mount;
struct vfs_file;

struct vfs_node {
    const struct vfs_ops *ops;
    struct vfs_mount *mount;
    unsigned refs; /* atomic */
    uint32_t mode; /* type and permissions when it was looked up */
};

struct vfs_ops {
    /* The node of a name; the caller puts it. */
    int (*lookup)(struct vfs_node *dir, const char *name, struct vfs_node **node);
    /* Make a file, directory or symbolic link (to target). */
    int (*make)(struct vfs_node *dir, const char *name, uint32_t mode, const char *target,
                struct vfs_node **node);
    int (*link)(struct vfs_node *dir, const char *name, struct vfs_node *node);
    int (*unlink)(struct vfs_node *dir, const char *name, bool directory);
    int (*rename)(struct vfs_node *dir, const char *name, struct vfs_node *new_dir,
                  const char *new_name);
    int (*readlink)(struct vfs_node *node, char *target, size_t size); /* its length */
    int (*getattr)(struct vfs_node *node, struct vfs_stat *stat);
    int (*setattr)(struct vfs_node *node, unsigned what, const struct vfs_stat *stat);
    int (*statfs)(struct vfs_node *node, struct vfs_statfs *statfs);
    void (*release)(struct vfs_node *node); /* nobody refers to it any more */

    int (*open)(struct vfs_file *file); /* may set file->priv */
    void (*close)(struct vfs_file *file);
    int64_t (*read)(struct vfs_file *file, void *data, size_t n, uint64_t offset);
    int64_t (*write)(struct vfs_file *file, const void *data, size_t n, uint64_t offset);
    int (*readdir)(struct vfs_file *file, uint64_t cookie, struct vfs_entry *entry); /* 1, 0: end */
    int (*fsync)(struct vfs_file *file);
    int (*ioctl)(struct vfs_file *file, unsigned command, void *arg);
};

struct vfs_type {
    const char *name;
    /* Make the root node. `source` is what fstab names before the colon. */
    int (*mount)(struct vfs_mount *mount, const char *source, struct vfs_node **root);
    /* Before the root is put: free the nodes that the file system itself holds. May be NULL. */
    void (*empty)(struct vfs_mount *mount);
    void (*unmount)(struct vfs_mount *mount);
    struct vfs_type *next;
};

struct vfs_mount {
    const struct vfs_type *type;
    char source[64];
    char path[VFS_PATH_MAX]; /* "/" or "/data" */
    bool read_only;
    uint64_t device; /* a number for stat */
    struct vfs_node *root;
    unsigned files; /* open ones; atomic */
    void *priv;     /* of the file system */
    struct vfs_mount *next;
};

struct vfs_file {
    unsigned refs; /* atomic */
    unsigned flags;
    struct vfs_node *node;
    struct base_mutex lock; /* guards offset */
    uint64_t offset;
    void *priv; /* of the file system */
    char path[];
};

void vfs_type_register(struct vfs_type *type);
/* Take a node into use by others: called by a file system for each node it makes. */
void vfs_node_init(struct vfs_node *node, const struct vfs_ops *ops, struct vfs_mount *mount,
                   uint32_t mode);
struct vfs_node *vfs_node_get(struct vfs_node *node);
void vfs_node_put(struct vfs_node *node);

/* ---- mounts ----------------------------------------------------------------------------- */

/* Mount at a directory that exists ("/" is the first), with no mount at it or below. options:
 * "ro", "rw". */
int vfs_mount(const char *source, const char *path, const char *type, const char *options);
/* -EBUSY while files are open there. */
int vfs_unmount(const char *path);
/* The index-th mount, for those who list them; NULL behind the last. */
const struct vfs_mount *vfs_mount_at(unsigned index);
/* Entries "source:/path:type[:options]" separated by blanks, with or without [...] around. Mounts
 * each, making its directory; tells of those that fail. How many failed. */
int vfs_fstab(const char *text);
/* Unmount all, in reverse order. */
void vfs_fini(void);

/* ---- by path ---------------------------------------------------------------------------- */

int vfs_open(const char *base, const char *path, unsigned flags, uint32_t mode,
             struct vfs_file **file);
int vfs_stat(const char *base, const char *path, bool follow, struct vfs_stat *stat);
int vfs_setattr(const char *base, const char *path, bool follow, unsigned what,
                const struct vfs_stat *stat);
int vfs_mkdir(const char *base, const char *path, uint32_t mode);
int vfs_unlink(const char *base, const char *path, bool directory);
int vfs_rename(const char *old_base, const char *old_path, const char *base, const char *path);
int vfs_link(const char *old_base, const char *old_path, const char *base, const char *path);
int vfs_symlink(const char *target, const char *base, const char *path);
int vfs_readlink(const char *base, const char *path, char *target, size_t size);
int vfs_statfs(const char *base, const char *path, struct vfs_statfs *statfs);
/* The absolute path without links, `.` and `..`. */
int vfs_realpath(const char *base, const char *path, char *real, size_t size);

/* ---- open files ------------------------------------------------------------------------- */

struct vfs_file *vfs_file_get(struct vfs_file *file);
void vfs_close(struct vfs_file *file); /* drops one reference */
int64_t vfs_read(struct vfs_file *file, void *data, size_t n);
int64_t vfs_write(struct vfs_file *file, const void *data, size_t n);
int64_t vfs_pread(struct vfs_file *file, void *data, size_t n, uint64_t offset);
int64_t vfs_pwrite(struct vfs_file *file, const void *data, size_t n, uint64_t offset);
int64_t vfs_lseek(struct vfs_file *file, int64_t offset, int whence);
int vfs_fsync(struct vfs_file *file);
int vfs_truncate(struct vfs_file *file, uint64_t size);
int vfs_fstat(struct vfs_file *file, struct vfs_stat *stat);
int vfs_ioctl(struct vfs_file *file, unsigned command, void *arg);
/* The next entry of a directory: 1, or 0 at the end. */
int vfs_readdir(struct vfs_file *file, struct vfs_entry *entry);

/* ---- the file systems ------------------------------------------------------------------- */

void ramfs_register(void);
void devfs_register(void);
/* A character device /dev/NAME. */
struct devfs_char {
    int64_t (*read)(void *data, size_t n);
    int64_t (*write)(const void *data, size_t n);
    bool terminal;
};
int devfs_add_char(const char *name, const struct devfs_char *ops);
/* A disk /dev/NAME, which is the block device of a spec. */
int devfs_add_block(const char *name, const char *spec);
/* Unpack a newc cpio archive into the tree. 0, or -EINVAL with a message. */
int cpio_unpack(const void *archive, size_t size);

#endif
