/*
 * bpf/verify/verify.c: the way of the verifier through a program.
 *
 * States wait in a queue in the order of the flow, so that all that arrive at an instruction are
 * there before it goes on from it: what is a case of another is dropped, and what is too many is
 * joined. A loop is an attempt of its own (loop.c), on a stack of attempts; a called
 * function is gone through for each call, in a frame on top of its caller's. Nothing here calls
 * itself.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/verify/verify.h"

#define MOST_STATES 8 /* at one instruction, in one queue */
#define MOST_MEMORY (UINT64_C(32) << 20)

/* ---- what is wrong ----------------------------------------------------------------------- */

static void reject(struct verifier *v, const struct failure *f)
{
    verify_print_insn(v, v->log, f->insn);
    if (f->state)
        verify_print_state(v, v->log, f->state);
    bpf_log_add(v->log, "%s\n", f->reason);
    v->error = -EACCES;
}

static void fail(struct verifier *v, struct state *s, const char *format, va_list args)
{
    struct failure f = {.insn = state_top(s)->pc};
    struct attempt *a = v->attempt;
    if (v->error)
        return;
    vsnprintf(f.reason, sizeof(f.reason), format, args);
    if (attempt_definite(a)) {
        f.state = s;
        reject(v, &f);
        return;
    }
    if (a->failure.state)
        return;
    f.state = state_copy(v, s);
    a->failure = f;
}

bool verify_fail(struct verifier *v, struct state *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(v, s, format, args);
    va_end(args);
    return false;
}

bool verify_doubt(struct verifier *v, struct state *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(v, s, format, args);
    va_end(args);
    return v->error == 0;
}

/* What was wrong in a loop is wrong around it. */
void failure_pass(struct verifier *v, struct failure *f)
{
    if (!f->state || v->error)
        return;
    if (attempt_definite(v->attempt)) {
        reject(v, f);
    } else if (!v->attempt->failure.state) {
        v->attempt->failure = *f;
        f->state = NULL;
    }
}

/* ---- queues ------------------------------------------------------------------------------ */

/* Which comes first; 0: they are at the same place, by the same calls. */
static int compare_places(const struct verifier *v, const struct state *a, const struct state *b)
{
    for (unsigned i = 0; i <= a->depth && i <= b->depth; i++) {
        uint32_t x = v->flow.order[a->frames[i]->pc], y = v->flow.order[b->frames[i]->pc];
        if (x != y)
            return x < y ? -1 : 1;
    }
    return a->depth == b->depth ? 0 : a->depth < b->depth ? -1 : 1;
}

/* Registers that nobody will read need not be the same. */
static void forget_dead(const struct verifier *v, struct state *s)
{
    struct frame *f = state_top(s);
    unsigned live = v->flow.live[f->pc];
    for (unsigned r = 0; r < BPF_FP; r++)
        if (!(live >> r & 1))
            f->regs[r] = (struct value){0};
}

static bool is_within(struct verifier *v, const struct state *new, const struct state *old,
                      uint32_t base)
{
    struct mapping *map = base_alloc(sizeof(*map));
    if (!map) {
        v->error = -ENOMEM;
        return false;
    }
    bool within = state_within(new, old, base, map);
    base_free(map);
    return within;
}

/* Put a state in a list, unless another covers it; one that it covers goes. */
void attempt_queue(struct verifier *v, struct state **list, struct state *s, uint32_t base)
{
    forget_dead(v, s);
    state_trim(v, s, base);
    while (!v->error) {
        struct state **at = list, *last = NULL;
        unsigned same = 0;
        while (*at && compare_places(v, *at, s) < 0)
            at = &(*at)->next;
        if (*at && compare_places(v, *at, s) == 0)
            state_name_all(v, s);
        while (*at && compare_places(v, *at, s) == 0) {
            struct state *other = *at;
            state_name_all(v, other);
            if (is_within(v, s, other, base)) {
                state_free(v, s);
                return;
            }
            if (is_within(v, other, s, base)) {
                *at = other->next;
                state_free(v, other);
                continue;
            }
            same++;
            last = other;
            at = &other->next;
        }
        if (same < MOST_STATES) {
            s->next = *at;
            *at = s;
            return;
        }
        struct state *joined = state_join(v, s, last, base);
        if (!joined)
            break;
        v->attempt->deadline = 0; /* what is joined is not exact */
        joined->iterations = s->iterations > last->iterations ? s->iterations : last->iterations;
        state_free(v, s);
        for (at = list; *at != last; at = &(*at)->next)
            ;
        *at = last->next;
        state_free(v, last);
        s = joined;
    }
    state_free(v, s);
}

static bool inside(const struct verifier *v, const struct attempt *a, const struct state *s)
{
    if (!a->parent || s->depth > a->depth)
        return true;
    const struct loop_shape *loop = &v->flow.loops[a->loop];
    uint32_t order = v->flow.order[s->frames[a->depth]->pc];
    return s->depth == a->depth && order >= loop->start && order < loop->end;
}

/* A state waits where it belongs: in the loop, at its end, or behind it. */
void attempt_route(struct verifier *v, struct attempt *a, struct state *s)
{
    s->next = NULL;
    if (!inside(v, a, s)) {
        attempt_queue(v, &a->exits, s, a->parent->base);
    } else if (a->parent && s->depth == a->depth &&
               state_top(s)->pc == v->flow.loops[a->loop].head) {
        if (a->mode == ATTEMPT_INDUCT) {
            attempt_queue(v, &a->backs, s, a->base);
            return;
        }
        s->begins = true;
        s->iterations++;
        /* Followed exactly, a loop that can be left anywhere tells nothing new. */
        if (a->mode == ATTEMPT_EXACT && a->exits && s->iterations > 2)
            a->deadline = 0;
        attempt_queue(v, &a->queue, s, a->base);
    } else {
        attempt_queue(v, &a->queue, s, a->base);
    }
}

/* ---- one instruction --------------------------------------------------------------------- */

/* Where paths meet, a state waits for the others. */
static bool waits_here(const struct verifier *v, const struct state *s)
{
    uint32_t pc = s->frames[s->depth]->pc;
    return v->flow.arrivals[pc] > 1 || v->flow.loop[pc] != NO_LOOP || !inside(v, v->attempt, s);
}

static bool load_constant(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    struct frame *f = state_top(s);
    struct value *dst = &f->regs[insn->dst];
    uint64_t number = (uint32_t)insn->imm | (uint64_t)(uint32_t)insn[1].imm << 32;
    switch (insn->src) {
    case BPF_LDDW_NUMBER:
        *dst = value_const(number);
        break;
    case BPF_LDDW_FUNCTION:
        *dst = (struct value){.kind = VALUE_FUNCTION, .id = bpf_code_target(v->code, f->pc)};
        break;
    default: {
        unsigned span = insn->imm == BPF_GLOBAL_DATA ? BPF_SPAN_DATA : BPF_SPAN_RODATA;
        *dst = value_pointer(span, insn->imm == BPF_GLOBAL_DATA ? v->code->data_size
                                                                : v->code->rodata_size);
        dst->range = scalar_const((uint32_t)insn[1].imm);
    }
    }
    f->pc += 2;
    return true;
}

/* A comparison: the state goes on where it can; the other way is queued. */
static bool step_branch(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    uint32_t pc = state_top(s)->pc, target = pc + 1 + (uint32_t)insn->offset;
    if (!verify_branch_check(v, s, insn))
        return false;
    if (!insn->offset) {
        state_top(s)->pc++;
        return true;
    }
    struct state *other = state_copy(v, s);
    if (!other)
        return false;
    if (verify_branch(v, other, insn, true)) {
        state_top(other)->pc = target;
        attempt_route(v, v->attempt, other);
    } else {
        state_free(v, other);
    }
    if (v->error || !verify_branch(v, s, insn, false))
        return false;
    state_top(s)->pc = pc + 1;
    return true;
}

static bool step_call(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    struct frame *f = state_top(s);
    if (BPF_SOURCE(insn->opcode) == BPF_X) {
        struct value *to = verify_read(v, s, bpf_callx_register(insn));
        if (!to)
            return false;
        if (to->kind == VALUE_FUNCTION)
            return verify_call_local(v, s, to->id);
        if (to->kind != VALUE_SCALAR || !scalar_is_const(&to->range))
            return verify_fail(v, s, "the function in r%u is not known here",
                               bpf_callx_register(insn));
        uint64_t id = to->range.all.umin;
        if (id >= BPF_CODE_ADDRESS && id - BPF_CODE_ADDRESS < v->code->count)
            return verify_call_local(v, s, (uint32_t)(id - BPF_CODE_ADDRESS));
        return verify_call_helper(v, s, id);
    }
    if (insn->src == BPF_CALL_LOCAL)
        return verify_call_local(v, s, bpf_code_target(v->code, f->pc));
    return verify_call_helper(v, s, (uint32_t)insn->imm);
}

/* false: the path ends here. */
static bool step(struct verifier *v, struct state *s)
{
    struct frame *f = state_top(s);
    const struct bpf_insn *insn = &v->code->insns[f->pc];
    bool is32 = BPF_CLASS(insn->opcode) == BPF_JMP32;
    switch (BPF_CLASS(insn->opcode)) {
    case BPF_LD:
        return load_constant(v, s, insn);
    case BPF_LDX:
    case BPF_ST:
    case BPF_STX:
        if (!verify_memory(v, s, insn))
            return false;
        f->pc++;
        return true;
    case BPF_ALU:
    case BPF_ALU64:
        if (!verify_alu(v, s, insn))
            return false;
        f->pc++;
        return true;
    default:
        break;
    }
    switch (BPF_OP(insn->opcode)) {
    case BPF_JA:
        f->pc += 1 + (uint32_t)(is32 ? insn->imm : insn->offset);
        return true;
    case BPF_CALL:
        return step_call(v, s, insn);
    case BPF_EXIT:
        return verify_exit(v, s);
    default:
        return step_branch(v, s, insn);
    }
}

/* ---- the way through --------------------------------------------------------------------- */

static bool too_long(struct verifier *v, struct state *s)
{
    if (v->looked++ < v->limit && v->memory < MOST_MEMORY)
        return false;
    struct failure f = {.state = s, .insn = state_top(s)->pc};
    if (v->memory < MOST_MEMORY)
        snprintf(f.reason, sizeof(f.reason),
                 "the program is too complex: %llu instructions were looked at, which is the limit",
                 (unsigned long long)v->limit);
    else
        snprintf(f.reason, sizeof(f.reason),
                 "the program is too complex: the verifier would need more than %llu MiB of memory",
                 (unsigned long long)(MOST_MEMORY >> 20));
    reject(v, &f);
    return true;
}

/* Follow a path up to where it meets others, or ends. */
static void follow(struct verifier *v, struct state *s)
{
    if (!s->begins && v->flow.loop[state_top(s)->pc] != NO_LOOP) {
        loop_begin(v, s);
        return;
    }
    s->begins = false;
    do {
        if (too_long(v, s))
            break;
        if (v->log && v->log->verbose) {
            verify_print_state(v, v->log, s);
            verify_print_insn(v, v->log, state_top(s)->pc);
        }
        if (!step(v, s) || v->error)
            break;
        if (waits_here(v, s)) {
            attempt_route(v, v->attempt, s);
            return;
        }
    } while (true);
    state_free(v, s);
}

static struct state *first_state(struct verifier *v)
{
    const struct bpf_environment *environment = v->prog->environment;
    struct state *s = state_new(v);
    if (!s)
        return NULL;
    if (state_push_frame(v, s, v->prog->entry) < 0) {
        state_free(v, s);
        return NULL;
    }
    for (unsigned i = 0; i < 5; i++) {
        const struct bpf_value *value = &environment->entry[i];
        if (value->kind == BPF_VALUE_SCALAR)
            s->frames[0]->regs[i + 1] = value_scalar(scalar_signed(value->min, value->max));
        else if (value->kind == BPF_VALUE_POINTER)
            s->frames[0]->regs[i + 1] = value_pointer(BPF_SPAN_REGION + value->region,
                                                      environment->regions[value->region].size);
    }
    return s;
}

static void walk(struct verifier *v)
{
    struct attempt *all = v->attempt = attempt_new(v, NULL);
    struct state *s = all ? first_state(v) : NULL;
    if (s)
        attempt_route(v, all, s);
    while (!v->error && v->attempt) {
        struct attempt *a = v->attempt;
        if (a->parent && (!a->queue || (a->mode != ATTEMPT_INDUCT && v->looked > a->deadline))) {
            loop_pass_end(v);
            continue;
        }
        if (!a->queue)
            break; /* all paths have ended */
        s = a->queue;
        a->queue = s->next;
        s->next = NULL;
        follow(v, s);
    }
    while (v->attempt) {
        struct attempt *a = v->attempt;
        v->attempt = a->parent;
        attempt_free(v, a);
    }
}

int bpf_verify(const struct bpf_prog *prog, uint64_t limit, struct bpf_log *log)
{
    struct verifier v = {
        .prog = prog, .code = &prog->code, .log = log, .limit = limit, .next_id = 1};
    v.error = flow_open(&v, &v.flow);
    if (v.error == -ELOOP) {
        bpf_log_add(log, "loops are nested too deeply: more than %d\n", MAX_NESTED);
        v.error = -EACCES;
    } else if (v.error == 0) {
        v.no_exact = base_alloc(v.flow.loop_count + 1);
        if (v.no_exact)
            walk(&v);
        else
            v.error = -ENOMEM;
    }
    if (v.error == -ENOMEM)
        bpf_log_add(log, "no memory to verify the program\n");
    base_free(v.no_exact);
    flow_close(&v.flow);
    return v.error;
}
