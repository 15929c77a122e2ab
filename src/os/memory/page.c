/*
 * Pages: a buddy allocator. Free runs of each order hang in a list; a freed run joins its buddy
 * (the run whose number differs in one bit) as long as that is free too.
 */
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

#define NONE UINT32_MAX

static struct {
    struct spinlock lock;
    struct page *pages;
    uint32_t count;
    uint32_t free[PAGE_MAX_ORDER + 1];
    uint64_t total_pages, free_pages;
} memory;

struct page *page_at(uint32_t number)
{
    return &memory.pages[number];
}

struct page *page_of(const void *address)
{
    return &memory.pages[((uint64_t)(uintptr_t)address - DIRECT_BASE) / PAGE_SIZE];
}

void *page_address(const struct page *page)
{
    return phys_to_virt((uint64_t)(page - memory.pages) * PAGE_SIZE);
}

static void list_add(uint32_t number, unsigned order)
{
    struct page *page = &memory.pages[number];
    page->use = PAGE_FREE;
    page->order = (uint8_t)order;
    page->prev = NONE;
    page->next = memory.free[order];
    if (page->next != NONE)
        memory.pages[page->next].prev = number;
    memory.free[order] = number;
}

static void list_remove(uint32_t number)
{
    struct page *page = &memory.pages[number];
    if (page->prev != NONE)
        memory.pages[page->prev].next = page->next;
    else
        memory.free[page->order] = page->next;
    if (page->next != NONE)
        memory.pages[page->next].prev = page->prev;
    page->use = PAGE_RESERVED;
}

static void give(uint32_t number, unsigned order)
{
    memory.free_pages += UINT64_C(1) << order;
    while (order < PAGE_MAX_ORDER) {
        uint32_t buddy = number ^ 1u << order;
        if (buddy >= memory.count || memory.pages[buddy].use != PAGE_FREE ||
            memory.pages[buddy].order != order)
            break;
        list_remove(buddy);
        number &= ~(1u << order);
        order++;
    }
    list_add(number, order);
}

void *page_alloc(unsigned order)
{
    if (order > PAGE_MAX_ORDER)
        return NULL;
    bool irq = spin_lock_irq(&memory.lock);
    unsigned have = order;
    while (have <= PAGE_MAX_ORDER && memory.free[have] == NONE)
        have++;
    void *found = NULL;
    if (have <= PAGE_MAX_ORDER) {
        uint32_t number = memory.free[have];
        list_remove(number);
        while (have > order) {
            have--;
            list_add(number + (1u << have), have);
        }
        struct page *page = &memory.pages[number];
        page->use = PAGE_RUN;
        page->order = (uint8_t)order;
        memory.free_pages -= UINT64_C(1) << order;
        found = page_address(page);
    }
    spin_unlock_irq(&memory.lock, irq);
    return found;
}

void page_free(void *address)
{
    struct page *page = page_of(address);
    if (page->use != PAGE_RUN)
        panic("page_free(%p): not an allocated run", address);
    bool irq = spin_lock_irq(&memory.lock);
    page->use = PAGE_RESERVED;
    give((uint32_t)(page - memory.pages), page->order);
    spin_unlock_irq(&memory.lock, irq);
}

void memory_stats_get(struct memory_stats *stats)
{
    bool irq = spin_lock_irq(&memory.lock);
    stats->total = memory.total_pages * PAGE_SIZE;
    stats->free = memory.free_pages * PAGE_SIZE;
    spin_unlock_irq(&memory.lock, irq);
}

/* ---- set-up ----------------------------------------------------------------------------- */

/* The first part of a range that nothing keeps; false if there is none. */
static bool next_free(struct memory_range *range, const struct memory_range *kept, unsigned n,
                      struct memory_range *part)
{
    part->start = range->start;
    for (bool again = true; again;) {
        again = false;
        for (unsigned i = 0; i < n; i++)
            if (part->start >= kept[i].start && part->start < kept[i].end) {
                part->start = kept[i].end;
                again = true;
            }
    }
    part->end = range->end;
    for (unsigned i = 0; i < n; i++)
        if (kept[i].start > part->start && kept[i].start < part->end)
            part->end = kept[i].start;
    range->start = part->end;
    return part->start < part->end;
}

void page_setup(const struct memory_range *ranges, unsigned n, const struct memory_range *kept,
                unsigned n_kept)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < n; i++)
        end = max_u64(end, ranges[i].end);
    memory.count = (uint32_t)(end / PAGE_SIZE);
    for (unsigned i = 0; i <= PAGE_MAX_ORDER; i++)
        memory.free[i] = NONE;
    /* The array of pages lies in the first gap that holds it; boot's tables reach 4 GiB. */
    const uint64_t size = round_up(memory.count * sizeof(struct page), PAGE_SIZE);
    for (unsigned i = 0; i < n && !memory.pages; i++) {
        struct memory_range range = ranges[i], part;
        while (range.start < range.end)
            if (next_free(&range, kept, n_kept, &part)) {
                uint64_t start = round_up(part.start, PAGE_SIZE);
                if (start + size <= part.end && start + size <= UINT64_C(4) << 30) {
                    memory.pages = phys_to_virt(start);
                    break;
                }
            }
    }
    if (!memory.pages)
        panic("no memory for the list of pages");
    memset(memory.pages, 0, size);
    struct memory_range all[32];
    if (n_kept + 1 > ARRAY_SIZE(all))
        panic("too many kept ranges");
    memcpy(all, kept, n_kept * sizeof(all[0]));
    all[n_kept].start = (uint64_t)(uintptr_t)memory.pages - DIRECT_BASE;
    all[n_kept].end = all[n_kept].start + size;
    /* What is given last is taken first: low memory, which boot's tables reach. */
    for (unsigned i = n; i--;) {
        struct memory_range range = ranges[i], part;
        while (range.start < range.end) {
            if (!next_free(&range, all, n_kept + 1, &part))
                continue;
            uint64_t page = round_up(part.start, PAGE_SIZE) / PAGE_SIZE;
            const uint64_t last = part.end / PAGE_SIZE;
            while (page < last) {
                unsigned order = page ? (unsigned)__builtin_ctzll(page) : PAGE_MAX_ORDER;
                if (order > PAGE_MAX_ORDER)
                    order = PAGE_MAX_ORDER;
                while (page + (UINT64_C(1) << order) > last)
                    order--;
                give((uint32_t)page, order);
                page += UINT64_C(1) << order;
            }
        }
    }
    memory.total_pages = memory.free_pages;
}
