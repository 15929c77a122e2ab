/* System calls that ask: time, the machine, limits, random bytes. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/memory/memory.h"
#include "os/memory/user.h"
#include "os/os.h"

static int64_t put(uint64_t address, const void *data, size_t n)
{
    if (!user_access(address, n, USER_WRITE))
        return -EFAULT;
    memcpy((void *)(uintptr_t)address, data, n);
    return 0;
}

/* A clock of Linux: 0, 5 and 11 tell the date, 2 and 3 the time of the processor (all that the
 * program was there), the others the time since start. */
static int64_t read_clock(uint64_t id, uint64_t *ns)
{
    if (id > 11)
        return -EINVAL;
    *ns = id == 0 || id == 5 || id == 11 ? base_wall_ns() : base_now_ns();
    return 0;
}

int64_t sys_clock_gettime(const uint64_t a[6], struct syscall_frame *frame)
{
    uint64_t ns = 0;
    (void)frame;
    if (read_clock(a[0], &ns) < 0)
        return -EINVAL;
    const uint64_t t[2] = {ns / 1000000000, ns % 1000000000};
    return put(a[1], t, sizeof(t));
}

int64_t sys_clock_getres(const uint64_t a[6], struct syscall_frame *frame)
{
    static const uint64_t nanosecond[2] = {0, 1};
    (void)frame;
    return a[0] > 11 ? -EINVAL : a[1] ? put(a[1], nanosecond, sizeof(nanosecond)) : 0;
}

int64_t sys_gettimeofday(const uint64_t a[6], struct syscall_frame *frame)
{
    const uint64_t ns = base_wall_ns();
    const uint64_t t[2] = {ns / 1000000000, ns % 1000000000 / 1000};
    (void)frame;
    return a[0] ? put(a[0], t, sizeof(t)) : 0;
}

int64_t sys_time(const uint64_t a[6], struct syscall_frame *frame)
{
    const uint64_t seconds = base_wall_ns() / 1000000000;
    (void)frame;
    const int64_t r = a[0] ? put(a[0], &seconds, sizeof(seconds)) : 0;
    return r < 0 ? r : (int64_t)seconds;
}

int64_t sys_uname(const uint64_t a[6], struct syscall_frame *frame)
{
    static const char names[6][65] = {"Linux",  "ashlar", "6.1.0", "Ashlar unikernel",
                                      "x86_64", "(none)"};
    (void)frame;
    return put(a[0], names, sizeof(names));
}

int64_t sys_sysinfo(const uint64_t a[6], struct syscall_frame *frame)
{
    struct {
        uint64_t uptime, loads[3], total, free, shared, buffers, total_swap, free_swap;
        uint16_t processes, pad;
        uint64_t total_high, free_high;
        uint32_t unit, pad2;
    } out = {.uptime = base_now_ns() / 1000000000, .processes = 1, .unit = 1};
    struct memory_stats stats;
    (void)frame;
    memory_stats_get(&stats);
    out.total = stats.total;
    out.free = stats.free;
    return put(a[0], &out, sizeof(out));
}

int64_t sys_getrandom(const uint64_t a[6], struct syscall_frame *frame)
{
    const uint64_t n = min_u64(a[1], 1 << 20);
    (void)frame;
    if (!user_access(a[0], n, USER_WRITE))
        return -EFAULT;
    random_bytes((void *)(uintptr_t)a[0], n);
    return (int64_t)n;
}

static void limit_of(uint64_t resource, uint64_t limit[2])
{
    enum { RLIMIT_STACK = 3, RLIMIT_NOFILE = 7 };
    limit[0] = limit[1] = resource == RLIMIT_STACK    ? 8 << 20
                          : resource == RLIMIT_NOFILE ? FILES_MAX
                                                      : UINT64_MAX;
}

int64_t sys_getrlimit(const uint64_t a[6], struct syscall_frame *frame)
{
    uint64_t limit[2];
    (void)frame;
    if (a[0] > 15)
        return -EINVAL;
    limit_of(a[0], limit);
    return put(a[1], limit, sizeof(limit));
}

int64_t sys_prlimit64(const uint64_t a[6], struct syscall_frame *frame)
{
    const uint64_t args[6] = {a[1], a[3]};
    return a[3] ? sys_getrlimit(args, frame) : a[1] > 15 ? -EINVAL : 0;
}

int64_t sys_getrusage(const uint64_t a[6], struct syscall_frame *frame)
{
    const uint64_t ns = base_now_ns();
    const uint64_t usage[18] = {ns / 1000000000, ns % 1000000000 / 1000};
    (void)frame;
    return put(a[1], usage, sizeof(usage));
}

/* Calls whose answer is 0 whatever they ask: identities (root), and what has no effect here. */
int64_t sys_zero(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)a;
    (void)frame;
    return 0;
}
