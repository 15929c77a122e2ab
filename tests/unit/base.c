/* base/: checksums, histograms, arithmetic. */
#include "test.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/hist.h"
#include "base/list.h"
#include "base/util.h"

static void crc32c_known(void **state)
{
    (void)state;
    /* RFC 3720, appendix B.4. */
    uint8_t data[48] = {0};
    assert_int_equal(crc32c(0, data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, data, 32), 0x46dd794e);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
}

static void crc32c_both_ways(void **state)
{
    (void)state;
    static uint8_t data[5000];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)random_next(&random);
    for (int i = 0; i < test_rounds(2000); i++) {
        size_t start = random_below(&random, 64), len = random_below(&random, 4900);
        size_t cut = random_below(&random, len + 1);
        uint32_t whole = crc32c(0, data + start, len);
        assert_int_equal(whole, crc32c_portable(0, data + start, len));
        assert_int_equal(whole,
                         crc32c(crc32c(0, data + start, cut), data + start + cut, len - cut));
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void percentiles(void **state)
{
    (void)state;
    enum { N = 20000 };
    static struct hist all, parts[2];
    static uint64_t values[N];
    static const double shares[] = {0.0001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
    uint64_t random = 3, sum = 0;
    for (int i = 0; i < N; i++) {
        values[i] = random_next(&random) >> (24 + random_below(&random, 40));
        sum += values[i];
        hist_add(&parts[i % 2], values[i]);
    }
    hist_merge(&all, &parts[0]);
    hist_merge(&all, &parts[1]);
    qsort(values, N, sizeof(values[0]), by_value);
    assert_int_equal(all.count, N);
    assert_int_equal(all.min, values[0]);
    assert_int_equal(all.max, values[N - 1]);
    assert_int_equal(hist_mean(&all), sum / N);
    for (size_t i = 0; i < ARRAY_SIZE(shares); i++) {
        uint64_t rank = (uint64_t)(shares[i] * N + 0.999999);
        uint64_t exact = values[rank - 1], got = hist_percentile(&all, shares[i]);
        if (got < exact || (double)got > (double)exact * 1.032 + 1)
            fail_msg("share %f: %llu, exact %llu", shares[i], (unsigned long long)got,
                     (unsigned long long)exact);
    }
    hist_clear(&all);
    assert_int_equal(hist_percentile(&all, 0.5), 0);
    hist_add(&all, UINT64_MAX);
    assert_int_equal(hist_percentile(&all, 0.5), (UINT64_C(1) << 40) - 1);
    /* Every value lies in its bucket. */
    for (unsigned shift = 0; shift < 40; shift++)
        for (int d = -1; d <= 1; d++) {
            uint64_t v = (UINT64_C(1) << shift) + (uint64_t)d;
            hist_clear(&all);
            hist_add(&all, v);
            hist_add(&all, UINT64_C(1) << 39);
            assert_true(hist_percentile(&all, 0.5) >= v);
        }
}

static void arithmetic(void **state)
{
    (void)state;
    assert_true(range_ok(0, 0, 0));
    assert_true(range_ok(5, 5, 10));
    assert_false(range_ok(5, 6, 10));
    assert_false(range_ok(11, 0, 10));
    assert_false(range_ok(UINT64_MAX, 2, 10));
    assert_false(range_ok(2, UINT64_MAX, 10));
    assert_int_equal(round_up(4097, 4096), 8192);
    assert_int_equal(round_down(8191, 4096), 4096);
    assert_true(is_pow2(1) && is_pow2(4096) && !is_pow2(0) && !is_pow2(3));
    uint8_t b[8];
    store_le64(b, 0x0102030405060708);
    assert_int_equal(b[0], 8);
    assert_true(load_le64(b) == 0x0102030405060708);
    assert_int_equal(load_le32(b), 0x05060708);
    assert_int_equal(load_le16(b), 0x0708);
    uint64_t random = 5, seen = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t n = random_below(&random, 7);
        assert_true(n < 7);
        seen |= 1u << n;
    }
    assert_int_equal(seen, 127);
}

static void lists(void **state)
{
    (void)state;
    struct list head, n[3], *at;
    int i = 0;
    list_init(&head);
    assert_true(list_empty(&head));
    list_push_back(&head, &n[1]);
    list_push_back(&head, &n[2]);
    list_push_front(&head, &n[0]);
    list_for_each(at, &head) assert_ptr_equal(at, &n[i++]);
    assert_int_equal(i, 3);
    list_remove(&n[1]);
    assert_ptr_equal(n[0].next, &n[2]);
    list_remove(&n[0]);
    list_remove(&n[2]);
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_known), cmocka_unit_test(crc32c_both_ways),
        cmocka_unit_test(percentiles),  cmocka_unit_test(arithmetic),
        cmocka_unit_test(lists),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
