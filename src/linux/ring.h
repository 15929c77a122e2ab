/*
 * linux/ring.h: an io_uring that several parts of one thread share.
 *
 * A queue of the `file` driver uses a ring: one of its own, unless the thread that opens it offers
 * one. The ublk server does: then a single system call carries its own commands and the I/O of the
 * device. Only the thread that opened a ring uses it.
 */
#ifndef LINUX_RING_H
#define LINUX_RING_H

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    RING_USERS = 8,    /* also of files */
    RING_BUFFERS = 64, /* of memory, beside those of the window */
};

/* An entry is done. data is what ring_sqe() was given. */
typedef void ring_done(void *arg, uint64_t data, int result);

struct ring {
    struct io_uring uring;
    bool offered; /* what users put into it waits for its owner to submit it, or for ring_wait() */
    struct {
        ring_done *done; /* NULL: free */
        void *arg;
        int file; /* -1: none */
    } user[RING_USERS];

    /* The kernel's table of buffers: first those of the window, then memory. */
    bool has_table;
    unsigned buffers;                  /* entries of buffer that were ever used */
    unsigned hint;                     /* the entry that was found last */
    struct iovec buffer[RING_BUFFERS]; /* length 0: free */

    /* Addresses that stand for buffers of the kernel, which this process cannot touch. */
    char *window;
    size_t window_slot; /* bytes of each */
    unsigned window_slots;
};

/* How memory, or a part of the window, is named to the kernel. */
struct ring_buffer {
    int index; /* in the table; -1: not there, use the address */
    void *address;
};

/*
 * Open a ring of so many entries with the best flags that the kernel takes. single: only this
 * thread will ever use it, and it sleeps in ring_wait() (DEFER_TASKRUN); kernel_buffers: entries of
 * the table for the window. 0, or a negative errno.
 */
int ring_open(struct ring *ring, unsigned entries, bool single, unsigned kernel_buffers);
void ring_close(struct ring *ring);

/* Offer a ring to what this thread opens from now on; NULL: no more. */
void ring_offer(struct ring *ring);
struct ring *ring_offered(void);

/* Become a user. Returns its number, or -ENOSPC. fd: a file to register, which ring_sqe() then
 * sets in each entry; -1: none. */
int ring_join(struct ring *ring, ring_done *done, void *arg, int fd);
void ring_leave(struct ring *ring, int user);

/* The next entry, cleared, for the user's file; data is a multiple of 8. Submits when there is no
 * room, so it never fails. */
struct io_uring_sqe *ring_sqe(struct ring *ring);
void ring_set(struct io_uring_sqe *sqe, const struct ring *ring, int user, uint64_t data);

/* Hand the entries to the kernel. What it does not take now stays for the next time. */
void ring_submit(struct ring *ring);

/* Call done for all entries that have completed. Returns whether there were any. */
bool ring_take(struct ring *ring);

/* Submit, and wait until something completed or the time (ns; negative: forever) has passed. */
void ring_wait(struct ring *ring, int64_t timeout);

void ring_buffer_add(struct ring *ring, void *memory, size_t size);
void ring_buffer_remove(struct ring *ring, void *memory);
struct ring_buffer ring_buffer_find(struct ring *ring, void *memory, size_t size);

#endif
