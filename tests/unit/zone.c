/* The zns filter: every state, every operation, every limit, and what is refused. */
#include "test.h"

#include <unistd.h>

#include <ashlar/zone.h>

#include "base/platform.h"
#include "base/util.h"
#include "blk/fault.h"

#define ZONE (64u << 10)
#define CAP  (48u << 10)
#define SPEC "zns?zone=64K&cap=48K"

static char data[ZONE];

static struct blk_zone zone_of(struct blk_queue *q, unsigned index)
{
    struct blk_zone z;
    assert_int_equal(blk_zone_report(q, (uint64_t)index * ZONE, &z, 1), 1);
    assert_int_equal(z.start, (uint64_t)index * ZONE);
    assert_int_equal(z.len, ZONE);
    return z;
}

static void zone_is(struct blk_queue *q, unsigned index, enum blk_zone_state state, uint64_t wp)
{
    struct blk_zone z = zone_of(q, index);
    if (z.state != state || z.wp != z.start + wp)
        fail_msg("zone %u is %s at %llu, expected %s at %llu", index, blk_zone_state_name(z.state),
                 (unsigned long long)(z.wp - z.start), blk_zone_state_name(state),
                 (unsigned long long)wp);
}

static int write_at(struct blk_queue *q, unsigned zone, uint64_t at, size_t len)
{
    return blk_write(q, (uint64_t)zone * ZONE + at, data, len, 0);
}

static int append(struct blk_queue *q, unsigned zone, size_t len, uint64_t *place)
{
    uint64_t ignored;
    return blk_zone_append(q, (uint64_t)zone * ZONE, data, len, 0, place ? place : &ignored);
}

/* ---- opening ----------------------------------------------------------------------------- */

static void geometry(void **state)
{
    (void)state;
    struct blk *dev =
        test_open(SPEC "&conventional=2&max_open=3&max_active=5&append_max=8K,mem:1M");
    const struct blk_info *i = blk_info(dev);
    struct blk_zone zones[20];
    assert_true(i->zoned && i->volatile_cache);
    assert_int_equal(i->zone_size, ZONE);
    assert_int_equal(i->zone_count, 15);
    assert_int_equal(i->size, 15 * ZONE);
    assert_int_equal(i->max_open_zones, 3);
    assert_int_equal(i->max_active_zones, 5);
    assert_int_equal(i->max_append, 8192);
    struct blk_queue *q = test_queue(dev, 4);
    assert_int_equal(blk_zone_report(q, 0, zones, 20), 15);
    for (unsigned k = 0; k < 15; k++) {
        assert_int_equal(zones[k].start, k * ZONE);
        assert_int_equal(zones[k].capacity, k < 2 ? ZONE : CAP);
        assert_int_equal(zones[k].state, k < 2 ? BLK_ZONE_NO_WP : BLK_ZONE_EMPTY);
        assert_int_equal(zones[k].wp, k < 2 ? (k + 1) * ZONE : k * ZONE);
    }
    assert_int_equal(blk_zone_report(q, 13 * ZONE + 512, zones, 20), 2);
    assert_int_equal(zones[0].start, 13 * ZONE);
    assert_int_equal(blk_zone_report(q, 15 * ZONE, zones, 20), -ERANGE);
    assert_int_equal(blk_zone_report(q, 0, zones, 0), 0);
    test_close(q);
    /* The other form, and limits that follow from each other. */
    dev = test_open("zns:mem:1M?zone=64K&max_active=4");
    assert_int_equal(blk_info(dev)->max_open_zones, 4);
    blk_close(dev);
    /* What is only read is not formatted, and shows empty zones. */
    q = test_queue(test_open("zns?zone=64K,readonly,mem:1M"), 4);
    zone_is(q, 14, BLK_ZONE_EMPTY, 0);
    assert_int_equal(blk_read(q, 0, data, ZONE), 0);
    assert_int_equal(write_at(q, 0, 0, 512), -EROFS);
    test_close(q);
}

static void refused(void **state)
{
    (void)state;
    test_refused("zns,mem:1M", -ENOSPC, "no zone of 67108864 bytes fits");
    test_refused("zns?zone=64K,mem:64K", -ENOSPC, "no zone of 65536 bytes fits");
    test_refused("zns?zone=512,mem:2K", -ENOSPC, "no room for zones");
    test_refused("zns?zone=48K,mem:1M", -EINVAL, "zone must be a power of two");
    test_refused("zns?zone=64K&cap=65K,mem:1M", -EINVAL, "cap must be a multiple of 512");
    test_refused("zns?zone=64K&cap=1000,mem:1M", -EINVAL, "cap must be a multiple of 512");
    test_refused("zns?zone=64K&conventional=15,mem:1M", -EINVAL, "conventional must be below 15");
    test_refused("zns?zone=64K&max_open=5&max_active=4,mem:1M", -EINVAL, "over max_active 4");
    test_refused("zns?zone=64K&append_max=100,mem:1M", -EINVAL, "append_max must be");
    test_refused("zns?zone=64K&append_max=128K,mem:1M", -EINVAL, "append_max must be");
    test_refused("zns?zone=64K,zns?zone=128K,mem:4M", -EINVAL, "has zones already");
    test_refused("zns?zone=512,mem:4G", -EINVAL, "at most 1048576");
    test_refused("cache,zns?zone=64K,mem:1M", -EINVAL, "cannot be cached");
}

/* ---- transitions ------------------------------------------------------------------------- */

#define E BLK_ZONE_EMPTY
#define I BLK_ZONE_IMPLICIT_OPEN
#define X BLK_ZONE_EXPLICIT_OPEN
#define C BLK_ZONE_CLOSED
#define F BLK_ZONE_FULL

enum action { WRITE, APPEND, FILL, OPEN, CLOSE, FINISH, RESET };

/* Bring zone 0 into a state. */
static struct blk_queue *in_state(enum blk_zone_state state, const char *more)
{
    char spec[128];
    snprintf(spec, sizeof(spec), SPEC "%s,mem:1M", more);
    struct blk_queue *q = test_queue(test_open(spec), 4);
    if (state == BLK_ZONE_IMPLICIT_OPEN || state == BLK_ZONE_CLOSED)
        assert_int_equal(write_at(q, 0, 0, 4096), 0);
    if (state == BLK_ZONE_CLOSED)
        assert_int_equal(blk_zone_close(q, 0), 0);
    if (state == BLK_ZONE_EXPLICIT_OPEN)
        assert_int_equal(blk_zone_open(q, 0), 0);
    if (state == BLK_ZONE_FULL)
        assert_int_equal(blk_zone_finish(q, 0), 0);
    assert_int_equal(zone_of(q, 0).state, state);
    return q;
}

static int act(struct blk_queue *q, enum action action)
{
    uint64_t wp = zone_of(q, 0).wp;
    switch (action) {
    case WRITE:
        return wp < CAP ? write_at(q, 0, wp, 4096) : write_at(q, 0, 0, 4096);
    case APPEND:
        return append(q, 0, 4096, NULL);
    case FILL:
        return wp < CAP ? write_at(q, 0, wp, CAP - wp) : write_at(q, 0, 0, 4096);
    case OPEN:
        return blk_zone_open(q, 0);
    case CLOSE:
        return blk_zone_close(q, 0);
    case FINISH:
        return blk_zone_finish(q, 0);
    default:
        return blk_zone_reset(q, 0);
    }
}

/* From each state by each operation: the result and the state after it. */
static void transitions(void **state)
{
    (void)state;
    enum { BAD = BLK_ZONE_INVALID_STATE_TRANSITION };
    static const struct {
        enum blk_zone_state from;
        enum action action;
        int error;
        enum blk_zone_state to;
    } table[] = {
        {E, WRITE, 0, I},
        {E, APPEND, 0, I},
        {E, FILL, 0, F},
        {E, OPEN, 0, X},
        {E, CLOSE, BAD, E},
        {E, FINISH, 0, F},
        {E, RESET, 0, E},

        {I, WRITE, 0, I},
        {I, APPEND, 0, I},
        {I, FILL, 0, F},
        {I, OPEN, 0, X},
        {I, CLOSE, 0, C},
        {I, FINISH, 0, F},
        {I, RESET, 0, E},

        {X, WRITE, 0, X},
        {X, APPEND, 0, X},
        {X, FILL, 0, F},
        {X, OPEN, 0, X},
        {X, CLOSE, 0, C},
        {X, FINISH, 0, F},
        {X, RESET, 0, E},

        {C, WRITE, 0, I},
        {C, APPEND, 0, I},
        {C, FILL, 0, F},
        {C, OPEN, 0, X},
        {C, CLOSE, 0, C},
        {C, FINISH, 0, F},
        {C, RESET, 0, E},

        {F, WRITE, BLK_ZONE_IS_FULL, F},
        {F, APPEND, BLK_ZONE_IS_FULL, F},
        {F, FILL, BLK_ZONE_IS_FULL, F},
        {F, OPEN, BAD, F},
        {F, CLOSE, BAD, F},
        {F, FINISH, 0, F},
        {F, RESET, 0, E},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        struct blk_queue *q = in_state(table[i].from, "");
        int got = act(q, table[i].action);
        if (got != -table[i].error || zone_of(q, 0).state != table[i].to)
            fail_msg("%s, action %d: %d (%s), then %s", blk_zone_state_name(table[i].from),
                     (int)table[i].action, got, blk_zone_error_name(got),
                     blk_zone_state_name(zone_of(q, 0).state));
        test_close(q);
    }
}

static void writes(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open(SPEC "&conventional=1&append_max=8K,mem:1M"), 4);
    uint64_t place;
    /* Sequential zones: at the write pointer, up to the capacity. */
    assert_int_equal(write_at(q, 1, 512, 512), -BLK_ZONE_INVALID_WRITE);
    zone_is(q, 1, BLK_ZONE_EMPTY, 0);
    assert_int_equal(write_at(q, 1, 0, 512), 0);
    assert_int_equal(write_at(q, 1, 0, 512), -BLK_ZONE_INVALID_WRITE);
    assert_int_equal(write_at(q, 1, 1024, 512), -BLK_ZONE_INVALID_WRITE);
    assert_int_equal(write_at(q, 1, 512, 512), 0);
    assert_int_equal(write_at(q, 1, 1024, CAP - 512), -BLK_ZONE_BOUNDARY_ERROR);
    assert_int_equal(write_at(q, 1, CAP, 512), -BLK_ZONE_BOUNDARY_ERROR);
    assert_int_equal(write_at(q, 1, ZONE - 512, 1024), -BLK_ZONE_BOUNDARY_ERROR);
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 1024);
    assert_int_equal(blk_write_zeroes(q, ZONE + 1024, 1024, 0), 0);
    assert_int_equal(blk_write_zeroes(q, ZONE + 1024, 1024, 0), -BLK_ZONE_INVALID_WRITE);
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 2048);
    /* Appends. */
    assert_int_equal(append(q, 1, 512, &place), 0);
    assert_int_equal(place, ZONE + 2048);
    assert_int_equal(append(q, 1, 8192, &place), 0);
    assert_int_equal(place, ZONE + 2560);
    assert_int_equal(append(q, 1, 8704, &place), -E2BIG);
    assert_int_equal(append(q, 1, 100, &place), -EINVAL);
    struct blk_req r;
    blk_req_data(&r, BLK_ZONE_APPEND, ZONE + 512, data, 512);
    assert_int_equal(blk_execute(q, &r), -EINVAL);
    blk_req_data(&r, BLK_ZONE_APPEND, 15 * ZONE, data, 512);
    assert_int_equal(blk_execute(q, &r), -ERANGE);
    blk_req_data(&r, BLK_ZONE_APPEND, ZONE, data, 512);
    r.flags = BLK_ZONE_ALL;
    assert_int_equal(blk_execute(q, &r), -EINVAL);
    blk_req_init(&r, BLK_ZONE_RESET, ZONE, 0);
    r.flags = BLK_FUA;
    assert_int_equal(blk_execute(q, &r), -EINVAL);
    blk_req_init(&r, BLK_ZONE_REPORT, ZONE, 0);
    assert_int_equal(blk_execute(q, &r), -EINVAL);
    blk_req_data(&r, BLK_ZONE_REPORT, ZONE, data, sizeof(struct blk_zone) - 1);
    assert_int_equal(blk_execute(q, &r), -EINVAL);
    while (zone_of(q, 1).wp + 8192 <= ZONE + CAP)
        assert_int_equal(append(q, 1, 8192, NULL), 0);
    blk_req_data(&r, BLK_ZONE_APPEND, ZONE, data, 8192);
    assert_int_equal(blk_execute(q, &r), -BLK_ZONE_BOUNDARY_ERROR);
    assert_int_equal(r.offset, ZONE);
    assert_int_equal(r.op, BLK_ZONE_APPEND);
    /* A full zone; its pointer is at its end. */
    assert_int_equal(append(q, 1, CAP - (zone_of(q, 1).wp - ZONE), NULL), 0);
    zone_is(q, 1, BLK_ZONE_FULL, ZONE);
    /* Conventional zones: anywhere, but not into another kind; no operations. */
    assert_int_equal(write_at(q, 0, 32768, 512), 0);
    assert_int_equal(write_at(q, 0, 0, 512), 0);
    assert_int_equal(write_at(q, 0, ZONE - 512, 1024), -BLK_ZONE_BOUNDARY_ERROR);
    assert_int_equal(append(q, 0, 512, NULL), -BLK_ZONE_INVALID_WRITE);
    assert_int_equal(blk_zone_reset(q, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_int_equal(blk_zone_finish(q, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_int_equal(blk_zone_open(q, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_int_equal(blk_zone_close(q, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_int_equal(blk_zone_reset(q, 512), -EINVAL);
    assert_int_equal(blk_discard(q, 0, ZONE), 0);
    assert_int_equal(blk_discard(q, ZONE, 512), -ENOTSUP);
    test_close(q);
}

/* ---- limits ------------------------------------------------------------------------------ */

static void open_limit(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open(SPEC "&max_open=2,mem:1M"), 4);
    /* The one that was opened first is closed for a third. */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(write_at(q, i, 0, 512), 0);
    zone_is(q, 0, BLK_ZONE_CLOSED, 512);
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 512);
    zone_is(q, 2, BLK_ZONE_IMPLICIT_OPEN, 512);
    assert_int_equal(write_at(q, 0, 512, 512), 0);
    zone_is(q, 1, BLK_ZONE_CLOSED, 512);
    /* Explicitly opened ones stay. */
    assert_int_equal(blk_zone_open(q, 3 * ZONE), 0);
    assert_int_equal(blk_zone_open(q, 4 * ZONE), 0);
    zone_is(q, 0, BLK_ZONE_CLOSED, 1024);
    zone_is(q, 2, BLK_ZONE_CLOSED, 512);
    assert_int_equal(blk_zone_open(q, 5 * ZONE), -BLK_ZONE_TOO_MANY_OPEN);
    assert_int_equal(write_at(q, 0, 1024, 512), -BLK_ZONE_TOO_MANY_OPEN);
    assert_int_equal(append(q, 6, 512, NULL), -BLK_ZONE_TOO_MANY_OPEN);
    zone_is(q, 6, BLK_ZONE_EMPTY, 0);
    zone_is(q, 0, BLK_ZONE_CLOSED, 1024);
    assert_int_equal(write_at(q, 3, 0, 512), 0);
    /* Full, closed and reset zones are not open. */
    assert_int_equal(write_at(q, 3, 512, CAP - 512), 0);
    assert_int_equal(append(q, 6, 512, NULL), 0);
    assert_int_equal(blk_zone_close(q, 4 * ZONE), 0);
    zone_is(q, 4, BLK_ZONE_CLOSED, 0);
    assert_int_equal(blk_zone_open(q, 6 * ZONE), 0);
    assert_int_equal(blk_zone_open(q, 0), 0);
    assert_int_equal(blk_zone_open(q, 4 * ZONE), -BLK_ZONE_TOO_MANY_OPEN);
    assert_int_equal(blk_zone_reset(q, 6 * ZONE), 0);
    assert_int_equal(blk_zone_open(q, 4 * ZONE), 0);
    test_close(q);
}

static void active_limit(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open(SPEC "&max_open=2&max_active=3,mem:1M"), 4);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(write_at(q, i, 0, 512), 0);
    assert_int_equal(write_at(q, 3, 0, 512), -BLK_ZONE_TOO_MANY_ACTIVE);
    assert_int_equal(append(q, 3, 512, NULL), -BLK_ZONE_TOO_MANY_ACTIVE);
    assert_int_equal(blk_zone_open(q, 3 * ZONE), -BLK_ZONE_TOO_MANY_ACTIVE);
    zone_is(q, 3, BLK_ZONE_EMPTY, 0);
    assert_int_equal(write_at(q, 0, 512, 512), 0); /* was closed, is active */
    assert_int_equal(blk_zone_close(q, 0), 0);
    assert_int_equal(append(q, 3, 512, NULL), -BLK_ZONE_TOO_MANY_ACTIVE);
    assert_int_equal(blk_zone_finish(q, 4 * ZONE), 0); /* needs no resources */
    assert_int_equal(blk_zone_finish(q, 0), 0);
    assert_int_equal(append(q, 3, 512, NULL), 0);
    assert_int_equal(append(q, 5, 512, NULL), -BLK_ZONE_TOO_MANY_ACTIVE);
    assert_int_equal(blk_zone_reset(q, ZONE), 0);
    assert_int_equal(append(q, 5, 512, NULL), 0);
    test_close(q);
}

static void all_zones(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open(SPEC "&conventional=1&max_open=3,mem:1M"), 4);
    for (unsigned i = 1; i < 6; i++)
        assert_int_equal(write_at(q, i, 0, 512 * i), 0);
    assert_int_equal(blk_zone_finish(q, 6 * ZONE), 0);
    assert_int_equal(blk_zone_all(q, BLK_READ), -EINVAL);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_OPEN), -BLK_ZONE_TOO_MANY_OPEN);
    zone_is(q, 1, BLK_ZONE_CLOSED, 512);
    zone_is(q, 5, BLK_ZONE_IMPLICIT_OPEN, 5 * 512);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_CLOSE), 0);
    for (unsigned i = 1; i < 6; i++)
        zone_is(q, i, BLK_ZONE_CLOSED, i * 512);
    assert_int_equal(blk_zone_reset(q, ZONE), 0);
    assert_int_equal(blk_zone_reset(q, 2 * ZONE), 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_OPEN), 0);
    for (unsigned i = 3; i < 6; i++)
        zone_is(q, i, BLK_ZONE_EXPLICIT_OPEN, i * 512);
    zone_is(q, 1, BLK_ZONE_EMPTY, 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_FINISH), 0);
    for (unsigned i = 3; i < 7; i++)
        zone_is(q, i, BLK_ZONE_FULL, ZONE);
    zone_is(q, 1, BLK_ZONE_EMPTY, 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_RESET), 0);
    for (unsigned i = 1; i < 15; i++)
        zone_is(q, i, BLK_ZONE_EMPTY, 0);
    zone_is(q, 0, BLK_ZONE_NO_WP, ZONE);
    test_close(q);
}

/* ---- reads ------------------------------------------------------------------------------- */

static void fill(char *to, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (char)(seed * 31 + i / 7 + 1);
}

/* What was not written reads as zeroes, also what was before a reset, and across zones. */
static void reads(void **state)
{
    (void)state;
    static char model[4 * ZONE], got[4 * ZONE];
    for (int kind = 0; kind < 2; kind++) { /* with discards below, and without */
        char path[] = "/var/tmp/ashlar-zone-XXXXXX", spec[128];
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 1 << 20), 0);
        snprintf(spec, sizeof(spec), SPEC "&conventional=1,%s%s", kind ? "psync:" : "mem:1M",
                 kind ? path : "");
        struct blk_queue *q = test_queue(test_open(spec), 4);
        uint64_t random = 5;
        memset(model, 0, sizeof(model));
        for (int i = 0; i < 400; i++) {
            unsigned zone = (unsigned)random_below(&random, 4);
            uint64_t len = (1 + random_below(&random, 16)) * 512;
            uint64_t at =
                zone ? zone_of(q, zone).wp : random_below(&random, (ZONE - len) / 512) * 512;
            if (zone && (at + len > zone * ZONE + CAP)) {
                assert_int_equal(blk_zone_reset(q, zone * ZONE), 0);
                memset(model + zone * ZONE, 0, ZONE);
                continue;
            }
            fill(data, len, (unsigned)i);
            assert_int_equal(blk_write(q, at, data, len, 0), 0);
            memcpy(model + at, data, len);
            at = random_below(&random, 3 * ZONE / 512) * 512;
            len = (1 + random_below(&random, ZONE / 512)) * 512;
            struct iovec iov[2] = {{got + 512, len - 512}, {got, 512}};
            struct blk_req r;
            blk_req_init(&r, BLK_READ, at, len);
            r.iov = len > 512 ? iov : iov + 1;
            r.niov = len > 512 ? 2 : 1;
            memset(got, 'x', len);
            assert_int_equal(blk_execute(q, &r), 0);
            assert_memory_equal(got + 512, model + at, len - 512);
            assert_memory_equal(got, model + at + len - 512, 512);
        }
        assert_int_equal(blk_read(q, 0, got, sizeof(got)), 0);
        assert_memory_equal(got, model, sizeof(got));
        test_close(q);
        close(fd);
        unlink(path);
    }
}

static void allocation_status(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open(SPEC "&conventional=1,mem:1M"), 4);
    struct blk_extent e[8];
    assert_int_equal(write_at(q, 1, 0, 8192), 0);
    assert_int_equal(blk_zone_finish(q, 1 * ZONE), 0);
    assert_int_equal(write_at(q, 3, 0, 4096), 0);
    int n = blk_status(q, 0, 15 * ZONE, e, 8);
    assert_int_equal(n, 4);
    assert_int_equal(e[0].len, ZONE + 8192);
    assert_int_equal(e[0].flags, 0);
    assert_int_equal(e[1].len, 2 * ZONE - 8192);
    assert_int_equal(e[1].flags, BLK_EXTENT_HOLE | BLK_EXTENT_ZERO);
    assert_int_equal(e[2].len, 4096);
    assert_int_equal(e[3].len, 12 * ZONE - 4096);
    test_close(q);
}

/* ---- filters above and below --------------------------------------------------------------- */

/* Zones seen through a stack of filters: each passes on where appends landed, and what is shown. */
static void filters(void **state)
{
    (void)state;
    struct blk_queue *q =
        test_queue(test_open("stats,delay?write=10us,fault?fraction=0,log?to=mem:4M,slice?offset="
                             "128K&size=256K,zns?zone=64K&cap=48K&conventional=1,stats,mem:1M"),
                   4);
    const struct blk_info *i = blk_info(blk_queue_device(q));
    struct blk_zone z[8];
    uint64_t place;
    assert_true(i->zoned);
    assert_int_equal(i->zone_count, 4);
    assert_int_equal(append(q, 1, 4096, &place), 0);
    assert_int_equal(place, ZONE);
    assert_int_equal(append(q, 1, 512, &place), 0);
    assert_int_equal(place, ZONE + 4096);
    assert_int_equal(append(q, 0, 512, NULL), 0);
    assert_int_equal(write_at(q, 1, 0, 512), -BLK_ZONE_INVALID_WRITE);
    assert_int_equal(blk_zone_report(q, ZONE, z, 8), 3);
    assert_int_equal(z[0].start, ZONE);
    assert_int_equal(z[0].wp, ZONE + 4608);
    assert_int_equal(z[2].start, 3 * ZONE);
    assert_int_equal(blk_zone_finish(q, ZONE), 0);
    zone_is(q, 1, BLK_ZONE_FULL, ZONE);
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_RESET), 0);
    zone_is(q, 0, BLK_ZONE_EMPTY, 0);
    zone_is(q, 1, BLK_ZONE_EMPTY, 0);
    test_close(q);
    test_refused("slice?offset=32K,zns?zone=64K,mem:1M", -EINVAL, "multiples of 65536");
    test_refused("slice?size=32K,zns?zone=64K,mem:1M", -EINVAL, "multiples of 65536");
}

/* A slice does all zones one by one: those that are its own. */
static void all_of_a_slice(void **state)
{
    (void)state;
    struct blk_queue *q =
        test_queue(test_open("slice?offset=128K&size=192K,zns?zone=64K&cap=48K,mem:1M"), 4);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(append(q, i, 512, NULL), 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_CLOSE), 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_OPEN), 0);
    zone_is(q, 2, BLK_ZONE_EXPLICIT_OPEN, 512);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_FINISH), 0);
    zone_is(q, 0, BLK_ZONE_FULL, ZONE);
    struct blk_queue *below = test_queue(blk_child(blk_queue_device(q)), 1);
    zone_is(below, 2, BLK_ZONE_FULL, ZONE);
    assert_int_equal(append(below, 0, 512, NULL), 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_RESET), 0);
    zone_is(below, 2, BLK_ZONE_EMPTY, 0);
    zone_is(below, 0, BLK_ZONE_IMPLICIT_OPEN, 512);
    blk_queue_close(below);
    test_close(q);
}

static void failing_zones(void **state)
{
    (void)state;
    struct blk_queue *q =
        test_queue(test_open("fault?zone=1&zones=2&zone_state=offline," SPEC ",mem:1M"), 4);
    assert_int_equal(write_at(q, 0, 0, 512), 0);
    for (unsigned i = 1; i < 3; i++) {
        zone_is(q, i, BLK_ZONE_OFFLINE, ZONE);
        assert_int_equal(write_at(q, i, 0, 512), -BLK_ZONE_IS_OFFLINE);
        assert_int_equal(append(q, i, 512, NULL), -BLK_ZONE_IS_OFFLINE);
        assert_int_equal(blk_read(q, i * ZONE, data, 512), -BLK_ZONE_IS_OFFLINE);
        assert_int_equal(blk_zone_reset(q, i * ZONE), -BLK_ZONE_INVALID_STATE_TRANSITION);
        assert_int_equal(blk_zone_open(q, i * ZONE), -BLK_ZONE_INVALID_STATE_TRANSITION);
    }
    assert_int_equal(blk_read(q, ZONE - 512, data, 1024), -BLK_ZONE_IS_OFFLINE);
    zone_is(q, 3, BLK_ZONE_EMPTY, 0);
    assert_int_equal(blk_read(q, 3 * ZONE, data, 512), 0);
    test_close(q);
    /* From the third write to it on. */
    q = test_queue(
        test_open("fault?zone=1&zone_state=read-only&op=zone-append&nth=3," SPEC ",mem:1M"), 4);
    assert_int_equal(append(q, 0, 512, NULL), 0);
    assert_int_equal(append(q, 1, 512, NULL), 0);
    assert_int_equal(append(q, 1, 512, NULL), 0);
    assert_int_equal(append(q, 0, 512, NULL), 0);
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 1024);
    assert_int_equal(append(q, 1, 512, NULL), -BLK_ZONE_IS_READ_ONLY);
    zone_is(q, 1, BLK_ZONE_READ_ONLY, 1024);
    assert_int_equal(blk_read(q, ZONE, data, 1024), 0);
    assert_int_equal(blk_zone_finish(q, ZONE), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_int_equal(append(q, 0, 512, NULL), 0);
    test_close(q);
    /* When a test says so. */
    q = test_queue(test_open("fault?zone=1&zone_state=offline&armed=off," SPEC ",mem:1M"), 4);
    zone_is(q, 1, BLK_ZONE_EMPTY, 0);
    blk_fault_arm(blk_queue_device(q), true);
    zone_is(q, 1, BLK_ZONE_OFFLINE, ZONE);
    blk_fault_arm(blk_queue_device(q), false);
    zone_is(q, 1, BLK_ZONE_EMPTY, 0);
    test_close(q);
    test_refused("fault?zone_state=offline,mem:1M", -EINVAL, "is for zoned devices");
    test_refused("fault?zone_state=full," SPEC ",mem:1M", -EINVAL, "read-only or offline");
    test_refused("fault?zone=15&zone_state=offline," SPEC ",mem:1M", -ERANGE, "past the last");
    test_refused("fault?zone=1&zones=15&zone_state=offline," SPEC ",mem:1M", -ERANGE, "past");
    test_refused("fault?zones=0&zone_state=offline," SPEC ",mem:1M", -ERANGE, "past");
    test_refused("fault?torn=512&zone_state=offline," SPEC ",mem:1M", -EINVAL, "goes with none");
}

/* ---- names, and devices without zones ------------------------------------------------------ */

static void names(void **state)
{
    (void)state;
    static const int errors[] = {
        BLK_ZONE_BOUNDARY_ERROR, BLK_ZONE_IS_FULL,
        BLK_ZONE_IS_READ_ONLY,   BLK_ZONE_IS_OFFLINE,
        BLK_ZONE_INVALID_WRITE,  BLK_ZONE_TOO_MANY_ACTIVE,
        BLK_ZONE_TOO_MANY_OPEN,  BLK_ZONE_INVALID_STATE_TRANSITION,
        BLK_ZONE_IS_BUSY,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        assert_non_null(blk_zone_error_name(errors[i]));
        assert_ptr_equal(blk_zone_error_name(errors[i]), blk_zone_error_name(-errors[i]));
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(errors[i], errors[k]);
    }
    assert_null(blk_zone_error_name(-EIO));
    assert_null(blk_zone_error_name(0));
    assert_string_equal(blk_zone_state_name(BLK_ZONE_READ_ONLY), "read-only");
    assert_null(blk_zone_state_name(0));
    assert_null(blk_zone_state_name(7));
    assert_null(blk_zone_state_name(17));
    struct blk_queue *q = test_queue(test_open("mem:1M"), 1);
    struct blk_zone z;
    assert_int_equal(blk_zone_report(q, 0, &z, 1), -ENOTSUP);
    assert_int_equal(blk_zone_reset(q, 0), -ENOTSUP);
    assert_int_equal(append(q, 0, 512, NULL), -ENOTSUP);
    test_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(geometry),          cmocka_unit_test(refused),
        cmocka_unit_test(transitions),       cmocka_unit_test(writes),
        cmocka_unit_test(open_limit),        cmocka_unit_test(active_limit),
        cmocka_unit_test(all_zones),         cmocka_unit_test(reads),
        cmocka_unit_test(allocation_status), cmocka_unit_test(names),
        cmocka_unit_test(filters),           cmocka_unit_test(all_of_a_slice),
        cmocka_unit_test(failing_zones),
    };
    return cmocka_run_group_tests_name("zone", tests, NULL, NULL);
}
