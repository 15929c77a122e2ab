/* ram:SIZE - a device whose contents outlive it: an array of the test, so that a filter can be
 * closed, or its power cut, and be opened again on what is left. */
#ifndef TESTS_UNIT_ZONE_RAM_H
#define TESTS_UNIT_ZONE_RAM_H

#include <ashlar/blk_driver.h>

static char ram[4 << 20];
static bool ram_no_discard;

static int ram_open(struct blk *dev, struct blk_error *err)
{
    if (blk_parse_size(dev->argument, &dev->info.size) < 0 || dev->info.size > sizeof(ram))
        return blk_error_set(err, -EINVAL, "the size");
    dev->info.write_zeroes = true;
    dev->info.discard_granularity = ram_no_discard ? 0 : 512;
    return 0;
}

static void ram_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        if (r->op == BLK_READ)
            blk_copy_to_iov(r->iov, r->niov, 0, ram + r->offset, r->len);
        else if (r->op == BLK_WRITE)
            blk_copy_from_iov(r->iov, r->niov, 0, ram + r->offset, r->len);
        else if (r->op == BLK_WRITE_ZEROES || r->op == BLK_DISCARD)
            memset(ram + r->offset, 0, r->len);
        blk_complete(queue, r, 0);
    }
}

static const struct blk_driver ram_driver = {
    .name = "ram",
    .argument = "SIZE",
    .summary = "an array of the test",
    .open = ram_open,
    .submit = ram_submit,
};

#endif
