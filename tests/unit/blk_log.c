/* log: what it records, what a power cut may leave, and damaged logs. */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/util.h"
#include "blk/log_replay.h"

static char dir[] = "/var/tmp/ashlar-log-XXXXXX";
static char log_spec[128];

enum { SIZE = 1 << 20 };

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(log_spec, sizeof(log_spec), "file:%s/log?create=8M", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(log_spec + 5);
    char path[128];
    snprintf(path, sizeof(path), "%s/log", dir);
    unlink(path);
    return rmdir(dir);
}

static struct blk_queue *open_logged(void)
{
    char spec[256];
    snprintf(spec, sizeof(spec), "log?to=file:%s/log?create=8M,mem:1M", dir);
    return test_queue(test_open(spec), 8);
}

static struct blk_error err;

/* The device after a cut, in memory. */
static unsigned char *after(uint64_t records, enum log_loss loss, uint64_t seed)
{
    struct blk *log = test_open(log_spec), *target = test_open("mem:1M");
    struct log_cut cut = {records, loss, seed};
    unsigned char *data = malloc(SIZE);
    if (log_replay(log, target, &cut, &err) < 0)
        fail_msg("%s", err.text);
    struct blk_queue *q = test_queue(target, 1);
    assert_int_equal(blk_read(q, 0, data, SIZE), 0);
    test_close(q);
    blk_close(log);
    return data;
}

static void everything_is_recorded(void **state)
{
    (void)state;
    struct blk_queue *q = open_logged();
    uint64_t random = 2;
    static unsigned char model[SIZE], data[65536];
    memset(model, 0, SIZE);
    unsigned records = 0;
    for (int i = 0; i < 200; i++, records++) {
        uint64_t len = 512 * (1 + random_below(&random, 100));
        uint64_t offset = 512 * random_below(&random, (SIZE - len) / 512 + 1);
        unsigned what = (unsigned)random_below(&random, 10);
        memset(data, i, sizeof(data));
        if (what < 7) {
            assert_int_equal(blk_write(q, offset, data, len, 0), 0);
            memset(model + offset, i, len);
        } else if (what == 7) {
            assert_int_equal(blk_write_zeroes(q, offset, len, 0), 0);
            memset(model + offset, 0, len);
        } else if (what == 8) {
            assert_int_equal(blk_discard(q, offset, len), 0); /* mem: zeroes */
            memset(model + offset, 0, len);
        } else {
            assert_int_equal(blk_flush(q), 0);
        }
    }
    assert_int_equal(blk_read(q, 0, data, 512), 0); /* not recorded */
    test_close(q);
    struct blk *log = test_open(log_spec);
    struct log_info info;
    assert_int_equal(log_examine(log, &info, &err), 0);
    assert_int_equal(info.records, records);
    assert_int_equal(info.device_size, SIZE);
    assert_int_equal(info.device_block, 512);
    blk_close(log);
    unsigned char *state_after = after(UINT64_MAX, LOG_LOSE_NOTHING, 1);
    assert_memory_equal(state_after, model, SIZE);
    free(state_after);
}

/* Writes 0, 1 and 4 promised; 2 and 5 not. */
static void what_a_cut_may_leave(void **state)
{
    (void)state;
    struct blk_queue *q = open_logged();
    static char data[8192];
    for (int i = 0; i < 6; i++) {
        memset(data, 'a' + i, sizeof(data));
        if (i == 3)
            continue;
        if (i == 2)
            assert_int_equal(blk_flush(q), 0);
        assert_int_equal(blk_write(q, (uint64_t)i * 8192, data, 8192, i == 4 ? BLK_FUA : 0), 0);
    }
    test_close(q);
    /* records: w0 w1 flush w2 w4(FUA) w5 */
    unsigned char *s = after(UINT64_MAX, LOG_LOSE_NOTHING, 1);
    assert_true(s[0] == 'a' && s[16384] == 'c' && s[40960] == 'f');
    free(s);
    s = after(UINT64_MAX, LOG_LOSE_ALL, 1);
    assert_true(s[0] == 'a' && s[8192] == 'b' && s[16384] == 0 && s[32768] == 'e' && s[40960] == 0);
    free(s);
    s = after(2, LOG_LOSE_ALL, 1); /* before the flush: nothing was promised */
    assert_true(s[0] == 0 && s[8192] == 0);
    free(s);
    bool missing = false, whole = false, torn = false;
    for (uint64_t seed = 1; seed <= (uint64_t)test_rounds(40); seed++) {
        s = after(UINT64_MAX, LOG_LOSE_SOME, seed);
        assert_true(s[0] == 'a' && s[16383] == 'b' && s[32768] == 'e' && s[40959] == 'e');
        unsigned blocks = 0;
        for (int b = 0; b < 16; b++) {
            unsigned char c = s[16384 + b * 512];
            assert_true(c == 0 || c == 'c');
            assert_int_equal(s[16384 + b * 512 + 511], c);
            blocks += c == 'c';
        }
        missing |= blocks == 0;
        whole |= blocks == 16;
        torn |= blocks > 0 && blocks < 16;
        free(s);
    }
    assert_true(missing && whole && torn);
}

/* A flush covers what had completed when it was submitted, not what was still on its way. */
static void a_flush_covers_what_came_before(void **state)
{
    (void)state;
    char spec[256];
    snprintf(spec, sizeof(spec), "log?to=file:%s/log,delay?flush=5ms,mem:1M", dir);
    struct blk_queue *q = test_queue(test_open(spec), 8);
    char data[512];
    struct blk_req flush, write, *f = &flush, *w = &write, *done;
    memset(data, 'x', 512);
    blk_req_init(&flush, BLK_FLUSH, 0, 0);
    blk_req_write(&write, 0, data, 512);
    assert_int_equal(blk_submit(q, &f, 1), 1);
    assert_int_equal(blk_submit(q, &w, 1), 1);
    assert_int_equal(blk_reap(q, &done, 1, BLK_FOREVER), 1);
    assert_ptr_equal(done, &write);
    assert_int_equal(blk_reap(q, &done, 1, BLK_FOREVER), 1);
    test_close(q);
    unsigned char *s = after(UINT64_MAX, LOG_LOSE_ALL, 1);
    assert_int_equal(s[0], 0);
    free(s);
}

static void full_log(void **state)
{
    (void)state;
    struct blk_queue *q = test_queue(test_open("log?to=mem:64K,mem:1M"), 4);
    static char data[32768];
    assert_int_equal(blk_write(q, 0, data, sizeof(data), 0), 0);
    assert_int_equal(blk_write(q, 0, data, sizeof(data), 0), -ENOSPC);
    test_close(q);
    test_refused("log,mem:1M", -EINVAL, "to=DEVICE");
    test_refused("log?to=mem:1K,mem:1M", -EINVAL, "4096");
    test_refused("log?to=frob:1,mem:1M", -EINVAL, "frob");
}

static int examine_damaged(uint64_t offset, unsigned char flip)
{
    struct blk *log = test_open(log_spec);
    struct blk_queue *q = test_queue(log, 1);
    struct log_info info;
    unsigned char byte;
    assert_int_equal(blk_read_bytes(q, offset, &byte, 1), 0);
    byte ^= flip;
    assert_int_equal(blk_write_bytes(q, offset, &byte, 1, 0), 0);
    int error = log_examine(log, &info, &err);
    byte ^= flip;
    assert_int_equal(blk_write_bytes(q, offset, &byte, 1, 0), 0);
    test_close(q);
    return error == 0 ? (int)info.records : error;
}

static void damaged_logs(void **state)
{
    (void)state;
    struct blk_queue *q = open_logged();
    static char data[4096];
    for (int i = 0; i < 3; i++)
        assert_int_equal(blk_write(q, 0, data, 4096, 0), 0);
    test_close(q);
    assert_int_equal(examine_damaged(0, 0), 3);
    assert_int_equal(examine_damaged(0, 1), -EINVAL);  /* magic */
    assert_int_equal(examine_damaged(30, 1), -EINVAL); /* size: header checksum */
    assert_int_equal(examine_damaged(4096, 1), 0);     /* record magic: ends there */
    assert_int_equal(examine_damaged(4096 + 4, 1), -EILSEQ);
    assert_int_equal(examine_damaged(4096 + 40, 1), -EILSEQ);
    assert_int_equal(examine_damaged(4096 + 55, 0x80), -EILSEQ); /* data of 2^63 bytes */
    assert_int_equal(examine_damaged(4096 + 64 + 4000, 1), -EILSEQ);
    assert_non_null(strstr(err.text, "record 0"));
    struct blk *log = test_open(log_spec), *small = test_open("mem:64K");
    struct log_cut cut = {UINT64_MAX, LOG_LOSE_NOTHING, 1};
    assert_int_equal(log_replay(log, small, &cut, &err), -EINVAL);
    blk_close(log);
    blk_close(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_recorded),
        cmocka_unit_test(what_a_cut_may_leave),
        cmocka_unit_test(a_flush_covers_what_came_before),
        cmocka_unit_test(full_log),
        cmocka_unit_test(damaged_logs),
    };
    return cmocka_run_group_tests_name("blk_log", tests, set_up, tear_down);
}
