/*
 * zns?zone=64M&cap=48M&max_open=14,DEVICE - a zoned device made of any other.
 *
 * The zones stand one behind the other on the device below, behind a table of their states. What
 * each file does: zns.h.
 */
#include "zone/zns.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

static void close_parts(struct zns *z)
{
    if (z->commit.queue)
        blk_queue_close(z->commit.queue);
    base_mutex_fini(&z->commit.lock);
    base_mutex_fini(&z->lock);
}

/* What is written and not flushed would be lost with its write pointer. */
static void zns_close(struct blk *dev)
{
    struct zns *z = dev->priv;
    int error = z->read_only ? 0 : zns_commit_all(z);
    if (error < 0)
        base_log(BASE_LOG_ERROR, "%.200s: the zone table could not be written: error %d",
                 blk_spec(dev), -error);
    zns_table_close(z);
    close_parts(z);
}

static void set_info(const struct blk *dev, const struct zns *z, struct blk_info *i)
{
    i->size = z->g.zone_count * z->g.zone_size;
    i->block_size = z->g.block_size;
    i->physical_block_size = (uint32_t)max_u64(i->physical_block_size, i->block_size);
    /* A request touches two zones at the most. */
    i->max_transfer = (uint32_t)min_u64(i->max_transfer, z->g.zone_size);
    i->max_queues = dev->child->info.max_queues - 1; /* one is for the table */
    i->discard_granularity = z->g.conventional ? i->discard_granularity : 0;
    i->volatile_cache = true;
    i->status = true;
    i->zoned = true;
    i->zone_size = z->g.zone_size;
    i->zone_count = z->g.zone_count;
    i->max_open_zones = z->g.max_open;
    i->max_active_zones = z->g.max_active;
    i->max_append = (uint32_t)min_u64(i->max_transfer, z->g.capacity);
    if (z->g.append_max)
        i->max_append = (uint32_t)min_u64(i->max_append, z->g.append_max);
}

static int zns_open(struct blk *dev, struct blk_error *err)
{
    struct zns *z = dev->priv;
    const struct blk_info *i = &dev->child->info;
    if (i->zoned)
        return blk_error_set(err, -EINVAL, "the device has zones already");
    if (i->max_queues < 2)
        return blk_error_set(err, -EINVAL, "needs a device with two queues; this has one");
    base_mutex_init(&z->lock);
    base_mutex_init(&z->commit.lock);
    list_init(&z->implicit);
    list_init(&z->commit.waiting);
    list_init(&z->commit.current);
    z->read_only = i->read_only || (dev->open_flags & BLK_OPEN_READ_ONLY);
    z->discard = i->discard_granularity && !z->read_only;
    unsigned depth = (unsigned)min_u64(ZNS_COMMIT_PAGES, i->max_depth);
    int error =
        depth == ZNS_COMMIT_PAGES ? blk_queue_open(dev->child, depth, &z->commit.queue) : -EINVAL;
    if (error < 0)
        blk_error_set(err, error, "no queue of %d requests can be opened: error %d",
                      ZNS_COMMIT_PAGES, -error);
    else
        error = zns_table_open(dev, z, err);
    if (error < 0) {
        close_parts(z);
        return error;
    }
    set_info(dev, z, &dev->info);
    return 0;
}

static void zns_report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    struct zns *z = dev->priv;
    uint32_t count[BLK_ZONE_NO_WP + 1] = {0};
    char text[256];
    int used;
    for (uint32_t i = 0; i < z->g.zone_count; i++) {
        struct blk_zone zone;
        zns_zone_describe(z, i, &zone);
        count[zone.state]++;
    }
    used = snprintf(text, sizeof(text), "zns: %u zones", z->g.zone_count);
    for (unsigned s = 0; s <= BLK_ZONE_NO_WP; s++)
        if (count[s])
            used += snprintf(text + used, sizeof(text) - (size_t)used, ", %u %s", count[s],
                             blk_zone_state_name(s));
    snprintf(text + used, sizeof(text) - (size_t)used, "; %llu commits of %llu pages",
             (unsigned long long)__atomic_load_n(&z->commit.commits, __ATOMIC_RELAXED),
             (unsigned long long)__atomic_load_n(&z->commit.pages_written, __ATOMIC_RELAXED));
    line(arg, text);
}

static const struct blk_option zns_options[] = {
    {"zone", BLK_OPT_SIZE, offsetof(struct zns, zone_option), NULL,
     "size of a zone, a power of two; default: as it was formatted, else 64M"},
    {"cap", BLK_OPT_SIZE, offsetof(struct zns, cap_option), NULL,
     "bytes of a zone that can be written; default: all"},
    {"conventional", BLK_OPT_COUNT, offsetof(struct zns, conventional_option), NULL,
     "the first so many zones can be written anywhere; default: none"},
    {"max_open", BLK_OPT_COUNT, offsetof(struct zns, max_open_option), NULL,
     "zones that may be open at once; default: no limit"},
    {"max_active", BLK_OPT_COUNT, offsetof(struct zns, max_active_option), NULL,
     "zones that may be open or closed; default: no limit"},
    {"append_max", BLK_OPT_SIZE, offsetof(struct zns, append_option), NULL,
     "largest zone append; default: as large as a write"},
    {"format", BLK_OPT_BOOL, offsetof(struct zns, format_option), "off",
     "on: make all zones anew, whatever is on the device"},
    {0},
};

const struct blk_driver blk_zns = {
    .name = "zns",
    .summary = "divides a device into zones",
    .flags = BLK_DRIVER_FILTER,
    .options = zns_options,
    .priv_size = sizeof(struct zns),
    .queue_size = sizeof(struct zns_queue),
    .slot_size = sizeof(struct zns_slot),
    .open = zns_open,
    .close = zns_close,
    .queue_open = zns_queue_open,
    .submit = zns_submit,
    .progress = zns_progress,
    .poll = zns_poll,
    .report = zns_report,
};
