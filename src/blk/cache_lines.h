/*
 * blk/cache_lines.h: the memory of a cache: lines, found by their place on the device.
 *
 * Nothing here locks or does I/O; the cache does, and holds its lock around every call.
 */
#ifndef BLK_CACHE_LINES_H
#define BLK_CACHE_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_NONE UINT32_MAX

enum line_state {
    LINE_FREE,
    LINE_CLEAN, /* as on the device */
    LINE_DIRTY, /* newer than on the device */
};

struct line {
    uint64_t number;  /* which line of the device; meaningless if free */
    uint64_t dirtied; /* DIRTY: since when, in the cache's count of writes */
    uint32_t chain;   /* next in its hash bucket; LINE_NONE ends */
    uint8_t state;    /* enum line_state */
    bool busy;        /* its data is on the way from or to the device: hands off */
    bool hot;         /* used since the clock's hand last came by */
};

struct lines {
    uint32_t count;
    uint32_t size; /* bytes of a line */
    uint32_t hand; /* of the clock */
    uint32_t mask; /* of bucket */
    struct line *line;
    uint32_t *bucket;
    char *data;
};

/* 0 or -ENOMEM. count: at least 2. */
int lines_init(struct lines *lines, uint32_t count, uint32_t size);
void lines_fini(struct lines *lines);

/* The line that holds this number; LINE_NONE. */
uint32_t lines_find(const struct lines *lines, uint64_t number);

/* A line to use for another number: free, or the one that was not used for longest (about), which
 * may be dirty and must then be written first. LINE_NONE if all are busy. */
uint32_t lines_victim(struct lines *lines);

/* A line that is free or clean becomes this number's, clean. */
void lines_assign(struct lines *lines, uint32_t at, uint64_t number);
void lines_drop(struct lines *lines, uint32_t at);

static inline char *lines_data(const struct lines *lines, uint32_t at)
{
    return lines->data + (size_t)at * lines->size;
}

#endif
