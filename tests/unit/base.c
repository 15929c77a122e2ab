/* The base room: checksum, histogram, list, small arithmetic. */
#include "test.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/hist.h"
#include "base/list.h"
#include "base/platform.h"
#include "base/util.h"

/* ---- crc32c: vectors of RFC 3720, appendix B.4, and the usual "123456789" ---------------------
 */

static void crc_vectors(void **state)
{
    (void)state;
    uint8_t ones[32], up[32], down[32], zeroes[32] = {0};
    memset(ones, 0xff, sizeof(ones));
    for (uint8_t i = 0; i < 32; i++) {
        up[i] = i;
        down[i] = (uint8_t)(31 - i);
    }
    uint32_t (*const functions[])(uint32_t, const void *, size_t) = {crc32c, crc32c_portable};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(functions[i](0, "123456789", 9), 0xe3069283);
        assert_int_equal(functions[i](0, zeroes, 32), 0x8a9136aa);
        assert_int_equal(functions[i](0, ones, 32), 0x62a8ab43);
        assert_int_equal(functions[i](0, up, 32), 0x46dd794e);
        assert_int_equal(functions[i](0, down, 32), 0x113fdb5c);
        assert_int_equal(functions[i](0, "", 0), 0);
        assert_int_equal(functions[i](0x12345678, "", 0), 0x12345678);
    }
}

/* With the processor's instruction and without, from any address, of any length, in parts. */
static void crc_both_ways(void **state)
{
    (void)state;
    static uint8_t data[5000];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)random_next(&random);
    for (int i = 0; i < test_rounds(3000); i++) {
        size_t at = random_below(&random, 64);
        size_t len = random_below(&random, i % 2 ? 40 : sizeof(data) - at);
        size_t cut = random_below(&random, len + 1);
        uint32_t start = (uint32_t)random_next(&random);
        uint32_t whole = crc32c(start, data + at, len);
        assert_int_equal(whole, crc32c_portable(start, data + at, len));
        assert_int_equal(whole, crc32c(crc32c(start, data + at, cut), data + at + cut, len - cut));
    }
}

/* ---- histogram ---------------------------------------------------------------------------------
 */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

enum { SAMPLES = 20000 };

/* Against the sorted samples: not below the true percentile, at most 3.2% above. */
static void check_percentiles(const struct hist *h, uint64_t *samples, size_t n)
{
    static const uint32_t shares[] = {0, 1000, 250000, 500000, 900000, 990000, 999000, 1000000};
    qsort(samples, n, sizeof(*samples), compare);
    assert_int_equal(h->count, n);
    assert_int_equal(h->min, samples[0]);
    assert_int_equal(h->max, samples[n - 1]);
    for (size_t i = 0; i < ARRAY_SIZE(shares); i++) {
        size_t rank = (n * shares[i] + 999999) / 1000000;
        uint64_t wanted = samples[rank ? rank - 1 : 0];
        uint64_t got = hist_percentile(h, shares[i]);
        if (got < wanted || (double)got > (double)wanted * 1.032 + 1)
            fail_msg("%u ppm: %llu, exactly %llu", shares[i], (unsigned long long)got,
                     (unsigned long long)wanted);
    }
}

static void histogram(void **state)
{
    (void)state;
    static struct hist h, part[2];
    static uint64_t samples[SAMPLES];
    uint64_t random = 3;
    for (int kind = 0; kind < 4; kind++) {
        uint64_t sum = 0;
        hist_clear(&h);
        hist_clear(&part[0]);
        hist_clear(&part[1]);
        for (size_t i = 0; i < SAMPLES; i++) {
            samples[i] =
                kind == 0   ? random_below(&random, 50)
                : kind == 1 ? 1000 + random_below(&random, 1000)
                : kind == 2 ? UINT64_C(1) << random_below(&random, 40)
                            : random_below(&random, UINT64_C(1) << (1 + random_below(&random, 40)));
            sum += samples[i];
            hist_add(&h, samples[i]);
            hist_add(&part[i % 3 == 0], samples[i]);
        }
        assert_int_equal(hist_mean(&h), sum / SAMPLES);
        hist_merge(&part[0], &part[1]);
        assert_memory_equal(&part[0], &h, sizeof(h));
        check_percentiles(&h, samples, SAMPLES);
    }
}

static void histogram_edges(void **state)
{
    (void)state;
    static struct hist h, empty;
    hist_clear(&h);
    assert_int_equal(hist_percentile(&h, 500000), 0);
    assert_int_equal(hist_mean(&h), 0);
    hist_merge(&h, &empty);
    assert_int_equal(h.count, 0);
    hist_add(&h, 777777);
    assert_int_equal(hist_percentile(&h, 0), 777777);
    assert_int_equal(hist_percentile(&h, 1000000), 777777);
    hist_merge(&h, &empty);
    assert_int_equal(h.min, 777777);
    hist_add(&h, UINT64_MAX); /* over the range: counted, with the true maximum */
    hist_add(&h, 0);
    assert_int_equal(h.min, 0);
    assert_true(h.max == UINT64_MAX);
    assert_int_equal(h.count, 3);
    for (uint64_t v = 1; v < UINT64_C(1) << 45; v = v * 3 / 2 + 1)
        assert_true(hist_index(v) < HIST_BUCKETS && hist_index(v) >= hist_index(v - 1));
}

/* ---- list ---------------------------------------------------------------------------------------
 */

struct node {
    int number;
    struct list list;
};

static void assert_list(struct list *head, const char *wanted)
{
    char text[64] = "";
    struct list *n;
    list_for_each(n, head)
    {
        assert_ptr_equal(n->next->prev, n);
        assert_ptr_equal(n->prev->next, n);
        text[strlen(text)] = (char)('0' + container_of(n, struct node, list)->number);
    }
    assert_string_equal(text, wanted);
    assert_int_equal(list_empty(head), !*wanted);
}

static void lists(void **state)
{
    (void)state;
    struct list head;
    struct node n[6];
    list_init(&head);
    assert_list(&head, "");
    for (int i = 0; i < 6; i++)
        n[i].number = i;
    list_push_back(&head, &n[1].list);
    list_push_back(&head, &n[2].list);
    list_push_front(&head, &n[0].list);
    list_insert_before(&n[2].list, &n[3].list);
    assert_list(&head, "0132");
    list_remove(&n[1].list);
    assert_list(&head, "032");
    list_remove(&n[1].list); /* out already: nothing happens */
    assert_list(&head, "032");
    list_remove(&n[2].list);
    list_remove(&n[0].list);
    assert_list(&head, "3");
    list_remove(&n[3].list);
    assert_list(&head, "");
    list_push_back(&head, &n[5].list);
    assert_list(&head, "5");
}

/* ---- arithmetic ---------------------------------------------------------------------------------
 */

static void arithmetic(void **state)
{
    (void)state;
    assert_int_equal(round_up(0, 512), 0);
    assert_int_equal(round_up(1, 512), 512);
    assert_int_equal(round_up(512, 512), 512);
    assert_int_equal(round_down(1023, 512), 512);
    assert_false(is_pow2(0));
    assert_true(is_pow2(1));
    assert_false(is_pow2(6));
    assert_true(range_ok(0, 0, 0));
    assert_true(range_ok(10, 0, 10));
    assert_false(range_ok(11, 0, 10));
    assert_false(range_ok(1, UINT64_MAX, 10));
    assert_false(range_ok(UINT64_MAX, 2, 10));
    assert_true(range_ok(UINT64_MAX - 1, 1, UINT64_MAX));
    uint8_t bytes[8];
    store_le64(bytes, UINT64_C(0x0123456789abcdef));
    assert_int_equal(bytes[0], 0xef);
    assert_int_equal(bytes[7], 0x01);
    assert_true(load_le64(bytes) == UINT64_C(0x0123456789abcdef));
    assert_int_equal(load_le32(bytes), 0x89abcdef);
    store_le32(bytes, 0xfedcba98);
    assert_int_equal(load_le32(bytes), 0xfedcba98);
}

/* Below the bound, each value as often as the others: 16 classes within 5 standard deviations. */
static void random_numbers(void **state)
{
    (void)state;
    static const uint64_t bounds[] = {1, 2, 3, 10, 1000, UINT64_C(1) << 40, UINT64_MAX};
    uint64_t random = 42, again = 42;
    for (size_t b = 0; b < ARRAY_SIZE(bounds); b++)
        for (int i = 0; i < 2000; i++) {
            uint64_t n = random_below(&random, bounds[b]);
            assert_true(n < bounds[b]);
            assert_true(random_below(&again, bounds[b]) == n);
        }
    int seen[16] = {0};
    for (int i = 0; i < 160000; i++)
        seen[random_below(&random, 16)]++;
    for (int i = 0; i < 16; i++)
        assert_in_range(seen[i], 10000 - 500, 10000 + 500);
}

/* ---- platform
 * ------------------------------------------------------------------------------------ */

static void memory(void **state)
{
    (void)state;
    char *a = base_alloc_aligned(4096, 100), *r = base_reserve(UINT64_C(1) << 32);
    assert_non_null(r);
    assert_int_equal((uintptr_t)a % 4096, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(a[i], 0);
    base_free(a);
    base_free(NULL);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they would stop here */
    assert_null(base_alloc_array(SIZE_MAX / 2, 16));
#endif
    r[UINT64_C(1) << 31] = 'x';
    base_reserve_discard(r + (UINT64_C(1) << 31), BASE_PAGE);
    assert_int_equal(r[UINT64_C(1) << 31], 0);
    base_unreserve(r, UINT64_C(1) << 32);
}

struct shared {
    struct base_mutex lock;
    struct base_cond changed;
    int turn;
};

static void take_turns(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < 100; i++) {
        base_mutex_lock(&s->lock);
        while (s->turn % 2 == 0)
            base_cond_wait(&s->changed, &s->lock);
        s->turn++;
        base_cond_broadcast(&s->changed);
        base_mutex_unlock(&s->lock);
    }
}

static void threads(void **state)
{
    (void)state;
    struct shared s = {.turn = 0};
    struct base_thread thread;
    base_mutex_init(&s.lock);
    base_cond_init(&s.changed);
    assert_int_equal(base_thread_start(&thread, take_turns, &s, 0), 0);
    for (int i = 0; i < 100; i++) {
        base_mutex_lock(&s.lock);
        while (s.turn % 2)
            base_cond_wait(&s.changed, &s.lock);
        s.turn++;
        base_cond_broadcast(&s.changed);
        base_mutex_unlock(&s.lock);
    }
    base_thread_join(&thread);
    assert_int_equal(s.turn, 200);
    base_cond_fini(&s.changed);
    base_mutex_fini(&s.lock);
    assert_true(base_cpu_count() >= 1);
    uint64_t now = base_now_ns();
    base_sleep_until_ns(now + 2000000);
    assert_true(base_now_ns() >= now + 2000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_vectors),    cmocka_unit_test(crc_both_ways),
        cmocka_unit_test(histogram),      cmocka_unit_test(histogram_edges),
        cmocka_unit_test(lists),          cmocka_unit_test(arithmetic),
        cmocka_unit_test(random_numbers), cmocka_unit_test(memory),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
