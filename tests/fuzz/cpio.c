/* An initramfs of any bytes. */
#include <stdint.h>

#include "os/vfs/vfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    base_log_set_level(BASE_LOG_NONE);
    ramfs_register();
    vfs_mount("none", "/", "ramfs", "");
    cpio_unpack(data, size);
    vfs_fini();
    return vfs_mount_at(0) ? __builtin_trap(), 0 : 0;
}
