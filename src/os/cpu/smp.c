/* The other processors: woken by INIT and STARTUP (Intel SDM volume 3, 9.4), each into start_ap().
 */
#include <string.h>

#include "os/memory/memory.h"
#include "os/os.h"
#include "os/thread/thread.h"

extern char boot_ap_code[], boot_ap_code_end[], boot_ap_args[];
extern uint64_t boot_ap_root, boot_ap_stack, boot_ap_cpu;
void start_ap(struct cpu *cpu);

enum { AP_PAGE = 8, STACK_SIZE = 16384 };

/* On the new processor, on the stack of its idle thread. */
void start_ap(struct cpu *cpu)
{
    cpu_setup(cpu);
    apic_setup_cpu();
    thread_setup_cpu(cpu);
    __atomic_store_n(&cpu->online, true, __ATOMIC_RELEASE);
    thread_idle();
}

static bool wait_online(const struct cpu *cpu, uint64_t ns)
{
    const uint64_t end = base_now_ns() + ns;
    while (!__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE) && base_now_ns() < end)
        cpu_pause();
    return __atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE);
}

static bool start_cpu(struct cpu *cpu)
{
    boot_ap_root = table_root();
    boot_ap_stack = thread_idle_stack(cpu);
    boot_ap_cpu = (uint64_t)(uintptr_t)cpu;
    apic_send_init(cpu->apic_id);
    base_sleep_until_ns(base_now_ns() + 200000);
    for (unsigned i = 0; i < 2; i++) {
        apic_send_startup(cpu->apic_id, AP_PAGE);
        if (wait_online(cpu, i ? 500000000 : 20000000))
            return true;
    }
    return false;
}

void smp_setup(void)
{
    char *code = phys_to_virt(AP_PAGE * PAGE_SIZE);
    memcpy(code, boot_ap_code, (size_t)(boot_ap_code_end - boot_ap_code));
    const uint64_t stack = AP_PAGE * PAGE_SIZE + PAGE_SIZE;
    memcpy(code + (boot_ap_args - boot_ap_code), &stack, sizeof(stack));
    const uint32_t self = apic_id();
    unsigned index = 1;
    for (unsigned i = 0; i < acpi.cpus && index < CPU_MAX; i++) {
        if (acpi.apic_ids[i] == self)
            continue;
        struct cpu *cpu = cpu_make(index, acpi.apic_ids[i]);
        if (!cpu || thread_make_idle(cpu) < 0) {
            base_log(BASE_LOG_ERROR, "no memory for processor %u", index);
            return;
        }
        cpus[index] = cpu;
        if (!start_cpu(cpu)) {
            base_log(BASE_LOG_ERROR, "processor %u (APIC id %u) does not start", index,
                     cpu->apic_id);
            cpus[index] = NULL; /* it may still come: its struct stays */
            continue;
        }
        cpu_count = ++index;
    }
}

void smp_stop_others(void)
{
    for (unsigned i = 0; i < CPU_MAX; i++)
        if (cpus[i] && cpus[i] != cpu_this() && cpus[i]->online)
            apic_send(cpus[i]->apic_id, VECTOR_STOP);
}
