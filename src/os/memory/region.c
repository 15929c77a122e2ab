/*
 * Regions: kernel addresses between REGION_BASE and REGION_END, handed out first-fit. A page of
 * nothing lies between any two.
 */
#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

struct region {
    struct region *next; /* by address */
    uint64_t start, size;
    enum region_kind kind;
};

static struct region *regions;
static struct spinlock region_lock; /* guards the list */

static struct region *region_take(uint64_t size, enum region_kind kind)
{
    struct region *r = base_alloc(sizeof(*r));
    if (!r)
        return NULL;
    bool irq = spin_lock_irq(&region_lock);
    struct region **at = &regions;
    uint64_t start = REGION_BASE + PAGE_SIZE;
    while (*at && (*at)->start - PAGE_SIZE < start + size) {
        start = (*at)->start + (*at)->size + PAGE_SIZE;
        at = &(*at)->next;
    }
    const bool fits = size < REGION_END - start;
    if (fits) {
        *r = (struct region){*at, start, size, kind};
        *at = r;
    }
    spin_unlock_irq(&region_lock, irq);
    if (fits)
        return r;
    base_free(r);
    return NULL;
}

static void unmap_pages(uint64_t start, uint64_t size)
{
    /* In batches: other processors must have forgotten a page before it is used again. */
    void *pages[64];
    for (uint64_t at = start; at < start + size;) {
        unsigned n = 0;
        for (; at < start + size && n < ARRAY_SIZE(pages); at += PAGE_SIZE) {
            uint64_t phys = table_unmap(at);
            if (phys != UINT64_MAX)
                pages[n++] = phys_to_virt(phys);
        }
        if (n)
            table_flush();
        while (n)
            page_free(pages[--n]);
    }
}

static void region_release(uint64_t start)
{
    bool irq = spin_lock_irq(&region_lock);
    struct region **at = &regions;
    while (*at && (*at)->start != start)
        at = &(*at)->next;
    struct region *r = *at;
    spin_unlock_irq(&region_lock, irq);
    if (!r)
        panic("no region starts at %p", (void *)(uintptr_t)start);
    unmap_pages(r->start, r->size);
    irq = spin_lock_irq(&region_lock);
    for (at = &regions; *at != r;)
        at = &(*at)->next;
    *at = r->next;
    spin_unlock_irq(&region_lock, irq);
    base_free(r);
}

static int map_new_page(uint64_t address)
{
    void *page = page_alloc(0);
    if (!page)
        return -ENOMEM;
    memset(page, 0, PAGE_SIZE);
    int r = table_map(address, virt_to_phys(page), MAP_WRITE | MAP_NOEXEC);
    if (r < 0)
        page_free(page);
    return r;
}

/* A region with memory behind each of its pages. */
static void *region_filled(uint64_t size, enum region_kind kind)
{
    struct region *r = region_take(size, kind);
    if (!r)
        return NULL;
    for (uint64_t at = r->start; at < r->start + size; at += PAGE_SIZE)
        if (map_new_page(at) < 0) {
            region_release(r->start);
            return NULL;
        }
    return (void *)(uintptr_t)r->start;
}

void *region_stack(size_t size)
{
    return region_filled(size, REGION_STACK);
}

void region_stack_free(void *stack, size_t size)
{
    (void)size;
    region_release((uint64_t)(uintptr_t)stack);
}

volatile void *region_device(uint64_t phys, uint64_t size)
{
    const uint64_t first = round_down(phys, PAGE_SIZE);
    const uint64_t end = round_up(phys + size, PAGE_SIZE);
    struct region *r = region_take(end - first, REGION_DEVICE);
    if (!r)
        return NULL;
    for (uint64_t at = 0; at < end - first; at += PAGE_SIZE)
        if (table_map(r->start + at, first + at, MAP_WRITE | MAP_DEVICE | MAP_NOEXEC) < 0)
            return NULL;
    return (volatile void *)(uintptr_t)(r->start + (phys - first));
}

static const struct region *region_of(uint64_t address)
{
    const struct region *r = regions;
    while (r && address >= r->start + r->size)
        r = r->next;
    return r; /* the one that holds it or comes after */
}

bool region_fault(uint64_t address)
{
    if (address < REGION_BASE || address >= REGION_END)
        return false;
    bool irq = spin_lock_irq(&region_lock);
    const struct region *r = region_of(address);
    const bool lazy = r && address >= r->start && r->kind == REGION_LAZY;
    bool done = false;
    if (lazy) {
        const uint64_t page = round_down(address, PAGE_SIZE);
        /* Another processor may have been first. */
        done = table_find(page, NULL) != UINT64_MAX || map_new_page(page) == 0;
    }
    spin_unlock_irq(&region_lock, irq);
    return done;
}

const char *region_describe(uint64_t address)
{
    if (address < REGION_BASE || address >= REGION_END)
        return NULL;
    const struct region *r = region_of(address);
    if (r && r->kind == REGION_STACK && address < r->start && address >= r->start - PAGE_SIZE)
        return "the guard page of a stack: the stack is too small";
    if (r && r->kind == REGION_LAZY && address >= r->start)
        return "lazy memory: no page is left";
    return NULL;
}

/* ---- lazy memory: base/platform.h ------------------------------------------------------- */

void *base_reserve(uint64_t size)
{
    struct region *r = region_take(round_up(size, PAGE_SIZE), REGION_LAZY);
    return r ? (void *)(uintptr_t)r->start : NULL;
}

void base_unreserve(void *memory, uint64_t size)
{
    (void)size;
    if (memory)
        region_release((uint64_t)(uintptr_t)memory);
}

void base_reserve_discard(void *memory, uint64_t size)
{
    unmap_pages((uint64_t)(uintptr_t)memory, size);
}

/* There are only small ones. */
void base_reserve_large(void *memory, uint64_t size)
{
    (void)memory;
    (void)size;
}

/* ---- machine code made at run time: base/platform.h -------------------------------------- */

void *base_code_alloc(size_t size)
{
    return region_filled(round_up(size, PAGE_SIZE), REGION_CODE);
}

int base_code_seal(void *code, size_t size)
{
    const uint64_t start = (uint64_t)(uintptr_t)code;
    for (uint64_t at = start; at < start + size; at += PAGE_SIZE)
        table_protect(at, 0);
    table_flush();
    return 0;
}

void base_code_free(void *code, size_t size)
{
    (void)size;
    if (code)
        region_release((uint64_t)(uintptr_t)code);
}
