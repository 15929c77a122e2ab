/* System calls on files: descriptors, and the VFS behind them. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/memory/user.h"
#include "os/os.h"

enum {
    AT_FDCWD = -100,
    AT_SYMLINK_NOFOLLOW = 0x100,
    AT_REMOVEDIR = 0x200,
    AT_EMPTY_PATH = 0x1000,
    O_CLOEXEC = 02000000,
    IOV_MAX = 1024,
    IO_MAX = 0x7ffff000,
};

/* ---- descriptors ------------------------------------------------------------------------ */

struct vfs_file *app_file(uint64_t fd)
{
    base_mutex_lock(&program.lock);
    struct vfs_file *f = fd < FILES_MAX ? program.files[fd] : NULL;
    if (f)
        vfs_file_get(f);
    base_mutex_unlock(&program.lock);
    return f;
}

/* Put a file, whose reference goes over, at the first free descriptor from `from` on. */
static int64_t install(struct vfs_file *file, unsigned from, bool close_on_exec)
{
    base_mutex_lock(&program.lock);
    unsigned fd = from;
    while (fd < FILES_MAX && program.files[fd])
        fd++;
    if (fd < FILES_MAX) {
        program.files[fd] = file;
        program.close_on_exec[fd] = close_on_exec;
    }
    base_mutex_unlock(&program.lock);
    if (fd < FILES_MAX)
        return fd;
    vfs_close(file);
    return -EMFILE;
}

int64_t sys_close(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    base_mutex_lock(&program.lock);
    struct vfs_file *f = a[0] < FILES_MAX ? program.files[a[0]] : NULL;
    if (f)
        program.files[a[0]] = NULL;
    base_mutex_unlock(&program.lock);
    if (!f)
        return -EBADF;
    vfs_close(f);
    return 0;
}

static int64_t duplicate(uint64_t fd, unsigned from, bool close_on_exec)
{
    struct vfs_file *f = app_file(fd);
    if (!f)
        return -EBADF;
    return install(f, from, close_on_exec);
}

int64_t sys_dup(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return duplicate(a[0], 0, false);
}

static int64_t duplicate_to(uint64_t from, uint64_t to, bool close_on_exec)
{
    struct vfs_file *f = app_file(from), *old;
    if (!f || to >= FILES_MAX) {
        if (f)
            vfs_close(f);
        return -EBADF;
    }
    base_mutex_lock(&program.lock);
    old = program.files[to];
    program.files[to] = f;
    program.close_on_exec[to] = close_on_exec;
    base_mutex_unlock(&program.lock);
    if (old)
        vfs_close(old);
    return (int64_t)to;
}

int64_t sys_dup2(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return duplicate_to(a[0], a[1], false);
}

int64_t sys_dup3(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return a[0] == a[1] ? -EINVAL : duplicate_to(a[0], a[1], a[2] & O_CLOEXEC);
}

int64_t sys_fcntl(const uint64_t a[6], struct syscall_frame *frame)
{
    enum { F_DUPFD = 0, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW };
    enum { F_DUPFD_CLOEXEC = 1030 };
    (void)frame;
    if (a[1] == F_DUPFD || a[1] == F_DUPFD_CLOEXEC)
        return a[2] >= FILES_MAX ? -EINVAL
                                 : duplicate(a[0], (unsigned)a[2], a[1] == F_DUPFD_CLOEXEC);
    struct vfs_file *f = app_file(a[0]);
    if (!f)
        return -EBADF;
    int64_t r = 0;
    switch (a[1]) {
    case F_GETFD:
        r = program.close_on_exec[a[0]];
        break;
    case F_SETFD:
        program.close_on_exec[a[0]] = a[2] & 1;
        break;
    case F_GETFL:
        r = f->flags;
        break;
    case F_SETFL:
        f->flags = (f->flags & ~(unsigned)VFS_O_APPEND) | (a[2] & VFS_O_APPEND);
        break;
    case F_GETLK: { /* nobody else could hold one */
        const uint16_t unlocked = 2;
        if (user_access(a[2], 32, USER_READ | USER_WRITE))
            memcpy((void *)(uintptr_t)a[2], &unlocked, 2);
        else
            r = -EFAULT;
        break;
    }
    case F_SETLK:
    case F_SETLKW:
        break;
    default:
        r = -EINVAL;
    }
    vfs_close(f);
    return r;
}

/* ---- paths ------------------------------------------------------------------------------ */

/* A path of the program, copied, so that no thread changes it meanwhile; freed by the caller. */
static int get_path(uint64_t address, char **path)
{
    const int64_t n = user_text(address, VFS_PATH_MAX);
    if (n < 0)
        return (int)n;
    *path = base_alloc(VFS_PATH_MAX);
    if (!*path)
        return -ENOMEM;
    memcpy(*path, (const void *)(uintptr_t)address, (size_t)n);
    return 0;
}

/* Where relative paths begin: a path, and the directory it is of, to be put. */
struct place {
    char *path, *base;
};

static int get_place(uint64_t dirfd, uint64_t address, struct place *p)
{
    *p = (struct place){0};
    int r = get_path(address, &p->path);
    if (r < 0 || p->path[0] == '/')
        return r;
    p->base = base_alloc(VFS_PATH_MAX);
    if (!p->base)
        return -ENOMEM;
    if ((int32_t)dirfd == AT_FDCWD) {
        base_mutex_lock(&program.lock);
        strcpy(p->base, program.cwd);
        base_mutex_unlock(&program.lock);
        return 0;
    }
    struct vfs_file *f = app_file(dirfd);
    if (!f)
        return -EBADF;
    if ((f->node->mode & VFS_S_IFMT) != VFS_S_IFDIR && p->path[0])
        r = -ENOTDIR;
    strcpy(p->base, f->path);
    vfs_close(f);
    return r;
}

static void put_place(struct place *p)
{
    base_free(p->path);
    base_free(p->base);
}

/* Do something at a place. */
#define AT_PLACE(dirfd, address, call)                                                             \
    do {                                                                                           \
        struct place p;                                                                            \
        int64_t r_ = get_place(dirfd, address, &p);                                                \
        if (r_ == 0)                                                                               \
            r_ = (call);                                                                           \
        put_place(&p);                                                                             \
        return r_;                                                                                 \
    } while (0)

static int64_t open_at(const struct place *p, uint64_t flags, uint64_t mode)
{
    struct vfs_file *file;
    const int r =
        vfs_open(p->base, p->path, (unsigned)flags, (uint32_t)mode & ~program.umask, &file);
    return r < 0 ? r : install(file, 0, flags & O_CLOEXEC);
}

int64_t sys_openat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE(a[0], a[1], open_at(&p, a[2], a[3]));
}
int64_t sys_open(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], open_at(&p, a[1], a[2]));
}
int64_t sys_creat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], open_at(&p, VFS_O_CREAT | VFS_O_WRONLY | VFS_O_TRUNC, a[1]));
}

static int64_t make_directory(const struct place *p, uint64_t mode)
{
    return vfs_mkdir(p->base, p->path, (uint32_t)mode & ~program.umask);
}
int64_t sys_mkdir(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], make_directory(&p, a[1]));
}
int64_t sys_mkdirat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE(a[0], a[1], make_directory(&p, a[2]));
}
int64_t sys_unlink(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], vfs_unlink(p.base, p.path, false));
}
int64_t sys_rmdir(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], vfs_unlink(p.base, p.path, true));
}
int64_t sys_unlinkat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE(a[0], a[1], vfs_unlink(p.base, p.path, a[2] & AT_REMOVEDIR));
}

static int64_t two_places(uint64_t fd1, uint64_t path1, uint64_t fd2, uint64_t path2,
                          int (*call)(const char *, const char *, const char *, const char *))
{
    struct place from, to = {0};
    int64_t r = get_place(fd1, path1, &from);
    if (r == 0)
        r = get_place(fd2, path2, &to);
    if (r == 0)
        r = call(from.base, from.path, to.base, to.path);
    put_place(&from);
    put_place(&to);
    return r;
}
int64_t sys_rename(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return two_places((uint64_t)AT_FDCWD, a[0], (uint64_t)AT_FDCWD, a[1], vfs_rename);
}
int64_t sys_renameat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return two_places(a[0], a[1], a[2], a[3], vfs_rename);
}
int64_t sys_link(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return two_places((uint64_t)AT_FDCWD, a[0], (uint64_t)AT_FDCWD, a[1], vfs_link);
}
int64_t sys_linkat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return two_places(a[0], a[1], a[2], a[3], vfs_link);
}

static int64_t make_symlink(uint64_t target, uint64_t dirfd, uint64_t path)
{
    char *text = NULL;
    struct place p = {0};
    int64_t r = get_path(target, &text);
    if (r == 0)
        r = get_place(dirfd, path, &p);
    if (r == 0)
        r = vfs_symlink(text, p.base, p.path);
    base_free(text);
    put_place(&p);
    return r;
}
int64_t sys_symlink(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return make_symlink(a[0], (uint64_t)AT_FDCWD, a[1]);
}
int64_t sys_symlinkat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return make_symlink(a[0], a[1], a[2]);
}

static int64_t read_link(const struct place *p, uint64_t buffer, uint64_t size)
{
    if (!size)
        return -EINVAL;
    if (!user_access(buffer, min_u64(size, VFS_PATH_MAX), USER_WRITE))
        return -EFAULT;
    if (!strcmp(p->path, "/proc/self/exe")) {
        const size_t n = min_u64(strlen(program.name), size);
        memcpy((void *)(uintptr_t)buffer, program.name, n);
        return (int64_t)n;
    }
    return vfs_readlink(p->base, p->path, (char *)(uintptr_t)buffer, min_u64(size, VFS_PATH_MAX));
}
int64_t sys_readlink(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], read_link(&p, a[1], a[2]));
}
int64_t sys_readlinkat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE(a[0], a[1], read_link(&p, a[2], a[3]));
}

int64_t sys_getcwd(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    base_mutex_lock(&program.lock);
    const size_t n = strlen(program.cwd) + 1;
    int64_t r = (int64_t)n;
    if (n > a[1])
        r = -ERANGE;
    else if (!user_access(a[0], n, USER_WRITE))
        r = -EFAULT;
    else
        memcpy((void *)(uintptr_t)a[0], program.cwd, n);
    base_mutex_unlock(&program.lock);
    return r;
}

static int64_t change_directory(const struct place *p)
{
    struct vfs_stat stat;
    char *real = base_alloc(VFS_PATH_MAX);
    int r = real ? vfs_stat(p->base, p->path, true, &stat) : -ENOMEM;
    if (r == 0 && (stat.mode & VFS_S_IFMT) != VFS_S_IFDIR)
        r = -ENOTDIR;
    if (r == 0)
        r = vfs_realpath(p->base, p->path, real, VFS_PATH_MAX);
    if (r == 0) {
        base_mutex_lock(&program.lock);
        strcpy(program.cwd, real);
        base_mutex_unlock(&program.lock);
    }
    base_free(real);
    return r;
}
int64_t sys_chdir(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], change_directory(&p));
}
int64_t sys_fchdir(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    struct vfs_file *f = app_file(a[0]);
    if (!f)
        return -EBADF;
    const struct place p = {f->path, NULL};
    const int64_t r = change_directory(&p);
    vfs_close(f);
    return r;
}

/* ---- attributes ------------------------------------------------------------------------- */

/* struct stat of Linux on x86-64. */
struct linux_stat {
    uint64_t dev, ino, nlink;
    uint32_t mode, uid, gid, pad;
    uint64_t rdev, size, blksize, blocks;
    uint64_t atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns;
    uint64_t unused[3];
};

static int64_t put_stat(uint64_t address, const struct vfs_stat *s)
{
    enum { SECOND = 1000000000 };
    const struct linux_stat out = {
        .dev = s->dev,
        .ino = s->ino,
        .nlink = s->nlink,
        .mode = s->mode,
        .uid = s->uid,
        .gid = s->gid,
        .rdev = s->rdev,
        .size = s->size,
        .blksize = s->blksize,
        .blocks = s->blocks,
        .atime = s->atime_ns / SECOND,
        .atime_ns = s->atime_ns % SECOND,
        .mtime = s->mtime_ns / SECOND,
        .mtime_ns = s->mtime_ns % SECOND,
        .ctime = s->ctime_ns / SECOND,
        .ctime_ns = s->ctime_ns % SECOND,
    };
    if (!user_access(address, sizeof(out), USER_WRITE))
        return -EFAULT;
    memcpy((void *)(uintptr_t)address, &out, sizeof(out));
    return 0;
}

static int64_t stat_at(const struct place *p, bool follow, uint64_t address)
{
    struct vfs_stat stat;
    const int r = vfs_stat(p->base, p->path, follow, &stat);
    return r < 0 ? r : put_stat(address, &stat);
}
int64_t sys_stat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], stat_at(&p, true, a[1]));
}
int64_t sys_lstat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], stat_at(&p, false, a[1]));
}
int64_t sys_fstat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    struct vfs_stat stat;
    struct vfs_file *f = app_file(a[0]);
    if (!f)
        return -EBADF;
    const int r = vfs_fstat(f, &stat);
    vfs_close(f);
    return r < 0 ? r : put_stat(a[1], &stat);
}
int64_t sys_newfstatat(const uint64_t a[6], struct syscall_frame *frame)
{
    if (a[3] & AT_EMPTY_PATH && user_text(a[1], VFS_PATH_MAX) == 0) {
        const uint64_t args[6] = {a[0], a[2]};
        return sys_fstat(args, frame);
    }
    AT_PLACE(a[0], a[1], stat_at(&p, !(a[3] & AT_SYMLINK_NOFOLLOW), a[2]));
}

static int64_t access_at(const struct place *p)
{
    struct vfs_stat stat; /* the program may do everything that there is */
    return vfs_stat(p->base, p->path, true, &stat);
}
int64_t sys_access(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], access_at(&p));
}
int64_t sys_faccessat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE(a[0], a[1], access_at(&p));
}

static int64_t change_mode(const struct place *p, uint64_t mode)
{
    const struct vfs_stat stat = {.mode = (uint32_t)mode};
    return vfs_setattr(p->base, p->path, true, VFS_SET_MODE, &stat);
}
int64_t sys_chmod(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], change_mode(&p, a[1]));
}
int64_t sys_fchmodat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE(a[0], a[1], change_mode(&p, a[2]));
}

/* A call on a path for an open file. */
static int64_t with_path(uint64_t fd, int64_t (*call)(const struct place *p, uint64_t arg),
                         uint64_t arg)
{
    struct vfs_file *f = app_file(fd);
    if (!f)
        return -EBADF;
    const struct place p = {f->path, NULL};
    const int64_t r = call(&p, arg);
    vfs_close(f);
    return r;
}
int64_t sys_fchmod(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return with_path(a[0], change_mode, a[1]);
}

/* struct timespec[2] at an address, or now. */
static int64_t set_times(const struct place *p, uint64_t times)
{
    enum { UTIME_NOW = 0x3fffffff, UTIME_OMIT = 0x3ffffffe };
    const uint64_t now = base_wall_ns();
    struct vfs_stat stat = {.atime_ns = now, .mtime_ns = now};
    unsigned what = VFS_SET_ATIME | VFS_SET_MTIME;
    if (times) {
        uint64_t t[4];
        if (!user_access(times, sizeof(t), USER_READ))
            return -EFAULT;
        memcpy(t, (const void *)(uintptr_t)times, sizeof(t));
        if (t[1] == UTIME_OMIT)
            what &= ~(unsigned)VFS_SET_ATIME;
        else if (t[1] != UTIME_NOW)
            stat.atime_ns = t[0] * 1000000000 + t[1];
        if (t[3] == UTIME_OMIT)
            what &= ~(unsigned)VFS_SET_MTIME;
        else if (t[3] != UTIME_NOW)
            stat.mtime_ns = t[2] * 1000000000 + t[3];
    }
    return vfs_setattr(p->base, p->path, true, what, &stat);
}
int64_t sys_utimensat(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    if (!a[1])
        return with_path(a[0], set_times, a[2]);
    AT_PLACE(a[0], a[1], set_times(&p, a[2]));
}

int64_t sys_umask(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    const uint32_t old = program.umask;
    program.umask = a[0] & 0777;
    return old;
}

static int64_t statfs_at(const struct place *p, uint64_t address)
{
    struct vfs_statfs s;
    struct {
        uint64_t type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags,
            spare[4];
    } out = {0};
    const int r = vfs_statfs(p->base, p->path, &s);
    if (r < 0)
        return r;
    if (!user_access(address, sizeof(out), USER_WRITE))
        return -EFAULT;
    out.type = s.type;
    out.bsize = out.frsize = s.bsize;
    out.blocks = s.blocks;
    out.bfree = out.bavail = s.bfree;
    out.files = s.files;
    out.ffree = s.ffree;
    out.namelen = s.namelen;
    memcpy((void *)(uintptr_t)address, &out, sizeof(out));
    return 0;
}
int64_t sys_statfs(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], statfs_at(&p, a[1]));
}
int64_t sys_fstatfs(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return with_path(a[0], statfs_at, a[1]);
}

/* ---- reading and writing ---------------------------------------------------------------- */

typedef int64_t transfer_function(struct vfs_file *file, uint64_t data, size_t n, uint64_t offset);

static int64_t do_read(struct vfs_file *f, uint64_t data, size_t n, uint64_t offset)
{
    (void)offset;
    return vfs_read(f, (void *)(uintptr_t)data, n);
}
static int64_t do_write(struct vfs_file *f, uint64_t data, size_t n, uint64_t offset)
{
    (void)offset;
    return vfs_write(f, (const void *)(uintptr_t)data, n);
}
static int64_t do_pread(struct vfs_file *f, uint64_t data, size_t n, uint64_t offset)
{
    return vfs_pread(f, (void *)(uintptr_t)data, n, offset);
}
static int64_t do_pwrite(struct vfs_file *f, uint64_t data, size_t n, uint64_t offset)
{
    return vfs_pwrite(f, (const void *)(uintptr_t)data, n, offset);
}

static int64_t transfer(uint64_t fd, uint64_t data, uint64_t n, uint64_t offset, unsigned rights,
                        transfer_function *function)
{
    n = min_u64(n, IO_MAX);
    if ((int64_t)offset < 0)
        return -EINVAL;
    struct vfs_file *f = app_file(fd);
    if (!f)
        return -EBADF;
    const int64_t r = user_access(data, n, rights) ? function(f, data, n, offset) : -EFAULT;
    vfs_close(f);
    return r;
}

int64_t sys_read(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return transfer(a[0], a[1], a[2], 0, USER_WRITE, do_read);
}
int64_t sys_write(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return transfer(a[0], a[1], a[2], 0, USER_READ, do_write);
}
int64_t sys_pread64(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return transfer(a[0], a[1], a[2], a[3], USER_WRITE, do_pread);
}
int64_t sys_pwrite64(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return transfer(a[0], a[1], a[2], a[3], USER_READ, do_pwrite);
}

/* Several buffers, one after the other; a short one ends it. */
static int64_t transfer_vector(const uint64_t a[6], unsigned rights, transfer_function *function)
{
    struct {
        uint64_t data, n;
    } v;
    int64_t total = 0;
    if (a[2] > IOV_MAX)
        return -EINVAL;
    if (!user_access(a[1], a[2] * sizeof(v), USER_READ))
        return -EFAULT;
    for (uint64_t i = 0; i < a[2]; i++) {
        memcpy(&v, (const void *)(uintptr_t)(a[1] + i * sizeof(v)), sizeof(v));
        const int64_t r = transfer(a[0], v.data, v.n, a[3] + (uint64_t)total, rights, function);
        if (r < 0)
            return total ? total : r;
        total += r;
        if ((uint64_t)r < v.n)
            break;
    }
    return total;
}
int64_t sys_readv(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    const uint64_t args[6] = {a[0], a[1], a[2], 0};
    return transfer_vector(args, USER_WRITE, do_read);
}
int64_t sys_writev(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    const uint64_t args[6] = {a[0], a[1], a[2], 0};
    return transfer_vector(args, USER_READ, do_write);
}
int64_t sys_preadv(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return transfer_vector(a, USER_WRITE, do_pread);
}
int64_t sys_pwritev(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return transfer_vector(a, USER_READ, do_pwrite);
}

/* A call on an open file. */
#define WITH_FILE(fd, call)                                                                        \
    do {                                                                                           \
        struct vfs_file *f = app_file(fd);                                                         \
        if (!f)                                                                                    \
            return -EBADF;                                                                         \
        const int64_t r_ = (call);                                                                 \
        vfs_close(f);                                                                              \
        return r_;                                                                                 \
    } while (0)

int64_t sys_lseek(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    WITH_FILE(a[0], vfs_lseek(f, (int64_t)a[1], (int)a[2]));
}
int64_t sys_fsync(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    WITH_FILE(a[0], vfs_fsync(f));
}
int64_t sys_ftruncate(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    WITH_FILE(a[0], vfs_truncate(f, a[1]));
}

static int64_t truncate_at(const struct place *p, uint64_t size)
{
    const struct vfs_stat stat = {.size = size};
    return (int64_t)size < 0 ? -EINVAL : vfs_setattr(p->base, p->path, true, VFS_SET_SIZE, &stat);
}
int64_t sys_truncate(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    AT_PLACE((uint64_t)AT_FDCWD, a[0], truncate_at(&p, a[1]));
}

/* Space is not set aside; the file grows if it must. */
static int64_t allocate(struct vfs_file *f, uint64_t mode, uint64_t offset, uint64_t len)
{
    struct vfs_stat stat;
    if (mode)
        return -EOPNOTSUPP;
    if ((int64_t)offset < 0 || (int64_t)len <= 0 || (int64_t)(offset + len) < 0)
        return -EINVAL;
    const int r = vfs_fstat(f, &stat);
    return r < 0 || stat.size >= offset + len ? r : vfs_truncate(f, offset + len);
}
int64_t sys_fallocate(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    WITH_FILE(a[0], allocate(f, a[1], a[2], a[3]));
}

/* The commands that files know read or write at most this much. */
int64_t sys_ioctl(const uint64_t a[6], struct syscall_frame *frame)
{
    enum { ARGUMENT_SIZE = 64 };
    char argument[ARGUMENT_SIZE] = {0};
    (void)frame;
    struct vfs_file *f = app_file(a[0]);
    if (!f)
        return -EBADF;
    int64_t r = vfs_ioctl(f, (unsigned)a[1], argument);
    vfs_close(f);
    const size_t n = a[1] == 0x5401 ? 36 : a[1] == 0x1268 ? 4 : a[1] == 0x1261 ? 0 : 8;
    if (r == 0 && !user_access(a[2], n, USER_WRITE))
        r = -EFAULT;
    if (r == 0 && n)
        memcpy((void *)(uintptr_t)a[2], argument, n);
    return r;
}

int64_t sys_getdents64(const uint64_t a[6], struct syscall_frame *frame)
{
    struct {
        uint64_t ino;
        int64_t next;
        uint16_t size;
        uint8_t type;
    } __attribute__((packed)) head;
    (void)frame;
    struct vfs_file *f = app_file(a[0]);
    if (!f)
        return -EBADF;
    struct vfs_entry *e = base_alloc(sizeof(*e));
    uint64_t done = 0;
    int r = !e ? -ENOMEM : user_access(a[1], min_u64(a[2], 65536), USER_WRITE) ? 0 : -EFAULT;
    const uint64_t size = min_u64(a[2], 65536);
    while (r >= 0) {
        const uint64_t before = f->offset;
        r = vfs_readdir(f, e);
        if (r <= 0)
            break;
        const size_t name = strlen(e->name) + 1;
        const uint16_t record = (uint16_t)round_up(sizeof(head) + name, 8);
        if (done + record > size) {
            f->offset = before; /* the next call returns it */
            r = done ? 0 : -EINVAL;
            break;
        }
        head.ino = e->ino;
        head.next = (int64_t)e->next;
        head.size = record;
        head.type = (uint8_t)(e->mode >> 12);
        memcpy((char *)(uintptr_t)(a[1] + done), &head, sizeof(head));
        memcpy((char *)(uintptr_t)(a[1] + done + sizeof(head)), e->name, name);
        done += record;
    }
    base_free(e);
    vfs_close(f);
    return r < 0 && !done ? r : (int64_t)done;
}

/* Files are always ready. */
int64_t sys_poll(const uint64_t a[6], struct syscall_frame *frame)
{
    struct {
        int32_t fd;
        int16_t events, revents;
    } p;
    int64_t ready = 0;
    (void)frame;
    if (a[1] > FILES_MAX)
        return -EINVAL;
    if (!user_access(a[0], a[1] * sizeof(p), USER_READ | USER_WRITE))
        return -EFAULT;
    for (uint64_t i = 0; i < a[1]; i++) {
        void *at = (void *)(uintptr_t)(a[0] + i * sizeof(p));
        memcpy(&p, at, sizeof(p));
        const bool open = p.fd >= 0 && p.fd < FILES_MAX && program.files[p.fd];
        p.revents = p.fd < 0 ? 0 : open ? (int16_t)(p.events & 5) : 0x20; /* POLLNVAL */
        ready += p.revents != 0;
        memcpy(at, &p, sizeof(p));
    }
    return ready;
}

/* Copy from a file to another through a buffer. *offset: where to read, or NULL. */
static int64_t copy(struct vfs_file *to, struct vfs_file *from, uint64_t *offset, uint64_t n)
{
    enum { SIZE = 65536 };
    char *buffer = base_alloc(SIZE);
    int64_t total = 0, r = buffer ? 1 : -ENOMEM;
    while (r > 0 && (uint64_t)total < n) {
        const size_t part = min_u64(n - (uint64_t)total, SIZE);
        r = offset ? vfs_pread(from, buffer, part, *offset) : vfs_read(from, buffer, part);
        if (r > 0)
            r = vfs_write(to, buffer, (size_t)r);
        if (r > 0) {
            total += r;
            if (offset)
                *offset += (uint64_t)r;
        }
    }
    base_free(buffer);
    return r < 0 && !total ? r : total;
}

int64_t sys_sendfile(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    if (a[2] && !user_access(a[2], 8, USER_READ | USER_WRITE))
        return -EFAULT;
    struct vfs_file *to = app_file(a[0]), *from = app_file(a[1]);
    const int64_t r =
        to && from ? copy(to, from, (uint64_t *)(uintptr_t)a[2], min_u64(a[3], IO_MAX)) : -EBADF;
    if (to)
        vfs_close(to);
    if (from)
        vfs_close(from);
    return r;
}

int64_t sys_sync(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)a;
    (void)frame;
    for (unsigned fd = 0; fd < FILES_MAX; fd++) {
        struct vfs_file *f = app_file(fd);
        if (f) {
            vfs_fsync(f);
            vfs_close(f);
        }
    }
    return 0;
}
