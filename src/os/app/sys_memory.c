/* System calls on memory. A file is mapped by reading it: changes of a shared mapping do not reach
 * the file, so a writable one is refused. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/memory/memory.h"
#include "os/memory/user.h"
#include "os/os.h"

enum {
    MAP_SHARED = 1,
    MAP_PRIVATE = 2,
    MAP_FIXED = 0x10,
    MAP_ANONYMOUS = 0x20,
    MAP_FIXED_NOREPLACE = 0x100000,
    MREMAP_MAYMOVE = 1,
    MADV_DONTNEED = 4,
    MADV_FREE = 8,
};

static int64_t read_into(uint64_t fd, uint64_t address, uint64_t size, uint64_t offset)
{
    struct vfs_file *f = app_file(fd);
    if (!f)
        return -EBADF;
    int64_t r = 0;
    for (uint64_t done = 0; done < size; done += (uint64_t)r) {
        const uint64_t part = min_u64(size - done, 1 << 20);
        r = user_access(address + done, part, USER_WRITE)
                ? vfs_pread(f, (void *)(uintptr_t)(address + done), part, offset + done)
                : -ENOMEM;
        if (r <= 0)
            break; /* what is behind the end of the file stays zero */
    }
    vfs_close(f);
    return r < 0 ? r : 0;
}

int64_t sys_mmap(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    const uint64_t size = a[1], flags = a[3];
    const unsigned rights = a[2] & 7;
    const bool file = !(flags & MAP_ANONYMOUS);
    const bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    uint64_t address = fixed ? a[0] : round_down(a[0], PAGE_SIZE);
    if (!size || size > USER_END || !(flags & (MAP_SHARED | MAP_PRIVATE)) ||
        (file && a[5] % PAGE_SIZE))
        return -EINVAL;
    if (file && (flags & 3) == MAP_SHARED && rights & USER_WRITE)
        return -ENODEV;
    if (flags & MAP_FIXED && !(flags & MAP_FIXED_NOREPLACE) && address % PAGE_SIZE == 0)
        user_unmap(address, size);
    int64_t r = user_map(&address, size, file ? USER_READ | USER_WRITE : rights, fixed);
    if (r < 0)
        return r;
    if (file) {
        r = read_into(a[4], address, size, a[5]);
        if (r == 0 && rights != (USER_READ | USER_WRITE))
            r = user_protect(address, size, rights);
        if (r < 0)
            user_unmap(address, size);
    }
    return r < 0 ? r : (int64_t)address;
}

int64_t sys_munmap(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return user_unmap(a[0], a[1]);
}

int64_t sys_mprotect(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return a[1] ? user_protect(a[0], a[1], a[2] & 7) : 0;
}

int64_t sys_madvise(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    if (a[2] == MADV_DONTNEED || a[2] == MADV_FREE)
        user_discard(a[0], a[1]);
    return 0;
}

int64_t sys_brk(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    base_mutex_lock(&program.lock);
    const uint64_t wanted = a[0], end = round_up(wanted, PAGE_SIZE);
    if (wanted >= program.brk_start && wanted < USER_MAP_BASE) {
        uint64_t at = program.brk_end;
        int r = 0;
        if (end > program.brk_end)
            r = user_map(&at, end - program.brk_end, USER_READ | USER_WRITE, true);
        else if (end < program.brk_end)
            r = user_unmap(end, program.brk_end - end);
        if (r == 0) {
            program.brk_end = end;
            program.brk = wanted;
        }
    }
    const uint64_t brk = program.brk;
    base_mutex_unlock(&program.lock);
    return (int64_t)brk;
}

/* Grow in place if there is room, else move by copying. */
int64_t sys_mremap(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    const uint64_t old = round_up(a[1], PAGE_SIZE), new = round_up(a[2], PAGE_SIZE);
    if (a[0] % PAGE_SIZE || !new || !old || new > USER_END || old > USER_END)
        return -EINVAL;
    if (new <= old)
        return new == old || user_unmap(a[0] + new, old - new) == 0 ? (int64_t)a[0] : -ENOMEM;
    uint64_t behind = a[0] + old;
    if (user_map(&behind, new - old, USER_READ | USER_WRITE, true) == 0)
        return (int64_t)a[0];
    uint64_t to = 0;
    if (!(a[3] & MREMAP_MAYMOVE) || user_map(&to, new, USER_READ | USER_WRITE, false) < 0)
        return -ENOMEM;
    if (!user_access(a[0], old, USER_READ) || !user_access(to, old, USER_WRITE)) {
        user_unmap(to, new);
        return -ENOMEM;
    }
    memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)a[0], old);
    user_unmap(a[0], old);
    return (int64_t)to;
}
