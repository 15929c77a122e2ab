/*
 * Unpacking an initramfs: cpio archives in the "new ASCII" format, one after the other, with zeroes
 * in between (Linux: Documentation/driver-api/early-userspace/buffer-format.rst). Each entry is a
 * header of 110 characters, the name, padding to 4, the data, padding to 4.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/vfs/vfs.h"

enum { HEADER = 110, LINKS_MAX = 256 };
enum {
    F_INO,
    F_MODE,
    F_UID,
    F_GID,
    F_NLINK,
    F_MTIME,
    F_SIZE,
    F_MAJ,
    F_MIN,
    F_RMAJ,
    F_RMIN,
    F_NAME,
    F_CHECK,
    FIELDS
};

struct archive {
    const char *data;
    size_t size, at;
    /* Files with several names: the first name by inode, so that the others become links. */
    struct {
        uint32_t ino, major, minor;
        const char *name;
    } links[LINKS_MAX];
    unsigned link_count;
};

static int bad(const struct archive *a, const char *what)
{
    base_log(BASE_LOG_ERROR, "initramfs: at byte %zu: %s", a->at, what);
    return -EINVAL;
}

static bool read_fields(const char *text, uint32_t fields[FIELDS])
{
    for (unsigned f = 0; f < FIELDS; f++) {
        fields[f] = 0;
        for (unsigned i = 0; i < 8; i++) {
            const char c = text[6 + 8 * f + i];
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0)
                return false;
            fields[f] = fields[f] << 4 | (uint32_t)digit;
        }
    }
    return true;
}

/* Directories on the way to a name that the archive does not hold. */
static void make_parents(const char *name)
{
    char path[VFS_PATH_MAX];
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/'))
        if (slash > name && (size_t)(slash - name) < sizeof(path)) {
            memcpy(path, name, (size_t)(slash - name));
            path[slash - name] = '\0';
            vfs_mkdir(NULL, path, 0755);
        }
}

static int write_file(const char *name, const uint32_t *fields, const char *data)
{
    struct vfs_file *file;
    int r = vfs_open(NULL, name, VFS_O_WRONLY | VFS_O_CREAT | VFS_O_TRUNC, fields[F_MODE], &file);
    if (r < 0)
        return r;
    const int64_t n = fields[F_SIZE] ? vfs_write(file, data, fields[F_SIZE]) : 0;
    vfs_close(file);
    return n < 0 ? (int)n : n < fields[F_SIZE] ? -ENOSPC : 0;
}

/* A file with several names has its data with one of them; others have none. */
static int regular_file(struct archive *a, const char *name, const uint32_t *fields,
                        const char *data)
{
    for (unsigned i = 0; fields[F_NLINK] > 1 && i < a->link_count; i++)
        if (a->links[i].ino == fields[F_INO] && a->links[i].major == fields[F_MAJ] &&
            a->links[i].minor == fields[F_MIN]) {
            vfs_unlink(NULL, name, false);
            const int r = vfs_link(NULL, a->links[i].name, NULL, name);
            return r < 0 || !fields[F_SIZE] ? r : write_file(name, fields, data);
        }
    if (fields[F_NLINK] > 1 && a->link_count < LINKS_MAX) {
        a->links[a->link_count].ino = fields[F_INO];
        a->links[a->link_count].major = fields[F_MAJ];
        a->links[a->link_count].minor = fields[F_MIN];
        a->links[a->link_count++].name = name;
    }
    return write_file(name, fields, data);
}

static int link_file(const char *name, const uint32_t *fields, const char *data)
{
    char target[VFS_PATH_MAX];
    if (!fields[F_SIZE] || fields[F_SIZE] >= sizeof(target) || memchr(data, '\0', fields[F_SIZE]))
        return -EINVAL;
    memcpy(target, data, fields[F_SIZE]);
    target[fields[F_SIZE]] = '\0';
    vfs_unlink(NULL, name, false);
    return vfs_symlink(target, NULL, name);
}

static int unpack_entry(struct archive *a, const char *name, const uint32_t *fields,
                        const char *data)
{
    int r = 0;
    while (*name == '/' || (name[0] == '.' && name[1] == '/'))
        name++;
    if (!*name || !strcmp(name, "."))
        return 0;
    make_parents(name);
    switch (fields[F_MODE] & VFS_S_IFMT) {
    case VFS_S_IFDIR:
        r = vfs_mkdir(NULL, name, fields[F_MODE]);
        r = r == -EEXIST ? 0 : r;
        break;
    case VFS_S_IFREG:
        r = regular_file(a, name, fields, data);
        break;
    case VFS_S_IFLNK:
        r = link_file(name, fields, data);
        break;
    default:
        base_log(BASE_LOG_WARNING, "initramfs: %s: devices are in /dev already", name);
    }
    if (r < 0)
        base_log(BASE_LOG_ERROR, "initramfs: %s: error %d", name, -r);
    return r;
}

static int checksum_matches(const struct archive *a, const uint32_t *fields, const char *data)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < fields[F_SIZE]; i++)
        sum += (unsigned char)data[i];
    return sum == fields[F_CHECK] ? 0 : bad(a, "the checksum of a file is wrong");
}

/* One entry; 1: the archive's end. */
static int next_entry(struct archive *a)
{
    uint32_t fields[FIELDS];
    const char *header = a->data + a->at;
    const size_t left = a->size - a->at;
    const bool checked = left >= 6 && !memcmp(header, "070702", 6);
    if (!checked && (left < 6 || memcmp(header, "070701", 6) != 0))
        return bad(a, "no cpio archive in newc format");
    if (left < HEADER || !read_fields(header, fields))
        return bad(a, "a header that is cut or not hexadecimal");
    const size_t data_at = round_up(HEADER + (size_t)fields[F_NAME], 4);
    if (!fields[F_NAME] || fields[F_NAME] > VFS_PATH_MAX || !range_ok(0, data_at, left))
        return bad(a, "a name that is too long");
    if (!range_ok(data_at, fields[F_SIZE], left))
        return bad(a, "a file that reaches past the end");
    const char *name = header + HEADER;
    if (name[fields[F_NAME] - 1] != '\0' || memchr(name, '\0', fields[F_NAME] - 1))
        return bad(a, "a name that does not end where it should");
    if (checked && checksum_matches(a, fields, header + data_at) < 0)
        return -EINVAL;
    const bool last = !strcmp(name, "TRAILER!!!");
    const int r = last ? 0 : unpack_entry(a, name, fields, header + data_at);
    a->at += min_u64(round_up(data_at + fields[F_SIZE], 4), left);
    return last ? 1 : r;
}

int cpio_unpack(const void *data, size_t size)
{
    struct archive *a = base_alloc(sizeof(*a));
    if (!a)
        return -ENOMEM;
    a->data = data;
    a->size = size;
    int r = 0;
    if (size >= 2 && !memcmp(data, "\x1f\x8b", 2))
        r = bad(a, "it is compressed; unpack it with gunzip first");
    while (r >= 0) {
        while (a->at < size && a->data[a->at] == '\0')
            a->at++;
        if (a->at == size)
            break;
        r = next_entry(a);
        if (r == 1)
            a->link_count = 0; /* inode numbers of the next archive are others */
    }
    base_free(a);
    return r < 0 ? r : 0;
}
