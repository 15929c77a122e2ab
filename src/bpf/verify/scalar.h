/*
 * bpf/verify/scalar.h: what the verifier knows of a 64-bit number.
 *
 * A scalar stands for a set of numbers: those that agree with all of its parts at once. Bits that
 * are known (tnum), and bounds of the whole and of its low 32 bits, each as unsigned and as signed.
 * An operation gives a scalar that has every result that numbers of its operands can have; it may
 * have more. tests/unit/bpf_domain.c holds each against what the machine computes.
 */
#ifndef BPF_SCALAR_H
#define BPF_SCALAR_H

#include <stdbool.h>
#include <stdint.h>

/* Bits: where mask is 0, the bit is that of value; where it is 1, it is unknown (and 0 in value).
 */
struct tnum {
    uint64_t value, mask;
};

#define TNUM_UNKNOWN ((struct tnum){0, UINT64_MAX})

static inline struct tnum tnum_const(uint64_t value)
{
    return (struct tnum){value, 0};
}
struct tnum tnum_range(uint64_t min, uint64_t max);
struct tnum tnum_add(struct tnum a, struct tnum b);
struct tnum tnum_sub(struct tnum a, struct tnum b);
struct tnum tnum_mul(struct tnum a, struct tnum b);
struct tnum tnum_and(struct tnum a, struct tnum b);
struct tnum tnum_or(struct tnum a, struct tnum b);
struct tnum tnum_xor(struct tnum a, struct tnum b);
struct tnum tnum_lsh(struct tnum a, unsigned shift);
struct tnum tnum_rsh(struct tnum a, unsigned shift);
struct tnum tnum_arsh(struct tnum a, unsigned shift); /* of 64 bits */
struct tnum tnum_low(struct tnum a, unsigned bits);   /* the others become 0 */
struct tnum tnum_union(struct tnum a, struct tnum b);
bool tnum_intersect(struct tnum a, struct tnum b, struct tnum *out); /* false: nothing is in both */
bool tnum_within(struct tnum a, struct tnum b);                      /* each of a is of b */

/* Bounds of a number of 64 bits, or of one of 32 (the signed ones sign-extended). */
struct bounds {
    int64_t smin, smax;
    uint64_t umin, umax;
};

struct scalar {
    struct tnum bits;
    struct bounds all; /* 64 bits */
    struct bounds low; /* the low 32 */
};

struct scalar scalar_unknown(void);
struct scalar scalar_const(uint64_t value);
struct scalar scalar_signed(int64_t min, int64_t max);
struct scalar scalar_unsigned(uint64_t min, uint64_t max);

static inline bool scalar_is_const(const struct scalar *a)
{
    return a->all.umin == a->all.umax;
}

/* Let the parts tell one another. false: no number agrees with all of them. */
bool scalar_sync(struct scalar *a);

bool scalar_within(const struct scalar *a, const struct scalar *b); /* each of a is of b */
bool scalar_contains(const struct scalar *a, uint64_t value);
struct scalar scalar_union(const struct scalar *a, const struct scalar *b);
bool scalar_intersect(struct scalar *a, const struct scalar *b); /* false: nothing is in both */

/*
 * Arithmetic as the instructions do it. op: enum bpf_alu, without MOV and END; is32: on the low 32
 * bits, with zeroes above; is_signed: for DIV and MOD. NEG takes only a.
 */
struct scalar scalar_alu(unsigned op, bool is32, bool is_signed, const struct scalar *a,
                         const struct scalar *b);

/* The low bits (8, 16, 32), with zeroes or with their sign above. */
struct scalar scalar_zero_extend(const struct scalar *a, unsigned bits);
struct scalar scalar_sign_extend(const struct scalar *a, unsigned bits);

/* The low bits (16, 32, 64), their bytes in the other order, with zeroes above. */
struct scalar scalar_swap(const struct scalar *a, unsigned bits);

/* What is known of a and b where the comparison `a op b` (enum bpf_jump: JEQ to JSLE) came out as
 * `taken`. false: it cannot come out like this. */
bool scalar_branch(unsigned op, bool is32, bool taken, struct scalar *a, struct scalar *b);

/* Name it for a log: "5", "0..255", "-5..10", with its bits if they tell more. */
#define SCALAR_TEXT 128
void scalar_text(const struct scalar *a, char text[SCALAR_TEXT]);

#endif
