/*
 * zone/zns.h: what the files of the `zns` filter share.
 *
 *     zns.c      the device: options, opening, closing
 *     state.c    zones: the state machine and its limits
 *     request.c  the way of a request down and up
 *     table.c    the zone table on the device below: formatting and loading
 *     commit.c   writing what changed of it
 *
 * Locks: zns.lock, then the lock of one zone. A write to an open zone takes its zone's lock alone,
 * a read of what is written takes none. commit.lock stands alone.
 */
#ifndef ZONE_ZNS_H
#define ZONE_ZNS_H

#include <ashlar/blk_driver.h>
#include <ashlar/zone.h>

#include "base/list.h"
#include "base/platform.h"
#include "zone/format.h"

#define ZNS_HOLES_MAX    8     /* of failed writes in a zone: then it is read-only */
#define ZNS_COMMIT_PAGES 32    /* pages written at once */
#define ZNS_RETRY_NS     20000 /* how soon a queue looks whether a commit is done */

struct zns_zone {
    struct base_mutex lock; /* guards what follows, unless it says otherwise */
    /* Bytes from the zone's start up to where data has been, or is being, written. Of a full zone
     * too, which a report shows otherwise. Changed under the lock, read by any (atomic). */
    uint64_t wp;
    enum blk_zone_state state; /* changed under zns.lock too */
    bool special;              /* has holes, or is offline; as wp */
    bool unflushed;            /* data that completed since the last flush of a commit */
    uint16_t failed;           /* holes of writes that failed, since it was opened or reset */
    uint16_t hole_count;
    uint16_t hole_room;
    struct zns_hole *hole;           /* in order, apart from each other; allocated when needed */
    struct list pending;             /* of struct zns_slot, in order: writes in flight */
    const struct blk_req *resetting; /* the reset in flight */
    struct list node;                /* in zns.implicit; guarded by zns.lock */
} __attribute__((aligned(64)));

/* A request that waits for a commit. */
struct zns_waiter {
    struct list node; /* in commit.waiting or .current */
    bool flush;       /* data that no zone knows of must be durable too */
    bool done;        /* atomic: set last; result is then valid */
    int result;
};

enum zns_kind {
    ZNS_PLAIN, /* goes down and comes back, shifted */
    ZNS_PATCH, /* a read of which parts were not written */
    ZNS_WRITE, /* moves a write pointer */
    ZNS_RESET,
    ZNS_WAIT, /* waits for a commit alone */
};

struct zns_slot {
    enum zns_kind kind;
    uint8_t op, flags;      /* of the request, where it goes down as another */
    struct list node;       /* in zone.pending */
    struct zns_zone *zone;  /* of a write */
    uint64_t start, len;    /* of a write, within its zone */
    uint64_t offset;        /* of the request, as the caller gave it */
    uint64_t wp[2];         /* of a patched read: of the one or two zones when it was submitted */
    uint32_t cursor, limit; /* of a reset: the zones that are left */
    uint64_t request_len;   /* as the caller gave it */
    int result;             /* of an operation on several zones: the first error */
    struct zns_waiter waiter;
};

/* Belongs to the queue's thread. */
struct zns_queue {
    unsigned below;          /* requests on the child */
    struct blk_req *waiting; /* for a commit: first in, first out */
    struct blk_req **waiting_tail;
};

/* Of each group of zones. */
struct zns_group {
    uint64_t sequence; /* of its page on the device; the next is written with sequence + 1. Belongs
                          to the commit */
    bool dirty;        /* atomic: its page is not as the zones are */
    bool written;      /* in this commit */
};

enum zns_step { ZNS_IDLE, ZNS_COLLECT, ZNS_FLUSHING, ZNS_WRITING, ZNS_SYNCING };

/*
 * A commit: what changed of the zone table is written. One at a time; requests that come meanwhile
 * wait for the next. It belongs to no queue: whoever waits for it, and finds it not busy, moves it
 * along.
 */
struct zns_commit {
    struct base_mutex lock; /* guards waiting */
    struct list waiting;    /* of struct zns_waiter */
    bool busy;              /* atomic: somebody is in here; guards the rest */
    struct list current;    /* whom this commit is for */
    enum zns_step step;
    struct blk_queue *queue; /* on the child */
    char *buffer;            /* ZNS_COMMIT_PAGES pages */
    struct blk_req req[ZNS_COMMIT_PAGES];
    uint32_t group[ZNS_COMMIT_PAGES]; /* whose pages are in the buffer */
    unsigned pages;
    unsigned pending;  /* requests in flight */
    uint32_t cursor;   /* the next group to look at */
    unsigned total;    /* pages in this commit */
    bool flush;        /* data must be flushed before the pages in the buffer are written */
    int error;         /* the first of this commit */
    uint64_t deadline; /* of waiting for room in a page; 0: not waiting */
    uint64_t commits;  /* atomic, like the next: for the report */
    uint64_t pages_written;
};

struct zns {
    /* Options; 0: not given. */
    uint64_t zone_option, cap_option, max_open_option, max_active_option, conventional_option,
        append_option;
    bool format_option;
    /* Set at open, constant from then on. */
    struct zns_geometry g;
    unsigned shift; /* of zone_size */
    uint32_t block_shift;
    uint64_t conventional_end;
    uint32_t groups;
    bool discard; /* a reset gives the space back */
    bool read_only;
    struct zns_zone *zone;
    struct zns_group *group;

    struct base_mutex lock; /* guards the next three */
    uint32_t open;          /* zones that are */
    uint32_t active;
    struct list implicit; /* implicitly open zones: the first was opened first */

    struct zns_commit commit;
};

static inline uint32_t zns_index(const struct zns *z, uint64_t offset)
{
    return (uint32_t)(offset >> z->shift);
}

static inline void zns_mark_dirty(struct zns *z, const struct zns_zone *zone)
{
    bool *dirty = &z->group[(uint32_t)(zone - z->zone) / ZNS_GROUP].dirty;
    if (!__atomic_load_n(dirty, __ATOMIC_RELAXED))
        __atomic_store_n(dirty, true, __ATOMIC_RELAXED);
}

static inline bool zns_is_open(enum blk_zone_state state)
{
    return state == BLK_ZONE_IMPLICIT_OPEN || state == BLK_ZONE_EXPLICIT_OPEN;
}

/* ---- state.c ----------------------------------------------------------------------------- */

/* At open, for a zone of a sound table: its place in the counts and lists. */
void zns_zone_enter(struct zns *z, struct zns_zone *zone, enum blk_zone_state state);

/* Give a write its place: slot->zone and len are set; start too, unless it is an append, which
 * finds it set. It is then pending. 0, or an error of ashlar/zone.h. */
int zns_write_begin(struct zns *z, struct zns_slot *slot, bool append);

/* The data is there, or not. */
void zns_write_end(struct zns *z, struct zns_slot *slot, int result, bool durable);

/* The operations. What finish did is durable after the next commit. */
int zns_zone_open(struct zns *z, struct zns_zone *zone);
int zns_zone_close(struct zns *z, struct zns_zone *zone);
int zns_zone_finish(struct zns *z, struct zns_zone *zone);
int zns_open_all(struct zns *z);
int zns_close_all(struct zns *z);
int zns_finish_all(struct zns *z);

/* A reset of one zone begins: nothing else changes it until it ends. 1, 0 if there is nothing to
 * do, or an error. */
int zns_reset_begin(struct zns *z, struct zns_zone *zone, const struct blk_req *req, bool all);
void zns_reset_end(struct zns *z, struct zns_zone *zone, bool happened);

void zns_zone_describe(struct zns *z, uint32_t index, struct blk_zone *out);

/* ---- table.c ----------------------------------------------------------------------------- */

/* Load the table, or make one. z->commit.queue is open. On an error what was allocated is freed. */
int zns_table_open(struct blk *dev, struct zns *z, struct blk_error *err);
void zns_table_close(struct zns *z);

/* ---- commit.c ---------------------------------------------------------------------------- */

/* Wait for a commit that begins from now on. Any thread. */
void zns_commit_ask(struct zns *z, struct zns_waiter *waiter, bool flush);

/* Move it along, unless another does; wait up to timeout for its I/O. False: there was none to wait
 * for. */
bool zns_commit_run(struct zns *z, int64_t timeout);

/* Write all that changed, and wait for it. Nothing else is in flight. */
int zns_commit_all(struct zns *z);

/* ---- request.c --------------------------------------------------------------------------- */

int zns_queue_open(struct blk_queue *queue);
void zns_submit(struct blk_queue *queue, struct blk_req *const *reqs, unsigned n);
void zns_progress(struct blk_queue *queue, int64_t timeout);
void zns_poll(struct blk_queue *queue, struct blk_poll *poll);

#endif
