/* Any bytes as a program for the verifier: it ends, within its limit, and what it accepts stays
 * within its objects when it runs. Bytes stand for instructions that are often valid. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "base/util.h"
#include "bpf/device.h"
#include "bpf/vm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GLOBALS = 64, MOST = 256 };

static const uint8_t opcodes[] = {
    0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x57, 0x5f, 0x67, 0x6f, 0x77, 0x7f,
    0x87, 0x97, 0x9f, 0xa7, 0xaf, 0xb7, 0xbf, 0xbf, 0xc7, 0xcf, 0xd7, 0xd4, 0xdc, 0x04, 0x0c, 0x14,
    0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c,
    0xa4, 0xac, 0xb4, 0xbc, 0xc4, 0xcc, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x55,
    0x5d, 0x65, 0x6d, 0x75, 0x7d, 0xa5, 0xad, 0xb5, 0xbd, 0xc5, 0xcd, 0xd5, 0xdd, 0x16, 0x1e, 0x26,
    0x2e, 0x36, 0x3e, 0x46, 0x4e, 0x56, 0x5e, 0x66, 0x6e, 0x76, 0x7e, 0xa6, 0xae, 0xb6, 0xbe, 0xc6,
    0xce, 0xd6, 0xde, 0x61, 0x69, 0x71, 0x79, 0x81, 0x89, 0x91, 0x62, 0x6a, 0x72, 0x7a, 0x63, 0x6b,
    0x73, 0x7b, 0xc3, 0xdb, 0x18, 0x85, 0x85, 0x8d, 0x95,
};

/* Four bytes an instruction: what it is, its registers, its offset, its number. */
static size_t decode(const uint8_t *data, size_t size, struct bpf_insn *insns)
{
    static const int32_t numbers[] = {0,  1,  2,  3,   4,    7,     8,         15,       16,
                                      31, 32, 63, 64,  255,  256,   4095,      4096,     65535,
                                      -1, -2, -8, -16, -512, 65536, INT32_MAX, INT32_MIN};
    static const int32_t atomics[] = {0, 1, 0x40, 0x41, 0x50, 0xa0, 0xe1, 0xf1};
    size_t n = 0;
    for (size_t i = 0; i + 4 <= size && n + 4 < MOST; i += 4) {
        struct bpf_insn *insn = &insns[n++];
        uint8_t number = data[i + 3];
        *insn = (struct bpf_insn){.opcode = opcodes[data[i] % ARRAY_SIZE(opcodes)],
                                  .dst = (data[i + 1] & 15u) % 11u & 15u,
                                  .src = (data[i + 1] >> 4u) % 11u & 15u};
        unsigned class = BPF_CLASS(insn->opcode);
        bool jump = class == BPF_JMP || class == BPF_JMP32;
        bool memory = class == BPF_LDX || class == BPF_ST || class == BPF_STX;
        bool immediate = BPF_SOURCE(insn->opcode) == BPF_K;
        insn->imm =
            number & 128 ? (int8_t)(number << 1) / 2 : numbers[number % ARRAY_SIZE(numbers)];
        if (jump)
            insn->offset = (int8_t)data[i + 2] / 8;
        if (memory)
            insn->offset = (int16_t)((int8_t)data[i + 2] * (data[i + 2] & 1 ? 1 : 4));
        if (memory && class != BPF_ST)
            insn->imm = BPF_MODE(insn->opcode) == BPF_ATOMIC ? atomics[number & 7] : 0;
        else if (memory)
            insn->src = 0;
        else if (insn->opcode == BPF_LDDW) {
            insn->src = number & 3 ? BPF_LDDW_GLOBAL : BPF_LDDW_NUMBER;
            insn->imm = number & 1;
            insns[n++] = (struct bpf_insn){.imm = data[i + 2] % GLOBALS};
        } else if (jump && BPF_OP(insn->opcode) == BPF_CALL) {
            insn->src = immediate && data[i + 2] % 5 == 0;
            insn->offset = 0;
            insn->dst = immediate ? 0 : insn->dst;
            insn->imm = !immediate ? 0 : insn->src ? (int8_t)number / 8 : number % 13;
        } else if (jump && (BPF_OP(insn->opcode) == BPF_EXIT || BPF_OP(insn->opcode) == BPF_JA)) {
            insn->dst = insn->src = 0;
            insn->imm = 0;
            insn->offset = BPF_OP(insn->opcode) == BPF_JA ? insn->offset : 0;
        } else if (BPF_OP(insn->opcode) == BPF_END && !jump) {
            insn->src = 0;
            insn->imm = 16 << number % 3;
        } else if (BPF_OP(insn->opcode) == BPF_NEG && !jump) {
            insn->src = 0;
            insn->imm = 0;
        } else if (immediate) {
            insn->src = 0;
        } else {
            insn->imm = 0;
        }
    }
    insns[n++] = (struct bpf_insn){.opcode = BPF_ALU64 | BPF_MOV};
    insns[n++] = (struct bpf_insn){.opcode = BPF_JMP | BPF_EXIT};
    return n;
}

static void run(const struct bpf_prog *prog)
{
    const struct bpf_limits limits = {.budget = 100000, .timeout_ns = BPF_UNLIMITED};
    for (uint64_t round = 0; round < 3; round++) {
        struct bpf_vm *vm;
        uint64_t r0, calls = round, random = round;
        if (bpf_vm_open(prog, &calls, &vm) < 0)
            return;
        for (unsigned region = 0; region < device_environment.region_count; region++) {
            uint8_t *memory = bpf_vm_region(vm, region);
            for (uint64_t i = 0; i < 64; i++)
                memory[i] = round ? (uint8_t)random_next(&random) : 0;
        }
        int error = bpf_vm_run_checked(vm, &limits, BPF_CHECK_STRICT, &r0);
        if (error != 0 && error != -ETIME)
            abort();
        bpf_vm_close(vm);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bpf_insn insns[MOST + 8];
    static char text[65536];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    struct bpf_options options = {.engine = BPF_ENGINE_INTERP, .verify_limit = 20000};
    struct bpf_module *module;
    struct bpf_prog *prog;
    if (!size)
        return 0;
    log.verbose = data[0] % 16 == 0;
    size_t count = decode(data, size, insns);
    if (bpf_module_open_insns(insns, count * sizeof(insns[0]), &module, NULL) < 0)
        return 0;
    module->code.rodata = base_alloc(GLOBALS);
    module->code.data = base_alloc(GLOBALS);
    if (!module->code.rodata || !module->code.data)
        abort();
    module->code.rodata_size = module->code.data_size = GLOBALS;
    for (unsigned i = 0; i < GLOBALS; i++)
        module->code.rodata[i] = (uint8_t)(i * 5);
    int error = bpf_prog_open(module, &device_environment, &options, &prog, &log);
    bpf_module_close(module);
    if (error == 0) {
        run(prog);
        bpf_prog_close(prog);
    } else if (!log.length) {
        abort(); /* there is always a reason */
    }
    return 0;
}
