/* null:SIZE - accepts writes and forgets them; shows what everything above the device costs. */
#include <ashlar/blk_driver.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct null {
    uint64_t block;
    bool zeroes;
};

static int null_open(struct blk *dev, struct blk_error *err)
{
    const struct null *null = dev->priv;
    if (blk_parse_size(dev->argument, &dev->info.size) < 0)
        return blk_error_set(err, -EINVAL, "the size must be like 512M or 1G, not '%.64s'",
                             dev->argument);
    if (null->block > 1 << 20)
        return blk_error_set(err, -EINVAL, "block must be at most 1M");
    dev->info.block_size = (uint32_t)null->block;
    dev->info.discard_granularity = (uint32_t)null->block;
    dev->info.write_zeroes = true;
    dev->info.fast_zero = true;
    return 0;
}

static void null_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    const struct null *null = queue->dev->priv;
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        if (r->op == BLK_READ && null->zeroes)
            for (unsigned k = 0; k < r->niov; k++)
                memset(r->iov[k].iov_base, 0, r->iov[k].iov_len);
        blk_complete(queue, r, 0);
    }
}

static const struct blk_option null_options[] = {
    {"block", BLK_OPT_SIZE, offsetof(struct null, block), "512", "logical block size"},
    {"zeroes", BLK_OPT_BOOL, offsetof(struct null, zeroes), "off",
     "reads give zeroes; off: reads leave the buffer as it is"},
    {0},
};

const struct blk_driver blk_null = {
    .name = "null",
    .argument = "SIZE",
    .summary = "forgets writes, reads nothing: the cost of all that is above a device",
    .options = null_options,
    .priv_size = sizeof(struct null),
    .open = null_open,
    .submit = null_submit,
};
