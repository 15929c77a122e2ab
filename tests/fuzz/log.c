/* A log of the `log` filter is read from disk: any bytes at all must be harmless. */
#include <stdint.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/util.h"
#include "blk/log_format.h"
#include "blk/log_replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LOG_SIZE = 256 << 10 };

/* Checksums that a fuzzer cannot guess are made right when the first byte says so. */
static void mend(uint8_t *log, size_t size)
{
    store_le32(log + LOG_AT_CRC, 0);
    store_le32(log + LOG_AT_CRC, crc32c(0, log, LOG_HEADER_USED));
    uint8_t *h = log + LOG_HEADER_SIZE;
    uint64_t len = load_le64(h + LOG_REC_DATA);
    if (len > size - LOG_HEADER_SIZE - LOG_RECORD_SIZE)
        return;
    store_le32(h + LOG_REC_CRC, 0);
    store_le32(h + LOG_REC_CRC, crc32c(0, h, LOG_RECORD_SIZE + len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t log[LOG_SIZE];
    struct blk *dev, *target;
    struct blk_queue *q;
    struct blk_error err;
    struct log_info info;
    if (size < 2 || blk_open("mem:256K", 0, &dev, NULL) < 0)
        return 0;
    /* The header's 64 bytes, then the records: the gap between is no work for a fuzzer. */
    memset(log, 0, sizeof(log));
    size_t head = min_u64(size - 1, LOG_HEADER_USED);
    memcpy(log, data + 1, head);
    memcpy(log + LOG_HEADER_SIZE, data + 1 + head,
           min_u64(size - 1 - head, LOG_SIZE - LOG_HEADER_SIZE));
    if (data[0] & 1)
        mend(log, sizeof(log));
    blk_queue_open(dev, 1, &q);
    blk_write(q, 0, log, sizeof(log), 0);
    blk_queue_close(q);
    log_examine(dev, &info, &err);
    if (blk_open("mem:1M", 0, &target, NULL) == 0) {
        struct log_cut cut = {UINT64_MAX, (enum log_loss)(data[0] % 3), data[1]};
        log_replay(dev, target, &cut, &err);
        blk_close(target);
    }
    blk_close(dev);
    return 0;
}
