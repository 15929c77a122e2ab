/* bpf/verify/form.c: sums of symbols, and what is known of their bounds. */
#include "base/util.h"
#include "bpf/verify/verify.h"

/* ---- sums -------------------------------------------------------------------------------- */

/* a + factor * b; false: it has too many terms, or a number too large. */
bool form_add(const struct form *a, const struct form *b, int64_t factor, struct form *out)
{
    struct form sum = {0};
    int64_t product;
    if (__builtin_mul_overflow(b->base, factor, &product) ||
        __builtin_add_overflow(a->base, product, &sum.base))
        return false;
    unsigned i = 0, j = 0;
    while (i < a->count || j < b->count) {
        struct term t;
        if (j == b->count || (i < a->count && a->terms[i].symbol < b->terms[j].symbol)) {
            t = a->terms[i++];
        } else {
            t = b->terms[j++];
            if (__builtin_mul_overflow(t.factor, factor, &t.factor))
                return false;
            if (i < a->count && a->terms[i].symbol == t.symbol &&
                __builtin_add_overflow(t.factor, a->terms[i++].factor, &t.factor))
                return false;
        }
        if (!t.factor)
            continue;
        if (sum.count == MAX_TERMS)
            return false;
        sum.terms[sum.count++] = t;
    }
    *out = sum;
    return true;
}

bool form_scale(const struct form *a, int64_t factor, struct form *out)
{
    struct form zero = {0};
    return form_add(&zero, a, factor, out);
}

bool form_same_terms(const struct form *a, const struct form *b)
{
    if (a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++)
        if (a->terms[i].symbol != b->terms[i].symbol || a->terms[i].factor != b->terms[i].factor)
            return false;
    return true;
}

bool form_equal(const struct form *a, const struct form *b)
{
    return a->base == b->base && form_same_terms(a, b);
}

/* ---- symbols ----------------------------------------------------------------------------- */

struct symbol *state_symbol(struct state *s, uint32_t id)
{
    return (struct symbol *)state_symbol_find(s, id);
}

const struct symbol *state_symbol_find(const struct state *s, uint32_t id)
{
    unsigned low = 0, high = s->symbol_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (s->symbols[middle].id == id)
            return &s->symbols[middle];
        if (s->symbols[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool state_symbol_add(struct state *s, uint32_t id, struct interval range)
{
    if (s->symbol_count == MAX_SYMBOLS)
        return false;
    unsigned at = s->symbol_count++;
    for (; at > 0 && s->symbols[at - 1].id > id; at--)
        s->symbols[at] = s->symbols[at - 1];
    s->symbols[at] = (struct symbol){id, range};
    return true;
}

/* ---- intervals --------------------------------------------------------------------------- */

static int64_t saturate(__int128 n)
{
    return n < INT64_MIN ? INT64_MIN : n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

static struct interval interval_meet(struct interval a, struct interval b)
{
    return (struct interval){a.min > b.min ? a.min : b.min, a.max < b.max ? a.max : b.max};
}

/* Add factor * r to a sum of which either end may already be lost. */
static void add_scaled(__int128 *min, __int128 *max, bool *no_min, bool *no_max, struct interval r,
                       int64_t factor)
{
    int64_t low = factor > 0 ? r.min : r.max, high = factor > 0 ? r.max : r.min;
    *no_min |= low == INT64_MIN || low == INT64_MAX;
    *no_max |= high == INT64_MIN || high == INT64_MAX;
    *min += (__int128)factor * low;
    *max += (__int128)factor * high;
}

/* By the bounds of its symbols alone; skip: one of them left out (MAX_TERMS: none). */
static struct interval sum_bounds(const struct state *s, const struct form *form, unsigned skip)
{
    __int128 min = form->base, max = form->base;
    bool no_min = false, no_max = false;
    for (unsigned i = 0; i < form->count; i++) {
        if (i == skip)
            continue;
        const struct symbol *symbol = state_symbol_find(s, form->terms[i].symbol);
        add_scaled(&min, &max, &no_min, &no_max, symbol ? symbol->range : INTERVAL_ANY,
                   form->terms[i].factor);
    }
    return (struct interval){no_min ? INT64_MIN : saturate(min),
                             no_max ? INT64_MAX : saturate(max)};
}

static int64_t divide_down(int64_t n, int64_t by)
{
    return n / by - (n % by < 0);
}

/* Bounds of n where by * n is within r; by > 0. */
static struct interval divide_interval(struct interval r, int64_t by)
{
    if (r.min != INT64_MIN)
        r.min = -divide_down(-r.min, by);
    if (r.max != INT64_MAX)
        r.max = divide_down(r.max, by);
    return r;
}

/* by * form = factor * fact + rest: what that tells of form. */
static struct interval query(const struct state *s, const struct form *form, unsigned depth);

static struct interval by_fact(const struct state *s, const struct form *form,
                               const struct fact *fact, unsigned depth)
{
    struct interval best = INTERVAL_ANY;
    for (unsigned i = 0; i < form->count; i++)
        for (unsigned j = 0; j < fact->form.count; j++) {
            if (form->terms[i].symbol != fact->form.terms[j].symbol)
                continue;
            int64_t have = form->terms[i].factor, use = fact->form.terms[j].factor;
            int64_t by = 1;
            if (have % use) {
                by = use < 0 ? -use : use;
                if (by <= 0 || by > 1 << 20 || __builtin_mul_overflow(have, by, &have))
                    continue;
            }
            int64_t factor = have / use;
            struct form scaled, rest;
            if (factor == INT64_MIN || (by != 1 && !form_scale(form, by, &scaled)) ||
                !form_add(by == 1 ? form : &scaled, &fact->form, -factor, &rest))
                continue;
            struct interval others =
                depth ? query(s, &rest, depth - 1) : sum_bounds(s, &rest, MAX_TERMS);
            __int128 min = 0, max = 0;
            bool no_min = false, no_max = false;
            add_scaled(&min, &max, &no_min, &no_max, others, 1);
            add_scaled(&min, &max, &no_min, &no_max, fact->range, factor);
            struct interval r = {no_min ? INT64_MIN : saturate(min),
                                 no_max ? INT64_MAX : saturate(max)};
            best = interval_meet(best, divide_interval(r, by));
        }
    return best;
}

static struct interval query(const struct state *s, const struct form *form, unsigned depth)
{
    struct interval best = sum_bounds(s, form, MAX_TERMS);
    if (form->count < 2) /* facts have told their symbols: narrow_all() */
        return best;
    for (unsigned i = 0; i < s->fact_count; i++)
        best = interval_meet(best, by_fact(s, form, &s->facts[i], depth));
    return best;
}

struct interval state_query(const struct state *s, const struct form *form)
{
    return query(s, form, 1);
}

/* ---- learning ---------------------------------------------------------------------------- */

/* factor * symbol is within r. false: that cannot be. */
static bool narrow_symbol(struct state *s, uint32_t id, int64_t factor, struct interval r,
                          bool *changed)
{
    struct symbol *symbol = state_symbol(s, id);
    if (!symbol || factor == INT64_MIN)
        return true;
    if (factor < 0) {
        r = (struct interval){r.max == INT64_MAX ? INT64_MIN : -r.max,
                              r.min == INT64_MIN ? INT64_MAX : -r.min};
        factor = -factor;
    }
    r = interval_meet(symbol->range, divide_interval(r, factor));
    *changed |= r.min != symbol->range.min || r.max != symbol->range.max;
    if (r.min > r.max)
        return false;
    symbol->range = r;
    return true;
}

/* Each symbol of a fact, by the bounds of the others. */
static bool narrow_by_fact(struct state *s, const struct fact *fact, bool *changed)
{
    for (unsigned i = 0; i < fact->form.count; i++) {
        struct interval others = sum_bounds(s, &fact->form, i);
        __int128 min = 0, max = 0;
        bool no_min = false, no_max = false;
        add_scaled(&min, &max, &no_min, &no_max, fact->range, 1);
        add_scaled(&min, &max, &no_min, &no_max, others, -1);
        struct interval r = {no_min ? INT64_MIN : saturate(min),
                             no_max ? INT64_MAX : saturate(max)};
        if (!narrow_symbol(s, fact->form.terms[i].symbol, fact->form.terms[i].factor, r, changed))
            return false;
    }
    return true;
}

static bool narrow_all(struct state *s)
{
    bool changed = true;
    for (int round = 0; changed && round < 3; round++) {
        changed = false;
        for (unsigned i = 0; i < s->fact_count; i++)
            if (!narrow_by_fact(s, &s->facts[i], &changed))
                return false;
    }
    return true;
}

/* The largest number that divides all factors of a form; they become as small as can be. */
int64_t form_reduce(struct form *form)
{
    uint64_t common = 0;
    for (unsigned i = 0; i < form->count; i++) {
        int64_t factor = form->terms[i].factor;
        uint64_t a = common, b = factor < 0 ? 0 - (uint64_t)factor : (uint64_t)factor;
        while (b) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        common = a;
    }
    if (common <= 1 || common > INT64_MAX)
        return 1;
    for (unsigned i = 0; i < form->count; i++)
        form->terms[i].factor /= (int64_t)common;
    return (int64_t)common;
}

static void remember(struct state *s, const struct form *form, struct interval range)
{
    for (unsigned i = 0; i < s->fact_count; i++)
        if (form_same_terms(&s->facts[i].form, form)) {
            s->facts[i].range = interval_meet(s->facts[i].range, range);
            return;
        }
    if (s->fact_count == MAX_FACTS) { /* the oldest goes */
        for (unsigned i = 1; i < MAX_FACTS; i++)
            s->facts[i - 1] = s->facts[i];
        s->fact_count--;
    }
    s->facts[s->fact_count++] = (struct fact){*form, range};
}

/* The form is within this range. false: it cannot be. */
bool state_assume(struct state *s, const struct form *form, struct interval range)
{
    struct interval now = state_query(s, form);
    struct interval meet = interval_meet(now, range);
    if (meet.min > meet.max)
        return false;
    if (meet.min == now.min && meet.max == now.max)
        return true;
    struct form sum;
    int64_t sign = form->terms[0].factor < 0 ? -1 : 1;
    struct form minus = form_const(form->base);
    if (!form_add(form, &minus, -1, &sum) || !form_scale(&sum, sign, &sum))
        return true;
    __int128 min = 0, max = 0;
    bool no_min = false, no_max = false;
    add_scaled(&min, &max, &no_min, &no_max, meet, sign);
    min -= (__int128)sign * form->base;
    max -= (__int128)sign * form->base;
    struct interval r = {no_min ? INT64_MIN : saturate(min), no_max ? INT64_MAX : saturate(max)};
    bool changed = false;
    if (sum.count == 1) {
        if (!narrow_symbol(s, sum.terms[0].symbol, sum.terms[0].factor, r, &changed))
            return false;
    } else {
        int64_t common = form_reduce(&sum);
        remember(s, &sum, divide_interval(r, common));
    }
    return narrow_all(s);
}
