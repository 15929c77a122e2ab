/* Commands about files: ls, cat, mount, umount. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/os.h"
#include "os/shell/shell.h"
#include "os/vfs/vfs.h"

static int failed(const char *command, const char *path, int error)
{
    static const struct {
        int error;
        const char *text;
    } texts[] = {
        {ENOENT, "there is no such file or directory"},
        {ENOTDIR, "not a directory"},
        {EISDIR, "a directory"},
        {EACCES, "not allowed"},
        {EPERM, "not possible here"},
        {EBUSY, "in use"},
        {EIO, "input or output failed"},
        {ENODEV, "no such device or type"},
        {ELOOP, "too many links"},
        {ENOMEM, "out of memory"},
        {EINVAL, "makes no sense here"},
        {EROFS, "read-only"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
        if (texts[i].error == -error) {
            print("%s: %s: %s\n", command, path, texts[i].text);
            return 1;
        }
    print("%s: %s: error %d\n", command, path, -error);
    return 1;
}

static char type_letter(uint32_t mode)
{
    switch (mode & VFS_S_IFMT) {
    case VFS_S_IFDIR:
        return 'd';
    case VFS_S_IFLNK:
        return 'l';
    case VFS_S_IFBLK:
        return 'b';
    case VFS_S_IFCHR:
        return 'c';
    default:
        return '-';
    }
}

static void print_entry(const char *dir, const char *name, bool all)
{
    char target[VFS_PATH_MAX];
    struct vfs_stat stat;
    if (!all || vfs_stat(dir, name, false, &stat) < 0) {
        print("%s\n", name);
        return;
    }
    print("%c%03o %3u %10lu %s", type_letter(stat.mode), stat.mode & 0777, stat.nlink, stat.size,
          name);
    const int n = (stat.mode & VFS_S_IFMT) == VFS_S_IFLNK
                      ? vfs_readlink(dir, name, target, sizeof(target) - 1)
                      : -1;
    if (n >= 0)
        print(" -> %.*s", n, target);
    print("\n");
}

int shell_ls(unsigned argc, char **argv)
{
    const bool all = argc > 1 && !strcmp(argv[1], "-l");
    const char *path = argc > 1u + all ? argv[1 + all] : "/";
    struct vfs_entry *entry = base_alloc(sizeof(*entry));
    struct vfs_file *dir;
    if (!entry)
        return failed("ls", path, -ENOMEM);
    int r = vfs_open(NULL, path, VFS_O_RDONLY, 0, &dir);
    if (r == 0) {
        while ((r = vfs_readdir(dir, entry)) > 0)
            print_entry(path, entry->name, all);
        vfs_close(dir);
    }
    if (r == -ENOTDIR) {
        print_entry(NULL, path, all);
        r = 0;
    }
    base_free(entry);
    return r < 0 ? failed("ls", path, r) : 0;
}

static int cat(const char *path, char *buffer, size_t size)
{
    struct vfs_file *file;
    int64_t n = vfs_open(NULL, path, VFS_O_RDONLY, 0, &file);
    if (n < 0)
        return (int)n;
    while ((n = vfs_read(file, buffer, size)) > 0 && !console_interrupted())
        console_write(buffer, (size_t)n);
    vfs_close(file);
    return n < 0 ? (int)n : 0;
}

int shell_cat(unsigned argc, char **argv)
{
    enum { SIZE = 65536 };
    char *buffer = base_alloc(SIZE);
    int status = buffer ? 0 : failed("cat", "", -ENOMEM);
    for (unsigned i = 1; buffer && i < argc; i++) {
        const int r = cat(argv[i], buffer, SIZE);
        if (r < 0)
            status = failed("cat", argv[i], r);
    }
    base_free(buffer);
    return status;
}

int shell_mount(unsigned argc, char **argv)
{
    const struct vfs_mount *m;
    if (argc > 1 && argc < 4) {
        print("mount SOURCE PATH TYPE [OPTIONS]\n");
        return 2;
    }
    if (argc > 3) {
        const int r = vfs_mount(argv[1], argv[2], argv[3], argc > 4 ? argv[4] : "");
        return r < 0 ? failed("mount", argv[2], r) : 0;
    }
    for (unsigned i = 0; (m = vfs_mount_at(i)); i++)
        print("%s on %s type %s (%s)\n", m->source, m->path, m->type->name,
              m->read_only ? "ro" : "rw");
    return 0;
}

int shell_umount(unsigned argc, char **argv)
{
    if (argc != 2) {
        print("umount PATH\n");
        return 2;
    }
    const int r = vfs_unmount(argv[1]);
    return r < 0 ? failed("umount", argv[1], r) : 0;
}
