/*
 * Objects: base_alloc() and its kin. Sizes up to 2 KiB come from slabs: runs of pages cut into
 * objects of one power of two, so that each is aligned to its size. Larger ones are runs of pages.
 */
#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"

enum {
    CLASS_MIN_BITS = 4,  /* 16 bytes */
    CLASS_MAX_BITS = 11, /* 2 KiB */
    CLASSES = CLASS_MAX_BITS - CLASS_MIN_BITS + 1,
    SLAB_ORDER = 2, /* 16 KiB */
    SLAB_SIZE = 4096 << SLAB_ORDER,
};

/* Slabs of a class that have a free object, first in the list; full ones are in no list. */
static struct {
    struct spinlock lock;
    struct page *partial;
} classes[CLASSES];

static uint32_t number_of(const struct page *page)
{
    return (uint32_t)(page - page_at(0));
}

static void slab_link(unsigned c, struct page *slab)
{
    slab->prev = UINT32_MAX;
    slab->next = classes[c].partial ? number_of(classes[c].partial) : UINT32_MAX;
    if (classes[c].partial)
        classes[c].partial->prev = number_of(slab);
    classes[c].partial = slab;
}

static void slab_unlink(unsigned c, const struct page *slab)
{
    struct page *next = slab->next == UINT32_MAX ? NULL : page_at(slab->next);
    if (slab->prev == UINT32_MAX)
        classes[c].partial = next;
    else
        page_at(slab->prev)->next = slab->next;
    if (next)
        next->prev = slab->prev;
}

/* All pages of a slab tell how far before them its first is, in `order`. */
static struct page *slab_make(unsigned c)
{
    char *memory = page_alloc(SLAB_ORDER);
    if (!memory)
        return NULL;
    const size_t size = (size_t)1 << (c + CLASS_MIN_BITS);
    struct page *slab = page_of(memory);
    for (unsigned i = 0; i < 1u << SLAB_ORDER; i++) {
        slab[i].use = PAGE_SLAB;
        slab[i].order = (uint8_t)i;
    }
    slab->objects = 0;
    slab->free = NULL;
    for (size_t at = SLAB_SIZE; at; at -= size) {
        void **object = (void **)(void *)(memory + at - size);
        *object = slab->free;
        slab->free = object;
    }
    return slab;
}

static void slab_release(struct page *slab)
{
    for (unsigned i = 1; i < 1u << SLAB_ORDER; i++)
        slab[i].use = PAGE_RESERVED;
    slab->use = PAGE_RUN;
    slab->order = SLAB_ORDER;
    page_free(page_address(slab));
}

/* The class of a slab is kept in its second page. */
static void *object_alloc(unsigned c)
{
    bool irq = spin_lock_irq(&classes[c].lock);
    struct page *slab = classes[c].partial;
    if (!slab) {
        slab = slab_make(c);
        if (!slab) {
            spin_unlock_irq(&classes[c].lock, irq);
            return NULL;
        }
        slab[1].objects = (uint16_t)c;
        slab_link(c, slab);
    }
    void **object = slab->free;
    slab->free = *object;
    slab->objects++;
    if (!slab->free)
        slab_unlink(c, slab);
    spin_unlock_irq(&classes[c].lock, irq);
    return object;
}

static void object_free(struct page *slab, void *memory)
{
    const unsigned c = slab[1].objects;
    bool irq = spin_lock_irq(&classes[c].lock);
    if (!slab->free)
        slab_link(c, slab);
    void **object = memory;
    *object = slab->free;
    slab->free = object;
    bool empty = --slab->objects == 0;
    if (empty)
        slab_unlink(c, slab);
    spin_unlock_irq(&classes[c].lock, irq);
    if (empty)
        slab_release(slab);
}

void *base_alloc_aligned(size_t align, size_t size)
{
    size = max_u64(max_u64(size, align), 16);
    if (size > (PAGE_SIZE << PAGE_MAX_ORDER))
        return NULL;
    const unsigned bits = 64 - (unsigned)__builtin_clzll(size - 1);
    void *memory = bits <= CLASS_MAX_BITS
                       ? object_alloc(bits < CLASS_MIN_BITS ? 0 : bits - CLASS_MIN_BITS)
                       : page_alloc(bits <= 12 ? 0 : bits - 12);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

void *base_alloc(size_t size)
{
    return base_alloc_aligned(16, size);
}

void *base_alloc_array(size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : base_alloc(bytes);
}

void base_free(void *memory)
{
    if (!memory)
        return;
    struct page *page = page_of(memory);
    if (page->use == PAGE_SLAB)
        object_free(page - page->order, memory);
    else
        page_free(memory);
}
