/* Names, and the synchronous helpers of ashlar/zone.h. */
#include <ashlar/zone.h>

#include <stddef.h>

#include "base/util.h"

const char *blk_zone_error_name(int error)
{
    switch (error < 0 ? -error : error) {
    case BLK_ZONE_BOUNDARY_ERROR:
        return "Zone Boundary Error";
    case BLK_ZONE_IS_FULL:
        return "Zone Is Full";
    case BLK_ZONE_IS_READ_ONLY:
        return "Zone Is Read Only";
    case BLK_ZONE_IS_OFFLINE:
        return "Zone Is Offline";
    case BLK_ZONE_INVALID_WRITE:
        return "Zone Invalid Write";
    case BLK_ZONE_TOO_MANY_ACTIVE:
        return "Too Many Active Zones";
    case BLK_ZONE_TOO_MANY_OPEN:
        return "Too Many Open Zones";
    case BLK_ZONE_INVALID_STATE_TRANSITION:
        return "Invalid Zone State Transition";
    case BLK_ZONE_IS_BUSY:
        return "Zone Is Busy";
    default:
        return NULL;
    }
}

const char *blk_zone_state_name(unsigned state)
{
    static const char *const names[] = {
        [BLK_ZONE_EMPTY] = "empty",
        [BLK_ZONE_IMPLICIT_OPEN] = "implicitly open",
        [BLK_ZONE_EXPLICIT_OPEN] = "explicitly open",
        [BLK_ZONE_CLOSED] = "closed",
        [BLK_ZONE_READ_ONLY] = "read-only",
        [BLK_ZONE_FULL] = "full",
        [BLK_ZONE_OFFLINE] = "offline",
        [BLK_ZONE_NO_WP] = "conventional",
    };
    return state < ARRAY_SIZE(names) ? names[state] : NULL;
}

int blk_zone_report(struct blk_queue *queue, uint64_t offset, struct blk_zone *zones, unsigned max)
{
    struct blk_req r;
    if (!max)
        return 0;
    blk_req_data(&r, BLK_ZONE_REPORT, offset, zones, max * sizeof(*zones));
    int error = blk_execute(queue, &r);
    return error < 0 ? error : (int)r.count;
}

static int manage(struct blk_queue *queue, enum blk_op op, uint64_t zone, unsigned flags)
{
    struct blk_req r;
    blk_req_init(&r, op, zone, 0);
    r.flags = (uint8_t)flags;
    return blk_execute(queue, &r);
}

int blk_zone_open(struct blk_queue *queue, uint64_t zone)
{
    return manage(queue, BLK_ZONE_OPEN, zone, 0);
}

int blk_zone_close(struct blk_queue *queue, uint64_t zone)
{
    return manage(queue, BLK_ZONE_CLOSE, zone, 0);
}

int blk_zone_finish(struct blk_queue *queue, uint64_t zone)
{
    return manage(queue, BLK_ZONE_FINISH, zone, 0);
}

int blk_zone_reset(struct blk_queue *queue, uint64_t zone)
{
    return manage(queue, BLK_ZONE_RESET, zone, 0);
}

bool blk_zone_is_meant(enum blk_op op, unsigned state)
{
    bool open = state == BLK_ZONE_IMPLICIT_OPEN || state == BLK_ZONE_EXPLICIT_OPEN;
    bool active = open || state == BLK_ZONE_CLOSED;
    switch (op) {
    case BLK_ZONE_OPEN:
        return state == BLK_ZONE_CLOSED;
    case BLK_ZONE_CLOSE:
        return open;
    case BLK_ZONE_FINISH:
        return active;
    default:
        return active || state == BLK_ZONE_FULL;
    }
}

/* All zones, one after the other. */
static int manage_each(struct blk_queue *queue, enum blk_op op)
{
    const struct blk_info *i = blk_info(blk_queue_device(queue));
    struct blk_zone zone[16];
    int first = 0;
    for (uint64_t at = 0; at < i->size;) {
        int n = blk_zone_report(queue, at, zone, ARRAY_SIZE(zone));
        if (n <= 0)
            return n ? n : -EIO;
        for (int k = 0; k < n; k++) {
            int error =
                blk_zone_is_meant(op, zone[k].state) ? manage(queue, op, zone[k].start, 0) : 0;
            first = first ? first : error;
        }
        at = zone[n - 1].start + zone[n - 1].len;
    }
    return first;
}

int blk_zone_all(struct blk_queue *queue, enum blk_op op)
{
    if (op < BLK_ZONE_OPEN || op > BLK_ZONE_RESET)
        return -EINVAL;
    int error = manage(queue, op, 0, BLK_ZONE_ALL);
    if (error == -ENOTSUP && blk_info(blk_queue_device(queue))->zoned)
        error = manage_each(queue, op);
    return error;
}

int blk_zone_append(struct blk_queue *queue, uint64_t zone, const void *data, size_t len,
                    unsigned flags, uint64_t *place)
{
    struct blk_req r;
    blk_req_data(&r, BLK_ZONE_APPEND, zone, (void *)(uintptr_t)data, len);
    r.flags = (uint8_t)flags;
    int error = blk_execute(queue, &r);
    if (error == 0)
        *place = r.offset;
    return error;
}
