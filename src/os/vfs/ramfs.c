/*
 * ramfs: files in memory. An inode holds pages in a table by page number, which grows by doubling;
 * a page that was never written is not there and reads as zeroes. One lock guards a whole file
 * system: what lies here are the files of an initramfs and scratch files.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/vfs/vfs.h"

enum { PAGE = 4096 };
#define FILE_MAX (UINT64_C(16) << 30) /* keeps the table of a sparse file small */

struct ramfs {
    struct base_mutex lock; /* guards everything */
    uint64_t inodes, pages;
    uint64_t next_ino;
};

struct entry {
    struct entry *next;
    struct inode *inode;
    uint64_t cookie; /* grows along the list */
    char name[];
};

struct inode {
    struct vfs_node node; /* first; kept by references and by nlink */
    struct ramfs *fs;
    uint64_t ino, size, mtime_ns;
    uint32_t mode, nlink;
    char **pages; /* files: `slots` of them; NULL: a hole */
    uint64_t slots;
    struct entry *entries, **last; /* directories: in the order of making */
    uint64_t next_cookie;
    char *target; /* links */
};

static const struct vfs_ops ops;

static struct inode *inode_of(struct vfs_node *node)
{
    return container_of(node, struct inode, node);
}

static void lock(struct inode *i)
{
    base_mutex_lock(&i->fs->lock);
}

static void unlock(struct inode *i)
{
    base_mutex_unlock(&i->fs->lock);
}

/* ---- inodes ----------------------------------------------------------------------------- */

static struct inode *make_inode(struct vfs_mount *mount, uint32_t mode)
{
    struct ramfs *fs = mount->priv;
    struct inode *i = base_alloc(sizeof(*i));
    if (!i)
        return NULL;
    vfs_node_init(&i->node, &ops, mount, mode);
    i->fs = fs;
    i->ino = ++fs->next_ino;
    i->mode = mode;
    i->mtime_ns = base_wall_ns();
    i->last = &i->entries;
    fs->inodes++;
    return i;
}

/* Free the pages from this one on. */
static void drop_pages(struct inode *i, uint64_t from)
{
    for (uint64_t p = from; p < i->slots; p++)
        if (i->pages[p]) {
            base_free(i->pages[p]);
            i->pages[p] = NULL;
            i->fs->pages--;
        }
    if (!from) {
        base_free(i->pages);
        i->pages = NULL;
        i->slots = 0;
    }
}

/* The last reference of callers is gone; names that lead here keep a reference of their own. */
static void release(struct vfs_node *node)
{
    struct inode *i = inode_of(node);
    lock(i);
    drop_pages(i, 0);
    i->fs->inodes--;
    unlock(i);
    base_free(i->target);
    base_free(i);
}

/* ---- directories: with the lock held ---------------------------------------------------- */

static struct entry **find(struct inode *dir, const char *name)
{
    struct entry **at = &dir->entries;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

/* The entry takes over one reference of the inode. */
static int add_entry(struct inode *dir, const char *name, struct inode *inode)
{
    const size_t len = strlen(name) + 1;
    struct entry *e = base_alloc(sizeof(*e) + len);
    if (!e)
        return -ENOSPC;
    memcpy(e->name, name, len);
    e->inode = inode;
    e->cookie = ++dir->next_cookie;
    *dir->last = e;
    dir->last = &e->next;
    inode->nlink++;
    dir->mtime_ns = base_wall_ns();
    return 0;
}

/* Take an entry out; its inode's reference is the caller's to put, after unlocking. */
static struct inode *take_entry(struct inode *dir, struct entry **at)
{
    struct entry *e = *at;
    struct inode *inode = e->inode;
    *at = e->next;
    if (dir->last == &e->next)
        dir->last = at;
    inode->nlink--;
    dir->mtime_ns = base_wall_ns();
    base_free(e);
    return inode;
}

static int lookup(struct vfs_node *node, const char *name, struct vfs_node **found)
{
    struct inode *dir = inode_of(node);
    lock(dir);
    struct entry *e = *find(dir, name);
    if (e)
        *found = vfs_node_get(&e->inode->node);
    unlock(dir);
    return e ? 0 : -ENOENT;
}

static int make(struct vfs_node *node, const char *name, uint32_t mode, const char *target,
                struct vfs_node **made)
{
    struct inode *dir = inode_of(node);
    int r = 0;
    lock(dir);
    if (!dir->nlink)
        r = -ENOENT; /* the directory was removed */
    else if (*find(dir, name))
        r = -EEXIST;
    struct inode *i = r ? NULL : make_inode(node->mount, mode);
    if (!r && !i)
        r = -ENOSPC;
    if (i && target) {
        i->size = strlen(target);
        i->target = base_alloc(i->size + 1);
        if (i->target)
            memcpy(i->target, target, i->size + 1);
        else
            r = -ENOSPC;
    }
    if (i && !r)
        r = add_entry(dir, name, i);
    if (i && !r)
        *made = vfs_node_get(&i->node);
    unlock(dir);
    if (i && r)
        vfs_node_put(&i->node);
    return r;
}

static int link_node(struct vfs_node *node, const char *name, struct vfs_node *to)
{
    struct inode *dir = inode_of(node);
    lock(dir);
    int r = *find(dir, name) ? -EEXIST : add_entry(dir, name, inode_of(to));
    if (!r)
        vfs_node_get(to);
    unlock(dir);
    return r;
}

static int may_unlink(const struct inode *i, bool directory)
{
    const bool is_directory = (i->mode & VFS_S_IFMT) == VFS_S_IFDIR;
    if (is_directory != directory)
        return directory ? -ENOTDIR : -EISDIR;
    return is_directory && i->entries ? -ENOTEMPTY : 0;
}

static int unlink_name(struct vfs_node *node, const char *name, bool directory)
{
    struct inode *dir = inode_of(node), *gone = NULL;
    lock(dir);
    struct entry **at = find(dir, name);
    int r = *at ? may_unlink((*at)->inode, directory) : -ENOENT;
    if (!r)
        gone = take_entry(dir, at);
    unlock(dir);
    if (gone)
        vfs_node_put(&gone->node);
    return r;
}

static int rename_name(struct vfs_node *node, const char *name, struct vfs_node *new_node,
                       const char *new_name)
{
    struct inode *dir = inode_of(node), *to = inode_of(new_node), *replaced = NULL;
    lock(dir);
    struct entry *from = *find(dir, name), *old = *find(to, new_name);
    int r = from ? 0 : -ENOENT;
    if (!r && old && old->inode != from->inode)
        r = may_unlink(old->inode, (from->inode->mode & VFS_S_IFMT) == VFS_S_IFDIR);
    if (!r && !(old && old->inode == from->inode)) {
        r = add_entry(to, new_name, from->inode);
        if (!r && old)
            replaced = take_entry(to, find(to, new_name)); /* the older one comes first */
        if (!r)
            take_entry(dir, find(dir, name));
    }
    unlock(dir);
    if (replaced)
        vfs_node_put(&replaced->node);
    return r;
}

static int readdir(struct vfs_file *file, uint64_t cookie, struct vfs_entry *out)
{
    struct inode *dir = inode_of(file->node);
    lock(dir);
    const struct entry *e = dir->entries;
    while (e && e->cookie <= cookie)
        e = e->next;
    if (e) {
        out->ino = e->inode->ino;
        out->mode = e->inode->mode & VFS_S_IFMT;
        out->next = e->cookie;
        memcpy(out->name, e->name, strlen(e->name) + 1);
    }
    unlock(dir);
    return e != NULL;
}

/* ---- files: with the lock held ---------------------------------------------------------- */

/* The page of an offset, made if it is not there; NULL if there is no memory. */
static char *page_for_write(struct inode *i, uint64_t page)
{
    if (page >= i->slots) {
        const uint64_t slots = max_u64(page + 1, i->slots * 2);
        char **pages = base_alloc_array(slots, sizeof(char *));
        if (!pages)
            return NULL;
        if (i->pages)
            memcpy(pages, i->pages, i->slots * sizeof(char *));
        base_free(i->pages);
        i->pages = pages;
        i->slots = slots;
    }
    if (!i->pages[page]) {
        i->pages[page] = base_alloc_aligned(PAGE, PAGE);
        i->fs->pages += i->pages[page] != NULL;
    }
    return i->pages[page];
}

static int64_t read_bytes(struct vfs_file *file, void *data, size_t n, uint64_t offset)
{
    struct inode *i = inode_of(file->node);
    lock(i);
    n = offset < i->size ? min_u64(n, i->size - offset) : 0;
    for (size_t done = 0; done < n;) {
        const uint64_t page = (offset + done) / PAGE, at = (offset + done) % PAGE;
        const size_t part = min_u64(n - done, PAGE - at);
        if (page < i->slots && i->pages[page])
            memcpy((char *)data + done, i->pages[page] + at, part);
        else
            memset((char *)data + done, 0, part);
        done += part;
    }
    unlock(i);
    return (int64_t)n;
}

static int64_t write_bytes(struct vfs_file *file, const void *data, size_t n, uint64_t offset)
{
    struct inode *i = inode_of(file->node);
    size_t done = 0;
    if (offset > FILE_MAX || n > FILE_MAX - offset)
        return -EFBIG;
    lock(i);
    while (done < n) {
        const uint64_t page = (offset + done) / PAGE, at = (offset + done) % PAGE;
        const size_t part = min_u64(n - done, PAGE - at);
        char *to = page_for_write(i, page);
        if (!to)
            break;
        memcpy(to + at, (const char *)data + done, part);
        done += part;
    }
    i->size = max_u64(i->size, done ? offset + done : 0);
    i->mtime_ns = base_wall_ns();
    unlock(i);
    return done || !n ? (int64_t)done : -ENOSPC;
}

static void set_size(struct inode *i, uint64_t size)
{
    if (size < i->size) {
        const uint64_t keep = (size + PAGE - 1) / PAGE;
        drop_pages(i, keep);
        if (size % PAGE && size / PAGE < i->slots && i->pages[size / PAGE])
            memset(i->pages[size / PAGE] + size % PAGE, 0, PAGE - size % PAGE);
    }
    i->size = size;
}

/* ---- attributes ------------------------------------------------------------------------- */

static int getattr(struct vfs_node *node, struct vfs_stat *stat)
{
    struct inode *i = inode_of(node);
    lock(i);
    stat->ino = i->ino;
    stat->mode = i->mode;
    stat->nlink = i->nlink;
    stat->size = i->size;
    stat->blksize = PAGE;
    stat->blocks = (i->size + 511) / 512;
    stat->atime_ns = stat->mtime_ns = stat->ctime_ns = i->mtime_ns;
    unlock(i);
    return 0;
}

static int setattr(struct vfs_node *node, unsigned what, const struct vfs_stat *stat)
{
    struct inode *i = inode_of(node);
    if (what & VFS_SET_SIZE && stat->size > FILE_MAX)
        return -EFBIG;
    lock(i);
    if (what & VFS_SET_MODE)
        i->mode = (i->mode & VFS_S_IFMT) | (stat->mode & 07777);
    if (what & VFS_SET_SIZE)
        set_size(i, stat->size);
    i->mtime_ns = what & VFS_SET_MTIME ? stat->mtime_ns : base_wall_ns();
    unlock(i);
    return 0;
}

static int readlink(struct vfs_node *node, char *target, size_t size)
{
    const struct inode *i = inode_of(node);
    memcpy(target, i->target, min_u64(i->size, size));
    return (int)min_u64(i->size, size);
}

static int statfs(struct vfs_node *node, struct vfs_statfs *s)
{
    struct inode *i = inode_of(node);
    s->type = 0x858458f6; /* RAMFS_MAGIC */
    lock(i);
    s->blocks = i->fs->pages;
    s->files = i->fs->inodes;
    unlock(i);
    return 0;
}

static const struct vfs_ops ops = {
    .lookup = lookup,
    .make = make,
    .link = link_node,
    .unlink = unlink_name,
    .rename = rename_name,
    .readlink = readlink,
    .getattr = getattr,
    .setattr = setattr,
    .statfs = statfs,
    .release = release,
    .read = read_bytes,
    .write = write_bytes,
    .readdir = readdir,
};

/* ---- the file system -------------------------------------------------------------------- */

static int mount_ramfs(struct vfs_mount *mount, const char *source, struct vfs_node **root)
{
    (void)source;
    struct ramfs *fs = base_alloc(sizeof(*fs));
    if (!fs)
        return -ENOMEM;
    base_mutex_init(&fs->lock);
    mount->priv = fs;
    struct inode *i = make_inode(mount, VFS_S_IFDIR | 0755);
    if (!i) {
        base_free(fs);
        return -ENOMEM;
    }
    i->nlink = 2;
    *root = &i->node;
    return 0;
}

/* Before the root is put: free the tree below it. */
static void free_tree(struct inode *dir)
{
    while (dir->entries) {
        struct inode *i = take_entry(dir, &dir->entries);
        if ((i->mode & VFS_S_IFMT) == VFS_S_IFDIR)
            free_tree(i);
        vfs_node_put(&i->node);
    }
}

static void unmount_ramfs(struct vfs_mount *mount)
{
    base_mutex_fini(&((struct ramfs *)mount->priv)->lock);
    base_free(mount->priv);
}

static void empty(struct vfs_mount *mount)
{
    free_tree(inode_of(mount->root));
}

static struct vfs_type type = {
    .name = "ramfs", .mount = mount_ramfs, .empty = empty, .unmount = unmount_ramfs};

void ramfs_register(void)
{
    vfs_type_register(&type);
}
