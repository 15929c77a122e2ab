/* cli/bench.h: what the files of `ashlar bench` share. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <stdio.h>
#include <sys/types.h>

#include <ashlar/bench.h>

#include "cli/cli.h"

enum { BENCH_MAX_PATHS = 64, BENCH_MAX_JOBS = 16, BENCH_MAX_ROUNDS = 99 };

/* Where and how large the things are that paths make for themselves. */
struct bench_place {
    const char *dir; /* a folder of this run's own, on a disk */
    uint64_t size;
    const bool *stop; /* becomes true (atomic) when the run is to end */
};

struct bench_path_kind;

/* Jobs that are not run by this process's client on a device, but elsewhere: in a guest, or by
 * another program. */
struct bench_remote {
    /* Returns what run and stop get; NULL with a reason in why. spec is for people. */
    void *(*start)(const struct bench_path_kind *kind, const struct bench_place *place,
                   char spec[512], char why[256]);
    /* 0, or -1 with a reason. Ends in time whatever is there, and soon after job->stop. */
    int (*run)(void *remote, const struct bench_job *job, struct bench_result *result,
               char why[256]);
    void (*stop)(void *remote);
    /* NULL, or how many bytes reached the caller for each that was read, of the last run. */
    uint64_t (*returned)(const void *remote);
};

/* What a guest gets as its disk. */
enum bench_disk {
    BENCH_DISK_NONE,
    BENCH_DISK_NULL,  /* QEMU's null-co */
    BENCH_DISK_FILE,  /* a raw file, O_DIRECT */
    BENCH_DISK_SHARE, /* no disk, but a folder over 9P */
};

/* How a question about the data of a device is answered (bench_csd.c). */
enum bench_csd_way {
    BENCH_CSD_NONE,
    BENCH_CSD_NATIVE,  /* by plain C, to which all data is read */
    BENCH_CSD_JIT,     /* by a verified program, compiled */
    BENCH_CSD_CHECKED, /* by a program that is not verified, compiled with checks */
    BENCH_CSD_INTERP,  /* by a program, interpreted */
};

/* A row of the table in bench_paths.c: a way from a program to its data. */
struct bench_path_kind {
    const char *name;   /* "file-direct" */
    const char *title;  /* for people */
    const char *family; /* paths of one family are drawn together */
    bool peer;          /* another project's */
    /* Why it cannot run here; NULL if it can. */
    const char *(*unavailable)(void);
    /* Make what is needed, start a server; say under which spec it is reached and, if there is
     * one, its process. 0, or -1 with a reason in why. */
    int (*start)(const struct bench_place *place, char spec[512], pid_t *server, char why[256]);
    bool fill; /* write all of it once before anything is measured */
    /* Instead of start: */
    const struct bench_remote *remote;
    enum bench_disk disk;
    const char *device; /* what the guest calls it; after a last '=' goes a size */
    const char *setup; /* instead: a shell command for a Linux guest, which makes it of $SIZE bytes,
                          with $ASHLAR, and says what it is called */
    enum bench_csd_way way; /* not NONE: it answers questions, and does no other jobs */
};

extern const struct bench_path_kind bench_path_kinds[]; /* ends with a zero name */

/* A path in a run. */
struct bench_path {
    const struct bench_path_kind *kind; /* NULL: a device that the user named */
    const char *name;
    const char *title;
    const char *family;
    bool peer;
    bool fill;
    char spec[512];
    char unavailable[256]; /* why there are no figures; "" if there are */
    pid_t server;
    struct blk *dev;
    void *remote; /* of kind->remote, if that was started */
};

struct bench_named_job {
    const char *name;  /* "randread-4k-qd1" */
    const char *title; /* "4 KiB random read, depth 1" */
    bool bandwidth;    /* judged by MB/s; else by IOPS */
    bool question;     /* for the paths that answer questions */
    struct bench_job job;
};

struct bench_spread {
    double median;
    double min;
    double max;
};

/* One path under one job, over all rounds. */
struct bench_cell {
    unsigned rounds;
    double iops[BENCH_MAX_ROUNDS];
    double mbps[BENCH_MAX_ROUNDS];            /* 10^6 bytes a second */
    struct bench_side side[BENCH_MAX_ROUNDS]; /* the latencies of each round */
    struct bench_spread iops_spread;
    struct bench_spread mbps_spread;
    struct bench_side typical; /* latencies of the round with the median figure */
    struct bench_result last;
    uint64_t returned; /* bytes that reached the caller in the last run; 0: not told */
    char error[256];   /* "" if all rounds ran */
};

struct bench_matrix {
    struct cli *cli;
    unsigned path_count;
    struct bench_path path[BENCH_MAX_PATHS];
    unsigned job_count;
    struct bench_named_job job[BENCH_MAX_JOBS];
    unsigned rounds;
    uint64_t size;           /* of the devices that were made */
    struct bench_cell *cell; /* path_count * job_count */
    bool stopped;            /* atomic: by a signal */
};

static inline struct bench_cell *bench_cell(const struct bench_matrix *m, unsigned path,
                                            unsigned job)
{
    return &m->cell[path * m->job_count + job];
}

static inline const struct bench_spread *bench_figure(const struct bench_matrix *m, unsigned path,
                                                      unsigned job)
{
    const struct bench_cell *c = bench_cell(m, path, job);
    return m->job[job].bandwidth ? &c->mbps_spread : &c->iops_spread;
}

/* Whether the job is one for this path. */
static inline bool bench_applies(const struct bench_matrix *m, unsigned path, unsigned job)
{
    const struct bench_path_kind *kind = m->path[path].kind;
    return (kind && kind->way) == m->job[job].question;
}

/* The machine that the figures are of. */
struct bench_machine {
    char kernel[128];
    char cpu[128];
    char date[32]; /* UTC, ISO 8601 */
    unsigned cpus;
    uint64_t memory;
};
void bench_machine_get(struct bench_machine *machine);

/* bench_run.c: open the paths, run every job on each in interleaved rounds, close all. Exit code.
 */
int bench_matrix_run(struct bench_matrix *m, const struct bench_place *place);

/* bench_paths.c */
bool bench_in_path(const char *program);

/* bench_guest.c, bench_qemu_img.c, bench_csd.c */
extern const struct bench_remote bench_unikernel, bench_linux_guest, bench_qemu_img, bench_csd;
const char *bench_no_unikernel(void);
const char *bench_no_linux_guest(void);
const char *bench_no_qemu_img(void);
const char *bench_no_programs(void);
/* The raw file of this run, full of data; made by the first. 0, or -1 with a reason. */
int bench_guest_file(const struct bench_place *place, char file[300], char why[256]);

/* bench_output.c, bench_json.c, bench_report.c */
char *bench_format_time(uint64_t ns, char out[16]);
char *bench_format_figure(double value, bool bandwidth, char out[32]);
void bench_print_table(const struct bench_matrix *m);
int bench_write_json(const struct bench_matrix *m, const char *file);
int bench_compare(const struct bench_matrix *m, const char *file);
int bench_write_report(const struct bench_matrix *m, const char *file);
void bench_report_text(FILE *f, const char *text); /* escaped */

/* bench_report_guest.c: what the layers of the unikernel cost, in words. */
void bench_report_guests(FILE *f, const struct bench_matrix *m);

#endif
