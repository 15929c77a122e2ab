/* csd/run.h: what the files of csd/ share. */
#ifndef CSD_RUN_H
#define CSD_RUN_H

#include <ashlar/csd.h>

#include "base/list.h"
#include "base/platform.h"

/* The regions of a program (struct bpf_environment). */
enum {
    CSD_REGION_CALL,   /* read-only: the argument, then zeroes */
    CSD_REGION_CHUNK,  /* read-only for the program: where csd_next() reads the device into */
    CSD_REGION_MEMORY, /* the program's own */
};
#define CSD_CALL_SIZE (CSD_MAX_ARG + 1)

enum { CSD_MAX_PIECES = 65 };

/* How a device's readable range is cut into requests: the same for all runs of a csd. */
struct csd_geometry {
    uint32_t block;  /* of the device */
    uint32_t sector; /* what programs count in: a block, at least 512 */
    uint32_t piece;  /* bytes of a request; whole blocks */
    uint32_t slots;  /* pieces of a stream: all in flight but for the one that is looked at */
    uint64_t stride; /* from one slot to the next */
    uint64_t size;   /* of all slots, and CSD_MAX_CHUNK behind the last */
};

/*
 * Reading ahead. A stream goes through a part of the device in pieces, each in a slot of its
 * memory; slots are used in turn. Before each slot is a gap of CSD_MAX_KEEP bytes, so that the end
 * of the piece before can be put in front of the next. The first `count` slots from `head` on hold
 * pieces, in the order of offset; position lies in the first, or at an end of it.
 */
struct csd_piece {
    struct blk_req req;
    bool done;
};
struct csd_stream {
    uint8_t *memory;   /* geometry.size bytes */
    uint64_t position; /* on the device: the next byte to give */
    uint64_t ahead;    /* the next byte to ask for */
    uint64_t end;
    uint32_t head, count;
    uint32_t in_flight; /* submitted and not done */
    uint32_t part;      /* of run->parts: the first that may end behind `ahead` */
    bool in_parts;      /* only they are read */
    bool active;
    struct csd_piece piece[CSD_MAX_PIECES];
};

/* What csd_next() goes through: on a device with zones, of each what is written. */
struct csd_part {
    uint64_t start, end; /* on the device */
};

/* What a run appends (append.c). */
struct csd_append {
    uint8_t *buffer; /* made when needed: buffer_size bytes, whole sectors */
    uint64_t buffer_size;
    uint64_t buffered; /* bytes of csd_append() that are not on the device yet */
    uint64_t at;       /* without zones: where the next goes, from the start of the range */
    uint64_t zone;     /* with zones: which one csd_append() is at */
    bool dirty;        /* something was written */
};

struct csd_run {
    struct list node; /* csd->waiting or csd->running; guarded by csd->lock, as are: */
    bool started;
    bool finished;
    bool cancelled;
    struct bpf_vm *vm; /* while it runs */

    struct csd_program *program;
    struct csd_call call; /* arg: behind the struct */
    struct csd_result *result;

    /* The worker's, while it runs. */
    struct blk_queue *queue;
    struct csd_stream chunks; /* of csd_next(); memory: the region */
    struct csd_stream *reads; /* of bpf_read(); the worker's */
    uint8_t *chunk;           /* what csd_next() gave last; NULL: nothing */
    uint64_t chunk_len;
    uint64_t keep;             /* bytes at its end that the next begins with */
    uint64_t next_read;        /* on the device: where the last bpf_read() ended */
    uint64_t no_stream_before; /* on the device: after an error, read one by one up to here */
    uint32_t seeks;
    struct csd_append append;
    struct csd_part *parts; /* in order, none of them empty */
    uint32_t part_count;
    uint64_t zone_size; /* of the readable range */
    uint64_t zone_capacity;
    uint64_t max_return;
    uint64_t room; /* of result->data */
};

struct csd_worker {
    struct csd *csd;
    struct blk_queue *queue;
    struct csd_stream reads; /* memory: made when needed */
    struct base_thread thread;
};

struct csd {
    struct blk *dev;
    struct csd_geometry geometry;
    struct base_mutex lock;   /* guards what follows, and what runs say it does */
    struct base_cond changed; /* a run was submitted or finished; stopping */
    struct list waiting;      /* runs, first in, first out */
    struct list running;
    bool stopping;
    unsigned worker_count;
    struct csd_worker worker[CSD_MAX_WORKERS];
};

struct csd_program {
    struct csd *csd;
    struct bpf_prog *prog;
    uint64_t memory;
    struct bpf_region regions[CSD_REGIONS];
    struct bpf_helper helpers[CSD_HELPERS];
    struct bpf_environment environment;
};

static inline const struct csd_geometry *csd_geometry(const struct csd_run *run)
{
    return &run->program->csd->geometry;
}

/* run.c: execute a run on a worker's queue, from its first to its last request. */
void csd_execute(struct csd_worker *worker, struct csd_run *run);

/* -ECANCELED or -ETIME if the run is to end, which it then does when the helper returns. What takes
 * time looks at this: a program may call helpers again and again. */
int csd_check(struct csd_run *run);
/* Take completions from the queue, waiting for one if there is none; or csd_check()'s error. */
int csd_reap(struct csd_run *run);
/* The same, whatever the run's state, if the queue is full: there is room for one request then. */
void csd_make_room(struct csd_run *run);
/* Send a request that is not a stream's, and wait for it. */
int csd_request(struct csd_run *run, struct blk_req *req);
/* Give data to the caller. -EFBIG: too much. */
int csd_return(struct csd_run *run, const void *data, uint64_t len);
/* Note a request, and that it failed, in statistics and audit log. */
void csd_note(struct csd_run *run, uint64_t offset, uint64_t len, bool written);
void csd_note_error(struct csd_run *run, uint64_t offset, int error, bool written);

/* helper.c: helper tables. */
void csd_fill_environment(uint64_t memory, const struct csd_geometry *geometry,
                          struct bpf_region *regions, struct bpf_helper *helpers,
                          struct bpf_environment *environment);

/* stream.c. A part [offset, end) of the device; end: whole blocks. */
void csd_stream_start(struct csd_run *run, struct csd_stream *s, uint64_t offset, uint64_t end);
/* Wait for all of its requests and forget what they brought. */
void csd_stream_stop(struct csd_run *run, struct csd_stream *s);
/* Let go of the piece that position is at the end of, and ask for more. keep bytes before *chunk's
 * end are copied in front of what comes next. */
void csd_stream_advance(struct csd_run *run, struct csd_stream *s, const uint8_t *end,
                        uint64_t keep);
/* The bytes at position, up to the end of their piece: how many, 0 at the end, a negative errno.
 * After an error of the device position is behind the piece. */
int64_t csd_stream_get(struct csd_run *run, struct csd_stream *s, uint8_t **data);
/* Read [offset, offset+len), which must lie between position and end. */
int csd_stream_copy(struct csd_run *run, struct csd_stream *s, uint64_t offset, uint8_t *to,
                    uint64_t len);
void csd_stream_done(struct csd_run *run, struct blk_req *req);

/* append.c */
/* Append at once; *landed: where, from the start of the zone (the range, without zones). */
int csd_append_at(struct csd_run *run, uint64_t zone, const uint8_t *data, uint64_t len,
                  uint64_t *landed);
/* Append to what csd_append_bytes() appended before. */
int csd_append_bytes(struct csd_run *run, const uint8_t *data, uint64_t len);
/* Write what is still buffered. */
int csd_append_flush(struct csd_run *run);
/* At the end of the run: if it went well, the rest too; make all durable. */
int csd_append_finish(struct csd_run *run, bool rest);

/* audit.c */
void csd_audit(struct csd_result *result, uint64_t offset, uint64_t len, bool written);

#endif
