/* A model: opening it checks everything but the data, whose every byte is allowed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/platform.h"
#include "base/util.h"
#include "gguf/read.h"

enum {
    MAGIC = 0x46554747, /* "GGUF" */
    DEFAULT_ALIGNMENT = 32,
    LINE_MIN = 8 + 4 + 4 + 8, /* bytes of a tensor's line with an empty name */
    PAIR_MIN = 8 + 4 + 1,
};

/* ---- opening ---------------------------------------------------------------------------- */

static int read_header(struct gguf *g)
{
    uint32_t magic;
    struct gguf_info *i = &g->info;
    int r = gguf_u32(g, &magic);
    if (r == 0 && magic != MAGIC)
        return blk_error_set(g->err, -EILSEQ, "no GGUF model starts here");
    if (r == 0)
        r = gguf_u32(g, &i->version);
    if (r == 0 && (i->version == 0x02000000 || i->version == 0x03000000))
        return blk_error_set(g->err, -ENOTSUP, "a big-endian GGUF file");
    if (r == 0 && i->version != 2 && i->version != 3)
        return blk_error_set(g->err, -ENOTSUP, "GGUF version %u; 2 and 3 can be read", i->version);
    if (r == 0)
        r = gguf_u64(g, &i->tensors);
    if (r == 0)
        r = gguf_u64(g, &i->metadata);
    if (r < 0)
        return r;
    const uint64_t left = g->limit - g->at;
    if (i->tensors > left / LINE_MIN)
        return gguf_bad(g, "%llu tensors do not fit in the file", (unsigned long long)i->tensors);
    if (i->metadata > left / PAIR_MIN)
        return gguf_bad(g, "%llu pairs of metadata do not fit in the file",
                        (unsigned long long)i->metadata);
    return 0;
}

static int read_metadata(struct gguf *g)
{
    struct gguf_value *v = base_alloc(sizeof(*v));
    struct gguf_info *info = &g->info;
    int r = v ? 0 : blk_error_set(g->err, -ENOMEM, "out of memory");
    g->metadata_at = g->at;
    info->alignment = DEFAULT_ALIGNMENT;
    for (uint64_t i = 0; r == 0 && i < info->metadata; i++) {
        r = gguf_pair(g, v);
        if (r == 0 && !strcmp(v->key, "general.alignment")) {
            if (v->type != GGUF_UINT32 || !v->bits || v->bits % 8)
                r = gguf_bad(g, "general.alignment is no multiple of 8");
            else
                info->alignment = (uint32_t)v->bits;
        }
        if (r == 0 && !strcmp(v->key, "tokenizer.ggml.tokens")) {
            if (v->type != GGUF_ARRAY || v->element != GGUF_STRING)
                r = gguf_bad(g, "tokenizer.ggml.tokens is no array of strings");
            else
                info->vocabulary = v->count;
        }
        if (r == 0)
            r = gguf_skip_rest(g, v);
    }
    base_free(v);
    return r;
}

static int by_offset(const void *a, const void *b)
{
    const struct gguf_entry *x = a, *y = b;
    return x->offset != y->offset ? (x->offset > y->offset) - (x->offset < y->offset)
                                  : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int check_layout(struct gguf *g)
{
    struct gguf_info *info = &g->info;
    qsort(g->entries, info->tensors, sizeof(g->entries[0]), by_offset);
    uint64_t end = 0;
    for (uint64_t i = 0; i < info->tensors; i++) {
        const struct gguf_entry *e = &g->entries[i];
        if (e->offset < end)
            return blk_error_set(g->err, -EILSEQ, "tensors overlap at byte %llu of the data",
                                 (unsigned long long)e->offset);
        if (e->offset > g->limit || !range_ok(info->data + e->offset, e->bytes, g->limit))
            return blk_error_set(g->err, -EILSEQ,
                                 "a tensor at byte %llu of the data reaches past the end: the file "
                                 "is truncated",
                                 (unsigned long long)e->offset);
        end = e->offset + e->bytes;
    }
    info->size = info->data + end;
    return 0;
}

static int read_tensors(struct gguf *g)
{
    struct gguf_info *info = &g->info;
    struct gguf_tensor t;
    uint64_t elements;
    int r = 0;
    g->tensors_at = g->at;
    g->entries = base_alloc_array(info->tensors + 1, sizeof(g->entries[0]));
    if (!g->entries)
        return blk_error_set(g->err, -ENOMEM, "out of memory for %llu tensors",
                             (unsigned long long)info->tensors);
    for (uint64_t i = 0; r == 0 && i < info->tensors; i++) {
        r = gguf_line(g, &t, &elements);
        if (r == 0 && t.offset % info->alignment)
            r = gguf_bad(g, "%s: its data is not aligned to %u bytes", t.name, info->alignment);
        if (r == 0 && __builtin_add_overflow(info->parameters, elements, &info->parameters))
            r = gguf_bad(g, "too many elements");
        g->entries[i] = (struct gguf_entry){t.offset, t.bytes};
    }
    if (r < 0)
        return r;
    info->data = (g->at + info->alignment - 1) / info->alignment * info->alignment;
    return check_layout(g);
}

int gguf_open(struct blk *dev, uint64_t offset, struct gguf **gguf, struct blk_error *err)
{
    const struct blk_info *i = blk_info(dev);
    struct gguf *g = base_alloc(sizeof(*g));
    *gguf = NULL;
    if (!g)
        return blk_error_set(err, -ENOMEM, "out of memory");
    g->dev = dev;
    g->start = offset;
    g->limit = offset < i->size ? i->size - offset : 0;
    g->err = err;
    g->window = base_alloc(GGUF_WINDOW);
    int r = g->window ? blk_queue_open(dev, 8, &g->queue) : -ENOMEM;
    if (r < 0)
        r = blk_error_set(err, r, "no queue can be opened");
    else
        r = read_header(g);
    if (r == 0)
        r = read_metadata(g);
    if (r == 0)
        r = read_tensors(g);
    if (r < 0)
        gguf_close(g);
    else
        *gguf = g;
    return r;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    if (g->queue)
        blk_queue_close(g->queue);
    base_free(g->entries);
    base_free(g->window);
    base_free(g);
}

const struct gguf_info *gguf_info(const struct gguf *g)
{
    return &g->info;
}

/* ---- going through ---------------------------------------------------------------------- */

int gguf_each_value(struct gguf *g, int (*call)(void *arg, const struct gguf_value *value),
                    void *arg, struct blk_error *err)
{
    struct gguf_value *v = base_alloc(sizeof(*v));
    int r = v ? 0 : blk_error_set(err, -ENOMEM, "out of memory");
    g->err = err;
    g->at = g->metadata_at;
    for (uint64_t i = 0; r == 0 && i < g->info.metadata; i++) {
        r = gguf_pair(g, v);
        if (r == 0)
            r = call(arg, v);
        if (r == 0)
            r = gguf_skip_rest(g, v);
    }
    base_free(v);
    return r;
}

int gguf_each_element(struct gguf *g, const char *key,
                      int (*call)(void *arg, const struct gguf_value *element), void *arg,
                      struct blk_error *err)
{
    struct gguf_value *v = base_alloc(sizeof(*v));
    int r = v ? 0 : blk_error_set(err, -ENOMEM, "out of memory");
    g->err = err;
    g->at = g->metadata_at;
    for (uint64_t i = 0; r == 0 && i < g->info.metadata; i++) {
        r = gguf_pair(g, v);
        if (r < 0 || strcmp(v->key, key) != 0 || v->type != GGUF_ARRAY) {
            r = r < 0 ? r : gguf_skip_rest(g, v);
            continue;
        }
        const uint64_t count = v->count;
        for (uint64_t n = 0; r == 0 && n < count; n++) {
            r = gguf_scalar(g, v->element, v);
            if (r == 0)
                r = call(arg, v);
        }
        break;
    }
    base_free(v);
    return r;
}

int gguf_each_tensor(struct gguf *g, int (*call)(void *arg, const struct gguf_tensor *tensor),
                     void *arg, struct blk_error *err)
{
    struct gguf_tensor t;
    uint64_t elements;
    int r = 0;
    g->err = err;
    g->at = g->tensors_at;
    for (uint64_t i = 0; r == 0 && i < g->info.tensors; i++) {
        r = gguf_line(g, &t, &elements);
        t.offset += g->info.data;
        if (r == 0)
            r = call(arg, &t);
    }
    return r;
}

/* ---- data ------------------------------------------------------------------------------- */

enum { STEP = 1 << 20, IN_FLIGHT = 4 };

/* Reads in flight: step i uses buffer i % IN_FLIGHT. */
struct reader {
    struct gguf *g;
    uint64_t first, end; /* bytes of the device, aligned outwards to blocks */
    uint64_t step;       /* bytes of a request: STEP, or what the device takes */
    char *buffer[IN_FLIGHT];
    struct blk_req req[IN_FLIGHT];
    bool done[IN_FLIGHT];
};

static uint64_t step_size(const struct reader *d, uint64_t i)
{
    return min_u64(d->step, d->end - d->first - i * d->step);
}

static void start(struct reader *d, uint64_t i)
{
    const unsigned slot = i % IN_FLIGHT;
    struct blk_req *req = &d->req[slot];
    d->done[slot] = false;
    blk_req_read(req, d->first + i * d->step, d->buffer[slot], step_size(d, i));
    blk_submit(d->g->queue, &req, 1);
}

static int wait_for(struct reader *d, uint64_t i)
{
    const unsigned slot = i % IN_FLIGHT;
    while (!d->done[slot]) {
        struct blk_req *done[IN_FLIGHT];
        const unsigned n = blk_reap(d->g->queue, done, IN_FLIGHT, BLK_FOREVER);
        for (unsigned j = 0; j < n; j++)
            d->done[done[j] - d->req] = true;
    }
    return d->req[slot].result;
}

static int read_steps(struct reader *d, uint32_t *crc, uint64_t from, uint64_t to,
                      void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg)
{
    const uint64_t steps = (d->end - d->first + d->step - 1) / d->step;
    int r = 0;
    uint64_t started = 0, i = 0;
    for (; i < steps && r == 0; i++) {
        while (started < steps && started < i + IN_FLIGHT)
            start(d, started++);
        r = wait_for(d, i);
        const uint64_t at = d->first + i * d->step;
        const uint64_t begin = max_u64(at, from), end = min_u64(at + step_size(d, i), to);
        if (r == 0 && begin < end)
            *crc = crc32c(*crc, d->buffer[i % IN_FLIGHT] + (begin - at), end - begin);
        if (r == 0 && progress)
            progress(arg, min_u64(at + d->step, to) - from, to - from);
    }
    for (; i < started; i++) /* after an error: nothing may be left in flight */
        wait_for(d, i);
    return r;
}

int gguf_read_data(struct gguf *g, uint32_t *crc, uint64_t *bytes,
                   void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                   struct blk_error *err)
{
    const struct blk_info *info = blk_info(g->dev);
    const uint64_t from = g->start + min_u64(g->info.data, g->info.size);
    const uint64_t to = g->start + g->info.size;
    struct reader d = {.g = g, .step = STEP};
    d.first = round_down(from, info->block_size);
    d.end = min_u64(round_up(to, info->block_size), info->size);
    if (d.step > info->max_transfer)
        d.step = round_down(info->max_transfer, info->block_size);
    *crc = 0;
    *bytes = to - from;
    int r = 0;
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        d.buffer[i] = blk_buf_alloc(g->queue, d.step);
        r = d.buffer[i] ? r : -ENOMEM;
    }
    if (r == 0)
        r = read_steps(&d, crc, from, to, progress, arg);
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        blk_buf_free(g->queue, d.buffer[i]);
    return r < 0 ? blk_error_set(err, r, "reading the tensor data failed") : 0;
}
