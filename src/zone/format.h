/*
 * zone/format.h: the zone table's bytes, as docs/format-zns.md has them.
 *
 * The device below holds a header, then for each group of ZNS_GROUP zones two pages that are
 * written in turn, then the data. A page holds the states of its zones; the valid one with the
 * higher sequence counts.
 */
#ifndef ZONE_FORMAT_H
#define ZONE_FORMAT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <ashlar/blk.h>

#include "base/crc32c.h"
#include "base/util.h"

#define ZNS_MAGIC       "ASHLRZNS"
#define ZNS_VERSION     1
#define ZNS_HEADER      128                  /* bytes of the header */
#define ZNS_PAGE_MAGIC  UINT32_C(0x50534e5a) /* "ZNSP" */
#define ZNS_PAGE        4096 /* bytes of a page that are used; on disk it may be larger */
#define ZNS_GROUP       16   /* zones of a page */
#define ZNS_ENTRY       16   /* bytes of a zone in it */
#define ZNS_ENTRIES_AT  32
#define ZNS_HOLES_AT    (ZNS_ENTRIES_AT + ZNS_GROUP * ZNS_ENTRY)
#define ZNS_PAGE_HOLES  ((ZNS_PAGE - ZNS_HOLES_AT) / 8) /* of all its zones together */
#define ZNS_CRC_AT      12
#define ZNS_PAGE_CRC_AT 4
#define ZNS_ZONES_MAX   (1u << 20)

/* States are written as their numbers, which therefore never change. */
_Static_assert(BLK_ZONE_EMPTY == 1 && BLK_ZONE_IMPLICIT_OPEN == 2 && BLK_ZONE_EXPLICIT_OPEN == 3 &&
                   BLK_ZONE_CLOSED == 4 && BLK_ZONE_READ_ONLY == 13 && BLK_ZONE_FULL == 14 &&
                   BLK_ZONE_OFFLINE == 15,
               "numbers of the zone table");

struct zns_geometry {
    uint64_t id;        /* of this formatting; every page repeats it */
    uint64_t zone_size; /* a power of two */
    uint64_t capacity;
    uint32_t zone_count;
    uint32_t conventional; /* the first so many zones */
    uint32_t block_size;
    uint32_t page_size;
    uint64_t data_start; /* of the first zone, on the device below */
    uint32_t max_open;   /* 0: no limit; so the next two */
    uint32_t max_active;
    uint32_t append_max;
};

/* A part of a zone below its write pointer that was never written: it reads as zeroes. In blocks,
 * from the zone's start. */
struct zns_hole {
    uint32_t start;
    uint32_t len;
};

/* The CRC-32C of len bytes whose checksum is at this offset: as if the checksum were 0. */
static inline uint32_t zns_crc(const uint8_t *bytes, unsigned at, unsigned len)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c(0, bytes, at);
    crc = crc32c(crc, zero, 4);
    return crc32c(crc, bytes + at + 4, len - at - 4);
}

static inline uint32_t zns_group_count(const struct zns_geometry *g)
{
    return (g->zone_count + ZNS_GROUP - 1) / ZNS_GROUP;
}

/* Where a group's page is: the even sequences on one, the odd on the other. */
static inline uint64_t zns_page_offset(const struct zns_geometry *g, uint32_t group,
                                       uint64_t sequence)
{
    return g->page_size * (1 + 2 * (uint64_t)group + (sequence & 1));
}

static inline void zns_header_encode(uint8_t h[ZNS_HEADER], const struct zns_geometry *g)
{
    memset(h, 0, ZNS_HEADER);
    memcpy(h, ZNS_MAGIC, 8);
    store_le32(h + 8, ZNS_VERSION);
    store_le64(h + 16, g->id);
    store_le64(h + 24, g->zone_size);
    store_le64(h + 32, g->capacity);
    store_le32(h + 40, g->zone_count);
    store_le32(h + 44, g->conventional);
    store_le32(h + 48, g->block_size);
    store_le32(h + 52, g->page_size);
    store_le64(h + 56, g->data_start);
    store_le32(h + 64, g->max_open);
    store_le32(h + 68, g->max_active);
    store_le32(h + 72, g->append_max);
    store_le32(h + ZNS_CRC_AT, zns_crc(h, ZNS_CRC_AT, ZNS_HEADER));
}

static inline void zns_header_decode(const uint8_t h[ZNS_HEADER], struct zns_geometry *g)
{
    *g = (struct zns_geometry){
        .id = load_le64(h + 16),
        .zone_size = load_le64(h + 24),
        .capacity = load_le64(h + 32),
        .zone_count = load_le32(h + 40),
        .conventional = load_le32(h + 44),
        .block_size = load_le32(h + 48),
        .page_size = load_le32(h + 52),
        .data_start = load_le64(h + 56),
        .max_open = load_le32(h + 64),
        .max_active = load_le32(h + 68),
        .append_max = load_le32(h + 72),
    };
}

/* A zone's entry, without its holes. */
struct zns_entry {
    uint64_t wp; /* bytes from the zone's start */
    uint8_t state;
    uint16_t holes;
};

static inline void zns_entry_encode(uint8_t *page, unsigned index, const struct zns_entry *e)
{
    uint8_t *to = page + ZNS_ENTRIES_AT + index * ZNS_ENTRY;
    store_le64(to, e->wp);
    to[8] = e->state;
    to[10] = (uint8_t)e->holes;
    to[11] = (uint8_t)(e->holes >> 8);
}

static inline struct zns_entry zns_entry_decode(const uint8_t *page, unsigned index)
{
    const uint8_t *from = page + ZNS_ENTRIES_AT + index * ZNS_ENTRY;
    return (struct zns_entry){
        .wp = load_le64(from),
        .state = from[8],
        .holes = (uint16_t)(from[10] | from[11] << 8),
    };
}

static inline void zns_hole_encode(uint8_t *page, unsigned index, struct zns_hole hole)
{
    store_le32(page + ZNS_HOLES_AT + index * 8, hole.start);
    store_le32(page + ZNS_HOLES_AT + index * 8 + 4, hole.len);
}

static inline struct zns_hole zns_hole_decode(const uint8_t *page, unsigned index)
{
    const uint8_t *from = page + ZNS_HOLES_AT + index * 8;
    return (struct zns_hole){load_le32(from), load_le32(from + 4)};
}

/* The rest of a page whose entries and holes are there. */
static inline void zns_page_seal(uint8_t *page, uint64_t id, uint64_t sequence, uint32_t group,
                                 uint32_t holes)
{
    store_le32(page, ZNS_PAGE_MAGIC);
    store_le64(page + 8, id);
    store_le64(page + 16, sequence);
    store_le32(page + 24, group);
    store_le32(page + 28, holes);
    store_le32(page + ZNS_PAGE_CRC_AT, zns_crc(page, ZNS_PAGE_CRC_AT, ZNS_PAGE));
}

#endif
