/* Environments: what the host says that exists, held against itself, and laid out as an arena. */
#include "bpf/vm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/platform.h"
#include "base/util.h"

struct check {
    const struct bpf_environment *environment;
    struct bpf_log *log;
    const struct bpf_helper *helper; /* NULL: the registers at entry */
};

static int refuse(const struct check *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int refuse(const struct check *c, const char *format, ...)
{
    char why[128];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (c->helper)
        bpf_log_add(c->log, "the environment is wrong: helper %u (%s): %s\n",
                    (unsigned)c->helper->id, c->helper->name ? c->helper->name : "no name", why);
    else
        bpf_log_add(c->log, "the environment is wrong: %s\n", why);
    return -EINVAL;
}

static unsigned arg_kind(const struct check *c, unsigned number)
{
    return c->helper && number >= 1 && number <= 5 ? c->helper->args[number - 1].kind
                                                   : BPF_ARG_NONE;
}

static int check_value(const struct check *c, const char *what, const struct bpf_value *v)
{
    const unsigned arg = arg_kind(c, v->arg);
    switch (v->kind) {
    case BPF_VALUE_NONE:
        return 0;
    case BPF_VALUE_SCALAR:
        if (v->min > v->max)
            return refuse(c, "%s: the least is above the largest", what);
        if (v->arg && arg != BPF_ARG_SCALAR && arg != BPF_ARG_CONSTANT)
            return refuse(c, "%s: argument %u is no number", what, v->arg);
        return 0;
    case BPF_VALUE_POINTER:
        if (v->region >= c->environment->region_count)
            return refuse(c, "%s: there is no region %u", what, v->region);
        if (v->arg && arg != BPF_ARG_CONSTANT)
            return refuse(c, "%s: argument %u is no constant", what, v->arg);
        return 0;
    default:
        return refuse(c, "%s: no such kind: %u", what, v->kind);
    }
}

static int check_arg(const struct check *c, unsigned number)
{
    const struct bpf_arg *arg = &c->helper->args[number - 1];
    const bool memory = arg->kind == BPF_ARG_READ || arg->kind == BPF_ARG_WRITE;
    if (arg->kind > BPF_ARG_STRING)
        return refuse(c, "argument %u: no such kind: %u", number, arg->kind);
    if (arg->size_arg && !memory)
        return refuse(c, "argument %u has a size but is no memory", number);
    const unsigned size = arg_kind(c, arg->size_arg);
    if (arg->size_arg && size != BPF_ARG_SCALAR && size != BPF_ARG_CONSTANT)
        return refuse(c, "argument %u: its size, argument %u, is no number", number, arg->size_arg);
    if (arg->stores.kind == BPF_VALUE_NONE)
        return 0;
    if (arg->kind != BPF_ARG_WRITE || arg->size_arg || arg->size != 8)
        return refuse(c, "argument %u: a value is stored into 8 writable bytes", number);
    return check_value(c, "what it stores", &arg->stores);
}

static int check_helper(struct check *c, unsigned index)
{
    const struct bpf_helper *h = c->helper = &c->environment->helpers[index];
    if (h->id == 0 || h->id > INT32_MAX || !h->name || !h->function)
        return refuse(c, "a helper has an id from 1 on, a name and a function");
    for (unsigned i = 0; i < index; i++)
        if (c->environment->helpers[i].id == h->id)
            return refuse(c, "the id is taken by %s", c->environment->helpers[i].name);
    for (unsigned i = 1; i <= 5; i++) {
        const int error = check_arg(c, i);
        if (error < 0)
            return error;
    }
    if (h->moves && h->moved >= c->environment->region_count)
        return refuse(c, "it moves region %u, which there is not", h->moved);
    return check_value(c, "what it returns", &h->returns);
}

int bpf_environment_check(const struct bpf_environment *e, struct bpf_log *log)
{
    struct check c = {.environment = e, .log = log};
    if (e->region_count > BPF_MAX_REGIONS)
        return refuse(&c, "%u regions, at most %u", e->region_count, BPF_MAX_REGIONS);
    for (unsigned i = 0; i < e->region_count; i++)
        if (!e->regions[i].name)
            return refuse(&c, "region %u has no name", i);
    for (unsigned i = 0; i < 5; i++) {
        const int error = check_value(&c, "a register at entry", &e->entry[i]);
        if (error < 0)
            return error;
        if (e->entry[i].arg)
            return refuse(&c, "a register at entry depends on an argument");
    }
    for (unsigned i = 0; i < e->helper_count; i++) {
        const int error = check_helper(&c, i);
        if (error < 0)
            return error;
    }
    return 0;
}

const struct bpf_helper *bpf_helper_find(const struct bpf_environment *environment, uint64_t id)
{
    for (unsigned i = 0; i < environment->helper_count; i++)
        if (environment->helpers[i].id == id)
            return &environment->helpers[i];
    return NULL;
}

/* ---- layout ----------------------------------------------------------------------------- */

/* The next span, after the gap of the one before. Sizes are at most BPF_MAX_ARENA. */
static void put_span(struct bpf_layout *l, unsigned index, const char *name, uint64_t size,
                     bool writable)
{
    l->spans[index] = (struct bpf_span){name, l->end, size, writable};
    l->end += round_up(size + BPF_GAP, BASE_PAGE);
}

static void put_regions(struct bpf_layout *l, const struct bpf_environment *e, bool writable)
{
    for (unsigned i = 0; i < e->region_count; i++)
        if (e->regions[i].writable == writable)
            put_span(l, BPF_SPAN_REGION + i, e->regions[i].name, e->regions[i].size, writable);
}

int bpf_layout_init(struct bpf_layout *l, const struct bpf_code *code,
                    const struct bpf_environment *e, struct bpf_log *log)
{
    uint64_t most = max_u64(code->rodata_size, code->data_size);
    for (unsigned i = 0; i < e->region_count; i++)
        most = max_u64(most, e->regions[i].size);
    *l = (struct bpf_layout){.count = BPF_SPAN_REGION + e->region_count, .end = BPF_ADDRESS};
    if (most <= BPF_MAX_ARENA) {
        put_span(l, BPF_SPAN_RODATA, "rodata", code->rodata_size, false);
        put_regions(l, e, false);
        l->write_start = l->end;
        put_span(l, BPF_SPAN_DATA, "data", code->data_size, true);
        put_regions(l, e, true);
        put_span(l, BPF_SPAN_STACK, "stack", BPF_FRAME_SIZE * BPF_MAX_DEPTH, true);
    }
    if (most > BPF_MAX_ARENA || l->end - BPF_ADDRESS > BPF_MAX_ARENA) {
        bpf_log_add(log, "globals and regions are over %llu MiB, with the stack\n",
                    (unsigned long long)(BPF_MAX_ARENA >> 20));
        return -E2BIG;
    }
    return 0;
}

uint64_t bpf_layout_gap_end(const struct bpf_span *span)
{
    return span->start + round_up(span->size + BPF_GAP, BASE_PAGE);
}
