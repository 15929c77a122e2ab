/*
 * Local APIC (Intel SDM volume 3, chapter 11): as MSRs where there is x2APIC, else as memory. And
 * the I/O APICs, for the few devices that have lines instead of messages.
 */
#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

enum {
    REG_ID = 0x02,
    REG_TASK_PRIORITY = 0x08,
    REG_END = 0x0b,
    REG_SPURIOUS = 0x0f,
    REG_COMMAND = 0x30,
    REG_COMMAND_HIGH = 0x31,
    REG_TIMER = 0x32,
    REG_TIMER_START = 0x38,
    REG_TIMER_NOW = 0x39,
    REG_TIMER_DIVIDE = 0x3e,
    MSR_APIC_BASE = 0x1b,
    MSR_TSC_DEADLINE = 0x6e0,
    TIMER_MASKED = 1 << 16,
    TIMER_DEADLINE = 2 << 17,
};

static volatile uint32_t *registers; /* NULL: x2APIC */
static uint64_t timer_hz;
static bool deadline;

static volatile uint32_t *io_apics[4];
static unsigned io_lines[4];
static struct spinlock io_lock;

static uint32_t reg_read(unsigned reg)
{
    return registers ? registers[reg * 4] : (uint32_t)rdmsr(0x800 + reg);
}

static void reg_write(unsigned reg, uint32_t value)
{
    if (registers)
        registers[reg * 4] = value;
    else
        wrmsr(0x800 + reg, value);
}

uint32_t apic_id(void)
{
    return registers ? reg_read(REG_ID) >> 24 : reg_read(REG_ID);
}

static void command(uint32_t id, uint32_t what)
{
    if (!registers) {
        __asm__ volatile("mfence" : : : "memory");
        wrmsr(0x800 + REG_COMMAND, (uint64_t)id << 32 | what);
        return;
    }
    bool irq = irq_save();
    reg_write(REG_COMMAND_HIGH, id << 24);
    reg_write(REG_COMMAND, what);
    while (reg_read(REG_COMMAND) & 1 << 12)
        cpu_pause();
    irq_restore(irq);
}

void apic_send(uint32_t id, unsigned vector)
{
    command(id, 0x4000 | vector);
}

void apic_send_init(uint32_t id)
{
    command(id, 0x4500);
}

void apic_send_startup(uint32_t id, unsigned page)
{
    command(id, 0x4600 | page);
}

void apic_end(void)
{
    reg_write(REG_END, 0);
}

void apic_setup_cpu(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE) | 1 << 11;
    wrmsr(MSR_APIC_BASE, base);
    if (!registers)
        wrmsr(MSR_APIC_BASE, base | 1 << 10);
    reg_write(REG_TASK_PRIORITY, 0);
    reg_write(REG_SPURIOUS, 0x100 | VECTOR_SPURIOUS);
    reg_write(REG_TIMER_DIVIDE, 0xb); /* by 1 */
    reg_write(REG_TIMER, (deadline ? TIMER_DEADLINE : 0) | VECTOR_TIMER);
}

static void io_write(volatile uint32_t *io, uint32_t reg, uint32_t value)
{
    io[0] = reg;
    io[4] = value;
}

static uint32_t io_read(volatile uint32_t *io, uint32_t reg)
{
    io[0] = reg;
    return io[4];
}

void apic_setup(void)
{
    deadline = cpu_features.tsc_deadline;
    if (!cpu_features.x2apic) {
        registers = region_device(acpi.local_apic, PAGE_SIZE);
        if (!registers)
            panic("no address for the local APIC");
    }
    outb(0x21, 0xff); /* the old controllers are silent */
    outb(0xa1, 0xff);
    apic_setup_cpu();
    for (unsigned i = 0; i < acpi.io_apic_count; i++) {
        io_apics[i] = region_device(acpi.io_apics[i].address, PAGE_SIZE);
        if (!io_apics[i])
            panic("no address for the I/O APIC");
        io_lines[i] = (io_read(io_apics[i], 1) >> 16 & 0xff) + 1;
    }
}

bool apic_route(uint32_t line, unsigned vector, bool level)
{
    for (unsigned i = 0; i < acpi.override_count; i++)
        if (acpi.overrides[i].irq == line) {
            line = acpi.overrides[i].line;
            break;
        }
    for (unsigned i = 0; i < acpi.io_apic_count; i++) {
        const uint32_t first = acpi.io_apics[i].first_line;
        if (line < first || line >= first + io_lines[i])
            continue;
        bool irq = spin_lock_irq(&io_lock);
        io_write(io_apics[i], 0x11 + 2 * (line - first), apic_id() << 24);
        io_write(io_apics[i], 0x10 + 2 * (line - first), vector | (level ? 1u << 15 : 0));
        spin_unlock_irq(&io_lock, irq);
        return true;
    }
    return false;
}

/* ---- timer ------------------------------------------------------------------------------ */

void apic_timer_count_start(void)
{
    reg_write(REG_TIMER, TIMER_MASKED | VECTOR_TIMER);
    reg_write(REG_TIMER_START, UINT32_MAX);
}

uint32_t apic_timer_count(void)
{
    return UINT32_MAX - reg_read(REG_TIMER_NOW);
}

void apic_calibrate(uint64_t elapsed_ns, uint32_t counted)
{
    timer_hz = counted * UINT64_C(1000000000) / max_u64(elapsed_ns, 1);
    reg_write(REG_TIMER_START, 0);
    reg_write(REG_TIMER, (deadline ? TIMER_DEADLINE : 0) | VECTOR_TIMER);
}

void apic_timer_set(uint64_t when)
{
    if (deadline) {
        wrmsr(MSR_TSC_DEADLINE, when == UINT64_MAX ? 0 : max_u64(clock_to_tsc(when), 1));
        return;
    }
    uint64_t count = 0;
    if (when != UINT64_MAX) {
        const uint64_t now = base_now_ns();
        const uint64_t wait = when > now ? min_u64(when - now, UINT64_C(1000000000)) : 0;
        count = min_u64(max_u64(wait * timer_hz / 1000000000, 1), UINT32_MAX);
    }
    reg_write(REG_TIMER_START, (uint32_t)count);
}
