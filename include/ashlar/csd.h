/*
 * ashlar/csd.h: run eBPF programs beside the data of a device, so that only the answer travels.
 *
 *     struct csd *csd;
 *     struct csd_program *program;
 *     struct csd_result result;
 *     struct csd_call call = {.read = {0, blk_info(dev)->size}};
 *     csd_open(dev, NULL, &csd, &err);
 *     csd_load(csd, module, NULL, &program, &log); // of bpf_module_open(); verified, compiled
 *     if (csd_run(program, &call, &result) == 0)
 *         use(result.data, result.size);           // what the program gave to bpf_return_data()
 *     csd_result_free(&result);
 *     csd_unload(program), csd_close(csd);
 *
 * A program sees one range of the device that it may read, one that it may append to, some memory,
 * and the bytes of its call. Nothing else exists for it. docs/csd.md tells how to write one, and
 * lists the helpers that it may call.
 *
 * Units: sizes and offsets in bytes, times in nanoseconds. Errors: negative errno values.
 * Threads: any thread may use a csd, its programs and runs. A csd has worker threads of its own,
 * each with a queue on the device, which others may go on using: a program sees what ordinary
 * requests write once they have completed, and may see parts of those that are in flight.
 */
#ifndef ASHLAR_CSD_H
#define ASHLAR_CSD_H

#include <ashlar/blk.h>
#include <ashlar/bpf.h>

#ifdef __cplusplus
extern "C" {
#endif

struct csd;
struct csd_program;
struct csd_run;

#define CSD_MAX_ARG     65535               /* bytes of a call's argument */
#define CSD_MAX_CHUNK   (UINT64_C(1) << 20) /* bytes that csd_next() gives at once */
#define CSD_MAX_KEEP    65536               /* bytes that csd_keep() repeats */
#define CSD_MAX_SEEKS   (1u << 20)          /* of one run */
#define CSD_MAX_TOUCHED 128                 /* entries of an audit log */
#define CSD_MAX_WORKERS 64

/* ---- the device ------------------------------------------------------------------------ */

struct csd_options {
    unsigned workers;    /* programs that run at the same time; 0: one for each processor, if the
                            device has as many queues */
    uint64_t read_ahead; /* bytes that are read in advance for each program, in up to 64
                            requests; 0: 4 MiB */
};

/*
 * Make a device able to run programs. options may be NULL. -EBUSY: it has no queue left. The
 * device must stay open.
 */
ASHLAR_API int csd_open(struct blk *dev, const struct csd_options *options, struct csd **csd,
                        struct blk_error *err);

/* All runs must have been waited for, and programs unloaded. NULL is fine. */
ASHLAR_API void csd_close(struct csd *csd);

/* ---- programs -------------------------------------------------------------------------- */

struct csd_load_options {
    struct bpf_options bpf; /* how it is verified, what executes it, where it starts */
    uint64_t memory;        /* bytes that bpf_get_mem_info() gives it; 0: 1 MiB */
};

/*
 * Make a program ready: verify and compile it, once for all its runs. Without options (NULL) it
 * must be proven safe. The module may be closed afterwards. Errors: those of bpf_prog_open(), with
 * the reason in the log.
 */
ASHLAR_API int csd_load(struct csd *csd, const struct bpf_module *module,
                        const struct csd_load_options *options, struct csd_program **program,
                        struct bpf_log *log);

/* Its runs must have been waited for. NULL is fine. */
ASHLAR_API void csd_unload(struct csd_program *program);

/* The program behind it, for bpf_prog_verified() and bpf_prog_compiled(). */
ASHLAR_API const struct bpf_prog *csd_prog(const struct csd_program *program);

/* ---- runs ------------------------------------------------------------------------------ */

struct csd_range {
    uint64_t offset;
    uint64_t len; /* 0: nothing */
};

/* What a run may do, and for whom. Callbacks are called on the worker's thread, and hold up the
 * program while they run. */
struct csd_call {
    struct csd_range read;   /* whole blocks of the device */
    struct csd_range append; /* whole blocks; on a zoned device whole zones, which are appended to
                                from their write pointers on. On other devices a run writes from the
                                start of the range on, and no two runs at the same time may have
                                ranges that overlap (-EBUSY). */
    uint64_t zone_size;      /* on devices without zones, how large the program is told that zones
                                are; whole sectors. 0: the readable range is one zone */
    const void *arg;         /* copied */
    uint64_t arg_size;       /* at most CSD_MAX_ARG */
    uint64_t budget;         /* instructions; 0: 2^32, and 256 for each byte that it may read */
    uint64_t timeout_ns;     /* 0: an hour */
    uint64_t max_return;     /* bytes; more end the run with -EFBIG; 0: 1 GiB */

    /* The next piece of what the program returns; a negative errno ends the run with it. NULL: it
     * is gathered in result.data. */
    int (*returned)(void *user, const void *data, size_t size);
    /* What it says with bpf_debug(). NULL: nobody listens. */
    void (*debug)(void *user, const char *text);
    void *user;
};

/* A part of the device that a run has read from or written to. */
struct csd_touch {
    uint64_t offset;
    uint64_t len;
    bool written;
};

struct csd_stats {
    uint64_t read;         /* bytes read on the device, those in advance included */
    uint64_t written;      /* bytes appended on the device, padding included */
    uint64_t returned;     /* bytes that reached the caller */
    int64_t reduction_ppm; /* how much less was returned than read, in millionths */
    uint64_t requests;     /* to the device */
    uint64_t read_errors;  /* requests that failed */
    uint64_t write_errors; /* also the last flush */
    int first_error;       /* of these requests; 0: none failed */
    uint64_t error_offset; /* where the first was */
    uint64_t instructions;
    uint64_t time_ns;    /* from start to end of the program */
    uint64_t wait_ns;    /* of these: waiting for the device */
    uint64_t compute_ns; /* of these: the rest */
};

struct csd_result {
    int error;      /* 0, or why the run ended */
    uint64_t value; /* what the program's function returned, if error is 0 */
    void *data;     /* what it gave to bpf_return_data(), one after the other, also before an
                       error; csd_result_free() */
    uint64_t size;
    struct csd_stats stats;
    /* The audit log: where the run has been, in the order of offset; neighbours are one. Once it
     * is full, the two entries nearest to each other become one, and coarse says that something
     * between the entries' ends may not have been touched. */
    struct csd_touch touched[CSD_MAX_TOUCHED];
    unsigned touched_count;
    bool coarse;
    char message[256]; /* why, in words, if error is not 0: the instruction, its source line */
};

/*
 * Start a run; it begins when a worker is free. -EINVAL: a range is not of whole blocks or zones,
 * reaches past the device's end, or the argument is too long; -EROFS: something to append to on a
 * device that cannot be written; -EBUSY: see append; -ENOMEM.
 */
ASHLAR_API int csd_submit(struct csd_program *program, const struct csd_call *call,
                          struct csd_run **run);

/*
 * Wait until a run has ended, take its result, and free it; once for each run. Returns
 * result->error: 0; -ETIME: past its budget or deadline; -ECANCELED; -EFAULT: a checked program
 * reached outside its memory; -EFBIG: it returned too much; -ELOOP, -EINVAL: as bpf_vm_run();
 * -ENOMEM; -EIO and the like: what it appended could not be made durable at the end; or what the
 * callback for returned data answered.
 */
ASHLAR_API int csd_wait(struct csd_run *run, struct csd_result *result);

/* End a run soon, before csd_wait() has returned it. It must be waited for all the same. */
ASHLAR_API void csd_cancel(struct csd_run *run);

/* Submit and wait. What csd_submit() refuses is in result->error too. */
ASHLAR_API int csd_run(struct csd_program *program, const struct csd_call *call,
                       struct csd_result *result);

/* Free result->data. */
ASHLAR_API void csd_result_free(struct csd_result *result);

/* ---- what helpers there are ------------------------------------------------------------- */

/* The environment of programs, as the verifier sees it, for tools that only look at a program. The
 * arrays are the caller's to keep: at least CSD_REGIONS regions and CSD_HELPERS helpers. The
 * helpers work only in runs of a csd. memory: as in struct csd_load_options. */
#define CSD_REGIONS 3
#define CSD_HELPERS 17
ASHLAR_API void csd_environment(uint64_t memory, struct bpf_region *regions,
                                struct bpf_helper *helpers, struct bpf_environment *environment);

#ifdef __cplusplus
}
#endif

#endif
