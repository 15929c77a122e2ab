/*
 * bpf/verify/verify.h: what the parts of the verifier pass to one another. docs/bpf-verifier.md
 * tells how it proves what it proves.
 *
 * A *state* stands for all that registers and stack can hold when a path arrives at an instruction.
 * Numbers are scalars (bpf/verify/scalar.h); beside that, what numbers have to do with one another
 * is kept by *forms*: a symbol stands for a number that does not change (what a load gave, how
 * often a loop has gone round), and a value may be known to be exactly base + factor * symbol +
 * ..., as signed numbers, without wrapping. *Facts* are bounds of such sums: that n - i is at
 * least 1.
 */
#ifndef BPF_VERIFY_H
#define BPF_VERIFY_H

#include "bpf/verify/scalar.h"
#include "bpf/vm.h"

/* ---- forms ------------------------------------------------------------------------------- */

#define MAX_TERMS   3
#define MAX_SYMBOLS 64
#define MAX_FACTS   24

struct term {
    uint32_t symbol;
    int64_t factor; /* not 0 */
};

struct form {
    int64_t base;
    uint32_t count;
    struct term terms[MAX_TERMS]; /* in the order of symbols */
};

/* An interval; INT64_MIN and INT64_MAX as ends are no bounds at all. */
struct interval {
    int64_t min, max;
};
#define INTERVAL_ANY ((struct interval){INT64_MIN, INT64_MAX})

struct symbol {
    uint32_t id;
    struct interval range;
};

struct fact {
    struct form form; /* base 0; the first factor is positive */
    struct interval range;
};

/* ---- values ------------------------------------------------------------------------------ */

enum value_kind {
    VALUE_NONE, /* nothing that may be read */
    VALUE_SCALAR,
    VALUE_POINTER,
    VALUE_FUNCTION,
    VALUE_STALE, /* a pointer until a helper moved what it pointed to */
};

/* A register, or eight bytes of stack that were stored whole. */
struct value {
    uint8_t kind;
    uint8_t span;        /* POINTER: of the layout; BPF_SPAN_STACK */
    uint8_t frame;       /* POINTER to the stack: whose */
    bool nullable;       /* POINTER: may be 0 */
    bool shifted;        /* SCALAR: it is its form, shifted left by 32 */
    bool formed;         /* form is valid */
    uint32_t id;         /* POINTER: which object; 0: all of the span or frame. FUNCTION: its first
                            instruction. STALE: the helper call that moved it */
    uint64_t size;       /* POINTER: bytes of the object */
    uint32_t below;      /* SCALAR: it is less than this symbol, both unsigned; 0: of none */
    uint32_t one_below;  /* SCALAR: it is this symbol minus 1, modulo 2^64 */
    struct scalar range; /* SCALAR: itself; POINTER: the offset from the start of the object */
    struct form form;    /* of the same */
};

#define SLOTS (BPF_FRAME_SIZE / 8)

/* Eight bytes of stack, aligned. */
struct slot {
    struct value value; /* if it was stored whole, else NONE */
    uint8_t init;       /* value NONE: which bytes may be read */
    uint8_t known;      /* which of them hold what is in bytes */
    uint8_t bytes[8];
};

struct frame {
    uint32_t function; /* its first instruction */
    uint32_t pc;       /* where it is: of all but the last frame, the call */
    uint32_t used;     /* slots, from the end of the frame on; the others are untouched */
    uint32_t room;
    struct slot *slots;
    struct value regs[BPF_FP]; /* r10 is the frame itself */
};

struct state {
    struct state *next;
    unsigned depth;   /* the last of frames */
    uint64_t counted; /* bytes, in the verifier's memory */
    struct frame *frames[BPF_MAX_DEPTH];
    bool begins;         /* a pass of a loop begins here: do not take it for a new arrival */
    uint32_t iterations; /* in a loop that is gone through exactly */
    uint32_t progress;   /* for each level of loops: something finite was used up */
    bool waiting;        /* a helper with progress has returned this; positive or not yet known */
    struct form result;
    unsigned symbol_count, fact_count;
    struct symbol symbols[MAX_SYMBOLS]; /* in order */
    struct fact facts[MAX_FACTS];
};

/* ---- flow -------------------------------------------------------------------------------- */

#define NO_LOOP UINT32_MAX

/* Instructions in an order in which all jumps go forward, but for those to the head of a loop; all
 * of a loop stands together, its head first. */
struct loop_shape {
    uint32_t head;       /* instruction */
    uint32_t start, end; /* in the order */
};

struct flow {
    uint32_t *order;   /* of each instruction */
    uint32_t *loop;    /* of each instruction that is a head: its number, else NO_LOOP */
    uint16_t *live;    /* registers that may be read before they are written */
    uint8_t *arrivals; /* 0, 1, 2: from how many sides it is reached */
    struct loop_shape *loops;
    uint32_t loop_count, loop_room;
};

/* ---- the verifier ------------------------------------------------------------------------ */

#define MAX_NESTED 32
#define REASON     256

struct failure {
    struct state *state; /* NULL: none */
    uint32_t insn;
    char reason[REASON];
};

struct attempt;

struct verifier {
    const struct bpf_prog *prog;
    const struct bpf_code *code;
    struct bpf_log *log;
    uint64_t limit, looked; /* instructions */
    struct flow flow;
    uint32_t next_id;        /* of symbols and objects */
    struct attempt *attempt; /* the innermost loop, or all of the program */
    uint8_t *no_exact;       /* of each loop: going through it exactly was of no use */
    int error;               /* ends it: -EACCES (the log has the reason), -ENOMEM */
    uint64_t memory;         /* of states */
};

/* flow.c */
int flow_open(struct verifier *v, struct flow *flow);
void flow_close(struct flow *flow);

/* form.c */
static inline struct form form_const(int64_t base)
{
    return (struct form){.base = base};
}
static inline struct form form_symbol(uint32_t id)
{
    return (struct form){.count = 1, .terms = {{id, 1}}};
}
bool form_add(const struct form *a, const struct form *b, int64_t factor, struct form *out);
bool form_scale(const struct form *a, int64_t factor, struct form *out);
bool form_equal(const struct form *a, const struct form *b);
bool form_same_terms(const struct form *a, const struct form *b);
int64_t form_reduce(struct form *form);
struct interval state_query(const struct state *s, const struct form *form);
bool state_assume(struct state *s, const struct form *form, struct interval range);
struct symbol *state_symbol(struct state *s, uint32_t id);
const struct symbol *state_symbol_find(const struct state *s, uint32_t id);
bool state_symbol_add(struct state *s, uint32_t id, struct interval range);

/* state.c */
struct state *state_new(struct verifier *v);
struct state *state_copy(struct verifier *v, const struct state *s);
void state_free(struct verifier *v, struct state *s);
void state_free_list(struct verifier *v, struct state *s);
int state_push_frame(struct verifier *v, struct state *s, uint32_t function);
void state_pop_frame(struct state *s);
bool frame_reach(struct verifier *v, struct frame *f, unsigned slots);
void state_trim(struct verifier *v, struct state *s, uint32_t base);
void state_name_all(struct verifier *v, struct state *s);
static inline struct frame *state_top(struct state *s)
{
    return s->frames[s->depth];
}
void value_name(struct verifier *v, struct state *s, struct value *value);
bool value_form(struct verifier *v, struct state *s, struct value *value, struct form *out);
struct scalar value_range(const struct state *s, const struct value *value);
struct value value_scalar(struct scalar range);
struct value value_const(uint64_t number);
struct value value_pointer(unsigned span, uint64_t size);
struct value value_frame(unsigned frame); /* r10 of it */
void slot_bytes(const struct slot *slot, uint8_t *init, uint8_t *known, uint8_t bytes[8]);
/* Numbers of all places of a state: registers and slots of each frame. */
#define PLACES_OF_FRAME (BPF_FP + SLOTS)
struct value *state_place(struct state *s, unsigned place); /* NULL: no such slot */

/* within.c */
struct mapping {
    struct {
        uint32_t old;
        bool nameless;         /* a value of new without a name; form is a symbol of its own */
        struct interval range; /* of that */
        struct form form;
    } symbols[MAX_SYMBOLS * 2];
    unsigned symbol_count;
    struct {
        uint32_t old, new;
    } objects[MAX_SYMBOLS];
    unsigned object_count;
};
bool state_within(const struct state *new, const struct state *old, uint32_t base,
                  struct mapping *map);
struct state *state_join(struct verifier *v, struct state *a, struct state *b, uint32_t base);

/* print.c */
void verify_print_state(struct verifier *v, struct bpf_log *log, const struct state *s);
void verify_print_insn(struct verifier *v, struct bpf_log *log, uint32_t insn);

/* verify.c */
/* Something is wrong at this instruction: in a loop whose state is still guessed it is remembered,
 * else it ends the verification. Always false. */
bool verify_fail(struct verifier *v, struct state *s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, but the path may go on as if it had been right: true, unless that was all. */
bool verify_doubt(struct verifier *v, struct state *s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void failure_pass(struct verifier *v, struct failure *f); /* to v->attempt */

/* alu.c */
bool verify_alu(struct verifier *v, struct state *s, const struct bpf_insn *insn);
/* What is known where the branch came out as taken. false: it cannot. */
bool verify_branch(struct verifier *v, struct state *s, const struct bpf_insn *insn, bool taken);
bool verify_branch_check(struct verifier *v, struct state *s, const struct bpf_insn *insn);
/* A register that is read; NULL and a failure if it must not be. */
struct value *verify_read(struct verifier *v, struct state *s, unsigned reg);

/* mem.c */
enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC };
bool verify_memory(struct verifier *v, struct state *s, const struct bpf_insn *insn);
bool verify_access(struct verifier *v, struct state *s, const struct value *pointer, int64_t offset,
                   uint64_t size, enum access access, const char *who);
bool stack_readable(struct verifier *v, struct state *s, const struct value *pointer,
                    int64_t offset, uint64_t size, const char *who);
void stack_written(struct verifier *v, struct state *s, const struct value *pointer, int64_t offset,
                   uint64_t min_size, uint64_t max_size);
bool stack_store(struct verifier *v, struct state *s, const struct value *pointer, int64_t offset,
                 uint64_t size, const struct value *value);
const char *verify_object(const struct verifier *v, const struct value *pointer, char text[96]);
bool memory_string(struct verifier *v, struct state *s, const struct value *pointer);

/* call.c */
bool verify_call_helper(struct verifier *v, struct state *s, uint64_t id);
bool verify_call_local(struct verifier *v, struct state *s, uint32_t target);
bool verify_exit(struct verifier *v, struct state *s); /* false: the program ends, or fails */

/* loop.c */
/* A way through one loop (or, with parent NULL, through the program): see there. */
enum attempt_mode { ATTEMPT_ALL, ATTEMPT_EXACT, ATTEMPT_INDUCT, ATTEMPT_EXACT_LONG };

#define MAX_TEMPLATES 16
struct template
{
    struct form form; /* base 0, first factor positive; of symbols of the head */
    int64_t flips[4]; /* where comparisons of it come out differently */
    unsigned flip_count;
    bool stated; /* it is a fact of the head, with this range */
    struct interval range;
    unsigned grown; /* how often the range was too narrow */
};

/* What happens to one place each time that the loop goes round. */
enum place_class { PLACE_SAME, PLACE_STEP, PLACE_FREE, PLACE_GONE };
struct place {
    uint8_t class;
    uint8_t grown;
    bool shares;         /* FREE: its form has the symbol of another place */
    bool seen;           /* FREE: it has bounds already */
    int64_t step;        /* STEP */
    uint32_t symbol;     /* FREE */
    uint32_t object;     /* POINTER whose object is another each time */
    struct scalar range; /* FREE: its bounds at the head */
};

struct attempt {
    struct attempt *parent;
    unsigned level; /* 0: the program */
    unsigned depth; /* frame that the loop is in */
    uint32_t loop;  /* of the flow */
    enum attempt_mode mode;
    uint32_t entry_base; /* symbols from here on are younger than the entry */
    uint32_t base;       /* and these younger than the pass */
    struct state *queue; /* in the order of the flow */
    struct state *entry; /* how the loop was entered */
    struct state *head;  /* what is thought to hold at each arrival at the head */
    struct state *backs; /* arrivals at the head */
    struct state *exits;
    struct failure failure; /* the first of this pass */
    struct failure kept;    /* of the induction, while the loop is gone through exactly */
    unsigned pass;
    uint64_t deadline; /* exact: give up when looked is this */
    struct place *places;
    unsigned place_count;
    uint32_t counter; /* symbol: how often the loop has gone round; 0: none */
    bool no_counter;
    bool symbolic; /* what changes has names, but is still what it was at the entry */
    int64_t counter_max;
    struct template templates[MAX_TEMPLATES];
    unsigned template_count;
};
void failure_clear(struct verifier *v, struct failure *f);
struct attempt *attempt_new(struct verifier *v, struct attempt *parent);
void attempt_free(struct verifier *v, struct attempt *a);
void attempt_queue(struct verifier *v, struct state **list, struct state *s, uint32_t base);
void attempt_route(struct verifier *v, struct attempt *a, struct state *s);
bool attempt_definite(const struct attempt *a);
void loop_begin(struct verifier *v, struct state *s);
void loop_pass_end(struct verifier *v);

/* guess.c */
bool loop_places(struct verifier *v, struct attempt *a);
bool loop_counted(const struct attempt *a);
void loop_compared(struct verifier *v, const struct form *difference);
struct state *loop_guess(struct verifier *v, struct attempt *a);
const struct form *loop_place_form(struct state *s, unsigned place, struct form *constant);

#endif
