/* base/platform.h for the unikernel: locks, threads, messages. Memory is in memory/, time in cpu/.
 */
#include "base/platform.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "os/os.h"
#include "os/thread/thread.h"

/* ---- mutexes ---------------------------------------------------------------------------- */

enum { MUTEX_FREE, MUTEX_HELD, MUTEX_CONTENDED /* held, and somebody waits */ };

struct mutex {
    unsigned state; /* atomic */
    struct wait_queue waiters;
};
_Static_assert(sizeof(struct mutex) <= sizeof(struct base_mutex), "struct base_mutex is too small");

static struct mutex *mutex_of(struct base_mutex *mutex)
{
    return (struct mutex *)(void *)mutex;
}

void base_mutex_init(struct base_mutex *mutex)
{
    memset(mutex, 0, sizeof(*mutex));
}

void base_mutex_fini(struct base_mutex *mutex)
{
    (void)mutex;
}

static void lock_slowly(struct mutex *m)
{
    while (__atomic_exchange_n(&m->state, MUTEX_CONTENDED, __ATOMIC_ACQUIRE) != MUTEX_FREE) {
        bool irq = spin_lock_irq(&m->waiters.lock);
        if (__atomic_load_n(&m->state, __ATOMIC_RELAXED) == MUTEX_CONTENDED)
            wait_sleep(&m->waiters, UINT64_MAX, irq);
        else
            spin_unlock_irq(&m->waiters.lock, irq);
    }
}

void base_mutex_lock(struct base_mutex *mutex)
{
    struct mutex *m = mutex_of(mutex);
    unsigned expected = MUTEX_FREE;
    if (!__atomic_compare_exchange_n(&m->state, &expected, MUTEX_HELD, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        lock_slowly(m);
}

void base_mutex_unlock(struct base_mutex *mutex)
{
    struct mutex *m = mutex_of(mutex);
    if (__atomic_exchange_n(&m->state, MUTEX_FREE, __ATOMIC_RELEASE) == MUTEX_CONTENDED)
        wait_wake(&m->waiters, 1);
}

/* ---- conditions ------------------------------------------------------------------------- */

_Static_assert(sizeof(struct wait_queue) <= sizeof(struct base_cond),
               "struct base_cond is too small");

static struct wait_queue *queue_of(struct base_cond *cond)
{
    return (struct wait_queue *)(void *)cond;
}

void base_cond_init(struct base_cond *cond)
{
    memset(cond, 0, sizeof(*cond));
}

void base_cond_fini(struct base_cond *cond)
{
    (void)cond;
}

void base_cond_wait(struct base_cond *cond, struct base_mutex *mutex)
{
    struct wait_queue *queue = queue_of(cond);
    bool irq = spin_lock_irq(&queue->lock);
    base_mutex_unlock(mutex);
    wait_sleep(queue, UINT64_MAX, irq);
    base_mutex_lock(mutex);
}

void base_cond_broadcast(struct base_cond *cond)
{
    wait_wake(queue_of(cond), UINT32_MAX);
}

/* ---- threads ---------------------------------------------------------------------------- */

struct joinable {
    void (*function)(void *arg);
    void *arg;
    bool done; /* guarded by joiner.lock */
    struct wait_queue joiner;
};

static void joinable_main(void *arg)
{
    struct joinable *j = arg;
    j->function(j->arg);
    bool irq = spin_lock_irq(&j->joiner.lock);
    j->done = true;
    wait_wake_locked(&j->joiner, 1);
    spin_unlock_irq(&j->joiner.lock, irq);
}

int base_thread_start(struct base_thread *thread, void (*function)(void *arg), void *arg, int cpu)
{
    struct joinable *j = base_alloc(sizeof(*j));
    if (!j)
        return -ENOMEM;
    j->function = function;
    j->arg = arg;
    struct thread *t = thread_make("worker", joinable_main, j, cpu);
    if (!t) {
        base_free(j);
        return -ENOMEM;
    }
    thread->opaque[0] = (uint64_t)(uintptr_t)j;
    thread_start(t);
    return 0;
}

void base_thread_join(struct base_thread *thread)
{
    struct joinable *j = (struct joinable *)(uintptr_t)thread->opaque[0];
    bool irq = spin_lock_irq(&j->joiner.lock);
    while (!j->done) {
        wait_sleep(&j->joiner, UINT64_MAX, irq);
        irq = spin_lock_irq(&j->joiner.lock);
    }
    spin_unlock_irq(&j->joiner.lock, irq);
    base_free(j);
}

unsigned base_cpu_count(void)
{
    return cpu_count;
}

/* ---- messages --------------------------------------------------------------------------- */

static enum base_log_level log_level = BASE_LOG_INFO;

void base_log_set_level(enum base_log_level level)
{
    log_level = level;
}

void base_log(enum base_log_level level, const char *format, ...)
{
    static const char *const names[] = {"", "error: ", "warning: ", "", ""};
    char line[512];
    if (level > log_level)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    print("%s%s\n", names[level], line);
}
