/* Operations and reports of zones. */
#include "linux/ublk/zone.h"

#include <errno.h>

#include "base/util.h"
#include "linux/zone_abi.h"

int ublk_zone_op(unsigned op)
{
    switch (op) {
    case UBLK_IO_OP_ZONE_OPEN:
        return BLK_ZONE_OPEN;
    case UBLK_IO_OP_ZONE_CLOSE:
        return BLK_ZONE_CLOSE;
    case UBLK_IO_OP_ZONE_FINISH:
        return BLK_ZONE_FINISH;
    case UBLK_IO_OP_ZONE_APPEND:
        return BLK_ZONE_APPEND;
    case UBLK_IO_OP_ZONE_RESET:
    case UBLK_IO_OP_ZONE_RESET_ALL:
        return BLK_ZONE_RESET;
    case UBLK_IO_OP_REPORT_ZONES:
        return BLK_ZONE_REPORT;
    default:
        return -ENOTSUP;
    }
}

int ublk_zone_ask(struct blk_req *req, const struct ublksrv_io_desc *desc, void *data, size_t size)
{
    uint64_t zones = min_u64(desc->nr_sectors, size / sizeof(struct linux_zone));
    if (!zones)
        return -EINVAL;
    blk_req_data(req, BLK_ZONE_REPORT, desc->start_sector << LINUX_SECTOR_SHIFT, data,
                 zones * sizeof(struct blk_zone));
    return 0;
}

static struct linux_zone translate(const struct blk_zone *b)
{
    bool conventional = b->state == BLK_ZONE_NO_WP;
    return (struct linux_zone){
        .start = b->start >> LINUX_SECTOR_SHIFT,
        .len = b->len >> LINUX_SECTOR_SHIFT,
        .wp = b->wp >> LINUX_SECTOR_SHIFT,
        .type = conventional ? LINUX_ZONE_CONVENTIONAL : LINUX_ZONE_SEQUENTIAL,
        .cond = conventional ? LINUX_ZONE_NOT_WP : (uint8_t)b->state,
        .capacity = b->capacity >> LINUX_SECTOR_SHIFT,
    };
}

/* The kernel's are larger. From the last on, no zone is overwritten before it was read. */
_Static_assert(sizeof(struct linux_zone) >= sizeof(struct blk_zone), "in place, from the end");

size_t ublk_zone_answer(const struct blk_req *req)
{
    char *data = req->iov[0].iov_base;
    for (uint32_t i = req->count; i-- > 0;) {
        struct blk_zone b;
        memcpy(&b, data + i * sizeof(b), sizeof(b));
        struct linux_zone k = translate(&b);
        memcpy(data + i * sizeof(k), &k, sizeof(k));
    }
    return req->count * sizeof(struct linux_zone);
}
