/*
 * Opening a zoned device whose table is any bytes, and using it. The first byte chooses whether
 * magic numbers and checksums are put right first, so that what lies behind them is reached too.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <ashlar/blk_driver.h>
#include <ashlar/zone.h>

#include "zone/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE (256u << 10)

static uint8_t disk[SIZE];

static int disk_open(struct blk *dev, struct blk_error *err)
{
    (void)err;
    dev->info.size = SIZE;
    dev->info.write_zeroes = true;
    dev->info.discard_granularity = 512;
    return 0;
}

/* A request that reaches past the end would be the core's or the filter's mistake. */
static void disk_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct blk_req *r = reqs[i];
        if (r->op != BLK_FLUSH && !range_ok(r->offset, r->len, SIZE))
            abort();
        if (r->op == BLK_READ)
            blk_copy_to_iov(r->iov, r->niov, 0, disk + r->offset, r->len);
        else if (r->op == BLK_WRITE)
            blk_copy_from_iov(r->iov, r->niov, 0, disk + r->offset, r->len);
        else if (r->op == BLK_WRITE_ZEROES || r->op == BLK_DISCARD)
            memset(disk + r->offset, 0, r->len);
        blk_complete(queue, r, 0);
    }
}

static const struct blk_driver disk_driver = {
    .name = "disk",
    .summary = "bytes of the fuzzer",
    .open = disk_open,
    .submit = disk_submit,
};

/* The header and the first pages. What follows the header in the input are the pages, without the
 * zeroes in between. */
static void mend(bool pages)
{
    struct zns_geometry g;
    memcpy(disk, ZNS_MAGIC, 8);
    store_le32(disk + 8, ZNS_VERSION);
    store_le32(disk + ZNS_CRC_AT, zns_crc(disk, ZNS_CRC_AT, ZNS_HEADER));
    zns_header_decode(disk, &g);
    for (uint32_t i = 0; pages && g.page_size == ZNS_PAGE && i < 8; i++) {
        uint8_t *page = disk + ZNS_PAGE * (1 + i);
        uint64_t sequence = (load_le64(page + 16) & ~UINT64_C(1)) | (i & 1);
        uint32_t holes = load_le32(page + 28);
        zns_page_seal(page, g.id, sequence, i / 2, holes % 600);
    }
}

static void use(struct blk *dev)
{
    const struct blk_info *i = blk_info(dev);
    static char data[64 << 10];
    struct blk_queue *q;
    struct blk_zone z;
    uint64_t place;
    if (blk_queue_open(dev, 4, &q) < 0)
        abort();
    for (uint64_t at = 0; at < i->size && at < 40 * i->zone_size; at += i->zone_size) {
        if (blk_zone_report(q, at, &z, 1) != 1 || z.start != at || z.wp < z.start ||
            z.wp > z.start + z.len || !blk_zone_state_name(z.state))
            abort();
        size_t len = min_u64(sizeof(data), i->max_transfer);
        blk_read(q, at, data, min_u64(len, i->size - at));
        blk_zone_append(q, at, data, i->block_size, at % 3 ? 0 : BLK_FUA, &place);
        if (at / i->zone_size % 4 == 1)
            blk_zone_finish(q, at);
        if (at / i->zone_size % 4 == 2)
            blk_zone_reset(q, at);
    }
    blk_zone_all(q, BLK_ZONE_CLOSE);
    if (blk_flush(q) < 0)
        abort();
    blk_queue_close(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool registered;
    struct blk *dev;
    struct blk_error err;
    if (!registered)
        registered = blk_driver_register(&disk_driver) == 0;
    if (!size)
        return 0;
    memset(disk, 0, sizeof(disk));
    memcpy(disk, data + 1, min_u64(size - 1, ZNS_HEADER));
    if (size > 1 + ZNS_HEADER)
        memcpy(disk + ZNS_PAGE, data + 1 + ZNS_HEADER,
               min_u64(size - 1 - ZNS_HEADER, SIZE - ZNS_PAGE));
    if (data[0] & 1)
        mend(data[0] & 2);
    if (blk_open(data[0] & 4 ? "zns?zone=16K,disk" : "zns,disk", 0, &dev, &err) < 0)
        return 0;
    use(dev);
    blk_close(dev);
    /* What it wrote can be opened again. */
    if (blk_open("zns,disk", 0, &dev, &err) < 0)
        abort();
    blk_close(dev);
    return 0;
}
