/* The zns filter's table: formatting, opening again, damage; and what becomes of a zone when writes
 * or the table's own I/O fail. */
#include "test.h"

#include <ashlar/zone.h>

#include "base/platform.h"
#include "base/util.h"
#include "blk/fault.h"
#include "zone/format.h"
#include "zone_ram.h"

#define ZONE (64u << 10)
#define CAP  (48u << 10)

static char data[ZONE], got[ZONE];

static void zone_is(struct blk_queue *q, unsigned index, enum blk_zone_state state, uint64_t wp)
{
    struct blk_zone z;
    assert_int_equal(blk_zone_report(q, index * ZONE, &z, 1), 1);
    if (z.state != state || z.wp != z.start + wp)
        fail_msg("zone %u is %s at %llu, expected %s at %llu", index, blk_zone_state_name(z.state),
                 (unsigned long long)(z.wp - z.start), blk_zone_state_name(state),
                 (unsigned long long)wp);
}

static int write_at(struct blk_queue *q, unsigned zone, uint64_t at, size_t len, unsigned flags)
{
    memset(data, (int)(at / 512 + 1), len);
    return blk_write(q, zone * ZONE + at, data, len, flags);
}

static struct blk_queue *open_ram(const char *options)
{
    char spec[256];
    snprintf(spec, sizeof(spec), "zns%s,ram:1M", options);
    return test_queue(test_open(spec), 8);
}

/* ---- opening again ----------------------------------------------------------------------- */

static void again(void **state)
{
    (void)state;
    memset(ram, 0, sizeof(ram));
    struct blk_queue *q =
        open_ram("?zone=64K&cap=48K&conventional=1&max_open=4&max_active=6&append_max=4K");
    assert_int_equal(write_at(q, 0, 1024, 512, 0), 0);
    assert_int_equal(write_at(q, 1, 0, 4096, 0), 0);
    assert_int_equal(write_at(q, 2, 0, CAP, 0), 0);
    assert_int_equal(write_at(q, 3, 0, 512, 0), 0);
    assert_int_equal(blk_zone_close(q, 3 * ZONE), 0);
    assert_int_equal(blk_zone_open(q, 4 * ZONE), 0);
    assert_int_equal(write_at(q, 5, 0, 512, 0), 0);
    assert_int_equal(blk_zone_finish(q, 5 * ZONE), 0);
    test_close(q);
    /* Nothing is said: as it was. */
    q = open_ram("");
    const struct blk_info *i = blk_info(blk_queue_device(q));
    assert_int_equal(i->zone_size, ZONE);
    assert_int_equal(i->max_open_zones, 4);
    assert_int_equal(i->max_active_zones, 6);
    assert_int_equal(i->max_append, 4096);
    zone_is(q, 0, BLK_ZONE_NO_WP, ZONE);
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 4096);
    zone_is(q, 2, BLK_ZONE_FULL, ZONE);
    zone_is(q, 3, BLK_ZONE_CLOSED, 512);
    zone_is(q, 4, BLK_ZONE_EXPLICIT_OPEN, 0);
    zone_is(q, 5, BLK_ZONE_FULL, ZONE);
    zone_is(q, 6, BLK_ZONE_EMPTY, 0);
    assert_int_equal(blk_read(q, 5 * ZONE, got, ZONE), 0);
    assert_int_equal(got[511], 1);
    assert_int_equal(got[512], 0);
    test_close(q);
    /* The same, and limits of this time. */
    q = open_ram("?zone=64K&cap=48K&conventional=1&max_open=2");
    assert_int_equal(blk_info(blk_queue_device(q))->max_open_zones, 2);
    assert_int_equal(blk_zone_open(q, 6 * ZONE), 0);
    zone_is(q, 1, BLK_ZONE_CLOSED, 4096);
    test_close(q);
    /* Something else. */
    test_refused("zns?zone=128K,ram:1M", -EINVAL, "zone=131072, but the device was formatted with");
    test_refused("zns?cap=64K,ram:1M", -EINVAL, "cap=65536, but");
    test_refused("zns?conventional=2,ram:1M", -EINVAL, "conventional=2, but");
    test_refused("zns,ram:512K", -ERANGE, "the zones need");
    test_refused("zns?append_max=1M,ram:1M", -EINVAL, "append_max");
    /* For reading alone. */
    q = test_queue(test_open("zns,readonly,ram:1M"), 4);
    zone_is(q, 1, BLK_ZONE_CLOSED, 4096);
    assert_int_equal(blk_read(q, ZONE, got, ZONE), 0);
    assert_int_equal(got[4095], 1);
    assert_int_equal(got[4096], 0);
    assert_int_equal(write_at(q, 1, 4096, 512, 0), -EROFS);
    assert_int_equal(blk_zone_reset(q, ZONE), -EROFS);
    assert_int_equal(blk_flush(q), 0);
    test_close(q);
    /* Anew. */
    q = open_ram("?zone=128K&format=on");
    assert_int_equal(blk_info(blk_queue_device(q))->zone_count, 7);
    zone_is(q, 0, BLK_ZONE_EMPTY, 0);
    test_close(q);
}

static void what_is_not_blank(void **state)
{
    (void)state;
    static const size_t places[] = {
        0, 1024, 65536 + 64, (1 << 20) - 1, (3 << 20) + 7, (4 << 20) - 512};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        memset(ram, 0, sizeof(ram));
        ram[places[i]] = 1;
        test_refused("zns?zone=64K,ram:4M", -EEXIST, "not blank; format=on formats it");
        assert_int_equal(ram[places[i]], 1);
    }
    struct blk_queue *q = test_queue(test_open("zns?zone=64K&format=on,ram:4M"), 1);
    test_close(q);
    assert_int_equal(memcmp(ram, ZNS_MAGIC, 8), 0);
}

/* Open flags reach the zones: a volatile write is lost, a flushed one is not, without a close. */
static void killed(void **state)
{
    (void)state;
    static char copy[sizeof(ram)];
    memset(ram, 0, sizeof(ram));
    struct blk_queue *q = open_ram("?zone=64K");
    uint64_t place;
    assert_int_equal(write_at(q, 0, 0, 1024, 0), 0);
    assert_int_equal(blk_flush(q), 0);
    assert_int_equal(write_at(q, 0, 1024, 512, 0), 0);
    assert_int_equal(blk_zone_append(q, ZONE, data, 512, BLK_FUA, &place), 0);
    assert_int_equal(blk_zone_finish(q, 2 * ZONE), 0);
    memcpy(copy, ram, sizeof(ram));
    test_close(q);
    memcpy(ram, copy, sizeof(ram));
    q = open_ram("");
    zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 1536); /* the append flushed it too */
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 512);
    zone_is(q, 2, BLK_ZONE_FULL, ZONE);
    assert_int_equal(write_at(q, 0, 1536, 512, 0), 0);
    memcpy(copy, ram, sizeof(ram));
    assert_int_equal(blk_zone_reset(q, ZONE), 0);
    test_close(q);
    memcpy(ram, copy, sizeof(ram));
    q = open_ram("");
    zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 1536); /* and this was not */
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 512);
    assert_int_equal(blk_read(q, 1024, got, 1024), 0);
    assert_int_equal(got[511], 3);
    assert_int_equal(got[512], 0);
    test_close(q);
}

/* ---- damage ------------------------------------------------------------------------------ */

/* A sound table with something in it; both pages of the first group have been written. */
static void make_table(void)
{
    memset(ram, 0, sizeof(ram));
    struct blk_queue *q = open_ram("?zone=64K&cap=48K");
    assert_int_equal(write_at(q, 1, 0, 4096, BLK_FUA), 0);
    assert_int_equal(write_at(q, 1, 4096, 4096, BLK_FUA), 0);
    test_close(q);
}

static void header_damage(void **state)
{
    (void)state;
    make_table();
    for (unsigned at = 0; at < ZNS_HEADER; at++) {
        struct blk *dev;
        struct blk_error err;
        ram[at] ^= 0x10;
        int error = blk_open("zns,ram:1M", 0, &dev, &err);
        if (error != (at < 8 ? -EEXIST : at < 12 ? -ENOTSUP : -EBADMSG))
            fail_msg("byte %u: %d, %s", at, error, err.text);
        ram[at] ^= 0x10;
    }
    test_close(open_ram(""));
}

/* A header with a right checksum that says something impossible. */
static void header_lies(void **state)
{
    (void)state;
    static const struct {
        unsigned at;
        uint64_t value;
    } lies[] = {
        {24, 0},
        {24, 3 << 14},
        {24, UINT64_C(1) << 63},
        {24, 256},
        {32, 0},
        {32, ZONE + 512},
        {32, 1000},
        {32, UINT64_MAX},
        {40, 0},
        {40, 15 | 15ull << 32},
        {40, UINT32_MAX},
        {40, 1000},
        {48, 0},
        {48, 3000},
        {48, 4096ull << 32},
        {48, 512 | 2048ull << 32},
        {48, 512 | 3ull << 40},
        {56, 0},
        {56, 4096},
        {56, 12288 + 100},
        {56, UINT64_MAX},
        {56, INT64_MAX - 511},
        {64, 5 | 3ull << 32},
        {72, 100},
        {72, 64 << 10},
    };
    make_table();
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t saved[ZNS_HEADER], *h = (uint8_t *)ram;
        struct blk *dev;
        struct blk_error err;
        memcpy(saved, h, ZNS_HEADER);
        store_le64(h + lies[i].at, lies[i].value);
        store_le32(h + ZNS_CRC_AT, zns_crc(h, ZNS_CRC_AT, ZNS_HEADER));
        int error = blk_open("zns,ram:1M", 0, &dev, &err);
        if (error != -EBADMSG && error != -ERANGE)
            fail_msg("lie %u: %d, %s", i, error, error ? err.text : "");
        memcpy(h, saved, ZNS_HEADER);
    }
}

/* A page that is wrong is as if it had not been written; when both are, that is told. */
static void page_damage(void **state)
{
    (void)state;
    make_table();
    unsigned newer = load_le64(ram + 4096 + 16) > load_le64(ram + 8192 + 16) ? 4096 : 8192;
    unsigned older = 4096 + 8192 - newer;
    for (unsigned at = 0; at < ZNS_PAGE; at += at < 320 ? 1 : 97) {
        ram[newer + at] ^= 4;
        struct blk_queue *q = open_ram("");
        zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 4096);
        test_close(q);
        ram[older + at] ^= 4;
        test_refused("zns,ram:1M", -EBADMSG, "the states of zones 0 to 14 are damaged");
        ram[newer + at] ^= 4;
        ram[older + at] ^= 4;
    }
    struct blk_queue *q = open_ram("");
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 8192);
    test_close(q);
}

static void page_lies(void **state)
{
    (void)state;
    static const struct {
        struct zns_entry e;
        struct zns_hole h[2];
        uint32_t holes;
    } lies[] = {
        {{512, BLK_ZONE_EMPTY, 0}, {{0}}, 0},
        {{CAP, BLK_ZONE_CLOSED, 0}, {{0}}, 0},
        {{CAP + 512, BLK_ZONE_FULL, 0}, {{0}}, 0},
        {{100, BLK_ZONE_CLOSED, 0}, {{0}}, 0},
        {{0, 0, 0}, {{0}}, 0},
        {{0, 5, 0}, {{0}}, 0},
        {{0, BLK_ZONE_NO_WP, 0}, {{0}}, 0},
        {{0, 255, 0}, {{0}}, 0},
        {{4096, BLK_ZONE_CLOSED, 1}, {{0, 1}}, 0},
        {{4096, BLK_ZONE_CLOSED, 1}, {{0, 0}}, 1},
        {{4096, BLK_ZONE_CLOSED, 1}, {{7, 2}}, 1},
        {{4096, BLK_ZONE_CLOSED, 1}, {{UINT32_MAX, UINT32_MAX}}, 1},
        {{4096, BLK_ZONE_CLOSED, 2}, {{3, 1}, {2, 1}}, 2},
        {{4096, BLK_ZONE_CLOSED, 2}, {{1, 2}, {3, 1}}, 2},
        {{4096, BLK_ZONE_CLOSED, UINT16_MAX}, {{0, 1}}, UINT32_MAX},
        {{0, BLK_ZONE_EMPTY, 1}, {{0, 1}}, 1},
    };
    make_table();
    uint64_t id = load_le64(ram + 16);
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t *page = (uint8_t *)ram + 4096;
        memset(page, 0, 8192);
        for (unsigned z = 0; z < 15; z++)
            zns_entry_encode(page, z, &(struct zns_entry){.state = BLK_ZONE_EMPTY});
        zns_entry_encode(page, 3, &lies[i].e);
        zns_hole_encode(page, 0, lies[i].h[0]);
        zns_hole_encode(page, 1, lies[i].h[1]);
        zns_page_seal(page, id, 8, 0, lies[i].holes);
        struct blk *dev;
        struct blk_error err;
        int error = blk_open("zns,ram:1M", 0, &dev, &err);
        /* A page that cannot be one is no page; the other was never written. */
        if (lies[i].holes > ZNS_PAGE_HOLES && error == 0)
            blk_close(dev);
        else if (error != -EBADMSG)
            fail_msg("lie %u: %d, %s", i, error, error ? err.text : "");
    }
}

/* ---- states that only a table can bring about ---------------------------------------------- */

static void read_only_and_offline(void **state)
{
    (void)state;
    make_table();
    uint8_t *page = (uint8_t *)ram + 4096;
    uint64_t id = load_le64(ram + 16), place;
    memset(page, 0, 8192);
    for (unsigned z = 0; z < 15; z++)
        zns_entry_encode(page, z, &(struct zns_entry){.state = BLK_ZONE_EMPTY});
    zns_entry_encode(page, 1, &(struct zns_entry){4096, BLK_ZONE_READ_ONLY, 0});
    zns_entry_encode(page, 2, &(struct zns_entry){4096, BLK_ZONE_OFFLINE, 0});
    zns_page_seal(page, id, 8, 0, 0);
    struct blk_queue *q = open_ram("");
    for (unsigned z = 1; z < 3; z++) {
        int error = z == 1 ? -BLK_ZONE_IS_READ_ONLY : -BLK_ZONE_IS_OFFLINE;
        zone_is(q, z, z == 1 ? BLK_ZONE_READ_ONLY : BLK_ZONE_OFFLINE, z == 1 ? 4096 : ZONE);
        assert_int_equal(write_at(q, z, 4096, 512, 0), error);
        assert_int_equal(blk_zone_append(q, z * ZONE, data, 512, 0, &place), error);
        assert_int_equal(blk_zone_open(q, z * ZONE), -BLK_ZONE_INVALID_STATE_TRANSITION);
        assert_int_equal(blk_zone_close(q, z * ZONE), -BLK_ZONE_INVALID_STATE_TRANSITION);
        assert_int_equal(blk_zone_finish(q, z * ZONE), -BLK_ZONE_INVALID_STATE_TRANSITION);
        assert_int_equal(blk_zone_reset(q, z * ZONE), -BLK_ZONE_INVALID_STATE_TRANSITION);
    }
    assert_int_equal(blk_read(q, ZONE, got, ZONE), 0);
    assert_int_equal(got[4095], 1);
    assert_int_equal(blk_read(q, 2 * ZONE, got, 512), -BLK_ZONE_IS_OFFLINE);
    assert_int_equal(blk_read(q, 2 * ZONE - 512, got, 1024), -BLK_ZONE_IS_OFFLINE);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_FINISH), 0);
    assert_int_equal(blk_zone_all(q, BLK_ZONE_RESET), 0);
    zone_is(q, 1, BLK_ZONE_READ_ONLY, 4096);
    test_close(q);
    q = open_ram("");
    zone_is(q, 1, BLK_ZONE_READ_ONLY, 4096);
    zone_is(q, 2, BLK_ZONE_OFFLINE, ZONE);
    test_close(q);
}

/* ---- writes that fail -------------------------------------------------------------------- */

/* Appends of one block each, all in flight at once. The results come in their order. */
static void append_many(struct blk_queue *q, unsigned zone, unsigned n, int *result)
{
    static struct blk_req reqs[32];
    static char block[32][512];
    struct blk_req *r[32];
    for (unsigned i = 0; i < n; i++) {
        r[i] = &reqs[i];
        memset(block[i], 'a' + (int)i, 512);
        blk_req_data(r[i], BLK_ZONE_APPEND, zone * ZONE, block[i], 512);
    }
    assert_int_equal(blk_submit(q, r, n), n);
    for (unsigned done = 0; done < n;)
        done += blk_reap(q, r, 32, BLK_FOREVER);
    for (unsigned i = 0; i < n; i++) {
        result[i] = reqs[i].result;
        assert_int_equal(reqs[i].offset, zone * ZONE + (reqs[i].result ? 0 : i * 512));
    }
}

/* Blocks of the first zone, a letter each: what append i wrote is 'a' + i, zeroes are '-'. */
static void zone_reads(struct blk_queue *q, const char *letters)
{
    char text[32] = "";
    assert_int_equal(blk_read(q, 0, got, 16 * 512), 0);
    for (unsigned i = 0; i < strlen(letters); i++) {
        text[i] = got[i * 512] ? got[i * 512] : '-';
        for (unsigned k = 0; k < 512; k++)
            assert_int_equal(got[i * 512 + k], got[i * 512]);
    }
    assert_string_equal(text, letters);
}

/* Which of six appends in flight fail, and what is then in the zone. */
static void failed_writes(void **state)
{
    (void)state;
    static const struct {
        const char *fault;
        unsigned wp;
        const char *letters;
    } cases[] = {
        {"nth=6", 5, "abcde-"},         {"nth=3", 6, "ab-def"},
        {"nth=5&count=2", 4, "abcd--"}, {"nth=2&count=3", 6, "a---ef"},
        {"nth=1&count=6", 0, "------"}, {"every=2", 5, "a-c-e-"},
        {"every=3", 5, "ab-de-"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        char spec[128];
        int result[6];
        memset(ram, 0, sizeof(ram));
        test_close(open_ram("?zone=64K"));
        /* Old contents, which must not come through. */
        memset(ram + 65536, 'x', 65536);
        snprintf(spec, sizeof(spec), "zns,fault?op=write&offset=64K&size=3K&%s,ram:1M",
                 cases[i].fault);
        struct blk_queue *q = test_queue(test_open(spec), 8);
        append_many(q, 0, 6, result);
        for (unsigned k = 0; k < 6; k++)
            assert_int_equal(result[k], cases[i].letters[k] == '-' ? -EIO : 0);
        zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, cases[i].wp * 512);
        zone_reads(q, cases[i].letters);
        test_close(q);
        q = open_ram("");
        zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, cases[i].wp * 512);
        zone_reads(q, cases[i].letters);
        uint64_t place;
        assert_int_equal(blk_zone_append(q, 0, data, 512, 0, &place), 0);
        assert_int_equal(place, cases[i].wp * 512);
        assert_int_equal(blk_zone_reset(q, 0), 0);
        zone_reads(q, "------");
        test_close(q);
    }
}

/* A zone in which one write after the other fails cannot be written any more, and at last not even
 * be read. A full zone stays full. */
static void many_failed_writes(void **state)
{
    (void)state;
    int result[32];
    memset(ram, 0, sizeof(ram));
    test_close(open_ram("?zone=64K&cap=8K"));
    struct blk_queue *q =
        test_queue(test_open("zns,fault?op=write&every=2&offset=64K&size=8K,ram:1M"), 32);
    append_many(q, 0, 15, result);
    zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 15 * 512);
    test_close(q);
    q = test_queue(test_open("zns,fault?op=write&offset=64K&size=8K,ram:1M"), 32);
    append_many(q, 1, 16, result);
    zone_is(q, 1, BLK_ZONE_FULL, ZONE);
    test_close(q);
    q = test_queue(test_open("zns,fault?op=write&every=2&offset=64K&size=256K,ram:1M"), 32);
    append_many(q, 2, 16, result);
    zone_is(q, 2, BLK_ZONE_FULL, ZONE);
    assert_int_equal(blk_zone_reset(q, 2 * ZONE), 0);
    test_close(q);
    q = open_ram("");
    zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 15 * 512);
    zone_reads(q, "a-c-e-g-i-k-m-o-");
    test_close(q);

    /* A run of them is one hole. */
    memset(ram, 0, sizeof(ram));
    test_close(open_ram("?zone=64K"));
    q = test_queue(test_open("zns,fault?op=write&nth=2&count=12&offset=64K&size=64K,ram:1M"), 32);
    append_many(q, 0, 14, result);
    zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 14 * 512);
    zone_reads(q, "a------------n--");
    test_close(q);

    memset(ram, 0, sizeof(ram));
    test_close(open_ram("?zone=64K"));
    q = test_queue(test_open("zns,fault?op=write&every=2&offset=64K&size=64K,ram:1M"), 32);
    append_many(q, 0, 18, result);
    zone_is(q, 0, BLK_ZONE_READ_ONLY, 18 * 512);
    assert_int_equal(write_at(q, 0, 18 * 512, 512, 0), -BLK_ZONE_IS_READ_ONLY);
    zone_reads(q, "a-c-e-g-i-k-m-o-");
    test_close(q);
    q = open_ram("");
    zone_is(q, 0, BLK_ZONE_READ_ONLY, 18 * 512);
    zone_reads(q, "a-c-e-g-i-k-m-o-");
    test_close(q);

    memset(ram, 0, sizeof(ram));
    test_close(open_ram("?zone=64K"));
    q = test_queue(test_open("zns,fault?op=write&every=2&offset=64K&size=64K,ram:1M"), 64);
    static int more[32];
    append_many(q, 1, 32, more); /* an untouched neighbour */
    test_close(q);
    struct blk_req reqs[40], *r[40];
    q = test_queue(test_open("zns,fault?op=write&every=2&offset=64K&size=64K,ram:1M"), 64);
    for (unsigned i = 0; i < 40; i++) {
        r[i] = &reqs[i];
        blk_req_data(r[i], BLK_ZONE_APPEND, 0, data, 512);
    }
    assert_int_equal(blk_submit(q, r, 40), 40);
    for (unsigned done = 0; done < 40;)
        done += blk_reap(q, r, 40, BLK_FOREVER);
    zone_is(q, 0, BLK_ZONE_OFFLINE, ZONE);
    assert_int_equal(blk_read(q, 0, got, 512), -BLK_ZONE_IS_OFFLINE);
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 32 * 512);
    test_close(q);
    q = open_ram("");
    zone_is(q, 0, BLK_ZONE_OFFLINE, ZONE);
    zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 32 * 512);
    test_close(q);
}

/* Holes that a power cut left do not count against a zone. */
static void holes_of_a_power_cut(void **state)
{
    (void)state;
    int result[8];
    make_table();
    uint8_t *page = (uint8_t *)ram + 4096;
    uint64_t id = load_le64(ram + 16);
    memset(page, 0, 8192);
    memset(ram + ZONE, 'x', ZONE);
    for (unsigned z = 0; z < 15; z++)
        zns_entry_encode(page, z, &(struct zns_entry){.state = BLK_ZONE_EMPTY});
    zns_entry_encode(page, 0, &(struct zns_entry){80 * 512, BLK_ZONE_CLOSED, 40});
    for (unsigned i = 0; i < 40; i++)
        zns_hole_encode(page, i, (struct zns_hole){2 * i, 1});
    zns_page_seal(page, id, 8, 0, 40);
    struct blk_queue *q =
        test_queue(test_open("zns,fault?op=write&nth=2&offset=64K&size=64K,ram:1M"), 8);
    static struct blk_req reqs[4];
    struct blk_req *r[4];
    for (unsigned i = 0; i < 4; i++) {
        r[i] = &reqs[i];
        blk_req_data(r[i], BLK_ZONE_APPEND, 0, data, 512);
    }
    memset(data, 'y', 512);
    assert_int_equal(blk_submit(q, r, 4), 4);
    for (unsigned done = 0; done < 4;)
        done += blk_reap(q, r, 4, BLK_FOREVER);
    for (unsigned i = 0; i < 4; i++)
        result[i] = reqs[i].result;
    assert_true(result[0] == 0 && result[1] == -EIO && result[2] == 0 && result[3] == 0);
    for (int again = 0; again < 2; again++) {
        zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 84 * 512);
        assert_int_equal(blk_read(q, 0, got, ZONE), 0);
        for (unsigned i = 0; i < 86; i++) {
            bool hole = (i < 80 && i % 2 == 0) || i == 81 || i > 83;
            assert_int_equal(got[i * 512 + 7], hole ? 0 : i < 80 ? 'x' : 'y');
        }
        test_close(q);
        q = open_ram("");
    }
    test_close(q);
}

/* ---- the table's own I/O fails ------------------------------------------------------------ */

/* What waits for it is told, and the next time it is tried again. */
static void table_fails(void **state)
{
    (void)state;
    static const char *const faults[] = {"op=write&offset=4K&size=8K", "op=flush"};
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        char spec[128];
        uint64_t place;
        memset(ram, 0, sizeof(ram));
        snprintf(spec, sizeof(spec), "zns?zone=64K,fault?armed=off&%s,ram:1M", faults[i]);
        struct blk_queue *q = test_queue(test_open(spec), 4);
        struct blk *dev = blk_queue_device(q);
        assert_int_equal(write_at(q, 0, 0, 4096, 0), 0);
        assert_int_equal(write_at(q, 1, 0, 4096, 0), 0);
        blk_fault_arm(dev, true);
        assert_int_equal(blk_flush(q), -EIO);
        assert_int_equal(blk_zone_append(q, 0, data, 512, BLK_FUA, &place), -EIO);
        zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 4608);
        assert_int_equal(blk_zone_reset(q, ZONE), -EIO);
        zone_is(q, 1, BLK_ZONE_IMPLICIT_OPEN, 4096);
        assert_int_equal(blk_read(q, ZONE, got, 4096), 0);
        assert_int_equal(got[4095], 1);
        assert_int_equal(blk_zone_finish(q, 2 * ZONE), -EIO);
        blk_fault_arm(dev, false);
        assert_int_equal(blk_flush(q), 0);
        assert_int_equal(blk_zone_reset(q, ZONE), 0);
        static char copy[sizeof(ram)];
        memcpy(copy, ram, sizeof(ram));
        test_close(q);
        memcpy(ram, copy, sizeof(ram));
        q = open_ram("");
        zone_is(q, 0, BLK_ZONE_IMPLICIT_OPEN, 4608);
        zone_is(q, 1, BLK_ZONE_EMPTY, 0);
        zone_is(q, 2, BLK_ZONE_FULL, ZONE);
        test_close(q);
    }
    test_refused("zns?zone=64K,fault?op=write,mem:1M", -EIO, "cannot be formatted");
    test_refused("zns?zone=64K,fault?op=read,mem:1M", -EIO, "header cannot be read");
    test_refused("zns?zone=64K,fault?op=flush,mem:1M", -EIO, "cannot be formatted");
}

/* However often a page's write fails halfway, the page before it stays. */
static void table_is_torn(void **state)
{
    (void)state;
    static char copy[sizeof(ram)];
    memset(ram, 0, sizeof(ram));
    struct blk_queue *q = test_queue(
        test_open("zns?zone=64K,fault?armed=off&op=write&offset=4K&size=8K&torn=20,ram:1M"), 4);
    for (unsigned good = 1; good < 4; good++) {
        assert_int_equal(write_at(q, 0, (good - 1) * 1024, 512, 0), 0);
        assert_int_equal(blk_flush(q), 0);
        assert_int_equal(write_at(q, 0, (good - 1) * 1024 + 512, 512, 0), 0);
        blk_fault_arm(blk_queue_device(q), true);
        for (int i = 0; i < 3; i++)
            assert_int_equal(blk_flush(q), -EIO);
        memcpy(copy, ram, sizeof(ram));
        struct blk_queue *after = open_ram("");
        zone_is(after, 0, BLK_ZONE_IMPLICIT_OPEN, good * 1024 - 512);
        test_close(after);
        memcpy(ram, copy, sizeof(ram));
        blk_fault_arm(blk_queue_device(q), false);
    }
    test_close(q);
}

/* More writes in flight, apart from each other, than a page can tell of: a flush waits for them. */
static void many_in_flight(void **state)
{
    (void)state;
    enum { N = 2040 };
    static struct blk_req reqs[N + 1];
    static struct blk_req *r[N + 1], *done[64];
    static char block[512];
    memset(ram, 0, sizeof(ram));
    struct blk_queue *q =
        test_queue(test_open("zns?zone=1M,delay?write=1ms&jitter=30ms&seed=3,ram:4M"), N + 1);
    for (unsigned i = 0; i < N; i++) {
        r[i] = &reqs[i];
        blk_req_data(r[i], BLK_ZONE_APPEND, 0, block, 512);
    }
    assert_int_equal(blk_submit(q, r, N), N);
    unsigned back = 0;
    while (back < N / 2)
        back += blk_reap(q, done, 64, BLK_FOREVER);
    assert_int_equal(blk_flush(q), 0);
    while (back < N)
        back += blk_reap(q, done, 64, BLK_FOREVER);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(reqs[i].result, 0);
    test_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(again),
        cmocka_unit_test(what_is_not_blank),
        cmocka_unit_test(killed),
        cmocka_unit_test(header_damage),
        cmocka_unit_test(header_lies),
        cmocka_unit_test(page_damage),
        cmocka_unit_test(page_lies),
        cmocka_unit_test(read_only_and_offline),
        cmocka_unit_test(failed_writes),
        cmocka_unit_test(many_failed_writes),
        cmocka_unit_test(holes_of_a_power_cut),
        cmocka_unit_test(table_fails),
        cmocka_unit_test(table_is_torn),
        cmocka_unit_test(many_in_flight),
    };
    if (blk_driver_register(&ram_driver) < 0)
        return 1;
    return cmocka_run_group_tests_name("zone_table", tests, NULL, NULL);
}
