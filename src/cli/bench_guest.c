/*
 * Paths whose jobs run inside a guest: our unikernel, and as its peer Linux with fio, on the same
 * disks in the same QEMU. A guest is started once and asked for each job; figures come back as JSON
 * over its console.
 */
#include "cli/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/bench_child.h"

#define QEMU   "qemu-system-x86_64"
#define PROMPT "ASHLAR> "

enum {
    BOOT_SECONDS = 20,      /* until the unikernel is ready; it takes one */
    LINUX_SECONDS = 120,    /* until Linux is; under TCG it takes five */
    FETCH_SECONDS = 600,    /* a kernel over a slow line, once */
    JOB_SECONDS = 30,       /* beyond the time of a job */
    COUNT_SECONDS = 600,    /* of a job that has no time */
    COMMANDS = 2500,        /* bytes that a Linux guest is told, less than words have room for */
    GUEST_SIZE = 256 << 20, /* of disks in the memory of a guest */
};

/* A command line. */
struct words {
    unsigned count;
    size_t used;
    const char *word[64];
    char text[4096];
};

struct guest {
    struct bench_child child;
    const char *name;
    char device[256]; /* as the guest calls it */
};

/* ---- what is needed -------------------------------------------------------------------- */

/* The first of the files at name relative to the folder of this command. */
static const char *find_beside(const char *variable, const char *const names[], char out[PATH_MAX])
{
    char self[PATH_MAX / 2];
    const char *given = getenv(variable);
    if (given && *given) {
        snprintf(out, PATH_MAX, "%s", given);
        return access(out, R_OK) == 0 ? out : NULL;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        slash[1] = '\0';
    for (; *names; names++) {
        snprintf(out, PATH_MAX, "%s%s", self, *names);
        if (access(out, R_OK) == 0)
            return out;
    }
    return NULL;
}

static const char *find_image(char out[PATH_MAX])
{
    static const char *const names[] = {"ashlar.elf", "../lib/ashlar/ashlar.elf", NULL};
    return find_beside("ASHLAR_IMAGE", names, out);
}

static const char *find_vm_run(char out[PATH_MAX])
{
    static const char *const names[] = {"../libexec/ashlar/vm-run", "../tests/vm/run", NULL};
    return find_beside("ASHLAR_VM_RUN", names, out);
}

const char *bench_no_linux_guest(void)
{
    char file[PATH_MAX];
    if (!find_vm_run(file))
        return "vm-run, which boots Linux guests, is not there";
    if (!bench_in_path(QEMU))
        return QEMU " is not installed";
    if (!bench_in_path("fio"))
        return "fio is not installed";
    return NULL;
}

const char *bench_no_unikernel(void)
{
    char file[PATH_MAX];
    if (!find_image(file))
        return "the image ashlar.elf is not there";
    return bench_in_path(QEMU) ? NULL : QEMU " is not installed";
}

/* ---- command lines --------------------------------------------------------------------- */

/* Append a word. What does not fit is left out: QEMU will say what it misses. */
static void __attribute__((format(printf, 2, 3))) add(struct words *w, const char *format, ...)
{
    va_list args;
    size_t room = sizeof(w->text) - w->used;
    va_start(args, format);
    int n = vsnprintf(w->text + w->used, room, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= room || w->count + 1 >= ARRAY_SIZE(w->word))
        return;
    w->word[w->count++] = w->text + w->used;
    w->word[w->count] = NULL;
    w->used += (size_t)n + 1;
}

/* Append all words of a text. */
static void add_all(struct words *w, const char *text)
{
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        int n = (int)strcspn(text, " ");
        add(w, "%.*s", n, text);
        text += n;
    }
}

/* ---- disks ----------------------------------------------------------------------------- */

/* A raw file full of data, shared by all guests and qemu-img, which take turns. */
int bench_guest_file(const struct bench_place *place, char file[300], char why[256])
{
    char spec[512];
    struct blk *dev;
    struct blk_error err;
    struct bench_result result;
    struct bench_job job = BENCH_JOB_DEFAULT;
    snprintf(file, 300, "%s/guest.img", place->dir);
    if (access(file, F_OK) == 0)
        return 0;
    snprintf(spec, sizeof(spec), "file:%s?create=%" PRIu64 "&direct=on", file, place->size);
    job.read_percent = 0;
    job.block = 1 << 20;
    job.depth = 4;
    job.runtime = 0;
    job.count = place->size / job.block;
    job.stop = place->stop;
    int error = blk_open(spec, 0, &dev, &err);
    if (error == 0) {
        error = bench_run(dev, &job, &result, &err);
        blk_close(dev);
    }
    if (error == 0)
        return 0;
    unlink(file);
    snprintf(why, 256, "%.250s", err.text);
    return -1;
}

/* A comma in a value is written twice. */
static void quoted(const char *text, char out[600])
{
    size_t n = 0;
    for (; *text && n < 597; text++) {
        if (*text == ',')
            out[n++] = ',';
        out[n++] = *text;
    }
    out[n] = '\0';
}

/* QEMU's words for a disk, the same for all guests. */
static int disk_words(enum bench_disk disk, const struct bench_place *place, char out[700],
                      char why[256])
{
    char file[300], name[600];
    out[0] = '\0';
    if (disk == BENCH_DISK_NULL)
        snprintf(out, 700, "driver=null-co,size=%" PRIu64 ",read-zeroes=off", place->size);
    if (disk != BENCH_DISK_FILE)
        return 0;
    if (bench_guest_file(place, file, why) < 0)
        return -1;
    quoted(file, name);
    snprintf(out, 700, "file=%s,format=raw,cache=none,aio=io_uring,file.locking=off", name);
    return 0;
}

/* A folder for 9P with the same file in it. */
static int make_share(const struct bench_place *place, char folder[300], char why[256])
{
    char file[300], name[320];
    if (bench_guest_file(place, file, why) < 0)
        return -1;
    snprintf(folder, 300, "%s/share", place->dir);
    snprintf(name, sizeof(name), "%s/bench.img", folder);
    if ((mkdir(folder, 0700) == 0 || errno == EEXIST) && (link(file, name) == 0 || errno == EEXIST))
        return 0;
    snprintf(why, 256, "%.180s: %s", name, strerror(errno));
    return -1;
}

/* ---- talking --------------------------------------------------------------------------- */

static uint64_t job_limit(const struct bench_job *job)
{
    uint64_t seconds = job->runtime ? JOB_SECONDS : COUNT_SECONDS;
    return bench_deadline(job->warmup + job->runtime + seconds * BENCH_SECOND);
}

/* The start of the first whole line that begins with word, from the line at `from` on. */
static char *find_line(char *from, const char *word)
{
    for (char *at = from; at && *at; at = strchr(at, '\n'), at += at != NULL) {
        at += strspn(at, "\r");
        if (!strncmp(at, word, strlen(word)) && strchr(at, '\n'))
            return at;
    }
    return NULL;
}

/* Read until done() finds its end in what the guest said; its result is put into *found. */
static int read_until(struct guest *g, char *(*done)(char *text, size_t length), char **found,
                      uint64_t deadline, char why[256])
{
    for (;;) {
        *found = g->child.text ? done(g->child.text, g->child.length) : NULL;
        if (*found)
            return 0;
        int got = bench_child_read(&g->child, deadline, why);
        if (got > 0)
            continue;
        if (got == 0)
            bench_child_epitaph(&g->child, g->name, why);
        bench_child_stop(&g->child); /* what it says later would be taken for another job's */
        return -1;
    }
}

/* ---- figures --------------------------------------------------------------------------- */

static bool read_number(const json_t *o, const char *name, uint64_t *out)
{
    const json_t *v = json_object_get(o, name);
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= 0) || x > 9e18)
        return false;
    *out = json_is_integer(v) ? (uint64_t)json_integer_value(v) : (uint64_t)x;
    return true;
}

static bool read_side(const json_t *o, struct bench_side *s)
{
    const json_t *curve = json_object_get(o, "curve");
    if (json_array_size(curve) != BENCH_CURVE_POINTS)
        return false;
    for (unsigned i = 0; i < BENCH_CURVE_POINTS; i++) {
        const json_t *v = json_array_get(curve, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return false;
        s->curve[i] = (uint64_t)json_integer_value(v);
    }
    return read_number(o, "count", &s->count) && read_number(o, "bytes", &s->bytes) &&
           read_number(o, "mean", &s->mean) && read_number(o, "p50", &s->p50) &&
           read_number(o, "p95", &s->p95) && read_number(o, "p99", &s->p99) &&
           read_number(o, "p999", &s->p999) && read_number(o, "max", &s->max);
}

/* What the unikernel's `bench --json` says. */
static int read_figures(const json_t *root, struct bench_result *r, char why[256])
{
    const char *error = json_string_value(json_object_get(root, "error"));
    if (error && *error) {
        snprintf(why, 256, "%.250s", error);
        return -1;
    }
    if (read_number(root, "elapsed_ns", &r->elapsed) && r->elapsed &&
        read_number(root, "errors", &r->errors) && read_number(root, "flushes", &r->flushes) &&
        read_side(json_object_get(root, "read"), &r->read) &&
        read_side(json_object_get(root, "write"), &r->write) && !r->errors)
        return 0;
    snprintf(why, 256, "its figures are not as they must be");
    return -1;
}

/* fio has no 0 and 100 %; least and most stand for them. */
static bool read_fio_side(const json_t *o, struct bench_side *s, uint64_t *milliseconds)
{
    const json_t *times = json_object_get(o, "lat_ns");
    const json_t *percentiles = json_object_get(times, "percentile");
    uint64_t ms;
    if (!read_number(o, "total_ios", &s->count) || !read_number(o, "io_bytes", &s->bytes) ||
        !read_number(o, "runtime", &ms))
        return false;
    *milliseconds = max_u64(*milliseconds, ms);
    if (!s->count)
        return true;
    if (!read_number(times, "min", &s->curve[0]) || !read_number(times, "max", &s->max) ||
        !read_number(times, "mean", &s->mean))
        return false;
    s->curve[BENCH_CURVE_POINTS - 1] = s->max;
    for (unsigned i = 1; i + 1 < BENCH_CURVE_POINTS; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%u.%06u", bench_curve_ppm[i] / 10000,
                 bench_curve_ppm[i] % 10000 * 100);
        if (!read_number(percentiles, key, &s->curve[i]))
            return false;
        /* Its buckets end beyond the slowest request. */
        s->curve[i] = min_u64(s->curve[i], s->max);
        uint64_t *const named = bench_curve_ppm[i] == 500000   ? &s->p50
                                : bench_curve_ppm[i] == 950000 ? &s->p95
                                : bench_curve_ppm[i] == 990000 ? &s->p99
                                : bench_curve_ppm[i] == 999000 ? &s->p999
                                                               : NULL;
        if (named)
            *named = s->curve[i];
    }
    return true;
}

static int read_fio(const json_t *root, struct bench_result *r, char why[256])
{
    const json_t *job = json_array_get(json_object_get(root, "jobs"), 0);
    uint64_t error = 1, ms = 0;
    if (read_number(job, "error", &error) && error) {
        snprintf(why, 256, "fio failed: %s", strerror((int)min_u64(error, INT_MAX)));
        return -1;
    }
    if (!error && read_fio_side(json_object_get(job, "read"), &r->read, &ms) &&
        read_fio_side(json_object_get(job, "write"), &r->write, &ms) && ms) {
        r->elapsed = ms * 1000000;
        return 0;
    }
    snprintf(why, 256, "the figures of fio are not as they must be");
    return -1;
}

/* Read a line of JSON into a result. */
static int read_json(const char *line, int (*reader)(const json_t *, struct bench_result *, char *),
                     struct bench_result *result, char why[256])
{
    json_error_t error;
    memset(result, 0, sizeof(*result));
    json_t *root = json_loadb(line, strcspn(line, "\r\n"), 0, &error);
    int code = -1;
    if (root)
        code = reader(root, result, why);
    else
        snprintf(why, 256, "its answer is not JSON: %.200s", error.text);
    json_decref(root);
    return code;
}

/* ---- acceleration ---------------------------------------------------------------------- */

/* The words with which a Linux guest runs here ("-accel tcg -cpu max"), so that all guests have the
 * same; "" if that cannot be told. */
static const char *linux_accel(const struct bench_place *place)
{
    static char words[128];
    static bool known;
    char file[PATH_MAX], log[400], why[256];
    struct bench_child c;
    if (known || !find_vm_run(file))
        return words;
    known = true;
    const char *const argv[] = {file, "--accel-words", NULL};
    uint64_t deadline = bench_deadline(FETCH_SECONDS * BENCH_SECOND);
    int got = 1;
    snprintf(log, sizeof(log), "%s/accel.log", place->dir);
    if (bench_child_start(&c, argv, log, place->stop, why) == 0)
        while ((got = bench_child_read(&c, deadline, why)) > 0)
            ;
    if (got == 0 && c.text && !strncmp(c.text, "-accel ", 7))
        snprintf(words, sizeof(words), "%.*s", (int)strcspn(c.text, "\n"), c.text);
    bench_child_wait(&c, bench_deadline(BENCH_SECOND));
    return words;
}

/* ---- all guests ------------------------------------------------------------------------ */

static void stop_guest(void *remote)
{
    struct guest *g = remote;
    bench_child_stop(&g->child);
    free(g);
}

/* What a guest says to a line that it was sent, up to its end. */
static int ask(struct guest *g, const struct bench_job *job, const char *line,
               char *(*done)(char *text, size_t length), char **found, char why[256])
{
    if (g->child.pid <= 0) {
        snprintf(why, 256, "the guest has ended");
        return -1;
    }
    if (job->verify) {
        snprintf(why, 256, "jobs that verify do not run in guests");
        return -1;
    }
    g->child.stop = job->stop;
    bench_child_forget(&g->child);
    if (bench_child_send(&g->child, line, why) < 0)
        return -1;
    return read_until(g, done, found, job_limit(job), why);
}

/* "randread" */
static const char *pattern_name(const struct bench_job *job)
{
    bool random = job->pattern == BENCH_RANDOM;
    if (job->read_percent == 100)
        return random ? "randread" : "read";
    if (job->read_percent == 0)
        return random ? "randwrite" : "write";
    return random ? "randrw" : "rw";
}

/* Append " --NAME=VALUE" to a line if there is a value. */
static void option(char line[1024], const char *name, uint64_t value, const char *unit)
{
    size_t n = strlen(line);
    if (value)
        snprintf(line + n, 1024 - n, " --%s=%" PRIu64 "%s", name, value, unit);
}

/* ---- the unikernel --------------------------------------------------------------------- */

/* Its prompt is the last that it said. */
static char *at_prompt(char *text, size_t length)
{
    const size_t n = sizeof(PROMPT) - 1;
    return length >= n && !strcmp(text + length - n, PROMPT) ? text : NULL;
}

/* The same after a line was taken: before, the prompt may be part of its echo. */
static char *answered(char *text, size_t length)
{
    return strchr(text, '\n') ? at_prompt(text, length) : NULL;
}

static int run_unikernel(void *remote, const struct bench_job *job, struct bench_result *result,
                         char why[256])
{
    struct guest *g = remote;
    char line[1024], *text;
    snprintf(line, sizeof(line), "bench %s --rw %s --json", g->device, pattern_name(job));
    option(line, "bs", job->block, "");
    option(line, "depth", job->depth, "");
    option(line, "time", job->runtime / 1000, "us");
    option(line, "warmup", job->warmup / 1000, "us");
    option(line, "count", job->count, "");
    option(line, "threads", job->threads > 1 ? job->threads : 0, "");
    option(line, "mix", job->read_percent % 100, "");
    option(line, "rate", job->rate, "");
    option(line, "flush-every", job->flush_every, "");
    option(line, "offset", job->offset, "");
    option(line, "size", job->range, "");
    option(line, "seed", job->seed > 1 ? job->seed : 0, "");
    strcat(line, "\n");
    if (ask(g, job, line, answered, &text, why) < 0)
        return -1;
    const char *figures = find_line(text, "BENCH {");
    if (figures)
        return read_json(figures + strlen("BENCH "), read_figures, result, why);
    text = strchr(text, '\n') + 1;
    snprintf(why, 256, "the unikernel has no figures: %.*s",
             (int)min_u64(strcspn(text, "\r\n"), 180), text);
    return -1;
}

/* Start it with this acceleration, and wait for its prompt. */
static int boot_unikernel(struct guest *g, const struct bench_place *place, const char *log,
                          const char *accel, const struct words *machine, char why[256])
{
    struct words w = {.count = 0};
    char *prompt;
    add(&w, QEMU);
    add_all(&w, accel);
    for (unsigned i = 0; i < machine->count; i++)
        add(&w, "%s", machine->word[i]);
    if (bench_child_start(&g->child, w.word, log, place->stop, why) < 0)
        return -1;
    return read_until(g, at_prompt, &prompt, bench_deadline(BOOT_SECONDS * BENCH_SECOND), why);
}

static int boot_somehow(struct guest *g, const struct bench_place *place, const char *log,
                        const struct words *machine, char why[256])
{
    static const char *const others[] = {
        "-accel kvm -cpu host", "-accel kvm -cpu host,-arch-capabilities", "-accel tcg -cpu max"};
    const char *accel = linux_accel(place);
    if (*accel)
        return boot_unikernel(g, place, log, accel, machine, why);
    for (unsigned i = access("/dev/kvm", R_OK | W_OK) == 0 ? 0 : 2; i < ARRAY_SIZE(others); i++) {
        if (boot_unikernel(g, place, log, others[i], machine, why) == 0)
            return 0;
        bench_child_stop(&g->child);
    }
    return -1;
}

/* A file that it makes gets a size; in memory it has to fit there. */
static void name_device(const struct bench_path_kind *kind, const struct bench_place *place,
                        char out[256])
{
    uint64_t size = kind->disk == BENCH_DISK_NONE ? min_u64(place->size, 64 << 20) : place->size;
    if (kind->device[strlen(kind->device) - 1] == '=')
        snprintf(out, 256, "%s%" PRIu64, kind->device, size);
    else
        snprintf(out, 256, "%s", kind->device);
}

static int machine_words(const struct bench_path_kind *kind, const struct bench_place *place,
                         struct words *w, char why[256])
{
    char image[PATH_MAX], disk[700], folder[300], name[600];
    bool shared = kind->disk == BENCH_DISK_SHARE;
    if (!find_image(image)) {
        snprintf(why, 256, "the image ashlar.elf is not there");
        return -1;
    }
    if (disk_words(kind->disk, place, disk, why) < 0 ||
        (shared && make_share(place, folder, why) < 0))
        return -1;
    add_all(w, "-machine q35 -m 256M -nodefaults -no-user-config -display none -serial stdio "
               "-no-reboot -kernel");
    add(w, "%s", image);
    add(w, "-append");
    add(w, "console=ttyS0%s", shared ? " vfs.fstab=[share:/share:9pfs:rw]" : "");
    if (*disk) {
        add(w, "-drive");
        add(w, "if=none,id=disk0,%s", disk);
        add_all(w, "-object iothread,id=io0 -device virtio-blk-pci,drive=disk0,iothread=io0");
    }
    if (shared) {
        quoted(folder, name);
        add(w, "-fsdev");
        add(w, "local,id=share,path=%s,security_model=none", name);
        add_all(w, "-device virtio-9p-pci,fsdev=share,mount_tag=share");
    }
    return 0;
}

static void *start_unikernel(const struct bench_path_kind *kind, const struct bench_place *place,
                             char spec[512], char why[256])
{
    char log[400];
    struct words w = {.count = 0};
    struct guest *g = calloc(1, sizeof(*g));
    if (!g) {
        snprintf(why, 256, "out of memory");
        return NULL;
    }
    g->name = "the unikernel";
    g->child = (struct bench_child){.in = -1, .out = -1};
    snprintf(log, sizeof(log), "%s/%s.log", place->dir, kind->name);
    name_device(kind, place, g->device);
    snprintf(spec, 512, "%s", g->device);
    if (machine_words(kind, place, &w, why) == 0 && boot_somehow(g, place, log, &w, why) == 0)
        return g;
    stop_guest(g);
    return NULL;
}

const struct bench_remote bench_unikernel = {start_unikernel, run_unikernel, stop_guest};

/* ---- Linux ----------------------------------------------------------------------------- */

/* Says which device it has; then takes lines of fio's options and answers each with a line
 * "FIO {figures}" or "FIO error". Before it: its variables. */
static const char agent[] =
    "echo READY $(eval \"$SETUP\" 2>/run/setup || head -n 1 /run/setup); while read -r line; do\n"
    "fio $line --output-format=json --output=/run/figures >/run/said 2>&1 </dev/null\n"
    "if grep -q '^{' /run/figures; then\n"
    "echo \"FIO $(sed -n '/^{/,$p' /run/figures | tr -d '\\n')\"\n"
    "else echo \"FIO $(cat /run/said /run/figures | head -n 1)\"; fi; done\n";

static char *ready(char *text, size_t length)
{
    (void)length;
    return find_line(text, "READY");
}

static char *figures(char *text, size_t length)
{
    (void)length;
    return find_line(text, "FIO ");
}

static int run_linux(void *remote, const struct bench_job *job, struct bench_result *result,
                     char why[256])
{
    struct guest *g = remote;
    unsigned threads = job->threads ? job->threads : 1;
    char line[1024], *answer;
    snprintf(line, sizeof(line),
             "--name=job --filename=%s --direct=1 --ioengine=io_uring --fixedbufs --registerfiles "
             "--thread --group_reporting --norandommap --lat_percentiles=1 --clat_percentiles=0 "
             "--disable_clat=1 --disable_slat=1 --percentile_list=",
             g->device);
    for (unsigned i = 1; i + 1 < BENCH_CURVE_POINTS; i++) {
        size_t n = strlen(line);
        snprintf(line + n, sizeof(line) - n, "%s%u.%04u", i > 1 ? ":" : "",
                 bench_curve_ppm[i] / 10000, bench_curve_ppm[i] % 10000);
    }
    size_t n = strlen(line);
    snprintf(line + n, sizeof(line) - n, " --rw=%s%s", pattern_name(job),
             job->runtime ? " --time_based" : "");
    option(line, "bs", job->block, "");
    /* Like our client: submit at once what there is, take all that is done. */
    option(line, "iodepth", job->depth, "");
    option(line, "iodepth_batch_submit", job->depth, "");
    option(line, "iodepth_batch_complete_max", job->depth, "");
    option(line, "runtime", job->runtime / 1000, "us");
    option(line, "ramp_time", job->warmup / 1000, "us");
    option(line, "number_ios", job->count / threads, "");
    option(line, "numjobs", threads > 1 ? threads : 0, "");
    option(line, "rwmixread", job->read_percent % 100, "");
    option(line, "rate_iops", job->rate / threads, "");
    option(line, "fsync", job->flush_every, "");
    option(line, "offset", job->offset, "");
    option(line, "size", job->range, "");
    option(line, "randseed", job->seed, "");
    strcat(line, "\n");
    if (ask(g, job, line, figures, &answer, why) < 0)
        return -1;
    if (answer[4] == '{')
        return read_json(answer + 4, read_fio, result, why);
    snprintf(why, 256, "fio: %.*s", (int)min_u64(strcspn(answer + 4, "\r\n"), 240), answer + 4);
    return -1;
}

/* The variables of the agent, and the agent. -1: too long. */
static int write_agent(const struct bench_path_kind *kind, const struct bench_place *place,
                       char out[COMMANDS])
{
    char self[1024] = "";
    ssize_t got = readlink("/proc/self/exe", self, sizeof(self) - 1);
    uint64_t size = min_u64(place->size, GUEST_SIZE);
    int n = snprintf(out, COMMANDS, "SIZE=%" PRIu64 " ASHLAR='%s' SETUP='%s%s'\n%s", size,
                     got > 0 && !strchr(self, '\'') ? self : "ashlar", kind->setup ? "" : "echo ",
                     kind->setup ? kind->setup : kind->device, agent);
    return n < COMMANDS ? 0 : -1;
}

/* What it said behind READY: the device, or why there is none. */
static int read_device(struct guest *g, const char *line, char why[256])
{
    int n = (int)strcspn(line, "\r\n");
    if (strncmp(line, "/dev/", 5) == 0) {
        snprintf(g->device, sizeof(g->device), "%.*s", n, line);
        return 0;
    }
    snprintf(why, 256, "the guest has no such device: %.*s", n < 200 ? n : 200, line);
    return -1;
}

static const char *const *linux_words(struct words *w, const struct bench_path_kind *kind,
                                      const char *vm_run, const char *disk, const char *commands)
{
    add(w, "%s", vm_run);
    add_all(w, "--input --memory 1024 --timeout 86400 --cpus");
    add(w, kind->setup ? "2" : "1");
    if (*disk) {
        add(w, "--disk");
        add(w, "%s", disk);
    }
    add(w, "--");
    add(w, "%s", commands);
    return w->word;
}

static void *start_linux(const struct bench_path_kind *kind, const struct bench_place *place,
                         char spec[512], char why[256])
{
    char file[PATH_MAX], log[400], disk[700], commands[COMMANDS], *found;
    struct guest *g = calloc(1, sizeof(*g));
    snprintf(why, 256, "out of memory");
    if (!g)
        return NULL;
    *g = (struct guest){.child = {.in = -1, .out = -1}, .name = "the Linux guest"};
    snprintf(log, sizeof(log), "%s/%s.log", place->dir, kind->name);
    struct words w = {.count = 0};
    uint64_t limit = bench_deadline((LINUX_SECONDS + FETCH_SECONDS) * BENCH_SECOND);
    if (find_vm_run(file) && disk_words(kind->disk, place, disk, why) == 0 &&
        write_agent(kind, place, commands) == 0 &&
        bench_child_start(&g->child, linux_words(&w, kind, file, disk, commands), log, place->stop,
                          why) == 0 &&
        read_until(g, ready, &found, limit, why) == 0 &&
        read_device(g, found + strlen("READY "), why) == 0) {
        snprintf(spec, 512, "%s", kind->setup ? kind->setup : g->device);
        return g;
    }
    stop_guest(g);
    return NULL;
}

const struct bench_remote bench_linux_guest = {start_linux, run_linux, stop_guest};
