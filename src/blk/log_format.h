/* blk/log_format.h: the log of the `log` filter, as docs/format-log.md describes it. */
#ifndef BLK_LOG_FORMAT_H
#define BLK_LOG_FORMAT_H

#include <stdint.h>

#define LOG_VERSION     1
#define LOG_HEADER_SIZE 4096 /* the header has the first 4096 bytes */
#define LOG_RECORD_SIZE 64   /* of a record's head; its data follows */

#define LOG_MAGIC        "ashlarlg"
#define LOG_RECORD_MAGIC 0x4345524cu /* "LREC" */

/* Offsets in the header. */
enum {
    LOG_AT_MAGIC = 0,
    LOG_AT_VERSION = 8,
    LOG_AT_CRC = 12, /* of the first 64 bytes with this field zero */
    LOG_AT_ID = 16,  /* of this log; every record repeats it */
    LOG_AT_DEVICE_SIZE = 24,
    LOG_AT_DEVICE_BLOCK = 32,
    LOG_AT_UNIT = 36, /* records start at multiples of this */
    LOG_HEADER_USED = 64,
};

/* Offsets in a record's head. */
enum {
    LOG_REC_MAGIC = 0,
    LOG_REC_CRC = 4, /* of the head with this field zero, and the data */
    LOG_REC_ID = 8,
    LOG_REC_SEQUENCE = 16, /* 0, 1, 2, ... */
    LOG_REC_OP = 24,       /* u8: enum blk_op */
    LOG_REC_FLAGS = 25,    /* u8: enum blk_req_flag */
    LOG_REC_OFFSET = 32,
    LOG_REC_LEN = 40,
    LOG_REC_DATA = 48,   /* bytes of data that follow */
    LOG_REC_COVERS = 56, /* flush: records below this number had completed when it began */
};

#endif
