/* ashlar copy FROM TO: many requests in flight, holes are left holes. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

enum { MAX_EXTENTS = 64 };

/* One piece of data on its way: read from the source, then written (or compared). */
struct piece {
    struct blk_req read;
    struct blk_req write;
    char *data;
    char *other; /* verify: what the target holds */
    uint64_t offset;
    uint64_t len;
    unsigned waiting; /* requests in flight for it */
};

struct copy {
    struct cli *cli;
    struct blk *from, *to;
    struct blk_queue *from_queue, *to_queue;
    uint64_t size;
    uint64_t piece_size;
    unsigned depth;
    bool verify; /* this pass compares */
    bool sparse; /* the source's holes need not be read; the target is made to read zeroes */
    struct piece *pieces;
    struct piece **idle; /* stack of pieces without work */
    unsigned idle_count;
    uint64_t at;   /* all before it was handed out */
    uint64_t done; /* bytes finished */
    uint64_t copied;
    struct blk_extent extent[MAX_EXTENTS]; /* what lies from `at` on */
    unsigned extents, extent_at;
    int error;
    uint64_t error_offset;
    const char *error_what;
    const struct blk *error_device;
};

/* The first error counts. */
static void set_error(struct copy *c, int error, const struct blk *dev, uint64_t offset,
                      const char *what)
{
    if (c->error == 0) {
        c->error = error;
        c->error_offset = offset;
        c->error_what = what;
        c->error_device = dev;
    }
}

/* ---- what comes next ------------------------------------------------------------------- */

/* The extent that starts at c->at; the source is asked again when the known ones are used up. */
static int next_extent(struct copy *c, struct blk_extent *e)
{
    if (c->extent_at == c->extents) {
        int n = blk_status(c->from_queue, c->at, c->size - c->at, c->extent, MAX_EXTENTS);
        if (n < 0)
            return n;
        c->extents = (unsigned)n;
        c->extent_at = 0;
    }
    *e = c->extent[c->extent_at];
    e->len = min_u64(e->len, c->size - c->at);
    return 0;
}

static void consume(struct copy *c, uint64_t len)
{
    struct blk_extent *e = &c->extent[c->extent_at];
    c->at += len;
    e->len -= len;
    if (!e->len)
        c->extent_at++;
}

/* A hole of the source, where the target must read as zeroes too. False: not dealt with, because
 * the target's bytes must be compared. */
static bool take_hole(struct copy *c, uint64_t len)
{
    struct blk_extent e;
    int n = blk_status(c->to_queue, c->at, len, &e, 1);
    bool zero = n == 1 && (e.flags & BLK_EXTENT_ZERO) && e.len >= len;
    if (!zero && c->verify)
        return false;
    int error = zero ? 0 : blk_write_zeroes(c->to_queue, c->at, len, 0);
    if (error < 0)
        set_error(c, error, c->to, c->at, "cannot be zeroed");
    c->done += len;
    consume(c, len);
    return true;
}

/* Start a piece, or deal with a hole. False when there is nothing left to start. */
static bool start_next(struct copy *c)
{
    struct blk_extent e;
    if (c->at == c->size || c->error)
        return false;
    int error = next_extent(c, &e);
    if (error < 0) {
        set_error(c, error, c->from, c->at, "cannot tell its extents");
        return false;
    }
    if (c->sparse && (e.flags & BLK_EXTENT_ZERO) && take_hole(c, e.len))
        return true;
    struct piece *p = c->idle[--c->idle_count];
    struct blk_req *r = &p->read;
    p->offset = c->at;
    p->len = min_u64(e.len, c->piece_size);
    p->waiting = 1;
    blk_req_read(&p->read, p->offset, p->data, p->len);
    blk_submit(c->from_queue, &r, 1);
    if (c->verify) {
        p->waiting = 2;
        r = &p->write;
        blk_req_read(&p->write, p->offset, p->other, p->len);
        blk_submit(c->to_queue, &r, 1);
    }
    consume(c, p->len);
    return true;
}

/* ---- what came back -------------------------------------------------------------------- */

static void retire(struct copy *c, struct piece *p)
{
    c->done += p->len;
    c->copied += p->len;
    c->idle[c->idle_count++] = p;
}

static void compare(struct copy *c, const struct piece *p)
{
    if (c->error || !memcmp(p->data, p->other, p->len))
        return;
    uint64_t i = 0;
    while (p->data[i] == p->other[i])
        i++;
    set_error(c, -EILSEQ, c->to, p->offset + i, "differs from the source");
}

static void read_done(struct copy *c, struct blk_req *r)
{
    struct piece *p = container_of(r, struct piece, read);
    struct blk_req *w = &p->write;
    p->waiting--;
    if (r->result < 0)
        set_error(c, r->result, c->from, r->offset, "cannot be read");
    if (c->verify && !p->waiting)
        compare(c, p);
    if (c->verify || c->error) {
        if (!p->waiting)
            retire(c, p);
        return;
    }
    p->waiting = 1;
    blk_req_write(w, p->offset, p->data, p->len);
    blk_submit(c->to_queue, &w, 1);
}

static void write_done(struct copy *c, struct blk_req *r)
{
    struct piece *p = container_of(r, struct piece, write);
    p->waiting--;
    if (r->result < 0)
        set_error(c, r->result, c->to, r->offset,
                  c->verify ? "cannot be read" : "cannot be written");
    if (p->waiting)
        return;
    if (c->verify)
        compare(c, p);
    retire(c, p);
}

static bool reap_queue(struct copy *c, struct blk_queue *q, int64_t timeout,
                       void (*done)(struct copy *c, struct blk_req *r))
{
    struct blk_req *reqs[64];
    unsigned n = blk_reap(q, reqs, 64, timeout);
    for (unsigned i = 0; i < n; i++)
        done(c, reqs[i]);
    return n > 0;
}

/* Take what is done on either side; wait on one side only when neither has anything. */
static void reap(struct copy *c)
{
    bool any = reap_queue(c, c->from_queue, 0, read_done);
    any |= reap_queue(c, c->to_queue, 0, write_done);
    if (any)
        return;
    const int64_t slice = 2000000; /* the other side is looked at again after 2 ms */
    if (blk_queue_in_flight(c->to_queue))
        reap_queue(c, c->to_queue, blk_queue_in_flight(c->from_queue) ? slice : BLK_FOREVER,
                   write_done);
    else
        reap_queue(c, c->from_queue, BLK_FOREVER, read_done);
}

/* ---- a pass ---------------------------------------------------------------------------- */

static void pass(struct copy *c)
{
    c->at = c->done = c->copied = 0;
    c->extents = c->extent_at = 0;
    while ((c->done < c->size && !c->error) || c->idle_count < c->depth) {
        while (c->idle_count && start_next(c))
            ;
        if (c->idle_count < c->depth)
            reap(c);
        cli_progress(c->verify ? "verify" : "copy", c->done, c->size);
    }
    cli_progress_end();
}

static int set_up(struct copy *c)
{
    const struct blk_info *f = blk_info(c->from), *t = blk_info(c->to);
    uint64_t block = max_u64(f->block_size, t->block_size);
    uint64_t most = min_u64(f->max_transfer, t->max_transfer);
    if (f->size > t->size)
        return cli_failed(c->cli, "%s is %" PRIu64 " bytes, %s only %" PRIu64, blk_spec(c->from),
                          f->size, blk_spec(c->to), t->size);
    if (t->zoned)
        return cli_failed(c->cli,
                          "%s is zoned: it is written zone by zone, so nothing can be copied to it",
                          blk_spec(c->to));
    if (f->size % block)
        return cli_failed(c->cli, "size %" PRIu64 " is not a multiple of the target's blocks of %u",
                          f->size, t->block_size);
    c->size = f->size;
    c->piece_size = round_down(min_u64(max_u64(c->piece_size, block), most), block);
    c->pieces = calloc(c->depth, sizeof(*c->pieces));
    c->idle = calloc(c->depth, sizeof(*c->idle));
    int error = blk_queue_open(c->from, c->depth + 1, &c->from_queue);
    if (error == 0)
        error = blk_queue_open(c->to, c->depth + 1, &c->to_queue);
    for (unsigned i = 0; error == 0 && i < c->depth && c->pieces && c->idle; i++) {
        c->pieces[i].data = blk_buf_alloc(c->from_queue, c->piece_size);
        c->pieces[i].other = blk_buf_alloc(c->to_queue, c->piece_size);
        if (!c->pieces[i].data || !c->pieces[i].other)
            error = -ENOMEM;
        c->idle[c->idle_count++] = &c->pieces[i];
    }
    if (error < 0 || !c->pieces || !c->idle)
        return cli_failed(c->cli, "cannot set up: %s", strerror(error ? -error : ENOMEM));
    return CLI_OK;
}

static int report_error(const struct copy *c)
{
    const char *why = c->error == -EILSEQ ? "" : strerror(-c->error);
    return cli_failed(c->cli, "%s: byte %" PRIu64 " %s%s%s", blk_spec(c->error_device),
                      c->error_offset, c->error_what, *why ? ": " : "", why);
}

static int copy_all(struct copy *c)
{
    char size[16], data[16];
    int code = set_up(c);
    if (code != CLI_OK)
        return code;
    pass(c);
    uint64_t copied = c->copied;
    if (c->error == 0)
        c->error = blk_flush(c->to_queue);
    if (c->error == 0 && cli_flag(c->cli, "verify")) {
        c->verify = true;
        pass(c);
    }
    if (c->error)
        return c->error_what
                   ? report_error(c)
                   : cli_failed(c->cli, "%s: flush: %s", blk_spec(c->to), strerror(-c->error));
    printf("copied %s, %s of it data%s\n", cli_format_size(c->size, size),
           cli_format_size(copied, data), c->verify ? ", verified" : "");
    return CLI_OK;
}

static void clean_up(struct copy *c)
{
    if (c->from_queue)
        blk_queue_close(c->from_queue);
    if (c->to_queue)
        blk_queue_close(c->to_queue);
    free(c->pieces);
    free(c->idle);
    if (c->from)
        blk_close(c->from);
    if (c->to)
        blk_close(c->to);
}

static int run(struct cli *cli)
{
    struct copy c = {
        .cli = cli,
        .depth = (unsigned)cli_number(cli, "depth", 16),
        .piece_size = cli_number(cli, "piece", 256 << 10),
        .sparse = !cli_flag(cli, "no-sparse"),
    };
    if (c.depth < 1 || c.depth > 1024)
        return cli_usage(cli, "--depth must be from 1 to 1024");
    int code = cli_open(cli, cli->operand[0], BLK_OPEN_READ_ONLY, &c.from);
    if (code == CLI_OK)
        code = cli_open(cli, cli->operand[1], 0, &c.to);
    if (code == CLI_OK)
        code = copy_all(&c);
    clean_up(&c);
    return code;
}

static const struct cli_option options[] = {
    {"depth", CLI_COUNT, "N", "pieces in flight; 16 by default"},
    {"piece", CLI_SIZE, "SIZE", "size of a piece; 256K by default"},
    {"no-sparse", CLI_FLAG, NULL, "read and write holes of FROM like data"},
    {"verify", CLI_FLAG, NULL, "afterwards read both devices and compare every byte"},
    {0},
};

static const struct cli_example examples[] = {
    {"ashlar copy file:disk.img 'file:backup.img?create=10G' --verify",
     "copy an image and check the copy"},
    {"ashlar copy 'nbd://127.0.0.1/export' file:/dev/sdx", "bring an NBD export onto a disk"},
    {0},
};

const struct cli_command cli_copy = {
    .name = "copy",
    .operands = "FROM TO",
    .min_operands = 2,
    .max_operands = 2,
    .summary = "copy a device to another",
    .description =
        "Copies every byte of the device FROM to the start of the device TO, which must be at "
        "least as large. What FROM says reads as zeroes is not read, and is left or made a hole "
        "on TO. The last thing done is a flush of TO, so after exit code 0 the copy is durable.",
    .options = options,
    .examples = examples,
    .run = run,
};
