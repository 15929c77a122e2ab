/* ublk without a kernel that has it: what goes over the border, parameters, rings that are shared.
 * All that needs the driver is in tests/vm/ublk_*.sh. */
#include "test.h"

#include <ashlar/blk_driver.h>
#include <ashlar/ublk.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "linux/ring.h"
#include "linux/ublk/abi.h"
#include "linux/ublk/params.h"
#include "linux/ublk/zone.h"
#include "linux/zone_abi.h"

/* ---- the border ------------------------------------------------------------------------- */

static void layouts(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct ublksrv_ctrl_cmd), 32);
    assert_int_equal(offsetof(struct ublksrv_ctrl_cmd, dev_path_len), 24);
    assert_int_equal(sizeof(struct ublksrv_ctrl_dev_info), 64);
    assert_int_equal(offsetof(struct ublksrv_ctrl_dev_info, ublksrv_flags), 32);
    assert_int_equal(offsetof(struct ublksrv_ctrl_dev_info, owner_uid), 40);
    assert_int_equal(sizeof(struct ublksrv_io_cmd), 16);
    assert_int_equal(sizeof(struct ublksrv_io_desc), 24);
    assert_int_equal(sizeof(struct linux_zone), 64);
    assert_int_equal(offsetof(struct linux_zone, capacity), 32);
    assert_int_equal(LINUX_BLKREPORTZONE, 0xc0101282);
    assert_int_equal(LINUX_BLKFINISHZONE, 0x40101288);
    assert_int_equal(offsetof(struct ublk_params, discard), 40);
    assert_int_equal(offsetof(struct ublk_params, devt), 60);
    assert_int_equal(offsetof(struct ublk_params, zoned), 76);
    assert_int_equal(offsetof(struct ublk_params, dma), 108);
    assert_int_equal(UBLK_U_CMD_ADD_DEV, 0xc0207504);
    assert_int_equal(UBLK_U_CMD_GET_FEATURES, 0x80207513);
    assert_int_equal(UBLK_U_IO_COMMIT_AND_FETCH_REQ, 0xc0107521);
}

static void features(void **state)
{
    (void)state;
    assert_string_equal(ublk_feature_name(0), "SUPPORT_ZERO_COPY");
    assert_string_equal(ublk_feature_name(__builtin_ctzll(UBLK_F_USER_COPY)), "USER_COPY");
    assert_string_equal(ublk_feature_name(__builtin_ctzll(UBLK_F_AUTO_BUF_REG)), "AUTO_BUF_REG");
    assert_null(ublk_feature_name(63));
}

static void no_ublk(void **state)
{
    (void)state;
    struct ublk_config config = UBLK_CONFIG_DEFAULT;
    struct blk_error err;
    struct ublk *u;
    uint64_t f;
    if (access("/dev/ublk-control", F_OK) == 0)
        skip();
    struct blk *dev = test_open("mem:1M");
    assert_int_equal(ublk_start(dev, &config, &u, &err), -ENOENT);
    assert_null(u);
    assert_non_null(strstr(err.text, "modprobe ublk_drv"));
    assert_int_equal(ublk_recover(dev, 0, &u, &err), -ENOENT);
    assert_int_equal(ublk_features(&f, &err), -ENOENT);
    assert_int_equal(ublk_delete(0, &err), -ENOENT);
    assert_int_equal(ublk_resize(0, 4096, NULL), -ENOENT);
    int ids[4];
    assert_int_equal(ublk_list(ids, 4), 0);
    ublk_delete_unfinished(1);
    ublk_forget_mounts();
    blk_close(dev);
}

/* ---- parameters ------------------------------------------------------------------------- */

static struct blk_info odd_info;

static int odd_open(struct blk *dev, struct blk_error *err)
{
    (void)err;
    dev->info = odd_info;
    return 0;
}

static const struct blk_driver odd = {
    .name = "odd", .summary = "as the test likes", .open = odd_open};

static struct blk *open_odd(struct blk_info info)
{
    odd_info = info;
    return test_open("odd");
}

static void resolved(void **state)
{
    (void)state;
    struct ublk_config c = UBLK_CONFIG_DEFAULT;
    struct blk_error err;
    struct blk *dev = test_open("mem:1M");
    assert_int_equal(ublk_config_resolve(dev, &c, &err), 0);
    assert_int_equal(c.block_size, 512);
    assert_int_equal(c.depth, 128);
    assert_int_equal(c.max_io, 256 << 10);
    assert_true(c.queues >= 1 && c.queues <= 4);
    static const struct {
        struct ublk_config config;
        const char *text;
    } bad[] = {
        {{.block_size = 256}, "512, 1024"},   {{.block_size = 8192}, "512, 1024"},
        {{.block_size = 1000}, "512, 1024"},  {{.max_io = 2048}, "from 4K to 32M"},
        {{.max_io = 5000}, "from 4K to 32M"}, {{.max_io = 64u << 20}, "from 4K to 32M"},
        {{.depth = 5000}, "depth 4096"},      {{.queues = 5000}, "at most 4096 queues"},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct ublk_config b = bad[i].config;
        assert_int_equal(ublk_config_resolve(dev, &b, &err), -EINVAL);
        if (!strstr(err.text, bad[i].text))
            fail_msg("'%s' does not say '%s'", err.text, bad[i].text);
    }
    blk_close(dev);
}

#define ZONES(zone, open, active, append)                                                          \
    {                                                                                              \
        .size = 8 << 20, .block_size = 512, .zoned = true, .zone_size = (zone), .zone_count = 8,   \
        .max_open_zones = (open), .max_active_zones = (active), .max_append = (append)             \
    }
#define ZONED(zone) ZONES(zone, 4, 5, 1 << 20)

static void odd_devices(void **state)
{
    (void)state;
    struct blk_error err;
    static const struct {
        struct blk_info info;
        struct ublk_config config;
        const char *text; /* NULL: good */
    } cases[] = {
        {{.size = 1 << 20, .block_size = 8192}, {0}, "Linux takes at most 4096"},
        {{.size = 1 << 20, .block_size = 4096}, {.block_size = 512}, "512 is less"},
        {{.size = 1 << 20, .block_size = 4096}, {0}, NULL},
        {{.size = 100, .block_size = 1}, {0}, "smaller than one block"},
        {{.size = 1 << 20, .max_queues = 1}, {.queues = 2}, "at most 1 queues"},
        {{.size = 1 << 20, .max_queues = 1}, {0}, NULL},
        {{.size = 1 << 20, .block_size = 512, .max_transfer = 512}, {0}, "less than 4096"},
        {{.size = 1 << 20, .max_transfer = 8192}, {0}, NULL},
        {ZONED(1 << 20), {0}, NULL},
        {ZONED(1 << 20), {.mode = UBLK_MODE_USER_COPY}, NULL},
        {ZONED(1 << 20), {.recovery = UBLK_RECOVERY_QUEUE}, NULL},
        {ZONED(3 << 20), {0}, "powers of two"},
        {ZONED(2048), {0}, "powers of two"},
        {ZONED(16 << 20), {0}, "powers of two"},
        {ZONED(1 << 20), {.block_size = 4096}, "must stay 512"},
        {ZONED(1 << 20), {.mode = UBLK_MODE_ZERO_COPY}, "user-copy"},
        {ZONED(1 << 20), {.unprivileged = true}, "unprivileged devices have none"},
        {ZONED(1 << 20), {.recovery = UBLK_RECOVERY_REISSUE}, "issued again"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct ublk_config c = cases[i].config;
        struct blk *dev = open_odd(cases[i].info);
        int error = ublk_config_resolve(dev, &c, &err);
        if (cases[i].text && (error == 0 || !strstr(err.text, cases[i].text)))
            fail_msg("case %u: %d, '%s'", i, error, error ? err.text : "");
        if (!cases[i].text && error < 0)
            fail_msg("case %u: '%s'", i, err.text);
        if (!cases[i].text) {
            assert_true(c.queues <= blk_info(dev)->max_queues);
            assert_true(c.max_io <= blk_info(dev)->max_transfer);
        }
        blk_close(dev);
    }
}

static void zones(void **state)
{
    (void)state;
    static const struct {
        struct blk_info info;
        const char *text; /* NULL: it may go on */
    } others[] = {
        {ZONED(1 << 20), NULL},
        {ZONES(1 << 20, 0, 0, 1 << 20), NULL},
        {ZONES(1 << 20, 5, 5, 1 << 20), NULL},
        {ZONES(1 << 20, 3, 5, 1 << 20), "less open or active"},
        {ZONES(1 << 20, 4, 4, 1 << 20), "less open or active"},
        {ZONES(1 << 20, 4, 5, 65536), "smaller zone appends"},
        {ZONED(2 << 20), "has zones of 2097152"},
        {{.size = 8 << 20, .block_size = 512}, "is not zoned"},
    };
    struct ublk_config c = UBLK_CONFIG_DEFAULT;
    struct ublk_params p, plain;
    struct blk_error err;
    struct blk *dev = open_odd((struct blk_info)ZONED(1 << 20));
    assert_int_equal(ublk_config_resolve(dev, &c, &err), 0);
    ublk_params_set(dev, &c, &p);
    assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_ZONED);
    assert_int_equal(p.basic.chunk_sectors, 2048);
    assert_int_equal(p.basic.dev_sectors, 16384);
    assert_int_equal(p.zoned.max_open_zones, 4);
    assert_int_equal(p.zoned.max_active_zones, 5);
    assert_int_equal(p.zoned.max_zone_append_sectors, 512); /* as large as a request */
    blk_close(dev);
    for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++) {
        dev = open_odd(others[i].info);
        int error = ublk_params_match(dev, &p, &err);
        if (others[i].text ? error != -EINVAL || !strstr(err.text, others[i].text) : error != 0)
            fail_msg("device %u: %d, '%s'", i, error, error ? err.text : "");
        blk_close(dev);
    }

    /* Limits beyond all zones are none; the kernel wants no more open than active zones. */
    dev = open_odd((struct blk_info)ZONES(1 << 20, 8, 100, 1 << 20));
    ublk_params_set(dev, &c, &p);
    assert_int_equal(p.zoned.max_open_zones, 0);
    assert_int_equal(p.zoned.max_active_zones, 0);
    blk_close(dev);
    dev = open_odd((struct blk_info)ZONES(1 << 20, 7, 5, 1 << 20));
    ublk_params_set(dev, &c, &p);
    assert_int_equal(p.zoned.max_open_zones, 5);
    blk_close(dev);

    dev = test_open("mem:8M");
    ublk_params_set(dev, &c, &plain);
    blk_close(dev);
    dev = open_odd((struct blk_info)ZONED(1 << 20));
    assert_int_equal(ublk_params_match(dev, &plain, &err), -EINVAL);
    assert_non_null(strstr(err.text, "what was served was not"));
    blk_close(dev);

    struct ublksrv_ctrl_dev_info d = {.flags = UBLK_F_USER_COPY | UBLK_F_ZONED};
    struct ublk_info info;
    ublk_info_set(&info, &d, &p);
    assert_true(info.zoned);
    assert_int_equal(info.zone_size, 1 << 20);
    assert_int_equal(info.max_open_zones, 5);
    assert_int_equal(info.max_append, 256 << 10);
}

/* Reports, from our words to the kernel's, in the same memory. */
static void reports(void **state)
{
    (void)state;
    enum { N = 50 };
    static _Alignas(8) char data[N * sizeof(struct linux_zone)];
    static const uint8_t states[] = {BLK_ZONE_EMPTY, BLK_ZONE_IMPLICIT_OPEN, BLK_ZONE_CLOSED,
                                     BLK_ZONE_FULL,  BLK_ZONE_READ_ONLY,     BLK_ZONE_OFFLINE};
    struct ublksrv_io_desc d = {.op_flags = UBLK_IO_OP_REPORT_ZONES, .start_sector = 8192};
    struct blk_req r;
    assert_int_equal(ublk_zone_ask(&r, &d, data, sizeof(data)), -EINVAL); /* no zone at all */
    d.nr_sectors = UINT32_MAX;
    assert_int_equal(ublk_zone_ask(&r, &d, data, sizeof(data)), 0);
    assert_int_equal(r.op, BLK_ZONE_REPORT);
    assert_int_equal(r.offset, 4 << 20);
    assert_int_equal(r.iov[0].iov_len / sizeof(struct blk_zone), N);
    struct blk_zone *ours = r.iov[0].iov_base;
    for (unsigned i = 0; i < N; i++)
        ours[i] = (struct blk_zone){.start = i * UINT64_C(4096),
                                    .len = 4096,
                                    .capacity = 2048,
                                    .wp = i * UINT64_C(4096) + 1024,
                                    .state = i ? states[i % 6] : BLK_ZONE_NO_WP};
    r.count = N;
    assert_int_equal(ublk_zone_answer(&r), sizeof(data));
    for (unsigned i = 0; i < N; i++) {
        struct linux_zone k;
        memcpy(&k, data + i * sizeof(k), sizeof(k));
        assert_int_equal(k.start, i * 8);
        assert_int_equal(k.len, 8);
        assert_int_equal(k.capacity, 4);
        assert_int_equal(k.wp, i * 8 + 2);
        assert_int_equal(k.type, i ? LINUX_ZONE_SEQUENTIAL : LINUX_ZONE_CONVENTIONAL);
        assert_int_equal(k.cond, i ? states[i % 6] : LINUX_ZONE_NOT_WP);
        assert_int_equal(k.reset + k.non_seq + k.pad[0] + k.reserved[0], 0);
    }
    assert_int_equal(ublk_zone_op(UBLK_IO_OP_ZONE_RESET_ALL), BLK_ZONE_RESET);
    assert_int_equal(ublk_zone_op(UBLK_IO_OP_ZONE_APPEND), BLK_ZONE_APPEND);
    assert_int_equal(ublk_zone_op(16), -ENOTSUP);
    assert_int_equal(ublk_zone_op(4), -ENOTSUP);
}

static void parameters(void **state)
{
    (void)state;
    struct ublk_config c = {.block_size = 4096, .max_io = 65536, .mode = UBLK_MODE_COPY};
    struct ublk_params p;
    struct blk_error err;
    struct blk_info i = {.size = (1 << 20) + 512,
                         .block_size = 512,
                         .physical_block_size = 8192,
                         .optimal_io = 1 << 20,
                         .discard_granularity = 16384,
                         .write_zeroes = true,
                         .volatile_cache = true,
                         .rotational = true};
    struct blk *dev = open_odd(i);
    ublk_params_set(dev, &c, &p);
    assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD);
    assert_int_equal(p.basic.attrs,
                     UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA | UBLK_ATTR_ROTATIONAL);
    assert_int_equal(p.basic.logical_bs_shift, 12);
    assert_int_equal(p.basic.physical_bs_shift, 12); /* Linux has no more than a page */
    assert_int_equal(p.basic.io_opt_shift, 16);
    assert_int_equal(p.basic.max_sectors, 128);
    assert_int_equal(p.basic.dev_sectors, 2048); /* whole blocks of 4096 */
    assert_int_equal(p.discard.discard_granularity, 16384);
    assert_true(p.discard.max_discard_sectors && p.discard.max_write_zeroes_sectors);
    assert_int_equal(ublk_params_match(dev, &p, &err), 0);

    struct ublksrv_ctrl_dev_info d = {.nr_hw_queues = 2,
                                      .queue_depth = 7,
                                      .state = UBLK_S_DEV_LIVE,
                                      .ublksrv_pid = -1,
                                      .dev_id = 3,
                                      .flags = UBLK_F_USER_COPY | UBLK_F_USER_RECOVERY};
    struct ublk_info info;
    ublk_info_set(&info, &d, &p);
    assert_int_equal(info.size, 1 << 20);
    assert_int_equal(info.block_size, 4096);
    assert_int_equal(info.mode, UBLK_MODE_USER_COPY);
    assert_int_equal(info.recovery, UBLK_RECOVERY_QUEUE);
    assert_int_equal(info.discard_granularity, 16384);
    assert_int_equal(info.pid, -1);
    for (int m = UBLK_MODE_COPY; m <= UBLK_MODE_ZERO_COPY; m++) {
        d.flags = ublk_mode_flags((enum ublk_mode)m, UBLK_F_AUTO_BUF_REG);
        ublk_info_set(&info, &d, NULL);
        assert_int_equal(info.mode, m);
        assert_false(info.has_params);
    }
    for (int r = UBLK_RECOVERY_NONE; r <= UBLK_RECOVERY_FAIL; r++) {
        d.flags = ublk_recovery_flags((enum ublk_recovery)r);
        ublk_info_set(&info, &d, NULL);
        assert_int_equal(info.recovery, r);
    }

    p.basic.dev_sectors = 4096;
    assert_int_equal(ublk_params_match(dev, &p, &err), -EINVAL);
    assert_non_null(strstr(err.text, "smaller"));
    blk_close(dev);

    i.read_only = true;
    dev = open_odd(i);
    ublk_params_set(dev, &c, &p);
    assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
    assert_true(p.basic.attrs & UBLK_ATTR_READ_ONLY);
    p.basic.attrs = 0;
    assert_int_equal(ublk_params_match(dev, &p, &err), -EINVAL);
    assert_non_null(strstr(err.text, "read-only"));
    blk_close(dev);
}

/* ---- rings that are shared -------------------------------------------------------------- */

struct counter {
    unsigned done;
    uint64_t last;
};

static void count(void *arg, uint64_t data, int result)
{
    struct counter *c = arg;
    assert_int_equal(result, 0);
    c->done++;
    c->last = data;
}

static void put_nop(struct ring *ring, int user, uint64_t data)
{
    struct io_uring_sqe *sqe = ring_sqe(ring);
    io_uring_prep_nop(sqe);
    sqe->user_data = data | (unsigned)user;
}

static void users(void **state)
{
    (void)state;
    struct ring ring;
    struct counter c[RING_USERS] = {0};
    assert_int_equal(ring_open(&ring, 4, true, 0), 0);
    for (int i = 0; i < RING_USERS; i++)
        assert_int_equal(ring_join(&ring, count, &c[i], -1), i);
    assert_int_equal(ring_join(&ring, count, NULL, -1), -ENOSPC);
    for (unsigned n = 0; n < 100; n++) /* more than it has entries: it submits by itself */
        put_nop(&ring, n % RING_USERS, n * 8);
    for (unsigned seen = 0; seen < 100;) {
        ring_wait(&ring, BLK_FOREVER);
        ring_take(&ring);
        seen = 0;
        for (int i = 0; i < RING_USERS; i++)
            seen += c[i].done;
    }
    assert_int_equal(c[3].done, 13);
    assert_int_equal(c[3].last, 99 * 8);
    ring_wait(&ring, 1000000); /* nothing comes: the time passes */
    assert_false(ring_take(&ring));
    ring_leave(&ring, 5);
    assert_int_equal(ring_join(&ring, count, &c[5], -1), 5);
    ring_close(&ring);
}

/* Two files and a stranger on one ring, in a thread of its own. */
static void *share(void *path)
{
    enum { N = 32, SIZE = 4096 };
    static char data[N][SIZE], back[N][SIZE];
    char spec[128];
    struct ring ring;
    struct counter c = {0};
    struct blk *dev[2];
    struct blk_queue *q[2];
    struct blk_req req[N], *done[N];
    assert_int_equal(ring_open(&ring, 8, true, 0), 0);
    int user = ring_join(&ring, count, &c, -1);
    ring_offer(&ring);
    for (int i = 0; i < 2; i++) {
        snprintf(spec, sizeof(spec), "file:%s%d?create=1M", (const char *)path, i);
        dev[i] = test_open(spec);
        assert_int_equal(blk_queue_open(dev[i], N, &q[i]), 0);
    }
    ring_offer(NULL);
    for (unsigned i = 0; i < N; i++) {
        memset(data[i], (int)i + 1, SIZE);
        blk_req_write(&req[i], (uint64_t)(i / 2) * SIZE, data[i], SIZE);
        done[0] = &req[i];
        put_nop(&ring, user, i * 8);
        assert_int_equal(blk_submit(q[i % 2], done, 1), 1);
    }
    for (unsigned turn = 0; blk_queue_in_flight(q[0]) || blk_queue_in_flight(q[1]); turn++) {
        unsigned k = blk_reap(q[turn % 2], done, N, turn % 3 ? BLK_FOREVER : 100000);
        for (unsigned i = 0; i < k; i++)
            assert_int_equal(done[i]->result, 0);
    }
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(blk_read(q[i % 2], (uint64_t)(i / 2) * SIZE, back[i], SIZE), 0);
    assert_memory_equal(data, back, sizeof(data));
    while (c.done < N) {
        ring_wait(&ring, BLK_FOREVER);
        ring_take(&ring);
    }
    for (int i = 0; i < 2; i++) {
        struct blk_poll p;
        blk_queue_poll(q[i], &p);
        assert_int_equal(p.fd, -1); /* who offered the ring waits for it */
        assert_int_equal(blk_queue_close(q[i]), 0);
        assert_int_equal(blk_close(dev[i]), 0);
    }
    ring_close(&ring);
    return NULL;
}

static void shared_ring(void **state)
{
    (void)state;
    char path[] = "/var/tmp/ashlar-ublk-XXXXXX", name[64];
    pthread_t t;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(pthread_create(&t, NULL, share, path), 0);
    pthread_join(t, NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "%s%d", path, i);
        unlink(name);
    }
    unlink(path);
}

static void buffers(void **state)
{
    (void)state;
    struct ring ring;
    static char memory[8192] __attribute__((aligned(4096)));
    if (ring_open(&ring, 4, true, 16) < 0)
        skip();
    assert_int_equal(ring_buffer_find(&ring, memory, 512).index, -1);
    ring_buffer_add(&ring, memory, sizeof(memory));
    struct ring_buffer b = ring_buffer_find(&ring, memory + 4096, 4096);
    assert_int_equal(b.index, 16); /* behind those of the kernel */
    assert_ptr_equal(b.address, memory + 4096);
    assert_int_equal(ring_buffer_find(&ring, memory + 4096, 4097).index, -1);
    ring.window = (char *)(uintptr_t)0x100000;
    ring.window_slot = 65536;
    b = ring_buffer_find(&ring, ring.window + 3 * 65536 + 512, 4096);
    assert_int_equal(b.index, 3);
    assert_ptr_equal(b.address, (void *)(uintptr_t)512);
    assert_int_equal(ring_buffer_find(&ring, ring.window + 16 * 65536, 4096).index, -1);
    ring_buffer_remove(&ring, memory);
    assert_int_equal(ring_buffer_find(&ring, memory, 512).index, -1);
    ring_close(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts),     cmocka_unit_test(features),    cmocka_unit_test(no_ublk),
        cmocka_unit_test(resolved),    cmocka_unit_test(odd_devices), cmocka_unit_test(parameters),
        cmocka_unit_test(zones),       cmocka_unit_test(reports),     cmocka_unit_test(users),
        cmocka_unit_test(shared_ring), cmocka_unit_test(buffers),
    };
    blk_driver_register(&odd);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
