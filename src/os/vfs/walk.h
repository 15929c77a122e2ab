/* vfs/walk.h: from a path to a node. */
#ifndef OS_VFS_WALK_H
#define OS_VFS_WALK_H

#include "os/vfs/vfs.h"

enum { WALK_DEPTH = 64 };

/* Where a walk stands: the nodes from the root to here, and the path that leads to it. */
struct walk {
    struct vfs_node *nodes[WALK_DEPTH];
    unsigned depth;
    char path[VFS_PATH_MAX]; /* "" is the root */
    char last[VFS_NAME_MAX + 1];
    bool must_be_directory; /* the path ended with a slash */
    unsigned links;
};

enum walk_how {
    WALK_FOLLOW, /* all the way, through a link at the end */
    WALK_STAY,   /* all the way, but stay on a link */
    WALK_PARENT, /* to the directory; the name is in last */
};

/* walk_end() also after an error. */
int walk_to(struct walk *walk, const char *base, const char *path, enum walk_how how);
/* One more step, from the directory where it stands; follows a link if asked. */
int walk_step(struct walk *walk, const char *name, bool follow);
struct vfs_node *walk_node(const struct walk *walk);
void walk_end(struct walk *walk);

/* mount.c: the root of what is mounted at a path, held; NULL if nothing is. */
struct vfs_node *mount_root_at(const char *path);

#endif
