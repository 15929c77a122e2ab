/* One run on a worker's queue, and what it counts. */
#include "csd/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <ashlar/zone.h>

#include "base/util.h"

/* How long a run waits for the device before it looks whether it was cancelled. */
#define LOOK_NS UINT64_C(20000000)

/* ---- notes ----------------------------------------------------------------------------- */

void csd_note(struct csd_run *run, uint64_t offset, uint64_t len, bool written)
{
    struct csd_stats *s = &run->result->stats;
    s->requests++;
    if (!len)
        return;
    if (written)
        s->written += len;
    else
        s->read += len;
    csd_audit(run->result, offset, len, written);
}

void csd_note_error(struct csd_run *run, uint64_t offset, int error, bool written)
{
    struct csd_stats *s = &run->result->stats;
    if (written)
        s->write_errors++;
    else
        s->read_errors++;
    if (s->first_error)
        return;
    s->first_error = error;
    s->error_offset = offset;
}

/* ---- waiting for the device ------------------------------------------------------------ */

/* Take what is there, waiting up to `timeout`. */
static void reap(struct csd_run *run, uint64_t timeout)
{
    struct blk_req *done[32];
    const unsigned n = blk_reap(run->queue, done, ARRAY_SIZE(done), (int64_t)timeout);
    for (unsigned i = 0; i < n; i++)
        csd_stream_done(run, done[i]);
}

int csd_check(struct csd_run *run)
{
    int error = 0;
    if (bpf_vm_cancelled(run->vm))
        error = -ECANCELED;
    else if (base_now_ns() >= bpf_vm_deadline(run->vm))
        error = -ETIME;
    if (error < 0)
        bpf_vm_fail(run->vm, error);
    return error;
}

int csd_reap(struct csd_run *run)
{
    const int error = csd_check(run);
    if (error < 0)
        return error;
    const uint64_t deadline = bpf_vm_deadline(run->vm), start = base_now_ns();
    reap(run, min_u64(LOOK_NS, deadline - min_u64(start, deadline)));
    run->result->stats.wait_ns += base_now_ns() - start;
    return 0;
}

void csd_make_room(struct csd_run *run)
{
    while (blk_queue_in_flight(run->queue) == blk_queue_depth(run->queue))
        reap(run, LOOK_NS);
}

int csd_request(struct csd_run *run, struct blk_req *req)
{
    const uint64_t start = base_now_ns();
    csd_make_room(run);
    const int error = blk_execute(run->queue, req);
    run->result->stats.wait_ns += base_now_ns() - start;
    return error;
}

/* ---- what helpers report to the caller -------------------------------------------------- */

/* Make room for so many bytes more in result->data. */
static int grow(struct csd_run *run, uint64_t len)
{
    struct csd_result *r = run->result;
    if (len <= run->room - r->size)
        return 0;
    const uint64_t room = max_u64(max_u64(2 * run->room, r->size + len), 4096);
    uint8_t *data = base_alloc(room);
    if (!data)
        return -ENOMEM;
    if (r->size)
        memcpy(data, r->data, r->size);
    base_free(r->data);
    r->data = data;
    run->room = room;
    return 0;
}

int csd_return(struct csd_run *run, const void *data, uint64_t len)
{
    struct csd_stats *s = &run->result->stats;
    if (len > run->max_return - s->returned)
        return -EFBIG;
    if (!len)
        return 0;
    if (run->call.returned) {
        const int error = run->call.returned(run->call.user, data, len);
        if (error < 0)
            return error;
    } else {
        if (grow(run, len) < 0)
            return -ENOMEM;
        memcpy((uint8_t *)run->result->data + run->result->size, data, len);
        run->result->size += len;
    }
    s->returned += len;
    return 0;
}

/* ---- a run ------------------------------------------------------------------------------ */

/* What is written of a zone, as far as the range goes. What cannot be read counts too: the program
 * gets the error. */
static void add_part(struct csd_run *run, const struct blk_zone *z)
{
    const struct csd_range *range = &run->call.read;
    const bool pointer = z->state >= BLK_ZONE_EMPTY && z->state <= BLK_ZONE_CLOSED;
    const uint64_t start = max_u64(z->start, range->offset);
    const uint64_t end =
        min_u64(pointer ? z->wp : z->start + z->capacity, range->offset + range->len);
    if (start < end)
        run->parts[run->part_count++] = (struct csd_part){start, end};
}

static int find_parts(struct csd_run *run)
{
    const struct blk_info *i = blk_info(run->program->csd->dev);
    const struct csd_range *range = &run->call.read;
    const uint64_t end = range->offset + range->len;
    run->parts =
        base_alloc_array(i->zoned ? range->len / i->zone_size + 2 : 1, sizeof(*run->parts));
    if (!run->parts)
        return -ENOMEM;
    run->zone_size = i->zoned              ? i->zone_size
                     : run->call.zone_size ? run->call.zone_size
                                           : max_u64(range->len, csd_geometry(run)->sector);
    run->zone_capacity = run->zone_size;
    if (!i->zoned && range->len)
        run->parts[run->part_count++] = (struct csd_part){range->offset, end};
    for (uint64_t at = range->offset; i->zoned && at < end;) {
        struct blk_zone zones[32];
        const int n = blk_zone_report(run->queue, at, zones, ARRAY_SIZE(zones));
        if (n <= 0)
            return n < 0 ? n : -EIO;
        if (at == range->offset)
            run->zone_capacity = zones[0].capacity;
        for (int k = 0; k < n && zones[k].start < end; k++)
            add_part(run, &zones[k]);
        at = zones[n - 1].start + zones[n - 1].len;
    }
    return 0;
}

static int prepare(struct csd_worker *worker, struct csd_run *run, struct bpf_vm *vm)
{
    const uint64_t bytes = run->call.read.len;
    run->queue = worker->queue;
    run->reads = &worker->reads;
    run->chunks.memory = bpf_vm_region(vm, CSD_REGION_CHUNK);
    base_reserve_large(run->chunks.memory, csd_geometry(run)->size);
    run->next_read = UINT64_MAX;
    if (!run->call.budget)
        run->call.budget =
            bytes > UINT64_MAX >> 9 ? BPF_UNLIMITED : (UINT64_C(1) << 32) + bytes * 256;
    if (!run->call.timeout_ns)
        run->call.timeout_ns = UINT64_C(3600000000000);
    run->max_return = run->call.max_return ? run->call.max_return : UINT64_C(1) << 30;
    if (run->call.arg_size)
        memcpy(bpf_vm_region(vm, CSD_REGION_CALL), run->call.arg, run->call.arg_size);
    run->chunks.position = run->call.read.offset;
    return find_parts(run);
}

/* The vm that csd_cancel() reaches; an error if it already came. */
static int publish(struct csd_run *run, struct bpf_vm *vm)
{
    struct csd *csd = run->program->csd;
    base_mutex_lock(&csd->lock);
    run->vm = vm;
    const bool cancelled = run->cancelled;
    base_mutex_unlock(&csd->lock);
    return cancelled ? -ECANCELED : 0;
}

static void sum_up(struct csd_run *run, uint64_t elapsed)
{
    struct csd_stats *s = &run->result->stats;
    s->time_ns = elapsed;
    s->compute_ns = elapsed - min_u64(elapsed, s->wait_ns);
    s->instructions = bpf_vm_instructions(run->vm);
    if (!s->read)
        return;
    const uint64_t share = s->returned <= UINT64_MAX / 1000000
                               ? s->returned * 1000000 / s->read
                               : s->returned / max_u64(s->read / 1000000, 1);
    s->reduction_ppm = 1000000 - (int64_t)min_u64(share, INT64_MAX);
}

/* From the first instruction to the last request. */
static void run_program(struct csd_run *run)
{
    struct csd_result *r = run->result;
    const struct bpf_limits limits = {run->call.budget, run->call.timeout_ns};
    const uint64_t start = base_now_ns();
    r->error = bpf_vm_run(run->vm, &limits, &r->value);
    csd_stream_stop(run, &run->chunks);
    csd_stream_stop(run, run->reads);
    const int error = csd_append_finish(run, r->error == 0);
    if (r->error < 0)
        snprintf(r->message, sizeof(r->message), "%s", bpf_vm_failure(run->vm));
    else
        r->error = error;
    sum_up(run, base_now_ns() - start);
}

void csd_execute(struct csd_worker *worker, struct csd_run *run)
{
    struct csd_result *r = run->result;
    struct bpf_vm *vm;
    r->error = bpf_vm_open(run->program->prog, run, &vm);
    if (r->error < 0)
        return;
    r->error = publish(run, vm);
    if (r->error == 0) {
        r->error = prepare(worker, run, vm);
        if (r->error < 0)
            snprintf(r->message, sizeof(r->message), "the zones of the device are not told");
        else
            run_program(run);
    }
    base_free(run->parts);
    publish(run, NULL);
    bpf_vm_close(vm);
}
