/* Replies: how they look, and how many go out in one call. */
#include "linux/nbd/conn.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

/* ---- how they look --------------------------------------------------------------------- */

static void simple(struct nbd_slot *s)
{
    store_be32(s->head, NBD_SIMPLE_REPLY_MAGIC);
    store_be32(s->head + 4, s->error);
    store_be64(s->head + 8, s->request.cookie);
    s->head_len = NBD_SIMPLE_REPLY_SIZE;
}

/* A chunk that is the whole reply; inline_len bytes of its payload follow in the head. */
static uint8_t *chunk(struct nbd_slot *s, uint16_t type, uint32_t inline_len)
{
    store_be32(s->head, NBD_CHUNK_MAGIC);
    store_be16(s->head + 4, NBD_REPLY_FLAG_DONE);
    store_be16(s->head + 6, type);
    store_be64(s->head + 8, s->request.cookie);
    store_be32(s->head + 16, inline_len + s->body_len);
    s->head_len = NBD_CHUNK_SIZE + inline_len;
    return s->head + NBD_CHUNK_SIZE;
}

static void chunk_error(struct nbd_slot *s)
{
    s->body = s->message;
    s->body_len = s->message ? (uint32_t)strlen(s->message) : 0;
    uint8_t *payload = chunk(s, NBD_REPLY_TYPE_ERROR, 6);
    store_be32(payload, s->error);
    store_be16(payload + 4, (uint16_t)s->body_len);
}

/* Data shows at its first bytes that it is not all zeroes; looking at zeroes costs less than
 * sending them. */
static bool is_zero(const char *data, size_t len)
{
    uint64_t first[2];
    memcpy(first, data, sizeof(first));
    return !(first[0] | first[1]) && !memcmp(data, data + 16, len - 16);
}

static void chunk_data(struct nbd_slot *s)
{
    uint32_t len = s->request.len;
    if (len >= 512 && !(s->request.flags & NBD_CMD_FLAG_DF) && is_zero(s->data, len)) {
        uint8_t *payload = chunk(s, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
        store_be64(payload, s->request.offset);
        store_be32(payload + 8, len);
        return;
    }
    s->body = s->data;
    s->body_len = len;
    store_be64(chunk(s, NBD_REPLY_TYPE_OFFSET_DATA, 8), s->request.offset);
}

static void structured(struct nbd_slot *s)
{
    if (s->error) {
        chunk_error(s);
    } else if (s->request.type == NBD_CMD_BLOCK_STATUS) {
        s->body = s->data; /* and body_len is set */
        store_be32(chunk(s, NBD_REPLY_TYPE_BLOCK_STATUS, 4), NBD_ALLOCATION_ID);
    } else if (s->request.type == NBD_CMD_READ && s->request.len) {
        chunk_data(s);
    } else {
        chunk(s, NBD_REPLY_TYPE_NONE, 0);
    }
}

void nbd_reply(struct nbd_conn *c, struct nbd_slot *s)
{
    if (s->request.type != NBD_CMD_BLOCK_STATUS || s->error)
        s->body_len = 0;
    if (c->terms.structured) {
        structured(s);
    } else {
        simple(s);
        s->body = s->data;
        if (s->request.type == NBD_CMD_READ && !s->error)
            s->body_len = s->request.len;
    }
    s->next = NULL;
    *c->replies_tail = s;
    c->replies_tail = &s->next;
}

/* ---- sending --------------------------------------------------------------------------- */

enum { SEND_IOV = 128 };

static unsigned gather(const struct nbd_conn *c, struct iovec *iov)
{
    unsigned n = 0;
    size_t skip = c->reply_sent;
    for (struct nbd_slot *s = c->replies; s && n + 2 <= SEND_IOV; s = s->next) {
        if (skip < s->head_len)
            iov[n++] = (struct iovec){s->head + skip, s->head_len - skip};
        skip = skip < s->head_len ? 0 : skip - s->head_len;
        if (s->body_len)
            iov[n++] = (struct iovec){(char *)(uintptr_t)s->body + skip, s->body_len - skip};
        skip = 0;
    }
    return n;
}

static void drop_first(struct nbd_conn *c)
{
    struct nbd_slot *s = c->replies;
    c->replies = s->next;
    if (!c->replies)
        c->replies_tail = &c->replies;
    c->reply_sent = 0;
    nbd_slot_give(c, s);
}

static void account(struct nbd_conn *c, size_t sent)
{
    while (c->replies) {
        size_t left = (size_t)c->replies->head_len + c->replies->body_len - c->reply_sent;
        if (sent < left) {
            c->reply_sent += sent;
            return;
        }
        sent -= left;
        drop_first(c);
    }
}

void nbd_reply_drop(struct nbd_conn *c)
{
    while (c->replies)
        drop_first(c);
}

/* What a call of the stream said: whether to go on. */
static bool heed(struct nbd_conn *c, ssize_t n)
{
    if (n == -EAGAIN)
        c->writable = false;
    else if (n < 0)
        c->broken = true;
    return n >= 0;
}

static bool send_out(struct nbd_conn *c)
{
    while (c->out_sent < c->out_len) {
        struct iovec iov = {c->out + c->out_sent, c->out_len - c->out_sent};
        ssize_t n = nbd_stream_write(&c->stream, &iov, 1);
        if (!heed(c, n))
            return false;
        c->out_sent += (size_t)n;
    }
    return true;
}

bool nbd_reply_send(struct nbd_conn *c)
{
    bool any = c->out_sent < c->out_len || c->replies;
    if (c->broken || !c->writable || (!any && !c->stream.record_len))
        return false;
    if (!send_out(c))
        return false;
    while (c->replies) {
        struct iovec iov[SEND_IOV];
        ssize_t n = nbd_stream_write(&c->stream, iov, gather(c, iov));
        if (!heed(c, n))
            return any;
        account(c, (size_t)n);
    }
    heed(c, nbd_stream_flush(&c->stream));
    return any;
}
