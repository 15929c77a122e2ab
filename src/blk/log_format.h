/* blk/log_format.h: the log's bytes, as docs/format-log.md has them; for log.c and log_replay.c. */
#ifndef BLK_LOG_FORMAT_H
#define BLK_LOG_FORMAT_H

#include <stdint.h>
#include <string.h>

#include <ashlar/blk.h>

#include "base/crc32c.h"
#include "base/util.h"
#include "blk/log_replay.h"

#define LOG_MAGIC        "ASHLRLOG"
#define LOG_VERSION      1
#define LOG_HEADER       64                   /* bytes of the log's header and of each record's */
#define LOG_RECORD_MAGIC UINT32_C(0x52474c41) /* "ALGR" */
#define LOG_FAILED       1                    /* bit of a record's state */
#define LOG_MIN_UNIT     512
#define LOG_MAX_UNIT     (1u << 20)

/* Operations are written as their numbers, which therefore never change. */
_Static_assert(BLK_WRITE == 1 && BLK_FLUSH == 2 && BLK_DISCARD == 3 && BLK_WRITE_ZEROES == 4 &&
                   BLK_ZONE_APPEND == 6 && BLK_ZONE_OPEN == 8 && BLK_ZONE_CLOSE == 9 &&
                   BLK_ZONE_FINISH == 10 && BLK_ZONE_RESET == 11,
               "numbers of the log format");
_Static_assert(BLK_FUA == 1 && BLK_NO_UNMAP == 2 && BLK_FAST_ZERO == 4 && BLK_ZONE_ALL == 8,
               "flags of the log format");

/* Of a header whose checksum is at this offset: as if the checksum were 0. */
static inline uint32_t log_header_crc(const uint8_t h[LOG_HEADER], unsigned at)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c(0, h, at);
    crc = crc32c(crc, zero, 4);
    return crc32c(crc, h + at + 4, LOG_HEADER - at - 4);
}

#define LOG_CRC_AT        12
#define LOG_RECORD_CRC_AT 4

static inline void log_header_encode(uint8_t h[LOG_HEADER], const struct blk_log_info *info)
{
    memset(h, 0, LOG_HEADER);
    memcpy(h, LOG_MAGIC, 8);
    store_le32(h + 8, LOG_VERSION);
    store_le64(h + 16, info->id);
    store_le64(h + 24, info->device_size);
    store_le32(h + 32, info->block_size);
    store_le32(h + 36, info->unit);
    store_le64(h + 40, info->zone_size);
    store_le32(h + LOG_CRC_AT, log_header_crc(h, LOG_CRC_AT));
}

static inline void log_record_encode(uint8_t h[LOG_HEADER], uint64_t id,
                                     const struct blk_log_record *r, uint32_t data_crc)
{
    memset(h, 0, LOG_HEADER);
    store_le32(h, LOG_RECORD_MAGIC);
    store_le64(h + 8, id);
    store_le64(h + 16, r->sequence);
    h[24] = r->op;
    h[25] = r->flags;
    h[26] = r->failed ? LOG_FAILED : 0;
    store_le32(h + 28, data_crc);
    store_le64(h + 32, r->offset);
    store_le64(h + 40, r->len);
    store_le64(h + 48, r->data_len);
    store_le64(h + 56, r->covered);
    store_le32(h + LOG_RECORD_CRC_AT, log_header_crc(h, LOG_RECORD_CRC_AT));
}

/* Whether the operation is recorded, and whether with data. */
static inline bool log_records(unsigned op)
{
    return op == BLK_FLUSH || blk_op_modifies(op);
}

static inline bool log_has_data(unsigned op)
{
    return op == BLK_WRITE || op == BLK_ZONE_APPEND;
}

#endif
