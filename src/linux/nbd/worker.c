/* The event loop: sockets, devices, deadlines, and when to spin. */
#include "linux/nbd/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

enum {
    EVENTS = 64,
    SPIN_NS = 50 * 1000,
    SHORT_NS = 200 * 1000, /* a sleep that spinning might save: most of it is falling asleep and
                              waking up */
    SPIN_CONNS = 4,        /* more than these are looked at through epoll, not one by one */
    SPIN_HITS = 4,
    SPIN_MISSES = 2,
    LOOK_NS = 200 * 1000, /* ask epoll at least so often, also while spinning succeeds */
    TICK_NS = 1000 * 1000 * 1000,
    SHARED_FD_NS = 1000 * 1000, /* reap so often where the device's fd cannot be watched */
};

/* ---- connections ----------------------------------------------------------------------- */

static void watch(struct nbd_worker *w, struct nbd_conn *c)
{
    c->socket_watch = (struct nbd_watch){c, false};
    c->device_watch = (struct nbd_watch){c, true};
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = &c->socket_watch};
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, c->stream.fd, &e) < 0)
        c->broken = true;
    c->run = true;
    list_push_back(&w->conns, &c->node);
}

static void forget(struct nbd_worker *w, struct nbd_conn *c)
{
    if (c->device_fd >= 0)
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->device_fd, NULL);
    list_remove(&c->node);
    nbd_conn_free(c); /* closes the socket, which leaves the epoll set by that */
    __atomic_fetch_sub(&w->load, 1, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&w->shared->connections, 1, __ATOMIC_RELAXED);
}

/* Returns whether there was anything to do. The connection may be gone after this. */
static bool serve(struct nbd_worker *w, struct nbd_conn *c)
{
    c->run = false;
    bool any = nbd_conn_service(c);
    c->run = c->busy;
    if (nbd_conn_finished(c))
        forget(w, c);
    return any;
}

/* Serve those where something happened, or all. */
static bool serve_each(struct nbd_worker *w, bool all)
{
    bool any = false;
    struct list *next;
    for (struct list *node = w->conns.next; node != &w->conns; node = next) {
        struct nbd_conn *c = container_of(node, struct nbd_conn, node);
        next = node->next;
        if (all)
            c->readable = true;
        if (all || c->run)
            any |= serve(w, c);
    }
    return any;
}

static void stop_all(struct nbd_worker *w)
{
    struct list *node;
    list_for_each(node, &w->conns)
    {
        struct nbd_conn *c = container_of(node, struct nbd_conn, node);
        if (c->phase != NBD_TRANSMISSION)
            c->broken = true;
        nbd_conn_end(c);
        c->run = true;
    }
}

static void look_around(struct nbd_worker *w)
{
    base_mutex_lock(&w->lock);
    while (!list_empty(&w->inbox)) {
        struct nbd_conn *c = container_of(w->inbox.next, struct nbd_conn, node);
        list_remove(&c->node);
        watch(w, c);
    }
    base_mutex_unlock(&w->lock);
    if (__atomic_load_n(&w->shared->stopping, __ATOMIC_ACQUIRE))
        stop_all(w);
}

/* ---- waiting --------------------------------------------------------------------------- */

static void arm_socket(struct nbd_worker *w, struct nbd_conn *c)
{
    bool write = !c->writable && !c->broken;
    if (write == c->watches_write)
        return;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (write ? EPOLLOUT : 0),
                            .data.ptr = &c->socket_watch};
    epoll_ctl(w->epoll, EPOLL_CTL_MOD, c->stream.fd, &e);
    c->watches_write = write;
}

/* Have the device's fd in the set, with these events. */
static void arm_device(struct nbd_worker *w, struct nbd_conn *c, const struct blk_poll *p)
{
    struct epoll_event e = {.events = (uint32_t)p->events, .data.ptr = &c->device_watch};
    if (p->fd == c->device_fd && p->events == c->device_events)
        return;
    if (c->device_fd >= 0 && p->fd != c->device_fd)
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->device_fd, NULL);
    int known = c->device_fd;
    c->device_fd = p->fd;
    c->device_events = p->events;
    if (p->fd < 0 || (p->fd == known && epoll_ctl(w->epoll, EPOLL_CTL_MOD, p->fd, &e) == 0))
        return;
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, p->fd, &e) < 0) {
        c->device_fd = -1;
        c->wait = c->wait == BLK_FOREVER ? SHARED_FD_NS : (int64_t)min_u64(c->wait, SHARED_FD_NS);
    }
}

/* How long this connection can be left alone. */
static int64_t arm(struct nbd_worker *w, struct nbd_conn *c)
{
    struct blk_poll p;
    c->wait = BLK_FOREVER;
    if (c->run)
        return 0;
    arm_socket(w, c);
    if (c->queue && blk_queue_in_flight(c->queue)) {
        blk_queue_poll(c->queue, &p);
        c->wait = p.timeout;
        arm_device(w, c, &p);
    }
    return c->wait;
}

static bool needs_tick(const struct nbd_conn *c)
{
    return c->deadline || (c->queue && (c->arena.dirty || blk_queue_in_flight(c->queue)));
}

static int64_t time_to_wait(struct nbd_worker *w, uint64_t now)
{
    int64_t timeout = BLK_FOREVER;
    bool tick = false;
    struct list *node;
    list_for_each(node, &w->conns)
    {
        struct nbd_conn *c = container_of(node, struct nbd_conn, node);
        int64_t t = arm(w, c);
        if (t != BLK_FOREVER && (timeout == BLK_FOREVER || t < timeout))
            timeout = t;
        tick |= needs_tick(c);
    }
    int64_t to_tick = w->next_tick > now ? (int64_t)(w->next_tick - now) : 0;
    return tick && (timeout == BLK_FOREVER || to_tick < timeout) ? to_tick : timeout;
}

static void note(struct nbd_worker *w, const struct epoll_event *e)
{
    struct nbd_watch *watch = e->data.ptr;
    if (!watch) {
        uint64_t count;
        if (read(w->wake, &count, sizeof(count)) > 0)
            look_around(w);
        return;
    }
    struct nbd_conn *c = watch->conn;
    c->run = true;
    if (watch->device) {
        if (!blk_queue_in_flight(c->queue)) {
            epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->device_fd, NULL);
            c->device_fd = -1;
        }
        return;
    }
    c->hangup |= (e->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    c->readable |= c->hangup || (e->events & EPOLLIN);
    c->writable |= (e->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
}

/* Ask epoll, for up to timeout ns. Returns how many events there were. */
static int look(struct nbd_worker *w, int64_t timeout)
{
    struct epoll_event events[EVENTS];
    struct timespec t = {.tv_sec = timeout / TICK_NS, .tv_nsec = timeout % TICK_NS};
    int n = epoll_pwait2(w->epoll, events, EVENTS, timeout == BLK_FOREVER ? NULL : &t, NULL);
    for (int i = 0; i < n; i++)
        note(w, &events[i]);
    return n;
}

/* Devices that said when to be reaped; ticks. */
static void after_wait(struct nbd_worker *w, uint64_t now)
{
    bool tick = now >= w->next_tick;
    struct list *node;
    if (tick)
        w->next_tick = now + TICK_NS;
    list_for_each(node, &w->conns)
    {
        struct nbd_conn *c = container_of(node, struct nbd_conn, node);
        if (c->wait != BLK_FOREVER)
            c->run = true;
        if (!tick)
            continue;
        nbd_conn_tick(c, now);
        /* A device may have put another file behind the same fd. */
        c->device_events = 0;
        c->run |= c->queue && blk_queue_in_flight(c->queue);
    }
}

static void wait(struct nbd_worker *w)
{
    uint64_t before = base_now_ns();
    bool must_look = w->spinning && before - w->looked >= LOOK_NS;
    int64_t timeout = time_to_wait(w, before);
    int n = look(w, must_look ? 0 : timeout);
    w->looked = base_now_ns();
    if (timeout != 0 && !must_look) {
        w->hits = n > 0 && w->looked - before < SHORT_NS ? w->hits + 1 : 0;
        if (w->hits >= SPIN_HITS) {
            w->spinning = true;
            w->misses = 0;
        }
    }
    after_wait(w, w->looked);
}

/* Look for the next event without sleeping. true: there was one, and it was served. */
static bool spin(struct nbd_worker *w)
{
    uint64_t now = base_now_ns();
    if (!w->spinning || now - w->looked >= LOOK_NS)
        return false;
    bool few = __atomic_load_n(&w->load, __ATOMIC_RELAXED) <= SPIN_CONNS;
    for (uint64_t end = now + SPIN_NS; now < end; now = base_now_ns()) {
        if (few ? serve_each(w, true) : look(w, 0) > 0) {
            w->misses = 0;
            return true;
        }
    }
    if (++w->misses >= SPIN_MISSES) {
        w->spinning = false;
        w->hits = 0;
    }
    return false;
}

static bool over(struct nbd_worker *w)
{
    if (!list_empty(&w->conns) || __atomic_load_n(&w->shared->accepting, __ATOMIC_ACQUIRE))
        return false;
    base_mutex_lock(&w->lock);
    bool empty = list_empty(&w->inbox);
    base_mutex_unlock(&w->lock);
    return empty;
}

static void loop(void *arg)
{
    struct nbd_worker *w = arg;
    look_around(w);
    for (;;) {
        serve_each(w, false);
        if (over(w))
            return;
        if (!spin(w))
            wait(w);
    }
}

/* ---- start and end --------------------------------------------------------------------- */

int nbd_worker_start(struct nbd_worker *w, struct nbd_shared *shared)
{
    memset(w, 0, sizeof(*w));
    w->shared = shared;
    list_init(&w->inbox);
    list_init(&w->conns);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &e) < 0) {
        int error = -errno;
        close(w->epoll);
        close(w->wake);
        return error;
    }
    base_mutex_init(&w->lock);
    int error = base_thread_start(&w->thread, loop, w, -1);
    if (error < 0) {
        base_mutex_fini(&w->lock);
        close(w->epoll);
        close(w->wake);
    }
    return error;
}

void nbd_worker_join(struct nbd_worker *w)
{
    base_thread_join(&w->thread);
    base_mutex_fini(&w->lock);
    close(w->epoll);
    close(w->wake);
}

void nbd_worker_give(struct nbd_worker *w, struct nbd_conn *c)
{
    __atomic_fetch_add(&w->load, 1, __ATOMIC_RELAXED);
    base_mutex_lock(&w->lock);
    list_push_back(&w->inbox, &c->node);
    base_mutex_unlock(&w->lock);
    nbd_worker_wake(w);
}

void nbd_worker_wake(struct nbd_worker *w)
{
    uint64_t one = 1;
    while (write(w->wake, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}
