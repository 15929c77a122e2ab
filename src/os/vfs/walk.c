/* Walking along a path: names, `.`, `..`, symbolic links, mounts. */
#include "os/vfs/walk.h"

#include <errno.h>
#include <string.h>

enum { LINKS_MAX = 40 };

struct vfs_node *walk_node(const struct walk *w)
{
    return w->nodes[w->depth - 1];
}

static void leave(struct walk *w)
{
    vfs_node_put(w->nodes[--w->depth]);
    char *slash = strrchr(w->path, '/');
    if (slash)
        *slash = '\0';
}

static int to_root(struct walk *w)
{
    while (w->depth)
        leave(w);
    w->path[0] = '\0';
    w->nodes[0] = mount_root_at("/");
    if (!w->nodes[0])
        return -ENOENT;
    w->depth = 1;
    return 0;
}

static int enter(struct walk *w, const char *name, struct vfs_node *node)
{
    const size_t at = strlen(w->path), len = strlen(name);
    if (w->depth == WALK_DEPTH || at + 1 + len >= sizeof(w->path)) {
        vfs_node_put(node);
        return -ENAMETOOLONG;
    }
    w->path[at] = '/';
    memcpy(w->path + at + 1, name, len + 1);
    struct vfs_node *mounted = mount_root_at(w->path);
    if (mounted) {
        vfs_node_put(node);
        node = mounted;
    }
    w->nodes[w->depth++] = node;
    return 0;
}

static int along(struct walk *w, const char *path, enum walk_how how);

static int follow_link(struct walk *w, struct vfs_node *link)
{
    char *target = base_alloc(VFS_PATH_MAX);
    int r = target ? link->ops->readlink(link, target, VFS_PATH_MAX) : -ENOMEM;
    vfs_node_put(link);
    if (r >= VFS_PATH_MAX)
        r = -ENAMETOOLONG;
    if (r >= 0 && ++w->links > LINKS_MAX)
        r = -ELOOP;
    if (r >= 0) {
        target[r] = '\0';
        r = *target == '/' ? to_root(w) : 0;
        if (!r)
            r = along(w, target, WALK_FOLLOW);
    }
    base_free(target);
    return r;
}

int walk_step(struct walk *w, const char *name, bool follow)
{
    struct vfs_node *dir = walk_node(w), *node;
    if ((dir->mode & VFS_S_IFMT) != VFS_S_IFDIR)
        return -ENOTDIR;
    if (!strcmp(name, "."))
        return 0;
    if (!strcmp(name, "..")) {
        if (w->depth > 1)
            leave(w);
        return 0;
    }
    int r = dir->ops->lookup(dir, name, &node);
    if (r < 0)
        return r;
    if (follow && (node->mode & VFS_S_IFMT) == VFS_S_IFLNK)
        return follow_link(w, node);
    return enter(w, name, node);
}

/* The next name of a path; *path is behind it and its slashes. 0 at the end. */
static int next_name(const char **path, char name[VFS_NAME_MAX + 1])
{
    const char *p = *path;
    while (*p == '/')
        p++;
    const size_t len = strcspn(p, "/");
    if (len > VFS_NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, p, len);
    name[len] = '\0';
    p += len;
    while (*p == '/')
        p++;
    *path = p;
    return (int)len;
}

static int along(struct walk *w, const char *path, enum walk_how how)
{
    char *name = base_alloc(VFS_NAME_MAX + 1);
    const char *end = path + strlen(path);
    const bool slash = end > path && end[-1] == '/';
    int r = name ? 0 : -ENOMEM;
    while (r == 0 && *path) {
        const int len = next_name(&path, name);
        if (len <= 0) {
            r = len;
            break;
        }
        const bool last = path == end;
        if (last && how == WALK_PARENT) {
            memcpy(w->last, name, (size_t)len + 1);
            w->must_be_directory = slash;
            break;
        }
        r = walk_step(w, name, !last || how == WALK_FOLLOW || slash);
    }
    if (r == 0 && slash && how != WALK_PARENT && (walk_node(w)->mode & VFS_S_IFMT) != VFS_S_IFDIR)
        r = -ENOTDIR;
    base_free(name);
    return r;
}

int walk_to(struct walk *w, const char *base, const char *path, enum walk_how how)
{
    w->depth = 0;
    w->links = 0;
    w->must_be_directory = false;
    w->path[0] = w->last[0] = '\0';
    if (!*path)
        return -ENOENT;
    if (strlen(path) >= VFS_PATH_MAX)
        return -ENAMETOOLONG;
    int r = to_root(w);
    if (r == 0 && *path != '/' && base)
        r = along(w, base, WALK_FOLLOW);
    if (r == 0)
        r = along(w, path, how);
    if (r == 0 && how == WALK_PARENT && (walk_node(w)->mode & VFS_S_IFMT) != VFS_S_IFDIR)
        r = -ENOTDIR;
    return r;
}

void walk_end(struct walk *w)
{
    while (w->depth)
        leave(w);
}
