/* The zone table on the device below: made, or found and checked. docs/format-zns.md. */
#include <errno.h>
#include <stdio.h>

#include "zone/zns.h"

#define CHUNK (128u << 10)
#define EDGE  (1u << 20) /* so much at either end must be zero for a device to look blank */

static unsigned log2_of(uint64_t n)
{
    return 63 - (unsigned)__builtin_clzll(n);
}

/* ---- making one -------------------------------------------------------------------------- */

static bool all_zero(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i])
            return false;
    return true;
}

/* 1 if the bytes are all zero, 0 if not, or an error. */
static int is_blank(struct blk_queue *q, char *buffer, uint64_t from, uint64_t to)
{
    while (from < to) {
        size_t part = min_u64(to - from, CHUNK);
        int error = blk_read_bytes(q, from, buffer, part);
        if (error < 0)
            return error;
        if (!all_zero(buffer, part))
            return 0;
        from += part;
    }
    return 1;
}

static int looks_blank(struct blk_queue *q, char *buffer, uint64_t size)
{
    int blank = is_blank(q, buffer, 0, min_u64(size, EDGE));
    return blank == 1 && size > EDGE ? is_blank(q, buffer, max_u64(EDGE, size - EDGE), size)
                                     : blank;
}

/* The limits that are given; those that are not are as they were. */
static int apply_limits(const struct zns *z, struct zns_geometry *g, struct blk_error *err)
{
    uint64_t open = z->max_open_option ? z->max_open_option : g->max_open;
    uint64_t active = z->max_active_option ? z->max_active_option : g->max_active;
    uint64_t append = z->append_option ? z->append_option : g->append_max;
    if (active && (!open || (open > active && !z->max_open_option)))
        open = active;
    if (open > UINT32_MAX || active > UINT32_MAX)
        return blk_error_set(err, -EINVAL, "max_open and max_active must be below 2^32");
    if (active && open > active)
        return blk_error_set(err, -EINVAL, "max_open %llu is over max_active %llu",
                             (unsigned long long)open, (unsigned long long)active);
    if (append % g->block_size || append > min_u64(g->capacity, UINT32_MAX))
        return blk_error_set(err, -EINVAL,
                             "append_max must be a multiple of %u, at most the capacity %llu",
                             g->block_size, (unsigned long long)g->capacity);
    g->max_open = (uint32_t)open;
    g->max_active = (uint32_t)active;
    g->append_max = (uint32_t)append;
    return 0;
}

static uint64_t data_start(uint64_t zone_size, uint64_t page, uint64_t zones)
{
    uint64_t table = page * (1 + 2 * ((zones + ZNS_GROUP - 1) / ZNS_GROUP));
    return round_up(table, max_u64(page, min_u64(zone_size, 1 << 20)));
}

static int new_geometry(const struct zns *z, const struct blk_info *i, struct zns_geometry *g,
                        struct blk_error *err)
{
    uint64_t size = z->zone_option ? z->zone_option : 64 << 20;
    uint64_t capacity = z->cap_option ? z->cap_option : size;
    uint64_t page = max_u64(ZNS_PAGE, i->block_size);
    if (!is_pow2(size) || size < i->block_size || size > UINT64_C(1) << 40)
        return blk_error_set(err, -EINVAL, "zone must be a power of two, from one block (%u) to 1T",
                             i->block_size);
    if (capacity > size || capacity % i->block_size || capacity / i->block_size > UINT32_MAX)
        return blk_error_set(err, -EINVAL,
                             "cap must be a multiple of %u, at most the zone's size %llu and 2^32 "
                             "blocks",
                             i->block_size, (unsigned long long)size);
    uint64_t zones = i->size / size;
    while (zones && data_start(size, page, zones) + zones * size > i->size)
        zones--;
    if (!zones)
        return blk_error_set(err, -ENOSPC,
                             "no zone of %llu bytes fits: the device has %llu, of which the zone "
                             "table takes some",
                             (unsigned long long)size, (unsigned long long)i->size);
    if (zones > ZNS_ZONES_MAX)
        return blk_error_set(err, -EINVAL, "%llu zones; at most %u: make them larger with zone=",
                             (unsigned long long)zones, ZNS_ZONES_MAX);
    if (z->conventional_option >= zones)
        return blk_error_set(err, -EINVAL, "conventional must be below %llu, the number of zones",
                             (unsigned long long)zones);
    *g = (struct zns_geometry){
        .id = base_wall_ns() ^ base_now_ns() << 32,
        .zone_size = size,
        .capacity = capacity,
        .zone_count = (uint32_t)zones,
        .conventional = (uint32_t)z->conventional_option,
        .block_size = i->block_size,
        .page_size = (uint32_t)page,
        .data_start = data_start(size, page, zones),
    };
    return apply_limits(z, g, err);
}

/* The table's place is zeroed before there is a header, which makes it a table. */
static int format(const struct zns *z, struct zns_geometry *g, char *buffer)
{
    struct blk_queue *q = z->commit.queue;
    int error = blk_write_zeroes(q, 0, g->data_start, 0);
    if (error == 0)
        error = blk_flush(q);
    if (error < 0)
        return error;
    memset(buffer, 0, g->page_size);
    zns_header_encode((uint8_t *)buffer, g);
    return blk_write(q, 0, buffer, g->page_size, BLK_FUA);
}

/* ---- finding one ------------------------------------------------------------------------- */

static bool geometry_ok(const struct zns_geometry *g)
{
    return is_pow2(g->zone_size) && g->zone_size <= UINT64_C(1) << 40 && is_pow2(g->block_size) &&
           g->block_size <= g->zone_size && is_pow2(g->page_size) && g->page_size >= ZNS_PAGE &&
           g->page_size <= 1u << 30 && g->page_size >= g->block_size && g->capacity &&
           g->capacity <= g->zone_size && g->capacity % g->block_size == 0 &&
           g->capacity / g->block_size <= UINT32_MAX && g->zone_count &&
           g->zone_count <= ZNS_ZONES_MAX && g->conventional < g->zone_count &&
           g->data_start % g->block_size == 0 && g->data_start <= INT64_MAX &&
           g->data_start >= g->page_size * (1 + 2 * (uint64_t)zns_group_count(g)) &&
           (!g->max_active || g->max_open <= g->max_active) && g->append_max % g->block_size == 0 &&
           g->append_max <= g->capacity;
}

/* Options that say something else than the header. */
static int compare(uint64_t option, uint64_t is, const char *name, struct blk_error *err)
{
    if (!option || option == is)
        return 0;
    return blk_error_set(err, -EINVAL,
                         "%s=%llu, but the device was formatted with %llu; format=on formats it "
                         "anew and loses all data",
                         name, (unsigned long long)option, (unsigned long long)is);
}

static int check_geometry(const struct zns *z, const struct blk_info *i, struct zns_geometry *g,
                          struct blk_error *err)
{
    if (!geometry_ok(g))
        return blk_error_set(err, -EBADMSG, "the header of the zone table contradicts itself");
    if (g->block_size < i->block_size)
        return blk_error_set(err, -EINVAL, "was formatted with blocks of %u bytes; these are %u",
                             g->block_size, i->block_size);
    if (g->page_size > max_u64(i->max_transfer, ZNS_PAGE))
        return blk_error_set(err, -EINVAL, "was formatted with pages of %u bytes: too large here",
                             g->page_size);
    if (!range_ok(g->data_start, g->zone_count * g->zone_size, i->size))
        return blk_error_set(err, -ERANGE, "the zones need %llu bytes, the device has only %llu",
                             (unsigned long long)(g->data_start + g->zone_count * g->zone_size),
                             (unsigned long long)i->size);
    int error = compare(z->zone_option, g->zone_size, "zone", err);
    if (error == 0)
        error = compare(z->cap_option, g->capacity, "cap", err);
    if (error == 0)
        error = compare(z->conventional_option, g->conventional, "conventional", err);
    return error < 0 ? error : apply_limits(z, g, err);
}

/* 1: there is a header; 0: the device must be formatted (or, if it is only read, shown as if it
 * were); or an error. */
static int find_header(const struct blk *dev, struct zns *z, char *buffer, struct blk_error *err)
{
    const struct blk_info *i = &dev->child->info;
    struct blk_queue *q = z->commit.queue;
    const uint8_t *h = (const uint8_t *)buffer;
    if (i->size < ZNS_PAGE)
        return blk_error_set(err, -ENOSPC, "the device of %llu bytes has no room for zones",
                             (unsigned long long)i->size);
    if (z->format_option && !z->read_only)
        return 0;
    int error = blk_read_bytes(q, 0, buffer, ZNS_PAGE);
    if (error < 0)
        return blk_error_set(err, error, "the header cannot be read: error %d", -error);
    if (!memcmp(h, ZNS_MAGIC, 8)) {
        if (load_le32(h + 8) != ZNS_VERSION)
            return blk_error_set(err, -ENOTSUP,
                                 "a zone table of version %u; this program reads version %d",
                                 load_le32(h + 8), ZNS_VERSION);
        if (load_le32(h + ZNS_CRC_AT) != zns_crc(h, ZNS_CRC_AT, ZNS_HEADER))
            return blk_error_set(err, -EBADMSG, "the checksum of the zone table's header is wrong");
        zns_header_decode(h, &z->g);
        error = check_geometry(z, i, &z->g, err);
        return error < 0 ? error : 1;
    }
    int blank = looks_blank(q, buffer, i->size);
    if (blank < 0)
        return blk_error_set(err, blank, "cannot be read: error %d", -blank);
    if (!blank)
        return blk_error_set(err, -EEXIST,
                             "has no zones, but is not blank; format=on formats it and loses all "
                             "data");
    return 0;
}

/* ---- loading ----------------------------------------------------------------------------- */

static bool page_sound(const struct zns *z, const uint8_t *page, uint32_t group, unsigned which)
{
    return load_le32(page) == ZNS_PAGE_MAGIC && load_le64(page + 8) == z->g.id &&
           load_le32(page + ZNS_PAGE_CRC_AT) == zns_crc(page, ZNS_PAGE_CRC_AT, ZNS_PAGE) &&
           load_le32(page + 24) == group && (load_le64(page + 16) & 1) == which &&
           load_le64(page + 16) && load_le32(page + 28) <= ZNS_PAGE_HOLES;
}

static bool entry_ok(const struct zns *z, const struct zns_entry *e)
{
    if (e->wp > z->g.capacity || e->wp & (z->g.block_size - 1))
        return false;
    switch (e->state) {
    case BLK_ZONE_EMPTY:
        return e->wp == 0 && !e->holes;
    case BLK_ZONE_IMPLICIT_OPEN:
    case BLK_ZONE_EXPLICIT_OPEN:
    case BLK_ZONE_CLOSED:
        return e->wp < z->g.capacity;
    case BLK_ZONE_FULL:
    case BLK_ZONE_READ_ONLY:
    case BLK_ZONE_OFFLINE:
        return true;
    default:
        return false;
    }
}

static int load_holes(const struct zns *z, struct zns_zone *zone, const struct zns_entry *e,
                      const uint8_t *page, unsigned first)
{
    uint64_t end = 0, wp = e->wp >> z->block_shift;
    if (!e->holes)
        return 0;
    zone->hole = base_alloc_array(e->holes, sizeof(*zone->hole));
    if (!zone->hole)
        return -ENOMEM;
    zone->hole_count = zone->hole_room = e->holes;
    for (unsigned i = 0; i < e->holes; i++) {
        struct zns_hole h = zns_hole_decode(page, first + i);
        if (!h.len || (i && h.start <= end) || !range_ok(h.start, h.len, wp))
            return -EBADMSG;
        zone->hole[i] = h;
        end = (uint64_t)h.start + h.len;
    }
    zone->special = true;
    return 0;
}

static int load_group(struct zns *z, uint32_t group, const uint8_t *page)
{
    unsigned holes = 0;
    for (unsigned i = 0; i < ZNS_GROUP; i++) {
        uint32_t index = group * ZNS_GROUP + i;
        if (index < z->g.conventional || index >= z->g.zone_count)
            continue;
        struct zns_zone *zone = &z->zone[index];
        struct zns_entry e = zns_entry_decode(page, i);
        if (!entry_ok(z, &e) || holes + e.holes > load_le32(page + 28))
            return -EBADMSG;
        int error = load_holes(z, zone, &e, page, holes);
        if (error < 0)
            return error;
        holes += e.holes;
        zone->wp = e.wp;
        bool special = zone->special;
        zns_zone_enter(z, zone, e.state);
        zone->special |= special;
    }
    z->group[group].sequence = load_le64(page + 16);
    return 0;
}

/* Of a group's two pages the newer sound one. None was ever written: all its zones are empty. */
static int load_pages(struct zns *z, uint32_t group, const uint8_t *pages, struct blk_error *err)
{
    const uint8_t *best = NULL;
    unsigned blank = 0;
    for (unsigned which = 0; which < 2; which++) {
        const uint8_t *page = pages + (size_t)which * z->g.page_size;
        if (page_sound(z, page, group, which)) {
            if (!best || load_le64(page + 16) > load_le64(best + 16))
                best = page;
        } else {
            blank += all_zero((const char *)page, ZNS_PAGE);
        }
    }
    int error = best ? load_group(z, group, best) : blank ? 0 : -EBADMSG;
    if (error == -EBADMSG)
        return blk_error_set(err, error, "the states of zones %u to %u are damaged",
                             group * ZNS_GROUP,
                             (uint32_t)min_u64(group * ZNS_GROUP + ZNS_GROUP, z->g.zone_count) - 1);
    return error < 0 ? blk_error_set(err, error, "out of memory") : 0;
}

static int load(struct zns *z, char *buffer, size_t buffer_size, struct blk_error *err)
{
    uint64_t pair = 2 * (uint64_t)z->g.page_size;
    uint32_t at_once = (uint32_t)(buffer_size / pair);
    for (uint32_t group = 0; group < z->groups; group += at_once) {
        uint32_t n = (uint32_t)min_u64(at_once, z->groups - group);
        int error = blk_read(z->commit.queue, zns_page_offset(&z->g, group, 0), buffer, n * pair);
        if (error < 0)
            return blk_error_set(err, error, "the zone table cannot be read: error %d", -error);
        for (uint32_t i = 0; i < n; i++) {
            error = load_pages(z, group + i, (const uint8_t *)buffer + i * pair, err);
            if (error < 0)
                return error;
        }
    }
    for (uint32_t i = 0; i < z->groups; i++)
        z->group[i].dirty = false;
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int allocate(struct zns *z, struct blk_error *err)
{
    z->shift = log2_of(z->g.zone_size);
    z->block_shift = log2_of(z->g.block_size);
    z->conventional_end = z->g.conventional * z->g.zone_size;
    z->groups = zns_group_count(&z->g);
    z->zone = base_alloc_aligned(64, z->g.zone_count * sizeof(*z->zone));
    for (uint32_t i = 0; z->zone && i < z->g.zone_count; i++) {
        base_mutex_init(&z->zone[i].lock);
        list_init(&z->zone[i].pending);
        z->zone[i].state = BLK_ZONE_EMPTY;
    }
    z->group = base_alloc_array(z->groups, sizeof(*z->group));
    z->commit.buffer = base_alloc_aligned(BASE_PAGE, (size_t)ZNS_COMMIT_PAGES * z->g.page_size);
    if (!z->zone || !z->group || !z->commit.buffer)
        return blk_error_set(err, -ENOMEM, "out of memory");
    return 0;
}

void zns_table_close(struct zns *z)
{
    for (uint32_t i = 0; z->zone && i < z->g.zone_count; i++) {
        base_mutex_fini(&z->zone[i].lock);
        base_free(z->zone[i].hole);
    }
    base_free(z->zone);
    base_free(z->group);
    base_free(z->commit.buffer);
}

int zns_table_open(struct blk *dev, struct zns *z, struct blk_error *err)
{
    const struct blk_info *i = &dev->child->info;
    size_t size = max_u64(CHUNK, 2 * (uint64_t)i->block_size);
    char *buffer = base_alloc_aligned(max_u64(BASE_PAGE, i->buf_align), size);
    if (!buffer)
        return blk_error_set(err, -ENOMEM, "out of memory");
    int found = find_header(dev, z, buffer, err), error = found;
    if (found == 0) {
        error = new_geometry(z, i, &z->g, err);
        if (error == 0 && !z->read_only && (error = format(z, &z->g, buffer)) < 0)
            blk_error_set(err, error, "cannot be formatted: error %d", -error);
    }
    if (error >= 0)
        error = allocate(z, err);
    if (error == 0 && found == 1)
        error = load(z, z->commit.buffer, (size_t)ZNS_COMMIT_PAGES * z->g.page_size, err);
    base_free(buffer);
    if (error < 0)
        zns_table_close(z);
    return error;
}
