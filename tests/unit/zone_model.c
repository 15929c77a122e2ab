/* The zns filter against a model in a few lines: random operations one by one, many in flight, from
 * several threads, and opened again in between. */
#include "test.h"

#include <ashlar/zone.h>

#include "base/platform.h"
#include "base/util.h"
#include "zone_ram.h"

enum { BLOCK = 512, ZONE = 16384, CAP = 12288, ZONES = 12, FIRST = 2, OPEN = 3, ACTIVE = 5 };
#define SPEC "zns?zone=16K&cap=12K&conventional=2&max_open=3&max_active=5,ram:256K"

/* ---- the model --------------------------------------------------------------------------- */

struct model_zone {
    enum blk_zone_state state;
    uint64_t wp;     /* bytes from the zone's start */
    uint64_t opened; /* implicitly: when */
};

static struct model_zone model[ZONES];
static char contents[ZONES * ZONE];
static uint64_t now;

static bool is_open(const struct model_zone *z)
{
    return z->state == BLK_ZONE_IMPLICIT_OPEN || z->state == BLK_ZONE_EXPLICIT_OPEN;
}

static bool is_active(const struct model_zone *z)
{
    return is_open(z) || z->state == BLK_ZONE_CLOSED;
}

static unsigned count(bool (*is)(const struct model_zone *z))
{
    unsigned n = 0;
    for (unsigned i = FIRST; i < ZONES; i++)
        n += is(&model[i]);
    return n;
}

static int model_open(struct model_zone *z, enum blk_zone_state state)
{
    struct model_zone *oldest = NULL;
    if (!is_active(z) && count(is_active) >= ACTIVE)
        return -BLK_ZONE_TOO_MANY_ACTIVE;
    for (unsigned i = FIRST; i < ZONES; i++)
        if (model[i].state == BLK_ZONE_IMPLICIT_OPEN &&
            (!oldest || model[i].opened < oldest->opened))
            oldest = &model[i];
    if (!is_open(z) && count(is_open) >= OPEN) {
        if (!oldest)
            return -BLK_ZONE_TOO_MANY_OPEN;
        oldest->state = BLK_ZONE_CLOSED;
    }
    z->state = state;
    z->opened = ++now;
    return 0;
}

static int model_write(unsigned zone, uint64_t at, uint64_t len, bool append)
{
    struct model_zone *z = &model[zone];
    if (z->state == BLK_ZONE_FULL)
        return -BLK_ZONE_IS_FULL;
    if ((append ? z->wp : at) + len > CAP)
        return -BLK_ZONE_BOUNDARY_ERROR;
    if (!append && at != z->wp)
        return -BLK_ZONE_INVALID_WRITE;
    int error = is_open(z) ? 0 : model_open(z, BLK_ZONE_IMPLICIT_OPEN);
    if (error < 0)
        return error;
    z->wp += len;
    if (z->wp == CAP)
        z->state = BLK_ZONE_FULL;
    return 0;
}

static int model_manage(unsigned zone, enum blk_op op)
{
    struct model_zone *z = &model[zone];
    if (zone < FIRST)
        return -BLK_ZONE_INVALID_STATE_TRANSITION;
    if (op == BLK_ZONE_RESET) {
        *z = (struct model_zone){.state = BLK_ZONE_EMPTY};
        memset(contents + zone * ZONE, 0, ZONE);
    } else if (op == BLK_ZONE_FINISH) {
        z->state = BLK_ZONE_FULL;
    } else if (op == BLK_ZONE_OPEN) {
        if (z->state == BLK_ZONE_FULL)
            return -BLK_ZONE_INVALID_STATE_TRANSITION;
        if (z->state != BLK_ZONE_EXPLICIT_OPEN)
            return is_open(z) ? (z->state = BLK_ZONE_EXPLICIT_OPEN, 0)
                              : model_open(z, BLK_ZONE_EXPLICIT_OPEN);
    } else {
        if (!is_active(z))
            return -BLK_ZONE_INVALID_STATE_TRANSITION;
        z->state = BLK_ZONE_CLOSED;
    }
    return 0;
}

static int model_all(enum blk_op op)
{
    if (op == BLK_ZONE_OPEN && count(is_active) > OPEN)
        return -BLK_ZONE_TOO_MANY_OPEN;
    for (unsigned i = FIRST; i < ZONES; i++)
        if ((op == BLK_ZONE_OPEN && model[i].state == BLK_ZONE_CLOSED) ||
            (op == BLK_ZONE_CLOSE && is_open(&model[i])) ||
            (op == BLK_ZONE_FINISH && is_active(&model[i])) || op == BLK_ZONE_RESET)
            assert_int_equal(model_manage(i, op), 0);
    return 0;
}

static void model_start(void)
{
    memset(ram, 0, sizeof(ram));
    memset(contents, 0, sizeof(contents));
    memset(model, 0, sizeof(model));
    for (unsigned i = FIRST; i < ZONES; i++)
        model[i].state = BLK_ZONE_EMPTY;
}

/* Everything that the device tells is what the model says. */
static void compare(struct blk_queue *q, uint64_t step)
{
    static char got[ZONES * ZONE];
    struct blk_zone zone[ZONES + 1];
    assert_int_equal(blk_zone_report(q, 0, zone, ZONES), ZONES);
    for (unsigned i = FIRST; i < ZONES; i++) {
        uint64_t wp = i * ZONE + (model[i].state == BLK_ZONE_FULL ? ZONE : model[i].wp);
        if (zone[i].state != model[i].state || zone[i].wp != wp)
            fail_msg("step %llu: zone %u is %s at %llu, the model %s at %llu",
                     (unsigned long long)step, i, blk_zone_state_name(zone[i].state),
                     (unsigned long long)zone[i].wp, blk_zone_state_name(model[i].state),
                     (unsigned long long)wp);
    }
    assert_int_equal(blk_read(q, 0, got, sizeof(got)), 0);
    assert_memory_equal(got, contents, sizeof(got));
}

/* ---- one by one -------------------------------------------------------------------------- */

static void one_write(struct blk_queue *q, uint64_t *random, uint64_t step)
{
    static char data[8 * BLOCK];
    unsigned zone = (unsigned)random_below(random, ZONES);
    uint64_t len = (1 + random_below(random, 8)) * BLOCK, place = 0;
    bool append = random_below(random, 2) && zone >= FIRST;
    uint64_t at = zone < FIRST || !random_below(random, 8)
                      ? random_below(random, (ZONE - len) / BLOCK + 1) * BLOCK
                      : model[zone].wp;
    unsigned flags = random_below(random, 8) ? 0 : BLK_FUA;
    for (size_t i = 0; i < sizeof(data) / 8; i++)
        store_le64(data + i * 8, step << 16 | i);
    if (at + len > ZONE)
        return;
    int wanted = zone < FIRST ? 0 : model_write(zone, at, len, append);
    int got = append ? blk_zone_append(q, zone * ZONE, data, len, flags, &place)
                     : blk_write(q, zone * ZONE + at, data, len, flags);
    if (got != wanted)
        fail_msg("step %llu: a write to zone %u: %d, expected %d", (unsigned long long)step, zone,
                 got, wanted);
    if (append && got == 0) {
        assert_int_equal(place, zone * ZONE + model[zone].wp - len);
        at = place - zone * ZONE;
    }
    if (got == 0)
        memcpy(contents + zone * ZONE + at, data, len);
}

static void one_operation(struct blk_queue *q, uint64_t *random, uint64_t step)
{
    enum blk_op op = BLK_ZONE_OPEN + (enum blk_op)random_below(random, 4);
    unsigned zone = (unsigned)random_below(random, ZONES);
    bool all = !random_below(random, 12);
    struct blk_req r;
    int wanted = all ? model_all(op) : model_manage(zone, op);
    blk_req_init(&r, op, all ? 0 : zone * ZONE, 0);
    r.flags = all ? BLK_ZONE_ALL : 0;
    int got = blk_execute(q, &r);
    if (got != wanted)
        fail_msg("step %llu: %s of zone %u%s: %d, expected %d", (unsigned long long)step,
                 blk_op_name(op), zone, all ? " (all)" : "", got, wanted);
    assert_int_equal(r.op, op);
    assert_int_equal(r.flags, all ? BLK_ZONE_ALL : 0);
    assert_int_equal(r.len, 0);
    assert_int_equal(r.offset, all ? 0 : zone * ZONE);
}

/* Opened again every now and then: all is as it was. Of the zones that are implicitly open the
 * order is not kept. */
static void reopen(struct blk_queue *q[2])
{
    if (q[0]) {
        blk_queue_close(q[1]);
        test_close(q[0]);
    }
    for (unsigned i = FIRST; i < ZONES; i++)
        model[i].opened = ++now;
    q[0] = test_queue(test_open(SPEC), 4);
    q[1] = test_queue(blk_queue_device(q[0]), 4);
}

static void one_by_one(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= (uint64_t)test_rounds(6); seed++) {
        uint64_t random = seed;
        ram_no_discard = seed % 2;
        model_start();
        struct blk_queue *queue[2] = {NULL};
        reopen(queue);
        for (uint64_t step = 1; step <= 1500; step++) {
            struct blk_queue *q = queue[random_below(&random, 2)];
            if (random_below(&random, 4))
                one_write(q, &random, step);
            else
                one_operation(q, &random, step);
            if (!random_below(&random, 100))
                assert_int_equal(blk_flush(q), 0);
            if (!random_below(&random, 100))
                reopen(queue);
            compare(queue[0], step);
        }
        blk_queue_close(queue[1]);
        test_close(queue[0]);
    }
    ram_no_discard = false;
}

/* ---- several threads --------------------------------------------------------------------- */

enum { THREADS = 4, DEPTH = 8, APPENDS = 600, BIG = 64 << 10, BIG_ZONES = 16 };

struct worker {
    struct blk *dev;
    struct base_thread thread;
    unsigned number;
    bool shared; /* all threads append to the same zones */
    unsigned landed, refused;
    uint64_t place[APPENDS];
    bool wrong;
};

/* An append is as long as its number says, and full of its number. */
static size_t length_of(unsigned thread, unsigned number)
{
    return (1 + (thread + number) % 3) * BLOCK;
}

static void append(struct worker *w, struct blk_req *r, char *data, unsigned number,
                   uint64_t *random)
{
    unsigned zone = (unsigned)random_below(random, 4) + (w->shared ? 0 : w->number * 4);
    size_t len = length_of(w->number, number);
    for (size_t i = 0; i < len / 4; i++)
        store_le32(data + i * 4, w->number << 24 | number);
    blk_req_data(r, BLK_ZONE_APPEND, (uint64_t)zone * BIG, data, len);
    r->flags = random_below(random, 16) ? 0 : BLK_FUA;
    r->user = (void *)(uintptr_t)number;
}

static void work(void *arg)
{
    struct worker *w = arg;
    static struct blk_req reqs[THREADS][DEPTH];
    static char data[THREADS][DEPTH][3 * BLOCK];
    struct blk_req *idle[DEPTH + 1], *done[DEPTH];
    unsigned sent = 0, got = 0, idle_count = 0;
    uint64_t random = w->number + 1;
    struct blk_queue *q;
    for (unsigned i = 0; i < DEPTH; i++)
        idle[idle_count++] = &reqs[w->number][i];
    w->wrong = blk_queue_open(w->dev, DEPTH, &q) < 0;
    while (!w->wrong && got < APPENDS) {
        while (idle_count && sent < APPENDS) {
            struct blk_req *r = idle[--idle_count];
            append(w, r, data[w->number][r - reqs[w->number]], sent++, &random);
            w->wrong |= blk_submit(q, &r, 1) != 1;
        }
        unsigned n = blk_reap(q, done, DEPTH, BLK_FOREVER);
        for (unsigned i = 0; i < n; i++, got++) {
            unsigned number = (unsigned)(uintptr_t)done[i]->user;
            w->place[number] = done[i]->result == 0 ? done[i]->offset : UINT64_MAX;
            w->landed += done[i]->result == 0;
            w->refused +=
                done[i]->result == -BLK_ZONE_IS_FULL || done[i]->result == -BLK_ZONE_BOUNDARY_ERROR;
            idle[idle_count++] = done[i];
        }
        if (got % 50 == 0)
            w->wrong |= blk_flush(q) < 0;
    }
    if (!w->wrong)
        blk_queue_close(q);
}

/* Each append is where its thread was told, and no two are in the same place. */
static void check_places(struct blk_queue *q, const struct worker *w)
{
    static char data[BIG_ZONES][BIG];
    static bool taken[BIG_ZONES][BIG / BLOCK];
    struct blk_zone zone[BIG_ZONES];
    uint64_t blocks = 0;
    memset(taken, 0, sizeof(taken));
    assert_int_equal(blk_zone_report(q, 0, zone, BIG_ZONES), BIG_ZONES);
    assert_int_equal(blk_read(q, 0, data, sizeof(data)), 0);
    for (unsigned t = 0; t < THREADS; t++) {
        assert_false(w[t].wrong);
        assert_int_equal(w[t].landed + w[t].refused, APPENDS);
        for (unsigned n = 0; n < APPENDS; n++) {
            size_t len = length_of(t, n);
            uint64_t at = w[t].place[n];
            if (at == UINT64_MAX)
                continue;
            for (size_t i = 0; i < len; i += 4)
                if (load_le32((char *)data + at + i) != (t << 24 | n))
                    fail_msg("append %u of thread %u is not at %llu", n, t, (unsigned long long)at);
            for (uint64_t b = at / BLOCK; b < (at + len) / BLOCK; b++, blocks++) {
                bool *place = &taken[b / (BIG / BLOCK)][b % (BIG / BLOCK)];
                assert_false(*place);
                *place = true;
            }
        }
    }
    for (unsigned i = 0; i < BIG_ZONES; i++)
        blocks -= (zone[i].state == BLK_ZONE_FULL ? BIG : zone[i].wp - zone[i].start) / BLOCK;
    assert_int_equal(blocks, 0);
}

static void run_threads(const char *below, bool shared)
{
    static struct worker w[THREADS];
    char spec[128];
    snprintf(spec, sizeof(spec), "zns?zone=64K,%s", below);
    struct blk *dev = test_open(spec);
    memset(w, 0, sizeof(w));
    for (unsigned i = 0; i < THREADS; i++) {
        w[i].dev = dev;
        w[i].number = i;
        w[i].shared = shared;
        assert_int_equal(base_thread_start(&w[i].thread, work, &w[i], -1), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        base_thread_join(&w[i].thread);
    struct blk_queue *q = test_queue(dev, 4);
    check_places(q, w);
    test_close(q);
}

static void threads(void **state)
{
    (void)state;
    for (int i = 0; i < test_rounds(3); i++) {
        run_threads("mem:2M", true);
        run_threads("mem:2M", false);
        run_threads("delay?jitter=20us,mem:2M", true);
    }
}

/* Zones are opened, closed, finished and reset while others write to them: no count is lost. */
static void disturb(void *arg)
{
    struct worker *w = arg;
    static const int fine[] = {0,
                               -BLK_ZONE_IS_FULL,
                               -BLK_ZONE_BOUNDARY_ERROR,
                               -BLK_ZONE_IS_BUSY,
                               -BLK_ZONE_TOO_MANY_OPEN,
                               -BLK_ZONE_TOO_MANY_ACTIVE,
                               -BLK_ZONE_INVALID_STATE_TRANSITION};
    static char data[THREADS][BLOCK];
    uint64_t random = w->number + 1, place;
    struct blk_queue *q;
    w->wrong = blk_queue_open(w->dev, DEPTH, &q) < 0;
    for (unsigned i = 0; i < APPENDS && !w->wrong; i++) {
        uint64_t zone = random_below(&random, 6) * ZONE;
        uint64_t what = random_below(&random, 10);
        int got = what < 6    ? blk_zone_append(q, zone, data[w->number], BLOCK, 0, &place)
                  : what == 6 ? blk_zone_open(q, zone)
                  : what == 7 ? blk_zone_close(q, zone)
                  : what == 8 ? blk_zone_reset(q, zone)
                              : blk_zone_finish(q, zone);
        bool ok = false;
        for (unsigned k = 0; k < ARRAY_SIZE(fine); k++)
            ok |= got == fine[k];
        w->wrong |= !ok;
    }
    blk_queue_close(q);
}

static void disturbance(void **state)
{
    (void)state;
    static struct worker w[THREADS];
    for (int round = 0; round < test_rounds(4); round++) {
        struct blk *dev = test_open("zns?zone=16K&cap=12K&max_open=2&max_active=3,mem:256K");
        struct blk_queue *q = test_queue(dev, 4);
        memset(w, 0, sizeof(w));
        for (unsigned i = 0; i < THREADS; i++) {
            w[i].dev = dev;
            w[i].number = i;
            assert_int_equal(base_thread_start(&w[i].thread, disturb, &w[i], -1), 0);
        }
        for (unsigned i = 0; i < THREADS; i++)
            base_thread_join(&w[i].thread);
        for (unsigned i = 0; i < THREADS; i++)
            assert_false(w[i].wrong);
        /* The counts agree with the states: all can be opened that may be, and not one more. */
        assert_int_equal(blk_zone_all(q, BLK_ZONE_RESET), 0);
        assert_int_equal(blk_zone_open(q, 0), 0);
        assert_int_equal(blk_zone_open(q, ZONE), 0);
        assert_int_equal(blk_zone_open(q, 2 * ZONE), -BLK_ZONE_TOO_MANY_OPEN);
        assert_int_equal(blk_zone_close(q, 0), 0);
        assert_int_equal(blk_zone_open(q, 2 * ZONE), 0);
        assert_int_equal(blk_zone_open(q, 3 * ZONE), -BLK_ZONE_TOO_MANY_ACTIVE);
        test_close(q);
    }
}

/* One thread with two queues waits on one while the other has its completions lying about. */
static void two_queues_of_a_thread(void **state)
{
    (void)state;
    struct blk *dev = test_open("zns?zone=64K,delay?write=1ms&flush=1ms,mem:1M");
    struct blk_queue *a = test_queue(dev, 4), *b = test_queue(dev, 4);
    static char data[2][BLOCK];
    struct blk_req append_a, flush_a, *r[] = {&append_a, &flush_a}, *done[2];
    uint64_t place;
    blk_req_data(&append_a, BLK_ZONE_APPEND, 0, data[0], BLOCK);
    blk_req_init(&flush_a, BLK_FLUSH, 0, 0);
    assert_int_equal(blk_submit(a, r, 2), 2);
    assert_int_equal(blk_zone_append(b, 0, data[1], BLOCK, BLK_FUA, &place), 0);
    assert_int_equal(place, BLOCK);
    assert_int_equal(blk_flush(b), 0);
    assert_int_equal(blk_zone_reset(b, 0), -BLK_ZONE_IS_BUSY);
    for (unsigned n = 0; n < 2;)
        n += blk_reap(a, done, 2, BLK_FOREVER);
    assert_int_equal(append_a.result, 0);
    assert_int_equal(append_a.offset, 0);
    assert_int_equal(flush_a.result, 0);
    assert_int_equal(blk_zone_reset(b, 0), 0);
    blk_queue_close(a);
    test_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_by_one),
        cmocka_unit_test(threads),
        cmocka_unit_test(disturbance),
        cmocka_unit_test(two_queues_of_a_thread),
    };
    if (blk_driver_register(&ram_driver) < 0)
        return 1;
    return cmocka_run_group_tests_name("zone_model", tests, NULL, NULL);
}
