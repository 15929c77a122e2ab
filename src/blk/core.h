/* blk/core.h: what the files of the core share; drivers use ashlar/blk_driver.h alone. */
#ifndef BLK_CORE_H
#define BLK_CORE_H

#include <ashlar/blk_driver.h>

#include "base/list.h"
#include "base/platform.h"

#define BLK_SPEC_MAX      4096 /* bytes of a spec */
#define BLK_SPEC_DEPTH    16   /* filters on top of each other */
#define BLK_SPEC_OPTIONS  32   /* options of one device */
#define BLK_DEFAULT_DEPTH 64   /* of a queue that does not say */
#define BLK_MAX_DEPTH     4096 /* of any queue */
#define BLK_MAX_QUEUES    1024

struct blk_core {
    char *spec;
    void *options;            /* memory behind argument and BLK_OPT_STRING values */
    unsigned queues;          /* open; atomic */
    struct base_mutex lock;   /* guards byte_writes */
    struct base_cond changed; /* a byte write left the list */
    struct list byte_writes;  /* of struct byte_write (bytes.c): in flight on any queue */
};

/* One level of a spec, cut into its parts. Strings point into text, decoded in place. */
struct blk_spec {
    char *text; /* owned: base_free() */
    const struct blk_driver *driver;
    char *argument;
    const char *inner; /* spec of the device below a filter; NULL if there is none */
    unsigned option_count;
    struct {
        char *name;
        char *value;
    } option[BLK_SPEC_OPTIONS];
};

/* Cut the first level off text. On success the caller frees spec->text. */
int blk_spec_parse(const char *text, struct blk_spec *spec, struct blk_error *err);

/* Fill the driver's struct: defaults first, then what the spec says. */
int blk_options_apply(const struct blk_spec *spec, void *priv, struct blk_error *err);

const struct blk_driver *blk_driver_find(const char *name, size_t len);

/* The drivers that the home (Linux process or unikernel) was built with; ends with NULL. */
extern const struct blk_driver *const blk_drivers[];

/* Move requests along until one is ready or the time has passed. */
void blk_queue_progress(struct blk_queue *queue, int64_t timeout);

#endif
