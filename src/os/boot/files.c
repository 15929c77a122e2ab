/* The tree of files as it is at start. */
#include <errno.h>
#include <string.h>

#include "os/cmdline.h"
#include "os/os.h"
#include "os/vfs/p9.h"
#include "os/vfs/vfs.h"
#include "os/virtio/disk.h"

static int64_t read_console(void *data, size_t n)
{
    return n ? (int64_t)console_read(data, n) : 0;
}

static int64_t write_console(const void *data, size_t n)
{
    console_write(data, n);
    return (int64_t)n;
}

static int64_t read_random(void *data, size_t n)
{
    random_bytes(data, n);
    return (int64_t)n;
}

static int64_t write_random(const void *data, size_t n)
{
    (void)data;
    return (int64_t)n;
}

static const struct devfs_char console = {read_console, write_console, true};
static const struct devfs_char random_device = {read_random, write_random, false};

static void add_devices(void)
{
    struct disk_facts disk;
    devfs_add_char("console", &console);
    devfs_add_char("tty", &console);
    devfs_add_char("ttyS0", &console);
    devfs_add_char("random", &random_device);
    devfs_add_char("urandom", &random_device);
    for (unsigned i = 0; disk_get(i, &disk); i++)
        devfs_add_block(disk.name, disk.name);
}

static void mount_table(void)
{
    char table[CMDLINE_MAX];
    const int n = cmdline_get(boot_command_line, "vfs.fstab", table, sizeof(table));
    if (n > 0)
        vfs_fstab(table);
    else if (n < 0 && n != -ENOENT)
        base_log(BASE_LOG_ERROR, "vfs.fstab: the command line cannot be read there");
}

void files_setup(void)
{
    ramfs_register();
    devfs_register();
    p9fs_register();
    if (vfs_mount("none", "/", "ramfs", "") < 0)
        panic("no memory for the root of files");
    if (boot_initrd_size)
        cpio_unpack(boot_initrd, boot_initrd_size);
    add_devices();
    vfs_mkdir(NULL, "/dev", 0755);
    vfs_mkdir(NULL, "/tmp", 01777);
    if (vfs_mount("none", "/dev", "devfs", "") < 0)
        base_log(BASE_LOG_ERROR, "/dev cannot be mounted");
    mount_table();
}
