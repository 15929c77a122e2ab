/*
 * ashlar/zone.h: what users of zoned devices need beside ashlar/blk.h.
 *
 * A zoned device is divided into zones of info.zone_size bytes. A sequential zone is written from
 * its start, each write at the zone's write pointer; to write it again it is reset. A conventional
 * zone is written anywhere. `zns` makes a zoned device of any other; docs/zones.md tells how.
 *
 *     struct blk_zone zone[16];
 *     uint64_t place;
 *     int n = blk_zone_report(q, 0, zone, 16);
 *     blk_zone_append(q, zone[0].start, data, 4096, BLK_FUA, &place);
 *     blk_zone_reset(q, zone[0].start);
 *
 * Follows the NVMe Zoned Namespace Command Set specification, revision 1.1: its names of states,
 * operations and errors.
 */
#ifndef ASHLAR_ZONE_H
#define ASHLAR_ZONE_H

#include <ashlar/blk.h>
#include <errno.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The errors of the specification (its status codes are in brackets) as errno values. Requests
 * complete with the negative of these. EOVERFLOW and ETOOMANYREFS are those that Linux gives; for
 * the others Linux has EIO alone, which a zoned disk of Linux may answer in their place.
 */
#define BLK_ZONE_BOUNDARY_ERROR           EXDEV     /* (B8h) past capacity, or into another zone */
#define BLK_ZONE_IS_FULL                  ENOSPC    /* (B9h) */
#define BLK_ZONE_IS_READ_ONLY             EACCES    /* (BAh) */
#define BLK_ZONE_IS_OFFLINE               ENODEV    /* (BBh) */
#define BLK_ZONE_INVALID_WRITE            ESPIPE    /* (BCh) not at the write pointer */
#define BLK_ZONE_TOO_MANY_ACTIVE          EOVERFLOW /* (BDh) over info.max_active_zones */
#define BLK_ZONE_TOO_MANY_OPEN            ETOOMANYREFS /* (BEh) over info.max_open_zones */
#define BLK_ZONE_INVALID_STATE_TRANSITION EBADFD       /* (BFh) */
/* Not of the specification: a reset of a zone while writes to it are in flight, or anything that
 * changes a zone while a reset of it is in flight. Nothing happened; try again after those. */
#define BLK_ZONE_IS_BUSY                  EBUSY

/* "Zone Is Full" for BLK_ZONE_IS_FULL or its negative; NULL if it is none of the above. Some of
 * these numbers mean something else for other operations. */
ASHLAR_API const char *blk_zone_error_name(int error);

/* "empty", "implicitly open", "explicitly open", "closed", "read-only", "full", "offline",
 * "conventional"; NULL if state is none of enum blk_zone_state. */
ASHLAR_API const char *blk_zone_state_name(unsigned state);

/* ---- synchronous helpers (see blk_execute() for what they do to a queue in use) ----------- */

/* The zones from the one that holds offset on: fills up to max, returns how many (0 only for max
 * 0) or a negative errno. */
ASHLAR_API int blk_zone_report(struct blk_queue *queue, uint64_t offset, struct blk_zone *zones,
                               unsigned max);

/* One zone, by its first byte. 0 or a negative errno. */
ASHLAR_API int blk_zone_open(struct blk_queue *queue, uint64_t zone);
ASHLAR_API int blk_zone_close(struct blk_queue *queue, uint64_t zone);
ASHLAR_API int blk_zone_finish(struct blk_queue *queue, uint64_t zone);
ASHLAR_API int blk_zone_reset(struct blk_queue *queue, uint64_t zone);

/* Whether op with BLK_ZONE_ALL means a zone in this state: open the closed ones, close the open
 * ones, finish the open and closed ones, reset these and the full ones. ("Select All" of Zone
 * Management Send.) */
ASHLAR_API bool blk_zone_is_meant(enum blk_op op, unsigned state);

/* All zones at once: op is BLK_ZONE_OPEN, CLOSE, FINISH or RESET, with BLK_ZONE_ALL; zone by zone
 * on a device that does not know all at once (a slice). */
ASHLAR_API int blk_zone_all(struct blk_queue *queue, enum blk_op op);

/* Write at the write pointer of the zone that starts at zone; *place is where that was. At most
 * info.max_append bytes. flags: BLK_FUA. */
ASHLAR_API int blk_zone_append(struct blk_queue *queue, uint64_t zone, const void *data, size_t len,
                               unsigned flags, uint64_t *place);

#ifdef __cplusplus
}
#endif

#endif
