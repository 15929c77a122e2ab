/*
 * Requests and the device.
 *
 * A request becomes one blk_req after the other: parts no larger than the device takes, then
 * perhaps a flush. What does not suit the device (offset or length between its blocks) goes through
 * the synchronous byte helpers, which is slow and right.
 */
#include "linux/nbd/conn.h"

#include <errno.h>

#include "base/util.h"

/* ---- towards the device ---------------------------------------------------------------- */

static void finish(struct nbd_conn *c, struct nbd_slot *s, int error)
{
    s->error = nbd_error_of(error);
    /* The protocol keeps this one for the fast-zero flag. */
    if (s->error == NBD_ENOTSUP && !(s->request.flags & NBD_CMD_FLAG_FAST_ZERO))
        s->error = NBD_EINVAL;
    if (error < 0)
        s->message = "the device could not do this";
    nbd_reply(c, s);
}

static void gather(struct nbd_conn *c, struct nbd_slot *s)
{
    s->submitted = true;
    c->batch[c->batch_count++] = &s->req;
    if (s->req.iov)
        c->batch_bytes += s->req.len;
}

void nbd_request_submit(struct nbd_conn *c)
{
    /* The queue has a place for each slot, so all are accepted. */
    if (c->batch_count)
        blk_submit(c->queue, c->batch, c->batch_count);
    c->batch_count = 0;
    c->batch_bytes = 0;
}

static bool suits(const struct blk_info *i, const struct nbd_request *r)
{
    return !((r->offset | r->len) & (i->block_size - 1)) && !(r->len & (i->buf_align - 1));
}

static uint64_t part_max(const struct blk_info *i)
{
    return round_down(i->max_transfer, max_u64(i->block_size, i->buf_align));
}

static unsigned fua(const struct nbd_slot *s)
{
    return s->request.flags & NBD_CMD_FLAG_FUA ? BLK_FUA : 0;
}

/* ---- read and write -------------------------------------------------------------------- */

/* How much of the data may move now: of a write, what was received. */
static uint64_t present(const struct nbd_conn *c, const struct nbd_slot *s)
{
    return s == c->filling ? c->filled : s->request.len;
}

/* The next part, if there is one to do now. A large write goes to the device in pieces while the
 * rest is still on its way, so that the client, the copy from the socket and the device work at
 * the same time. (One with FUA goes whole: it is made durable once.) */
static void next_part(struct nbd_conn *c, struct nbd_slot *s)
{
    const struct nbd_request *r = &s->request;
    uint64_t missing = r->len - present(c, s);
    uint64_t ready = s->end - s->at - missing;
    uint64_t piece = max_u64(NBD_PIECE, max_u64(c->info->block_size, c->info->buf_align));
    if (missing && (ready < piece || fua(s)))
        return;
    uint64_t len = min_u64(missing ? round_down(ready, piece) : ready, part_max(c->info));
    blk_req_data(&s->req, r->type == NBD_CMD_READ ? BLK_READ : BLK_WRITE, s->at,
                 s->data + (s->at - r->offset), len);
    if (r->type == NBD_CMD_WRITE)
        s->req.flags = (uint8_t)fua(s);
    s->at += len;
    gather(c, s);
}

static void start_data(struct nbd_conn *c, struct nbd_slot *s)
{
    const struct nbd_request *r = &s->request;
    s->at = r->offset;
    s->end = r->offset + r->len;
    if (!r->len)
        finish(c, s, 0);
    else if (suits(c->info, r) && part_max(c->info))
        next_part(c, s);
    else if (present(c, s) < r->len)
        return;
    else if (r->type == NBD_CMD_READ)
        finish(c, s, blk_read_bytes(c->queue, r->offset, s->data, r->len));
    else
        finish(c, s, blk_write_bytes(c->queue, r->offset, s->data, r->len, fua(s)));
}

void nbd_request_more(struct nbd_conn *c, struct nbd_slot *s)
{
    if (s->submitted)
        return;
    if (s->at == s->request.offset)
        start_data(c, s);
    else
        next_part(c, s);
}

void nbd_request_abandon(struct nbd_conn *c, struct nbd_slot *s)
{
    if (s->submitted)
        s->abandoned = true;
    else
        nbd_slot_give(c, s);
}

/* ---- write zeroes ---------------------------------------------------------------------- */

/* The whole blocks in [offset, offset+len): none if at >= end. */
static void inner_blocks(const struct nbd_conn *c, struct nbd_slot *s)
{
    uint64_t block = c->info->block_size;
    s->at = round_up(s->request.offset, block);
    s->end = round_down(s->request.offset + s->request.len, block);
}

/* Zeroes in any bytes, at once. */
static int zero_bytes(struct nbd_conn *c, struct nbd_slot *s, uint64_t from, uint64_t to)
{
    int error = 0;
    while (error == 0 && from < to) {
        uint64_t len = min_u64(to - from, NBD_ZEROES);
        error = blk_write_bytes(c->queue, from, c->service->zeroes, len, fua(s));
        from += len;
    }
    return error;
}

/* After the whole blocks are done: the parts of blocks at the edges. */
static void zero_edges(struct nbd_conn *c, struct nbd_slot *s)
{
    const struct nbd_request *r = &s->request;
    uint64_t block = c->info->block_size, stop = r->offset + r->len;
    uint64_t head_end = min_u64(round_up(r->offset, block), stop);
    int error = zero_bytes(c, s, r->offset, head_end);
    if (error == 0)
        error = zero_bytes(c, s, max_u64(round_down(stop, block), head_end), stop);
    finish(c, s, error);
}

/* Zeroes as data, a part at a time. */
static void next_zeroes(struct nbd_conn *c, struct nbd_slot *s)
{
    uint64_t len = min_u64(s->end - s->at, min_u64(NBD_ZEROES, part_max(c->info)));
    if (!len || len & (c->info->buf_align - 1)) {
        finish(c, s, zero_bytes(c, s, s->request.offset, s->request.offset + s->request.len));
        return;
    }
    blk_req_write(&s->req, s->at, c->service->zeroes, len);
    s->req.flags = (uint8_t)fua(s);
    s->at += len;
    gather(c, s);
}

static void start_zeroes(struct nbd_conn *c, struct nbd_slot *s)
{
    unsigned flags = s->request.flags;
    if ((flags & NBD_CMD_FLAG_FAST_ZERO) && !(c->info->write_zeroes && c->info->fast_zero)) {
        finish(c, s, -ENOTSUP);
        return;
    }
    inner_blocks(c, s);
    if (s->at >= s->end) {
        zero_edges(c, s);
        return;
    }
    if (!c->info->write_zeroes) {
        s->step = NBD_STEP_ZEROES;
        next_zeroes(c, s);
        return;
    }
    blk_req_init(&s->req, BLK_WRITE_ZEROES, s->at, s->end - s->at);
    s->req.flags = (uint8_t)(fua(s) | (flags & NBD_CMD_FLAG_NO_HOLE ? BLK_NO_UNMAP : 0) |
                             (flags & NBD_CMD_FLAG_FAST_ZERO ? BLK_FAST_ZERO : 0));
    gather(c, s);
}

/* ---- the others ------------------------------------------------------------------------ */

static void start_flush(struct nbd_conn *c, struct nbd_slot *s)
{
    s->step = NBD_STEP_FLUSH;
    blk_req_init(&s->req, BLK_FLUSH, 0, 0);
    gather(c, s);
}

/* A hint: of blocks that are not whole nothing is discarded. */
static void start_trim(struct nbd_conn *c, struct nbd_slot *s)
{
    inner_blocks(c, s);
    if (s->at >= s->end) {
        finish(c, s, 0);
        return;
    }
    blk_req_init(&s->req, BLK_DISCARD, s->at, s->end - s->at);
    gather(c, s);
}

static void start_status(struct nbd_conn *c, struct nbd_slot *s)
{
    const struct nbd_request *r = &s->request;
    uint64_t block = c->info->block_size;
    s->at = round_down(r->offset, block);
    s->end = round_up(r->offset + r->len, block);
    blk_req_data(&s->req, BLK_STATUS, s->at, s->data,
                 NBD_STATUS_EXTENTS * sizeof(struct blk_extent));
    s->req.len = s->end - s->at;
    gather(c, s);
}

void nbd_request_start(struct nbd_conn *c, struct nbd_slot *s)
{
    switch (s->request.type) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        start_data(c, s);
        break;
    case NBD_CMD_FLUSH:
        start_flush(c, s);
        break;
    case NBD_CMD_TRIM:
        start_trim(c, s);
        break;
    case NBD_CMD_WRITE_ZEROES:
        start_zeroes(c, s);
        break;
    case NBD_CMD_BLOCK_STATUS:
        start_status(c, s);
        break;
    default: /* NBD_CMD_CACHE: a hint that needs nothing */
        finish(c, s, 0);
    }
}

/* ---- back from the device -------------------------------------------------------------- */

/* Append a descriptor, or make the last one longer if it says the same. Returns how many there
 * are. */
static uint32_t add_descriptor(char *list, uint32_t n, uint32_t len, uint32_t state)
{
    char *place = list + (size_t)8 * n;
    if (n && load_be32(place - 4) == state) {
        store_be32(place - 8, load_be32(place - 8) + len);
        return n;
    }
    store_be32(place, len);
    store_be32(place + 4, state);
    return n + 1;
}

/* The descriptors of the answer, in place of the extents, clipped to the range asked for. */
static int put_descriptors(struct nbd_slot *s)
{
    const struct nbd_request *r = &s->request;
    const struct blk_extent *extents = (const void *)s->data;
    uint64_t at = s->at, from = r->offset, stop = r->offset + r->len;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->req.count && from < stop; i++) {
        uint32_t state = (extents[i].flags & BLK_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |
                         (extents[i].flags & BLK_EXTENT_ZERO ? NBD_STATE_ZERO : 0);
        at += min_u64(extents[i].len, UINT64_MAX - at);
        if (at <= from)
            continue;
        n = add_descriptor(s->data, n, (uint32_t)(min_u64(at, stop) - from), state);
        from = at;
    }
    if (r->flags & NBD_CMD_FLAG_REQ_ONE && n > 1)
        n = 1;
    s->body_len = 8 * n;
    return n ? 0 : -EIO;
}

/* A part of a write failed while payload is still coming: that must be taken off the stream. */
static void stop_filling(struct nbd_conn *c, struct nbd_slot *s)
{
    if (s != c->filling)
        return;
    c->skip = s->request.len - c->filled;
    c->filling = NULL;
}

/* One part is done: go on with the next, or answer. */
static void go_on(struct nbd_conn *c, struct nbd_slot *s)
{
    const struct nbd_request *r = &s->request;
    int error = s->req.result;
    s->submitted = false;
    if (s->abandoned) {
        nbd_slot_give(c, s);
        return;
    }
    if (r->type == NBD_CMD_WRITE_ZEROES && s->step == NBD_STEP_MAIN && error == -ENOTSUP &&
        !(r->flags & NBD_CMD_FLAG_FAST_ZERO)) {
        s->step = NBD_STEP_ZEROES;
        error = 0;
    } else if (r->type == NBD_CMD_WRITE_ZEROES && s->step == NBD_STEP_MAIN) {
        s->at = s->end;
    }
    if (error < 0 || s->step == NBD_STEP_FLUSH) {
        stop_filling(c, s);
        finish(c, s, error);
        return;
    }
    switch (r->type) {
    case NBD_CMD_WRITE_ZEROES:
        if (s->at < s->end)
            next_zeroes(c, s);
        else
            zero_edges(c, s);
        break;
    case NBD_CMD_TRIM:
        if (fua(s))
            start_flush(c, s);
        else
            finish(c, s, 0);
        break;
    case NBD_CMD_BLOCK_STATUS:
        finish(c, s, put_descriptors(s));
        break;
    default:
        if (s->at < s->end)
            next_part(c, s);
        else
            finish(c, s, 0);
    }
}

bool nbd_request_reap(struct nbd_conn *c)
{
    struct blk_req *done[64];
    bool any = false;
    unsigned n;
    if (!c->queue)
        return false;
    do {
        n = blk_reap(c->queue, done, 64, 0);
        for (unsigned i = 0; i < n; i++)
            go_on(c, done[i]->user);
        any |= n > 0;
        nbd_request_submit(c);
    } while (n);
    return any;
}
