/* Figures as JSON (docs/bench.md has the schema), and a comparison with earlier ones. */
#include "cli/bench.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

enum { SCHEMA = 1 };

/* ---- writing --------------------------------------------------------------------------- */

static json_t *spread_json(const struct bench_spread *s, const double *rounds, unsigned n)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(all, json_real(rounds[i]));
    return json_pack("{s:f, s:f, s:f, s:o}", "median", s->median, "min", s->min, "max", s->max,
                     "rounds", all);
}

static json_t *latency_json(const struct bench_side *s)
{
    json_t *curve = json_array();
    for (unsigned i = 0; i < BENCH_CURVE_POINTS; i++)
        json_array_append_new(curve, json_integer((json_int_t)s->curve[i]));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "mean", (json_int_t)s->mean, "p50",
                     (json_int_t)s->p50, "p95", (json_int_t)s->p95, "p99", (json_int_t)s->p99,
                     "p999", (json_int_t)s->p999, "max", (json_int_t)s->max, "curve", curve);
}

static json_t *machine_json(void)
{
    struct bench_machine machine;
    bench_machine_get(&machine);
    return json_pack("{s:s, s:s, s:i, s:I}", "kernel", machine.kernel, "cpu", machine.cpu, "cpus",
                     (int)machine.cpus, "memory_bytes", (json_int_t)machine.memory);
}

static json_t *jobs_json(const struct bench_matrix *m)
{
    json_t *all = json_array();
    for (unsigned j = 0; j < m->job_count; j++) {
        const struct bench_named_job *n = &m->job[j];
        json_array_append_new(
            all,
            json_pack("{s:s, s:s, s:s, s:b, s:i, s:I, s:i, s:i, s:I, s:I, s:I}", "name", n->name,
                      "title", n->title, "figure", n->bandwidth ? "mbps" : "iops", "random",
                      n->job.pattern == BENCH_RANDOM, "read_percent", (int)n->job.read_percent,
                      "block_bytes", (json_int_t)n->job.block, "depth", (int)n->job.depth,
                      "threads", (int)n->job.threads, "runtime_ns", (json_int_t)n->job.runtime,
                      "warmup_ns", (json_int_t)n->job.warmup, "count", (json_int_t)n->job.count));
    }
    return all;
}

static json_t *paths_json(const struct bench_matrix *m)
{
    json_t *all = json_array();
    for (unsigned p = 0; p < m->path_count; p++) {
        const struct bench_path *path = &m->path[p];
        json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:s}", "name", path->name, "title", path->title,
                              "family", path->family, "peer", path->peer, "spec", path->spec);
        if (path->unavailable[0])
            json_object_set_new(o, "unavailable", json_string(path->unavailable));
        json_array_append_new(all, o);
    }
    return all;
}

static json_t *results_json(const struct bench_matrix *m)
{
    json_t *all = json_array();
    for (unsigned p = 0; p < m->path_count; p++)
        for (unsigned j = 0; j < m->job_count; j++) {
            const struct bench_cell *c = bench_cell(m, p, j);
            if (!c->rounds && !c->error[0])
                continue;
            json_t *o = json_pack("{s:s, s:s}", "path", m->path[p].name, "job", m->job[j].name);
            if (c->error[0])
                json_object_set_new(o, "error", json_string(c->error));
            if (c->rounds) {
                json_object_set_new(o, "iops", spread_json(&c->iops_spread, c->iops, c->rounds));
                json_object_set_new(o, "mbps", spread_json(&c->mbps_spread, c->mbps, c->rounds));
                json_object_set_new(o, "latency_ns", latency_json(&c->typical));
                if (m->job[j].question)
                    json_object_set_new(o, "returned_bytes", json_integer((json_int_t)c->returned));
            }
            json_array_append_new(all, o);
        }
    return all;
}

static json_t *matrix_json(const struct bench_matrix *m)
{
    struct bench_machine machine;
    bench_machine_get(&machine);
    json_t *ppm = json_array();
    for (unsigned i = 0; i < BENCH_CURVE_POINTS; i++)
        json_array_append_new(ppm, json_integer(bench_curve_ppm[i]));
    return json_pack("{s:i, s:s, s:s, s:o, s:i, s:I, s:o, s:o, s:o, s:o}", "schema", SCHEMA,
                     "ashlar", ASHLAR_VERSION, "date", machine.date, "machine", machine_json(),
                     "rounds", (int)m->rounds, "size_bytes", (json_int_t)m->size, "curve_ppm", ppm,
                     "jobs", jobs_json(m), "paths", paths_json(m), "results", results_json(m));
}

int bench_write_json(const struct bench_matrix *m, const char *file)
{
    json_t *root = matrix_json(m);
    int code = CLI_OK;
    if (!root || json_dump_file(root, file, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) < 0)
        code = cli_failed(m->cli, "--json %s: cannot be written: %s", file, strerror(errno));
    json_decref(root);
    return code;
}

/* ---- comparing ------------------------------------------------------------------------- */

static const json_t *find_result(const json_t *root, const char *path, const char *job)
{
    const json_t *results = json_object_get(root, "results"), *r;
    size_t i;
    json_array_foreach(results, i, r)
    {
        const char *p = json_string_value(json_object_get(r, "path"));
        const char *j = json_string_value(json_object_get(r, "job"));
        if (p && j && !strcmp(p, path) && !strcmp(j, job))
            return r;
    }
    return NULL;
}

static bool read_spread(const json_t *result, const char *figure, struct bench_spread *s)
{
    const json_t *o = json_object_get(result, figure);
    const json_t *median = json_object_get(o, "median");
    const json_t *min = json_object_get(o, "min"), *max = json_object_get(o, "max");
    if (!json_is_number(median) || !json_is_number(min) || !json_is_number(max))
        return false;
    *s = (struct bench_spread){json_number_value(median), json_number_value(min),
                               json_number_value(max)};
    return s->median > 0;
}

/* Beyond the noise: the rounds of one time all lie above those of the other, and the medians are
 * more than 5 % apart. */
static int verdict(const struct bench_spread *before, const struct bench_spread *now)
{
    double ratio = now->median / before->median;
    if (now->min > before->max && ratio > 1.05)
        return 1;
    if (now->max < before->min && ratio < 0.95)
        return -1;
    return 0;
}

static void compare_cell(const struct bench_matrix *m, const json_t *root, unsigned p, unsigned j,
                         unsigned counts[3])
{
    static const char *const words[] = {"slower", "same", "faster"};
    bool bandwidth = m->job[j].bandwidth;
    const struct bench_spread *now = bench_figure(m, p, j);
    struct bench_spread before;
    char a[32], b[32];
    if (!bench_cell(m, p, j)->rounds ||
        !read_spread(find_result(root, m->path[p].name, m->job[j].name),
                     bandwidth ? "mbps" : "iops", &before))
        return;
    int v = verdict(&before, now);
    counts[v + 1]++;
    if (v)
        printf("%s: %s, %s: %s -> %s (%.2f times)\n", words[v + 1], m->path[p].name,
               m->job[j].title, bench_format_figure(before.median, bandwidth, a),
               bench_format_figure(now->median, bandwidth, b), now->median / before.median);
}

int bench_compare(const struct bench_matrix *m, const char *file)
{
    json_error_t why;
    unsigned counts[3] = {0, 0, 0};
    json_t *root = json_load_file(file, 0, &why);
    if (!root)
        return cli_failed(m->cli, "--compare %s: %s", file, why.text);
    if (json_integer_value(json_object_get(root, "schema")) != SCHEMA) {
        json_decref(root);
        return cli_failed(m->cli, "--compare %s: is not a file of --json of this version", file);
    }
    const char *date = json_string_value(json_object_get(root, "date"));
    printf("\ncompared with %s (%s)\n", file, date ? date : "no date");
    for (unsigned p = 0; p < m->path_count; p++)
        for (unsigned j = 0; j < m->job_count; j++)
            compare_cell(m, root, p, j, counts);
    printf("%u faster, %u slower, %u the same within the noise\n", counts[2], counts[0], counts[1]);
    json_decref(root);
    return CLI_OK;
}
