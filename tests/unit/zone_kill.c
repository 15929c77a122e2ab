/* The zns filter on a file: a process that appends, flushes and resets is killed in the middle of
 * it, again and again, and what it was promised is there. */
#include "test.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <ashlar/zone.h>

#include "base/util.h"

enum { ZONE = 65536, ZONES = 8, BLOCK = 4096, BLOCKS = ZONE / BLOCK };

/* What the child tells, in memory of both. Of each zone: its life, and of that life the number of
 * each block that is there for certain. */
struct told {
    uint32_t life[ZONES]; /* even; odd: a reset is in flight */
    uint32_t promised[ZONES][BLOCKS];
    uint32_t number;
    uint32_t failed;
};

static char path[] = "/var/tmp/ashlar-zone-XXXXXX";
static char spec[128];

static void one_step(struct blk_queue *q, struct told *t, uint64_t *random)
{
    static uint32_t data[BLOCK / 4];
    static uint32_t pending[ZONES][BLOCKS];
    unsigned zone = (unsigned)random_below(random, ZONES);
    uint64_t what = random_below(random, 20), place;
    bool durable = what < 4;
    int error;
    if (what == 19) {
        t->life[zone]++;
        error = blk_zone_reset(q, zone * ZONE);
        memset(pending[zone], 0, sizeof(pending[zone]));
        memset(t->promised[zone], 0, sizeof(t->promised[zone]));
        __atomic_signal_fence(__ATOMIC_SEQ_CST); /* it is killed, not read meanwhile */
        t->life[zone]++;
    } else if (what == 18) {
        error = blk_flush(q);
        memcpy(t->promised, pending, sizeof(pending));
    } else {
        uint32_t n = ++t->number;
        for (unsigned i = 0; i < BLOCK / 4; i += 2) {
            data[i] = n;
            data[i + 1] = t->life[zone];
        }
        error = blk_zone_append(q, zone * ZONE, data, BLOCK, durable ? BLK_FUA : 0, &place);
        if (error == 0) {
            pending[zone][place % ZONE / BLOCK] = n;
            if (durable)
                t->promised[zone][place % ZONE / BLOCK] = n;
        }
    }
    t->failed += error < 0 && error != -BLK_ZONE_IS_FULL;
}

static void child(struct told *t, uint64_t random)
{
    struct blk *dev;
    struct blk_queue *q;
    if (blk_open(spec, 0, &dev, NULL) < 0 || blk_queue_open(dev, 4, &q) < 0)
        _exit(1);
    for (;;)
        one_step(q, t, &random);
}

static void check(const struct told *t)
{
    static uint32_t data[ZONE / 4];
    struct blk_queue *q = test_queue(test_open(spec), 4);
    for (unsigned zone = 0; zone < ZONES; zone++) {
        struct blk_zone z;
        assert_int_equal(blk_zone_report(q, zone * ZONE, &z, 1), 1);
        assert_int_equal(blk_read(q, zone * ZONE, data, ZONE), 0);
        for (unsigned b = 0; b < BLOCKS; b++) {
            const uint32_t *block = data + b * BLOCK / 4;
            for (unsigned i = 0; i < BLOCK / 4; i++)
                assert_int_equal(block[i], block[i % 2]);
            if (z.wp <= zone * ZONE + b * BLOCK)
                assert_int_equal(block[0], 0);
            if (t->life[zone] % 2 == 0 && t->promised[zone][b])
                assert_int_equal(block[0], t->promised[zone][b]);
            if (t->life[zone] % 2 == 0 && block[0])
                assert_int_equal(block[1], t->life[zone]);
        }
    }
    assert_int_equal(blk_zone_all(q, BLK_ZONE_RESET), 0);
    test_close(q);
}

static void killed(void **state)
{
    (void)state;
    struct told *t =
        mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = mkstemp(path), status;
    uint64_t steps = 0, random = 3;
    assert_true(t != MAP_FAILED && fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    snprintf(spec, sizeof(spec), "zns?zone=64K,psync:%s", path);
    for (int i = 0; i < test_rounds(12); i++) {
        memset(t, 0, sizeof(*t));
        pid_t pid = fork();
        if (!pid)
            child(t, 100 + (uint64_t)i);
        assert_true(pid > 0);
        uint32_t wanted = (uint32_t)random_below(&random, 120);
        for (int k = 0; k < 20000 && __atomic_load_n(&t->number, __ATOMIC_RELAXED) <= wanted; k++)
            nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(t->failed, 0);
        steps += t->number;
        check(t);
    }
    assert_true(steps > 100);
    close(fd);
    unlink(path);
    munmap(t, sizeof(*t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed)};
    return cmocka_run_group_tests_name("zone_kill", tests, NULL, NULL);
}
