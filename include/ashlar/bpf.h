/*
 * ashlar/bpf.h: eBPF programs from anyone, run safely.
 *
 * A program is C compiled by `clang -target bpf`: the instruction set of RFC 9669 in an ELF file.
 * Three steps lead from the file to an answer:
 *
 *     struct bpf_module *module;      // what the file holds: functions, globals, line numbers
 *     struct bpf_prog *prog;          // made ready for one environment: verified, compiled
 *     struct bpf_vm *vm;              // memory for one run at a time
 *     bpf_module_open(elf, size, &module, &log);
 *     bpf_prog_open(module, &environment, &options, &prog, &log);
 *     bpf_vm_open(prog, user, &vm);
 *     bpf_vm_run(vm, &limits, &r0);
 *
 * Memory. All that a program can reach is one arena: its stack, its globals, and the regions that
 * the environment gives it. Programs see addresses of their own, from BPF_ADDRESS on, the same in
 * each run; addresses of the process never reach them. Regions start zeroed when the vm is opened.
 *
 * Safety. A *verified* program was proven, on every path, to read only what is initialised, to stay
 * within each object, to call helpers with what they take, and to end. What cannot be proven may
 * run *checked*: each access is held against the bounds of the arena while it runs. Either way a
 * run has a budget of instructions and a deadline.
 *
 * Units: sizes in bytes, times in nanoseconds. Errors: negative errno values; the reason, in words,
 * is in a struct bpf_log. Threads: a module and a prog may be used by any number of threads, a vm
 * by one at a time (but see bpf_vm_cancel()).
 */
#ifndef ASHLAR_BPF_H
#define ASHLAR_BPF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ASHLAR_API
#define ASHLAR_API __attribute__((visibility("default")))
#endif

struct bpf_module;
struct bpf_prog;
struct bpf_vm;

#define BPF_ADDRESS     UINT64_C(0x10000000) /* first address that a program sees */
#define BPF_MAX_ARENA   UINT64_C(0x40000000) /* 1 GiB: stack, globals and all regions */
#define BPF_FRAME_SIZE  512                  /* stack of one function */
#define BPF_MAX_DEPTH   16                   /* functions that have called one another */
#define BPF_MAX_REGIONS 8                    /* of an environment */
#define BPF_MAX_INSNS   (1u << 20)           /* of a module */
#define BPF_UNLIMITED   UINT64_MAX

/* ---- messages -------------------------------------------------------------------------- */

/* Where reasons are written. The text is the caller's memory; it always ends with a NUL, and what
 * does not fit is cut off. A call that fails leaves at least one line: the last is the reason. A
 * NULL log is no log. */
struct bpf_log {
    char *text;
    size_t size;   /* of text; at least 1 */
    size_t length; /* written so far; starts at 0 */
    bool verbose;  /* the verifier tells of each instruction that it looks at, not only of the one
                      that it rejects */
};

/* ---- modules --------------------------------------------------------------------------- */

/*
 * Read an ELF file as clang 14 and later emit it: all functions of all sections with code, local
 * calls, relocations R_BPF_64_64 and R_BPF_64_32 among others, .rodata, .data and .bss, lines and
 * source text of .BTF.ext. The file's memory may go afterwards. -EINVAL: malformed, or something
 * that is not supported; -ENOMEM.
 */
ASHLAR_API int bpf_module_open(const void *elf, size_t size, struct bpf_module **module,
                               struct bpf_log *log);

/* The same for bare instructions (8 bytes each, little-endian). The first function is "main";
 * others, "function_N", start at each instruction N that a local call goes to. */
ASHLAR_API int bpf_module_open_insns(const void *insns, size_t size, struct bpf_module **module,
                                     struct bpf_log *log);

/* Programs made from it stay. NULL is fine. */
ASHLAR_API void bpf_module_close(struct bpf_module *module);

/* The functions, by number from 0; NULL past the last. */
ASHLAR_API const char *bpf_module_function(const struct bpf_module *module, unsigned number);

/* Write one line for each instruction, with source lines between, as `line` calls without a
 * newline. */
ASHLAR_API void bpf_module_disassemble(const struct bpf_module *module,
                                       void (*line)(void *arg, const char *text), void *arg);

/* ---- environments: what exists for a program -------------------------------------------- */

/* Memory that the caller shares with the program (bpf_vm_region()). */
struct bpf_region {
    const char *name; /* in messages: "context", "memory" */
    uint64_t size;
    bool writable;
};

/* What a register holds at entry, or what a helper gives back. */
enum bpf_value_kind {
    BPF_VALUE_NONE,    /* nothing: reading it is an error */
    BPF_VALUE_SCALAR,  /* a number in [min, max] */
    BPF_VALUE_POINTER, /* the address of an object in a region */
};
struct bpf_value {
    uint8_t kind;     /* enum bpf_value_kind */
    uint8_t region;   /* POINTER: which region of the environment */
    uint8_t arg;      /* in a helper, 1 to 5. POINTER: the object has as many bytes as this argument
                         says, which must be BPF_ARG_CONSTANT; 0: it is the whole region, from its
                         start. SCALAR: max is the largest that this argument can be; 0: max. */
    bool nullable;    /* POINTER: may be 0 instead */
    int64_t min, max; /* SCALAR, signed */
};
#define BPF_NOTHING         ((struct bpf_value){0})
#define BPF_RANGE(lo, hi)   ((struct bpf_value){.kind = BPF_VALUE_SCALAR, .min = (lo), .max = (hi)})
#define BPF_ANY_SCALAR      BPF_RANGE(INT64_MIN, INT64_MAX)
#define BPF_REGION_START(n) ((struct bpf_value){.kind = BPF_VALUE_POINTER, .region = (n)})

/* What a helper takes in an argument. */
enum bpf_arg_kind {
    BPF_ARG_NONE,     /* not looked at */
    BPF_ARG_SCALAR,   /* a number, not a pointer */
    BPF_ARG_CONSTANT, /* a number that is the same on every path, known before the program runs */
    BPF_ARG_READ,     /* the address of initialised memory */
    BPF_ARG_WRITE,    /* the address of writable memory, initialised when the helper returns */
    BPF_ARG_STRING,   /* the address of a string that ends with a NUL within its object */
};
struct bpf_arg {
    uint8_t kind;     /* enum bpf_arg_kind */
    uint8_t size_arg; /* READ, WRITE: which argument (1 to 5) holds the number of bytes (may be 0);
                         0: `size` bytes */
    uint32_t size;
    uint64_t max;            /* SCALAR, CONSTANT: the largest, unsigned; 0: any */
    struct bpf_value stores; /* WRITE with size 8: what is there afterwards; NOTHING: any bytes */
};

/*
 * A function of the host. It is called with the five argument registers as they are, on the thread
 * of bpf_vm_run(). Pointers are addresses of the program: translate them with bpf_vm_memory(),
 * which must be done also in verified programs. It may end the run with bpf_vm_fail().
 */
typedef uint64_t bpf_function(struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                              uint64_t a5);
struct bpf_helper {
    uint32_t id; /* of `call id`; from 1 */
    const char *name;
    bpf_function *function;
    struct bpf_arg args[5];
    struct bpf_value returns; /* r0; NOTHING: it may not be read */
    bool moves;    /* pointers that earlier calls gave into `moved` may no longer be used */
    uint8_t moved; /* region */
    bool progress; /* each call that returns more than 0 uses up something finite: a loop that gets
                      more than 0 from it each time that it goes round ends, for the verifier */
};

struct bpf_environment {
    const struct bpf_region *regions;
    unsigned region_count;
    const struct bpf_helper *helpers;
    unsigned helper_count;
    struct bpf_value entry[5]; /* r1 to r5 when the program starts */
};

/* ---- programs -------------------------------------------------------------------------- */

enum bpf_verify {
    BPF_VERIFY_REQUIRE, /* only programs that are proven safe */
    BPF_VERIFY_AUTO,    /* what cannot be proven runs checked */
    BPF_VERIFY_CHECKED, /* always checked; nothing is verified */
};
enum bpf_engine {
    BPF_ENGINE_AUTO, /* the compiler where there is one for this machine */
    BPF_ENGINE_JIT,  /* -ENOTSUP if there is none */
    BPF_ENGINE_INTERP,
};
struct bpf_options {
    enum bpf_verify verify;
    enum bpf_engine engine;
    const char *function;  /* where it starts; NULL: main, or the only one with global binding, or
                              the only one */
    uint64_t verify_limit; /* instructions that the verifier looks at before it gives up; 0: a
                              million */
};

/*
 * Make a program ready for an environment. The environment's arrays and helpers must live as long
 * as the prog; the module may be closed. -EACCES: the verifier rejects it; -EINVAL: it is not
 * a program at all (unknown instructions, jumps out of a function), or the environment is wrong;
 * -ENOENT: no such function; -E2BIG: over BPF_MAX_ARENA; -ENOMEM. With BPF_VERIFY_AUTO the log
 * tells why a program is not verified.
 */
ASHLAR_API int bpf_prog_open(const struct bpf_module *module,
                             const struct bpf_environment *environment,
                             const struct bpf_options *options, struct bpf_prog **prog,
                             struct bpf_log *log);
ASHLAR_API void bpf_prog_close(struct bpf_prog *prog);

ASHLAR_API bool bpf_prog_verified(const struct bpf_prog *prog);
ASHLAR_API bool bpf_prog_compiled(const struct bpf_prog *prog);

/* ---- runs ------------------------------------------------------------------------------ */

/* user is what helpers find with bpf_vm_user(). The prog must stay open. */
ASHLAR_API int bpf_vm_open(const struct bpf_prog *prog, void *user, struct bpf_vm **vm);
ASHLAR_API void bpf_vm_close(struct bpf_vm *vm);
ASHLAR_API void *bpf_vm_user(const struct bpf_vm *vm);

/* The caller's view of a region: region.size bytes, page-aligned. Valid until bpf_vm_close(). */
ASHLAR_API void *bpf_vm_region(struct bpf_vm *vm, unsigned region);

/* The address under which the program finds the first byte of a region. */
ASHLAR_API uint64_t bpf_vm_address(const struct bpf_vm *vm, unsigned region);

struct bpf_limits {
    uint64_t budget;     /* instructions; BPF_UNLIMITED */
    uint64_t timeout_ns; /* BPF_UNLIMITED */
};

/*
 * Run it from its first instruction; globals and stack are as at the start of every run, regions
 * as the caller and earlier runs left them. *r0 is what it returned. -ETIME: past its budget or
 * deadline; -ECANCELED; -EFAULT: a checked program reached outside its memory; -ELOOP: calls too
 * deep; -EINVAL: a call to what is no function; or what a helper gave to bpf_vm_fail().
 */
ASHLAR_API int bpf_vm_run(struct bpf_vm *vm, const struct bpf_limits *limits, uint64_t *r0);

/* Where the last run failed: one line with the instruction and its source; "" if it did not. */
ASHLAR_API const char *bpf_vm_failure(const struct bpf_vm *vm);

/* Instructions of the last run, or so far of this one. Those that a forward jump passed over
 * count too. */
ASHLAR_API uint64_t bpf_vm_instructions(const struct bpf_vm *vm);

/* End the run that is under way soon, from any thread; if there is none, the next one ends at once.
 * Runs after that are not affected. A helper that waits must look at bpf_vm_cancelled(). */
ASHLAR_API void bpf_vm_cancel(struct bpf_vm *vm);
ASHLAR_API bool bpf_vm_cancelled(const struct bpf_vm *vm);

/* For helpers: the memory behind an address of the program; NULL if not all of it is the
 * program's (or, to write, read-only). A length of 0 gives a pointer that must not be used. */
ASHLAR_API void *bpf_vm_memory(struct bpf_vm *vm, uint64_t address, uint64_t len, bool write);

/* For helpers: the run ends with this error when the helper returns. */
ASHLAR_API void bpf_vm_fail(struct bpf_vm *vm, int error);

/* For helpers: when this run must end, by the clock of base_now_ns(); BPF_UNLIMITED if never. */
ASHLAR_API uint64_t bpf_vm_deadline(const struct bpf_vm *vm);

#ifdef __cplusplus
}
#endif

#endif
