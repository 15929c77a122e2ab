/* Devices that run programs: workers, and the runs that wait for one. */
#include <errno.h>
#include <string.h>

#include <ashlar/blk_driver.h>

#include "base/util.h"
#include "csd/run.h"

enum { PIECE = 256 << 10, READ_AHEAD = 4 << 20 };

/* ---- open and close --------------------------------------------------------------------- */

static struct csd_geometry geometry_of(const struct blk_info *i, uint64_t read_ahead)
{
    struct csd_geometry g = {.block = i->block_size};
    g.sector = (uint32_t)max_u64(i->block_size, 512);
    g.piece =
        (uint32_t)max_u64(round_down(min_u64(PIECE, i->max_transfer), g.sector), i->block_size);
    const uint64_t ahead = (read_ahead ? read_ahead : READ_AHEAD) / g.piece;
    g.slots = 1 + (uint32_t)min_u64(max_u64(ahead, 1), CSD_MAX_PIECES - 1);
    g.stride = CSD_MAX_KEEP + round_up(g.piece, BASE_PAGE);
    g.size = g.slots * g.stride + CSD_MAX_KEEP + CSD_MAX_CHUNK;
    return g;
}

static void worker_main(void *arg)
{
    struct csd_worker *w = arg;
    struct csd *csd = w->csd;
    base_mutex_lock(&csd->lock);
    for (;;) {
        if (!list_empty(&csd->waiting)) {
            struct csd_run *run = container_of(csd->waiting.next, struct csd_run, node);
            list_remove(&run->node);
            list_push_back(&csd->running, &run->node);
            run->started = true;
            base_mutex_unlock(&csd->lock);
            csd_execute(w, run);
            base_mutex_lock(&csd->lock);
            list_remove(&run->node);
            run->finished = true;
            base_cond_broadcast(&csd->changed);
        } else if (csd->stopping) {
            break;
        } else {
            base_cond_wait(&csd->changed, &csd->lock);
        }
    }
    base_mutex_unlock(&csd->lock);
}

static int start_worker(struct csd *csd, struct csd_worker *w)
{
    const struct blk_info *i = blk_info(csd->dev);
    w->csd = csd;
    /* Two streams, and one request beside them. */
    const uint64_t depth = min_u64(2 * csd->geometry.slots + 1, i->max_depth);
    int error = blk_queue_open(csd->dev, (unsigned)depth, &w->queue);
    if (error < 0)
        return error;
    error = base_thread_start(&w->thread, worker_main, w, -1);
    if (error < 0)
        blk_queue_close(w->queue);
    return error;
}

int csd_open(struct blk *dev, const struct csd_options *options, struct csd **out,
             struct blk_error *err)
{
    static const struct csd_options defaults;
    const struct csd_options *o = options ? options : &defaults;
    const struct blk_info *i = blk_info(dev);
    *out = NULL;
    struct csd *csd = base_alloc(sizeof(*csd));
    if (!csd)
        return blk_error_set(err, -ENOMEM, "out of memory");
    csd->dev = dev;
    csd->geometry = geometry_of(i, o->read_ahead);
    base_mutex_init(&csd->lock);
    base_cond_init(&csd->changed);
    list_init(&csd->waiting);
    list_init(&csd->running);
    const uint64_t wanted = min_u64(o->workers ? o->workers : base_cpu_count(),
                                    min_u64(CSD_MAX_WORKERS, i->max_queues));
    int error = 0;
    while (error == 0 && csd->worker_count < wanted) {
        error = start_worker(csd, &csd->worker[csd->worker_count]);
        if (error == 0)
            csd->worker_count++;
    }
    /* Others may have queues open: as many as there are, then, unless a number was asked for. */
    if (!csd->worker_count || (error < 0 && o->workers)) {
        csd_close(csd);
        return blk_error_set(err, error, "%.200s: no queue for %s can be opened (error %d)",
                             blk_spec(dev), wanted > 1 ? "each worker" : "programs", -error);
    }
    *out = csd;
    return 0;
}

void csd_close(struct csd *csd)
{
    if (!csd)
        return;
    base_mutex_lock(&csd->lock);
    csd->stopping = true;
    base_cond_broadcast(&csd->changed);
    base_mutex_unlock(&csd->lock);
    for (unsigned i = 0; i < csd->worker_count; i++) {
        struct csd_worker *w = &csd->worker[i];
        base_thread_join(&w->thread);
        blk_queue_close(w->queue);
        if (w->reads.memory)
            base_unreserve(w->reads.memory, round_up(csd->geometry.size, BASE_PAGE));
    }
    base_cond_fini(&csd->changed);
    base_mutex_fini(&csd->lock);
    base_free(csd);
}

/* ---- programs -------------------------------------------------------------------------- */

int csd_load(struct csd *csd, const struct bpf_module *module,
             const struct csd_load_options *options, struct csd_program **out, struct bpf_log *log)
{
    static const struct csd_load_options defaults;
    const struct csd_load_options *o = options ? options : &defaults;
    *out = NULL;
    struct csd_program *p = base_alloc(sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->csd = csd;
    csd_fill_environment(o->memory, &csd->geometry, p->regions, p->helpers, &p->environment);
    const int error = bpf_prog_open(module, &p->environment, &o->bpf, &p->prog, log);
    if (error < 0) {
        base_free(p);
        return error;
    }
    *out = p;
    return 0;
}

void csd_unload(struct csd_program *program)
{
    if (!program)
        return;
    bpf_prog_close(program->prog);
    base_free(program);
}

const struct bpf_prog *csd_prog(const struct csd_program *program)
{
    return program->prog;
}

void csd_environment(uint64_t memory, struct bpf_region *regions, struct bpf_helper *helpers,
                     struct bpf_environment *environment)
{
    const struct blk_info typical = {.block_size = 512, .max_transfer = PIECE};
    const struct csd_geometry g = geometry_of(&typical, 0);
    csd_fill_environment(memory, &g, regions, helpers, environment);
}

/* ---- runs ------------------------------------------------------------------------------ */

static bool aligned(const struct csd_range *range, uint64_t unit)
{
    return !(range->offset % unit) && !(range->len % unit);
}

static int check_call(const struct csd *csd, const struct csd_call *call)
{
    const struct blk_info *i = blk_info(csd->dev);
    const struct csd_range *read = &call->read, *append = &call->append;
    if (!range_ok(read->offset, read->len, i->size) || !aligned(read, i->block_size) ||
        !range_ok(append->offset, append->len, i->size) ||
        !aligned(append, i->zoned ? i->zone_size : i->block_size) ||
        call->zone_size % csd->geometry.sector || call->arg_size > CSD_MAX_ARG ||
        read->len > INT64_MAX || call->zone_size > INT64_MAX ||
        i->zone_size > INT64_MAX) /* what helpers can tell */
        return -EINVAL;
    return append->len && i->read_only ? -EROFS : 0;
}

static bool overlap(const struct list *runs, const struct csd_range *append)
{
    struct list *node;
    list_for_each(node, runs)
    {
        const struct csd_range *other = &container_of(node, struct csd_run, node)->call.append;
        if (append->len && other->len && append->offset < other->offset + other->len &&
            other->offset < append->offset + append->len)
            return true;
    }
    return false;
}

int csd_submit(struct csd_program *program, const struct csd_call *call, struct csd_run **out)
{
    struct csd *csd = program->csd;
    int error = check_call(csd, call);
    *out = NULL;
    if (error < 0)
        return error;
    struct csd_run *run = base_alloc(sizeof(*run) + call->arg_size);
    struct csd_result *result = base_alloc(sizeof(*result));
    if (!run || !result) {
        base_free(run);
        base_free(result);
        return -ENOMEM;
    }
    run->program = program;
    run->call = *call;
    run->call.arg = run + 1;
    run->result = result;
    if (call->arg_size)
        memcpy(run + 1, call->arg, call->arg_size);
    base_mutex_lock(&csd->lock);
    if (!blk_info(csd->dev)->zoned &&
        (overlap(&csd->waiting, &call->append) || overlap(&csd->running, &call->append)))
        error = -EBUSY;
    else
        list_push_back(&csd->waiting, &run->node);
    base_cond_broadcast(&csd->changed);
    base_mutex_unlock(&csd->lock);
    if (error < 0) {
        base_free(run);
        base_free(result);
        return error;
    }
    *out = run;
    return 0;
}

int csd_wait(struct csd_run *run, struct csd_result *result)
{
    struct csd *csd = run->program->csd;
    base_mutex_lock(&csd->lock);
    while (!run->finished)
        base_cond_wait(&csd->changed, &csd->lock);
    base_mutex_unlock(&csd->lock);
    *result = *run->result;
    base_free(run->result);
    base_free(run);
    return result->error;
}

void csd_cancel(struct csd_run *run)
{
    struct csd *csd = run->program->csd;
    base_mutex_lock(&csd->lock);
    run->cancelled = true;
    if (run->vm)
        bpf_vm_cancel(run->vm);
    if (!run->started && !run->finished) {
        list_remove(&run->node);
        run->result->error = -ECANCELED;
        run->finished = true;
        base_cond_broadcast(&csd->changed);
    }
    base_mutex_unlock(&csd->lock);
}

int csd_run(struct csd_program *program, const struct csd_call *call, struct csd_result *result)
{
    struct csd_run *run;
    const int error = csd_submit(program, call, &run);
    if (error == 0)
        return csd_wait(run, result);
    memset(result, 0, sizeof(*result));
    result->error = error;
    return error;
}

void csd_result_free(struct csd_result *result)
{
    base_free(result->data);
    result->data = NULL;
    result->size = 0;
}
