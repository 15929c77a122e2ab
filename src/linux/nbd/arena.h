/*
 * linux/nbd/arena.h: one stretch of memory, lent in runs of pages.
 *
 * The lowest gap that is large enough is lent first, so that what is used again is what the
 * processor still has in its cache. The number of runs is small and bounded, so a sorted array
 * is all the bookkeeping there is. One thread at a time.
 */
#ifndef NBD_ARENA_H
#define NBD_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NBD_ARENA_RUNS = 128 };

struct nbd_arena {
    char *memory; /* reserved address space: a page takes memory when it is first written */
    size_t size;
    unsigned count;
    bool used;  /* since the last nbd_arena_trim() */
    bool dirty; /* pages may hold memory */
    struct nbd_arena_run {
        size_t start;
        size_t end;
    } run[NBD_ARENA_RUNS]; /* lent: sorted, apart from each other */
};

/* size: whole pages. 0 or -ENOMEM. */
int nbd_arena_init(struct nbd_arena *arena, size_t size);
void nbd_arena_fini(struct nbd_arena *arena);

/* NULL if no gap is large enough now. */
void *nbd_arena_take(struct nbd_arena *arena, size_t len);
void nbd_arena_give(struct nbd_arena *arena, void *memory);

/* Give the memory behind the pages back if nothing was lent since the last call. */
void nbd_arena_trim(struct nbd_arena *arena);

#endif
