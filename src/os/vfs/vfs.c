/* The calls of vfs.h on paths and files. */
#include "os/vfs/vfs.h"

#include <errno.h>
#include <string.h>

#include "os/vfs/walk.h"

static bool is_type(const struct vfs_node *node, uint32_t type)
{
    return (node->mode & VFS_S_IFMT) == type;
}

/* A walk is large: it lives on the heap. */
static struct walk *begin(int *error)
{
    struct walk *w = base_alloc(sizeof(*w));
    *error = w ? 0 : -ENOMEM;
    return w;
}

static void end(struct walk *w)
{
    if (w)
        walk_end(w);
    base_free(w);
}

/* Walk to a node and do something to it. */
#define WITH_NODE(base, path, how, node, call)                                                     \
    do {                                                                                           \
        int r_;                                                                                    \
        struct walk *w_ = begin(&r_);                                                              \
        if (w_)                                                                                    \
            r_ = walk_to(w_, base, path, how);                                                     \
        if (r_ == 0) {                                                                             \
            struct vfs_node *node = walk_node(w_);                                                 \
            r_ = (call);                                                                           \
        }                                                                                          \
        end(w_);                                                                                   \
        return r_;                                                                                 \
    } while (0)

/* ---- opening ---------------------------------------------------------------------------- */

static int make_file(const struct walk *w, struct vfs_node *node, unsigned flags,
                     struct vfs_file **file)
{
    const size_t len = strlen(w->path);
    struct vfs_file *f = base_alloc(sizeof(*f) + len + 2);
    if (!f)
        return -ENOMEM;
    memcpy(f->path, len ? w->path : "/", len ? len + 1 : 2);
    base_mutex_init(&f->lock);
    f->refs = 1;
    f->flags = flags;
    f->node = vfs_node_get(node);
    const int r = node->ops->open ? node->ops->open(f) : 0;
    if (r < 0) {
        vfs_node_put(node);
        base_free(f);
        return r;
    }
    __atomic_fetch_add(&node->mount->files, 1, __ATOMIC_RELAXED);
    *file = f;
    return 0;
}

static bool writes(unsigned flags)
{
    return (flags & VFS_O_ACCMODE) != VFS_O_RDONLY;
}

static int check_open(const struct vfs_node *node, unsigned flags)
{
    const bool directory = is_type(node, VFS_S_IFDIR);
    if (directory && (writes(flags) || flags & VFS_O_CREAT))
        return -EISDIR;
    if (!directory && flags & VFS_O_DIRECTORY)
        return -ENOTDIR;
    if (is_type(node, VFS_S_IFLNK))
        return -ELOOP; /* O_NOFOLLOW */
    const bool changes = writes(flags) || flags & VFS_O_TRUNC;
    const bool device = is_type(node, VFS_S_IFCHR) || is_type(node, VFS_S_IFBLK);
    return changes && node->mount->read_only && !device ? -EROFS : 0;
}

/* Step to the last name, making the file if it is not there. */
static int open_last(struct walk *w, unsigned flags, uint32_t mode, bool *made)
{
    struct vfs_node *dir = walk_node(w), *node;
    if (!w->last[0] || !strcmp(w->last, ".") || !strcmp(w->last, ".."))
        return flags & VFS_O_CREAT ? -EISDIR : -ENOENT;
    int r = walk_step(w, w->last, !(flags & (VFS_O_NOFOLLOW | VFS_O_EXCL)));
    if (r == 0 && flags & VFS_O_EXCL)
        return -EEXIST;
    if (r != -ENOENT || w->must_be_directory)
        return r;
    /* A link to nothing has led elsewhere: to its directory, which is where it must be made. */
    if (walk_node(w) != dir)
        return -ENOENT;
    if (dir->mount->read_only)
        return -EROFS;
    if (!dir->ops->make)
        return -EPERM;
    r = dir->ops->make(dir, w->last, VFS_S_IFREG | (mode & 07777), NULL, &node);
    if (r == -EEXIST)
        return walk_step(w, w->last, true); /* another was faster */
    if (r < 0)
        return r;
    vfs_node_put(node);
    *made = true;
    return walk_step(w, w->last, false);
}

static int open_walk(struct walk *w, const char *base, const char *path, unsigned flags,
                     uint32_t mode, struct vfs_file **file)
{
    bool made = false;
    int r;
    if (flags & VFS_O_CREAT) {
        r = walk_to(w, base, path, WALK_PARENT);
        if (r == 0)
            r = open_last(w, flags, mode, &made);
    } else {
        r = walk_to(w, base, path, flags & VFS_O_NOFOLLOW ? WALK_STAY : WALK_FOLLOW);
    }
    if (r < 0)
        return r;
    struct vfs_node *node = walk_node(w);
    r = check_open(node, flags);
    if (r == 0)
        r = make_file(w, node, flags & ~(unsigned)(VFS_O_CREAT | VFS_O_EXCL), file);
    if (r == 0 && flags & VFS_O_TRUNC && !made && is_type(node, VFS_S_IFREG)) {
        r = vfs_truncate(*file, 0);
        if (r < 0)
            vfs_close(*file);
    }
    return r;
}

int vfs_open(const char *base, const char *path, unsigned flags, uint32_t mode,
             struct vfs_file **file)
{
    int r;
    struct walk *w = begin(&r);
    if (w)
        r = open_walk(w, base, path, flags, mode, file);
    end(w);
    return r;
}

/* ---- by path ---------------------------------------------------------------------------- */

static int node_stat(struct vfs_node *node, struct vfs_stat *stat)
{
    memset(stat, 0, sizeof(*stat));
    const int r = node->ops->getattr(node, stat);
    stat->dev = node->mount->device;
    return r;
}

int vfs_stat(const char *base, const char *path, bool follow, struct vfs_stat *stat)
{
    WITH_NODE(base, path, follow ? WALK_FOLLOW : WALK_STAY, node, node_stat(node, stat));
}

static int node_setattr(struct vfs_node *node, unsigned what, const struct vfs_stat *stat)
{
    if (node->mount->read_only)
        return -EROFS;
    if (what & VFS_SET_SIZE && is_type(node, VFS_S_IFDIR))
        return -EISDIR;
    return node->ops->setattr ? node->ops->setattr(node, what, stat) : -EPERM;
}

int vfs_setattr(const char *base, const char *path, bool follow, unsigned what,
                const struct vfs_stat *stat)
{
    WITH_NODE(base, path, follow ? WALK_FOLLOW : WALK_STAY, node, node_setattr(node, what, stat));
}

static int make_in(const struct walk *w, uint32_t mode, const char *target)
{
    struct vfs_node *dir = walk_node(w), *node;
    if (!w->last[0] || !strcmp(w->last, ".") || !strcmp(w->last, ".."))
        return -EEXIST;
    int r = dir->ops->lookup(dir, w->last, &node);
    if (r == 0) {
        vfs_node_put(node);
        return -EEXIST;
    }
    if (dir->mount->read_only)
        return -EROFS;
    if (!dir->ops->make)
        return -EPERM;
    r = dir->ops->make(dir, w->last, mode, target, &node);
    if (r == 0)
        vfs_node_put(node);
    return r;
}

static int make(const char *base, const char *path, uint32_t mode, const char *target)
{
    int r;
    struct walk *w = begin(&r);
    if (w)
        r = walk_to(w, base, path, WALK_PARENT);
    if (r == 0)
        r = make_in(w, mode, target);
    end(w);
    return r;
}

int vfs_mkdir(const char *base, const char *path, uint32_t mode)
{
    return make(base, path, VFS_S_IFDIR | (mode & 07777), NULL);
}

int vfs_symlink(const char *target, const char *base, const char *path)
{
    return *target ? make(base, path, VFS_S_IFLNK | 0777, target) : -ENOENT;
}

static int unlink_in(const struct walk *w, bool directory)
{
    struct vfs_node *dir = walk_node(w);
    if (!w->last[0] || !strcmp(w->last, ".") || !strcmp(w->last, ".."))
        return directory ? -EINVAL : -EISDIR;
    if (dir->mount->read_only)
        return -EROFS;
    return dir->ops->unlink ? dir->ops->unlink(dir, w->last, directory) : -EPERM;
}

/* Whether something is mounted at the name where a walk to a parent ended. */
static bool is_mount(struct walk *w)
{
    char path[VFS_PATH_MAX];
    const size_t len = strlen(w->path);
    if (len + strlen(w->last) + 2 > sizeof(path))
        return false;
    memcpy(path, w->path, len);
    path[len] = '/';
    strcpy(path + len + 1, w->last);
    struct vfs_node *root = mount_root_at(path);
    if (root)
        vfs_node_put(root);
    return root;
}

int vfs_unlink(const char *base, const char *path, bool directory)
{
    int r;
    struct walk *w = begin(&r);
    if (w)
        r = walk_to(w, base, path, WALK_PARENT);
    if (r == 0)
        r = is_mount(w) ? -EBUSY : unlink_in(w, directory);
    end(w);
    return r;
}

static int rename_in(struct walk *from, struct walk *to)
{
    struct vfs_node *dir = walk_node(from), *new_dir = walk_node(to);
    if (!from->last[0] || !to->last[0] || from->last[0] == '.' || to->last[0] == '.') {
        const char *names[] = {from->last, to->last};
        for (unsigned i = 0; i < 2; i++)
            if (!*names[i] || !strcmp(names[i], ".") || !strcmp(names[i], ".."))
                return -EBUSY;
    }
    if (dir->mount != new_dir->mount)
        return -EXDEV;
    if (dir->mount->read_only)
        return -EROFS;
    if (is_mount(from) || is_mount(to))
        return -EBUSY;
    return dir->ops->rename ? dir->ops->rename(dir, from->last, new_dir, to->last) : -EPERM;
}

/* A directory must not move below itself: its own path must not begin the new one. */
static bool moves_below(const struct walk *from, const struct walk *to)
{
    char path[VFS_PATH_MAX];
    const size_t len = strlen(from->path), total = len + 1 + strlen(from->last);
    if (total + 1 > sizeof(path))
        return false;
    memcpy(path, from->path, len);
    path[len] = '/';
    strcpy(path + len + 1, from->last);
    return !strncmp(to->path, path, total) && (to->path[total] == '/' || !to->path[total]);
}

int vfs_rename(const char *old_base, const char *old_path, const char *base, const char *path)
{
    int r, r2;
    struct walk *from = begin(&r), *to = begin(&r2);
    if (from && to) {
        r = walk_to(from, old_base, old_path, WALK_PARENT);
        r2 = walk_to(to, base, path, WALK_PARENT);
    }
    r = r ? r : r2;
    if (r == 0)
        r = moves_below(from, to) ? -EINVAL : rename_in(from, to);
    end(from);
    end(to);
    return r;
}

int vfs_link(const char *old_base, const char *old_path, const char *base, const char *path)
{
    int r, r2;
    struct walk *from = begin(&r), *to = begin(&r2);
    if (from && to) {
        r = walk_to(from, old_base, old_path, WALK_STAY);
        r2 = walk_to(to, base, path, WALK_PARENT);
    }
    r = r ? r : r2;
    if (r == 0) {
        struct vfs_node *node = walk_node(from), *dir = walk_node(to);
        if (node->mount != dir->mount)
            r = -EXDEV;
        else if (dir->mount->read_only)
            r = -EROFS;
        else if (is_type(node, VFS_S_IFDIR) || !dir->ops->link)
            r = -EPERM;
        else
            r = to->last[0] ? dir->ops->link(dir, to->last, node) : -EEXIST;
    }
    end(from);
    end(to);
    return r;
}

static int node_readlink(struct vfs_node *node, char *target, size_t size)
{
    return is_type(node, VFS_S_IFLNK) ? node->ops->readlink(node, target, size) : -EINVAL;
}

int vfs_readlink(const char *base, const char *path, char *target, size_t size)
{
    WITH_NODE(base, path, WALK_STAY, node, node_readlink(node, target, size));
}

static int node_statfs(struct vfs_node *node, struct vfs_statfs *statfs)
{
    memset(statfs, 0, sizeof(*statfs));
    statfs->namelen = VFS_NAME_MAX;
    statfs->bsize = 4096;
    return node->ops->statfs ? node->ops->statfs(node, statfs) : 0;
}

int vfs_statfs(const char *base, const char *path, struct vfs_statfs *statfs)
{
    WITH_NODE(base, path, WALK_FOLLOW, node, node_statfs(node, statfs));
}

int vfs_realpath(const char *base, const char *path, char *real, size_t size)
{
    int r;
    struct walk *w = begin(&r);
    if (w)
        r = walk_to(w, base, path, WALK_FOLLOW);
    if (r == 0) {
        const char *found = w->path[0] ? w->path : "/";
        if (strlen(found) >= size)
            r = -ERANGE;
        else
            strcpy(real, found);
    }
    end(w);
    return r;
}

/* ---- open files ------------------------------------------------------------------------- */

struct vfs_file *vfs_file_get(struct vfs_file *file)
{
    __atomic_fetch_add(&file->refs, 1, __ATOMIC_RELAXED);
    return file;
}

void vfs_close(struct vfs_file *file)
{
    if (__atomic_sub_fetch(&file->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (file->node->ops->close)
        file->node->ops->close(file);
    __atomic_fetch_sub(&file->node->mount->files, 1, __ATOMIC_RELEASE);
    vfs_node_put(file->node);
    base_mutex_fini(&file->lock);
    base_free(file);
}

int64_t vfs_pread(struct vfs_file *file, void *data, size_t n, uint64_t offset)
{
    const struct vfs_ops *ops = file->node->ops;
    if ((file->flags & VFS_O_ACCMODE) == VFS_O_WRONLY)
        return -EBADF;
    if (is_type(file->node, VFS_S_IFDIR))
        return -EISDIR;
    if (!ops->read)
        return -EINVAL;
    if (offset > INT64_MAX || n > INT64_MAX - offset)
        return -EINVAL;
    return ops->read(file, data, n, offset);
}

int64_t vfs_pwrite(struct vfs_file *file, const void *data, size_t n, uint64_t offset)
{
    const struct vfs_ops *ops = file->node->ops;
    if (!writes(file->flags))
        return -EBADF;
    if (!ops->write)
        return -EINVAL;
    if (offset > INT64_MAX || n > INT64_MAX - offset)
        return -EFBIG;
    return ops->write(file, data, n, offset);
}

int64_t vfs_read(struct vfs_file *file, void *data, size_t n)
{
    if (is_type(file->node, VFS_S_IFCHR))
        return vfs_pread(file, data, n, 0); /* may wait: others go on meanwhile */
    base_mutex_lock(&file->lock);
    const int64_t got = vfs_pread(file, data, n, file->offset);
    if (got > 0)
        file->offset += (uint64_t)got;
    base_mutex_unlock(&file->lock);
    return got;
}

int64_t vfs_write(struct vfs_file *file, const void *data, size_t n)
{
    if (is_type(file->node, VFS_S_IFCHR))
        return vfs_pwrite(file, data, n, 0);
    base_mutex_lock(&file->lock);
    struct vfs_stat stat;
    int64_t got = 0;
    if (file->flags & VFS_O_APPEND) {
        got = vfs_fstat(file, &stat);
        if (got == 0)
            file->offset = stat.size;
    }
    if (got == 0)
        got = vfs_pwrite(file, data, n, file->offset);
    if (got > 0)
        file->offset += (uint64_t)got;
    base_mutex_unlock(&file->lock);
    return got;
}

int64_t vfs_lseek(struct vfs_file *file, int64_t offset, int whence)
{
    struct vfs_stat stat = {0};
    if (is_type(file->node, VFS_S_IFCHR))
        return -ESPIPE;
    if (whence < VFS_SEEK_SET || whence > VFS_SEEK_END)
        return -EINVAL;
    const int r = whence == VFS_SEEK_END ? vfs_fstat(file, &stat) : 0;
    if (r < 0)
        return r;
    base_mutex_lock(&file->lock);
    const uint64_t from = whence == VFS_SEEK_SET   ? 0
                          : whence == VFS_SEEK_CUR ? file->offset
                                                   : stat.size;
    int64_t to;
    if (__builtin_add_overflow((int64_t)from, offset, &to) || to < 0)
        to = -EINVAL;
    else
        file->offset = (uint64_t)to;
    base_mutex_unlock(&file->lock);
    return to;
}

int vfs_fsync(struct vfs_file *file)
{
    return file->node->ops->fsync ? file->node->ops->fsync(file) : 0;
}

int vfs_truncate(struct vfs_file *file, uint64_t size)
{
    const struct vfs_stat stat = {.size = size};
    if (!is_type(file->node, VFS_S_IFREG) || !(writes(file->flags) || file->flags & VFS_O_TRUNC))
        return -EINVAL;
    if (size > INT64_MAX)
        return -EFBIG;
    return node_setattr(file->node, VFS_SET_SIZE, &stat);
}

int vfs_fstat(struct vfs_file *file, struct vfs_stat *stat)
{
    return node_stat(file->node, stat);
}

int vfs_ioctl(struct vfs_file *file, unsigned command, void *arg)
{
    return file->node->ops->ioctl ? file->node->ops->ioctl(file, command, arg) : -ENOTTY;
}

int vfs_readdir(struct vfs_file *file, struct vfs_entry *entry)
{
    if (!is_type(file->node, VFS_S_IFDIR))
        return -ENOTDIR;
    base_mutex_lock(&file->lock);
    const int r = file->node->ops->readdir(file, file->offset, entry);
    if (r > 0)
        file->offset = entry->next;
    base_mutex_unlock(&file->lock);
    return r;
}
