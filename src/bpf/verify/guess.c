/* bpf/verify/guess.c: what may hold at the head of a loop, by what paths arrived with
 * (loop.c). Nothing here need be right: a guess is checked. */
#include <errno.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/verify/verify.h"

#define MAX_STEP_PASSES 32 /* later, what steps is only bounded */

static bool any_step(const struct attempt *a)
{
    for (unsigned i = 0; i < a->place_count; i++)
        if (a->places[i].class == PLACE_STEP)
            return true;
    return false;
}

/* Whether the counter counts. */
bool loop_counted(const struct attempt *a)
{
    return a->counter && !a->no_counter && any_step(a);
}

/* ---- templates --------------------------------------------------------------------------- */

static struct template *add_template(struct attempt *a, const struct form *sum, int64_t *flip)
{
    struct form reduced = *sum, *form = &reduced;
    reduced.base = 0;
    int64_t by = form_reduce(form);
    if (form->terms[0].factor < 0) {
        if (!form_scale(form, -1, form))
            return NULL;
        by = -by;
    }
    if (flip)
        *flip /= by;
    for (unsigned i = 0; i < a->template_count; i++)
        if (form_same_terms(&a->templates[i].form, form))
            return &a->templates[i];
    if (a->template_count == MAX_TEMPLATES)
        return NULL;
    struct template *t = &a->templates[a->template_count++];
    *t = (struct template){.form = *form};
    return t;
}

/* Two numbers were compared; this is their difference. */
void loop_compared(struct verifier *v, const struct form *difference)
{
    if (!difference->count || difference->base == INT64_MIN)
        return;
    for (struct attempt *a = v->attempt; a->parent; a = a->parent) {
        uint32_t youngest = difference->terms[difference->count - 1].symbol;
        if (a->mode != ATTEMPT_INDUCT || youngest >= a->base || youngest < a->entry_base)
            continue;
        int64_t flip = -difference->base;
        struct template *t = add_template(a, difference, &flip);
        bool seen = !t || t->flip_count == ARRAY_SIZE(t->flips);
        for (unsigned i = 0; !seen && i < t->flip_count; i++)
            seen = t->flips[i] == flip;
        if (!seen)
            t->flips[t->flip_count++] = flip;
    }
}

/* The nearest bound from here on (up: upwards) where a comparison of factor * symbol comes out
 * differently, or a number that programs like. */
static int64_t threshold(const struct attempt *a, uint32_t symbol, int64_t from, bool up,
                         bool landmarks)
{
    static const int64_t known[] = {INT32_MIN, -1, 0, 1, 255, 65535, INT32_MAX, UINT32_MAX};
    int64_t best = up ? INT64_MAX : INT64_MIN;
    for (unsigned i = 0; i < a->template_count; i++) {
        const struct template *t = &a->templates[i];
        if (t->form.count != 1 || t->form.terms[0].symbol != symbol)
            continue;
        for (unsigned k = 0; k < t->flip_count; k++)
            for (int64_t near = -1; near <= 1; near++) {
                int64_t at = t->flips[k] / t->form.terms[0].factor;
                if (__builtin_add_overflow(at, near, &at))
                    continue;
                if (up ? at >= from && at < best : at <= from && at > best)
                    best = at;
            }
    }
    for (unsigned i = 0; landmarks && i < ARRAY_SIZE(known); i++)
        if (up ? known[i] >= from && known[i] < best : known[i] <= from && known[i] > best)
            best = known[i];
    return best;
}

/* ---- what the places do ------------------------------------------------------------------ */

/* While the next guess is made. */
struct guess {
    struct verifier *v;
    struct attempt *a;
    struct state *out;
};

static const struct form *known_form(const struct value *value, struct form *constant)
{
    if (value->kind != VALUE_SCALAR && value->kind != VALUE_POINTER)
        return NULL;
    if (value->formed && !value->shifted)
        return &value->form;
    *constant = form_const(value->range.all.smin);
    return scalar_is_const(&value->range) ? constant : NULL;
}

const struct form *loop_place_form(struct state *s, unsigned place, struct form *constant)
{
    const struct value *value = state_place(s, place);
    return value ? known_form(value, constant) : NULL;
}

static bool same_object(const struct value *a, const struct value *b)
{
    return a->kind == b->kind && a->span == b->span && a->frame == b->frame && a->size == b->size;
}

/* Whether on all ways back the place holds something of the same sort. */
static bool same_sort(struct attempt *a, unsigned place, const struct value *entry)
{
    if (!entry || entry->kind == VALUE_NONE)
        return false;
    for (struct state *b = a->backs; b; b = b->next) {
        const struct value *value = state_place(b, place);
        if (!value || !same_object(value, entry))
            return false;
        if ((entry->kind == VALUE_STALE || entry->kind == VALUE_FUNCTION) && value->id != entry->id)
            return false;
        if (entry->kind == VALUE_POINTER && !entry->id != !value->id)
            return false;
    }
    return true;
}

/* By how much it changed, if it is the same on all ways back. */
static bool same_step(struct attempt *a, unsigned place, int64_t *step)
{
    struct form c1, c2, difference;
    const struct form *head = loop_place_form(a->head, place, &c1);
    bool first = true;
    for (struct state *b = a->backs; b; b = b->next, first = false) {
        const struct form *back = loop_place_form(b, place, &c2);
        if (!head || !back || !form_add(back, head, -1, &difference) || difference.count)
            return false;
        if (!first && difference.base != *step)
            return false;
        *step = difference.base;
    }
    return head != NULL;
}

static bool same_range(struct attempt *a, unsigned place)
{
    const struct value *head = state_place(a->head, place);
    for (struct state *b = a->backs; b; b = b->next) {
        struct scalar range = value_range(b, state_place(b, place));
        if (!scalar_within(&range, &head->range))
            return false;
    }
    return true;
}

static void classify_place(struct attempt *a, unsigned place)
{
    struct place *p = &a->places[place];
    const struct value *entry = state_place(a->entry, place);
    int64_t step = 0;
    if (p->class == PLACE_GONE)
        return;
    if (!same_sort(a, place, entry)) {
        p->class = PLACE_GONE;
        return;
    }
    if (p->class == PLACE_FREE || entry->kind == VALUE_STALE || entry->kind == VALUE_FUNCTION)
        return;
    bool stepped = same_step(a, place, &step);
    if (p->class == PLACE_SAME && stepped && step == 0 && same_range(a, place))
        return;
    if (stepped && step != 0 && !a->no_counter && a->pass < MAX_STEP_PASSES && step > INT32_MIN &&
        step < INT32_MAX && (p->class == PLACE_SAME || step == p->step)) {
        p->class = PLACE_STEP;
        p->step = step;
        return;
    }
    p->class = PLACE_FREE;
}

/* Whether anything is found to do something else than was thought. */
static bool classify(struct attempt *a)
{
    bool changed = false;
    for (unsigned place = 0; place < a->place_count; place++) {
        uint8_t before = a->places[place].class;
        classify_place(a, place);
        changed |= a->places[place].class != before && a->places[place].class != PLACE_GONE;
    }
    return changed;
}

/* The low bits that are known in all. */
static struct tnum low_bits(struct tnum bits)
{
    unsigned known = bits.mask ? (unsigned)__builtin_ctzll(bits.mask) : 64;
    bits = tnum_low(bits, known);
    bits.mask = known == 64 ? 0 : UINT64_MAX << known;
    return bits;
}

/* Bounds for what changes freely: as seen; later wider, so that this comes to an end. */
static struct scalar free_range(struct guess *g, unsigned place, const struct value *entry)
{
    struct attempt *a = g->a;
    struct place *p = &a->places[place];
    struct scalar range = value_range(a->entry, entry);
    for (struct state *b = a->backs; b; b = b->next) {
        struct scalar other = value_range(b, state_place(b, place));
        range = scalar_union(&range, &other);
    }
    if (!p->seen) {
        p->seen = true;
        return range;
    }
    struct scalar old = p->range;
    range = scalar_union(&range, &old);
    if (scalar_within(&range, &old) || ++p->grown < 2)
        return range;
    struct tnum low = low_bits(range.bits);
    int64_t min = range.all.smin, max = range.all.smax;
    if (p->grown > 12)
        min = INT64_MIN, max = INT64_MAX;
    if (min < old.all.smin)
        min = threshold(a, p->symbol, min, false, true);
    if (max > old.all.smax)
        max = threshold(a, p->symbol, max, true, true);
    struct scalar wide = scalar_signed(min, max);
    tnum_intersect(wide.bits, low, &wide.bits);
    scalar_sync(&wide);
    return wide;
}

/* Another object each time: pointers that were to the same stay so. */
static uint32_t free_object(struct guess *g, unsigned place)
{
    struct attempt *a = g->a;
    const struct value *entry = state_place(a->entry, place);
    bool same = true;
    for (struct state *b = a->backs; b; b = b->next)
        same &= state_place(b, place)->id == entry->id;
    if (same && !a->places[place].object)
        return entry->id;
    if (a->places[place].object)
        return a->places[place].object;
    for (unsigned i = 0; i < place; i++) {
        const struct value *other = state_place(a->entry, i);
        bool together = other && a->places[i].object && other->id == entry->id &&
                        a->places[i].class != PLACE_GONE;
        for (struct state *b = a->backs; together && b; b = b->next)
            together = state_place(b, i) && state_place(b, i)->id == state_place(b, place)->id;
        if (together)
            return a->places[place].object = a->places[i].object;
    }
    return a->places[place].object = g->v->next_id++;
}

static bool any_nullable(struct attempt *a, unsigned place)
{
    bool nullable = state_place(a->entry, place)->nullable;
    for (struct state *b = a->backs; b; b = b->next)
        nullable |= state_place(b, place)->nullable;
    return nullable;
}

static bool constant_difference(struct state *s, unsigned a, unsigned b, int64_t *difference)
{
    struct form c1, c2, d;
    const struct form *x = loop_place_form(s, a, &c1), *y = loop_place_form(s, b, &c2);
    if (!x || !y || !form_add(x, y, -1, &d) || d.count)
        return false;
    *difference = d.base;
    return true;
}

/* What changes freely, but is always the same as something else, or differs by a constant, is
 * written with the same symbol. */
static bool share_symbol(struct guess *g, unsigned place, struct form *out)
{
    struct attempt *a = g->a;
    int64_t first, other;
    for (unsigned p = 0; p < place; p++) {
        const struct value *value = state_place(g->out, p);
        if (a->places[p].class != PLACE_FREE || !a->places[p].symbol || a->places[p].shares ||
            !value || !value->formed || value->form.count != 1 ||
            !constant_difference(a->entry, place, p, &first))
            continue;
        bool same = true;
        for (struct state *b = a->backs; same && b; b = b->next)
            same = constant_difference(b, place, p, &other) && other == first;
        if (!same)
            continue;
        *out = value->form;
        return !__builtin_add_overflow(out->base, first, &out->base);
    }
    return false;
}

static void guess_place(struct guess *g, unsigned place)
{
    struct attempt *a = g->a;
    struct place *p = &a->places[place];
    struct value *out = state_place(g->out, place), entry;
    if (!out)
        return;
    out->below = out->one_below = 0;
    entry = *out;
    if (p->class == PLACE_GONE) {
        *out = (struct value){0};
        return;
    }
    if (entry.kind == VALUE_POINTER) {
        out->id = free_object(g, place);
        out->nullable = any_nullable(a, place);
    }
    if (p->class == PLACE_STEP) {
        struct form c1, counter = form_symbol(a->counter);
        const struct form *start = known_form(&entry, &c1);
        if (start && form_add(start, &counter, p->step, &out->form)) {
            out->formed = true;
            out->shifted = false;
            out->range = scalar_unknown(); /* see step_ranges() */
            return;
        }
        p->class = PLACE_FREE;
    }
    if (p->class == PLACE_FREE) {
        if (!p->symbol)
            p->symbol = g->v->next_id++;
        out->range = value_range(a->entry, &entry);
        if (!a->symbolic)
            out->range = p->range = free_range(g, place, &entry);
        out->shifted = false;
        p->shares = share_symbol(g, place, &out->form);
        out->formed = true;
        if (p->shares)
            return;
        out->form = form_symbol(p->symbol);
        struct interval i = {out->range.all.smin, out->range.all.smax};
        out->formed = state_symbol_add(g->out, p->symbol, i);
    }
}

/* Slots that are not whole values any more may still have bytes that are. */
static void guess_slot(struct guess *g, unsigned frame, unsigned slot)
{
    struct slot *out = &g->out->frames[frame]->slots[slot];
    unsigned place = frame * PLACES_OF_FRAME + BPF_FP + slot;
    uint8_t init, known, bytes[8], now[8];
    if (g->a->places[place].class != PLACE_GONE && out->value.kind != VALUE_NONE)
        return;
    slot_bytes(&g->a->entry->frames[frame]->slots[slot], &init, &known, bytes);
    for (struct state *b = g->a->backs; b; b = b->next) {
        uint8_t init2 = 0, known2 = 0;
        if (slot < b->frames[frame]->used)
            slot_bytes(&b->frames[frame]->slots[slot], &init2, &known2, now);
        init &= init2;
        known &= known2;
        for (unsigned i = 0; i < 8; i++)
            if ((known >> i & 1) && bytes[i] != now[i])
                known &= (uint8_t) ~(1u << i);
    }
    *out = (struct slot){.init = init, .known = known};
    for (unsigned i = 0; i < 8; i++)
        out->bytes[i] = bytes[i];
}

/* ---- facts of the head ------------------------------------------------------------------- */

/* What a sum of the head's symbols is in a state: of the entry, or of the next arrival. */
static bool form_there(struct attempt *a, struct state *s, const struct form *form,
                       struct form *out)
{
    *out = form_const(form->base);
    for (unsigned i = 0; i < form->count; i++) {
        uint32_t symbol = form->terms[i].symbol;
        struct form with = form_symbol(symbol), constant;
        if (symbol == a->counter) {
            if (a->no_counter)
                return false;
            with = s == a->entry ? form_const(0) : with;
            with.base += s != a->entry;
        } else if (symbol >= a->entry_base) {
            const struct form *now = NULL;
            for (unsigned place = 0; place < a->place_count && !now; place++)
                if (a->places[place].symbol == symbol && a->places[place].class == PLACE_FREE &&
                    !a->places[place].shares)
                    now = loop_place_form(s, place, &constant);
            if (!now)
                return false;
            with = *now;
        }
        if (!form_add(out, &with, form->terms[i].factor, out))
            return false;
    }
    return true;
}

static void widen_template(struct template *t, struct interval seen)
{
    if (!t->stated) {
        t->range = seen;
        return;
    }
    bool lower = seen.min<t->range.min, higher = seen.max> t->range.max;
    if (!lower && !higher)
        return;
    t->grown++;
    int64_t min = lower ? seen.min : t->range.min, max = higher ? seen.max : t->range.max;
    if (t->grown >= 2) {
        int64_t below = INT64_MIN, above = INT64_MAX;
        for (unsigned i = 0; t->grown < 8 && i <= t->flip_count; i++)
            for (int64_t near = -1; near <= 1; near++) {
                int64_t at = near; /* 0, and what is near it, are always worth a try */
                if (i < t->flip_count && __builtin_add_overflow(t->flips[i], near, &at))
                    continue;
                below = at <= min && at > below ? at : below;
                above = at >= max && at < above ? at : above;
            }
        min = lower ? below : min;
        max = higher ? above : max;
    }
    t->range = (struct interval){min, max};
}

/* In the first pass that has names for what changes, all is still as at the entry. */
static void symbolic_facts(struct guess *g)
{
    struct form constant, difference;
    for (unsigned place = 0; place < g->a->place_count; place++) {
        const struct place *p = &g->a->places[place];
        const struct form *start = loop_place_form(g->a->entry, place, &constant);
        struct form symbol = form_symbol(p->symbol);
        if (p->class == PLACE_FREE && p->symbol && !p->shares && start && start->count &&
            form_add(&symbol, start, -1, &difference))
            state_assume(g->out, &difference, (struct interval){0, 0});
    }
}

static void guess_facts(struct guess *g)
{
    struct attempt *a = g->a;
    if (a->symbolic) {
        symbolic_facts(g);
        return;
    }
    for (unsigned i = 0; i < a->template_count; i++) {
        struct template *t = &a->templates[i];
        struct form there;
        if (t->form.count < 2)
            continue;
        bool known = form_there(a, a->entry, &t->form, &there);
        struct interval seen = INTERVAL_ANY;
        if (known)
            seen = state_query(a->entry, &there);
        for (struct state *b = a->backs; known && b; b = b->next) {
            known = form_there(a, b, &t->form, &there);
            if (!known)
                break;
            struct interval next = state_query(b, &there);
            seen.min = next.min < seen.min ? next.min : seen.min;
            seen.max = next.max > seen.max ? next.max : seen.max;
        }
        if (!known) {
            t->stated = false;
            continue;
        }
        widen_template(t, seen);
        t->stated = true;
        if (t->range.min != INT64_MIN || t->range.max != INT64_MAX)
            state_assume(g->out, &t->form, t->range);
    }
}

/* Things that change freely, but together (an index and a pointer): their difference. */
static void relate_places(struct attempt *a)
{
    struct form c0;
    for (unsigned p = 0; p < a->place_count; p++) {
        if (!loop_place_form(a->head, p, &c0))
            continue;
        if (a->places[p].class != PLACE_FREE || !a->places[p].symbol || a->places[p].shares)
            continue;
        for (unsigned q = 0; q < a->place_count; q++) {
            if (p == q || !loop_place_form(a->head, q, &c0) || a->places[q].class != PLACE_FREE ||
                !a->places[q].symbol || a->places[q].shares)
                continue;
            int64_t ratio = 0;
            bool fits = true;
            struct form mine = form_symbol(a->places[p].symbol);
            struct form its = form_symbol(a->places[q].symbol), c, dp, dq;
            for (struct state *b = a->backs; fits && b; b = b->next) {
                const struct form *np = loop_place_form(b, p, &c);
                fits = np && form_add(np, &mine, -1, &dp) && !dp.count;
                const struct form *nq = fits ? loop_place_form(b, q, &c) : NULL;
                fits = nq && form_add(nq, &its, -1, &dq) && !dq.count;
                if (!fits || (!dp.base && !dq.base))
                    continue;
                fits = dp.base && dq.base != INT64_MIN && dq.base % dp.base == 0 &&
                       (!ratio || ratio == dq.base / dp.base);
                if (fits)
                    ratio = dq.base / dp.base;
            }
            if (!fits || !ratio || ratio > 1 << 20 || ratio < -(1 << 20))
                continue;
            struct form together;
            if (form_add(&its, &mine, -ratio, &together))
                add_template(a, &together, NULL);
        }
    }
}

/* What grows by different constants lies between what they make with the counter; what starts with
 * a number that is not known has bounds of its own. */
static void relate_to_counter(struct attempt *a)
{
    if (!loop_counted(a))
        return;
    for (unsigned p = 0; p < a->place_count; p++) {
        struct form c, d, counter = form_symbol(a->counter), mine;
        const struct form *head = loop_place_form(a->head, p, &c);
        if (a->places[p].class == PLACE_STEP && head && head->count > 1)
            add_template(a, head, NULL);
        if (a->places[p].class != PLACE_FREE || !a->places[p].symbol || a->places[p].shares)
            continue;
        int64_t least = INT64_MAX, most = INT64_MIN;
        mine = form_symbol(a->places[p].symbol);
        for (struct state *b = a->backs; b; b = b->next) {
            const struct form *next = loop_place_form(b, p, &c);
            bool fits = next && form_add(next, &mine, -1, &d) && !d.count;
            least = !fits ? INT32_MIN : d.base < least ? d.base : least;
            most = !fits ? INT32_MAX : d.base > most ? d.base : most;
        }
        for (int i = 0; i < 2; i++) {
            int64_t step = i ? least : most;
            if (step > INT32_MIN && step < INT32_MAX && step &&
                form_add(&mine, &counter, -step, &d))
                add_template(a, &d, NULL);
        }
    }
}

/* Bounds of what goes by the counter, now that the counter has some. */
static void step_ranges(struct guess *g)
{
    for (unsigned place = 0; place < g->a->place_count; place++) {
        struct value *out = state_place(g->out, place);
        if (!out || g->a->places[place].class != PLACE_STEP)
            continue;
        struct interval i = state_query(g->out, &out->form);
        const struct value *entry = state_place(g->a->entry, place);
        if (g->a->symbolic) {
            out->range = value_range(g->a->entry, entry);
            continue;
        }
        struct tnum step = tnum_const((uint64_t)g->a->places[place].step);
        step = tnum_mul(step, TNUM_UNKNOWN);
        struct tnum bits = low_bits(tnum_add(entry->range.bits, step));
        out->range = scalar_signed(i.min, i.max);
        tnum_intersect(out->range.bits, bits, &out->range.bits);
        scalar_sync(&out->range);
    }
}

/* ---- the next guess ---------------------------------------------------------------------- */

/* How often the loop may have gone round at an arrival, by what was seen. */
static void guess_counter(struct guess *g)
{
    struct attempt *a = g->a;
    if (!a->counter)
        a->counter = g->v->next_id++;
    if (!a->symbolic) {
        int64_t most = 0;
        for (struct state *b = a->backs; b; b = b->next) {
            struct form counter = form_symbol(a->counter);
            struct interval i = state_query(b, &counter);
            most = i.max > most ? i.max : most;
        }
        if (most == INT64_MAX)
            most--;
        if (most + 1 > a->counter_max)
            a->counter_max = threshold(a, a->counter, most + 1, true, false);
    }
    int64_t max = a->symbolic ? 0 : a->counter_max;
    state_symbol_add(g->out, a->counter, (struct interval){0, max});
}

bool loop_places(struct verifier *v, struct attempt *a)
{
    if (a->places)
        return true;
    a->place_count = (a->depth + 1) * PLACES_OF_FRAME;
    a->places = base_alloc_array(a->place_count, sizeof(*a->places));
    if (!a->places)
        v->error = -ENOMEM;
    return a->places != NULL;
}

/* The result of a helper that waits to be found positive may be in a place. */
static void guess_waiting(struct guess *g)
{
    struct attempt *a = g->a;
    struct form c;
    g->out->waiting = false;
    if (!a->entry->waiting)
        return;
    for (unsigned place = 0; place < a->place_count; place++) {
        const struct form *f = loop_place_form(a->entry, place, &c);
        const struct value *out = state_place(g->out, place);
        bool there = f && form_equal(f, &a->entry->result) && out && out->formed;
        for (struct state *b = a->backs; there && b; b = b->next) {
            f = loop_place_form(b, place, &c);
            there = f && b->waiting && form_equal(f, &b->result);
        }
        if (!there)
            continue;
        g->out->waiting = true;
        g->out->result = out->form;
        return;
    }
}

/* The counter has no bound: begin once more, without it. */
static bool counter_is_lost(const struct attempt *a)
{
    if (!a->counter || a->no_counter || a->counter_max != INT64_MAX)
        return false;
    for (struct state *b = a->backs; b; b = b->next) {
        struct form counter = form_symbol(a->counter);
        if (state_query(b, &counter).max == INT64_MAX)
            return true;
    }
    return false;
}

static struct state *without_counter(struct verifier *v, struct attempt *a)
{
    a->no_counter = true;
    for (unsigned i = 0; i < a->place_count; i++)
        if (a->places[i].class != PLACE_GONE)
            a->places[i] = (struct place){.class = PLACE_SAME};
    for (unsigned i = 0; i < a->template_count; i++)
        a->templates[i].stated = false;
    return state_copy(v, a->entry);
}

/* Another state for the head, from what the last pass arrived with. NULL: no memory. */
struct state *loop_guess(struct verifier *v, struct attempt *a)
{
    struct guess g = {.v = v, .a = a};
    if (!loop_places(v, a))
        return NULL;
    if (counter_is_lost(a))
        return without_counter(v, a);
    g.out = state_copy(v, a->entry);
    if (!g.out)
        return NULL;
    a->symbolic = classify(a);
    if (any_step(a))
        guess_counter(&g);
    for (unsigned place = 0; place < a->place_count; place++)
        guess_place(&g, place);
    for (unsigned frame = 0; frame <= a->depth; frame++)
        for (unsigned slot = 0; slot < g.out->frames[frame]->used; slot++)
            guess_slot(&g, frame, slot);
    for (struct state *b = a->backs; b; b = b->next)
        g.out->progress &= b->progress;
    guess_waiting(&g);
    if (!a->symbolic) {
        relate_places(a);
        relate_to_counter(a);
    }
    guess_facts(&g);
    step_ranges(&g);
    return g.out;
}
