/* slice?offset=SIZE&size=SIZE,DEVICE - a part of a device as a device. */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>

#include "base/util.h"

struct slice {
    uint64_t offset;
    uint64_t size;
};

static int slice_open(struct blk *dev, struct blk_error *err)
{
    struct slice *s = dev->priv;
    struct blk_info *i = &dev->info;
    if (s->offset > i->size)
        return blk_error_set(err, -ERANGE, "offset %llu is past the end at %llu",
                             (unsigned long long)s->offset, (unsigned long long)i->size);
    if (!s->size)
        s->size = i->size - s->offset;
    if (!range_ok(s->offset, s->size, i->size))
        return blk_error_set(err, -ERANGE, "size %llu reaches past the end at %llu",
                             (unsigned long long)s->size, (unsigned long long)i->size);
    uint64_t unit = i->zoned ? i->zone_size : i->block_size;
    if (s->offset % unit || s->size % unit)
        return blk_error_set(err, -EINVAL, "offset and size must be multiples of %llu",
                             (unsigned long long)unit);
    i->size = s->size;
    if (i->zoned)
        i->zone_count = (uint32_t)(s->size / unit);
    return 0;
}

static bool all_zones(const struct blk_req *r)
{
    return r->op > BLK_ZONE_REPORT && (r->flags & BLK_ZONE_ALL);
}

/* "All zones" would mean those outside the slice too. */
static void slice_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct slice *s = queue->dev->priv;
    for (unsigned i = 0; i < n; i++) {
        if (all_zones(reqs[i])) {
            blk_complete(queue, reqs[i], -ENOTSUP);
            continue;
        }
        reqs[i]->offset += s->offset;
        blk_forward(queue, &reqs[i], 1);
    }
}

/* Zones of the child become zones of the slice; those past its end are cut off. */
static void fix_report(const struct slice *s, struct blk_req *r)
{
    struct blk_zone *z = r->iov[0].iov_base;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->count && z[i].start - s->offset < s->size; i++, kept++) {
        z[i].start -= s->offset;
        z[i].wp -= s->offset;
    }
    r->count = kept;
}

static void slice_done(struct blk_queue *queue, struct blk_req *r)
{
    const struct slice *s = queue->dev->priv;
    r->offset -= s->offset;
    if (r->op == BLK_ZONE_REPORT && r->result == 0)
        fix_report(s, r);
}

static const struct blk_option slice_options[] = {
    {"offset", BLK_OPT_SIZE, offsetof(struct slice, offset), "0", "where the part starts"},
    {"size", BLK_OPT_SIZE, offsetof(struct slice, size), NULL, "its size; default: to the end"},
    {0},
};

const struct blk_driver blk_slice = {
    .name = "slice",
    .summary = "a part of a device as a device",
    .flags = BLK_DRIVER_FILTER | BLK_DRIVER_NO_DATA,
    .options = slice_options,
    .priv_size = sizeof(struct slice),
    .open = slice_open,
    .submit = slice_submit,
    .done = slice_done,
};
