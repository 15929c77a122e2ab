/* bpf/verify/state.c: registers, stack and symbols of a path. */
#include <errno.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/verify/verify.h"

#define NAMES_LEFT 16
#define COPY_WORK  8192 /* copying so many bytes counts like an instruction */

/* ---- memory ------------------------------------------------------------------------------ */

static struct state *out_of_memory(struct verifier *v)
{
    v->error = -ENOMEM;
    return NULL;
}

struct state *state_new(struct verifier *v)
{
    struct state *s = base_alloc(sizeof(*s));
    if (!s)
        return out_of_memory(v);
    v->memory += sizeof(*s);
    return s;
}

/* Memory is counted by what states have when they are made; it need not be exact. */
static uint64_t frames_size(const struct state *s)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < BPF_MAX_DEPTH && s->frames[i]; i++)
        size += sizeof(struct frame) + s->frames[i]->room * sizeof(struct slot);
    return size;
}

static struct frame *frame_copy(const struct frame *f)
{
    struct frame *copy = base_alloc(sizeof(*copy));
    if (!copy)
        return NULL;
    *copy = *f;
    copy->room = f->used;
    copy->slots = NULL;
    if (f->used) {
        copy->slots = base_alloc_array(f->used, sizeof(*f->slots));
        if (!copy->slots) {
            base_free(copy);
            return NULL;
        }
        memcpy(copy->slots, f->slots, f->used * sizeof(*f->slots));
    }
    return copy;
}

struct state *state_copy(struct verifier *v, const struct state *s)
{
    struct state *copy = state_new(v);
    if (!copy)
        return NULL;
    *copy = *s;
    copy->next = NULL;
    copy->counted = 0;
    for (unsigned i = 0; i < BPF_MAX_DEPTH; i++)
        copy->frames[i] = NULL;
    for (unsigned i = 0; i <= s->depth; i++) {
        copy->frames[i] = frame_copy(s->frames[i]);
        if (!copy->frames[i]) {
            state_free(v, copy);
            return out_of_memory(v);
        }
    }
    copy->counted = frames_size(copy);
    v->memory += copy->counted;
    v->looked += copy->counted / COPY_WORK;
    return copy;
}

static void frame_free(struct frame *f)
{
    if (f)
        base_free(f->slots);
    base_free(f);
}

void state_free(struct verifier *v, struct state *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < BPF_MAX_DEPTH; i++)
        frame_free(s->frames[i]);
    v->memory -= sizeof(*s) + s->counted;
    base_free(s);
}

void state_free_list(struct verifier *v, struct state *s)
{
    while (s) {
        struct state *next = s->next;
        state_free(v, s);
        s = next;
    }
}

/* ---- frames ------------------------------------------------------------------------------ */

/* A frame above the last; of a new state, the first. */
int state_push_frame(struct verifier *v, struct state *s, uint32_t function)
{
    unsigned depth = s->frames[0] ? s->depth + 1 : 0;
    struct frame *f = base_alloc(sizeof(*f));
    if (!f) {
        out_of_memory(v);
        return -1;
    }
    f->function = f->pc = function;
    s->frames[depth] = f;
    s->depth = depth;
    return 0;
}

void state_pop_frame(struct state *s)
{
    frame_free(s->frames[s->depth]);
    s->frames[s->depth--] = NULL;
}

/* Slots up to this number (from the end of the frame) exist. */
bool frame_reach(struct verifier *v, struct frame *f, unsigned slots)
{
    if (slots > f->room) {
        unsigned room = slots < 4 ? 4 : slots > SLOTS / 2 ? SLOTS : slots * 2;
        struct slot *more = base_alloc_array(room, sizeof(*more));
        if (!more)
            return out_of_memory(v) != NULL;
        if (f->used)
            memcpy(more, f->slots, f->used * sizeof(*more));
        base_free(f->slots);
        f->slots = more;
        f->room = room;
    }
    if (slots > f->used) {
        memset(f->slots + f->used, 0, (slots - f->used) * sizeof(*f->slots));
        f->used = slots;
    }
    return true;
}

struct value *state_place(struct state *s, unsigned place)
{
    struct frame *f = s->frames[place / PLACES_OF_FRAME];
    place %= PLACES_OF_FRAME;
    if (place < BPF_FP)
        return &f->regs[place];
    return place - BPF_FP < f->used ? &f->slots[place - BPF_FP].value : NULL;
}

/* What is known of its bytes one by one. */
void slot_bytes(const struct slot *slot, uint8_t *init, uint8_t *known, uint8_t bytes[8])
{
    *init = slot->init;
    *known = slot->known;
    memcpy(bytes, slot->bytes, 8);
    if (slot->value.kind == VALUE_NONE)
        return;
    bool number = slot->value.kind == VALUE_SCALAR;
    *init = number ? 0xff : 0;
    *known = number && scalar_is_const(&slot->value.range) ? 0xff : 0;
    store_le64(bytes, slot->value.range.all.umin);
}

/* ---- values ------------------------------------------------------------------------------ */

struct value value_scalar(struct scalar range)
{
    return (struct value){.kind = VALUE_SCALAR, .range = range};
}

struct value value_const(uint64_t number)
{
    return value_scalar(scalar_const(number));
}

struct value value_pointer(unsigned span, uint64_t size)
{
    return (struct value){
        .kind = VALUE_POINTER, .span = (uint8_t)span, .size = size, .range = scalar_const(0)};
}

struct value value_frame(unsigned frame)
{
    struct value value = value_pointer(BPF_SPAN_STACK, BPF_FRAME_SIZE);
    value.frame = (uint8_t)frame;
    value.range = scalar_const(BPF_FRAME_SIZE);
    return value;
}

/* Give a number, or an offset, that is not known a symbol, so that copies of it are seen to be the
 * same. */
void value_name(struct verifier *v, struct state *s, struct value *value)
{
    if (value->formed || scalar_is_const(&value->range) ||
        (value->kind != VALUE_SCALAR && value->kind != VALUE_POINTER))
        return;
    if (s->symbol_count == MAX_SYMBOLS)
        state_trim(v, s, v->attempt ? v->attempt->base : 0);
    uint32_t id = v->next_id++;
    struct interval range = {value->range.all.smin, value->range.all.smax};
    if (!state_symbol_add(s, id, range))
        return;
    value->form = form_symbol(id);
    value->formed = true;
    value->shifted = false;
}

/* The form of a number or an offset, if there is one or it can be given one. */
bool value_form(struct verifier *v, struct state *s, struct value *value, struct form *out)
{
    bool constant = scalar_is_const(&value->range);
    if (constant && (!value->formed || value->shifted)) {
        *out = form_const(value->range.all.smin);
        return true;
    }
    if (value->shifted)
        return false;
    value_name(v, s, value);
    *out = value->form;
    return value->formed;
}

/* By its own bounds and those of its form. */
struct scalar value_range(const struct state *s, const struct value *value)
{
    struct scalar range = value->range;
    if (!value->formed || value->shifted || scalar_is_const(&range))
        return range;
    struct interval i = state_query(s, &value->form);
    if (i.min <= range.all.smin && i.max >= range.all.smax)
        return range;
    range.all.smin = range.all.smin > i.min ? range.all.smin : i.min;
    range.all.smax = range.all.smax < i.max ? range.all.smax : i.max;
    if (range.all.smin > range.all.smax || !scalar_sync(&range))
        return value->range; /* nothing can be here; a branch will find out */
    return range;
}

/* ---- symbols ----------------------------------------------------------------------------- */

static void mark(const struct state *s, const struct form *form, uint64_t *used)
{
    for (unsigned i = 0; i < form->count; i++) {
        const struct symbol *symbol = state_symbol_find(s, form->terms[i].symbol);
        if (symbol)
            *used |= UINT64_C(1) << (symbol - s->symbols);
    }
}

static void mark_value(const struct state *s, const struct value *value, uint64_t *used)
{
    if (value->formed)
        mark(s, &value->form, used);
}

static uint64_t used_symbols(const struct state *s)
{
    uint64_t used = 0;
    for (unsigned i = 0; i <= s->depth; i++) {
        const struct frame *f = s->frames[i];
        for (unsigned r = 0; r < BPF_FP; r++)
            mark_value(s, &f->regs[r], &used);
        for (unsigned slot = 0; slot < f->used; slot++)
            mark_value(s, &f->slots[slot].value, &used);
    }
    if (s->waiting)
        mark(s, &s->result, &used);
    return used;
}

/* Symbols that nothing refers to are forgotten; those older than base are kept, for the head of
 * the loop may refer to them. */
void state_trim(struct verifier *v, struct state *s, uint32_t base)
{
    (void)v;
    uint64_t used = used_symbols(s);
    unsigned kept = 0, facts = 0;
    for (unsigned i = 0; i < s->symbol_count; i++)
        if (s->symbols[i].id < base || (used >> i & 1))
            s->symbols[kept++] = s->symbols[i];
    if (kept == s->symbol_count)
        return;
    s->symbol_count = kept;
    for (unsigned i = 0; i < s->fact_count; i++) {
        const struct form *form = &s->facts[i].form;
        bool whole = true;
        for (unsigned t = 0; t < form->count; t++)
            whole &= state_symbol_find(s, form->terms[t].symbol) != NULL;
        if (whole)
            s->facts[facts++] = s->facts[i];
    }
    s->fact_count = facts;
}

/* All that has none gets a name, as long as there is room for those that will be needed. */
void state_name_all(struct verifier *v, struct state *s)
{
    for (unsigned i = 0; i <= s->depth; i++)
        for (unsigned r = 0; r < BPF_FP; r++)
            value_name(v, s, &s->frames[i]->regs[r]);
    for (unsigned i = s->depth + 1; i-- > 0;)
        for (unsigned slot = 0; slot < s->frames[i]->used; slot++) {
            if (s->symbol_count > MAX_SYMBOLS - NAMES_LEFT)
                return;
            value_name(v, s, &s->frames[i]->slots[slot].value);
        }
}
