/* boot/pvh.h: what the boot loader hands over: struct hvm_start_info of Xen's x86/HVM direct boot
 * ABI (xen/include/public/arch-x86/hvm/start_info.h). All addresses are physical. */
#ifndef OS_PVH_H
#define OS_PVH_H

#include <stdint.h>

#define PVH_MAGIC 0x336ec578u

struct pvh_start_info {
    uint32_t magic;
    uint32_t version; /* 1 has the memory map */
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules; /* struct pvh_module[] */
    uint64_t command_line;
    uint64_t rsdp;
    uint64_t memory_map; /* struct pvh_memory[] */
    uint32_t memory_count;
    uint32_t reserved;
};

struct pvh_module {
    uint64_t start, size, command_line, reserved;
};

struct pvh_memory {
    uint64_t start, size;
    uint32_t type; /* 1: RAM */
    uint32_t reserved;
};

#endif
