/* The table of mounts. */
#include <errno.h>
#include <string.h>

#include "os/vfs/walk.h"

static struct {
    bool ready;
    struct base_mutex lock; /* guards what follows */
    struct vfs_type *types;
    struct vfs_mount *mounts; /* the latest first */
    uint64_t devices;
} table;

static void lock(void)
{
    if (!table.ready) { /* the first call is made before there are other threads */
        base_mutex_init(&table.lock);
        table.ready = true;
    }
    base_mutex_lock(&table.lock);
}

static void unlock(void)
{
    base_mutex_unlock(&table.lock);
}

/* ---- nodes ------------------------------------------------------------------------------ */

void vfs_node_init(struct vfs_node *node, const struct vfs_ops *ops, struct vfs_mount *mount,
                   uint32_t mode)
{
    node->ops = ops;
    node->mount = mount;
    node->mode = mode;
    node->refs = 1;
}

struct vfs_node *vfs_node_get(struct vfs_node *node)
{
    __atomic_fetch_add(&node->refs, 1, __ATOMIC_RELAXED);
    return node;
}

void vfs_node_put(struct vfs_node *node)
{
    if (__atomic_sub_fetch(&node->refs, 1, __ATOMIC_ACQ_REL) == 0)
        node->ops->release(node);
}

/* ---- types and mounts ------------------------------------------------------------------- */

void vfs_type_register(struct vfs_type *type)
{
    lock();
    struct vfs_type *t = table.types;
    while (t && t != type)
        t = t->next;
    if (!t) {
        type->next = table.types;
        table.types = type;
    }
    unlock();
}

static const struct vfs_type *find_type(const char *name)
{
    const struct vfs_type *t = table.types;
    while (t && strcmp(t->name, name) != 0)
        t = t->next;
    return t;
}

static struct vfs_mount *find_mount(const char *path)
{
    struct vfs_mount *m = table.mounts;
    while (m && strcmp(m->path, path) != 0)
        m = m->next;
    return m;
}

struct vfs_node *mount_root_at(const char *path)
{
    lock();
    const struct vfs_mount *m = find_mount(path);
    struct vfs_node *root = m ? vfs_node_get(m->root) : NULL;
    unlock();
    return root;
}

static int read_options(struct vfs_mount *m, const char *options)
{
    for (const char *at = options; at && *at;) {
        const size_t len = strcspn(at, ",");
        if (len == 2 && !memcmp(at, "ro", 2))
            m->read_only = true;
        else if (len && !(len == 2 && !memcmp(at, "rw", 2)))
            return -EINVAL;
        at += len + (at[len] == ',');
    }
    return 0;
}

/* Whether something is mounted below. */
static bool holds_another(const struct vfs_mount *m)
{
    const size_t len = strlen(m->path);
    for (const struct vfs_mount *other = table.mounts; other; other = other->next)
        if (other != m &&
            (len == 1 || (!strncmp(other->path, m->path, len) && other->path[len] == '/')))
            return true;
    return false;
}

static int attach(struct vfs_mount *m, const char *type, const char *options)
{
    int r = read_options(m, options);
    if (r < 0)
        return r;
    lock();
    m->type = find_type(type);
    const bool taken = find_mount(m->path) || holds_another(m);
    m->device = ++table.devices;
    unlock();
    if (!m->type || taken)
        return m->type ? -EBUSY : -ENODEV;
    r = m->type->mount(m, m->source, &m->root);
    if (r < 0)
        return r;
    lock();
    m->next = table.mounts;
    table.mounts = m;
    unlock();
    return 0;
}

int vfs_mount(const char *source, const char *path, const char *type, const char *options)
{
    struct vfs_mount *m = base_alloc(sizeof(*m));
    if (!m)
        return -ENOMEM;
    int r = 0;
    if (!strcmp(path, "/")) {
        strcpy(m->path, "/");
    } else {
        struct vfs_stat stat;
        r = vfs_realpath(NULL, path, m->path, sizeof(m->path));
        if (r >= 0)
            r = vfs_stat(NULL, m->path, true, &stat);
        if (r >= 0 && (stat.mode & VFS_S_IFMT) != VFS_S_IFDIR)
            r = -ENOTDIR;
    }
    if (r >= 0 && strlen(source) >= sizeof(m->source))
        r = -ENAMETOOLONG;
    if (r >= 0) {
        memcpy(m->source, source, strlen(source) + 1);
        r = attach(m, type, options);
    }
    if (r < 0)
        base_free(m);
    return r;
}

int vfs_unmount(const char *path)
{
    lock();
    struct vfs_mount **at = &table.mounts;
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    struct vfs_mount *m = *at;
    int r = !m ? -EINVAL : 0;
    if (m && (m->files || holds_another(m)))
        r = -EBUSY;
    if (r == 0)
        *at = m->next;
    unlock();
    if (r < 0)
        return r;
    if (m->type->empty)
        m->type->empty(m);
    vfs_node_put(m->root);
    if (m->type->unmount)
        m->type->unmount(m);
    base_free(m);
    return 0;
}

const struct vfs_mount *vfs_mount_at(unsigned index)
{
    lock();
    unsigned count = 0;
    for (const struct vfs_mount *m = table.mounts; m; m = m->next)
        count++;
    const struct vfs_mount *m = index < count ? table.mounts : NULL;
    for (unsigned i = count; m && --i > index;)
        m = m->next;
    unlock();
    return m;
}

void vfs_fini(void)
{
    while (table.mounts)
        if (vfs_unmount(table.mounts->path) < 0) {
            base_log(BASE_LOG_WARNING, "%s: still in use", table.mounts->path);
            return;
        }
}

/* ---- fstab ------------------------------------------------------------------------------ */

/* "source:/path:type[:options]", changed in place. */
static int mount_entry(char *entry)
{
    char *fields[5] = {entry};
    unsigned n = 1;
    for (char *p = entry; *p; p++)
        if (*p == ':' && n < 5) {
            *p = '\0';
            fields[n++] = p + 1;
        }
    if (n < 3 || n > 4 || fields[1][0] != '/') {
        base_log(BASE_LOG_ERROR, "vfs.fstab: '%s...' is not source:/path:type[:options]", entry);
        return -EINVAL;
    }
    int r = vfs_mkdir(NULL, fields[1], 0755);
    if (r == 0 || r == -EEXIST || r == -EROFS || r == -EPERM)
        r = vfs_mount(fields[0], fields[1], fields[2], n > 3 ? fields[3] : "");
    if (r < 0)
        base_log(BASE_LOG_ERROR, "vfs.fstab: %s at %s as %s: error %d", fields[0], fields[1],
                 fields[2], -r);
    return r;
}

int vfs_fstab(const char *text)
{
    char *entry = base_alloc(VFS_PATH_MAX);
    int failed = !entry;
    while (entry && *text) {
        const size_t blank = strspn(text, " \t[]");
        text += blank;
        const size_t len = strcspn(text, " \t[]");
        if (!len)
            break;
        if (len >= VFS_PATH_MAX) {
            base_log(BASE_LOG_ERROR, "vfs.fstab: an entry has over %u bytes", VFS_PATH_MAX - 1);
            failed++;
        } else {
            memcpy(entry, text, len);
            entry[len] = '\0';
            failed += mount_entry(entry) < 0;
        }
        text += len;
    }
    base_free(entry);
    return failed;
}
