/* A connection: receiving, the course from phase to phase, the end. */
#include "linux/nbd/conn.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"

enum {
    ROUNDS = 64,        /* of service, before others have their turn */
    BULK = 64 << 10,    /* payload still to come that makes the next read go for it alone */
    BULK_BEHIND = 4096, /* and take no more than this of what follows */
};

struct nbd_conn *nbd_conn_new(const struct nbd_service *service, int fd)
{
    struct nbd_conn *c = base_alloc(sizeof(*c));
    if (!c)
        return NULL;
    c->service = service;
    c->out_size = nbd_negotiate_out_size(service);
    c->in = base_alloc(NBD_IN_SIZE);
    c->out = base_alloc(c->out_size);
    if (!c->in || !c->out) {
        base_free(c->in);
        base_free(c->out);
        base_free(c);
        return NULL;
    }
    nbd_stream_init(&c->stream, fd);
    c->readable = c->writable = true;
    c->started = base_now_ns();
    c->deadline = c->started + service->patience;
    c->device_fd = -1;
    c->replies_tail = &c->replies;
    nbd_negotiate_greet(c);
    return c;
}

void nbd_conn_free(struct nbd_conn *c)
{
    nbd_slots_close(c);
    nbd_stream_close(&c->stream, !c->broken);
    base_free(c->in);
    base_free(c->out);
    base_free(c);
}

/* ---- receiving ------------------------------------------------------------------------- */

/* What was received and parsed makes room. */
static void make_room(struct nbd_conn *c)
{
    if (c->in_start == c->in_end) {
        c->in_start = c->in_end = 0;
    } else if (c->in_start && c->in_end > NBD_IN_SIZE / 2) {
        memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
        c->in_end -= c->in_start;
        c->in_start = 0;
    }
}

static unsigned places(const struct nbd_conn *c, struct iovec *iov)
{
    unsigned n = 0;
    size_t room = NBD_IN_SIZE - c->in_end;
    if (c->filling) {
        size_t missing = c->filling->request.len - c->filled;
        iov[n++] = (struct iovec){c->filling->data + c->filled, missing};
        if (missing > BULK)
            room = min_u64(room, BULK_BEHIND);
    }
    if (room)
        iov[n++] = (struct iovec){c->in + c->in_end, room};
    return n;
}

static void received(struct nbd_conn *c, size_t got)
{
    if (c->filling) {
        struct nbd_slot *s = c->filling;
        size_t part = min_u64(got, s->request.len - c->filled);
        c->filled += part;
        got -= part;
        if (c->filled == s->request.len)
            c->filling = NULL;
        nbd_request_more(c, s);
    }
    c->in_end += got;
}

static bool receive(struct nbd_conn *c)
{
    struct iovec iov[2];
    if (!c->readable || c->ending || c->broken || c->phase == NBD_TLS)
        return false;
    make_room(c);
    unsigned n = places(c, iov);
    if (!n)
        return false;
    size_t asked = iov[0].iov_len + (n > 1 ? iov[1].iov_len : 0);
    ssize_t got = nbd_stream_read(&c->stream, iov, n);
    if (got == -EAGAIN || (got > 0 && (size_t)got < asked && !c->stream.tls && !c->hangup))
        c->readable = false;
    if (got == -EAGAIN)
        return false;
    if (got == 0)
        nbd_conn_end(c);
    else if (got < 0)
        c->broken = true;
    else
        received(c, (size_t)got);
    return true;
}

/* ---- requests -------------------------------------------------------------------------- */

/* The payload, or what of it is here. */
static void fill(struct nbd_conn *c, struct nbd_slot *s)
{
    size_t part = min_u64(s->request.len, c->in_end - c->in_start);
    if (part)
        memcpy(s->data, c->in + c->in_start, part);
    c->in_start += part;
    if (part == s->request.len)
        return;
    c->filling = s;
    c->filled = part;
}

static size_t buffer_size(const struct nbd_request *r)
{
    if (r->type == NBD_CMD_READ || r->type == NBD_CMD_WRITE)
        return r->len;
    return r->type == NBD_CMD_BLOCK_STATUS ? NBD_SMALL : 0;
}

/* Take the next request; false: it is not all here, or there is no room for it now. */
static bool take_request(struct nbd_conn *c)
{
    struct nbd_request r;
    const char *why = NULL;
    if (c->in_end - c->in_start < NBD_REQUEST_SIZE)
        return false;
    if (!nbd_parse_request(c->in + c->in_start, &r)) {
        c->broken = true;
        return false;
    }
    if (r.type == NBD_CMD_DISC) {
        nbd_conn_end(c);
        return false;
    }
    enum nbd_error error = nbd_check_request(&c->terms, &r, &why);
    struct nbd_slot *s = nbd_slot_take(c, error ? 0 : buffer_size(&r));
    if (!s)
        return false;
    c->in_start += NBD_REQUEST_SIZE;
    s->request = r;
    if (error) {
        s->error = error;
        s->message = why;
        c->skip = r.type == NBD_CMD_WRITE ? r.len : 0;
        nbd_reply(c, s);
    } else {
        if (r.type == NBD_CMD_WRITE)
            fill(c, s);
        nbd_request_start(c, s);
    }
    return true;
}

static bool skip(struct nbd_conn *c)
{
    size_t part = min_u64(c->skip, c->in_end - c->in_start);
    c->in_start += part;
    c->skip -= part;
    return part;
}

/* Look at what was received, as far as there is room for it. */
static bool consume(struct nbd_conn *c)
{
    bool any = false;
    while (!c->ending && !c->broken) {
        if (c->skip)
            any |= skip(c);
        if (c->skip || c->filling)
            break;
        if (c->phase != NBD_TRANSMISSION) {
            if (!nbd_negotiate(c))
                break;
            if (!c->skip && c->phase != NBD_TRANSMISSION)
                c->deadline = min_u64(base_now_ns() + c->service->patience,
                                      c->started + 6 * c->service->patience);
            return true;
        }
        if (!take_request(c))
            break;
        any = true;
        if (c->batch_bytes >= NBD_BATCH_BYTES) {
            nbd_request_submit(c);
            nbd_request_reap(c);
            nbd_reply_send(c);
        }
    }
    return any;
}

/* ---- service --------------------------------------------------------------------------- */

/* A socket that is of no more use: nothing is kept for it. */
static void give_up(struct nbd_conn *c)
{
    c->out_sent = c->out_len;
    c->stream.record_len = 0;
    nbd_reply_drop(c);
}

bool nbd_conn_service(struct nbd_conn *c)
{
    bool any = false, moved = true;
    for (unsigned round = 0; moved && round < ROUNDS; round++) {
        moved = receive(c);
        moved |= consume(c);
        if (c->batch_count)
            nbd_request_submit(c);
        moved |= nbd_request_reap(c);
        moved |= nbd_reply_send(c);
        any |= moved;
    }
    if ((c->ending || c->broken) && c->filling) {
        nbd_request_abandon(c, c->filling);
        c->filling = NULL;
    }
    if (c->broken)
        give_up(c);
    c->busy = moved;
    return any;
}

bool nbd_conn_finished(const struct nbd_conn *c)
{
    return (c->ending || c->broken) && !c->slots_used && c->out_sent == c->out_len &&
           !c->stream.record_len;
}

void nbd_conn_end(struct nbd_conn *c)
{
    if (c->ending)
        return;
    c->ending = true;
    c->deadline = base_now_ns() + c->service->patience;
    if (c->phase == NBD_TLS)
        c->broken = true;
}

void nbd_conn_tick(struct nbd_conn *c, uint64_t now)
{
    if (c->deadline && now >= c->deadline && !c->broken) {
        c->broken = true;
        c->run = true;
    }
    if (c->queue)
        nbd_arena_trim(&c->arena);
}
