/* Appending: zone by zone where there are zones, else one place after the other. */
#include <errno.h>
#include <string.h>

#include <ashlar/zone.h>

#include "base/util.h"
#include "csd/run.h"

enum { BUFFER = 256 << 10 };

static const struct blk_info *info(const struct csd_run *run)
{
    return blk_info(run->program->csd->dev);
}

static int make_buffer(struct csd_run *run)
{
    const struct blk_info *i = info(run);
    struct csd_append *a = &run->append;
    if (a->buffer)
        return 0;
    uint64_t most = min_u64(BUFFER, i->max_transfer);
    if (i->zoned)
        most = min_u64(most, i->max_append);
    most = round_down(most, csd_geometry(run)->sector);
    if (!most)
        return -ENOTSUP;
    a->buffer_size = most;
    a->buffer = base_alloc_aligned(BASE_PAGE, most);
    return a->buffer ? 0 : -ENOMEM;
}

/* What bpf_read() would take from what was read in advance may be out of date. (csd_next() gives
 * what was there when it was read: csd_seek() reads anew.) */
static void forget_reads(struct csd_run *run, uint64_t offset, uint64_t len)
{
    struct csd_stream *s = run->reads;
    if (s->active && offset < s->end && s->position < offset + len)
        csd_stream_stop(run, s);
}

static int write_request(struct csd_run *run, struct blk_req *r)
{
    run->append.dirty = true;
    const int error = csd_request(run, r);
    if (error < 0) {
        csd_note_error(run, r->offset, error, true);
        return error;
    }
    csd_note(run, r->offset, r->len, true);
    forget_reads(run, r->offset, r->len);
    return 0;
}

/* len: whole sectors, at most buffer_size, in the buffer. */
static int append_zoned(struct csd_run *run, uint64_t zone, uint64_t len, uint64_t *landed)
{
    const struct blk_info *i = info(run);
    const struct csd_range *range = &run->call.append;
    if (zone >= range->len / i->zone_size)
        return -ERANGE;
    const uint64_t start = range->offset + zone * i->zone_size;
    struct blk_req r;
    blk_req_data(&r, BLK_ZONE_APPEND, start, run->append.buffer, len);
    const int error = write_request(run, &r);
    *landed = r.offset - start;
    return error;
}

static int append_plain(struct csd_run *run, uint64_t zone, uint64_t len, uint64_t *landed)
{
    const struct csd_range *range = &run->call.append;
    struct csd_append *a = &run->append;
    if (zone)
        return -ERANGE;
    if (!range_ok(a->at, len, range->len))
        return -ENOSPC;
    struct blk_req r;
    blk_req_write(&r, range->offset + a->at, a->buffer, len);
    const int error = write_request(run, &r);
    *landed = a->at;
    if (error == 0)
        a->at += len;
    return error;
}

/* The first len bytes of the buffer; the last sector is filled up with zeroes. */
static int append_buffer(struct csd_run *run, uint64_t zone, uint64_t len, uint64_t *landed)
{
    struct csd_append *a = &run->append;
    const uint64_t whole = round_up(len, csd_geometry(run)->sector);
    memset(a->buffer + len, 0, whole - len);
    return info(run)->zoned ? append_zoned(run, zone, whole, landed)
                            : append_plain(run, zone, whole, landed);
}

int csd_append_at(struct csd_run *run, uint64_t zone, const uint8_t *data, uint64_t len,
                  uint64_t *landed)
{
    struct csd_append *a = &run->append;
    int error = csd_append_flush(run);
    if (error == 0)
        error = make_buffer(run);
    if (error == 0 && info(run)->zoned && len > a->buffer_size)
        error = -E2BIG; /* its parts might land apart */
    if (error == 0 && !info(run)->zoned && len > run->call.append.len)
        error = -ENOSPC;
    for (uint64_t done = 0; error == 0 && done < len;) {
        const uint64_t part = min_u64(len - done, a->buffer_size);
        uint64_t place = 0;
        memcpy(a->buffer, data + done, part);
        error = csd_check(run);
        if (error == 0)
            error = append_buffer(run, zone, part, &place);
        if (done == 0)
            *landed = place;
        done += part;
    }
    return error;
}

/* How much csd_append() may append to the zone that it is at; it goes on to the next when that is
 * full or cannot be written. -ENOSPC after the last. */
static int64_t zone_room(struct csd_run *run)
{
    const struct blk_info *i = info(run);
    const struct csd_range *range = &run->call.append;
    struct csd_append *a = &run->append;
    for (; a->zone < range->len / i->zone_size; a->zone++) {
        struct blk_zone zone;
        csd_make_room(run);
        const int n = blk_zone_report(run->queue, range->offset + a->zone * i->zone_size, &zone, 1);
        if (n <= 0)
            return n < 0 ? n : -EIO;
        const bool writable = zone.state >= BLK_ZONE_EMPTY && zone.state <= BLK_ZONE_CLOSED;
        const uint64_t end = zone.start + zone.capacity;
        if (writable && zone.wp < end)
            return (int64_t)round_down(end - zone.wp, csd_geometry(run)->sector);
    }
    return -ENOSPC;
}

/* Write from the buffer's start: all of it, or what fits into the zone. The rest moves up. */
static int write_out(struct csd_run *run)
{
    struct csd_append *a = &run->append;
    uint64_t len = a->buffered, landed;
    if (info(run)->zoned) {
        const int64_t room = zone_room(run);
        if (room < 0)
            return (int)room;
        len = min_u64(len, (uint64_t)room);
    }
    /* append_buffer() fills up behind len: only what ends within a sector has nothing there. */
    const int error = append_buffer(run, a->zone, len, &landed);
    if (error < 0)
        return error;
    a->buffered -= len;
    memmove(a->buffer, a->buffer + len, a->buffered);
    return 0;
}

int csd_append_bytes(struct csd_run *run, const uint8_t *data, uint64_t len)
{
    struct csd_append *a = &run->append;
    int error = make_buffer(run);
    while (error == 0 && len) {
        const uint64_t part = min_u64(len, a->buffer_size - a->buffered);
        memcpy(a->buffer + a->buffered, data, part);
        a->buffered += part;
        data += part;
        len -= part;
        if (a->buffered == a->buffer_size)
            error = csd_check(run);
        if (a->buffered == a->buffer_size && error == 0)
            error = write_out(run);
    }
    return error;
}

int csd_append_flush(struct csd_run *run)
{
    int error = 0;
    while (error == 0 && run->append.buffered)
        error = write_out(run);
    return error;
}

int csd_append_finish(struct csd_run *run, bool rest)
{
    int error = rest ? csd_append_flush(run) : 0;
    if (error == 0 && run->append.dirty) {
        csd_make_room(run);
        error = blk_flush(run->queue);
        if (error < 0)
            csd_note_error(run, run->call.append.offset, error, true);
    }
    base_free(run->append.buffer);
    run->append.buffer = NULL;
    return error;
}
