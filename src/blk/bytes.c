/*
 * Byte I/O at any offset and size on a device of blocks.
 *
 * An unaligned write reads the blocks at its edges, changes them and writes them back; another
 * write to the same block in between would be lost. So each byte write stands in its device's
 * list while it runs: aligned ones pass each other freely, an unaligned one waits until no write
 * in the list shares a block with it, and is waited for likewise. A write holds its whole range
 * at once and nothing else, so there is no deadlock.
 */
#include "blk/core.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

/* A byte write in flight; lives on the stack of its thread. */
struct byte_write {
    struct list node;
    uint64_t start; /* in whole blocks */
    uint64_t end;
    bool exclusive; /* has an edge that is read, changed and written */
};

static bool conflicts(const struct blk_core *core, const struct byte_write *w)
{
    struct list *node;
    list_for_each(node, &core->byte_writes)
    {
        const struct byte_write *other = container_of(node, struct byte_write, node);
        if (w->start < other->end && other->start < w->end && (w->exclusive || other->exclusive))
            return true;
    }
    return false;
}

static void enter(struct blk_core *core, struct byte_write *w)
{
    base_mutex_lock(&core->lock);
    while (conflicts(core, w))
        base_cond_wait(&core->changed, &core->lock);
    list_push_back(&core->byte_writes, &w->node);
    base_mutex_unlock(&core->lock);
}

static void leave(struct blk_core *core, struct byte_write *w)
{
    base_mutex_lock(&core->lock);
    list_remove(&w->node);
    base_mutex_unlock(&core->lock);
    base_cond_broadcast(&core->changed);
}

/* Room for data that cannot go straight to or from the caller's memory. */
static size_t bounce_size(const struct blk_info *i)
{
    return max_u64(i->block_size, round_down(min_u64(128 << 10, i->max_transfer), i->block_size));
}

static char *bounce(struct blk_queue *q)
{
    if (!q->bounce)
        q->bounce = base_alloc_aligned(BASE_PAGE, bounce_size(&q->dev->info));
    return q->bounce;
}

static bool suits(const struct blk_info *i, uint64_t offset, const void *data, size_t len)
{
    return !((offset | len) & (i->block_size - 1)) &&
           !(((uintptr_t)data | len) & (i->buf_align - 1));
}

/* The next piece of [offset, offset+len): straight from the caller's memory where it suits, else
 * what of it lies within one bounce buffer of whole blocks. */
struct piece {
    size_t len;
    bool direct;
    uint64_t start; /* blocks to move through the bounce buffer */
    size_t span;
};

static struct piece next_piece(const struct blk_info *i, uint64_t offset, const void *data,
                               size_t len)
{
    struct piece p = {.direct = true, .len = round_down(len, i->block_size)};
    if (p.len && suits(i, offset, data, p.len))
        return p;
    p.direct = false;
    p.start = round_down(offset, i->block_size);
    size_t into = (size_t)(offset - p.start);
    p.len = min_u64(len, bounce_size(i) - into);
    /* Only the edge goes through the buffer if the memory after it suits. */
    size_t edge = into ? i->block_size - into : 0;
    if (edge && edge < len && suits(i, 0, (const char *)data + edge, 0))
        p.len = edge;
    p.span = round_up(into + p.len, i->block_size);
    return p;
}

int blk_read_bytes(struct blk_queue *q, uint64_t offset, void *data, size_t len)
{
    const struct blk_info *i = &q->dev->info;
    char *to = data;
    if (!range_ok(offset, len, i->size))
        return -ERANGE;
    while (len) {
        struct piece p = next_piece(i, offset, to, len);
        int error;
        if (p.direct) {
            error = blk_read(q, offset, to, p.len);
        } else {
            char *b = bounce(q);
            error = b ? blk_read(q, p.start, b, p.span) : -ENOMEM;
            if (error == 0)
                memcpy(to, b + (offset - p.start), p.len);
        }
        if (error < 0)
            return error;
        to += p.len;
        offset += p.len;
        len -= p.len;
    }
    return 0;
}

/* Read the first and last block of the piece if they are only partly overwritten. */
static int read_edges(struct blk_queue *q, const struct piece *p, uint64_t offset, char *b)
{
    uint32_t block = q->dev->info.block_size;
    bool head = offset != p->start;
    bool tail = offset + p->len != p->start + p->span;
    int error = 0;
    if (head || (tail && p->span == block))
        error = blk_read(q, p->start, b, block);
    if (error == 0 && tail && p->span > block)
        error = blk_read(q, p->start + p->span - block, b + p->span - block, block);
    return error;
}

static int write_piece(struct blk_queue *q, const struct piece *p, uint64_t offset,
                       const char *from, unsigned flags)
{
    if (p->direct)
        return blk_write(q, offset, from, p->len, flags);
    char *b = bounce(q);
    if (!b)
        return -ENOMEM;
    int error = read_edges(q, p, offset, b);
    if (error < 0)
        return error;
    memcpy(b + (offset - p->start), from, p->len);
    return blk_write(q, p->start, b, p->span, flags);
}

int blk_write_bytes(struct blk_queue *q, uint64_t offset, const void *data, size_t len,
                    unsigned flags)
{
    const struct blk_info *i = &q->dev->info;
    const char *from = data;
    if (!range_ok(offset, len, i->size))
        return -ERANGE;
    if (i->read_only)
        return -EROFS;
    struct byte_write w = {
        .start = round_down(offset, i->block_size),
        .end = round_up(offset + len, i->block_size),
        .exclusive = ((offset | len) & (i->block_size - 1)) != 0,
    };
    int error = 0;
    enter(q->dev->core, &w);
    while (len && error == 0) {
        struct piece p = next_piece(i, offset, from, len);
        error = write_piece(q, &p, offset, from, flags);
        from += p.len;
        offset += p.len;
        len -= p.len;
    }
    leave(q->dev->core, &w);
    return error;
}
