/* The end: what to print when nothing can go on, and how the machine is left. */
#include <stdio.h>
#include <string.h>

#include "os/memory/memory.h"
#include "os/os.h"
#include "os/thread/thread.h"

/* ---- names of functions ----------------------------------------------------------------- */

/*
 * Section .symbols, made by tools/symbols from the image's own symbol table: a count, then for each
 * function, by address, its offset in the image and that of its name; then the names.
 */
extern const uint32_t image_symbols[];
extern char image_start[], image_code_end[];

const char *symbol_name(uint64_t address, uint64_t *offset)
{
    const uint64_t first = (uint64_t)(uintptr_t)image_start;
    if (address < first || address >= (uint64_t)(uintptr_t)image_code_end || !image_symbols[0])
        return "";
    const uint32_t wanted = (uint32_t)(address - first);
    uint32_t low = 0, high = image_symbols[0];
    while (low + 1 < high) {
        const uint32_t middle = (low + high) / 2;
        if (image_symbols[1 + 2 * middle] <= wanted)
            low = middle;
        else
            high = middle;
    }
    *offset = wanted - image_symbols[1 + 2 * low];
    return (const char *)(image_symbols + 1 + 2 * image_symbols[0]) + image_symbols[2 + 2 * low];
}

static void print_address(uint64_t address)
{
    uint64_t offset = 0;
    const char *name = symbol_name(address, &offset);
    if (*name)
        print("  %016lx %s+0x%lx\n", address, name, offset);
    else
        print("  %016lx\n", address);
}

/* Frames are linked through rbp: the kernel is compiled with frame pointers. */
static void print_calls(uint64_t rip, uint64_t rbp)
{
    print("calls:\n");
    print_address(rip);
    for (unsigned i = 0; i < 24; i++) {
        if (rbp < DIRECT_BASE || rbp & 7 || virt_to_phys((void *)(uintptr_t)rbp) == UINT64_MAX ||
            virt_to_phys((void *)(uintptr_t)(rbp + 8)) == UINT64_MAX)
            break;
        const uint64_t *frame = (const uint64_t *)(uintptr_t)rbp;
        if (!frame[1])
            break;
        print_address(frame[1] - 1);
        if (frame[0] <= rbp)
            break;
        rbp = frame[0];
    }
}

/* ---- panic ------------------------------------------------------------------------------ */

static bool begun; /* atomic */

__attribute__((noreturn)) static void halt(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* Only the first processor that gets here goes on; a fault in here ends it at once. */
static void begin(void)
{
    irq_disable();
    if (__atomic_exchange_n(&begun, true, __ATOMIC_SEQ_CST))
        halt();
    smp_stop_others();
    console_break_lock();
}

static void print_where(void)
{
    const struct cpu *cpu = cpu_this();
    print("processor %u, thread %s\n", cpu->index, cpu->current ? cpu->current->name : "(none)");
}

void panic(const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    begin();
    print("\npanic: %s\n", text);
    if (cpu_count && cpus[0])
        print_where();
    print_calls((uint64_t)(uintptr_t)__builtin_return_address(0) - 1,
                *(const uint64_t *)__builtin_frame_address(0));
    power_off(EXIT_PANIC);
}

static const char *const exceptions[32] = {"division by zero",
                                           "debug",
                                           "NMI",
                                           "breakpoint",
                                           "overflow",
                                           "bound",
                                           "invalid instruction",
                                           "no FPU",
                                           "double fault",
                                           "FPU segment",
                                           "invalid TSS",
                                           "segment not present",
                                           "stack fault",
                                           "general protection",
                                           "page fault",
                                           "reserved",
                                           "x87 error",
                                           "alignment",
                                           "machine check",
                                           "SIMD error",
                                           "virtualization",
                                           "control protection"};

void panic_at(const struct interrupt_frame *f, const char *why)
{
    begin();
    const char *name = f->vector < 32 ? exceptions[f->vector] : NULL;
    print("\npanic: %s\n", why ? why : name ? name : "exception");
    uint64_t cr2, cr3;
    __asm__ volatile("movq %%cr2, %0; movq %%cr3, %1" : "=r"(cr2), "=r"(cr3));
    if (f->vector == VECTOR_PAGE_FAULT || f->vector == 8) {
        const char *what = region_describe(cr2);
        print("address %016lx (%s of %s)%s%s\n", cr2,
              f->error & 16  ? "execution"
              : f->error & 2 ? "write"
                             : "read",
              f->error & 1 ? "a protected page" : "nothing", what ? ": " : "", what ? what : "");
    }
    print_where();
    print("rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    print("rsi %016lx rdi %016lx rbp %016lx rsp %016lx\n", f->rsi, f->rdi, f->rbp, f->rsp);
    print("r8  %016lx r9  %016lx r10 %016lx r11 %016lx\n", f->r8, f->r9, f->r10, f->r11);
    print("r12 %016lx r13 %016lx r14 %016lx r15 %016lx\n", f->r12, f->r13, f->r14, f->r15);
    print("rip %016lx rflags %08lx cr2 %016lx cr3 %016lx error %lx\n", f->rip, f->rflags, cr2, cr3,
          f->error);
    print_calls(f->rip, f->rbp);
    power_off(EXIT_PANIC);
}

/* ---- stack protector -------------------------------------------------------------------- */

uintptr_t __stack_chk_guard = (uintptr_t)0x595e9fbd94fda700; /* replaced by random_setup() */
void __stack_chk_fail(void);
void __stack_chk_fail(void)
{
    panic("a stack was overwritten");
}

/* ---- leaving ---------------------------------------------------------------------------- */

enum {
    DEBUG_EXIT_PORT = 0xf4, /* QEMU: -device isa-debug-exit,iobase=0xf4,iosize=4 */
    QEMU_POWEROFF_PORT = 0x604,
    SLEEP_ENABLE = 1 << 13,
};

static volatile uint8_t *sleep_register, *reset_register;

void power_setup(void)
{
    if (acpi.sleep_register)
        sleep_register = region_device(acpi.sleep_register, 1);
    if (acpi.reset_register && acpi.reset_space == 0)
        reset_register = region_device(acpi.reset_register, 1);
}

void power_off(unsigned status)
{
    irq_disable();
    console_drain();
    if (status)
        outl(DEBUG_EXIT_PORT, status > 127 ? 127 : status);
    if (sleep_register)
        *sleep_register = (uint8_t)(1 << 5 | acpi.sleep_type << 2);
    if (acpi.pm1a_port)
        outw((uint16_t)acpi.pm1a_port, (uint16_t)(SLEEP_ENABLE | acpi.sleep_type << 10));
    else if (!sleep_register)
        outw(QEMU_POWEROFF_PORT, SLEEP_ENABLE);
    for (unsigned i = 0; i < 1000000; i++)
        cpu_pause(); /* it may take a moment */
    power_reboot();  /* a machine without ACPI: QEMU ends at a reset, if asked to */
}

void power_reboot(void)
{
    irq_disable();
    if (reset_register)
        *reset_register = acpi.reset_value;
    else if (acpi.reset_register && acpi.reset_space == 1)
        outb((uint16_t)acpi.reset_register, acpi.reset_value);
    outb(0x64, 0xfe); /* the keyboard controller's reset line */
    const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; int3" : : "m"(none)); /* a triple fault */
    halt();
}
