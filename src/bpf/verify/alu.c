/* bpf/verify/alu.c: arithmetic and comparisons, on numbers and on pointers. */
#include "base/util.h"
#include "bpf/verify/verify.h"

/* ---- operands ---------------------------------------------------------------------------- */

struct value *verify_read(struct verifier *v, struct state *s, unsigned reg)
{
    if (reg == BPF_FP) {
        verify_fail(v, s, "r10 is the frame pointer");
        return NULL;
    }
    struct value *value = &state_top(s)->regs[reg];
    if (value->kind == VALUE_STALE) {
        verify_fail(v, s, "r%u is a pointer that the call at %u made unusable", reg, value->id);
        return NULL;
    }
    if (value->kind == VALUE_NONE) {
        verify_fail(v, s, "r%u is not initialised", reg);
        return NULL;
    }
    return value;
}

/* The second operand, or NULL; r10 and constants are made in *room. */
static struct value *source(struct verifier *v, struct state *s, const struct bpf_insn *insn,
                            struct value *room)
{
    if (BPF_SOURCE(insn->opcode) == BPF_K) {
        *room = value_const((uint64_t)(int64_t)insn->imm);
        return room;
    }
    if (insn->src == BPF_FP) {
        *room = value_frame(s->depth);
        return room;
    }
    return verify_read(v, s, insn->src);
}

static const char *kind_name(const struct value *value)
{
    switch (value->kind) {
    case VALUE_POINTER:
        return "a pointer";
    case VALUE_FUNCTION:
        return "the address of a function";
    default:
        return "a number";
    }
}

/* ---- numbers ----------------------------------------------------------------------------- */

/* Give what was computed a symbol of its own and say that form - factor * symbol is in a range. */
static void relate(struct verifier *v, struct state *s, struct value *out, const struct form *form,
                   int64_t factor, struct interval range)
{
    struct form one, difference;
    if (scalar_is_const(&out->range))
        return;
    value_name(v, s, out);
    if (!out->formed)
        return;
    one = out->form;
    if (form_add(form, &one, -factor, &difference))
        state_assume(s, &difference, range);
}

static bool in_interval(const struct scalar *a, int64_t min, int64_t max)
{
    return a->all.smin >= min && a->all.smax <= max;
}

/* a * factor fits, so that its form does. */
static bool scaled(const struct value *a, const struct scalar *ra, int64_t factor, struct form *out)
{
    int64_t x, y;
    return !__builtin_mul_overflow(ra->all.smin, factor, &x) &&
           !__builtin_mul_overflow(ra->all.smax, factor, &y) && form_scale(&a->form, factor, out);
}

static bool has_form(const struct value *a)
{
    return a->formed && !a->shifted;
}

/* Sums: the form of the result, if nothing wraps. */
static bool sum_form(struct verifier *v, struct state *s, struct value *a, struct value *b,
                     int64_t sign, struct form *out)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    struct form fa, fb;
    int64_t x, y;
    bool wraps = sign > 0 ? __builtin_add_overflow(ra.all.smin, rb.all.smin, &x) ||
                                __builtin_add_overflow(ra.all.smax, rb.all.smax, &y)
                          : __builtin_sub_overflow(ra.all.smin, rb.all.smax, &x) ||
                                __builtin_sub_overflow(ra.all.smax, rb.all.smin, &y);
    return !wraps && value_form(v, s, a, &fa) && value_form(v, s, b, &fb) &&
           form_add(&fa, &fb, sign, out);
}

static bool divides(const struct form *form, int64_t by, struct form *out)
{
    *out = *form;
    out->base /= by;
    if (form->base % by)
        return false;
    for (unsigned i = 0; i < form->count; i++) {
        if (form->terms[i].factor % by)
            return false;
        out->terms[i].factor /= by;
    }
    return true;
}

/* a / by rounded down, a not negative, with the form of a known. */
static void divided(struct verifier *v, struct state *s, const struct value *a, int64_t by,
                    struct value *out)
{
    if (divides(&a->form, by, &out->form)) {
        out->formed = true;
        return;
    }
    relate(v, s, out, &a->form, by, (struct interval){0, by - 1});
    if (by > 1 && value_range(s, a).all.smin > 0 && out->formed)
        relate(v, s, out, &a->form, 1, (struct interval){1, INT64_MAX});
}

/* Bits of a, which is not negative, were taken away. */
static void masked(struct verifier *v, struct state *s, const struct value *a,
                   const struct scalar *ra, uint64_t mask, struct value *out)
{
    if (!((ra->bits.value | ra->bits.mask) & ~mask)) { /* none of those that it can have */
        out->form = a->form;
        out->formed = true;
        return;
    }
    uint64_t lost = (ra->bits.value | ra->bits.mask) & ~mask;
    unsigned low = 64u - (unsigned)__builtin_clzll(lost);
    struct tnum rest = tnum_low(out->range.bits, low);
    if (low < 62 && !rest.value && !rest.mask) { /* rounded down */
        struct scalar shift = scalar_const(low);
        struct value quotient = value_scalar(scalar_alu(BPF_RSH, false, false, ra, &shift));
        divided(v, s, a, INT64_C(1) << low, &quotient);
        out->formed = quotient.formed && form_scale(&quotient.form, INT64_C(1) << low, &out->form);
        return;
    }
    relate(v, s, out, &a->form, 1,
           (struct interval){0, lost <= INT64_MAX ? (int64_t)lost : INT64_MAX});
}

/* a % b, both not negative. */
static void remainder_of(struct verifier *v, struct state *s, const struct value *a,
                         const struct value *b, struct value *out)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    if (ra.all.umax < rb.all.umin) {
        out->form = a->form;
        out->formed = has_form(a);
        return;
    }
    if (has_form(a))
        relate(v, s, out, &a->form, 1, (struct interval){0, INT64_MAX});
    if (has_form(b) && rb.all.smin > 0)
        relate(v, s, out, &b->form, 1, (struct interval){1, INT64_MAX});
}

static void and_form(struct verifier *v, struct state *s, const struct value *a,
                     const struct value *b, struct value *out)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    if (has_form(a) && ra.all.smin >= 0)
        masked(v, s, a, &ra, rb.bits.value, out);
    if (has_form(b) && rb.all.smin >= 0 && !scalar_is_const(&rb))
        relate(v, s, out, &b->form, 1, (struct interval){0, INT64_MAX});
}

/* What the result of a 64-bit operation has to do with its operands. */
static void result_form(struct verifier *v, struct state *s, unsigned op, bool is_signed,
                        struct value *a, struct value *b, struct value *out)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    bool constant = scalar_is_const(&rb);
    uint64_t number = rb.all.umin;
    bool positive = ra.all.smin >= 0;
    switch (op) {
    case BPF_OR:
    case BPF_XOR:
        /* No bit can be set in both: it is a sum. */
        if ((ra.bits.value | ra.bits.mask) & (rb.bits.value | rb.bits.mask))
            break;
        out->formed = positive && rb.all.smin >= 0 && sum_form(v, s, a, b, 1, &out->form);
        break;
    case BPF_ADD:
        out->formed = sum_form(v, s, a, b, 1, &out->form);
        break;
    case BPF_SUB:
        out->formed = sum_form(v, s, a, b, -1, &out->form);
        break;
    case BPF_NEG:
        out->formed = has_form(a) && scaled(a, &ra, -1, &out->form);
        break;
    case BPF_MUL:
        if (scalar_is_const(&ra) && has_form(b))
            out->formed = scaled(b, &rb, ra.all.smin, &out->form);
        else if (constant)
            out->formed = has_form(a) && scaled(a, &ra, rb.all.smin, &out->form);
        break;
    case BPF_LSH:
        if (constant && number == 32) {
            value_name(v, s, a);
            out->formed = out->shifted = has_form(a);
            out->form = a->form;
        } else if (constant && number < 62) {
            if (!scalar_is_const(&ra))
                value_name(v, s, a);
            out->formed = has_form(a) && scaled(a, &ra, INT64_C(1) << number, &out->form);
        }
        break;
    case BPF_RSH:
    case BPF_ARSH:
        if (constant && number > 0 && number < 62 && positive && has_form(a))
            divided(v, s, a, INT64_C(1) << number, out);
        break;
    case BPF_DIV:
        if (constant && rb.all.smin > 0 && positive && has_form(a))
            divided(v, s, a, rb.all.smin, out);
        break;
    case BPF_MOD:
        if (positive && rb.all.smin >= 0 && !is_signed)
            remainder_of(v, s, a, b, out);
        break;
    case BPF_AND:
        and_form(v, s, a, b, out);
        break;
    default:
        break;
    }
    if (out->formed && !out->form.count)
        out->formed = out->shifted = false;
}

/* The symbol that a value is; 0: it is none. */
static uint32_t plain_symbol(const struct value *a)
{
    bool plain = has_form(a) && !a->form.base && a->form.count == 1 && a->form.terms[0].factor == 1;
    return plain ? a->form.terms[0].symbol : 0;
}

/* What is less than an operand also where that is no signed number: so loops that halve a number,
 * or take its bits away, are seen to end. */
static void unsigned_order(struct state *s, unsigned op, const struct value *a,
                           const struct value *b, struct value *out)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    uint32_t left = plain_symbol(a), right = plain_symbol(b);
    uint64_t by = scalar_is_const(&rb) ? rb.all.umin : 0;
    if (op == BPF_ADD && by == UINT64_MAX)
        out->one_below = left;
    else if (op == BPF_SUB && by == 1)
        out->one_below = left;
    else if (op == BPF_MOD && rb.all.umin)
        out->below = right;
    else if (op == BPF_AND && right && right == a->one_below && rb.all.umin)
        out->below = right;
    else if (op == BPF_AND && left && left == b->one_below && ra.all.umin)
        out->below = left;
    else if (ra.all.umin && ((op == BPF_RSH && by > 0 && by < 64) || (op == BPF_DIV && by > 1)))
        out->below = left;
}

/* (x << 32) >> 32, as code without 32-bit instructions has it: x, if it fits. */
static bool unshift(struct state *s, bool is_signed, const struct value *a, struct value *out)
{
    struct interval i = state_query(s, &a->form);
    int64_t min = is_signed ? INT32_MIN : 0, max = is_signed ? INT32_MAX : UINT32_MAX;
    if (i.min < min || i.max > max)
        return false;
    out->form = a->form;
    out->formed = true;
    out->shifted = false;
    return true;
}

/* Operations whose low half is that of the 64-bit operation. */
static bool modular(unsigned op)
{
    return op == BPF_ADD || op == BPF_SUB || op == BPF_MUL || op == BPF_NEG || op == BPF_AND ||
           op == BPF_OR || op == BPF_XOR;
}

/* The low half of a value, with zeroes above. */
static struct value low_half(struct state *s, const struct value *a)
{
    struct scalar range = value_range(s, a);
    struct value out = value_scalar(scalar_zero_extend(&range, 32));
    if (has_form(a) && in_interval(&range, 0, UINT32_MAX)) {
        out.form = a->form;
        out.formed = true;
    }
    return out;
}

static struct value compute(struct verifier *v, struct state *s, unsigned op, bool is_signed,
                            struct value *a, struct value *b)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    struct value out = value_scalar(scalar_alu(op, false, is_signed, &ra, &rb));
    if (a->shifted && (op == BPF_RSH || op == BPF_ARSH) && scalar_is_const(&rb) &&
        rb.all.umin == 32 && unshift(s, op == BPF_ARSH, a, &out))
        return out;
    result_form(v, s, op, is_signed, a, b, &out);
    if (!is_signed)
        unsigned_order(s, op, a, b, &out);
    out.range = value_range(s, &out); /* what its form tells */
    return out;
}

static struct value compute32(struct verifier *v, struct state *s, unsigned op, bool is_signed,
                              struct value *a, struct value *b)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    struct scalar exact = scalar_alu(op, true, is_signed, &ra, &rb);
    struct value out = value_scalar(exact);
    struct value la = low_half(s, a), lb = low_half(s, b);
    if (modular(op)) {
        struct value wide = compute(v, s, op, false, a, b);
        if (!in_interval(&wide.range, 0, UINT32_MAX)) /* perhaps without what is above */
            wide = compute(v, s, op, false, &la, &lb);
        if (in_interval(&wide.range, 0, UINT32_MAX))
            out = wide;
    } else if (op == BPF_LSH && scalar_is_const(&rb) && rb.all.umin < 32) {
        struct value wide = compute(v, s, op, false, &la, b);
        if (in_interval(&wide.range, 0, UINT32_MAX) && !wide.shifted)
            out = wide;
    } else if ((op == BPF_RSH || op == BPF_DIV || op == BPF_MOD) && !is_signed) {
        if (op != BPF_RSH || lb.range.all.umax < 32)
            out = compute(v, s, op, false, &la, &lb);
    } else if (in_interval(&la.range, 0, INT32_MAX) && in_interval(&lb.range, 0, INT32_MAX) &&
               (op != BPF_ARSH || lb.range.all.umax < 32)) {
        if (op == BPF_ARSH || op == BPF_DIV || op == BPF_MOD)
            out = compute(v, s, op == BPF_ARSH ? BPF_RSH : op, false, &la, &lb);
    }
    struct value both = out;
    if (scalar_intersect(&both.range, &exact))
        out.range = both.range;
    return out;
}

static struct value moved(struct verifier *v, struct state *s, const struct bpf_insn *insn,
                          bool is32, struct value *from)
{
    struct scalar range = value_range(s, from);
    unsigned bits = insn->offset ? (unsigned)insn->offset : 64;
    if (!insn->offset) {
        value_name(v, s, from);
        return is32 ? low_half(s, from) : *from;
    }
    struct value out = value_scalar(scalar_sign_extend(&range, bits));
    int64_t max = (int64_t)(UINT64_MAX >> (65 - bits));
    if (has_form(from) && in_interval(&range, -max - 1, max)) {
        out.form = from->form;
        out.formed = true;
    }
    return is32 ? low_half(s, &out) : out;
}

static struct value swapped(struct state *s, const struct bpf_insn *insn, struct value *from)
{
    struct scalar range = value_range(s, from);
    bool swap = BPF_CLASS(insn->opcode) == BPF_ALU64 || BPF_SOURCE(insn->opcode) == BPF_X;
    unsigned bits = (unsigned)insn->imm;
    struct value out =
        value_scalar(swap ? scalar_swap(&range, bits) : scalar_zero_extend(&range, bits));
    if (!swap && bits == 64)
        out = *from;
    return out;
}

/* ---- pointers ---------------------------------------------------------------------------- */

static bool usable_pointer(struct verifier *v, struct state *s, const struct value *p, unsigned reg)
{
    if (p->kind == VALUE_POINTER && p->nullable)
        return verify_fail(v, s, "r%u may be 0: compare it with 0 before it is used", reg);
    return true;
}

static bool pointer_alu(struct verifier *v, struct state *s, const struct bpf_insn *insn,
                        struct value *dst, struct value *src)
{
    unsigned op = BPF_OP(insn->opcode);
    bool is32 = BPF_CLASS(insn->opcode) == BPF_ALU;
    struct value *pointer = dst->kind == VALUE_SCALAR ? src : dst;
    struct value *number = dst->kind == VALUE_SCALAR ? dst : src;
    if (is32 || (op != BPF_ADD && op != BPF_SUB))
        return verify_fail(v, s, "this cannot be done with %s; only adding to it and subtracting",
                           kind_name(pointer));
    if (!usable_pointer(v, s, dst, insn->dst) || !usable_pointer(v, s, src, insn->src))
        return false;
    if (dst->kind == VALUE_FUNCTION || src->kind == VALUE_FUNCTION)
        return verify_fail(v, s, "this cannot be done with the address of a function");
    if (dst->kind == VALUE_POINTER && src->kind == VALUE_POINTER) {
        if (op != BPF_SUB)
            return verify_fail(v, s, "pointers cannot be added to one another");
        if (dst->span != src->span || dst->frame != src->frame || dst->id != src->id)
            return verify_fail(v, s, "the difference of pointers into different objects");
        struct value out = compute(v, s, BPF_SUB, false, dst, src);
        *dst = out;
        return true;
    }
    if (op == BPF_SUB && number == dst)
        return verify_fail(v, s, "a pointer cannot be subtracted from a number");
    value_name(v, s, number);
    struct value out = *pointer, offset = compute(v, s, op, false, pointer, number);
    out.range = offset.range;
    out.form = offset.form;
    out.formed = offset.formed;
    out.shifted = false;
    *dst = out;
    return true;
}

bool verify_alu(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    struct value *dst = &state_top(s)->regs[insn->dst], room, out;
    unsigned op = BPF_OP(insn->opcode);
    bool is32 = BPF_CLASS(insn->opcode) == BPF_ALU;
    bool is_signed = (op == BPF_DIV || op == BPF_MOD) && insn->offset == 1;
    if (op == BPF_MOV) {
        struct value *from = source(v, s, insn, &room);
        if (!from)
            return false;
        if (from->kind != VALUE_SCALAR) {
            if (is32 || insn->offset)
                return verify_fail(v, s, "only a part of %s is copied", kind_name(from));
            value_name(v, s, from);
            *dst = *from;
            return true;
        }
        out = moved(v, s, insn, is32, from);
        *dst = out;
        return true;
    }
    if (!verify_read(v, s, insn->dst))
        return false;
    if (op == BPF_NEG || op == BPF_END) {
        if (dst->kind != VALUE_SCALAR)
            return verify_fail(v, s, "this cannot be done with %s", kind_name(dst));
        struct value zero = value_const(0);
        if (op == BPF_END)
            out = swapped(s, insn, dst);
        else
            out = is32 ? compute32(v, s, op, false, dst, &zero)
                       : compute(v, s, op, false, dst, &zero);
        *dst = out;
        return true;
    }
    struct value *src = source(v, s, insn, &room);
    if (!src)
        return false;
    if (dst->kind != VALUE_SCALAR || src->kind != VALUE_SCALAR)
        return pointer_alu(v, s, insn, dst, src);
    out = is32 ? compute32(v, s, op, is_signed, dst, src) : compute(v, s, op, is_signed, dst, src);
    *dst = out;
    return true;
}

/* ---- comparisons ------------------------------------------------------------------------- */

static bool is_zero(const struct value *value)
{
    return value->kind == VALUE_SCALAR && scalar_is_const(&value->range) &&
           value->range.all.umin == 0;
}

/* Where a pointer may point to without its address wrapping or being 0. */
static bool near_object(struct state *s, const struct value *p)
{
    struct scalar range = value_range(s, p);
    return in_interval(&range, -(int64_t)BPF_ADDRESS + 1, INT64_C(1) << 40);
}

bool verify_branch_check(struct verifier *v, struct state *s, const struct bpf_insn *insn)
{
    struct value room, fp;
    struct value *src = source(v, s, insn, &room), *dst = &fp;
    bool is32 = BPF_CLASS(insn->opcode) == BPF_JMP32;
    unsigned op = BPF_OP(insn->opcode);
    if (insn->dst == BPF_FP)
        fp = value_frame(s->depth);
    else
        dst = verify_read(v, s, insn->dst);
    if (!src || !dst)
        return false;
    if (dst->kind == VALUE_SCALAR && src->kind == VALUE_SCALAR)
        return true;
    if (is32)
        return verify_fail(v, s, "only a part of %s is compared",
                           kind_name(dst->kind == VALUE_SCALAR ? src : dst));
    if (is_zero(src) || is_zero(dst)) {
        if (op == BPF_JEQ || op == BPF_JNE)
            return true;
        return verify_fail(v, s, "a pointer can only be compared with 0 for being equal or not");
    }
    if (dst->kind == VALUE_POINTER && src->kind == VALUE_POINTER) {
        if (!usable_pointer(v, s, dst, insn->dst) || !usable_pointer(v, s, src, insn->src))
            return false;
        if (dst->span == src->span && dst->frame == src->frame && dst->id == src->id &&
            op != BPF_JSET)
            return true;
        return verify_fail(v, s, "pointers into different objects are compared");
    }
    return verify_fail(v, s, "%s is compared with %s", kind_name(dst), kind_name(src));
}

/* A pointer that may be 0 is, or is not; so are its copies. */
static void found_null(struct state *s, uint32_t id, bool null)
{
    for (unsigned place = 0; place < (s->depth + 1) * PLACES_OF_FRAME; place++) {
        struct value *value = state_place(s, place);
        if (!value || value->kind != VALUE_POINTER || value->id != id || !value->nullable)
            continue;
        if (null)
            *value = value_const(0);
        else
            value->nullable = false;
    }
}

static bool branch_null(struct state *s, const struct value *p, bool equal)
{
    if (p->kind == VALUE_FUNCTION)
        return !equal;
    if (p->nullable)
        found_null(s, p->id, equal);
    else if (equal)
        return !near_object(s, p); /* never 0, unless it is far from its object */
    return true;
}

/* Bounds of a - b where a comparison came out as taken; false: it tells none. */
static bool difference_range(unsigned op, bool taken, struct interval now, struct interval *out)
{
    *out = INTERVAL_ANY;
    bool strict = op == BPF_JGT || op == BPF_JSGT || op == BPF_JLT || op == BPF_JSLT;
    bool greater = op == BPF_JGT || op == BPF_JSGT || op == BPF_JGE || op == BPF_JSGE;
    bool less = op == BPF_JLT || op == BPF_JSLT || op == BPF_JLE || op == BPF_JSLE;
    if (op == BPF_JEQ || op == BPF_JNE) {
        if ((op == BPF_JEQ) == taken) {
            out->min = out->max = 0;
        } else {
            out->min = now.min == 0 ? 1 : INT64_MIN;
            out->max = now.max == 0 ? -1 : INT64_MAX;
        }
        return true;
    }
    if (!greater && !less)
        return false;
    if (greater == taken) /* a > b, a >= b; or not a < b, not a <= b */
        out->min = strict == taken;
    else
        out->max = strict == taken ? -1 : 0;
    return true;
}

/* Whether the comparison is the same for the numbers as signed ones of 64 bits. */
static bool compares_as_signed(unsigned op, bool is32, const struct scalar *a,
                               const struct scalar *b)
{
    bool is_unsigned = op == BPF_JGT || op == BPF_JGE || op == BPF_JLT || op == BPF_JLE;
    int64_t min = INT64_MIN, max = INT64_MAX;
    if (is_unsigned)
        min = 0;
    if (is32) {
        min = 0;
        max = is_unsigned || op == BPF_JEQ || op == BPF_JNE ? UINT32_MAX : INT32_MAX;
    }
    return in_interval(a, min, max) && in_interval(b, min, max);
}

/* Everything that is the same number has the same bounds. */
static void spread(struct state *s, const struct value *value)
{
    if (!has_form(value) || !value->form.count)
        return;
    for (unsigned place = 0; place < (s->depth + 1) * PLACES_OF_FRAME; place++) {
        struct value *copy = state_place(s, place);
        if (!copy || copy->kind != VALUE_SCALAR || !has_form(copy) ||
            !form_equal(&copy->form, &value->form))
            continue;
        struct scalar range = copy->range;
        if (scalar_intersect(&range, &value->range))
            copy->range = range;
    }
}

/* What is known of a number is known of its form. false: it cannot be. */
static bool tell_form(struct state *s, const struct value *value)
{
    struct interval range = {value->range.all.smin, value->range.all.smax};
    return !has_form(value) || state_assume(s, &value->form, range);
}

static bool branch_numbers(struct verifier *v, struct state *s, unsigned op, bool is32, bool taken,
                           struct value *a, struct value *b)
{
    struct scalar ra = value_range(s, a), rb = value_range(s, b);
    struct form fa, fb, difference;
    struct interval range;
    bool relate_both = !scalar_is_const(&ra) && !scalar_is_const(&rb);
    bool known = compares_as_signed(op, is32, &ra, &rb);
    if (known && (relate_both || has_form(a) || has_form(b)) && value_form(v, s, a, &fa) &&
        value_form(v, s, b, &fb) && form_add(&fa, &fb, -1, &difference)) {
        if (difference_range(op, taken, state_query(s, &difference), &range) &&
            !state_assume(s, &difference, range))
            return false;
        loop_compared(v, &difference);
    }
    if (!scalar_branch(op, is32, taken, &ra, &rb))
        return false;
    a->range = ra;
    b->range = rb;
    spread(s, a);
    spread(s, b);
    return tell_form(s, a) && tell_form(s, b);
}

/* Offsets into one object compare as addresses do. */
static bool branch_pointers(struct verifier *v, struct state *s, unsigned op, bool taken,
                            struct value *a, struct value *b)
{
    struct form fa, fb, difference;
    struct interval range;
    if (!near_object(s, a) || !near_object(s, b))
        return true;
    if (!value_form(v, s, a, &fa) || !value_form(v, s, b, &fb) ||
        !form_add(&fa, &fb, -1, &difference))
        return true;
    if (difference_range(op, taken, state_query(s, &difference), &range) &&
        !state_assume(s, &difference, range))
        return false;
    loop_compared(v, &difference);
    return true;
}

/* The result of a helper that uses up something finite is positive. */
static void find_progress(struct state *s)
{
    if (s->waiting && state_query(s, &s->result).min > 0) {
        s->progress = UINT32_MAX;
        s->waiting = false;
    }
}

bool verify_branch(struct verifier *v, struct state *s, const struct bpf_insn *insn, bool taken)
{
    struct value room, fp;
    struct value *src = source(v, s, insn, &room), *dst = &state_top(s)->regs[insn->dst];
    unsigned op = BPF_OP(insn->opcode);
    bool possible;
    if (insn->dst == BPF_FP) {
        fp = value_frame(s->depth);
        dst = &fp;
    }
    if (dst->kind == VALUE_SCALAR && src->kind == VALUE_SCALAR)
        possible = branch_numbers(v, s, op, BPF_CLASS(insn->opcode) == BPF_JMP32, taken, dst, src);
    else if (dst->kind == VALUE_POINTER && src->kind == VALUE_POINTER)
        possible = branch_pointers(v, s, op, taken, dst, src);
    else
        possible = branch_null(s, dst->kind == VALUE_SCALAR ? src : dst, (op == BPF_JEQ) == taken);
    if (possible)
        find_progress(s);
    return possible;
}
