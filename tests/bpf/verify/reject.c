/*
 * Programs for computational devices, as people write them: the verifier takes all of them,
 * whatever instructions clang makes of them (tests/integration/bpf_verify.sh).
 */
typedef unsigned long uint64_t;
typedef long int64_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned short uint16_t;
typedef unsigned char uint8_t;

static void (*bpf_return_data)(void *data, uint64_t size) = (void *)1;
static int (*bpf_read)(uint64_t zone, uint64_t sector, uint64_t offset, uint64_t size,
                       void *data) = (void *)2;
static int (*bpf_write)(uint64_t zone, uint64_t *sector, uint64_t offset, uint64_t size,
                        void *data) = (void *)3;
static uint64_t (*bpf_get_sector_size)(void) = (void *)4;
static uint64_t (*bpf_get_zone_capacity)(void) = (void *)5;
static uint64_t (*bpf_get_zone_size)(void) = (void *)6;
static void (*bpf_get_mem_info)(void **mem_ptr, uint64_t *mem_size) = (void *)7;
static void (*bpf_get_call_info)(void **call) = (void *)8;
static void (*bpf_debug)(const char *) = (void *)9;
static int64_t (*csd_next)(const void **data, uint64_t max) = (void *)10;

/* Sums beyond the end of each sector. */
int beyond_sector(void)
{
    void *mem;
    uint64_t size, sum = 0;
    bpf_get_mem_info(&mem, &size);
    const uint64_t *words = mem;
    for (uint64_t i = 0; i <= size / 8; i++)
        sum += words[i];
    bpf_return_data(&sum, 8);
    return 0;
}

/* Reads one byte more than there is, if the device gives all that it was asked for. */
int beyond_chunk(void)
{
    const void *p;
    int64_t n;
    uint64_t lines = 0;
    while ((n = csd_next(&p, 65536)) > 0)
        for (int64_t i = 0; i < n; i++)
            lines += ((const uint8_t *)p)[i] == '\r' && ((const uint8_t *)p)[i + 1] == '\n';
    bpf_return_data(&lines, 8);
    return 0;
}

/* An index that the data gives. */
uint64_t bins[100];
int beyond_bins(void)
{
    const void *p;
    int64_t n;
    while ((n = csd_next(&p, 65536)) > 0)
        for (int64_t i = 0; i < n; i++)
            bins[((const uint8_t *)p)[i]]++;
    bpf_return_data(bins, sizeof(bins));
    return 0;
}

/* A list whose links the data gives may be a ring. */
int ring(void)
{
    void *mem;
    uint64_t size, length = 0;
    bpf_get_mem_info(&mem, &size);
    const uint32_t *next = mem;
    for (uint32_t at = next[0] & 1023; at; at = next[at] & 1023)
        length++;
    bpf_return_data(&length, 8);
    return 0;
}

/* Keeps a pointer over the call that takes its memory away. */
int stale(void)
{
    const void *p, *q;
    if (csd_next(&p, 4096) <= 0 || csd_next(&q, 4096) <= 0)
        return 1;
    return *(const uint8_t *)p;
}

/* Returns what it never wrote. */
int uninitialised(void)
{
    uint64_t result[4];
    result[0] = bpf_get_zone_size();
    bpf_return_data(result, sizeof(result));
    return 0;
}

/* Tells an address. */
int leak(void)
{
    void *call;
    bpf_get_call_info(&call);
    bpf_return_data(&call, sizeof(call));
    return 0;
}

/* The count is that of another record. */
int wrong_count(void)
{
    const void *p;
    int64_t n;
    uint64_t sum = 0;
    while ((n = csd_next(&p, 65536)) > 0) {
        const uint8_t *b = p;
        uint32_t count = b[0] | b[1] << 8 | b[2] << 16;
        for (uint32_t i = 0; i < count; i++)
            sum += b[i];
    }
    bpf_return_data(&sum, 8);
    return 0;
}
