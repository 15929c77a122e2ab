/* linux/ublk/zone.h: what the kernel asks of zoned devices, in our words. */
#ifndef UBLK_ZONE_H
#define UBLK_ZONE_H

#include <ashlar/blk.h>

#include "linux/ublk/abi.h"

/* Our operation for one of the kernel's on zones, or -ENOTSUP. RESET_ALL is a reset. */
int ublk_zone_op(unsigned op);

/* Make the request for a report that the kernel describes; data has room for size bytes. 0, or
 * -EINVAL. */
int ublk_zone_ask(struct blk_req *req, const struct ublksrv_io_desc *desc, void *data, size_t size);

/* Turn its answer into the kernel's, in the same memory. Returns how many bytes those are. */
size_t ublk_zone_answer(const struct blk_req *req);

#endif
