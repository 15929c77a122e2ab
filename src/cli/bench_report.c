/*
 * The report: one page that needs nothing else. Paths of a family share a scale; each job is a
 * small chart of bars with their spread; two charts of a family show how latency grows.
 */
#include "cli/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- text ------------------------------------------------------------------------------ */

void bench_report_text(FILE *f, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '<':
            fputs("&lt;", f);
            break;
        case '>':
            fputs("&gt;", f);
            break;
        case '&':
            fputs("&amp;", f);
            break;
        case '"':
            fputs("&quot;", f);
            break;
        default:
            fputc(*text, f);
        }
}

static const char style[] =
    ":root{--bg:#fbfaf7;--card:#fff;--ink:#1d2530;--soft:#5d6875;--line:#e2ddd3;--own:#1f6f8b;"
    "--peer:#b7723a;--track:#f0ece3}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181d;--card:#1b2128;--ink:#e7e9ec;"
    "--soft:#9aa5b1;--line:#2c343d;--own:#58b4d1;--peer:#e0a063;--track:#242b33}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 "
    "system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\n"
    "main{max-width:1080px;margin:0 auto;padding:24px 16px 64px}h1{font-size:1.7rem;margin:0 0 "
    "4px}h2{font-size:1.25rem;margin:40px 0 4px;border-top:2px solid var(--line);padding-top:20px}"
    "h3{font-size:.95rem;margin:0 0 10px}\n"
    "p{max-width:46rem}.soft{color:var(--soft)}.grid{display:grid;grid-template-columns:repeat("
    "auto-fit,minmax(min(100%,320px),1fr));gap:14px;margin-top:14px}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px "
    "16px;break-inside:avoid;min-width:0}\n"
    ".row{margin:0 0 9px;font-size:.86rem}.row b{font-variant-numeric:tabular-nums;float:right;"
    "font-weight:600}.track{clear:both;background:var(--track);border-radius:4px;height:11px;"
    "position:relative;margin-top:2px}.bar{height:11px;border-radius:4px;background:var(--own)}"
    ".peer .bar{background:var(--peer)}.spread{position:absolute;top:4px;height:3px;background:"
    "var(--ink);opacity:.55;border-radius:2px}\n"
    ".key{display:inline-block;width:12px;height:12px;border-radius:3px;background:var(--own);"
    "vertical-align:-1px;margin:0 5px 0 0}.key.peer{background:var(--peer);margin-left:14px}\n"
    "ul.say{padding-left:1.2em;max-width:46rem}.say li{margin:4px 0}svg{width:100%;height:auto;"
    "display:block}svg text{fill:var(--soft);font-size:11px}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.84rem;width:100%}"
    "th,td{padding:4px 10px 4px 0;text-align:right;border-bottom:1px solid var(--line);"
    "white-space:nowrap;font-variant-numeric:tabular-nums}th:first-child,td:first-child{"
    "text-align:left}td.peer{color:var(--peer)}tr.job th{text-align:left;padding-top:16px}\n"
    ".legend{font-size:.8rem;display:flex;flex-wrap:wrap;gap:2px 14px;margin-top:6px}"
    ".legend i{display:inline-block;width:16px;height:3px;vertical-align:middle;margin-right:5px}\n"
    "@media print{body{background:#fff;font-size:12px}main{max-width:none;padding:0}.grid{"
    "grid-template-columns:1fr 1fr}.bar,.key,.spread,.track{-webkit-print-color-adjust:exact;"
    "print-color-adjust:exact}}\n";

static void head(FILE *f, const struct bench_matrix *m)
{
    struct bench_machine machine;
    char size[16], time[16];
    bench_machine_get(&machine);
    fprintf(
        f,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
        "name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Ashlar: what "
        "each path to storage costs</title>\n<style>\n%s</style></head><body><main>\n",
        style);
    fprintf(f,
            "<h1>What each path to storage costs</h1>\n<p class=\"soft\">Measured by ashlar %s "
            "on %s.<br>",
            ASHLAR_VERSION, machine.date);
    bench_report_text(f, machine.cpu);
    fprintf(f, ", %u processors, %s of memory; ", machine.cpus,
            cli_format_size(machine.memory, size));
    bench_report_text(f, machine.kernel);
    fprintf(f,
            ".</p>\n<p>Every path was measured by the same client (but Linux guests by fio and "
            "qemu-img by itself), in %u round%s",
            m->rounds, m->rounds == 1 ? "" : "s");
    if (m->job[0].job.runtime)
        fprintf(f, " of %s for each job", bench_format_time(m->job[0].job.runtime, time));
    fprintf(f, ", one path after the other and then again, so that a change in the machine's speed "
               "hits all alike. A bar is the median round; the dark line in it reaches from the "
               "lowest to the highest. Longer is better.</p>\n"
               "<p><span class=\"key\"></span>Ashlar<span class=\"key peer\"></span>others, for "
               "comparison</p>\n");
}

/* ---- in words -------------------------------------------------------------------------- */

/* The best path of a family under a job, ours or a peer; -1 if there is none. */
static int best(const struct bench_matrix *m, const char *family, unsigned job, bool peer)
{
    int found = -1;
    for (unsigned p = 0; p < m->path_count; p++) {
        if (m->path[p].peer != peer || strcmp(m->path[p].family, family) ||
            !bench_cell(m, p, job)->rounds)
            continue;
        if (found < 0 ||
            bench_figure(m, p, job)->median > bench_figure(m, (unsigned)found, job)->median)
            found = (int)p;
    }
    return found;
}

static void say_ratio(FILE *f, const struct bench_matrix *m, const char *family, unsigned job)
{
    int own = best(m, family, job, false), peer = best(m, family, job, true);
    char a[32], b[32];
    if (own < 0 || peer < 0)
        return;
    double x = bench_figure(m, (unsigned)own, job)->median;
    double y = bench_figure(m, (unsigned)peer, job)->median;
    fprintf(f, "<li>");
    const char *title = m->job[job].title;
    bench_report_text(f, title);
    fprintf(f, "%s", title[strlen(title) - 1] == '?' ? " " : ": ");
    bench_report_text(f, m->path[own].title);
    fprintf(f, " reaches %s, <strong>%.2f times</strong> the best other path (",
            bench_format_figure(x, m->job[job].bandwidth, a), y > 0 ? x / y : 0);
    bench_report_text(f, m->path[peer].title);
    fprintf(f, ", %s).</li>\n", bench_format_figure(y, m->job[job].bandwidth, b));
}

/* ---- bars ------------------------------------------------------------------------------ */

static void bar(FILE *f, const struct bench_matrix *m, unsigned path, unsigned job, double scale)
{
    const struct bench_spread *s = bench_figure(m, path, job);
    char figure[32];
    fprintf(f, "<div class=\"row%s\">", m->path[path].peer ? " peer" : "");
    bench_report_text(f, m->path[path].title);
    if (!bench_cell(m, path, job)->rounds) {
        fprintf(f, "<b>failed</b><div class=\"track\"></div></div>\n");
        return;
    }
    if (m->job[job].question)
        fprintf(f, ", %" PRIu64 " bytes returned", bench_cell(m, path, job)->returned);
    fprintf(f,
            " <b>%s</b><div class=\"track\"><div class=\"bar\" style=\"width:%.2f%%\"></div>"
            "<div class=\"spread\" style=\"left:%.2f%%;width:%.2f%%\"></div></div></div>\n",
            bench_format_figure(s->median, m->job[job].bandwidth, figure), s->median / scale * 100,
            s->min / scale * 100, (s->max - s->min) / scale * 100);
}

static void bars(FILE *f, const struct bench_matrix *m, const char *family, unsigned job)
{
    double scale = 0;
    for (unsigned p = 0; p < m->path_count; p++)
        if (!strcmp(m->path[p].family, family) && bench_figure(m, p, job)->max > scale)
            scale = bench_figure(m, p, job)->max;
    if (scale <= 0)
        return;
    fprintf(f, "<div class=\"card\"><h3>");
    bench_report_text(f, m->job[job].title);
    fprintf(f, "</h3>\n");
    for (unsigned p = 0; p < m->path_count; p++)
        if (!strcmp(m->path[p].family, family) && !m->path[p].unavailable[0] &&
            bench_applies(m, p, job))
            bar(f, m, p, job, scale);
    fprintf(f, "</div>\n");
}

/* ---- latency curves -------------------------------------------------------------------- */

enum { WIDTH = 460, HEIGHT = 250, LEFT = 56, RIGHT = 12, TOP = 10, BOTTOM = 30 };

static const char *const colours[] = {"#1f8fb5", "#d0802f", "#5aa02c", "#b04a9c",
                                      "#7a6ff0", "#c9a400", "#d04a4a", "#4a7f7f"};

/* Across: how rare a request is, so that each nine has the same width. */
static double across(double share)
{
    double nines = -log10(share >= 0.99999 ? 0.00001 : 1 - share);
    return LEFT + nines / 5 * (WIDTH - LEFT - RIGHT);
}

static double up(double ns, double low, double high)
{
    double part = (log10(ns) - log10(low)) / (log10(high) - log10(low));
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
}

static void axes(FILE *f, double low, double high)
{
    static const struct {
        double share;
        const char *name;
    } marks[] = {{0.0, "0"},    {0.5, "50%"},     {0.9, "90%"},
                 {0.99, "99%"}, {0.999, "99.9%"}, {0.9999, "99.99%"}};
    char text[16];
    for (double v = low; v <= high * 1.01; v *= 10) {
        double y = up(v, low, high);
        fprintf(f,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"var(--line)\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4,
                bench_format_time((uint64_t)(v + 0.5), text));
    }
    for (unsigned i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                across(marks[i].share), HEIGHT - 10, marks[i].name);
}

static void curve(FILE *f, const struct bench_side *s, const char *colour, bool dashed, double low,
                  double high)
{
    fprintf(f, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\"%s points=\"", colour,
            dashed ? " stroke-dasharray=\"5 3\"" : "");
    for (unsigned i = 0; i < BENCH_CURVE_POINTS; i++) {
        double ns = (double)s->curve[i];
        ns = ns > low ? ns : low;
        fprintf(f, "%.1f,%.1f ", across(bench_curve_ppm[i] / 1e6), up(ns, low, high));
    }
    fprintf(f, "\"/>\n");
}

static void latency_chart(FILE *f, const struct bench_matrix *m, const char *family, unsigned job)
{
    double low = 1e12, high = 0;
    unsigned shown = 0;
    for (unsigned p = 0; p < m->path_count; p++) {
        const struct bench_side *s = &bench_cell(m, p, job)->typical;
        if (strcmp(m->path[p].family, family) || !s->max)
            continue;
        double least = s->curve[0] ? (double)s->curve[0] : 1, most = (double)s->max;
        low = least < low ? least : low;
        high = most > high ? most : high;
        shown++;
    }
    if (!shown)
        return;
    low = pow(10, floor(log10(low)));
    high = pow(10, ceil(log10(high > low ? high : low * 10)));
    fprintf(f, "<div class=\"card\"><h3>Latency: ");
    bench_report_text(f, m->job[job].title);
    fprintf(f, "</h3>\n<svg viewBox=\"0 0 %d %d\" role=\"img\">", WIDTH, HEIGHT);
    axes(f, low, high);
    unsigned k = 0;
    for (unsigned p = 0; p < m->path_count; p++)
        if (!strcmp(m->path[p].family, family) && bench_cell(m, p, job)->typical.max)
            curve(f, &bench_cell(m, p, job)->typical, colours[k++ % 8], m->path[p].peer, low, high);
    fprintf(f, "</svg>\n<div class=\"legend\">");
    k = 0;
    for (unsigned p = 0; p < m->path_count; p++)
        if (!strcmp(m->path[p].family, family) && bench_cell(m, p, job)->typical.max) {
            fprintf(f, "<span><i style=\"background:%s\"></i>", colours[k++ % 8]);
            bench_report_text(f, m->path[p].title);
            fprintf(f, "</span>");
        }
    fprintf(f, "</div></div>\n");
}

/* ---- the page -------------------------------------------------------------------------- */

/* Is this the first path of its family? */
static bool starts_family(const struct bench_matrix *m, unsigned path)
{
    for (unsigned p = 0; p < path; p++)
        if (!strcmp(m->path[p].family, m->path[path].family))
            return false;
    return true;
}

static bool measured(const struct bench_matrix *m, const char *family)
{
    for (unsigned p = 0; p < m->path_count; p++)
        for (unsigned j = 0; j < m->job_count; j++)
            if (!strcmp(m->path[p].family, family) && bench_cell(m, p, j)->rounds)
                return true;
    return false;
}

static void family_section(FILE *f, const struct bench_matrix *m, const char *family)
{
    if (!measured(m, family))
        return;
    fprintf(f, "<h2>");
    bench_report_text(f, family);
    fprintf(f, "</h2>\n<ul class=\"say\">\n");
    for (unsigned j = 0; j < m->job_count; j++)
        say_ratio(f, m, family, j);
    fprintf(f, "</ul>\n<div class=\"grid\">\n");
    for (unsigned j = 0; j < m->job_count; j++)
        bars(f, m, family, j);
    for (unsigned j = 0; j < m->job_count; j++)
        if (!m->job[j].bandwidth && m->job[j].job.read_percent == 100)
            latency_chart(f, m, family, j);
    fprintf(f, "</div>\n");
}

static void table_row(FILE *f, const struct bench_matrix *m, unsigned p, unsigned j)
{
    const struct bench_cell *c = bench_cell(m, p, j);
    const struct bench_spread *s = bench_figure(m, p, j);
    const uint64_t times[] = {c->typical.mean, c->typical.p50,  c->typical.p95,
                              c->typical.p99,  c->typical.p999, c->typical.max};
    char a[32], b[32], d[32], t[16];
    if (!c->rounds)
        return;
    fprintf(f, "<tr><td%s>", m->path[p].peer ? " class=\"peer\"" : "");
    bench_report_text(f, m->path[p].title);
    fprintf(f, "</td><td>%s</td><td>%s</td><td>%s</td>",
            bench_format_figure(s->median, m->job[j].bandwidth, a),
            bench_format_figure(s->min, m->job[j].bandwidth, b),
            bench_format_figure(s->max, m->job[j].bandwidth, d));
    for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        fprintf(f, "<td>%s</td>", bench_format_time(times[i], t));
    fprintf(f, "</tr>\n");
}

static void table(FILE *f, const struct bench_matrix *m)
{
    fprintf(f, "<h2>All figures</h2>\n<p class=\"soft\">Latencies are of the round with the median "
               "figure; percentiles are at most 3%% above the true value.</p>\n<div "
               "class=\"wide\"><table>\n<tr><th>path</th><th>median</th><th>lowest</th>"
               "<th>highest</th><th>mean</th><th>p50</th><th>p95</th><th>p99</th><th>p99.9</th>"
               "<th>max</th></tr>\n");
    for (unsigned j = 0; j < m->job_count; j++) {
        fprintf(f, "<tr class=\"job\"><th colspan=\"10\">");
        bench_report_text(f, m->job[j].title);
        fprintf(f, "</th></tr>\n");
        for (unsigned p = 0; p < m->path_count; p++)
            table_row(f, m, p, j);
    }
    fprintf(f, "</table></div>\n");
}

static void missing(FILE *f, const struct bench_matrix *m)
{
    bool any = false;
    for (unsigned p = 0; p < m->path_count; p++) {
        if (!m->path[p].unavailable[0])
            continue;
        fprintf(f, any ? "<li>" : "<h2>Not measured</h2>\n<ul><li>");
        any = true;
        bench_report_text(f, m->path[p].title);
        fprintf(f, ": ");
        bench_report_text(f, m->path[p].unavailable);
        fprintf(f, "</li>\n");
    }
    if (any)
        fprintf(f, "</ul>\n");
}

int bench_write_report(const struct bench_matrix *m, const char *file)
{
    FILE *f = fopen(file, "we");
    if (!f)
        return cli_failed(m->cli, "--report %s: cannot be written: %s", file, strerror(errno));
    head(f, m);
    for (unsigned p = 0; p < m->path_count; p++)
        if (starts_family(m, p))
            family_section(f, m, m->path[p].family);
    bench_report_guests(f, m);
    missing(f, m);
    table(f, m);
    fprintf(f, "</main></body></html>\n");
    bool bad = ferror(f);
    if (fclose(f) || bad)
        return cli_failed(m->cli, "--report %s: cannot be written: %s", file, strerror(errno));
    return CLI_OK;
}
