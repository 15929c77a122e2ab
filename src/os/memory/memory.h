/*
 * memory/memory.h: pages of memory, small objects, translations, and regions of addresses.
 *
 *   pages    (page.c)    power-of-two runs of 4 KiB pages: a buddy allocator over all memory
 *   objects  (object.c)  base_alloc(): slabs of equal objects up to 2 KiB, else pages
 *   tables   (table.c)   which address means which memory, and what may be done there
 *   regions  (region.c)  kernel addresses that are not plain memory: stacks with guard pages,
 *                        device registers, lazy memory, code made at run time
 *   user     (user.c)    the address space of a program, below USER_END
 */
#ifndef OS_MEMORY_H
#define OS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/cpu/cpu.h"

#define PAGE_SIZE UINT64_C(4096)

/* ---- pages ------------------------------------------------------------------------------ */

/* One for each page of memory. */
struct page {
    uint32_t next, prev; /* page numbers, in the free list of its order or slab list of its class */
    uint8_t use;         /* enum page_use */
    uint8_t order;       /* free or allocated as the first of 2^order pages */
    uint16_t objects;    /* slab: those in use */
    void *free;          /* slab: the first free object */
};
enum page_use {
    PAGE_RESERVED, /* not memory, or the image's, or within a run */
    PAGE_FREE,
    PAGE_RUN,
    PAGE_SLAB,
};

struct memory_range {
    uint64_t start, end; /* physical */
};
/* Take the memory of `ranges` except what `kept` covers. Both are sorted by nobody. */
void page_setup(const struct memory_range *ranges, unsigned n, const struct memory_range *kept,
                unsigned n_kept);
enum { PAGE_MAX_ORDER = 18 }; /* 1 GiB */

/* 2^order pages; NULL if there are none. Not cleared. */
void *page_alloc(unsigned order);
void page_free(void *memory);
struct page *page_of(const void *memory); /* of the direct map */
struct page *page_at(uint32_t number);
void *page_address(const struct page *page);

struct memory_stats {
    uint64_t total, free; /* bytes */
};
void memory_stats_get(struct memory_stats *stats);

static inline void *phys_to_virt(uint64_t phys)
{
    return (void *)(uintptr_t)(DIRECT_BASE + phys);
}
/* The physical address behind any kernel or program address; UINT64_MAX if nothing is there. */
uint64_t virt_to_phys(const void *memory);

/* ---- tables ----------------------------------------------------------------------------- */

enum {
    MAP_WRITE = 1 << 1,
    MAP_DEVICE = 1 << 4, /* not cached */
    MAP_LARGE = 1 << 7,  /* an entry of 2 MiB or 1 GiB (in flags found) */
};
#define MAP_PRESENT UINT64_C(1)
#define MAP_NOEXEC  (UINT64_C(1) << 63)

/* Build the kernel's own tables and load them. */
void table_setup(uint64_t memory_end);
uint64_t table_root(void); /* what cr3 holds on every processor */
int table_map(uint64_t address, uint64_t phys, uint64_t flags); /* one page; 0 or -ENOMEM */
/* Take the page at an address away; its physical address, or UINT64_MAX if none was there. The
 * caller flushes. */
uint64_t table_unmap(uint64_t address);
/* Change the rights of a page; nothing if none is there. The caller flushes. */
void table_protect(uint64_t address, uint64_t flags);
uint64_t table_find(uint64_t address, uint64_t *flags);
/* Whether there is a table of pages for the 2 MiB around an address. */
bool table_below(uint64_t address);
/* Free the tables of [start, end), which hold no more pages; both multiples of 512 GiB. */
void table_prune(uint64_t start, uint64_t end);
/* All processors forget what they knew. Not with a lock held. */
void table_flush(void);
void table_flush_local(void);

/* ---- regions ---------------------------------------------------------------------------- */

enum region_kind { REGION_STACK, REGION_DEVICE, REGION_LAZY, REGION_CODE };

/* A stack with an unmapped page below; its lowest address. */
void *region_stack(size_t size);
void region_stack_free(void *stack, size_t size);
/* Registers of a device; NULL if there is no memory. Never given back. */
volatile void *region_device(uint64_t phys, uint64_t size);
/* A page fault: true if a lazy page is there now. */
bool region_fault(uint64_t address);
/* For panics: "guard page of a stack" or NULL. */
const char *region_describe(uint64_t address);

/* ---- user: see user.h ------------------------------------------------------------------- */
bool user_fault(uint64_t address, uint64_t error);

#endif
