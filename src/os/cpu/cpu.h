/*
 * cpu/cpu.h: the processor: its instructions, its tables, what each one has of its own.
 *
 * Everything runs at privilege level 0. Interrupts and exceptions always change to a stack of the
 * processor's own (IST), so that neither a program nor the C library must keep clear of the 128
 * bytes below its stack pointer. The kernel uses no vector or floating-point register; they belong
 * to the program (tests/boot/image.sh looks at every instruction).
 */
#ifndef OS_CPU_H
#define OS_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct thread;

enum { CPU_MAX = 64 };

/* The addresses below are fixed: entry.S and interrupt.S know them. */
#define KERNEL_BASE UINT64_C(0xffffffff80000000) /* the image, at its physical address */
#define DIRECT_BASE UINT64_C(0xffff800000000000) /* all memory, at its physical address */
#define REGION_BASE UINT64_C(0xffffa00000000000) /* stacks, device registers, lazy memory */
#define REGION_END  UINT64_C(0xffffa20000000000) /* 2 TiB */
#define USER_END    UINT64_C(0x0000800000000000) /* programs live below */

struct interrupt_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

struct syscall_frame {
    uint64_t r15, r14, r13, r12, rbp, rbx, r9, r8, r10, rdx, rsi, rdi, rax;
    uint64_t rip, rflags, rsp;
};

struct spinlock {
    unsigned held; /* atomic */
};

struct thread_list {
    struct thread *first;
    struct thread **last;
};

/* What a processor has of its own; %gs points to it. */
struct cpu {
    struct cpu *self;        /* 0: interrupt.S */
    uint64_t syscall_stack;  /* 8: interrupt.S */
    uint64_t syscall_caller; /* 16: interrupt.S */
    unsigned index;
    uint32_t apic_id;
    bool online;  /* atomic */
    bool halted;  /* atomic: waits for an interrupt */
    bool resched; /* atomic: somebody waits to run */

    struct spinlock lock; /* guards what follows; thread.c */
    struct thread *current;
    struct thread *idle;
    struct thread *dead; /* to be freed by the next that runs */
    struct thread_list ready;
    struct thread *sleepers; /* by time */
    uint64_t timer_set;      /* when the timer will fire; UINT64_MAX: it is off */
    uint64_t fs_base;        /* what the register holds */
    unsigned flush_due;      /* atomic: must drop its translations */
    uint64_t switches;

    uint64_t gdt[7];
    struct {
        uint32_t reserved0;
        uint64_t rsp[3];
        uint64_t reserved1;
        uint64_t ist[7];
        uint64_t reserved2;
        uint16_t reserved3;
        uint16_t io_map;
    } __attribute__((packed)) tss;
};

extern struct cpu *cpus[CPU_MAX];
extern unsigned cpu_count; /* those online */

static inline struct cpu *cpu_this(void)
{
    struct cpu *cpu;
    __asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* ---- instructions ----------------------------------------------------------------------- */

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void outl(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint16_t inw(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint64_t rdtsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}
struct cpuid {
    uint32_t a, b, c, d;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
                     : "a"(leaf), "c"(subleaf));
    return r;
}
static inline void cpu_pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}
static inline void irq_enable(void)
{
    __asm__ volatile("sti" : : : "memory");
}
static inline void irq_disable(void)
{
    __asm__ volatile("cli" : : : "memory");
}
/* Disable interrupts; tells whether they were on, for irq_restore(). */
static inline bool irq_save(void)
{
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0; cli" : "=r"(flags) : : "memory");
    return flags & 0x200;
}
static inline void irq_restore(bool on)
{
    if (on)
        irq_enable();
}

/* ---- locks ------------------------------------------------------------------------------ */

/* For a few instructions. The holder has interrupts off, and must not sleep. */
static inline void spin_lock(struct spinlock *lock)
{
    while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED))
            cpu_pause();
}
static inline void spin_unlock(struct spinlock *lock)
{
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}
static inline bool spin_lock_irq(struct spinlock *lock)
{
    bool on = irq_save();
    spin_lock(lock);
    return on;
}
static inline void spin_unlock_irq(struct spinlock *lock, bool on)
{
    spin_unlock(lock);
    irq_restore(on);
}

/* ---- features and set-up (cpu.c) -------------------------------------------------------- */

struct cpu_features {
    char vendor[13];
    char brand[49];
    char hypervisor[13]; /* "" on bare metal */
    bool pages_1g;
    bool x2apic;
    bool tsc_deadline;
    bool rdrand;
    bool rdseed;
    bool fsgsbase;
    bool xsave;
    uint64_t xsave_mask;
    uint32_t xsave_size; /* bytes of a program's vector and floating-point registers */
};
extern struct cpu_features cpu_features;

void cpu_detect(void);
/* Tables and registers of this processor, whose struct is given. */
void cpu_setup(struct cpu *cpu);
/* A struct cpu with its stacks; NULL if there is no memory. */
struct cpu *cpu_make(unsigned index, uint32_t apic_id);
void cpu_set_fs_base(uint64_t base);
void cpu_save_vectors(void *area);
void cpu_load_vectors(const void *area);
void cpu_init_vectors(void *area);

/* ---- interrupts (interrupt.c) ----------------------------------------------------------- */

enum {
    VECTOR_PAGE_FAULT = 14,
    VECTOR_DEVICE_FIRST = 48,
    VECTOR_DEVICE_LAST = 239,
    VECTOR_TIMER = 240,
    VECTOR_WAKE = 241,
    VECTOR_FLUSH = 242,
    VECTOR_STOP = 243,
    VECTOR_SPURIOUS = 255,
};

/* A vector that calls function(arg) with interrupts off; 0 if none is left. */
unsigned interrupt_alloc(void (*function)(void *arg), void *arg);
void interrupt_free(unsigned vector);
void interrupt_setup(void); /* the table itself; once */
void interrupt_load(void);  /* on each processor */

#endif
