/* Runs of pages out of one stretch of memory. */
#include "linux/nbd/arena.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

int nbd_arena_init(struct nbd_arena *a, size_t size)
{
    memset(a, 0, sizeof(*a));
    a->memory = base_reserve(size);
    a->size = size;
    return a->memory ? 0 : -ENOMEM;
}

void nbd_arena_fini(struct nbd_arena *a)
{
    if (a->memory)
        base_unreserve(a->memory, a->size);
    a->memory = NULL;
}

void *nbd_arena_take(struct nbd_arena *a, size_t len)
{
    size_t at = 0;
    unsigned i = 0;
    len = round_up(len, BASE_PAGE);
    if (a->count == NBD_ARENA_RUNS)
        return NULL;
    while (i < a->count && a->run[i].start - at < len)
        at = a->run[i++].end;
    if (a->size - at < len)
        return NULL;
    memmove(&a->run[i + 1], &a->run[i], (a->count - i) * sizeof(a->run[0]));
    a->run[i] = (struct nbd_arena_run){at, at + len};
    a->count++;
    a->used = a->dirty = true;
    return a->memory + at;
}

void nbd_arena_give(struct nbd_arena *a, void *memory)
{
    size_t at = (size_t)((char *)memory - a->memory);
    unsigned i = 0;
    while (a->run[i].start != at)
        i++;
    a->count--;
    memmove(&a->run[i], &a->run[i + 1], (a->count - i) * sizeof(a->run[0]));
}

void nbd_arena_trim(struct nbd_arena *a)
{
    if (!a->used && !a->count && a->dirty) {
        base_reserve_discard(a->memory, a->size);
        a->dirty = false;
    }
    a->used = false;
}
