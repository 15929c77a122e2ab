#include "blk/cache_lines.h"

#include <errno.h>

#include "base/platform.h"

int lines_init(struct lines *l, uint32_t count, uint32_t size)
{
    uint32_t buckets = 1;
    while (buckets < count)
        buckets *= 2;
    l->count = count;
    l->size = size;
    l->mask = buckets - 1;
    l->line = base_alloc_array(count, sizeof(*l->line));
    l->bucket = base_alloc_array(buckets, sizeof(*l->bucket));
    l->data = base_alloc_aligned(BASE_PAGE, (size_t)count * size);
    if (!l->line || !l->bucket || !l->data) {
        lines_fini(l);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < buckets; i++)
        l->bucket[i] = LINE_NONE;
    return 0;
}

void lines_fini(struct lines *l)
{
    base_free(l->line);
    base_free(l->bucket);
    base_free(l->data);
    *l = (struct lines){0};
}

static uint32_t *bucket_of(const struct lines *l, uint64_t number)
{
    uint64_t h = number * UINT64_C(0x9e3779b97f4a7c15);
    return &l->bucket[(h >> 32) & l->mask];
}

uint32_t lines_find(const struct lines *l, uint64_t number)
{
    uint32_t at = *bucket_of(l, number);
    while (at != LINE_NONE && l->line[at].number != number)
        at = l->line[at].chain;
    return at;
}

uint32_t lines_victim(struct lines *l)
{
    /* Twice around: the first time may only cool the hot ones down. */
    for (uint32_t n = 0; n < 2 * l->count; n++) {
        uint32_t at = l->hand;
        struct line *line = &l->line[at];
        l->hand = at + 1 < l->count ? at + 1 : 0;
        if (line->busy)
            continue;
        if (line->state == LINE_FREE || !line->hot)
            return at;
        line->hot = false;
    }
    return LINE_NONE;
}

void lines_drop(struct lines *l, uint32_t at)
{
    struct line *line = &l->line[at];
    if (line->state == LINE_FREE)
        return;
    uint32_t *link = bucket_of(l, line->number);
    while (*link != at)
        link = &l->line[*link].chain;
    *link = line->chain;
    line->state = LINE_FREE;
    line->hot = false;
}

void lines_assign(struct lines *l, uint32_t at, uint64_t number)
{
    struct line *line = &l->line[at];
    uint32_t *bucket = bucket_of(l, number);
    lines_drop(l, at);
    line->number = number;
    line->state = LINE_CLEAN;
    line->hot = true;
    line->chain = *bucket;
    *bucket = at;
}
