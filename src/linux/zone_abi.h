/*
 * linux/zone_abi.h: zones as the kernel and its programs say them to each other, in
 * include/uapi/linux/blkzoned.h. That header has a struct blk_zone, which is a name of ours too, so
 * it is written down here. The kernel counts in sectors of 512 bytes.
 */
#ifndef LINUX_ZONE_ABI_H
#define LINUX_ZONE_ABI_H

#include <ashlar/blk.h>
#include <linux/ioctl.h>
#include <stdint.h>
#include <string.h>

#define LINUX_SECTOR_SHIFT 9

struct linux_zone {
    uint64_t start;
    uint64_t len;
    uint64_t wp;
    uint8_t type;
    uint8_t cond;
    uint8_t non_seq;
    uint8_t reset;
    uint8_t pad[4];
    uint64_t capacity; /* 0 before Linux 5.9, which does not set LINUX_REPORT_CAPACITY */
    uint8_t reserved[24];
};

struct linux_zone_report {
    uint64_t sector;
    uint32_t nr_zones; /* there: room; back: how many */
    uint32_t flags;
    struct linux_zone zones[];
};

struct linux_zone_range {
    uint64_t sector;
    uint64_t nr_sectors;
};

#define LINUX_REPORT_CAPACITY 1u

enum { LINUX_ZONE_CONVENTIONAL = 1, LINUX_ZONE_SEQUENTIAL = 2, LINUX_ZONE_PREFERRED = 3 };

/* Conditions have our numbers, but for this one. */
enum { LINUX_ZONE_NOT_WP = 0 };

#define LINUX_BLKREPORTZONE _IOWR(0x12, 130, struct linux_zone_report)
#define LINUX_BLKRESETZONE  _IOW(0x12, 131, struct linux_zone_range)
#define LINUX_BLKGETZONESZ  _IOR(0x12, 132, uint32_t)
#define LINUX_BLKGETNRZONES _IOR(0x12, 133, uint32_t)
#define LINUX_BLKOPENZONE   _IOW(0x12, 134, struct linux_zone_range)
#define LINUX_BLKCLOSEZONE  _IOW(0x12, 135, struct linux_zone_range)
#define LINUX_BLKFINISHZONE _IOW(0x12, 136, struct linux_zone_range)

#endif
