/* bpf/verify/call.c: calls of helpers and of functions, and what comes back. */
#include <stdio.h>

#include "base/util.h"
#include "bpf/verify/verify.h"

/* ---- functions of the program ------------------------------------------------------------ */

bool verify_call_local(struct verifier *v, struct state *s, uint32_t target)
{
    const struct bpf_function_info *function = bpf_code_function(v->code, target);
    struct frame *caller = state_top(s);
    if (!function || function->start != target)
        return verify_fail(v, s, "no function starts at %u", target);
    for (unsigned i = 0; i <= s->depth; i++)
        if (s->frames[i]->function == target)
            return verify_fail(v, s, "%s is called while it runs: recursion", function->name);
    if (s->depth + 1 == BPF_MAX_DEPTH)
        return verify_fail(v, s, "calls are nested too deeply: more than %d functions",
                           BPF_MAX_DEPTH);
    if (state_push_frame(v, s, target) < 0)
        return false;
    struct frame *callee = state_top(s);
    for (unsigned r = 0; r < BPF_FP; r++) {
        if (r >= 1 && r <= 5)
            callee->regs[r] = caller->regs[r];
        if (r <= 5)
            caller->regs[r] = (struct value){0};
    }
    return true;
}

/* Pointers to the stack of a function that returns point to nothing. */
static void forget_frame(struct state *s, unsigned frame)
{
    for (unsigned place = 0; place < (s->depth + 1) * PLACES_OF_FRAME; place++) {
        struct value *value = state_place(s, place);
        if (value && value->kind == VALUE_POINTER && value->span == BPF_SPAN_STACK &&
            value->frame == frame)
            *value = (struct value){0};
    }
}

/* false: the program ends, or fails. */
bool verify_exit(struct verifier *v, struct state *s)
{
    struct value *r0 = &state_top(s)->regs[0];
    if (s->depth == 0) {
        if (verify_read(v, s, 0) && r0->kind != VALUE_SCALAR)
            verify_fail(v, s, "the program returns a pointer");
        return false;
    }
    struct value result = *r0;
    unsigned gone = s->depth;
    state_pop_frame(s);
    struct frame *f = state_top(s);
    f->regs[0] = result;
    f->pc++;
    forget_frame(s, gone);
    return true;
}

/* ---- helpers ----------------------------------------------------------------------------- */

struct call {
    struct verifier *v;
    struct state *s;
    const struct bpf_helper *helper;
    char who[96]; /* the argument that is looked at */
};

static const char *name_of(const struct bpf_helper *helper)
{
    return helper->name ? helper->name : "the helper";
}

static void name_argument(struct call *c, unsigned number)
{
    snprintf(c->who, sizeof(c->who), "argument %u of %s", number, name_of(c->helper));
}

/* A number as an argument; NULL after a failure. */
static struct value *number_argument(struct call *c, unsigned number)
{
    struct value *value = &state_top(c->s)->regs[number];
    name_argument(c, number);
    if (value->kind == VALUE_SCALAR)
        return value;
    verify_fail(c->v, c->s,
                value->kind == VALUE_NONE ? "%s: r%u is not initialised"
                                          : "%s: it takes a number, but r%u is a pointer",
                c->who, number);
    return NULL;
}

static bool check_number(struct call *c, unsigned number, const struct bpf_arg *arg)
{
    struct value *value = number_argument(c, number);
    if (!value)
        return false;
    struct scalar range = value_range(c->s, value);
    char text[SCALAR_TEXT];
    scalar_text(&range, text);
    if (arg->kind == BPF_ARG_CONSTANT && !scalar_is_const(&range))
        return verify_fail(c->v, c->s, "%s: it must be constant, but is %s", c->who, text);
    if (arg->max && range.all.umax > arg->max)
        return verify_doubt(c->v, c->s, "%s: it may be %llu at most, but is %s", c->who,
                            (unsigned long long)arg->max, text);
    return true;
}

/* How many bytes a pointer argument is for. */
static bool argument_size(struct call *c, const struct bpf_arg *arg, uint64_t *min, uint64_t *max)
{
    *min = *max = arg->size;
    if (!arg->size_arg)
        return true;
    struct value *value = number_argument(c, arg->size_arg);
    if (!value)
        return false;
    struct scalar range = value_range(c->s, value);
    *min = range.all.umin;
    *max = range.all.umax;
    if (*max > BPF_MAX_ARENA) {
        char text[SCALAR_TEXT];
        scalar_text(&range, text);
        return verify_doubt(c->v, c->s, "%s: so many bytes are too many: %s", c->who, text);
    }
    return true;
}

static bool check_pointer(struct call *c, unsigned number, const struct bpf_arg *arg)
{
    struct value *value = &state_top(c->s)->regs[number];
    uint64_t min, max;
    if (!argument_size(c, arg, &min, &max))
        return false;
    name_argument(c, number);
    if (value->kind == VALUE_NONE)
        return verify_fail(c->v, c->s, "%s: r%u is not initialised", c->who, number);
    if (max > BPF_MAX_ARENA)
        max = BPF_MAX_ARENA;
    bool write = arg->kind == BPF_ARG_WRITE;
    if (!verify_access(c->v, c->s, value, 0, max, write ? ACCESS_WRITE : ACCESS_READ, c->who))
        return false;
    return write || !max || stack_readable(c->v, c->s, value, 0, max, c->who);
}

static bool check_string(struct call *c, unsigned number)
{
    struct value *value = &state_top(c->s)->regs[number];
    name_argument(c, number);
    if (value->kind == VALUE_NONE)
        return verify_fail(c->v, c->s, "%s: r%u is not initialised", c->who, number);
    if (!verify_access(c->v, c->s, value, 0, 1, ACCESS_READ, c->who))
        return false;
    if (!memory_string(c->v, c->s, value))
        return verify_fail(c->v, c->s, "%s: it is not known to be a string that ends with a NUL",
                           c->who);
    return true;
}

static bool check_argument(struct call *c, unsigned number)
{
    const struct bpf_arg *arg = &c->helper->args[number - 1];
    switch (arg->kind) {
    case BPF_ARG_SCALAR:
    case BPF_ARG_CONSTANT:
        return check_number(c, number, arg);
    case BPF_ARG_READ:
    case BPF_ARG_WRITE:
        return check_pointer(c, number, arg);
    case BPF_ARG_STRING:
        return check_string(c, number);
    default:
        return true;
    }
}

/* What a helper gives, as the environment says. args: the registers before the call. */
static bool given(struct call *c, const struct bpf_value *value, struct value args[6],
                  struct value *out)
{
    const struct bpf_environment *environment = c->v->prog->environment;
    *out = (struct value){0};
    if (value->kind == BPF_VALUE_SCALAR) {
        int64_t max = value->max;
        struct value *limit = value->arg ? &args[value->arg] : NULL;
        struct scalar range = scalar_unknown();
        if (limit)
            max = INT64_MAX;
        if (limit && limit->kind == VALUE_SCALAR) {
            range = value_range(c->s, limit);
            max = range.all.umax > INT64_MAX ? INT64_MAX : (int64_t)range.all.umax;
        }
        if (max < value->min)
            max = INT64_MAX;
        *out = value_scalar(scalar_signed(value->min, max));
        return true;
    }
    if (value->kind != BPF_VALUE_POINTER)
        return true;
    *out = value_pointer(BPF_SPAN_REGION + value->region, environment->regions[value->region].size);
    if (value->arg || value->nullable)
        out->id = c->v->next_id++;
    out->nullable = value->nullable;
    if (!value->arg)
        return true;
    struct scalar size = value_range(c->s, &args[value->arg]);
    if (args[value->arg].kind != VALUE_SCALAR || !scalar_is_const(&size))
        return verify_fail(c->v, c->s, "argument %u of %s: it must be constant", value->arg,
                           name_of(c->helper));
    out->size = min_u64(size.all.umin, out->size);
    return true;
}

/* Pointers into a region can no longer be used. */
static void moved(struct call *c)
{
    struct state *s = c->s;
    for (unsigned place = 0; place < (s->depth + 1) * PLACES_OF_FRAME; place++) {
        struct value *value = state_place(s, place);
        if (value && value->kind == VALUE_POINTER &&
            value->span == BPF_SPAN_REGION + c->helper->moved)
            *value = (struct value){.kind = VALUE_STALE, .id = state_top(s)->pc};
    }
}

/* What a pointer argument points to, after the call. */
static bool written(struct call *c, unsigned number, struct value args[6])
{
    const struct bpf_arg *arg = &c->helper->args[number - 1];
    struct value *pointer = &args[number], stored;
    uint64_t min, max;
    if (arg->kind != BPF_ARG_WRITE || pointer->kind != VALUE_POINTER)
        return true;
    name_argument(c, number);
    min = max = arg->size;
    if (arg->size_arg) {
        struct scalar range = value_range(c->s, &args[arg->size_arg]);
        min = range.all.umin;
        max = range.all.umax;
    }
    if (!given(c, &arg->stores, args, &stored))
        return false;
    if (pointer->span != BPF_SPAN_STACK) {
        if (stored.kind == VALUE_POINTER)
            return verify_fail(c->v, c->s,
                               "%s: a pointer comes back by it: it must be to the "
                               "stack",
                               c->who);
        return true;
    }
    if (stored.kind == VALUE_NONE || max != 8) {
        stack_written(c->v, c->s, pointer, 0, min, max);
        return true;
    }
    return stack_store(c->v, c->s, pointer, 0, 8, &stored);
}

/* The bytes of stack that a pointer argument may write. */
static bool stack_of(struct call *c, unsigned number, struct value args[6], int64_t *first,
                     int64_t *end)
{
    const struct bpf_arg *arg = &c->helper->args[number - 1];
    if (arg->kind != BPF_ARG_WRITE || args[number].kind != VALUE_POINTER ||
        args[number].span != BPF_SPAN_STACK)
        return false;
    struct scalar range = value_range(c->s, &args[number]);
    uint64_t size = arg->size;
    if (arg->size_arg) {
        struct scalar bytes = value_range(c->s, &args[arg->size_arg]);
        size = bytes.all.umax;
    }
    *first = range.all.smin;
    return !__builtin_add_overflow(range.all.smax, (int64_t)min_u64(size, INT64_MAX), end);
}

/* Where a helper stores something, nothing else may be written: in which order is not known. */
static bool check_overlap(struct call *c, struct value args[6])
{
    int64_t first, end, first2, end2;
    for (unsigned a = 1; a <= 5; a++) {
        if (c->helper->args[a - 1].stores.kind == BPF_VALUE_NONE ||
            !stack_of(c, a, args, &first, &end))
            continue;
        for (unsigned b = 1; b <= 5; b++)
            if (a != b && stack_of(c, b, args, &first2, &end2) && args[a].frame == args[b].frame &&
                first < end2 && first2 < end)
                return verify_fail(c->v, c->s, "arguments %u and %u of %s are the same memory", a,
                                   b, name_of(c->helper));
    }
    return true;
}

static void returned(struct call *c, struct value *result, struct value args[6])
{
    const struct bpf_helper *helper = c->helper;
    struct state *s = c->s;
    struct value *limit = helper->returns.arg ? &args[helper->returns.arg] : NULL;
    value_name(c->v, s, result);
    if (result->kind == VALUE_SCALAR && limit && result->formed && limit->formed &&
        !limit->shifted && value_range(s, limit).all.smin >= 0) {
        struct form difference; /* it is at most that argument */
        if (form_add(&limit->form, &result->form, -1, &difference))
            state_assume(s, &difference, (struct interval){0, INT64_MAX});
    }
    if (helper->progress) {
        s->waiting = result->kind == VALUE_SCALAR && result->formed;
        s->result = result->form;
    }
}

bool verify_call_helper(struct verifier *v, struct state *s, uint64_t id)
{
    struct call c = {.v = v, .s = s, .helper = bpf_helper_find(v->prog->environment, id)};
    struct frame *f = state_top(s);
    struct value args[6], result;
    if (!c.helper)
        return verify_fail(v, s, "there is no helper %llu", (unsigned long long)id);
    for (unsigned number = 1; number <= 5; number++)
        if (!check_argument(&c, number))
            return false;
    for (unsigned r = 0; r < 6; r++)
        args[r] = f->regs[r];
    if (!check_overlap(&c, args))
        return false;
    if (c.helper->moves)
        moved(&c);
    if (!given(&c, &c.helper->returns, args, &result))
        return false;
    for (unsigned number = 1; number <= 5; number++)
        if (!written(&c, number, args))
            return false;
    returned(&c, &result, args);
    for (unsigned r = 0; r < 6; r++)
        f->regs[r] = (struct value){0};
    f->regs[0] = result;
    f->pc++;
    return true;
}
