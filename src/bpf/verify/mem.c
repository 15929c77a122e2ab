/* bpf/verify/mem.c: loads, stores and atomics, each within its object. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "bpf/verify/verify.h"

/* ---- objects ----------------------------------------------------------------------------- */

const char *verify_object(const struct verifier *v, const struct value *pointer, char text[96])
{
    const char *name = v->prog->layout.spans[pointer->span].name;
    if (pointer->span == BPF_SPAN_STACK)
        snprintf(text, 96, pointer->frame ? "the stack of call %u" : "the stack", pointer->frame);
    else if (pointer->id)
        snprintf(text, 96, "an object in %s", name);
    else
        snprintf(text, 96, "%s", name);
    return text;
}

static bool out_of_bounds(struct verifier *v, struct state *s, const struct value *pointer,
                          const struct scalar *range, int64_t offset, uint64_t size,
                          const char *who)
{
    char object[96];
    int64_t min = range->all.smin, max = range->all.smax, fp = 0;
    verify_object(v, pointer, object);
    if (pointer->span == BPF_SPAN_STACK)
        fp = BPF_FRAME_SIZE; /* as programs count: from its end */
    if (min < -(INT64_C(1) << 40) || max > INT64_C(1) << 40)
        return verify_doubt(v, s,
                            "%s: %llu byte%s of %s (%llu bytes), but how far from its start is "
                            "not bounded",
                            who, (unsigned long long)size, size == 1 ? "" : "s", object,
                            (unsigned long long)pointer->size);
    if (min == max)
        return verify_doubt(v, s, "%s: %llu byte%s at offset %lld of %s, which has %llu", who,
                            (unsigned long long)size, size == 1 ? "" : "s",
                            (long long)(min + offset - fp), object,
                            (unsigned long long)pointer->size);
    return verify_doubt(
        v, s, "%s: %llu byte%s at an offset from %lld to %lld of %s, which has %llu", who,
        (unsigned long long)size, size == 1 ? "" : "s", (long long)(min + offset - fp),
        (long long)(max + offset - fp), object, (unsigned long long)pointer->size);
}

static bool aligned(struct state *s, const struct value *pointer, int64_t offset, uint64_t size)
{
    struct scalar range = value_range(s, pointer), by = scalar_const((uint64_t)offset);
    struct scalar at = scalar_alu(0 /* BPF_ADD */, false, false, &range, &by);
    /* Spans and frames are aligned; where in a region an object is that a helper gave, is not
     * known. */
    return !pointer->id && !((at.bits.value | at.bits.mask) & (size - 1));
}

/* Whether size bytes (not 0) at pointer + offset may be accessed. */
bool verify_access(struct verifier *v, struct state *s, const struct value *pointer, int64_t offset,
                   uint64_t size, enum access access, const char *who)
{
    char object[96];
    if (pointer->kind == VALUE_STALE)
        return verify_fail(v, s, "%s: it is a pointer that the call at %u made unusable", who,
                           pointer->id);
    if (pointer->kind == VALUE_FUNCTION)
        return verify_fail(v, s, "%s: it is the address of a function", who);
    if (pointer->kind != VALUE_POINTER)
        return verify_fail(v, s, "%s: it is a number, not a pointer", who);
    if (pointer->nullable)
        return verify_fail(v, s, "%s: it may be 0: compare it with 0 before it is used", who);
    if (access != ACCESS_READ && !v->prog->layout.spans[pointer->span].writable)
        return verify_fail(v, s, "%s: %s may only be read", who, verify_object(v, pointer, object));
    struct scalar range = value_range(s, pointer);
    int64_t first, end;
    if (size > INT64_MAX || __builtin_add_overflow(range.all.smin, offset, &first) ||
        __builtin_add_overflow(range.all.smax, offset, &end) ||
        __builtin_add_overflow(end, (int64_t)size, &end) || first < 0 ||
        end > (int64_t)pointer->size)
        return out_of_bounds(v, s, pointer, &range, offset, size, who);
    if (access == ACCESS_ATOMIC && !aligned(s, pointer, offset, size))
        return verify_fail(v, s, "%s: an atomic operation of %llu bytes that may not be aligned",
                           who, (unsigned long long)size);
    return true;
}

/* ---- stack ------------------------------------------------------------------------------- */

static struct slot *slot_of(struct state *s, unsigned frame, uint64_t byte)
{
    struct frame *f = s->frames[frame];
    unsigned slot = SLOTS - 1 - (unsigned)(byte / 8);
    return slot < f->used ? &f->slots[slot] : NULL;
}

static struct slot *slot_make(struct verifier *v, struct state *s, unsigned frame, uint64_t byte)
{
    unsigned slot = SLOTS - 1 - (unsigned)(byte / 8);
    return frame_reach(v, s->frames[frame], slot + 1) ? &s->frames[frame]->slots[slot] : NULL;
}

/* The bytes that an access may touch. */
struct extent {
    uint64_t first, end;
    bool exact; /* all of them */
};

/* If it is not bounded, which was found wrong before, it may touch all of the frame. */
static struct extent stack_extent(struct state *s, const struct value *pointer, int64_t offset,
                                  uint64_t size)
{
    struct scalar range = value_range(s, pointer);
    struct extent all = {0, BPF_FRAME_SIZE, false};
    int64_t first, end;
    if (size > BPF_FRAME_SIZE || __builtin_add_overflow(range.all.smin, offset, &first) ||
        __builtin_add_overflow(range.all.smax, offset, &end) ||
        __builtin_add_overflow(end, (int64_t)size, &end) || first < 0 || end > BPF_FRAME_SIZE)
        return all;
    return (struct extent){(uint64_t)first, (uint64_t)end, scalar_is_const(&range)};
}

static bool bytes_readable(struct verifier *v, struct state *s, unsigned frame, uint64_t first,
                           uint64_t end, const char *who)
{
    for (uint64_t byte = first; byte < end; byte++) {
        const struct slot *slot = slot_of(s, frame, byte);
        uint8_t init = 0, known, bytes[8];
        if (slot)
            slot_bytes(slot, &init, &known, bytes);
        if (init >> (byte & 7) & 1)
            continue;
        if (slot && slot->value.kind != VALUE_NONE && slot->value.kind != VALUE_STALE)
            return verify_doubt(v, s, "%s: byte %lld of the stack is part of a pointer", who,
                                (long long)byte - BPF_FRAME_SIZE);
        return verify_doubt(v, s, "%s: byte %lld of the stack is not initialised", who,
                            (long long)byte - BPF_FRAME_SIZE);
    }
    return true;
}

bool stack_readable(struct verifier *v, struct state *s, const struct value *pointer,
                    int64_t offset, uint64_t size, const char *who)
{
    if (pointer->span != BPF_SPAN_STACK)
        return true;
    struct extent e = stack_extent(s, pointer, offset, size);
    return bytes_readable(v, s, pointer->frame, e.first, e.end, who);
}

static void slot_to_bytes(struct slot *slot)
{
    uint8_t init, known, bytes[8];
    slot_bytes(slot, &init, &known, bytes);
    *slot = (struct slot){.init = init, .known = known};
    memcpy(slot->bytes, bytes, 8);
}

/* At least min_size bytes were written, max_size at most; with what is not known. */
void stack_written(struct verifier *v, struct state *s, const struct value *pointer, int64_t offset,
                   uint64_t min_size, uint64_t max_size)
{
    struct extent e = stack_extent(s, pointer, offset, max_size);
    for (uint64_t byte = e.first; byte < e.end; byte++) {
        bool surely = e.exact && byte < e.first + min_size;
        struct slot *slot =
            surely ? slot_make(v, s, pointer->frame, byte) : slot_of(s, pointer->frame, byte);
        if (!slot)
            continue;
        slot_to_bytes(slot);
        slot->known &= (uint8_t) ~(1u << (byte & 7));
        if (surely)
            slot->init |= (uint8_t)(1u << (byte & 7));
    }
}

/* Store a value; false: it must not be stored like this. The bounds are known to be right. */
bool stack_store(struct verifier *v, struct state *s, const struct value *pointer, int64_t offset,
                 uint64_t size, const struct value *value)
{
    struct extent e = stack_extent(s, pointer, offset, size);
    uint64_t first = e.first;
    bool exact = e.exact;
    if (value->kind != VALUE_SCALAR && (!exact || size != 8 || first % 8))
        return verify_fail(v, s, "a pointer is stored where it is not known, or not aligned");
    if (exact && size == 8 && first % 8 == 0) {
        struct slot *slot = slot_make(v, s, pointer->frame, first);
        if (slot)
            *slot = (struct slot){.value = *value};
        return slot != NULL;
    }
    stack_written(v, s, pointer, offset, size, size);
    if (!exact || !scalar_is_const(&value->range))
        return true;
    for (uint64_t i = 0; i < size; i++) {
        struct slot *slot = slot_of(s, pointer->frame, first + i);
        unsigned at = (first + i) & 7;
        if (!slot)
            return false;
        slot->known |= (uint8_t)(1u << at);
        slot->bytes[at] = (uint8_t)(value->range.all.umin >> (8 * i));
    }
    return true;
}

static bool stack_load(struct verifier *v, struct state *s, const struct value *pointer,
                       int64_t offset, uint64_t size, struct value *out)
{
    struct extent e = stack_extent(s, pointer, offset, size);
    uint64_t first = e.first;
    bool exact = e.exact;
    *out = value_scalar(scalar_unknown());
    struct slot *slot = slot_of(s, pointer->frame, first);
    if (exact && slot && first % 8 == 0 && slot->value.kind == VALUE_STALE && size == 8)
        return verify_fail(v, s,
                           "the pointer at byte %lld of the stack became unusable by the "
                           "call at %u",
                           (long long)first - BPF_FRAME_SIZE, slot->value.id);
    if (exact && slot && first % 8 == 0 && slot->value.kind != VALUE_NONE &&
        (size == 8 || slot->value.kind == VALUE_SCALAR)) {
        value_name(v, s, &slot->value);
        *out = slot->value;
        return true; /* of a smaller size: the caller takes the low part */
    }
    if (!bytes_readable(v, s, pointer->frame, first, e.end, "load"))
        return false;
    if (!exact)
        return true;
    uint64_t number = 0;
    for (uint64_t i = 0; i < size; i++) {
        uint8_t init, known, bytes[8];
        slot = slot_of(s, pointer->frame, first + i);
        if (!slot)
            return true; /* a guess went on behind what is wrong */
        slot_bytes(slot, &init, &known, bytes);
        if (!(known >> ((first + i) & 7) & 1))
            return true;
        number |= (uint64_t)bytes[(first + i) & 7] << (8 * i);
    }
    *out = value_const(number);
    return true;
}

/* ---- what is constant -------------------------------------------------------------------- */

#define TABLE 4096 /* so many places of a table are looked at */

static const struct bpf_pointer *pointer_at(const struct bpf_code *code, uint64_t first,
                                            uint64_t end)
{
    for (uint32_t i = 0; i < code->pointer_count; i++) {
        const struct bpf_pointer *p = &code->pointers[i];
        if (p->section == BPF_GLOBAL_RODATA && p->offset < end && p->offset + 8 > first)
            return p;
    }
    return NULL;
}

static uint64_t read_number(const uint8_t *bytes, uint64_t size)
{
    uint64_t number = 0;
    for (uint64_t i = 0; i < size; i++)
        number |= (uint64_t)bytes[i] << (8 * i);
    return number;
}

/* What may be there, of all places where the pointer may point to. */
static void rodata_load(struct verifier *v, struct state *s, const struct value *pointer,
                        int64_t offset, uint64_t size, bool extend, struct value *out)
{
    struct scalar range = value_range(s, pointer);
    uint64_t first = (uint64_t)(range.all.smin + offset),
             last = (uint64_t)(range.all.smax + offset);
    const struct bpf_code *code = v->code;
    if (first > last || last - first > TABLE || !range_ok(last, size, code->rodata_size))
        return;
    const struct bpf_pointer *p = pointer_at(code, first, last + size);
    if (p) {
        if (p->offset != first || first != last || size != 8)
            return;
        bool data = p->target == BPF_GLOBAL_DATA;
        *out = value_pointer(data ? BPF_SPAN_DATA : BPF_SPAN_RODATA,
                             data ? code->data_size : code->rodata_size);
        out->range = scalar_const(p->value);
        return;
    }
    bool any = false;
    struct scalar all = scalar_const(0);
    for (uint64_t at = first; at <= last; at++) {
        if (!scalar_contains(&range, at - (uint64_t)offset))
            continue;
        struct scalar one = scalar_const(read_number(code->rodata + at, size));
        if (extend)
            one = scalar_sign_extend(&one, (unsigned)size * 8);
        all = any ? scalar_union(&all, &one) : one;
        any = true;
    }
    if (any)
        *out = value_scalar(all);
}

/* A string that ends within its object. */
bool memory_string(struct verifier *v, struct state *s, const struct value *pointer)
{
    struct scalar range = value_range(s, pointer);
    uint64_t at = range.all.umax;
    if (pointer->span == BPF_SPAN_RODATA) {
        for (; at < v->code->rodata_size; at++)
            if (!v->code->rodata[at] && !pointer_at(v->code, at, at + 1))
                return true;
        return false;
    }
    if (pointer->span != BPF_SPAN_STACK || !scalar_is_const(&range))
        return false;
    for (; at < BPF_FRAME_SIZE; at++) {
        const struct slot *slot = slot_of(s, pointer->frame, at);
        uint8_t init = 0, known = 0, bytes[8];
        if (slot)
            slot_bytes(slot, &init, &known, bytes);
        if (!(init >> (at & 7) & 1))
            return false;
        if ((known >> (at & 7) & 1) && !bytes[at & 7])
            return true;
    }
    return false;
}

/* ---- the instructions -------------------------------------------------------------------- */

/* The register that an instruction takes an address from. */
static struct value *address(struct verifier *v, struct state *s, unsigned reg, struct value *room)
{
    if (reg != BPF_FP)
        return verify_read(v, s, reg);
    *room = value_frame(s->depth);
    return room;
}

static bool load(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    struct value room, out = value_scalar(scalar_unknown());
    struct value *pointer = address(v, s, insn->src, &room);
    uint64_t size = bpf_access_size(insn->opcode);
    bool extend = BPF_MODE(insn->opcode) == BPF_MEMSX;
    char who[32];
    snprintf(who, sizeof(who), "load by r%u", insn->src);
    if (!pointer || !verify_access(v, s, pointer, insn->offset, size, ACCESS_READ, who))
        return false;
    if (pointer->span == BPF_SPAN_STACK && !stack_load(v, s, pointer, insn->offset, size, &out))
        return false;
    if (size < 8) {
        struct scalar range = value_range(s, &out), whole = range;
        range = extend ? scalar_sign_extend(&range, (unsigned)size * 8)
                       : scalar_zero_extend(&range, (unsigned)size * 8);
        bool same = range.all.smin <= whole.all.smin && range.all.smax >= whole.all.smax &&
                    whole.all.smin >= (extend ? -(INT64_C(1) << (size * 8 - 1)) : 0) &&
                    whole.all.smax < (INT64_C(1) << (size * 8 - extend));
        out.range = range;
        if (!same || out.shifted)
            out.formed = out.shifted = false;
    }
    if (pointer->span == BPF_SPAN_RODATA && !pointer->id)
        rodata_load(v, s, pointer, insn->offset, size, extend, &out);
    state_top(s)->regs[insn->dst] = out;
    return true;
}

static bool store(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    struct value room, room2;
    struct value *pointer = address(v, s, insn->dst, &room), *value;
    uint64_t size = bpf_access_size(insn->opcode);
    char who[32];
    snprintf(who, sizeof(who), "store by r%u", insn->dst);
    if (BPF_CLASS(insn->opcode) == BPF_ST) {
        room2 = value_const((uint64_t)(int64_t)insn->imm);
        value = &room2;
    } else {
        value = address(v, s, insn->src, &room2);
    }
    if (!pointer || !value || !verify_access(v, s, pointer, insn->offset, size, ACCESS_WRITE, who))
        return false;
    if (pointer->span == BPF_SPAN_STACK) {
        value_name(v, s, value);
        return stack_store(v, s, pointer, insn->offset, size, value);
    }
    if (value->kind != VALUE_SCALAR)
        return verify_fail(v, s, "a pointer is stored in memory that is not the stack");
    return true;
}

static bool atomic(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    struct value room, room2, *r0 = NULL;
    struct value *pointer = address(v, s, insn->dst, &room);
    struct value *value = address(v, s, insn->src, &room2);
    uint64_t size = bpf_access_size(insn->opcode);
    char who[32];
    snprintf(who, sizeof(who), "atomic by r%u", insn->dst);
    if (!pointer || !value)
        return false;
    if (insn->imm == BPF_CMPXCHG && !(r0 = verify_read(v, s, 0)))
        return false;
    if (value->kind != VALUE_SCALAR || (r0 && r0->kind != VALUE_SCALAR))
        return verify_fail(v, s, "atomic operations take numbers, not pointers");
    if (!verify_access(v, s, pointer, insn->offset, size, ACCESS_ATOMIC, who) ||
        !stack_readable(v, s, pointer, insn->offset, size, who))
        return false;
    if (pointer->span == BPF_SPAN_STACK)
        stack_written(v, s, pointer, insn->offset, size, size);
    struct scalar any = scalar_unknown();
    struct value old = value_scalar(scalar_zero_extend(&any, (unsigned)size * 8));
    if (r0)
        state_top(s)->regs[0] = old;
    else if (insn->imm & BPF_FETCH)
        state_top(s)->regs[insn->src] = old;
    return true;
}

bool verify_memory(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    if (BPF_CLASS(insn->opcode) == BPF_LDX)
        return load(v, s, insn);
    if (BPF_CLASS(insn->opcode) == BPF_STX && BPF_MODE(insn->opcode) == BPF_ATOMIC)
        return atomic(v, s, insn);
    return store(v, s, insn);
}
