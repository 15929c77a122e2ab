/* Reading ahead: several requests in flight before the place that a program is at. */
#include "csd/run.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static uint32_t slot(const struct csd_run *run, const struct csd_stream *s, uint32_t n)
{
    return (s->head + n) % csd_geometry(run)->slots;
}

static uint8_t *slot_memory(const struct csd_run *run, const struct csd_stream *s, uint32_t index)
{
    return s->memory + index * csd_geometry(run)->stride + CSD_MAX_KEEP;
}

/* Move `ahead` to what is to be read next, which ends at *end. False: nothing is left. */
static bool find_part(const struct csd_run *run, struct csd_stream *s, uint64_t *end)
{
    *end = s->end;
    if (!s->in_parts)
        return s->ahead < s->end;
    while (s->part < run->part_count && run->parts[s->part].end <= s->ahead)
        s->part++;
    if (s->part == run->part_count)
        return false;
    s->ahead = max_u64(s->ahead, run->parts[s->part].start);
    *end = run->parts[s->part].end;
    return true;
}

/* Put as many pieces on their way as there are slots, and room in the queue. False: there is
 * nothing left to read, and nothing on its way. */
static bool fill(struct csd_run *run, struct csd_stream *s)
{
    const struct csd_geometry *g = csd_geometry(run);
    uint64_t end;
    while (s->count < g->slots && find_part(run, s, &end)) {
        const uint32_t index = slot(run, s, s->count);
        struct csd_piece *p = &s->piece[index];
        struct blk_req *r = &p->req;
        blk_req_read(r, s->ahead, slot_memory(run, s, index), min_u64(g->piece, end - s->ahead));
        r->user = p;
        p->done = false;
        if (blk_submit(run->queue, &r, 1) == 0)
            return true;
        csd_note(run, s->ahead, p->req.len, false);
        s->ahead += p->req.len;
        s->in_flight++;
        s->count++;
    }
    return s->count > 0;
}

void csd_stream_done(struct csd_run *run, struct blk_req *req)
{
    struct csd_piece *p = req->user;
    const struct csd_piece *first = run->chunks.piece;
    const bool chunks = p >= first && p < first + CSD_MAX_PIECES;
    p->done = true;
    (chunks ? &run->chunks : run->reads)->in_flight--;
    if (req->result < 0)
        csd_note_error(run, req->offset, req->result, false);
}

void csd_stream_stop(struct csd_run *run, struct csd_stream *s)
{
    struct blk_req *done[16];
    while (s->in_flight) {
        const unsigned n = blk_reap(run->queue, done, ARRAY_SIZE(done), BLK_FOREVER);
        for (unsigned i = 0; i < n; i++)
            csd_stream_done(run, done[i]);
    }
    s->count = 0;
    s->active = false;
}

void csd_stream_start(struct csd_run *run, struct csd_stream *s, uint64_t offset, uint64_t end)
{
    csd_stream_stop(run, s);
    s->position = offset;
    s->ahead = round_down(offset, csd_geometry(run)->block);
    s->end = end;
    s->head = 0;
    s->part = 0;
    s->in_parts = s == &run->chunks;
    s->active = true;
    fill(run, s);
}

/* Where the first piece ends. */
static uint64_t piece_end(const struct csd_stream *s)
{
    const struct blk_req *r = &s->piece[s->head].req;
    return r->offset + r->len;
}

void csd_stream_advance(struct csd_run *run, struct csd_stream *s, const uint8_t *end,
                        uint64_t keep)
{
    if (s->count && s->position == piece_end(s)) {
        const uint32_t next = slot(run, s, 1);
        if (keep)
            memcpy(slot_memory(run, s, next) - keep, end - keep, keep);
        s->head = next;
        s->count--;
    }
    fill(run, s);
}

int64_t csd_stream_get(struct csd_run *run, struct csd_stream *s, uint8_t **data)
{
    const struct csd_piece *p = &s->piece[s->head];
    for (;;) {
        if (s->position >= s->end || !fill(run, s))
            return 0;
        if (s->count && p->done)
            break;
        const int error = csd_reap(run);
        if (error < 0)
            return error;
    }
    if (p->req.result < 0) {
        s->position = piece_end(s);
        return p->req.result;
    }
    s->position = max_u64(s->position, p->req.offset); /* behind what is left out */
    *data = slot_memory(run, s, s->head) + (s->position - p->req.offset);
    return (int64_t)(min_u64(piece_end(s), s->end) - s->position);
}

int csd_stream_copy(struct csd_run *run, struct csd_stream *s, uint64_t offset, uint8_t *to,
                    uint64_t len)
{
    while (len) {
        uint8_t *from;
        csd_stream_advance(run, s, NULL, 0);
        const int64_t there = csd_stream_get(run, s, &from);
        if (there <= 0)
            return there < 0 ? (int)there : -ERANGE;
        const uint64_t skip = min_u64(offset - s->position, (uint64_t)there);
        const uint64_t part = min_u64(len, (uint64_t)there - skip);
        if (part)
            memcpy(to, from + skip, part);
        s->position += skip + part;
        offset += part;
        to += part;
        len -= part;
    }
    return 0;
}
