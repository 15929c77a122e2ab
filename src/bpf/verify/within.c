/*
 * bpf/verify/within.c: whether one state is a case of another, and what is true of two.
 *
 * A state stands for all registers and stacks for which there are numbers for its symbols so that
 * everything it says holds. So `new` is a case of `old` if each symbol of old can be given a
 * meaning in symbols of new. Symbols older than `base` mean the same in both (those that the head
 * of a loop speaks of); the younger ones of old may be anything that fits.
 */
#include <errno.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/verify/verify.h"

/* ---- a case of --------------------------------------------------------------------------- */

struct compare {
    const struct state *new, *old;
    uint32_t base;
    struct mapping *map;
    bool open; /* a form has several symbols whose meaning is not yet known */
};

static const struct form *meaning(const struct mapping *map, uint32_t symbol)
{
    for (unsigned i = 0; i < map->symbol_count; i++)
        if (map->symbols[i].old == symbol)
            return &map->symbols[i].form;
    return NULL;
}

static bool give_meaning(struct mapping *map, uint32_t symbol, const struct form *form)
{
    if (map->symbol_count == ARRAY_SIZE(map->symbols))
        return false;
    map->symbols[map->symbol_count].old = symbol;
    map->symbols[map->symbol_count].nameless = false;
    map->symbols[map->symbol_count++].form = *form;
    return true;
}

/* Put into new's symbols what is known already; *left: the term that is not, if there is just one.
 */
static bool translate(const struct compare *c, const struct form *old, struct form *out,
                      struct term *left, unsigned *left_count)
{
    *out = form_const(old->base);
    *left_count = 0;
    for (unsigned i = 0; i < old->count; i++) {
        const struct term *t = &old->terms[i];
        const struct form *with = meaning(c->map, t->symbol);
        struct form same = form_symbol(t->symbol);
        if (!with && t->symbol < c->base)
            with = &same;
        if (!with) {
            *left = *t;
            ++*left_count;
        } else if (!form_add(out, with, t->factor, out)) {
            return false;
        }
    }
    return true;
}

static bool forms_match(struct compare *c, const struct form *new, const struct form *old)
{
    struct form known, rest;
    struct term left;
    unsigned left_count;
    if (!translate(c, old, &known, &left, &left_count))
        return false;
    if (left_count > 1) {
        c->open = true;
        return true;
    }
    if (!left_count)
        return form_equal(&known, new);
    if (!form_add(new, &known, -1, &rest))
        return false;
    int64_t by = left.factor; /* left.factor * symbol is rest */
    if (by == INT64_MIN || rest.base % by)
        return false;
    rest.base /= by;
    for (unsigned i = 0; i < rest.count; i++) {
        if (rest.terms[i].factor % by)
            return false;
        rest.terms[i].factor /= by;
    }
    return give_meaning(c->map, left.symbol, &rest);
}

/* A value that has no name, for there were too many, or none that is a sum, can be what a symbol of
 * old stands for. */
static bool nameless_matches(struct compare *c, const struct value *new, const struct value *old)
{
    const struct form *form = &old->form;
    struct mapping *map = c->map;
    if (form->count != 1 || form->base || form->terms[0].factor != 1 ||
        form->terms[0].symbol < c->base || meaning(map, form->terms[0].symbol))
        return false;
    struct form own = form_symbol(UINT32_MAX - map->symbol_count);
    if (!give_meaning(map, form->terms[0].symbol, &own))
        return false;
    map->symbols[map->symbol_count - 1].nameless = true;
    map->symbols[map->symbol_count - 1].range =
        (struct interval){new->range.all.smin, new->range.all.smax};
    return true;
}

static bool numbers_match(struct compare *c, const struct value *new, const struct value *old)
{
    if (old->shifted != new->shifted)
        return !old->shifted && (!old->formed || nameless_matches(c, new, old));
    if (!old->formed || !old->form.count)
        return true;
    if (new->formed && forms_match(c, &new->form, &old->form))
        return true;
    if (!new->formed && !scalar_is_const(&new->range))
        return nameless_matches(c, new, old);
    struct form number = form_const(new->range.all.smin);
    return scalar_is_const(&new->range) && !new->shifted &&forms_match(c, &number, &old->form);
}

static bool objects_match(struct compare *c, const struct value *new, const struct value *old)
{
    struct mapping *map = c->map;
    if (!old->id || old->id < c->base)
        return new->id == old->id;
    if (!new->id)
        return false;
    for (unsigned i = 0; i < map->object_count; i++)
        if (map->objects[i].old == old->id)
            return map->objects[i].new == new->id;
    if (map->object_count == ARRAY_SIZE(map->objects))
        return false;
    map->objects[map->object_count].old = old->id;
    map->objects[map->object_count++].new = new->id;
    return true;
}

static bool value_within(struct compare *c, const struct value *new, const struct value *old)
{
    if (old->kind == VALUE_NONE || old->kind == VALUE_STALE)
        return true;
    if (new->kind != old->kind)
        return false;
    if (old->kind == VALUE_FUNCTION)
        return new->id == old->id;
    if (old->kind == VALUE_POINTER &&
        (new->span != old->span || new->frame != old->frame || new->size != old->size ||
         (new->nullable && !old->nullable) || !objects_match(c, new, old)))
        return false;
    if ((old->below && old->below != new->below) ||
        (old->one_below && old->one_below != new->one_below))
        return false;
    struct scalar range = value_range(c->new, new);
    return scalar_within(&range, &old->range) && numbers_match(c, new, old);
}

static bool slot_within(struct compare *c, const struct slot *new, const struct slot *old)
{
    uint8_t init, known, bytes[8];
    if (old->value.kind != VALUE_NONE)
        return value_within(c, &new->value, &old->value);
    slot_bytes(new, &init, &known, bytes);
    if (old->init & ~init)
        return false;
    if (old->known & ~known)
        return false;
    for (unsigned i = 0; i < 8; i++)
        if ((old->known >> i & 1) && bytes[i] != old->bytes[i])
            return false;
    return true;
}

static bool frame_within(struct compare *c, const struct frame *new, const struct frame *old)
{
    static const struct slot untouched;
    for (unsigned r = 0; r < BPF_FP; r++)
        if (!value_within(c, &new->regs[r], &old->regs[r]))
            return false;
    for (unsigned i = 0; i < old->used; i++)
        if (!slot_within(c, i < new->used ? &new->slots[i] : &untouched, &old->slots[i]))
            return false;
    return true;
}

static bool frames_within(struct compare *c)
{
    for (unsigned i = 0; i <= c->old->depth; i++)
        if (!frame_within(c, c->new->frames[i], c->old->frames[i]))
            return false;
    return true;
}

static bool interval_within(struct interval a, struct interval b)
{
    return a.min >= b.min && a.max <= b.max;
}

static struct interval meaning_range(const struct compare *c, uint32_t symbol,
                                     const struct form *form)
{
    for (unsigned i = 0; i < c->map->symbol_count; i++)
        if (c->map->symbols[i].old == symbol && c->map->symbols[i].nameless)
            return c->map->symbols[i].range;
    return state_query(c->new, form);
}

/* What old says of its symbols is true of what they mean. */
static bool symbols_within(const struct compare *c)
{
    struct form form;
    struct term left;
    unsigned left_count;
    for (unsigned i = 0; i < c->old->symbol_count; i++) {
        const struct symbol *symbol = &c->old->symbols[i];
        struct form one = form_symbol(symbol->id);
        if (!translate(c, &one, &form, &left, &left_count))
            return false;
        if (left_count)
            continue; /* nothing refers to it */
        if (!interval_within(meaning_range(c, symbol->id, &form), symbol->range))
            return false;
    }
    for (unsigned i = 0; i < c->old->fact_count; i++) {
        const struct fact *fact = &c->old->facts[i];
        if (!translate(c, &fact->form, &form, &left, &left_count) || left_count)
            return false;
        if (!interval_within(state_query(c->new, &form), fact->range))
            return false;
    }
    return true;
}

/* map may already tell what some symbols mean. old must be trimmed. */
bool state_within(const struct state *new, const struct state *old, uint32_t base,
                  struct mapping *map)
{
    struct compare c = {.new = new, .old = old, .base = base, .map = map};
    if (old->progress & ~new->progress)
        return false;
    if (!frames_within(&c))
        return false;
    for (int round = 0; c.open && round < 3; round++) {
        c.open = false;
        if (!frames_within(&c)) /* by now more symbols have a meaning */
            return false;
    }
    if (c.open)
        return false;
    if (old->waiting && (!new->waiting || !forms_match(&c, &new->result, &old->result)))
        return false;
    return symbols_within(&c);
}

/* ---- both -------------------------------------------------------------------------------- */

struct joined {
    struct form a, b;
    uint32_t symbol;
};

struct join {
    struct verifier *v;
    struct state *a, *b, *out;
    struct joined pairs[MAX_SYMBOLS];
    unsigned pair_count;
    struct {
        uint32_t a, b, id;
    } objects[MAX_SYMBOLS];
    unsigned object_count;
};

/* A symbol that stands for fa in a and for fb in b; pairs that differ by the same constant share
 * one. */
static bool join_forms(struct join *j, const struct form *fa, const struct form *fb,
                       struct form *out)
{
    for (unsigned i = 0; i < j->pair_count; i++) {
        const struct joined *pair = &j->pairs[i];
        int64_t da, db;
        if (form_same_terms(fa, &pair->a) && form_same_terms(fb, &pair->b) &&
            !__builtin_sub_overflow(fa->base, pair->a.base, &da) &&
            !__builtin_sub_overflow(fb->base, pair->b.base, &db) && da == db) {
            *out = form_symbol(pair->symbol);
            out->base = da;
            return true;
        }
    }
    if (j->pair_count == ARRAY_SIZE(j->pairs))
        return false;
    struct interval ra = state_query(j->a, fa), rb = state_query(j->b, fb);
    struct interval range = {ra.min < rb.min ? ra.min : rb.min, ra.max > rb.max ? ra.max : rb.max};
    uint32_t id = j->v->next_id++;
    if (!state_symbol_add(j->out, id, range))
        return false;
    j->pairs[j->pair_count++] = (struct joined){*fa, *fb, id};
    *out = form_symbol(id);
    return true;
}

static bool join_objects(struct join *j, uint32_t a, uint32_t b, uint32_t *out)
{
    *out = a;
    if (a == b)
        return true;
    if (!a || !b)
        return false;
    for (unsigned i = 0; i < j->object_count; i++)
        if (j->objects[i].a == a && j->objects[i].b == b) {
            *out = j->objects[i].id;
            return true;
        }
    if (j->object_count == ARRAY_SIZE(j->objects))
        return false;
    *out = j->v->next_id++;
    j->objects[j->object_count].a = a;
    j->objects[j->object_count].b = b;
    j->objects[j->object_count++].id = *out;
    return true;
}

/* out starts as a copy of a. */
static void join_value(struct join *j, struct value *a, struct value *b, struct value *out)
{
    *out = (struct value){0};
    if (a->kind != b->kind || a->kind == VALUE_NONE)
        return;
    struct value joined = *a;
    if (a->kind == VALUE_STALE || a->kind == VALUE_FUNCTION) {
        if (a->id == b->id)
            *out = joined;
        return;
    }
    if (a->kind == VALUE_POINTER) {
        joined.nullable = a->nullable || b->nullable;
        if (a->span != b->span || a->frame != b->frame || a->size != b->size ||
            !join_objects(j, a->id, b->id, &joined.id))
            return;
    }
    struct scalar ra = value_range(j->a, a), rb = value_range(j->b, b);
    struct form fa, fb;
    joined.range = scalar_union(&ra, &rb);
    joined.shifted = joined.formed = false;
    joined.below = a->below == b->below ? a->below : 0;
    joined.one_below = a->one_below == b->one_below ? a->one_below : 0;
    if (value_form(j->v, j->a, a, &fa) && value_form(j->v, j->b, b, &fb) &&
        !scalar_is_const(&joined.range)) {
        joined.form = fa;
        joined.formed = (form_equal(&fa, &fb) && fa.count) || join_forms(j, &fa, &fb, &joined.form);
    }
    *out = joined;
}

static void join_slot(struct join *j, struct slot *a, struct slot *b, struct slot *out)
{
    uint8_t init, known, bytes[8];
    *out = (struct slot){0};
    if (a->value.kind != VALUE_NONE && b->value.kind != VALUE_NONE) {
        join_value(j, &a->value, &b->value, &out->value);
        if (out->value.kind != VALUE_NONE)
            return;
    }
    slot_bytes(a, &out->init, &out->known, out->bytes);
    slot_bytes(b, &init, &known, bytes);
    out->init &= init;
    out->known &= known;
    for (unsigned i = 0; i < 8; i++)
        if (out->bytes[i] != bytes[i])
            out->known &= (uint8_t) ~(1u << i);
}

static void join_facts(struct join *j)
{
    struct state *a = j->a, *b = j->b, *out = j->out;
    for (unsigned i = 0; i < out->symbol_count; i++) {
        struct symbol *symbol = &out->symbols[i];
        const struct symbol *other = state_symbol_find(b, symbol->id);
        if (!state_symbol_find(a, symbol->id))
            continue; /* made here */
        if (!other) {
            symbol->range = INTERVAL_ANY;
            continue;
        }
        symbol->range.min =
            other->range.min < symbol->range.min ? other->range.min : symbol->range.min;
        symbol->range.max =
            other->range.max > symbol->range.max ? other->range.max : symbol->range.max;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < a->fact_count; i++) {
        struct fact fact = a->facts[i];
        struct interval there = state_query(b, &fact.form);
        fact.range.min = there.min < fact.range.min ? there.min : fact.range.min;
        fact.range.max = there.max > fact.range.max ? there.max : fact.range.max;
        if (fact.range.min != INT64_MIN || fact.range.max != INT64_MAX)
            out->facts[kept++] = fact;
    }
    out->fact_count = kept;
}

/* A state of which both are cases; a and b may get more names. NULL: no memory. */
struct state *state_join(struct verifier *v, struct state *a, struct state *b, uint32_t base)
{
    state_name_all(v, a);
    state_name_all(v, b);
    struct state *out = state_copy(v, a);
    struct join *j = NULL;
    if (out) {
        j = base_alloc(sizeof(*j));
        if (!j)
            v->error = -ENOMEM;
    }
    if (!j) {
        state_free(v, out);
        return NULL;
    }
    j->v = v, j->a = a, j->b = b, j->out = out;
    out->progress = a->progress & b->progress;
    out->waiting = a->waiting && b->waiting && form_equal(&a->result, &b->result);
    for (unsigned i = 0; i <= out->depth; i++) {
        struct frame *fa = a->frames[i], *fb = b->frames[i], *fo = out->frames[i];
        for (unsigned r = 0; r < BPF_FP; r++)
            join_value(j, &fa->regs[r], &fb->regs[r], &fo->regs[r]);
        if (fo->used > fb->used)
            fo->used = fb->used;
        for (unsigned slot = 0; slot < fo->used; slot++)
            join_slot(j, &fa->slots[slot], &fb->slots[slot], &fo->slots[slot]);
    }
    join_facts(j);
    base_free(j);
    state_trim(v, out, base);
    return out;
}
