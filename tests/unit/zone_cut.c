/*
 * The zns filter and power cuts: a random workload on several queues runs over a log of what
 * reached the device below; then the power is cut after each record, with what was not flushed
 * lost, torn or reordered, and the zones are opened again and must hold what was promised, and
 * nothing that was not written.
 */
#include "test.h"

#include <ashlar/zone.h>

#include "base/platform.h"
#include "base/util.h"
#include "blk/log_replay.h"
#include "zone_ram.h"

enum { BLOCK = 512, ZONE = 16384, CAP = 12288, CAP_BLOCKS = CAP / BLOCK };
enum { ZONES = 7, STEP = 8 * ZONE }; /* every eighth zone, so that their pages are several */
enum { QUEUES = 2, DEPTH = 6, WRITES = 4000, OPS = 200 };

#define NEVER UINT64_MAX

/* What the caller knows of each write, in the order of submission. Its blocks hold its number. */
struct write {
    unsigned zone, life; /* life: resets of the zone before it */
    unsigned block, blocks;
    int result;
    uint64_t done;    /* when it completed, by the count of completions; NEVER: it failed */
    uint64_t promise; /* FUA: the log's length when it completed */
};

struct flush {
    uint64_t submitted; /* by the count of completions */
    uint64_t promise;
};

struct change { /* a reset or finish */
    unsigned zone, life;
    uint64_t submitted; /* the log's length */
    uint64_t promise;
};

struct op {
    struct blk_req req;
    bool busy;
    unsigned index; /* in the array of its kind */
    char data[4 * BLOCK];
};

static struct {
    struct blk *dev;
    struct blk_queue *queue[QUEUES];
    struct blk_queue *side; /* for reports, which would else move the others along */
    struct op op[QUEUES][DEPTH];
    struct write write[WRITES];
    struct flush flush[OPS];
    struct change reset[OPS], finish[OPS];
    unsigned writes, flushes, resets, finishes;
    unsigned life[ZONES];
    bool resetting[ZONES];
    uint64_t completions;
    uint64_t random;
    unsigned failed, holes;
} w;

/* ---- the workload ------------------------------------------------------------------------ */

static void note_change(struct change *list, const struct blk_req *r, unsigned index)
{
    struct change *c = &list[index];
    if (r->result < 0)
        c->submitted = NEVER; /* it was refused, and nothing happened */
    else
        c->promise = blk_log_recorded(w.dev);
}

static void completed(struct op *op)
{
    struct blk_req *r = &op->req;
    op->busy = false;
    w.completions++;
    if (r->op == BLK_FLUSH) {
        assert_int_equal(r->result, 0);
        w.flush[op->index].promise = blk_log_recorded(w.dev);
    } else if (r->op == BLK_ZONE_FINISH) {
        note_change(w.finish, r, op->index);
    } else if (r->op == BLK_ZONE_RESET) {
        unsigned zone = w.reset[op->index].zone;
        w.resetting[zone] = false;
        note_change(w.reset, r, op->index);
        w.life[zone] += r->result == 0;
    } else {
        struct write *e = &w.write[op->index];
        e->result = r->result;
        e->block = (unsigned)(r->offset % ZONE / BLOCK);
        w.failed += r->result == -EIO;
        if (r->result == 0) {
            e->done = w.completions;
            e->promise = r->flags & BLK_FUA ? blk_log_recorded(w.dev) : NEVER;
        }
    }
}

static void reap(unsigned q, int64_t timeout)
{
    struct blk_req *done[DEPTH];
    unsigned n = blk_reap(w.queue[q], done, DEPTH, timeout);
    for (unsigned i = 0; i < n; i++)
        completed(done[i]->user);
}

static void prepare_write(struct op *op, unsigned zone, bool append)
{
    struct write *e = &w.write[w.writes];
    struct blk_zone z;
    uint64_t at = (uint64_t)zone * STEP;
    assert_true(w.writes < WRITES);
    *e = (struct write){.zone = zone, .life = w.life[zone], .done = NEVER, .promise = NEVER};
    e->blocks = 1 + (unsigned)random_below(&w.random, 4);
    if (!append) {
        assert_int_equal(blk_zone_report(w.side, at, &z, 1), 1);
        at = z.wp < at + ZONE ? z.wp : at;
    }
    for (unsigned i = 0; i < e->blocks * BLOCK / 4; i++)
        store_le32(op->data + i * 4, w.writes + 1);
    blk_req_data(&op->req, append ? BLK_ZONE_APPEND : BLK_WRITE, at, op->data, e->blocks * BLOCK);
    op->req.flags = random_below(&w.random, 6) ? 0 : BLK_FUA;
    op->index = w.writes++;
}

static void prepare(struct op *op)
{
    uint64_t what = random_below(&w.random, 100);
    unsigned zone = (unsigned)random_below(&w.random, ZONES);
    uint64_t now = blk_log_recorded(w.dev);
    if (what < 70 || w.flushes == OPS || w.resets == OPS || w.finishes == OPS) {
        prepare_write(op, zone, what < 55);
    } else if (what < 84) {
        blk_req_init(&op->req, BLK_FLUSH, 0, 0);
        w.flush[w.flushes] = (struct flush){w.completions, NEVER};
        op->index = w.flushes++;
    } else if (what < 93 && !w.resetting[zone]) {
        blk_req_init(&op->req, BLK_ZONE_RESET, zone * STEP, 0);
        w.reset[w.resets] = (struct change){zone, w.life[zone] + 1, now, NEVER};
        w.resetting[zone] = true;
        op->index = w.resets++;
    } else {
        blk_req_init(&op->req, BLK_ZONE_FINISH, zone * STEP, 0);
        w.finish[w.finishes] = (struct change){zone, w.life[zone], now, NEVER};
        op->index = w.finishes++;
    }
}

static struct op *idle_op(unsigned q)
{
    for (;; reap(q, BLK_FOREVER))
        for (unsigned i = 0; i < DEPTH; i++)
            if (!w.op[q][i].busy)
                return &w.op[q][i];
}

static void submit(unsigned q)
{
    struct op *op = idle_op(q);
    struct blk_req *r = &op->req;
    prepare(op);
    r->user = op;
    op->busy = true;
    assert_int_equal(blk_submit(w.queue[q], &r, 1), 1);
    if (r->op == BLK_ZONE_RESET) /* that of an empty zone is done at once: note it first */
        reap(q, 0);
}

static void run_workload(const char *spec, uint64_t seed)
{
    memset(&w, 0, sizeof(w));
    w.random = seed;
    w.dev = test_open(spec);
    w.side = test_queue(w.dev, 1);
    for (unsigned q = 0; q < QUEUES; q++)
        w.queue[q] = test_queue(w.dev, DEPTH + 1);
    for (unsigned i = 0; i < OPS; i++) {
        unsigned q = (unsigned)random_below(&w.random, QUEUES);
        submit(q);
        if (!random_below(&w.random, 3))
            reap(q, random_below(&w.random, 2) ? 0 : 50000);
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        while (blk_queue_in_flight(w.queue[q]))
            reap(q, BLK_FOREVER);
        blk_queue_close(w.queue[q]);
    }
    blk_queue_close(w.side);
}

/* ---- what must be there after a cut ------------------------------------------------------- */

struct zone_view {
    struct blk_zone zone;
    uint32_t number[CAP_BLOCKS]; /* of the write that is in each block; 0: zeroes */
};

static void look(struct blk_queue *q, unsigned index, struct zone_view *v)
{
    static uint8_t data[ZONE];
    assert_int_equal(blk_zone_report(q, index * STEP, &v->zone, 1), 1);
    assert_int_equal(blk_read(q, index * STEP, data, ZONE), 0);
    for (unsigned b = 0; b < ZONE / BLOCK; b++) {
        uint32_t n = load_le32(data + b * BLOCK);
        for (unsigned i = 1; i < BLOCK / 4; i++)
            if (load_le32(data + b * BLOCK + i * 4) != n)
                fail_msg("zone %u block %u is torn", index, b);
        if (b < CAP_BLOCKS)
            v->number[b] = n;
        else
            assert_int_equal(n, 0);
    }
}

static bool is_written_there(uint32_t number, unsigned zone, unsigned block, unsigned life)
{
    const struct write *e = &w.write[number - 1];
    return number <= w.writes && e->result == 0 && e->done != NEVER && e->zone == zone &&
           e->life == life && block >= e->block && block < e->block + e->blocks;
}

/* All that can be read is of one life, in its place, below the write pointer. Which life; -1: there
 * is nothing. */
static int check_contents(const struct zone_view *v, unsigned zone, uint64_t cut)
{
    int life = -1;
    for (unsigned b = 0; b < CAP_BLOCKS; b++) {
        uint32_t n = v->number[b];
        if (!n)
            continue;
        if (life < 0 && n <= w.writes)
            life = (int)w.write[n - 1].life;
        if (!is_written_there(n, zone, b, (unsigned)life))
            fail_msg("cut after %llu: zone %u block %u holds write %u, which is not there",
                     (unsigned long long)cut, zone, b, n);
        if (v->zone.state != BLK_ZONE_FULL)
            assert_true(zone * STEP + b * BLOCK < v->zone.wp);
    }
    return life;
}

static void check_zone(struct blk_queue *q, unsigned zone, uint64_t cut, uint64_t flushed)
{
    struct zone_view v;
    unsigned least = 0, most = 0; /* lives that may be */
    look(q, zone, &v);
    for (unsigned i = 0; i < w.resets; i++) {
        const struct change *c = &w.reset[i];
        if (c->zone == zone && c->promise <= cut)
            least = c->life;
        if (c->zone == zone && c->submitted <= cut && c->submitted != NEVER)
            most = c->life;
    }
    int life = check_contents(&v, zone, cut);
    if (life >= 0 && ((unsigned)life < least || (unsigned)life > most))
        fail_msg("cut after %llu: zone %u is of life %d, not of %u to %u", (unsigned long long)cut,
                 zone, life, least, most);
    if (least != most)
        return; /* a reset is on its way, which may undo what was promised */
    for (unsigned i = 0; i < w.writes; i++) {
        const struct write *e = &w.write[i];
        if (e->zone != zone || e->life != least || (e->done > flushed && e->promise > cut))
            continue;
        for (unsigned b = e->block; b < e->block + e->blocks; b++)
            if (v.number[b] != i + 1)
                fail_msg("cut after %llu: zone %u block %u holds %u, promised %u",
                         (unsigned long long)cut, zone, b, v.number[b], i + 1);
        assert_true(v.zone.wp >= zone * STEP + (e->block + e->blocks) * BLOCK);
    }
    for (unsigned i = 0; i < w.finishes; i++)
        if (w.finish[i].zone == zone && w.finish[i].life == least && w.finish[i].promise <= cut &&
            v.zone.state != BLK_ZONE_READ_ONLY)
            assert_int_equal(v.zone.state, BLK_ZONE_FULL);
    for (unsigned b = 0; b < CAP_BLOCKS && zone * STEP + b * BLOCK < v.zone.wp; b++)
        w.holes += !v.number[b];
}

static void check_cut(struct blk_log *log, const char *spec, const struct blk_log_cut *cut)
{
    memset(ram, 0, sizeof(ram));
    struct blk_queue *target = test_queue(test_open("ram:1M"), 1);
    assert_int_equal(blk_log_apply(log, target, cut), 0);
    test_close(target);
    struct blk_queue *q = test_queue(test_open(spec), 2);
    uint64_t flushed = 0;
    for (unsigned i = 0; i < w.flushes; i++)
        if (w.flush[i].promise <= cut->records)
            flushed = max_u64(flushed, w.flush[i].submitted);
    for (unsigned z = 0; z < ZONES; z++)
        check_zone(q, z, cut->records, flushed);
    /* It goes on as if nothing had been. */
    if (cut->records % 16 == 0)
        for (unsigned z = 0; z < ZONES; z++) {
            static char data[BLOCK];
            uint64_t place;
            struct blk_zone zone;
            assert_int_equal(blk_zone_report(q, z * STEP, &zone, 1), 1);
            int got = blk_zone_append(q, z * STEP, data, BLOCK, BLK_FUA, &place);
            if (got == -BLK_ZONE_IS_FULL || got == -BLK_ZONE_IS_READ_ONLY)
                assert_int_equal(zone.state,
                                 got == -BLK_ZONE_IS_FULL ? BLK_ZONE_FULL : BLK_ZONE_READ_ONLY);
            else if (got == -BLK_ZONE_TOO_MANY_ACTIVE)
                assert_int_equal(zone.state, BLK_ZONE_EMPTY);
            else
                assert_true(got == 0 && place == zone.wp);
        }
    test_close(q);
}

static bool nothing_arrives(void *arg, const struct blk_log_record *r, uint64_t block)
{
    (void)arg;
    (void)r;
    (void)block;
    return false;
}

/* Of the last record only every second block; all that came before. */
static bool last_is_torn(void *arg, const struct blk_log_record *r, uint64_t block)
{
    return r->sequence != *(uint64_t *)arg || block % 2 == 0;
}

static void every_cut(const char *above, const char *below, uint64_t seed)
{
    char spec[256];
    struct blk_log *log;
    snprintf(spec, sizeof(spec), "zns?zone=%d&cap=%d&max_open=3&max_active=5,%slog?to=mem:8M,%s",
             ZONE, CAP, above, below);
    run_workload(spec, seed);
    uint64_t records = blk_log_recorded(w.dev);
    assert_int_equal(blk_log_open(blk_log_device(w.dev), &log, NULL), 0);
    snprintf(spec, sizeof(spec), "zns?zone=%d&cap=%d,ram:1M", ZONE, CAP);
    for (uint64_t n = 0; n <= records; n++)
        for (uint64_t way = 0; way < 6; way++) {
            uint64_t arg = way == 2 ? n : seed * 100 + way;
            struct blk_log_cut cut = {.records = n, .arg = &arg};
            cut.arrives = way == 0   ? NULL
                          : way == 1 ? nothing_arrives
                          : way == 2 ? last_is_torn
                                     : blk_log_arrives_by_chance;
            check_cut(log, spec, &cut);
        }
    blk_log_close(log);
    assert_int_equal(blk_close(w.dev), 0);
}

/* Completions out of order, so that zones are committed while writes to them are in flight. */
static void cuts(void **state)
{
    (void)state;
    unsigned holes = 0;
    for (uint64_t seed = 1; seed <= (uint64_t)test_rounds(6); seed++) {
        every_cut("", "delay?jitter=150us,mem:1M", seed);
        holes += w.holes;
        assert_true(w.flushes > 10 && w.resets > 5);
    }
    assert_true(holes > 0);
}

/* The same when some writes of data fail. */
static void cuts_and_failures(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (uint64_t seed = 1; seed <= (uint64_t)test_rounds(6); seed++) {
        every_cut("", "fault?op=write&fraction=8%&offset=48K,delay?jitter=150us,mem:1M", seed);
        failed += w.failed;
    }
    assert_true(failed > 10);
}

/* The same with a cache in between, which writes back when it likes. */
static void cuts_below_a_cache(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= (uint64_t)test_rounds(2); seed++)
        every_cut("cache?size=64K&block=512,", "delay?jitter=50us,mem:1M", seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts),
        cmocka_unit_test(cuts_and_failures),
        cmocka_unit_test(cuts_below_a_cache),
    };
    if (blk_driver_register(&ram_driver) < 0)
        return 1;
    return cmocka_run_group_tests_name("zone_cut", tests, NULL, NULL);
}
