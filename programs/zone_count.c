/*
 * The filter once more, in the manner of programs for other computational devices: sector by sector
 * through the first zone, with bpf_read() into the memory of helper 7. Nothing in it is Ashlar's
 * own; it runs as it is. Counts the int32 values above half of RAND_MAX, and returns a uint64.
 */
#define RAND_MAX 2147483647

typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned long uint64_t;

static void (*bpf_return_data)(void *data, uint64_t size) = (void *)1;
static int (*bpf_read)(uint64_t zone, uint64_t sector, uint64_t offset, uint64_t size,
                       void *data) = (void *)2;
static uint64_t (*bpf_get_sector_size)(void) = (void *)4;
static uint64_t (*bpf_get_zone_capacity)(void) = (void *)5;
static void (*bpf_get_mem_info)(void **mem_ptr, uint64_t *mem_size) = (void *)7;

int main(void)
{
    uint64_t sector_size = bpf_get_sector_size();
    uint64_t zone_capacity = bpf_get_zone_capacity();
    uint64_t buffer_size;
    uint8_t *buffer;
    uint64_t count = 0;

    bpf_get_mem_info((void **)&buffer, &buffer_size);
    if (buffer_size < sector_size)
        return -1;

    int32_t *values = (int32_t *)buffer;
    uint64_t values_per_sector = sector_size / sizeof(int32_t);
    for (uint64_t sector = 0; sector < zone_capacity; sector++) {
        if (bpf_read(0, sector, 0, sector_size, buffer) != 0)
            return -1;
        for (uint64_t i = 0; i < values_per_sector; i++) {
            if (values[i] > RAND_MAX / 2)
                count++;
        }
    }

    bpf_return_data(&count, sizeof(uint64_t));
    return 0;
}
