/*
 * blk/cache_map.h: which blocks the cache holds, and in what state.
 *
 * An entry is in one of three lists:
 *
 *     clean    as on the device, or free; the least recently used first, more or less: the next
 *              to be reused
 *     dirty    newer than on the device; in the order of their ticks
 *     writing  a copy of it is on its way to the device; meanwhile it may become dirty again
 *
 * and goes from clean to dirty by a write, from dirty to writing when it is written back, and from
 * there to clean, or to dirty if it was written meanwhile or the device failed. Only clean entries
 * are reused, so nothing that is not on the device is ever dropped; and at most limit entries are
 * dirty or writing, so that there are always clean ones.
 *
 * The caller holds one lock over all calls.
 */
#ifndef BLK_CACHE_MAP_H
#define BLK_CACHE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/util.h"

#define CACHE_STAMPS 256

struct cache_entry {
    struct list node;         /* of the list of its state */
    struct cache_entry *next; /* of the same hash */
    uint64_t block;           /* number of the block; CACHE_FREE if it holds none */
    uint64_t moved;           /* clean: map.insertions when it was put at the end of the list */
    uint64_t tick;            /* dirty: when it became so */
    uint64_t writing_tick;    /* writing: the tick of the copy */
    const void *writer;       /* writing: who does it */
    bool dirty;
    bool writing;
};

#define CACHE_FREE UINT64_MAX

struct cache_map {
    uint64_t capacity;   /* entries */
    uint64_t limit;      /* of entries that are dirty or writing */
    uint64_t block_size; /* a power of two */
    uint64_t used;       /* entries from here on were never used and are in no list */
    uint64_t unclean;    /* entries that are dirty or writing */
    uint64_t tick;       /* a flush counts it up: what became dirty before has a lower one */
    struct list clean, dirty, writing;
    struct cache_entry *entry;   /* capacity of them */
    struct cache_entry **bucket; /* a power of two */
    uint64_t buckets;
    char *data;                                  /* of entry i: at i * block_size */
    uint64_t entry_size, bucket_size, data_size; /* of the reserved memory */
    /* Counted up when a block of this hash changes. Who reads a block from the device keeps the
     * stamp, and does not put it into the cache if the stamp has changed meanwhile. */
    uint64_t stamp[CACHE_STAMPS];
    uint64_t insertions;
    uint64_t evictions;
};

/* -ENOMEM, after which nothing needs an end. */
int cache_map_init(struct cache_map *m, uint64_t capacity, uint64_t block_size);
void cache_map_fini(struct cache_map *m);

/* NULL if the block is not there. */
struct cache_entry *cache_map_find(const struct cache_map *m, uint64_t block);

/* A clean entry for a block that is not there, in place of the least recently used. NULL if none
 * is clean. The caller fills its data. */
struct cache_entry *cache_map_insert(struct cache_map *m, uint64_t block);

static inline char *cache_map_data(const struct cache_map *m, const struct cache_entry *e)
{
    return m->data + (uint64_t)(e - m->entry) * m->block_size;
}

/* It was used. */
void cache_map_touch(struct cache_map *m, struct cache_entry *e);

/* Whether one more entry, or this one, may become dirty. */
static inline bool cache_map_may_dirty(const struct cache_map *m, const struct cache_entry *e)
{
    return (e && (e->dirty || e->writing)) || m->unclean < m->limit;
}

/* Its data was changed. */
void cache_map_dirty(struct cache_map *m, struct cache_entry *e);

/* A copy of a dirty entry goes to the device; and has arrived, or not. */
void cache_map_begin_write(struct cache_map *m, struct cache_entry *e, const void *writer);
void cache_map_end_write(struct cache_map *m, struct cache_entry *e, bool arrived);

/* Forget an entry that is not being written; dirty data is gone. */
void cache_map_drop(struct cache_map *m, struct cache_entry *e);

static inline uint64_t *cache_map_stamp(struct cache_map *m, uint64_t block)
{
    return &m->stamp[(block * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
}

/* All blocks may have changed. */
void cache_map_change_all(struct cache_map *m);

#endif
