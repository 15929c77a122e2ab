/* From the first C function to the shell, in the order in which rooms need each other. */
#include <string.h>

#include "base/util.h"
#include "os/boot/pvh.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/shell/shell.h"
#include "os/thread/thread.h"
#include "os/virtio/virtio.h"

extern char image_start[], image_end[];

const char *boot_command_line = "";
const void *boot_initrd;
size_t boot_initrd_size;
uint64_t boot_ns;

enum { RANGES_MAX = 64, LOW_MEMORY = 0x100000, COMMAND_LINE_MAX = 4096 };

__attribute__((noreturn)) void start(uint64_t info_phys);

static uint64_t memory_end;

/* Boot's tables reach 4 GiB: what lies higher cannot be looked at yet, and is not ours to trust. */
static const void *reach(uint64_t phys, uint64_t size, const char *what)
{
    if (!range_ok(phys, size, UINT64_C(4) << 30))
        panic("the boot loader's %s is at %lx", what, phys);
    return phys_to_virt(phys);
}

static void keep(struct memory_range *kept, unsigned *n, uint64_t start, uint64_t size)
{
    kept[(*n)++] = (struct memory_range){start, start + size};
}

static void take_memory(const struct pvh_start_info *info, uint64_t info_phys)
{
    struct memory_range ranges[RANGES_MAX], kept[16];
    unsigned n = 0, n_kept = 0;
    const struct pvh_memory *map =
        reach(info->memory_map, info->memory_count * sizeof(*map), "memory map");
    for (unsigned i = 0; i < info->memory_count && n < RANGES_MAX; i++) {
        const uint64_t end = map[i].start + map[i].size;
        if (map[i].type != 1 || end <= LOW_MEMORY || end < map[i].start)
            continue;
        ranges[n++] = (struct memory_range){max_u64(map[i].start, LOW_MEMORY), end};
        memory_end = max_u64(memory_end, end);
    }
    keep(kept, &n_kept, virt_to_phys(image_start), (uint64_t)(image_end - image_start));
    keep(kept, &n_kept, info_phys, sizeof(*info));
    keep(kept, &n_kept, info->memory_map, info->memory_count * sizeof(*map));
    if (info->command_line) {
        boot_command_line = reach(info->command_line, COMMAND_LINE_MAX, "command line");
        if (!memchr(boot_command_line, '\0', COMMAND_LINE_MAX))
            boot_command_line = "";
        keep(kept, &n_kept, info->command_line, strlen(boot_command_line) + 1);
    }
    if (info->module_count) {
        const struct pvh_module *modules =
            reach(info->modules, info->module_count * sizeof(*modules), "list of modules");
        boot_initrd = reach(modules[0].start, modules[0].size, "initramfs");
        boot_initrd_size = modules[0].size;
        keep(kept, &n_kept, info->modules, info->module_count * sizeof(*modules));
        keep(kept, &n_kept, modules[0].start, modules[0].size);
    }
    page_setup(ranges, n, kept, n_kept);
}

/* The first thread with a stack of its own. */
static void main_thread(void *arg)
{
    (void)arg;
    smp_setup();
    struct memory_stats stats;
    memory_stats_get(&stats);
    print("%u processor%s, %lu MB of memory, clock: %s, random: %s\n", cpu_count,
          cpu_count == 1 ? "" : "s", stats.total >> 20, clock_source(), random_source());
    virtio_setup();
    files_setup();
    shell_main();
    power_off(0);
}

void start(uint64_t info_phys)
{
    console_setup();
    const struct pvh_start_info *info = reach(info_phys, sizeof(*info), "start info");
    if (info->magic != PVH_MAGIC || info->version < 1)
        panic("not started by a PVH boot loader that tells of memory");
    cpu_detect();
    random_setup();
    take_memory(info, info_phys);
    acpi_setup(info->rsdp);
    table_setup(max_u64(memory_end, UINT64_C(4) << 30));
    interrupt_setup();
    cpus[0] = cpu_make(0, 0);
    if (!cpus[0])
        panic("no memory for the first processor");
    cpu_setup(cpus[0]);
    apic_setup();
    cpus[0]->apic_id = apic_id();
    power_setup();
    clock_setup();
    thread_setup();
    print("Ashlar unikernel\n");
    console_setup_interrupt();
    struct thread *main = thread_make("main", main_thread, NULL, 0);
    if (!main)
        panic("no memory for the first thread");
    thread_start(main);
    thread_idle();
}
