/*
 * thread/thread.h: threads, and how they wait.
 *
 * A thread belongs to one processor from birth and runs until it waits, yields or ends; only a
 * program, outside a system call, is interrupted so that others may run. Each processor has a queue
 * of threads that are ready, and an idle thread that halts it.
 */
#ifndef OS_THREAD_H
#define OS_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/cpu/cpu.h"

struct program_thread; /* app/: what a thread of a Linux program has besides */

enum thread_state { THREAD_READY, THREAD_RUNNING, THREAD_WAITING, THREAD_DEAD };

struct thread {
    struct thread *next;       /* in cpu->ready */
    struct thread *sleep_next; /* in cpu->sleepers */
    struct thread *wait_next;  /* in a wait queue; guarded by its lock */
    uint64_t stack_pointer;    /* while it does not run */
    void *stack;
    struct cpu *cpu;
    enum thread_state state;    /* guarded by cpu->lock */
    bool sleeping;              /* in cpu->sleepers; guarded by cpu->lock */
    bool timed_out;             /* the last wait ended by time; guarded by cpu->lock */
    uint64_t wake_at;           /* valid if sleeping */
    struct wait_queue *waiting; /* guarded by the queue's lock */
    uint64_t fs_base;           /* of a program; 0: the kernel's */
    void *vectors;              /* of a program: its vector registers; NULL: uses none */
    uint64_t syscall_stack;     /* where `syscall` continues; 0: it may not make any */
    unsigned syscall_users;     /* of a kernel thread: thread_syscalls_begin() */
    struct program_thread *program;
    uint64_t fault_address; /* of its last page fault */
    char name[16];
};

enum { THREAD_STACK_SIZE = 32768 };

/* A thread on a processor (-1: the one with the fewest). Its memory is freed after it ended. NULL
 * if there is no memory. It does not run before thread_start(). */
struct thread *thread_make(const char *name, void (*function)(void *arg), void *arg, int cpu);
/* A thread that starts by returning to `resume` with a copy of `frame` on top of its stack. */
struct thread *thread_make_at(const char *name, const void *frame, size_t size,
                              void (*resume)(void), int cpu);
void thread_start(struct thread *thread);
void thread_discard(struct thread *thread); /* one that was never started */
__attribute__((noreturn)) void thread_exit(void);
/* Let others run. */
void thread_yield(void);
/* A kernel thread makes system calls of Linux, by instruction, between these. 0 or -ENOMEM. */
int thread_syscalls_begin(void);
void thread_syscalls_end(void);
static inline struct thread *thread_current(void)
{
    struct thread *t;
    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(t) : "i"(offsetof(struct cpu, current)));
    return t;
}
/* Whether somebody else is ready on this processor. */
static inline bool thread_others_wait(void)
{
    return __atomic_load_n(&cpu_this()->resched, __ATOMIC_RELAXED);
}

/* ---- waiting ---------------------------------------------------------------------------- */

/* Threads that wait for something that the owner of the queue knows. */
struct wait_queue {
    struct spinlock lock;
    struct thread *first;
    struct thread *last;
};

/* Wait until woken or until a time (UINT64_MAX: forever). Called with queue->lock held by
 * spin_lock_irq(), which it releases; so nothing is lost between a test and the wait. irq: what
 * spin_lock_irq() returned. False if the time has passed. */
bool wait_sleep(struct wait_queue *queue, uint64_t until, bool irq);
/* Wake at most n. With queue->lock held. */
unsigned wait_wake_locked(struct wait_queue *queue, unsigned n);
unsigned wait_wake(struct wait_queue *queue, unsigned n);

/* ---- for the rooms below ---------------------------------------------------------------- */

int thread_make_idle(struct cpu *cpu);
uint64_t thread_idle_stack(const struct cpu *cpu);
void thread_setup(void);                /* the first processor: what runs becomes a thread */
void thread_setup_cpu(struct cpu *cpu); /* another */
__attribute__((noreturn)) void thread_idle(void);
void thread_timer(void); /* the timer fired; interrupts off */

/* ---- of app/, used by interrupts --------------------------------------------------------- */
void app_fault(struct interrupt_frame *frame);
void app_syscall(struct syscall_frame *frame);

#endif
