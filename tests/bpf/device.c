/* An environment for tests, like that of a computational device. */
#include "device.h"

#include <string.h>

#include "bpf/vm.h"

#define CHUNK (256 << 10)

static const struct bpf_region regions[DEVICE_REGIONS] = {
    [DEVICE_MEMORY] = {"memory", 1 << 20, true},
    [DEVICE_CHUNK] = {"chunk", CHUNK, false},
    [DEVICE_CONTEXT] = {"context", 64, true},
};

#define ARGS struct bpf_vm *vm, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5

/* A number that depends on the arguments. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    return (a ^ (b << 7)) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t return_data(ARGS)
{
    (void)a3, (void)a4, (void)a5;
    if (a2 && !bpf_vm_memory(vm, a1, a2, false))
        bpf_vm_fail(vm, -14);
    return 0;
}

static uint64_t read_sector(ARGS)
{
    uint8_t *p = a4 ? bpf_vm_memory(vm, a5, a4, true) : NULL;
    if (a4 && !p)
        bpf_vm_fail(vm, -14);
    for (uint64_t i = 0; p && i < a4; i++)
        p[i] = (uint8_t)(mix(a1 + a2, a3 + i) >> 32);
    return 0;
}

static uint64_t write_sector(ARGS)
{
    uint64_t *at = bpf_vm_memory(vm, a2, 8, true);
    (void)a1, (void)a3;
    if (!at || (a4 && !bpf_vm_memory(vm, a5, a4, false)))
        bpf_vm_fail(vm, -14);
    else
        memcpy(at, &a4, 8);
    return 0;
}

static uint64_t sector_size(ARGS)
{
    (void)vm, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    return 4096;
}

static uint64_t zone_capacity(ARGS)
{
    (void)vm, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    return 48;
}

static uint64_t zone_size(ARGS)
{
    (void)vm, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    return 64;
}

static void store(struct bpf_vm *vm, uint64_t address, uint64_t value)
{
    uint64_t *p = bpf_vm_memory(vm, address, 8, true);
    if (p)
        memcpy(p, &value, 8);
    else
        bpf_vm_fail(vm, -14);
}

static uint64_t mem_info(ARGS)
{
    (void)a3, (void)a4, (void)a5;
    store(vm, a1, bpf_vm_address(vm, DEVICE_MEMORY));
    store(vm, a2, regions[DEVICE_MEMORY].size);
    return 0;
}

static uint64_t call_info(ARGS)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    store(vm, a1, bpf_vm_address(vm, DEVICE_CONTEXT));
    return 0;
}

static uint64_t debug(ARGS)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    for (; a1; a1++) {
        const char *c = bpf_vm_memory(vm, a1, 1, false);
        if (!c)
            bpf_vm_fail(vm, -14);
        if (!c || !*c)
            break;
    }
    return 0;
}

/* Data for some calls, at another place of the chunk each time. The calls are counted where the
 * user says. */
static uint64_t next(ARGS)
{
    uint64_t none = 0, *calls = bpf_vm_user(vm);
    (void)a3, (void)a4, (void)a5;
    if (!calls)
        calls = &none;
    if (a2 > CHUNK) {
        bpf_vm_fail(vm, -22);
        return 0;
    }
    uint64_t room = CHUNK - a2, count = ++*calls;
    store(vm, a1, bpf_vm_address(vm, DEVICE_CHUNK) + (room ? mix(count, 1) % (room + 1) : 0));
    return count % 5 == 4 ? 0 : count % 7 == 6 ? (uint64_t)-5 : a2 - mix(count, 2) % (a2 / 2 + 1);
}

static uint64_t maybe(ARGS)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    return mix(a1, 3) >> 63 ? bpf_vm_address(vm, DEVICE_CONTEXT) : 0;
}

#define READ_OF(n)                                                                                 \
    {                                                                                              \
        .kind = BPF_ARG_READ, .size_arg = (n)                                                      \
    }
#define WRITE_OF(n)                                                                                \
    {                                                                                              \
        .kind = BPF_ARG_WRITE, .size_arg = (n)                                                     \
    }
#define NUMBER                                                                                     \
    {                                                                                              \
        .kind = BPF_ARG_SCALAR                                                                     \
    }
#define INT BPF_RANGE(INT32_MIN, INT32_MAX)

static const struct bpf_helper helpers[] = {
    {1, "bpf_return_data", return_data, .args = {READ_OF(2), NUMBER}},
    {2, "bpf_read", read_sector, .args = {NUMBER, NUMBER, NUMBER, NUMBER, WRITE_OF(4)},
     .returns = {BPF_VALUE_SCALAR, .min = INT32_MIN, .max = INT32_MAX}},
    {3, "bpf_write", write_sector,
     .args = {NUMBER, {.kind = BPF_ARG_WRITE, .size = 8}, NUMBER, NUMBER, READ_OF(4)},
     .returns = {BPF_VALUE_SCALAR, .min = INT32_MIN, .max = INT32_MAX}},
    {4, "bpf_get_sector_size", sector_size,
     .returns = {BPF_VALUE_SCALAR, .min = 4096, .max = 4096}},
    {5, "bpf_get_zone_capacity", zone_capacity,
     .returns = {BPF_VALUE_SCALAR, .min = 48, .max = 48}},
    {6, "bpf_get_zone_size", zone_size, .returns = {BPF_VALUE_SCALAR, .min = 64, .max = 64}},
    {7, "bpf_get_mem_info", mem_info,
     .args = {{.kind = BPF_ARG_WRITE,
               .size = 8,
               .stores = {BPF_VALUE_POINTER, .region = DEVICE_MEMORY}},
              {.kind = BPF_ARG_WRITE,
               .size = 8,
               .stores = {BPF_VALUE_SCALAR, .min = 1 << 20, .max = 1 << 20}}}},
    {8, "bpf_get_call_info", call_info,
     .args = {{.kind = BPF_ARG_WRITE,
               .size = 8,
               .stores = {BPF_VALUE_POINTER, .region = DEVICE_CONTEXT}}}},
    {9, "bpf_debug", debug, .args = {{.kind = BPF_ARG_STRING}}},
    {10, "csd_next", next,
     .args = {{.kind = BPF_ARG_WRITE,
               .size = 8,
               .stores = {BPF_VALUE_POINTER, .region = DEVICE_CHUNK, .arg = 2}},
              {.kind = BPF_ARG_CONSTANT, .max = CHUNK}},
     .returns = {BPF_VALUE_SCALAR, .arg = 2, .min = -4095}, .moves = true, .moved = DEVICE_CHUNK,
     .progress = true},
    {11, "test_maybe", maybe, .args = {{.kind = BPF_ARG_SCALAR, .max = 1000}},
     .returns = {BPF_VALUE_POINTER, .region = DEVICE_CONTEXT, .nullable = true}},
};

const struct bpf_environment device_environment = {
    .regions = regions,
    .region_count = DEVICE_REGIONS,
    .helpers = helpers,
    .helper_count = sizeof(helpers) / sizeof(helpers[0]),
    .entry = {{BPF_VALUE_POINTER, .region = DEVICE_CONTEXT},
              {BPF_VALUE_SCALAR, .min = 64, .max = 64}},
};
