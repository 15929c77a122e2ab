/*
 * Hostile programs: any helper of the computational device with any arguments, in checked mode.
 * Twelve bytes of the input are one call or one access to memory. Whatever they do, the run ends,
 * nothing outside of its ranges is read, written or returned, and the log says where it has been.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <ashlar/csd.h>

#include "base/util.h"
#include "bpf/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_STEPS = 200, BUDGET = 20000, MAX_RETURN = 100000 };
#define DISK   (UINT64_C(256) << 10)
#define READ   (UINT64_C(64) << 10) /* to APPEND */
#define APPEND (UINT64_C(128) << 10)
#define END    (UINT64_C(160) << 10)

/* Outside of the ranges this repeats; inside no byte has its high bit set. */
static const char secret[16] = "\xf0\x9f\xa6\x8a\xe2\x80\x94secret\xff\xfe\xfd";

struct code {
    struct bpf_insn insn[MAX_STEPS * 32];
    unsigned count;
};

static void emit(struct code *c, uint8_t opcode, unsigned dst, unsigned src, int16_t offset,
                 int32_t imm)
{
    struct bpf_insn i = {.opcode = opcode, .offset = offset, .imm = imm};
    i.dst = dst & 15;
    i.src = src & 15;
    c->insn[c->count++] = i;
}

static void emit_number(struct code *c, unsigned dst, uint64_t value)
{
    emit(c, BPF_LDDW, dst, 0, 0, (int32_t)value);
    emit(c, 0, 0, 0, 0, (int32_t)(value >> 32));
}

/* r6: the memory; r7: what was stored last; r8: what was returned last; r9: the call. */
static void emit_value(struct code *c, unsigned dst, uint8_t choice, uint32_t number)
{
    static const uint8_t base[] = {6, 7, 8, 9, BPF_FP};
    if (choice % 8 < 5) {
        emit(c, BPF_ALU64 | BPF_MOV | BPF_X, dst, base[choice % 8], 0, 0);
        if (choice & 64)
            emit(c, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, (int32_t)(number % 70000));
        else if (choice % 8 == 4)
            emit(c, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, -8 * (int32_t)(1 + number % 8));
    } else {
        emit_number(c, dst,
                    choice % 8 == 5   ? number % 4096
                    : choice % 8 == 6 ? (uint64_t)(int64_t)(int32_t)number
                                      : (uint64_t)number << 32 | number);
    }
}

static void emit_step(struct code *c, const uint8_t *b)
{
    const uint32_t number = load_le32(b + 8);
    const unsigned helper = b[0] % (CSD_HELPERS + 1);
    if (helper == 0) {
        emit_value(c, 1, b[1], number);
        if (b[2] & 1)
            emit(c, BPF_STX | BPF_MEM | BPF_DW, 1, 8, (int16_t)(b[3] * 4), 0);
        else
            emit(c, BPF_LDX | BPF_MEM | BPF_DW, 8, 1, (int16_t)(b[3] * 4), 0);
        return;
    }
    for (unsigned i = 1; i <= 5; i++)
        emit_value(c, i, b[i], number >> (b[6] >> i & 1 ? 16 : 0));
    emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, (int32_t)helper);
    emit(c, BPF_ALU64 | BPF_MOV | BPF_X, 8, 0, 0, 0);
    emit(c, BPF_LDX | BPF_MEM | BPF_DW, 7, BPF_FP, -8, 0);
}

static void make_program(struct code *c, const uint8_t *data, size_t size)
{
    c->count = 0;
    for (unsigned i = 1; i <= 2; i++) {
        emit(c, BPF_ALU64 | BPF_MOV | BPF_X, i, BPF_FP, 0, 0);
        emit(c, BPF_ALU64 | BPF_ADD | BPF_K, i, 0, 0, -8 * (int32_t)i);
    }
    emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, 7);
    emit(c, BPF_LDX | BPF_MEM | BPF_DW, 6, BPF_FP, -8, 0);
    emit(c, BPF_ALU64 | BPF_MOV | BPF_X, 1, BPF_FP, 0, 0);
    emit(c, BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, -8);
    emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, 8);
    emit(c, BPF_LDX | BPF_MEM | BPF_DW, 9, BPF_FP, -8, 0);
    emit(c, BPF_ALU64 | BPF_MOV | BPF_K, 7, 0, 0, 0);
    emit(c, BPF_ALU64 | BPF_MOV | BPF_K, 8, 0, 0, 0);
    const unsigned start = c->count;
    for (unsigned i = 0; i < MAX_STEPS && size >= 12; i++, data += 12, size -= 12)
        emit_step(c, data);
    if (size & 1) /* once more, until the budget is spent */
        emit(c, BPF_JMP | BPF_JA, 0, 0, (int16_t)((int)start - (int)c->count - 1), 0);
    emit(c, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void fill_disk(uint8_t *disk)
{
    for (uint64_t i = 0; i < DISK; i++)
        disk[i] = i >= READ && i < END ? (uint8_t)(i % 127) : (uint8_t)secret[i % sizeof(secret)];
}

static void check(const struct csd_result *r, struct blk_queue *q, const uint8_t *before)
{
    static uint8_t after[DISK];
    if (blk_read(q, 0, after, DISK) < 0 || memcmp(before, after, APPEND) ||
        memcmp(before + END, after + END, DISK - END))
        abort(); /* it wrote where it must not */
    for (unsigned i = 0; i < r->touched_count; i++) {
        const struct csd_touch *t = &r->touched[i];
        if (t->offset < (t->written ? APPEND : READ) ||
            t->offset + t->len > (t->written ? END : APPEND))
            abort();
    }
    if (r->size > MAX_RETURN || r->stats.instructions > BUDGET + MAX_STEPS * 40)
        abort();
    if (r->size && memmem(r->data, r->size, secret, sizeof(secret)))
        abort(); /* it read where it must not */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct code code;
    static uint8_t disk[DISK];
    static struct csd_result result;
    static char text[65536];
    struct bpf_log log = {.text = text, .size = sizeof(text)};
    const struct csd_options options = {.workers = 1, .read_ahead = 1};
    const struct csd_load_options how = {
        .bpf = {.verify = BPF_VERIFY_CHECKED, .engine = BPF_ENGINE_INTERP}, .memory = 65536};
    const struct csd_call call = {.read = {READ, APPEND - READ},
                                  .append = {APPEND, END - APPEND},
                                  .zone_size = size & 2 ? 16384 : 0,
                                  .arg = "argument",
                                  .arg_size = 8,
                                  .budget = BUDGET,
                                  .max_return = MAX_RETURN};
    struct csd_program *program;
    struct bpf_module *module;
    struct blk_queue *q;
    struct blk *dev;
    struct csd *csd;
    make_program(&code, data, size);
    fill_disk(disk);
    if (blk_open("mem:256K", 0, &dev, NULL) < 0 || blk_queue_open(dev, 1, &q) < 0 ||
        blk_write(q, 0, disk, DISK, 0) < 0 || csd_open(dev, &options, &csd, NULL) < 0 ||
        bpf_module_open_insns(code.insn, code.count * 8, &module, &log) < 0 ||
        csd_load(csd, module, &how, &program, &log) < 0)
        abort();
    csd_run(program, &call, &result);
    check(&result, q, disk);
    csd_result_free(&result);
    csd_unload(program);
    bpf_module_close(module);
    csd_close(csd);
    blk_queue_close(q);
    blk_close(dev);
    return 0;
}
