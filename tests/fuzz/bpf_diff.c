/* Programs of any bytes in all engines of the eBPF machine, which must agree (tests/bpf/diff.h). */
#include <stdlib.h>

#include "bpf/diff.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Interpreted programs cover so much that libFuzzer would spend its time with weighing what is
 * rare. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char option[] = "-entropic=0", *args[64];
    int n = 0;
    for (; n < *argc && n < 62; n++)
        args[n] = (*argv)[n];
    args[n++] = option;
    *argc = n;
    *argv = args;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct diff_count count;
    if (!bpf_diff(data, size, &count))
        abort();
    return 0;
}
