/* Programs of any bytes in all engines of the eBPF machine, which must agree (tests/bpf/diff.h). */
#include <stdlib.h>

#include "bpf/diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct diff_count count;
    if (!bpf_diff(data, size, &count))
        abort();
    return 0;
}
