/*
 * Commits: what changed of the zone table goes to the device below.
 *
 *     collect   copy the states of changed groups into pages, up to ZNS_COMMIT_PAGES
 *     flush     so that the data below the write pointers in those pages is durable
 *     write     the pages
 *     ...       again, while there are changed groups
 *     sync      a flush, unless a single page was written with FUA
 *
 * So a write pointer on the device is never ahead of durable data. Writes that are in flight when
 * their zone is copied are holes in the copy: if they come to nothing, they read as zeroes.
 */
#include <errno.h>

#include "zone/zns.h"

#define PATIENCE_NS UINT64_C(5000000000) /* for room in a page */

static void copy_pages(struct zns *z);

void zns_commit_ask(struct zns *z, struct zns_waiter *waiter, bool flush)
{
    struct zns_commit *c = &z->commit;
    waiter->flush = flush;
    waiter->result = 0;
    __atomic_store_n(&waiter->done, false, __ATOMIC_RELAXED);
    base_mutex_lock(&c->lock);
    list_push_back(&c->waiting, &waiter->node);
    base_mutex_unlock(&c->lock);
}

/* ---- copying ----------------------------------------------------------------------------- */

/* Holes while they are collected. */
struct holes {
    uint8_t *page;
    unsigned count; /* in the page; over ZNS_PAGE_HOLES: there is no room */
    unsigned first; /* of this zone */
    struct zns_hole last;
};

static void put_hole(struct holes *h, struct zns_hole hole)
{
    if (h->count > h->first && h->last.start + h->last.len == hole.start) {
        h->last.len += hole.len;
    } else {
        h->count++;
        h->last = hole;
    }
    if (h->count <= ZNS_PAGE_HOLES)
        zns_hole_encode(h->page, h->count - 1, h->last);
}

static struct zns_hole hole_of(const struct zns *z, const struct zns_slot *s)
{
    return (struct zns_hole){(uint32_t)(s->start >> z->block_shift),
                             (uint32_t)(s->len >> z->block_shift)};
}

/* Permanent holes and those of writes in flight, both in order, merged. */
static void put_holes(const struct zns *z, const struct zns_zone *zone, struct holes *h)
{
    const struct list *n = zone->pending.next;
    unsigned i = 0;
    h->first = h->count;
    for (;;) {
        const struct zns_slot *s =
            n == &zone->pending ? NULL : container_of(n, struct zns_slot, node);
        if (s &&
            (i == zone->hole_count || s->start < (uint64_t)zone->hole[i].start << z->block_shift)) {
            put_hole(h, hole_of(z, s));
            n = n->next;
        } else if (i < zone->hole_count) {
            put_hole(h, zone->hole[i++]);
        } else {
            return;
        }
    }
}

/* The write pointer need not pass what is only on its way. */
static void cut_last_hole(const struct zns *z, struct zns_entry *e, struct holes *h)
{
    if (h->count == h->first || (uint64_t)(h->last.start + h->last.len) << z->block_shift != e->wp)
        return;
    e->wp = (uint64_t)h->last.start << z->block_shift;
    h->count--;
}

static void copy_zone(struct zns_zone *zone, const struct zns *z, unsigned index, struct holes *h,
                      bool *flush)
{
    struct zns_entry e = {.state = BLK_ZONE_EMPTY};
    base_mutex_lock(&zone->lock);
    h->first = h->count;
    if (!zone->resetting) {
        e.state = (uint8_t)zone->state;
        e.wp = zone->wp;
        if (zone->state != BLK_ZONE_OFFLINE)
            put_holes(z, zone, h);
        if (zns_is_open(zone->state) || zone->state == BLK_ZONE_CLOSED)
            cut_last_hole(z, &e, h);
        *flush |= zone->unflushed;
        zone->unflushed = false;
    }
    e.holes = (uint16_t)(h->count - h->first);
    base_mutex_unlock(&zone->lock);
    zns_entry_encode(h->page, index, &e);
}

/* False: there are more holes than fit, because so many writes are in flight. */
static bool copy_group(struct zns *z, uint32_t group, uint8_t *page)
{
    struct zns_commit *c = &z->commit;
    struct zns_group *g = &z->group[group];
    struct holes h = {.page = page};
    bool flush = false;
    memset(page, 0, z->g.page_size);
    (void)__atomic_exchange_n(&g->dirty, false, __ATOMIC_ACQ_REL);
    for (unsigned i = 0; i < ZNS_GROUP && group * ZNS_GROUP + i < z->g.zone_count; i++)
        if (group * ZNS_GROUP + i >= z->g.conventional)
            copy_zone(&z->zone[group * ZNS_GROUP + i], z, i, &h, &flush);
    c->flush |= flush;
    if (h.count > ZNS_PAGE_HOLES) {
        __atomic_store_n(&g->dirty, true, __ATOMIC_RELEASE);
        return false;
    }
    zns_page_seal(page, z->g.id, g->sequence + 1, group, h.count);
    return true;
}

/* ---- the steps --------------------------------------------------------------------------- */

static void ask_flush(struct zns_commit *c, enum zns_step step)
{
    struct blk_req *r = &c->req[0];
    c->step = step;
    c->pending = 1;
    blk_req_init(r, BLK_FLUSH, 0, 0);
    blk_submit(c->queue, &r, 1);
}

static void finish(struct zns_commit *c)
{
    while (!list_empty(&c->current)) {
        struct zns_waiter *w = container_of(c->current.next, struct zns_waiter, node);
        list_remove(&w->node);
        w->result = c->error;
        __atomic_store_n(&w->done, true, __ATOMIC_RELEASE); /* it is its owner's again */
    }
    __atomic_fetch_add(&c->commits, 1, __ATOMIC_RELAXED);
    c->step = ZNS_IDLE;
}

/* All is written, or some of it failed: then it is still to be written, to the same place. */
static void settle(struct zns *z)
{
    struct zns_commit *c = &z->commit;
    for (uint32_t i = 0; c->total && i < c->cursor; i++) {
        struct zns_group *g = &z->group[i];
        if (!g->written)
            continue;
        g->written = false;
        if (c->error)
            __atomic_store_n(&g->dirty, true, __ATOMIC_RELEASE);
        else
            g->sequence++;
    }
    if (!c->error)
        __atomic_fetch_add(&c->pages_written, c->total, __ATOMIC_RELAXED);
    finish(c);
}

/* After an error nobody knows what was flushed. */
static void fail(struct zns *z, int error)
{
    struct zns_commit *c = &z->commit;
    c->error = c->error ? c->error : error;
    for (uint32_t i = z->g.conventional; i < z->g.zone_count; i++) {
        base_mutex_lock(&z->zone[i].lock);
        z->zone[i].unflushed = true;
        base_mutex_unlock(&z->zone[i].lock);
    }
    settle(z);
}

static void write_pages(struct zns *z)
{
    struct zns_commit *c = &z->commit;
    bool single = c->total == 1 && c->cursor == z->groups;
    struct blk_req *r[ZNS_COMMIT_PAGES];
    c->step = ZNS_WRITING;
    for (unsigned i = 0; i < c->pages; i++) {
        uint64_t at = zns_page_offset(&z->g, c->group[i], z->group[c->group[i]].sequence + 1);
        r[i] = &c->req[i];
        blk_req_write(r[i], at, c->buffer + (size_t)i * z->g.page_size, z->g.page_size);
        r[i]->flags = single ? BLK_FUA : 0;
    }
    c->pending = c->pages;
    blk_submit(c->queue, r, c->pages);
}

/* The pages in the buffer are written; what is next? */
static void go_on(struct zns *z)
{
    struct zns_commit *c = &z->commit;
    if (c->cursor < z->groups)
        copy_pages(z);
    else if (c->total > 1)
        ask_flush(c, ZNS_SYNCING);
    else
        settle(z);
}

static void wait_for_room(struct zns *z)
{
    struct zns_commit *c = &z->commit;
    uint64_t now = base_now_ns();
    c->step = ZNS_COLLECT;
    if (!c->deadline)
        c->deadline = now + PATIENCE_NS;
    if (now > c->deadline)
        fail(z, -EAGAIN);
}

static void copy_pages(struct zns *z)
{
    struct zns_commit *c = &z->commit;
    bool room = true;
    for (c->pages = 0; c->cursor < z->groups && c->pages < ZNS_COMMIT_PAGES; c->cursor++) {
        struct zns_group *g = &z->group[c->cursor];
        if (!__atomic_load_n(&g->dirty, __ATOMIC_RELAXED))
            continue;
        uint8_t *page = (uint8_t *)c->buffer + (size_t)c->pages * z->g.page_size;
        room = copy_group(z, c->cursor, page);
        if (!room)
            break;
        g->written = true;
        c->group[c->pages++] = c->cursor;
        c->total++;
        c->deadline = 0;
    }
    if (!room && !c->pages)
        wait_for_room(z);
    else if (c->flush)
        ask_flush(c, ZNS_FLUSHING);
    else if (c->pages)
        write_pages(z);
    else
        go_on(z);
}

static void begin(struct zns *z)
{
    struct zns_commit *c = &z->commit;
    c->flush = false;
    base_mutex_lock(&c->lock);
    while (!list_empty(&c->waiting)) {
        struct zns_waiter *w = container_of(c->waiting.next, struct zns_waiter, node);
        list_remove(&w->node);
        list_push_back(&c->current, &w->node);
        c->flush |= w->flush;
    }
    base_mutex_unlock(&c->lock);
    if (list_empty(&c->current))
        return;
    c->error = 0;
    c->cursor = c->total = 0;
    c->deadline = 0;
    copy_pages(z);
}

/* All requests of a step are back. */
static void step_done(struct zns *z)
{
    struct zns_commit *c = &z->commit;
    if (c->error)
        fail(z, c->error);
    else if (c->step == ZNS_SYNCING)
        settle(z);
    else if (c->step == ZNS_FLUSHING && c->pages) {
        c->flush = false;
        write_pages(z);
    } else {
        c->flush = false;
        go_on(z);
    }
}

static void run(struct zns *z, int64_t timeout)
{
    struct zns_commit *c = &z->commit;
    struct blk_req *done[ZNS_COMMIT_PAGES];
    for (;;) {
        if (c->step == ZNS_IDLE)
            begin(z);
        else if (c->step == ZNS_COLLECT)
            copy_pages(z);
        if (c->step == ZNS_IDLE || c->step == ZNS_COLLECT)
            return;
        unsigned n = blk_reap(c->queue, done, ZNS_COMMIT_PAGES, timeout);
        for (unsigned i = 0; i < n; i++)
            if (done[i]->result < 0 && !c->error)
                c->error = done[i]->result;
        c->pending -= n;
        if (!n)
            return;
        timeout = 0;
        if (!c->pending)
            step_done(z);
        if (c->step == ZNS_IDLE) /* the next commit is for others to move along */
            return;
    }
}

bool zns_commit_run(struct zns *z, int64_t timeout)
{
    struct zns_commit *c = &z->commit;
    if (__atomic_exchange_n(&c->busy, true, __ATOMIC_ACQUIRE))
        return false;
    run(z, timeout);
    bool waits = c->step != ZNS_COLLECT;
    __atomic_store_n(&c->busy, false, __ATOMIC_RELEASE);
    return waits;
}

int zns_commit_all(struct zns *z)
{
    struct zns_waiter w = {0};
    bool any = false;
    for (uint32_t i = 0; i < z->groups; i++)
        any |= z->group[i].dirty;
    if (!any)
        return 0;
    zns_commit_ask(z, &w, false);
    while (!__atomic_load_n(&w.done, __ATOMIC_ACQUIRE))
        zns_commit_run(z, BLK_FOREVER);
    return w.result;
}
