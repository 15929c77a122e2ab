/*
 * Reading and replaying a log of any bytes. The first byte chooses whether checksums are put right
 * first, so that what lies behind them is reached too.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blk/log_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LOG_SIZE    (32u << 10)
#define TARGET_SIZE (64u << 10)

/* Walk the records as a reader would, and mend what only a checksum, number or id would refuse. */
static void mend(uint8_t *log)
{
    uint64_t at = load_le32(log + 36), sequence = 1;
    memcpy(log, LOG_MAGIC, 8);
    store_le32(log + 8, LOG_VERSION);
    store_le32(log + LOG_CRC_AT, log_header_crc(log, LOG_CRC_AT));
    if (at < LOG_MIN_UNIT || at > LOG_MAX_UNIT || (at & (at - 1)))
        return;
    uint64_t unit = at;
    while (at <= LOG_SIZE - LOG_HEADER && log[at + 24]) {
        uint8_t *h = log + at;
        uint64_t len = load_le64(h + 48);
        if (len > LOG_SIZE - LOG_HEADER - at)
            len = 0;
        store_le32(h, LOG_RECORD_MAGIC);
        memcpy(h + 8, log + 16, 8);
        store_le64(h + 16, sequence++);
        store_le32(h + 28, crc32c(0, h + LOG_HEADER, len));
        store_le32(h + LOG_RECORD_CRC_AT, log_header_crc(h, LOG_RECORD_CRC_AT));
        at += round_up(LOG_HEADER + len, unit);
    }
}

static struct blk_queue *open_queue(const char *spec)
{
    struct blk *dev;
    struct blk_queue *q;
    if (blk_open(spec, 0, &dev, NULL) < 0 || blk_queue_open(dev, 1, &q) < 0)
        abort();
    return q;
}

static void close_queue(struct blk_queue *q)
{
    struct blk *dev = blk_queue_device(q);
    blk_queue_close(q);
    blk_close(dev);
}

static void replay(struct blk *dev, uint64_t seed)
{
    struct blk_error err;
    struct blk_log *log;
    struct blk_log_record r;
    if (blk_log_open(dev, &log, &err) < 0)
        return;
    struct blk_queue *target = open_queue("mem:64K");
    while (blk_log_next(log, &r) > 0) {
        char byte;
        if (r.data_len && blk_log_data(log, &r, r.data_len - 1, &byte, 1) < 0)
            abort();
        if (blk_log_data(log, &r, r.data_len, &byte, 1) != -34 /* ERANGE */)
            abort();
    }
    for (uint64_t n = 0; n < 4; n++)
        blk_log_apply(log, target,
                      &(struct blk_log_cut){n < 3 ? n * 2 : UINT64_MAX,
                                            n ? blk_log_arrives_by_chance : NULL, &seed});
    blk_log_close(log);
    close_queue(target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t log[LOG_SIZE];
    memset(log, 0, sizeof(log));
    if (!size)
        return 0;
    memcpy(log, data + 1, size - 1 < sizeof(log) ? size - 1 : sizeof(log));
    if (data[0] & 1)
        mend(log);
    struct blk_queue *q = open_queue(data[0] & 2 ? "mem:32K?block=1" : "mem:32K");
    if (blk_write(q, 0, log, sizeof(log), 0) < 0)
        abort();
    replay(blk_queue_device(q), data[0]);
    close_queue(q);
    return 0;
}
