/*
 * bpf/verify/loop.c: loops.
 *
 * A path that arrives at the head of a loop starts an *attempt* to go through all of the loop. If
 * it goes round a few times only, the way through it is followed exactly. Else it is done by
 * induction: a state is guessed that holds at each arrival at the head, the body is gone through
 * once from there, and if each way back to the head arrives with a case of that state, the guess
 * was right: then what leaves the loop goes on behind it. If not, what was seen makes the next
 * guess. A wrong guess costs time, and never makes anything accepted.
 *
 * The guess. A counter, a symbol of its own, stands for how often the loop has gone round. What
 * grew by the same constant on all ways is (what it was) + constant * counter; what else changed is
 * a symbol with bounds that get wider, in steps, to where comparisons in the loop come out
 * differently. Differences that were compared in the loop (n - i) are facts, with their bounds.
 *
 * The end. If the counter has an upper bound, the loop ends. Else there must be something that
 * grows, or shrinks, each time that it goes round, without wrapping; or it is one thing on some
 * ways, and another on the others, which the first does not set back.
 */
#include <errno.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/verify/verify.h"

#define MAX_PASSES  64
#define EXACT_QUICK 512 /* instructions */
#define EXACT_LONG  100000

/* ---- attempts ---------------------------------------------------------------------------- */

struct attempt *attempt_new(struct verifier *v, struct attempt *parent)
{
    struct attempt *a = base_alloc(sizeof(*a));
    if (!a) {
        v->error = -ENOMEM;
        return NULL;
    }
    a->parent = parent;
    a->level = parent ? parent->level + 1 : 0;
    a->base = parent ? parent->base : 0;
    return a;
}

void failure_clear(struct verifier *v, struct failure *f)
{
    state_free(v, f->state);
    f->state = NULL;
}

static void drop_lists(struct verifier *v, struct attempt *a)
{
    state_free_list(v, a->queue);
    state_free_list(v, a->backs);
    state_free_list(v, a->exits);
    a->queue = a->backs = a->exits = NULL;
}

void attempt_free(struct verifier *v, struct attempt *a)
{
    drop_lists(v, a);
    state_free(v, a->entry);
    state_free(v, a->head);
    failure_clear(v, &a->failure);
    failure_clear(v, &a->kept);
    base_free(a->places);
    base_free(a);
}

/* Whether states here are what paths arrive with, and none is a guess. */
bool attempt_definite(const struct attempt *a)
{
    for (; a; a = a->parent)
        if (a->mode == ATTEMPT_INDUCT && a->pass > 0)
            return false;
    return true;
}

static void start_pass(struct verifier *v, struct attempt *a)
{
    failure_clear(v, &a->failure);
    a->head->progress &= ~(1u << a->level);
    a->head->waiting = a->head->waiting && a->mode == ATTEMPT_INDUCT && a->pass > 0;
    a->base = a->mode == ATTEMPT_INDUCT ? v->next_id : a->parent->base;
    struct state *s = state_copy(v, a->head);
    if (!s)
        return;
    s->begins = true;
    s->iterations = 0;
    a->queue = s;
    if (v->log && v->log->verbose && a->mode == ATTEMPT_INDUCT)
        bpf_log_add(v->log, "loop at %u, pass %u\n", v->flow.loops[a->loop].head, a->pass + 1);
    else if (v->log && v->log->verbose)
        bpf_log_add(v->log, "loop at %u, exactly\n", v->flow.loops[a->loop].head);
}

static void set_head(struct verifier *v, struct attempt *a, struct state *head)
{
    state_free(v, a->head);
    a->head = head;
    if (head)
        start_pass(v, a);
}

void loop_begin(struct verifier *v, struct state *s)
{
    if (v->attempt->level + 1 == MAX_NESTED) {
        verify_fail(v, s, "loops are nested too deeply: more than %d", MAX_NESTED - 1);
        state_free(v, s);
        return;
    }
    struct attempt *a = attempt_new(v, v->attempt);
    if (!a) {
        state_free(v, s);
        return;
    }
    state_trim(v, s, v->attempt->base);
    state_name_all(v, s);
    a->entry = s;
    a->depth = s->depth;
    a->loop = v->flow.loop[state_top(s)->pc];
    a->entry_base = v->next_id;
    a->mode = v->no_exact[a->loop] < 2 ? ATTEMPT_EXACT : ATTEMPT_INDUCT;
    a->deadline = v->looked + EXACT_QUICK;
    v->attempt = a;
    set_head(v, a, state_copy(v, s));
}

/* The attempt is over: what left the loop goes on behind it. */
static void finish(struct verifier *v, struct attempt *a)
{
    struct state *s = a->exits;
    a->exits = NULL;
    v->attempt = a->parent;
    failure_pass(v, &a->failure);
    while (s) {
        struct state *next = s->next;
        s->iterations = a->entry->iterations;
        if (v->error)
            state_free(v, s);
        else
            attempt_route(v, v->attempt, s);
        s = next;
    }
    attempt_free(v, a);
}

/* ---- the end of a pass ------------------------------------------------------------------- */

/* Whether this arrival, or the entry, is a case of the head. The head's own symbols mean something
 * new; older ones are what they were. */
static bool arrival_fits(struct verifier *v, struct attempt *a, struct state *s)
{
    struct mapping *map = base_alloc(sizeof(*map));
    if (!map) {
        v->error = -ENOMEM;
        return false;
    }
    bool fits = true;
    state_name_all(v, s);
    if (loop_counted(a)) {
        struct form *count = &map->symbols[0].form;
        map->symbols[0].old = a->counter;
        map->symbol_count = 1;
        *count = form_const(0);
        if (s != a->entry) {
            *count = form_symbol(a->counter);
            count->base = 1;
            fits = state_query(s, count).max != INT64_MAX;
        }
    }
    fits = fits && state_within(s, a->head, a->entry_base, map);
    base_free(map);
    return fits;
}

/* Whether something grows (or shrinks: sign -1) on ways back, and on none goes the other way. Those
 * where it does need nothing else. */
static bool rank_by(struct attempt *a, unsigned place, int64_t sign)
{
    struct form c1, c2, difference;
    const struct form *head = loop_place_form(a->head, place, &c1);
    bool strict = false;
    for (int round = 0; head && round < 2; round++) {
        for (struct state *b = a->backs; b; b = b->next) {
            if (b->progress >> a->level & 1)
                continue;
            const struct form *back = loop_place_form(b, place, &c2);
            if (!back || !form_add(back, head, -1, &difference) ||
                !form_scale(&difference, sign, &difference))
                return false;
            struct interval i = state_query(b, &difference);
            if (i.min < 0)
                return false;
            strict |= i.min > 0;
            if (round && i.min > 0)
                b->progress |= 1u << a->level;
        }
        if (!strict)
            return false;
    }
    return strict;
}

/* The same for unsigned numbers that are less than they were. */
static bool rank_unsigned(struct attempt *a, unsigned place)
{
    struct form c1, c2;
    const struct form *head = loop_place_form(a->head, place, &c1);
    uint32_t symbol = a->places[place].symbol;
    bool strict = false;
    if (!head || a->places[place].class != PLACE_FREE || a->places[place].shares)
        return false;
    for (int round = 0; round < 2; round++)
        for (struct state *b = a->backs; b; b = b->next) {
            if (b->progress >> a->level & 1)
                continue;
            const struct form *back = loop_place_form(b, place, &c2);
            bool less = state_place(b, place)->below == symbol;
            if (!less && (!back || !form_equal(back, head)))
                return false;
            strict |= less;
            if (round && less)
                b->progress |= 1u << a->level;
        }
    return strict;
}

static bool loop_ends(struct attempt *a)
{
    bool more = true;
    if (loop_counted(a))
        return true; /* arrival_fits() found a bound */
    while (more) {
        bool all = true;
        for (struct state *b = a->backs; b; b = b->next)
            all &= b->progress >> a->level & 1;
        if (all)
            return true;
        more = false;
        for (unsigned place = 0; place < a->place_count && !more; place++)
            more = state_place(a->head, place) &&
                   (rank_by(a, place, 1) || rank_by(a, place, -1) || rank_unsigned(a, place));
    }
    return false;
}

static void go_exactly(struct verifier *v, struct attempt *a)
{
    drop_lists(v, a);
    a->kept = a->failure;
    a->failure.state = NULL;
    a->mode = ATTEMPT_EXACT_LONG;
    a->deadline = v->looked + min_u64(EXACT_LONG, (v->limit - v->looked) / 2);
    set_head(v, a, state_copy(v, a->entry));
}

static void induction_failed(struct verifier *v, struct attempt *a)
{
    if (attempt_definite(a->parent) && v->looked < v->limit)
        go_exactly(v, a);
    else
        finish(v, a);
}

static void end_induction(struct verifier *v, struct attempt *a)
{
    bool fits = arrival_fits(v, a, a->entry);
    for (struct state *b = a->backs; b && !v->error; b = b->next)
        fits &= arrival_fits(v, a, b);
    if (v->error)
        return;
    if (!fits && a->pass < MAX_PASSES) {
        struct state *head = loop_guess(v, a);
        drop_lists(v, a);
        a->pass++;
        set_head(v, a, head);
        return;
    }
    if (!loop_places(v, a))
        return;
    bool failed = a->failure.state != NULL;
    if (!failed && !fits)
        verify_fail(v, a->head, "what stays true while this loop goes round is not found");
    else if (!failed && !loop_ends(a))
        verify_fail(v, a->head,
                    "this loop may not end: nothing is found that always grows or "
                    "shrinks while it goes round");
    if (v->error)
        return;
    if (a->failure.state)
        induction_failed(v, a);
    else
        finish(v, a);
}

/* The way through the loop is longer than it is worth to follow exactly. */
static void stop_exact(struct verifier *v, struct attempt *a)
{
    drop_lists(v, a);
    failure_clear(v, &a->failure);
    if (a->mode == ATTEMPT_EXACT_LONG) {
        a->mode = ATTEMPT_INDUCT; /* it failed, and this is why */
        a->failure = a->kept;
        a->kept.state = NULL;
        finish(v, a);
        return;
    }
    v->no_exact[a->loop]++;
    a->mode = ATTEMPT_INDUCT;
    set_head(v, a, state_copy(v, a->entry));
}

/* Nothing waits any more, or an exact way is too long. */
void loop_pass_end(struct verifier *v)
{
    struct attempt *a = v->attempt;
    if (a->mode == ATTEMPT_INDUCT)
        end_induction(v, a);
    else if (a->queue)
        stop_exact(v, a);
    else
        finish(v, a);
}
