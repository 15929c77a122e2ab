/*
 * linux/ublk/abi.h: what the kernel's ublk driver and a server say to each other, as of Linux 7.2.
 * The headers of the system may be older than its kernel, so it is written down here. Names are the
 * kernel's (include/uapi/linux/ublk_cmd.h), which documents each.
 */
#ifndef UBLK_ABI_H
#define UBLK_ABI_H

#include <linux/ioctl.h>
#include <stdint.h>

/* ---- the control device ---------------------------------------------------------------- */

struct ublksrv_ctrl_cmd {
    uint32_t dev_id;
    uint16_t queue_id; /* 0xffff: of no queue */
    uint16_t len;      /* of the buffer at addr */
    uint64_t addr;
    uint64_t data[1];
    uint16_t dev_path_len; /* the buffer starts with the path of the character device */
    uint16_t pad;
    uint32_t reserved;
};

#define UBLK_IOR(nr)  _IOR('u', nr, struct ublksrv_ctrl_cmd)
#define UBLK_IOWR(nr) _IOWR('u', nr, struct ublksrv_ctrl_cmd)

#define UBLK_U_CMD_GET_QUEUE_AFFINITY  UBLK_IOR(0x01)
#define UBLK_U_CMD_GET_DEV_INFO        UBLK_IOR(0x02)
#define UBLK_U_CMD_ADD_DEV             UBLK_IOWR(0x04)
#define UBLK_U_CMD_DEL_DEV             UBLK_IOWR(0x05)
#define UBLK_U_CMD_START_DEV           UBLK_IOWR(0x06)
#define UBLK_U_CMD_STOP_DEV            UBLK_IOWR(0x07)
#define UBLK_U_CMD_SET_PARAMS          UBLK_IOWR(0x08)
#define UBLK_U_CMD_GET_PARAMS          UBLK_IOR(0x09)
#define UBLK_U_CMD_START_USER_RECOVERY UBLK_IOWR(0x10)
#define UBLK_U_CMD_END_USER_RECOVERY   UBLK_IOWR(0x11)
#define UBLK_U_CMD_GET_DEV_INFO2       UBLK_IOR(0x12)
#define UBLK_U_CMD_GET_FEATURES        UBLK_IOR(0x13)
#define UBLK_U_CMD_UPDATE_SIZE         UBLK_IOWR(0x15)

#define UBLK_F_SUPPORT_ZERO_COPY      (UINT64_C(1) << 0)
#define UBLK_F_URING_CMD_COMP_IN_TASK (UINT64_C(1) << 1)
#define UBLK_F_NEED_GET_DATA          (UINT64_C(1) << 2)
#define UBLK_F_USER_RECOVERY          (UINT64_C(1) << 3)
#define UBLK_F_USER_RECOVERY_REISSUE  (UINT64_C(1) << 4)
#define UBLK_F_UNPRIVILEGED_DEV       (UINT64_C(1) << 5)
#define UBLK_F_CMD_IOCTL_ENCODE       (UINT64_C(1) << 6)
#define UBLK_F_USER_COPY              (UINT64_C(1) << 7)
#define UBLK_F_ZONED                  (UINT64_C(1) << 8)
#define UBLK_F_USER_RECOVERY_FAIL_IO  (UINT64_C(1) << 9)
#define UBLK_F_UPDATE_SIZE            (UINT64_C(1) << 10)
#define UBLK_F_AUTO_BUF_REG           (UINT64_C(1) << 11)

#define UBLK_S_DEV_DEAD     0
#define UBLK_S_DEV_LIVE     1
#define UBLK_S_DEV_QUIESCED 2
#define UBLK_S_DEV_FAIL_IO  3

struct ublksrv_ctrl_dev_info {
    uint16_t nr_hw_queues;
    uint16_t queue_depth;
    uint16_t state;
    uint16_t pad0;
    uint32_t max_io_buf_bytes;
    uint32_t dev_id;
    int32_t ublksrv_pid;
    uint32_t pad1;
    uint64_t flags;
    uint64_t ublksrv_flags; /* the server's own; the kernel only keeps it */
    uint32_t owner_uid;
    uint32_t owner_gid;
    uint64_t reserved1;
    uint64_t reserved2;
};

/* ---- parameters ------------------------------------------------------------------------ */

#define UBLK_ATTR_READ_ONLY      (1u << 0)
#define UBLK_ATTR_ROTATIONAL     (1u << 1)
#define UBLK_ATTR_VOLATILE_CACHE (1u << 2)
#define UBLK_ATTR_FUA            (1u << 3)

#define UBLK_PARAM_TYPE_BASIC     (1u << 0)
#define UBLK_PARAM_TYPE_DISCARD   (1u << 1)
#define UBLK_PARAM_TYPE_DEVT      (1u << 2)
#define UBLK_PARAM_TYPE_ZONED     (1u << 3)
#define UBLK_PARAM_TYPE_DMA_ALIGN (1u << 4)

struct ublk_params {
    uint32_t len; /* of this struct, as the sender knows it */
    uint32_t types;
    struct {
        uint32_t attrs;
        uint8_t logical_bs_shift;
        uint8_t physical_bs_shift;
        uint8_t io_opt_shift;
        uint8_t io_min_shift;
        uint32_t max_sectors;
        uint32_t chunk_sectors;
        uint64_t dev_sectors;
        uint64_t virt_boundary_mask;
    } basic;
    struct {
        uint32_t discard_alignment;
        uint32_t discard_granularity;
        uint32_t max_discard_sectors;
        uint32_t max_write_zeroes_sectors;
        uint16_t max_discard_segments;
        uint16_t reserved0;
    } discard;
    struct {
        uint32_t char_major;
        uint32_t char_minor;
        uint32_t disk_major;
        uint32_t disk_minor;
    } devt;
    struct {
        uint32_t max_open_zones;
        uint32_t max_active_zones;
        uint32_t max_zone_append_sectors;
        uint8_t reserved[20];
    } zoned;
    struct {
        uint32_t alignment; /* a mask */
        uint8_t pad[4];
    } dma;
};

/* ---- the character device of a device -------------------------------------------------- */

struct ublksrv_io_cmd {
    uint16_t q_id;
    uint16_t tag;
    int32_t result;
    uint64_t addr; /* of a buffer; of a zone append, the sector where it landed */
};

#define UBLK_U_IO_FETCH_REQ            _IOWR('u', 0x20, struct ublksrv_io_cmd)
#define UBLK_U_IO_COMMIT_AND_FETCH_REQ _IOWR('u', 0x21, struct ublksrv_io_cmd)
#define UBLK_U_IO_NEED_GET_DATA        _IOWR('u', 0x22, struct ublksrv_io_cmd)
#define UBLK_U_IO_REGISTER_IO_BUF      _IOWR('u', 0x23, struct ublksrv_io_cmd)
#define UBLK_U_IO_UNREGISTER_IO_BUF    _IOWR('u', 0x24, struct ublksrv_io_cmd)

#define UBLK_IO_RES_OK            0
#define UBLK_IO_RES_NEED_GET_DATA 1

#define UBLK_MAX_QUEUE_DEPTH  4096
#define UBLKSRV_IO_BUF_OFFSET UINT64_C(0x80000000) /* data of requests, for pread and pwrite */
#define UBLK_IO_BUF_BITS      25
#define UBLK_TAG_BITS         16

/* In sqe->addr of FETCH and COMMIT: the index of the buffer in the low 16 bits, and: */
#define UBLK_AUTO_BUF_REG_FALLBACK (UINT64_C(1) << 16)

enum {
    UBLK_IO_OP_READ = 0,
    UBLK_IO_OP_WRITE = 1,
    UBLK_IO_OP_FLUSH = 2,
    UBLK_IO_OP_DISCARD = 3,
    UBLK_IO_OP_WRITE_ZEROES = 5,
    UBLK_IO_OP_ZONE_OPEN = 10,
    UBLK_IO_OP_ZONE_CLOSE = 11,
    UBLK_IO_OP_ZONE_FINISH = 12,
    UBLK_IO_OP_ZONE_APPEND = 13,
    UBLK_IO_OP_ZONE_RESET_ALL = 14,
    UBLK_IO_OP_ZONE_RESET = 15,
    UBLK_IO_OP_REPORT_ZONES = 18, /* the data are struct linux_zone, see linux/zone_abi.h */
};

#define UBLK_IO_F_FUA          (1u << 13)
#define UBLK_IO_F_NOUNMAP      (1u << 15)
#define UBLK_IO_F_NEED_REG_BUF (1u << 17)

struct ublksrv_io_desc {
    uint32_t op_flags;   /* operation: bits 0 to 7; flags above */
    uint32_t nr_sectors; /* of REPORT_ZONES: how many zones at most */
    uint64_t start_sector;
    uint64_t addr;
};

#endif
