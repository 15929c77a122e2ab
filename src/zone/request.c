/*
 * The way of a request: writes get their place, reads learn what was not written, operations on
 * zones change them, and what must be durable waits for a commit.
 */
#include <errno.h>

#include "zone/zns.h"

int zns_queue_open(struct blk_queue *queue)
{
    struct zns_queue *q = queue->priv;
    q->waiting_tail = &q->waiting;
    return 0;
}

/* Put it behind those of this queue that wait for a commit. */
static void wait_for_commit(struct blk_queue *queue, struct blk_req *r, bool flush)
{
    struct zns_queue *q = queue->priv;
    struct zns_slot *s = blk_slot(queue, r);
    r->next = NULL;
    *q->waiting_tail = r;
    q->waiting_tail = &r->next;
    zns_commit_ask(queue->dev->priv, &s->waiter, flush);
}

static void forward(struct blk_queue *queue, struct blk_req *r)
{
    struct zns_queue *q = queue->priv;
    q->below++;
    blk_forward(queue, &r, 1);
}

/* ---- reads ------------------------------------------------------------------------------- */

static void zero_part(const struct blk_req *r, uint64_t skip, uint64_t len)
{
    for (unsigned i = 0; i < r->niov && len; i++) {
        size_t size = r->iov[i].iov_len;
        if (skip < size) {
            size_t part = min_u64(len, size - skip);
            memset((char *)r->iov[i].iov_base + skip, 0, part);
            len -= part;
            skip = size;
        }
        skip -= size;
    }
}

/* The part of a read that lies in its first (0) or second (1) zone. */
struct part {
    uint32_t index;      /* of the zone */
    uint64_t start, end; /* in the zone */
    uint64_t skip;       /* in the request */
};

static bool get_part(const struct zns *z, uint64_t offset, uint64_t len, unsigned which,
                     struct part *p)
{
    uint64_t start = offset & (z->g.zone_size - 1);
    uint64_t first = min_u64(len, z->g.zone_size - start);
    *p = (struct part){.index = zns_index(z, offset), .start = start, .end = start + first};
    if (!which)
        return true;
    *p = (struct part){.index = p->index + 1, .end = len - first, .skip = first};
    return len > first;
}

/* A read that is not all within the written part of one zone. 1: it goes down; 0: it is complete,
 * all zeroes; or an error. */
static int begin_patched(struct zns *z, struct zns_slot *s, const struct blk_req *r)
{
    bool any = false;
    struct part p;
    s->kind = ZNS_PATCH;
    for (unsigned i = 0; i < 2 && get_part(z, r->offset, r->len, i, &p); i++) {
        struct zns_zone *zone = &z->zone[p.index];
        s->wp[i] = z->g.zone_size;
        if (p.index >= z->g.conventional) {
            base_mutex_lock(&zone->lock);
            bool offline = zone->state == BLK_ZONE_OFFLINE;
            s->wp[i] = zone->wp;
            base_mutex_unlock(&zone->lock);
            if (offline)
                return -BLK_ZONE_IS_OFFLINE;
        }
        any |= p.start < s->wp[i];
    }
    if (!any)
        zero_part(r, 0, r->len);
    return any;
}

/* Zeroes where there was nothing when it was submitted, or is nothing now. r->offset is the
 * caller's. */
static void end_patched(struct zns *z, const struct zns_slot *s, const struct blk_req *r)
{
    struct part p;
    for (unsigned i = 0; i < 2 && get_part(z, r->offset, r->len, i, &p); i++) {
        struct zns_zone *zone = &z->zone[p.index];
        if (p.index < z->g.conventional)
            continue;
        base_mutex_lock(&zone->lock);
        uint64_t wp = max_u64(min_u64(s->wp[i], zone->wp), p.start);
        if (wp < p.end)
            zero_part(r, p.skip + (wp - p.start), p.end - wp);
        for (unsigned k = 0; k < zone->hole_count; k++) {
            uint64_t start = (uint64_t)zone->hole[k].start << z->block_shift;
            uint64_t end = start + ((uint64_t)zone->hole[k].len << z->block_shift);
            start = max_u64(start, p.start);
            end = min_u64(end, p.end);
            if (start < end)
                zero_part(r, p.skip + (start - p.start), end - start);
        }
        base_mutex_unlock(&zone->lock);
    }
}

static int begin_read(struct zns *z, struct zns_slot *s, const struct blk_req *r)
{
    const struct zns_zone *zone = &z->zone[zns_index(z, r->offset)];
    uint64_t start = r->offset & (z->g.zone_size - 1);
    s->kind = ZNS_PLAIN;
    if (r->offset + r->len <= z->conventional_end)
        return 1;
    if (start + r->len <= __atomic_load_n(&zone->wp, __ATOMIC_ACQUIRE) &&
        !__atomic_load_n(&zone->special, __ATOMIC_ACQUIRE))
        return 1;
    return begin_patched(z, s, r);
}

/* ---- writes ------------------------------------------------------------------------------ */

static int begin_write(struct zns *z, struct zns_slot *s, struct blk_req *r)
{
    bool append = r->op == BLK_ZONE_APPEND;
    s->kind = ZNS_PLAIN;
    if (r->offset < z->conventional_end) {
        if (append)
            return -BLK_ZONE_INVALID_WRITE;
        return r->offset + r->len <= z->conventional_end ? 1 : -BLK_ZONE_BOUNDARY_ERROR;
    }
    s->zone = &z->zone[zns_index(z, r->offset)];
    s->start = r->offset & (z->g.zone_size - 1);
    s->len = r->len;
    int error = zns_write_begin(z, s, append);
    if (error < 0)
        return error;
    s->kind = ZNS_WRITE;
    if (append) {
        r->op = BLK_WRITE;
        r->offset += s->start;
    }
    return 1;
}

/* ---- answers from memory ----------------------------------------------------------------- */

static void report(struct zns *z, struct blk_req *r)
{
    struct blk_zone *out = r->iov[0].iov_base;
    size_t room = r->iov[0].iov_len / sizeof(*out);
    uint32_t index = zns_index(z, r->offset);
    for (r->count = 0; r->count < room && index < z->g.zone_count; index++)
        zns_zone_describe(z, index, &out[r->count++]);
}

/* Data up to the write pointer, then a hole. So many zones at once, for it takes its time. */
#define STATUS_ZONES 4096

static void status(struct zns *z, struct blk_req *r)
{
    struct blk_extent *e = r->iov[0].iov_base;
    size_t room = r->iov[0].iov_len / sizeof(*e);
    uint64_t at = r->offset, end = r->offset + r->len;
    uint64_t first = zns_index(z, at);
    for (r->count = 0; at < end;) {
        uint32_t index = zns_index(z, at);
        if (index >= first + STATUS_ZONES)
            break;
        uint64_t start = (uint64_t)index << z->shift, stop = start + z->g.zone_size;
        uint64_t wp = z->g.zone_size;
        if (index >= z->g.conventional)
            wp = __atomic_load_n(&z->zone[index].wp, __ATOMIC_ACQUIRE);
        bool data = at < start + wp;
        stop = data ? start + wp : stop;
        unsigned flags = data ? 0 : BLK_EXTENT_HOLE | BLK_EXTENT_ZERO;
        if (r->count && e[r->count - 1].flags == flags)
            e[r->count - 1].len += stop - at;
        else if (r->count == room)
            break;
        else
            e[r->count++] = (struct blk_extent){.len = stop - at, .flags = flags};
        at = stop;
    }
}

/* ---- operations on zones ----------------------------------------------------------------- */

/* 1: it waits for a commit; 0 or an error: it is complete. Of several zones the error of one is
 * told when the others are durable. */
static int finish(struct zns *z, struct zns_slot *s, const struct blk_req *r)
{
    if (!(r->flags & BLK_ZONE_ALL)) {
        int error = zns_zone_finish(z, &z->zone[zns_index(z, r->offset)]);
        return error < 0 ? error : 1;
    }
    s->result = zns_finish_all(z);
    return 1;
}

static int reset(struct zns *z, struct zns_slot *s, const struct blk_req *r)
{
    bool all = r->flags & BLK_ZONE_ALL, any = false;
    s->kind = ZNS_RESET;
    s->cursor = all ? z->g.conventional : zns_index(z, r->offset);
    s->limit = all ? z->g.zone_count : s->cursor + 1;
    for (uint32_t i = s->cursor; i < s->limit; i++) {
        int got = zns_reset_begin(z, &z->zone[i], r, all);
        any |= got > 0;
        if (got < 0 && s->result == 0)
            s->result = got;
    }
    return any ? 1 : s->result;
}

static int begin_zone(struct zns *z, struct zns_slot *s, const struct blk_req *r)
{
    bool all = r->flags & BLK_ZONE_ALL;
    struct zns_zone *zone = all ? NULL : &z->zone[zns_index(z, r->offset)];
    s->kind = ZNS_WAIT;
    if (!all && r->offset < z->conventional_end)
        return -BLK_ZONE_INVALID_STATE_TRANSITION;
    switch (r->op) {
    case BLK_ZONE_OPEN:
        return all ? zns_open_all(z) : zns_zone_open(z, zone);
    case BLK_ZONE_CLOSE:
        return all ? zns_close_all(z) : zns_zone_close(z, zone);
    case BLK_ZONE_FINISH:
        return finish(z, s, r);
    default:
        return reset(z, s, r);
    }
}

/* The table says that the zones are empty, or it could not be written. Their space is given back,
 * one after the other, and each is then empty. */
static void advance_reset(struct blk_queue *queue, struct blk_req *r, int error)
{
    struct zns *z = queue->dev->priv;
    struct zns_slot *s = blk_slot(queue, r);
    for (; s->cursor < s->limit; s->cursor++) {
        struct zns_zone *zone = &z->zone[s->cursor];
        base_mutex_lock(&zone->lock);
        bool mine = zone->resetting == r;
        base_mutex_unlock(&zone->lock);
        if (!mine)
            continue;
        if (error == 0 && z->discard && zone->wp) {
            r->op = BLK_DISCARD;
            r->flags = 0;
            r->offset = z->g.data_start + (uint64_t)s->cursor * z->g.zone_size;
            r->len = zone->wp;
            forward(queue, r);
            return;
        }
        zns_reset_end(z, zone, error == 0);
    }
    blk_complete(queue, r, error < 0 ? error : s->result);
}

/* A zone's space was given back, or could not be, which harms nobody. */
static void discarded(struct blk_queue *queue, struct blk_req *r)
{
    struct zns *z = queue->dev->priv;
    struct zns_slot *s = blk_slot(queue, r);
    r->op = s->op;
    r->flags = s->flags;
    r->offset = s->offset;
    r->len = s->request_len;
    zns_reset_end(z, &z->zone[s->cursor++], true);
    advance_reset(queue, r, 0);
}

/* ---- down -------------------------------------------------------------------------------- */

/* 1: the request goes down as it now is; 2: it waits; else it is complete. */
static int begin(struct blk_queue *queue, struct blk_req *r)
{
    struct zns *z = queue->dev->priv;
    struct zns_slot *s = blk_slot(queue, r);
    int result = 0;
    s->kind = ZNS_PLAIN;
    s->op = r->op;
    s->flags = r->flags;
    s->offset = r->offset;
    s->request_len = r->len;
    s->result = 0;
    switch (r->op) {
    case BLK_READ:
        result = begin_read(z, s, r);
        break;
    case BLK_WRITE:
    case BLK_WRITE_ZEROES:
    case BLK_ZONE_APPEND:
        result = begin_write(z, s, r);
        break;
    case BLK_DISCARD:
        result = r->offset + r->len <= z->conventional_end ? 1 : -ENOTSUP;
        break;
    case BLK_FLUSH:
        s->kind = ZNS_WAIT;
        result = z->read_only ? 1 : 2;
        break;
    case BLK_STATUS:
        status(z, r);
        break;
    case BLK_ZONE_REPORT:
        report(z, r);
        break;
    default:
        result = begin_zone(z, s, r);
        return result == 1 ? 2 : result;
    }
    if (result == 1 && r->op != BLK_FLUSH)
        r->offset += z->g.data_start;
    return result;
}

void zns_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n)
{
    struct zns *z = queue->dev->priv;
    struct zns_queue *q = queue->priv;
    unsigned run = 0;
    bool waits = false;
    for (unsigned i = 0; i <= n; i++) {
        int result = i < n ? begin(queue, reqs[i]) : 0;
        if (result == 1)
            continue;
        if (i > run) {
            q->below += i - run;
            blk_forward(queue, reqs + run, i - run);
        }
        run = i + 1;
        if (result == 2) {
            wait_for_commit(queue, reqs[i], reqs[i]->op == BLK_FLUSH);
            waits = true;
        } else if (i < n) {
            blk_complete(queue, reqs[i], result);
        }
    }
    if (waits)
        zns_commit_run(z, 0);
}

/* ---- up ---------------------------------------------------------------------------------- */

static void write_done(struct blk_queue *queue, struct blk_req *r)
{
    struct zns *z = queue->dev->priv;
    struct zns_slot *s = blk_slot(queue, r);
    bool durable = r->flags & BLK_FUA;
    bool append = s->op == BLK_ZONE_APPEND;
    r->op = s->op;
    r->offset = append && r->result == 0 ? s->offset + s->start : s->offset;
    zns_write_end(z, s, r->result, durable);
    if (r->result == 0 && durable)
        wait_for_commit(queue, r, false);
    else
        blk_complete(queue, r, r->result);
}

static void come_back(struct blk_queue *queue, struct blk_req *r)
{
    struct zns_slot *s = blk_slot(queue, r);
    if (s->kind == ZNS_WRITE) {
        write_done(queue, r);
        return;
    }
    if (s->kind == ZNS_RESET) {
        discarded(queue, r);
        return;
    }
    r->offset = s->offset;
    if (s->kind == ZNS_PATCH && r->result == 0)
        end_patched(queue->dev->priv, s, r);
    blk_complete(queue, r, r->result);
}

static void take_completions(struct blk_queue *queue)
{
    struct zns_queue *q = queue->priv;
    struct blk_req *r;
    while ((r = blk_take(queue->child))) {
        q->below--;
        come_back(queue, r);
    }
}

static void take_committed(struct blk_queue *queue)
{
    struct zns_queue *q = queue->priv;
    struct blk_req *r = q->waiting;
    q->waiting = NULL;
    q->waiting_tail = &q->waiting;
    while (r) {
        struct blk_req *next = r->next;
        struct zns_slot *s = blk_slot(queue, r);
        if (!__atomic_load_n(&s->waiter.done, __ATOMIC_ACQUIRE)) {
            r->next = NULL;
            *q->waiting_tail = r;
            q->waiting_tail = &r->next;
        } else if (s->kind == ZNS_RESET) {
            advance_reset(queue, r, s->waiter.result);
        } else {
            blk_complete(queue, r, s->waiter.result < 0 ? s->waiter.result : s->result);
        }
        r = next;
    }
}

static int64_t least(int64_t timeout, int64_t most)
{
    return timeout < 0 || timeout > most ? most : timeout;
}

/* Wait for the child, for the commit, or in turn for both. */
static void wait(struct blk_queue *queue, int64_t timeout)
{
    const struct zns_queue *q = queue->priv;
    struct zns *z = queue->dev->priv;
    if (!q->waiting)
        blk_forward_progress(queue, timeout);
    else if (q->below)
        blk_forward_progress(queue, least(timeout, ZNS_RETRY_NS));
    else if (!zns_commit_run(z, timeout))
        base_sleep_until_ns(base_now_ns() + (uint64_t)least(timeout, ZNS_RETRY_NS));
}

void zns_progress(struct blk_queue *queue, int64_t timeout)
{
    const struct zns_queue *q = queue->priv;
    uint64_t end = timeout > 0 ? base_now_ns() + (uint64_t)timeout : 0;
    for (;;) {
        blk_forward_progress(queue, 0);
        take_completions(queue);
        if (q->waiting) {
            zns_commit_run(queue->dev->priv, 0);
            take_committed(queue);
        }
        if (queue->ready || !timeout || (!q->below && !q->waiting))
            return;
        uint64_t now = end ? base_now_ns() : 0;
        if (end && now >= end)
            return;
        wait(queue, end ? (int64_t)(end - now) : timeout);
    }
}

void zns_poll(struct blk_queue *queue, struct blk_poll *poll)
{
    const struct zns_queue *q = queue->priv;
    blk_queue_poll(queue->child, poll);
    if (q->waiting)
        poll->timeout = least(poll->timeout, ZNS_RETRY_NS);
}
