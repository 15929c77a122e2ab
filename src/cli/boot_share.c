/* ashlar boot --share: folders of the host by 9P. */
#include "cli/boot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Cut ":ro" or ":rw" off the end. */
static bool cut_mode(char *text)
{
    size_t len = strlen(text);
    if (len < 3 || (strcmp(text + len - 3, ":ro") && strcmp(text + len - 3, ":rw")))
        return false;
    bool ro = text[len - 1] == 'o';
    text[len - 3] = '\0';
    return ro;
}

/* Cut ":/mountpoint" off the end and return it; NULL: there is none. */
static char *cut_mountpoint(char *text)
{
    char *last = NULL;
    for (char *p = text; (p = strstr(p, ":/")); p++)
        last = p;
    if (!last)
        return NULL;
    *last = '\0';
    return last + 1;
}

/* What an entry of vfs.fstab can hold. */
static bool is_plain_path(const char *path)
{
    return path[0] == '/' && !path[strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwx"
                                                "yz0123456789._-+/")];
}

static int add_fstab(struct boot *b, const char *mountpoint, bool read_only)
{
    size_t used = strlen(b->fstab);
    int n = snprintf(b->fstab + used, sizeof(b->fstab) - used, "%sshare%u:%s:9pfs:%s",
                     used ? " " : "", b->shares, mountpoint, read_only ? "ro" : "rw");
    if ((size_t)n >= sizeof(b->fstab) - used)
        return cli_usage(b->cli, "the mount points of --share are too long");
    return CLI_OK;
}

/* A comma in a value of QEMU's is written twice. */
static char *double_commas(const char *text)
{
    char *out = malloc(2 * strlen(text) + 1);
    char *p = out;
    for (; out && *text; text++) {
        *p++ = *text;
        if (*text == ',')
            *p++ = ',';
    }
    if (out)
        *p = '\0';
    return out;
}

static int add_words(struct boot *b, const char *folder, bool read_only)
{
    char device[128];
    char *path = double_commas(folder);
    if (!path)
        return cli_failed(b->cli, "out of memory");
    boot_word(b, "-fsdev");
    boot_word(b, "local,id=share%u,path=%s,security_model=none,multidevs=remap%s", b->shares, path,
              read_only ? ",readonly=on" : "");
    free(path);
    boot_device_name(b, "virtio-9p", device, sizeof(device));
    boot_word(b, "-device");
    boot_word(b, "%s,fsdev=share%u,mount_tag=share%u", device, b->shares, b->shares);
    b->shares++;
    return CLI_OK;
}

/* text: DIR[:/mountpoint][:ro], cut in place. A folder whose name looks like that is itself. */
static int add_share(struct boot *b, char *text)
{
    char standard[16];
    char *mountpoint = NULL;
    bool read_only = false;
    if (!is_folder(text))
        read_only = cut_mode(text);
    if (!is_folder(text))
        mountpoint = cut_mountpoint(text);
    if (!is_folder(text))
        return cli_failed(b->cli, "--share %s: %s", text,
                          access(text, F_OK) < 0 ? strerror(errno) : "not a folder");
    snprintf(standard, sizeof(standard), b->shares ? "/share%u" : "/share", b->shares);
    if (!mountpoint)
        mountpoint = standard;
    if (!is_plain_path(mountpoint))
        return cli_usage(b->cli,
                         "--share: a mount point may have letters, digits and ._-+/ in it, "
                         "not be '%s'",
                         mountpoint);
    int code = add_fstab(b, mountpoint, read_only);
    return code == CLI_OK ? add_words(b, text, read_only) : code;
}

int boot_add_share(struct boot *b, const char *text)
{
    if (b->disks + b->shares == BOOT_MAX_DEVICES)
        return cli_usage(b->cli, "more than %d devices and shares", BOOT_MAX_DEVICES);
    char *copy = strdup(text);
    int code = copy ? add_share(b, copy) : cli_failed(b->cli, "out of memory");
    free(copy);
    return code;
}
