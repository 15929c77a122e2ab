/* The core: devices are opened and closed here. Queues: queue.c. */
#include "blk/core.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

static const char *const op_names[BLK_OP_COUNT] = {
    [BLK_READ] = "read",
    [BLK_WRITE] = "write",
    [BLK_FLUSH] = "flush",
    [BLK_DISCARD] = "discard",
    [BLK_WRITE_ZEROES] = "write-zeroes",
    [BLK_STATUS] = "status",
    [BLK_ZONE_APPEND] = "zone-append",
    [BLK_ZONE_REPORT] = "zone-report",
    [BLK_ZONE_OPEN] = "zone-open",
    [BLK_ZONE_CLOSE] = "zone-close",
    [BLK_ZONE_FINISH] = "zone-finish",
    [BLK_ZONE_RESET] = "zone-reset",
};

const char *blk_op_name(unsigned op)
{
    return op < BLK_OP_COUNT ? op_names[op] : NULL;
}

bool blk_op_modifies(unsigned op)
{
    return op != BLK_READ && op != BLK_FLUSH && op != BLK_STATUS && op != BLK_ZONE_REPORT;
}

static void default_u32(uint32_t *field, uint32_t value)
{
    if (!*field)
        *field = value;
}

/* Fill in what the driver left open, and refuse what no driver may say. */
static int complete_info(struct blk *dev, struct blk_error *err)
{
    struct blk_info *i = &dev->info;
    default_u32(&i->block_size, 512);
    default_u32(&i->physical_block_size, i->block_size);
    default_u32(&i->optimal_io, i->physical_block_size);
    default_u32(&i->max_transfer, 32u << 20);
    default_u32(&i->max_iov, 1024);
    default_u32(&i->buf_align, 1);
    default_u32(&i->max_queues, BLK_MAX_QUEUES);
    default_u32(&i->max_depth, BLK_MAX_DEPTH);
    if (dev->open_flags & BLK_OPEN_READ_ONLY)
        i->read_only = true;
    if (!is_pow2(i->block_size) || !is_pow2(i->buf_align) || !is_pow2(i->physical_block_size))
        return blk_error_set(err, -EINVAL, "block size %u or alignment %u is not a power of two",
                             i->block_size, i->buf_align);
    if (i->size & (i->block_size - 1))
        return blk_error_set(err, -EINVAL, "size %llu is not a multiple of the block size %u",
                             (unsigned long long)i->size, i->block_size);
    if (i->size > INT64_MAX)
        return blk_error_set(err, -EFBIG, "size is over 2^63 bytes");
    if (i->max_transfer < i->block_size)
        return blk_error_set(err, -EINVAL, "block size %u is over the largest transfer %u",
                             i->block_size, i->max_transfer);
    i->max_transfer = (uint32_t)round_down(i->max_transfer, i->block_size);
    if (i->zoned && (!i->zone_size || i->zone_size & (i->block_size - 1) || !i->zone_count))
        return blk_error_set(err, -EINVAL, "%u zones of %llu bytes in blocks of %u", i->zone_count,
                             (unsigned long long)i->zone_size, i->block_size);
    return 0;
}

static int open_level(const char *text, unsigned flags, unsigned depth, struct blk **out,
                      struct blk_error *err);

static int open_driver(struct blk *dev, const struct blk_spec *spec, unsigned depth,
                       struct blk_error *err)
{
    if (*dev->argument && !dev->driver->argument && !(dev->driver->flags & BLK_DRIVER_FILTER))
        return blk_error_set(err, -EINVAL, "takes no argument");
    int error = blk_options_apply(spec, dev->priv, err);
    if (error < 0)
        return error;
    if (spec->inner) {
        error = open_level(spec->inner, dev->open_flags, depth + 1, &dev->child, err);
        if (error < 0)
            return error;
        dev->info = dev->child->info;
    }
    error = dev->driver->open ? dev->driver->open(dev, err) : 0;
    if (error < 0)
        return error;
    error = complete_info(dev, err);
    if (error < 0 && dev->driver->close)
        dev->driver->close(dev);
    return error;
}

static void free_device(struct blk *dev)
{
    if (dev->child)
        blk_close(dev->child);
    if (dev->core) {
        base_mutex_fini(&dev->core->lock);
        base_cond_fini(&dev->core->changed);
        base_free(dev->core->options);
        base_free(dev->core->spec);
    }
    base_free(dev->core);
    base_free(dev->priv);
    base_free(dev);
}

static struct blk *new_device(const struct blk_spec *spec, const char *text, unsigned flags)
{
    struct blk *dev = base_alloc(sizeof(*dev));
    if (!dev)
        return NULL;
    dev->driver = spec->driver;
    dev->argument = spec->argument;
    dev->open_flags = flags;
    dev->priv = base_alloc(spec->driver->priv_size + 1);
    dev->core = base_alloc(sizeof(*dev->core));
    if (dev->core) {
        base_mutex_init(&dev->core->lock);
        base_cond_init(&dev->core->changed);
        list_init(&dev->core->byte_writes);
        dev->core->spec = base_alloc(strlen(text) + 1);
    }
    if (!dev->priv || !dev->core || !dev->core->spec) {
        free_device(dev);
        return NULL;
    }
    memcpy(dev->core->spec, text, strlen(text));
    return dev;
}

/* Messages of the outermost device name the whole spec once. */
static int open_level(const char *text, unsigned flags, unsigned depth, struct blk **out,
                      struct blk_error *err)
{
    struct blk_spec spec;
    if (depth == BLK_SPEC_DEPTH)
        return blk_error_set(err, -EINVAL, "more than %d devices on top of each other",
                             BLK_SPEC_DEPTH);
    int error = blk_spec_parse(text, &spec, err);
    if (error < 0)
        return error;
    struct blk *dev = new_device(&spec, text, flags);
    if (!dev) {
        base_free(spec.text);
        return blk_error_set(err, -ENOMEM, "out of memory");
    }
    dev->core->options = spec.text;
    error = open_driver(dev, &spec, depth, err);
    if (error < 0)
        free_device(dev);
    else
        *out = dev;
    return error;
}

int blk_open(const char *spec, unsigned flags, struct blk **dev, struct blk_error *err)
{
    struct blk_error why = {.text = "cannot be opened"};
    *dev = NULL;
    int error = open_level(spec, flags, 0, dev, &why);
    if (error < 0)
        blk_error_set(err, error, "%.200s: %s", spec, why.text);
    return error;
}

int blk_close(struct blk *dev)
{
    if (__atomic_load_n(&dev->core->queues, __ATOMIC_ACQUIRE))
        return -EBUSY;
    if (dev->driver->close)
        dev->driver->close(dev);
    free_device(dev);
    return 0;
}

const struct blk_info *blk_info(const struct blk *dev)
{
    return &dev->info;
}

const char *blk_spec(const struct blk *dev)
{
    return dev->core->spec;
}

const char *blk_scheme(const struct blk *dev)
{
    return dev->driver->name;
}

struct blk *blk_child(const struct blk *dev)
{
    return dev->child;
}

void blk_report(const struct blk *dev, void (*line)(void *arg, const char *text), void *arg)
{
    for (; dev; dev = dev->child)
        if (dev->driver->report)
            dev->driver->report(dev, line, arg);
}
