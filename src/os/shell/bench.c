/* bench: the engine of src/bench with the options of `ashlar bench`, on the console. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "bench/option.h"
#include "os/os.h"
#include "os/shell/shell.h"

static void print_time(const char *name, uint64_t ns)
{
    if (ns < 1000000)
        print(" %s %lu.%02lu us", name, ns / 1000, ns / 10 % 100);
    else
        print(" %s %lu.%02lu ms", name, ns / 1000000, ns / 10000 % 100);
}

static void print_side(const char *name, const struct bench_side *s, uint64_t elapsed)
{
    if (!s->count)
        return;
    const uint64_t per_second = s->count * 1000000000 / max_u64(elapsed, 1);
    const uint64_t mb = s->bytes * 1000 / max_u64(elapsed, 1);
    print("  %s: %lu IOPS, %lu MB/s; latency", name, per_second, mb);
    print_time("mean", s->mean);
    print_time("p50", s->p50);
    print_time("p99", s->p99);
    print_time("max", s->max);
    print("\n");
}

static void json_side(const char *name, const struct bench_side *s)
{
    print("\"%s\":{\"count\":%lu,\"bytes\":%lu,\"mean\":%lu,\"p50\":%lu,\"p95\":%lu,"
          "\"p99\":%lu,\"p999\":%lu,\"max\":%lu,\"curve\":[",
          name, s->count, s->bytes, s->mean, s->p50, s->p95, s->p99, s->p999, s->max);
    for (unsigned i = 0; i < BENCH_CURVE_POINTS; i++)
        print("%s%lu", i ? "," : "", s->curve[i]);
    print("]}");
}

/* Text in JSON: control characters and quotes of a message become blanks. */
static void json_text(const char *text)
{
    print("\"");
    for (; *text; text++)
        print("%c", (unsigned char)*text < ' ' || *text == '"' || *text == '\\' ? ' ' : *text);
    print("\"");
}

static void print_json(const char *device, const struct bench_result *r, const char *error)
{
    print("BENCH {\"device\":");
    json_text(device);
    print(",\"elapsed_ns\":%lu,", r->elapsed);
    json_side("read", &r->read);
    print(",");
    json_side("write", &r->write);
    print(",\"flushes\":%lu,\"errors\":%lu,\"checked\":%lu,\"damaged\":%lu,\"error\":", r->flushes,
          r->errors, r->checked, r->damaged);
    json_text(error);
    print("}\n");
}

static void print_damage(const struct bench_result *r)
{
    if (!r->checked)
        return;
    print("  %lu blocks checked, %lu damaged\n", r->checked, r->damaged);
    for (uint64_t i = 0; i < min_u64(r->damaged, BENCH_DAMAGE_MAX); i++)
        print("  offset %lu: %s\n", r->damage[i].offset, bench_damage_name(r->damage[i].kind));
}

static int measure(const char *device, const struct bench_job *job, bool json)
{
    static struct bench_result result;
    struct blk_error err = {0};
    struct blk *dev;
    memset(&result, 0, sizeof(result));
    int r = blk_open(device, 0, &dev, &err);
    if (r == 0) {
        r = bench_run(dev, job, &result, &err);
        blk_close(dev);
    }
    if (json) {
        print_json(device, &result, r < 0 ? err.text : "");
        return r < 0 ? 1 : 0;
    }
    if (r < 0)
        print("%s\n", err.text);
    else
        print("%s: %u bytes, depth %u, %u thread%s, %lu ms\n", device, job->block, job->depth,
              job->threads, job->threads == 1 ? "" : "s", result.elapsed / 1000000);
    print_side("read", &result.read, result.elapsed);
    print_side("write", &result.write, result.elapsed);
    print_damage(&result);
    return r < 0 ? 1 : 0;
}

static int usage(const char *message)
{
    print("bench: %s\nbench DEVICE... [OPTION VALUE]... [--json], options:", message);
    for (unsigned i = 0; bench_option_name(i); i++)
        print(" --%s", bench_option_name(i));
    print("\n");
    return 2;
}

/* --name value or --name=value. */
static int read_option(struct bench_options *o, char **argv, unsigned *i, struct blk_error *err)
{
    char *name = argv[*i] + 2;
    char *value = strchr(name, '=');
    if (value)
        *value++ = '\0';
    else
        value = argv[++*i];
    if (!value) {
        --*i;
        memcpy(err->text, "an option has no value", 23);
        return -EINVAL;
    }
    return bench_option_set(o, name, value, err);
}

int shell_bench(unsigned argc, char **argv)
{
    struct bench_options options;
    struct blk_error err = {0};
    const char *devices[16];
    unsigned n = 0;
    bool json = false;
    bench_options_init(&options);
    for (unsigned i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) {
            json = true;
        } else if (!strncmp(argv[i], "--", 2)) {
            const int r = read_option(&options, argv, &i, &err);
            if (r < 0)
                return usage(r == -ENOENT ? "there is no such option" : err.text);
        } else if (n < ARRAY_SIZE(devices)) {
            devices[n++] = argv[i];
        }
    }
    if (!n)
        return usage("which device?");
    if (bench_options_finish(&options, 3 * BENCH_SECOND, &err) < 0)
        return usage(err.text);
    int status = 0;
    for (unsigned i = 0; i < n; i++)
        status |= measure(devices[i], &options.job, json);
    return status;
}
