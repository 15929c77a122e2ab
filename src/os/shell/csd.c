/* csd run: a program that runs beside the data of a disk, with options of `ashlar csd run`. */
#include <errno.h>
#include <string.h>

#include "ashlar/blk_driver.h"
#include "ashlar/csd.h"
#include "base/util.h"
#include "csd/option.h"
#include "os/os.h"
#include "os/shell/shell.h"
#include "os/vfs/vfs.h"

enum { LOG = 16384, MAX_PROGRAM = 16 << 20 };

struct job {
    const char *program, *device;
    const char *range, *zones, *append, *append_zones; /* NULL: not given */
    struct csd_load_options load;
    struct csd_call call;
    bool stats;
    unsigned unit; /* of the numbers that are printed; 0: hex bytes */
    uint8_t arg[CSD_MAX_ARG];
    struct bpf_log log;
    char log_text[LOG];
    struct csd_result result;
};

/* ---- options ------------------------------------------------------------------------------ */

static int set_verify(struct job *j, const char *value)
{
    j->load.bpf.verify = !strcmp(value, "require")   ? BPF_VERIFY_REQUIRE
                         : !strcmp(value, "checked") ? BPF_VERIFY_CHECKED
                                                     : BPF_VERIFY_AUTO;
    return 0;
}

static int set_format(struct job *j, const char *value)
{
    j->unit = !strcmp(value, "u64") ? 8 : !strcmp(value, "u32") ? 4 : 0;
    return j->unit || !strcmp(value, "hex") ? 0 : -EINVAL;
}

/* 1: there is no such option. */
static int set_option(struct job *j, const char *name, const char *value, struct blk_error *err)
{
    const struct {
        const char *name;
        const char **to;
    } texts[] = {{"range", &j->range},
                 {"zones", &j->zones},
                 {"append", &j->append},
                 {"append-zones", &j->append_zones},
                 {"function", &j->load.bpf.function}};
    const struct {
        const char *name;
        uint64_t *to;
    } sizes[] = {{"mem", &j->load.memory},
                 {"budget", &j->call.budget},
                 {"zone-size", &j->call.zone_size},
                 {"max-return", &j->call.max_return}};
    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
        if (!strcmp(name, texts[i].name)) {
            *texts[i].to = value;
            return 0;
        }
    int error = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes) && error == 1; i++)
        if (!strcmp(name, sizes[i].name))
            error = blk_parse_size(value, sizes[i].to);
    if (!strcmp(name, "timeout"))
        error = blk_parse_time(value, &j->call.timeout_ns);
    else if (!strcmp(name, "verify"))
        error = set_verify(j, value);
    else if (!strcmp(name, "format"))
        error = set_format(j, value);
    else if (!strcmp(name, "arg"))
        return csd_option_arg(value, j->arg, &j->call.arg_size, err);
    return error < 0 ? blk_error_set(err, error, "--%.32s: not '%.64s'", name, value) : error;
}

static int usage(const char *message)
{
    print("csd: %s\ncsd run PROGRAM.o DEVICE [OPTION VALUE]..., options: --range --zones --append "
          "--append-zones --zone-size --arg --mem --format u64|u32|hex --verify "
          "require|auto|checked --interp --stats --budget --timeout --max-return --function\n",
          message);
    return 2;
}

/* --name value or --name=value. 0 or the status. */
static int read_words(struct job *j, unsigned argc, char **argv)
{
    struct blk_error err = {0};
    for (unsigned i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--stats")) {
            j->stats = true;
        } else if (!strcmp(argv[i], "--interp")) {
            j->load.bpf.engine = BPF_ENGINE_INTERP;
        } else if (!strncmp(argv[i], "--", 2)) {
            char *name = argv[i] + 2, *value = strchr(name, '=');
            if (value)
                *value++ = '\0';
            else if (i + 1 < argc)
                value = argv[++i];
            if (!value)
                return usage("an option has no value");
            const int error = set_option(j, name, value, &err);
            if (error)
                return usage(error > 0 ? "there is no such option" : err.text);
        } else if (!j->program) {
            j->program = argv[i];
        } else if (!j->device) {
            j->device = argv[i];
        } else {
            return usage("too many words");
        }
    }
    return j->device ? 0 : usage("which program, on which device?");
}

static int read_ranges(struct job *j, const struct blk *dev, struct blk_error *err)
{
    int error = 0;
    j->call.read = (struct csd_range){0, blk_info(dev)->size};
    if (j->range)
        error = csd_option_range(dev, j->range, &j->call.read, err);
    if (j->zones && error == 0)
        error = csd_option_zones(dev, j->call.zone_size, j->zones, &j->call.read, err);
    if (j->append && error == 0)
        error = csd_option_range(dev, j->append, &j->call.append, err);
    if (j->append_zones && error == 0)
        error = csd_option_zones(dev, j->call.zone_size, j->append_zones, &j->call.append, err);
    j->call.arg = j->arg;
    return error;
}

/* ---- the program ---------------------------------------------------------------------------- */

static struct bpf_module *read_module(struct job *j)
{
    struct vfs_file *f;
    struct vfs_stat stat;
    struct bpf_module *module = NULL;
    int r = vfs_open(NULL, j->program, VFS_O_RDONLY, 0, &f);
    if (r < 0) {
        print("csd: %s: error %d\n", j->program, -r);
        return NULL;
    }
    r = vfs_fstat(f, &stat);
    uint8_t *elf = r == 0 && stat.size <= MAX_PROGRAM ? base_alloc(stat.size + 1) : NULL;
    uint64_t got = 0;
    int64_t n = 1;
    while (elf && got < stat.size && n > 0) {
        n = vfs_read(f, elf + got, stat.size - got);
        got += n > 0 ? (uint64_t)n : 0;
    }
    vfs_close(f);
    if (!elf || n < 0)
        print("csd: %s: cannot be read\n", j->program);
    else if (bpf_module_open(elf, got, &module, &j->log) < 0)
        print("csd: %s: %s\n", j->program, j->log_text);
    base_free(elf);
    return module;
}

/* ---- results -------------------------------------------------------------------------------- */

static void print_debug(void *user, const char *text)
{
    (void)user;
    print("program: ");
    for (; *text; text++)
        print("%c", (unsigned char)*text < ' ' || *text == 127 ? '.' : *text);
    print("\n");
}

static void print_data(const struct job *j)
{
    const uint8_t *data = j->result.data;
    const uint64_t size = j->result.size, unit = j->unit ? j->unit : 16;
    for (uint64_t at = 0; at < size; at += unit) {
        if (j->unit && size - at >= unit) {
            print("%lu\n", unit == 4 ? load_le32(data + at) : load_le64(data + at));
            continue;
        }
        for (uint64_t i = at; i < at + unit && i < size; i++)
            print("%02x%s", data[i], i + 1 < size && i + 1 < at + unit ? " " : "\n");
    }
}

static void print_stats(const struct job *j, const struct csd_program *program)
{
    const struct csd_stats *s = &j->result.stats;
    const struct bpf_prog *prog = csd_prog(program);
    print("%s, %s; read %lu bytes, appended %lu, returned %lu: %ld.%02ld %% less\n",
          bpf_prog_verified(prog) ? "verified" : "checked",
          bpf_prog_compiled(prog) ? "compiled" : "interpreted", s->read, s->written, s->returned,
          s->reduction_ppm / 10000, s->reduction_ppm / 100 % 100);
    print("%lu requests, %lu failed; %lu instructions; %lu us, %lu of them waiting\n", s->requests,
          s->read_errors + s->write_errors, s->instructions, s->time_ns / 1000, s->wait_ns / 1000);
}

static int judge(const struct job *j)
{
    const struct csd_result *r = &j->result;
    if (r->stats.first_error)
        print("csd: %s: byte %lu: error %d\n", j->device, r->stats.error_offset,
              -r->stats.first_error);
    if (r->error < 0)
        print("csd: %s: error %d %s\n", j->program, -r->error, r->message);
    else if ((int32_t)r->value)
        print("csd: %s: the program returned %d\n", j->program, (int32_t)r->value);
    return r->error < 0 || (int32_t)r->value ? 1 : 0;
}

static int run(struct job *j, const struct bpf_module *module, struct blk *dev)
{
    const struct csd_options options = {.workers = 1};
    struct csd_program *program = NULL;
    struct csd *csd = NULL;
    struct blk_error err = {0};
    int status = 1;
    if (read_ranges(j, dev, &err) < 0 || csd_open(dev, &options, &csd, &err) < 0) {
        print("csd: %s\n", err.text);
        return 1;
    }
    const int error = csd_load(csd, module, &j->load, &program, &j->log);
    if (error < 0) {
        print("%scsd: %s: error %d\n", j->log_text, j->program, -error);
    } else {
        j->call.debug = print_debug;
        csd_run(program, &j->call, &j->result);
        print_data(j);
        if (j->stats)
            print_stats(j, program);
        status = judge(j);
        csd_result_free(&j->result);
    }
    csd_unload(program);
    csd_close(csd);
    return status;
}

int shell_csd(unsigned argc, char **argv)
{
    struct job *j = base_alloc(sizeof(*j));
    struct blk_error err;
    struct blk *dev;
    if (!j) {
        print("csd: out of memory\n");
        return 1;
    }
    j->unit = 8;
    j->load.bpf.verify = BPF_VERIFY_AUTO;
    j->log = (struct bpf_log){.text = j->log_text, .size = LOG};
    int status =
        argc < 2 || strcmp(argv[1], "run") ? usage("csd run ...") : read_words(j, argc, argv);
    struct bpf_module *module = status ? NULL : read_module(j);
    if (!status)
        status = 1;
    const bool appends = j->append || j->append_zones;
    if (module && blk_open(j->device, appends ? 0 : BLK_OPEN_READ_ONLY, &dev, &err) < 0) {
        print("csd: %s\n", err.text);
    } else if (module) {
        status = run(j, module, dev);
        blk_close(dev);
    }
    bpf_module_close(module);
    base_free(j);
    return status;
}
