/* The program's address space: see user.h. Areas are sorted by address and do not touch if they
 * have equal rights. */
#include "os/memory/user.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "os/memory/memory.h"
#include "os/os.h"
#include "os/thread/thread.h"

struct area {
    struct area *next;
    uint64_t start, end;
    unsigned rights;
};

static struct area *areas;
static struct spinlock lock; /* guards areas, and the pages in them */
static uint64_t page_count;

static uint64_t flags_of(unsigned rights)
{
    return (rights & USER_WRITE ? MAP_WRITE : 0) | (rights & USER_EXEC ? 0 : MAP_NOEXEC);
}

/* The first area that ends behind an address. With the lock held. */
static struct area *area_from(uint64_t address)
{
    struct area *a = areas;
    while (a && a->end <= address)
        a = a->next;
    return a;
}

/* ---- pages ------------------------------------------------------------------------------ */

/* With the lock held. Also in a page fault, so it must not sleep. */
static bool populate(const struct area *a, uint64_t page)
{
    if (table_find(page, NULL) != UINT64_MAX)
        return true;
    void *memory = page_alloc(0);
    if (!memory)
        return false;
    memset(memory, 0, PAGE_SIZE);
    if (table_map(page, virt_to_phys(memory), flags_of(a->rights)) < 0) {
        page_free(memory);
        return false;
    }
    page_count++;
    return true;
}

/* Any of these rights will do. */
static unsigned needed(uint64_t error)
{
    return error & 16 ? USER_EXEC : error & 2 ? USER_WRITE : USER_READ | USER_EXEC;
}

bool user_fault(uint64_t address, uint64_t error)
{
    if (address < USER_START || address >= USER_END || error & 1)
        return false; /* a page is there and does not allow it */
    bool irq = spin_lock_irq(&lock);
    const struct area *a = area_from(address);
    const bool ok = a && a->start <= address && a->rights & needed(error) &&
                    populate(a, round_down(address, PAGE_SIZE));
    spin_unlock_irq(&lock, irq);
    return ok;
}

bool user_access(uint64_t address, uint64_t size, unsigned rights)
{
    if (address >= USER_END && !thread_current()->program)
        return true; /* memory of the kernel, whose own thread makes the call */
    if (!range_ok(address, size, USER_END) || address < USER_START)
        return size == 0;
    const uint64_t end = address + size;
    bool irq = spin_lock_irq(&lock);
    const struct area *a = area_from(address);
    uint64_t page = round_down(address, PAGE_SIZE);
    bool ok = true;
    while (ok && page < end) {
        while (a && a->end <= page)
            a = a->next;
        ok = a && a->start <= page && (a->rights & rights) == rights && populate(a, page);
        page += PAGE_SIZE;
    }
    spin_unlock_irq(&lock, irq);
    return ok;
}

int64_t user_text(uint64_t address, size_t max)
{
    for (size_t n = 0; n < max;) {
        const uint64_t at = address + n;
        const size_t part = min_u64(max - n, PAGE_SIZE - at % PAGE_SIZE);
        if (!user_access(at, part, USER_READ))
            return -EFAULT;
        const char *end = memchr((const char *)(uintptr_t)at, '\0', part);
        if (end)
            return (int64_t)(n + (size_t)(end - (const char *)(uintptr_t)at));
        n += part;
    }
    return -ENAMETOOLONG;
}

/* Take pages away; in batches, as other processors must forget them before they are used again. */
static void drop_pages(uint64_t start, uint64_t end)
{
    void *pages[64];
    for (uint64_t at = start; at < end;) {
        unsigned n = 0;
        bool irq = spin_lock_irq(&lock);
        for (; at < end && n < ARRAY_SIZE(pages); at += PAGE_SIZE) {
            const uint64_t phys = table_unmap(at);
            if (phys != UINT64_MAX)
                pages[n++] = phys_to_virt(phys);
            else if (at % (UINT64_C(2) << 20) == 0 && !table_below(at))
                at += (UINT64_C(2) << 20) - PAGE_SIZE; /* nothing in all of this table */
        }
        page_count -= n;
        spin_unlock_irq(&lock, irq);
        if (n)
            table_flush();
        while (n)
            page_free(pages[--n]);
    }
}

/* ---- areas ------------------------------------------------------------------------------ */

/* Cut the area that spans an address in two. With the lock held; *spare becomes the second. */
static void split_at(uint64_t address, struct area **spare)
{
    struct area *a = area_from(address);
    if (!a || a->start >= address)
        return;
    struct area *second = *spare;
    *spare = NULL;
    *second = (struct area){a->next, address, a->end, a->rights};
    a->end = address;
    a->next = second;
}

/* Take [start, end) out of the areas; returns a list of what to free. */
static struct area *cut(uint64_t start, uint64_t end, struct area **spares)
{
    struct area *gone = NULL;
    split_at(start, &spares[0]);
    split_at(end, &spares[1]);
    for (struct area **at = &areas; *at && (*at)->start < end;) {
        struct area *a = *at;
        if (a->start < start) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        a->next = gone;
        gone = a;
    }
    return gone;
}

static void free_list(struct area *list)
{
    while (list) {
        struct area *next = list->next;
        base_free(list);
        list = next;
    }
}

static bool get_spares(struct area *spares[2])
{
    spares[0] = base_alloc(sizeof(struct area));
    spares[1] = base_alloc(sizeof(struct area));
    return spares[0] && spares[1];
}

static void put_spares(struct area *spares[2])
{
    base_free(spares[0]);
    base_free(spares[1]);
}

/* Insert, joining a neighbour with equal rights. With the lock held. False: a was not needed. */
static bool insert(struct area *a)
{
    struct area **at = &areas, *before = NULL;
    while (*at && (*at)->start < a->start) {
        before = *at;
        at = &(*at)->next;
    }
    if (before && before->end == a->start && before->rights == a->rights) {
        before->end = a->end;
        return false;
    }
    a->next = *at;
    *at = a;
    return true;
}

/* A gap of `size` bytes from an address on; 0 if there is none. */
static uint64_t find_gap(uint64_t from, uint64_t size)
{
    uint64_t at = from;
    for (const struct area *a = area_from(from); a; a = a->next) {
        if (a->start >= at && a->start - at >= size)
            return at;
        at = max_u64(at, a->end);
    }
    return at < USER_END && USER_END - at >= size ? at : 0;
}

int user_map(uint64_t *address, uint64_t size, unsigned rights, bool fixed)
{
    if (!size || size > USER_END || *address % PAGE_SIZE)
        return -EINVAL;
    size = round_up(size, PAGE_SIZE);
    if (fixed && (*address < USER_START || !range_ok(*address, size, USER_END)))
        return -ENOMEM;
    struct area *a = base_alloc(sizeof(*a));
    if (!a)
        return -ENOMEM;
    int r = 0;
    bool irq = spin_lock_irq(&lock);
    uint64_t start = *address;
    if (fixed) {
        const struct area *there = area_from(start);
        r = there && there->start < start + size ? -EEXIST : 0;
    } else {
        const bool wish = start >= USER_START && range_ok(start, size, USER_END);
        const uint64_t found = wish ? find_gap(start, size) : 0;
        start = found == start && found ? found : find_gap(USER_MAP_BASE, size);
        r = start ? 0 : -ENOMEM;
    }
    bool used = false;
    if (r == 0) {
        *a = (struct area){NULL, start, start + size, rights};
        used = insert(a);
        *address = start;
    }
    spin_unlock_irq(&lock, irq);
    if (!used)
        base_free(a);
    return r;
}

int user_unmap(uint64_t address, uint64_t size)
{
    if (address % PAGE_SIZE || !size || !range_ok(address, size, USER_END))
        return -EINVAL;
    const uint64_t end = address + round_up(size, PAGE_SIZE);
    struct area *spares[2];
    struct area *gone = NULL;
    const bool ok = get_spares(spares);
    if (ok) {
        bool irq = spin_lock_irq(&lock);
        gone = cut(address, end, spares);
        spin_unlock_irq(&lock, irq);
    }
    put_spares(spares);
    for (const struct area *a = gone; a; a = a->next)
        drop_pages(a->start, a->end);
    free_list(gone);
    return ok ? 0 : -ENOMEM;
}

int user_protect(uint64_t address, uint64_t size, unsigned rights)
{
    if (address % PAGE_SIZE || !range_ok(address, size, USER_END))
        return -EINVAL;
    const uint64_t end = address + round_up(size, PAGE_SIZE);
    struct area *spares[2];
    if (!get_spares(spares)) {
        put_spares(spares);
        return -ENOMEM;
    }
    bool irq = spin_lock_irq(&lock);
    uint64_t covered = address;
    for (const struct area *a = area_from(address); a && a->start <= covered && covered < end;
         a = a->next)
        covered = a->end;
    const int r = covered >= end ? 0 : -ENOMEM;
    if (r == 0) {
        split_at(address, &spares[0]);
        split_at(end, &spares[1]);
        for (struct area *a = area_from(address); a && a->start < end; a = a->next) {
            a->rights = rights;
            for (uint64_t p = a->start; p < a->end; p += PAGE_SIZE)
                if (p % (UINT64_C(2) << 20) == 0 && !table_below(p))
                    p += (UINT64_C(2) << 20) - PAGE_SIZE;
                else
                    table_protect(p, flags_of(rights));
        }
    }
    spin_unlock_irq(&lock, irq);
    put_spares(spares);
    table_flush();
    return r;
}

void user_discard(uint64_t address, uint64_t size)
{
    if (address % PAGE_SIZE == 0 && address >= USER_START && range_ok(address, size, USER_END))
        drop_pages(address, address + round_down(size, PAGE_SIZE));
}

void user_reset(void)
{
    while (areas)
        user_unmap(areas->start, areas->end - areas->start);
    table_prune(0, USER_END);
}

uint64_t user_pages(void)
{
    return page_count;
}
