/* Threads: see thread.h. */
#include "os/thread/thread.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

enum { SLICE_NS = 10000000 }; /* a program runs so long while others wait */

void thread_switch(uint64_t *save_sp, uint64_t load_sp);
void thread_first(void);
void thread_started(void);

/* ---- making ----------------------------------------------------------------------------- */

static struct cpu *choose_cpu(int wanted)
{
    if (wanted >= 0 && wanted < CPU_MAX && cpus[wanted])
        return cpus[wanted];
    static unsigned turn; /* atomic */
    for (unsigned i = 0; i < CPU_MAX; i++) {
        struct cpu *cpu = cpus[__atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) % CPU_MAX];
        if (cpu && cpu->online)
            return cpu;
    }
    return cpu_this();
}

static struct thread *make(const char *name, struct cpu *cpu)
{
    struct thread *t = base_alloc(sizeof(*t));
    if (!t)
        return NULL;
    t->stack = region_stack(THREAD_STACK_SIZE);
    if (!t->stack) {
        base_free(t);
        return NULL;
    }
    t->cpu = cpu;
    t->state = THREAD_WAITING;
    const size_t len = min_u64(strlen(name), sizeof(t->name) - 1);
    memcpy(t->name, name, len);
    return t;
}

static uint64_t *stack_top(const struct thread *t)
{
    return (uint64_t *)(uintptr_t)((char *)t->stack + THREAD_STACK_SIZE);
}

/* What thread_switch() pops: r15, r14, r13, r12, rbp, rbx, then the address to return to. */
static void first_frame(struct thread *t, uint64_t *sp, const void *resume, const void *rbx,
                        const void *r12)
{
    *--sp = (uint64_t)(uintptr_t)resume;
    *--sp = (uint64_t)(uintptr_t)rbx;
    *--sp = 0;
    *--sp = (uint64_t)(uintptr_t)r12;
    *--sp = 0;
    *--sp = 0;
    *--sp = 0;
    t->stack_pointer = (uint64_t)(uintptr_t)sp;
}

struct thread *thread_make(const char *name, void (*function)(void *arg), void *arg, int cpu)
{
    struct thread *t = make(name, choose_cpu(cpu));
    if (t)
        first_frame(t, stack_top(t), (void *)(uintptr_t)thread_first, (void *)(uintptr_t)function,
                    arg);
    return t;
}

void thread_resumed(void);
struct thread *thread_make_at(const char *name, const void *frame, size_t size,
                              void (*resume)(void), int cpu)
{
    struct thread *t = make(name, choose_cpu(cpu));
    if (!t)
        return NULL;
    char *sp = (char *)stack_top(t) - size;
    memcpy(sp, frame, size);
    uint64_t *words = (uint64_t *)(void *)sp;
    *--words = (uint64_t)(uintptr_t)resume;
    first_frame(t, words, (void *)(uintptr_t)thread_resumed, NULL, NULL);
    t->syscall_stack = (uint64_t)(uintptr_t)stack_top(t);
    return t;
}

static void release(struct thread *t)
{
    region_stack_free(t->stack, THREAD_STACK_SIZE);
    base_free(t->vectors);
    base_free(t);
}

void thread_discard(struct thread *t)
{
    release(t);
}

/* ---- ready queues: with cpu->lock held -------------------------------------------------- */

static void ready_add(struct cpu *cpu, struct thread *t)
{
    t->state = THREAD_READY;
    t->next = NULL;
    *cpu->ready.last = t;
    cpu->ready.last = &t->next;
    __atomic_store_n(&cpu->resched, true, __ATOMIC_RELAXED);
}

static struct thread *ready_take(struct cpu *cpu)
{
    struct thread *t = cpu->ready.first;
    if (t) {
        cpu->ready.first = t->next;
        if (!t->next)
            cpu->ready.last = &cpu->ready.first;
    }
    __atomic_store_n(&cpu->resched, cpu->ready.first != NULL, __ATOMIC_RELAXED);
    return t;
}

static void sleepers_remove(struct cpu *cpu, struct thread *t)
{
    struct thread **at = &cpu->sleepers;
    while (*at != t)
        at = &(*at)->sleep_next;
    *at = t->sleep_next;
    t->sleeping = false;
}

static void sleepers_add(struct cpu *cpu, struct thread *t, uint64_t until)
{
    struct thread **at = &cpu->sleepers;
    while (*at && (*at)->wake_at <= until)
        at = &(*at)->sleep_next;
    t->wake_at = until;
    t->sleeping = true;
    t->sleep_next = *at;
    *at = t;
}

/* The timer must fire for the next sleeper, or to end a program's slice. */
static void timer_update(struct cpu *cpu)
{
    uint64_t when = cpu->sleepers ? cpu->sleepers->wake_at : UINT64_MAX;
    if (cpu->current->program && cpu->ready.first)
        when = min_u64(when, base_now_ns() + SLICE_NS);
    if (when != cpu->timer_set) {
        cpu->timer_set = when;
        apic_timer_set(when);
    }
}

/* ---- switching -------------------------------------------------------------------------- */

/* The part after a switch, on the new thread's stack; cpu->lock is held. Other processors' stacks
 * and memory are only freed once nobody stands on them. */
static void switched(bool irq)
{
    struct cpu *cpu = cpu_this();
    struct thread *t = cpu->current;
    struct thread *dead = cpu->dead;
    cpu->dead = NULL;
    cpu->syscall_stack = t->syscall_stack;
    cpu_set_fs_base(t->fs_base);
    if (t->vectors)
        cpu_load_vectors(t->vectors);
    spin_unlock_irq(&cpu->lock, irq);
    if (dead)
        release(dead); /* threads of the kernel end with interrupts on */
}

void thread_started(void)
{
    switched(true);
}

void thread_resumed(void)
{
    switched(true);
}

/* With cpu->lock held and interrupts off; the lock is released when this thread runs again. */
static void schedule(struct cpu *cpu, bool irq)
{
    struct thread *self = cpu->current;
    struct thread *next = ready_take(cpu);
    if (!next)
        next = self->state == THREAD_RUNNING ? self : cpu->idle;
    if (next == self) {
        self->state = THREAD_RUNNING;
        timer_update(cpu);
        spin_unlock_irq(&cpu->lock, irq);
        return;
    }
    if (self->state == THREAD_RUNNING && self != cpu->idle)
        ready_add(cpu, self);
    next->state = THREAD_RUNNING;
    cpu->current = next;
    cpu->switches++;
    timer_update(cpu);
    if (self->vectors)
        cpu_save_vectors(self->vectors);
    thread_switch(&self->stack_pointer, next->stack_pointer);
    switched(irq);
}

void thread_yield(void)
{
    bool irq = irq_save();
    struct cpu *cpu = cpu_this();
    spin_lock(&cpu->lock);
    schedule(cpu, irq);
}

void thread_exit(void)
{
    irq_disable();
    struct cpu *cpu = cpu_this();
    spin_lock(&cpu->lock);
    cpu->current->state = THREAD_DEAD;
    cpu->dead = cpu->current;
    schedule(cpu, true);
    __builtin_unreachable();
}

static void wake(struct thread *t, bool timed_out)
{
    struct cpu *cpu = t->cpu;
    bool irq = spin_lock_irq(&cpu->lock);
    if (t->state == THREAD_WAITING) {
        if (t->sleeping)
            sleepers_remove(cpu, t);
        t->timed_out = timed_out;
        ready_add(cpu, t);
        if (cpu == cpu_this() && cpu->current->program)
            timer_update(cpu);
    }
    /* Either we see that it halts, or it sees that somebody is ready. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const bool kick = cpu != cpu_this() &&
                      (__atomic_load_n(&cpu->halted, __ATOMIC_SEQ_CST) || cpu->current->program);
    spin_unlock_irq(&cpu->lock, irq);
    if (kick)
        apic_send(cpu->apic_id, VECTOR_WAKE);
}

void thread_start(struct thread *t)
{
    wake(t, false);
}

void thread_timer(void)
{
    struct cpu *cpu = cpu_this();
    spin_lock(&cpu->lock);
    cpu->timer_set = UINT64_MAX;
    const uint64_t now = base_now_ns();
    while (cpu->sleepers && cpu->sleepers->wake_at <= now) {
        struct thread *t = cpu->sleepers;
        sleepers_remove(cpu, t);
        t->timed_out = true;
        ready_add(cpu, t);
    }
    timer_update(cpu);
    spin_unlock(&cpu->lock);
}

/* ---- waiting ---------------------------------------------------------------------------- */

static void queue_remove(struct wait_queue *queue, struct thread *t)
{
    struct thread *before = NULL, *at = queue->first;
    while (at && at != t) {
        before = at;
        at = at->wait_next;
    }
    if (!at)
        return;
    if (before)
        before->wait_next = t->wait_next;
    else
        queue->first = t->wait_next;
    if (queue->last == t)
        queue->last = before;
}

bool wait_sleep(struct wait_queue *queue, uint64_t until, bool irq)
{
    struct thread *t = thread_current();
    t->wait_next = NULL;
    t->waiting = queue;
    if (queue->first)
        queue->last->wait_next = t;
    else
        queue->first = t;
    queue->last = t;
    struct cpu *cpu = t->cpu;
    spin_lock(&cpu->lock);
    t->state = THREAD_WAITING;
    t->timed_out = false;
    if (until != UINT64_MAX)
        sleepers_add(cpu, t, until);
    spin_unlock(&queue->lock);
    schedule(cpu, irq);
    if (!t->timed_out)
        return true;
    /* A waker may have come just after the timer: then it counts as woken. */
    irq = spin_lock_irq(&queue->lock);
    const bool woken = !t->waiting;
    if (!woken)
        queue_remove(queue, t);
    t->waiting = NULL;
    spin_unlock_irq(&queue->lock, irq);
    return woken;
}

unsigned wait_wake_locked(struct wait_queue *queue, unsigned n)
{
    unsigned woken = 0;
    while (queue->first && woken < n) {
        struct thread *t = queue->first;
        queue->first = t->wait_next;
        if (!queue->first)
            queue->last = NULL;
        t->waiting = NULL;
        wake(t, false);
        woken++;
    }
    return woken;
}

unsigned wait_wake(struct wait_queue *queue, unsigned n)
{
    bool irq = spin_lock_irq(&queue->lock);
    unsigned woken = wait_wake_locked(queue, n);
    spin_unlock_irq(&queue->lock, irq);
    return woken;
}

/* ---- system calls of the kernel's own threads -------------------------------------------- */

static void set_syscall_stack(uint64_t top)
{
    bool irq = irq_save();
    cpu_this()->syscall_stack = thread_current()->syscall_stack = top;
    irq_restore(irq);
}

int thread_syscalls_begin(void)
{
    struct thread *t = thread_current();
    if (t->syscall_users == 0) {
        char *stack = region_stack(THREAD_STACK_SIZE);
        if (!stack)
            return -ENOMEM;
        set_syscall_stack((uint64_t)(uintptr_t)(stack + THREAD_STACK_SIZE));
    }
    t->syscall_users++;
    return 0;
}

void thread_syscalls_end(void)
{
    struct thread *t = thread_current();
    if (--t->syscall_users > 0)
        return;
    void *stack = (void *)(uintptr_t)(t->syscall_stack - THREAD_STACK_SIZE);
    set_syscall_stack(0);
    region_stack_free(stack, THREAD_STACK_SIZE);
}

/* ---- set-up and idling ------------------------------------------------------------------ */

int thread_make_idle(struct cpu *cpu)
{
    cpu->idle = make("idle", cpu);
    return cpu->idle ? 0 : -ENOMEM;
}

uint64_t thread_idle_stack(const struct cpu *cpu)
{
    return (uint64_t)(uintptr_t)stack_top(cpu->idle);
}

/* What runs at boot becomes the first processor's idle thread. */
void thread_setup(void)
{
    static struct thread boot = {.state = THREAD_RUNNING, .name = "idle"};
    struct cpu *cpu = cpu_this();
    boot.cpu = cpu;
    cpu->current = cpu->idle = &boot;
    cpu->online = true;
}

void thread_setup_cpu(struct cpu *cpu)
{
    cpu->idle->state = THREAD_RUNNING;
    cpu->current = cpu->idle;
}

void thread_idle(void)
{
    struct cpu *cpu = cpu_this();
    for (;;) {
        irq_disable();
        __atomic_store_n(&cpu->halted, true, __ATOMIC_SEQ_CST);
        if (!thread_others_wait())
            __asm__ volatile("sti; hlt" : : : "memory"); /* nothing gets in between */
        __atomic_store_n(&cpu->halted, false, __ATOMIC_SEQ_CST);
        irq_enable();
        if (thread_others_wait())
            thread_yield();
    }
}

/* ---- sleeping: base/platform.h ---------------------------------------------------------- */

void base_sleep_until_ns(uint64_t when)
{
    static struct wait_queue nobody_wakes;
    if (cpu_this()->current == cpu_this()->idle) {
        while (base_now_ns() < when) /* at boot there is nobody else */
            cpu_pause();
        return;
    }
    bool irq = spin_lock_irq(&nobody_wakes.lock);
    if (base_now_ns() < when)
        wait_sleep(&nobody_wakes, when, irq);
    else
        spin_unlock_irq(&nobody_wakes.lock, irq);
}
