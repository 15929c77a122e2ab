/* System calls on threads, futexes and signals. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/app/app.h"
#include "os/memory/user.h"
#include "os/os.h"

/* ---- futexes ---------------------------------------------------------------------------- */

struct waiter {
    struct waiter *next;
    uint64_t address;
    uint32_t bits;
    bool listed; /* guarded by the bucket */
    struct wait_queue wake;
};

enum { BUCKETS = 64 };
static struct bucket {
    struct spinlock lock;
    struct waiter *first;
} buckets[BUCKETS];

static struct bucket *bucket_of(uint64_t address)
{
    return &buckets[(address >> 2 ^ address >> 12) % BUCKETS];
}

static void unlist(struct bucket *b, const struct waiter *w)
{
    struct waiter **at = &b->first;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
}

int64_t futex_wait(uint64_t address, uint32_t expected, uint32_t bits, uint64_t until)
{
    struct bucket *b = bucket_of(address);
    struct waiter w = {.address = address, .bits = bits};
    bool irq = spin_lock_irq(&b->lock);
    if (__atomic_load_n((const uint32_t *)(uintptr_t)address, __ATOMIC_SEQ_CST) != expected ||
        app_ending()) {
        spin_unlock_irq(&b->lock, irq);
        return -EAGAIN;
    }
    struct waiter **at = &b->first;
    while (*at)
        at = &(*at)->next;
    *at = &w;
    w.listed = true;
    spin_lock(&w.wake.lock);
    spin_unlock(&b->lock);
    const bool in_time = wait_sleep(&w.wake, until, irq);
    /* Whoever woke us holds the bucket until he is done with w. */
    b = bucket_of(w.address);
    irq = spin_lock_irq(&b->lock);
    const bool woken = !w.listed;
    if (!woken)
        unlist(b, &w);
    spin_unlock_irq(&b->lock, irq);
    return woken ? 0 : in_time ? -EINTR : -ETIMEDOUT;
}

static void wake_one(struct bucket *b, struct waiter *w)
{
    unlist(b, w);
    w->listed = false;
    wait_wake(&w->wake, 1);
}

int64_t futex_wake(uint64_t address, uint32_t count, uint32_t bits)
{
    struct bucket *b = bucket_of(address);
    uint32_t woken = 0;
    bool irq = spin_lock_irq(&b->lock);
    for (struct waiter *w = b->first, *next; w && woken < count; w = next) {
        next = w->next;
        if (w->address == address && w->bits & bits) {
            wake_one(b, w);
            woken++;
        }
    }
    spin_unlock_irq(&b->lock, irq);
    return woken;
}

void futex_wake_all(void)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        bool irq = spin_lock_irq(&buckets[i].lock);
        while (buckets[i].first)
            wake_one(&buckets[i], buckets[i].first);
        spin_unlock_irq(&buckets[i].lock, irq);
    }
}

/* Those that are not woken would move to another address; to wake them all is allowed, as every
 * waiter must look at its value again. */
static int64_t futex_requeue(uint64_t address, uint32_t wake, uint32_t move)
{
    return futex_wake(address, wake + move < wake ? UINT32_MAX : wake + move, UINT32_MAX);
}

/* A struct timespec at an address as nanoseconds; 0 or -EFAULT, -EINVAL. */
static int read_time(uint64_t address, uint64_t *ns)
{
    uint64_t t[2];
    if (!user_access(address, sizeof(t), USER_READ))
        return -EFAULT;
    memcpy(t, (const void *)(uintptr_t)address, sizeof(t));
    if (t[1] >= 1000000000)
        return -EINVAL;
    *ns = t[0] > UINT64_C(9000000000) ? UINT64_MAX / 2 : t[0] * 1000000000 + t[1];
    return 0;
}

int64_t sys_futex(const uint64_t a[6], struct syscall_frame *frame)
{
    enum { WAIT, WAKE, REQUEUE = 3, CMP_REQUEUE, WAIT_BITSET = 9, WAKE_BITSET };
    enum { PRIVATE = 128, REALTIME = 256 };
    const unsigned command = (unsigned)a[1] & ~(unsigned)(PRIVATE | REALTIME);
    uint64_t until = UINT64_MAX;
    (void)frame;
    if (a[0] % 4)
        return -EINVAL;
    if (!user_access(a[0], 4, USER_READ))
        return -EFAULT;
    if ((command == WAIT || command == WAIT_BITSET) && a[3]) {
        const int r = read_time(a[3], &until);
        if (r < 0)
            return r;
        if (command == WAIT)
            until += base_now_ns();
        else if (a[1] & REALTIME)
            until = until > base_wall_ns() ? until - base_wall_ns() + base_now_ns() : 0;
    }
    switch (command) {
    case WAIT:
        return futex_wait(a[0], (uint32_t)a[2], UINT32_MAX, until);
    case WAIT_BITSET:
        return a[5] ? futex_wait(a[0], (uint32_t)a[2], (uint32_t)a[5], until) : -EINVAL;
    case WAKE:
        return futex_wake(a[0], (uint32_t)a[2], UINT32_MAX);
    case WAKE_BITSET:
        return a[5] ? futex_wake(a[0], (uint32_t)a[2], (uint32_t)a[5]) : -EINVAL;
    case CMP_REQUEUE:
        if (*(const volatile uint32_t *)(uintptr_t)a[0] != (uint32_t)a[5])
            return -EAGAIN;
        return futex_requeue(a[0], (uint32_t)a[2], (uint32_t)a[3]);
    case REQUEUE:
        return futex_requeue(a[0], (uint32_t)a[2], (uint32_t)a[3]);
    default:
        return -ENOSYS;
    }
}

/* ---- threads ---------------------------------------------------------------------------- */

enum {
    CLONE_VM = 0x100,
    CLONE_THREAD = 0x10000,
    CLONE_SETTLS = 0x80000,
    CLONE_PARENT_SETTID = 0x100000,
    CLONE_CHILD_CLEARTID = 0x200000,
    CLONE_CHILD_SETTID = 0x1000000,
};

/* clone(flags, stack, parent_tid, child_tid, tls): threads only; there is one address space. */
int64_t sys_clone(const uint64_t a[6], struct syscall_frame *frame)
{
    if (!(a[0] & CLONE_VM) || !(a[0] & CLONE_THREAD) || !a[1])
        return -ENOSYS;
    if ((a[0] & CLONE_PARENT_SETTID && !user_access(a[2], 4, USER_WRITE)) ||
        (a[0] & CLONE_CHILD_SETTID && !user_access(a[3], 4, USER_WRITE)))
        return -EFAULT;
    struct syscall_frame child = *frame;
    child.rsp = a[1];
    child.rax = 0;
    struct thread *t = app_thread_make(&child);
    if (!t)
        return -EAGAIN;
    struct program_thread *p = t->program;
    cpu_save_vectors(t->vectors); /* the kernel left them as the caller had them */
    t->fs_base = a[0] & CLONE_SETTLS ? a[4] : thread_current()->fs_base;
    p->clear_tid = a[0] & CLONE_CHILD_CLEARTID ? a[3] : 0;
    p->signal_mask = thread_current()->program->signal_mask;
    const uint32_t tid = p->tid;
    if (a[0] & CLONE_PARENT_SETTID)
        *(volatile uint32_t *)(uintptr_t)a[2] = tid;
    if (a[0] & CLONE_CHILD_SETTID)
        *(volatile uint32_t *)(uintptr_t)a[3] = tid;
    thread_start(t);
    return tid;
}

int64_t sys_exit(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    if (__atomic_load_n(&program.threads, __ATOMIC_ACQUIRE) == 1)
        app_end((int)(a[0] & 0xff));
    app_thread_exit();
}

int64_t sys_exit_group(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    app_end((int)(a[0] & 0xff));
    app_thread_exit();
}

int64_t sys_arch_prctl(const uint64_t a[6], struct syscall_frame *frame)
{
    enum { ARCH_SET_GS = 0x1001, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS };
    struct thread *t = thread_current();
    (void)frame;
    if (a[0] == ARCH_SET_FS) {
        if (a[1] >= USER_END)
            return -EPERM;
        t->fs_base = a[1];
        bool irq = irq_save();
        cpu_set_fs_base(a[1]);
        irq_restore(irq);
        return 0;
    }
    if (a[0] == ARCH_GET_FS) {
        if (!user_access(a[1], 8, USER_WRITE))
            return -EFAULT;
        *(uint64_t *)(uintptr_t)a[1] = t->fs_base;
        return 0;
    }
    return -EINVAL; /* %gs is the kernel's */
}

int64_t sys_gettid(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)a;
    (void)frame;
    return thread_current()->program->tid;
}

int64_t sys_getpid(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)a;
    (void)frame;
    return 1;
}

int64_t sys_set_tid_address(const uint64_t a[6], struct syscall_frame *frame)
{
    thread_current()->program->clear_tid = a[0];
    return sys_gettid(a, frame);
}

int64_t sys_sched_yield(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)a;
    (void)frame;
    thread_yield();
    return 0;
}

int64_t sys_sched_getaffinity(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    uint64_t mask = 0;
    for (unsigned i = 0; i < CPU_MAX; i++)
        if (cpus[i])
            mask |= UINT64_C(1) << i;
    if (a[1] < 8)
        return -EINVAL;
    if (!user_access(a[2], 8, USER_WRITE))
        return -EFAULT;
    memcpy((void *)(uintptr_t)a[2], &mask, 8);
    return 8;
}

int64_t sys_getcpu(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    const uint32_t cpu = cpu_this()->index, node = 0;
    if ((a[0] && !user_access(a[0], 4, USER_WRITE)) || (a[1] && !user_access(a[1], 4, USER_WRITE)))
        return -EFAULT;
    if (a[0])
        memcpy((void *)(uintptr_t)a[0], &cpu, 4);
    if (a[1])
        memcpy((void *)(uintptr_t)a[1], &node, 4);
    return 0;
}

/* ---- signals: kept, and those that kill do --------------------------------------------- */

enum { SIGNALS = 64 };

int64_t sys_rt_sigaction(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    if (!a[0] || a[0] > SIGNALS || a[0] == 9 || a[0] == 19 || a[3] != 8)
        return -EINVAL;
    if ((a[1] && !user_access(a[1], 32, USER_READ)) || (a[2] && !user_access(a[2], 32, USER_WRITE)))
        return -EFAULT;
    uint64_t new[4];
    if (a[1])
        memcpy(new, (const void *)(uintptr_t)a[1], sizeof(new));
    base_mutex_lock(&program.lock);
    if (a[2])
        memcpy((void *)(uintptr_t)a[2], &program.signals[a[0]], sizeof(new));
    if (a[1])
        memcpy(&program.signals[a[0]], new, sizeof(new));
    base_mutex_unlock(&program.lock);
    return 0;
}

int64_t sys_rt_sigprocmask(const uint64_t a[6], struct syscall_frame *frame)
{
    uint64_t *mask = &thread_current()->program->signal_mask, set;
    (void)frame;
    if (a[3] != 8)
        return -EINVAL;
    if ((a[1] && !user_access(a[1], 8, USER_READ)) || (a[2] && !user_access(a[2], 8, USER_WRITE)))
        return -EFAULT;
    const uint64_t old = *mask;
    if (a[1]) {
        memcpy(&set, (const void *)(uintptr_t)a[1], 8);
        if (a[0] > 2)
            return -EINVAL;
        *mask = a[0] == 0 ? old | set : a[0] == 1 ? old & ~set : set;
    }
    if (a[2])
        memcpy((void *)(uintptr_t)a[2], &old, 8);
    return 0;
}

/* A signal to the program: 0 asks only; ignored ones are ignored; others end it. */
static int64_t signal_program(uint64_t signal)
{
    enum { SIG_IGN = 1, SIGCHLD = 17, SIGCONT = 18, SIGURG = 23, SIGWINCH = 28 };
    if (signal > SIGNALS)
        return -EINVAL;
    const uint64_t handler = signal ? program.signals[signal].handler : SIG_IGN;
    if (handler == SIG_IGN || (!handler && (signal == SIGCHLD || signal == SIGCONT ||
                                            signal == SIGURG || signal == SIGWINCH)))
        return 0;
    if (handler)
        base_log(BASE_LOG_WARNING, "%s: its handler of signal %lu is not called; it is ended",
                 program.name, signal);
    app_end(128 + (int)signal);
    return 0;
}

int64_t sys_kill(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return (int32_t)a[0] > 1 ? -ESRCH : signal_program(a[1]);
}
int64_t sys_tkill(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return signal_program(a[1]);
}
int64_t sys_tgkill(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return signal_program(a[2]);
}

/* ---- sleeping --------------------------------------------------------------------------- */

void app_sleep(uint64_t until)
{
    static const uint32_t never = 0; /* nobody wakes this address but the end of the program */
    futex_wait((uint64_t)(uintptr_t)&never, 0, 1, until);
}

static int64_t sleep_for(uint64_t address, bool absolute, bool wall)
{
    uint64_t ns;
    const int r = read_time(address, &ns);
    if (r < 0)
        return r;
    if (absolute && wall)
        ns = ns > base_wall_ns() ? ns - base_wall_ns() : 0;
    app_sleep(absolute && !wall ? ns : base_now_ns() + ns);
    return 0;
}
int64_t sys_nanosleep(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return sleep_for(a[0], false, false);
}
int64_t sys_clock_nanosleep(const uint64_t a[6], struct syscall_frame *frame)
{
    (void)frame;
    return sleep_for(a[2], a[1] & 1, a[0] == 0);
}
