/*
 * linux/file_zone.h: zoned block devices of Linux, below the `file` driver.
 *
 * Linux takes a write to a zone only at its write pointer, has no zone append for programs, and
 * manages zones by ioctls, which block. So:
 *
 * - Where each zone's write pointer is, is known here, for all queues. One write at a time is in
 *   flight in a zone; others wait for it in the order in which they came, from whatever queue. A
 *   zone append is a write at the pointer.
 * - A thread of the device reports, opens, closes, finishes and resets zones. It also looks at a
 *   zone whose write failed, or seems to be at the wrong place, and says what is wrong with it.
 */
#ifndef LINUX_FILE_ZONE_H
#define LINUX_FILE_ZONE_H

#include <ashlar/blk_driver.h>

#include "base/platform.h"
#include "linux/ring.h"

struct file_zones; /* of a device */
struct file_zone_queue;

/* It is a request's turn: the driver writes its data at req->offset, and then calls
 * file_zone_written(). */
typedef void file_zone_start(struct blk_queue *queue, struct blk_req *req);

/* Of a request, in the driver's slot. */
struct file_zone_slot {
    struct file_zone_slot *next; /* in the list where it waits */
    struct file_zone_queue *owner;
    struct blk_req *req;
    int result;   /* of its write, 0 if it was not tried; from the thread: the request's */
    bool over;    /* from the thread: it is over; else it begins (again) */
    bool checked; /* the thread has put the write pointer right for it */
};

struct file_zone_list {
    struct file_zone_slot *first, **last;
};

/* Of a queue. */
struct file_zone_queue {
    struct blk_queue *queue;
    struct file_zones *zones;
    struct ring *ring;
    int user;          /* of the ring; entries with data 0 are ours */
    unsigned expected; /* requests that wait for a zone or the thread */
    bool watching;     /* the ring watches event */
    int event;         /* eventfd: something is in the inbox */
    struct base_mutex lock;
    struct file_zone_list inbox; /* guarded by lock: requests that another thread hands to us */
};

/* Read where the zones of the device are, which dev->info describes, and start the thread. */
int file_zones_open(struct blk *dev, int fd, file_zone_start *start, struct file_zones **zones,
                    struct blk_error *err);
void file_zones_close(struct file_zones *zones);

int file_zone_queue_open(struct file_zone_queue *q, struct file_zones *zones,
                         struct blk_queue *queue, struct ring *ring, int user);
void file_zone_queue_close(struct file_zone_queue *q);

/* Whether a request goes the ways of this file: what is for zones, and writes to those that have a
 * write pointer. */
bool file_zone_takes(const struct file_zones *zones, const struct blk_req *req);

void file_zone_submit(struct file_zone_queue *q, struct file_zone_slot *slot, struct blk_req *req);

/* The write of a request that was started is done: 0 or a negative errno. */
void file_zone_written(struct file_zone_slot *slot, int result);

/* The ring says that there is something in the inbox. */
void file_zone_event(struct file_zone_queue *q);

#endif
