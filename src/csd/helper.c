/*
 * What programs can call. Each helper looks at all it is given: a program that runs checked may
 * call with anything. An argument that is not the program's memory ends the run with -EFAULT.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "csd/run.h"

enum { MAX_TEXT = 1024 }; /* of bpf_debug(), with its NUL */

/* Every helper is called with all five registers. */
#define UNUSED(x) ((void)(x))
#define HELPER(name)                                                                               \
    static uint64_t name(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,    \
                         uint64_t a5)
#define UNUSED_2_TO_5 (UNUSED(a2), UNUSED(a3), UNUSED(a4), UNUSED(a5))
#define UNUSED_3_TO_5 (UNUSED(a3), UNUSED(a4), UNUSED(a5))
#define UNUSED_ALL    (UNUSED(a1), UNUSED_2_TO_5)

static uint64_t result_of(int error)
{
    return (uint64_t)(int64_t)error;
}

/* The memory behind an argument; NULL: the run ends. */
static void *memory(struct bpf_vm *vm, uint64_t address, uint64_t len, bool write)
{
    void *p = bpf_vm_memory(vm, address, len, write);
    if (!p)
        bpf_vm_fail(vm, -EFAULT);
    return p;
}

static bool store(struct bpf_vm *vm, uint64_t address, uint64_t value)
{
    void *p = memory(vm, address, sizeof(value), true);
    if (p)
        memcpy(p, &value, sizeof(value));
    return p != NULL;
}

/* ---- 1 to 9: source-compatible with programs for other devices -------------------------- */

HELPER(return_data)
{
    UNUSED_3_TO_5;
    struct csd_run *run = bpf_vm_user(vm);
    const void *data = memory(vm, a1, a2, false);
    const int error = data && csd_check(run) == 0 ? csd_return(run, data, a2) : 0;
    if (error < 0)
        bpf_vm_fail(vm, error);
    return 0;
}

/* zone * zone_size + sector * sector_size + offset, if [there, there + size) is in the readable
 * range. */
static bool locate(const struct csd_run *run, uint64_t zone, uint64_t sector, uint64_t offset,
                   uint64_t size, uint64_t *there)
{
    uint64_t at, bytes;
    return !__builtin_mul_overflow(zone, run->zone_size, &at) &&
           !__builtin_mul_overflow(sector, csd_geometry(run)->sector, &bytes) &&
           !__builtin_add_overflow(at, bytes, &at) && !__builtin_add_overflow(at, offset, there) &&
           range_ok(*there, size, run->call.read.len);
}

static bool in_stream(const struct csd_stream *s, uint64_t offset, uint64_t len)
{
    return s->active && offset >= s->position && (offset == s->position || offset < s->ahead) &&
           offset <= s->end && len <= s->end - offset;
}

static int read_part(struct csd_run *run, uint64_t offset, void *to, uint64_t len)
{
    const uint64_t start = base_now_ns(), block = csd_geometry(run)->block;
    const uint64_t first = round_down(offset, block);
    csd_make_room(run);
    csd_note(run, first, round_up(offset + len, block) - first, false);
    const int error = blk_read_bytes(run->queue, offset, to, len);
    if (error < 0)
        csd_note_error(run, offset, error, false);
    run->result->stats.wait_ns += base_now_ns() - start;
    return error;
}

static int read_plain(struct csd_run *run, uint64_t offset, uint8_t *to, uint64_t len)
{
    int error = 0;
    while (len && error == 0) {
        const uint64_t part = min_u64(len, csd_geometry(run)->piece);
        error = csd_check(run);
        if (error == 0)
            error = read_part(run, offset, to, part);
        offset += part;
        to += part;
        len -= part;
    }
    return error;
}

static bool make_reads(struct csd_run *run)
{
    const uint64_t size = round_up(csd_geometry(run)->size, BASE_PAGE);
    if (!run->reads->memory) {
        run->reads->memory = base_reserve(size);
        if (run->reads->memory)
            base_reserve_large(run->reads->memory, size);
    }
    return run->reads->memory != NULL;
}

/* Programs that read on from where they read last, and what is large, are read in advance. */
static int read_range(struct csd_run *run, uint64_t offset, uint8_t *to, uint64_t len)
{
    const struct csd_geometry *g = csd_geometry(run);
    const uint64_t end = run->call.read.offset + run->call.read.len;
    const bool follows = offset == run->next_read;
    struct csd_stream *s = run->reads;
    run->next_read = offset + len;
    if (!in_stream(s, offset, len)) {
        if ((!follows && len < g->piece) || offset < run->no_stream_before || !make_reads(run))
            return read_plain(run, offset, to, len);
        csd_stream_start(run, s, offset, follows ? end : round_up(offset + len, g->block));
    }
    const int error = csd_stream_copy(run, s, offset, to, len);
    if (error == 0 || error == -ECANCELED || error == -ETIME)
        return error;
    /* Only what cannot be read must fail, not what was read together with it. */
    run->no_stream_before = s->position;
    csd_stream_stop(run, s);
    return read_plain(run, offset, to, len);
}

/* What the program sees of a read that failed is zeroes. */
HELPER(read)
{
    struct csd_run *run = bpf_vm_user(vm);
    uint8_t *to = bpf_vm_memory(vm, a5, a4, true);
    uint64_t there;
    int error = -ERANGE;
    if (locate(run, a1, a2, a3, a4, &there)) {
        if (!a4)
            return 0;
        if (!to) {
            bpf_vm_fail(vm, -EFAULT);
            return 0;
        }
        error = csd_check(run);
        if (error == 0)
            error = read_range(run, run->call.read.offset + there, to, a4);
    }
    if (error < 0 && to && a4)
        memset(to, 0, a4);
    return result_of(error);
}

HELPER(write)
{
    struct csd_run *run = bpf_vm_user(vm);
    const uint64_t sector = csd_geometry(run)->sector;
    uint64_t landed;
    const void *data = memory(vm, a5, a4, false);
    if (!data || !store(vm, a2, 0))
        return 0;
    if (a3 || !a4)
        return result_of(-EINVAL);
    if (!run->call.append.len)
        return result_of(-ERANGE);
    const int error = csd_append_at(run, a1, data, a4, &landed);
    if (error == 0)
        store(vm, a2, landed / sector);
    return result_of(error);
}

HELPER(get_sector_size)
{
    UNUSED_ALL;
    return csd_geometry(bpf_vm_user(vm))->sector;
}

HELPER(get_zone_capacity)
{
    UNUSED_ALL;
    const struct csd_run *run = bpf_vm_user(vm);
    return run->zone_capacity / csd_geometry(run)->sector;
}

HELPER(get_zone_size)
{
    UNUSED_ALL;
    const struct csd_run *run = bpf_vm_user(vm);
    return run->zone_size / csd_geometry(run)->sector;
}

HELPER(get_mem_info)
{
    UNUSED_3_TO_5;
    const struct csd_run *run = bpf_vm_user(vm);
    if (store(vm, a1, bpf_vm_address(vm, CSD_REGION_MEMORY)))
        store(vm, a2, run->program->regions[CSD_REGION_MEMORY].size);
    return 0;
}

HELPER(get_call_info)
{
    UNUSED_2_TO_5;
    store(vm, a1, bpf_vm_address(vm, CSD_REGION_CALL));
    return 0;
}

HELPER(debug)
{
    UNUSED_2_TO_5;
    const struct csd_run *run = bpf_vm_user(vm);
    char text[MAX_TEXT];
    uint64_t len = 0;
    for (; len + 1 < sizeof(text); len++) { /* what is longer is cut off */
        const char *c = memory(vm, a1 + len, 1, false);
        if (!c)
            return 0;
        text[len] = *c;
        if (!*c)
            break;
    }
    text[len] = '\0';
    if (run->call.debug)
        run->call.debug(run->call.user, text);
    return 0;
}

/* ---- from 10 on: fast ------------------------------------------------------------------- */

HELPER(next)
{
    UNUSED_3_TO_5;
    struct csd_run *run = bpf_vm_user(vm);
    struct csd_stream *s = &run->chunks;
    const uint64_t region = bpf_vm_address(vm, CSD_REGION_CHUNK), keep = run->keep;
    uint8_t *data;
    if (!store(vm, a1, region) || !a2 || a2 > CSD_MAX_CHUNK || keep >= a2)
        return result_of(-EINVAL);
    if (!s->active)
        csd_stream_start(run, s, s->position, run->call.read.offset + run->call.read.len);
    csd_stream_advance(run, s, keep ? run->chunk + run->chunk_len : NULL, keep);
    const int64_t there = csd_stream_get(run, s, &data);
    run->keep = 0;
    run->chunk_len = 0;
    if (there <= 0)
        return (uint64_t)there;
    const uint64_t fresh = min_u64(a2 - keep, (uint64_t)there);
    s->position += fresh;
    run->chunk = data - keep;
    run->chunk_len = keep + fresh;
    store(vm, a1, region + (uint64_t)(run->chunk - s->memory));
    return run->chunk_len;
}

HELPER(keep)
{
    UNUSED_2_TO_5;
    struct csd_run *run = bpf_vm_user(vm);
    if (a1 > run->chunk_len || a1 > CSD_MAX_KEEP)
        return result_of(-EINVAL);
    run->keep = a1;
    return 0;
}

HELPER(seek)
{
    UNUSED_2_TO_5;
    struct csd_run *run = bpf_vm_user(vm);
    const struct csd_range *range = &run->call.read;
    if (a1 > range->len)
        return result_of(-ERANGE);
    if (run->seeks == CSD_MAX_SEEKS)
        return result_of(-EDQUOT);
    if (csd_check(run) < 0)
        return 0;
    run->seeks++;
    run->keep = run->chunk_len = 0;
    csd_stream_start(run, &run->chunks, range->offset + a1, range->offset + range->len);
    return 0;
}

HELPER(tell)
{
    UNUSED_ALL;
    const struct csd_run *run = bpf_vm_user(vm);
    return run->chunks.position - run->call.read.offset;
}

HELPER(range_size)
{
    UNUSED_ALL;
    const struct csd_run *run = bpf_vm_user(vm);
    return run->call.read.len;
}

HELPER(arg)
{
    UNUSED_2_TO_5;
    const struct csd_run *run = bpf_vm_user(vm);
    store(vm, a1, bpf_vm_address(vm, CSD_REGION_CALL));
    return run->call.arg_size;
}

HELPER(append)
{
    UNUSED_3_TO_5;
    struct csd_run *run = bpf_vm_user(vm);
    const void *data = memory(vm, a1, a2, false);
    if (!data)
        return 0;
    if (!run->call.append.len)
        return result_of(-ERANGE);
    return result_of(csd_append_bytes(run, data, a2));
}

HELPER(prefetch)
{
    UNUSED_3_TO_5;
    struct csd_run *run = bpf_vm_user(vm);
    const struct csd_range *range = &run->call.read;
    if (!range_ok(a1, a2, range->len))
        return result_of(-ERANGE);
    if (a2 && csd_check(run) == 0 && make_reads(run))
        csd_stream_start(run, run->reads, range->offset + a1,
                         round_up(range->offset + a1 + a2, csd_geometry(run)->block));
    return 0;
}

/* ---- tables ----------------------------------------------------------------------------- */

#define SCALAR                                                                                     \
    {                                                                                              \
        .kind = BPF_ARG_SCALAR                                                                     \
    }
#define STORES(...)                                                                                \
    {                                                                                              \
        .kind = BPF_ARG_WRITE, .size = 8, .stores = __VA_ARGS__                                    \
    }
#define ERROR_OR_0 BPF_RANGE(-4095, 0)

static const struct bpf_helper table[CSD_HELPERS] = {
    {1, "bpf_return_data", return_data, {{.kind = BPF_ARG_READ, .size_arg = 2}, SCALAR}},
    {2,
     "bpf_read",
     read,
     {SCALAR, SCALAR, SCALAR, SCALAR, {.kind = BPF_ARG_WRITE, .size_arg = 4}},
     ERROR_OR_0},
    {3,
     "bpf_write",
     write,
     {SCALAR, STORES(BPF_ANY_SCALAR), SCALAR, SCALAR, {.kind = BPF_ARG_READ, .size_arg = 4}},
     ERROR_OR_0},
    {4, "bpf_get_sector_size", get_sector_size, {{0}}, BPF_RANGE(512, INT32_MAX)},
    {5, "bpf_get_zone_capacity", get_zone_capacity, {{0}}, BPF_RANGE(0, INT64_MAX / 512)},
    {6, "bpf_get_zone_size", get_zone_size, {{0}}, BPF_RANGE(0, INT64_MAX / 512)},
    {7,
     "bpf_get_mem_info",
     get_mem_info,
     {STORES(BPF_REGION_START(CSD_REGION_MEMORY)), STORES(BPF_ANY_SCALAR)}},
    {8, "bpf_get_call_info", get_call_info, {STORES(BPF_REGION_START(CSD_REGION_CALL))}},
    {9, "bpf_debug", debug, {{.kind = BPF_ARG_STRING}}},
    {10,
     "csd_next",
     next,
     {STORES({.kind = BPF_VALUE_POINTER, .region = CSD_REGION_CHUNK, .arg = 2}),
      {.kind = BPF_ARG_CONSTANT, .max = CSD_MAX_CHUNK}},
     {.kind = BPF_VALUE_SCALAR, .arg = 2, .min = -4095},
     .moves = true,
     .moved = CSD_REGION_CHUNK,
     .progress = true}, /* the range, once for each of CSD_MAX_SEEKS */
    {11, "csd_keep", keep, {SCALAR}, ERROR_OR_0},
    {12, "csd_seek", seek, {SCALAR}, ERROR_OR_0, .moves = true, .moved = CSD_REGION_CHUNK},
    {13, "csd_tell", tell, {{0}}, BPF_RANGE(0, INT64_MAX)},
    {14, "csd_range_size", range_size, {{0}}, BPF_RANGE(0, INT64_MAX)},
    {15, "csd_arg", arg, {STORES(BPF_REGION_START(CSD_REGION_CALL))}, BPF_RANGE(0, CSD_MAX_ARG)},
    {16, "csd_append", append, {{.kind = BPF_ARG_READ, .size_arg = 2}, SCALAR}, ERROR_OR_0},
    {17, "csd_prefetch", prefetch, {SCALAR, SCALAR}, ERROR_OR_0},
};

void csd_fill_environment(uint64_t memory_size, const struct csd_geometry *geometry,
                          struct bpf_region *regions, struct bpf_helper *helpers,
                          struct bpf_environment *environment)
{
    const int64_t size = (int64_t)(memory_size ? memory_size : UINT64_C(1) << 20);
    regions[CSD_REGION_CALL] = (struct bpf_region){"call", CSD_CALL_SIZE, false};
    regions[CSD_REGION_CHUNK] = (struct bpf_region){"chunk", geometry->size, false};
    regions[CSD_REGION_MEMORY] = (struct bpf_region){"memory", (uint64_t)size, true};
    memcpy(helpers, table, sizeof(table));
    /* What is known before a program runs, the verifier may know. */
    helpers[4 - 1].returns = BPF_RANGE(geometry->sector, geometry->sector);
    helpers[7 - 1].args[1].stores = BPF_RANGE(size, size);
    *environment = (struct bpf_environment){
        .regions = regions,
        .region_count = CSD_REGIONS,
        .helpers = helpers,
        .helper_count = CSD_HELPERS,
    };
}
