/* bpf/vm.h: programs and runs from inside: what verifier, interpreter and compiler share. */
#ifndef BPF_VM_H
#define BPF_VM_H

#include "bpf/code.h"

/*
 * The arena, as addresses of the program. First what is read-only, then what may be written:
 *
 *   BPF_ADDRESS   rodata | read-only regions | data | writable regions | stack   end
 *                                            ^ write_start
 *
 * Each span starts on a page, and is followed by at least BPF_GAP bytes that belong to none. A
 * checked program may reach all of [BPF_ADDRESS, end) with loads and [write_start, end) with
 * stores: one comparison each. Only the strict interpreter, for tests, also refuses the gaps.
 *
 * The stack grows down: r10 of the function where a program starts is the end of the stack, and
 * that of a function called is BPF_FRAME_SIZE below its caller's.
 *
 * Registers. When a program starts, r1 to r5 are what the environment says (of a number, min) and
 * the others, but r10, are 0. A local call keeps r6 to r9. After a call of a helper r1 to r5 are 0,
 * so that nothing of the host is left there.
 *
 * callx calls the function whose address is in its register, or else the helper with that id.
 * Atomics are aligned, or the run ends with -EFAULT.
 */
#define BPF_GAP 64

enum { BPF_SPAN_RODATA, BPF_SPAN_DATA, BPF_SPAN_STACK, BPF_SPAN_REGION /* and on */ };
#define BPF_MAX_SPANS (BPF_SPAN_REGION + BPF_MAX_REGIONS)

struct bpf_span {
    const char *name;
    uint64_t start; /* address */
    uint64_t size;
    bool writable;
};

struct bpf_layout {
    struct bpf_span spans[BPF_MAX_SPANS];
    unsigned count;
    uint64_t write_start, end;
};

struct bpf_prog {
    struct bpf_code code; /* that of the module */
    struct bpf_module *module;
    const struct bpf_environment *environment;
    struct bpf_layout layout;
    uint32_t entry; /* first instruction, which is that of a function */
    bool verified;
    struct bpf_jit *jit; /* NULL: interpreted */
    struct bpf_op *ops;  /* for the interpreter; NULL: compiled */
};

/*
 * One run. Time is counted in ticks, one an instruction, taken off in advance where a program can
 * go on for long: at a backward jump (t <= j) from instruction j to t, j - t + 1; at a call of a
 * local function, the number of its instructions; before an engine starts, bpf_vm_run() takes off
 * those of the first function. (So straight code is counted exactly, and what a forward jump passes
 * over counts too.) When ticks goes below 0, bpf_vm_tick() looks at budget, deadline and
 * cancellation, and gives the next slice, or ends the run.
 */
struct bpf_vm {
    /* The compiler's code knows the offsets of these. */
    uint8_t *memory; /* of the arena: address a is at memory[a - BPF_ADDRESS] */
    int64_t ticks;   /* left of this slice */
    int32_t error;   /* set by helpers: the run ends */
    uint32_t fault;  /* the instruction where the run failed */

    const struct bpf_prog *prog;
    void *user;
    uint64_t slice; /* what ticks was set to last */
    uint64_t spent; /* ticks of earlier slices */
    uint64_t budget;
    uint64_t deadline; /* base_now_ns(); BPF_UNLIMITED */
    uint32_t cancel;   /* atomic */
    bool failed;       /* by bpf_vm_fail() */
    char failure[256];
};

/* ticks is below 0: 0 if the run goes on (ticks is not below 0 any more), else -ETIME or
 * -ECANCELED, also in vm->error. */
int bpf_vm_tick(struct bpf_vm *vm);

/* Interpreter: run until exit; 0 with *r0, or a negative errno with vm->fault set. */
enum bpf_check {
    BPF_CHECK_NONE,   /* verified */
    BPF_CHECK_ARENA,  /* checked */
    BPF_CHECK_STRICT, /* for tests: each access within one span, writable if it stores */
    BPF_CHECK_NOISE,  /* strict, and registers and stack that a program must not read before it has
                         written them hold noise: a verified program gives the same result */
};
int bpf_interpret(struct bpf_vm *vm, enum bpf_check check, uint64_t *r0);

/* The code as the interpreter wants it (ops.h), one for each instruction; NULL: no memory. Freed
 * with base_free(). */
struct bpf_op *bpf_decode(const struct bpf_prog *prog);

/* bpf_vm_run() in the interpreter with this check, for tests. The program was opened for
 * BPF_ENGINE_INTERP. */
int bpf_vm_run_checked(struct bpf_vm *vm, const struct bpf_limits *limits, enum bpf_check check,
                       uint64_t *r0);

/* What a register holds at entry: r1 is number 1. */
uint64_t bpf_prog_entry_value(const struct bpf_prog *prog, unsigned number);

/* Compiler. NULL: none for this machine, or no memory; the interpreter does it then. */
struct bpf_jit *bpf_jit_compile(const struct bpf_prog *prog);
void bpf_jit_free(struct bpf_jit *jit);
int bpf_jit_run(struct bpf_vm *vm, uint64_t *r0);

/* Verifier: 0, -EACCES with the reason in the log, or -ENOMEM. limit: instructions to look at. */
int bpf_verify(const struct bpf_prog *prog, uint64_t limit, struct bpf_log *log);

/* Whether an environment makes sense: 0, or -EINVAL with the reason. */
int bpf_environment_check(const struct bpf_environment *environment, struct bpf_log *log);
const struct bpf_helper *bpf_helper_find(const struct bpf_environment *environment, uint64_t id);

/* 0 or -E2BIG. */
int bpf_layout_init(struct bpf_layout *layout, const struct bpf_code *code,
                    const struct bpf_environment *environment, struct bpf_log *log);
uint64_t bpf_layout_gap_end(const struct bpf_span *span);

#endif
