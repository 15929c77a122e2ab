/* What a processor can do, and its own tables: GDT, TSS with interrupt stacks, MSRs, XSAVE. */
#include "os/cpu/cpu.h"

#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "os/memory/memory.h"

struct cpu *cpus[CPU_MAX];
unsigned cpu_count = 1;
struct cpu_features cpu_features;

enum {
    CR4_OSFXSR = 1 << 9,
    CR4_FSGSBASE = 1 << 16,
    CR4_OSXSAVE = 1 << 18,
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_FMASK = 0xc0000084,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
    FXSAVE_SIZE = 512,
    STACK_SIZE = 16384,
};

/* Kernel threads have this behind %fs: the C library's functions look for a stack guard there. */
static uint64_t fs_block[16] = {0};

static void detect_strings(struct cpu_features *f)
{
    struct cpuid r = cpuid(0, 0);
    memcpy(f->vendor, &r.b, 4);
    memcpy(f->vendor + 4, &r.d, 4);
    memcpy(f->vendor + 8, &r.c, 4);
    if (cpuid(0x80000000, 0).a >= 0x80000004)
        for (unsigned i = 0; i < 3; i++) {
            r = cpuid(0x80000002 + i, 0);
            memcpy(f->brand + 16 * i, &r, 16);
        }
    if (cpuid(1, 0).c & 1u << 31) {
        r = cpuid(0x40000000, 0);
        memcpy(f->hypervisor, &r.b, 4);
        memcpy(f->hypervisor + 4, &r.c, 4);
        memcpy(f->hypervisor + 8, &r.d, 4);
    }
}

void cpu_detect(void)
{
    struct cpu_features *f = &cpu_features;
    detect_strings(f);
    uint32_t leaves = cpuid(0, 0).a;
    struct cpuid one = cpuid(1, 0);
    f->x2apic = one.c & 1u << 21;
    f->tsc_deadline = one.c & 1u << 24;
    f->xsave = one.c & 1u << 26;
    f->rdrand = one.c & 1u << 30;
    if (leaves >= 7) {
        struct cpuid seven = cpuid(7, 0);
        f->fsgsbase = seven.b & 1u << 0;
        f->rdseed = seven.b & 1u << 18;
    }
    if (cpuid(0x80000000, 0).a >= 0x80000001)
        f->pages_1g = cpuid(0x80000001, 0).d & 1u << 26;
    f->xsave_size = FXSAVE_SIZE;
    if (f->xsave && leaves >= 13) {
        struct cpuid x = cpuid(13, 0);
        f->xsave_mask = ((uint64_t)x.d << 32 | x.a) & 0xe7; /* x87, SSE, AVX, AVX-512 */
        f->xsave_size = x.c > 576 ? x.c : 576;
    } else {
        f->xsave = false;
    }
}

static uint64_t read_cr4(void)
{
    uint64_t value;
    __asm__ volatile("movq %%cr4, %0" : "=r"(value));
    return value;
}

void cpu_setup(struct cpu *cpu)
{
    extern char syscall_entry[];
    const uint64_t tss = (uint64_t)(uintptr_t)&cpu->tss;
    cpu->gdt[1] = 0x00af9b000000ffff;
    cpu->gdt[2] = 0x00af93000000ffff;
    cpu->gdt[3] = (sizeof(cpu->tss) - 1) | (tss & 0xffffff) << 16 | UINT64_C(0x89) << 40 |
                  (tss >> 24 & 0xff) << 56;
    cpu->gdt[4] = tss >> 32;
    cpu->tss.io_map = sizeof(cpu->tss);
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdt = {sizeof(cpu->gdt) - 1, (uint64_t)(uintptr_t)cpu->gdt};
    __asm__ volatile("lgdt %0\n\t"
                     "pushq $8\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "movl $16, %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "movl $24, %%eax\n\t"
                     "ltr %%ax"
                     :
                     : "m"(gdt)
                     : "rax", "memory");
    wrmsr(MSR_GS_BASE, (uint64_t)(uintptr_t)cpu);
    cpu->fs_base = 0;
    uint64_t cr4 = read_cr4() | CR4_OSFXSR;
    if (cpu_features.fsgsbase)
        cr4 |= CR4_FSGSBASE;
    if (cpu_features.xsave)
        cr4 |= CR4_OSXSAVE;
    __asm__ volatile("movq %0, %%cr4" : : "r"(cr4) : "memory");
    if (cpu_features.xsave)
        __asm__ volatile("xsetbv"
                         :
                         : "c"(0), "a"((uint32_t)cpu_features.xsave_mask),
                           "d"((uint32_t)(cpu_features.xsave_mask >> 32)));
    cpu_set_fs_base(0);
    wrmsr(MSR_STAR, UINT64_C(8) << 32);
    wrmsr(MSR_LSTAR, (uint64_t)(uintptr_t)syscall_entry);
    wrmsr(MSR_FMASK, 0x47700); /* off: trap, interrupts, direction, privilege, nested, alignment */
    interrupt_load();
}

struct cpu *cpu_make(unsigned index, uint32_t apic_id)
{
    struct cpu *cpu = base_alloc_aligned(64, sizeof(*cpu));
    if (!cpu)
        return NULL;
    cpu->self = cpu;
    cpu->index = index;
    cpu->apic_id = apic_id;
    cpu->timer_set = UINT64_MAX;
    cpu->ready.last = &cpu->ready.first;
    for (unsigned i = 0; i < 3; i++) {
        char *stack = region_stack(STACK_SIZE);
        if (!stack)
            return NULL;
        cpu->tss.ist[i] = (uint64_t)(uintptr_t)(stack + STACK_SIZE);
    }
    return cpu;
}

void cpu_set_fs_base(uint64_t base)
{
    struct cpu *cpu = cpu_this();
    if (!base)
        base = (uint64_t)(uintptr_t)fs_block;
    if (cpu->fs_base == base)
        return;
    cpu->fs_base = base;
    if (cpu_features.fsgsbase)
        __asm__ volatile("wrfsbase %0" : : "r"(base) : "memory");
    else
        wrmsr(MSR_FS_BASE, base);
}

/* ---- vector and floating-point registers ------------------------------------------------ */

void cpu_save_vectors(void *area)
{
    if (cpu_features.xsave)
        __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(-1), "d"(-1) : "memory");
    else
        __asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

void cpu_load_vectors(const void *area)
{
    if (cpu_features.xsave)
        __asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(-1), "d"(-1) : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

/* What a new program finds: all exceptions masked, 64-bit precision, everything else zero. */
void cpu_init_vectors(void *area)
{
    memset(area, 0, cpu_features.xsave_size);
    const uint16_t control = 0x37f;
    const uint32_t mxcsr = 0x1f80;
    memcpy(area, &control, 2);
    memcpy((char *)area + 24, &mxcsr, 4);
    if (cpu_features.xsave) {
        const uint64_t present = 3;
        memcpy((char *)area + 512, &present, 8);
    }
}
