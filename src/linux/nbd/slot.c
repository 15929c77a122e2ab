/* Slots and buffers of a connection: all that its requests will need, made once. */
#include "linux/nbd/conn.h"

#include <errno.h>

#include "base/platform.h"
#include "base/util.h"

static int open_parts(struct nbd_conn *c, struct blk *dev)
{
    unsigned count = (unsigned)min_u64(NBD_SLOTS, blk_info(dev)->max_depth);
    int error = blk_queue_open(dev, count, &c->queue);
    if (error < 0)
        return error;
    c->slot_count = count;
    c->slots = base_alloc_array(count, sizeof(*c->slots));
    c->small = blk_buf_alloc(c->queue, (size_t)count * NBD_SMALL);
    error = nbd_arena_init(&c->arena, NBD_MAX_PAYLOAD);
    return c->slots && c->small ? error : -ENOMEM;
}

int nbd_slots_open(struct nbd_conn *c, const struct nbd_export *export)
{
    int error = open_parts(c, export->dev);
    if (error < 0) {
        nbd_slots_close(c);
        return error;
    }
    for (unsigned i = c->slot_count; i-- > 0;) {
        struct nbd_slot *s = &c->slots[i];
        s->small = c->small + (size_t)i * NBD_SMALL;
        s->req.user = s;
        s->next = c->free;
        c->free = s;
    }
    c->replies_tail = &c->replies;
    c->export = export;
    c->info = blk_info(export->dev);
    return 0;
}

void nbd_slots_close(struct nbd_conn *c)
{
    nbd_arena_fini(&c->arena);
    if (c->small)
        blk_buf_free(c->queue, c->small);
    base_free(c->slots);
    if (c->queue)
        blk_queue_close(c->queue);
    c->small = NULL;
    c->slots = c->free = NULL;
    c->queue = NULL;
}

struct nbd_slot *nbd_slot_take(struct nbd_conn *c, size_t buffer)
{
    struct nbd_slot *s = c->free;
    if (!s)
        return NULL;
    s->data = buffer ? s->small : NULL;
    if (buffer > NBD_SMALL && !(s->data = nbd_arena_take(&c->arena, buffer)))
        return NULL;
    c->free = s->next;
    c->slots_used++;
    s->step = NBD_STEP_MAIN;
    s->submitted = s->abandoned = false;
    s->error = NBD_OK;
    s->message = NULL;
    return s;
}

void nbd_slot_give(struct nbd_conn *c, struct nbd_slot *s)
{
    if (s->data && s->data != s->small)
        nbd_arena_give(&c->arena, s->data);
    s->data = NULL;
    s->next = c->free;
    c->free = s;
    c->slots_used--;
}
