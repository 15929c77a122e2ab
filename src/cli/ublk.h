/* cli/ublk.h: what `serve ublk` and the `ublk` subcommands share. */
#ifndef CLI_UBLK_H
#define CLI_UBLK_H

#include <ashlar/ublk.h>
#include <limits.h>

#include "cli/cli.h"

enum { UBLK_NAME_MAX = 63 };

/* ---- records (ublk_record.c) ------------------------------------------------------------ */

/* What we remember of a device that this command serves: the kernel does not know it. One file a
 * device in /run/ashlar/ublk, or, of users, in their runtime folder. */
struct ublk_record {
    int id;
    pid_t pid;
    bool read_only;
    char name[UBLK_NAME_MAX + 1]; /* "": none */
    char folder[PATH_MAX];        /* where the spec's files are looked for */
    char spec[4096];
};

/* 0, or -1 with a reason. */
int ublk_record_write(const struct ublk_record *r, char why[256]);

/* Whether there is one, and it is whole. */
bool ublk_record_read(int id, struct ublk_record *r);
void ublk_record_remove(int id);

/* The device that an operand means: its number, or the name that it was given. -1 after a message.
 */
int ublk_record_find(struct cli *cli, const char *operand);

/* Whether a device that is still there has the name. */
bool ublk_record_taken(const char *name);

/* ---- serving (ublk_serve.c) ------------------------------------------------------------- */

struct ublk_job {
    const char *spec;
    bool read_only;
    bool foreground;
    const char *name; /* "": none */
    struct ublk_config config;
    int recover; /* the device to recover; -1: make one */
};

/* Serve it: in this process, or in one of its own that has the device ready. Exit code. */
int ublk_serve_job(struct cli *cli, const struct ublk_job *job);

extern const char *const ublk_mode_names[];     /* by enum ublk_mode; ends with NULL */
extern const char *const ublk_recovery_names[]; /* by enum ublk_recovery; ends with NULL */

#endif
