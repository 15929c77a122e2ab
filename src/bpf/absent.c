/* What other rooms of bpf/ will bring; this file goes with the last of them. */
#include <errno.h>
#include <stdio.h>

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

ABSENT int bpf_verify(const struct bpf_prog *prog, uint64_t limit, struct bpf_log *log)
{
    (void)prog, (void)limit;
    bpf_log_add(log, "there is no verifier\n");
    return -EACCES;
}

ABSENT void bpf_insn_text(const struct bpf_code *code, uint32_t insn, char text[BPF_TEXT_SIZE])
{
    snprintf(text, BPF_TEXT_SIZE, "opcode 0x%02x", code->insns[insn].opcode);
}

ABSENT void bpf_code_set_pointers(const struct bpf_code *code, uint8_t *rodata,
                                  uint64_t rodata_address, uint8_t *data, uint64_t data_address)
{
    (void)code, (void)rodata, (void)rodata_address, (void)data, (void)data_address;
}
