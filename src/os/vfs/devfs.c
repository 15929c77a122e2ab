/*
 * devfs: /dev. Character devices are functions; disks are block devices of a spec. A disk is opened
 * when its first file is, and each open file has a queue of its own, so that files do not wait for
 * each other.
 */
#include <errno.h>
#include <string.h>

#include <ashlar/blk.h>

#include "base/util.h"
#include "os/vfs/vfs.h"

enum { NAMES_MAX = 64, QUEUE_DEPTH = 8 };
enum {
    IOCTL_BLKGETSIZE = 0x1260,
    IOCTL_BLKFLSBUF = 0x1261,
    IOCTL_BLKSSZGET = 0x1268,
    IOCTL_BLKGETSIZE64 = 0x80081272,
    IOCTL_TCGETS = 0x5401,
    IOCTL_TIOCGWINSZ = 0x5413,
};

struct device {
    struct vfs_node node;
    char name[16];
    unsigned number;
    const struct devfs_char *character; /* NULL: a disk */
    char spec[64];
    struct base_mutex lock; /* guards dev, users */
    struct blk *dev;
    unsigned users;
};

/* An open disk. */
struct open_disk {
    struct blk_queue *queue;
    struct base_mutex lock; /* the queue is used by one thread at a time */
};

/* All that were ever added: they stay. */
static struct {
    struct device *devices[NAMES_MAX];
    unsigned count; /* atomic: grows when a device is whole */
} all;

static struct device *device_of(struct vfs_node *node)
{
    return container_of(node, struct device, node);
}

/* ---- character devices ------------------------------------------------------------------ */

static int64_t null_read(void *data, size_t n)
{
    (void)data;
    (void)n;
    return 0;
}
static int64_t null_write(const void *data, size_t n)
{
    (void)data;
    return (int64_t)n;
}
static int64_t zero_read(void *data, size_t n)
{
    memset(data, 0, n);
    return (int64_t)n;
}
static int64_t full_write(const void *data, size_t n)
{
    (void)data;
    return n ? -ENOSPC : 0;
}

static const struct devfs_char null_device = {null_read, null_write, false};
static const struct devfs_char zero_device = {zero_read, null_write, false};
static const struct devfs_char full_device = {zero_read, full_write, false};

/* ---- disks ------------------------------------------------------------------------------ */

static int open_disk(struct vfs_file *file)
{
    struct device *d = device_of(file->node);
    struct blk_error err;
    struct open_disk *o = base_alloc(sizeof(*o));
    if (!o)
        return -ENOMEM;
    base_mutex_init(&o->lock);
    base_mutex_lock(&d->lock);
    int r = d->dev ? 0 : blk_open(d->spec, 0, &d->dev, &err);
    if (r == 0) {
        const bool writes = (file->flags & VFS_O_ACCMODE) != VFS_O_RDONLY;
        r = writes && blk_info(d->dev)->read_only ? -EROFS
                                                  : blk_queue_open(d->dev, QUEUE_DEPTH, &o->queue);
        d->users += r == 0;
        if (r < 0 && !d->users) {
            blk_close(d->dev);
            d->dev = NULL;
        }
    }
    base_mutex_unlock(&d->lock);
    if (r < 0)
        base_free(o);
    else
        file->priv = o;
    return r;
}

static void close_disk(struct vfs_file *file)
{
    struct device *d = device_of(file->node);
    struct open_disk *o = file->priv;
    if ((file->flags & VFS_O_ACCMODE) != VFS_O_RDONLY)
        blk_flush(o->queue);
    base_mutex_lock(&d->lock);
    blk_queue_close(o->queue);
    if (--d->users == 0) {
        blk_close(d->dev);
        d->dev = NULL;
    }
    base_mutex_unlock(&d->lock);
    base_free(o);
}

static bool aligned(const struct blk_info *i, const void *data, size_t n, uint64_t offset)
{
    return ((offset | n) & (i->block_size - 1)) == 0 && ((uintptr_t)data & (i->buf_align - 1)) == 0;
}

static int64_t read_disk(struct vfs_file *file, void *data, size_t n, uint64_t offset)
{
    struct open_disk *o = file->priv;
    const struct blk_info *i = blk_info(device_of(file->node)->dev);
    n = offset < i->size ? min_u64(n, i->size - offset) : 0;
    if (!n)
        return 0;
    base_mutex_lock(&o->lock);
    const int r = aligned(i, data, n, offset) ? blk_read(o->queue, offset, data, n)
                                              : blk_read_bytes(o->queue, offset, data, n);
    base_mutex_unlock(&o->lock);
    return r < 0 ? r : (int64_t)n;
}

static int64_t write_disk(struct vfs_file *file, const void *data, size_t n, uint64_t offset)
{
    struct open_disk *o = file->priv;
    const struct blk_info *i = blk_info(device_of(file->node)->dev);
    if (n && offset >= i->size)
        return -ENOSPC;
    n = n ? min_u64(n, i->size - offset) : 0;
    if (!n)
        return 0;
    base_mutex_lock(&o->lock);
    const int r = aligned(i, data, n, offset) ? blk_write(o->queue, offset, data, n, 0)
                                              : blk_write_bytes(o->queue, offset, data, n, 0);
    base_mutex_unlock(&o->lock);
    return r < 0 ? r : (int64_t)n;
}

static int flush_disk(struct vfs_file *file)
{
    struct open_disk *o = file->priv;
    base_mutex_lock(&o->lock);
    const int r = blk_flush(o->queue);
    base_mutex_unlock(&o->lock);
    return r;
}

static int ioctl_disk(struct vfs_file *file, unsigned command, void *arg)
{
    const struct blk_info *i = blk_info(device_of(file->node)->dev);
    const uint64_t sectors = i->size / 512, size = i->size;
    switch (command) {
    case IOCTL_BLKGETSIZE:
        memcpy(arg, &sectors, sizeof(sectors));
        return 0;
    case IOCTL_BLKGETSIZE64:
        memcpy(arg, &size, sizeof(size));
        return 0;
    case IOCTL_BLKSSZGET:
        memcpy(arg, &i->block_size, sizeof(i->block_size));
        return 0;
    case IOCTL_BLKFLSBUF:
        return flush_disk(file);
    default:
        return -ENOTTY;
    }
}

/* ---- files of both kinds ---------------------------------------------------------------- */

static int open_file(struct vfs_file *file)
{
    struct device *d = device_of(file->node);
    return (d->node.mode & VFS_S_IFMT) == VFS_S_IFBLK ? open_disk(file) : 0;
}

static void close_file(struct vfs_file *file)
{
    if (file->priv)
        close_disk(file);
}

static int64_t read_file(struct vfs_file *file, void *data, size_t n, uint64_t offset)
{
    const struct device *d = device_of(file->node);
    return d->character ? d->character->read(data, n) : read_disk(file, data, n, offset);
}

static int64_t write_file(struct vfs_file *file, const void *data, size_t n, uint64_t offset)
{
    const struct device *d = device_of(file->node);
    return d->character ? d->character->write(data, n) : write_disk(file, data, n, offset);
}

static int fsync_file(struct vfs_file *file)
{
    return file->priv ? flush_disk(file) : 0;
}

/* What tells a program that this is a terminal. */
static int ioctl_terminal(unsigned command, void *arg)
{
    static const uint16_t window[4] = {24, 80, 0, 0};
    if (command == IOCTL_TIOCGWINSZ)
        memcpy(arg, window, sizeof(window));
    else if (command == IOCTL_TCGETS)
        memset(arg, 0, 36); /* struct termios of the kernel */
    else
        return -ENOTTY;
    return 0;
}

static int ioctl_file(struct vfs_file *file, unsigned command, void *arg)
{
    const struct device *d = device_of(file->node);
    if (file->priv)
        return ioctl_disk(file, command, arg);
    return d->character && d->character->terminal ? ioctl_terminal(command, arg) : -ENOTTY;
}

static int getattr(struct vfs_node *node, struct vfs_stat *stat)
{
    struct device *d = device_of(node);
    stat->ino = 2 + d->number;
    stat->mode = node->mode;
    stat->nlink = 1;
    stat->blksize = 4096;
    stat->rdev = (uint64_t)(d->character ? 1 : 254) << 8 | d->number;
    if (d->character)
        return 0;
    base_mutex_lock(&d->lock);
    if (d->dev)
        stat->size = blk_info(d->dev)->size; /* so that lseek() finds the end */
    base_mutex_unlock(&d->lock);
    return 0;
}

static void keep(struct vfs_node *node)
{
    (void)node; /* devices stay */
}

static int set_nothing(struct vfs_node *node, unsigned what, const struct vfs_stat *stat)
{
    (void)node;
    (void)stat;
    return what & VFS_SET_SIZE ? -EINVAL : 0;
}

static const struct vfs_ops device_ops = {
    .getattr = getattr,
    .setattr = set_nothing,
    .release = keep,
    .open = open_file,
    .close = close_file,
    .read = read_file,
    .write = write_file,
    .fsync = fsync_file,
    .ioctl = ioctl_file,
};

/* ---- the directory ---------------------------------------------------------------------- */

static int lookup(struct vfs_node *dir, const char *name, struct vfs_node **node)
{
    const unsigned n = __atomic_load_n(&all.count, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(all.devices[i]->name, name)) {
            all.devices[i]->node.mount = dir->mount;
            *node = vfs_node_get(&all.devices[i]->node);
            return 0;
        }
    return -ENOENT;
}

static int readdir(struct vfs_file *file, uint64_t cookie, struct vfs_entry *entry)
{
    (void)file;
    if (cookie >= __atomic_load_n(&all.count, __ATOMIC_ACQUIRE))
        return 0;
    const struct device *d = all.devices[cookie];
    entry->ino = 2 + d->number;
    entry->mode = d->node.mode & VFS_S_IFMT;
    entry->next = cookie + 1;
    memcpy(entry->name, d->name, sizeof(d->name));
    return 1;
}

static int root_getattr(struct vfs_node *node, struct vfs_stat *stat)
{
    stat->ino = 1;
    stat->mode = node->mode;
    stat->nlink = 2;
    stat->blksize = 4096;
    return 0;
}

static void release_root(struct vfs_node *node)
{
    base_free(node);
}

static const struct vfs_ops root_ops = {
    .lookup = lookup,
    .readdir = readdir,
    .getattr = root_getattr,
    .release = release_root,
};

static int mount_devfs(struct vfs_mount *mount, const char *source, struct vfs_node **root)
{
    (void)source;
    *root = base_alloc(sizeof(**root));
    if (!*root)
        return -ENOMEM;
    vfs_node_init(*root, &root_ops, mount, VFS_S_IFDIR | 0755);
    return 0;
}

static int add(const char *name, const struct devfs_char *character, const char *spec)
{
    if (all.count == NAMES_MAX)
        return -ENOSPC;
    struct device *d = base_alloc(sizeof(*d));
    if (!d)
        return -ENOMEM;
    if (strlen(name) >= sizeof(d->name) || strlen(spec) >= sizeof(d->spec)) {
        base_free(d);
        return -ENAMETOOLONG;
    }
    memcpy(d->name, name, strlen(name) + 1);
    memcpy(d->spec, spec, strlen(spec) + 1);
    d->number = all.count;
    d->character = character;
    base_mutex_init(&d->lock);
    vfs_node_init(&d->node, &device_ops, NULL, character ? VFS_S_IFCHR | 0666 : VFS_S_IFBLK | 0660);
    all.devices[all.count] = d;
    __atomic_store_n(&all.count, all.count + 1, __ATOMIC_RELEASE);
    return 0;
}

int devfs_add_char(const char *name, const struct devfs_char *ops)
{
    return add(name, ops, "");
}

int devfs_add_block(const char *name, const char *spec)
{
    return add(name, NULL, spec);
}

static struct vfs_type type = {.name = "devfs", .mount = mount_devfs};

void devfs_register(void)
{
    if (!all.count) {
        devfs_add_char("null", &null_device);
        devfs_add_char("zero", &zero_device);
        devfs_add_char("full", &full_device);
    }
    vfs_type_register(&type);
}
