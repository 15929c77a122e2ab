/*
 * Zoned block devices of Linux below the file driver. ASHLAR_ZONED names one that may be
 * overwritten, with the limits of tests/vm/guest/zoned_file.sh, which runs this in a guest; without
 * it, all is skipped. ASHLAR_ZONED_SKIP names tests that are.
 */
#include "test.h"

#include <ashlar/zone.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/platform.h"
#include "linux/zone_abi.h"

enum { BLOCK = 4096, DEPTH = 8, THREADS = 4, CONVENTIONAL = 4, MAX_OPEN = 6, MAX_ACTIVE = 8 };
#define ZONE     ((uint64_t)4 << 20)
#define CAPACITY ((uint64_t)1 << 20)
#define FIRST    (CONVENTIONAL * ZONE) /* the first zone with a write pointer */

static const char *path;
static struct blk *dev;
static struct blk_queue *q;

static int manage(enum blk_op op, uint64_t offset, unsigned flags)
{
    struct blk_req r;
    blk_req_init(&r, op, offset, 0);
    r.flags = (uint8_t)flags;
    return blk_execute(q, &r);
}

static int set_up(void **state)
{
    char spec[128];
    (void)state;
    snprintf(spec, sizeof(spec), "file:%s", path);
    dev = test_open(spec);
    q = test_queue(dev, DEPTH);
    return manage(BLK_ZONE_RESET, 0, BLK_ZONE_ALL);
}

static int tear_down(void **state)
{
    (void)state;
    test_close(q);
    return 0;
}

static struct blk_zone zone_at(uint64_t offset)
{
    struct blk_zone zone;
    struct blk_req r;
    blk_req_data(&r, BLK_ZONE_REPORT, offset, &zone, sizeof(zone));
    assert_int_equal(blk_execute(q, &r), 0);
    assert_int_equal(r.count, 1);
    return zone;
}

static void assert_zone(uint64_t start, unsigned state, uint64_t written)
{
    struct blk_zone z = zone_at(start);
    assert_int_equal(z.start, start);
    assert_int_equal(z.len, ZONE);
    assert_int_equal(z.state, state);
    assert_int_equal(z.wp - z.start, written);
}

static int write_at(uint64_t offset, size_t len, int fill)
{
    static _Alignas(BLOCK) char data[1 << 20];
    memset(data, fill, len);
    return blk_write(q, offset, data, len, 0);
}

static int append(uint64_t zone, size_t len, uint64_t *landed)
{
    static _Alignas(BLOCK) char data[1 << 20];
    struct blk_req r;
    memset(data, 0xa5, len);
    blk_req_data(&r, BLK_ZONE_APPEND, zone, data, len);
    int error = blk_execute(q, &r);
    *landed = r.offset;
    return error;
}

static void geometry(void **state)
{
    const struct blk_info *i = blk_info(dev);
    (void)state;
    assert_true(i->zoned);
    assert_int_equal(i->zone_size, ZONE);
    assert_int_equal(i->zone_count, i->size / ZONE);
    assert_int_equal(i->max_open_zones, MAX_OPEN);
    assert_int_equal(i->max_active_zones, MAX_ACTIVE);
    assert_int_equal(i->block_size, BLOCK);
    assert_in_range(i->max_append, BLOCK, ZONE);
    assert_int_equal(i->discard_granularity, 0);
    assert_false(i->write_zeroes);

    struct blk_zone zones[200];
    struct blk_req r;
    blk_req_data(&r, BLK_ZONE_REPORT, 0, zones, sizeof(zones));
    assert_int_equal(blk_execute(q, &r), 0);
    assert_int_equal(r.count, i->zone_count);
    for (unsigned k = 0; k < r.count; k++) {
        bool conventional = k < CONVENTIONAL;
        assert_int_equal(zones[k].start, k * ZONE);
        assert_int_equal(zones[k].capacity, conventional ? ZONE : CAPACITY);
        assert_int_equal(zones[k].state, conventional ? BLK_ZONE_NO_WP : BLK_ZONE_EMPTY);
        assert_true(conventional || zones[k].wp == zones[k].start);
    }
    blk_req_data(&r, BLK_ZONE_REPORT, FIRST + BLOCK, zones, 3 * sizeof(zones[0]));
    assert_int_equal(blk_execute(q, &r), 0);
    assert_int_equal(r.count, 3);
    assert_int_equal(zones[0].start, FIRST);
    blk_req_data(&r, BLK_ZONE_REPORT, i->size - ZONE, zones, sizeof(zones));
    assert_int_equal(blk_execute(q, &r), 0);
    assert_int_equal(r.count, 1);
}

static void states(void **state)
{
    uint64_t landed;
    (void)state;
    assert_int_equal(manage(BLK_ZONE_OPEN, FIRST, 0), 0);
    assert_zone(FIRST, BLK_ZONE_EXPLICIT_OPEN, 0);
    assert_int_equal(write_at(FIRST, BLOCK, 1), 0);
    assert_zone(FIRST, BLK_ZONE_EXPLICIT_OPEN, BLOCK);
    assert_int_equal(manage(BLK_ZONE_CLOSE, FIRST, 0), 0);
    assert_zone(FIRST, BLK_ZONE_CLOSED, BLOCK);
    assert_int_equal(append(FIRST, 2 * BLOCK, &landed), 0);
    assert_int_equal(landed, FIRST + BLOCK);
    assert_zone(FIRST, BLK_ZONE_IMPLICIT_OPEN, 3 * BLOCK);
    assert_int_equal(manage(BLK_ZONE_FINISH, FIRST, 0), 0);
    assert_zone(FIRST, BLK_ZONE_FULL, ZONE);
    assert_int_equal(append(FIRST, BLOCK, &landed), -BLK_ZONE_IS_FULL);
    assert_int_equal(landed, FIRST);
    assert_int_equal(manage(BLK_ZONE_RESET, FIRST, 0), 0);
    assert_zone(FIRST, BLK_ZONE_EMPTY, 0);
    assert_int_equal(append(FIRST, BLOCK, &landed), 0);
    assert_int_equal(landed, FIRST);
}

static void all_zones(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 3; k++)
        assert_int_equal(write_at(FIRST + k * ZONE, BLOCK, 1), 0);
    assert_int_equal(manage(BLK_ZONE_CLOSE, 0, BLK_ZONE_ALL), 0);
    assert_zone(FIRST, BLK_ZONE_CLOSED, BLOCK);
    assert_int_equal(manage(BLK_ZONE_OPEN, 0, BLK_ZONE_ALL), 0);
    assert_zone(FIRST + ZONE, BLK_ZONE_EXPLICIT_OPEN, BLOCK);
    assert_zone(FIRST + 3 * ZONE, BLK_ZONE_EMPTY, 0);
    assert_int_equal(manage(BLK_ZONE_FINISH, 0, BLK_ZONE_ALL), 0);
    assert_zone(FIRST + 2 * ZONE, BLK_ZONE_FULL, ZONE);
    assert_zone(FIRST + 3 * ZONE, BLK_ZONE_EMPTY, 0);
    assert_int_equal(manage(BLK_ZONE_RESET, 0, BLK_ZONE_ALL), 0);
    for (unsigned k = 0; k < 4; k++)
        assert_zone(FIRST + k * ZONE, BLK_ZONE_EMPTY, 0);
}

/* More are closed than may be open: none is opened. */
static void open_all_or_none(void **state)
{
    uint64_t landed;
    (void)state;
    for (unsigned k = 0; k <= MAX_OPEN; k++)
        assert_int_equal(append(FIRST + k * ZONE, BLOCK, &landed), 0);
    assert_int_equal(manage(BLK_ZONE_CLOSE, 0, BLK_ZONE_ALL), 0);
    assert_int_equal(manage(BLK_ZONE_OPEN, 0, BLK_ZONE_ALL), -BLK_ZONE_TOO_MANY_OPEN);
    for (unsigned k = 0; k <= MAX_OPEN; k++)
        assert_zone(FIRST + k * ZONE, BLK_ZONE_CLOSED, BLOCK);
    assert_int_equal(manage(BLK_ZONE_RESET, FIRST, 0), 0);
    assert_int_equal(manage(BLK_ZONE_OPEN, 0, BLK_ZONE_ALL), 0);
    for (unsigned k = 1; k <= MAX_OPEN; k++)
        assert_zone(FIRST + k * ZONE, BLK_ZONE_EXPLICIT_OPEN, BLOCK);
}

static void errors(void **state)
{
    uint64_t landed;
    (void)state;
    assert_int_equal(write_at(FIRST + BLOCK, BLOCK, 1),
                     -BLK_ZONE_INVALID_WRITE); /* not at the pointer */
    assert_int_equal(write_at(FIRST, BLOCK, 1), 0);
    assert_int_equal(write_at(FIRST, BLOCK, 1), -BLK_ZONE_INVALID_WRITE); /* nor behind it */
    assert_int_equal(write_at(FIRST + ZONE - BLOCK, 2 * BLOCK, 1),
                     -BLK_ZONE_BOUNDARY_ERROR); /* two zones */
    assert_int_equal(write_at(FIRST - BLOCK, 2 * BLOCK, 1), -BLK_ZONE_BOUNDARY_ERROR);
    assert_int_equal(append(0, BLOCK, &landed), -BLK_ZONE_INVALID_WRITE); /* conventional */
    assert_int_equal(manage(BLK_ZONE_RESET, 0, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_int_equal(manage(BLK_ZONE_OPEN, FIRST + BLOCK, 0), -EINVAL);
    assert_int_equal(manage(BLK_ZONE_CLOSE, FIRST + ZONE, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    for (uint64_t at = BLOCK; at < CAPACITY; at += BLOCK)
        assert_int_equal(append(FIRST, BLOCK, &landed), 0);
    assert_int_equal(landed, FIRST + CAPACITY - BLOCK);
    assert_int_equal(append(FIRST, BLOCK, &landed), -BLK_ZONE_IS_FULL);
    assert_int_equal(write_at(FIRST + CAPACITY, BLOCK, 1), -BLK_ZONE_IS_FULL);
    assert_zone(FIRST, BLK_ZONE_FULL, ZONE);
    assert_int_equal(manage(BLK_ZONE_OPEN, FIRST, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    /* Too large for the rest of a zone: nothing of it is written. */
    assert_int_equal(manage(BLK_ZONE_RESET, FIRST, 0), 0);
    for (uint64_t at = 0; at + 32 * BLOCK < CAPACITY; at += 32 * BLOCK)
        assert_int_equal(append(FIRST, 31 * BLOCK, &landed), 0);
    struct blk_zone z = zone_at(FIRST);
    uint64_t rest = z.start + z.capacity - z.wp;
    for (; rest > 16 * BLOCK; rest -= 16 * BLOCK)
        assert_int_equal(append(FIRST, 16 * BLOCK, &landed), 0);
    assert_int_equal(append(FIRST, rest + BLOCK, &landed), -BLK_ZONE_BOUNDARY_ERROR);
    assert_int_equal(append(FIRST, rest, &landed), 0);
    assert_zone(FIRST, BLK_ZONE_FULL, ZONE);
}

static void limits(void **state)
{
    uint64_t landed;
    (void)state;
    for (unsigned k = 0; k < MAX_OPEN; k++)
        assert_int_equal(manage(BLK_ZONE_OPEN, FIRST + k * ZONE, 0), 0);
    assert_int_equal(manage(BLK_ZONE_OPEN, FIRST + MAX_OPEN * ZONE, 0), -BLK_ZONE_TOO_MANY_OPEN);
    assert_int_equal(append(FIRST + MAX_OPEN * ZONE, BLOCK, &landed), -BLK_ZONE_TOO_MANY_OPEN);
    assert_int_equal(manage(BLK_ZONE_RESET, 0, BLK_ZONE_ALL), 0);
    for (unsigned k = 0; k < MAX_ACTIVE; k++)
        assert_int_equal(append(FIRST + k * ZONE, BLOCK, &landed), 0);
    assert_int_equal(append(FIRST + MAX_ACTIVE * ZONE, BLOCK, &landed), -BLK_ZONE_TOO_MANY_ACTIVE);
    assert_int_equal(manage(BLK_ZONE_RESET, FIRST, 0), 0);
    assert_int_equal(append(FIRST + MAX_ACTIVE * ZONE, BLOCK, &landed), 0);
}

static void conventional(void **state)
{
    static _Alignas(BLOCK) char data[2 * BLOCK], back[2 * BLOCK];
    (void)state;
    memset(data, 7, sizeof(data));
    assert_int_equal(blk_write(q, ZONE - BLOCK, data, sizeof(data), 0), 0); /* across two */
    assert_int_equal(blk_write(q, 5 * BLOCK, data, BLOCK, BLK_FUA), 0);
    assert_int_equal(blk_read(q, ZONE - BLOCK, back, sizeof(back)), 0);
    assert_memory_equal(data, back, sizeof(data));
    assert_int_equal(blk_write_bytes(q, 1, "across", 6, 0), 0);
    assert_int_equal(blk_flush(q), 0);
}

/* A batch of writes, one behind the other, as a log would submit it; and appends among them. */
static void batches(void **state)
{
    static _Alignas(BLOCK) char data[DEPTH][BLOCK], back[BLOCK];
    struct blk_req r[DEPTH], *p[DEPTH], *done[DEPTH];
    (void)state;
    for (unsigned round = 0; round < 24; round++) {
        for (unsigned k = 0; k < DEPTH; k++) {
            memset(data[k], (int)(round * DEPTH + k), BLOCK);
            blk_req_write(&r[k], FIRST + (round * DEPTH + k) * BLOCK, data[k], BLOCK);
            p[k] = &r[k];
        }
        assert_int_equal(blk_submit(q, p, DEPTH), DEPTH);
        for (unsigned n = 0; n < DEPTH;) {
            unsigned got = blk_reap(q, done, DEPTH, BLK_FOREVER);
            for (unsigned k = 0; k < got; k++)
                assert_int_equal(done[k]->result, 0);
            n += got;
        }
    }
    for (unsigned k = 0; k < 24 * DEPTH; k++) {
        assert_int_equal(blk_read(q, FIRST + k * BLOCK, back, BLOCK), 0);
        assert_int_equal((uint8_t)back[17], (uint8_t)k);
    }
    assert_zone(FIRST, BLK_ZONE_IMPLICIT_OPEN, 24 * DEPTH * BLOCK);
}

/* Somebody else changes a zone: an append finds its place all the same. */
static void behind_our_back(void **state)
{
    struct linux_zone_range range = {FIRST / 512, ZONE / 512};
    uint64_t landed;
    (void)state;
    assert_int_equal(append(FIRST, 4 * BLOCK, &landed), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, LINUX_BLKRESETZONE, &range), 0);
    assert_int_equal(append(FIRST, BLOCK, &landed), 0);
    assert_int_equal(landed, FIRST);
    assert_int_equal(ioctl(fd, LINUX_BLKRESETZONE, &range), 0);
    assert_int_equal(write_at(FIRST, BLOCK, 1), 0);
    assert_int_equal(ioctl(fd, LINUX_BLKFINISHZONE, &range), 0);
    assert_int_equal(append(FIRST, BLOCK, &landed), -BLK_ZONE_IS_FULL);
    assert_int_equal(ioctl(fd, LINUX_BLKRESETZONE, &range), 0);
    assert_int_equal(append(FIRST, BLOCK, &landed), 0);
    assert_int_equal(landed, FIRST);
    close(fd);
}

/* Let null_blk make a zone read-only or offline; once more, and it is empty again. False: the
 * device is another. */
static bool spoil(const char *how, uint64_t zone)
{
    char file[256];
    snprintf(file, sizeof(file), "/sys/kernel/config/nullb%s/%s", strrchr(path, '/'), how);
    FILE *f = fopen(file, "w");
    if (!f)
        return false;
    fprintf(f, "%llu", (unsigned long long)(zone / 512));
    assert_int_equal(fclose(f), 0);
    return true;
}

static void broken_zones(void **state)
{
    static _Alignas(BLOCK) char back[BLOCK];
    uint64_t landed, zone = FIRST + 10 * ZONE;
    (void)state;
    assert_int_equal(append(zone, BLOCK, &landed), 0);
    if (!spoil("zone_readonly", zone))
        return; /* a disk that cannot */
    assert_int_equal(append(zone, BLOCK, &landed), -BLK_ZONE_IS_READ_ONLY);
    assert_int_equal(append(zone, BLOCK, &landed), -BLK_ZONE_IS_READ_ONLY);
    assert_int_equal(write_at(zone + BLOCK, BLOCK, 1), -BLK_ZONE_IS_READ_ONLY);
    assert_int_equal(manage(BLK_ZONE_RESET, zone, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_int_equal(manage(BLK_ZONE_RESET, 0, BLK_ZONE_ALL), 0);
    assert_int_equal(blk_read(q, zone, back, BLOCK), 0);
    assert_int_equal(zone_at(zone).state, BLK_ZONE_READ_ONLY);
    assert_true(spoil("zone_readonly", zone));
    assert_int_equal(append(zone, BLOCK, &landed), 0);
    assert_int_equal(landed, zone);
    assert_true(spoil("zone_offline", zone));
    assert_int_equal(append(zone, BLOCK, &landed), -BLK_ZONE_IS_OFFLINE);
    assert_int_equal(manage(BLK_ZONE_FINISH, zone, 0), -BLK_ZONE_INVALID_STATE_TRANSITION);
    assert_true(blk_read(q, zone, back, BLOCK) < 0);
    assert_int_equal(zone_at(zone).state, BLK_ZONE_OFFLINE);
    assert_true(spoil("zone_offline", zone));
    assert_zone(zone, BLK_ZONE_EMPTY, 0);
}

/* ---- many threads ---------------------------------------------------------------------- */

/* What each block in the zones holds: who wrote it, and his how-manieth it was. */
struct stamp {
    uint64_t magic, thread, number, place;
};

struct appender {
    struct base_thread thread;
    unsigned id;
    uint64_t landed, refused;
    bool poll; /* wait for the descriptor, then look */
};

static void run_appender(void *arg)
{
    struct appender *a = arg;
    struct blk_queue *mine;
    struct blk_req r[DEPTH], *done[DEPTH];
    uint64_t seed = a->id, number = 0;
    char *data = base_alloc_aligned(BLOCK, DEPTH * BLOCK);
    assert_non_null(data);
    assert_int_equal(blk_queue_open(dev, DEPTH, &mine), 0);
    for (unsigned k = 0; k < DEPTH; k++)
        r[k].user = NULL;
    while (a->refused < 64) {
        for (unsigned k = 0; k < DEPTH; k++) {
            if (r[k].user)
                continue;
            struct blk_req *p = &r[k];
            struct stamp s = {.magic = 0x5a, .thread = a->id, .number = number++};
            memcpy(data + k * BLOCK, &s, sizeof(s));
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            blk_req_data(p, BLK_ZONE_APPEND, FIRST + (seed >> 33) % 3 * ZONE, data + k * BLOCK,
                         BLOCK);
            if ((seed >> 40) % 16 == 0)
                p->flags = BLK_FUA;
            p->user = p;
            assert_int_equal(blk_submit(mine, &p, 1), 1);
        }
        if (a->poll) {
            struct blk_poll p;
            blk_queue_poll(mine, &p);
            struct pollfd f = {.fd = p.fd, .events = p.events};
            poll(&f, 1, p.timeout == 0 ? 0 : -1);
        }
        unsigned n = blk_reap(mine, done, DEPTH, a->poll ? 0 : BLK_FOREVER);
        for (unsigned k = 0; k < n; k++) {
            if (done[k]->result == 0)
                a->landed++;
            else
                a->refused += done[k]->result == -BLK_ZONE_IS_FULL ? 1 : 1000000;
            done[k]->user = NULL;
        }
    }
    while (blk_queue_in_flight(mine))
        for (unsigned n = blk_reap(mine, done, DEPTH, BLK_FOREVER), k = 0; k < n; k++)
            a->landed += done[k]->result == 0;
    blk_queue_close(mine);
    base_free(data);
}

/* All fill three zones at the same time; each block is there once. */
static void threads(void **state)
{
    static struct appender a[THREADS];
    static bool seen[THREADS][4 * CAPACITY / BLOCK];
    _Alignas(BLOCK) char back[BLOCK];
    (void)state;
    for (int round = 0; round < test_rounds(1); round++) {
        uint64_t landed = 0;
        assert_int_equal(manage(BLK_ZONE_RESET, 0, BLK_ZONE_ALL), 0);
        memset(seen, 0, sizeof(seen));
        for (unsigned t = 0; t < THREADS; t++) {
            a[t] = (struct appender){.id = t, .poll = t % 2};
            assert_int_equal(base_thread_start(&a[t].thread, run_appender, &a[t], -1), 0);
        }
        for (unsigned t = 0; t < THREADS; t++) {
            base_thread_join(&a[t].thread);
            assert_in_range(a[t].refused, 64, 64 + DEPTH);
            landed += a[t].landed;
        }
        assert_int_equal(landed, 3 * CAPACITY / BLOCK);
        for (uint64_t k = 0; k < 3 * CAPACITY / BLOCK; k++) {
            uint64_t at = k * BLOCK;
            struct stamp s;
            assert_int_equal(blk_read(q, FIRST + at / CAPACITY * ZONE + at % CAPACITY, back, BLOCK),
                             0);
            memcpy(&s, back, sizeof(s));
            assert_int_equal(s.magic, 0x5a);
            assert_in_range(s.thread, 0, THREADS - 1);
            assert_in_range(s.number, 0, 4 * CAPACITY / BLOCK - 1);
            assert_false(seen[s.thread][s.number]);
            seen[s.thread][s.number] = true;
        }
        for (unsigned k = 0; k < 3; k++)
            assert_zone(FIRST + k * ZONE, BLK_ZONE_FULL, ZONE);
    }
}

/* A zone is reset again and again while others append to it: all that is refused is for a full
 * zone. */
struct resetter {
    struct base_thread thread;
    bool stop;
    int error;
    unsigned resets;
};

static void run_resetter(void *arg)
{
    struct resetter *r = arg;
    struct blk_queue *mine;
    assert_int_equal(blk_queue_open(dev, 1, &mine), 0);
    while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE) && r->error == 0) {
        struct blk_req req;
        blk_req_init(&req, BLK_ZONE_RESET, FIRST + r->resets % 3 * ZONE, 0);
        if (r->resets % 7 == 0)
            req.flags = BLK_ZONE_ALL;
        r->error = blk_execute(mine, &req);
        r->resets++;
    }
    blk_queue_close(mine);
}

static void resets_among_appends(void **state)
{
    struct resetter r = {0};
    uint64_t landed, appends = 0;
    (void)state;
    assert_int_equal(base_thread_start(&r.thread, run_resetter, &r, -1), 0);
    for (unsigned k = 0; k < 600; k++) {
        int error = append(FIRST + k % 3 * ZONE, BLOCK, &landed);
        if (error != 0)
            assert_int_equal(error, -BLK_ZONE_IS_FULL);
        appends += error == 0;
    }
    __atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
    base_thread_join(&r.thread);
    assert_int_equal(r.error, 0);
    assert_true(r.resets > 10);
    assert_true(appends > 300);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(geometry),        TEST(states),       TEST(all_zones),    TEST(open_all_or_none),
        TEST(errors),          TEST(limits),       TEST(conventional), TEST(batches),
        TEST(behind_our_back), TEST(broken_zones), TEST(threads),      TEST(resets_among_appends),
    };
    path = getenv("ASHLAR_ZONED");
    if (!path) {
        puts("1..1\nok 1 - zoned devices of Linux # SKIP tests/vm/zoned_file.sh runs this");
        return 0;
    }
    if (getenv("ASHLAR_ZONED_SKIP"))
        cmocka_set_skip_filter(getenv("ASHLAR_ZONED_SKIP"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
