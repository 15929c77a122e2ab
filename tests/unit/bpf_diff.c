/* Random programs in all engines of the eBPF machine (tests/bpf/diff.h); `make soak` runs many
 * more, and the fuzzer of the same name looks for the ones that matter. */
#include "test.h"

#include "base/util.h"
#include "bpf/diff.h"

static void test_random_programs(void **state)
{
    (void)state;
    struct diff_count count = {0};
    uint8_t data[600];
    const int rounds = test_rounds(2000);
    for (int seed = 0; seed < rounds; seed++) {
        uint64_t random = (uint64_t)seed;
        const size_t size = 1 + random_below(&random, sizeof(data) - 1);
        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)random_next(&random);
        if (!bpf_diff(data, size, &count))
            fail_msg("seed %d", seed);
    }
    print_message(
        "# %u programs: %u refused, %u verified (%u runs of them ended well), %u only checked; "
        "%u compiled; %u failed when checked\n",
        count.programs, count.refused, count.verified, count.ended, count.checked, count.compiled,
        count.failed);
    assert_true(count.programs > (unsigned)rounds / 2);
    assert_true(count.programs - count.refused > (unsigned)rounds / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_programs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
