/* A mount table of any text, and paths in the tree that it makes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "os/vfs/vfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vfs_file *file;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    base_log_set_level(BASE_LOG_NONE);
    ramfs_register();
    devfs_register();
    vfs_mount("none", "/", "ramfs", "");
    vfs_fstab(text);
    vfs_symlink(text, NULL, "/link");
    if (vfs_open(NULL, text, VFS_O_RDWR | VFS_O_CREAT, 0600, &file) == 0)
        vfs_close(file);
    if (vfs_open("/link", "../link/x", VFS_O_RDWR | VFS_O_CREAT, 0600, &file) == 0)
        vfs_close(file);
    vfs_rename(NULL, text, NULL, "/moved");
    vfs_fini();
    free(text);
    return vfs_mount_at(0) ? __builtin_trap(), 0 : 0;
}
