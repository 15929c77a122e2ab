/* A model of any bytes, from a file in memory; all of it is gone through. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <ashlar/gguf.h>

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, const char *text)
{
    (void)arg;
    (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct blk *dev;
    struct blk_queue *q;
    struct blk_error err;
    char spec[64];
    if (!size || size > 1 << 20)
        return 0;
    snprintf(spec, sizeof(spec), "mem:%zu?block=1", size);
    if (blk_open(spec, 0, &dev, &err) < 0)
        return 0;
    if (blk_queue_open(dev, 1, &q) == 0) {
        blk_write(q, 0, data, size, 0);
        blk_queue_close(q);
        gguf_load(dev, 0, ignore, NULL);
    }
    blk_close(dev);
    return 0;
}
