/*
 * 9pfs: a folder that a host shares. A node holds a fid; an open file has one of its own. Nothing
 * is cached: what the host sees and what we see is the same at each call.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/vfs/p9.h"
#include "os/vfs/vfs.h"

struct share {
    struct p9 p;
};

struct remote {
    struct vfs_node node;
    uint32_t fid;
    uint64_t path;
};

static struct p9_transport *transports; /* registered before there are mounts */
static unsigned fids;                   /* atomic: in use */
static const struct vfs_ops ops;

void p9_transport_register(struct p9_transport *t)
{
    t->next = transports;
    transports = t;
}

unsigned p9fs_fids(void)
{
    return __atomic_load_n(&fids, __ATOMIC_RELAXED);
}

static struct remote *remote_of(struct vfs_node *node)
{
    return container_of(node, struct remote, node);
}

static struct p9 *p9_of(const struct vfs_node *node)
{
    return &((struct share *)node->mount->priv)->p;
}

/* A message lives on the heap: it is a page. */
static struct p9_message *begin(uint8_t type)
{
    struct p9_message *m = base_alloc(sizeof(*m));
    if (m)
        p9_begin(m, type);
    return m;
}

/* Ask, and keep the answer in m only if it is one. */
static int ask(struct p9 *p, struct p9_message *m)
{
    return m ? p9_ask(p, m) : -ENOMEM;
}

static int ask_and_free(struct p9 *p, struct p9_message *m)
{
    const int r = ask(p, m);
    base_free(m);
    return r;
}

/* ---- fids ------------------------------------------------------------------------------- */

/* Numbers are not used again: there are 4 billion. */
static uint32_t new_fid(struct p9 *p)
{
    return __atomic_fetch_add(&p->next_fid, 1, __ATOMIC_RELAXED);
}

static void clunk(struct p9 *p, uint32_t fid)
{
    struct p9_message *m = begin(P9_CLUNK);
    if (m)
        p9_put(m, fid, 4);
    ask_and_free(p, m);
    __atomic_fetch_sub(&fids, 1, __ATOMIC_RELAXED);
}

/* A new fid for a name below another, or for the same (name NULL). */
static int walk(struct p9 *p, uint32_t from, const char *name, uint32_t *fid, struct p9_qid *qid)
{
    struct p9_message *m = begin(P9_WALK);
    *fid = new_fid(p);
    if (!m)
        return -ENOMEM;
    p9_put(m, from, 4);
    p9_put(m, *fid, 4);
    p9_put(m, name ? 1 : 0, 2);
    if (name)
        p9_put_text(m, name);
    int r = ask(p, m);
    const uint64_t n = r == 0 ? p9_get(m, 2) : 0;
    if (r == 0 && n != (name ? 1u : 0u))
        r = n ? -EIO : -ENOENT;
    if (r == 0 && name) {
        p9_get_qid(m, qid);
        r = m->error;
    }
    if (r == 0)
        __atomic_fetch_add(&fids, 1, __ATOMIC_RELAXED);
    base_free(m);
    return r;
}

static struct vfs_node *make_node(struct vfs_mount *mount, uint32_t fid, const struct p9_qid *qid)
{
    struct remote *r = base_alloc(sizeof(*r));
    if (!r)
        return NULL;
    const uint32_t type = qid->type & 0x80   ? VFS_S_IFDIR
                          : qid->type & 0x02 ? VFS_S_IFLNK
                                             : VFS_S_IFREG;
    vfs_node_init(&r->node, &ops, mount, type | 0777);
    r->fid = fid;
    r->path = qid->path;
    return &r->node;
}

static int lookup(struct vfs_node *dir, const char *name, struct vfs_node **node)
{
    struct p9_qid qid = {0};
    uint32_t fid;
    int r = walk(p9_of(dir), remote_of(dir)->fid, name, &fid, &qid);
    if (r < 0)
        return r;
    *node = make_node(dir->mount, fid, &qid);
    if (*node)
        return 0;
    clunk(p9_of(dir), fid);
    return -ENOMEM;
}

static void release(struct vfs_node *node)
{
    clunk(p9_of(node), remote_of(node)->fid);
    base_free(remote_of(node));
}

/* ---- names ------------------------------------------------------------------------------ */

/* A message that begins with a directory's fid and a name. */
static struct p9_message *begin_name(uint8_t type, struct vfs_node *dir, const char *name)
{
    struct p9_message *m = begin(type);
    if (m) {
        p9_put(m, remote_of(dir)->fid, 4);
        p9_put_text(m, name);
    }
    return m;
}

/* A file is made by a fid of the directory, which becomes the open file. */
static int make_file(struct vfs_node *dir, const char *name, uint32_t mode)
{
    uint32_t fid;
    int r = walk(p9_of(dir), remote_of(dir)->fid, NULL, &fid, NULL);
    if (r < 0)
        return r;
    struct p9_message *m = begin(P9_LCREATE);
    if (m) {
        p9_put(m, fid, 4);
        p9_put_text(m, name);
        p9_put(m, VFS_O_CREAT | VFS_O_EXCL | VFS_O_RDWR, 4);
        p9_put(m, mode & 07777, 4);
        p9_put(m, 0, 4);
    }
    r = ask_and_free(p9_of(dir), m);
    clunk(p9_of(dir), fid);
    return r;
}

static int make(struct vfs_node *dir, const char *name, uint32_t mode, const char *target,
                struct vfs_node **node)
{
    int r;
    if ((mode & VFS_S_IFMT) == VFS_S_IFREG) {
        r = make_file(dir, name, mode);
    } else {
        const bool link = (mode & VFS_S_IFMT) == VFS_S_IFLNK;
        struct p9_message *m = begin_name(link ? P9_SYMLINK : P9_MKDIR, dir, name);
        if (m && link)
            p9_put_text(m, target);
        else if (m)
            p9_put(m, mode & 07777, 4);
        if (m)
            p9_put(m, 0, 4); /* gid */
        r = ask_and_free(p9_of(dir), m);
    }
    return r < 0 ? r : lookup(dir, name, node);
}

static int link_node(struct vfs_node *dir, const char *name, struct vfs_node *node)
{
    struct p9_message *m = begin(P9_LINK);
    if (m) {
        p9_put(m, remote_of(dir)->fid, 4);
        p9_put(m, remote_of(node)->fid, 4);
        p9_put_text(m, name);
    }
    return ask_and_free(p9_of(dir), m);
}

static int unlink_name(struct vfs_node *dir, const char *name, bool directory)
{
    struct p9_message *m = begin_name(P9_UNLINKAT, dir, name);
    if (m)
        p9_put(m, directory ? 0x200 : 0, 4);
    return ask_and_free(p9_of(dir), m);
}

static int rename_name(struct vfs_node *dir, const char *name, struct vfs_node *new_dir,
                       const char *new_name)
{
    struct p9_message *m = begin_name(P9_RENAMEAT, dir, name);
    if (m) {
        p9_put(m, remote_of(new_dir)->fid, 4);
        p9_put_text(m, new_name);
    }
    return ask_and_free(p9_of(dir), m);
}

static int read_link(struct vfs_node *node, char *target, size_t size)
{
    struct p9_message *m = begin(P9_READLINK);
    if (m)
        p9_put(m, remote_of(node)->fid, 4);
    int r = ask(p9_of(node), m);
    if (r == 0)
        r = p9_get_text(m, target, size);
    base_free(m);
    return r > (int)size - 1 ? -ENAMETOOLONG : r;
}

/* ---- attributes ------------------------------------------------------------------------- */

static uint64_t get_time(struct p9_message *m)
{
    const uint64_t seconds = p9_get(m, 8);
    return seconds * 1000000000 + p9_get(m, 8);
}

static int getattr(struct vfs_node *node, struct vfs_stat *s)
{
    struct p9_message *m = begin(P9_GETATTR);
    struct p9_qid qid;
    if (m) {
        p9_put(m, remote_of(node)->fid, 4);
        p9_put(m, 0x7ff, 8); /* P9_GETATTR_BASIC */
    }
    int r = ask(p9_of(node), m);
    if (r == 0) {
        p9_get(m, 8); /* which are valid */
        p9_get_qid(m, &qid);
        s->ino = qid.path;
        s->mode = (uint32_t)p9_get(m, 4);
        s->uid = (uint32_t)p9_get(m, 4);
        s->gid = (uint32_t)p9_get(m, 4);
        s->nlink = (uint32_t)p9_get(m, 8);
        s->rdev = p9_get(m, 8);
        s->size = p9_get(m, 8);
        s->blksize = (uint32_t)p9_get(m, 8);
        s->blocks = p9_get(m, 8);
        s->atime_ns = get_time(m);
        s->mtime_ns = get_time(m);
        s->ctime_ns = get_time(m);
        r = m->error ? m->error : s->size > INT64_MAX ? -EIO : 0;
    }
    base_free(m);
    return r;
}

static int setattr(struct vfs_node *node, unsigned what, const struct vfs_stat *s)
{
    enum { SIZE = 8, MODE = 1, ATIME = 0x10, MTIME = 0x20, ATIME_SET = 0x80, MTIME_SET = 0x100 };
    struct p9_message *m = begin(P9_SETATTR);
    if (m) {
        p9_put(m, remote_of(node)->fid, 4);
        p9_put(m,
               (what & VFS_SET_MODE ? MODE : 0u) | (what & VFS_SET_SIZE ? SIZE : 0u) |
                   (what & VFS_SET_ATIME ? ATIME | ATIME_SET : 0u) |
                   (what & VFS_SET_MTIME ? MTIME | MTIME_SET : 0u),
               4);
        p9_put(m, s->mode & 07777, 4);
        p9_put(m, 0, 8); /* uid, gid */
        p9_put(m, s->size, 8);
        p9_put(m, s->atime_ns / 1000000000, 8);
        p9_put(m, s->atime_ns % 1000000000, 8);
        p9_put(m, s->mtime_ns / 1000000000, 8);
        p9_put(m, s->mtime_ns % 1000000000, 8);
    }
    return ask_and_free(p9_of(node), m);
}

static int statfs(struct vfs_node *node, struct vfs_statfs *s)
{
    struct p9_message *m = begin(P9_STATFS);
    if (m)
        p9_put(m, remote_of(node)->fid, 4);
    int r = ask(p9_of(node), m);
    if (r == 0) {
        s->type = (uint32_t)p9_get(m, 4);
        s->bsize = (uint32_t)p9_get(m, 4);
        s->blocks = p9_get(m, 8);
        s->bfree = p9_get(m, 8);
        p9_get(m, 8); /* bavail */
        s->files = p9_get(m, 8);
        s->ffree = p9_get(m, 8);
        p9_get(m, 8); /* fsid */
        s->namelen = (uint32_t)p9_get(m, 4);
        r = m->error;
    }
    base_free(m);
    return r;
}

/* ---- files ------------------------------------------------------------------------------ */

/* file->priv is the fid of the open file. */
static uint32_t fid_of(const struct vfs_file *file)
{
    return (uint32_t)(uintptr_t)file->priv;
}

static int open_file(struct vfs_file *file)
{
    struct p9 *p = p9_of(file->node);
    uint32_t fid;
    int r = walk(p, remote_of(file->node)->fid, NULL, &fid, NULL);
    if (r < 0)
        return r;
    struct p9_message *m = begin(P9_LOPEN);
    if (m) {
        p9_put(m, fid, 4);
        p9_put(m, file->flags & VFS_O_ACCMODE, 4);
    }
    r = ask_and_free(p, m);
    if (r < 0)
        clunk(p, fid);
    else
        file->priv = (void *)(uintptr_t)fid;
    return r;
}

static void close_file(struct vfs_file *file)
{
    clunk(p9_of(file->node), fid_of(file));
}

/* One read, readdir or write: at most what fits in a message. */
static int64_t transfer(struct vfs_file *file, uint8_t type, const void *out, void *in, size_t n,
                        uint64_t offset)
{
    struct p9 *p = p9_of(file->node);
    struct p9_message *m = begin(type);
    uint32_t got = 0;
    const uint32_t part = (uint32_t)min_u64(n, p->message - P9_IO_HEADER);
    if (!m)
        return -ENOMEM;
    p9_put(m, fid_of(file), 4);
    p9_put(m, offset, 8);
    p9_put(m, part, 4);
    const int r = p9_ask_data(p, m, out, in, part, &got);
    base_free(m);
    return r < 0 ? r : (int64_t)got;
}

static int64_t read_file(struct vfs_file *file, void *data, size_t n, uint64_t offset)
{
    size_t done = 0;
    while (done < n) {
        const int64_t got =
            transfer(file, P9_READ, NULL, (char *)data + done, n - done, offset + done);
        if (got <= 0)
            return done ? (int64_t)done : got;
        done += (size_t)got;
    }
    return (int64_t)done;
}

static int64_t write_file(struct vfs_file *file, const void *data, size_t n, uint64_t offset)
{
    size_t done = 0;
    while (done < n) {
        const int64_t got =
            transfer(file, P9_WRITE, (const char *)data + done, NULL, n - done, offset + done);
        if (got <= 0)
            return done ? (int64_t)done : got < 0 ? got : -EIO;
        done += (size_t)got;
    }
    return (int64_t)done;
}

/* Entries: qid[13] offset[8] type[1] name[s]; one is asked for at a time, as names are short. */
static int readdir(struct vfs_file *file, uint64_t cookie, struct vfs_entry *entry)
{
    struct p9_message *m = base_alloc(sizeof(*m));
    struct p9_qid qid;
    if (!m)
        return -ENOMEM;
    int64_t n = transfer(file, P9_READDIR, NULL, m->bytes, 24 + VFS_NAME_MAX, cookie);
    if (n > 0) {
        m->at = 0;
        m->size = (uint32_t)n;
        p9_get_qid(m, &qid);
        entry->ino = qid.path;
        entry->next = p9_get(m, 8);
        entry->mode = (uint32_t)p9_get(m, 1) << 12;
        const int len = p9_get_text(m, entry->name, sizeof(entry->name));
        n = len <= 0 || len > VFS_NAME_MAX || strlen(entry->name) != (size_t)len ||
                    strchr(entry->name, '/') || entry->next == cookie
                ? -EIO
                : 1;
    }
    base_free(m);
    return (int)n;
}

static int sync_file(struct vfs_file *file)
{
    struct p9_message *m = begin(P9_FSYNC);
    if (m) {
        p9_put(m, fid_of(file), 4);
        p9_put(m, 0, 4);
    }
    return ask_and_free(p9_of(file->node), m);
}

static const struct vfs_ops ops = {
    .lookup = lookup,
    .make = make,
    .link = link_node,
    .unlink = unlink_name,
    .rename = rename_name,
    .readlink = read_link,
    .getattr = getattr,
    .setattr = setattr,
    .statfs = statfs,
    .release = release,
    .open = open_file,
    .close = close_file,
    .read = read_file,
    .write = write_file,
    .readdir = readdir,
    .fsync = sync_file,
};

/* ---- mounting --------------------------------------------------------------------------- */

static int agree(struct p9 *p, struct p9_message *m)
{
    char version[16];
    p9_begin(m, P9_VERSION);
    p9_put(m, p->transport->max_message, 4);
    p9_put_text(m, "9P2000.L");
    const int r = p9_ask(p, m);
    if (r < 0)
        return r;
    const uint64_t size = p9_get(m, 4);
    if (p9_get_text(m, version, sizeof(version)) < 0 || strcmp(version, "9P2000.L") != 0)
        return -EPROTONOSUPPORT;
    if (size < P9_MESSAGE || size > p->transport->max_message)
        return -EPROTO; /* the client's own messages must fit */
    p->message = (uint32_t)size;
    return 0;
}

static int attach(struct p9 *p, struct p9_message *m, uint32_t *fid, struct p9_qid *qid)
{
    *fid = new_fid(p);
    p9_begin(m, P9_ATTACH);
    p9_put(m, *fid, 4);
    p9_put(m, UINT32_MAX, 4); /* no authentication */
    p9_put_text(m, "root");
    p9_put_text(m, "");
    p9_put(m, 0, 4); /* uid */
    int r = p9_ask(p, m);
    if (r == 0) {
        p9_get_qid(m, qid);
        r = m->error ? m->error : qid->type & 0x80 ? 0 : -ENOTDIR;
    }
    return r;
}

static int mount_share(struct vfs_mount *mount, const char *source, struct vfs_node **root)
{
    struct p9_transport *t = transports;
    while (t && strcmp(t->tag, source) != 0)
        t = t->next;
    if (!t)
        return -ENODEV;
    struct share *s = base_alloc(sizeof(*s));
    struct p9_message *m = base_alloc(sizeof(*m));
    struct p9_qid qid = {0};
    uint32_t fid = 0;
    int r = s && m ? 0 : -ENOMEM;
    if (r == 0) {
        s->p.transport = t;
        r = agree(&s->p, m);
    }
    if (r == 0)
        r = attach(&s->p, m, &fid, &qid);
    base_free(m);
    if (r == 0) {
        mount->priv = s;
        __atomic_fetch_add(&fids, 1, __ATOMIC_RELAXED);
        *root = make_node(mount, fid, &qid);
        r = *root ? 0 : -ENOMEM;
        if (r < 0)
            clunk(&s->p, fid);
    }
    if (r < 0)
        base_free(s);
    return r;
}

static void unmount_share(struct vfs_mount *mount)
{
    base_free(mount->priv);
}

static struct vfs_type type = {.name = "9pfs", .mount = mount_share, .unmount = unmount_share};

void p9fs_register(void)
{
    vfs_type_register(&type);
}
