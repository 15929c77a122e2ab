/* Interrupts and exceptions: who gets which, and what happens to a program that made a fault. */
#include "os/cpu/cpu.h"

#include "os/app/app.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/thread/thread.h"

static struct {
    uint64_t low, high;
} table[256];

static struct {
    void (*function)(void *arg);
    void *arg;
} handlers[256];
static struct spinlock handlers_lock;

enum { IST_INTERRUPT = 1, IST_EXCEPTION = 2, IST_LAST_RESORT = 3 };

void interrupt_setup(void)
{
    extern char interrupt_entries[];
    for (unsigned i = 0; i < 256; i++) {
        const uint64_t entry = (uint64_t)(uintptr_t)interrupt_entries + 16 * i;
        const uint64_t ist = i >= 32              ? IST_INTERRUPT
                             : (i == 8 || i == 2) ? IST_LAST_RESORT
                                                  : IST_EXCEPTION;
        table[i].low = (entry & 0xffff) | 8 << 16 | ist << 32 | UINT64_C(0x8e) << 40 |
                       (entry >> 16 & 0xffff) << 48;
        table[i].high = entry >> 32;
    }
}

void interrupt_load(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idt = {sizeof(table) - 1, (uint64_t)(uintptr_t)table};
    __asm__ volatile("lidt %0" : : "m"(idt));
}

unsigned interrupt_alloc(void (*function)(void *arg), void *arg)
{
    bool irq = spin_lock_irq(&handlers_lock);
    unsigned found = 0;
    for (unsigned v = VECTOR_DEVICE_FIRST; v <= VECTOR_DEVICE_LAST && !found; v++)
        if (!handlers[v].function) {
            handlers[v].arg = arg;
            __atomic_store_n(&handlers[v].function, function, __ATOMIC_RELEASE);
            found = v;
        }
    spin_unlock_irq(&handlers_lock, irq);
    return found;
}

void interrupt_free(unsigned vector)
{
    handlers[vector].function = NULL;
}

static void interrupt_handle(unsigned vector)
{
    struct cpu *cpu = cpu_this();
    switch (vector) {
    case VECTOR_TIMER:
        thread_timer();
        break;
    case VECTOR_WAKE:
        break; /* the idle loop looks again */
    case VECTOR_FLUSH:
        table_flush_local();
        __atomic_store_n(&cpu->flush_due, 0, __ATOMIC_RELEASE);
        break;
    case VECTOR_STOP:
        for (;;)
            __asm__ volatile("cli; hlt");
    case VECTOR_SPURIOUS:
        return;
    default:
        if (handlers[vector].function)
            handlers[vector].function(handlers[vector].arg);
        break;
    }
    apic_end();
}

static bool in_program(const struct interrupt_frame *frame)
{
    return frame->rip < USER_END;
}

/* Put the frame where the thread may sleep: on its own stack, which a program leaves empty. */
static struct interrupt_frame *to_thread_stack(const struct interrupt_frame *frame)
{
    struct interrupt_frame *moved =
        (struct interrupt_frame *)(uintptr_t)cpu_this()->syscall_stack - 1;
    *moved = *frame;
    return moved;
}

/* With interrupts off. Returns the frame to go on with. */
struct interrupt_frame *interrupt_dispatch(struct interrupt_frame *frame);
struct interrupt_frame *interrupt_dispatch(struct interrupt_frame *frame)
{
    if (frame->vector >= 32) {
        interrupt_handle((unsigned)frame->vector);
        if (in_program(frame) && (thread_others_wait() || app_ending()))
            return to_thread_stack(frame);
        return frame;
    }
    if (frame->vector == VECTOR_PAGE_FAULT) {
        uint64_t address;
        __asm__ volatile("movq %%cr2, %0" : "=r"(address));
        if (region_fault(address) || user_fault(address, frame->error))
            return frame;
        thread_current()->fault_address = address;
    }
    if (in_program(frame))
        return to_thread_stack(frame);
    panic_at(frame, NULL);
}

/* On the thread's own stack, interrupts off. */
void interrupt_on_thread(struct interrupt_frame *frame);
void interrupt_on_thread(struct interrupt_frame *frame)
{
    if (frame->vector < 32) {
        irq_enable();
        app_fault(frame);
        irq_disable();
    } else {
        thread_yield();
        if (app_ending())
            app_thread_exit();
    }
}
