/* What other rooms of bpf/ will bring; this file goes with the last of them. */
#include <errno.h>

#include "bpf/vm.h"

#define ABSENT __attribute__((weak))

ABSENT struct bpf_jit *bpf_jit_compile(const struct bpf_prog *prog)
{
    (void)prog;
    return NULL;
}

ABSENT void bpf_jit_free(struct bpf_jit *jit)
{
    (void)jit;
}

ABSENT int bpf_jit_run(struct bpf_vm *vm, uint64_t *r0)
{
    (void)vm, (void)r0;
    return -ENOTSUP;
}
