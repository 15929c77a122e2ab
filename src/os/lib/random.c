/*
 * Random bytes: seeded from RDSEED or RDRAND, else from the jitter of the clock; expanded by
 * ChaCha20 (RFC 8439), whose key is replaced after each use.
 */
#include <string.h>

#include "base/util.h"
#include "os/os.h"

extern uintptr_t __stack_chk_guard;

static struct spinlock lock;
static uint32_t key[8];
static uint64_t counter;
static const char *source = "none";

static uint32_t rotate(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static void quarter(uint32_t *x, unsigned a, unsigned b, unsigned c, unsigned d)
{
    x[a] += x[b];
    x[d] = rotate(x[d] ^ x[a], 16);
    x[c] += x[d];
    x[b] = rotate(x[b] ^ x[c], 12);
    x[a] += x[b];
    x[d] = rotate(x[d] ^ x[a], 8);
    x[c] += x[d];
    x[b] = rotate(x[b] ^ x[c], 7);
}

static void block(uint32_t out[16])
{
    static const uint32_t constant[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    uint32_t in[16];
    memcpy(in, constant, 16);
    memcpy(in + 4, key, 32);
    in[12] = (uint32_t)counter;
    in[13] = (uint32_t)(counter++ >> 32);
    in[14] = in[15] = 0;
    memcpy(out, in, 64);
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned j = 0; j < 4; j++)
            quarter(out, j, 4 + j, 8 + j, 12 + j);
        for (unsigned j = 0; j < 4; j++)
            quarter(out, j, 4 + (j + 1) % 4, 8 + (j + 2) % 4, 12 + (j + 3) % 4);
    }
    for (unsigned i = 0; i < 16; i++)
        out[i] += in[i];
}

void random_bytes(void *buffer, size_t n)
{
    char *to = buffer;
    uint32_t out[16];
    bool irq = spin_lock_irq(&lock);
    while (n) {
        block(out);
        const size_t part = min_u64(n, sizeof(out));
        memcpy(to, out, part);
        to += part;
        n -= part;
    }
    block(out);
    memcpy(key, out, sizeof(key));
    spin_unlock_irq(&lock, irq);
    memset(out, 0, sizeof(out));
}

static bool hardware(bool seed, uint64_t *value)
{
    for (unsigned i = 0; i < 100; i++) {
        uint8_t ok;
        if (seed)
            __asm__ volatile("rdseed %0; setc %1" : "=r"(*value), "=qm"(ok));
        else
            __asm__ volatile("rdrand %0; setc %1" : "=r"(*value), "=qm"(ok));
        if (ok)
            return true;
    }
    return false;
}

/* How long small pieces of work take varies in its lowest bits. */
static uint64_t jitter(void)
{
    uint64_t mixed = 0;
    for (unsigned i = 0; i < 256; i++) {
        const uint64_t start = rdtsc();
        volatile uint32_t work = 0;
        for (unsigned j = 0; j < (mixed & 15); j++)
            work = work + j;
        mixed = (mixed << 7 | mixed >> 57) ^ (rdtsc() - start) ^ start;
    }
    return mixed;
}

/* It changes the guard that a protected function would find changed. */
__attribute__((no_stack_protector)) void random_setup(void)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t value = 0;
        if (cpu_features.rdseed && hardware(true, &value))
            source = "RDSEED";
        else if (cpu_features.rdrand && hardware(false, &value))
            source = "RDRAND";
        else
            source = "clock jitter";
        value ^= jitter();
        memcpy(key + 2 * i, &value, sizeof(value));
    }
    uint32_t out[16];
    block(out);
    memcpy(&__stack_chk_guard, out, sizeof(__stack_chk_guard));
    __stack_chk_guard &= ~(uintptr_t)0xff; /* a string ends before it */
    block(out);
    memcpy(key, out, sizeof(key));
}

const char *random_source(void)
{
    return source;
}
