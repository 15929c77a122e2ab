/* Synchronous helpers: a thin layer over submit and reap. */
#include "blk/core.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

/* Split [offset, offset+len) into requests of at most max bytes, one after the other. */
static int execute_split(struct blk_queue *q, enum blk_op op, uint64_t offset, char *data,
                         uint64_t len, uint64_t max, unsigned flags)
{
    do {
        uint64_t part = min_u64(len, max);
        struct blk_req r;
        if (data)
            blk_req_data(&r, op, offset, data, part);
        else
            blk_req_init(&r, op, offset, part);
        r.flags = (uint8_t)flags;
        int error = blk_execute(q, &r);
        if (error < 0)
            return error;
        offset += part;
        len -= part;
        if (data)
            data += part;
    } while (len);
    return 0;
}

/* A wrong range fails whole, before its first part is done. */
static int check_whole(const struct blk_queue *q, uint64_t offset, uint64_t len)
{
    return range_ok(offset, len, q->dev->info.size) ? 0 : -ERANGE;
}

int blk_read(struct blk_queue *q, uint64_t offset, void *data, size_t len)
{
    int error = check_whole(q, offset, len);
    return error < 0 ? error
                     : execute_split(q, BLK_READ, offset, data, len, q->dev->info.max_transfer, 0);
}

int blk_write(struct blk_queue *q, uint64_t offset, const void *data, size_t len, unsigned flags)
{
    int error = check_whole(q, offset, len);
    return error < 0 ? error
                     : execute_split(q, BLK_WRITE, offset, (char *)(uintptr_t)data, len,
                                     q->dev->info.max_transfer, flags);
}

int blk_flush(struct blk_queue *q)
{
    struct blk_req r;
    blk_req_init(&r, BLK_FLUSH, 0, 0);
    return blk_execute(q, &r);
}

int blk_discard(struct blk_queue *q, uint64_t offset, uint64_t len)
{
    return execute_split(q, BLK_DISCARD, offset, NULL, len, UINT64_MAX, 0);
}

static int write_zero_blocks(struct blk_queue *q, uint64_t offset, uint64_t len, unsigned flags)
{
    uint64_t size = max_u64(q->dev->info.block_size, min_u64(256 << 10, q->dev->info.max_transfer));
    size = round_down(min_u64(size, q->dev->info.max_transfer), q->dev->info.block_size);
    char *zeroes = base_alloc_aligned(BASE_PAGE, size);
    if (!zeroes)
        return -ENOMEM;
    int error = 0;
    while (!error && len) {
        uint64_t part = min_u64(len, size);
        error = blk_write(q, offset, zeroes, part, flags & BLK_FUA);
        offset += part;
        len -= part;
    }
    base_free(zeroes);
    return error;
}

int blk_write_zeroes(struct blk_queue *q, uint64_t offset, uint64_t len, unsigned flags)
{
    int error = execute_split(q, BLK_WRITE_ZEROES, offset, NULL, len, UINT64_MAX, flags);
    if (error != -ENOTSUP || (flags & BLK_FAST_ZERO))
        return error;
    error = check_whole(q, offset, len);
    if (error == 0 && (!len || ((offset | len) & (q->dev->info.block_size - 1))))
        error = -EINVAL;
    return error < 0 ? error : write_zero_blocks(q, offset, len, flags);
}

int blk_status(struct blk_queue *q, uint64_t offset, uint64_t len, struct blk_extent *extents,
               unsigned max)
{
    struct blk_req r;
    blk_req_data(&r, BLK_STATUS, offset, extents, max * sizeof(*extents));
    r.len = len;
    int error = blk_execute(q, &r);
    return error < 0 ? error : (int)r.count;
}

void blk_status_one(struct blk_req *req, uint64_t len, unsigned flags)
{
    struct blk_extent *e = req->iov[0].iov_base;
    e->len = len;
    e->flags = flags;
    e->reserved = 0;
    req->count = 1;
}

/* Copy len bytes between flat memory and the bytes of iov from skip on. */
static void copy_iov(const struct iovec *iov, unsigned niov, size_t skip, char *data, size_t len,
                     bool to_iov)
{
    for (unsigned i = 0; i < niov && len; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        char *place = (char *)iov[i].iov_base + skip;
        size_t part = min_u64(len, iov[i].iov_len - skip);
        if (to_iov)
            memcpy(place, data, part);
        else
            memcpy(data, place, part);
        data += part;
        len -= part;
        skip = 0;
    }
}

void blk_copy_to_iov(const struct iovec *iov, unsigned niov, size_t skip, const void *data,
                     size_t len)
{
    copy_iov(iov, niov, skip, (char *)(uintptr_t)data, len, true);
}

void blk_copy_from_iov(const struct iovec *iov, unsigned niov, size_t skip, void *data, size_t len)
{
    copy_iov(iov, niov, skip, data, len, false);
}
