/* A static ELF program (System V ABI, AMD64 supplement; generic ABI chapters 4 and 5) into memory.
 * Everything in its headers is checked against the file and the address space. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/memory/memory.h"
#include "os/memory/user.h"
#include "os/os.h"

enum {
    TYPE_EXEC = 2,
    TYPE_DYN = 3,
    MACHINE_X86_64 = 62,
    SEGMENT_LOAD = 1,
    SEGMENT_INTERP = 3,
    FLAG_EXEC = 1,
    FLAG_WRITE = 2,
    FLAG_READ = 4,
    SEGMENTS_MAX = 64,
};

struct header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, segments, sections;
    uint32_t flags;
    uint16_t size, segment_size, segment_count, section_size, section_count, names;
};

struct segment {
    uint32_t type, flags;
    uint64_t offset, address, physical, file_size, memory_size, align;
};

static int bad(const char *path, int error, const char *why)
{
    print("%s: %s\n", path, why);
    return error;
}

static int read_at(struct vfs_file *file, void *to, size_t n, uint64_t offset)
{
    const int64_t got = vfs_pread(file, to, n, offset);
    return got < 0 ? (int)got : (size_t)got == n ? 0 : -ENOEXEC;
}

static int check_header(const char *path, const struct header *h)
{
    if (memcmp(h->ident, "\177ELF", 4) != 0)
        return bad(path, -ENOEXEC, "not an ELF program");
    if (h->ident[4] != 2 || h->ident[5] != 1 || h->machine != MACHINE_X86_64)
        return bad(path, -ENOEXEC, "not for x86-64");
    if (h->type != TYPE_EXEC && h->type != TYPE_DYN)
        return bad(path, -ENOEXEC, "not a program (an object or core file?)");
    if (h->segment_size != sizeof(struct segment) || !h->segment_count ||
        h->segment_count > SEGMENTS_MAX)
        return bad(path, -ENOEXEC, "malformed: its table of segments");
    return 0;
}

static int check_segment(const char *path, const struct segment *s, uint64_t file_size)
{
    if (s->type == SEGMENT_INTERP)
        return bad(path, -ENOEXEC, "dynamically linked; only static programs run here");
    if (s->type != SEGMENT_LOAD)
        return 0;
    if (s->file_size > s->memory_size || !range_ok(s->offset, s->file_size, file_size))
        return bad(path, -ENOEXEC, "malformed: a segment reaches past the end of the file");
    if (!range_ok(s->address, s->memory_size, USER_MAP_BASE - (UINT64_C(1) << 40)))
        return bad(path, -ENOEXEC, "malformed: a segment lies outside of the address space");
    return 0;
}

static unsigned rights_of(const struct segment *s)
{
    return (s->flags & FLAG_READ ? USER_READ : 0) | (s->flags & FLAG_WRITE ? USER_WRITE : 0) |
           (s->flags & FLAG_EXEC ? USER_EXEC : 0);
}

static int load_segment(const char *path, struct vfs_file *file, const struct segment *s,
                        uint64_t bias)
{
    if (s->type != SEGMENT_LOAD || !s->memory_size)
        return 0;
    const uint64_t address = s->address + bias;
    uint64_t start = round_down(address, PAGE_SIZE);
    const uint64_t size = round_up(address + s->memory_size, PAGE_SIZE) - start;
    int r = user_map(&start, size, USER_READ | USER_WRITE, true);
    if (r < 0)
        return bad(path, -ENOEXEC, "malformed: its segments overlap, or lie too low");
    if (s->file_size && !user_access(address, s->file_size, USER_WRITE))
        return bad(path, -ENOMEM, "out of memory");
    r = s->file_size ? read_at(file, (void *)(uintptr_t)address, s->file_size, s->offset) : 0;
    if (r < 0)
        return bad(path, r, "it cannot be read");
    return user_protect(start, size, rights_of(s));
}

static int load(const char *path, struct vfs_file *file, struct elf_image *image)
{
    struct header h;
    struct segment s[SEGMENTS_MAX];
    struct vfs_stat stat;
    int r = vfs_fstat(file, &stat);
    if (r == 0 && (stat.mode & VFS_S_IFMT) != VFS_S_IFREG)
        return bad(path, -EACCES, "not a file");
    if (r == 0)
        r = read_at(file, &h, sizeof(h), 0);
    if (r < 0)
        return bad(path, r, "not an ELF program: too short");
    r = check_header(path, &h);
    if (r < 0)
        return r;
    if (read_at(file, s, h.segment_count * sizeof(s[0]), h.segments) < 0)
        return bad(path, -ENOEXEC, "malformed: its table of segments");
    const uint64_t bias = h.type == TYPE_DYN ? UINT64_C(0x555500000000) : 0;
    image->headers = 0;
    image->end = 0;
    for (unsigned i = 0; r == 0 && i < h.segment_count; i++) {
        r = check_segment(path, &s[i], stat.size);
        if (r == 0)
            r = load_segment(path, file, &s[i], bias);
        if (r == 0 && s[i].type == SEGMENT_LOAD) {
            image->end = max_u64(image->end, bias + s[i].address + s[i].memory_size);
            if (range_ok(h.segments, h.segment_count * sizeof(s[0]), UINT64_MAX) &&
                h.segments >= s[i].offset &&
                h.segments + h.segment_count * sizeof(s[0]) <= s[i].offset + s[i].file_size)
                image->headers = bias + s[i].address + (h.segments - s[i].offset);
        }
    }
    image->entry = bias + h.entry;
    image->header_count = h.segment_count;
    image->header_size = sizeof(struct segment);
    if (r == 0 && !user_access(image->entry, 1, USER_EXEC))
        return bad(path, -ENOEXEC, "malformed: it starts outside of its code");
    return r;
}

int elf_load(const char *path, struct elf_image *image)
{
    struct vfs_file *file;
    int r = vfs_open(NULL, path, VFS_O_RDONLY, 0, &file);
    if (r < 0)
        return bad(path, r, r == -ENOENT ? "there is no such file" : "it cannot be opened");
    r = load(path, file, image);
    vfs_close(file);
    return r;
}
