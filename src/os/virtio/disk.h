/* virtio/disk.h: the disks that were found, for those who list them. */
#ifndef OS_DISK_H
#define OS_DISK_H

#include <stdbool.h>
#include <stdint.h>

struct disk_facts {
    const char *name;  /* "vda" */
    const char *where; /* "BAR 4" */
    uint64_t sectors;  /* of 512 bytes */
    uint32_t sector_size;
    bool read_only;
    uint64_t reads, writes; /* requests that completed */
    unsigned queues;
};

/* The index-th disk; false if there are fewer. */
bool disk_get(unsigned index, struct disk_facts *facts);

#endif
