#include "blk/cache_map.h"

#include <errno.h>

#include "base/platform.h"

/* Address space: an entry takes memory when it is first used. */
int cache_map_init(struct cache_map *m, uint64_t capacity, uint64_t block_size)
{
    m->capacity = capacity;
    m->limit = capacity - max_u64(capacity / 4, 1);
    m->block_size = block_size;
    list_init(&m->clean);
    list_init(&m->dirty);
    list_init(&m->writing);
    for (m->buckets = 64; m->buckets < capacity;)
        m->buckets *= 2;
    m->entry_size = round_up(capacity * sizeof(*m->entry), BASE_PAGE);
    m->bucket_size = round_up(m->buckets * sizeof(struct cache_entry *), BASE_PAGE);
    m->data_size = round_up(capacity * block_size, BASE_PAGE);
    m->entry = base_reserve(m->entry_size);
    m->bucket = base_reserve(m->bucket_size);
    m->data = base_reserve(m->data_size);
    if (m->entry && m->bucket && m->data)
        return 0;
    cache_map_fini(m);
    return -ENOMEM;
}

void cache_map_fini(struct cache_map *m)
{
    if (m->entry)
        base_unreserve(m->entry, m->entry_size);
    if (m->bucket)
        base_unreserve(m->bucket, m->bucket_size);
    if (m->data)
        base_unreserve(m->data, m->data_size);
}

static struct cache_entry **bucket_of(const struct cache_map *m, uint64_t block)
{
    uint64_t mixed = block;
    return &m->bucket[random_next(&mixed) & (m->buckets - 1)];
}

struct cache_entry *cache_map_find(const struct cache_map *m, uint64_t block)
{
    struct cache_entry *e = *bucket_of(m, block);
    while (e && e->block != block)
        e = e->next;
    return e;
}

static void unlink_entry(struct cache_map *m, struct cache_entry *e)
{
    struct cache_entry **p = bucket_of(m, e->block);
    while (*p != e)
        p = &(*p)->next;
    *p = e->next;
    e->block = CACHE_FREE;
}

/* An entry that was never used, else the least recently used clean one, out of its list. */
static struct cache_entry *reuse(struct cache_map *m)
{
    if (m->used < m->capacity)
        return &m->entry[m->used++];
    if (list_empty(&m->clean))
        return NULL;
    struct cache_entry *e = container_of(m->clean.next, struct cache_entry, node);
    list_remove(&e->node);
    if (e->block != CACHE_FREE) {
        unlink_entry(m, e);
        m->evictions++;
    }
    return e;
}

static void push_clean(struct cache_map *m, struct cache_entry *e)
{
    e->moved = m->insertions;
    list_push_back(&m->clean, &e->node);
}

struct cache_entry *cache_map_insert(struct cache_map *m, uint64_t block)
{
    struct cache_entry *e = reuse(m);
    if (!e)
        return NULL;
    struct cache_entry **bucket = bucket_of(m, block);
    e->block = block;
    e->dirty = e->writing = false;
    e->next = *bucket;
    *bucket = e;
    m->insertions++;
    push_clean(m, e);
    return e;
}

void cache_map_touch(struct cache_map *m, struct cache_entry *e)
{
    /* Not near the front yet: where it stands is as good as the end, and costs nothing. */
    if (e->dirty || e->writing || m->insertions - e->moved < m->capacity / 4)
        return;
    list_remove(&e->node);
    push_clean(m, e);
}

/* Into the dirty list, in the order of ticks: nearly always at the end. */
static void insert_dirty(struct cache_map *m, struct cache_entry *e)
{
    struct list *before = m->dirty.prev;
    while (before != &m->dirty && container_of(before, struct cache_entry, node)->tick > e->tick)
        before = before->prev;
    list_push_front(before, &e->node);
}

void cache_map_dirty(struct cache_map *m, struct cache_entry *e)
{
    ++*cache_map_stamp(m, e->block);
    if (e->dirty)
        return; /* it still holds data of its first tick */
    e->dirty = true;
    e->tick = m->tick;
    if (e->writing)
        return;
    m->unclean++;
    list_remove(&e->node);
    insert_dirty(m, e);
}

void cache_map_begin_write(struct cache_map *m, struct cache_entry *e, const void *writer)
{
    e->dirty = false;
    e->writing = true;
    e->writing_tick = e->tick;
    e->writer = writer;
    list_remove(&e->node);
    list_push_back(&m->writing, &e->node);
}

void cache_map_end_write(struct cache_map *m, struct cache_entry *e, bool arrived)
{
    list_remove(&e->node);
    e->writing = false;
    if (!arrived) {
        e->dirty = true;
        e->tick = e->writing_tick;
    }
    if (e->dirty) {
        insert_dirty(m, e);
    } else {
        m->unclean--;
        push_clean(m, e);
    }
}

void cache_map_drop(struct cache_map *m, struct cache_entry *e)
{
    if (e->dirty)
        m->unclean--;
    e->dirty = false;
    unlink_entry(m, e);
    list_remove(&e->node);
    list_push_front(&m->clean, &e->node);
}

void cache_map_change_all(struct cache_map *m)
{
    for (unsigned i = 0; i < CACHE_STAMPS; i++)
        m->stamp[i]++;
}
