/* readonly,DEVICE - refuses every operation that modifies; the core does it when info says so. */
#include <ashlar/blk_driver.h>

static int readonly_open(struct blk *dev, struct blk_error *err)
{
    (void)err;
    dev->info.read_only = true;
    return 0;
}

const struct blk_driver blk_readonly = {
    .name = "readonly",
    .summary = "refuses writes",
    .flags = BLK_DRIVER_FILTER | BLK_DRIVER_NO_DATA,
    .open = readonly_open,
};
