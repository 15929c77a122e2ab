/*
 * Time: the processor's counter (TSC), whose frequency comes from the hypervisor (kvmclock), from
 * CPUID leaf 15h, or from counting it against a timer of known frequency.
 */
#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

extern uint64_t boot_tsc;

/* ns = (tsc - boot_tsc) * mult >> 32. Written once, before other processors run. */
static uint64_t mult;
static uint64_t hz;
static uint64_t wall_start; /* wall time at base_now_ns() == 0 */
static const char *source = "none";

uint64_t clock_of_tsc(uint64_t tsc)
{
    return (uint64_t)(((unsigned __int128)(tsc - boot_tsc) * mult) >> 32);
}

uint64_t base_now_ns(void)
{
    return clock_of_tsc(rdtsc());
}

uint64_t clock_to_tsc(uint64_t ns)
{
    return boot_tsc + (uint64_t)((unsigned __int128)ns * hz / 1000000000);
}

uint64_t clock_tsc_hz(void)
{
    return hz;
}

const char *clock_source(void)
{
    return source;
}

uint64_t base_wall_ns(void)
{
    return wall_start + base_now_ns();
}

static void set_hz(uint64_t value, const char *from)
{
    hz = value;
    mult = (uint64_t)(((unsigned __int128)1000000000 << 32) / value);
    source = from;
}

/* KVM (Documentation/virt/kvm/x86/msr.rst of Linux): a structure with the scale of the TSC. */
static bool from_kvm(void)
{
    static struct {
        uint32_t version, pad;
        uint64_t tsc, system;
        uint32_t mul;
        int8_t shift;
        uint8_t flags, pad2[2];
    } volatile info __attribute__((aligned(64)));
    enum { MSR_SYSTEM_TIME = 0x4b564d01, FEATURE_CLOCKSOURCE2 = 1 << 3 };
    const char *h = cpu_features.hypervisor;
    if (h[0] != 'K' || h[1] != 'V' || h[2] != 'M' ||
        !(cpuid(0x40000001, 0).a & FEATURE_CLOCKSOURCE2))
        return false;
    wrmsr(MSR_SYSTEM_TIME, virt_to_phys((const void *)(uintptr_t)&info) | 1);
    if (!info.mul)
        return false;
    /* system ns = (tsc << shift) * mul >> 32 */
    unsigned __int128 top = (unsigned __int128)1000000000 << 32;
    uint64_t value = (uint64_t)(top / info.mul);
    value = info.shift < 0 ? value << -info.shift : value >> info.shift;
    wrmsr(MSR_SYSTEM_TIME, 0);
    set_hz(value, "kvmclock");
    return true;
}

static bool from_cpuid(void)
{
    if (cpuid(0, 0).a < 0x15)
        return false;
    struct cpuid r = cpuid(0x15, 0);
    if (!r.a || !r.b || !r.c)
        return false;
    set_hz((uint64_t)r.c * r.b / r.a, "CPUID 15h");
    return true;
}

/* ---- counting against a known timer ----------------------------------------------------- */

enum { PIT_HZ = 1193182, PM_TIMER_HZ = 3579545 };

static uint32_t pm_timer(void)
{
    return inl((uint16_t)acpi.pm_timer_port) & 0xffffff; /* some have 24 bits */
}

static bool pm_timer_runs(void)
{
    if (!acpi.pm_timer_port)
        return false;
    const uint32_t first = pm_timer();
    for (unsigned i = 0; i < 1000; i++)
        if (pm_timer() != first)
            return true;
    return false;
}

/* Channel 2 of the PIT counts down without an interrupt. */
static void pit_start(void)
{
    outb(0x61, (uint8_t)((inb(0x61) & ~2) | 1));
    outb(0x43, 0xb4);
    outb(0x42, 0xff);
    outb(0x42, 0xff);
}

static uint32_t pit_elapsed(void)
{
    outb(0x43, 0x80);
    uint32_t low = inb(0x42);
    return 0xffff - (low | (uint32_t)inb(0x42) << 8);
}

/* Count for some milliseconds; how long it took, by the known timer. */
static uint64_t count(bool pm, uint64_t *tsc)
{
    const uint32_t rate = pm ? PM_TIMER_HZ : PIT_HZ;
    const uint32_t wanted = rate / 500; /* 2 ms */
    if (!pm)
        pit_start();
    const uint32_t first = pm ? pm_timer() : pit_elapsed();
    const uint64_t tsc_first = rdtsc();
    uint32_t ticks = 0;
    for (unsigned i = 0; ticks < wanted && i < 10000000; i++)
        ticks = pm ? (pm_timer() - first) & 0xffffff : pit_elapsed() - first;
    *tsc = rdtsc() - tsc_first;
    return ticks >= wanted ? ticks * UINT64_C(1000000000) / rate : 0;
}

/* ---- the date --------------------------------------------------------------------------- */

static unsigned cmos(uint8_t reg, bool binary)
{
    outb(0x70, reg);
    unsigned v = inb(0x71);
    return binary ? v : (v >> 4) * 10 + (v & 15);
}

static uint64_t read_date(void)
{
    outb(0x70, 0x0b);
    const bool binary = inb(0x71) & 4;
    uint64_t found = 0, again = 1;
    for (unsigned i = 0; found != again && i < 10; i++) {
        again = found;
        unsigned y = cmos(9, binary) + 2000, m = cmos(8, binary), d = cmos(7, binary);
        /* Days since 1970: years that start in March. */
        const unsigned shifted = (m + 9) % 12, year = y - (m < 3);
        const uint64_t days = year * UINT64_C(365) + year / 4 - year / 100 + year / 400 +
                              (shifted * 306 + 5) / 10 + d - 1 - 719468;
        found = ((days * 24 + cmos(4, binary)) * 60 + cmos(2, binary)) * 60 + cmos(0, binary);
    }
    return found;
}

void clock_setup(void)
{
    const bool known = from_kvm() || from_cpuid();
    const bool pm = pm_timer_runs();
    if (!known || !cpu_features.tsc_deadline) {
        uint64_t tsc = 0;
        apic_timer_count_start();
        uint64_t ns = count(pm, &tsc);
        const uint32_t counted = apic_timer_count();
        if (ns && !known)
            set_hz((uint64_t)((unsigned __int128)tsc * 1000000000 / ns),
                   pm ? "TSC against the ACPI timer" : "TSC against the PIT");
        if (!hz)
            panic("no clock: neither kvmclock nor CPUID 15h nor a timer to count against");
        apic_calibrate(known ? clock_of_tsc(boot_tsc + tsc) : ns, counted);
    }
    wall_start = read_date() * UINT64_C(1000000000) - base_now_ns();
}
