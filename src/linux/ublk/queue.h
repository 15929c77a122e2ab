/*
 * linux/ublk/queue.h: one queue of a device: a thread that takes requests from the kernel and gives
 * them to a `struct blk`.
 */
#ifndef UBLK_QUEUE_H
#define UBLK_QUEUE_H

#include <ashlar/ublk.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include "linux/ring.h"
#include "linux/ublk/abi.h"

/* What all queues of a device have in common. Constant while they run. */
struct ublk_shared {
    struct blk *dev;
    int char_fd; /* /dev/ublkcN */
    unsigned depth;
    uint32_t max_io;
    enum ublk_mode mode; /* not AUTO */
    bool auto_register;  /* zero copy: the kernel registers the buffers of requests itself */
    bool legacy;         /* commands are not encoded like ioctls */
    int done_fd;         /* eventfd: written when the last queue has ended */
    unsigned running;    /* queues that have not; atomic */
    unsigned epoch;      /* 0; 1 from the stop on; atomic */
};

struct ublk_slot;

struct ublk_queue {
    struct ublk_shared *shared;
    unsigned id;
    cpu_set_t cpus;      /* where the kernel wants it; empty: anywhere */
    unsigned pending[2]; /* requests with the device that arrived in each epoch; atomic */
    pthread_t thread;
    bool started; /* there is a thread to join */
    sem_t ready;  /* posted when ready_error says how its start went */
    int ready_error;

    /* From here on the thread's own. */
    struct ring ring;
    int user; /* of the ring */
    struct blk_queue *queue;
    const struct ublksrv_io_desc *desc; /* the kernel's, by tag */
    struct ublk_slot *slots;            /* by tag */
    char *memory;                       /* depth * max_io; with zero copy only addresses */
    unsigned commands;                  /* that the kernel has */
    int error;                          /* the first of a command, but for the end of the device */
    uint16_t *waiting; /* ring of the tags that arrived and did not go to the device yet */
    unsigned waiting_at, waiting_count;
    int poll_fd; /* of the device, that the ring watches; -1: none */
    short poll_events;
    uint16_t poll_number;
};

/* Start the thread. 0, or a negative errno. */
int ublk_queue_start(struct ublk_queue *q);

/* Wait until it has told the kernel that it is ready: 0, or why it could not. In any case the
 * thread ends at the latest when the device is stopped. */
int ublk_queue_wait_ready(struct ublk_queue *q);

/* Wait for its end, if it was started: it ends when the kernel stopped the device and all requests
 * are answered. */
void ublk_queue_join(struct ublk_queue *q);

/* Whether requests on dev can go to memory that this process cannot touch. */
bool ublk_queue_zero_copy(struct blk *dev);

#endif
