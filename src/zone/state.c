/*
 * Zones: the state machine of the specification ("Zone State Machine", "Zone Resources").
 *
 * A zone that opens or closes takes zns.lock, for the counts and the list of implicitly open zones,
 * and then its own. A write that leaves its zone as it is, open and not full, takes only that.
 */
#include <errno.h>

#include "zone/zns.h"

static bool is_active(enum blk_zone_state state)
{
    return zns_is_open(state) || state == BLK_ZONE_CLOSED;
}

/* Under both locks. */
static void set_state(struct zns *z, struct zns_zone *zone, enum blk_zone_state state)
{
    z->open += zns_is_open(state);
    z->open -= zns_is_open(zone->state);
    z->active += is_active(state);
    z->active -= is_active(zone->state);
    if (zone->state == BLK_ZONE_IMPLICIT_OPEN)
        list_remove(&zone->node);
    if (state == BLK_ZONE_IMPLICIT_OPEN)
        list_push_back(&z->implicit, &zone->node);
    zone->state = state;
    if (state == BLK_ZONE_OFFLINE || state == BLK_ZONE_EMPTY)
        __atomic_store_n(&zone->special, state == BLK_ZONE_OFFLINE, __ATOMIC_RELEASE);
    zns_mark_dirty(z, zone);
}

static void lock_both(struct zns *z, struct zns_zone *zone)
{
    base_mutex_lock(&z->lock);
    base_mutex_lock(&zone->lock);
}

/* victim: an implicitly open zone that has to make room, or NULL. It is closed when the other's
 * lock is free, so that nobody ever holds two zones. */
static void unlock_both(struct zns *z, struct zns_zone *zone, struct zns_zone *victim)
{
    base_mutex_unlock(&zone->lock);
    if (victim) {
        base_mutex_lock(&victim->lock);
        set_state(z, victim, BLK_ZONE_CLOSED);
        base_mutex_unlock(&victim->lock);
    }
    base_mutex_unlock(&z->lock);
}

void zns_zone_enter(struct zns *z, struct zns_zone *zone, enum blk_zone_state state)
{
    zone->state = BLK_ZONE_EMPTY;
    lock_both(z, zone);
    set_state(z, zone, state);
    unlock_both(z, zone, NULL);
}

/* Under both locks: may a zone that is not open become so? The implicitly open zone that was opened
 * first makes room. */
static int take_resources(struct zns *z, const struct zns_zone *zone, struct zns_zone **victim)
{
    if (!is_active(zone->state) && z->g.max_active && z->active >= z->g.max_active)
        return -BLK_ZONE_TOO_MANY_ACTIVE;
    if (!z->g.max_open || z->open < z->g.max_open)
        return 0;
    if (list_empty(&z->implicit))
        return -BLK_ZONE_TOO_MANY_OPEN;
    *victim = container_of(z->implicit.next, struct zns_zone, node);
    return 0;
}

/* ---- writes ------------------------------------------------------------------------------ */

/* Under the zone's lock. */
static int check_write(const struct zns *z, const struct zns_zone *zone,
                       const struct zns_slot *slot)
{
    switch (zone->state) {
    case BLK_ZONE_FULL:
        return -BLK_ZONE_IS_FULL;
    case BLK_ZONE_READ_ONLY:
        return -BLK_ZONE_IS_READ_ONLY;
    case BLK_ZONE_OFFLINE:
        return -BLK_ZONE_IS_OFFLINE;
    default:
        break;
    }
    if (zone->resetting)
        return -BLK_ZONE_IS_BUSY;
    if (slot->start > z->g.capacity || slot->len > z->g.capacity - slot->start)
        return -BLK_ZONE_BOUNDARY_ERROR;
    return slot->start == zone->wp ? 0 : -BLK_ZONE_INVALID_WRITE;
}

static void place(struct zns_zone *zone, struct zns_slot *slot)
{
    list_push_back(&zone->pending, &slot->node);
    __atomic_store_n(&zone->wp, slot->start + slot->len, __ATOMIC_RELEASE);
}

/* The zone must open first, or becomes full. */
static int begin_with_change(struct zns *z, struct zns_slot *slot, bool append)
{
    struct zns_zone *zone = slot->zone, *victim = NULL;
    lock_both(z, zone);
    if (append)
        slot->start = zone->wp;
    int error = check_write(z, zone, slot);
    if (error == 0 && !zns_is_open(zone->state)) {
        error = take_resources(z, zone, &victim);
        if (error == 0)
            set_state(z, zone, BLK_ZONE_IMPLICIT_OPEN);
    }
    if (error == 0) {
        place(zone, slot);
        if (zone->wp == z->g.capacity)
            set_state(z, zone, BLK_ZONE_FULL);
    }
    unlock_both(z, zone, victim);
    return error;
}

int zns_write_begin(struct zns *z, struct zns_slot *slot, bool append)
{
    struct zns_zone *zone = slot->zone;
    base_mutex_lock(&zone->lock);
    if (append)
        slot->start = zone->wp;
    int error = check_write(z, zone, slot);
    bool simple = zns_is_open(zone->state) && slot->start + slot->len < z->g.capacity;
    if (error == 0 && simple)
        place(zone, slot);
    base_mutex_unlock(&zone->lock);
    return error < 0 || simple ? error : begin_with_change(z, slot, append);
}

/* ---- writes that failed ------------------------------------------------------------------ */

static bool make_room(struct zns_zone *zone)
{
    if (zone->hole_count < zone->hole_room)
        return true;
    uint16_t room = (uint16_t)(zone->hole_room + ZNS_HOLES_MAX);
    struct zns_hole *hole = base_alloc_array(room, sizeof(*hole));
    if (!hole)
        return false;
    if (zone->hole_count)
        memcpy(hole, zone->hole, zone->hole_count * sizeof(*hole));
    base_free(zone->hole);
    zone->hole = hole;
    zone->hole_room = room;
    return true;
}

/* Under zns.lock, as all that changes holes: does the page of this zone's group have room for one
 * more? A quarter is left to writes in flight. */
static bool page_has_room(const struct zns *z, const struct zns_zone *zone)
{
    uint32_t first = (uint32_t)(zone - z->zone) / ZNS_GROUP * ZNS_GROUP;
    unsigned holes = 0;
    for (uint32_t i = first; i < first + ZNS_GROUP && i < z->g.zone_count; i++)
        holes += z->zone[i].hole_count;
    return holes < ZNS_PAGE_HOLES / 4 * 3;
}

/* Keep the holes in order, and join those that touch. */
static bool add_hole(const struct zns *z, struct zns_zone *zone, struct zns_hole new)
{
    unsigned at = 0;
    while (at < zone->hole_count && zone->hole[at].start < new.start)
        at++;
    struct zns_hole *before = at ? &zone->hole[at - 1] : NULL;
    struct zns_hole *after = at < zone->hole_count ? &zone->hole[at] : NULL;
    bool joins_before = before && before->start + before->len == new.start;
    bool joins_after = after && new.start + new.len == after->start;
    if (joins_before && joins_after) {
        before->len += new.len + after->len;
        zone->hole_count--;
        memmove(after, after + 1, (zone->hole_count - at) * sizeof(*after));
    } else if (joins_before) {
        before->len += new.len;
    } else if (joins_after) {
        *after = (struct zns_hole){new.start, new.len + after->len};
    } else {
        if (++zone->failed > 2 * ZNS_HOLES_MAX || !page_has_room(z, zone) || !make_room(zone))
            return false;
        memmove(zone->hole + at + 1, zone->hole + at,
                (zone->hole_count - at) * sizeof(*zone->hole));
        zone->hole[at] = new;
        zone->hole_count++;
    }
    __atomic_store_n(&zone->special, true, __ATOMIC_RELEASE);
    return true;
}

/* Nothing came after the write: its place is free again, and so are those of failed ones that it
 * leaves last. */
static void roll_back(const struct zns *z, struct zns_zone *zone, uint64_t to)
{
    while (zone->hole_count) {
        const struct zns_hole *last = &zone->hole[zone->hole_count - 1];
        if ((uint64_t)(last->start + last->len) << z->block_shift != to)
            break;
        to = (uint64_t)last->start << z->block_shift;
        zone->hole_count--;
    }
    __atomic_store_n(&zone->wp, to, __ATOMIC_RELEASE);
}

/* Under both locks. Of a full zone, and of one that has lost its way, nothing is taken back. */
static void fail_write(struct zns *z, struct zns_zone *zone, const struct zns_slot *slot)
{
    if (is_active(zone->state) && slot->start + slot->len == zone->wp) {
        roll_back(z, zone, slot->start);
        return;
    }
    struct zns_hole hole = {(uint32_t)(slot->start >> z->block_shift),
                            (uint32_t)(slot->len >> z->block_shift)};
    if (zone->state == BLK_ZONE_OFFLINE)
        return;
    if (!add_hole(z, zone, hole)) {
        zone->hole_count = 0; /* nothing of it can be read any more */
        set_state(z, zone, BLK_ZONE_OFFLINE);
    } else if (zone->failed >= ZNS_HOLES_MAX && is_active(zone->state)) {
        set_state(z, zone, BLK_ZONE_READ_ONLY);
    }
}

void zns_write_end(struct zns *z, struct zns_slot *slot, int result, bool durable)
{
    struct zns_zone *zone = slot->zone;
    if (result < 0) {
        lock_both(z, zone);
        list_remove(&slot->node);
        fail_write(z, zone, slot);
        zns_mark_dirty(z, zone);
        unlock_both(z, zone, NULL);
        return;
    }
    base_mutex_lock(&zone->lock);
    list_remove(&slot->node);
    zone->unflushed |= !durable;
    zns_mark_dirty(z, zone);
    base_mutex_unlock(&zone->lock);
}

/* ---- operations on zones ----------------------------------------------------------------- */

/* Under both locks. */
static int open_locked(struct zns *z, struct zns_zone *zone, struct zns_zone **victim)
{
    int error = 0;
    if (zone->resetting)
        return -BLK_ZONE_IS_BUSY;
    if (zone->state == BLK_ZONE_EXPLICIT_OPEN)
        return 0;
    if (zone->state == BLK_ZONE_EMPTY || zone->state == BLK_ZONE_CLOSED)
        error = take_resources(z, zone, victim);
    else if (zone->state != BLK_ZONE_IMPLICIT_OPEN)
        error = -BLK_ZONE_INVALID_STATE_TRANSITION;
    if (error == 0)
        set_state(z, zone, BLK_ZONE_EXPLICIT_OPEN);
    return error;
}

static int close_locked(struct zns *z, struct zns_zone *zone)
{
    if (zone->resetting)
        return -BLK_ZONE_IS_BUSY;
    if (!is_active(zone->state))
        return -BLK_ZONE_INVALID_STATE_TRANSITION;
    if (zone->state != BLK_ZONE_CLOSED)
        set_state(z, zone, BLK_ZONE_CLOSED);
    return 0;
}

static int finish_locked(struct zns *z, struct zns_zone *zone)
{
    if (zone->resetting)
        return -BLK_ZONE_IS_BUSY;
    if (zone->state == BLK_ZONE_FULL)
        return 0;
    if (zone->state != BLK_ZONE_EMPTY && !is_active(zone->state))
        return -BLK_ZONE_INVALID_STATE_TRANSITION;
    set_state(z, zone, BLK_ZONE_FULL);
    return 0;
}

int zns_zone_open(struct zns *z, struct zns_zone *zone)
{
    struct zns_zone *victim = NULL;
    lock_both(z, zone);
    int error = open_locked(z, zone, &victim);
    unlock_both(z, zone, victim);
    return error;
}

int zns_zone_close(struct zns *z, struct zns_zone *zone)
{
    lock_both(z, zone);
    int error = close_locked(z, zone);
    unlock_both(z, zone, NULL);
    return error;
}

int zns_zone_finish(struct zns *z, struct zns_zone *zone)
{
    lock_both(z, zone);
    int error = finish_locked(z, zone);
    unlock_both(z, zone, NULL);
    return error;
}

/* All or none: nothing is opened when there are too many. */
int zns_open_all(struct zns *z)
{
    int error = 0;
    struct zns_zone *none = NULL; /* there is room */
    base_mutex_lock(&z->lock);
    if (z->g.max_open && z->active > z->g.max_open)
        error = -BLK_ZONE_TOO_MANY_OPEN;
    for (uint32_t i = z->g.conventional; error == 0 && i < z->g.zone_count; i++) {
        struct zns_zone *zone = &z->zone[i];
        base_mutex_lock(&zone->lock);
        if (zone->state == BLK_ZONE_CLOSED)
            error = open_locked(z, zone, &none);
        base_mutex_unlock(&zone->lock);
    }
    base_mutex_unlock(&z->lock);
    return error;
}

int zns_close_all(struct zns *z)
{
    int first = 0;
    for (uint32_t i = z->g.conventional; i < z->g.zone_count; i++) {
        struct zns_zone *zone = &z->zone[i];
        lock_both(z, zone);
        int error = zns_is_open(zone->state) ? close_locked(z, zone) : 0;
        unlock_both(z, zone, NULL);
        first = first ? first : error;
    }
    return first;
}

int zns_finish_all(struct zns *z)
{
    int first = 0;
    for (uint32_t i = z->g.conventional; i < z->g.zone_count; i++) {
        struct zns_zone *zone = &z->zone[i];
        lock_both(z, zone);
        int error = is_active(zone->state) ? finish_locked(z, zone) : 0;
        unlock_both(z, zone, NULL);
        first = first ? first : error;
    }
    return first;
}

/* ---- reset ------------------------------------------------------------------------------- */

int zns_reset_begin(struct zns *z, struct zns_zone *zone, const struct blk_req *req, bool all)
{
    int result = 1;
    base_mutex_lock(&zone->lock);
    if (zone->state == BLK_ZONE_READ_ONLY || zone->state == BLK_ZONE_OFFLINE)
        result = all ? 0 : -BLK_ZONE_INVALID_STATE_TRANSITION;
    else if (zone->resetting || !list_empty(&zone->pending))
        result = -BLK_ZONE_IS_BUSY;
    else if (zone->state == BLK_ZONE_EMPTY)
        result = 0;
    if (result == 1) {
        zone->resetting = req;
        zns_mark_dirty(z, zone);
    }
    base_mutex_unlock(&zone->lock);
    return result;
}

void zns_reset_end(struct zns *z, struct zns_zone *zone, bool happened)
{
    lock_both(z, zone);
    zone->resetting = NULL;
    if (happened) {
        __atomic_store_n(&zone->wp, 0, __ATOMIC_RELEASE);
        zone->hole_count = zone->failed = 0;
        zone->unflushed = false;
        set_state(z, zone, BLK_ZONE_EMPTY);
    }
    zns_mark_dirty(z, zone);
    unlock_both(z, zone, NULL);
}

/* ---- report ------------------------------------------------------------------------------ */

void zns_zone_describe(struct zns *z, uint32_t index, struct blk_zone *out)
{
    struct zns_zone *zone = &z->zone[index];
    *out = (struct blk_zone){
        .start = (uint64_t)index << z->shift,
        .len = z->g.zone_size,
        .capacity = z->g.zone_size,
        .state = BLK_ZONE_NO_WP,
    };
    out->wp = out->start + out->len;
    if (index < z->g.conventional)
        return;
    out->capacity = z->g.capacity;
    base_mutex_lock(&zone->lock);
    out->state = zone->state;
    if (zone->state != BLK_ZONE_FULL && zone->state != BLK_ZONE_OFFLINE)
        out->wp = out->start + zone->wp;
    base_mutex_unlock(&zone->lock);
}
