/*
 * Translations: four levels of tables of 512 entries (Intel SDM volume 3, 4.5). Memory is mapped
 * once, writable and never executable, at DIRECT_BASE; the image's pages with the rights of their
 * section; nothing is writable and executable at once.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

#define ADDRESS_MASK UINT64_C(0x000ffffffffff000)
#define LARGE_2M     (UINT64_C(2) << 20)
#define LARGE_1G     (UINT64_C(1) << 30)

extern char image_start[], image_code_end[], image_constants_end[], image_end[];

static uint64_t *root;
static struct spinlock table_lock; /* guards the making and freeing of tables */
static struct spinlock flush_lock;

static unsigned index_of(uint64_t address, unsigned level)
{
    return address >> (12 + 9 * level) & 511;
}

static uint64_t *new_table(void)
{
    uint64_t *table = page_alloc(0);
    if (table)
        memset(table, 0, PAGE_SIZE);
    return table;
}

static uint64_t *entry_table(uint64_t entry)
{
    return phys_to_virt(entry & ADDRESS_MASK);
}

/* The entry for an address at a level (0: pages), making tables on the way if asked. */
static uint64_t *entry_of(uint64_t address, unsigned level, bool make)
{
    uint64_t *table = root;
    for (unsigned l = 3; l > level; l--) {
        uint64_t *entry = &table[index_of(address, l)];
        if (!(*entry & MAP_PRESENT)) {
            uint64_t *below = make ? new_table() : NULL;
            if (!below)
                return NULL;
            *entry = virt_to_phys(below) | MAP_PRESENT | MAP_WRITE;
        } else if (*entry & MAP_LARGE) {
            return NULL;
        }
        table = entry_table(*entry);
    }
    return &table[index_of(address, level)];
}

int table_map(uint64_t address, uint64_t phys, uint64_t flags)
{
    bool irq = spin_lock_irq(&table_lock);
    uint64_t *entry = entry_of(address, 0, true);
    if (entry)
        *entry = phys | flags | MAP_PRESENT;
    spin_unlock_irq(&table_lock, irq);
    return entry ? 0 : -ENOMEM;
}

uint64_t table_unmap(uint64_t address)
{
    uint64_t phys = UINT64_MAX;
    bool irq = spin_lock_irq(&table_lock);
    uint64_t *entry = entry_of(address, 0, false);
    if (entry && *entry & MAP_PRESENT) {
        phys = *entry & ADDRESS_MASK;
        *entry = 0;
    }
    spin_unlock_irq(&table_lock, irq);
    return phys;
}

void table_protect(uint64_t address, uint64_t flags)
{
    bool irq = spin_lock_irq(&table_lock);
    uint64_t *entry = entry_of(address, 0, false);
    if (entry && *entry & MAP_PRESENT)
        *entry = (*entry & ADDRESS_MASK) | flags | MAP_PRESENT;
    spin_unlock_irq(&table_lock, irq);
}

uint64_t table_find(uint64_t address, uint64_t *flags)
{
    const uint64_t *table = root;
    for (unsigned l = 3;; l--) {
        uint64_t entry = table[index_of(address, l)];
        if (!(entry & MAP_PRESENT))
            return UINT64_MAX;
        if (!l || entry & MAP_LARGE) {
            const uint64_t size = UINT64_C(1) << (12 + 9 * l);
            if (flags)
                *flags = entry & ~ADDRESS_MASK;
            return (entry & ADDRESS_MASK & ~(size - 1)) | (address & (size - 1));
        }
        table = entry_table(entry);
    }
}

bool table_below(uint64_t address)
{
    const uint64_t *entry = entry_of(address, 1, false);
    return entry && *entry & MAP_PRESENT;
}

uint64_t virt_to_phys(const void *memory)
{
    const uint64_t address = (uint64_t)(uintptr_t)memory;
    if (address >= KERNEL_BASE)
        return address - KERNEL_BASE;
    if (address >= DIRECT_BASE && address < REGION_BASE)
        return address - DIRECT_BASE;
    return table_find(address, NULL);
}

static void prune(uint64_t *table, unsigned level)
{
    for (unsigned i = 0; level && i < 512; i++)
        if (table[i] & MAP_PRESENT && !(table[i] & MAP_LARGE))
            prune(entry_table(table[i]), level - 1);
    page_free(table);
}

void table_prune(uint64_t start, uint64_t end)
{
    for (unsigned i = index_of(start, 3); i <= index_of(end - 1, 3); i++) {
        if (!root[i])
            continue;
        bool irq = spin_lock_irq(&table_lock);
        uint64_t entry = root[i];
        root[i] = 0;
        spin_unlock_irq(&table_lock, irq);
        table_flush();
        if (entry & MAP_PRESENT)
            prune(entry_table(entry), 2);
    }
}

/* ---- set-up ----------------------------------------------------------------------------- */

static void map_or_panic(uint64_t *entry, uint64_t value)
{
    if (!entry)
        panic("no memory for page tables");
    *entry = value;
}

static void map_image(const char *from, const char *to, uint64_t flags)
{
    for (uint64_t at = (uint64_t)(uintptr_t)from; at < (uint64_t)(uintptr_t)to; at += PAGE_SIZE)
        map_or_panic(entry_of(at, 0, true), (at - KERNEL_BASE) | flags | MAP_PRESENT);
}

void table_setup(uint64_t memory_end)
{
    root = new_table();
    if (!root)
        panic("no memory for page tables");
    const bool giant = cpu_features.pages_1g;
    const uint64_t step = giant ? LARGE_1G : LARGE_2M;
    for (uint64_t at = 0; at < memory_end; at += step)
        map_or_panic(entry_of(DIRECT_BASE + at, giant ? 2 : 1, true),
                     at | MAP_PRESENT | MAP_WRITE | MAP_LARGE | MAP_NOEXEC);
    map_image(image_start, image_code_end, 0);
    map_image(image_code_end, image_constants_end, MAP_NOEXEC);
    map_image(image_constants_end, image_end, MAP_WRITE | MAP_NOEXEC);
    /* Tables of regions are made now, so that all processors' stacks are in all tables. */
    for (uint64_t i = 0; i < (REGION_END - REGION_BASE) >> 39; i++)
        if (!entry_of(REGION_BASE + (i << 39), 2, true))
            panic("no memory for page tables");
    __asm__ volatile("movq %0, %%cr3" : : "r"(table_root()) : "memory");
}

uint64_t table_root(void)
{
    return virt_to_phys(root);
}

/* ---- forgetting ------------------------------------------------------------------------- */

void table_flush_local(void)
{
    uint64_t cr3;
    __asm__ volatile("movq %%cr3, %0; movq %0, %%cr3" : "=r"(cr3) : : "memory");
}

/* While waiting for others: they may wait for us, and interrupts may be off here. */
static void serve(struct cpu *self)
{
    if (__atomic_load_n(&self->flush_due, __ATOMIC_ACQUIRE)) {
        table_flush_local();
        __atomic_store_n(&self->flush_due, 0, __ATOMIC_RELEASE);
    }
    cpu_pause();
}

void table_flush(void)
{
    table_flush_local();
    if (cpu_count < 2)
        return;
    struct cpu *self = cpu_this();
    while (__atomic_exchange_n(&flush_lock.held, 1, __ATOMIC_ACQUIRE))
        serve(self);
    for (unsigned i = 0; i < CPU_MAX; i++)
        if (cpus[i] && cpus[i] != self && __atomic_load_n(&cpus[i]->online, __ATOMIC_ACQUIRE)) {
            __atomic_store_n(&cpus[i]->flush_due, 1, __ATOMIC_RELEASE);
            apic_send(cpus[i]->apic_id, VECTOR_FLUSH);
        }
    for (unsigned i = 0; i < CPU_MAX; i++)
        while (cpus[i] && cpus[i] != self && __atomic_load_n(&cpus[i]->flush_due, __ATOMIC_ACQUIRE))
            serve(self);
    spin_unlock(&flush_lock);
}
