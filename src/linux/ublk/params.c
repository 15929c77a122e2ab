/* Parameters of devices. Linux counts in sectors of 512 bytes, and in powers of two. */
#include "linux/ublk/params.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

enum {
    SECTOR = 512,
    PAGE = 4096,
    DEFAULT_QUEUES = 4,
    DEFAULT_DEPTH = 128,
    DEFAULT_MAX_IO = 256 << 10,
    MAX_DISCARD = 1 << 30, /* of one discard or write-zeroes */
};

static uint8_t shift_of(uint64_t size)
{
    return (uint8_t)(63 - __builtin_clzll(size));
}

/* ---- from a device --------------------------------------------------------------------- */

static int resolve_block(const struct blk_info *i, struct ublk_config *c, struct blk_error *err)
{
    if (!c->block_size)
        c->block_size = (uint32_t)max_u64(i->block_size, SECTOR);
    if (i->block_size > PAGE)
        return blk_error_set(err, -EINVAL, "has blocks of %u bytes; Linux takes at most %u",
                             i->block_size, PAGE);
    if (!is_pow2(c->block_size) || c->block_size < SECTOR || c->block_size > PAGE)
        return blk_error_set(err, -EINVAL, "the block size must be 512, 1024, 2048 or 4096");
    if (c->block_size < i->block_size)
        return blk_error_set(err, -EINVAL, "has blocks of %u bytes; %u is less", i->block_size,
                             c->block_size);
    if (i->size < c->block_size)
        return blk_error_set(err, -EINVAL, "is smaller than one block of %u bytes", c->block_size);
    return 0;
}

static int resolve_zones(const struct blk_info *i, const struct ublk_config *c,
                         struct blk_error *err)
{
    if (!is_pow2(i->zone_size) || i->zone_size < PAGE || i->zone_size / SECTOR > UINT32_MAX ||
        i->zone_size > i->size)
        return blk_error_set(err, -EINVAL,
                             "has zones of %llu bytes; Linux takes powers of two from 4096",
                             (unsigned long long)i->zone_size);
    if (c->block_size != max_u64(i->block_size, SECTOR))
        return blk_error_set(err, -EINVAL, "is zoned: its block size must stay %u", i->block_size);
    if (i->max_append < c->block_size)
        return blk_error_set(
            err, -EINVAL, "has zone appends of at most %u bytes: less than a block", i->max_append);
    if (c->mode != UBLK_MODE_AUTO && c->mode != UBLK_MODE_USER_COPY)
        return blk_error_set(err, -EINVAL, "is zoned, which needs the mode user-copy");
    if (c->unprivileged)
        return blk_error_set(err, -EINVAL,
                             "is zoned, which needs user copy; unprivileged devices have none");
    if (c->recovery == UBLK_RECOVERY_REISSUE)
        return blk_error_set(err, -EINVAL,
                             "is zoned: a write that was done cannot be issued again; recover with "
                             "'queue' or 'fail'");
    return 0;
}

int ublk_config_resolve(const struct blk *dev, struct ublk_config *c, struct blk_error *err)
{
    const struct blk_info *i = blk_info(dev);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int error = resolve_block(i, c, err);
    if (error < 0)
        return error;
    if (i->zoned)
        error = resolve_zones(i, c, err);
    if (error < 0)
        return error;
    if (c->queues > UBLK_MAX_QUEUES || c->depth > UBLK_MAX_DEPTH)
        return blk_error_set(err, -EINVAL, "at most %u queues, and depth %u", UBLK_MAX_QUEUES,
                             UBLK_MAX_DEPTH);
    if (c->queues > i->max_queues)
        return blk_error_set(err, -EINVAL, "takes at most %u queues", i->max_queues);
    if (!c->queues)
        c->queues = (unsigned)min_u64(min_u64((uint64_t)max_u64((uint64_t)cpus, 1), DEFAULT_QUEUES),
                                      i->max_queues);
    if (!c->depth)
        c->depth = DEFAULT_DEPTH;
    if (c->max_io && (c->max_io < PAGE || c->max_io > UBLK_MAX_IO || c->max_io % PAGE))
        return blk_error_set(err, -EINVAL, "requests may have from 4K to 32M, in steps of 4K");
    if (!c->max_io)
        c->max_io = DEFAULT_MAX_IO;
    if (c->max_io > i->max_transfer)
        c->max_io = (uint32_t)round_down(i->max_transfer, PAGE);
    if (!c->max_io)
        return blk_error_set(err, -EINVAL, "takes requests of less than 4096 bytes only");
    return 0;
}

/* A limit that no device reaches is none. */
static uint32_t zone_limit(const struct blk_info *i, uint32_t limit)
{
    return limit < i->size / i->zone_size ? limit : 0;
}

static void set_zones(const struct blk_info *i, const struct ublk_config *c, struct ublk_params *p)
{
    uint64_t append = min_u64(min_u64(i->max_append, c->max_io), i->zone_size);
    uint32_t open = zone_limit(i, i->max_open_zones), active = zone_limit(i, i->max_active_zones);
    p->types |= UBLK_PARAM_TYPE_ZONED;
    p->basic.chunk_sectors = (uint32_t)(i->zone_size / SECTOR);
    p->basic.dev_sectors = round_down(i->size, i->zone_size) / SECTOR;
    p->zoned.max_open_zones = open;
    p->zoned.max_active_zones = active;
    p->zoned.max_zone_append_sectors = (uint32_t)round_down(append, c->block_size) / SECTOR;
    if (active && open > active)
        p->zoned.max_open_zones = active;
}

void ublk_params_set(const struct blk *dev, const struct ublk_config *c, struct ublk_params *p)
{
    const struct blk_info *i = blk_info(dev);
    uint64_t block = c->block_size;
    uint64_t physical = max_u64(block, min_u64(i->physical_block_size, PAGE));
    memset(p, 0, sizeof(*p));
    p->types = UBLK_PARAM_TYPE_BASIC;
    p->basic.attrs = (i->read_only ? UBLK_ATTR_READ_ONLY : 0) |
                     (i->rotational ? UBLK_ATTR_ROTATIONAL : 0) |
                     (i->volatile_cache ? UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA : 0);
    p->basic.logical_bs_shift = shift_of(block);
    p->basic.physical_bs_shift = shift_of(physical);
    p->basic.io_min_shift = p->basic.physical_bs_shift;
    p->basic.io_opt_shift = shift_of(max_u64(min_u64(i->optimal_io, c->max_io), physical));
    p->basic.max_sectors = c->max_io / SECTOR;
    p->basic.dev_sectors = round_down(i->size, block) / SECTOR;
    if (i->zoned)
        set_zones(i, c, p);
    if ((i->discard_granularity || i->write_zeroes) && !i->read_only && !i->zoned) {
        p->types |= UBLK_PARAM_TYPE_DISCARD;
        p->discard.discard_granularity =
            (uint32_t)max_u64(is_pow2(i->discard_granularity) ? i->discard_granularity : 0, block);
        p->discard.max_discard_sectors = i->discard_granularity ? MAX_DISCARD / SECTOR : 0;
        p->discard.max_write_zeroes_sectors = i->write_zeroes ? MAX_DISCARD / SECTOR : 0;
        p->discard.max_discard_segments = 1;
    }
    if (c->mode == UBLK_MODE_ZERO_COPY && i->buf_align > 1) {
        p->types |= UBLK_PARAM_TYPE_DMA_ALIGN; /* the device sees the application's own memory */
        p->dma.alignment = i->buf_align - 1;
    }
}

/* Whether what was promised by a limit, or by none (0), is not more than there is. */
static bool is_within(uint32_t promised, uint32_t there)
{
    return !there || (promised && promised <= there);
}

static int match_zones(const struct blk_info *i, const struct ublk_params *p, struct blk_error *err)
{
    uint64_t zone_size = (uint64_t)p->basic.chunk_sectors * SECTOR;
    if (!i->zoned)
        return blk_error_set(err, -EINVAL, "is not zoned; what was served was");
    if (i->zone_size != zone_size)
        return blk_error_set(err, -EINVAL, "has zones of %llu bytes; what was served, %llu",
                             (unsigned long long)i->zone_size, (unsigned long long)zone_size);
    if (!is_within(p->zoned.max_open_zones, zone_limit(i, i->max_open_zones)) ||
        !is_within(p->zoned.max_active_zones, zone_limit(i, i->max_active_zones)) ||
        p->zoned.max_zone_append_sectors > i->max_append / SECTOR)
        return blk_error_set(err, -EINVAL,
                             "has less open or active zones, or smaller zone appends, "
                             "than what was served");
    return 0;
}

int ublk_params_match(const struct blk *dev, const struct ublk_params *p, struct blk_error *err)
{
    const struct blk_info *i = blk_info(dev);
    uint64_t size = p->basic.dev_sectors * SECTOR, block = UINT64_C(1) << p->basic.logical_bs_shift;
    if (size > i->size)
        return blk_error_set(err, -EINVAL, "is smaller than what was served: %llu of %llu bytes",
                             (unsigned long long)i->size, (unsigned long long)size);
    if (block < i->block_size)
        return blk_error_set(err, -EINVAL, "has blocks of %u bytes; what was served, %u",
                             i->block_size, (unsigned)block);
    if (i->read_only && !(p->basic.attrs & UBLK_ATTR_READ_ONLY))
        return blk_error_set(err, -EINVAL, "is read-only; what was served could be written");
    if (p->types & UBLK_PARAM_TYPE_ZONED)
        return match_zones(i, p, err);
    if (i->zoned)
        return blk_error_set(err, -EINVAL, "is zoned; what was served was not");
    return 0;
}

/* ---- flags ----------------------------------------------------------------------------- */

uint64_t ublk_mode_flags(enum ublk_mode mode, uint64_t offered)
{
    switch (mode) {
    case UBLK_MODE_GET_DATA:
        return UBLK_F_NEED_GET_DATA;
    case UBLK_MODE_USER_COPY:
        return UBLK_F_USER_COPY;
    case UBLK_MODE_ZERO_COPY:
        return UBLK_F_SUPPORT_ZERO_COPY | (offered & UBLK_F_AUTO_BUF_REG);
    default:
        return 0;
    }
}

static enum ublk_mode mode_of(uint64_t flags)
{
    return flags & UBLK_F_SUPPORT_ZERO_COPY ? UBLK_MODE_ZERO_COPY
           : flags & UBLK_F_USER_COPY       ? UBLK_MODE_USER_COPY
           : flags & UBLK_F_NEED_GET_DATA   ? UBLK_MODE_GET_DATA
                                            : UBLK_MODE_COPY;
}

uint64_t ublk_recovery_flags(enum ublk_recovery recovery)
{
    switch (recovery) {
    case UBLK_RECOVERY_REISSUE:
        return UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
    case UBLK_RECOVERY_QUEUE:
        return UBLK_F_USER_RECOVERY;
    case UBLK_RECOVERY_FAIL:
        return UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO;
    default:
        return 0;
    }
}

static enum ublk_recovery recovery_of(uint64_t flags)
{
    return flags & UBLK_F_USER_RECOVERY_FAIL_IO   ? UBLK_RECOVERY_FAIL
           : flags & UBLK_F_USER_RECOVERY_REISSUE ? UBLK_RECOVERY_REISSUE
           : flags & UBLK_F_USER_RECOVERY         ? UBLK_RECOVERY_QUEUE
                                                  : UBLK_RECOVERY_NONE;
}

/* ---- to people ------------------------------------------------------------------------- */

void ublk_info_set(struct ublk_info *info, const struct ublksrv_ctrl_dev_info *d,
                   const struct ublk_params *p)
{
    *info = (struct ublk_info){
        .id = (int)d->dev_id,
        .state = (enum ublk_state)d->state,
        .pid = d->ublksrv_pid > 0 ? d->ublksrv_pid : -1,
        .uid = d->owner_uid,
        .gid = d->owner_gid,
        .queues = d->nr_hw_queues,
        .depth = d->queue_depth,
        .max_io = d->max_io_buf_bytes,
        .mode = mode_of(d->flags),
        .recovery = recovery_of(d->flags),
        .unprivileged = d->flags & UBLK_F_UNPRIVILEGED_DEV,
        .features = d->flags,
    };
    if (!p || !(p->types & UBLK_PARAM_TYPE_BASIC))
        return;
    info->has_params = true;
    info->size = p->basic.dev_sectors * SECTOR;
    info->block_size = 1u << (p->basic.logical_bs_shift & 31);
    info->physical_block_size = 1u << (p->basic.physical_bs_shift & 31);
    info->optimal_io = 1u << (p->basic.io_opt_shift & 31);
    info->read_only = p->basic.attrs & UBLK_ATTR_READ_ONLY;
    info->volatile_cache = p->basic.attrs & UBLK_ATTR_VOLATILE_CACHE;
    info->rotational = p->basic.attrs & UBLK_ATTR_ROTATIONAL;
    if (p->types & UBLK_PARAM_TYPE_ZONED) {
        info->zoned = true;
        info->zone_size = (uint64_t)p->basic.chunk_sectors * SECTOR;
        info->max_open_zones = p->zoned.max_open_zones;
        info->max_active_zones = p->zoned.max_active_zones;
        info->max_append = p->zoned.max_zone_append_sectors * SECTOR;
    }
    if (p->types & UBLK_PARAM_TYPE_DISCARD) {
        info->write_zeroes = p->discard.max_write_zeroes_sectors;
        if (p->discard.max_discard_sectors)
            info->discard_granularity = p->discard.discard_granularity;
    }
}
